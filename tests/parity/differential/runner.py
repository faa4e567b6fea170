"""Running a program under both libraries, line by line, until they differ."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import re
import warnings
from collections import Counter
from typing import Any, NamedTuple

import mygrad as mg
import numpy as np

import gpugrad as gg
from tests.parity.differential.draw import Draw
from tests.parity.differential.lines import Line, draw_line
from tests.parity.differential.mygrad_side import Mygrad
from tests.parity.differential.state import difference, observe, same_answer

__all__ = ["Failure", "run_lines", "run_seed", "shrink"]

LENGTH = 22
TOLERANCE = {"float16": 2e-2, "float32": 1e-4}  # and of all that is computed from them
OUR_ERRORS = {
    name: getattr(gg, name) for name in ("InvalidBackprop", "InvalidGradient", "DisconnectedView")
}


class Failure(NamedTuple):
    """Where two runs of a program differ first."""

    lines: list[Line]
    what: str

    def __str__(self) -> str:
        program = "\n".join(f"    {line.source}" for line in self.lines)
        return f"{self.what}\nafter the program\n{program}"


def _fill(t: Any) -> Any:
    t.data[...] = 1.0
    return t


class Ours:
    """gpugrad, with the helpers that do nothing here."""

    def __init__(self) -> None:
        self.env: dict[str, Any] = {
            "m": gg,
            "deepcopy": copy.deepcopy,
            "pickled": lambda t: pickle.loads(pickle.dumps(t)),
            "scalar": lambda number, *beside: number,
            "masked": lambda f, *x, **options: f(*x, **options),
            "astype": lambda t, *args, **options: t.astype(*args, **options),
            **COMMON,
        }


COMMON = {
    "np": np,
    "gc": gc,
    "copy": copy.copy,
    "fill": _fill,
}


def execute(line: Line, env: dict[str, Any]) -> Exception | None:
    env.pop("answer", None)
    try:
        exec(compile(line.source, "<program>", "exec"), env)
    except Exception as error:
        # the frames in the traceback keep graphs alive
        return error.with_traceback(None)
    return None


class Run:
    """A program under way."""

    def __init__(self, watched: bool, counts: Counter[str]) -> None:
        self.theirs, self.ours = Mygrad(COMMON), Ours()
        self.watched, self.counts = watched, counts
        self.lines: list[Line] = []
        self.tolerance = 1e-9

    def step(self, line: Line) -> str | None:
        """Run one more line; what differs, or None."""
        self.lines.append(line)
        before = {n: t._vertex for n, t in self.ours.env.items() if isinstance(t, gg.Tensor)}
        ours = execute(line, self.ours.env)
        after = self.ours.env
        renewed = {n for n, v in before.items() if getattr(after.get(n), "_vertex", v) is not v}
        del before  # it would keep what the line deleted
        if isinstance(ours, gg.InvalidBackprop) and self.theirs.is_cut(line):
            self.counts["difference: cleared graph"] += 1
            self.counts["error: InvalidBackprop"] += 1
            return None
        self.theirs.prepare(line, ours is not None, renewed)
        keeping = self.theirs.keeping_gradients(line, ours is not None)
        with keeping, self.theirs.freeing(line, ours is None):
            theirs = execute(line, self.theirs.env)
        theirs = self.theirs.refuse_integers(line, theirs, ours)
        self.counts.update(line.tags)
        if theirs is not None or ours is not None:
            self.counts[f"error: {type(theirs).__name__}"] += 1
            expected = OUR_ERRORS.get(type(theirs).__name__, type(theirs))
            if isinstance(theirs, ZeroDivisionError) and isinstance(ours, ValueError):
                self.counts["difference: division by zero"] += 1
            elif theirs is None or not isinstance(ours, expected):
                return f"mygrad: {theirs!r}, gpugrad: {ours!r}"
        self.theirs.note(line, theirs)
        for t in self.theirs.env.values():
            if isinstance(t, mg.Tensor | np.ndarray):
                self.tolerance = max(self.tolerance, TOLERANCE.get(t.dtype.name, 0.0))
        answers = [e.get("answer") for e in (self.theirs.env, self.ours.env)]
        if not same_answer(*answers, self.tolerance):
            return f"answers: mygrad {answers[0]!r}, gpugrad {answers[1]!r}"
        return self.compare() if self.watched else None

    def compare(self) -> str | None:
        found = self._compare()
        if found:  # mygrad leaves cycles, which keep arrays protected
            gc.collect()
            found = self._compare()
        return found

    def _compare(self) -> str | None:
        theirs = observe(self.theirs.env, mg.Tensor, self.theirs.grad)
        ours = observe(self.ours.env, gg.Tensor, lambda t: t.grad)
        for what, a, b in difference(theirs, ours, self.tolerance):
            reason = self.theirs.excuse(what, a, b, self.ours.env)
            if reason is None:
                return f"{what}: mygrad {a!r}, gpugrad {b!r}"
            self.counts[f"difference: {reason}"] += 1
        return None


def _quietly(f: Any, *args: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return f(*args)


def run_seed(seed: int, counts: Counter[str]) -> Failure | None:
    return _quietly(_run_seed, seed, counts)


def _run_seed(seed: int, counts: Counter[str]) -> Failure | None:
    rng = random.Random(seed)
    unguarded = seed % 5 == 4
    run = Run(watched=seed % 3 > 0, counts=counts)
    for _ in range(LENGTH):
        what = run.step(draw_line(Draw(rng, run.theirs.env, mg.Tensor), unguarded))
        if what:
            return Failure(run.lines, what)
    what = run.compare()
    counts.update(run.theirs.counts)
    return Failure(run.lines, what) if what else None


def run_lines(lines: list[Line], watched: bool) -> Failure | None:
    run = Run(watched, Counter())
    for line in lines:
        what = run.step(line)
        if what:
            return Failure(run.lines, what)
    what = run.compare()
    return Failure(lines, what) if what else None


def _kind(what: str) -> str:
    return re.sub(r"[\d.]+", "", what)[:40]


def shrink(failure: Failure, watched: bool) -> Failure:
    """A shorter program that fails: lines are left out while any can be."""
    return _quietly(_shrink, failure, watched)


def _shrink(failure: Failure, watched: bool) -> Failure:
    smaller = True
    while smaller:
        smaller = False
        for i in reversed(range(len(failure.lines))):
            found = run_lines(failure.lines[:i] + failure.lines[i + 1 :], watched)
            same = found is not None and _kind(found.what) == _kind(failure.what)
            if same and len(found.lines) < len(failure.lines):
                failure, smaller = found, True
                break
    return failure
