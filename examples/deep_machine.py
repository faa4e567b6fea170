"""A deep Boltzmann machine: pre-trained layer by layer, trained as a whole, its likelihood bounded.

    python examples/deep_machine.py           784-200-100 units, a minute of one core
    python examples/deep_machine.py recipe    784-512-1024 units, about 3 hours

The data are the thresholded MNIST images. Greedy pre-training starts each layer near what it will
be in the whole machine. The joint training follows the centred gradient, with mean field given the
data in its positive phase and persistent Gibbs chains in its negative one. Its state is saved each
minute: after an interruption the same command goes on from there, bit for bit.

The hidden units of a deep machine cannot be summed out. Mean field bounds the likelihood of test
images from below, less log Z, which is estimated twice: by annealed importance sampling (AIS),
which errs low, so that the bound may come out too high, and by reverse annealing from the test
images (RAISE), which makes it come out too low if there are enough temperatures. Samples of the
machine are drawn in deep_machine_NAME.png.

Salakhutdinov and Hinton, "Deep Boltzmann machines", AISTATS 2009.
"""

import sys
from pathlib import Path

import numpy as np

import gpugrad.boltzmann as bm
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.callbacks import CheckpointWriter, StopOnSignal
from gpugrad.boltzmann.checkpoint import load_checkpoint
from gpugrad.boltzmann.datasets import mnist
from gpugrad.boltzmann.layers import BernoulliLayer
from gpugrad.boltzmann.pictures import draw_samples
from gpugrad.boltzmann.schedules import Linear

QUICK = {"hidden": (200, 100), "pretraining": 3, "epochs": 10, "temperatures": 2000, "tests": 200}
RECIPE = {"hidden": (512, 1024), "pretraining": 20, "epochs": 200, "k": 5, "tests": 1000}


def trained(name, images, hidden, pretraining, epochs, rate, k):
    """The machine of the last checkpoint, or a new one, after all epochs."""
    rng, file = Generator(0), Path(f"deep_machine_{name}.checkpoint")
    machine = bm.BoltzmannMachine([BernoulliLayer(n) for n in (784, *hidden)], rng=rng)
    bm.initialize(machine, images, rng)

    def told_module(module, epoch, error):
        print(f"module {module}, epoch {epoch + 1}: reconstruction error {error:.4f}", flush=True)

    def told_epoch(trainer, record):
        error, seconds = record["reconstruction_error"], record["seconds"]
        print(f"epoch {record['epoch']}: error {error:.4f}, {seconds:.0f} s", flush=True)

    saved = load_checkpoint(file) if file.exists() else None
    if saved is None:
        settings = {"epochs": pretraining, "start": False, "progress": told_module}
        bm.pretrain(machine, images, rng=rng, **settings)
    callbacks = [told_epoch, CheckpointWriter(file, 60), StopOnSignal()]
    settings = {"schedule": Linear(rate), "epochs": epochs, "k": k, "callbacks": callbacks}
    trainer = bm.Trainer(machine, images, rng=rng, **settings)
    if saved is not None:
        trainer.load_state_dict(*saved)
    trainer.run()
    if not trainer.finished:
        raise SystemExit(f"stopped in epoch {trainer.epoch + 1}; the same command goes on")
    return machine


def main(
    name, hidden, pretraining, epochs, tests, rate=0.02, k=1, temperatures=20_000, images=60_000
):
    """Train, or go on training; returns the mean bounds by AIS and by RAISE, in nats an image."""
    train, test, rng = mnist("train")[:images], mnist("test")[:tests], Generator(1)
    machine = trained(name, train, hidden, pretraining, epochs, rate, k)
    machine.save(f"deep_machine_{name}.safetensors")
    low = bm.ais(machine, rng, n_temperatures=temperatures, data=train)
    high = bm.raise_(machine, test, rng, n_temperatures=temperatures, data=train)
    bounds = [float(np.mean(bm.likelihood_bounds(machine, test, z))) for z in (low, high)]
    print(f"log p of {tests} test images is at least {bounds[0]:.2f} +- {low.error:.2f} by AIS,")
    print(f"which may err high, and {bounds[1]:.2f} +- {high.error:.2f} by RAISE, which errs low")
    state, _ = bm.gibbs(1000)(rng, machine, machine.random_state(100, rng=rng))
    draw_samples(machine.conditional_mean(0, state), f"deep_machine_{name}.png")
    return bounds


if __name__ == "__main__":
    settings = {"quick": QUICK, "recipe": RECIPE}
    chosen = sys.argv[1] if len(sys.argv) > 1 else "quick"
    main(chosen, **settings[chosen])
