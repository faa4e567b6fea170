"""Users' operations on the graph: what `gpugrad.execute_op` does.

The graph's vertex holds a `Call`, which passes the sweep's questions on to the user's instance. The
instance is given tensors of its own for operands, so that what is written in place to the caller's
tensors does not change what it remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from fastrlock.rlock import FastRLock

from gpugrad.apply import note_view
from gpugrad.backend.array_module import check_same_device, get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import InvalidBackprop, SkipGradient
from gpugrad.graph.guard import adopt, expose
from gpugrad.graph.op import copy_into
from gpugrad.graph.vertex import CLEARED, NO_PARAMS, Vertex, leaf
from gpugrad.mutation import buffer_of, replace
from gpugrad.operation_base import Operation, cotangent_of_variable
from gpugrad.state import TRACKING
from gpugrad.tensor import Tensor, as_operand, resolve_constant, wrap
from gpugrad.views import hold_operands, vertex_of

__all__ = ["creator_of_call", "execute_op", "handle_of"]


class Call:
    """A user's operation as the graph knows it: an op (`gpugrad.graph.op.Op`) of one application.

    Attributes
    ----------
    call : Operation
    remake : callable, optional
        Of a view: the same view of another array or tensor.
    first : int
        The place in ``call.variables`` of the first operand.
    """

    __slots__ = ("_delivered", "_lock", "call", "first", "remake")
    elementwise = False
    ufunc = nin = None
    safe = 0.5

    def __init__(
        self, call: Operation, remake: Callable[[Any], Any] | None = None, first: int = 0
    ) -> None:
        self.call = call
        self.remake = remake
        self.first = first
        self._delivered: tuple[Any, list] | None = None
        self._lock = FastRLock()

    @property
    def name(self) -> str:
        return type(self.call).__name__

    @property
    def may_view(self) -> bool:
        return self.remake is not None

    @property
    def rules(self) -> Call:
        return self

    def __getitem__(self, i: int) -> Callable[..., Any]:
        return partial(self._rule, self.first + i)

    def __repr__(self) -> str:
        return f"<gpugrad op {self.name!r}>"

    def forward(self, xp: Any, x: Any) -> Any:
        """The view of `x`, in any namespace."""
        assert self.remake is not None
        return self.remake(x)

    def _rule(self, i: int, xp: Any, g: Any, y: Any, *xs: Any) -> Any:
        if not isinstance(g, Tensor):
            return self._gradient(i, g)
        # a graph of the gradient is recorded: this vertex of it can be computed, not differentiated
        value = self._gradient(i, vertex_of(g).data)
        inputs = (vertex_of(g), *(vertex_of(v, renewing=False) for v in self.call.variables))
        constant = all(p.constant for p in inputs)
        holds = hold_operands(inputs)
        return wrap(Vertex(value, FirstDerivative(self.name), inputs, NO_PARAMS, constant, holds))

    def _gradient(self, i: int, g: Any) -> Any:
        call = self.call
        if type(call).backward is Operation.backward:
            # a copy: it is the user's to write to, and may be the gradient of other tensors as well
            found = cotangent_of_variable(call, g.copy(), i, {})
        else:
            with self._lock:  # there is one instance for all threads that sweep this graph
                if self._delivered is None or self._delivered[0] is not g:
                    self._delivered = (g, _deliver(call, g.copy()))
                found = self._delivered[1][i]
        if found is not None:
            return found
        vertex = vertex_of(call.variables[i], renewing=False)
        if vertex.op is None:
            raise SkipGradient
        # what it was computed from is still to be visited
        return namespace_of(get_array_module(vertex.data)).zeros_like(vertex.data)


class FirstDerivative:
    """The op of a gradient that was computed by a user's `backward_var`."""

    __slots__ = ("name",)
    elementwise = may_view = False
    ufunc = nin = None
    safe = 0.5

    def __init__(self, name: str) -> None:
        self.name = f"derivative of {name}"

    @property
    def rules(self) -> FirstDerivative:
        return self

    def __getitem__(self, i: int) -> Callable[..., Any]:
        return self._refuse

    def _refuse(self, *args: Any) -> Any:
        raise InvalidBackprop(
            f"backward: got the {self.name}, which is a function of arrays, expected one of "
            "tensors; declare the operation with gpugrad.primitive to differentiate it twice"
        )


def _deliver(call: Operation, grad: Any) -> list:
    """What a `backward` of the user's own gives to each variable."""
    variables = call.variables
    stand_ins = []
    for variable in variables:
        vertex = vertex_of(variable, renewing=False)
        stand_ins.append(wrap(leaf(vertex.data, vertex.constant, vertex.exposed)))
    call.variables = tuple(stand_ins)
    try:
        call.backward(grad)
    finally:
        call.variables = variables
    return [t._grad for t in stand_ins]


# ---------------------------------------------------------------------------------------- execution


def execute_op(
    Op: type[Operation],
    *input_vars: Any,
    op_args: Sequence | None = None,
    op_kwargs: dict[str, Any] | None = None,
    constant: bool | None = None,
    out: Any = None,
) -> Tensor:
    """Apply an operation, and record it in the graph.

    Parameters
    ----------
    Op : subclass of Operation
    *input_vars : array_like
        The operands. What is not a tensor becomes a constant one.
    op_args : sequence, optional
        Passed to ``Op.__call__`` after the operands.
    op_kwargs : dict, optional
        Passed to it by keyword.
    constant : bool, optional
        By default the result is constant if all operands are, or if it is not of floats.
    out : Tensor or array, optional
        Passed on as an array, to be written to. A tensor is written to within its graph.

    Returns
    -------
    Tensor

    Raises
    ------
    AttributeError
        ``Op.__call__`` did not bind ``self.variables``.
    DeviceMismatchError
        Operands on different devices.
    """
    if isinstance(out, tuple):
        if len(out) != 1:
            raise ValueError(f"{Op.__name__}: out has {len(out)} entries, expected 1")
        (out,) = out
    args, kwargs = tuple(op_args or ()), dict(op_kwargs or {})
    own = getattr(Op, "_execute", None)  # the library's own classes know a better way
    if own is not None:
        return own(input_vars, args, kwargs, constant, out)
    return _execute(Op, input_vars, args, kwargs, constant, out)


_handles: WeakValueDictionary[int, Tensor] = WeakValueDictionary()


def handle_of(vertex: Vertex) -> Tensor:
    """A tensor that stays on `vertex` whatever is written to others; the same while it is used."""
    handle = _handles.get(id(vertex))
    if handle is None or handle._vertex is not vertex:
        handle = _handles[id(vertex)] = wrap(vertex)
    return handle


def _operands(name: str, inputs: Sequence[Any]) -> list[Vertex]:
    """A vertex for each operand; one without a gradient for what is not a tensor."""
    found = [vertex_of(x) if isinstance(x, Tensor) else as_operand(name, x) for x in inputs]
    module = check_same_device(name, *(p.data if isinstance(p, Vertex) else p for p in found))
    return [
        p if isinstance(p, Vertex) else leaf(module.asarray(p), constant=True, exposed=True)
        for p in found
    ]


def _execute(
    Op: type[Operation],
    inputs: Sequence[Any],
    args: tuple,
    kwargs: dict[str, Any],
    constant: bool | None,
    out: Any,
) -> Tensor:
    name = Op.__name__
    operands = _operands(name, inputs)
    tracking = TRACKING.get()
    target = out if isinstance(out, Tensor) else None
    if target is not None:
        out = buffer_of(name, target)
    if out is not None:
        kwargs = {**kwargs, "out": out}
    holds: Any = hold_operands(operands) if tracking else ()
    call = Op()
    try:
        data = call(*map(handle_of, operands), *args, **kwargs)
    except BaseException:
        # the traceback keeps this frame: what it holds must not stay locked
        holds = None
        raise
    data = data.data if isinstance(data, Tensor) else data
    if not isinstance(data, get_array_module(data).ndarray):
        data = np.asarray(data)
    if target is not None and data is not out:
        data = copy_into(name, namespace_of(get_array_module(out)), out, data)
    if not tracking:
        if target is not None:
            return target
        free = data.dtype.kind != "f" if constant is None else constant
        return wrap(leaf(data, resolve_constant(name, data.dtype, free), exposed=True))
    if constant is None and all(p.constant for p in operands):
        constant = True
    constant = resolve_constant(name, data.dtype, constant)
    variables = _bound_variables(call, constant)
    holds = hold_operands([*operands, *(v for v in variables if v not in operands)])
    vertex = Vertex(data, Call(call), variables, NO_PARAMS, constant, holds)
    if target is not None:
        for p in operands:
            p.grad = None
        vertex.constant = target.constant
        where = None if call.where is True else _mask(data, call.where)
        return replace(target, vertex, where)
    result = wrap(vertex)
    source = _shown(call, inputs, data) if out is None else None
    if source is None:
        for p in operands:
            p.grad = None
    else:
        _record_view(result, call, inputs, source, args, kwargs, constant)
    expose(vertex)
    return result


def _mask(data: Any, where: Any) -> Any:
    return get_array_module(data).asarray(where, dtype=bool)


def _bound_variables(call: Operation, constant: bool) -> tuple[Vertex, ...]:
    variables = getattr(call, "variables", None)
    if variables is None:
        if constant:
            return ()
        raise AttributeError(
            f"{type(call).__name__}: __call__ left self.variables unbound, expected a tuple of the "
            "tensors that gradients go to"
        )
    wrong = [type(v).__name__ for v in variables if not isinstance(v, Tensor)]
    if wrong:
        raise TypeError(f"{type(call).__name__}: variables hold {wrong[0]}, expected tensors")
    return tuple(vertex_of(v) for v in variables)


# -------------------------------------------------------------------------------------------- views


def _shown(call: Operation, inputs: Sequence[Any], data: Any) -> int | None:
    """The place of the operand whose memory the result shows; None if it owns its memory."""
    if not call.can_return_view or data.base is None:
        return None
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor):
            owner = x._vertex.data
            if data is owner or data.base is owner or data.base is owner.base:
                return i
    return None


def _record_view(
    result: Tensor,
    call: Operation,
    inputs: Sequence[Any],
    source: int,
    args: tuple,
    kwargs: dict[str, Any],
    constant: bool,
) -> None:
    """Make `result` a view of operand `source`, replayed when that one is written to."""
    Op = type(call)
    call.replay_args, call.replay_kwargs = args, kwargs
    call.replay_force_constant = constant
    others = [x.data if isinstance(x, Tensor) else x for x in inputs]

    def remake(x: Any) -> Any:
        operands = [*others[:source], x, *others[source + 1 :]]
        if isinstance(x, Tensor):
            return _execute(Op, operands, args, kwargs, None, None)
        return Op()(*map(handle_of, _operands(Op.__name__, operands)), *args, **kwargs)

    vertex = inputs[source]._vertex
    places = [i for i, v in enumerate(call.variables) if v._vertex is vertex]
    data = result._vertex.data
    if isinstance(data, np.ndarray) and not data.flags.writeable:
        adopt(data, vertex.data)
    note_view(result, inputs[source], Call(call, remake, places[0] if places else 0), NO_PARAMS)


def creator_of_call(vertex: Vertex) -> Operation | None:
    """The user's operation that made `vertex`; None if no user's did."""
    op = vertex.op
    return op.call if op is not CLEARED and isinstance(op, Call) else None
