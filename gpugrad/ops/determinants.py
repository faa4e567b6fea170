"""Determinants of matrices, singular ones among them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.graph.op import operation
from gpugrad.ops.comparison import raw_of
from gpugrad.ops.indexing import GETITEM, getitem
from gpugrad.ops.matrices import as_square, rounding, transposed
from gpugrad.tensor import Tensor

__all__ = ["det", "slogdet"]


class SlogdetResult(NamedTuple):
    """Sign and logarithm of the absolute value of a determinant."""

    sign: Tensor
    logabsdet: Tensor


_NEXT, _AFTER_NEXT = [1, 2, 0], [2, 0, 1]


def _small_cofactors(xp: Any, x: Any) -> Any:
    """The cofactors of matrices up to (..., 3, 3): polynomials, whatever the rank."""
    n = x.shape[-1]
    if n == 1:
        return xp.ones_like(x)
    if n == 2:
        raw = namespace_of(get_array_module(x))
        signs = raw.asarray([[1, -1], [-1, 1]], dtype=x.dtype)
        return xp.getitem(x, (..., slice(None, None, -1), slice(None, None, -1))) * signs
    # row i is the vector product of the rows i + 1 and i + 2
    a = xp.getitem(x, (..., _NEXT, slice(None)))
    b = xp.getitem(x, (..., _AFTER_NEXT, slice(None)))
    return xp.getitem(a, (..., _NEXT)) * xp.getitem(b, (..., _AFTER_NEXT)) - xp.getitem(
        a, (..., _AFTER_NEXT)
    ) * xp.getitem(b, (..., _NEXT))


def _minors(xp: Any, x: Any) -> Any:
    """The cofactors of one matrix (n, n), each the determinant of a smaller matrix."""
    n = x.shape[-1]
    if 0 < n <= 3:
        return _small_cofactors(xp, x)
    found = []
    for i in range(n):
        for j in range(n):
            rows = [k for k in range(n) if k != i]
            columns = [k for k in range(n) if k != j]
            minor = xp.getitem(xp.getitem(x, (rows,)), (slice(None), columns))
            found.append(xp.det(minor) * (-1) ** (i + j))
    return xp.reshape(xp.stack(found), (n, n)) if found else x


def _singular_cofactors(xp: Any, x: Any) -> Any:
    """The cofactors of one singular matrix (n, n).

    Orthogonal U and V, taken as constants, bring x to U.T x V = [[A, B], [C, D]] with a regular A
    and D - C inv(A) B of the size of what the rank lacks, mostly 1. Near x

        det(x) = det(U) det(V) det(A) det(S),   S = D - C inv(A) B

    is smooth in x, and so is its derivative, written out here.
    """
    value = raw_of(x)
    raw = namespace_of(get_array_module(value))
    u, s, vh = raw.svd(value)
    rank = int(raw.sum(s > rounding(s)))
    if not rank:
        return _minors(xp, x)
    u_t, v = transposed(raw, u), transposed(raw, vh)
    m = xp.matmul(xp.matmul(u_t, x), v)
    head, tail = slice(None, rank), slice(rank, None)
    inverse = xp.inv(xp.getitem(m, (head, head)))
    left = xp.matmul(xp.getitem(m, (tail, head)), inverse)  # C inv(A)
    up = xp.matmul(inverse, xp.getitem(m, (head, tail)))  # inv(A) B
    schur = xp.getitem(m, (tail, tail)) - xp.matmul(left, xp.getitem(m, (head, tail)))
    # adj(m) = det(m) inv(m), by blocks, with det(S) inv(S) = adj(S)
    adjugate = transposed(xp, _minors(xp, schur))
    above = xp.matmul(up, adjugate)
    corner = inverse * xp.det(schur) + xp.matmul(above, left)
    rows = [
        xp.concatenate([corner, -above], axis=-1),
        xp.concatenate([-xp.matmul(adjugate, left), adjugate], axis=-1),
    ]
    scale = xp.det(xp.getitem(m, (head, head))) * (raw.det(u) * raw.det(vh))
    adjugate = xp.matmul(xp.matmul(v, xp.concatenate(rows, axis=-2) * scale), u_t)
    return transposed(xp, adjugate)


def _is_singular(x: Any, inverse: Any) -> bool:
    """Whether an inverse is too wrong to make cofactors from."""
    raw = namespace_of(get_array_module(x))
    x, inverse = raw.absolute(x), raw.absolute(inverse)
    both = raw.max(raw.sum(x, axis=-1), axis=-1, initial=0) * raw.max(
        raw.sum(inverse, axis=-1), axis=-1, initial=0
    )
    # written so that nan counts as singular
    return not bool(raw.all(both * (x.shape[-1] * np.finfo(x.dtype).eps) < 1))


def _det_rule(xp: Any, g: Any, y: Any, x: Any) -> Any:
    value, raw = raw_of(x), namespace_of(get_array_module(x))
    g = xp.expand_dims(g, (-2, -1))
    if 0 < value.shape[-1] <= 3:
        return g * _small_cofactors(xp, x)
    if bool(raw.all(raw_of(y) != 0)):
        inverse = xp.inv(x)
        if not _is_singular(value, raw_of(inverse)):
            return g * xp.expand_dims(y, (-2, -1)) * transposed(xp, inverse)
    if not bool(raw.all(raw.isfinite(value))):
        return g * value * np.nan
    n = value.shape[-1]
    flat = xp.reshape(x, (-1, n, n))
    cofactors = [_singular_cofactors(xp, xp.getitem(flat, i)) for i in range(flat.shape[0])]
    return g * xp.reshape(xp.stack(cofactors), value.shape)


@operation("det", _det_rule)
def DET(xp: Any, x: Any) -> Any:
    return xp.det(x)


def det(a: Any, *, constant: bool | None = None) -> Tensor:
    """The determinant of square matrices.

    Its derivatives of any order are right for singular matrices too: the first is the matrix of
    cofactors. On a GPU the derivative waits once, to see whether a matrix is singular; not for n
    up to 3.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    constant : bool, optional

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    numpy.linalg.LinAlgError
        Not square.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([[1.0, 2.0], [2.0, 4.0]])
    >>> gg.linalg.det(x).backward()
    >>> x.grad
    array([[ 4., -2.],
           [-2.,  1.]])
    """
    return apply(DET, (as_square("det", a),), constant=constant)


def _slogdet_rule(xp: Any, g: Any, y: Any, x: Any) -> Any:
    return xp.expand_dims(xp.getitem(g, 1), (-2, -1)) * transposed(xp, xp.inv(x))


@operation("slogdet", _slogdet_rule)
def SLOGDET(xp: Any, x: Any) -> Any:
    sign, logabsdet = xp.slogdet(x)
    return xp.stack([xp.asarray(sign), xp.asarray(logabsdet)])


def slogdet(a: Any, *, constant: bool | None = None) -> SlogdetResult:
    """Sign and logarithm of the absolute value of the determinant, which may be huge or tiny.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    constant : bool, optional

    Returns
    -------
    SlogdetResult
        ``(sign, logabsdet)``, both (...). The sign is constant; it is 0 where the matrix is
        singular, with ``logabsdet = -inf``, which has no derivative.

    Raises
    ------
    numpy.linalg.LinAlgError
        Not square; in the derivative: singular.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> gg.linalg.slogdet(x).logabsdet.backward()
    >>> x.grad
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    both = apply(SLOGDET, (as_square("slogdet", a),), constant=constant)
    sign = apply(GETITEM, (both,), {"index": 0}, constant=True)
    return SlogdetResult(sign, getitem(both, 1))
