"""Constraints on parameters: projections applied in place after each parameter step."""

from collections.abc import Callable
from typing import Any

from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import ParameterError

__all__ = [
    "Constraint",
    "centre",
    "centre_rows",
    "get",
    "non_negative",
    "non_positive",
    "unit_norm",
]

Constraint = Callable[[Any], None]


def non_negative(parameter: Any) -> None:
    """Set negative entries to 0, in place."""
    xp = namespace_for(parameter)
    xp.maximum(parameter, 0, out=parameter)


def non_positive(parameter: Any) -> None:
    """Set positive entries to 0, in place; between exponential or ReLU layers it keeps a machine
    normalisable."""
    xp = namespace_for(parameter)
    xp.minimum(parameter, 0, out=parameter)


def unit_norm(parameter: Any) -> None:
    """Divide each column by its Euclidean norm, in place; a column of zeros stays as it is.

    A column of a matrix of weights holds what one upper unit receives. A vector is one column.
    """
    xp = namespace_for(parameter)
    norm = xp.sqrt(xp.sum(parameter * parameter, axis=0, dtype="float64"))
    # a select, not a branch: the norm may live on a device
    parameter /= (norm + (norm == 0)).astype(parameter.dtype)


def centre(parameter: Any) -> None:
    """Subtract from each column its mean, in place; a vector is one column."""
    xp = namespace_for(parameter)
    parameter -= xp.mean(parameter, axis=0, dtype="float64").astype(parameter.dtype)


def centre_rows(parameter: Any) -> None:
    """Subtract from each row its mean, in place.

    On `loc` (sites, states) of Potts units this is the zero-sum gauge: it does not change the
    distribution, and takes away the direction in which nothing depends on the parameters.
    """
    xp = namespace_for(parameter)
    mean = xp.mean(parameter, axis=-1, dtype="float64", keepdims=True)
    parameter -= mean.astype(parameter.dtype)


_CONSTRAINTS: dict[str, Constraint] = {
    kind.__name__: kind for kind in (non_negative, non_positive, unit_norm, centre, centre_rows)
}


def get(name: str) -> Constraint:
    """The constraint of that name, as a layer's configuration stores it."""
    try:
        return _CONSTRAINTS[name]
    except KeyError as error:
        raise ParameterError(
            f"constraints.get: no constraint {name!r}, known are {sorted(_CONSTRAINTS)}"
        ) from error
