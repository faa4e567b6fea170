"""Reading parts of a tensor, and choosing between two."""

from __future__ import annotations

from typing import Any

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.graph.op import operation
from gpugrad.mutation import PUT_VIEW, raw_index
from gpugrad.tensor import Tensor

__all__ = ["add_at", "getitem", "put", "where"]


def _getitem_rule(xp: Any, g: Any, y: Any, x: Any, *, index: Any) -> Any:
    return xp.add_at(x.shape, x.dtype, index, g)


@operation("getitem", _getitem_rule, may_view=True)
def GETITEM(xp: Any, x: Any, *, index: Any) -> Any:
    return xp.getitem(x, index)


def _add_at_rule(xp: Any, g: Any, y: Any, x: Any, *, shape: Any, dtype: Any, index: Any) -> Any:
    return xp.getitem(g, index)


@operation("add_at", _add_at_rule)
def ADD_AT(xp: Any, x: Any, *, shape: Any, dtype: Any, index: Any) -> Any:
    return xp.add_at(shape, dtype, index, x)


WHERE = operation(
    "where",
    None,
    lambda xp, g, y, condition, x1, x2: xp.where(condition, g, 0),
    lambda xp, g, y, condition, x1, x2: xp.where(condition, 0, g),
)(lambda xp, condition, x1, x2: xp.where(condition, x1, x2))


def getitem(x: Any, index: Any) -> Tensor:
    """``x[index]``: a view for slices and integers, a copy for arrays of indices and masks.

    Raises
    ------
    IndexError
        `index` is out of range, or has too many entries.
    """
    return apply(GETITEM, (x,), {"index": raw_index(index)})


def add_at(shape: Any, dtype: Any, index: Any, g: Any) -> Tensor:
    """Zeros of this shape and dtype with `g` added at `index`: the adjoint of `getitem`."""
    return apply(ADD_AT, (g,), {"shape": shape, "dtype": dtype, "index": index})


def put(x: Any, index: Any, value: Any) -> Tensor:
    """A copy of `x` with `value` at `index`; of duplicate indices the last one wins."""
    return apply(PUT_VIEW, (x, value), {"recipe": (), "index": raw_index(index)})


def where(condition: Any, x: Any = None, y: Any = None, *, constant: bool | None = None) -> Any:
    """Elements of `x` where `condition` is true, of `y` elsewhere.

    With `condition` alone: the indices of its true elements, as ``numpy.nonzero`` gives them.

    Raises
    ------
    ValueError
        Only one of `x` and `y` is given.
    """
    if isinstance(condition, Tensor):
        condition = condition.data
    if x is None and y is None:
        return get_array_module(condition).nonzero(condition)
    if x is None or y is None:
        raise ValueError("where: got one of x and y, expected both or neither")
    return apply(WHERE, (condition, x, y), constant=constant)
