"""Types that appear in signatures."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from gpugrad.tensor import Tensor

__all__ = [
    "ArrayLike",
    "DTypeLike",
    "DTypeLikeReals",
    "ImplementsArray",
    "Index",
    "Mask",
    "Real",
    "Shape",
]


@runtime_checkable
class ImplementsArray(Protocol):
    """What NumPy can make an array of."""

    def __array__(self, *args: Any) -> np.ndarray: ...


Real: TypeAlias = bool | int | float | np.number | np.bool_
ArrayLike: TypeAlias = Union[Real, "Tensor", np.ndarray, ImplementsArray, Sequence[Any]]
Shape: TypeAlias = tuple[int, ...]
DTypeLikeReals: TypeAlias = DTypeLike
Mask: TypeAlias = np.ndarray | Sequence[Any] | bool
_Key: TypeAlias = int | slice | EllipsisType | Sequence[int] | np.ndarray | None
Index: TypeAlias = _Key | tuple[_Key, ...]
