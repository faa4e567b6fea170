"""A penalty on how active hidden units are, added to the negative log-likelihood.

With q_j the mean of hidden unit j given the data, averaged over the batch,

    S = strength / 2 sum_j (q_j - target)^2

In a machine of two layers q is a function of the parameters in closed form, and the gradient of S
is complete. In a deeper one q is the mean-field answer to the data, and the gradient takes the
means of the neighbouring layers as given. The gradient goes by back-propagation through the unit's
own `unit_mean`, so that any type of unit can be held sparse.

References
----------
Lee, Ekanadham and Ng, "Sparse deep belief net model for visual area V2", NIPS 2007, equation 3.
"""

import math
from collections.abc import Mapping
from typing import Any

from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State, namespace_for
from gpugrad.errors import ParameterError
from gpugrad.ops.creation import tensor

__all__ = ["SparsityTarget"]


class SparsityTarget:
    """Draws the mean activity of each hidden unit towards a target.

    Parameters
    ----------
    target : float
        Inside the range of the units' means: (0, 1) for Bernoulli, (-1, 1) for Ising units.
    strength : float
        Factor in front, not negative.
    layer : int
        Which layer is held sparse; 1 is the first hidden one.
    """

    def __init__(self, target: float, strength: float, *, layer: int = 1) -> None:
        if not isinstance(target, int | float) or not math.isfinite(target):
            raise ParameterError(f"SparsityTarget: target is {target!r}, expected a finite number")
        if not isinstance(strength, int | float) or not 0 <= strength < math.inf:
            raise ParameterError(
                f"SparsityTarget: strength is {strength!r}, expected a finite number >= 0"
            )
        self.target, self.strength, self.layer = float(target), float(strength), layer

    def __repr__(self) -> str:
        return f"SparsityTarget({self.target}, {self.strength}, layer={self.layer})"

    def get_config(self) -> dict[str, Any]:
        """Its settings; JSON can hold the result."""
        return {"target": self.target, "strength": self.strength, "layer": self.layer}

    def check(self, model: BoltzmannMachine) -> None:
        """Raise a ParameterError unless the machine has that layer and its units such a mean."""
        if not isinstance(self.layer, int) or not 1 <= self.layer < model.num_layers:
            raise ParameterError(
                f"SparsityTarget: layer is {self.layer!r}, {model!r} has the hidden layers 1 to "
                f"{model.num_layers - 1}"
            )
        if self.layer in model.lateral:
            raise ParameterError(
                f"SparsityTarget: layer {self.layer} has lateral couplings, expected none: its "
                "means are no function of the parameters in closed form"
            )
        layer = model.layers[self.layer]
        low, high = layer.data_range
        if not low < self.target < high:
            raise ParameterError(
                f"SparsityTarget: target is {self.target:g}, means of {layer.layer_type} units lie "
                f"in ({low:g}, {high:g})"
            )

    def value(
        self,
        model: BoltzmannMachine,
        parameters: Mapping[str, Any],
        positive: State,
        sample_weight: Any = None,
    ) -> Any:
        """S as a function of the parameters, a 0-d array or Tensor; takes what `mean` takes."""
        xp = namespace_for(*parameters.values())
        q = self.mean(model, parameters, positive, sample_weight)
        return 0.5 * self.strength * xp.sum((q - self.target) ** 2)

    def mean(
        self,
        model: BoltzmannMachine,
        parameters: Mapping[str, Any],
        positive: State,
        sample_weight: Any = None,
    ) -> Any:
        """q, the mean activity of each unit, as a function of the parameters.

        Parameters
        ----------
        model : BoltzmannMachine
        parameters : dict of array or Tensor
            Named as `BoltzmannMachine.parameters` names them.
        positive : State
            The positive phase. Its entry of the layer itself is not looked at.
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        array or Tensor (num_units,)
        """
        xp = namespace_for(*parameters.values())
        i = self.layer

        def scaled(j: int) -> Any:
            params = model.layer_params(j, parameters)
            return model.layers[j].unit_rescale(xp, params, positive[j])

        phi = xp.matmul(scaled(i - 1), parameters[f"weights.{i - 1}.matrix"])
        if i + 1 < model.num_layers:
            phi = phi + xp.matmul(scaled(i + 1), parameters[f"weights.{i}.matrix"].T)
        mean = model.layers[i].unit_mean(xp, model.layer_params(i, parameters), phi)
        return xp.mean(mean, axis=0) if sample_weight is None else xp.matmul(sample_weight, mean)

    def add_gradient_(
        self,
        model: BoltzmannMachine,
        gradient: Mapping[str, Any],
        positive: State,
        sample_weight: Any = None,
        *,
        q: Any = None,
    ) -> None:
        """Add the gradient of S to the arrays of a gradient, in place.

        Takes what `mean` takes, `gradient`, a dict of array named as the parameters are, and `q`,
        the mean activity of a batch of which these samples are a part: what is added is then the
        gradient of S at that mean, (dS/dq) dq'/dtheta, with the mean q' of these samples.
        """
        parameters = {name: tensor(p, copy=False) for name, p in model.parameters().items()}
        if q is None:
            self.value(model, parameters, positive, sample_weight).backward()
        else:
            slope = self.strength * (q - self.target)
            (self.mean(model, parameters, positive, sample_weight) * slope).sum().backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                gradient[name][...] += parameter.grad
