"""States of a machine, the namespace that values bring, and the checks on what comes in."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module, to_device
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import DataError, ParameterError

__all__ = ["State", "check_beta", "check_data", "namespace_for", "positive_int"]


@dataclass(frozen=True, slots=True)
class State:
    """Values of all units of a machine for a batch of samples.

    Attributes
    ----------
    units : tuple of array (num_samples, num_units of the layer)
        One array a layer, visible layer first. An entry may hold expected values in place of
        samples: the statistics of a gradient are linear in them.
    """

    units: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(self.units))

    @property
    def visible(self) -> Any:
        """Values of the first layer, (num_samples, num_visible)."""
        return self.units[0]

    @property
    def hidden(self) -> Any:
        """Values of the second layer, (num_samples, num_hidden)."""
        return self.units[1]

    @property
    def num_samples(self) -> int:
        """Number of samples in the batch."""
        return next(units.shape[0] for units in self.units if units is not None)

    def replace(self, layer: int, units: Any) -> "State":
        """The state with the values of one layer exchanged."""
        return State((*self.units[:layer], units, *self.units[layer + 1 :]))

    def copy(self) -> "State":
        """A state that shares no memory with this one; entries of None stay None."""
        return State(tuple(None if units is None else units.copy() for units in self.units))

    @property
    def cold(self) -> "State":
        """The states at inverse temperature 1: this one. A sampler's own state may hold more."""
        return self

    def arrays(self) -> dict[str, Any]:
        """The arrays by the number of their layer, for a checkpoint; None has no entry."""
        return {str(i): units for i, units in enumerate(self.units) if units is not None}

    def with_arrays(self, arrays: Mapping[str, Any]) -> "State":
        """A state of the same layers with the arrays that `arrays` gave.

        Raises
        ------
        KeyError
            An array is missing.
        """
        return State(tuple(None if x is None else arrays[str(i)] for i, x in enumerate(self.units)))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.units)

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, layer: Any) -> Any:
        return self.units[layer]


def namespace_for(*values: Any) -> Any:
    """The namespace whose functions take these values: NumPy's, CuPy's, or that of Tensors.

    Energies, free energies and likelihood objectives fetch their functions here and nowhere else,
    so that the same lines work on arrays and build a graph on Tensors.

    Parameters
    ----------
    *values : array, Tensor, number or None
    """
    present = [x for x in values if x is not None]
    if any(hasattr(x, "_gpugrad_data_") for x in present):
        # here, not above: training by the analytic gradient never loads the calculus
        from gpugrad.ops.namespace import tensor_namespace

        return tensor_namespace
    return namespace_of(get_array_module(*present))


def positive_int(function: str, name: str, value: Any) -> int:
    """`value` as an int of at least 1, or a ParameterError that names function and argument."""
    if isinstance(value, (bool, float)) or not hasattr(value, "__index__") or int(value) < 1:
        raise ParameterError(f"{function}: {name} is {value!r}, expected an integer of at least 1")
    return int(value)


def check_beta(function: str, beta: Any, num_samples: int) -> Any:
    """Accept None, a number, or one inverse temperature a sample, of shape (num_samples, 1).

    Only the shape is looked at: the values may live on a device that must not be waited for.

    Raises
    ------
    ParameterError
        For any other shape; (num_samples,) would broadcast along the units.
    """
    shape = getattr(beta, "shape", ())
    if beta is not None and shape not in ((), (num_samples, 1)):
        raise ParameterError(
            f"{function}: beta has shape {shape}, expected a number or ({num_samples}, 1)"
        )
    return beta


def check_data(
    model: Any, data: Any, *, function: str = "check_data", support: bool = False
) -> Any:
    """Visible data as an array of the model's dtype on the model's device, or a named error.

    Values between the two states of a unit are accepted and mean expected values: grey values in
    [0, 1] are probabilities of a Bernoulli unit, values in [-1, 1] are means of an Ising unit.
    They are floating-point numbers; integers and booleans have to be states. Units without states,
    like Gaussian ones, take every finite value in their range.

    Parameters
    ----------
    model : BoltzmannMachine
    data : array_like (num_samples, num_visible)
        A host array is sent to the model's device, a device array has to be there already.
    function : str
        The name that error messages carry.
    support : bool
        Accept nothing but the states themselves (0 and 1, or -1 and +1), as a likelihood needs.

    Raises
    ------
    DataError
        No samples, wrong width, not a number, or values that the units cannot take.
    """
    layer = model.layers[0]
    if not hasattr(data, "shape"):
        data = np.asarray(data)
    if data.dtype.kind not in "biuf":
        raise DataError(f"{function}: data has dtype {data.dtype}, expected real numbers")
    if data.ndim != 2 or data.shape[1] != layer.num_units:
        raise DataError(
            f"{function}: data has shape {tuple(data.shape)}, expected (samples, {layer.num_units})"
        )
    if data.shape[0] == 0:
        raise DataError(f"{function}: data has no samples (shape {tuple(data.shape)})")
    xp = namespace_for(data)
    low, high = layer.data_range
    # a nan makes both extremes nan, so that one pass finds every fault
    smallest, largest = float(xp.min(data)), float(xp.max(data))
    if smallest != smallest or largest != largest:
        row, column = (int(i[0]) for i in xp.nonzero(xp.isnan(data)))
        raise DataError(f"{function}: data has NaN, first in sample {row}, unit {column}")
    if smallest < low or largest > high:
        raise DataError(
            f"{function}: data lies in [{smallest:g}, {largest:g}], "
            f"{layer.layer_type} units take values in [{low:g}, {high:g}]"
        )
    if smallest == -math.inf or largest == math.inf:
        raise DataError(f"{function}: data has infinite values, expected finite ones")
    layer.check_rows(data, function)
    states_only = bool(layer.support) and (support or data.dtype.kind in "biu")
    if states_only and not bool(xp.all(_is_state(xp, data, layer.support))):
        known = " and ".join(f"{s:g}" for s in layer.support)
        if data.dtype.kind != "f":
            # 0 and 1 meant for Bernoulli units would pass for means of Ising units
            raise DataError(
                f"{function}: data of {data.dtype} has values that are no states of "
                f"{layer.layer_type} units, expected {known}, or means as floats"
            )
        raise DataError(
            f"{function}: data has values between {low:g} and {high:g}; the probability of a "
            f"sample is defined for the states {known} only"
        )
    if str(data.dtype) != str(model.dtype):
        data = data.astype(model.dtype)
    return to_device(data, model.device)


def _is_state(xp: Any, data: Any, support: tuple[float, ...]) -> Any:
    found = data == support[0]
    for s in support[1:]:
        found = found | (data == s)
    return found
