"""Ufuncs whose value and derivative are those of a user's operation.

>>> import numpy as np
>>> import gpugrad as gg
>>> from gpugrad.operation_base import UnaryUfunc
>>> from gpugrad.ufuncs import ufunc_creator
>>> class Degrees(UnaryUfunc):
...     numpy_ufunc = np.degrees
...
...     def backward_var(self, grad, index, **kwargs):
...         return np.degrees(grad)
>>> @ufunc_creator(Degrees)
... def in_degrees(x, out=None, *, where=True, dtype=None, constant=None):
...     "An angle in degrees."
>>> in_degrees, in_degrees(gg.tensor(np.pi))
(<gpugrad-ufunc 'in_degrees'>, Tensor(180.))
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Signature, signature
from typing import Any

import numpy as np

from gpugrad.execution import execute_op
from gpugrad.graph.op import Op
from gpugrad.operation_base import BinaryUfunc, Operation, UnaryUfunc
from gpugrad.protocols import implements_numpy_override
from gpugrad.tensor import Tensor
from gpugrad.ufunc import BinaryUfunc as TwoOperands
from gpugrad.ufunc import UnaryUfunc as OneOperand
from gpugrad.ufunc import ufunc

__all__ = ["ufunc_creator"]


class _OfOperation:
    """A ufunc whose call runs an operation."""

    _operation: type[Operation]
    _stub: Callable[..., Any]

    @property
    def __signature__(self) -> Signature:
        return signature(self._stub)

    def __call__(
        self,
        *x: Any,
        out: Any = None,
        where: Any = True,
        dtype: Any = None,
        constant: bool | None = None,
    ) -> Tensor:
        nin = self.nin  # type: ignore[attr-defined]
        if len(x) == nin + 1 and out is None:
            x, out = x[:nin], x[nin]
        options = {} if where is True else {"where": where}
        if dtype is not None:
            options["dtype"] = dtype
        return execute_op(self._operation, *x, op_kwargs=options, constant=constant, out=out)


class _UnaryOfOperation(_OfOperation, OneOperand, ours=True):
    pass


class _BinaryOfOperation(_OfOperation, TwoOperands, ours=True):
    pass


class ufunc_creator:
    """Decorator: a ufunc with the name, docstring and signature of a function stub.

    Its value and derivative are those of an operation; NumPy's ufunc of the same name, given a
    tensor, calls it.

    Parameters
    ----------
    mygrad_op : subclass of UnaryUfunc or BinaryUfunc
    at_op, accumulate_op, outer_op, reduce_op, reduceat_op : None
        Methods of ufuncs carry no gradient: anything else is refused.

    Raises
    ------
    TypeError
        `mygrad_op` is another class.
    NotImplementedError
        An operation for a method was given.
    """

    def __init__(
        self,
        mygrad_op: type[Operation],
        *,
        at_op: None = None,
        accumulate_op: None = None,
        outer_op: None = None,
        reduce_op: None = None,
        reduceat_op: None = None,
    ) -> None:
        if not issubclass(mygrad_op, UnaryUfunc | BinaryUfunc):
            raise TypeError(
                f"ufunc_creator: got {mygrad_op.__name__}, expected a subclass of UnaryUfunc or "
                "BinaryUfunc"
            )
        if any(op is not None for op in (at_op, accumulate_op, outer_op, reduce_op, reduceat_op)):
            raise NotImplementedError("ufunc_creator: methods of ufuncs carry no gradient")
        self.op = mygrad_op

    def __call__(self, decorated_func: Callable[..., Any]) -> ufunc:
        nin = 1 if issubclass(self.op, UnaryUfunc) else 2
        theirs = self.op.numpy_ufunc  # type: ignore[attr-defined]
        name = decorated_func.__name__
        op = Op(name, theirs, (None,) * nin, elementwise=True, ufunc=theirs)
        made = (_UnaryOfOperation if nin == 1 else _BinaryOfOperation)(op, "", name)
        made._operation = self.op
        made.__doc__ = decorated_func.__doc__
        made.__module__ = decorated_func.__module__
        made._stub = decorated_func
        if hasattr(np, name):
            implements_numpy_override()(made)
        return made
