"""Missing values in the data of machines of a user's own energy, against sums over all states."""

import math

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import energy_phases
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.fit import Trainer, fit
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer
from gpugrad.boltzmann.optimizers import SGD, Adam
from gpugrad.boltzmann.providers import make_phases
from gpugrad.boltzmann.training_data import Samples
from gpugrad.errors import DataError, ParameterError
from tests.chance import assert_frequencies, deviates, normal_limit

from .machines import device_like, host
from .own_energies import (
    CASES,
    exact_states,
    listed,
    log_sum,
    machine,
    row_numbers,
    states_of,
    triples,
)
from .slopes import slopes_of_model
from .trainers import assert_goes_on_alike

nan = np.nan
ROWS = {
    "triple spins": [nan, -1, 1, nan],
    "bits by layers": [1, nan, nan],
    "bits by units": [nan, 0, nan],
    "potts by layers": [0, 1, 0, nan, nan, nan],
    "potts by units": [nan, nan, nan, 0, 0, 1],
    "own units": [nan, 1, nan],
    "three layers": [nan, 1, nan],
}
cases = pytest.mark.parametrize("case", CASES)


def drawn(model, row, n, visits, xp=np):
    """n samples of one row after so many visits of two sweeps each."""
    data = np.tile(np.array(row, float), (n, 1))
    samples = Samples(model, data, Generator(4), missing="impute", k=2)
    out = xp.empty((n, data.shape[1]))
    for epoch in range(visits):
        samples.take(epoch, 0, n, out)
    return out


def observed(row, v):
    """Which of these visible states have the observed values of the row."""
    return (np.isnan(row) | (v == row)).all(axis=1)


@cases
def test_missing_units_follow_their_distribution_given_the_observed_ones(case):
    """Chi-square after 25 visits of two sweeps each; false alarm 1e-6 a case."""
    model, row, n = machine(np, case), np.array(ROWS[case], float), 8000
    found = drawn(model, row, n, 25)
    (v, *_), e = listed(model)
    states = states_of(model.layers[0])
    states = states[observed(row, states)]
    p = np.array([np.exp(log_sum(-e[(v == s).all(axis=1)])) for s in states])
    assert observed(row, found).all() and len(p) in (3, 4, 9)
    counts = np.bincount(row_numbers(found, states), minlength=len(p))
    assert_frequencies(counts, n * p / p.sum())


@cases
@pytest.mark.parametrize("most", [1024, 0])
def test_the_positive_phase_is_the_derivative_of_the_observed_likelihood(monkeypatch, case, most):
    """Central differences of -log of the sum over missing and hidden units of exp(-E), against 40
    blocks of 200 samples; false alarm 1e-6 a case. With `most` 0 hidden units are not listed, but
    at their means or drawn by k sweeps, enough of them for strong couplings."""
    monkeypatch.setattr(energy_phases, "LISTED", most)
    model, row = machine(np, case), np.array(ROWS[case], float)
    found = drawn(model, row, 8000, 25)
    phases = make_phases(model, Generator(1), k=100, n_chains=2, max_batch=200)
    blocks = [phases.data_term(phases.positive(rows)) for rows in found.reshape(40, 200, -1)]

    def value():
        (v, *_), e = listed(model)
        return -log_sum(-e[observed(row, v)])

    expected = slopes_of_model(model, value)
    each = [np.concatenate([b[name].ravel() for name in expected]) for b in map(hosted, blocks)]
    whole = np.concatenate([x.ravel() for x in expected.values()])
    each = np.array(each)
    sure = each.std(axis=0) < 1e-12  # parameters of observed units alone
    np.testing.assert_allclose(each[:, sure].mean(axis=0), whole[sure], atol=1e-8)
    assert (deviates(each[:, ~sure], whole[~sure]) < normal_limit(len(whole))).all()


def hosted(gradient):
    return {name: host(x) for name, x in gradient.items()}


def best_for(data, start, steps=500):
    """The K and a of `triples` that maximise the likelihood of the observed values, by ascent on
    the sum over all states."""
    s = states_of(IsingLayer(3, device="cpu"))
    features = np.concatenate([s.prod(axis=1)[:, None], s], axis=1)
    kinds, counts = np.unique(np.nan_to_num(data, nan=9.0), axis=0, return_counts=True)
    fits = np.array([((kind == 9) | (s == kind)).all(axis=1) for kind in kinds])
    theta = np.array(start, float)
    for _ in range(steps):
        weight = np.exp(features @ theta)
        given = fits * weight
        given /= given.sum(axis=1, keepdims=True)
        mean = counts @ given @ features / counts.sum()
        theta += 0.5 * (mean - weight @ features / weight.sum())
    return theta


def test_training_finds_the_best_parameters_for_the_observed_values():
    """A third of all values is taken away: within 0.08 of what ascent on the exact likelihood
    finds (over seeds 0 ... 9 the largest error was 0.046); 0 in their place, the mean of a free
    spin, is refused: the energy says nothing of it."""
    true = {"K": np.array(0.8), "a": np.array([0.3, 0.0, -0.2])}
    whole = exact_states(
        EnergyMachine([IsingLayer(3)], triples, true, dtype="float64", device="cpu"), 2000, 0
    ).visible
    holes = np.random.default_rng(0).random(whole.shape) < 1 / 3
    data = np.where(holes, nan, whole)
    best = best_for(data, [0, 0, 0, 0])
    zeros = {"K": np.array(0.0), "a": np.zeros(3)}
    learner = EnergyMachine([IsingLayer(3)], triples, zeros, device="cpu")
    how = {"optimizer": SGD(), "schedule": 0.2, "n_chains": 500, "average_epochs": 10}
    with pytest.raises(DataError, match="fit: data has values that are no states"):
        fit(learner, np.where(holes, 0, whole), epochs=30, **how)
    fit(learner, data, epochs=30, missing="impute", k=2, rng=Generator(0), **how)
    found = np.concatenate([p.ravel() for p in learner.parameters().values()])
    assert abs(found - best).max() < 0.08


def test_one_seed_draws_the_same_values_on_both_array_libraries(xp):
    for case, row in ROWS.items():
        expected = drawn(machine(np, case), row, 20, 2)
        np.testing.assert_array_equal(host(drawn(machine(xp, case), row, 20, 2, xp)), expected)


@pytest.mark.parametrize("case", ["triple spins", "bits by layers", "three layers"])
def test_resumed_training_with_missing_values_ends_in_the_same_bits(xp, case, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    data = states_of(machine(np, case).layers[0]).astype("float32")
    data[np.random.default_rng(0).random(data.shape) < 0.3] = nan

    def trainer(seed, callbacks):
        model = machine(xp, case, dtype="float32")
        how = {"epochs": 4, "batch_size": 3, "optimizer": Adam(), "callbacks": callbacks}
        return Trainer(model, data, missing="impute", rng=Generator(seed), **how)

    whole = assert_goes_on_alike(trainer, tmp_path / "c")
    assert whole.model.device == device_like(xp)


def test_hidden_units_and_drawn_values_go_on_from_where_they_were():
    model = machine(np, "three layers")
    data = np.tile(ROWS["three layers"], (30, 1))
    samples = Samples(model, data, Generator(1), shuffle=False, missing="impute")
    assert len(samples.hidden) == 2 and np.isnan(data).any()
    before = [units.copy() for units in (samples.values, *samples.hidden)]
    out = np.empty((30, 3))
    samples.take(0, 0, 30, out)
    np.testing.assert_array_equal(samples.values, out)
    assert all((x != y).any() for x, y in zip(before, (out, *samples.hidden), strict=True))


def test_values_are_drawn_whatever_the_layer_s_own_parameters_are():
    """The energy does not use them; a loc of 50 would start every unit at 1."""
    model = machine(np, "bits by layers")
    model.layers[0].params.loc[...] = 50.0
    samples = Samples(model, np.full((2000, 3), nan), Generator(1), missing="impute")
    assert_frequencies(np.bincount(samples.values[:, 0].astype(int)), [1000, 1000])


def test_no_value_is_drawn_that_the_energy_forbids():
    """A gas in which two neighbours are never both there, one of them observed."""

    def energy(xp, params, s):
        clash = s[:, 0] * s[:, 1] + s[:, 1] * s[:, 2]
        return xp.where(clash > 0, math.inf, -params.mu * xp.sum(s, axis=1))

    model = EnergyMachine([BernoulliLayer(3)], energy, {"mu": np.array(0.4)}, device="cpu")
    found = drawn(model, [nan, 1, nan], 500, 3)
    np.testing.assert_array_equal(found, [[0, 1, 0]] * 500)
    assert (drawn(model, [nan, 0, nan], 500, 3).mean(axis=0) > [0.3, -1, 0.3]).all()


def test_missing_values_that_cannot_be_drawn_are_refused_by_name():
    potts = machine(np, "potts by layers")
    with pytest.raises(DataError, match="in some columns of site 1 in sample 0, expected all 3"):
        fit(potts, np.array([[0, 1, 0, 0, nan, nan]]), missing="impute")
    with pytest.raises(ParameterError, match="draw_states is True with missing 'impute'"):
        fit(
            machine(np, "triple spins"),
            np.full((3, 4), nan),
            missing="impute",
            draw_states=True,
        )
