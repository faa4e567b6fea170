"""From settings to a machine: its layers by name, penalties, constraints, first parameters."""

import importlib
import importlib.util
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.backend.array_module import on
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import constraints, penalties
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.layers import EnergyLayer, PottsLayer, UnitLayer, Weights, get
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.state import positive_int
from gpugrad.cli.settings import TrainSettings
from gpugrad.errors import ParameterError

__all__ = [
    "build_machine",
    "check_units",
    "import_units",
    "known_units",
    "layer_of",
    "potts_states",
    "sparsity_of",
    "start_machine",
    "unit_of",
]


def import_units(command: str, module: str | None) -> None:
    """Import a module, by its name or the path of its .py file, for the units that it defines.

    Raises
    ------
    ParameterError
        It is not there, or fails.
    """
    if module is None:
        return
    path = Path(module)
    try:
        if path.suffix != ".py":
            importlib.import_module(module)
            return
        if not path.is_file():
            raise FileNotFoundError("no such file")
        found = importlib.util.spec_from_file_location(path.stem, path)
        assert found is not None and found.loader is not None
        loaded = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = loaded
        found.loader.exec_module(loaded)
    except Exception as error:  # the user's own code may raise anything
        raise ParameterError(
            f"{command}: --module {module} cannot be imported ({type(error).__name__}: {error})"
        ) from error


# ---- units


def known_units() -> list[str]:
    """Names of the unit types that are defined, the user's own among them."""
    kinds, found = [UnitLayer], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if "layer_type" in kind.__dict__ and kind is not EnergyLayer:
            found.append(kind.layer_type)
    return sorted(set(found))


def potts_states(unit: str) -> int | None:
    """potts:4 -> 4; None for other units."""
    name, _, states = unit.lower().partition(":")
    return int(states) if name == "potts" and states.isdecimal() else None


def unit_of(layer: Any) -> str:
    """The name of a layer's units as the command line has it."""
    states = getattr(layer, "num_states", None)
    return f"{layer.layer_type}:{states}" if isinstance(layer, PottsLayer) else layer.layer_type


def _kind(option: str, unit: str) -> Any:
    """The class of a unit's name."""
    name = unit.lower().partition(":")[0]
    known = known_units()
    kind = get(name) if name in known or name in {get(x).__name__.lower() for x in known} else None
    if kind is None or (":" in unit and kind is not PottsLayer):
        raise ParameterError(
            f"train: --{option} is {unit!r}, expected one of {known}; a unit of your own is "
            "imported by --module"
        )
    if kind is PottsLayer and (potts_states(unit) or 0) < 2:
        raise ParameterError(
            f"train: --{option} is {unit!r}, expected the number of states, two or more: potts:4"
        )
    return kind


def check_units(settings: TrainSettings) -> None:
    """Raise a ParameterError unless the units are known, one for each layer."""
    _kind("visible-units", settings.visible_units)
    for unit in settings.hidden_units:
        _kind("hidden-units", unit)
    given, layers = len(settings.hidden_units), len(settings.hidden)
    if given != 1 and given != layers:
        raise ParameterError(
            f"train: --hidden-units is {', '.join(settings.hidden_units)!r}, expected one unit "
            f"type, or one for each of the {layers} hidden layers"
        )


def layer_of(option: str, unit: str, size: int, dtype: Any, place: Any) -> UnitLayer:
    """A layer of `size` units; of Potts units these are sites."""
    kind = _kind(option, unit)
    states = potts_states(unit)
    arguments = (size,) if states is None else (size, states)
    return kind(*arguments, dtype=dtype, device=place)


# ---- the machine


def build_machine(
    settings: TrainSettings, width: int, place: Any, rng: Generator
) -> BoltzmannMachine:
    """The machine of the settings for data of so many columns.

    Raises
    ------
    ParameterError
        Settings that describe no machine, or one without a partition function.
    """
    for size in settings.hidden:
        positive_int("train", "hidden", size)
    dtype = settings.dtype
    states = potts_states(settings.visible_units) or 1
    layers = [layer_of("visible-units", settings.visible_units, width // states, dtype, place)]
    names = settings.hidden_units * (len(settings.hidden) if len(settings.hidden_units) == 1 else 1)
    for size, unit in zip(settings.hidden, names, strict=True):
        layers.append(layer_of("hidden-units", unit, size, dtype, place))
    shapes = list(pairwise(layer.num_units for layer in layers))
    with on(place):
        weights = [Weights(s, rng=rng, dtype=dtype, device=place) for s in shapes]
        lateral = {}
        for i in settings.lateral:
            if not 0 <= i < len(layers):
                raise ParameterError(
                    f"train: lateral is {i}, expected layers from 0 to {len(layers) - 1}"
                )
            lateral[i] = np.zeros((layers[i].num_units,) * 2, dtype)
        # before the machine is put together: they may be what gives it a partition function
        parts: dict[str, Any] = {f"layers.{i}": x for i, x in enumerate(layers)}
        parts |= {f"weights.{i}": w for i, w in enumerate(weights)}
        rules = _constraints(settings.constraint, list(parts), [f"lateral.{i}" for i in lateral])
        for name, parameter, rule in rules:
            if name in parts:
                parts[name].add_constraint({parameter: rule})
        for part in parts.values():
            part.enforce_constraints()
        model = BoltzmannMachine(
            layers, weights=weights, lateral=lateral, dtype=dtype, device=place, rng=rng
        )
        for name, parameter, rule in rules:
            if name not in parts:
                dict(model.parts())[name].add_constraint({parameter: rule})
    _penalise(model, settings)
    return model


def _constraints(
    given: tuple[str, ...], parts: list[str], lateral: list[str]
) -> list[tuple[str, str, Any]]:
    """(part, parameter, projection) of each; of a bare name, for all weights."""
    found = []
    for text in given:
        target, _, name = text.rpartition("=")
        try:
            rule = constraints.get(name)
        except ParameterError as error:
            known = "non_negative, non_positive, unit_norm, centre, centre_rows"
            raise ParameterError(
                f"train: --constraint is {text!r}, expected [PARAMETER=] and one of {known}"
            ) from error
        weights = [part for part in parts if part.startswith("weights.")]
        if not target:
            found += [(part, "matrix", rule) for part in (*weights, *lateral)]
            continue
        part, _, parameter = target.rpartition(".")
        if part not in (*parts, *lateral):
            raise ParameterError(
                f"train: --constraint is {text!r}, expected a parameter such as layers.0.loc or "
                f"weights.0.matrix, of {', '.join((*parts, *lateral))}"
            )
        found.append((part, parameter, rule))
    return found


def _penalise(model: BoltzmannMachine, settings: TrainSettings) -> None:
    if settings.l1 is not None and settings.l2 is not None:
        raise ParameterError("train: got both --l1 and --l2, expected one of them")
    couplings = [*model.weights, *model.lateral.values()]
    for option, kind in (("l1", penalties.L1Penalty), ("l2", penalties.L2Penalty)):
        strength = getattr(settings, option)
        if strength is not None:
            _check_strength(option, strength)
            for part in couplings:
                part.add_penalty({"matrix": kind(strength)})
    if settings.log_penalty is not None:
        _check_strength("log_penalty", settings.log_penalty)
        rates = [layer for layer in model.layers if layer.layer_type == "exponential"]
        if not rates:
            raise ParameterError(
                f"train: log_penalty is {settings.log_penalty}, {model!r} has no exponential "
                "units, whose rates it keeps above 0"
            )
        for layer in rates:
            layer.add_penalty({"loc": penalties.LogPenalty(settings.log_penalty)})


def _check_strength(option: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ParameterError(f"train: {option} is {value}, expected a finite number of at least 0")


def sparsity_of(settings: TrainSettings) -> SparsityTarget | None:
    """The penalty on the hidden units' mean activity, if there is one."""
    if settings.sparsity_target is None:
        return None
    _check_strength("sparsity_strength", settings.sparsity_strength)
    return SparsityTarget(
        settings.sparsity_target, settings.sparsity_strength, layer=settings.sparsity_layer
    )


def start_machine(
    model: BoltzmannMachine, data: Any, rng: Generator, settings: TrainSettings
) -> None:
    """First parameters: the visible layer fitted to the data, weights drawn."""
    scale = settings.init_scale
    if scale is not None and not 0 <= scale < math.inf:
        raise ParameterError(
            f"train: init_scale is {scale}, expected a finite number of at least 0"
        )
    how: dict[str, Any] = {
        "scheme": settings.init,
        "scale": scale,
        "min_probability": settings.min_probability,
        "missing": settings.missing,
    }
    initialize(model, data, rng, **how)
