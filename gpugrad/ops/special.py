"""Special functions of statistics, differentiable to any order.

`erf`, `erfc`, `erfinv`, `gammaln`, `digamma` and `polygamma` are computed by SciPy, on a GPU by
CuPy; without them calling one raises `gpugrad.errors.MissingExtraError`, an ImportError.
"""

from __future__ import annotations

from math import pi, sqrt
from operator import index
from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend import special  # noqa: F401 (it makes the words declared here)
from gpugrad.graph.op import elementwise, operation
from gpugrad.ops.reductions import kept_shape
from gpugrad.tensor import Tensor
from gpugrad.typing import ArrayLike
from gpugrad.ufunc import ufunc

__all__ = [
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "gammaln",
    "logsumexp",
    "polygamma",
    "xlog1py",
    "xlogy",
]


def _bell(xp: Any, g: Any, x: Any) -> Any:
    return g * (2 / sqrt(pi)) * xp.exp(-x * x)


def _ratio(xp: Any, g: Any, x: Any, y: Any) -> Any:
    """g x / y, and 0 for x = y = 0, where x log(y) is 0 along every line of constant x."""
    corner = xp.logical_and(xp.equal(x, 0), xp.equal(y, 0))
    return g * x / xp.where(corner, 1, y)


ERF = elementwise("erf", lambda xp, g, y, x: _bell(xp, g, x))
ERFC = elementwise("erfc", lambda xp, g, y, x: -_bell(xp, g, x))
ERFINV = elementwise("erfinv", lambda xp, g, y, x: g * (sqrt(pi) / 2) * xp.exp(y * y))
GAMMALN = elementwise("gammaln", lambda xp, g, y, x: g * xp.digamma(x))
DIGAMMA = elementwise("digamma", lambda xp, g, y, x: g * xp.polygamma(1, x))
XLOGY = elementwise(
    "xlogy",
    lambda xp, g, y, x1, x2: g * xp.log(x2),
    lambda xp, g, y, x1, x2: _ratio(xp, g, x1, x2),
)
XLOG1PY = elementwise(
    "xlog1py",
    lambda xp, g, y, x1, x2: g * xp.log1p(x2),
    lambda xp, g, y, x1, x2: _ratio(xp, g, x1, 1 + x2),
)


@operation("polygamma", lambda xp, g, y, x, *, n: g * xp.polygamma(n + 1, x))
def POLYGAMMA(xp: Any, x: Any, *, n: int) -> Any:
    return xp.polygamma(n, x)


# ---------------------------------------------------------------------------------------- logsumexp


def _shares(xp: Any, g: Any, y: Any, x: Any, b: Any, axis: Any) -> Any:
    """g exp(x - y): of an infinite sum, the terms as large as it share it equally."""
    shape = x.shape if b is None else np.broadcast_shapes(x.shape, np.shape(b))
    kept = kept_shape(shape, axis)
    y, g = xp.reshape(y, kept), xp.reshape(g, kept)
    infinite = xp.isinf(y)
    largest = xp.where(xp.equal(x, y), 1.0, 0.0)
    count = xp.sum(largest, axis=axis, keepdims=True)
    equal = largest / xp.where(xp.equal(count, 0), 1, count)
    finite = xp.exp(xp.where(infinite, 0, x) - xp.where(infinite, 0, y))
    return g * xp.where(infinite, equal, finite)


def _logsumexp_x(
    xp: Any, g: Any, y: Any, x: Any, b: Any = None, *, axis: Any, keepdims: bool
) -> Any:
    if b is None:
        return _shares(xp, g, y, x, b, axis)
    # what has no weight may be as large as it likes: 0 * exp(x - y) would be nan
    limit = 0.9 * float(np.log(np.finfo(y.dtype).max))
    kept = kept_shape(np.broadcast_shapes(x.shape, np.shape(b)), axis)
    low = xp.less(x, xp.reshape(y, kept) + limit)
    hidden = xp.logical_and(xp.equal(b, 0), xp.logical_not(low))
    return b * _shares(xp, g, y, xp.where(hidden, -np.inf, x), b, axis)


def _logsumexp_b(xp: Any, g: Any, y: Any, x: Any, b: Any, *, axis: Any, keepdims: bool) -> Any:
    return _shares(xp, g, y, x, b, axis)


@operation("logsumexp", _logsumexp_x, _logsumexp_b)
def LOGSUMEXP(xp: Any, x: Any, b: Any = None, *, axis: Any, keepdims: bool) -> Any:
    return xp.logsumexp(x, axis, keepdims, b=b)


# ---------------------------------------------------------------------------------------- functions

erf = ufunc(ERF, "The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x.")
erfc = ufunc(ERFC, "1 - erf(x), accurate for large x.")
erfinv = ufunc(ERFINV, "The number whose error function is x, for -1 <= x <= 1.")
gammaln = ufunc(GAMMALN, "log |Gamma(x)|, the logarithm of (x - 1)! for integers.")
digamma = ufunc(DIGAMMA, "The derivative of log Gamma(x).")
xlogy = ufunc(XLOGY, "x1 log(x2), and 0 for x1 = 0, for x2 = 0 as well.")
xlog1py = ufunc(XLOG1PY, "x1 log(1 + x2), and 0 for x1 = 0, for x2 = -1 as well.")


def polygamma(n: int, x: ArrayLike, *, constant: bool | None = None) -> Tensor:
    """The `n`-th derivative of the digamma function.

    Parameters
    ----------
    n : int
        At least 0; for 0 it is `digamma` itself.
    x : array_like
        Positive.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Of the shape of `x`.

    Raises
    ------
    ValueError
        `n` is negative.
    TypeError
        `n` is not an integer.
    """
    try:
        n = index(n)
    except TypeError:
        raise TypeError(f"polygamma: n is {n!r}, expected an integer") from None
    if n < 0:
        raise ValueError(f"polygamma: n is {n}, expected an order of at least 0")
    return apply(POLYGAMMA, (x,), {"n": n}, constant=constant)


def logsumexp(
    a: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    *,
    b: ArrayLike | None = None,
    constant: bool | None = None,
) -> Tensor:
    """log(sum(b * exp(a))) over `axis`, without overflow.

    Parameters
    ----------
    a : array_like
    axis : int or tuple of int, optional
        What is summed over; everything by default.
    keepdims : bool
        The summed axes stay, with length 1.
    b : array_like, optional
        Weights, which broadcast with `a`; 1 by default. Terms of weight 0 do not count, whatever
        their `a`.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        -inf where every term vanishes; nan where the sum is negative. The derivative by `a` is the
        share of each term in the sum; of an infinite sum the largest terms take equal shares, which
        is the limit for terms that are equal.

    Raises
    ------
    ValueError
        `axis` is out of range, or `a` and `b` do not broadcast.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([1000.0, 1000.0])
    >>> y = gg.logsumexp(x)
    >>> y.backward()
    >>> x.grad
    array([0.5, 0.5])
    """
    if isinstance(axis, list):
        axis = tuple(axis)
    operands = (a,) if b is None else (a, b)
    return apply(LOGSUMEXP, operands, {"axis": axis, "keepdims": keepdims}, constant=constant)
