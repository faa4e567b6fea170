"""`gpugrad evaluate`, `sample`, `info`, and the frame around them."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood
from tests.boltzmann.own_energies import CASES

from .runner import ROOT, SMALL, assert_one_line_error, bars, command, invoke, run


def machine(path, n_visible=16, n_hidden=5, visible="bernoulli", scale=0.3):
    """A machine with random parameters in a file."""
    rng = Generator(4)
    model = RBM(n_visible, n_hidden, visible=visible, rng=rng, device="cpu")
    model.set_parameters(
        {n: rng.normal(p.shape, std=scale, device="cpu") for n, p in model.parameters().items()}
    )
    model.save(path)
    return model


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "bars.npy"
    np.save(path, bars())
    return path


# ---- evaluate


def test_evaluate_gives_the_exact_likelihood_of_a_small_machine(tmp_path, images):
    model = machine(tmp_path / "m")
    found = json.loads(invoke("evaluate", tmp_path / "m", images, "--json").stdout)
    log_z = exact_log_partition(model)
    expected = log_likelihood(model, bars().reshape(60, 16), log_z)
    assert found["method"] == "exact" and found["test_samples"] == 60
    assert found["log_z"] == pytest.approx(log_z, abs=1e-9)
    assert found["log_likelihood"] == pytest.approx(expected, abs=1e-9)
    told = invoke("evaluate", tmp_path / "m", images).stdout
    assert f"{log_z:.4f}  exact" in told and f"{expected:.2f} nats" in told


def test_evaluate_brackets_a_machine_too_large_to_enumerate(tmp_path):
    """26 x 26 units of which two couple: log Z by hand is a sum over units."""
    rng = Generator(0)
    model = RBM(26, 26, device="cpu", dtype="float64")
    a, b = (rng.normal(26, "float64", std=0.5, device="cpu") for _ in range(2))
    W = np.zeros((26, 26))
    W[3, 7] = 1.2
    model.set_parameters({"layers.0.loc": a, "layers.1.loc": b, "weights.0.matrix": W})
    model.save(tmp_path / "m")
    free = np.logaddexp(0, a).sum() + np.logaddexp(0, b).sum()
    pair = np.log(1 + np.exp(a[3]) + np.exp(b[7]) + np.exp(a[3] + b[7] + 1.2))
    log_z = free - np.logaddexp(0, a[3]) - np.logaddexp(0, b[7]) + pair
    p = 1 / (1 + np.exp(-a))
    test = (np.random.default_rng(1).random((500, 26)) < p).astype("uint8")
    np.save(tmp_path / "x.npy", test)
    result = invoke("evaluate", tmp_path / "m", tmp_path / "x.npy", "--temperatures", 200, "--json")
    found = json.loads(result.stdout)
    assert found["method"] == "annealing"
    # six standard errors: false alarm below 1e-8; RAISE's samples are not the machine's own
    up, down = found["optimistic"], found["conservative"]
    assert abs(up["log_z"] - log_z) < 6 * up["error"] + 1e-3
    assert down["log_z"] > log_z - 6 * down["error"] and down["log_z"] < log_z + 0.1
    assert up["log_likelihood"] == pytest.approx(log_likelihood(model, test, up["log_z"]), abs=1e-9)
    told = invoke("evaluate", tmp_path / "m", tmp_path / "x.npy", "--temperatures", 200).stdout
    assert "by AIS (errs high), conservative" in told and "by RAISE (errs low)" in told


def test_evaluate_asks_the_test_file_for_no_key_of_the_training_file(tmp_path):
    np.savez(tmp_path / "two.npz", first=bars(), second=bars(seed=1))
    np.savez(tmp_path / "test.npz", only=bars(seed=2))
    files = (tmp_path / "two.npz", "--data-key", "second", "--test", tmp_path / "test.npz")
    assert invoke("train", *files, "-o", tmp_path / "run", *SMALL).exit_code == 0
    found = json.loads(invoke("evaluate", tmp_path / "run", "--json").stdout)
    given = invoke("evaluate", tmp_path / "run", tmp_path / "test.npz", "--json").stdout
    assert found["log_likelihood"] == json.loads(given)["log_likelihood"]


def test_evaluate_remembers_what_a_run_was_trained_on(tmp_path, images):
    out = tmp_path / "run"
    assert invoke("train", images, "-o", out, *SMALL).exit_code == 0
    by_folder = invoke("evaluate", out, "--json").stdout
    by_hand = invoke("evaluate", out / "model.safetensors", images, "--json").stdout
    first, second = json.loads(by_folder), json.loads(by_hand)
    assert first | {"seconds": 0} == second | {"seconds": 0}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing"], "no such file"),
        (["m"], "does not name its data"),
        (["m", "wide.npy"], "shape (3, 5), expected (samples, 16)"),
        (["m", "grey.npy"], "defined for the states 0 and 1 only"),
        (["m", "nothing.npy"], "no such file"),
        (["old", "bars.npy"], "version 0, expected version 1"),
        (["m", "bars.npy", "--chains", "1"], "evaluate: --chains is 1"),
        (["m", "bars.npy", "--temperatures", "0"], "evaluate: --temperatures is 0"),
        (["wide.npy", "bars.npy"], "is not a model of gpugrad, or is damaged"),
    ],
)
def test_evaluate_refuses_what_it_cannot_measure(tmp_path, images, monkeypatch, arguments, message):
    from gpugrad.boltzmann import checkpoint

    monkeypatch.chdir(tmp_path)
    machine("m")
    monkeypatch.setattr(checkpoint, "VERSION", 0)
    machine("old")
    monkeypatch.setattr(checkpoint, "VERSION", 1)
    np.save("wide.npy", np.zeros((3, 5), "uint8"))
    np.save("grey.npy", np.full((3, 16), 0.5))
    assert_one_line_error(invoke("evaluate", *arguments), message)


# ---- sample


def test_sample_writes_states_of_the_units(tmp_path):
    for unit, states in (("bernoulli", [0, 1]), ("ising", [-1, 1])):
        machine(tmp_path / unit, visible=unit)
        out = tmp_path / f"{unit}.npy"
        result = invoke("sample", tmp_path / unit, "-o", out, "--n", 300, "--sweeps", 20)
        assert result.exit_code == 0, result.stderr
        found = np.load(out)
        assert found.shape == (300, 16) and np.array_equal(np.unique(found), states)


@pytest.mark.parametrize("name", ["s.npy", "s.npz"])
def test_samples_that_cannot_be_written_leave_the_old_file(name, tmp_path, monkeypatch):
    machine(tmp_path / "m")
    (tmp_path / name).write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = invoke("sample", tmp_path / "m", "-o", tmp_path / name, "--sweeps", 1, "--overwrite")
    assert result.exit_code == 1
    assert result.stderr == f"gpugrad: error: sample: {tmp_path / name}: no space left on device\n"
    assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", name]


def test_samples_have_the_machines_means(tmp_path):
    """4,000 chains against enumeration: no unit beyond 5.5 standard errors, 16 units: 6e-7."""
    model = machine(tmp_path / "m", n_hidden=3)
    invoke("sample", tmp_path / "m", "-o", tmp_path / "s.npz", "-n", 4000, "--sweeps", 30)
    found = np.load(tmp_path / "s.npz")["data"].mean(axis=0)
    a, b, W = (p.astype("float64") for p in model.parameters().values())
    h = np.array([[j >> i & 1 for i in range(3)] for j in range(8)], dtype=float)
    fields = a + h @ W.T
    weight = np.exp(h @ b + np.logaddexp(0, fields).sum(axis=1))
    mean = (weight / weight.sum()) @ (1 / (1 + np.exp(-fields)))
    assert np.all(np.abs(found - mean) < 5.5 * np.sqrt(mean * (1 - mean) / 4000))


@pytest.mark.parametrize(
    "text, held",
    [
        ("top half", np.s_[:2, :]),
        ("bottom", np.s_[2:, :]),
        ("left half", np.s_[:, :2]),
        ("right-half", np.s_[:, 2:]),
    ],
)
def test_clamped_pixels_are_those_of_the_data(tmp_path, text, held):
    # one image only: every sample must hold it
    image = np.random.default_rng(2).integers(0, 2, (1, 4, 4)).astype("uint8")
    np.save(tmp_path / "one.npy", image)
    machine(tmp_path / "m")
    out = tmp_path / "s.npy"
    result = invoke(
        "sample", tmp_path / "m", "-o", out, "--clamp", text, "--data", tmp_path / "one.npy",
        "--n", 50, "--sweeps", 10,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = np.load(out).reshape(50, 4, 4)
    assert np.all(found[(slice(None), *held)] == image[(slice(None), *held)])
    free = np.ones((4, 4), bool)
    free[held] = False
    assert np.all(np.ptp(found[:, free], axis=0) == 1), "a free pixel never moved"


def test_the_first_rows_of_the_runs_own_data_are_held_and_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(5).integers(0, 2, (12, 16)).astype("uint8")
    np.save("x.npy", images)
    np.save("t.npy", images[::-1])
    for n, options, rows, told in (
        (5, [], images[:5], "the first 5 rows of x.npy"),
        (30, [], np.resize(images, (30, 16)), "all 12 rows of x.npy"),
        (5, ["--test", "t.npy"], images[::-1][:5], "the first 5 rows of t.npy"),
    ):
        trained = invoke("train", "x.npy", "-o", "run", "--overwrite", *SMALL, *options)
        assert trained.exit_code == 0, trained.stderr
        held = ("--clamp", "top", "-n", n, "--sweeps", 3, "--overwrite")
        result = invoke("sample", "run", "-o", "s.npy", *held)
        assert f"{n} samples in s.npy, top held at {told}" in result.stdout, result.stderr
        assert np.array_equal(np.load("s.npy")[:, :8], rows[:, :8])


def test_chains_start_at_rows_of_the_data_at_random(tmp_path):
    """Couplings of a thousand: a hidden unit copies its visible one, and keeps it."""
    model = RBM(16, 16, device="cpu")
    model.set_parameters({"weights.0.matrix": 2000 * np.eye(16, dtype="float32")})
    for layer in ("layers.0.loc", "layers.1.loc"):
        model.set_parameters({layer: np.full(16, -1000, "float32")})
    model.save(tmp_path / "m")
    rows = np.unpackbits(np.arange(40, dtype="uint8")[:, None], axis=1).repeat(2, axis=1)
    np.save(tmp_path / "x.npy", rows)
    ask = ("sample", tmp_path / "m", "--data", tmp_path / "x.npy", "--sweeps", 2)
    result = invoke(*ask, "-n", 10, "-o", tmp_path / "s.npy")
    assert result.exit_code == 0, result.stderr
    found = np.packbits(np.load(tmp_path / "s.npy")[:, ::2].astype("uint8"), axis=1).ravel()
    assert len(set(found)) == 10 and set(found) < set(range(40))
    assert list(found) != list(range(10))


def test_a_mask_from_a_file_is_held(tmp_path):
    mask = np.zeros(16)
    mask[[1, 6, 11]] = 1
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "x.npy", np.ones((1, 16), "uint8"))
    machine(tmp_path / "m", scale=0.1)
    arguments = ["--clamp", tmp_path / "mask.npy", "--data", tmp_path / "x.npy", "--n", 40]
    assert invoke("sample", tmp_path / "m", "-o", tmp_path / "s.npy", *arguments).exit_code == 0
    mean = np.load(tmp_path / "s.npy").mean(axis=0)
    assert np.array_equal(mean == 1, mask == 1)


def test_a_picture_is_drawn_and_no_file_is_replaced_unasked(tmp_path):
    machine(tmp_path / "m")
    out = tmp_path / "s.png"
    assert invoke("sample", tmp_path / "m", "-o", out, "--n", 9, "--sweeps", 5).exit_code == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    refused = invoke("sample", tmp_path / "m", "-o", out)
    assert_one_line_error(refused, "expected a new file with --output, or --overwrite")
    assert invoke("sample", tmp_path / "m", "-o", out, "--n", 4, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--n", "0"], "n is 0"),
        (["--sweeps", "0"], "sweeps is 0"),
        (["--output", "s.gif"], "expected a .png, .npy or .npz"),
        (["--clamp", "middle"], "clamp 'middle': no such file, expected 'top half'"),
        (["--clamp", "lost.npy"], "clamp 'lost.npy': no such file, expected 'top half'"),
        (["--output", "new/s.png"], "no folder new, expected one that exists"),
        (["--clamp", "short.npy"], "has 3 values, expected 16"),
        (["--clamp", "top half"], "does not name its data, expected --data"),
        (["--clamp", "top", "--data", "mnist"], "shape (100, 784), expected (samples, 16)"),
        (["--image-shape", "4x5"], "4x5 for 16 units"),
    ],
)
def test_sample_refuses_what_it_cannot_draw(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    machine("m")
    np.save("short.npy", np.ones(3))
    before = sorted(tmp_path.iterdir())
    assert_one_line_error(invoke("sample", "m", *arguments), message)
    assert sorted(tmp_path.iterdir()) == before


def test_samples_go_beside_the_model_under_the_name_of_their_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    machine("run/model.safetensors")
    arguments = ("sample", "run", "--n", 2, "--sweeps", 2)
    for seed in (0, 5):
        assert f"run/samples-{seed}.png" in invoke(*arguments, "--seed", seed).stdout
    assert_one_line_error(invoke(*arguments), "run/samples-0.png exists")
    assert invoke(*arguments, "--overwrite").exit_code == 0
    names = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert names == ["model.safetensors", "samples-0.png", "samples-5.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


# ---- info and the frame


@pytest.mark.parametrize("name", ["info", "sample", "evaluate"])
def test_a_model_that_is_not_finite_is_refused_by_name(tmp_path, images, name):
    model = machine(tmp_path / "m")
    model.layers[1].params.loc[2] = np.nan
    model.save(tmp_path / "m")
    more = [images] if name == "evaluate" else []
    assert_one_line_error(
        invoke(name, tmp_path / "m", *more), "parameter layers.1.loc has NaN or infinite values"
    )


def test_what_is_printed_is_no_markup(tmp_path, monkeypatch):
    from gpugrad.backend import array_module

    reason = "pip install 'gpugrad[cuda13]' :smile:"
    monkeypatch.setattr(array_module, "_look_for_cupy", lambda: (None, 0, reason))
    assert reason in invoke("info").stdout
    folder = tmp_path / "[bold]$x^$ :smile:"
    folder.mkdir()
    machine(folder / "m")
    assert str(folder) in invoke("info", folder / "m").stdout
    np.save(folder / "$x^$.npy", np.ones(16))
    np.save(folder / "x.npy", np.ones((1, 16), "uint8"))
    held = ("--clamp", folder / "$x^$.npy", "--data", folder / "x.npy", "--sweeps", 2, "--n", 2)
    result = invoke("sample", folder / "m", *held)
    assert result.exit_code == 0 and str(folder / "samples-0.png") in result.stdout


def test_info_reports_an_unknown_default_device_and_goes_on(monkeypatch):
    from gpugrad.backend import array_module

    monkeypatch.setenv("GPUGRAD_DEVICE", "foo")
    monkeypatch.setattr(array_module, "_default", None)
    result = invoke("info")
    assert result.exit_code == 0, result.stderr
    assert "GPUGRAD_DEVICE" in result.stdout and "'foo'" in result.stdout
    assert "kernel" in result.stdout.split("GPUGRAD_DEVICE")[1]


def test_the_version_is_told():
    import gpugrad

    result = invoke("--version")
    assert result.exit_code == 0 and result.stdout == f"gpugrad {gpugrad.__version__}\n"


@pytest.mark.parametrize("name", ["train", "evaluate", "sample"])
def test_help_of_the_threshold_says_what_becomes_of_grey_values(name):
    told = " ".join(invoke(name, "--help").stdout.split())
    assert "In (0, 1)" in told and "0..255 of 8-bit data are divided by 255 first" in told


def test_info_describes_a_model(tmp_path, images):
    out = tmp_path / "run"
    assert invoke("train", images, "-o", out, *SMALL[:-1]).exit_code == 0
    told = invoke("info", out).stdout
    assert "16 bernoulli - 4 bernoulli" in told and "weights.0.matrix" in told and "16x4" in told
    assert "after epoch 3" in told and "exact" in told


@pytest.mark.parametrize("name", ["info", "evaluate", "sample"])
def test_a_machine_of_an_own_energy_is_refused_with_what_reads_it(name, tmp_path):
    make, energy, by = CASES["bits by layers"]
    parameters = {"a": np.zeros(3), "W": np.zeros((3, 2))}
    EnergyMachine(make(), energy, parameters, by=by, device="cpu").save(tmp_path / "own")
    assert_one_line_error(invoke(name, tmp_path / "own"), "EnergyMachine.load(path, energy)")


def test_info_says_what_there_is_to_compute_on_and_why_not_more(monkeypatch):
    from gpugrad.backend import array_module

    monkeypatch.setattr(
        array_module, "_look_for_cupy", lambda: (None, 0, "CuPy is not installed: pip install it")
    )
    told = invoke("info").stdout
    assert "CuPy    not found" in told and "none: CuPy is not installed: pip install it" in told
    assert np.__version__ in told
    files = {path.name for path in (ROOT / "kernels").glob("*.cu")}
    listed = {line.split()[1].rstrip(":") for line in told.splitlines() if line[:7] == "kernel "}
    assert listed == files and "gibbs.cu" in files


def test_help_lists_the_four_commands():
    result = run("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in ("train", "sample", "evaluate", "info"))


def test_an_unknown_option_is_refused(tmp_path):
    result = run("train", "--hiden", "3", cwd=tmp_path)
    assert result.returncode == 2 and "--hiden" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    program = "import sys\nsys.modules['typer'] = None\nfrom gpugrad.cli import main\nmain()"
    _, environment = command()
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert result.returncode == 1
    assert (
        result.stderr == 'gpugrad: error: the command needs typer: pip install "gpugrad[train]"\n'
    )


def test_a_reader_that_leaves_is_no_error(tmp_path):
    machine(tmp_path / "m")
    line, environment = command("info", tmp_path / "m")
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(timeout=30)


def test_progress_on_a_terminal_shows_the_figures_of_the_last_epoch():
    import io

    from rich.console import Console

    from gpugrad.boltzmann.fit import fit
    from gpugrad.cli.progress import TrainingProgress, clock

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160, color_system=None)
    history = fit(
        RBM(16, 3, device="cpu", rng=Generator(0)),
        bars().reshape(60, 16),
        epochs=4,
        batch_size=10,
        rng=Generator(0),
        callbacks=[TrainingProgress(console)],
    )
    told = screen.getvalue()
    assert "epoch 4/4" in told and "samples/s" in told and "0:00 left" in told
    assert f"pseudo-likelihood {history[-1]['pseudo_likelihood']:.1f}" in told
    assert f"reconstruction {history[-1]['reconstruction_error']:.4f}" in told
    assert [clock(s) for s in (0.2, 75, 3725)] == ["0:00", "1:15", "1:02:05"]
