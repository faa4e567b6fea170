"""Samplers: `state, info = step(rng, model, state)`.

`state` holds what the next step needs, `info` what a person or a gradient wants to look at. A step
never looks at a value on the host, so that it can be queued on a device without waiting.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, to_device
from gpugrad.backend.blas_threads import one_blas_thread
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.agreement import checksum
from gpugrad.boltzmann.lateral import unit_size
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import (
    State,
    check_beta,
    check_layers,
    check_rng,
    namespace_for,
    positive_int,
)
from gpugrad.errors import ParameterError

__all__ = [
    "Gibbs",
    "GibbsInfo",
    "Step",
    "clamp_mask",
    "clamp_masks",
    "gibbs",
    "multiplications",
    "start_from_data",
]


@dataclass(frozen=True, slots=True)
class GibbsInfo:
    """What a Gibbs step found on its way.

    Attributes
    ----------
    expected : State
        The new state with every odd layer (the hidden one of two) at its conditional mean given the
        others: the negative phase of a gradient, of smaller variance than the samples and, unlike
        the mean met half a step earlier, belonging to the new visible units. Clamped units keep
        their values; a layer with lateral couplings, whose mean has no closed form, its samples.
    """

    expected: State


Step = Callable[[Generator, BoltzmannMachine, State], tuple[State, GibbsInfo]]


def clamp_mask(model: BoltzmannMachine, mask: Any, layer: int = 0) -> Any:
    """Check a clamp mask and bring it to the model's device.

    Parameters
    ----------
    model : BoltzmannMachine
    mask : array_like of bool (num_units,) or (num_samples, num_units)
        True where a unit keeps its value. For Potts units also one value a site; a site is held
        where all of its columns are.
    layer : int
        The layer that it is for.

    Raises
    ------
    ParameterError
        Another dtype or shape.
    """
    xp = namespace_for() if not hasattr(mask, "shape") else namespace_for(mask)
    mask = xp.asarray(mask)
    of = model.layers[layer]
    width = unit_size(of)
    units = of.num_units // width
    if mask.dtype != bool or mask.ndim not in (1, 2) or mask.shape[-1] not in (of.num_units, units):
        name = "clamp" if layer == 0 else f"clamp[{layer}]"
        raise ParameterError(
            f"gibbs: {name} is {mask.dtype} of shape {tuple(mask.shape)}, expected bool "
            f"({of.num_units},)"
        )
    if width > 1:
        if mask.shape[-1] == of.num_units:
            mask = xp.all(mask.reshape(*mask.shape[:-1], units, width), axis=-1)
        mask = xp.repeat(mask, width, axis=-1)
    return to_device(mask, model.device)


def clamp_masks(model: BoltzmannMachine, clamp: Any) -> dict[int, Any]:
    """The masks of a `clamp` argument by layer; True stands for a whole layer.

    Parameters
    ----------
    model : BoltzmannMachine
    clamp : None, mask of the visible layer, or {layer: mask or True}
    """
    if clamp is None:
        return {}
    if not isinstance(clamp, Mapping):
        clamp = {0: clamp}
    for layer in clamp:
        if layer not in range(model.num_layers):
            raise ParameterError(
                f"gibbs: clamp names layer {layer!r}, expected one of 0 ... {model.num_layers - 1}"
            )
    return {
        layer: True if mask is True else clamp_mask(model, mask, layer)
        for layer, mask in clamp.items()
    }


def start_from_data(rng: Generator, model: BoltzmannMachine, visible: Any) -> tuple[State, State]:
    """Chains that start at data, and the positive phase, from one matrix product.

    Parameters
    ----------
    rng : Generator
    model : BoltzmannMachine
        Of two layers, the hidden one without lateral couplings.
    visible : array (num_samples, num_visible)

    Returns
    -------
    state : State
        The data with hidden units drawn given them: where contrastive divergence starts.
    expected : State
        The data with hidden units at their conditional means: the positive phase of a gradient.
    """
    model._summable("start_from_data")
    field = model.field(1, State((visible, None)))
    hidden, mean = model.layers[1].draw(field, rng=rng, mean=True, out=field)
    return State((visible, hidden)), State((visible, mean))


@dataclass(frozen=True, eq=False)
class Gibbs:
    """What `gibbs` returns: a step that tells its settings.

    Attributes
    ----------
    k : int
    beta, clamp, donate
        As given to `gibbs`.
    """

    k: int
    beta: Any
    clamp: Any
    donate: bool

    def get_config(self) -> dict[str, Any]:
        """Settings as JSON can hold them, for checkpoints; waits for the device."""
        clamp = self.clamp
        if clamp is not None:
            masks = clamp if isinstance(clamp, Mapping) else {0: clamp}
            clamp = {str(layer): _told(mask) for layer, mask in masks.items()}
        return {"name": "gibbs", "k": self.k, "beta": _told(self.beta), "clamp": clamp}

    def __call__(
        self, rng: Generator, model: BoltzmannMachine, state: State
    ) -> tuple[State, GibbsInfo]:
        k, beta, clamp = self.k, self.beta, self.clamp
        check_rng("gibbs", rng)
        check_layers("gibbs", model, state, given=())
        units = list(state)
        masks = clamp_masks(model, clamp)
        _check_given(model, units, masks)
        check_beta("gibbs", beta, state.num_samples)
        _check_rows(masks, state.num_samples)
        if isinstance(beta, int | float) and beta == 0:
            _check_bounded(model)
        held = {i: units[i].copy() for i, mask in masks.items() if mask is not True}
        machine: Any = model
        if hasattr(machine, "gibbs_sweep"):  # an `EnergyMachine`, whose units have no linear fields
            for _ in range(k):
                state = machine.gibbs_sweep(rng, state, beta=beta, masks=masks)
            return state, GibbsInfo(machine.expected(state, held=masks))
        reusable = [self.donate] * len(units)
        means: list[Any] = []

        def half_sweep(first: int, want_means: bool) -> None:
            for i in range(first, model.num_layers, 2):
                mask = masks.get(i)
                if mask is True:
                    means.append(units[i])
                    continue
                if i in model.lateral:
                    units[i] = _sweep_inside(
                        rng, model, i, State(tuple(units)), beta, mask, reusable[i]
                    )
                    reusable[i] = True
                    means.append(units[i])
                    continue
                layer = model.layers[i]
                out = units[i] if reusable[i] else None
                field = model.field(i, State(tuple(units)), out=out)
                sample, mean = layer.draw(field, beta, rng=rng, mean=want_means, out=field)
                units[i], reusable[i] = sample, True
                if mask is not None:
                    xp = namespace_for(sample)
                    xp.copyto(sample, held[i], where=mask)
                    if want_means:
                        xp.copyto(mean, held[i], where=mask)
                if want_means:
                    means.append(mean)

        with one_blas_thread(multiplications(model, state.num_samples, k)):
            for sweep in range(k):
                half_sweep(0, want_means=False)
                means.clear()
                half_sweep(1, want_means=sweep == k - 1)
        new = State(tuple(units))
        expected = list(units)
        expected[1::2] = means
        return new, GibbsInfo(State(tuple(expected)))


def multiplications(model: BoltzmannMachine, rows: int, sweeps: int) -> int:
    """How many the products of so many sweeps make on the host; none are made elsewhere, nor by an
    `EnergyMachine`."""
    if model.device.kind != "cpu":
        return 0
    return 2 * rows * sweeps * sum(w.W().size for w in getattr(model, "weights", ()))


def _told(value: Any) -> Any:
    """A number as it is; of an array its `checksum`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    array = np.asarray(asnumpy(value) if hasattr(value, "shape") else value)
    if array.ndim == 0:
        return array.item()
    return checksum(array)


def gibbs(k: int = 1, *, beta: Any = None, clamp: Any = None, donate: bool = False) -> Gibbs:
    """k sweeps of block Gibbs sampling: even layers given the odd ones, then odd given even.

        h --> v --> h --> v --> h        two layers, k = 2
        old                     new, with its mean in `info`

    A layer with lateral couplings is swept colour by colour, each block of units that are not
    coupled given all others; with a dense J that is one unit after the other.

    Parameters
    ----------
    k : int
        Sweeps, at least 1.
    beta : float or array (num_samples, 1), optional
        Inverse temperatures.
    clamp : array of bool or dict, optional
        Units that keep the value they have in the state: a mask (num_visible,) or (num_samples,
        num_visible) of visible units, or {layer: mask} for any layers, where True holds a whole
        layer. On the model's device.
    donate : bool
        Write the new samples over the arrays of the state that is passed in, which allocates
        nothing. The caller then uses the returned state only.

    Returns
    -------
    step : callable
        `state, info = step(rng, model, state)`. The entries of even layers need not be given
        (None) unless they have clamped units or lateral couplings. Memory does not grow with k.

    Raises
    ------
    ParameterError
        k below 1; clamp or beta of a shape that does not fit; a layer is None that has to be given.
    """
    return Gibbs(positive_int("gibbs", "k", k), beta, clamp, donate)


def _check_given(model: BoltzmannMachine, units: list[Any], masks: Mapping[int, Any]) -> None:
    for i, values in enumerate(units):
        if values is None and (i % 2 or i in masks or i in model.lateral):
            why = (
                "clamped units"
                if i in masks
                else "lateral couplings"
                if i in model.lateral
                else "an odd number"
            )
            raise ParameterError(
                f"gibbs: layer {i} of the state is None, expected values: the layer has {why}"
            )


def _check_rows(masks: Mapping[int, Any], num_samples: int) -> None:
    for i, mask in masks.items():
        if mask is not True and mask.ndim == 2 and mask.shape[0] != num_samples:
            raise ParameterError(
                f"gibbs: the mask of layer {i} is for {mask.shape[0]} samples, expected "
                f"{num_samples}, as the state has"
            )


def _check_bounded(model: BoltzmannMachine) -> None:
    for i, layer in enumerate(model.layers):
        if layer.growth != "bounded":
            raise ParameterError(
                f"gibbs: beta is 0, where layers[{i}] ({layer.layer_type}) has no distribution, "
                "expected a positive number"
            )


def _sweep_inside(
    rng: Generator,
    model: BoltzmannMachine,
    i: int,
    state: State,
    beta: Any,
    mask: Any,
    overwrite: bool,
) -> Any:
    """New values of a layer with lateral couplings, all its blocks drawn once."""
    layer = model.layers[i]
    units = state[i] if overwrite else state[i].copy()
    field = model.field(i, state) if model.num_layers > 1 else None

    def draw(phi: Any, params: Any) -> Any:
        return layer.draw(phi, beta, rng=rng, out=phi, params=params)[0]

    model.lateral[i].update_(layer, units, field, draw, held=mask)
    return units
