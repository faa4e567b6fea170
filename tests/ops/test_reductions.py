"""Sums, products, moments, extremes and scans at the points where their formulas are delicate."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.ops.namespace import tensor_namespace

ZEROS = ((), (1,), (0, 2), (1, 3), (0, 1, 3), (0, 1, 2, 3))


def with_zeros(places: tuple[int, ...]) -> np.ndarray:
    x = np.array([2.0, -3.0, 0.5, 7.0])
    x[list(places)] = 0
    return x


def product_without(x: np.ndarray, *left_out: int) -> float:
    """The product of the other elements: the derivative by those left out."""
    if len(set(left_out)) < len(left_out):
        return 0.0
    return float(np.prod([value for i, value in enumerate(x) if i not in left_out]))


def assert_equal(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(gg.asnumpy(found), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("zeros", ZEROS, ids=str)
def test_product_with_zeros_has_exact_derivatives(zeros: tuple[int, ...], device: str):
    host = with_zeros(zeros)
    x = gg.tensor(host, device=device)
    gg.prod(x).backward()
    n = range(host.size)
    assert_equal(x.grad, [product_without(host, i) for i in n])
    found = gg.hessian(gg.prod)(gg.tensor(host, device=device))
    assert_equal(found, [[product_without(host, i, j) for j in n] for i in n])


@pytest.mark.parametrize("axis", (0, 1, (0, 1), None))
def test_product_over_axes_with_zeros(axis: Any, device: str):
    host = np.array([[0.0, 2.0, 3.0], [4.0, 0.0, 5.0]])
    x = gg.tensor(host, device=device)
    g = np.ones(np.prod(host, axis).shape)
    gg.prod(x, axis).backward(gg.tensor(g, device=device))
    expected = {
        0: [[4, 0, 5], [0, 2, 3]],
        1: [[6, 0, 0], [0, 20, 0]],
        (0, 1): np.zeros((2, 3)),
        None: np.zeros((2, 3)),
    }[axis]
    assert_equal(x.grad, expected)


@pytest.mark.parametrize("axis", (0, 1, 2, (2, 0)))
def test_product_over_any_axes_of_three_with_zeros(axis: Any, device: str):
    host = np.arange(24.0).reshape(2, 3, 4) % 7
    expected = np.zeros(host.shape)
    for i in np.ndindex(host.shape):
        without = host.copy()
        without[i] = 1.0
        over = np.atleast_1d(axis)
        block = tuple(slice(None) if a in over else k for a, k in enumerate(i))
        expected[i] = np.prod(without[block])
    x = gg.tensor(host, device=device)
    gg.prod(x, axis).backward()
    assert_equal(x.grad, expected)


@pytest.mark.parametrize("zeros", ZEROS, ids=str)
def test_cumulative_product_with_zeros_has_exact_derivatives(zeros: tuple[int, ...], device: str):
    host = with_zeros(zeros)
    n = range(host.size)

    def element(k: int, *by: int) -> float:
        return product_without(host[: k + 1], *by) if max(by) <= k else 0.0

    x = gg.tensor(host, device=device)
    assert_equal(gg.jacobian(gg.cumprod)(x), [[element(k, i) for i in n] for k in n])
    weights = np.array([0.3, -1.0, 2.0, 0.7])

    def weighted(x: gg.Tensor) -> gg.Tensor:
        return (gg.cumprod(x) * gg.tensor(weights, constant=True, device=device)).sum()

    expected = [[sum(w * element(k, i, j) for k, w in enumerate(weights)) for j in n] for i in n]
    assert_equal(gg.hessian(weighted)(x), expected)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    "first, second",
    (
        (1e-200, 1e-200),  # the product is 0,
        (1e-150, 3e-170),  # has lost its digits
        (1e200, 1e200),  # or is infinite
    ),
)
def test_products_out_of_range_keep_their_gradients(first: float, second: float, device: str):
    for f in (gg.prod, lambda x: gg.cumprod(x)[1]):
        x = gg.tensor([first, second], device=device)
        f(x).backward()
        np.testing.assert_allclose(gg.asnumpy(x.grad), [second, first], rtol=1e-15)


def test_cumulative_product_that_underflows_keeps_its_gradient(device: str):
    y = gg.tensor([1e-200, 1e-200, 1e200], device=device)
    gg.cumprod(y)[2].backward()
    np.testing.assert_allclose(gg.asnumpy(y.grad), [1.0, 1.0, 0.0])


@pytest.mark.parametrize("n", (1, 2, 3, 4, 5, 8, 13, 64, 65))
def test_recurrence_of_every_length(n: int, device: str):
    rng = np.random.default_rng(n)
    a, b = rng.uniform(-1, 1, (2, 3, n))
    expected = np.zeros((3, n))
    for i in range(n):
        expected[:, i] = b[:, i] + (a[:, i] * expected[:, i - 1] if i else 0)
    a, b = (gg.tensor(x, device=device) for x in (a, b))
    assert_equal(tensor_namespace.linear_recurrence(a, b), expected)


# ------------------------------------------------------------------------------------------ moments


@pytest.mark.parametrize("ddof", (0, 1))
def test_std_of_a_constant_has_gradient_0(ddof: int, device: str):
    x = gg.tensor([[1.0, 1.0], [1.0, 3.0]], device=device)
    gg.std(x, axis=1, ddof=ddof).backward()
    slope = 0.5 if ddof == 0 else 0.5**0.5
    assert_equal(x.grad, [[0, 0], [-slope, slope]])
    # the mean of the second is rounded, and with it the standard deviation is not 0
    for flat in (np.full(3, 2.0), np.full(3, 0.1)):
        flat = gg.tensor(flat, device=device)
        assert_equal(gg.hessian(lambda x: gg.std(x) * x.sum())(flat), np.zeros((3, 3)))


def test_std_that_underflows_has_gradient_0(device: str):
    x = gg.tensor([0.0, 1e-200], device=device)
    y = gg.std(x)
    y.backward()
    assert_equal(y, 0.0)
    assert_equal(x.grad, [0.0, 0.0])


def test_std_of_one_number_is_0_with_gradient_0(device: str):
    x = gg.tensor(3.0, device=device)
    y = gg.std(x)
    y.backward()
    assert_equal([y.item(), x.grad.item()], [0, 0])


@pytest.mark.parametrize("name", ("sum", "mean", "prod", "cumsum", "cumprod"))
def test_result_asked_for_in_integers_is_constant(name: str):
    x = gg.tensor([1.5, 2.5])
    y = getattr(gg, name)(x, dtype=int)
    assert (y.dtype, y.constant) == (np.dtype(int), True)


@pytest.mark.parametrize("ddof", (2, 3))
@pytest.mark.parametrize("name", ("var", "std"))
def test_without_degrees_of_freedom_there_is_no_gradient(name: str, ddof: int):
    x = gg.tensor([1.0, 2.0])
    with np.errstate(divide="ignore"), pytest.warns(RuntimeWarning, match="Degrees of freedom"):
        y = getattr(gg, name)(x, ddof=ddof)
    y.backward()
    assert np.isinf(y.item())
    assert np.isnan(x.grad).all()


@pytest.mark.parametrize("name", ("mean", "var", "std"))
def test_moments_of_nothing_are_nan_with_numpys_warning(name: str):
    x = gg.tensor(np.zeros((0, 2)))
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        y = getattr(gg, name)(x, axis=0)
    assert np.isnan(y.data).all()
    y.backward()
    assert x.grad.shape == (0, 2)


def test_mean_of_more_numbers_than_half_precision_counts_has_its_gradient(device: str):
    x = gg.tensor(np.ones(2**17, np.float16), device=device)
    gg.mean(x).backward()
    assert x.grad.dtype == np.float16
    assert_equal(x.grad, np.full(2**17, 2.0**-17, np.float16))


def test_moments_of_integers_are_constant_floats():
    for name in ("mean", "var", "std"):
        y = getattr(gg, name)(gg.tensor([1, 2]))
        assert (y.dtype, y.constant) == (np.float64, True)
    y = gg.prod(gg.tensor(np.array([2, 3], np.int8)))
    assert (y.dtype, y.constant, y.item()) == (np.int64, True, 6)


@pytest.mark.parametrize("name", ("sum", "mean", "prod", "var", "std", "cumsum", "cumprod"))
def test_dtype_and_out_are_numpys(name: str, device: str):
    host = np.array([1.5, 2.5, 4.0], np.float32)
    expected = getattr(np, name)(host, dtype=np.float64)
    x = gg.tensor(host, device=device)
    y = getattr(gg, name)(x, dtype=np.float64)
    assert y.dtype == np.float64
    assert_equal(y, expected)
    y.backward()
    assert x.grad.dtype == np.float32
    out = gg.tensor(np.zeros(expected.shape, np.float32), device=device)
    assert getattr(gg, name)(x, out=out) is out
    np.testing.assert_allclose(gg.asnumpy(out), expected, rtol=1e-6)


# ----------------------------------------------------------------------------------- extremes, scan


@pytest.mark.parametrize("name, data", (("cummax", [1, 3, 3, 2]), ("cummin", [-1, -3, -3, -2])))
def test_the_first_of_equal_running_extremes_takes_the_gradient(name: str, data: list, device: str):
    x = gg.tensor([float(n) for n in data], device=device)
    y = getattr(gg, name)(x)
    y.backward()
    assert_equal(y, [data[0], data[1], data[1], data[1]])
    assert_equal(x.grad, [1, 3, 0, 0])


def test_running_maximum_stays_nan(device: str):
    x = gg.tensor([1.0, np.nan, 5.0, np.nan], device=device)
    y = gg.cummax(x)
    y.backward()
    np.testing.assert_array_equal(gg.asnumpy(y), [1, np.nan, np.nan, np.nan])
    assert_equal(x.grad, [1, 3, 0, 0])


@pytest.mark.parametrize("n", range(1, 10))
def test_running_extremes_of_every_length(n: int, device: str):
    host = np.random.default_rng(n).permutation(2 * n).reshape(2, n).astype(float)
    x = gg.tensor(host, device=device)
    assert_equal(gg.cummax(x, axis=1), np.maximum.accumulate(host, axis=1))
    assert_equal(gg.cummin(x, axis=0), np.minimum.accumulate(host, axis=0))


def test_sequences_need_two_operands():
    for f, count in product((gg.add_sequence, gg.multiply_sequence), (0, 1)):
        with pytest.raises(ValueError, match=f"got {count} operands, expected at least 2"):
            f(*[gg.tensor(1.0)] * count)


def test_product_of_a_sequence_with_zeros(device: str):
    xs = [gg.tensor(x, device=device) for x in ([0.0, 2.0], [3.0, 0.0], [0.0, 5.0])]
    gg.multiply_sequence(*xs).backward()
    for x, expected in zip(xs, ([0, 0], [0, 10], [0, 0])):
        assert_equal(x.grad, expected)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda x: gg.prod(x, axis=2), ValueError),
        (lambda x: gg.var(x, axis=(0, 0)), ValueError),
        (lambda x: gg.cumsum(x, axis=(0, 1)), TypeError),
        (lambda x: gg.cumprod(x, axis=2), ValueError),
        (lambda x: gg.cummax(x, axis=2), ValueError),
        (lambda x: gg.diff(x, n=-1), ValueError),
        (lambda x: gg.diff(x, axis=3), ValueError),
        (lambda x: gg.diff(x[0, 0]), ValueError),
        (lambda x: gg.sum(x, 0, np.float32), TypeError),
        (lambda x: gg.ptp(x[:0]), ValueError),
    ],
)
def test_wrong_arguments_raise_what_numpy_raises(call: Any, error: type):
    x = gg.tensor(np.ones((2, 3)), copy=False)
    with pytest.raises(error):
        call(x)
    assert x.data.flags.writeable


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "cumprod"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float32"])
def test_dtype_is_that_of_the_result(name, dtype):
    x = np.ones(200, np.int8)
    expected = np.asarray(getattr(np, name)(x, dtype=dtype))
    found = getattr(gg, name)(x, dtype=dtype)
    assert found.dtype == expected.dtype
    assert np.array_equal(found.data, expected)
