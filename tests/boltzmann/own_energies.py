"""Small machines of a user's own energy, and sums over all of their states by plain NumPy."""

import itertools

import numpy as np

from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer, PottsLayer
from gpugrad.boltzmann.state import State

from .machines import device_like, host
from .own_units import BlumeCapel


def triples(xp, params, s):
    """Three units at once, no two alone."""
    product = s[:, 0] * s[:, 1] * s[:, 2]
    return -params.K * product - xp.matmul(s, params.a)


def pairwise(xp, params, v, h):
    """Affine in each unit, and no two units of one layer meet."""
    return -xp.matmul(v, params.a) - xp.sum(xp.matmul(v, params.W) * h, axis=1)


def squared(xp, params, v, h):
    """Three visible units at once, and a square: neither pairwise nor affine."""
    product = v[:, 0] * v[:, 1] * v[:, 2]
    return params.K * product + xp.sum(xp.matmul(v, params.W) * h, axis=1) ** 2


def chain(xp, params, v, h, g):
    couplings = xp.matmul(v, params.W) * h, xp.matmul(h, params.U) * g
    return -xp.sum(couplings[0], axis=1) - xp.sum(couplings[1], axis=1) - xp.matmul(v, params.a)


CASES = {
    "triple spins": (lambda: [IsingLayer(4)], triples, "units"),
    "bits by layers": (lambda: [BernoulliLayer(3), BernoulliLayer(2)], pairwise, "layers"),
    "bits by units": (lambda: [BernoulliLayer(3), BernoulliLayer(2)], pairwise, "units"),
    "potts by layers": (lambda: [PottsLayer(2, 3), IsingLayer(2)], pairwise, "layers"),
    "potts by units": (lambda: [PottsLayer(2, 3), IsingLayer(2)], pairwise, "units"),
    "own units": (lambda: [BlumeCapel(3), PottsLayer(1, 3)], squared, "units"),
    "three layers": (lambda: [BernoulliLayer(3), IsingLayer(2), IsingLayer(2)], chain, "layers"),
}


def machine(xp, case, dtype="float64", seed=0):
    """A machine of `CASES` with random parameters."""
    layers, energy, by = CASES[case]
    made, draw = layers(), np.random.default_rng(seed)
    sizes = [x.num_units for x in made]
    values = {"a": draw.normal(size=sizes[0])}
    if energy in (triples, squared):
        values["K"] = np.array(0.8)
    for name, shape in zip("WU", itertools.pairwise(sizes)):
        values[name] = 0.8 * draw.normal(size=shape)
    return EnergyMachine(made, energy, values, by=by, dtype=dtype, device=device_like(xp))


def states_of(layer):
    """All states of a layer, (states, num_units), the last unit running fastest."""
    if isinstance(layer, PottsLayer):
        rows = itertools.product(np.eye(layer.num_states), repeat=layer.num_sites)
        return np.array([np.concatenate(row) for row in rows])
    return np.array(list(itertools.product(layer.support, repeat=layer.num_units)), dtype=float)


def listed(model):
    """All joint states, visible ones running slowest, and their energies by plain NumPy."""
    sides = [states_of(x) for x in model.layers]
    index = np.array(list(itertools.product(*(range(len(s)) for s in sides))))
    units = [s[index[:, i]] for i, s in enumerate(sides)]
    params = model.terms.Params(*(host(p) for p in model.terms.params))
    return units, model._energy(np, params, *units)


def log_sum(x):
    """log of the sum of exp(x)."""
    return np.log(np.exp(x - x.max()).sum()) + x.max()


def exact_states(model, n, seed, xp=np):
    """n independent states of the machine, a State of device arrays."""
    units, e = listed(model)
    p = np.exp(-e - log_sum(-e))
    rows = np.random.default_rng(seed).choice(len(p), size=n, p=p)
    return State(tuple(xp.asarray(x[rows]) for x in units))


def row_numbers(found, among):
    """Which row of `among` each row of `found` is."""
    return (found[:, None] == among[None]).all(axis=2).argmax(axis=1)
