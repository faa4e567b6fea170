"""What holds of every differentiable operation: each row of the table on each array library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.graph.op import OPS
from gpugrad.graph.vertex import Vertex
from gpugrad.ops.namespace import PUBLIC, tensor_namespace
from gpugrad.tensor import vertex_of
from gpugrad.ufunc import ufunc
from tests.op_table import (
    ELEMENTWISE,
    INDICES,
    REFERENCE,
    ROWS,
    Elementwise,
    Row,
    draw,
    numerical_vjp,
)

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
each_function = pytest.mark.parametrize("f", ELEMENTWISE, ids=lambda f: f.name)
FLOATS = (np.float16, np.float32, np.float64)


def tensors(arrays: Any, device: str) -> list[gg.Tensor]:
    return [gg.tensor(x, device=device) for x in arrays]


def cotangent_of(y: Any, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, np.shape(y))


def on(device: str, x: np.ndarray) -> Any:
    return gg.tensor(x, device=device).data


def operations(t: gg.Tensor) -> set[str]:
    """The operations in the graph of `t`."""
    found, stack = set(), [vertex_of(t)]
    while stack:
        vertex = stack.pop()
        if vertex.op is not None:
            found.add(vertex.op.name)
        stack += [p for p in vertex.inputs if isinstance(p, Vertex)]
    return found


def assert_close(found: Any, expected: Any, rtol: float = 1e-10, atol: float = 1e-10) -> None:
    found = gg.asnumpy(found)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


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


def assert_second_order(f: Any, host: list[np.ndarray], device: str) -> None:
    """The gradient of the gradient of a scalar function, against differences of the gradient."""
    places = range(len(host))
    directions = [cotangent_of(x, seed=k) for k, x in enumerate(host)]

    def gradients(arrays: Any) -> list[np.ndarray]:
        xs = tensors(arrays, device)
        f(*xs).backward()
        return [gg.asnumpy(x.grad) for x in xs]

    def along(*xs: gg.Tensor) -> gg.Tensor:
        pairs = zip(gg.grad(f, places)(*xs), directions)
        return sum((g * on(device, u)).sum() for g, u in pairs)

    step = 1e-5
    ahead = gradients([x + step * u for x, u in zip(host, directions)])
    behind = gradients([x - step * u for x, u in zip(host, directions)])
    found = gg.grad(along, places)(*tensors(host, device))
    for h, a, b in zip(found, ahead, behind):
        assert_close(h, (a - b) / (2 * step), 1e-6, 1e-6)


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


@each_row
def test_without_a_graph_the_value_is_the_same(row: Row, device: str):
    host = row.draw()
    with gg.no_autodiff:
        xs = tensors(host, device)
        y = row.call(tensor_namespace, *xs)
    assert y.creator is None
    assert_close(y, row.call(REFERENCE, *host))


# -------------------------------------------------------------------- out=, where=, dtype=, scalars


def two(f: Elementwise, seed: int = 3) -> list[np.ndarray]:
    """Operands of shapes that broadcast to (2, 3)."""
    rng = np.random.default_rng(seed)
    return [draw(rng, shape, domain) for shape, domain in zip(((2, 3), (3,)), f.domains)]


def numpy_row(f: Elementwise) -> Row:
    return f.row(*((2, 3), (3,))[: len(f.domains)])


@each_function
def test_out_array_is_written_and_shown(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    out = on(device, np.full((2, 3), np.nan))
    y = f.call(gg, *xs, out=out)
    assert y.data is out
    assert_close(out, f.call(REFERENCE, *host))
    g = cotangent_of(out)
    y.backward(on(device, g))
    for x, dx in zip(xs, numerical_vjp(numpy_row(f), host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
def test_out_tensor_carries_the_gradient_to_the_operands(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    source = gg.tensor(np.ones((2, 3)), device=device)
    out = +source
    assert f.call(gg, *xs, out=out) is out
    assert_close(out, f.call(REFERENCE, *host))
    g = cotangent_of(out)
    (source.sum() * 0 + (out * on(device, g)).sum()).backward()
    assert_close(source.grad, np.zeros((2, 3)))  # what was overwritten
    for x, dx in zip(xs, numerical_vjp(numpy_row(f), host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


MASK = np.array([[True, False, True], [False, True, False]])


def selected(f: Elementwise, host: list[np.ndarray], g: np.ndarray) -> list[np.ndarray]:
    return numerical_vjp(numpy_row(f), host, g * MASK)


@each_function
def test_without_out_masked_elements_are_zero(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    y = f.call(gg, *xs, where=on(device, MASK))
    assert_close(y, np.where(MASK, f.call(REFERENCE, *host), 0))
    g = cotangent_of(y)
    y.backward(on(device, g))
    for x, dx in zip(xs, selected(f, host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
@pytest.mark.parametrize("shape", ((2, 3), (3,), (0, 3), ()))
def test_gradient_of_the_gradient_under_a_mask(f: Elementwise, shape: Any, device: str):
    rng = np.random.default_rng(11)
    host = [draw(rng, shape, domain) for domain in f.domains]
    mask = np.resize(MASK, shape)
    g = on(device, cotangent_of(mask))

    def curved(*xs: gg.Tensor) -> gg.Tensor:
        y = f.call(tensor_namespace, *xs, where=on(device, mask))
        return gg.sum(y * g + 0.5 * y * y)

    assert_second_order(curved, host, device)


@each_function
def test_mask_that_broadcasts_the_result(f: Elementwise, device: str):
    host = [x[0, 0] if x.ndim == 2 else x[0] for x in two(f)]
    xs = tensors(host, device)
    y = f.call(gg, *xs, where=on(device, MASK))
    assert_close(y, np.where(MASK, f.call(REFERENCE, *host), 0))
    y.backward()
    scalar = f.row(*((),) * len(host))
    for x, dx in zip(xs, numerical_vjp(scalar, host, MASK.sum())):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
def test_masked_write_keeps_the_rest_of_out_and_its_gradient(f: Elementwise, device: str):
    host = two(f)
    xs = tensors(host, device)
    source = gg.tensor(np.full((2, 3), 5.0), device=device)
    out = +source
    f.call(gg, *xs, out=out, where=on(device, MASK))
    assert_close(out, np.where(MASK, f.call(REFERENCE, *host), 5.0))
    g = cotangent_of(out)
    out.backward(on(device, g))
    assert_close(source.grad, np.where(MASK, 0, g))
    for x, dx in zip(xs, selected(f, host, g)):
        assert_close(x.grad, dx, 1e-7, 1e-7)


@each_function
@pytest.mark.parametrize("poison", (np.nan, np.inf, -np.inf, 0.0, -1.0))
def test_masked_elements_leave_no_trace_in_derivatives(f: Elementwise, poison: float, device: str):
    rng = np.random.default_rng(5)
    clean = [draw(rng, (2, 3), domain) for domain in f.domains]
    poisoned = [np.where(MASK, x, poison) for x in clean]
    mask = on(device, MASK)

    def loss(*xs: gg.Tensor) -> gg.Tensor:
        y = f.call(tensor_namespace, *xs, where=mask)
        return (y * y * y).sum()

    def total_gradient(*xs: gg.Tensor) -> gg.Tensor:
        return sum((g * g).sum() for g in gg.grad(loss, range(len(xs)))(*xs))

    for function in (loss, total_gradient):
        found = gg.grad(function, range(len(clean)))(*tensors(poisoned, device))
        expected = gg.grad(function, range(len(clean)))(*tensors(clean, device))
        for a, b in zip(found, expected):
            assert_close(a, gg.asnumpy(b))
    xs = tensors(poisoned, device)
    loss(*xs).backward()
    for x, b in zip(xs, gg.grad(loss, range(len(clean)))(*tensors(clean, device))):
        assert_close(x.grad, gg.asnumpy(b))


@each_function
def test_dtype_says_in_which_precision_to_compute(f: Elementwise, device: str):
    host = [x.astype(np.float32) for x in two(f)]
    xs = tensors(host, device)
    y = f.call(gg, *xs, dtype=np.float64)
    assert y.dtype == np.float64
    assert_close(y, f.call(REFERENCE, *(x.astype(np.float64) for x in host)), 1e-14, 1e-14)
    y.backward()
    assert all(x.grad.dtype == np.float32 for x in xs)


@each_function
def test_constant_overrules_the_operands(f: Elementwise):
    xs = tensors(two(f), "cpu")
    y = f.call(gg, *xs, constant=True)
    assert y.constant
    (y.sum() + xs[0].sum()).backward()
    assert_close(xs[0].grad, np.ones((2, 3)))


BINARY = tuple(f for f in ELEMENTWISE if len(f.domains) == 2)
OTHERS = (2, 2.0, np.float32(2), np.float64(2), np.array(2.0), np.array(2.0, np.float32))


@pytest.mark.parametrize("f", BINARY, ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_scalars_promote_as_in_numpy(f: Elementwise, dtype: Any, device: str):
    x = draw(np.random.default_rng(0), (3,), f.domains[0]).astype(dtype)
    function = getattr(np, f.name, None) or getattr(REFERENCE, f.name)
    t = gg.tensor(x, device=device)
    for other in OTHERS:
        if device != "cpu" and isinstance(other, np.ndarray):
            other = other[()]  # the library takes host arrays of no dimension as scalars
        for pair, expected in (((t, other), function(x, other)), ((other, t), function(other, x))):
            y = f.call(gg, *pair)
            assert y.dtype == expected.dtype, other
            assert_close(y, expected, 4 * np.finfo(dtype).eps, 4 * np.finfo(dtype).eps)
            y.backward()
            assert t.grad.dtype == dtype, other


@pytest.mark.parametrize("f", BINARY, ids=lambda f: f.name)
def test_integers_promote_as_in_numpy_and_are_constant(f: Elementwise, device: str):
    x = np.array([1, 2, 3], np.int32)
    y = f.call(gg, gg.tensor(x, device=device), gg.tensor(x[::-1], device=device))
    expected = (getattr(np, f.name, None) or getattr(REFERENCE, f.name))(x, x[::-1])
    assert y.constant
    assert y.dtype == expected.dtype
    assert_close(y, expected)
    mixed = gg.tensor([0.5, 1.5, 2.5], dtype=np.float32, device=device)
    z = f.call(gg, mixed, gg.tensor(x, device=device))
    assert not z.constant
    assert z.dtype == np.float64
    z.backward()
    assert mixed.grad.dtype == np.float32


# ------------------------------------------------------------------------- particular promises


def test_masked_log_has_finite_derivatives_of_two_orders(device: str):
    mask = on(device, np.array([True, False]))

    def f(x: gg.Tensor) -> gg.Tensor:
        return gg.log(x, where=mask).sum()

    x = gg.tensor([1.0, 0.0], device=device)
    assert_close(gg.grad(f)(x), [1.0, 0.0])
    assert_close(gg.hessian(f)(x), [[-1.0, 0.0], [0.0, 0.0]])
    assert_close(gg.hvp(f, x, on(device, np.ones(2))), [-1.0, 0.0])
    f(x).backward()
    assert_close(x.grad, [1.0, 0.0])


def test_mask_may_be_a_list_a_tensor_or_one_bool():
    x = gg.tensor([1.0, 2.0])
    for mask in ([True, False], gg.tensor([True, False]), np.array([True, False])):
        assert_close(gg.square(x, where=mask), [1.0, 0.0])
    assert_close(gg.square(x, where=False), [0.0, 0.0])
    with pytest.raises(TypeError, match="where has dtype int64, expected bool"):
        gg.square(x, where=[1, 0])


@pytest.mark.parametrize(
    "name, x, y, dx",
    [
        ("sigmoid", [-1000.0, 0.0, 1000.0], [0.0, 0.5, 1.0], [0.0, 0.25, 0.0]),
        ("softplus", [-1000.0, 0.0, 1000.0], [0.0, np.log(2), 1000.0], [0.0, 0.5, 1.0]),
        ("log_sigmoid", [-1000.0, 0.0, 1000.0], [-1000.0, -np.log(2), 0.0], [1.0, 0.5, 0.0]),
        ("tanh", [-1000.0, 0.0, 1000.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]),
        ("expm1", [-1000.0, 1e-20], [-1.0, 1e-20], [0.0, 1.0]),
        ("absolute", [-1.0, 0.0, 2.0], [1.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
    ],
)
def test_limits(name: str, x: Any, y: Any, dx: Any, device: str):
    t = gg.tensor(x, device=device)
    result = getattr(gg, name)(t)
    assert_close(result, y, 1e-15, 0)
    result.backward()
    assert_close(t.grad, dx, 1e-15, 0)


@pytest.mark.parametrize("name", ("logaddexp", "logaddexp2"))
def test_logaddexp_of_infinities_has_the_gradient_of_the_limit(name: str, device: str):
    a = gg.tensor([np.inf, -np.inf, np.inf, 1000.0, -np.inf], device=device)
    b = gg.tensor([np.inf, -np.inf, 0.0, -1000.0, 2.0], device=device)
    y = getattr(gg, name)(a, b)
    assert_close(y[2:], [np.inf, 1000.0, 2.0])
    y.backward()
    assert_close(a.grad, [0.5, 0.5, 1.0, 1.0, 0.0])
    assert_close(b.grad, [0.5, 0.5, 0.0, 0.0, 1.0])


def test_power_at_zero_has_finite_gradients(device: str):
    x = gg.tensor([0.0, 0.0, 0.0, -2.0], device=device)
    (x ** on(device, np.array([0.0, 1.0, 2.0, 3.0]))).backward()
    assert_close(x.grad, [0.0, 1.0, 0.0, 12.0])
    p = gg.tensor([0.0, 1.0, 2.0], device=device)
    (on(device, np.zeros(3)) ** p).backward()
    assert_close(p.grad, [0.0, 0.0, 0.0])
    q = gg.tensor([0.0, 0.0], device=device)
    (q**0 + q**1 + q**2 + q**3).backward()
    assert_close(q.grad, [1.0, 1.0])


@pytest.mark.parametrize("name", ("maximum", "minimum"))
def test_no_operand_takes_the_gradient_at_a_tie(name: str, device: str):
    a, b = tensors(([1.0, 2.0], [1.0, 3.0]), device)
    getattr(gg, name)(a, b).backward()
    picked = 1.0 if name == "minimum" else 0.0
    assert_close(a.grad, [0.0, picked])
    assert_close(b.grad, [0.0, 1.0 - picked])


@pytest.mark.parametrize("name", ("max", "min"))
def test_the_first_of_equal_extremes_takes_the_gradient(name: str, device: str):
    x = gg.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], device=device)
    getattr(gg, name)(x, axis=0).backward()
    assert_close(x.grad, [[1.0] * 3, [0.0] * 3])
    getattr(gg, name)(x).backward()
    assert_close(x.grad, [[1.0, 0.0, 0.0], [0.0] * 3])


def test_mean_of_float16_does_not_overflow(device: str):
    x = gg.tensor(np.full(100, 6e4), dtype=np.float16, device=device)
    assert_close(gg.mean(x), np.float16(6e4))


QUESTIONS = (
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
)


@pytest.mark.parametrize("name", QUESTIONS)
def test_comparisons_give_raw_arrays(name: str, device: str):
    a, b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    x, y = tensors((a, b), device)
    found = getattr(gg, name)(x, y)
    assert type(found) is type(x.data)
    assert found.dtype == np.bool_
    assert_close(found, getattr(np, name)(a, b))


@pytest.mark.parametrize(
    "name", ("isnan", "isinf", "isfinite", "logical_not", "signbit", "argmax", "argmin", "any")
)
def test_questions_give_raw_arrays(name: str, device: str):
    a = np.array([-1.0, np.nan, np.inf, 0.0])
    found = getattr(gg, name)(gg.tensor(a, device=device))
    assert not isinstance(found, gg.Tensor)
    np.testing.assert_array_equal(gg.asnumpy(found), getattr(np, name)(a))


def test_comparison_operators_give_raw_arrays(device: str):
    a = np.array([1.0, 2.0, 3.0])
    x = gg.tensor(a, device=device)
    for found, expected in (
        (x == 2, a == 2),
        (x != 2, a != 2),
        (x < 2, a < 2),
        (2 <= x, 2 <= a),
        (x > x[::-1], a > a[::-1]),
        (x >= x[::-1], a >= a[::-1]),
    ):
        assert type(found) is type(x.data)
        assert_close(found, expected)


@pytest.mark.parametrize("name, shape, index", INDICES, ids=[name for name, _, _ in INDICES])
def test_index_may_be_made_of_tensors_or_device_arrays(
    name: str, shape: Any, index: Any, device: str
):
    def moved(make: Any) -> Any:
        entries = index if isinstance(index, tuple) else (index,)
        out = tuple(make(k) if isinstance(k, np.ndarray) else k for k in entries)
        return out if isinstance(index, tuple) else out[0]

    a = np.arange(float(np.prod(shape))).reshape(shape)
    for make in (lambda k: gg.tensor(k, device=device), lambda k: on(device, k)):
        x = gg.tensor(a, device=device)
        y = x[moved(make)]
        assert_close(y, a[index])
        x[moved(make)] = -1.0
        expected = a.copy()
        expected[index] = -1
        assert_close(x, expected)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda x: x + gg.ones((4,)), ValueError),
        (lambda x: gg.add(x, x, out=np.zeros(4)), ValueError),
        (lambda x: gg.add(x, x, out=gg.zeros((4,))), ValueError),
        (lambda x: gg.add(x, x, out=np.zeros(3, int)), TypeError),
        (lambda x: gg.add(x, x, out=gg.zeros((3,), dtype=int)), TypeError),
        (lambda x: gg.sigmoid(x, out=gg.zeros((4,))), ValueError),
        (lambda x: gg.sigmoid(x, out=np.zeros(4)), ValueError),
        (lambda x: gg.add(x), TypeError),
        (lambda x: gg.exp(x, x, x), TypeError),
        (lambda x: gg.add(x, 1j), TypeError),
        (lambda x: x * np.array([1j]), TypeError),
        (lambda x: x + "a", TypeError),
        (lambda x: x @ gg.ones((4,)), ValueError),
        (lambda x: x @ 2.0, ValueError),
        (lambda x: gg.sum(x, axis=1), ValueError),
        (lambda x: gg.sum(x, axis=(0, 0)), ValueError),
        (lambda x: gg.max(x[:0]), ValueError),
        (lambda x: gg.reshape(x, (2, 2)), ValueError),
        (lambda x: gg.transpose(x, (0, 1)), ValueError),
        (lambda x: gg.squeeze(x, axis=0), ValueError),
        (lambda x: gg.expand_dims(x, 3), ValueError),
        (lambda x: gg.broadcast_to(x, (2,)), ValueError),
        (lambda x: gg.concatenate([]), ValueError),
        (lambda x: gg.concatenate([x, gg.ones((1, 3))]), ValueError),
        (lambda x: gg.stack([]), ValueError),
        (lambda x: gg.stack([x, x[:2]]), ValueError),
        (lambda x: gg.where(x > 1, x), ValueError),
        (lambda x: x[3], IndexError),
        (lambda x: x[[0, 3]], IndexError),
        (lambda x: x[0, 0], IndexError),
        (lambda x: x[1.0], IndexError),
        (lambda x: x[np.array([True, False])], IndexError),
        (lambda x: gg.add.reduce(x), TypeError),
        (lambda x: x // 2, ValueError),
        (lambda x: x % 2, ValueError),
        (lambda x: x + [gg.tensor(1.0)], TypeError),
    ],
)
def test_wrong_operands_raise_what_numpy_raises_and_leave_no_lock(call: Any, error: type):
    from gpugrad.graph.guard import guarded_count

    before = guarded_count()
    x = gg.tensor(np.ones(3), copy=False)
    with pytest.raises(error):
        call(x)
    assert x.data.flags.writeable
    assert guarded_count() == before


@pytest.mark.parametrize(
    "call",
    [
        lambda x, other: x + other,
        lambda x, other: other + x,
        lambda x, other: gg.sigmoid(x, out=other),
        lambda x, other: gg.where([True, False], x, other),
        lambda x, other: gg.concatenate([x, other]),
        lambda x, other: x @ other,
        lambda x, other: x.__setitem__(slice(None), other),
        lambda x, other: x.__iadd__(other),
    ],
)
@pytest.mark.parametrize("make", (np.array, gg.tensor))
def test_host_and_device_do_not_mix(call: Any, make: Any, cupy_standin: Any):
    x = gg.tensor([1.0, 2.0], device="cuda")
    with pytest.raises(gg.DeviceMismatchError, match="cpu|cuda|host|GPU"):
        call(x, make([1.0, 2.0]))
    assert_close(x, [1.0, 2.0])
