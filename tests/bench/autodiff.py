"""Forward and backward through small graphs: what an operation costs beside its arithmetic.

The contestants build the same graph of the same float64 arrays and ask for the gradients of all its
leaves. gpugrad and mygrad run with and without their memory guards; torch eagerly on one thread.

    python -m tests.bench.autodiff
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

import gpugrad as gg
from tests.bench import harness

Call = Callable[[], object]
Function = Callable[..., Any]
THIRD = 1 / 3
IN_PLACE_BUDGET = 1 / 3.5
LARGE_BUDGET = 1.15


# -------------------------------------------------------------------- what is differentiated


def product(m: Any, x: Any, y: Any) -> Any:
    return x * y


def chain_of_20(m: Any, x: Any, y: Any) -> Any:
    z = x
    for _ in range(5):
        z = z * y + x
        z = z - y
        z = z / y
    for _ in range(5):
        z = z * 0.5
    return z


def in_place_10(m: Any, x: Any, y: Any) -> Any:
    z = x * y
    z[2:5] = y[2:5]
    z *= x
    z[0] = 0.0
    return z


def perceptron(m: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    h = m.tanh(m.matmul(x, w1) + b1)
    e = m.matmul(h, w2) + b2
    return m.sum(e * e)


def elementwise(m: Any, x: Any, y: Any) -> Any:
    return m.exp(x * y) + x


def elementwise_by_hand(x: np.ndarray, y: np.ndarray) -> Call:
    def call() -> object:
        e = np.exp(x * y)
        z = e + x
        g = np.ones_like(z)
        ge = g * e
        gx = ge * y
        gx += g
        return z, gx, ge * x

    return call


def perceptron_by_hand(
    x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray
) -> Call:
    def call() -> object:
        h = np.tanh(x @ w1 + b1)
        e = h @ w2 + b2
        loss = np.sum(e * e)
        ge = 2 * e
        gh = ge @ w2.T
        gh *= 1 - h * h
        return loss, gh @ w1.T, x.T @ gh, gh.sum(axis=0), h.T @ ge, ge.sum(axis=0)

    return call


# --------------------------------------------------------------------------- contestants


def _backward_of(m: Any, no_guard: Any = None) -> Callable[..., Call]:
    """gpugrad and mygrad: one signature."""

    def make(f: Function, *arrays: np.ndarray) -> Call:
        leaves = [m.tensor(a) for a in arrays]

        def call() -> None:
            f(m, *leaves).backward()

        return call if no_guard is None else no_guard(call)

    return make


def _mygrad(guarded: bool) -> Callable[..., Call]:
    import mygrad

    return _backward_of(mygrad, None if guarded else mygrad.mem_guard_off)


def _torch() -> Callable[..., Call]:
    import torch

    def make(f: Function, *arrays: np.ndarray) -> Call:
        leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
        seed = torch.ones_like(f(torch, *leaves))

        def call() -> None:
            for leaf in leaves:
                leaf.grad = None
            f(torch, *leaves).backward(seed)

        return call

    return make


def _autograd() -> Callable[..., Call]:
    import autograd.numpy
    from autograd import make_vjp

    def make(f: Function, *arrays: np.ndarray) -> Call:
        if f is in_place_10:
            raise NotImplementedError("it has no writes in place")
        seed = np.ones(np.shape(f(np, *arrays)))
        differentiated = make_vjp(lambda *xs: f(autograd.numpy, *xs), tuple(range(len(arrays))))
        return lambda: differentiated(*arrays)[0](seed)

    return make


def contestants() -> tuple[dict[str, Callable[..., Call]], list[str]]:
    """name -> make(f, *arrays), and notes on who is absent."""
    found = {
        "gpugrad": _backward_of(gg),
        "gpugrad, no guard": _backward_of(gg, gg.mem_guard_off),
    }
    others: tuple[tuple[str, str, Callable[[], Callable[..., Call]]], ...] = (
        ("mygrad", "mygrad", lambda: _mygrad(True)),
        ("mygrad, no guard", "mygrad", lambda: _mygrad(False)),
        ("torch", "torch", _torch),
        ("autograd", "autograd", _autograd),
    )
    notes = []
    for name, module, make in others:
        reason = harness.missing(module)
        if reason is None:
            found[name] = make()
        else:
            notes.append(f"- {name} not run: {reason}\n")
    return found, notes


# ------------------------------------------------------------------------------- reports


def _agree(f: Function, arrays: list[np.ndarray]) -> None:
    """The libraries compute the same: gpugrad's gradient is mygrad's."""
    import mygrad

    found = []
    for m in (gg, mygrad):
        leaves = [m.tensor(a) for a in arrays]
        f(m, *leaves).backward()
        found.append([leaf.grad for leaf in leaves])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def small_graphs(rounds: int) -> str:
    makers, notes = contestants()
    rng = np.random.default_rng(0)
    lines = []
    one, ten, million = (((n,), (n,)) for n in (1, 10, 1_000_000))
    layers = ((16, 10), (10, 32), (32,), (32, 3), (3,))
    cases: tuple[tuple[str, Function, tuple, Any, dict[str, float]], ...] = (
        ("x * y, one element", product, one, None, {"mygrad": THIRD}),
        ("chain of 20 ops, 10 elements", chain_of_20, ten, None, {"mygrad": THIRD, "torch": 1}),
        ("writes in place, 10 elements", in_place_10, ten, None, {"mygrad": IN_PLACE_BUDGET}),
        (
            "a perceptron 10-32-3, batch 16",
            perceptron,
            layers,
            perceptron_by_hand,
            {"mygrad": 0.5, "torch": 1},
        ),
        (
            "exp(x * y) + x, 1e6 elements",
            elementwise,
            million,
            elementwise_by_hand,
            {"by hand": LARGE_BUDGET},
        ),
    )
    for title, f, shapes, by_hand, against in cases:
        arrays = [rng.uniform(0.5, 2.0, shape) for shape in shapes]
        if "mygrad" in makers:
            _agree(f, arrays)
        calls, absent = {}, []
        if by_hand is not None:
            calls["by hand"] = by_hand(*arrays)
        for name, make in makers.items():
            try:
                calls[name] = make(f, *arrays)
            except NotImplementedError as reason:
                absent.append(f"- {name} not run: {reason}\n")
        timings = harness.race(calls, rounds=rounds)
        lines.append(harness.table(f"Forward + backward of {title}", timings, against="gpugrad"))
        for name, budget in against.items():
            if name in timings:
                lines.append(harness.verdict(timings, "gpugrad", name, budget))
        lines += absent
    return "\n".join([*lines, *notes])


GUARD_BUDGET = 1e-6


def guard(rounds: int) -> str:
    """What the guard adds: to a graph of 20 operations, and at worst, to a call of one.

    An array is locked once for a graph. The worst case is a graph of one operation, made and
    dropped, on two arrays that their owner can reach; what nobody can reach needs no lock.
    """
    x, y = np.ones(10), np.ones(10)
    reachable = [gg.tensor(a, copy=False) for a in (x, y)]
    private = [gg.tensor(a) for a in (x, y)]
    cases: dict[str, tuple[Call, int]] = {
        "20 ops, reachable arrays": (lambda: chain_of_20(gg, *reachable).backward(), 20),
        "20 ops, private arrays": (lambda: chain_of_20(gg, *private).backward(), 20),
        "1 op, reachable arrays": (lambda: reachable[0] + reachable[1], 1),
        "1 op, private arrays": (lambda: private[0] + private[1], 1),
    }
    calls: dict[str, Call] = {"the switch alone": gg.mem_guard_off(lambda: None)}
    for name, (call, _) in cases.items():
        calls[f"{name}, guard"] = call
        calls[f"{name}, no guard"] = gg.mem_guard_off(call)
    timings = harness.race(calls, rounds=rounds)
    switch = timings["the switch alone"].minimum
    lines = [harness.table("The memory guard", timings, against="1 op, private arrays, guard")]
    for name, (_, n_ops) in cases.items():
        on, off = timings[f"{name}, guard"].minimum, timings[f"{name}, no guard"].minimum
        extra = (on - (off - switch)) / n_ops
        met = "met" if extra <= GUARD_BUDGET else "MISSED"
        lines.append(f"- {name}: the guard adds {extra * 1e6:.2f} us an op, budget 1: {met}")
    return "\n".join([*lines, ""])


def long_chains(rounds: int) -> str:
    """Cost per operation, forward and backward, over the length of the chain."""

    def call(length: int) -> Call:
        x = gg.tensor(np.ones(10))

        def run() -> None:
            z = x
            for _ in range(length // 2):
                z = z * 0.5 + 0.5
            z.backward()

        return run

    lengths = (1_000, 10_000, 100_000)
    calls = {f"{n} ops": call(n) for n in lengths}
    # the collector's passes are to go over the chain, not over what other libraries have imported
    gc.collect()
    gc.freeze()
    try:
        timings = harness.race(calls, rounds=max(3, rounds // 3), seconds_per_round=0.0)
    finally:
        gc.unfreeze()
    per_op = {
        name: harness.Timing(t.minimum / n, t.median / n, t.rounds)
        for (name, t), n in zip(timings.items(), lengths)
    }
    lines = [
        harness.table("Cost of one operation of a chain", per_op, against="1000 ops"),
        harness.verdict(per_op, "100000 ops", "1000 ops", 2.0),  # caches: 60 MB against 0.6
    ]
    return "\n".join(lines)


def report(rounds: int = 15) -> str:
    with harness.one_thread():
        return "\n".join([small_graphs(rounds), guard(rounds), long_chains(rounds)])


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
