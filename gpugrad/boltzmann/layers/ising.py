"""Ising units: s in {-1, +1} with energy -loc s."""

from collections import namedtuple
from typing import Any

from gpugrad.boltzmann.layers.magnetization import MagnetizationIsing
from gpugrad.boltzmann.layers.spin import SpinLayer

__all__ = ["IsingLayer", "ParamsIsing"]

ParamsIsing = namedtuple("ParamsIsing", ["loc"])


class IsingLayer(SpinLayer):
    """A layer of units with the values -1 and +1.

    The energy of a state is -sum_i loc_i s_i. In a field phi a unit is +1 with probability
    sigmoid(2 (loc + phi)) and has mean tanh(loc + phi).

    Parameters
    ----------
    num_units : int
    dtype : dtype, optional
    device : str or Device, optional
    """

    layer_type = "ising"
    Params = ParamsIsing
    support = (-1.0, 1.0)
    data_range = (-1.0, 1.0)
    neutral = 0.0
    Magnetization = MagnetizationIsing

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """log 2 cosh(beta (loc + phi)), without overflow."""
        x = params.loc + phi
        x = x if beta is None else beta * x
        # log(e^x + e^-x) = softplus(2x) - x
        return xp.softplus(2 * x) - x

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """tanh(beta (loc + phi))."""
        x = params.loc + phi
        return xp.tanh(x if beta is None else beta * x)

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """+1 where loc + phi is positive, else -1."""
        x = params.loc + phi
        return 2 * (x > 0).astype(x.dtype) - 1

    def log_partition_function(self, phi: Any, A: Any = 0) -> Any:
        """log sum over s in {-1, +1} of exp(loc s + phi s - A s^2) = log(2 cosh(loc + phi)) - A.

        The constant log 2 is included, so that the log Z of a machine is exact.

        Parameters
        ----------
        phi : array or Tensor (num_samples, num_units)
            External field.
        A : array, Tensor or number, optional
            Diagonal quadratic interaction; s^2 = 1, so it only shifts the result.

        Returns
        -------
        array or Tensor (num_samples, num_units)
        """
        return self._log_partition(phi) - A

    @staticmethod
    def _loc_of_mean(xp: Any, mean: Any, half_count: float) -> Any:
        p = xp.clip((1 + mean) / 2, half_count, 1 - half_count)
        return (xp.log(p) - xp.log1p(-p)) / 2  # artanh of the mean
