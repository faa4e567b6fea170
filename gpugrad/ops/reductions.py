"""Sums, means and extremes over axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import composite
from gpugrad.graph.op import Op, operation
from gpugrad.ops.arithmetic import subtract
from gpugrad.ops.comparison import raw_of
from gpugrad.tensor import Tensor, resolve_constant
from gpugrad.ufunc import call

__all__ = ["amax", "amin", "max", "mean", "min", "prod", "ptp", "std", "sum", "var"]

Axis = int | tuple[int, ...] | None
_LARGEST_HALF = 65504  # larger numbers are infinite in float16


def _axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    if axis is None or not ndim:  # NumPy takes axis 0 and -1 for what has no axes
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def kept_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """`shape` with the reduced axes at length 1."""
    axes = _axes(len(shape), axis)
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _unreduce(xp: Any, g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """The cotangent of a reduction, with the reduced axes put back at length 1."""
    if keepdims or g.ndim == x.ndim or not g.ndim:
        return g
    return xp.reshape(g, kept_shape(x.shape, axis))


def _sum_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return _unreduce(xp, g, x, axis, keepdims)


def _count(x: Any, axis: Axis) -> int:
    """How many elements are reduced to one."""
    return math.prod(x.shape[a] for a in _axes(x.ndim, axis))


def _mean_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    count = _count(x, axis)
    if not count:
        return xp.zeros_like(x)
    if count > _LARGEST_HALF and g.dtype.itemsize == 2:
        g = xp.cast(g, np.float32)
    return _unreduce(xp, g, x, axis, keepdims) / count


def _weight(x: Any, axis: Axis, ddof: float) -> float:
    """What a sum of squared deviations is multiplied by."""
    count = _count(x, axis) - ddof
    # without degrees of freedom the value is nan or infinite, and there is no derivative
    return 1 / count if count > 0 else float("nan")


def _var_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, ddof: float, keepdims: bool) -> Any:
    if not x.size:
        return xp.zeros_like(x)
    deviation = x - xp.mean(x, axis=axis, keepdims=True)
    return _unreduce(xp, g, x, axis, keepdims) * deviation * (2 * _weight(x, axis, ddof))


def _std_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, ddof: float, keepdims: bool) -> Any:
    if not x.size:
        return xp.zeros_like(x)
    y = _unreduce(xp, y, x, axis, keepdims)
    # at a constant the root has no derivative: 0 is the smallest of its subgradients. Rounding of
    # the mean makes most constants deviate from it, so that y is not 0
    data = raw_of(x)
    raw = namespace_of(get_array_module(data))
    ends = [f(data, axis=axis, keepdims=True) for f in (raw.max, raw.min)]
    flat = raw.logical_or(raw_of(y) == 0, raw.equal(*ends))
    deviation = (x - xp.mean(x, axis=axis, keepdims=True)) / xp.where(flat, 1, y)
    slope = xp.where(flat, 0, deviation * _weight(x, axis, ddof))
    return _unreduce(xp, g, x, axis, keepdims) * slope


def normal(y: Any) -> bool:
    """Whether products can be divided by their factors: none is 0, nan, or near the limits.

    For products on a GPU the answer is waited for once.
    """
    y = raw_of(y)
    raw = namespace_of(get_array_module(y))
    limits = np.finfo(y.dtype)
    size = raw.absolute(y)
    return bool(raw.all((size >= limits.tiny) & (size <= limits.max)))


def before(xp: Any, x: Any) -> Any:
    """Products over the last axis of all elements that come before each: 1, x0, x0 x1, ..."""
    if not x.shape[-1]:
        return x
    first = xp.ones_like(xp.getitem(x, (..., slice(1))))
    rest = xp.cumprod(xp.getitem(x, (..., slice(-1))), axis=-1)
    return xp.concatenate((first, rest), axis=-1)


def _prod_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    if normal(y):
        return _unreduce(xp, g * y, x, axis, keepdims) / x
    # the product of all others, without a division: it is exact for any number of zeros
    axes = _axes(x.ndim, axis)
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    blocks = xp.transpose(x, order)
    flat = xp.reshape(blocks, (*blocks.shape[: x.ndim - len(axes)], _count(x, axis)))
    others = before(xp, flat) * xp.flip(before(xp, xp.flip(flat, -1)), -1)
    others = xp.transpose(xp.reshape(others, blocks.shape), _inverse(order))
    return _unreduce(xp, g, x, axis, keepdims) * others


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort(order))


def _first(x: Any, axis: Axis, word: str) -> Any:
    """A mask with one True in each reduced block: the first of its extremes, a nan before all."""
    x = raw_of(x)
    raw = namespace_of(get_array_module(x))
    axes = _axes(x.ndim, axis)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    blocks = raw.transpose(x, kept + axes)
    shape = tuple(blocks.shape)
    flat = raw.reshape(blocks, (*shape[: len(kept)], _count(x, axis)))
    place = raw.expand_dims(getattr(raw, word)(flat, axis=-1), -1)
    mask = raw.reshape(raw.arange(flat.shape[-1]) == place, shape)
    return raw.transpose(mask, _inverse(kept + axes))


def _extreme_rule(word: str) -> Any:
    def rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
        return xp.where(_first(x, axis, word), _unreduce(xp, g, x, axis, keepdims), 0)

    return rule


@operation("sum", _sum_rule)
def SUM(xp: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return xp.sum(x, axis=axis, keepdims=keepdims)


@operation("mean", _mean_rule)
def MEAN(xp: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return xp.mean(x, axis=axis, keepdims=keepdims)


@operation("prod", _prod_rule)
def PROD(xp: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return xp.prod(x, axis=axis, keepdims=keepdims)


@operation("var", _var_rule)
def VAR(xp: Any, x: Any, *, axis: Axis, ddof: float, keepdims: bool) -> Any:
    return xp.var(x, axis=axis, ddof=ddof, keepdims=keepdims)


@operation("std", _std_rule)
def STD(xp: Any, x: Any, *, axis: Axis, ddof: float, keepdims: bool) -> Any:
    return xp.std(x, axis=axis, ddof=ddof, keepdims=keepdims)


@operation("max", _extreme_rule("argmax"))
def MAX(xp: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return xp.max(x, axis=axis, keepdims=keepdims)


@operation("min", _extreme_rule("argmin"))
def MIN(xp: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return xp.min(x, axis=axis, keepdims=keepdims)


def _reduce(
    op: Op,
    x: Any,
    axis: Any,
    keepdims: bool,
    constant: bool | None,
    out: Any,
    dtype: Any,
    **params: Any,
) -> Tensor:
    if not isinstance(keepdims, int | np.bool_):
        # NumPy's third positional argument is dtype (sum, mean) or out (max, min)
        raise TypeError(f"{op.name}: keepdims is {keepdims!r}, expected True or False")
    if isinstance(axis, list):
        axis = tuple(axis)
    if dtype is not None:
        x = astype(x, dtype)
    params |= {"axis": axis, "keepdims": bool(keepdims)}
    return in_dtype(call(op, (x,), params, constant=constant, out=out), dtype, out)


def in_dtype(result: Tensor, dtype: Any, out: Any) -> Tensor:
    """A result in the dtype asked for: small integers have been added up in large ones."""
    if dtype is None or out is not None or result.dtype == dtype:
        return result
    return astype(result, dtype)


def sum(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    constant: bool | None = None,
    out: Any = None,
    dtype: Any = None,
) -> Tensor:
    """Sum over `axis`.

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool, optional
        Keep the reduced axes at length 1.
    constant : bool, optional
    out : Tensor or array, optional
    dtype : dtype, optional
        In which to add up.

    Returns
    -------
    Tensor
    """
    return _reduce(SUM, x, axis, keepdims, constant, out, dtype)


def mean(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    constant: bool | None = None,
    out: Any = None,
    dtype: Any = None,
) -> Tensor:
    """Arithmetic mean over `axis`; parameters as for `sum`."""
    return _reduce(MEAN, x, axis, keepdims, constant, out, dtype)


def max(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    constant: bool | None = None,
    out: Any = None,
) -> Tensor:
    """Largest element over `axis`; of equal ones the first takes the gradient."""
    return _reduce(MAX, x, axis, keepdims, constant, out, None)


def min(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    constant: bool | None = None,
    out: Any = None,
) -> Tensor:
    """Smallest element over `axis`; of equal ones the first takes the gradient."""
    return _reduce(MIN, x, axis, keepdims, constant, out, None)


amax = max
amin = min


@composite
def ptp(
    a: Any, axis: Axis = None, keepdims: bool = False, *, constant: bool | None = None
) -> Tensor:
    """Largest element minus the smallest over `axis`."""
    low = min(a, axis, keepdims)
    return subtract(max(a, axis, keepdims), low, constant=constant)


def prod(
    a: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    constant: bool | None = None,
    out: Any = None,
    dtype: Any = None,
) -> Tensor:
    """Product over `axis`; parameters as for `sum`.

    The gradient is exact, to any order, for any number of zeros.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([2.0, 0.0, 5.0])
    >>> gg.prod(x).backward()
    >>> x.grad
    array([ 0., 10.,  0.])
    """
    return _reduce(PROD, a, axis, keepdims, constant, out, dtype)


def var(
    x: Any,
    axis: Axis = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    constant: bool | None = None,
    out: Any = None,
    dtype: Any = None,
) -> Tensor:
    """Mean of the squared deviations from the mean over `axis`.

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int, optional
        All axes by default.
    ddof : float, optional
        The sum of N squared deviations is divided by ``N - ddof``; 1 gives the unbiased estimate
        of the variance of a population.
    keepdims : bool, optional
        Keep the reduced axes at length 1.
    constant : bool, optional
    out : Tensor or array, optional
    dtype : dtype, optional
        In which to compute.

    Returns
    -------
    Tensor
        nan or infinite, with a RuntimeWarning on the host, if ``N - ddof`` is not positive.
    """
    return _reduce(VAR, x, axis, keepdims, constant, out, dtype, ddof=ddof)


def std(
    x: Any,
    axis: Axis = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    constant: bool | None = None,
    out: Any = None,
    dtype: Any = None,
) -> Tensor:
    """Square root of the variance over `axis`; parameters as for `var`.

    Where all elements are equal the root has no derivative: the gradient there is 0, the smallest
    of its subgradients.
    """
    return _reduce(STD, x, axis, keepdims, constant, out, dtype, ddof=ddof)


def _astype_rule(xp: Any, g: Any, y: Any, x: Any, *, dtype: Any) -> Any:
    return g


@operation("cast", _astype_rule)
def CAST(xp: Any, x: Any, *, dtype: Any) -> Any:
    return xp.asarray(x).astype(dtype)


def astype(x: Any, dtype: Any) -> Tensor:
    """`x` in another dtype, within the graph (the method ``Tensor.astype`` leaves the graph)."""
    dtype = np.dtype(dtype)
    resolve_constant("astype", dtype, None)  # refuses complex numbers
    constant = None if dtype.kind == "f" else True
    return call(CAST, (x,), {"dtype": dtype}, constant=constant)
