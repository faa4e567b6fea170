"""Memory for time: a part of the graph that is thrown away and computed again when it is swept.

without    x -> h1 -> h2 -> ... -> y      every h is kept until backward()
with       x ====== checkpoint ====> y    x and y are kept; the sweep calls f once more
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from gpugrad.autodiff import as_variable, check_function, lifting
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import InvalidBackprop
from gpugrad.graph.guard import Hold
from gpugrad.graph.op import OPS, Op
from gpugrad.graph.sweep import sweep_toward
from gpugrad.graph.vertex import Vertex, leaf
from gpugrad.ops.joining import concatenate
from gpugrad.ops.namespace import tensor_namespace
from gpugrad.ops.shaping import ravel
from gpugrad.state import GUARD, TRACKING, recording
from gpugrad.tensor import Tensor, wrap
from gpugrad.tree import leaves, rebuild
from gpugrad.views import extend, hold_operands, vertex_of

__all__ = ["checkpoint"]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, of whose graph nothing is kept but its operands and results.

    When a gradient goes through the result, `f` is called once more, and its graph lives until its
    operands have their gradients. A chain of n operations in sqrt(n) segments, each under
    `checkpoint`, needs the memory of 2 sqrt(n) results for one more evaluation. Gradients are the
    same, bit for bit, and of every order; those of second order keep the repeated graph.

    Parameters
    ----------
    f : callable
        Takes tensors, and dicts, lists and tuples that hold some, with anything else; returns a
        tensor, or a dict, list or tuple that holds some. Tensors that it closes over get their
        gradients too.

        It must do the same again: random numbers are to be drawn outside and passed in, and
        tensors that it uses must not be written to before the sweep. What it writes into its own
        arguments does not reach the caller.

    Returns
    -------
    callable
        Under ``no_autodiff`` it is `f`.

    Raises
    ------
    TypeError
        `f` is no function.
    InvalidBackprop
        From the sweep: called again, `f` gave another value, or used other tensors. On a GPU the
        comparison waits for the values.

    References
    ----------
    T. Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174.

    Examples
    --------
    >>> import gpugrad as gg
    >>> w = gg.tensor(2.0)
    >>> block = gg.checkpoint(lambda x: gg.exp(w * x))
    >>> x = gg.tensor(0.0)
    >>> block(x).backward()
    >>> x.grad, w.grad
    (array(2.), array(0.))
    """
    check_function("checkpoint", f)

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not TRACKING.get():
            return f(*args, **kwargs)
        return _Segment(f, args, kwargs).result()

    return wrapper


class _Segment:
    """One call of a function under `checkpoint`."""

    def __init__(self, f: Callable[..., Any], args: tuple, kwargs: dict) -> None:
        self.f = f
        entries = leaves((args, kwargs))
        self.call = rebuild((args, kwargs), [None if isinstance(e, Tensor) else e for e in entries])
        self.entries = entries
        # one handle for each, wherever and however often it stands
        self.operands: list[Tensor] = list(
            {id(e): e for e in entries if isinstance(e, Tensor)}.values()
        )
        number = {id(t): i for i, t in enumerate(self.operands)}
        self.numbers = [number[id(e)] if isinstance(e, Tensor) else None for e in entries]
        self.closed_over: list[weakref.ref[Vertex]] = []
        self.found: dict[int, tuple[Any, dict[int, Any]]] = {}  # by thread

    def result(self) -> Any:
        """What `f` returned, with a vertex that stands for all of it."""
        for t in self.operands:
            t.data  # noqa: B018  # from here on it is protected as an array that others know
        sources = [vertex_of(t) for t in self.operands]
        for v in sources:
            v.grad = None  # as of every operand
        arrays = [e for e in self.entries if type(e) is np.ndarray]
        del self.entries, self.operands
        self.constant = [v.constant for v in sources]
        fresh = [wrap(leaf(v.data, v.constant, True)) for v in sources]
        outputs = self.called(fresh)
        flat = leaves(outputs)
        variable = [isinstance(y, Tensor) and not y.constant for y in flat]
        ys = [y for y, chosen in zip(flat, variable) if chosen]
        kept = [
            _detached(y) if isinstance(y, Tensor) and not chosen else y
            for y, chosen in zip(flat, variable)
        ]
        structure = rebuild(outputs, range(len(flat)))
        if not ys:
            return rebuild(structure, kept)
        packed = _packed(ys)
        shapes = [(y.shape, y.dtype) for y in ys]
        inside = _Inside(packed._vertex, [t._vertex for t in fresh])
        data, exposed = packed._vertex.data, packed._vertex.exposed
        if data.base is not None or any(data is v.data for v in sources):
            data, exposed = namespace_of(get_array_module(data)).array(data), False
        kept = [None if chosen else y for y, chosen in zip(kept, variable)]
        del outputs, flat, ys, packed, fresh  # what survives this was there before f
        boundary = inside.survivors()
        self.closed_over = [weakref.ref(v) for v in boundary]
        inputs = (*sources, *boundary)
        holds = hold_operands(inputs)
        if GUARD.get():
            holds = (*holds, *map(Hold, arrays))
        vertex = Vertex(data, _OP, inputs, {"segment": self}, False, holds, None, exposed)
        if exposed and GUARD.get():
            vertex.own = Hold(data)
        made = iter(_unpacked(vertex, shapes))
        return rebuild(
            structure, [wrap(next(made)) if new else y for y, new in zip(kept, variable)]
        )

    def called(self, operands: Sequence[Tensor]) -> Any:
        old = leaves(self.call)
        entries = [old[k] if i is None else operands[i] for k, i in enumerate(self.numbers)]
        args, kwargs = rebuild(self.call, entries)
        with recording:
            return self.f(*args, **kwargs)

    # ------------------------------------------------------------------------------- the sweep

    def cotangent(self, i: int, xp: Any, g: Any, y: Any, inputs: Sequence[Any]) -> Any:
        """Of input i; the sweep asks for one after the other, and `f` is called for the first."""
        thread = threading.get_ident()
        seed, found = self.found.pop(thread, (None, {}))
        if seed is not g or i not in found:
            found = self.cotangents(xp, g, y, inputs)
        gx = found.pop(i)
        if any(k > i for k in found):
            self.found[thread] = g, found
        return gx

    def cotangents(self, xp: Any, g: Any, y: Any, inputs: Sequence[Any]) -> dict[int, Any]:
        recorded = isinstance(g, Tensor)
        operands = []
        for x, constant in zip(inputs, self.constant):
            if recorded and not constant:
                operands.append(as_variable("checkpoint", x))
            else:
                data = x._vertex.data if recorded else x
                operands.append(wrap(leaf(data, constant, True)))
        # by the number of the input; nobody asks for the cotangents of constants
        targets = {i: t._vertex for i, t in enumerate(operands) if not self.constant[i]}
        for i, ref in enumerate(self.closed_over, len(operands)):
            vertex = ref()
            assert vertex is not None  # an input of the vertex that is being swept
            targets[i] = vertex
        again = _packed([t for t in leaves(self.called(operands)) if _is_variable(t)])
        _compare(again, y)
        if recorded:
            with recording:
                found = sweep_toward(
                    targets.values(), [again._vertex], [g], tensor_namespace, lifting()
                )
        else:
            found = sweep_toward(targets.values(), [again._vertex], [g], xp)
        for i, vertex in targets.items():
            if i >= len(operands) and vertex not in found:
                raise InvalidBackprop(
                    f"checkpoint: {_name(self.f)} used a tensor of shape {vertex.data.shape} that "
                    "it did not use when it was called again; pass it as an argument, or make it "
                    "constant if it is made by the function"
                )
        return {i: found[v] if v in found else xp.zeros_like(inputs[i]) for i, v in targets.items()}


def _rule_of(i: int) -> Callable[..., Any]:
    def rule(xp: Any, g: Any, y: Any, *inputs: Any, segment: _Segment) -> Any:
        return segment.cotangent(i, xp, g, y, inputs)

    return rule


def _no_forward(xp: Any, *inputs: Any, segment: _Segment) -> Any:
    raise NotImplementedError("checkpoint: its value is known when it is recorded")


_OP = Op("checkpoint", _no_forward, variadic=_rule_of)


class _Inside:
    """The graph that a call of `f` made, told from what it closes over.

    Vertices that `f` made die with its result; what it closes over has other owners. What it made
    and stored somewhere depends on its arguments, and so is not taken for closed over.
    """

    def __init__(self, root: Vertex, arguments: Sequence[Vertex]) -> None:
        self.refs: dict[int, weakref.ref[Vertex]] = {}
        self.parents: dict[int, list[int]] = {}
        self.of_arguments = {id(v) for v in arguments}
        self.root = id(root)
        order: list[int] = []
        stack = [(root, False)]
        while stack:
            vertex, looked_at = stack.pop()
            key = id(vertex)
            if looked_at:
                order.append(key)
            elif key not in self.refs:
                self.refs[key] = weakref.ref(vertex)
                ups = [p for p in vertex.inputs if type(p) is Vertex and not p.constant]
                self.parents[key] = [id(p) for p in ups]
                stack.append((vertex, True))
                stack += [(p, False) for p in ups]
        for key in order:
            if any(up in self.of_arguments for up in self.parents[key]):
                self.of_arguments.add(key)

    def survivors(self) -> list[Vertex]:
        """The vertices outside that vertices inside were computed from."""
        found: dict[int, Vertex] = {}
        seen: set[int] = set()
        stack = [self.root]
        while stack:
            key = stack.pop()
            if key in seen:
                continue
            seen.add(key)
            vertex = None if key in self.of_arguments else self.refs[key]()
            if vertex is None:
                stack += self.parents[key]
            else:
                found[key] = vertex
        return list(found.values())


# ------------------------------------------------------------------------- several results as one


def _is_variable(y: Any) -> bool:
    return isinstance(y, Tensor) and not y.constant


def _detached(y: Tensor) -> Tensor:
    return Tensor(y._vertex.data, constant=y.constant, copy=False)


def _packed(ys: Sequence[Tensor]) -> Tensor:
    """All results in one vector, so that one cotangent goes through them; one alone as it is."""
    with recording:
        packed = ys[0] if len(ys) == 1 else concatenate([ravel(y) for y in ys])
    return wrap(vertex_of(packed, renewing=False))


def _unpacked(vertex: Vertex, shapes: Sequence[tuple[tuple[int, ...], Any]]) -> list[Vertex]:
    if len(shapes) == 1:
        return [vertex]
    found, start = [], 0
    for shape, dtype in shapes:
        stop = start + int(np.prod(shape))
        part = extend(OPS["getitem"], vertex, {"index": slice(start, stop)})
        part = extend(OPS["reshape"], part, {"shape": shape})
        if part.data.dtype != dtype:
            part = extend(OPS["cast"], part, {"dtype": dtype})
        found.append(part)
        start = stop
    return found


def _compare(again: Tensor, y: Any) -> None:
    """Refuse a second value that differs from the first by more than rounding."""
    new, old = again._vertex.data, y._vertex.data if isinstance(y, Tensor) else y
    xp = namespace_of(get_array_module(old))
    same = new.shape == old.shape and new.dtype == old.dtype
    if same and not bool(xp.all(new == old)):
        finite = xp.isfinite(old)
        size = xp.max(xp.where(finite, xp.absolute(old), 0))
        near = xp.absolute(xp.where(finite, new, 0) - xp.where(finite, old, 0))
        allowed = float(np.finfo(old.dtype).eps) ** 0.5 * size
        same = bool(xp.all(xp.where(finite, near <= allowed, xp.isfinite(new) == finite)))
    if not same:
        raise InvalidBackprop(
            "checkpoint: the function gave another value when it was called again; draw its random "
            "numbers outside, and do not write to what it uses before the sweep"
        )


def _name(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)
