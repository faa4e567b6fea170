"""Figures to watch while training: pseudo-likelihood and reconstruction error.

Both wait for the device and return Python floats: call them once in a while, not in each update.
"""

from typing import Any

from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State, check_data, namespace_for
from gpugrad.errors import ParameterError

__all__ = ["pseudo_likelihood", "reconstruction_error", "training_figures"]

EXACT_UP_TO = 2**24
"""Samples x visible x hidden units up to which every unit of every sample is flipped."""


def _states(model: BoltzmannMachine, data: Any, rng: Generator, function: str) -> Any:
    """The data as states of the units: grey values are drawn, states stay as they are."""
    v = check_data(model, data, function=function)
    if not isinstance(model.layers[0], SpinLayer):
        raise ParameterError(
            f"{function}: visible units are {model.layers[0].layer_type}, expected two-valued ones"
        )
    low, high = model.layers[0].data_range
    probability = (v - low) / (high - low)
    return low + (high - low) * rng.bernoulli(probability)


def pseudo_likelihood(
    model: BoltzmannMachine, data: Any, rng: Generator | None = None, *, method: str = "auto"
) -> float:
    """Mean over samples of sum_i log p(v_i | all other visible units), in nats.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two layers, with two-valued visible units.
    data : array (num_samples, num_visible)
        Grey values are probabilities: states are drawn from them first.
    rng : Generator, optional
    method : {"auto", "exact", "stochastic"}
        "exact" flips every unit; "stochastic" flips one random unit a sample and multiplies by the
        number of units, an unbiased estimate; "auto" is exact up to 2^24 samples x visible x
        hidden units.

    Returns
    -------
    float
    """
    if method not in ("auto", "exact", "stochastic"):
        raise ParameterError(
            f"pseudo_likelihood: method is {method!r}, expected 'auto', 'exact' or 'stochastic'"
        )
    model._two_layers("pseudo_likelihood")
    generator = default_generator() if rng is None else rng
    visible, hidden = model.layers
    with on(model.device):
        v = _states(model, data, generator, "pseudo_likelihood")
        xp = namespace_for(v)
        n, width = v.shape
        if method == "auto":
            exact = n * width * hidden.num_units <= EXACT_UP_TO
            method = "exact" if exact else "stochastic"
        W, loc = model.weights[0].W(), visible.params.loc
        phi = xp.matmul(visible.rescale(v), W)
        log_z = xp.sum(_hidden_log_z(xp, hidden, phi), axis=1, dtype="float64")
        # the flipped unit goes to the other state, s0 + s1 - s
        low, high = visible.support
        change = (low + high) - 2 * v

        def log_conditional(i: Any, delta: Any, row: Any) -> Any:
            """log p(v_i | rest) = -softplus(F(v) - F(v with i flipped)), one value a sample."""
            flipped = _hidden_log_z(xp, hidden, phi + delta[:, None] * row)
            gain = xp.sum(flipped, axis=1, dtype="float64") - log_z + delta * loc[i]
            return -xp.softplus(gain)

        if method == "stochastic":
            i = to_device(generator.integers(0, width, (n,), device="cpu"), model.device)
            delta = change[xp.arange(n), i]
            return width * float(xp.mean(log_conditional(i, delta, W[i])))
        total = sum(xp.mean(log_conditional(i, change[:, i], W[i])) for i in range(width))
        return float(total)


def _hidden_log_z(xp: Any, hidden: Any, phi: Any) -> Any:
    return hidden.unit_log_partition(xp, hidden.params, phi)


def reconstruction_error(model: BoltzmannMachine, data: Any, rng: Generator | None = None) -> float:
    """Mean squared difference between the data and their reconstruction.

    With two layers hidden units are drawn given the data, with more they are at their mean-field
    means; the reconstruction is the mean of the visible units given them. The mean runs over
    samples and units.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two or more layers; the visible units without lateral couplings.
    data : array (num_samples, num_visible)
    rng : Generator, optional

    Returns
    -------
    float
    """
    if model.num_layers == 1:
        raise ParameterError(
            f"reconstruction_error: {model!r} has no hidden units, expected two or more layers"
        )
    with on(model.device):
        v = check_data(model, data, function="reconstruction_error")
        xp = namespace_for(v)
        if model.num_layers == 2 and not model.lateral:
            state = State((None, model.conditional_sample(1, State((v, None)), rng=rng)))
        else:
            state = State(model.mean_field(v, tolerance=0, max_steps=10).units)
        mean = model.conditional_mean(0, state)
        return float(xp.mean((v - mean) ** 2, dtype="float64"))


def training_figures(model: BoltzmannMachine, data: Any, rng: Generator) -> dict[str, float]:
    """What the log of training says of a machine: of the figures above those that it has.

    Parameters
    ----------
    model : BoltzmannMachine
    data : array (num_samples, num_visible)
    rng : Generator
        Of its key alone depends what is drawn: the same flips each time, so that what changes in
        the figures is the machine.

    Returns
    -------
    dict of float
        "pseudo_likelihood" for two layers with two-valued visible units, "reconstruction_error"
        for two layers or more without lateral couplings of visible units.
    """
    found = {}
    if model.num_layers == 2 and not model.lateral and isinstance(model.layers[0], SpinLayer):
        found["pseudo_likelihood"] = pseudo_likelihood(model, data, rng.split("pseudo-likelihood"))
    if model.num_layers > 1 and 0 not in model.lateral:
        found["reconstruction_error"] = reconstruction_error(
            model, data, rng.split("reconstruction")
        )
    return found
