"""log Z, exact and annealed, against brute force; the annealed estimators against their own laws.

Where a test compares a mean over independent chains with its exact value, it allows 5.6 standard
errors: 2e-8 for a normal deviate, below 1e-6 with the skew that weights of 20,000 chains leave.
"""

import math

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.partition import (
    _effective_size,
    _log_mean,
    ais,
    exact_log_partition,
    log_likelihood,
    log_likelihoods,
    raise_,
    reverse_ais,
    temperatures,
)
from gpugrad.errors import DataError, DivergenceError, ParameterError
from tests.chance import ALLOWED_ERRORS, mean_weight_is

from .enumeration import STATES, Enumerated
from .machines import PAIRINGS, host, small_machine

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


# ---- exact


@pairings
@pytest.mark.parametrize(("n", "m"), [(4, 3), (3, 4), (1, 1), (1, 5), (6, 5)])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_exact_log_partition_is_the_sum_over_all_joint_states(xp, pairing, n, m, beta):
    model, exact = small_machine(xp, pairing, n, m)
    assert exact_log_partition(model, beta=beta) == pytest.approx(exact.log_z(beta), abs=1e-11)


@pairings
def test_more_states_than_a_block_holds(pairing):
    """12 x 14 units: several blocks; the oracle lists the visible states and sums hidden pairs."""
    draw = np.random.default_rng(0)
    n, m = 900, 12
    model = RBM(n, m, visible=pairing[0], hidden=pairing[1], dtype="float64", device="cpu")
    W, a, b = 0.2 * draw.normal(size=(n, m)), draw.normal(size=n), draw.normal(size=m)
    model.set_parameters({"weights.0.matrix": W, "layers.0.loc": a, "layers.1.loc": b})
    low, high = STATES[pairing[0]]
    total = []
    for index in range(2**m):
        bits = np.array([(index >> j) & 1 for j in range(m)], dtype="float64")
        h = bits if pairing[1] == "bernoulli" else 2 * bits - 1
        field = a + W @ h
        total.append(h @ b + np.logaddexp(field * low, field * high).sum())
    peak = max(total)
    expected = peak + math.log(sum(math.exp(t - peak) for t in total))
    assert exact_log_partition(model) == pytest.approx(expected, rel=1e-13)


def test_huge_weights_do_not_overflow():
    """With W = 1e4 the mode is everything: log Z is minus its energy and the log of its count."""
    model = RBM(3, 2, dtype="float64", device="cpu")
    model.set_parameters({"weights.0.matrix": np.full((3, 2), 1e4)})
    assert exact_log_partition(model) == pytest.approx(6e4, abs=1e-6)


# ---- likelihood


@pairings
def test_log_likelihoods_are_the_exact_probabilities(xp, pairing):
    model, exact = small_machine(xp, pairing)
    got = log_likelihoods(model, xp.asarray(exact.v), exact.log_z())
    np.testing.assert_allclose(got, np.log(exact.marginal()), atol=1e-11)
    rows = [2, 2, 9]
    assert log_likelihood(model, xp.asarray(exact.v[rows]), exact.log_z()) == pytest.approx(
        np.log(exact.marginal())[rows].mean(), abs=1e-11
    )


def test_thousands_of_samples_have_their_likelihoods_in_their_order():
    model, exact = small_machine()
    rows = np.random.default_rng(0).integers(0, len(exact.v), 5000)
    found = log_likelihoods(model, exact.v[rows], exact.log_z())
    np.testing.assert_allclose(found, np.log(exact.marginal())[rows], atol=1e-11)


@pytest.mark.parametrize("log_z", [math.inf, -math.inf, math.nan])
def test_a_log_z_that_is_not_finite_gives_no_likelihood(log_z):
    model, exact = small_machine()
    with pytest.raises(ParameterError, match=f"log_z is {log_z}, expected a finite number"):
        log_likelihoods(model, exact.v, log_z)


def test_grey_values_have_no_likelihood():
    model, exact = small_machine()
    with pytest.raises(DataError, match="log_likelihood: data has values between 0 and 1"):
        log_likelihood(model, np.full((2, 4), 0.5), exact.log_z())


# ---- annealing: laws that hold for any number of temperatures


def base_of(pairing, data):
    """Fields of the base machine: visible means of the data, half a count away from the ends."""
    low, high = STATES[pairing[0]]
    p = np.clip((data.mean(axis=0) - low) / (high - low), 0.5 / len(data), 1 - 0.5 / len(data))
    return np.log(p / (1 - p)) / (high - low)


def bridge(exact, pairing, data, beta):
    """The machine at a point of the path, enumerated."""
    a = (1 - beta) * base_of(pairing, data) + beta * exact.a
    return Enumerated(beta * exact.W, a, beta * exact.b, *pairing)


@pairings
def test_the_mean_weight_of_ais_is_the_partition_function(pairing):
    """Even with four temperatures: the weights are unbiased however fast the annealing."""
    model, exact = small_machine(np, pairing)
    data = exact.v[[1, 3, 3, 6, 10]]
    estimate = ais(model, Generator(1), n_temperatures=4, n_chains=20_000, data=data)
    assert mean_weight_is(estimate.log_weights, exact.log_z())
    assert estimate.log_weights.std() > 0.05


@pairings
def test_the_mean_inverse_weight_of_reverse_ais_is_the_inverse(pairing):
    model, exact = small_machine(np, pairing)
    data = exact.v[[1, 3, 3, 6, 10]]
    draws = np.random.default_rng(2).choice(len(exact.v), size=20_000, p=exact.marginal())
    estimate = reverse_ais(model, exact.v[draws], Generator(2), n_temperatures=4, data=data)
    assert mean_weight_is(-estimate.log_weights, -exact.log_z())


@pairings
def test_raise_weights_have_the_probability_of_the_annealing_process_as_mean(pairing):
    """exp(-F(v) - D) averages to p_ann(v) = (p_0 T_1 ... T_K)(v); false alarm 16 x 2e-8 a case."""
    model, exact = small_machine(np, pairing)
    data, copies, betas = exact.v[[1, 3, 3, 6, 10]], 4000, [0.0, 0.3, 0.7, 1.0]
    process = bridge(exact, pairing, data, 0.0).marginal()
    for beta in betas[1:]:
        process = process @ bridge(exact, pairing, data, beta).sweep_matrix()
    assert abs(process.sum() - 1) < 1e-12
    samples = np.repeat(exact.v, copies, axis=0)
    estimate = raise_(model, samples, Generator(3), betas=betas, data=data)
    free = exact.free_energy(exact.v)
    d = estimate.log_weights.reshape(len(exact.v), copies)
    for i in range(len(exact.v)):
        assert mean_weight_is(-free[i] - d[i], math.log(process[i])), i


@pairings
def test_many_temperatures_give_log_z_from_both_sides(pairing):
    model, exact = small_machine(np, pairing)
    data = exact.v[[1, 3, 3, 6, 10]]
    draws = np.random.default_rng(4).choice(len(exact.v), size=400, p=exact.marginal())
    samples = exact.v[draws]
    settings = {"n_temperatures": 300, "data": data}
    up = ais(model, Generator(4), n_chains=400, **settings)
    down = reverse_ais(model, samples, Generator(5), **settings)
    per_sample = raise_(model, samples, Generator(6), **settings)
    for estimate in (up, down, per_sample):
        assert estimate.log_z == pytest.approx(
            exact.log_z(), abs=ALLOWED_ERRORS * estimate.error + 0.01
        )
        assert estimate.error < 0.02
        assert estimate.ess > 350
    assert (up.optimistic, down.optimistic, per_sample.optimistic) == (True, False, False)


def test_with_few_temperatures_the_two_sides_bracket_log_z():
    """Strong couplings, five temperatures: the means lie many standard errors off, each its way."""
    model, exact = small_machine(np, ("ising", "ising"), scale=1.5)
    data = exact.v[[1, 3, 3, 6, 10]]
    draws = np.random.default_rng(7).choice(len(exact.v), size=4000, p=exact.marginal())
    up = ais(model, Generator(7), n_temperatures=5, n_chains=4000, data=data)
    down = raise_(model, exact.v[draws], Generator(8), n_temperatures=5, data=data)
    error = up.log_weights.std() / math.sqrt(4000)
    assert up.log_weights.mean() < exact.log_z() - 10 * error
    assert down.log_z > exact.log_z() + 10 * down.error


def test_without_data_the_base_comes_from_the_machine():
    model, exact = small_machine()
    estimate = ais(model, Generator(9), n_temperatures=300, n_chains=400)
    assert estimate.log_z == pytest.approx(
        exact.log_z(), abs=ALLOWED_ERRORS * estimate.error + 0.01
    )


def test_a_machine_without_couplings_needs_no_annealing():
    """Base machine and machine differ in their fields alone; every weight is Z when they do not."""
    model, exact = small_machine()
    a = base_of(("bernoulli", "bernoulli"), exact.v[:5])
    model.set_parameters(
        {"weights.0.matrix": 0 * exact.W, "layers.0.loc": a, "layers.1.loc": 0 * exact.b}
    )
    estimate = ais(model, Generator(10), n_temperatures=1, n_chains=10, data=exact.v[:5])
    expected = np.log1p(np.exp(a)).sum() + 3 * math.log(2)
    np.testing.assert_allclose(estimate.log_weights, expected, atol=1e-12)
    assert estimate.ess == pytest.approx(10)
    assert estimate.error == pytest.approx(0, abs=1e-12)


def test_float32_machines_are_weighed_in_float64():
    """The same machine in both types: sums over 2000 temperatures stay within 1e-3 of each other.

    The chains differ, so that the two estimates also differ by their errors.
    """
    double, exact = small_machine()
    single = double.copy(dtype="float32")
    estimates = [
        ais(m, Generator(11), n_temperatures=2000, n_chains=200, data=exact.v[:5])
        for m in (double, single)
    ]
    error = math.hypot(*(e.error for e in estimates))
    difference = abs(estimates[0].log_z - estimates[1].log_z)
    assert difference < ALLOWED_ERRORS * error + 1e-3
    assert estimates[1].log_weights.dtype == "float64"


def test_half_precision_machines_are_annealed_in_single():
    """Their base is fitted to the data as they are, not rounded."""
    half = RBM(6, 5, dtype="float16", rng=Generator(2), device="cpu")
    single, v = half.copy(dtype="float32"), np.eye(6, dtype="float16")
    settings = {"n_temperatures": 40, "data": np.random.default_rng(0).random((9, 6))}
    for first, second in (
        [ais(m, Generator(3), n_chains=5, **settings) for m in (half, single)],
        [raise_(m, v, Generator(3), **settings) for m in (half, single)],
    ):
        assert np.array_equal(first.log_weights, second.log_weights)


def test_error_of_ais_is_the_spread_over_repetitions():
    """Ratio of mean squared error estimate to variance over 200 runs: chi-square, 200 dof.

    Its standard deviation is 0.1; [0.5, 1.7] is five of them and more.
    """
    model, exact = small_machine()
    rng = Generator(12)
    runs = [ais(model, rng, n_temperatures=3, n_chains=100, data=exact.v[:5]) for _ in range(200)]
    variance = np.mean([(r.log_z - exact.log_z()) ** 2 for r in runs])
    assert 0.5 < variance / np.mean([r.error**2 for r in runs]) < 1.7


def test_effective_sample_size_of_one_dominant_chain_is_one():
    weights = np.array([800.0, 0.0, 0.0, 0.0])
    assert _effective_size(weights) == pytest.approx(1)
    log_z, error = _log_mean(weights)
    assert log_z == pytest.approx(800 - math.log(4))
    assert error == math.inf


def test_the_spread_of_downward_chains_is_that_of_their_inverse_weights():
    """Ten chains and strong couplings: exp(D) and exp(-D), n and n - 1 are told apart."""
    model, exact = small_machine(scale=2.0)
    for estimate in (raise_, reverse_ais):
        found = estimate(model, exact.v[:10], Generator(18), n_temperatures=3, data=exact.v[:5])
        w = np.exp(-found.log_weights)
        assert found.ess == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)
        assert abs(found.ess - (1 / w).sum() ** 2 / (w**-2).sum()) > 0.1
        if estimate is raise_:
            variance = np.sum((found.log_weights - found.log_z) ** 2) / (10 * 9)
            assert found.error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_low_and_high_are_three_errors_away():
    model, exact = small_machine()
    e = ais(model, Generator(13), n_temperatures=5, n_chains=50, data=exact.v[:5])
    assert (e.low, e.high) == (e.log_z - 3 * e.error, e.log_z + 3 * e.error)
    assert (e.n_chains, e.n_temperatures) == (50, 5)


def test_progress_counts_up_to_the_number_of_temperatures():
    model, exact = small_machine()
    seen = []
    ais(
        model,
        Generator(14),
        n_temperatures=250,
        n_chains=2,
        data=exact.v[:5],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 250) for i in range(2, 251, 2)]


@pairings
def test_one_seed_gives_the_same_weights_on_every_device(xp, pairing):
    """Means differ in the last bits: a sample could only differ with probability 1e-12."""
    weights = []
    for module in (np, xp):
        model, exact = small_machine(module, pairing)
        data, rng = module.asarray(exact.v[[1, 3, 3, 6, 10]]), Generator(15)
        up = ais(model, rng, n_temperatures=7, n_chains=20, data=data)
        samples = module.asarray(exact.v)
        down = raise_(model, samples, rng, n_temperatures=7, data=data)
        weights.append(np.concatenate([up.log_weights, down.log_weights]))
    np.testing.assert_allclose(*weights, atol=1e-11)


def test_the_samples_that_raise_starts_from_are_left_alone():
    model, exact = small_machine()
    samples = exact.v.copy()
    raise_(model, samples, Generator(16), n_temperatures=5, data=exact.v[:5])
    np.testing.assert_array_equal(samples, exact.v)


def test_temperatures_rise_evenly_from_zero_to_one():
    np.testing.assert_allclose(temperatures(4), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_chains": 1}, "ais: 1 chain, expected at least 2"),
        ({"n_chains": 0}, "ais: n_chains is 0"),
        ({"n_temperatures": 0}, "ais: n_temperatures is 0"),
        ({"betas": [0.0, 0.5]}, "ais: betas do not rise from 0 to 1"),
        ({"betas": [0.0, 0.5, 0.5, 1.0]}, "ais: betas do not rise"),
        ({"betas": [0.1, 1.0]}, "ais: betas do not rise"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    model, exact = small_machine()
    with pytest.raises(ParameterError, match=message):
        ais(model, Generator(0), data=exact.v[:5], **settings)


def test_samples_that_are_no_states_are_refused():
    model, _ = small_machine()
    with pytest.raises(DataError, match="raise_: data has values between"):
        raise_(model, np.full((3, 4), 0.5), Generator(0))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_machine_with_nan_is_reported_not_estimated():
    model, exact = small_machine()
    model.layers[0].params.loc[...] = np.nan  # as training that diverged leaves it
    with pytest.raises(DivergenceError, match="ais: 10 of 10 chains"):
        ais(model, Generator(0), n_temperatures=3, n_chains=10, data=exact.v[:5])


def test_exact_partition_of_float32_parameters_is_summed_in_float64(xp):
    model, _ = small_machine(xp, dtype="float32")
    arrays = {k: host(p).astype("float64") for k, p in model.parameters().items()}
    twin = Enumerated(
        arrays["weights.0.matrix"],
        arrays["layers.0.loc"],
        arrays["layers.1.loc"],
        "bernoulli",
        "bernoulli",
    )
    assert exact_log_partition(model) == pytest.approx(twin.log_z(), abs=1e-12)
