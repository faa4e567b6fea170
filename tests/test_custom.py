"""Operations of one's own: a function of arrays with its derivative beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.testing import check_grads
from tests.locks import leaves_no_lock

X = np.array([[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]])


@gg.primitive
def exponential(x: Any) -> Any:
    """e to the x."""
    return np.exp(x)


exponential.defvjp(lambda g, y, x: g * y)


@gg.primitive
def power(x: Any, n: Any, *, scale: float = 1.0) -> Any:
    return scale * x**n


power.defvjp(
    lambda g, y, x, n, scale=1.0: g * scale * n * x ** (n - 1),
    lambda g, y, x, n, scale=1.0: g * y * gg.log(x),
)


@gg.primitive
def product(*xs: Any) -> Any:
    y = 1.0
    for x in xs:
        y = y * x
    return y


@product.defvjp_argnum
def _product_rule(i: int, g: Any, y: Any, *xs: Any) -> Any:
    return g * product(*xs[:i], *xs[i + 1 :])


def test_value_is_a_tensor_of_what_the_function_returned(device: str):
    x = gg.tensor(X, device=device)
    y = exponential(x)
    assert isinstance(y, gg.Tensor)
    np.testing.assert_allclose(gg.asnumpy(y), np.exp(X))
    assert y.device == x.device
    assert isinstance(exponential(X), gg.Tensor)
    assert exponential(0.0).item() == 1.0


def test_backward_uses_the_rule(device: str):
    x = gg.tensor(X, device=device)
    exponential(x).backward()
    np.testing.assert_allclose(gg.asnumpy(x.grad), np.exp(X))
    assert type(x.grad) is type(x.data)


def test_every_order_comes_from_the_rule(device: str):
    f: Callable[..., Any] = lambda x: power(x, 5, scale=2.0)
    for expected in (2 * 5 * 3.0**4, 2 * 20 * 3.0**3, 2 * 60 * 3.0**2):
        f = gg.grad(f)
        assert f(gg.tensor(3.0, device=device)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "f, args",
    [
        (exponential, (X,)),
        (power, (X, np.array([2.0, 0.5, 3.0]))),
        (lambda x: power(x, 3, scale=0.5), (X,)),
        (product, (X, np.array([1.0, 2.0, 3.0]), np.array(2.0))),
        (lambda x: product(x, x, x), (X,)),
        (exponential, (np.zeros((0, 3)),)),
        (exponential, (np.array(0.5),)),
    ],
)
def test_derivatives_to_third_order_with_broadcasting(f: Callable[..., Any], args: tuple):
    check_grads(f, args, order=3)


def test_gradient_has_dtype_and_shape_of_its_operand():
    x, n = gg.tensor(X.astype(np.float32)), gg.tensor(np.full((2, 1), 2.0))
    y = power(x, n)
    assert y.dtype == np.float64
    y.backward()
    assert x.grad.dtype == np.float32
    assert n.grad.shape == (2, 1)


def test_rule_sees_arrays_in_backward_and_tensors_in_grad():
    seen = []

    @gg.primitive
    def double(x: Any) -> Any:
        return 2 * x

    @double.defvjp
    def rule(g: Any, y: Any, x: Any) -> Any:
        seen.append({type(g), type(y), type(x)})
        return 2 * g

    x = gg.tensor(X)
    double(x).backward()
    gg.grad(lambda x: double(x).sum())(x)
    assert seen == [{np.ndarray}, {gg.Tensor}]


def test_backward_records_no_graph_for_what_the_rule_calls():
    made = []

    @gg.primitive
    def sine(x: Any) -> Any:
        return np.sin(x)

    sine.defvjp(lambda g, y, x: made.append(g * gg.exp(x)) or made[-1])
    x = gg.tensor(X)
    sine(x).backward()
    assert made[0].creator is None
    np.testing.assert_allclose(x.grad, np.exp(X))


def test_rule_may_be_written_with_numpys_functions():
    @gg.primitive
    def sine(x: Any) -> Any:
        return np.sin(x)

    sine.defvjp(lambda g, y, x: g * np.exp(x))
    np.testing.assert_allclose(gg.grad(lambda x: sine(x).sum())(X), np.exp(X))


def test_none_stops_the_gradient():
    @gg.primitive
    def shifted(x: Any, shift: Any) -> Any:
        return x + shift

    shifted.defvjp(lambda g, y, x, shift: g, None)
    x, shift = gg.tensor(X), gg.tensor(1.0)
    shifted(x, shift).backward()
    np.testing.assert_array_equal(x.grad, np.ones((2, 3)))
    assert shift.grad is None
    assert shifted(X, shift).constant
    assert gg.grad(shifted, 1)(2.0, 1.0).item() == 0.0


def test_rules_of_chosen_operands():
    @gg.primitive
    def difference(x: Any, y: Any) -> Any:
        return x - y

    difference.defvjp(lambda g, z, x, y: -g, argnums=1)
    assert gg.grad(difference, 1)(2.0, 1.0).item() == -1.0
    with pytest.raises(NotImplementedError, match=r"difference: operand 0 .*argnums=0"):
        gg.grad(difference)(2.0, 1.0)
    x = gg.tensor(X)
    y = difference(x, 1.0)
    with pytest.raises(NotImplementedError, match="difference: operand 0"):
        y.backward()
    assert x.grad is None
    difference.defvjp(lambda g, z, x, y: g, argnums=(0,))
    y.backward()
    np.testing.assert_array_equal(x.grad, np.ones((2, 3)))


def test_without_a_rule_the_value_is_still_there():
    @gg.primitive
    def rounded(x: Any) -> Any:
        return np.round(x)

    x = gg.tensor(X)
    np.testing.assert_array_equal(rounded(x), np.round(X))
    with pytest.raises(NotImplementedError, match="rounded: operand 0"):
        gg.grad(lambda x: rounded(x).sum())(x)


def test_operands_may_come_by_keyword_but_parameters_take_no_tensor():
    x = gg.tensor(X)
    power(x, n=gg.tensor(2.0)).backward()
    np.testing.assert_allclose(x.grad, 2 * X)
    power(x=x, n=gg.tensor(2.0)).backward()
    np.testing.assert_allclose(x.grad, 2 * X)
    with pytest.raises(TypeError, match=r"power: got a Tensor for the keyword parameter 'scale'"):
        power(x, 2.0, scale=gg.tensor(2.0))


def test_result_is_new_memory_where_the_function_returns_its_operand():
    for f in (lambda x: x, lambda x: x[::-1], lambda x: x.reshape(3, 2)):
        same = gg.primitive(f)
        x = gg.tensor(X)
        assert not np.shares_memory(same(x).data, x.data)


def test_integer_result_is_constant():
    nearest = gg.primitive(lambda x: np.asarray(x).astype(np.int64))
    y = nearest(gg.tensor(X))
    assert y.constant
    assert y.dtype == np.int64


def test_operands_are_protected_while_the_graph_lives():
    array = X.copy()
    x = gg.tensor(array, copy=False)
    y = exponential(x)
    assert not array.flags.writeable
    del y
    array[...] = 0.0


def test_rule_cannot_spoil_other_cotangents_in_place():
    @gg.primitive
    def twice(x: Any) -> Any:
        return 2 * x

    @twice.defvjp
    def rule(g: Any, y: Any, x: Any) -> Any:
        g *= 2
        return g

    with pytest.raises(ValueError, match="read-only"):
        twice(gg.tensor(X)).backward()


@pytest.mark.parametrize("operand", [X, gg.tensor(X), gg.tensor(X, constant=True)], ids=repr)
def test_function_cannot_write_into_its_operands(operand: Any):
    @gg.primitive
    def raised(x: Any) -> Any:
        x += 1
        return x

    with pytest.raises(ValueError, match=r"raised: .*read-only; got float64 of shape \(2, 3\)"):
        raised(operand)
    np.testing.assert_array_equal(operand, [[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]])


def test_rule_may_return_more_than_its_operand_but_nothing_that_would_be_spread_over_it():
    @gg.primitive
    def total(x: Any) -> Any:
        return np.sum(x)

    total.defvjp(lambda g, y, x: g)
    for sweep in (lambda x: total(x).backward(), gg.grad(total)):
        with pytest.raises(ValueError, match=r"total: .*operand 0 .* \(\), expected \(2, 3\)"):
            sweep(gg.tensor(X))
    total.defvjp(lambda g, y, x: g * gg.ones_like(x))
    np.testing.assert_array_equal(gg.grad(total)(X), np.ones((2, 3)))


def test_error_inside_a_rule_is_handed_on_as_it_is():
    f = with_rule(lambda g, y, x: len(3))
    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        f(gg.tensor(X)).backward()


def test_name_docstring_and_repr_are_the_functions():
    assert exponential.__name__ == "exponential"
    assert exponential.__doc__ == "e to the x."
    assert repr(exponential) == "<gpugrad primitive 'exponential'>"


def test_two_primitives_of_one_name_do_not_meet_and_none_meets_the_librarys():
    def make(factor: float) -> Any:
        @gg.primitive
        def multiply(x: Any) -> Any:
            return factor * x

        multiply.defvjp(lambda g, y, x: factor * g)
        return multiply

    two, three = make(2.0), make(3.0)
    assert gg.grad(lambda x: two(three(x)) * x)(1.0).item() == pytest.approx(12.0)


def returning(value: Any) -> Any:
    return gg.primitive(lambda x: value(x))


def with_rule(rule: Any) -> Any:
    @gg.primitive
    def double(x: Any, **params: Any) -> Any:
        return 2 * x

    double.defvjp(rule)
    return double


WRONG_RULES: list[tuple[Any, type[Exception], str]] = [
    (lambda g, y, x: g[0][:2], ValueError, r"returned shape \(2,\), expected \(2, 3\)"),
    (lambda g, y, x: g[0], ValueError, r"returned shape \(3,\), expected \(2, 3\)"),
    (lambda g, y, x: g[:1], ValueError, r"returned shape \(1, 3\), expected \(2, 3\)"),
    (lambda g, y, x: 1.0, ValueError, r"returned shape \(\), expected \(2, 3\)"),
    (lambda g, y, x: None, TypeError, r"returned NoneType, expected one array of shape \(2, 3\)"),
    (lambda g, y, x: "g", TypeError, "returned str, expected one array"),
    (lambda g, y, x: (g, g), TypeError, "returned tuple, expected one array"),
    (lambda g, y, x: np.full(x.shape, 1j), TypeError, "returned dtype complex128, expected real"),
    (lambda g: g, TypeError, r"cannot take 3 positional arguments .*expected rule\(g, y, \*oper"),
    (lambda g, y, x, n: g, TypeError, "cannot take 3 positional arguments .*'n'"),
]


@pytest.mark.parametrize("rule, error, message", WRONG_RULES)
def test_rule_of_another_kind_is_named_with_its_operand(
    rule: Any, error: type[Exception], message: str
):
    f = with_rule(rule)
    for sweep in (lambda x: f(x).backward(), lambda x: gg.grad(lambda x: f(x).sum())(x)):
        expected = f"double: the rule of operand 0 {message}"
        with leaves_no_lock(), pytest.raises(error, match=expected):
            sweep(gg.tensor(X))


def test_rule_that_lacks_a_parameter_is_named():
    f = with_rule(lambda g, y, x: 2 * g)
    y = f(gg.tensor(X), scale=2.0)
    with pytest.raises(TypeError, match="double: .*3 positional arguments and scale"):
        y.backward()
    f.defvjp_argnum(lambda g, y, x: g)
    f.defvjp(lambda g, y, x, scale: 2 * g)
    y.backward()
    many = gg.primitive(lambda *xs: sum(xs))
    many.defvjp_argnum(lambda g, y, x: g)
    with pytest.raises(TypeError, match=r"expected rule\(argnum, g, y, \*operands"):
        gg.grad(many)(1.0)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: gg.primitive(3), TypeError, "expected a function"),
        (lambda: returning(lambda x: gg.exp(x))(X), TypeError, "returned a Tensor"),
        (lambda: returning(lambda x: (x, x))(X), TypeError, "returned tuple"),
        (lambda: returning(lambda x: None)(X), TypeError, "returned NoneType"),
        (lambda: returning(lambda x: x * 1j)(X), TypeError, "complex128"),
        (lambda: exponential(X * 1j), TypeError, "complex"),
        (lambda: exponential.defvjp(3), TypeError, "expected a function"),
        (lambda: exponential.defvjp(None, argnums=(0, 1)), TypeError, "1 rules for 2 argnums"),
        (lambda: product.defvjp_argnum(None), TypeError, "expected a function"),
    ],
)
def test_errors_name_the_function_and_leave_no_lock(
    call: Callable[[], Any], error: type[Exception], message: str
):
    with leaves_no_lock(), pytest.raises(error, match=message):
        call()
