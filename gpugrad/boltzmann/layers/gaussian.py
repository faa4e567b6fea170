"""Gaussian units: x on the real line with energy (x - loc)^2 / (2 var)."""

import math
from collections import namedtuple
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.layers.unit_layer import UnitLayer, batch_mean
from gpugrad.boltzmann.state import check_beta, namespace_for
from gpugrad.errors import ParameterError

__all__ = ["MIN_VARIANCE", "GaussianLayer", "ParamsGaussian"]

ParamsGaussian = namedtuple("ParamsGaussian", ["loc", "log_var"])

MIN_VARIANCE = 1e-6
"""Variance that a column of data gets which never changes."""


class GaussianLayer(UnitLayer):
    """A layer of real-valued units with a width of their own.

    The energy of a state is sum_i (x_i - loc_i)^2 / (2 var_i), and couplings see x_i / var_i. With
    f the field that the neighbours send, a unit is normal with mean loc + f, whatever the inverse
    temperature, and variance var / beta.

    Parameters
    ----------
    num_units : int
    dtype : dtype, optional
    device : str or Device, optional

    Attributes
    ----------
    params : ParamsGaussian
        `loc` and `log_var` (num_units,): mean and log-variance of a unit without neighbours. They
        start at 0, a standard normal unit.

    Notes
    -----
    Two neighbouring Gaussian layers have a partition function where their joint precision is
    positive definite; beside exponential units no coupling may differ from 0.
    """

    layer_type = "gaussian"
    Params = ParamsGaussian
    data_range = (-math.inf, math.inf)
    growth = "quadratic"
    signed = True
    noise = "normal"

    @staticmethod
    def unit_energy(xp: Any, params: Any, units: Any) -> Any:
        """sum_i (x_i - loc_i)^2 / (2 var_i), one value a sample."""
        distance = units - params.loc
        return xp.matmul(distance * distance, 0.5 * xp.exp(-params.log_var))

    @staticmethod
    def unit_rescale(xp: Any, params: Any, units: Any) -> Any:
        """x / var."""
        return units * xp.exp(-params.log_var)

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """log sqrt(2 pi var / beta) + beta (phi loc + phi^2 / 2) / var."""
        quadratic = phi * (params.loc + 0.5 * phi) * xp.exp(-params.log_var)
        constant = 0.5 * (math.log(2 * math.pi) + params.log_var)
        if beta is None:
            return constant + quadratic
        return constant - 0.5 * xp.log(beta) + beta * quadratic

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """loc + phi."""
        return params.loc + phi

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """loc + phi, the mean."""
        return params.loc + phi

    @staticmethod
    def unit_sample(xp: Any, params: Any, phi: Any, noise: Any, beta: Any = None) -> Any:
        """loc + phi + sqrt(var / beta) noise."""
        width = xp.exp(0.5 * params.log_var)
        if beta is not None:
            width = width / xp.sqrt(beta)
        return params.loc + phi + width * noise

    def energy(self, vis: Any) -> Any:
        """sum_i (x_i - loc_i)^2 / (2 var_i) of each sample, without the couplings.

        Parameters
        ----------
        vis : array or Tensor (num_samples, num_units)

        Returns
        -------
        array or Tensor (num_samples,)
        """
        return super().energy(vis)

    def log_partition_function(self, phi: Any, A: Any = 0) -> Any:
        """log of the integral of exp(-(x - loc)^2 / (2 var) + phi x - A x^2).

        phi is conjugate to the unit itself, so that the field f which a neighbour sends enters as
        phi = f / var. The constant log sqrt(2 pi var) is included, so that the log Z of a machine
        is exact:

            A = 0:   log sqrt(2 pi var) + phi loc + phi^2 var / 2

        Parameters
        ----------
        phi : array or Tensor (num_samples, num_units)
        A : array, Tensor or number, optional
            Diagonal quadratic interaction; 1 + 2 A var has to be positive.

        Returns
        -------
        array or Tensor (num_samples, num_units)
        """
        loc, log_var = self.params
        xp = namespace_for(phi, loc, A if hasattr(A, "shape") else None)
        var = xp.exp(log_var)
        shape = 1 + 2 * A * var  # var / shape is the variance that A leaves
        exponent = phi * (loc + 0.5 * phi * var) - A * loc * loc
        return 0.5 * (math.log(2 * math.pi) + log_var - xp.log(shape)) + exponent / shape

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> ParamsGaussian:
        """Derivatives of the energy, coupling included, averaged over the batch.

            dE / dloc     = -(x - loc) / var
            dE / dlog_var = -(x - loc)^2 / (2 var) + x f / var

        Where `vis` are conditional means in place of samples, the mean square lacks the
        conditional variance var: that of log_var is then too large by 1/2. In a difference of two
        phases which both use means, or both samples, this cancels.

        Parameters
        ----------
        vis : array (num_samples, num_units)
            Values of this layer's units.
        hid : list of array (num_samples, num_connected_units)
            Rescaled values of the connected units.
        weights : list of array (num_connected_units, num_units)
        beta : float or array (num_samples, 1), optional
            Only checked: the derivatives are those of E, not of beta E.
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        ParamsGaussian
        """
        check_beta("derivatives", beta, vis.shape[0])
        xp = namespace_for(vis)
        loc, log_var = self.params
        precision = xp.exp(-log_var)
        distance = vis - loc
        square = -0.5 * distance * distance
        if hid:
            square += vis * self.field(hid, weights)
        return ParamsGaussian(
            -batch_mean(xp, distance, sample_weight) * precision,
            batch_mean(xp, square, sample_weight) * precision,
        )

    def expected_derivatives(
        self, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> ParamsGaussian:
        found = super().expected_derivatives(hid, weights, beta, sample_weight=sample_weight)
        # the mean square of x is that of its mean and the variance var / beta
        xp = namespace_for(hid[0])
        if getattr(beta, "shape", ()):
            mean = batch_mean(xp, 1 / beta, sample_weight)[0]
        else:
            mean = 1.0 if beta is None else 1 / beta
        return found._replace(log_var=found.log_var - 0.5 * mean)

    def precision(self) -> np.ndarray:
        return np.exp(-asnumpy(self.params.log_var).astype("float64"))

    def coupling_scale(self) -> np.ndarray:
        return self.precision()

    def online_param_update(self, data: Any) -> None:
        """Fit mean and variance to all the data seen so far, by exact running moments in float64.

        Any split of the data into batches gives the same parameters, up to rounding. The variance
        is that of the sample (divided by n); a column that never changes gets 1e-6.

        Parameters
        ----------
        data : array (num_samples, num_units)
        """
        xp = namespace_for(data)
        data = data.astype("float64")
        n, mean = int(data.shape[0]), xp.mean(data, axis=0)
        square = xp.sum((data - mean) ** 2, axis=0)
        if self._moment is None:
            self.sample_size = 0  # a layer from a file knows their number, but not the moments
        if self.sample_size:
            # Chan, Golub and LeVeque, "Updating formulae ...", 1979: no cancellation of squares
            old_n, (old_mean, old_square) = self.sample_size, self._moment
            total, step = old_n + n, mean - old_mean
            mean = old_mean + step * (n / total)
            square = old_square + square + step * step * (old_n * n / total)
        self.sample_size += n
        self._moment = (mean, square)
        var = xp.maximum(square / self.sample_size, MIN_VARIANCE)
        self.params.loc[...] = mean.astype(self.dtype)
        self.params.log_var[...] = xp.log(var).astype(self.dtype)

    def shrink_parameters(self, shrinkage: float = 0.1) -> None:
        """Move the variances towards 1: var <- (1 - shrinkage) var + shrinkage, in place.

        Parameters
        ----------
        shrinkage : float
            In [0, 1].

        Raises
        ------
        ParameterError
            Beyond 1 a variance could become negative.
        """
        if not 0 <= shrinkage <= 1:
            raise ParameterError(
                f"shrink_parameters: shrinkage is {shrinkage!r}, expected a number in [0, 1]"
            )
        xp = namespace_for(self.params.log_var)
        var = xp.exp(self.params.log_var)
        self.params.log_var[...] = xp.log((1 - shrinkage) * var + shrinkage)
