"""Inverses of matrices, and the solution of linear equations."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import composite
from gpugrad.graph.op import operation
from gpugrad.ops.arithmetic import multiply
from gpugrad.ops.indexing import getitem
from gpugrad.ops.linalg import matmul
from gpugrad.ops.matrices import as_matrices, as_square, transposed
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor

__all__ = ["inv", "matrix_power", "pinv", "solve"]


def _inv_rule(xp: Any, g: Any, y: Any, x: Any) -> Any:
    y_t = transposed(xp, y)
    return -xp.matmul(y_t, xp.matmul(g, y_t))


@operation("inv", _inv_rule)
def INV(xp: Any, x: Any) -> Any:
    return xp.inv(x)


def inv(a: Any, *, constant: bool | None = None) -> Tensor:
    """The inverse of square matrices.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    constant : bool, optional

    Returns
    -------
    Tensor, shape (..., n, n)

    Raises
    ------
    numpy.linalg.LinAlgError
        A matrix is singular (on a GPU the result is not finite instead), or not square.
    TypeError
        float16, which no function of this module takes.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.linalg.inv([[2.0, 0.0], [0.0, 4.0]])
    Tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    return apply(INV, (as_square("inv", a),), constant=constant)


def _solve_a(xp: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    gb = xp.solve(transposed(xp, a), g)
    if b.ndim == 1:
        return -xp.expand_dims(gb, -1) * xp.expand_dims(y, -2)
    return -xp.matmul(gb, transposed(xp, y))


def _solve_b(xp: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    return xp.solve(transposed(xp, a), g)


@operation("solve", _solve_a, _solve_b)
def SOLVE(xp: Any, a: Any, b: Any) -> Any:
    return xp.solve(a, b)


def solve(a: Any, b: Any, *, constant: bool | None = None) -> Tensor:
    """The solution x of ``a @ x = b``.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    b : array_like, shape (n,) or (..., n, k)
        One vector, or matrices; leading axes broadcast.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (..., n) or (..., n, k)

    Raises
    ------
    numpy.linalg.LinAlgError
        A matrix is singular (on a GPU the result is not finite instead), or not square.
    ValueError
        `b` has another number of rows.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.linalg.solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    Tensor([1. , 0.5])
    """
    a = as_square("solve", a)
    b = as_tensor("solve", b)
    if b.dtype == np.float16:
        raise TypeError("solve: got float16, expected float32 or float64")
    rows = b.shape[:1] if b.ndim == 1 else b.shape[-2:-1]
    if rows != a.shape[-1:]:
        raise ValueError(
            f"solve: matrices {a.shape} and right sides {b.shape}, expected (n,) or (..., n, k)"
        )
    if b.ndim == 1 and a.ndim > 2:
        b = getitem(b, (slice(None), None))
        return getitem(apply(SOLVE, (a, b), constant=constant), (..., 0))
    return apply(SOLVE, (a, b), constant=constant)


def _pinv_rule(xp: Any, g: Any, y: Any, x: Any, *, rcond: Any) -> Any:
    g_t, y_t = transposed(xp, g), transposed(xp, y)
    along = xp.matmul(y_t, xp.matmul(g, y_t))
    by_rows = xp.matmul(g_t, xp.matmul(y, y_t))
    by_columns = xp.matmul(xp.matmul(y_t, y), g_t)
    across = by_rows - xp.matmul(x, xp.matmul(y, by_rows))
    return across + by_columns - xp.matmul(xp.matmul(by_columns, y), x) - along


@operation("pinv", _pinv_rule)
def PINV(xp: Any, x: Any, *, rcond: Any) -> Any:
    return xp.pinv(x, rcond)


def pinv(a: Any, rcond: float = 1e-15, *, constant: bool | None = None) -> Tensor:
    """The Moore-Penrose inverse; its derivative is that among matrices of the same rank.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    rcond : float, optional
        Singular values up to this part of the largest count as 0.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (..., n, m)

    Raises
    ------
    numpy.linalg.LinAlgError
        Fewer than two dimensions.

    References
    ----------
    G. H. Golub and V. Pereyra, SIAM J. Numer. Anal. 10 (1973), equation 4.12.
    """
    return apply(PINV, (as_matrices("pinv", a),), {"rcond": rcond}, constant=constant)


@composite
def matrix_power(a: Any, n: int, *, constant: bool | None = None) -> Tensor:
    """Square matrices multiplied by themselves n times, the inverse for negative n.

    Parameters
    ----------
    a : array_like, shape (..., m, m)
    n : int
    constant : bool, optional

    Returns
    -------
    Tensor, shape (..., m, m)

    Raises
    ------
    numpy.linalg.LinAlgError
        Not square, or singular with a negative n.
    TypeError
        `n` is not an int.
    """
    a = as_tensor("matrix_power", a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(
            f"matrix_power: got shape {a.shape}, expected square matrices (..., n, n)"
        )
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"matrix_power: got the exponent {n!r}, expected an int") from None
    if n == 0:
        raw = namespace_of(get_array_module(a.data))
        one = raw.zeros_like(a.data) + raw.eye(a.shape[-1], dtype=a.dtype)
        return Tensor(one, constant=True, copy=False)
    square = inv(a) if n < 0 else a
    n, power = abs(n), None
    while n:
        if n & 1:
            power = square if power is None else matmul(power, square)
        n >>= 1
        if n:
            square = matmul(square, square)
    return multiply(power, 1, constant=constant)
