"""What may happen beside training: watching, logging, checkpoints, stopping.

A callback is an object with the methods of `Callback`, or a plain function `f(trainer, record)`
that is called after each epoch.
"""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpugrad.atomic_file import write_atomically
from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.checkpoint import save_checkpoint
from gpugrad.boltzmann.state import positive_int
from gpugrad.errors import ParameterError

if TYPE_CHECKING:
    from gpugrad.boltzmann.fit import Trainer

__all__ = [
    "Callback",
    "CheckpointWriter",
    "EarlyStopping",
    "JsonLines",
    "StopOnSignal",
    "as_callback",
]


class Callback:
    """Methods that do nothing; a subclass overrides those it needs."""

    def start(self, trainer: "Trainer") -> None:
        """Training begins, or goes on after a checkpoint was loaded."""

    def update(self, trainer: "Trainer") -> None:
        """The parameters have taken a step. To look at one here is to wait for the device."""

    def epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        """An epoch has ended and `record` was appended to the trainer's history."""

    def stop(self, trainer: "Trainer", error: BaseException | None) -> None:
        """Training ends: completed, stopped on request, or by an error about to be raised.

        That may be the error of another callback's `start`, before or after one's own was called.
        """


class _AfterEachEpoch(Callback):
    def __init__(self, function: Callable[[Any, dict[str, Any]], Any]) -> None:
        self.function = function

    def epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        self.function(trainer, record)


def as_callback(value: Any) -> Callback:
    """A callback as it is, a function of (trainer, record) as a callback after each epoch."""
    if isinstance(value, Callback):
        return value
    if callable(value):
        return _AfterEachEpoch(value)
    raise ParameterError(f"fit: callback is {value!r}, expected a Callback or a function")


class CheckpointWriter(Callback):
    """Save the whole state of training at the start, each so many seconds, and at a good end.

    After a divergence nothing is written: the file keeps the last state that was found good. Of
    several ranks the first one has the clock and writes; all take part.

    Parameters
    ----------
    path : str or path
    every_seconds : float
        At least 0; with 0 after each update.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(
        self,
        path: Any,
        every_seconds: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not every_seconds >= 0:
            raise ParameterError(
                f"CheckpointWriter: every_seconds is {every_seconds!r}, expected at least 0"
            )
        self.path, self.every_seconds, self.clock = Path(path), every_seconds, clock
        self._next = 0.0

    def start(self, trainer: "Trainer") -> None:
        if trainer.communicator.any(trainer.communicator.rank == 0 and not self.path.exists()):
            self.write(trainer)
        self._next = self.clock() + self.every_seconds

    def update(self, trainer: "Trainer") -> None:
        first = trainer.communicator.rank == 0
        if trainer.communicator.any(first and self.clock() >= self._next):
            self.write(trainer)

    def write(self, trainer: "Trainer") -> None:
        """Write now; all ranks call it."""
        trainer.check_finite()
        state = trainer.state_dict()
        if trainer.communicator.rank == 0:
            save_checkpoint(self.path, *state)
        self._next = self.clock() + self.every_seconds

    def stop(self, trainer: "Trainer", error: BaseException | None) -> None:
        # an exception may have left the parameters between two updates
        if error is None:
            self.write(trainer)


class EarlyStopping(Callback):
    """End training when an estimate of the likelihood has stopped rising.

    The estimate is made after each `every` epochs and put into the record of the epoch as
    "log_likelihood". After `patience` estimates in a row that do not exceed the best one by
    `min_gain`, training ends, and the machine takes back the parameters of the best one. All that
    it needs to go on after a resume is in the history and in the checkpoint. Callbacks that write
    the record come after it.

    Parameters
    ----------
    estimate : callable
        `estimate(model, rng) -> float`, higher is better, -inf for none; say
        `lambda model, rng: log_likelihood(model, held_out, ais(model, rng).log_z)`. Its generator
        depends on the seed and the epoch alone and does not disturb training.
    every : int
        Epochs between two estimates.
    patience : int
        Estimates without gain that are waited for.
    min_gain : float
        In the unit of the estimate, at least 0.
    restore_best : bool
        Take back the best parameters at the end, also where all epochs were completed.

    Attributes
    ----------
    best : float
        The best estimate so far; -inf before the first one.

    Raises
    ------
    ParameterError
        A setting out of range; in training, an estimate that is NaN or no number.
    """

    def __init__(
        self,
        estimate: Callable[[Any, Generator], float],
        *,
        every: int = 1,
        patience: int = 5,
        min_gain: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if not callable(estimate):
            raise ParameterError(
                f"EarlyStopping: estimate is {estimate!r}, expected a function of (model, rng)"
            )
        if not 0 <= min_gain < math.inf:
            raise ParameterError(
                f"EarlyStopping: min_gain is {min_gain!r}, expected a finite number of at least 0"
            )
        self.estimate, self.min_gain, self.restore_best = estimate, min_gain, restore_best
        self.every = positive_int("EarlyStopping", "every", every)
        self.patience = positive_int("EarlyStopping", "patience", patience)
        self.best, self.waited = -math.inf, 0

    KEEP = "best."

    def start(self, trainer: "Trainer") -> None:
        self.best, self.waited = -math.inf, 0
        for record in trainer.history:
            if "log_likelihood" in record:
                self._count(record["log_likelihood"])
        if self.waited >= self.patience:
            trainer.request_stop()

    def _count(self, value: float) -> bool:
        """Whether this estimate is the best one."""
        if value > self.best + (self.min_gain if self.best > -math.inf else 0.0):
            self.best, self.waited = value, 0
            return True
        self.waited += 1
        return False

    def epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        if record["epoch"] % self.every:
            return
        rng = trainer.rng.split(f"early stopping {record['epoch']}")
        found = self.estimate(trainer.model, rng)
        try:
            value = float(found)
        except (TypeError, ValueError):
            value = math.nan
        if value != value:
            raise ParameterError(
                f"EarlyStopping: the estimate after epoch {record['epoch']} is {found!r}, expected "
                "a number"
            )
        record["log_likelihood"] = value
        if self._count(value) and self.restore_best:
            for name, parameter in trainer.model.parameters().items():
                trainer.kept[self.KEEP + name] = parameter.copy()
        if self.waited >= self.patience:
            trainer.request_stop()

    def stop(self, trainer: "Trainer", error: BaseException | None) -> None:
        over = trainer.finished or self.waited >= self.patience
        if error is not None or not over or not self.restore_best:
            return
        with on(trainer.model.device):
            for name, parameter in trainer.model.parameters().items():
                best = trainer.kept.get(self.KEEP + name)
                if best is not None:
                    parameter[...] = to_device(best, trainer.model.device)


class JsonLines(Callback):
    """One line of JSON an epoch, of several ranks by the first.

    At the start the file is rewritten from the trainer's history, so that after a resume it holds
    neither torn lines nor epochs that are about to be repeated.

    Parameters
    ----------
    path : str or path
    """

    def __init__(self, path: Any) -> None:
        self.path = Path(path)

    def start(self, trainer: "Trainer") -> None:
        if trainer.communicator.rank == 0:
            write_atomically(self.path, b"".join(map(_line, trainer.history)))

    def epoch(self, trainer: "Trainer", record: dict[str, Any]) -> None:
        if trainer.communicator.rank:
            return
        # one write call on an appending descriptor: a kill leaves the line whole or absent
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, _line(record))
        finally:
            os.close(file)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


class StopOnSignal(Callback):
    """End training in good order, between two updates, when the process is asked to end.

    The first SIGINT (Ctrl-C), SIGTERM or SIGUSR1 lets the update in progress finish; a second one
    acts as if this callback were not there, but for SIGUSR1, which a scheduler and a launcher may
    both pass on. It is enough that one of several ranks is asked. Signals reach the main thread
    only: in another one nothing is installed.

    Attributes
    ----------
    signal : signal.Signals or None
        The signal that came, to this rank or, once training has ended, to the first that got one.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def start(self, trainer: "Trainer") -> None:
        self.signal = None
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: Any) -> None:
            if self.signal is None:
                self.signal = signal.Signals(number)
                trainer.request_stop()
                self._restore(signal.SIGINT, signal.SIGTERM)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, stop)

    def stop(self, trainer: "Trainer", error: BaseException | None) -> None:
        self._restore(*self._before)
        if error is None:
            came = trainer.communicator.exchange(self.signal)
            self.signal = next((number for number in came if number is not None), None)

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._before:
                signal.signal(number, self._before.pop(number))
