"""Applying an operation to tensors, arrays and numbers: the one place where graphs grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad.backend.array_module import check_same_device, device_of, get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import explain
from gpugrad.graph.guard import Hold, adopt, use_of_leaf
from gpugrad.graph.op import OPS, Op, copy_into, run_elementwise
from gpugrad.graph.sweep import expect_several_devices
from gpugrad.graph.vertex import CLEARED, NO_PARAMS, UNGUARDED, Vertex, leaf
from gpugrad.state import GUARD, TRACKING
from gpugrad.tensor import SCALARS, Tensor, as_operand, resolve_constant, wrap
from gpugrad.views import View, extend, vertex_of

__all__ = ["apply", "apply_two", "bring_scalars", "forget_gradients", "note_view"]

_new = object.__new__


def apply(
    op: Op,
    operands: Sequence[Any],
    params: dict[str, Any] = NO_PARAMS,
    *,
    where: Any = None,
    dtype: Any = None,
    constant: bool | None = None,
    out: Any = None,
) -> Tensor:
    """The tensor ``op(*operands, **params)``, recorded in the graph.

    Parameters
    ----------
    op : Op
    operands : sequence of Tensor, array or scalar
    params : dict
        Keyword arguments of the operation and of its rules.
    where, dtype : optional
        NumPy's, for elementwise operations.
    constant : bool, optional
        Overrules what follows from the operands.
    out : raw array, optional
        Written to; the tensor shows its memory.
    """
    # one loop of plain statements: this function is most of the cost of a small tensor
    tracking = TRACKING.get()
    inputs: list[Any] = []
    raw: list[Any] = []
    all_constant = host = True
    first: Tensor | None = None
    may_view = op.may_view
    ndarray = np.ndarray
    holds: list[Any] | None = [] if tracking and GUARD.get() else None
    arrays: list[Any] | None = None
    stale: list[Vertex] | None = None  # their gradients are forgotten, if nothing fails
    for a in operands:
        if isinstance(a, Tensor):
            v = a._vertex
            if a._view is not None or v.op is CLEARED:
                v = vertex_of(a, tracking)
            if v.grad is not None and tracking:
                if stale is None:
                    stale = [v]
                else:
                    stale.append(v)
            if not v.constant:
                all_constant = False
            if holds is not None:
                hold = v.own
                if hold is None or v.exposed:
                    if v.op is None or v.holds is UNGUARDED:
                        hold = use_of_leaf(v)
                if hold is not None:
                    holds.append(hold)
            if first is None:
                first = a
            inputs.append(v)
            a = v.data
            if type(a) is not ndarray:
                host = False
        else:
            if type(a) not in SCALARS:
                a = as_operand(op.name, a)
                if out is not None and tracking:
                    a = _before_write(a, out)
                if type(a) is not ndarray:
                    host = False
                elif arrays is None:
                    arrays = [a]
                else:
                    arrays.append(a)
            inputs.append(a)
        raw.append(a)
    if not host:
        bring_scalars(inputs, raw)
    if may_view and first is not None and not tracking:
        # the view will stand alone and may be written to: a live graph's memory becomes read-only
        raw[0] = first.data
    try:
        if where is None and dtype is None and out is None and host:
            data = op.host(*raw, **params) if params else op.host(*raw)
        else:
            data, where = _apply_slowly(op, raw, params, where, dtype, out)
    except BaseException as error:
        # the traceback keeps this frame: what it holds must not stay locked
        holds = hold = None
        explain(error, op.name, raw)
        raise
    if type(data) is not np.ndarray and (host or not hasattr(data, "shape")):
        data = np.asarray(data)
    if may_view and host and not data.flags.writeable:
        if op.name != "broadcast_to":  # whose result NumPy makes read-only for good
            adopt(data, raw[0])
    if constant is None:
        # without a graph nothing is inferred from the operands: floats are variable
        constant = all_constant if tracking else data.dtype.kind != "f"
    else:
        constant = resolve_constant(op.name, data.dtype, constant)
    if not tracking:
        return wrap(leaf(data, constant, exposed=data.base is not None or out is not None))
    vertex = Vertex(data, op, inputs, params, constant, (), where)
    if holds is not None:
        if arrays is not None:
            holds.extend([Hold(a) for a in arrays])
        vertex.holds = holds
    if out is not None or (may_view and first is None):
        vertex.exposed = True
        if holds is not None:
            vertex.own = Hold(data)
    result = _new(Tensor)
    result._vertex = vertex
    result._view = None
    if may_view and first is not None:
        note_view(result, first, op, params)
    if stale is not None and result._view is None:
        for v in stale:
            v.grad = None
    return result


def apply_two(op: Op, x1: Any, x2: Any) -> Tensor:
    """``apply(op, (x1, x2))`` for a tensor with a tensor or number: what operators mostly meet.

    Written out without loops it takes two thirds of the time on small arrays. Everything that is
    not plain (views, cleared graphs, device arrays, no tracking) goes to `apply`.
    """
    if type(x1) is not Tensor or x1._view is not None or not TRACKING.get():
        return apply(op, (x1, x2))
    v1 = x1._vertex
    if type(x2) is Tensor:
        if x2._view is not None:
            return apply(op, (x1, x2))
        v2 = x2._vertex
        raw = v2.data
        if v2.op is CLEARED or type(raw) is not np.ndarray:
            return apply(op, (x1, x2))
        constant = v1.constant and v2.constant
    elif type(x2) in SCALARS:
        v2 = raw = x2
        constant = v1.constant
    else:
        return apply(op, (x1, x2))
    if v1.op is CLEARED or type(v1.data) is not np.ndarray:
        return apply(op, (x1, x2))
    try:
        data = op.host(v1.data, raw)
    except BaseException as error:
        explain(error, op.name, (v1.data, raw))
        raise
    if type(data) is not np.ndarray:
        data = np.asarray(data)
    v1.grad = None
    holds: Any = UNGUARDED
    if GUARD.get():
        hold = v1.own
        if hold is None or v1.exposed:
            if v1.op is None or v1.holds is UNGUARDED:
                hold = use_of_leaf(v1)
        if v2 is not raw:
            holds = v2.own
            if holds is None or v2.exposed:
                if v2.op is None or v2.holds is UNGUARDED:
                    holds = use_of_leaf(v2)
            holds = (hold, holds)
        else:
            holds = (hold,)
    if v2 is not raw:
        v2.grad = None
    result = _new(Tensor)
    result._vertex = Vertex(data, op, (v1, v2), NO_PARAMS, constant, holds)
    result._view = None
    return result


def bring_scalars(inputs: list, raw: list) -> None:
    """Put host operands of no dimension where the device arrays are, a variable within its graph.

    They may mix with arrays of any device; the rules of derivatives must not have to know that.
    """
    alone = [i for i, a in enumerate(raw) if type(a) is np.ndarray and not a.ndim]
    if not alone or len(alone) == len(raw):
        return
    device = next((d for d in map(device_of, raw) if d.kind != "cpu"), None)
    if device is None:
        return
    for i in alone:
        vertex = inputs[i]
        if type(vertex) is Vertex and not vertex.constant and TRACKING.get():
            params = {"device": device, "source": device_of(raw[i])}
            moved = inputs[i] = extend(OPS["to_device"], vertex, params)
            raw[i] = moved.data
            expect_several_devices()
        else:
            inputs[i] = raw[i] = raw[i][()]


def forget_gradients(operands: Sequence[Any]) -> None:
    """Forget the gradients of tensors that a composed function used.

    An operation does so itself, unless it makes a view: a function whose first step is a view
    calls this last.
    """
    if TRACKING.get():
        for t in operands:
            if isinstance(t, Tensor) and t._view is None:
                t._vertex.grad = None


def _before_write(operand: Any, out: Any) -> Any:
    """`operand`, or a copy where the result is written over it: the rules need what it was."""
    module = get_array_module(operand)
    if module is get_array_module(out) and module.may_share_memory(operand, out):
        return operand.copy()
    return operand


def _apply_slowly(
    op: Op, raw: list, params: dict, where: Any, dtype: Any, out: Any
) -> tuple[Any, Any]:
    """The value where the arrays may lie on any device, and the mask as an array there."""
    xp = namespace_of(check_same_device(op.name, *raw, out, where))
    if not op.elementwise:
        result = op.forward(xp, *raw, **params)
        return (result if out is None else copy_into(op.name, xp, out, result)), None
    if where is not None:
        where = xp.asarray(where)
    return run_elementwise(op, xp, raw, out, where, dtype), where


def note_view(result: Tensor, source: Tensor, op: Any, params: dict) -> None:
    """Record that `result` shows the memory of `source`, if it does."""
    data, owner = result._vertex.data, source._vertex.data
    base = data.base
    if data is not owner and (base is None or not (base is owner or base is owner.base)):
        return
    if source._view is None:
        recipe: tuple = ((op, params),)
        if hasattr(source, "_layout"):
            recipe = ((OPS["reshape"], {"shape": source._vertex.data.shape}), *recipe)
        result._view = View(source, recipe, source._vertex)
    else:
        view = source._view
        result._view = View(view.base, (*view.recipe, (op, params)), view.seen)
