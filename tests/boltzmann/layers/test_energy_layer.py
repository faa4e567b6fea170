"""Units that a user gives by their energy, against sums and integrals; their definitions."""

import math

import numpy as np
import pytest

import gpugrad
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers import (
    BernoulliLayer,
    EnergyLayer,
    GaussianLayer,
    IsingLayer,
    PottsLayer,
    ReLULayer,
    get,
)
from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import DataError, NoPartitionFunctionError, ParameterError

from ..machines import device_like, host
from ..own_units import (
    Bent,
    BlumeCapel,
    ByLogPartition,
    HalfQuartic,
    Laplace,
    OwnExponential,
    OwnGaussian,
    OwnIsing,
    TwoWells,
)
from .energy_oracle import (
    FIELD,
    ORACLES,
    UNITS,
    layer_with,
    moments,
    points,
    weights,
)

continuous = pytest.mark.parametrize("kind", [k for k in ORACLES if k is not BlumeCapel])
own = pytest.mark.parametrize("kind", list(ORACLES))


# ---- partition function, mean, mode


@own
@pytest.mark.parametrize("beta", [None, 0.6, "per sample"])
def test_log_partition_and_mean_are_those_of_the_sum_or_integral(xp, kind, beta):
    layer = layer_with(xp, kind)
    value = np.array([[0.5], [1.5]]) if beta == "per sample" else beta
    given = xp.asarray(value) if beta == "per sample" else beta
    phi = xp.asarray(FIELD)
    log_z, mean = moments(layer, FIELD, 1.0 if beta is None else value)
    got = layer.unit_log_partition(namespace_for(phi), layer.params, phi, given)
    np.testing.assert_allclose(host(got), log_z, rtol=1e-11, atol=1e-11)
    got = layer.conditional_mean([phi], [xp.eye(UNITS)], given)
    np.testing.assert_allclose(host(got), mean, rtol=1e-10, atol=1e-10)


@own
def test_log_partition_function_takes_a_quadratic_interaction(xp, kind):
    layer = layer_with(xp, kind)
    A = np.random.default_rng(4).random(FIELD.shape)
    got = layer.log_partition_function(xp.asarray(FIELD), xp.asarray(A))
    np.testing.assert_allclose(host(got), moments(layer, FIELD, A=A)[0], rtol=1e-11, atol=1e-11)
    got = layer.log_partition_function(xp.asarray(FIELD))
    np.testing.assert_allclose(host(got), moments(layer, FIELD)[0], rtol=1e-11, atol=1e-11)


@own
@pytest.mark.parametrize(("dtype", "error"), [("float16", 4e-3), ("float32", 3e-6)])
def test_lower_precision_costs_its_rounding_only(xp, kind, dtype, error):
    layer = layer_with(xp, kind, dtype)
    phi = xp.asarray(FIELD.astype(dtype))
    log_z, mean = moments(layer, FIELD.astype(dtype).astype("float64"))
    xs = namespace_for(phi)
    for got, expected in (
        (layer.unit_log_partition(xs, layer.params, phi), log_z),
        (layer.unit_mean(xs, layer.params, phi), mean),
    ):
        assert got.dtype == dtype
        np.testing.assert_allclose(host(got), expected, rtol=error, atol=error)


@own
def test_slope_of_the_log_partition_is_the_mean_and_its_slope_the_variance(xp, kind):
    layer = layer_with(xp, kind)
    phi = gpugrad.tensor(xp.asarray(FIELD))
    layer.log_partition_function(phi).sum().backward()
    np.testing.assert_allclose(host(phi.grad), moments(layer, FIELD)[1], rtol=1e-10, atol=1e-10)
    phi = gpugrad.tensor(xp.asarray(FIELD))
    layer.unit_mean(namespace_for(phi), layer.params, phi).sum().backward()
    x, w = points(kind)
    p = w[:, None, None] * weights(layer, FIELD, x)
    square = (p * x[:, None, None] ** 2).sum(axis=0) / p.sum(axis=0)
    np.testing.assert_allclose(
        host(phi.grad), square - moments(layer, FIELD)[1] ** 2, rtol=1e-9, atol=1e-9
    )


@own
def test_mode_has_the_highest_weight(xp, kind):
    layer = layer_with(xp, kind)
    x, _ = points(kind)
    edges = ORACLES[kind][0]
    if edges is not None:
        x = np.linspace(edges[0], edges[-1], 160_001)
    best = x[weights(layer, FIELD, x).argmax(axis=0)]
    got = host(layer.conditional_mode([xp.asarray(FIELD)], [xp.eye(UNITS)]))
    np.testing.assert_allclose(got, best, atol=x[1] - x[0] if edges is not None else 0)


def test_of_two_equal_modes_the_lower_one_is_taken(xp):
    layer = TwoWells(1, dtype="float64", device=device_like(xp))
    assert host(layer.conditional_mode([xp.zeros((1, 1))], [xp.eye(1)]))[0, 0] == pytest.approx(-1)
    layer = BlumeCapel(1, dtype="float64", device=device_like(xp))
    assert host(layer.conditional_mode([xp.zeros((1, 1))], [xp.eye(1)]))[0, 0] == -1


def test_neutral_value_is_the_mean_in_zero_field():
    assert BlumeCapel(1).neutral == 0
    assert TwoWells(1).neutral == pytest.approx(0, abs=1e-14)
    x, w = points(HalfQuartic)
    p = w * np.exp(-(x**4) / 4)
    assert HalfQuartic(1).neutral == pytest.approx((p * x).sum() / p.sum(), rel=1e-10)


def test_a_large_batch_is_cut_into_blocks_that_fit_together(xp):
    """Each row gives what it gives alone, with one beta a sample, for arrays and for Tensors."""
    layer = layer_with(xp, TwoWells)
    n = 700
    draw = np.random.default_rng(0)
    field, beta, u = draw.normal(size=(n, UNITS)), 0.5 + draw.random((n, 1)), draw.random((n, 3))
    phi, b, noise = xp.asarray(field), xp.asarray(beta), xp.asarray(u)
    xs = namespace_for(phi)
    log_z, mean = moments(layer, field, beta)
    np.testing.assert_allclose(host(layer.unit_mean(xs, layer.params, phi, b)), mean, atol=1e-10)
    t = gpugrad.tensor(phi)
    got = layer.unit_log_partition(namespace_for(t), layer.params, t, b)
    np.testing.assert_allclose(host(got.data), log_z, atol=1e-10)
    sample = host(layer.unit_sample(xs, layer.params, phi, noise, b))
    for row in (0, 170, 171, 341, n - 1):
        part = slice(row, row + 1)
        alone = layer.unit_sample(xs, layer.params, phi[part], noise[part], b[part])
        np.testing.assert_allclose(host(alone), sample[part], atol=1e-7)


@own
def test_a_batch_of_no_samples_gives_none(xp, kind):
    layer = layer_with(xp, kind)
    sample, mean = layer.draw(xp.zeros((0, UNITS)), rng=Generator(0), mean=True)
    assert sample.shape == mean.shape == (0, UNITS)
    assert layer.log_partition_function(xp.zeros((0, UNITS))).shape == (0, UNITS)


# ---- derivatives


@own
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_are_those_of_the_mean_energy(xp, kind, weighted):
    layer = layer_with(xp, kind)
    x = xp.asarray(np.random.default_rng(3).choice(points(kind)[0], (4, UNITS)))
    w = xp.asarray([0.1, 0.2, 0.3, 0.4]) if weighted else None
    got = layer.derivatives(x, [], [], sample_weight=w)
    step = 1e-5
    for name, array in got._asdict().items():
        value = host(getattr(layer.params, name)).copy()
        for i in range(UNITS):
            found = []
            for sign in (step, -step):
                layer.set_params({name: value + sign * np.eye(UNITS)[i]})
                found.append((host(layer.energy(x)) * ([0.25] * 4 if w is None else host(w))).sum())
            layer.set_params({name: value})
            slope = (found[0] - found[1]) / (2 * step)
            assert float(array[i]) == pytest.approx(slope, rel=1e-7, abs=1e-7), name


@own
@pytest.mark.parametrize("beta", [None, 0.6, "per sample"])
def test_expected_derivatives_average_over_the_states(xp, kind, beta):
    """d V / d theta by differences, averaged by the sum or integral."""
    layer = layer_with(xp, kind)
    value = np.array([[0.5], [1.5]]) if beta == "per sample" else beta
    given = xp.asarray(value) if beta == "per sample" else beta
    share = np.array([0.3, 0.7])
    got = layer.expected_derivatives(
        [xp.asarray(FIELD)], [xp.eye(UNITS)], given, sample_weight=xp.asarray(share)
    )
    x, w = points(kind)
    p = w[:, None, None] * weights(layer, FIELD, x, 1.0 if beta is None else value)
    p /= p.sum(axis=0)
    expected = {"loc": -x[:, None, None]}
    if layer.parameters:
        second = host(layer.params[1])
        V = ORACLES[kind][1]
        slope = (V(x[:, None], second + 1e-5) - V(x[:, None], second - 1e-5)) / 2e-5
        expected[layer.params._fields[1]] = slope[:, None]
    for name, array in got._asdict().items():
        mean = share @ (p * expected[name]).sum(axis=0)
        np.testing.assert_allclose(host(array), mean, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [BernoulliLayer, IsingLayer, ReLULayer, PottsLayer, GaussianLayer])
def test_expected_derivatives_of_the_packages_units_are_means_over_samples(xp, kind):
    """False alarm below 1e-6: at most 30 deviates of 6 sd (2e-9 each) on each array library."""
    n = 20_000
    size = (2, 3) if kind is PottsLayer else (2,)
    layer = kind(*size, dtype="float64", device=device_like(xp))
    if kind is GaussianLayer:
        layer.set_params({"loc": np.array([0.5, -1.0]), "log_var": np.array([0.3, -0.4])})
    units, W = xp.ones((n, 1)), xp.asarray(np.linspace(-0.5, 0.6, layer.num_units)[None])
    for beta in (None, 0.5, xp.full((n, 1), 0.5)):
        exact = layer.expected_derivatives([units], [W], beta)
        sample = layer.conditional_sample([units], [W], beta, rng=Generator(1))
        found = layer.derivatives(sample, [units], [W], beta)
        for a, b in zip(exact, found, strict=True):
            # each mean of n has a deviation of at most 2.5 / sqrt(n): fourth moments included
            np.testing.assert_allclose(host(a), host(b), atol=6 * 2.5 / math.sqrt(n))


def test_means_do_not_suffice_where_the_energy_has_parameters():
    assert not BlumeCapel(1).means_suffice
    assert HalfQuartic(1).means_suffice and BernoulliLayer(1).means_suffice


# ---- a unit of which only the log-partition function is given


@pytest.mark.parametrize("beta", [None, 0.6])
def test_mean_is_the_derivative_of_a_given_log_partition_function(xp, beta):
    layer = ByLogPartition(UNITS, dtype="float64", device=device_like(xp))
    phi = xp.asarray(FIELD)
    expected = 1 / (1 + np.exp(-(1.0 if beta is None else beta) * (FIELD + 0.25)))
    got = layer.conditional_mean([phi], [xp.eye(UNITS)], beta)
    np.testing.assert_allclose(host(got), expected, rtol=1e-13)
    t = gpugrad.tensor(phi)
    layer.unit_mean(namespace_for(t), layer.params, t, beta).sum().backward()
    b = 1.0 if beta is None else beta
    np.testing.assert_allclose(host(t.grad), b * expected * (1 - expected), rtol=1e-12)
    got = layer.expected_derivatives([phi], [xp.eye(UNITS)], beta)
    np.testing.assert_allclose(host(got.bias), -expected.mean(axis=0), rtol=1e-12)


def test_what_a_log_partition_function_does_not_tell_is_refused_by_name(xp):
    class Silent(EnergyLayer):
        unit_log_partition = ByLogPartition.unit_log_partition
        parameters = {"bias": 0.0}

    layer = Silent(2, dtype="float64", device=device_like(xp))
    with pytest.raises(ParameterError, match="Silent: this unit has neither a support nor"):
        layer.random((3, 2), rng=Generator(0))
    with pytest.raises(ParameterError, match="Silent.derivatives: the class has no potential"):
        layer.derivatives(xp.zeros((3, 2)), [], [])


# ---- data


def test_values_between_the_states_are_refused_where_means_do_not_suffice(xp):
    layer = BlumeCapel(2, device=device_like(xp))
    layer.check_rows(xp.asarray([[0.0, -1.0]]), "fit")
    with pytest.raises(DataError, match=r"fit: data has the value 0.5 in sample 1, unit 0"):
        layer.check_rows(xp.asarray([[0.0, -1.0], [0.5, 1.0]]), "fit")
    OwnIsing(2, device=device_like(xp)).check_rows(xp.asarray([[0.5, 0.1]]), "fit")


@own
def test_any_split_of_the_data_gives_the_same_loc_and_the_mean_of_the_data(xp, kind):
    draw = np.random.default_rng(8)
    data = draw.choice(points(kind)[0], (60, UNITS)) if kind is BlumeCapel else draw.random((60, 3))
    whole, parts = layer_with(xp, kind), layer_with(xp, kind)
    whole.online_param_update(xp.asarray(data))
    for piece in (data[:1], data[1:30], data[30:]):
        parts.online_param_update(xp.asarray(piece))
    np.testing.assert_allclose(host(parts.params.loc), host(whole.params.loc), rtol=1e-9)
    np.testing.assert_allclose(
        moments(whole, np.zeros((1, UNITS)))[1][0], data.mean(axis=0), rtol=1e-8
    )


@own
def test_constant_data_give_a_finite_loc(xp, kind):
    low, _ = kind(1).data_range
    layer = layer_with(xp, kind)
    layer.online_param_update(xp.full((10, UNITS), max(low, 0.0)))
    assert np.isfinite(host(layer.params.loc)).all()


# ---- fields and parameters without a distribution


def test_a_field_that_the_energy_does_not_hold_is_refused(xp):
    layer = Laplace(2, dtype="float64", device=device_like(xp))
    layer.log_partition_function(xp.asarray([[2.6, -2.6]]))
    for field in ([[0.0, 2.8]], [[0.0, -2.8]], [[0.0, math.nan]]):
        with pytest.raises(NoPartitionFunctionError, match="Laplace: .* unit 1 in its field"):
            layer.log_partition_function(xp.asarray(field))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TwoWells, "superquadratic"),
        (HalfQuartic, "superquadratic"),
        (OwnGaussian, "quadratic"),
        (Laplace, "linear"),
        (OwnExponential, "linear"),
        (Bent, "bounded"),
        (BlumeCapel, "bounded"),
        (ByLogPartition, "unknown"),
    ],
)
def test_growth_is_found_from_the_energy(kind, expected):
    layer = kind(2)
    assert layer.growth == expected
    if expected == "quadratic":
        np.testing.assert_allclose(layer.precision(), 1)
    if kind is Laplace:
        layer.set_params({"loc": np.array([0.5, 0.0])})
        (down, left), (up, right) = layer.tail_rates()
        assert (down, up) == (-1, 1)
        np.testing.assert_allclose(left, math.e + np.array([0.5, 0]), rtol=1e-6)
        np.testing.assert_allclose(right, math.e - np.array([0.5, 0]), rtol=1e-6)


# ---- definitions


def test_definitions_that_do_not_fit_together_are_refused():
    for body, message in (
        ({"support": (0, 1), "interval": (0, 1)}, "support and interval"),
        ({"support": (1, 0)}, "support is"),
        ({"support": (1,)}, "support is"),
        ({"support": (0, math.inf)}, "support is"),
        ({"interval": (1, 0)}, "interval is"),
        ({"interval": (0, 1), "breaks": (2.0,)}, "breaks are"),
        ({"interval": (0, 1), "breaks": (0.5, 0.2)}, "breaks are"),
        ({"support": (0, 1), "parameters": {"loc": 1.0}}, "parameters are"),
        ({"support": (0, 1), "parameters": {"2x": 1.0}}, "parameters are"),
        ({"interval": (0, 1), "tolerance": 0.0}, "tolerance is"),
        ({"support": (0, 1), "layer_type": "bernoulli"}, "layer_type is 'bernoulli', which"),
    ):
        with pytest.raises(ParameterError, match=f"^Wrong: {message}"):
            type("Wrong", (EnergyLayer,), body)
    nothing = type("NothingGiven", (EnergyLayer,), {})
    with pytest.raises(ParameterError, match="NothingGiven: no values of a unit"):
        nothing(2)


def test_a_class_is_known_by_its_names_and_may_be_defined_anew():
    assert get("blume_capel") is get("BlumeCapel") is BlumeCapel

    def define():
        class Again(EnergyLayer):
            support = (0, 1, 2)

        return Again

    first, second = define(), define()
    assert get("again") is second is not first


def test_parameters_start_at_the_values_of_the_class(xp):
    layer = TwoWells(2, device=device_like(xp))
    assert host(layer.params.depth).tolist() == [1.0, 1.0]
    layer.set_params({"depth": np.array([3.0, 4.0]), "loc": np.ones(2)})
    layer.reset_params()
    assert host(layer.params.depth).tolist() == [1.0, 1.0]
    assert host(layer.params.loc).tolist() == [0.0, 0.0]


@own
@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_bridge_mixes_the_energies_of_base_and_layer(xp, kind, beta):
    layer, base = layer_with(xp, kind), layer_with(xp, kind, seed=5)
    x = xp.asarray(np.random.default_rng(3).choice(points(kind)[0], (4, UNITS)))
    expected = (1 - beta) * host(base.energy(x)) + beta * host(layer.energy(x))
    mixed = layer.bridge(base.params, beta)
    got = layer.unit_energy(namespace_for(x), mixed, x)
    np.testing.assert_allclose(beta * host(got), expected, rtol=1e-12)
    # and the functions of the unit take the mixture in place of parameters
    phi = xp.asarray(FIELD)
    xs = namespace_for(phi)
    states, measure = points(kind)
    mixed_weight = weights(base, 0, states) ** (1 - beta) * weights(layer, 0, states) ** beta
    z = mixed_weight * np.exp(beta * FIELD * states[:, None, None]) * measure[:, None, None]
    got = layer.unit_log_partition(xs, mixed, phi, beta)
    np.testing.assert_allclose(host(got), np.log(z.sum(axis=0)), rtol=1e-10, atol=1e-10)
    columns = xp.ascontiguousarray(phi.T)
    total = layer.sum_log_partition_(xs, mixed, columns, beta)
    np.testing.assert_allclose(host(total), host(got).sum(axis=1), rtol=1e-12)
