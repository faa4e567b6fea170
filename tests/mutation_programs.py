"""Programs that write in place: of NumPy's arrays, or of the tensors of gpugrad and mygrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["PROGRAMS", "Program", "RandomProgram"]

Program = Callable[[Any, Any, Any], Any]
PROGRAMS: list[Program] = []


def program(f: Program) -> Program:
    """``f(y, v, keep)``: writes into `y` (3, 4), reads `v` (4,), returns an array.

    `keep(a)` is a list of arrays whose values count too: what was computed before a write must not
    be changed by it.
    """
    PROGRAMS.append(f)
    return f


@program
def set_row(y, v, keep):
    y[1] = v
    return y * y


@program
def set_element(y, v, keep):
    y[1, 2] = v[0] * v[1]
    return y * y


@program
def set_broadcast(y, v, keep):
    keep(y * v)
    y[:, 1:] = v[3]
    return y * y


@program
def set_scalar_and_read_before(y, v, keep):
    keep(y * y)
    y[::2, ::-2] = 3.0
    return y * v


@program
def set_all(y, v, keep):
    keep(y[0] * v)
    y[...] = v * v
    return y * v


@program
def set_by_integers(y, v, keep):
    y[[2, 0], [1, 3]] = v[:2]
    return y * y


@program
def set_duplicates(y, v, keep):
    y[[0, 1, 0]] = v[:3].reshape(3, 1)
    return y * y


@program
def set_by_mask(y, v, keep):
    mask = np.arange(12).reshape(3, 4) % 3 == 0
    y[mask] = v
    y[~mask] *= 2.0
    return y * y


@program
def set_rows_by_integer_and_slice(y, v, keep):
    y[np.array([0, 2]), 1:] = v[:3]
    return y * y


@program
def set_itself_shifted(y, v, keep):
    y[1:] = y[:-1] * v
    return y * y


@program
def set_itself_overlapping(y, v, keep):
    y[:, 1:] = y[:, :-1]
    y[::-1] = y
    return y * v


@program
def write_through_a_view(y, v, keep):
    row = y[1]
    row[1:3] = v[:2]
    keep(row * row)
    return y * y


@program
def write_through_a_view_of_a_view(y, v, keep):
    block = y[1:]
    corner = block[:, ::2]
    corner[0] = v[:2] * v[2:]
    keep(block * 2.0)
    keep(corner * corner)
    return y * y


@program
def view_sees_a_write_to_its_base(y, v, keep):
    row, column = y[1], y[:, 1]
    y[1, 1] = v[0] * v[0]
    keep(row * v)
    return column * column


@program
def view_sees_a_write_through_its_sibling(y, v, keep):
    rows, columns = y[1:], y.T[2:]
    rows *= v
    keep(columns * columns)
    columns[...] = 1.5
    return rows * y[:2] * v


@program
def write_through_reshape_and_transpose(y, v, keep):
    line = y.reshape(12)
    line[2:6] = v
    turned = y.T.reshape(2, 2, 3)
    keep(turned * turned)
    y.T[1] = v[:3]
    return line * line


@program
def augmented_assignments(y, v, keep):
    y += v
    y *= y
    y -= v * v
    y /= v + 5.0
    y **= 2
    return y


@program
def augmented_power_and_self(y, v, keep):
    y *= y
    y += 3.0
    y **= v
    y += y
    return y


@program
def augmented_on_a_view(y, v, keep):
    row = y[1]
    row *= v
    row += row
    y[0] -= row
    keep(row)
    return y * y


@program
def augmented_on_a_base_with_views(y, v, keep):
    row = y[2]
    keep(row * row)
    y *= v
    keep(row * row)
    y += row
    return row * y


@program
def augmented_with_its_own_view(y, v, keep):
    y += y[0]
    y[1] *= y[1]
    y[:, 0] += y[:, 1]
    return y * v


@program
def augmented_at_duplicates(y, v, keep):
    y[[0, 0, 1]] += v
    return y * y


@program
def matmul_in_place(y, v, keep):
    y[:, :3] @= np.arange(9.0).reshape(3, 3)
    return y * v


@program
def chained_writes(y, v, keep):
    for i in range(3):
        y[i] = y[i - 1] * v
    y[0][1:][0] = v[1]
    return y * y


@program
def earlier_consumers_keep_what_they_saw(y, v, keep):
    a = y * v
    y[0] = a[1]
    b = y * a
    y *= b
    a[...] = v
    keep(a)
    keep(b * b)
    return y


@program
def write_after_newaxis_and_squeeze(y, v, keep):
    thick = y[:, None, :, None]
    thick[1, 0, :, 0] = v
    keep(thick * thick)
    return y * y


@program
def write_nothing(y, v, keep):
    y[3:] = v
    y[:, 0:0] *= 2.0
    return y * y


@program
def value_is_a_view_of_the_target(y, v, keep):
    row = y[0]
    y[1] = row
    row[...] = v
    return y * y


class RandomProgram:
    """A sequence of views, writes and reads, the same for every kind of array."""

    def __init__(self, seed: int, length: int = 14) -> None:
        self.seed, self.length = seed, length

    def run(self, y: Any, v: Any, watch: Callable[[list], Any] = len) -> Any:
        rng = np.random.default_rng(self.seed)
        pool, loss = [y], 0.0
        for _ in range(self.length):
            a = pool[rng.integers(len(pool))]
            kind = rng.choice(("view", "set", "advanced", "augment", "read"))
            if kind == "view":
                pool.append(self._view(rng, a))
            elif kind == "set":
                index = self._index(rng, a.ndim)
                a[index] = self._value(rng, a[index], pool, v)
            elif kind == "advanced" and a.ndim and a.shape[0]:
                index = rng.integers(-a.shape[0], a.shape[0], 3)
                a[index] = self._value(rng, a[index], pool, v)
            elif kind == "augment":
                other = self._value(rng, a, pool, v)
                if rng.integers(2):
                    a *= other
                else:
                    a += other
            elif kind == "read":
                loss = loss + (self._value(rng, a, pool, v) * a).sum()
            watch(pool)
        return loss + sum((a * a).sum() for a in pool)

    @staticmethod
    def _index(rng: Any, ndim: int) -> tuple:
        entries = (slice(None), slice(1, None), slice(None, None, -1), slice(None, 2), 0)
        return tuple(entries[k] for k in rng.integers(0, len(entries), ndim))

    def _view(self, rng: Any, a: Any) -> Any:
        kind = rng.integers(4)
        if kind == 0 and a.ndim:
            return a.T
        if kind == 1:
            return a[..., None]
        if kind == 2 and a.ndim > 1:
            return a.swapaxes(0, -1)
        index = self._index(rng, a.ndim)
        # NumPy's a[0, 0] is a scalar, not a view: keep an axis
        return a[(*index[:-1], slice(None)) if index else ...]

    @staticmethod
    def _value(rng: Any, like: Any, pool: list, v: Any) -> Any:
        """Something of the shape of `like`, computed from an array of the pool and from `v`."""
        source = pool[rng.integers(len(pool))]
        number = source[(0,) * source.ndim] if 0 not in source.shape else 0.3
        factor = 0.1 * v[rng.integers(4)] * number + 0.2
        kind = rng.integers(3)
        if kind == 0 and source.shape == like.shape:
            return source  # overlapping memory, perhaps
        if kind == 1:
            return factor
        return like * 0.5 * factor
