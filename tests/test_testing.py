"""check_grads finds wrong derivatives, and says where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.testing import check_grads

X = np.array([[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]])
ROW = np.array([1.0, -2.0, 0.5])


def operation(f: Callable[..., Any], *rules: Callable[..., Any]) -> Any:
    made = gg.primitive(f)
    made.defvjp(*rules)
    return made


def raw(t: Any) -> np.ndarray:
    """The numbers of a tensor, out of the graph's sight."""
    return np.array(gg.asnumpy(t))


right = operation(lambda x: x**3, lambda g, y, x: 3 * g * x**2)


@pytest.mark.parametrize("modes", (("rev",), ("fwd",), ("rev", "fwd")))
@pytest.mark.parametrize("dtype", (np.float16, np.float32, np.float64))
def test_right_rules_pass_in_every_precision(modes: Any, dtype: Any):
    check_grads(right, X.astype(dtype), order=2, modes=modes)
    check_grads(gg.matmul, (X.astype(dtype), X.T.astype(dtype)), modes=modes)


def test_right_rules_pass_on_the_device(device: str):
    x, y = gg.tensor(X, device=device), gg.tensor(ROW, device=device)
    check_grads(lambda x, y: right(x) * y, (x, y), order=2)


def test_arguments_and_results_may_be_nested_and_integers_are_passed_on():
    def f(p: dict, n: int, mask: Any) -> dict:
        assert isinstance(n, int)
        return {"a": p["x"] ** n, "b": [gg.where(mask, p["y"][0], 0.0) * p["y"][1]]}

    p = {"x": X, "y": [ROW, 2.0]}
    check_grads(f, (p, 3, np.array([True, False, True])), order=3)


WRONG: dict[str, tuple[Any, tuple, int, str]] = {
    "wrong factor": (operation(lambda x: x**3, lambda g, y, x: 2 * g * x**2), (X,), 1, "0"),
    "wrong sign of the second": (
        operation(lambda x, y: x - y, lambda g, z, x, y: g, lambda g, z, x, y: g),
        (X, ROW),
        1,
        "1",
    ),
    "sums the wrong axis after broadcasting": (
        operation(
            lambda x, y: x * y,
            lambda g, z, x, y: g * y,
            lambda g, z, x, y: gg.sum(g * x, axis=1),
        ),
        (np.concatenate([X, X[:1]]), ROW),
        1,
        "1",
    ),
    "ignores that a row was repeated": (
        operation(
            lambda x: np.stack([x, 2 * x]) * 1.0,
            lambda g, y, x: g[0],
        ),
        (ROW,),
        1,
        "0",
    ),
    "ignores what the mean takes away": (
        operation(lambda x: x - x.mean(), lambda g, y, x: g),
        (X,),
        1,
        "0",
    ),
    "one element in many": (
        operation(lambda x: 2.0 * x, lambda g, y, x: 2.0 * g * (np.arange(100) != 37)),
        (np.linspace(0.0, 1.0, 100),),
        1,
        "0",
    ),
    "off by one part in ten thousand": (
        operation(lambda x: x**2, lambda g, y, x: 2.0002 * g * x),
        (X,),
        1,
        "0",
    ),
    "right number, derivative lost": (
        operation(lambda x: x**3, lambda g, y, x: g * (3 * raw(x) ** 2)),
        (X,),
        2,
        "0",
    ),
    "right number, cotangent lost": (
        operation(lambda x: 2 * x, lambda g, y, x: gg.tensor(2 * raw(g))),
        (X,),
        2,
        "cotangent",
    ),
    "not linear in the cotangent": (
        operation(lambda x: 2 * x, lambda g, y, x: 2 * abs(g)),
        (X,),
        1,
        "0",
    ),
    "nan": (operation(lambda x: x**2, lambda g, y, x: g * np.nan), (X,), 1, "0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rule_is_found_at_its_order_and_argument(name: str):
    f, args, order, argument = WRONG[name]
    for lower in range(1, order):
        check_grads(f, args, order=lower, modes=("rev",))
    label = f"argument {argument}" if argument.isdigit() else "cotangent 0 of order 1"
    with pytest.raises(AssertionError, match=f"check_grads: order {order}, .* by {label} "):
        check_grads(f, args, order=order, modes=("rev",))


# a jvp never differentiates by x what the rule computed from it, and takes the derivative by the
# cotangent at 1, where abs has the right one
INVISIBLE_FORWARD = ("right number, derivative lost", "not linear in the cotangent")


@pytest.mark.parametrize("name", [n for n in WRONG if n not in INVISIBLE_FORWARD])
def test_wrong_rule_is_found_forward_too(name: str):
    f, args, order, _ = WRONG[name]
    with pytest.raises(AssertionError, match=r"check_grads: order 1, jvp by argument"):
        check_grads(f, args, order=order, modes=("fwd",))


def test_rule_that_is_wrong_for_arrays_alone_is_found():
    def rule(g: Any, y: Any, x: Any) -> Any:
        return 2 * g if isinstance(g, gg.Tensor) else 3 * g

    with pytest.raises(AssertionError, match=r"order 1, backward\(\) by argument 0"):
        check_grads(operation(lambda x: 2 * x, rule), X, order=1)


def test_message_has_both_numbers_and_their_difference():
    wrong = operation(lambda x: 2.0 * x, lambda g, y, x: 3.0 * g)
    with pytest.raises(AssertionError) as caught:
        check_grads(wrong, np.array(1.0), order=1, rng=3)
    words = str(caught.value).replace(",", "").replace(";", "").split()
    found = float(words[words.index("in") - 1])
    expected = float(words[words.index("give") + 1])
    assert found == pytest.approx(1.5 * expected)
    assert float(words[words.index("by", words.index("differ")) + 1]) == pytest.approx(
        abs(found - expected), rel=1e-2
    )


def test_kink_is_an_error_and_a_wide_tolerance_allows_it():
    with pytest.raises(AssertionError):
        check_grads(abs, np.array(1e-7), order=1)
    check_grads(abs, np.array(1e-7), order=1, atol=10.0)
    check_grads(abs, np.array(1e-7), order=1, eps=1e-9, atol=1e-5)


def test_library_is_checked_under_no_autodiff_too():
    with gg.no_autodiff:
        check_grads(right, X)
        with pytest.raises(AssertionError):
            check_grads(WRONG["wrong factor"][0], X)


def test_arguments_are_not_written_to_and_stay_writeable():
    array = X.copy()
    check_grads(right, array)
    np.testing.assert_array_equal(array, X)
    array[...] = 0.0


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: check_grads(right, X, order=0), ValueError, "order is 0"),
        (lambda: check_grads(right, X, modes=("forward",)), ValueError, "modes"),
        (lambda: check_grads(right, X, modes=()), ValueError, "modes"),
        (lambda: check_grads(right, np.arange(3)), ValueError, "none of the arguments"),
        (lambda: check_grads(lambda x: 3.0, X), TypeError, "returned float"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        call()


def test_tolerance_is_that_of_the_coarsest_argument_and_in_units_of_the_result():
    x = np.array([0.3, 0.7])
    check_grads(lambda a, b: gg.exp(a * b), (x.astype(np.float32), x))
    check_grads(lambda x: 1e8 * gg.exp(x), x)


def test_integers_among_the_results_are_left_out():
    check_grads(lambda x: (x * x, gg.tensor([1, 2])), np.array([0.3, 0.7]))
