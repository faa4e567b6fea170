"""Elementwise functions with the call signature of NumPy's ufuncs."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.graph.op import Op
from gpugrad.mutation import write
from gpugrad.tensor import Tensor

__all__ = ["UFuncMethodError", "call", "ufunc"]


class UFuncMethodError(TypeError, NotImplementedError):
    """A method of a ufunc that has no gradient here."""


class ufunc:
    """An elementwise function of tensors.

    Parameters
    ----------
    *x : array_like
        Operands, broadcast against each other.
    out : Tensor or array, optional
        Written to and returned. A tensor is written to within its graph.
    where : array_like of bool, optional
        Only these elements are computed. The others keep what `out` held; without `out` they are 0.
    dtype : dtype, optional
        In which the function is computed.
    constant : bool, optional
        True: the result takes no gradient.

    Raises
    ------
    ValueError
        The shapes do not broadcast, or the result does not fit `out`.
    TypeError
        Complex operands, or a result that cannot be cast to `out`.
    DeviceMismatchError
        Operands on different devices.
    """

    def __init__(self, op: Op, doc: str, name: str | None = None) -> None:
        self.op = op
        self.__name__ = name or op.name
        self.__doc__ = doc
        self.nin = op.nin

    nout = 1

    def __call__(
        self,
        *x: Any,
        out: Any = None,
        where: Any = True,
        dtype: Any = None,
        constant: bool | None = None,
    ) -> Tensor:
        op = self.op
        if len(x) != op.nin:
            nin = len(op.rules)
            if len(x) != nin + 1 or out is not None:
                raise TypeError(f"{self.__name__}: got {len(x)} operands, expected {nin}")
            x, out = x[:nin], x[nin]  # NumPy takes `out` by position too
        if out is None and where is True and dtype is None:
            return apply(op, x, constant=constant)
        return call(op, x, out=out, where=where, dtype=dtype, constant=constant)

    def _refuse(self, method: str) -> None:
        raise UFuncMethodError(f"{self.__name__}.{method}: ufunc methods carry no gradient")

    def at(self, *args: Any, **kwargs: Any) -> None:
        """Not supported: raises."""
        self._refuse("at")

    def reduce(self, *args: Any, **kwargs: Any) -> None:
        """Not supported: raises."""
        self._refuse("reduce")

    def accumulate(self, *args: Any, **kwargs: Any) -> None:
        """Not supported: raises."""
        self._refuse("accumulate")

    def reduceat(self, *args: Any, **kwargs: Any) -> None:
        """Not supported: raises."""
        self._refuse("reduceat")

    def outer(self, *args: Any, **kwargs: Any) -> None:
        """Not supported: raises."""
        self._refuse("outer")

    def __repr__(self) -> str:
        return f"<gpugrad-ufunc {self.__name__!r}>"

    def __reduce__(self) -> str:
        return self.__name__


def call(
    op: Op,
    x: Any,
    params: dict[str, Any] | None = None,
    *,
    out: Any = None,
    where: Any = True,
    dtype: Any = None,
    constant: bool | None = None,
) -> Tensor:
    """Apply `op` with NumPy's ``out=``, ``where=`` and ``dtype=``."""
    mask = None if where is True else _mask(op.name, where)
    if isinstance(out, tuple):
        if len(out) != 1:
            raise ValueError(f"{op.name}: out has {len(out)} entries, expected 1")
        (out,) = out
    if isinstance(out, Tensor):
        return write(out, op, x, params or {}, where=mask, dtype=dtype)
    if out is not None and not hasattr(out, "dtype"):
        raise TypeError(f"{op.name}: out is {type(out).__name__}, expected a tensor or an array")
    return apply(op, x, params or {}, where=mask, dtype=dtype, constant=constant, out=out)


def _mask(function: str, where: Any) -> Any:
    mask = where.data if isinstance(where, Tensor) else where
    if not hasattr(mask, "dtype"):
        mask = np.asarray(mask)
    if mask.dtype.kind != "b":
        raise TypeError(f"{function}: where has dtype {mask.dtype}, expected bool")
    return mask
