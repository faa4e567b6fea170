"""Constraints on parameters: projections applied in place after each parameter step."""

from collections.abc import Callable
from typing import Any

from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import ParameterError

__all__ = ["Constraint", "get", "non_negative"]

Constraint = Callable[[Any], None]


def non_negative(parameter: Any) -> None:
    """Set negative entries to 0, in place."""
    xp = namespace_for(parameter)
    xp.maximum(parameter, 0, out=parameter)


_CONSTRAINTS: dict[str, Constraint] = {"non_negative": non_negative}


def get(name: str) -> Constraint:
    """The constraint of that name, as a layer's configuration stores it."""
    try:
        return _CONSTRAINTS[name]
    except KeyError as error:
        raise ParameterError(
            f"constraints.get: no constraint {name!r}, known are {sorted(_CONSTRAINTS)}"
        ) from error
