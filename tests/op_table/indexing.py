"""Reading and writing elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.op_table.row import Operand, Row

__all__ = ["INDICES", "ROWS"]

_DUPLICATES = np.array([0, 2, 0, -1])
_MASK = np.array([[True, False, True], [False, False, True]])
INDICES: tuple[tuple[str, tuple[int, ...], Any], ...] = (
    ("int", (3,), 1),
    ("negative-int", (3, 2), -1),
    ("ints", (2, 3), (1, 2)),
    ("numpy-int", (3,), np.int64(2)),
    ("slice", (5,), slice(1, 4)),
    ("steps", (6, 3), (slice(None, None, 2), slice(2, 0, -1))),
    ("backwards", (4,), slice(None, None, -1)),
    ("empty-slice", (4, 2), slice(3, 1)),
    ("newaxis", (2, 3), (slice(None), None, 1)),
    ("ellipsis", (2, 3, 2), (..., 1)),
    ("ellipsis-middle", (2, 3, 2), (1, ..., 0)),
    ("everything", (2, 2), ...),
    ("nothing", (2, 2), ()),
    ("0d", (), ()),
    ("0d-newaxis", (), None),
    ("duplicates", (3, 2), _DUPLICATES),
    ("list", (4,), [3, 3, 1]),
    ("empty-list", (4,), []),
    ("tuple", (4, 2), ((0, 3, 0), 1)),
    ("2d-duplicates", (3,), np.array([[0, 1], [1, 1]])),
    ("pairs", (3, 3), (np.array([0, 2, 0]), np.array([1, 1, 1]))),
    ("outer", (3, 3), (np.array([[0], [2]]), np.array([[1, 1, 0]]))),
    ("mask", (2, 3), _MASK),
    ("mask-of-rows", (2, 3), (np.array([True, False]),)),
    ("mask-and-int", (2, 3), (np.array([True, True]), 1)),
    ("mask-of-none", (2, 3), np.zeros((2, 3), bool)),
    ("mixed", (3, 2, 3), (np.array([0, 0, 2]), slice(None), 1)),
    ("mixed-apart", (3, 2, 3), (np.array([0, 0]), slice(None, None, -1), np.array([1, 1]))),
    ("mixed-newaxis", (3, 2), (_DUPLICATES, None, slice(1))),
    ("mixed-ellipsis", (2, 2, 3), (..., _DUPLICATES)),
)


def _reading(index: Any) -> Callable[..., Any]:
    return lambda m, x: x[index]


def _writing(index: Any) -> Callable[..., Any]:
    def call(m: Any, x: Any, value: Any) -> Any:
        y = m.positive(x)
        y[index] = value
        return y

    return call


def _writing_through_views(m: Any, x: Any, value: Any) -> Any:
    y = m.positive(x)
    y.T[1:][::-1, 0] = value
    return y


def _indexing() -> list[Row]:
    rows = []
    for name, shape, index in INDICES:
        rows.append(Row(f"getitem-{name}", "getitem", _reading(index), (Operand(shape),)))
        written = np.zeros(shape)[index].shape
        both = (Operand(shape), Operand(written))
        rows.append(Row(f"setitem-{name}", "put_view", _writing(index), both))
        rows.append(
            Row(
                f"add_at-{name}",
                "add_at",
                lambda m, g, shape=shape, index=index: m.add_at(shape, g.dtype, index, g),
                (Operand(written),),
            )
        )
    both = (Operand((2, 3)), Operand(()))
    rows.append(Row("setitem-broadcast", "put_view", _writing((slice(None), [0, 2])), both))
    view = (Operand((2, 3)), Operand((2,)))
    rows.append(Row("setitem-view", "put_view", _writing_through_views, view))
    return rows


ROWS = tuple(_indexing())
