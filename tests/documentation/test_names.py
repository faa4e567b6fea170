"""Every public name stands on a page of the API, and whatever a page shows is public."""

from __future__ import annotations

import importlib
import re
from functools import cache
from types import ModuleType

import pytest

from tests.architecture.repository import ROOT
from tests.documentation.pages import blocks_of, pages

API = ROOT / "docs" / "api"
_BLOCK = re.compile(r"^::: (?P<module>[\w.]+)\n(?P<options>(?:    .*\n|\n)*)", re.MULTILINE)
_MEMBERS = re.compile(r"members: \[(.*?)\]", re.DOTALL)
# Modules whose every name is promised. Of others only some names are: those on the pages.
COMPLETE = (
    "gpugrad",
    "gpugrad.backend.rng",
    "gpugrad.boltzmann",
    "gpugrad.boltzmann.callbacks",
    "gpugrad.boltzmann.checkpoint",
    "gpugrad.boltzmann.constraints",
    "gpugrad.boltzmann.datasets",
    "gpugrad.boltzmann.estimator",
    "gpugrad.boltzmann.gradient_util",
    "gpugrad.boltzmann.interchange",
    "gpugrad.boltzmann.layers",
    "gpugrad.boltzmann.logs",
    "gpugrad.boltzmann.observables",
    "gpugrad.boltzmann.pictures",
    "gpugrad.boltzmann.plots",
    "gpugrad.boltzmann.schedules",
    "gpugrad.computational_graph",
    "gpugrad.distributed",
    "gpugrad.errors",
    "gpugrad.gradients",
    "gpugrad.linalg",
    "gpugrad.linalg.funcs",
    "gpugrad.nnet",
    "gpugrad.nnet.layers.utils",
    "gpugrad.operation_base",
    "gpugrad.random",
    "gpugrad.testing",
    "gpugrad.typing",
)
# for the package's own modules, not for users
INTERNAL = {"gpugrad.errors": {"composite", "explain"}}


@cache
def text_of_the_pages() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in sorted(API.glob("*.md")))


@cache
def shown() -> list[tuple[str, str]]:
    """(module, name) of everything that the pages show, with repetitions."""
    found = []
    for block in _BLOCK.finditer(text_of_the_pages() + "\n"):
        members = _MEMBERS.search(block["options"])
        if members:
            names = [name.strip() for name in members[1].split(",") if name.strip()]
            found += [(block["module"], name) for name in names]
        else:  # a name that a module of the same name hides from the tool that reads the source
            found.append(public_place(block["module"]))
    return found


def public_place(path: str) -> tuple[str, str]:
    """Of the defining module's name for an object, the public one: the package that exports it."""
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    parts = path.split(".")
    for cut in range(1, len(parts)):
        package = importlib.import_module(".".join(parts[:cut]))
        if name in getattr(package, "__all__", ()) and getattr(package, name) is value:
            return package.__name__, name
    raise AssertionError(f"{path} is exported by no package")


def exported(module: str) -> set[str]:
    return set(importlib.import_module(module).__all__) - INTERNAL.get(module, set())


def is_told_in_words(module: str, name: str) -> bool:
    """NumPy's constants and dtypes, by name, and modules, whose names are on a page."""
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, ModuleType):
        return any(where.startswith(value.__name__) for where, _ in shown()) or (
            f"`{value.__name__}`" in text_of_the_pages()
        )
    told = any(f"`{words}`" in text_of_the_pages() for words in (name, f"{module}.{name}"))
    numpys = getattr(value, "__module__", "").startswith("numpy")
    return told and (numpys or isinstance(value, float | type(None)))


@pytest.mark.parametrize("module", COMPLETE)
def test_every_public_name_is_on_a_page(module):
    on_pages = {name for where, name in shown() if where == module}
    missing = {n for n in exported(module) - on_pages if not is_told_in_words(module, n)}
    # what another module shows is not shown twice
    elsewhere = {
        name
        for name in missing
        for where, other in shown()
        if other == name
        and getattr(importlib.import_module(where), name)
        is getattr(importlib.import_module(module), name)
    }
    assert missing - elsewhere == set(), f"put them on a page of {API.relative_to(ROOT)}"


def test_pages_show_only_what_is_public():
    assert [f"{where}.{name}" for where, name in shown() if name not in exported(where)] == []


def test_no_name_is_shown_twice():
    assert sorted(set(shown())) == sorted(shown())


def test_every_page_of_the_api_is_in_its_table_of_contents():
    contents = (API / "index.md").read_text(encoding="utf-8")
    assert [
        p.name for p in API.glob("*.md") if p.stem != "index" and f"({p.name})" not in contents
    ] == []


def test_what_the_pages_import_is_public():
    """A reader who copies an import relies on it: it has to be among what is promised."""
    promised = {*shown(), *((m, n) for m in COMPLETE for n in exported(m))}
    modules = {module for module, _ in promised}
    unknown = []
    for page in pages():
        for block in blocks_of(page.read_text(encoding="utf-8")):
            imports = re.findall(r"^from (gpugrad[\w.]*) import ([\w, ]+)", block.source, re.M)
            for module, names in imports:
                for name in (part.split(" as ")[0].strip() for part in names.split(",")):
                    if (module, name) not in promised and f"{module}.{name}" not in modules:
                        unknown.append(f"{page.name}: from {module} import {name}")
    assert unknown == []
