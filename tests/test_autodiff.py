"""Derivatives of functions: of every order, nested, against closed forms and differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg

A = np.array([[2.0, -1.0, 0.5], [0.3, 1.5, -0.7], [1.1, 0.2, 0.9]])
X = np.array([0.7, -0.4, 1.3])
V = np.array([0.2, 1.0, -0.5])


def smooth(x: Any) -> gg.Tensor:
    """A function with no special structure, of everything that the engine has."""
    m = gg.reshape(gg.concatenate([x, x[::-1] * 2.0, gg.tanh(x)]), (3, 3))
    m[1] *= x
    y = gg.matmul(m, gg.exp(0.3 * x)) + gg.logaddexp(x, x[[1, 1, 0]])
    return gg.sum(gg.softplus(y) ** 2) + gg.mean(m.T[0] * x)


def differences(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, step: float = 1e-6) -> Any:
    """The derivative of an array function by central differences: f.shape + x.shape."""
    columns = []
    for i in np.ndindex(x.shape):
        e = np.zeros(x.shape)
        e[i] = step
        columns.append((f(x + e) - f(x - e)) / (2 * step))
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)


def value(f: Callable[..., Any]) -> Callable[..., np.ndarray]:
    return lambda *xs: np.array(gg.asnumpy(f(*(gg.tensor(x) for x in xs))))


def test_grad_against_differences():
    np.testing.assert_allclose(gg.grad(smooth)(X), differences(value(smooth), X), rtol=1e-7)


def test_grad_is_what_backward_finds():
    x = gg.tensor(X)
    smooth(x).backward()
    np.testing.assert_allclose(gg.grad(smooth)(X), x.grad, rtol=1e-14)


def test_hessian_against_differences_of_the_gradient():
    expected = differences(value(gg.grad(smooth)), X)
    found = gg.hessian(smooth)(X)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.data, found.data.T, rtol=1e-12)


def test_third_order_against_differences_of_the_hessian():
    third = gg.jacobian(gg.hessian(smooth))(X)
    assert third.shape == (3, 3, 3)
    expected = differences(value(gg.hessian(smooth)), X)
    np.testing.assert_allclose(third, expected, rtol=1e-6, atol=1e-6)


def test_hvp_is_the_hessian_times_a_vector():
    expected = gg.hessian(smooth)(X).data @ V
    np.testing.assert_allclose(gg.hvp(smooth, X, V), expected, rtol=1e-12)
    np.testing.assert_allclose(gg.hvp(smooth, gg.tensor(X), gg.tensor(V)), expected, rtol=1e-12)


def test_closed_forms(device: str):
    a, x = gg.tensor(A, device=device), gg.tensor(X, device=device)

    def quadratic(x: gg.Tensor) -> gg.Tensor:
        return x @ a @ x

    np.testing.assert_allclose(gg.asnumpy(gg.grad(quadratic)(x)), (A + A.T) @ X)
    np.testing.assert_allclose(gg.asnumpy(gg.hessian(quadratic)(x)), A + A.T)
    found = gg.jacobian(lambda x: a @ x)(x)
    assert str(found.device).startswith(device)
    np.testing.assert_allclose(gg.asnumpy(found), A)
    y, pullback = gg.vjp(lambda x, a: a @ x, x, a)
    gx, ga = pullback(gg.tensor(V, device=device))
    np.testing.assert_allclose(gg.asnumpy(y), A @ X)
    np.testing.assert_allclose(gg.asnumpy(gx), A.T @ V)
    np.testing.assert_allclose(gg.asnumpy(ga), np.outer(V, X))


@pytest.mark.parametrize("order, expected", list(enumerate((32, 80, 160, 240, 240, 120, 0))))
def test_every_order_of_a_power(order: int, expected: float):
    f: Callable[..., Any] = lambda x: x**5
    for _ in range(order):
        f = gg.grad(f)
    assert float(f(gg.tensor(2.0))) == pytest.approx(expected)


def test_nested_closures_do_not_confuse_their_variables():
    # d/dx [x * d/dy (x + y)] = 1, not 2: perturbation confusion
    assert gg.grad(lambda x: x * gg.grad(lambda y: x + y)(1.0))(1.0).item() == 1.0
    # d/dx [x * d/dy (x y)] = d/dx x^2
    assert gg.grad(lambda x: x * gg.grad(lambda y: x * y)(5.0))(3.0).item() == 6.0
    # the same variable inside and outside
    assert gg.grad(lambda x: gg.grad(lambda y: y * y * x)(x))(3.0).item() == 12.0


def test_gradient_inside_a_graph_is_part_of_it():
    x = gg.tensor(X)
    g = gg.grad(lambda y: (y**3).sum())(x)
    (g * x).sum().backward()
    np.testing.assert_allclose(x.grad, 9 * X**2)


def test_argnums():
    f = lambda x, y, z: x * y**2 + z
    assert gg.grad(f)(2.0, 3.0, 1.0).item() == 9.0
    assert gg.grad(f, 1)(2.0, 3.0, 1.0).item() == 12.0
    assert [g.item() for g in gg.grad(f, (1, 0))(2.0, 3.0, 1.0)] == [12.0, 9.0]
    assert gg.grad(f, -1)(2.0, 3.0, 1.0).item() == 1.0
    first, second = gg.jacobian(lambda x, y: x[:2] * y, (0, 1))(X, 2.0)
    np.testing.assert_array_equal(first, 2 * np.eye(2, 3))
    np.testing.assert_array_equal(second, X[:2])
    np.testing.assert_array_equal(
        gg.hessian(lambda x, y: (y * y * x).sum(), 1)(X, 2.0), 2 * X.sum()
    )


def test_value_and_grad_and_aux():
    y, g = gg.value_and_grad(lambda x: (x * x).sum())(X)
    assert y.item() == pytest.approx((X * X).sum())
    np.testing.assert_allclose(g, 2 * X)
    (y, aux), g = gg.value_and_grad(lambda x: ((x * x).sum(), "note"), has_aux=True)(X)
    assert aux == "note"
    np.testing.assert_allclose(g, 2 * X)


def test_keyword_arguments_are_passed_on():
    assert gg.grad(lambda x, *, power: x**power)(2.0, power=3).item() == 12.0


def test_argument_that_does_not_matter_has_gradient_zero():
    _, gy = gg.grad(lambda x, y: (x * x).sum(), (0, 1))(X, A)
    np.testing.assert_array_equal(gy, np.zeros((3, 3)))
    np.testing.assert_array_equal(gg.grad(lambda x: gg.tensor(1.0))(X), np.zeros(3))
    np.testing.assert_array_equal(gg.hessian(lambda x: x.sum())(X), np.zeros((3, 3)))


def test_gradients_have_the_dtype_of_their_arguments():
    x = X.astype(np.float32)
    assert gg.grad(lambda x: (x * A).sum())(x).dtype == np.float32
    assert gg.hvp(lambda x: (x * x).sum(), x, x).dtype == np.float32
    assert gg.jacobian(lambda x: x * x)(x).dtype == np.float32


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


def test_pullback_may_be_called_again_and_differentiated():
    _, pullback = gg.vjp(lambda x: x**3, X)
    (a,) = pullback(V)
    (b,) = pullback(2 * V)
    np.testing.assert_allclose(a, 3 * X**2 * V)
    np.testing.assert_allclose(b, 2 * a.data)
    found = gg.grad(lambda v: (gg.vjp(lambda x: x**3, gg.tensor(X))[1](v)[0] * V).sum())(V)
    np.testing.assert_allclose(found, 3 * X**2 * V)


def test_jacobian_of_shapes():
    f = lambda x: gg.stack([x, x**2])
    assert gg.jacobian(f)(A).shape == (2, 3, 3, 3, 3)
    expected = differences(value(f), A)
    np.testing.assert_allclose(gg.jacobian(f)(A), expected, atol=1e-8)
    assert gg.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    assert gg.jacobian(lambda x: x.sum())(X).shape == (3,)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: gg.grad(lambda x: x * 2.0)(X), gg.InvalidBackprop),
        (lambda: gg.grad(lambda x: 3.0)(X), TypeError),
        (lambda: gg.grad(lambda x: x.sum())(np.arange(3)), TypeError),
        (lambda: gg.grad(lambda x: x.sum())(gg.arange(3)), TypeError),
        (lambda: gg.grad(lambda x: x.sum(), 1)(X), ValueError),
        (lambda: gg.grad(lambda x: x.sum(), (0, 2))(X), ValueError),
        (lambda: gg.grad(lambda x: x.sum())("x"), TypeError),
        (lambda: gg.jacobian(lambda x: 1.0)(X), TypeError),
        (lambda: gg.vjp(lambda x: 1.0, X), TypeError),
        (lambda: gg.vjp(lambda x: x * x, X)[1](np.ones(2)), ValueError),
        (lambda: gg.hvp(lambda x: x.sum(), X, np.ones(2)), ValueError),
        (lambda: gg.hvp(lambda x: x * x, X, V), gg.InvalidBackprop),
    ],
)
def test_errors(call: Callable[[], Any], error: type):
    with pytest.raises(error):
        call()


def test_arguments_are_free_after_a_derivative():
    array = X.copy()
    with pytest.raises(KeyError):
        gg.grad(lambda x: {}[x.shape])(array)
    gg.grad(smooth)(array).clear_graph()
    array[0] = 1.0


def test_derivative_of_sigmoid_keeps_its_precision_in_the_tail():
    # written with 1 - sigmoid(x) it would be 0
    found = gg.grad(gg.sigmoid)(np.array(20, np.float32))
    np.testing.assert_allclose(found.data, np.exp(-20.0) / (1 + np.exp(-20.0)) ** 2, rtol=1e-6)
