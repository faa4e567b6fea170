"""Penalties on parameters: terms added to the negative log-likelihood, each exactly once.

A penalty belongs to a layer (`layer.add_penalty({"matrix": L2Penalty(2e-4)})`). Its gradient is
added to the *difference* of the two phases, where it does not cancel. Penalties on what the hidden
units do, not on a parameter, are in :mod:`gpugrad.boltzmann.sparsity`.
"""

import math
from typing import Any, ClassVar

from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import ParameterError

__all__ = ["L1Penalty", "L2Penalty", "LogPenalty", "Penalty", "from_config"]


class Penalty:
    """A penalty of a given strength; subclasses give the value and its gradient.

    Parameters
    ----------
    strength : float
        Non-negative factor in front.
    """

    name: ClassVar[str] = ""

    def __init__(self, strength: float) -> None:
        if not isinstance(strength, int | float) or not 0 <= strength < math.inf:
            raise ParameterError(
                f"{type(self).__name__}: strength is {strength!r}, expected a number >= 0"
            )
        self.strength = strength

    def value(self, parameter: Any) -> Any:
        """The penalty itself, a 0-d array."""
        raise NotImplementedError

    def grad(self, parameter: Any) -> Any:
        """Its gradient, of the parameter's shape."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What `from_config` builds an equal penalty from."""
        return {"name": self.name, "strength": self.strength}


class L2Penalty(Penalty):
    """strength / 2 times the sum of squares (weight decay)."""

    name = "l2"

    def value(self, parameter: Any) -> Any:
        return 0.5 * self.strength * namespace_for(parameter).sum(parameter * parameter)

    def grad(self, parameter: Any) -> Any:
        return self.strength * parameter


class L1Penalty(Penalty):
    """strength times the sum of magnitudes; the gradient at 0 is taken as 0."""

    name = "l1"

    def value(self, parameter: Any) -> Any:
        xp = namespace_for(parameter)
        return self.strength * xp.sum(xp.absolute(parameter))

    def grad(self, parameter: Any) -> Any:
        return self.strength * namespace_for(parameter).sign(parameter)


class LogPenalty(Penalty):
    """minus strength times the sum of logarithms: keeps positive parameters away from 0.

    For rates of exponential units. The value is infinite where a parameter is not positive; the
    gradient -strength / parameter leads back up from there only if a constraint puts it right.
    """

    name = "log"

    def value(self, parameter: Any) -> Any:
        xp = namespace_for(parameter)
        positive = parameter > 0
        # a select on the argument too: the logarithm is not taken where it does not exist
        logarithm = xp.log(xp.where(positive, parameter, 1))
        return -self.strength * xp.sum(xp.where(positive, logarithm, -math.inf))

    def grad(self, parameter: Any) -> Any:
        return -self.strength / parameter


_PENALTIES: dict[str, type[Penalty]] = {
    kind.name: kind for kind in (L1Penalty, L2Penalty, LogPenalty)
}


def from_config(config: dict[str, Any]) -> Penalty:
    """The penalty that `Penalty.get_config` described."""
    try:
        return _PENALTIES[config["name"]](config["strength"])
    except KeyError as error:
        raise ParameterError(
            f"penalties.from_config: {config!r} names no penalty, known are {sorted(_PENALTIES)}"
        ) from error
