"""Machines of any depth, with couplings inside layers, by brute force: all joint states.

Plain NumPy in float64 and nothing of gpugrad. Energies are loops over units and couplings.
`grid_machines` has continuous units too, and one axis a layer.
"""

from itertools import product

import numpy as np

VALUES = {"bernoulli": (0.0, 1.0), "ising": (-1.0, 1.0)}


def layer_states(kind, size, q=3):
    """All states of a layer, one a row; Potts units one-hot."""
    if kind == "potts":
        rows = product(range(q), repeat=size)
        return np.array([np.eye(q)[list(row)].ravel() for row in rows])
    return np.array(list(product(VALUES[kind], repeat=size)))


class Joint:
    """All joint states of a machine of two-valued and Potts units.

    Parameters
    ----------
    kinds, sizes : sequence of str, of int
        One a layer.
    parameters : dict of array
        "layers.0.loc", "weights.0.matrix", "lateral.0.matrix", ...
    """

    def __init__(self, kinds, sizes, parameters):
        self.kinds, self.sizes = kinds, sizes
        self.parameters = {k: np.asarray(x, dtype=float) for k, x in parameters.items()}
        lists = [layer_states(kind, size) for kind, size in zip(kinds, sizes, strict=True)]
        self.units = [
            np.array([choice[i] for choice in product(*lists)]) for i in range(len(lists))
        ]
        self.E = np.array([self.energy(rows) for rows in zip(*self.units, strict=True)])

    def energy(self, units):
        total = 0.0
        for name, p in self.parameters.items():
            group, i, _ = name.split(".")
            s = units[int(i)]
            if group == "layers":
                for value, loc in zip(s, p.ravel(), strict=True):
                    total -= loc * value
            elif group == "weights":
                for j, value in enumerate(s):
                    for k, other in enumerate(units[int(i) + 1]):
                        total -= value * p[j, k] * other
            else:
                for j in range(len(s)):
                    for k in range(j):
                        total -= s[j] * p[j, k] * s[k]
        return total

    def p(self, beta=1.0):
        """Probability of each joint state."""
        w = np.exp(-beta * (self.E - self.E.min()))
        return w / w.sum()

    def log_z(self, beta=1.0):
        return np.log(np.exp(-beta * self.E).sum())

    def rows(self, layer, values):
        """Which joint states have these values of a layer."""
        return (self.units[layer] == values).all(axis=1)

    def log_sum(self, **held):
        """log sum of exp(-E) over the states with layer_0=..., layer_1=... held."""
        keep = np.ones(len(self.E), dtype=bool)
        for name, values in held.items():
            keep &= self.rows(int(name.split("_")[1]), values)
        return np.log(np.exp(-self.E[keep]).sum())

    def mean(self, layer, keep=None, beta=1.0):
        """Means of a layer's units, under the condition `keep` if given."""
        p = self.p(beta) if keep is None else self.p(beta) * keep
        return p @ self.units[layer] / p.sum()

    def moments(self, name, keep=None):
        """Expected derivative of the energy with respect to a parameter, by its definition."""
        p = self.p() if keep is None else self.p() * keep / (self.p() * keep).sum()
        group, i, _ = name.split(".")
        s = self.units[int(i)]
        if group == "layers":
            return -(p @ s).reshape(self.parameters[name].shape)
        if group == "weights":
            return -(s * p[:, None]).T @ self.units[int(i) + 1]
        full = -(s * p[:, None]).T @ s
        return np.where(self.allowed(name), full, 0.0)

    def allowed(self, name):
        """Where a J may differ from 0: not between the states of one Potts unit."""
        i = int(name.split(".")[1])
        n = self.sizes[i]
        width = self.units[i].shape[1] // n
        return ~np.kron(np.eye(n, dtype=bool), np.ones((width, width), dtype=bool))


def random_parameters(model, seed=0, scale=0.7):
    """Normal parameters for a machine, J symmetric with its zeros."""
    draw = np.random.default_rng(seed)
    found = {}
    for name, p in model.parameters().items():
        x = scale * draw.normal(size=p.shape)
        if name.startswith("lateral"):
            x = np.asarray(model.lateral[int(name.split(".")[1])].project_(x))
        found[name] = x
    return found


def joint_machine(xp, kinds, sizes, lateral=(), seed=0, scale=0.7, q=3, pairs=None):
    """A machine of random parameters with J in the named layers, and its brute-force twin."""
    from gpugrad.boltzmann.lateral import Lateral
    from gpugrad.boltzmann.layers import get
    from gpugrad.boltzmann.model import BoltzmannMachine

    from .machines import device_like, host

    device = device_like(xp)
    layers = [
        get(kind)(*((size, q) if kind == "potts" else (size,)), dtype="float64", device=device)
        for kind, size in zip(kinds, sizes, strict=True)
    ]
    inside = {
        i: Lateral(
            np.zeros((layers[i].num_units,) * 2),
            pairs="all" if pairs is None else pairs,
            unit_size=layers[i].num_units // sizes[i],
        )
        for i in lateral
    }
    model = BoltzmannMachine(layers, dtype="float64", device=device, lateral=inside)
    model.set_parameters(random_parameters(model.copy(device="cpu"), seed, scale))
    exact = Joint(kinds, sizes, {k: host(p) for k, p in model.parameters().items()})
    return model, exact
