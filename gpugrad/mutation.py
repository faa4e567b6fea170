"""In-place writes: ``x[k] = v``, ``x += y``, ``out=`` and ``x.shape = ...`` are one move.

The base of the tensor that is written to gets a new vertex, computed from the old one and from what
is written, and its handle is moved there:

    base handle ---------.
                          v
    old vertex --put--> new vertex          (the recipe says where the written view lies)
         \\               ^
          consumers      value              (earlier consumers keep the old vertex)

Views of the base find at their next use that it has moved, and replay their recipes. Without a
graph (``no_autodiff``) writes go straight to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad.apply import bring_scalars
from gpugrad.backend.array_module import check_same_device, get_array_module
from gpugrad.backend.vocabulary import namespace_of, shared
from gpugrad.errors import explain
from gpugrad.graph.guard import is_guarded, is_writeable
from gpugrad.graph.op import OPS, Op, copy_into, operation, run_elementwise
from gpugrad.graph.vertex import CLEARED, NO_PARAMS, Vertex, leaf
from gpugrad.state import TRACKING
from gpugrad.tensor import Tensor, as_operand
from gpugrad.views import extend, hold_operands, in_layout, vertex_of

__all__ = ["PUT_VIEW", "assign", "buffer_of", "raw_index", "replace", "reshape_", "write"]


# ------------------------------------------------------------------ the one functional operation


def _show(xp: Any, x: Any, recipe: Sequence) -> Any:
    """The view of `x` that a recipe describes, in the words of any namespace."""
    for op, params in recipe:
        x = op.forward(xp, x, **params)
    return x


def _winners(xp: Any, shape: tuple, recipe: Sequence, index: Any) -> Any:
    """Which of the written values remained: of several written to one place, the last."""
    places = xp.zeros(shape, dtype=np.int64)
    target = _show(xp, places, recipe)
    written = xp.getitem(target, index)
    numbers = xp.reshape(xp.arange(written.size), written.shape)
    return xp.getitem(xp.put(target, index, numbers), index) == numbers


def _put_x(xp: Any, g: Any, y: Any, x: Any, value: Any, *, recipe: tuple, index: Any) -> Any:
    return xp.put_view(g, 0, recipe=recipe, index=index)


def _put_value(xp: Any, g: Any, y: Any, x: Any, value: Any, *, recipe: tuple, index: Any) -> Any:
    g = _show(xp, g, recipe)
    if index is None:
        return g
    picked = xp.getitem(g, index)
    if _has_arrays(index):
        raw = namespace_of(get_array_module(x))
        keep = _winners(raw, tuple(x.shape), recipe, index)
        picked = xp.where(keep, picked, 0)
    return picked


@shared
def put_view(xp: Any, x: Any, value: Any, *, recipe: tuple, index: Any) -> Any:
    """A copy of `x` whose view by `recipe`, at `index` if given, holds `value`."""
    result = xp.array(x)
    target = _show(xp, result, recipe) if recipe else result
    _set(xp, target, ... if index is None else index, value)
    return result


def _set(xp: Any, target: Any, index: Any, value: Any) -> None:
    """``target[index] = value`` in memory; of duplicate indices the last one wins."""
    if _has_arrays(index) and xp.name != "numpy":
        target[...] = xp.put(target, index, value)
    else:
        target[index] = value


PUT_VIEW = operation("put_view", _put_x, _put_value)(put_view)


def _has_arrays(index: Any) -> bool:
    if type(index) is int or type(index) is slice or index is ...:
        return False  # most writes; the general answer costs a microsecond
    return any(
        isinstance(k, list | tuple) or (hasattr(k, "dtype") and np.ndim(k) > 0)
        for k in (index if isinstance(index, tuple) else (index,))
    )


# -------------------------------------------------------------------------------------- the move


def _check_writeable(function: str, data: Any) -> None:
    if not is_writeable(data):
        raise ValueError(f"{function}: the tensor's array is read-only by its owner's wish")


def _memory(function: str, target: Tensor) -> Any:
    """The array of `target` itself, to be written to without a graph."""
    # `data`, not the vertex's: an array that nobody knew is read-only from here on if a graph
    # depends on it, whose gradient the write would spoil
    data = target.data
    if is_guarded(data):
        raise ValueError(
            f"{function}: the array is read-only while a graph depends on it; backward() or "
            "clear_graph() releases it"
        )
    return data


def _move(target: Tensor, value: Any, index: Any = None) -> None:
    """Write `value`, a vertex or raw constant, to `target` (at `index`) and move its base."""
    view = target._view
    base = target if view is None else view.base
    old = vertex_of(base)
    laid_out = in_layout(base, old)
    if view is not None:
        recipe = view.recipe
    elif hasattr(base, "_layout"):
        recipe = ((OPS["reshape"], {"shape": old.data.shape}),)
    else:
        recipe = ()
    params = {"recipe": recipe, "index": index}
    new = extend(PUT_VIEW, laid_out, params, value)
    new.constant = old.constant
    if laid_out is not old:
        new = extend(OPS["reshape"], new, {"shape": old.data.shape})
    base._vertex = new
    if view is not None:
        vertex_of(target)


def assign(target: Tensor, index: Any, value: Any) -> None:
    """``target[index] = value``, with the gradient going to what was kept and to `value`.

    Raises
    ------
    ValueError
        `value` does not broadcast to the shape of ``target[index]``, or the array is read-only.
    IndexError
        `index` is out of range.
    """
    tracking = TRACKING.get()
    vertex = vertex_of(target, tracking)
    index = raw_index(index)
    operand = vertex_of(value) if isinstance(value, Tensor) else as_operand("setitem", value)
    raw = operand.data if isinstance(operand, Vertex) else operand
    xp = namespace_of(check_same_device("setitem", vertex.data, raw))
    if not tracking:
        try:
            _set(xp, _memory("setitem", target), index, raw)
        except BaseException as error:
            explain(error, "setitem", (vertex.data, raw))
            raise
        return
    _check_writeable("setitem", vertex.data)
    if isinstance(operand, Vertex):
        operand.grad = None
    if xp.name != "numpy":
        both = [vertex, operand]
        bring_scalars(both, [vertex.data, raw])
        operand = both[1]
    _move(target, operand, index)


def write(
    target: Tensor,
    op: Op,
    operands: Sequence[Any],
    params: dict[str, Any] = NO_PARAMS,
    *,
    where: Any = None,
    dtype: Any = None,
) -> Tensor:
    """``op(*operands, out=target)``; returns `target`.

    Raises
    ------
    ValueError
        The result does not have the shape of `target`, or its array is read-only.
    TypeError
        The result cannot be cast to the dtype of `target` under NumPy's rule "same_kind".
    """
    tracking = TRACKING.get()
    vertex = vertex_of(target, tracking)
    inputs = [
        vertex_of(a, tracking) if isinstance(a, Tensor) else as_operand(op.name, a)
        for a in operands
    ]
    raw = [p.data if isinstance(p, Vertex) else p for p in inputs]
    data = vertex.data
    xp = namespace_of(check_same_device(op.name, data, *raw, where))
    if xp.name != "numpy":
        bring_scalars(inputs, raw)
    if where is not None:
        where = xp.asarray(where)
    out = buffer_of(op.name, target, where is not None)
    try:
        if op.elementwise:
            run_elementwise(op, xp, raw, out, where, dtype)
        else:
            copy_into(op.name, xp, out, op.forward(xp, *raw, **params))
    except BaseException as error:
        explain(error, op.name, raw)
        raise
    if not tracking:
        return target
    for p in inputs:
        if isinstance(p, Vertex):
            p.grad = None
    value = Vertex(out, op, tuple(inputs), params, vertex.constant, hold_operands(inputs), where)
    return replace(target, value, where)


def buffer_of(function: str, target: Tensor, with_values: bool = True) -> Any:
    """What ``out=target`` has computed into: memory of its own, or without a graph the target's.

    Raises
    ------
    ValueError
        The array of `target` is read-only.
    """
    if not TRACKING.get():
        return _memory(function, target)
    data = vertex_of(target).data
    _check_writeable(function, data)
    xp = namespace_of(get_array_module(data))
    return xp.array(data) if with_values else xp.empty(data.shape, dtype=data.dtype)


def replace(target: Tensor, value: Vertex, where: Any = None) -> Tensor:
    """`target`, moved to `value`; where the mask is false it keeps what it was."""
    if where is not None:
        old, kept = vertex_of(target), OPS["where"]
        xp = namespace_of(get_array_module(old.data))
        both = (where, value, old)
        selected = kept.forward(xp, where, value.data, old.data)
        # no gradient needs what `old` holds: its array is left free
        value = Vertex(selected, kept, both, NO_PARAMS, old.constant, hold_operands((value,)))
    if target._view is None and not hasattr(target, "_layout"):
        target._vertex = value
    else:
        _move(target, value)
    return target


def reshape_(target: Tensor, shape: Any) -> None:
    """``target.shape = shape``: reshape the handle, within the graph, not its array.

    Raises
    ------
    ValueError
        The number of elements differs.
    AttributeError
        The array cannot take the shape without a copy, as NumPy says it.
    """
    tracking = TRACKING.get()
    _ = target.data  # what a live graph needs becomes read-only, and this with it
    vertex = vertex_of(target, tracking)
    if shape == vertex.data.shape:
        return
    params = {"shape": shape}
    new = extend(OPS["reshape"], vertex, params)
    if vertex.data.size and isinstance(new.data, np.ndarray):
        if not np.shares_memory(new.data, vertex.data):
            raise AttributeError(
                f"Tensor.shape: {vertex.data.shape} to {shape} needs a copy; use reshape()"
            )
    new.grad = None
    if not tracking and vertex.op in (None, CLEARED):
        new = leaf(new.data, vertex.constant, exposed=True)
    view = target._view
    if view is not None:
        view.recipe = (*view.recipe, (OPS["reshape"], params))
    elif not hasattr(target, "_layout"):
        target._layout = vertex.data.shape
    target._vertex = new


def raw_index(index: Any) -> Any:
    """`index` without tensors, and in memory of its own: the derivative needs what it is now."""
    if type(index) is int or type(index) is slice:
        return index
    return tuple(map(_kept, index)) if isinstance(index, tuple) else _kept(index)


def _kept(k: Any) -> Any:
    if isinstance(k, list):
        return [_kept(entry) for entry in k]
    if isinstance(k, Tensor):
        k = vertex_of(k, renewing=False).data
    return k.copy() if getattr(k, "ndim", 0) else k
