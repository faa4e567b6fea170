"""The centred machine: a gradient that does not depend on which state of a unit is called 0.

With offsets mu on the visible and lam on the hidden units the energy is written

    E(v, h) = -v.a' - h.b' - (v - mu).W.(h - lam)

and gradient steps are taken in (a', b', W). In ordinary parameters a = a' - W lam and
b = b' - W^T mu, so that such a step reads

    dW = <(v - mu)(h - lam)^T>_data - <...>_model
    da = <v>_data - <v>_model - dW lam          db = <h>_data - <h>_model - dW^T mu

(directions of ascent). Deeper machines have a term of this form for each pair of neighbouring
layers, and lateral couplings -1/2 (s - mu).J.(s - mu); the bias of a layer then loses one product
for each of its couplings. The field on a unit is the same in either form,

    W^T (v - mu) + b' = W^T v + b,

so that the samplers need not know which one is trained. The model keeps the ordinary parameters:
they fix the distribution, and moving the offsets does not touch them. What moves are the centred
biases a', b'.

References
----------
Montavon and Mueller, "Deep Boltzmann machines and the centering trick" (2012).
Melchior, Fischer and Wiskott, "How to center deep Boltzmann machines", JMLR 17 (2016).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gpugrad.boltzmann.layers.unit_layer import add_to_loc, batch_mean
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State, check_visible, namespace_for
from gpugrad.errors import ParameterError

__all__ = ["Centering", "centre_gradient_", "first_offsets"]


def first_offsets(model: BoltzmannMachine, mean: Any) -> list[Any]:
    """Offsets at the data's mean, and at the means of hidden units in zero field.

    Those are 1/2 for Bernoulli units, 0 for Ising units.

    Parameters
    ----------
    model : BoltzmannMachine
    mean : array (num_visible,)
        Of the visible units; its offset is that of the rescaled units, which couplings see.
    """
    xp = namespace_for(mean)
    visible, *hidden = model.layers
    mu = visible.rescale(mean[None])[0]
    return [mu, *(xp.full(x.num_units, x.neutral, dtype=model.dtype) for x in hidden)]


def centre_gradient_(
    model: BoltzmannMachine, gradient: Mapping[str, Any], offsets: Sequence[Any]
) -> None:
    """Turn a plain gradient into the centred one, both in ordinary parameters, in place.

        <(s - mu)(s' - mu')^T> = <s s'^T> - mu <s'>^T - <s> mu'^T + mu mu'^T

    in which the last term drops out of a difference of phases.

    Parameters
    ----------
    model : BoltzmannMachine
        Without lateral couplings.
    gradient : dict of array
        Of the negative log-likelihood alone: penalties come after this.
    offsets : sequence of array (num_units,)
        One a layer.
    """
    xp = namespace_for(*offsets)
    locs = [gradient[f"layers.{i}.loc"] for i in range(model.num_layers)]
    matrices = [gradient[f"weights.{i}.matrix"] for i in range(len(model.weights))]
    # minus the differences of the rescaled units' means
    means = [x.loc_sign * g.reshape(-1) for x, g in zip(model.layers, locs, strict=True)]
    for i, matrix in enumerate(matrices):
        matrix -= offsets[i][:, None] * means[i + 1]
        matrix -= means[i][:, None] * offsets[i + 1]
    for i, matrix in enumerate(matrices):
        add_to_loc(model.layers[i], locs[i], -xp.matmul(matrix, offsets[i + 1]))
        add_to_loc(model.layers[i + 1], locs[i + 1], -xp.matmul(offsets[i], matrix))


class Centering:
    """Offsets of all layers, following the means of the positive phase.

    Parameters
    ----------
    *offsets : array (num_units,)
        One a layer: mu of the visible, lam of the hidden layer (and on, for more layers).
    rate : float
        Part of the way, in [0, 1], that an update moves towards the batch's means.
    """

    def __init__(self, *offsets: Any, rate: float = 0.01) -> None:
        if not 0 <= rate <= 1:
            raise ParameterError(f"Centering: rate is {rate!r}, expected a number in [0, 1]")
        self.offsets = list(offsets)
        self.rate = rate

    @classmethod
    def for_model(cls, model: BoltzmannMachine, data: Any, *, rate: float = 0.01) -> "Centering":
        """Offsets at the data's mean and at those of hidden units in zero field (`first_offsets`).

        Parameters
        ----------
        model : BoltzmannMachine
        data : array (num_samples, num_visible)
            On the model's device.
        rate : float
        """
        check_visible("Centering.for_model", model, data)
        xp = namespace_for(data)
        mean = xp.mean(data, axis=0, dtype="float64").astype(model.dtype)
        return cls(*first_offsets(model, mean), rate=rate)

    @property
    def mu(self) -> Any:
        """Offset of the visible layer."""
        return self.offsets[0]

    @property
    def lam(self) -> Any:
        """Offset of the first hidden layer."""
        return self.offsets[1]

    def update(self, data_state: State, *, sample_weight: Any = None) -> None:
        """Move the offsets towards the means of the positive phase, in place.

        The ordinary parameters of the machine, and with them its distribution, stay as they are.

        Parameters
        ----------
        data_state : State
            The positive phase, in rescaled units (which differ from others for Gaussian ones).
        sample_weight : array (num_samples,), optional
            Weights that add up to 1.
        """
        xp = namespace_for(*data_state)
        for offset, units in zip(self.offsets, data_state, strict=True):
            offset *= 1 - self.rate
            offset += self.rate * batch_mean(xp, units, sample_weight)

    def gradient(
        self,
        model: BoltzmannMachine,
        data_state: State,
        model_state: State,
        *,
        sample_weight: Any = None,
    ) -> Any:
        """The centred gradient of the negative log-likelihood, in ordinary parameters.

        Takes what `BoltzmannMachine.gradient` takes; a step along it is a step along the gradient
        with respect to the centred parameters.
        """
        return model.gradient(
            data_state, model_state, sample_weight=sample_weight, offsets=self.offsets
        )

    def centred_biases(self, model: BoltzmannMachine) -> list[Any]:
        """Biases a', b', ... of the energy written with the present offsets, one array a layer."""
        xp = namespace_for(*self.offsets)
        biases: list[Any] = [layer.params.loc.copy() for layer in model.layers]
        for i, weights in enumerate(model.weights):
            add_to_loc(model.layers[i], biases[i], xp.matmul(weights.W(), self.offsets[i + 1]))
            add_to_loc(model.layers[i + 1], biases[i + 1], xp.matmul(self.offsets[i], weights.W()))
        for i, lateral in model.lateral.items():
            add_to_loc(model.layers[i], biases[i], xp.matmul(self.offsets[i], lateral.J()))
        return biases
