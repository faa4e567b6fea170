"""Diagnostics of chains against autoregressions, whose answers are known, and plain loops."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.diagnostics import (
    autocorrelation,
    effective_sample_size,
    integrated_autocorrelation_time,
    mean_with_error,
    r_hat,
    round_trips,
    swap_acceptance,
)
from gpugrad.boltzmann.swaps import SwapInfo
from gpugrad.boltzmann.tempering import parallel_tempering
from gpugrad.errors import DataError, ParameterError
from tests.chance import normal_limit

from .machines import small_machine

ALL = (
    autocorrelation,
    integrated_autocorrelation_time,
    mean_with_error,
    r_hat,
    effective_sample_size,
)


def autoregression(rho, steps, chains, seed=0):
    """Stationary chains x' = rho x + noise, variance 1; tau = (1 + rho) / (1 - rho)."""
    noise = np.random.default_rng(seed).normal(size=(steps, chains))
    x = np.empty_like(noise)
    x[0] = noise[0]
    for t in range(1, steps):
        x[t] = rho * x[t - 1] + np.sqrt(1 - rho * rho) * noise[t]
    return x


# ---- autocorrelation


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.6, 0.9])
def test_autocorrelation_time_of_an_autoregression(rho):
    """Within 6 standard errors (Madras and Sokal's) and the bias of the window, exp(-5)."""
    x = autoregression(rho, 20_000, 20)
    exact = (1 + rho) / (1 - rho)
    found = mean_with_error(x)
    assert found.tau == integrated_autocorrelation_time(x)
    assert abs(found.tau - exact) < 6 * found.tau_error + 2 * np.exp(-5) * exact
    assert 0 < found.tau_error < 0.05 * max(exact, 1)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_the_error_of_a_mean_is_its_spread_over_repetitions(rho):
    """300 repetitions: standard deviation of the means, chi-square limits of false alarm 1e-6."""
    repeats = [mean_with_error(autoregression(rho, 1000, 2, seed=s)) for s in range(300)]
    spread = np.std([r.mean for r in repeats])
    typical = np.sqrt(np.mean([r.error**2 for r in repeats]))
    # the relative error of a standard deviation is 1 / sqrt(2 n); 5 % for the estimate of tau
    limit = normal_limit(1, 1e-6) / np.sqrt(600) + 0.05
    assert abs(spread / typical - 1) < limit


def test_autocorrelation_is_the_sum_of_products():
    x = np.random.default_rng(1).normal(size=(37, 3)).cumsum(axis=0)
    d = x - x.mean()
    expected = [np.sum(d[: 37 - t] * d[t:]) / np.sum(d * d) for t in range(37)]
    np.testing.assert_allclose(autocorrelation(x), expected, atol=1e-12)


def test_the_window_closes_at_the_first_lag_beyond_five_times_the_sum():
    x = autoregression(0.7, 500, 1, seed=4)
    rho = autocorrelation(x)
    for cut in range(1, 500):
        tau = 1 + 2 * rho[1 : cut + 1].sum()
        if cut >= 5 * max(tau, 1):
            break
    assert integrated_autocorrelation_time(x) == pytest.approx(tau, rel=1e-12)
    assert integrated_autocorrelation_time(x, window=1.0) < tau


def test_a_series_that_never_changes_has_no_autocorrelation_time():
    x = np.full((50, 2), 0.1)
    assert np.isnan(integrated_autocorrelation_time(x))
    assert np.isnan(autocorrelation(x)).all()
    found = mean_with_error(x)
    assert found.mean == pytest.approx(0.1) and found.error == 0 and np.isnan(found.tau)
    assert np.isnan(r_hat(x))
    assert all(np.isnan(effective_sample_size(x, kind=k)) for k in ("bulk", "tail", "mean"))


# ---- R-hat and effective sample size


def plain_r_hat(chains):
    """Gelman and Rubin's, from a list of chains, in loops."""
    n = len(chains[0])
    means = [sum(c) / n for c in chains]
    within = sum(
        sum((x - m) ** 2 for x in c) / (n - 1) for c, m in zip(chains, means, strict=True)
    ) / len(chains)
    grand = sum(means) / len(means)
    between = sum((m - grand) ** 2 for m in means) / (len(means) - 1)
    return (((n - 1) / n * within + between) / within) ** 0.5


def normal_scores(chains):
    values = sorted(x for c in chains for x in c)
    size, score = len(values), {}
    for x in set(values):
        places = [i + 1 for i, y in enumerate(values) if y == x]
        rank = sum(places) / len(places)
        score[x] = NormalDist().inv_cdf((rank - 0.375) / (size + 0.25))
    return [[score[x] for x in c] for c in chains]


@pytest.mark.parametrize("steps", [40, 41])
@pytest.mark.parametrize("ties", [False, True])
def test_r_hat_is_that_of_its_definition(steps, ties):
    x = autoregression(0.5, steps, 3, seed=2) + [0.0, 0.5, -1.0]
    if ties:
        x = np.round(x)
    half = steps // 2
    split = [list(c[:half]) for c in x.T] + [list(c[steps - half :]) for c in x.T]
    ordered = sorted(v for c in split for v in c)
    middle = (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2
    folded = [[abs(v - middle) for v in c] for c in split]
    expected = max(plain_r_hat(normal_scores(split)), plain_r_hat(normal_scores(folded)))
    assert r_hat(x) == pytest.approx(expected, rel=1e-10)


def test_r_hat_tells_chains_that_agree_from_those_that_do_not():
    x = np.random.default_rng(3).normal(size=(1000, 4))
    assert r_hat(x) < 1.01
    assert r_hat(x + [0, 0, 0, 2]) > 1.1  # another mean
    assert r_hat(x * [1, 1, 1, 3]) > 1.1  # another width, the same mean
    assert r_hat(x[:, 0] + np.linspace(0, 3, 1000)) > 1.1  # one chain that drifts
    assert r_hat(np.repeat([[0.0, 1.0]], 10, axis=0)) == np.inf
    # ranks do not see a monotone map (the median's distances do, hence well-mixed chains)
    apart = x + [0, 0, 0, 5]
    assert r_hat(np.exp(apart)) == pytest.approx(r_hat(apart), rel=0.05)


@pytest.mark.parametrize("kind", ["mean", "bulk"])
@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.5, 0.9])
def test_effective_size_of_an_autoregression(kind, rho):
    """Gaussian chains are their own normal scores. Within 15 %, ten times what 40 such records
    scatter."""
    x = autoregression(rho, 5000, 8, seed=6)
    exact = x.size * (1 - rho) / (1 + rho)
    assert effective_sample_size(x, kind=kind) == pytest.approx(exact, rel=0.15)


def test_effective_size_of_the_tails_is_that_of_the_worse_quantile():
    x = autoregression(0.5, 4000, 4, seed=8)
    low, high = (
        effective_sample_size((x <= np.quantile(x, q)).astype(float), kind="mean")
        for q in (0.05, 0.95)
    )
    assert effective_sample_size(x, kind="tail") == min(low, high)
    # the tails forget faster than the bulk
    assert min(low, high) > effective_sample_size(x)


def test_chains_that_disagree_are_worth_little():
    x = np.random.default_rng(9).normal(size=(1000, 4))
    assert effective_sample_size(x) > 3000
    assert effective_sample_size(x + [0, 0, 0, 5]) < 20


# ---- ladders


def test_round_trips_are_counted_from_the_bottom_over_the_top_and_back():
    # replica 0: 0 1 2 1 0 1 2 2 0     replica 1: 1 0 0 0 1 0 0 1 1    replica 2: the rest
    place = np.array([[0, 1, 2, 1, 0, 1, 2, 2, 0], [1, 0, 0, 0, 1, 0, 0, 1, 1]])
    place = np.concatenate([place, [3 - place.sum(axis=0)]])
    history = np.argsort(place.T, axis=1)
    assert round_trips(history).tolist() == [2, 0, 0]
    both = np.stack([history, history[::-1]], axis=2)
    assert round_trips(both)[:, 0].tolist() == [2, 0, 0]
    assert round_trips(both).shape == (3, 2)


def test_round_trips_of_a_random_walk_have_the_known_rate():
    """Two rungs exchanged with probability p each step: the walk of a replica is a chain of two
    states that changes sides with rate p, so that trips come at rate p / 2 for each replica."""
    p, steps, chains = 0.3, 4000, 50
    swap = np.random.default_rng(0).random((steps, chains)) < p
    first = np.cumsum(swap, axis=0) % 2
    trips = round_trips(np.stack([first, 1 - first], axis=1))
    changes = swap.sum(axis=0)
    assert np.abs(trips.sum(axis=0) - changes).max() <= 2
    # binomial changes: 6 standard deviations
    assert abs(changes.mean() - p * steps) < 6 * np.sqrt(p * (1 - p) * steps / chains)


def test_acceptance_of_many_steps_is_weighted_by_what_was_tried(xp):
    infos = [
        SwapInfo(None, xp.asarray([1.0, 4.0, 0.0]), np.array([2, 4, 0]), None),
        SwapInfo(None, xp.asarray([0.0, 0.5, 0.0]), np.array([0, 5, 0]), None),
    ]
    np.testing.assert_allclose(swap_acceptance(infos), [0.5, 0.5, np.nan])
    with pytest.raises(DataError, match="swap_acceptance: no infos"):
        swap_acceptance([])
    other = SwapInfo(None, xp.asarray([1.0]), np.array([2]), None)
    with pytest.raises(DataError, match=r"swap_acceptance: infos of \[2, 4\] rungs"):
        swap_acceptance([infos[0], other])


def test_the_record_of_a_run_goes_in_as_it_is(xp):
    """Arrays of a device come to the host by themselves."""
    model, _ = small_machine(xp)
    step, rng = parallel_tempering((0.5, 0.8, 1.0)), Generator(0)
    state = step.start(rng, model, 10)
    replicas, energies, infos = [], [], []
    for _ in range(60):
        state, info = step(rng, model, state)
        replicas.append(info.replica)
        energies.append(model.energy(state.cold))
        infos.append(info)
    ns = xp.stack
    assert round_trips(ns(replicas)).sum() > 0
    energies = ns(energies)
    assert 0.5 < integrated_autocorrelation_time(energies) < 20
    assert r_hat(energies) < 1.2
    assert (swap_acceptance(infos) > 0.5).all()


# ---- bad input


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_bad_series_are_refused_by_name(function):
    name = function.__name__
    with pytest.raises(DataError, match=rf"{name}: series is float64 of shape \(3, 2, 2\)"):
        function(np.zeros((3, 2, 2)))
    with pytest.raises(DataError, match=rf"{name}: series is <U1"):
        function(np.array(["a", "b", "c", "d", "e", "f", "g", "h"]))
    with pytest.raises(DataError, match=rf"{name}: series has shape \(3,\), expected at least"):
        function(np.zeros(3))
    with pytest.raises(DataError, match=rf"{name}: series has shape \(9, 0\)"):
        function(np.zeros((9, 0)))
    x = np.zeros((9, 2))
    x[4, 1] = np.nan
    with pytest.raises(DataError, match=rf"{name}: series has the value nan at step 4 of chain 1"):
        function(x)


def test_bad_settings_and_histories_are_refused():
    x = np.arange(20.0)
    for function in (integrated_autocorrelation_time, mean_with_error):
        with pytest.raises(ParameterError, match=f"{function.__name__}: window is 0"):
            function(x, window=0)
    with pytest.raises(ParameterError, match="effective_sample_size: kind is 'best'"):
        effective_sample_size(x, kind="best")
    for wrong in (np.zeros((3, 2)), np.zeros((3, 1), int), np.zeros(3, int)):
        with pytest.raises(DataError, match="round_trips: replica is"):
            round_trips(wrong)
    with pytest.raises(DataError, match="does not hold each of the replicas 0 ... 1 once"):
        round_trips([[0, 1], [1, 1]])


def size_by_definition(x):
    """Vehtari et al. 2021, eqs. 10 to 13, by loops: of chains cut in two."""
    half = len(x) // 2
    chains = [c for k in range(x.shape[1]) for c in (x[:half, k], x[len(x) - half :, k])]
    n, m = half, len(chains)
    within = np.mean([np.var(c, ddof=1) for c in chains])
    total = within * (n - 1) / n + np.var([c.mean() for c in chains], ddof=1)

    def rho(t):
        # each chain's covariance at t, of the scale of its unbiased variance
        found = [(c[: n - t] - c.mean()) @ (c[t:] - c.mean()) / (n - 1) for c in chains]
        return 1.0 if t == 0 else 1 - (within - np.mean(found)) / total

    tau, lowest = -1.0, math.inf
    for t in range(0, n - 1, 2):
        pair = rho(t) + rho(t + 1)
        if pair <= 0:
            break
        lowest = min(lowest, pair)
        tau += 2 * lowest
    return n * m / max(tau, 1 / math.log10(n * m))


@pytest.mark.parametrize("memory", [0.0, 0.6, 0.9, -0.5])
def test_effective_size_is_that_of_its_definition(memory):
    draw = np.random.default_rng(8)
    for _ in range(5):
        x = draw.normal(size=(41, 3))
        for t in range(1, len(x)):
            x[t] += memory * x[t - 1]
        got = effective_sample_size(x, kind="mean")
        assert got == pytest.approx(size_by_definition(x), rel=1e-10)
