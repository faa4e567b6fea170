"""Activations, losses and normalization. The reference has them by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.op_table.row import REAL, Domain, Operand, Row, formula, method

__all__ = ["ROWS"]

PROBABILITY: Domain = (0.1, 0.9)

# Comparisons are of real parts: the reference is differentiated by a complex step too.


@formula
def relu(x: Any) -> Any:
    return np.where(x.real > 0, x, x.dtype.type(0))


@formula
def leaky_relu(x: Any, slope: float) -> Any:
    return np.where(x.real > 0, x, slope * x)


@formula
def hard_tanh(x: Any, *, lower_bound: float, upper_bound: float) -> Any:
    low, high = x.dtype.type(lower_bound), x.dtype.type(upper_bound)
    return np.where(x.real < lower_bound, low, np.where(x.real > upper_bound, high, x))


@formula
def soft_sign(x: Any) -> Any:
    return x / (1 + np.where(x.real < 0, -x, x))


@formula
def elu(x: Any, alpha: float) -> Any:
    return np.where(x.real < 0, alpha * (np.exp(x) - 1), x)


@formula
def selu(x: Any) -> Any:
    return 1.0507009873554804934 * elu(x, 1.6732632423543772848)


@formula
def softmax(x: Any, axis: Any = -1) -> Any:
    if not np.ndim(x):
        return np.exp(x - x)
    y = np.exp(x)
    return y / np.sum(y, axis, keepdims=True)


@formula
def logsoftmax(x: Any, axis: Any = -1) -> Any:
    return np.log(softmax(x, axis))


def _rows(x: Any, labels: Any) -> tuple[Any, Any]:
    if x.ndim != 2:
        raise ValueError("no row for each sample")
    return np.arange(len(labels)), np.asarray(labels, np.intp)


@formula
def softmax_crossentropy(x: Any, labels: Any) -> Any:
    return -np.mean(logsoftmax(x)[_rows(x, labels)])


@formula
def focal_loss(p: Any, labels: Any, *, alpha: float, gamma: float) -> Any:
    p = p[_rows(p, labels)]
    return -alpha * (1 - p) ** gamma * np.log(p)


@formula
def log_focal_loss(x: Any, *, alpha: float, gamma: float) -> Any:
    return -alpha * (1 - np.exp(x)) ** gamma * x


@formula
def multiclass_hinge(x: Any, labels: Any, hinge: float) -> Any:
    index = _rows(x, labels)
    missed = x - x[index][:, None] + hinge
    missed[index] = 0
    return np.sum(relu(missed)) / len(labels)


@formula
def margin_ranking_loss(x1: Any, x2: Any, y: Any, margin: float) -> Any:
    if x1.ndim not in (1, 2):
        raise ValueError("no row for each pair")
    y = np.reshape(np.asarray(y, x1.dtype), (-1,) + (1,) * (x1.ndim - 1))
    return np.mean(relu(margin - y * (x1 - x2)))


@formula
def batchnorm(x: Any, *, gamma: Any = None, beta: Any = None, eps: float) -> Any:
    if x.ndim < 2:
        raise ValueError("no channels")
    axes, beside = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    if not x.size:
        return x.copy()
    deviation = x - np.mean(x, axes, keepdims=True)
    y = deviation / np.sqrt(np.mean(deviation * deviation, axes, keepdims=True) + eps)
    y = y if gamma is None else y * np.reshape(gamma, beside)
    return y if beta is None else y + np.reshape(beta, beside)


# ------------------------------------------------------------------------------------------- rows


def _labelled(name: str, *args: Any, **options: Any) -> Any:
    """A call with labels: a list, which goes where the scores are."""

    def call(m: Any, x: Any) -> Any:
        n, c = x.shape
        labels = [(2 * i + 1) % max(c, 1) - c * (i == 1) for i in range(n)]  # one from the end
        return getattr(m, name)(x, labels, *args, **options)

    return call


def _activations() -> list[Row]:
    calls = {
        "relu": method("relu"),
        "leaky_relu": method("leaky_relu", 0.1),
        "hard_tanh": method("hard_tanh", lower_bound=-0.5, upper_bound=1),
        "soft_sign": method("soft_sign"),
        "elu": method("elu", 0.7),
        "selu": method("selu"),
    }
    rows = [Row(name, name, call, (Operand((3, 4)),)) for name, call in calls.items()]
    for name in ("softmax", "logsoftmax"):
        for axis in (-1, 0, (0, 2), None):
            label = f"{name}-axis={axis}".replace(" ", "")
            rows.append(Row(label, name, method(name, axis), (Operand((2, 3, 4)),)))
    return rows


def _losses() -> list[Row]:
    x, p = (Operand((4, 3)),), (Operand((4, 3), PROBABILITY),)
    rows = [
        Row("softmax_crossentropy", "softmax_crossentropy", _labelled("softmax_crossentropy"), x),
        Row("multiclass_hinge", "multiclass_hinge", _labelled("multiclass_hinge", 0.6), x),
    ]
    for gamma in (0, 0.5, 1, 2, 2.5):
        params = {"alpha": 0.3, "gamma": gamma}
        call = _labelled("focal_loss", **params)
        rows.append(Row(f"focal_loss-gamma={gamma}", "focal_loss", call, p))
        call = method("log_focal_loss", **params)
        below = (Operand((4,), (-2.0, -0.1)),)
        rows.append(Row(f"log_focal_loss-gamma={gamma}", "log_focal_loss", call, below))
    for shape, y in (((4,), 1), ((4, 2), -1.0), ((4,), [1, -1, -1, 1])):
        pair = (Operand(shape), Operand(shape))

        def call(m: Any, x1: Any, x2: Any, y: Any = y) -> Any:
            signs = y[: x1.shape[0]] if isinstance(y, list) else y
            return m.margin_ranking_loss(x1, x2, signs, 0.4)

        rows.append(Row(f"margin_ranking_loss{shape}", "margin_ranking_loss", call, pair))
    return rows


def _normalizations() -> list[Row]:
    def affine(m: Any, x: Any, gamma: Any, beta: Any) -> Any:
        return m.batchnorm(x, gamma=gamma, beta=beta, eps=1e-2)

    def scaled(m: Any, x: Any, gamma: Any) -> Any:
        return m.batchnorm(x, gamma=gamma, eps=1e-2)

    def moved(m: Any, x: Any, beta: Any) -> Any:
        return m.batchnorm(x, beta=beta, eps=1e-2)

    c = Operand((3,), REAL)
    return [
        Row("batchnorm", "batchnorm", method("batchnorm", eps=0), (Operand((4, 3)),)),
        Row("batchnorm-affine", "batchnorm", affine, (Operand((2, 3, 4, 2)), c, c)),
        Row("batchnorm-gamma", "batchnorm", scaled, (Operand((5, 3, 2)), c)),
        Row("batchnorm-beta", "batchnorm", moved, (Operand((5, 3)), c)),
    ]


ROWS = (*_activations(), *_losses(), *_normalizations())
