"""Functions that put elements in order, and what is found from the order."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import composite
from gpugrad.graph.op import operation
from gpugrad.ops.comparison import array_answer, raw_of
from gpugrad.ops.indexing import along, getitem, take_along_axis, where
from gpugrad.ops.reductions import mean
from gpugrad.ops.shaping import as_tensor, expand_dims, moveaxis, ravel, reshape
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = ["argsort", "median", "partition", "sort"]


def _sort_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: int) -> Any:
    data = raw_of(x)
    raw = namespace_of(get_array_module(data))
    order = raw.argsort(data, axis=axis)
    # element i went to place rank[i]: its cotangent is fetched there, nothing is added up
    rank = raw.empty_like(order)
    numbers = raw.arange(data.shape[axis]).reshape((-1,) + (1,) * (data.ndim - axis - 1))
    rank[along(data.shape, order, axis)] = numbers
    return xp.take_along_axis(g, rank, axis)


@operation("sort", _sort_rule)
def SORT(xp: Any, x: Any, *, axis: int) -> Any:
    return xp.sort(x, axis=axis)


def sort(
    a: Any, axis: int | None = -1, kind: str | None = None, *, constant: bool | None = None
) -> Tensor:
    """A copy of `a` in ascending order along `axis`, nan last.

    Parameters
    ----------
    a : array_like
    axis : int, optional
        None: `a` is taken as one axis.
    kind : str, optional
        One of NumPy's names; it makes no difference to the result.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        The axis does not exist.

    Notes
    -----
    Where elements are equal the sorted array has kinks; their cotangents are given to them in any
    order.
    """
    _check_kind("sort", kind)
    x = ravel(a) if axis is None else as_tensor("sort", a)
    axis = normalize_axis_index(0 if axis is None else axis, x.ndim, "sort")
    return call(SORT, (x,), {"axis": axis}, constant=constant)


def argsort(a: Any, axis: int | None = -1, kind: str | None = None) -> Any:
    """The indices that sort `a` along `axis`: an array, without gradient."""
    _check_kind("argsort", kind)
    if axis is None:
        a, axis = ravel(a), 0
    return array_answer("argsort", a, axis=axis, kind=kind)


def _check_kind(function: str, kind: Any) -> None:
    if kind is not None and str(kind).lower()[:1] not in ("q", "h", "m", "s"):
        raise ValueError(
            f'{function}: kind is {kind!r}, expected "quicksort", "heapsort", "mergesort" or '
            '"stable"'
        )


def _places(kth: Any, n: int) -> list[int]:
    """`kth` as a list of places in an axis of length n, counted from its beginning."""
    found = []
    for k in (
        kth if isinstance(kth, list | tuple | range) or getattr(kth, "ndim", False) else (kth,)
    ):
        place = operator.index(k)
        if not -n <= place < n:
            raise ValueError(f"partition: kth is {place}, out of range for {n} elements")
        found.append(place % n)
    return found


@composite
def partition(a: Any, kth: Any, axis: int | None = -1, *, constant: bool | None = None) -> Tensor:
    """A copy of `a` in which element `kth` along `axis` is where `sort` would have it.

    Before it are only elements that are not larger, after it only ones that are not smaller, in an
    order that is not specified.

    Parameters
    ----------
    a : array_like
    kth : int or sequence of int
    axis : int, optional
        None: `a` is taken as one axis.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        The axis or an element `kth` of it does not exist.
    TypeError
        `kth` is not an integer.
    """
    x = ravel(a) if axis is None else as_tensor("partition", a)
    axis = normalize_axis_index(0 if axis is None else axis, x.ndim, "partition")
    places = _places(kth, x.shape[axis])
    data = x.data
    order = get_array_module(data).argpartition(data, places, axis=axis)
    return take_along_axis(x, order, axis, constant=constant)


@composite
def median(
    a: Any, axis: Any = None, keepdims: bool = False, *, constant: bool | None = None
) -> Tensor:
    """The middle element over `axis`, the mean of the two middle ones of an even number.

    Parameters
    ----------
    a : array_like
    axis : int or sequence of int, optional
        All axes by default.
    keepdims : bool, optional
        Keep the reduced axes at length 1.
    constant : bool, optional

    Returns
    -------
    Tensor
        nan where an element is nan, and of no elements.

    Raises
    ------
    ValueError
        An axis does not exist or is named twice.
    """
    x = as_tensor("median", a)
    axes = tuple(range(x.ndim)) if axis is None else axis
    reduced = sorted(normalize_axis_tuple(axes, x.ndim, "median"))
    kept = x.ndim - len(reduced)
    x = moveaxis(x, tuple(reduced), tuple(range(kept, x.ndim)))
    n = prod(x.shape[kept:])
    line = sort(reshape(x, (*x.shape[:kept], n)))
    middle = mean(getitem(line, (..., slice(max((n - 1) // 2, 0), n // 2 + 1))), axis=-1)
    if n:
        # sorted, nan come last
        last = getitem(line, (..., -1))
        middle = where(last.data == last.data, middle, last)
    if keepdims:
        middle = expand_dims(middle, tuple(reduced))
    return getitem(middle, ..., constant=constant)
