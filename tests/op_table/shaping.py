"""Functions that rearrange, cut and join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.op_table.row import Operand, Row, formula, method

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
        Row("ravel", "ravel", method("ravel"), (x,)),
        Row("flatten", "flatten", lambda m, x: x.flatten(), (x,)),
        Row("atleast_1d", "atleast_1d", method("atleast_1d"), (Operand(()),)),
        Row("atleast_2d", "atleast_2d", method("atleast_2d"), (line,)),
        Row("atleast_2d-0d", "atleast_2d", method("atleast_2d"), (Operand(()),)),
        Row("atleast_3d", "atleast_3d", method("atleast_3d"), (Operand((2, 3)),)),
        Row("atleast_3d-1d", "atleast_3d", method("atleast_3d"), (line,)),
        Row("atleast_3d-0d", "atleast_3d", method("atleast_3d"), (Operand(()),)),
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


def _moving() -> list[Row]:
    x, line, empty = Operand((2, 3, 4)), Operand((5,)), Operand((2, 0))
    square, number = Operand((3, 3)), Operand(())
    calls: dict[str, tuple[str, Operand, Callable[..., Any]]] = {
        "roll": ("roll", x, method("roll", 5)),
        "roll-axis": ("roll", x, method("roll", -1, axis=1)),
        "roll-axes": ("roll", x, method("roll", (1, 3), axis=(0, -1))),
        "roll-list": ("roll", x, method("roll", [1, 3], axis=(0, -1))),
        "roll-one-for-two": ("roll", x, method("roll", 1, axis=(0, 1))),
        "roll-axis-twice": ("roll", x, method("roll", (1, 2), axis=(2, 2))),
        "roll-0d": ("roll", number, method("roll", 2)),
        "roll-empty": ("roll", empty, method("roll", 1, axis=0)),
        "repeat": ("repeat", x, method("repeat", 2)),
        "repeat-often": ("repeat", line, method("repeat", 11)),
        "repeat-axis": ("repeat", x, method("repeat", 3, axis=-2)),
        "repeat-each": ("repeat", x, method("repeat", [1, 0, 3], axis=1)),
        "repeat-each-flat": ("repeat", line, method("repeat", [2, 1, 0, 1, 3])),
        "repeat-each-of-none": ("repeat", empty, method("repeat", [], axis=1)),
        "repeat-list-of-one": ("repeat", x, method("repeat", [2], axis=0)),
        "repeat-0-times": ("repeat", line, method("repeat", 0)),
        "repeat-0d": ("repeat", number, method("repeat", 3)),
        "repeat-empty": ("repeat", empty, method("repeat", 2, axis=0)),
        "tile": ("tile", x, method("tile", 2)),
        "tile-axes": ("tile", x, method("tile", (2, 1, 3))),
        "tile-more-axes": ("tile", line, method("tile", (2, 3))),
        "tile-fewer-axes": ("tile", x, method("tile", (2,))),
        "tile-once": ("tile", line, method("tile", ())),
        "tile-never": ("tile", line, method("tile", 0)),
        "tile-0d": ("tile", number, method("tile", (2, 2))),
        "flip": ("getitem", x, method("flip")),
        "flip-axis": ("getitem", x, method("flip", 1)),
        "flip-axes": ("getitem", x, method("flip", (0, -1))),
        "flip-0d": ("getitem", number, method("flip")),
        "fliplr": ("getitem", x, method("fliplr")),
        "flipud": ("getitem", line, method("flipud")),
        "rot90": ("transpose", x, method("rot90")),
        "rot90-twice": ("getitem", x, method("rot90", 2)),
        "rot90-back": ("transpose", x, method("rot90", -1, (2, 0))),
        "rot90-round": ("getitem", x, method("rot90", 4)),
        "tril": ("where", x, method("tril")),
        "tril-k": ("where", square, method("tril", -1)),
        "tril-1d": ("where", line, method("tril", 1)),
        "triu": ("where", x, method("triu", 1)),
        "triu-1d": ("where", line, method("triu")),
        "triu-empty": ("where", empty, method("triu")),
        "diagonal": ("diagonal", square, method("diagonal")),
        "diagonal-above": ("diagonal", x, method("diagonal", 1, 1, 2)),
        "diagonal-below": ("diagonal", x, method("diagonal", -1, 2, 0)),
        "diagonal-outside": ("diagonal", x, method("diagonal", 7)),
        "diag-of-matrix": ("diagonal", square, method("diag", -1)),
        "diag-of-vector": ("add_at", line, method("diag")),
        "diag-of-vector-above": ("add_at", line, method("diag", 2)),
        "diag-of-vector-below": ("add_at", line, method("diag", -1)),
        "diagflat": ("add_at", Operand((2, 2)), method("diagflat", 1)),
        "take": ("getitem", x, method("take", [0, -1, 0, 7])),
        "take-axis": ("getitem", x, method("take", [[2, 0], [0, -1]], axis=1)),
        "take-one": ("getitem", x, method("take", 2, axis=-1)),
        "take-bools": ("getitem", x, method("take", [True, False, True], axis=2)),
        "take-none": ("getitem", x, method("take", [], axis=0)),
        "take-wrap": ("getitem", x, method("take", [5, -7], axis=1, mode="wrap")),
        "take-clip": ("getitem", x, method("take", [5, -7], axis=1, mode="clip")),
        "pad": ("pad", x, method("pad", 1)),
        "pad-pairs": ("pad", x, method("pad", ((1, 0), (0, 2), (0, 0)))),
        "pad-values": ("pad", x, method("pad", (1, 2), constant_values=((1, 2), (3, 4), (5, 6)))),
        "pad-0d": ("pad", number, method("pad", 1)),
        "pad-edge": ("getitem", x, method("pad", (2, 1), "edge")),
        "pad-reflect": ("getitem", x, method("pad", (3, 2), "reflect")),
        "pad-symmetric": ("getitem", x, method("pad", (2, 5), "symmetric")),
        "pad-wrap": ("getitem", x, method("pad", ((0, 0), (4, 1), (0, 9)), "wrap")),
        "pad-by-nothing": ("pad", x, method("pad", 0, "wrap")),
    }
    return [Row(name, op, call, (operand,)) for name, (op, operand, call) in calls.items()]


@formula
def sliding_window_view(x: Any, window_shape: Any, step: Any, dilation: Any = 1) -> Any:
    k = len(window_shape)
    leading = x.shape[: x.ndim - k]
    steps, spread = np.broadcast_to(step, k), np.broadcast_to(dilation, k)
    lengths = x.shape[x.ndim - k :]
    positions = [
        len(range(0, n - (w - 1) * d, s))
        for n, w, s, d in zip(lengths, window_shape, steps, spread)
    ]
    y = np.empty((*positions, *leading, *window_shape), x.dtype)
    for p in np.ndindex(*positions):
        for i in np.ndindex(*window_shape):
            place = tuple(np.array(p) * steps + np.array(i) * spread)
            y[(*p, ..., *i)] = x[(..., *place)]
    return y


def _windows() -> list[Row]:
    def windows(*args: Any) -> Callable[..., Any]:
        return method("sliding_window_view", *args)

    calls = {
        "": ((5,), windows((3,), 1)),
        "-step": ((7,), windows((3,), 2)),
        "-dilation": ((7,), windows((3,), 1, 2)),
        "-gaps": ((8,), windows((2,), 3)),
        "-2d": ((4, 5), windows((2, 3), (2, 1))),
        "-2d-dilation": ((5, 5), windows((2, 2), (2, 1), (1, 3))),
        "-leading": ((2, 3, 4), windows((2,), 1)),
        "-leading-2d": ((2, 3, 4), windows((2, 3), 1)),
    }
    return [
        Row(f"sliding_window_view{name}", "sliding_window_view", call, (Operand(shape),))
        for name, (shape, call) in calls.items()
    ]


def _joining() -> list[Row]:
    two = (Operand((2, 3)), Operand((1, 3)))
    wide = (Operand((2, 3)), Operand((2, 0)), Operand((2, 1)))
    same = (Operand((2, 3)), Operand((2, 3)))
    line, square = Operand((3,)), Operand((3, 3))

    def join(word: str, axis: int | None) -> Callable[..., Any]:
        return lambda m, *xs: getattr(m, word)(xs, axis=axis)

    return [
        Row("concatenate", "concatenate", join("concatenate", 0), two),
        Row("concatenate-last", "concatenate", join("concatenate", -1), wide),
        Row("concatenate-flat", "concatenate", join("concatenate", None), two),
        Row("concatenate-itself", "concatenate", lambda m, x: m.concatenate([x, x]), two[:1]),
        Row("stack", "stack", join("stack", 0), same),
        Row("stack-last", "stack", join("stack", -1), same),
        Row("stack-0d", "stack", join("stack", 0), (Operand(()), Operand(()))),
        Row("hstack", "concatenate", lambda m, *xs: m.hstack(xs), wide),
        Row("hstack-1d", "concatenate", lambda m, *xs: m.hstack(xs), (line, Operand(()))),
        Row("vstack", "concatenate", lambda m, *xs: m.vstack(xs), (Operand((2, 3)), line)),
        Row("dstack", "concatenate", lambda m, *xs: m.dstack(xs), same),
        Row("dstack-1d", "concatenate", lambda m, *xs: m.dstack(xs), (line, line)),
        Row("column_stack", "concatenate", lambda m, *xs: m.column_stack(xs), (line, square)),
        Row("split", "getitem", lambda m, x: m.split(x, 3, axis=1)[1], same[:1]),
        Row("split-at", "getitem", lambda m, x: m.split(x, [1, 5], axis=-1)[1], same[:1]),
        Row("array_split", "getitem", lambda m, x: m.array_split(x, 2)[0], (line,)),
    ]


ROWS = (*_shaping(), *_moving(), *_windows(), *_joining())
