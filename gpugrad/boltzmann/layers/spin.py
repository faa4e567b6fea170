"""What Bernoulli and Ising units share: two states, one field `loc`, energy -loc s."""

from typing import Any, ClassVar

import numpy as np

from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.layers.unit_layer import UnitLayer, batch_mean
from gpugrad.boltzmann.state import check_beta, namespace_for
from gpugrad.primitives.gibbs import field_bits, sample_units

__all__ = ["SpinLayer"]


class SpinLayer(UnitLayer):
    """A layer of two-valued units with energy -sum_i loc_i s_i."""

    #: The class of this layer's magnetisations.
    Magnetization: ClassVar[Any]

    @staticmethod
    def unit_energy(xp: Any, params: Any, units: Any) -> Any:
        """-sum_i loc_i s_i, one value a sample."""
        return -xp.matmul(units, params.loc)

    @classmethod
    def sum_log_partition_(cls, xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        # With y = |x (s1 - s0)| the sum over units of log(e^(x s0) + e^(x s1)) is
        # sum x (s0 + s1) / 2 + sum y / 2 + log prod(1 + e^-y): one exp a unit, one log a product.
        # Factors lie in [1, 2]: so many of them as the type has powers of 2 do not overflow.
        low, high = cls.support
        x = phi
        x += params.loc[:, None]
        if beta is not None:
            x *= beta
        total = xp.sum(x, axis=0) * ((low + high) / 2)
        xp.absolute(x, out=x)
        x *= low - high
        total -= xp.sum(x, axis=0) / 2
        xp.exp(x, out=x)
        x += 1
        rows = np.finfo(x.dtype).maxexp - 1
        for start in range(0, x.shape[0], rows):
            total += xp.log(xp.prod(x[start : start + rows], axis=0))
        return total

    def _log_partition(self, phi: Any) -> Any:
        return self.unit_log_partition(namespace_for(phi, *self.params), self.params, phi)

    @staticmethod
    def _loc_of_mean(xp: Any, mean: Any, half_count: float) -> Any:
        """loc at which a free unit has this mean, kept half a count away from the extremes."""
        raise NotImplementedError

    def loc_of_mean(self, mean: Any, half_count: float) -> Any:
        """loc, as float64, at which the units without neighbours have these means.

        Parameters
        ----------
        mean : array (num_units,)
        half_count : float
            Probabilities are clipped to [half_count, 1 - half_count]; 1 / (2n) for n samples.
        """
        return self._loc_of_mean(namespace_for(mean), mean, half_count)

    def draw(
        self,
        field: Any,
        beta: Any = None,
        *,
        rng: Generator | None = None,
        sample: bool = True,
        mean: bool = False,
        out: Any = None,
        params: Any = None,
    ) -> tuple[Any, Any]:
        reserved = None
        if sample:
            generator = default_generator() if rng is None else rng
            reserved = generator.reserve(field.size, field_bits(field.dtype))
        return sample_units(
            field,
            (self.params if params is None else params).loc,
            unit=self.layer_type,
            draw=reserved,
            beta=beta,
            sample=sample,
            mean=mean,
            out=out,
        )

    def bridge(self, base: Any, beta: float) -> Any:
        return self.Params(self.params.loc + (1 / beta - 1) * base.loc)

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> Any:
        """Derivatives of the energy averaged over the batch: d<E> / d loc_i = -<s_i>.

        Parameters
        ----------
        vis : array (num_samples, num_units)
            Values of this layer's units.
        hid, weights : list of array
            The connected units and weights; the energy of these units does not depend on them.
        beta : float or array (num_samples, 1), optional
            Only checked: the derivatives are those of E, not of beta E.
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        namedtuple
            `loc`: array (num_units,).
        """
        check_beta("derivatives", beta, vis.shape[0])
        return self.Params(-batch_mean(namespace_for(vis), vis, sample_weight))

    # ---- magnetisations of the TAP free energy

    def get_zero_magnetization(self) -> Any:
        """A magnetisation whose expectations (num_units,) are all 0."""
        return self.Magnetization(namespace_for(self.params.loc).zeros_like(self.params.loc))

    def get_random_magnetization(
        self, *, rng: Generator | None = None, num_samples: int | None = None, eps: float = 1e-6
    ) -> Any:
        """A magnetisation with expectations uniform between the two states of the units.

        Parameters
        ----------
        rng : Generator, optional
            The generator to draw from; the default one if None.
        num_samples : int, optional
            Give so many of them, (num_samples, num_units), in place of one, (num_units,).
        eps : float
            How far from the states themselves the expectations are kept: a part of their distance.
        """
        generator = default_generator() if rng is None else rng
        shape = (self.num_units,) if num_samples is None else (num_samples, self.num_units)
        drawn = generator.uniform(shape, "float64", device=self.device)
        drawn = namespace_for(drawn).clip(drawn, eps, 1 - eps)
        low, high = self.support
        return self.Magnetization((low + (high - low) * drawn).astype(self.dtype))

    def GFE_derivatives(self, mag: Any, *, sample_weight: Any = None) -> Any:
        """Derivative of the Gibbs free energy with respect to loc: minus the expectations.

        Parameters
        ----------
        mag : magnetisation
            Of this layer; of several the mean is taken.
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        namedtuple
            `loc`: array (num_units,).
        """
        m = mag.expectation().reshape(-1, self.num_units)
        return self.Params(-batch_mean(namespace_for(m), m, sample_weight))

    def online_param_update(self, data: Any) -> None:
        """Fit loc to all the data seen so far by keeping exact running means.

        Any split of the data into batches gives the same parameters. A unit that always had one
        value gets the loc of half a count more: probabilities are clipped to [1/(2n), 1 - 1/(2n)].

        Parameters
        ----------
        data : array (num_samples, num_units)
        """
        mean = self._running_mean(data)
        loc = self.loc_of_mean(mean, 0.5 / self.sample_size)
        self.params.loc[...] = loc.astype(self.dtype)
