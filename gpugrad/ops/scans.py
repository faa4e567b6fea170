"""Functions that run along an axis: cumulative sums, products and extremes, differences."""

from __future__ import annotations

from typing import Any

from numpy.lib.array_utils import normalize_axis_index

from gpugrad.apply import forget_gradients
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of, shared
from gpugrad.errors import composite
from gpugrad.graph.op import Op, operation
from gpugrad.ops.arithmetic import subtract
from gpugrad.ops.comparison import array_answer, raw_of
from gpugrad.ops.indexing import along, getitem
from gpugrad.ops.joining import concatenate
from gpugrad.ops.reductions import astype, before, in_dtype, normal
from gpugrad.ops.shaping import as_tensor, broadcast_to, lined
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "diff"]

# --------------------------------------------------------------------------- the linear recurrence


@shared
def linear_recurrence(xp: Any, a: Any, b: Any) -> Any:
    """Solve s[i] = a[i] s[i-1] + b[i], s[0] = b[0] along the last axis, in O(n) vector operations.

    Pairs of steps are steps of a recurrence of half the length, which gives the odd elements:

        s[1] s[3] s[5] ...   =   the solution for   a' = a1 a0, a3 a2, ...   b' = a1 b0 + b1, ...
        s[2] s[4] ...        =   a2 s1 + b2, ...

    Nothing is divided by, so that zeros are harmless.
    """
    n = b.shape[-1]
    if n < 2:
        return xp.array(b)
    pairs = n // 2
    a_even, a_odd = a[..., 0::2], a[..., 1::2]
    b_even, b_odd = b[..., 0::2], b[..., 1::2]
    odd = linear_recurrence(xp, a_odd * a_even[..., :pairs], a_odd * b_even[..., :pairs] + b_odd)
    s = xp.empty(b.shape, dtype=odd.dtype)
    s[..., 1::2] = odd
    s[..., 0] = b[..., 0]
    s[..., 2::2] = a_even[..., 1:] * odd[..., : a_even.shape[-1] - 1] + b_even[..., 1:]
    return s


def _adjoint(xp: Any, a: Any, g: Any) -> Any:
    """Solve r[i] = g[i] + a[i+1] r[i+1], from the last element back to the first."""
    steps = xp.roll(xp.flip(a, -1), 1, axis=-1)
    return xp.flip(xp.linear_recurrence(steps, xp.flip(g, -1)), -1)


def _recurrence_a(xp: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    if not y.shape[-1]:
        return g
    start = xp.zeros_like(xp.getitem(y, (..., slice(1))))
    previous = xp.concatenate((start, xp.getitem(y, (..., slice(-1)))), axis=-1)
    return _adjoint(xp, a, g) * previous


LINEAR_RECURRENCE = operation(
    "linear_recurrence", _recurrence_a, lambda xp, g, y, a, b: _adjoint(xp, a, g)
)(linear_recurrence)


def solve_recurrence(a: Any, b: Any, *, constant: bool | None = None) -> Tensor:
    """The solution of s[i] = a[i] s[i-1] + b[i], s[0] = b[0] along the last axis.

    Parameters
    ----------
    a, b : array_like, of one shape (..., n)
        ``a[..., 0]`` is not used.

    Returns
    -------
    Tensor, shape (..., n)
    """
    return call(LINEAR_RECURRENCE, (a, b), constant=constant)


# -------------------------------------------------------------------------------- sums and products


def _cumsum_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: int) -> Any:
    return xp.flip(xp.cumsum(xp.flip(g, axis), axis=axis), axis)


@operation("cumsum", _cumsum_rule)
def CUMSUM(xp: Any, x: Any, *, axis: int) -> Any:
    return xp.cumsum(x, axis=axis)


def _cumprod_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: int) -> Any:
    # dL/dx[i] = sum over k >= i of g[k] x[0] .. x[k] without x[i]
    #          = (x[0] .. x[i-1]) r[i]   with   r[i] = g[i] + x[i+1] r[i+1]
    if normal(y):
        return xp.flip(xp.cumsum(xp.flip(g * y, axis), axis=axis), axis) / x
    x, g = xp.swapaxes(x, axis, -1), xp.swapaxes(g, axis, -1)
    return xp.swapaxes(before(xp, x) * _adjoint(xp, x, g), axis, -1)


@operation("cumprod", _cumprod_rule)
def CUMPROD(xp: Any, x: Any, *, axis: int) -> Any:
    return xp.cumprod(x, axis=axis)


def _scan(op: Op, a: Any, axis: Any, constant: bool | None, out: Any, dtype: Any) -> Tensor:
    if dtype is not None:
        a = astype(a, dtype)
    line, axis = lined(op.name, a, axis)
    axis = normalize_axis_index(axis, line.ndim, op.name)
    result = in_dtype(call(op, (line,), {"axis": axis}, out=out, constant=constant), dtype, out)
    forget_gradients((a,))
    return result


def cumsum(
    a: Any,
    axis: int | None = None,
    *,
    constant: bool | None = None,
    out: Any = None,
    dtype: Any = None,
) -> Tensor:
    """Sums of the elements up to each along `axis`; without an axis, of `a` as one axis.

    Parameters
    ----------
    a : array_like
    axis : int, optional
    constant : bool, optional
    out : Tensor or array, optional
    dtype : dtype, optional
        In which to add up.

    Returns
    -------
    Tensor
    """
    return _scan(CUMSUM, a, axis, constant, out, dtype)


def cumprod(
    a: Any,
    axis: int | None = None,
    *,
    constant: bool | None = None,
    out: Any = None,
    dtype: Any = None,
) -> Tensor:
    """Products of the elements up to each along `axis`; parameters as for `cumsum`.

    The gradient is exact, to any order, for any number of zeros.
    """
    return _scan(CUMPROD, a, axis, constant, out, dtype)


# ----------------------------------------------------------------------------------------- extremes


def _running_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: int) -> Any:
    data = raw_of(y)
    raw = namespace_of(get_array_module(data))
    head = (slice(None),) * axis
    later, earlier = data[(*head, slice(1, None))], data[(*head, slice(-1))]
    # the first of equal ones stays the extreme; a nan is one for good
    changed = (later != earlier) & ~(raw.isnan(later) & raw.isnan(earlier))
    numbers = raw.arange(1, data.shape[axis] or 1)
    place = raw.zeros(data.shape, dtype=raw.intp)
    place[(*head, slice(1, None))] = raw.where(
        changed, numbers.reshape((-1,) + (1,) * (data.ndim - axis - 1)), 0
    )
    index = along(data.shape, raw.cummax(place, axis=axis), axis)
    return xp.add_at(x.shape, x.dtype, index, g)


@operation("cummax", _running_rule)
def CUMMAX(xp: Any, x: Any, *, axis: int) -> Any:
    return xp.cummax(x, axis=axis)


@operation("cummin", _running_rule)
def CUMMIN(xp: Any, x: Any, *, axis: int) -> Any:
    return xp.cummin(x, axis=axis)


def cummax(a: Any, axis: int | None = None, *, constant: bool | None = None) -> Tensor:
    """Largest of the elements up to each along `axis`; without an axis, of `a` as one axis.

    Of equal ones the first takes the gradient; from the first nan on all are nan.
    """
    return _scan(CUMMAX, a, axis, constant, None, None)


def cummin(a: Any, axis: int | None = None, *, constant: bool | None = None) -> Tensor:
    """Smallest of the elements up to each along `axis`; see `cummax`."""
    return _scan(CUMMIN, a, axis, constant, None, None)


# -------------------------------------------------------------------------------------- differences


@composite
def diff(
    a: Any,
    n: int = 1,
    axis: int = -1,
    prepend: Any = None,
    append: Any = None,
    *,
    constant: bool | None = None,
) -> Tensor:
    """Differences of neighbours along `axis`, taken `n` times; of bools, whether they differ.

    Parameters
    ----------
    a : array_like, at least 1-d
    n : int, optional
    axis : int, optional
    prepend, append : array_like, optional
        Put before and after `a` along `axis` first; a scalar stands for one element.
    constant : bool, optional

    Returns
    -------
    Tensor
        Shorter by `n` along `axis`; `a` itself for ``n = 0``.

    Raises
    ------
    ValueError
        `n` is negative, or `a` is 0-d.
    """
    x = as_tensor("diff", a)
    if n < 0:
        raise ValueError(f"diff: n is {n}, expected at least 0")
    if not x.ndim:
        raise ValueError("diff: a is 0-d, expected at least one axis")
    if n == 0:
        return x
    axis = normalize_axis_index(axis, x.ndim, "diff")
    parts = [
        _edge("diff", part, x, axis) if part is not x else x
        for part in (prepend, x, append)
        if part is not None
    ]
    if len(parts) > 1:
        x = concatenate(parts, axis)
    head = (slice(None),) * axis
    for step in range(n):
        last = constant if step == n - 1 else None
        later, earlier = getitem(x, (*head, slice(1, None))), getitem(x, (*head, slice(-1)))
        if x.dtype.kind == "b":
            x = as_tensor("diff", array_answer("not_equal", later, earlier))
        else:
            x = subtract(later, earlier, constant=last)
    return x


def _edge(function: str, part: Any, x: Tensor, axis: int) -> Tensor:
    if not hasattr(part, "dtype"):
        part = get_array_module(x.data).asarray(part)
    part = as_tensor(function, part)
    if part.ndim:
        return part
    shape = list(x.shape)
    shape[axis] = 1
    return broadcast_to(part, tuple(shape))
