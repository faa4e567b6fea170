"""The training loop: what it learns, how it goes on after a stop, what it refuses."""

import itertools
import math
import os
import signal

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.callbacks import Callback, CheckpointWriter, JsonLines, StopOnSignal
from gpugrad.boltzmann.checkpoint import load_checkpoint
from gpugrad.boltzmann.fit import Trainer, fit
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.optimizers import SGD
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihoods
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.schedules import Constant, Linear
from gpugrad.errors import CheckpointError, DataError, DivergenceError, ParameterError

from .coins import coin_data, two_coins
from .machines import device_like, host
from .trainers import StopAt


def stripes(unit="bernoulli", repeat=25):
    """Four visible units of which neighbours agree: 0000, 1111, 0011, 1100, one quarter each."""
    bits = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
    rows = np.tile(bits, (repeat, 1)).astype("float32")
    return 2 * rows - 1 if unit == "ising" else rows


def trainer(xp=np, seed=1, n_hidden=3, data=None, visible="bernoulli", **settings):
    rng = Generator(seed)
    data = stripes(visible) if data is None else data
    model = RBM(
        data.shape[1], n_hidden, visible=visible, rng=rng, device=device_like(xp), dtype="float32"
    )
    given = {"schedule": Linear(0.1), "epochs": 4, "batch_size": 12, "rng": rng} | settings
    return Trainer(model, data, **given)


def parameters(trained):
    return {name: host(p) for name, p in trained.model.parameters().items()}


def assert_same(found, expected):
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


# ---- what it learns


def distance(model, states, p):
    """Relative entropy of the machine's exact distribution from p, in nats; 0 where they agree."""
    return float(
        (p * (np.log(p) - log_likelihoods(model, states, exact_log_partition(model)))).sum()
    )


@pytest.mark.parametrize("visible", ["bernoulli", "ising"])
@pytest.mark.parametrize("method, k", [("pcd", 1), ("pcd", 3), ("cd", 8)])
@pytest.mark.parametrize("gradient", ["analytic", "autodiff"])
@pytest.mark.parametrize("centered", [True, False])
def test_training_finds_the_distribution_of_the_data(visible, method, k, gradient, centered):
    """To under 0.02 nats, from the 0.3 of units that are independent of each other."""
    states, p = two_coins(visible)
    trained = trainer(
        data=coin_data(unit=visible),
        visible=visible,
        method=method,
        k=k,
        gradient=gradient,
        centered=centered,
        epochs=40,
        batch_size=50,
        n_chains=None if method == "cd" else 200,
        schedule=Linear(0.2),
        optimizer=SGD(momentum=0.5),
    )
    assert distance(trained.model, states, p) > 0.15
    trained.run()
    assert distance(trained.model, states, p) < 0.02


def test_a_weighted_sample_counts_as_often_as_its_weight():
    """All states equally often, weighted with the probabilities of the coins."""
    states, p = two_coins()
    data, weight = np.tile(states, (50, 1)), np.tile(16 * p, 50)
    settings = {
        "data": data,
        "n_chains": 200,
        "k": 3,
        "epochs": 60,
        "batch_size": 80,
        "schedule": Linear(0.2),
        "optimizer": SGD(momentum=0.5),
    }
    weighted, plain = trainer(sample_weight=weight, **settings), trainer(**settings)
    weighted.run(), plain.run()
    assert distance(weighted.model, states, p) < 0.02
    assert distance(plain.model, states, np.full(16, 1 / 16)) < 0.02


def test_history_has_one_record_an_epoch_with_the_rate_that_was_used():
    seen = []
    trained = trainer(callbacks=[lambda t, record: seen.append(record)])
    history = trained.run()
    assert history == seen == trained.history
    assert [r["epoch"] for r in history] == [1, 2, 3, 4]
    # 100 samples in batches of 12: nine updates, the last of four samples
    assert [r["step"] for r in history] == [9, 18, 27, 36]
    last = [0.1 * (1 - step / 36) for step in (8, 17, 26, 35)]
    assert [r["rate"] for r in history] == pytest.approx(last)


def test_every_sample_is_seen_once_an_epoch_in_a_new_order():
    data = np.eye(20, dtype="float32")
    seen = []

    class Watch(Callback):
        def update(self, t):
            n = min(6, 20 - 6 * ((t.step - 1) % 4))
            seen.append(host(t.phases.data_rows(n)).argmax(axis=1).tolist())

    trainer(data=data, batch_size=6, epochs=3, callbacks=[Watch()]).run()
    orders = [list(itertools.chain(*seen[4 * e : 4 * e + 4])) for e in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    seen.clear()
    trainer(data=data, batch_size=6, epochs=1, shuffle=False, callbacks=[Watch()]).run()
    assert list(itertools.chain(*seen)) == list(range(20))


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float64"])
def test_the_dtype_of_the_data_does_not_matter(dtype):
    expected = trainer(data=stripes())
    found = trainer(data=stripes().astype(dtype))
    expected.run(), found.run()
    assert_same(parameters(found), parameters(expected))


# ---- determinism and resuming


def test_one_seed_gives_the_same_bits_and_another_seed_others(xp):
    runs = [trainer(xp, seed=seed) for seed in (1, 1, 2)]
    for each in runs:
        each.run()
    first, again, other = map(parameters, runs)
    assert_same(again, first)
    assert not np.array_equal(first["weights.0.matrix"], other["weights.0.matrix"])


def test_watching_does_not_change_what_is_learned(tmp_path):
    plain, watched = trainer(), trainer(check_every=1)
    watched.callbacks = [CheckpointWriter(tmp_path / "c", 0), JsonLines(tmp_path / "log")]
    plain.run(), watched.run()
    assert_same(parameters(watched), parameters(plain))


VARIANTS = {
    "pcd": {},
    "cd": {"method": "cd"},
    "momentum": {"optimizer": SGD(momentum=0.9)},
    "plain": {"centered": False},
    "file order": {"shuffle": False},
    "k": {"k": 3, "n_chains": 5},
    "sampler": {"sampler": gibbs(2)},
    "autodiff": {"gradient": "autodiff"},
    "average": {"average_epochs": 2.5},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stop", [1, 9, 13, 35, 36])
def test_resumed_training_ends_in_the_same_bits(xp, variant, stop, tmp_path):
    settings = VARIANTS[variant]
    undisturbed = trainer(xp, **settings)
    undisturbed.run()
    first = trainer(xp, **settings, callbacks=[StopAt(stop), CheckpointWriter(tmp_path / "c", 1e9)])
    first.run()
    assert first.step == stop and first.finished == (stop == 36)
    # another seed: nothing of the new process but the checkpoint may matter
    second = trainer(xp, seed=77, **settings)
    second.load_state_dict(*load_checkpoint(tmp_path / "c"))
    second.run()
    assert second.step == 36
    assert_same(parameters(second), parameters(undisturbed))
    assert [r | {"seconds": 0} for r in second.history] == [
        r | {"seconds": 0} for r in undisturbed.history
    ]


@pytest.mark.parametrize("epochs, steps", [(1, 9), (2.5, 22), (4, 36), (0.01, 1)])
def test_averaging_ends_at_the_mean_of_the_last_parameters(xp, epochs, steps):
    found = []

    class Keep(Callback):
        def update(self, trainer):
            found.append({name: p.copy() for name, p in parameters(trainer).items()})

    plain = trainer(xp, callbacks=[Keep()])
    plain.run()
    averaged = trainer(xp, average_epochs=epochs)
    averaged.run()
    for name, p in parameters(averaged).items():
        expected = np.mean([step[name] for step in found[-steps:]], axis=0, dtype="float64")
        np.testing.assert_allclose(p, expected, rtol=1e-5, atol=1e-6)
    assert_same({"chains": host(averaged.phases.hidden)}, {"chains": host(plain.phases.hidden)})


def test_a_checkpoint_of_something_else_is_refused_and_changes_nothing(tmp_path):
    made = trainer(callbacks=[CheckpointWriter(tmp_path / "c")])
    made.run()
    arrays, metadata = load_checkpoint(tmp_path / "c")
    other_data = stripes()
    other_data[7, 2] = 1 - other_data[7, 2]
    for settings, name in (
        ({"schedule": Constant(0.1)}, "schedule"),
        ({"epochs": 5}, "epochs"),
        ({"k": 2}, "k"),
        ({"n_hidden": 4}, "model"),
        ({"data": other_data}, "data"),
        ({"optimizer": SGD(0.5)}, "optimizer"),
        ({"sample_weight": np.ones(len(other_data))}, "sample_weight"),
    ):
        other = trainer(**settings)
        before = parameters(other)
        with pytest.raises(CheckpointError, match=f"the checkpoint was made with {name} "):
            other.load_state_dict(arrays, metadata)
        assert_same(parameters(other), before)
        assert other.step == 0


@pytest.mark.parametrize("lost", ["model.weights.0.matrix", "chains.1", "offsets.0"])
def test_a_checkpoint_that_lacks_an_array_is_refused(lost, tmp_path):
    trainer(callbacks=[CheckpointWriter(tmp_path / "c")]).run()
    arrays, metadata = load_checkpoint(tmp_path / "c")
    del arrays[lost]
    with pytest.raises(CheckpointError, match=f"lacks {lost}"):
        trainer().load_state_dict(arrays, metadata)
    arrays, metadata = load_checkpoint(tmp_path / "c")
    with pytest.raises(CheckpointError, match="metadata are damaged"):
        trainer().load_state_dict(arrays, metadata | {"rng": {"key": [1]}})


# ---- callbacks


def test_checkpoints_come_at_the_start_then_by_the_clock(tmp_path):
    now = iter(range(1000))
    steps = []

    class Recording(CheckpointWriter):
        def write(self, t):
            steps.append(t.step)
            super().write(t)

    writer = Recording(tmp_path / "c", 10, clock=lambda: next(now))
    trainer(callbacks=[writer]).run()
    # one tick an update and two a write: about each tenth update, at the start and at the end
    assert steps[0] == 0 and steps[-1] == 36
    assert all(8 <= b - a <= 12 for a, b in itertools.pairwise(steps[:-1]))


def test_the_log_is_whole_after_a_kill_and_a_resume(tmp_path):
    import json

    writer, log = CheckpointWriter(tmp_path / "c", 1e9), tmp_path / "log.jsonl"
    trainer(callbacks=[StopAt(13), writer, JsonLines(log)]).run()
    # what a kill may leave: an epoch beyond the checkpoint, and half a line
    with open(log, "ab") as file:
        file.write(b'{"epoch": 2, "step": 18}\n{"epoch": 3, "st')
    second = trainer(callbacks=[JsonLines(log)])
    second.load_state_dict(*load_checkpoint(tmp_path / "c"))
    second.run()
    assert [json.loads(line) for line in log.read_text().splitlines()] == second.history


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_between_two_updates(tmp_path, number):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    class Kill(Callback):
        def update(self, t):
            if t.step == 14:
                os.kill(os.getpid(), number)

    stopper, writer = StopOnSignal(), CheckpointWriter(tmp_path / "c", 1e9)
    stopped = trainer(callbacks=[Kill(), stopper, writer])
    stopped.run()
    assert stopper.signal == number
    assert stopped.step in (14, 15) and not stopped.finished
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    second, undisturbed = trainer(), trainer()
    second.load_state_dict(*load_checkpoint(tmp_path / "c"))
    second.run(), undisturbed.run()
    assert_same(parameters(second), parameters(undisturbed))


def test_callbacks_that_are_none_are_refused():
    with pytest.raises(ParameterError, match="callback is 3, expected a Callback or a function"):
        trainer(callbacks=[3])
    with pytest.raises(ParameterError, match="every_seconds is -1"):
        CheckpointWriter("c", -1)


# ---- no waiting for the device


def test_updates_never_wait_for_the_device(cupy_standin, no_waiting):
    """Between two checks nothing asks an array for its value."""
    made = trainer(cupy_standin, check_every=10**6, data=stripes(repeat=200), epochs=1)
    made.update()
    with no_waiting():
        for _ in range(20):
            made.update()
    assert made.step == 21


# ---- divergence


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_rate_far_too_large_is_reported_with_step_and_parameter(rate, tmp_path):
    path = tmp_path / "c"
    diverging = trainer(
        schedule=Constant(rate), check_every=5, callbacks=[CheckpointWriter(path, 1e9)]
    )
    with pytest.raises(DivergenceError) as raised:
        diverging.run()
    message = str(raised.value)
    assert "parameter layers." in message or "parameter weights.0.matrix" in message
    assert f"at step {diverging.step}" in message and "all was well at step 0" in message
    arrays, metadata = load_checkpoint(path)
    assert metadata["position"]["step"] == 0
    assert all(np.isfinite(x).all() for x in arrays.values())


def test_the_last_good_checkpoint_survives_a_later_divergence(tmp_path):
    path = tmp_path / "c"

    def jump(position, length):
        return 0.1 if position < 2 else 1e6

    diverging = trainer(schedule=jump, check_every=1, callbacks=[CheckpointWriter(path, 0)])
    with pytest.raises(DivergenceError, match=r"at step 19 \(all was well at step 18"):
        diverging.run()
    assert load_checkpoint(path)[1]["position"]["step"] == 18


def test_a_parameter_that_is_not_a_number_is_named(xp):
    made = trainer(xp)
    made.model.layers[1].params.loc[1] = float("nan")
    with pytest.raises(DivergenceError, match=r"parameter layers\.1\.loc is nan at step 0"):
        made.run()


def test_float16_that_overflows_is_named():
    rng = Generator(0)
    model = RBM(4, 3, dtype="float16", device="cpu", rng=rng)
    with pytest.raises(DivergenceError, match=r"parameter .* float16\)"):
        fit(model, stripes(), schedule=Constant(1e6), epochs=2, rng=rng, check_every=1)


def test_a_machine_worse_than_fair_coins_is_reported():
    rng = Generator(0)
    data = np.random.default_rng(0).integers(0, 2, (500, 20)).astype("float32")
    model = RBM(20, 20, device="cpu", rng=rng)
    with pytest.raises(DivergenceError, match="worse than that of a fair coin for each unit"):
        fit(model, data, schedule=Constant(50.0), rng=rng, batch_size=5, largest=math.inf)


# ---- bad input


BAD_DATA = {
    "nan": (lambda x: x.__setitem__((5, 2), np.nan), r"has NaN, first in sample 5, unit 2"),
    "too large": (lambda x: x.__setitem__((0, 0), 2.0), r"lies in \[0, 2\], bernoulli units"),
    "negative": (lambda x: x.__setitem__((0, 0), -1.0), r"lies in \[-1, 1\], bernoulli units"),
    "infinite": (lambda x: x.__setitem__((0, 0), np.inf), r"lies in \[0, inf\]"),
}


@pytest.mark.parametrize("fault", BAD_DATA)
def test_data_that_units_cannot_take_are_refused(fault):
    data = stripes()
    spoil, message = BAD_DATA[fault]
    spoil(data)
    with pytest.raises(DataError, match=message):
        trainer(data=data)


def test_data_of_the_wrong_kind_are_refused():
    model = RBM(4, 3, device="cpu")
    for data, message in (
        (np.zeros((0, 4)), "no samples"),
        (np.zeros((5, 3)), r"shape \(5, 3\), expected \(samples, 4\)"),
        (np.zeros(4), r"shape \(4,\), expected \(samples, 4\)"),
        (np.full((5, 4), 2, "uint8"), r"lies in \[2, 2\]"),
        (np.full((5, 4), "a"), "expected real numbers"),
    ):
        with pytest.raises(DataError, match=message):
            fit(model, data)
    with pytest.raises(
        DataError, match=r"lies in \[-3, -2\], ising units take values in \[-1, 1\]"
    ):
        trainer(visible="ising", data=stripes() - 3)


BAD_SETTINGS = {
    "k": (0, "k is 0, expected an integer of at least 1"),
    "epochs": (0, "epochs is 0"),
    "batch_size": (-3, "batch_size is -3"),
    "n_chains": (0, "n_chains is 0"),
    "method": ("exact", r"method is 'exact', expected one of \['pcd', 'cd', 'tap'\]"),
    "mean_field_steps": (0, "mean_field_steps is 0"),
    "missing": ("drop", "missing is 'drop', expected one of"),
    "gradient": ("numeric", "gradient is 'numeric', expected 'analytic' or 'autodiff'"),
    "schedule": (-0.1, "rate is -0.1, expected a finite number above 0"),
    "centering_rate": (1.5, "centering_rate is 1.5"),
    "check_every": (0, "check_every is 0"),
    "average_epochs": (4.5, r"average_epochs is 4.5, expected a number in \[0, 4\]"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_settings_out_of_range_are_refused_before_anything_changes(name):
    value, message = BAD_SETTINGS[name]
    with pytest.raises(ParameterError, match=message):
        trainer(**{name: value})


@pytest.mark.parametrize(
    "weight, message",
    [
        (np.ones(3), r"shape \(3,\), expected \(100,\)"),
        (np.zeros(100), "not finite and above 0"),
        (np.full(100, np.nan), "not finite and above 0"),
    ],
)
def test_sample_weights_out_of_range_are_refused(weight, message):
    with pytest.raises(DataError, match=message):
        trainer(sample_weight=weight)


def test_a_sampler_needs_persistent_chains():
    with pytest.raises(ParameterError, match="a sampler needs the persistent chains of 'pcd'"):
        trainer(method="cd", sampler=gibbs(1))


def test_a_seed_in_place_of_a_generator_is_named():
    with pytest.raises(ParameterError, match="rng is 0, expected a Generator"):
        Trainer(RBM(3, 2), np.zeros((4, 3)), rng=0)
