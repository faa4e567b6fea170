"""How an operation is declared: its value, and its derivative in the words of the vocabulary.

    log1p = elementwise("log1p", lambda xp, g, y, x: g / (1 + x))

A rule takes the namespace, the cotangent `g` of the result, the result `y`, the operands, and the
operation's parameters by keyword; it returns the cotangent of one operand. It need not care about
broadcasting, dtypes or masks: the sweep does, once for all (:mod:`gpugrad.graph.sweep`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpugrad.backend.vocabulary import numpy_namespace

__all__ = ["OPS", "JointOp", "Op", "copy_into", "elementwise", "operation", "run_elementwise"]

Rule = Callable[..., Any]
OPS: dict[str, Op] = {}


class _EachOperand:
    """The rules of an operation with any number of operands."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[int], Rule]) -> None:
        self.make = make

    def __getitem__(self, i: int) -> Rule:
        return self.make(i)


class _Visit:
    """The rules of an operation for one visit of a sweep, which share what they find."""

    __slots__ = ("found", "rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.found: dict[str, Any] = {}

    def __getitem__(self, i: int) -> Rule:
        return partial(self.rules[i], self.found)


class Op:
    """A differentiable function of arrays.

    Attributes
    ----------
    name : str
        Its word in the vocabulary.
    forward : callable
        ``forward(xp, *operands, **params)`` on raw arrays.
    host : callable
        The same without `xp`, on NumPy arrays: what the fast path calls.
    rules : sequence of callable
        One for each operand; for operations with any number of operands an object that has
        ``rules[i]`` for every i.
    elementwise : bool
        Takes ``where=``, ``out=`` and ``dtype=`` as NumPy's ufuncs do.
    may_view : bool
        The result may share the operand's memory.
    safe : float
        A point inside the domain of the function and of all its derivatives; masked elements are
        replaced by it before the rule is applied.
    nin : int | None
        How many operands; None for any number.
    """

    __slots__ = (
        "elementwise",
        "forward",
        "host",
        "may_view",
        "name",
        "nin",
        "rules",
        "safe",
        "ufunc",
    )

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        rules: Sequence[Rule | None] = (),
        *,
        variadic: Callable[[int], Rule] | None = None,
        elementwise: bool = False,
        may_view: bool = False,
        safe: float = 0.5,
        ufunc: np.ufunc | None = None,
    ) -> None:
        self.name = name
        self.forward = forward
        self.rules: Any = tuple(rules) if variadic is None else _EachOperand(variadic)
        self.elementwise = elementwise
        self.may_view = may_view
        self.safe = safe
        self.ufunc = ufunc
        self.nin = None if variadic is not None else len(rules)
        self.host = ufunc if ufunc is not None else partial(forward, numpy_namespace)

    def __repr__(self) -> str:
        return f"<gpugrad op {self.name!r}>"

    def __reduce__(self) -> str | tuple:
        return OPS.__getitem__, (self.name,)


class JointOp(Op):
    """An operation whose rules have common parts, which one visit of a sweep computes once.

    Each rule takes a dict before its other arguments, ``rule(found, xp, g, y, *operands)``. It is
    empty when a sweep comes to the vertex, and the same for all operands.
    """

    __slots__ = ("_each",)

    @property
    def rules(self) -> Any:  # type: ignore[override]
        return _Visit(self._each)

    @rules.setter
    def rules(self, each: Sequence[Rule]) -> None:
        self._each = each


def elementwise(name: str, *rules: Rule | None, safe: float = 0.5) -> Op:
    """Declare the elementwise function that the vocabulary calls `name`."""

    def forward(xp: Any, *operands: Any) -> Any:
        return getattr(xp, name)(*operands)

    ufunc = getattr(np, name, None)
    op = Op(
        name,
        forward,
        rules,
        elementwise=True,
        safe=safe,
        ufunc=ufunc if isinstance(ufunc, np.ufunc) else None,
    )
    OPS[name] = op
    return op


def operation(
    name: str,
    *rules: Rule | None,
    variadic: Callable[[int], Rule] | None = None,
    may_view: bool = False,
    joint: bool = False,
) -> Callable[[Callable[..., Any]], Op]:
    """Declare the decorated ``forward(xp, *operands, **params)``; `joint` ones are a `JointOp`."""

    def declare(forward: Callable[..., Any]) -> Op:
        kind = JointOp if joint else Op
        op = OPS[name] = kind(name, forward, rules, variadic=variadic, may_view=may_view)
        return op

    return declare


def run_elementwise(
    op: Op, xp: Any, operands: Sequence[Any], out: Any = None, where: Any = None, dtype: Any = None
) -> Any:
    """The value of an elementwise op under NumPy's ``out=``, ``where=`` and ``dtype=``.

    Without `out`, elements outside the mask are 0: NumPy would leave them to chance.
    """
    if where is not None and out is None:
        sample = run_elementwise(op, xp, [_nothing(a) for a in operands], dtype=dtype)
        shape = np.broadcast_shapes(np.shape(where), *(np.shape(a) for a in operands))
        out = xp.zeros(shape, dtype=sample.dtype)
    if dtype is not None and (op.ufunc is None or xp.name != "numpy"):
        # CuPy takes its first loop with that result: for divide the one of int8
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise TypeError(f"{op.name}: got dtype={dtype}, expected floats")
        operands = [xp.asarray(a).astype(dtype) for a in operands]
        dtype = None
    if op.ufunc is not None:
        options = {"out": out, "where": where, "dtype": dtype}
        return getattr(xp, op.name)(
            *operands, **{k: v for k, v in options.items() if v is not None}
        )
    if where is not None:
        # all elements are computed: those that are not wanted must not warn
        operands = [xp.where(where, a, op.safe if is_float(a) else 1) for a in operands]
    result = op.forward(xp, *operands)
    if out is None:
        return result
    if np.broadcast_shapes(out.shape, np.shape(result)) != tuple(out.shape):
        raise ValueError(
            f"{op.name}: out has shape {out.shape}, the result has shape {np.shape(result)}"
        )
    if where is None:
        xp.copyto(out, result, casting="same_kind")
    else:
        xp.copyto(out, result, where=where, casting="same_kind")
    return out


def is_float(x: Any) -> bool:
    """Whether an operand is a float, or an array or tensor of them."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, float) or (dtype is not None and dtype.kind == "f")


def copy_into(function: str, xp: Any, out: Any, result: Any) -> Any:
    """`out`, holding `result`: of its shape, and of a dtype that it takes under "same_kind"."""
    if out.shape != np.shape(result):
        raise ValueError(
            f"{function}: out has shape {out.shape}, the result has shape {np.shape(result)}"
        )
    xp.copyto(out, result, casting="same_kind")
    return out


def _nothing(operand: Any) -> Any:
    """`operand` with no elements, for the dtype of a result that nobody computes."""
    return operand.ravel()[:0] if hasattr(operand, "ravel") and np.ndim(operand) else operand
