"""Elementwise functions: objects with the call signature and the attributes of NumPy's ufuncs."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import numpy as np

from gpugrad.apply import apply, apply_two
from gpugrad.graph.op import Op
from gpugrad.mutation import write
from gpugrad.tensor import Tensor, resolve_constant
from gpugrad.typing import ArrayLike, DTypeLikeReals, Mask

__all__ = ["BinaryUfunc", "PlainUfunc", "UFuncMethodError", "UnaryUfunc", "call", "ufunc"]


class UFuncMethodError(TypeError, NotImplementedError):
    """A method of a ufunc that has no gradient here."""


PARAMETERS = """
Parameters
----------
{operands}
out : Tensor or array, optional
    Written to and returned. A tensor is written to within its graph.
where : array_like of bool, optional
    Only these elements are computed. The others keep what `out` held; without `out` they are 0.
dtype : dtype, optional
    In which the function is computed.
constant : bool, optional
    True: the result takes no gradient.

Returns
-------
Tensor

Raises
------
ValueError
    The shapes do not broadcast, or the result does not fit `out`.
TypeError
    Complex operands, or a result that cannot be cast to `out`.
DeviceMismatchError
    Operands on different devices.
"""
# NumPy's loops for real numbers; complex, object and time loops have no derivative here
_REAL = frozenset("?bBhHiIlLqQefdg->")
_FLOATS = ("e", "f", "d")


class _UfuncType(type):
    """`issubclass` says of a ufunc, though it is no class, that it is one: as `isinstance` does."""

    def __subclasscheck__(cls, x: Any) -> bool:
        return isinstance(x, cls) or (isinstance(x, type) and type.__subclasscheck__(cls, x))


class ufunc(metaclass=_UfuncType):
    """An elementwise function of tensors; it cannot be subclassed.

    Parameters
    ----------
    op : Op
        What is computed.
    doc : str
        One sentence on it.
    name : str, optional
        The public name; the op's by default.

    Attributes
    ----------
    nin, nout, nargs : int
        How many operands, results, and both together.
    types : list of str
        The loops over real numbers, as in NumPy: ``"dd->d"`` takes two float64 to one.
    ntypes : int
        How many there are.
    identity : int | None
        The neutral element, if there is one.
    signature : str | None
        The core dimensions of a generalised ufunc; None for an elementwise one.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.add
    <gpugrad-ufunc 'add'>
    >>> issubclass(gg.add, gg.ufunc)
    True
    >>> gg.add.nin, gg.add.identity
    (2, 0)
    """

    __globals__ = globals()  # where typing.get_type_hints looks names up
    _operands: tuple[str, ...] = ()
    nout = 1
    op: Op
    __call__: Callable[..., Tensor]  # each subclass has its own signature
    nin: int
    __name__: str

    def __new__(cls, op: Op, doc: str, name: str | None = None, **options: Any) -> Any:
        if cls is ufunc:
            cls = UnaryUfunc if op.nin == 1 else BinaryUfunc
        return object.__new__(cls)

    def __init__(
        self, op: Op, doc: str, name: str | None = None, *, operands: tuple[str, ...] = ()
    ) -> None:
        self.op = op
        self.nin = op.nin or 2
        self.__name__ = self.__qualname__ = name or op.name
        self.__module__ = "gpugrad"
        if operands:
            self._operands = operands
        described = PARAMETERS.format(operands=f"{', '.join(self._operands)} : array_like")
        self.__doc__ = f"{doc}\n{described}"

    def __init_subclass__(cls, *, ours: bool = False) -> None:
        if not ours:
            raise TypeError(f"gpugrad.ufunc cannot be subclassed: got class {cls.__name__!r}")

    # ------------------------------------------------------------------------- what NumPy's have

    @property
    def nargs(self) -> int:
        return self.nin + self.nout

    @property
    def types(self) -> list[str]:
        if self.op.ufunc is None:
            return [c * self.nin + "->" + c for c in _FLOATS]
        return [loop for loop in self.op.ufunc.types if _REAL.issuperset(loop)]

    @property
    def ntypes(self) -> int:
        return len(self.types)

    @property
    def identity(self) -> int | None:
        return None if self.op.ufunc is None else self.op.ufunc.identity

    @property
    def signature(self) -> str | None:
        return None if self.op.ufunc is None else self.op.ufunc.signature

    @property
    def resolve_dtypes(self) -> Any:
        if self.op.ufunc is None:
            raise AttributeError(f"{self.__name__}: NumPy has no ufunc of this name to resolve for")
        return self.op.ufunc.resolve_dtypes

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            **dict.fromkeys(self._operands, ArrayLike),
            "out": Tensor | np.ndarray | None,
            "where": Mask,
            "dtype": DTypeLikeReals,
            "constant": bool | None,
            "return": Tensor,
        }

    def _options(self) -> list[tuple[str, Any, Any]]:
        return [
            ("out", Parameter.POSITIONAL_OR_KEYWORD, None),
            ("where", Parameter.KEYWORD_ONLY, True),
            ("dtype", Parameter.KEYWORD_ONLY, None),
            ("constant", Parameter.KEYWORD_ONLY, None),
        ]

    @property
    def __signature__(self) -> Signature:
        hints = self.__annotations__
        parameters = [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=hints[name])
            for name in self._operands
        ]
        parameters += [
            Parameter(name, kind, default=default, annotation=hints.get(name, Parameter.empty))
            for name, kind, default in self._options()
        ]
        return Signature(parameters, return_annotation=Tensor)

    def _refuse(self, method: str) -> Any:
        raise UFuncMethodError(f"{self.__name__}.{method}: ufunc methods carry no gradient")

    def at(
        self, a: ArrayLike, indices: Any, b: Any = None, *, constant: bool | None = None
    ) -> Tensor:
        """Not supported: raises."""
        return self._refuse("at")

    def reduce(
        self,
        a: ArrayLike,
        axis: int | tuple[int, ...] | None = 0,
        dtype: DTypeLikeReals | None = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Tensor:
        """Not supported: raises."""
        return self._refuse("reduce")

    def accumulate(
        self,
        array: ArrayLike,
        axis: int = 0,
        dtype: DTypeLikeReals | None = None,
        out: Any = None,
        *,
        constant: bool | None = None,
    ) -> Tensor:
        """Not supported: raises."""
        return self._refuse("accumulate")

    def reduceat(
        self,
        a: ArrayLike,
        indices: Any,
        axis: int | tuple[int, ...] | None = 0,
        dtype: DTypeLikeReals | None = None,
        out: Any = None,
    ) -> Tensor:
        """Not supported: raises."""
        return self._refuse("reduceat")

    def outer(
        self, a: ArrayLike, b: ArrayLike, *, dtype: DTypeLikeReals | None = None, out: Any = None
    ) -> Tensor:
        """Not supported: raises."""
        return self._refuse("outer")

    def __repr__(self) -> str:
        return f"<gpugrad-ufunc {self.__name__!r}>"

    def __reduce__(self) -> str:
        return self.__name__


class UnaryUfunc(ufunc, ours=True):
    """A ufunc of one operand."""

    _operands = ("x",)

    def __call__(
        self,
        x: ArrayLike,
        out: Any = None,
        *,
        where: Any = True,
        dtype: DTypeLikeReals | None = None,
        constant: bool | None = None,
    ) -> Tensor:
        if out is None and where is True and dtype is None:
            return apply(self.op, (x,), constant=constant)
        return call(self.op, (x,), out=out, where=where, dtype=dtype, constant=constant)


class BinaryUfunc(ufunc, ours=True):
    """A ufunc of two operands, which broadcast against each other."""

    _operands = ("x1", "x2")

    def __call__(
        self,
        x1: ArrayLike,
        x2: ArrayLike,
        out: Any = None,
        *,
        where: Any = True,
        dtype: DTypeLikeReals | None = None,
        constant: bool | None = None,
    ) -> Tensor:
        if out is None and where is True and dtype is None:
            if constant is None:
                return apply_two(self.op, x1, x2)
            return apply(self.op, (x1, x2), constant=constant)
        return call(self.op, (x1, x2), out=out, where=where, dtype=dtype, constant=constant)


class PlainUfunc(ufunc, ours=True):
    """A ufunc of one operand `a` that NumPy does not know as one: its options go by keyword."""

    _operands = ("a",)

    def __call__(
        self,
        a: ArrayLike,
        *,
        constant: bool | None = None,
        out: Any = None,
        where: Any = True,
        dtype: DTypeLikeReals | None = None,
    ) -> Tensor:
        if out is None and where is True and dtype is None:
            return apply(self.op, (a,), constant=constant)
        return call(self.op, (a,), out=out, where=where, dtype=dtype, constant=constant)

    def _options(self) -> list[tuple[str, Any, Any]]:
        return [
            ("constant", Parameter.KEYWORD_ONLY, None),
            ("out", Parameter.KEYWORD_ONLY, None),
            ("where", Parameter.KEYWORD_ONLY, True),
            ("dtype", Parameter.KEYWORD_ONLY, None),
        ]


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
    for given in (dtype, getattr(out, "dtype", None)):
        if given is not None and np.dtype(given).kind == "c":
            resolve_constant(op.name, np.dtype(given), None)  # raises
    return apply(op, x, params or {}, where=mask, dtype=dtype, constant=constant, out=out)


def _mask(function: str, where: Any) -> Any:
    mask = where.data if isinstance(where, Tensor) else where
    if not hasattr(mask, "dtype"):
        mask = np.asarray(mask)
    if mask.dtype.kind != "b":
        raise TypeError(f"{function}: where has dtype {mask.dtype}, expected bool")
    return mask.copy()  # the derivative needs what it is now
