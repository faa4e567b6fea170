"""The command in this process or in one of its own, on data that train in a second."""

import os
import subprocess
import sys

import numpy as np

from tests.architecture.repository import ROOT

SMALL = ["--hidden", "4", "--epochs", "3", "--batch-size", "10", "--no-evaluate"]

FILES = [
    "checkpoint.safetensors",
    "curve.png",
    "filters.png",
    "log.jsonl",
    "model.json",
    "model.safetensors",
    "samples.png",
    "settings.json",
]
"""What a run leaves in its folder."""


def invoke(*arguments):
    """Run `gpugrad ARGUMENTS` in this process: exit_code, stdout, stderr."""
    from typer.testing import CliRunner

    from gpugrad.cli import (  # noqa: F401 - they register themselves
        evaluate,
        exchange,
        info,
        sample,
        train,
    )
    from gpugrad.cli.app import app

    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def command(*arguments):
    """The command line of `gpugrad ARGUMENTS`, and an environment in which it finds the package."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    line = [sys.executable, "-W", "error", "-m", "gpugrad.cli", *map(str, arguments)]
    return line, os.environ | {"PYTHONPATH": path}


def run(*arguments, **options):
    """Run it in a process of its own and wait."""
    line, environment = command(*arguments)
    return subprocess.run(line, env=environment, capture_output=True, text=True, **options)


def bars(n=60, side=4, seed=0):
    """Images of side x side pixels in which each row is on or off as a whole."""
    rows = np.random.default_rng(seed).integers(0, 2, (n, side, 1))
    return np.broadcast_to(rows, (n, side, side)).astype("uint8")


def assert_one_line_error(result, message):
    """Exit status above 0, and on stderr one line that begins with the command's name."""
    assert result.exit_code > 0
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("gpugrad: error: ") and message in lines[0], lines[0]


def same_model(first, second):
    """Whether two files hold the same parameters."""
    from gpugrad.boltzmann.checkpoint import load_model

    a, b = (load_model(path, device="cpu").parameters() for path in (first, second))
    return all(np.array_equal(a[name], b[name]) for name in a)
