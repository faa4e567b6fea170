"""Losses: mygrad's values, gradients and errors; scores that overflow; labels; ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpugrad.nnet.losses.softmax_crossentropy import SoftmaxCrossEntropy

import gpugrad as gg
from gpugrad import nnet
from tests.differences import assert_second_derivative
from tests.nnet.against_mygrad import OURS, assert_same_calculus, assert_same_error

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 5))
P = np.exp(X) / np.exp(X).sum(1, keepdims=True)
LABELS = np.array([0, 4, 2, -1, 2, -5])
WEIGHTS = rng.uniform(0.1, 2, 5)
GAMMAS = (0, 0.5, 1, 1.5, 2, 3)

CALLS: dict[str, Any] = {
    "softmax_crossentropy": lambda m, x: m.softmax_crossentropy(x, LABELS),
    "softmax_crossentropy, labels a tensor": (
        lambda m, x: m.softmax_crossentropy(x, m.tensor(LABELS))
    ),
    "softmax_crossentropy, int8": (lambda m, x: m.softmax_crossentropy(x, LABELS.astype(np.int8))),
    "negative_log_likelihood": lambda m, x: m.negative_log_likelihood(x, LABELS),
    "negative_log_likelihood, weights": (
        lambda m, x: m.negative_log_likelihood(x, LABELS, weights=WEIGHTS)
    ),
    "negative_log_likelihood, weights a tensor": (
        lambda m, x: m.negative_log_likelihood(x, LABELS, weights=m.tensor(WEIGHTS))
    ),
    "multiclass_hinge": lambda m, x: m.multiclass_hinge(x, LABELS),
    "multiclass_hinge, hinge": lambda m, x: m.multiclass_hinge(x, LABELS, 0.2),
    "multiclass_hinge, below 0": lambda m, x: m.multiclass_hinge(x, LABELS, hinge=-0.5),
}
for _gamma in GAMMAS:
    CALLS[f"softmax_focal_loss, gamma={_gamma}"] = lambda m, x, gamma=_gamma: m.softmax_focal_loss(
        x, LABELS, alpha=0.3, gamma=gamma
    )
each = pytest.mark.parametrize("name", CALLS)

PAIRS: dict[str, Any] = {
    "vectors": ((7,), 1),
    "vectors, -1": ((7,), -1.0),
    "vectors, many": ((4,), np.array([1, -1, -1, 1])),
    "matrices": ((4, 3), np.array(1)),
    "matrices, many": ((4, 3), [1, -1, -1, 1]),
    "matrices, one in an array": ((4, 3), np.array([[-1]])),
}


@each
def test_values_gradients_and_constants_are_mygrads(name: str):
    assert_same_calculus(CALLS[name], X)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_is_mygrads(gamma: float):
    assert_same_calculus(lambda m, p: m.focal_loss(p, LABELS, alpha=0.3, gamma=gamma), P)
    assert_same_calculus(lambda m, p: m.focal_loss(p, m.tensor(LABELS), gamma=gamma), P)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("margin", [0, 0.7])
def test_margin_ranking_loss_is_mygrads(name: str, margin: float):
    shape, y = PAIRS[name]
    pair = np.random.default_rng(3).normal(size=(2, *shape))
    assert_same_calculus(lambda m, a, b: m.margin_ranking_loss(a, b, y, margin), *pair)


@pytest.mark.parametrize("name", ["softmax_crossentropy", "multiclass_hinge", "focal_loss"])
def test_labels_may_be_a_list(name: str, device: str):
    x = gg.tensor(P, device=device)
    found = getattr(nnet, name)(x, LABELS.tolist())
    np.testing.assert_allclose(
        gg.asnumpy(found), gg.asnumpy(getattr(nnet, name)(gg.tensor(P), LABELS)), rtol=1e-14
    )


@each
def test_constant_keyword_makes_a_constant_that_keeps_nothing(name: str):
    function, _, _ = name.partition(",")
    x = gg.tensor(X)
    loss = getattr(nnet, function)(x, LABELS, constant=True)
    assert loss.constant
    assert loss._vertex.params.get("saved", {}) == {}


def test_loss_keeps_no_array_when_its_gradient_is_found():
    x = gg.tensor(X)
    loss = nnet.softmax_crossentropy(x, LABELS)
    assert loss._vertex.params["saved"]
    loss.backward()
    assert loss._vertex.params == {}


# ----------------------------------------------------------------------------------- large numbers


@pytest.mark.parametrize("scale", [1e4, 1e300])
def test_crossentropy_of_large_scores(scale: float, device: str):
    x = gg.tensor([[scale, 0.0, -scale], [scale, scale, 0.0], [0.0, scale, 0.0]], device=device)
    loss = nnet.softmax_crossentropy(x, [0, 1, 2])
    loss.backward()
    np.testing.assert_allclose(loss.item(), (np.log(2) + scale) / 3, rtol=1e-15)
    expected = np.array([[0, 0, 0], [0.5, -0.5, 0], [0, 1, -1]]) / 3
    np.testing.assert_allclose(gg.asnumpy(x.grad), expected, rtol=1e-15, atol=1e-17)


def test_crossentropy_of_an_impossible_class_has_a_finite_gradient(device: str):
    x = gg.tensor([[0.0, -np.inf, 0.0]], device=device)
    loss = nnet.softmax_crossentropy(x, [1])
    loss.backward()
    assert loss.item() == np.inf
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [[0.5, -1.0, 0.5]])


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_of_an_impossible_class_has_finite_derivatives(gamma: float, device: str):
    x = gg.tensor([[0.0, -np.inf, 0.0]], device=device)
    loss = nnet.softmax_focal_loss(x, [1], gamma=gamma)
    loss.backward()
    assert loss.item() == np.inf
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [[0.5, -1.0, 0.5]])
    # there it is -log(p), whose curvature is the covariance of the shares
    v = gg.tensor([[1.0, 1.0, 0.0]], device=device)
    found = gg.hvp(lambda x: nnet.softmax_focal_loss(x, [1], gamma=gamma), x, v)
    np.testing.assert_allclose(gg.asnumpy(found), [[0.25, 0.0, -0.25]], atol=1e-15)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_of_a_probability_that_rounding_brought_above_one(gamma: float, device: str):
    p = gg.tensor([[np.nextafter(1.0, 2.0), 0.0]], device=device)
    loss = nnet.focal_loss(p, [0], gamma=gamma)
    loss.backward()
    assert abs(loss.item()) < 1e-15
    np.testing.assert_allclose(gg.asnumpy(p.grad), [[0.0 if gamma else -1.0, 0.0]], atol=1e-15)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_focal_loss_of_large_scores(gamma: float, device: str):
    x = gg.tensor([[1e4, 0.0], [0.0, 1e4], [1e4, 1e4]], device=device)
    loss = nnet.softmax_focal_loss(x, [0, 0, 0], gamma=gamma)
    np.testing.assert_allclose(gg.asnumpy(loss), [0, 1e4, 0.5**gamma * np.log(2)], rtol=1e-13)
    loss[:2].sum().backward()
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [[0, 0], [-1, 1], [0, 0]])
    second = gg.hessian(lambda t: nnet.softmax_focal_loss(t, [0, 0, 0], gamma=gamma).sum())(x)
    assert np.isfinite(gg.asnumpy(second)).all()


@pytest.mark.parametrize(
    "gamma, first, second", [(0, -1.0, 1.0), (0.5, 0.0, 0.0), (1, 0.0, 2.0), (2, 0.0, 0.0)]
)
def test_focal_loss_of_a_certain_class(gamma: float, first: float, second: float, device: str):
    # -(1 - p)^gamma log(p) is (1 - p)^(1 + gamma) + ... near p = 1; for gamma between 0 and 1 its
    # second derivative is infinite, and 0 stands for it
    p = gg.tensor([[1.0]], device=device)

    def f(p: gg.Tensor) -> gg.Tensor:
        return nnet.focal_loss(p, [0], gamma=gamma).sum()

    assert f(p).item() == 0
    assert gg.asnumpy(gg.grad(f)(p)).item() == first
    assert gg.asnumpy(gg.hessian(f)(p)).item() == second


# --------------------------------------------------------------------------------------------- ties


def test_hinge_that_is_met_exactly_gives_no_gradient(device: str):
    x = gg.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]], device=device)
    loss = nnet.multiclass_hinge(x, [0, 1])
    loss.backward()
    assert loss.item() == 1.0
    np.testing.assert_array_equal(gg.asnumpy(x.grad), [[0, 0, 0], [0.5, -1, 0.5]])
    assert_same_calculus(
        lambda m, x: m.multiclass_hinge(x, np.array([0, 1])), [[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    )


def test_margin_that_is_met_exactly_gives_no_gradient(device: str):
    a, b = (gg.tensor(v, device=device) for v in ([3.0, 1.0, 0.0], [2.0, 1.0, 1.0]))
    loss = nnet.margin_ranking_loss(a, b, 1, 1.0)
    loss.backward()
    assert loss.item() == 1.0
    np.testing.assert_allclose(gg.asnumpy(a.grad), [0, -1 / 3, -1 / 3])
    np.testing.assert_allclose(gg.asnumpy(b.grad), [0, 1 / 3, 1 / 3])
    equal = np.ones(4)
    assert_same_calculus(lambda m, a, b: m.margin_ranking_loss(a, b, 1, 0), equal, equal)


# ------------------------------------------------------------------------------- dtypes and devices


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@each
def test_precision_is_that_of_the_scores(name: str, dtype: Any, device: str):
    function, _, option = name.partition(", ")
    if option.startswith(("weights", "labels", "int8")):
        pytest.skip("of the scores alone")
    more = {"gamma": float(option[6:])} if option.startswith("gamma") else {}
    host = X.astype(dtype)
    x = gg.tensor(host, device=device)
    labels = gg.tensor(LABELS, device=device)
    loss = getattr(nnet, function)(x, labels, **more)
    loss.backward()
    assert loss.dtype == x.grad.dtype == dtype
    exact = gg.tensor(host.astype(float))
    expected = getattr(nnet, function)(exact, LABELS, **more)
    expected.backward()
    eps = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(gg.asnumpy(loss), gg.asnumpy(expected), rtol=eps, atol=eps)
    np.testing.assert_allclose(gg.asnumpy(x.grad), exact.grad, rtol=eps, atol=eps)


@pytest.mark.parametrize("y", [1, [1, -1], np.array([1, -1])])
def test_signs_do_not_widen_float32(y: Any):
    a, b = (gg.tensor(np.ones(2, np.float32)) for _ in range(2))
    assert nnet.margin_ranking_loss(a, b, y, 0.5).dtype == np.float32


LABELLED = (
    "softmax_crossentropy",
    "negative_log_likelihood",
    "multiclass_hinge",
    "focal_loss",
    "softmax_focal_loss",
)


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("wrong", [5, -6, 100])
def test_label_that_names_no_class_raises_on_every_device(name: str, wrong: int, device: str):
    labels = LABELS.copy()
    labels[3] = wrong
    x, labels = gg.tensor(P, device=device), gg.tensor(labels, device=device)
    with pytest.raises(IndexError, match="out of bounds for axis 1 with size 5"):
        getattr(nnet, name)(x, labels)


@pytest.mark.parametrize("name", LABELLED)
def test_label_minus_one_is_the_last_class_as_in_mygrad(name: str):
    negative = np.array([-1, 0, -5, 2, -2, 4])
    assert_same_calculus(lambda m, x: getattr(m, name)(x, negative), P)
    found = [getattr(nnet, name)(P, labels) for labels in (negative, negative % 5)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", LABELLED)
def test_scores_of_no_class_raise_what_mygrad_raises(name: str):
    prefix = "getitem" if name in ("negative_log_likelihood", "softmax_focal_loss") else name
    scores, labels = np.ones((2, 0)), np.zeros(2, int)
    assert_same_error(lambda m: getattr(m, name)(m.tensor(scores), labels), prefix)


@pytest.mark.parametrize("name", LABELLED)
def test_scores_and_labels_on_different_devices_raise(name: str, cupy_standin: Any):
    x = gg.tensor(P, device="cuda")
    with pytest.raises(gg.DeviceMismatchError, match=name):
        getattr(nnet, name)(x, LABELS)
    with pytest.raises(gg.DeviceMismatchError, match=name):
        getattr(nnet, name)(gg.tensor(P), gg.tensor(LABELS, device="cuda"))


# ------------------------------------------------------------------------------------------- errors

WRONG = {
    "x of one axis": lambda m, f: f(m.tensor(X[0]), LABELS),
    "x of three axes": lambda m, f: f(m.tensor(X[None]), LABELS),
    "labels of two axes": lambda m, f: f(m.tensor(X), LABELS[:, None]),
    "too few labels": lambda m, f: f(m.tensor(X), LABELS[1:]),
    "labels of floats": lambda m, f: f(m.tensor(X), LABELS.astype(float)),
    "labels of bools": lambda m, f: f(m.tensor(X), LABELS > 0),
    "a label too large": lambda m, f: f(m.tensor(X), LABELS + 4),
}


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_scores_and_labels_raise_what_mygrad_raises(name: str, wrong: str):
    prefix = {"a label too large": "getitem"}.get(wrong, name)
    if prefix == "getitem" and name in ("softmax_crossentropy", "multiclass_hinge", "focal_loss"):
        prefix = name
    assert_same_error(lambda m: WRONG[wrong](m, getattr(m, name)), prefix)


A, B = np.ones((3, 2)), np.zeros((3, 2))


@pytest.mark.parametrize(
    "function, call",
    [
        ("focal_loss", lambda m: m.focal_loss(m.tensor(P), LABELS, gamma=-1)),
        ("focal_loss", lambda m: m.focal_loss(m.tensor(P), LABELS, gamma="a")),
        ("softmax_focal_loss", lambda m: m.softmax_focal_loss(m.tensor(P), LABELS, gamma=None)),
        (
            "negative_log_likelihood",
            lambda m: m.negative_log_likelihood(m.tensor(P), LABELS, weights=WEIGHTS[1:]),
        ),
        (
            "negative_log_likelihood",
            lambda m: m.negative_log_likelihood(m.tensor(P), LABELS, weights=WEIGHTS[:, None]),
        ),
        ("margin_ranking_loss", lambda m: ranked(m, A[None], A[None], 1)),
        ("margin_ranking_loss", lambda m: ranked(m, A[0, 0], A[0, 0], 1)),
        ("margin_ranking_loss", lambda m: ranked(m, A, A[1:], 1)),
        ("margin_ranking_loss", lambda m: ranked(m, A.astype(int), A, 1)),
        ("margin_ranking_loss", lambda m: ranked(m, A, A.astype(int), 1)),
        ("margin_ranking_loss", lambda m: ranked(m, A, B, 1, -0.1)),
        ("margin_ranking_loss", lambda m: ranked(m, A, B, 1, "a")),
        ("margin_ranking_loss", lambda m: ranked(m, A, B, [1, 1])),
        ("margin_ranking_loss", lambda m: ranked(m, A, B, A)),
    ],
)
def test_wrong_parameters_raise_what_mygrad_raises(function: str, call: Any):
    assert_same_error(call, function)


def ranked(m: Any, a: Any, b: Any, y: Any, margin: Any = 0.5) -> Any:
    return m.margin_ranking_loss(m.tensor(a), m.tensor(b), y, margin)


# ------------------------------------------------------------------------------------------- others


@pytest.mark.parametrize("loss", (nnet.focal_loss, nnet.softmax_focal_loss))
def test_gamma_that_is_no_number_is_refused(loss: Any):
    with pytest.raises(ValueError, match="gamma is nan, expected a number of at least 0"):
        loss([[0.5, 0.5]], [0], gamma=np.nan)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the mean of nothing is nan
def test_margin_of_nothing_has_an_empty_gradient(device: str):
    x, y = (gg.tensor(np.zeros((0, 3)), device=device) for _ in range(2))
    nnet.margin_ranking_loss(x, y, 1, 0.5).backward()
    assert x.grad.shape == y.grad.shape == (0, 3)


def test_losses_agree_with_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    F = torch.nn.functional
    labels = LABELS % 5
    weights = torch.tensor(WEIGHTS)
    scale = WEIGHTS[labels].mean()  # torch divides by the sum of the weights
    cases = {
        "softmax_crossentropy": (lambda x, y: F.cross_entropy(x, y), {}, 1.0),
        "negative_log_likelihood": (
            lambda x, y: F.nll_loss(x, y, weight=weights),
            {"weights": WEIGHTS},
            scale,
        ),
        "multiclass_hinge": (lambda x, y: F.multi_margin_loss(x, y, margin=0.4), {"hinge": 0.4}, 5),
    }
    for name, (theirs, options, factor) in cases.items():
        x, t = gg.tensor(X), torch.tensor(X, requires_grad=True)
        loss, expected = getattr(nnet, name)(x, labels, **options), theirs(t, torch.tensor(labels))
        loss.backward()
        expected.backward()
        np.testing.assert_allclose(loss.item(), expected.item() * factor, rtol=1e-13)
        np.testing.assert_allclose(x.grad, t.grad.numpy() * factor, rtol=1e-12, atol=1e-15)


def test_second_sweep_finds_the_same_gradient():
    # the first takes the memory that the loss has kept, the second computes anew
    op = SoftmaxCrossEntropy()
    op(gg.tensor(X), LABELS)
    first, second = (op.backward_var(2.0, 0) for _ in range(2))
    assert not np.shares_memory(first, second)
    x = gg.tensor(X)
    nnet.softmax_crossentropy(x, LABELS).backward(2.0)
    for found in (first, second):
        np.testing.assert_allclose(found, x.grad, rtol=1e-14, atol=1e-16)


@each
def test_gradient_of_the_gradient_is_the_derivative_of_the_gradient(name: str):
    u = np.random.default_rng(1).normal(size=X.shape)

    def f(t: gg.Tensor) -> gg.Tensor:
        y = CALLS[name](OURS, t)
        return (y * y * y).sum()

    assert_second_derivative(f, X, u, 1e-6)
