"""Functions that make tensors from numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy as array_asnumpy
from gpugrad.backend.array_module import get_array_module, module_for, on, to_device
from gpugrad.errors import composite, explain
from gpugrad.graph.vertex import leaf
from gpugrad.ops.comparison import raw_of
from gpugrad.tensor import Tensor, as_operand, resolve_constant, wrap

__all__ = [
    "arange",
    "asarray",
    "asnumpy",
    "astensor",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "geomspace",
    "identity",
    "linspace",
    "logspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]


def tensor(
    arr_like: Any,
    dtype: Any = None,
    *,
    constant: bool | None = None,
    copy: bool = True,
    ndmin: int = 0,
    device: Any = None,
) -> Tensor:
    """Make a tensor from numbers, an array or another tensor.

    Parameters
    ----------
    arr_like : array_like
        A CuPy array stays on its GPU.
    dtype : dtype, optional
    constant : bool, optional
        True: gradients stop here. Integers and bools are always constant.
    copy : bool, optional
        False: share memory with `arr_like` where possible; a tensor that needs no change is
        returned as it is.
    ndmin : int, optional
        The least number of dimensions, made up with axes of length 1 in front.
    device : str or Device, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; numbers and sequences go to the current device.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.tensor([1, 2], dtype="float32")
    Tensor([1., 2.], dtype=float32)
    """
    if isinstance(arr_like, Tensor) and not copy and device is None:
        same = dtype is None or np.dtype(dtype) == arr_like.dtype
        if same and constant in (None, arr_like.constant):
            missing = ndmin - arr_like.ndim
            return arr_like[(None,) * missing] if missing > 0 else arr_like
    if not hasattr(arr_like, "dtype"):
        try:
            arr_like = as_operand("tensor", arr_like)
        except ValueError as error:
            explain(error, "tensor")
            raise
        if device is None and not hasattr(arr_like, "get"):
            array = np.array(arr_like, dtype=dtype)
            return Tensor(
                to_device(array, None), constant=constant, copy=False, ndmin=ndmin
            )._as_private()
    return Tensor(arr_like, dtype=dtype, constant=constant, copy=copy, ndmin=ndmin, device=device)


def astensor(t: Any, dtype: Any = None, *, constant: bool | None = None) -> Tensor:
    """`t` itself if it is a tensor that needs no change, else a tensor without copying."""
    return tensor(t, dtype, constant=constant, copy=False)


def asarray(a: Any, dtype: Any = None, order: Any = None) -> Any:
    """The array of a tensor, or `a` as an array: NumPy's or CuPy's, without leaving its device."""
    data = raw_of(a)
    return get_array_module(data).asarray(data, dtype=dtype, order=order)


def asnumpy(a: Any) -> np.ndarray:
    """The data of a tensor or array on the host, copied there if they are on a GPU."""
    return array_asnumpy(raw_of(a))


def _number(function: str, x: Any) -> Any:
    """What a created array is made from: a gradient would end there, so no variable."""
    if not isinstance(x, Tensor):
        return x
    if not x.constant:
        raise TypeError(
            f"{function}: got a tensor that takes gradients, expected numbers; build the result "
            "from operations, or pass tensor.data"
        )
    return x.data


def _made(word: str, *args: Any, constant: bool | None, device: Any, **options: Any) -> Tensor:
    numbers = [_number(word, x) for x in args]
    options = {name: _number(word, x) for name, x in options.items()}
    with on(device):
        try:
            data = getattr(module_for(device), word)(*numbers, **options)
        except Exception as error:
            explain(error, word)
            raise
    return _fresh(word, data, constant)


def _fresh(function: str, data: Any, constant: bool | None) -> Tensor:
    """A tensor of an array that was just made."""
    if constant is not None and not isinstance(constant, bool):
        raise TypeError(f"{function}: constant is {constant!r}, expected True, False or None")
    return wrap(leaf(data, resolve_constant(function, data.dtype, constant), exposed=False))


def zeros(
    shape: Any, dtype: Any = np.float32, *, constant: bool | None = None, device: Any = None
) -> Tensor:
    """A tensor of zeros."""
    return _made("zeros", shape, dtype=dtype, constant=constant, device=device)


def ones(
    shape: Any, dtype: Any = np.float32, *, constant: bool | None = None, device: Any = None
) -> Tensor:
    """A tensor of ones."""
    return _made("ones", shape, dtype=dtype, constant=constant, device=device)


def empty(
    shape: Any, dtype: Any = np.float32, *, constant: bool | None = None, device: Any = None
) -> Tensor:
    """A tensor whose elements are whatever the memory held."""
    return _made("empty", shape, dtype=dtype, constant=constant, device=device)


def full(
    shape: Any,
    fill_value: Any,
    dtype: Any = None,
    *,
    constant: bool | None = None,
    device: Any = None,
) -> Tensor:
    """A tensor whose elements all are `fill_value`."""
    return _made("full", shape, fill_value, dtype=dtype, constant=constant, device=device)


def arange(*args: Any, constant: bool | None = None, device: Any = None, **options: Any) -> Tensor:
    """Numbers from `start` (0) up to, not including, `stop`, in steps of `step` (1)."""
    return _made("arange", *args, constant=constant, device=device, **options)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
    *,
    constant: bool | None = None,
    device: Any = None,
) -> Tensor:
    """`num` numbers at equal distances from `start` to `stop`."""
    return _made(
        "linspace",
        start,
        stop,
        num=num,
        endpoint=endpoint,
        dtype=dtype,
        axis=axis,
        constant=constant,
        device=device,
    )


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: Any = None,
    axis: int = 0,
    *,
    constant: bool | None = None,
    device: Any = None,
) -> Tensor:
    """`num` numbers from ``base**start`` to ``base**stop``, neighbours in equal proportion."""
    options = {"num": num, "endpoint": endpoint, "base": base, "dtype": dtype, "axis": axis}
    return _made("logspace", start, stop, constant=constant, device=device, **options)


@composite
def geomspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
    *,
    constant: bool | None = None,
    device: Any = None,
) -> Tensor:
    """`num` numbers from `start` to `stop`, neighbours in equal proportion.

    Raises
    ------
    ValueError
        One of the ends is 0.
    """
    ends = _number("geomspace", start), _number("geomspace", stop)
    # CuPy has no geomspace: the numbers, which are few, are made on the host and taken there
    data = np.geomspace(*ends, num=num, endpoint=endpoint, dtype=dtype, axis=axis)
    return _fresh("geomspace", to_device(data, device), constant)


def eye(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: Any = float,
    *,
    constant: bool | None = None,
    device: Any = None,
) -> Tensor:
    """A matrix with ones on the k-th diagonal and zeros elsewhere."""
    return _made("eye", N, M, k, dtype=dtype, constant=constant, device=device)


def identity(
    n: int, dtype: Any = float, *, constant: bool | None = None, device: Any = None
) -> Tensor:
    """The n by n unit matrix."""
    return eye(n, dtype=dtype, constant=constant, device=device)


def _like(
    word: str, other: Any, dtype: Any, shape: Any, constant: bool | None, *fill: Any
) -> Tensor:
    function = f"{word}_like"
    data = asarray(other)
    xp = get_array_module(data)
    shape = data.shape if shape is None else shape
    numbers = [_number(function, x) for x in fill]
    try:
        made = getattr(xp, word)(shape, *numbers, dtype=data.dtype if dtype is None else dtype)
    except Exception as error:
        explain(error, function)
        raise
    if constant is None and made.dtype.kind == "f":
        constant = other.constant if isinstance(other, Tensor) else True
    return _fresh(function, made, constant)


def zeros_like(
    other: Any, dtype: Any = None, shape: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Zeros of the shape, dtype and device of `other`."""
    return _like("zeros", other, dtype, shape, constant)


def ones_like(
    other: Any, dtype: Any = None, shape: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Ones of the shape, dtype and device of `other`."""
    return _like("ones", other, dtype, shape, constant)


def empty_like(
    other: Any, dtype: Any = None, shape: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Uninitialised memory of the shape, dtype and device of `other`."""
    return _like("empty", other, dtype, shape, constant)


def full_like(
    other: Any,
    fill_value: Any,
    dtype: Any = None,
    shape: Any = None,
    constant: bool | None = None,
) -> Tensor:
    """`fill_value` in the shape, dtype and device of `other`."""
    return _like("full", other, dtype, shape, constant, fill_value)
