"""How the arrays of foreign files lie there, and in which dtype they make a machine."""

from pathlib import Path

import numpy as np
import pytest

from gpugrad.boltzmann.interchange import read_npz, read_paysage, to_sklearn, write_npz
from gpugrad.errors import ModelFileError, ParameterError

from .exchanged import NAMES, assert_equal_parameters, pandas_table, paysage_file, rbm


def test_the_dtype_of_a_machine_is_that_of_its_real_numbers_unless_told(tmp_path: Path):
    file, units = tmp_path / "m.npz", ["bernoulli"] * 2
    W, b, c = np.ones((6, 3), "float32"), np.ones(6, "int64"), np.ones(3, "int64")
    np.savez(file, **dict(zip(NAMES, (W, b, c), strict=True)))
    assert read_npz(file, units=units, device="cpu").dtype == "float32"
    with pytest.raises(ParameterError, match="the number of states with it: 'potts:4'"):
        read_npz(file, units=["potts:1", "bernoulli"])
    np.savez(file, **dict(zip(NAMES, (W + 1j, b, c), strict=True)))
    with pytest.raises(ModelFileError, match="weights.0.matrix is complex64, expected real"):
        read_npz(file, units=units)


def test_an_archive_of_ours_is_read_in_another_dtype_and_by_names_only_with_units(tmp_path: Path):
    model, file = rbm("float32"), tmp_path / "m.npz"
    write_npz(model, file)
    found = read_npz(file, dtype="float64", device="cpu")
    assert found.dtype == "float64"
    for name, parameter in model.parameters().items():
        np.testing.assert_array_equal(found.parameters()[name], parameter)
    names = dict(zip(NAMES, NAMES, strict=True))
    with pytest.raises(ParameterError, match="does not tell the unit types"):
        read_npz(file, names=names)
    assert_equal_parameters(model, read_npz(file, names=names, units=["bernoulli"] * 2))


def test_machine_of_half_precision_is_an_estimator_of_single():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    model = rbm("float16")
    estimator = to_sklearn(model)
    assert estimator.components_.dtype == np.float32
    np.testing.assert_array_equal(estimator.components_.T, model.weights[0].W())


def test_tables_of_pandas_are_read_as_they_lie_and_nothing_else(tmp_path: Path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    model, file, units = rbm(), tmp_path / "m.h5", ["bernoulli"] * 2
    place = "connections/weights_0/parameters"
    paysage_file(file, model, "connections/weights_", "params")
    with h5py.File(file, "a") as opened:
        values = opened[f"{place}/key0/block0_values"]
        W = np.asarray(values).T
        del opened[f"{place}/key0/block0_values"]
        values = opened[f"{place}/key0"].create_dataset("block0_values", data=W)
        values.attrs["transposed"] = np.uint8(0)
    assert_equal_parameters(model, read_paysage(file, units=units, device="cpu"))
    with h5py.File(file, "a") as opened:
        opened[f"{place}/key0"]["block1_values"] = W
    with pytest.raises(ModelFileError, match="key0 is not a table of numbers in pandas' fixed"):
        read_paysage(file, units=units)
    paysage_file(file, model, "connections/weights_", "params")
    with h5py.File(file, "a") as opened:
        pandas_table(opened.create_group(f"{place}/key1"), W.T)
    with pytest.raises(ModelFileError, match=r"has two arrays for weights\.0\.matrix"):
        read_paysage(file, units=units)
