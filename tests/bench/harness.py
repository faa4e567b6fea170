"""Contestants timed side by side in one run, and tables that say on what.

A single timing says little on a shared machine: its clock drifts by more than the differences of
interest. So the contestants take turns, round by round, each round in another order, and what is
reported is the ratio of their minima (the least disturbed rounds) beside that of their medians.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

DISTRIBUTIONS = (
    "gpugrad", "numpy", "scipy", "scikit-learn", "mygrad", "autograd", "torch", "rbms",
    "cupy-cuda12x", "cupy-cuda13x", "jax",
)  # fmt: skip


class Timing(NamedTuple):
    """Seconds that one call took: the fastest round, the middle one, and how many there were."""

    minimum: float
    median: float
    rounds: int


def race(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    seconds_per_round: float = 0.05,
    warm_up: int = 1,
) -> dict[str, Timing]:
    """Time the contestants, taking turns.

    Parameters
    ----------
    contestants : mapping of name to callable
        Each is called without arguments and returns when its work is done: one that starts work
        on a GPU synchronises before it returns.
    rounds : int
        How often each has its turn.
    seconds_per_round : float
        In one turn a contestant is called as often as fits into this time, at least once.
    warm_up : int
        Untimed calls of each contestant before the first round.

    Returns
    -------
    dict of str to Timing
        In the order of `contestants`.
    """
    calls = {}
    for name, call in contestants.items():
        for _ in range(warm_up):
            call()
        calls[name] = _calls_that_fit(call, seconds_per_round)
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            call, repeat = contestants[name], range(calls[name])
            start = time.perf_counter()
            for _ in repeat:
                call()
            seconds[name].append((time.perf_counter() - start) / calls[name])
    return {name: Timing(min(s), statistics.median(s), rounds) for name, s in seconds.items()}


def _calls_that_fit(call: Callable[[], object], seconds: float) -> int:
    repeat = 1
    while True:
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds / 4 or elapsed > seconds:
            return max(1, round(repeat * seconds / elapsed))
        repeat *= 4


def readable(seconds: float) -> str:
    """Three figures and a unit: 0.00001234 -> '12.3 us'."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def table(title: str, timings: Mapping[str, Timing], *, against: str) -> str:
    """A Markdown table of the timings, with each one's ratio to the contestant `against`."""
    reference = timings[against]
    lines = [
        f"### {title}",
        "",
        f"| contestant | minimum | median | minimum / {against} | median / {against} |",
        "|---|---|---|---|---|",
    ]
    for name, timing in timings.items():
        cells = (
            name,
            readable(timing.minimum),
            readable(timing.median),
            f"{timing.minimum / reference.minimum:.3g}",
            f"{timing.median / reference.median:.3g}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def verdict(
    timings: Mapping[str, Timing], name: str, against: str | Iterable[str], at_most: float
) -> str:
    """One line: the ratio of the minima of `name` and `against` (several: their sum), and whether
    it is within the budget `at_most`."""
    others = [against] if isinstance(against, str) else list(against)
    ratio = timings[name].minimum / sum(timings[other].minimum for other in others)
    met = "met" if ratio <= at_most else "MISSED"
    return f"- {name} / ({' + '.join(others)}) = {ratio:.3g}, budget {at_most:.3g}: {met}\n"


def not_run(title: str, reason: str) -> str:
    """What stands in a report for a benchmark that this machine cannot run."""
    return f"### {title}\n\nnot run: {reason}\n"


def missing(*modules: str) -> str | None:
    """The reason why a contestant cannot take part, or None when all its modules are importable."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as reason:  # a broken install raises more than ImportError
            return f"{module} cannot be imported ({reason})"
    return None


def synchronised(call: Callable[[], object]) -> Callable[[], object]:
    """`call`, which returns when the GPU has done its work."""
    import cupy

    def run() -> None:
        call()
        cupy.cuda.runtime.deviceSynchronize()

    return run


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS and OpenMP thread in all contestants, torch's own pool included."""
    from threadpoolctl import threadpool_limits

    # loaded first: what is loaded within takes as many threads as it likes
    torch = importlib.import_module("torch") if missing("torch") is None else None
    before = torch.get_num_threads() if torch else None
    with threadpool_limits(limits=1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def processor() -> str:
    """The processor's name as the system gives it, else its architecture."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def gpu() -> str | None:
    """The name of the CUDA device that CuPy finds, or None."""
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except Exception:  # not installed, no driver, no device: for a report all the same
        return None


def conditions() -> str:
    """Markdown lines that say when, on what and with which versions the figures were measured."""
    versions = []
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    now = datetime.datetime.now(datetime.UTC)
    return "\n".join(
        [
            f"- date: {now:%Y-%m-%d %H:%M} UTC",
            f"- processor: {processor()}, {os.cpu_count()} cores",
            f"- GPU: {gpu() or 'none'}",
            f"- Python {platform.python_version()}, {', '.join(versions)}",
            "",
        ]
    )
