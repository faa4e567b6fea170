"""Layers of units: conditionals, energies and moments in terms of the field from the neighbours.

A unit type is its energy and its log-partition function in array functions (`unit_energy`,
`unit_log_partition`), the mean and mode that follow, and a way to draw from the conditional. These
are static functions of (xp, params, ...), so that they take arrays and Tensors alike; the methods
of the layer pass its own parameters to them.
"""

from typing import Any, ClassVar

import numpy as np

from gpugrad.backend.array_module import device_of, module_for, on
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.layers.layer import Layer
from gpugrad.boltzmann.state import check_beta, check_dtype, namespace_for, positive_int, product_of
from gpugrad.errors import ParameterError

__all__ = ["UnitLayer", "add_to_loc", "batch_mean", "scaled_by"]


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
    """The states of one unit; empty where they fill an interval."""
    data_range: ClassVar[tuple[float, float]] = (0.0, 0.0)
    """Smallest and largest value that data may have (expected values included)."""
    neutral: ClassVar[float] = 0.0
    """Mean of a unit in zero field."""
    start: ClassVar[float] = 0.0
    """What `loc` starts at."""
    growth: ClassVar[str] = "bounded"
    """How fast the energy of a free unit grows with its value: "bounded" support, "superquadratic",
    "quadratic" or "linear"; or "unknown". With its neighbours' it decides whether a machine has a
    partition function."""
    open_tails: ClassVar[bool] = False
    """Whether `growth` depends on the parameters; looking at it then waits for the device."""
    signed: ClassVar[bool] = False
    """Whether an unbounded unit takes values of both signs."""
    means_suffice: ClassVar[bool] = True
    """Whether `derivatives` of means are as good as those of samples in a difference of phases.
    Where they are not, units that are not observed need `expected_derivatives`."""
    loc_sign: ClassVar[float] = 1.0
    """The energy has the term -loc_sign loc s: -1 where loc is a rate."""
    noise: ClassVar[str] = "uniform"
    """The random numbers, "uniform" in [0, 1) or "normal", that `unit_sample` turns into states."""

    def __init__(self, num_units: int, *, dtype: Any = "float32", device: Any = None) -> None:
        name = type(self).__name__
        self.num_units = positive_int(name, "num_units", num_units)
        check_dtype(name, dtype)
        self.sample_size = 0
        with on(device):
            xp = module_for(device)
            shape = self._param_shape()
            super().__init__(*(xp.zeros(shape, dtype=dtype) for _ in self.Params._fields))
            self.reset_params()
        self._moment: Any = None

    def _param_shape(self) -> tuple[int, ...]:
        return (self.num_units,)

    def reset_params(self) -> None:
        """Put the parameters back to their start values, in place."""
        for name, parameter in self.params._asdict().items():
            parameter[...] = self.start if name == "loc" else 0

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
    def unit_rescale(xp: Any, params: Any, units: Any) -> Any:
        """The values that couplings see."""
        return units

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """log sum over states s of exp(-beta E(s) + beta phi s), for each unit.

        phi is the field that neighbours send, conjugate to the rescaled unit: in place of s stands
        `unit_rescale` of s. Over an interval the sum is an integral.
        """
        raise NotImplementedError

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """Mean of each unit in the field phi."""
        raise NotImplementedError

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """Most probable state of each unit in the field phi."""
        raise NotImplementedError

    @staticmethod
    def unit_sample(xp: Any, params: Any, phi: Any, noise: Any, beta: Any = None) -> Any:
        """States of the units in the field phi, made from random numbers of the kind `noise`."""
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

        Raises
        ------
        ParameterError
            Energies of these units do not mix that way.
        """
        raise ParameterError(
            f"{type(self).__name__}.bridge: annealing between machines needs an energy linear in "
            "the parameters and the units, which these units do not have"
        )

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
        """The values that couplings see: the units themselves, but for Gaussian units.

        Parameters
        ----------
        observations : array or Tensor (num_samples, num_units)
        """
        return self.unit_rescale(
            namespace_for(observations, *self.params), self.params, observations
        )

    def log_partition_function(self, phi: Any, A: Any = 0) -> Any:
        """log of the sum (integral) over states s of exp(-E(s) + phi s - A s^2), for each unit.

        Parameters
        ----------
        phi : array or Tensor (num_samples, num_units)
            External field, conjugate to the unit itself.
        A : array, Tensor or number, optional
            Diagonal quadratic interaction.

        Returns
        -------
        array or Tensor (num_samples, num_units)

        Raises
        ------
        ParameterError
            A is given to a unit type for which the integral has no closed form with it.
        """
        if not isinstance(A, int | float) or A != 0:
            raise ParameterError(
                f"{type(self).__name__}.log_partition_function: A is {A!r}, expected 0: with a "
                "quadratic term the integral has no closed form here"
            )
        return self.unit_log_partition(namespace_for(phi, *self.params), self.params, phi)

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
        matmul = product_of(scaled_units[0])
        field = matmul(scaled_units[0], weights[0], out=out)
        for units, matrix in zip(scaled_units[1:], weights[1:], strict=True):
            field += matmul(units, matrix)
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

        Raises
        ------
        NoPartitionFunctionError
            A field in which a unit has no distribution (exponential units only).
        """
        xp = namespace_for(field)
        p = self.params if params is None else params
        self.check_field(p, field)
        targets = out if isinstance(out, tuple) else ((out, None) if sample else (None, out))
        # both before either is written: `out` may be the field
        averaged = self.unit_mean(xp, p, field, beta) if mean else None
        drawn = None
        if sample:
            noise = self._draw_noise(field, default_generator() if rng is None else rng)
            drawn = self.unit_sample(xp, p, field, noise, beta)
        return _into(targets[0], drawn, field.dtype), _into(targets[1], averaged, field.dtype)

    def check_field(self, params: Any, field: Any) -> None:
        """Raise where a unit has no distribution in its field; few unit types can."""

    def largest_field(self, W: Any) -> Any:
        """Largest field, over all states of these bounded units, that they send through W.

        Parameters
        ----------
        W : numpy.ndarray (receiving units, num_units)

        Returns
        -------
        numpy.ndarray (receiving units,)
        """
        low, high = self.data_range
        return (W * (low + high) / 2 + abs(W) * (high - low) / 2).sum(axis=1)

    def precision(self) -> np.ndarray:
        """Of a unit of "quadratic" growth: E grows like precision x^2 / 2, (num_units,)."""
        raise NotImplementedError

    def coupling_scale(self) -> np.ndarray:
        """What `rescale` multiplies a unit by, (num_units,)."""
        return np.ones(self.num_units)

    def tail_rates(self) -> list[tuple[float, np.ndarray]]:
        """Of units of "linear" growth: sign of each infinite end, slope of E towards it."""
        raise NotImplementedError

    def check_rows(self, data: Any, function: str) -> None:
        """Raise a DataError for values that the units cannot take, beyond the range; few types."""

    def _noise_shape(self, field: Any) -> tuple[int, ...]:
        return tuple(field.shape)

    def _draw_noise(self, field: Any, rng: Generator) -> Any:
        dtype = "float64" if field.dtype.itemsize == 8 else "float32"
        draw = rng.normal if self.noise == "normal" else rng.uniform
        return draw(self._noise_shape(field), dtype, device=device_of(field))

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

    def expected_derivatives(
        self, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> Any:
        """Derivatives of the energy, averaged over these units' states given their neighbours.

        The expected value of `derivatives`: for energies linear in the units, that at their means.

        Parameters
        ----------
        hid : list of array (num_samples, num_connected_units)
            Rescaled values of the connected units.
        weights : list of array (num_connected_units, num_units)
        beta : float or array (num_samples, 1), optional
            Inverse temperature of the distribution; the derivatives are those of E.
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        namedtuple
        """
        mean = self.conditional_mean(hid, weights, beta)
        return self.derivatives(mean, hid, weights, beta, sample_weight=sample_weight)

    def online_param_update(self, data: Any) -> None:
        """Fit the parameters to all the data seen so far by keeping exact running moments."""
        raise NotImplementedError

    def _running_mean(self, data: Any) -> Any:
        """Mean of all data seen so far (float64), this batch included."""
        xp = namespace_for(data)
        total = xp.sum(data, axis=0, dtype="float64")
        # a layer from a file knows how many samples it saw, but not their sum: it starts anew
        if self.sample_size == 0 or self._moment is None:
            self.sample_size, self._moment = 0, xp.zeros_like(total)
        self._moment = self._moment + total
        self.sample_size += int(data.shape[0])
        return self._moment / self.sample_size


def _into(target: Any, values: Any, dtype: Any) -> Any:
    """`values` written into `target`, or as a new array of that dtype."""
    if values is None:
        return None
    if target is None:
        return values.astype(dtype, copy=False)
    target[...] = values
    return target


def add_to_loc(layer: UnitLayer, loc: Any, field: Any) -> None:
    """Add a constant field to `loc`, or to a gradient with respect to it, in place.

    Parameters
    ----------
    layer : UnitLayer
    loc : array of the shape of the layer's loc
    field : array (num_units,)
    """
    loc += layer.loc_sign * field.reshape(loc.shape)


def scaled_by(beta: Any, x: Any) -> Any:
    """beta x; x itself where no beta is given."""
    return x if beta is None else beta * x


def batch_mean(xp: Any, units: Any, sample_weight: Any = None) -> Any:
    """Mean over the batch; with weights (num_samples,) that add up to 1, the weighted sum."""
    if sample_weight is None:
        return xp.mean(units, axis=0)
    return xp.matmul(sample_weight, units)
