"""Observables of chains against enumeration, and their errors against the spread of repetitions."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.observables import (
    connected_correlations,
    energy,
    magnetisation,
    means,
    overlap,
    record,
    specific_heat,
    susceptibility,
)
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.errors import DataError, ParameterError
from tests.chance import normal_limit

from .joint import joint_machine
from .machines import host

BETA = 0.7


@pytest.fixture(scope="module")
def chains():
    """An Ising machine of five spins with all couplings, and 400 recorded steps of 60 chains."""
    model, exact = joint_machine(np, ("ising",), (5,), (0,))
    rng = Generator(2)
    found, _ = record(
        rng,
        model,
        gibbs(1, beta=BETA, donate=True),
        model.random_state(60, rng=rng),
        {"E": energy, "m": magnetisation(), "s": lambda model, state: state[0]},
        steps=400,
        burn_in=50,
    )
    return found, exact


def exact_moments(exact):
    p, s = exact.p(BETA), exact.units[0]
    m = s.mean(axis=1)
    E = exact.E
    return {
        "E": p @ E,
        "c": BETA**2 * (p @ E**2 - (p @ E) ** 2) / 5,
        "chi": BETA * 5 * (p @ m**2 - (p @ m) ** 2),
        "s": p @ s,
        "C": (s * p[:, None]).T @ s - np.outer(p @ s, p @ s),
    }


def test_means_lie_within_their_errors_of_the_exact_ones(chains):
    """Energy, specific heat, susceptibility, magnetisations, correlations; false alarm 1e-6."""
    found, exact = chains
    truth = exact_moments(exact)
    single = means(found["s"])
    pairs = connected_correlations(found["s"])
    upper = np.triu_indices(5)
    about_energy = means(found["E"][:, :, None])
    heat = specific_heat(found["E"], 5, beta=BETA)
    chi = susceptibility(found["m"], 5, beta=BETA)
    z = np.concatenate(
        [
            (about_energy.mean - truth["E"]) / about_energy.error,
            [(heat.mean - truth["c"]) / heat.error, (chi.mean - truth["chi"]) / chi.error],
            (single.mean - truth["s"]) / single.error,
            ((pairs.matrix - truth["C"]) / pairs.error)[upper],
        ]
    )
    assert np.abs(z).max() < normal_limit(z.size, 1e-6)
    np.testing.assert_array_equal(pairs.matrix, pairs.matrix.T)
    np.testing.assert_array_equal(pairs.error, pairs.error.T)


def test_errors_are_the_spread_between_repetitions():
    """Specific heat of 60 independent records: mean square of its deviates is near 1.

    A chi-square of 60 degrees lies in [20, 130] but for 1e-6 of the cases.
    """
    model, exact = joint_machine(np, ("ising",), (5,), (0,))
    truth = exact_moments(exact)["c"]
    rng = Generator(3)
    found, _ = record(
        rng,
        model,
        gibbs(1, beta=BETA),
        model.random_state(600, rng=rng),
        {"E": energy},
        steps=300,
        burn_in=50,
    )
    z = []
    for first in range(0, 600, 10):
        heat = specific_heat(found["E"][:, first : first + 10], 5, beta=BETA)
        z.append((heat.mean - truth) / heat.error)
    assert 20 < np.sum(np.square(z)) < 130


def test_specific_heat_is_the_slope_of_the_energy(chains):
    """-dE/dT = beta^2 dE/dbeta by differences of the enumerated machine, N k_B c."""
    _, exact = chains
    slope = [exact.p(BETA + d) @ exact.E for d in (1e-5, -1e-5)]
    truth = -(BETA**2) * (slope[0] - slope[1]) / 2e-5 / 5
    assert exact_moments(exact)["c"] == pytest.approx(truth, rel=1e-8)


def test_the_variance_of_a_short_record_is_not_too_small():
    """Its mean is taken from the same values. Six deviations of the mean of 4000: 2e-9."""
    draw = np.random.default_rng(3)
    found = np.array([specific_heat(draw.normal(size=(8, 4)), 1).mean for _ in range(4000)])
    limit = 6 * found.std() / np.sqrt(4000)
    assert abs(found.mean() - 1) < limit
    assert limit < 1 / 32  # which it would be too small by


def test_records_hold_what_the_states_were(xp):
    """Of a donated state too, whose arrays the next step overwrites."""
    model, _ = joint_machine(xp, ("bernoulli", "ising"), (3, 2))
    start = model.random_state(4, rng=Generator(0))
    looked_at = {"E": energy, "m": magnetisation(1), "s": lambda model, state: state[1]}
    found, last = record(
        Generator(1), model, gibbs(1, donate=True), start.copy(), looked_at, steps=3, burn_in=1
    )
    rng, state, step = Generator(1), start, gibbs(1)
    for i in range(4):
        state, _ = step(rng, model, state)
        if i:
            np.testing.assert_allclose(found["E"][i - 1], host(model.energy(state)), atol=1e-13)
            np.testing.assert_array_equal(found["s"][i - 1], host(state[1]))
            np.testing.assert_allclose(found["m"][i - 1], host(state[1]).mean(axis=1))
    np.testing.assert_array_equal(host(last[0]), host(state[0]))
    assert found["s"].shape == (3, 4, 2)


def test_overlap_of_replicas(xp):
    a, b = xp.asarray([[1.0, -1, 1], [1, 1, 1]]), xp.asarray([[1.0, 1, 1], [-1, -1, -1]])
    np.testing.assert_allclose(host(overlap(a, b)), [1 / 3, -1])
    np.testing.assert_allclose(host(overlap(a, b[0])), host(overlap(a, b[:1])))
    for other in (a[:, :2], xp.concatenate([a, a[:1]]), a[0, :2]):
        with pytest.raises(ParameterError, match="overlap: states have shapes .* and .*, expected"):
            overlap(a, other)
    with pytest.raises(ParameterError, match=r"overlap: states have shapes \(3,\) and \(3,\)"):
        overlap(a[0], b[0])


def test_the_states_of_the_machine_itself_are_recorded():
    """A sampler's own state may hold more; its `cold` is looked at."""
    model, _ = joint_machine(np, ("ising",), (3,), (0,))
    cold = State((np.ones((2, 3)),))

    class Tempered:
        def __init__(self):
            self.cold = cold

    def step(rng, model, state):
        return Tempered(), None

    found, last = record(None, model, step, None, {"m": magnetisation()}, steps=2)
    np.testing.assert_array_equal(found["m"], np.ones((2, 2)))
    assert isinstance(last, Tempered)


def test_bad_records_are_refused():
    model, _ = joint_machine(np, ("ising",), (3,), (0,))
    with pytest.raises(DataError, match=r"means: series has shape \(4, 2\), expected \(steps"):
        means(np.zeros((4, 2)))
    with pytest.raises(ParameterError, match="record: steps is 0"):
        record(None, model, None, None, {}, steps=0)
    with pytest.raises(ParameterError, match="record: burn_in is -1"):
        record(None, model, None, None, {}, steps=1, burn_in=-1)
    with pytest.raises(ParameterError, match="specific_heat: num_units is 0"):
        specific_heat(np.zeros((4, 2)), 0)
