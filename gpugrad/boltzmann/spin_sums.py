"""Log-partition functions of two-valued units, summed over the units of each row of fields.

    log(e^(beta x s0) + e^(beta x s1))      at several beta, or its growth over a short step of beta

What exchanges along a ladder and annealing compute beside the products. On the host they work in
blocks of rows that stay in a core's cache, on two threads.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad.backend.host_threads import BLOCK_VALUES, over_spans, scratch_array
from gpugrad.boltzmann.state import namespace_for

__all__ = ["spin_growth", "spin_log_partitions"]


def _block_rows(n: int, units: int) -> int:
    """Rows of a block: blocks are equal and even in number, so that two spans can be equal too.

    A span is made of whole blocks, which gives each row the same bits whatever the number of spans.
    What would be two blocks is one: handing over the second costs what it saves, and two threads
    that each have such work of their own meet at the interpreter lock half as often.
    """
    if n * units <= 2 * BLOCK_VALUES:
        return n
    pairs = max(1, -(-n * units // (2 * BLOCK_VALUES)))
    return max(1, -(-n // (2 * pairs)))


def _folded(x: np.ndarray) -> np.ndarray:
    """Columns multiplied together in pairs three times over, in place: products of 8 or fewer.

    Logarithms of these take less time than those of all factors, and than folding on.
    """
    width = x.shape[1]
    for _ in range(3):
        half = width // 2
        if half == 0:
            break
        # of an odd number of columns the middle one is kept
        np.multiply(x[:, :half], x[:, width - half : width], out=x[:, :half])
        width -= half
    return x[:, :width]


def spin_log_partitions(
    phi: np.ndarray, loc: Any, betas: Sequence[Any], support: tuple[float, ...]
) -> list[np.ndarray]:
    """The sum over units of log(e^(beta x s0) + e^(beta x s1)), x = phi + loc, on the host.

    Parameters
    ----------
    phi : array (n, units)
        Fields.
    loc : array (units,)
    betas : sequence of array (n, 1) or None
    support : tuple of float
        The two states of a unit.

    Returns
    -------
    list of array (n,), float64
        One for each of the betas.
    """
    # With y = (s1 - s0) |x|,
    #   log(e^(beta x s0) + e^(beta x s1)) = beta (x (s0 + s1) + y) / 2 + log(1 + e^(-beta y)).
    # What is linear in beta is summed once for all betas, and the logarithm is taken of products of
    # 8 factors in [1, 2]: one exp and one multiplication a unit and beta.
    low, high = support
    n, units = phi.shape
    results = [np.empty(n) for _ in betas]
    rows = _block_rows(n, units)

    def span(start: int, stop: int) -> None:
        for first in range(start, stop, rows):
            here = slice(first, min(first + rows, stop))
            shape = (here.stop - first, units)
            x = scratch_array("spin fields", shape, phi.dtype)
            y = scratch_array("spin gaps", shape, phi.dtype)
            np.add(phi[here], loc, out=x)
            np.absolute(x, out=y)
            if high - low != 1:
                y *= phi.dtype.type(high - low)
            if low + high:
                if low + high != 1:
                    x *= phi.dtype.type(low + high)
                x += y
            linear = np.sum(x if low + high else y, axis=1, dtype="float64") / 2
            factors = x  # whose values are no longer needed
            for result, beta in zip(results, betas, strict=True):
                if beta is None:
                    np.negative(y, out=factors)
                else:
                    np.multiply(y, -beta[here], out=factors)
                np.exp(factors, out=factors)
                np.add(factors, 1, out=factors)
                result[here] = linear if beta is None else linear * beta[here, 0]
                result[here] += np.sum(np.log(_folded(factors)), axis=1, dtype="float64")

    over_spans(span, n, values_each=units, multiple_of=rows)
    return results


def spin_growth(phi: Any, mean: Any, step: float, shift: Any, support: tuple[float, ...]) -> Any:
    """Growth of the log-partition functions of two-valued units over a short step of the path.

    With p the probability of the upper state, found from the mean, and x = step phi + shift,

        sum over units of  low x + log(1 + p (e^((high - low) x) - 1))

    is the exact difference, free of the cancellation of two large sums. On the host the logarithm
    is taken of products of 8 factors, in blocks that stay in the cache; where a product leaves the
    range of single precision the result is nan.

    Parameters
    ----------
    phi, mean : array (n, units)
        Fields, and means at the first point; `mean` is overwritten.
    step : float
        Change of beta.
    shift : array (units,)
        Change of beta times loc.
    support : tuple of float
        The two states of a unit.

    Returns
    -------
    array (n,)
        float64.
    """
    xp = namespace_for(phi)
    n, units = phi.shape
    dtype = phi.dtype
    low, high = support
    total = xp.empty(n, dtype="float64")
    host = isinstance(phi, np.ndarray)
    rows = _block_rows(n, units) if host else n
    slope, shift = dtype.type(step * (high - low)), ((high - low) * shift).astype(dtype)

    def span(first: int, last: int) -> None:
        for start in range(first, last, rows):
            here = slice(start, min(start + rows, last))
            p = mean[here]
            if (low, high) != (0, 1):
                p -= dtype.type(low)
                p *= dtype.type(1 / (high - low))
            if host:
                x = scratch_array("spin fields", p.shape, dtype)
                np.multiply(phi[here], slope, out=x)
            else:
                x = phi[here] * slope
            x += shift
            if low:
                total[here] = (low / (high - low)) * xp.sum(x, axis=1, dtype="float64")
            else:
                total[here] = 0
            # too large a step overflows; the products show it
            with np.errstate(over="ignore", invalid="ignore"):
                xp.exp(x, out=x)
                x -= 1
                x *= p
                x += 1
                if host:
                    products = _folded(x)
                    # not a comparison that a nan passes
                    if 1e-30 < np.min(products) and np.max(products) < 1e30:
                        total[here] += np.sum(np.log(products), axis=1, dtype="float64")
                    else:
                        total[here] = np.nan
                else:
                    total[here] += xp.sum(xp.log(x), axis=1, dtype="float64")

    if host:
        over_spans(span, n, values_each=units, multiple_of=rows)
    else:
        span(0, n)
    return total
