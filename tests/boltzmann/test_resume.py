"""Training that stops and goes on from a checkpoint: the same bits, and what is refused."""

import json

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.agreement import difference
from gpugrad.boltzmann.callbacks import CheckpointWriter
from gpugrad.boltzmann.checkpoint import load_checkpoint, save_checkpoint
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.schedules import Exponential, Linear, Step
from gpugrad.boltzmann.tempering import driven_gibbs, parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering
from gpugrad.errors import CheckpointError, DivergenceError

from .machines import host
from .trainers import SHORT, VARIANTS, StopAt, arrays_of, trainer_of

safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stop", [1, 6])
def test_resumed_training_ends_in_the_same_bits(xp, variant, stop, tmp_path):
    undisturbed = trainer_of(xp, variant)
    undisturbed.run()
    writer = CheckpointWriter(tmp_path / "c", 1e9)
    first = trainer_of(xp, variant, callbacks=[StopAt(stop), writer])
    first.run()
    assert first.step == stop
    # another seed: nothing of the new process but the checkpoint may matter
    second = trainer_of(xp, variant, seed=77)
    second.load_state_dict(*load_checkpoint(tmp_path / "c"))
    second.run()
    assert second.step == undisturbed.step > 6
    found, expected = arrays_of(second), arrays_of(undisturbed)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name
    assert [r | {"seconds": 0} for r in second.history] == [
        r | {"seconds": 0} for r in undisturbed.history
    ]
    # and training did something
    start = arrays_of(trainer_of(xp, variant))
    assert any(not np.array_equal(start[n], expected[n]) for n in start if n.startswith("model."))


def test_chains_of_another_sampler_are_refused_and_change_nothing():
    made = trainer_of(np, "tempering")
    made.update()
    arrays, metadata = made.state_dict()
    arrays = {name: host(a).copy() for name, a in arrays.items()}
    other = trainer_of(np, "tempering", seed=5)
    before = arrays_of(other)
    for damage, message in (
        (lambda a: [a.pop(n) for n in list(a) if n.startswith("chains.")], "chains"),
        (
            lambda a: a.update({n: x[:-1] for n, x in a.items() if x.ndim and "chains." in n}),
            "chains",
        ),
    ):
        spoiled = dict(arrays)
        damage(spoiled)
        with pytest.raises(CheckpointError, match=message):
            other.load_state_dict(spoiled, metadata)
        after = arrays_of(other)
        assert all(np.array_equal(before[n], after[n]) for n in before) and other.step == 0


@pytest.mark.parametrize(
    ("variant", "sampler", "message"),
    [
        ("tempering", parallel_tempering((0.0, 0.4, 1.0)), "betas.1 0.5, expected betas.1 0.4"),
        ("tempering", parallel_tempering((0.0, 0.5, 1.0), k=2), "k 1, expected k 2"),
        ("trajectory", parallel_trajectory_tempering(threshold=0.5), "0.25, expected threshold"),
        ("driven", driven_gibbs(std=0.3), "std 0.2, expected std 0.3"),
        ("driven", parallel_tempering((0.0, 1.0)), "driven_gibbs"),
        ("driven", gibbs(2), "driven_gibbs"),
    ],
)
def test_a_checkpoint_of_other_settings_of_the_sampler_is_refused(variant, sampler, message):
    arrays, metadata = trainer_of(np, variant).state_dict()
    metadata = json.loads(json.dumps(metadata))  # as a file gives it back
    other = trainer_of(np, variant)
    other.load_state_dict(arrays, metadata)
    other.sampler = sampler
    with pytest.raises(CheckpointError, match=f"made with sampler .*{message}"):
        other.load_state_dict(arrays, metadata)


HELD = np.arange(4) < 2


@pytest.mark.parametrize(
    ("sampler", "other"),
    [
        (gibbs(2), gibbs(3)),
        (gibbs(2, clamp=HELD), gibbs(2)),
        (gibbs(2, clamp=HELD), gibbs(2, clamp=~HELD)),
        (gibbs(2, clamp=HELD), gibbs(2, clamp={1: True})),
        (gibbs(2, clamp={0: True}), gibbs(2, clamp={1: True})),
        (gibbs(2, beta=0.5), gibbs(2, beta=0.6)),
        (gibbs(2, beta=np.full((3, 1), 0.5)), gibbs(2, beta=np.full((3, 1), 0.6))),
    ],
)
def test_settings_of_gibbs_as_a_sampler_are_compared(sampler, other):
    made = trainer_of(np, "driven")
    made.sampler = sampler
    arrays, metadata = made.state_dict()
    metadata = json.loads(json.dumps(metadata))
    made.load_state_dict(arrays, metadata)
    made.sampler = other
    with pytest.raises(CheckpointError, match="made with sampler"):
        made.load_state_dict(arrays, metadata)


def longer(epochs, schedule, **settings):
    model = RBM(4, 3, dtype="float64", rng=Generator(0), device="cpu")
    how = {"batch_size": 12, "rng": Generator(1), **settings}
    return Trainer(model, SHORT, epochs=epochs, schedule=schedule, **how)


@pytest.mark.parametrize("schedule", [0.1, Step(0.1, every=2)])
@pytest.mark.parametrize("step", [4, None])
def test_a_run_goes_on_for_longer_where_its_rates_do_not_depend_on_the_length(schedule, step):
    undisturbed, first, second = (longer(n, schedule) for n in (5, 2, 5))
    undisturbed.run()
    if step is not None:
        first.callbacks = [StopAt(step)]
    first.run()
    assert first.finished == (step is None)
    second.load_state_dict(*first.state_dict())
    second.run()
    expected = arrays_of(undisturbed)
    for name, array in arrays_of(second).items():
        assert np.array_equal(array, expected[name]), name
    assert [r | {"seconds": 0} for r in second.history] == [
        r | {"seconds": 0} for r in undisturbed.history
    ]


@pytest.mark.parametrize(
    ("schedule", "settings", "message"),
    [
        (Linear(0.1), {}, r"epochs 2, expected 5: a longer run has other rates \(linear schedule"),
        (Exponential(0.1), {}, r"other rates \(exponential schedule"),
        (lambda position, length: 0.1, {}, r"other rates \(own schedule"),
        (0.1, {"average_epochs": 1}, "a longer run averages over its last epochs, it has to begin"),
    ],
)
def test_what_depends_on_the_length_of_a_run_keeps_it(schedule, settings, message):
    first, second = (longer(n, schedule, **settings) for n in (2, 5))
    first.run()
    with pytest.raises(CheckpointError, match=message):
        second.load_state_dict(*first.state_dict())
    # what else differs is named, and nothing goes on for a shorter time
    other = longer(5, schedule, **settings, k=2)
    with pytest.raises(CheckpointError, match="made with k 1, expected 2"):
        other.load_state_dict(*first.state_dict())
    with pytest.raises(CheckpointError, match="made with epochs 2, expected 1$"):
        longer(1, schedule, **settings).load_state_dict(*first.state_dict())


def test_a_machine_that_was_not_started_from_data_can_go_on(tmp_path):
    """The arrays of the checkpoint replace its own; how many samples started them is a record."""

    def made(start):
        model = RBM(4, 3, dtype="float64", device="cpu")
        if start:
            initialize(model, SHORT, Generator(0))
        return Trainer(model, SHORT, epochs=2, batch_size=12, rng=Generator(1))

    undisturbed, first, second = made(True), made(True), made(False)
    undisturbed.run()
    for _ in range(2):
        first.update()
    save_checkpoint(tmp_path / "c", *first.state_dict())
    second.load_state_dict(*load_checkpoint(tmp_path / "c"))
    second.run()
    assert second.model.config() == undisturbed.model.config()
    assert second.model.layers[0].sample_size == len(SHORT)
    for name, parameter in undisturbed.model.parameters().items():
        assert np.array_equal(second.model.parameters()[name], parameter)
    # the moments are not in the file: a fit of the biases starts anew
    second.model.layers[0].online_param_update(SHORT)
    assert second.model.layers[0].sample_size == len(SHORT)


def test_what_is_not_finite_never_replaces_a_checkpoint(tmp_path):
    trainer = trainer_of(np, "tempering")
    writer = CheckpointWriter(tmp_path / "c")
    writer.write(trainer)
    good = (tmp_path / "c").read_bytes()
    trainer.model.layers[0].params.loc[0] = np.nan
    with pytest.raises(DivergenceError, match="is nan"):
        writer.write(trainer)
    assert (tmp_path / "c").read_bytes() == good


def test_a_checkpoint_that_does_not_tell_a_setting_is_refused():
    made = trainer_of(np, "driven")
    arrays, metadata = made.state_dict()
    metadata = json.loads(json.dumps(metadata))
    del metadata["settings"]["batch_size"]
    with pytest.raises(CheckpointError, match="made with batch_size None, expected 12"):
        made.load_state_dict(arrays, metadata)


def test_a_part_that_only_one_of_two_settings_has_is_told_even_if_it_is_none():
    assert difference({"k": 1, "clamp": None}, {"k": 1}) == ("clamp None", "nothing of it")


def test_a_checkpoint_of_other_sample_weights_is_refused():
    def made(last):
        weight = np.ones(len(SHORT))
        weight[-1] = last
        model = RBM(4, 3, device="cpu", rng=Generator(0))
        return Trainer(model, SHORT, sample_weight=weight, rng=Generator(1))

    saved = made(2.0).state_dict()
    made(2.0).load_state_dict(*saved)
    with pytest.raises(CheckpointError, match="made with sample_weight"):
        made(3.0).load_state_dict(*saved)
