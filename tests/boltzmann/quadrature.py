"""Machines of few units of any type by brute force: sums over states, Gauss-Legendre integrals.

Plain NumPy in float64 and nothing of gpugrad. A side of a machine is a list of all its states (for
an interval: of quadrature nodes) with a weight each, so that sums and integrals look the same.
"""

from itertools import product

import numpy as np

#: Values of a unit that hold all of its weight in the small machines below.
INTERVALS = {
    "gaussian": (-12.0, 12.0, 84),
    "exponential": (0.0, 24.0, 72),
    "relu": (0.0, 12.0, 64),
    "truncated_exponential": (0.0, 1.0, 12),
}
VALUES = {"bernoulli": (0.0, 1.0), "ising": (-1.0, 1.0)}
KINDS = (*VALUES, "potts", *INTERVALS)
#: Those of own_units.py.
OWN_INTERVALS = {"two_wells": (-4.5, 4.5, 80)}
OWN_VALUES = {"blume_capel": (-1.0, 0.0, 1.0)}
Q = 3


def nodes_of(kind):
    """Values of one unit, and the weight of each in a sum over them."""
    values = (VALUES | OWN_VALUES).get(kind)
    if values is not None:
        return np.array(values), np.ones(len(values))
    low, high, n = (INTERVALS | OWN_INTERVALS)[kind]
    x, w = np.polynomial.legendre.leggauss(n)
    return low + (high - low) * (x + 1) / 2, w * (high - low) / 2


def unit_energy(kind, x, loc, other=0.0):
    """Energy of one unit at the value x, by the definition of its type; `other` is its second
    parameter."""
    if kind == "gaussian":
        return (x - loc) ** 2 / (2 * np.exp(other))
    if kind == "blume_capel":
        return other * x**2 - loc * x
    if kind == "two_wells":
        return other * (x**4 - 2 * x**2 + 1) - loc * x
    if kind == "exponential":
        return loc * x
    if kind == "relu":
        return x**2 / 2 - loc * x
    return -loc * x


def grid(values, units):
    """All combinations of `units` of the values, one a row."""
    axes = np.meshgrid(*[values] * units, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)


class Side:
    """All states of a layer: `states` (S, width), `weight`, `energy` (S,), `scaled` (S, width)."""

    def __init__(self, kind, units, loc, **others):
        if kind == "potts":
            hot = np.eye(Q)
            rows = list(product(range(Q), repeat=units))
            self.states = np.array([np.concatenate([hot[k] for k in row]) for row in rows])
            self.weight = np.ones(len(rows))
            self.energy = np.array([-sum(loc[i][k] for i, k in enumerate(row)) for row in rows])
            self.scaled = self.states
            return
        values, weights = nodes_of(kind)
        self.states = grid(values, units)
        self.weight = np.prod(grid(weights, units), axis=1)
        (second,) = others.values() or (np.zeros(units),)
        self.energy = sum(
            unit_energy(kind, self.states[:, i], loc[i], second[i]) for i in range(units)
        )
        self.scaled = self.states / np.exp(others.get("log_var", 0.0))


class Integrated:
    """A two-layer machine: joint energies at all pairs of states, and sums over them."""

    def __init__(self, visible, hidden, W):
        self.v, self.h, self.W = visible, hidden, np.asarray(W)
        coupling = visible.scaled @ self.W @ hidden.scaled.T
        self.E = visible.energy[:, None] + hidden.energy - coupling
        self.measure = visible.weight[:, None] * hidden.weight

    def log_z(self, beta=1.0):
        return np.log((self.measure * np.exp(-beta * self.E)).sum())

    def joint(self, beta=1.0):
        """Probability of each pair of states, the measure included."""
        p = self.measure * np.exp(-beta * self.E)
        return p / p.sum()

    def free_energy(self, rows, beta=1.0):
        """F_beta of the visible states with these numbers."""
        return -np.log((self.h.weight * np.exp(-beta * self.E[rows])).sum(axis=1))

    def hidden_mean(self, rows, beta=1.0):
        p = self.h.weight * np.exp(-beta * self.E[rows])
        return (p / p.sum(axis=1, keepdims=True)) @ self.h.states

    def visible_mean(self, columns, beta=1.0):
        p = (self.v.weight[:, None] * np.exp(-beta * self.E[:, columns])).T
        return (p / p.sum(axis=1, keepdims=True)) @ self.v.states
