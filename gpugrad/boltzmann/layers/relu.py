"""ReLU units: x >= 0 with energy x^2 / 2 - loc x, rectified Gaussians."""

import math
from collections import namedtuple
from typing import Any

import numpy as np

from gpugrad.boltzmann.layers.quadrature import rising_root
from gpugrad.boltzmann.layers.unit_layer import UnitLayer, batch_mean
from gpugrad.boltzmann.state import check_beta, namespace_for

__all__ = ["ParamsReLU", "ReLULayer"]

ParamsReLU = namedtuple("ParamsReLU", ["loc"])

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
_SWITCH = 2.5
_SERIES_TERMS = 30
_FRACTION_TERMS = 60
_NEWTON_STEPS = 12


class ReLULayer(UnitLayer):
    """A layer of non-negative units, normal distributions cut off at 0.

    The energy of a state is sum_i (x_i^2 / 2 - loc_i x_i). In a field phi the most probable value
    is max(loc + phi, 0), the rectified linear unit of neural networks. The width is 1: another one
    is a matter of the scale of the weights (or of the data, for visible units).

    Parameters
    ----------
    num_units : int
    dtype : dtype, optional
    device : str or Device, optional

    Attributes
    ----------
    params : ParamsReLU
        `loc` (num_units,), any real number.

    Notes
    -----
    Everything follows from M(z), the integral of exp(-x^2 / 2 + z x) over x >= 0, by its power
    series for |z| <= 2.5 and by Laplace's continued fraction beyond; no library of special
    functions is needed. Samples come from the inverse distribution function by Newton's method.

    References
    ----------
    Tubiana and Monasson, "Emergence of compositional representations in restricted Boltzmann
    machines", Phys. Rev. Lett. 118 (2017).
    """

    layer_type = "relu"
    Params = ParamsReLU
    data_range = (0.0, math.inf)
    neutral = math.sqrt(2 / math.pi)
    growth = "quadratic"

    @staticmethod
    def unit_energy(xp: Any, params: Any, units: Any) -> Any:
        """sum_i (x_i^2 / 2 - loc_i x_i), one value a sample."""
        return xp.sum(units * (0.5 * units - params.loc), axis=1)

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """log(M(sqrt(beta) (loc + phi)) / sqrt(beta))."""
        if beta is None:
            return log_half_line(xp, params.loc + phi)
        return log_half_line(xp, xp.sqrt(beta) * (params.loc + phi)) - 0.5 * xp.log(beta)

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """(z + 1 / M(z)) / sqrt(beta) with z = sqrt(beta) (loc + phi)."""
        root = 1 if beta is None else xp.sqrt(beta)
        return _mean(xp, root * (params.loc + phi)) / root

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """max(loc + phi, 0)."""
        return xp.maximum(params.loc + phi, 0)

    @staticmethod
    def unit_sample(xp: Any, params: Any, phi: Any, noise: Any, beta: Any = None) -> Any:
        """The x at which the distribution function, in the field phi, equals `noise`."""
        root = 1 if beta is None else xp.sqrt(beta)
        z = root * (params.loc + phi)
        z = z.astype(xp.result_type(z, noise), copy=False)
        # Q(x), the integral of the weights beyond x, is exp(-x^2/2 + z x) M(z - x). log Q is
        # concave with slope -1 / M(z - x): after one step Newton's method comes from the right.
        # Far above 0 (z > 2) it would be flat on the left of the mean: there the distance from z
        # is the quantile of a half-normal distribution, the same equation with z = 0.
        above = z > 2
        below_0 = xp.exp(log_half_line(xp, -z) - 0.5 * z * z - _LOG_ROOT_2PI)
        lower, upper = below_0 + noise * (1 - below_0), (1 - noise) * (1 - below_0)
        nearer = xp.maximum(xp.minimum(lower, upper), xp.finfo(z.dtype).tiny)
        field = xp.where(above, 0, z)
        target = xp.where(
            above,
            xp.log(nearer) + _LOG_ROOT_2PI,
            log_half_line(xp, field) + xp.log1p(-noise),
        )
        x = xp.maximum(field, 0)
        for _ in range(_NEWTON_STEPS):
            log_m = log_half_line(xp, field - x)
            x = x + (x * (field - 0.5 * x) + log_m - target) * xp.exp(log_m)
            x = xp.maximum(x, 0)
        x = xp.where(above, xp.maximum(xp.where(lower < upper, z - x, z + x), 0), x)
        return x / root

    def log_partition_function(self, phi: Any, A: Any = 0) -> Any:
        """log of the integral of exp(-x^2 / 2 + loc x + phi x - A x^2) over x >= 0.

        Parameters
        ----------
        phi : array or Tensor (num_samples, num_units)
            External field.
        A : array, Tensor or number, optional
            Diagonal quadratic interaction; 1 + 2 A has to be positive.

        Returns
        -------
        array or Tensor (num_samples, num_units)
        """
        loc = self.params.loc
        if isinstance(A, int | float) and A == 0:
            return self.unit_log_partition(namespace_for(phi, loc), self.params, phi)
        xp = namespace_for(phi, loc, A if hasattr(A, "shape") else None)
        precision = xp.asarray(1 + 2 * A)
        z = (loc + phi) / xp.sqrt(precision)
        return log_half_line(xp, z) - 0.5 * xp.log(precision)

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> ParamsReLU:
        """Derivatives of the energy averaged over the batch: d<E> / d loc_i = -<x_i>.

        Takes what `GaussianLayer.derivatives` takes; the couplings do not depend on loc.

        Returns
        -------
        ParamsReLU
        """
        check_beta("derivatives", beta, vis.shape[0])
        return ParamsReLU(-batch_mean(namespace_for(vis), vis, sample_weight))

    def precision(self) -> np.ndarray:
        return np.ones(self.num_units)

    def online_param_update(self, data: Any) -> None:
        """Fit loc to the mean of all the data seen so far, by exact running means.

        Any split of the data into batches gives the same parameters. Means are at least 1/(2n).

        Parameters
        ----------
        data : array (num_samples, num_units)
        """
        mean = self._running_mean(data)
        xp = namespace_for(mean)
        mean = xp.maximum(mean, 0.5 / self.sample_size)
        # The mean rises with loc, lies above it, and below 1 / |loc| for negative loc.
        low, high = -1 / mean - 1, xp.array(mean)
        low_side, high_side = (_mean(xp, x) - mean for x in (low, high))
        loc = rising_root(xp, lambda x: _mean(xp, x) - mean, low, high, low_side, high_side)
        self.params.loc[...] = loc.astype(self.dtype)


def _fraction(s: Any) -> Any:
    """M(-s) for s >= 2.5: 1 / (s + 1 / (s + 2 / (s + 3 / ...)))."""
    y = s
    for n in range(_FRACTION_TERMS, 0, -1):
        y = s + n / y
    return 1 / y


def _series(xp: Any, z: Any) -> Any:
    """M(z) for |z| <= 2.5: sqrt(pi / 2) e^(z^2 / 2) + z + z^3 / 3 + z^5 / (3 5) + ..."""
    square = z * z
    y = square / (2 * _SERIES_TERMS + 1)
    for n in range(_SERIES_TERMS - 1, 0, -1):
        y = (y + 1) * square / (2 * n + 1)
    return math.sqrt(math.pi / 2) * xp.exp(0.5 * square) + (y + 1) * z


def log_half_line(xp: Any, z: Any) -> Any:
    """log M(z), M(z) the integral of exp(-x^2 / 2 + z x) over x >= 0, for any real z."""
    near = xp.absolute(z) <= _SWITCH
    inner = xp.log(_series(xp, xp.where(near, z, 0)))
    s = xp.absolute(xp.where(near, _SWITCH, z))
    tail = _fraction(s)
    # M(z) + M(-z) is the integral over the whole line
    bell = -0.5 * s * s - _LOG_ROOT_2PI
    above = xp.log1p(-tail * xp.exp(bell)) - bell
    return xp.where(near, inner, xp.where(z > 0, above, xp.log(tail)))


def _mean(xp: Any, z: Any) -> Any:
    """Mean of a standard ReLU unit in the field z: d log M / dz."""
    far = z < -_SWITCH
    inner = xp.where(far, 0, z)
    inner = inner + xp.exp(-log_half_line(xp, inner))
    # z + 1/M(z) cancels for large negative z: from the fraction, 1/M(-s) - s = 1/(s + 2/(s + ...))
    s = xp.where(far, -z, _SWITCH)
    y = s
    for n in range(_FRACTION_TERMS, 1, -1):
        y = s + n / y
    return xp.where(far, 1 / y, inner)
