"""Sums over all states of a machine of a user's own energy: log Z, likelihoods, free energies."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpugrad.backend import special  # noqa: F401 (it makes the word logsumexp)
from gpugrad.backend.array_module import asnumpy, get_array_module, on, to_device
from gpugrad.boltzmann.lateral import unit_size
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.state import (
    State,
    check_data,
    check_visible,
    log_z_number,
    namespace_for,
)
from gpugrad.errors import ParameterError

__all__ = ["BLOCK_ROWS", "MAX_STATES", "StateSums"]

MAX_STATES = 2**20
"""Joint states up to which they are listed."""

BLOCK_ROWS = 2**14
"""Rows of states that the energy is asked for at a time when states are listed."""


class StateSums:
    """The part of an `EnergyMachine` that lists states; the machine gives what stands first."""

    layers: list[UnitLayer]
    num_layers: Any
    dtype: Any
    device: Any

    def energy(self, state: State, parameters: Mapping[str, Any] | None = None) -> Any:
        """Energy of joint states, (num_samples,)."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        raise NotImplementedError

    # ---- energies, summed

    def free_energy(self, v: Any, parameters: Mapping[str, Any] | None = None) -> Any:
        """-log sum over hidden states of exp(-E(v, h)), (num_samples,), by listing them all.

        Parameters
        ----------
        v : array (num_samples, num_visible)
        parameters : dict of array or Tensor, optional

        Raises
        ------
        ParameterError
            More than 2^20 hidden states.
        """
        check_visible("free_energy", self, v)
        if self.num_layers == 1:
            return self.energy(State((v,)), parameters)
        e = self.hidden_energies("free_energy", v, parameters)[1]
        return -namespace_for(e).logsumexp(-e, axis=1)

    def hidden_energies(
        self, function: str, v: Any, parameters: Mapping[str, Any] | None = None
    ) -> tuple[list[Any], Any]:
        """All joint states of the hidden layers, and the energies of samples with each of them.

        Parameters
        ----------
        function : str
            The name that an error carries.
        v : array (num_samples, num_visible)
        parameters : dict of array or Tensor, optional

        Returns
        -------
        hidden : list of array (states, num_units), one a hidden layer
        energies : array or Tensor (num_samples, states)
        """
        xp = get_array_module(v)
        n, count = v.shape[0], self.check_hidden_states(function)
        hidden = [h.astype(v.dtype) for h in self._decoded(range(1, self.num_layers), 0, count)]
        rows = [xp.repeat(v, count, axis=0), *(xp.tile(h, (n, 1)) for h in hidden)]
        return hidden, self.energy(State(tuple(rows)), parameters).reshape(n, count)

    def hidden_states(self) -> int:
        """Number of joint states of all hidden layers."""
        return self._count(range(1, self.num_layers))

    def visible_states(self) -> int:
        """Number of states of the visible layer."""
        return self._count([0])

    def check_hidden_states(self, function: str) -> int:
        """Number of joint states of all hidden layers, or a ParameterError beyond 2^20."""
        return self._listable(function, range(1, self.num_layers))

    def wide_parameters(self) -> dict[str, Any]:
        """The parameters by name, in float64."""
        return {name: p.astype("float64") for name, p in self.parameters().items()}

    def log_partition(self) -> float:
        """log Z by the sum over all joint states, in float64.

        Raises
        ------
        ParameterError
            More than 2^20 joint states.
        """
        wide, layers, found = self.wide_parameters(), range(self.num_layers), []
        count = self._listable("log_partition", layers)
        with on(self.device):
            for start in range(0, count, BLOCK_ROWS):
                units = self._decoded(layers, start, min(start + BLOCK_ROWS, count))
                e = self.energy(State(tuple(units)), wide)
                found.append(float(namespace_for(e).logsumexp(-e, axis=0)))
        return float(np.logaddexp.reduce(found))

    def log_likelihoods(self, data: Any, log_z: Any = None) -> np.ndarray:
        """log p(v) = -F(v) - log Z of each sample, in nats, as float64 on the host.

        Parameters
        ----------
        data : array_like (num_samples, num_visible)
            States of the units.
        log_z : float or Estimate, optional
            `log_partition()` if None, the sum over all states.

        Raises
        ------
        ParameterError
            More than 2^20 hidden states, or joint states where no log Z is given; a log Z that is
            not finite.
        DataError
            Wrong width, NaN, or values that are not states of the units.
        """
        data = check_data(self, data, function="log_likelihoods", support=True)
        self.check_hidden_states("log_likelihoods")
        if log_z is None:
            log_z = self.log_partition()
        log_z, wide = log_z_number("log_likelihoods", log_z), self.wide_parameters()
        step = max(1, BLOCK_ROWS // self.hidden_states())
        with on(self.device):
            found = [
                -asnumpy(self.free_energy(data[i : i + step].astype("float64"), wide))
                for i in range(0, len(data), step)
            ]
        return np.concatenate(found) - log_z

    # ---- lists of states

    def _sites(self, i: int) -> int:
        return self.layers[i].num_units // unit_size(self.layers[i])

    def _states(self, i: int) -> int:
        width = unit_size(self.layers[i])
        return width if width > 1 else len(self.layers[i].support)

    def _choices(self, i: int, site: int) -> tuple[slice, Any]:
        """The columns of a unit, and the values that it puts there in each of its states."""
        layer = self.layers[i]
        width = unit_size(layer)
        values = np.eye(width) if width > 1 else np.array(layer.support)[:, None]
        columns = slice(site * width, (site + 1) * width)
        return columns, to_device(values.astype(self.dtype), self.device)

    def _count(self, layers: Sequence[int]) -> int:
        return math.prod(self._states(i) ** self._sites(i) for i in layers)

    def _listable(self, function: str, layers: Sequence[int]) -> int:
        """Number of joint states of these layers, or a ParameterError beyond 2^20."""
        count = self._count(layers)
        if count > MAX_STATES:
            raise ParameterError(
                f"{function}: {self!r} has 2^{math.log2(count):.4g} states to list, expected at "
                f"most 2^{math.log2(MAX_STATES):g}"
            )
        return count

    def _decoded(self, layers: Sequence[int], start: int, stop: int) -> list[Any]:
        """States number `start` to `stop` of these layers, in float64, one array a layer.

        The last unit runs fastest.
        """
        number, found = np.arange(start, stop), []
        for i in reversed(layers):
            q, sites = self._states(i), self._sites(i)
            digits = number[:, None] // q ** np.arange(sites)[::-1] % q
            number = number // q**sites
            values = asnumpy(self._choices(i, 0)[1]).astype("float64")[digits]
            found.append(to_device(values.reshape(stop - start, -1), self.device))
        return found[::-1]
