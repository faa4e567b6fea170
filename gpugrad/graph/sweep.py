"""The reverse sweep: one loop over the graph, from a result to everything it depends on.

It is told its namespace. With raw arrays nothing is recorded; with the namespace of Tensors the
same rules build the graph of the gradient, which can be swept in turn.

Here, and in no rule, a cotangent is brought to the shape and dtype of what it belongs to, and
masked elements are kept out by selection: a product with 0 would keep a nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import InvalidBackprop, SkipGradient
from gpugrad.graph.op import is_float
from gpugrad.graph.vertex import CLEARED, NO_PARAMS, Vertex

__all__ = ["LARGE", "clear_graph", "fit", "sweep", "sweep_toward"]


Pairs = list[tuple[Vertex, Any]]
# elements from which on a pass over memory costs more than a call
LARGE = 4096
# whether any graph of this process has had arrays on more than one device
_several_devices = False


def expect_several_devices() -> None:
    """From now on choose the words of raw arrays anew for each vertex."""
    global _several_devices
    _several_devices = True


def sweep(
    root: Vertex, seed: Any, xp: Any
) -> tuple[Pairs, dict[Vertex, Any], set[Vertex], list[Vertex]]:
    """Cotangents of every vertex that `root` depends on through non-constant vertices.

    Parameters
    ----------
    root : Vertex
    seed : array
        Cotangent of `root`, of its shape and dtype.
    xp : namespace
        The words that the rules are evaluated in: NumPy's or CuPy's.

    Returns
    -------
    inner : list of (vertex, cotangent)
        The vertices that have an operation, each after all of its consumers. A cotangent may be the
        same array as another's.
    leaves : dict
        vertex -> cotangent of those that have none.
    shared : set of Vertex
        The leaves whose cotangent is the same array as another vertex's.
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
    shared: set[Vertex] = set()
    if root.op is None:
        return inner, found, shared, constants
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
        if _several_devices:
            xp = namespace_of(get_array_module(y))
        binary = len(inputs) == 2 and where is None and not params
        if binary:  # written out: it is most of what is swept, and half the cost
            x1, x2 = inputs
            if type(x1) is Vertex:
                x1 = x1.data
            if type(x2) is Vertex:
                x2 = x2.data
        else:
            args = [p.data if type(p) is Vertex else p for p in inputs]
        if where is not None:
            g, y, args = _inside_mask(xp, vertex.op, where, g, y, args)
        i = 0
        for parent in inputs:
            rule = rules[i]
            i += 1
            if type(parent) is not Vertex or parent.constant:
                continue
            try:
                gx = rule(xp, g, y, x1, x2) if binary else rule(xp, g, y, *args, **params)
            except SkipGradient:
                continue  # of a leaf only: nothing waits for it
            if where is not None:
                gx = xp.where(where, gx, 0)
            data = parent.data
            if gx.shape != data.shape or gx.dtype != data.dtype:
                gx = fit(xp, gx, data.shape, data.dtype)
            if parent in found:
                found[parent] = _sum(found[parent], gx)
                shared.discard(parent)
            else:
                found[parent] = gx
                if gx is g and parent.op is None:
                    shared.add(parent)
            if parent.op is not None:
                left = waiting[parent] - 1
                if left:
                    waiting[parent] = left
                else:
                    ready.append(parent)
    return inner, found, shared, constants


def _sum(a: Any, b: Any) -> Any:
    """``a + b``; in the memory of `b` where a rule has just made it and nobody else knows it."""
    if type(b) is np.ndarray and b.size > LARGE and b.base is None and _references(b) == _FRESH:
        return np.add(a, b, out=b)
    return a + b


def _references(array: Any) -> int:
    return getrefcount(array)


def _references_of_a_fresh_array() -> int:
    # measured, not known: how many references a call holds differs between interpreters
    def as_in_sum(b: Any) -> int:
        return _references(b)

    b = np.empty(0)
    return as_in_sum(b)


_FRESH = _references_of_a_fresh_array()


def sweep_toward(
    targets: Iterable[Vertex],
    roots: Sequence[Vertex],
    seeds: Sequence[Any],
    xp: Any,
    lift: Callable[[Vertex], Any] | None = None,
) -> dict[Vertex, Any]:
    """Cotangents of `targets`, from those of `roots`, by what lies between them alone.

    The graph is left as it is. A target is where the sweep ends, whatever made it: another target
    that it was computed from gets nothing through it.

    Parameters
    ----------
    targets, roots : Vertex
    seeds : sequence of array or Tensor
        One cotangent for each root, of its shape and dtype.
    xp : namespace
        The words that the rules are evaluated in.
    lift : callable, optional
        What a rule is given for a vertex; by default its raw array.

    Returns
    -------
    dict
        target -> cotangent, of the targets that a root depends on. In memory of its own where the
        arrays are raw.

    Raises
    ------
    InvalidBackprop
        Part of the graph was cleared.
    """
    ends = set(targets)
    waiting = _count_edges_toward(ends, roots)
    found: dict[Vertex, Any] = {}
    for root, seed in zip(roots, seeds, strict=True):
        if root in waiting:
            found[root] = found[root] + seed if root in found else seed
            if lift is None and root in ends and found[root] is seed:
                found[root] = seed.copy()
    ready = [v for v in found if not waiting[v] and v not in ends]
    while ready:
        vertex = ready.pop()
        g = found.pop(vertex)
        op, where, params = vertex.op, vertex.where, vertex.params
        if lift is None:
            y = vertex.data
            if _several_devices:
                xp = namespace_of(get_array_module(y))
            args = [p.data if type(p) is Vertex else p for p in vertex.inputs]
        else:
            y = lift(vertex)
            args = [lift(p) if type(p) is Vertex else p for p in vertex.inputs]
        if where is not None:
            g, y, args = _inside_mask(xp, op, where, g, y, args)
        rules = op.rules
        for i, parent in enumerate(vertex.inputs):
            if type(parent) is not Vertex or parent not in waiting:
                continue
            left = waiting[parent] = waiting[parent] - 1
            try:
                gx = rules[i](xp, g, y, *args, **params)
            except SkipGradient:
                gx = None
            if gx is not None:
                if where is not None:
                    gx = xp.where(where, gx, 0)
                data = parent.data
                if gx.shape != data.shape or gx.dtype != data.dtype:
                    gx = fit(xp, gx, data.shape, data.dtype)
                if parent in found:
                    found[parent] = found[parent] + gx
                elif lift is None and parent in ends and (gx is g or gx.base is not None):
                    found[parent] = gx.copy()
                else:
                    found[parent] = gx
            if not left and parent in found and parent not in ends:
                ready.append(parent)
    return found


def _count_edges_toward(ends: set[Vertex], roots: Sequence[Vertex]) -> dict[Vertex, int]:
    """How many edges lead into each vertex that lies on a way from `roots` to `ends`."""
    leads = dict.fromkeys(ends, True)
    opened: set[Vertex] = set()
    stack = [root for root in roots if not root.constant]
    waiting: dict[Vertex, int] = {}
    while stack:
        vertex = stack[-1]
        if vertex in leads:
            stack.pop()
            if vertex in ends:
                waiting.setdefault(vertex, 0)
        elif vertex in opened:  # all that it was computed from has been looked at
            stack.pop()
            parents = [p for p in vertex.inputs if type(p) is Vertex and leads.get(p)]
            leads[vertex] = bool(parents)
            if parents:
                waiting.setdefault(vertex, 0)
                for parent in parents:
                    waiting[parent] = waiting.get(parent, 0) + 1
        else:
            opened.add(vertex)
            if vertex.op is CLEARED:
                raise InvalidBackprop(
                    f"backward: a tensor of shape {vertex.data.shape} that the result depends on "
                    "was cleared by a backward() or clear_graph(); compute the result again"
                )
            for parent in vertex.inputs:
                if type(parent) is Vertex and not parent.constant and parent not in leads:
                    stack.append(parent)
    return waiting


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
        [_select(xp, where, a, op.safe if is_float(a) else 1) for a in args],
    )


def _select(xp: Any, where: Any, x: Any, safe: float) -> Any:
    return xp.where(where, x, safe)


def fit(xp: Any, g: Any, shape: tuple, dtype: Any) -> Any:
    """The cotangent of an operand of this shape and dtype that was broadcast and promoted."""
    if g.shape != shape:
        extra = g.ndim - len(shape)
        if extra > 0:
            # the method: half the cost of the function on small arrays
            g = g.sum(axis=0 if extra == 1 else tuple(range(extra)))
        axes = tuple(
            i for i, n in enumerate(shape[len(shape) - g.ndim :]) if n == 1 and g.shape[i] != 1
        )
        if axes:
            g = g.sum(axis=axes, keepdims=True)
        if g.shape != shape:
            if type(g) is np.ndarray and math.prod(shape) < LARGE:
                small = np.empty(shape, g.dtype)  # a third of the time of broadcast_to
                small[...] = g
                return small if g.dtype == dtype else small.astype(dtype)
            g = xp.broadcast_to(g, shape)
    if g.dtype != dtype:
        g = xp.cast(g, dtype)
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
        vertex.params = NO_PARAMS  # an operation may keep arrays there
        vertex.own = None
