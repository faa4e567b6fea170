"""Sums, means and extremes over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.graph.op import Op, operation
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = ["amax", "amin", "max", "mean", "min", "sum"]

Axis = int | tuple[int, ...] | None


def _axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _unreduce(xp: Any, g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """The cotangent of a reduction, with the reduced axes put back at length 1."""
    if keepdims or g.ndim == x.ndim:
        return g
    axes = set(_axes(x.ndim, axis))
    return xp.reshape(g, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _sum_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return _unreduce(xp, g, x, axis, keepdims)


def _mean_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    count = 1
    for a in _axes(x.ndim, axis):
        count *= x.shape[a]
    return _unreduce(xp, g, x, axis, keepdims) / count if count else xp.zeros_like(x)


def _first(x: Any, axis: Axis, word: str) -> Any:
    """A mask with one True in each reduced block: the first of its extremes, a nan before all."""
    raw = namespace_of(get_array_module(x))
    x = x.data if isinstance(x, Tensor) else x
    axes = _axes(x.ndim, axis)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    blocks = raw.transpose(x, kept + axes)
    shape = tuple(blocks.shape)
    flat = raw.reshape(blocks, (*shape[: len(kept)], int(np.prod(shape[len(kept) :]))))
    place = raw.expand_dims(getattr(raw, word)(flat, axis=-1), -1)
    mask = raw.reshape(raw.arange(flat.shape[-1]) == place, shape)
    return raw.transpose(mask, tuple(int(i) for i in np.argsort(kept + axes)))


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


@operation("max", _extreme_rule("argmax"))
def MAX(xp: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return xp.max(x, axis=axis, keepdims=keepdims)


@operation("min", _extreme_rule("argmin"))
def MIN(xp: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return xp.min(x, axis=axis, keepdims=keepdims)


def _reduce(
    op: Op, x: Any, axis: Any, keepdims: bool, constant: bool | None, out: Any, dtype: Any
) -> Tensor:
    if not isinstance(keepdims, bool | np.bool_):
        # NumPy's third positional argument is dtype (sum, mean) or out (max, min)
        raise TypeError(f"{op.name}: keepdims is {keepdims!r}, expected True or False")
    if isinstance(axis, list):
        axis = tuple(axis)
    if dtype is not None:
        x = astype(x, dtype)
    return call(op, (x,), {"axis": axis, "keepdims": bool(keepdims)}, constant=constant, out=out)


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


def _astype_rule(xp: Any, g: Any, y: Any, x: Any, *, dtype: Any) -> Any:
    return g


@operation("cast", _astype_rule)
def CAST(xp: Any, x: Any, *, dtype: Any) -> Any:
    return xp.asarray(x).astype(dtype)


def astype(x: Any, dtype: Any) -> Tensor:
    """`x` in another dtype, within the graph (the method ``Tensor.astype`` leaves the graph)."""
    return call(CAST, (x,), {"dtype": np.dtype(dtype)})
