"""The switches of the calculus: is a graph recorded, and is its memory protected.

Both live in context variables, so a thread (or an asyncio task) that turns one off does not turn it
off for another.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

__all__ = [
    "mem_guard_active",
    "mem_guard_off",
    "mem_guard_on",
    "no_autodiff",
    "recording",
    "turn_memory_guarding_off",
    "turn_memory_guarding_on",
]


def _guard_default() -> bool:
    text = os.environ.get("GPUGRAD_MEM_GUARD", "True").strip().lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise ValueError(
        f"GPUGRAD_MEM_GUARD: got {os.environ['GPUGRAD_MEM_GUARD']!r}, expected True or False"
    )


TRACKING: ContextVar[bool] = ContextVar("gpugrad_tracking", default=True)
_GUARD_DEFAULT = _guard_default()
GUARD: ContextVar[bool] = ContextVar("gpugrad_guard", default=_GUARD_DEFAULT)


class Switch:
    """Set context variables for the length of a ``with`` block or of a decorated call.

    One instance serves every thread and may be entered again while it is active.
    """

    def __init__(self, name: str, doc: str, **settings: bool) -> None:
        self._name = name
        self._variables = [
            ({"tracking": TRACKING, "guard": GUARD}[k], v) for k, v in settings.items()
        ]
        self._saved: ContextVar[tuple] = ContextVar(f"gpugrad_{name}_saved", default=())
        self.__doc__ = doc

    def __enter__(self) -> Switch:
        self._saved.set((*self._saved.get(), tuple(v.get() for v, _ in self._variables)))
        for variable, value in self._variables:
            variable.set(value)
        return self

    def __exit__(self, *exc: object) -> None:
        *rest, values = self._saved.get()
        self._saved.set(tuple(rest))
        for (variable, _), value in zip(self._variables, values, strict=True):
            variable.set(value)

    def __call__(self, function: Callable) -> Callable:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapper

    def __repr__(self) -> str:
        return f"gpugrad.{self._name}"


class NoAutodiff(Switch):
    """A switch that, as a decorator, can also return raw arrays (``to_numpy=True``)."""

    def __call__(self, function: Callable, to_numpy: bool = False) -> Callable:
        inner = super().__call__(function)
        if not to_numpy:
            return inner

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = inner(*args, **kwargs)
            return getattr(result, "_gpugrad_data_", result)

        return wrapper


no_autodiff = NoAutodiff(
    "no_autodiff",
    """Record no graph: functions of tensors cost what they cost in NumPy, and in-place writes go
    straight to memory. A context manager and a decorator.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([1.0, 2.0])
    >>> with gg.no_autodiff:
    ...     x *= 2
    >>> x
    Tensor([2., 4.])
    """,
    tracking=False,
)
recording = Switch("recording", "Record a graph, whatever the caller's setting.", tracking=True)
mem_guard_off = Switch(
    "mem_guard_off",
    "Leave the arrays of graphs that are built in this block writeable: faster, and unprotected.",
    guard=False,
)
mem_guard_on = Switch(
    "mem_guard_on",
    "Make the arrays of graphs that are built in this block read-only while the graph lives.",
    guard=True,
)


def turn_memory_guarding_off() -> None:
    """Switch the memory guard off in this context, until it is switched on again."""
    GUARD.set(False)


def turn_memory_guarding_on() -> None:
    """Switch the memory guard on in this context, until it is switched off again."""
    GUARD.set(True)


def mem_guard_active() -> bool:
    """Whether graphs that are built now protect their arrays."""
    return GUARD.get()


def snapshot() -> tuple:
    """The value of every switch here; tests compare it to find what leaked."""
    return TRACKING.get(), GUARD.get()
