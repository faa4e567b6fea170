"""Sums, products, moments and extremes over axes; scans along one; sequences of operands."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import numpy as np

from tests.op_table.row import POSITIVE, REFERENCE, Operand, Row, formula, method

__all__ = ["ROWS"]


def _reductions() -> list[Row]:
    rows = []
    for name in ("sum", "mean", "prod", "max", "min"):
        analytic = name in ("sum", "mean", "prod")
        for shape, axis in (
            ((2, 3, 2), None),
            ((2, 3, 2), 1),
            ((2, 3, 2), -1),
            ((2, 3, 2), (0, 2)),
            ((2, 3, 2), (-1, 0)),
            ((), None),
            ((4,), 0),
            ((3, 0, 2), 0),
        ):
            for keepdims in (False, True):
                rows.append(
                    Row(
                        f"{name}{shape}axis={axis},keepdims={keepdims}".replace(" ", ""),
                        name,
                        method(name, axis=axis, keepdims=keepdims),
                        (Operand(shape),),
                        analytic,
                    )
                )
    rows.append(Row("sum()of-nothing", "sum", method("sum"), (Operand((0,)),)))
    rows.append(Row("sum-()-axes", "sum", method("sum", axis=()), (Operand((2, 3)),)))
    return rows


# NumPy's own take absolute values of complex numbers
@formula
def var(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    n = np.size(x) // max(np.size(np.mean(x, axis)), 1)
    deviation = x - np.mean(x, axis, keepdims=True)
    return np.sum(deviation * deviation, axis, keepdims=keepdims) / max(n - ddof, 0)


@formula
def std(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return np.sqrt(var(x, axis, ddof, keepdims))


def _moments() -> list[Row]:
    rows = []
    for name in ("var", "std"):
        for shape, axis, ddof in (
            ((2, 3, 2), None, 0),
            ((2, 3, 2), None, 1),
            ((2, 3, 2), 1, 1),
            ((2, 3, 2), -1, 0.5),
            ((2, 3, 2), (0, 2), 2),
            ((4,), 0, -1),
            ((3, 0, 2), 0, 0),
        ):
            for keepdims in (False, True):
                rows.append(
                    Row(
                        f"{name}{shape}axis={axis},{ddof=},{keepdims=}".replace(" ", ""),
                        name,
                        method(name, axis=axis, ddof=ddof, keepdims=keepdims),
                        (Operand(shape),),
                    )
                )
    rows.append(Row("var-of-one-number", "var", method("var"), (Operand(()),)))
    rows.append(Row("var-()-axes", "var", method("var", axis=()), (Operand((2, 2)),)))
    rows.append(Row("prod-()-axes", "prod", method("prod", axis=()), (Operand((2, 3)),)))
    rows.append(Row("prod()of-nothing", "prod", method("prod"), (Operand((0,)),)))
    rows.append(Row("ptp", "max", method("ptp", axis=0), (Operand((3, 2)),), analytic=False))
    return rows


@formula
def linear_recurrence(a: Any, b: Any) -> Any:
    s = np.zeros(b.shape, np.result_type(a, b))
    for i in range(b.shape[-1]):
        s[..., i] = b[..., i] + (a[..., i] * s[..., i - 1] if i else 0)
    return s


def _running(extreme: np.ufunc) -> Any:
    return lambda x, axis=None: (
        extreme.accumulate(np.ravel(x)) if axis is None else extreme.accumulate(x, axis)
    )


REFERENCE.cummax = _running(np.maximum)
REFERENCE.cummin = _running(np.minimum)


def _scans() -> list[Row]:
    rows = []
    for name, op in (
        ("cumsum", "cumsum"),
        ("cumprod", "cumprod"),
        ("cummax", "cummax"),
        ("cummin", "cummin"),
    ):
        for shape, axis in (
            ((2, 3, 2), None),
            ((2, 3, 2), 1),
            ((3, 2), -1),
            ((7,), 0),
            ((1,), 0),
            ((), None),
            ((0, 2), 0),
            ((2, 0), 0),
        ):
            rows.append(
                Row(
                    f"{name}{shape}axis={axis}".replace(" ", ""),
                    op,
                    method(name, axis=axis),
                    (Operand(shape),),
                    analytic=name.startswith("cums") or name == "cumprod",
                )
            )
    for shape in ((1,), (2, 2), (7,), (3, 8), (2, 0)):
        both = (Operand(shape), Operand(shape))
        name = f"linear_recurrence{shape}".replace(" ", "")
        rows.append(Row(name, "linear_recurrence", method("linear_recurrence"), both))
    x, ends = Operand((3, 4)), (Operand((2, 3)), Operand((2, 1)))
    return [
        *rows,
        Row("diff", "subtract", method("diff"), (x,)),
        Row("diff-axis", "subtract", method("diff", axis=0), (x,)),
        Row("diff-twice", "subtract", method("diff", n=2), (x,)),
        Row("diff-to-nothing", "subtract", method("diff", n=5), (x,)),
        Row("diff-append", "subtract", lambda m, x, e: m.diff(x, append=e), ends),
        Row("diff-prepend", "subtract", lambda m, x, e: m.diff(x, prepend=e, append=0.0), ends),
    ]


def _sequences() -> list[Row]:
    shapes = {"": ((2, 3),) * 3, "-broadcast": ((3,), (2, 1), ()), "-two": ((2,), (2,))}
    formulas = {
        "add_sequence": lambda *xs: reduce(operator.add, xs),
        "multiply_sequence": lambda *xs: reduce(operator.mul, xs),
    }
    rows = []
    for name, f in formulas.items():
        setattr(REFERENCE, name, f)
        for label, operands in shapes.items():
            rows.append(Row(name + label, name, method(name), tuple(map(Operand, operands))))

        def call(m: Any, x: Any, name: str = name) -> Any:
            return getattr(m, name)(x, 2.0, x)

        rows.append(Row(f"{name}-itself", name, call, (Operand((3,), POSITIVE),)))
    return rows


def _cast() -> list[Row]:
    def call(m: Any, x: Any) -> Any:
        return m.sum(x, axis=0, dtype=np.float64)

    return [Row("sum-in-float64", "cast", call, (Operand((3, 2)),), analytic=False)]


ROWS = (*_reductions(), *_moments(), *_scans(), *_sequences(), *_cast())
