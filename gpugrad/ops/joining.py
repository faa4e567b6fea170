"""Functions that make one tensor from several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpugrad.graph.op import operation
from gpugrad.ops.shaping import expand_dims, ravel
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = ["concatenate", "stack"]


def _piece(i: int) -> Any:
    def rule(xp: Any, g: Any, y: Any, *xs: Any, axis: int) -> Any:
        axis %= y.ndim
        start = sum(x.shape[axis] for x in xs[:i])
        cut = (slice(None),) * axis + (slice(start, start + xs[i].shape[axis]),)
        return xp.getitem(g, cut)

    return rule


@operation("concatenate", variadic=_piece)
def CONCATENATE(xp: Any, *xs: Any, axis: int) -> Any:
    return xp.concatenate(xs, axis=axis)


def concatenate(
    tensors: Sequence[Any], axis: int | None = 0, out: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Join tensors along an axis they all have; ``axis=None`` flattens them first.

    Raises
    ------
    ValueError
        No tensor, or lengths that differ along another axis.
    """
    parts = list(tensors)
    if axis is None:
        parts, axis = [ravel(t) for t in parts], 0
    return call(CONCATENATE, parts, {"axis": axis}, out=out, constant=constant)


def stack(
    tensors: Sequence[Any], axis: int = 0, out: Any = None, *, constant: bool | None = None
) -> Tensor:
    """Join tensors of one shape along a new axis.

    Raises
    ------
    ValueError
        No tensor, or shapes that differ.
    """
    parts = [expand_dims(t, axis) for t in tensors]
    shapes = {p.shape for p in parts}
    if len(shapes) != 1:
        raise ValueError(f"stack: got shapes {sorted(shapes)}, expected one shape")
    return concatenate(parts, axis, out, constant=constant)
