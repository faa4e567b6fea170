"""Whether a checkpoint was made by a run with the same settings as the one that goes on from it."""

import zlib
from collections.abc import Mapping
from typing import Any

from gpugrad.backend.array_module import asnumpy
from gpugrad.errors import CheckpointError

__all__ = ["check_agreement", "checksum", "described", "difference", "of_length"]


def check_agreement(function: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[Any]:
    """Refuse settings that differ; returns the `sample_size` of each layer in the checkpoint.

    How many samples a layer was started from is a record, not a setting, and is not compared.

    Parameters
    ----------
    function : str
        For the message.
    theirs, mine : mapping
        Settings of the checkpoint and of the run.

    Raises
    ------
    CheckpointError
        The first setting that differs, with both values.
    """
    theirs, sizes = _without_sizes(theirs)
    mine, _ = _without_sizes(mine)
    for name, now in mine.items():
        was = theirs.get(name)
        if was != now:
            there, here = difference(was, now)
            raise CheckpointError(
                f"{function}: the checkpoint was made with {name} {there}, expected {here}"
            )
    return sizes


def of_length(
    theirs: Mapping[str, Any], mine: Mapping[str, Any], schedule: Any
) -> Mapping[str, Any]:
    """Settings of a checkpoint, with the `epochs` of mine where such a run may go on for longer.

    It may if no step so far would have been another one: the rate does not depend on the length of
    training, and nothing is averaged over the last epochs.

    Parameters
    ----------
    theirs, mine : mapping
        Settings of the checkpoint and of the run, as `Trainer.settings` gives them.
    schedule : Schedule or callable
        That of the run.

    Raises
    ------
    CheckpointError
        Nothing but the number of epochs differs and has grown, and the run may not go on.
    """
    was, now = theirs.get("epochs"), mine["epochs"]
    if not isinstance(was, int) or was >= now:
        return theirs
    longer = {**theirs, "epochs": now}
    # a class says so for itself: one derived from it may look at the length
    any_length = vars(type(schedule)).get("any_length", False)
    if any_length and not mine["average_epochs"]:
        return longer
    check_agreement("fit", longer, mine)  # what else differs is told first
    name = getattr(schedule, "name", "") or "own"
    reason = "averages over its last epochs" if any_length else f"has other rates ({name} schedule)"
    raise CheckpointError(
        f"fit: the checkpoint was made with epochs {was}, expected {now}: a longer run {reason}, "
        "it has to begin anew; one with a constant or stepwise rate that averages nothing goes on"
    )


def _without_sizes(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The settings with no `sample_size` in the layers of the model, and these by layer."""
    try:
        layers = [dict(layer) for layer in settings["model"]["layers"]]
    except (KeyError, TypeError, ValueError):
        return dict(settings), []  # no settings of a trainer; the comparison refuses them
    sizes = [layer.pop("sample_size", 0) for layer in layers]
    return {**settings, "model": {**settings["model"], "layers": layers}}, sizes


def described(value: Any) -> Any:
    """The configuration of a schedule, a sampler or a penalty; "function" where it has none."""
    if value is None:
        return None
    describe = getattr(value, "get_config", None)
    return "function" if describe is None else describe()


def checksum(array: Any) -> dict[str, Any]:
    """Shape, dtype and CRC32 of an array, which is read once, 4096 rows at a time."""
    check = 0
    for start in range(0, array.shape[0], 4096):
        check = zlib.crc32(asnumpy(array[start : start + 4096]).tobytes(), check)
    return {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": check}


def difference(first: Any, second: Any) -> tuple[str, str]:
    """Two settings as a person reads them, each without the parts that both share."""
    return _told(first, second), _told(second, first)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The plain values in nested dictionaries and lists, by their path."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _leaves(inner, f"{path}.{name}" if path else str(name))
    return found


def _told(value: Any, other: Any) -> str:
    """A setting as a person reads it, without the parts that it shares with another one."""
    leaves, others = _leaves(value), _leaves(other)
    different = [f"{n} {v!r}".strip() for n, v in leaves.items() if others.get(n, others) != v]
    return ", ".join(different) or "nothing of it"
