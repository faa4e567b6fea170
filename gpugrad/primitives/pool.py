"""Pooling over windows of the trailing axes, and reading and adding at the elements it took.

    max_pool    y[..., o] = the largest of x[..., o s + k] over the window's k, and where it was
    gather      y[..., o] = x[..., indices[..., o]]
    scatter     x[..., i] = sum of g[..., o] over all o with indices[..., o] = i
    mean_pool   y[..., o] = the mean of x[..., o s + k] over the window's k

for windows over the last n axes of x; an index counts the elements of those axes in C order. For
given indices `gather` and `scatter` are linear and each other's adjoints.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpugrad.backend.twin import primitive
from gpugrad.backend.vocabulary import numpy_namespace

__all__ = [
    "gather",
    "max_pool",
    "max_pool_indices",
    "max_pool_values",
    "mean_pool",
    "mean_pool_grad",
    "scatter",
]

Lengths = tuple[int, ...]


def output_lengths(shape: Sequence[int], window: Lengths, stride: Lengths) -> Lengths:
    """How many places a window has along each of its axes: (S - P) // s + 1."""
    return tuple((n - p) // s + 1 for n, p, s in zip(shape, window, stride, strict=True))


def met_by(k: Sequence[int], out: Lengths, stride: Lengths) -> tuple[Any, ...]:
    """The index of what element `k` of the window meets at each of its places."""
    return (
        ...,
        *(slice(i, i + (n - 1) * s + 1, s) for i, n, s in zip(k, out, stride, strict=True)),
    )


def flat_strides(shape: Sequence[int]) -> Lengths:
    """How far a step along each axis goes in the C order of an array of this shape."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def is_floating(dtype: Any) -> bool:
    """Whether `dtype` is a floating point type, bfloat16 of ml_dtypes included."""
    return np.dtype(dtype).kind == "f" or np.dtype(dtype).name == "bfloat16"


def wide_type(dtype: Any) -> np.dtype:
    """The type that means are computed in: float32 for half types, float64 for integers."""
    dtype = np.dtype(dtype)
    if not is_floating(dtype):
        return np.dtype(np.float64)
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def mean_type(dtype: Any) -> np.dtype:
    """The type of a mean: float64 for integers, else that of its elements."""
    return np.dtype(dtype) if is_floating(dtype) else np.dtype(np.float64)


def _first_places(xp: Any, shape: Sequence[int], out: Lengths, stride: Lengths) -> Any:
    """The index of the first element of the window at each of its places, of shape `out`."""
    first = xp.zeros(out, dtype=np.int64)
    steps = flat_strides(shape)
    for axis, n in enumerate(out):
        along = xp.arange(n, dtype=np.int64) * (stride[axis] * steps[axis])
        first = first + along.reshape((-1,) + (1,) * (len(out) - axis - 1))
    return first


@primitive("max_pool")
def max_pool(xp: Any, x: Any, *, window: Lengths, stride: Lengths) -> tuple[Any, Any]:
    """The largest element in each window, and its index.

    Parameters
    ----------
    x : array, shape (..., *S)
    window, stride : tuple of int, length n
        The window's lengths along the last n axes, and the distances of its places.

    Returns
    -------
    y : array, shape (..., *O)
        Of the dtype of `x`.
    indices : array of int64, shape (..., *O)
        Of the element taken, in the C order of the last n axes: the first of equal ones, and a nan
        before all, as ``numpy.argmax`` chooses.
    """
    n = len(window)
    shape = x.shape[x.ndim - n :]
    out = output_lengths(shape, window, stride)
    steps = flat_strides(shape)
    y = xp.array(x[met_by((0,) * n, out, stride)])
    winner = xp.zeros(y.shape, dtype=np.int64)
    for k in np.ndindex(*window):
        rival = x[met_by(k, out, stride)]
        # a nan is neither larger nor smaller: it wins against a number, and nothing against it
        wins = xp.logical_and(xp.logical_not(rival <= y), y == y)
        y = xp.where(wins, rival, y)
        winner = xp.where(wins, sum(i * s for i, s in zip(k, steps, strict=True)), winner)
    return y, winner + _first_places(xp, shape, out, stride)


@primitive("max_pool_values")
def max_pool_values(xp: Any, x: Any, *, window: Lengths, stride: Lengths) -> Any:
    """The largest element in each window, nan where there is one: `max_pool` without indices."""
    n = len(window)
    out = output_lengths(x.shape[x.ndim - n :], window, stride)
    y = xp.array(x[met_by((0,) * n, out, stride)])
    for k in np.ndindex(*window):
        if any(k):
            xp.maximum(y, x[met_by(k, out, stride)], out=y)
    return y


@primitive("max_pool_indices")
def max_pool_indices(xp: Any, x: Any, y: Any, *, window: Lengths, stride: Lengths) -> Any:
    """The indices that `max_pool` gives, for the values `y` that it gives."""
    return max_pool(x, window=window, stride=stride)[1]


@primitive("gather")
def gather(xp: Any, x: Any, indices: Any, *, n: int) -> Any:
    """The elements of `x` at `indices` into its last `n` axes, for each of the leading ones.

    Parameters
    ----------
    x : array, shape (..., *S)
    indices : array of int, shape (..., *O)
        In the C order of the last n axes of `x`; the leading axes are those of `x`.
    n : int

    Returns
    -------
    array, shape (..., *O)
    """
    lines = math.prod(x.shape[: x.ndim - n])
    length = math.prod(x.shape[x.ndim - n :])
    flat = x.reshape((lines, length))
    chosen = indices.reshape((lines, math.prod(indices.shape[x.ndim - n :])))
    return flat[xp.arange(lines).reshape((-1, 1)), chosen].reshape(indices.shape)


@primitive("scatter")
def scatter(
    xp: Any,
    g: Any,
    indices: Any,
    *,
    shape: Lengths,
    window: Lengths | None = None,
    stride: Lengths | None = None,
) -> Any:
    """Zeros to which `g` is added at `indices`: the adjoint of `gather`.

    Parameters
    ----------
    g : array, shape (..., *O)
    indices : array of int, shape (..., *O)
    shape : tuple of int
        S, the last n axes of the result.
    window, stride : tuple of int, length n, optional
        A promise that each index lies within the window at its place, as those of `max_pool` do:
        a kernel then knows where to look. The result is the same.

    Returns
    -------
    array, shape (..., *shape)
        Of the dtype of `g`. What meets at one element is added up in the C order of `g`, half
        types in float32.
    """
    lead = g.shape[: g.ndim - len(shape)]
    length, lines = math.prod(shape), math.prod(lead)
    dtype = g.dtype
    wide = wide_type(dtype) if is_floating(dtype) else dtype
    start = xp.arange(lines, dtype=np.int64).reshape((-1, 1)) * length
    # not -1: of no lines its length could not be told
    keys = (indices.reshape((lines, math.prod(g.shape[len(lead) :]))) + start).ravel()
    order = xp.argsort(keys, kind="stable")
    keys, g = keys[order], g.ravel()[order].astype(wide)
    # round r adds the r-th of those that meet: within a round no two meet, so the order is fixed
    rank = xp.arange(keys.size) - xp.searchsorted(keys, keys)
    x = xp.zeros(lines * length, dtype=wide)
    for r in range(int(rank.max()) + 1 if keys.size else 0):
        now = rank == r
        x[keys[now]] += g[now]
    return x.astype(dtype).reshape((*lead, *shape))


@primitive("mean_pool")
def mean_pool(xp: Any, x: Any, *, window: Lengths, stride: Lengths) -> Any:
    """The mean of the elements in each window.

    Parameters
    ----------
    x : array, shape (..., *S)
    window, stride : tuple of int, length n
        The window's lengths along the last n axes, and the distances of its places.

    Returns
    -------
    array, shape (..., *O)
        Of the dtype of `x`, float64 for integers. Added up in the window's C order, half types in
        float32.
    """
    n = len(window)
    out = output_lengths(x.shape[x.ndim - n :], window, stride)
    y = xp.zeros((*x.shape[: x.ndim - n], *out), dtype=wide_type(x.dtype))
    for k in np.ndindex(*window):
        y += x[met_by(k, out, stride)]
    y /= math.prod(window)
    return y.astype(mean_type(x.dtype), copy=False)


@primitive("mean_pool_grad")
def mean_pool_grad(xp: Any, g: Any, *, shape: Lengths, window: Lengths, stride: Lengths) -> Any:
    """The adjoint of `mean_pool`.

    Parameters
    ----------
    g : array, shape (..., *O)
    shape : tuple of int, length n
        S, the last n axes of the result.
    window, stride : tuple of int, length n
        Those of `mean_pool`.

    Returns
    -------
    array, shape (..., *shape)
        Of the dtype of `g`. At one element the windows are added up in the C order of its place in
        them, half types in float32.
    """
    n = len(window)
    out = g.shape[g.ndim - n :]
    share = g.astype(wide_type(g.dtype)) / math.prod(window)
    x = xp.zeros((*g.shape[: g.ndim - n], *shape), dtype=share.dtype)
    for k in np.ndindex(*window):
        x[met_by(k, out, stride)] += share
    return x.astype(mean_type(g.dtype), copy=False)


# ------------------------------------------------------------------------------------ on the host


def _max_pool_on_host(
    x: np.ndarray, *, window: Lengths, stride: Lengths
) -> tuple[np.ndarray, np.ndarray]:
    y = max_pool_values(x, window=window, stride=stride)
    return y, _max_pool_indices_on_host(x, y, window=window, stride=stride)


def _max_pool_indices_on_host(
    x: np.ndarray, y: np.ndarray, *, window: Lengths, stride: Lengths
) -> np.ndarray:
    """Where the values came from, by one pass over strided views of `x`.

    The places are told apart by small codes, whose maximum is the first place: a masked write of
    indices instead takes three times as long.
    """
    n = len(window)
    shape = x.shape[x.ndim - n :]
    out = y.shape[y.ndim - n :]
    elements = math.prod(window)
    code_type = np.uint8 if elements < 256 else np.uint32
    code = np.zeros(y.shape, code_type)
    equal = np.empty(y.shape, bool)
    last = np.empty(y.shape, code_type)

    def note(test: Callable[[np.ndarray], np.ndarray]) -> None:
        for i, k in enumerate(np.ndindex(*window)):
            mark = code_type(elements - i)
            np.multiply(test(x[met_by(k, out, stride)]), mark, out=last, dtype=code_type)
            np.maximum(code, last, out=code)

    note(lambda met: np.equal(met, y, out=equal))
    if not code.all():  # a nan equals nothing
        nowhere = code == 0
        note(lambda met: np.logical_and(np.isnan(met), nowhere, out=equal))
    steps = flat_strides(shape)
    offsets = np.zeros(elements + 1, np.int64)
    for i, k in enumerate(np.ndindex(*window)):
        offsets[elements - i] = sum(j * s for j, s in zip(k, steps, strict=True))
    indices = offsets[code]
    indices += _first_places(numpy_namespace, shape, out, stride)
    return indices


def flat_keys(xp: Any, indices: Any, n: int, length: int) -> Any:
    """The indices into each line, counted through all lines."""
    lead = indices.shape[: indices.ndim - n]
    start = xp.arange(math.prod(lead), dtype=np.int64) * length
    return (indices + start.reshape(lead + (1,) * n)).ravel()


def _gather_on_host(x: np.ndarray, indices: np.ndarray, *, n: int) -> np.ndarray:
    keys = flat_keys(np, indices, n, math.prod(x.shape[x.ndim - n :]))
    return np.take(x.ravel(), keys).reshape(indices.shape)


def _scatter_on_host(
    g: np.ndarray,
    indices: np.ndarray,
    *,
    shape: Lengths,
    window: Lengths | None = None,
    stride: Lengths | None = None,
) -> np.ndarray:
    n = len(shape)
    lead = g.shape[: g.ndim - n]
    wide = wide_type(g.dtype) if is_floating(g.dtype) else g.dtype
    x = np.zeros(math.prod(lead) * math.prod(shape), wide)
    np.add.at(x, flat_keys(np, indices, n, math.prod(shape)), g.ravel().astype(wide, copy=False))
    return x.reshape((*lead, *shape)).astype(g.dtype, copy=False)


max_pool.attach(_max_pool_on_host, device="cpu")
max_pool_indices.attach(_max_pool_indices_on_host, device="cpu")
gather.attach(_gather_on_host, device="cpu")
scatter.attach(_scatter_on_host, device="cpu")
