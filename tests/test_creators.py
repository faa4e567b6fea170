"""The library's operations as classes: they compute, and differentiate, what mygrad's do."""

from __future__ import annotations

import importlib
import weakref
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.creators import TABLE
from gpugrad.graph.op import OPS
from gpugrad.operation_base import Operation

# modules that are made when gpugrad is imported
from gpugrad.math.arithmetic.ops import Add, Multiply  # isort: skip

mg = pytest.importorskip("mygrad", reason="mygrad is not installed")

ABOVE_ONE = np.array([[1.5, 2.5, 3.5], [1.25, 4.5, 2.0]])
INSIDE = ABOVE_ONE / 10
OTHER = np.array([0.5, 0.75, 1.5])
MATRIX = np.array([[1.0, 2.0], [3.0, 5.0], [0.5, 0.25]])
IMAGES = np.sin(np.arange(36.0)).reshape(2, 2, 3, 3)

# class -> operands, further arguments, by keyword; the others take INSIDE (and OTHER) alone
ARGUMENTS: dict[str, tuple[tuple, tuple, dict[str, Any]]] = {
    "MatMul": ((ABOVE_ONE, MATRIX), (), {}),
    "AddSequence": ((ABOVE_ONE, OTHER, INSIDE), (), {}),
    "MultiplySequence": ((ABOVE_ONE, OTHER, INSIDE), (), {}),
    "Reshape": ((ABOVE_ONE,), ((3, 2),), {}),
    "Squeeze": ((ABOVE_ONE[None],), (0,), {}),
    "ExpandDims": ((ABOVE_ONE,), (1,), {}),
    "BroadcastTo": ((OTHER,), ((2, 3),), {}),
    "Concatenate": ((ABOVE_ONE, INSIDE), (), {"axis": 1}),
    "Stack": ((ABOVE_ONE, INSIDE), (), {"axis": 1}),
    "Repeat": ((ABOVE_ONE,), (2,), {"axis": 1}),
    "Transpose": ((ABOVE_ONE,), ((1, 0),), {}),
    "MoveAxis": ((ABOVE_ONE,), (0, 1), {}),
    "SwapAxes": ((ABOVE_ONE,), (0, 1), {}),
    "Roll": ((ABOVE_ONE,), (1, 1), {}),
    "Where": ((ABOVE_ONE, OTHER), (), {"condition": ABOVE_ONE > 2}),
    "EinSum": ((ABOVE_ONE, MATRIX), (), {"in_lbls": "ij,jk", "out_lbls": "ik"}),
    "GetItem": ((ABOVE_ONE,), ((slice(None), 1),), {}),
    "ELU": ((ABOVE_ONE - 2,), (0.7,), {}),
    "SELU": ((ABOVE_ONE - 2,), (), {}),
    "ReLu": ((ABOVE_ONE - 2,), (), {}),
    "Softmax": ((ABOVE_ONE,), (), {"axis": 0}),
    "LogSoftmax": ((ABOVE_ONE,), (0,), {}),
    "FocalLoss": ((INSIDE,), (np.array([2, 0]), 0.5, 2.0), {}),
    "MarginRanking": ((ABOVE_ONE, INSIDE), (np.array(-1), 0.5), {}),
    "MulticlassHinge": ((ABOVE_ONE,), (np.array([2, 0]),), {"hinge": 0.5}),
    "SoftmaxCrossEntropy": ((ABOVE_ONE,), (np.array([2, 0]),), {}),
    "BatchNorm": ((ABOVE_ONE, OTHER, OTHER + 1), (), {"eps": 0.1}),
    "ConvND": ((IMAGES, IMAGES[:1, :, :2, :2]), (), {"stride": 1, "padding": (1, 0)}),
    "MaxPoolND": ((IMAGES,), ((2, 2), (1, 1)), {}),
    "GRUnit": ((IMAGES[0], *(MATRIX, MATRIX.T @ MATRIX / 9, OTHER[:2]) * 3), (), {}),
}
for _name in "CumProd CumSum Max Min Prod Sum Mean".split():
    ARGUMENTS[_name] = ((ABOVE_ONE,), (), {"axis": 1})
for _name in "Variance StdDev".split():
    ARGUMENTS[_name] = ((ABOVE_ONE,), (), {"axis": 1, "ddof": 1})
for _name in "AtLeast1D AtLeast2D AtLeast3D".split():
    ARGUMENTS[_name] = ((np.array(2.5),), (), {})
for _name in "Arccosh Arccoth Arccsc Arcsec".split():
    ARGUMENTS[_name] = ((ABOVE_ONE,), (), {})
ROWS = [(path, name) for path, classes in TABLE.items() for name in classes]
each_class = pytest.mark.parametrize(("path", "name"), ROWS, ids=lambda text: text)

# they have no counterpart that could be called alike
UNLIKE = {
    "SetItem": "mygrad's writes into out and must have it",
    "GRUnit": "mygrad's has no derivative before its function gru has completed it",
}


def arguments(path: str, name: str) -> tuple[tuple, tuple, dict[str, Any]]:
    binary = TABLE[path][name][1].__name__ == "BinaryUfunc"
    return ARGUMENTS.get(name, ((INSIDE, OTHER) if binary else (INSIDE,), (), {}))


def seed_of(value: np.ndarray) -> np.ndarray:
    return np.linspace(0.5, 1.5, value.size).reshape(value.shape)


def by_mygrad(path: str, name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Value, and gradients of the operands."""
    cls = getattr(importlib.import_module(f"mygrad.{path}"), name)
    operands, args, kwargs = arguments(path, name)
    if issubclass(cls, mg.operation_base.Sequential) and not name.startswith("Cum"):
        kwargs = {"keepdims": False, **kwargs}  # its derivatives need it
    if name in ("Max", "Min"):
        kwargs["dtype"] = mg.operation_base._NoValue  # or it is passed on to numpy.max
    xs = [mg.tensor(x) for x in operands]
    y = mg.execute_op(cls, *xs, op_args=args, op_kwargs=kwargs)
    value = y.data.copy()
    y.backward(seed_of(value))
    return value, [x.grad for x in xs]


@each_class
def test_class_computes_and_differentiates_as_mygrads(path, name):
    if name in UNLIKE:
        pytest.skip(UNLIKE[name])
    operands, args, kwargs = arguments(path, name)
    op = getattr(importlib.import_module(f"gpugrad.{path}"), name)()
    xs = [gg.tensor(x) for x in operands]
    value = op(*xs, *args, **kwargs)
    expected, gradients = by_mygrad(path, name)
    assert isinstance(value, np.ndarray)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert all(v is x for v, x in zip(op.variables, xs, strict=True))
    for i, g in enumerate(gradients):
        found = op.backward_var(seed_of(value), i)
        np.testing.assert_allclose(found, g, rtol=1e-10, atol=1e-12)


@each_class
def test_execute_op_gives_the_class_as_creator(path, name):
    cls = getattr(importlib.import_module(f"gpugrad.{path}"), name)
    operands, args, kwargs = arguments(path, name)
    if name == "SetItem":
        operands, args = (ABOVE_ONE, OTHER), ((0,),)
    xs = [gg.tensor(x) for x in operands]
    y = gg.execute_op(cls, *xs, op_args=args, op_kwargs=kwargs)
    assert isinstance(y, gg.Tensor)
    np.testing.assert_array_equal(y.data, cls()(*xs, *args, **kwargs))
    op_word = TABLE[path][name][0]
    if op_word in OPS and name not in ("Tensor_Transpose_Property",):
        assert type(y.creator) is cls
    y.sum().backward()
    assert all(x.grad is not None for x in xs)


def test_set_item_puts_values_into_a_copy():
    from gpugrad._tensor_core_ops.indexing import SetItem

    x, value, out = gg.tensor([1.0, 2.0, 3.0]), gg.tensor([9.0]), np.zeros(3)
    op = SetItem()
    assert op(x, value, slice(0, 1), out=out) is out
    np.testing.assert_array_equal(out, [9.0, 2.0, 3.0])
    np.testing.assert_array_equal(op.backward_var([1.0, 2.0, 3.0], 0), [0.0, 2.0, 3.0])
    np.testing.assert_array_equal(op.backward_var([1.0, 2.0, 3.0], 1), [1.0])
    x[:1] = value
    assert type(x.creator) is SetItem


@pytest.mark.parametrize("library", [mg, gg], ids=["mygrad", "gpugrad"])
def test_ufunc_class_takes_where_out_and_dtype(library):
    cls = importlib.import_module(f"{library.__name__}.math.arithmetic.ops").Add
    x, y = library.tensor([1.0, 2.0]), library.tensor([3.0, 4.0])
    out = np.full(2, 7.0)
    op = cls()
    assert op(x, y, where=np.array([True, False]), out=out) is out
    np.testing.assert_array_equal(out, [4.0, 7.0])
    np.testing.assert_array_equal(op.where, [True, False])
    assert cls()(x, y, dtype=np.float32).dtype == np.float32
    assert cls()(x, y, np.zeros(2)).dtype == np.float64


def test_masked_creator_differentiates_inside_its_mask():
    x, y = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0])
    z = gg.multiply(x, y, where=[True, False])
    np.testing.assert_array_equal(z.creator.where, [True, False])
    np.testing.assert_array_equal(z.creator.backward_var(np.ones(2), 0), [3.0, 0.0])


def test_creator_knows_its_operands_and_parameters():
    x = gg.tensor([[1.0, 2.0]])
    y = (x * 3).sum(axis=1, keepdims=True)
    assert type(y.creator).__module__ == "gpugrad.math.sequential.ops"
    assert y.creator.axis == 1 and y.creator.keepdims is True
    product = y.creator.variables[0].creator
    assert type(product) is Multiply
    first, second = product.variables
    assert first.data is x.data and not first.constant
    assert second.item() == 3 and second.constant
    np.testing.assert_array_equal(product.backward_var(np.ones((1, 2)), 0), [[3.0, 3.0]])


def test_creator_does_not_go_beyond_its_own_step():
    x = gg.tensor([1.0, 2.0])
    y = gg.exp(x * 3)
    np.testing.assert_allclose(y.creator.backward_var(np.ones(2), 0), y.data)
    y.sum().backward()
    np.testing.assert_allclose(x.grad, 3 * np.exp([3.0, 6.0]))


def test_creator_is_none_for_leaves_and_cleared_graphs():
    x = gg.tensor([1.0])
    y = x + 1
    assert x.creator is None
    assert type(y.creator) is Add and y.creator is y.creator
    y.backward()
    assert y.creator is None
    with pytest.raises(AttributeError):
        y.creator = None


def test_creator_that_was_asked_for_goes_with_its_tensor():
    y = gg.tensor([1.0]) + 1
    op = weakref.ref(y.creator)
    del y
    assert op() is None


def test_direct_call_leaves_arrays_writeable():
    a = np.ones(2)
    op = Multiply()
    op(gg.astensor(a), gg.astensor(a))
    assert a.flags.writeable
    assert op.backward_var(np.ones(2), 0).flags.writeable


def test_array_operands_become_constants():
    op = Add()
    np.testing.assert_array_equal(op([1.0], 2.0), [3.0])
    assert [type(v) for v in op.variables] == [gg.Tensor, gg.Tensor]
    assert all(v.constant for v in op.variables)


def test_op_that_mygrad_does_not_have_has_a_class_too():
    y = gg.softplus(gg.tensor([1.0]))
    assert isinstance(y.creator, Operation) and type(y.creator).__name__ == "Softplus"
    np.testing.assert_array_equal(y.creator([1.0]), y.data)


def test_class_runs_on_either_device(device):
    x = gg.tensor([1.0, 2.0], device=device)
    op = Multiply()
    value = op(x, x)
    assert type(value) is type(x.data)
    np.testing.assert_array_equal(gg.asnumpy(op.backward_var(1.0, 0)), [1.0, 2.0])
    assert gg.asnumpy((x * x).creator.backward_var(1.0, 1)).tolist() == [1.0, 2.0]
