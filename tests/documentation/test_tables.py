"""The tables "name by name": what they name exists, here and, where it is installed, there."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.architecture.repository import ROOT
from tests.documentation.pages import pages

PAGES = ("paysage", "rbms", "sklearn")
HEADER = "| there | here | note |"


class Row(NamedTuple):
    page: str
    there: str
    here: str
    note: str


def rows_of(page: str) -> list[Row]:
    lines = (ROOT / "docs" / f"from_{page}.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(HEADER) + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        there, here, note = (cell.strip() for cell in line.strip("|").split(" | "))
        found.append(Row(page, there, here, note.strip("| ")))
    return found


ROWS = [row for page in PAGES for row in rows_of(page)]
IDS = [f"{row.page}-{number}" for number, row in enumerate(ROWS)]


def code_in(cell: str, root: str) -> list[str]:
    """The dotted names of a cell that begin with `root`."""
    return [c for c in re.findall(r"`([\w.]+)`", cell) if c == root or c.startswith(f"{root}.")]


def resolve(path: str) -> Any:
    """The object of a dotted name: the longest module, then attributes."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        name = ".".join(parts[:cut])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # a module that it needs is missing, not itself
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(path)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_names_here_exist(row):
    names = code_in(f"{row.here} {row.note}", "gpugrad")
    if row.here.startswith("`."):
        return  # of a fitted estimator: below
    assert code_in(row.here, "gpugrad"), f"no name of gpugrad in {row.here!r}"
    for name in names:
        resolve(name)


@pytest.mark.parametrize("package", ["sklearn", "rbms"])
def test_names_there_exist(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: the names on its side are not looked up")
    page = [row for row in ROWS if row.page == package]
    names = [name for row in page for name in code_in(row.there, package)]
    assert len(names) > 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, which rbms imports
        for name in names:
            resolve(name)


def test_learned_attributes_exist_in_both_estimators():
    network = pytest.importorskip("sklearn.neural_network")
    from gpugrad.boltzmann.estimator import BernoulliRBM

    names = [(r.there, r.here) for r in ROWS if r.page == "sklearn" and r.there.startswith("`.")]
    assert len(names) >= 4
    X = np.eye(6)
    theirs = network.BernoulliRBM(2, n_iter=1, random_state=0).fit(X)
    ours = BernoulliRBM(2, n_iter=1, random_state=0).fit(X)
    for there, here in names:
        assert np.shape(getattr(theirs, there.strip("`."))) == np.shape(
            getattr(ours, here.strip("`."))
        )


@pytest.mark.parametrize("package", ["paysage", "rbms"])
def test_tables_have_a_row_for_most_of_what_a_user_calls(package):
    assert len([row for row in ROWS if row.page == package]) > 25


@pytest.mark.parametrize("name", ["gpugrad.boltzmann.no_such_name", "gpugrad.no_such_module.fit"])
def test_a_name_that_does_not_exist_is_found_out(name):
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        resolve(name)


def test_options_of_the_command_line_exist():
    """Of `gpugrad` in the pages' shell examples, and in the table of rbms' options."""
    pytest.importorskip("typer")
    from typer.main import get_command

    from gpugrad.cli import evaluate, exchange, info, sample, train  # noqa: F401 - they register
    from gpugrad.cli.app import app

    commands = {
        name: {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        for name, command in get_command(app).commands.items()
    }
    calls = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        calls += re.findall(r"(?:^    |`)gpugrad (\w+)([^`\n#]*)", text, re.MULTILINE)
    assert len(calls) > 20
    for command, rest in calls:
        assert command in commands, f"gpugrad {command}"
        options = set(re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest))
        assert options <= commands[command] | {"--help"}, f"gpugrad {command}{rest}"
    for line in (ROOT / "docs" / "from_rbms.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `-"):
            ours = set(re.findall(r"`(--[\w-]+)`", line.split("|")[2]))
            assert ours <= commands["train"], line
