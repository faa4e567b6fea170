"""Exponentials, logarithms, and the logistic function with its relatives."""

from __future__ import annotations

from math import log as _ln
from typing import Any

from gpugrad.graph.op import elementwise
from gpugrad.ufunc import ufunc

__all__ = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_sigmoid",
    "logaddexp",
    "logaddexp2",
    "sigmoid",
    "softplus",
]


def _share(xp: Any, g: Any, x1: Any, x2: Any, base: float) -> Any:
    """The fraction of the sum base^x1 + base^x2 that is the first term's, times g."""
    # both infinite and equal: the difference is nan, the limit is 0
    tie = xp.logical_and(xp.equal(x1, x2), xp.isinf(x1))
    return g * xp.sigmoid(base * (xp.where(tie, 0, x1) - xp.where(tie, 0, x2)))


EXP = elementwise("exp", lambda xp, g, y, x: g * y)
EXPM1 = elementwise("expm1", lambda xp, g, y, x: g * xp.exp(x))
EXP2 = elementwise("exp2", lambda xp, g, y, x: g * y * _ln(2))
LOG = elementwise("log", lambda xp, g, y, x: g / x)
LOG1P = elementwise("log1p", lambda xp, g, y, x: g / (1 + x))
LOG2 = elementwise("log2", lambda xp, g, y, x: g / (x * _ln(2)))
LOG10 = elementwise("log10", lambda xp, g, y, x: g / (x * _ln(10)))
LOGADDEXP = elementwise(
    "logaddexp",
    lambda xp, g, y, x1, x2: _share(xp, g, x1, x2, 1.0),
    lambda xp, g, y, x1, x2: _share(xp, g, x2, x1, 1.0),
)
LOGADDEXP2 = elementwise(
    "logaddexp2",
    lambda xp, g, y, x1, x2: _share(xp, g, x1, x2, _ln(2)),
    lambda xp, g, y, x1, x2: _share(xp, g, x2, x1, _ln(2)),
)
SIGMOID = elementwise("sigmoid", lambda xp, g, y, x: g * y * xp.sigmoid(-x))
SOFTPLUS = elementwise("softplus", lambda xp, g, y, x: g * xp.sigmoid(x))
LOG_SIGMOID = elementwise("log_sigmoid", lambda xp, g, y, x: g * xp.sigmoid(-x))

_X1 = ("x1",)
exp = ufunc(EXP, "e to the power x.", operands=_X1)
expm1 = ufunc(EXPM1, "exp(x) - 1, accurate for small x.", operands=_X1)
exp2 = ufunc(EXP2, "2 to the power x.", operands=_X1)
log = ufunc(LOG, "The natural logarithm.", operands=_X1)
log1p = ufunc(LOG1P, "log(1 + x), accurate for small x.", operands=_X1)
log2 = ufunc(LOG2, "The logarithm to base 2.", operands=_X1)
log10 = ufunc(LOG10, "The logarithm to base 10.", operands=_X1)
logaddexp = ufunc(LOGADDEXP, "log(exp(x1) + exp(x2)), without overflow.")
logaddexp2 = ufunc(LOGADDEXP2, "log2(2**x1 + 2**x2), without overflow.")
sigmoid = ufunc(SIGMOID, "The logistic function 1 / (1 + exp(-x)); range [0, 1], no overflow.")
softplus = ufunc(SOFTPLUS, "log(1 + exp(x)), without overflow.")
log_sigmoid = ufunc(LOG_SIGMOID, "log(sigmoid(x)) = -softplus(-x), finite where sigmoid is 0.")
