"""Parallel tempering and parallel trajectory tempering beside plain chains of the same number.

A machine of 784x500 units, 10 rungs of 100 chains against 1,000 Gibbs chains, ten sweeps a call.
What an exchange costs is the free energies on both sides of it; along a trajectory also the fields
that a state has under its neighbour, one product in three.

    python -m tests.bench.tempering
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.tempering import parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering
from tests.bench import harness

VISIBLE, HIDDEN = 784, 500
RUNGS, CHAINS, SWEEPS = 10, 100, 10
BUDGETS = {10: 1.2, 1: 1.7}  # by sweeps from one round of exchanges to the next


def machine(scale: float = 1.0) -> Any:
    model = RBM(VISIBLE, HIDDEN, rng=Generator(1), device="cpu")
    model.set_parameters({"weights.0.matrix": 5 * scale * model.weights[0].W()})
    return model


def advancing(step: Any, model: Any, state: Any) -> Callable[[], object]:
    rng, held = Generator(2), {"state": state}

    def run() -> None:
        held["state"], _ = step(rng, model, held["state"])

    return run


def contestants(swap_every: int) -> dict[str, Callable[[], object]]:
    model, rng = machine(), Generator(3)
    plain = gibbs(SWEEPS, donate=True)
    tempered = parallel_tempering(
        np.linspace(0.5, 1, RUNGS), k=SWEEPS, swap_every=swap_every, donate=True
    )
    past = [machine(scale) for scale in np.linspace(0.5, 0.95, RUNGS - 2)]
    trajectory = parallel_trajectory_tempering(
        k=SWEEPS, swap_every=swap_every, threshold=None, machines=past, donate=True
    )
    return {
        "Gibbs": advancing(plain, model, model.random_state(RUNGS * CHAINS, rng=rng)),
        "parallel tempering": advancing(tempered, model, tempered.start(rng, model, CHAINS)),
        "trajectory tempering": advancing(trajectory, model, trajectory.start(rng, model, CHAINS)),
    }


def report(rounds: int = 15) -> str:
    parts = []
    for swap_every, budget in BUDGETS.items():
        timings = harness.race(contestants(swap_every), rounds=rounds)
        every = "each sweep" if swap_every == 1 else f"every {swap_every} sweeps"
        title = (
            f"{RUNGS} rungs of {CHAINS} chains, {VISIBLE}x{HIDDEN}, {SWEEPS} sweeps, float32, "
            f"exchanges {every}"
        )
        parts.append(harness.table(title, timings, against="Gibbs"))
        for name in ("parallel tempering", "trajectory tempering"):
            parts.append(harness.verdict(timings, name, "Gibbs", budget))
    return "\n".join(parts)


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
