"""Functions with the call signature of NumPy's ufuncs, operators, and choices between two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.op_table.row import POSITIVE, REAL, Elementwise, Operand, Row

__all__ = ["ELEMENTWISE", "ROWS"]

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
    Elementwise("tanh", (REAL,)),
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


def _elementwise_rows() -> list[Row]:
    rows = []
    for f in ELEMENTWISE:
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


ROWS = (*_elementwise_rows(), *_operators(), *_choosing())
