"""Elementary functions that NumPy has no word for, written once in the vocabulary itself."""

from __future__ import annotations

from math import factorial, pi
from typing import Any

from gpugrad.backend.vocabulary import in_single, shared

__all__: list[str] = []

# -------------------------------------------------------------------------- trigonometric functions


@shared
def csc(xp: Any, x: Any) -> Any:
    """Return 1 / sin(x)."""
    return 1 / xp.sin(x)


@shared
def sec(xp: Any, x: Any) -> Any:
    """Return 1 / cos(x)."""
    return 1 / xp.cos(x)


@shared
def cot(xp: Any, x: Any) -> Any:
    """Return 1 / tan(x)."""
    return 1 / xp.tan(x)


@shared
def arccsc(xp: Any, x: Any) -> Any:
    """Return the angle in [-pi/2, pi/2] whose cosecant is x."""
    return xp.arcsin(1 / x)


@shared
def arcsec(xp: Any, x: Any) -> Any:
    """Return the angle in [0, pi] whose secant is x."""
    return xp.arccos(1 / x)


@shared
def arccot(xp: Any, x: Any) -> Any:
    """Return arctan(1 / x), and pi/2, its limit from above, for x = 0; range (-pi/2, pi/2]."""
    zero = xp.equal(x, 0)
    return xp.where(zero, pi / 2, xp.arctan(1 / xp.where(zero, 1, x)))


# ----------------------------------------------------------------------------- hyperbolic functions


@shared
def csch(xp: Any, x: Any) -> Any:
    """Return 1 / sinh(x); 0 where sinh overflows."""
    with xp.errstate(over="ignore"):
        return 1 / xp.sinh(x)


@shared
def sech(xp: Any, x: Any) -> Any:
    """Return 1 / cosh(x); 0 where cosh overflows."""
    with xp.errstate(over="ignore"):
        return 1 / xp.cosh(x)


@shared
def coth(xp: Any, x: Any) -> Any:
    """Return 1 / tanh(x)."""
    return 1 / xp.tanh(x)


@shared
def arccsch(xp: Any, x: Any) -> Any:
    """Return the number whose hyperbolic cosecant is x."""
    return xp.arcsinh(1 / x)


@shared
def arccoth(xp: Any, x: Any) -> Any:
    """Return the number whose hyperbolic cotangent is x."""
    return xp.arctanh(1 / x)


# --------------------------------------------------------------------------------------------- sinc


def _series(z: Any, n: int) -> Any:
    """The n-th derivative of sin(z) / z by its Taylor series, for |z| <= n + 3.

    sin(z) / z = sum over even m of (-1)^(m/2) z^m / (m + 1)!
    """
    first = n + n % 2
    terms = [
        (-1) ** (m // 2) / ((m + 1) * factorial(m - n)) for m in range(first, first + 4 * n + 34, 2)
    ]
    square = z * z
    total = terms[-1] * square + terms[-2]
    for term in terms[-3::-1]:
        total = total * square + term
    return total * z if n % 2 else total


def _closed(xp: Any, z: Any, n: int) -> Any:
    """The same by Leibniz's rule for sin(z) times 1 / z: exact, but it cancels for small z."""
    sin, cos = xp.sin(z), xp.cos(z)
    waves = (sin, cos, -sin, -cos)
    total = waves[n % 4] / z
    for j in range(1, n + 1):
        # the j-th derivative of 1 / z is (-1)^j j! / z^(j + 1)
        factor = (-1) ** j * factorial(n) // factorial(n - j)
        total = total + factor * (waves[(n - j) % 4] / z ** (j + 1))
    return total


def _sinc_derivative(xp: Any, x: Any, n: int) -> Any:
    z = pi * x
    near = xp.absolute(z) <= n + 3
    inner = _series(xp.where(near, z, 0), n)
    outer = _closed(xp, xp.where(near, n + 3, z), n)
    return pi**n * xp.where(near, inner, outer)


@shared
def sinc_derivative(xp: Any, x: Any, *, n: int) -> Any:
    """Return the n-th derivative of sin(pi x) / (pi x), without cancellation near 0."""
    return in_single(xp, lambda xp, x: _sinc_derivative(xp, x, n), x)


@shared
def sinc(xp: Any, x: Any) -> Any:
    """Return sin(pi x) / (pi x), and 1 for x = 0."""

    def body(xp: Any, x: Any) -> Any:
        zero = xp.equal(x, 0)
        z = pi * xp.where(zero, 1, x)
        return xp.where(zero, 1, xp.sin(z) / z)

    return in_single(xp, body, x)


# ------------------------------------------------------------------ absolute value without a choice


@shared
def absolute_or_nan(xp: Any, x: Any) -> Any:
    """Return |x|: the function whose derivative at 0 is left undefined."""
    return xp.absolute(x)
