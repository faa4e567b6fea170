"""Machines for the TAP tests, with log Z, free energies and Gamma written out in plain NumPy."""

from itertools import product

import numpy as np

from gpugrad.boltzmann.layers import get
from gpugrad.boltzmann.model import BoltzmannMachine

from .enumeration import STATES
from .machines import device_like

TWO = [("bernoulli", "bernoulli"), ("ising", "ising"), ("bernoulli", "ising")]
DEEP = [("ising", "bernoulli", "ising"), ("bernoulli",) * 4]
SIZES = {2: (5, 4), 3: (4, 5, 3), 4: (3, 4, 3, 2)}


def tap_machine(xp, kinds, scale=0.5, seed=0, dtype="float64", field=(-1.0, 1.0)):
    """A machine with couplings up to `scale`, and its parameters as host arrays."""
    draw, sizes = np.random.default_rng(seed), SIZES[len(kinds)]
    device = device_like(xp)
    layers = [get(k)(n, dtype=dtype, device=device) for k, n in zip(kinds, sizes, strict=True)]
    model = BoltzmannMachine(layers, dtype=dtype, device=device)
    own = {f"layers.{i}.loc": draw.uniform(*field, n) for i, n in enumerate(sizes)}
    for i in range(len(sizes) - 1):
        own[f"weights.{i}.matrix"] = scale * draw.uniform(-1, 1, (sizes[i], sizes[i + 1]))
    model.set_parameters(own)
    return model, own


def means(xp, kinds, rows=3, seed=5, dtype="float64"):
    """Magnetisations well inside the range of the units."""
    draw = np.random.default_rng(seed)
    found = []
    for kind, n in zip(kinds, SIZES[len(kinds)], strict=True):
        low, high = STATES[kind]
        m = low + (high - low) * draw.uniform(0.1, 0.9, (rows, n))
        found.append(xp.asarray(m.astype(dtype)))
    return found


def joint_states(kinds):
    """All joint states, one array (states, units) a layer."""
    sizes = SIZES[len(kinds)]
    values = [STATES[k] for k, n in zip(kinds, sizes, strict=True) for _ in range(n)]
    rows = np.array(list(product(*values)))
    return np.split(rows, np.cumsum(sizes)[:-1], axis=1)


def energies(own, states):
    """E(s) of joint states."""
    total = 0.0
    for i, s in enumerate(states):
        total = total - s @ own[f"layers.{i}.loc"]
    for i in range(len(states) - 1):
        coupled = states[i][:, :, None] * own[f"weights.{i}.matrix"] * states[i + 1][:, None, :]
        total = total - coupled.sum(axis=(1, 2))
    return total


def exact_log_z(own, kinds):
    return np.log(np.exp(-energies(own, joint_states(kinds))).sum())


def exact_free_energy(own, kinds, v):
    """-log sum over all hidden units of exp(-E), for rows of v."""
    states = joint_states(kinds)
    hidden = [h[: len(h) // 2 ** v.shape[1]] for h in states[1:]]  # visible units run slowest
    found = []
    for row in v:
        clamped = [np.tile(row, (len(hidden[0]), 1)), *hidden]
        found.append(-np.log(np.exp(-energies(own, clamped)).sum()))
    return np.array(found)


def gamma_by_loops(own, kinds, units, order):
    """Gamma of one set of magnetisations (units of one row), unit by unit and pair by pair."""

    def moments(kind, m):
        # central moments of the two states themselves; third cumulant = third central moment
        low, high = STATES[kind]
        p = (m - low) / (high - low)
        weights = ((1 - p, low), (p, high))
        central = [sum(w * (s - m) ** n for w, s in weights) for n in (2, 3)]
        entropy = -sum(w * np.log(w) for w, _ in weights if w > 0)
        return entropy, (m, *central)

    total = 0.0
    found = [[moments(k, m) for m in row] for k, row in zip(kinds, units, strict=True)]
    for i, row in enumerate(found):
        for j, (entropy, cumulants) in enumerate(row):
            total -= entropy + own[f"layers.{i}.loc"][j] * cumulants[0]
    for i in range(len(kinds) - 1):
        W = own[f"weights.{i}.matrix"]
        for j, (_, lower) in enumerate(found[i]):
            for k, (_, upper) in enumerate(found[i + 1]):
                for p in range(order):
                    total -= (1, 1 / 2, 1 / 6)[p] * lower[p] * W[j, k] ** (p + 1) * upper[p]
    return total
