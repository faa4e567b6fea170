"""Bernoulli and Ising layers against a sum over the states of one unit."""

import math

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer
from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import ParameterError
from tests.chance import normal_limit

from ..machines import device_like, host

LAYERS = {"bernoulli": BernoulliLayer, "ising": IsingLayer}
STATES = {"bernoulli": (0.0, 1.0), "ising": (-1.0, 1.0)}

kinds = pytest.mark.parametrize("kind", LAYERS)


def layer_with(xp, kind, loc, dtype="float64"):
    layer = LAYERS[kind](len(loc), dtype=dtype, device=device_like(xp))
    layer.set_params({"loc": np.asarray(loc)})
    return layer


def sum_over_states(kind, loc, phi, beta=1.0):
    """log Z, mean and mode of each unit, from its two states."""
    low, high = STATES[kind]
    e = {s: np.exp(beta * (loc + phi) * s) for s in (low, high)}
    z = e[low] + e[high]
    return np.log(z), (low * e[low] + high * e[high]) / z, np.where(e[high] > e[low], high, low)


@kinds
def test_log_partition_function_is_the_log_of_the_sum_over_states(xp, kind):
    draw = np.random.default_rng(1)
    loc, phi, A = draw.normal(size=5), 3 * draw.normal(size=(7, 5)), draw.normal(size=(7, 5))
    layer = layer_with(xp, kind, loc)
    expected = np.log(sum(np.exp(loc * s + phi * s - A * s * s) for s in STATES[kind]))
    got = layer.log_partition_function(xp.asarray(phi), xp.asarray(A))
    np.testing.assert_allclose(host(got), expected, rtol=1e-13, atol=1e-13)
    got = layer.log_partition_function(xp.asarray(phi))
    np.testing.assert_allclose(host(got), sum_over_states(kind, loc, phi)[0], atol=1e-13)


@kinds
@pytest.mark.parametrize("beta", [0.3, "per sample"])
def test_log_partition_and_mean_at_an_inverse_temperature(xp, kind, beta):
    draw = np.random.default_rng(2)
    loc, phi = draw.normal(size=5), 3 * draw.normal(size=(6, 5))
    value = np.linspace(0, 2, 6)[:, None] if beta == "per sample" else beta
    given = xp.asarray(value) if beta == "per sample" else beta
    layer, field = layer_with(xp, kind, loc), xp.asarray(phi)
    log_z, mean, _ = sum_over_states(kind, loc, phi, value)
    xp_ns = namespace_for(field)
    got = layer.unit_log_partition(xp_ns, layer.params, field, given)
    np.testing.assert_allclose(host(got), log_z, atol=1e-13)
    got = layer.unit_mean(xp_ns, layer.params, field, given)
    np.testing.assert_allclose(host(got), mean, atol=1e-13)


def test_grad_of_the_log_partition_function_is_its_difference_quotient(xp):
    draw = np.random.default_rng(3)
    loc, B, A = draw.normal(size=4), draw.normal(size=(7, 4)), draw.normal(size=(7, 4))

    def average(loc):
        layer = layer_with(xp, "bernoulli", loc)
        return host(layer.log_partition_function(xp.asarray(B), xp.asarray(A))).mean(axis=0)

    got = layer_with(xp, "bernoulli", loc).grad_log_partition_function(xp.asarray(B), xp.asarray(A))
    quotient = (average(loc + 1e-5) - average(loc - 1e-5)) / 2e-5
    np.testing.assert_allclose(host(got.loc), quotient, atol=1e-9)


@kinds
@pytest.mark.parametrize("size", [1e3, 1e30])
def test_log_partition_function_of_a_huge_field_is_the_field(xp, kind, size):
    layer = layer_with(xp, kind, [0.0], dtype="float32")
    phi = xp.asarray([[size], [-size]], dtype="float32")
    lowest = 0.0 if kind == "bernoulli" else size
    got = host(layer.log_partition_function(phi))
    np.testing.assert_allclose(got, [[size], [lowest]], rtol=1e-6)


@kinds
@pytest.mark.parametrize("beta", [None, 0.3, "per sample"])
def test_mean_is_the_average_over_states(xp, kind, beta):
    draw = np.random.default_rng(2)
    loc, units, W = draw.normal(size=4), draw.normal(size=(6, 3)), draw.normal(size=(3, 4))
    value = np.linspace(0, 2, 6)[:, None] if beta == "per sample" else beta
    layer = layer_with(xp, kind, loc)
    given = xp.asarray(value) if beta == "per sample" else beta
    got = layer.conditional_mean([xp.asarray(units)], [xp.asarray(W)], given)
    expected = sum_over_states(kind, loc, units @ W, 1.0 if beta is None else value)[1]
    np.testing.assert_allclose(host(got), expected, atol=1e-14)


@kinds
def test_mode_is_the_more_probable_state(xp, kind):
    draw = np.random.default_rng(3)
    loc, units, W = draw.normal(size=4), draw.normal(size=(6, 3)), draw.normal(size=(3, 4))
    got = layer_with(xp, kind, loc).conditional_mode([xp.asarray(units)], [xp.asarray(W)])
    np.testing.assert_array_equal(host(got), sum_over_states(kind, loc, units @ W)[2])


@kinds
def test_mode_in_zero_field_is_the_lower_state(xp, kind):
    layer = layer_with(xp, kind, [0.0])
    got = layer.conditional_mode([xp.zeros((1, 2))], [xp.zeros((2, 1))])
    assert host(got)[0, 0] == STATES[kind][0]


@kinds
def test_two_neighbours_add_their_fields(xp, kind):
    draw = np.random.default_rng(4)
    loc, x, y = draw.normal(size=4), draw.normal(size=(6, 3)), draw.normal(size=(6, 2))
    W, U = draw.normal(size=(3, 4)), draw.normal(size=(2, 4))
    got = layer_with(xp, kind, loc).conditional_mean(
        [xp.asarray(x), xp.asarray(y)], [xp.asarray(W), xp.asarray(U)]
    )
    np.testing.assert_allclose(host(got), sum_over_states(kind, loc, x @ W + y @ U)[1], atol=1e-14)


@kinds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_have_the_conditional_mean(xp, kind, dtype):
    """False alarm below 1e-7: 12 normal deviates, each allowed its 1e-8 two-sided quantile."""
    n, loc = 40_000, np.array([-1.5, 0.0, 0.7])
    W = np.array([[0.5, -1.0, 2.0]])
    layer = layer_with(xp, kind, loc, dtype)
    rng = Generator(5)
    for beta in (None, 0.5):
        for x in (0.0, 1.0):
            units = xp.full((n, 1), x, dtype=dtype)
            sample = host(
                layer.conditional_sample([units], [xp.asarray(W, dtype=dtype)], beta, rng=rng)
            ).astype("float64")
            assert set(np.unique(sample)) == set(STATES[kind])
            mean = sum_over_states(kind, loc, x * W, 1.0 if beta is None else beta)[1]
            low, high = STATES[kind]
            spread = np.sqrt((mean - low) * (high - mean) / n)
            z = (sample.mean(axis=0) - mean) / spread
            assert np.abs(z).max() < normal_limit(1, 1e-8), (beta, x)


@kinds
def test_random_draws_with_the_fields_of_the_layer(xp, kind):
    """False alarm below 1e-7: two normal deviates."""
    n, loc = 40_000, np.array([0.8, -0.4])
    sample = host(layer_with(xp, kind, loc).random((n, 2), rng=Generator(6)))
    mean = sum_over_states(kind, loc, 0.0)[1]
    low, high = STATES[kind]
    z = (sample.mean(axis=0) - mean) / np.sqrt((mean - low) * (high - mean) / n)
    assert np.abs(z).max() < normal_limit(1, 1e-8)


@kinds
def test_random_takes_the_shape_of_an_array(xp, kind):
    layer = layer_with(xp, kind, [0.0, 0.0])
    assert layer.random(xp.zeros((5, 2)), rng=Generator(0)).shape == (5, 2)
    with pytest.raises(ParameterError, match="expected 2 units"):
        layer.random((5, 3), rng=Generator(0))


@kinds
def test_energy_is_minus_loc_times_units_summed_not_averaged(xp, kind):
    loc = np.array([1.0, -2.0, 0.5])
    units = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]])
    got = host(layer_with(xp, kind, loc).energy(xp.asarray(units)))
    np.testing.assert_allclose(got, [0.5, -3.0], atol=1e-15)


@kinds
def test_derivatives_are_those_of_the_mean_energy(xp, kind):
    """By central differences of a function linear in loc: exact but for rounding."""
    draw = np.random.default_rng(7)
    loc, units = draw.normal(size=3), draw.normal(size=(5, 3))
    layer = layer_with(xp, kind, loc)
    got = host(layer.derivatives(xp.asarray(units), [], []).loc)
    for i in range(3):
        shifted = [loc.copy(), loc.copy()]
        shifted[0][i] += 0.5
        shifted[1][i] -= 0.5
        up, down = (host(layer_with(xp, kind, s).energy(xp.asarray(units))).mean() for s in shifted)
        assert got[i] == pytest.approx(up - down, abs=1e-12)


@kinds
def test_weighted_derivatives_equal_those_of_repeated_samples(xp, kind):
    units = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    layer = layer_with(xp, kind, [0.0, 0.0])
    weighted = layer.derivatives(
        xp.asarray(units), [], [], sample_weight=xp.asarray([0.5, 0.25, 0.25])
    )
    repeated = layer.derivatives(xp.asarray(units[[0, 0, 1, 2]]), [], [])
    np.testing.assert_allclose(host(weighted.loc), host(repeated.loc), atol=1e-15)


@kinds
def test_any_split_of_the_data_gives_the_same_parameters(xp, kind):
    draw = np.random.default_rng(8)
    low, high = STATES[kind]
    data = low + (high - low) * (draw.random((50, 4)) < 0.3)
    whole = layer_with(xp, kind, np.zeros(4))
    whole.online_param_update(xp.asarray(data))
    parts = layer_with(xp, kind, np.zeros(4))
    for piece in (data[:1], data[1:30], data[30:]):
        parts.online_param_update(xp.asarray(piece))
    np.testing.assert_array_equal(host(whole.params.loc), host(parts.params.loc))
    assert whole.sample_size == parts.sample_size == 50
    mean = sum_over_states(kind, host(whole.params.loc), 0.0)[1]
    np.testing.assert_allclose(mean, data.mean(axis=0), atol=1e-12)


@kinds
def test_a_constant_column_gets_the_loc_of_half_a_count(xp, kind):
    low, high = STATES[kind]
    layer = layer_with(xp, kind, [0.0, 0.0])
    layer.online_param_update(xp.asarray([[low, high]] * 10))
    log_odds = math.log(0.95 / 0.05)
    expected = log_odds if kind == "bernoulli" else log_odds / 2
    np.testing.assert_allclose(host(layer.params.loc), [-expected, expected], rtol=1e-12)


@kinds
def test_rescale_and_shrink_leave_everything_as_it_is(xp, kind):
    layer = layer_with(xp, kind, [1.0, 2.0])
    units = xp.ones((2, 2))
    assert layer.rescale(units) is units
    layer.shrink_parameters(0.5)
    np.testing.assert_array_equal(host(layer.params.loc), [1.0, 2.0])


@kinds
@pytest.mark.parametrize("shape", [(3,), (2, 1), (3, 2)])
def test_a_beta_of_another_shape_is_refused(xp, kind, shape):
    layer = layer_with(xp, kind, [0.0, 0.0])
    units, W, beta = xp.zeros((3, 1)), xp.zeros((1, 2)), xp.ones(shape)
    for function in ("conditional_mean", "conditional_mode", "conditional_sample"):
        with pytest.raises(ParameterError, match=rf"{function}: beta has shape"):
            getattr(layer, function)([units], [W], beta)
    with pytest.raises(ParameterError, match="derivatives: beta has shape"):
        layer.derivatives(xp.zeros((3, 2)), [units], [W], beta)


@kinds
@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
def test_a_size_that_is_no_positive_integer_is_refused(kind, size):
    with pytest.raises(ParameterError, match="num_units"):
        LAYERS[kind](size)


@kinds
def test_len_is_the_number_of_units(kind):
    layer = LAYERS[kind](3)
    assert layer.len == len(layer) == layer.num_units == 3


@kinds
@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_bridge_mixes_the_energies_of_base_and_layer(xp, kind, beta):
    draw = np.random.default_rng(9)
    loc, base, units = draw.normal(size=3), draw.normal(size=3), draw.normal(size=(4, 3))
    layer = layer_with(xp, kind, loc)
    mixed = layer_with(xp, kind, np.zeros(3))
    mixed.params = layer.bridge(layer.Params(xp.asarray(base)), beta)
    expected = (1 - beta) * -(units @ base) + beta * -(units @ loc)
    np.testing.assert_allclose(beta * host(mixed.energy(xp.asarray(units))), expected, atol=1e-14)


@kinds
@pytest.mark.parametrize(("dtype", "units"), [("float16", 60), ("float32", 300)])
def test_sums_over_units_do_not_overflow_in_short_types(xp, kind, dtype, units):
    """In zero field each unit has log 2, and a factor 2 in the product."""
    layer = layer_with(xp, kind, np.zeros(units, dtype))
    layer.convert(dtype=dtype)
    phi = xp.zeros((units, 2), dtype=dtype)
    got = layer.sum_log_partition_(namespace_for(phi), layer.params, phi)
    np.testing.assert_allclose(host(got), units * np.log(2), rtol=2e-3)


@kinds
@pytest.mark.parametrize("beta", [None, 0.4])
@pytest.mark.parametrize("units", [3, 2300])
def test_sum_over_units_equals_the_sum_of_the_log_partition_functions(xp, kind, beta, units):
    """2300 units in weak fields: the product of factors near 2 would overflow at once."""
    draw = np.random.default_rng(10)
    size = 4 if units == 3 else 0.01
    loc, phi = size * draw.normal(size=units), size * draw.normal(size=(units, 5))
    layer = layer_with(xp, kind, loc)
    expected = sum_over_states(kind, loc[:, None], phi, 1.0 if beta is None else beta)[0]
    device_phi = xp.asarray(phi)
    got = layer.sum_log_partition_(namespace_for(device_phi), layer.params, device_phi, beta)
    np.testing.assert_allclose(host(got), expected.sum(axis=0), rtol=1e-12)
