"""Starting points of training."""

import math
from typing import Any

from gpugrad.backend.array_module import on
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.layers.weights import Weights
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import check_data, namespace_for
from gpugrad.errors import ParameterError

__all__ = ["SCHEMES", "initialize"]

SCHEMES = ("normal", "uniform")


def initialize(
    model: BoltzmannMachine,
    data: Any,
    rng: Generator | None = None,
    *,
    scheme: str = "normal",
    scale: float | None = None,
    min_probability: float | None = None,
) -> None:
    """Fit the visible layer to the data, set hidden fields to zero, draw the weights.

    Parameters
    ----------
    model : BoltzmannMachine
        Changed in place.
    data : array (num_samples, num_visible)
    rng : Generator, optional
    scheme : {"normal", "uniform"}
        "normal": standard deviation `scale`, 0.01 if None. "uniform": in [-scale, scale], with
        4 sqrt(6 / (lower units + upper units)) if None.
    scale : float, optional
    min_probability : float, optional
        Visible means are kept this far from the two states of a unit; half a count, 1/(2n), if
        None.

    Raises
    ------
    DataError
        For data that the visible units cannot take.
    ParameterError
        For an unknown scheme or a setting out of range.
    """
    if scheme not in SCHEMES:
        raise ParameterError(f"initialize: scheme is {scheme!r}, expected one of {SCHEMES}")
    if min_probability is not None and not 0 < min_probability < 0.5:
        raise ParameterError(
            f"initialize: min_probability is {min_probability!r}, expected a number in (0, 0.5)"
        )
    generator = default_generator() if rng is None else rng
    with on(model.device):
        v = check_data(model, data, function="initialize")
        visible: Any = model.layers[0]
        visible.sample_size = 0
        visible.online_param_update(v)
        if min_probability is not None:
            mean = namespace_for(v).mean(v, axis=0, dtype="float64")
            visible.set_params({"loc": visible.loc_of_mean(mean, min_probability)})
        for layer in model.layers[1:]:
            for parameter in layer.params:
                parameter[...] = 0
        for weights in model.weights:
            _draw(weights, generator, scheme, scale)
    model.enforce_constraints()


def _draw(weights: Weights, rng: Generator, scheme: str, scale: float | None) -> None:
    # on the host, so that one seed starts the same machine on every device
    if scheme == "normal":
        drawn = rng.normal(
            weights.shape, "float64", std=0.01 if scale is None else scale, device="cpu"
        )
    else:
        bound = 4 * math.sqrt(6 / sum(weights.shape)) if scale is None else scale
        drawn = rng.uniform(weights.shape, "float64", low=-bound, high=bound, device="cpu")
    weights.set_params({"matrix": drawn})
