"""Which library an array belongs to, which device it lies on, and how it gets to another.

A *host array* is a `numpy.ndarray`, a *device array* a `cupy.ndarray`. Python scalars, NumPy
scalars, lists and host arrays of no dimension are neither: they mix with both. Anything else that
mixes raises, so that nothing crosses the bus unseen; `to_device` and `asnumpy` are the two ways
across. CuPy is imported when a device is first asked for, never by importing this package.
"""

import importlib
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from functools import lru_cache
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import numpy as np

from gpugrad.errors import DeviceMismatchError, DeviceNotAvailableError, ParameterError

__all__ = [
    "Device",
    "DeviceReport",
    "FoundDevice",
    "asnumpy",
    "check_same_device",
    "cupy",
    "cupy_if_loaded",
    "current_device",
    "describe_devices",
    "device_of",
    "get_array_module",
    "module_for",
    "on",
    "parse_device",
    "to_device",
    "use_device",
]

ENVIRONMENT_VARIABLE = "GPUGRAD_DEVICE"
DATA_ATTRIBUTE = "_gpugrad_data_"  # a Tensor's raw array; spelled here, below the Tensor


class Device(NamedTuple):
    """A place where arrays lie: `Device("cpu")` or `Device("cuda", 1)`.

    Parameters
    ----------
    kind : {"cpu", "cuda"}
    index : int
        Which GPU; 0 for the CPU.
    """

    kind: str
    index: int = 0  # type: ignore[assignment]  # not the method of tuples

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


CPU = Device("cpu")


# ---------------------------------------------------------------------------------- the library

_modules: dict[type, ModuleType] = {np.ndarray: np}
# What goes with any device. Not exhaustive: a type that is missing here only costs more time.
_SCALARS = frozenset(
    (float, int, bool, complex, type(None), list, tuple)
    + (np.bool_, np.int32, np.int64, np.float16, np.float32, np.float64)
)
_verified_cupy: ModuleType | None = None


def cupy_if_loaded() -> ModuleType | None:
    """Return the module `cupy` if something has imported it already, else None."""
    return sys.modules.get("cupy")


def cupy() -> Any:
    """Return the module `cupy`, importing it on first use.

    Raises
    ------
    DeviceNotAvailableError
        CuPy is not installed or does not load, or there is no driver or no GPU: the message says
        which.
    """
    global _verified_cupy
    loaded = sys.modules.get("cupy")
    if loaded is not None and loaded is _verified_cupy:
        return loaded
    module, _, reason = _look_for_cupy()
    if module is None or reason is not None:
        raise DeviceNotAvailableError(f"cuda: {reason}")
    _modules[module.ndarray] = module
    _verified_cupy = module
    return module


def _look_for_cupy() -> tuple[Any, int, str | None]:
    """Return the module (or None), the number of GPUs, and why there is none (or None)."""
    try:
        module: Any = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            return None, 0, f"CuPy does not load: {error}"
        return None, 0, "CuPy is not installed (pip install 'gpugrad[cuda13]' or 'gpugrad[cuda12]')"
    except Exception as error:  # a broken installation raises ImportError, OSError, RuntimeError...
        return None, 0, f"CuPy does not load: {error}"
    try:
        count = int(module.cuda.runtime.getDeviceCount())
    except RuntimeError as error:  # CUDARuntimeError: no driver, too old a driver, no device
        return module, 0, f"CuPy {module.__version__} finds no usable GPU: {error}"
    if count < 1:
        return module, 0, f"CuPy {module.__version__} finds no usable GPU: 0 devices"
    return module, count, None


def get_array_module(*xs: Any) -> Any:
    """Return the array library of the arguments: the module `numpy` or `cupy`.

    Parameters
    ----------
    *xs : array, Tensor or scalar
        Python and NumPy scalars, lists and host arrays of no dimension go with either library; a
        call with nothing else (or with nothing) returns `numpy`.

    Raises
    ------
    DeviceMismatchError
        A host array came with a device array, or device arrays of two GPUs came together.
    """
    if len(xs) == 1:
        module = _modules.get(type(xs[0]))
        if module is not None:
            return module
    for x in xs:
        kind = type(x)
        if kind is not np.ndarray and kind not in _SCALARS:
            return _module_of_all("get_array_module", xs)
    return np


def check_same_device(function_name: str, *arrays: Any) -> Any:
    """Return the arrays' library, as `get_array_module` does, naming the function if they differ.

    Raises
    ------
    DeviceMismatchError
        The message names `function_name`, both arguments' positions and both devices.
    """
    for x in arrays:
        kind = type(x)
        if kind is not np.ndarray and kind not in _SCALARS:
            break
    else:
        return np
    return _module_of_all(function_name, arrays)


def _module_of_all(function_name: str, xs: tuple[Any, ...]) -> Any:
    host = device = None  # position of the first host array and of the first device array
    module: Any = np
    for i, x in enumerate(xs):
        x, library = _classify(x)
        if library is None:
            continue
        if library is np:
            if host is None and x.ndim:
                host = i
        elif device is None:
            device, module = i, library
        elif x.device.id != _raw(xs[device]).device.id:
            _raise_mismatch(function_name, xs, device, i)
    if host is not None and device is not None:
        _raise_mismatch(function_name, xs, *sorted((host, device)))
    return module


def _classify(x: Any) -> tuple[Any, Any]:
    """Return the raw array and its library; library None for what goes with any device."""
    kind = type(x)
    library = _modules.get(kind)
    if library is not None:
        return x, library
    if kind in _SCALARS:
        return x, None
    if hasattr(kind, DATA_ATTRIBUTE):
        return _classify(getattr(x, DATA_ATTRIBUTE))
    if isinstance(x, np.ndarray):
        _modules[kind] = np
        return x, np
    loaded = sys.modules.get("cupy")
    # CuPy may be loading in another thread: until it has an ndarray nobody has an instance of it.
    array_class = getattr(loaded, "ndarray", None)
    if array_class is not None and isinstance(x, array_class):
        assert loaded is not None
        _modules[kind] = loaded
        return x, loaded
    return x, None


def _raw(x: Any) -> Any:
    return _classify(x)[0]


def _raise_mismatch(function_name: str, xs: tuple[Any, ...], i: int, j: int) -> None:
    def described(k: int) -> str:
        x = _raw(xs[k])
        return f"argument {k + 1} ({x.dtype}, shape {x.shape}) is on {device_of(x)}"

    raise DeviceMismatchError(
        f"{function_name}: {described(i)}, {described(j)}, expected one device; "
        "to_device() copies an array to another"
    )


# ----------------------------------------------------------------------------------- the devices


def parse_device(device: Any) -> Device:
    """Return the `Device` that a name stands for. Whether it exists is not asked.

    Parameters
    ----------
    device : None, str, Device or cupy.cuda.Device
        None is the current device. "cuda" is the GPU chosen by `use_device`, or else the first.

    Raises
    ------
    ParameterError
        Anything else.
    """
    if isinstance(device, Device):
        return device
    if device is None:
        return current_device()
    if isinstance(device, str):
        if device == "cuda":
            chosen = _chosen.get()
            return chosen if chosen is not None and chosen.kind == "cuda" else Device("cuda", 0)
        return _parse_name(device)
    loaded = cupy_if_loaded()
    if loaded is not None and isinstance(device, loaded.cuda.Device):
        return Device("cuda", int(device.id))
    raise ParameterError(f"device: got {device!r}, {_EXPECTED_DEVICE}")


_EXPECTED_DEVICE = 'expected "cpu", "cuda" or "cuda:<number>"'


@lru_cache(maxsize=64)
def _parse_name(name: str) -> Device:
    kind, colon, index = name.partition(":")
    if kind == "cpu" and not colon:
        return CPU
    if kind == "cuda" and not colon:
        return Device("cuda", 0)
    if kind == "cuda" and index.isascii() and index.isdigit():
        return Device("cuda", int(index))
    raise ParameterError(f"device: got {name!r}, {_EXPECTED_DEVICE}")


def device_of(x: Any) -> Device:
    """Return the device on which an array (or a Tensor's array) lies; the CPU for scalars."""
    x, library = _classify(x)
    if library is None or library is np:
        return CPU
    return Device("cuda", int(x.device.id))


def _require(device: Device) -> Device:
    """Return `device`; raise DeviceNotAvailableError if this machine does not have it."""
    if device.kind == "cuda":
        count = int(cupy().cuda.runtime.getDeviceCount())
        if device.index >= count:
            raise DeviceNotAvailableError(f"{device}: this machine has {count} GPU(s), from cuda:0")
    return device


_chosen: ContextVar[Device | None] = ContextVar("gpugrad_device", default=None)
_default: Device | None = None  # from the environment, read once


def current_device() -> Device:
    """Return the device on which creation functions make their arrays.

    It is the one given to `use_device` in this context, else the one named by the environment
    variable GPUGRAD_DEVICE when it is first needed, else the CPU.

    Raises
    ------
    ParameterError
        GPUGRAD_DEVICE names no device.
    DeviceNotAvailableError
        GPUGRAD_DEVICE names a device that this machine does not have.
    """
    chosen = _chosen.get()
    return chosen if chosen is not None else _default_device()


def _default_device() -> Device:
    global _default
    if _default is None:
        name = os.environ.get(ENVIRONMENT_VARIABLE, "").strip() or "cpu"
        try:
            _default = _require(_parse_name(name))
        except (ParameterError, DeviceNotAvailableError) as error:
            raise type(error)(f"environment variable {ENVIRONMENT_VARIABLE}: {error}") from None
    return _default


class use_device:
    """Make `device` the current one, for good or for the length of a `with` block.

    The choice belongs to the context (contextvars): other threads keep theirs.

    Parameters
    ----------
    device : str, Device or cupy.cuda.Device

    Raises
    ------
    ParameterError
        `device` names no device.
    DeviceNotAvailableError
        This machine does not have it.

    Examples
    --------
    >>> from gpugrad.backend.array_module import current_device, use_device
    >>> with use_device("cpu"):
    ...     print(current_device())
    cpu
    """

    def __init__(self, device: Any) -> None:
        self.device = _require(parse_device(device))
        self._token: Token[Device | None] | None = _chosen.set(self.device)

    def __enter__(self) -> Device:
        return self.device

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _chosen.reset(self._token)
            self._token = None


def module_for(device: Any = None) -> Any:
    """Return the array library of a device (None: the current one): `numpy` or `cupy`.

    Raises
    ------
    DeviceNotAvailableError
        This machine does not have the device.
    """
    where = parse_device(device)
    if where.kind == "cpu":
        return np
    _require(where)
    return cupy()


def on(device: Any = None) -> AbstractContextManager[Any]:
    """Return a context manager within which CuPy works on `device`; on the CPU it does nothing."""
    where = parse_device(device)
    if where.kind == "cpu":
        return nullcontext()
    _require(where)
    return cupy().cuda.Device(where.index)


# ------------------------------------------------------------------------------- across the bus


def to_device(x: Any, device: Any = None) -> Any:
    """Return the array on a device: itself if it is there, otherwise a copy.

    Parameters
    ----------
    x : array, scalar or nested sequence
        A sequence or scalar becomes an array as `numpy.asarray` makes it.
    device : None, str, Device or cupy.cuda.Device
        None is the current device.

    Raises
    ------
    DeviceNotAvailableError
        This machine does not have the device.
    """
    where = parse_device(device)
    raw, library = _classify(x)
    if where.kind == "cpu":
        return np.asarray(raw) if library is None or library is np else raw.get()
    if library is not None and library is not np and int(raw.device.id) == where.index:
        return raw
    with on(where):
        return cupy().asarray(raw if library is not None else np.asarray(raw))


def asnumpy(x: Any) -> np.ndarray:
    """Return the array (or a Tensor's array) on the host: itself if it is there, else a copy."""
    raw, library = _classify(x)
    return np.asarray(raw) if library is None or library is np else raw.get()


# -------------------------------------------------------------------------------------- a report


class FoundDevice(NamedTuple):
    """A GPU as it presents itself: name, compute capability ("9.0"), memory in bytes."""

    device: Device
    name: str
    compute_capability: str
    memory: int


class DeviceReport(NamedTuple):
    """What there is to compute on.

    Attributes
    ----------
    devices : tuple of FoundDevice
        The GPUs, in CuPy's order.
    cupy_version : str or None
        None where CuPy is not installed or does not load.
    reason : str or None
        Why there is no GPU; None where there is one.
    """

    devices: tuple[FoundDevice, ...]
    cupy_version: str | None
    reason: str | None


def describe_devices() -> DeviceReport:
    """Return the GPUs found and the CuPy version, or the reason why there is none; never raises."""
    module, count, reason = _look_for_cupy()
    if module is None or reason is not None:
        return DeviceReport((), getattr(module, "__version__", None), reason)
    found = []
    for index in range(count):
        properties = module.cuda.runtime.getDeviceProperties(index)
        name = properties["name"]
        found.append(
            FoundDevice(
                device=Device("cuda", index),
                name=name.decode() if isinstance(name, bytes) else str(name),
                compute_capability=f"{properties['major']}.{properties['minor']}",
                memory=int(properties["totalGlobalMem"]),
            )
        )
    return DeviceReport(tuple(found), str(module.__version__), None)


def _forget() -> None:
    """Forget the CuPy found and the default device, as if freshly imported (for tests)."""
    global _verified_cupy, _default
    _verified_cupy = _default = None
    _modules.clear()
    _modules[np.ndarray] = np
