"""What a training function of its own leaves after each epoch, and goes on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpugrad.backend.array_module import device_of, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.agreement import check_agreement
from gpugrad.boltzmann.checkpoint import load_checkpoint, save_checkpoint
from gpugrad.errors import CheckpointError

__all__ = ["ProgressFile"]


class ProgressFile:
    """A checkpoint that is read once at the start, if it is there, and replaced after each epoch.

    Parameters
    ----------
    function : str
        For messages.
    path : str or path or None
        None: nothing is read or written.
    settings : mapping
        What must agree between the run that wrote the file and the one that goes on.

    Attributes
    ----------
    arrays : dict of array, or None
        What was read, on the host; None if there was nothing.
    history : list
        What was read; empty if there was nothing.

    Raises
    ------
    CheckpointError
        A file that is damaged, foreign or of a run with other settings.
    """

    def __init__(self, function: str, path: Any, settings: Mapping[str, Any]) -> None:
        self.function, self.settings = function, dict(settings)
        self.path = None if path is None else Path(path)
        self.arrays: dict[str, Any] | None = None
        self.history: list[Any] = []
        if self.path is None or not self.path.exists():
            return
        arrays, metadata = load_checkpoint(self.path)
        check_agreement(function, metadata.get("settings", {}), self.settings)
        try:
            self.history = list(metadata["history"])
            self._rng = Generator.from_state(metadata["rng"]).state
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{function}: the metadata of {self.path} are damaged ({error})"
            ) from error
        self.arrays = arrays

    def take_over(self, own: Mapping[str, Any], rng: Generator) -> None:
        """Overwrite arrays and the generator's position by what was read, if anything was.

        Raises
        ------
        CheckpointError
            One is missing or has another shape; nothing is changed then.
        """
        if self.arrays is None:
            return
        for name, array in own.items():
            found = self.arrays.get(name)
            if found is None or tuple(found.shape) != tuple(array.shape):
                raise CheckpointError(
                    f"{self.function}: {self.path} lacks {name} of shape {tuple(array.shape)}"
                )
        for name, array in own.items():
            array[...] = to_device(self.arrays[name], device_of(array))
        rng.set_state(self._rng)

    def save(self, arrays: Mapping[str, Any], history: list[Any], rng: Generator) -> None:
        """Replace the file, whole or not at all."""
        if self.path is not None:
            metadata = {"settings": self.settings, "history": history, "rng": rng.state}
            save_checkpoint(self.path, arrays, metadata)
