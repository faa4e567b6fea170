"""Files of machines of a user's own energy: safetensors with JSON in its header, no pickle.

A function is not written. The file has the qualified name of the energy, and whoever reads it gives
the function again; one of another name is refused. The rest is as in `checkpoint`: checksums of the
header and of each tensor, and a file that is replaced as a whole.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpugrad.boltzmann import constraints as constraint_table
from gpugrad.boltzmann import penalties as penalty_table
from gpugrad.boltzmann.checkpoint import check_json, model_path, read_file, write_file
from gpugrad.boltzmann.energy_machine import EnergyMachine, energy_name
from gpugrad.boltzmann.layers.layer import Layer
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.errors import ModelFileError, ParameterError

__all__ = ["FORMAT", "energy_machine_info", "load_energy_machine", "save_energy_machine"]

FORMAT = "model of an own energy"
"""What the header calls such a file; a `BoltzmannMachine`'s is a "model"."""

SIZES = ("layer_type", "num_units", "num_sites", "num_states")
"""What a layer's configuration says of its states; the energy does not see the rest."""


def save_energy_machine(model: EnergyMachine, path: Any, **metadata: Any) -> None:
    """Write parameters, layers, `by` and the energy's name, and `metadata` that JSON can hold.

    Parameters
    ----------
    model : EnergyMachine
    path : str or path
    **metadata
        Kept in the file; `energy_machine_info` returns it.

    Raises
    ------
    ParameterError
        Another machine, or metadata that JSON cannot hold.
    """
    if not isinstance(model, EnergyMachine):
        raise ParameterError(
            f"save: the machine is of type {type(model).__name__}, expected an EnergyMachine"
        )
    check_json(metadata)
    if "<lambda>" in energy_name(model.energy_function):
        warnings.warn(
            "save: the energy is a lambda, which has the name of any other, expected a function "
            "of its own name: whoever loads the file is not told of another one",
            UserWarning,
            stacklevel=3,
        )
    write_file(path, FORMAT, model.parameters(), {"config": model.config(), "metadata": metadata})


def load_energy_machine(
    path: Any, energy: Any, *, layers: Sequence[UnitLayer] | None = None, device: Any = None
) -> EnergyMachine:
    """The machine in a file that `save_energy_machine` wrote.

    Parameters
    ----------
    path : str or path
        The file, or the folder whose model.safetensors it is.
    energy : callable
        The energy that the machine had. Its qualified name is compared, not what it does.
    layers : sequence of UnitLayer, optional
        Those that the energy is written for, to be compared with those of the file: types and
        numbers of units. They are not taken over.
    device : str or Device, optional
        Where to put it; the current device if None.

    Returns
    -------
    EnergyMachine

    Raises
    ------
    ModelFileError
        No such file, one that is truncated, damaged, foreign or of another version; another energy,
        other layers, parameters of other shapes or that are not finite, an energy that cannot take
        them.
    """
    path = model_path(path)
    arrays, metadata = read_file(path, FORMAT, ModelFileError)
    try:
        config = metadata["config"]
        named, written = config["energy"], [_sizes(x) for x in config["layers"]]
        shapes = dict(config["parameters"])
    except (LookupError, TypeError, ValueError) as error:
        raise ModelFileError(f"load: {path} does not describe a machine ({error})") from error
    _check_arrays(path, arrays, shapes)
    if energy_name(energy) != named:
        raise ModelFileError(
            f"load: {path} has the energy {named!r}, {energy_name(energy)!r} was given, expected "
            "the function that the machine had"
        )
    expected = written if layers is None else [_sizes(x.get_config()) for x in layers]
    if written != expected:
        raise ModelFileError(f"load: {path} has the layers {written}, expected {expected}")
    return _build(path, arrays, config, energy, device)


def energy_machine_info(path: Any) -> dict[str, Any]:
    """Configuration and metadata of a file that `save_energy_machine` wrote; needs no energy."""
    _, metadata = read_file(model_path(path), FORMAT, ModelFileError)
    return metadata


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in SIZES if name in config}


def _check_arrays(path: Any, arrays: Mapping[str, Any], shapes: Mapping[str, Any]) -> None:
    found = {name: list(array.shape) for name, array in arrays.items()}
    if found != shapes:
        raise ModelFileError(f"load: {path} has parameters {found}, expected {shapes}")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelFileError(
                f"load: {path}: parameter {name} has NaN or infinite values, expected finite ones"
            )


def _build(
    path: Any, arrays: Mapping[str, Any], config: Any, energy: Any, device: Any
) -> EnergyMachine:
    try:
        layers: list[Any] = [Layer.from_config(x) for x in config["layers"]]
        values = {name.removeprefix("energy."): array for name, array in arrays.items()}
        terms, how = config["terms"], {"by": config["by"], "dtype": config["dtype"]}
        penalties = {n: penalty_table.from_config(c) for n, c in terms["penalties"].items()}
        constraints = {n: constraint_table.get(c) for n, c in terms["constraints"].items()}
        model = EnergyMachine(layers, energy, values, device=device, **how)
        model.terms.add_penalty(penalties)
        model.terms.add_constraint(constraints)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        # an energy that is written for other layers or shapes fails when it is first called
        raise ModelFileError(
            f"load: {path} does not describe a machine that {energy_name(energy)!r} can be the "
            f"energy of ({error})"
        ) from error
    return model
