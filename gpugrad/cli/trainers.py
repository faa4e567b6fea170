"""From settings to what a `Trainer` takes: method, sampler, optimiser, early stopping."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import optimizers
from gpugrad.boltzmann.callbacks import EarlyStopping
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.partition import ais, exact_log_partition, is_enumerable, likelihood_bounds
from gpugrad.boltzmann.state import check_data, positive_int
from gpugrad.boltzmann.tap_phases import TapPhases
from gpugrad.boltzmann.tempering import parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering
from gpugrad.cli.settings import DEFAULTS, TrainSettings
from gpugrad.errors import ParameterError

__all__ = [
    "METHODS",
    "annealed_by",
    "check_relevance",
    "early_stopping",
    "method_of",
    "optimizer_of",
    "sweeps",
]

METHODS = ("pcd", "cd", "pt", "ptt", "tap")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam")

ONLY: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "betas": ("method", ("pt",)),
    "rungs": ("method", ("pt",)),
    "swap_every": ("method", ("pt", "ptt")),
    "ptt_threshold": ("method", ("ptt",)),
    "ptt_window": ("method", ("ptt",)),
    "max_machines": ("method", ("ptt",)),
    "tap_order": ("method", ("tap",)),
    "random_seeds": ("method", ("tap",)),
    "burn_in": ("method", ("tap",)),
    "damping": ("method", ("tap",)),
    "momentum": ("optimizer", ("sgd", "momentum", "nesterov")),
    "decay": ("optimizer", ("rmsprop",)),
    "beta1": ("optimizer", ("adam",)),
    "beta2": ("optimizer", ("adam",)),
}
"""Settings that belong to some methods or optimisers only: the others refuse them."""

TOGETHER: Mapping[str, tuple[str, ...]] = {
    "patience": ("validation", "holdout", "estimate_every", "estimate_temperatures", "min_gain"),
    "sparsity_target": ("sparsity_strength", "sparsity_layer"),
    "stream": ("stream_block", "stream_blocks"),
    "pretrain": ("pretrain_rate",),
}
"""Settings that do nothing without the one that they are listed for."""

ESTIMATE_CHAINS = 100


def check_relevance(settings: TrainSettings) -> None:
    """Raise a ParameterError for unknown methods and optimisers, and settings of other ones."""
    for option, known in (("method", METHODS), ("optimizer", OPTIMIZERS)):
        if getattr(settings, option) not in known:
            raise ParameterError(
                f"train: {option} is {getattr(settings, option)!r}, expected one of {list(known)}"
            )
    for name, (of, takers) in ONLY.items():
        chosen = getattr(settings, of)
        if getattr(settings, name) != getattr(DEFAULTS, name) and chosen not in takers:
            raise ParameterError(
                f"train: {name} is {_told(settings, name)}, which --{of} {chosen} does not take; "
                f"expected --{of} {' or '.join(takers)}"
            )
    for needed, names in TOGETHER.items():
        for name in names:
            if getattr(settings, needed) == getattr(DEFAULTS, needed) and getattr(
                settings, name
            ) != getattr(DEFAULTS, name):
                raise ParameterError(
                    f"train: {name} is {_told(settings, name)}, expected --"
                    f"{needed.replace('_', '-')} with it"
                )


def _told(settings: TrainSettings, name: str) -> str:
    value = getattr(settings, name)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def optimizer_of(settings: TrainSettings) -> optimizers.Optimizer:
    """The optimiser of a name, with the settings that were given."""
    name = settings.optimizer
    config: dict[str, Any] = {"name": "sgd" if name == "momentum" else name}
    if name == "momentum":
        config["momentum"] = 0.9
    for option in ("momentum", "decay", "beta1", "beta2"):
        if getattr(settings, option) is not None:
            config[option] = getattr(settings, option)
    return optimizers.from_config(config)


# ---- methods


@dataclass(frozen=True)
class _Described:
    """A sampler that says in a checkpoint how it was made, so that a resume with another fails."""

    step: Any
    config: dict[str, Any]

    def start(self, rng: Generator, model: BoltzmannMachine, n_chains: int) -> Any:
        return self.step.start(rng, model, n_chains)

    def __call__(self, rng: Generator, model: BoltzmannMachine, state: Any) -> Any:
        return self.step(rng, model, state)

    def get_config(self) -> dict[str, Any]:
        return self.config


def sweeps(settings: TrainSettings) -> int:
    """Sweeps an update: as given, or what the method takes by itself."""
    return (3 if settings.method == "tap" else 1) if settings.k is None else settings.k


def method_of(settings: TrainSettings, model: BoltzmannMachine) -> dict[str, Any]:
    """What `Trainer` takes as method, sampler, k and number of chains.

    Raises
    ------
    ParameterError
        Settings that the method or the machine cannot work with.
    """
    name = settings.method
    k = positive_int("train", "k", sweeps(settings))
    found: dict[str, Any] = {"method": name, "k": k, "n_chains": settings.chains}
    if name == "pt":
        betas = settings.betas or _evenly_spaced(settings, model)
        if betas[0] == 0 and not _bounded(model):
            # the sampler says so too, but at its first step
            raise ParameterError(
                f"train: betas are {', '.join(map(str, betas))}; they start at 0, where {model!r} "
                "cannot be normalised, expected positive numbers"
            )
        step: Any = parallel_tempering(betas, k=k, swap_every=settings.swap_every, donate=True)
        made = {"name": "pt", "betas": list(betas), "swap_every": settings.swap_every}
        return found | {"method": "pcd", "sampler": _Described(step, made)}
    if name == "ptt":
        config: dict[str, Any] = {
            "swap_every": settings.swap_every,
            "threshold": settings.ptt_threshold,
            "window": settings.ptt_window,
            "max_machines": settings.max_machines,
        }
        step = parallel_trajectory_tempering(k=k, donate=True, **config)
        return found | {"method": "pcd", "sampler": _Described(step, {"name": "ptt", **config})}
    if name == "tap":
        found["method"] = partial(
            TapPhases,
            order=settings.tap_order,
            damping=settings.damping,
            n_random=settings.random_seeds,
            burn_in=settings.burn_in,
            mean_field_steps=settings.mean_field_steps,
        )
    return found


def _evenly_spaced(settings: TrainSettings, model: BoltzmannMachine) -> tuple[float, ...]:
    """Inverse temperatures from 0, or near it where the units are unbounded, to 1."""
    rungs = settings.rungs
    if rungs < 2:
        raise ParameterError(f"train: rungs is {rungs}, expected an integer of at least 2")
    return tuple(np.linspace(0.0 if _bounded(model) else 1 / rungs, 1.0, rungs).tolist())


def _bounded(model: BoltzmannMachine) -> bool:
    return all(layer.growth == "bounded" for layer in model.layers)


# ---- early stopping


def annealed_by(trainer: Trainer) -> dict[str, Any]:
    """Who shares the annealing of a trainer's machine: what `ais` takes as shards and link."""
    if trainer.shards is None:
        return {}
    return {"shards": trainer.shards, "communicator": trainer.communicator}


def early_stopping(
    settings: TrainSettings,
    model: BoltzmannMachine,
    held_out: Any,
    base: Any,
    annealed: Mapping[str, Any],
) -> EarlyStopping | None:
    """The callback that watches the log-likelihood of samples that are not trained on.

    Parameters
    ----------
    settings : TrainSettings
    model : BoltzmannMachine
    held_out : array (num_samples, num_visible), or None
    base : array (num_samples, num_visible)
        Data whose means the base machine of the annealing takes.
    annealed : dict
        What `annealed_by` found.
    """
    if settings.patience is None:
        return None
    if held_out is None:
        raise ParameterError(
            f"train: patience is {settings.patience}, expected --validation or --holdout with it: "
            "samples that are not trained on"
        )
    if settings.average_epochs:
        raise ParameterError(
            f"train: average_epochs is {settings.average_epochs}, expected 0 with --patience: the "
            "best parameters are taken, not a mean"
        )
    if settings.min_gain < 0:
        raise ParameterError(f"train: min_gain is {settings.min_gain}, expected at least 0")
    positive_int("train", "estimate_every", settings.estimate_every)
    n = positive_int("train", "estimate_temperatures", settings.estimate_temperatures)
    check_data(model, held_out, function="train", support=True)
    exact = is_enumerable(model)

    def estimate(machine: BoltzmannMachine, rng: Generator) -> float:
        if exact:
            log_z = exact_log_partition(machine)
        else:
            how = {"n_temperatures": n, "n_chains": ESTIMATE_CHAINS, "data": base, **annealed}
            log_z = ais(machine, rng, **how).log_z
        return float(np.mean(likelihood_bounds(machine, held_out, log_z)))

    return EarlyStopping(
        estimate,
        every=settings.estimate_every,
        patience=settings.patience,
        min_gain=settings.min_gain,
    )
