"""What the tests of linear algebra share: matrices, and gradients found in both ways."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpugrad as gg


def matrices(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def positive(n: int, *batch: int, seed: int = 0) -> np.ndarray:
    x = matrices(*batch, n, n, seed=seed)
    return x @ np.swapaxes(x, -1, -2) + n * np.eye(n)


def on(device: str, x: Any) -> gg.Tensor:
    return gg.tensor(x, device=device)


def assert_close(found: Any, expected: Any, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    found, expected = gg.asnumpy(found), gg.asnumpy(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def gradient(f: Any, x: np.ndarray, device: str = "cpu") -> np.ndarray:
    """By backward(), which must agree with the sweep that builds a graph."""
    t = on(device, x)
    f(t).backward()
    assert_close(gg.grad(f)(on(device, x)), t.grad)
    return gg.asnumpy(t.grad)
