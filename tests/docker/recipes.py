"""What the Dockerfiles, the Apptainer definition and pyproject.toml say, read for comparison."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.architecture.repository import ROOT

FOLDER = ROOT / "docker"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
DEFINITION = FOLDER / "gpugrad.def"


def tool(name: str, package: str) -> str:
    """The path of a command that a package of the test extra brings; skips where it is missing."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install {package})")
    return found


def schema_errors(schema: str, path: Path) -> str:
    """What a schema that check-jsonschema brings has against a file; empty if nothing."""
    command = [tool("check-jsonschema", "check-jsonschema"), "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


class Instruction(NamedTuple):
    name: str
    argument: str


def instructions(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def arguments(path: Path, name: str) -> list[str]:
    return [found.argument for found in instructions(path) if found.name == name]


def defaults(path: Path) -> dict[str, str]:
    """The build arguments of a Dockerfile that have a default."""
    return dict(text.split("=", 1) for text in arguments(path, "ARG") if "=" in text)


def pairs(text: str) -> dict[str, str]:
    """`a=1 b="two words"`, of LABEL and ENV."""
    return {name: value.strip('"') for name, value in re.findall(r'([\w.]+)=("[^"]*"|\S+)', text)}


def copied(path: Path) -> set[str]:
    """What a Dockerfile copies from the build context."""
    words = [text.split() for text in arguments(path, "COPY") if not text.startswith("--from")]
    return {source for *sources, _ in words for source in sources}


def sections(path: Path) -> dict[str, list[str]]:
    """The sections of an Apptainer definition, those of one name one after the other."""
    found: dict[str, list[str]] = {"header": []}
    name = "header"
    for line in path.read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found.setdefault(name, [])
        elif re.match(r"\w+: ", line):
            found["header"].append(line)
        elif line.strip() and not line.startswith("#"):
            found[name].append(line.strip())
    return found
