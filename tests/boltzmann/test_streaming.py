"""Data read piece by piece: every sample once an epoch, one order, bounded memory, named faults."""

import itertools
import sys
import tracemalloc

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.layers import GaussianLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.streaming import Stream, StreamedSamples, is_streamed, open_stream
from gpugrad.errors import CheckpointError, DataError, MissingExtraError, ParameterError

from .machines import device_like, host
from .trainers import StopAt

WIDTH = 7


def numbered(n):
    """Samples whose bits are their number."""
    return ((np.arange(n)[:, None] >> np.arange(WIDTH)) & 1).astype("uint8")


def numbers(rows):
    return (host(rows).astype(int) @ (1 << np.arange(WIDTH))).tolist()


def streamed(xp, n, block, blocks, seed=0, epochs=9, **settings):
    model = RBM(WIDTH, 2, device=device_like(xp), rng=Generator(0))
    source = Stream(numbered(n), block=block, blocks=blocks)
    return StreamedSamples(model, source, Generator(seed), epochs=epochs, **settings)


def epoch_of(xp, samples, epoch, batch, first=0):
    """Numbers of the samples in the order in which an epoch gives them, and as reported."""
    seen, told = [], []
    for start in range(first, samples.n_samples, batch):
        stop = min(start + batch, samples.n_samples)
        out = xp.zeros((stop - start, WIDTH), dtype="float32")
        told += host(samples.take(epoch, start, stop, out)).tolist()
        seen += numbers(out)
    return seen, told


SHAPES = [(100, 8, 3), (100, 100, 1), (5, 8, 3), (101, 10, 4), (96, 1, 96), (64, 8, 8)]


@pytest.mark.parametrize("n, block, blocks", SHAPES)
@pytest.mark.parametrize("batch", [1, 7, 60])
def test_each_sample_comes_once_an_epoch_in_a_new_order(n, block, blocks, batch):
    samples = streamed(np, n, block, blocks)
    orders = []
    for epoch in range(3):
        seen, told = epoch_of(np, samples, epoch, batch)
        assert seen == told and sorted(seen) == list(range(n))
        orders.append(seen)
    assert len({tuple(order) for order in orders}) == 3
    samples.close()


def test_blocks_are_shuffled_and_samples_within_windows():
    samples = streamed(np, 100, 10, 2)
    seen, _ = epoch_of(np, samples, 0, 5)
    windows = [seen[i : i + 20] for i in range(0, 100, 20)]
    blocks = [sorted({x // 10 for x in window}) for window in windows]
    assert all(len(b) == 2 for b in blocks)
    assert sorted(itertools.chain(*blocks)) == list(range(10))
    assert blocks != [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    # and not one block after the other
    assert any([x // 10 for x in w] != sorted(x // 10 for x in w) for w in windows)
    samples.close()


def test_each_epoch_puts_other_blocks_together():
    samples = streamed(np, 100, 10, 2)
    met = []
    for epoch in range(2):
        seen, _ = epoch_of(np, samples, epoch, 20)
        met.append({frozenset(x // 10 for x in seen[i : i + 20]) for i in range(0, 100, 20)})
    assert met[0] != met[1]
    samples.close()


def test_without_shuffling_samples_come_as_they_lie():
    samples = streamed(np, 50, 8, 2, shuffle=False)
    for epoch in range(2):
        assert epoch_of(np, samples, epoch, 6)[0] == list(range(50))
    samples.close()


def test_an_epoch_entered_in_the_middle_goes_on_with_the_same_samples(xp):
    whole, _ = epoch_of(xp, streamed(xp, 100, 8, 3), 4, 6)
    for first in (6, 48, 96):
        samples = streamed(xp, 100, 8, 3)
        epoch_of(xp, samples, 1, 6, first=60)
        assert epoch_of(xp, samples, 4, 6, first=first)[0] == whole[first:]
        samples.close()


def test_a_trainer_in_the_middle_of_an_epoch_forgets_it_for_that_of_a_checkpoint():
    source = Stream(numbered(100), block=8, blocks=3)
    undisturbed, other = trained(np, source), trained(np, source, seed=5)
    for trainer in (undisturbed, other):
        trainer.update()
    arrays, metadata = undisturbed.state_dict()
    other.load_state_dict({name: a.copy() for name, a in arrays.items()}, metadata)
    for trainer in (undisturbed, other):
        trainer.run()
    W = [trainer.model.weights[0].W() for trainer in (undisturbed, other)]
    np.testing.assert_array_equal(*W)


@pytest.mark.parametrize("block", [7, 100, 5000])
def test_the_samples_of_the_log_are_spread_evenly_whatever_the_blocks(block):
    data = np.random.default_rng(0).integers(0, 2, (3100, WIDTH)).astype("uint8")
    model = RBM(WIDTH, 2, device="cpu", rng=Generator(0))
    samples = StreamedSamples(model, Stream(data, block=block), Generator(0))
    np.testing.assert_array_equal(samples.watched(), data[::3][:1000])


@pytest.fixture
def files(tmp_path):
    """The same samples in an HDF5 and in an NPY file."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    data = numbered(100)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("group/samples", data=data, chunks=(16, WIDTH))
        file.create_dataset("labels", data=np.arange(100))
    np.save(tmp_path / "x.npy", data)
    return tmp_path / "x.h5", tmp_path / "x.npy", data


def trained(xp, data, seed=1, callbacks=(), **settings):
    rng = Generator(seed)
    model = RBM(WIDTH, 3, rng=rng, device=device_like(xp))
    given = {"epochs": 3, "batch_size": 12, "rng": rng, "callbacks": callbacks} | settings
    return Trainer(model, data, **given)


def test_hdf5_memory_map_and_array_are_trained_on_alike(xp, files):
    import h5py

    hdf5, npy, data = files
    machines = []
    with h5py.File(hdf5, "r") as file:
        for source in (
            open_stream(hdf5, block=16, blocks=2),
            open_stream(npy, block=16, blocks=2),
            Stream(file["group/samples"], block=16, blocks=2),
            Stream(data, block=16, blocks=2),
        ):
            trainer = trained(xp, source)
            trainer.run()
            machines.append(host(trainer.model.weights[0].W()))
        assert all(np.array_equal(W, machines[0]) for W in machines)
        # without shuffling a stream is an array
        kinds = [data, file["group/samples"], np.load(npy, mmap_mode="r")]
        assert [is_streamed(x) for x in kinds] == [False, True, True]
        machines = []
        for source in kinds:
            trainer = trained(xp, source, shuffle=False)
            trainer.run()
            machines.append(host(trainer.model.weights[0].W()))
    assert all(np.array_equal(W, machines[0]) for W in machines)


@pytest.mark.parametrize("stop", [1, 9, 13, 27])
def test_resumed_training_ends_in_the_same_bits(xp, stop):
    source = Stream(numbered(100), block=8, blocks=3)
    weight = np.arange(1.0, 101)
    undisturbed = trained(xp, source, sample_weight=weight)
    undisturbed.run()
    first = trained(xp, source, sample_weight=weight, callbacks=[StopAt(stop)])
    first.run()
    arrays, metadata = first.state_dict()
    second = trained(xp, source, seed=5, sample_weight=weight)
    second.load_state_dict({name: host(a).copy() for name, a in arrays.items()}, metadata)
    second.run()
    assert second.step == 27 and second.history[0]["step"] == 9
    for name, p in undisturbed.model.parameters().items():
        assert np.array_equal(host(p), host(second.model.parameters()[name]))


def test_weights_follow_the_samples():
    """All weight on three samples: the others are as good as not there."""
    data, weight = numbered(100), np.full(100, 1e-12)
    weight[[3, 50, 97]] = 1
    kept = np.bincount([3, 50, 97], minlength=100)
    found = []
    for source in (Stream(data, block=8, blocks=2), data):
        trainer = trained(np, source, sample_weight=weight, batch_size=100, epochs=400)
        trainer.run()
        found.append(trainer.samples.mean(trainer.sample_weight))
        v = trainer.phases.V[:100].mean(axis=0)
        # a hundred chains: five standard errors of 1/20 each
        assert np.abs(v - kept @ data / 3).max() < 0.25
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_memory_holds_two_windows_not_the_file(tmp_path):
    n, width, block, blocks = 40_000, 100, 200, 5
    np.save(tmp_path / "big.npy", np.zeros((n, width), "float32"))  # 16 MB
    model = RBM(width, 2, device="cpu")
    stream = open_stream(tmp_path / "big.npy", block=block, blocks=blocks)
    tracemalloc.start()
    samples = StreamedSamples(model, stream, Generator(0), epochs=2)
    out = np.empty((100, width), "float32")
    for first in range(0, n, 100):
        samples.take(0, first, first + 100, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    samples.close()
    window = block * blocks * width * 4
    # the watched thousand are as large as a window here
    assert peak < 4 * window and n * width * 4 == 40 * window


def test_the_next_window_is_read_while_this_one_is_used():
    import threading

    readers = []

    class Source:
        shape, dtype = (100, WIDTH), np.dtype("uint8")

        def __getitem__(self, rows):
            readers.append(threading.current_thread())
            return numbered(100)[rows]

    model = RBM(WIDTH, 2, device="cpu", rng=Generator(0))
    samples = StreamedSamples(model, Stream(Source(), block=10, blocks=2), Generator(0), epochs=1)
    readers.clear()
    epoch_of(np, samples, 0, 10)
    here = threading.current_thread()
    # the first window is waited for, the four others come from the reading thread
    assert [t is here for t in readers] == [True] * 2 + [False] * 8
    thread = readers[-1]
    samples.close()
    assert not thread.is_alive()


# ---- faults


def test_a_changed_sample_changes_the_fingerprint_wherever_it_lies():
    model = RBM(WIDTH, 2, device="cpu", rng=Generator(0))

    def fingerprint(data):
        return StreamedSamples(model, Stream(data, block=8), Generator(0)).fingerprint()

    expected = fingerprint(numbered(100))
    assert fingerprint(numbered(100)) == expected
    for i in (0, 50, 99):
        data = numbered(100)
        data[i, 3] ^= 1
        assert fingerprint(data) != expected
    assert fingerprint(numbered(100).astype(bool)) != expected  # of the same bytes


def test_a_source_that_gives_fewer_samples_than_asked_for_is_refused():
    class Short:
        shape, dtype = (100, WIDTH), np.dtype("uint8")

        def __getitem__(self, rows):
            return numbered(100)[rows.start : min(rows.stop, 61)]

    with pytest.raises(DataError, match=r"samples 60 to 69 have shape \(1, 7\), expected \(10, 7"):
        trained(np, Stream(Short(), block=10))


def test_what_is_no_stream_is_refused(tmp_path):
    for source, message in (
        (np.zeros(5), r"of shape \(5,\), expected \(samples, units\)"),
        (np.zeros((0, 5)), "no samples"),
        (np.zeros((2, 5), "S1"), "expected real numbers"),
        ([[0, 1]], "source is list of shape None"),
    ):
        with pytest.raises(DataError, match=message):
            Stream(source)
    with pytest.raises(ParameterError, match="block is 0"):
        Stream(np.zeros((2, 5)), block=0)
    (tmp_path / "x").write_bytes(b"hello")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    np.save(tmp_path / "objects.npy", np.array([[{}, []]], dtype=object), allow_pickle=True)
    for name, message in (
        ("x", "neither HDF5 nor NPY"),
        ("y", "no such file"),
        ("cut.npy", "damaged"),
        ("objects.npy", "Python objects, .*allow_pickle is off.* expected an array of numbers"),
    ):
        with pytest.raises(DataError, match=message):
            open_stream(tmp_path / name)


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(MissingExtraError, match=r"^open_stream: .*a\.h5: needs the package h5py"):
        open_stream(tmp_path / "a.h5")


def test_data_sets_that_are_not_there_are_named(files):
    hdf5, _, _ = files
    with pytest.raises(DataError, match=r"no array 'x' of two axes, it has \['group/samples'\]"):
        open_stream(hdf5, key="x")
    with pytest.raises(DataError, match="no array 'labels' of two axes") as first:
        open_stream(hdf5, key="labels")
    with pytest.raises(ParameterError, match="block is 0") as second:
        open_stream(hdf5, block=0)
    # a file that somebody still reads cannot be opened to be written
    pytest.importorskip("h5py").File(hdf5, "a").close()
    del first, second
    hdf5.write_bytes(hdf5.read_bytes()[:200])
    with pytest.raises(DataError, match="is damaged"):
        open_stream(hdf5)


def test_samples_that_units_cannot_take_are_named_by_number():
    data = numbered(100).astype("float32")
    data[73, 2] = np.nan
    with pytest.raises(DataError, match=r"NaN, first in sample 3, unit 2 \(in samples 70 to 79\)"):
        trained(np, Stream(data, block=10))
    data[73, 2] = 3
    with pytest.raises(DataError, match=r"bernoulli units .* \(in samples 70 to 79\)"):
        trained(np, Stream(data, block=10))
    with pytest.raises(ParameterError, match="missing is 'impute', expected 'error'"):
        trained(np, Stream(data), missing="impute")


def test_a_fault_of_the_disk_reaches_the_caller_with_the_samples():
    class Failing:
        shape, dtype = (100, WIDTH), np.dtype("uint8")
        broken = False

        def __getitem__(self, rows):
            if self.broken and rows.start >= 50:
                raise OSError("read error")
            return numbered(100)[rows]

    source = Failing()
    trainer = trained(np, Stream(source, block=10, blocks=2))
    source.broken = True
    with pytest.raises(DataError, match=r"samples \d+ to \d+ cannot be read \(read error\)"):
        trainer.run()


def test_a_stream_of_other_windows_has_another_order_and_is_refused():
    made = trained(np, Stream(numbered(100), block=8, blocks=3))
    arrays, metadata = made.state_dict()
    others = [Stream(numbered(100), block=b, blocks=n) for b, n in ((9, 3), (8, 4))]
    for other in (*others, numbered(100)):
        with pytest.raises(CheckpointError, match="the checkpoint was made with"):
            trained(np, other).load_state_dict(arrays, metadata)


def test_gaussian_units_are_streamed_too():
    data = np.random.default_rng(0).normal(3, 2, (200, WIDTH))
    layers = [GaussianLayer(WIDTH), GaussianLayer(2)]
    found = []
    for source in (Stream(data, block=16, blocks=2), data):
        model = BoltzmannMachine(layers, dtype="float64", device="cpu", rng=Generator(0))
        trainer = Trainer(model, source, epochs=1, rng=Generator(0))
        found.append(trainer.phases.offsets[0])
    np.testing.assert_allclose(found[0], data.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
