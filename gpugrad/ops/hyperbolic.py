"""Hyperbolic functions."""

from __future__ import annotations

from gpugrad.graph.op import elementwise
from gpugrad.ufunc import ufunc

__all__ = ["tanh"]

TANH = elementwise("tanh", lambda xp, g, y, x: g * (1 - y * y))

tanh = ufunc(TANH, "The hyperbolic tangent; range [-1, 1].")
