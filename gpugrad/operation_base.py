"""Operations as classes: how MyGrad's programs write their own, run on this library's graph.

>>> import gpugrad as gg
>>> from gpugrad.operation_base import Operation
>>> class Cube(Operation):
...     def __call__(self, x):
...         self.variables = (x,)
...         return x.data**3
...
...     def backward_var(self, grad, index, **kwargs):
...         (x,) = self.variables
...         return 3 * grad * x.data**2
>>> x = gg.tensor([1.0, 2.0])
>>> gg.execute_op(Cube, x).backward()
>>> x.grad
array([ 3., 12.])

Such a derivative is a function of arrays, not of tensors, so it cannot be differentiated in turn.
An operation that can be, to any order, is declared with ``gpugrad.primitive``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import Any

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import InvalidGradient, SkipGradient
from gpugrad.tensor import Tensor
from gpugrad.views import vertex_of

__all__ = [
    "BinaryUfunc",
    "Operation",
    "Sequential",
    "SkipGradient",
    "UnaryUfunc",
    "Ufunc",
    "cotangent_of_variable",
    "reduce_broadcast",
]


class _NoValueType:
    """The type of `_NoValue`, which stands for an argument that was not given."""

    _only: _NoValueType | None = None

    def __new__(cls) -> _NoValueType:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "<no value>"

    def __reduce__(self) -> tuple:
        return _NoValueType, ()


_NoValue: Any = _NoValueType()


def reduce_broadcast(grad: Any, var_shape: tuple[int, ...]) -> Any:
    """The cotangent of an operand of shape `var_shape` that was broadcast to that of `grad`.

    Raises
    ------
    InvalidGradient
        `grad` has fewer dimensions than the operand. It is a ValueError too.
    """
    if grad.shape == var_shape:
        return grad
    extra = grad.ndim - len(var_shape)
    if extra < 0:
        raise InvalidGradient(
            f"reduce_broadcast: grad has shape {grad.shape}, expected at least the "
            f"{len(var_shape)} dimensions of the operand {var_shape}"
        )
    grad = grad.sum(axis=tuple(range(extra))) if extra else grad
    axes = tuple(i for i, n in enumerate(var_shape) if grad.shape[i] != n)
    return grad.sum(axis=axes, keepdims=True) if axes else grad


class Operation(ABC):
    """A differentiable function of tensors, in two methods written for arrays.

    Subclass it, and apply it with `execute_op`. An instance stands for one application.

    Attributes
    ----------
    variables : tuple of Tensor
        The operands that gradients go to; `__call__` binds it.
    can_return_view : bool
        Whether the result may share memory with an operand. Only then is the result a view.
    where : array of bool, or True
        Where the result was computed; no gradient comes from elsewhere.
    replay_args, replay_kwargs, replay_force_constant
        How a view was made: the arguments beside the operands, and `constant`.
    """

    can_return_view: bool = False
    variables: tuple[Tensor, ...]
    where: Any = True
    replay_args: tuple | None = None
    replay_kwargs: dict[str, Any] | None = None
    replay_force_constant: bool | None = None

    def __init__(self) -> None:  # noqa: B027  # it says that operations are made without arguments
        """Operations are made without arguments."""

    @abstractmethod
    def __call__(self, *input_vars: Any, **kwargs: Any) -> Any:
        """Bind ``self.variables`` and return the value, an array.

        Parameters
        ----------
        *input_vars : Tensor
            The operands. Array-likes have become constant tensors.
        **kwargs
            What `execute_op` was given as ``op_kwargs``, and ``out``.
        """

    @abstractmethod
    def backward_var(self, grad: Any, index: int, **kwargs: Any) -> Any:
        """The cotangent of ``self.variables[index]``.

        Parameters
        ----------
        grad : array
            The cotangent of the result, of its shape.
        index : int

        Returns
        -------
        array or number
            Of the operand's shape, or of the shape it was broadcast to.

        Raises
        ------
        SkipGradient
            This operand gets no gradient.
        """

    def backward(self, grad: Any, **kwargs: Any) -> None:
        """Add to the gradient of each variable that is not constant.

        Override it to share work between operands, and call it with what was computed: the keyword
        arguments are passed to `backward_var`.

        Raises
        ------
        InvalidGradient
            `backward_var` returned no numbers, or an array of another shape.
        """
        for index, variable in enumerate(self.variables):
            if variable.constant:
                continue
            g = cotangent_of_variable(self, grad, index, kwargs)
            if g is not None:
                before = variable._grad
                variable._grad = g if before is None else before + g

    @staticmethod
    def grad_post_process_fn(grad: Any, var_shape: tuple[int, ...]) -> Any:
        """What is done to the result of `backward_var`: here, undo broadcasting."""
        return reduce_broadcast(grad, var_shape)


class Ufunc(Operation, ABC):
    """An elementwise function.

    Attributes
    ----------
    numpy_ufunc : numpy.ufunc
        What computes its value.
    """

    numpy_ufunc: Any

    def _value(self, out: Any, where: Any, dtype: Any) -> Any:
        if where is not True and where is not _NoValue:
            self.where = where
        options = {"out": out, "dtype": dtype, "where": self.where}
        given = {k: v for k, v in options.items() if v is not None and v is not True}
        xs = [x.data for x in self.variables]
        function = type(self).numpy_ufunc
        module = get_array_module(*xs)
        if module is not np:
            function = getattr(module, function.__name__)
        return function(*xs, **given)


class UnaryUfunc(Ufunc, ABC):
    """An elementwise function of one operand."""

    def __call__(self, x1: Any, out: Any = None, *, where: Any = True, dtype: Any = None) -> Any:
        """The value, under NumPy's ``out=``, ``where=`` and ``dtype=``."""
        self.variables = (x1,)
        return self._value(out, where, dtype)


class BinaryUfunc(Ufunc, ABC):
    """An elementwise function of two operands, broadcast against each other."""

    def __call__(
        self, x1: Any, x2: Any, out: Any = None, *, where: Any = True, dtype: Any = None
    ) -> Any:
        """The value, under NumPy's ``out=``, ``where=`` and ``dtype=``."""
        self.variables = (x1, x2)
        return self._value(out, where, dtype)


class Sequential(Operation, ABC):
    """A reduction or scan over axes.

    Attributes
    ----------
    numpy_func : callable
        What computes its value; a static method.
    axis : tuple of int, or None
    keepdims, initial, ddof
        As they were given; `_NoValue` if they were not.
    out_shape : tuple of int
        The shape of the value.
    """

    _integer_axis_only: bool = False
    axis: Any
    keepdims: Any
    initial: Any
    ddof: Any
    out_shape: tuple[int, ...]

    @staticmethod
    @abstractmethod
    def numpy_func(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """NumPy's function of the same name."""

    def __call__(
        self,
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = _NoValue,
        initial: Any = _NoValue,
        *,
        where: Any = _NoValue,
        ddof: Any = _NoValue,
    ) -> Any:
        """The value; the parameters are those of NumPy's reductions."""
        self.variables = (a,)
        options = self._note(axis, keepdims, initial, where, ddof)
        if dtype is not _NoValue:
            options["dtype"] = dtype
        value = self.numpy_func(a.data, axis=axis, out=out, **options)
        self.out_shape = np.shape(value)
        return value

    def _note(self, axis: Any, keepdims: Any, initial: Any, where: Any, ddof: Any) -> dict:
        """Keep the parameters; returns those that were given, by keyword."""
        as_tuple = not (self._integer_axis_only or axis is None or hasattr(axis, "__iter__"))
        self.axis = (axis,) if as_tuple else axis
        self.keepdims, self.initial, self.ddof = keepdims, initial, ddof
        if where is not True and where is not _NoValue:
            self.where = where
        named = {"keepdims": keepdims, "initial": initial, "where": where, "ddof": ddof}
        return {k: v for k, v in named.items() if v is not _NoValue}


# ---------------------------------------------------------------------------- the user's derivative


def cotangent_of_variable(call: Operation, grad: Any, index: int, kwargs: dict[str, Any]) -> Any:
    """The checked result of `backward_var`, of its operand's shape and dtype; None if skipped."""
    try:
        g = call.backward_var(grad, index, **kwargs)
    except SkipGradient:
        return None
    name = type(call).__name__
    data = vertex_of(call.variables[index], renewing=False).data
    module = get_array_module(data)
    real = isinstance(g, module.ndarray | np.number | Real)
    if not real or getattr(getattr(g, "dtype", None), "kind", "f") == "c":
        raise InvalidGradient(
            f"{name}.backward_var: got {type(g).__name__} for index {index}, expected a "
            f"{module.__name__} array of real numbers or one of them"
        )
    xp = namespace_of(module)
    g = xp.asarray(g)
    if call.where is not True:
        g = xp.where(xp.asarray(call.where, dtype=bool), g, 0)
    g = xp.asarray(call.grad_post_process_fn(g, data.shape))
    if g.shape != data.shape:
        raise InvalidGradient(
            f"{name}.backward_var: got shape {g.shape} for index {index}, expected the operand's "
            f"shape {data.shape}, or one that it broadcasts to"
        )
    return g if g.dtype == data.dtype else g.astype(data.dtype)
