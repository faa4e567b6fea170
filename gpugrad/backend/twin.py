"""The one place that chooses between the body of a primitive and a launcher.

A primitive maps arrays to arrays. Its body is written in a namespace ``xp`` and is the reference;
it runs on NumPy and on CuPy as it stands. A launcher computes the same thing faster on one kind of
device: a CUDA kernel, or a blocked and threaded loop on the host.

    primitive(field, bias, ...)
        |
        +-- arrays on the GPU --- launcher for "cuda" attached and switched on? --- launcher
        |                                       no: body(xp = CuPy)
        +-- arrays on the host -- launcher for "cpu" attached and switched on? ---- launcher
                                                no: body(xp = NumPy)
"""

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import ParameterError

__all__ = ["ContextFlag", "Primitive", "kernels_enabled", "primitive", "use_kernels"]

_enabled: ContextVar[bool] = ContextVar("gpugrad_kernels", default=True)


class ContextFlag:
    """Sets a flag of the calling context, from now on or for a `with` block; to be subclassed.

    Attributes
    ----------
    _variable : ContextVar
        Of the subclass: where the flag is.
    """

    _variable: ContextVar[bool]

    def __init__(self, flag: bool = True) -> None:
        if not isinstance(flag, bool | np.bool_):
            raise ParameterError(f"{type(self).__name__}: got {flag!r}, expected True or False")
        self._before = self._variable.get()
        self._variable.set(bool(flag))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._variable.set(self._before)


class use_kernels(ContextFlag):
    """Switch kernels on or off, from now on or for a `with` block.

    With kernels off every primitive runs its array-function body. The switch belongs to the
    calling context: other threads are not affected.

    Parameters
    ----------
    flag : bool
        Whether launchers may be used.

    Examples
    --------
    >>> from gpugrad.backend.twin import kernels_enabled, use_kernels
    >>> with use_kernels(False):
    ...     kernels_enabled()
    False
    >>> kernels_enabled()
    True
    """

    _variable = _enabled


def kernels_enabled() -> bool:
    """Whether primitives may use their launchers in this context."""
    return _enabled.get()


class Primitive:
    """A function of arrays with a reference body and, for some devices, a faster launcher.

    Parameters
    ----------
    name : str
        The name under which errors and tables know it.
    body : callable
        ``body(xp, *arrays, **parameters)``, written in the namespace ``xp``.
    """

    def __init__(self, name: str, body: Callable[..., Any]) -> None:
        self.name = name
        self.body = body
        self.launchers: dict[str, Callable[..., Any]] = {}
        self.__name__ = name
        self.__doc__ = body.__doc__

    def attach(self, launcher: Callable[..., Any], *, device: str = "cuda") -> Callable[..., Any]:
        """Let `launcher(*arrays, **parameters)` stand in for the body on a kind of device.

        Parameters
        ----------
        launcher : callable
            Takes what the primitive takes and returns what the body returns.
        device : {"cuda", "cpu"}
            The kind of device on which it may be used.
        """
        if device not in ("cuda", "cpu"):
            raise ParameterError(
                f"Primitive.attach: {self.name} on device {device!r}, expected 'cuda' or 'cpu'"
            )
        self.launchers[device] = launcher
        return launcher

    def __call__(self, *arrays: Any, **parameters: Any) -> Any:
        """The primitive of `arrays`; ``None`` stands for an array that is not given."""
        module = get_array_module(*[a for a in arrays if a is not None])
        if _enabled.get():
            launcher = self.launchers.get("cpu" if module is np else "cuda")
            if launcher is not None:
                return launcher(*arrays, **parameters)
        return self.body(namespace_of(module), *arrays, **parameters)

    def __repr__(self) -> str:
        return f"<primitive {self.name}, launchers: {', '.join(self.launchers) or 'none'}>"


def primitive(name: str) -> Callable[[Callable[..., Any]], Primitive]:
    """Decorator that makes a body into a `Primitive` called `name`."""

    def wrap(body: Callable[..., Any]) -> Primitive:
        return Primitive(name, body)

    return wrap
