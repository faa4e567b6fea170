"""Indexing as CuPy does it: integers wrap around, the winner among duplicates is arbitrary."""

from typing import Any

import numpy as np


def prepared(index: Any, shape: tuple[int, ...], array_class: type) -> tuple[Any, bool]:
    """Return NumPy's index for CuPy's, integers wrapped, and whether it is advanced."""
    entries = list(index) if isinstance(index, tuple) else [index]
    advanced = False
    used = 0
    for i, entry in enumerate(entries):
        if entry is None or entry is Ellipsis:
            continue
        if isinstance(entry, slice) or (
            np.isscalar(entry) and not isinstance(entry, bool | np.bool_ | str | bytes)
        ):
            used += 1
            continue
        if isinstance(entry, array_class):
            array = entry._host  # type: ignore[attr-defined]
        else:
            array = np.asarray(entry)
            if isinstance(entry, list | tuple) and array.size == 0:
                array = array.astype(np.int32)
        if array.dtype.kind not in "biu":
            raise IndexError(
                f"arrays used as indices must be of integer or boolean type. ({array.dtype.type})"
            )
        entries[i] = array
        advanced = True
        used += array.ndim if array.dtype.kind == "b" else 1
    axis = 0
    for i, entry in enumerate(entries):
        if entry is Ellipsis:
            axis += len(shape) - used
        elif isinstance(entry, np.ndarray) and entry.dtype.kind == "b":
            axis += entry.ndim
        elif entry is not None:
            if isinstance(entry, np.ndarray) and axis < len(shape) and shape[axis]:
                entries[i] = entry % shape[axis]
            axis += 1
    return tuple(entries), advanced


def scalar_for(value: Any, dtype: np.dtype) -> np.ndarray:
    """Return a scalar as an array of `dtype`; refuse host arrays."""
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Implicit host-to-device conversion of a NumPy array is not allowed.")
    return np.asarray(value).astype(dtype)


def assign(target: np.ndarray, index: tuple[Any, ...], value: np.ndarray) -> None:
    """Write `value` at `index`; of duplicates the first wins, which NumPy would never do."""
    places = np.arange(target.size).reshape(target.shape)[index]
    while value.ndim > places.ndim and value.shape[0] == 1:
        value = value[0]
    with np.errstate(all="ignore"):
        value = np.broadcast_to(value.astype(target.dtype), places.shape)
    # Copied: `value` may be a view of `target`.
    target.flat[places.ravel()[::-1]] = value.flatten()[::-1]


def accumulate(
    ufunc: np.ufunc, target: np.ndarray, index: tuple[Any, ...], value: np.ndarray
) -> None:
    """Apply `ufunc.at`, in the reverse of NumPy's order: atomics come in any order."""
    places = np.arange(target.size).reshape(target.shape)[index]
    with np.errstate(all="ignore"):
        value = np.broadcast_to(value.astype(target.dtype), places.shape)
        flat = np.array(target).ravel()
        ufunc.at(flat, places.ravel()[::-1], value.ravel()[::-1])
    target[...] = flat.reshape(target.shape)
