"""Truncated exponential units: x in [0, 1] with energy -loc x."""

from collections import namedtuple
from typing import Any

from gpugrad.boltzmann.layers.unit_layer import UnitLayer, batch_mean, scaled_by
from gpugrad.boltzmann.state import check_beta, namespace_for

__all__ = ["ParamsTruncatedExponential", "TruncatedExponentialLayer"]

ParamsTruncatedExponential = namedtuple("ParamsTruncatedExponential", ["loc"])

# Of log(sinh(t) / t) = sum over n of 2^(2n) B_2n / (2n (2n)!) t^(2n): for t^2, t^4, ... The next
# term is below 1e-17 of the first for |t| <= 1/2.
_SERIES = (
    1 / 6,
    -1 / 180,
    1 / 2835,
    -1 / 37800,
    1 / 467775,
    -691 / 3831077250,
    2 / 127702575,
    -3617 / 2605132530000,
)


class TruncatedExponentialLayer(UnitLayer):
    """A layer of units with values between 0 and 1, whose density is an exponential.

    The energy of a state is -sum_i loc_i x_i: the continuous sister of a Bernoulli unit. In a field
    phi the density is proportional to exp((loc + phi) x), rising or falling.

    Parameters
    ----------
    num_units : int
    dtype : dtype, optional
    device : str or Device, optional

    Attributes
    ----------
    params : ParamsTruncatedExponential
        `loc` (num_units,), any real number; at 0 a unit without neighbours is uniform.

    References
    ----------
    Loaiza-Ganem and Cunningham, "The continuous Bernoulli: fixing a pervasive error in variational
    autoencoders", NeurIPS 2019.
    """

    layer_type = "truncated_exponential"
    Params = ParamsTruncatedExponential
    data_range = (0.0, 1.0)
    neutral = 0.5

    @staticmethod
    def unit_energy(xp: Any, params: Any, units: Any) -> Any:
        """-sum_i loc_i x_i, one value a sample."""
        return -xp.matmul(units, params.loc)

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """log((e^y - 1) / y) with y = beta (loc + phi), 0 at y = 0."""
        # = y/2 + log(sinh(t)/t), t = y/2: an even function, a series where it would cancel
        y = scaled_by(beta, params.loc + phi)
        small = xp.absolute(y) < 1
        square = xp.where(small, 0.25 * y * y, 0)
        series = _SERIES[-1] * square
        for c in _SERIES[-2::-1]:
            series = (series + c) * square
        a = xp.absolute(xp.where(small, 1, y))
        far = 0.5 * a + xp.log(-xp.expm1(-a) / a)
        return 0.5 * y + xp.where(small, series, far)

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """1 / (1 - e^-y) - 1 / y with y = beta (loc + phi), 1/2 at y = 0."""
        y = scaled_by(beta, params.loc + phi)
        small = xp.absolute(y) < 1
        t = xp.where(small, 0.5 * y, 0)
        square = t * t
        series = 2 * len(_SERIES) * _SERIES[-1] * square
        for n in range(len(_SERIES) - 1, 0, -1):
            series = (series + 2 * n * _SERIES[n - 1]) * (square if n > 1 else 1)
        # the mean of the falling density in |y|; the rising one is its mirror image
        a = xp.absolute(xp.where(small, 1, y))
        falling = 1 / a - xp.exp(-a) / -xp.expm1(-a)
        far = xp.where(y > 0, 1 - falling, falling)
        return xp.where(small, 0.5 + 0.5 * series * t, far)

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """1 where loc + phi is positive, else 0."""
        x = params.loc + phi
        return (x > 0).astype(x.dtype)

    @staticmethod
    def unit_sample(xp: Any, params: Any, phi: Any, noise: Any, beta: Any = None) -> Any:
        """log(1 + noise (e^y - 1)) / y, by inversion of the distribution function."""
        y = scaled_by(beta, params.loc + phi)
        a = xp.absolute(y)
        flat = a < 1e-30
        # a rising density is the mirror image of a falling one: 1 - noise loses no digit
        part = xp.where(y > 0, 1 - noise, noise)
        # where 1 - noise is 1 the logarithm of 0 stands for a probability below the rounding
        inner = part * xp.expm1(-a)
        inner = xp.maximum(inner, 0.5 * xp.finfo(inner.dtype).eps - 1)
        falling = xp.where(flat, part, -xp.log1p(inner) / xp.where(flat, 1, a))
        # rounding must not lead out of the interval
        falling = xp.minimum(falling, 1)
        return xp.where(y > 0, 1 - falling, falling)

    def bridge(self, base: Any, beta: float) -> Any:
        return self.Params(self.params.loc + (1 / beta - 1) * base.loc)

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> ParamsTruncatedExponential:
        """Derivatives of the energy averaged over the batch: d<E> / d loc_i = -<x_i>.

        Takes what `GaussianLayer.derivatives` takes; the couplings do not depend on loc.

        Returns
        -------
        ParamsTruncatedExponential
        """
        check_beta("derivatives", beta, vis.shape[0])
        return self.Params(-batch_mean(namespace_for(vis), vis, sample_weight))

    def online_param_update(self, data: Any) -> None:
        """Fit loc to the mean of all the data seen so far, by exact running means.

        Any split of the data into batches gives the same parameters. Means are clipped to
        [1/(2n), 1 - 1/(2n)].

        Parameters
        ----------
        data : array (num_samples, num_units)
        """
        mean = self._running_mean(data)
        half_count = 0.5 / self.sample_size
        xp = namespace_for(mean)
        mean = xp.clip(mean, half_count, 1 - half_count)
        # The mean rises with loc, and lies within 1 / |loc| of the nearer end.
        high = xp.full_like(mean, 1 / half_count + 1)
        low = -high
        none = self.Params(xp.zeros_like(mean))
        for _ in range(100):
            middle = 0.5 * (low + high)
            below = self.unit_mean(xp, none, middle) < mean
            low, high = xp.where(below, middle, low), xp.where(below, high, middle)
        self.params.loc[...] = (0.5 * (low + high)).astype(self.dtype)
