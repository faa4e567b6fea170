"""Users' operations, written as MyGrad's programs write them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import SkipGradient
from gpugrad.operation_base import (
    Operation,
)
from tests.locks import leaves_no_lock
from tests.own_operations import Multiply, Reversed, with_backward

# ------------------------------------------------------------------------------ values, gradients


def test_gradients_are_summed_over_broadcast_axes(device):
    x = gg.tensor(np.arange(6.0).reshape(2, 3), device=device)
    y = gg.tensor([1.0, 2.0, 3.0], device=device)
    z = gg.execute_op(Multiply, x, y)
    assert z.device == x.device
    z.backward()
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [[1.0, 2.0, 3.0]] * 2)
    np.testing.assert_array_equal(gg.asnumpy(y.grad), [3.0, 5.0, 7.0])


def test_one_operand_twice_gets_the_sum(device):
    x = gg.tensor([1.0, 2.0], device=device)
    gg.execute_op(Multiply, x, x).backward()
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [2.0, 4.0])


def test_it_joins_a_graph_of_the_librarys_operations():
    x = gg.tensor([1.0, 2.0])
    (gg.exp(gg.execute_op(Multiply, x * 3, [1.0, 0.5])) + x).sum().backward()
    np.testing.assert_allclose(x.grad, [3 * np.exp(3) + 1, 1.5 * np.exp(3) + 1])


def test_op_args_and_op_kwargs_follow_the_operands():
    class Scaled(Operation):
        def __call__(self, x, factor, *, shift=0.0):
            self.variables = (x,)
            self.factor = factor
            return factor * x.data + shift

        def backward_var(self, grad, index, **kwargs):
            return grad * self.factor

    x = gg.tensor(2.0)
    y = gg.execute_op(Scaled, x, op_args=(3.0,), op_kwargs={"shift": 1.0})
    y.backward()
    assert y.item() == 7.0 and x.grad == 3.0


def test_gradient_has_the_dtype_of_its_operand():
    x, y = gg.tensor([1.0], dtype="float32"), gg.tensor([2.0])
    gg.execute_op(Multiply, x, y).backward()
    assert x.grad.dtype == np.float32 and y.grad.dtype == np.float64


def test_gradient_may_be_a_number_for_a_0d_operand():
    x = gg.tensor(3.0)
    gg.execute_op(with_backward(lambda self, grad, index, **kwargs: 2), x, 1.0).backward()
    assert type(x.grad) is np.ndarray and x.grad == 2.0


def test_gradient_that_backward_var_writes_to_is_its_own():
    def scaled_in_place(self, grad, index, **kwargs):
        grad *= self.variables[1 - index].data
        return grad

    x, y = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0])
    z = gg.execute_op(with_backward(scaled_in_place), x, y)
    (z + x).sum().backward()
    np.testing.assert_array_equal(x.grad, [4.0, 5.0])
    np.testing.assert_array_equal(y.grad, [1.0, 2.0])
    np.testing.assert_array_equal(z.grad, [1.0, 1.0])


def test_operand_written_to_afterwards_is_remembered_as_it_was():
    x, y = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0])
    z = gg.execute_op(Multiply, x, y)
    x *= 100
    z.backward()
    np.testing.assert_array_equal(y.grad, [1.0, 2.0])


@pytest.mark.parametrize(
    ("operands", "constant", "expected"),
    [
        ((1.0, 2.0), None, True),
        ((gg.tensor(1.0), 2.0), None, False),
        ((gg.tensor(1.0), 2.0), True, True),
        ((1.0, 2.0), False, False),
        ((gg.tensor(1), 2), None, True),
        ((gg.tensor(1.0, constant=True), gg.tensor(1.0, constant=True)), None, True),
    ],
)
def test_constant_follows_from_the_operands_unless_given(operands, constant, expected):
    assert gg.execute_op(Multiply, *operands, constant=constant).constant == expected


def test_constant_operand_is_not_asked_for_its_gradient():
    asked = []

    def noted(self, grad, index, **kwargs):
        asked.append(index)
        return grad * self.variables[1 - index].data

    gg.execute_op(
        with_backward(noted), gg.tensor([1.0]), gg.tensor([2.0], constant=True)
    ).backward()
    assert asked == [0]


def test_nothing_is_recorded_without_autodiff():
    x = gg.tensor([1.0, 2.0])
    with gg.no_autodiff:
        y = gg.execute_op(Multiply, x, x)
        out = gg.zeros(2)
        assert gg.execute_op(Multiply, x, x, out=out) is out
    assert y.creator is None
    np.testing.assert_array_equal(out.data, [1.0, 4.0])


# ---------------------------------------------------------------------------------- skip, backward


def test_skipped_gradient_is_none_for_a_leaf():
    def second_only(self, grad, index, **kwargs):
        if index == 0:
            raise SkipGradient
        return grad

    x, y = gg.tensor([1.0]), gg.tensor([2.0])
    gg.execute_op(with_backward(second_only), x, y).backward()
    assert x.grad is None
    np.testing.assert_array_equal(y.grad, [1.0])


@pytest.mark.parametrize("switch", (gg.mem_guard_on, gg.no_autodiff), ids=("recorded", "raw"))
def test_skipped_gradient_is_zero_for_an_argument(switch):
    def second_only(self, grad, index, **kwargs):
        if index == 0:
            raise SkipGradient
        return grad

    with switch:
        _, pullback = gg.vjp(
            lambda x, y: gg.execute_op(with_backward(second_only), x, y), [1.0], [2.0]
        )
        first, second = pullback([3.0])
    assert first.data == 0.0
    assert second.data == 3.0


def test_skipped_gradient_of_a_result_does_not_hide_other_ways():
    def skipped(self, grad, index, **kwargs):
        raise SkipGradient

    x = gg.tensor([3.0])
    doubled = 2 * x
    (gg.execute_op(with_backward(skipped), doubled, 1.0) + doubled).backward()
    np.testing.assert_array_equal(x.grad, [2.0])


def test_overridden_backward_shares_work_between_operands(device):
    calls = []

    class Shared(Multiply):
        def backward(self, grad, **kwargs):
            calls.append(grad)
            super().backward(grad, doubled=2 * grad)

        def backward_var(self, grad, index, doubled, **kwargs):
            return doubled * self.variables[1 - index].data

    x, y = gg.tensor([1.0, 2.0], device=device), gg.tensor([3.0, 4.0], device=device)
    gg.execute_op(Shared, x, y).backward()
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [6.0, 8.0])
    np.testing.assert_array_equal(gg.asnumpy(y.grad), [2.0, 4.0])
    assert len(calls) == 1


def test_backward_that_calls_no_other_may_set_gradients_itself():
    class Direct(Multiply):
        def backward(self, grad, **kwargs):
            for i, x in enumerate(self.variables):
                x._grad = grad * self.variables[1 - i].data

    x = gg.tensor([2.0])
    gg.execute_op(Direct, x, x).backward()
    np.testing.assert_array_equal(x.grad, [4.0])


def test_backward_of_an_instance_adds_to_the_gradients():
    x, y = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0])
    op = Multiply()
    op(x, y)
    op.backward(np.ones(2))
    op.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [6.0, 8.0])


# ---------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("wrong", [None, "a", [1.0, 2.0], np.array([1j, 2.0])])
def test_gradient_that_is_no_real_array_is_refused(wrong):
    x = gg.tensor([1.0, 2.0])
    y = gg.execute_op(with_backward(lambda self, grad, index, **kwargs: wrong), x, 3.0)
    with pytest.raises(gg.InvalidGradient, match="Wrong.backward_var: got .* for index 0"):
        y.backward()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_gradient_of_a_shape_that_does_not_fit_is_refused(shape):
    x = gg.tensor([1.0, 2.0])
    y = gg.execute_op(with_backward(lambda self, g, index, **kwargs: np.ones(shape)), x, 3.0)
    with pytest.raises(gg.InvalidGradient, match="shape") as caught:
        y.backward()
    assert isinstance(caught.value, ValueError)


def test_call_that_binds_no_variables_is_refused():
    class Forgetful(Multiply):
        def __call__(self, x):
            return x.data

    with pytest.raises(AttributeError, match="Forgetful: __call__ left self.variables unbound"):
        gg.execute_op(Forgetful, gg.tensor(1.0))
    assert gg.execute_op(Forgetful, 1.0).constant


def test_variables_that_are_arrays_are_refused():
    class Arrays(Multiply):
        def __call__(self, x):
            self.variables = (x.data,)
            return x.data * 2

    with pytest.raises(TypeError, match="Arrays: variables hold ndarray"):
        gg.execute_op(Arrays, gg.tensor(1.0))


def test_complex_operand_is_refused():
    with pytest.raises(TypeError, match="Multiply: got an operand of dtype complex128"):
        gg.execute_op(Multiply, [1j], 1.0)


def test_operands_on_two_devices_are_refused(cupy_standin):
    with pytest.raises(gg.DeviceMismatchError):
        gg.execute_op(Multiply, gg.tensor([1.0], device="cuda"), gg.tensor([1.0]))


def test_operation_without_its_methods_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Operation()


# -------------------------------------------------------------------------------- guard and memory


def test_arrays_are_read_only_while_the_graph_lives():
    a, b = np.ones(2), np.ones(2)
    z = gg.execute_op(Multiply, gg.astensor(a), b)
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        b[0] = 2
    assert not z.data.flags.writeable
    z.backward()
    assert a.flags.writeable and b.flags.writeable and z.data.flags.writeable


def test_arrays_are_released_when_the_operation_fails():
    class Failing(Multiply):
        def __call__(self, x):
            x.data[0] = 1.0

    a = np.zeros(2)
    with leaves_no_lock(), pytest.raises(ValueError, match="read-only"):
        gg.execute_op(Failing, gg.astensor(a))
    assert a.flags.writeable and a[0] == 0.0


def test_operation_is_dropped_when_its_graph_is_cleared():
    x = gg.tensor([1.0])
    y = gg.execute_op(Multiply, x, x)
    op = weakref.ref(y.creator)
    assert op() is not None
    y.backward()
    assert op() is None


def test_dropped_graphs_leave_nothing_to_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        y = gg.execute_op(Reversed, gg.execute_op(Multiply, gg.tensor([1.0]), 2.0))
        op = weakref.ref(y.creator)
        del y
        assert op() is None
    finally:
        gc.enable()


# --------------------------------------------------------------------------------- in place, views


def test_out_tensor_is_written_to_within_its_graph():
    x, y, t = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0]), gg.tensor([0.0, 0.0])
    first = t[:1]
    before = t + 0
    assert gg.execute_op(Multiply, x, y, out=t) is t
    np.testing.assert_array_equal(first.data, [3.0])
    (t * t).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * np.array([3.0, 8.0]) * [3.0, 4.0])
    np.testing.assert_array_equal(before.data, [0.0, 0.0])


def test_out_view_writes_to_its_base():
    x, base = gg.tensor([1.0, 2.0]), gg.tensor([5.0, 6.0, 7.0])
    gg.execute_op(Multiply, x, [10.0, 10.0], out=base[1:])
    (base * [1.0, 2.0, 3.0]).sum().backward()
    np.testing.assert_array_equal(x.grad, [20.0, 30.0])


def test_out_array_shows_the_result():
    x, array = gg.tensor([1.0, 2.0]), np.zeros(2)
    y = gg.execute_op(Multiply, x, 3.0, out=array)
    assert y.data is array and not array.flags.writeable
    y.backward()
    np.testing.assert_array_equal(array, [3.0, 6.0])
    np.testing.assert_array_equal(x.grad, [3.0, 3.0])
    assert array.flags.writeable


def test_out_of_another_shape_is_refused():
    class Allocating(Multiply):
        def __call__(self, x, y, out=None):
            self.variables = (x, y)
            return x.data * y.data

    with pytest.raises(ValueError, match="Allocating: out has shape"):
        gg.execute_op(Allocating, gg.tensor([1.0, 2.0]), 1.0, out=gg.zeros(3))
    with pytest.raises(ValueError, match="out has 2 entries"):
        gg.execute_op(Multiply, 1.0, 1.0, out=(gg.zeros(1), gg.zeros(1)))


def test_view_shares_memory_and_gradient_with_its_base(device):
    x = gg.tensor([1.0, 2.0, 3.0], device=device)
    y = gg.execute_op(Reversed, x)
    assert y.base is x
    x[0] = 50.0
    assert y[2].item() == 50.0
    y[0] = 7.0
    assert x[2].item() == 7.0
    (y * gg.tensor([1.0, 2.0, 3.0], device=device)).sum().backward()
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [3.0, 2.0, 1.0])
    np.testing.assert_array_equal(gg.asnumpy(y.grad), [1.0, 2.0, 3.0])


def test_result_is_no_view_unless_the_operation_says_so():
    class Copying(Reversed):
        can_return_view = False

    assert gg.execute_op(Copying, gg.tensor([1.0, 2.0])).base is None


# ----------------------------------------------------------------------------------- higher orders


def test_functional_gradient_works():
    def f(x):
        return gg.execute_op(Multiply, x, x).sum()

    np.testing.assert_array_equal(gg.grad(f)(gg.tensor([1.0, 2.0])).data, [2.0, 4.0])


def test_second_derivative_is_refused_with_the_way_to_it():
    def f(x):
        return gg.execute_op(Multiply, x, x).sum()

    with pytest.raises(gg.InvalidBackprop, match="derivative of Multiply.*gpugrad.primitive"):
        gg.grad(gg.grad(f))(2.0)


def test_the_librarys_own_classes_have_every_order():
    from gpugrad.math.arithmetic.ops import Power

    def f(x):
        return gg.execute_op(Power, x, 3.0)

    assert gg.grad(gg.grad(f))(2.0).item() == 12.0


# ------------------------------------------------------------------------------------------ creator


def test_creator_is_the_users_operation():
    x = gg.tensor([1.0])
    y = gg.execute_op(Multiply, x, 2.0)
    assert type(y.creator) is Multiply and y.creator is y.creator
    first, second = y.creator.variables
    assert not first.constant and second.constant
    assert first.creator is None and first.data is x.data
    y.clear_graph()
    assert y.creator is None


def test_variables_of_two_creators_are_one_tensor_where_they_are_one_operand():
    x = gg.tensor([1.0])
    middle = x * 2
    y, z = gg.execute_op(Multiply, middle, 3.0), gg.exp(middle)
    assert y.creator.variables[0] is z.creator.variables[0]
    assert y.creator.variables[0].creator.variables[0].data is x.data


def test_in_place_op_and_op_are_execute_op():
    t = gg.tensor([0.0])
    x = gg.tensor([3.0])
    t._in_place_op(Multiply, x, 2.0)
    np.testing.assert_array_equal(t.data, [6.0])
    assert gg.Tensor._op(Multiply, x, 2.0).item() == 6.0
