"""Mean field: the product of independent units that comes closest to a machine, and its bound.

Each free unit has the distribution that it would have in the mean field of all others. Even and odd
layers are updated in turn, coupled units of one layer colour by colour: each update maximises the
bound

    log sum over free s of exp(-E(s)) >= -<E>_q + entropy(q)

in the units that it sets, so that without damping the bound never falls and the means converge.

References
----------
Salakhutdinov and Hinton, "Deep Boltzmann machines", AISTATS 2009.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gpugrad.boltzmann.state import State, check_layers, namespace_for, positive_int
from gpugrad.errors import ConvergenceError, ParameterError

__all__ = ["MeanField", "mean_field", "variational_bound"]


@dataclass(frozen=True, slots=True)
class MeanField(State):
    """A state of means, with what the iteration that found it did.

    Attributes
    ----------
    steps : int
        Updates of all free layers.
    change : float or None
        Largest change of a mean in the last one; None where nobody looked.
    """

    steps: int = 0
    change: float | None = None


def mean_field(
    model: Any,
    visible: Any = None,
    *,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
    damping: float = 0.0,
    clamped: Mapping[int, Any] | None = None,
    start: State | None = None,
) -> MeanField:
    """Means of independent units; see `BoltzmannMachine.mean_field`."""
    positive_int("mean_field", "max_steps", max_steps)
    if not 0 <= damping < 1:
        raise ParameterError(f"mean_field: damping is {damping!r}, expected a number in [0, 1)")
    if not tolerance >= 0:
        raise ParameterError(f"mean_field: tolerance is {tolerance!r}, expected a number >= 0")
    held = dict(clamped or {})
    if start is not None:
        check_layers("mean_field", model, start, given=())
    if visible is not None:
        held[0] = visible
    _check_held(model, held)
    free = [i for i in range(model.num_layers) if i not in held]
    means = _start(model, held, start)
    # free layers that touch neither each other nor themselves have independent units: one update
    # from any start is exact
    exact = not any(i in model.lateral or i + 1 in free for i in free)
    if exact:
        damping = 0.0
    order = [i for i in free if i % 2] + [i for i in free if not i % 2]
    change = None
    for step in range(1, max_steps + 1):
        largest = []
        for i in order:
            new = _update(model, i, means, damping)
            xp = namespace_for(new)
            if tolerance > 0 and not exact:
                largest.append(xp.max(xp.absolute(new - means[i])))
            means[i] = new
        if exact:
            return MeanField(tuple(means), 1, 0.0)
        if tolerance > 0:
            # the array's maximum, unlike Python's, is nan where one of them is
            change = float(xp.max(xp.stack(largest)))
            # not <: a nan does not pass for convergence
            if change <= tolerance:
                return MeanField(tuple(means), step, change)
    if tolerance > 0:
        raise ConvergenceError(
            f"mean_field: the means still change by {change:g} after {max_steps} steps, expected "
            f"at most {tolerance:g}; more steps or damping may help, tolerance=0 asks for no test"
        )
    return MeanField(tuple(means), max_steps, None)


def _check_layer(function: str, model: Any, i: Any) -> None:
    if i not in range(model.num_layers):
        raise ParameterError(
            f"{function}: clamped names layer {i!r}, expected one of 0 ... {model.num_layers - 1}"
        )


def _check_held(model: Any, held: Mapping[int, Any]) -> None:
    for i, units in held.items():
        _check_layer("mean_field", model, i)
        shape = tuple(getattr(units, "shape", ()))
        if len(shape) != 2 or shape[1] != model.layers[i].num_units:
            raise ParameterError(
                f"mean_field: values of layer {i} have shape {shape}, expected (samples, "
                f"{model.layers[i].num_units})"
            )
    rows = {units.shape[0] for units in held.values()}
    if len(rows) > 1:
        raise ParameterError(f"mean_field: layers are clamped to {sorted(rows)} samples")


def _start(model: Any, held: Mapping[int, Any], start: State | None) -> list[Any]:
    """Clamped layers as given; the others from `start`, or from the layer below, going up."""
    means: list[Any] = list(start) if start is not None else [None] * model.num_layers
    for i, units in held.items():
        means[i] = units
    rows = next((units.shape[0] for units in means if units is not None), 1)
    for i, layer in enumerate(model.layers):
        if means[i] is None:
            if i > 0:
                below = [layer_units(model, i - 1, means)], [model.weights[i - 1].W()]
                phi = layer.field(*below)
            else:
                xp = namespace_for(layer.params[0])
                phi = xp.zeros((rows, layer.num_units), dtype=layer.dtype)
            means[i] = layer.draw(phi, sample=False, mean=True, out=phi)[1]
    return means


def layer_units(model: Any, layer: int, means: list[Any]) -> Any:
    """What couplings see of a layer."""
    return model.layers[layer].rescale(means[layer])


def _update(model: Any, i: int, means: list[Any], damping: float) -> Any:
    layer, old = model.layers[i], means[i]
    field = model.field(i, State(tuple(means)))
    if i in model.lateral:
        new = old.copy()

        def mean(phi: Any, params: Any) -> Any:
            return layer.draw(phi, sample=False, mean=True, params=params)[1]

        model.lateral[i].update_(layer, new, field, mean)
    else:
        new = layer.draw(field, sample=False, mean=True, out=field)[1]
    if damping:
        new *= 1 - damping
        new += damping * old
    return new


def variational_bound(model: Any, state: State, *, clamped: Collection[int] = (0,)) -> Any:
    """Lower bound of log sum over free units of exp(-E); `BoltzmannMachine.variational_bound`."""
    check_layers("variational_bound", model, state)
    for i in clamped:
        _check_layer("variational_bound", model, i)
    parts: list[Any] = []
    units: list[Any] = list(state)
    for i, layer in enumerate(model.layers):
        if i in clamped:
            parts.append(-layer.energy(state[i]))
            continue
        # <-E_i> + entropy of a unit in the field phi is log Z(phi) - phi <s>
        phi = model.local_field(i, state)
        xp = namespace_for(phi)
        units[i] = layer.draw(phi, sample=False, mean=True)[1]
        log_z = xp.sum(layer.unit_log_partition(xp, layer.params, phi), axis=1)
        # phi is conjugate to the rescaled unit
        parts.append(log_z - xp.sum(phi * layer.rescale(units[i]), axis=1))
    bound = sum(parts)
    for i, weights in enumerate(model.weights):
        bound = bound - weights.energy(
            layer_units(model, i, units), layer_units(model, i + 1, units)
        )
    for i, lateral in model.lateral.items():
        bound = bound - lateral.energy(layer_units(model, i, units))
    return bound
