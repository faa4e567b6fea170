"""What holds for every file of the repository."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.architecture.repository import PACKAGE, ROOT, repository_files

# Written in pieces, so that this file does not find itself.
MACHINE_PATHS = re.compile(
    "|".join(
        (
            r"(?<![\w.}])/" + r"work/",
            r"(?<![\w.}])/" + r"farm/",
            r"\.\./" + r"shared\b",
            r"(?<![\w.}])/" + r"(?:root|home|Users)/\w",
            r"(?<![\w.}])/" + r"opt/\w",
            r"(?<![\w.}])/" + r"tmp/\w",
        )
    )
)
TEXT = {
    "", ".c", ".cff", ".cfg", ".cpp", ".cu", ".cuh", ".h", ".ini", ".ipynb", ".json", ".md", ".py",
    ".rst", ".sh", ".slurm", ".toml", ".txt", ".yaml", ".yml", ".Dockerfile", ".log",
}  # fmt: skip


def text_files():
    for name in repository_files():
        if name.suffix in TEXT:
            try:
                yield name, (ROOT / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:  # a data file without a suffix
                continue


def test_no_file_names_a_path_of_one_machine():
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in text_files()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_machine_path"),
    [
        ("cd /" + "work/main", True),
        ("open('/" + "home/someone/data')", True),
        ("see ../" + "shared/notes.md", True),
        ("https://example.org/" + "work/item", False),
        ("$HOME/" + "work/gpugrad", False),
        ("a frame/" + "work/flow", False),
    ],
)
def test_machine_path_is_recognised(line, is_machine_path):
    assert bool(MACHINE_PATHS.search(line)) == is_machine_path


def test_top_level_is_the_fixed_one():
    allowed = {
        "gpugrad", "kernels", "tests", "examples", "docker", "docs",
        "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff",
        "Makefile",
    }  # fmt: skip
    top = {name.parts[0] for name in repository_files()}
    assert {name for name in top if not name.startswith(".")} <= allowed


def test_kernels_folder_is_flat():
    assert [
        name for name in repository_files() if name.parts[0] == "kernels" and len(name.parts) != 2
    ] == []


def test_every_package_is_installed():
    """setuptools installs what pyproject.toml names: a forgotten package is lost to users."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        named = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    data_folders = {"gpugrad.boltzmann.data"}
    present = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")
    }
    assert named == (present - data_folders) | {"gpugrad.kernels"}
