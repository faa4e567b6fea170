"""Units of one's own: an energy in array functions, and everything else follows from it.

    class BlumeCapel(EnergyLayer):
        support = (-1, 0, 1)
        parameters = {"crystal": 0.0}

        @staticmethod
        def potential(xp, params, x):
            return params.crystal * x * x

is a complete unit type: it has conditionals, means, modes, samples, free energies and derivatives,
trains by `fit`, and is saved and loaded. A finite support is summed exactly, an interval is
integrated (:mod:`gpugrad.boltzmann.layers.quadrature`); derivatives come from autodiff.
"""

import math
import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from gpugrad.backend import special  # noqa: F401 (it makes the word logsumexp)
from gpugrad.backend.array_module import (
    DATA_ATTRIBUTE,
    asnumpy,
    device_of,
    get_array_module,
    to_device,
)
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.boltzmann.layers.blocks import Mixed, blocks, joined, raw
from gpugrad.boltzmann.layers.quadrature import Panels, find_bulk, highest_point, rising_root
from gpugrad.boltzmann.layers.unit_layer import UnitLayer, batch_mean, scaled_by
from gpugrad.boltzmann.state import check_beta, namespace_for
from gpugrad.errors import DataError, NoPartitionFunctionError, ParameterError

__all__ = ["EnergyLayer"]


class EnergyLayer(UnitLayer):
    """A layer of units whose energy its subclass gives; no derivative has to be written.

    The energy of a state is sum_i [V(x_i) - loc_i x_i]. A subclass names the values x of a unit and
    the on-site potential V, as class attributes:

    support : tuple of float
        The values, in rising order; or
    interval : tuple of float
        the ends of the interval that they fill; either may be infinite.
    parameters : dict of float, optional
        Names of the parameters of V and their start values. Each unit has its own ones, arrays
        (num_units,); `loc` is always there, starts at 0 and is not listed.
    potential(xp, params, x) : staticmethod, optional
        V at the values x, elementwise, in functions of the namespace `xp`, which are those of
        NumPy, CuPy or Tensors: `xp.exp`, not `numpy.exp`. `params` is a namedtuple of arrays
        (num_units,); the last axis of x runs over the units. 0 if it is left out.
    breaks : tuple of float, optional
        Points of the interval where V has a kink or a jump.
    tolerance : float, optional
        Largest error of the distribution function that samples are drawn from, 1e-6 if left out
        (2e-5 if that is more, in single and half precision). It is estimated for every unit in
        every field, from the last coefficients of an expansion. Log-partition functions and means
        come from a rule of twice the order, whose error for smooth energies is that of rounding.
    layer_type : str, optional
        The name in files and in `layers.get`; the class's name in lower case if left out.

    Where a closed form is known, the subclass may override `unit_log_partition`, `unit_mean`,
    `unit_mode` or `unit_sample` (see `UnitLayer`), each on its own. With `unit_log_partition`
    alone, neither support nor interval nor potential, the mean is its derivative, and the subclass
    brings `unit_sample`.

    Parameters
    ----------
    num_units : int
    dtype : dtype, optional
    device : str or Device, optional

    Attributes
    ----------
    params : namedtuple
        `loc` and the parameters of the subclass, (num_units,) each.

    Raises
    ------
    ParameterError
        A definition that does not fit together, when the class is defined; an integral that does
        not reach its tolerance, when it is computed.
    NoPartitionFunctionError
        In some field the weight of a unit cannot be integrated.

    Notes
    -----
    A unit over an interval costs some hundred evaluations of V for each sample, 3 to 10
    microseconds on one core; drawing waits for the device.

    Where V has parameters, means do not stand for samples in the derivatives of the energy: hidden
    units need `expected_derivatives` (`means_suffice` is False), as `BoltzmannMachine.gradient`
    knows.

    To load a machine with such units, the class has to be defined (imported) before.

    Examples
    --------
    A double well, the phi^4 unit of lattice field theory:

    >>> import math
    >>> import numpy as np
    >>> from gpugrad.boltzmann.layers import EnergyLayer
    >>> class DoubleWell(EnergyLayer):
    ...     interval = (-math.inf, math.inf)
    ...     parameters = {"depth": 1.0}
    ...
    ...     @staticmethod
    ...     def potential(xp, params, x):
    ...         return params.depth * (x * x - 1) ** 2
    >>> layer = DoubleWell(2, dtype="float64", device="cpu")
    >>> layer.log_partition_function(np.array([[0.0, 0.5]])).round(6)
    array([[0.679926, 0.781535]])
    """

    layer_type = "energy"
    interval: ClassVar[tuple[float, float] | None] = None
    parameters: ClassVar[Mapping[str, float]] = {}
    breaks: ClassVar[tuple[float, ...]] = ()
    tolerance: ClassVar[float] = 1e-6

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "layer_type" not in cls.__dict__:
            cls.layer_type = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        own = cls.__dict__
        if "support" in own and "interval" not in own:
            cls.interval = None
        if "interval" in own and "support" not in own:
            cls.support = ()
        cls._check_definition()
        # mypy takes a namedtuple with a computed name for a type of its own
        setattr(cls, "Params", namedtuple(f"Params{cls.__name__}", ["loc", *cls.parameters]))  # noqa: B010
        if cls.support:
            cls.data_range = (min(cls.support), max(cls.support))
        else:
            cls.data_range = cls.interval or (-math.inf, math.inf)
        super().__init_subclass__(**kwargs)

    @classmethod
    def _check_definition(cls) -> None:
        name = cls.__name__
        if cls.support:
            cls.support = tuple(float(s) for s in cls.support)
            steps = np.diff(cls.support)
            if len(cls.support) < 2 or not np.all(np.isfinite(cls.support)) or np.any(steps <= 0):
                raise ParameterError(
                    f"{name}: support is {cls.support}, expected two or more rising finite values"
                )
            if cls.interval is not None:
                raise ParameterError(f"{name}: support and interval, expected one of them")
        if cls.interval is not None:
            low, high = (float(end) for end in cls.interval)
            if not low < high:
                raise ParameterError(f"{name}: interval is {cls.interval}, expected low < high")
            if any(not low < b < high for b in cls.breaks) or list(cls.breaks) != sorted(
                cls.breaks
            ):
                raise ParameterError(
                    f"{name}: breaks are {cls.breaks}, expected rising points inside {cls.interval}"
                )
        wrong = [p for p in cls.parameters if p == "loc" or p.startswith("_")]
        if wrong or not all(p.isidentifier() for p in cls.parameters):
            raise ParameterError(
                f"{name}: parameters are {list(cls.parameters)}, expected identifiers other than "
                "'loc', which every unit has"
            )
        if not 0 < cls.tolerance < 1:
            raise ParameterError(f"{name}: tolerance is {cls.tolerance!r}, expected a small number")

    def __init__(self, num_units: int, *, dtype: Any = "float32", device: Any = None) -> None:
        cls = type(self)
        if not cls.support and cls.interval is None and not cls._has_own_log_partition():
            raise ParameterError(
                f"{cls.__name__}: no values of a unit, expected the class to have a support, an "
                "interval or a unit_log_partition"
            )
        super().__init__(num_units, dtype=dtype, device=device)

    def reset_params(self) -> None:
        start = {"loc": self.start, **self.parameters}
        for name, parameter in self.params._asdict().items():
            parameter[...] = start[name]

    @classmethod
    def _has_own_log_partition(cls) -> bool:
        own = cls.unit_log_partition.__func__  # type: ignore[attr-defined]
        return own is not EnergyLayer.unit_log_partition.__func__  # type: ignore[attr-defined]

    @property
    def means_suffice(self) -> bool:  # type: ignore[override]
        """Whether means may stand for samples in `derivatives`: not if V has parameters."""
        return not self.parameters

    @property
    def neutral(self) -> float:  # type: ignore[override]
        """Mean of a unit in zero field, with the parameters that it starts with."""
        start = self.Params(np.zeros(1), *(np.full(1, float(v)) for v in self.parameters.values()))
        zero = np.zeros((1, 1))
        return float(self.unit_mean(namespace_for(zero), start, zero)[0, 0])

    # ---- the energy

    @staticmethod
    def potential(xp: Any, params: Any, x: Any) -> Any:
        """V at the values x, elementwise; the subclass's to give."""
        return xp.zeros_like(x)

    @classmethod
    def unit_energy(cls, xp: Any, params: Any, units: Any) -> Any:
        """sum_i [V(x_i) - loc_i x_i], one value a sample."""
        return xp.sum(cls.unit_energies(xp, params, units), axis=1)

    @classmethod
    def unit_energies(cls, xp: Any, params: Any, x: Any) -> Any:
        """V(x) - loc x of single units, elementwise; the last axis of x runs over the units."""
        if not isinstance(params, Mixed):
            return cls.potential(xp, params, x) - params.loc * x
        own, base, b = params
        mixed = b * cls.unit_energies(xp, own, x) + (1 - b) * cls.unit_energies(xp, base, x)
        return mixed / b

    @classmethod
    def _log_weight(cls, xp: Any, params: Any, phi: Any, beta: Any, A: Any) -> Any:
        """The function x -> beta (phi x - E(x)) - A x^2 of values (..., samples, units)."""

        def log_weight(x: Any) -> Any:
            v = scaled_by(beta, phi * x - cls.unit_energies(xp, params, x))
            return v if A is None else v - A * (x * x)

        return log_weight

    def bridge(self, base: Any, beta: float) -> Any:
        """The mixture itself, which the unit's functions take in place of parameters."""
        return Mixed(self.params, base, beta)

    # ---- conditionals

    @classmethod
    def _values(cls, like: Any) -> Any:
        """The support, (number of values, 1, 1), on the device and in the dtype of `like`."""
        column = np.array(cls.support, dtype=str(like.dtype))[:, None, None]
        return to_device(column, device_of(like))

    @classmethod
    def _terms(
        cls, xp: Any, params: Any, phi: Any, beta: Any = None, A: Any = None
    ) -> Iterator[tuple[Any, Any]]:
        """Blocks of samples: values of the units, and logarithms of their weights.

        Both are (values, samples of the block, num_units), the first ones arrays. A sum over them
        is a sum over the support, or an integral.
        """
        count = None
        for block in blocks(xp, params, phi, beta, A, bool(cls.support)):
            log_weight = cls._log_weight(xp, *block)
            if cls.support:
                x = cls._values(raw(block[1]))
                yield x, log_weight(x)
            else:
                panels = cls._panels(*block, count)
                count = panels.count
                inner = namespace_of(get_array_module(panels.nodes))
                with inner.errstate(divide="ignore"):
                    log_measure = inner.log(panels.measure)
                yield panels.nodes, log_weight(panels.nodes) + log_measure

    @classmethod
    def _panels(cls, params: Any, phi: Any, beta: Any, A: Any, count: int | None = None) -> Panels:
        """The grid of one block, with at least `count` panels.

        Tensors are looked at as the arrays they hold.
        """
        params, phi, beta, A = (raw(x) for x in (params, phi, beta, A))
        if cls.interval is None:
            raise ParameterError(
                f"{cls.__name__}: this unit has neither a support nor an interval, expected it to "
                "bring a unit_sample and what else it does not inherit"
            )
        xp = namespace_of(get_array_module(phi))
        log_weight = cls._log_weight(xp, params, phi, beta, A)
        with xp.errstate(over="ignore", invalid="ignore", divide="ignore"):
            low, high = find_bulk(xp, log_weight, cls.interval, phi, cls.__name__)
            return Panels(
                xp,
                log_weight,
                low,
                high,
                breaks=cls.breaks,
                tolerance=cls.tolerance,
                count=count or (1 if all(map(math.isfinite, cls.interval)) else 4),
                name=cls.__name__,
            )

    @classmethod
    def unit_log_partition(
        cls, xp: Any, params: Any, phi: Any, beta: Any = None, A: Any = None
    ) -> Any:
        """log sum over x of exp(beta (loc + phi) x - beta V(x) - A x^2); over an interval the
        integral."""
        parts = [xp.logsumexp(v, axis=0) for _, v in cls._terms(xp, params, phi, beta, A)]
        return joined(xp, parts, phi)

    @classmethod
    def unit_mean(cls, xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """Mean of each unit in the field phi."""
        if cls._has_own_log_partition():
            return cls._slope(params, phi, beta)
        parts = []
        for x, v in cls._terms(xp, params, phi, beta):
            # Nothing depends on these two shifts but the rounding: exponents of order 1, and
            # distances where all the values are far from 0.
            p = xp.exp(v - raw(v).max(axis=0))
            shift = x[:1]
            parts.append(xp.sum(p * (x - shift), axis=0) / xp.sum(p, axis=0) + shift[0])
        return joined(xp, parts, phi)

    @classmethod
    def _slope(cls, params: Any, phi: Any, beta: Any) -> Any:
        """The mean as the derivative of the log-partition function, by autodiff."""
        from gpugrad.autodiff import grad
        from gpugrad.ops.creation import tensor

        def total(field: Any) -> Any:
            return cls.unit_log_partition(namespace_for(field), params, field, beta).sum()

        if hasattr(phi, DATA_ATTRIBUTE):
            slope = grad(total)(phi)
        else:
            field = tensor(phi, copy=False)
            total(field).backward()
            slope = field.grad
        return slope if beta is None else slope / beta

    @classmethod
    def unit_mode(cls, xp: Any, params: Any, phi: Any) -> Any:
        """Most probable value of each unit; the lowest of equally probable ones (of two)."""
        parts = []
        for block in blocks(xp, params, phi, None, None, bool(cls.support)):
            log_weight = cls._log_weight(xp, *block)
            if cls.support:
                x = cls._values(block[1])
                parts.append(xp.take(x[:, 0, 0], xp.argmax(log_weight(x), axis=0)))
            else:
                parts.append(highest_point(xp, log_weight, cls._panels(*block)))
        return joined(xp, parts, phi)

    @classmethod
    def unit_sample(cls, xp: Any, params: Any, phi: Any, noise: Any, beta: Any = None) -> Any:
        """The x at which the distribution function, in the field phi, reaches `noise`."""
        parts, first, count = [], 0, None
        for block in blocks(xp, params, phi, beta, None, bool(cls.support)):
            field = block[1]
            u = noise[first : first + field.shape[0]]
            first += field.shape[0]
            if not cls.support:
                panels = cls._panels(*block, count)
                count = panels.count
                parts.append(panels.quantile(u.astype(field.dtype)))
                continue
            x = cls._values(field)
            v = cls._log_weight(xp, *block)(x)
            cumulated = xp.cumsum(xp.exp(v - xp.max(v, axis=0)).astype(noise.dtype), axis=0)
            # The last bound is left out: rounding in the sum cannot lead beyond the last value.
            reached = xp.sum(u * cumulated[-1] >= cumulated[:-1], axis=0)
            parts.append(xp.take(x[:, 0, 0], reached))
        return joined(xp, parts, phi)

    @classmethod
    def sum_log_partition_(cls, xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        return xp.sum(cls.unit_log_partition(xp, params, phi.T, beta), axis=1)

    def log_partition_function(self, phi: Any, A: Any = 0) -> Any:
        """log sum over x of exp(-V(x) + loc x + phi x - A x^2); over an interval the integral.

        Parameters
        ----------
        phi : array or Tensor (num_samples, num_units)
            External field.
        A : array, Tensor or number, optional
            Diagonal quadratic interaction.

        Returns
        -------
        array or Tensor (num_samples, num_units)
        """
        if self._has_own_log_partition():
            return super().log_partition_function(phi, A)
        xp = namespace_for(phi, *self.params, A if hasattr(A, "shape") else None)
        none = isinstance(A, int | float) and A == 0
        return self.unit_log_partition(xp, self.params, phi, None, None if none else A)

    # ---- derivatives

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> Any:
        """Derivatives of the energy averaged over the batch, those of V by autodiff.

        Takes what `GaussianLayer.derivatives` takes. Where V has parameters, `vis` must be states:
        for means of hidden units there is `expected_derivatives`.

        Returns
        -------
        namedtuple
        """
        check_beta("derivatives", beta, vis.shape[0])
        xp = namespace_for(vis)
        loc = -batch_mean(xp, vis, sample_weight)
        if not self.parameters:
            return self.Params(loc)
        if self.potential is EnergyLayer.potential:
            raise ParameterError(
                f"{type(self).__name__}.derivatives: the class has no potential, expected one, or "
                "training by gradient='autodiff'"
            )

        def total(tensors: Any, namespace: Any) -> Any:
            v = namespace.sum(self.potential(namespace, tensors, vis), axis=1)
            if sample_weight is None:
                return v.mean()
            return namespace.sum(v * sample_weight)

        return self._by_autodiff(total)._replace(loc=loc)

    def expected_derivatives(
        self, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> Any:
        n = hid[0].shape[0]
        check_beta("expected_derivatives", beta, n)
        field = self.field(hid, weights)
        # d log Z / d theta = -beta <dE / d theta>
        share: Any = 1.0 / n if sample_weight is None else sample_weight[:, None]
        if beta is not None:
            share = share / beta

        def total(tensors: Any, namespace: Any) -> Any:
            log_z = self.unit_log_partition(namespace, tensors, field, beta)
            return namespace.sum(-log_z * share)

        return self._by_autodiff(total)

    def _by_autodiff(self, total: Callable[[Any, Any], Any]) -> Any:
        """Gradient of total(params, namespace) with respect to each parameter."""
        from gpugrad.ops.creation import tensor

        tensors = self.Params(*(tensor(p, copy=False) for p in self.params))
        result = total(tensors, namespace_for(*tensors))
        if hasattr(result, "backward"):
            result.backward()
        found = []
        for p, t in zip(self.params, tensors, strict=True):
            found.append(namespace_for(p).zeros_like(p) if t.grad is None else t.grad)
        return self.Params(*found)

    # ---- data

    def check_rows(self, data: Any, function: str) -> None:
        """Raise a DataError for values that are none of the support."""
        if not self.support or not self.parameters:
            return
        xp = namespace_for(data)
        known = xp.zeros(data.shape, dtype="bool")
        for s in self.support:
            known = known | (data == s)
        if not bool(xp.all(known)):
            row, unit = (int(i[0]) for i in xp.nonzero(~known))
            raise DataError(
                f"{function}: data has the value {float(data[row, unit]):g} in sample {row}, unit "
                f"{unit}, expected one of {self.support}: with parameters in the energy of "
                f"{self.layer_type} units a mean does not stand for states"
            )

    def online_param_update(self, data: Any) -> None:
        """Fit loc to the mean of all the data seen so far; the other parameters stay.

        Any split of the data into batches gives the same parameters. Means are kept half a count,
        1/(2n) of the distance between the ends, inside a bounded range.

        Parameters
        ----------
        data : array (num_samples, num_units)
        """
        mean = self._running_mean(data)
        xp = namespace_for(mean)
        low, high = self.data_range
        half_count = 0.5 / self.sample_size
        share = half_count * (high - low) if math.isfinite(high - low) else half_count
        mean = xp.clip(mean, low + share, high - share)
        others = [p.astype("float64") for p in self.params[1:]]

        def excess(loc: Any) -> Any:
            params = self.Params(xp.zeros_like(mean), *others)
            return self.unit_mean(xp, params, loc[None])[0] - mean

        least, most = self._loc_limits(xp, mean)
        left = xp.maximum(xp.full_like(mean, -1.0), 0.5 * least)
        right = xp.minimum(xp.ones_like(mean), 0.5 * most)
        for _ in range(40):
            # outwards: double, or half of what is left up to the limit
            low_side, high_side = excess(left), excess(right)
            narrow_left, narrow_right = low_side > 0, high_side < 0
            if not bool(xp.any(narrow_left | narrow_right)):
                break
            left = xp.where(narrow_left, xp.maximum(2 * left, 0.5 * (left + least)), left)
            right = xp.where(narrow_right, xp.minimum(2 * right, 0.5 * (right + most)), right)
        loc = rising_root(xp, excess, left, right, low_side, high_side)
        self.params.loc[...] = loc.astype(self.dtype)

    def _loc_limits(self, xp: Any, like: Any) -> tuple[Any, Any]:
        """Between which values of loc a unit without neighbours has a distribution."""
        least, most = xp.full_like(like, -math.inf), xp.full_like(like, math.inf)
        if self.interval is not None and self.growth == "linear":
            loc = asnumpy(self.params.loc).astype("float64")
            for sign, rate in self.tail_rates():
                limit = to_device(sign * rate + loc, device_of(like))
                least, most = (least, limit) if sign > 0 else (limit, most)
        return least, most

    # ---- which machines have a partition function

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether an unbounded unit takes values of both signs, or negative ones only."""
        return math.isinf(self.data_range[0])

    @property
    def open_tails(self) -> bool:  # type: ignore[override]
        """Whether the interval is infinite, so that `growth` depends on the parameters."""
        return self.interval is not None and not all(map(math.isfinite, self.interval))

    def _tail(self, sign: float, distance: float) -> np.ndarray:
        """V at the point sign * distance, in float64."""
        params = self.Params(*(asnumpy(p).astype("float64") for p in self.params))
        x = np.full((1, self.num_units), sign * distance)
        with np.errstate(all="ignore"):
            v = self.potential(namespace_for(x), params, x)
        return np.broadcast_to(np.asarray(v, dtype=float), x.shape)[0]

    def _tail_signs(self) -> list[float]:
        return [s for s, end in zip((-1.0, 1.0), self.data_range, strict=True) if math.isinf(end)]

    @property
    def growth(self) -> str:  # type: ignore[override]
        """How fast V grows, judged by its values at distances of 10^4 and 10^5.

        "bounded", "linear" (slower than a square), "quadratic", "superquadratic", or "unknown"
        where only a log-partition function is given.

        Raises
        ------
        NoPartitionFunctionError
            V does not rise there.
        """
        if not self.support and self.interval is None:
            return "unknown"
        if not self.open_tails:
            return "bounded"
        found = set()
        for sign in self._tail_signs():
            near, far = self._tail(sign, 1e4), self._tail(sign, 1e5)
            with np.errstate(all="ignore"):
                # infinite values count as the fastest growth
                wrong = ~((far > near) | (far == math.inf))
                ratio = np.where(np.isfinite(far), far / near / 100, math.inf)
            if np.any(wrong):
                unit = int(np.argmax(wrong))
                raise NoPartitionFunctionError(
                    f"{type(self).__name__}: the potential of unit {unit} does not rise towards "
                    f"{sign * math.inf} with its present parameters, expected one that does"
                )
            found |= {"linear" if r < 0.9 else "quadratic" if r < 1.5 else "" for r in ratio}
        for slowest in ("linear", "quadratic"):
            if slowest in found:
                return slowest
        return "superquadratic"

    def precision(self) -> np.ndarray:
        """2 V / x^2 far out, the least of both sides, (num_units,)."""
        return np.min([2 * self._tail(s, 1e5) / 1e10 for s in self._tail_signs()], axis=0)

    def tail_rates(self) -> list[tuple[float, np.ndarray]]:
        """For each infinite end its sign, and the slope of the energy towards it, loc included."""
        loc = asnumpy(self.params.loc).astype("float64")
        return [
            (s, (self._tail(s, 1e5) - self._tail(s, 1e4)) / 9e4 - s * loc)
            for s in self._tail_signs()
        ]
