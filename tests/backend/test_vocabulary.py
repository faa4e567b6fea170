"""One vocabulary, two libraries: the same words, the same arguments, the same results.

The oracle is NumPy itself: every call in the table runs in the library's namespace on the library's
arrays, and on NumPy's functions on host arrays.
"""

import numpy as np
import pytest

from gpugrad.backend import vocabulary as vocabulary_module
from gpugrad.backend.vocabulary import (
    CONSTANTS,
    CREATION,
    DECOMPOSITIONS,
    DIFFERENCES,
    ELEMENTWISE,
    INDEXING,
    LINEAR,
    QUESTIONS,
    REDUCTIONS,
    SCANS,
    SHAPING,
    Namespace,
    namespace_of,
    numpy_namespace,
    shared,
)
from gpugrad.errors import DeviceMismatchError

OLD_NUMPY = np.lib.NumpyVersion(np.__version__) < "2.1.0"
FUNCTIONS = REDUCTIONS + SCANS + SHAPING + INDEXING + LINEAR + DECOMPOSITIONS + CREATION
EXTRAS = ("add_at", "errstate", "getitem", "put")
ONCE = ("log_sigmoid", "sigmoid", "softplus")

MATRIX = np.array([[3.0, -1.0, 2.0], [0.5, 4.0, -2.5]], np.float32)
ROW = np.array([2.0, -3.0, 1.5], np.float32)
MASK = np.array([[True, False, True], [False, False, True]])


def _into(xp, word, array, *args, **options):
    """Call a word with `out=`, check that it returns it, and return it."""
    out = xp.zeros(array.shape, array.dtype)
    result = getattr(xp, word)(*args, out=out, **options)
    assert result is out
    return result


def _gram(xp, a):
    """A symmetric positive definite matrix (2, 2)."""
    return xp.matmul(a, xp.transpose(a))


# word -> the forms of call that the vocabulary promises, on a (2, 3), b (3,) float32, m (2, 3) bool
CALLS = {
    "all": [
        lambda xp, a, b, m: xp.all(m),
        lambda xp, a, b, m: xp.all(m, axis=0, keepdims=True),
        lambda xp, a, b, m: xp.all(a, axis=1, where=m),
        lambda xp, a, b, m: _into(xp, "all", m[0], m, axis=0),
    ],
    "any": [
        lambda xp, a, b, m: xp.any(m),
        lambda xp, a, b, m: xp.any(m, axis=1),
        lambda xp, a, b, m: xp.any(a, axis=0, where=m),
    ],
    "argmax": [
        lambda xp, a, b, m: xp.argmax(a),
        lambda xp, a, b, m: xp.argmax(a, axis=1),
        lambda xp, a, b, m: xp.argmax(a, 0, keepdims=True),
        lambda xp, a, b, m: xp.argmax(xp.zeros((2, 3)), axis=1),
    ],
    "argmin": [
        lambda xp, a, b, m: xp.argmin(a),
        lambda xp, a, b, m: xp.argmin(a, axis=0, keepdims=True),
    ],
    "count_nonzero": [
        lambda xp, a, b, m: xp.asarray(xp.count_nonzero(m)),
        lambda xp, a, b, m: xp.count_nonzero(m, axis=0),
    ],
    "max": [
        lambda xp, a, b, m: xp.max(a),
        lambda xp, a, b, m: xp.max(a, axis=(0, 1)),
        lambda xp, a, b, m: xp.max(a, axis=1, keepdims=True),
        lambda xp, a, b, m: xp.max(a, axis=0, initial=1.0),
        lambda xp, a, b, m: xp.max(a, axis=0, initial=np.float64(100.0)),
        lambda xp, a, b, m: xp.max(a, axis=1, initial=-9.0, where=m),
        lambda xp, a, b, m: xp.max(a[:, :0], axis=1, initial=-9.0),
        lambda xp, a, b, m: xp.max(a[:, :0], initial=-9.0, keepdims=True),
        lambda xp, a, b, m: _into(xp, "max", b, a, axis=0, initial=0.0),
        lambda xp, a, b, m: xp.max(xp.where(m, a, xp.nan)),
    ],
    "mean": [
        lambda xp, a, b, m: xp.mean(a),
        lambda xp, a, b, m: xp.mean(a, axis=0, dtype=xp.float64),
        lambda xp, a, b, m: xp.mean(m, axis=1, keepdims=True),
        lambda xp, a, b, m: xp.mean(a, axis=1, where=m),
        lambda xp, a, b, m: xp.mean(a, axis=1, where=b > 0, keepdims=True),
        lambda xp, a, b, m: xp.mean(a.astype(xp.float16), where=m),
        # the sum is beyond float16
        lambda xp, a, b, m: xp.mean(xp.full(2048, 100, xp.float16), where=xp.full(2048, True)),
        lambda xp, a, b, m: _into(xp, "mean", b, a, axis=0),
    ],
    "min": [
        lambda xp, a, b, m: xp.min(a, axis=0),
        lambda xp, a, b, m: xp.min(a, axis=(0,), initial=0.0, where=m),
    ],
    "prod": [
        lambda xp, a, b, m: xp.prod(a),
        lambda xp, a, b, m: xp.prod(a, axis=1, keepdims=True),
        lambda xp, a, b, m: xp.prod(a, axis=1, initial=2.0, where=m),
        lambda xp, a, b, m: xp.prod(a.astype(xp.int32), axis=0),
    ],
    "std": [lambda xp, a, b, m: xp.std(a, axis=1, ddof=1), lambda xp, a, b, m: xp.std(a)],
    "sum": [
        lambda xp, a, b, m: xp.sum(a),
        lambda xp, a, b, m: xp.sum(2.5),
        lambda xp, a, b, m: xp.sum(m, axis=0),
        lambda xp, a, b, m: xp.sum(a, axis=-1, keepdims=True),
        lambda xp, a, b, m: xp.sum(a, axis=(0, 1), dtype=xp.float64),
        lambda xp, a, b, m: xp.sum(a, axis=0, initial=10.0),
        lambda xp, a, b, m: xp.sum(a, axis=0, initial=np.float64(10.0)),
        lambda xp, a, b, m: xp.sum(a, axis=1, where=m),
        lambda xp, a, b, m: xp.sum(a, where=b > 0, initial=1),
        lambda xp, a, b, m: xp.sum(a[:0], axis=0),
        lambda xp, a, b, m: xp.sum(xp.where(m, xp.inf, a), where=~m),
        lambda xp, a, b, m: _into(xp, "sum", b, a, axis=0),
        lambda xp, a, b, m: _into(xp, "sum", b, a, axis=0, initial=1.0, where=m),
    ],
    "var": [lambda xp, a, b, m: xp.var(a, axis=0), lambda xp, a, b, m: xp.var(a, keepdims=True)],
    "cumprod": [lambda xp, a, b, m: xp.cumprod(a, axis=1), lambda xp, a, b, m: xp.cumprod(a)],
    "cumsum": [
        lambda xp, a, b, m: xp.cumsum(a),
        lambda xp, a, b, m: xp.cumsum(a, axis=0, dtype=xp.float64),
    ],
    "diff": [lambda xp, a, b, m: xp.diff(a), lambda xp, a, b, m: xp.diff(a, axis=0)],
    "atleast_1d": [lambda xp, a, b, m: xp.atleast_1d(a[0, 0])],
    "atleast_2d": [lambda xp, a, b, m: xp.atleast_2d(b)],
    "broadcast_to": [lambda xp, a, b, m: xp.broadcast_to(b, (2, 3))],
    "concatenate": [
        lambda xp, a, b, m: xp.concatenate([a, a], axis=1),
        lambda xp, a, b, m: xp.concatenate((b, b)),
        lambda xp, a, b, m: xp.concatenate([a, a], axis=None),
        lambda xp, a, b, m: _into(xp, "concatenate", a, [b[None], b[None]]),
    ],
    "expand_dims": [
        lambda xp, a, b, m: xp.expand_dims(b, 0),
        lambda xp, a, b, m: xp.expand_dims(a, axis=(0, -1)),
    ],
    "flip": [lambda xp, a, b, m: xp.flip(a), lambda xp, a, b, m: xp.flip(a, axis=1)],
    "moveaxis": [lambda xp, a, b, m: xp.moveaxis(a, 0, -1)],
    "pad": [lambda xp, a, b, m: xp.pad(a, ((1, 0), (0, 2)))],
    "ravel": [lambda xp, a, b, m: xp.ravel(a)],
    "repeat": [
        lambda xp, a, b, m: xp.repeat(a, 2),
        lambda xp, a, b, m: xp.repeat(a, [1, 0, 2], axis=1),
        lambda xp, a, b, m: xp.repeat(a, xp.asarray([2, 1]), axis=0),
    ],
    "reshape": [
        lambda xp, a, b, m: xp.reshape(a, (3, 2)),
        lambda xp, a, b, m: xp.reshape(a, -1),
        lambda xp, a, b, m: xp.reshape(a, (3, 2), order="F"),
    ],
    "roll": [lambda xp, a, b, m: xp.roll(a, 1), lambda xp, a, b, m: xp.roll(a, -1, axis=1)],
    "rot90": [lambda xp, a, b, m: xp.rot90(a)],
    "split": [
        lambda xp, a, b, m: xp.split(a, 3, axis=1)[1],
        lambda xp, a, b, m: xp.split(b, [1])[1],
    ],
    "squeeze": [
        lambda xp, a, b, m: xp.squeeze(a[:1]),
        lambda xp, a, b, m: xp.squeeze(a[:1, :, None], axis=(0, 2)),
    ],
    "stack": [
        lambda xp, a, b, m: xp.stack([b, b], axis=1),
        lambda xp, a, b, m: xp.stack([a, a]),
    ],
    "swapaxes": [lambda xp, a, b, m: xp.swapaxes(a, 0, 1)],
    "tile": [lambda xp, a, b, m: xp.tile(a, 2), lambda xp, a, b, m: xp.tile(b, (2, 1))],
    "transpose": [
        lambda xp, a, b, m: xp.transpose(a),
        lambda xp, a, b, m: xp.transpose(a, (1, 0)),
    ],
    "argsort": [
        lambda xp, a, b, m: xp.argsort(a),
        lambda xp, a, b, m: xp.argsort(a, axis=0, kind="stable"),
    ],
    "clip": [
        lambda xp, a, b, m: xp.clip(a, -1, 2.5),
        lambda xp, a, b, m: xp.clip(a, None, b),
        lambda xp, a, b, m: xp.clip(a, np.array(-1.0, np.float32), None),
        lambda xp, a, b, m: _into(xp, "clip", a, a, 0, 1),
    ],
    "copyto": [lambda xp, a, b, m: _written(xp.copyto, a.copy(), b, where=m)],
    "diag": [lambda xp, a, b, m: xp.diag(b), lambda xp, a, b, m: xp.diag(a)],
    "diagonal": [lambda xp, a, b, m: xp.diagonal(a, 1)],
    "nan_to_num": [lambda xp, a, b, m: xp.nan_to_num(xp.where(m, xp.nan, a))],
    "nonzero": [lambda xp, a, b, m: xp.nonzero(m)[1]],
    "round": [lambda xp, a, b, m: xp.round(a)],
    "searchsorted": [lambda xp, a, b, m: xp.searchsorted(xp.sort(b), a)],
    "sort": [
        lambda xp, a, b, m: xp.sort(a),
        lambda xp, a, b, m: xp.sort(a, axis=0),
        lambda xp, a, b, m: xp.sort(a, axis=None),
    ],
    "take": [
        lambda xp, a, b, m: xp.take(a, 4),
        lambda xp, a, b, m: xp.take(a, [0, -1, 0], axis=1),
        lambda xp, a, b, m: xp.take(a, xp.asarray([[1, 0]]), axis=0),
        lambda xp, a, b, m: xp.take(a, xp.asarray([7, -8]), mode="wrap"),
        lambda xp, a, b, m: xp.take(a, xp.asarray([7, -8]), axis=1, mode="clip"),
    ],
    "take_along_axis": [
        lambda xp, a, b, m: xp.take_along_axis(a, xp.argsort(a, axis=1), axis=1),
        lambda xp, a, b, m: xp.take_along_axis(a, xp.asarray([5, -1]), axis=None),
    ],
    "tril": [lambda xp, a, b, m: xp.tril(a)],
    "triu": [lambda xp, a, b, m: xp.triu(a, 1)],
    "where": [
        lambda xp, a, b, m: xp.where(m, a, b),
        lambda xp, a, b, m: xp.where(m, a, 0.0),
        lambda xp, a, b, m: xp.where(m, np.array(2.0, np.float32), a),
        lambda xp, a, b, m: xp.where(True, a, b),
        lambda xp, a, b, m: xp.where(a > 0, 1, 0),
    ],
    "dot": [lambda xp, a, b, m: xp.dot(a, b), lambda xp, a, b, m: xp.dot(b, b)],
    "einsum": [
        lambda xp, a, b, m: xp.einsum("ij,j->i", a, b),
        lambda xp, a, b, m: xp.einsum("ij,kj->ik", a, a, optimize=True),
        lambda xp, a, b, m: _into(xp, "einsum", b, "ij->j", a),
    ],
    "inner": [lambda xp, a, b, m: xp.inner(a, b)],
    "linalg": [lambda xp, a, b, m: xp.linalg.norm(a)],
    "matmul": [
        lambda xp, a, b, m: xp.matmul(a, b),
        lambda xp, a, b, m: xp.matmul(b, b),
        lambda xp, a, b, m: xp.matmul(a[None], xp.transpose(a)),
        lambda xp, a, b, m: _into(xp, "matmul", a[:, :2], a, xp.transpose(a)),
    ],
    "outer": [lambda xp, a, b, m: xp.outer(b, b)],
    "tensordot": [
        lambda xp, a, b, m: xp.tensordot(a, b, 1),
        lambda xp, a, b, m: xp.tensordot(a, a, axes=((0,), (0,))),
    ],
    "cholesky": [lambda xp, a, b, m: xp.cholesky(_gram(xp, a))],
    "det": [lambda xp, a, b, m: xp.det(_gram(xp, a)), lambda xp, a, b, m: xp.det(a[:, None, :1])],
    "eigh": [
        lambda xp, a, b, m: xp.eigh(_gram(xp, a), UPLO="U")[0],
        lambda xp, a, b, m: xp.square(xp.eigh(_gram(xp, a))[1]),
    ],
    "inv": [lambda xp, a, b, m: xp.inv(_gram(xp, a)), lambda xp, a, b, m: xp.inv(a[:, None, :1])],
    "pinv": [lambda xp, a, b, m: xp.pinv(a, 1e-6)],
    "qr": [
        lambda xp, a, b, m: xp.square(xp.qr(a)[0]),
        lambda xp, a, b, m: xp.square(xp.qr(xp.transpose(a))[1]),
    ],
    "slogdet": [lambda xp, a, b, m: xp.stack([xp.asarray(x) for x in xp.slogdet(_gram(xp, a))])],
    "solve": [
        lambda xp, a, b, m: xp.solve(_gram(xp, a), b[:2]),
        lambda xp, a, b, m: xp.solve(_gram(xp, a)[None], b[:2, None]),
        lambda xp, a, b, m: xp.solve(_gram(xp, a), a),
    ],
    "svd": [
        lambda xp, a, b, m: xp.svd(a, full_matrices=False)[1],
        lambda xp, a, b, m: xp.square(xp.svd(a, full_matrices=False)[2]),
    ],
    "trace": [lambda xp, a, b, m: xp.trace(a)],
    "vdot": [lambda xp, a, b, m: xp.vdot(b, b)],
    "arange": [
        lambda xp, a, b, m: xp.arange(4),
        lambda xp, a, b, m: xp.arange(1, 2, 0.25, dtype=xp.float32),
    ],
    "array": [
        lambda xp, a, b, m: xp.array([[1.0, 2.0]], dtype=xp.float32),
        lambda xp, a, b, m: xp.array(a),
    ],
    "asarray": [
        lambda xp, a, b, m: xp.asarray(a),
        lambda xp, a, b, m: xp.asarray([1, 2]),
        lambda xp, a, b, m: xp.asarray(2.5, dtype=xp.float16),
    ],
    "ascontiguousarray": [lambda xp, a, b, m: xp.ascontiguousarray(xp.transpose(a))],
    "copy": [lambda xp, a, b, m: xp.copy(a)],
    "empty": [lambda xp, a, b, m: xp.empty((2, 0), dtype=xp.float16)],
    "empty_like": [lambda xp, a, b, m: xp.empty_like(a[:0])],
    "eye": [
        lambda xp, a, b, m: xp.eye(3, dtype=xp.float32),
        lambda xp, a, b, m: xp.eye(2, 3, 1),
    ],
    "full": [
        lambda xp, a, b, m: xp.full((2, 2), 3),
        lambda xp, a, b, m: xp.full(3, 1.5, dtype=xp.float16),
    ],
    "full_like": [lambda xp, a, b, m: xp.full_like(a, 2)],
    "linspace": [lambda xp, a, b, m: xp.linspace(0.0, 1.0, 5)],
    "ones": [lambda xp, a, b, m: xp.ones((2, 3), dtype=xp.int8)],
    "ones_like": [lambda xp, a, b, m: xp.ones_like(a, dtype=xp.float64)],
    "zeros": [lambda xp, a, b, m: xp.zeros(()), lambda xp, a, b, m: xp.zeros(3, xp.float32)],
    "zeros_like": [lambda xp, a, b, m: xp.zeros_like(a)],
}


def _written(write, target, *args, **options):
    assert write(target, *args, **options) is None
    return target


def assert_same(result, expected, host, exact=False):
    """Equal dtype and shape, and values within 16 units in the last place."""
    result, expected = host(result), np.asarray(expected)
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    if exact or expected.dtype.kind not in "fc":
        np.testing.assert_array_equal(result, expected)
    else:
        tolerance = 16 * np.finfo(expected.dtype).eps
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


class TestWords:
    def test_every_word_is_in_both_namespaces(self, vocabulary):
        words = (*ELEMENTWISE, *FUNCTIONS, *QUESTIONS, *CONSTANTS, *EXTRAS, *ONCE, "result_type")
        assert [word for word in words if not hasattr(vocabulary, word)] == []

    def test_namespaces_have_the_same_words(self, cupy_standin):
        assert set(vars(namespace_of(cupy_standin))) == set(vars(numpy_namespace))

    def test_every_function_has_calls_in_the_table(self):
        assert sorted(CALLS) == sorted(FUNCTIONS)

    def test_words_are_listed_once(self):
        words = ELEMENTWISE + FUNCTIONS + QUESTIONS + CONSTANTS
        assert sorted(words) == sorted(set(words))

    def test_numpys_functions_are_numpys_own(self):
        for word in ELEMENTWISE + FUNCTIONS:
            module = np.linalg if word in DECOMPOSITIONS else np
            assert getattr(numpy_namespace, word) is getattr(module, word), word

    def test_missing_word_is_named(self, vocabulary):
        with pytest.raises(AttributeError, match="the vocabulary has no 'frobnicate'"):
            vocabulary.frobnicate  # noqa: B018

    def test_namespace_is_made_once(self, xp, vocabulary):
        assert namespace_of(xp) is vocabulary
        assert vocabulary.module is xp
        assert vocabulary.name == ("numpy" if xp is np else "cupy")

    def test_shared_word_enters_existing_and_new_namespaces(self, xp, host, monkeypatch):
        monkeypatch.setattr(vocabulary_module, "_shared", dict(vocabulary_module._shared))
        before = namespace_of(xp)

        def twice(xp, x):
            return xp.add(x, x)

        try:
            assert shared(twice) is twice
            assert host(before.twice(xp.ones(2))).tolist() == [2, 2]
            if xp is not np:
                vocabulary_module._namespaces.pop(xp)
            assert host(namespace_of(xp).twice(xp.ones(2))).tolist() == [2, 2]
        finally:
            vocabulary_module._namespaces[xp] = before
            for namespace in vocabulary_module._namespaces.values():
                vars(namespace).pop("twice", None)

    def test_differences_name_every_column(self):
        assert len({row.name for row in DIFFERENCES}) == len(DIFFERENCES)
        assert all(all(row) for row in DIFFERENCES)


class TestFunctions:
    @pytest.mark.parametrize(
        "word, call",
        [(word, call) for word, calls in CALLS.items() for call in calls],
        ids=[f"{word}-{i}" for word, calls in CALLS.items() for i in range(len(calls))],
    )
    def test_gives_what_numpy_gives(self, vocabulary, as_device, host, word, call):
        a, b, m = as_device(MATRIX), as_device(ROW), as_device(MASK)
        expected = call(numpy_namespace, MATRIX.copy(), ROW.copy(), MASK.copy())
        assert_same(call(vocabulary, a, b, m), expected, host)

    def test_max_with_where_needs_initial(self, vocabulary, as_device):
        with pytest.raises(ValueError, match="initial"):
            vocabulary.max(as_device(MATRIX), where=as_device(MASK))

    def test_max_of_nothing_raises(self, vocabulary, as_device):
        with pytest.raises(ValueError, match="zero-size"):
            vocabulary.max(as_device(np.zeros((0, 3))))

    def test_where_of_another_dtype_raises(self, vocabulary, as_device):
        a = as_device(MATRIX)
        with pytest.raises(TypeError):
            vocabulary.add(a, a, out=as_device(MATRIX), where=a)
        with pytest.raises(TypeError):
            vocabulary.sum(a, where=as_device(np.ones(MATRIX.shape, int)))

    def test_unknown_take_mode_raises(self, vocabulary, as_device):
        with pytest.raises(ValueError, match="mode"):
            vocabulary.take(as_device(ROW), [0], mode="bounce")


def _samples(word, dtype):
    """Return arguments within the domain of an elementwise function, two shapes that broadcast."""
    nin = getattr(np, word).nin
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        values = np.array([[0.25, 0.5, 0.75], [0.125, 0.875, 1.0]], dtype)
        if word == "arccosh":
            values = values + dtype.type(1)
    else:
        values = np.array([[1, 2, 3], [4, 0, 2]]).astype(dtype)
    second = np.array([1, 2, 1]).astype(dtype)
    if word == "ldexp":
        second = second.astype(np.int32)
    return (values, second)[:nin]


def _loops():
    for word in ELEMENTWISE:
        for dtype in (np.float16, np.float32, np.float64, np.int32, np.bool_):
            if word in ("floor", "ceil", "trunc") and dtype in (np.int32, np.bool_) and OLD_NUMPY:
                continue  # in DIFFERENCES
            try:
                with np.errstate(all="ignore"):
                    getattr(np, word)(*_samples(word, dtype))
            except TypeError:
                continue
            yield word, dtype


class TestElementwise:
    @pytest.mark.parametrize(
        "word, dtype", [pytest.param(w, d, id=f"{w}-{d.__name__}") for w, d in _loops()]
    )
    def test_gives_what_numpy_gives(self, vocabulary, as_device, host, word, dtype):
        samples = _samples(word, dtype)
        with np.errstate(all="ignore"):
            expected = getattr(np, word)(*samples)
            result = getattr(vocabulary, word)(*map(as_device, samples))
        if not isinstance(expected, tuple):
            result, expected = (result,), (expected,)
        for mine, numpys in zip(result, expected, strict=True):
            assert_same(mine, numpys, host)

    def test_where_writes_selected_elements_of_out_only(self, vocabulary, as_device, host):
        out = as_device(np.full((2, 3), 9, np.float32))
        result = vocabulary.log(as_device(MATRIX), out=out, where=as_device(MATRIX > 0))
        assert result is out
        with np.errstate(invalid="ignore"):
            assert_same(out, np.where(MATRIX > 0, np.log(MATRIX), np.float32(9)), host)

    def test_where_broadcasts_the_result(self, vocabulary, as_device, host):
        m = as_device([[True], [False]])
        out = as_device(np.zeros((2, 3), np.float32))
        vocabulary.negative(as_device(ROW), out=out, where=m)
        assert_same(out, np.array([-ROW, [0, 0, 0]], np.float32), host)
        selected = vocabulary.add(as_device(ROW), 1, out=None, where=m)
        assert selected.shape == (2, 3)
        assert_same(selected[0], ROW + 1, host)
        selected[1] = 0  # its rows are not one row shown twice
        assert_same(selected[0], ROW + 1, host)

    def test_where_false_writes_nothing(self, vocabulary, as_device, host):
        out = as_device(ROW)
        vocabulary.add(out, 1, out=out, where=False)
        assert_same(out, ROW, host)

    def test_out_by_position(self, vocabulary, as_device, host):
        out = as_device(np.zeros(3, np.float32))
        assert vocabulary.add(as_device(ROW), 1, out) is out
        assert_same(out, ROW + 1, host)
        outs = as_device(np.zeros(3, np.float32)), as_device(np.zeros(3, np.float32))
        vocabulary.divmod(as_device(ROW), as_device(ROW + 9), *outs)
        for mine, numpys in zip(outs, np.divmod(ROW, ROW + 9), strict=True):
            assert_same(mine, numpys, host)

    def test_out_of_two_results(self, vocabulary, as_device, host):
        outs = as_device(np.zeros(3, np.float32)), as_device(np.zeros(3, np.float32))
        results = vocabulary.modf(as_device(ROW / 4), out=outs)
        assert results[0] is outs[0]
        for mine, numpys in zip(outs, np.modf(ROW / 4), strict=True):
            assert_same(mine, numpys, host)

    def test_out_narrower_than_the_result(self, vocabulary, as_device, host):
        out = as_device(np.zeros(3, np.float16))
        vocabulary.add(as_device(ROW), 1, out=out, where=as_device([True, True, False]))
        assert_same(out, np.array([3, -2, 0], np.float16), host)
        with pytest.raises(TypeError):
            vocabulary.add(as_device(ROW), 1, out=as_device([1, 2, 3]), where=as_device(MASK[0]))
        whole, mask = as_device(np.array([7, 7, 7])), as_device([True, True, False])
        vocabulary.add(as_device(ROW), 1, out=whole, where=mask, casting="unsafe")
        assert_same(whole, np.array([3, -2, 7]), host)

    def test_dtype_of_the_computation(self, vocabulary, as_device, host):
        result = vocabulary.add(as_device(ROW), 1, dtype=np.float64)
        assert_same(result, ROW.astype(np.float64) + 1, host)

    @pytest.mark.parametrize("scalar", [2.0, 2, True, np.float32(2), np.float64(2), np.array(2.0)])
    def test_scalars_promote_as_in_numpy(self, vocabulary, as_device, host, scalar):
        for dtype in (np.float16, np.float32, np.int8):
            x = np.array([1, 2, 3], dtype)
            assert_same(vocabulary.multiply(as_device(x), scalar), x * scalar, host)
            assert_same(vocabulary.multiply(scalar, as_device(x)), scalar * x, host)

    def test_full_reduction_is_an_operand(self, vocabulary, as_device, host):
        x = as_device(ROW)
        assert_same(vocabulary.divide(x, vocabulary.sum(x)), ROW / ROW.sum(), host)
        assert_same(vocabulary.subtract(x, vocabulary.max(x)), ROW - ROW.max(), host)


class TestHostArraysAreRefused:
    """Nothing crosses the bus unseen, whatever CuPy itself would allow."""

    HOST = np.ones(3, np.float32)

    @pytest.mark.parametrize(
        "call",
        [
            lambda xp, x, h: xp.add(x, h),
            lambda xp, x, h: xp.add(h, x, out=x),
            lambda xp, x, h: xp.add(x, 1, out=h),
            lambda xp, x, h: xp.add(x, 1, out=x, where=h > 0),
            lambda xp, x, h: xp.sum(h),
            lambda xp, x, h: xp.sum(x, where=h > 0),
            lambda xp, x, h: xp.max(h),
            lambda xp, x, h: xp.mean(h),
            lambda xp, x, h: xp.any(h),
            lambda xp, x, h: xp.argmax(h),
            lambda xp, x, h: xp.where(h > 0, x, x),
            lambda xp, x, h: xp.where(x > 0, x, h),
            lambda xp, x, h: xp.clip(x, h, None),
            lambda xp, x, h: xp.matmul(x, h),
            lambda xp, x, h: xp.matmul(x, x, out=h),
            lambda xp, x, h: xp.einsum("i,i->", x, h),
            lambda xp, x, h: xp.reshape(h, (3, 1)),
            lambda xp, x, h: xp.sort(h),
            lambda xp, x, h: xp.take(h, [0]),
            lambda xp, x, h: xp.asarray(h),
            lambda xp, x, h: xp.array(h),
            lambda xp, x, h: xp.ascontiguousarray(h),
            lambda xp, x, h: xp.put(x, slice(None), h),
            lambda xp, x, h: xp.add_at((3,), h.dtype, slice(None), h),
        ],
    )
    def test_raises_device_mismatch(self, cupy_standin, call):
        with pytest.raises(DeviceMismatchError, match=r"host array \(.*shape \(3,\)\)"):
            call(namespace_of(cupy_standin), cupy_standin.ones(3), self.HOST)


def test_namespace_shows_its_library(vocabulary):
    assert isinstance(vocabulary, Namespace)
    assert repr(vocabulary) == f"<gpugrad vocabulary on {vocabulary.name}>"
