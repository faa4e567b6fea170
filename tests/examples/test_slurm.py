"""examples/slurm: run with stand-ins for Slurm's programs."""

import os
import signal
import subprocess
import time

import pytest

from tests.architecture.repository import ROOT

SCRIPTS = sorted((ROOT / "examples" / "slurm").glob("*.slurm"))

# Writes down how it was called; then ends with STATUS, or waits for the signal that it passes on.
SRUN = """#!/bin/bash
echo "$@" >>"$NOTES/srun"
trap 'echo USR1 >>"$NOTES/srun"; sleep 0.2; exit 138' USR1
trap 'echo TERM >>"$NOTES/srun"; exit 143' TERM
[ -n "${STATUS:-}" ] && exit "$STATUS"
touch "$NOTES/waits"
while :; do sleep 0.05; done
"""
SCONTROL = """#!/bin/bash
echo "$@" >>"$NOTES/scontrol"
"""


@pytest.fixture
def job(tmp_path):
    """Starts a script as Slurm would, in a folder of its own."""
    programs, notes = tmp_path / "bin", tmp_path / "notes"
    for folder in (programs, notes):
        folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "NOTES": str(notes), "SLURM_JOB_ID": "7"}

    def start(script, *arguments, **more):
        return subprocess.Popen(
            ["bash", script, *arguments], env=environment | more, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def read(name):
        return (notes / name).read_text().splitlines() if (notes / name).exists() else None

    return start, read


def test_there_are_scripts_for_both():
    assert [path.stem for path in SCRIPTS] == ["train_cpu", "train_gpu"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "number, noted, status, queued",
    [
        (signal.SIGUSR1, "USR1", 0, ["requeue 7"]),
        # scancel sends it: what a person has cancelled is not queued again
        (signal.SIGTERM, "TERM", 143, []),
    ],
)
def test_a_signal_is_passed_on_and_the_job_queued_again(path, number, noted, status, queued, job):
    start, read = job
    with start(path, "mnist") as process:
        try:
            end = time.monotonic() + 60
            while read("waits") is None and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            process.send_signal(number)
        process.communicate(timeout=60)
    assert read("srun")[1:] == [noted]
    assert process.returncode == status and (read("scontrol") or []) == queued


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("status", ["0", "1", "137"])
def test_any_other_end_is_that_of_the_job(path, status, job):
    start, read = job
    with start(path, "mnist", "--epochs", "3", STATUS=status) as process:
        process.communicate(timeout=60)
    assert process.returncode == int(status) and read("scontrol") is None
    (called,) = read("srun")
    assert "gpugrad train mnist --epochs 3" in called and "--output runs/slurm-7" in called
    assert "--kill-on-bad-exit=1" in called and "--resume" not in called


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_job_that_was_queued_again_goes_on(path, job, tmp_path):
    (tmp_path / "runs" / "slurm-7").mkdir(parents=True)
    (tmp_path / "runs" / "slurm-7" / "settings.json").write_text("{}")
    start, read = job
    with start(path, "mnist", STATUS="0") as process:
        process.communicate(timeout=60)
    assert read("srun")[0].endswith("--resume")
