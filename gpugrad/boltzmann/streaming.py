"""Training on data that do not fit in memory: HDF5 data sets, memory maps, anything read by slices.

The samples are cut into blocks of consecutive ones, which is how a disk likes to be read. In each
epoch the blocks are taken in a random order, some at a time (a window), and the samples of a window
are shuffled:

    file      [0 1 2 3][4 5 6 7][8 9 . .][. . . .][. . . .]      blocks of 4
    order      2 0 | 4 1 | 3                                     windows of 2 blocks
    batches    samples of blocks 2 and 0 mixed, then of 4 and 1, ...

While one window is trained on, a thread reads the next one. Two windows are in memory, however
large the file is. The order is a function of the seed and the epoch alone, so that a run that is
continued in the middle of an epoch sees the samples that an undisturbed one would see.
"""

import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.datasets import HDF5_MAGIC, NPY_MAGIC, h5py_for, refuse_objects
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import positive_int
from gpugrad.boltzmann.training_data import WATCHED_SAMPLES, check_block
from gpugrad.errors import DataError, ParameterError

__all__ = ["Stream", "StreamedSamples", "is_streamed", "open_stream"]


class Stream:
    """Samples that stay where they are and are read in blocks.

    Parameters
    ----------
    source : h5py.Dataset, numpy.memmap, or any array-like that is read by slices
        (num_samples, num_visible); `source[a:b]` gives an array.
    block : int
        Consecutive samples read at a time.
    blocks : int
        Blocks of a window, within which samples are shuffled. Memory holds
        2 x block x blocks samples in the dtype of the source.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.boltzmann.streaming import Stream
    >>> Stream(np.zeros((5000, 784), "uint8"), block=512, blocks=4)
    Stream(5000 samples of 784 uint8, windows of 4 x 512)
    """

    def __init__(self, source: Any, *, block: int = 1024, blocks: int = 16) -> None:
        shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
        if shape is None or dtype is None or len(shape) != 2:
            raise DataError(
                f"Stream: source is {type(source).__name__} of shape {shape}, expected "
                "(samples, units)"
            )
        if np.dtype(dtype).kind not in "biuf":
            raise DataError(f"Stream: source has dtype {dtype}, expected real numbers")
        if not shape[0]:
            raise DataError(f"Stream: source has no samples (shape {tuple(shape)})")
        self.source, self.shape, self.dtype = source, tuple(shape), np.dtype(dtype)
        self.block = positive_int("Stream", "block", block)
        self.blocks = positive_int("Stream", "blocks", blocks)

    def __repr__(self) -> str:
        n, width = self.shape
        return (
            f"Stream({n} samples of {width} {self.dtype}, windows of {self.blocks} x {self.block})"
        )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, on the host.

        Raises
        ------
        DataError
            The source cannot be read, or gives another shape.
        """
        try:
            rows = np.asarray(self.source[start:stop])
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"fit: samples {start} to {stop - 1} cannot be read ({error})"
            ) from error
        if rows.shape != (stop - start, self.shape[1]):
            raise DataError(
                f"fit: samples {start} to {stop - 1} have shape {rows.shape}, expected "
                f"({stop - start}, {self.shape[1]})"
            )
        return rows


def open_stream(path: Any, *, key: str | None = None, **settings: Any) -> Stream:
    """A stream from an HDF5 or an NPY file.

    Parameters
    ----------
    path : str or path
    key : str, optional
        Which data set of an HDF5 file; the first that has two axes if None.
    **settings
        block, blocks: what `Stream` takes.

    Raises
    ------
    DataError
        No such file, one of another kind, or no such data set.
    MissingExtraError
        An HDF5 file, and h5py is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"open_stream: {path}: no such file")
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(NPY_MAGIC):
        try:
            return Stream(np.load(path, mmap_mode="r", allow_pickle=False), **settings)
        except (ValueError, OSError, EOFError) as error:
            if isinstance(error, DataError | ParameterError):
                raise
            refuse_objects("open_stream", path, error)
            raise DataError(f"open_stream: {path} is damaged ({error})") from error
    if head != HDF5_MAGIC:
        raise DataError(f"open_stream: {path} is neither HDF5 nor NPY")
    h5py = h5py_for(f"open_stream: {path}")
    try:
        opened = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"open_stream: {path} is damaged ({error})") from error
    found: dict[str, Any] = {}
    opened.visititems(
        lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None
    )
    names = [name for name, item in found.items() if item.ndim == 2]
    wanted = names[0] if key is None and names else (key or "").strip("/")
    try:
        if wanted not in names:
            raise DataError(f"open_stream: {path} has no array {key!r} of two axes, it has {names}")
        return Stream(found[wanted], **settings)
    except BaseException:
        opened.close()
        raise


def is_streamed(data: Any) -> bool:
    """Whether `fit` reads such data piece by piece: streams, memory maps, HDF5 data sets."""
    return isinstance(data, Stream | np.memmap) or type(data).__module__.startswith("h5py")


class StreamedSamples:
    """What `training_data.Samples` is for an array, for a stream.

    All samples are read once at the start: checked, summed for their mean, and given a checksum
    that a checkpoint keeps.

    Parameters
    ----------
    model : BoltzmannMachine
    data : Stream, or what `Stream` takes
    rng : Generator
    shuffle : bool
    epochs : int
        After the last one nothing is read ahead.
    sample_weight : numpy.ndarray (num_samples,), optional
        For the mean.
    drawn : bool
        As of `Samples`.

    Raises
    ------
    DataError
        Samples that the units cannot take; the message has their numbers.
    """

    mask = None

    def __init__(
        self,
        model: BoltzmannMachine,
        data: Any,
        rng: Generator,
        *,
        shuffle: bool = True,
        epochs: int = 1,
        sample_weight: Any = None,
        drawn: bool = False,
    ) -> None:
        self.model, self.rng, self.shuffle, self.epochs = model, rng, bool(shuffle), epochs
        self.drawn = drawn
        self.values = data if isinstance(data, Stream) else Stream(data)
        self.n_samples = self.values.shape[0]
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: tuple[tuple[int, int], Future[Any]] | None = None
        self._epoch: int | None = None
        self._window: tuple[int, Any, Any] | None = None
        self._scan(sample_weight)

    def _scan(self, sample_weight: Any) -> None:
        stream, model = self.values, self.model
        stride = max(1, self.n_samples // WATCHED_SAMPLES)
        total, check, kept = 0.0, 0, []
        for start in range(0, self.n_samples, stream.block):
            stop = min(start + stream.block, self.n_samples)
            rows = stream.read(start, stop)
            try:
                check_block(model, rows, drawn=self.drawn)
            except DataError as error:
                raise DataError(f"{error} (in samples {start} to {stop - 1})") from None
            check = zlib.crc32(rows.tobytes(), check)
            weight = np.ones(stop - start) if sample_weight is None else sample_weight[start:stop]
            total = total + weight @ rows.astype("float64")
            kept.append(rows[-start % stride :: stride])
        norm = self.n_samples if sample_weight is None else sample_weight.sum()
        self._mean = to_device((total / norm).astype(model.dtype), model.device)
        watched = np.concatenate(kept)[:WATCHED_SAMPLES].astype(model.dtype)
        self._watched = to_device(watched, model.device)
        self._fingerprint = {
            "shape": list(stream.shape),
            "dtype": str(stream.dtype),
            "crc32": check,
        }

    def mean(self, sample_weight: Any = None) -> Any:
        """Mean of the visible units, with the weights that were given at the start."""
        return self._mean

    def watched(self) -> Any:
        """Samples for the figures of the log, in the model's dtype; about 1,000 of them."""
        return self._watched

    # ---- batches

    def take(self, epoch: int, first: int, stop: int, out: Any) -> Any:
        """Write the samples `first` to `stop` of an epoch's order into `out`, (n, num_visible).

        Returns
        -------
        array of int (n,)
            Which samples these are.
        """
        if self._epoch != epoch:
            self._plan(epoch)
        picked = []
        at = first
        while at < stop:
            number = int(np.searchsorted(self._starts, at, side="right")) - 1
            rows, index = self._rows(number)
            begin = at - self._starts[number]
            end = min(stop - self._starts[number], len(rows))
            out[at - first : at - first + end - begin] = rows[begin:end]
            picked.append(index[begin:end])
            del rows  # not to be kept while the next window is waited for
            at += end - begin
        return picked[0] if len(picked) == 1 else get_array_module(out).concatenate(picked)

    def _order_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Blocks in the order of an epoch, and the place where each window begins, and the end."""
        stream = self.values
        count = -(-self.n_samples // stream.block)
        order = np.arange(count)
        if self.shuffle:
            order = self.rng.split(f"epoch {epoch}").permutation(count)
        sizes = np.minimum((order + 1) * stream.block, self.n_samples) - order * stream.block
        ends = np.concatenate([[0], np.cumsum(sizes)])
        return order, np.append(ends[: count : stream.blocks], self.n_samples)

    def _plan(self, epoch: int) -> None:
        self._epoch, self._window = epoch, None
        self._order, self._starts = self._order_of(epoch)

    def _rows(self, number: int) -> tuple[Any, Any]:
        """Samples of a window on the device, shuffled, and their numbers; starts to read ahead."""
        if self._window is not None and self._window[0] == number:
            return self._window[1:]
        assert self._epoch is not None
        key = (self._epoch, number)
        self._window = None  # before the next one is waited for: two windows, not three
        if self._ahead is not None and self._ahead[0] == key:
            rows, index = self._ahead[1].result()
        else:
            rows, index = self._read(key)
        device = self.model.device
        self._window = number, to_device(rows, device), to_device(index, device)
        following = (self._epoch, number + 1)
        if number + 2 == len(self._starts):
            following = (self._epoch + 1, 0)
        self._ahead = None
        if following[0] < self.epochs:
            if self._reader is None:
                self._reader = ThreadPoolExecutor(1, thread_name_prefix="gpugrad-stream")
            self._ahead = following, self._reader.submit(self._read, following)
        return self._window[1:]

    def _read(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The samples of window `number` of an epoch, shuffled, and their numbers."""
        epoch, number = key
        stream = self.values
        order, starts = self._order_of(epoch)
        blocks = order[number * stream.blocks : (number + 1) * stream.blocks]
        n = int(starts[number + 1] - starts[number])
        place = np.arange(n)
        if self.shuffle:
            place = self.rng.split(f"epoch {epoch} window {number}").permutation(n)
        rows, index = np.empty((n, stream.shape[1]), stream.dtype), np.empty(n, "int64")
        at = 0
        for block in blocks.tolist():
            start, stop = block * stream.block, min((block + 1) * stream.block, self.n_samples)
            here = place[at : at + stop - start]
            # straight to their shuffled places: no second copy of the window
            rows[here] = stream.read(start, stop)
            index[here] = np.arange(start, stop)
            at += stop - start
        return rows, index

    # ---- what a checkpoint holds

    def fingerprint(self) -> dict[str, Any]:
        """Shape, dtype and checksum of the data, as read at the start."""
        return self._fingerprint

    def settings(self) -> dict[str, Any]:
        """What else must agree between a checkpoint and the run that goes on from it."""
        stream = {"block": self.values.block, "blocks": self.values.blocks}
        return {"missing": None, "stream": stream}

    def arrays(self) -> dict[str, Any]:
        """None: the position in the data is part of the trainer's."""
        return {}

    def check_arrays(self, arrays: Mapping[str, Any]) -> None:
        """There are none to check."""

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Forget what was read: the order is made anew from the generator's key."""
        self.close()

    def close(self) -> None:
        """End the reading thread; it is started again when it is needed."""
        self._epoch = self._window = self._ahead = None
        if self._reader is not None:
            self._reader.shutdown(wait=True, cancel_futures=True)
            self._reader = None
