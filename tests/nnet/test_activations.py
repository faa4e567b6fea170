"""Activations: mygrad's values and gradients, kinks, limits, dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad import nnet
from tests.differences import assert_second_derivative
from tests.nnet.against_mygrad import OURS, THEIRS, assert_same_calculus, assert_same_error

X = np.random.default_rng(0).uniform(-3, 3, (3, 4, 6))
CALLS = {
    "elu": lambda m, x: m.elu(x, 0.7),
    "elu, alpha of one element": lambda m, x: m.elu(x, np.array([0.3])),
    "elu, alpha a tensor": lambda m, x: m.elu(x, m.tensor(0.3)),
    "glu": lambda m, x: m.glu(x),
    "glu, axis": lambda m, x: m.glu(x, axis=1),
    "glu, axis an array": lambda m, x: m.glu(x, np.array(1)),
    "hard_tanh": lambda m, x: m.hard_tanh(x),
    "hard_tanh, bounds": lambda m, x: m.hard_tanh(x, lower_bound=-0.2, upper_bound=np.array(2.0)),
    "hard_tanh, bounds crossed": lambda m, x: m.hard_tanh(x, lower_bound=1, upper_bound=-1),
    "leaky_relu": lambda m, x: m.leaky_relu(x, 0.1),
    "leaky_relu, slope 0": lambda m, x: m.leaky_relu(x, 0),
    "leaky_relu, slope over 1": lambda m, x: m.leaky_relu(x, 1.5),
    "leaky_relu, slope below 0": lambda m, x: m.leaky_relu(x, -1),
    "relu": lambda m, x: m.relu(x),
    "selu": lambda m, x: m.selu(x),
    "sigmoid": lambda m, x: m.sigmoid(x),
    "soft_sign": lambda m, x: m.soft_sign(x),
    "tanh": lambda m, x: m.tanh(x),
    "softmax": lambda m, x: m.softmax(x),
    "softmax, axis": lambda m, x: m.softmax(x, 0),
    "softmax, axes": lambda m, x: m.softmax(x, axis=(0, 2)),
    "softmax, all": lambda m, x: m.softmax(x, axis=None),
    "logsoftmax": lambda m, x: m.logsoftmax(x),
    "logsoftmax, axis": lambda m, x: m.logsoftmax(x, 1),
    "logsoftmax, axes": lambda m, x: m.logsoftmax(x, axis=(0, -1)),
    "logsoftmax, all": lambda m, x: m.logsoftmax(x, axis=None),
}
ELEMENTWISE = [name for name in CALLS if not name.startswith(("glu", "softmax", "logsoftmax"))]
each = pytest.mark.parametrize("name", CALLS)


@each
def test_values_gradients_and_constants_are_mygrads(name: str):
    assert_same_calculus(CALLS[name], X)


@each
def test_keyword_constant_makes_a_constant(name: str):
    function, _, _ = name.partition(",")
    more = {"elu": (0.7,), "leaky_relu": (0.1,)}.get(function, ())
    y = getattr(nnet, function)(gg.tensor(X), *more, constant=True)
    assert y.constant


@pytest.mark.parametrize(
    "name", [n for n in CALLS if not n.startswith("glu") and n != "elu, alpha of one element"]
)
@pytest.mark.parametrize("shape", [(), (1,), (0, 2), (1, 0, 3)])
def test_single_numbers_and_empty_arrays(name: str, shape: tuple[int, ...]):
    if (name.endswith("axes") and len(shape) < 3) or (name.startswith("log") and 0 in shape):
        pytest.skip("mygrad has no value there")
    if name.endswith("axis") and len(shape) < 2:
        pytest.skip("there is no such axis")
    assert_same_calculus(CALLS[name], np.full(shape, -0.3))


@pytest.mark.parametrize("name", ["softmax", "logsoftmax"])
def test_softmax_of_nothing_is_nothing(name: str):
    x = gg.tensor(np.ones((2, 0)))
    y = getattr(nnet, name)(x)
    y.backward()
    assert y.shape == x.grad.shape == (2, 0)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_at_the_kinks_gradients_are_mygrads(name: str):
    assert_same_calculus(CALLS[name], np.array([-1.0, -0.2, -0.0, 0.0, 1.0, 2.0]))


@pytest.mark.parametrize(
    "name, x, y, dx",
    [
        ("relu", [-1e300, 0.0, 1e300], [0.0, 0.0, 1e300], [0.0, 0.0, 1.0]),
        ("relu", [-np.inf, np.inf], [0.0, np.inf], [0.0, 1.0]),
        ("elu", [-1e4, 0.0, 1e4], [-0.7, 0.0, 1e4], [0.0, 1.0, 1.0]),
        ("selu", [-1e4, 1e4], [-1.7580993408473766, 10507.009873554805], [0.0, 1.0507009873554805]),
        ("soft_sign", [-1e8, 0.0], [-1e8 / (1e8 + 1), 0.0], [(1e8 + 1) ** -2, 1.0]),
        ("hard_tanh", [-1e4, 0.5, 1e4], [-1.0, 0.5, 1.0], [0.0, 1.0, 0.0]),
        ("leaky_relu", [-np.inf, 0.0, np.inf], [-np.inf, 0.0, np.inf], [0.1, 0.0, 1.0]),
        ("sigmoid", [-1e4, 1e4], [0.0, 1.0], [0.0, 0.0]),
    ],
)
def test_limits_without_a_warning(name: str, x: Any, y: Any, dx: Any, device: str):
    t = gg.tensor(x, device=device)
    more = {"elu": (0.7,), "leaky_relu": (0.1,)}.get(name, ())
    result = getattr(nnet, name)(t, *more)
    np.testing.assert_allclose(gg.asnumpy(result), y, rtol=1e-14)
    result.backward()
    np.testing.assert_allclose(gg.asnumpy(t.grad), dx, rtol=1e-14)


@pytest.mark.parametrize("f, at", [(nnet.relu, (-1.0, 2.0)), (nnet.hard_tanh, (2.0, 0.5))])
def test_infinite_cotangent_is_kept_out_where_the_function_is_flat(f: Any, at: Any, device: str):
    x = gg.tensor(at, device=device)
    f(x).backward(np.inf)
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [0.0, np.inf])


def test_nan_stays_nan(device: str):
    x = gg.tensor([np.nan, 1.0], device=device)
    more = {"elu": (0.7,), "leaky_relu": (0.1,)}
    for name in ("relu", "elu", "selu", "leaky_relu", "hard_tanh", "soft_sign"):
        y = gg.asnumpy(getattr(nnet, name)(x, *more.get(name, ())))
        assert list(np.isnan(y)) == [True, False], name


@pytest.mark.parametrize("scale", [1e4, 1e300])
def test_softmax_of_large_numbers(scale: float, device: str):
    x = gg.tensor([[scale, scale, -scale], [-scale, 0.0, scale]], device=device)
    y = nnet.softmax(x)
    np.testing.assert_array_equal(gg.asnumpy(y), [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    y.backward(gg.tensor([[1.0, 0.0, 5.0], [1.0, 2.0, 3.0]], device=device))
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [[0.25, -0.25, 0.0], [0.0, 0.0, 0.0]])


def test_logsoftmax_is_finite_where_the_softmax_underflows(device: str):
    x = gg.tensor([1e4, 0.0, -1e4], device=device)
    y = nnet.logsoftmax(x)
    np.testing.assert_array_equal(gg.asnumpy(y), [0.0, -1e4, -2e4])
    y[2].backward()
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [-1.0, 0.0, 1.0])
    hessian = gg.asnumpy(gg.hessian(lambda x: nnet.logsoftmax(x).sum())(x))
    np.testing.assert_array_equal(hessian, np.zeros((3, 3)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@each
def test_precision_is_that_of_the_operand(name: str, dtype: Any, device: str):
    if name.endswith(("alpha of one element", "alpha a tensor", "axis an array", "bounds")):
        pytest.skip("mygrad's ways to write a parameter")
    x = gg.tensor(X.astype(dtype), device=device)
    m = nnet
    y = CALLS[name](m, x)
    y.backward()
    assert y.dtype == x.grad.dtype == dtype
    expected = gg.asnumpy(CALLS[name](m, gg.tensor(X.astype(dtype).astype(float))))
    np.testing.assert_allclose(gg.asnumpy(y), expected, rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["elu", "leaky_relu"])
def test_parameter_of_float64_does_not_widen_float32(name: str):
    x = gg.tensor(X.astype(np.float32))
    for parameter in (np.float64(0.5), np.array(0.5), gg.tensor([0.5])):
        assert getattr(nnet, name)(x, parameter).dtype == np.float32


@pytest.mark.parametrize("name", [n for n in CALLS if not n.startswith("glu")])
def test_integers_are_taken_as_by_mygrad_and_give_constants(name: str):
    x = np.arange(-3, 21).reshape(2, 3, 4)
    y, expected = CALLS[name](OURS, gg.tensor(x)), CALLS[name](THEIRS, THEIRS.tensor(x))
    assert y.constant and expected.constant
    np.testing.assert_allclose(gg.asnumpy(y), expected.data, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "function, call",
    [
        ("elu", lambda m: m.elu(m.tensor(X), "a")),
        ("elu", lambda m: m.elu(m.tensor(X), None)),
        ("elu", lambda m: m.elu(m.tensor(X), 1j)),
        ("leaky_relu", lambda m: m.leaky_relu(m.tensor(X), [0.1])),
        ("leaky_relu", lambda m: m.leaky_relu(m.tensor(X), "a")),
        ("hard_tanh", lambda m: m.hard_tanh(m.tensor(X), lower_bound="a")),
        ("hard_tanh", lambda m: m.hard_tanh(m.tensor(X), upper_bound=None)),
        ("glu", lambda m: m.glu(m.tensor(X), axis=1.0)),
        ("glu", lambda m: m.glu(m.tensor(X), axis="a")),
        ("glu", lambda m: m.glu(m.tensor(X), axis=3)),
        ("glu", lambda m: m.glu(m.tensor(X), axis=0)),
        ("softmax", lambda m: m.softmax(m.tensor(X), axis=3)),
        ("logsoftmax", lambda m: m.logsoftmax(m.tensor(X), axis=(0, 5))),
    ],
)
def test_bad_parameters_raise_what_mygrad_raises(function: str, call: Any):
    assert_same_error(call, function)


@pytest.mark.parametrize("call", [lambda m, a: m.elu(a, a), lambda m, a: m.leaky_relu(a, a)])
def test_parameter_of_several_elements_raises_as_in_numpy(call: Any):
    with pytest.raises(ValueError, match=r"has shape \(.*\), expected one number"):
        call(nnet, np.ones(3))


@each
def test_gradient_of_the_gradient_is_the_derivative_of_the_gradient(name: str):
    # along a direction, against differences; none of the points lies near a kink
    x = X + 0.05 * np.sign(X)
    u = np.random.default_rng(1).normal(size=x.shape)

    def f(t: gg.Tensor) -> gg.Tensor:
        y = CALLS[name](OURS, t)
        return (y * y * y).sum()

    assert_second_derivative(f, x, u, 1e-6)
