"""The partition function: exact by enumeration, or estimated from both sides by annealing.

Annealing follows the straight path in energy from a base machine without couplings, whose Z is
known, to the machine itself: E_beta = (1 - beta) E_base + beta E. With F_beta(v) the free energy at
a point of the path (hidden units summed out) and v_k the state of a chain after the transition
that keeps exp(-F_k) invariant,

    D = log Z_0 + sum_k [ F_(k-1)(v_(k-1)) - F_k(v_(k-1)) ]

    ais          v_0 drawn from the base, k = 1 ... K        log Z ~ log mean exp(D)   errs low
    reverse_ais  v_K drawn from the machine, k = K ... 1     log Z ~ -log mean exp(-D) errs high
    raise_       v_K a test sample, k = K ... 1              log Z ~ mean D            errs high

An estimate of log Z that errs low makes the likelihood look better than it is (optimistic), one
that errs high makes it look worse (conservative): quote both.

References
----------
Salakhutdinov and Murray, "On the quantitative analysis of deep belief networks", ICML 2008.
Burda, Grosse and Salakhutdinov, "Accurate and conservative estimates of MRF log-likelihood using
reverse annealing", AISTATS 2015.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, get_array_module, on
from gpugrad.backend.host_threads import over_spans
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import check_data, namespace_for, positive_int
from gpugrad.errors import DivergenceError, ParameterError

__all__ = [
    "Estimate",
    "ais",
    "exact_log_partition",
    "log_likelihood",
    "log_likelihoods",
    "raise_",
    "reverse_ais",
    "temperatures",
]

MAX_ENUMERATED = 25
"""Units of the smaller side up to which all states are enumerated."""

Progress = Callable[[int, int], None]


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


# ---- exact


def exact_log_partition(model: BoltzmannMachine, *, beta: float = 1.0) -> float:
    """log Z by summing over all states of the smaller layer, the other summed out.

    In float64, in blocks of bounded memory, two threads on the host.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two layers, the smaller one of at most 25 two-valued units.
    beta : float
        Inverse temperature of the whole energy.

    Raises
    ------
    ParameterError
        More than two layers, or more than 25 units on either side.
    """
    model._two_layers("exact_log_partition")
    visible, hidden = model.layers
    if min(visible.num_units, hidden.num_units) > MAX_ENUMERATED:
        raise ParameterError(
            f"exact_log_partition: {visible.num_units} visible and {hidden.num_units} hidden "
            f"units, expected at most {MAX_ENUMERATED} on one side; ais and raise_ estimate log Z"
        )
    xp = get_array_module(model.weights[0].W())
    with on(model.device):
        matrix = model.weights[0].W().astype("float64")
        if hidden.num_units <= visible.num_units:
            listed, summed = hidden, visible
        else:
            listed, summed, matrix = visible, hidden, matrix.T
        return _enumerate(xp, listed, summed, xp.ascontiguousarray(matrix), beta)


def _enumerate(xp: Any, listed: Any, summed: Any, matrix: Any, beta: float) -> float:
    """log Z; `matrix` is (units of `summed`, units of `listed`), both of two-valued `listed`."""
    low_value, high_value = listed.support
    params, bias = _float64(summed.params), _float64(listed.params)
    n = listed.num_units
    # A block is all states of the low units with the high ones fixed. Its fields are a table,
    # made once, plus one column: no matrix product inside the loop.
    host = xp is np
    values = 2**17 if host else 2**24
    n_low = min(n, max(4, int(math.log2(max(1, values // summed.num_units)))))
    n_high = n - n_low

    def states(first: int, stop: int, bits: int) -> Any:
        index = xp.arange(first, stop)[:, None] >> xp.arange(bits)[None, :]
        return low_value + (high_value - low_value) * (index & 1).astype("float64")

    low = states(0, 2**n_low, n_low)
    table = xp.matmul(matrix[:, :n_low], low.T)
    low_params = type(bias)(*(p[:n_low] for p in bias))
    high_params = type(bias)(*(p[n_low:] for p in bias))
    ns = namespace_for(table)
    low_energy = listed.unit_energy(ns, low_params, low)
    largest = xp.empty(2**n_high, dtype="float64")
    total = xp.empty(2**n_high, dtype="float64")

    def blocks(first: int, stop: int) -> None:
        scratch = xp.empty_like(table)
        for block in range(first, stop):
            high = states(block, block + 1, n_high)
            phi = xp.add(table, xp.matmul(matrix[:, n_low:], high.T), out=scratch)
            log_p = summed.sum_log_partition_(ns, params, phi, None if beta == 1 else beta)
            log_p -= beta * (low_energy + listed.unit_energy(ns, high_params, high))
            peak = xp.max(log_p)
            largest[block] = peak
            total[block] = xp.sum(xp.exp(log_p - peak))

    if host:
        over_spans(blocks, 2**n_high, values_each=table.size)
    else:
        blocks(0, 2**n_high)
    return _log_sum_exp(asnumpy(largest), asnumpy(total))


def _float64(params: Any) -> Any:
    return type(params)(*(p.astype("float64") for p in params))


def _log_sum_exp(log_values: np.ndarray, factors: Any = 1.0) -> float:
    peak = float(np.max(log_values))
    return peak + math.log(float(np.sum(np.exp(log_values - peak) * factors)))


# ---- annealing


def temperatures(n: int) -> np.ndarray:
    """n + 1 inverse temperatures from 0 to 1, evenly spaced."""
    return np.linspace(0.0, 1.0, n + 1)


class _Path:
    """The machines between a base machine without couplings and the model."""

    def __init__(self, model: BoltzmannMachine, data: Any, rng: Generator) -> None:
        self.model = model
        self.visible, self.hidden = model.layers
        self.W, self.W_T = model.weights[0].W(), model.weights[0].W_T()
        self.ns = namespace_for(self.W)
        if data is None:
            # no data given: the base takes the means of the machine's own short chains
            state, _ = gibbs(100)(rng, model, model.random_state(200, rng=rng))
            data = state.visible
        base = type(self.visible)(
            self.visible.num_units, dtype=self.visible.dtype, device=model.device
        )
        base.online_param_update(data)
        self.base_visible = base.params
        self.base_hidden = type(self.hidden.params)(
            *(self.ns.zeros_like(p) for p in self.hidden.params)
        )
        self.base_hidden_log_z = self._free_log_z(self.hidden, self.base_hidden)
        self.log_z = self._free_log_z(self.visible, self.base_visible) + self.base_hidden_log_z

    def _free_log_z(self, layer: Any, params: Any) -> float:
        params = _float64(params)
        zero = self.ns.zeros_like(params[0])
        return float(self.ns.sum(layer.unit_log_partition(self.ns, params, zero)))

    def start(self, n: int, rng: Generator) -> Any:
        """n visible states of the base machine."""
        zero = get_array_module(self.W).zeros((n, self.visible.num_units), dtype=self.W.dtype)
        return self.visible.draw(zero, rng=rng, out=zero, params=self.base_visible)[0]

    def fields(self, v: Any, out: Any) -> Any:
        return self.ns.matmul(self.visible.rescale(v), self.W, out=out)

    def hidden_log_z(self, phi: Any, beta: float) -> Any:
        """log of the sum over hidden states at a point of the path, (n,), in float64."""
        if beta == 0:
            return self.base_hidden_log_z
        params = self.hidden.bridge(self.base_hidden, beta)
        log_z = self.hidden.unit_log_partition(self.ns, params, phi, beta)
        return self.ns.sum(log_z, axis=1, dtype="float64")

    def change(self, v: Any, phi: Any, before: float, after: float) -> Any:
        """F_before(v) - F_after(v), (n,), where phi are the fields of v on the hidden units."""
        slope = self.visible.unit_energy(self.ns, self.base_visible, v) - self.visible.unit_energy(
            self.ns, self.visible.params, v
        )
        hidden = self.hidden_log_z(phi, after) - self.hidden_log_z(phi, before)
        return hidden + (after - before) * slope.astype("float64")

    def move(self, v: Any, phi: Any, beta: float, rng: Generator) -> Any:
        """A Gibbs transition at beta, written over v and phi (which end as v' and rubbish)."""
        h = self.hidden.draw(
            phi, beta, rng=rng, out=phi, params=self.hidden.bridge(self.base_hidden, beta)
        )[0]
        sent = self.ns.matmul(self.hidden.rescale(h), self.W_T, out=v)
        params = self.visible.bridge(self.base_visible, beta)
        return self.visible.draw(sent, beta, rng=rng, out=sent, params=params)[0]

    def anneal(
        self, v: Any, betas: Sequence[float], rng: Generator, *, up: bool, progress: Any
    ) -> np.ndarray:
        """D of every chain; v (n, num_visible) is overwritten."""
        steps = list(pairwise(betas))
        xp = get_array_module(v)
        phi = xp.empty((v.shape[0], self.hidden.num_units), dtype=v.dtype)
        total = xp.full(v.shape[0], self.log_z, dtype="float64")
        self.fields(v, phi)
        report = max(1, len(steps) // 100)
        for i, (before, after) in enumerate(steps if up else reversed(steps)):
            if up:
                total += self.change(v, phi, before, after)
            v = self.move(v, phi, after, rng)
            self.fields(v, phi)
            if not up:
                total += self.change(v, phi, before, after)
            if progress is not None and (i + 1) % report == 0:
                progress(i + 1, len(steps))
        return asnumpy(total)


def _annealed(
    function: str,
    model: BoltzmannMachine,
    rng: Generator | None,
    n_temperatures: int,
    betas: Sequence[float] | None,
    base_data: Any,
    v: Any,
    n_chains: int,
    progress: Progress | None,
) -> tuple[np.ndarray, int]:
    """D of every chain and the number of temperatures; upwards from the base if v is None."""
    model._two_layers(function)
    if positive_int(function, "n_chains", n_chains) < 2:
        raise ParameterError(f"{function}: 1 chain, expected at least 2, which an error needs")
    if betas is None:
        betas = temperatures(positive_int(function, "n_temperatures", n_temperatures)).tolist()
    path_betas = [float(b) for b in betas]
    rising = all(before < after for before, after in pairwise(path_betas))
    if len(path_betas) < 2 or path_betas[0] != 0 or path_betas[-1] != 1 or not rising:
        raise ParameterError(f"{function}: betas do not rise from 0 to 1 ({path_betas[:3]} ...)")
    generator = default_generator() if rng is None else rng
    if model.dtype.itemsize < 4:
        # thousands of small differences of free energies add up: half precision would lose nats
        model = model.copy(dtype="float32")
        v = None if v is None else v.astype("float32")
    with on(model.device):
        if base_data is not None:
            base_data = check_data(model, base_data, function=function)
        path = _Path(model, base_data, generator)
        up = v is None
        start = path.start(n_chains, generator) if up else v.copy()
        # overflow of a broken machine is reported below, by name
        d = path.anneal(start, path_betas, generator, up=up, progress=progress)
    if not np.all(np.isfinite(d)):
        raise DivergenceError(
            f"{function}: {int(np.sum(~np.isfinite(d)))} of {d.size} chains have weights that are "
            "not finite; are the machine's parameters?"
        )
    return d, len(path_betas) - 1


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
    model: BoltzmannMachine,
    rng: Generator | None = None,
    *,
    n_temperatures: int = 10_000,
    n_chains: int = 100,
    data: Any = None,
    betas: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Annealed importance sampling: an optimistic estimate of log Z.

    The mean weight is unbiased for Z; its logarithm errs low, the likelihood it gives errs high.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two layers.
    rng : Generator, optional
    n_temperatures : int
        Transitions, evenly spaced in beta.
    n_chains : int
        At least 2.
    data : array (num_samples, num_visible), optional
        The base machine gets the visible means of these (training) data; without data, those of
        short chains of the machine itself.
    betas : sequence of float, optional
        Inverse temperatures, rising from 0 to 1, in place of n_temperatures even ones.
    progress : callable, optional
        progress(done, total), called about a hundred times.

    Returns
    -------
    Estimate
    """
    d, n = _annealed("ais", model, rng, n_temperatures, betas, data, None, n_chains, progress)
    log_z, error = _log_mean(d)
    return Estimate(log_z, error, _effective_size(d), d.size, n, "ais", d)


def raise_(
    model: BoltzmannMachine,
    samples: Any,
    rng: Generator | None = None,
    *,
    n_temperatures: int = 10_000,
    data: Any = None,
    betas: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Reverse annealing from test samples (RAISE): a conservative estimate of log Z.

    For each sample v the chain gives a lower bound, in expectation, on the log-probability of v
    under the annealing process itself, -F(v) - D; that process tends to the machine as the number
    of temperatures grows. The D are averaged: with log_z = mean D the mean log-likelihood of the
    samples is RAISE's.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two layers.
    samples : array (n_chains, num_visible)
        Test samples, one chain each; states of the units, no grey values.
    rng, n_temperatures, data, betas, progress
        As in `ais`.

    Returns
    -------
    Estimate
        `ess` is that of the weights exp(-D).
    """
    v = check_data(model, samples, function="raise_", support=True)
    d, n = _annealed("raise_", model, rng, n_temperatures, betas, data, v, v.shape[0], progress)
    error = float(np.std(d, ddof=1)) / math.sqrt(d.size)
    return Estimate(float(np.mean(d)), error, _effective_size(-d), d.size, n, "raise", d)


def reverse_ais(
    model: BoltzmannMachine,
    samples: Any,
    rng: Generator | None = None,
    *,
    n_temperatures: int = 10_000,
    data: Any = None,
    betas: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Annealed importance sampling downwards from samples of the machine.

    The mean of exp(-D) is unbiased for 1/Z if the samples are independent and exact; its logarithm
    then makes log Z err high, the likelihood err low. From chains that have not mixed this is no
    bound.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two layers.
    samples : array (n_chains, num_visible)
        Visible states drawn from the machine.
    rng, n_temperatures, data, betas, progress
        As in `ais`.

    Returns
    -------
    Estimate
    """
    v = check_data(model, samples, function="reverse_ais", support=True)
    d, n = _annealed(
        "reverse_ais", model, rng, n_temperatures, betas, data, v, v.shape[0], progress
    )
    log_inverse, error = _log_mean(-d)
    return Estimate(-log_inverse, error, _effective_size(-d), d.size, n, "reverse_ais", d)


# ---- likelihood


def log_likelihoods(model: BoltzmannMachine, data: Any, log_z: Any) -> np.ndarray:
    """log p(v) = -F(v) - log Z of each sample, in nats, as float64 on the host.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two layers.
    data : array (num_samples, num_visible)
        States of the units; grey values have no probability.
    log_z : float or Estimate

    Returns
    -------
    numpy.ndarray (num_samples,)

    Raises
    ------
    DataError
        Wrong width, NaN, or values that are not states of the units.
    """
    v = check_data(model, data, function="log_likelihood", support=True)
    with on(model.device):
        parameters = {name: p.astype("float64") for name, p in model.parameters().items()}
        # blocks: the float64 copy of the data and the fields stay small
        rows = 2048
        free = [
            asnumpy(model.free_energy(parameters, v[i : i + rows].astype("float64")))
            for i in range(0, v.shape[0], rows)
        ]
    return -np.concatenate(free) - getattr(log_z, "log_z", log_z)


def log_likelihood(model: BoltzmannMachine, data: Any, log_z: Any) -> float:
    """Mean log-likelihood of data in nats a sample; takes what `log_likelihoods` takes."""
    return float(np.mean(log_likelihoods(model, data, log_z)))
