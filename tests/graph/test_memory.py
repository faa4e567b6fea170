"""Graphs that were dropped leave nothing behind, however many there were."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.graph import guard

ARRAY = np.array([1.0, 2.0, 3.0])

# What the interpreter and earlier tests may add meanwhile, or take away; one object kept by each
# graph would be thousands.
FEW_OBJECTS = 50
FEW_BLOCKS = 200


def swept(x: gg.Tensor) -> None:
    (x * ARRAY + x).sum().backward()


def never_swept(x: gg.Tensor) -> None:
    gg.exp(x)[1:] * 2.0


def cleared(x: gg.Tensor) -> None:
    (x[::-1] * x).clear_graph()


def written_to(x: gg.Tensor) -> None:
    y = x * 2.0
    y[0] = 1.0
    y += x
    y.backward()


def looked_at(x: gg.Tensor) -> None:
    y = x[:2] * 2.0
    y.data  # noqa: B018
    y.backward()


def of_second_order(x: gg.Tensor) -> None:
    gg.hvp(lambda x: (x * x * x).sum(), x, ARRAY)


def repeated(x: gg.Tensor) -> None:
    _repeated(x).backward()


_repeated = gg.checkpoint(lambda x: x * x + x)


def failed(x: gg.Tensor) -> None:
    try:
        x * 2.0 + np.ones(2)
    except ValueError:
        pass


GRAPHS: dict[Callable[[gg.Tensor], None], int] = {
    swept: 250_000,
    never_swept: 200_000,
    cleared: 150_000,
    written_to: 100_000,
    looked_at: 100_000,
    of_second_order: 100_000,
    repeated: 50_000,
    failed: 50_000,
}


def alive() -> tuple[int, int, int, int]:
    """Objects that the collector knows, blocks of memory, and the guard's two tables."""
    for _ in range(3):  # what a finalizer lets go of goes with the next round
        gc.collect()
    return (
        len(gc.get_objects()),
        sys.getallocatedblocks(),
        len(guard._guarded),
        len(guard._waiting),
    )


def growth(build: Callable[[gg.Tensor], None], count: int) -> tuple[int, ...]:
    x = gg.tensor(ARRAY, copy=False)
    for _ in range(100):  # caches fill
        build(x)
    alive()
    before = alive()
    for _ in range(count):
        build(x)
    return tuple(b - a for a, b in zip(before, alive()))


def assert_nothing_is_left(build: Callable[[gg.Tensor], None], count: int) -> None:
    objects, blocks, guarded, waiting = growth(build, count)
    assert objects < FEW_OBJECTS
    assert blocks < FEW_BLOCKS
    assert (guarded, waiting) == (0, 0)


@pytest.mark.parametrize("build", GRAPHS, ids=lambda f: f.__name__)
def test_two_thousand_graphs_leave_nothing(build: Callable[[gg.Tensor], None]):
    assert_nothing_is_left(build, 2_000)


@pytest.mark.long
@pytest.mark.parametrize("build", GRAPHS, ids=lambda f: f.__name__)
def test_million_graphs_leave_nothing(build: Callable[[gg.Tensor], None]):
    assert_nothing_is_left(build, GRAPHS[build])


def test_a_leak_of_one_object_a_graph_would_be_seen():
    kept = []
    objects, blocks, _, _ = growth(lambda x: kept.append([x]), 2_000)
    assert objects > 2_000 - FEW_OBJECTS
    assert blocks > 2_000 - FEW_BLOCKS
