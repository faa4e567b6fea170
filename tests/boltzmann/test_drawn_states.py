"""Grey values as probabilities: states drawn anew for each batch (stochastic binarisation)."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.checkpoint import load_checkpoint, save_checkpoint
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.layers import BernoulliLayer, GaussianLayer, IsingLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.partition import exact_log_partition
from gpugrad.boltzmann.schedules import Linear
from gpugrad.boltzmann.streaming import Stream
from gpugrad.boltzmann.training_data import draw_states_
from gpugrad.errors import CheckpointError, ParameterError

from .coins import bits
from .machines import device_like, host

N = 4
STATES = bits(N)
HEADS = STATES.sum(axis=1)
# all four coins of a throw are of one kind, which falls on its head with 0.85 or with 0.15
P = (0.85**HEADS * 0.15 ** (N - HEADS) + 0.15**HEADS * 0.85 ** (N - HEADS)) / 2
COINS = np.repeat([[0.85] * N, [0.15] * N], 500, axis=0)


def learned(unit, data, draw_states):
    """Divergence, in nats, of a trained machine from the distribution of the throws."""
    layers = [unit(N), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu", rng=Generator(2))
    Trainer(
        model,
        data,
        draw_states=draw_states,
        epochs=60,
        batch_size=50,
        n_chains=200,
        k=2,
        schedule=Linear(0.2),
        rng=Generator(1),
    ).run()
    low, high = layers[0].support
    free = model.free_energy(model.parameters(), low + (high - low) * STATES)
    return (P * (np.log(P) + free + exact_log_partition(model))).sum()


@pytest.mark.parametrize(("unit", "data"), [(BernoulliLayer, COINS), (IsingLayer, 2 * COINS - 1)])
def test_training_finds_the_distribution_of_the_drawn_states(unit, data):
    assert learned(unit, data, True) < 0.01


def test_as_means_grey_values_teach_another_distribution():
    assert learned(BernoulliLayer, COINS, False) > 0.02


def test_a_stream_is_drawn_from_too(tmp_path):
    np.save(tmp_path / "coins.npy", COINS)
    data = Stream(np.load(tmp_path / "coins.npy", mmap_mode="r"))
    assert learned(BernoulliLayer, data, True) < 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unit", [BernoulliLayer, IsingLayer])
def test_drawn_states_have_the_given_means(xp, unit, dtype):
    """20 means of 10,000 draws, each within 5.5 standard errors: false alarm 8e-7."""
    layers = [unit(5), BernoulliLayer(1)]
    model = BoltzmannMachine(layers, dtype=dtype, device=device_like(xp), rng=Generator(0))
    low, high = layers[0].support
    p = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    rows = xp.asarray(np.tile(low + (high - low) * p, (10_000, 1)).astype(dtype))
    draw_states_(model, rows, Generator(3))
    drawn = host(rows)
    assert rows.dtype == dtype
    assert set(np.unique(drawn)) == {low, high}
    mean = ((drawn - low) / (high - low)).mean(axis=0, dtype="float64")
    np.testing.assert_array_less(np.abs(mean - p), 5.5 * np.sqrt(p * (1 - p) / 10_000) + 1e-12)


def test_states_stay_what_they_are():
    model = RBM(N, 1, rng=Generator(0), device="cpu")
    rows = STATES.astype("float32")
    draw_states_(model, rows, Generator(3))
    np.testing.assert_array_equal(rows, STATES)


def trainer(draw_states=True, **settings):
    model = RBM(N, 2, rng=Generator(2), device="cpu")
    given = {"epochs": 3, "batch_size": 50, "rng": Generator(1)} | settings
    return Trainer(model, COINS, draw_states=draw_states, **given)


def test_each_batch_is_drawn_anew():
    """Without shuffling, the first batch of the second epoch is another draw of the same rows."""
    run = trainer(shuffle=False)
    seen = []
    for _ in range(run.n_batches + 1):
        run.update()
        seen.append(np.array(run.phases.data_rows(50)))
    assert set(np.unique(seen)) <= {0.0, 1.0}
    assert (seen[0] != seen[-1]).any()


def test_a_resumed_run_ends_in_the_same_bits(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    whole, first = trainer(), trainer()
    whole.run()
    for _ in range(33):
        first.update()
    save_checkpoint(tmp_path / "run.safetensors", *first.state_dict())
    second = trainer()
    second.load_state_dict(*load_checkpoint(tmp_path / "run.safetensors"))
    second.run()
    for name, parameter in whole.model.parameters().items():
        np.testing.assert_array_equal(parameter, second.model.parameters()[name])
    with pytest.raises(CheckpointError, match="draw_states True, expected False"):
        trainer(draw_states=False).load_state_dict(*first.state_dict())


@pytest.mark.parametrize(
    ("layer", "missing", "message"),
    [
        (
            GaussianLayer(4),
            "error",
            "draw_states is True for GaussianLayer.*two-valued visible units",
        ),
        (BernoulliLayer(4), "impute", "draw_states is True with missing 'impute'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(layer, missing, message):
    model = BoltzmannMachine([layer, BernoulliLayer(2)], device="cpu", rng=Generator(0))
    with pytest.raises(ParameterError, match=message):
        Trainer(model, COINS, draw_states=True, missing=missing)


def test_data_that_are_states_already_are_told_of():
    model = RBM(N, 2, rng=Generator(2), device="cpu")
    with pytest.warns(UserWarning, match="draw_states is True for data that are states already"):
        Trainer(model, STATES, draw_states=True)
