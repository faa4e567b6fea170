"""Alternating Gibbs sampling of a 784x500 machine, beside the products that it cannot do without.

On the CPU: one step of 500 chains, and ten steps a call, which have other threads. On a GPU: 100
steps of 2,000 chains, by the tensor-core split and by the plain product; the floors are the same
products without any sampling.

    python -m tests.bench.gibbs
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.backend.array_module import to_device
from gpugrad.backend.rng import Generator
from gpugrad.primitives.gibbs_chain import GibbsChain
from tests.bench import harness

VISIBLE, HIDDEN = 784, 500
CPU_CHAINS, CPU_BUDGET = 500, 1.4
GPU_CHAINS, GPU_STEPS, GPU_BUDGET = 2000, 100, 1 / 4
RBMS_BUDGET = 0.5


def machine() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    W = rng.normal(0, 0.1, (VISIBLE, HIDDEN)).astype(np.float32)
    return W, np.zeros(VISIBLE, np.float32), np.zeros(HIDDEN, np.float32)


def numpy_products(times: int = 1) -> Callable[[], object]:
    W, rng = machine()[0], np.random.default_rng(2)
    v, h = (rng.integers(0, 2, (CPU_CHAINS, n)).astype(np.float32) for n in W.shape)
    field_h, field_v = np.empty_like(h), np.empty_like(v)

    def run() -> None:
        for _ in range(times):
            np.matmul(v, W, out=field_h)
            np.matmul(h, W.T, out=field_v)

    return run


def gpugrad_steps(
    device: str, chains: int, steps: int, precision: str = "split"
) -> Callable[[], object]:
    parameters = [to_device(x, device) for x in machine()]
    chain = GibbsChain(*parameters, n_chains=chains, rng=Generator(1), precision=precision)
    return lambda: chain.run(steps)


def torch_steps(device: str, chains: int, steps: int) -> Callable[[], object]:
    import torch

    W, a, b = (torch.from_numpy(x).to(device) for x in machine())
    state = {"v": torch.bernoulli(torch.full((chains, VISIBLE), 0.5, device=device))}

    def run() -> None:
        v = state["v"]
        for _ in range(steps):
            h = torch.bernoulli(torch.sigmoid(torch.addmm(b, v, W)))
            v = torch.bernoulli(torch.sigmoid(torch.addmm(a, h, W.T)))
        state["v"] = v

    return run


def rbms_steps(device: str, chains: int, steps: int) -> Callable[[], object]:
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM

    params = BBRBM(*(torch.from_numpy(x).to(device) for x in machine()))
    state = {"chains": params.init_chains(chains)}

    def run() -> None:
        state["chains"] = params.sample_state(state["chains"], n_steps=steps)

    return run


def sklearn_step() -> Callable[[], object]:
    from sklearn.neural_network import BernoulliRBM

    W, a, b = machine()
    model = BernoulliRBM(n_components=HIDDEN, random_state=1)
    model.components_, model.intercept_visible_, model.intercept_hidden_ = W.T.copy(), a, b
    state = {"v": np.random.default_rng(2).integers(0, 2, (CPU_CHAINS, VISIBLE)).astype(np.float32)}

    def run() -> None:
        state["v"] = model.gibbs(state["v"]).astype(np.float32)

    return run


def on_cpu() -> str:
    contestants = {
        "two products": numpy_products(),
        "gpugrad": gpugrad_steps("cpu", CPU_CHAINS, 1),
    }
    reasons = []
    for name, modules, make in (
        ("torch", ("torch",), lambda: torch_steps("cpu", CPU_CHAINS, 1)),
        ("rbms", ("torch", "rbms"), lambda: rbms_steps("cpu", CPU_CHAINS, 1)),
        ("scikit-learn", ("sklearn",), sklearn_step),
    ):
        reason = harness.missing(*modules)
        if reason:
            reasons.append(f"- {name}: not run: {reason}\n")
        else:
            contestants[name] = make()
    timings = harness.race(contestants, rounds=25)
    title = f"Gibbs step on the CPU, {VISIBLE}x{HIDDEN}, {CPU_CHAINS} chains, float32"
    lines = [harness.table(title, timings, against="two products"), *reasons]
    lines.append(harness.verdict(timings, "gpugrad", "two products", CPU_BUDGET))
    if "rbms" in timings:
        lines.append(harness.verdict(timings, "gpugrad", "rbms", RBMS_BUDGET))
    contestants = {
        "twenty products": numpy_products(10),
        "gpugrad": gpugrad_steps("cpu", CPU_CHAINS, 10),
    }
    timings = harness.race(contestants, rounds=25)
    lines.append(harness.table(f"{title}, ten steps a call", timings, against="twenty products"))
    lines.append(harness.verdict(timings, "gpugrad", "twenty products", CPU_BUDGET))
    return "\n".join(lines)


def gpu_products(cp: Any, precision: str) -> Callable[[], object]:
    """The products of the chain alone, captured in a graph as the chain is."""
    from gpugrad.primitives.gibbs_chain import multiply

    parameters = [to_device(x, "cuda") for x in machine()]
    chain = GibbsChain(*parameters, n_chains=GPU_CHAINS, rng=Generator(1), precision=precision)
    engine: Any = chain._engine

    def products() -> None:
        for layer in (1, 0):
            multiply(
                cp,
                engine.units[1 - layer],
                engine.weights[layer],
                engine.fields[layer],
                engine.scale,
            )

    with engine.stream:
        products()
        engine.stream.synchronize()
        engine.stream.begin_capture()
        for _ in range(10):
            products()
        graph = engine.stream.end_capture()
    return lambda: [graph.launch(engine.stream) for _ in range(GPU_STEPS // 10)]


def on_gpu() -> str:
    title = f"Gibbs on a GPU, {VISIBLE}x{HIDDEN}, {GPU_CHAINS} chains, {GPU_STEPS} steps"
    if harness.gpu() is None:
        return harness.not_run(title, "no GPU")
    import cupy as cp

    contestants = {
        "gpugrad, split": gpugrad_steps("cuda", GPU_CHAINS, GPU_STEPS, "split"),
        "gpugrad, single": gpugrad_steps("cuda", GPU_CHAINS, GPU_STEPS, "single"),
        "products alone, split": gpu_products(cp, "split"),
        "products alone, single": gpu_products(cp, "single"),
    }
    reasons = []
    for name, modules, make in (
        ("torch", ("torch",), torch_steps),
        ("rbms", ("torch", "rbms"), rbms_steps),
    ):
        reason = harness.missing(*modules)
        try:
            if reason is None:
                contestants[name] = make("cuda", GPU_CHAINS, GPU_STEPS)
        except Exception as error:  # a torch without CUDA
            reason = str(error).splitlines()[0]
        if reason:
            reasons.append(f"- {name}: not run: {reason}\n")
    timings = harness.race({n: harness.synchronised(c) for n, c in contestants.items()}, warm_up=3)
    lines = [harness.table(title, timings, against="gpugrad, split"), *reasons]
    if "rbms" in timings:
        lines.append(harness.verdict(timings, "gpugrad, split", "rbms", GPU_BUDGET))
        lines.append(harness.verdict(timings, "gpugrad, single", "rbms", 1 / 2))
    return "\n".join(lines)


def report() -> str:
    return "\n".join([on_cpu(), on_gpu()])


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
