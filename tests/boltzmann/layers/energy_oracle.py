"""Sums and integrals over the states of the units of own_units.py, in plain NumPy."""

from itertools import pairwise

import numpy as np

from ..machines import device_like, host
from ..own_units import Bent, BlumeCapel, HalfQuartic, Laplace, TwoWells

UNITS = 3
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)

#: Pieces of the real line that hold all of the weight in the fields below; V in plain NumPy.
ORACLES = {
    TwoWells: ([-6.0, 6.0], lambda x, p: p * (x**2 - 1) ** 2),
    Laplace: ([-160.0, -40.0, 0.0, 40.0, 160.0], lambda x, p: np.exp(p) * np.abs(x)),
    Bent: ([-0.5, 2.0], lambda x, p: p * x**3 + np.cos(x)),
    HalfQuartic: ([0.0, 8.0], lambda x, p: x**4 / 4),
    BlumeCapel: (None, lambda x, p: p * x**2),
}
FIELD = np.array([[-1.4, 0.3, 0.0], [1.1, -0.2, 0.9]])


def points(kind):
    """Values of a unit, and the weight of each in a sum over them."""
    edges = ORACLES[kind][0]
    if edges is None:
        return np.array([-1.0, 0.0, 1.0]), np.ones(3)
    x, w = [], []
    for a, b in pairwise(edges):
        x.append(a + (b - a) * (NODES + 1) / 2)
        w.append(WEIGHTS * (b - a) / 2)
    return np.concatenate(x), np.concatenate(w)


def layer_with(xp, kind, dtype="float64", seed=0):
    layer = kind(UNITS, dtype=dtype, device=device_like(xp))
    draw = np.random.default_rng(seed)
    for name in layer.params._fields:
        shift = 0 if name == "loc" else 0.7
        layer.set_params({name: shift + 0.3 * draw.random(UNITS)})
    return layer


def weights(layer, field, x, beta=1.0, A=0.0):
    """exp(-beta (E(x) - field x) - A x^2), (points, samples, units)."""
    loc, *others = (host(p).astype("float64") for p in layer.params)
    second = others[0] if others else np.zeros(UNITS)
    x = x[:, None, None]
    v = ORACLES[type(layer)][1](x, second) - (loc + field) * x
    return np.exp(-beta * v - A * x * x)


def moments(layer, field, beta=1.0, A=0.0):
    """log Z and mean of each unit in its field."""
    x, w = points(type(layer))
    p = w[:, None, None] * weights(layer, field, x, beta, A)
    z = p.sum(axis=0)
    return np.log(z), (p * x[:, None, None]).sum(axis=0) / z
