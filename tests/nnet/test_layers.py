"""Convolution and pooling as layers: values, gradients and errors are mygrad's, and beyond it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import LayerParameterError
from gpugrad.nnet import layers
from gpugrad.nnet.layers import conv_nd, conv_transpose_nd, max_pool, mean_pool
from gpugrad.nnet.layers.conv import conv_nd as conv_by_path
from gpugrad.nnet.layers.pooling import max_pool as max_pool_by_path
from gpugrad.testing import check_grads

mg = pytest.importorskip("mygrad", reason="mygrad is not installed")
mg_layers = pytest.importorskip("mygrad.nnet.layers", reason="mygrad is not installed")


def normal(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# ----------------------------------------------------------------------------- the same as mygrad's

# x, filter_bank, options
CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 3, 7), (4, 3, 3), {"stride": 1}),
    ((2, 3, 7), (4, 3, 3), {"stride": 2}),
    ((0, 3, 7), (4, 3, 3), {"stride": 2}),
    ((2, 1, 1), (1, 1, 1), {"stride": 1}),
    ((2, 3, 6, 5), (4, 3, 2, 3), {"stride": (2, 1)}),
    ((2, 3, 6, 5), (4, 3, 2, 3), {"stride": np.array([2, 1])}),
    ((2, 3, 6, 5), (4, 3, 2, 3), {"stride": [2, 1], "padding": (0, 2)}),
    ((1, 17, 5, 5), (2, 17, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 2, 9, 9), (2, 2, 3, 3), {"stride": 2, "padding": 1, "dilation": (2, 3)}),
    ((1, 1, 2, 2), (1, 1, 1, 2), {"stride": 1, "padding": 3}),
    ((1, 1, 11), (1, 1, 2), {"stride": 3}),
    ((2, 2, 4, 3, 4), (3, 2, 2, 1, 3), {"stride": (2, 1, 1), "padding": (0, 1, 0)}),
)


@pytest.mark.parametrize("x, w, options", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_conv_nd_and_its_gradients_are_mygrads(
    x: Any, w: Any, options: dict[str, Any], dtype: Any, device: str
):
    arrays = normal(*x, dtype=dtype), normal(*w, seed=1, dtype=dtype)
    theirs = [mg.tensor(a) for a in arrays]
    expected = mg_layers.conv_nd(*theirs, **options)
    ours = [gg.tensor(a, device=device) for a in arrays]
    y = conv_nd(*ours, **options)
    tolerance = 200 * np.finfo(dtype).eps
    assert y.dtype == dtype
    np.testing.assert_allclose(gg.asnumpy(y), expected.data, rtol=0, atol=tolerance)
    g = normal(*y.shape, seed=2, dtype=dtype)
    expected.backward(g)
    y.backward(gg.tensor(g, device=device))
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad.dtype == dtype
        np.testing.assert_allclose(gg.asnumpy(a.grad), b.grad, rtol=0, atol=tolerance)


POOLS: tuple[tuple[tuple[int, ...], Any, Any], ...] = (
    ((6,), (2,), 2),
    ((3, 6), (3,), 1),
    ((3, 6), [2], (4,)),
    ((2, 3, 4, 6), (2, 2), 2),
    ((2, 3, 4, 6), np.array([2, 4]), (1, 2)),
    ((2, 3, 4, 5), (3, 2, 3), [1, 2, 1]),
    ((2, 3, 4, 4), (1, 4), 3),
)


@pytest.mark.parametrize("x, pool, stride", POOLS)
@pytest.mark.parametrize("ties", (False, True))
def test_max_pool_and_its_gradient_are_mygrads(
    x: Any, pool: Any, stride: Any, ties: bool, device: str
):
    a = np.random.default_rng(0).integers(0, 3, x).astype(float) if ties else normal(*x)
    theirs, ours = mg.tensor(a), gg.tensor(a, device=device)
    expected, y = mg_layers.max_pool(theirs, pool, stride), max_pool(ours, pool, stride)
    np.testing.assert_array_equal(gg.asnumpy(y), expected.data)
    g = np.random.default_rng(1).integers(-9, 9, y.shape).astype(float)
    expected.backward(g)
    y.backward(gg.tensor(g, device=device))
    np.testing.assert_array_equal(gg.asnumpy(ours.grad), theirs.grad)


@pytest.mark.parametrize("name", ("conv_nd", "max_pool"))
def test_parameters_are_mygrads_and_ours_follow_by_keyword(name: str):
    theirs = inspect.signature(getattr(mg_layers, name)).parameters.values()
    ours = list(inspect.signature(getattr(layers, name)).parameters.values())
    for a, b in zip(theirs, ours):
        assert (a.name, a.kind, a.default) == (b.name, b.kind, b.default)
    for extra in ours[len(theirs) :]:
        assert extra.kind is extra.KEYWORD_ONLY
        assert extra.default is not extra.empty


def test_functions_are_where_mygrad_has_them():
    assert conv_by_path is conv_nd
    assert max_pool_by_path is max_pool
    assert layers.utils.sliding_window_view is gg.sliding_window_view


X, W = (2, 4, 8, 8), (5, 4, 3, 3)


def _conv(x: Any = X, w: Any = W, **options: Any) -> Callable[[Any, Any], Any]:
    return lambda m, nn: nn.conv_nd(
        m.tensor(np.ones(x)), m.tensor(np.ones(w)), **{"stride": 1, **options}
    )


def _pool(pool: Any, stride: Any, x: Any = X) -> Callable[[Any, Any], Any]:
    return lambda m, nn: nn.max_pool(m.tensor(np.ones(x)), pool, stride)


# name: the call, its error's class in both libraries, our message
FAULTS: dict[str, tuple[Callable[[Any, Any], Any], type[Exception], str]] = {
    "channels": (
        _conv(w=(5, 3, 3, 3)),
        ValueError,
        r"conv_nd: filter_bank has 3 channels, x has 4 \(x \(2, 4, 8, 8\), "
        r"filter_bank \(5, 3, 3, 3\)\)",
    ),
    "two axes": (_conv((2, 4), (5, 4)), ValueError, "conv_nd: x has 2 axes, expected three"),
    "other axes": (_conv(w=(5, 4, 3)), ValueError, "conv_nd: filter_bank has 3 axes, expected as"),
    "a rest": (
        _conv(stride=2),
        ValueError,
        r"conv_nd: windows of 3 elements placed every 2 do not end where axis 0 of 8 elements does",
    ),
    "a filter too large": (
        _conv(w=(5, 4, 9, 3)),
        ValueError,
        "conv_nd: a window spans 9 elements of axis 0, which has 8",
    ),
    "a dilation too large": (
        _conv(dilation=(1, 4)),
        ValueError,
        "conv_nd: a window spans 9 elements of axis 1, which has 8",
    ),
    "negative stride": (
        _conv(stride=-1),
        AssertionError,
        "conv_nd: stride is -1, expected a positive integer or 2 of them",
    ),
    "no stride": (_conv(stride=(1, 0)), AssertionError, r"conv_nd: stride is \(1, 0\)"),
    "three strides": (_conv(stride=(1, 1, 1)), AssertionError, r"stride is \(1, 1, 1\)"),
    "negative padding": (
        _conv(padding=(0, -1)),
        AssertionError,
        r"conv_nd: padding is \(0, -1\), expected an integer of at least 0 or 2 of them",
    ),
    "one of two paddings": (_conv(padding=(1,)), AssertionError, r"conv_nd: padding is \(1,\)"),
    "no dilation": (_conv(dilation=0), AssertionError, "conv_nd: dilation is 0, expected"),
    "fractional stride": (_conv(stride=1.5), TypeError, "conv_nd: stride is 1.5, expected"),
    "pool of a number": (
        _pool(2, 2),
        AssertionError,
        "max_pool: pool is 2, expected a tuple of positive integers",
    ),
    "negative pool": (_pool((2, -2), 2), AssertionError, r"max_pool: pool is \(2, -2\)"),
    "no pool": (_pool((2, 0), 2), AssertionError, r"max_pool: pool is \(2, 0\)"),
    "too many pools": (
        _pool((1, 1, 1), 1, x=(4, 4)),
        AssertionError,
        r"max_pool: pool \(1, 1, 1\) has 3 lengths, x of shape \(4, 4\) has 2 axes",
    ),
    "pool does not fit": (
        _pool((9,), 1),
        ValueError,
        "max_pool: a window spans 9 elements of axis 0, which has 8",
    ),
    "pools leave a rest": (_pool((3, 2), 2), ValueError, "max_pool: windows of 3 elements placed"),
    "negative pool stride": (_pool((2, 2), -2), AssertionError, "max_pool: stride is -2, expected"),
    "too many pool strides": (_pool((2,), (2, 2)), AssertionError, r"max_pool: stride is \(2, 2\)"),
}


@pytest.mark.parametrize("call, error, words", FAULTS.values(), ids=FAULTS)
def test_wrong_arguments_raise_mygrads_class_and_say_what_is_wrong(
    call: Any, error: type[Exception], words: str
):
    with pytest.raises(error):
        call(mg, mg_layers)
    with pytest.raises(error, match=words):
        call(gg, layers)


# ------------------------------------------------------------------------------- beyond mygrad


def test_groups_are_convolutions_side_by_side(device: str):
    x = gg.tensor(normal(2, 6, 5, 5), device=device)
    w = gg.tensor(normal(4, 3, 2, 2, seed=1), device=device)
    y = conv_nd(x, w, stride=1, groups=2)
    parts = [conv_nd(x[:, i : i + 3], w[j : j + 2], stride=1) for i, j in ((0, 0), (3, 2))]
    expected = gg.concatenate(parts, axis=1)
    np.testing.assert_allclose(gg.asnumpy(y), gg.asnumpy(expected), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "x, w, options",
    [
        ((2, 3, 4), (3, 2, 3), {"stride": 1}),
        ((2, 3, 4), (3, 2, 3), {"stride": 3, "output_padding": 2, "padding": 1}),
        ((2, 4, 3, 4), (4, 2, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
        ((1, 4, 3, 3), (4, 3, 2, 2), {"stride": 2, "groups": 2, "output_padding": (1, 0)}),
        ((1, 2, 2, 3, 2), (2, 1, 2, 1, 2), {"stride": 2}),
    ],
)
def test_conv_transpose_nd_is_torchs(x: Any, w: Any, options: dict[str, Any]):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    arrays = normal(*x), normal(*w, seed=1)
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    function = getattr(torch.nn.functional, f"conv_transpose{len(x) - 2}d")
    expected = function(*theirs, **options)
    ours = [gg.tensor(a) for a in arrays]
    y = conv_transpose_nd(*ours, **options)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=0, atol=1e-13)
    g = normal(*y.shape, seed=2)
    y.backward(g)
    expected.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=0, atol=1e-12)


def test_conv_transpose_nd_is_the_transpose_of_conv_nd(device: str):
    layout: dict[str, Any] = {"stride": 2, "padding": 1, "dilation": 2}
    small, large = normal(2, 4, 4, 5), normal(2, 3, 9, 11)
    w = gg.tensor(normal(4, 3, 3, 3, seed=1), device=device)
    back = conv_transpose_nd(gg.tensor(small, device=device), w, **layout)
    there = conv_nd(gg.tensor(large, device=device), w, **layout)
    left = np.sum(gg.asnumpy(there) * small)
    np.testing.assert_allclose(left, np.sum(gg.asnumpy(back) * large), rtol=1e-12)


def test_mean_pool_of_known_windows(device: str):
    x = gg.tensor([[1.0, 3.0, 8.0], [5.0, 7.0, 0.0]], device=device)
    y = mean_pool(x, (2, 2), 1)
    assert gg.asnumpy(y).tolist() == [[4.0, 4.5]]
    y.backward(gg.tensor([[4.0, 8.0]], device=device))
    assert gg.asnumpy(x.grad).tolist() == [[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]]


@pytest.mark.parametrize("pool", (max_pool, mean_pool))
@pytest.mark.parametrize("axis", ((0,), (-1,), (1, 0), (0, 2), (2, 0, 1)))
def test_windows_may_slide_over_any_axes(pool: Any, axis: tuple[int, ...], device: str):
    a = normal(4, 6, 8)
    window = (2, 3, 1)[: len(axis)]
    order = [i for i in range(3) if i not in [k % 3 for k in axis]] + [k % 3 for k in axis]
    x, turned = gg.tensor(a, device=device), gg.tensor(a.transpose(order), device=device)
    y, expected = pool(x, window, 1, axis=axis), pool(turned, window, 1)
    np.testing.assert_array_equal(gg.asnumpy(y).transpose(order), gg.asnumpy(expected))
    y.sum().backward()
    expected.sum().backward()
    np.testing.assert_array_equal(gg.asnumpy(x.grad).transpose(order), gg.asnumpy(turned.grad))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (
            lambda x, w: conv_nd(x, w[:4, :3], stride=1, groups=2),
            ValueError,
            r"conv_nd: filter_bank has 3 channels in each of 2 groups, x has 4",
        ),
        (
            lambda x, w: conv_nd(x, w, stride=1, groups=3),
            LayerParameterError,
            "conv_nd: groups is 3, which does not divide the 5 filters",
        ),
        (lambda x, w: conv_nd(x, w, stride=1, groups=0), LayerParameterError, "groups is 0"),
        (lambda x, w: conv_nd(x, w[..., :0], stride=1), ValueError, "have no elements"),
        (
            lambda x, w: conv_transpose_nd(x, w, stride=1),
            ValueError,
            "conv_transpose_nd: filter_bank has 5 filters, x has 4 channels",
        ),
        (
            lambda x, w: conv_transpose_nd(x, w[:4], stride=2, output_padding=2),
            ValueError,
            r"conv_transpose_nd: output_padding is 2, expected less than the stride \(2, 2\)",
        ),
        (
            lambda x, w: conv_transpose_nd(x, w[:4], stride=1, padding=5),
            ValueError,
            r"conv_transpose_nd: padding \(5, 5\) leaves a result of shape \(0, 0\)",
        ),
        (
            lambda x, w: mean_pool(x, (2, 2), 2, axis=(1,)),
            LayerParameterError,
            r"mean_pool: axis is \(1,\), expected 2 axes",
        ),
        (lambda x, w: mean_pool(x, (2,), 2, axis=(4,)), ValueError, "out of bounds"),
        (lambda x, w: max_pool(x, (2,), 2.0), TypeError, "max_pool: stride is 2.0, expected"),
        (lambda x, w: conv_nd(x, w.data * 1j, stride=1), TypeError, "conv_nd: .*complex"),
    ],
)
def test_our_own_arguments_are_checked(call: Any, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        call(gg.tensor(np.ones(X)), gg.tensor(np.ones(W)))


@pytest.mark.parametrize("function", (conv_nd, conv_transpose_nd))
def test_host_and_device_do_not_mix(function: Any, cupy_standin: Any):
    x, w = gg.tensor(np.ones((1, 2, 3)), device="cuda"), np.ones((2, 2, 2))
    for filters in (w, gg.tensor(w)):
        with pytest.raises(gg.DeviceMismatchError, match=f"{function.__name__}: "):
            function(x, filters, stride=1)


@pytest.mark.parametrize(
    "dtypes", ((np.float32, np.float64), (np.float16, np.float32), (int, float))
)
def test_mixed_dtypes_are_promoted_and_gradients_keep_their_own(dtypes: Any, device: str):
    x = gg.tensor(np.ones((1, 1, 4)), dtype=dtypes[0], device=device)
    w = gg.tensor(np.ones((1, 1, 2)), dtype=dtypes[1], device=device)
    y = conv_nd(x, w, stride=1)
    assert y.dtype == np.result_type(*dtypes)
    y.sum().backward()
    assert gg.asnumpy(w.grad).tolist() == [[[3.0, 3.0]]]
    assert w.grad.dtype == w.dtype
    if x.dtype.kind == "f":
        assert gg.asnumpy(x.grad).tolist() == [[[1.0, 2.0, 2.0, 1.0]]]
        assert x.grad.dtype == x.dtype


def test_no_images_give_no_images_and_no_gradients(device: str):
    x = gg.tensor(np.ones((0, 2, 4)), device=device)
    w = gg.tensor(np.ones((3, 2, 2)), device=device)
    y = max_pool(conv_nd(x, w, stride=2), (2,), 1)
    assert y.shape == (0, 3, 1)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert gg.asnumpy(w.grad).tolist() == np.zeros((3, 2, 2)).tolist()


def test_lists_are_taken_and_constants_stay_constants():
    x, w = [[[1.0, 2.0, 4.0]]], [[[1.0, -1.0]]]
    y = conv_nd(x, w, stride=1)
    assert y.constant
    assert y.data.tolist() == [[[-1.0, -2.0]]]
    assert max_pool(x, (2,), 1).constant
    assert conv_nd(gg.tensor(x), w, stride=1, constant=True).constant
    assert mean_pool(gg.tensor(x), (2,), 1, constant=True).constant
    assert not max_pool(gg.tensor(x), (2,), 1).constant


def test_integers_are_pooled_and_convolved():
    x = np.arange(8).reshape(1, 1, 8)
    assert conv_nd(x, np.array([[[1, 2]]]), stride=3).data.tolist() == [[[2, 11, 20]]]
    assert max_pool(x, (4,), 4).data.tolist() == [[[3, 7]]]
    assert mean_pool(x, (4,), 4).data.tolist() == [[[1.5, 5.5]]]


# ------------------------------------------------------------------------------- at special points


def test_a_nan_takes_its_windows_and_their_gradients(device: str):
    x = gg.tensor([1.0, np.nan, 2.0, 0.0, 3.0], device=device)
    y = max_pool(x, (2,), 1)
    np.testing.assert_array_equal(gg.asnumpy(y), [np.nan, np.nan, 2.0, 3.0])
    y.backward(gg.tensor([1.0, 10.0, 100.0, 1000.0], device=device))
    assert gg.asnumpy(x.grad).tolist() == [0.0, 11.0, 100.0, 0.0, 1000.0]


def test_an_infinite_cotangent_reaches_the_largest_alone(device: str):
    x = gg.tensor([1.0, 3.0, 2.0, 0.0], device=device)
    max_pool(x, (2,), 2).backward(gg.tensor([np.inf, 1.0], device=device))
    assert gg.asnumpy(x.grad).tolist() == [0.0, np.inf, 1.0, 0.0]


def test_a_whole_network_to_order_two():
    """Convolution, pooling and back: all operations below each other."""

    def network(x: Any, w: Any, v: Any) -> Any:
        hidden = gg.tanh(conv_nd(x, w, stride=1, padding=1))
        pooled = max_pool(hidden, (2, 2), 2) + mean_pool(hidden, (2, 2), 2)
        return conv_transpose_nd(pooled, v, stride=2) * x

    check_grads(
        network, (normal(1, 2, 4, 4), normal(3, 2, 3, 3, seed=1), normal(3, 2, 2, 2, seed=2))
    )


def test_hessian_of_a_quadratic_in_the_filters_is_the_gram_matrix_of_the_windows():
    """conv_nd is linear in the filters: half its squared norm has a known second derivative."""
    x = normal(3, 1, 6)
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], 3, 1).reshape(-1, 3)

    def half_square(w: Any) -> Any:
        y = conv_nd(x, w, stride=1)
        return 0.5 * gg.sum(y * y)

    h = gg.hessian(half_square)(gg.tensor(normal(1, 1, 3, seed=1)))
    found = gg.asnumpy(h).reshape(3, 3)
    np.testing.assert_allclose(found, windows.T @ windows, rtol=0, atol=1e-12)


def test_windows_must_fit_the_axes_that_they_slide_over():
    x = gg.tensor(np.arange(6.0).reshape(2, 3))
    for pool in (gg.nnet.max_pool, gg.nnet.layers.mean_pool):
        with pytest.raises(ValueError, match="spans 3"):
            pool(x, (3,), 1, axis=(0,))
        assert pool(x, (2,), 1, axis=(0,)).shape == (1, 3)


def test_images_without_elements_have_no_transposed_convolution():
    with pytest.raises(ValueError, match="no elements"):
        gg.nnet.layers.conv_transpose_nd(np.ones((1, 1, 0)), np.ones((1, 1, 3)), stride=1)
