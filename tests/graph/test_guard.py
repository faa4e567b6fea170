"""The memory guard: arrays that a live graph depends on are read-only, as long as it lives."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.graph.guard import is_guarded
from tests.locks import guarded, leaves_no_lock
from tests.threads import in_threads


@pytest.fixture(autouse=True)
def _nothing_stays_guarded() -> Iterator[None]:
    """A leak of the guard is an array that stays read-only for ever."""
    before = guarded()
    yield
    if any(now > earlier for now, earlier in zip(guarded(), before)):
        gc.collect()  # an exception's traceback may keep a graph until then
    assert all(now <= earlier for now, earlier in zip(guarded(), before))


def shared_tensor(n: int = 3) -> tuple[np.ndarray, gg.Tensor]:
    array = np.arange(1.0, n + 1)
    return array, gg.tensor(array, copy=False)


def assert_locked(*arrays: np.ndarray) -> None:
    for array in arrays:
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0


def assert_free(*arrays: np.ndarray) -> None:
    for array in arrays:
        array[...] = array


def test_operand_and_result_are_read_only_until_backward():
    array, x = shared_tensor()
    y = x * x
    assert_locked(array, x.data, y.data)
    y.backward()
    assert_free(array, x.data, y.data)


def test_raw_array_operands_are_read_only_too():
    array, (other, x) = np.ones(3), shared_tensor()
    y = array * x + [1.0, 2.0, 3.0]
    assert_locked(array, other)
    y.clear_graph()
    assert_free(array, other)


def test_clear_graph_releases():
    array, x = shared_tensor()
    y = x * x
    seen = y.data
    z = y.sum()
    assert_locked(array, seen)
    z.clear_graph()
    assert_free(array, seen)


def test_dropping_the_graph_releases():
    array, x = shared_tensor()
    y = (x * x).sum()
    assert_locked(array)
    del y
    assert_free(array)


def test_array_stays_locked_until_its_last_consumer_is_gone():
    array, x = shared_tensor()
    a, b = x + 1.0, x * 2.0
    a.backward()
    assert_locked(array)
    del b
    assert_free(array)


def test_failed_operation_leaves_nothing_locked():
    array, x = shared_tensor()
    other = np.ones(4)
    for call in (
        lambda: x + other,
        lambda: gg.log(x, where=other),
        lambda: x.__iadd__(other),
        lambda: gg.exp(x, out=other),
        lambda: x.reshape(2, 2),
        lambda: x.__setitem__(slice(None), other),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
        assert_free(array, other)


def test_failed_backward_leaves_the_locks_of_the_living_graph_alone():
    array, x = shared_tensor()
    y = x * x
    with pytest.raises(ValueError):
        y.backward(np.ones(7))
    assert_locked(array)
    y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0, 6.0])
    assert_free(array)


def test_exception_in_the_middle_of_a_function_releases_what_it_built():
    array, x = shared_tensor()

    def f() -> None:
        y = x * x
        assert_locked(array)
        raise KeyError(y.shape)

    with pytest.raises(KeyError):
        f()
    gc.collect()
    assert_free(array)


def test_array_that_its_owner_made_read_only_stays_so():
    array = np.ones(3)
    array.setflags(write=False)
    x = gg.tensor(array, copy=False)
    (x * x).backward()
    (array * gg.tensor([1.0, 2.0, 3.0])).backward()
    assert not array.flags.writeable
    assert x.data is array


def test_read_only_view_of_a_writeable_array_stays_read_only():
    array = np.ones(4)
    view = array[1:]
    view.setflags(write=False)
    x = gg.tensor(view, copy=False)
    y = x * x
    z = x + view  # again, while the graph holds the base
    assert_locked(array)
    y.backward()
    z.backward()
    assert_free(array)
    assert not view.flags.writeable


def test_view_of_a_read_only_view_stays_read_only():
    array = np.ones(4)
    view = array[1:]
    view.setflags(write=False)
    graph = gg.tensor(array, copy=False) * 2.0
    of_view = gg.tensor(view, copy=False)[1:]
    with gg.no_autodiff:
        loose = gg.tensor(view, copy=False)[1:]
    assert_locked(array)
    graph.clear_graph()
    of_view.clear_graph()
    assert not of_view.data.flags.writeable
    assert not loose.data.flags.writeable


def test_view_protects_its_base_and_is_released_with_it():
    array = np.ones((2, 3))
    view = array[0]
    x = gg.tensor(view, copy=False)
    y = x * x
    assert_locked(array, view)
    y.backward()
    assert_free(array, view)


def test_base_and_views_used_apart_are_released_in_any_order():
    array = np.ones((2, 3))
    first, second = array[0], array[1]
    graphs = [gg.tensor(a, copy=False) * 2.0 for a in (array, first, second)]
    for kept in ((1, 2), (0, 2), (0, 1)):
        graphs = [gg.tensor(a, copy=False) * 2.0 for a in (array, first, second)]
        for i in {0, 1, 2} - set(kept):
            graphs[i].clear_graph()
        assert_locked(array)
        for i in kept:
            assert_locked(array)
            graphs[i].clear_graph()
        assert_free(array, first, second)


def test_views_taken_of_a_guarded_tensor_become_writeable_with_it():
    x = gg.tensor(np.arange(6.0).reshape(2, 3))
    y = x * 1.0
    seen = y.data  # from here on the array is locked
    row = y[1]
    corner = row[1:]
    turned = y.T
    assert_locked(seen, row.data, corner.data)
    loss = (row * row).sum() + corner.sum() + turned.sum()
    loss.backward()
    assert_free(seen, row.data, corner.data, turned.data)
    row[0] = 7.0
    np.testing.assert_array_equal(row, [7.0, 4.0, 5.0])


def test_view_without_a_graph_of_a_guarded_array_becomes_writeable_with_it():
    array, x = shared_tensor()
    y = x * x
    with gg.no_autodiff:
        tail = x[1:]
    assert_locked(array, tail.data)
    y.clear_graph()
    assert_free(array, tail.data)


def test_broadcast_view_stays_read_only():
    x = gg.tensor([1.0, 2.0])
    y = gg.broadcast_to(x, (3, 2))
    y.sum().backward()
    assert not y.data.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1.0


def test_broadcast_view_of_a_cleared_graph_stays_read_only_when_its_base_is_released():
    x = gg.tensor([1.0, 2.0])
    y = gg.broadcast_to(x, (3, 2))
    y.clear_graph()
    graph = x * 2.0
    assert_locked(x.data, y.data)
    graph.clear_graph()
    assert_free(x.data)
    assert not y.data.flags.writeable


def test_private_array_is_locked_once_it_is_handed_out():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    with leaves_no_lock():  # nobody can reach these arrays: nothing to lock
        z = y.sum()
    assert_locked(x.data, y.data, z.data)
    z.backward()
    assert_free(x.data, y.data, z.data)


def test_array_handed_out_before_its_first_consumer_is_locked_by_it():
    x = gg.tensor([1.0, 2.0])
    array = x.data
    assert_free(array)
    y = x * x
    assert_locked(array)
    del y
    assert_free(array)
    y = x + 1.0
    assert_locked(array)
    y.backward()
    assert_free(array)


@pytest.mark.parametrize(
    "reach",
    [
        lambda t: t.data,
        lambda t: np.asarray(t),
        lambda t: t[0:1].data.base,
        lambda t: t.reshape(2, 1).data.base,
        lambda t: gg.asarray(t),
        lambda t: gg.asnumpy(t),
        lambda t: gg.tensor(t, copy=False).data,
        lambda t: gg.tensor(t, copy=False, constant=True).data,
        lambda t: t.astype(t.dtype, copy=False).data,
        lambda t: np.atleast_1d(t.data),
    ],
)
def test_there_is_no_way_to_write_into_an_array_of_a_graph(reach: Any):
    x = gg.tensor([1.0, 2.0])
    y = x * 3.0
    z = y * y
    for t in (x, y):
        array = reach(t)
        if array is not None:
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 100.0
    del array
    z.backward()
    np.testing.assert_array_equal(x.grad, [18.0, 36.0])


def test_guard_off_leaves_arrays_writeable():
    array, x = shared_tensor()
    with gg.mem_guard_off:
        y = x * x
        assert_free(array, y.data)
        with gg.mem_guard_on:
            z = x + 1.0
            assert_locked(array)
        del z
    assert_free(array)
    y.backward()
    np.testing.assert_array_equal(x.grad, 2 * array)


def test_graph_built_under_the_guard_stays_protected_outside_it():
    array, x = shared_tensor()

    @gg.mem_guard_off
    def unprotected() -> gg.Tensor:
        return x * x

    with gg.mem_guard_on:
        y = x * x
    z = unprotected()
    assert_locked(array)
    with gg.mem_guard_off:
        y.backward()
        assert_free(array)
    z.backward()


def test_turning_the_guard_off_and_on():
    array, x = shared_tensor()
    assert gg.mem_guard_active()
    gg.turn_memory_guarding_off()
    try:
        assert not gg.mem_guard_active()
        y = x * x
        assert_free(array, y.data)
    finally:
        gg.turn_memory_guarding_on()
    y = x * x
    assert_locked(array)
    del y


def test_nothing_is_guarded_without_a_graph():
    array, x = shared_tensor()
    with gg.no_autodiff:
        y = x * x
        assert_free(array, y.data)


def test_array_shared_by_two_graphs():
    array = np.ones(3)
    x, y = gg.tensor(array, copy=False), gg.tensor(array, copy=False)
    a, b = x * 2.0, y * 3.0
    a.backward()
    assert_locked(array)
    b.backward()
    assert_free(array)


def test_device_arrays_are_not_guarded(cupy_standin: Any):
    with leaves_no_lock():
        x = gg.tensor([1.0, 2.0], device="cuda")
        y = (x * x)[:1]
        assert type(y.data) is cupy_standin.ndarray


def test_threads_may_share_arrays_and_settings_are_their_own():
    shared = np.arange(1.0, 9.0)
    base = np.ones((8, 4))
    barrier = threading.Barrier(8)

    def work(k: int) -> None:
        if k % 4 == 3:
            gg.turn_memory_guarding_off()
        barrier.wait()
        for i in range(60):
            x = gg.tensor(shared, copy=False)
            row = gg.tensor(base[(i + k) % 8], copy=False)
            y = (x * x).sum() + (row * 2.0).sum()
            if k % 4 != 3:
                assert is_guarded(shared)
                assert not shared.flags.writeable
            y.backward()
            np.testing.assert_array_equal(x.grad, 2 * np.arange(1.0, 9.0))

    in_threads(work)
    assert gg.mem_guard_active()
    gc.collect()
    assert_free(shared, base)


def test_one_tensor_may_be_used_by_many_threads():
    array, x = shared_tensor()

    def work(k: int) -> None:
        for _ in range(100):
            y = x * 2.0
            assert not array.flags.writeable
            del y

    in_threads(work)
    assert_free(array)


def test_long_use_leaves_no_bookkeeping_behind():
    array, x = shared_tensor()
    with leaves_no_lock():
        for _ in range(200):
            y = x * array
            row = y[1:]
            np.testing.assert_array_equal(row.data, [4.0, 9.0])
            (y.sum() + row.sum()).backward()
            x.null_grad()
        del y, row
    assert_free(array)


def test_operation_that_fails_leaves_no_lock_while_its_error_is_kept():
    x, y = np.ones(2), np.ones(3)
    with pytest.raises(ValueError) as kept:
        gg.concatenate([gg.tensor(x, copy=False), y, np.ones((2, 2))])
    assert kept.value.__traceback__ is not None
    assert x.flags.writeable and y.flags.writeable
