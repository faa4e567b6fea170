"""Convolution on a GPU, forward and both gradients, beside torch (cuDNN) at equal precision.

    python -m tests.bench.conv

Precisions: float32 with TF32 off on both sides, float32 with TF32 on, float16. cuDNN may choose
among its algorithms by trying them (`cudnn.benchmark`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.array_module import to_device
from gpugrad.primitives.conv import conv, conv_input_grad, conv_weight_grad, output_lengths
from gpugrad.primitives.conv_cuda import use_tf32
from tests.bench import harness

#: gpugrad may take 1 / 0.7 of cuDNN's time.
BUDGET = 1 / 0.7
PRECISIONS = {
    "float32": ("float32", False),
    "tf32": ("float32", True),
    "float16": ("float16", False),
}
PASSES = ("forward", "input gradient", "weight gradient")


class Layer(NamedTuple):
    """A convolution: shapes of x and w, and how the filters are laid."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    stride: int
    padding: int
    groups: int = 1


LAYERS = {
    "8x3x32x32, 16 filters 5x5": Layer((8, 3, 32, 32), (16, 3, 5, 5), 1, 2),
    "64x64x56x56, 64 filters 3x3": Layer((64, 64, 56, 56), (64, 64, 3, 3), 1, 1),
    "64x128x28x28, 256 filters 3x3, stride 2": Layer((64, 128, 28, 28), (256, 128, 3, 3), 2, 1),
    "64x256x14x14, 1024 filters 1x1": Layer((64, 256, 14, 14), (1024, 256, 1, 1), 1, 0),
    "32x128x28x28, a group for each channel, 3x3": Layer(
        (32, 128, 28, 28), (128, 1, 3, 3), 1, 1, 128
    ),
}


def operands(layer: Layer, dtype: str) -> tuple[Any, Any, Any]:
    """x, w and a cotangent on the GPU."""
    rng = np.random.default_rng(1)
    how = [(n,) * 2 for n in (layer.stride, layer.padding, 1)]
    y = (layer.x[0], layer.w[0], *output_lengths(layer.x[2:], layer.w[2:], *how))
    arrays = (rng.standard_normal(shape, np.float32) for shape in (layer.x, layer.w, y))
    x, w, g = (to_device(a.astype(dtype), "cuda") for a in arrays)
    return x, w, g


def gpugrad_calls(layer: Layer, x: Any, w: Any, g: Any, tf32: bool) -> list[Callable[[], object]]:
    how: dict[str, Any] = {
        "stride": (layer.stride,) * 2,
        "padding": (layer.padding,) * 2,
        "dilation": (1, 1),
        "groups": layer.groups,
    }
    calls: list[Callable[[], object]] = [
        lambda: conv(x, w, **how),
        lambda: conv_input_grad(g, w, shape=x.shape[2:], **how),
        lambda: conv_weight_grad(g, x, window=w.shape[2:], **how),
    ]

    def switched(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with use_tf32(tf32):
                call()

        return run

    return [switched(call) for call in calls]


def torch_calls(layer: Layer, x: Any, w: Any, g: Any, tf32: bool) -> list[Callable[[], object]]:
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = tf32
    tx, tw, tg = (torch.from_dlpack(a) for a in (x, w, g))
    stride, padding, dilation = [layer.stride] * 2, [layer.padding] * 2, [1, 1]

    def backward(*mask: bool) -> Callable[[], object]:
        return lambda: torch.ops.aten.convolution_backward(
            tg, tx, tw, None, stride, padding, dilation, False, [0, 0], layer.groups, [*mask, False]
        )

    return [
        lambda: torch.conv2d(tx, tw, None, stride, padding, dilation, layer.groups),
        backward(True, False),
        backward(False, True),
    ]


def report() -> str:
    title = "Convolution on a GPU, gpugrad beside torch"
    if harness.gpu() is None:
        return harness.not_run(title, "no GPU")
    reason = harness.missing("torch")
    if reason is None:
        import torch

        reason = None if torch.cuda.is_available() else "this torch has no CUDA"
    parts = []
    for name, layer in LAYERS.items():
        for precision, (dtype, tf32) in PRECISIONS.items():
            arrays = operands(layer, dtype)
            ours = gpugrad_calls(layer, *arrays, tf32)
            theirs = [] if reason else torch_calls(layer, *arrays, tf32)
            for i, which in enumerate(PASSES):
                contestants = {"gpugrad": harness.synchronised(ours[i])}
                if theirs:
                    contestants["torch"] = harness.synchronised(theirs[i])
                timings = harness.race(contestants, warm_up=3)
                parts.append(
                    harness.table(f"{name}, {precision}, {which}", timings, against="gpugrad")
                )
                if theirs:
                    parts.append(harness.verdict(timings, "gpugrad", "torch", BUDGET))
    if reason:
        parts.append(harness.not_run("torch", reason))
    return "\n".join(parts)


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
