"""The namespace of Tensors: the vocabulary of rules, in functions that record a graph."""

from __future__ import annotations

from typing import Any

from gpugrad.apply import apply
from gpugrad.backend.vocabulary import Namespace
from gpugrad.graph.op import OPS
from gpugrad.mutation import PUT_VIEW
from gpugrad.ops import (
    arithmetic,
    comparison,
    creation,
    decompositions,
    determinants,
    devices,
    einsum,
    explog,
    hyperbolic,
    indexing,
    interpolation,
    inverses,
    joining,
    linalg,
    norms,
    padding,
    reductions,
    scans,
    sequences,
    shaping,
    sorting,
    special,
    trigonometric,
)
from gpugrad.tensor import Tensor

__all__ = ["PUBLIC", "add_words", "tensor_namespace"]


def _put_view(x: Any, value: Any, *, recipe: tuple, index: Any) -> Tensor:
    return apply(PUT_VIEW, (x, value), {"recipe": recipe, "index": index})


def _cast(x: Any, dtype: Any) -> Tensor:
    return apply(OPS["cast"], (x,), {"dtype": dtype})


def _where_or_zero(mask: Any, x: Any) -> Tensor:
    return indexing.where(mask, x, 0)


PUBLIC: dict[str, Any] = {}
for _module in (
    arithmetic,
    comparison,
    creation,
    decompositions,
    determinants,
    devices,
    einsum,
    explog,
    hyperbolic,
    indexing,
    inverses,
    interpolation,
    joining,
    linalg,
    norms,
    padding,
    reductions,
    scans,
    sequences,
    shaping,
    sorting,
    special,
    trigonometric,
):
    for _name in _module.__all__:
        PUBLIC[_name] = getattr(_module, _name)

# words of rules that are no public functions
_WORDS = {
    "cast": _cast,
    "linear_recurrence": scans.solve_recurrence,
    "put_view": _put_view,
    "where_or_zero": _where_or_zero,
}
tensor_namespace = Namespace("gpugrad", None, PUBLIC | _WORDS)
assert set(OPS) <= set(vars(tensor_namespace)), "an op without a word for Tensors"


def add_words(words: dict[str, Any]) -> None:
    """Give Tensors the words of operations that are declared when they are first asked for.

    Those of neural networks: their modules would be a fifth of the time that an import takes.

    Parameters
    ----------
    words : dict of callable
    """
    vars(tensor_namespace).update(words)
