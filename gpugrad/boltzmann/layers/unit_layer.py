"""Layers of units: conditionals, energies and moments in terms of the field from the neighbours.

A unit type is its energy and its log-partition function in array functions (`unit_energy`,
`unit_log_partition`), the mean and mode that follow, and a way to draw from the conditional. These
are static functions of (xp, params, ...), so that they take arrays and Tensors alike; the methods
of the layer pass its own parameters to them.
"""

from typing import Any, ClassVar

from gpugrad.backend.array_module import module_for, on
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers.layer import Layer
from gpugrad.boltzmann.state import check_beta, namespace_for, positive_int
from gpugrad.errors import ParameterError

__all__ = ["UnitLayer"]


class UnitLayer(Layer):
    """A layer of `num_units` units of one type.

    Parameters
    ----------
    num_units : int
        At least 1.
    dtype : dtype, optional
    device : str or Device, optional
        Where the parameters live; the current device if None.
    """

    support: ClassVar[tuple[float, ...]] = ()
    """The states of one unit."""
    data_range: ClassVar[tuple[float, float]] = (0.0, 0.0)
    """Smallest and largest value that data may have (expected values included)."""
    neutral: ClassVar[float] = 0.0
    """Mean of a unit in zero field."""

    def __init__(self, num_units: int, *, dtype: Any = "float32", device: Any = None) -> None:
        name = type(self).__name__
        self.num_units = positive_int(name, "num_units", num_units)
        self.sample_size = 0
        with on(device):
            xp = module_for(device)
            super().__init__(*(xp.zeros(self.num_units, dtype=dtype) for _ in self.Params._fields))
        self._moment: Any = None

    @property
    def len(self) -> int:
        """Number of units."""
        return self.num_units

    def __len__(self) -> int:
        return self.num_units

    def get_config(self) -> dict[str, Any]:
        """Type, size, dtype, penalties, constraints and number of samples seen."""
        return {
            **self.get_base_config(),
            "num_units": self.num_units,
            "sample_size": self.sample_size,
        }

    @classmethod
    def _from_config(cls, config: Any) -> "UnitLayer":
        return cls(config["num_units"], dtype=config["dtype"], device="cpu")

    # ---- the unit, as functions of arrays or Tensors

    @staticmethod
    def unit_energy(xp: Any, params: Any, units: Any) -> Any:
        """Energy of the layer alone, (num_samples,)."""
        raise NotImplementedError

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """log sum over states s of exp(-beta E(s) + beta phi s), for each unit."""
        raise NotImplementedError

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """Mean of each unit in the field phi."""
        raise NotImplementedError

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """Most probable state of each unit in the field phi."""
        raise NotImplementedError

    @classmethod
    def sum_log_partition_(cls, xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """`unit_log_partition` of phi (num_units, num_samples) summed over the units.

        The units run along the first axis, where a sum over them is a sum of rows. phi may be
        overwritten. The result is (num_samples,).
        """
        columns = type(params)(*(p[:, None] for p in params))
        return xp.sum(cls.unit_log_partition(xp, columns, phi, beta), axis=0)

    def bridge(self, base: Any, beta: float) -> Any:
        """Parameters p with beta E(p) = (1 - beta) E(base) + beta E(self.params), 0 < beta <= 1.

        With them the functions above, called at inverse temperature beta, describe the machine at
        point beta of the straight path from the base machine to this one.
        """
        raise NotImplementedError

    # ---- methods with the layer's own parameters

    def energy(self, data: Any) -> Any:
        """Energy of the layer for each sample, without the couplings.

        Parameters
        ----------
        data : array or Tensor (num_samples, num_units)

        Returns
        -------
        array or Tensor (num_samples,)
        """
        return self.unit_energy(namespace_for(data, *self.params), self.params, data)

    def rescale(self, observations: Any) -> Any:
        """The values that couplings see: the units themselves."""
        return observations

    def shrink_parameters(self, shrinkage: float = 1) -> None:
        """Does nothing: these units have no width to shrink."""

    def field(self, scaled_units: Any, weights: Any, *, out: Any = None) -> Any:
        """Sum over the neighbours of their rescaled units times the weights.

        Parameters
        ----------
        scaled_units : list of array (num_samples, num_connected_units)
        weights : list of array (num_connected_units, num_units)
        out : array (num_samples, num_units), optional
        """
        xp = namespace_for(*scaled_units)
        field = xp.matmul(scaled_units[0], weights[0], out=out)
        for units, matrix in zip(scaled_units[1:], weights[1:], strict=True):
            field += xp.matmul(units, matrix)
        return field

    def conditional_mean(self, scaled_units: Any, weights: Any, beta: Any = None) -> Any:
        """Mean of the units given the connected layers.

        Parameters
        ----------
        scaled_units : list of array (num_samples, num_connected_units)
            Rescaled values of the connected units.
        weights : list of array (num_connected_units, num_units)
        beta : float or array (num_samples, 1), optional
            Inverse temperatures.

        Returns
        -------
        array (num_samples, num_units)
        """
        check_beta("conditional_mean", beta, scaled_units[0].shape[0])
        return self.draw(
            self.field(scaled_units, weights), beta, sample=False, mean=True, params=self.params
        )[1]

    def conditional_mode(self, scaled_units: Any, weights: Any, beta: Any = None) -> Any:
        """Most probable state of the units given the connected layers.

        Takes what `conditional_mean` takes. A positive beta does not move the mode, so beta is only
        checked. A unit in zero field, whose states are equally probable, takes the lower one.
        """
        check_beta("conditional_mode", beta, scaled_units[0].shape[0])
        field = self.field(scaled_units, weights)
        return self.unit_mode(namespace_for(field), self.params, field)

    def conditional_sample(
        self,
        scaled_units: Any,
        weights: Any,
        beta: Any = None,
        *,
        rng: Generator | None = None,
        out: Any = None,
    ) -> Any:
        """A state of the units drawn from their distribution given the connected layers.

        Takes what `conditional_mean` takes; `rng` is the generator to draw from (the default one if
        None), `out` an array to write the sample into.
        """
        check_beta("conditional_sample", beta, scaled_units[0].shape[0])
        field = self.field(scaled_units, weights, out=out)
        return self.draw(field, beta, rng=rng, out=field)[0]

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
        """Sample and mean of the units in a field; whichever is not asked for is None.

        Parameters
        ----------
        field : array (num_samples, num_units)
            Sum over the connected units times the weights; the layer's loc is not in it.
        beta : float or array (num_samples, 1), optional
        rng : Generator, optional
        sample, mean : bool
        out : array, optional
            Receives the sample (the mean, if no sample is asked for); may be `field` itself. A
            tuple (sample, mean) receives both, either of them may be None.
        params : namedtuple, optional
            Used in place of the layer's own.
        """
        raise NotImplementedError

    def random(self, array_or_shape: Any, *, rng: Generator | None = None) -> Any:
        """A sample of the layer without neighbours, drawn with its loc.

        Parameters
        ----------
        array_or_shape : array or tuple of int
            The shape, or an array that has it; the last axis runs over the units.
        rng : Generator, optional
        """
        shape = tuple(getattr(array_or_shape, "shape", array_or_shape))
        with on(self.device):
            xp = module_for(self.device)
            field = xp.zeros((*shape[:-1], self.num_units), dtype=self.dtype)
        if shape != field.shape:
            raise ParameterError(
                f"{type(self).__name__}.random: shape {shape}, the last axis expected "
                f"{self.num_units} units"
            )
        flat = field.reshape(-1, self.num_units)
        return self.draw(flat, rng=rng, out=flat)[0].reshape(shape)

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> Any:
        """Derivatives of the energy with respect to the parameters, averaged over the batch."""
        raise NotImplementedError

    def online_param_update(self, data: Any) -> None:
        """Fit the parameters to all the data seen so far by keeping exact running moments."""
        raise NotImplementedError

    def _running_mean(self, data: Any) -> Any:
        """Mean of all data seen so far (float64), this batch included."""
        xp = namespace_for(data)
        total = xp.sum(data, axis=0, dtype="float64")
        self._moment = total if self.sample_size == 0 else self._moment + total
        self.sample_size += int(data.shape[0])
        return self._moment / self.sample_size


def batch_mean(xp: Any, units: Any, sample_weight: Any = None) -> Any:
    """Mean over the batch; with weights (num_samples,) that add up to 1, the weighted sum."""
    if sample_weight is None:
        return xp.mean(units, axis=0)
    return xp.matmul(sample_weight, units)
