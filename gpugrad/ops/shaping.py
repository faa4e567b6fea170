"""Functions that rearrange elements without computing: mostly views."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.graph.op import operation
from gpugrad.tensor import Tensor

__all__ = [
    "broadcast_to",
    "expand_dims",
    "moveaxis",
    "ravel",
    "reshape",
    "squeeze",
    "swapaxes",
    "transpose",
]


def _back_to_shape(xp: Any, g: Any, y: Any, x: Any, **params: Any) -> Any:
    return xp.reshape(g, x.shape)


@operation("reshape", _back_to_shape, may_view=True)
def RESHAPE(xp: Any, x: Any, *, shape: Any) -> Any:
    return xp.reshape(x, shape)


@operation("expand_dims", _back_to_shape, may_view=True)
def EXPAND_DIMS(xp: Any, x: Any, *, axis: Any) -> Any:
    return xp.expand_dims(x, axis)


@operation("squeeze", _back_to_shape, may_view=True)
def SQUEEZE(xp: Any, x: Any, *, axis: Any) -> Any:
    return xp.squeeze(x, axis=axis)


def _transpose_rule(xp: Any, g: Any, y: Any, x: Any, *, axes: Any) -> Any:
    if axes is None:
        return xp.transpose(g, None)
    return xp.transpose(g, tuple(int(i) for i in np.argsort([a % x.ndim for a in axes])))


@operation("transpose", _transpose_rule, may_view=True)
def TRANSPOSE(xp: Any, x: Any, *, axes: Any) -> Any:
    return xp.transpose(x, axes)


@operation(
    "swapaxes",
    lambda xp, g, y, x, *, axis1, axis2: xp.swapaxes(g, axis1, axis2),
    may_view=True,
)
def SWAPAXES(xp: Any, x: Any, *, axis1: int, axis2: int) -> Any:
    return xp.swapaxes(x, axis1, axis2)


@operation(
    "moveaxis",
    lambda xp, g, y, x, *, source, destination: xp.moveaxis(g, destination, source),
    may_view=True,
)
def MOVEAXIS(xp: Any, x: Any, *, source: Any, destination: Any) -> Any:
    return xp.moveaxis(x, source, destination)


# the sweep sums the cotangent back to the shape of x
@operation("broadcast_to", lambda xp, g, y, x, *, shape: g, may_view=True)
def BROADCAST_TO(xp: Any, x: Any, *, shape: Any) -> Any:
    return xp.broadcast_to(x, shape)


def reshape(a: Any, newshape: Any, *, constant: bool | None = None) -> Tensor:
    """`a` in a new shape, a view where possible; one length may be -1.

    Raises
    ------
    ValueError
        The number of elements differs.
    """
    return apply(RESHAPE, (a,), {"shape": newshape}, constant=constant)


def ravel(a: Any, *, constant: bool | None = None) -> Tensor:
    """`a` as one axis, a view where possible."""
    return apply(RESHAPE, (a,), {"shape": -1}, constant=constant)


def expand_dims(a: Any, axis: Any, *, constant: bool | None = None) -> Tensor:
    """`a` with an axis of length 1 inserted, so that it becomes axis number `axis`."""
    return apply(EXPAND_DIMS, (a,), {"axis": axis}, constant=constant)


def squeeze(a: Any, axis: Any = None, *, constant: bool | None = None) -> Tensor:
    """`a` without its axes of length 1, or without the named ones among them.

    Raises
    ------
    ValueError
        A named axis has another length.
    """
    return apply(SQUEEZE, (a,), {"axis": axis}, constant=constant)


def transpose(a: Any, *axes: Any, constant: bool | None = None) -> Tensor:
    """`a` with its axes reversed, or in the order given (as a tuple or one by one)."""
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    return apply(TRANSPOSE, (a,), {"axes": tuple(order) if order else None}, constant=constant)


def swapaxes(a: Any, axis1: int, axis2: int, *, constant: bool | None = None) -> Tensor:
    """`a` with two axes exchanged."""
    return apply(SWAPAXES, (a,), {"axis1": axis1, "axis2": axis2}, constant=constant)


def moveaxis(a: Any, source: Any, destination: Any, *, constant: bool | None = None) -> Tensor:
    """`a` with axes moved to new places, the others in their order."""
    params = {"source": source, "destination": destination}
    return apply(MOVEAXIS, (a,), params, constant=constant)


def broadcast_to(a: Any, shape: Any, *, constant: bool | None = None) -> Tensor:
    """`a` repeated to `shape` by NumPy's broadcasting: a view.

    Raises
    ------
    ValueError
        `a` does not broadcast to `shape`.
    """
    return apply(BROADCAST_TO, (a,), {"shape": shape}, constant=constant)
