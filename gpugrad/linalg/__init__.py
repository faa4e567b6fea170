"""Linear algebra: decompositions, determinants, norms and products of matrices.

>>> import gpugrad as gg
>>> x = gg.tensor([[2.0, 1.0], [1.0, 2.0]])
>>> gg.linalg.inv(x) @ x
Tensor([[1., 0.],
        [0., 1.]])
"""

from __future__ import annotations

from typing import Any

from numpy.linalg import LinAlgError

from gpugrad.errors import composite
from gpugrad.linalg import funcs
from gpugrad.ops import linalg as products
from gpugrad.ops.decompositions import cholesky, eigh, eigvalsh, qr, svd, svdvals
from gpugrad.ops.determinants import det, slogdet
from gpugrad.ops.inverses import inv, matrix_power, pinv, solve
from gpugrad.ops.linalg import matmul, multi_matmul
from gpugrad.ops.norms import norm
from gpugrad.tensor import Tensor

__all__ = [
    "LinAlgError",
    "cholesky",
    "cross",
    "det",
    "eigh",
    "eigvalsh",
    "funcs",
    "inv",
    "matmul",
    "matrix_power",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
]


@composite
def multi_dot(arrays: Any, *, out: Any = None, constant: bool | None = None) -> Tensor:
    """The product of several matrices in the cheapest order; see `gpugrad.multi_matmul`."""
    return products.written_into(multi_matmul(arrays, constant=constant), out, constant)


def cross(x1: Any, x2: Any, /, *, axis: int = -1, constant: bool | None = None) -> Tensor:
    """The vector product along one axis; see `gpugrad.cross`."""
    return products.cross(x1, x2, axis=axis, constant=constant)


def outer(x1: Any, x2: Any, /, *, constant: bool | None = None) -> Tensor:
    """The products of every element of a vector with every element of another.

    Raises
    ------
    ValueError
        An operand is not a vector; `gpugrad.outer` flattens it.
    """
    shapes = products.shape_of(x1), products.shape_of(x2)
    if any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"outer: got shapes {shapes[0]} and {shapes[1]}, expected vectors")
    return products.outer(x1, x2, constant=constant)


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2, constant: bool | None = None) -> Tensor:
    """The sum of products over pairs of axes; see `gpugrad.tensordot`."""
    return products.tensordot(x1, x2, axes, constant=constant)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None, constant: bool | None = None) -> Tensor:
    """The sum along a diagonal of matrices (..., m, n): of the last two axes.

    `gpugrad.trace` takes the first two, as NumPy's functions of these names do.
    """
    return products.trace(x, offset, -2, -1, dtype, constant=constant)
