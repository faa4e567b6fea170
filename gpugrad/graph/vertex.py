"""A vertex of the graph: an array, and how it was made. It never changes but by being cleared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["CLEARED", "UNGUARDED", "Vertex"]


class _Cleared:
    """Stands in place of the operation of a vertex whose graph was cleared."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "CLEARED"


CLEARED: Any = _Cleared()
UNGUARDED: Any = ()


class Vertex:
    """An array with its history.

    Attributes
    ----------
    data : array
        The value.
    op : Op | None | CLEARED
        What made it; None for a leaf.
    inputs : sequence
        The operands of ``op``: vertices, or raw arrays and scalars that carry no gradient.
    params : dict
        Keyword arguments of ``op``.
    where : array | None
        The mask under which a ufunc wrote; elsewhere `data` holds what it held before.
    constant : bool
        No gradient goes through a constant.
    grad : array | None
        What the last sweep left here.
    grad_shared : bool
        `grad` may be the same memory as another vertex's; `Tensor.grad` copies it when asked.
    holds : sequence
        The guard's records of the arrays that this vertex depends on; dropped with the vertex. It
        is UNGUARDED, and no other sequence, if it was recorded while the guard was off.
    own : Hold | Use | weakref to one of them | None
        The guard's record of `data`: a Hold for a vertex with an operation, a Use for a leaf.
    exposed : bool
        Somebody outside the graph may hold `data`. An array that nobody else can reach needs no
        lock.
    """

    __slots__ = (
        "__weakref__",
        "constant",
        "data",
        "exposed",
        "grad",
        "grad_shared",
        "holds",
        "inputs",
        "op",
        "own",
        "params",
        "where",
    )
    grad_shared: bool

    def __init__(
        self,
        data: Any,
        op: Any,
        inputs: Sequence[Any],
        params: dict,
        constant: bool,
        holds: Any = (),
        where: Any = None,
        exposed: bool = False,
    ) -> None:
        self.data = data
        self.op = op
        self.inputs = inputs
        self.params = params
        self.constant = constant
        self.holds = holds
        self.where = where
        self.exposed = exposed
        self.own: Any = None
        self.grad: Any = None


NO_PARAMS: dict[str, Any] = {}


def leaf(data: Any, constant: bool, exposed: bool) -> Vertex:
    """A vertex without a history."""
    return Vertex(data, None, (), NO_PARAMS, constant, (), None, exposed)
