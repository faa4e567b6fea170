"""TAP updates of a 784x500 machine, beside the products that they cannot do without.

An update of one layer is two products, of means with W and of variances with W * W, and what
follows from them; the floor is the two products with W * W already there. The third order has a
third product. On a GPU the kernel reads W once where the floor reads both matrices.

    python -m tests.bench.tap
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.tap_sweeps import TapSweeps
from gpugrad.primitives.tap import cumulants
from tests.bench import harness

VISIBLE, HIDDEN, SEEDS = 784, 500, 100
BUDGET = 1.5


def sweeps(device: str, order: int) -> TapSweeps:
    model = RBM(VISIBLE, HIDDEN, rng=Generator(1), device=device)
    draw = np.random.default_rng(2)
    units = [
        to_device(draw.uniform(0, 1, (SEEDS, n)).astype(np.float32), device)
        for n in (VISIBLE, HIDDEN)
    ]
    return TapSweeps(model, units, order=order)


def products(device: str, order: int) -> Callable[[], object]:
    """Both directions: what a sweep over the two layers multiplies."""
    moving = sweeps(device, order)
    W = moving.model.weights[0].W()
    xp: Any = get_array_module(W)
    powers = [W, W * W, W * W * W][:order]
    lower, upper = (cumulants("bernoulli", m, order) for m in moving.units)
    up, down = (xp.empty((SEEDS, n), np.float32) for n in (HIDDEN, VISIBLE))

    def run() -> None:
        for power, below, above in zip(powers, lower, upper, strict=True):
            xp.matmul(below, power, out=up)
            xp.matmul(above, power.T, out=down)

    return run


def sweep(device: str, order: int) -> Callable[[], object]:
    moving = sweeps(device, order)
    return lambda: moving.step(0.5)


def descent(device: str, order: int) -> Callable[[], object]:
    moving = sweeps(device, order)
    xp: Any = get_array_module(moving.units[0])
    own = [xp.log(m) - xp.log1p(-m) for m in moving.units]
    return lambda: moving.descend(own)


def compared(device: str) -> str:
    finished = harness.synchronised if device == "cuda" else (lambda call: call)
    parts = []
    for order in (2, 3):
        floor = f"{2 * order} products"
        contestants = {
            floor: products(device, order),
            "sweep": sweep(device, order),
            "descent": descent(device, order),
        }
        timings = harness.race(
            {n: finished(c) for n, c in contestants.items()}, rounds=40, seconds_per_round=0.01
        )
        title = f"TAP sweep, {device}, {VISIBLE}x{HIDDEN}, {SEEDS} seeds, float32, order {order}"
        parts.append(harness.table(title, timings, against=floor))
        if order == 2:
            parts.append(harness.verdict(timings, "sweep", floor, BUDGET))
    return "\n".join(parts)


def report() -> str:
    gpu = harness.not_run(f"TAP sweep on a GPU, {VISIBLE}x{HIDDEN}", "no GPU")
    if harness.gpu() is not None:
        gpu = compared("cuda")
    return "\n".join([compared("cpu"), gpu])


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
