"""Hyperbolic functions, their reciprocals and inverses."""

from __future__ import annotations

from typing import Any

from gpugrad.backend import elementary  # noqa: F401 (it makes the words declared here)
from gpugrad.graph.op import elementwise
from gpugrad.ufunc import PlainUfunc, ufunc

__all__ = [
    "arccosh",
    "arccoth",
    "arccsch",
    "arcsinh",
    "arctanh",
    "cosh",
    "coth",
    "csch",
    "sech",
    "sinh",
    "tanh",
]


def _coth(xp: Any, g: Any, x: Any) -> Any:
    y = xp.csch(x)  # 1 - coth(x)^2 would cancel for large x
    return -g * y * y


SINH = elementwise("sinh", lambda xp, g, y, x: g * xp.cosh(x))
COSH = elementwise("cosh", lambda xp, g, y, x: g * xp.sinh(x))
TANH = elementwise("tanh", lambda xp, g, y, x: g * (1 - y * y))
CSCH = elementwise("csch", lambda xp, g, y, x: -g * y * xp.coth(x))
SECH = elementwise("sech", lambda xp, g, y, x: -g * y * xp.tanh(x))
COTH = elementwise("coth", lambda xp, g, y, x: _coth(xp, g, x))
# hypot, and roots taken one by one: x^2 would overflow beyond 1e154
ARCSINH = elementwise("arcsinh", lambda xp, g, y, x: g / xp.hypot(x, 1))
ARCCOSH = elementwise(
    "arccosh", lambda xp, g, y, x: g / (xp.sqrt(x - 1) * xp.sqrt(x + 1)), safe=2.0
)
ARCTANH = elementwise("arctanh", lambda xp, g, y, x: g / ((1 - x) * (1 + x)))
ARCCSCH = elementwise("arccsch", lambda xp, g, y, x: -g / (xp.absolute(x) * xp.hypot(x, 1)))
ARCCOTH = elementwise("arccoth", lambda xp, g, y, x: g / ((1 - x) * (1 + x)), safe=2.0)

sinh = ufunc(SINH, "The hyperbolic sine.")
cosh = ufunc(COSH, "The hyperbolic cosine.")
tanh = ufunc(TANH, "The hyperbolic tangent; range [-1, 1].")
csch = PlainUfunc(CSCH, "The hyperbolic cosecant 1 / sinh(a); infinite at 0.")
sech = PlainUfunc(SECH, "The hyperbolic secant 1 / cosh(a); range [0, 1].")
coth = PlainUfunc(COTH, "The hyperbolic cotangent 1 / tanh(a); infinite at 0.")
arcsinh = ufunc(ARCSINH, "The number with hyperbolic sine x.")
arccosh = ufunc(ARCCOSH, "The number, at least 0, with hyperbolic cosine x >= 1.")
arctanh = ufunc(ARCTANH, "The number with hyperbolic tangent x, for -1 <= x <= 1.")
arccsch = PlainUfunc(ARCCSCH, "The number with hyperbolic cosecant a.")
arccoth = PlainUfunc(ARCCOTH, "The number with hyperbolic cotangent a, for |a| >= 1.")
