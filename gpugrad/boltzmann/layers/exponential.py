"""Exponential units: x >= 0 with energy loc x."""

import math
from collections import namedtuple
from typing import Any

import numpy as np

from gpugrad.backend.array_module import DATA_ATTRIBUTE, asnumpy
from gpugrad.boltzmann.layers.unit_layer import UnitLayer, batch_mean, scaled_by
from gpugrad.boltzmann.state import check_beta, namespace_for
from gpugrad.errors import NoPartitionFunctionError

__all__ = ["ExponentialLayer", "ParamsExponential"]

ParamsExponential = namedtuple("ParamsExponential", ["loc"])


class ExponentialLayer(UnitLayer):
    """A layer of non-negative units, exponentially distributed.

    The energy of a state is sum_i loc_i x_i with loc_i > 0, the rate. In a field phi the rate is
    loc - phi, which has to stay positive for every state of the neighbours.

    Parameters
    ----------
    num_units : int
    dtype : dtype, optional
    device : str or Device, optional

    Attributes
    ----------
    params : ParamsExponential
        `loc` (num_units,): rates of the units without neighbours; they start at 1.

    Notes
    -----
    Drawing, and each conditional, looks at the smallest rate, for which it waits for the device.
    """

    layer_type = "exponential"
    Params = ParamsExponential
    data_range = (0.0, math.inf)
    neutral = 1.0
    start = 1.0
    growth = "linear"
    loc_sign = -1.0

    @staticmethod
    def unit_energy(xp: Any, params: Any, units: Any) -> Any:
        """sum_i loc_i x_i, one value a sample."""
        return xp.matmul(units, params.loc)

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """-log(beta (loc - phi))."""
        return -xp.log(scaled_by(beta, params.loc - phi))

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """1 / (beta (loc - phi))."""
        return 1 / scaled_by(beta, params.loc - phi)

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """0."""
        return xp.zeros_like(phi)

    @staticmethod
    def unit_sample(xp: Any, params: Any, phi: Any, noise: Any, beta: Any = None) -> Any:
        """-log(1 - noise) / (beta (loc - phi)), by inversion of the distribution function."""
        return -xp.log1p(-noise) / scaled_by(beta, params.loc - phi)

    def check_field(self, params: Any, field: Any) -> None:
        """Refuse a field in which a rate is not positive.

        Raises
        ------
        NoPartitionFunctionError
        """
        if field.size == 0:
            return
        xp = namespace_for(field)
        rate = params.loc - field
        # not <=: a nan is refused as well
        if not bool(xp.all(rate > 0)):
            unit = int(xp.nonzero(~xp.all(rate > 0, axis=0))[0][0])
            raise NoPartitionFunctionError(
                f"ExponentialLayer: unit {unit} has the conditional rate loc - field = "
                f"{float(xp.min(rate[:, unit])):g}, expected a positive one"
            )

    def conditional_mode(self, scaled_units: Any, weights: Any, beta: Any = None) -> Any:
        """Zero, where every conditional rate is positive; takes what `conditional_mean` takes."""
        check_beta("conditional_mode", beta, scaled_units[0].shape[0])
        field = self.field(scaled_units, weights)
        self.check_field(self.params, field)
        return self.unit_mode(namespace_for(field), self.params, field)

    def log_partition_function(self, phi: Any, A: Any = 0) -> Any:
        """-log(loc - phi), the log of the integral of exp(-loc x + phi x) over x >= 0.

        Parameters
        ----------
        phi : array or Tensor (num_samples, num_units)
            External field.
        A : number, optional
            Must be 0.

        Returns
        -------
        array or Tensor (num_samples, num_units)

        Raises
        ------
        NoPartitionFunctionError
            A rate loc - phi that is not positive.
        """
        self.check_field(self.params, getattr(phi, DATA_ATTRIBUTE, phi))
        return super().log_partition_function(phi, A)

    def bridge(self, base: Any, beta: float) -> Any:
        return self.Params(self.params.loc + (1 / beta - 1) * base.loc)

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> ParamsExponential:
        """Derivatives of the energy averaged over the batch: d<E> / d loc_i = <x_i>.

        Takes what `GaussianLayer.derivatives` takes; the couplings do not depend on loc.

        Returns
        -------
        ParamsExponential
        """
        check_beta("derivatives", beta, vis.shape[0])
        return ParamsExponential(batch_mean(namespace_for(vis), vis, sample_weight))

    def tail_rates(self) -> list[tuple[float, np.ndarray]]:
        return [(1.0, asnumpy(self.params.loc).astype("float64"))]

    def online_param_update(self, data: Any) -> None:
        """Set loc to 1 / mean of all the data seen so far, by exact running means.

        Any split of the data into batches gives the same parameters. Means are at least 1/(2n), so
        that a unit that was always 0 gets a finite rate.

        Parameters
        ----------
        data : array (num_samples, num_units)
        """
        mean = self._running_mean(data)
        mean = namespace_for(mean).maximum(mean, 0.5 / self.sample_size)
        self.params.loc[...] = (1 / mean).astype(self.dtype)
