"""Interpolation between points."""

from __future__ import annotations

from typing import Any

from gpugrad.backend.array_module import check_same_device, get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import composite
from gpugrad.ops.arithmetic import add, divide, multiply, subtract
from gpugrad.ops.indexing import getitem, where
from gpugrad.ops.joining import concatenate
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor

__all__ = ["interp"]


def _within_period(x: Tensor, period: float) -> Tensor:
    """`x` moved by multiples of the period into [0, period)."""
    raw = namespace_of(get_array_module(x.data))
    return subtract(x, raw.floor(x.data / period) * period)


@composite
def interp(
    x: Any,
    xp: Any,
    fp: Any,
    left: Any = None,
    right: Any = None,
    period: float | None = None,
    *,
    constant: bool | None = None,
) -> Tensor:
    """Values at `x` of the broken line through the points ``(xp, fp)``.

    Parameters
    ----------
    x : array_like
    xp : array_like, shape (n,)
        Increasing; with `period`, in any order.
    fp : array_like, shape (n,)
    left, right : scalar, optional
        Values below ``xp[0]`` and above ``xp[-1]``; ``fp[0]`` and ``fp[-1]`` by default.
    period : float, optional
        The line is continued periodically; `left` and `right` are not used.
    constant : bool, optional

    Returns
    -------
    Tensor, of the shape of `x`

    Raises
    ------
    ValueError
        No points, `xp` and `fp` of different lengths or not 1-d, or a period of 0.

    Notes
    -----
    Gradients flow to `x`, `xp` and `fp`. At a point of the line, where it may have a kink, they are
    those of the piece that begins there (at the last one, of the piece that ends there).

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([0.5, 2.5])
    >>> y = gg.interp(x, [0.0, 1.0, 3.0], [0.0, 2.0, 0.0])
    >>> y.backward()
    >>> y, x.grad
    (Tensor([1. , 0.5]), array([ 2., -1.]))
    """
    at, knots, values = (as_tensor("interp", a) for a in (x, xp, fp))
    check_same_device("interp", at.data, knots.data, values.data)
    if knots.ndim != 1 or values.ndim != 1 or knots.size != values.size:
        raise ValueError(
            f"interp: xp has shape {knots.shape} and fp {values.shape}, expected one length (n,)"
        )
    if not knots.size:
        raise ValueError("interp: xp is empty, expected at least one point")
    if period is not None:
        if period == 0:
            raise ValueError("interp: period is 0, expected another number")
        left = right = None
        at, knots, values = _periodic(at, knots, values, abs(period))
    n = knots.size
    raw = namespace_of(get_array_module(at.data))
    t, ends = at.data, knots.data
    below, above = t < ends[0], t > ends[-1]
    i = (raw.searchsorted(ends, t, side="right") - 1).clip(0, max(n - 2, 0))
    j = (i + 1).clip(0, n - 1)
    x0, f0 = getitem(knots, i), getitem(values, i)
    x1, f1 = getitem(knots, j), getitem(values, j)
    # outside, and where two knots coincide, what is selected away must be finite
    inside = where(below | above, x0.data, at)
    width = subtract(x1, x0)
    width = where(width.data == 0, 1, width)
    slope = divide(subtract(f1, f0), width)
    y = add(f0, multiply(slope, subtract(inside, x0)))
    y = where(below, getitem(values, 0) if left is None else left, y)
    return where(above, getitem(values, -1) if right is None else right, y, constant=constant)


def _periodic(
    at: Tensor, knots: Tensor, values: Tensor, period: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The problem within one period, with a point of the neighbouring ones on either side."""
    at, knots = _within_period(at, period), _within_period(knots, period)
    raw = namespace_of(get_array_module(knots.data))
    order = raw.argsort(knots.data, axis=-1, kind="stable")
    knots, values = getitem(knots, order), getitem(values, order)
    first, last = slice(1), slice(-1, None)
    before, after = subtract(getitem(knots, last), period), add(getitem(knots, first), period)
    return (
        at,
        concatenate((before, knots, after)),
        concatenate((getitem(values, last), values, getitem(values, first))),
    )
