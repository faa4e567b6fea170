"""Derivatives where the formula that holds elsewhere divides by zero, overflows or cancels.

The oracle is the limit in closed form, a Taylor series, or mygrad where a value is a choice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import inf, nan, pi
from typing import Any

import mygrad as mg
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.ops.namespace import tensor_namespace


def arrays(*xs: Any, device: str) -> list[Any]:
    return [gg.tensor(np.array(x, float), device=device).data for x in xs]


def partial(f: Callable[..., Any], *xs: Any, device: str, by: tuple[int, ...]) -> np.ndarray:
    """The derivative of an elementwise `f` by the operands numbered in `by`, one after another."""

    def summed(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *x: f(*x).sum()

    for k in by:
        f = gg.grad(summed(f), k)
    return gg.asnumpy(f(*arrays(*xs, device=device)))


def assert_close(found: Any, expected: Any, rtol: float = 1e-13) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0)


# -------------------------------------------------------------------------------------------- power


def test_power_of_zero_to_two_orders(device: str):
    x, p = np.zeros(4), [0.0, 1.0, 2.0, 3.0]
    assert_close(partial(gg.power, x, p, device=device, by=(0,)), [0, 1, 0, 0])
    assert_close(partial(gg.power, x, p, device=device, by=(0, 0)), [0, 0, 2, 0])
    assert_close(partial(gg.power, x, p, device=device, by=(1,)), [0, 0, 0, 0])
    assert_close(partial(gg.power, x, p, device=device, by=(1, 1)), [0, 0, 0, 0])


def test_power_with_a_number_as_exponent_at_zero(device: str):
    for exponent, orders in ((0, (0, 0)), (1, (1, 0)), (2, (0, 2)), (3, (0, 0)), (2.0, (0, 2))):
        for n, expected in enumerate(orders, 1):
            found = partial(lambda x, p=exponent: x**p, [0.0], device=device, by=(0,) * n)
            assert_close(found, [expected])


def test_mixed_derivative_of_a_power_at_exponent_zero(device: str):
    # d/dp (p x^(p - 1)) = x^(p - 1) (1 + p log x), which is 1 / x for p = 0
    for by in ((0, 1), (1, 0)):
        assert_close(partial(gg.power, [2.0, 4.0], [0.0, 0.0], device=device, by=by), [0.5, 0.25])


def test_negative_base_with_integer_exponent(device: str):
    x, p = [-2.0, -2.0, -3.0], [2.0, 3.0, -1.0]
    assert_close(partial(gg.power, x, p, device=device, by=(0,)), [-4, 12, -1 / 9])
    assert_close(partial(gg.power, x, p, device=device, by=(0, 0)), [2, -12, -2 / 27])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gradient_by_the_exponent_is_mygrads_where_the_base_is_not_positive():
    bases, exponents = [0.0, 0.0, 0.0, 0.0, -2.0, -2.0], [0.0, 0.5, 2.0, -1.0, 2.0, 0.5]
    found = []
    for library in (gg, mg):
        x, p = library.tensor(bases), library.tensor(exponents)
        (x**p).backward()
        found.append((x.grad, p.grad))
    (dx, dp), (their_dx, their_dp) = found
    assert_close(dx, their_dx)
    assert_close(dp, their_dp)


# ------------------------------------------------------------------- the angle, and what has a kink


def test_angle_on_the_axes_to_two_orders(device: str):
    y, x = [0.0, 0.0, 2.0, -2.0], [4.0, -4.0, 0.0, 0.0]
    assert_close(partial(gg.arctan2, y, x, device=device, by=(0,)), [0.25, -0.25, 0, 0])
    assert_close(partial(gg.arctan2, y, x, device=device, by=(1,)), [0, 0, -0.5, 0.5])
    assert_close(partial(gg.arctan2, y, x, device=device, by=(0, 0)), [0, 0, 0, 0])
    mixed = [-1 / 16, -1 / 16, 1 / 4, 1 / 4]  # (y^2 - x^2) / r^4
    assert_close(partial(gg.arctan2, y, x, device=device, by=(0, 1)), mixed)


@pytest.mark.parametrize("f", [gg.arctan2, gg.hypot], ids=repr)
def test_origin_has_zero_derivatives_to_two_orders(f: Any, device: str):
    for by in ((0,), (1,), (0, 0), (0, 1), (1, 1)):
        assert_close(partial(f, [0.0, -0.0], [0.0, 0.0], device=device, by=by), [0, 0])


def test_angle_and_distance_of_huge_and_tiny_points(device: str):
    y, x = [3e200, 3e-200], [4e200, 4e-200]
    assert_close(partial(gg.hypot, y, x, device=device, by=(0,)), [0.6, 0.6])
    assert_close(partial(gg.arctan2, y, x, device=device, by=(0,)), [0.16e-200, 0.16e200])


@pytest.mark.parametrize("f", [gg.absolute, gg.fabs], ids=repr)
def test_absolute_value_at_zero(f: Any, device: str):
    assert_close(partial(f, [0.0, -0.0, -2.0], device=device, by=(0,)), [0, 0, -1])
    assert_close(partial(f, [0.0, -0.0, -2.0], device=device, by=(0, 0)), [0, 0, 0])


def test_copied_sign_may_be_that_of_a_zero(device: str):
    x = gg.tensor([3.0, 3.0, -3.0, -3.0], device=device)
    y = gg.copysign(x, gg.tensor([0.0, -0.0, 0.0, -0.0], device=device))
    y.backward()
    np.testing.assert_array_equal(gg.asnumpy(y), [3.0, -3.0, 3.0, -3.0])
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [1.0, -1.0, -1.0, 1.0])


def test_absolute_value_may_leave_its_derivative_at_zero_undefined(device: str):
    def f(x: gg.Tensor) -> gg.Tensor:
        return gg.abs(x, nan_to_num=False)

    assert_close(partial(f, [0.0, -2.0, 3.0], device=device, by=(0,)), [nan, -1, 1])


@pytest.mark.parametrize("name", ("maximum", "minimum"))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ties_and_nans_of_pairs_are_mygrads(name: str):
    found = []
    for library in (gg, mg):
        a = library.tensor([1.0, 2.0, nan, 1.0, nan, inf, -inf])
        b = library.tensor([1.0, 3.0, 1.0, nan, nan, inf, -inf])
        getattr(library, name)(a, b).backward()
        found.append((a.grad, b.grad))
    np.testing.assert_array_equal(found[0], found[1])


def test_fmax_passes_the_gradient_to_the_number(device: str):
    a, b = [1.0, 2.0, nan, 1.0], [1.0, 3.0, 1.0, nan]
    for f, of_the_pair in ((gg.fmax, 0), (gg.fmin, 1)):
        first = partial(f, a, b, device=device, by=(0,))
        second = partial(f, a, b, device=device, by=(1,))
        assert_close(first, [0, of_the_pair, 0, 1])
        assert_close(second, [0, 1 - of_the_pair, 1, 0])


def test_clip_at_its_bounds_is_mygrads():
    found = []
    for library in (gg, mg):
        x = library.tensor([1.0, 5.0, 3.0, 2.0, 0.0, 9.0])
        low = library.tensor([1.0, 1.0, 4.0, 3.0, 1.0, 1.0])
        high = library.tensor([1.0, 5.0, 3.0, 2.0, 5.0, 5.0])
        y = library.clip(x, low, high)
        y.backward()
        found.append((y.data, x.grad, low.grad, high.grad))
    np.testing.assert_array_equal(found[0], found[1])


def test_clip_without_bounds_is_its_argument():
    x = gg.tensor([1.0, 2.0])
    assert gg.clip(x, None, None) is x
    assert isinstance(gg.clip([1.0, 2.0], None, None), gg.Tensor)


# --------------------------------------------------------------------------------------------- sinc


def sinc_series(x: np.ndarray, n: int) -> np.ndarray:
    """The n-th derivative of sin(pi x) / (pi x), by Taylor's series in the exact coefficients."""
    total = np.zeros_like(x, dtype=np.longdouble)
    term = np.ones_like(total)  # (-1)^k (pi x)^(2k - n) pi^n / ((2k + 1) (2k - n)!)
    for k in range(60):
        m = 2 * k - n
        if m < 0:
            continue
        term = np.longdouble(1.0)
        for i in range(1, m + 1):
            term = term * (np.longdouble(pi) * x) / i
        total = total + (-1) ** k * term * np.longdouble(pi) ** n / (2 * k + 1)
    return total.astype(float)


@pytest.mark.parametrize("order", range(1, 6))
def test_sinc_is_smooth_at_and_near_zero(order: int, device: str):
    x = np.array([0.0, -0.0, 1e-300, 1e-9, -1e-4, 1e-2, 0.3, -0.7, 1.0, 1.27, 1.3, 1.6])
    found = partial(gg.sinc, x, device=device, by=(0,) * order)
    np.testing.assert_allclose(found, sinc_series(x, order), rtol=1e-11, atol=1e-12)


def test_sinc_near_zero_keeps_its_digits(device: str):
    # -pi^2 x / 3, where (cos(pi x) - sinc(x)) / x has none left
    x = np.array([1e-9, 1e-12, 1e-100])
    assert_close(partial(gg.sinc, x, device=device, by=(0,)), -(pi**2) * x / 3)
    assert_close(partial(gg.sinc, [0.0], device=device, by=(0, 0)), [-(pi**2) / 3])


def test_far_from_zero_the_derivative_of_sinc_is_its_formula(device: str):
    x = np.array([5.5, -20.25, 1e6 + 0.5])
    expected = (np.cos(pi * x) - np.sinc(x)) / x
    assert_close(partial(gg.sinc, x, device=device, by=(0,)), expected, 1e-10)


def test_order_of_the_derivative_of_sinc_is_at_least_zero():
    with pytest.raises(ValueError, match="sinc_derivative: n is -1"):
        tensor_namespace.sinc_derivative([0.0], -1)


# ---------------------------------------------------------------------- exponentials and logarithms


@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")  # inf - inf, the sum
@pytest.mark.parametrize("f, base", [(gg.logaddexp, np.e), (gg.logaddexp2, 2.0)], ids=("e", "2"))
def test_logaddexp_has_two_orders_at_ties_and_infinities(f: Any, base: float, device: str):
    a = [inf, -inf, inf, -inf, 3.0, 1e3, 0.0]
    b = [inf, -inf, -inf, 2.0, 3.0, -1e3, inf]
    share = np.array([0.5, 0.5, 1, 0, 0.5, 1, 0])
    assert_close(partial(f, a, b, device=device, by=(0,)), share)
    assert_close(partial(f, a, b, device=device, by=(1,)), 1 - share)
    # share (1 - share) log(base), and 0 where both stay infinite
    curvature = np.array([0, 0, 0, 0, 0.25 * np.log(base), 0, 0])
    for by, sign in (((0, 0), 1), ((0, 1), -1), ((1, 1), 1)):
        found = partial(f, a, b, device=device, by=by)
        finite = np.isfinite(a) & np.isfinite(b)
        assert_close(found[finite], sign * curvature[finite])
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "name, x, dx, ddx",
    [
        ("tanh", [-1e3, 0.0, 1e3], [0, 1, 0], [0, 0, 0]),
        ("sigmoid", [-1e3, 0.0, 1e3], [0, 0.25, 0], [0, 0, 0]),
        ("softplus", [-1e3, 0.0, 1e3], [0, 0.5, 1], [0, 0.25, 0]),
        ("exp", [-inf, 0.0], [0, 1], [0, 1]),
        ("expm1", [-inf, 0.0], [0, 1], [0, 1]),
        ("exp2", [-inf, 0.0], [0, np.log(2)], [0, np.log(2) ** 2]),
        ("arctan", [inf, 0.0], [0, 1], None),
        ("arcsinh", [1e200, -1e200, 0.0], [1e-200, 1e-200, 1], None),
        ("arccosh", [1e200], [1e-200], None),
        ("arccot", [0.0, -0.0, 2.0, -2.0], [-1, -1, -0.2, -0.2], [0, 0, 4 / 25, -4 / 25]),
        ("sech", [800.0, 0.0], [0, 0], [0, -1]),
        ("csch", [800.0], [0], [0]),
        ("erf", [40.0, 0.0], [0, 2 / np.sqrt(pi)], [0, 0]),
        ("erfinv", [0.0], [np.sqrt(pi) / 2], [0]),
    ],
)
def test_limits(name: str, x: Any, dx: Any, ddx: Any, device: str):
    f = getattr(gg, name)
    assert_close(partial(f, x, device=device, by=(0,)), dx)
    if ddx is not None:
        assert_close(partial(f, x, device=device, by=(0, 0)), ddx)


def test_hyperbolic_tangent_is_inverted_with_all_digits_where_it_is_nearly_one(device: str):
    x = 1 - 2.0 ** -np.arange(20.0, 50.0, 10.0)
    assert_close(partial(gg.arctanh, x, device=device, by=(0,)), 1 / ((1 - x) * (1 + x)))


def test_hyperbolic_cotangent_keeps_its_digits_where_it_is_nearly_one(device: str):
    # 1 - coth(x)^2 = -4 exp(-2x) / (1 - exp(-2x))^2
    x = np.array([20.0, 30.0])
    expected = -4 * np.exp(-2 * x) / (1 - np.exp(-2 * x)) ** 2
    assert_close(partial(gg.coth, x, device=device, by=(0,)), expected)


@pytest.mark.parametrize("name", ("arcsin", "arccos", "arcsec", "arccsc"))
def test_ends_of_the_domain_are_given_mygrads_derivative(name: str, device: str):
    ends = [1.0, -1.0]
    theirs = mg.tensor(ends)
    with np.errstate(divide="ignore"):
        getattr(mg, name)(theirs).backward()
    assert_close(partial(getattr(gg, name), ends, device=device, by=(0,)), theirs.grad)
    assert_close(partial(getattr(gg, name), ends, device=device, by=(0, 0)), [0, 0])


NEGATIVE = [-1.3, -2.0, -7.5]


@pytest.mark.parametrize(
    "name", ("arcsec", "arccsc", "arccoth", "arccot", "arccsch", "coth", "csch")
)
def test_functions_of_both_signs_have_mygrads_derivative_of_negative_numbers(name: str):
    theirs = mg.tensor(NEGATIVE)
    y = getattr(mg, name)(theirs)
    y.backward()
    ours = gg.tensor(NEGATIVE)
    z = getattr(gg, name)(ours)
    z.backward()
    assert_close(z.data, y.data)
    assert_close(ours.grad, theirs.grad)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name", ("sqrt", "cbrt", "log", "arccosh", "arctanh", "cot", "csc", "coth")
)
def test_infinite_derivatives_are_mygrads(name: str):
    point = [1.0] if name in ("arccosh", "arctanh") else [0.0]
    theirs = mg.tensor(point)
    getattr(mg, name)(theirs).backward()
    assert np.isinf(theirs.grad).all()
    assert_close(partial(getattr(gg, name), point, device="cpu", by=(0,)), theirs.grad)


@pytest.mark.parametrize("name", ("sqrt", "log", "log1p", "log2", "reciprocal", "arccosh", "csc"))
def test_masked_elements_neither_warn_nor_spoil_two_orders(name: str, device: str):
    (mask,) = arrays([1.0, 0.0, 0.0], device=device)
    mask = mask > 0

    def f(x: gg.Tensor) -> gg.Tensor:
        return getattr(gg, name)(x, where=mask)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for by in ((0,), (0, 0)):
            found = partial(f, [2.0, 0.0, -1.0], device=device, by=by)
            alone = partial(getattr(gg, name), [2.0], device=device, by=by)
            assert_close(found, [alone[0], 0, 0])


@pytest.mark.parametrize(
    "f, found, derivative, second",
    [
        (lambda x, n, m: gg.divide(x, n, where=m), [0, 1.5, 0], [0, 0.5, 0], 0),
        (lambda x, n, m: gg.divide(x, n > 0, where=m), [0, 3, 0], [0, 1, 0], 0),
        (lambda x, n, m: gg.xlogy(x, n, where=m), [0, 3 * np.log(2), 0], [0, np.log(2), 0], 0),
        (lambda x, n, m: gg.power(n, x, where=m), [0, 8, 0], [0, 8 * np.log(2), 0], 8),
        (lambda x, n, m: gg.power(x, n, where=m), [0, 9, 0], [0, 6, 0], 2 / np.log(2) ** 2),
    ],
    ids=("divide", "divide-by-bool", "xlogy", "power-base", "power"),
)
def test_masked_integers_neither_warn_nor_spoil_two_orders(
    f: Any, found: Any, derivative: Any, second: float, device: str
):
    integers, mask = arrays([0, 2, -1], [0.0, 1.0, 0.0], device=device)
    integers, mask = integers.astype(int), mask > 0
    x = [0.0, 3.0, -1.0]

    def g(x: gg.Tensor) -> gg.Tensor:
        return f(x, integers, mask)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(gg.asnumpy(g(*arrays(x, device=device))), found)
        assert_close(partial(g, x, device=device, by=(0,)), derivative)
        assert_close(
            partial(g, x, device=device, by=(0, 0)), [0, second * np.log(2) ** 2, 0], 1e-12
        )


# -------------------------------------------------------------------------------- special functions


def test_xlogy_is_zero_at_zero_and_so_is_its_derivative(device: str):
    x, y = [0.0, 0.0, 2.0], [0.0, 3.0, 3.0]
    for f, shift in ((gg.xlogy, 0.0), (gg.xlog1py, 1.0)):
        moved = np.subtract(y, shift)
        assert_close(gg.asnumpy(f(*arrays(x, moved, device=device))), [0, 0, 2 * np.log(3)])
        assert_close(partial(f, x, moved, device=device, by=(1,)), [0, 0, 2 / 3])
        assert_close(partial(f, x, moved, device=device, by=(1, 1)), [0, 0, -2 / 9])
        mixed = partial(f, x, moved, device=device, by=(1, 0))
        assert_close(mixed[1:], [1 / 3, 1 / 3])
        assert_close(partial(f, x[1:], moved[1:], device=device, by=(0,)), [np.log(3)] * 2)
    assert np.isnan(gg.xlogy(0.0, nan).data)


def test_xlogy_of_zero_is_infinitely_steep_where_x_is_not_zero(device: str):
    with np.errstate(divide="ignore"):
        for f, y in ((gg.xlogy, 0.0), (gg.xlog1py, -1.0)):
            found = partial(f, [2.0, 3.0], [y, y], device=device, by=(1,))
            np.testing.assert_array_equal(found, [inf, inf])


def test_derivatives_of_gammaln_are_known_at_one(device: str):
    # -gamma, pi^2 / 6, -2 zeta(3), pi^4 / 15
    expected = [-np.euler_gamma, pi**2 / 6, -2 * 1.2020569031595943, pi**4 / 15]
    for order, value in enumerate(expected, 1):
        found = partial(gg.gammaln, [1.0], device=device, by=(0,) * order)
        assert_close(found, [value], 1e-12)


def test_polygamma_of_float32_stays_float32(device: str):
    x = gg.tensor([1.0, 2.0], dtype=np.float32, device=device)
    assert gg.polygamma(1, x).dtype == np.float32
    assert gg.polygamma(0, x).dtype == np.float32


def test_polygamma_takes_orders_from_zero():
    with pytest.raises(ValueError, match="polygamma: n is -1"):
        gg.polygamma(-1, 2.0)
    with pytest.raises(TypeError):
        gg.polygamma(1.5, 2.0)


@pytest.mark.parametrize(
    "x, value, share",
    [
        ([1000.0, 1000.0], 1000 + np.log(2), [0.5, 0.5]),
        ([-1000.0, -1000.0], -1000 + np.log(2), [0.5, 0.5]),
        ([-inf, -inf], -inf, [0.5, 0.5]),
        ([-inf, 2.0], 2.0, [0, 1]),
        ([inf, 2.0], inf, [1, 0]),
        ([inf, inf], inf, [0.5, 0.5]),
        ([inf, -inf], inf, [1, 0]),
    ],
)
def test_logsumexp_of_large_and_infinite_numbers(x: Any, value: float, share: Any, device: str):
    assert_close(gg.asnumpy(gg.logsumexp(*arrays(x, device=device))), value)
    assert_close(partial(gg.logsumexp, x, device=device, by=(0,)), share)
    assert np.isfinite(partial(gg.logsumexp, x, device=device, by=(0, 0))).all()


def test_curvature_of_logsumexp_is_the_covariance_of_its_shares(device: str):
    x = np.array([0.3, -1.0, 2.0])
    p = np.exp(x) / np.exp(x).sum()
    found = gg.asnumpy(gg.hessian(gg.logsumexp)(*arrays(x, device=device)))
    np.testing.assert_allclose(found, np.diag(p) - np.outer(p, p), rtol=1e-12, atol=1e-15)


def test_terms_of_weight_zero_do_not_count(device: str):
    x, b = [inf, 1.0, 2.0], [0.0, 1.0, 1.0]

    def f(x: Any, b: Any) -> Any:
        return gg.logsumexp(x, b=b)

    expected = np.log(np.exp(1) + np.exp(2))
    assert_close(gg.asnumpy(f(*arrays(x, b, device=device))), expected)
    share = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    assert_close(partial(f, [5.0, 1.0, 2.0], b, device=device, by=(0,)), [0, *share])


@pytest.mark.parametrize("huge", (720.0, 900.0, inf, nan))  # exp overflows beyond 709
def test_derivative_of_logsumexp_is_zero_where_the_weight_is_zero(huge: float, device: str):
    b = gg.tensor([0.0, 1.0], device=device, constant=True)
    f = lambda x: gg.logsumexp(x, b=b)
    assert_close(partial(f, [huge, 1.0], device=device, by=(0,)), [0, 1])
    assert_close(partial(f, [huge, 1.0], device=device, by=(0, 0)), [0, 0])


def test_derivative_of_a_term_by_its_weight_where_that_is_zero(device: str):
    x, b = arrays([0.5, 1.0], [0.0, 1.0], device=device)
    by_x = gg.grad(lambda x, b: gg.logsumexp(x, b=b))
    found = gg.jacobian(by_x, 1)(x, b)
    share, weight = np.exp([-0.5, 0.0]), np.array([0.0, 1.0])
    assert_close(gg.asnumpy(found), np.diag(share) - np.outer(weight * share, share), 1e-12)


def test_derivative_of_logsumexp_by_a_large_term_of_tiny_weight_is_its_share(device: str):
    x, b = [690.0, 0.0], [1e-300, 1.0]
    first = np.exp(690.0 + np.log(1e-300))
    found = partial(lambda x, b: gg.logsumexp(x, b=b), x, b, device=device, by=(0,))
    np.testing.assert_allclose(found, np.divide([first, 1.0], first + 1.0), rtol=1e-9)


def test_logsumexp_of_nothing_is_minus_infinity(device: str):
    y = gg.logsumexp(*arrays(np.zeros((2, 0)), device=device), axis=1)
    np.testing.assert_array_equal(gg.asnumpy(y), [-inf, -inf])
