"""Which vertex a tensor stands for: views follow their base, and cleared graphs are left behind.

A view remembers its base and its recipe, the view operations that lead from the base to it. When
the base has moved, the view replays the recipe at next use, so that the two go on sharing memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import explain
from gpugrad.graph.guard import Hold, adopt, use_of_leaf, wait_for_base
from gpugrad.graph.op import OPS, Op
from gpugrad.graph.vertex import CLEARED, UNGUARDED, Vertex, leaf
from gpugrad.state import GUARD

if TYPE_CHECKING:
    from gpugrad.tensor import Tensor

__all__ = ["View", "extend", "hold_operands", "in_layout", "vertex_of"]


class View:
    """How a tensor is made from another that owns the memory.

    Attributes
    ----------
    base : Tensor
        The owner.
    recipe : tuple of (Op, params)
        The view operations from `base`, in the shape it had when its first view was taken.
    seen : Vertex
        The vertex of `base` that the view's own vertex was made from.
    """

    __slots__ = ("base", "recipe", "seen")

    def __init__(self, base: Tensor, recipe: tuple, seen: Vertex) -> None:
        self.base = base
        self.recipe = recipe
        self.seen = seen


def vertex_of(t: Tensor, renewing: bool = True) -> Vertex:
    """The vertex that `t` stands for now.

    A view whose base has moved is replayed. With `renewing`, a tensor whose graph was cleared
    becomes a leaf, or a view of its base again: what is computed from it belongs to a new graph.
    """
    vertex = t._vertex
    view = t._view
    if view is None:
        if renewing and vertex.op is CLEARED:
            return _renew(t)
        return vertex
    base = vertex_of(view.base, renewing)
    cleared = vertex.op is CLEARED
    if cleared and not renewing and base.data is view.seen.data:
        return vertex  # the base is a leaf of a new graph, to which the view does not belong
    if base is not view.seen or (renewing and _is_cut_off(vertex, base)):
        return _replay_view(t, view, base)
    return vertex


def _is_cut_off(vertex: Vertex, base: Vertex) -> bool:
    """Whether the graph was cleared somewhere between a view and its base."""
    while vertex is not base and vertex.op is not None:
        if vertex.op is CLEARED:
            return True
        vertex = vertex.inputs[0]
    return False


def _replay_view(t: Tensor, view: View, base: Vertex) -> Vertex:
    old = t._vertex
    if base.op is not None and base.holds is UNGUARDED and GUARD.get():
        # written while the guard was off: its views belong to that graph
        token = GUARD.set(False)
        try:
            return _replay_view(t, view, base)
        finally:
            GUARD.reset(token)
    new = replay(in_layout(view.base, base), view.recipe)
    new.constant = old.constant
    if base.data is view.seen.data:
        # the same memory: what `t.data` has handed out remains the array that is protected
        new.data, new.exposed = old.data, old.exposed
        if old.exposed and GUARD.get():
            new.own = Hold(new.data)
        elif old.exposed:
            wait_for_base(new.data)
    t._vertex, view.seen = new, base
    return new


def _renew(t: Tensor) -> Vertex:
    old = t._vertex
    # the owner of the memory that a view shows may be known outside
    new = leaf(old.data, old.constant, old.exposed or old.data.base is not None)
    if old.grad is not None:
        new.grad, new.grad_shared = old.grad, old.grad_shared
    t._vertex = new
    return new


def in_layout(base: Tensor, vertex: Vertex) -> Vertex:
    """The vertex of `base` in the shape that recipes of its views start from."""
    if not hasattr(base, "_layout"):
        return vertex
    from_shape = {"shape": base._layout}
    return extend(OPS["reshape"], vertex, from_shape)


def replay(vertex: Vertex, recipe: Sequence) -> Vertex:
    """Apply view operations to a vertex."""
    for op, params in recipe:
        vertex = extend(op, vertex, params)
    return vertex


def extend(op: Op, vertex: Vertex, params: dict, *more: Any) -> Vertex:
    """The vertex of ``op(vertex, *more)``, all of them vertices or raw constants."""
    inputs = (vertex, *more)
    raw = [p.data if type(p) is Vertex else p for p in inputs]
    xp = namespace_of(get_array_module(*raw))
    try:
        data = op.forward(xp, *raw, **params)
    except BaseException as error:
        explain(error, "setitem" if op.name == "put_view" else op.name, raw)
        raise
    if op.may_view and type(data) is np.ndarray and not data.flags.writeable:
        if op.name != "broadcast_to":  # whose result NumPy makes read-only for good
            adopt(data, raw[0])
    constant = vertex.constant
    for p in more:
        if type(p) is Vertex and not p.constant:
            constant = False
    # recorded under no_autodiff as well: a handle's history does not depend on who looks at it
    return Vertex(data, op, inputs, params, constant, hold_operands(inputs))


def hold_operands(inputs: Sequence[Any]) -> Sequence[Any]:
    """The guard's records of a new vertex's operands."""
    if not GUARD.get():
        return UNGUARDED
    holds: list[Any] = []
    for p in inputs:
        if type(p) is Vertex:
            leaf_like = p.op is None or p.holds is UNGUARDED
            hold = use_of_leaf(p) if leaf_like else p.own
            if hold is not None:
                holds.append(hold)
        elif type(p) is np.ndarray:
            holds.append(Hold(p))
    return holds
