"""Annealed importance sampling of a 784x500 machine, beside the products it cannot do without.

500 chains; on the CPU the budget is 1.6 times the products of a run at 1,000 temperatures: at each
of them `v @ W` and `h @ W.T` of all 500 chains at once, by NumPy on all its threads, and nothing
else. The contestants take turns with a twentieth of the temperatures each, and the base machine's
making is timed with the annealing. On a GPU the same beside the products there.

    python -m tests.bench.ais
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpugrad.backend.array_module import get_array_module, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.partition import ais
from tests.bench import harness

VISIBLE, HIDDEN, CHAINS = 784, 500, 500
STEPS = 50
BUDGET = 1.6


def machine(device: str) -> tuple[BoltzmannMachine, object]:
    """Weights and fields of the size that training on images leaves, and data for the base."""
    rng = Generator(1)
    model = RBM(VISIBLE, HIDDEN, rng=rng, device=device)
    model.set_parameters(
        {
            "weights.0.matrix": rng.normal((VISIBLE, HIDDEN), std=0.1, device=device),
            "layers.0.loc": rng.normal(VISIBLE, std=1.0, device=device),
            "layers.1.loc": rng.normal(HIDDEN, std=1.0, device=device),
        }
    )
    data = (np.random.default_rng(2).random((1000, VISIBLE)) < 0.2).astype(np.float32)
    return model, to_device(data, device)


def annealing(device: str) -> Callable[[], object]:
    """A run at a twentieth of the temperatures; each costs what it costs in a whole run."""
    model, data = machine(device)
    rng = Generator(3)
    # ends with a copy to the host, for which a GPU is waited
    return lambda: ais(model, rng, n_temperatures=STEPS, n_chains=CHAINS, data=data)


def products(device: str) -> Callable[[], object]:
    """The two products of each of those temperatures, as the annealing calls them."""
    model, _ = machine(device)
    rng = Generator(4)
    W, W_T = model.weights[0].W(), model.weights[0].W_T()
    v, h = (rng.bernoulli(0.3 * to_device(np.ones((CHAINS, n), "f"), device)) for n in W.shape)
    up, down = h.copy(), v.copy()
    xp = get_array_module(W)

    def run() -> None:
        for _ in range(STEPS):
            xp.matmul(v, W, out=up)
            xp.matmul(h, W_T, out=down)
        float(up[0, 0])  # waits

    return run


def on(device: str) -> str:
    contestants = {"products": products(device), "ais": annealing(device)}
    timings = harness.race(contestants, rounds=9, seconds_per_round=0.1)
    where = "the CPU" if device == "cpu" else "a GPU"
    title = f"AIS on {where}, {VISIBLE}x{HIDDEN}, {CHAINS} chains, {STEPS} temperatures, float32"
    lines = [harness.table(title, timings, against="products")]
    if device == "cpu":
        lines.append(harness.verdict(timings, "ais", "products", BUDGET))
    return "\n".join(lines)


def report() -> str:
    gpu = on("cuda") if harness.gpu() else harness.not_run("AIS on a GPU", "no GPU")
    return "\n".join([on("cpu"), gpu])


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
