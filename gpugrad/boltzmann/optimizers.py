"""Optimisers: what becomes of a gradient and a learning rate.

An optimiser holds its settings only. `init` makes the arrays that it remembers between updates
(its state, which a checkpoint saves by name), `update_` moves the parameters. Neither looks at a
value, so that a device is never waited for.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from gpugrad.backend.array_module import get_array_module
from gpugrad.errors import ParameterError

__all__ = ["SGD", "Optimizer", "from_config"]

_OPTIMIZERS: dict[str, "type[Optimizer]"] = {}

Arrays = Mapping[str, Any]


class Optimizer:
    """A rule that moves parameters against a gradient.

    A subclass sets `name`, stores its settings under the names of its arguments, lists them in
    `settings`, and writes `init` and `update_`.
    """

    name: ClassVar[str] = ""
    settings: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _OPTIMIZERS[cls.name] = cls

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in self.settings)})"
        )

    def init(self, parameters: Arrays) -> dict[str, Any]:
        """The state before the first update.

        Parameters
        ----------
        parameters : dict of array
            Named as `BoltzmannMachine.parameters` names them.

        Returns
        -------
        dict of array
            In the dtype and on the device of the parameters.
        """
        raise NotImplementedError

    def update_(self, parameters: Arrays, gradient: Arrays, state: Arrays, rate: float) -> None:
        """One step down the gradient, in place.

        Parameters
        ----------
        parameters, gradient : dict of array
            Of the same names and shapes. The gradient's arrays may be used as scratch memory.
        state : dict of array
            What `init` made.
        rate : float
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Name and settings; JSON can hold the result."""
        return {"name": self.name, **{name: getattr(self, name) for name in self.settings}}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for.

        velocity <- momentum velocity + rate gradient          theta <- theta - velocity

    Parameters
    ----------
    momentum : float
        In [0, 1). The effective rate is rate / (1 - momentum).
    """

    name = "sgd"
    settings = ("momentum",)

    def __init__(self, momentum: float = 0.0) -> None:
        number = isinstance(momentum, (int, float)) and math.isfinite(momentum)
        if not number or not 0 <= momentum < 1:
            raise ParameterError(f"SGD: momentum is {momentum!r}, expected a number in [0, 1)")
        self.momentum = momentum

    def init(self, parameters: Arrays) -> dict[str, Any]:
        if not self.momentum:
            return {}
        return {
            f"velocity.{name}": get_array_module(array).zeros_like(array)
            for name, array in parameters.items()
        }

    def update_(self, parameters: Arrays, gradient: Arrays, state: Arrays, rate: float) -> None:
        for name, parameter in parameters.items():
            step = gradient[name]
            step *= rate
            if self.momentum:
                velocity = state[f"velocity.{name}"]
                velocity *= self.momentum
                velocity += step
                step = velocity
            parameter -= step


def from_config(config: Mapping[str, Any]) -> Optimizer:
    """The optimiser that `get_config` described.

    Raises
    ------
    ParameterError
        For a name or a setting that is not known.
    """
    settings = dict(config)
    name = settings.pop("name", None)
    if name not in _OPTIMIZERS:
        raise ParameterError(
            f"optimizers.from_config: no optimiser {name!r}, known are {sorted(_OPTIMIZERS)}"
        )
    try:
        return _OPTIMIZERS[name](**settings)
    except TypeError as error:
        raise ParameterError(f"optimizers.from_config: {name} does not take {settings}") from error
