"""From the name of a data set to samples that a machine takes."""

from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.boltzmann import datasets

__all__ = ["THRESHOLD_HELP", "likelihood_label", "read", "split_of", "test_of"]

THRESHOLD_HELP = (
    "In (0, 1): grey values above it become 1, others 0. Values 0..255 of 8-bit data are divided "
    "by 255 first."
)


def read(
    name: str,
    *,
    split: str = "train",
    unit: str = "bernoulli",
    key: str | None = None,
    threshold: float | None = None,
    dtype: str = "float32",
) -> Any:
    """The embedded set `mnist`, or the array in a file, as (samples, units).

    Two-valued data stay in one byte a value, which training unpacks batch by batch.
    """
    if name == "mnist":
        array: np.ndarray = datasets.mnist(split, dtype="uint8")
    else:
        array = datasets.load(name, key=key)
    if array.ndim > 1 and array.dtype.kind in "bu" and threshold is None and array.max() <= 1:
        rows = array.reshape(len(array), -1)
        return 2 * rows.astype("int8") - 1 if unit == "ising" else rows.astype("uint8", copy=False)
    return datasets.as_units(array, unit, threshold=threshold, dtype=dtype)


def test_of(data: str, test: str | None) -> tuple[str, str]:
    """Which set the likelihood is measured on: (name, split)."""
    if test is not None:
        return test, "test"
    return data, "test" if data == "mnist" else "train"


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
