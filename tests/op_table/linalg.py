"""Products and decompositions of matrices."""

from __future__ import annotations

from tests.op_table.row import Operand, Row, method

__all__ = ["ROWS"]


def _matmul() -> list[Row]:
    shapes = (
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((2, 2, 3), (3,)),
        ((3,), (2, 3, 2)),
        ((2, 2, 3), (3, 2)),
        ((2, 3), (2, 3, 2)),
        ((2, 1, 2, 3), (3, 3, 2)),
        ((0, 3), (3, 2)),
        ((2, 0), (0, 2)),
    )
    return [
        Row(f"matmul{a}{b}".replace(" ", ""), "matmul", method("matmul"), (Operand(a), Operand(b)))
        for a, b in shapes
    ]


ROWS = tuple(_matmul())
