"""Convolution over any number of spatial axes, and its two adjoints.

As everywhere in the literature of neural networks it is a cross-correlation: the filters are not
flipped. With s = stride, p = padding, d = dilation, written for one spatial axis and one group,

    conv               y[n, f, o] = sum over c, k of  w[f, c, k] x[n, c, o s + k d - p]
    conv_input_grad    x[n, c, i] = sum over f, k, o with i = o s + k d - p of  w[f, c, k] g[n, f, o]
    conv_weight_grad   w[f, c, k] = sum over n, o of  g[n, f, o] x[n, c, o s + k d - p]

where x is 0 outside its range. With G groups the channels and the filters are cut into G blocks of
consecutive ones, and block i of the filters sees block i of the channels alone. Each of the three
is bilinear, and its derivatives are the other two:

    <conv(x, w), g> = <x, conv_input_grad(g, w)> = <w, conv_weight_grad(g, x)>
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

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
    """The type that sums of `dtype` are added up in: float32 for float16, else itself."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize == 2 else dtype


def padded(xp: Any, x: Any, padding: Lengths, dtype: np.dtype) -> Any:
    """`x` of `dtype` with zeros around its spatial axes; `x` itself where nothing changes."""
    if not any(padding):
        return x if x.dtype == dtype else x.astype(dtype)
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
    filters = w.astype(wide).reshape((groups, f // groups, columns.shape[2]))
    y = xp.matmul(filters, columns).reshape((n, f, *out))
    return y if wide == result else y.astype(result)


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
        At one place the window's elements are added up in C order.
    """
    result = xp.result_type(g, w)
    wide = wide_type(result)
    n, f, out, window = g.shape[0], w.shape[0], g.shape[2:], w.shape[2:]
    c = w.shape[1] * groups
    rows = w.shape[1] * math.prod(window)
    filters = xp.swapaxes(w.astype(wide).reshape((groups, f // groups, rows)), 1, 2)
    cotangents = g.astype(wide).reshape((n, groups, f // groups, math.prod(out)))
    columns = xp.matmul(filters, cotangents).reshape((n, c, *window, *out))
    lengths = (m + 2 * p for m, p in zip(shape, padding, strict=True))
    x = xp.zeros((n, c, *lengths), dtype=wide)
    for k in np.ndindex(*window):
        x[places(k, out, stride, dilation)] += columns[(slice(None), slice(None), *k)]
    return xp.ascontiguousarray(x[inner_of(shape, padding)]).astype(result)


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
        The samples are added up in their order.
    """
    result = xp.result_type(g, x)
    wide = wide_type(result)
    n, f, out = g.shape[0], g.shape[1], g.shape[2:]
    c = x.shape[1]
    x = padded(xp, x, padding, wide)
    columns = _columns(xp, x, groups, window, out, stride, dilation)
    cotangents = g.astype(wide).reshape((n, groups, f // groups, math.prod(out)))
    w = xp.sum(xp.matmul(cotangents, xp.swapaxes(columns, 2, 3)), axis=0)
    return w.reshape((f, c // groups, *window)).astype(result)
