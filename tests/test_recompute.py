"""checkpoint: the same gradients from less memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.autodiff import gradients as gradients_of
from gpugrad.testing import check_grads
from tests.locks import leaves_no_lock

X = np.array([0.3, -0.7, 1.1])
W = np.array([0.5, 1.5, -1.0])


class Counted:
    """A function that counts its calls."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.f(*args, **kwargs)


def block(x: Any, w: Any) -> gg.Tensor:
    return gg.tanh(x * w) @ gg.exp(w) + gg.softplus(x) * w


def gradients(f: Callable[..., Any], *arrays: Any, device: str = "cpu") -> list[np.ndarray]:
    xs = [gg.tensor(a, device=device) for a in arrays]
    y = f(*xs)
    (y * y).sum().backward()
    return [gg.asnumpy(y), *(gg.asnumpy(x.grad) for x in xs)]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_value_and_gradients_are_the_same_bit_for_bit(device: str):
    expected = gradients(block, X, W, device=device)
    assert_same(gradients(gg.checkpoint(block), X, W, device=device), expected)
    single = gradients(block, X.astype(np.float32), W)
    assert_same(gradients(gg.checkpoint(block), X.astype(np.float32), W), single)


def test_function_is_called_once_more_for_all_operands():
    f = Counted(block)
    gradients(gg.checkpoint(f), X, W)
    assert f.calls == 2
    f.calls = 0
    gg.grad(gg.checkpoint(lambda x, w: f(x, w).sum()), (0, 1))(X, W)
    assert f.calls == 2


def test_without_a_graph_it_is_the_function_itself():
    f = Counted(block)
    with gg.no_autodiff:
        y = gg.checkpoint(f)(gg.tensor(X), gg.tensor(W))
    assert f.calls == 1
    assert y.creator is None


def test_one_tensor_given_twice_gets_the_sum():
    f = lambda x, y: x * y * y
    expected = gradients(lambda x: f(x, x), X)
    assert_same(gradients(lambda x: gg.checkpoint(f)(x, x), X), expected)


def test_tensors_that_are_closed_over_get_their_gradients():
    def run(wrapper: Callable[..., Any]) -> list[np.ndarray]:
        w = gg.tensor(W)
        derived = w * 2.0  # made before, of what the function uses too
        x = gg.tensor(X)
        y = wrapper(lambda x: gg.tanh(x * derived) + w * x)(x)
        (y * derived).sum().backward()
        return [x.grad, w.grad, derived.grad]

    assert_same(run(gg.checkpoint), run(lambda f: f))


def test_results_that_the_function_keeps_for_itself_do_no_harm():
    kept = []

    def f(x: Any) -> gg.Tensor:
        kept.append(gg.exp(x))
        return kept[-1] * x

    assert_same(gradients(gg.checkpoint(f), X), gradients(lambda x: gg.exp(x) * x, X))


def test_nested_arguments_and_results():
    def f(p: dict, n: int, *, options: dict) -> dict:
        y = p["x"] ** n * p["w"][0]
        return {"y": y, "sum": (y.sum(), n), "scaled": y * options["scale"]}

    def total(f: Callable[..., Any]) -> Callable[..., gg.Tensor]:
        def run(x: Any, w: Any, scale: Any) -> gg.Tensor:
            out = f({"x": x, "w": [w]}, 2, options={"scale": scale})
            assert out["sum"][1] == 2
            assert [t.shape for t in (out["y"], out["sum"][0])] == [(3,), ()]
            return out["y"] * out["sum"][0] + gg.exp(out["scaled"])

        return run

    counted = Counted(f)
    scale = np.array(0.5)
    assert_same(
        gradients(total(gg.checkpoint(counted)), X, W, scale), gradients(total(f), X, W, scale)
    )
    assert counted.calls == 2


def test_results_of_several_dtypes_keep_them():
    f = gg.checkpoint(lambda x, w: (x * 2, w * x))
    x, w = gg.tensor(X.astype(np.float32)), gg.tensor(W)
    a, b = f(x, w)
    assert (a.dtype, b.dtype) == (np.float32, np.float64)
    (a.sum() + b.sum()).backward()
    np.testing.assert_allclose(x.grad, 2 + W, rtol=1e-6)
    assert x.grad.dtype == np.float32


def test_result_that_does_not_depend_on_a_variable_is_constant():
    f = gg.checkpoint(lambda x, c: (x * c, c * 2, 3))
    x, c = gg.tensor(X), gg.tensor(W, constant=True)
    y, twice, three = f(x, c)
    assert not y.constant
    assert twice.constant
    assert three == 3
    y.backward()
    np.testing.assert_array_equal(x.grad, W)
    assert gg.checkpoint(lambda c: c * 2)(c).constant


def test_result_may_be_an_operand_or_a_view_of_one():
    for f in (lambda x: x, lambda x: x[::-1], lambda x: x.reshape(3, 1)):
        assert_same(gradients(gg.checkpoint(f), X), gradients(f, X))
    x = gg.tensor(X)
    assert not np.shares_memory(gg.checkpoint(lambda x: x)(x).data, x.data)


def test_function_may_write_into_its_arguments_without_the_caller_seeing_it():
    def f(x: Any) -> gg.Tensor:
        x *= 2.0
        x[0] = 1.0
        return x * x

    x = gg.tensor(X)
    gg.checkpoint(f)(x).sum().backward()
    np.testing.assert_allclose(x.grad, [0.0, *(8 * X[1:])])
    np.testing.assert_array_equal(x, X)


def test_every_order():
    check_grads(gg.checkpoint(block), (X, W), order=3)
    check_grads(gg.checkpoint(lambda x, w: (x * w, gg.exp(w))), (X, W), order=2)
    check_grads(lambda x, w: gg.checkpoint(lambda x: gg.exp(x * w) * w)(x), (X, W), order=3)


def test_nested_checkpoints():
    inner = Counted(lambda x, w: gg.tanh(x * w))
    f = gg.checkpoint(lambda x, w: gg.checkpoint(inner)(x, w) * w + x)
    plain = lambda x, w: gg.tanh(x * w) * w + x
    assert_same(gradients(f, X, W), gradients(plain, X, W))
    assert inner.calls == 3  # the value, the outer repetition, the inner one
    check_grads(f, (X, W), order=2)


def test_pullback_may_be_called_again():
    f = Counted(block)
    _, pullback = gg.vjp(gg.checkpoint(f), X, W)
    first, second = pullback(W), pullback(2 * W)
    for a, b in zip(first, second):
        np.testing.assert_allclose(2 * a.data, b)
    assert f.calls == 3


def test_memory_of_a_chain_of_segments_is_smaller():
    size, length = 100_000, 16

    def segment(x: Any) -> gg.Tensor:
        for _ in range(length):
            x = gg.tanh(x)
        return x

    def peak(f: Callable[..., Any]) -> float:
        """In arrays."""
        x = gg.tensor(np.linspace(-1.0, 1.0, size))
        gc.collect()
        tracemalloc.start()
        try:
            y = x
            for _ in range(length):
                y = f(y)
            y.backward()
            return tracemalloc.get_traced_memory()[1] / (8 * size)
        finally:
            tracemalloc.stop()

    plain, segmented = peak(segment), peak(gg.checkpoint(segment))
    assert plain >= length * length
    assert segmented <= 4 * length


def test_arrays_are_protected_until_the_sweep_and_free_after_it():
    a, raw = X.copy(), W.copy()
    with leaves_no_lock():
        x = gg.tensor(a, copy=False)
        y = gg.checkpoint(lambda x, w: x * w * x)(x, raw)
        seen = y.data
        for array in (a, raw, seen):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0
        y.backward()
        for array in (a, raw, seen):
            array[...] = 0.0


def test_fault_in_the_function_leaves_no_lock():
    a = X.copy()
    x = gg.tensor(a, copy=False)
    with pytest.raises(ZeroDivisionError):
        gg.checkpoint(lambda x: x * (1 / 0))(x)
    a[0] = 0.0
    fails = [False]

    def f(x: Any) -> gg.Tensor:
        if fails[0]:
            raise KeyError("the second time")
        return x * 2.0

    y = gg.checkpoint(f)(x)
    fails[0] = True
    with pytest.raises(KeyError):
        y.backward()
    fails[0] = False
    y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 2.0, 2.0])
    a[0] = 0.0


def test_random_numbers_drawn_inside_are_refused():
    rng = np.random.default_rng(0)
    x = gg.tensor(X)
    y = gg.checkpoint(lambda x: x * rng.normal(size=3))(x)
    with pytest.raises(gg.InvalidBackprop, match=r"checkpoint: .* another value"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize("shape", ((3,), (2, 3)))
def test_tensor_that_was_written_to_since_is_refused(shape: tuple[int, ...]):
    x, w = gg.tensor(np.ones(shape)), gg.tensor(W)
    y = gg.checkpoint(lambda x: x * w)(x)
    w *= 2.0
    with pytest.raises(gg.InvalidBackprop, match=r"checkpoint: .* another value"):
        y.backward()


def test_other_tensors_than_the_first_time_are_refused():
    ws = [gg.tensor(W), gg.tensor(W)]
    y = gg.checkpoint(lambda x: x * ws[0])(gg.tensor(X))
    ws.reverse()
    with pytest.raises(gg.InvalidBackprop, match=r"used a tensor of shape \(3,\)"):
        y.backward()


def test_values_that_are_not_finite_may_come_again():
    x = gg.tensor([0.0, np.inf, -np.inf, np.nan])
    gg.checkpoint(gg.exp)(x).backward()
    np.testing.assert_array_equal(x.grad, [1.0, np.inf, 0.0, np.nan])


def test_is_called_by_the_functions_name():
    assert gg.checkpoint(block).__name__ == "block"


def test_an_operand_is_protected_and_its_gradient_forgotten_as_by_an_operation():
    x = gg.tensor([1.0, 2.0])
    (x * x).sum().backward()
    y = gg.checkpoint(lambda x: gg.exp(x))(x)
    assert x.grad is None
    with gg.no_autodiff, pytest.raises(ValueError, match="read-only"):
        x[0] = 5.0
    y.sum().backward()
    np.testing.assert_allclose(x.grad, np.exp([1.0, 2.0]))


def test_a_result_that_is_a_view_has_memory_of_its_own():
    x = gg.tensor([1.0, 2.0])
    y = gg.checkpoint(lambda x: x[1:])(x)
    assert not np.shares_memory(y.data, x.data)
    y.backward()
    np.testing.assert_array_equal(x.grad, [0.0, 1.0])


def test_operands_may_be_asked_for_one_by_one_with_different_cotangents():
    x, w = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 5.0])
    y = gg.checkpoint(lambda x, w: x * w)(x, w)
    for vertex, other in ((x._vertex, w), (w._vertex, x)):
        for g in ([1.0, 10.0], [2.0, 0.0]):
            (found,) = gradients_of([vertex], [y], [gg.tensor(g)], raw=True)
            np.testing.assert_array_equal(found, np.multiply(g, other.data))


def test_a_constant_operand_is_not_asked_for_its_gradient():
    @gg.primitive
    def scaled(x: Any, n: Any) -> Any:
        return x * n

    scaled.defvjp(lambda g, y, x, n: g * n, argnums=0)  # none for n
    block = gg.checkpoint(scaled)
    x, n = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 5.0], constant=True)
    block(x, n).backward()
    np.testing.assert_array_equal(x.grad, n.data)
    np.testing.assert_array_equal(gg.grad(lambda x: block(x, n).sum())(x), n.data)


@pytest.mark.parametrize(
    ("factors", "second", "is_refused"),
    [
        ([1.0, 1.0], lambda y: y * (1 + 1e-14), False),  # as sums on a GPU may differ
        ([1.0, 1.0], lambda y: y * (1 + 1e-3), True),
        ([1.0, 1.0], lambda y: y.astype(np.float32), True),
        ([1.0, np.inf], lambda y: gg.where(np.isinf(y), 0.0, y), True),
    ],
    ids=["rounding", "other number", "other dtype", "finite now"],
)
def test_second_value_may_differ_by_rounding_alone(factors: Any, second: Any, is_refused: bool):
    calls: list[Any] = []
    factors = np.array(factors)

    def f(x: gg.Tensor) -> gg.Tensor:
        calls.append(x)
        return second(x * factors) if len(calls) > 1 else x * factors

    y = gg.checkpoint(f)(gg.tensor([1.0, 2.0]))
    if is_refused:
        with pytest.raises(gg.errors.InvalidBackprop, match="another value"):
            y.sum().backward()
    else:
        y.sum().backward()
