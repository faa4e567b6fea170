"""`gpugrad train` that was stopped: how it goes on, and what it refuses to go on with."""

import importlib
import json
import signal
import subprocess
import time

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.boltzmann.checkpoint import load_model
from gpugrad.boltzmann.pretrain import pretrain

from .runner import FILES, SMALL, assert_one_line_error, bars, command, invoke, run, same_model


@pytest.mark.parametrize("exists", [False, True])
def test_resume_of_nothing_is_refused_and_names_the_folder(data, tmp_path, exists):
    out = tmp_path / "run"
    if exists:
        out.mkdir()
    before = sorted(tmp_path.rglob("*"))
    result = invoke("train", data, "-o", out, *SMALL, "--resume")
    assert_one_line_error(result, f"nothing to resume in {out}, expected")
    assert sorted(tmp_path.rglob("*")) == before


def test_resume_of_a_run_that_crashed_before_its_first_checkpoint_begins_it(data, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert invoke("train", data, "-o", whole, *SMALL, "--seed", 3).exit_code == 0
    out.mkdir()
    (out / "settings.json").write_bytes((whole / "settings.json").read_bytes())
    result = invoke("train", "-o", out, "--resume")
    assert result.exit_code == 0 and "going on" not in result.stdout
    assert same_model(out / "model.safetensors", whole / "model.safetensors")


def test_a_run_killed_while_it_wrote_its_settings_can_be_begun_again(data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".settings.json.x1.tmp").write_bytes(b"{")
    assert invoke("train", data, "-o", out, *SMALL).exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == FILES


def test_an_unfinished_run_says_how_to_go_on(data, tmp_path):
    out = tmp_path / "a run"
    assert invoke("train", data, "-o", out, *SMALL).exit_code == 0
    (out / "model.safetensors").unlink()
    for name in ("info", "sample", "evaluate"):
        message = f"unfinished run at step 18 of 18: gpugrad train --resume -o '{out}'"
        assert_one_line_error(invoke(name, out), message)
    (out / "checkpoint.safetensors").unlink()
    assert_one_line_error(invoke("info", out), "no checkpoint yet: gpugrad train --resume -o")


@pytest.mark.parametrize("method", ["pcd", "cd"])
def test_resume_of_a_finished_run_makes_its_files_again(data, tmp_path, method):
    out = tmp_path / "run"
    assert invoke("train", data, "-o", out, *SMALL, "--method", method).exit_code == 0
    before = {name: (out / name).read_bytes() for name in FILES if name.endswith(".png")}
    for name in ("model.safetensors", "samples.png"):
        (out / name).unlink()
    assert invoke("train", "-o", out, "--resume").exit_code == 0
    assert {name: (out / name).read_bytes() for name in before} == before
    assert sorted(p.name for p in out.iterdir()) == FILES


def test_resume_refuses_other_settings_and_keeps_the_checkpoint(data, tmp_path):
    out = tmp_path / "run"
    assert invoke("train", data, "-o", out, *SMALL).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert_one_line_error(
        invoke("train", "-o", out, "--resume", "--k", "3"), "the checkpoint was made with k 1"
    )
    assert_one_line_error(
        invoke("train", "-o", out, "--resume", "--learning-rate", "0.01", "--schedule", "constant"),
        "schedule name 'linear', rate 0.05, final 0.0, expected name 'constant', rate 0.01",
    )
    assert_one_line_error(
        invoke("train", "-o", out, "--resume", "--seed", 7),
        "the checkpoint was made with seed 0, expected 7",
    )
    np.save(data, bars(seed=9))
    assert_one_line_error(
        invoke("train", "-o", out, "--resume"), "the checkpoint was made with data"
    )
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_run_at_a_constant_rate_goes_on_for_longer(data, tmp_path):
    """To the files of one that was to be as long from the beginning."""
    how = [data, *SMALL, "--schedule", "constant"]
    short, long = tmp_path / "short", tmp_path / "long"
    assert invoke("train", *how, "-o", short).exit_code == 0
    result = invoke("train", "--resume", "-o", short, "--epochs", 5)
    assert result.exit_code == 0 and "5 epochs of 6 updates; going on at step 18" in result.stdout
    assert invoke("train", *how, "-o", long, "--epochs", 5).exit_code == 0
    assert same_model(short / "model.safetensors", long / "model.safetensors")
    assert (short / "samples.png").read_bytes() == (long / "samples.png").read_bytes()
    assert json.loads((short / "settings.json").read_text())["epochs"] == 5


def test_a_run_whose_rates_depend_on_its_length_says_why_it_cannot_go_on_for_longer(data, tmp_path):
    out = tmp_path / "run"
    assert invoke("train", data, "-o", out, *SMALL).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    result = invoke("train", "--resume", "-o", out, "--epochs", 5)
    assert_one_line_error(result, "epochs 3, expected 5: a longer run has other rates (linear")
    assert "--overwrite begins anew" in result.stderr
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_resume_of_pretraining_refuses_other_settings_and_keeps_the_files(
    data, tmp_path, monkeypatch
):
    out, settings = tmp_path / "run", [*SMALL, "--hidden", "4,3", "--pretrain", 2]
    command = importlib.import_module("gpugrad.cli.train")

    class Killed(Exception):
        pass

    def killed(*given, progress, **how):
        def told(*place):
            raise Killed

        return pretrain(*given, progress=told, **how)

    monkeypatch.setattr(command, "pretrain", killed)
    with pytest.raises(Killed):
        invoke("train", data, "-o", out, *settings)
    monkeypatch.undo()
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert sorted(before) == ["pretrain.safetensors", "settings.json"]
    for option, value, message in (
        ("--seed", 7, "seed 0, expected 7"),
        ("--pretrain-rate", 0.2, "expected 0.2"),
        ("--hidden", "5,3", "expected"),
        ("--pretrain", 0, "epochs 2, expected 0"),
    ):
        result = invoke("train", "-o", out, "--resume", option, value)
        assert_one_line_error(result, "the checkpoint was made with")
        assert message in result.stderr
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    np.save(data, bars(seed=9))
    result = invoke("train", "-o", out, "--resume")
    assert_one_line_error(result, "pretrain: the checkpoint was made with data crc32")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    np.save(data, bars())
    assert invoke("train", "-o", out, "--resume").exit_code == 0
    assert invoke("train", data, "-o", tmp_path / "whole", *settings).exit_code == 0
    assert same_model(out / "model.safetensors", tmp_path / "whole" / "model.safetensors")


def test_ctrl_c_after_training_says_that_the_model_is_there_and_how_to_finish(
    data, tmp_path, monkeypatch
):
    def interrupted(*arguments, **how):
        raise KeyboardInterrupt

    out, module = tmp_path / "run", importlib.import_module("gpugrad.cli.train")
    with monkeypatch.context() as patch:
        patch.setattr(module, "measure", interrupted)
        stopped = invoke("train", data, "-o", out, *SMALL[:-1])
    assert stopped.exit_code == 130
    last = stopped.stdout.splitlines()[-1]
    assert f"the model is in {out}/" in last and f"`gpugrad train --resume --output {out}`" in last
    before = load_model(out / "model.safetensors", device="cpu").parameters()
    finished = invoke("train", "--resume", "-o", out)
    assert finished.exit_code == 0 and "log-likelihood" in finished.stdout, finished.stderr
    after = load_model(out / "model.safetensors", device="cpu").parameters()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    out = tmp_path / "run"
    assert invoke("train", data, "-o", out, *SMALL).exit_code == 0
    (out / "checkpoint.safetensors").write_bytes(b"\x00" * 100)
    assert_one_line_error(invoke("train", "-o", out, "--resume"), "is damaged")


def test_ctrl_c_leaves_a_checkpoint_from_which_the_same_bits_come(data, tmp_path):
    settings = ["--hidden", "8", "--epochs", "300", "--batch-size", "5", "--no-evaluate"]
    assert run("train", data, "-o", tmp_path / "whole", *settings).returncode == 0
    line, environment = command("train", data, "-o", tmp_path / "run", *settings)
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped at step" in out and "--resume" in out and err == ""
    assert not (tmp_path / "run" / "model.safetensors").exists()
    resumed = run("train", "-o", tmp_path / "run", "--resume")
    assert resumed.returncode == 0 and "going on at step" in resumed.stdout, resumed.stderr
    assert same_model(tmp_path / "run/model.safetensors", tmp_path / "whole/model.safetensors")


def test_settings_of_a_run_that_are_damaged_are_not_replaced_by_defaults(tmp_path):
    good, out = tmp_path / "bars.npy", tmp_path / "run"
    np.save(good, bars(30))
    assert invoke("train", good, "-o", out, *SMALL).exit_code == 0
    for damaged in ("{}", "[1]", '{"epochs": '):
        (out / "settings.json").write_text(damaged)
        result = invoke("train", "--resume", "-o", out)
        assert_one_line_error(result, "settings.json")
        assert (out / "settings.json").read_text() == damaged
