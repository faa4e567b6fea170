"""What a person sees while a machine is trained or measured: a live bar, or lines in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from gpugrad.boltzmann.callbacks import Callback

__all__ = ["TrainingProgress", "clock", "figures", "stage"]

FIGURES = {
    "pseudo_likelihood": ("pseudo-likelihood", 1, 8),
    "log_likelihood": ("log-likelihood", 1, 8),
    "reconstruction_error": ("reconstruction", 4, 0),
}
"""What a record of an epoch may have: its name for people, decimals, and width in a log."""


def figures(record: dict[str, Any], *, more: int = 0, width: bool = False) -> str:
    """{"pseudo_likelihood": -75.25, ...} -> 'pseudo-likelihood -75.2  reconstruction 0.0123'.

    Parameters
    ----------
    record : dict
        Of an epoch; what it does not have is left out.
    more : int
        Further decimals for likelihoods.
    width : bool
        Align lines of a log.
    """
    told = []
    for name, (label, decimals, wide) in FIGURES.items():
        if name in record:
            decimals += more if wide else 0
            told.append(f"{label} {record[name]:{wide if width else 0}.{decimals}f}")
    return "  ".join(told)


def clock(seconds: float) -> str:
    """75.2 -> '1:15'."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("left", ""), style="cyan")


class TrainingProgress(Callback):
    """Epoch, the figures that the machine has, samples per second and time left.

    On a terminal as a bar that is redrawn four times a second, elsewhere as one line an epoch. The
    speed is that of this run, over the last few seconds; nothing here looks at an array.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self.bar: Progress | None = None
        self._marks: list[tuple[float, int]] = []

    def start(self, trainer: Any) -> None:
        self._marks = [(time.monotonic(), trainer.step)]
        if not self.live:
            return
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[speed]}"),
            _TimeLeft(),
            console=self.console,
            refresh_per_second=4,
        )
        self.task = self.bar.add_task("", total=trainer.epochs * trainer.n_batches)
        self._show(trainer)
        self.bar.start()

    def _speed(self, trainer: Any) -> tuple[float, float]:
        """Samples a second, and seconds left, by the last ten seconds."""
        now = time.monotonic()
        while len(self._marks) > 2 and now - self._marks[1][0] > 10:
            self._marks.pop(0)
        before, step = self._marks[0]
        rate = (trainer.step - step) / max(now - before, 1e-9)
        left = (trainer.epochs * trainer.n_batches - trainer.step) / rate if rate else 0.0
        return rate * trainer.n_samples / trainer.n_batches, left

    def _show(self, trainer: Any) -> None:
        assert self.bar is not None
        last = trainer.history[-1] if trainer.history else None
        speed, left = self._speed(trainer)
        moving = trainer.step > self._marks[0][1]
        self.bar.update(
            self.task,
            completed=trainer.step,
            epoch=f"{min(trainer.epoch + 1, trainer.epochs)}/{trainer.epochs}",
            figures=figures(last) if last else "",
            speed=f"{speed:,.0f} samples/s" if moving else "",
            left=f"{clock(left)} left" if moving else "",
        )

    def update(self, trainer: Any) -> None:
        now = time.monotonic()
        if now - self._marks[-1][0] > 0.25:
            self._marks.append((now, trainer.step))
            if self.bar is not None:
                self._show(trainer)

    def epoch(self, trainer: Any, record: dict[str, Any]) -> None:
        if self.live:
            return
        speed, left = self._speed(trainer)
        epoch = f"epoch {record['epoch']:>{len(str(trainer.epochs))}}/{trainer.epochs}"
        told = [
            epoch,
            figures(record, more=1, width=True),
            f"rate {record['rate']:.4g}",
            f"{speed:,.0f} samples/s",
            f"{clock(left)} left",
        ]
        self.console.print("  ".join(filter(None, told)))

    def stop(self, trainer: Any, error: BaseException | None) -> None:
        if self.bar is not None:
            self._show(trainer)
            self.bar.stop()
            self.bar = None


@contextmanager
def stage(console: Console, text: str) -> Iterator[Any]:
    """A bar for one piece of work; gives a function progress(done, total). Nothing in a log."""
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda done, total: bar.update(task, completed=done, total=total)
