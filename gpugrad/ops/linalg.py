"""Products of vectors, matrices and tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import composite
from gpugrad.graph.op import Op, operation
from gpugrad.ops.arithmetic import multiply, positive, subtract
from gpugrad.ops.indexing import getitem
from gpugrad.ops.reductions import astype
from gpugrad.ops.shaping import as_tensor, expand_dims, moveaxis, ravel, reshape, transpose
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call, ufunc

__all__ = [
    "cross",
    "dot",
    "inner",
    "kron",
    "matmul",
    "multi_matmul",
    "outer",
    "tensordot",
    "trace",
    "vdot",
]


def _matmul_x1(xp: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if x2.ndim == 1:
        return g * x2 if x1.ndim == 1 else xp.expand_dims(g, -1) * x2
    if x1.ndim == 1:
        return xp.squeeze(xp.matmul(x2, xp.expand_dims(g, -1)), axis=-1)
    return xp.matmul(g, x2.swapaxes(-1, -2))


def _matmul_x2(xp: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if x1.ndim == 1:
        if x2.ndim == 1:
            return g * x1
        return xp.expand_dims(x1, -1) * xp.expand_dims(g, -2)
    transposed = x1.swapaxes(-1, -2)
    if x2.ndim == 1:
        return xp.squeeze(xp.matmul(transposed, xp.expand_dims(g, -1)), axis=-1)
    return xp.matmul(transposed, g)


@operation("matmul", _matmul_x1, _matmul_x2)
def MATMUL(xp: Any, x1: Any, x2: Any) -> Any:
    return xp.matmul(x1, x2)


class _MatmulUfunc(ufunc, ours=True):
    """Matrix product over the last two axes, broadcast over the others; a 1-d operand is a vector.

    Parameters
    ----------
    x1 : array_like, shape (..., n, k) or (k,)
    x2 : array_like, shape (..., k, m) or (k,)
    out : Tensor or array, optional
        Written to and returned.
    dtype : dtype, optional
        In which to multiply.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (..., n, m)

    Raises
    ------
    ValueError
        The inner lengths differ, or an operand is 0-d.
    DeviceMismatchError
        Operands on different devices.
    """

    _operands = ("x1", "x2")
    signature = np.matmul.signature
    identity = None
    types = [loop for loop in np.matmul.types if not set(loop) & set("FDGO")]
    resolve_dtypes = np.matmul.resolve_dtypes

    def __init__(self, op: Op, doc: str) -> None:
        super().__init__(op, doc)
        self.__doc__ = type(self).__doc__

    def __call__(
        self,
        x1: Any,
        x2: Any,
        out: Any = None,
        *,
        dtype: Any = None,
        constant: bool | None = None,
    ) -> Tensor:
        if dtype is not None:
            x1, x2 = astype(x1, dtype), astype(x2, dtype)
        if out is None:
            return apply(MATMUL, (x1, x2), constant=constant)
        return call(MATMUL, (x1, x2), out=out, constant=constant)

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {word: hint for word, hint in super().__annotations__.items() if word != "where"}

    def _options(self) -> list[tuple[str, Any, Any]]:
        return [option for option in super()._options() if option[0] != "where"]


matmul: Any = _MatmulUfunc(MATMUL, "")


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of an array_like."""
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def _cheapest_splits(lengths: Sequence[int]) -> dict[tuple[int, int], int]:
    """(i, j) -> k: the product of the matrices i to j is cheapest as (i to k) times (k + 1 to j).

    Parameters
    ----------
    lengths : sequence of int
        Matrix i has shape ``(lengths[i], lengths[i + 1])``.

    References
    ----------
    Cormen et al., Introduction to Algorithms, section 15.2.
    """
    n = len(lengths) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for span in range(1, n):
        for i in range(n - span):
            j = i + span
            ends = lengths[i] * lengths[j + 1]
            cost[i, j], split[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + ends * lengths[k + 1], k) for k in range(i, j)
            )
    return split


@composite
def multi_matmul(tensors: Any, *, constant: bool | None = None) -> Tensor:
    """The product of several matrices, multiplied in the order that costs least.

    Parameters
    ----------
    tensors : sequence of array_like
        At least two matrices; the first and the last may be vectors.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        Fewer than two tensors, or inner lengths that differ.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.multi_matmul([[1.0, 2.0], [[1.0, 0.0], [0.0, 2.0]], [3.0, 1.0]])
    Tensor(7.)
    """
    factors = list(tensors)
    if len(factors) < 2:
        raise ValueError(f"multi_matmul: got {len(factors)} tensors, expected two or more")
    shapes = [shape_of(x) for x in factors]
    for shape in shapes[1:-1]:
        if len(shape) < 2:
            raise ValueError(f"multi_matmul: got shapes {shapes}, expected matrices inside")
    if not all(shapes):
        raise ValueError(f"multi_matmul: got shapes {shapes}, expected vectors or matrices")
    lengths = [1 if len(shapes[0]) == 1 else shapes[0][-2]]
    lengths += [shape[-1] for shape in shapes[:-1]]
    lengths.append(1 if len(shapes[-1]) == 1 else shapes[-1][-1])
    split = _cheapest_splits(lengths)

    def product(i: int, j: int) -> Any:
        if i == j:
            return factors[i]
        k = split[i, j]
        return matmul(product(i, k), product(k + 1, j), constant=constant)

    return product(0, len(factors) - 1)


def written_into(result: Tensor, out: Any, constant: bool | None) -> Tensor:
    """`result`, or `out` with `result` written into it."""
    if out is None:
        return result
    return positive(result, out=out, constant=constant)


@composite
def outer(a: Any, b: Any, out: Any = None, *, constant: bool | None = None) -> Tensor:
    """The products of every element of `a` with every element of `b`, both flattened.

    Parameters
    ----------
    a : array_like, n elements
    b : array_like, m elements
    out : Tensor or array, optional
    constant : bool, optional

    Returns
    -------
    Tensor, shape (n, m)
    """
    column, row = expand_dims(ravel(a), 1), expand_dims(ravel(b), 0)
    return multiply(column, row, out=out, constant=constant)


def _axis_lists(axes: Any) -> tuple[list[int], list[int]]:
    """The axes of both operands that `tensordot` sums over."""
    try:
        first, second = axes
    except TypeError:
        n = int(axes)
        return list(range(-n, 0)), list(range(n))
    pair = []
    for entry in (first, second):
        pair.append([entry] if np.ndim(entry) == 0 else list(entry))
    return pair[0], pair[1]


def tensordot(a: Any, b: Any, axes: Any = 2, *, constant: bool | None = None) -> Tensor:
    """The sum of products of `a` and `b` over pairs of their axes: one matrix product.

    Parameters
    ----------
    a, b : array_like
    axes : int or (int or sequence of int, int or sequence of int), optional
        n: the last n axes of `a` with the first n of `b`. A pair: axes of `a`, axes of `b`.
    constant : bool, optional

    Returns
    -------
    Tensor
        The axes of `a` that are left, then those of `b`.

    Raises
    ------
    ValueError
        Axes of different lengths, or not as many of `a` as of `b`.
    numpy.exceptions.AxisError
        An axis that does not exist.
    """
    a, b = as_tensor("tensordot", a), as_tensor("tensordot", b)
    over = tuple(
        [normalize_axis_index(axis, x.ndim, "tensordot") for axis in chosen]
        for x, chosen in zip((a, b), _axis_lists(axes))
    )
    lengths = [[x.shape[axis] for axis in chosen] for x, chosen in zip((a, b), over)]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"tensordot: axes {axes} of shapes {a.shape} and {b.shape}, expected axes of one length"
        )
    left = [axis for axis in range(a.ndim) if axis not in over[0]]
    right = [axis for axis in range(b.ndim) if axis not in over[1]]
    inside = math.prod(lengths[0])
    kept = [a.shape[axis] for axis in left], [b.shape[axis] for axis in right]
    rows = reshape(transpose(a, (*left, *over[0])), (math.prod(kept[0]), inside))
    columns = reshape(transpose(b, (*over[1], *right)), (inside, math.prod(kept[1])))
    return reshape(matmul(rows, columns, constant=constant), (*kept[0], *kept[1]))


@composite
def dot(a: Any, b: Any, out: Any = None, *, constant: bool | None = None) -> Tensor:
    """The product over the last axis of `a` and the last but one of `b`; see :func:`numpy.dot`.

    A 0-d operand multiplies; a 1-d `b` is summed over its only axis.

    Raises
    ------
    ValueError
        Those axes have different lengths.
    """
    a, b = as_tensor("dot", a), as_tensor("dot", b)
    if not a.ndim or not b.ndim:
        return multiply(a, b, out=out, constant=constant)
    if b.ndim <= 2:
        return matmul(a, b, out=out, constant=constant)
    return written_into(tensordot(a, b, (-1, -2), constant=constant), out, constant)


@composite
def inner(a: Any, b: Any, *, constant: bool | None = None) -> Tensor:
    """The sum of products over the last axes of `a` and `b`; a 0-d operand multiplies.

    Raises
    ------
    ValueError
        The last axes have different lengths.
    """
    a, b = as_tensor("inner", a), as_tensor("inner", b)
    if not a.ndim or not b.ndim:
        return multiply(a, b, constant=constant)
    return tensordot(a, b, (-1, -1), constant=constant)


@composite
def vdot(a: Any, b: Any, *, constant: bool | None = None) -> Tensor:
    """The sum of products of the elements of `a` and `b`, both flattened.

    Raises
    ------
    ValueError
        The numbers of elements differ.
    """
    return matmul(ravel(a), ravel(b), constant=constant)


@composite
def kron(a: Any, b: Any, *, constant: bool | None = None) -> Tensor:
    """Kronecker's product: every element of `a` times the whole of `b`, in blocks.

    Parameters
    ----------
    a : array_like, shape (r0, r1, ...)
    b : array_like, shape (s0, s1, ...)
        The operand with fewer axes gets axes of length 1 in front.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (r0 * s0, r1 * s1, ...)

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.kron([1.0, 10.0], [1.0, 2.0])
    Tensor([ 1.,  2., 10., 20.])
    """
    a, b = as_tensor("kron", a), as_tensor("kron", b)
    ndim = max(a.ndim, b.ndim)
    r = (1,) * (ndim - a.ndim) + a.shape
    s = (1,) * (ndim - b.ndim) + b.shape
    blocks = reshape(a, [n for length in r for n in (length, 1)])
    block = reshape(b, [n for length in s for n in (1, length)])
    product = multiply(blocks, block, constant=constant)
    return reshape(product, tuple(m * n for m, n in zip(r, s)))


_NEXT, _AFTER_NEXT = (1, 2, 0), (2, 0, 1)


@composite
def cross(
    a: Any,
    b: Any,
    axisa: int = -1,
    axisb: int = -1,
    axisc: int = -1,
    axis: int | None = None,
    *,
    constant: bool | None = None,
) -> Tensor:
    """The vector product of vectors with three components.

    Parameters
    ----------
    a, b : array_like
        Of length 3 along the axes of the vectors; the others broadcast.
    axisa, axisb, axisc : int, optional
        The axis of the vectors of `a`, `b` and the result.
    axis : int, optional
        All three at once.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        A vector has not three components.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = as_tensor("cross", a), as_tensor("cross", b)
    axisa, axisb = normalize_axis_index(axisa, a.ndim), normalize_axis_index(axisb, b.ndim)
    if a.shape[axisa] != 3 or b.shape[axisb] != 3:
        raise ValueError(f"cross: shapes {a.shape} and {b.shape}, expected length 3 along the axis")
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    turned = [getitem(x, (..., list(order))) for x in (a, b) for order in (_NEXT, _AFTER_NEXT)]
    product = subtract(
        multiply(turned[0], turned[3]), multiply(turned[1], turned[2]), constant=constant
    )
    return moveaxis(product, -1, axisc) if axisc != -1 else product


def _trace_rule(xp: Any, g: Any, y: Any, x: Any, *, offset: int, axis1: int, axis2: int) -> Any:
    raw = namespace_of(get_array_module(x))
    on_diagonal = raw.eye(x.shape[axis1], x.shape[axis2], offset, dtype=np.bool_)
    spread = xp.where(on_diagonal, xp.expand_dims(g, (-2, -1)), 0)
    return xp.moveaxis(spread, (-2, -1), (axis1, axis2))


@operation("trace", _trace_rule)
def TRACE(xp: Any, x: Any, *, offset: int, axis1: int, axis2: int) -> Any:
    return xp.trace(x, offset, axis1, axis2)


def trace(
    a: Any,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
    dtype: Any = None,
    out: Any = None,
    *,
    constant: bool | None = None,
) -> Tensor:
    """The sum along a diagonal of two axes.

    Parameters
    ----------
    a : array_like, of two dimensions or more
    offset : int, optional
        How far above the main diagonal.
    axis1, axis2 : int, optional
    dtype : dtype, optional
        In which to add up.
    out : Tensor or array, optional
    constant : bool, optional

    Returns
    -------
    Tensor
        Without those two axes.

    Raises
    ------
    ValueError
        Fewer than two dimensions.
    """
    if dtype is not None:
        a = astype(a, dtype)
    params = {"offset": offset, "axis1": axis1, "axis2": axis2}
    return call(TRACE, (a,), params, out=out, constant=constant)
