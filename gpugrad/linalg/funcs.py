"""The path under which mygrad has its functions of linear algebra."""

from gpugrad.ops.einsum import einsum
from gpugrad.ops.norms import norm

__all__ = ["einsum", "norm"]
