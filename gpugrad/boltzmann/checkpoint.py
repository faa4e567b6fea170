"""Files of machines and of training in progress: safetensors with JSON in its header, no pickle.

One file holds everything, so that it is replaced as a whole (:mod:`gpugrad.atomic_file`). Whenever
the process is killed, the name leads to a complete file: the last one or the one before.

    header["__metadata__"]["gpugrad"] = {"format": "model" | "checkpoint", "version": 1, ...}
    header["__metadata__"]["gpugrad.crc32"] = {"header": ..., "tensors": {name: ..., ...}}
    tensors                             by name: "weights.0.matrix", "chains.1", ...

Checksums of the header's text and of each tensor are compared when a file is read: a flipped bit
of a weight is a number as good as any other. Files without them are read as they are.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.atomic_file import remove_leftovers, write_atomically
from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.errors import CheckpointError, ModelFileError, ParameterError

__all__ = [
    "VERSION",
    "checkpoint_info",
    "load_checkpoint",
    "load_model",
    "model_info",
    "save_checkpoint",
    "save_model",
]

VERSION = 1
"""Version of the file format; a file of another version is refused."""

KEY = "gpugrad"
CHECKSUMS = "gpugrad.crc32"


def _library() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            'files of machines need the package safetensors: pip install "gpugrad[train]"'
        ) from error
    return safetensors


def write_file(
    path: Any, form: str, arrays: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and metadata that JSON can hold to a file of this format, as a whole."""
    text = json.dumps({"format": form, "version": VERSION, **metadata})
    # asarray, not ascontiguousarray, which gives a 0-d array an axis
    host = {name: np.asarray(asnumpy(array), order="C") for name, array in arrays.items()}
    checksums = {
        "header": zlib.crc32(text.encode()),
        "tensors": {name: _checksum(array) for name, array in host.items()},
    }
    header = {KEY: text, CHECKSUMS: json.dumps(checksums)}
    write_atomically(path, _library().numpy.save(host, header))


def _checksum(array: np.ndarray) -> int:
    """CRC32 of an array's dtype, shape and values."""
    kind = zlib.crc32(f"{array.dtype.name} {array.shape}".encode())
    return zlib.crc32(array.reshape(-1).view(np.uint8).data, kind)


def read_file(path: Any, form: str, error_type: type[ModelFileError]) -> tuple[dict[str, Any], Any]:
    """Arrays (on the host) and metadata of a file of this format, or an error of that type."""
    safetensors = _library()
    path = Path(path)
    if path.is_dir():
        raise error_type(f"load: {path} is a folder, expected the file of a {form}")
    if not path.is_file():
        raise error_type(f"load: {path}: no such file")
    try:
        open(path, "rb").close()  # safetensors says of any refusal that there is no such file
    except OSError as error:
        raise error_type(f"load: {path} cannot be read ({error.strerror})") from error
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            metadata = _metadata(path, header, form, error_type)
            # copies: the file may be replaced while they are in use
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}
        _compare(path, header, arrays, error_type)
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise error_type(
            f"load: {path} is not a {form} of gpugrad, or is damaged ({error})"
        ) from error
    return arrays, metadata


def _metadata(
    path: Path, header: Mapping[str, str], form: str, error_type: type[ModelFileError]
) -> dict[str, Any]:
    if KEY not in header:
        raise error_type(f"load: {path} is a safetensors file, but was not written by gpugrad")
    metadata = json.loads(header[KEY])
    if not isinstance(metadata, dict):
        raise ValueError(f"its header holds {type(metadata).__name__}")
    if metadata.get("version") != VERSION:
        raise error_type(
            f"load: {path} is of version {metadata.get('version')}, expected version {VERSION}"
        )
    if metadata.get("format") != form:
        raise error_type(f"load: {path} is a {metadata.get('format')}, expected a {form}")
    return metadata


def _compare(
    path: Path,
    header: Mapping[str, str],
    arrays: Mapping[str, np.ndarray],
    error_type: type[ModelFileError],
) -> None:
    """Raise unless everything is as it was written; files without checksums pass."""
    if CHECKSUMS not in header:
        return
    known = json.loads(header[CHECKSUMS])
    if zlib.crc32(header[KEY].encode()) != known["header"]:
        raise error_type(
            f"load: {path}: the header is damaged, expected the checksum that was written with it"
        )
    for name, array in arrays.items():
        if _checksum(array) != known["tensors"].get(name):
            raise error_type(
                f"load: {path}: tensor {name} is damaged, expected the checksum that was written "
                "with it"
            )


def check_json(metadata: Any) -> None:
    """Raise a ParameterError for metadata of a machine that JSON cannot hold."""
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"save: metadata {error}, expected what JSON can hold") from error


def model_path(path: Any) -> Any:
    """The file of a machine: this one, or model.safetensors in the folder of a training run."""
    inside = Path(path) / "model.safetensors"
    return inside if inside.is_file() else path


# ---- machines


def save_model(model: BoltzmannMachine, path: Any, **metadata: Any) -> None:
    """Write a machine's parameters and configuration, and any `metadata` that JSON can hold.

    Parameters
    ----------
    model : BoltzmannMachine
    path : str or path
    **metadata
        Kept in the file; `model_info` returns it.

    Raises
    ------
    ParameterError
        Metadata that JSON cannot hold; another machine, such as an `EnergyMachine`, whose energy is
        a function: it has `save` and `load` of its own (see `energy_file`).
    """
    check_boltzmann("save", model)
    check_json(metadata)
    write_file(path, "model", model.parameters(), {"config": model.config(), "metadata": metadata})


def load_model(path: Any, *, device: Any = None) -> BoltzmannMachine:
    """The machine in a file that `save_model` wrote.

    Parameters
    ----------
    path : str or path
        The file, or the folder of a training run, whose model.safetensors it is.
    device : str or Device, optional
        Where to put it; the current device if None.

    Raises
    ------
    ModelFileError
        No such file, one that is truncated, damaged, foreign or of another version, or parameters
        that are not finite.
    """
    path = model_path(path)
    arrays, metadata = read_file(path, "model", ModelFileError)
    return _build(path, arrays, metadata, device)


def _build(path: Any, arrays: Mapping[str, Any], metadata: Any, device: Any) -> BoltzmannMachine:
    try:
        model = BoltzmannMachine.from_config(metadata["config"], device=device)
        missing = set(model.parameters()) ^ set(arrays)
        if missing:
            raise ParameterError(f"the arrays {sorted(missing)} are missing or not expected")
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ModelFileError(
                    f"load: {path}: parameter {name} has NaN or infinite values, expected finite "
                    "ones"
                )
        model.set_parameters(arrays)
    except (KeyError, TypeError, ParameterError) as error:
        raise ModelFileError(f"load: {path} does not describe a machine ({error})") from error
    return model


def model_info(path: Any) -> dict[str, Any]:
    """Configuration and metadata of a machine's file, or of the folder of a training run."""
    _, metadata = read_file(model_path(path), "model", ModelFileError)
    return metadata


# ---- training in progress


def save_checkpoint(path: Any, arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write what `Trainer.state_dict` returned."""
    write_file(path, "checkpoint", arrays, metadata)


def load_checkpoint(path: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays (on the host) and metadata for `Trainer.load_state_dict`.

    Raises
    ------
    CheckpointError
        No such file, or one that is truncated, damaged, foreign or of another version.
    """
    remove_leftovers(path)
    return read_file(path, "checkpoint", CheckpointError)


def checkpoint_info(path: Any) -> dict[str, Any]:
    """Metadata of a checkpoint; a training that writes it at this moment is not disturbed."""
    _, metadata = read_file(path, "checkpoint", CheckpointError)
    return metadata
