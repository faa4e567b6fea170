"""A function that has all derivatives, and where and along what the tests differentiate it."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpugrad as gg

A = np.array([[2.0, -1.0, 0.5], [0.3, 1.5, -0.7], [1.1, 0.2, 0.9]])
X = np.array([0.7, -0.4, 1.3])
V = np.array([0.2, 1.0, -0.5])


def smooth(x: Any) -> gg.Tensor:
    """A function with no special structure, of everything that the engine has."""
    m = gg.reshape(gg.concatenate([x, x[::-1] * 2.0, gg.tanh(x)]), (3, 3))
    m[1] *= x
    y = gg.matmul(m, gg.exp(0.3 * x)) + gg.logaddexp(x, x[[1, 1, 0]])
    return gg.sum(gg.softplus(y) ** 2) + gg.mean(m.T[0] * x)
