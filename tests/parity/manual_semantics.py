"""What MyGrad's manual says of tensors, views, writes, switches, operations, files, randomness."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tests.parity.manual import holds, program, tensor_of

# ---------------------------------------------------------------------------------------- overview


@program
def numpy_functions_of_tensors(m):
    x = m.tensor([0.5, -2.0, 4.0])
    np.sum(x * x).backward()
    holds(x.grad, [1.0, -4.0, 8.0])


@program
def a_function_written_for_numpy(m):
    def softly(a, b):
        return np.log(np.exp(a) + np.exp(b)).mean()

    a, b = m.tensor([0.0, 1.0]), m.tensor([0.0, 1.0])
    result = softly(a, b)
    assert type(result) is m.Tensor
    result.backward()
    holds(a.grad, [0.25, 0.25])
    holds(b.grad, [0.25, 0.25])


@program
def a_masked_ufunc_with_out(m):
    x, y = m.tensor([3.0, 5.0, 7.0]), m.zeros((3,))
    np.multiply(x, x, where=[False, True, True], out=y)
    holds(y, [0.0, 25.0, 49.0])
    y.backward()
    holds(x.grad, [0.0, 10.0, 14.0])


@program
def the_diagonal_as_a_view(m):
    x = m.arange(1.0, 5.0).reshape(2, 2)
    diagonal = np.einsum("ii->i", x)
    tensor_of(m, diagonal, [1.0, 4.0])
    assert np.shares_memory(x, diagonal)
    diagonal *= 10
    tensor_of(m, x, [[10.0, 2.0], [3.0, 40.0]])
    (x**2).backward()
    holds(x.grad, [[20.0, 4.0], [6.0, 80.0]])
    holds(diagonal.grad, [20.0, 80.0])
    assert np.shares_memory(x.grad, diagonal.grad)


@program
def indexing_by_a_mask(m):
    x = m.tensor([[1.0, 6.0], [3.0, 0.5]])
    (x[x < 4] ** 2).backward()
    holds(x.grad, [[2.0, 0.0], [6.0, 1.0]])


@program
def what_is_no_tensor_is_a_constant(m):
    x = m.tensor([1.0, 2.0])
    for constant in ([3.0, -1.0], (3.0, -1.0), np.array([3.0, -1.0])):
        (x * constant).backward()
        holds(x.grad, [3.0, -1.0])


@program
def gradient_descent(m):
    w = m.tensor(8.0)
    for _ in range(5):
        loss = w**2
        loss.backward()
        w.data -= 0.25 * w.grad
    holds(w, 0.25)


@program
def a_hinge_loss(m):
    scores = m.tensor([[3.0, 1.0, 2.5], [0.0, 2.0, 0.5]])
    labels = (range(2), np.array([0, 2]))
    margins = scores - scores[labels][:, np.newaxis] + 1.0
    margins[margins <= 0] = 0
    margins[labels] = 0
    loss = margins.sum() / 2
    holds(loss, (0.5 + 0.5 + 2.5) / 2)
    loss.backward()
    holds(scores.grad, [[-0.5, 0.0, 0.5], [0.5, 0.5, -1.0]])


# ------------------------------------------------------------------------------------------ Tensor


@program
def creating(m):
    tensor_of(m, m.tensor(4.5), 4.5, np.float64)
    tensor_of(m, m.tensor(np.array([0.5, 2.0])), [0.5, 2.0])
    tensor_of(m, m.tensor([[5, 6], [7, 8]]), [[5, 6], [7, 8]])
    tensor_of(m, m.tensor([5, 6.0]), [5.0, 6.0], np.float64)
    tensor_of(m, m.tensor([5, 6], ndmin=2), [[5, 6]])
    tensor_of(m, m.tensor([5, 6], dtype="float32"), [5.0, 6.0], np.float32)


@program
def integers_are_constant_and_floats_are_not(m):
    assert m.astensor(7, dtype=np.int8).constant
    assert not m.astensor(7, dtype=np.float32).constant
    assert m.tensor([1.0], constant=True).constant
    with pytest.raises(ValueError):
        m.tensor([1, 2], constant=False)


@program
def forward_and_backward(m):
    x, y = m.Tensor(5.0), m.Tensor(-1.0)
    loss = 3 * x + y**3
    loss.backward()
    holds(x.grad, 3.0)
    holds(y.grad, 3.0)
    holds(loss.grad, 1.0)
    assert loss.creator is None
    2 * x
    assert x.grad is None and y.grad is not None
    assert y.null_grad() is y and y.grad is None


@program
def a_gradient_at_every_step(m):
    x = m.tensor([1.0, 2.0])
    for _ in range(3):
        y = 4 * x
        assert x.grad is None
        y.backward()
        holds(x.grad, [4.0, 4.0])


@program
def backward_of_an_array_sums_it(m):
    x = m.tensor([1.0, 3.0, 5.0])
    (x * x[::-1]).backward()
    first = x.grad.copy()
    (x * x[::-1]).sum().backward()
    holds(first, x.grad)
    holds(first, [10.0, 6.0, 2.0])


@program
def backward_of_a_given_gradient(m):
    x = m.Tensor(1.5)
    x.backward(4.0)
    holds(x.grad, 4.0)
    y = m.tensor([1.0, 2.0])
    (y * 3).backward([1.0, -1.0])
    holds(y.grad, [3.0, -3.0])


@program
def gradients_along_the_way(m):
    x, y = m.tensor(2.0), m.tensor(5.0)
    w = x * y
    loss = 3 * w
    loss.backward()
    for t, g in ((loss, 1.0), (w, 3.0), (x, 15.0), (y, 6.0)):
        holds(t.grad, g)


@program
def the_array_of_a_tensor(m):
    x = m.tensor([1, 2])
    assert type(x.data) is np.ndarray
    assert np.asarray(x) is x.data and m.asarray(x) is x.data


@program
def attributes(m):
    x = m.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert (x.ndim, x.shape, x.size, x.dtype) == (2, (2, 3), 6, np.float64)
    assert x[0].ndim == 1 and x[0, 0].shape == () and len(x) == 2
    tensor_of(m, x.T, [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]])
    assert m.tensor([22.5]).item() == 22.5 and type(m.tensor([22.5]).item()) is float
    x.shape = (1, 6)
    tensor_of(m, x, [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])


@program
def bases(m):
    x = m.arange(6.0)
    y = x[2:]
    assert x.base is None and y.base is x and y.data.base is x.data
    assert y[:].base is x
    assert m.reshape(2.0, (1,)).base is None


@program
def creators(m):
    x, y = m.tensor(3.0), m.tensor(2.0)
    assert x.creator is None
    operations = import_module(f"{m.__name__}.math.arithmetic.ops")
    z = x * y
    assert isinstance(z.creator, operations.Multiply)
    assert z.creator.variables == (x, y)


@program
def clearing_a_graph(m):
    array = np.array([1.0, 2.0])
    y = m.multiply(2.0, array)
    assert not array.flags.writeable and y.creator is not None
    y.clear_graph()
    assert array.flags.writeable and y.creator is None


@program
def constants_take_no_gradient(m):
    x, y = m.Tensor([1.0, 2.0], constant=True), m.Tensor([0.0, 3.0], constant=False)
    (x * y).backward()
    assert x.grad is None
    holds(y.grad, [1.0, 2.0])
    assert ((x + x) ** 2 - np.array([8.0, 7.0])).constant
    assert m.add(x, y, constant=True).constant and not m.add(x, x, constant=False).constant
    assert not m.add(x, y).constant


@program
def copies(m):
    x = m.tensor(3.0)
    y = x * 2
    y.backward()
    z = y.copy()
    assert z.creator is None and z is not y
    holds(z, 6.0)
    holds(z.grad, 1.0)
    assert not np.shares_memory(z, y) and not np.shares_memory(z.grad, y.grad)
    assert y.copy(constant=True).constant


@program
def astype(m):
    x = m.arange(3)
    tensor_of(m, x.astype("float32"), [0.0, 1.0, 2.0], np.float32)
    assert not x.astype("float32").constant
    narrow = x.astype(np.int8, constant=True)
    tensor_of(m, narrow, [0, 1, 2], np.int8)
    assert narrow.creator is None and x.astype(x.dtype, copy=False) is x
    with pytest.raises(TypeError):
        m.tensor([1.5]).astype(int, casting="safe")


@program
def manual_astype_keeps_a_constant(m):
    assert m.tensor([1.0], constant=True).astype(np.float32).constant


@program
def deprecated_null_gradients(m):
    x = m.tensor(2.0)
    y = x * 3
    y.backward()
    with pytest.warns(FutureWarning):
        y.null_gradients()
    holds(y.grad, 1.0)  # nothing is left to be done: a new graph forgets the gradients


@program
def numbers_take_the_dtype_of_the_array_beside_them(m):
    x = m.tensor([1.0, 2.0], dtype=np.float32)
    for y in (x * 2.0, 2.0 / x, x**2, x + 1, m.exp(x) - 1.0):
        assert y.dtype == np.float32


# --------------------------------------------------------------------------------- views, in place


@program
def a_view_and_its_base(m):
    x = m.tensor([1.0, 2.0, 3.0, 4.0])
    y = x[1:3]
    assert y.base is x and np.shares_memory(x, y)
    y *= -2
    tensor_of(m, x, [1.0, -4.0, -6.0, 4.0])
    tensor_of(m, y, [-4.0, -6.0])
    (x**2).backward()
    holds(x.grad, [2.0, -8.0, -12.0, 8.0])
    holds(y.grad, [-8.0, -12.0])
    assert np.shares_memory(y.grad, x.grad)


@program
def views_tie_their_gradients_after_the_graph_is_gone(m):
    x = m.tensor([1.0, 2.0, 3.0])
    tail = x[1:]
    (tail * tail).sum().backward()
    (tail * 3).sum().backward()
    holds(x.grad, [0.0, 3.0, 3.0])
    assert tail.base is x and np.shares_memory(tail, x)


@program
def a_name_for_a_tensor_that_is_written_to(m):
    x = m.tensor([1.0, 2.0])
    y = x
    x *= 3
    assert x is y
    tensor_of(m, y, [3.0, 6.0])


@program
def two_diagonals(m):
    x = m.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    main, anti = m.einsum("ii->i", x), m.einsum("ii->i", x[:, ::-1])
    tensor_of(m, main, [1.0, 5.0, 9.0])
    tensor_of(m, anti, [3.0, 5.0, 7.0])
    (main - 2 * anti).sum().backward()
    holds(x.grad, [[1.0, 0.0, -2.0], [0.0, -1.0, 0.0], [-2.0, 0.0, 1.0]])
    holds(main.grad, [1.0, -1.0, 1.0])
    holds(anti.grad, [-2.0, -1.0, -2.0])


@program
def a_write_is_differentiated_through(m):
    x, y = m.tensor([1.0, 2.0, 3.0]), m.tensor([10.0, 20.0])
    z = +x
    z[:2] = y**2
    (z * z).sum().backward()
    holds(x.grad, [0.0, 0.0, 6.0])
    holds(y.grad, [2 * 100.0 * 20.0, 2 * 400.0 * 40.0])


# ------------------------------------------------------------------------- switches, memory guard


@program
def without_a_graph(m):
    with m.no_autodiff:
        x = m.arange(4.0)
        y = 4 * x
        y.backward()
    assert x.grad is None and y.creator is None

    @m.no_autodiff
    def twice(x):
        return 2 * x

    t = m.tensor([1.0, 2.0])
    z = twice(t)
    z.backward()
    assert t.grad is None
    holds(z.grad, [1.0, 1.0])


@program
def writes_without_a_graph_go_to_memory(m):
    array = np.array([1.0, 2.0])
    x = m.astensor(array)
    with m.no_autodiff:
        x += 1
        x[0] = 7
    holds(array, [7.0, 3.0])


@program
def the_guard_keeps_a_graph_right(m):
    x = np.arange(1.0, 4.0)
    y = m.ones_like(x, constant=False)
    z = x * y
    with pytest.raises(ValueError):
        x[:] = 0
    z.backward()
    holds(y.grad, [1.0, 2.0, 3.0])
    x[:] = 0
    holds(x, [0.0, 0.0, 0.0])


@program
def the_guard_may_be_off(m):
    x = np.arange(1.0, 4.0)
    y = m.ones_like(x, constant=False)
    with m.mem_guard_off:
        z = x * y
    x[:] = 0
    z.backward()
    holds(y.grad, [0.0, 0.0, 0.0])


@program
def the_guard_may_be_off_for_good(m):
    m.turn_memory_guarding_off()
    try:
        array = np.ones(2)
        y = m.tensor([1.0, 2.0]) * array
        assert array.flags.writeable
        with m.mem_guard_on:
            z = y * array
            assert not array.flags.writeable
    finally:
        m.turn_memory_guarding_on()
    z.clear_graph()
    assert array.flags.writeable


@program
def the_guard_as_a_decorator(m):
    array = np.ones(2)

    @m.mem_guard_off
    def loose(x):
        return x * array

    @m.mem_guard_on
    def guarded(x):
        return x * array

    kept = loose(m.tensor([1.0, 2.0]))
    assert array.flags.writeable
    also = guarded(m.tensor([1.0, 2.0]))
    assert not array.flags.writeable
    also.clear_graph()
    assert array.flags.writeable and kept.creator is not None


@program
def a_graph_that_is_dropped_frees_its_arrays(m):
    array = np.array([1.0, 2.0])
    array * m.tensor([3.0, 4.0])
    array[:] = 5.0
    kept = array * m.tensor([3.0, 4.0])
    assert not array.flags.writeable
    del kept
    assert array.flags.writeable


@program
def a_cleared_graph_cannot_be_used_again(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    z = y * 3
    y.sum().backward()
    with pytest.raises(m.errors.InvalidBackprop):
        z.backward()


@program
def a_second_backward_needs_a_new_graph(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    y.backward()
    try:
        y.backward()
    except m.errors.InvalidBackprop:
        return
    raise AssertionError("it was passed over")


# -------------------------------------------------------------------------- operations of one's own


def scaled_difference(m: Any) -> Callable[..., Any]:
    """``(a - b) * a`` as an operation in the manual's manner."""
    base = import_module(f"{m.__name__}.operation_base")

    class ScaledDifference(base.Operation):
        def __call__(self, a, b):
            self.variables = (a, b)
            return (a.data - b.data) * a.data

        def backward_var(self, grad, index, **kwargs):
            a, b = (v.data for v in self.variables)
            return grad * (2 * a - b if index == 0 else -a)

    def call(a, b, constant=None):
        return m.execute_op(ScaledDifference, a, b, constant=constant)

    return call


@program
def an_operation_of_ones_own(m):
    f = scaled_difference(m)
    a, b = m.tensor(2.0), m.tensor([1.0, -1.0, 3.0])
    y = f(a, b)
    tensor_of(m, y, [2.0, 6.0, -2.0])
    y.backward()
    holds(a.grad, 3.0 + 5.0 + 1.0)  # summed over what it was broadcast to
    holds(b.grad, [-2.0, -2.0, -2.0])


@program
def an_operation_of_ones_own_takes_arrays_and_constants(m):
    f = scaled_difference(m)
    b = m.tensor([1.0, 2.0])
    f([3.0, 3.0], b).backward()
    holds(b.grad, [-3.0, -3.0])
    assert f([3.0, 3.0], [1.0, 2.0]).constant
    assert f(1.0, b, constant=True).constant


@program
def an_operation_of_ones_own_in_a_larger_graph(m):
    f = scaled_difference(m)
    a = m.tensor([2.0, 3.0])
    (f(a * 2, a) ** 2).sum().backward()
    # ((2a - a) 2a)^2 = 4 a^4
    holds(a.grad, [16 * 8.0, 16 * 27.0])


# -------------------------------------------------------------------------------------------- files


@program
def saving_and_loading(m):
    x = m.arange(3.0)
    file = io.BytesIO()
    m.save(file, x)
    file.seek(0)
    assert m.load(file).grad is None
    (x * x).backward()
    file = io.BytesIO()
    m.save(file, x)
    file.seek(0)
    loaded = m.load(file)
    tensor_of(m, loaded, [0.0, 1.0, 2.0])
    holds(loaded.grad, [0.0, 2.0, 4.0])
    with pytest.raises(TypeError):
        m.save(io.BytesIO(), np.ones(2))


# ------------------------------------------------------------------------------------------- random


@program
def random_numbers(m):
    r = m.random
    state = np.random.get_state()
    try:
        assert r.rand(3, 4).shape == (3, 4) and r.randn(2, 3, 2).shape == (2, 3, 2)
        for f in (r.random, r.random_sample, r.ranf, r.sample):
            assert f((2, 3, 1)).shape == (2, 3, 1) and f().shape == ()
            assert not f(2).constant and f(2, constant=True).constant
        numbers = r.randint(low=2, high=5, shape=(40,))
        assert numbers.constant and set(numbers.data.tolist()) <= {2, 3, 4}
        assert type(r.randint(low=4, high=100)) is m.Tensor
        r.seed(0)
        first = r.random((2, 4))
        r.seed(1)
        assert not np.array_equal(first.data, r.random((2, 4)).data)
        r.seed(0)
        np.random.set_state(np.random.RandomState(0).get_state())
        assert np.array_equal(first.data, r.random((2, 4)).data)
        assert np.array_equal(first.data, np.random.RandomState(0).random_sample((2, 4)))
    finally:
        np.random.set_state(state)
