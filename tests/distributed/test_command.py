"""`gpugrad train` and `gpugrad evaluate` under the real mpirun."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.checkpoint import checkpoint_info, load_model
from gpugrad.boltzmann.model import RBM
from tests.cli.runner import bars
from tests.fresh_python import output_of

from .mpirun import LIMIT, environment, line_of, python, reason_without_mpi, run

reason = reason_without_mpi()
needs_mpi = pytest.mark.skipif(bool(reason), reason=f"no MPI: {reason}")

SETTINGS = ["--hidden", "6", "--epochs", "4", "--batch-size", "10", "--momentum", "0.5"]
LONG = [*SETTINGS[:2], "--epochs", "40", *SETTINGS[4:], "--no-evaluate"]
FILES = {
    "checkpoint.safetensors", "curve.png", "filters.png", "log.jsonl", "model.json",
    "model.safetensors", "samples.png", "settings.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bars.npy"
    np.save(path, bars(100))
    return path


def gpugrad(*arguments):
    return python("-m", "gpugrad.cli", *arguments)


def train(data, out, *settings):
    return gpugrad("train", data, "-o", out, *settings)


def alone(command, **more):
    return subprocess.run(
        command, env=environment(**more), capture_output=True, text=True, timeout=LIMIT
    )


def parameters(folder):
    return load_model(folder / "model.safetensors", device="cpu").parameters()


def assert_same_model(found, expected):
    found, expected = parameters(found), parameters(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def records(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line) | {"seconds": 0} for line in lines]


def errors(done):
    return [line for line in done.stderr.splitlines() if line.startswith("gpugrad: error")]


# ---- the same run


@needs_mpi
def test_ranks_leave_the_folder_of_a_single_process(data, tmp_path):
    """Parameters, log and likelihood; and one of them speaks."""
    expected = tmp_path / "alone"
    done = alone(train(data, expected, *SETTINGS, "--shards", "8"))
    assert done.returncode == 0, done.stderr
    out = tmp_path / "ranks"
    done = run((4, train(data, out, *SETTINGS)))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == FILES
    assert_same_model(out, expected)
    assert records(out) == records(expected)
    assert json.loads((out / "settings.json").read_text())["shards"] == 8
    likelihoods = [
        json.loads((folder / "model.json").read_text())["evaluation"]["log_likelihood"]
        for folder in (out, expected)
    ]
    assert likelihoods[0] == likelihoods[1]
    assert (out / "samples.png").read_bytes() == (expected / "samples.png").read_bytes()
    told = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in told] == ["1/4", "2/4", "3/4", "4/4"]
    assert "on 4 ranks" in done.stdout


@needs_mpi
def test_ranks_share_an_evaluation(tmp_path):
    machine, images = tmp_path / "machine.safetensors", tmp_path / "images.npy"
    RBM(30, 30, rng=Generator(0), device="cpu").save(machine)
    np.save(images, np.random.default_rng(0).integers(0, 2, (60, 30)).astype("uint8"))
    how = ["--json", "--temperatures", "20", "--chains", "30"]
    ask = gpugrad("evaluate", machine, images, *how)
    found = []
    for size in (1, 2):
        done = run((size, ask))
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.strip().splitlines()
        found.append(json.loads(line) | {"seconds": 0})
    assert found[0] == found[1] and found[0]["method"] == "annealing"


# ---- a run that is cut short


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = alone(train(data, out, *LONG, "--shards", "8"))
    assert done.returncode == 0, done.stderr
    return out


@contextmanager
def started(size, command):
    """A job that is under way; whatever fails, it does not outlive the test."""
    process = subprocess.Popen(
        line_of((size, command)),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            for number in (*ranks_of(process).values(), process.pid):
                if process.poll() is None:
                    os.kill(number, signal.SIGKILL)


def trains(process, out, step):
    """Wait until the checkpoint is at a later step than this one."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"it has ended: {process.returncode}\n{process.communicate()}")
        if (out / "checkpoint.safetensors").exists():
            now = checkpoint_info(out / "checkpoint.safetensors")["position"]["step"]
            if now > step:
                return now
        time.sleep(0.02)
    raise AssertionError("it does not train")


def ranks_of(process):
    """Numbers of the processes that mpirun has started, by rank."""
    found = {}
    for number in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/stat") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{number}/environ", "rb") as file:
                variables = dict(v.split(b"=", 1) for v in file.read().split(b"\0") if b"=" in v)
        except OSError:  # it has just gone
            continue
        if parent == process.pid and b"OMPI_COMM_WORLD_RANK" in variables:
            found[int(variables[b"OMPI_COMM_WORLD_RANK"])] = int(number)
    return found


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc to find ranks in")


@needs_mpi
@needs_proc
def test_a_killed_rank_ends_the_job_and_the_checkpoint_goes_on_with_fewer(
    data, undisturbed, tmp_path
):
    """Then a signal to the launcher ends those in good order, and one process does the rest."""
    out = tmp_path / "run"
    with started(4, train(data, out, *LONG, "--checkpoint-seconds", "0")) as process:
        step = trains(process, out, 3)
        os.kill(ranks_of(process)[2], signal.SIGKILL)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert "rank 2" in err and "signal 9" in err

    # SIGUSR1, which mpirun passes on, is what the batch scripts use
    with started(2, train(data, out, *LONG, "--checkpoint-seconds", "0", "--resume")) as process:
        step = trains(process, out, step + 3)
        process.send_signal(signal.SIGUSR1)
        told, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + signal.SIGUSR1, err
    assert "stopped at step" in told
    position = checkpoint_info(out / "checkpoint.safetensors")["position"]
    assert step <= position["step"] < 400

    done = alone(train(data, out, *LONG, "--resume"))
    assert done.returncode == 0, done.stderr
    assert_same_model(out, undisturbed)
    assert records(out) == records(undisturbed)


@needs_mpi
@needs_proc
def test_a_rank_that_hangs_ends_the_job(data, tmp_path):
    """A launcher that does not notice: the others do, by the clock."""
    out = tmp_path / "run"
    endless = [*LONG, "--epochs", "4000", "--rank-timeout", "1"]
    with started(2, train(data, out, *endless)) as process:
        trains(process, out, -1)
        os.kill(ranks_of(process)[1], signal.SIGSTOP)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    (line,) = [line for line in err.splitlines() if line.startswith("gpugrad: error: rank 0")]
    assert "rank 0 has waited 1 s for the other 1 ranks" in line and "--resume" in line


# ---- ranks that do not fit together


@needs_mpi
def test_ranks_with_different_options_are_refused(data, tmp_path):
    out = tmp_path / "run"
    done = run(
        (1, train(data, out, *SETTINGS)), (2, train(data, out, *SETTINGS, "--momentum", "0.7"))
    )
    assert done.returncode == 1
    assert errors(done) == [
        "gpugrad: error: train: rank 1 has momentum 0.7, rank 0 has 0.5: expected the same on all "
        "ranks"
    ]
    assert not out.exists()


@needs_mpi
def test_ranks_that_evaluate_differently_are_refused(data, tmp_path):
    model = tmp_path / "machine.safetensors"
    RBM(16, 3, device="cpu").save(model)
    done = run(
        (1, gpugrad("evaluate", model, data)), (1, gpugrad("evaluate", model, data, "--seed", 1))
    )
    assert done.returncode == 1
    assert errors(done) == [
        "gpugrad: error: evaluate: rank 1 has seed 1, rank 0 has 0: expected the same on all ranks"
    ]


@needs_mpi
def test_ranks_with_different_data_are_refused(data, tmp_path):
    """The same path leads to another file on another node."""
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "bars.npy", bars(100, seed=seed))
    done = run(
        *((1, ["-wdir", tmp_path / name, *train("bars.npy", tmp_path / "run")]) for name in "ab")
    )
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.startswith("gpugrad: error: fit: rank 1 has data crc32")
    assert not (tmp_path / "run").exists()


@needs_mpi
def test_what_only_one_rank_cannot_do_is_told_once_with_its_number(data, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    np.save(tmp_path / "a" / "bars.npy", bars(100))
    done = run(
        *((1, ["-wdir", tmp_path / name, *train("bars.npy", tmp_path / "run")]) for name in "ab")
    )
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.startswith("gpugrad: error: rank 1: DataError: ") and "bars.npy" in line
    assert not (tmp_path / "run").exists()


@needs_mpi
def test_what_all_ranks_meet_is_told_once(data, tmp_path):
    """They diverge together; the checkpoint of before is there."""
    how = ["--learning-rate", "1e9", "--optimizer", "nesterov", "--schedule", "constant"]
    done = run((2, train(data, tmp_path / "run", *SETTINGS, *how)))
    assert done.returncode == 1
    (line,) = errors(done)
    assert "parameter" in line and "expected finite values" in line
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@needs_mpi
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "nothing.toml"], "gpugrad: error: train: recipe nothing.toml"),
        (["--epochz"], ""),
    ],
)
def test_what_all_ranks_meet_before_they_are_linked_is_told_once(data, tmp_path, options, message):
    done = run((4, train(data, tmp_path / "run", *options)))
    assert done.returncode != 0
    assert len(errors(done)) == bool(message) and message in done.stderr
    assert done.stderr.count("No such option") == (not message), done.stderr
    assert not (tmp_path / "run").exists()


@needs_mpi
def test_samples_left_out_of_the_likelihood_are_told_once(tmp_path):
    rows = bars(100).reshape(100, 16).astype("float32")
    rows[3, 5] = np.nan
    np.save(tmp_path / "a.npy", rows)
    out = tmp_path / "run"
    done = run((2, train(tmp_path / "a.npy", out, *SETTINGS, "--missing", "impute")))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("1 of 100 samples have missing values") == 1
    done = run((2, gpugrad("evaluate", out)))
    assert done.returncode == 0 and done.stderr.count("1 of 100 samples") == 1, done.stderr


def test_a_launcher_without_mpi4py_starts_no_training(data, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('not installed')\n")
    path = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    variables = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0", "PYTHONPATH": path}
    done = alone(train(data, tmp_path / "run", *SETTINGS), **variables)
    assert done.returncode == 1
    (line,) = errors(done)
    assert "started 4 processes" in line and 'pip install "gpugrad[mpi]"' in line
    assert not (tmp_path / "run").exists()
    # told not to look, it trains as ever
    done = alone(train(data, tmp_path / "run", *SETTINGS, "--communicator", "none"), **variables)
    assert done.returncode == 0, done.stderr


def test_the_command_does_not_load_mpi4py_by_itself():
    output_of("import sys, gpugrad.cli.train; sys.exit('mpi4py' in sys.modules)")
