"""Sums, products, powers, and the extremes of pairs."""

from __future__ import annotations

from typing import Any

from gpugrad.graph.op import elementwise
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call, ufunc

__all__ = [
    "absolute",
    "add",
    "cbrt",
    "clip",
    "divide",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "positive",
    "power",
    "reciprocal",
    "sqrt",
    "square",
    "subtract",
    "true_divide",
]


def _power_base(xp: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    # x2 x1^(x2 - 1) is 0 for x2 = 0, at x1 = 0 as well, where the formula would give 0 * inf
    flat = xp.equal(x2, 0)
    return xp.where(flat, 0, g * x2 * x1 ** xp.where(flat, 1, x2 - 1))


def _power_exponent(xp: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    # the limit of x1^x2 log(x1) for x1 -> 0 is 0 for every x2 > 0
    zero = xp.equal(x1, 0)
    return xp.where(zero, 0, g * y * xp.log(xp.where(zero, 1, x1)))


def _wins(xp: Any, greater: Any, g: Any) -> Any:
    return xp.where(greater, g, 0)


ADD = elementwise("add", lambda xp, g, y, x1, x2: g, lambda xp, g, y, x1, x2: g)
SUBTRACT = elementwise("subtract", lambda xp, g, y, x1, x2: g, lambda xp, g, y, x1, x2: -g)
MULTIPLY = elementwise("multiply", lambda xp, g, y, x1, x2: g * x2, lambda xp, g, y, x1, x2: g * x1)
DIVIDE = elementwise(
    "divide", lambda xp, g, y, x1, x2: g / x2, lambda xp, g, y, x1, x2: -g * y / x2
)
POWER = elementwise("power", _power_base, _power_exponent)
NEGATIVE = elementwise("negative", lambda xp, g, y, x: -g)
POSITIVE = elementwise("positive", lambda xp, g, y, x: g)
ABSOLUTE = elementwise("absolute", lambda xp, g, y, x: g * xp.sign(x))
RECIPROCAL = elementwise("reciprocal", lambda xp, g, y, x: -g * y * y)
SQUARE = elementwise("square", lambda xp, g, y, x: 2 * g * x)
SQRT = elementwise("sqrt", lambda xp, g, y, x: g / (2 * y))
CBRT = elementwise("cbrt", lambda xp, g, y, x: g / (3 * y * y))
# at a tie neither operand takes the gradient
MAXIMUM = elementwise(
    "maximum",
    lambda xp, g, y, x1, x2: _wins(xp, xp.greater(x1, x2), g),
    lambda xp, g, y, x1, x2: _wins(xp, xp.greater(x2, x1), g),
)
MINIMUM = elementwise(
    "minimum",
    lambda xp, g, y, x1, x2: _wins(xp, xp.less(x1, x2), g),
    lambda xp, g, y, x1, x2: _wins(xp, xp.less(x2, x1), g),
)

add = ufunc(ADD, "x1 + x2.")
subtract = ufunc(SUBTRACT, "x1 - x2.")
multiply = ufunc(MULTIPLY, "x1 * x2.")
divide = ufunc(DIVIDE, "x1 / x2.")
true_divide = divide
power = ufunc(POWER, "x1 to the power x2; the derivative by x1 is 0 where x2 = 0.")
negative = ufunc(NEGATIVE, "-x.")
positive = ufunc(POSITIVE, "+x, a new tensor.")
absolute = ufunc(ABSOLUTE, "|x|; the derivative at 0 is taken to be 0.")
reciprocal = ufunc(RECIPROCAL, "1 / x.")
square = ufunc(SQUARE, "x * x.")
sqrt = ufunc(SQRT, "The non-negative square root; its derivative at 0 is infinite.")
cbrt = ufunc(CBRT, "The cube root.")
maximum = ufunc(MAXIMUM, "The larger of x1 and x2, nan if either is; no gradient at a tie.")
minimum = ufunc(MINIMUM, "The smaller of x1 and x2, nan if either is; no gradient at a tie.")


def clip(
    a: Any, a_min: Any, a_max: Any, out: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Limit `a` to [a_min, a_max]; either bound may be None, for no bound.

    The bounds are differentiable too. At a bound neither side takes the gradient.

    Raises
    ------
    ValueError
        Both bounds are None.
    """
    if a_min is None and a_max is None:
        raise ValueError("clip: a_min and a_max are both None, expected at least one bound")
    if a_min is not None:
        last = a_max is None
        a = call(MAXIMUM, (a, a_min), out=out if last else None, constant=constant)
    if a_max is not None:
        a = call(MINIMUM, (a, a_max), out=out, constant=constant)
    return a
