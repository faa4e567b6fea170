"""Norms of vectors and matrices."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from gpugrad.errors import composite
from gpugrad.graph.op import operation
from gpugrad.ops.arithmetic import absolute
from gpugrad.ops.decompositions import svdvals
from gpugrad.ops.reductions import max as largest
from gpugrad.ops.reductions import min as smallest
from gpugrad.ops.reductions import sum as total
from gpugrad.ops.shaping import as_tensor, expand_dims, moveaxis, ravel, reshape
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = ["norm"]


def _norm_rule(
    xp: Any, g: Any, y: Any, x: Any, *, ord: float, axis: tuple, keepdims: bool, nan_to_num: bool
) -> Any:
    if not keepdims:
        g, y = xp.expand_dims(g, axis), xp.expand_dims(y, axis)
    zero = y == 0
    unit = xp.where(zero, 1, y)
    if ord == 2:
        found = xp.where(zero, 0, g / unit) * x  # where the norm is 0, so is x
        return found if nan_to_num else xp.where(x == 0, np.nan, found)
    # the slope of |x|**ord at 0 is 0, infinite, or of no sign: 0 stands for all three
    off = zero | (x == 0)
    size = xp.where(off, 1, xp.absolute(x) / unit) ** (ord - 1)
    found = xp.where(off, 0, g * xp.where(x < 0, -size, size))
    return found if nan_to_num else xp.where(x == 0, np.nan, found)


@operation("norm", _norm_rule)
def NORM(xp: Any, x: Any, *, ord: float, axis: tuple, keepdims: bool, nan_to_num: bool) -> Any:
    if ord == 2:
        if len(axis) == x.ndim and not keepdims:
            flat = xp.ravel(x)
            return xp.sqrt(xp.dot(flat, flat))  # without an array of squares
        return xp.sqrt(xp.sum(xp.square(x), axis=axis, keepdims=keepdims))
    # negative orders: 0 to a negative power is infinite, and the norm 0
    with xp.errstate(divide="ignore"):
        powers = xp.sum(xp.absolute(x) ** ord, axis=axis, keepdims=keepdims)
        return powers ** (1 / ord)


def _largest(x: Any, **options: Any) -> Tensor:
    """The largest of numbers that are not negative; of none it is 0."""
    return largest(x, **options) if x.size else total(x, **options)


def _vector_norm(
    x: Tensor, ord: Any, axis: tuple, keepdims: bool, nan_to_num: bool, constant: bool | None
) -> Tensor:
    if isinstance(ord, str):
        raise ValueError(f"norm: got ord={ord!r} for vectors, expected a number")
    options: dict[str, Any] = {"axis": axis, "keepdims": keepdims, "constant": constant}
    if ord is None:
        ord = 2
    if ord == np.inf:
        return _largest(absolute(x), **options)
    if ord == -np.inf:
        return smallest(absolute(x), **options)
    if ord == 1:
        return total(absolute(x), **options)
    if ord == 0:
        count = (x.data != 0).astype(x.dtype)
        return Tensor(total(count, axis=axis, keepdims=keepdims).data, constant=True, copy=False)
    params = {"ord": ord, "axis": axis, "keepdims": keepdims, "nan_to_num": nan_to_num}
    return call(NORM, (x,), params, constant=constant)


def _matrix_norm(
    x: Tensor, ord: Any, axis: tuple[int, int], keepdims: bool, constant: bool | None
) -> Tensor:
    rows, columns = axis
    if ord in (1, -1, np.inf, -np.inf):
        along = rows if abs(ord) == 1 else columns
        sums = total(absolute(x), axis=along, keepdims=True)
        extreme = _largest if ord > 0 else smallest
        return extreme(sums, axis=axis, keepdims=keepdims, constant=constant)
    values = svdvals(moveaxis(x, axis, (-2, -1)), constant=constant)
    reduce: Any = {"nuc": total, 2: _largest, -2: smallest}[ord]
    found = reduce(values, axis=-1, constant=constant)
    return expand_dims(found, axis) if keepdims else found


_MATRIX_ORDERS = ("fro", "f", "nuc", 1, -1, 2, -2, np.inf, -np.inf)


@composite
def norm(
    x: Any,
    ord: Any = None,
    axis: Any = None,
    keepdims: bool = False,
    *,
    nan_to_num: bool = True,
    constant: bool | None = None,
) -> Tensor:
    """The norm of vectors or matrices.

    Parameters
    ----------
    x : array_like
    ord : float or str, optional
        Of vectors: p gives ``sum(abs(x)**p) ** (1 / p)`` (2 by default), inf the largest and -inf
        the smallest absolute value, 0 the number of elements that are not 0 (a constant). Of
        matrices: "fro" (the default), "nuc", 1, -1, 2, -2, inf, -inf as in
        :func:`numpy.linalg.norm`.
    axis : int or (int, int), optional
        The axis of the vectors, or the two of the matrices. Without it `x` is one vector or matrix,
        or with ``ord=None`` any array taken as one vector.
    keepdims : bool, optional
        Keep the reduced axes at length 1.
    nan_to_num : bool, optional
        The derivative of a vector's norm by an element that is 0, where it may not exist, is the
        one of smallest size: 0. False: it is nan (for `ord` other than 1, 0, inf and -inf).
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        An order that vectors or matrices do not have, three axes or more, or one that `x` lacks.
    TypeError
        `axis` is neither int nor tuple of int.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([[3.0, 4.0], [0.0, 0.0]])
    >>> gg.linalg.norm(x, axis=1).backward()
    >>> x.grad
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    x = as_tensor("norm", x)
    if x.dtype.kind != "f":
        x = Tensor(x.data.astype(np.float64), constant=True, copy=False)
    if axis is None:
        if ord is None or (ord == 2 and x.ndim == 1) or (ord in ("f", "fro") and x.ndim == 2):
            flat = _vector_norm(ravel(x), 2, (0,), False, nan_to_num, constant)
            return reshape(flat, (1,) * x.ndim) if keepdims else flat
        axes = tuple(range(x.ndim))
    else:
        axes = _axes(x, axis)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims, nan_to_num, constant)
    if len(axes) != 2:
        raise ValueError(f"norm: got axes {axes} of shape {x.shape}, expected one or two")
    if ord is None or ord in ("fro", "f"):
        return _vector_norm(x, 2, axes, keepdims, nan_to_num, constant)
    if ord not in _MATRIX_ORDERS:
        raise ValueError(f"norm: got ord={ord!r} for matrices, expected one of {_MATRIX_ORDERS}")
    return _matrix_norm(x, ord, axes, keepdims, constant)


def _axes(x: Tensor, axis: Any) -> tuple[int, ...]:
    if not isinstance(axis, tuple):
        try:
            axis = (operator.index(axis),)
        except TypeError:
            raise TypeError(
                f"norm: got axis={axis!r}, expected None, an int or a tuple of ints"
            ) from None
    for entry in axis:
        if not -x.ndim <= entry < x.ndim:
            raise np.exceptions.AxisError(entry, x.ndim, "norm")
    axes = tuple(entry % x.ndim for entry in axis)
    if len(set(axes)) != len(axes):
        raise ValueError(f"norm: got axes {axis} of shape {x.shape}, expected different ones")
    return axes
