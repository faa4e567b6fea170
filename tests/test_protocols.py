"""NumPy's functions on tensors are gpugrad's functions, and lose no gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad import protocols
from gpugrad.ops import comparison, creation
from gpugrad.ops.namespace import PUBLIC
from gpugrad.ufunc import UFuncMethodError

X = np.array([[0.5, 1.0, 2.0], [3.0, 0.25, 1.5]])
CALLS = {
    "sum": lambda m, x: m.sum(x, axis=0),
    "mean": lambda m, x: m.mean(x, axis=1, keepdims=True),
    "max": lambda m, x: m.max(x, axis=-1),
    "amin": lambda m, x: m.amin(x),
    "reshape": lambda m, x: m.reshape(x, (3, 2)),
    "transpose": lambda m, x: m.transpose(x, (1, 0)),
    "swapaxes": lambda m, x: m.swapaxes(x, 0, 1),
    "moveaxis": lambda m, x: m.moveaxis(x, 0, -1),
    "expand_dims": lambda m, x: m.expand_dims(x, 0),
    "squeeze": lambda m, x: m.squeeze(x[:1]),
    "ravel": lambda m, x: m.ravel(x),
    "broadcast_to": lambda m, x: m.broadcast_to(x, (2, 2, 3)),
    "concatenate": lambda m, x: m.concatenate([x, x], axis=1),
    "stack": lambda m, x: m.stack((x, x)),
    "where": lambda m, x: m.where(x > 1, x, 0.0),
    "clip": lambda m, x: m.clip(x, 0.6, 1.7),
    "matmul": lambda m, x: m.matmul(x, x.T),
}
UNARY = ("exp", "log", "sqrt", "tanh", "square", "negative", "absolute", "cbrt", "log1p")
BINARY = ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "logaddexp")
for _name in UNARY:
    CALLS[_name] = lambda m, x, name=_name: getattr(m, name)(x)
for _name in BINARY:
    CALLS[_name] = lambda m, x, name=_name: getattr(m, name)(x, x[0] * 2.0)
    CALLS[f"{_name} of an array and a tensor"] = lambda m, x, name=_name: getattr(m, name)(X, x)


@pytest.mark.parametrize("name", CALLS)
def test_numpys_function_is_gpugrads(name: str):
    call = CALLS[name]
    found, expected = [], []
    for m, results in ((np, found), (gg, expected)):
        x = gg.tensor(X)
        y = call(m, x)
        assert type(y) is gg.Tensor
        assert y.creator is not None
        (y * y).backward()
        results += [y.data, x.grad]
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], call(np, X), rtol=1e-15)


def test_array_on_the_left_gives_a_tensor():
    x = gg.tensor(X)
    for y in (X + x, X - x, X * x, X / x, X**x, X @ x.T, np.float64(2) * x, np.float32(2) - x):
        assert type(y) is gg.Tensor
        assert not y.constant
    for answer in (x < X, np.float64(1) == x, X >= x):
        assert type(answer) is np.ndarray


class Subclass(np.ndarray):
    """As np.matrix and np.memmap are."""


class Foreign:
    """An array of another library: its dtype is not NumPy's."""

    dtype = "float64 of another library"

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return X


def test_other_classes_of_arrays_are_taken_as_numpys():
    x = gg.tensor(X)
    for other in (X.view(Subclass), np.ma.array(X), Foreign()):
        for y in (x * other, gg.multiply(other, x)):
            assert type(y) is gg.Tensor
            assert type(y.data) is np.ndarray
            y.backward()
            np.testing.assert_array_equal(x.grad, X)


def test_out_and_where_through_numpy():
    x, y = gg.tensor(X), gg.tensor(X * 0)
    assert np.add(x, 1.0, out=y) is y
    assert np.multiply(x, 2.0, out=(y,), where=X > 1) is y
    np.testing.assert_array_equal(y, np.where(X > 1, 2 * X, X + 1))
    y.backward()
    np.testing.assert_array_equal(x.grad, np.where(X > 1, 2.0, 1.0))
    total = gg.tensor(np.zeros(3))
    assert np.sum(x, axis=0, out=total) is total
    np.testing.assert_array_equal(total, X.sum(axis=0))


def test_array_as_out_of_numpys_function_shows_the_result():
    x, array = gg.tensor(X), np.zeros((2, 3))
    y = np.exp(x, out=array)
    assert type(y) is gg.Tensor
    assert y.data is array
    np.testing.assert_array_equal(array, np.exp(X))


def test_augmented_assignment_of_an_array_by_a_tensor_loses_no_gradient():
    x, array = gg.tensor(X), X.copy()
    array += x
    assert type(array) is gg.Tensor
    array.sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones((2, 3)))


def test_gradient_is_of_the_operand_as_it_was_before_the_write(as_device: Any, host: Any):
    x = gg.tensor(as_device([3.0, 4.0, 5.0]))
    whole, shifted = as_device([1.0, 2.0, 3.0]), as_device([1.0, 2.0, 3.0])
    whole *= x
    whole.backward()
    np.testing.assert_array_equal(host(x.grad), [1.0, 2.0, 3.0])
    gg.multiply(shifted[:2], x[:2], out=shifted[1:]).backward()
    np.testing.assert_array_equal(host(x.grad), [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(host(shifted), [1.0, 3.0, 8.0])


def test_dtype_through_numpy():
    x = gg.tensor(X, dtype=np.float32)
    assert np.add(x, x, dtype=np.float64).dtype == np.float64
    assert np.sum(x, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("name", comparison.CONSTANT_ONLY)
def test_piecewise_constant_functions_refuse_variables(name: str):
    function = getattr(np, name)
    args = (2.0,) if function.nin == 2 else ()
    with pytest.raises(ValueError, match="takes gradients"):
        function(gg.tensor(X), *args)
    found = function(gg.tensor(X, constant=True), *args)
    for a, b in zip(np.atleast_1d(found), np.atleast_1d(function(X, *args))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", comparison.QUESTIONS)
def test_questions_through_numpy_give_arrays(name: str):
    function = getattr(np, name)
    args = (1.0,) if function.nin == 2 else ()
    found = function(gg.tensor(X), *args)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, function(X, *args))


def test_questions_about_arrays_are_numpys():
    x = gg.tensor(X)
    assert np.shape(x) == (2, 3)
    assert np.ndim(x) == 2
    assert np.size(x) == 6
    assert np.allclose(x, X)
    assert np.array_equal(x, X)
    assert np.shares_memory(x, x[0])
    assert np.may_share_memory(x, x[0])
    assert np.result_type(x, np.float32) == np.float64
    np.testing.assert_allclose(x, X)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.linalg.lstsq(x, X),
        lambda x: np.fft.fft(x),
        lambda x: np.nanmedian(x),
        lambda x: np.heaviside(x, 0.0),
        lambda x: np.add.reduce(x),
        lambda x: np.multiply.outer(x, x),
        lambda x: np.add.at(x, 0, 1.0),
        lambda x: np.frexp(x),
        lambda x: np.linspace(x, 9.0, 3),
        lambda x: gg.full((3,), x[0, 0]),
        lambda x: gg.full_like(X, x[0, 0]),
    ],
)
def test_functions_without_a_gradient_refuse_rather_than_lose_it(call: Any):
    with pytest.raises((TypeError, NotImplementedError)):
        call(gg.tensor(X))


def test_creation_like_functions_take_tensors():
    x = gg.tensor(X, dtype=np.float32)
    for name in ("zeros_like", "ones_like"):
        y = getattr(np, name)(x)
        assert (type(y), y.shape, y.dtype) == (gg.Tensor, (2, 3), np.float32)
    assert set(creation.__all__) <= set(PUBLIC)


@pytest.mark.parametrize(
    "call",
    [
        lambda cp, a, x: a * x,
        lambda cp, a, x: cp.multiply(a, x),
        lambda cp, a, x: cp.exp(x) * a,
        lambda cp, a, x: cp.true_divide(x, a),
        lambda cp, a, x: a - x,
    ],
)
def test_cupys_functions_and_operators_keep_the_gradient(call: Any, cupy_standin: Any):
    a = cupy_standin.asarray(X)
    x = gg.tensor(a)
    y = call(cupy_standin, a, x)
    assert type(y) is gg.Tensor
    y.backward()
    host = gg.tensor(X)
    call(np, X, host).backward()
    np.testing.assert_allclose(gg.asnumpy(x.grad), host.grad, rtol=1e-15)
    with pytest.raises(TypeError, match="gpugrad has no derivative of heaviside"):
        cupy_standin.heaviside(x, 0.5)


def test_other_classes_may_claim_an_operation():
    class Other:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "radd"

        def __rpow__(self, other: Any) -> str:
            return "rpow"

    assert gg.tensor(1.0) + Other() == "radd"
    assert gg.tensor(1.0) ** Other() == "rpow"


def test_question_about_arrays_of_two_devices_names_both(cupy_standin: Any):
    with pytest.raises(gg.DeviceMismatchError, match=r"allclose: .* is on cuda:0, .* is on cpu"):
        np.allclose(gg.tensor(X, device="cuda"), X)


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy's clip had not them"
)
def test_clip_takes_the_bounds_by_their_newer_names():
    x = gg.tensor([-1.0, 0.5, 3.0])
    y = np.clip(x, min=0.0, max=2.0)
    np.testing.assert_array_equal(y, [0.0, 0.5, 2.0])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(np.clip(x, max=2.0), [-1.0, 0.5, 2.0])


def test_answer_written_to_a_tensor_is_that_tensor():
    x = gg.tensor([1.0, np.inf])
    flags, place = gg.tensor([True, True]), gg.tensor(5)
    assert np.isfinite(x, out=flags) is flags
    assert flags.data.tolist() == [True, False]
    assert np.argmax(x, out=place) is place
    assert place.item() == 1


def test_argument_that_numpy_calls_not_given_is_not_given():
    x = gg.tensor([[1.0, 2.0]])
    assert np.sum(x, axis=1, keepdims=np._NoValue).shape == (1,)


def test_override_of_a_ufunc_leaves_its_methods_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(protocols._OVERRIDES, np.add, lambda *x: "overridden")
    x = gg.tensor([1.0])
    assert np.add(x, x) == "overridden"
    with pytest.raises(UFuncMethodError):
        np.add.reduce(x)
