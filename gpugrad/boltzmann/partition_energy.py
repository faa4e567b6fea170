"""The straight path in energy from independent units to a machine of a user's own energy.

    E_beta = (1 - beta) E_0 + beta E

E_0 is the energy of units without couplings: of visible Bernoulli, Ising and Potts units with the
means of the data, where data are given; all other units are in each of their states alike. Chains
hold the states of all layers. A transition is a Gibbs sweep at E_beta, unit by unit or layer by
layer as the machine itself is drawn; downwards in the opposite order, so that RAISE bounds the
likelihood of the very process that AIS runs.

A state of infinite energy cannot occur. A chain upwards that starts in one has weight 0. Downwards
none ever comes to one, so that what they hold of Z_0 would be missing: machines that have such
states are refused there.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.energy_sums import BLOCK_ROWS
from gpugrad.boltzmann.layers.potts import PottsLayer
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.partition_exact import float64_params
from gpugrad.boltzmann.partition_path import AnnealingPath, Progress, fitted_params
from gpugrad.boltzmann.state import State, namespace_for
from gpugrad.errors import DataError, ParameterError

__all__ = ["EnergyPath", "check_energies", "hidden_given", "path_of"]

PROBED = 1000
"""States of the base machine that are looked at for infinite energies before chains go down. Where
none has one, they hold less than 1.4 % of Z_0, but for one machine in a million."""


def path_of(
    function: str, model: Any, data: Any, rng: Generator, *, up: bool
) -> "EnergyPath | AnnealingPath":
    """The path between a base machine and this one.

    Parameters
    ----------
    function : str
        The name that an error carries.
    model : BoltzmannMachine or EnergyMachine
    data : array (num_samples, num_visible), optional
        What the base is fitted to.
    rng : Generator
    up : bool
        Whether chains go from the base to the machine.

    Raises
    ------
    ParameterError
        Chains are to go down from an energy that forbids states.
    """
    if not isinstance(model, EnergyMachine):
        return AnnealingPath(model, data, rng)
    path = EnergyPath(model, data)
    if not up:
        energies = model.energy(State(tuple(path.start(PROBED, rng))))
        forbidden = int((energies == math.inf).sum())
        if forbidden:
            raise ParameterError(
                f"{function}: the energy of {forbidden} of {PROBED} states of independent units is "
                "inf, expected finite ones, as no chain downwards comes to the others; ais takes "
                "such machines"
            )
    return path


def check_energies(function: str, energies: Any) -> None:
    """Raise a DataError for samples of infinite energy, (num_samples,): they cannot occur."""
    forbidden = int((energies == math.inf).sum())
    if forbidden:
        raise DataError(
            f"{function}: the energy of {forbidden} of {len(energies)} samples is inf, expected "
            "samples that can occur"
        )


def hidden_given(function: str, model: EnergyMachine, v: Any, rng: Generator) -> list[Any]:
    """States of all layers, hidden ones drawn exactly given the visible ones, by listing them.

    Parameters
    ----------
    function : str
        The name that an error carries.
    model : EnergyMachine
    v : array (num_samples, num_visible)
    rng : Generator

    Returns
    -------
    list of array (num_samples, num_units)

    Raises
    ------
    ParameterError
        More than 2^20 hidden states.
    DataError
        A sample that cannot occur.
    """
    if model.num_layers == 1:
        check_energies(function, model.energy(State((v,))))
        return [v]
    xp = namespace_for(v)
    u = rng.uniform((v.shape[0],), "float64", device=device_of(v))
    step = max(1, BLOCK_ROWS // model.check_hidden_states(function))
    found = []
    for rows in (slice(i, i + step) for i in range(0, v.shape[0], step)):
        hidden, e = model.hidden_energies(function, v[rows].astype("float64"))
        lowest = xp.min(e, axis=1, keepdims=True)
        check_energies(function, lowest[:, 0])
        cumulated = xp.cumsum(xp.exp(lowest - e), axis=1)
        # the last bound is left out: rounding in the sum cannot lead beyond the last state
        below = u[rows, None] * cumulated[:, -1:] >= cumulated[:, :-1]
        picked = xp.sum(below, axis=1)
        found.append([units[picked].astype(v.dtype) for units in hidden])
    return [v, *(xp.concatenate(layer) for layer in zip(*found, strict=True))]


class EnergyPath:
    """The machines between independent units and a machine of a user's own energy.

    Parameters
    ----------
    model : EnergyMachine
    data : array (num_samples, num_visible), optional
        What visible Bernoulli, Ising and Potts units of the base are fitted to.

    Attributes
    ----------
    base : namedtuple or None
        Parameters of the visible layer of the base; None where all states are alike.
    log_z : float
        log Z of the base.
    """

    def __init__(self, model: EnergyMachine, data: Any = None) -> None:
        visible: Any = model.layers[0]
        self.model, self.base = model, None
        hidden = math.log(model.hidden_states())
        self.log_z = hidden + math.log(model.visible_states())
        if data is not None and isinstance(visible, SpinLayer | PottsLayer):
            self.base = fitted_params(visible, data)
            xp, params = namespace_for(data), float64_params(self.base)
            zero = xp.zeros((1, visible.num_units), dtype="float64")
            log_z = visible.unit_log_partition(xp, params, zero)
            self.log_z = hidden + float(xp.sum(log_z))

    def start(self, n: int, rng: Generator) -> list[Any]:
        """n states of all layers of the base."""
        state = self.model.random_state(n, rng=rng)
        if self.base is not None:
            zero = namespace_for(state.visible).zeros_like(state.visible)
            layer = self.model.layers[0]
            drawn = layer.draw(zero, rng=rng, out=zero, params=self.base)[0]
            state = state.replace(0, drawn)
        return list(state)

    def _base_energy(self, xp: Any, visible: Any) -> Any:
        if self.base is None:
            return 0.0
        return self.model.layers[0].unit_energy(xp, self.base, visible)

    def at(self, beta: float) -> EnergyMachine:
        """The machine at a point of the path, 0 < beta <= 1."""
        own: Callable[..., Any] = self.model.energy_function

        def bridge(xp: Any, params: Any, *units: Any) -> Any:
            base = self._base_energy(xp, units[0])
            return beta * own(xp, params, *units) + (1 - beta) * base

        return self.model.with_energy(bridge)

    def _slope(self, state: State) -> Any:
        """Fall of the energy along the path, E_0 - E, (n,), in float64."""
        energy = self.model.energy(state)
        base = self._base_energy(namespace_for(energy), state.visible)
        return (base - energy).astype("float64")

    def anneal(
        self,
        kept: list[Any],
        betas: Sequence[float],
        rng: Generator,
        *,
        up: bool,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """D of every chain as from `AnnealingPath.anneal`; -inf of one upwards that cannot occur.

        `kept` are the states of all layers, arrays (n, num_units), and not overwritten.
        """
        state, steps = State(tuple(kept)), list(pairwise(betas))
        total = namespace_for(*kept).full(state.num_samples, self.log_z, dtype="float64")
        report = max(1, len(steps) // 100)
        for i, (before, after) in enumerate(steps if up else reversed(steps)):
            machine = self.at(after)
            if up:
                total += (after - before) * self._slope(state)
                state = machine.gibbs_sweep(rng, state, masks={})
            else:
                state = machine.gibbs_sweep(rng, state, masks={}, backwards=True)
                total += (after - before) * self._slope(state)
            if progress is not None and (i + 1) % report == 0:
                progress(i + 1, len(steps))
        return asnumpy(total)
