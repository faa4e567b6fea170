"""Sums, means and extremes over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.op_table.row import Operand, Row, method

__all__ = ["ROWS"]


def _reductions() -> list[Row]:
    rows = []
    for name in ("sum", "mean", "max", "min"):
        analytic = name in ("sum", "mean")
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


def _cast() -> list[Row]:
    def call(m: Any, x: Any) -> Any:
        return m.sum(x, axis=0, dtype=np.float64)

    return [Row("sum-in-float64", "cast", call, (Operand((3, 2)),), analytic=False)]


ROWS = (*_reductions(), *_cast())
