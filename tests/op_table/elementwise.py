"""Functions with the call signature of NumPy's ufuncs, operators, and choices between two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.op_table.row import POSITIVE, REAL, Elementwise, Operand, Row, formula

__all__ = ["ELEMENTWISE", "ROWS", "rows_of"]

_INSIDE = (-0.9, 0.9)
_OUTSIDE = (1.2, 3.0)
_HALF_TURN = (0.3, 2.5)

ELEMENTWISE = (
    Elementwise("add", (REAL, REAL)),
    Elementwise("subtract", (REAL, REAL)),
    Elementwise("multiply", (REAL, REAL)),
    Elementwise("divide", (REAL, POSITIVE)),
    Elementwise("power", (POSITIVE, REAL)),
    Elementwise("negative", (REAL,)),
    Elementwise("positive", (REAL,)),
    Elementwise("absolute", (REAL,), analytic=False),
    Elementwise("reciprocal", (POSITIVE,)),
    Elementwise("square", (REAL,)),
    Elementwise("sqrt", (POSITIVE,)),
    Elementwise("cbrt", (POSITIVE,), analytic=False),
    Elementwise("maximum", (REAL, REAL), analytic=False),
    Elementwise("minimum", (REAL, REAL), analytic=False),
    Elementwise("exp", (REAL,)),
    Elementwise("expm1", (REAL,)),
    Elementwise("exp2", (REAL,)),
    Elementwise("log", (POSITIVE,)),
    Elementwise("log1p", (POSITIVE,)),
    Elementwise("log2", (POSITIVE,)),
    Elementwise("log10", (POSITIVE,)),
    Elementwise("logaddexp", (REAL, REAL)),
    Elementwise("logaddexp2", (REAL, REAL)),
    Elementwise("sigmoid", (REAL,)),
    Elementwise("softplus", (REAL,)),
    Elementwise("log_sigmoid", (REAL,)),
    Elementwise("sin", (REAL,)),
    Elementwise("cos", (REAL,)),
    Elementwise("tan", ((-1.2, 1.2),)),
    Elementwise("csc", (_HALF_TURN,)),
    Elementwise("sec", ((-1.2, 1.2),)),
    Elementwise("cot", (_HALF_TURN,)),
    Elementwise("sinc", (REAL,)),
    Elementwise("arcsin", (_INSIDE,)),
    Elementwise("arccos", (_INSIDE,)),
    Elementwise("arctan", (REAL,)),
    Elementwise("arccsc", (_OUTSIDE,)),
    Elementwise("arcsec", (_OUTSIDE,)),
    Elementwise("arccot", (POSITIVE,)),
    Elementwise("arctan2", (REAL, POSITIVE), analytic=False),
    Elementwise("hypot", (REAL, POSITIVE), analytic=False),
    Elementwise("deg2rad", (REAL,), analytic=False),
    Elementwise("radians", (REAL,), analytic=False),
    Elementwise("rad2deg", (REAL,), analytic=False),
    Elementwise("degrees", (REAL,), analytic=False),
    Elementwise("sinh", (REAL,)),
    Elementwise("cosh", (REAL,)),
    Elementwise("tanh", (REAL,)),
    Elementwise("csch", (POSITIVE,)),
    Elementwise("sech", (REAL,)),
    Elementwise("coth", (POSITIVE,)),
    Elementwise("arcsinh", (REAL,)),
    Elementwise("arccosh", (_OUTSIDE,)),
    Elementwise("arctanh", (_INSIDE,)),
    Elementwise("arccsch", (POSITIVE,)),
    Elementwise("arccoth", (_OUTSIDE,)),
    Elementwise("fabs", (REAL,), analytic=False),
    Elementwise("absolute_or_nan", (REAL,), analytic=False),
    Elementwise("copysign", (REAL, REAL), analytic=False),
    Elementwise("fmax", (REAL, REAL), analytic=False),
    Elementwise("fmin", (REAL, REAL), analytic=False),
)
# 0-d, empty, one axis, and for two operands every way of broadcasting
_UNARY_SHAPES = ((), (0, 3), (2, 3))
_BINARY_SHAPES = (
    ((2, 3), (2, 3)),
    ((), ()),
    ((2, 3), ()),
    ((3, 1), (4,)),
    ((1, 3), (2, 1, 1)),
    ((0, 3), (3,)),
)


def rows_of(functions: tuple[Elementwise, ...]) -> list[Row]:
    """Rows for every way in which the operands may be shaped."""
    rows = []
    for f in functions:
        if len(f.domains) == 1:
            rows += [f.row(shape) for shape in _UNARY_SHAPES]
        else:
            rows += [f.row(*shapes) for shapes in _BINARY_SHAPES]
    return rows


def _choosing() -> list[Row]:
    def where(condition: Any) -> Callable[..., Any]:
        return lambda m, x, y: m.where(x < y if condition is None else condition, x, y)

    xs = (Operand((2, 3)), Operand((2, 3)))
    broadcast = (Operand((3,)), Operand((2, 1)))
    mixed = (Operand(()), Operand((2, 3)))

    def clip(m: Any, x: Any, low: Any, high: Any) -> Any:
        return m.clip(x, low, high)

    bounds = (Operand((2, 3)), Operand((3,), (-1.5, -0.5)), Operand((), (0.5, 1.0)))
    return [
        Row("where", "where", where(None), xs, analytic=False),
        Row("where-broadcast", "where", where(None), broadcast, analytic=False),
        Row("where-scalar", "where", where(None), mixed, analytic=False),
        Row("clip", "minimum", clip, bounds, analytic=False),
        Row("clip-low", "maximum", lambda m, x: m.clip(x, 0.1, None), xs[:1], analytic=False),
        Row("clip-high", "minimum", lambda m, x: m.clip(x, None, 0.1), xs[:1], analytic=False),
    ]


def _operators() -> list[Row]:
    """The operators with Python scalars, which take the dtype of the array."""
    calls: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "x+1": ("add", lambda x: x + 1),
        "2-x": ("subtract", lambda x: 2 - x),
        "x*2.5": ("multiply", lambda x: x * 2.5),
        "1/x": ("divide", lambda x: 1 / x),
        "x/2": ("divide", lambda x: x / 2),
        "x**2": ("square", lambda x: x**2),
        "x**3": ("power", lambda x: x**3),
        "x**-1.5": ("power", lambda x: x**-1.5),
        "x**1": ("positive", lambda x: x**1),
        "2**x": ("power", lambda x: 2**x),
        "-x": ("negative", lambda x: -x),
        "x@x": ("matmul", lambda x: x @ x),
    }
    return [
        Row(name, op, lambda m, x, f=f: f(x), (Operand((3,), POSITIVE),))
        for name, (op, f) in calls.items()
    ]


# ------------------------------------------------------------------------ what the reference lacks


@formula
def csc(x: Any) -> Any:
    return 1 / np.sin(x)


@formula
def sec(x: Any) -> Any:
    return 1 / np.cos(x)


@formula
def cot(x: Any) -> Any:
    return np.cos(x) / np.sin(x)


@formula
def arccsc(x: Any) -> Any:
    return np.arcsin(1 / x)


@formula
def arcsec(x: Any) -> Any:
    return np.arccos(1 / x)


@formula
def arccot(x: Any) -> Any:
    return np.arctan(1 / x)


@formula
def csch(x: Any) -> Any:
    return 2 / (np.exp(x) - np.exp(-x))


@formula
def sech(x: Any) -> Any:
    return 2 / (np.exp(x) + np.exp(-x))


@formula
def coth(x: Any) -> Any:
    return np.cosh(x) / np.sinh(x)


@formula
def arccsch(x: Any) -> Any:
    return np.log(1 / x + np.sqrt(1 / (x * x) + 1))


@formula
def arccoth(x: Any) -> Any:
    return np.log((x + 1) / (x - 1)) / 2


@formula
def absolute_or_nan(x: Any) -> Any:
    return np.abs(x)


@formula
def sinc_derivative(x: Any, n: int) -> Any:
    z = np.pi * x
    first = (np.cos(z) - np.sinc(x)) / x
    return first if n == 1 else -np.pi * np.sin(z) / x - 2 * first / x


def _derivatives_of_sinc() -> list[Row]:
    def derivative(n: int) -> Callable[..., Any]:
        return lambda m, x: m.sinc_derivative(x, n=n)

    x = Operand((2, 3), (0.3, 2.0))
    return [Row(f"sinc-derivative-{n}", "sinc_derivative", derivative(n), (x,)) for n in (1, 2)]


ROWS = (*_derivatives_of_sinc(), *rows_of(ELEMENTWISE), *_operators(), *_choosing())
