"""What the tests of the exchanging samplers share: exact starts, counts, a machine of two modes."""

import numpy as np

from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from tests.chance import chi_square_limit

from .machines import small_machine

#: False-alarm rate of one distribution test.
RATE = 1e-8


def joint_states(exact, beta, n, draw):
    """n joint states (v, h) drawn exactly at an inverse temperature."""
    p = exact.joint(beta)
    index = draw.choice(p.size, size=n, p=p.ravel())
    return exact.v[index // len(exact.h)], exact.h[index % len(exact.h)]


def chi_square(v, exact, probability):
    """The statistic of visible states against their probabilities over its limit at `RATE`.

    States of fewer than 10 expected counts are taken together.
    """
    index = {tuple(row): i for i, row in enumerate(exact.v)}
    counts = np.bincount([index[tuple(row)] for row in v], minlength=len(exact.v)).astype(float)
    expected = probability * len(v)
    rare = expected < 10
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    usual = expected >= 10
    statistic = (((counts - expected)[usual]) ** 2 / expected[usual]).sum()
    return statistic / chi_square_limit(int(usual.sum()) - 1, RATE)


def two_modes(xp=np, barrier=1.0):
    """An Ising machine whose 8 visible units are nearly all up or nearly all down.

    Small biases give the two modes different weights. Returns the machine, its enumeration, and the
    exact weight of the states with a positive sum of the visible units (a sum of 0 counts as half).
    """
    model, exact = small_machine(xp, ("ising", "ising"), n=8, m=4)
    draw = np.random.default_rng(5)
    W = barrier * (1 + 0.1 * draw.normal(size=(8, 4)))
    a = 0.05 + 0.02 * draw.normal(size=8)
    b = 0.02 * draw.normal(size=4)
    values = {"weights.0.matrix": W, "layers.0.loc": a, "layers.1.loc": b}
    model.set_parameters(values)
    exact = type(exact)(W, a, b, "ising", "ising")
    return model, exact, float(exact.marginal() @ up(exact.v))


def up(v):
    """1 for a row with a positive sum, 1/2 for a sum of 0, else 0."""
    return (np.sign(v.sum(axis=1)) + 1) / 2


def deep_machine():
    """Three layers of two units, with all joint states and their energies."""
    layers = [BernoulliLayer(2), IsingLayer(2), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu")
    draw = np.random.default_rng(3)
    model.set_parameters({k: draw.normal(size=p.shape) for k, p in model.parameters().items()})
    grid = np.array(np.meshgrid(*[[0.0, 1.0]] * 6)).reshape(6, -1).T
    grid[:, 2:4] = 2 * grid[:, 2:4] - 1
    p = model.parameters()
    energy = np.array(
        [
            -sum(float(p[f"layers.{i}.loc"] @ s[2 * i : 2 * i + 2]) for i in range(3))
            - float(s[:2] @ p["weights.0.matrix"] @ s[2:4])
            - float(s[2:4] @ p["weights.1.matrix"] @ s[4:])
            for s in grid
        ]
    )
    return model, grid, energy


class Listed:
    """What `chi_square` needs of a machine whose joint states are listed."""

    def __init__(self, grid):
        self.v = grid
