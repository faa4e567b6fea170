"""Small machines of any depth, units and lateral couplings, on a grid of their joint states.

Plain NumPy in float64 for the grid, and nothing of gpugrad in it. Continuous units have the nodes
of a quadrature (see there); `joint` lists the states of discrete units alone, one a row.
"""

import numpy as np

from gpugrad.boltzmann.layers import Weights
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State

from .any_machines import layer_of, parameters_of, weights_of
from .machines import device_like
from .quadrature import Side


class Grid:
    """Energies of all combinations of the layers' states, one axis a layer.

    Parameters
    ----------
    sides : list of Side
    W : list of array
    J : dict of array
        Lateral couplings by layer.
    """

    def __init__(self, sides, W, J):
        self.sides = sides
        total = len(sides)

        def along(values, *axes):
            shape = [1] * total
            for axis, length in zip(axes, values.shape, strict=True):
                shape[axis] = length
            return values.reshape(shape)

        self.E, self.measure = 0.0, 1.0
        for i, side in enumerate(sides):
            energy = side.energy
            if i in J:
                energy = energy - 0.5 * ((side.scaled @ J[i]) * side.scaled).sum(axis=1)
            self.E = self.E + along(energy, i)
            self.measure = self.measure * along(side.weight, i)
        for i, matrix in enumerate(W):
            coupling = sides[i].scaled @ matrix @ sides[i + 1].scaled.T
            self.E = self.E - along(coupling, i, i + 1)

    def log_z(self, beta=1.0):
        return np.log((self.measure * np.exp(-beta * self.E)).sum())

    def joint(self):
        p = self.measure * np.exp(-self.E)
        return p / p.sum()

    def marginal(self):
        """Probability (measure included) of each visible state."""
        p = self.joint()
        return p.sum(axis=tuple(range(1, p.ndim)))

    def log_density(self):
        """log p(v) of each visible state."""
        return np.log(self.marginal()) - np.log(self.sides[0].weight)

    def draw(self, xp, n, seed):
        """Independent states of the machine."""
        p = self.joint()
        index = np.random.default_rng(seed).choice(p.size, size=n, p=p.ravel())
        places = np.unravel_index(index, p.shape)
        return State(
            tuple(xp.asarray(s.states[k]) for s, k in zip(self.sides, places, strict=True))
        )


def grid_machine(xp, kinds, sizes, *, lateral=(), seed=0, scale=1.0, dtype="float64"):
    """A machine of these unit types and sizes, and its list; J in the layers `lateral`."""
    draw = np.random.default_rng(seed)
    layers = [layer_of(xp, kind, size, dtype) for kind, size in zip(kinds, sizes, strict=True)]
    values = [parameters_of(kind, size, draw) for kind, size in zip(kinds, sizes, strict=True)]
    widths = [layer.num_units for layer in layers]
    W, J, couplings = [], {}, []
    for i in range(len(kinds) - 1):
        matrix = scale * weights_of(kinds[i : i + 2], (widths[i], widths[i + 1]), draw)
        W.append(matrix)
        weights = Weights(matrix.shape, scale=0, dtype=dtype, device=device_like(xp))
        weights.set_params({"matrix": matrix})
        couplings.append(weights)
    for i in lateral:
        q = widths[i] // sizes[i]
        drawn = scale * 0.4 * draw.normal(size=(widths[i], widths[i]))
        J[i] = (drawn + drawn.T) / 2 * np.kron(1 - np.eye(sizes[i]), np.ones((q, q)))
    for layer, parameters in zip(layers, values, strict=True):
        layer.set_params(parameters)
    model = BoltzmannMachine(
        layers,
        dtype=dtype,
        device=device_like(xp),
        weights=couplings,
        lateral={i: xp.asarray(matrix) for i, matrix in J.items()},
    )
    sides = [Side(k, n, **v) for k, n, v in zip(kinds, sizes, values, strict=True)]
    return model, Grid(sides, W, J)
