"""The chains of a negative phase: starting them, checking a sampler's answer, saving them.

A sampler is `state, info = step(rng, model, state)`. Its state is a `State`, or something that
holds more (replicas at other temperatures, say) and has `cold`, `arrays()` and `with_arrays()`.
"""

from collections.abc import Mapping
from typing import Any

from gpugrad.backend.array_module import to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State
from gpugrad.errors import CheckpointError, ParameterError

__all__ = ["advance", "load", "save", "start"]

PREFIX = "chains."


def start(sampler: Any, rng: Generator, model: BoltzmannMachine, n_chains: int) -> Any:
    """The state that a sampler starts from: its own, or layers as if they had no neighbours.

    Parameters
    ----------
    sampler : callable or None
        A step; asked for `start(rng, model, n_chains)` if it has it.
    rng : Generator
    model : BoltzmannMachine
    n_chains : int
        Chains at inverse temperature 1.

    Raises
    ------
    ParameterError
        The sampler's state does not fit the machine.
    """
    own = getattr(sampler, "start", None)
    state = model.random_state(n_chains, rng=rng) if own is None else own(rng, model, n_chains)
    _check(model, n_chains, getattr(state, "cold", None), "a start")
    return state


def _check(model: BoltzmannMachine, n: int, state: Any, what: str) -> None:
    """The shapes only: the values may live on a device that must not be waited for."""
    expected = [(n, layer.num_units) for layer in model.layers]
    found = None
    if isinstance(state, State):
        found = [None if x is None else tuple(x.shape) for x in state]
        if len(found) == len(expected) and all(
            f in (None, e) for f, e in zip(found, expected, strict=True)
        ):
            return
    raise ParameterError(
        f"fit: the sampler gave {what} of shape {found}, expected {expected} of {model!r}"
    )


def advance(sampler: Any, rng: Generator, model: BoltzmannMachine, state: Any, n: int) -> Any:
    """One step; returns the sampler's new state and the negative phase (`info.expected`).

    Raises
    ------
    ParameterError
        The step's answer has another shape than n states of the machine.
    """
    answer = sampler(rng, model, state)
    try:
        new, info = answer
        expected = info.expected
    except (TypeError, ValueError, AttributeError) as error:
        raise ParameterError(
            f"fit: the sampler gave {type(answer).__name__}, expected state, info with "
            "info.expected"
        ) from error
    _check(model, n, expected, "info.expected")
    return new, expected


def save(state: Any) -> dict[str, Any]:
    """The state's arrays by name, for a checkpoint; live, not copied."""
    return {} if state is None else {PREFIX + name: x for name, x in state.arrays().items()}


def load(model: BoltzmannMachine, state: Any, arrays: Mapping[str, Any], n_chains: int) -> Any:
    """The state that `save` gave, on the model's device, in memory of its own.

    Parameters
    ----------
    model : BoltzmannMachine
    state : object
        A state of the same sampler, as it starts; it is not changed.
    arrays : dict of array
        Of the whole checkpoint.
    n_chains : int

    Raises
    ------
    CheckpointError
        Arrays are missing, or of another shape or dtype.
    """
    # copies: a step may write over the state, and the arrays belong to the caller
    own = {
        name[len(PREFIX) :]: to_device(array, model.device).copy()
        for name, array in arrays.items()
        if name.startswith(PREFIX)
    }
    if isinstance(state, State):
        # arrays of other layers would go unnoticed
        expected = state.arrays()
        for name, array in expected.items():
            found = own.get(name)
            if found is None or found.shape != array.shape or found.dtype != array.dtype:
                raise CheckpointError(
                    f"fit: the checkpoint lacks {PREFIX}{name}, {array.dtype} of shape "
                    f"{tuple(array.shape)}"
                )
    try:
        found = state.with_arrays(own)
        _check(model, n_chains, found.cold, "a state")
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"fit: the checkpoint's chains do not fit the sampler ({error})"
        ) from error
    return found
