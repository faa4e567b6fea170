"""Derivatives of a machine's energy, and the gradient of the likelihood that two phases give.

The functions behind `BoltzmannMachine.derivatives` and `.gradient`, for machines of any depth, with
lateral couplings or without.
"""

import operator
from collections.abc import Sequence
from typing import Any

from gpugrad.backend.array_module import get_array_module
from gpugrad.boltzmann.gradient_util import Gradient, grad_mapzip_
from gpugrad.boltzmann.layers.layer import Layer, ParamsLayer
from gpugrad.boltzmann.layers.unit_layer import add_to_loc
from gpugrad.boltzmann.state import State, check_layers, check_sample_weight
from gpugrad.errors import ParameterError

__all__ = ["derivatives", "finished", "gradient", "phase"]


def derivatives(model: Any, state: State, *, sample_weight: Any = None) -> Any:
    """Derivatives of the energy averaged over the batch; see `BoltzmannMachine.derivatives`."""
    check_layers("derivatives", model, state)
    check_sample_weight("derivatives", sample_weight, state.num_samples)
    scaled = _rescaled(model, state)
    return Gradient(
        _of_layers(model, state, sample_weight),
        [
            w.derivatives(scaled[i], scaled[i + 1], sample_weight=sample_weight)
            for i, w in enumerate(model.weights)
        ],
        _of_lateral(model, scaled, sample_weight),
    )


def gradient(
    model: Any,
    data_state: State,
    model_state: State,
    *,
    sample_weight: Any = None,
    offsets: Sequence[Any] | None = None,
) -> Any:
    """derivatives(data) - derivatives(model) + penalties; see `BoltzmannMachine.gradient`."""
    check_layers("gradient", model, data_state)
    check_layers("gradient", model, model_state)
    check_sample_weight("gradient", sample_weight, data_state.num_samples)
    if offsets is not None:
        shapes = [tuple(o.shape) for o in offsets]
        expected = [(x.num_units,) for x in model.layers]
        if shapes != expected:
            raise ParameterError(f"gradient: offsets have shapes {shapes}, expected {expected}")
    found = phase(model, data_state, positive=True, sample_weight=sample_weight, offsets=offsets)
    free = phase(model, model_state, positive=False, offsets=offsets)
    grad_mapzip_(operator.isub, found, free)
    return finished(model, found, offsets)


def phase(
    model: Any,
    state: State,
    *,
    positive: bool,
    sample_weight: Any = None,
    offsets: Sequence[Any] | None = None,
) -> Any:
    """What one phase gives to a gradient: `finished` makes one of the difference of two.

    Parameters
    ----------
    model : BoltzmannMachine
    state : State
    positive : bool
        Whether this is the positive phase, which gives all hidden layers as means.
    sample_weight : array (num_samples,), optional
        Weights that add up to 1, in place of equal ones.
    offsets : sequence of array (num_units,), optional
        Subtracted from the rescaled units, which the couplings see.

    Returns
    -------
    Gradient
    """
    scaled = _rescaled(model, state)
    if offsets is not None:
        # centring the small arrays costs less than rank-one updates of the matrix
        scaled = [units - o for units, o in zip(scaled, offsets, strict=True)]
    return Gradient(
        _of_layers(model, state, sample_weight, _averaged(model, 1 if positive else 2)),
        [
            w.derivatives(scaled[i], scaled[i + 1], sample_weight=sample_weight)
            for i, w in enumerate(model.weights)
        ],
        _of_lateral(model, scaled, sample_weight),
    )


def finished(model: Any, difference: Any, offsets: Sequence[Any] | None = None) -> Any:
    """The gradient in ordinary parameters, with penalties, from the difference of two phases.

    Parameters
    ----------
    model : BoltzmannMachine
    difference : Gradient
        Positive less negative phase; its arrays are overwritten.
    offsets : sequence of array (num_units,), optional
        Those that were subtracted in both phases.

    Returns
    -------
    Gradient
    """
    if offsets is not None:
        _uncentre_(model, difference.layers, difference.weights, difference.lateral, offsets)
    return Gradient(
        [_penalised(x, d) for x, d in zip(model.layers, difference.layers, strict=True)],
        [_penalised(w, d) for w, d in zip(model.weights, difference.weights, strict=True)],
        [_penalised(model.lateral.get(i), d) for i, d in enumerate(difference.lateral)],
    )


def _rescaled(model: Any, state: State) -> list[Any]:
    return [x.rescale(units) for x, units in zip(model.layers, state, strict=True)]


def _averaged(model: Any, step: int) -> range | list[int]:
    """Layers whose states a phase gives as means, which for some types of units do not suffice.

    With step 1 all hidden layers, the positive phase; with step 2 the odd ones, the negative phase,
    where layers with lateral couplings are samples.
    """
    found = range(1, model.num_layers, step)
    return found if step == 1 else [i for i in found if i not in model.lateral]


def _of_layers(
    model: Any, state: State, sample_weight: Any, averaged: Sequence[int] = ()
) -> list[Any]:
    found = []
    for i, x in enumerate(model.layers):
        neighbours = model.connected(i, state)
        if i in averaged and not x.means_suffice:
            found.append(x.expected_derivatives(*neighbours, sample_weight=sample_weight))
        else:
            found.append(x.derivatives(state[i], *neighbours, sample_weight=sample_weight))
    return found


def _of_lateral(model: Any, scaled: Sequence[Any], sample_weight: Any) -> list[Any]:
    """One entry a layer, of no arrays where it has no lateral couplings; [] without any."""
    if not model.lateral:
        return []
    return [
        model.lateral[i].derivatives(units, sample_weight=sample_weight)
        if i in model.lateral
        else ParamsLayer()
        for i, units in enumerate(scaled)
    ]


def _uncentre_(model: Any, layers: Any, weights: Any, lateral: Any, offsets: Any) -> None:
    """Steps of the centred biases to those of the ordinary ones, whose couplings step along."""
    for i, (matrix,) in enumerate(weights):
        xp = get_array_module(matrix)
        add_to_loc(model.layers[i], layers[i].loc, -xp.matmul(matrix, offsets[i + 1]))
        add_to_loc(model.layers[i + 1], layers[i + 1].loc, -xp.matmul(offsets[i], matrix))
    for i in model.lateral:
        matrix = lateral[i].matrix
        step = -get_array_module(matrix).matmul(offsets[i], matrix)
        add_to_loc(model.layers[i], layers[i].loc, step)


def _penalised(part: Layer | None, deriv: Any) -> Any:
    if part is None or not part.penalties:
        return deriv
    return type(deriv)(
        **{name: part.get_penalty_grad(d, name) for name, d in deriv._asdict().items()}
    )
