"""Sums and products of any number of tensors."""

from __future__ import annotations

from functools import reduce
from typing import Any

from gpugrad.apply import apply
from gpugrad.graph.op import Op, operation
from gpugrad.tensor import Tensor

__all__ = ["add_sequence", "multiply_sequence"]


@operation("add_sequence", variadic=lambda i: lambda xp, g, y, *xs: g)
def ADD_SEQUENCE(xp: Any, *xs: Any) -> Any:
    return reduce(xp.add, xs)


def _others(i: int) -> Any:
    # without a division, so that zeros are exact
    return lambda xp, g, y, *xs: reduce(xp.multiply, xs[:i] + xs[i + 1 :], g)


@operation("multiply_sequence", variadic=_others)
def MULTIPLY_SEQUENCE(xp: Any, *xs: Any) -> Any:
    return reduce(xp.multiply, xs)


def _apply(op: Op, variables: tuple, constant: bool | None) -> Tensor:
    if len(variables) < 2:
        raise ValueError(f"{op.name}: got {len(variables)} operands, expected at least 2")
    return apply(op, variables, constant=constant)


def add_sequence(*variables: Any, constant: bool | None = None) -> Tensor:
    """``x0 + x1 + ...`` as one operation, broadcast as `add`.

    Raises
    ------
    ValueError
        Fewer than two operands, or shapes that do not broadcast.
    """
    return _apply(ADD_SEQUENCE, variables, constant)


def multiply_sequence(*variables: Any, constant: bool | None = None) -> Tensor:
    """``x0 * x1 * ...`` as one operation, broadcast as `multiply`.

    Raises
    ------
    ValueError
        Fewer than two operands, or shapes that do not broadcast.
    """
    return _apply(MULTIPLY_SEQUENCE, variables, constant)
