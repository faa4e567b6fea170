"""What the readers of foreign files share: faults become one error, arrays become a machine."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.boltzmann.lateral import Lateral, unit_size
from gpugrad.boltzmann.layers import PottsLayer, UnitLayer, Weights
from gpugrad.boltzmann.layers.layer import get
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.errors import ModelFileError, ParameterError

__all__ = ["assemble", "fill", "on_host", "reading", "refuse_units"]


@contextmanager
def reading(function: str, path: Any, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a ModelFileError that names it.

    What is wrong with the call itself, or a package that is missing, passes as it is.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "no such file"
        raise ModelFileError(f"{function}: {path}: {reason}, expected {kind}")
    try:
        yield
    except (ModelFileError, ParameterError, ImportError):
        raise
    except (
        Exception
    ) as error:  # damage shows as whatever HDF5, zipfile, zlib and NumPy stumble over
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(f"{function}: {path} is not {kind}, or is damaged ({said})") from error


def _dtype(function: str, path: Any, arrays: Mapping[str, np.ndarray], dtype: Any) -> Any:
    """`dtype`; if None the one in which no array loses a digit, float32 for whole numbers."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise ModelFileError(
                f"{function}: {path}: the array {name} is {array.dtype}, expected real numbers"
            )
    if dtype is not None:
        return dtype
    kinds = [array.dtype for array in arrays.values() if array.dtype.kind == "f"]
    found = np.result_type(*kinds) if kinds else np.dtype("float32")
    return min(found, np.dtype("float64"), key=lambda kind: kind.itemsize).name


def _layer(function: str, path: Any, unit: str, size: int, dtype: Any) -> UnitLayer:
    name, _, states = str(unit).lower().partition(":")
    kind: Any = get(name)
    if not issubclass(kind, UnitLayer):
        raise ParameterError(f"{function}: units has {unit!r}, expected types of units")
    if not issubclass(kind, PottsLayer):
        return kind(size, dtype=dtype, device="cpu")
    if not states.isdecimal() or int(states) < 2:
        raise ParameterError(
            f"{function}: units has {unit!r}, expected the number of states with it: 'potts:4'"
        )
    if size % int(states):
        raise ModelFileError(
            f"{function}: {path}: a layer of {size} parameters, expected a multiple of {states} "
            f"for {unit} units"
        )
    return kind(size // int(states), int(states), dtype=dtype, device="cpu")


def assemble(
    function: str,
    path: Any,
    units: Sequence[str],
    arrays: Mapping[str, np.ndarray],
    *,
    dtype: Any = None,
    device: Any = None,
) -> BoltzmannMachine:
    """The machine of these arrays, named as `BoltzmannMachine.parameters` names them.

    Parameters
    ----------
    function : str
        The name that messages carry.
    path : str or path
        The file that they carry.
    units : sequence of str
        One a layer: the layers' sizes are those of the arrays.
    arrays : dict of numpy.ndarray
        Those of a layer may have another shape, of the same number of entries. No other arrays than
        the parameters.
    dtype : dtype, optional
    device : str or Device, optional

    Raises
    ------
    ModelFileError
        An array is missing or too many, has another shape or NaN, or the machine has no partition
        function.
    ParameterError
        An unknown unit type.
    """
    if isinstance(units, str) or not units:
        raise ParameterError(f"{function}: units is {units!r}, expected a list, one a layer")
    dtype = _dtype(function, path, arrays, dtype)
    layers, found = [], dict(arrays)
    for i, unit in enumerate(units):
        if f"layers.{i}.loc" not in found:  # all units have one
            raise ModelFileError(
                f"{function}: {path} has no layers.{i}.loc, expected one for each of the layers "
                f"{list(units)}; it has {sorted(arrays)}"
            )
        layer = _layer(function, path, unit, found[f"layers.{i}.loc"].size, dtype)
        for field, own in layer.params._asdict().items():
            name = f"layers.{i}.{field}"
            if name in found and found[name].size == own.size:
                found[name] = found[name].reshape(own.shape)
        layers.append(layer)
    sizes = [layer.num_units for layer in layers]
    weights = [Weights(shape, scale=0, dtype=dtype, device="cpu") for shape in pairwise(sizes)]
    try:
        lateral = {
            i: Lateral(found[f"lateral.{i}.matrix"], unit_size=unit_size(layer))
            for i, layer in enumerate(layers)
            if f"lateral.{i}.matrix" in found
        }
        model = BoltzmannMachine(
            layers, weights=weights, lateral=lateral, dtype=dtype, device=device
        )
        fill(model, found)
    except ParameterError as error:
        raise ModelFileError(f"{function}: {path} does not hold a machine ({error})") from error
    return model


def fill(model: BoltzmannMachine, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a machine all its parameters; a ParameterError unless these are exactly they."""
    own = set(model.parameters())
    if own != set(arrays):
        raise ParameterError(
            f"missing arrays: {sorted(own - set(arrays))}; not expected: "
            f"{sorted(set(arrays) - own)}"
        )
    model.set_parameters(arrays)


def on_host(model: BoltzmannMachine) -> BoltzmannMachine:
    """A copy on the host for formats without half precision: its parameters become float32."""
    return model.copy(dtype="float32" if model.dtype.itemsize < 4 else None, device="cpu")


def refuse_units(
    function: str,
    model: BoltzmannMachine,
    what: str,
    visible: Collection[str],
    hidden: Collection[str] | None = None,
) -> None:
    """Raise a ParameterError, naming the layer, for a machine that a format cannot hold.

    Parameters
    ----------
    function : str
    model : BoltzmannMachine
    what : str
        The format, for the message.
    visible : collection of str
        Unit types that it has: for the visible layer, or for all layers where `hidden` is None.
    hidden : collection of str, optional
        Those of the one hidden layer.
    """
    check_boltzmann(function, model)
    if hidden is not None and model.num_layers != 2:
        raise ParameterError(
            f"{function}: the machine has {model.num_layers} layers, expected 2: {what} has no "
            "others"
        )
    for i, layer in enumerate(model.layers):
        known = visible if hidden is None or i == 0 else hidden
        if i in model.lateral:
            raise ParameterError(
                f"{function}: layers[{i}] has lateral couplings, expected none: {what} has "
                "no place for them"
            )
        if layer.layer_type not in known:
            raise ParameterError(
                f"{function}: layers[{i}] has {layer.layer_type} units, expected "
                f"{' or '.join(known)}: {what} has no others there"
            )
