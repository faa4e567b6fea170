"""States of a machine, the namespace that values bring, and the checks on what comes in."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module, to_device
from gpugrad.backend.host_threads import product
from gpugrad.backend.rng import Generator
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import DataError, DivergenceError, ParameterError

__all__ = [
    "State",
    "check_beta",
    "check_data",
    "check_dtype",
    "check_finite",
    "check_layers",
    "check_rng",
    "check_sample_weight",
    "check_values",
    "check_visible",
    "is_state",
    "log_z_number",
    "namespace_for",
    "positive_int",
    "product_of",
]


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
        for units in self.units:
            if units is not None:
                return int(units.shape[0])
        raise ParameterError(f"State: all {len(self.units)} layers are None, expected one of them")

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


def product_of(a: Any) -> Callable[..., Any]:
    """The function that multiplies this matrix with another one, `product` for those of NumPy."""
    return product if isinstance(a, np.ndarray) else namespace_for(a).matmul


def positive_int(function: str, name: str, value: Any) -> int:
    """`value` as an int of at least 1, or a ParameterError that names function and argument."""
    if isinstance(value, (bool, float)) or not hasattr(value, "__index__") or int(value) < 1:
        raise ParameterError(f"{function}: {name} is {value!r}, expected an integer of at least 1")
    return int(value)


def check_beta(function: str, beta: Any, num_samples: int) -> Any:
    """Accept None, a number, or one inverse temperature a sample, of shape (num_samples, 1).

    Of arrays only the shape is looked at: they may live on a device that must not be waited for.

    Raises
    ------
    ParameterError
        For any other shape; (num_samples,) would broadcast along the units. For what is no number,
        or one that is negative or not finite.
    """
    if beta is None:
        return beta
    shape = getattr(beta, "shape", None)
    if shape is None:
        if not isinstance(beta, int | float) or not 0 <= beta < math.inf:
            raise ParameterError(f"{function}: beta is {beta!r}, expected a finite number >= 0")
    elif tuple(shape) not in ((), (num_samples, 1)):
        raise ParameterError(
            f"{function}: beta has shape {shape}, expected a number or ({num_samples}, 1)"
        )
    return beta


def check_rng(function: str, rng: Any) -> Generator:
    """The generator, or a ParameterError for anything else."""
    if not isinstance(rng, Generator):
        raise ParameterError(f"{function}: rng is {rng!r}, expected a Generator")
    return rng


def check_dtype(function: str, dtype: Any) -> Any:
    """The dtype, or a ParameterError for one that parameters cannot have."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in ("float16", "bfloat16", "float32", "float64"):
        raise ParameterError(
            f"{function}: dtype is {dtype!r}, expected float16, float32 or float64"
        )
    return dtype


def check_finite(function: str, arrays: Mapping[str, Any], where: str) -> None:
    """Raise a DivergenceError that names the first array with NaN or infinite values; waits."""
    for name, array in arrays.items():
        xp = namespace_for(array)
        if not bool(xp.all(xp.isfinite(array))):
            raise DivergenceError(
                f"{function}: {name} {where} is not finite, expected finite values: take a smaller "
                "learning rate"
            )


def check_values(function: str, name: str, values: Any) -> None:
    """Refuse parameters that are NaN or infinite; waits for the device."""
    xp = namespace_for(values)
    if not bool(xp.all(xp.isfinite(values))):
        raise ParameterError(f"{function}: {name} has NaN or infinite values, expected finite ones")


def log_z_number(function: str, log_z: Any) -> float:
    """The number in a log Z, which may be an `Estimate`, or a ParameterError for anything else."""
    value = getattr(log_z, "log_z", log_z)
    if not isinstance(value, int | float | np.floating):
        raise ParameterError(f"{function}: log_z is {log_z!r}, expected a number or Estimate")
    if not math.isfinite(value):
        raise ParameterError(f"{function}: log_z is {value}, expected a finite number")
    return float(value)


def check_sample_weight(function: str, sample_weight: Any, num_samples: int) -> None:
    """Raise a ParameterError unless the weights are None or of shape (num_samples,)."""
    shape = None if sample_weight is None else tuple(getattr(sample_weight, "shape", ()))
    if shape not in (None, (num_samples,)):
        raise ParameterError(
            f"{function}: sample_weight has shape {shape}, expected ({num_samples},)"
        )


def check_layers(
    function: str, model: Any, state: Any, *, given: Collection[int] | None = None
) -> None:
    """Raise unless a state has the layers of a machine, all of one number of samples.

    Only shapes are looked at.

    Parameters
    ----------
    function : str
        The name that the message carries.
    model : BoltzmannMachine
    state : State of arrays or Tensors
    given : collection of int, optional
        Layers that must not be None; all of them if left out.

    Raises
    ------
    ParameterError
    """
    sizes = [layer.num_units for layer in model.layers]
    if not isinstance(state, State):
        raise ParameterError(f"{function}: state is {type(state).__name__}, expected a State")
    shapes = [None if x is None else tuple(getattr(x, "shape", ())) for x in state.units]
    rows = next((shape[0] for shape in shapes if shape), None)
    wanted = range(len(sizes)) if given is None else given
    if len(shapes) != len(sizes) or any(
        (i in wanted) if shape is None else shape != (rows, sizes[i])
        for i, shape in enumerate(shapes)
    ):
        expected = [(rows if rows is not None else "samples", n) for n in sizes]
        raise ParameterError(
            f"{function}: the layers of the state are {shapes}, expected {expected} of {model!r}"
        )


def check_visible(function: str, model: Any, v: Any) -> None:
    """Raise unless values of the visible layer are (num_samples, num_visible); shapes only.

    Raises
    ------
    DataError
    """
    shape, size = tuple(getattr(v, "shape", ())), model.layers[0].num_units
    if len(shape) != 2 or shape[1] != size:
        raise DataError(f"{function}: data has shape {shape}, expected (samples, {size})")


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
    if states_only and not bool(xp.all(is_state(xp, data, layer.support))):
        bits = layer.support == (-1.0, 1.0) and bool(xp.all((data == 0) | (data == 1)))
        hint = "; of 0 and 1 they are 2*x - 1" if bits else ""
        known = " and ".join(f"{s:g}" for s in layer.support)
        if data.dtype.kind != "f":
            # 0 and 1 meant for Bernoulli units would pass for means of Ising units
            raise DataError(
                f"{function}: data of {data.dtype} has values that are no states of "
                f"{layer.layer_type} units, expected {known}, or means as floats{hint}"
            )
        raise DataError(
            f"{function}: data has values between {low:g} and {high:g}; the probability of a "
            f"sample is defined for the states {known} only{hint}"
        )
    if str(data.dtype) != str(model.dtype):
        data = data.astype(model.dtype)
    return to_device(data, model.device)


def is_state(xp: Any, data: Any, support: tuple[float, ...]) -> Any:
    """Which values are one of the states of a unit, an array of bool."""
    found = data == support[0]
    for s in support[1:]:
        found = found | (data == s)
    return found
