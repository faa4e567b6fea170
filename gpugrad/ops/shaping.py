"""Functions that rearrange elements without computing: mostly views."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from gpugrad.apply import apply, forget_gradients
from gpugrad.backend.array_module import asnumpy
from gpugrad.graph.op import Op, operation
from gpugrad.tensor import Tensor, as_operand

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_to",
    "expand_dims",
    "flatten",
    "moveaxis",
    "ravel",
    "repeat",
    "reshape",
    "roll",
    "squeeze",
    "swapaxes",
    "tile",
    "transpose",
]


def as_tensor(function: str, x: Any) -> Tensor:
    """`x` itself if it is a tensor, else a constant one that shows its memory."""
    if isinstance(x, Tensor):
        return x
    return Tensor(as_operand(function, x), constant=True, copy=False)


def lined(function: str, x: Any, axis: int | None) -> tuple[Tensor, int]:
    """`x` and the axis to run along: of a scalar, and without an axis, of all elements as one."""
    x = as_tensor(function, x)
    if axis is None:
        return ravel(x), 0
    return (x if x.ndim else ravel(x)), axis


def _back_to_shape(xp: Any, g: Any, y: Any, x: Any, **params: Any) -> Any:
    return xp.reshape(g, x.shape)


@operation("reshape", _back_to_shape, may_view=True)
def RESHAPE(xp: Any, x: Any, *, shape: Any) -> Any:
    return xp.reshape(x, shape)


RAVEL = operation("ravel", _back_to_shape, may_view=True)(lambda xp, x: xp.ravel(x))
FLATTEN = operation("flatten", _back_to_shape)(lambda xp, x: x.flatten())
ATLEAST_1D, ATLEAST_2D, ATLEAST_3D = (
    operation(f"atleast_{n}d", _back_to_shape, may_view=True)(
        lambda xp, x, shape: xp.reshape(x, shape)
    )
    for n in (1, 2, 3)
)


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


def _minus(shift: Any) -> Any:
    return tuple(-s for s in shift) if isinstance(shift, tuple) else -shift


@operation("roll", lambda xp, g, y, x, *, shift, axis: xp.roll(g, _minus(shift), axis=axis))
def ROLL(xp: Any, x: Any, *, shift: Any, axis: Any) -> Any:
    return xp.roll(x, shift, axis=axis)


def _repeat_rule(xp: Any, g: Any, y: Any, x: Any, *, repeats: Any, axis: int) -> Any:
    axis %= x.ndim
    if isinstance(repeats, int):
        head = (slice(None),) * axis
        if 0 < repeats <= 8:  # NumPy adds up a short last axis 5 times as slowly as slices
            return reduce(
                xp.add, [xp.getitem(g, (*head, slice(i, None, repeats))) for i in range(repeats)]
            )
        shape = (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])
        return xp.sum(xp.reshape(g, shape), axis=axis + 1)
    source = np.repeat(np.arange(x.shape[axis]), repeats)
    return xp.add_at(x.shape, x.dtype, (slice(None),) * axis + (source,), g)


@operation("repeat", _repeat_rule)
def REPEAT(xp: Any, x: Any, *, repeats: Any, axis: int) -> Any:
    return xp.repeat(x, repeats, axis=axis)


def _tile_rule(xp: Any, g: Any, y: Any, x: Any, *, reps: tuple[int, ...]) -> Any:
    ndim = max(len(reps), x.ndim)
    lengths = (1,) * (ndim - x.ndim) + tuple(x.shape)
    reps = (1,) * (ndim - len(reps)) + reps
    copies = xp.reshape(g, tuple(n for pair in zip(reps, lengths, strict=True) for n in pair))
    return xp.reshape(xp.sum(copies, axis=tuple(range(0, 2 * ndim, 2))), x.shape)


@operation("tile", _tile_rule)
def TILE(xp: Any, x: Any, *, reps: tuple[int, ...]) -> Any:
    return xp.tile(x, reps)


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
    return apply(RAVEL, (a,), constant=constant)


def flatten(a: Any, *, constant: bool | None = None) -> Tensor:
    """A copy of `a` as one axis."""
    return apply(FLATTEN, (as_tensor("flatten", a),), constant=constant)


def _at_least(op: Op, n: int, tensors: tuple, constant: bool | None) -> Any:
    made = []
    for t in tensors:
        x = as_tensor(op.name, t)
        if x.ndim < n or (constant is not None and constant != x.constant):
            source = t if x is t else x.data  # a view of an array has no tensor as its base
            missing = max(n - x.ndim, 0)
            behind = 1 if missing and n == 3 and x.ndim else 0  # (n,) becomes (1, n, 1)
            shape = (1,) * (missing - behind) + tuple(x.shape) + (1,) * behind
            x = apply(op, (source,), {"shape": shape}, constant=constant)
        made.append(x)
    return made[0] if len(made) == 1 else made


def atleast_1d(*tensors: Any, constant: bool | None = None) -> Tensor | list[Tensor]:
    """Each argument with at least one axis: itself, or a view with an axis of length 1.

    Returns
    -------
    Tensor or list of Tensor
        A list, unless there is exactly one argument.
    """
    return _at_least(ATLEAST_1D, 1, tensors, constant)


def atleast_2d(*tensors: Any, constant: bool | None = None) -> Tensor | list[Tensor]:
    """Each argument with at least two axes, new ones in front; see `atleast_1d`."""
    return _at_least(ATLEAST_2D, 2, tensors, constant)


def atleast_3d(*tensors: Any, constant: bool | None = None) -> Tensor | list[Tensor]:
    """Each argument with at least three axes: (), (n,), (n, m) become (1, 1, 1), (1, n, 1),
    (n, m, 1); see `atleast_1d`.
    """
    return _at_least(ATLEAST_3D, 3, tensors, constant)


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
    order: Any = axes or None
    if len(axes) == 1 and not isinstance(axes[0], int | np.integer):
        order = None if axes[0] is None else tuple(axes[0])
    return apply(TRANSPOSE, (a,), {"axes": order}, constant=constant)


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


def roll(
    a: Any, shift: int | tuple[int, ...], axis: Any = None, *, constant: bool | None = None
) -> Tensor:
    """`a` moved by `shift` along `axis`; what leaves at the end comes back at the beginning.

    Parameters
    ----------
    a : array_like
    shift : int or tuple of int
    axis : int or tuple of int, optional
        By default the elements are moved in C order, as if they were one axis.
    constant : bool, optional

    Returns
    -------
    Tensor, of the shape of `a`

    Raises
    ------
    ValueError
        `shift` and `axis` have different lengths, or an axis does not exist.
    """
    if isinstance(shift, list | np.ndarray):
        shift = tuple(shift)
    return apply(ROLL, (a,), {"shift": shift, "axis": axis}, constant=constant)


def repeat(
    a: Any, repeats: Any, axis: int | None = None, *, constant: bool | None = None
) -> Tensor:
    """Each element of `a` several times in a row.

    Parameters
    ----------
    a : array_like
    repeats : int or sequence of int
        How often; for each element along `axis`, or for all of them.
    axis : int, optional
        By default `a` is taken as one axis.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        `repeats` is negative, has another length than the axis, or the axis does not exist.
    """
    x, axis = lined("repeat", a, axis)
    counts = np.array(asnumpy(repeats))
    if counts.size == 1:
        repeats = int(counts.reshape(())[()])
    else:
        repeats = counts.astype(np.intp) if not counts.size else counts
    result = apply(REPEAT, (x,), {"repeats": repeats, "axis": axis}, constant=constant)
    forget_gradients((a,))
    return result


def tile(A: Any, reps: int | tuple[int, ...], *, constant: bool | None = None) -> Tensor:
    """Copies of `A` side by side: `reps` of them along each axis.

    Parameters
    ----------
    A : array_like
    reps : int or tuple of int
        Of `reps` and the shape of `A` the shorter is filled up with 1 in front.
    constant : bool, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        A negative number of copies.
    """
    counts: tuple[Any, ...] = (
        tuple(reps) if isinstance(reps, list | tuple | np.ndarray) else (reps,)
    )
    if any(n < 0 for n in counts):
        raise ValueError(f"tile: reps is {reps}, expected no negative number")
    return apply(TILE, (A,), {"reps": counts}, constant=constant)
