"""The log-likelihood of data, given log Z: exact, or bounded from below for deep machines."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, on
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.state import State, check_data, log_z_number, positive_int
from gpugrad.errors import ParameterError

__all__ = [
    "has_marginal",
    "likelihood_bounds",
    "log_likelihood",
    "log_likelihoods",
]

_ROWS = 2048
"""Samples in a block, so that the float64 copies of the data and of the fields stay small."""


def has_marginal(model: BoltzmannMachine) -> bool:
    """Whether the hidden units can be summed out exactly: one hidden layer, uncoupled, or none.

    Parameters
    ----------
    model : BoltzmannMachine
    """
    return model.num_layers == 1 or (model.num_layers == 2 and 1 not in model.lateral)


def log_likelihoods(model: BoltzmannMachine | EnergyMachine, data: Any, log_z: Any) -> np.ndarray:
    """log p(v) = -F(v) - log Z of each sample, in nats, as float64 on the host.

    Of continuous units it is a density.

    Parameters
    ----------
    model : BoltzmannMachine or EnergyMachine
        Of one or two layers; no lateral couplings among hidden units. An `EnergyMachine` has at
        most 2^20 hidden states.
    data : array (num_samples, num_visible)
        States of the units; grey values have no probability.
    log_z : float or Estimate

    Returns
    -------
    numpy.ndarray (num_samples,)

    Raises
    ------
    ParameterError
        A machine whose hidden units cannot be summed out, a log Z that is not finite.
    DataError
        Wrong width, NaN, or values that are not states of the units.
    """
    if isinstance(model, EnergyMachine):
        return model.log_likelihoods(data, log_z_number("log_likelihood", log_z))
    check_boltzmann("log_likelihood", model)
    if not has_marginal(model):
        raise ParameterError(
            f"log_likelihood: the machine has {model.num_layers} layers"
            + (" and lateral couplings among hidden units" if model.num_layers == 2 else "")
            + ", so that the hidden units cannot be summed out; likelihood_bounds gives lower "
            "bounds"
        )
    free_energies = _by_blocks(
        "log_likelihood", model, data, lambda machine, v: machine.marginal_free_energy(v)
    )
    return -free_energies - log_z_number("log_likelihood", log_z)


def log_likelihood(model: BoltzmannMachine | EnergyMachine, data: Any, log_z: Any) -> float:
    """Mean log-likelihood of data in nats a sample; takes what `log_likelihoods` takes."""
    return float(np.mean(log_likelihoods(model, data, log_z)))


def likelihood_bounds(
    model: BoltzmannMachine, data: Any, log_z: Any, *, max_steps: int = 50
) -> np.ndarray:
    """Lower bounds on log p(v) of each sample, in nats, by mean field.

    For independent hidden units q(h | v), log p(v) >= -<E(v, h)>_q + entropy(q) - log Z, whatever q
    is; mean field looks for the best one. With a log Z that errs high, as RAISE's, it stays a lower
    bound; with one by AIS it may err either way. Where the hidden units can be summed out the bound
    is exact, `log_likelihoods`.

    Parameters
    ----------
    model : BoltzmannMachine
        Of any number of layers.
    data : array (num_samples, num_visible)
        States of the units.
    log_z : float or Estimate
    max_steps : int
        Updates of all means; convergence is not needed for a bound.

    Returns
    -------
    numpy.ndarray (num_samples,)
        float64, on the host.

    Raises
    ------
    DataError
        Wrong width, NaN, or values that are not states of the units.

    References
    ----------
    Salakhutdinov and Hinton, "Deep Boltzmann machines", AISTATS 2009, section 3.3.
    """
    check_boltzmann("likelihood_bounds", model)
    positive_int("likelihood_bounds", "max_steps", max_steps)
    if has_marginal(model):
        return log_likelihoods(model, data, log_z)

    def bound(machine: BoltzmannMachine, v: Any) -> Any:
        state = machine.mean_field(v, tolerance=0, max_steps=max_steps)
        return machine.variational_bound(State(state.units))

    return _by_blocks("likelihood_bounds", model, data, bound) - log_z_number(
        "log_likelihood", log_z
    )


def _by_blocks(
    function: str,
    model: BoltzmannMachine,
    data: Any,
    values: Callable[[BoltzmannMachine, Any], Any],
) -> np.ndarray:
    """`values(model in float64, rows in float64)` of all the data, block after block."""
    v = check_data(model, data, function=function, support=True)
    with on(model.device):
        double = model.copy(dtype="float64")
        blocks = [v[i : i + _ROWS].astype("float64") for i in range(0, v.shape[0], _ROWS)]
        return np.concatenate([asnumpy(values(double, rows)) for rows in blocks])
