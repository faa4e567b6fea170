"""What functions of matrices share."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.ops.comparison import raw_of
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor

__all__ = ["as_matrices", "as_square", "rounding", "transposed"]


def transposed(xp: Any, x: Any) -> Any:
    """`x` with its last two axes exchanged."""
    return xp.swapaxes(x, -1, -2)


def rounding(values: Any) -> Any:
    """What `values` (..., n) of one matrix may be wrong by, (..., 1)."""
    values = raw_of(values)
    raw = namespace_of(get_array_module(values))
    largest = raw.max(raw.absolute(values), axis=-1, keepdims=True, initial=0)
    return largest * (values.shape[-1] * np.finfo(values.dtype).eps)


def as_matrices(function: str, x: Any) -> Tensor:
    """The operand as a tensor with a dtype that decompositions take."""
    x = as_tensor(function, x)
    if x.ndim < 2:
        raise np.linalg.LinAlgError(
            f"{function}: got shape {x.shape}, expected matrices (..., m, n)"
        )
    if x.dtype == np.float16:
        raise TypeError(f"{function}: got float16, expected float32 or float64")
    return x


def as_square(function: str, x: Any) -> Tensor:
    """The same, of square matrices."""
    x = as_tensor(function, x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError(
            f"{function}: got shape {x.shape}, expected square matrices (..., n, n)"
        )
    return as_matrices(function, x)
