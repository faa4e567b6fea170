"""Reading elements of a tensor, by index or by place, and choosing between two tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.errors import composite
from gpugrad.graph.op import operation
from gpugrad.mutation import PUT_VIEW, raw_index
from gpugrad.ops.comparison import raw_of
from gpugrad.ops.shaping import as_tensor, lined, moveaxis, ravel, transpose
from gpugrad.tensor import Tensor

__all__ = [
    "add_at",
    "diag",
    "diagflat",
    "diagonal",
    "flip",
    "fliplr",
    "flipud",
    "getitem",
    "put",
    "rot90",
    "take",
    "take_along_axis",
    "tril",
    "triu",
    "where",
]


def _getitem_rule(xp: Any, g: Any, y: Any, x: Any, *, index: Any) -> Any:
    return xp.add_at(x.shape, x.dtype, index, g)


@operation("getitem", _getitem_rule, may_view=True)
def GETITEM(xp: Any, x: Any, *, index: Any) -> Any:
    return xp.getitem(x, index)


def _add_at_rule(xp: Any, g: Any, y: Any, x: Any, *, shape: Any, dtype: Any, index: Any) -> Any:
    return xp.getitem(g, index)


@operation("add_at", _add_at_rule)
def ADD_AT(xp: Any, x: Any, *, shape: Any, dtype: Any, index: Any) -> Any:
    return xp.add_at(shape, dtype, index, x)


WHERE = operation(
    "where",
    None,
    lambda xp, g, y, condition, x1, x2: xp.where(condition, g, 0),
    lambda xp, g, y, condition, x1, x2: xp.where(condition, 0, g),
)(lambda xp, condition, x1, x2: xp.where(condition, x1, x2))


def getitem(x: Any, index: Any, *, constant: bool | None = None) -> Tensor:
    """``x[index]``: a view for slices and integers, a copy for arrays of indices and masks.

    Raises
    ------
    IndexError
        `index` is out of range, or has too many entries.
    """
    return apply(GETITEM, (x,), {"index": raw_index(index)}, constant=constant)


def add_at(shape: Any, dtype: Any, index: Any, g: Any) -> Tensor:
    """Zeros of this shape and dtype with `g` added at `index`: the adjoint of `getitem`."""
    return apply(ADD_AT, (g,), {"shape": shape, "dtype": dtype, "index": index})


def put(x: Any, index: Any, value: Any) -> Tensor:
    """A copy of `x` with `value` at `index`; of duplicate indices the last one wins."""
    return apply(PUT_VIEW, (x, value), {"recipe": (), "index": raw_index(index)})


def where(condition: Any, x: Any = None, y: Any = None, *, constant: bool | None = None) -> Any:
    """Elements of `x` where `condition` is true, of `y` elsewhere.

    With `condition` alone: the indices of its true elements, as ``numpy.nonzero`` gives them.

    Raises
    ------
    ValueError
        Only one of `x` and `y` is given.
    """
    if isinstance(condition, Tensor):
        condition = condition.data
    if x is None and y is None:
        return get_array_module(condition).nonzero(condition)
    if x is None or y is None:
        raise ValueError("where: got one of x and y, expected both or neither")
    return apply(WHERE, (condition, x, y), constant=constant)


# ------------------------------------------------------------------------------- by lists of places


def raw_places(indices: Any, like: Any) -> Any:
    """`indices` as an array beside `like`."""
    indices = raw_of(indices)
    if not hasattr(indices, "dtype"):
        indices = get_array_module(like).asarray(indices)
        if not indices.size:  # an empty list says nothing of its type
            indices = indices.astype(np.intp)
    return indices


@composite
def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: Any = None,
    mode: str = "raise",
    *,
    constant: bool | None = None,
) -> Tensor:
    """The elements of `a` at `indices` along `axis`; without an axis, of `a` as one axis.

    Parameters
    ----------
    a : array_like
    indices : array_like of int
        Negative ones count from the end.
    axis : int, optional
    out : None
        Not supported.
    mode : {"raise", "wrap", "clip"}, optional
        What indices out of range do: raise, count on from the beginning, stop at the ends.
    constant : bool, optional

    Returns
    -------
    Tensor
        The axis is replaced by the axes of `indices`.

    Raises
    ------
    IndexError
        An index out of range.
    ValueError
        Another `mode`, or the axis does not exist.
    """
    if out is not None:
        raise TypeError("take: got out, which is not supported; assign the result")
    x, axis = lined("take", a, axis)
    axis = normalize_axis_index(axis, x.ndim, "take")
    places = raw_places(indices, x.data)
    if places.dtype.kind == "b":
        places = places.astype(np.intp)
    if places.dtype.kind not in "iu":
        raise TypeError(f"take: indices have dtype {places.dtype}, expected integers")
    n = x.shape[axis]
    if places.size and not n:
        raise IndexError(f"take: axis {axis} is empty, got {places.size} indices")
    if mode == "wrap":
        places = places % max(n, 1)
    elif mode == "clip":
        places = places.clip(0, max(n - 1, 0))
    elif mode != "raise":
        raise ValueError(f'take: mode is {mode!r}, expected "raise", "wrap" or "clip"')
    return getitem(x, (slice(None),) * axis + (places,), constant=constant)


def along(shape: tuple[int, ...], places: Any, axis: int) -> tuple[Any, ...]:
    """The index of an array of this shape that picks `places` along `axis`, line by line."""
    arange = get_array_module(places).arange
    return tuple(
        places if i == axis else arange(n).reshape((-1,) + (1,) * (len(shape) - i - 1))
        for i, n in enumerate(shape)
    )


@composite
def take_along_axis(
    arr: Any, indices: Any, axis: int | None = -1, *, constant: bool | None = None
) -> Tensor:
    """Elements of `arr`, chosen along `axis` by indices that may differ from line to line.

    Parameters
    ----------
    arr : array_like
    indices : array_like of int
        With as many axes as `arr`; broadcast against it on the others.
    axis : int, optional
        None: `arr` is taken as one axis, and `indices` is 1-d.
    constant : bool, optional

    Returns
    -------
    Tensor
        ``take_along_axis(x, argsort(x))`` is ``sort(x)``.

    Raises
    ------
    ValueError
        `indices` has another number of axes than `arr`.
    IndexError
        An index out of range, indices that are not integers or do not broadcast with `arr`.
    """
    x = as_tensor("take_along_axis", arr)
    if axis is None:
        x, axis = ravel(x), 0
    data = x.data
    places = raw_places(indices, data)
    if places.dtype.kind not in "iu":
        raise IndexError(f"take_along_axis: indices have dtype {places.dtype}, expected integers")
    if places.ndim != data.ndim:
        raise ValueError(
            f"take_along_axis: indices have {places.ndim} axes, expected {data.ndim} as arr"
        )
    axis = normalize_axis_index(axis, data.ndim, "take_along_axis")
    index = along(data.shape, places, axis)
    try:
        np.broadcast_shapes(*(k.shape for k in index))
    except ValueError:
        raise IndexError(
            f"take_along_axis: indices of shape {places.shape} do not broadcast with arr of shape "
            f"{data.shape} along axis {axis}"
        ) from None
    return getitem(x, index, constant=constant)


# ------------------------------------------------------------------------------ turned and mirrored


def flip(m: Any, axis: Any = None, *, constant: bool | None = None) -> Tensor:
    """`m` with the order of its elements reversed along `axis` (along all by default): a view.

    Raises
    ------
    ValueError
        An axis does not exist or is named twice.
    """
    x = as_tensor("flip", m)
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim, "flip")
    index = tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))
    return getitem(x, index, constant=constant)


def fliplr(m: Any, *, constant: bool | None = None) -> Tensor:
    """`m` with the order of its columns (along its second axis) reversed: a view."""
    x = as_tensor("fliplr", m)
    if x.ndim < 2:
        raise ValueError(f"fliplr: m has {x.ndim} axes, expected at least 2")
    return flip(x, 1, constant=constant)


def flipud(m: Any, *, constant: bool | None = None) -> Tensor:
    """`m` with the order of its rows (along its first axis) reversed: a view."""
    x = as_tensor("flipud", m)
    if not x.ndim:
        raise ValueError("flipud: m is 0-d, expected at least 1 axis")
    return flip(x, 0, constant=constant)


def rot90(
    m: Any, k: int = 1, axes: tuple[int, int] = (0, 1), *, constant: bool | None = None
) -> Tensor:
    """`m` turned `k` times by 90 degrees, from the first of `axes` to the second: a view.

    Raises
    ------
    ValueError
        `axes` are not two different axes of `m`.
    """
    x = as_tensor("rot90", m)
    if len(axes) != 2 or any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(f"rot90: axes is {axes}, expected two axes of m, which has {x.ndim}")
    first, second = (a % x.ndim for a in axes)
    if first == second:
        raise ValueError(f"rot90: axes is {axes}, expected two different ones")
    turned = list(range(x.ndim))
    turned[first], turned[second] = second, first
    k %= 4
    if k == 0:
        return getitem(x, ..., constant=constant)
    if k == 1:
        return transpose(flip(x, second), tuple(turned), constant=constant)
    if k == 2:
        return flip(x, (first, second), constant=constant)
    return flip(transpose(x, tuple(turned)), second, constant=constant)


# -------------------------------------------------------------------------- triangles and diagonals


def _triangle(function: str, m: Any, k: int, lower: bool, constant: bool | None) -> Tensor:
    x = as_tensor(function, m)
    if not x.ndim:
        raise TypeError(f"{function}: m is 0-d, expected at least 1 axis")
    data = x.data
    arange = get_array_module(data).arange
    rows = arange(data.shape[-2 if x.ndim > 1 else -1]).reshape(-1, 1)
    columns = arange(data.shape[-1])
    inside = columns - rows <= k if lower else columns - rows >= k
    return where(inside, x, False, constant=constant)  # a 0 would make integers of bools


def tril(m: Any, k: int = 0, *, constant: bool | None = None) -> Tensor:
    """`m` with 0 above the k-th diagonal of its last two axes.

    Parameters
    ----------
    m : array_like, at least 1-d
        A vector stands for a square matrix of equal rows.
    k : int, optional
        0 is the main diagonal, 1 the one above it.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        `m` is 0-d.
    """
    return _triangle("tril", m, k, True, constant)


def triu(m: Any, k: int = 0, *, constant: bool | None = None) -> Tensor:
    """`m` with 0 below the k-th diagonal of its last two axes; see `tril`."""
    return _triangle("triu", m, k, False, constant)


def _diagonal_rule(xp: Any, g: Any, y: Any, x: Any) -> Any:
    i = np.arange(x.shape[-1])
    return xp.add_at(x.shape, x.dtype, (..., i, i), g)


@operation("diagonal", _diagonal_rule, may_view=True)
def DIAGONAL(xp: Any, x: Any) -> Any:
    return xp.einsum("...ii->...i", x)  # a view that can be written to, which NumPy's own cannot


def diagonal(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, *, constant: bool | None = None
) -> Tensor:
    """The elements ``a[i, i + offset]`` of two axes, which become the last one: a view.

    Parameters
    ----------
    a : array_like, at least 2-d
    offset : int, optional
    axis1, axis2 : int, optional
        The axes of the first and of the second index.
    constant : bool, optional

    Returns
    -------
    Tensor
        It can be written to, unlike NumPy's.

    Raises
    ------
    ValueError
        Fewer than two axes, an axis that does not exist, or twice the same.
    """
    x = as_tensor("diagonal", a)
    if x.ndim < 2:
        raise ValueError(f"diagonal: a has {x.ndim} axes, expected at least 2")
    axes = tuple(normalize_axis_index(i, x.ndim, "diagonal") for i in (axis1, axis2))
    if axes[0] == axes[1]:
        raise ValueError(f"diagonal: axis1 and axis2 are both {axes[0]}, expected two axes")
    x = moveaxis(x, axes, (-2, -1))
    rows, columns = x.shape[-2:]
    down, right = min(max(-offset, 0), rows), min(max(offset, 0), columns)
    n = min(rows - down, columns - right)
    square = getitem(x, (..., slice(down, down + n), slice(right, right + n)))
    return apply(DIAGONAL, (square,), constant=constant)


@composite
def diag(v: Any, k: int = 0, *, constant: bool | None = None) -> Tensor:
    """The k-th diagonal of a matrix, a view; or the matrix that has a vector there and is 0 else.

    Raises
    ------
    ValueError
        `v` has neither one nor two axes.
    """
    x = as_tensor("diag", v)
    if x.ndim == 2:
        return diagonal(x, k, constant=constant)
    if x.ndim != 1:
        raise ValueError(f"diag: v has {x.ndim} axes, expected 1 or 2")
    n = x.shape[0] + abs(k)
    i = np.arange(x.shape[0])
    index = (i + max(-k, 0), i + max(k, 0))
    params = {"shape": (n, n), "dtype": x.dtype, "index": index}
    return apply(ADD_AT, (x,), params, constant=constant)


@composite
def diagflat(v: Any, k: int = 0, *, constant: bool | None = None) -> Tensor:
    """The matrix that has the elements of `v` on its k-th diagonal and is 0 else."""
    return diag(ravel(v), k, constant=constant)
