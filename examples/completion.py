"""Completing digits: the upper half of an image is given, the lower half is sampled.

    python examples/completion.py [MODEL]

MODEL is a machine of 784 visible units as `gpugrad train` writes it; without one, 784x500 units
are trained on the thresholded MNIST images for ten epochs first. Gibbs chains in which the pixels
of the upper half are clamped then draw from p(lower | upper). In completion.png each row shows a
test image, what is given of it, and independent completions.

Printed is the share of the lower half's variance, pixel by pixel, that the mean over many
completions explains: 0 is what the mean of the training images reaches without a look at the upper
half. The upper half does not decide everything: with its lower half hidden, a 4 may be a 9.

Half a minute on one core, of which the training takes all but six seconds.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from gpugrad.backend.array_module import asnumpy, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import RBM, State, fit, gibbs, initialize, load
from gpugrad.boltzmann.datasets import mnist
from gpugrad.boltzmann.pictures import mosaic
from gpugrad.boltzmann.schedules import Linear

GIVEN = np.arange(784) < 14 * 28


def trained(images, hidden, epochs, rng):
    """A machine after a short training by persistent contrastive divergence."""

    def told(trainer, record):
        print(f"epoch {record['epoch']}: {record['pseudo_likelihood']:.1f} nats", flush=True)

    machine = RBM(784, hidden, rng=rng)
    initialize(machine, images, rng)
    fit(machine, images, epochs=epochs, schedule=Linear(0.05), rng=rng, callbacks=[told])
    return machine


def complete(machine, images, n, sweeps, rng):
    """n completions of each image, as means of the pixels at the last sweep, (images, n, 784)."""
    v = to_device(np.repeat(images * GIVEN, n, axis=0), machine.device)
    # of the chains' start only the clamped pixels matter: sampling begins with the visible units
    state = State((v, machine.random_state(len(v), rng=rng).hidden))
    state, _ = gibbs(sweeps, clamp=GIVEN)(rng, machine, state)
    assert (asnumpy(state.visible == v)[:, GIVEN]).all()
    means = asnumpy(machine.conditional_mean(0, state))
    means[:, GIVEN] = asnumpy(v)[:, GIVEN]
    return means.reshape(len(images), n, 784)


def main(model=None, images=60_000, hidden=500, epochs=10, tests=100, chains=20, sweeps=200):
    """Draw completions of ten digits; returns the share of the variance that is explained."""
    rng = Generator(0)
    train, (test, digits) = mnist("train")[:images], mnist("test", labels=True)
    machine = load(model) if model else trained(train, hidden, epochs, rng)
    found = complete(machine, test[:tests], chains, sweeps, rng)
    lower = ~GIVEN
    left_over = ((found.mean(axis=1) - test[:tests])[:, lower] ** 2).sum()
    share = 1 - left_over / ((train.mean(axis=0) - test[:tests])[:, lower] ** 2).sum()
    print(f"{share:.0%} of the variance of {tests} lower halves is explained")
    shown = [int(np.flatnonzero(digits[:tests] == d)[0]) for d in np.unique(digits[:tests])]
    columns = min(8, chains)
    rows = [(test[i], np.where(GIVEN, test[i], np.nan), *found[i, :columns]) for i in shown]
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#b5c7d9")
    canvas = mosaic(np.concatenate(rows), (28, 28), columns + 2)
    axes.imshow(canvas, cmap="gray_r", interpolation="nearest")
    axes.set_title("test image, what is given, completions", fontsize=11)
    axes.set(xticks=[], yticks=[])
    figure.savefig("completion.png", dpi=120)
    return share


if __name__ == "__main__":
    main(*sys.argv[1:2])
