"""What tests of operations share: operands on a device, and comparisons with a reference."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpugrad as gg


def tensors(arrays: Any, device: str) -> list[gg.Tensor]:
    return [gg.tensor(x, device=device) for x in arrays]


def cotangent_of(y: Any, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, np.shape(y))


def on(device: str, x: np.ndarray) -> Any:
    return gg.tensor(x, device=device).data


def assert_close(found: Any, expected: Any, rtol: float = 1e-10, atol: float = 1e-10) -> None:
    found = gg.asnumpy(found)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def assert_second_order(f: Any, host: list[np.ndarray], device: str) -> None:
    """The gradient of the gradient of a scalar function, against differences of the gradient."""
    places = range(len(host))
    directions = [cotangent_of(x, seed=k) for k, x in enumerate(host)]

    def gradients(arrays: Any) -> list[np.ndarray]:
        xs = tensors(arrays, device)
        f(*xs).backward()
        return [gg.asnumpy(x.grad) for x in xs]

    def along(*xs: gg.Tensor) -> gg.Tensor:
        pairs = zip(gg.grad(f, places)(*xs), directions)
        return sum((g * on(device, u)).sum() for g, u in pairs)

    step = 1e-5
    ahead = gradients([x + step * u for x, u in zip(host, directions)])
    behind = gradients([x - step * u for x, u in zip(host, directions)])
    found = gg.grad(along, places)(*tensors(host, device))
    for h, a, b in zip(found, ahead, behind):
        assert_close(h, (a - b) / (2 * step), 1e-6, 1e-6)
