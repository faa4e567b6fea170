"""Functions that rearrange, cut, order and interpolate: views, special points, errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.op_table.shaping import sliding_window_view as windows_by_definition


def assert_equal(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(gg.asnumpy(found), expected)


# -------------------------------------------------------------------------------------------- views

VIEWS: dict[str, Callable[[Any, Any], Any]] = {
    "atleast_1d": lambda m, x: m.atleast_1d(x[0, 0, 0:1].reshape(())),
    "atleast_2d": lambda m, x: m.atleast_2d(x[0, 0]),
    "atleast_3d": lambda m, x: m.atleast_3d(x[0]),
    "ravel": lambda m, x: m.ravel(x),
    "flip": lambda m, x: m.flip(x),
    "fliplr": lambda m, x: m.fliplr(x),
    "flipud": lambda m, x: m.flipud(x),
    "rot90": lambda m, x: m.rot90(x),
    "rot90-twice": lambda m, x: m.rot90(x, 2),
    "rot90-back": lambda m, x: m.rot90(x, 3, (0, 2)),
    "rot90-round": lambda m, x: m.rot90(x, 0),
    "diagonal": lambda m, x: m.diagonal(x, 1, 1, 2),
    "diag": lambda m, x: m.diag(x[0], -1),
    "split": lambda m, x: m.split(x, 2, axis=2)[1],
    "array_split": lambda m, x: m.array_split(x, 3, axis=2)[0],
}
COPIES: dict[str, Callable[[Any, Any], Any]] = {
    "flatten": lambda m, x: x.flatten(),
    "roll": lambda m, x: m.roll(x, 0),
    "repeat": lambda m, x: m.repeat(x, 1),
    "tile": lambda m, x: m.tile(x, 1),
    "take": lambda m, x: m.take(x, 1, axis=0),
    "pad": lambda m, x: m.pad(x, 0),
    "pad-edge": lambda m, x: m.pad(x, 0, "edge"),
    "sort": lambda m, x: m.sort(x),
    "tril": lambda m, x: m.tril(x, 9),
    "hstack": lambda m, x: m.hstack([x]),
    "cumsum": lambda m, x: m.cumsum(x, axis=0)[:1],
}


def cube() -> np.ndarray:
    return np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shares_memory_and_gradient_and_is_written_through(name: str):
    call, host = VIEWS[name], cube()
    x = gg.tensor(cube())
    y = call(gg, x)
    assert np.shares_memory(call(np, host), host)
    assert np.shares_memory(y.data, x.data)
    assert y.base is x
    (x**2).sum().backward()
    assert_equal(y.grad, 2 * call(np, host))
    y[...] = -1.0
    assert_equal(y, np.full(y.shape, -1.0))
    assert (x.data == -1).sum() == y.size
    x.sum().backward()
    assert_equal(call(np, x.grad), np.ones(y.shape))


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_has_memory_of_its_own(name: str):
    call, host = COPIES[name], cube()
    x = gg.tensor(cube())
    y = call(gg, x)
    assert not np.shares_memory(call(np, host), host)
    assert not np.shares_memory(y.data, x.data)
    assert_equal(y, call(np, host))


def test_a_write_to_a_diagonal_carries_the_gradient(device: str):
    x, v = gg.tensor(np.ones((2, 3)), device=device), gg.tensor([5.0, 6.0], device=device)
    y = +x
    gg.diagonal(y, 1)[...] = v
    assert_equal(y, [[1, 5, 1], [1, 1, 6]])
    g = gg.tensor(np.arange(6.0).reshape(2, 3), device=device)
    y.backward(g)
    assert_equal(x.grad, [[0, 0, 2], [3, 4, 0]])
    assert_equal(v.grad, [1, 5])


def test_atleast_gives_back_what_needs_no_change():
    x = gg.tensor([1.0])
    assert gg.atleast_1d(x) is x
    assert gg.atleast_1d(x, constant=True).constant
    both = gg.atleast_2d(x, gg.tensor(2.0))
    assert isinstance(both, list)
    assert [t.shape for t in both] == [(1, 1), (1, 1)]
    assert gg.atleast_3d() == []


# ------------------------------------------------------------------------------------------ sorting


def test_equal_elements_share_the_gradient_of_their_places(device: str):
    x = gg.tensor([2.0, 1.0, 2.0, 1.0], device=device)
    gg.sort(x).backward(gg.tensor([1.0, 10.0, 100.0, 1000.0], device=device))
    g = gg.asnumpy(x.grad)
    assert sorted(g[[1, 3]]) == [1, 10]
    assert sorted(g[[0, 2]]) == [100, 1000]


def test_nan_is_sorted_last_and_makes_the_median_nan(device: str):
    x = gg.tensor([[np.nan, 1.0, 0.0], [3.0, 2.0, 1.0]], device=device)
    assert_equal(gg.sort(x), [[0, 1, np.nan], [1, 2, 3]])
    y = gg.median(x, axis=1)
    assert_equal(y, [np.nan, 2])
    y[1].backward()
    assert_equal(x.grad, [[0, 0, 0], [0, 1, 0]])


def test_axes_of_the_median_may_be_a_list_as_numpys_may(device: str):
    host = np.arange(24.0).reshape(2, 3, 4)
    x = gg.tensor(host, device=device)
    for axes in ([0, 1], [-1, 0], [2], []):
        assert_equal(gg.median(x, axis=axes), np.median(host, axis=axes))
        assert_equal(gg.median(x, axis=axes), gg.asnumpy(gg.median(x, axis=tuple(axes))))


def test_the_median_of_nothing_is_nan(device: str):
    x = gg.tensor(np.zeros((2, 0)), device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # as of a mean of nothing
        assert_equal(gg.median(x, axis=1), [np.nan, np.nan])
        assert_equal(gg.median(x), np.nan)


def test_argsort_is_an_array(device: str):
    host = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    x = gg.tensor(host, device=device)
    for axis in (-1, 0, None):
        found = gg.argsort(x, axis=axis)
        assert type(found) is type(x.data)
        assert_equal(found, np.argsort(host, axis=axis))


def test_partition_puts_smaller_ones_before_and_larger_ones_after(device: str):
    host = np.random.default_rng(0).permutation(40.0 * np.ones(40) - np.arange(40))
    y = gg.asnumpy(gg.partition(gg.tensor(host, device=device), (5, -3)))
    ordered = np.sort(host)
    assert (y[5], y[-3]) == (ordered[5], ordered[-3])
    for piece in (slice(5), slice(6, -3), slice(-2, None)):
        assert_equal(np.sort(y[piece]), ordered[piece])


# ---------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("mode", ("constant", "edge", "reflect", "symmetric", "wrap"))
@pytest.mark.parametrize("width", (0, 3, (1, 2), ((7,), (0,)), ((2, 0), (0, 9)), {1: (1, 4)}))
def test_padding_is_numpys(mode: Any, width: Any, device: str):
    if isinstance(width, dict) and np.lib.NumpyVersion(np.__version__) < "2.2.0":
        width = ((0, 0), (1, 4))
    for host in (np.arange(6.0).reshape(2, 3), np.ones((1, 1))):
        y = gg.pad(gg.tensor(host, device=device), width, mode)
        assert_equal(y, np.pad(host, width, mode))


def test_widths_of_padding_may_be_given_for_some_axes(device: str):
    host = np.arange(6.0).reshape(1, 2, 3)
    found = gg.pad(gg.tensor(host, device=device), {0: 1, -1: (2, 0)})
    assert_equal(found, np.pad(host, ((1, 1), (0, 0), (2, 0))))


def test_padding_of_no_axis_is_a_copy():
    x = gg.tensor(2.0)
    y = gg.pad(x, 1)
    assert not np.shares_memory(x.data, y.data)
    assert_equal(y, 2.0)


def test_padding_by_a_number_takes_it_from_constants_only(device: str):
    x = gg.tensor([1.0, 2.0], device=device)
    value = gg.tensor(5.0, device=device)
    with pytest.raises(TypeError, match="constant_values"):
        gg.pad(x, 1, constant_values=value)
    found = gg.pad(x, 1, constant_values=gg.tensor(5.0, device=device, constant=True))
    assert_equal(found, [5.0, 1.0, 2.0, 5.0])


def test_number_of_parts_is_at_least_one():
    for cut in (gg.split, gg.array_split):
        for parts in (0, -1):
            with pytest.raises(ValueError, match="sections"):
                cut(np.arange(4.0), parts)


def test_numpys_pad_takes_a_tensor():
    x = gg.tensor([1.0, 2.0])
    y = np.pad(x, 1, constant_values=7)
    y.backward()
    assert_equal(y, [7, 1, 2, 7])
    assert_equal(x.grad, [1, 1])


# ---------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(
    "shape, window, step, dilation",
    [
        ((7,), (3,), 2, None),
        ((7,), [3], [1], 3),
        ((4, 5), (2, 3), (2, 1), (1, 2)),
        ((2, 4, 5), (2,), 3, 1),
        ((3, 3), np.array([3, 3]), np.int64(1), (1, 1)),
    ],
)
def test_windows_of_an_array_are_a_read_only_view(
    shape: Any, window: Any, step: Any, dilation: Any
):
    host = np.arange(float(np.prod(shape))).reshape(shape)
    for x in (host, np.asfortranarray(host), np.repeat(host, 2, axis=-1)[..., ::2]):
        y = gg.sliding_window_view(x, window, step, dilation)
        assert type(y) is np.ndarray
        assert np.shares_memory(x, y)
        assert not y.flags.writeable
        expected = windows_by_definition(host, window, step, 1 if dilation is None else dilation)
        assert_equal(y, expected)
        assert x.flags.writeable


def test_windows_of_a_tensor_do_not_copy():
    x = gg.tensor(np.arange(9.0))
    y = gg.sliding_window_view(x, (3,), 2)
    assert np.shares_memory(x.data, y.data)
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1.0
    y.backward()
    assert_equal(x.grad, [1, 1, 2, 1, 2, 1, 2, 1, 1])
    assert x.data.flags.writeable


IMAGE = np.zeros((4, 5))


@pytest.mark.parametrize(
    "window, step, dilation, error",
    [
        (3, 1, None, TypeError),
        ((3.0, 3), 1, None, TypeError),
        ((0, 3), 1, None, TypeError),
        ((3, -1), 1, None, TypeError),
        ("ab", 1, None, TypeError),
        ((), 1, None, ValueError),
        ((1, 1, 1), 1, None, ValueError),
        ((5, 5), 1, None, ValueError),
        ((3, 3), 0, None, ValueError),
        ((3, 3), 1.5, None, TypeError),
        ((3, 3), None, None, TypeError),
        ((3, 3), (1,), None, ValueError),
        ((3, 3), (1, 0), None, ValueError),
        ((3, 3), (1, 1.0), None, ValueError),
        ((3, 3), 1, 0, ValueError),
        ((3, 3), 1, 1.5, TypeError),
        ((3, 3), 1, (1, 1, 1), ValueError),
        ((3, 3), 1, 2, ValueError),
    ],
)
def test_windows_that_are_not_possible(window: Any, step: Any, dilation: Any, error: type):
    for x in (IMAGE, gg.tensor(IMAGE)):
        with pytest.raises(error, match="^sliding_window_view: "):
            gg.sliding_window_view(x, window, step, dilation)


# ------------------------------------------------------------------------------------ interpolation


def test_interpolation_is_numpys_everywhere(device: str):
    rng = np.random.default_rng(0)
    knots, values = np.sort(rng.normal(size=9)), rng.normal(size=9)
    x = np.concatenate([rng.normal(size=50), knots, [-np.inf, np.inf, np.nan]])
    on = [gg.tensor(a, device=device) for a in (x, knots, values)]
    for options in ({}, {"left": 1.0, "right": -2.0}):
        expected = np.interp(x, knots, values, **options)
        np.testing.assert_allclose(gg.asnumpy(gg.interp(*on, **options)), expected, 1e-13, 1e-13)
    finite = [gg.tensor(a, device=device) for a in (x[:-3], knots, values)]
    for period in (0.7, -3.0, 10.0):
        expected = np.interp(x[:-3], knots, values, period=period)
        found = gg.asnumpy(gg.interp(*finite, period=period))
        np.testing.assert_allclose(found, expected, 1e-10, 1e-10)


def test_points_outside_leave_no_nan_in_gradients(device: str):
    x = gg.tensor([-np.inf, 0.5, np.inf, 9.0], device=device)
    knots = gg.tensor([0.0, 1.0, 1.0, 2.0], device=device)  # a jump at 1
    values = gg.tensor([0.0, 1.0, 5.0, 6.0], device=device)
    gg.interp(x, knots, values).backward()
    assert_equal(x.grad, [0, 1, 0, 0])
    assert_equal(values.grad, [1.5, 0.5, 0, 2])
    assert_equal(knots.grad, [-0.5, -0.5, 0, 0])


def test_the_slope_at_a_knot_is_that_of_the_piece_that_begins_there(device: str):
    x = gg.tensor([0.0, 1.0, 2.0], device=device)
    gg.interp(x, x.data, gg.tensor([0.0, 1.0, -2.0], device=device)).backward()
    assert_equal(x.grad, [1, -3, -3])


# ----------------------------------------------------------------------------------------- creation


@pytest.mark.parametrize("name", ("zeros_like", "ones_like", "empty_like", "full_like"))
def test_what_is_made_like_an_array_is_constant(name: str):
    def like(x: Any, **options: Any) -> gg.Tensor:
        return getattr(gg, name)(x, *(2.0,) * (name == "full_like"), **options)

    assert like(np.ones(2)).constant
    assert not like(np.ones(2), constant=False).constant
    assert not like(gg.tensor([1.0])).constant
    assert like(gg.tensor([1.0], constant=True)).constant


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.logspace(0, 2, 5),
        lambda m: m.logspace(0, 2, num=5, endpoint=False, base=2, dtype=np.float32),
        lambda m: m.logspace([0, 1], 2, 3, axis=-1),
        lambda m: m.geomspace(1, 256, 9),
        lambda m: m.geomspace(-1, -8, 4, endpoint=False),
        lambda m: m.geomspace([1, 2], 8, 3, axis=1, dtype=np.float32),
        lambda m: m.geomspace(1, 8, 4, dtype=int),
    ],
)
def test_spaced_numbers_are_numpys(call: Any):
    y, expected = call(gg), call(np)
    assert y.dtype == expected.dtype
    assert y.constant == (expected.dtype.kind != "f")
    assert_equal(y, expected)


def test_geometric_numbers_on_a_device(device: str):
    y = gg.geomspace(1, 8, 4, device=device)
    assert str(y.device).startswith(device)
    np.testing.assert_allclose(gg.asnumpy(y), [1, 2, 4, 8])


# ------------------------------------------------------------------------------------------ errors

M = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: m.transpose(x, []),
        lambda m, x: m.roll(x, 1, 3),
        lambda m, x: m.roll(x, (1, 1), (0, 1, 1)),
        lambda m, x: m.repeat(x, -1),
        lambda m, x: m.repeat(x, [1, 2], axis=1),
        lambda m, x: m.repeat(x, 2, axis=4),
        lambda m, x: m.tile(x, -1),
        lambda m, x: m.tile(x, 1.5),
        lambda m, x: m.flip(x, 3),
        lambda m, x: m.flip(x, (0, 0)),
        lambda m, x: m.fliplr(x[0]),
        lambda m, x: m.flipud(x[0, 0]),
        lambda m, x: m.rot90(x[0]),
        lambda m, x: m.rot90(x, 1, (0, 0)),
        lambda m, x: m.rot90(x, 1, (0,)),
        lambda m, x: m.rot90(x, 1, (0, 3)),
        lambda m, x: m.tril(x[0, 0]),
        lambda m, x: m.diagonal(x[0]),
        lambda m, x: m.diagonal(x, 0, 1, 1),
        lambda m, x: m.diagonal(x, 0, 0, 2),
        lambda m, x: m.diag(x[0, 0]),
        lambda m, x: m.take(x, 6),
        lambda m, x: m.take(x, [0, -4], axis=1),
        lambda m, x: m.take(x, 0, axis=2),
        lambda m, x: m.take(x, 0, mode="bounce"),
        lambda m, x: m.take(x[:0], 0),
        lambda m, x: m.take_along_axis(x, np.array([0]), 0),
        lambda m, x: m.take_along_axis(x, np.array([[0.0]]), 0),
        lambda m, x: m.take_along_axis(x, np.array([[3]]), 1),
        lambda m, x: m.take_along_axis(x, np.array([[0, 1]]), 0),
        lambda m, x: m.take_along_axis(x, np.array([[0]]), 2),
        lambda m, x: m.take_along_axis(x, np.array([[0]]), None),
        lambda m, x: m.sort(x, 2),
        lambda m, x: m.sort(x[0, 0]),
        lambda m, x: m.sort(x, kind="bogo"),
        lambda m, x: m.partition(x, 3),
        lambda m, x: m.partition(x, 0.5),
        lambda m, x: m.partition(x, 0, axis=2),
        lambda m, x: m.median(x, axis=2),
        lambda m, x: m.median(x, axis=(1, -1)),
        lambda m, x: m.split(x, 2, axis=1),
        lambda m, x: m.array_split(x, 0),
        lambda m, x: m.array_split(x, 2, axis=3),
        lambda m, x: m.hstack([]),
        lambda m, x: m.vstack([x, x[0, :2]]),
        lambda m, x: m.dstack([x, x[:1]]),
        lambda m, x: m.column_stack([x, x[0]]),
        lambda m, x: m.concatenate([x, x], out=np.zeros((4, 3)), dtype=float),
        lambda m, x: m.pad(x, -1),
        lambda m, x: m.pad(x, 0.5),
        lambda m, x: m.pad(x, ((1, 1),) * 3),
        lambda m, x: m.pad(x, 1, "bogus"),
        lambda m, x: m.pad(x, 1, "edge", constant_values=1),
        lambda m, x: m.pad(x[:0], 1, "edge"),
        lambda m, x: m.interp(x, [], []),
        lambda m, x: m.interp(x, [0.0, 1.0], [0.0]),
        lambda m, x: m.interp(x, [0.0, 1.0], [0.0, 1.0], period=0),
        lambda m, x: m.geomspace(0, 1, 3),
        lambda m, x: m.logspace(0, 1, -1),
    ],
)
def test_wrong_arguments_raise_what_numpy_raises(call: Any):
    with pytest.raises(Exception) as expected:
        call(np, M)
    x = gg.tensor(M.copy(), copy=False)
    with pytest.raises(expected.type):
        call(gg, x)
    assert x.data.flags.writeable


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: m.tril(x),
        lambda m, x: m.triu(x, 1),
        lambda m, x: m.diff(x),
        lambda m, x: m.diff(x, 2, axis=0),
        lambda m, x: m.diff(x, 0),
    ],
)
def test_bools_stay_bools(call: Any, device: str):
    host = np.array([[True, False, True], [True, True, False], [False, True, True]])
    y = call(gg, gg.tensor(host, device=device))
    assert y.dtype == np.bool_
    assert_equal(y.data, call(np, host))


@pytest.mark.parametrize("axes", [(np.array([1, 0]),), (np.int64(1), np.int64(0)), (None,), ()])
def test_transpose_takes_axes_in_any_form(axes: tuple):
    assert_equal(gg.transpose(M, *axes).data, M.T)


def test_a_tensor_method_reshape_needs_a_shape():
    with pytest.raises(TypeError, match="^reshape: got no shape"):
        gg.tensor(1.0).reshape()
