"""Maxima and means over windows, and the linear operations that their derivatives are made of."""

from __future__ import annotations

from typing import Any

import gpugrad.primitives.pool_cuda  # noqa: F401  (gives pooling its kernels)
from gpugrad.apply import apply
from gpugrad.backend.vocabulary import shared
from gpugrad.graph.op import operation
from gpugrad.ops.comparison import raw_of
from gpugrad.ops.namespace import add_words
from gpugrad.primitives import pool as primitives
from gpugrad.tensor import Tensor

__all__: list[str] = []

Lengths = tuple[int, ...]

# -------------------------------------------------------------------- reading and adding at indices


# `window` and `stride`, where given, say that each index lies within the window at its place: what
# the kernel of `scatter` needs to know where to look.


@shared
def gather(
    xp: Any,
    x: Any,
    *,
    indices: Any,
    n: int,
    window: Lengths | None = None,
    stride: Lengths | None = None,
) -> Any:
    """See `gpugrad.primitives.pool.gather`."""
    return primitives.gather(x, indices, n=n)


@shared
def scatter(
    xp: Any,
    g: Any,
    *,
    indices: Any,
    shape: Lengths,
    window: Lengths | None = None,
    stride: Lengths | None = None,
) -> Any:
    """See `gpugrad.primitives.pool.scatter`."""
    return primitives.scatter(g, indices, shape=shape, window=window, stride=stride)


GATHER = operation(
    "gather",
    lambda xp, g, y, x, *, n, **places: xp.scatter(g, shape=x.shape[x.ndim - n :], **places),
)(gather)
SCATTER = operation(
    "scatter",
    lambda xp, c, y, g, *, shape, **places: xp.gather(c, n=len(shape), **places),
)(scatter)


def gather_of(x: Any, **places: Any) -> Tensor:
    """The elements of `x` at indices into its last n axes."""
    return apply(GATHER, (x,), places)


def scatter_of(g: Any, **places: Any) -> Tensor:
    """Zeros to which `g` is added at indices: the adjoint of `gather`."""
    return apply(SCATTER, (g,), places)


# ------------------------------------------------------------------------------------------ maxima


def _max_pool_rule(xp: Any, g: Any, y: Any, x: Any, *, window: Lengths, stride: Lengths) -> Any:
    # the indices are constant wherever the derivative exists, and found here only: most of the cost
    indices = primitives.max_pool_indices(raw_of(x), raw_of(y), window=window, stride=stride)
    shape = x.shape[x.ndim - len(window) :]
    return xp.scatter(g, indices=indices, shape=shape, window=window, stride=stride)


@shared
def max_pool(xp: Any, x: Any, *, window: Lengths, stride: Lengths) -> Any:
    """See `gpugrad.primitives.pool.max_pool_values`."""
    return primitives.max_pool_values(x, window=window, stride=stride)


MAX_POOL = operation("max_pool", _max_pool_rule)(max_pool)


def max_pool_of(
    x: Any, *, window: Lengths, stride: Lengths, constant: bool | None = None
) -> Tensor:
    """The largest element of each window over the last axes of `x`."""
    return apply(MAX_POOL, (x,), {"window": window, "stride": stride}, constant=constant)


# ------------------------------------------------------------------------------------------- means


def _mean_pool_rule(xp: Any, g: Any, y: Any, x: Any, *, window: Lengths, stride: Lengths) -> Any:
    shape = x.shape[x.ndim - len(window) :]
    return xp.mean_pool_grad(g, shape=shape, window=window, stride=stride)


@shared
def mean_pool(xp: Any, x: Any, *, window: Lengths, stride: Lengths) -> Any:
    """See `gpugrad.primitives.pool.mean_pool`."""
    return primitives.mean_pool(x, window=window, stride=stride)


@shared
def mean_pool_grad(xp: Any, g: Any, *, shape: Lengths, window: Lengths, stride: Lengths) -> Any:
    """See `gpugrad.primitives.pool.mean_pool_grad`."""
    return primitives.mean_pool_grad(g, shape=shape, window=window, stride=stride)


MEAN_POOL = operation("mean_pool", _mean_pool_rule)(mean_pool)
MEAN_POOL_GRAD = operation(
    "mean_pool_grad",
    lambda xp, c, y, g, *, shape, window, stride: xp.mean_pool(c, window=window, stride=stride),
)(mean_pool_grad)


def mean_pool_of(
    x: Any, *, window: Lengths, stride: Lengths, constant: bool | None = None
) -> Tensor:
    """The mean of each window over the last axes of `x`."""
    return apply(MEAN_POOL, (x,), {"window": window, "stride": stride}, constant=constant)


def mean_pool_grad_of(g: Any, *, shape: Lengths, window: Lengths, stride: Lengths) -> Tensor:
    """The adjoint of `mean_pool`."""
    return apply(MEAN_POOL_GRAD, (g,), {"shape": shape, "window": window, "stride": stride})


# what the words of the rules mean for tensors
add_words(
    {
        "gather": gather_of,
        "max_pool": max_pool_of,
        "mean_pool": mean_pool_of,
        "mean_pool_grad": mean_pool_grad_of,
        "scatter": scatter_of,
    }
)
