"""From the name of a data set to samples that a machine takes."""

from typing import Any

import numpy as np

from gpugrad.boltzmann import datasets

__all__ = ["read", "test_of"]


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
