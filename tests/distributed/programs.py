"""What the tests run on each rank: trains by several methods, anneals, and keeps the results.

python -m tests.distributed.programs OUTPUT.npz       by itself, or under mpirun
"""

import sys

import numpy as np

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.communicator import Serial
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.partition import ais, raise_, reverse_ais
from gpugrad.distributed import connect
from tests.boltzmann.coins import coin_data
from tests.boltzmann.trainers import VARIANTS

METHODS = ("gaussian", "deep cd", "tap", "tempering", "sparse", "missing")


def trained(link, variant):
    make, settings = VARIANTS[variant]
    given = {"data": coin_data(40), "epochs": 2, "batch_size": 20, "rng": Generator(1)} | settings
    given |= {"n_chains": 10}
    trainer = Trainer(make(np), given.pop("data"), communicator=link, **given)
    trainer.run()
    return trainer


def main(output):
    link = connect() or Serial()
    found = {}
    for variant in METHODS:
        trainer = trained(link, variant)
        for name, array in trainer.state_dict()[0].items():
            found[f"{variant}: {name}"] = array.copy()
    model = trainer.model
    images = coin_data(40).astype("float32")
    how = {"n_temperatures": 30, "communicator": link}
    for estimate in (
        ais(model, Generator(1), n_chains=40, **how),
        raise_(model, images, Generator(2), **how),
        reverse_ais(model, images, Generator(3), **how),
    ):
        found[estimate.method] = estimate.log_weights
    # of different lengths: what a rank gives is whatever it likes
    told = link.exchange({"rank": link.rank, "text": "x" * 1000 * link.rank})
    assert [len(t["text"]) for t in told] == [1000 * t["rank"] for t in told]
    assert [t["rank"] for t in told] == list(range(link.size))
    assert link.any(link.rank == link.size - 1) and not link.any(False)
    if link.rank == 0:
        np.savez(output, size=link.size, **found)


if __name__ == "__main__":
    main(sys.argv[1])
