"""Pooling on a GPU beside torch, beside its array-function body, and beside a copy of its input.

python -m tests.bench.pool
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.backend.array_module import to_device
from gpugrad.backend.twin import use_kernels
from gpugrad.primitives import pool
from gpugrad.primitives.pool_cuda import Windows
from tests.bench import harness

SHAPE = (64, 64, 112, 112)
LAYOUTS = {"2x2, side by side": ((2, 2), (2, 2)), "3x3 every 2, overlapping": ((3, 3), (2, 2))}
DTYPES = ("float32", "float16")
TORCH_BUDGET = 1.0


def _without_kernels(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with use_kernels(False):
            call()

    return run


def operands(dtype: str, of: Windows) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(SHAPE, dtype=np.float32)
    g = rng.standard_normal((*SHAPE[:2], *of.out), dtype=np.float32)
    return to_device(x.astype(dtype), "cuda"), to_device(g.astype(dtype), "cuda")


def gpugrad_calls(x: Any, g: Any, of: Windows) -> dict[str, Callable[[], object]]:
    how = {"window": of.window, "stride": of.stride}
    _, indices = pool.max_pool(x, **how)
    return {
        "max, forward": lambda: pool.max_pool(x, **how),
        "max, backward": lambda: pool.scatter(g, indices, shape=of.size, **how),
        "mean, forward": lambda: pool.mean_pool(x, **how),
        "mean, backward": lambda: pool.mean_pool_grad(g, shape=of.size, **how),
    }


def torch_calls(x: Any, g: Any, of: Windows) -> dict[str, Callable[[], object]]:
    import torch
    from torch.nn.functional import avg_pool2d, max_pool2d

    tx, tg = (torch.from_dlpack(a) for a in (x, g))
    tx.requires_grad_()
    largest, _ = max_pool2d(tx, of.window, of.stride, return_indices=True)
    means = avg_pool2d(tx, of.window, of.stride)

    def forward(function: Callable[..., object], **how: bool) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                function(tx, of.window, of.stride, **how)

        return run

    def backward(y: Any) -> Callable[[], object]:
        return lambda: torch.autograd.grad(y, tx, tg, retain_graph=True)

    return {
        "max, forward": forward(max_pool2d, return_indices=True),
        "max, backward": backward(largest),
        "mean, forward": forward(avg_pool2d),
        "mean, backward": backward(means),
    }


def on_gpu(layout: str, dtype: str) -> str:
    size = "x".join(str(n) for n in SHAPE)
    title = f"Pooling on a GPU, {size}, {layout}, {dtype}"
    if harness.gpu() is None:
        return harness.not_run(title, "no GPU")
    window, stride = LAYOUTS[layout]
    out = pool.output_lengths(SHAPE[2:], window, stride)
    of = Windows(SHAPE[0] * SHAPE[1], SHAPE[2:], out, window, stride)
    x, g = operands(dtype, of)
    ours, parts = gpugrad_calls(x, g, of), []
    theirs, reason = {}, harness.missing("torch")
    try:
        if reason is None:
            theirs = torch_calls(x, g, of)
    except Exception as error:  # a torch without CUDA
        reason = str(error).splitlines()[0]
    for what, call in ours.items():
        contestants = {
            "gpugrad": harness.synchronised(call),
            "array functions": harness.synchronised(_without_kernels(call)),
            "copy of x": harness.synchronised(x.copy),
        }
        if what in theirs:
            contestants["torch"] = harness.synchronised(theirs[what])
        timings = harness.race(contestants, warm_up=3)
        parts.append(harness.table(f"{title}: {what}", timings, against="gpugrad"))
        if what in theirs:
            parts.append(harness.verdict(timings, "gpugrad", "torch", TORCH_BUDGET))
    if reason:
        parts.append(f"- torch: not run: {reason}\n")
    return "\n".join(parts)


def report() -> str:
    return "\n".join(on_gpu(layout, dtype) for layout in LAYOUTS for dtype in DTYPES)


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
