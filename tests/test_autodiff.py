"""Derivatives of functions: of every order, nested, against closed forms and differences."""

from __future__ import annotations

import contextlib
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.differences import differences
from tests.smooth import A, V, X, smooth


def test_grad_against_differences():
    np.testing.assert_allclose(gg.grad(smooth)(X), differences(smooth, X), rtol=1e-7)


def test_grad_is_what_backward_finds():
    x = gg.tensor(X)
    smooth(x).backward()
    np.testing.assert_allclose(gg.grad(smooth)(X), x.grad, rtol=1e-14)


def test_hessian_against_differences_of_the_gradient():
    expected = differences(gg.grad(smooth), X)
    found = gg.hessian(smooth)(X)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.data, found.data.T, rtol=1e-12)


def test_third_order_against_differences_of_the_hessian():
    third = gg.jacobian(gg.hessian(smooth))(X)
    assert third.shape == (3, 3, 3)
    expected = differences(gg.hessian(smooth), X)
    np.testing.assert_allclose(third, expected, rtol=1e-6, atol=1e-6)


def test_hvp_is_the_hessian_times_a_vector():
    expected = gg.hessian(smooth)(X).data @ V
    np.testing.assert_allclose(gg.hvp(smooth, X, V), expected, rtol=1e-12)
    np.testing.assert_allclose(gg.hvp(smooth, gg.tensor(X), gg.tensor(V)), expected, rtol=1e-12)


def test_closed_forms(device: str):
    a, x = gg.tensor(A, device=device), gg.tensor(X, device=device)

    def quadratic(x: gg.Tensor) -> gg.Tensor:
        return x @ a @ x

    np.testing.assert_allclose(gg.asnumpy(gg.grad(quadratic)(x)), (A + A.T) @ X)
    np.testing.assert_allclose(gg.asnumpy(gg.hessian(quadratic)(x)), A + A.T)
    found = gg.jacobian(lambda x: a @ x)(x)
    assert str(found.device).startswith(device)
    np.testing.assert_allclose(gg.asnumpy(found), A)
    y, pullback = gg.vjp(lambda x, a: a @ x, x, a)
    gx, ga = pullback(gg.tensor(V, device=device))
    np.testing.assert_allclose(gg.asnumpy(y), A @ X)
    np.testing.assert_allclose(gg.asnumpy(gx), A.T @ V)
    np.testing.assert_allclose(gg.asnumpy(ga), np.outer(V, X))


@pytest.mark.parametrize("order, expected", list(enumerate((32, 80, 160, 240, 240, 120, 0))))
def test_every_order_of_a_power(order: int, expected: float):
    f: Callable[..., Any] = lambda x: x**5
    for _ in range(order):
        f = gg.grad(f)
    assert float(f(gg.tensor(2.0))) == pytest.approx(expected)


def test_nested_closures_do_not_confuse_their_variables():
    # d/dx [x * d/dy (x + y)] = 1, not 2: perturbation confusion
    assert gg.grad(lambda x: x * gg.grad(lambda y: x + y)(1.0))(1.0).item() == 1.0
    # d/dx [x * d/dy (x y)] = d/dx x^2
    assert gg.grad(lambda x: x * gg.grad(lambda y: x * y)(5.0))(3.0).item() == 6.0
    # the same variable inside and outside
    assert gg.grad(lambda x: gg.grad(lambda y: y * y * x)(x))(3.0).item() == 12.0


def test_argnums():
    f = lambda x, y, z: x * y**2 + z
    assert gg.grad(f)(2.0, 3.0, 1.0).item() == 9.0
    assert gg.grad(f, 1)(2.0, 3.0, 1.0).item() == 12.0
    assert [g.item() for g in gg.grad(f, (1, 0))(2.0, 3.0, 1.0)] == [12.0, 9.0]
    assert gg.grad(f, -1)(2.0, 3.0, 1.0).item() == 1.0
    first, second = gg.jacobian(lambda x, y: x[:2] * y, (0, 1))(X, 2.0)
    np.testing.assert_array_equal(first, 2 * np.eye(2, 3))
    np.testing.assert_array_equal(second, X[:2])
    np.testing.assert_array_equal(
        gg.hessian(lambda x, y: (y * y * x).sum(), 1)(X, 2.0), 2 * X.sum()
    )


def test_argnums_may_be_one_of_numpys_integers():
    one, several = np.int64(1), np.array([0, 1])
    f = lambda x, y: x * y * y
    assert gg.grad(f, one)(2.0, 3.0).item() == 12
    assert [g.item() for g in gg.grad(f, several)(2.0, 3.0)] == [9, 12]
    assert gg.hessian(f, one)(2.0, 3.0).item() == 4


def test_value_and_grad_and_aux():
    y, g = gg.value_and_grad(lambda x: (x * x).sum())(X)
    assert y.item() == pytest.approx((X * X).sum())
    np.testing.assert_allclose(g, 2 * X)
    (y, aux), g = gg.value_and_grad(lambda x: ((x * x).sum(), "note"), has_aux=True)(X)
    assert aux == "note"
    np.testing.assert_allclose(g, 2 * X)


def test_keyword_arguments_are_passed_on():
    assert gg.grad(lambda x, *, power: x**power)(2.0, power=3).item() == 12.0


def test_argument_that_does_not_matter_has_gradient_zero():
    _, gy = gg.grad(lambda x, y: (x * x).sum(), (0, 1))(X, A)
    np.testing.assert_array_equal(gy, np.zeros((3, 3)))
    np.testing.assert_array_equal(gg.grad(lambda x: gg.tensor(1.0))(X), np.zeros(3))
    np.testing.assert_array_equal(gg.hessian(lambda x: x.sum())(X), np.zeros((3, 3)))


def test_gradients_have_the_dtype_of_their_arguments():
    x = X.astype(np.float32)
    assert gg.grad(lambda x: (x * A).sum())(x).dtype == np.float32
    assert gg.hvp(lambda x: (x * x).sum(), x, x).dtype == np.float32
    assert gg.jacobian(lambda x: x * x)(x).dtype == np.float32


def test_pullback_may_be_called_again_and_differentiated():
    _, pullback = gg.vjp(lambda x: x**3, X)
    (a,) = pullback(V)
    (b,) = pullback(2 * V)
    np.testing.assert_allclose(a, 3 * X**2 * V)
    np.testing.assert_allclose(b, 2 * a.data)
    found = gg.grad(lambda v: (gg.vjp(lambda x: x**3, gg.tensor(X))[1](v)[0] * V).sum())(V)
    np.testing.assert_allclose(found, 3 * X**2 * V)


def test_jacobian_of_shapes():
    f = lambda x: gg.stack([x, x**2])
    assert gg.jacobian(f)(A).shape == (2, 3, 3, 3, 3)
    expected = differences(f, A)
    np.testing.assert_allclose(gg.jacobian(f)(A), expected, atol=1e-8)
    assert gg.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    assert gg.jacobian(lambda x: x.sum())(X).shape == (3,)


def test_jvp_is_the_jacobian_times_a_vector(device: str):
    x, v = gg.tensor(X, device=device), gg.tensor(V, device=device)
    f = lambda x: gg.stack([gg.tanh(x) * x[::-1], gg.exp(x)])
    y, dy = gg.jvp(f, x, v)
    np.testing.assert_allclose(gg.asnumpy(y), gg.asnumpy(f(x)))
    expected = gg.asnumpy(gg.jacobian(f)(x)) @ V
    np.testing.assert_allclose(gg.asnumpy(dy), expected, rtol=1e-13)
    assert str(dy.device).startswith(device)


def test_jvp_along_several_arguments_adds_up():
    f = lambda x, a: a @ gg.exp(x)
    _, dy = gg.jvp(f, (X, A), (V, 2 * A))
    np.testing.assert_allclose(dy, A @ (np.exp(X) * V) + 2 * A @ np.exp(X))
    _, zero = gg.jvp(f, (X, A), (0 * V, 0 * A))
    np.testing.assert_array_equal(zero, np.zeros(3))


def test_jvp_and_grad_differentiate_each_other():
    cube = lambda x: x**3
    along = lambda x: gg.jvp(cube, x, V)[1]
    np.testing.assert_allclose(gg.jvp(along, X, V)[1], 6 * X * V**2)
    np.testing.assert_allclose(gg.grad(lambda x: along(x).sum())(X), 6 * X * V)
    # by the tangent, which it is linear in
    by_tangent = gg.jacobian(lambda v: gg.jvp(cube, X, v)[1])(V)
    np.testing.assert_allclose(by_tangent, np.diag(3 * X**2))
    # forward over reverse is the Hessian-vector product
    forward = gg.jvp(gg.grad(smooth), X, V)[1]
    np.testing.assert_allclose(forward, gg.hvp(smooth, X, V), rtol=1e-12)


def test_jvp_of_nothing_that_depends_is_zero():
    y, dy = gg.jvp(lambda x: {"a": gg.tensor([1.0, 2.0]), "b": x * 0.0, "n": gg.arange(2)}, X, V)
    assert list(dy) == list(y)
    np.testing.assert_array_equal(dy["a"], [0.0, 0.0])
    np.testing.assert_array_equal(dy["b"], np.zeros(3))
    np.testing.assert_array_equal(dy["n"], [0, 0])
    _, same = gg.jvp(lambda x: x, X, V)
    np.testing.assert_array_equal(same, V)


def test_arguments_may_be_nested_and_so_are_gradients():
    w = {"weight": A, "scales": [gg.tensor(X), 2.0], "more": ()}

    def f(w: Any, x: Any) -> gg.Tensor:
        assert isinstance(w["scales"], list)
        return gg.sum((w["weight"] @ x) * w["scales"][0]) * w["scales"][1]

    g = gg.grad(f)(w, V)
    assert list(g) == list(w)
    np.testing.assert_allclose(g["weight"], 2 * np.outer(X, V))
    np.testing.assert_allclose(g["scales"][0], 2 * A @ V)
    assert g["scales"][1].item() == pytest.approx((A @ V) @ X)
    assert g["more"] == ()
    by_both = gg.grad(f, (1, 0))(w, V)
    np.testing.assert_allclose(by_both[0], 2 * A.T @ X)
    np.testing.assert_allclose(by_both[1]["weight"], g["weight"])


def test_products_of_nested_arguments_and_results():
    f = lambda p: {"u": p["x"] * p["y"], "v": [p["x"].sum()]}
    p, t = {"x": X, "y": V}, {"x": V, "y": X}
    _, dy = gg.jvp(f, p, t)
    np.testing.assert_allclose(dy["u"], V * V + X * X)
    assert dy["v"][0].item() == pytest.approx(V.sum())
    _, pullback = gg.vjp(f, p)
    (g,) = pullback({"u": V, "v": [2.0]})
    np.testing.assert_allclose(g["x"], V * V + 2)
    np.testing.assert_allclose(g["y"], X * V)
    h = gg.hvp(lambda p: (p["x"] ** 2 * p["y"]).sum(), p, t)
    np.testing.assert_allclose(h["x"], 2 * V * V + 2 * X * X)
    np.testing.assert_allclose(h["y"], 2 * X * V)


def test_list_of_numbers_is_an_array():
    np.testing.assert_array_equal(gg.grad(lambda x: (x * x).sum())([1.0, 2.0]), [2.0, 4.0])
    np.testing.assert_array_equal(gg.grad(lambda x: x[1][0] ** 2)([[1], [2.0]]), [[0.0], [4.0]])


def test_list_of_arrays_is_a_list():
    for make in (np.asarray, gg.tensor):
        found = gg.grad(lambda xs: (xs[0] * xs[1]).sum())([make(X), make(V)])
        assert type(found) is list
        np.testing.assert_array_equal(found[0], V)
        np.testing.assert_array_equal(found[1], X)


def test_one_number_may_have_axes_of_length_one():
    y, found = gg.value_and_grad(lambda x: (x * x).sum(keepdims=True))(X)
    assert y.shape == (1,) * X.ndim
    np.testing.assert_array_equal(found, 2 * X)


def test_product_with_the_hessian_has_the_structure_of_a_tuple_of_one_and_needs_no_tracking():
    f = lambda x: (x**3).sum()
    for switch in (contextlib.nullcontext(), gg.no_autodiff):
        with switch:
            found = gg.hvp(f, (X,), (V,))
            assert type(found) is tuple
            np.testing.assert_allclose(found[0], 6 * X * V)


def test_jacobian_of_nothing_has_the_dtype_of_the_argument():
    found = gg.jacobian(lambda x: x[:0])(X.astype(np.float32))
    assert found.shape == (0, *X.shape)
    assert found.dtype == np.float32


def test_cotangent_on_another_device_is_refused(cupy_standin: Any):
    _, pullback = gg.vjp(lambda x: gg.reshape(x, (-1, 1)), gg.tensor(X, device="cuda"))
    with pytest.raises(gg.errors.DeviceMismatchError, match="vjp"):
        pullback(X.reshape(-1, 1))


def test_namedtuple_of_numbers_keeps_its_names():
    Line = namedtuple("Line", "slope offset")
    found = gg.grad(lambda p: p.slope**2 * p.offset)(Line(3.0, 5.0))
    assert type(found) is Line
    assert (found.slope.item(), found.offset.item()) == (30.0, 9.0)


def test_leaf_that_is_no_array_is_named_with_the_function():
    for leaf in (None, "x", 1j):
        with pytest.raises(TypeError, match="grad: got an argument of type"):
            gg.grad(lambda p: p["a"])({"a": 2.0, "b": leaf})


def test_hvp_by_several_arguments():
    f = lambda x, y: (x**2 * y).sum()
    hx, hy = gg.hvp(f, (X, V), (V, X))
    np.testing.assert_allclose(hx, 2 * V * V + 2 * X * X)
    np.testing.assert_allclose(hy, 2 * X * V)


def test_hessian_by_several_arguments_is_made_of_blocks():
    f = lambda x, y: (x**2).sum() * y**3
    (xx, xy), (yx, yy) = gg.hessian(f, (0, 1))(X, 2.0)
    np.testing.assert_allclose(xx, 16 * np.eye(3))
    np.testing.assert_allclose(xy, 24 * X)
    np.testing.assert_allclose(yx, 24 * X)
    assert yy.item() == pytest.approx(12 * (X**2).sum())


@pytest.mark.parametrize("tracking", (True, False))
def test_matrices_of_nested_arguments_and_results_are_nested(tracking: bool):
    f = lambda p: {"u": p["x"] * p["y"], "v": [p["x"].sum()]}
    p = {"x": X, "y": V}
    with contextlib.nullcontext() if tracking else gg.no_autodiff:
        jacobian = gg.jacobian(f)(p)
        hessian = gg.hessian(lambda p: (p["x"] ** 2 * p["y"]).sum())(p)
    np.testing.assert_allclose(jacobian["u"]["x"], np.diag(V))
    np.testing.assert_allclose(jacobian["u"]["y"], np.diag(X))
    np.testing.assert_allclose(jacobian["v"][0]["x"], np.ones(3))
    np.testing.assert_allclose(jacobian["v"][0]["y"], np.zeros(3))
    np.testing.assert_allclose(hessian["x"]["x"], np.diag(2 * V))
    np.testing.assert_allclose(hessian["x"]["y"], np.diag(2 * X))
    np.testing.assert_allclose(hessian["y"]["x"], np.diag(2 * X))
    np.testing.assert_allclose(hessian["y"]["y"], np.zeros((3, 3)))


def test_derivatives_of_mixed_precision_keep_their_second_order():
    x = X.astype(np.float32)
    found = gg.hessian(lambda x: ((x * V) ** 3).sum())(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.diag(6 * X * V**3), rtol=1e-6)


def test_aux_is_handed_on():
    f = lambda x: ((x * x).sum(), {"n": 3})
    g, aux = gg.grad(f, has_aux=True)(X)
    np.testing.assert_allclose(g, 2 * X)
    assert aux == {"n": 3}
    _, pullback, aux = gg.vjp(lambda x: (x * x, "note"), X, has_aux=True)
    np.testing.assert_allclose(pullback(V)[0], 2 * X * V)
    assert aux == "note"


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: gg.grad(lambda x: x * 2.0)(X), gg.InvalidBackprop),
        (lambda: gg.grad(lambda x: 3.0)(X), TypeError),
        (lambda: gg.grad(lambda x: x.sum())(np.arange(3)), TypeError),
        (lambda: gg.grad(lambda x: x.sum())(gg.arange(3)), TypeError),
        (lambda: gg.grad(lambda x: x.sum(), 1)(X), ValueError),
        (lambda: gg.grad(lambda x: x.sum(), (0, 2))(X), ValueError),
        (lambda: gg.grad(lambda x: x.sum())("x"), TypeError),
        (lambda: gg.grad(lambda x: x.sum())(True), TypeError),
        (lambda: gg.jacobian(lambda x: 1.0)(X), TypeError),
        (lambda: gg.jacobian(lambda x: (x, 1.0))(X), TypeError),
        (lambda: gg.vjp(lambda x: 1.0, X), TypeError),
        (lambda: gg.vjp(lambda x: x * x, X)[1](np.ones(2)), ValueError),
        (lambda: gg.hvp(lambda x: x.sum(), X, np.ones(2)), ValueError),
        (lambda: gg.hvp(lambda x: x * x, X, V), gg.InvalidBackprop),
        (lambda: gg.hvp(lambda x, y: x.sum(), (X, V), X), ValueError),
        (lambda: gg.hvp(lambda x, y: x.sum(), (X, V), (X, A)), ValueError),
        (lambda: gg.hvp(lambda x: x.sum(), np.arange(3), X), TypeError),
        (lambda: gg.jvp(lambda x: x, X, np.ones(2)), ValueError),
        (lambda: gg.jvp(lambda x: x, (X,), (X, X)), ValueError),
        (lambda: gg.jvp(lambda p: p["a"], {"a": X}, {"b": X}), ValueError),
        (lambda: gg.jvp(lambda x: 1.0, X, V), TypeError),
        (lambda: gg.jvp(lambda x: x, np.arange(3), V), TypeError),
        (lambda: gg.vjp(lambda x: [x, x], X)[1](X), ValueError),
        (lambda: gg.vjp(lambda x: [x, x], X)[1]([X]), ValueError),
        (lambda: gg.grad(lambda p: p["a"].sum())({"a": np.arange(3)}), TypeError),
        (lambda: gg.hessian(lambda x: x * 2.0)(X), gg.InvalidBackprop),
        (lambda: gg.hessian(lambda x: x.sum(), 1)(X), ValueError),
        (lambda: gg.grad(lambda x: x.sum())(X * 1j), TypeError),
    ],
)
def test_errors(call: Callable[[], Any], error: type):
    with pytest.raises(error):
        call()


def total(x: Any) -> gg.Tensor:
    return x.sum()


@pytest.mark.parametrize(
    "function",
    ["grad", "value_and_grad", "jacobian", "hessian", "checkpoint", "vjp", "jvp", "hvp"],
)
@pytest.mark.parametrize("thing", [3, X, None])
def test_what_is_no_function_is_refused_before_it_is_called(function: str, thing: Any):
    more = {"vjp": (X,), "jvp": (X, X), "hvp": (X, X)}.get(function, ())
    with pytest.raises(TypeError, match=f"^{function}: f is .*, expected a function$"):
        getattr(gg, function)(thing, *more)


@pytest.mark.parametrize("function", ["grad", "value_and_grad", "jacobian", "hessian"])
@pytest.mark.parametrize("argnums", [1.0, (0, "b"), "0", None, np.array(0.5)])
def test_argnums_that_are_no_integers_are_refused_at_once(function: str, argnums: Any):
    with pytest.raises(TypeError, match=f"^{function}: argnums is .*expected an int or a seq"):
        getattr(gg, function)(total, argnums)


def test_argnums_may_be_any_iterable_of_integers():
    f = gg.grad(lambda x, y: (x * y).sum(), argnums=(i for i in (1, 0)))
    for _ in range(2):
        np.testing.assert_array_equal(f(2.0, 3.0), (2.0, 3.0))


@pytest.mark.parametrize("thing", [1j, None, "x", [[1.0], [1.0, 2.0]]])
def test_message_about_an_argument_names_no_other_function(thing: Any):
    calls = {
        "grad": lambda: gg.grad(total)(thing),
        "vjp": lambda: gg.vjp(total, thing),
        "hvp": lambda: gg.hvp(total, thing, X),
    }
    for function, call in calls.items():
        with pytest.raises((TypeError, ValueError), match=f"^{function}: got ") as caught:
            call()
        assert "Tensor" not in str(caught.value)
    if thing != [[1.0], [1.0, 2.0]]:
        with pytest.raises(TypeError, match="^vjp: got an operand of dtype"):
            gg.vjp(total, X)[1](thing)


def test_derivative_of_sigmoid_keeps_its_precision_in_the_tail():
    # written with 1 - sigmoid(x) it would be 0
    found = gg.grad(gg.sigmoid)(np.array(20, np.float32))
    np.testing.assert_allclose(found.data, np.exp(-20.0) / (1 + np.exp(-20.0)) ** 2, rtol=1e-6)
