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


# -------------------------------------------------------------------- what is differentiated


def product(x: Any, y: Any) -> Any:
    return x * y


def chain_of_20(x: Any, y: Any) -> Any:
    z = x
    for _ in range(5):
        z = z * y + x
        z = z - y
        z = z / y
    for _ in range(5):
        z = z * 0.5
    return z


def in_place_10(x: Any, y: Any) -> Any:
    z = x * y
    z[2:5] = y[2:5]
    z *= x
    z[0] = 0.0
    return z


# --------------------------------------------------------------------------- contestants


def _backward_of(tensor: Function, no_guard: Any = None) -> Callable[..., Call]:
    """gpugrad and mygrad: one signature."""

    def make(f: Function, *arrays: np.ndarray) -> Call:
        leaves = [tensor(a) for a in arrays]

        def call() -> None:
            f(*leaves).backward()

        return call if no_guard is None else no_guard(call)

    return make


def _mygrad(guarded: bool) -> Callable[..., Call]:
    import mygrad

    return _backward_of(mygrad.tensor, None if guarded else mygrad.mem_guard_off)


def _torch() -> Callable[..., Call]:
    import torch

    def make(f: Function, *arrays: np.ndarray) -> Call:
        leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
        seed = torch.ones(arrays[0].shape, dtype=torch.float64)

        def call() -> None:
            for leaf in leaves:
                leaf.grad = None
            f(*leaves).backward(seed)

        return call

    return make


def _autograd() -> Callable[..., Call]:
    from autograd import make_vjp

    def make(f: Function, *arrays: np.ndarray) -> Call:
        if f is in_place_10:
            raise NotImplementedError("it has no writes in place")
        places = tuple(range(len(arrays)))
        seed = np.ones(arrays[0].shape)
        differentiated = make_vjp(f, places)
        return lambda: differentiated(*arrays)[0](seed)

    return make


def contestants() -> tuple[dict[str, Callable[..., Call]], list[str]]:
    """name -> make(f, *arrays), and notes on who is absent."""
    found = {
        "gpugrad": _backward_of(gg.tensor),
        "gpugrad, no guard": _backward_of(gg.tensor, gg.mem_guard_off),
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
    for make in (gg.tensor, mygrad.tensor):
        leaves = [make(a) for a in arrays]
        f(*leaves).backward()
        found.append([leaf.grad for leaf in leaves])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def small_graphs(rounds: int) -> str:
    makers, notes = contestants()
    rng = np.random.default_rng(0)
    lines = []
    for title, f, n, against in (
        ("x * y, one element", product, 1, {"mygrad": THIRD}),
        ("chain of 20 ops, 10 elements", chain_of_20, 10, {"mygrad": THIRD, "torch": 1.0}),
        ("writes in place, 10 elements", in_place_10, 10, {"mygrad": THIRD}),
    ):
        arrays = [rng.uniform(0.5, 2.0, n) for _ in range(2)]
        if "mygrad" in makers:
            _agree(f, arrays)
        calls, absent = {}, []
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
        "20 ops, reachable arrays": (lambda: chain_of_20(*reachable).backward(), 20),
        "20 ops, private arrays": (lambda: chain_of_20(*private).backward(), 20),
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
