"""Activation functions."""

from __future__ import annotations

from gpugrad.apply import apply
from gpugrad.ops.activations import (
    elu,
    glu,
    hard_tanh,
    leaky_relu,
    logsoftmax,
    relu,
    selu,
    soft_sign,
    softmax,
)
from gpugrad.ops.explog import SIGMOID
from gpugrad.ops.hyperbolic import tanh
from gpugrad.tensor import Tensor
from gpugrad.typing import ArrayLike

__all__ = [
    "elu",
    "glu",
    "hard_tanh",
    "leaky_relu",
    "logsoftmax",
    "relu",
    "selu",
    "sigmoid",
    "soft_sign",
    "softmax",
    "tanh",
]


def sigmoid(x: ArrayLike, *, constant: bool | None = None) -> Tensor:
    """The logistic function 1 / (1 + exp(-x)); range [0, 1], without overflow.

    Parameters
    ----------
    x : array_like
    constant : bool, optional
        True: the result takes no gradient.

    See Also
    --------
    gpugrad.sigmoid : the same function with the keywords of ufuncs.
    """
    return apply(SIGMOID, (x,), constant=constant)
