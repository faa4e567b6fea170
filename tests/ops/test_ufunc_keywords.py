"""What holds of ``out=``, ``where=``, ``dtype=``, ``constant=`` and scalars, for every ufunc."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.ops.namespace import tensor_namespace
from tests.op_table import ELEMENTWISE, REFERENCE, Elementwise, Row, draw, numerical_vjp
from tests.op_table.checks import assert_close, assert_second_order, cotangent_of, on, tensors

FLOATS = (np.float16, np.float32, np.float64)
each_function = pytest.mark.parametrize("f", ELEMENTWISE, ids=lambda f: f.name)


def two(f: Elementwise, seed: int = 3) -> list[np.ndarray]:
    """Operands of shapes that broadcast to (2, 3)."""
    rng = np.random.default_rng(seed)
    return [draw(rng, shape, domain) for shape, domain in zip(((2, 3), (3,)), f.domains)]


def numpy_row(f: Elementwise) -> Row:
    return f.row(*((2, 3), (3,))[: len(f.domains)])


@each_function
def test_out_array_is_written_and_shown(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    out = on(device, np.full((2, 3), np.nan))
    y = f.call(gg, *xs, out=out)
    assert y.data is out
    assert_close(out, f.call(REFERENCE, *host))
    g = cotangent_of(out)
    y.backward(on(device, g))
    for x, dx in zip(xs, numerical_vjp(numpy_row(f), host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
def test_out_tensor_carries_the_gradient_to_the_operands(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    source = gg.tensor(np.ones((2, 3)), device=device)
    out = +source
    assert f.call(gg, *xs, out=out) is out
    assert_close(out, f.call(REFERENCE, *host))
    g = cotangent_of(out)
    (source.sum() * 0 + (out * on(device, g)).sum()).backward()
    assert_close(source.grad, np.zeros((2, 3)))  # what was overwritten
    for x, dx in zip(xs, numerical_vjp(numpy_row(f), host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


MASK = np.array([[True, False, True], [False, True, False]])


def selected(f: Elementwise, host: list[np.ndarray], g: np.ndarray) -> list[np.ndarray]:
    return numerical_vjp(numpy_row(f), host, g * MASK)


@each_function
def test_mask_does_not_change_the_dtype(f: Elementwise, device: str):
    xs = [gg.tensor(x, dtype=np.float32, device=device) for x in two(f)]
    y = f.call(gg, *xs, where=on(device, MASK))
    assert y.dtype == f.call(gg, *xs).dtype


@each_function
def test_without_out_masked_elements_are_zero(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    y = f.call(gg, *xs, where=on(device, MASK))
    assert_close(y, np.where(MASK, f.call(REFERENCE, *host), 0))
    g = cotangent_of(y)
    y.backward(on(device, g))
    for x, dx in zip(xs, selected(f, host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
@pytest.mark.parametrize("shape", ((2, 3), (3,), (0, 3), ()))
def test_gradient_of_the_gradient_under_a_mask(f: Elementwise, shape: Any, device: str):
    rng = np.random.default_rng(11)
    host = [draw(rng, shape, domain) for domain in f.domains]
    mask = np.resize(MASK, shape)
    g = on(device, cotangent_of(mask))

    def curved(*xs: gg.Tensor) -> gg.Tensor:
        y = f.call(tensor_namespace, *xs, where=on(device, mask))
        return gg.sum(y * g + 0.5 * y * y)

    assert_second_order(curved, host, device)


@each_function
def test_mask_that_broadcasts_the_result(f: Elementwise, device: str):
    host = [x[0, 0] if x.ndim == 2 else x[0] for x in two(f)]
    xs = tensors(host, device)
    y = f.call(gg, *xs, where=on(device, MASK))
    assert_close(y, np.where(MASK, f.call(REFERENCE, *host), 0))
    y.backward()
    scalar = f.row(*((),) * len(host))
    for x, dx in zip(xs, numerical_vjp(scalar, host, MASK.sum())):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
def test_masked_write_keeps_the_rest_of_out_and_its_gradient(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    source = gg.tensor(np.full((2, 3), 5.0), device=device)
    out = +source
    f.call(gg, *xs, out=out, where=on(device, MASK))
    assert_close(out, np.where(MASK, f.call(REFERENCE, *host), 5.0))
    g = cotangent_of(out)
    out.backward(on(device, g))
    assert_close(source.grad, np.where(MASK, 0, g))
    for x, dx in zip(xs, selected(f, host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
@pytest.mark.parametrize("poison", (np.nan, np.inf, -np.inf, 0.0, -1.0))
def test_masked_elements_leave_no_trace_in_derivatives(f: Elementwise, poison: float, device: str):
    rng = np.random.default_rng(5)
    clean = [draw(rng, (2, 3), domain) for domain in f.domains]
    poisoned = [np.where(MASK, x, poison) for x in clean]
    mask = on(device, MASK)

    def loss(*xs: gg.Tensor) -> gg.Tensor:
        y = f.call(tensor_namespace, *xs, where=mask)
        return (y * y * y).sum()

    def total_gradient(*xs: gg.Tensor) -> gg.Tensor:
        return sum((g * g).sum() for g in gg.grad(loss, range(len(xs)))(*xs))

    for function in (loss, total_gradient):
        found = gg.grad(function, range(len(clean)))(*tensors(poisoned, device))
        expected = gg.grad(function, range(len(clean)))(*tensors(clean, device))
        for a, b in zip(found, expected):
            assert_close(a, gg.asnumpy(b))
    xs = tensors(poisoned, device)
    loss(*xs).backward()
    for x, b in zip(xs, gg.grad(loss, range(len(clean)))(*tensors(clean, device))):
        assert_close(x.grad, gg.asnumpy(b))


@each_function
def test_dtype_says_in_which_precision_to_compute(f: Elementwise, device: str):
    host = [x.astype(np.float32) for x in two(f)]
    xs = tensors(host, device)
    y = f.call(gg, *xs, dtype=np.float64)
    assert y.dtype == np.float64
    assert_close(y, f.call(REFERENCE, *(x.astype(np.float64) for x in host)), 1e-14, 1e-14)
    y.backward()
    assert all(x.grad.dtype == np.float32 for x in xs)


@each_function
def test_constant_overrules_the_operands(f: Elementwise):
    xs = tensors(two(f), "cpu")
    y = f.call(gg, *xs, constant=True)
    assert y.constant
    (y.sum() + xs[0].sum()).backward()
    assert_close(xs[0].grad, np.ones((2, 3)))


BINARY = tuple(f for f in ELEMENTWISE if len(f.domains) == 2)
OTHERS = (2, 2.0, np.float32(2), np.float64(2), np.array(2.0), np.array(2.0, np.float32))


@pytest.mark.parametrize("f", BINARY, ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_scalars_promote_as_in_numpy(f: Elementwise, dtype: Any, device: str):
    x = draw(np.random.default_rng(0), (3,), f.domains[0]).astype(dtype)
    function = getattr(np, f.name, None) or getattr(REFERENCE, f.name)
    t = gg.tensor(x, device=device)
    for other in OTHERS:
        if device != "cpu" and isinstance(other, np.ndarray):
            other = other[()]  # the library takes host arrays of no dimension as scalars
        for pair, expected in (((t, other), function(x, other)), ((other, t), function(other, x))):
            y = f.call(gg, *pair)
            assert y.dtype == expected.dtype, other
            assert_close(y, expected, 4 * np.finfo(dtype).eps, 4 * np.finfo(dtype).eps)
            y.backward()
            assert t.grad.dtype == dtype, other


@pytest.mark.parametrize("f", BINARY, ids=lambda f: f.name)
def test_integers_promote_as_in_numpy_and_are_constant(f: Elementwise, device: str):
    x = np.array([1, 2, 3], np.int32)
    y = f.call(gg, gg.tensor(x, device=device), gg.tensor(x[::-1], device=device))
    expected = (getattr(np, f.name, None) or getattr(REFERENCE, f.name))(x, x[::-1])
    assert y.constant
    assert y.dtype == expected.dtype
    assert_close(y, expected)
    mixed = gg.tensor([0.5, 1.5, 2.5], dtype=np.float32, device=device)
    z = f.call(gg, mixed, gg.tensor(x, device=device))
    assert not z.constant
    assert z.dtype == np.float64
    z.backward()
    assert mixed.grad.dtype == np.float32


def test_mask_may_be_a_list_a_tensor_or_one_bool():
    x = gg.tensor([1.0, 2.0])
    for mask in ([True, False], gg.tensor([True, False]), np.array([True, False])):
        assert_close(gg.square(x, where=mask), [1.0, 0.0])
    assert_close(gg.square(x, where=False), [0.0, 0.0])
    with pytest.raises(TypeError, match="where has dtype int64, expected bool"):
        gg.square(x, where=[1, 0])
