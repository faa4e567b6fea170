"""Products of matrices."""

from __future__ import annotations

from typing import Any

from gpugrad.graph.op import operation
from gpugrad.ops.reductions import astype
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = ["matmul"]


def _matmul_x1(xp: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if x2.ndim == 1:
        return g * x2 if x1.ndim == 1 else xp.expand_dims(g, -1) * x2
    if x1.ndim == 1:
        return xp.squeeze(xp.matmul(x2, xp.expand_dims(g, -1)), axis=-1)
    return xp.matmul(g, xp.swapaxes(x2, -1, -2))


def _matmul_x2(xp: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if x1.ndim == 1:
        if x2.ndim == 1:
            return g * x1
        return xp.expand_dims(x1, -1) * xp.expand_dims(g, -2)
    transposed = xp.swapaxes(x1, -1, -2)
    if x2.ndim == 1:
        return xp.squeeze(xp.matmul(transposed, xp.expand_dims(g, -1)), axis=-1)
    return xp.matmul(transposed, g)


@operation("matmul", _matmul_x1, _matmul_x2)
def MATMUL(xp: Any, x1: Any, x2: Any) -> Any:
    return xp.matmul(x1, x2)


def matmul(
    x1: Any, x2: Any, out: Any = None, *, dtype: Any = None, constant: bool | None = None
) -> Tensor:
    """Matrix product over the last two axes, broadcast over the others; a 1-d operand is a vector.

    Parameters
    ----------
    x1 : array_like, shape (..., n, k) or (k,)
    x2 : array_like, shape (..., k, m) or (k,)
    out : Tensor or array, optional
    dtype : dtype, optional
        In which to multiply.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (..., n, m)

    Raises
    ------
    ValueError
        The inner lengths differ, or an operand is 0-d.
    """
    if dtype is not None:
        x1, x2 = astype(x1, dtype), astype(x2, dtype)
    return call(MATMUL, (x1, x2), out=out, constant=constant)
