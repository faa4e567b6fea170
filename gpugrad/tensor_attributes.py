"""What MyGrad's programs reach on a tensor beside its arithmetic: its creator, deep copies and
pickles, DLPack, and what it keeps under names that begin with an underscore."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from gpugrad.backend.array_module import device_of, get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.graph.vertex import CLEARED
from gpugrad.tensor import Tensor, resolve_constant
from gpugrad.views import vertex_of

__all__: list[str] = []


def _creator(self: Tensor) -> Any:
    """The operation that made this tensor, an instance of `gpugrad.operation_base.Operation`.

    None for a leaf, and after the graph is cleared.
    """
    op = vertex_of(self, renewing=False).op
    if op is None or op is CLEARED:
        return None
    from gpugrad.creators import creator_of  # its classes are for those who ask

    return creator_of(self)


class _ExecuteOp:
    """The attribute `gpugrad.execute_op`."""

    def __get__(self, *_: Any) -> Any:
        from gpugrad.execution import execute_op

        return execute_op


def _set_constant(self: Tensor, value: bool) -> None:
    vertex = vertex_of(self)
    vertex.constant = resolve_constant("Tensor._constant", vertex.data.dtype, value)


def _own_grad(self: Tensor) -> Any:
    """The gradient that is kept for this very tensor, settable."""
    return vertex_of(self, renewing=False).grad


def _set_grad(self: Tensor, value: Any) -> None:
    vertex = vertex_of(self, renewing=False)
    if value is not None:
        xp = namespace_of(get_array_module(vertex.data))
        value = xp.asarray(value.data if isinstance(value, Tensor) else value)
    vertex.grad, vertex.grad_shared = value, False


def null_gradients(self: Tensor, clear_graph: bool = True) -> None:
    """Deprecated, and without effect: tensors forget their gradients when they are used again.

    Parameters
    ----------
    clear_graph : bool, optional
        Ignored.
    """
    warnings.warn(
        "Tensor.null_gradients does nothing: a gradient is forgotten when its tensor is used "
        "again; null_grad() forgets that of one tensor",
        FutureWarning,
        stacklevel=2,
    )


def _in_place_op(
    self: Tensor,
    inplace_op: type,
    *input_vars: Any,
    op_args: Sequence | None = None,
    op_kwargs: dict | None = None,
    constant: bool | None = None,
) -> None:
    """``execute_op(inplace_op, *input_vars, out=self)``."""
    self._op(
        inplace_op,
        *input_vars,
        op_args=op_args,
        op_kwargs=op_kwargs,
        constant=constant,
        out=self,
    )


def _deepcopy(self: Tensor, memo: dict) -> Tensor:
    out = self.copy()
    memo[id(self)] = out
    return out


def _reduce(self: Tensor) -> tuple:
    return _rebuild, (self.data, self.constant, self.grad)


def _rebuild(data: Any, constant: bool, grad: Any) -> Tensor:
    out = Tensor(data, constant=constant)
    out._grad = grad
    return out


def __dlpack__(self: Tensor, **options: Any) -> Any:
    """The array as a DLPack capsule; see `gpugrad.dlpack.capsule`."""
    from gpugrad.dlpack import capsule  # few programs share memory with another library

    return capsule(self, **options)


def __dlpack_device__(self: Tensor) -> tuple[int, int]:
    """DLPack's numbers for the device: (1, 0) for the CPU, (2, k) for GPU number k."""
    device = device_of(self)
    return (1, 0) if device.kind == "cpu" else (2, device.index)


_BOUND = {
    "__deepcopy__": _deepcopy,
    "__dlpack__": __dlpack__,
    "__dlpack_device__": __dlpack_device__,
    "__reduce__": _reduce,
    "creator": property(_creator),
    "null_gradients": null_gradients,
    "_constant": property(lambda self: self.constant, _set_constant),
    "_grad": property(_own_grad, _set_grad),
    "_base": property(lambda self: self.base),
    "_creator": property(_creator),
    "_op": _ExecuteOp(),
    "_in_place_op": _in_place_op,
}
for _name, _attribute in _BOUND.items():
    setattr(Tensor, _name, _attribute)
