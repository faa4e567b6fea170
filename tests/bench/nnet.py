"""Layers and losses of neural networks, forward and backward.

The contestants compute the same values and gradients of the same arrays. "NumPy by hand" is what
somebody writes who knows the derivative and has no graph: as few passes over the arrays as we know,
in place wherever nothing is needed any more.

    python -m tests.bench.nnet
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gpugrad as gg
from tests.bench import harness

Call = Callable[[], Any]
DTYPES = (np.float64, np.float32)
HAND = "NumPy by hand"
CROSSENTROPY_BUDGET = 1.2
BATCHNORM_BUDGET = 1.1
IMAGES_BUDGETS = {"mygrad": 1 / 3, "torch": 2.0}
GRU_BUDGETS = {"mygrad": 3 / 4, HAND: 1.25}
EPS = 1e-5


def contestants_of(make: Callable[[Any, Any], Call]) -> tuple[dict[str, Call], list[str]]:
    """`make(library, its nnet)` for gpugrad and mygrad, and notes on who is absent."""
    found = {"gpugrad": make(gg, gg.nnet)}
    reason = harness.missing("mygrad", "mygrad.nnet")
    if reason is None:
        import mygrad
        import mygrad.nnet

        found["mygrad"] = make(mygrad, mygrad.nnet)
        return found, []
    return found, [f"- mygrad not run: {reason}\n"]


def agree(calls: dict[str, Call], rtol: float, reference: str = HAND) -> None:
    """All contestants give the same arrays."""
    results = {name: call() for name, call in calls.items()}
    expected = results.pop(reference)
    for found in results.values():
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=rtol, atol=rtol)


def compare(title: str, calls: dict[str, Call], notes: list[str], budget: float, dtype: Any) -> str:
    agree(calls, 1e-10 if dtype is np.float64 else 1e-4)
    timings = harness.race(calls, rounds=25)
    lines = [harness.table(f"{title}, {np.dtype(dtype).name}", timings, against=HAND)]
    lines.append(harness.verdict(timings, "gpugrad", HAND, budget))
    return "\n".join([*lines, *notes])


# --------------------------------------------------------------------------- softmax_crossentropy


def crossentropy_by_hand(x: np.ndarray, labels: np.ndarray) -> Call:
    rows, n = np.arange(len(x)), len(x)

    def call() -> Any:
        terms = x - x.max(axis=1, keepdims=True)
        certain = terms[rows, labels]
        np.exp(terms, out=terms)
        total = terms.sum(axis=1)
        loss = (np.log(total) - certain).mean()
        terms *= (1 / (n * total))[:, None]
        terms[rows, labels] -= 1 / n
        return loss, terms

    return call


def crossentropy(dtype: Any) -> str:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 1000)).astype(dtype)
    labels = rng.integers(0, 1000, 64)

    def make(library: Any, nnet: Any) -> Call:
        scores = library.tensor(x)

        def call() -> Any:
            loss = nnet.losses.softmax_crossentropy(scores, labels)
            loss.backward()
            return loss.data, scores.grad

        return call

    calls, notes = contestants_of(make)
    calls[HAND] = crossentropy_by_hand(x, labels)
    title = "softmax_crossentropy, forward + backward, 64x1000"
    return compare(title, calls, notes, CROSSENTROPY_BUDGET, dtype)


# --------------------------------------------------------------------------------------- batchnorm


def batchnorm_by_hand(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, g: np.ndarray) -> Call:
    axes, beside, n = (0, 2, 3), (1, -1, 1, 1), x.size // x.shape[1]

    def call() -> Any:
        centred = x - x.mean(axis=axes, keepdims=True)
        inverse = 1 / np.sqrt(np.einsum("nchw,nchw->c", centred, centred) / n + EPS)
        scale = inverse * gamma
        y = centred * scale.reshape(beside)
        y += beta.reshape(beside)
        dbeta = g.sum(axis=axes)
        dgamma = np.einsum("nchw,nchw->c", g, centred) * inverse
        dx = centred
        dx *= (-dgamma * inverse / n).reshape(beside)
        dx -= (dbeta / n).reshape(beside)
        dx += g
        dx *= scale.reshape(beside)
        return y, dx, dgamma, dbeta

    return call


def batchnorm(dtype: Any) -> str:
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=(32, 16, 16, 16)).astype(dtype) for _ in range(2))
    gamma, beta = (rng.normal(size=16).astype(dtype) for _ in range(2))

    def make(library: Any, nnet: Any) -> Call:
        leaves = [library.tensor(a) for a in (x, gamma, beta)]

        def call() -> Any:
            y = nnet.layers.batchnorm(leaves[0], gamma=leaves[1], beta=leaves[2], eps=EPS)
            y.backward(g)
            return y.data, *(leaf.grad for leaf in leaves)

        return call

    calls, notes = contestants_of(make)
    calls[HAND] = batchnorm_by_hand(x, gamma, beta, g)
    title = "batchnorm, forward + backward, 32x16x16x16"
    return compare(title, calls, notes, BATCHNORM_BUDGET, dtype)


# ---------------------------------------------------------------------- convolution, relu, pooling


def torch_on_images(arrays: list[np.ndarray], g: np.ndarray) -> Call:
    import torch

    x, w = (torch.tensor(a, requires_grad=True) for a in arrays)
    cotangent = torch.tensor(g)

    def call() -> Any:
        x.grad = w.grad = None
        y = torch.nn.functional.max_pool2d(torch.relu(torch.nn.functional.conv2d(x, w)), 2)
        y.backward(cotangent)
        assert x.grad is not None and w.grad is not None
        return y.detach().numpy(), x.grad.numpy(), w.grad.numpy()

    return call


def images(dtype: Any) -> str:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((8, 3, 32, 32), (16, 3, 5, 5))]
    g = rng.normal(size=(8, 16, 14, 14)).astype(dtype)

    def make(library: Any, nnet: Any) -> Call:
        x, w = (library.tensor(a) for a in arrays)

        def call() -> Any:
            y = nnet.layers.conv_nd(x, w, stride=1)
            y = nnet.layers.max_pool(nnet.activations.relu(y), (2, 2), 2)
            y.backward(g)
            return y.data, x.grad, w.grad

        return call

    calls, notes = contestants_of(make)
    reason = harness.missing("torch")
    if reason is None:
        calls["torch"] = torch_on_images(arrays, g)
    else:
        notes.append(f"- torch not run: {reason}\n")
    title = "conv_nd + relu + max_pool, forward + backward, 8x3x32x32, 16 filters 5x5, windows 2x2"
    return race_to(title, calls, notes, IMAGES_BUDGETS, dtype)


def race_to(
    title: str, calls: dict[str, Call], notes: list[str], budgets: dict[str, float], dtype: Any
) -> str:
    agree(calls, 1e-10 if dtype is np.float64 else 1e-3, "gpugrad")
    timings = harness.race(calls, rounds=15)
    lines = [harness.table(f"{title}, {np.dtype(dtype).name}", timings, against="gpugrad")]
    for name, budget in budgets.items():
        if name in timings:
            lines.append(harness.verdict(timings, "gpugrad", name, budget))
    return "\n".join([*lines, *notes])


# --------------------------------------------------------------------------------------------- gru


def gru_by_hand(arrays: list[np.ndarray], g: np.ndarray) -> Call:
    x, uz, wz, bz, ur, wr, br, uh, wh, bh = arrays
    (steps, n, c), d = x.shape, len(bz)

    def sigmoid(a: np.ndarray) -> np.ndarray:
        np.negative(a, out=a)
        np.exp(a, out=a)
        a += 1
        return np.reciprocal(a, out=a)

    def call() -> Any:
        rows = x.reshape(-1, c)
        u, w = np.concatenate((uz, ur, uh), axis=1), np.concatenate((wz, wr), axis=1)
        gates = (rows @ u + np.concatenate((bz, br, bh))).reshape(steps, n, 3 * d)
        s = np.zeros((steps + 1, n, d), x.dtype)
        for t in range(steps):
            both, h = gates[t, :, : 2 * d], gates[t, :, 2 * d :]
            both += s[t] @ w
            sigmoid(both)
            h += (both[:, d:] * s[t]) @ wh
            np.tanh(h, out=h)
            s[t + 1] = h + both[:, :d] * (s[t] - h)
        z, r, h = (np.ascontiguousarray(gates[..., k * d : (k + 1) * d]) for k in range(3))
        other = 1 - z
        b, e = (s[:-1] - h) * z * other, s[:-1] * r * (1 - r)
        a = other * (1 - h * h)
        into = np.empty((steps, n, 3 * d), x.dtype)
        wt, wht = np.ascontiguousarray(w.T), np.ascontiguousarray(wh.T)
        after = g[-1]
        for t in range(steps - 1, -1, -1):
            in_h = after * a[t]
            q = in_h @ wht
            into[t, :, :d] = after * b[t]
            into[t, :, d : 2 * d] = q * e[t]
            into[t, :, 2 * d :] = in_h
            after = g[t] + after * z[t] + q * r[t] + into[t, :, : 2 * d] @ wt
        into = into.reshape(-1, 3 * d)
        state = s[:-1].reshape(-1, d)
        du, dw, db = rows.T @ into, state.T @ into[:, : 2 * d], into.sum(axis=0)
        dwh = (r * s[:-1]).reshape(-1, d).T @ into[:, 2 * d :]
        dx = (into @ u.T).reshape(x.shape)
        return (
            *(s, dx, du[:, :d], dw[:, :d], db[:d], du[:, d : 2 * d], dw[:, d:], db[d : 2 * d]),
            *(du[:, 2 * d :], dwh, db[2 * d :]),
        )

    return call


def gru(dtype: Any) -> str:
    steps, n, c, d = 20, 16, 32, 32
    rng = np.random.default_rng(0)
    shapes = ((steps, n, c), *((c, d), (d, d), (d,)) * 3)
    arrays = [(rng.normal(size=shape) / 4).astype(dtype) for shape in shapes]
    g = rng.normal(size=(steps + 1, n, d)).astype(dtype)

    def make(library: Any, nnet: Any) -> Call:
        leaves = [library.tensor(a) for a in arrays]

        def call() -> Any:
            s = nnet.layers.gru(*leaves)
            s.backward(g.copy())  # mygrad's writes into it
            return s.data, *(leaf.grad for leaf in leaves)

        return call

    reason = harness.missing("numba")
    if reason is None:
        calls, notes = contestants_of(make)
    else:
        calls, notes = {"gpugrad": make(gg, gg.nnet)}, [f"- mygrad not run: {reason}\n"]
    calls[HAND] = gru_by_hand(arrays, g)
    title = f"gru, forward + backward, T {steps}, N {n}, C {c}, D {d}"
    return race_to(title, calls, notes, GRU_BUDGETS, dtype)


# ------------------------------------------------------------------------------------------- report


PARTS: tuple[Callable[[Any], str], ...] = (crossentropy, batchnorm, images, gru)


def report() -> str:
    with harness.one_thread():
        return "\n".join(part(dtype) for part in PARTS for dtype in DTYPES)


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
