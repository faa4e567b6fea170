"""One row for each differentiable operation: what generic tests need to know about it.

A row's `call(m, *operands)` is written once and evaluated in two namespaces: `m` is gpugrad's or
the reference's, NumPy with a formula for what NumPy lacks. The rows of functions that are analytic
are differentiated by a complex step, which has no truncation error; the others by differences.

    value       call(gpugrad, ...) against call(REFERENCE, ...)
    gradient    against the derivative of call(REFERENCE, ...)

A new operation is one row in the room of its family (`test_every_operation_has_a_row` fails until
it is).
"""

from __future__ import annotations

from tests.op_table import (
    elementwise,
    indexing,
    linalg,
    losses,
    nnet,
    recurrent,
    reductions,
    shaping,
    sorting,
    special,
)
from tests.op_table.elementwise import ELEMENTWISE as _NUMPYS
from tests.op_table.indexing import INDICES
from tests.op_table.row import REFERENCE, Elementwise, Operand, Row, draw, numerical_vjp

__all__ = [
    "ELEMENTWISE",
    "INDICES",
    "REFERENCE",
    "ROWS",
    "Elementwise",
    "Operand",
    "Row",
    "draw",
    "numerical_vjp",
]

ELEMENTWISE = _NUMPYS + special.ELEMENTWISE
_ROOMS = (elementwise, special, linalg, reductions, shaping, sorting, indexing, nnet, losses)
_ROOMS += (recurrent,)
ROWS: tuple[Row, ...] = tuple(row for room in _ROOMS for row in room.ROWS)
