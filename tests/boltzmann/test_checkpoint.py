"""Files of machines and checkpoints: whole or not there, refused when they are not ours."""

import errno
import json
import os

import numpy as np
import pytest

from gpugrad.atomic_file import remove_leftovers, write_atomically
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import checkpoint
from gpugrad.boltzmann.checkpoint import (
    load_checkpoint,
    load_model,
    model_info,
    save_checkpoint,
)
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.errors import CheckpointError, ModelFileError, ParameterError

from .machines import PAIRINGS, device_like, host, small_machine

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")


@pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)
def test_a_saved_machine_comes_back_bit_for_bit(xp, pairing, tmp_path):
    model, _ = small_machine(xp, pairing, dtype="float32")
    model.save(tmp_path / "m.safetensors")
    found = BoltzmannMachine.load(tmp_path / "m.safetensors", device=device_like(xp))
    assert found.config() == model.config()
    for name, parameter in model.parameters().items():
        assert isinstance(found.parameters()[name], xp.ndarray)
        assert np.array_equal(host(found.parameters()[name]), host(parameter))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_dtype_is_kept(dtype, tmp_path):
    RBM(3, 2, dtype=dtype, device="cpu").save(tmp_path / "m")
    assert load_model(tmp_path / "m", device="cpu").dtype == dtype


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_a_machine_from_a_file_knows_how_many_samples_started_it(kind, tmp_path):
    model = RBM(3, 2, visible=kind, device="cpu")
    data = np.eye(3, dtype="float32")
    model.layers[0].online_param_update(data)
    model.save(tmp_path / "m")
    found = load_model(tmp_path / "m", device="cpu")
    assert found.layers[0].sample_size == 3 and found.config() == model.config()
    # their moments are not in the file: the next fit starts anew
    found.layers[0].online_param_update(data[:2])
    model.layers[0].sample_size = 0
    model.layers[0].online_param_update(data[:2])
    assert found.layers[0].sample_size == 2
    np.testing.assert_array_equal(found.layers[0].params.loc, model.layers[0].params.loc)


def test_metadata_are_kept_and_must_be_json(tmp_path):
    model = RBM(3, 2, device="cpu")
    model.save(tmp_path / "m", data="stripes", history=[1.5])
    assert model_info(tmp_path / "m")["metadata"] == {"data": "stripes", "history": [1.5]}
    with pytest.raises(ParameterError, match="expected what JSON can hold"):
        model.save(tmp_path / "n", when=object())
    assert not (tmp_path / "n").exists()


def test_the_file_is_plain_safetensors_that_other_programs_read(tmp_path):
    model = RBM(3, 2, device="cpu")
    model.save(tmp_path / "m")
    arrays = safetensors.load_file(tmp_path / "m")
    assert {name: x.shape for name, x in arrays.items()} == {
        "layers.0.loc": (3,),
        "layers.1.loc": (2,),
        "weights.0.matrix": (3, 2),
    }


def rewritten(path, change):
    """The file at `path`, its JSON changed."""
    with safetensors.safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["gpugrad"])
    change(header)
    arrays = safetensors.load_file(path)
    path.write_bytes(safetensors.save(arrays, {"gpugrad": json.dumps(header)}))


@pytest.mark.parametrize("tensor", ["layers.0.loc", "layers.1.loc", "weights.0.matrix"])
def test_a_flipped_bit_of_a_parameter_is_noticed_and_the_tensor_named(tensor, tmp_path):
    path = tmp_path / "m"
    model = RBM(3, 2, device="cpu", rng=Generator(1))
    model.save(path)
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    first = 8 + length + json.loads(content[8 : 8 + length])[tensor]["data_offsets"][0]
    content[first] ^= 1  # the last bit of a mantissa: as good a number as before
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"tensor {tensor} is damaged, expected the checksum"):
        load_model(path)


def test_a_changed_header_and_a_flipped_bit_of_a_checkpoint_are_noticed(tmp_path):
    path = tmp_path / "c"
    arrays = {"scalar": np.array(2.5), "none": np.zeros((0, 3)), "half": np.ones(3, "float16")}
    save_checkpoint(path, arrays, {"position": 123})
    found, _ = load_checkpoint(path)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    written = path.read_bytes()
    path.write_bytes(written.replace(b"123", b"124"))
    with pytest.raises(CheckpointError, match="the header is damaged"):
        load_checkpoint(path)
    path.write_bytes(written[:-1] + bytes([written[-1] ^ 64]))
    with pytest.raises(CheckpointError, match=r"tensor \w+ is damaged, expected the checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("change", [(b"[3,2]", b"[2,3]"), (b'"F32"', b'"I32"')])
def test_an_array_of_another_shape_or_dtype_of_the_same_bytes_is_noticed(change, tmp_path):
    path = tmp_path / "c"
    save_checkpoint(path, {"W": np.ones((3, 2), "float32")}, {})
    written = path.read_bytes()
    assert written.count(change[0]) == 1
    path.write_bytes(written.replace(*change))
    with pytest.raises(CheckpointError, match="tensor W is damaged, expected the checksum"):
        load_checkpoint(path)


def test_an_array_without_a_checksum_among_others_with_one_is_refused(tmp_path):
    path = tmp_path / "c"
    save_checkpoint(path, {"x": np.ones(2)}, {})
    with safetensors.safe_open(path, "numpy") as file:
        header = file.metadata()
    path.write_bytes(safetensors.save({"x": np.ones(2), "y": np.ones(2)}, header))
    with pytest.raises(CheckpointError, match="tensor y is damaged, expected the checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_make_no_machine(value, tmp_path):
    model = RBM(3, 2, device="cpu")
    model.layers[1].params.loc[0] = value  # as training that diverged leaves it
    model.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"parameter layers.1.loc has NaN or infinite values"):
        load_model(tmp_path / "m")


def test_a_file_of_an_earlier_release_without_checksums_is_read(tmp_path):
    path, model = tmp_path / "m", RBM(3, 2, device="cpu", rng=Generator(1))
    model.save(path)
    rewritten(path, lambda header: None)  # without them
    with safetensors.safe_open(path, "numpy") as file:
        assert list(file.metadata()) == ["gpugrad"]
    found = load_model(path, device="cpu").parameters()
    assert all(np.array_equal(found[name], p) for name, p in model.parameters().items())


def faults():
    def cut(n):
        return lambda path: path.write_bytes(path.read_bytes()[:n])

    def foreign(path):
        path.write_bytes(safetensors.save({"x": np.ones(2)}, {"made by": "something else"}))

    def no_header(path):
        path.write_bytes(safetensors.save({"x": np.ones(2)}))

    def listed(path):
        path.write_bytes(safetensors.save({"x": np.ones(2)}, {"gpugrad": "[1]"}))

    def lost(path):
        rewritten(path, lambda header: header["config"]["layers"].pop())

    def of_version(version):
        return lambda path: rewritten(path, lambda header: header.update(version=version))

    def other_shape(path):
        rewritten(path, lambda header: header["config"]["layers"][0].update(num_units=4))

    return {
        "missing": (lambda path: path.unlink(), "no such file"),
        "empty": (cut(0), "damaged"),
        "cut in the length": (cut(5), "damaged"),
        "cut in the header": (cut(60), "damaged"),
        "cut in the arrays": (cut(-3), "damaged"),
        "not safetensors": (lambda path: path.write_bytes(b"PK\x03\x04" * 30), "damaged"),
        "foreign": (foreign, "not written by gpugrad"),
        "no metadata": (no_header, "not written by gpugrad"),
        "a list": (listed, "damaged .its header holds list"),
        "newer": (of_version(2), "version 2, expected version 1"),
        "nonsense": (of_version("one"), "version one, expected version 1"),
        "lost layer": (lost, "does not describe a machine"),
        "other shape": (other_shape, "does not describe a machine"),
        "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder, expected the file"),
    }


@pytest.mark.parametrize("fault", faults())
def test_files_that_are_no_model_are_refused_by_name(fault, tmp_path):
    path = tmp_path / "m.safetensors"
    RBM(3, 2, device="cpu").save(path)
    spoil, message = faults()[fault]
    spoil(path)
    with pytest.raises(ModelFileError, match=message) as raised:
        load_model(path)
    assert str(path) in str(raised.value)


def test_a_model_is_no_checkpoint_and_a_checkpoint_no_model(tmp_path):
    RBM(3, 2, device="cpu").save(tmp_path / "m")
    with pytest.raises(CheckpointError, match="is a model, expected a checkpoint"):
        load_checkpoint(tmp_path / "m")
    save_checkpoint(tmp_path / "c", {"x": np.ones(3)}, {"step": 2**200})
    with pytest.raises(ModelFileError, match="is a checkpoint, expected a model"):
        load_model(tmp_path / "c")
    arrays, metadata = load_checkpoint(tmp_path / "c")
    assert arrays["x"].tolist() == [1, 1, 1] and metadata["step"] == 2**200


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    for call in ("fsync", "replace"):

        def fails(*arguments, name=call):
            raise OSError(f"{name} failed")

        with monkeypatch.context() as patched:
            patched.setattr(os, call, fails)
            with pytest.raises(OSError, match=f"{call} failed"):
                write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]


def test_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1]
        )
    write_atomically(tmp_path / "file", b"content")
    # file, then name, then the folder that holds the name
    assert calls == ["fsync", "replace", "fsync"]


def test_what_a_killed_write_left_is_cleared_away(tmp_path):
    save_checkpoint(tmp_path / "c", {"x": np.ones(3)}, {})
    (tmp_path / ".c.abc123.tmp").write_bytes(b"half")
    (tmp_path / ".other.abc123.tmp").write_bytes(b"not ours")
    load_checkpoint(tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == [".other.abc123.tmp", "c"]


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    for name in ("run[1]", "run1"):
        (tmp_path / f".{name}.abc123.tmp").write_bytes(b"half")
    remove_leftovers(tmp_path / "run[1]")
    assert os.listdir(tmp_path) == [".run1.abc123.tmp"]


def test_files_have_the_usual_permissions(tmp_path):
    write_atomically(tmp_path / "file", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"gpugrad\[train\]"):
        checkpoint.load_model(tmp_path / "m")


def test_the_folder_of_a_run_stands_for_its_model(tmp_path):
    model = RBM(4, 3, device="cpu", rng=Generator(0))
    model.save(tmp_path / "model.safetensors")
    found = load_model(tmp_path, device="cpu").parameters()
    assert all((found[name] == array).all() for name, array in model.parameters().items())


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    RBM(4, 3, device="cpu").save(path)

    def refused(*arguments, **keywords):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(ModelFileError, match=r"cannot be read \(Permission denied\)"):
        load_model(path)
