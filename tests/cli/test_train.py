"""`gpugrad train`: what it writes, and what it refuses without writing anything."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.boltzmann.checkpoint import load_model
from gpugrad.boltzmann.datasets import mnist
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood

from .runner import FILES, SMALL, assert_one_line_error, bars, invoke, run, same_model


def test_a_run_leaves_model_log_and_pictures(data, tmp_path):
    out = tmp_path / "run"
    result = invoke("train", data, "-o", out, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert sorted(p.name for p in out.iterdir()) == FILES
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2, 3] and [r["step"] for r in records] == [
        6,
        12,
        18,
    ]
    described = json.loads((out / "model.json").read_text())
    assert described["history"] == records
    assert [layer["num_units"] for layer in described["config"]["layers"]] == [16, 4]
    # plain lines in a log: one an epoch
    lines = [line for line in result.stdout.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    for name in ("filters.png", "samples.png", "curve.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("visible", ["bernoulli", "ising"])
@pytest.mark.parametrize("extra", [[], ["--gradient", "autodiff"], ["--method", "cd", "--k", "2"]])
def test_the_likelihood_is_measured_at_the_end(data, tmp_path, visible, extra):
    out = tmp_path / "run"
    result = invoke("train", data, "-o", out, "--visible-units", visible, *SMALL[:-1], *extra)
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "model.json").read_text())["evaluation"]
    assert found["method"] == "exact" and found["test_samples"] == 60
    model = load_model(out / "model.safetensors", device="cpu")
    images = bars().reshape(60, 16) * (2.0 if visible == "ising" else 1.0)
    images -= visible == "ising"
    expected = log_likelihood(model, images, exact_log_partition(model))
    assert found["log_likelihood"] == pytest.approx(expected, abs=1e-9)
    assert f"{expected:.2f} nats, exact" in result.stdout


def test_a_recipe_gives_settings_and_the_command_line_goes_before_it(data, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'data = "{data}"\nhidden = 5\nepochs = 9\nbatch-size = 20\nlearning-rate = 1\n'
        f'evaluate = false\noutput = "{tmp_path}/run"\nmin_probability = 0.01\n'
    )
    result = invoke("train", "--recipe", recipe, "--epochs", "2")
    assert result.exit_code == 0, result.stderr
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (settings["hidden"], settings["epochs"], settings["batch_size"]) == ([5], 2, 20)
    assert settings["learning_rate"] == 1 and settings["min_probability"] == 0.01
    # what nobody set is the default
    assert settings["chains"] is None and settings["schedule"] == "linear"


@pytest.mark.parametrize(
    "text, message",
    [
        ("hiden = 3", "unknown setting 'hiden'"),
        ('hidden = "many"', "hidden is 'many', expected int"),
        ("hidden = true", "hidden is True, expected int"),
        ("hidden = ", "cannot be read"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused(text, message, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    assert_one_line_error(invoke("train", "--recipe", recipe, "-o", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


def test_an_error_names_the_file_that_a_setting_came_from(data, tmp_path):
    recipe, out = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text("average-epochs = 9.0\nhidden-units = 'quantum'\n")
    how = ["train", data, *SMALL, "-o", out]
    result = invoke(*how, "--recipe", recipe, "--hidden-units", "ising")
    assert_one_line_error(result, f"train: average-epochs of recipe {recipe} is 9.0, expected")
    result = invoke(*how, "--recipe", recipe, "--average-epochs", 9)
    assert_one_line_error(result, f"train: hidden-units of recipe {recipe} is 'quantum'")
    result = invoke(*how, "--average-epochs", 9)
    assert_one_line_error(result, "train: --average-epochs is 9.0, expected")
    assert not out.exists()
    assert invoke(*how, "--average-epochs", 3).exit_code == 0
    result = invoke("train", "--resume", "-o", out, "--epochs", 2)
    assert_one_line_error(result, f"train: average-epochs of {out}/settings.json is 3.0, expected")


def test_every_setting_of_the_command_can_stand_in_a_recipe():
    import inspect
    from dataclasses import fields

    from gpugrad.cli.settings import TrainSettings
    from gpugrad.cli.train import NOT_SETTINGS, train

    options = set(inspect.signature(train).parameters) - NOT_SETTINGS - {"context"}
    assert options == {field.name for field in fields(TrainSettings)}


def test_an_existing_folder_is_an_error_unless_told_otherwise(data, tmp_path):
    out = tmp_path / "run"
    assert invoke("train", data, "-o", out, *SMALL).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    refused = invoke("train", data, "-o", out, *SMALL, "--seed", "5")
    assert_one_line_error(refused, "expected a new one, --resume or --overwrite")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert invoke("train", data, "-o", out, *SMALL, "--seed", "5", "--overwrite").exit_code == 0
    assert (out / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert_one_line_error(
        invoke("train", data, "-o", out, "--resume", "--overwrite"), "both --resume and --overwrite"
    )
    (tmp_path / "file").write_text("")
    assert_one_line_error(invoke("train", data, "-o", tmp_path / "file"), "is a file")


def test_an_empty_folder_is_as_good_as_a_new_one(data, tmp_path):
    (tmp_path / "run").mkdir()
    assert invoke("train", data, "-o", tmp_path / "run", *SMALL).exit_code == 0


def test_without_a_test_set_the_likelihood_is_called_that_of_the_training_data(
    data, tmp_path, monkeypatch
):
    from gpugrad.cli import train

    labels = []
    curve = train.draw_curve
    monkeypatch.setattr(
        train, "draw_curve", lambda *a, **k: (labels.append(k["likelihood_label"]), curve(*a, **k))
    )
    np.save(tmp_path / "test.npy", bars(seed=1))
    without, label = tmp_path / "without", "training log-likelihood (no --test given)"
    told = [invoke("train", data, "-o", without, *SMALL[:-1]).stdout]
    told += [invoke(name, without).stdout for name in ("evaluate", "info")]
    assert all(label in text and "test log" not in text for text in told), told
    found = json.loads(invoke("evaluate", without, "--json").stdout)
    assert found["split"] == "training (no --test given)" and found["data"] == str(data)
    with_test = tmp_path / "with"
    test = ("--test", tmp_path / "test.npy")
    told = [invoke("train", data, "-o", with_test, *SMALL[:-1], *test).stdout]
    told += [invoke(name, with_test).stdout for name in ("evaluate", "info")]
    assert all("test log-likelihood" in text and "training log" not in text for text in told)
    assert json.loads(invoke("evaluate", with_test, "--json").stdout)["split"] == "test"
    assert labels == [label, "test log-likelihood"]
    other = invoke("evaluate", with_test, data, "--json").stdout
    assert json.loads(other)["split"] == "training"


def test_a_fault_found_by_an_inner_function_is_told_in_the_name_of_the_command(tmp_path):
    np.save(tmp_path / "a.npy", np.linspace(-1, 2, 32).reshape(4, 8))
    np.save(tmp_path / "b.npy", np.arange(8.0))
    (tmp_path / "c.npy").write_bytes(b"hello")
    for name, option, message in (
        ("a", ("--threshold", 0.5), "error: train: data lies in [-1, 2], a threshold expects"),
        ("b", (), "error: train: data has shape (8,), expected"),
        ("c", ("--stream",), "c.npy is neither HDF5 nor NPY"),
    ):
        result = invoke("train", tmp_path / f"{name}.npy", *option, "-o", tmp_path / "run")
        assert_one_line_error(result, message)
        assert result.stderr.startswith("gpugrad: error: train: ")


def test_one_epoch_of_one_update_is_told_in_the_singular(data, tmp_path):
    one = ["--epochs", 1, "--batch-size", 60]
    result = invoke("train", data, "-o", tmp_path / "run", *SMALL, *one)
    assert "1 epoch of 1 update\n" in result.stdout


def test_divergence_stops_with_one_line_and_keeps_the_good_checkpoint(data, tmp_path):
    out = tmp_path / "run"
    result = invoke("train", data, "-o", out, *SMALL, "--learning-rate", "1e6")
    assert_one_line_error(result, "the last good state is in")
    for part in ("limit: |parameter| > 1000", "learning rate of about 0.05", "--overwrite starts"):
        assert part in result.stderr
    assert "parameter" in result.stderr and "at step" in result.stderr
    from gpugrad.boltzmann.checkpoint import load_checkpoint

    assert load_checkpoint(out / "checkpoint.safetensors")[1]["position"]["step"] == 0
    assert not (out / "model.safetensors").exists()


def bad_inputs(tmp_path):
    def file(name, array):
        np.save(tmp_path / name, array)
        return tmp_path / name

    good = file("good.npy", bars())
    nan = bars().astype("float32")
    nan[3, 1, 2] = np.nan
    wide, one = (file(f"{n}.npy", np.ones((n, 26), "uint8")) for n in (20, 1))
    empty = tmp_path / "empty.npy"
    empty.write_bytes(b"")
    truncated = tmp_path / "truncated.npy"
    truncated.write_bytes(good.read_bytes()[:-5])
    foreign = tmp_path / "picture.png"
    foreign.write_bytes(b"\x89PNG\r\n\x1a\n")
    return {
        "nan": ([file("nan.npy", nan)], "has NaN, first in sample 3, unit 6"),
        "range": ([file("two.npy", 2.0 * bars())], "lies in [0, 2], bernoulli units"),
        "spins": ([file("s.npy", -3.0 * bars()), "--visible-units", "ising"], "lies in [-3, -0]"),
        "flat": ([file("flat.npy", np.zeros(5))], "expected (samples, units)"),
        "width": ([good, "--test", file("wide.npy", np.zeros((4, 15), "uint8")), "--evaluate"],
                  "shape (4, 15), expected (samples, 16)"),
        "grey test": ([good, "--test", file("grey.npy", np.full((4, 16), 0.5)), "--evaluate"],
                      "states 0 and 1 only; grey values become states with --threshold 0.5"),
        "nan test": ([good, "--test", file("t.npy", nan), "--evaluate"],
                     f"train: --test {tmp_path}/t.npy has NaN, first in sample 3, unit 6"),
        "signed bits": ([file("i.npy", bars().astype("int8")), "--visible-units", "ising"],
                        "(of 0 and 1: 2*x - 1)"),
        "empty": ([empty], "is empty"),
        "truncated": ([truncated], "truncated or damaged"),
        "foreign": ([foreign], "none of IDX, NPY, NPZ and HDF5"),
        "missing": ([tmp_path / "nothing.npy"], "no such file"),
        "k": ([good, "--k", "0"], "k is 0, expected an integer of at least 1"),
        "rate": ([good, "--learning-rate", "-0.1"], "rate is -0.1"),
        "final rate": ([good, "--final-rate", "-1"], "train: --final-rate is -1"),
        "momentum": ([good, "--momentum", "1"], "train: --momentum is 1"),
        "weights": ([good, "--visible-units", "weights"], "--visible-units is 'weights'"),
        "scale": ([good, "--init-scale", "-1"], "train: --init-scale is -1"),
        "particles": ([good, "--chains", "0"], "train: --chains is 0"),
        "no final": ([good, "--schedule", "constant", "--final-rate", "0.1"],
                     "--schedule constant does not take --final-rate"),
        "one sample": ([wide, "--hidden-units", "potts:99", "--test", one, "--evaluate"],
                       "one test sample"),
        "epochs": ([good, "--epochs", "0"], "epochs is 0"),
        "batch": ([good, "--batch-size", "0"], "train: --batch-size is 0"),
        "hidden": ([good, "--hidden", "0"], "hidden is 0"),
        "unit": ([good, "--hidden-units", "quantum"], "train: --hidden-units is 'quantum'"),
        "method": ([good, "--method", "magic"], "method is 'magic'"),
        "schedule": ([good, "--schedule", "cosine"], "no schedule 'cosine'"),
        "gradient": ([good, "--gradient", "guess"], "gradient is 'guess'"),
        "init": ([good, "--init", "zeros"], "train: --init is 'zeros'"),
        "dtype": ([good, "--dtype", "int8"], "dtype is 'int8'"),
        "seed": ([good, "--seed", "-1"], "seed is -1"),
        "device": ([good, "--device", "tpu"], "tpu"),
        "shape": ([good, "--image-shape", "3x5"], "train: shape 3x5 for 16 units"),
        "no shape": ([good, "--image-shape", "big"], "expected ROWSxCOLUMNS"),
        "threshold": ([good, "--threshold", "128"],
                      "--threshold is 128.0, expected one in (0, 1); grey values 0..255"),
        "seconds": ([good, "--checkpoint-seconds", "-1"], "train: --checkpoint-seconds is -1"),
        "temperatures": ([good, "--temperatures", "0"], "temperatures is 0"),
        "chains": ([good, "--annealed-chains", "1"], "--annealed-chains is 1, expected at least 2"),
        "recipe": ([good, "--recipe", tmp_path / "nothing.toml"], "no such file"),
        "key": ([good, "--data-key", "x"], "with key 'x', expected an NPZ or HDF5 file"),
        "not a folder": ([good, "--output", good / "run"], f"train: {good}/run: not a directory"),
    }  # fmt: skip


FAULTS = (
    "nan", "range", "spins", "flat", "width", "grey test", "empty", "truncated", "foreign",
    "missing", "k", "rate", "final rate", "momentum", "epochs", "batch", "hidden", "unit", "method",
    "schedule", "gradient", "init", "dtype", "seed", "device", "shape", "no shape", "threshold",
    "seconds", "temperatures", "chains", "recipe", "weights", "scale", "particles", "no final",
    "one sample", "nan test", "signed bits", "key", "not a folder",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line_and_nothing_is_written(fault, tmp_path):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    cases = bad_inputs(inputs)
    assert set(cases) == set(FAULTS)
    arguments, message = cases[fault]
    before = sorted(tmp_path.rglob("*"))
    result = invoke("train", "-o", tmp_path / "out", *SMALL, *arguments)
    assert_one_line_error(result, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_gpu_that_is_not_there_is_named(tmp_path, monkeypatch):
    from gpugrad.backend import array_module

    monkeypatch.setattr(array_module, "_look_for_cupy", lambda: (None, 0, "CuPy is not installed"))
    result = invoke("train", "-o", tmp_path / "out", "--device", "cuda", *SMALL)
    assert_one_line_error(result, "CuPy is not installed")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--k", "0"], ["nothing.npy"], ["--learning-rate", "-1"]])
def test_errors_of_a_process_are_one_line_on_stderr_and_a_status(arguments, tmp_path):
    result = run("train", "-o", "out", *arguments, cwd=tmp_path)
    assert result.returncode == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("gpugrad: error: ")
    assert list(tmp_path.iterdir()) == []


def test_float16_trains_and_its_overflow_is_named(data, tmp_path):
    assert invoke("train", data, "-o", tmp_path / "a", *SMALL, "--dtype", "float16").exit_code == 0
    assert load_model(tmp_path / "a" / "model.safetensors", device="cpu").dtype == "float16"
    result = invoke(
        "train", data, "-o", tmp_path / "b", *SMALL, "--dtype", "float16", "--learning-rate", "1e5"
    )
    assert_one_line_error(result, "float16")


def test_idx_npz_and_hdf5_train_the_same_machine(tmp_path):
    import struct

    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    images = bars()
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *images.shape)
    (tmp_path / "a.idx").write_bytes(header + images.tobytes())
    np.savez(tmp_path / "a.npz", images=images, labels=np.zeros(60))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = images
    for name in ("a.idx", "a.npz", "a.h5"):
        assert (
            invoke("train", tmp_path / name, "-o", tmp_path / f"run {name}", *SMALL).exit_code == 0
        )
    first, *others = (
        tmp_path / f"run {n}" / "model.safetensors" for n in ("a.idx", "a.npz", "a.h5")
    )
    assert all(same_model(first, other) for other in others)


@pytest.mark.long(keep=0)
@pytest.mark.parametrize("seed", [0])
def test_the_default_machine_learns_mnist_to_78_nats(seed, tmp_path):
    result = run("train", "-o", tmp_path / "run", "--seed", seed)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run/model.json").read_text())["evaluation"]
    high, low = (found[side]["log_likelihood"] for side in ("optimistic", "conservative"))
    assert low >= -78 and abs(high - low) < 2


@pytest.mark.long(keep=0)
def test_the_recipe_of_the_published_figure_reaches_it(tmp_path):
    """784x16: mean of three seeds at least -142.5 nats, none below -143."""
    from .runner import ROOT

    found = []
    for seed in (1, 2, 3):
        out = tmp_path / str(seed)
        recipe = ROOT / "examples/mnist_784x16.toml"
        result = run("train", "--recipe", recipe, "--seed", seed, "-o", out)
        assert result.returncode == 0, result.stderr
        found.append(json.loads((out / "model.json").read_text())["evaluation"]["log_likelihood"])
    assert np.mean(found) >= -142.5 and min(found) >= -143, found


def test_the_embedded_data_are_the_default(tmp_path):
    from gpugrad.cli.settings import TrainSettings
    from gpugrad.cli.train import build

    trainer, test = build(TrainSettings(output=str(tmp_path / "run")))
    assert trainer.n_samples == 60_000 and np.array_equal(test, mnist("test"))
    assert trainer.data.dtype == "uint8" and not (tmp_path / "run").exists()


def test_grey_data_are_trained_on_and_have_no_likelihood(tmp_path):
    grey = np.random.default_rng(0).random((40, 16)).astype("float32")
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "states.npy", bars())
    settings = ("--hidden", 3, "--epochs", 1, "--overwrite", "-o", tmp_path / "run")
    result = invoke("train", tmp_path / "grey.npy", *settings)
    assert result.exit_code == 0, result.stderr
    told = "no log-likelihood: it is defined for the states 0 and 1 only, and the data have other"
    assert sum(line.startswith(told) for line in result.stdout.splitlines()) == 1
    assert json.loads((tmp_path / "run" / "model.json").read_text())["evaluation"] is None
    for more in (("--threshold", 0.5), ("--test", tmp_path / "states.npy")):
        result = invoke("train", tmp_path / "grey.npy", *settings, *more)
        assert result.exit_code == 0 and told not in result.stdout, result.stderr
        assert json.loads((tmp_path / "run" / "model.json").read_text())["evaluation"] is not None


def test_the_training_likelihood_leaves_out_what_was_held_out(tmp_path):
    out, images = tmp_path / "run", bars()
    np.save(tmp_path / "x.npy", images)
    settings = ("--hidden", 3, "--epochs", 2, "--patience", 5, "--holdout", 20)
    result = invoke("train", tmp_path / "x.npy", "-o", out, *settings)
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "model.json").read_text())["evaluation"]
    model = load_model(out / "model.safetensors", device="cpu")
    rows = images[:-20].reshape(-1, 16).astype("float32")
    exact = log_likelihood(model, rows, exact_log_partition(model))
    assert found["test_samples"] == 40 and abs(found["log_likelihood"] - exact) < 1e-9
    again = json.loads(invoke("evaluate", out, "--json").stdout)
    assert again["test_samples"] == 40 and abs(again["log_likelihood"] - exact) < 1e-9


def test_bits_as_floats_for_ising_units_are_warned_of_in_one_line(tmp_path):
    np.save(tmp_path / "x.npy", bars().astype("float32"))
    arguments = ("train", tmp_path / "x.npy", "-o", tmp_path / "run", "--visible-units", "ising")
    result = invoke(*arguments, *SMALL)
    assert result.exit_code == 0
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("gpugrad: warning: fit: all data are 0 or 1")
    assert line.endswith("states are 2*x - 1; --threshold 0.5 makes these")
    again = invoke(*arguments, *SMALL, "--overwrite", "--threshold", 0.5)
    assert again.exit_code == 0 and again.stderr == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("batch_sise = 3", "unknown setting 'batch_sise', expected 'batch-size' or another option"),
        ("zzz = 3", "unknown setting 'zzz', expected an option of `gpugrad train --help`"),
    ],
)
def test_the_nearest_setting_is_suggested(tmp_path, line, message):
    (tmp_path / "r.toml").write_text(line)
    result = invoke("train", "--recipe", tmp_path / "r.toml", "-o", tmp_path / "run")
    assert_one_line_error(result, message)


# ---- TensorBoard


def test_training_logs_for_tensorboard_and_starts_anew(data, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    folder = tmp_path / "run"
    options = ["train", data, *SMALL, "-o", folder, "--tensorboard"]
    assert invoke(*options).exit_code == 0
    first = list((folder / "tensorboard").iterdir())
    assert len(first) == 1 and b"reconstruction_error" in first[0].read_bytes()
    assert invoke(*options, "--overwrite").exit_code == 0
    second = list((folder / "tensorboard").iterdir())
    assert len(second) == 1 and second != first


def test_without_tensorboardx_nothing_is_begun(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    result = invoke("train", data, *SMALL, "-o", tmp_path / "run", "--tensorboard")
    assert_one_line_error(result, 'needs the package tensorboardX: pip install "gpugrad[tens')
    assert not (tmp_path / "run").exists()
