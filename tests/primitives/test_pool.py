"""Pooling's bodies and its launchers for the host, against NumPy on copies of the windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gpugrad.backend.twin import use_kernels
from gpugrad.primitives.pool import (
    gather,
    max_pool,
    max_pool_indices,
    max_pool_values,
    mean_pool,
    mean_pool_grad,
    output_lengths,
    scatter,
)

Lengths = tuple[int, ...]

# shape, window, stride
CASES: dict[str, tuple[Lengths, Lengths, Lengths]] = {
    "one of everything": ((1,), (1,), (1,)),
    "no lines": ((0, 4, 4), (2, 2), (2, 2)),
    "no leading axes": ((6, 4), (2, 2), (2, 2)),
    "1-wide images": ((2, 3, 6, 1), (2, 1), (2, 1)),
    "window as large as the image": ((2, 3, 4), (3, 4), (1, 1)),
    "overlapping": ((2, 3, 7, 8), (3, 2), (1, 1)),
    "stride over the window": ((2, 9), (2,), (4,)),
    "stride leaves a rest": ((3, 10, 9), (3, 2), (4, 3)),
    "one of two axes": ((3, 5, 8), (4,), (2,)),
    "3-d": ((2, 4, 5, 6), (2, 3, 2), (1, 2, 2)),
    "more elements than a byte counts": ((2, 20, 34), (17, 16), (3, 6)),
}
each_case = pytest.mark.parametrize("shape, window, stride", CASES.values(), ids=CASES)


@pytest.fixture(params=["launchers", "bodies"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """How the primitives are computed."""
    if request.param == "bodies":
        with use_kernels(False):
            yield request.param
    else:
        yield request.param


def windows_of(x: np.ndarray, window: Lengths, stride: Lengths) -> np.ndarray:
    """A copy of every window, its elements along the last axis: (..., *O, elements)."""
    n = len(window)
    every = np.lib.stride_tricks.sliding_window_view(x, window, tuple(range(-n, 0)))
    chosen = every[(..., *(slice(None, None, s) for s in stride), *(slice(None),) * n)]
    return chosen.reshape((*chosen.shape[: x.ndim], math.prod(window)))


def argmax_of(x: np.ndarray, window: Lengths, stride: Lengths) -> np.ndarray:
    """The flat index, into the last axes of `x`, of what numpy.argmax takes of each window."""
    n = len(window)
    places = np.arange(math.prod(x.shape[-n:])).reshape(x.shape[-n:])
    places = np.broadcast_to(places, x.shape)
    first = windows_of(x, window, stride).argmax(-1)[..., None]
    return np.take_along_axis(windows_of(places, window, stride), first, -1)[..., 0]


def few_values(shape: Lengths, special: bool, seed: int = 0) -> np.ndarray:
    """Numbers with many ties; if `special`, infinities and nans among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, shape).astype(np.float64)
    if special:
        x[rng.random(shape) < 0.1] = -np.inf
        x[rng.random(shape) < 0.1] = np.inf
        x[rng.random(shape) < 0.1] = np.nan
    return x


@each_case
@pytest.mark.parametrize("special", (False, True))
def test_max_pool_takes_what_argmax_takes(
    shape: Lengths, window: Lengths, stride: Lengths, special: bool, as_device: Any, host: Any
):
    x = few_values(shape, special)
    y, indices = max_pool(as_device(x), window=window, stride=stride)
    np.testing.assert_array_equal(host(y), windows_of(x, window, stride).max(-1))
    np.testing.assert_array_equal(host(indices), argmax_of(x, window, stride))
    assert indices.dtype == np.int64


@each_case
def test_values_and_indices_alone_are_the_same(
    shape: Lengths, window: Lengths, stride: Lengths, as_device: Any, host: Any
):
    x, layout = as_device(few_values(shape, True)), {"window": window, "stride": stride}
    y, indices = max_pool(x, **layout)
    np.testing.assert_array_equal(host(max_pool_values(x, **layout)), host(y))
    np.testing.assert_array_equal(host(max_pool_indices(x, y, **layout)), host(indices))


def test_all_nan_and_all_equal_windows_take_the_first(as_device: Any, host: Any):
    for value in (np.nan, -np.inf, 0.0):
        x = as_device(np.full((2, 4), value))
        _, indices = max_pool(x, window=(2,), stride=(2,))
        assert host(indices).tolist() == [[0, 2], [0, 2]]


@pytest.mark.parametrize("dtype", (np.float16, np.float32, np.int32, np.uint8))
def test_max_pool_of_other_dtypes(dtype: Any, as_device: Any, host: Any):
    x = np.random.default_rng(0).integers(0, 9, (2, 6, 6)).astype(dtype)
    y, indices = max_pool(as_device(x), window=(3, 2), stride=(3, 2))
    assert y.dtype == dtype
    np.testing.assert_array_equal(host(y), windows_of(x, (3, 2), (3, 2)).max(-1))
    np.testing.assert_array_equal(host(indices), argmax_of(x, (3, 2), (3, 2)))


@each_case
def test_gather_reads_the_maxima_back(
    shape: Lengths, window: Lengths, stride: Lengths, as_device: Any, host: Any
):
    x = as_device(few_values(shape, True))
    y, indices = max_pool(x, window=window, stride=stride)
    np.testing.assert_array_equal(host(gather(x, indices, n=len(window))), host(y))


@each_case
@pytest.mark.parametrize("promise", (False, True))
def test_scatter_is_the_adjoint_of_gather(
    shape: Lengths, window: Lengths, stride: Lengths, promise: bool, as_device: Any, host: Any
):
    n = len(window)
    x = np.random.default_rng(1).integers(-9, 9, shape).astype(np.float64)
    _, indices = max_pool(as_device(x), window=window, stride=stride)
    g = np.random.default_rng(2).integers(-9, 9, indices.shape).astype(np.float64)
    places = {"window": window, "stride": stride} if promise else {}
    adjoint = host(scatter(as_device(g), indices, shape=shape[-n:], **places))
    assert adjoint.shape == shape
    assert np.sum(adjoint * x) == np.sum(g * host(gather(as_device(x), indices, n=n)))
    assert np.count_nonzero(adjoint) <= np.unique(host(indices)).size * math.prod(shape[:-n])


def test_scatter_adds_up_in_the_order_of_g(as_device: Any, host: Any):
    """1 + 2^53 - 2^53 depends on the order: 0 from the left, 1 from the right."""
    for g, expected in (([1.0, 2.0**53, -(2.0**53)], 0.0), ([-(2.0**53), 2.0**53, 1.0], 1.0)):
        indices = as_device([2, 2, 2], np.int64)
        assert host(scatter(as_device(g), indices, shape=(4,))).tolist() == [0, 0, expected, 0]


def test_scatter_of_float16_is_rounded_once(as_device: Any, host: Any):
    g = as_device(np.ones(5001), np.float16)  # beyond 2048, float16 has even numbers only
    y = scatter(g, as_device(np.zeros(5001), np.int64), shape=(2,))
    assert y.dtype == np.float16
    assert host(y).tolist() == [np.float16(5001), 0]


@each_case
def test_mean_pool_is_the_mean_of_the_windows(
    shape: Lengths, window: Lengths, stride: Lengths, as_device: Any, host: Any
):
    x = np.random.default_rng(3).normal(size=shape)
    y = host(mean_pool(as_device(x), window=window, stride=stride))
    np.testing.assert_allclose(y, windows_of(x, window, stride).mean(-1), rtol=0, atol=1e-14)


@each_case
def test_mean_pool_grad_is_its_adjoint(
    shape: Lengths, window: Lengths, stride: Lengths, as_device: Any, host: Any
):
    n, elements = len(window), math.prod(window)
    rng = np.random.default_rng(4)
    x = rng.integers(-9, 9, shape).astype(np.float64)
    out = (*shape[:-n], *output_lengths(shape[-n:], window, stride))
    g = elements * rng.integers(-9, 9, out).astype(np.float64)  # so that all quotients are exact
    layout = {"window": window, "stride": stride}
    adjoint = host(mean_pool_grad(as_device(g), shape=shape[-n:], **layout))
    assert adjoint.shape == shape
    assert np.sum(adjoint * x) == np.sum(g / elements * windows_of(x, window, stride).sum(-1))


def test_means_of_float16_and_integers(as_device: Any, host: Any):
    layout = {"window": (16,), "stride": (16,)}
    y = mean_pool(as_device(np.full(16, 6e4), np.float16), **layout)
    assert y.dtype == np.float16
    assert host(y).tolist() == [np.float16(6e4)]
    y = mean_pool(as_device(np.arange(16), np.int32), **layout)
    assert y.dtype == np.float64
    assert host(y).tolist() == [7.5]
    g = mean_pool_grad(as_device([1.0], np.float16), shape=(16,), **layout)
    assert g.dtype == np.float16
    assert host(g).tolist() == [1 / 16] * 16


@each_case
def test_memory_may_be_laid_out_anyhow(
    shape: Lengths, window: Lengths, stride: Lengths, as_device: Any, host: Any
):
    n, layout = len(window), {"window": window, "stride": stride}
    x = few_values(shape, True)
    strided = as_device(np.repeat(x, 2, -1))[..., ::2]
    transposed = as_device(x.T.copy()).T
    y, indices = (host(a) for a in max_pool(as_device(x), **layout))
    summed = host(scatter(as_device(y), as_device(indices), shape=shape[-n:]))
    for laid in (strided, transposed):
        found = max_pool(laid, **layout)
        np.testing.assert_array_equal(host(found[0]), y)
        np.testing.assert_array_equal(host(found[1]), indices)
        np.testing.assert_array_equal(host(gather(laid, as_device(indices), n=n)), y)
        with np.errstate(invalid="ignore"):  # infinities of both signs
            mean = host(mean_pool(as_device(x), **layout))
            np.testing.assert_array_equal(host(mean_pool(laid, **layout)), mean)
    turned = as_device(y.T.copy()).T, as_device(indices.T.copy()).T
    np.testing.assert_array_equal(host(scatter(*turned, shape=shape[-n:])), summed)


def test_torch_chooses_alike():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = few_values((2, 3, 9, 10), False)
    y, indices = max_pool(x, window=(3, 4), stride=(2, 3))
    function = torch.nn.functional.max_pool2d
    ty, places = function(torch.tensor(x), (3, 4), (2, 3), return_indices=True)
    np.testing.assert_array_equal(y, ty.numpy())
    np.testing.assert_array_equal(indices, places.numpy())
    mean = torch.nn.functional.avg_pool2d(torch.tensor(x), (3, 4), (2, 3)).numpy()
    np.testing.assert_allclose(mean_pool(x, window=(3, 4), stride=(2, 3)), mean, atol=1e-15)


def test_largest_of_a_window_of_256_elements_is_found_at_its_ends():
    x = np.zeros((2, 16, 16), np.float32)
    x[0, 0, 0] = x[1, 15, 15] = 1
    y, indices = max_pool(x, window=(16, 16), stride=(1, 1))
    assert y.ravel().tolist() == [1, 1]
    assert indices.ravel().tolist() == [0, 255]


def test_half_types_of_overlapping_means_are_added_up_in_single_precision():
    g = np.linspace(0.1, 1.0, 40).astype(np.float16)
    found = mean_pool_grad(g, shape=(48,), window=(9,), stride=(1,))
    sums = np.convolve(g.astype(np.float64) / 9, np.ones(9))
    np.testing.assert_array_equal(found, sums.astype(np.float16))
