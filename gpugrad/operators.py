"""Binds operators and methods to Tensor, by one table."""

from __future__ import annotations

from typing import Any

from gpugrad import mutation
from gpugrad.apply import apply, apply_two
from gpugrad.graph.op import Op
from gpugrad.ops import (
    arithmetic,
    comparison,
    devices,
    indexing,
    linalg,
    reductions,
    scans,
    shaping,
)
from gpugrad.tensor import Tensor

__all__: list[str] = []

_BINARY = {
    "add": arithmetic.ADD,
    "sub": arithmetic.SUBTRACT,
    "mul": arithmetic.MULTIPLY,
    "truediv": arithmetic.DIVIDE,
    "matmul": linalg.MATMUL,
}
_UNARY = {"neg": arithmetic.NEGATIVE, "pos": arithmetic.POSITIVE, "abs": arithmetic.ABSOLUTE}
_QUESTIONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
_CONSTANT_ONLY = {"floordiv": "floor_divide", "mod": "remainder", "divmod": "divmod"}


def _foreign(other: Any) -> bool:
    """Whether `other` claims the operation: it says so by refusing NumPy's ufuncs."""
    return getattr(type(other), "__array_ufunc__", 0) is None


def _forward(op: Op) -> Any:
    def method(self: Tensor, other: Any) -> Any:
        if type(other) is not Tensor and _foreign(other):
            return NotImplemented
        return apply_two(op, self, other)

    return method


def _reflected(op: Op) -> Any:
    def method(self: Tensor, other: Any) -> Any:
        return NotImplemented if _foreign(other) else apply(op, (other, self))

    return method


def _augmented(op: Op) -> Any:
    def method(self: Tensor, other: Any) -> Tensor:
        return mutation.write(self, op, (self, other))

    return method


def _unary(op: Op) -> Any:
    def method(self: Tensor) -> Tensor:
        return apply(op, (self,))

    return method


def _question(name: str) -> Any:
    def method(self: Tensor, other: Any) -> Any:
        return comparison.array_answer(name, self, other)

    return method


def _constant_only(name: str, reflected: bool) -> Any:
    def method(self: Tensor, other: Any) -> Any:
        pair = (other, self) if reflected else (self, other)
        return comparison.constant_answer(name, *pair)

    return method


def _power_op(x: Tensor, exponent: Any) -> tuple[Op, bool]:
    """The operation of ``x ** exponent``, and whether it takes the exponent."""
    # a float makes floats of integers
    if type(exponent) is int or (type(exponent) is float and x.dtype.kind == "f"):
        if exponent == 2:
            return arithmetic.SQUARE, False
        if exponent == 1:
            return arithmetic.POSITIVE, False
    return arithmetic.POWER, True


def _pow(self: Tensor, other: Any) -> Any:
    if _foreign(other):
        return NotImplemented
    op, binary = _power_op(self, other)
    return apply(op, (self, other) if binary else (self,))


def _ipow(self: Tensor, other: Any) -> Tensor:
    op, binary = _power_op(self, other)
    return mutation.write(self, op, (self, other) if binary else (self,))


def _reshape(self: Tensor, *newshape: Any, constant: bool | None = None) -> Tensor:
    """This tensor in a new shape; see `gpugrad.reshape`."""
    if not newshape:
        raise TypeError("reshape: got no shape, expected at least one length")
    shape = newshape[0] if len(newshape) == 1 else newshape
    return shaping.reshape(self, shape, constant=constant)


def _format(self: Tensor, spec: str) -> str:
    """A tensor of no dimension takes the formats of its number, as NumPy's arrays do."""
    return format(self.item(), spec) if spec and not self.ndim else object.__format__(self, spec)


_METHODS = {
    "sum": reductions.sum,
    "mean": reductions.mean,
    "prod": reductions.prod,
    "var": reductions.var,
    "std": reductions.std,
    "cumsum": scans.cumsum,
    "cumprod": scans.cumprod,
    "max": reductions.max,
    "min": reductions.min,
    "transpose": shaping.transpose,
    "swapaxes": shaping.swapaxes,
    "moveaxis": shaping.moveaxis,
    "squeeze": shaping.squeeze,
    "ravel": shaping.ravel,
    "clip": arithmetic.clip,
    "argmax": comparison.argmax,
    "argmin": comparison.argmin,
    "any": comparison.any,
    "all": comparison.all,
    "reshape": _reshape,
    "flatten": shaping.flatten,
    "to_device": devices.to_device,
}


def _bind(name: str, method: Any) -> None:
    setattr(Tensor, name, method)


for _name, _op in _BINARY.items():
    _bind(f"__{_name}__", _forward(_op))
    _bind(f"__r{_name}__", _reflected(_op))
    _bind(f"__i{_name}__", _augmented(_op))
for _name, _op in _UNARY.items():
    _bind(f"__{_name}__", _unary(_op))
for _name, _word in _QUESTIONS.items():
    _bind(f"__{_name}__", _question(_word))
for _name, _word in _CONSTANT_ONLY.items():
    _bind(f"__{_name}__", _constant_only(_word, False))
    _bind(f"__r{_name}__", _constant_only(_word, True))
for _name, _function in _METHODS.items():
    _bind(_name, _function)
_bind("__format__", _format)
_bind("__pow__", _pow)
_bind("__ipow__", _ipow)
_bind("__rpow__", _reflected(arithmetic.POWER))
_bind("__getitem__", indexing.getitem)
_bind("__setitem__", mutation.assign)
_bind("T", property(lambda self: shaping.transpose(self), doc="The transposed tensor, a view."))
_bind("shape", Tensor.shape.setter(mutation.reshape_))  # type: ignore[attr-defined]
