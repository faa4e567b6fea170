"""The vocabulary's own words: indexing as functions, selection under a mask, stable functions."""

import math

import numpy as np
import pytest

from tests.backend.test_vocabulary import assert_same

INDICES = {
    "integer": 1,
    "negative": -1,
    "slice": slice(1, None, 2),
    "steps back": slice(None, None, -1),
    "ellipsis": (Ellipsis, 0),
    "newaxis": (None, 1, slice(None), None),
    "empty tuple": (),
    "list": [0, 2, 0],
    "array": np.array([[1, 3], [-1, 1]]),
    "bytes": np.array([1, 1], np.uint8),
    "two arrays": (np.array([0, 2, 0]), np.array([1, 1, 1])),
    "array and slice": (slice(None), np.array([2, 2, -1])),
    "slice between arrays": (np.array([0, 0]), slice(None), np.array([1, 1])),
    "broadcast arrays": (np.array([[0], [3]]), np.array([0, 1, 0])),
    "mask": np.arange(4) % 2 == 0,
    "mask of all axes": np.arange(24).reshape(4, 3, 2) % 5 == 0,
    "mask and slice": (slice(1, 3), np.array([True, False, True])),
    "mask of nothing": np.zeros(4, bool),
    "list of bools": [True, False, False, True],
    "empty list": [],
    "ellipsis and array": (Ellipsis, np.array([1, 1, 0])),
    "array and newaxis": (np.array([1, 1]), None),
}
X = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def on_library(index, as_device):
    """Return the index with its arrays on the library's device."""
    if isinstance(index, tuple):
        return tuple(on_library(entry, as_device) for entry in index)
    return as_device(index) if isinstance(index, np.ndarray) else index


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
class TestIndexing:
    def test_getitem_gives_what_numpy_gives(self, vocabulary, as_device, host, index):
        result = vocabulary.getitem(as_device(X), on_library(index, as_device))
        assert_same(result, X[index], host)

    def test_put_is_numpys_assignment_on_a_copy(self, vocabulary, as_device, host, index):
        x = as_device(X)
        value = -1 - np.arange(X[index].size, dtype=np.float64).reshape(X[index].shape)
        expected = X.copy()
        expected[index] = value
        result = vocabulary.put(x, on_library(index, as_device), as_device(value))
        assert_same(result, expected, host)
        assert_same(x, X, host)

    def test_put_broadcasts_a_scalar(self, vocabulary, as_device, host, index):
        expected = X.copy()
        expected[index] = 7
        for value in (7, 7.0, np.array(7.0), as_device(7.0)):
            result = vocabulary.put(as_device(X), on_library(index, as_device), value)
            assert_same(result, expected, host)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
    def test_add_at_is_the_adjoint_of_getitem(self, vocabulary, as_device, host, index, dtype):
        # <getitem(x), g> = <x, add_at(g)> for every x: with integers the sums are exact.
        g = 1 + np.arange(X[index].size).reshape(X[index].shape) % 5
        index = on_library(index, as_device)
        adjoint = host(vocabulary.add_at(X.shape, dtype, index, as_device(g.astype(dtype))))
        assert (adjoint.dtype, adjoint.shape) == (np.dtype(dtype), X.shape)
        taken = host(vocabulary.getitem(as_device(X), index))
        assert np.sum(taken.astype(np.float64) * g) == np.sum(X * adjoint.astype(np.complex128))

    @pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64])
    def test_add_at_accumulates_integers(self, vocabulary, as_device, host, index, dtype):
        g = np.full(X[index].shape, 3, dtype)
        expected = np.zeros(X.shape, dtype)
        np.add.at(expected, index, g)
        result = vocabulary.add_at(X.shape, dtype, on_library(index, as_device), as_device(g))
        assert_same(result, expected, host)


class TestIndicesOutOfRange:
    CASES = (
        ([1, 4], 0, 4),
        (np.array([0, -5]), 0, 4),
        ((slice(None), np.array([3])), 1, 3),
        ((Ellipsis, np.array([2, 0])), 2, 2),
        ((None, np.array([0]), np.array([7])), 1, 3),
        ((np.ones(4, bool), np.array([9, 9, 9, 9])), 1, 3),
    )

    @pytest.mark.parametrize("index, axis, size", CASES, ids=[repr(case[0]) for case in CASES])
    @pytest.mark.parametrize("where", ["indices on the device", "indices on the host"])
    def test_raise(self, vocabulary, as_device, index, axis, size, where):
        if where == "indices on the device":
            index = on_library(index, as_device)
        message = f"out of bounds for axis {axis} with size {size}"
        x = as_device(X)
        with pytest.raises(IndexError, match=message):
            vocabulary.getitem(x, index)
        with pytest.raises(IndexError, match=message):
            vocabulary.put(x, index, 0.0)
        with pytest.raises(IndexError, match=message):
            vocabulary.add_at(X.shape, X.dtype, index, 1.0)

    @pytest.mark.parametrize("indices", [[3], [-4], 3, [[0], [5]]])
    def test_take_raises(self, vocabulary, as_device, indices):
        for given in (indices, as_device(indices)):
            with pytest.raises(IndexError):
                vocabulary.take(as_device(X), given, axis=1)
        with pytest.raises(IndexError):
            vocabulary.take_along_axis(as_device(X), as_device([[[99]]]), axis=1)

    def test_too_many_indices_raise(self, vocabulary, as_device):
        with pytest.raises(IndexError, match="too many indices"):
            vocabulary.getitem(as_device(X), (0, 0, 0, as_device([0])))


class TestPutWithDuplicates:
    def test_last_one_wins(self, vocabulary, as_device, host):
        index = as_device(np.arange(1000) % 3)
        values = as_device(np.arange(1000.0))
        result = vocabulary.put(as_device(np.zeros(4)), index, values)
        assert host(result).tolist() == [999.0, 997.0, 998.0, 0.0]

    def test_last_one_wins_over_two_axes(self, vocabulary, as_device, host):
        index = (as_device([0, 1, 0]), as_device([1, 1, 1]))
        result = vocabulary.put(as_device(np.zeros((2, 2))), index, as_device([1.0, 2.0, 3.0]))
        assert host(result).tolist() == [[0, 3], [0, 2]]

    def test_values_leading_axes_of_length_one_are_dropped(self, vocabulary, as_device, host):
        x, index = as_device(np.zeros(3)), as_device([2, 0])
        result = vocabulary.put(x, index, as_device([[1.0, 2.0]]))
        assert host(result).tolist() == [2, 0, 1]

    def test_values_of_another_shape_raise(self, vocabulary, as_device):
        with pytest.raises(ValueError, match="broadcast"):
            vocabulary.put(as_device(np.zeros(3)), as_device([2, 0]), as_device([1.0, 2.0, 3.0]))


def exact_sigmoid(x):
    """Return the value in double precision, by the formula that is stable on each side."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def exact_softplus(x):
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


EXACT = {
    "sigmoid": exact_sigmoid,
    "softplus": exact_softplus,
    "log_sigmoid": lambda x: -exact_softplus(-x),
}


@pytest.mark.parametrize("word", EXACT)
class TestStable:
    POINTS = [0.0, 1e-4, 0.5, 1.0, 3.0, 10.0, 15.0, 30.0, 80.0, 200.0, 700.0, 60000.0]

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_is_within_four_ulp_of_the_exact_value(self, vocabulary, as_device, host, word, dtype):
        x = np.array(sorted([*self.POINTS, *(-p for p in self.POINTS)]), dtype)
        result = host(getattr(vocabulary, word)(as_device(x)))
        assert result.dtype == dtype
        exact = np.array([EXACT[word](float(value)) for value in x])
        # Below the smallest normal number sigmoid may flush to 0.
        tiny = float(np.finfo(dtype).tiny)
        np.testing.assert_allclose(
            result.astype(np.float64), exact, rtol=4 * float(np.finfo(dtype).eps), atol=tiny
        )

    def test_limits(self, vocabulary, as_device, host, word):
        x = as_device([-np.inf, np.inf, np.nan])
        limits = {
            "sigmoid": [0, 1, np.nan],
            "softplus": [0, np.inf, np.nan],
            "log_sigmoid": [-np.inf, 0, np.nan],
        }
        np.testing.assert_array_equal(host(getattr(vocabulary, word)(x)), limits[word])

    def test_gives_no_warning(self, vocabulary, as_device, word):
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            getattr(vocabulary, word)(as_device(np.array([-1e30, 1e30], np.float32)))
            getattr(vocabulary, word)(as_device(np.array([-6e4, 6e4], np.float16)))

    @pytest.mark.parametrize("x", [0, -3.0, 2, np.float32(1.5), np.int64(2), np.float16(-1)])
    def test_takes_scalars(self, vocabulary, host, word, x):
        tolerance = 4 * float(np.finfo(getattr(x, "dtype", float)).eps) if _floats(x) else 1e-15
        result = float(host(getattr(vocabulary, word)(x)))
        assert result == pytest.approx(EXACT[word](float(x)), rel=tolerance)

    @pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int64])
    def test_takes_integers_in_double(self, vocabulary, as_device, host, word, dtype):
        result = host(getattr(vocabulary, word)(as_device(np.array([0, 1], dtype))))
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, [EXACT[word](0.0), EXACT[word](1.0)], rtol=1e-15)

    def test_takes_0d_and_empty(self, vocabulary, as_device, host, word):
        zero_d = host(getattr(vocabulary, word)(as_device(np.array(0.5, np.float32))))
        assert (zero_d.shape, zero_d.dtype) == ((), np.float32)
        empty = host(getattr(vocabulary, word)(as_device(np.zeros((0, 2), np.float16))))
        assert (empty.shape, empty.dtype) == ((0, 2), np.float16)


def _floats(x):
    return np.asarray(x).dtype.kind == "f"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.int32])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4)])
def test_where_or_zero_selects(vocabulary, as_device, host, xp, dtype, shape):
    if dtype is np.longdouble and xp is not np:
        pytest.skip("no long doubles on the GPU")
    x = np.array(np.arange(1, 1 + math.prod(shape)).reshape(shape), dtype)
    mask = x % 3 != 1
    if np.dtype(dtype).kind == "f":
        x = np.where(mask, -x, np.where(x % 2, np.nan, np.inf)).astype(dtype)
    result = vocabulary.where_or_zero(as_device(mask), as_device(x))
    assert_same(result, np.where(mask, x, dtype(0)), host)


def test_axes_that_masks_and_an_ellipsis_stand_for_are_counted(vocabulary, as_device, host):
    x, mask = np.arange(24.0).reshape(2, 3, 4), np.zeros((2, 3), bool)
    mask[1, 2] = True
    for between in ((), (...,)):
        for last in ([3], [-4]):
            index = (as_device(mask), *between, as_device(np.array(last)))
            found = vocabulary.getitem(as_device(x), index)
            assert_same(found, x[(mask, *between, last)], host)
        for last in ([4], [-5]):
            index = (as_device(mask), *between, as_device(np.array(last)))
            with pytest.raises(IndexError):
                vocabulary.getitem(as_device(x), index)


@pytest.mark.parametrize("word, ufunc", [("cummax", np.maximum), ("cummin", np.minimum)])
@pytest.mark.parametrize("axis", (0, -1))
def test_running_extremes_know_all_that_came_before(vocabulary, as_device, host, word, ufunc, axis):
    for n in range(10):
        for line in (np.arange(n), np.arange(n)[::-1]):
            x = np.stack([line, -line], axis=1 - axis % 2)
            found = getattr(vocabulary, word)(as_device(x), axis)
            assert_same(found, ufunc.accumulate(x, axis=axis), host)


@pytest.mark.parametrize("word", ("sigmoid", "softplus", "log_sigmoid"))
def test_half_types_are_worked_out_in_single_precision(vocabulary, as_device, host, word):
    x = np.linspace(-12, 12, 501).astype(np.float16)
    found = host(getattr(vocabulary, word)(as_device(x)))
    in_single = host(getattr(vocabulary, word)(as_device(x.astype(np.float32))))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, in_single.astype(np.float16))


def test_where_or_zero_broadcasts_and_takes_any_layout(vocabulary, as_device, host):
    mask, x = np.array([[True], [False]]), np.arange(6.0, dtype=np.float32)[::-2]
    expected = np.where(mask, x, np.float32(0))
    assert_same(vocabulary.where_or_zero(as_device(mask), as_device(x)), expected, host)
