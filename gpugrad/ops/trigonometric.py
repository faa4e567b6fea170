"""Trigonometric functions, their reciprocals and inverses, in radians."""

from __future__ import annotations

from typing import Any

from gpugrad.apply import apply
from gpugrad.backend import elementary  # noqa: F401 (it makes the words declared here)
from gpugrad.graph.op import elementwise, operation
from gpugrad.tensor import Tensor
from gpugrad.ufunc import PlainUfunc, ufunc

__all__ = [
    "arccos",
    "arccot",
    "arccsc",
    "arcsec",
    "arcsin",
    "arctan",
    "arctan2",
    "cos",
    "cot",
    "csc",
    "deg2rad",
    "degrees",
    "hypot",
    "rad2deg",
    "radians",
    "sec",
    "sin",
    "sinc",
    "sinc_derivative",
    "tan",
]


@operation("sinc_derivative", lambda xp, g, y, x, *, n: g * xp.sinc_derivative(x, n=n + 1))
def SINC_DERIVATIVE(xp: Any, x: Any, *, n: int) -> Any:
    return xp.sinc_derivative(x, n=n)


def sinc_derivative(x: Any, n: int = 1, *, constant: bool | None = None) -> Tensor:
    """The `n`-th derivative of ``sinc(x) = sin(pi x) / (pi x)``, without cancellation near 0.

    Parameters
    ----------
    x : array_like
    n : int
        At least 0.
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
    """
    if n < 0:
        raise ValueError(f"sinc_derivative: n is {n}, expected an order of at least 0")
    return apply(SINC_DERIVATIVE, (x,), {"n": n}, constant=constant)


# ------------------------------------------------------------------------------------------ rules


def _arcsin(xp: Any, g: Any, x: Any) -> Any:
    # infinite at the ends of the domain, where it is taken to be 0 as in MyGrad
    end = xp.equal(xp.absolute(x), 1)
    x = xp.where(end, 0, x)
    return xp.where(end, 0, g / xp.sqrt((1 - x) * (1 + x)))


def _arcsec(xp: Any, g: Any, x: Any) -> Any:
    end = xp.equal(xp.absolute(x), 1)
    x = xp.where(end, 2, x)
    return xp.where(end, 0, g / (xp.absolute(x) * xp.sqrt((x - 1) * (x + 1))))


def _angle(xp: Any, g: Any, x1: Any, x2: Any) -> Any:
    """g x2 / (x1^2 + x2^2), and 0 at the origin, where the angle has no derivative."""
    r = xp.hypot(x1, x2)  # the squares would overflow beyond 1e154 and vanish below 1e-162
    origin = xp.equal(r, 0)
    r = xp.where(origin, 1, r)
    return xp.where(origin, 0, g * (x2 / r) / r)


def _hypot(xp: Any, g: Any, y: Any, x: Any) -> Any:
    origin = xp.equal(y, 0)
    return xp.where(origin, 0, g * (x / xp.where(origin, 1, y)))


SIN = elementwise("sin", lambda xp, g, y, x: g * xp.cos(x))
COS = elementwise("cos", lambda xp, g, y, x: -g * xp.sin(x))
TAN = elementwise("tan", lambda xp, g, y, x: g * (1 + y * y))
CSC = elementwise("csc", lambda xp, g, y, x: -g * y * xp.cot(x))
SEC = elementwise("sec", lambda xp, g, y, x: g * y * xp.tan(x))
COT = elementwise("cot", lambda xp, g, y, x: -g * (1 + y * y))
SINC = elementwise("sinc", lambda xp, g, y, x: g * xp.sinc_derivative(x, n=1))
ARCSIN = elementwise("arcsin", lambda xp, g, y, x: _arcsin(xp, g, x))
ARCCOS = elementwise("arccos", lambda xp, g, y, x: -_arcsin(xp, g, x))
ARCTAN = elementwise("arctan", lambda xp, g, y, x: g / (1 + x * x))
ARCCSC = elementwise("arccsc", lambda xp, g, y, x: -_arcsec(xp, g, x), safe=2.0)
ARCSEC = elementwise("arcsec", lambda xp, g, y, x: _arcsec(xp, g, x), safe=2.0)
ARCCOT = elementwise("arccot", lambda xp, g, y, x: -g / (1 + x * x))
ARCTAN2 = elementwise(
    "arctan2",
    lambda xp, g, y, x1, x2: _angle(xp, g, x1, x2),
    lambda xp, g, y, x1, x2: -_angle(xp, g, x2, x1),
)
HYPOT = elementwise(
    "hypot",
    lambda xp, g, y, x1, x2: _hypot(xp, g, y, x1),
    lambda xp, g, y, x1, x2: _hypot(xp, g, y, x2),
)
DEG2RAD = elementwise("deg2rad", lambda xp, g, y, x: xp.deg2rad(g))
RADIANS = elementwise("radians", lambda xp, g, y, x: xp.deg2rad(g))
RAD2DEG = elementwise("rad2deg", lambda xp, g, y, x: xp.rad2deg(g))
DEGREES = elementwise("degrees", lambda xp, g, y, x: xp.rad2deg(g))

sin = ufunc(SIN, "The sine.")
cos = ufunc(COS, "The cosine.")
tan = ufunc(TAN, "The tangent.")
csc = PlainUfunc(CSC, "The cosecant 1 / sin(a); infinite at 0.")
sec = PlainUfunc(SEC, "The secant 1 / cos(a).")
cot = PlainUfunc(COT, "The cotangent 1 / tan(a); infinite at 0.")
sinc = PlainUfunc(SINC, "sin(pi a) / (pi a), and 1 at 0, as NumPy's; smooth there at every order.")
arcsin = ufunc(ARCSIN, "The angle in [-pi/2, pi/2] with sine x; derivative at -1 and 1 taken as 0.")
arccos = ufunc(ARCCOS, "The angle in [0, pi] with cosine x; derivative at -1 and 1 taken as 0.")
arctan = ufunc(ARCTAN, "The angle in [-pi/2, pi/2] with tangent x.")
arccsc = PlainUfunc(
    ARCCSC, "The angle in [-pi/2, pi/2] with cosecant a; derivative at -1 and 1 taken as 0."
)
arcsec = PlainUfunc(
    ARCSEC, "The angle in [0, pi] with secant a; derivative at -1 and 1 taken as 0."
)
arccot = PlainUfunc(ARCCOT, "arctan(1 / a), and pi/2 at 0; range (-pi/2, pi/2].")
arctan2 = ufunc(
    ARCTAN2, "The angle in [-pi, pi] of the point (x2, x1); derivatives at the origin taken as 0."
)
hypot = ufunc(HYPOT, "sqrt(x1**2 + x2**2) without overflow; derivatives at the origin taken as 0.")
deg2rad = ufunc(DEG2RAD, "Degrees to radians.")
radians = ufunc(RADIANS, "Degrees to radians.")
rad2deg = ufunc(RAD2DEG, "Radians to degrees.")
degrees = ufunc(DEGREES, "Radians to degrees.")
