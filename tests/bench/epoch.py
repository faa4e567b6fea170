"""One epoch of persistent contrastive divergence, 60,000 MNIST images, 784x256, batches of 100.

Each library runs its own training loop on the same float32 array: one Gibbs sweep an update, 100
chains. gpugrad and rbms follow the centred gradient, scikit-learn the plain one. gpugrad's epoch
ends with the figures of its log, which the others do not compute.

    python -m tests.bench.epoch
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.datasets import mnist
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.schedules import Constant
from tests.bench import harness

HIDDEN, BATCH, RATE = 256, 100, 0.05
BUDGET, AUTODIFF_BUDGET = 0.5, 2.0


def gpugrad_epoch(data: np.ndarray, gradient: str = "analytic") -> Callable[[], object]:
    rng = Generator(1)
    model = RBM(data.shape[1], HIDDEN, rng=rng, device="cpu")
    initialize(model, data, rng)
    trainer = Trainer(
        model,
        data,
        schedule=Constant(RATE),
        batch_size=BATCH,
        epochs=10**6,
        gradient=gradient,
        rng=rng,
    )

    def epoch() -> None:
        for _ in range(trainer.n_batches):
            trainer.update()

    return epoch


def sklearn_epoch(data: np.ndarray) -> Callable[[], object]:
    from sklearn.neural_network import BernoulliRBM

    machine = BernoulliRBM(
        n_components=HIDDEN, learning_rate=RATE, batch_size=BATCH, n_iter=1, random_state=1
    )
    return lambda: machine.fit(data)


def rbms_epoch(data: np.ndarray) -> Callable[[], object]:
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    samples, weights = torch.from_numpy(data), torch.ones(len(data), 1)
    device, dtype = torch.device("cpu"), torch.float32
    dataset = SimpleNamespace(data=samples, weights=weights, get_num_visibles=lambda: data.shape[1])
    torch.manual_seed(1)
    params = BBRBM.init_parameters(HIDDEN, dataset, device, dtype)
    params.init_grad()
    state = {"chains": params.init_chains(BATCH)}
    optimizer = torch.optim.SGD(params.parameters(), lr=RATE, maximize=True)

    def epoch() -> None:
        with torch.no_grad():
            for _ in range(len(data) // BATCH):
                picked = torch.randperm(len(data))[:BATCH]
                optimizer.zero_grad(set_to_none=False)
                state["chains"], _ = fit_batch_pcd(
                    batch=(samples[picked], weights[picked]),
                    parallel_chains=state["chains"],
                    params=params,
                    gibbs_steps=1,
                    beta=1.0,
                )
                optimizer.step()

    return epoch


def report(rounds: int = 5) -> str:
    data = mnist()
    contestants = {
        "gpugrad": gpugrad_epoch(data),
        "gpugrad, autodiff": gpugrad_epoch(data, "autodiff"),
    }
    notes = []
    for name, module, make in (
        ("scikit-learn", "sklearn", sklearn_epoch),
        ("rbms", "rbms", rbms_epoch),
    ):
        reason = harness.missing(module)
        if reason is None:
            contestants[name] = make(data)
        else:
            notes.append(f"- {name} not run: {reason}\n")
    timings = harness.race(contestants, rounds=rounds, seconds_per_round=0.0)
    lines = [harness.table("One PCD-1 epoch, 784x256", timings, against="gpugrad")]
    lines.append(harness.verdict(timings, "gpugrad, autodiff", "gpugrad", AUTODIFF_BUDGET))
    for name in contestants:
        if not name.startswith("gpugrad"):
            lines.append(harness.verdict(timings, "gpugrad", name, BUDGET))
    return "".join([*lines, *notes])


if __name__ == "__main__":
    print(report())
