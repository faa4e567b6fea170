"""Exceptions raised by gpugrad.

Each subclasses the class that NumPy, CuPy or MyGrad raises for the same fault, so that a program
written for one of them catches what it used to catch. The message names the function, what came
and what was expected.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "CheckpointError",
    "ConvergenceError",
    "DataError",
    "DeviceMismatchError",
    "DeviceNotAvailableError",
    "DisconnectedView",
    "DistributedError",
    "DivergenceError",
    "InvalidBackprop",
    "InvalidGradient",
    "KernelError",
    "LayerParameterError",
    "MissingExtraError",
    "ModelFileError",
    "MyGradException",
    "NoPartitionFunctionError",
    "ParameterError",
    "SkipGradient",
    "TensorFileError",
    "TreeMismatchError",
    "composite",
    "explain",
]


F = TypeVar("F", bound=Callable[..., Any])


class MyGradException(Exception):
    """What MyGrad's programs catch: the errors of the calculus itself."""


class InvalidGradient(MyGradException, TypeError, ValueError):
    """A gradient has a type, shape or dtype that its tensor cannot take."""


class InvalidBackprop(MyGradException):
    """Back-propagation was asked for through a graph that cannot carry it."""


class DisconnectedView(MyGradException):
    """An in-place write reached a view whose base no longer knows it."""


class SkipGradient(Exception):
    """Raised by an operation's `backward_var`: this operand gets no gradient."""


class DeviceMismatchError(TypeError):
    """Arrays on different devices, or a host array and a device array, met in one call."""


class DeviceNotAvailableError(RuntimeError):
    """A device was asked for that this machine cannot offer; the message says why."""


class KernelError(RuntimeError):
    """A CUDA kernel could not be found, compiled or launched."""


class DataError(ValueError):
    """Data that a model cannot be trained on or evaluated with."""


class ParameterError(ValueError):
    """A setting outside its range: a negative rate, k = 0, a shape that does not fit."""


class LayerParameterError(ParameterError, AssertionError):
    """A setting of a layer outside its range, for which MyGrad has an assertion that fails."""


class NoPartitionFunctionError(ParameterError):
    """A Boltzmann machine, or a unit in its field, whose Boltzmann weights have no finite sum; the
    message names the layers."""


class ModelFileError(ValueError):
    """A file that is not a model, or a model of another version."""


class CheckpointError(ModelFileError):
    """A checkpoint that cannot be read, or that belongs to another run."""


class ConvergenceError(RuntimeError):
    """An iteration ended before its convergence test was met; the message says how far it was."""


class DivergenceError(FloatingPointError):
    """Training left the finite numbers; the message names the step and the parameter."""


class DistributedError(RuntimeError):
    """The processes of one job do not fit together, or one of them does not answer; the message
    says which one, and what differs."""


class TensorFileError(ValueError):
    """A file that `gpugrad.load` cannot read a tensor from: damaged, or something else."""


class TreeMismatchError(ParameterError):
    """Nested dicts, lists and tuples that should have one structure differ; the message names the
    place."""


class MissingExtraError(ImportError):
    """A package that only a part of gpugrad needs is not installed; the message says which extra
    brings it."""


def explain(error: BaseException, function: str, operands: Sequence[Any] = ()) -> None:
    """Put the function's name, and what it was given, into the message of an array library's error.

    The exception stays the same object, so that its class and traceback do. Nothing is done to a
    message that has the name already, nor to classes that write their own message.
    """
    if isinstance(error, np.exceptions.AxisError):
        # its message is composed when it is shown, from a prefix, the axis and the dimensions
        prefix = getattr(error, "_msg", None)
        if prefix and prefix.partition(":")[0] == function:
            return
        error._msg = f"{function}: {prefix}" if prefix else function  # type: ignore[attr-defined]
        return
    if type(error) not in (ValueError, TypeError, IndexError, np.linalg.LinAlgError):
        return
    text = error.args[0] if error.args else None
    if not isinstance(text, str) or text.startswith(f"{function}:") or f"'{function}'" in text:
        return
    shown = "" if "shape" in text else ", ".join(map(_described, operands))
    error.args = (f"{function}: {text}" + (f"; got {shown}" if shown else ""), *error.args[1:])


def composite(function: F) -> F:
    """Decorator of a function that is made of others: its name comes first in their errors."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            explain(error, function.__name__)
            raise

    return wrapper  # type: ignore[return-value]


def _described(x: Any) -> str:
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype} of shape {tuple(x.shape)}"
    return repr(x) if isinstance(x, int | float) else type(x).__name__
