"""CuPy's functions, and its arrays' operators, reach gpugrad: no gradient is lost on the GPU."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.numpy_functions import ANSWERED
from gpugrad.ops import comparison
from gpugrad.protocols import supported
from tests.op_table import ELEMENTWISE, Elementwise

X = np.array([[0.5, 1.0, 2.0], [3.0, 0.25, 1.5]])
OPERATORS = (
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.matmul,
)
AUGMENTED = (
    operator.iadd,
    operator.isub,
    operator.imul,
    operator.itruediv,
    operator.ipow,
)
COMPARISONS = (
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
)
by_name = {"ids": lambda f: f.__name__}


def host_gradient(f: Any) -> tuple[np.ndarray, np.ndarray]:
    x = gg.tensor(X)
    y = f(X + 0.5, x)
    y.backward()
    return y.data, x.grad


def assert_as_on_the_host(f: Any, as_device: Any) -> None:
    x = gg.tensor(as_device(X))
    y = f(as_device(X + 0.5), x)
    assert type(y) is gg.Tensor
    assert y.device == x.device
    y.backward()
    value, gradient = host_gradient(f)
    np.testing.assert_allclose(gg.asnumpy(y), value, rtol=1e-14)
    np.testing.assert_allclose(gg.asnumpy(x.grad), gradient, rtol=1e-14)


@pytest.mark.parametrize("op", OPERATORS, **by_name)
def test_raw_array_on_the_left_of_an_operator(op: Any, as_device: Any):
    if op is operator.matmul:
        assert_as_on_the_host(lambda a, x: op(a, x.T), as_device)
    else:
        assert_as_on_the_host(op, as_device)


@pytest.mark.parametrize("op", OPERATORS, **by_name)
def test_raw_array_on_the_right_of_an_operator(op: Any, as_device: Any):
    if op is operator.matmul:
        assert_as_on_the_host(lambda a, x: op(x, a.T), as_device)
    else:
        assert_as_on_the_host(lambda a, x: op(x, a), as_device)


@pytest.mark.parametrize("op", AUGMENTED, **by_name)
def test_augmented_assignment_of_a_raw_array_to_a_tensor(op: Any, as_device: Any):
    assert_as_on_the_host(lambda a, x: op(x * 1.0, a), as_device)


@pytest.mark.parametrize("op", AUGMENTED, **by_name)
def test_augmented_assignment_of_a_tensor_to_a_raw_array(op: Any, as_device: Any):
    assert_as_on_the_host(lambda a, x: op(a * 1.0, x), as_device)


@pytest.mark.parametrize("index", [0, (slice(None), 1), [1, 0], (0, [0, 2]), Ellipsis])
def test_raw_array_written_into_a_tensor(index: Any, as_device: Any):
    def write(a: Any, x: Any) -> Any:
        y = x * 2.0
        y[index] = a[index] * 3.0
        return y * y

    assert_as_on_the_host(write, as_device)


def test_tensor_written_into_a_tensor(as_device: Any):
    def write(a: Any, x: Any) -> Any:
        y = gg.tensor(a)
        y[1] = x[0] * x[1]
        return y * y

    assert_as_on_the_host(write, as_device)


@pytest.mark.parametrize("op", COMPARISONS, **by_name)
def test_comparisons_give_arrays_of_the_library(op: Any, as_device: Any, xp: Any):
    a, x = as_device(X), gg.tensor(as_device(X.T[::-1].T))
    for found, expected in ((op(a, x), op(X, X.T[::-1].T)), (op(x, a), op(X.T[::-1].T, X))):
        assert type(found) is xp.ndarray
        np.testing.assert_array_equal(gg.asnumpy(found), expected)


@pytest.mark.parametrize(
    "f", [f for f in ELEMENTWISE if supported(f.name) is not None], ids=lambda f: f.name
)
def test_elementwise_function_of_the_library_is_gpugrads(f: Elementwise, xp: Any, device: str):
    library = getattr(xp, f.name, None)
    if library is None:
        pytest.skip(f"{xp.__name__} has no {f.name}")
    row = f.row(*((2, 3),) * len(f.domains))
    found = []
    for function in (library, getattr(gg, f.name)):
        xs = [gg.tensor(x, device=device) for x in row.draw()]
        y = function(*xs)
        assert type(y) is gg.Tensor
        y.backward()
        found.append([gg.asnumpy(y)] + [gg.asnumpy(x.grad) for x in xs])
    for through_library, directly in zip(*found):
        np.testing.assert_array_equal(through_library, directly)


def test_out_of_the_librarys_function(xp: Any, as_device: Any):
    x, out = gg.tensor(as_device(X)), gg.tensor(as_device(X * 0))
    assert xp.exp(x, out=out) is out
    out.backward()
    np.testing.assert_allclose(gg.asnumpy(x.grad), np.exp(X), rtol=1e-14)
    raw = as_device(X * 0)
    y = xp.multiply(x, 2.0, raw)
    assert y.data is raw
    np.testing.assert_array_equal(gg.asnumpy(raw), 2 * X)


def test_dtype_of_the_librarys_function(xp: Any, as_device: Any):
    x = gg.tensor(as_device(X.astype(np.float32)))
    assert xp.add(x, x, dtype=np.float64).dtype == np.float64


def test_questions_of_the_library_answer_with_its_arrays(xp: Any, as_device: Any):
    x = gg.tensor(as_device(X))
    for name in sorted(ANSWERED & set(comparison.QUESTIONS)):
        args = (1.0,) * (getattr(np, name).nin - 1)
        found = getattr(xp, name)(x, *args)
        assert type(found) is xp.ndarray
        np.testing.assert_array_equal(gg.asnumpy(found), getattr(np, name)(X, *args))


def test_functions_without_a_rule_refuse_variables_and_answer_for_constants(
    xp: Any, as_device: Any
):
    x, c = gg.tensor(as_device(X)), gg.tensor(as_device(X), constant=True)
    with pytest.raises(TypeError, match=r"heaviside: got a tensor .* that takes gradients"):
        xp.heaviside(x, 0.5)
    np.testing.assert_array_equal(gg.asnumpy(xp.heaviside(c, 0.5)), np.heaviside(X, 0.5))
    for name in ("floor", "rint", "sign"):
        with pytest.raises(ValueError, match="takes gradients"):
            getattr(xp, name)(x)
        np.testing.assert_array_equal(gg.asnumpy(getattr(xp, name)(c)), getattr(np, name)(X))


@pytest.fixture(params=["cupy-standin", pytest.param("cupy", marks=pytest.mark.gpu)])
def cp(request: pytest.FixtureRequest) -> Any:
    """CuPy, or its stand-in."""
    if request.param == "cupy-standin":
        return request.getfixturevalue("cupy_standin")
    return pytest.importorskip("cupy", reason="CuPy is not installed")


def test_tensor_assigned_into_a_raw_array_is_refused(cp: Any):
    a, x = cp.asarray(X), gg.tensor(cp.asarray(X * 2))
    for index in (0, [1, 0]):
        with pytest.raises(TypeError):
            a[index] = x[index]
    np.testing.assert_array_equal(a.get(), X)
    a[0] = x.data[0]
    np.testing.assert_array_equal(a.get(), [X[0] * 2, X[1]])


@pytest.mark.parametrize(
    "call",
    [
        lambda cp, x: cp.sum(x),
        lambda cp, x: cp.matmul(x, x.T),
        lambda cp, x: cp.concatenate([x, x]),
        lambda cp, x: cp.where(x > 1, x, 0.0),
        lambda cp, x: cp.einsum("ij->i", x),
        lambda cp, x: cp.asarray(x),
        lambda cp, x: cp.linalg.norm(x),
        lambda cp, x: cp.nan_to_num(x),
        lambda cp, x: cp.clip(x, 0.6, 1.7),
        lambda cp, x: cp.transpose(x),
        lambda cp, x: np.asarray(x),
    ],
)
def test_function_that_asks_no_operand_raises_or_keeps_the_gradient(call: Any, cp: Any):
    x = gg.tensor(cp.asarray(X))
    try:
        y = call(cp, x)
    except (TypeError, AttributeError, ValueError):
        return
    assert type(y) is gg.Tensor
    y.backward()
    assert x.grad is not None


def test_where_of_cupys_is_gpugrads(cp: Any):
    assert_as_on_the_host(
        lambda a, x: (np if type(a) is np.ndarray else cp).where(a > 1.2, x, 0.0), cp.asarray
    )


def test_numpys_functions_stay_on_the_device(as_device: Any):
    for f in (
        lambda a, x: np.sum(x * a, axis=0),
        lambda a, x: np.matmul(a, x.T),
        lambda a, x: np.concatenate([a, x], axis=1),
        lambda a, x: np.where(a > 1, x, a),
        lambda a, x: np.einsum("ij,ij->i", a, x),
        lambda a, x: np.linalg.norm(x - a, axis=1),
        lambda a, x: np.stack((x, a)),
    ):
        assert_as_on_the_host(f, as_device)
