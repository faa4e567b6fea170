"""Functional gradients, of arrays of either library and of tensors."""

from __future__ import annotations

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import (
    DeviceMismatchError,
    InvalidBackprop,
    ParameterError,
)
from gpugrad.gradients import (
    adam_update,
    execute_with_gradients,
    gradient_descent_update,
    is_variable,
    stop_gradient,
    variable,
)
from gpugrad.tree import leaves
from tests.locks import leaves_no_lock
from tests.weight_trees import FORMS, STRUCTURES, cubes, in_form, raw, same_structure


@pytest.fixture
def make(as_device):
    """`make(x, form)`: an array of the library, or a tensor of one."""

    def made(x, form="array", dtype=None):
        return in_form(as_device(x, dtype), form)

    return made


# -------------------------------------------------------------------------------------- variables


def test_a_variable_is_a_copy_that_takes_gradients(make, xp):
    array = make([1.0, 2.0])
    x = variable(array)
    assert is_variable(x) and isinstance(x.data, xp.ndarray)
    array[0] = 7
    (x * x).backward()
    assert raw(x.grad).tolist() == [2.0, 4.0]


def test_a_variable_of_a_tensor_has_no_history(make):
    x = make([1.0, 2.0], "variable")
    y = variable(x * 3)
    (y * y).backward()
    assert x.grad is None and raw(y.grad).tolist() == [6.0, 12.0]
    assert is_variable(variable(make([1.0], "constant")))


@pytest.mark.parametrize("form", FORMS)
def test_only_tensors_that_take_gradients_are_variables(make, form):
    assert is_variable(make([1.0], form)) == (form == "variable")
    assert not is_variable(make([1, 2]))


@pytest.mark.parametrize("x", [1.5, [1.0, 2.0], np.float32(2)])
def test_numbers_and_lists_become_variables(x):
    assert np.array_equal(variable(x).data, x) and is_variable(variable(x))
    assert not is_variable(x)


@pytest.mark.parametrize("x", [3, [1, 2], True, np.arange(3), gg.tensor([1, 2])])
def test_integers_cannot_be_variables(x):
    with pytest.raises(TypeError, match="variable: x is of dtype .*, expected an array of floats"):
        variable(x)


def test_what_stop_gradient_returns_is_a_constant_of_the_same_memory(make):
    x = make([1.0, 2.0], "variable")
    s = stop_gradient(x)
    assert s.constant and (s.data is x.data or np.shares_memory(s.data, x.data))
    (s * x).backward()
    assert raw(x.grad).tolist() == [1.0, 2.0]


def test_stop_gradient_cuts_a_history_to_every_order():
    def f(x):
        return (stop_gradient(x**2) * x).sum()

    assert gg.grad(f)(3.0).item() == 9.0
    assert gg.grad(gg.grad(f))(3.0).item() == 0.0


def test_stop_gradient_returns_an_array_as_it_is(make):
    array = make([1.0])
    assert stop_gradient(array) is array
    assert stop_gradient(2.5) == 2.5


# ------------------------------------------------------------------------------------ the library


def calls(w):
    """Every function on a single weight, as ``call(f)``."""
    zero = w * 0
    return {
        "variable": lambda f: variable(w, f),
        "is_variable": lambda f: is_variable(w, f),
        "stop_gradient": lambda f: stop_gradient(w, f),
        "execute_with_gradients": lambda f: execute_with_gradients(cubes, [w], f=f),
        "gradient_descent_update": lambda f: gradient_descent_update([w], [w], 0.1, False, f),
        "adam_update": lambda f: adam_update([w], [w], 0.1, [zero], [zero], 1, inplace=False, f=f),
    }


NAMES = list(calls(np.ones(1)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_the_library_may_be_named_as_string_or_module(make, xp, name, form):
    call = calls(make([1.0, 2.0], form))[name]
    library = "numpy" if xp is np else "cupy"
    expected = call(None)
    for f in (library, xp, "gpugrad", gg):
        for ours, theirs in zip(leaves(call(f)), leaves(expected), strict=True):
            assert np.array_equal(raw(ours), raw(theirs))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_a_library_that_the_arrays_are_not_of_is_refused(make, xp, name, form):
    call = calls(make([1.0, 2.0], form))[name]
    other = "cupy" if xp is np else "numpy"
    with pytest.raises(DeviceMismatchError, match=f"{name}: f is '{other}', but .* is an array"):
        call(other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("f", ["torch", 3, pytest])
def test_another_library_is_refused(name, f):
    with pytest.raises(ParameterError, match=f'{name}: f is .*, expected "numpy", "cupy"'):
        calls(np.ones(2))[name](f)


def test_the_named_library_says_where_numbers_go(xp):
    library = "numpy" if xp is np else "cupy"
    assert isinstance(variable([1.0, 2.0], library).data, xp.ndarray)


# -------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradients_have_the_structure_and_values_of_xs(make, xp, structure, form, retain):
    a, b = [[1.0, -2.0], [0.5, 3.0]], [2.0, 4.0]
    xs = STRUCTURES[structure](make(a, form), make(b, form, "float32"))
    y, grads = execute_with_gradients(cubes, xs, retain)
    assert same_structure(grads, xs)
    assert float(raw(y)) == sum(float((raw(x) ** 3).sum()) for x in leaves(xs))
    for x, g in zip(leaves(xs), leaves(grads), strict=True):
        assert isinstance(g, gg.Tensor if retain else xp.ndarray)
        assert g.dtype == x.dtype and np.array_equal(raw(g), 3 * raw(x) ** 2)
    if leaves(xs):
        assert isinstance(y, gg.Tensor if retain else xp.ndarray)


def test_python_floats_are_differentiated_by():
    y, (g, h) = execute_with_gradients(lambda x: x[0] * x[1], (2.0, 5.0))
    assert (y, g, h) == (10.0, 5.0, 2.0)


def test_further_outputs_follow(make):
    w = make([1.0, 2.0])

    def f(w):
        return w.sum(), {"twice": [w * 2]}, "text", None

    y, _, inner, text, none = execute_with_gradients(f, w)
    assert (float(y), text, none) == (3.0, "text", None)
    assert not isinstance(inner["twice"][0], gg.Tensor)
    assert raw(inner["twice"][0]).tolist() == [2.0, 4.0]
    kept = execute_with_gradients(f, w, retain_grads=True)
    assert isinstance(kept[2]["twice"][0], gg.Tensor) and kept[3:] == ("text", None)


def test_retained_gradients_can_be_differentiated_again(make):
    x = make([1.0, -2.0], "variable")
    y, g = execute_with_gradients(cubes, {"x": x}, retain_grads=True)
    (y + (g["x"] ** 2).sum()).backward()
    expected = 3 * raw(x) ** 2 + 2 * 3 * raw(x) ** 2 * 6 * raw(x)
    assert np.allclose(raw(x.grad), expected, rtol=1e-14)


def test_hessian_by_two_calls_equals_finite_differences():
    def f(x):
        return (gg.exp(x[0]) * x[1] ** 2).sum()

    def gradient(point):
        return execute_with_gradients(f, point)[1]

    x = np.array([0.3, -1.2])
    v = np.array([0.7, 0.4])
    _, hv = execute_with_gradients(
        lambda x: (execute_with_gradients(f, x, retain_grads=True)[1] * v).sum(), x
    )
    h = 1e-5
    assert np.allclose(hv, (gradient(x + h * v) - gradient(x - h * v)) / (2 * h), rtol=1e-8)


@pytest.mark.parametrize("retain", [False, True])
def test_an_x_that_y_does_not_depend_on_has_gradient_zero(make, retain):
    used, unused = make([1.0, 2.0]), make([[3.0]], dtype="float32")
    _, (_, g) = execute_with_gradients(lambda xs: xs[0].sum(), [used, unused], retain)
    assert g.dtype == np.float32 and raw(g).tolist() == [[0.0]]
    _, g = execute_with_gradients(lambda x: gg.tensor(1.0), used.copy(), retain)
    assert raw(g).tolist() == [0.0, 0.0]


def test_no_tensor_and_no_array_is_changed():
    x, array = gg.tensor([1.0, 2.0]), np.array([3.0, 4.0])

    def f(xs):
        xs[0] *= 3
        xs[1][0] = 0
        return (xs[0] * xs[1]).sum()

    _, (g, h) = execute_with_gradients(f, [x, array])
    assert g.tolist() == [0.0, 12.0] and h.tolist() == [0.0, 6.0]
    assert x.grad is None and x.data.tolist() == [1.0, 2.0] and array.tolist() == [3.0, 4.0]
    assert x.data.flags.writeable and array.flags.writeable


def test_without_retaining_nothing_is_left_of_the_graph():
    array = np.array([3.0, 4.0])
    with leaves_no_lock():
        y, g, inner = execute_with_gradients(lambda x: ((x * x).sum(), x * 2), array)
    assert all(a.flags.writeable for a in (array, y, g, inner))
    with leaves_no_lock(), pytest.raises(ZeroDivisionError):
        execute_with_gradients(lambda x: (x * x).sum() / (1 // 0), array)
    assert array.flags.writeable


def test_what_is_returned_does_not_share_memory_with_xs():
    array = np.array([3.0])
    y, g = execute_with_gradients(lambda x: x[0], array)
    kept, _ = execute_with_gradients(lambda x: x[0:1], array)
    a, (b, c) = execute_with_gradients(lambda x: x[0] + x[1], [array[0:1], array])
    array[0] = 9
    assert y == 3.0 and g == 1.0 and a == 6.0 and not np.shares_memory(b, c)
    assert kept == [3.0]


def test_gradients_are_found_under_no_autodiff():
    with gg.no_autodiff:
        _, g = execute_with_gradients(cubes, np.array([2.0]))
        _, h = execute_with_gradients(cubes, np.array([2.0]), retain_grads=True)
    assert g.tolist() == h.data.tolist() == [12.0]


@pytest.mark.parametrize("retain", [False, True])
def test_what_cannot_be_differentiated_is_refused(retain):
    w = np.ones(2)
    for xs in ([np.arange(2)], {"a": "text"}, [None], True):
        with pytest.raises(TypeError, match=r"execute_with_gradients: xs.* expected an array"):
            execute_with_gradients(cubes, xs, retain)
    with pytest.raises(InvalidBackprop, match=r"shape \(2,\) first, expected one number"):
        execute_with_gradients(lambda w: w * 2, w, retain)
    for result in (3.0, np.ones(1), None, ()):
        with pytest.raises(TypeError, match="first, expected a Tensor"):
            execute_with_gradients(lambda w, result=result: result, w, retain)
