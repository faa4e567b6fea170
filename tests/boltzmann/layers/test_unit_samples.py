"""Samples of Gaussian, exponential, ReLU, truncated exponential and Potts layers."""

import math

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.state import namespace_for
from tests.chance import assert_distribution, assert_frequencies, deviates, normal_limit

from ..any_machines import layer_of
from ..machines import host
from ..quadrature import INTERVALS, Q, unit_energy
from .unit_oracle import (
    CONTINUOUS,
    NEW,
    UNITS,
    density,
    fields,
    layer_with,
    moments,
    potts_probabilities,
    values_for,
)

new = pytest.mark.parametrize("kind", NEW)


@pytest.mark.parametrize("kind", CONTINUOUS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [None, 0.5])
def test_samples_follow_the_density(xp, kind, dtype, beta):
    """False alarm below 3e-6 a call, 1e-6 a unit (48 calls: 1e-4 without the fixed seeds)."""
    n, values = 4000, values_for(kind)
    field = np.array([[-1.1, 0.3, 1.2]])
    layer = layer_with(xp, kind, values, dtype)
    ones = xp.ones((n, 1), dtype=dtype)
    sample = host(
        layer.conditional_sample([ones], [xp.asarray(field, dtype=dtype)], beta, rng=Generator(5))
    )
    assert sample.dtype == dtype
    low, high, _ = INTERVALS[kind]
    assert low <= sample.min() and sample.max() <= high
    x = np.linspace(low, high, 20001)
    for i in range(UNITS):
        p = density(kind, values, i, field[0, i], x, 1.0 if beta is None else beta)
        below = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2)])
        assert_distribution(sample[:, i], lambda v, c=below / below[-1]: np.interp(v, x, c), 1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_of_potts_units_are_one_hot_with_the_right_frequencies(xp, dtype):
    """False alarm below 2e-5: 18 chi-square tests at 1e-6."""
    n, values = 4000, values_for("potts")
    field = fields("potts", 1)
    layer = layer_with(xp, "potts", values, dtype)
    ones = xp.ones((n, 1), dtype=dtype)
    for beta in (None, 0.5, 3.0):
        sample = host(
            layer.conditional_sample(
                [ones], [xp.asarray(field, dtype=dtype)], beta, rng=Generator(6)
            )
        ).reshape(n, UNITS, Q)
        assert set(np.unique(sample)) == {0.0, 1.0}
        np.testing.assert_array_equal(sample.sum(axis=2), 1)
        p = potts_probabilities(values, field, 1.0 if beta is None else beta)[0]
        for site in range(UNITS):
            assert_frequencies(sample[:, site].sum(axis=0), n * p[site])


def test_gaussian_mean_does_not_move_with_beta_and_its_variance_is_var_over_beta(xp):
    """False alarm below 1e-7: nine deviates for each of two moments at 1e-9."""
    n, values = 20_000, values_for("gaussian")
    layer = layer_with(xp, "gaussian", values)
    limit = normal_limit(1, 1e-9)
    for beta in (0.25, 1.0, 4.0):
        field = xp.full((n, UNITS), 0.7)
        sample, mean = (host(x) for x in layer.draw(field, beta, rng=Generator(7), mean=True))
        np.testing.assert_allclose(mean, np.broadcast_to(values["loc"] + 0.7, mean.shape))
        var = np.exp(values["log_var"]) / beta
        z = (sample.mean(axis=0) - values["loc"] - 0.7) / np.sqrt(var / n)
        assert np.abs(z).max() < limit
        z = (sample.var(axis=0) / var - 1) / math.sqrt(2 / n)
        assert np.abs(z).max() < limit


@new
def test_random_draws_without_neighbours(xp, kind):
    """False alarm below 1e-7: nine deviates at 1e-9."""
    n, values = 20_000, values_for(kind)
    layer = layer_with(xp, kind, values)
    sample = host(layer.random((n // 2, 2, layer.num_units), rng=Generator(8)))
    assert sample.shape == (n // 2, 2, layer.num_units)
    sample = sample.reshape(n, -1)
    if kind == "potts":
        mean = potts_probabilities(values, np.zeros((1, UNITS * Q))).reshape(-1)
    else:
        mean = moments(kind, values, np.zeros((1, UNITS)))[1][0]
    assert deviates(sample, mean).max() < normal_limit(1, 1e-9)


@new
def test_the_same_seed_draws_the_same_states_and_a_field_may_be_overwritten(xp, kind):
    layer = layer_with(xp, kind, values_for(kind))
    phi = fields(kind, 4)
    first = host(layer.draw(xp.asarray(phi), rng=Generator(1))[0])
    field = xp.asarray(phi.copy())
    mean = xp.empty_like(field)
    sample, averaged = layer.draw(field, rng=Generator(1), mean=True, out=(field, mean))
    assert sample is field and averaged is mean
    np.testing.assert_array_equal(host(sample), first)
    again = layer.draw(xp.asarray(phi), sample=False, mean=True)
    assert again[0] is None
    np.testing.assert_array_equal(host(again[1]), host(mean))


def test_a_state_without_probability_is_never_drawn(xp):
    layer = layer_of(xp, "potts", 1)
    layer.set_params({"loc": np.array([[-2000.0] + [0.0] * (Q - 1)])})
    phi = xp.zeros((1, Q))
    drawn = layer.unit_sample(namespace_for(phi), layer.params, phi, xp.zeros((1, 1)))
    assert host(drawn).tolist() == [[0.0, 1.0] + [0.0] * (Q - 2)]


@pytest.mark.parametrize("kind", ["relu", "truncated_exponential", "exponential"])
def test_samples_rise_with_the_random_number_and_reach_its_quantile(kind):
    """The distribution function of the sample is the random number, far into both tails."""
    noise = np.array([[0.0], [1e-12], [1e-3], [0.3], [0.5], [0.9], [1 - 1e-9]])
    layer = layer_of(np, kind, 1)
    for field in (-30.0, -3.0, -0.5, 0.0, 0.5, 1.9, 2.1, 6.0, 30.0):
        loc = abs(field) + 1 if kind == "exponential" else field
        layer.set_params({"loc": np.array([loc])})
        xs = namespace_for(noise)
        x = layer.unit_sample(xs, layer.params, np.zeros(noise.shape), noise)[:, 0]
        assert np.all(np.diff(x) > 0) or (x[0] == x[1] and np.all(np.diff(x[1:]) > 0))
        log_z = layer.unit_log_partition(xs, layer.params, np.zeros((1, 1)))[0, 0]
        nodes, weights = np.polynomial.legendre.leggauss(60)
        for value, u in zip(x[2:], noise[2:, 0], strict=True):
            edges = np.linspace(0, value, 41)
            t = edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * (nodes + 1) / 2
            p = np.exp(-unit_energy(kind, t, loc) - log_z)
            total = (p * weights).sum() * (edges[1] - edges[0]) / 2
            assert total == pytest.approx(u, rel=1e-7, abs=1e-9)
