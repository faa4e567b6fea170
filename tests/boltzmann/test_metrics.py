"""Pseudo-likelihood and reconstruction error against enumeration."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import metrics
from gpugrad.boltzmann.metrics import (
    fair_pseudo_likelihood,
    has_pseudo_likelihood,
    pseudo_likelihood,
    reconstruction_error,
)
from gpugrad.errors import DataError, ParameterError

from .enumeration import STATES
from .grid_machines import grid_machine
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


# ---- units of more states, and couplings among visible units

COUPLED = {
    "potts": (("potts", "bernoulli"), (3, 2), ()),
    "potts with J": (("potts", "ising"), (3, 2), (0,)),
    "potts alone": (("potts",), (3,), (0,)),
    "ising with J": (("ising", "bernoulli"), (4, 2), (0,)),
    "ising alone": (("ising",), (5,), (0,)),
    "fair": (("bernoulli",), (3,), ()),
    "three values": (("blume_capel", "bernoulli"), (3, 2), ()),
    "three values with J": (("blume_capel",), (3,), (0,)),
    "gaussian hidden": (("bernoulli", "gaussian"), (3, 1), (0,)),
}


def conditionals(exact, sizes):
    """log p(v_i | rest) of each visible state and unit, (states, units), by sums over states."""
    p, v = exact.marginal(), exact.sides[0].states
    width = v.shape[1] // sizes[0]
    found = np.empty((len(v), sizes[0]))
    for i in range(sizes[0]):
        rest = np.delete(v, slice(i * width, (i + 1) * width), axis=1)
        alike = (rest[:, None] == rest[None]).all(axis=2)
        found[:, i] = np.log(p / (alike @ p))
    return found


@pytest.mark.parametrize("case", COUPLED)
def test_pseudo_likelihood_sums_over_all_states_of_each_unit(xp, case):
    kinds, sizes, lateral = COUPLED[case]
    model, exact = grid_machine(xp, kinds, sizes, lateral=lateral)
    rows = [0, 1, 3, 7, 7, 5]
    got = pseudo_likelihood(model, xp.asarray(exact.sides[0].states[rows]), Generator(0))
    expected = conditionals(exact, sizes)[rows].sum(axis=1).mean()
    assert got == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", ["potts with J", "three values with J", "ising alone"])
def test_one_random_unit_a_sample_is_unbiased(xp, case):
    """40,000 copies of one sample; 5.6 standard errors, false alarm below 1e-7 a case."""
    kinds, sizes, lateral = COUPLED[case]
    model, exact = grid_machine(xp, kinds, sizes, lateral=lateral)
    copies = np.tile(exact.sides[0].states[5], (40_000, 1))
    got = pseudo_likelihood(model, xp.asarray(copies), Generator(1), method="stochastic")
    values = sizes[0] * conditionals(exact, sizes)[5]
    assert abs(got - values.mean()) < 5.6 * values.std() / np.sqrt(len(copies))
    assert values.std() > 0.1


def test_probabilities_of_potts_units_are_drawn_first():
    """5.6 standard errors, from the exact spread of the drawn states."""
    model, exact = grid_machine(np, ("potts", "bernoulli"), (2, 2), lateral=(0,))
    p = np.array([0.5, 0.2, 0.3])
    got = pseudo_likelihood(model, np.tile(p, (40_000, 2)), Generator(1))
    values = conditionals(exact, (2, 2)).sum(axis=1)
    weight = np.prod((exact.sides[0].states.reshape(-1, 2, 3) * p).sum(axis=2), axis=1)
    spread = np.sqrt(weight @ values**2 - (weight @ values) ** 2)
    assert abs(got - weight @ values) < 5.6 * spread / 200
    assert spread > 0.1


def test_machines_without_a_pseudo_likelihood_are_refused_by_name():
    for kinds, sizes, lateral, message in (
        (("gaussian", "bernoulli"), (3, 2), (), "visible units are gaussian, expected units of"),
        (("bernoulli", "bernoulli", "ising"), (3, 2, 2), (), "the machine has 3 layers"),
        (("bernoulli", "bernoulli"), (3, 2), (1,), "hidden units have lateral couplings"),
    ):
        model, _ = grid_machine(np, kinds, sizes, lateral=lateral)
        assert not has_pseudo_likelihood(model)
        with pytest.raises(ParameterError, match=message):
            pseudo_likelihood(model, np.zeros((2, 3)))
    model, _ = grid_machine(np, ("blume_capel",), (3,))
    with pytest.raises(DataError, match="pseudo_likelihood: data has"):
        pseudo_likelihood(model, np.full((2, 3), 0.5))


@pytest.mark.parametrize("case", COUPLED)
def test_a_fair_machine_has_the_pseudo_likelihood_of_dice(case):
    kinds, sizes, lateral = COUPLED[case]
    model, exact = grid_machine(np, kinds, sizes, lateral=lateral)
    fair = {n: np.zeros(p.shape) for n, p in model.parameters().items()}
    model.set_parameters(fair)
    got = pseudo_likelihood(model, exact.sides[0].states[:4], Generator(0))
    assert got == pytest.approx(fair_pseudo_likelihood(model), abs=1e-12)
    assert fair_pseudo_likelihood(model) == pytest.approx(
        -np.log(len(exact.sides[0].states)), abs=1e-12
    )


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
