"""From the name of a data set to samples that a machine takes."""

from pathlib import Path
from typing import Any

import numpy as np
import typer

from gpugrad.boltzmann import datasets
from gpugrad.boltzmann.streaming import Stream, open_stream
from gpugrad.cli.machine import potts_states
from gpugrad.errors import DataError, ParameterError

__all__ = ["likelihood_label", "own_data", "read", "some_rows", "split_of", "stream_of", "test_of"]

SOME = 1000
"""Samples of a stream on which a likelihood is measured where no test set is given."""


def read(
    name: str,
    *,
    split: str = "train",
    unit: str = "bernoulli",
    key: str | None = None,
    threshold: float | None = None,
    dtype: str = "float32",
) -> Any:
    """The embedded set `mnist`, or the array in a file, as (samples, columns).

    Two-valued data stay in one byte a value, which training unpacks batch by batch. `unit` is the
    visible units' name: for "potts:4" integers are the numbers of states, 0 ... 3, unless they are
    one-hot already; as floats they may have NaN for missing sites.
    """
    if name == "mnist":
        array: np.ndarray = datasets.mnist(split, dtype="uint8")
    else:
        array = datasets.load(name, key=key)
    if potts_states(unit) is not None and threshold is None:
        return _potts(array, unit, dtype)
    if array.ndim > 1 and array.dtype.kind in "bu" and threshold is None and array.max() <= 1:
        return _bits(array.reshape(len(array), -1), unit)
    return _as_units(array, unit, threshold, dtype)


def _as_units(
    array: np.ndarray, unit: str, threshold: float | None, dtype: str = "float32"
) -> np.ndarray:
    if threshold is not None and array.dtype.kind == "f" and np.isnan(array).any():
        raise DataError(
            "as_units: data has missing values (NaN), a threshold expects grey values in [0, 1]"
        )
    return datasets.as_units(array, unit, threshold=threshold, dtype=dtype)


def _bits(rows: np.ndarray, unit: str) -> np.ndarray:
    return 2 * rows.astype("int8") - 1 if unit == "ising" else rows.astype("uint8", copy=False)


def _potts(array: np.ndarray, unit: str, dtype: str) -> np.ndarray:
    if array.ndim < 2:
        raise DataError(f"train: data has shape {array.shape}, expected (samples, sites)")
    rows = array.reshape(len(array), -1)
    states = potts_states(unit)
    assert states is not None
    if rows.dtype.kind == "f" and _are_numbers(rows):
        # NaN is a missing site, in all of its columns
        hot = _one_hot(np.nan_to_num(rows).astype("int64"), unit, states).astype(dtype)
        hot.reshape(*rows.shape, states)[np.isnan(rows)] = np.nan
        return hot
    if rows.dtype.kind == "f" or _is_one_hot(rows, states):
        if rows.shape[1] % states:
            raise DataError(
                f"train: data has {rows.shape[1]} columns, {unit} units take {states} a site"
            )
        return rows.astype(dtype if rows.dtype.kind == "f" else "uint8", copy=False)
    return _one_hot(rows, unit, states)


def _are_numbers(rows: np.ndarray) -> bool:
    """Whether floats are numbers of states: whole, and some above 1, which no one-hot data are."""
    known = rows[~np.isnan(rows)]
    return bool(known.size and known.max() > 1 and (known == np.round(known)).all())


def _one_hot(rows: np.ndarray, unit: str, states: int) -> np.ndarray:
    if int(rows.min()) < 0 or int(rows.max()) >= states:
        raise DataError(
            f"train: data has states in [{rows.min()}, {rows.max()}], {unit} units expect the "
            f"numbers 0 to {states - 1}"
        )
    hot = rows[:, :, None] == np.arange(states)
    return hot.reshape(len(rows), -1).astype("uint8")


def _is_one_hot(rows: np.ndarray, states: int) -> bool:
    if rows.shape[1] % states or int(rows.min()) < 0 or int(rows.max()) > 1:
        return False
    return bool((rows.reshape(len(rows), -1, states).sum(axis=2) == 1).all())


# ---- files larger than memory


class _Mapped:
    """Rows of a source as states of units, converted where they are read."""

    def __init__(self, source: Stream, unit: str, threshold: float | None) -> None:
        self.source, self.unit, self.threshold = source, unit, threshold
        self.grey = self._grey()
        first = self._states(source.read(0, min(source.block, source.shape[0])))
        self.shape, self.dtype = (source.shape[0], first.shape[1]), first.dtype

    def _grey(self) -> bool:
        """Whether these are 8-bit grey values: what one block shows holds for all."""
        source = self.source
        if source.dtype != np.uint8 or potts_states(self.unit) is not None:
            return False  # states by number
        n = source.shape[0]
        starts = range(0, n, source.block)
        return any(source.read(i, min(i + source.block, n)).max() > 1 for i in starts)

    def _states(self, rows: np.ndarray) -> np.ndarray:
        unit, threshold = self.unit, self.threshold
        if potts_states(unit) is not None and threshold is None:
            return _potts(rows, unit, "float32")
        if self.grey:
            rows = rows / np.float32(255)
        if threshold is not None:
            return _as_units(rows, unit, threshold).astype("int8")
        if self.grey:
            return 2 * rows - 1 if unit == "ising" else rows
        if rows.dtype.kind in "bu" and rows.dtype.itemsize == 1:
            return _bits(rows, unit)
        return datasets.as_units(rows, unit)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._states(self.source.read(*rows.indices(self.source.shape[0])[:2]))


def stream_of(
    name: str,
    *,
    unit: str = "bernoulli",
    key: str | None = None,
    threshold: float | None = None,
    block: int = 1024,
    blocks: int = 16,
) -> Stream:
    """The samples of an HDF5 or NPY file, read piece by piece as states of the visible units.

    Raises
    ------
    DataError, ParameterError
        A file of another kind, or values that no unit takes.
    """
    if name == "mnist":
        raise ParameterError("train: --stream reads an HDF5 or NPY file; mnist is in memory")
    source = open_stream(name, key=key, block=block, blocks=blocks)
    return Stream(_Mapped(source, unit, threshold), block=block, blocks=blocks)


def some_rows(stream: Stream) -> np.ndarray:
    """Evenly spaced samples of a stream, 1,000 at most."""
    n = stream.shape[0]
    picked = np.unique(np.linspace(0, n - 1, min(n, SOME)).astype(int)).tolist()
    return np.concatenate([stream.read(i, i + 1) for i in picked])


# ---- what a set is called


def test_of(data: str, test: str | None) -> tuple[str, str]:
    """Which set the likelihood is measured on: (name, split)."""
    if test is not None:
        return test, "test"
    return data, "test" if data == "mnist" else "train"


def own_data(
    trained: dict[str, Any], unit: str, threshold: float | None = None, *, quiet: bool = False
) -> tuple[str, str, Any]:
    """What a run with these settings is measured on: (name, split, samples).

    Its test set, or what it was trained on: without the samples of --holdout, and of those with
    missing values the complete ones. `threshold` goes before that of the run. How many samples are
    left out is told, unless `quiet`: another rank tells it then.
    """
    name, split = test_of(trained["data"], trained.get("test"))
    threshold = trained.get("threshold") if threshold is None else threshold
    how: dict[str, Any] = {"unit": unit, "threshold": threshold}
    if trained.get("test") is not None:
        return name, split, read(name, split=split, **how)
    # the key belongs to the training file
    how["key"] = trained.get("data_key")
    if trained.get("stream"):
        return name, split, some_rows(stream_of(name, **how))
    found = read(name, split=split, **how)
    if trained.get("holdout") and name != "mnist":
        found = found[: -trained["holdout"]]
    if trained.get("missing") == "impute" and found.dtype.kind == "f":
        complete = ~np.isnan(found).any(axis=1)
        if not complete.all() and not quiet:
            typer.echo(
                f"gpugrad: warning: {(~complete).sum():,} of {len(found):,} samples have missing "
                "values and are left out of the likelihood",
                err=True,
            )
        found = found[complete]
    return name, split, found


def split_of(name: str, trained: dict[str, Any]) -> str:
    """What a set was to the training with these settings: "test", "training" or "other"."""
    training, test = trained.get("data"), trained.get("test")
    if test is not None and _same(name, test):
        return "test"
    if name == "mnist":
        # its test images, which no training takes
        return "test"
    if training is not None and _same(name, training):
        return "training" if test is not None else "training (no --test given)"
    return "other"


def _same(first: str, second: str) -> bool:
    return first == second or Path(first).resolve() == Path(second).resolve()


def likelihood_label(split: str) -> str:
    """training (no --test given) -> training log-likelihood (no --test given)."""
    if split == "other":
        return "log-likelihood"
    kind, _, remark = split.partition(" ")
    return f"{kind} log-likelihood {remark}".strip()
