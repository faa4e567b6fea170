"""Convolution over any number of spatial axes, and its two adjoints.

As everywhere in the literature of neural networks it is a cross-correlation: the filters are not
flipped. With s = stride, p = padding, d = dilation, written for one spatial axis and one group,

    conv               y[n, f, o] = sum of w[f, c, k] x[n, c, i] over c, k
    conv_input_grad    x[n, c, i] = sum of w[f, c, k] g[n, f, o] over f, k, o
    conv_weight_grad   w[f, c, k] = sum of g[n, f, o] x[n, c, i] over n, o

where i = o s + k d - p, and x is 0 outside its range. With G groups the channels and the filters
are cut into G blocks of consecutive ones, and block i of the filters sees block i of the channels
alone. Each of the three is bilinear, and its derivatives are the other two:

    <conv(x, w), g> = <x, conv_input_grad(g, w)> = <w, conv_weight_grad(g, x)>
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpugrad.backend.host_threads import scratch_array
from gpugrad.backend.twin import primitive

__all__ = ["conv", "conv_input_grad", "conv_weight_grad", "output_lengths"]

Lengths = tuple[int, ...]


def output_lengths(
    shape: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Lengths:
    """How many places a window has along each spatial axis: (S + 2p - (K - 1)d - 1) // s + 1.

    Parameters
    ----------
    shape, window, stride, padding, dilation : sequence of int, length n
        The lengths S of the image and K of the window, and how the window is laid and moved.
    """
    return tuple(
        (n + 2 * p - (k - 1) * d - 1) // s + 1
        for n, k, s, p, d in zip(shape, window, stride, padding, dilation, strict=True)
    )


def wide_type(dtype: Any) -> np.dtype:
    """The type that sums of `dtype` are added up in: float32 for half types, else itself."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if dtype.name in ("float16", "bfloat16") else dtype


def padded(xp: Any, x: Any, padding: Lengths, dtype: np.dtype) -> Any:
    """`x` of `dtype` with zeros around its spatial axes; `x` itself where nothing changes."""
    if not any(padding):
        return x.astype(dtype, copy=False)
    lengths = (n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True))
    wider = xp.zeros((*x.shape[:2], *lengths), dtype=dtype)
    wider[inner_of(x.shape[2:], padding)] = x
    return wider


def inner_of(shape: Sequence[int], padding: Lengths) -> tuple[Any, ...]:
    """The index of what lies inside the border."""
    return (..., *(slice(p, p + n) for n, p in zip(shape, padding, strict=True)))


def places(k: Sequence[int], out: Lengths, stride: Lengths, dilation: Lengths) -> tuple[Any, ...]:
    """The index of what element `k` of the window meets, at each of its places, in padded `x`."""
    return (
        ...,
        *(
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, n, s, d in zip(k, out, stride, dilation, strict=True)
        ),
    )


def windows(
    xp: Any, x: Any, window: Lengths, out: Lengths, stride: Lengths, dilation: Lengths
) -> Any:
    """What each element of the window meets at each of its places: a view (N, C, *K, *O) of `x`."""
    inner = x.strides[2:]
    strides = (
        *x.strides[:2],
        *(d * n for d, n in zip(dilation, inner, strict=True)),
        *(s * n for s, n in zip(stride, inner, strict=True)),
    )
    return xp.module.lib.stride_tricks.as_strided(x, (*x.shape[:2], *window, *out), strides)


def _columns(
    xp: Any, x: Any, groups: int, window: Lengths, out: Lengths, stride: Lengths, dilation: Lengths
) -> Any:
    """The windows as matrices, copied: (N, groups, C / groups * K, O)."""
    n, c = x.shape[:2]
    rows = c // groups * math.prod(window)
    view = windows(xp, x, window, out, stride, dilation)
    return view.reshape((n, groups, rows, math.prod(out)))


@primitive("conv")
def conv(
    xp: Any,
    x: Any,
    w: Any,
    *,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> Any:
    """Slide every filter of `w` over `x`; the sums of products at each place.

    Parameters
    ----------
    x : array, shape (N, C, *S)
    w : array, shape (F, C / groups, *K)
    stride, padding, dilation : tuple of int, one for each spatial axis
        Distance of places, zeros on both sides of `x`, distance of the filter's elements.
    groups : int, optional
        Blocks of channels that do not meet each other's filters; divides C and F.

    Returns
    -------
    array, shape (N, F, *O)
        Of the common dtype; float16 is added up in float32. `output_lengths` gives O.
    """
    result = xp.result_type(x, w)
    wide = wide_type(result)
    n, f, window = x.shape[0], w.shape[0], w.shape[2:]
    out = output_lengths(x.shape[2:], window, stride, padding, dilation)
    x = padded(xp, x, padding, wide)
    columns = _columns(xp, x, groups, window, out, stride, dilation)
    filters = w.astype(wide, copy=False).reshape((groups, f // groups, columns.shape[2]))
    y = xp.matmul(filters, columns).reshape((n, f, *out))
    return y.astype(result, copy=False)


@primitive("conv_input_grad")
def conv_input_grad(
    xp: Any,
    g: Any,
    w: Any,
    *,
    shape: Lengths,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> Any:
    """The adjoint of `conv` in its first operand; also called transposed convolution.

    Parameters
    ----------
    g : array, shape (N, F, *O)
    w : array, shape (F, C / groups, *K)
    shape : tuple of int
        S, the spatial lengths of the result: several lengths give the same O.
    stride, padding, dilation, groups
        Those of `conv`.

    Returns
    -------
    array, shape (N, C, *shape)
        Of the common dtype; float16 is added up in float32.
    """
    result = xp.result_type(g, w)
    wide = wide_type(result)
    n, f, out, window = g.shape[0], w.shape[0], g.shape[2:], w.shape[2:]
    c = w.shape[1] * groups
    rows = w.shape[1] * math.prod(window)
    filters = w.astype(wide, copy=False).reshape((groups, f // groups, rows))
    filters = xp.swapaxes(filters, 1, 2)
    cotangents = g.astype(wide, copy=False).reshape((n, groups, f // groups, math.prod(out)))
    columns = xp.matmul(filters, cotangents).reshape((n, c, *window, *out))
    lengths = (m + 2 * p for m, p in zip(shape, padding, strict=True))
    x = xp.zeros((n, c, *lengths), dtype=wide)
    for k in np.ndindex(*window):
        x[places(k, out, stride, dilation)] += columns[(slice(None), slice(None), *k)]
    return xp.ascontiguousarray(x[inner_of(shape, padding)]).astype(result, copy=False)


@primitive("conv_weight_grad")
def conv_weight_grad(
    xp: Any,
    g: Any,
    x: Any,
    *,
    window: Lengths,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> Any:
    """The adjoint of `conv` in its second operand.

    Parameters
    ----------
    g : array, shape (N, F, *O)
    x : array, shape (N, C, *S)
    window : tuple of int
        K, the spatial lengths of the result.
    stride, padding, dilation, groups
        Those of `conv`.

    Returns
    -------
    array, shape (F, C / groups, *window)
        Of the common dtype; float16 is added up in float32.
    """
    result = xp.result_type(g, x)
    wide = wide_type(result)
    n, f, out = g.shape[0], g.shape[1], g.shape[2:]
    c = x.shape[1]
    x = padded(xp, x, padding, wide)
    columns = _columns(xp, x, groups, window, out, stride, dilation)
    cotangents = g.astype(wide, copy=False).reshape((n, groups, f // groups, math.prod(out)))
    w = xp.sum(xp.matmul(cotangents, xp.swapaxes(columns, 2, 3)), axis=0)
    return w.reshape((f, c // groups, *window)).astype(result, copy=False)


# ------------------------------------------------------------------------------------ on the host
#
# The windows become a matrix, a block of at most BLOCK_VALUES at a time in memory that stays in a
# core's cache, and all arithmetic is done by BLAS:
#
#     columns      (C / groups * K, samples * places)     copied from the strided windows
#     y            = filters @ columns
#     x gradient   = windows folded back from filters.T @ g, one axis after the other
#     w gradient   = sum over the blocks of g @ columns.T
#
# A block is one sample, or some of its rows, whose product needs no copy; of small images it is
# several samples side by side, because BLAS is slow with few columns.

#: Elements of a block of columns.
BLOCK_VALUES = 131072


class _Block:
    """Samples n0 to n1, and of the first spatial axis the places r0 to r1."""

    __slots__ = ("first", "out", "rows", "samples", "several")

    def __init__(self, n0: int, n1: int, r0: int, r1: int, out: Lengths) -> None:
        self.samples, self.rows = slice(n0, n1), slice(r0, r1)
        self.first = n0
        self.several = n1 - n0 > 1
        self.out = (n1 - n0, r1 - r0, *out[1:])


def _blocks(samples: int, rows: int, out: Lengths) -> Iterator[_Block]:
    """Blocks of columns of `rows` elements that cover all places of all samples, in their order."""
    values = rows * math.prod(out)
    if not samples or not values:
        return
    step = BLOCK_VALUES // values
    if step:
        for n in range(0, samples, step):
            yield _Block(n, min(n + step, samples), 0, out[0], out)
        return
    step = max(1, BLOCK_VALUES // (values // out[0]))
    for n in range(samples):
        for r in range(0, out[0], step):
            yield _Block(n, n + 1, r, min(r + step, out[0]), out)


class _Columns:
    """The windows of `x`, block by block: matrices (groups, C / groups * K, samples * places)."""

    def __init__(
        self,
        x: np.ndarray,
        groups: int,
        window: Lengths,
        out: Lengths,
        stride: Lengths,
        dilation: Lengths,
        dtype: np.dtype,
    ) -> None:
        n, c = x.shape[:2]
        inner = x.strides[2:]
        self.groups, self.rows, self.dtype = groups, c // groups * math.prod(window), dtype
        self.view = np.lib.stride_tricks.as_strided(
            x,
            (c, *window, n, *out),
            (
                x.strides[1],
                *(d * m for d, m in zip(dilation, inner, strict=True)),
                x.strides[0],
                *(s * m for s, m in zip(stride, inner, strict=True)),
            ),
            writeable=False,
        )
        self._before = (slice(None),) * (1 + len(window))

    def __getitem__(self, block: _Block) -> np.ndarray:
        view = self.view[(*self._before, block.samples, block.rows)]
        shape = (self.groups, self.rows, math.prod(block.out))
        if view.flags.c_contiguous and view.dtype == self.dtype:
            return view.reshape(shape)
        columns = scratch_array("conv columns", view.shape, self.dtype)
        np.copyto(columns, view)
        return columns.reshape(shape)


def _places_of(g: np.ndarray, block: _Block, groups: int, dtype: np.dtype) -> np.ndarray:
    """The cotangents of a block as matrices (groups, F / groups, samples * places)."""
    part = g[block.samples, :, block.rows]
    shape = (groups, g.shape[1] // groups, math.prod(block.out))
    return np.ascontiguousarray(part.swapaxes(0, 1), dtype=dtype).reshape(shape)


def _conv_on_host(
    x: np.ndarray,
    w: np.ndarray,
    *,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> np.ndarray:
    result = np.result_type(x, w)
    wide = wide_type(result)
    n, f, window = x.shape[0], w.shape[0], w.shape[2:]
    out = output_lengths(x.shape[2:], window, stride, padding, dilation)
    columns = _Columns(padded(np, x, padding, wide), groups, window, out, stride, dilation, wide)
    filters = np.ascontiguousarray(w, dtype=wide).reshape((groups, f // groups, columns.rows))
    y = (np.empty if columns.rows else np.zeros)((n, f, *out), wide)
    for block in _blocks(n, columns.rows, out):
        matrices = columns[block]
        part = y[block.samples, :, block.rows]
        if block.several:
            sums = np.matmul(filters, matrices).reshape((f, *block.out))
            np.copyto(part, sums.swapaxes(0, 1))
        else:  # BLAS writes into the rows of y: axes of y that lie side by side become one
            shape = (groups, f // groups, matrices.shape[2])
            np.matmul(filters, matrices, out=part[0].reshape(shape))
    return y.astype(result, copy=False)


def _conv_input_grad_on_host(
    g: np.ndarray,
    w: np.ndarray,
    *,
    shape: Lengths,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> np.ndarray:
    result = np.result_type(g, w)
    wide = wide_type(result)
    n, f, out, window = g.shape[0], w.shape[0], g.shape[2:], w.shape[2:]
    c = w.shape[1] * groups
    rows = w.shape[1] * math.prod(window)
    filters = np.ascontiguousarray(w, dtype=wide).reshape((groups, f // groups, rows))
    filters = filters.swapaxes(1, 2)
    lengths = (m + 2 * p for m, p in zip(shape, padding, strict=True))
    x = np.zeros((n, c, *lengths), wide)
    for block in _blocks(n, rows, out):
        cotangents = _places_of(g, block, groups, wide)
        folded = scratch_array("conv columns", (groups, rows, cotangents.shape[2]), wide)
        np.matmul(filters, cotangents, out=folded)
        folded = folded.reshape((c, *window, *block.out))
        for axis in range(len(window) - 1):
            folded = _fold(folded, axis, window, stride, dilation)
        # the last axis is folded into x itself
        k, s, d, m = window[-1], stride[-1], dilation[-1], block.out[-1]
        start = block.rows.start * stride[0]
        if len(window) > 1:
            met: tuple[Any, ...] = (slice(start, start + folded.shape[3]),)
            met += tuple(slice(length) for length in folded.shape[4:-1])
            x_part = x[(block.samples, slice(None), *met)].swapaxes(0, 1)
            start = 0
        else:
            x_part = x[block.samples].swapaxes(0, 1)
        for i in range(k):
            begin = start + i * d
            x_part[..., begin : begin + (m - 1) * s + 1 : s] += folded[:, i]
    if any(padding):
        x = x[inner_of(shape, padding)]
    return np.ascontiguousarray(x, dtype=result)


def _fold(
    folded: np.ndarray, axis: int, window: Lengths, stride: Lengths, dilation: Lengths
) -> np.ndarray:
    """Add up what the window's elements along one axis sent to each element along that axis.

    (C, K[axis], K[axis + 1], ..., samples, ..., O[axis], ...)
    becomes (C, K[axis + 1], ..., samples, ..., length met by the window at those places, ...).
    """
    k, s, d = window[axis], stride[axis], dilation[axis]
    if k == 1 and s == 1:
        return folded[:, 0]
    at = 1 + len(window)  # of O[axis], once K[axis] is gone
    places = folded.shape[at + 1]
    shape = [folded.shape[0], *folded.shape[2:]]
    shape[at] = (places - 1) * s + (k - 1) * d + 1
    target = np.zeros(shape, folded.dtype)
    for i in range(k):
        index = (slice(None),) * at + (slice(i * d, i * d + (places - 1) * s + 1, s),)
        target[index] += folded[:, i]
    return target


def _conv_weight_grad_on_host(
    g: np.ndarray,
    x: np.ndarray,
    *,
    window: Lengths,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> np.ndarray:
    result = np.result_type(g, x)
    wide = wide_type(result)
    n, f, out, c = g.shape[0], g.shape[1], g.shape[2:], x.shape[1]
    columns = _Columns(padded(np, x, padding, wide), groups, window, out, stride, dilation, wide)
    w = np.zeros((groups, f // groups, columns.rows), wide)
    for block in _blocks(n, columns.rows, out):
        w += np.matmul(_places_of(g, block, groups, wide), columns[block].swapaxes(1, 2))
    return w.reshape((f, c // groups, *window)).astype(result, copy=False)


conv.attach(_conv_on_host, device="cpu")
conv_input_grad.attach(_conv_input_grad_on_host, device="cpu")
conv_weight_grad.attach(_conv_weight_grad_on_host, device="cpu")
