"""Bernoulli units: s in {0, 1} with energy -loc s."""

from collections import namedtuple
from typing import Any

from gpugrad.boltzmann.layers.magnetization import MagnetizationBernoulli
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.state import namespace_for

__all__ = ["BernoulliLayer", "ParamsBernoulli"]

ParamsBernoulli = namedtuple("ParamsBernoulli", ["loc"])


class BernoulliLayer(SpinLayer):
    """A layer of units with the values 0 and 1.

    The energy of a state is -sum_i loc_i s_i. In a field phi a unit is 1 with probability
    sigmoid(loc + phi).

    Parameters
    ----------
    num_units : int
    dtype : dtype, optional
    device : str or Device, optional
    """

    layer_type = "bernoulli"
    Params = ParamsBernoulli
    support = (0.0, 1.0)
    data_range = (0.0, 1.0)
    neutral = 0.5
    Magnetization = MagnetizationBernoulli

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """softplus(beta (loc + phi))."""
        x = params.loc + phi
        return xp.softplus(x if beta is None else beta * x)

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """sigmoid(beta (loc + phi))."""
        x = params.loc + phi
        return xp.sigmoid(x if beta is None else beta * x)

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """1 where loc + phi is positive, else 0."""
        x = params.loc + phi
        return (x > 0).astype(x.dtype)

    def log_partition_function(self, B: Any, A: Any = 0) -> Any:
        """log sum over s in {0, 1} of exp(loc s + B s - A s^2) = softplus(loc + B - A).

        Parameters
        ----------
        B : array or Tensor (num_samples, num_units)
            External field.
        A : array, Tensor or number, optional
            Diagonal quadratic interaction.

        Returns
        -------
        array or Tensor (num_samples, num_units)
        """
        return self._log_partition(B - A)

    def grad_log_partition_function(self, B: Any, A: Any = 0) -> ParamsBernoulli:
        """Derivative of `log_partition_function` with respect to loc, averaged over the batch.

        Parameters
        ----------
        B : array or Tensor (num_samples, num_units)
            External field.
        A : array, Tensor or number, optional
            Diagonal quadratic interaction.

        Returns
        -------
        ParamsBernoulli
            `loc`: mean over the samples of sigmoid(loc + B - A), (num_units,).
        """
        field = B - A
        xp = namespace_for(field, self.params.loc)
        return ParamsBernoulli(xp.mean(self.unit_mean(xp, self.params, field), axis=0))

    @staticmethod
    def _loc_of_mean(xp: Any, mean: Any, half_count: float) -> Any:
        p = xp.clip(mean, half_count, 1 - half_count)
        return xp.log(p) - xp.log1p(-p)
