"""Samplers: `state, info = step(rng, model, state)`.

`state` holds what the next step needs, `info` what a person or a gradient wants to look at. A step
never looks at a value on the host, so that it can be queued on a device without waiting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpugrad.backend.array_module import to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State, check_beta, namespace_for, positive_int
from gpugrad.errors import ParameterError

__all__ = ["GibbsInfo", "Step", "clamp_mask", "gibbs", "start_from_data"]


@dataclass(frozen=True, slots=True)
class GibbsInfo:
    """What a Gibbs step found on its way.

    Attributes
    ----------
    expected : State
        The new state with every odd layer (the hidden one of two) at its conditional mean given the
        others: the negative phase of a gradient, of smaller variance than the samples and, unlike
        the mean met half a step earlier, belonging to the new visible units.
    """

    expected: State


Step = Callable[[Generator, BoltzmannMachine, State], tuple[State, GibbsInfo]]


def clamp_mask(model: BoltzmannMachine, mask: Any) -> Any:
    """Check a clamp mask and bring it to the model's device.

    Parameters
    ----------
    model : BoltzmannMachine
    mask : array_like of bool (num_visible,) or (num_samples, num_visible)
        True where a visible unit keeps its value.
    """
    xp = namespace_for() if not hasattr(mask, "shape") else namespace_for(mask)
    mask = xp.asarray(mask)
    if (
        mask.dtype != bool
        or mask.ndim not in (1, 2)
        or (mask.shape[-1] != model.layers[0].num_units)
    ):
        raise ParameterError(
            f"gibbs: clamp is {mask.dtype} of shape {tuple(mask.shape)}, expected bool "
            f"({model.layers[0].num_units},)"
        )
    return to_device(mask, model.device)


def start_from_data(rng: Generator, model: BoltzmannMachine, visible: Any) -> tuple[State, State]:
    """Chains that start at data, and the positive phase, from one matrix product.

    Parameters
    ----------
    rng : Generator
    model : BoltzmannMachine
        Of two layers.
    visible : array (num_samples, num_visible)

    Returns
    -------
    state : State
        The data with hidden units drawn given them: where contrastive divergence starts.
    expected : State
        The data with hidden units at their conditional means: the positive phase of a gradient.
    """
    field = model.field(1, State((visible, None)))
    hidden, mean = model.layers[1].draw(field, rng=rng, mean=True, out=field)
    return State((visible, hidden)), State((visible, mean))


def gibbs(k: int = 1, *, beta: Any = None, clamp: Any = None, donate: bool = False) -> Step:
    """k sweeps of block Gibbs sampling: even layers given the odd ones, then odd given even.

        h --> v --> h --> v --> h        two layers, k = 2
        old                     new, with its mean in `info`

    Parameters
    ----------
    k : int
        Sweeps, at least 1.
    beta : float or array (num_samples, 1), optional
        Inverse temperatures.
    clamp : array of bool (num_visible,) or (num_samples, num_visible), optional
        Visible units that keep the value they have in the state; on the model's device.
    donate : bool
        Write the new samples over the arrays of the state that is passed in, which allocates
        nothing. The caller then uses the returned state only.

    Returns
    -------
    step : callable
        `state, info = step(rng, model, state)`. The entries of even layers need not be given
        (None) unless units are clamped. Memory does not grow with k.

    Raises
    ------
    ParameterError
        k below 1; clamp or beta of a shape that does not fit.
    """
    positive_int("gibbs", "k", k)

    def step(rng: Generator, model: BoltzmannMachine, state: State) -> tuple[State, GibbsInfo]:
        units = list(state)
        check_beta("gibbs", beta, units[1].shape[0])
        mask = None if clamp is None else clamp_mask(model, clamp)
        held = None if mask is None else units[0].copy()
        reusable = [donate] * len(units)
        means: list[Any] = []

        def half_sweep(first: int, want_means: bool) -> None:
            for i in range(first, model.num_layers, 2):
                layer = model.layers[i]
                out = units[i] if reusable[i] else None
                field = model.field(i, State(tuple(units)), out=out)
                sample, mean = layer.draw(field, beta, rng=rng, mean=want_means, out=field)
                units[i], reusable[i] = sample, True
                if want_means:
                    means.append(mean)
            if first == 0 and mask is not None:
                namespace_for(units[0]).copyto(units[0], held, where=mask)

        for sweep in range(k):
            half_sweep(0, want_means=False)
            half_sweep(1, want_means=sweep == k - 1)
        new = State(tuple(units))
        expected = list(units)
        expected[1::2] = means
        return new, GibbsInfo(State(tuple(expected)))

    return step
