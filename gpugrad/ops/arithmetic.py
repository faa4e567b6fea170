"""Sums, products, powers, and the extremes of pairs."""

from __future__ import annotations

from inspect import Parameter
from math import nan
from typing import Any

from gpugrad.apply import apply
from gpugrad.backend import elementary  # noqa: F401 (it makes the words declared here)
from gpugrad.errors import composite
from gpugrad.graph.op import elementwise
from gpugrad.tensor import Tensor
from gpugrad.typing import ArrayLike, DTypeLikeReals
from gpugrad.ufunc import UnaryUfunc, call, ufunc

__all__ = [
    "absolute",
    "absolute_or_nan",
    "add",
    "cbrt",
    "clip",
    "copysign",
    "divide",
    "fabs",
    "fmax",
    "fmin",
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
    if isinstance(x2, int | float):
        return g * x2 * x1 ** (x2 - 1) if x2 else xp.zeros_like(g)
    # x2 x1^(x2 - 1) is 0 for x2 = 0: at x1 = 0 too, where the formula would give 0 * inf
    corner = xp.logical_and(xp.equal(x2, 0), xp.equal(x1, 0))
    return g * x2 * x1 ** xp.where(corner, 1, x2 - 1)


def _power_exponent(xp: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    # the limit of x1^x2 log(x1) for x1 -> 0 is 0 for every x2 > 0
    return g * y * xp.log(xp.where(xp.equal(x1, 0), 1, x1))


def _first_wins(xp: Any, g: Any, wins: Any) -> Any:
    return xp.where(wins, g, 0)


def _second_wins(xp: Any, g: Any, loses: Any) -> Any:
    # the complement of "first wins or tie": of nan and a number, the second takes the gradient
    return xp.where(loses, 0, g)


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
    lambda xp, g, y, x1, x2: _first_wins(xp, g, xp.greater(x1, x2)),
    lambda xp, g, y, x1, x2: _second_wins(xp, g, xp.greater_equal(x1, x2)),
)
MINIMUM = elementwise(
    "minimum",
    lambda xp, g, y, x1, x2: _first_wins(xp, g, xp.less(x1, x2)),
    lambda xp, g, y, x1, x2: _second_wins(xp, g, xp.less_equal(x1, x2)),
)
# a nan loses against every number
FMAX = elementwise(
    "fmax",
    lambda xp, g, y, x1, x2: _first_wins(xp, g, xp.logical_or(xp.greater(x1, x2), xp.isnan(x2))),
    lambda xp, g, y, x1, x2: _first_wins(xp, g, xp.logical_or(xp.greater(x2, x1), xp.isnan(x1))),
)
FMIN = elementwise(
    "fmin",
    lambda xp, g, y, x1, x2: _first_wins(xp, g, xp.logical_or(xp.less(x1, x2), xp.isnan(x2))),
    lambda xp, g, y, x1, x2: _first_wins(xp, g, xp.logical_or(xp.less(x2, x1), xp.isnan(x1))),
)
FABS = elementwise("fabs", lambda xp, g, y, x: g * xp.sign(x))
COPYSIGN = elementwise(
    "copysign",
    lambda xp, g, y, x1, x2: xp.where(xp.signbit(x2), -g, g) * xp.sign(x1),
    lambda xp, g, y, x1, x2: xp.zeros_like(g),
)


def _undefined_at_zero(xp: Any, g: Any, x: Any) -> Any:
    return xp.where(xp.equal(x, 0), nan, g * xp.sign(x))


ABSOLUTE_OR_NAN = elementwise("absolute_or_nan", lambda xp, g, y, x: _undefined_at_zero(xp, g, x))


class _Absolute(UnaryUfunc, ours=True):
    """It has one parameter more."""

    def __call__(
        self,
        x: ArrayLike,
        out: Any = None,
        *,
        where: Any = True,
        dtype: DTypeLikeReals | None = None,
        constant: bool | None = None,
        nan_to_num: bool = True,
    ) -> Tensor:
        op = ABSOLUTE if nan_to_num else ABSOLUTE_OR_NAN
        if out is None and where is True and dtype is None:
            return apply(op, (x,), constant=constant)
        return call(op, (x,), out=out, where=where, dtype=dtype, constant=constant)

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {**super().__annotations__, "nan_to_num": bool}

    def _options(self) -> list[tuple[str, Any, Any]]:
        return [*super()._options(), ("nan_to_num", Parameter.KEYWORD_ONLY, True)]


add = ufunc(ADD, "x1 + x2.")
subtract = ufunc(SUBTRACT, "x1 - x2.")
multiply = ufunc(MULTIPLY, "x1 * x2.")
divide = ufunc(DIVIDE, "x1 / x2.", "true_divide")
true_divide = divide
power = ufunc(POWER, "x1 to the power x2; the derivative by x1 is 0 where x2 = 0.")
negative = ufunc(NEGATIVE, "-x.")
positive = ufunc(POSITIVE, "+x, a new tensor.")
absolute = _Absolute(
    ABSOLUTE, "|x|; the derivative at 0 is taken to be 0, or with ``nan_to_num=False`` nan."
)
absolute_or_nan = ufunc(ABSOLUTE_OR_NAN, "|x|; the derivative at 0 is nan.")
fabs = ufunc(FABS, "|x| as a float; the derivative at 0 is taken to be 0.")
copysign = ufunc(COPYSIGN, "|x1| with the sign of x2; the derivative by x2 is 0.")
reciprocal = ufunc(RECIPROCAL, "1 / x.")
square = ufunc(SQUARE, "x * x.")
sqrt = ufunc(SQRT, "The non-negative square root; its derivative at 0 is infinite.")
cbrt = ufunc(CBRT, "The cube root.")
maximum = ufunc(MAXIMUM, "The larger of x1 and x2, nan if either is; no gradient at a tie.")
minimum = ufunc(MINIMUM, "The smaller of x1 and x2, nan if either is; no gradient at a tie.")
fmax = ufunc(
    FMAX, "The larger of x1 and x2, the number of a number and a nan; no gradient at a tie."
)
fmin = ufunc(
    FMIN, "The smaller of x1 and x2, the number of a number and a nan; no gradient at a tie."
)


@composite
def clip(
    a: Any, a_min: Any, a_max: Any, out: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Limit `a` to [a_min, a_max]; either bound may be None, for no bound.

    The bounds are differentiable too. At a bound neither side takes the gradient.

    Parameters
    ----------
    a, a_min, a_max : array_like
        They broadcast against each other. Where ``a_min > a_max`` the result is `a_max`.
    out : Tensor or array, optional
        Written to and returned.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        `a` itself, as a tensor, if there are neither bounds nor `out`.
    """
    if a_min is None and a_max is None:
        if out is not None:
            return call(POSITIVE, (a,), out=out, constant=constant)
        return a if isinstance(a, Tensor) else Tensor(a, copy=False)
    if a_min is not None:
        last = a_max is None
        a = call(MAXIMUM, (a, a_min), out=out if last else None, constant=constant)
    if a_max is not None:
        a = call(MINIMUM, (a, a_max), out=out, constant=constant)
    return a
