"""Samplers at several inverse temperatures: parallel tempering, and driven Gibbs sampling.

The machine at inverse temperature beta has the energy beta E, biases and couplings alike. A machine
that cannot cross the barriers between its modes can at a smaller beta, and parallel tempering hands
the states down:

    beta = 1      cold chains: the machine itself
      |  exchange
    beta = 0.7
      |  exchange                log r = F_bi(x_i) + F_bj(x_j) - F_bi(x_j) - F_bj(x_i)
    beta = 0.4                   hidden units summed out, then drawn anew at their new beta

F_beta(v) = beta E_visible(v) - sum_j log sum over h_j of exp(-beta E(h_j | v)) is that of the
tempered machine; beta F_1 belongs to another distribution, and exchanges made with it are biased.
Machines whose hidden units cannot be summed out exchange joint states, with F_beta = beta E.

References
----------
Hukushima and Nemoto, "Exchange Monte Carlo method and application to spin glass simulations",
J. Phys. Soc. Jpn. 65 (1996). Desjardins, Courville, Bengio, Vincent and Delalleau, "Tempered Markov
chain Monte Carlo for training of restricted Boltzmann machines", AISTATS 2010.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.blas_threads import one_blas_thread
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.samplers import GibbsInfo, gibbs, multiplications
from gpugrad.boltzmann.state import State, check_layers, check_rng, namespace_for, positive_int
from gpugrad.boltzmann.swaps import (
    SwapInfo,
    accept,
    check_state,
    count_swaps,
    exchange,
    hidden_units_sum_out,
    joint_energy,
    row_energy,
    row_log_partition,
    stored,
    stored_units,
    swap_pairs,
    with_hidden_means,
)
from gpugrad.errors import ParameterError

__all__ = [
    "DrivenGibbs",
    "DrivenState",
    "ParallelTempering",
    "TemperedState",
    "driven_gibbs",
    "parallel_tempering",
]


# ---- parallel tempering


@dataclass(frozen=True, slots=True)
class TemperedState:
    """Ladders of replicas, one replica of each ladder at each inverse temperature.

    A replica keeps its rows; what an exchange moves is its place on the ladder.

    Attributes
    ----------
    units : State
        Replica k of ladder c is row k * n_chains + c.
    replica : array of int (rungs, n_chains)
        The replica that is at each inverse temperature.
    betas : array (rungs,)
        The inverse temperatures, on the device of the units.
    sweeps : int
        Sweeps made so far; they say when the next exchange is due and between which pairs.
    """

    units: State
    replica: Any
    betas: Any
    sweeps: int = 0

    @property
    def cold(self) -> State:
        """The states at inverse temperature 1, (n_chains, ...), copied out."""
        return _rows(self.units, _cold_rows(self.replica))

    def at(self, rung: int) -> State:
        """The states at `betas[rung]`, (n_chains, ...), copied out."""
        return _rows(self.units, _rows_at(self.replica, rung))

    def arrays(self) -> dict[str, Any]:
        """Everything in it as named arrays, for a checkpoint."""
        return {
            **{f"units.{i}": x for i, x in enumerate(self.units)},
            "replica": self.replica,
            "betas": self.betas,
            "sweeps": np.asarray(self.sweeps),
        }

    def with_arrays(self, arrays: Mapping[str, Any]) -> "TemperedState":
        """A state of the same type that holds the arrays that `arrays` returned.

        Raises
        ------
        CheckpointError
            An array is missing or has another number of dimensions.
        """
        return TemperedState(
            stored_units(arrays, self.units),
            stored(arrays, "replica", self.replica),
            stored(arrays, "betas", self.betas),
            int(stored(arrays, "sweeps", np.asarray(self.sweeps))),
        )


def _rows(units: State, rows: Any) -> State:
    # not `take`: it looks whether indices are in range, for which it waits for the device
    return State(tuple(x[rows] for x in units))


def _rows_at(replica: Any, rung: int) -> Any:
    chains = replica.shape[1]
    return replica[rung] * chains + namespace_for(replica).arange(chains)


def _cold_rows(replica: Any) -> Any:
    return _rows_at(replica, -1)


def _check_betas(betas: Any) -> tuple[float, ...]:
    values = np.asarray(betas)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iuf":
        raise ParameterError(
            f"parallel_tempering: betas are {values.dtype} of shape {values.shape}, expected "
            "(rungs,) real numbers"
        )
    numbers = tuple(float(b) for b in values)
    rising = all(low < high for low, high in pairwise(numbers))
    if not rising or not numbers[0] >= 0 or numbers[-1] != 1:
        raise ParameterError(
            f"parallel_tempering: betas are {list(numbers)}, expected numbers that rise from at "
            "least 0 to 1"
        )
    return numbers


@dataclass(frozen=True)
class ParallelTempering:
    """The step that `parallel_tempering` returns; its settings are attributes."""

    betas: tuple[float, ...]
    k: int
    swap_every: int
    donate: bool

    def get_config(self) -> dict[str, Any]:
        """What a run that goes on from a checkpoint must have in common with the first one."""
        return {
            "name": "parallel_tempering",
            "betas": list(self.betas),
            "k": self.k,
            "swap_every": self.swap_every,
        }

    def start(self, rng: Generator, model: BoltzmannMachine, n_chains: int) -> TemperedState:
        """Ladders that start at states drawn as if the units had no neighbours.

        Parameters
        ----------
        rng : Generator
        model : BoltzmannMachine
        n_chains : int
            Ladders, each with one replica at each inverse temperature.
        """
        chains = positive_int("parallel_tempering", "n_chains", n_chains)
        rungs = len(self.betas)
        with on(model.device):
            units = model.random_state(rungs * chains, rng=rng)
            replica = np.repeat(np.arange(rungs)[:, None], chains, axis=1)
            betas = np.array(self.betas, dtype=model.dtype)
            place = model.device
            return TemperedState(units, to_device(replica, place), to_device(betas, place))

    def __call__(
        self, rng: Generator, model: BoltzmannMachine, state: TemperedState
    ) -> tuple[TemperedState, SwapInfo]:
        """k sweeps of all replicas, with exchanges; `state, info = step(rng, model, state)`."""
        check_state("parallel_tempering", state, TemperedState)
        rungs, chains = state.replica.shape
        if rungs != len(self.betas) or state.units.num_samples != rungs * chains:
            raise ParameterError(
                f"parallel_tempering: the state has {rungs} rungs of {chains} chains in "
                f"{state.units.num_samples} rows, expected {len(self.betas)} rungs"
            )
        check_rng("parallel_tempering", rng)
        check_layers("parallel_tempering", model, state.units)
        if self.betas[0] == 0 and any(layer.growth != "bounded" for layer in model.layers):
            raise ParameterError(
                f"parallel_tempering: betas start at 0, where {model!r} cannot be normalised; "
                "expected positive numbers"
            )
        with on(model.device):
            xp = namespace_for(state.replica)
            ladder = _Ladder(
                rng, state, xp.zeros(rungs - 1, dtype="float64"), np.zeros(rungs - 1, np.int64)
            )
            sweeps = self._summed_out if hidden_units_sum_out(model) else self._joint
            with one_blas_thread(multiplications(model, rungs * chains, self.k)):
                units, expected = sweeps(rng, model, ladder, state)
        new = replace(state, units=units, replica=ladder.replica, sweeps=state.sweeps + self.k)
        return new, SwapInfo(expected, ladder.accepted, ladder.tried, ladder.replica)

    def _due(self, sweeps: int) -> bool:
        return sweeps % self.swap_every == 0

    def _summed_out(
        self, rng: Generator, model: BoltzmannMachine, ladder: "_Ladder", state: TemperedState
    ) -> tuple[State, State]:
        """Sweeps h -> v -> h; visible states are exchanged before h is drawn.

        The field of the visible units serves the exchange and the draw of h after it, so that a
        sweep with an exchange has the same two products as one without.
        """
        visible, hidden = model.layers
        v, h = state.units
        mine = self.donate
        beta = ladder.beta()
        for sweep in range(state.sweeps + 1, state.sweeps + self.k + 1):
            field = model.field(0, State((None, h)), out=v if mine else None)
            v = visible.draw(field, beta, rng=rng, out=field)[0]
            phi = model.field(1, State((v, None)), out=h if mine else None)
            mine = True
            if self._due(sweep) and ladder.has_pairs(sweep // self.swap_every):
                partner = ladder.partner_beta()
                own, other = row_log_partition(hidden, hidden.params, phi, (beta, partner))
                slope = (beta - partner)[:, 0] * row_energy(visible, v)
                ladder.swap(slope + (other - own))
                beta = ladder.beta()
            if sweep == state.sweeps + self.k:
                rows = _cold_rows(ladder.replica)
                cold = phi[rows]
                mean = hidden.draw(cold, sample=False, mean=True, out=cold)[1]
                expected = State((v[rows], mean))
            h = hidden.draw(phi, beta, rng=rng, out=phi)[0]
        return State((v, h)), expected

    def _joint(
        self, rng: Generator, model: BoltzmannMachine, ladder: "_Ladder", state: TemperedState
    ) -> tuple[State, State]:
        """Gibbs sweeps of all layers, and exchanges of joint states."""
        units, sweeps, end = state.units, state.sweeps, state.sweeps + self.k
        donate = self.donate
        while sweeps < end:
            n = min(end - sweeps, self.swap_every - sweeps % self.swap_every)
            beta = ladder.beta()
            units, _ = gibbs(n, beta=beta, donate=donate)(rng, model, units)
            sweeps, donate = sweeps + n, True
            if self._due(sweeps) and ladder.has_pairs(sweeps // self.swap_every):
                ladder.swap((beta - ladder.partner_beta())[:, 0] * joint_energy(model, units))
        cold = _rows(units, _cold_rows(ladder.replica))
        return units, with_hidden_means(model, cold)


class _Ladder:
    """The places of the replicas while a step moves them."""

    def __init__(self, rng: Generator, state: TemperedState, accepted: Any, tried: Any) -> None:
        self.rng, self.replica, self.betas = rng, state.replica, state.betas
        self.accepted, self.tried = accepted, tried
        self.xp = namespace_for(state.replica)
        self.first = self.pairs = 0

    def has_pairs(self, number: int) -> bool:
        """Choose the pairs of this round; False if there are none."""
        self.first, self.pairs = swap_pairs(self.betas.shape[0], number)
        return self.pairs > 0

    def _by_row(self, by_rung: Any) -> Any:
        # the inverse of the permutation: the rung of each replica
        rung = self.xp.argsort(self.replica, axis=0)
        return by_rung[rung.reshape(-1)][:, None]

    def beta(self) -> Any:
        """Inverse temperature of each row, (rows, 1)."""
        return self._by_row(self.betas)

    def partner_beta(self) -> Any:
        """That of the row's partner in this round; its own where it has none."""
        partner, first, last = self.betas.copy(), self.first, self.first + 2 * self.pairs
        partner[first:last:2] = self.betas[first + 1 : last : 2]
        partner[first + 1 : last : 2] = self.betas[first:last:2]
        return self._by_row(partner)

    def swap(self, gain: Any) -> None:
        """Exchange places, given F_own - F_partner of each row (rows,)."""
        gain = gain.astype("float64", copy=False).reshape(self.replica.shape)
        here = slice(self.first, self.first + 2 * self.pairs)
        gain = gain[self.replica[here], self.xp.arange(gain.shape[1])]
        accepted, probability = accept(self.rng, gain)
        self.replica = exchange(self.replica, accepted, self.first)
        count_swaps(self.accepted, self.tried, probability, self.first)


def parallel_tempering(
    betas: Sequence[float], *, k: int = 1, swap_every: int = 1, donate: bool = False
) -> ParallelTempering:
    """Gibbs sampling at several inverse temperatures at once, with exchanges between neighbours.

    Parameters
    ----------
    betas : sequence of float (rungs,)
        Inverse temperatures, rising from at least 0 to 1. 0 is for bounded units only.
    k : int
        Sweeps a step makes.
    swap_every : int
        Sweeps from one round of exchanges to the next, across steps.
    donate : bool
        Write the new samples over the arrays of the state that is passed in; the caller then uses
        the returned state only.

    Returns
    -------
    step : ParallelTempering
        `state = step.start(rng, model, n_chains)`, then `state, info = step(rng, model, state)`
        with a `TemperedState` and a `SwapInfo`. All replicas are rows of one array a layer: a half
        step is one matrix product, whatever the number of temperatures.

    Raises
    ------
    ParameterError
        betas of another shape, not rising or not ending at 1; k or swap_every below 1.

    Examples
    --------
    >>> from gpugrad.backend.rng import Generator
    >>> from gpugrad.boltzmann import RBM, parallel_tempering
    >>> rng, machine = Generator(0), RBM(6, 3, rng=Generator(0), device="cpu")
    >>> step = parallel_tempering([0.3, 0.6, 1.0], k=10, swap_every=2)
    >>> state = step.start(rng, machine, n_chains=50)
    >>> state, info = step(rng, machine, state)
    >>> state.cold.visible.shape, info.expected.hidden.shape
    ((50, 6), (50, 3))
    >>> info.tried.tolist()  # five rounds of 50 exchanges, even and odd pairs in turn
    [100, 150]
    """
    return ParallelTempering(
        _check_betas(betas),
        positive_int("parallel_tempering", "k", k),
        positive_int("parallel_tempering", "swap_every", swap_every),
        bool(donate),
    )


# ---- driven Gibbs sampling


@dataclass(frozen=True, slots=True)
class DrivenState:
    """Chains, and what drives the inverse temperature of each.

    Attributes
    ----------
    units : State
    drive : array (n_chains, 1)
        Standard normal; log beta = s drive - s^2 / 2 with s^2 = log(1 + std^2).
    """

    units: State
    drive: Any

    @property
    def cold(self) -> State:
        """The chains' states."""
        return self.units

    def arrays(self) -> dict[str, Any]:
        """Everything in it as named arrays, for a checkpoint."""
        return {**{f"units.{i}": x for i, x in enumerate(self.units)}, "drive": self.drive}

    def with_arrays(self, arrays: Mapping[str, Any]) -> "DrivenState":
        """A state of the same type that holds the arrays that `arrays` returned."""
        return DrivenState(stored_units(arrays, self.units), stored(arrays, "drive", self.drive))


@dataclass(frozen=True)
class DrivenGibbs:
    """The step that `driven_gibbs` returns; its settings are attributes."""

    k: int
    std: float
    momentum: float
    donate: bool

    def get_config(self) -> dict[str, Any]:
        """What a run that goes on from a checkpoint must have in common with the first one."""
        return {
            "name": "driven_gibbs",
            "k": self.k,
            "std": self.std,
            "momentum": self.momentum,
        }

    def start(self, rng: Generator, model: BoltzmannMachine, n_chains: int) -> DrivenState:
        """Chains that start at states drawn as if the units had no neighbours."""
        chains = positive_int("driven_gibbs", "n_chains", n_chains)
        with on(model.device):
            units = model.random_state(chains, rng=rng)
            drive = rng.normal((chains, 1), "float64", device=model.device)
            return DrivenState(units, drive.astype(model.dtype))

    def beta(self, drive: Any) -> Any:
        """The inverse temperatures that belong to a drive, (n_chains, 1)."""
        variance = math.log1p(self.std**2)
        return namespace_for(drive).exp(math.sqrt(variance) * drive - variance / 2)

    def __call__(
        self, rng: Generator, model: BoltzmannMachine, state: DrivenState
    ) -> tuple[DrivenState, GibbsInfo]:
        """k sweeps, each at new inverse temperatures; `state, info = step(rng, model, state)`."""
        check_state("driven_gibbs", state, DrivenState)
        units, drive, donate = state.units, state.drive, self.donate
        innovation = math.sqrt(1 - self.momentum**2)
        with on(model.device):
            for _ in range(self.k):
                noise = rng.normal(tuple(drive.shape), "float64", device=model.device)
                drive = self.momentum * drive + innovation * noise.astype(drive.dtype)
                units, _ = gibbs(1, beta=self.beta(drive), donate=donate)(rng, model, units)
                donate = True
            return DrivenState(units, drive), GibbsInfo(with_hidden_means(model, units))


def driven_gibbs(
    k: int = 1, *, std: float = 0.2, momentum: float = 0.9, donate: bool = False
) -> DrivenGibbs:
    """Gibbs sampling while the inverse temperature of each chain fluctuates around 1.

    log beta follows a stationary autoregression of first order, so that beta is positive and
    log-normal with mean 1; spells of small beta carry the chain over barriers. The chain's
    distribution is a mixture close to, and a little broader than, the machine's: a bias that falls
    with std^2, which training takes for faster mixing. `parallel_tempering` has none.

    Parameters
    ----------
    k : int
        Sweeps a step makes.
    std : float
        Standard deviation of beta, at least 0; 0 is plain Gibbs sampling.
    momentum : float
        Correlation of log beta from one sweep to the next, in [0, 1).
    donate : bool
        Write the new samples over the arrays of the state that is passed in.

    Returns
    -------
    step : DrivenGibbs
        `state = step.start(rng, model, n_chains)`, then `state, info = step(rng, model, state)`.
        `info.expected` has the hidden means at beta = 1.

    Raises
    ------
    ParameterError
        k below 1, a negative std, a momentum outside [0, 1).
    """
    if not 0 <= std < math.inf:
        raise ParameterError(f"driven_gibbs: std is {std!r}, expected a number of at least 0")
    if not 0 <= momentum < 1:
        raise ParameterError(f"driven_gibbs: momentum is {momentum!r}, expected one in [0, 1)")
    return DrivenGibbs(positive_int("driven_gibbs", "k", k), float(std), float(momentum), donate)
