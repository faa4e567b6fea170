"""Optimisers: what becomes of a gradient and a learning rate.

An optimiser holds its settings only. `init` makes the arrays that it remembers between updates
(its state, which a checkpoint saves by name), `update_` moves the parameters. Neither looks at a
value, so that a device is never waited for.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.errors import ParameterError

__all__ = ["SGD", "Adam", "Nesterov", "Optimizer", "RMSProp", "from_config"]

_OPTIMIZERS: dict[str, "type[Optimizer]"] = {}

Arrays = Mapping[str, Any]


def _fraction(owner: object, name: str, value: Any) -> None:
    number = isinstance(value, int | float) and math.isfinite(value)
    if not number or not 0 <= value < 1:
        raise ParameterError(
            f"{type(owner).__name__}: {name} is {value!r}, expected a number in [0, 1)"
        )


def _positive(owner: object, name: str, value: Any) -> None:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ParameterError(
            f"{type(owner).__name__}: {name} is {value!r}, expected a finite number above 0"
        )


def _at_least_tiny(eps: float, array: Any) -> float:
    """eps, unless it vanishes in the array's dtype: 1e-8 is 0 in float16, and 0 / 0 no step."""
    return max(eps, float(np.finfo(array.dtype).tiny))


def _zeros(prefix: str, parameters: Arrays) -> dict[str, Any]:
    return {
        f"{prefix}.{name}": get_array_module(array).zeros_like(array)
        for name, array in parameters.items()
    }


class Optimizer:
    """A rule that moves parameters against a gradient.

    A subclass sets `name`, stores its settings under the names of its arguments, lists them in
    `settings`, and writes `init` and `update_`.
    """

    name: ClassVar[str] = ""
    settings: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:  # a variant without a name of its own takes no one's place
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
        _fraction(self, "momentum", momentum)
        self.momentum = momentum

    def init(self, parameters: Arrays) -> dict[str, Any]:
        return _zeros("velocity", parameters) if self.momentum else {}

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


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient, in the form that needs the gradient at theta alone [1]_.

        velocity <- momentum velocity + rate gradient
        theta    <- theta - momentum velocity - rate gradient

    Parameters
    ----------
    momentum : float
        In [0, 1).

    References
    ----------
    .. [1] Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
       in deep learning" (2013); theta is their point theta + momentum v, as in Bengio,
       Boulanger-Lewandowski and Pascanu, "Advances in optimizing recurrent networks" (2013).
    """

    name = "nesterov"
    settings = ("momentum",)

    def __init__(self, momentum: float = 0.9) -> None:
        _fraction(self, "momentum", momentum)
        self.momentum = momentum

    def init(self, parameters: Arrays) -> dict[str, Any]:
        return _zeros("velocity", parameters)

    def update_(self, parameters: Arrays, gradient: Arrays, state: Arrays, rate: float) -> None:
        for name, parameter in parameters.items():
            step, velocity = gradient[name], state[f"velocity.{name}"]
            step *= rate
            velocity *= self.momentum
            velocity += step
            parameter -= step
            parameter -= self.momentum * velocity


class RMSProp(Optimizer):
    """The gradient divided by a running root mean square of itself [1]_.

        square <- decay square + (1 - decay) gradient^2
        theta  <- theta - rate gradient / (sqrt(square) + eps)

    Parameters
    ----------
    decay : float
        In [0, 1).
    eps : float
        Above 0.

    References
    ----------
    .. [1] Tieleman and Hinton, "Lecture 6.5 - rmsprop", Coursera: Neural Networks for Machine
       Learning (2012).
    """

    name = "rmsprop"
    settings = ("decay", "eps")

    def __init__(self, decay: float = 0.9, eps: float = 1e-8) -> None:
        _fraction(self, "decay", decay)
        _positive(self, "eps", eps)
        self.decay, self.eps = decay, eps

    def init(self, parameters: Arrays) -> dict[str, Any]:
        return _zeros("square", parameters)

    def update_(self, parameters: Arrays, gradient: Arrays, state: Arrays, rate: float) -> None:
        for name, parameter in parameters.items():
            step, square = gradient[name], state[f"square.{name}"]
            square *= self.decay
            square += (1 - self.decay) * step * step
            scale = square**0.5
            scale += _at_least_tiny(self.eps, scale)
            step *= rate
            step /= scale
            parameter -= step


class Adam(Optimizer):
    """Running means of the gradient and of its square, both freed of their bias to 0 [1]_.

        mean   <- beta1 mean + (1 - beta1) gradient
        square <- beta2 square + (1 - beta2) gradient^2
        theta  <- theta - rate (mean / (1 - beta1^t)) / (sqrt(square / (1 - beta2^t)) + eps)

    t counts the updates; it is part of the state.

    Parameters
    ----------
    beta1, beta2 : float
        In [0, 1).
    eps : float
        Above 0.

    References
    ----------
    .. [1] Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    name = "adam"
    settings = ("beta1", "beta2", "eps")

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        _fraction(self, "beta1", beta1)
        _fraction(self, "beta2", beta2)
        _positive(self, "eps", eps)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def init(self, parameters: Arrays) -> dict[str, Any]:
        # the count stays on the host: nothing has to wait for a device to read it
        count = {"updates": np.zeros(1, "int64")}
        return count | _zeros("mean", parameters) | _zeros("square", parameters)

    def update_(self, parameters: Arrays, gradient: Arrays, state: Arrays, rate: float) -> None:
        count = state["updates"]
        count += 1
        t = int(count[0])
        first, second = 1 - self.beta1**t, 1 - self.beta2**t
        for name, parameter in parameters.items():
            step = gradient[name]
            mean, square = state[f"mean.{name}"], state[f"square.{name}"]
            mean *= self.beta1
            mean += (1 - self.beta1) * step
            square *= self.beta2
            square += (1 - self.beta2) * step * step
            scale = (square * (1 / second)) ** 0.5
            scale += _at_least_tiny(self.eps, scale)
            step[...] = mean
            step *= rate / first
            step /= scale
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
