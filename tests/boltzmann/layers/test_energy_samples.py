"""Units given by their energy: their samples, and known units written in that way."""

import math
from itertools import pairwise

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers import (
    BernoulliLayer,
    EnergyLayer,
    ExponentialLayer,
    GaussianLayer,
    IsingLayer,
    ReLULayer,
    TruncatedExponentialLayer,
)
from gpugrad.boltzmann.layers.quadrature import Panels, find_bulk
from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import ParameterError
from tests.chance import assert_distribution, assert_frequencies

from ..machines import device_like, host
from ..own_units import (
    BlumeCapel,
    OwnBernoulli,
    OwnExponential,
    OwnGaussian,
    OwnIsing,
    OwnReLU,
    OwnTruncatedExponential,
    TwoWells,
)
from .energy_oracle import (
    FIELD,
    NODES,
    ORACLES,
    UNITS,
    WEIGHTS,
    layer_with,
    moments,
    weights,
)

continuous = pytest.mark.parametrize("kind", [k for k in ORACLES if k is not BlumeCapel])
own = pytest.mark.parametrize("kind", list(ORACLES))


# ---- the same unit by its closed form


TWINS = {
    OwnBernoulli: BernoulliLayer,
    OwnIsing: IsingLayer,
    OwnGaussian: GaussianLayer,
    OwnTruncatedExponential: TruncatedExponentialLayer,
    OwnReLU: ReLULayer,
    OwnExponential: ExponentialLayer,
}


@pytest.mark.parametrize("kind", list(TWINS))
def test_a_known_unit_written_as_an_energy_is_that_unit(xp, kind):
    """log Z, mean, mode and the quantiles that samples are, in fields of up to 40."""
    own_layer = kind(1, dtype="float64", device=device_like(xp))
    known = TWINS[kind](1, dtype="float64", device=device_like(xp))
    values = np.array([-40.0, -3.0, -0.1, 0.0, 0.4, 2.9, 40.0])
    if kind is OwnExponential:
        known.set_params({"loc": np.array([3.0])})
        values = np.minimum(values, 2.9)
    phi = xp.asarray(values[:, None])
    xs = namespace_for(phi)
    for name in ("unit_log_partition", "unit_mean", "unit_mode"):
        a, b = (host(getattr(x, name)(xs, x.params, phi)) for x in (own_layer, known))
        # a maximum is found where the energy is flat to its rounding
        error = 1e-7 if name == "unit_mode" else 1e-10
        np.testing.assert_allclose(a, b, rtol=error, atol=error, err_msg=name)
    if kind in (OwnTruncatedExponential, OwnReLU, OwnExponential):
        for u in (1e-6, 0.02, 0.5, 0.97, 1 - 1e-6):
            noise = xp.full(phi.shape, u)
            a, b = (host(x.unit_sample(xs, x.params, phi, noise)) for x in (own_layer, known))
            slope = np.abs(b) + 1
            np.testing.assert_allclose(a / slope, b / slope, atol=2e-6)


# ---- samples and their stated error


@continuous
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_samples_follow_the_density(xp, kind, dtype):
    """False alarm below 8e-6: 36 tests at 1e-7 on each array library."""
    n = 1500
    layer = layer_with(xp, kind, dtype)
    field = np.broadcast_to(FIELD[:1], (n, UNITS)).astype(dtype)
    sample, _ = layer.draw(xp.asarray(field), 0.8, rng=Generator(5))
    assert sample.dtype == dtype
    sample = host(sample).astype("float64")
    edges = ORACLES[kind][0]
    low, high = layer.data_range
    assert low <= sample.min() and sample.max() <= high
    x = np.linspace(edges[0], edges[-1], 40001)
    p = weights(layer, field[:1].astype("float64"), x, 0.8)[:, 0]
    below = np.concatenate([np.zeros((1, UNITS)), np.cumsum((p[1:] + p[:-1]) / 2, axis=0)])
    if dtype == "float16":
        # away from the steps of half precision
        sample += (np.random.default_rng(0).random(sample.shape) - 0.5) * np.spacing(
            np.abs(sample).astype("float16")
        )
        sample = np.clip(sample, low, high)
    for i in range(UNITS):
        assert_distribution(
            sample[:, i], lambda v, c=below[:, i] / below[-1, i]: np.interp(v, x, c), 1e-7
        )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_samples_of_a_finite_support_have_the_exact_frequencies(xp, dtype):
    """False alarm below 2e-5: 9 chi-square tests at 1e-6 on each array library."""
    n = 4000
    layer = layer_with(xp, BlumeCapel, dtype)
    field = np.broadcast_to(FIELD[:1], (n, UNITS)).astype(dtype)
    sample = host(layer.draw(xp.asarray(field), rng=Generator(6))[0])
    assert set(np.unique(sample)) == {-1.0, 0.0, 1.0}
    p = weights(layer, field[:1].astype("float64"), np.array([-1.0, 0.0, 1.0]))[:, 0]
    for i in range(UNITS):
        counts = [(sample[:, i] == s).sum() for s in (-1, 0, 1)]
        assert_frequencies(counts, n * p[:, i] / p[:, i].sum())


@continuous
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_the_distribution_function_keeps_its_stated_error(kind, tolerance):
    """|F(x(u)) - u| <= tolerance for all u, and no more than the error that the grid reports."""
    layer = layer_with(np, kind)
    u = np.linspace(0, 1, 201)[:-1, None] * np.ones(UNITS)
    field = np.broadcast_to(FIELD[:1], u.shape)
    xs = namespace_for(u)
    log_weight = layer._log_weight(xs, layer.params, field, None, None)
    low, high = find_bulk(xs, log_weight, layer.interval, np.array(field), "test")
    panels = Panels(
        xs, log_weight, low, high, breaks=layer.breaks, tolerance=tolerance, count=1, name="test"
    )
    found = panels.quantile(u)
    log_z = moments(layer, FIELD[:1])[0][0]
    edges = ORACLES[kind][0]
    for k, i in np.ndindex(u.shape):
        cut = sorted({edges[0], *[b for b in edges if b < found[k, i]], found[k, i]})
        total = 0.0
        for a, b in pairwise(cut):
            x = a + (b - a) * (NODES + 1) / 2
            p = weights(layer, FIELD[:1], x)[:, 0, i]
            total += (p * WEIGHTS).sum() * (b - a) / 2 / math.exp(log_z[i])
        assert abs(total - u[k, i]) <= panels.error + 1e-12
        assert panels.error <= tolerance


def test_samples_rise_with_the_random_number(xp):
    layer = layer_with(xp, TwoWells)
    noise = xp.asarray(np.linspace(0, 1, 400)[:-1, None] * np.ones(UNITS))
    sample = layer.unit_sample(namespace_for(noise), layer.params, xp.zeros_like(noise), noise)
    assert np.all(np.diff(host(sample), axis=0) > 0)


class Kinked(EnergyLayer):
    interval = (-math.inf, math.inf)

    @staticmethod
    def potential(xp, params, x):
        return xp.absolute(x - 0.1)


def test_a_kink_that_is_no_break_is_refused_not_passed_over(xp):
    layer = Kinked(1, dtype="float64", device=device_like(xp))
    with pytest.raises(ParameterError, match=r"Kinked: .* error of .* expected 1.0e-06.*`breaks`"):
        layer.log_partition_function(xp.zeros((1, 1)))


def test_a_narrow_peak_far_from_zero_is_found(xp):
    """At 1000 times its width from 0, and at 0.001 of it."""
    layer = OwnGaussian(1, dtype="float64", device=device_like(xp))
    phi = xp.asarray([[1000.0], [-1000.0], [0.001]])
    log_z = host(layer.log_partition_function(phi))
    exact = host(phi) ** 2 / 2 + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(log_z, exact, rtol=1e-14)
    mean = layer.unit_mean(namespace_for(phi), layer.params, phi)
    np.testing.assert_allclose(host(mean), host(phi), rtol=1e-12, atol=1e-12)
