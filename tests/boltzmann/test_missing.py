"""Missing values: drawn given the observed ones, against conditional probabilities by enumeration.

The statistical tests are chi-square statistics with bounds that are passed once in 1e7 runs or
less, with fixed seeds.
"""

import itertools

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.fit import Trainer, fit
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer, PottsLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.optimizers import SGD
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihoods
from gpugrad.boltzmann.schedules import Linear
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.training_data import Samples
from gpugrad.errors import CheckpointError, DataError, ParameterError

from .coins import coin_data, two_coins
from .machines import device_like, host
from .slopes import slopes_of_model

nan = np.nan


def machine(kind, xp=np, scale=0.8):
    """A small machine, the values of its layers, and a sample with missing units."""
    draw = np.random.default_rng(3)
    device = device_like(xp)
    bits, spins = (0.0, 1.0), (-1.0, 1.0)
    if kind == "bernoulli":
        model = RBM(4, 3, dtype="float64", device=device)
        grids, row = [bits] * 4 + [bits] * 3, [1, nan, 0, nan]
    elif kind == "ising":
        model = RBM(4, 2, visible="ising", hidden="ising", dtype="float64", device=device)
        grids, row = [spins] * 4 + [spins] * 2, [nan, -1, 1, nan]
    elif kind == "deep":
        layers = [BernoulliLayer(3), IsingLayer(2), BernoulliLayer(2)]
        model = BoltzmannMachine(layers, dtype="float64", device=device)
        grids, row = [bits] * 3 + [spins] * 2 + [bits] * 2, [nan, 1, nan]
    else:
        J = 0.6 * np.triu(draw.normal(size=(4, 4)), 1)
        model = BoltzmannMachine(
            [IsingLayer(4)], lateral={0: J + J.T}, dtype="float64", device=device
        )
        grids, row = [spins] * 4, [nan, -1, 1, nan]
    values = {
        name: scale * draw.normal(size=p.shape)
        for name, p in model.parameters().items()
        if not name.startswith("lateral")
    }
    model.set_parameters(values)
    return model, grids, np.array(row)


def conditional(model, grids, row):
    """Probability of each pattern of the missing units, summed over all hidden states."""
    sizes = [layer.num_units for layer in model.layers]
    cuts = np.cumsum(sizes)[:-1]
    missing = np.flatnonzero(np.isnan(row))
    p = {}
    for state in itertools.product(*grids):
        units = np.split(np.array(state), cuts)
        v = units[0]
        if not np.all(np.isnan(row) | (v == row)):
            continue
        xp_units = [type_of(model)(u[None]) for u in units]
        weight = np.exp(-float(model.energy(State(tuple(xp_units)))[0]))
        key = tuple(v[missing])
        p[key] = p.get(key, 0.0) + weight
    total = sum(p.values())
    return {key: weight / total for key, weight in p.items()}, missing


def type_of(model):
    from gpugrad.backend.array_module import get_array_module

    return get_array_module(model.layers[0].params[0]).asarray


@pytest.mark.parametrize("kind", ["bernoulli", "ising", "deep", "lateral"])
def test_missing_units_follow_their_distribution_given_the_observed_ones(kind):
    """20,000 samples, 40 visits of two sweeps each: 3 degrees of freedom, beyond 40 once in 9e7
    runs."""
    model, grids, row = machine(kind)
    n = 20_000
    samples = Samples(model, np.tile(row, (n, 1)), Generator(4), missing="impute", k=2)
    out = np.empty((n, len(row)))
    for epoch in range(40):
        samples.take(epoch, 0, n, out)
    p, missing = conditional(model, grids, row)
    observed = ~np.isnan(row)
    assert np.array_equal(out[:, observed], np.tile(row[observed], (n, 1)))
    statistic = sum(
        ((out[:, missing] == key).all(axis=1).sum() - n * q) ** 2 / (n * q) for key, q in p.items()
    )
    assert len(p) == 4 and statistic < 40


def test_the_positive_phase_is_the_derivative_of_the_observed_likelihood():
    """<dE/dtheta> over the drawn samples against central differences of -log p(observed), whose
    free part is left out; five standard errors of 20,000 samples."""
    model, _, row = machine("bernoulli")
    n = 20_000
    samples = Samples(model, np.tile(row, (n, 1)), Generator(6), missing="impute", k=2)
    out = np.empty((n, 4))
    for epoch in range(30):
        samples.take(epoch, 0, n, out)
    state = model.data_state(out)
    found = {
        "layers.0.loc": -state.visible.mean(axis=0),
        "layers.1.loc": -state.hidden.mean(axis=0),
        "weights.0.matrix": -state.visible.T @ state.hidden / n,
    }

    def value():
        # -log of the sum over missing and hidden units of exp(-E)
        total = 0.0
        for bits in itertools.product((0.0, 1.0), repeat=2):
            v = row.copy()
            v[np.isnan(row)] = bits
            total += np.exp(-model.marginal_free_energy(v[None])[0])
        return -np.log(total)

    for name, slope in slopes_of_model(model, value).items():
        assert found[name] == pytest.approx(slope, abs=5 * 0.5 / n**0.5), name


def test_training_finds_the_distribution_behind_missing_values():
    """A third of all values is taken away at random; setting them to their mean 1/2 instead, as
    expected values, leaves a distance of 0.06 nats and more."""
    states, p = two_coins()
    whole = coin_data(2000)
    data = np.where(np.random.default_rng(0).random(whole.shape) < 1 / 3, nan, whole)

    def distance(given, **settings):
        rng = Generator(3)
        model = RBM(4, 2, rng=rng, dtype="float64", device="cpu")
        settings |= {"epochs": 60, "batch_size": 100, "n_chains": 200, "k": 2, "rng": rng}
        fit(model, given, schedule=Linear(0.3), optimizer=SGD(momentum=0.5), **settings)
        log_p = log_likelihoods(model, states, exact_log_partition(model))
        return float((p * (np.log(p) - log_p)).sum())

    assert distance(data, missing="impute") < 0.02
    assert distance(np.where(np.isnan(data), 0.5, data)) > 0.05


def test_sites_of_potts_units_are_missing_as_a_whole(xp):
    layers = [PottsLayer(2, 3), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp))
    row = [0, 1, 0, nan, nan, nan]
    samples = Samples(model, xp.asarray([row] * 50), Generator(0), missing="impute")
    out = xp.empty((50, 6))
    samples.take(0, 0, 50, out)
    drawn = host(out)
    assert (drawn[:, :3] == [0, 1, 0]).all()
    assert (drawn[:, 3:].sum(axis=1) == 1).all() and (drawn[:, 3:].sum(axis=0) > 0).all()
    with pytest.raises(DataError, match="in some columns of site 1 in sample 1, expected all 3"):
        Samples(
            model,
            xp.asarray([row, [0, 1, 0, 1, 0, nan]]),
            Generator(0),
            missing="impute",
        )


def test_the_callers_data_are_left_alone():
    model, _, row = machine("bernoulli")
    data = np.tile(row, (10, 1))
    trainer = Trainer(model, data, missing="impute", epochs=2, rng=Generator(0))
    trainer.run()
    assert np.array_equal(data, np.tile(row, (10, 1)), equal_nan=True)
    assert not np.isnan(trainer.data).any()


def test_data_without_missing_values_are_trained_on_as_ever():
    states, _ = two_coins()
    found = []
    for missing in ("error", "impute"):
        rng = Generator(1)
        model = RBM(4, 2, rng=rng, device="cpu")
        fit(model, states, missing=missing, epochs=3, batch_size=5, rng=rng)
        found.append(model.weights[0].W())
    assert np.array_equal(*found)


def test_missing_values_nobody_asked_for_are_refused():
    model, _, row = machine("bernoulli")
    with pytest.raises(DataError, match="data has NaN, first in sample 0, unit 1"):
        fit(model, row[None])
    with pytest.raises(ParameterError, match="missing is 'drop', expected one of"):
        fit(model, row[None], missing="drop")
    with pytest.raises(DataError, match=r"data lies in \[0, 7\]"):
        fit(model, np.array([[7, nan, 0, 1]]), missing="impute")


def test_initialize_fits_the_visible_units_to_the_observed_values(xp):
    model, _, _ = machine("bernoulli", xp)
    data = xp.asarray([[1, nan, 0, 1], [1, 1, nan, 0], [0, 1, 0, nan], [1, 0, nan, nan]])
    initialize(model, data, Generator(0), missing="impute")
    p = 1 / (1 + np.exp(-host(model.layers[0].params.loc)))
    # no zeros and ones: half a count of four samples
    np.testing.assert_allclose(p, [0.75, 2 / 3, 0.125, 0.5], atol=1e-12)
    with pytest.raises(DataError, match="unit 1 has no observed value"):
        initialize(model, xp.asarray([[1, nan, 0, 1]]), missing="impute")


def test_a_checkpoint_without_the_drawn_values_is_refused_and_changes_nothing():
    model, _, row = machine("bernoulli")
    data = np.tile(row, (10, 1))
    trainer = Trainer(model, data, missing="impute", epochs=2, batch_size=5, rng=Generator(0))
    trainer.update()
    arrays, metadata = trainer.state_dict()
    arrays = {name: a.copy() for name, a in arrays.items() if name != "missing.0"}
    other = Trainer(model, data, missing="impute", epochs=2, batch_size=5, rng=Generator(1))
    before = other.rng.state
    with pytest.raises(CheckpointError, match="lacks missing.0 of shape"):
        other.load_state_dict(arrays, metadata)
    assert other.rng.state == before and other.step == 0


@pytest.mark.parametrize("deep", [False, True])
def test_values_drawn_for_missing_units_are_kept(deep):
    """The chains of a sample go on from where its last visit left them."""
    sizes = (40, 5, 4) if deep else (40, 5)
    layers = [BernoulliLayer(n, dtype="float64", device="cpu") for n in sizes]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu")
    data = np.where(np.random.default_rng(0).random((3, 40)) < 0.5, np.nan, 1.0)
    samples = Samples(model, data, Generator(1), shuffle=False, missing="impute")
    before, hidden = samples.values.copy(), [h.copy() for h in samples.hidden]
    out = np.empty((3, 40))
    samples.take(0, 0, 3, out)
    np.testing.assert_array_equal(samples.values, out)
    assert not np.array_equal(out, before)
    assert len(hidden) == (2 if deep else 0)
    assert all(not np.array_equal(a, b) for a, b in zip(hidden, samples.hidden, strict=True))


def test_the_fingerprint_sees_every_row():
    model = RBM(2, 2, device="cpu")
    data = np.zeros((9000, 2), "float32")
    found = set()
    for row in (0, 5000, 8999):
        data[:] = 0
        data[row] = 1
        found.add(Samples(model, data, Generator(0)).fingerprint()["crc32"])
    assert len(found) == 3
