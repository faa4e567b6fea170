"""The sweep: iterative, linear, without effect if it fails."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.graph import sweep as sweep_module
from gpugrad.graph.vertex import CLEARED, Vertex


def chain(x: gg.Tensor, length: int) -> gg.Tensor:
    for _ in range(length // 2):
        x = x + 0.5
        x = x * 1.0
    return x


def test_chain_of_100_000_operations_differentiates_without_recursion():
    limit = sys.getrecursionlimit()
    x = gg.tensor(2.0)
    y = chain(x, 100_000)
    sys.setrecursionlimit(_depth() + 60)
    try:
        (y * y).backward()
    finally:
        sys.setrecursionlimit(limit)
    assert x.grad == 2 * (2.0 + 25_000)


def test_chain_of_100_000_operations_is_freed_without_recursion():
    limit = sys.getrecursionlimit()
    freed: list[bool] = []

    class Witness(np.ndarray):
        def __del__(self) -> None:
            freed.append(True)

    x = gg.tensor(2.0)
    x.data = np.ones(()).view(Witness)
    y = chain(x, 100_000)
    z = y.reshape(1)
    del x
    sys.setrecursionlimit(_depth() + 60)
    try:
        del y, z  # never cleared
    finally:
        sys.setrecursionlimit(limit)
    assert freed


def test_chain_of_100_000_writes_differentiates():
    x = gg.tensor([1.0, 2.0])
    y = +x
    for _ in range(50_000):
        y += 1.0
        y[0] = 3.0
    y.backward()
    np.testing.assert_array_equal(x.grad, [0.0, 1.0])


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def steps(length: int) -> int:
    """How many lines of the sweep are run for a chain, every step of it repeated as a diamond."""
    x = y = gg.tensor(1.0)
    for _ in range(length):
        y = y * 0.5 + y
    count = 0

    def local(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def tracer(frame: Any, event: str, arg: Any) -> Any:
        return local if frame.f_code.co_filename == sweep_module.__file__ else None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        y.backward()
    finally:
        sys.settrace(before)
    np.testing.assert_allclose(x.grad, 1.5**length)
    return count


def test_work_grows_linearly_with_the_graph():
    # counted in lines of the sweep, so that the machine's mood has no part in it
    short, long = steps(100), steps(400)
    assert 3.9 < long / short < 4.1


def test_diamond_adds_up_its_paths():
    x = gg.tensor(3.0)
    a = x * x
    y = a * x + a * a + a
    y.backward()
    assert x.grad == 3 * 9 + 4 * 27 + 6
    assert a.grad == 3 + 2 * 9 + 1


def test_each_vertex_is_visited_after_all_of_its_consumers():
    x = gg.tensor(2.0)
    a = x * 1.0
    long_way = chain(a, 10)
    y = a * long_way
    y.backward()
    assert x.grad == 2 * 2.0 + 2.5


def test_result_has_its_own_gradient():
    x = gg.tensor([1.0, 2.0])
    y = x * 2.0
    y.backward([3.0, 4.0])
    np.testing.assert_array_equal(y.grad, [3.0, 4.0])
    np.testing.assert_array_equal(x.grad, [6.0, 8.0])


def test_gradients_share_no_memory_with_each_other_or_the_seed():
    a, b = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0])
    seed = np.array([1.0, 1.0])
    c = a + b
    d = +c
    d.backward(seed)
    gradients = [a.grad, b.grad, c.grad, d.grad, seed]
    for i, g in enumerate(gradients):
        for other in gradients[:i]:
            assert not np.shares_memory(g, other)
        g[...] = i
    assert [g[0] for g in gradients] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n", (3, sweep_module.LARGE), ids=("small", "large"))
@pytest.mark.parametrize(
    "view", (gg.positive, gg.transpose, gg.ravel), ids=("positive", "transpose", "ravel")
)
def test_sums_of_cotangents_are_not_written_over_one_another(view: Any, n: int):
    x, y = gg.tensor(np.ones((2, n))), gg.tensor(np.ones(view(np.ones((2, n))).shape))
    # x gets 2 g, which is new memory, and then g or a view of it, which y and the result have too
    z = (view(x) + y) + view(x * 1.0) * 2.0
    z.backward()
    np.testing.assert_array_equal(x.grad, np.full(x.shape, 3.0))
    np.testing.assert_array_equal(y.grad, np.ones(y.shape))
    np.testing.assert_array_equal(z.grad, np.ones(z.shape))


@pytest.mark.parametrize("n", (3, sweep_module.LARGE + 1), ids=("small", "large"))
def test_sum_of_cotangents_is_not_written_into_an_array_that_a_rule_keeps(n: int):
    kept = np.full(n, 5.0)

    @gg.primitive
    def five_times(x: Any) -> Any:
        return 5.0 * x

    five_times.defvjp(lambda g, y, x: kept)
    x = gg.tensor(np.ones(n))
    for y in (five_times(x) + 3.0 * x, 3.0 * x + five_times(x)):
        y.backward()
        np.testing.assert_array_equal(x.grad, np.full(n, 8.0))
        np.testing.assert_array_equal(kept, np.full(n, 5.0))


def test_leaf_is_its_own_gradient():
    x = gg.tensor([1.0, 2.0])
    x.backward()
    np.testing.assert_array_equal(x.grad, [1.0, 1.0])


@pytest.mark.parametrize(
    "again",
    [
        lambda x, y, z: z.backward(),
        lambda x, y, z: (z * 2.0, y.backward()),
        lambda x, y, z: y.backward(),
    ],
)
def test_backward_through_a_cleared_graph_raises(again: Callable[..., Any]):
    x = gg.tensor([1.0, 2.0])
    y = x * x
    z = y + x
    z.backward()
    before = x.grad.copy(), y.grad.copy()
    with pytest.raises(gg.InvalidBackprop, match="cleared"):
        again(x, y, z)
    np.testing.assert_array_equal(x.grad, before[0])
    np.testing.assert_array_equal(y.grad, before[1])


def test_graph_that_was_cleared_in_part_raises_and_changes_nothing():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    kept = y * 3.0
    y.sum().backward()
    gx, gy = x.grad.copy(), y.grad.copy()
    with pytest.raises(gg.InvalidBackprop, match="multiply"):
        kept.backward()
    assert kept.grad is None
    np.testing.assert_array_equal(x.grad, gx)
    np.testing.assert_array_equal(y.grad, gy)
    assert kept.creator is not None


def test_cleared_tensor_starts_a_new_graph():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    y.backward()
    z = (y * 3.0).sum()
    z.backward()
    np.testing.assert_array_equal(y.grad, [3.0, 3.0])
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])


def test_clear_graph_forgets_the_history():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    z = y.sum()
    z.clear_graph()
    assert y.creator is None
    assert z.creator is None
    with pytest.raises(gg.InvalidBackprop):
        z.backward()
    assert x.grad is None


def test_rule_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    from gpugrad.graph.op import OPS

    x = gg.tensor([1.0, 2.0])
    y = gg.exp(x)
    z = gg.square(y) * x

    def broken(*args: Any) -> Any:
        raise FloatingPointError("broken rule")

    with monkeypatch.context() as patch:
        patch.setattr(OPS["exp"], "rules", (broken,))
        with pytest.raises(FloatingPointError):
            z.backward()
        assert x.grad is None
        assert y.grad is None
        assert z.grad is None
        assert z.creator is not None
    z.backward()
    e = np.exp([1.0, 2.0])
    np.testing.assert_allclose(x.grad, e * e * (1 + 2 * np.array([1.0, 2.0])))


def test_constants_take_no_gradient_and_stop_the_sweep():
    x = gg.tensor([1.0, 2.0])
    c = gg.tensor([3.0, 4.0], constant=True)
    d = c * c
    y = x * d
    z = gg.add(y, x, constant=True)
    w = (z * x).sum()
    w.backward()
    np.testing.assert_array_equal(x.grad, z.data)
    assert c.grad is None
    assert d.grad is None
    assert y.grad is None
    assert d.creator is None  # cleared with the rest
    assert y.creator is None


def test_tensor_that_the_result_does_not_depend_on_has_no_gradient():
    x, other = gg.tensor(1.0), gg.tensor(2.0)
    side = x * other
    (x * 3.0).backward()
    assert x.grad == 3.0
    assert other.grad is None
    assert side.grad is None


def test_operand_without_a_rule_gets_none():
    x = gg.tensor([1.0, 2.0])
    condition = gg.tensor([0.5, 0.0])
    gg.where(condition, x, x * 2.0).backward()
    assert condition.grad is None
    np.testing.assert_array_equal(x.grad, [1.0, 2.0])


def test_gradient_has_the_dtype_and_shape_of_what_it_belongs_to():
    half = gg.tensor(np.ones((2, 1)), dtype=np.float16)
    single = gg.tensor(np.ones(3), dtype=np.float32)
    double = gg.tensor(2.0)
    y = half * single * double
    assert y.dtype == np.float64
    y.backward()
    for t, value in ((half, 6.0), (single, 4.0), (double, 6.0)):
        assert t.grad.dtype == t.dtype
        assert isinstance(t.grad, np.ndarray)
        np.testing.assert_array_equal(t.grad, np.full(t.shape, value))


def test_cotangent_that_is_repeated_has_the_dtype_of_what_it_belongs_to():
    single = gg.tensor(np.ones((2, 3)), dtype=np.float32)
    gg.einsum("ij,k->k", single, gg.tensor([1.0, 2.0])).backward()
    assert single.grad.dtype == np.float32
    np.testing.assert_array_equal(single.grad, np.full((2, 3), 3.0))


@pytest.mark.parametrize(
    "clear", (gg.Tensor.backward, gg.Tensor.clear_graph), ids=lambda f: f.__name__
)
def test_parameters_of_a_cleared_operation_are_freed(clear: Callable[[gg.Tensor], None]):
    x = gg.tensor([1.0, 2.0])
    y = x[np.array([0, 1, 1])]
    seen = weakref.ref(y._vertex.params["index"])  # a copy of what was given
    gc.collect()
    assert seen() is not None
    clear(y)
    gc.collect()
    assert seen() is None


def test_cleared_vertices_keep_nothing_alive():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    z = y.sum()
    z.backward()
    vertex = z._vertex
    assert isinstance(vertex, Vertex)
    assert vertex.op is CLEARED
    assert not vertex.inputs
    assert not vertex.holds
