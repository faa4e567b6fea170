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
    explog,
    hyperbolic,
    indexing,
    joining,
    linalg,
    reductions,
    shaping,
)
from gpugrad.tensor import Tensor

__all__ = ["PUBLIC", "tensor_namespace"]


def _put_view(x: Any, value: Any, *, recipe: tuple, index: Any) -> Tensor:
    return apply(PUT_VIEW, (x, value), {"recipe": recipe, "index": index})


PUBLIC: dict[str, Any] = {}
for _module in (
    arithmetic,
    comparison,
    creation,
    explog,
    hyperbolic,
    indexing,
    joining,
    linalg,
    reductions,
    shaping,
):
    for _name in _module.__all__:
        PUBLIC[_name] = getattr(_module, _name)

tensor_namespace = Namespace("gpugrad", None, PUBLIC | {"put_view": _put_view})
assert set(OPS) - {"cast"} <= set(vars(tensor_namespace)), "an op without a word for Tensors"
