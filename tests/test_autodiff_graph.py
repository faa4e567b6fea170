"""Derivatives of functions and the graph: what they record, enter, keep and share memory with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.smooth import A, V, X, smooth


def test_gradient_inside_a_graph_is_part_of_it():
    x = gg.tensor(X)
    g = gg.grad(lambda y: (y**3).sum())(x)
    (g * x).sum().backward()
    np.testing.assert_allclose(x.grad, 9 * X**2)


def test_arguments_keep_their_own_gradient_and_graph():
    x = gg.tensor(X)
    (x * 2.0).backward()
    y = x[:2]
    before = x.grad.copy()
    gg.grad(lambda x: (x**2).sum())(x)
    np.testing.assert_array_equal(x.grad, before)
    assert y.base is x
    c = gg.tensor(X, constant=True)
    np.testing.assert_allclose(gg.grad(lambda c: (c**2).sum())(c), 2 * X)
    assert c.constant


def test_function_may_write_into_its_argument():
    x = gg.tensor(X)

    def f(x: gg.Tensor) -> gg.Tensor:
        x[0] = 2.0
        x *= x
        return x.sum()

    np.testing.assert_allclose(gg.grad(f)(x), [0.0, *(2 * X[1:])])
    np.testing.assert_array_equal(x, X)


def test_derivatives_are_taken_under_no_autodiff_too():
    with gg.no_autodiff:
        np.testing.assert_allclose(gg.grad(lambda x: (x**2).sum())(X), 2 * X)
        np.testing.assert_allclose(gg.hessian(lambda x: (x**2).sum())(X), 2 * np.eye(3))


def test_gradient_does_not_share_memory_with_what_it_is_taken_at():
    @gg.primitive
    def half_square(x: Any) -> Any:
        return 0.5 * x**2

    half_square.defvjp(lambda g, y, x: x)  # at a cotangent of 1
    x = gg.tensor(3.0)
    found = gg.grad(half_square)(x)
    assert found.item() == 3.0
    assert not np.shares_memory(found.data, x.data)


def test_pullback_records_a_graph_if_one_is_wanted_when_it_is_called():
    x = gg.tensor(X)
    _, pullback = gg.vjp(lambda x: x * x, x)
    with gg.no_autodiff:
        assert pullback(V)[0].creator is None
        _, made_without = gg.vjp(lambda x: x * x, x)
    assert pullback(V)[0].creator is not None
    found = gg.grad(lambda v: made_without(v)[0].sum())(V)
    np.testing.assert_array_equal(found, 2 * X)


def test_function_is_called_once():
    calls = []

    def f(x: Any) -> gg.Tensor:
        calls.append(x)
        return (x**3).sum()

    for differentiate in (
        gg.grad(f),
        gg.value_and_grad(f),
        gg.hessian(f),
        lambda x: gg.hvp(f, x, V),
        lambda x: gg.jvp(f, x, V),
        lambda x: gg.vjp(f, x)[1](1.0),
    ):
        calls.clear()
        differentiate(X)
        assert len(calls) == 1


def test_sweep_does_not_enter_what_the_function_closes_over(monkeypatch: pytest.MonkeyPatch):
    from gpugrad.graph.op import OPS

    swept = []
    rule = OPS["square"].rules[0]
    monkeypatch.setattr(OPS["square"], "rules", (lambda *a: swept.append(a) or rule(*a),))
    outside = gg.square(gg.square(gg.tensor(X)))
    gg.grad(lambda x: (x * outside + gg.square(x)).sum())(X)
    assert len(swept) == 1
    swept.clear()
    g = gg.grad(lambda x: (x * outside).sum())(gg.square(gg.tensor(X)))
    assert not swept
    g.sum().backward()  # but the gradient depends on it
    assert len(swept) == 2


def test_under_no_autodiff_no_result_has_a_graph():
    array = X.copy()
    f = lambda x: (x**3).sum()
    with gg.no_autodiff:
        y, g = gg.value_and_grad(f)(array)
        found = (y, g, gg.hessian(f)(array), gg.hvp(f, array, V), *gg.jvp(f, array, V))
        z, pullback = gg.vjp(f, array)
        found = (*found, z, *pullback(1.0))
    assert all(t.creator is None for t in found)
    with gg.no_autodiff:
        for t in found:
            t *= 0.0
    np.testing.assert_array_equal(array, X)
    del pullback, z
    array[0] = 1.0


@pytest.mark.parametrize("order", (1, 2, 3))
def test_under_no_autodiff_the_values_are_the_same(order: int):
    f: Callable[..., Any] = smooth
    for _ in range(order - 1):
        f = lambda x, f=f: (gg.grad(f)(x) * V).sum()
    expected = gg.grad(f)(X)
    with gg.no_autodiff:
        np.testing.assert_allclose(gg.grad(f)(X), expected, rtol=1e-13)


def test_gradients_of_two_arguments_do_not_share_memory():
    f = lambda x, y: (x + y).sum()
    with gg.no_autodiff:
        gx, gy = gg.grad(f, (0, 1))(X, V)
        identity = gg.vjp(lambda x: x, X)[1](V)[0]
    assert not np.shares_memory(gx.data, gy.data)
    assert not np.shares_memory(identity.data, V)


@pytest.mark.parametrize("tracking", (True, False), ids=("recorded", "raw"))
@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: gg.square(x + y).sum(),
        lambda x, y: (x + y).sum(),  # whose gradient is repeated in memory as NumPy's views are
        lambda x, y: gg.square(gg.flip(gg.reshape(x, (1, 3))) + y).sum(),
        lambda x, y: x[1] + gg.square(x + gg.transpose(y)).sum(),
    ],
)
def test_gradients_may_be_written_to_one_by_one(f: Callable[..., Any], tracking: bool):
    at = {"x": np.ones(3), "y": np.ones(3)}
    expected = {k: g.data.copy() for k, g in gg.grad(lambda p: f(p["x"], p["y"]))(at).items()}
    with gg.no_autodiff if not tracking else gg.mem_guard_on:
        found = gg.grad(lambda p: f(p["x"], p["y"]))(at)
        for g in found.values():
            g *= 0.5
    for k, g in found.items():
        np.testing.assert_allclose(g, 0.5 * expected[k])
    assert not np.shares_memory(found["x"].data, found["y"].data)
    np.testing.assert_array_equal(at["x"], np.ones(3))


@pytest.mark.parametrize("tracking", (True, False), ids=("recorded", "raw"))
def test_derivatives_do_not_show_the_memory_that_the_caller_gave(tracking: bool):
    given = V.copy()
    identity, half_square = lambda x: +x, lambda x: (x * x).sum() / 2
    with gg.no_autodiff if not tracking else gg.mem_guard_on:
        found = [
            gg.vjp(identity, X)[1](given)[0],
            gg.vjp(gg.flip, X)[1](given)[0],
            gg.vjp(gg.ravel, X)[1](given)[0],
            gg.jvp(identity, X, given)[1],
            gg.hvp(half_square, X, given),
        ]
    for t in found:
        assert not np.shares_memory(t.data, given)


def test_cotangents_of_a_result_that_is_returned_twice_add_up(device: str):
    def twice(x: gg.Tensor) -> tuple[gg.Tensor, gg.Tensor]:
        y = x * x
        return y, y

    x, g, h = (gg.tensor(a, device=device) for a in (X, V, A[0]))
    for switch in (gg.mem_guard_on, gg.no_autodiff):
        with switch:
            (found,) = gg.vjp(twice, x)[1]((g, h))
        np.testing.assert_allclose(gg.asnumpy(found), 2 * X * (V + A[0]))


@pytest.mark.parametrize("first", (0, 1), ids=("before", "after"))
@pytest.mark.parametrize("tracking", (True, False), ids=("recorded", "raw"))
def test_result_may_be_computed_from_another_result(first: int, tracking: bool):
    def f(x: gg.Tensor) -> tuple[gg.Tensor, gg.Tensor]:
        h = gg.sin(x)
        return (h, h * h) if first == 0 else (h * h, h)

    of_h, of_square = V, A[0]
    given = (of_h, of_square) if first == 0 else (of_square, of_h)
    with gg.no_autodiff if not tracking else gg.mem_guard_on:
        (found,) = gg.vjp(f, X)[1](given)
    expected = np.cos(X) * (of_h + 2 * np.sin(X) * of_square)
    np.testing.assert_allclose(found.data, expected, rtol=1e-14)


@pytest.mark.parametrize("tracking", (True, False), ids=("recorded", "raw"))
def test_constants_inside_a_function_stop_its_gradient(tracking: bool):
    def f(x: gg.Tensor) -> gg.Tensor:
        return (gg.multiply(x, x, constant=True) * x).sum()

    with gg.no_autodiff if not tracking else gg.mem_guard_on:
        np.testing.assert_array_equal(gg.grad(f)(X).data, X * X)
        pullback = gg.vjp(lambda x: gg.multiply(x, x, constant=True), X)[1]
        np.testing.assert_array_equal(pullback(V)[0].data, np.zeros(3))


def test_function_that_clears_a_part_of_its_graph_is_refused():
    def f(x: gg.Tensor) -> gg.Tensor:
        y = x * x
        z = y.sum()
        y.backward()
        return z

    with pytest.raises(gg.InvalidBackprop, match="cleared"):
        gg.grad(f)(X)


def test_arguments_are_free_after_a_derivative():
    array = X.copy()
    with pytest.raises(KeyError):
        gg.grad(lambda x: {}[x.shape])(array)
    gg.grad(smooth)(array).clear_graph()
    array[0] = 1.0
