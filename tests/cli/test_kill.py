"""Training killed with SIGKILL at random moments goes on from what is on disk, to the same bits."""

import json
import random
import subprocess
import time

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.boltzmann.checkpoint import load_checkpoint, load_model

from .runner import bars, command, run

SETTINGS = [
    "--hidden", "6", "--epochs", "40", "--batch-size", "5", "--momentum", "0.5", "--k", "2",
    "--no-evaluate", "--checkpoint-seconds", "0.02",
]  # fmt: skip
KILLS = 50


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bars.npy"
    np.save(path, bars(200))
    return path


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The folder of a run that nobody killed, and the seconds it took."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    start = time.monotonic()
    result = run("train", data, "-o", out, *SETTINGS)
    assert result.returncode == 0, result.stderr
    return out, time.monotonic() - start


def train_until_killed(data, out, seconds):
    """Start or go on, kill after so many seconds; whether it had finished by then."""
    # killed before it left its settings, a run has nothing to resume and is begun as if anew
    go_on = ["--resume"] if (out / "settings.json").exists() else []
    line, environment = command("train", data, "-o", out, *SETTINGS, *go_on)
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    assert process.returncode == 0, err
    return True


def assert_readable(out):
    """Whatever is there under its own name is whole."""
    if (out / "checkpoint.safetensors").exists():
        load_checkpoint(out / "checkpoint.safetensors")
    if (out / "model.safetensors").exists():
        load_model(out / "model.safetensors", device="cpu")
    for name in ("settings.json", "model.json"):
        if (out / name).exists():
            json.loads((out / name).read_text())
    if (out / "log.jsonl").exists():
        for line in (out / "log.jsonl").read_text().splitlines():
            json.loads(line)
    for picture in out.glob("[!.]*.png"):
        assert picture.read_bytes().endswith(b"IEND\xaeB`\x82")


@pytest.mark.long(keep=4)
@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_run_ends_in_the_parameters_of_an_undisturbed_one(
    kill, data, undisturbed, tmp_path
):
    expected, seconds = undisturbed
    moment = random.Random(kill).uniform(0.0, 1.1)
    finished = train_until_killed(data, tmp_path / "run", moment * seconds)
    if (tmp_path / "run").exists():
        assert_readable(tmp_path / "run")
    if not finished:
        assert train_until_killed(data, tmp_path / "run", 120)
    first, second = (
        load_model(folder / "model.safetensors", device="cpu").parameters()
        for folder in (expected, tmp_path / "run")
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (expected, tmp_path / "run")
    ]
    assert [r | {"seconds": 0} for r in logs[0]] == [r | {"seconds": 0} for r in logs[1]]


@pytest.mark.long(keep=1)
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_gets_there(seed, data, undisturbed, tmp_path):
    expected, seconds = undisturbed
    moments = random.Random(seed)
    kills = 0
    while not train_until_killed(data, tmp_path / "run", moments.uniform(0.5, 1.0) * seconds):
        kills += 1
        seconds *= 1.2  # a machine that has become slower since may only just start in that time
        assert_readable(tmp_path / "run")
        assert kills < 30, "no progress between kills"
    first, second = (
        load_model(folder / "model.safetensors", device="cpu").parameters()
        for folder in (expected, tmp_path / "run")
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_run_killed_in_pretraining_goes_on_from_its_last_epoch(data, tmp_path):
    settings = ["--hidden", "6,4", "--pretrain", "60", "--epochs", "2", "--no-evaluate"]
    result = run("train", data, "-o", tmp_path / "undisturbed", *settings)
    assert result.returncode == 0, result.stderr
    line, environment = command("train", data, "-o", tmp_path / "run", *settings)
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL)
    progress = tmp_path / "run" / "pretrain.safetensors"
    while not progress.exists() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert progress.exists(), "pre-training was over before it could be killed"
    epochs = sum(map(len, load_checkpoint(progress)[1]["history"]))
    result = run("train", data, "-o", tmp_path / "run", *settings, "--resume")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("pre-training") == 120 - epochs
    first, second = (
        load_model(tmp_path / name / "model.safetensors", device="cpu").parameters()
        for name in ("undisturbed", "run")
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not progress.exists()
