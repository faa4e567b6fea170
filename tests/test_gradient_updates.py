"""Updates of weights, of arrays of either library and of tensors: whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import (
    DeviceMismatchError,
    ParameterError,
    TreeMismatchError,
)
from gpugrad.gradients import (
    adam_update,
    execute_with_gradients,
    gradient_descent_update,
)
from gpugrad.tree import leaves, rebuild
from tests.weight_trees import FORMS, STRUCTURES, in_form, raw, same_structure


@pytest.fixture
def make(as_device):
    """`make(x, form)`: an array of the library, or a tensor of one."""

    def made(x, form="array", dtype=None):
        return in_form(as_device(x, dtype), form)

    return made


# ---------------------------------------------------------------------------------------- descent


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_descent_subtracts_the_rate_times_the_gradient(make, structure, form, inplace):
    ws = STRUCTURES[structure](make([[1.0, 2.0]], form), make([4.0], form, "float32"))
    gs = STRUCTURES[structure](make([[0.5, -2.0]]), make([8.0], dtype="float32"))
    arrays = [getattr(w, "data", w) if form != "array" else w for w in leaves(ws)]
    expected = [raw(w) - 0.25 * raw(g) for w, g in zip(leaves(ws), leaves(gs), strict=True)]
    before = [raw(w).copy() for w in leaves(ws)]
    new = gradient_descent_update(ws, gs, 0.25, inplace)
    assert same_structure(new, ws) and (new is ws) == inplace
    for w, n, old, array, e in zip(leaves(ws), leaves(new), before, arrays, expected, strict=True):
        assert np.array_equal(raw(n), e) and n.dtype == old.dtype
        assert np.array_equal(raw(w), e if inplace else old)
        if inplace:
            assert n is w and np.array_equal(raw(array), e)


def test_descent_can_be_differentiated_by_weights_gradients_and_rate():
    w, g, lr = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 5.0]), gg.tensor(0.1)
    (new,) = gradient_descent_update([w], [g], lr, inplace=False)
    (new * np.array([1.0, 10.0])).sum().backward()
    assert np.allclose(w.grad, [1.0, 10.0]) and np.allclose(g.grad, [-0.1, -1.0])
    assert np.allclose(lr.grad, -53.0)


def test_a_rate_of_higher_precision_keeps_the_weights_dtype(make):
    for inplace in (True, False):
        for lr in (np.float64(0.5), make(0.5)):
            new = gradient_descent_update(
                make([1.0], dtype="float32"), make([1.0], dtype="float32"), lr, inplace
            )
            assert new.dtype == np.float32 and raw(new).tolist() == [0.5]


def test_a_view_is_updated_in_its_bases_memory():
    base = gg.tensor([1.0, 2.0, 3.0])
    with gg.no_autodiff:
        view = base[1:]
    gradient_descent_update([view], [np.ones(2)], 1.0)
    assert base.data.tolist() == [1.0, 1.0, 2.0]


def test_a_training_loop_reaches_the_minimum(make):
    w = {"w": make([4.0, -3.0], "variable"), "b": make(1.0)}
    for _ in range(60):
        _, g = execute_with_gradients(lambda w: ((w["w"] - 1) ** 2).sum() + w["b"] ** 2, w)
        w = gradient_descent_update(w, g, 0.25)
    assert np.allclose(raw(w["w"]), 1.0, atol=1e-12) and abs(float(raw(w["b"]))) < 1e-12


# ------------------------------------------------------------------------------------------- Adam


def by_hand(w, gradients, lr, beta1=0.9, beta2=0.999, epsilon=1e-7):
    """Algorithm 1 of Kingma and Ba for one number, as it stands there."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        mean, square = m / (1 - beta1**t), v / (1 - beta2**t)
        w = w - lr * mean / (square**0.5 + epsilon)
    return w, m, v


SETTINGS = [{}, {"beta1": 0.0, "beta2": 0.5}, {"beta1": 0.5, "epsilon": 0.1}]


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_first_steps_of_adam_are_those_computed_by_hand(make, form, inplace, options):
    start, gradients = [[1.0, -2.0], [0.0, 5.0]], [0.3, -4.0, 0.0, 1e-3]
    ws = {"w": make(start, form)}
    mw, vw = ({"w": make(np.zeros((2, 2)), form)} for _ in range(2))
    for t, g in enumerate(gradients, 1):
        dcdws = {"w": make(np.full((2, 2), g))}
        ws, mw, vw = adam_update(ws, dcdws, 0.01, mw, vw, t, inplace=inplace, **options)
        assert isinstance(mw["w"], gg.Tensor) == (form != "array")
        for place in np.ndindex(2, 2):
            expected = by_hand(start[place[0]][place[1]], gradients[:t], 0.01, **options)
            found = [raw(x["w"])[place] for x in (ws, mw, vw)]
            assert np.allclose(found, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_adam_keeps_the_structure_and_the_moments(make, structure, inplace):
    def tree(a, b):
        return STRUCTURES[structure](make(a), make(b, dtype="float32"))

    ws, gs, mw, vw = (tree([[x, x]], x) for x in (1.0, 0.5, 0.25, 0.125))
    before = [raw(w).copy() for w in leaves(ws)]
    new, m, v = adam_update(ws, gs, 0.1, mw, vw, 3, inplace=inplace)
    assert all(same_structure(x, ws) for x in (new, m, v)) and (new is ws) == inplace
    assert all(raw(x).tolist() in ([[0.25, 0.25]], 0.25) for x in leaves(mw))
    for w, n, k, old in zip(leaves(ws), leaves(new), leaves(m), before, strict=True):
        assert hasattr(n, "shape") and n.shape == old.shape == k.shape
        assert n.dtype == old.dtype == k.dtype
        assert (n is w) == inplace and not np.array_equal(raw(n), old)
    again, *_ = adam_update(new, gs, 0.1, m, v, 4, inplace=inplace)
    assert same_structure(again, ws)


def test_the_first_step_of_adam_has_the_length_of_the_rate():
    w = adam_update(np.zeros(3), np.array([1e-2, 7.0, -1e4]), 0.1, np.zeros(3), np.zeros(3), 1)[0]
    assert np.allclose(w, [-0.1, -0.1, 0.1], rtol=1e-4)


def weights_after_adam(w, lr, g_of, steps=1):
    m, v = np.zeros(3), np.zeros(3)
    for t in range(1, steps + 1):
        w, m, v = adam_update(w, g_of(w), lr, m, v, t, epsilon=1e-3, inplace=False)
    return (w * np.array([1.0, -2.0, 0.5])).sum()


@pytest.mark.parametrize("steps", [1, 3])
def test_derivatives_through_adam_equal_finite_differences(steps):
    """By the rate and by the first weights, whose gradients take part in every step."""
    start, h = np.array([0.3, -0.2, 0.1]), 1e-6

    def g_of(w):
        return 2 * w + w**3

    def f(w, lr):
        return float(weights_after_adam(w, lr, g_of, steps))

    w, lr = gg.tensor(start), gg.tensor(0.05)
    weights_after_adam(w, lr, g_of, steps).backward()
    assert np.allclose(lr.grad, (f(start, 0.05 + h) - f(start, 0.05 - h)) / (2 * h), rtol=1e-6)
    for i, e in enumerate(h * np.eye(3)):
        slope = (f(start + e, 0.05) - f(start - e, 0.05)) / (2 * h)
        assert np.allclose(w.grad[i], slope, rtol=1e-6)


def test_a_step_of_adam_can_be_learned_from():
    """Higher-order optimisation: gradient, update and second cost are one graph."""

    def cost(w):
        return (w**4).sum()

    def after_one_step(w, lr):
        _, g = execute_with_gradients(cost, w, retain_grads=True)
        return cost(adam_update(w, g, lr, w * 0, w * 0, 1, epsilon=0.01, inplace=False)[0])

    start, h = np.array([0.5, -0.4]), 1e-6
    w, lr = gg.tensor(start), gg.tensor(0.1)
    after_one_step(w, lr).backward()

    def value(w, lr):
        return after_one_step(gg.tensor(w), lr).item()

    assert np.allclose(
        lr.grad, (value(start, 0.1 + h) - value(start, 0.1 - h)) / (2 * h), rtol=1e-6
    )
    for i, e in enumerate(h * np.eye(2)):
        slope = (value(start + e, 0.1) - value(start - e, 0.1)) / (2 * h)
        assert np.allclose(w.grad[i], slope, rtol=1e-6)


def test_derivative_through_adam_is_finite_where_the_gradient_is_zero():
    g = gg.tensor([0.0, 1.0])
    w, *_ = adam_update(
        np.zeros(2), g, 0.1, np.zeros(2), np.zeros(2), 1, epsilon=0.5, inplace=False
    )
    w.sum().backward()
    # -lr g / (|g| + epsilon) has slope -lr / epsilon at 0, and -lr epsilon / (1 + epsilon)^2 at 1
    assert np.allclose(g.grad, [-0.2, -0.05 / 2.25], rtol=1e-12)


@pytest.mark.parametrize("step", [0, -1, 0.5, True, "a", None, np.ones(2)])
def test_a_step_that_does_not_count_from_one_is_refused(step):
    w = np.ones(2)
    with pytest.raises(ParameterError, match="adam_update: step is .*, expected an integer from 1"):
        adam_update(w, w.copy(), 0.1, w * 0, w * 0, step)
    assert w.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("step", [1, np.int32(1), np.array(1), 1.0, np.array([1.0]), gg.tensor(1)])
def test_a_step_may_be_any_whole_number(step):
    w = np.ones(2)
    new = adam_update(w, w.copy(), 0.1, w * 0, w * 0, step, inplace=False)[0]
    assert np.allclose(new, 0.9, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"beta1": np.nan},
        {"epsilon": -1e-9},
        {"epsilon": np.inf},
        {"lr": np.nan},
        {"lr": "fast"},
        {"lr": np.ones(2)},
    ],
)
def test_settings_outside_their_range_are_refused(options):
    w = np.ones(2)
    with pytest.raises(ParameterError, match=f"adam_update: {next(iter(options))} "):
        adam_update(w, w.copy(), **{"lr": 0.1, "mw": w * 0, "vw": w * 0, "step": 1, **options})
    assert w.tolist() == [1.0, 1.0]


# ------------------------------------------------------------------------- all or nothing is done


def read_only(x):
    x.flags.writeable = False
    return x


UNFIT = {
    "a missing key": (
        {"a": [1.0]},
        TreeMismatchError,
        r"dcdws is a dict with the keys \['a'\], ws",
    ),
    "another length": ([[1.0]], TreeMismatchError, "dcdws is a list of length 1, ws is a dict"),
    "a leaf for a branch": (1.0, TreeMismatchError, r"dcdws is a leaf \(float\)"),
    "a branch for a leaf": (
        {"a": np.ones(1), "b": {"c": 1}},
        TreeMismatchError,
        r"dcdws\['b'\] is a dict with the keys \['c'\], ws\['b'\] is a leaf",
    ),
    "another shape": (
        {"a": np.ones(1), "b": np.ones(3)},
        ParameterError,
        r"dcdws\['b'\] has shape \(3,\), ws\['b'\] has shape \(2,\)",
    ),
    "a shape that would broadcast": (
        {"a": np.ones(1), "b": np.ones(1)},
        ParameterError,
        r"dcdws\['b'\] has shape \(1,\)",
    ),
    "integers": (
        {"a": np.ones(1), "b": np.ones(2, int)},
        TypeError,
        r"dcdws\['b'\] is of dtype int64",
    ),
    "nothing": ({"a": np.ones(1), "b": None}, TypeError, r"dcdws\['b'\] is NoneType"),
}


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_refused_before_anything_is_written(name, inplace):
    bad, kind, message = UNFIT[name]
    ws = {"a": np.ones(1), "b": np.ones(2)}
    good = rebuild(ws, [np.ones(1), np.ones(2)])
    with pytest.raises(kind, match=f"gradient_descent_update: {message}"):
        gradient_descent_update(ws, bad, 0.1, inplace)
    for column, name in enumerate(("dcdws", "mw", "vw")):
        trees = [good, good, good]
        trees[column] = bad
        with pytest.raises(kind, match="adam_update: " + message.replace("dcdws", name)):
            adam_update(ws, trees[0], 0.1, trees[1], trees[2], 1, inplace=inplace)
    assert [w.tolist() for w in leaves(ws)] == [[1.0], [1.0, 1.0]]


def test_keys_may_come_in_any_order():
    ws = {"a": np.ones(1), "b": np.ones(2)}
    gradient_descent_update(ws, {"b": np.full(2, 2.0), "a": np.full(1, 3.0)}, 1.0)
    assert ws["a"].tolist() == [-2.0] and ws["b"].tolist() == [-1.0, -1.0]


UNWRITABLE = {
    "read-only": (lambda: read_only(np.ones(2)), ValueError, "by its owner's wish"),
    "a Python number": (lambda: 1.0, TypeError, "cannot be written into"),
    "a NumPy number": (lambda: np.float64(1), TypeError, "cannot be written into"),
    "integers": (lambda: np.ones(2, int), TypeError, "of dtype int64"),
    "text": (lambda: "w", TypeError, "is str"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_weight_that_cannot_be_written_leaves_the_others_alone(name):
    make_bad, kind, message = UNWRITABLE[name]
    first, bad = np.ones(2), make_bad()
    gs = [np.ones(2), np.ones(np.shape(bad))]
    with pytest.raises(kind, match=rf"ws\[1\] .*{message}"):
        gradient_descent_update([first, bad], gs, 0.1)
    with pytest.raises(kind, match=rf"ws\[1\] .*{message}"):
        adam_update([first, bad], gs, 0.1, gs, gs, 1)
    assert first.tolist() == [1.0, 1.0]


def test_weights_of_a_live_graph_are_left_alone():
    array = np.array([1.0, 2.0])
    x, first = gg.tensor(array, copy=False), np.ones(2)
    whole = gg.tensor([1.0, 2.0, 3.0])
    part = whole.data[1:]
    y = x * x + (whole * 1)[1:]
    for w in (x, array, whole[1:], part, y):
        with pytest.raises(ValueError, match=r"ws\[1\] is read-only while a graph depends on it"):
            gradient_descent_update([first, w], [first, np.ones(2)], 0.1)
    assert first.tolist() == [1.0, 1.0]
    y.backward()
    gradient_descent_update([first, x], [np.ones(2), x.grad], 0.5)
    assert array.tolist() == [0.0, 0.0]
    assert x.grad.tolist() == [2.0, 4.0]


def test_an_error_while_computing_leaves_the_weights_alone():
    first, second = np.ones(2), np.ones(2)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        gradient_descent_update([first, second], [np.ones(2), np.full(2, 1e308)], 1e10)
    small = np.ones(2, np.float32)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        gradient_descent_update([first, small], [np.ones(2), np.full(2, 1e300)], 0.1)
    assert first.tolist() == second.tolist() == small.tolist() == [1.0, 1.0]


def test_gradients_may_be_the_weights_themselves():
    a, b = np.ones(2), np.full(2, 3.0)
    gradient_descent_update([a, b], [b, a], 1.0)
    assert a.tolist() == [-2.0, -2.0] and b.tolist() == [2.0, 2.0]


def test_weights_and_gradients_on_two_devices_are_refused(cupy_standin):
    w, g = cupy_standin.ones(2), np.ones(2)
    zero = cupy_standin.zeros(2)
    with pytest.raises(DeviceMismatchError, match=r"dcdws is on cpu, ws is on cuda:0"):
        gradient_descent_update(w, g, 0.1)
    with pytest.raises(DeviceMismatchError, match=r"vw\[0\] is on cpu, ws\[0\] is on cuda:0"):
        adam_update([w], [w], 0.1, [zero], [g], 1)
    assert raw(w).tolist() == [1.0, 1.0]


# --------------------------------------------------------------------------------- what is returned


def test_settings_given_as_tensors_make_no_tensors_of_arrays_written_into():
    w, zeros = np.ones(2), np.zeros(2)
    lr, beta = gg.tensor(0.5), gg.tensor(0.9)
    (new,), (m,), (v,) = adam_update([w], [np.ones(2)], lr, [zeros], [zeros], 1, beta, beta, lr)
    assert new is w and type(m) is type(v) is np.ndarray
    assert type(gradient_descent_update([w], [w.copy()], lr)[0]) is np.ndarray


def test_running_means_that_are_constants_stay_constants():
    w, means = gg.tensor([1.0]), gg.tensor([0.0], constant=True)
    _, (m,), (v,) = adam_update([w], [np.ones(1)], 0.1, [means], [np.zeros(1)], 1)
    assert m.constant
    assert type(v) is np.ndarray


def test_arrays_of_no_dimension_stay_arrays():
    w, g, zero = np.array(2.0), np.array(1.0), np.array(0.0)
    new = gradient_descent_update(w, g, 0.5, inplace=False)
    assert type(new) is np.ndarray and new == 1.5
    for x in adam_update(w, g, 0.5, zero, zero, 1, inplace=False):
        assert type(x) is np.ndarray


def test_host_numbers_may_stand_beside_arrays_of_any_library(cupy_standin):
    w = cupy_standin.asarray(np.ones(2))
    (found,) = gradient_descent_update([w], [w], np.float64(0.5), inplace=False, f="cupy")
    assert found.tolist() == [0.5, 0.5]
    assert gg.gradients.stop_gradient(np.float64(2.0), "cupy") == 2.0
