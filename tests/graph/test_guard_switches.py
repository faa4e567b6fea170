"""The switches of the guard, and arrays that are restored exactly to what they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.fresh_python import output_of


def writeable_in_a_graph() -> tuple[bool, bool]:
    """Of the array of an operand, and of a result."""
    array = np.ones(3)
    y = gg.tensor(array, copy=False) * 2.0
    return array.flags.writeable, y.data.flags.writeable


def test_guard_is_switched_by_blocks_and_decorators():
    assert writeable_in_a_graph() == (False, False)
    with gg.mem_guard_off:
        assert writeable_in_a_graph() == (True, True)
        with gg.mem_guard_on:
            assert writeable_in_a_graph() == (False, False)
        assert gg.mem_guard_on(writeable_in_a_graph)() == (False, False)
        assert not gg.mem_guard_active()
    assert gg.mem_guard_off(writeable_in_a_graph)() == (True, True)
    assert gg.mem_guard_active()


def test_switch_is_restored_after_an_exception():
    with pytest.raises(ZeroDivisionError), gg.mem_guard_off:
        _ = 1 / 0
    assert gg.mem_guard_active()


@pytest.mark.parametrize("value, guarded", [("False", False), ("0", False), ("True", True)])
def test_environment_sets_the_guard(value: str, guarded: bool):
    program = "import gpugrad as gg; print(gg.mem_guard_active())"
    assert output_of(program, GPUGRAD_MEM_GUARD=value).strip() == str(guarded)


def test_no_autodiff_gives_arrays_on_request():
    @gg.no_autodiff
    def tensor_of(x: Any) -> Any:
        return x * 2.0

    array_of = gg.no_autodiff(lambda x: x * 2.0, to_numpy=True)
    x = gg.tensor([1.0, 2.0])
    assert tensor_of(x).creator is None
    assert type(array_of(x)) is np.ndarray
    np.testing.assert_array_equal(array_of(x), [2.0, 4.0])
    assert x.data.flags.writeable


def owned(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


# name -> arrays that a graph will use, the first through a tensor that shares it
SITUATIONS: dict[str, Callable[[], list[np.ndarray]]] = {
    "an array": lambda: [np.ones(4)],
    "an array of two graphs": lambda: [x := np.ones(4), x],
    "a view": lambda: [np.ones(4)[:]],
    "a view and its base": lambda: [(x := np.ones(4))[:], x],
    "a base and its view": lambda: [x := np.ones(4), x[::-1]],
    "a view of a view": lambda: [(x := np.ones(8)[::2])[:], x],
    "a read-only array": lambda: [owned(np.ones(4))],
    "a read-only view": lambda: [owned((x := np.ones(4))[:]), x],
    "a view of a read-only array": lambda: [owned(np.ones(4))[:]],
    "an empty array": lambda: [np.ones(0)],
    "a 0-d array": lambda: [np.array(1.0)],
}


@pytest.mark.parametrize("make", SITUATIONS.values(), ids=SITUATIONS)
@pytest.mark.parametrize(
    "end",
    [
        lambda graphs: [g.backward() for g in graphs],
        lambda graphs: [g.clear_graph() for g in graphs],
        lambda graphs: graphs.clear(),
        lambda graphs: (graphs.pop(0), [g.backward() for g in graphs]),
    ],
    ids=["backward", "clear_graph", "del", "del and backward"],
)
def test_arrays_are_restored_exactly(make: Any, end: Callable[[list], object]):
    arrays = make()
    bases = [a.base for a in arrays if a.base is not None]
    before = [a.flags.writeable for a in arrays + bases]
    x = gg.tensor(arrays[0], copy=False)
    graphs = [x * a for a in arrays]
    graphs.append(gg.exp(x[...]))
    assert not any(a.flags.writeable for a in arrays + bases)
    end(graphs)
    del x
    assert [a.flags.writeable for a in arrays + bases] == before


def test_gradient_that_is_no_number_is_refused_as_numpy_refuses_it():
    y = gg.tensor([1.0, 2.0]) * 2.0
    for grad, error in (("a", ValueError), (object(), TypeError)):
        with pytest.raises(error) as caught:
            y.backward(grad)
        assert isinstance(caught.value, gg.InvalidGradient)


def test_view_that_was_not_in_the_cleared_graph_starts_a_new_one():
    x = gg.tensor([1.0, 2.0, 3.0])
    middle = x[:2]
    last = middle[1:]
    middle.backward()
    (last * 5.0).backward()
    np.testing.assert_array_equal(x.grad, [0.0, 5.0, 0.0])
