"""How well chains mix: autocorrelation time, effective sample size, R-hat, exchanges, round trips.

Everything here works on the host, in float64, on a record of what was looked at after each step:

    series = np.stack([asnumpy(observable) for each step])        (steps, n_chains)

References
----------
Madras and Sokal, "The pivot algorithm: a highly efficient Monte Carlo method for the self-avoiding
walk", J. Stat. Phys. 50 (1988), for the window. Vehtari, Gelman, Simpson, Carpenter and Buerkner,
"Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of
MCMC", Bayesian Analysis 16 (2021). Katzgraber, Trebst, Huse and Troyer, "Feedback-optimized
parallel tempering Monte Carlo", J. Stat. Mech. (2006), for round trips.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import DataError, ParameterError

__all__ = [
    "MeanWithError",
    "autocorrelation",
    "effective_sample_size",
    "integrated_autocorrelation_time",
    "mean_with_error",
    "r_hat",
    "round_trips",
    "swap_acceptance",
]


def _series(function: str, x: Any, steps: int) -> np.ndarray:
    """A record of chains as float64 of shape (steps, n_chains)."""
    values = np.asarray(asnumpy(x))
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
        raise DataError(
            f"{function}: series is {values.dtype} of shape {values.shape}, expected real numbers "
            "(steps,) or (steps, n_chains)"
        )
    if values.shape[0] < steps or values.size == 0:
        raise DataError(
            f"{function}: series has shape {values.shape}, expected at least {steps} steps of at "
            "least one chain"
        )
    values = values.astype(np.float64).reshape(values.shape[0], -1)
    if not np.isfinite(values).all():
        step, chain = (int(i[0]) for i in np.nonzero(~np.isfinite(values)))
        raise DataError(
            f"{function}: series has the value {values[step, chain]} at step {step} of chain "
            f"{chain}, expected finite numbers"
        )
    return values


# ---- autocorrelation


def _autocovariance(x: np.ndarray) -> np.ndarray:
    """Biased autocovariances of each column about `x`'s own zero, (steps, chains), by FFT."""
    n = x.shape[0]
    size = 1 << (2 * n - 1).bit_length()  # padded: the transform is periodic, the chain is not
    power = np.abs(np.fft.rfft(x, size, axis=0)) ** 2
    return np.fft.irfft(power, size, axis=0)[:n] / n


def autocorrelation(series: Any) -> np.ndarray:
    """Autocorrelation function, pooled over the chains, which share one mean.

    Parameters
    ----------
    series : array (steps,) or (steps, n_chains)

    Returns
    -------
    numpy.ndarray (steps,)
        1 at lag 0; nan everywhere for a series that never changes.

    Raises
    ------
    DataError
        Another shape, fewer than 4 steps, or values that are not finite.

    Examples
    --------
    >>> from gpugrad.boltzmann.diagnostics import autocorrelation
    >>> [round(float(r), 3) for r in autocorrelation([1.0, -1.0] * 50)[:3]]
    [1.0, -0.99, 0.98]
    """
    return _autocorrelation(_series("autocorrelation", series, 4))


def _autocorrelation(x: np.ndarray) -> np.ndarray:
    x = x - x.mean()
    covariance = _autocovariance(x).mean(axis=1)
    # a constant leaves rounding errors behind, of which no correlation must be made
    if covariance[0] == 0 or np.ptp(x) == 0:
        return np.full(x.shape[0], np.nan)
    return covariance / covariance[0]


def _windowed_time(x: np.ndarray, window: float) -> tuple[float, int]:
    """tau and the lag at which its sum was cut: the smallest M >= window max(tau(M), 1)."""
    tau = 2 * np.cumsum(_autocorrelation(x)) - 1
    closed = np.arange(tau.size) >= window * np.maximum(tau, 1)
    cut = int(np.argmax(closed)) if closed.any() else tau.size - 1
    return float(tau[cut]), cut


def integrated_autocorrelation_time(series: Any, *, window: float = 5.0) -> float:
    """tau = 1 + 2 sum over t >= 1 of rho(t), in steps.

    A mean over n steps has the variance of a mean over n / tau independent ones. The sum is cut at
    the smallest lag M with M >= window max(tau(M), 1).

    Parameters
    ----------
    series : array (steps,) or (steps, n_chains)
        Chains of one stationary distribution.
    window : float
        Larger: less bias, more variance. The bias is about exp(-window / 2) for one time scale of
        long memory.

    Returns
    -------
    float
        1 for independent values, below 1 for anticorrelated ones; nan for a series that never
        changes.

    Raises
    ------
    DataError
        Another shape, fewer than 4 steps, or values that are not finite.
    ParameterError
        A window that is not positive.
    """
    if not 0 < window < math.inf:
        raise ParameterError(
            f"integrated_autocorrelation_time: window is {window!r}, expected a positive number"
        )
    x = _series("integrated_autocorrelation_time", series, 4)
    return _windowed_time(x, window)[0]


class MeanWithError(NamedTuple):
    """A mean over chains, and what it is worth.

    Attributes
    ----------
    mean : float
    error : float
        Standard error, autocorrelation included.
    tau : float
        Integrated autocorrelation time, in steps.
    tau_error : float
        Its standard error (Madras and Sokal).
    """

    mean: float
    error: float
    tau: float
    tau_error: float


def mean_with_error(series: Any, *, window: float = 5.0) -> MeanWithError:
    """Mean of an observable with the error that its autocorrelation leaves it.

    Parameters
    ----------
    series : array (steps,) or (steps, n_chains)
        Independent chains of one stationary distribution.
    window : float
        That of `integrated_autocorrelation_time`.

    Returns
    -------
    MeanWithError
        The error of a series that never changes is 0, its tau nan.

    Raises
    ------
    DataError
        Another shape, fewer than 4 steps, or values that are not finite.
    """
    if not 0 < window < math.inf:
        raise ParameterError(f"mean_with_error: window is {window!r}, expected a positive number")
    x = _series("mean_with_error", series, 4)
    tau, cut = _windowed_time(x, window)
    if math.isnan(tau):
        return MeanWithError(float(x.mean()), 0.0, tau, math.nan)
    # a window that closes at once can leave a tau of rounding size, or below 0
    worth = max(tau, 1 / x.shape[0])
    error = math.sqrt(float(x.var()) * worth / x.size)
    return MeanWithError(float(x.mean()), error, tau, tau * math.sqrt(2 * (2 * cut + 1) / x.size))


# ---- several chains


def _split(x: np.ndarray) -> np.ndarray:
    """Halves of the chains as chains of their own; of an odd number of steps the middle is left
    out."""
    half = x.shape[0] // 2
    return np.concatenate([x[:half], x[x.shape[0] - half :]], axis=1)


def _rank_normalised(x: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks over all chains; equal values share their mean rank."""
    _, inverse, counts = np.unique(x.ravel(), return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    rank = (below + (counts + 1) / 2)[inverse.ravel()].reshape(x.shape)
    p = (rank - 0.375) / (x.size + 0.25)
    return math.sqrt(2) * namespace_for(p).erfinv(2 * p - 1)


def _plain_r_hat(x: np.ndarray) -> float:
    n = x.shape[0]
    within = x.var(axis=0, ddof=1).mean()
    between = x.mean(axis=0).var(ddof=1)
    if within == 0:
        return math.nan if between == 0 else math.inf
    return math.sqrt((n - 1) / n + between / within)


def r_hat(series: Any) -> float:
    """Rank-normalised split R-hat: the larger of that of the values and of their distances from
    the median.

    Parameters
    ----------
    series : array (steps,) or (steps, n_chains)
        Each chain is split in two, so that one that drifts disagrees with itself.

    Returns
    -------
    float
        Close to 1 where all half chains agree; above 1.01 they do not. inf where no chain moves
        and they differ, nan where nothing ever changes.

    Raises
    ------
    DataError
        Another shape, fewer than 4 steps, or values that are not finite.

    References
    ----------
    Vehtari et al. (2021), section 4.
    """
    x = _split(_series("r_hat", series, 4))
    if np.ptp(x) == 0:
        return math.nan
    folded = np.abs(x - np.median(x))
    found = [_plain_r_hat(_rank_normalised(y)) for y in (x, folded) if np.ptp(y) > 0]
    return max(found)


def _size_of_mean(x: np.ndarray) -> float:
    """Effective number of independent values for the mean of split chains (Geyer's sequence)."""
    n, chains = x.shape
    covariance = _autocovariance(x - x.mean(axis=0))
    within = covariance[0].mean() * n / (n - 1)
    total = within * (n - 1) / n + x.mean(axis=0).var(ddof=1)
    if total == 0:
        return math.nan
    # the values share one variance, that between the chains included
    rho = 1 - (within - covariance.mean(axis=1) * n / (n - 1)) / total
    rho[0] = 1
    # sums of even and odd neighbours are positive and fall, for reversible chains
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: negative[0] if negative.size else pairs.size])
    tau = 2 * pairs.sum() - 1
    # anticorrelated chains can beat independent values, but not by more than this
    return n * chains / max(tau, 1 / math.log10(n * chains))


def effective_sample_size(series: Any, *, kind: str = "bulk") -> float:
    """Number of independent values that would know as much.

    Parameters
    ----------
    series : array (steps,) or (steps, n_chains)
        Chains that may not agree: their disagreement lowers the number.
    kind : {"bulk", "tail", "mean"}
        "bulk": of rank-normalised values. "tail": the smaller of those of the 5 % and the 95 %
        quantile. "mean": of the values themselves, which need a finite variance.

    Returns
    -------
    float
        nan where nothing ever changes.

    Raises
    ------
    DataError
        Another shape, fewer than 8 steps, or values that are not finite.
    ParameterError
        An unknown kind.

    References
    ----------
    Vehtari et al. (2021), section 3.
    """
    if kind not in ("bulk", "tail", "mean"):
        raise ParameterError(
            f"effective_sample_size: kind is {kind!r}, expected 'bulk', 'tail' or 'mean'"
        )
    x = _series("effective_sample_size", series, 8)
    if np.ptp(x) == 0:
        return math.nan
    if kind == "mean":
        return _size_of_mean(_split(x))
    if kind == "bulk":
        return _size_of_mean(_rank_normalised(_split(x)))
    sizes = [
        _size_of_mean(_split((x <= np.quantile(x, q)).astype(np.float64))) for q in (0.05, 0.95)
    ]
    known = [size for size in sizes if not math.isnan(size)]
    return min(known) if known else math.nan


# ---- ladders


def swap_acceptance(infos: Iterable[Any]) -> np.ndarray:
    """Mean acceptance of the exchanges between neighbours over many steps; waits for the device.

    Parameters
    ----------
    infos : iterable of SwapInfo
        All of the same number of rungs.

    Returns
    -------
    numpy.ndarray (rungs - 1,)
        nan where none was tried.
    """
    found = list(infos)
    if not found:
        raise DataError("swap_acceptance: no infos, expected at least one")
    lengths = {len(info.tried) for info in found}
    if len(lengths) > 1:
        raise DataError(
            f"swap_acceptance: infos of {sorted(n + 1 for n in lengths)} rungs, expected one number"
        )
    tried = np.sum([info.tried for info in found], axis=0)
    accepted = np.sum([asnumpy(info.accepted) for info in found], axis=0)
    with np.errstate(invalid="ignore"):
        return accepted / tried


def round_trips(replica: Any) -> np.ndarray:
    """How often each replica went from the bottom rung to the top one and back.

    Parameters
    ----------
    replica : array of int (steps, rungs, n_chains) or (steps, rungs)
        `info.replica` after each step.

    Returns
    -------
    numpy.ndarray of int (rungs, n_chains) or (rungs,)
        Complete trips, counted from the first visit to the bottom, by replica.

    Raises
    ------
    DataError
        Another shape or dtype, fewer than 2 rungs, or rungs that do not hold each replica once.

    Examples
    --------
    >>> from gpugrad.boltzmann.diagnostics import round_trips
    >>> round_trips([[0, 1], [1, 0], [0, 1], [1, 0], [1, 0], [0, 1]]).tolist()
    [2, 1]
    """
    history = np.asarray(asnumpy(replica))
    if history.dtype.kind not in "iu" or history.ndim not in (2, 3) or history.shape[1] < 2:
        raise DataError(
            f"round_trips: replica is {history.dtype} of shape {history.shape}, expected integers "
            "(steps, rungs, n_chains) of at least 2 rungs"
        )
    rungs = history.shape[1]
    every = np.arange(rungs).reshape(1, rungs, *[1] * (history.ndim - 2))
    if not np.array_equal(np.sort(history, axis=1), np.broadcast_to(every, history.shape)):
        raise DataError(
            f"round_trips: some step does not hold each of the replicas 0 ... {rungs - 1} once"
        )
    trips = np.zeros(history.shape[1:], dtype=np.int64)
    rung = np.argsort(history, axis=1)  # (steps, replicas, ...): where each replica is
    # 0: not yet at the bottom, 1: last seen at the bottom, 2: at the top since
    phase = np.zeros(trips.shape, dtype=np.int8)
    for now in rung:
        trips += (now == 0) & (phase == 2)
        phase[now == 0] = 1
        phase[(now == rungs - 1) & (phase == 1)] = 2
    return trips
