"""A tensor that goes to another device stays in its graph, and its gradient comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg

X = np.array([[0.5, 1.0, 2.0], [3.0, 0.25, 1.5]])


@pytest.fixture
def gpu(xp: Any) -> str:
    """A device other than the CPU."""
    if xp is np:
        pytest.skip("one device alone")
    return "cuda"


def test_gradient_comes_back_to_where_the_operand_lies(gpu: str):
    x = gg.tensor(X)
    y = (x * x).to_device(gpu)
    z = (gg.exp(y) * y).sum()
    assert str(z.device) == "cuda:0"
    z.backward()
    assert type(x.grad) is np.ndarray
    np.testing.assert_allclose(x.grad, np.exp(X**2) * (1 + X**2) * 2 * X, rtol=1e-14)


def test_there_and_back_again(gpu: str):
    x = gg.tensor(X, device=gpu)
    w = gg.tensor(X)
    y = (gg.square(x).to_device("cpu") * w).sum()
    assert type(y.data) is np.ndarray
    (y * 2.0).to_device(gpu).backward()
    np.testing.assert_allclose(gg.asnumpy(x.grad), 4 * X**2, rtol=1e-15)
    np.testing.assert_allclose(w.grad, 2 * X**2, rtol=1e-15)
    assert x.device != w.device
    assert x.grad.shape == X.shape
    assert not isinstance(x.grad, np.ndarray)


def test_numbers_of_no_dimension_have_gradients_on_their_own_device(gpu: str):
    x, y = gg.tensor(2.0), gg.tensor(3.0, device=gpu)
    (x.to_device(gpu) * y).to_device("cpu").backward()
    assert type(x.grad) is np.ndarray
    assert x.grad == 3.0
    assert not isinstance(y.grad, np.ndarray)
    assert y.grad.item() == 2.0


def test_masks_and_broadcasting_on_both_sides(gpu: str):
    x = gg.tensor(X[0])
    mask = X > 0.75
    y = gg.log(x, where=mask[0]).to_device(gpu)
    total = gg.add(y, gg.tensor(X, device=gpu)) * y
    total.sum().backward()
    inside = np.where(mask[0], np.log(np.where(mask[0], X[0], 1.0)), 0.0)
    expected = np.where(mask[0], (X.sum(0) + 4 * inside) / X[0], 0.0)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-14)


def test_second_derivative_crosses_too(gpu: str):
    def f(x: gg.Tensor) -> gg.Tensor:
        return (x.to_device(gpu) ** 3).to_device("cpu").sum()

    second = gg.grad(lambda x: gg.grad(f)(x).sum())(gg.tensor(X))
    np.testing.assert_allclose(second.data, 6 * X, rtol=1e-14)


def test_derivative_without_a_graph_crosses_too(gpu: str):
    def f(x: gg.Tensor) -> gg.Tensor:
        return gg.log(x).to_device(gpu)[1:].to_device("cpu").sum()

    with gg.no_autodiff:
        found = gg.grad(f)(gg.tensor(X))
    np.testing.assert_allclose(found.data[1:], 1 / X[1:], rtol=1e-15)
    assert not found.data[0].any()


def test_where_it_lies_already_it_is_the_same_tensor(as_device: Any):
    x = gg.tensor(as_device(X))
    assert x.to_device(x.device) is x


def test_copy_of_a_constant_is_a_leaf(gpu: str):
    c = gg.tensor(X, constant=True)
    there = c.to_device(gpu)
    assert there.constant
    assert there.creator is None
    with gg.no_autodiff:
        loose = gg.tensor(X).to_device(gpu)
    assert loose.creator is None
    assert not loose.constant


def test_each_step_of_a_training_loop_finds_the_gradient_of_the_moved_parameter(gpu: str):
    w = gg.tensor(X).to_device(gpu)
    for _ in range(3):
        (w * w).sum().backward()
        np.testing.assert_array_equal(gg.asnumpy(w.grad), 2 * X)


def test_unknown_device_is_named():
    with pytest.raises(ValueError, match="device: got 'tpu', expected"):
        gg.tensor(X).to_device("tpu")


@pytest.mark.parametrize("where", ("operator", "function", "setitem", "in place", "out"))
def test_host_number_that_varies_gets_its_gradient_from_the_device(where: str, cupy_standin: Any):
    x = gg.tensor(np.array([1.0, 2.0, 3.0]), device="cuda")
    s = gg.tensor(2.0)
    t = gg.exp(s)
    if where == "operator":
        y = x * t
    elif where == "function":
        y = gg.where(np.array(True), t, x) * x
    elif where == "out":
        y = gg.multiply(x, t, out=+x)
    else:
        y = +x
        if where == "setitem":
            y[:] = t
            y = y * x
        else:
            y *= t
    y.backward()
    np.testing.assert_allclose(s.grad, 6 * np.exp(2.0))
    assert type(s.grad) is np.ndarray
    assert type(x.grad) is type(x.data)


def test_second_derivative_by_a_host_number(cupy_standin: Any):
    x = gg.tensor(np.array([1.0, 2.0, 3.0]), device="cuda")
    second = gg.grad(gg.grad(lambda s: (x * gg.exp(s)).sum()))(2.0)
    np.testing.assert_allclose(second, 6 * np.exp(2.0))
    assert str(second.device) == "cpu"
