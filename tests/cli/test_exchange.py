"""`gpugrad export` and `gpugrad import`."""

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import layers
from gpugrad.boltzmann.checkpoint import load_model
from gpugrad.boltzmann.model import RBM, BoltzmannMachine

from .runner import assert_one_line_error, invoke


@pytest.fixture
def saved(tmp_path):
    model = RBM(6, 4, rng=Generator(1), device="cpu")
    model.save(tmp_path / "model.safetensors")
    return model, tmp_path / "model.safetensors"


@pytest.mark.parametrize("form", ["npz", "rbms", "paysage"])
def test_machine_comes_back_from_each_format(form, saved, tmp_path):
    if form == "rbms":
        pytest.importorskip("h5py", reason="h5py is not installed")
    if form == "paysage":
        pytest.importorskip("tables", reason="PyTables is not installed")
    model, path = saved
    file, back = tmp_path / f"m.{form}", tmp_path / "back.safetensors"
    result = invoke("export", path, file, "--format", form)
    assert result.exit_code == 0 and str(file) in result.stdout
    result = invoke("import", file, back)
    assert result.exit_code == 0, result.stderr
    for name, array in load_model(back, device="cpu").parameters().items():
        np.testing.assert_array_equal(array, model.parameters()[name])


def test_nothing_is_replaced_unless_told(saved, tmp_path):
    _, path = saved
    file = tmp_path / "m.npz"
    file.write_text("precious")
    assert_one_line_error(invoke("export", path, file), f"export: {file} exists, expected a new")
    assert_one_line_error(invoke("import", path, file), "import: ")
    assert file.read_text() == "precious"
    assert invoke("export", path, file, "--overwrite").exit_code == 0
    assert_one_line_error(invoke("import", file, path), f"import: {path} exists")
    assert_one_line_error(invoke("import", file, tmp_path, "--overwrite"), "is a folder")


def test_options_that_do_not_fit_are_named(saved, tmp_path):
    _, path = saved
    file, target = tmp_path / "m.npz", tmp_path / "new.safetensors"
    unknown = invoke("export", path, tmp_path / "m.xyz")
    assert_one_line_error(unknown, "m.xyz tells no format, expected a name that ends in .npz, or ")
    assert "--format npz or paysage or rbms" in unknown.stderr
    assert_one_line_error(invoke("export", path, file, "--format", "onnx"), "--format is 'onnx'")
    np.savez(file, **{"layers.0.loc": np.zeros(3)})
    assert_one_line_error(invoke("import", file, target), "does not tell the unit types")
    assert_one_line_error(invoke("import", file, target, "--update", 3), "--update is 3, expected")
    assert_one_line_error(invoke("import", file, target, "--units", "cosine"), "no layer 'cosine'")
    assert not target.exists()
    assert invoke("import", file, target, "--units", "ising").exit_code == 0
    assert load_model(target, device="cpu").layers[0].layer_type == "ising"


def test_machine_that_a_format_cannot_hold_leaves_no_file(tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed")
    deep = BoltzmannMachine([layers.BernoulliLayer(n) for n in (4, 3, 2)], device="cpu")
    deep.save(tmp_path / "m")
    result = invoke("export", tmp_path / "m", tmp_path / "m.h5", "--format", "rbms")
    assert_one_line_error(result, "the machine has 3 layers, expected 2: rbms has no others")
    assert not (tmp_path / "m.h5").exists()
