"""Threads and tasks: graphs over the same arrays, switches of their own, every lock released."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.graph import guard
from gpugrad.operation_base import Operation
from tests.locks import guarded
from tests.threads import THREADS, in_threads

A = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
B = np.linspace(0.5, 2.0, 4)


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


class Shared:
    """What all threads compute with."""

    def __init__(self) -> None:
        self.a, self.b = A.copy(), B.copy()
        self.leaf = gg.tensor(self.b, copy=False)
        self.private = gg.tensor(B)
        self.frozen = B.copy()
        self.frozen.setflags(write=False)

    def tensors(self) -> tuple[gg.Tensor, gg.Tensor]:
        return gg.tensor(self.a, copy=False), gg.tensor(self.b, copy=False)


# Programs: each builds a graph over the shared arrays and asserts its gradient. They may return
# something that keeps a graph alive for a while.


def product(s: Shared) -> None:
    x, y = s.tensors()
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, np.broadcast_to(B, (3, 4)))
    np.testing.assert_allclose(y.grad, A.sum(0))


def views(s: Shared) -> None:
    x, y = s.tensors()
    row, part = x[1], y[1:3]
    z = (row[1:3] * part).sum()
    assert not s.a.flags.writeable
    assert not s.b.flags.writeable
    z.backward()
    np.testing.assert_array_equal(x.grad[1], [0.0, B[1], B[2], 0.0])
    np.testing.assert_array_equal(y.grad, [0.0, A[1, 1], A[1, 2], 0.0])


def write_in_place(s: Shared) -> None:
    x, y = s.tensors()
    z = x * 1.0
    view = z[0]
    view *= y
    z[1] = 0.0
    (z * z).sum().backward()
    np.testing.assert_allclose(x.grad, np.stack([2 * A[0] * B**2, 0 * B, 2 * A[2]]))


def write_to_the_argument(s: Shared) -> None:
    x, _ = s.tensors()
    x *= 2.0
    x.sum().backward()
    np.testing.assert_array_equal(s.a, A)


def out_argument(s: Shared) -> None:
    x, y = s.tensors()
    out = np.empty((3, 4))
    z = gg.multiply(x, y, out=out)
    z.backward()
    np.testing.assert_array_equal(out, A * B)
    out[...] = 0.0
    np.testing.assert_allclose(y.grad, A.sum(0))


def one_leaf_for_all(s: Shared) -> None:
    g = gg.grad(lambda t: (t * t * s.leaf).sum())(s.leaf)
    np.testing.assert_allclose(g, 2 * B**2)
    np.testing.assert_allclose(gg.hvp(lambda t: (t**3).sum(), s.private, B), 6 * B**2)


def expose_while_others_build(s: Shared) -> None:
    t = gg.tensor(B)
    z = t * s.private
    np.testing.assert_array_equal(z.data, B * B)
    assert not t.data.flags.writeable
    assert not z.data.flags.writeable
    z.clear_graph()
    t.data[0] = 7.0


def read_only_by_wish(s: Shared) -> None:
    x = gg.tensor(s.frozen, copy=False)
    (x * s.b).sum().backward()
    np.testing.assert_array_equal(x.grad, B)
    assert not s.frozen.flags.writeable


def second_order(s: Shared) -> None:
    found = gg.hessian(lambda y: (gg.tensor(s.a, copy=False)[0] * y**2).sum())(s.b)
    np.testing.assert_allclose(found, np.diag(2 * A[0]))


def repeated_part(s: Shared) -> None:
    x, y = s.tensors()
    gg.checkpoint(lambda x: x * y * y)(x).sum().backward()
    np.testing.assert_allclose(x.grad, np.broadcast_to(B * B, (3, 4)))


def dropped(s: Shared) -> Any:
    x, y = s.tensors()
    return gg.exp(x) * y + y[::-1]


def fault(s: Shared) -> None:
    x, _ = s.tensors()
    z = x * 2.0
    with pytest.raises(ValueError, match="broadcast"):
        z * np.ones(5)
    with pytest.raises(ZeroDivisionError):
        gg.grad(lambda y: (y * 2.0).sum() * (1 / 0))(s.b)
    cleared = z.sum()
    z.clear_graph()
    with pytest.raises(gg.InvalidBackprop):
        cleared.backward()


def without_graph(s: Shared) -> None:
    with gg.no_autodiff:
        x, y = s.tensors()
        z = x * y
        assert z.creator is None
        z *= 2.0
    np.testing.assert_array_equal(z, 2 * A * B)


def without_guard(s: Shared) -> None:
    with gg.mem_guard_off:
        own = B.copy()
        x = gg.tensor(own, copy=False)
        y = (x * 3.0).sum()
        assert own.flags.writeable
        y.backward()
    np.testing.assert_array_equal(x.grad, [3.0] * 4)


PROGRAMS: tuple[Callable[[Shared], Any], ...] = (
    product,
    views,
    write_in_place,
    write_to_the_argument,
    out_argument,
    one_leaf_for_all,
    expose_while_others_build,
    read_only_by_wish,
    second_order,
    repeated_part,
    dropped,
    fault,
    without_graph,
    without_guard,
)


@pytest.mark.long(keep=4)
@pytest.mark.parametrize("seed", range(75))
def test_threads_over_the_same_arrays_get_right_gradients_and_leave_no_lock(seed: int):
    shared = Shared()
    gc.collect()  # what earlier tests left would go at any moment
    before = guarded()

    def work(k: int) -> None:
        rng = np.random.default_rng([seed, k])
        alive: list[Any] = []
        for _ in range(600):
            alive.append(PROGRAMS[rng.integers(len(PROGRAMS))](shared))
            if len(alive) > 3:
                alive.pop(rng.integers(4))
            assert gg.mem_guard_active()

    in_threads(work)
    gc.collect()
    assert guarded() == before
    for array, value in ((shared.a, A), (shared.b, B)):
        np.testing.assert_array_equal(array, value)
        array[...] = 0.0
    shared.leaf.data[...] = 0.0
    shared.private.data[...] = 0.0
    assert not shared.frozen.flags.writeable


def test_views_of_an_array_that_others_lock_and_release_are_writeable_in_the_end():
    shared = gg.tensor(A)
    shared.data  # noqa: B018  # known outside, so that graphs lock it
    kept: list[list[gg.Tensor]] = [[] for _ in range(THREADS)]

    def work(k: int) -> None:
        for _ in range(300):
            if k % 2:
                (shared * 2.0).sum()  # locks, and releases when it is dropped
            else:
                view = shared[k % 3]
                kept[k].append(view)
                view.clear_graph()

    in_threads(work)
    gc.collect()
    shared.data[...] = A
    for view in (view for views in kept for view in views):
        view.data[...] = view.data


def test_view_that_is_adopted_after_its_base_was_released_is_writeable():
    """What a thread meets that makes a view while another drops the last graph."""
    array = A.copy()
    graph = gg.tensor(array, copy=False) * 2.0
    view = array[0]
    del graph
    guard.adopt(view, array)
    view[0] = 5.0
    frozen = A.copy()
    frozen.setflags(write=False)
    view = frozen[0]
    guard.adopt(view, frozen)
    assert not view.flags.writeable


class _LockTakenLate:
    """The guard's lock; before it is first taken, another thread does something."""

    def __init__(self, before: Callable[[], None]) -> None:
        self.lock, self.before = guard._lock, before

    def __enter__(self) -> None:
        before, self.before = self.before, lambda: None
        other = threading.Thread(target=before)
        other.start()
        other.join()
        self.lock.acquire()

    def __exit__(self, *error: Any) -> None:
        self.lock.release()


def test_leaf_that_becomes_known_outside_before_its_first_use_is_noted_is_guarded(
    monkeypatch: pytest.MonkeyPatch,
):
    leaf = gg.tensor(B)
    vertex = leaf._vertex
    array = vertex.data
    monkeypatch.setattr(guard, "_lock", _LockTakenLate(lambda: guard.expose(vertex)))
    graph = leaf * 2.0
    assert not array.flags.writeable
    del graph
    assert array.flags.writeable


def test_arrays_are_locked_and_released_under_the_guards_lock_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    owned = {"_protect": [], "_release": []}

    def watched(name: str, function: Callable) -> Callable:
        def call(array: Any) -> Any:
            owned[name].append(guard._lock._is_owned())
            return function(array)

        return call

    for name in owned:
        monkeypatch.setattr(guard, name, watched(name, getattr(guard, name)))
    array = A.copy()
    graph = gg.tensor(array, copy=False)[1] * gg.tensor(array[0], copy=False)
    leaf = gg.tensor(B)
    other = leaf + graph
    leaf.data.sum()
    other.data.sum()
    del graph, other
    assert array.flags.writeable
    assert owned["_protect"] and owned["_release"]
    assert all(owned["_protect"]) and all(owned["_release"])


def test_graph_made_while_its_leaf_becomes_known_outside_is_guarded():
    for _ in range(200):
        leaf = gg.tensor(B)
        graphs: list[gg.Tensor] = []

        def work(k: int, leaf: gg.Tensor = leaf, graphs: list = graphs) -> None:
            if k:
                graphs.append(leaf * 2.0)
            else:
                leaf.data.sum()

        in_threads(work, 3)
        assert not leaf.data.flags.writeable
        del graphs[0]
        assert not leaf.data.flags.writeable
        graphs.clear()
        leaf.data[...] = 0.0


def test_switches_of_one_thread_leave_others_alone():
    inside, looked = threading.Barrier(2), threading.Barrier(2)

    def work(k: int) -> None:
        if k:
            inside.wait()
            assert gg.mem_guard_active()
            assert (gg.tensor(1.0) * 2.0).creator is not None
            looked.wait()
        else:
            with gg.no_autodiff, gg.mem_guard_off:
                inside.wait()
                looked.wait()
                assert not gg.mem_guard_active()
                assert (gg.tensor(1.0) * 2.0).creator is None

    in_threads(work, 2)


def test_switches_of_one_task_leave_others_alone():
    async def without(switch: Any, entered: asyncio.Event, leave: asyncio.Event) -> None:
        with switch:
            entered.set()
            await leave.wait()
            assert (gg.tensor(1.0) * 2.0).creator is None
        assert (gg.tensor(1.0) * 2.0).creator is not None

    async def main() -> None:
        entered, leave = [asyncio.Event(), asyncio.Event()], [asyncio.Event(), asyncio.Event()]
        tasks = [asyncio.create_task(without(gg.no_autodiff, e, f)) for e, f in zip(entered, leave)]
        for event in entered:
            await event.wait()
        x = gg.tensor(B)
        (x * x).sum().backward()
        np.testing.assert_array_equal(x.grad, 2 * B)
        leave[0].set()  # they leave in the order in which they came, not the reverse
        await tasks[0]
        assert (gg.tensor(1.0) * 2.0).creator is not None
        leave[1].set()
        await tasks[1]

    asyncio.run(main())
    assert (gg.tensor(1.0) * 2.0).creator is not None


def test_task_inherits_the_switches_of_where_it_was_made():
    async def tracked() -> bool:
        return (gg.tensor(1.0) * 2.0).creator is not None

    async def main() -> tuple[bool, bool]:
        with gg.no_autodiff:
            inside = asyncio.create_task(tracked())
        outside = asyncio.create_task(tracked())
        return await inside, await outside

    assert asyncio.run(main()) == (False, True)


class Shares(Operation):
    """x + y with a `backward` of its own, during which other threads have their turn."""

    def __call__(self, x: gg.Tensor, y: gg.Tensor) -> np.ndarray:
        self.variables = (x, y)
        return x.data + y.data

    def backward_var(self, grad: np.ndarray, index: int, **kwargs: Any) -> np.ndarray:
        time.sleep(1e-4)
        return grad * (index + 1)

    def backward(self, grad: np.ndarray, **kwargs: Any) -> None:
        super().backward(2.0 * grad)


def test_threads_that_sweep_one_users_operation_do_not_meet_in_it():
    y, pullback = gg.vjp(lambda x, y: gg.execute_op(Shares, x, y), B, B)
    operands = y.creator.variables

    def work(k: int) -> None:
        for n in range(20):
            g = np.full(4, 1.0 + k + n)
            for found, factor in zip(pullback(g), (2.0, 4.0), strict=True):
                np.testing.assert_array_equal(found, factor * g)

    in_threads(work)
    assert y.creator.variables is operands
