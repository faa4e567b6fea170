"""Pseudo-likelihood and reconstruction error against enumeration."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import metrics
from gpugrad.boltzmann.metrics import pseudo_likelihood, reconstruction_error
from gpugrad.errors import DataError, ParameterError

from .enumeration import STATES
from .machines import PAIRINGS, small_machine

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


def exact_pseudo_likelihood(exact, pairing):
    """sum_i log p(v_i | rest) of every visible state, from the joint probabilities."""
    p = {tuple(v): q for v, q in zip(exact.v, exact.marginal(), strict=True)}
    low, high = STATES[pairing[0]]
    values = []
    for v in exact.v:
        total = 0.0
        for i in range(len(v)):
            other = v.copy()
            other[i] = low + high - v[i]
            total += np.log(p[tuple(v)] / (p[tuple(v)] + p[tuple(other)]))
        values.append(total)
    return np.array(values)


@pairings
@pytest.mark.parametrize("method", ["auto", "exact"])
def test_exact_pseudo_likelihood_is_the_sum_of_conditionals(xp, pairing, method):
    model, exact = small_machine(xp, pairing)
    rows = [0, 3, 7, 7, 12]
    got = pseudo_likelihood(model, xp.asarray(exact.v[rows]), Generator(0), method=method)
    assert got == pytest.approx(exact_pseudo_likelihood(exact, pairing)[rows].mean(), abs=1e-11)


@pairings
def test_stochastic_pseudo_likelihood_is_unbiased(xp, pairing):
    """40,000 copies of one sample; 5.6 standard errors, false alarm below 1e-7 a case.

    A copy's value is 4 log p(v_i | rest) with i uniform: its spread is known, too.
    """
    model, exact = small_machine(xp, pairing)
    n, v = 40_000, exact.v[5]
    got = pseudo_likelihood(
        model, xp.asarray(np.tile(v, (n, 1))), Generator(1), method="stochastic"
    )
    values = []
    p = {tuple(u): q for u, q in zip(exact.v, exact.marginal(), strict=True)}
    for i in range(4):
        other = v.copy()
        other[i] = sum(STATES[pairing[0]]) - v[i]
        values.append(4 * np.log(p[tuple(v)] / (p[tuple(v)] + p[tuple(other)])))
    assert abs(got - np.mean(values)) < 5.6 * np.std(values) / np.sqrt(n)
    assert np.std(values) > 0.1


def test_large_problems_are_estimated_small_ones_exact(monkeypatch):
    """With "auto" a set below the limit does not depend on the seed, one above it does."""
    model, exact = small_machine()
    size = exact.v.shape[0] * 4 * 3
    for limit, same in ((size, True), (size - 1, False)):
        monkeypatch.setattr(metrics, "EXACT_UP_TO", limit)
        a, b = (pseudo_likelihood(model, exact.v, Generator(seed)) for seed in (0, 1))
        assert (a == b) is same


@pairings
def test_reconstruction_error_is_that_of_the_mean_given_drawn_hidden_units(xp, pairing):
    """40,000 copies of one sample against enumeration; 5.6 standard errors."""
    model, exact = small_machine(xp, pairing)
    n, v = 40_000, exact.v[5]
    got = reconstruction_error(model, xp.asarray(np.tile(v, (n, 1))), Generator(2))
    errors = ((exact.visible_given(exact.h) @ exact.v - v) ** 2).mean(axis=1)
    p = exact.hidden_given([v])[0]
    mean = p @ errors
    spread = np.sqrt(p @ (errors - mean) ** 2)
    assert abs(got - mean) < 5.6 * spread / np.sqrt(n)
    assert spread > 0.01


def test_grey_values_are_drawn_before_the_pseudo_likelihood():
    """Grey rows average the values of the states they stand for; 5.6 standard errors."""
    model, exact = small_machine()
    n = 40_000
    grey = np.full((n, 4), 0.5)
    got = pseudo_likelihood(model, grey, Generator(3), method="exact")
    values = exact_pseudo_likelihood(exact, ("bernoulli", "bernoulli"))
    assert abs(got - values.mean()) < 5.6 * values.std() / np.sqrt(n)


def test_an_unknown_method_is_refused():
    model, exact = small_machine()
    with pytest.raises(ParameterError, match="method is 'guess'"):
        pseudo_likelihood(model, exact.v, Generator(0), method="guess")


@pytest.mark.parametrize("metric", [pseudo_likelihood, reconstruction_error])
def test_bad_data_is_named(metric):
    model, _ = small_machine()
    with pytest.raises(DataError, match=f"{metric.__name__}: data has shape"):
        metric(model, np.zeros((3, 5)), Generator(0))
