"""What a trainer holds between two runs: memory of its own, plain numbers, a clock that stands."""

import json
import signal
import time

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.callbacks import Callback, StopOnSignal
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.layers import BernoulliLayer, GaussianLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine

from .machines import device_like, host

DATA = np.repeat(np.eye(4, dtype="float32"), 10, axis=0)


def trainer(xp=np, kind=BernoulliLayer, **settings):
    layers = [BernoulliLayer(4), kind(3)]
    model = BoltzmannMachine(layers, device=device_like(xp), rng=Generator(0))
    return Trainer(model, DATA, **{"epochs": 4, "batch_size": 10, "rng": Generator(1)} | settings)


@pytest.mark.parametrize("kind", [BernoulliLayer, GaussianLayer])
def test_a_loaded_state_shares_no_memory_with_the_arrays_that_were_given(xp, kind):
    """Training from them leaves them as they are: they can be gone on from once more."""
    first = trainer(xp, kind)
    first.update()
    arrays, metadata = first.state_dict()
    kept = {name: array.copy() for name, array in arrays.items()}
    ends = []
    for seed in (5, 6):
        second = trainer(xp, kind, rng=Generator(seed))
        second.load_state_dict(kept, metadata)
        for _ in range(4):
            second.update()
        ends.append({name: host(p) for name, p in second.model.parameters().items()})
    for name, array in kept.items():
        np.testing.assert_array_equal(host(array), host(arrays[name]), err_msg=name)
    for name, array in ends[0].items():
        np.testing.assert_array_equal(ends[1][name], array, err_msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": np.int64(5)},
        {"n_chains": np.int32(7)},
        {"k": np.int64(2), "epochs": np.int64(3)},
        {"centering_rate": np.float32(0.25)},
        {"average_epochs": np.float32(0.5)},
    ],
    ids=lambda s: "-".join(s),
)
def test_numbers_of_numpy_are_settings_that_json_can_hold(settings):
    metadata = trainer(**settings).state_dict()[1]
    found = json.loads(json.dumps(metadata))["settings"]
    assert {name: found[name] for name in settings} == settings


def test_the_clock_stands_after_an_error():
    """What is done about the error, and the time until training goes on, is no training."""

    class Fail(Callback):
        def update(self, t):
            if t.step == 2:
                raise RuntimeError("once")

    stopped = trainer(callbacks=[Fail()])
    with pytest.raises(RuntimeError, match="once"):
        stopped.run()
    before = stopped.state_dict()[1]["seconds"]
    time.sleep(0.01)
    assert stopped.state_dict()[1]["seconds"] == before > 0


def test_a_start_that_fails_ends_what_other_callbacks_began():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    errors = []

    class Fail(Callback):
        def start(self, t):
            raise RuntimeError("no room on the disk")

        def stop(self, t, error):
            errors.append(error)

    with pytest.raises(RuntimeError, match="no room") as caught:
        trainer(callbacks=[StopOnSignal(), Fail()]).run()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert errors == [caught.value]


def test_weighted_offsets_keep_their_digits_in_half_precision(xp):
    """70,000 weights that add up to more than the largest number of float16."""
    data = np.random.default_rng(0).integers(0, 2, (70_000, 3)).astype("uint8")
    weight = np.random.default_rng(1).choice([1.0, 2.0], 70_000)
    model = RBM(3, 2, dtype="float16", device=device_like(xp))
    made = Trainer(model, xp.asarray(data), sample_weight=weight, rng=Generator(0))
    np.testing.assert_allclose(
        host(made.phases.offsets[0]), weight @ data / weight.sum(), rtol=2**-11
    )
