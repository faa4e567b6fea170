"""Ufuncs, reductions and overrides of NumPy's functions, as MyGrad's programs write them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import gpugrad as gg
from gpugrad import protocols
from gpugrad.operation_base import (
    BinaryUfunc,
    Sequential,
    UnaryUfunc,
    _NoValue,
    _NoValueType,
    reduce_broadcast,
)
from tests.own_operations import Multiply

# modules that are made when gpugrad is imported
from gpugrad.tensor_base import implements_numpy_override  # isort: skip
from gpugrad.ufuncs import ufunc_creator  # isort: skip

# ----------------------------------------------------------------------------------------- classes


class Masked(BinaryUfunc):
    numpy_ufunc = np.multiply

    def backward_var(self, grad, index, **kwargs):
        return grad * self.variables[1 - index].data


def test_masked_ufunc_passes_gradient_inside_the_mask_and_to_out_outside():
    x, y, t = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0]), gg.tensor([5.0, 6.0])
    out = +t
    gg.execute_op(Masked, x, y, op_kwargs={"where": np.array([True, False])}, out=out)
    np.testing.assert_array_equal(out.data, [3.0, 6.0])
    out.backward()
    np.testing.assert_array_equal(x.grad, [3.0, 0.0])
    np.testing.assert_array_equal(t.grad, [0.0, 1.0])


def test_gradient_outside_the_mask_is_selected_not_multiplied():
    class Infinite(Masked):
        def backward_var(self, grad, index, **kwargs):
            return np.array([1.0, np.inf])

    x = gg.tensor([1.0, 2.0])
    mask = {"where": [True, False]}
    gg.execute_op(Infinite, x, x, op_kwargs=mask, out=gg.zeros(2, dtype=float)).backward()
    np.testing.assert_array_equal(x.grad, [2.0, 0.0])


def test_unary_ufunc_runs_on_either_device(device):
    class Sine(UnaryUfunc):
        numpy_ufunc = np.sin

        def backward_var(self, grad, index, **kwargs):
            return grad * gg.cos(self.variables[0], constant=True).data

    x = gg.tensor([0.0, 1.0], device=device)
    y = gg.execute_op(Sine, x)
    y.backward()
    np.testing.assert_allclose(gg.asnumpy(y), np.sin([0.0, 1.0]))
    np.testing.assert_allclose(gg.asnumpy(x.grad), np.cos([0.0, 1.0]))


class Total(Sequential):
    numpy_func = staticmethod(np.sum)

    def backward_var(self, grad, index, **kwargs):
        (x,) = self.variables
        if self.axis is not None and self.keepdims is not True:
            grad = np.expand_dims(grad, self.axis)
        return np.broadcast_to(grad, x.shape)


def test_sequential_keeps_its_parameters():
    x = gg.tensor([[1.0, 2.0], [3.0, 4.0]])
    op = Total()
    np.testing.assert_array_equal(op(x, axis=0), [4.0, 6.0])
    assert op.axis == (0,) and op.keepdims is _NoValue and op.out_shape == (2,)
    assert op.variables == (x,)
    gg.execute_op(Total, x, op_kwargs={"axis": 1}).backward([1.0, 2.0])
    np.testing.assert_array_equal(x.grad, [[1.0, 1.0], [2.0, 2.0]])
    assert x.grad.flags.writeable


def test_no_value_is_one_object():
    assert _NoValueType() is _NoValue
    assert repr(_NoValue) == "<no value>"


def test_reduce_broadcast_sums_new_and_stretched_axes():
    g = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(reduce_broadcast(g, (3, 1)), g.sum((0, 2)).reshape(3, 1))
    np.testing.assert_array_equal(reduce_broadcast(g, (4,)), g.sum((0, 1)))
    assert reduce_broadcast(g, (2, 3, 4)) is g


# ------------------------------------------------------------------------------- ufuncs, overrides


def test_ufunc_creator_makes_a_ufunc_of_the_stub():
    @ufunc_creator(Masked)
    def times(x1, x2, out=None, *, where=True, dtype=None, constant=None):
        "Said of it."

    x = gg.tensor([1.0, 2.0])
    assert isinstance(times, gg.ufunc) and (times.nin, times.identity) == (2, 1)
    assert times.__doc__ == "Said of it." and repr(times) == "<gpugrad-ufunc 'times'>"
    assert list(inspect.signature(times).parameters) == [
        "x1", "x2", "out", "where", "dtype", "constant",
    ]  # fmt: skip
    times(x, x, where=np.array([True, False]), out=gg.zeros(2, dtype=float)).backward()
    np.testing.assert_array_equal(x.grad, [2.0, 0.0])
    assert times(x, x, dtype=np.float32).dtype == np.float32
    assert times(x, x, constant=True).constant


def test_ufunc_creator_refuses_other_operations():
    with pytest.raises(TypeError, match="ufunc_creator: got Multiply"):
        ufunc_creator(Multiply)
    with pytest.raises(NotImplementedError):
        ufunc_creator(Masked, at_op=Masked)


@pytest.fixture
def overrides(monkeypatch):
    monkeypatch.setattr(protocols, "_OVERRIDES", {})


def test_ufunc_created_under_numpys_name_is_called_for_tensors(overrides):
    @ufunc_creator(Masked)
    def multiply(x1, x2, out=None, *, where=True, dtype=None, constant=None):
        "Ours."

    x = gg.tensor([2.0])
    assert type(np.multiply(x, x).creator) is Masked
    assert np.multiply(np.ones(1), 2.0) == 2.0


def test_override_of_a_numpy_function(overrides):
    @implements_numpy_override()
    def fliplr(m):
        return "flipped"

    @implements_numpy_override(np.flipud)
    def other(m):
        return "other"

    x = gg.tensor([[1.0]])
    assert np.fliplr(x) == "flipped" and np.flipud(x) == "other"
    assert fliplr(x) == "flipped"
    with pytest.raises(AttributeError, match="implements_numpy_override: got 'nonsense'"):

        @implements_numpy_override()
        def nonsense(m): ...
