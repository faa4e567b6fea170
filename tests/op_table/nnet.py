"""Convolution and pooling. The reference goes from element to element of the windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpugrad.backend.array_module import to_device
from tests.op_table.row import Operand, Row, formula, method

__all__ = ["ROWS"]

Lengths = tuple[int, ...]


def _met(k: Lengths, out: Lengths, stride: Lengths, dilation: Lengths) -> tuple[Any, ...]:
    """The index of what element `k` of a window meets at each of its places."""
    steps = zip(k, out, stride, dilation, strict=True)
    return (..., *(slice(i * d, i * d + s * (n - 1) + 1, s) for i, n, s, d in steps))


def _bordered(x: Any, padding: Lengths) -> Any:
    return np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))


def _check(x: Lengths, w: Lengths, layout: dict[str, Any], g: Lengths | None = None) -> Lengths:
    """The shape of the convolution of arrays of shapes `x` and `w`, which must be that of `g`."""
    groups = layout["groups"]
    if not len(x) == len(w) > 2 or 0 in w[2:] or w[1] * groups != x[1] or w[0] % groups:
        raise ValueError("images and filters do not fit together")
    y = _out(x, w, layout["stride"], layout["padding"], layout["dilation"])
    if min(y[2:]) < 1 or (g is not None and g != y):
        raise ValueError("no place for the filters, or other places than those of g")
    return y


def _out(x: Lengths, w: Lengths, stride: Lengths, padding: Lengths, dilation: Lengths) -> Lengths:
    steps = zip(x[2:], w[2:], stride, padding, dilation, strict=True)
    return (x[0], w[0], *((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in steps))


@formula
def conv(x: Any, w: Any, **layout: Any) -> Any:
    y = np.zeros(_check(x.shape, w.shape, layout), np.result_type(x, w))
    x = _bordered(x, layout["padding"])
    for f, c, channel in _channels(w.shape, layout["groups"]):
        for k in np.ndindex(*w.shape[2:]):
            met = _met(k, y.shape[2:], layout["stride"], layout["dilation"])
            y[:, f] += w[(f, c, *k)] * x[:, channel][met]
    return y


def _channels(w: Lengths, groups: int) -> Iterator[Lengths]:
    """Each filter f and channel c of it, with the channel of the image that it meets."""
    for f, c in np.ndindex(w[0], w[1]):
        yield f, c, f // (w[0] // groups) * w[1] + c


@formula
def conv_input_grad(g: Any, w: Any, *, shape: Lengths, **layout: Any) -> Any:
    padding = layout["padding"]
    x_shape = (*g.shape[:1], *(m * layout["groups"] for m in w.shape[1:2]), *shape)
    _check(x_shape, w.shape, layout, g.shape)
    lengths = (n + 2 * p for n, p in zip(shape, padding, strict=True))
    x = np.zeros((*x_shape[:2], *lengths), np.result_type(g, w))
    for f, c, channel in _channels(w.shape, layout["groups"]):
        for k in np.ndindex(*w.shape[2:]):
            met = _met(k, g.shape[2:], layout["stride"], layout["dilation"])
            x[:, channel][met] += w[(f, c, *k)] * g[:, f]
    return x[(..., *(slice(p, p + n) for n, p in zip(shape, padding, strict=True)))]


@formula
def conv_weight_grad(g: Any, x: Any, *, window: Lengths, **layout: Any) -> Any:
    groups = layout["groups"]
    w_shape = (*g.shape[1:2], *(m // groups for m in x.shape[1:2]), *window)
    _check(x.shape, w_shape, layout, g.shape)
    x = _bordered(x, layout["padding"])
    w = np.zeros(w_shape, np.result_type(g, x))
    for f, c, channel in _channels(w_shape, groups):
        for k in np.ndindex(*window):
            met = _met(k, g.shape[2:], layout["stride"], layout["dilation"])
            w[(f, c, *k)] = np.sum(g[:, f] * x[:, channel][met])
    return w


# name, x, w, spatial axes: stride, padding, dilation, groups
_LAYOUTS: tuple[tuple[Lengths, Lengths, Lengths, Lengths, Lengths, int], ...] = (
    ((2, 2, 5), (3, 2, 2), (1,), (0,), (1,), 1),
    ((1, 2, 5), (2, 2, 2), (3,), (1,), (3,), 1),  # stride over the window
    ((2, 1, 3, 4), (2, 1, 2, 3), (1, 1), (0, 0), (1, 1), 1),
    ((1, 2, 4, 3), (2, 2, 2, 1), (2, 1), (1, 2), (2, 1), 1),
    ((1, 4, 3, 3), (4, 2, 2, 2), (1, 2), (1, 0), (1, 1), 2),
    ((1, 3, 1, 1), (3, 1, 1, 1), (1, 1), (0, 0), (1, 1), 3),
    ((1, 1, 2, 3, 2), (1, 1, 2, 2, 1), (1, 1, 1), (0, 1, 0), (1, 2, 1), 1),
)


def _convolutions() -> list[Row]:
    rows = []
    for x, w, stride, padding, dilation, groups in _LAYOUTS:
        layout = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        g = _out(x, w, stride, padding, dilation)
        label = f"{x}{w},{stride},{padding},{dilation},{groups}".replace(" ", "")
        for name, shapes, lengths in (
            ("conv", (x, w), {}),
            ("conv_input_grad", (g, w), {"shape": x[2:]}),
            ("conv_weight_grad", (g, x), {"window": w[2:]}),
        ):
            call = method(name, **layout, **lengths)
            rows.append(Row(f"{name}{label}", name, call, tuple(map(Operand, shapes))))
    return rows


# ----------------------------------------------------------------------------------------- pooling


def _places(x: Any, window: Lengths, stride: Lengths) -> Lengths:
    n = len(window)
    if n > x.ndim:
        raise ValueError("more lengths than axes")
    lengths = x.shape[x.ndim - n :]
    if any(m < w for m, w in zip(lengths, window, strict=True)):
        raise ValueError("a window does not fit")
    return tuple((m - w) // s + 1 for m, w, s in zip(lengths, window, stride, strict=True))


@formula
def max_pool(x: Any, *, window: Lengths, stride: Lengths) -> Any:
    out, ones = _places(x, window, stride), (1,) * len(window)
    y = x[_met((0,) * len(window), out, stride, ones)].copy()
    for k in np.ndindex(*window):
        y = np.maximum(y, x[_met(k, out, stride, ones)])
    return y


@formula
def mean_pool(x: Any, *, window: Lengths, stride: Lengths) -> Any:
    out, ones = _places(x, window, stride), (1,) * len(window)
    met = [x[_met(k, out, stride, ones)] for k in np.ndindex(*window)]
    return np.mean(met, axis=0).astype(x.dtype)


@formula
def mean_pool_grad(g: Any, *, shape: Lengths, window: Lengths, stride: Lengths) -> Any:
    n = len(window)
    if g.ndim < n or g.shape[g.ndim - n :] != _places(np.empty(shape), window, stride):
        raise ValueError("not one element for each place")
    x = np.zeros((*g.shape[: g.ndim - n], *shape), g.dtype)
    for k in np.ndindex(*window):
        x[_met(k, g.shape[g.ndim - n :], stride, (1,) * n)] += g / math.prod(window)
    return x


@formula
def gather(x: Any, *, indices: Any, n: int) -> Any:
    lead = indices.shape[: indices.ndim - n]
    if x.shape[: x.ndim - n] != lead or x.ndim < n:
        raise ValueError("other lines than those of the indices")
    y = np.zeros(indices.shape, x.dtype)
    for line in np.ndindex(*lead):
        y[line] = x[line].ravel()[indices[line]]
    return y


@formula
def scatter(g: Any, *, indices: Any, shape: Lengths) -> Any:
    if g.shape != indices.shape:
        raise ValueError("not one element for each index")
    lead = g.shape[: g.ndim - len(shape)]
    x = np.zeros((*lead, math.prod(shape)), g.dtype)
    for line in np.ndindex(*lead):
        np.add.at(x[line], indices[line].ravel(), g[line].ravel())
    return x.reshape((*lead, *shape))


_POOLS: tuple[tuple[Lengths, Lengths, Lengths], ...] = (
    ((6,), (2,), (2,)),
    ((2, 7), (3,), (2,)),  # overlapping
    ((2, 2, 4, 6), (2, 3), (2, 3)),
    ((1, 2, 4, 4), (3, 2), (1, 2)),
    ((2, 5), (1,), (2,)),  # stride over the window
    ((2, 3, 2, 2), (2, 2, 1), (1, 1, 1)),
)


def _at(name: str, indices: Any, **options: Any) -> Callable[..., Any]:
    """A call with indices that lie where its operand does."""
    return lambda m, x: getattr(m, name)(x, indices=to_device(indices, x.device), **options)


def _pools() -> list[Row]:
    rows = []
    for x, window, stride in _POOLS:
        n = len(window)
        shape = x[len(x) - n :]
        out = (
            *x[: len(x) - n],
            *((m - w) // s + 1 for m, w, s in zip(shape, window, stride, strict=True)),
        )
        label = f"{x},{window},{stride}".replace(" ", "")
        layout = {"window": window, "stride": stride}
        for name, operand, lengths in (
            ("max_pool", x, {}),
            ("mean_pool", x, {}),
            ("mean_pool_grad", out, {"shape": shape}),
        ):
            call = method(name, **layout, **lengths)
            analytic = name != "max_pool"
            rows.append(Row(f"{name}{label}", name, call, (Operand(operand),), analytic))
    for x, indices in (
        ((4,), np.array([3, 0, 3])),
        ((2, 2, 3), np.array([[[5, 0]], [[2, 2]]])),
        ((1, 3), np.array([[0, 2, 2, 1]])),
    ):
        n, indices = 1 + (len(x) == 3), indices.astype(np.int64)
        label = f"{x},{indices.shape}".replace(" ", "")
        there = _at("gather", indices, n=n)
        back = _at("scatter", indices, shape=x[len(x) - n :])
        rows.append(Row(f"gather{label}", "gather", there, (Operand(x),)))
        rows.append(Row(f"scatter{label}", "scatter", back, (Operand(indices.shape),)))
    return rows


ROWS: tuple[Row, ...] = (*_convolutions(), *_pools())
