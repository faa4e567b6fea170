"""Machines of any units and depth through the command: train, evaluate, sample, info, pictures."""

import json

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.boltzmann.checkpoint import checkpoint_info, load_model
from gpugrad.boltzmann.metrics import has_pseudo_likelihood
from gpugrad.boltzmann.partition import exact_log_partition, likelihood_bounds
from gpugrad.cli.data import read, some_rows, stream_of

from .runner import assert_one_line_error, bars, invoke, run

QUICK = ["--epochs", "2", "--batch-size", "20", "--image-shape", "2x3"]
PICTURES = ("filters.png", "samples.png", "curve.png")


@pytest.fixture(autouse=True)
def few_sweeps(monkeypatch):
    """The chains of the pictures are of no interest here."""
    from gpugrad.cli import train

    monkeypatch.setattr(train, "SAMPLE_SWEEPS", 20)


def kind_of_data(unit):
    """60 samples of six units, as a file holds them."""
    draw = np.random.default_rng(1)
    if unit.startswith("potts"):
        return draw.integers(0, int(unit[6:]), (60, 6))
    if unit == "gaussian":
        return draw.normal(2.0, 1.5, (60, 6))
    if unit in ("exponential", "relu"):
        return draw.exponential(0.7, (60, 6))
    if unit == "truncated_exponential":
        return draw.random((60, 6))
    return draw.integers(0, 2, (60, 6)).astype("uint8")


def train(folder, unit, *arguments):
    """Train on data of that unit; the folder and its data file."""
    np.save(folder / "x.npy", kind_of_data(unit))
    result = invoke(
        "train", folder / "x.npy", "-o", folder / "run", "--visible-units", unit, *QUICK, *arguments
    )
    assert result.exit_code == 0, result.stderr
    return result


def described(folder):
    return json.loads((folder / "run" / "model.json").read_text())


VISIBLE = (
    "bernoulli", "ising", "gaussian", "exponential", "relu", "truncated_exponential", "potts:3",
)  # fmt: skip


@pytest.mark.parametrize("unit", VISIBLE)
def test_visible_units_of_each_type_go_through_all_commands(tmp_path, unit):
    told = train(tmp_path, unit, "--hidden", 2).stdout
    found, model = described(tmp_path), load_model(tmp_path / "run/model.safetensors", device="cpu")
    assert [x["layer_type"] for x in found["config"]["layers"]] == [unit[:5], "bernoulli"] or (
        found["config"]["layers"][0]["layer_type"] == unit
    )
    data = read(str(tmp_path / "x.npy"), unit=unit)
    expected = likelihood_bounds(model, data, exact_log_partition(model)).mean()
    assert found["evaluation"]["log_likelihood"] == pytest.approx(expected, abs=1e-9)
    # some machines have a pseudo-likelihood, others not; nothing is told that does not exist
    has_pseudo = has_pseudo_likelihood(model)
    assert ("pseudo-likelihood" in told) is has_pseudo and "reconstruction" in told
    info = invoke("info", tmp_path / "run").stdout
    assert ("pseudo-likelihood" in info) is has_pseudo and "after epoch 2: " in info
    for name in PICTURES:
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    again = json.loads(invoke("evaluate", tmp_path / "run", "--json").stdout)
    assert again["log_likelihood"] == pytest.approx(expected, abs=1e-9)
    out = tmp_path / "s.npy"
    drawn = invoke("sample", tmp_path / "run", "-o", out, "-n", 30, "--sweeps", 3)
    assert drawn.exit_code == 0, drawn.stderr
    states = np.load(out)
    assert states.shape == (30, 6)
    low, high = {"potts:3": (0, 2)}.get(unit, model.layers[0].data_range)
    assert states.min() >= low and states.max() <= high
    if unit in ("bernoulli", "ising", "potts:3"):
        assert set(np.unique(states)) <= set(range(int(low), int(high) + 1))


@pytest.mark.parametrize(
    "unit", ["ising", "gaussian", "exponential", "relu", "truncated_exponential", "potts:3"]
)
def test_hidden_units_of_each_type(tmp_path, unit):
    result = train(tmp_path, "bernoulli", "--hidden", 2, "--hidden-units", unit)
    found, model = described(tmp_path), load_model(tmp_path / "run/model.safetensors", device="cpu")
    assert model.layers[1].layer_type == unit.partition(":")[0]
    assert model.layers[1].num_units == (6 if unit == "potts:3" else 2)
    data = kind_of_data("bernoulli")
    expected = likelihood_bounds(model, data, exact_log_partition(model)).mean()
    assert found["evaluation"]["log_likelihood"] == pytest.approx(expected, abs=1e-9)
    assert f"{expected:.2f} nats" in result.stdout


def test_a_constraint_makes_a_pairing_normalisable_that_is_refused_without(tmp_path):
    np.save(tmp_path / "x.npy", kind_of_data("exponential"))
    line = (
        "train", tmp_path / "x.npy", "-o", tmp_path / "run", *QUICK, "--hidden", 2,
        "--visible-units", "exponential", "--hidden-units", "relu", "--no-evaluate",
    )  # fmt: skip
    assert_one_line_error(invoke(*line), "exponential")
    assert not (tmp_path / "run").exists()
    result = invoke(*line, "--constraint", "non_positive")
    assert result.exit_code == 0, result.stderr
    W = load_model(tmp_path / "run/model.safetensors", device="cpu").weights[0].W()
    assert W.max() <= 0 and W.min() < 0


# ---- deep machines, couplings inside


def test_a_deep_machine_is_pretrained_trained_bounded_and_sampled(tmp_path):
    told = train(tmp_path, "bernoulli", "--hidden", "4,3", "--pretrain", 2).stdout
    for module in (0, 1):
        for epoch in (1, 2):
            text = f"pre-training layers {module} and {module + 1}, epoch {epoch}/2"
            assert text in told
    assert "lower bound by mean field" in told
    assert "6 bernoulli - 4 bernoulli - 3 bernoulli" in told and "pseudo" not in told
    sizes = [x["num_units"] for x in described(tmp_path)["config"]["layers"]]
    assert sizes == [6, 4, 3]
    out = tmp_path / "s.npy"
    clamp = ("--clamp", "top", "--image-shape", "2x3", "--data", tmp_path / "x.npy")
    result = invoke("sample", tmp_path / "run", "-o", out, "-n", 60, "--sweeps", 4, *clamp)
    assert result.exit_code == 0, result.stderr
    held = np.load(out)[:, :3]
    assert sorted(map(tuple, held)) == sorted(map(tuple, kind_of_data("bernoulli")[:, :3]))


def test_hidden_layers_may_be_repeated_options_or_one_list_and_have_units_each(tmp_path):
    files = []
    for name, sizes in (("a", ["--hidden", "4,3"]), ("b", ["--hidden", 4, "--hidden", 3])):
        (tmp_path / name).mkdir()
        units = ["--hidden-units", "ising,potts:2"]
        train(tmp_path / name, "bernoulli", *sizes, *units, "--no-evaluate")
        files.append(tmp_path / name / "run" / "model.safetensors")
    first, second = (load_model(path, device="cpu") for path in files)
    assert [x.layer_type for x in first.layers] == ["bernoulli", "ising", "potts"]
    assert [x.num_units for x in first.layers] == [6, 4, 6]
    theirs = second.parameters()
    assert all(np.array_equal(p, theirs[name]) for name, p in first.parameters().items())


def test_pretraining_changes_where_joint_training_starts(tmp_path):
    found = []
    for name, epochs in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        more = ["--pretrain", epochs] if epochs else []
        train(tmp_path / name, "bernoulli", "--hidden", "4,3", "--no-evaluate", *more)
        model = load_model(tmp_path / name / "run/model.safetensors", device="cpu")
        found.append(model.weights[1].W())
    assert not np.array_equal(*found)


def test_a_machine_without_hidden_units_learns_couplings(tmp_path):
    """Two copies of one spin: the coupling between them is the largest one."""
    draw = np.random.default_rng(3)
    x = draw.integers(0, 2, (300, 4)).astype("uint8")
    x[:, 3] = x[:, 0]
    np.save(tmp_path / "x.npy", x)
    line = ["--hidden", "none", "--lateral", 0, "--visible-units", "ising", "--epochs", 15]
    rate = ["--learning-rate", 0.2, "--batch-size", 50]
    result = invoke("train", tmp_path / "x.npy", "-o", tmp_path / "run", *line, *rate)
    assert result.exit_code == 0, result.stderr
    assert "4 ising with J" in result.stdout and "reconstruction" not in result.stdout
    J = load_model(tmp_path / "run/model.safetensors", device="cpu").lateral[0].J()
    others = np.abs(J - np.diag(np.diag(J)))
    others[0, 3] = others[3, 0] = 0
    # 300 spins: an estimated coupling of none has standard error 1/sqrt(300) = 0.06
    assert J[0, 3] > 0.6 > 8 * 0.06 > others.max()
    assert all((tmp_path / "run" / name).stat().st_size for name in PICTURES)
    out = tmp_path / "s.npy"
    assert invoke("sample", tmp_path / "run", "-o", out, "--sweeps", 30).exit_code == 0
    states = np.load(out)
    assert np.mean(states[:, 0] * states[:, 3]) > 0.4


def test_a_machine_without_any_figure_of_training_is_trained_and_told_of(tmp_path):
    """Deep, and couplings between visible units: no pseudo-likelihood, no reconstruction."""
    told = train(tmp_path, "bernoulli", "--hidden", "2,2", "--lateral", 0).stdout
    assert "pseudo-likelihood" not in told and "reconstruction" not in told
    assert "epoch 2/2  rate" in told
    info = invoke("info", tmp_path / "run")
    assert info.exit_code == 0 and "after epoch 2\n" in info.stdout
    assert all((tmp_path / "run" / name).stat().st_size for name in PICTURES)


# ---- Potts data


def test_potts_data_are_numbers_of_states_or_one_hot(tmp_path):
    numbers = kind_of_data("potts:3")
    hot = (numbers[:, :, None] == np.arange(3)).reshape(60, 18)
    np.save(tmp_path / "numbers.npy", numbers)
    for name, array in (("bits", hot.astype("uint8")), ("floats", hot.astype("float64"))):
        np.save(tmp_path / f"{name}.npy", array)
        found = read(str(tmp_path / f"{name}.npy"), unit="potts:3")
        assert np.array_equal(found, read(str(tmp_path / "numbers.npy"), unit="potts:3"))
    assert np.array_equal(read(str(tmp_path / "numbers.npy"), unit="potts:3"), hot)


def test_potts_data_with_missing_sites_train(tmp_path):
    numbers = kind_of_data("potts:3").astype("float64")
    numbers[::4, 2] = np.nan
    np.save(tmp_path / "x.npy", numbers)
    found = read(str(tmp_path / "x.npy"), unit="potts:3").reshape(60, 6, 3)
    assert np.array_equal(np.isnan(found), np.isnan(numbers)[:, :, None].repeat(3, axis=2))
    known = ~np.isnan(numbers)
    assert np.array_equal(found[known].argmax(axis=1), numbers[known])
    line = ("train", tmp_path / "x.npy", "-o", tmp_path / "run", *QUICK, "--hidden", 2)
    result = invoke(*line, "--visible-units", "potts:3", "--missing", "impute")
    assert result.exit_code == 0 and "mean of 45 samples" in result.stdout, result.stderr


def test_clamped_potts_sites_keep_their_state(tmp_path):
    train(tmp_path, "potts:3", "--hidden", 2, "--no-evaluate")
    one = np.array([[0, 1, 2, 2, 1, 0]])
    np.save(tmp_path / "one.npy", one)
    mask = np.array([1, 0, 1, 0, 0, 1])
    np.save(tmp_path / "mask.npy", mask)
    held = ("--clamp", tmp_path / "mask.npy", "--data", tmp_path / "one.npy")
    out = tmp_path / "s.npy"
    result = invoke("sample", tmp_path / "run", "-o", out, "-n", 50, "--sweeps", 5, *held)
    assert result.exit_code == 0, result.stderr
    states = np.load(out)
    assert np.array_equal(states[:, mask == 1], np.repeat(one[:, mask == 1], 50, axis=0))
    assert np.all(np.ptp(states[:, mask == 0], axis=0) > 0), "a free site never moved"
    picture = invoke("sample", tmp_path / "run", "-o", tmp_path / "s.png", "-n", 4, "--sweeps", 2)
    assert picture.exit_code == 0, picture.stderr


# ---- units of one's own

SPIN_ONE = """
from gpugrad.boltzmann.layers import EnergyLayer


class SpinOneOfACommand(EnergyLayer):
    support = (-1, 0, 1)
    layer_type = "spin_one_of_a_command"
"""


def test_a_unit_of_ones_own_is_imported_by_every_command_that_is_told_to(tmp_path):
    module = tmp_path / "spin_one_of_a_command.py"
    module.write_text(SPIN_ONE)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(-1, 2, (60, 6)).astype("float32"))
    units = ("--visible-units", "spin_one_of_a_command", "--hidden", 2)
    line = ("train", tmp_path / "x.npy", "-o", tmp_path / "run", *QUICK, *units)
    unknown = run(*line)
    assert unknown.returncode == 1 and "--module" in unknown.stderr
    result = invoke(*line, "--module", module)
    assert result.exit_code == 0, result.stderr
    model = load_model(tmp_path / "run/model.safetensors", device="cpu")
    expected = likelihood_bounds(model, np.load(tmp_path / "x.npy"), exact_log_partition(model))
    assert f"{expected.mean():.2f} nats, exact" in result.stdout
    for name, more in (("info", []), ("evaluate", []), ("sample", ["--sweeps", 2])):
        done = invoke(name, tmp_path / "run", "--module", module, *more)
        assert done.exit_code == 0, done.stderr
    forgotten = run("info", tmp_path / "run")
    assert forgotten.returncode == 1 and "--module imports it" in forgotten.stderr


def test_a_folder_from_elsewhere_never_has_code_run(tmp_path):
    np.save(tmp_path / "x.npy", kind_of_data("bernoulli"))
    line = ("train", tmp_path / "x.npy", "-o", tmp_path / "run", *QUICK, "--no-evaluate")
    assert invoke(*line, "--hidden", 2).exit_code == 0
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    settings = tmp_path / "run" / "settings.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"module": str(trap)}))
    assert invoke("train", "-o", tmp_path / "run", "--resume").exit_code == 0
    for name, more in (("info", []), ("evaluate", [tmp_path / "x.npy"])):
        assert invoke(name, tmp_path / "run", *more).exit_code == 0
    assert not (tmp_path / "sprung").exists()


# ---- files larger than memory


def streamed_files(folder):
    draw = np.random.default_rng(0)
    arrays = {
        "bits": draw.integers(0, 2, (50, 6)).astype("uint8"),
        "grey": draw.integers(0, 256, (50, 6)).astype("uint8"),
        "floats": draw.random((50, 6)).astype("float32"),
        "states": draw.integers(0, 3, (50, 6)),
    }
    # what the first block shows does not decide: it is all black
    arrays["grey"][:20] = 0
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return arrays


@pytest.mark.parametrize(
    ("name", "unit", "threshold"),
    [
        ("bits", "bernoulli", None), ("bits", "ising", None), ("bits", "gaussian", None),
        ("grey", "bernoulli", None), ("grey", "ising", None), ("grey", "bernoulli", 0.4),
        ("grey", "ising", 0.4), ("floats", "bernoulli", None), ("floats", "ising", 0.4),
        ("states", "potts:3", None),
    ],
)  # fmt: skip
def test_a_stream_gives_the_states_that_reading_the_whole_file_gives(
    tmp_path, name, unit, threshold
):
    streamed_files(tmp_path)
    path = str(tmp_path / f"{name}.npy")
    whole = read(path, unit=unit, threshold=threshold)
    stream = stream_of(path, unit=unit, threshold=threshold, block=16)
    assert stream.shape == whole.shape
    parts = [stream.read(i, min(i + 16, 50)) for i in range(0, 50, 16)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert all(part.dtype == stream.dtype for part in parts)
    assert np.array_equal(some_rows(stream), whole)


@pytest.mark.parametrize("form", ["npy", "h5"])
def test_a_streamed_file_trains_a_machine_whose_visible_layer_fits_all_of_it(tmp_path, form):
    x = bars(200).reshape(200, 16)
    x = x[np.argsort(x.sum(axis=1))]  # the first block is not like the others
    path = tmp_path / f"x.{form}"
    if form == "npy":
        np.save(path, x)
    else:
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(path, "w") as file:
            file["labels"], file["images"] = np.arange(200), x
    line = ("train", path, "-o", tmp_path / "run", "--hidden", 3, "--epochs", 1)
    how = ("--stream", "--stream-block", 16, "--stream-blocks", 3, "--learning-rate", 1e-9)
    result = invoke(*line, *how)
    assert result.exit_code == 0, result.stderr
    stored = checkpoint_info(tmp_path / "run/checkpoint.safetensors")["settings"]
    assert stored["stream"] == {"block": 16, "blocks": 3}
    model = load_model(tmp_path / "run/model.safetensors", device="cpu")
    mean = x.mean(axis=0)
    assert np.allclose(1 / (1 + np.exp(-model.layers[0].params.loc)), mean, atol=1e-5)
    # measured on evenly spaced samples; `evaluate` finds the same ones again
    found = json.loads(invoke("evaluate", tmp_path / "run", "--json").stdout)
    assert found["log_likelihood"] == described(tmp_path)["evaluation"]["log_likelihood"]
    assert found["test_samples"] == 200
