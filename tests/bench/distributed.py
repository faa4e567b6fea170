"""Updates by one and by two ranks, each with one BLAS thread: 784x500, PCD-1, 8 shards.

The ranks are started by mpirun, one contestant after the other, in turns; rank 0 times so many
updates between two moments at which all ranks are there. Without shards is what a process that is
alone does. The budget is for two cores with nothing else on them.

    python -m tests.bench.distributed
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import numpy as np

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.communicator import Serial
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.model import RBM
from tests.bench import harness
from tests.distributed.mpirun import ROOT, environment, line_of, reason_without_mpi

BATCHES = (100, 1000, 4000)
SECONDS, ROUNDS = 1.5, 5
EFFICIENCY = 1 / (0.75 * 2)


def updates(batch: int, shards: int | None) -> None:
    """Time updates on this rank; rank 0 prints the seconds of each."""
    from gpugrad.distributed import connect

    link = connect()
    images = (np.random.default_rng(0).random((4 * batch, 784)) < 0.2).astype("uint8")
    rng = Generator(1)
    trainer = Trainer(
        RBM(784, 500, rng=rng, device="cpu"),
        images,
        epochs=10**6,
        batch_size=batch,
        rng=rng,
        shards=shards,
        communicator=link,
    )
    ranks = link or Serial()

    def seconds(n: int) -> float:
        ranks.exchange(None)
        start = time.perf_counter()
        for _ in range(n):
            trainer.update()
        ranks.exchange(None)
        return (time.perf_counter() - start) / n

    seconds(2)
    n = max(1, round(SECONDS / ranks.exchange(seconds(2))[0]))
    found = seconds(n)
    if ranks.rank == 0:
        print(json.dumps(found))


def timed(size: int | None, batch: int, shards: int | None) -> float:
    """Seconds of an update on so many ranks; without mpirun where their number is None."""
    command = [sys.executable, "-m", "tests.bench.distributed", str(batch), str(shards or 0)]
    line = command if size is None else line_of((size, command))
    done = subprocess.run(line, env=environment(), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(json.loads(done.stdout))


def report() -> str:
    reason = reason_without_mpi()
    if reason:
        return harness.not_run("updates by ranks", reason)
    contestants = {
        "one process, no shards": (None, None),
        "one process, 8 shards": (None, 8),
        "1 rank": (1, 8),
        "2 ranks": (2, 8),
    }
    parts = []
    for batch in BATCHES:
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(ROUNDS):
            for name, (size, shards) in contestants.items():
                seconds[name].append(timed(size, batch, shards))
        timings = {
            name: harness.Timing(min(s), statistics.median(s), len(s))
            for name, s in seconds.items()
        }
        title = f"one update, batch and chains {batch}, 784x500, float32, one BLAS thread a rank"
        parts.append(harness.table(title, timings, against="1 rank"))
        if batch == max(BATCHES):
            parts.append(harness.verdict(timings, "2 ranks", "1 rank", EFFICIENCY))
    return "\n".join(parts)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        updates(int(sys.argv[1]), int(sys.argv[2]) or None)
    else:
        print(report())
