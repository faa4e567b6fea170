"""Machines that are exchanged with other packages, and files in their layouts."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import layers
from gpugrad.boltzmann.model import RBM, BoltzmannMachine

RNG = np.random.default_rng(5)
V = RNG.integers(0, 2, (9, 6)).astype("float64")
H = RNG.integers(0, 2, (9, 4)).astype("float64")


def random(model: BoltzmannMachine) -> BoltzmannMachine:
    """The machine with parameters of order 1, no two alike."""
    rng = Generator(3)
    place = {"device": "cpu"}
    model.set_parameters(
        {n: rng.normal(p.shape, "float64", **place) for n, p in model.parameters().items()}
    )
    return model


def rbm(dtype: str = "float64", **units: str) -> BoltzmannMachine:
    return random(RBM(6, 4, dtype=dtype, device="cpu", **units))


def potts(dtype: str = "float64") -> BoltzmannMachine:
    kinds = [
        layers.PottsLayer(3, 4, dtype=dtype, device="cpu"),
        layers.BernoulliLayer(5, dtype=dtype, device="cpu"),
    ]
    return random(BoltzmannMachine(kinds, dtype=dtype, device="cpu"))


def assert_equal_parameters(a: BoltzmannMachine, b: BoltzmannMachine):
    assert (a.config()["layers"], str(a.dtype)) == (b.config()["layers"], str(b.dtype))
    assert list(a.parameters()) == list(b.parameters())
    for name, array in a.parameters().items():
        np.testing.assert_array_equal(array, b.parameters()[name], err_msg=name)


NAMES = ("weights.0.matrix", "layers.0.loc", "layers.1.loc")


def pandas_table(group: Any, array: np.ndarray):
    """A DataFrame in pandas' fixed format, as h5py writes it."""
    group.attrs["pandas_type"] = np.bytes_(b"frame")
    values = group.create_dataset("block0_values", data=array)
    values.attrs["transposed"] = np.uint8(1)


def paysage_file(
    path: Path, model: BoltzmannMachine, weights: str, field: str, config: Any = None
) -> None:
    """A file in paysage's layout that neither paysage nor our writer has written."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        for i, layer in enumerate(model.layers):
            for j, array in enumerate(layer.params):
                name = f"layers/layers{weights[-1:]}{i}/parameters/{field}{j}"
                pandas_table(file.create_group(name), array.reshape(-1, 1))
        for i, part in enumerate(model.weights):
            pandas_table(file.create_group(f"{weights}{i}/parameters/key0"), part.W())
        if config is not None:
            model_group = file.create_group("model")
            model_group.attrs["config"] = np.bytes_(pickle.dumps(config, 0))
