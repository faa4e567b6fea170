"""Values and gradients under a mask, far out, at infinity and at ties, on each array library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.op_table.checks import assert_close, on, tensors


def test_masked_log_has_finite_derivatives_of_two_orders(device: str):
    mask = on(device, np.array([True, False]))

    def f(x: gg.Tensor) -> gg.Tensor:
        return gg.log(x, where=mask).sum()

    x = gg.tensor([1.0, 0.0], device=device)
    assert_close(gg.grad(f)(x), [1.0, 0.0])
    assert_close(gg.hessian(f)(x), [[-1.0, 0.0], [0.0, 0.0]])
    assert_close(gg.hvp(f, x, on(device, np.ones(2))), [-1.0, 0.0])
    f(x).backward()
    assert_close(x.grad, [1.0, 0.0])


@pytest.mark.parametrize(
    "name, x, y, dx",
    [
        ("sigmoid", [-1000.0, 0.0, 1000.0], [0.0, 0.5, 1.0], [0.0, 0.25, 0.0]),
        ("softplus", [-1000.0, 0.0, 1000.0], [0.0, np.log(2), 1000.0], [0.0, 0.5, 1.0]),
        ("log_sigmoid", [-1000.0, 0.0, 1000.0], [-1000.0, -np.log(2), 0.0], [1.0, 0.5, 0.0]),
        ("tanh", [-1000.0, 0.0, 1000.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]),
        ("expm1", [-1000.0, 1e-20], [-1.0, 1e-20], [0.0, 1.0]),
        ("absolute", [-1.0, 0.0, 2.0], [1.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
    ],
)
def test_far_out_and_at_zero_value_and_derivative_are_the_limits(
    name: str, x: Any, y: Any, dx: Any, device: str
):
    t = gg.tensor(x, device=device)
    result = getattr(gg, name)(t)
    assert_close(result, y, 1e-15, 0)
    result.backward()
    assert_close(t.grad, dx, 1e-15, 0)


@pytest.mark.parametrize("name", ("logaddexp", "logaddexp2"))
def test_logaddexp_of_infinities_has_the_gradient_of_the_limit(name: str, device: str):
    a = gg.tensor([np.inf, -np.inf, np.inf, 1000.0, -np.inf], device=device)
    b = gg.tensor([np.inf, -np.inf, 0.0, -1000.0, 2.0], device=device)
    y = getattr(gg, name)(a, b)
    assert_close(y[2:], [np.inf, 1000.0, 2.0])
    y.backward()
    assert_close(a.grad, [0.5, 0.5, 1.0, 1.0, 0.0])
    assert_close(b.grad, [0.5, 0.5, 0.0, 0.0, 1.0])


def test_power_at_zero_has_finite_gradients(device: str):
    x = gg.tensor([0.0, 0.0, 0.0, -2.0], device=device)
    (x ** on(device, np.array([0.0, 1.0, 2.0, 3.0]))).backward()
    assert_close(x.grad, [0.0, 1.0, 0.0, 12.0])
    p = gg.tensor([0.0, 1.0, 2.0], device=device)
    (on(device, np.zeros(3)) ** p).backward()
    assert_close(p.grad, [0.0, 0.0, 0.0])
    q = gg.tensor([0.0, 0.0], device=device)
    (q**0 + q**1 + q**2 + q**3).backward()
    assert_close(q.grad, [1.0, 1.0])


@pytest.mark.parametrize("name", ("maximum", "minimum"))
def test_no_operand_takes_the_gradient_at_a_tie(name: str, device: str):
    a, b = tensors(([1.0, 2.0], [1.0, 3.0]), device)
    getattr(gg, name)(a, b).backward()
    picked = 1.0 if name == "minimum" else 0.0
    assert_close(a.grad, [0.0, picked])
    assert_close(b.grad, [0.0, 1.0 - picked])


@pytest.mark.parametrize("name", ("max", "min"))
def test_the_first_of_equal_extremes_takes_the_gradient(name: str, device: str):
    x = gg.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], device=device)
    getattr(gg, name)(x, axis=0).backward()
    assert_close(x.grad, [[1.0] * 3, [0.0] * 3])
    getattr(gg, name)(x).backward()
    assert_close(x.grad, [[1.0, 0.0, 0.0], [0.0] * 3])


def test_infinite_cotangent_reaches_what_was_chosen_alone(device: str):
    for f, expected in (
        (gg.max, [0.0, np.inf]),
        (gg.min, [np.inf, 0.0]),
        (lambda x: gg.where(x < 1.5, x, 0.0).sum(), [np.inf, 0.0]),
        (lambda x: gg.where(x < 1.5, 0.0, x).sum(), [0.0, np.inf]),
    ):
        x = gg.tensor([1.0, 2.0], device=device)
        f(x).backward(np.inf)
        np.testing.assert_array_equal(gg.asnumpy(x.grad), expected)


def test_mean_of_float16_does_not_overflow(device: str):
    x = gg.tensor(np.full(100, 6e4), dtype=np.float16, device=device)
    assert_close(gg.mean(x), np.float16(6e4))
