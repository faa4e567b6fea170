"""Starting points of training."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.backend.array_module import on
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.layers.weights import Weights
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.state import check_data, check_rng, namespace_for
from gpugrad.boltzmann.streaming import Stream, is_streamed
from gpugrad.errors import DataError, ParameterError

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
    missing: str = "error",
) -> None:
    """Fit the visible layer to the data, set hidden ones to their start, draw the weights.

    Where it raises, the machine is as it was before.

    Parameters
    ----------
    model : BoltzmannMachine
        Changed in place.
    data : array (num_samples, num_visible), or a `streaming.Stream`
        What `fit` reads piece by piece is read block by block here; the result is that of an array.
    rng : Generator, optional
    scheme : {"normal", "uniform"}
        "normal": standard deviation `scale`, 0.01 if None. "uniform": in [-scale, scale], with
        4 sqrt(6 / (lower units + upper units)) if None.
    scale : float, optional
    min_probability : float, optional
        Visible means are kept this far from the two states of a unit; half a count, 1/(2n), if
        None.
    missing : {"error", "impute"}
        What NaN in the data is: a fault, or a missing value, in whose place the mean of the
        observed ones is taken. (The variance of Gaussian units comes out smaller by the fraction
        of missing values.)

    Raises
    ------
    DataError
        For data that the visible units cannot take, or a unit without observed values.
    ParameterError
        For an unknown scheme or a setting out of range.
    NoPartitionFunctionError
        With the parameters found the machine would have none.
    """
    check_boltzmann("initialize", model)
    if scheme not in SCHEMES:
        raise ParameterError(f"initialize: scheme is {scheme!r}, expected one of {SCHEMES}")
    if missing not in ("error", "impute"):
        raise ParameterError(f"initialize: missing is {missing!r}, expected 'error' or 'impute'")
    if min_probability is not None and not 0 < min_probability < 0.5:
        raise ParameterError(
            f"initialize: min_probability is {min_probability!r}, expected a number in (0, 0.5)"
        )
    visible: Any = model.layers[0]
    if min_probability is not None and not isinstance(visible, SpinLayer):
        raise ParameterError(
            f"initialize: min_probability is {min_probability!r}, expected None for "
            f"{visible.layer_type} units, which do not have two states"
        )
    generator = default_generator() if rng is None else check_rng("initialize", rng)
    before = visible.sample_size, visible._moment
    parameters = {name: p.copy() for name, p in model.parameters().items()}
    with on(model.device):
        try:
            visible.sample_size = 0
            for rows in _pieces(data, missing):
                visible.online_param_update(check_data(model, rows, function="initialize"))
            if min_probability is not None:
                mean = visible._moment / visible.sample_size
                visible.set_params({"loc": visible.loc_of_mean(mean, min_probability)})
            for layer in model.layers[1:]:
                layer.reset_params()
            for weights in model.weights:
                _draw(weights, generator, scheme, scale)
            model.enforce_constraints(function="initialize")
        except BaseException:
            visible.sample_size, visible._moment = before
            for name, parameter in model.parameters().items():
                parameter[...] = parameters[name]
            raise


def _pieces(data: Any, missing: str) -> Iterator[Any]:
    """The data as one array, or a stream block by block."""
    if (missing == "impute" and isinstance(data, np.ndarray)) or not is_streamed(data):
        yield _completed(data) if missing == "impute" else data
        return
    if missing == "impute":
        raise ParameterError(
            "initialize: missing is 'impute', expected 'error' for data that are read piece by "
            "piece"
        )
    stream = data if isinstance(data, Stream) else Stream(data)
    for start in range(0, stream.shape[0], stream.block):
        yield stream.read(start, min(start + stream.block, stream.shape[0]))


def _completed(data: Any) -> Any:
    """The data with the mean of the observed values of its column in place of each NaN."""
    if not hasattr(data, "dtype") or data.dtype.kind != "f" or data.ndim != 2:
        return data
    xp = namespace_for(data)
    mask = xp.isnan(data)
    observed = xp.sum(~mask, axis=0)
    if not bool(xp.all(observed > 0)):
        unit = int(xp.argmin(observed))
        raise DataError(f"initialize: unit {unit} has no observed value, expected one at least")
    total = xp.sum(xp.where(mask, 0, data), axis=0, dtype="float64")
    return xp.where(mask, (total / observed).astype(data.dtype), data)


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
