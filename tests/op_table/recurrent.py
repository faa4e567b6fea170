"""The gated recurrent unit and the recurrence of its derivatives, one vector at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.op_table.row import REFERENCE, Operand, Row, formula, method

__all__ = ["ROWS"]


@formula
def gru(
    x: Any, uz: Any, wz: Any, bz: Any, ur: Any, wr: Any, br: Any, uh: Any, wh: Any, bh: Any, s0: Any
) -> Any:
    (steps, n, _), d = x.shape, bz.shape[0]
    dtype = np.result_type(x, uz, wz, bz, ur, wr, br, uh, wh, bh)
    states = np.zeros((steps + 1, n, d), dtype)
    states[0] = s0
    for t in range(steps):
        for k in range(n):
            s = states[t, k]
            z = REFERENCE.sigmoid(x[t, k] @ uz + s @ wz + bz)
            r = REFERENCE.sigmoid(x[t, k] @ ur + s @ wr + br)
            h = np.tanh(x[t, k] @ uh + (r * s) @ wh + bh)
            states[t + 1, k] = (1 - z) * h + z * s
    return states


@formula
def gated_recurrence(
    u: Any,
    a: Any,
    b: Any,
    c: Any,
    r: Any,
    e: Any,
    wz: Any,
    wr: Any,
    wh: Any,
    *,
    adjoint: bool,
) -> Any:
    if len({u.shape[0] - 1, *(p.shape[0] for p in (a, b, c, r, e))}) > 1:
        raise ValueError("not one step less than states")
    v = np.array(u, np.result_type(u, a, b, c, r, e, wz, wr, wh))
    steps = range(a.shape[0])
    for t in reversed(steps) if adjoint else steps:
        for k in range(u.shape[1]):
            step = (  # the matrix that carries a change of the state over one step
                np.diag(a[t, k]) + wz * b[t, k] + (np.diag(r[t, k]) + wr * e[t, k]) @ (wh * c[t, k])
            )
            if adjoint:
                v[t, k] += step @ v[t + 1, k]
            else:
                v[t + 1, k] += v[t, k] @ step
    return v


def _gru(steps: int, n: int, c: int, d: int, s0: tuple[int, ...]) -> Row:
    weights = ((c, d), (d, d), (d,)) * 3
    operands = tuple(Operand(shape, (-1.0, 1.0)) for shape in ((steps, n, c), *weights, s0))
    return Row(f"gru{(steps, n, c, d)}{s0}".replace(" ", ""), "gru", method("gru"), operands)


def _recurrence(steps: int, n: int, d: int, adjoint: bool) -> Row:
    shapes = ((steps + 1, n, d), *((steps, n, d),) * 5, *((d, d),) * 3)
    operands = tuple(Operand(shape, (-1.0, 1.0)) for shape in shapes)
    call = method("gated_recurrence", adjoint=adjoint)
    name = f"gated_recurrence{(steps, n, d)},{adjoint}".replace(" ", "")
    return Row(name, "gated_recurrence", call, operands)


ROWS: tuple[Row, ...] = (
    _gru(3, 2, 1, 2, (2, 2)),
    _gru(1, 1, 3, 2, ()),
    _gru(2, 3, 2, 1, (1,)),
    _gru(0, 2, 1, 3, (2, 3)),
    *(
        _recurrence(*lengths, adjoint)
        for lengths in ((3, 2, 2), (1, 3, 1))
        for adjoint in (False, True)
    ),
)
