"""Small machines of every pairing of unit types, with their brute-force twins."""

import numpy as np

from gpugrad.boltzmann.layers import Weights, get
from gpugrad.boltzmann.model import BoltzmannMachine

from . import own_units  # noqa: F401 (it makes their names known)
from .machines import device_like
from .quadrature import KINDS, Integrated, Q, Side

REFUSED = {("gaussian", "exponential"), ("exponential", "gaussian")}
PAIRINGS = [(v, h) for v in KINDS for h in KINDS if (v, h) not in REFUSED]
#: With units that the package does not have.
OWN_PAIRINGS = [
    ("blume_capel", "bernoulli"),
    ("blume_capel", "blume_capel"),
    ("blume_capel", "two_wells"),
    ("blume_capel", "gaussian"),
    ("potts", "blume_capel"),
    ("exponential", "blume_capel"),
    ("ising", "two_wells"),
    ("gaussian", "two_wells"),
    ("two_wells", "two_wells"),
    ("two_wells", "relu"),
]
UNBOUNDED = ("exponential", "relu")


def parameters_of(kind, units, draw):
    if kind == "potts":
        return {"loc": 0.7 * draw.normal(size=(units, Q))}
    if kind == "exponential":
        return {"loc": 2.8 + draw.random(units)}
    if kind == "gaussian":
        return {
            "loc": 0.5 * draw.normal(size=units),
            "log_var": np.log(0.6 + 0.8 * draw.random(units)),
        }
    if kind in ("blume_capel", "two_wells"):
        name = "crystal" if kind == "blume_capel" else "depth"
        return {"loc": 0.7 * draw.normal(size=units), name: 0.5 + draw.random(units)}
    return {"loc": 0.7 * draw.normal(size=units)}


def layer_of(xp, kind, units, dtype="float64"):
    arguments = (units, Q) if kind == "potts" else (units,)
    return get(kind)(*arguments, dtype=dtype, device=device_like(xp))


def weights_of(pairing, shape, draw):
    """Couplings with which the machine has a partition function."""
    W = np.clip(0.3 * draw.normal(size=shape), -0.5, 0.5)
    if "exponential" in pairing and set(pairing) <= set(UNBOUNDED):
        return -np.abs(W)
    return W


def any_machine(xp, pairing, n=2, m=1, seed=0, dtype="float64"):
    """A machine with random parameters, and the same machine integrated numerically."""
    draw = np.random.default_rng(seed)
    layers = [layer_of(xp, kind, size, dtype) for kind, size in zip(pairing, (n, m), strict=True)]
    parameters = [parameters_of(k, s, draw) for k, s in zip(pairing, (n, m), strict=True)]
    W = weights_of(pairing, tuple(x.num_units for x in layers), draw)
    weights = Weights(W.shape, scale=0, dtype=dtype, device=device_like(xp))
    weights.set_params({"matrix": W})
    for layer, values in zip(layers, parameters, strict=True):
        layer.set_params(values)
    model = BoltzmannMachine(layers, dtype=dtype, device=device_like(xp), weights=[weights])
    sides = [
        Side(kind, size, **values)
        for kind, size, values in zip(pairing, (n, m), parameters, strict=True)
    ]
    return model, Integrated(*sides, W)


def integrated(pairing, parameters):
    """The machine with these parameters, by name, integrated numerically."""
    sides = []
    for i, kind in enumerate(pairing):
        start = f"layers.{i}."
        values = {n.removeprefix(start): p for n, p in parameters.items() if n.startswith(start)}
        sides.append(Side(kind, len(values["loc"]), **values))
    return Integrated(*sides, parameters["weights.0.matrix"])


def some_rows(side, number=40, seed=1):
    """Numbers of some states of a side."""
    count = len(side.states)
    return np.random.default_rng(seed).permutation(count)[: min(number, count)]
