"""Couplings inside a layer: a symmetric J without diagonal, energy -1/2 s.J.s, and its Gibbs sweep.

Units that J does not couple are drawn in one block, given all others: a colouring of the graph of
couplings cuts the layer into such blocks. Where every pair is coupled each unit is a block of its
own, which is sequential Gibbs sampling.

    square lattice, two colours          dense J, one colour a unit
        0 1 0 1                              0  1  2  3 ...
        1 0 1 0
        0 1 0 1

Each pair counts once: the derivative with respect to J_ij is that with J_ji moving along, -s_i s_j,
written at both places, with zeros on the diagonal.
"""

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of, get_array_module, on, to_device
from gpugrad.boltzmann.layers.layer import Layer
from gpugrad.boltzmann.state import check_values, namespace_for, positive_int
from gpugrad.errors import ParameterError

__all__ = ["Lateral", "ParamsLateral", "colouring", "unit_size"]

ParamsLateral = namedtuple("ParamsLateral", ["matrix"])

SPARSE = 16
"""A block's field is summed neighbour by neighbour where units have this many times fewer
neighbours than the layer has units; else it is a product of matrices."""


def unit_size(layer: Any) -> int:
    """Columns that one unit of a layer takes: the number of states of Potts units, else 1."""
    return layer.num_units // getattr(layer, "num_sites", layer.num_units)


def colouring(coupled: np.ndarray) -> np.ndarray:
    """A colour for each unit such that coupled units differ, by greedy choice.

    The next unit is the one with most colours among its neighbours, of these the one with most
    couplings; it gets the first colour that no neighbour has. A graph that two colours suffice for
    gets two.

    Parameters
    ----------
    coupled : numpy.ndarray of bool (num_units, num_units)
        Symmetric; the diagonal is not looked at.

    Returns
    -------
    numpy.ndarray of int (num_units,)

    References
    ----------
    Brelaz, "New methods to color the vertices of a graph", Communications of the ACM 22 (1979).

    Examples
    --------
    >>> import numpy as np
    >>> chain = np.eye(4, k=1, dtype=bool) | np.eye(4, k=-1, dtype=bool)
    >>> colouring(chain)
    array([1, 0, 1, 0])
    """
    n = len(coupled)
    coupled = coupled & ~np.eye(n, dtype=bool)
    degree = coupled.sum(axis=1)
    colour = np.full(n, -1)
    met = np.zeros((n, int(degree.max(initial=0)) + 1), dtype=bool)
    order = degree.astype("int64")
    for _ in range(n):
        unit = int(np.argmax(order))
        colour[unit] = int(np.argmin(met[unit]))
        order[unit] = -(n**2)  # below every unit without a colour, whatever is added
        neighbours = np.flatnonzero(coupled[unit])
        first = neighbours[~met[neighbours, colour[unit]]]
        met[first, colour[unit]] = True
        order[first] += n
    return colour


@dataclass(frozen=True, slots=True)
class _Block:
    """Units of one colour: where they are, and whom they are coupled with (None: anybody)."""

    units: Any
    columns: Any
    neighbours: Any


class Lateral(Layer):
    """Couplings J between the units of one layer, with energy -1/2 s.J.s.

    Parameters
    ----------
    matrix : array (num_units, num_units)
        J: symmetric, 0 on the diagonal (with Potts units: between the states of one unit).
    pairs : "all" or array of bool (units, units), optional
        Which units may be coupled; the other entries of J are and stay 0. If None, the pairs that
        J couples now, or all of them where J is 0 everywhere. Gibbs sampling draws units that are
        not coupled at once, so that few pairs make it fast.
    unit_size : int
        Columns of a unit: the number of states of Potts units, else 1.
    dtype : dtype, optional
    device : str or Device, optional

    Raises
    ------
    ParameterError
        J or `pairs` is not a symmetric matrix without diagonal, or J is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.boltzmann.lateral import Lateral
    >>> ring = np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0)
    >>> Lateral(ring, device="cpu").num_colours
    2
    """

    layer_type = "lateral"
    Params = ParamsLateral

    def __init__(
        self,
        matrix: Any,
        *,
        pairs: Any = None,
        unit_size: int = 1,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        J = asnumpy(matrix) if hasattr(matrix, "shape") else np.asarray(matrix)
        if J.dtype.kind not in "biuf" or J.ndim != 2 or J.shape[0] != J.shape[1]:
            raise ParameterError(
                f"Lateral: matrix is {J.dtype} of shape {J.shape}, expected real (units, units)"
            )
        check_values("Lateral", "matrix", J)
        self.num_units = J.shape[0]
        self.unit_size = positive_int("Lateral", "unit_size", unit_size)
        if self.num_units % self.unit_size:
            raise ParameterError(
                f"Lateral: {self.num_units} columns are no multiple of unit_size {unit_size}"
            )
        self.pairs = self._pairs(J, pairs)
        self._blocks: dict[str, list[_Block]] = {}
        self._masks: dict[str, Any] = {}
        kind = dtype if dtype is not None else J.dtype if J.dtype.kind == "f" else "float32"
        place = device_of(matrix) if device is None and hasattr(matrix, "shape") else device
        with on(place):
            super().__init__(to_device(np.zeros(J.shape, kind), place))
        self.set_params({"matrix": J})

    def _pairs(self, J: np.ndarray, pairs: Any) -> np.ndarray | None:
        """Which units may be coupled, (units, units); None for all."""
        n = self.num_units // self.unit_size
        if pairs is None:
            pairs = self._by_unit(J != 0)
            if not pairs.any():
                return None
        elif isinstance(pairs, str) and pairs == "all":
            return None
        pairs = asnumpy(pairs) if hasattr(pairs, "shape") else np.asarray(pairs)
        if pairs.shape != (n, n) or pairs.dtype != bool or (pairs != pairs.T).any():
            raise ParameterError(
                f"Lateral: pairs are {pairs.dtype} of shape {pairs.shape}, expected 'all' or a "
                f"symmetric matrix of bool ({n}, {n})"
            )
        pairs = pairs & ~np.eye(n, dtype=bool)
        return None if pairs.sum() == n * (n - 1) else pairs

    def _by_unit(self, nonzero: np.ndarray) -> np.ndarray:
        n = self.num_units // self.unit_size
        blocks: Any = nonzero.reshape(n, self.unit_size, n, self.unit_size).any(axis=(1, 3))
        return blocks | blocks.T

    # ---- the parameters

    def J(self) -> Any:
        """The matrix, (num_units, num_units)."""
        return self.params.matrix

    def set_params(self, values: Mapping[str, Any]) -> None:
        """Replace J by a copy of `values["matrix"]`; waits for the device.

        Raises
        ------
        ParameterError
            Not symmetric, an entry on the diagonal, or between units that are not to be coupled.
        """
        if "matrix" in values and tuple(values["matrix"].shape) == tuple(self.J().shape):
            J = asnumpy(values["matrix"])
            J = J.astype("float32" if J.dtype.itemsize <= 4 else "float64", copy=False)
            # half precision keeps three digits; what is symmetric only to rounding is made so
            uneven = np.abs(J - J.T) > 1e-3 * np.abs(J).max(initial=0)
            if uneven.any():
                i, j = (int(k[0]) for k in np.nonzero(uneven))
                raise ParameterError(
                    f"Lateral: matrix has {J[i, j]:g} at ({i}, {j}) and {J[j, i]:g} at ({j}, {i}), "
                    "expected a symmetric matrix"
                )
            outside = (J != 0) & ~self._allowed()
            if outside.any():
                i, j = (int(k[0]) for k in np.nonzero(outside))
                expected = (
                    "0 on the diagonal (Potts: between the states of one unit)"
                    if i // self.unit_size == j // self.unit_size
                    else "0 between units that `pairs` does not couple"
                )
                raise ParameterError(f"Lateral: matrix has {J[i, j]:g} at ({i}, {j}), {expected}")
            values = {**values, "matrix": (J + J.T) / 2}
        super().set_params(values)

    def _allowed(self) -> np.ndarray:
        """Where J may differ from 0, on the host."""
        n = self.num_units // self.unit_size
        allowed = ~np.eye(n, dtype=bool) if self.pairs is None else self.pairs
        if self.unit_size == 1:
            return allowed
        return np.kron(allowed, np.ones((self.unit_size, self.unit_size), dtype=bool))

    def project_(self, matrix: Any) -> Any:
        """Make an array symmetric and 0 where J is 0, in place; returns it."""
        xp = get_array_module(matrix)
        matrix += matrix.T.copy()
        matrix *= 0.5
        if self.pairs is None and self.unit_size == 1:
            i = xp.arange(self.num_units)
            matrix[i, i] = 0
            return matrix
        place = str(device_of(matrix))
        if place not in self._masks:
            self._masks = {place: to_device(self._allowed(), device_of(matrix))}
        matrix *= self._masks[place]
        return matrix

    def of_pairs(self, entrywise: Any) -> Any:
        """Derivatives with respect to pairs from those with respect to the entries of J.

        Back-propagation treats J_ij and J_ji as two parameters; this adds their derivatives, and
        leaves nothing on the diagonal.

        Parameters
        ----------
        entrywise : array (num_units, num_units)

        Returns
        -------
        array (num_units, num_units)
        """
        return self.project_(2 * entrywise)

    def parameter_step(self, deltas: Any) -> None:
        """Subtract `deltas`, made symmetric and 0 where J is 0, in place."""
        given = deltas if isinstance(deltas, Mapping) else deltas._asdict()
        super().parameter_step({name: self.project_(d.copy()) for name, d in given.items()})

    def enforce_constraints(self) -> None:
        """Apply each constraint; J stays symmetric and 0 where it is to be 0."""
        super().enforce_constraints()
        if self.constraints:
            self.project_(self.J())

    def get_penalties(self) -> dict[str, float]:
        """Values of the penalties, each pair counted once; waits for the device."""
        return {name: value / 2 for name, value in super().get_penalties().items()}

    # ---- energy

    @staticmethod
    def energy_of(xp: Any, matrix: Any, units: Any) -> Any:
        """-1/2 s.J.s of rescaled units, arrays or Tensors, one value a sample."""
        return -0.5 * xp.sum(xp.matmul(units, matrix) * units, axis=1)

    def energy(self, units: Any) -> Any:
        """-1/2 s.J.s, one value a sample.

        Parameters
        ----------
        units : array or Tensor (num_samples, num_units)
            Rescaled units of the layer.
        """
        return self.energy_of(namespace_for(units, self.J()), self.J(), units)

    def field(self, units: Any) -> Any:
        """The field s.J that each unit gets from the others, (num_samples, num_units)."""
        return namespace_for(units, self.J()).matmul(units, self.J())

    def derivatives(self, units: Any, *, sample_weight: Any = None) -> ParamsLateral:
        """Derivative of the energy averaged over the batch: -<s_i s_j>, 0 where J is 0.

        That of a pair, J_ij and J_ji moving together. Its off-diagonal entries are those of means
        too where the units are independent given what is clamped (mean field).

        Parameters
        ----------
        units : array (num_samples, num_units)
            Rescaled units of the layer.
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.
        """
        xp = namespace_for(units)
        if sample_weight is None:
            scaled = units * (-1.0 / units.shape[0])
        else:
            scaled = units * -sample_weight[:, None]
        return ParamsLateral(self.project_(xp.matmul(units.T, scaled)))

    # ---- one sweep over the blocks

    @property
    def num_colours(self) -> int:
        """Number of blocks that a sweep draws one after the other."""
        return len(self.blocks())

    def blocks(self) -> list[Any]:
        """The blocks of units that are drawn at once, with indices on the parameters' device."""
        place = str(self.device)
        if place not in self._blocks:
            n = self.num_units // self.unit_size
            colours = np.arange(n) if self.pairs is None else colouring(self.pairs)
            members = [np.flatnonzero(colours == c) for c in range(int(colours.max()) + 1)]
            self._blocks = {place: [self._block(units) for units in members]}
        return self._blocks[place]

    def _block(self, units: np.ndarray) -> _Block:
        width = self.unit_size
        columns = (units[:, None] * width + np.arange(width)).ravel()
        neighbours = None
        if self.pairs is not None and width == 1:
            degree = int(self.pairs[units].sum(axis=1).max(initial=0))
            if degree * SPARSE <= self.num_units:
                # padded with the unit itself, whose coupling is 0
                table = np.tile(units, (degree, 1))
                for k, unit in enumerate(units):
                    found = np.flatnonzero(self.pairs[unit])
                    table[: found.size, k] = found
                neighbours = to_device(table, self.device)
        return _Block(self._index(units), self._index(columns), neighbours)

    def _index(self, places: np.ndarray) -> Any:
        first, last = int(places[0]), int(places[-1])
        if last - first == places.size - 1:
            return slice(first, last + 1)  # a view, not a copy
        return to_device(places, self.device)

    def block_field(self, block: Any, scaled: Any) -> Any:
        """The field on the units of a block, (num_samples, columns of the block)."""
        J = self.J()
        xp = namespace_for(J)
        if block.neighbours is None:
            return xp.matmul(scaled, J[block.columns].T)
        total = xp.zeros((scaled.shape[0], block.neighbours.shape[1]), dtype=scaled.dtype)
        for row in block.neighbours:
            total += scaled[:, row] * J[block.columns, row]
        return total

    def update_(self, layer: Any, units: Any, field: Any, draw: Any, *, held: Any = None) -> None:
        """Set the units block after block, each block from its field at that moment, in place.

        Parameters
        ----------
        layer : UnitLayer
        units : array (num_samples, num_units)
            Values to start from; overwritten.
        field : array (num_samples, num_units) or None
            What the neighbouring layers send.
        draw : callable
            `draw(phi, params)` gives the new values of units in the field phi.
        held : array of bool, (num_units,) or (num_samples, num_units), optional
            True where a unit keeps its value.
        """
        xp = namespace_for(units)
        for block in self.blocks():
            phi = self.block_field(block, layer.rescale(units))
            if field is not None:
                phi += field[:, block.columns]
            params = type(layer.params)(*(p[block.units] for p in layer.params))
            values = draw(phi, params)
            if held is not None:
                kept = xp.broadcast_to(held[..., block.columns], values.shape)
                values = xp.where(kept, units[:, block.columns], values)
            units[:, block.columns] = values

    # ---- configuration

    def get_config(self) -> dict[str, Any]:
        """Sizes, coupled pairs, dtype, penalties and constraints."""
        pairs = None
        if self.pairs is not None:
            pairs = [
                [int(i), int(j)] for i, j in zip(*np.nonzero(np.triu(self.pairs)), strict=True)
            ]
        return {
            **self.get_base_config(),
            "num_units": self.num_units,
            "unit_size": self.unit_size,
            "pairs": pairs,
        }

    @classmethod
    def _from_config(cls, config: Any) -> "Lateral":
        size, width = config["num_units"], config["unit_size"]
        pairs: Any = "all"
        if config["pairs"] is not None:
            pairs = np.zeros((size // width,) * 2, dtype=bool)
            for i, j in config["pairs"]:
                pairs[i, j] = pairs[j, i] = True
        zeros = np.zeros((size, size), dtype=config["dtype"])
        return cls(zeros, pairs=pairs, unit_size=width, device="cpu")
