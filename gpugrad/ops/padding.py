"""Borders around a tensor, and windows that slide over it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.graph.op import operation
from gpugrad.ops.indexing import getitem
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor

__all__ = ["pad", "sliding_window_view"]

_BY_INDEX = ("edge", "reflect", "symmetric", "wrap")

# ----------------------------------------------------------------------------------------- borders


def _pad_rule(xp: Any, g: Any, y: Any, x: Any, *, width: tuple, values: Any) -> Any:
    inner = tuple(slice(b, b + n) for (b, _), n in zip(width, x.shape, strict=True))
    return xp.getitem(g, inner)


@operation("pad", _pad_rule)
def PAD(xp: Any, x: Any, *, width: tuple, values: Any) -> Any:
    if not width:
        return xp.array(x)
    return xp.pad(x, width, mode="constant", constant_values=values)


def _pairs(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis."""
    if isinstance(pad_width, dict):
        pairs: list[Any] = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            pairs[axis] = width if np.ndim(width) else (width, width)
        pad_width = pairs
    widths = np.asarray(pad_width)
    if widths.size and widths.dtype.kind not in "iu":
        raise TypeError(f"pad: pad_width is {pad_width!r}, expected integers")
    try:
        widths = np.broadcast_to(widths, (ndim, 2))
    except ValueError:
        raise ValueError(
            f"pad: pad_width has shape {widths.shape}, which does not broadcast to ({ndim}, 2): "
            f"one pair for each of the {ndim} axes"
        ) from None
    if (widths < 0).any():
        raise ValueError(f"pad: pad_width is {pad_width!r}, expected no negative number")
    return tuple((int(b), int(a)) for b, a in widths)


def pad(
    array: Any,
    pad_width: Any,
    mode: str = "constant",
    *,
    constant_values: Any = None,
    constant: bool | None = None,
) -> Tensor:
    """`array` with a border.

    Parameters
    ----------
    array : array_like
    pad_width : int, (before, after), one such pair for each axis, or dict of axis -> pair
        How many elements are added.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, optional
        Where the border comes from: `constant_values`, the element at the edge, the elements
        mirrored at the edge without or with itself, the other end.
    constant_values : scalar or pairs as for `pad_width`, optional
        For the mode "constant"; 0 by default.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        Another mode, a negative width, widths for another number of axes, an axis without elements
        that is to be padded by its own.
    TypeError
        A width that is not an integer.
    """
    x = as_tensor("pad", array)
    width = _pairs(pad_width, x.ndim)
    if mode == "constant":
        values = 0 if constant_values is None else constant_values
        if isinstance(values, Tensor):
            if not values.constant:
                raise TypeError("pad: constant_values takes gradients, expected a constant")
            values = values.data.tolist()
        return apply(PAD, (x,), {"width": width, "values": values}, constant=constant)
    if mode not in _BY_INDEX:
        raise ValueError(f"pad: mode is {mode!r}, expected one of {('constant', *_BY_INDEX)}")
    if constant_values is not None:
        raise ValueError(f"pad: constant_values given for mode {mode!r}, expected for 'constant'")
    padded = [axis for axis, both in enumerate(width) if any(both)]
    if not padded:
        return apply(PAD, (x,), {"width": width, "values": 0}, constant=constant)
    for axis in padded:
        if not x.shape[axis]:
            raise ValueError(f"pad: axis {axis} is empty, mode {mode!r} needs an element")
        source = np.pad(np.arange(x.shape[axis]), width[axis], mode=mode)  # type: ignore[call-overload]
        last = constant if axis == padded[-1] else None
        x = getitem(x, (slice(None),) * axis + (source,), constant=last)
    return x


# ----------------------------------------------------------------------------------------- windows


def _positions(n: int, window: int, step: int, dilation: int) -> int:
    return (n - (window - 1) * dilation - 1) // step + 1


def _windows_rule(
    xp: Any, g: Any, y: Any, x: Any, *, window: tuple, step: tuple, dilation: tuple
) -> Any:
    # the windows are folded back one axis at a time: as many sums as the windows are wide
    k = len(window)
    for j in reversed(range(k)):
        n = x.shape[x.ndim - k + j]
        positions = g.shape[j]
        shape = (*g.shape[:j], n, *g.shape[j + 1 : -1])
        pieces = []
        for i in range(window[j]):
            start = i * dilation[j]
            stop = start + (positions - 1) * step[j] + 1
            index = (slice(None),) * j + (slice(start, stop, step[j]),)
            pieces.append(xp.add_at(shape, x.dtype, index, xp.getitem(g, (..., i))))
        g = reduce(xp.add, pieces)
    return xp.moveaxis(g, tuple(range(k)), tuple(range(x.ndim - k, x.ndim)))


@operation("sliding_window_view", _windows_rule)
def WINDOWS(xp: Any, x: Any, *, window: tuple, step: tuple, dilation: tuple) -> Any:
    k = len(window)
    leading = x.ndim - k
    positions = tuple(map(_positions, x.shape[leading:], window, step, dilation))
    inner = x.strides[leading:]
    shape = (*positions, *x.shape[:leading], *window)
    strides = (
        *(s * n for s, n in zip(step, inner, strict=True)),
        *x.strides[:leading],
        *(d * n for d, n in zip(dilation, inner, strict=True)),
    )
    view = xp.module.lib.stride_tricks.as_strided(x, shape, strides)
    if xp.module is np:  # CuPy has no read-only arrays
        view.flags.writeable = False  # elements overlap
    return view


def _integers(x: Any) -> list[int] | None:
    """`x` as a list of positive integers, or None if it is something else."""
    found = list(x)
    if all(isinstance(n, int | np.integer) and n > 0 for n in found):
        return [int(n) for n in found]
    return None


def _for_each(name: str, value: Any, k: int) -> tuple[int, ...]:
    """A positive integer, or one for each of k axes."""
    expected = f"sliding_window_view: {name} is {value!r}, expected a positive integer"
    if isinstance(value, int | np.integer):
        if value < 1:
            raise ValueError(expected)
        return (int(value),) * k
    if not isinstance(value, Iterable):
        raise TypeError(f"{expected} or {k} of them")
    integers = _integers(value)
    if integers is None or len(integers) != k:
        raise ValueError(f"{expected} or {k} of them")
    return tuple(integers)


def sliding_window_view(arr: Any, window_shape: Any, step: Any, dilation: Any = None) -> Any:
    """Windows that slide over the last axes of `arr`, without copying.

    Parameters
    ----------
    arr : array or Tensor, shape (..., n_1, ..., n_k)
    window_shape : sequence of k int
        (w_1, ..., w_k)
    step : int or sequence of k int
        How far the window moves along each axis.
    dilation : int or sequence of k int, optional
        The distance of neighbours in a window along each axis; 1 by default.

    Returns
    -------
    array or Tensor, shape (p_1, ..., p_k, ..., w_1, ..., w_k)
        ``p = (n - (w - 1) * dilation - 1) // step + 1`` positions along each axis, then the axes
        that no window slides over, then the window. Read-only: windows overlap in memory. An array
        gives an array; a tensor gives a tensor, through which gradients flow.

    Raises
    ------
    TypeError
        `window_shape` is no sequence of positive integers; `step` or `dilation` is no integer.
    ValueError
        `step` or `dilation` is not positive or has another length than `window_shape`; a window
        does not fit into `arr`.

    Examples
    --------
    >>> import numpy as np
    >>> import gpugrad as gg
    >>> gg.sliding_window_view(np.arange(6), window_shape=(3,), step=2)
    array([[0, 1, 2],
           [2, 3, 4]])
    """
    function = "sliding_window_view"
    window = _integers(window_shape) if isinstance(window_shape, Iterable) else None
    if window is None:
        raise TypeError(
            f"{function}: window_shape is {window_shape!r}, expected a sequence of positive "
            "integers"
        )
    k, shape = len(window), tuple(arr.shape)
    steps = _for_each("step", step, k)
    spread = _for_each("dilation", 1 if dilation is None else dilation, k)
    if not k or k > len(shape):
        raise ValueError(
            f"{function}: window_shape is {tuple(window)}, expected 1 to {len(shape)} lengths for "
            f"arr of shape {shape}"
        )
    for n, w, d in zip(shape[-k:], window, spread, strict=True):
        if (w - 1) * d + 1 > n:
            raise ValueError(
                f"{function}: windows of shape {tuple(window)} and dilation {spread} do not fit "
                f"into the last axes of arr of shape {shape}"
            )
    params = {"window": tuple(window), "step": steps, "dilation": spread}
    if isinstance(arr, Tensor):
        return apply(WINDOWS, (arr,), params)
    return WINDOWS.forward(namespace_of(get_array_module(arr)), arr, **params)
