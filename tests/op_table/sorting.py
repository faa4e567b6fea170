"""Functions that put in order or choose by place, and interpolation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.op_table.row import REFERENCE, Operand, Row, formula, method

__all__ = ["ROWS"]


@formula
def sort(x: Any, axis: Any = -1) -> Any:
    # complex numbers by their real parts
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return np.take_along_axis(x, np.argsort(x.real, axis), axis)


@formula
def partition(x: Any, kth: Any, axis: Any = -1) -> Any:
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return np.take_along_axis(x, np.argpartition(x.real, kth, axis), axis)


@formula
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    if period is not None:
        return _periodic(x, xp, fp, period)
    y = np.empty(np.shape(x), np.result_type(x, xp, fp))
    for place in np.ndindex(np.shape(x)):
        t = x[place]
        if t.real < xp[0].real:
            y[place] = fp[0] if left is None else left
        elif t.real > xp[-1].real:
            y[place] = fp[-1] if right is None else right
        else:
            i = min(int(np.sum(xp.real <= t.real)), len(xp) - 1)
            f0, f1, x0, x1 = fp[i - 1], fp[i], xp[i - 1], xp[i]
            y[place] = f0 + (f1 - f0) / (x1 - x0) * (t - x0)
    return y


def _periodic(x: Any, xp: Any, fp: Any, period: float) -> Any:
    x, xp = (a - period * np.floor(a.real / period) for a in (x, xp))
    order = np.argsort(xp.real)
    xp, fp = xp[order], fp[order]
    xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
    return interp(x, xp, np.concatenate([fp[-1:], fp, fp[:1]]))


def _median(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    kept = [i for i in range(x.ndim) if i not in [a % x.ndim for a in axes]]
    blocks = np.moveaxis(x, kept, range(len(kept)))
    line = sort(blocks.reshape(*blocks.shape[: len(kept)], -1))
    n = line.shape[-1]
    y = (line[..., (n - 1) // 2] + line[..., n // 2]) / 2
    return np.expand_dims(y, axes) if keepdims else y


REFERENCE.median = _median


def _along(index: Any, axis: int | None) -> Callable[..., Any]:
    return lambda m, x: m.take_along_axis(x, np.array(index), axis)


def _ordering() -> list[Row]:
    x, line, empty = Operand((2, 3, 4)), Operand((7,)), Operand((2, 0))
    calls: dict[str, tuple[str, Operand, Callable[..., Any]]] = {
        "sort": ("sort", x, method("sort")),
        "sort-axis": ("sort", x, method("sort", axis=0)),
        "sort-flat": ("sort", x, method("sort", axis=None)),
        "sort-1d": ("sort", line, method("sort")),
        "sort-0d": ("sort", Operand(()), method("sort", axis=None)),
        "sort-empty": ("sort", empty, method("sort")),
        "partition": ("getitem", x, lambda m, x: m.partition(x, 1)[..., 1]),
        "partition-axis": ("getitem", x, lambda m, x: m.partition(x, -1, axis=1)[:, -1]),
        "partition-flat": ("getitem", x, lambda m, x: m.partition(x, (8, 3), axis=None)[[3, 8]]),
        "partition-all": ("getitem", line, method("partition", range(7))),
        "take_along_axis": ("getitem", x, _along([[[1], [0], [1]], [[3], [-1], [0]]], 2)),
        "take_along_axis-twice": ("getitem", x, _along([[[1, 0, 1, 0]], [[2, 2, 2, 0]]], 1)),
        "take_along_axis-broadcast": ("getitem", x, _along([[[1, 1, 0, 1]]], 0)),
        "take_along_axis-flat": ("getitem", x, _along([5, 5, -1], None)),
        "take_along_axis-none": ("getitem", line, _along(np.zeros(0, int), 0)),
        "median": ("sort", x, method("median")),
        "median-odd": ("sort", line, method("median")),
        "median-axis": ("sort", x, method("median", axis=1, keepdims=True)),
        "median-axes": ("sort", x, method("median", axis=(0, -1))),
        "median-0d": ("sort", Operand(()), method("median")),
    }
    return [Row(name, op, call, (operand,)) for name, (op, operand, call) in calls.items()]


def _interpolation() -> list[Row]:
    def call(**options: Any) -> Callable[..., Any]:
        def f(m: Any, x: Any, steps: Any, fp: Any) -> Any:
            return m.interp(x, m.cumsum(steps) - 4, fp, **options)

        return f

    points = (Operand((5,), (0.5, 1.5)), Operand((5,)))
    inside = (Operand((2, 3), (-1.5, 1.0)), *points)
    outside = (Operand((6,), (-6.0, 6.0)), *points)
    one = (Operand((3,), (-6.0, 6.0)), Operand((1,), (0.5, 1.5)), Operand((1,)))
    return [
        Row("interp", "divide", call(), inside),
        Row("interp-outside", "where", call(), outside),
        Row("interp-left-right", "where", call(left=2.0, right=-1.0), outside),
        Row("interp-0d", "divide", call(), (Operand((), (-1.5, 1.0)), *points)),
        Row("interp-nowhere", "divide", call(), (Operand((0,)), *points)),
        Row("interp-one-point", "where", call(), one),
        Row("interp-period", "divide", call(period=3.7), outside),
    ]


ROWS = (*_ordering(), *_interpolation())
