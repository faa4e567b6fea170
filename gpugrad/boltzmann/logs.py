"""Logs of training beside the lines of `callbacks.JsonLines`: TensorBoard, the spectrum of W.

    fit(model, data, callbacks=[SingularValues(), JsonLines("log.jsonl"), TensorBoard("runs/one")])

`read_log` reads back what `JsonLines` has written.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.callbacks import Callback
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.mosaic import filters_of, mosaic, rows_of, signed_colors
from gpugrad.boltzmann.state import positive_int
from gpugrad.errors import DataError, MissingExtraError, ParameterError

if TYPE_CHECKING:
    from gpugrad.boltzmann.fit import Trainer

__all__ = ["SingularValues", "TensorBoard", "read_log", "spectrum_of"]

LOG_NAME = "log.jsonl"
MOST_FILTERS = 100


# ---- reading


def read_log(log: Any) -> list[dict[str, Any]]:
    """The records of a training, a dict an epoch.

    Parameters
    ----------
    log : sequence of dict, Trainer or path
        A history as it is, whatever has one, a file of JSON lines, or the folder of a run of
        `gpugrad train`.

    Raises
    ------
    DataError
        No such file, a line that is no record, or no records at all.
    """
    history = getattr(log, "history", log)
    if isinstance(history, str | Path):
        history = _from_lines(Path(history))
    if not isinstance(history, Sequence) or not all(isinstance(r, Mapping) for r in history):
        raise DataError(
            f"read_log: log is {type(log).__name__}, expected a history, a Trainer or a path"
        )
    if not history:
        raise DataError("read_log: the log has no records, expected one or more")
    for i, record in enumerate(history):
        if "epoch" not in record:
            raise DataError(f"read_log: record {i} has no 'epoch', it has {sorted(record)}")
    return [dict(record) for record in history]


def _from_lines(path: Path) -> list[Any]:
    path = path / LOG_NAME if path.is_dir() else path
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"read_log: {path}: {reason}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise DataError(f"read_log: {path}: line {number} is no JSON object, expected a record")
        found.append(record)
    return found


# ---- the spectrum of W


def spectrum_of(function: str, source: Any) -> list[tuple[np.ndarray, float]]:
    """Singular values of each weight matrix, and the edge of a random one.

    Parameters
    ----------
    function : str
        The name that messages carry.
    source : BoltzmannMachine, or array (rows, columns)

    Returns
    -------
    list of (numpy.ndarray, float)
        Values in falling order, as float64; s (sqrt(rows) + sqrt(columns)), s^2 the mean square
        of the entries.
    """
    machine = isinstance(source, BoltzmannMachine)
    matrices = [w.W() for w in source.weights] if machine else [source]
    if not matrices:
        raise ParameterError(f"{function}: {source!r} has no weight matrix, expected two layers")
    found = []
    for matrix in matrices:
        W = rows_of(function, "W", matrix)
        if not np.isfinite(W).all():
            raise DataError(f"{function}: W has NaN or infinite values, expected finite ones")
        edge = math.sqrt(np.mean(W * W)) * (math.sqrt(W.shape[0]) + math.sqrt(W.shape[1]))
        found.append((np.linalg.svd(W, compute_uv=False), edge))
    return found


class SingularValues(Callback):
    """Put the largest singular values of each weight matrix into the record of an epoch.

    As "spectrum.0", ...: {"values": [...], "edge": where those of a random matrix of the same mean
    square end}. `plots.spectrum_along` draws them. Callbacks that write the record come after it.

    Parameters
    ----------
    largest : int
        How many of them.
    every : int
        Epochs between two records. Each waits for the device and computes on the host: 0.1 s for
        784x500.

    Raises
    ------
    ParameterError
        A setting out of range; when training starts, a machine without weight matrices.
    """

    def __init__(self, largest: int = 16, *, every: int = 1) -> None:
        self.largest = positive_int("SingularValues", "largest", largest)
        self.every = positive_int("SingularValues", "every", every)

    def start(self, trainer: "Trainer") -> None:
        if not getattr(trainer.model, "weights", None):
            raise ParameterError(
                f"SingularValues: {trainer.model!r} has no weight matrix, expected a "
                "BoltzmannMachine of two or more layers"
            )

    def epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        if record["epoch"] % self.every:
            return
        for i, (values, edge) in enumerate(spectrum_of("SingularValues", trainer.model)):
            record[f"spectrum.{i}"] = {"values": values[: self.largest].tolist(), "edge": edge}


# ---- TensorBoard


class TensorBoard(Callback):
    """Write the record of each epoch as scalars that TensorBoard shows.

    Needs tensorboardX (extra ``tensorboard``), which writes the files without TensorBoard itself.
    After a resume, epochs that are about to be repeated are withdrawn.

    Parameters
    ----------
    folder : str or path
        `tensorboard --logdir` of it, or of a folder above it, shows the run.
    details_every : int
        Epochs between two histograms of each parameter with a picture of the filters, for which the
        device is waited for; 0 for none.
    shape : tuple of int, optional
        Rows and columns of the visible units, for that picture.

    Raises
    ------
    MissingExtraError
        tensorboardX is not installed.
    ParameterError
        `details_every` is negative.
    """

    def __init__(
        self, folder: Any, *, details_every: int = 0, shape: tuple[int, int] | None = None
    ) -> None:
        if details_every != 0:
            positive_int("TensorBoard", "details_every", details_every)
        try:
            import tensorboardX

            if details_every:
                import PIL  # noqa: F401 (by which tensorboardX writes pictures)
        except ImportError as error:
            raise MissingExtraError(
                f'TensorBoard: needs the package {error.name}: pip install "gpugrad[tensorboard]"'
            ) from error
        self.folder, self.details_every, self.shape = Path(folder), details_every, shape
        self._library: Any = tensorboardX
        self._writer: Any = None

    def start(self, trainer: "Trainer") -> None:
        if trainer.communicator.rank:
            return  # the first of several ranks writes
        self._writer = self._library.SummaryWriter(
            str(self.folder),
            purge_step=len(trainer.history) + 1,
            # its name has but the second: a run begun in the same one would replace it
            filename_suffix=f".{time.time_ns()}",
        )
        if not trainer.history and self.details_every:
            self._details(trainer.model, 0)

    def epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        if self._writer is None:
            return
        step = record["epoch"]
        for name, value in _numbers(record):
            self._writer.add_scalar(name, value, step)
        if self.details_every and step % self.details_every == 0:
            self._details(trainer.model, step)
        self._writer.flush()

    def stop(self, trainer: "Trainer", error: BaseException | None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _details(self, model: Any, step: int) -> None:
        for name, array in model.parameters().items():
            self._writer.add_histogram(name, asnumpy(array).astype("float64"), step)
        if isinstance(model, BoltzmannMachine):
            images, shape, _ = filters_of("TensorBoard", model, 1, self.shape)
            images = images[:MOST_FILTERS]
            canvas = mosaic(images, shape, math.ceil(math.sqrt(len(images))))
            self._writer.add_image("filters", signed_colors(canvas), step, dataformats="HWC")


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a record but the epoch, those inside others by a path: "spectrum.0/edge"."""
    for name, value in record.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}/")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _numbers({str(i): x for i, x in enumerate(value)}, f"{path}/")
        elif isinstance(value, int | float) and path != "epoch":
            yield path, float(value)
