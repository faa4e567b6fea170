"""The partition function by summing over all states.

Some layers are listed, state by state; each other one is summed out exactly, given those:

    visible    hidden                    784 x 16: the hidden states are listed
       .         x

    layer 0      1      2      3         deep: every second layer, the cheaper choice
       .         x      .      x

A layer can be summed out if its units are independent given the listed layers, so that of two
neighbours one is listed. Gaussian layers are an exception: any run of them is one normal
distribution, so that a machine of nothing else takes a determinant and no list at all.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, get_array_module, on
from gpugrad.backend.host_threads import over_spans
from gpugrad.boltzmann.layers.gaussian import GaussianLayer
from gpugrad.boltzmann.layers.potts import PottsLayer
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import ParameterError

__all__ = ["MAX_ENUMERATED", "exact_log_partition", "float64_params", "is_enumerable"]

MAX_ENUMERATED = 25
"""Two-valued units up to which all states are listed; other units may have 2^25 states too."""


def exact_log_partition(model: BoltzmannMachine, *, beta: float = 1.0) -> float:
    """log Z by summing over all states of the layers that have fewest, the others summed out.

    In float64, in blocks of bounded memory, two threads on the host.

    Parameters
    ----------
    model : BoltzmannMachine
        Of any number of layers. One of each two neighbours has Bernoulli, Ising, Potts or other
        units of finitely many states, at most 2^25 (25 two-valued units) over all layers that are
        listed; or both are Gaussian.
    beta : float
        Inverse temperature of the whole energy, positive.

    Returns
    -------
    float

    Raises
    ------
    ParameterError
        Layers that cannot be summed over, too many states, or a beta that is not positive.

    Examples
    --------
    >>> from gpugrad.boltzmann.layers import GaussianLayer
    >>> from gpugrad.boltzmann.model import BoltzmannMachine
    >>> from gpugrad.boltzmann.partition import exact_log_partition
    >>> layers = [GaussianLayer(2, device="cpu"), GaussianLayer(1, device="cpu")]
    >>> machine = BoltzmannMachine(layers, device="cpu")
    >>> round(exact_log_partition(machine), 2)  # nearly 3/2 log 2 pi
    2.76
    """
    check_boltzmann("exact_log_partition", model)
    if not (isinstance(beta, int | float | np.floating) and 0 < beta < math.inf):
        raise ParameterError(f"exact_log_partition: beta is {beta!r}, expected a positive number")
    bits, listed = _to_list(model)
    if bits > MAX_ENUMERATED:
        raise ParameterError(f"exact_log_partition: {_why_not(model, bits)}")
    with on(model.device):
        return _Enumeration(model, listed, float(beta)).log_z()


def is_enumerable(model: BoltzmannMachine) -> bool:
    """Whether `exact_log_partition` takes this machine.

    Parameters
    ----------
    model : BoltzmannMachine
    """
    check_boltzmann("is_enumerable", model)
    return _to_list(model)[0] <= MAX_ENUMERATED


def _why_not(model: BoltzmannMachine, bits: float) -> str:
    names = " - ".join(f"{x.num_units} {x.layer_type}" for x in model.layers)
    if bits == math.inf:
        return (
            f"layers are {names}, expected units of finitely many states in one of each two "
            "neighbours, or Gaussian units in both; ais and raise_ estimate log Z"
        )
    return (
        f"layers are {names}, of which 2^{bits:.4g} states would have to be listed, expected at "
        f"most 2^{MAX_ENUMERATED}; ais and raise_ estimate log Z"
    )


# ---- which layers are listed


def _sites(layer: Any) -> tuple[int, int]:
    """Number of sites of a layer and of the states of one; (units, 0) over an interval."""
    if isinstance(layer, PottsLayer):
        return layer.num_sites, layer.num_states
    return layer.num_units, len(layer.support)


def _bits(layer: Any) -> float:
    sites, states = _sites(layer)
    return sites * math.log2(states) if states else math.inf


def _to_list(model: BoltzmannMachine) -> tuple[float, tuple[int, ...]]:
    """The listed layers, chosen to have the fewest states, and the log2 of how many those are."""
    ends: dict[bool, tuple[float, tuple[int, ...]]] = {True: (0.0, ())}  # by: last one listed?
    gaussian = [isinstance(layer, GaussianLayer) for layer in model.layers]
    for i, layer in enumerate(model.layers):
        found: dict[bool, tuple[float, tuple[int, ...]]] = {}
        for last_listed, (bits, listed) in ends.items():
            ways = [(True, (bits + _bits(layer), (*listed, i)))]
            free = last_listed or (gaussian[i] and gaussian[i - 1])
            if free and (gaussian[i] or lateral(model, i) is None):
                ways.append((False, (bits, listed)))
            for end, way in ways:
                if end not in found or way[0] < found[end][0]:
                    found[end] = way
        ends = found
    return min(ends.values(), key=lambda way: way[0])


def lateral(model: BoltzmannMachine, layer: int) -> Any:
    """The couplings inside a layer, float64 (num_units, num_units), or None."""
    found = model.lateral.get(layer)
    return None if found is None else found.J().astype("float64")


def float64_params(params: Any) -> Any:
    """A layer's parameters in double precision."""
    return type(params)(*(p.astype("float64") for p in params))


def _site_rows(layer: Any) -> np.ndarray:
    """States in which one site after the other takes each of its values, the rest the first one.

    (sites, states of a site, num_units)
    """
    sites, states = _sites(layer)
    values = np.eye(states) if isinstance(layer, PottsLayer) else np.array(layer.support)[:, None]
    rows = np.tile(values[0], (sites, states, sites, 1))
    for i in range(sites):
        rows[i, :, i] = values
    return rows.reshape(sites, states, layer.num_units)


# ---- the sum


class _Enumeration:
    """The sum over the states of the listed layers.

    Energies and fields of a state are sums over its sites, up to couplings among listed units. A
    block is all states of the low sites with the high ones fixed: its fields are a table, made
    once, plus one column, and there is no matrix product inside the loop.
    """

    def __init__(self, model: BoltzmannMachine, listed: Sequence[int], beta: float) -> None:
        self.beta = beta
        self.xp = get_array_module(*model.layers[0].params)
        self.layers = model.layers
        self.params = [float64_params(layer.params) for layer in model.layers]
        self.W = [w.W().astype("float64") for w in model.weights]
        self.J = [lateral(model, i) for i in range(model.num_layers)]
        self.summed = [i for i in range(model.num_layers) if i not in listed]
        self.runs = self._runs()
        self._tabulate(listed)

    def _runs(self) -> list["_Normal"]:
        """Gaussian layers that are summed out as one normal distribution."""
        runs: list[list[int]] = []
        for i in self.summed:
            if not isinstance(self.layers[i], GaussianLayer):
                continue
            if runs and runs[-1][-1] == i - 1:
                runs[-1].append(i)
            else:
                runs.append([i])
        joint = [run for run in runs if len(run) > 1 or self.J[run[0]] is not None]
        return [_Normal(self.xp, run, self.params, self.W, self.J) for run in joint]

    def _tabulate(self, listed: Sequence[int]) -> None:
        """Energy, fields and rescaled units of each site in each of its states."""
        xp = self.xp
        sizes = [self.layers[i].num_units for i in listed]
        place = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.states: list[int] = []  # of each site
        self.start_energy = 0.0
        width = int(place[-1])
        self.start_units = xp.zeros(width)
        self.start_fields = {u: xp.zeros(self.layers[u].num_units) for u in self.summed}
        energies, units = [xp.zeros(0)], [xp.zeros((0, width))]
        fields = {u: [xp.zeros((self.layers[u].num_units, 0))] for u in self.summed}
        for i, first, last in zip(listed, place[:-1], place[1:], strict=True):
            layer, params = self.layers[i], self.params[i]
            rows = xp.asarray(_site_rows(layer))
            sites, states, size = rows.shape
            rows = rows.reshape(-1, size)
            ns = namespace_for(rows)
            self.states += [states] * sites
            energy = layer.unit_energy(ns, params, rows)
            scaled = layer.unit_rescale(ns, params, rows)
            self.start_energy += float(energy[0])
            self.start_units[first:last] = scaled[0]
            energies.append(energy - energy[0])
            change = xp.zeros((rows.shape[0], width))
            change[:, first:last] = scaled - scaled[0]
            units.append(change)
            for u in self.summed:
                W = self._coupling(i, u)
                if W is None:
                    fields[u].append(xp.zeros((self.layers[u].num_units, rows.shape[0])))
                    continue
                self.start_fields[u] += xp.matmul(scaled[0], W)
                fields[u].append(xp.matmul(W.T, (scaled - scaled[0]).T))
        self.energies, self.units = xp.concatenate(energies), xp.concatenate(units)
        self.fields = {u: xp.concatenate(parts, axis=1) for u, parts in fields.items()}
        # couplings among listed units: lateral ones, and those of neighbours that are both listed
        self.Q = None
        for a, i in enumerate(listed):
            here = slice(place[a], place[a + 1])
            if self.J[i] is not None:
                self.Q = xp.zeros((width, width)) if self.Q is None else self.Q
                self.Q[here, here] = self.J[i]
            if i + 1 in listed:
                above = slice(place[a + 1], place[a + 2])
                self.Q = xp.zeros((width, width)) if self.Q is None else self.Q
                self.Q[here, above], self.Q[above, here] = self.W[i], self.W[i].T

    def _coupling(self, lower: int, upper: int) -> Any:
        """The matrix from one layer to another, or None where they are no neighbours."""
        if upper == lower + 1:
            return self.W[lower]
        return self.W[upper].T if lower == upper + 1 else None

    def log_z(self) -> float:
        xp = self.xp
        host = xp is np
        values_each = max(1, sum(self.layers[u].num_units for u in self.summed))
        most = max(16, (2**17 if host else 2**24) // values_each)
        n_low, rows = 0, 1
        while n_low < len(self.states) and rows * self.states[n_low] <= most:
            rows *= self.states[n_low]
            n_low += 1
        first = np.concatenate([[0], np.cumsum(self.states)]).astype(int)
        energy, units = xp.full(1, self.start_energy), self.start_units[None, :]
        fields = {u: f[:, None] for u, f in self.start_fields.items()}
        for site in range(n_low):
            here = slice(first[site], first[site + 1])
            energy = (energy[:, None] + self.energies[here]).reshape(-1)
            if self.Q is not None:
                units = (units[:, None, :] + self.units[here]).reshape(-1, units.shape[1])
            for u, table in fields.items():
                n = table.shape[0]
                fields[u] = (table[:, :, None] + self.fields[u][:, None, here]).reshape(n, -1)
        inside = 0.0 if self.Q is None else 0.5 * xp.sum(units * xp.matmul(units, self.Q), axis=1)
        energy = energy - inside
        high = self.states[n_low:]
        n_blocks = math.prod(high)
        largest, total = xp.empty(n_blocks), xp.empty(n_blocks)

        def blocks(start: int, stop: int) -> None:
            scratch = {u: xp.empty_like(table) for u, table in fields.items()}
            for block in range(start, stop):
                columns, rest = [], block
                for site, states in enumerate(high, start=n_low):
                    rest, digit = divmod(rest, states)
                    columns.append(int(first[site]) + digit)
                e = energy + xp.sum(self.energies[columns]) if columns else energy
                if columns and self.Q is not None:
                    y = xp.sum(self.units[columns], axis=0)
                    pull = xp.matmul(self.Q, y)
                    e = e - xp.matmul(units, pull) - 0.5 * xp.sum(y * pull)
                phi = {}
                for u, table in fields.items():
                    column = xp.sum(self.fields[u][:, columns], axis=1, keepdims=True)
                    phi[u] = xp.add(table, column, out=scratch[u])
                log_p = self._summed_out(phi) - self.beta * e
                peak = xp.max(log_p)
                largest[block] = peak
                total[block] = xp.sum(xp.exp(log_p - peak))

        if host:
            over_spans(blocks, n_blocks, values_each=rows * values_each)
        else:
            blocks(0, n_blocks)
        return _log_sum_exp(asnumpy(largest), asnumpy(total))

    def _summed_out(self, phi: dict[int, Any]) -> Any:
        """log of the sum over the other layers in these fields (num_units, rows); overwrites."""
        total: Any = 0.0
        beta = None if self.beta == 1 else self.beta
        joint = {i for run in self.runs for i in run.layers}
        for run in self.runs:
            total = total + run.log_partition(phi, self.beta)
        for u in self.summed:
            if u not in joint:
                ns = namespace_for(phi[u])
                total = total + self.layers[u].sum_log_partition_(ns, self.params[u], phi[u], beta)
        return total


class _Normal:
    """A run of Gaussian layers with fields from outside: one normal distribution.

    With r = x / var the energy is 1/2 (x - loc).(x - loc) / var - 1/2 r.K.r - f.r, K holding the
    couplings inside the run, which is 1/2 x.P.x - b.x + constant with b = (loc + f) / var.
    """

    def __init__(self, xp: Any, layers: Sequence[int], params: Any, W: Any, J: Any) -> None:
        self.xp, self.layers = xp, list(layers)
        loc = xp.concatenate([params[i].loc for i in layers])
        scale = xp.exp(-xp.concatenate([params[i].log_var for i in layers]))
        K = xp.zeros((len(loc), len(loc)))
        first = 0
        for i in layers:
            last = first + len(params[i].loc)
            if J[i] is not None:
                K[first:last, first:last] = J[i]
            if i + 1 in layers:
                end = last + len(params[i + 1].loc)
                K[first:last, last:end], K[last:end, first:last] = W[i], W[i].T
            first = last
        P = xp.diag(scale) - scale[:, None] * K * scale
        self.loc, self.scale = loc, scale
        self.inverse = xp.linalg.inv(P)
        self.constant = 0.5 * float(xp.sum(loc * loc * scale))
        self.log_det = 2 * float(xp.sum(xp.log(xp.diag(xp.linalg.cholesky(P)))))

    def log_partition(self, phi: dict[int, Any], beta: float) -> Any:
        """log of the integral over all units of the run, one value a column of phi."""
        xp = self.xp
        field = xp.concatenate([phi[i] for i in self.layers])
        b = (self.loc[:, None] + field) * self.scale[:, None]
        square = 0.5 * xp.sum(b * xp.matmul(self.inverse, b), axis=0)
        volume = 0.5 * (len(self.loc) * math.log(2 * math.pi / beta) - self.log_det)
        return volume + beta * (square - self.constant)


def _log_sum_exp(log_values: np.ndarray, factors: Any = 1.0) -> float:
    peak = float(np.max(log_values))
    return peak + math.log(float(np.sum(np.exp(log_values - peak) * factors)))
