"""The partition function: exact by enumeration, or estimated from both sides by annealing.

Annealing follows the straight path in energy from a base machine without couplings, whose Z is
known, to the machine itself: E_beta = (1 - beta) E_base + beta E. With F_beta(v) the free energy at
a point of the path (hidden units summed out) and v_k the state of a chain after the transition
that keeps exp(-F_k) invariant (of a deep machine v are the states of every second layer, and the
others are summed out),

    D = log Z_0 + sum_k [ F_(k-1)(v_(k-1)) - F_k(v_(k-1)) ]

    ais          v_0 drawn from the base, k = 1 ... K        log Z ~ log mean exp(D)   errs low
    reverse_ais  v_K drawn from the machine, k = K ... 1     log Z ~ -log mean exp(-D) errs high
    raise_       v_K a test sample, k = K ... 1              log Z ~ mean D            errs high

Of an `EnergyMachine` v are the states of all layers and F is E; its base has independent units.

An estimate of log Z that errs low makes the likelihood look better than it is (optimistic), one
that errs high makes it look worse (conservative): quote both.

References
----------
Salakhutdinov and Murray, "On the quantitative analysis of deep belief networks", ICML 2008.
Burda, Grosse and Salakhutdinov, "Accurate and conservative estimates of MRF log-likelihood using
reverse annealing", AISTATS 2015.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.blas_threads import one_blas_thread
from gpugrad.backend.host_threads import over_spans
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.agreement import checksum
from gpugrad.boltzmann.communicator import (
    Communicator,
    Serial,
    check_ranks,
    checksums,
    cut,
    own_shards,
    shards_of,
)
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.partition_energy import check_energies, hidden_given, path_of
from gpugrad.boltzmann.partition_exact import (
    MAX_ENUMERATED,
    exact_log_partition,
    is_enumerable,
)
from gpugrad.boltzmann.partition_likelihood import (
    has_marginal,
    likelihood_bounds,
    log_likelihood,
    log_likelihoods,
)
from gpugrad.boltzmann.partition_path import Progress, kept_layers
from gpugrad.boltzmann.state import (
    State,
    check_data,
    check_rng,
    is_state,
    namespace_for,
    positive_int,
)
from gpugrad.boltzmann.swaps import joint_energy
from gpugrad.errors import DataError, DivergenceError, ParameterError

__all__ = [
    "MAX_ENUMERATED",
    "Estimate",
    "ais",
    "exact_log_partition",
    "has_marginal",
    "is_enumerable",
    "likelihood_bounds",
    "log_likelihood",
    "log_likelihoods",
    "raise_",
    "reverse_ais",
    "temperatures",
]

Machine = BoltzmannMachine | EnergyMachine

GROUP = {"cpu": 256, "cuda": 4096}
"""Chains that are annealed at a time, which bounds the memory. Each group has a stream of random
numbers of its own; on the host two groups run at once, so that one draws while the other
multiplies matrices."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of log Z.

    Attributes
    ----------
    log_z : float
    error : float
        Standard error of log_z from the spread of the chains; it does not see what no chain saw.
    ess : float
        Effective sample size of the chains' weights, between 1 and n_chains.
    n_chains, n_temperatures : int
    method : str
        "ais", "reverse_ais" or "raise".
    log_weights : numpy.ndarray (n_chains,)
        The log Z that each chain alone would give, D of the module's formula.
    """

    log_z: float
    error: float
    ess: float
    n_chains: int
    n_temperatures: int
    method: str
    log_weights: np.ndarray = field(repr=False)

    @property
    def low(self) -> float:
        """log_z less three standard errors."""
        return self.log_z - 3 * self.error

    @property
    def high(self) -> float:
        """log_z plus three standard errors."""
        return self.log_z + 3 * self.error

    @property
    def optimistic(self) -> bool:
        """Whether the likelihood computed with log_z errs high."""
        return self.method == "ais"


# ---- annealing


def temperatures(n: int) -> np.ndarray:
    """n + 1 inverse temperatures from 0 to 1, evenly spaced."""
    return np.linspace(0.0, 1.0, n + 1)


def _check_betas(function: str, n_temperatures: int, betas: Sequence[float] | None) -> list[float]:
    if betas is None:
        betas = temperatures(positive_int(function, "n_temperatures", n_temperatures)).tolist()
    given = np.asarray(betas)
    if given.ndim != 1 or given.dtype.kind not in "iuf":
        raise ParameterError(
            f"{function}: betas are {given.dtype} of shape {given.shape}, expected (points,) real "
            "numbers"
        )
    path = [float(b) for b in given]
    rising = all(before < after for before, after in pairwise(path))
    if len(path) < 2 or path[0] != 0 or path[-1] != 1 or not rising:
        raise ParameterError(f"{function}: betas do not rise from 0 to 1 ({path[:3]} ...)")
    return path


def _annealed(
    function: str,
    model: Machine,
    rng: Generator | None,
    n_temperatures: int,
    betas: Sequence[float] | None,
    base_data: Any,
    n_chains: int,
    progress: Progress | None,
    start: Callable[[Any, slice, Generator], list[Any]] | None,
    samples: Sequence[Any],
    shards: int | None,
    communicator: Communicator | None,
) -> tuple[np.ndarray, int]:
    """D of every chain and the number of temperatures.

    `start` gives the states of the kept layers that some chains go down from, made of the samples,
    in arrays of their own; without it they go up from the base machine.
    """
    shards = shards_of(function, shards, communicator)
    _check_machine(function, model)
    if positive_int(function, "n_chains", n_chains) < 2:
        raise ParameterError(f"{function}: 1 chain, expected at least 2, which an error needs")
    path_betas = _check_betas(function, n_temperatures, betas)
    generator = default_generator() if rng is None else check_rng(function, rng)
    if model.dtype.itemsize < 4:
        # thousands of small differences of free energies add up: half precision would lose nats
        model = model.copy(dtype="float32")
    link: Communicator = Serial() if communicator is None else communicator
    if base_data is not None:
        base_data = check_data(model, base_data, function=function)
    if link.size > 1:
        mine = {
            "chains": n_chains,
            "betas": path_betas,
            "rng": generator.state,
            "parameters": checksums(model.parameters()),
            "data": None if base_data is None else checksum(base_data),
            "samples": [checksum(units) for units in samples],
        }
        check_ranks(link, function, mine)
    groups, own = _groups(n_chains, GROUP[model.device.kind], shards or 1, link)
    with on(model.device):
        path = path_of(function, model, base_data, generator, up=start is None)
    streams = generator.spawn(len(groups))
    found: dict[int, Any] = {}
    watch = _Watch(progress, len(own))

    def run(first: int, last: int) -> None:
        with on(model.device), watch:
            for k in own[first:last]:
                chains = groups[k]
                if start is None:
                    kept = path.start(chains.stop - chains.start, streams[k])
                else:
                    kept = start(model, chains, streams[k])
                # overflow of a broken machine is reported below, by name
                found[k] = path.anneal(
                    kept, path_betas, streams[k], up=start is None, progress=watch.of_group()
                )

    # a user's function is called from one thread
    if model.device.kind == "cpu" and not isinstance(model, EnergyMachine):
        with one_blas_thread():
            over_spans(run, len(own), values_each=n_chains * model.layers[0].num_units)
    else:
        run(0, len(own))
    found = {k: d for of_rank in link.exchange(found) for k, d in of_rank.items()}
    d = np.concatenate([found[k] for k in range(len(groups))])
    _check_weights(function, model, d, up=start is None)
    return d, len(path_betas) - 1


def _check_machine(function: str, model: Any) -> None:
    if not isinstance(model, EnergyMachine):
        check_boltzmann(function, model)


def _check_weights(function: str, model: Machine, d: np.ndarray, *, up: bool) -> None:
    """Raise unless the log-weights are finite; an energy of one's own may forbid some chains."""
    broken = ~np.isfinite(d)
    if up and isinstance(model, EnergyMachine):
        broken &= d != -math.inf
    if broken.any():
        raise DivergenceError(
            f"{function}: {int(np.sum(broken))} of {d.size} chains have weights that are not "
            "finite; are the machine's parameters?"
        )
    if np.all(d == -math.inf):
        raise DivergenceError(
            f"{function}: all {d.size} chains start in states that the energy forbids, expected "
            "more chains, or data for the base machine that can occur"
        )


def _groups(
    n_chains: int, size: int, shards: int, communicator: Communicator
) -> tuple[list[slice], list[int]]:
    """Groups of at most so many chains, each within a shard, and which of them are this rank's."""
    mine = own_shards(shards, communicator.rank, communicator.size)
    groups: list[slice] = []
    own: list[int] = []
    for shard, part in enumerate(cut(n_chains, shards)):
        for first in range(part.start, part.stop, size):
            if shard in mine:
                own.append(len(groups))
            groups.append(slice(first, min(first + size, part.stop)))
    return groups, own


class _Watch:
    """Adds up the progress of all groups; where one of two threads fails, ends the other one."""

    def __init__(self, progress: Progress | None, groups: int) -> None:
        self.progress, self.groups = progress, groups
        self.done, self.failed, self.lock = 0, False, threading.Lock()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.failed = self.failed or kind is not None

    def of_group(self) -> Progress:
        seen = 0

        def report(done: int, total: int) -> None:
            nonlocal seen
            if self.failed:
                raise DivergenceError("annealing: another group of chains has failed")
            with self.lock:
                self.done += done - seen
                seen = done
                if self.progress is not None:
                    self.progress(self.done, self.groups * total)

        return report


def _effective_size(log_weights: np.ndarray) -> float:
    w = np.exp(log_weights - np.max(log_weights))
    return float(np.sum(w) ** 2 / np.sum(w * w))


def _log_mean(log_weights: np.ndarray) -> tuple[float, float]:
    """Log of the mean weight and its standard error by the jackknife."""
    n = log_weights.size
    w = np.exp(log_weights - np.max(log_weights))
    total = float(np.sum(w))
    left = total - w  # without one chain; 0 where that chain was everything
    error = math.inf
    if np.all(left > 1e-12 * total):
        others = np.log(left / (n - 1))
        error = math.sqrt((n - 1) / n * float(np.sum((others - others.mean()) ** 2)))
    return float(np.max(log_weights)) + math.log(total / n), error


def ais(
    model: Machine,
    rng: Generator | None = None,
    *,
    n_temperatures: int = 10_000,
    n_chains: int = 100,
    data: Any = None,
    betas: Sequence[float] | None = None,
    progress: Progress | None = None,
    shards: int | None = None,
    communicator: Communicator | None = None,
) -> Estimate:
    """Annealed importance sampling: an optimistic estimate of log Z.

    The mean weight is unbiased for Z; its logarithm errs low, the likelihood it gives errs high.

    Parameters
    ----------
    model : BoltzmannMachine or EnergyMachine
        Of any units, layers and lateral couplings; of any energy of units of finitely many states,
        inf for states that cannot occur among them. Chains that start in one have weight 0.
    rng : Generator, optional
    n_temperatures : int
        Transitions, evenly spaced in beta.
    n_chains : int
        At least 2. Memory does not grow with them: they are annealed in groups (of 256 on the
        host, 4,096 on a GPU), each with a stream of random numbers of its own.
    data : array (num_samples, num_visible), optional
        The base machine is fitted to these (training) data; without data, to short chains of the
        machine itself. That of an `EnergyMachine` has fair units; with data, visible Bernoulli,
        Ising and Potts units with the means of these.
    betas : sequence of float, optional
        Inverse temperatures, rising from 0 to 1, in place of n_temperatures even ones.
    progress : callable, optional
        progress(done, total), called about a hundred times for each group of chains.
    shards : int, optional
        Cut the chains into so many parts of groups of their own, so that any number of processes
        makes the same estimate; 8 where a communicator is given, else none.
    communicator : Communicator, optional
        The link to other processes, which call this too and take a part of the chains each (see
        `gpugrad.distributed`).

    Returns
    -------
    Estimate

    Raises
    ------
    ParameterError
        Fewer than two chains, betas that do not rise from 0 to 1.
    DivergenceError
        Weights that are not finite.

    Examples
    --------
    >>> from gpugrad.backend.rng import Generator
    >>> from gpugrad.boltzmann.model import RBM
    >>> from gpugrad.boltzmann.partition import ais, exact_log_partition
    >>> machine = RBM(30, 8, rng=Generator(1), device="cpu")
    >>> estimate = ais(machine, Generator(2), n_temperatures=100)
    >>> bool(abs(estimate.log_z - exact_log_partition(machine)) < 0.1)
    True
    """
    how = (n_temperatures, betas, data, n_chains, progress)
    d, n = _annealed("ais", model, rng, *how, None, (), shards, communicator)
    log_z, error = _log_mean(d)
    return Estimate(log_z, error, _effective_size(d), d.size, n, "ais", d)


def raise_(
    model: Machine,
    samples: Any,
    rng: Generator | None = None,
    *,
    n_temperatures: int = 10_000,
    data: Any = None,
    betas: Sequence[float] | None = None,
    progress: Progress | None = None,
    shards: int | None = None,
    communicator: Communicator | None = None,
) -> Estimate:
    """Reverse annealing from test samples (RAISE): a conservative estimate of log Z.

    For each sample v the chain gives a lower bound, in expectation, on the log-probability of v
    under the annealing process itself, -F(v) - D; that process tends to the machine as the number
    of temperatures grows. The D are averaged: with log_z = mean D the mean log-likelihood of the
    samples is RAISE's.

    Of a deep machine the upper layers that the chains hold are drawn from the mean-field
    distribution q given v. Then -F(v, h) - log q(h) - D is the bound, and with log_z = mean D so is
    the mean of `likelihood_bounds`. Hidden units of an `EnergyMachine` are drawn exactly given v,
    by listing their states.

    Parameters
    ----------
    model : BoltzmannMachine or EnergyMachine
        Of any units, layers and lateral couplings; of any finite energy, with at most 2^20 hidden
        states.
    samples : array (n_chains, num_visible)
        Test samples, one chain each; states of the units, no grey values.
    rng, n_temperatures, data, betas, progress, shards, communicator
        As in `ais`.

    Returns
    -------
    Estimate
        `ess` is that of the weights exp(-D).

    Raises
    ------
    ParameterError
        More than 2^20 hidden states of an `EnergyMachine`, or one that forbids states.
    DataError
        Samples of another shape, or that are not states or cannot occur.
    """
    _check_machine("raise_", model)
    v = check_data(model, samples, function="raise_", support=True)

    def start(machine: Machine, group: slice, stream: Generator) -> list[Any]:
        return _given_data(machine, v[group].astype(machine.dtype), stream)

    how = (n_temperatures, betas, data, v.shape[0], progress)
    d, n = _annealed("raise_", model, rng, *how, start, [v], shards, communicator)
    error = float(np.std(d, ddof=1)) / math.sqrt(d.size)
    return Estimate(float(np.mean(d)), error, _effective_size(-d), d.size, n, "raise", d)


def _given_data(model: Machine, v: Any, rng: Generator) -> list[Any]:
    """States of the kept layers: the data, and hidden ones drawn by mean field given them."""
    if isinstance(model, EnergyMachine):
        return hidden_given("raise_", model, v, rng)
    hidden = kept_layers(model)[1:]
    if not hidden:
        return [v]
    means = State(model.mean_field(v, tolerance=0, max_steps=50).units)
    return [v] + [model.layers[i].draw(model.local_field(i, means), rng=rng)[0] for i in hidden]


def reverse_ais(
    model: Machine,
    samples: Any,
    rng: Generator | None = None,
    *,
    n_temperatures: int = 10_000,
    data: Any = None,
    betas: Sequence[float] | None = None,
    progress: Progress | None = None,
    shards: int | None = None,
    communicator: Communicator | None = None,
) -> Estimate:
    """Annealed importance sampling downwards from samples of the machine.

    The mean of exp(-D) is unbiased for 1/Z if the samples are independent and exact; its logarithm
    then makes log Z err high, the likelihood err low. From chains that have not mixed this is no
    bound.

    Parameters
    ----------
    model : BoltzmannMachine or EnergyMachine
        Of any units, layers and lateral couplings; of any finite energy.
    samples : array (n_chains, num_visible) or State
        States drawn from the machine. Visible ones are enough for a machine of two layers, or one;
        a deep machine needs all layers, and so does an `EnergyMachine` of more than one.
    rng, n_temperatures, data, betas, progress, shards, communicator
        As in `ais`.

    Returns
    -------
    Estimate

    Raises
    ------
    ParameterError
        An `EnergyMachine` that forbids states.
    DataError
        Samples of another shape, without the layers that are needed, that are not states or cannot
        occur.
    """
    _check_machine("reverse_ais", model)
    states = _check_samples(model, samples)
    if isinstance(model, EnergyMachine):
        with on(model.device):
            own = State(tuple(units.astype(model.dtype) for units in states))
            check_energies("reverse_ais", joint_energy(model, own))

    def start(machine: Machine, group: slice, stream: Generator) -> list[Any]:
        return [units[group].astype(machine.dtype) for units in states]

    how = (n_temperatures, betas, data, states[0].shape[0], progress)
    d, n = _annealed("reverse_ais", model, rng, *how, start, states, shards, communicator)
    log_inverse, error = _log_mean(-d)
    return Estimate(-log_inverse, error, _effective_size(-d), d.size, n, "reverse_ais", d)


def _check_samples(model: Machine, samples: Any) -> list[Any]:
    """The kept layers of samples of the machine."""
    kept = list(range(model.num_layers)) if isinstance(model, EnergyMachine) else kept_layers(model)
    if not isinstance(samples, State):
        if len(kept) > 1:
            raise DataError(
                f"reverse_ais: samples of the visible units of {model!r}, expected a State of "
                "all its layers"
            )
        return [check_data(model, samples, function="reverse_ais", support=True)]
    expected = [(samples.num_samples, layer.num_units) for layer in model.layers]
    shapes = [tuple(units.shape) for units in samples]
    if shapes != expected:
        raise DataError(f"reverse_ais: samples have shapes {shapes}, expected {expected}")
    check_data(model, samples.visible, function="reverse_ais", support=True)
    states = [to_device(samples[i], model.device) for i in kept]
    for i, units in zip(kept, states, strict=True):
        _check_states(model.layers[i], i, units)
    return states


def _check_states(layer: UnitLayer, i: int, units: Any) -> None:
    """Raise for values between the states: means, as a Gibbs step gives them in `info.expected`."""
    xp = namespace_for(units)
    if layer.support and not bool(xp.all(is_state(xp, units, layer.support))):
        raise DataError(
            f"reverse_ais: layer {i} of the samples has values that are no states of "
            f"{layer.layer_type} units, expected {' and '.join(f'{s:g}' for s in layer.support)}"
        )
