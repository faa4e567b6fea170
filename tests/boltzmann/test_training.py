"""Training of every machine by every method: what is learned, and what is watched meanwhile."""

import itertools
import re

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.callbacks import Callback, CheckpointWriter, EarlyStopping
from gpugrad.boltzmann.checkpoint import load_checkpoint
from gpugrad.boltzmann.constraints import centre_rows, non_positive
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.layers import (
    BernoulliLayer,
    ExponentialLayer,
    GaussianLayer,
    IsingLayer,
    PottsLayer,
    Weights,
)
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.optimizers import SGD
from gpugrad.boltzmann.partition import ais, exact_log_partition, log_likelihood
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.schedules import Constant, Linear
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.tempering import parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering
from gpugrad.errors import DivergenceError, ParameterError

from .coins import bits, coin_data, two_coins
from .machines import host
from .trainers import SHORT, StopAt, spins, trainer_of

safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")


# ---- what it learns


def exact_visible(model, grids):
    """p(v) by a sum over all states of all other layers."""
    p = []
    for v in grids[0]:
        hidden = itertools.product(*grids[1:])
        units = [np.array(list(rows)) for rows in zip(*hidden, strict=True)]
        n = len(units[0]) if units else 1
        state = State((np.tile(v, (n, 1)), *units))
        p.append(np.exp(-model.energy(state)).sum())
    return np.array(p) / sum(p)


def learn(model, data, **settings):
    given = {
        "epochs": 40,
        "batch_size": 50,
        "n_chains": 200,
        "k": 2,
        "schedule": Linear(0.2),
        "optimizer": SGD(momentum=0.5),
        "rng": Generator(1),
    } | settings
    trainer = Trainer(model, data, **given)
    trainer.run()
    return trainer


KINDS = {
    "deep": lambda: ([BernoulliLayer(4), IsingLayer(2), BernoulliLayer(2)], {}),
    "potts hidden": lambda: ([BernoulliLayer(4), PottsLayer(1, 3)], {}),
    "ising hidden": lambda: ([BernoulliLayer(4), IsingLayer(2)], {}),
    "lateral": lambda: ([BernoulliLayer(4)], {0: np.zeros((4, 4))}),
}
GRIDS = {
    "deep": [bits(4), 2 * bits(2) - 1, bits(2)],
    "potts hidden": [bits(4), np.eye(3)],
    "ising hidden": [bits(4), 2 * bits(2) - 1],
    "lateral": [bits(4)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["pcd", "cd"])
@pytest.mark.parametrize("centered", [True, False])
def test_training_finds_the_distribution_of_the_data(kind, method, centered):
    """From 0.3 nats (units independent of each other) to under 0.03."""
    layers, lateral = KINDS[kind]()
    model = BoltzmannMachine(
        layers, dtype="float64", device="cpu", rng=Generator(2), lateral=lateral
    )
    k = 2 if method == "pcd" else 8
    learn(model, coin_data(), method=method, centered=centered, k=k)
    _, p = two_coins()
    q = exact_visible(model, GRIDS[kind])
    assert (p * np.log(p / q)).sum() < 0.03


def test_gaussian_units_find_mean_variance_and_correlation():
    """A Gaussian-Gaussian machine holds any normal distribution of one strong direction: its
    covariance, exact from the joint precision, comes within 0.1 of that of the data."""
    draw = np.random.default_rng(0)
    factor = draw.normal(size=(4000, 1)) @ np.array([[0.9, -0.6, 0.3]])
    data = factor + 0.7 * draw.normal(size=factor.shape) + [0.5, 0.0, -0.4]
    layers = [GaussianLayer(3), GaussianLayer(1)]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu", rng=Generator(0))
    learn(model, data, schedule=Linear(0.05), epochs=40, batch_size=100, n_chains=500)
    loc, log_var = layers[0].params
    precision = np.diag(np.exp(np.concatenate([-log_var, -layers[1].params.log_var])))
    W = model.weights[0].W() * np.exp(-log_var)[:, None] * np.exp(-layers[1].params.log_var)
    precision[:3, 3:], precision[3:, :3] = -W, -W.T
    covariance = np.linalg.inv(precision)
    pull = np.concatenate([loc * np.exp(-log_var), layers[1].params.loc * precision[3, 3]])
    np.testing.assert_allclose(covariance[:3, :3], np.cov(data.T), atol=0.1)
    np.testing.assert_allclose((covariance @ pull)[:3], data.mean(axis=0), atol=0.1)


def test_exponential_units_stay_normalisable_and_find_their_rates():
    data = np.random.default_rng(1).exponential([0.5, 1.0, 2.0], size=(3000, 3))
    layers = [ExponentialLayer(3), ExponentialLayer(1)]
    weights = Weights((3, 1), scale=0, dtype="float64", device="cpu")
    weights.add_constraint({"matrix": non_positive})
    model = BoltzmannMachine(layers, dtype="float64", device="cpu", weights=[weights])
    learn(model, data, schedule=Linear(0.02), epochs=20, batch_size=100, centered=False)
    assert (model.weights[0].W() <= 0).all()
    states = gibbs(30)(Generator(2), model, model.random_state(4000, rng=Generator(3)))[0]
    np.testing.assert_allclose(states.visible.mean(axis=0), data.mean(axis=0), rtol=0.15)


def test_potts_units_find_the_couplings_of_their_sites():
    """Two sites of three states that agree in 8 of 10 samples."""
    draw = np.random.default_rng(0)
    first = draw.integers(0, 3, 2000)
    second = np.where(draw.random(2000) < 0.8, first, (first + draw.integers(1, 3, 2000)) % 3)
    layer = PottsLayer(2, 3)
    layer.add_constraint({"loc": centre_rows})
    data = layer.one_hot(np.stack([first, second], axis=1))
    how = {"dtype": "float64", "device": "cpu", "rng": Generator(0)}
    model = BoltzmannMachine([layer, PottsLayer(1, 3)], **how)
    trainer = learn(model, data, epochs=60, batch_size=100)
    figures = {"pseudo_likelihood", "reconstruction_error"}
    assert trainer.history[-1].keys() == {"epoch", "step", "rate", "seconds"} | figures
    np.testing.assert_allclose(layer.params.loc.sum(axis=1), 0, atol=1e-12)
    eye = np.eye(3)
    grid = [np.array([np.concatenate([eye[a], eye[b]]) for a in range(3) for b in range(3)]), eye]
    q = exact_visible(model, grid)
    p = np.bincount(3 * first + second, minlength=9) / 2000
    assert (p * np.log(p / q)).sum() < 0.02


@pytest.mark.parametrize("sampler", ["none", "tempering", "trajectory"])
def test_tempered_chains_cross_between_modes_where_plain_ones_do_not(sampler):
    """Six units that are all 0 or all 1, 30 and 70 of 100: the weights of the modes come out
    within 0.1; plain chains, trained alike, miss them by more."""
    data = np.repeat([[0.0] * 6, [1.0] * 6], [300, 700], axis=0)
    steps = {
        "none": None,
        "tempering": parallel_tempering(np.linspace(0, 1, 6)),
        "trajectory": parallel_trajectory_tempering(),
    }
    model = RBM(6, 2, dtype="float64", device="cpu", rng=Generator(0))
    settings = {"schedule": Linear(0.3), "epochs": 60, "batch_size": 100, "n_chains": 200, "k": 1}
    learn(model, data, sampler=steps[sampler], **settings)
    log_z = exact_log_partition(model)
    p = np.exp(-model.marginal_free_energy(np.array([[0.0] * 6, [1.0] * 6])) - log_z)
    assert p.sum() > 0.8
    assert (abs(p[1] / p.sum() - 0.7) < 0.1) == (sampler != "none")


@pytest.mark.parametrize("method", ["pcd", "tap"])
def test_the_positive_phase_of_a_deep_machine_takes_the_steps_that_were_asked_for(method):
    """The visible part does not depend on them, the upper weights' part does."""
    found = []
    for steps in (1, 300, 301):
        model = spins([BernoulliLayer(4), BernoulliLayer(3), IsingLayer(2)], np)
        for weights in model.weights:
            weights.W()[...] *= 100
        made = Trainer(model, SHORT, method=method, mean_field_steps=steps, rng=Generator(3))
        made.phases.data_rows(10)[...] = SHORT[:10]
        found.append({name: host(g).copy() for name, g in made.phases(10).items()})
    few, many, more = (g["weights.1.matrix"] for g in found)
    assert np.allclose(many, more, atol=1e-6) and abs(few - many).max() > 1e-4


# ---- no waiting for the device


@pytest.mark.parametrize(
    "variant",
    ["gaussian", "deep", "deep cd", "gaussian autodiff", "missing", "tempering", "sparse"],
)
def test_updates_never_wait_for_the_device(cupy_standin, no_waiting, variant):
    made = trainer_of(cupy_standin, variant)
    made.check_every = 10**6
    made.update()
    with no_waiting():
        for _ in range(made.n_batches - 2):
            made.update()
    assert made.step == made.n_batches - 1 > 1


# ---- what is watched


def test_large_means_of_the_data_are_no_divergence():
    data = np.random.default_rng(0).normal(5000, 1, (100, 3))
    layers = [GaussianLayer(3), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu", rng=Generator(0))
    layers[0].online_param_update(data)
    trainer = learn(model, data, epochs=2)
    assert abs(layers[0].params.loc - 5000).max() < 50
    layers[0].params.loc[1] = np.inf
    with pytest.raises(DivergenceError, match=r"parameter layers\.0\.loc is inf"):
        trainer.check_finite()
    layers[0].params.loc[1] = 5000
    layers[0].params.log_var[0] = 1001
    with pytest.raises(DivergenceError, match=r"parameter layers\.0\.log_var has reached"):
        trainer.check_finite()


def test_weights_that_leave_no_partition_function_end_training_with_step_and_advice():
    """Of one factor: W grows, whatever the chains say, where the rate is far too large."""
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(200, 1)) * np.ones(6) + 0.3 * rng.normal(size=(200, 6))) / 1.05
    model = RBM(6, 4, visible="gaussian", hidden="relu", rng=Generator(0), device="cpu")
    how = {"schedule": Constant(0.2), "epochs": 50}
    with pytest.raises(DivergenceError) as raised:
        learn(model, data.astype("float32"), **how)
    found = re.match(
        r"fit: layers\[0\] \(gaussian\), layers\[1\] \(relu\) have no partition function together "
        r"with these weights: their joint precision is not positive, and parameter \S+ has reached "
        r"\S+ at step (\d+) \(all was well at step (\d+); float32\), expected a partition function "
        r"after every step: take a learning rate below 0.2, loc = 2 for hidden ReLU units at the "
        r"start, fewer hidden units, whitened data, or",
        str(raised.value),
    )
    assert found is not None and int(found[1]) == int(found[2]) + 1, str(raised.value)
    # what is nan is told as such
    model = RBM(6, 4, visible="gaussian", hidden="relu", rng=Generator(0), device="cpu")
    with pytest.raises(DivergenceError, match=r"parameter .* is nan at step"):
        learn(model, data.astype("float32"), **how | {"schedule": lambda x, n: np.nan})
    # rates of exponential units have remedies of their own
    model = RBM(6, 4, visible="exponential", rng=Generator(0), device="cpu")
    with pytest.raises(
        DivergenceError, match=r"unit \d of layers\[0\] .* a LogPenalty on the rates"
    ):
        learn(model, np.abs(data).astype("float32"), **how | {"schedule": Constant(5.0)})


def stopping(values, **settings):
    """Early stopping on estimates that are given, one an epoch."""
    given = iter(values)
    return EarlyStopping(lambda model, rng: next(given), **settings)


@pytest.mark.parametrize(
    "values, settings, epochs, best",
    [
        ([1, 2, 3, 2, 2.5, 2], {"patience": 3}, 6, 3),
        ([1, 2, 3, 2, 2.5, 3.5, 1, 1, 1], {"patience": 3}, 9, 6),
        ([1, 1.05, 1.09, 0], {"patience": 2, "min_gain": 0.1}, 3, 1),
        ([-np.inf, -5, -np.inf, -np.inf], {"patience": 2}, 4, 2),
        ([1, 0, 2, 0], {"patience": 1, "every": 2}, 4, 2),
    ],
)
def test_early_stopping_ends_at_the_best_parameters(values, settings, epochs, best):
    seen = []

    class Keep(Callback):
        def epoch(self, trainer, record):
            seen.append({name: p.copy() for name, p in trainer.model.parameters().items()})

    model = RBM(4, 2, device="cpu", rng=Generator(0))
    stopper = stopping(values, **settings)
    trainer = learn(model, SHORT, epochs=50, callbacks=[Keep(), stopper])
    assert trainer.epoch == epochs and len(trainer.history) == epochs
    for name, p in model.parameters().items():
        assert np.array_equal(p, seen[best - 1][name])
    assert trainer.history[best - 1]["log_likelihood"] == stopper.best


def test_early_stopping_goes_on_after_a_resume(tmp_path):
    values = [1, 2, 3, 2.5, 2, 2, 2, 2]

    def run(callbacks, given=values):
        model = RBM(4, 2, device="cpu", rng=Generator(0))
        stopper = stopping(given, patience=3)
        return Trainer(
            model,
            SHORT,
            epochs=50,
            batch_size=12,
            rng=Generator(1),
            callbacks=[*callbacks, stopper],
        )

    undisturbed = run([])
    undisturbed.run()
    writer = CheckpointWriter(tmp_path / "c", 1e9)
    first = run([StopAt(4 * undisturbed.n_batches + 1), writer])
    first.run()
    second = run([], values[4:])
    second.load_state_dict(*load_checkpoint(tmp_path / "c"))
    second.run()
    assert second.epoch == undisturbed.epoch == 6
    for name, p in undisturbed.model.parameters().items():
        assert np.array_equal(p, second.model.parameters()[name])
    # a run that was over is over after a resume too
    arrays, metadata = second.state_dict()
    third = run([], [])
    third.load_state_dict({n: a.copy() for n, a in arrays.items()}, metadata)
    third.run()
    assert third.step == second.step
    assert np.array_equal(third.model.weights[0].W(), second.model.weights[0].W())


def test_estimates_by_annealing_do_not_disturb_training():
    def estimate(model, rng):
        return log_likelihood(model, SHORT, ais(model, rng, n_temperatures=50, n_chains=20).log_z)

    found = []
    for callbacks in ([], [EarlyStopping(estimate, patience=50, restore_best=False)]):
        model = RBM(4, 2, device="cpu", rng=Generator(0))
        trainer = learn(model, SHORT, epochs=5, callbacks=callbacks)
        found.append(model.weights[0].W())
    assert np.array_equal(*found)
    exact = log_likelihood(model, SHORT, exact_log_partition(model))
    # 20 chains on a machine of six units: far closer than half a nat
    assert abs(trainer.history[-1]["log_likelihood"] - exact) < 0.5


def test_settings_of_early_stopping_are_checked():
    for settings, message in (
        ({"estimate": 3}, "estimate is 3, expected a function"),
        ({"patience": 0}, "patience is 0"),
        ({"every": 0}, "every is 0"),
        ({"min_gain": -1}, "min_gain is -1"),
    ):
        with pytest.raises(ParameterError, match=message):
            EarlyStopping(**({"estimate": lambda m, r: 0.0} | settings))
    for value in (None, float("nan")):
        with pytest.raises(
            ParameterError, match=f"EarlyStopping: the estimate after epoch 2 is {value}, expected"
        ):
            learn(RBM(4, 2, device="cpu"), SHORT, epochs=3, callbacks=[stopping([1.0, value])])


@pytest.mark.parametrize("method", ["pcd", "tap"])
def test_each_update_ends_within_the_constraints(method):
    """The first step is that without the constraint, projected."""
    made = []
    for constraint in ({}, {"matrix": non_positive}):
        model = RBM(4, 2, dtype="float64", device="cpu", rng=Generator(0))
        model.weights[0].add_constraint(constraint)
        trainer = Trainer(
            model, SHORT, method=method, batch_size=12, schedule=0.5, rng=Generator(1)
        )
        trainer.update()
        made.append(trainer)
    free, held = (t.model.weights[0].W() for t in made)
    np.testing.assert_array_equal(held, np.minimum(free, 0))
    assert free.max() > 0
    for _ in range(5):
        made[1].update()
        assert made[1].model.weights[0].W().max() <= 0


def test_early_stopping_counts_anew_in_another_run():
    values = iter([5.0, 1.0, 1.0, 2.0, 3.0, 4.0])
    stopping = EarlyStopping(lambda model, rng: next(values), patience=2, restore_best=False)
    first, second = (trainer_of(np, "tempering", callbacks=[stopping]) for _ in range(2))
    first.run()
    assert first.epoch == 3
    second.run()
    assert second.epoch == 3 and stopping.best == 4.0 and stopping.waited == 0


def test_first_offsets_are_means_of_what_the_couplings_see():
    layers = [GaussianLayer(4, device="cpu"), BernoulliLayer(3, device="cpu")]
    layers[0].set_params({"log_var": np.log(np.array([0.5, 1.0, 2.0, 4.0]))})
    model = BoltzmannMachine(layers, dtype="float64", device="cpu")
    trainer = Trainer(model, SHORT, rng=Generator(0))
    visible, hidden = trainer.phases.offsets
    np.testing.assert_allclose(visible, SHORT.mean(axis=0) / [0.5, 1, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(hidden, 0.5)


def test_a_huge_bias_of_bounded_units_is_a_divergence():
    trainer = trainer_of(np, "tempering")
    trainer.model.layers[0].params.loc[1] = 2000
    with pytest.raises(DivergenceError, match=r"layers.0.loc has reached 2e\+03"):
        trainer.check_finite()


def test_the_rate_follows_the_schedule_within_an_epoch():
    trainer = trainer_of(np, "tempering")
    for step in range(trainer.n_batches + 2):
        time = step / trainer.n_batches
        assert trainer.rate == pytest.approx(Linear(0.1)(time, 3.0), rel=1e-12)
        trainer.update()


def test_penalties_and_constraints_act_in_training():
    """A strong decay leaves no couplings; without it they grow."""
    norms = []
    for strength in (0.0, 3.0):
        model = RBM(4, 2, device="cpu", rng=Generator(0))
        model.weights[0].add_penalty({"matrix": L2Penalty(strength)})
        learn(model, coin_data(), epochs=20, schedule=Constant(0.2))
        norms.append(float(np.abs(model.weights[0].W()).max()))
    assert norms[0] > 0.2 and norms[1] < 0.05
