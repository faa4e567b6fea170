"""The stand-in's ndarray: a NumPy array behind CuPy's interface.

The host array is an attribute, not a base class: NumPy sees an object that refuses `__array__` and
takes part in `__array_ufunc__` and `__array_function__` as CuPy's arrays do.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from tests.fake_cupy import indexing
from tests.fake_cupy.device import current_device_id

# The module's functions by name, filled by functions.py: methods and operators look them up late.
FUNCTIONS: dict[str, Any] = {}


@dataclass
class Traffic:
    """How many arrays crossed the bus, so that a test can claim that none did."""

    to_host: int = 0
    to_device: int = 0


traffic = Traffic()

_SUPPORTED = "?bBhHiIlLqQefdFD"
_UNSET = object()


def supported(dtype: Any) -> np.dtype:
    """Return the dtype; ValueError for those that no GPU has."""
    dtype = np.dtype(dtype)
    if dtype.char not in _SUPPORTED:
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


class Flags:
    """An array's flags. A fresh object at each access: what is set on it is lost, as in CuPy."""

    def __init__(self, host: np.ndarray, owns: bool) -> None:
        self.c_contiguous = host.flags.c_contiguous
        self.f_contiguous = host.flags.f_contiguous
        self.owndata = owns

    @property
    def fnc(self) -> bool:
        return self.f_contiguous and not self.c_contiguous

    @property
    def forc(self) -> bool:
        return self.f_contiguous or self.c_contiguous

    def __getitem__(self, name: str) -> bool:
        try:
            return {
                "C_CONTIGUOUS": self.c_contiguous,
                "F_CONTIGUOUS": self.f_contiguous,
                "OWNDATA": self.owndata,
            }[name]
        except KeyError:
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags") from None


class MemoryPointer:
    """Where an array's data start: the address of the host memory that stands for the GPU's."""

    def __init__(self, host: np.ndarray, device_id: int) -> None:
        self.ptr = host.ctypes.data
        self.device_id = device_id
        self._host = host

    @property
    def device(self) -> Any:
        return FUNCTIONS["Device"](self.device_id)


@dataclass
class Capsule:
    """What stands for a DLPack capsule of device memory; `cupy.from_dlpack` opens it."""

    array: "ndarray"


def wrap(host: np.ndarray | np.generic, base: "ndarray | None" = None) -> "ndarray":
    """Return the device array over a host array's memory; `base` where it is a view."""
    x = object.__new__(ndarray)
    host = np.asarray(host)
    supported(host.dtype)
    x._host, x.base = host, base
    x._device_id = current_device_id() if base is None else base._device_id
    return x


def view(x: "ndarray", host: np.ndarray) -> "ndarray":
    """Return a view of `x` with the given host side."""
    return wrap(host, base=x if x.base is None else x.base)


def convert(x: Any) -> "ndarray | None":
    """Return the device array that `x` is or offers, or None."""
    if isinstance(x, ndarray):
        return x
    if hasattr(x, "__cupy_get_ndarray__"):
        return x.__cupy_get_ndarray__()
    return None


def check_device(x: "ndarray") -> "ndarray":
    """Return `x`; refuse it on another device than the current one (no peer access here)."""
    if x._device_id != current_device_id():
        raise ValueError(
            f"The device where the array resides ({x._device_id}) is different from the current "
            f"device ({current_device_id()}). Peer access is unavailable between these devices."
        )
    return x


class ndarray:
    """See `cupy.ndarray`."""

    __module__ = "cupy"
    __slots__ = ("__weakref__", "_device_id", "_host", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    _host: np.ndarray
    _device_id: int
    base: "ndarray | None"

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: Any = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        dtype = supported(dtype)
        if memptr is None:
            host = np.empty(shape, dtype, order=order)  # type: ignore[call-overload]
            host.fill(np.nan if dtype.kind in "fc" else 77)  # what is not written shows
        else:  # as_strided: a view that has no base
            start = memptr._host
            host = np.lib.stride_tricks.as_strided(start, shape, strides)
        self._host, self.base, self._device_id = host, None, current_device_id()

    # -- what it is

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host, self.base is None))
    data = property(lambda self: MemoryPointer(self._host, self._device_id))
    device = property(lambda self: FUNCTIONS["Device"](self._device_id))
    T = property(lambda self: view(self, self._host.T))
    mT = property(lambda self: view(self, self._host.mT))
    real = property(lambda self: view(self, self._host.real))
    imag = property(
        lambda self: (
            view(self, self._host.imag)
            if self.dtype.kind == "c"
            else wrap(np.zeros_like(self._host))
        )
    )
    flat = property(lambda self: FUNCTIONS["flatiter"](self))

    @shape.setter
    def shape(self, value: Any) -> None:
        self._host = view(self, self._host.reshape(value))._host

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": 1,
            "version": 3,
            "strides": None if self._host.flags.c_contiguous else self.strides,
            "data": (self._host.ctypes.data, False),
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, self._device_id)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Any = None,
        dl_device: Any = None,
        copy: Any = None,
    ) -> Any:
        return Capsule(self.copy() if copy else self)

    # -- over the bus

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        traffic.to_host += 1
        if out is None:
            return np.array(self._host, order=order)  # type: ignore[call-overload]
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if self.dtype != out.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if self.shape != out.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual: {out.shape}")
        out[...] = self._host
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual: {arr.shape}")
        traffic.to_device += 1
        self._host[...] = arr

    def __array__(self, dtype: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. "
                "Use a.any() or a.all()"
            )
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self._host)

    def __str__(self) -> str:
        return str(self._host)

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __reduce__(self) -> Any:
        return FUNCTIONS["array"], (self.get(order="A"),)

    # -- copies and views

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> "ndarray":
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        dtype = supported(dtype)
        if not copy and dtype == self.dtype:
            return self
        with np.errstate(all="ignore"):
            return wrap(self._host.astype(dtype, order=order))  # type: ignore[call-overload]

    def copy(self, order: str = "C") -> "ndarray":
        return wrap(self._host.copy(order))  # type: ignore[arg-type]

    def __copy__(self) -> "ndarray":
        return self.copy()

    def __deepcopy__(self, memo: Any) -> "ndarray":
        return self.copy()

    def view(self, dtype: Any = None, type: Any = None) -> "ndarray":
        return view(self, self._host.view() if dtype is None else self._host.view(dtype))

    def reshape(self, *shape: Any, order: str = "C") -> "ndarray":
        return FUNCTIONS["reshape"](self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes: Any) -> "ndarray":
        if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
            axes = axes[0]
        return view(self, self._host.transpose(axes or None))

    def fill(self, value: Any) -> None:
        if isinstance(value, ndarray):
            if value.shape != ():
                raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
            self._host.fill(value._host)
            return
        value = np.asarray(value, dtype=self.dtype)
        if value.shape != ():
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._host[...] = value

    def dot(self, b: Any, out: Any = None) -> "ndarray":
        return FUNCTIONS["dot"](self, b, out) if out is not None else FUNCTIONS["dot"](self, b)

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        self._host.sort(axis)

    def round(self, decimals: int = 0, out: Any = None) -> "ndarray":
        return FUNCTIONS["round"](self, decimals)

    def conj(self) -> "ndarray":
        return FUNCTIONS["conjugate"](self)

    conjugate = conj

    # -- indexing

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, index: Any) -> "ndarray":
        index, advanced = indexing.prepared(index, self.shape, ndarray)
        host = self._host[index]
        return wrap(host) if advanced else view(self, np.asarray(self._host[_keep_0d(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        index, advanced = indexing.prepared(index, self.shape, ndarray)
        source = convert(value)
        if source is not None:
            indexing.assign(self._host, index, check_device(source)._host)
        elif advanced:
            indexing.assign(self._host, index, indexing.scalar_for(value, self.dtype))
        else:
            view(self, self._host[_keep_0d(index)]).fill(value)

    # -- into NumPy's functions

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        operands = inputs
        if "out" in kwargs:
            out = kwargs["out"]
            if len(out) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            operands += out
            kwargs["out"] = out[0]
        function = FUNCTIONS.get(ufunc.__name__)
        if method != "__call__":
            function = getattr(function, method, None)
        if function is None:
            return NotImplemented
        for x in operands:
            if not (
                isinstance(x, ndarray | np.ndarray | np.generic | bool | int | float | complex)
                or hasattr(x, "__cuda_array_interface__")
                or hasattr(x, "__cupy_get_ndarray__")
            ):
                return NotImplemented
        if ufunc.__name__ in (
            "greater",
            "greater_equal",
            "less",
            "less_equal",
            "equal",
            "not_equal",
        ):
            inputs = tuple(
                x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs
            )
        return function(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        try:
            module = reduce(getattr, func.__module__.split(".")[1:], FUNCTIONS["module"])
            function = getattr(module, func.__name__)
        except AttributeError:
            return NotImplemented
        if function is func or not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        return function(*args, **kwargs)


def _keep_0d(index: Any) -> Any:
    """Return the index with `...` added, so that NumPy gives a 0-d view and not a scalar."""
    entries = index if isinstance(index, tuple) else (index,)
    return entries if any(entry is Ellipsis for entry in entries) else (*entries, Ellipsis)


# ------------------------------------------------------------------------------ operators, methods


def _defers_to(x: Any, y: Any) -> bool:
    """Whether `x op y` is left to `y` (NEP 13, then __array_priority__)."""
    override = getattr(y, "__array_ufunc__", _UNSET)
    if override is not _UNSET:
        return override is None
    return getattr(x, "__array_priority__", 0) < getattr(y, "__array_priority__", 0)


def _binary(name: str, reflected: bool) -> Any:
    ufunc = getattr(np, name)

    def method(self: ndarray, other: Any) -> Any:
        if isinstance(other, ndarray):
            return FUNCTIONS[name](other, self) if reflected else FUNCTIONS[name](self, other)
        if _defers_to(self, other):
            return NotImplemented
        return ufunc(other, self) if reflected else ufunc(self, other)

    return method


def _comparison(name: str) -> Any:
    ufunc = getattr(np, name)

    def method(self: ndarray, other: Any) -> Any:
        if isinstance(other, ndarray):
            return FUNCTIONS[name](self, other)
        if _defers_to(self, other):
            return NotImplemented
        if isinstance(other, np.ndarray) and other.ndim == 0:
            other = other.item()
        if name in ("equal", "not_equal") and (
            other is None or type(other).__eq__ is object.__eq__
        ):
            return wrap(np.full(self.shape, name == "not_equal"))
        return ufunc(self, other)

    return method


_ARITHMETIC = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "divmod": "divmod",
    "pow": "power",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "matmul": "matmul",
}
_COMPARISONS = {
    "lt": "less",
    "le": "less_equal",
    "eq": "equal",
    "ne": "not_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}
# Methods that are the function of the same name: their parameters after the array.
_METHODS = {
    "all": ("axis", "out", "keepdims"),
    "any": ("axis", "out", "keepdims"),
    "argmax": ("axis", "out", "dtype", "keepdims"),
    "argmin": ("axis", "out", "dtype", "keepdims"),
    "argsort": ("axis", "kind"),
    "clip": ("a_min", "a_max", "out"),
    "cumprod": ("axis", "dtype", "out"),
    "cumsum": ("axis", "dtype", "out"),
    "diagonal": ("offset", "axis1", "axis2"),
    "max": ("axis", "out", "keepdims"),
    "mean": ("axis", "dtype", "out", "keepdims"),
    "min": ("axis", "out", "keepdims"),
    "nonzero": (),
    "prod": ("axis", "dtype", "out", "keepdims"),
    "ravel": ("order",),
    "repeat": ("repeats", "axis"),
    "squeeze": ("axis",),
    "std": ("axis", "dtype", "out", "ddof", "keepdims"),
    "sum": ("axis", "dtype", "out", "keepdims"),
    "swapaxes": ("axis1", "axis2"),
    "take": ("indices", "axis", "out"),
    "trace": ("offset", "axis1", "axis2", "dtype", "out"),
    "var": ("axis", "dtype", "out", "ddof", "keepdims"),
}


def _method(name: str, parameters: tuple[str, ...]) -> Any:
    # ndarray.clip names its bounds min and max, the function a_min and a_max.
    public = tuple(p.removeprefix("a_") for p in parameters)

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        if len(args) > len(parameters):
            raise TypeError(f"{name}() takes at most {len(parameters)} positional arguments")
        given = dict(zip(public, args, strict=False))
        for key, value in kwargs.items():
            if key not in public or key in given:
                raise TypeError(f"{name}() got an unexpected keyword argument '{key}'")
            given[key] = value
        named = {parameters[public.index(key)]: value for key, value in given.items()}
        return FUNCTIONS[name](self, **named)

    method.__name__ = name
    return method


def _flatten(self: ndarray, order: str = "C") -> ndarray:
    return wrap(self._host.flatten(order))  # type: ignore[arg-type]


ndarray.flatten = _flatten  # type: ignore[attr-defined]
for _op, _name in _ARITHMETIC.items():
    setattr(ndarray, f"__{_op}__", _binary(_name, reflected=False))
    setattr(ndarray, f"__r{_op}__", _binary(_name, reflected=True))
    if _op not in ("divmod", "matmul"):

        def _inplace(self: ndarray, other: Any, _name: str = _name) -> ndarray:
            return FUNCTIONS[_name](self, other, self)

        setattr(ndarray, f"__i{_op}__", _inplace)
for _op, _name in _COMPARISONS.items():
    setattr(ndarray, f"__{_op}__", _comparison(_name))
for _op, _name in _UNARY.items():

    def _unary(self: ndarray, _name: str = _name) -> ndarray:
        return FUNCTIONS[_name](self)

    setattr(ndarray, f"__{_op}__", _unary)
for _name, _parameters in _METHODS.items():
    setattr(ndarray, _name, _method(_name, _parameters))
