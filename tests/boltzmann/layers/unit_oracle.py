"""The package's continuous and Potts units: integrals and sums over their states in plain NumPy."""

import numpy as np

from ..any_machines import layer_of, parameters_of
from ..quadrature import INTERVALS, Q, nodes_of, unit_energy

CONTINUOUS = tuple(INTERVALS)
NEW = (*CONTINUOUS, "potts")
UNITS = 3


def layer_with(xp, kind, values, dtype="float64"):
    layer = layer_of(xp, kind, len(values["loc"]), dtype)
    layer.set_params(values)
    return layer


def values_for(kind, seed=0):
    return parameters_of(kind, UNITS, np.random.default_rng(seed))


def fields(kind, samples, seed=1):
    """Fields of a size that leaves exponential rates positive."""
    width = UNITS * Q if kind == "potts" else UNITS
    return np.clip(0.6 * np.random.default_rng(seed).normal(size=(samples, width)), -1.4, 1.4)


def density(kind, values, unit, field, x, beta=1.0):
    """exp(-beta (E - scaled x f)) of one unit, not normalised."""
    log_var = values.get("log_var", np.zeros(UNITS))[unit]
    coupling = x / np.exp(log_var) * field
    return np.exp(-beta * (unit_energy(kind, x, values["loc"][unit], log_var) - coupling))


def moments(kind, values, field, beta=1.0):
    """log Z and mean of every unit in its field, by quadrature."""
    x, w = nodes_of(kind)
    log_z, mean = np.empty(field.shape), np.empty(field.shape)
    for k, i in np.ndindex(field.shape):
        b = beta if np.ndim(beta) == 0 else beta[k, 0]
        p = w * density(kind, values, i, field[k, i], x, b)
        log_z[k, i], mean[k, i] = np.log(p.sum()), (p * x).sum() / p.sum()
    return log_z, mean


def potts_probabilities(values, field, beta=1.0):
    p = np.exp(beta * (values["loc"].ravel() + field)).reshape(-1, UNITS, Q)
    return p / p.sum(axis=2, keepdims=True)
