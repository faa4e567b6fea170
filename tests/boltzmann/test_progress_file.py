"""Pre-training and training with labels go on from the file of a stopped run, bit for bit."""

import importlib
import threading
import time

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.agreement import checksum
from gpugrad.boltzmann.communicator import Serial
from gpugrad.boltzmann.labels import classification_rbm, fit_labels
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.optimizers import SGD, Adam
from gpugrad.boltzmann.pretrain import pretrain
from gpugrad.boltzmann.progress_file import ProgressFile
from gpugrad.errors import CheckpointError
from tests.distributed.thread_ranks import results

from .machines import device_like, host

pytest.importorskip("safetensors", reason="safetensors is not installed")

V = (np.random.default_rng(0).random((30, 4)) < 0.4).astype("float64")
LABELS = (V.sum(axis=1) > 1).astype("int64")


def test_a_changed_row_changes_the_checksum_wherever_it_lies():
    data = np.zeros((9000, 3), "float32")
    expected = checksum(data)
    for i in (0, 4095, 4096, 8999):
        other = data.copy()
        other[i, 1] = 1
        assert checksum(other) != expected
    assert checksum(data.astype("int32")) != expected  # of the same bytes


def test_arrays_of_another_shape_are_refused_not_spread_over_the_own(tmp_path):
    path, settings = tmp_path / "progress.safetensors", {"epochs": 2}
    ProgressFile("fit", path, settings).save(
        {"a": np.ones(2), "W": np.ones((1, 3))}, [], Generator(1)
    )
    own, rng = {"a": np.zeros(2), "W": np.zeros((2, 3))}, Generator(2)
    before = rng.state
    with pytest.raises(CheckpointError, match=r"fit: .* lacks W of shape \(2, 3\)"):
        ProgressFile("fit", path, settings).take_over(own, rng)
    assert not any(array.any() for array in own.values()) and rng.state == before


class Stopped(Exception):
    pass


class StopsAfter(Adam):
    """Adam that raises instead of an update, as a lost machine would, after so many."""

    name = "adam of a test"  # of its own: "adam" remains Adam

    def __init__(self, updates=None):
        super().__init__()
        self.updates = updates

    def get_config(self):
        return {"name": "adam"}

    def update_(self, *arguments):
        if self.updates is not None:
            self.updates -= 1
            if self.updates < 0:
                raise Stopped
        super().update_(*arguments)


def pretrained(xp, checkpoint=None, updates=None, **settings):
    layers = [BernoulliLayer(4), IsingLayer(3), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp), rng=Generator(1))
    given = {"epochs": 3, "batch_size": 10, "rng": Generator(2)} | settings
    history = pretrain(
        model, xp.asarray(V), checkpoint=checkpoint, optimizer=StopsAfter(updates), **given
    )
    return model, history


def labelled(xp, checkpoint=None, updates=None, labels=LABELS, **settings):
    model = classification_rbm(4, 3, 2, dtype="float64", device=device_like(xp), rng=Generator(1))
    given = {"epochs": 6, "batch_size": 10, "n_chains": 7, "discriminative": 0.3} | settings
    history = fit_labels(
        model,
        xp.asarray(V),
        xp.asarray(labels),
        checkpoint=checkpoint,
        optimizer=StopsAfter(updates),
        rng=Generator(2),
        **given,
    )
    return model, history


TRAINERS = pytest.mark.parametrize("train", [pretrained, labelled])


@TRAINERS
@pytest.mark.parametrize("updates", [0, 4, 9, 11, 17])  # of 18, three an epoch
def test_a_stopped_run_goes_on_to_the_same_bits(xp, train, updates, tmp_path):
    expected, figures = train(xp)
    path = tmp_path / "progress.safetensors"
    with pytest.raises(Stopped):
        train(xp, path, updates)
    assert path.exists() == (updates >= 3)
    model, history = train(xp, path)
    assert history == figures
    for name, parameter in expected.parameters().items():
        np.testing.assert_array_equal(host(model.parameters()[name]), host(parameter))


@TRAINERS
def test_a_finished_run_is_not_trained_again(xp, train, tmp_path):
    path = tmp_path / "progress.safetensors"
    expected, figures = train(xp, path)
    model, history = train(xp, path, updates=0)
    assert history == figures
    for name, parameter in expected.parameters().items():
        np.testing.assert_array_equal(host(model.parameters()[name]), host(parameter))


def test_other_ranks_go_on_from_the_file_of_the_first_and_write_none(tmp_path):
    path, first, second = tmp_path / "p.safetensors", Serial(), Serial()
    second.rank, second.size = 1, 2
    pretrained(np, path, communicator=second)
    assert not path.exists()
    with pytest.raises(Stopped):
        pretrained(np, path, 4, communicator=first)
    before = path.read_bytes()
    with pytest.raises(Stopped):  # 3 of 18 updates are done, 15 are to come
        pretrained(np, path, 14, communicator=second)
    _, history = pretrained(np, path, 15, communicator=second)
    assert path.read_bytes() == before
    assert history == pretrained(np)[1]


def test_a_slow_rank_goes_on_from_the_same_epoch_as_the_one_that_writes(tmp_path, monkeypatch):
    path, epochs = tmp_path / "p.safetensors", []
    with pytest.raises(Stopped):
        pretrained(np, path, 4)

    class Slow(ProgressFile):
        def __init__(self, *given):
            if threading.current_thread() is slow:
                time.sleep(0.3)  # in which the other one trains several epochs, if it does not wait
            super().__init__(*given)
            epochs.append(sum(map(len, self.history)))

    def train(link):
        nonlocal slow
        if link.rank == 1:
            slow = threading.current_thread()
        return pretrained(np, path, communicator=link)[1]

    slow = None
    # by its name: the package has the function of that name as its attribute
    monkeypatch.setattr(importlib.import_module("gpugrad.boltzmann.pretrain"), "ProgressFile", Slow)
    assert results(2, train) == [pretrained(np)[1]] * 2
    assert epochs[:2] == [1, 1]


@TRAINERS
def test_another_run_s_file_is_refused(train, tmp_path):
    path = tmp_path / "progress.safetensors"
    train(np, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"made with batch_size 10, expected 5"):
        train(np, path, batch_size=5)
    assert path.read_bytes() == before


def test_other_data_and_other_labels_are_refused(tmp_path):
    path = tmp_path / "progress.safetensors"
    labelled(np, path)
    with pytest.raises(CheckpointError, match=r"made with labels crc32 .* expected crc32"):
        labelled(np, path, labels=1 - LABELS)
    model = BoltzmannMachine([BernoulliLayer(4), BernoulliLayer(3)], device="cpu")
    other = tmp_path / "other.safetensors"
    given = {"epochs": 1, "optimizer": SGD(), "checkpoint": other, "rng": Generator(0)}
    pretrain(model, V, **given)
    with pytest.raises(CheckpointError, match=r"made with data crc32 .* expected crc32"):
        pretrain(model, 1 - V, **given)


@TRAINERS
def test_a_damaged_file_is_refused_and_kept(train, tmp_path):
    path = tmp_path / "progress.safetensors"
    train(np, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-3] + b"abc"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            train(np, path)
        assert path.read_bytes() == damaged
