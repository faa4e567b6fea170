"""The examples in docstrings run as they stand; those of the pages: tests/documentation."""

from __future__ import annotations

import doctest
import importlib
from types import FunctionType, ModuleType

import pytest

from tests.architecture.repository import ROOT, package_modules

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITH_EXAMPLES = [
    name
    for name, path in package_modules().items()
    if ">>> " in path.read_text(encoding="utf-8") and not name.startswith("gpugrad.cli")
]


def examples_in(module: ModuleType) -> list[doctest.DocTest]:
    """The examples of the module's functions and classes, and of objects with a docstring of their
    own (a switch such as `no_autodiff`), which doctest does not look at."""
    found = doctest.DocTestFinder().find(module)
    for name, value in vars(module).items():
        if not str(getattr(value, "__module__", "")).startswith("gpugrad"):
            continue  # a name of NumPy's
        text = getattr(value, "__dict__", {}).get("__doc__")
        if isinstance(text, str) and not isinstance(value, type | ModuleType | FunctionType):
            parser = doctest.DocTestParser()
            found.append(parser.get_doctest(text, dict(vars(module)), name, module.__file__, None))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_print_what_they_say(name):
    examples = examples_in(importlib.import_module(name))
    assert examples, "the examples stand in no docstring"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in examples:
        runner.run(example)
    assert runner.failures == 0


@pytest.mark.parametrize("command", ["make train", "make test"])
def test_readme_names_the_two_commands(command):
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
