"""Chains and their pictures for machines of any units, any depth, with couplings inside or not."""

from typing import Any

from gpugrad.backend.array_module import on
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.layers import PottsLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.pictures import draw_samples, image_shape
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.sharded import ShardedPhases
from gpugrad.boltzmann.state import State

__all__ = [
    "draw_states",
    "joint_states",
    "last_chains",
    "pixels",
    "sample_sweeps",
    "visible_means",
]

SETTLE = 10
"""Sweeps with clamped visible units that hidden layers take to follow them."""


def joint_states(model: BoltzmannMachine, visible: Any, rng: Generator) -> State:
    """States of all layers, the visible one as given and hidden ones drawn given it.

    Parameters
    ----------
    model : BoltzmannMachine
    visible : array (n, num_visible)
    rng : Generator
    """
    if model.num_layers == 1:
        return State((visible,))
    if model.num_layers == 2 and 1 not in model.lateral:
        return State((visible, model.conditional_sample(1, State((visible, None)), rng=rng)))
    start = State((visible, *model.random_state(visible.shape[0], rng=rng).units[1:]))
    return gibbs(SETTLE, clamp={0: True})(rng, model, start)[0]


def last_chains(trainer: Trainer, n: int, rng: Generator) -> State:
    """The chains that a trainer ends with; those of methods without chains start at data.

    Of several ranks all call it.

    Parameters
    ----------
    trainer : Trainer
    n : int
        At most.
    rng : Generator
    """
    model, phases = trainer.model, trainer.phases
    state = getattr(phases, "state", None)
    with on(model.device):
        if trainer.method == "cd":  # its chains are as many as the last batch had samples
            return joint_states(model, trainer.watched[:n].copy(), rng)
        if isinstance(phases, ShardedPhases):
            state = phases.chains()
        if state is not None:
            return State(tuple(None if x is None else x[:n].copy() for x in state.cold))
        hidden = getattr(phases, "hidden", None)
        if hidden is not None:
            return State((None, hidden[:n].copy()))
        return joint_states(model, trainer.watched[:n].copy(), rng)


def visible_means(model: BoltzmannMachine, state: State) -> Any:
    """Means of the visible units given the hidden ones; their states where there is no such mean.

    Without hidden units, with couplings between visible ones, or for Potts units, which are drawn
    as the number of their state.
    """
    layer = model.layers[0]
    if model.num_layers == 1 or 0 in model.lateral or isinstance(layer, PottsLayer):
        return state.visible
    return model.conditional_mean(0, state)


def pixels(model: BoltzmannMachine) -> int:
    """How many pixels the visible units make: one a site of Potts units."""
    layer = model.layers[0]
    return int(getattr(layer, "num_sites", layer.num_units))


def draw_states(
    model: BoltzmannMachine, visible: Any, path: Any, *, shape: Any = None, title: str = ""
) -> None:
    """A picture of visible states or means; of Potts units the number of each site's state.

    Parameters
    ----------
    model : BoltzmannMachine
    visible : array (n, num_visible)
    path : str or path
        A PNG file.
    shape : tuple of int, optional
        Rows and columns of the pixels.
    title : str
    """
    layer = model.layers[0]
    shape = image_shape(pixels(model), shape)
    limits = layer.data_range
    if isinstance(layer, PottsLayer):
        visible, limits = layer.labels(visible), (0, layer.num_states - 1)
    draw_samples(visible, path, shape=shape, limits=limits, title=title)


def sample_sweeps(model: BoltzmannMachine, sweeps: int) -> int:
    """Fewer sweeps where a sweep goes from unit to unit inside a layer."""
    return max(1, sweeps // 10) if model.lateral else sweeps
