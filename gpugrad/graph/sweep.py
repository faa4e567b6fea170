"""The reverse sweep: one loop over the graph, from a result to everything it depends on.

It is told its namespace. With raw arrays nothing is recorded; with the namespace of Tensors the
same rules build the graph of the gradient, which can be swept in turn.

Here, and in no rule, a cotangent is brought to the shape and dtype of what it belongs to, and
masked elements are kept out by selection: a product with 0 would keep a nan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.errors import InvalidBackprop
from gpugrad.graph.vertex import CLEARED, Vertex

__all__ = ["clear_graph", "fit", "sweep"]


Pairs = list[tuple[Vertex, Any]]


def sweep(
    root: Vertex, seed: Any, xp: Any, lift: Callable[[Vertex], Any] | None = None
) -> tuple[Pairs, dict[Vertex, Any], list[Vertex]]:
    """Cotangents of every vertex that `root` depends on through non-constant vertices.

    Parameters
    ----------
    root : Vertex
    seed : array or Tensor
        Cotangent of `root`, of its shape and dtype.
    xp : namespace
        The words that the rules are evaluated in.
    lift : callable, optional
        What a rule is given for a vertex; by default its raw array.

    Returns
    -------
    inner : list of (vertex, cotangent)
        The vertices that have an operation, each after all of its consumers. A cotangent may be the
        same array as another's.
    leaves : dict
        vertex -> cotangent of those that have none.
    constants : list of Vertex
        The constant vertices with an operation where the sweep stopped.

    Raises
    ------
    InvalidBackprop
        Part of the graph was cleared; nothing was changed.
    """
    waiting, constants = _count_consumers(root)
    found = {root: seed}
    inner: Pairs = []
    if root.op is None:
        return inner, found, constants
    ready = [root]
    while ready:
        vertex = ready.pop()
        g = found.pop(vertex)
        inner.append((vertex, g))
        inputs = vertex.inputs
        rules = vertex.op.rules
        params = vertex.params
        where = vertex.where
        y = vertex.data
        binary = len(inputs) == 2 and lift is None and where is None and not params
        if binary:  # written out: it is most of what is swept, and half the cost
            x1, x2 = inputs
            if type(x1) is Vertex:
                x1 = x1.data
            if type(x2) is Vertex:
                x2 = x2.data
        elif lift is None:
            args = [p.data if type(p) is Vertex else p for p in inputs]
        else:
            args = [lift(p) if type(p) is Vertex else p for p in inputs]
            y = lift(vertex)
        if where is not None:
            g, y, args = _inside_mask(xp, vertex.op, where, g, y, args)
        i = 0
        for parent in inputs:
            rule = rules[i]
            i += 1
            if type(parent) is not Vertex or parent.constant:
                continue
            gx = rule(xp, g, y, x1, x2) if binary else rule(xp, g, y, *args, **params)
            if where is not None:
                gx = xp.where(where, gx, 0)
            data = parent.data
            if gx.shape != data.shape or gx.dtype != data.dtype:
                gx = fit(xp, gx, data.shape, data.dtype)
            if parent in found:
                found[parent] = found[parent] + gx
            elif gx is g and parent.op is None and lift is None:
                # a leaf keeps its gradient for long: it gets memory of its own
                found[parent] = gx.copy()
            else:
                found[parent] = gx
            if parent.op is not None:
                left = waiting[parent] - 1
                if left:
                    waiting[parent] = left
                else:
                    ready.append(parent)
    return inner, found, constants


def _count_consumers(root: Vertex) -> tuple[dict[Vertex, int], list[Vertex]]:
    """How many edges lead into each vertex with an operation, from those `root` depends on.

    And the constant ones among them, where the count stops.
    """
    waiting: dict[Vertex, int] = {}
    constants: list[Vertex] = []
    if root.op is CLEARED:
        raise InvalidBackprop(
            "backward: the graph of this tensor was cleared, by an earlier backward() or by "
            "clear_graph(); compute the tensor again"
        )
    stack = [root]
    while stack:
        vertex = stack.pop()
        for parent in vertex.inputs:
            if type(parent) is Vertex and parent.op is not None:
                if parent in waiting:
                    waiting[parent] += 1
                elif parent.constant:
                    constants.append(parent)
                else:
                    if parent.op is CLEARED:
                        raise InvalidBackprop(
                            f"backward: {vertex.op.name} was computed from a tensor of shape "
                            f"{parent.data.shape} whose graph has since been cleared by another "
                            "backward() or clear_graph(); its gradient would be lost"
                        )
                    waiting[parent] = 1
                    stack.append(parent)
    return waiting, constants


def _inside_mask(xp: Any, op: Any, where: Any, g: Any, y: Any, args: list) -> tuple[Any, Any, list]:
    """Cotangent, result and operands with the masked elements replaced by harmless ones."""
    return (
        xp.where(where, g, 0),
        xp.where(where, y, 1),
        [_select(xp, where, a, op.safe) if _is_float(a) else a for a in args],
    )


def _is_float(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    return isinstance(x, float) or (dtype is not None and dtype.kind == "f")


def _select(xp: Any, where: Any, x: Any, safe: float) -> Any:
    return xp.where(where, x, safe)


def fit(xp: Any, g: Any, shape: tuple, dtype: Any) -> Any:
    """The cotangent of an operand of this shape and dtype that was broadcast and promoted."""
    if g.shape != shape:
        extra = g.ndim - len(shape)
        if extra > 0:
            g = xp.sum(g, axis=tuple(range(extra)))
        axes = tuple(
            i for i, n in enumerate(shape[len(shape) - g.ndim :]) if n == 1 and g.shape[i] != 1
        )
        if axes:
            g = xp.sum(g, axis=axes, keepdims=True)
        if g.shape != shape:
            g = xp.broadcast_to(g, shape)
    if g.dtype != dtype:
        g = g.astype(dtype)
    return g


def clear_graph(*roots: Vertex) -> None:
    """Cut the history of `roots` and of all they depend on; release what it protected."""
    stack = list(roots)
    while stack:
        vertex = stack.pop()
        if vertex.op is None or vertex.op is CLEARED:
            continue
        for parent in vertex.inputs:
            if type(parent) is Vertex and parent.op is not None:
                stack.append(parent)
        vertex.op = CLEARED
        vertex.inputs = vertex.holds = ()
        vertex.own = None
