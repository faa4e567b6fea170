"""In-place writes: NumPy's memory semantics, with the gradient of the equivalent pure function.

The oracle is NumPy itself. A program that writes in place is run on complex arrays, which share
memory as NumPy's do, and differentiated by a complex step; then on tensors; then under mygrad.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.differences import assert_second_derivative
from tests.mutation_programs import (
    PROGRAMS,
    Program,
    RandomProgram,
    matmul_in_place,
    write_through_a_view_of_a_view,
)


def losses(f: Program, y: Any, v: Any) -> Any:
    """The sum, with fixed weights, of all that the program returns and keeps."""
    kept: list[Any] = []
    kept.append(f(y, v, kept.append))
    rng = np.random.default_rng(0)
    return sum((a * rng.uniform(0.5, 1.5, a.shape)).sum() for a in kept)


def complex_step(loss: Callable[..., Any], xs: list[np.ndarray]) -> list[np.ndarray]:
    found = []
    for k, x in enumerate(xs):
        dx = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            moved = [a.astype(complex) for a in xs]
            moved[k][i] += 1e-30j
            dx[i] = loss(*moved).imag / 1e-30
        found.append(dx)
    return found


def operands() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.uniform(0.5, 2.0, (3, 4)), rng.uniform(0.5, 2.0, 4)]


def on_a_copy(f: Program) -> Callable[..., Any]:
    return lambda x, v: losses(f, +x, v)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_gradient_is_that_of_the_program_in_numpy(f: Program):
    xs = operands()
    ts = [gg.tensor(x) for x in xs]
    loss = on_a_copy(f)(*ts)
    np.testing.assert_allclose(loss.item(), on_a_copy(f)(*xs), rtol=1e-13)
    loss.backward()
    for t, dx in zip(ts, complex_step(on_a_copy(f), xs)):
        np.testing.assert_allclose(t.grad, dx, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_gradient_is_the_same_through_the_tensor_namespace(f: Program):
    xs = operands()
    found = gg.grad(on_a_copy(f), (0, 1))(*xs)
    for g, dx in zip(found, complex_step(on_a_copy(f), xs)):
        np.testing.assert_allclose(g, dx, rtol=1e-11, atol=1e-11)


def test_gradient_of_the_gradient_of_a_program_with_writes():
    x, v = operands()
    f = on_a_copy(write_through_a_view_of_a_view)
    u = np.linspace(-1, 1, 12).reshape(3, 4)
    assert_second_derivative(lambda x: f(x, gg.tensor(v)), x, u, 1e-8)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_gradient_is_the_same_on_a_device(f: Program, cupy_standin: Any):
    xs = operands()

    def located(y: Any, v: Any, keep: Any) -> Any:
        return f(y, v, keep)

    ts = [gg.tensor(x, device="cuda") for x in xs]
    if f is matmul_in_place:
        pytest.skip("the program multiplies by a host array")
    kept: list[Any] = []
    kept.append(located(+ts[0], ts[1], kept.append))
    rng = np.random.default_rng(0)
    weights = [gg.tensor(rng.uniform(0.5, 1.5, a.shape), device="cuda") for a in kept]
    sum((a * w).sum() for a, w in zip(kept, weights)).backward()
    for t, dx in zip(ts, complex_step(on_a_copy(f), xs)):
        np.testing.assert_allclose(gg.asnumpy(t.grad), dx, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_program_does_the_same_without_a_graph(f: Program):
    xs = operands()
    with gg.no_autodiff:
        y = gg.tensor(xs[0])
        memory = y.data
        loss = losses(f, y, gg.tensor(xs[1]))
    assert y.data is memory
    expected = xs[0].copy()
    np.testing.assert_allclose(loss.item(), losses(f, expected, xs[1]), rtol=1e-13)
    np.testing.assert_allclose(y, expected, rtol=1e-13)


MYGRAD_DISAGREES = {"matmul_in_place": "mygrad has no @="}


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_values_and_gradients_are_mygrads(f: Program):
    mg = pytest.importorskip("mygrad", reason="mygrad is not installed")
    if f.__name__ in MYGRAD_DISAGREES:
        pytest.skip(MYGRAD_DISAGREES[f.__name__])
    found = []
    for m in (mg, gg):
        y, v = (m.tensor(x) for x in operands())
        loss = losses(f, y, v)  # written directly: the gradients are those of the last values
        value, rows = y.data.copy(), y[1]
        loss.backward()
        found.append((loss.item(), value, y.grad, v.grad, rows.grad, y.constant))
    for a, b in zip(*found):
        if a is None or b is None:
            assert a is b
        else:
            np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-11)


# ---------------------------------------------------------------------------- random programs


@pytest.mark.parametrize("seed", range(150))
@pytest.mark.parametrize("watched", (True, False))
def test_random_program_has_numpys_memory_and_gradient(seed: int, watched: bool):
    f = RandomProgram(seed)
    xs = operands()
    shared: list[list[bool]] = []
    values: list[list[np.ndarray]] = []

    def watch(pool: list) -> None:
        raw = [a.data if isinstance(a, gg.Tensor) else a for a in pool]
        shared[-1].append([np.shares_memory(a, b) for a, b in combinations(raw, 2)])
        values[-1].append([np.array(a) for a in raw])

    def loss(x: Any, v: Any) -> Any:
        return f.run(+x, v)

    runs = []
    ts = [gg.tensor(x) for x in xs]
    for y, v in ((+xs[0], xs[1]), (+ts[0], ts[1])):
        shared.append([])
        values.append([])
        # to look at arrays makes the guard protect them: the program must not notice
        runs.append(f.run(y, v, watch) if watched else f.run(y, v))
    np.testing.assert_allclose(runs[1].item(), runs[0], rtol=1e-12)
    assert shared[0] == shared[1]
    for a, b in zip(*values):
        for x, y in zip(a, b):
            np.testing.assert_allclose(y, x, rtol=1e-12)
    runs[1].backward()
    for t, dx in zip(ts, complex_step(loss, xs)):
        np.testing.assert_allclose(t.grad, dx, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------- out=


def test_out_tensor_is_written_within_its_graph():
    a, b = gg.tensor([1.0, 2.0, 3.0]), gg.tensor([4.0, 5.0, 6.0])
    y = a * 1.0
    before = y * y
    row = y[1:]
    assert gg.multiply(a, b, out=y) is y
    np.testing.assert_array_equal(row, [10.0, 18.0])
    assert np.shares_memory(row.data, y.data)
    (before.sum() + (row * row).sum()).backward()
    np.testing.assert_allclose(a.grad, [2.0, 4.0 + 2 * 10 * 5, 6.0 + 2 * 18 * 6])
    np.testing.assert_allclose(b.grad, [0.0, 2 * 10 * 2, 2 * 18 * 3])


def test_masked_write_has_finite_derivatives_where_nothing_was_computed():
    x, out = gg.tensor([1.0, 0.0, 2.0]), gg.tensor([4.0, 5.0, 6.0])
    mask = [True, False, True]
    y = +out
    gg.log(x, where=mask, out=y)
    y.backward()
    np.testing.assert_array_equal(x.grad, [1.0, 0.0, 0.5])
    np.testing.assert_array_equal(out.grad, [0.0, 1.0, 0.0])

    def f(x: gg.Tensor) -> gg.Tensor:
        return gg.log(x, where=mask, out=+out).sum()

    np.testing.assert_array_equal(gg.hvp(f, x, [1.0, 1.0, 1.0]).data, [-1.0, 0.0, -0.25])


def test_out_view_writes_into_its_base():
    a = gg.tensor([1.0, 2.0])
    y = gg.tensor([[1.0, 1.0], [1.0, 1.0]])
    gg.exp(a, out=y[1], where=[False, True])
    np.testing.assert_allclose(y, [[1.0, 1.0], [1.0, np.exp(2)]])
    (y * y).backward()
    np.testing.assert_allclose(a.grad, [0.0, 2 * np.exp(4)])
    np.testing.assert_allclose(y.grad, [[2.0, 2.0], [2.0, 2 * np.exp(2)]])


@pytest.mark.parametrize(
    "call",
    [
        lambda x, out: gg.sum(x, axis=0, out=out),
        lambda x, out: gg.mean(x, axis=0, out=out),
        lambda x, out: gg.max(x, axis=0, out=out),
        lambda x, out: gg.matmul(x.T, [1.0, 2.0], out=out),
        lambda x, out: gg.concatenate([x[0], x[0]], out=out[:6])[:3],
        lambda x, out: gg.clip(x[0], 0.7, 1.5, out=out),
    ],
)
@pytest.mark.parametrize("as_tensor", (True, False))
def test_out_of_functions_that_are_no_ufuncs(call: Any, as_tensor: bool):
    x0 = np.array([[0.5, 1.0, 2.0], [3.0, 0.1, 1.5]])
    n = 6 if "concatenate" in call.__code__.co_names else 3
    x, z = gg.tensor(x0), gg.tensor(x0)
    plain = call(z, None) if n == 3 else gg.concatenate([z[0], z[0]])[:3]
    memory = np.full(n, np.nan)
    out = gg.tensor(memory) if as_tensor else memory
    y = call(x, out)
    np.testing.assert_allclose(y, plain)
    np.testing.assert_allclose(out[:3], plain)
    assert np.shares_memory(y.data, out.data if as_tensor else memory)
    (y * y).backward()
    (plain * plain).backward()
    np.testing.assert_allclose(x.grad, z.grad)


def test_out_array_is_read_only_while_its_graph_lives():
    x, out = gg.tensor([1.0, 2.0]), np.zeros(2)
    y = gg.exp(x, out=out)
    with pytest.raises(ValueError, match="read-only"):
        out[0] = 5.0
    y.backward()
    out[0] = 5.0
    np.testing.assert_allclose(x.grad, np.exp([1.0, 2.0]))


def test_out_may_be_an_operand():
    x = gg.tensor([1.0, 2.0])
    y = x * 1.0
    gg.multiply(y, y, out=y)
    gg.add(y, x, out=y, where=[True, False])
    np.testing.assert_allclose(y, [2.0, 4.0])
    y.backward()
    np.testing.assert_allclose(x.grad, [3.0, 4.0])


def test_out_of_a_narrower_float_keeps_its_dtype():
    x = gg.tensor([1.0, 2.0])
    y = gg.zeros((2,), dtype=np.float32)
    gg.exp(x, out=y)
    assert y.dtype == np.float32
    y.backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_allclose(x.grad, np.exp([1.0, 2.0]), rtol=1e-6)


# -------------------------------------------------------------------------- handles and memory


def test_view_and_base_share_memory_and_gradient():
    x = gg.tensor(np.arange(6.0).reshape(2, 3))
    row = x[1]
    corner = row[1:]
    assert row.base is x
    assert corner.base is x
    for a, b in combinations((x, row, corner), 2):
        assert np.shares_memory(a.data, b.data)
    (x * x).backward()
    np.testing.assert_allclose(x.grad, 2 * x.data)
    for t, part in ((row, x.grad[1]), (corner, x.grad[1, 1:])):
        assert np.shares_memory(t.grad, x.grad)
        np.testing.assert_array_equal(t.grad, part)


def test_shape_setter_reshapes_within_the_graph():
    x = gg.tensor(np.arange(6.0))
    y = x * 2.0
    before = y * 1.0
    tail = y[3:]
    y.shape = (2, 3)
    assert y.shape == (2, 3)
    assert before.shape == (6,)
    y[1] = y[0] * y[0]
    np.testing.assert_array_equal(tail, [0.0, 4.0, 16.0])
    assert np.shares_memory(tail.data, y.data)
    (tail.sum() + before.sum()).backward()
    np.testing.assert_allclose(x.grad, [2.0, 2 + 8.0, 2 + 16.0, 2, 2, 2])


def test_shape_setter_of_a_leaf_and_of_a_view():
    x = gg.tensor(np.arange(6.0))
    array = x.data
    x.shape = (3, 2)
    assert array.shape == (6,)
    assert np.shares_memory(x.data, array)
    v = x[1:]
    v.shape = (4,)
    v[0] = 7.0
    np.testing.assert_array_equal(x, [[0, 1], [7, 3], [4, 5]])
    (x * x).backward()
    np.testing.assert_allclose(x.grad, [[0, 2], [14, 6], [8, 10]])
    assert v.grad.shape == (4,)
    with pytest.raises(ValueError):
        x.shape = (4, 2)
    y = gg.tensor(np.zeros((2, 3))).T
    with pytest.raises(AttributeError):
        y.shape = (6,)
    assert y.shape == (3, 2)


def test_old_gradient_is_forgotten_when_a_tensor_is_written():
    x = gg.tensor([1.0, 2.0])
    (x * x).backward()
    x[0] = 5.0
    assert x.grad is None
    (x * x).backward()
    np.testing.assert_allclose(x.grad, [10.0, 4.0])


def test_constant_stays_constant_when_a_variable_is_written_into_it():
    x, c = gg.tensor([1.0, 2.0]), gg.tensor([0.0, 0.0], constant=True)
    c[...] = x
    assert c.constant
    integers = gg.arange(3)
    integers[0] = 7
    np.testing.assert_array_equal(integers, [7, 1, 2])


def test_writes_without_a_graph_go_straight_to_memory():
    array = np.arange(4.0)
    x = gg.tensor(array, copy=False)
    with gg.no_autodiff:
        x[0] = 9.0
        x += 1.0
        gg.exp(gg.zeros((4,), dtype=float), out=x, where=[False, True, False, False])
        x[1:] *= 2.0
    assert x.data is array
    np.testing.assert_array_equal(array, [10.0, 2.0, 6.0, 8.0])
    assert x.creator is None


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.__setitem__(0, 5.0),
        lambda x: x.__imul__(3.0),
        lambda x: gg.add(x, 1.0, out=x),
        lambda x: x[:1].__imul__(3.0),
        lambda x: gg.no_autodiff(lambda: x.reshape(-1))().__setitem__(0, 5.0),
    ],
)
@pytest.mark.parametrize("inner", [False, True])
def test_write_without_a_graph_into_what_a_live_graph_needs_is_refused(write: Any, inner: bool):
    x = gg.tensor([1.0, 2.0])
    z = x * 1.0 if inner else x
    y = (z * z).sum()
    with gg.no_autodiff, pytest.raises(ValueError, match="read-only"):
        write(z)
    y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])
    with gg.no_autodiff:
        write(z)  # the graph is gone, and with it the reason to refuse
    assert z.data[0] != 1.0


def test_writes_with_a_graph_leave_the_callers_array_alone():
    array = np.arange(4.0)
    x = gg.tensor(array, copy=False)
    x[0] = 9.0
    x += 1.0
    np.testing.assert_array_equal(array, [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(x, [10.0, 2.0, 3.0, 4.0])


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "write, error",
    [
        (lambda x: x.__setitem__(0, np.ones(5)), ValueError),
        (lambda x: x.__setitem__(7, 1.0), IndexError),
        (lambda x: x.__setitem__(([0, 9],), 1.0), IndexError),
        (lambda x: x.__setitem__((0, 0, 0), 1.0), IndexError),
        (lambda x: x.__setitem__(0, 1j), TypeError),
        (lambda x: x.__setitem__(0, "a"), TypeError),
        (lambda x: x.__iadd__(np.ones((2, 2, 3))), ValueError),
        (lambda x: x.__imul__(np.ones(5)), ValueError),
        (lambda x: x.__iadd__(1j), TypeError),
        (lambda x: x.__imatmul__(np.ones((3, 2))), ValueError),
        (lambda x: gg.add(x, np.ones(4), out=x), ValueError),
        (lambda x: gg.add(x, x, out=x, where=np.ones(4, bool)), ValueError),
        (lambda x: gg.add(x, x, out=x, where=[1, 0, 1]), TypeError),
        (lambda x: gg.sum(x, out=x), ValueError),
        (lambda x: gg.exp(x, out=[1.0]), TypeError),
    ],
)
def test_failed_write_changes_nothing(write: Any, error: type):
    source = gg.tensor(np.arange(6.0).reshape(2, 3))
    x = source * 1.0
    row = x[0]
    before = x.data.copy()
    vertex = x._vertex
    with pytest.raises(error):
        write(x)
    assert x._vertex is vertex
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(row, before[0])
    (x * x).backward()
    np.testing.assert_allclose(source.grad, 2 * before)


def test_array_that_its_owner_made_read_only_is_not_written():
    array = np.ones(3)
    array.setflags(write=False)
    x = gg.tensor(array, copy=False)
    for write in (
        lambda: x.__setitem__(0, 2.0),
        lambda: x.__iadd__(1.0),
        lambda: gg.exp(x, out=x),
        lambda: x[1:].__setitem__(0, 2.0),
    ):
        for attempt in (write, gg.no_autodiff(write)):
            with pytest.raises(ValueError, match="read-only"):
                attempt()
    np.testing.assert_array_equal(array, 1.0)
    assert not array.flags.writeable


def test_view_that_is_written_to_belongs_to_the_new_graph_at_once():
    base = +gg.tensor([1.0, 2.0, 3.0])
    view = base[:2]
    view[0] = 5.0
    (base * base).sum().backward()
    # what was computed from the base is gone; the view has been made from it before
    assert not view.data.flags.writeable
    view.clear_graph()
    view.data[0] = 7.0
    np.testing.assert_array_equal(base, [7.0, 2.0, 3.0])


def test_taking_a_view_keeps_the_gradient_and_any_other_use_forgets_it():
    x = gg.tensor([1.0, 2.0, 3.0])
    (x * x).sum().backward()
    view = x[1:]
    np.testing.assert_array_equal(x.grad, [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(view.grad, [4.0, 6.0])
    x[np.array([0, 1])]
    assert x.grad is None


def test_an_operation_forgets_the_gradients_of_all_its_operands_unless_it_fails():
    x, y, z = gg.tensor([1.0]), gg.tensor([2.0]), gg.tensor([3.0])
    (x * y * z).backward()
    with pytest.raises(ValueError):
        gg.concatenate([x, y, np.ones((2, 2))])
    assert [t.grad.item() for t in (x, y, z)] == [6.0, 3.0, 2.0]
    gg.concatenate([x, y, z])
    assert x.grad is y.grad is z.grad is None
