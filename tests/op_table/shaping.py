"""Functions that rearrange and join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.op_table.row import Operand, Row, method

__all__ = ["ROWS"]


def _shaping() -> list[Row]:
    x, line = Operand((2, 3, 4)), Operand((6,))
    flat = Operand((1, 3, 1))
    return [
        Row("reshape", "reshape", method("reshape", (4, 6)), (x,)),
        Row("reshape-1", "reshape", method("reshape", (3, -1)), (x,)),
        Row("reshape-int", "reshape", method("reshape", 24), (x,)),
        Row("reshape-to-0d", "reshape", method("reshape", ()), (Operand((1, 1)),)),
        Row("reshape-empty", "reshape", method("reshape", (3, 0)), (Operand((0, 2)),)),
        Row("ravel", "reshape", method("ravel"), (x,)),
        Row("transpose", "transpose", method("transpose"), (x,)),
        Row("transpose-axes", "transpose", method("transpose", (1, 2, 0)), (x,)),
        Row("transpose-negative", "transpose", method("transpose", (-1, 0, -2)), (x,)),
        Row("transpose-0d", "transpose", method("transpose"), (Operand(()),)),
        Row("swapaxes", "swapaxes", method("swapaxes", 0, -1), (x,)),
        Row("moveaxis", "moveaxis", method("moveaxis", 0, 2), (x,)),
        Row("moveaxis-two", "moveaxis", method("moveaxis", (0, 1), (-1, 0)), (x,)),
        Row("expand_dims", "expand_dims", method("expand_dims", 1), (x,)),
        Row("expand_dims-last", "expand_dims", method("expand_dims", -1), (Operand(()),)),
        Row("expand_dims-two", "expand_dims", method("expand_dims", (0, -1)), (line,)),
        Row("squeeze", "squeeze", method("squeeze"), (flat,)),
        Row("squeeze-axis", "squeeze", method("squeeze", axis=0), (flat,)),
        Row("squeeze-axes", "squeeze", method("squeeze", axis=(0, -1)), (flat,)),
        Row("broadcast_to", "broadcast_to", method("broadcast_to", (4, 2, 3)), (Operand((2, 1)),)),
        Row("broadcast_to-0d", "broadcast_to", method("broadcast_to", (2, 2)), (Operand(()),)),
        Row("broadcast_to-0", "broadcast_to", method("broadcast_to", (0, 3)), (Operand((1, 3)),)),
    ]


def _joining() -> list[Row]:
    two = (Operand((2, 3)), Operand((1, 3)))
    wide = (Operand((2, 3)), Operand((2, 0)), Operand((2, 1)))
    same = (Operand((2, 3)), Operand((2, 3)))

    def join(word: str, axis: int | None) -> Callable[..., Any]:
        return lambda m, *xs: getattr(m, word)(xs, axis=axis)

    return [
        Row("concatenate", "concatenate", join("concatenate", 0), two),
        Row("concatenate-last", "concatenate", join("concatenate", -1), wide),
        Row("concatenate-flat", "concatenate", join("concatenate", None), two),
        Row("concatenate-itself", "concatenate", lambda m, x: m.concatenate([x, x]), two[:1]),
        Row("stack", "concatenate", join("stack", 0), same),
        Row("stack-last", "concatenate", join("stack", -1), same),
        Row("stack-0d", "concatenate", join("stack", 0), (Operand(()), Operand(()))),
    ]


ROWS = (*_shaping(), *_joining())
