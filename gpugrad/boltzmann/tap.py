"""The Thouless-Anderson-Palmer free energy of a machine, its minima, and what they say about log Z.

The free energy of a machine whose units are held at means m, one a unit, expanded in the couplings
to second or third order (formulas in `gpugrad.boltzmann.layers.magnetization`):

    Gamma(m) = sum over layers [ sum S(m) - a.m ]
               - sum over weights [ m.W.m' + 1/2 c.(W*W).c' + 1/6 k.(W*W*W).k' ]

Its minima are the machine's states of equilibrium, and log Z is about -Gamma at the lowest of them.
With x = a + (fields of the neighbours), the field of `gpugrad.primitives.tap.effective_field`,

    dGamma/dm = logit(m) - x  (Bernoulli),   artanh(m) - x  (Ising)

so that at a minimum m = mean(x); `tap_sweeps` has the ways to get there.

Everything here is for layers of Bernoulli and Ising units. The graph of the layers has no
triangles, so that the third order is complete.

References
----------
Gabrie, Tramel and Krzakala, "Training restricted Boltzmann machines via the
Thouless-Anderson-Palmer free energy", NIPS 2015.
Georges and Yedidia, "How to expand around mean-field theory using high-temperature expansions",
J. Phys. A 24 (1991).
Tramel, Gabrie, Manoel, Caltagirone and Krzakala, "Deterministic and generalized framework for
unsupervised learning with restricted Boltzmann machines", arXiv:1702.03260.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of, on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.gradient_util import Gradient
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import (
    check_data,
    check_sample_weight,
    check_values,
    namespace_for,
    positive_int,
)
from gpugrad.boltzmann.tap_sweeps import (
    FACTORS,
    TapSweeps,
    check_machine,
    clamped_units,
    own_field,
)
from gpugrad.errors import ConvergenceError, ParameterError
from gpugrad.primitives.gibbs import wide_type
from gpugrad.primitives.tap import cumulants, effective_field

__all__ = [
    "TapResult",
    "tap_derivatives",
    "tap_free_energy",
    "tap_gradient",
    "tap_log_likelihood",
    "tap_log_partition",
    "tap_magnetizations",
]

METHODS = ("fixed_point", "descent")
ROWS_AT_ONCE = 1000
"""Samples whose hidden units are summed out at a time."""


# ---- checks


def _check_shapes(function: str, model: BoltzmannMachine, units: Sequence[Any]) -> None:
    sizes = [layer.num_units for layer in model.layers]
    shapes = [tuple(m.shape) for m in units]
    rows = shapes[0][0] if shapes and len(shapes[0]) == 2 else "seeds"
    expected = [(rows, n) for n in sizes]
    if shapes != expected:
        raise ParameterError(f"{function}: magnetizations are {shapes}, expected {expected}")


# ---- the free energy


def _negative_entropy(xp: Any, unit: str, m: Any) -> Any:
    """S(m), with 0 ln 0 = 0."""
    if unit == "ising":
        up, down = 0.5 + 0.5 * m, 0.5 - 0.5 * m
    else:
        up, down = m, 1 - m
    return xp.xlogy(up, up) + xp.xlogy(down, down)


def tap_free_energy(
    model: BoltzmannMachine,
    magnetizations: Any,
    parameters: Mapping[str, Any] | None = None,
    *,
    order: int = 2,
    clamped: bool = False,
) -> Any:
    """The TAP free energy Gamma(m) of a machine, one value a row of magnetisations.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two or more layers of Bernoulli or Ising units.
    magnetizations : sequence of array or Tensor (rows, num_units), State or TapResult
        One a layer, between the two states of its units, which are allowed themselves.
    parameters : dict of array or Tensor, optional
        Named as `BoltzmannMachine.parameters` names them, in place of the machine's own.
    order : {2, 3}
        The highest power of the couplings.
    clamped : bool
        The visible units are states that are given, without entropy, variance or cumulants: Gamma
        is then the free energy of the hidden units, which for two layers is exact at its minimum.

    Returns
    -------
    array or Tensor (rows,)
        Differentiable in the magnetisations and in the parameters, if these are Tensors.

    Raises
    ------
    ParameterError
        For other units, shapes that do not fit, or another order.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.boltzmann.model import RBM
    >>> from gpugrad.boltzmann.tap import tap_free_energy
    >>> fair = [np.full((1, 4), 0.5), np.full((1, 3), 0.5)]
    >>> machine = RBM(4, 3, dtype="float64", device="cpu")
    >>> machine.set_parameters({"weights.0.matrix": np.zeros((4, 3))})
    >>> float(round(tap_free_energy(machine, fair)[0] / np.log(2), 9))  # -log 2 a fair coin
    -7.0
    """
    check_machine("tap_free_energy", model, order)
    units = _units(magnetizations)
    _check_shapes("tap_free_energy", model, units)
    own = model.parameters() if parameters is None else parameters
    xp = namespace_for(*units, *own.values())
    moments = [
        cumulants(layer.layer_type, m, order) for layer, m in zip(model.layers, units, strict=True)
    ]
    total: Any = 0
    for i, (layer, m) in enumerate(zip(model.layers, units, strict=True)):
        total = total - xp.matmul(m, own[f"layers.{i}.loc"])
        if i or not clamped:
            total = total + xp.sum(_negative_entropy(xp, layer.layer_type, m), axis=1)
    for i in range(len(model.weights)):
        W = power = own[f"weights.{i}.matrix"]
        for p in range(1 if clamped and i == 0 else order):
            sent = xp.matmul(moments[i][p], power)
            total = total - FACTORS[p] * xp.sum(sent * moments[i + 1][p], axis=1)
            if p + 1 < order:
                power = power * W
    return total


def _units(magnetizations: Any) -> tuple[Any, ...]:
    return tuple(getattr(magnetizations, "magnetizations", magnetizations))


def tap_gradient(model: BoltzmannMachine, magnetizations: Any, *, order: int = 2) -> list[Any]:
    """dGamma/dm, one array (rows, num_units) a layer; zero where m is a minimum.

    Parameters
    ----------
    model : BoltzmannMachine
    magnetizations : sequence of array (rows, num_units), State or TapResult
        Strictly between the two states of the units.
    order : {2, 3}
    """
    check_machine("tap_gradient", model, order)
    units = _units(magnetizations)
    _check_shapes("tap_gradient", model, units)
    with on(model.device):
        sweeps = TapSweeps(model, units, order=order)
        xp = namespace_for(*units)
        return [
            own_field(xp, layer.layer_type, m)
            - effective_field(layer.layer_type, m, layer.params.loc, sweeps.fields(i))
            for i, (layer, m) in enumerate(zip(model.layers, units, strict=True))
        ]


def tap_derivatives(
    model: BoltzmannMachine,
    magnetizations: Any,
    *,
    order: int = 2,
    clamped: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Derivatives of Gamma with respect to all parameters, averaged over the rows.

    At a minimum these are those of Gamma(m*(theta)) too, and so, up to the sign, of the estimate
    of log Z.

    Parameters
    ----------
    model : BoltzmannMachine
    magnetizations : sequence of array (rows, num_units), State or TapResult
    order : {2, 3}
    clamped : bool
        See `tap_free_energy`.
    sample_weight : array (rows,), optional
        Weights that add up to 1, in place of equal ones.

    Returns
    -------
    Gradient
    """
    check_machine("tap_derivatives", model, order)
    units = _units(magnetizations)
    _check_shapes("tap_derivatives", model, units)
    check_sample_weight("tap_derivatives", sample_weight, len(units[0]))
    layers: list[Any] = model.layers
    mags = [layer.Magnetization(m) for layer, m in zip(layers, units, strict=True)]
    weight = {"sample_weight": sample_weight}
    return Gradient(
        [layer.GFE_derivatives(mag, **weight) for layer, mag in zip(layers, mags, strict=True)],
        [
            w.derivatives(units[0], units[1], **weight)
            if clamped and i == 0
            else w.GFE_derivatives(mags[i], mags[i + 1], order=order, **weight)
            for i, w in enumerate(model.weights)
        ],
    )


# ---- minima


@dataclass(frozen=True, slots=True)
class TapResult:
    """Where the iteration of the magnetisations ended, row by row.

    Attributes
    ----------
    magnetizations : tuple of array (rows, num_units)
        One a layer, visible layer first.
    free_energy : array (rows,)
        Gamma of each row.
    residual : array (rows,)
        Largest distance of a unit's magnetisation from its mean in the field that it is in.
    converged : array of bool (rows,)
        Whether the residual is below the tolerance.
    steps : int
        Sweeps over all layers that were made.
    """

    magnetizations: tuple[Any, ...]
    free_energy: Any
    residual: Any
    converged: Any
    steps: int

    def rows(self, numbers: Sequence[int]) -> "TapResult":
        """The result of these rows alone, in this order."""
        picked = to_device(np.asarray(numbers, np.int64), device_of(self.free_energy))
        return TapResult(
            tuple(m[picked] for m in self.magnetizations),
            self.free_energy[picked],
            self.residual[picked],
            self.converged[picked],
            self.steps,
        )

    def distinct(self, tolerance: float = 1e-2) -> "TapResult":
        """The different minima among the rows that converged, lowest free energy first.

        Parameters
        ----------
        tolerance : float
            Rows count as one minimum when no magnetisation differs by more.

        Returns
        -------
        TapResult
            Without rows where none converged.
        """
        if not tolerance > 0:
            raise ParameterError(f"distinct: tolerance is {tolerance!r}, expected a number above 0")
        free_energy, converged = asnumpy(self.free_energy), asnumpy(self.converged)
        order = [int(i) for i in np.argsort(free_energy, kind="stable") if converged[i]]
        all_units = np.concatenate([asnumpy(m) for m in self.magnetizations], axis=1)
        kept: list[int] = []
        for i in order:
            if not kept or np.abs(all_units[kept] - all_units[i]).max(axis=1).min() > tolerance:
                kept.append(i)
        return self.rows(kept)

    def log_partition(self) -> float:
        """The estimate of log Z: -Gamma at the lowest minimum found.

        Raises
        ------
        ConvergenceError
            No row converged.
        """
        converged, residual = asnumpy(self.converged), asnumpy(self.residual)
        if not converged.any():
            smallest = f" (smallest residual {residual.min():.2g})" if residual.size else ""
            raise ConvergenceError(
                f"log_partition: none of {len(converged)} rows converged in {self.steps} sweeps"
                f"{smallest}, expected one: take more sweeps, more damping or method='descent'"
            )
        return -float(asnumpy(self.free_energy)[converged].min())


def _first_units(
    model: BoltzmannMachine, seeds: Any, n_random: int, rng: Generator | None, eps: float
) -> list[Any]:
    """Seeds in [s0 + eps, s1 - eps], those that are given first, in the type of computation."""
    layers: list[Any] = model.layers
    wide = wide_type(model.dtype)
    given: list[Any] = []
    if seeds is not None:
        given = list(_units(seeds))
        _check_shapes("tap_magnetizations", model, given)
        for i, m in enumerate(given):
            check_values("tap_magnetizations", f"seed of layer {i}", m)
    rows = []
    for i, layer in enumerate(layers):
        parts = [to_device(given[i], model.device)] if given else []
        if n_random:
            parts.append(
                layer.get_random_magnetization(rng=rng, num_samples=n_random).expectation()
            )
        xp = namespace_for(*parts)
        low, high = layer.support
        margin = eps * (high - low)
        joined = xp.concatenate([x.astype(wide) for x in parts]) if len(parts) > 1 else parts[0]
        # in float16 the margin would vanish: widened first
        rows.append(xp.clip(joined.astype(wide), low + margin, high - margin))
    return rows


def tap_magnetizations(
    model: BoltzmannMachine,
    seeds: Any = None,
    *,
    n_random: int | None = None,
    order: int = 2,
    method: str = "fixed_point",
    damping: float = 0.5,
    tolerance: float = 1e-5,
    max_steps: int = 1000,
    check_every: int = 10,
    eps: float = 1e-6,
    visible: Any = None,
    rng: Generator | None = None,
) -> TapResult:
    """Minima of the TAP free energy, each found from a seed.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two or more layers of Bernoulli or Ising units.
    seeds : sequence of array (rows, num_units), State or TapResult, optional
        Magnetisations to start from, one array a layer, like those of an earlier call: persistent
        seeds. They are copied, and clipped.
    n_random : int, optional
        Seeds drawn uniformly besides; 10 where no others are given, else 0.
    order : {2, 3}
        The highest power of the couplings in Gamma.
    method : {"fixed_point", "descent"}
        Damped updates, or Newton steps that are halved until Gamma does not rise. The second one
        converges wherever it starts; the first is cheaper by the arithmetic of the halving.
    damping : float
        In [0, 1): the part of a magnetisation that a fixed-point update leaves.
    tolerance : float
        A row has converged when no magnetisation is further from its mean in the field it is in.
    max_steps : int
        Sweeps over all layers, at most.
    check_every : int
        Sweeps between two looks at the residuals; a look costs a sweep and waits for the device.
    eps : float
        Seeds are clipped to keep this part of the units' range away from either state.
    visible : array (rows, num_visible), optional
        States of the visible units that stay. Then `seeds` is not given: the hidden units start
        at their neutral value, and `n_random` is 0.
    rng : Generator, optional
        The generator of the random seeds; the default one if None.

    Returns
    -------
    TapResult
        In the order of the seeds, random ones last.

    Raises
    ------
    ParameterError
        For other units, shapes that do not fit, or settings out of range.
    DataError
        For visible states that the units cannot take.

    Examples
    --------
    >>> from gpugrad.backend.rng import Generator
    >>> from gpugrad.boltzmann.model import RBM
    >>> from gpugrad.boltzmann.tap import tap_magnetizations
    >>> rng = Generator(0)
    >>> found = tap_magnetizations(RBM(6, 3, rng=rng, device="cpu"), rng=rng)
    >>> found.converged.all().item(), len(found.distinct().free_energy)
    (True, 1)
    >>> round(found.log_partition() / 9, 1)  # nearly 9 fair coins: log 2 each
    0.7
    """
    name = "tap_magnetizations"
    check_machine(name, model, order)
    if method not in METHODS:
        raise ParameterError(f"{name}: method is {method!r}, expected one of {METHODS}")
    if not 0 <= damping < 1:
        raise ParameterError(f"{name}: damping is {damping!r}, expected a number in [0, 1)")
    if not tolerance > 0:
        raise ParameterError(f"{name}: tolerance is {tolerance!r}, expected a number above 0")
    if not 0 < eps < 0.5:
        raise ParameterError(f"{name}: eps is {eps!r}, expected a number in (0, 0.5)")
    max_steps = positive_int(name, "max_steps", max_steps)
    check_every = positive_int(name, "check_every", check_every)
    if visible is not None and (seeds is not None or n_random):
        raise ParameterError(f"{name}: visible is given, expected neither seeds nor random ones")
    if n_random is None:
        n_random = 10 if seeds is None else 0
    elif n_random or seeds is None:
        n_random = positive_int(name, "n_random", n_random)
    if rng is not None and not isinstance(rng, Generator):
        raise ParameterError(f"{name}: rng is {rng!r}, expected a Generator or None")
    with on(model.device):
        if visible is None:
            generator = default_generator() if rng is None else rng
            units = _first_units(model, seeds, n_random, generator, eps)
        else:
            units = clamped_units(model, check_data(model, visible, function=name))
        sweeps = TapSweeps(model, units, order=order, clamped=visible is not None)
        residual, steps = _iterate(sweeps, method, damping, tolerance, max_steps, check_every)
        wide = _widened(model)
        free_energy = tap_free_energy(
            model, sweeps.units, wide, order=order, clamped=visible is not None
        )
        return TapResult(tuple(sweeps.units), free_energy, residual, residual < tolerance, steps)


def _widened(model: BoltzmannMachine) -> dict[str, Any]:
    wide = wide_type(model.dtype)
    return {name: p.astype(wide, copy=False) for name, p in model.parameters().items()}


def _iterate(
    sweeps: TapSweeps,
    method: str,
    damping: float,
    tolerance: float,
    max_steps: int,
    check_every: int,
) -> tuple[Any, int]:
    """Sweep until every row has converged; residuals and number of sweeps."""
    xp = namespace_for(*sweeps.units)
    own: list[Any] = []
    if method == "descent":
        own = [
            None if i == 0 and sweeps.clamped else own_field(xp, layer.layer_type, m)
            for i, (layer, m) in enumerate(zip(sweeps.model.layers, sweeps.units, strict=True))
        ]
    steps = 0
    while True:
        for _ in range(min(check_every, max_steps - steps)):
            if method == "descent":
                sweeps.descend(own)
            else:
                sweeps.step(damping)
            steps += 1
        residual = sweeps.residual()
        # a nan, too, will not get better
        if steps >= max_steps or not bool(xp.any(residual >= tolerance)):
            return residual, steps


# ---- what they say about the machine


def tap_log_partition(model: BoltzmannMachine, seeds: Any = None, **settings: Any) -> float:
    """TAP estimate of log Z: minus the free energy of the lowest minimum that the seeds reach.

    For weak couplings its error is of third order in them at second order, of fourth at third.

    Parameters
    ----------
    model : BoltzmannMachine
    seeds : optional
        See `tap_magnetizations`, as for `settings`.

    Raises
    ------
    ConvergenceError
        No seed converged.
    """
    return tap_magnetizations(model, seeds, **settings).log_partition()


def tap_log_likelihood(
    model: BoltzmannMachine, data: Any, seeds: Any = None, **settings: Any
) -> float:
    """Mean over the data of the TAP estimate of log p(v), in nats: -<F(v)> + Gamma(m*).

    F(v) is exact for two layers. For more it is itself the TAP free energy of the hidden units with
    the visible ones held at v.

    Parameters
    ----------
    model : BoltzmannMachine
    data : array (num_samples, num_visible)
        States of the visible units.
    seeds : optional
        See `tap_magnetizations`, as for `settings`.

    Returns
    -------
    float

    Raises
    ------
    ConvergenceError
        No seed converged, or not every sample did.
    """
    name = "tap_log_likelihood"
    check_machine(name, model)
    with on(model.device):
        v = check_data(model, data, function=name, support=True)
        log_z = tap_log_partition(model, seeds, **settings)
        total = 0.0
        how = {n: x for n, x in settings.items() if n not in ("n_random", "rng")}
        for start in range(0, len(v), ROWS_AT_ONCE):
            block = v[start : start + ROWS_AT_ONCE]
            xp = namespace_for(block)
            if model.num_layers == 2:
                free_energy = model.free_energy(_widened(model), block)
            else:
                found = tap_magnetizations(model, visible=block, **how)
                if not bool(xp.all(found.converged)):
                    raise ConvergenceError(
                        f"{name}: {int(xp.sum(~found.converged))} of {len(block)} samples did not "
                        f"converge in {found.steps} sweeps, expected all: take more sweeps, more "
                        "damping or method='descent'"
                    )
                free_energy = found.free_energy
            total += float(xp.sum(free_energy, dtype="float64"))
    return -total / len(v) - log_z
