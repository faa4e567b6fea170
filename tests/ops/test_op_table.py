"""What holds of every differentiable operation: each row of the table on each array library."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.graph.op import OPS
from gpugrad.graph.vertex import Vertex
from gpugrad.ops.namespace import PUBLIC, tensor_namespace
from gpugrad.ufunc import ufunc
from gpugrad.views import vertex_of
from tests.op_table import ELEMENTWISE, REFERENCE, ROWS, Row, numerical_vjp
from tests.op_table.checks import assert_close, assert_second_order, cotangent_of, on, tensors

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
FLOATS = (np.float16, np.float32, np.float64)


def operations(t: gg.Tensor) -> set[str]:
    """The operations in the graph of `t`."""
    found, stack = set(), [vertex_of(t)]
    while stack:
        vertex = stack.pop()
        if vertex.op is not None:
            found.add(vertex.op.name)
        stack += [p for p in vertex.inputs if isinstance(p, Vertex)]
    return found


def assert_gradients(row: Row, xs: list[gg.Tensor], host: list[np.ndarray], device: str) -> None:
    """Value and gradients of a row at these operands, against the reference."""
    expected = row.call(REFERENCE, *host)
    y = row.call(tensor_namespace, *xs)
    assert_close(y, expected)
    g = cotangent_of(expected)
    y.backward(on(device, g))
    tolerance = 1e-10 if row.analytic else 1e-7
    for x, dx in zip(xs, numerical_vjp(row, host, g)):
        assert_close(x.grad, dx, tolerance, tolerance)


# ------------------------------------------------------------------------------- the table itself


def test_every_operation_has_a_row():
    elsewhere = {"to_device"}  # it takes two devices: tests/ops/test_devices.py
    assert {row.op for row in ROWS} == set(OPS) - elsewhere


def test_every_elementwise_operation_is_tested_with_the_keywords_of_ufuncs():
    declared = {name for name, op in OPS.items() if op.elementwise}
    assert {f.name for f in ELEMENTWISE} == declared
    public = [f for f in PUBLIC.values() if isinstance(f, ufunc)]
    assert {f.op.name for f in public if f.signature is None} == declared


@each_row
def test_row_records_the_operation_it_names(row: Row):
    assert row.op in operations(row.call(tensor_namespace, *tensors(row.draw(), "cpu")))


# ------------------------------------------------------------------------ value, dtype, gradients


@each_row
@pytest.mark.parametrize("dtype", FLOATS)
def test_value_and_dtype_are_numpys(row: Row, dtype: Any, device: str):
    host = row.draw(dtype=dtype)
    if dtype is np.float16 and not row.half:
        with pytest.raises(TypeError, match="float16"):
            row.call(REFERENCE, *host)
        with pytest.raises(TypeError, match="float16"):
            row.call(tensor_namespace, *tensors(host, device))
        return
    with np.errstate(all="ignore"):
        expected = row.call(REFERENCE, *host)
        exact = row.call(REFERENCE, *(x.astype(np.float64) for x in host))
    xs = tensors(host, device)
    y = row.call(tensor_namespace, *xs)
    assert isinstance(y, gg.Tensor)
    assert y.dtype == expected.dtype
    assert not y.constant
    scale = 16 * np.finfo(dtype).eps
    assert_close(y, exact, scale, scale * np.max(np.abs(exact), initial=0))
    y.backward()
    for x in xs:
        assert x.grad.dtype == dtype
        assert x.grad.shape == x.shape
        assert type(x.grad) is type(x.data)


@each_row
def test_gradient(row: Row, device: str):
    host = row.draw()
    assert_gradients(row, tensors(host, device), host, device)


def as_laid_out(x: gg.Tensor, layout: str, device: str) -> gg.Tensor:
    """A tensor equal to `x` whose memory is laid out otherwise."""
    a = gg.asnumpy(x)
    if layout == "transposed":
        return gg.tensor(on(device, np.array(a.T)).T, copy=False)
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan) if a.ndim else np.full(2, np.nan)
    step = -2 if layout == "backwards" else 2
    wide[..., ::step] = a if a.ndim else a[()]
    strided = on(device, wide)[..., ::step]
    return gg.tensor(strided if a.ndim else strided[0:1].reshape(()), copy=False)


@each_row
def test_gradient_of_operands_that_are_not_contiguous(row: Row, device: str):
    host = row.draw(1)
    for layout in ("transposed", "strided", "backwards"):
        xs = [as_laid_out(x, layout, device) for x in tensors(host, device)]
        assert_gradients(row, xs, host, device)


def with_curvature(row: Row, g: Any):
    """A scalar function of the row whose cotangent depends on the operands too."""

    def f(*xs: gg.Tensor) -> gg.Tensor:
        y = row.call(tensor_namespace, *xs)
        return gg.sum(y * g + 0.5 * y * y)

    return f


@each_row
def test_gradient_of_the_gradient(row: Row, device: str):
    host = row.draw(2)
    f = with_curvature(row, on(device, cotangent_of(row.call(REFERENCE, *host))))
    assert_second_order(f, host, device)


def shrunk(row: Row) -> list[Row]:
    """The row on operands of no dimension, and with each length of an axis replaced by 0."""
    lengths = sorted({n for operand in row.operands for n in operand.shape} - {0, 1})
    shapes = [[() for _ in row.operands]] + [
        [tuple(0 if k == n else k for k in operand.shape) for operand in row.operands]
        for n in lengths
    ]
    return [
        row._replace(operands=tuple(x._replace(shape=s) for x, s in zip(row.operands, chosen)))
        for chosen in shapes
    ]


# the others have rows of no dimension and of no elements of their own
NOT_ELEMENTWISE = [row for row in ROWS if not OPS[row.op].elementwise]
# What gpugrad refuses to do with operands of no dimension or without elements, and the reference
# does: there it is a formula, which is more lenient than NumPy's or mygrad's function.
REFUSED = {
    "interp": "np.interp refuses points without a length, or none",
    "median": "np.median refuses several axes of an operand without any",
    "norm": "np.linalg.norm refuses the largest element of none",
    "partition": "np.partition refuses a place past the end",
    "sliding_window_view": "np.lib.stride_tricks.sliding_window_view refuses a window too large",
}


@pytest.mark.parametrize("row", NOT_ELEMENTWISE, ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_two_orders_of_0d_and_empty_operands_wherever_the_function_takes_them(
    row: Row, device: str
):
    for small in shrunk(row):
        host = small.draw(2)
        try:
            expected = small.call(REFERENCE, *host)
        except (ValueError, TypeError, IndexError, np.linalg.LinAlgError):
            continue
        try:
            y = small.call(tensor_namespace, *tensors(host, device))
        except (ValueError, IndexError):
            assert row.name.partition("-")[0] in REFUSED, [x.shape for x in host]
            continue
        assert_close(y, expected)
        if np.isfinite(expected).all():  # the mean of nothing has no derivative
            assert_gradients(small, tensors(host, device), host, device)
            f = with_curvature(small, on(device, cotangent_of(expected)))
            assert_second_order(f, host, device)


@each_row
def test_constant_operands_give_a_constant_and_no_gradient(row: Row):
    xs = [gg.tensor(x, constant=True) for x in row.draw()]
    y = row.call(tensor_namespace, *xs)
    assert y.constant
    y.backward()
    assert all(x.grad is None for x in xs)


class _WithConstant:
    """The namespace of tensors, whose functions are given `constant` wherever they take it."""

    def __init__(self, constant: bool) -> None:
        self.constant = constant
        self.used = False

    def __getattr__(self, word: str) -> Any:
        function = getattr(tensor_namespace, word)
        if "constant" not in inspect.signature(function).parameters:
            return function
        self.used = True
        return partial(function, constant=self.constant)


@each_row
@pytest.mark.parametrize("constant", (True, False))
def test_the_keyword_constant_overrules_the_operands(row: Row, constant: bool):
    m = _WithConstant(constant)
    y = row.call(m, *(gg.tensor(x, constant=not constant) for x in row.draw()))
    # what is made by operators and methods alone follows the operands
    assert y.constant == (constant if m.used else not constant)


@each_row
def test_without_a_graph_the_value_is_the_same(row: Row, device: str):
    host = row.draw()
    with gg.no_autodiff:
        xs = tensors(host, device)
        y = row.call(tensor_namespace, *xs)
    assert y.creator is None
    assert_close(y, row.call(REFERENCE, *host))
