"""The stand-in's module: every name that CuPy has, with CuPy's parameters.

A function is NumPy's, called if the arguments fit CuPy's signature and no host array is among
them. A few are written out below. Names that CuPy has and the tests do not need raise
NotImplementedError when called; names that CuPy lacks are missing.
"""

import inspect
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.fake_cupy import cuda
from tests.fake_cupy.array import FUNCTIONS, check_device, convert, ndarray, traffic, view, wrap
from tests.fake_cupy.surface import signature, table
from tests.fake_cupy.ufuncs import matmul, ufunc

# Functions that call a method of their first argument: a list or a scalar has no such method.
_CALL_A_METHOD = frozenset(
    """
    all any argmax argmin argsort clip cumprod cumsum diagonal max mean min nonzero prod ravel
    repeat reshape round sort squeeze std sum swapaxes take trace transpose var where
    """.split()
)
# CuPy answers these on the GPU, NumPy with a Python object.
_ANSWERED_ON_DEVICE = frozenset(("allclose", "array_equal", "array_equiv", "count_nonzero"))
# CuPy's name for a parameter, where NumPy's differs.
_RENAMED = {"reshape": {"newshape": "shape"}, "transpose": {}}


def _no_host_array(x: Any) -> Any:
    """Return `x` with device arrays replaced by what stands behind them; refuse host arrays."""
    array = convert(x)
    if array is not None:
        return check_device(array)._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list | tuple):
        return type(x)(map(_no_host_array, x))
    return x


def _arrays_in(args: Any) -> Any:
    for x in args:
        if isinstance(x, ndarray):
            yield x
        elif isinstance(x, list | tuple):
            yield from _arrays_in(x)


def _as_device(result: Any, sources: list[ndarray]) -> Any:
    """Return NumPy's result as CuPy would give it: arrays of its own, views with their base."""
    if isinstance(result, np.ndarray):
        for x in sources:
            if result is x._host:
                return x
            if np.may_share_memory(result, x._host):
                return view(x, result)
        return wrap(result)
    if isinstance(result, np.generic):
        return wrap(result)
    if isinstance(result, list | tuple):
        made = [_as_device(x, sources) for x in result]
        return made if isinstance(result, list) else tuple(made)
    return result


def _from_numpy(name: str, function: Any, parameters: Any) -> Any:
    declared = signature(parameters)
    renamed = _RENAMED.get(name, {})

    def call(*args: Any, **kwargs: Any) -> Any:
        if declared is not None:
            declared.bind(*args, **kwargs)
        if name in _CALL_A_METHOD and args and not isinstance(args[0], ndarray | np.ndarray):
            raise AttributeError(f"'{type(args[0]).__name__}' object has no attribute '{name}'")
        out = kwargs.get("out")
        sources = list(_arrays_in((*args, *kwargs.values())))
        hosts = [_no_host_array(x) for x in args]
        named = {renamed.get(key, key): _no_host_array(x) for key, x in kwargs.items()}
        with np.errstate(all="ignore"):
            result = function(*hosts, **named)
        if out is not None:
            return out
        if name in _ANSWERED_ON_DEVICE:
            return wrap(np.asarray(result))
        return _as_device(result, sources)

    call.__name__ = call.__qualname__ = name
    if declared is not None:
        call.__signature__ = declared  # type: ignore[attr-defined]
    return call


def _not_offered(path: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"the stand-in for CuPy has no {path}")

    call.__name__ = path.rpartition(".")[2]
    return call


# ------------------------------------------------------------------------------- written out here


def _nested(obj: Any) -> Any:
    array = convert(obj)
    if array is not None:
        return check_device(array)._host
    return [_nested(x) for x in obj] if isinstance(obj, list | tuple) else obj


def array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    if subok:
        raise NotImplementedError
    given = convert(obj)
    if given is not None and not copy and (dtype is None or given.dtype == np.dtype(dtype)):
        # From another device it is always a copy.
        if given._device_id == cuda.current_device_id() and given.ndim >= ndmin:
            if order not in ("C",) or given._host.flags.c_contiguous:
                return given
    if given is None:
        traffic.to_device += 1
        host = np.array(_nested(obj), dtype, order=order or "K", ndmin=ndmin)
    else:
        host = np.array(given._host, dtype, order=order or "K", ndmin=ndmin)
    return wrap(host)


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    return array(a, dtype, bool(copy), order or "K")


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    made = array(a, dtype, False, "C")
    return made if made.ndim else made.reshape((1,))


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    if isinstance(a, ndarray):
        return a.get(order=order, out=out)
    return np.asarray(a, order=order)  # type: ignore[call-overload]


def from_dlpack(x: Any, /, *, device: Any = None, copy: Any = None) -> ndarray:
    if x.__dlpack_device__()[0] != 2:
        raise NotImplementedError("the stand-in for CuPy imports device memory only")
    array = x.__dlpack__(max_version=(1, 0)).array
    return array.copy() if copy else wrap(array._host, base=array)


def get_array_module(*args: Any) -> Any:
    return FUNCTIONS["module"] if any(isinstance(x, ndarray) for x in args) else np


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def empty_like(
    prototype: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    shape = prototype.shape if shape is None else shape
    return ndarray(shape, prototype.dtype if dtype is None else dtype)


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if not isinstance(condition, ndarray | np.ndarray):
        raise AttributeError(f"'{type(condition).__name__}' object has no attribute 'astype'")
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return FUNCTIONS["nonzero"](condition)
    mask = _no_host_array(condition).astype(bool)
    for branch in (x, y):  # CuPy's kernel asks its operands, as every ufunc
        if hasattr(branch, "__cupy_override_elementwise_kernel__"):
            kernel = SimpleNamespace(name="cupy_where", nin=3)
            return branch.__cupy_override_elementwise_kernel__(kernel, wrap(mask), x, y)
    for branch in (x, y):
        if convert(branch) is None and not np.isscalar(branch):
            raise TypeError(f"Unsupported type {type(branch)}")
    return wrap(np.where(mask, _no_host_array(x), _no_host_array(y)))


def take(a: Any, indices: Any, axis: Any = None, out: Any = None) -> ndarray:
    n = a.size if axis is None else a.shape[axis]
    places = indices._host if isinstance(indices, ndarray) else np.asarray(indices)
    if n == 0 and places.size:
        raise IndexError("cannot do a non-empty take from an empty axes.")
    result = np.take(a._host, places % max(n, 1), axis)
    if out is None:
        return wrap(result)
    if out.dtype != a.dtype:
        raise TypeError("Output dtype mismatch")
    if out.shape != result.shape:
        raise ValueError("Output shape mismatch")
    out._host[...] = result
    return out


def take_along_axis(a: Any, indices: Any, axis: Any) -> ndarray:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    n = a.size if axis is None else a.shape[axis]
    return wrap(np.take_along_axis(a._host, indices._host % max(n, 1), axis))


def clip(a: Any, a_min: Any, a_max: Any, out: Any = None) -> ndarray:
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    result = np.clip(a._host, _no_host_array(a_min), _no_host_array(a_max))
    if out is None:
        return wrap(result)
    out._host[...] = result
    return out


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    if isinstance(src, np.ndarray) and src.size != 1:
        raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
    source = src._host if isinstance(src, ndarray) else src
    mask = True if where is None else _no_host_array(where)
    with np.errstate(all="ignore"):
        np.copyto(dst._host, source, casting=casting, where=mask)  # type: ignore[call-overload]


def concatenate(
    tup: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> ndarray:
    if not tup:
        raise ValueError("Cannot concatenate from empty tuple")
    if not all(isinstance(x, ndarray) for x in tup):
        raise TypeError("Only cupy arrays can be concatenated")
    if axis is not None and not all(x.ndim for x in tup):
        raise TypeError("zero-dimensional arrays cannot be concatenated")
    hosts = [check_device(x)._host for x in tup]
    result = np.concatenate(hosts, axis, dtype=dtype, casting=casting)  # type: ignore[call-overload]
    if out is None:
        return wrap(result)
    out._host[...] = result
    return out


def einsum(*operands: Any, **kwargs: Any) -> ndarray:
    dtype = kwargs.pop("dtype", None)
    optimize = kwargs.pop("optimize", False)
    if kwargs:
        raise TypeError(f"Did not understand the following kwargs: {list(kwargs)}")
    hosts = [_no_host_array(x) for x in operands]
    result = np.asarray(np.einsum(*hosts, dtype=dtype, optimize=optimize))
    return _as_device(result, list(_arrays_in(operands)))  # of one operand perhaps a view


def broadcast_to(array: Any, shape: Any) -> ndarray:
    host = _no_host_array(array)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    strides = np.broadcast_to(host, shape).strides
    return view(array, np.lib.stride_tricks.as_strided(host, shape, strides))  # writable, as CuPy's


def as_strided(x: Any, shape: Any = None, strides: Any = None) -> ndarray:
    return ndarray(
        x.shape if shape is None else tuple(shape),
        x.dtype,
        x.data,
        x.strides if strides is None else tuple(strides),
    )


def _unlooked_at(name: str) -> Any:
    """A function of cupy.linalg that does not wait to see that a matrix has no inverse or root."""
    function = getattr(np.linalg, name)

    def call(a: Any, b: Any = None) -> ndarray:
        if b is not None and b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
            raise ValueError("a must have (..., M, M) shape and b must have (..., M, K)")
        hosts = [_no_host_array(x) for x in (a, b) if x is not None]
        try:
            return wrap(function(*hosts))
        except np.linalg.LinAlgError as error:
            if "Singular" not in str(error) and "positive definite" not in str(error):
                raise
        return wrap(np.full_like(hosts[-1], np.nan))

    call.__name__ = name
    return call


_WRITTEN = {
    f.__name__: f
    for f in (
        array,
        asarray,
        ascontiguousarray,
        asnumpy,
        broadcast_to,
        clip,
        concatenate,
        copyto,
        einsum,
        empty,
        empty_like,
        from_dlpack,
        get_array_module,
        take,
        take_along_axis,
        where,
    )
} | {
    "RawKernel": cuda.RawKernel,
    "RawModule": cuda.RawModule,
    "asanyarray": asarray,
    "get_default_memory_pool": cuda.get_default_memory_pool,
    "matmul": matmul(),
    "ndarray": ndarray,
    "ufunc": ufunc,
}


def build() -> ModuleType:
    """Return a new module object with the whole surface."""
    module = ModuleType("cupy", "A stand-in for CuPy built over NumPy.")
    module.__version__ = table()["version"]  # type: ignore[attr-defined]
    module.__path__ = []  # `import cupy.cuda` looks for one
    _fill(module, table()["cupy"], _WRITTEN, np)
    _submodule(module, "cuda", cuda.OFFERED, None)
    looked_over = {name: _unlooked_at(name) for name in ("cholesky", "inv", "solve")}
    _submodule(module, "linalg", looked_over, np.linalg)
    _submodule(module, "random", {}, None)
    _submodule(module, "fft", {}, np.fft)
    exceptions = ModuleType("cupy.exceptions")
    for name in table()["exceptions"]:
        setattr(exceptions, name, getattr(np.exceptions, name, Exception))
    module.exceptions = exceptions  # type: ignore[attr-defined]
    module.AxisError = np.exceptions.AxisError  # type: ignore[attr-defined]
    lib = ModuleType("cupy.lib")
    lib.stride_tricks = ModuleType("cupy.lib.stride_tricks")  # type: ignore[attr-defined]
    lib.stride_tricks.as_strided = as_strided  # type: ignore[attr-defined]
    module.lib = lib  # type: ignore[attr-defined]
    FUNCTIONS["module"] = module
    FUNCTIONS.update({k: v for k, v in vars(module).items() if not k.startswith("_")})
    FUNCTIONS["Device"] = cuda.Device
    return module


def _submodule(module: ModuleType, name: str, written: dict[str, Any], numpy: Any) -> None:
    part = ModuleType(f"cupy.{name}")
    _fill(part, table()[name], written, numpy)
    setattr(module, name, part)


def _fill(module: ModuleType, rows: dict[str, Any], written: dict[str, Any], numpy: Any) -> None:
    for name, (kind, *details) in rows.items():
        if name in written:
            value = written[name]
        elif kind == "numpy":
            value = vars(np)[name]
        elif kind == "ufunc" and numpy is np and callable(getattr(np, name, None)):
            value = ufunc(name, *details)
        elif kind == "module":
            continue
        elif kind == "value":
            value = getattr(numpy, name, None)
        elif kind == "function" and inspect.isroutine(vars(numpy).get(name) if numpy else None):
            value = _from_numpy(name, getattr(numpy, name), details[0])
        else:
            value = vars(numpy).get(name) if numpy is not None else None
            if kind == "class" and isinstance(value, type) and issubclass(value, Exception):
                pass
            elif kind == "function" and callable(value):
                value = _from_numpy(name, value, details[0])
            else:
                value = _not_offered(f"{module.__name__}.{name}")
        setattr(module, name, value)
