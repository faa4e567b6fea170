"""NumPy's protocols: ``np.f(tensor)`` reaches gpugrad's `f`, and its gradient is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.graph.op import Op
from gpugrad.ops import comparison
from gpugrad.ops.namespace import PUBLIC
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call, ufunc

__all__: list[str] = []

_UFUNCS: dict[np.ufunc, Any] = {}
_FUNCTIONS: dict[Callable, Any] = {}
for _name, _function in PUBLIC.items():
    _theirs = getattr(np, _name, None)
    if isinstance(_theirs, np.ufunc):
        _UFUNCS[_theirs] = _function
    elif _theirs is not None:
        _FUNCTIONS[_theirs] = _function
_CONSTANT_ONLY = {getattr(np, name): name for name in comparison.CONSTANT_ONLY}
# functions that ask about arrays: NumPy's own, on the data
_ASK = {np.shape, np.ndim, np.size, np.allclose, np.array_equal, np.isclose, np.may_share_memory}
_ASK |= {np.shares_memory, np.array_repr, np.array_str, np.result_type, np.can_cast}


def _raw(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(_raw(a) for a in x)
    return x.data if isinstance(x, Tensor) else x


def __array_ufunc__(self: Tensor, theirs: np.ufunc, method: str, *x: Any, **options: Any) -> Any:
    ours = _UFUNCS.get(theirs)
    if ours is None:
        name = _CONSTANT_ONLY.get(theirs)
        if name is None or method != "__call__":
            return NotImplemented
        return comparison.constant_answer(name, *x, **options)
    if method != "__call__":
        if isinstance(ours, ufunc):
            return getattr(ours, method)(*x, **options)
        return getattr(theirs, method)(*_raw(x), **options)
    out = options.pop("out", None)
    if isinstance(out, tuple):
        (out,) = out
    if isinstance(ours, ufunc):
        op: Op = ours.op
        return call(op, x, out=out, **options)
    return ours(*x, out=out, **options)


def __array_function__(self: Tensor, theirs: Callable, types: Any, args: Any, kwargs: Any) -> Any:
    ours = _FUNCTIONS.get(theirs)
    if ours is not None:
        return ours(*args, **kwargs)
    if theirs in _ASK:
        return theirs(*_raw(args), **{k: _raw(v) for k, v in kwargs.items()})
    return NotImplemented


def __cupy_override_elementwise_kernel__(self: Tensor, kernel: Any, *x: Any, **options: Any) -> Any:
    """CuPy's elementwise functions, and its arrays' operators, hand themselves over here."""
    theirs = getattr(np, kernel.name.removeprefix("cupy_"), None)
    if isinstance(theirs, np.ufunc):
        if len(x) > theirs.nin:
            x, options["out"] = x[: theirs.nin], x[theirs.nin]
        found = __array_ufunc__(self, theirs, "__call__", *x, **options)
        if found is not NotImplemented:
            return found
    raise TypeError(f"{kernel.name}: gpugrad has no such function of tensors")


Tensor.__array_ufunc__ = __array_ufunc__  # type: ignore[attr-defined]
Tensor.__cupy_override_elementwise_kernel__ = (  # type: ignore[attr-defined]
    __cupy_override_elementwise_kernel__
)
Tensor.__array_function__ = __array_function__  # type: ignore[attr-defined]
