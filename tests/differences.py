"""Derivatives without derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import gpugrad as gg


def differences(
    f: Callable[[gg.Tensor], gg.Tensor], x: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """The derivative of a function of a tensor by central differences: f.shape + x.shape."""
    found = np.zeros((*f(gg.tensor(x)).shape, *x.shape))
    for i in np.ndindex(x.shape):
        e = np.zeros(x.shape)
        e[i] = step
        found[(..., *i)] = (f(gg.tensor(x + e)).data - f(gg.tensor(x - e)).data) / (2 * step)
    return found


def assert_second_derivative(
    f: Callable[[gg.Tensor], gg.Tensor], x: np.ndarray, direction: np.ndarray, atol: float
) -> None:
    """The product with the Hessian of `f` at `x` is the difference of gradients to both sides."""
    step = 1e-6
    ahead, behind = (gg.grad(f)(gg.tensor(x + s * direction)).data for s in (step, -step))
    found = gg.hvp(f, gg.tensor(x), direction)
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), atol=atol)
