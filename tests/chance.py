"""Statistical tests with a stated false-alarm rate, without a statistics library."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np

#: How often a correct program fails one of these tests. The seeds are fixed, so that a test that
#: passes once passes always; the rate says how little a pass is due to luck in choosing them.
FALSE_ALARM = 1e-6
#: By how many standard errors an average of annealed weights may be off: 2e-8 for a normal deviate,
#: more with the skew of such weights (each test file says how much more).
ALLOWED_ERRORS = 5.6


def chi_square_limit(degrees: int, false_alarm: float = FALSE_ALARM) -> float:
    """What a chi-square variable exceeds with this probability (Wilson and Hilferty, 1931)."""
    z = NormalDist().inv_cdf(1 - false_alarm)
    ninth = 2 / (9 * degrees)
    return degrees * (1 - ninth + z * math.sqrt(ninth)) ** 3


def deviates(samples: Any, expected: Any) -> Any:
    """One normal deviate a statistic: the mean over independent rows less the expected value."""
    spread = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    return np.abs(samples.mean(axis=0) - expected) / spread


def normal_limit(statistics: int, false_alarm: float = FALSE_ALARM) -> float:
    """What none of that many normal deviates exceeds, up or down, but with this probability."""
    return NormalDist().inv_cdf(1 - false_alarm / statistics / 2)


def mean_weight_is(log_weights: Any, log_expected: float) -> bool:
    """Whether the mean of exp(log_weights) is exp(log_expected), within its standard error."""
    w = np.exp(log_weights - log_expected)
    return bool(abs(w.mean() - 1) < ALLOWED_ERRORS * w.std(ddof=1) / math.sqrt(w.size))


def assert_frequencies(counts: Any, expected: Any, *, constraints: int = 1) -> None:
    """Counts of outcomes, exhaustive and exclusive, against their expected numbers."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    assert expected.min() >= 5, "too few expected for a chi-square test"
    statistic = float(((counts - expected) ** 2 / expected).sum())
    limit = chi_square_limit(counts.size - constraints)
    assert statistic <= limit, f"chi-square {statistic:.1f}, limit {limit:.1f}"


def assert_means(sums: Any, n: int, p: Any) -> None:
    """Numbers of successes in `n` trials each against the probabilities `p`, none 0 or 1."""
    sums, p = np.asarray(sums, float), np.asarray(p, float)
    assert (n * np.minimum(p, 1 - p)).min() >= 5, "too few expected for a chi-square test"
    statistic = float(((sums - n * p) ** 2 / (n * p * (1 - p))).sum())
    limit = chi_square_limit(p.size)
    assert statistic <= limit, f"chi-square {statistic:.1f}, limit {limit:.1f}"


def assert_distribution(values: Any, cdf: Any, false_alarm: float = FALSE_ALARM) -> None:
    """Values against a continuous distribution (Kolmogorov-Smirnov; Massart's bound)."""
    x = np.sort(np.asarray(values, float).ravel())
    below = np.asarray([cdf(v) for v in x])
    steps = np.arange(x.size + 1) / x.size
    distance = max((steps[1:] - below).max(), (below - steps[:-1]).max())
    limit = math.sqrt(math.log(2 / false_alarm) / (2 * x.size))
    assert distance <= limit, f"distance {distance:.4f}, limit {limit:.4f}"
