"""Figures to watch while training: pseudo-likelihood and reconstruction error.

Both wait for the device and return Python floats: call them once in a while, not in each update.
"""

import math
from typing import Any

import numpy as np

from gpugrad.backend import special  # noqa: F401 (it makes the word logsumexp)
from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.lateral import unit_size
from gpugrad.boltzmann.layers.energy_layer import EnergyLayer
from gpugrad.boltzmann.layers.potts import PottsLayer
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.state import State, check_data, check_rng, namespace_for
from gpugrad.errors import ParameterError

__all__ = [
    "fair_pseudo_likelihood",
    "has_pseudo_likelihood",
    "pseudo_likelihood",
    "reconstruction_error",
    "training_figures",
]

EXACT_UP_TO = 2**24
"""Samples x visible x hidden units up to which every unit of every sample is flipped."""


def has_pseudo_likelihood(model: BoltzmannMachine) -> bool:
    """Whether `pseudo_likelihood` takes this machine.

    Parameters
    ----------
    model : BoltzmannMachine
    """
    layer = model.layers[0]
    known = isinstance(layer, SpinLayer | PottsLayer | EnergyLayer)
    return known and bool(layer.support) and model.num_layers <= 2 and 1 not in model.lateral


def fair_pseudo_likelihood(model: BoltzmannMachine) -> float:
    """The pseudo-likelihood of a machine in which all states of a unit are equally probable."""
    layer: Any = model.layers[0]
    states = getattr(layer, "num_states", len(layer.support))
    return -(layer.num_units // unit_size(layer)) * math.log(states)


def pseudo_likelihood(
    model: BoltzmannMachine, data: Any, rng: Generator | None = None, *, method: str = "auto"
) -> float:
    """Mean over samples of sum_i log p(v_i | all other visible units), in nats.

    The units are those of the visible layer, sites in a layer of Potts units.

    Parameters
    ----------
    model : BoltzmannMachine
        Of one or two layers, with visible units of finitely many states, which may be coupled to
        each other; no couplings among hidden units.
    data : array (num_samples, num_visible)
        Grey values are probabilities (of Ising units means): states are drawn from them first.
    rng : Generator, optional
    method : {"auto", "exact", "stochastic"}
        "exact" changes every unit; "stochastic" changes one random unit a sample and multiplies by
        the number of units, an unbiased estimate; "auto" is exact up to 2^24 samples x visible x
        hidden units, and of one layer.

    Returns
    -------
    float

    Raises
    ------
    ParameterError
        Other units, more layers, couplings among hidden units, or an unknown method.
    DataError
        Data that the units cannot take.

    References
    ----------
    Besag, "Statistical analysis of non-lattice data", The Statistician 24 (1975).
    """
    if method not in ("auto", "exact", "stochastic"):
        raise ParameterError(
            f"pseudo_likelihood: method is {method!r}, expected 'auto', 'exact' or 'stochastic'"
        )
    check_boltzmann("pseudo_likelihood", model)
    model._summable("pseudo_likelihood")
    if not has_pseudo_likelihood(model):
        raise ParameterError(
            f"pseudo_likelihood: visible units are {model.layers[0].layer_type}, expected units of "
            "finitely many states"
        )
    generator = default_generator() if rng is None else check_rng("pseudo_likelihood", rng)
    with on(model.device):
        units = _Changes(model, data, generator)
        n, sites = units.number.shape
        if method == "auto":
            hidden = model.layers[1].num_units if model.num_layers == 2 else 0
            exact = n * model.layers[0].num_units * hidden <= EXACT_UP_TO
            method = "exact" if exact else "stochastic"
        if method == "stochastic":
            i = to_device(generator.integers(0, sites, (n,), device="cpu"), model.device)
            return sites * float(units.log_conditional(i).mean())
        return float(sum(units.log_conditional(i).mean() for i in range(sites)))


class _Changes:
    """Samples of the visible units, and what changing one unit of each does to -F(v)."""

    def __init__(self, model: BoltzmannMachine, data: Any, rng: Generator) -> None:
        layer: Any = model.layers[0]
        # means of users' units do not say which states they are the mean of
        drawn = isinstance(layer, SpinLayer | PottsLayer)
        v = check_data(model, data, function="pseudo_likelihood", support=not drawn)
        xp = self.xp = namespace_for(v)
        self.potts = isinstance(layer, PottsLayer)
        if self.potts:
            grid = v.reshape(v.shape[0], layer.num_sites, layer.num_states)
            bounds = xp.cumsum(grid.astype("float64"), axis=2)
            u = rng.uniform(grid.shape[:2], "float64", device=model.device)[:, :, None]
            # the last bound is left out: rounding in the sum cannot lead beyond the last state
            self.number = xp.sum(u * bounds[:, :, -1:] >= bounds[:, :, :-1], axis=2)
            v = layer.one_hot(self.number)
            self.energies = -layer.params.loc
        else:
            values = to_device(np.array(layer.support, dtype=str(v.dtype)), model.device)
            if isinstance(layer, SpinLayer):
                low, high = layer.support
                v = low + (high - low) * rng.bernoulli((v - low) / (high - low))
                self.energies = -layer.params.loc[:, None] * values
            else:
                grid = layer.unit_energies(xp, layer.params, values[:, None, None])
                self.energies = grid[:, 0].T
            self.number = xp.sum(v[:, :, None] > values[:-1], axis=2)
            self.values = values
        self.states = self.energies.shape[1]
        self.rows = xp.arange(v.shape[0])
        self.J_field = model.lateral[0].field(v) if 0 in model.lateral else None
        self.hidden: Any = None
        if model.num_layers == 2:
            self.hidden, self.W = model.layers[1], model.weights[0].W()
            self.phi = xp.matmul(v, self.W)
            self.log_z = self._log_partition(self.phi)

    def _log_partition(self, phi: Any) -> Any:
        log_z = self.hidden.unit_log_partition(self.xp, self.hidden.params, phi)
        return self.xp.sum(log_z, axis=1, dtype="float64")

    def log_conditional(self, i: Any) -> Any:
        """log p(v_i | rest) = -log sum over states of exp(F(v) - F(v with it)), (num_samples,).

        `i` is one unit, or one for each sample.
        """
        xp, now = self.xp, self.number[self.rows, i]
        gains = [xp.zeros(now.shape, dtype="float64")]
        for k in range(1, self.states):
            new = (now + k) % self.states
            gain = (self.energies[i, now] - self.energies[i, new]).astype("float64")
            if self.potts:
                column, old = i * self.states + new, i * self.states + now
                if self.J_field is not None:
                    gain += self.J_field[self.rows, column] - self.J_field[self.rows, old]
                step = None if self.hidden is None else self.W[column] - self.W[old]
            else:
                change = self.values[new] - self.values[now]
                if self.J_field is not None:
                    gain += change * self.J_field[self.rows, i]
                step = None if self.hidden is None else change[:, None] * self.W[i]
            if step is not None:
                gain += self._log_partition(self.phi + step) - self.log_z
            gains.append(gain)
        return -xp.logsumexp(xp.stack(gains), axis=0)


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
    check_boltzmann("reconstruction_error", model)
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
        "pseudo_likelihood" for one or two layers with visible units of finitely many states,
        "reconstruction_error" for two layers or more without lateral couplings of visible units.
    """
    found: dict[str, float] = {}
    if not isinstance(model, BoltzmannMachine):
        return found  # a user's energy
    if has_pseudo_likelihood(model):
        found["pseudo_likelihood"] = pseudo_likelihood(model, data, rng.split("pseudo-likelihood"))
    if model.num_layers > 1 and 0 not in model.lateral:
        found["reconstruction_error"] = reconstruction_error(
            model, data, rng.split("reconstruction")
        )
    return found
