"""Batches in blocks: what a layer given by its energy does with the arguments of its functions."""

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.backend.array_module import DATA_ATTRIBUTE

__all__ = ["Mixed", "blocks", "joined", "raw"]

# Of the arrays that a quadrature works on: half a megabyte stays in the cache.
_BLOCK = 2**16
_EXPECTED_NODES = 128

Mixed = namedtuple("Mixed", ["own", "base", "beta"])
Mixed.__doc__ = "In place of parameters: the energy E(own) + (1 / beta - 1) E(base)."


def raw(x: Any) -> Any:
    """The array of a Tensor; of a namedtuple of them, one of arrays."""
    if isinstance(x, tuple):
        return type(x)(*map(raw, x))
    return getattr(x, DATA_ATTRIBUTE, x)


def blocks(
    xp: Any, params: Any, phi: Any, beta: Any, A: Any, exact: bool
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Parameters, fields, beta and A in blocks of samples, none of them in half precision.

    One block where sums are exact; else so many samples that a grid for each fits the cache.
    """

    def widened(x: Any) -> Any:
        if isinstance(x, tuple):
            return type(x)(*map(widened, x))
        dtype = getattr(x, "dtype", None)
        if dtype is None or dtype.kind != "f" or dtype.itemsize >= 4:
            return x
        return xp.cast(x, np.dtype("float32"))

    params, phi, beta, A = (widened(x) for x in (params, phi, beta, A))
    loc = params.own.loc if isinstance(params, Mixed) else params.loc
    if phi.dtype != loc.dtype and loc.dtype.itemsize > phi.dtype.itemsize:
        phi = xp.cast(phi, loc.dtype)
    n = phi.shape[0]
    rows = n if exact else max(1, _BLOCK // (_EXPECTED_NODES * max(1, phi.shape[1])))
    for first in range(0, max(n, 1), max(rows, 1)):
        part = slice(first, first + rows)

        def cut(x: Any, part: slice = part) -> Any:
            full = getattr(x, "ndim", 0) == 2 and x.shape[0] == n
            return x[part] if full and rows < n else x

        yield params, cut(phi), cut(beta), cut(A)


def joined(xp: Any, parts: list[Any], like: Any) -> Any:
    """The blocks in one array, of the dtype that came."""
    whole = parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=0)
    return xp.cast(whole, like.dtype) if like.dtype.itemsize < 4 else whole
