"""The gated recurrent unit: all steps in one operation, and its derivatives in one other.

With s the states, s[0] given, and z, r, h the gates of a step,

    z = sigmoid(x Uz + s Wz + bz)
    r = sigmoid(x Ur + s Wr + br)          s' = (1 - z) h + z s
    h = tanh(x Uh + (r s) Wh + bh)

A change m of s changes s' by the linear map

    J m  =  a m + b (m Wz) + c (q Wh),     q = r m + e (m Wr)

    a = z     b = (s - h) z (1 - z)     c = (1 - z)(1 - h h)     e = s r (1 - r)

so that tangents and cotangents of all states are the solutions of linear recurrences,

    tangent     v[t] = u[t] + J[t] v[t-1],     from the first state on
    adjoint     v[t] = u[t] + J[t+1]' v[t+1],  from the last state back

Both are the operation `gated_recurrence`, whose derivative needs no other: with v the solution of
the opposite direction for the cotangent, it is sum over t of <cotangent[t], dJ[t] tangent[t-1]>.
The gradients of the gru are products over all times at once of the adjoint with what is listed
above, and every further order is made of these two operations again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend.vocabulary import shared
from gpugrad.graph.op import operation
from gpugrad.ops.namespace import add_words
from gpugrad.tensor import Tensor

__all__ = ["gru_states"]

Rule = Callable[..., Any]


def _wide(xp: Any, arrays: tuple[Any, ...]) -> tuple[np.dtype, np.dtype]:
    """The common floating dtype, and the one to compute in: float32 in place of float16."""
    dtype = arrays[0].dtype
    if any(a.dtype != dtype for a in arrays):
        dtype = xp.result_type(*(a.dtype for a in arrays))
    if dtype.kind != "f":
        dtype = np.dtype(np.float64)
    return dtype, np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def _in(a: Any, dtype: np.dtype) -> Any:
    return a if a.dtype == dtype else a.astype(dtype)


def _rows(xp: Any, a: Any) -> Any:
    """The vectors of all times and samples as one matrix: (T, N, D) -> (T N, D)."""
    return xp.reshape(a, (a.shape[0] * a.shape[1], a.shape[2]))


def _times(xp: Any, a: Any, w: Any) -> Any:
    """a w at all times, in one product of matrices."""
    return xp.reshape(xp.matmul(_rows(xp, a), w), (*a.shape[:2], w.shape[1]))


# ---------------------------------------------------------------- tangents and cotangents of states


@shared
def gated_recurrence(
    xp: Any,
    u: Any,
    a: Any,
    b: Any,
    c: Any,
    r: Any,
    e: Any,
    wz: Any,
    wr: Any,
    wh: Any,
    adjoint: bool,
) -> Any:
    """Return v with v[t] = u[t] + J[t] v[t-1], or the adjoint: see the top of this module.

    Parameters
    ----------
    u : array, shape (T + 1, N, D)
    a, b, c, r, e : array, shape (T, N, D)
    wz, wr, wh : array, shape (D, D)
    adjoint : bool
    """
    dtype, wide = _wide(xp, (u, a, b, c, r, e, wz, wr, wh))
    v = xp.array(u, dtype=wide)
    a, b, c, r, e, wz, wr, wh = (_in(p, wide) for p in (a, b, c, r, e, wz, wr, wh))
    run = _backward_in_time if adjoint else _forward_in_time
    run(xp, v, a, b, c, r, e, wz, wr, wh)
    return _in(v, dtype)


# Both write into v and reuse what they have allocated. On small arrays calls and fresh memory are
# half of the time: `dot` is called in two thirds of the time of `matmul`.


def _forward_in_time(
    xp: Any, v: Any, a: Any, b: Any, c: Any, r: Any, e: Any, wz: Any, wr: Any, wh: Any
) -> None:
    add, dot, multiply = xp.add, xp.dot, xp.multiply
    p, q = xp.empty(v.shape[1:], dtype=v.dtype), xp.empty(v.shape[1:], dtype=v.dtype)
    for t in range(a.shape[0]):
        m, result = v[t], v[t + 1]
        dot(m, wr, out=p)
        multiply(p, e[t], out=p)
        multiply(m, r[t], out=q)
        add(p, q, out=q)
        dot(q, wh, out=p)
        multiply(p, c[t], out=p)
        add(result, p, out=result)
        dot(m, wz, out=p)
        multiply(p, b[t], out=p)
        add(result, p, out=result)
        multiply(m, a[t], out=p)
        add(result, p, out=result)


def _backward_in_time(
    xp: Any, v: Any, a: Any, b: Any, c: Any, r: Any, e: Any, wz: Any, wr: Any, wh: Any
) -> None:
    add, dot, multiply = xp.add, xp.dot, xp.multiply
    n, d = v.shape[1:]
    wh = xp.ascontiguousarray(xp.transpose(wh))
    both = xp.concatenate((xp.transpose(wz), xp.transpose(wr)), axis=0)
    p, q = xp.empty((n, d), dtype=v.dtype), xp.empty((n, d), dtype=v.dtype)
    gates = xp.empty((n, 2 * d), dtype=v.dtype)  # cotangents of what goes into z and r
    in_z, in_r = gates[:, :d], gates[:, d:]
    for t in range(a.shape[0] - 1, -1, -1):
        m, result = v[t + 1], v[t]
        multiply(m, c[t], out=p)
        dot(p, wh, out=q)
        multiply(m, b[t], out=in_z)
        multiply(q, e[t], out=in_r)
        dot(gates, both, out=p)
        add(result, p, out=result)
        multiply(m, a[t], out=p)
        add(result, p, out=result)
        multiply(q, r[t], out=q)
        add(result, q, out=result)


def _solved(found: dict, xp: Any, g: Any, y: Any, xs: tuple, adjoint: bool) -> dict:
    """The factors of <cotangent[t], dJ[t] tangent[t-1]> that several operands need."""
    if not found:
        c, r, e, _, wr, wh = xs[3:]
        u = xp.gated_recurrence(g, *xs[1:], adjoint=not adjoint)
        cotangent, tangent = (y, u) if adjoint else (u, y)
        cotangent = xp.getitem(cotangent, slice(1, None))
        tangent = xp.getitem(tangent, slice(None, -1))
        into_h = cotangent * c
        through_r = _times(xp, tangent, wr)
        q = _times(xp, into_h, xp.swapaxes(wh, 0, 1))
        found |= {"u": u, "cotangent": cotangent, "tangent": tangent, "into_h": into_h}
        found |= {"through_r": through_r, "q": q, "mixed": r * tangent + e * through_r}
    return found


def _over_time(xp: Any, a: Any, b: Any) -> Any:
    """sum over all times and samples of a (outer) b."""
    return xp.matmul(xp.swapaxes(_rows(xp, a), 0, 1), _rows(xp, b))


def _recurrence_rule(of: Callable[[Any, dict, tuple], Any]) -> Rule:
    def rule(found: dict, xp: Any, g: Any, y: Any, *xs: Any, adjoint: bool) -> Any:
        return of(xp, _solved(found, xp, g, y, xs, adjoint), xs)

    return rule


GATED_RECURRENCE = operation(
    "gated_recurrence",
    _recurrence_rule(lambda xp, f, xs: f["u"]),
    _recurrence_rule(lambda xp, f, xs: f["cotangent"] * f["tangent"]),
    _recurrence_rule(lambda xp, f, xs: f["cotangent"] * _times(xp, f["tangent"], xs[6])),
    _recurrence_rule(lambda xp, f, xs: f["cotangent"] * _times(xp, f["mixed"], xs[8])),
    _recurrence_rule(lambda xp, f, xs: f["q"] * f["tangent"]),
    _recurrence_rule(lambda xp, f, xs: f["q"] * f["through_r"]),
    _recurrence_rule(lambda xp, f, xs: _over_time(xp, f["tangent"], f["cotangent"] * xs[2])),
    _recurrence_rule(lambda xp, f, xs: _over_time(xp, f["tangent"], f["q"] * xs[5])),
    _recurrence_rule(lambda xp, f, xs: _over_time(xp, f["mixed"], f["into_h"])),
    joint=True,
)(gated_recurrence)


def recurrence(*operands: Any, adjoint: bool) -> Tensor:
    """The word `gated_recurrence` for tensors."""
    return apply(GATED_RECURRENCE, operands, {"adjoint": adjoint})


# ------------------------------------------------------------------------------------ the operation
#
# The operands in this order: x, (uz, wz, bz), (ur, wr, br), (uh, wh, bh), s0.

_U, _W, _B = (1, 4, 7), (2, 5, 8), (3, 6, 9)


def _gates(xp: Any, s: Any, xs: tuple, drop: Any) -> tuple[Any, Any, Any]:
    """The gates of all steps from the states before them, in words that have derivatives."""

    def before(k: int, state: Any) -> Any:
        from_x = _times(xp, xs[0], xs[_U[k]])
        if drop is not None:
            from_x = from_x * drop[k]
        return from_x + _times(xp, state, xs[_W[k]]) + xs[_B[k]]

    z, r = xp.sigmoid(before(0, s)), xp.sigmoid(before(1, s))
    return z, r, xp.tanh(before(2, r * s))


def _truncated(xp: Any, g: Any, factors: tuple, weights: tuple, limit: int) -> Any:
    """The terms of the adjoint that reach back `limit` steps at most."""
    a, b, c, r, e = factors
    wz, wr, wh = (xp.swapaxes(w, 0, 1) for w in weights)
    nothing = xp.zeros_like(xp.getitem(g, slice(1)))
    total = term = g
    for _ in range(limit):
        m = xp.getitem(term, slice(1, None))
        q = _times(xp, m * c, wh)
        m = a * m + _times(xp, m * b, wz) + _times(xp, q * e, wr) + q * r
        term = xp.concatenate((m, nothing), axis=0)
        total = total + term
    return total


# Two words whose versions for raw arrays work in place: fresh memory takes as long as arithmetic.


@shared
def gru_factors(xp: Any, s: Any, z: Any, r: Any, h: Any) -> tuple[Any, Any, Any, Any]:
    """Return b, c and e as at the top of this module, and r s."""
    b, c, e, mixed = xp.empty((4, *z.shape), dtype=z.dtype)
    xp.multiply(h, h, out=e)
    xp.subtract(1, e, out=e)
    xp.subtract(1, z, out=c)
    xp.subtract(s, h, out=b)
    xp.multiply(b, z, out=b)
    xp.multiply(b, c, out=b)
    xp.multiply(c, e, out=c)
    xp.multiply(r, s, out=mixed)
    xp.multiply(mixed, r, out=e)
    xp.subtract(mixed, e, out=e)
    return b, c, e, mixed


@shared
def gru_into_gates(xp: Any, after: Any, b: Any, c: Any, e: Any, wh: Any) -> tuple[Any, Any, Any]:
    """Return the cotangents of what goes into z, r and h; `b`, `c` and `e` are used up."""
    xp.multiply(c, after, out=c)
    xp.multiply(b, after, out=b)
    xp.multiply(e, _times(xp, c, wh), out=e)
    return b, e, c


def tensor_factors(s: Any, z: Any, r: Any, h: Any) -> tuple[Tensor, ...]:
    """The word `gru_factors` for tensors."""
    other, mixed = 1 - z, r * s
    return (s - h) * z * other, other * (1 - h * h), mixed * (1 - r), mixed


def tensor_into_gates(after: Any, b: Any, c: Any, e: Any, wh: Any) -> tuple[Tensor, ...]:
    """The word `gru_into_gates` for tensors."""
    into_h = after * c
    return after * b, e * (into_h @ wh), into_h


def _cotangents(
    found: dict, xp: Any, g: Any, y: Any, xs: tuple, drop: Any, limit: int | None, saved: dict
) -> dict:
    """Of what goes into each gate at all times, as matrices (T N, D); and what it came from."""
    if found:
        return found
    s = xp.getitem(y, slice(None, -1))
    z, r, h = saved["gates"] if saved.get("states") is y else _gates(xp, s, xs, drop)
    b, c, e, mixed = xp.gru_factors(s, z, r, h)
    weights = tuple(xs[i] for i in _W)
    if limit is None:
        adjoint = xp.gated_recurrence(g, z, b, c, r, e, *weights, adjoint=True)
    else:
        adjoint = _truncated(xp, g, (z, b, c, r, e), weights, limit)
    after = xp.getitem(adjoint, slice(1, None))
    into = xp.gru_into_gates(after, b, c, e, xp.swapaxes(weights[2], 0, 1))
    found["start"] = xp.getitem(adjoint, 0)
    found["into"] = tuple(_rows(xp, a) for a in into)
    found["from_x"] = (
        found["into"] if drop is None else tuple(_rows(xp, a * d) for a, d in zip(into, drop))
    )
    found["state"] = tuple(_rows(xp, a) for a in (s, s, mixed))
    return found


def _gru_rule(of: Callable[[Any, dict, tuple], Any]) -> Rule:
    def rule(
        found: dict, xp: Any, g: Any, y: Any, *xs: Any, drop: Any, limit: Any, saved: Any
    ) -> Any:
        return of(xp, _cotangents(found, xp, g, y, xs, drop, limit, saved), xs)

    return rule


def _x_gradient(xp: Any, f: dict, xs: tuple) -> Any:
    z, r, h = (
        xp.matmul(into, xp.swapaxes(xs[i], 0, 1)) for into, i in zip(f["from_x"], _U, strict=True)
    )
    return xp.reshape(z + r + h, xs[0].shape)


def _of_gate(k: int) -> tuple[Rule, Rule, Rule]:
    """The rules of u, w and b of one gate."""
    return (
        _gru_rule(lambda xp, f, xs: xp.matmul(xp.swapaxes(_rows(xp, xs[0]), 0, 1), f["from_x"][k])),
        _gru_rule(lambda xp, f, xs: xp.matmul(xp.swapaxes(f["state"][k], 0, 1), f["into"][k])),
        _gru_rule(lambda xp, f, xs: xp.sum(f["into"][k], axis=0)),
    )


@operation(
    "gru",
    _gru_rule(_x_gradient),
    *_of_gate(0),
    *_of_gate(1),
    *_of_gate(2),
    _gru_rule(lambda xp, f, xs: f["start"]),
    joint=True,
)
def GRU(
    xp: Any,
    x: Any,
    uz: Any,
    wz: Any,
    bz: Any,
    ur: Any,
    wr: Any,
    br: Any,
    uh: Any,
    wh: Any,
    bh: Any,
    s0: Any,
    *,
    drop: Any,
    limit: int | None,
    saved: dict[str, Any],
) -> Any:
    dtype, wide = _wide(xp, (x, uz, wz, bz, ur, wr, br, uh, wh, bh))
    (steps, n, _), d = x.shape, bz.shape[0]
    states = xp.empty((steps + 1, n, d), dtype=wide)
    states[0] = s0

    # sigmoid(p) = 1 / (1 + exp(-p)): the weights of z and r change their sign, not what they make
    rows = _rows(xp, _in(x, wide))
    gates = xp.reshape(xp.matmul(rows, _negatives(xp, uz, ur, wide)), (2, steps, n, d))
    h = xp.reshape(xp.matmul(rows, _in(uh, wide)), (steps, n, d))
    if drop is not None:
        xp.multiply(gates[0], drop[0], out=gates[0])
        xp.multiply(gates[1], drop[1], out=gates[1])
        xp.multiply(h, drop[2], out=h)
    xp.subtract(gates[0], _in(bz, wide), out=gates[0])
    xp.subtract(gates[1], _in(br, wide), out=gates[1])
    xp.add(h, _in(bh, wide), out=h)

    weights, wh = _negatives(xp, wz, wr, wide), _in(wh, wide)
    z, r = gates[0], gates[1]
    both = xp.empty((2, n, d), dtype=wide)
    p, q = xp.empty((n, d), dtype=wide), xp.empty((n, d), dtype=wide)
    add, dot, exp, matmul, multiply = xp.add, xp.dot, xp.exp, xp.matmul, xp.multiply
    reciprocal, subtract, tanh = xp.reciprocal, xp.subtract, xp.tanh
    s = states[0]
    with xp.errstate(over="ignore"):  # an infinity whose reciprocal is the right limit 0
        for t in range(steps):
            now, h_now, s_next = gates[:, t], h[t], states[t + 1]
            matmul(s, weights, out=both)
            add(both, now, out=both)
            exp(both, out=both)
            add(both, 1, out=both)
            reciprocal(both, out=now)
            multiply(r[t], s, out=p)
            dot(p, wh, out=q)
            add(h_now, q, out=h_now)
            tanh(h_now, out=h_now)
            subtract(s, h_now, out=s_next)
            multiply(s_next, z[t], out=s_next)
            add(s_next, h_now, out=s_next)
            s = s_next
    states = _in(states, dtype)
    saved["states"], saved["gates"] = states, (z, r, h)
    return states


def _negatives(xp: Any, a: Any, b: Any, dtype: np.dtype) -> Any:
    """-a and -b, one behind the other."""
    pair = xp.empty((2, *a.shape), dtype=dtype)
    xp.negative(_in(a, dtype), out=pair[0])
    xp.negative(_in(b, dtype), out=pair[1])
    return pair


def gru_states(
    *operands: Any, drop: Any = None, limit: int | None = None, constant: bool | None = None
) -> Tensor:
    """All states of a gated recurrent unit, the given first one included.

    Parameters
    ----------
    *operands : Tensor or array
        x (T, N, C), then u (C, D), w (D, D) and b (D,) of z, of r and of h, and s0, which
        broadcasts to (N, D).
    drop : three arrays that broadcast with (N, D), optional
        Factors of x Uz, x Ur and x Uh, the same at all times.
    limit : int, optional
        How many steps back a cotangent is carried; all by default.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (T + 1, N, D)
    """
    saved: dict[str, Any] = {}
    params = {"drop": drop, "limit": limit, "saved": saved}
    y = apply(GRU, operands, params, constant=constant)
    if y.constant:
        saved.clear()
    return y


# what the words of the rules mean for tensors
add_words(
    {
        "gated_recurrence": recurrence,
        "gru": gru_states,
        "gru_factors": tensor_factors,
        "gru_into_gates": tensor_into_gates,
    }
)
