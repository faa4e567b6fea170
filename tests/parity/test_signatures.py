"""Signatures are those of mygrad 2.5.0, with gpugrad's own parameters after them by keyword."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Any

import pytest

import gpugrad
from tests.parity.test_paths import ABSENT_MODULES, THEIRS, UNIMPORTABLE, public_names

mygrad = pytest.importorskip("mygrad", reason="mygrad is not installed")

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

# name -> why its signature differs on purpose
EXCEPTIONS = {
    "math.misc.ops.Abs.__call__": "mygrad's takes anything; ours names what it passes on",
    "_tensor_core_ops.indexing.SetItem.__call__": "out= may be left out",
    "where": "None stands for an operand that is not given",
    "indexing_routines.funcs.where": "None stands for an operand that is not given",
}


def parameters(f: Callable, is_method: bool) -> list[Parameter] | None:
    try:
        found = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # written in C, without a signature
        return None
    # `self` has other names in functions that are methods as well
    return found[1:] if is_method else found


def text_of(default: Any) -> str:
    """A default for comparison; a sentinel or a class says what it is."""
    return getattr(default, "__name__", None) or repr(default)


def difference(theirs: list[Parameter], ours: list[Parameter]) -> str | None:
    """Why a call that mygrad accepts might be refused or mean something else; None if none does."""
    by_place = [(p.name, p.kind, text_of(p.default)) for p in theirs if p.kind in POSITIONAL]
    mine = [(p.name, p.kind, text_of(p.default)) for p in ours if p.kind in POSITIONAL]
    if by_place != mine:
        return f"by position: {by_place} in mygrad, {mine} here"
    for kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        if any(p.kind is kind for p in theirs) and not any(p.kind is kind for p in ours):
            return f"takes no {kind.description} parameters"
    by_name = {p.name: text_of(p.default) for p in theirs if p.kind is Parameter.KEYWORD_ONLY}
    mine_by_name = {p.name: text_of(p.default) for p in ours if p.kind is Parameter.KEYWORD_ONLY}
    for name, default in by_name.items():
        if mine_by_name.get(name) != default:
            return f"{name}={default} by keyword in mygrad, {mine_by_name.get(name)} here"
    needed = [name for name in mine_by_name if name not in by_name and is_required(ours, name)]
    return f"needs {needed}, which mygrad does not have" if needed else None


def is_required(found: list[Parameter], name: str) -> bool:
    return next(p for p in found if p.name == name).default is Parameter.empty


def methods_of(cls: type) -> Iterator[str]:
    for name in dir(cls):
        public = not name.startswith("_") or name in ("__init__", "__call__", "_op", "_in_place_op")
        if public and callable(getattr(cls, name)) and not isinstance(getattr(cls, name), type):
            yield name


def pairs() -> Iterator[tuple[str, Any, Any, bool]]:
    """Name, mygrad's and gpugrad's function, and whether it is a method."""
    left_out = {*ABSENT_MODULES, *UNIMPORTABLE}
    modules = ["", *(path for path in THEIRS if path not in left_out)]
    for path in modules:
        theirs = importlib.import_module(f"mygrad.{path}".rstrip("."))
        ours = importlib.import_module(f"gpugrad.{path}".rstrip("."))
        names = public_names(theirs) if path else [n for n in dir(theirs) if n[0] != "_"]
        for name in names:
            f, g = getattr(theirs, name), getattr(ours, name, None)
            if f is g or not callable(f) or inspect.ismodule(f):
                continue
            label = f"{path}.{name}".lstrip(".")
            if isinstance(g, type) and issubclass(g, gpugrad.ufunc):
                continue  # mygrad's ufuncs are classes, gpugrad's are instances of these
            if isinstance(f, type) and isinstance(g, type):
                for method in methods_of(f):
                    yield f"{label}.{method}", f, g, True
            elif inspect.isroutine(f) or isinstance(g, gpugrad.ufunc):
                yield label, f, g, False


PAIRS = {label: (f, g, is_method) for label, f, g, is_method in pairs()}


@pytest.mark.parametrize("label", PAIRS)
def test_signature_begins_as_mygrads(label):
    f, g, is_method = PAIRS[label]
    if is_method:
        name = label.rpartition(".")[2]
        assert hasattr(g, name)
        is_method = not isinstance(inspect.getattr_static(f, name), staticmethod | classmethod)
        f, g = getattr(f, name), getattr(g, name)
    theirs, ours = parameters(f, is_method), parameters(g, is_method)
    if theirs is None:
        assert callable(g)
        return
    assert ours is not None, "no signature to look at"
    found = difference(theirs, ours)
    if label in EXCEPTIONS:
        assert found, f"no difference any more, so not a row of EXCEPTIONS: {EXCEPTIONS[label]}"
    else:
        assert not found, found


def test_exceptions_are_of_functions_that_exist():
    assert set(EXCEPTIONS) <= set(PAIRS)


def of(f: Callable) -> list[Parameter]:
    return list(inspect.signature(f).parameters.values())


@pytest.mark.parametrize(
    ("ours", "same"),
    [
        (lambda a, axis=None, *, constant=None: a, True),
        (lambda a, axis=None, *, constant=None, out=None: a, True),
        (lambda a, axis=None, *, out=None, constant=None: a, True),
        (lambda a, axis=0, *, constant=None: a, False),
        (lambda x, axis=None, *, constant=None: x, False),
        (lambda a, axis=None, out=None, *, constant=None: a, False),
        (lambda a, *, axis=None, constant=None: a, False),
        (lambda a, axis=None: a, False),
        (lambda a, axis=None, *, constant=False: a, False),
        (lambda a, axis=None, *, constant=None, out: a, False),
        (lambda a, /, axis=None, *, constant=None: a, False),
    ],
)
def test_difference_is_seen(ours, same):
    theirs = of(lambda a, axis=None, *, constant=None: a)
    assert (difference(theirs, of(ours)) is None) == same
