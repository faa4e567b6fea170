"""Derivatives of a machine's energy, and the gradient of the likelihood that two phases give.

The functions behind `BoltzmannMachine.derivatives` and `.gradient`, for machines of any depth, with
lateral couplings or without.
"""

from collections.abc import Sequence
from typing import Any

from gpugrad.backend.array_module import get_array_module
from gpugrad.boltzmann.gradient_util import Gradient
from gpugrad.boltzmann.layers.layer import Layer, ParamsLayer
from gpugrad.boltzmann.layers.unit_layer import add_to_loc
from gpugrad.boltzmann.state import State, check_layers, check_sample_weight
from gpugrad.errors import ParameterError

__all__ = ["derivatives", "gradient"]


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
    layers = [
        _difference(first, second)
        for first, second in zip(
            _of_layers(model, data_state, sample_weight, _averaged(model, 1)),
            _of_layers(model, model_state, None, _averaged(model, 2)),
            strict=True,
        )
    ]
    data, free = _rescaled(model, data_state), _rescaled(model, model_state)
    if offsets is not None:
        # centring the small arrays costs less than rank-one updates of the matrix
        data = [units - o for units, o in zip(data, offsets, strict=True)]
        free = [units - o for units, o in zip(free, offsets, strict=True)]
    weights = [
        _difference(
            w.derivatives(data[i], data[i + 1], sample_weight=sample_weight),
            w.derivatives(free[i], free[i + 1]),
        )
        for i, w in enumerate(model.weights)
    ]
    lateral = [
        _difference(first, second)
        for first, second in zip(
            _of_lateral(model, data, sample_weight), _of_lateral(model, free, None), strict=True
        )
    ]
    if offsets is not None:
        _uncentre_(model, layers, weights, lateral, offsets)
    return Gradient(
        [_penalised(x, d) for x, d in zip(model.layers, layers, strict=True)],
        [_penalised(w, d) for w, d in zip(model.weights, weights, strict=True)],
        [_penalised(model.lateral.get(i), d) for i, d in enumerate(lateral)],
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


def _difference(first: Any, second: Any) -> Any:
    """first - second, written into the arrays of `first`."""
    for a, b in zip(first, second, strict=True):
        a -= b
    return first


def _penalised(part: Layer | None, deriv: Any) -> Any:
    if part is None or not part.penalties:
        return deriv
    return type(deriv)(
        **{name: part.get_penalty_grad(d, name) for name, d in deriv._asdict().items()}
    )
