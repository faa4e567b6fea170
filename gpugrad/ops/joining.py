"""Functions that make one tensor from several."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.errors import composite
from gpugrad.graph.op import operation
from gpugrad.ops.indexing import getitem
from gpugrad.ops.reductions import astype
from gpugrad.ops.shaping import (
    as_tensor,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    ravel,
    reshape,
)
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = [
    "array_split",
    "column_stack",
    "concatenate",
    "dstack",
    "hstack",
    "split",
    "stack",
    "vstack",
]


def _piece(i: int) -> Any:
    def rule(xp: Any, g: Any, y: Any, *xs: Any, axis: int) -> Any:
        axis %= y.ndim
        start = sum(x.shape[axis] for x in xs[:i])
        cut = (slice(None),) * axis + (slice(start, start + xs[i].shape[axis]),)
        return xp.getitem(g, cut)

    return rule


def _layer(i: int) -> Any:
    def rule(xp: Any, g: Any, y: Any, *xs: Any, axis: int) -> Any:
        return xp.getitem(g, (slice(None),) * (axis % y.ndim) + (i,))

    return rule


@operation("stack", variadic=_layer)
def STACK(xp: Any, *xs: Any, axis: int) -> Any:
    return xp.stack(xs, axis=axis)


@operation("concatenate", variadic=_piece)
def CONCATENATE(xp: Any, *xs: Any, axis: int) -> Any:
    return xp.concatenate(xs, axis=axis)


def _listed(function: str, tensors: Any) -> list[Any]:
    try:
        several = iter(tensors)
    except TypeError:
        raise TypeError(
            f"{function}: got {type(tensors).__name__}, expected a sequence of tensors"
        ) from None
    return list(several)


def concatenate(
    tensors: Sequence[Any],
    axis: int | None = 0,
    out: Any = None,
    dtype: Any = None,
    *,
    constant: bool | None = None,
) -> Tensor:
    """Join tensors along an axis they all have; ``axis=None`` flattens them first.

    Raises
    ------
    ValueError
        No tensor, or lengths that differ along another axis.
    TypeError
        No sequence, or both `out` and `dtype` are given.
    """
    parts = _listed("concatenate", tensors)
    if dtype is not None:
        if out is not None:
            raise TypeError("concatenate: got both out and dtype, expected one of them")
        parts = [astype(t, dtype) for t in parts]
    if axis is None:
        parts, axis = [ravel(t) for t in parts], 0
    return call(CONCATENATE, parts, {"axis": axis}, out=out, constant=constant)


def stack(
    tensors: Sequence[Any], axis: int = 0, out: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Join tensors of one shape along a new axis.

    Raises
    ------
    ValueError
        No tensor, or shapes that differ.
    TypeError
        No sequence.
    """
    parts = [as_tensor("stack", t) for t in _listed("stack", tensors)]
    shapes = {p.shape for p in parts}
    if len(shapes) != 1:
        raise ValueError(f"stack: got shapes {sorted(shapes)}, expected one shape")
    return call(STACK, parts, {"axis": axis}, out=out, constant=constant)


@composite
def hstack(tup: Sequence[Any], *, constant: bool | None = None) -> Tensor:
    """Join tensors along their second axis; vectors along their only one."""
    parts: list[Any] = [atleast_1d(t) for t in _listed("hstack", tup)]
    axis = 0 if parts and parts[0].ndim == 1 else 1
    return concatenate(parts, axis, constant=constant)


@composite
def vstack(tup: Sequence[Any], *, constant: bool | None = None) -> Tensor:
    """Join tensors along their first axis; vectors are rows."""
    return concatenate([atleast_2d(t) for t in _listed("vstack", tup)], 0, constant=constant)


@composite
def dstack(tup: Sequence[Any], *, constant: bool | None = None) -> Tensor:
    """Join tensors along their third axis, which `atleast_3d` gives to those that lack it."""
    return concatenate([atleast_3d(t) for t in _listed("dstack", tup)], 2, constant=constant)


@composite
def column_stack(tup: Sequence[Any], *, constant: bool | None = None) -> Tensor:
    """Join matrices side by side; vectors are columns."""
    parts = [as_tensor("column_stack", t) for t in _listed("column_stack", tup)]
    columns = [reshape(t, (t.size, 1)) if t.ndim < 2 else t for t in parts]
    return concatenate(columns, 1, constant=constant)


@composite
def array_split(
    ary: Any, indices_or_sections: Any, axis: int = 0, *, constant: bool | None = None
) -> list[Tensor]:
    """Cut `ary` into views along `axis`.

    Parameters
    ----------
    ary : array_like
    indices_or_sections : int or sequence of int
        The number of parts, of lengths that differ by at most 1, or the places of the cuts.
    axis : int, optional
    constant : bool, optional

    Returns
    -------
    list of Tensor

    Raises
    ------
    ValueError
        Fewer than one part.
    IndexError
        The axis does not exist.
    TypeError
        A place that is no integer.
    """
    x = as_tensor("array_split", ary)
    if not -x.ndim <= axis < x.ndim:
        raise IndexError(f"array_split: axis {axis} is out of range for {x.ndim} axes")
    axis %= x.ndim
    n = x.shape[axis]
    if np.ndim(indices_or_sections):
        inner = [operator.index(i) for i in indices_or_sections]
    else:
        parts = int(indices_or_sections)
        if parts < 1:
            raise ValueError(f"array_split: got {parts} sections, expected at least 1")
        lengths = [n // parts + (i < n % parts) for i in range(parts)]
        inner = [int(i) for i in np.cumsum(lengths)[:-1]]
    cuts = [0, *inner, n]
    head = (slice(None),) * axis
    return [
        getitem(x, (*head, slice(start, stop)), constant=constant) for start, stop in pairwise(cuts)
    ]


@composite
def split(
    ary: Any, indices_or_sections: Any, axis: int = 0, *, constant: bool | None = None
) -> list[Tensor]:
    """Cut `ary` into views along `axis`: equal ones, or at the places given; see `array_split`.

    Raises
    ------
    ValueError
        The axis cannot be cut into so many equal parts.
    """
    x = as_tensor("split", ary)
    if not np.ndim(indices_or_sections) and -x.ndim <= axis < x.ndim:
        parts = int(indices_or_sections)
        if parts > 0 and x.shape[axis] % parts:
            raise ValueError(
                f"split: axis {axis} has length {x.shape[axis]}, which is not a multiple of {parts}"
            )
    return array_split(x, indices_or_sections, axis, constant=constant)
