"""Which object gives the gradients of a machine's training.

Every provider has the same methods:

    data_rows(n)                where the next n samples have to be written, (n, num_visible)
    provider(n, sample_weight)  the gradient of the negative log-likelihood, a dict of arrays
    arrays(), load_arrays(a)    what it needs to go on bit for bit, by name

and the attribute `offsets`, the centred gradient's (or None). One that can be cut into shards (see
`sharded`) gives its gradient in parts as well:

    positive(v)                 the positive phase of data, a State
    data_term(state, weight)    its part of the gradient
    model_term(state, n)        moves the chains on; their part
    finish(difference)          the gradient, from data terms less model terms

with weights as above: each part is a mean over samples or chains.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.communicator import Communicator, Serial
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.energy_phases import EnergyPhases
from gpugrad.boltzmann.general_phases import GeneralPhases
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.phases import Phases, covers
from gpugrad.boltzmann.sharded import ShardedPhases
from gpugrad.errors import ParameterError

__all__ = ["METHODS", "make_phases", "method_name"]

METHODS = ("pcd", "cd", "tap")

TEMPERED = {
    name: f"; parallel tempering is method='pcd' with sampler={sampler}"
    for name, sampler in (
        ("pt", "parallel_tempering(betas)"),
        ("ptt", "parallel_trajectory_tempering()"),
    )
}


def method_name(method: str | Callable[..., Any]) -> str:
    """The name of a method, or of the function that makes a provider."""
    if isinstance(method, str):
        return method
    if isinstance(method, partial):
        settings = ", ".join(f"{name}={value!r}" for name, value in method.keywords.items())
        return f"{method_name(method.func)}({settings})"
    return getattr(method, "__name__", type(method).__name__)


def make_phases(
    model: BoltzmannMachine,
    rng: Generator,
    *,
    method: str | Callable[..., Any] = "pcd",
    sampler: Any = None,
    mean_field_steps: int = 10,
    shards: int | None = None,
    communicator: Communicator | None = None,
    in_parts: bool = False,
    **settings: Any,
) -> Any:
    """The provider of gradients for a machine and a method.

    Parameters
    ----------
    model : BoltzmannMachine
    rng : Generator
        Every draw of the provider comes from it.
    method : {"pcd", "cd", "tap"} or callable
        Persistent contrastive divergence, contrastive divergence, or the negative phase at the
        minima of the TAP free energy. A function is called as `method(model, rng, sampler=...,
        **settings)` and makes a provider of its own: `functools.partial(TapPhases, order=3)`.
    sampler : Step, optional
        Moves the chains of "pcd" in place of block Gibbs sampling.
    mean_field_steps : int
        Updates for the positive phase of more than two layers; a function is not told.
    shards : int, optional
        Cut batch and chains into so many shards, each with a provider of its own.
    communicator : Communicator, optional
        The link to other processes that work on other shards.
    in_parts : bool
        Whether the provider is to give its gradient in parts; `Phases` computes both at once.
    **settings
        k, n_chains, max_batch, autodiff, offsets, centering_rate, sparsity.

    Raises
    ------
    ParameterError
        An unknown method, or settings that it cannot work with.
    """
    if shards is not None:

        def make(stream: Generator, **cut: Any) -> Any:
            how = {"method": method, "sampler": sampler, "mean_field_steps": mean_field_steps}
            return make_phases(model, stream, in_parts=True, **how, **(settings | cut))

        bound = method.keywords if isinstance(method, partial) else {}
        shared = ("n_chains", "max_batch", "centering_rate", "sparsity")
        return ShardedPhases(
            model,
            rng,
            make,
            shards=shards,
            communicator=communicator or Serial(),
            n_random=bound.get("n_random", 0),
            persistent=method != "cd",
            **{name: settings[name] for name in shared if name in settings},
        )
    if callable(method):
        return method(model, rng, sampler=sampler, **settings)
    if method not in METHODS:
        hint = TEMPERED.get(method, "") if isinstance(method, str) else ""
        raise ParameterError(
            f"fit: method is {method!r}, expected one of {list(METHODS)} or a function that makes "
            "a provider of gradients" + hint
        )
    if sampler is not None and method != "pcd":
        raise ParameterError(
            f"fit: method is {method!r}, a sampler needs the persistent chains of 'pcd'"
        )
    if sampler is not None and not callable(sampler):
        raise ParameterError(
            f"fit: sampler is {sampler!r}, expected a function state, info = step(rng, model, "
            "state)"
        )
    if isinstance(model, EnergyMachine):
        return EnergyPhases(model, rng, method=method, sampler=sampler, **settings)
    if method == "tap":
        # not above: training by samples never loads it
        from gpugrad.boltzmann.tap_phases import TapPhases

        return TapPhases(model, rng, mean_field_steps=mean_field_steps, **settings)
    settings |= {"method": method, "sampler": sampler}
    if covers(model) and not in_parts:
        return Phases(model, rng, **settings)
    return GeneralPhases(model, rng, mean_field_steps=mean_field_steps, **settings)
