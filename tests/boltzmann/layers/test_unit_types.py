"""Gaussian, exponential, ReLU, truncated exponential, Potts layers against integrals and sums."""

import json
import math

import numpy as np
import pytest

import gpugrad
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.layers import (
    ExponentialLayer,
    GaussianLayer,
    Layer,
    PottsLayer,
    ReLULayer,
    TruncatedExponentialLayer,
    get,
)
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import DataError, NoPartitionFunctionError, ParameterError

from ..any_machines import layer_of
from ..machines import device_like, host
from ..quadrature import INTERVALS, Q, grid, nodes_of, unit_energy
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

continuous = pytest.mark.parametrize("kind", CONTINUOUS)
new = pytest.mark.parametrize("kind", NEW)


# ---- partition function


@continuous
def test_log_partition_function_is_the_log_of_the_integral(xp, kind):
    """Constants included; the field is conjugate to the unit itself, not to the rescaled one."""
    values, phi = values_for(kind), fields(kind, 6)
    sent = phi * np.exp(values["log_var"]) if kind == "gaussian" else phi
    got = layer_with(xp, kind, values).log_partition_function(xp.asarray(phi))
    np.testing.assert_allclose(host(got), moments(kind, values, sent)[0], atol=1e-10)


@continuous
@pytest.mark.parametrize("beta", [0.6, "per sample"])
def test_log_partition_and_mean_at_an_inverse_temperature(xp, kind, beta):
    """Here the field is the one that neighbours send."""
    values, phi = values_for(kind), fields(kind, 5)
    value = np.linspace(0.6, 1.4, 5)[:, None] if beta == "per sample" else beta
    layer, field = layer_with(xp, kind, values), xp.asarray(phi)
    given, names = xp.asarray(value), namespace_for(field)
    log_z, mean = moments(kind, values, phi, value)
    got = layer.unit_log_partition(names, layer.params, field, given)
    np.testing.assert_allclose(host(got), log_z, atol=1e-10)
    got = layer.unit_mean(names, layer.params, field, given)
    np.testing.assert_allclose(host(got), mean, atol=1e-10)


@pytest.mark.parametrize("beta", [None, 0.6, "per sample"])
@pytest.mark.parametrize("weighted", [False, True])
def test_expected_derivatives_of_gaussian_units_are_integrals(xp, beta, weighted):
    values, phi = values_for("gaussian"), fields("gaussian", 5)
    value = np.linspace(0.6, 1.4, 5)[:, None] if beta == "per sample" else beta
    given = xp.asarray(value) if beta == "per sample" else beta
    share = np.arange(1.0, 6) / 15 if weighted else np.full(5, 0.2)
    x, w = nodes_of("gaussian")
    loc, var = values["loc"], np.exp(values["log_var"])
    expected = {"loc": np.zeros(UNITS), "log_var": np.zeros(UNITS)}
    for k, i in np.ndindex(phi.shape):
        b = 1.0 if beta is None else beta if beta == 0.6 else value[k, 0]
        p = w * density("gaussian", values, i, phi[k, i], x, b)
        p = share[k] * p / p.sum()
        expected["loc"][i] -= p @ (x - loc[i]) / var[i]
        expected["log_var"][i] += p @ (x * phi[k, i] - 0.5 * (x - loc[i]) ** 2) / var[i]
    got = layer_with(xp, "gaussian", values).expected_derivatives(
        [xp.asarray(phi)],
        [xp.asarray(np.eye(UNITS))],
        given,
        sample_weight=xp.asarray(share) if weighted else None,
    )
    for name, exact in expected.items():
        np.testing.assert_allclose(host(getattr(got, name)), exact, atol=1e-10)


@pytest.mark.parametrize("kind", ["gaussian", "relu"])
def test_log_partition_function_with_a_quadratic_interaction(xp, kind):
    values, phi = values_for(kind), fields(kind, 4)
    A = np.random.default_rng(4).random(phi.shape)
    x, w = nodes_of(kind)
    expected = np.empty(phi.shape)
    for k, i in np.ndindex(phi.shape):
        p = density(kind, values, i, 0.0, x) * np.exp(phi[k, i] * x - A[k, i] * x * x)
        expected[k, i] = np.log((w * p).sum())
    got = layer_with(xp, kind, values).log_partition_function(xp.asarray(phi), xp.asarray(A))
    np.testing.assert_allclose(host(got), expected, atol=1e-10)


@pytest.mark.parametrize("kind", ["exponential", "truncated_exponential"])
def test_a_quadratic_interaction_without_closed_form_is_refused(xp, kind):
    layer = layer_with(xp, kind, values_for(kind))
    with pytest.raises(ParameterError, match="expected 0"):
        layer.log_partition_function(xp.zeros((1, UNITS)), 0.5)


def test_log_partition_function_of_potts_units_sums_over_the_states(xp):
    values, phi = values_for("potts"), fields("potts", 5)
    A = np.random.default_rng(4).random(phi.shape)
    layer = layer_with(xp, "potts", values)
    terms = np.exp(values["loc"].ravel() + phi).reshape(5, UNITS, Q)
    got = host(layer.log_partition_function(xp.asarray(phi)))
    np.testing.assert_allclose(got, np.log(terms.sum(axis=2)), atol=1e-13)
    terms = terms * np.exp(-A).reshape(terms.shape)
    got = host(layer.log_partition_function(xp.asarray(phi), xp.asarray(A)))
    np.testing.assert_allclose(got, np.log(terms.sum(axis=2)), atol=1e-13)


@pytest.mark.parametrize("kind", ["truncated_exponential", "relu", "potts"])
@pytest.mark.parametrize("size", [1e-20, 1e-4, 1.0, 300.0])
def test_no_field_is_too_weak_or_too_strong(xp, kind, size):
    """At both signs, in float32: finite values, and means between the ends of the range."""
    width = Q if kind == "potts" else 1
    layer = layer_of(xp, kind, 1, "float32")
    layer.set_params({"loc": np.zeros(layer.params.loc.shape)})
    phi = size * np.outer([1, -1, 0], np.arange(1, width + 1)).astype("float32")
    xs = namespace_for(xp.zeros(1))
    log_z = host(layer.unit_log_partition(xs, layer.params, xp.asarray(phi)))
    mean = host(layer.unit_mean(xs, layer.params, xp.asarray(phi)))
    assert np.isfinite(log_z).all()
    low, high = layer.data_range
    assert np.all((low <= mean) & (mean <= high) & np.isfinite(mean))
    assert log_z.dtype == mean.dtype == np.float32


@new
def test_slope_of_the_log_partition_function_is_the_mean(xp, kind):
    """Also where formulas change over, and at field 0, to second order."""
    layer = layer_of(xp, kind, UNITS)
    if kind == "exponential":
        layer.set_params({"loc": np.full(UNITS, 8.0)})
    n = 7
    edges = np.array([-2.5, -1.0, 0.0, 1.0, 2.5, 6.0, -6.0])[:, None]
    phi = xp.asarray(np.broadcast_to(edges, (n, layer.num_units)).copy())
    xs = namespace_for(phi)
    t = gpugrad.tensor(phi)
    layer.log_partition_function(t).sum().backward()
    np.testing.assert_allclose(
        host(t.grad), host(layer.unit_mean(xs, layer.params, phi)), rtol=1e-11, atol=1e-12
    )
    # second derivative = variance = slope of the mean
    t = gpugrad.tensor(phi)
    layer.unit_mean(namespace_for(t), layer.params, t).sum().backward()
    step = 1e-4
    slope = (
        host(layer.unit_mean(xs, layer.params, phi + step))
        - host(layer.unit_mean(xs, layer.params, phi - step))
    ) / (2 * step)
    if kind != "potts":  # where one field moves one mean
        np.testing.assert_allclose(host(t.grad), slope, rtol=1e-5, atol=1e-7)


# ---- conditionals


@continuous
@pytest.mark.parametrize("beta", [None, 0.6, "per sample"])
def test_conditional_mean_is_the_average(xp, kind, beta):
    draw = np.random.default_rng(2)
    values, units, W = values_for(kind), draw.random((5, 2)), 0.6 * draw.normal(size=(2, UNITS))
    value = np.linspace(0.6, 1.4, 5)[:, None] if beta == "per sample" else beta
    given = xp.asarray(value) if beta == "per sample" else beta
    layer = layer_with(xp, kind, values)
    got = layer.conditional_mean([xp.asarray(units)], [xp.asarray(W)], given)
    expected = moments(kind, values, units @ W, 1.0 if beta is None else value)[1]
    np.testing.assert_allclose(host(got), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("beta", [None, 0.6, "per sample"])
def test_conditional_mean_of_potts_units_is_the_probability_of_each_state(xp, beta):
    draw = np.random.default_rng(2)
    values, units = values_for("potts"), draw.random((5, 2))
    W = draw.normal(size=(2, UNITS * Q))
    value = np.linspace(0, 2, 5)[:, None] if beta == "per sample" else beta
    given = xp.asarray(value) if beta == "per sample" else beta
    got = layer_with(xp, "potts", values).conditional_mean(
        [xp.asarray(units)], [xp.asarray(W)], given
    )
    expected = potts_probabilities(values, units @ W, 1.0 if beta is None else value)
    np.testing.assert_allclose(host(got), expected.reshape(5, -1), atol=1e-13)


@continuous
def test_mode_has_the_highest_density(xp, kind):
    draw = np.random.default_rng(3)
    values, units, W = values_for(kind), draw.random((6, 2)), draw.normal(size=(2, UNITS))
    field = np.minimum(units @ W, 1.5)
    got = host(layer_with(xp, kind, values).conditional_mode([xp.asarray(field)], [xp.eye(UNITS)]))
    low, high, _ = INTERVALS[kind]
    x = np.linspace(low, high, 4801)
    for k, i in np.ndindex(field.shape):
        best = x[np.argmax(density(kind, values, i, field[k, i], x))]
        assert got[k, i] == pytest.approx(best, abs=x[1] - x[0])


def test_mode_of_potts_units_is_the_most_probable_state(xp):
    values, phi = values_for("potts"), fields("potts", 8)
    layer = layer_with(xp, "potts", values)
    got = host(layer.conditional_mode([xp.asarray(phi)], [xp.eye(UNITS * Q)]))
    best = potts_probabilities(values, phi).argmax(axis=2)
    np.testing.assert_array_equal(got, np.eye(Q)[best].reshape(8, -1))


# ---- energies and derivatives


@continuous
def test_energy_is_summed_over_the_units(xp, kind):
    values = values_for(kind)
    units = np.random.default_rng(3).random((4, UNITS))
    widths = values.get("log_var", np.zeros(UNITS))
    expected = [
        sum(unit_energy(kind, row[i], values["loc"][i], widths[i]) for i in range(UNITS))
        for row in units
    ]
    got = layer_with(xp, kind, values).energy(xp.asarray(units))
    np.testing.assert_allclose(host(got), expected, rtol=1e-13)


def test_rescale_divides_by_the_variance_of_gaussian_units_alone(xp):
    for kind in NEW:
        values = values_for(kind)
        layer = layer_with(xp, kind, values)
        x = np.random.default_rng(0).random((3, layer.num_units))
        expected = x / np.exp(values["log_var"]) if kind == "gaussian" else x
        np.testing.assert_allclose(host(layer.rescale(xp.asarray(x))), expected, rtol=1e-15)


def test_gaussian_derivatives_with_two_neighbours(xp):
    """dE/dlog_var = -(x - loc)^2 / (2 var) + x f / var with the fields of both neighbours."""
    draw = np.random.default_rng(9)
    values, x = values_for("gaussian"), draw.normal(size=(5, UNITS))
    below, above = draw.normal(size=(5, 2)), draw.normal(size=(5, 4))
    U, W = draw.normal(size=(2, UNITS)), draw.normal(size=(4, UNITS))
    got = layer_with(xp, "gaussian", values).derivatives(
        xp.asarray(x), [xp.asarray(below), xp.asarray(above)], [xp.asarray(U), xp.asarray(W)]
    )
    var, f = np.exp(values["log_var"]), below @ U + above @ W
    distance = x - values["loc"]
    np.testing.assert_allclose(host(got.loc), (-distance / var).mean(axis=0), rtol=1e-12)
    expected = (-(distance**2) / (2 * var) + x * f / var).mean(axis=0)
    np.testing.assert_allclose(host(got.log_var), expected, rtol=1e-12)


@new
def test_beta_of_another_shape_is_refused_everywhere(xp, kind):
    layer = layer_with(xp, kind, values_for(kind))
    units, W, beta = xp.zeros((3, 2)), xp.zeros((2, layer.num_units)), xp.ones(3)
    for name in ("conditional_mean", "conditional_mode", "conditional_sample"):
        with pytest.raises(ParameterError, match=f"{name}: beta has shape"):
            getattr(layer, name)([units], [W], beta)
    with pytest.raises(ParameterError, match="derivatives: beta has shape"):
        layer.derivatives(xp.zeros((3, layer.num_units)), [units], [W], beta)


@new
def test_derivatives_are_of_the_energy_whatever_beta(xp, kind):
    layer = layer_with(xp, kind, values_for(kind))
    x, units = xp.ones((3, layer.num_units)), xp.ones((3, 2))
    W = xp.full((2, layer.num_units), 0.1)
    cold = layer.derivatives(x, [units], [W], xp.full((3, 1), 7.0))
    for a, b in zip(cold, layer.derivatives(x, [units], [W]), strict=True):
        np.testing.assert_array_equal(host(a), host(b))


@new
def test_sum_over_units_equals_the_sum_of_the_log_partition_functions(xp, kind):
    layer = layer_with(xp, kind, values_for(kind))
    phi = xp.asarray(fields(kind, 5))
    xs = namespace_for(phi)
    expected = host(layer.unit_log_partition(xs, layer.params, phi, 0.7)).sum(axis=1)
    columns = xp.ascontiguousarray(phi.T)
    got = layer.sum_log_partition_(xs, layer.params, columns, 0.7)
    np.testing.assert_allclose(host(got), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["exponential", "truncated_exponential", "potts"])
@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_bridge_mixes_the_energies_of_base_and_layer(xp, kind, beta):
    values, base = values_for(kind), values_for(kind, seed=5)
    layer, other = layer_with(xp, kind, values), layer_with(xp, kind, base)
    x = xp.asarray(np.random.default_rng(0).random((4, layer.num_units)))
    expected = (1 - beta) * host(other.energy(x)) + beta * host(layer.energy(x))
    layer.params = layer.bridge(other.params, beta)
    np.testing.assert_allclose(beta * host(layer.energy(x)), expected, rtol=1e-12)


# ---- fitting to data


def data_for(kind, n=60):
    draw = np.random.default_rng(8)
    if kind == "potts":
        return np.eye(Q)[draw.integers(0, Q, (n, UNITS))].reshape(n, -1)
    if kind == "gaussian":
        return 100 + draw.normal(size=(n, UNITS)) * [1.0, 0.1, 3.0]
    return (
        draw.beta(2, 1, size=(n, UNITS))
        if kind == "truncated_exponential"
        else draw.exponential(1.5, size=(n, UNITS))
    )


@new
def test_any_split_of_the_data_gives_the_same_parameters(xp, kind):
    data = data_for(kind)
    whole, parts = layer_of(xp, kind, UNITS), layer_of(xp, kind, UNITS)
    whole.online_param_update(xp.asarray(data))
    for piece in (data[:1], data[1:30], data[30:]):
        parts.online_param_update(xp.asarray(piece))
    for a, b in zip(whole.params, parts.params, strict=True):
        np.testing.assert_allclose(host(a), host(b), rtol=1e-11, atol=1e-12)
    assert whole.sample_size == parts.sample_size == len(data)


@new
def test_a_fitted_layer_has_the_moments_of_the_data(xp, kind):
    data = data_for(kind)
    layer = layer_of(xp, kind, UNITS)
    layer.online_param_update(xp.asarray(data))
    zero = xp.zeros((1, layer.num_units))
    mean = layer.unit_mean(namespace_for(zero), layer.params, zero)
    np.testing.assert_allclose(host(mean)[0], data.mean(axis=0), rtol=1e-9)
    if kind == "gaussian":
        np.testing.assert_allclose(np.exp(host(layer.params.log_var)), data.var(axis=0), rtol=1e-9)


def test_constant_data_give_finite_parameters(xp):
    expected = {
        "gaussian": {"loc": 5.0, "log_var": math.log(1e-6)},
        "exponential": {"loc": 1 / 5.0},
    }
    for kind, values in expected.items():
        layer = layer_of(xp, kind, 1)
        layer.online_param_update(xp.full((10, 1), 5.0))
        for name, value in values.items():
            assert host(getattr(layer.params, name))[0] == pytest.approx(value, rel=1e-12)
    # a unit that was always at the end of its range counts half a sample elsewhere
    layer = layer_of(xp, "exponential", 1)
    layer.online_param_update(xp.zeros((10, 1)))
    assert host(layer.params.loc)[0] == pytest.approx(20.0)
    for kind in ("truncated_exponential", "relu"):
        layer = layer_of(xp, kind, 1)
        layer.online_param_update(xp.zeros((10, 1)))
        zero = xp.zeros((1, 1))
        mean = host(layer.unit_mean(namespace_for(zero), layer.params, zero))[0, 0]
        assert mean == pytest.approx(0.05, rel=1e-9)
    layer = layer_of(xp, "potts", 1)
    layer.online_param_update(xp.asarray(np.eye(Q)[np.zeros(10, int)]))
    np.testing.assert_allclose(
        host(layer.params.loc)[0, 0] - host(layer.params.loc)[0, 1:], math.log(20)
    )


def test_fields_of_a_fitted_potts_site_add_up_to_zero(xp):
    layer = layer_of(xp, "potts", UNITS)
    layer.online_param_update(xp.asarray(data_for("potts")))
    np.testing.assert_allclose(host(layer.params.loc).sum(axis=1), 0, atol=1e-12)


def test_columns_of_a_potts_site_have_to_add_up_to_one(xp):
    layer, data = layer_of(xp, "potts", 1), np.full((2, Q), 1 / Q)
    layer.check_rows(xp.asarray(data), "fit")
    data[1, 0] -= 0.01
    with pytest.raises(DataError, match="columns of site 0 add up to 0.99 in sample 1"):
        layer.check_rows(xp.asarray(data), "fit")


def test_the_series_and_the_closed_form_of_truncated_exponentials_meet():
    """log((e^y - 1) / y) on both sides of where one takes over from the other."""
    layer = layer_of(np, "truncated_exponential", 1)
    y = np.array([-1.001, -0.999, 0.999, 1.001])[:, None]
    got = layer.log_partition_function(y)
    np.testing.assert_allclose(got, np.log(np.expm1(y) / y), rtol=0, atol=6e-15)


def test_shrinkage_moves_variances_towards_one(xp):
    layer = layer_with(xp, "gaussian", {"loc": np.zeros(2), "log_var": np.log([4.0, 0.2])})
    layer.shrink_parameters(0.25)
    np.testing.assert_allclose(np.exp(host(layer.params.log_var)), [3.25, 0.4])
    layer.shrink_parameters()
    np.testing.assert_allclose(np.exp(host(layer.params.log_var)), [3.025, 0.46])
    for shrinkage in (1.5, -0.1, float("nan")):
        with pytest.raises(ParameterError, match="shrinkage is"):
            layer.shrink_parameters(shrinkage)
    for kind in ("exponential", "relu", "truncated_exponential", "potts"):
        values = values_for(kind)
        layer = layer_with(xp, kind, values)
        layer.shrink_parameters(0.5)
        np.testing.assert_array_equal(host(layer.params.loc), values["loc"])


# ---- rates that are not positive


@pytest.mark.parametrize("field", [1.0, 1.5, float("nan")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rate_that_is_not_positive_is_refused_by_every_call(xp, field, dtype):
    layer = ExponentialLayer(2, dtype=dtype, device=device_like(xp))
    units, W = xp.ones((3, 1), dtype=dtype), xp.asarray([[0.5, field]], dtype=dtype)
    calls = [
        lambda: layer.conditional_mean([units], [W]),
        lambda: layer.conditional_mode([units], [W]),
        lambda: layer.conditional_sample([units], [W], rng=Generator(0)),
        lambda: layer.log_partition_function(xp.matmul(units, W)),
    ]
    for call in calls:
        with pytest.raises(NoPartitionFunctionError, match="ExponentialLayer: unit 1 has the"):
            call()


# ---- Potts


def test_labels_and_one_hot_states_are_inverse(xp):
    layer = layer_of(xp, "potts", 2)
    labels = xp.asarray(np.array([[0, 2], [1, 1]]))
    hot = layer.one_hot(labels)
    np.testing.assert_array_equal(host(hot), [[1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0]])
    np.testing.assert_array_equal(host(layer.labels(hot)), host(labels))


@pytest.mark.parametrize(
    "labels", [np.array([[0, 3]]), np.array([[-1, 0]]), np.zeros((1, 3), int), np.zeros((1, 2))]
)
def test_labels_that_name_no_state_are_refused(labels):
    with pytest.raises(DataError, match="one_hot: labels"):
        layer_of(np, "potts", 2).one_hot(labels)


@pytest.mark.parametrize("sizes", [(0, 3), (2, 1), (2, None), (2,)])
def test_sizes_of_no_potts_layer_are_refused(sizes):
    with pytest.raises(ParameterError, match="PottsLayer: num_"):
        PottsLayer(*sizes)


# ---- configuration


@new
def test_configuration_survives_json_and_builds_an_equal_layer(kind):
    layer = layer_of(np, kind, UNITS)
    name = layer.params._fields[-1]
    layer.add_penalty({name: L2Penalty(0.25)})
    layer.add_constraint({name: non_negative})
    built = Layer.from_config(json.loads(json.dumps(layer.get_config())))
    assert type(built) is type(layer)
    assert built.num_units == layer.num_units
    for a, b in zip(built.params, layer.params, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert built.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("gaussian", "GaussianLayer"), GaussianLayer),
        (("exponential", "ExponentialLayer"), ExponentialLayer),
        (("relu", "ReLULayer"), ReLULayer),
        (("potts", "PottsLayer"), PottsLayer),
        (("truncated_exponential", "TruncatedExponentialLayer"), TruncatedExponentialLayer),
    ],
)
def test_get_finds_a_class_by_its_names(names, expected):
    assert all(get(name) is expected for name in names)


def test_a_penalty_on_the_log_variance_has_its_slope(xp):
    values = values_for("gaussian")
    layer = layer_with(xp, "gaussian", values)
    layer.add_penalty({"log_var": L2Penalty(0.5)})
    assert layer.get_penalties()["log_var"] == pytest.approx(0.25 * (values["log_var"] ** 2).sum())
    got = layer.get_penalty_grad(xp.zeros(UNITS), "log_var")
    np.testing.assert_allclose(host(got), 0.5 * values["log_var"])


def test_grid_of_the_oracle_lists_every_combination():
    np.testing.assert_array_equal(grid(np.array([0, 1]), 2), [[0, 0], [0, 1], [1, 0], [1, 1]])
