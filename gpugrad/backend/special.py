"""Special functions of statistics as words of the vocabulary.

Those that elementary functions give are written out. The others are SciPy's on the host and
CuPy's `cupyx.scipy.special` on a GPU, by name, imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from math import factorial
from typing import Any

import numpy as np

from gpugrad.backend.vocabulary import in_single, shared
from gpugrad.errors import MissingExtraError

__all__: list[str] = []

_LIBRARY = {"numpy": "scipy.special", "cupy": "cupyx.scipy.special"}


def _theirs(xp: Any, name: str, *x: Any) -> Any:
    """SciPy's or CuPy's function `name` of arrays, in the precision of the last one."""
    module = _LIBRARY[xp.name]
    try:
        function = getattr(import_module(module), name)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{name}: the function is {module}'s, and {package} cannot be imported ({error}); "
            f"pip install {'scipy' if package == 'scipy' else 'cupy'}"
        ) from error
    return in_single(xp, lambda xp, last: function(*x[:-1], last), x[-1])


@shared
def erf(xp: Any, x: Any) -> Any:
    """Return the error function 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return _theirs(xp, "erf", x)


@shared
def erfc(xp: Any, x: Any) -> Any:
    """Return 1 - erf(x), accurate for large x."""
    return _theirs(xp, "erfc", x)


@shared
def erfinv(xp: Any, y: Any) -> Any:
    """Return the x with erf(x) = y."""
    return _theirs(xp, "erfinv", y)


@shared
def gammaln(xp: Any, x: Any) -> Any:
    """Return log |Gamma(x)|."""
    return _theirs(xp, "gammaln", x)


@shared
def digamma(xp: Any, x: Any) -> Any:
    """Return the derivative of log Gamma(x)."""
    return _theirs(xp, "digamma", x)


@shared
def polygamma(xp: Any, n: int, x: Any) -> Any:
    """Return the n-th derivative of digamma(x)."""
    if n == 0:
        return digamma(xp, x)
    # by Hurwitz' zeta function: SciPy's polygamma gives float64 for float32
    return (-1) ** (n + 1) * float(factorial(n)) * _theirs(xp, "zeta", n + 1.0, x)


def _vanishes(xp: Any, x: Any, y: Any) -> Any:
    """Where x log(y) is 0 because x is, whatever the number y."""
    return xp.logical_and(xp.equal(x, 0), xp.logical_not(xp.isnan(y)))


@shared
def xlogy(xp: Any, x: Any, y: Any) -> Any:
    """Return x log(y), and 0 for x = 0 unless y is nan."""
    return x * xp.log(xp.where(_vanishes(xp, x, y), 1, y))


@shared
def xlog1py(xp: Any, x: Any, y: Any) -> Any:
    """Return x log(1 + y), and 0 for x = 0 unless y is nan."""
    return x * xp.log1p(xp.where(_vanishes(xp, x, y), 0, y))


@shared
def logsumexp(
    xp: Any,
    x: Any,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    *,
    b: Any = None,
) -> Any:
    """Return log(sum(b exp(x))) over `axis`, without overflow; -inf if nothing is summed."""
    x = xp.asarray(x)
    dtype = x.dtype if b is None else xp.result_type(x, b)
    if dtype.kind != "f":
        dtype = np.dtype(np.float64)
    x = x.astype(np.float32 if dtype.itemsize < 4 else dtype)
    if b is not None:
        x = xp.where(xp.equal(b, 0), -np.inf, x)
    top = xp.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = xp.where(xp.isfinite(top), top, 0)
    terms = xp.exp(x - top)
    if b is not None:
        # what counts for nothing is left out: 0 * exp(inf) would be nan
        terms = xp.where(xp.equal(b, 0), 0, b * terms)
    with xp.errstate(divide="ignore"):
        y = xp.log(xp.sum(terms, axis=axis, keepdims=True)) + top
    if not keepdims:
        y = xp.squeeze(y, axis=axis if axis is not None else tuple(range(y.ndim)))
    return y.astype(dtype)
