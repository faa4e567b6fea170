"""Exceptions raised by gpugrad.

Each subclasses the class that NumPy, CuPy or MyGrad raises for the same fault, so that a program
written for one of them catches what it used to catch. The message names the function, what came
and what was expected.
"""

__all__ = [
    "CheckpointError",
    "DataError",
    "DeviceMismatchError",
    "DeviceNotAvailableError",
    "DisconnectedView",
    "DivergenceError",
    "InvalidBackprop",
    "InvalidGradient",
    "KernelError",
    "ModelFileError",
    "ParameterError",
]


class InvalidGradient(Exception):
    """A gradient has a type, shape or dtype that its tensor cannot take."""


class InvalidBackprop(Exception):
    """Back-propagation was asked for through a graph that cannot carry it."""


class DisconnectedView(Exception):
    """An in-place write reached a view whose base no longer knows it."""


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


class ModelFileError(ValueError):
    """A file that is not a model, or a model of another version."""


class CheckpointError(ModelFileError):
    """A checkpoint that cannot be read, or that belongs to another run."""


class DivergenceError(FloatingPointError):
    """Training left the finite numbers; the message names the step and the parameter."""
