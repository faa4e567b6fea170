"""What griffe, which reads source without running it, cannot see of gpugrad's names.

Elementwise functions are objects made by a call (`exp = ufunc(EXP, ...)`), switches likewise, and a
tensor's methods are bound from a table. For these the running package is asked: their signature and
their docstring stand on the pages of the API as those of functions.
"""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|obj|ref):(`[^`]+`)")
_TYPE = re.compile(r"^\*{0,2}\w+(?:, \*{0,2}\w+)* : .*`.*$", re.MULTILINE)
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


class Names(griffe.Extension):
    """Puts in what only the running package knows."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Look at every module once the package is read."""
        if pkg.path == "gpugrad":
            self._visit(pkg)
            tensor = importlib.import_module("gpugrad").Tensor
            add_bound_methods(pkg["tensor.Tensor"], tensor)

    def _visit(self, module: griffe.Module) -> None:
        running = importlib.import_module(module.path)
        module.docstring = None  # a page introduces what it shows itself
        for name, member in list(module.members.items()):
            if member.is_alias:
                add_foreign(module, name, member.target_path)
                continue
            if member.is_module:
                if name != "cli":  # the command line is no module to import from
                    self._visit(member)
            elif member.is_attribute:
                add_runtime(module, name, getattr(running, name, None))
                member = module.members[name]
                if not member.docstring and name in getattr(running, "__all__", ()):
                    doc = f"`{getattr(running, name)!r}`"
                    member.docstring = griffe.Docstring(doc, parent=member)
            _plain_text(member)


def add_runtime(module: griffe.Module, name: str, value: Any) -> None:
    """Make a function of an attribute that is called, where it has a docstring of its own."""
    doc = value.__dict__.get("__doc__") if hasattr(value, "__dict__") else None
    if not callable(value) or isinstance(value, type | ModuleType):
        return
    doc = doc if isinstance(doc, str) else getattr(type(value), "__doc__", None)
    if any(kind.__module__ == "gpugrad.ufunc" for kind in type(value).__mro__) and doc:
        doc = doc.partition("\nParameters\n")[0]  # the same for all: the page says it once
    if not str(getattr(type(value), "__module__", "")).startswith("gpugrad"):
        return
    module.set_member(name, as_function(name, value, doc, module))


def add_foreign(module: griffe.Module, name: str, path: str) -> None:
    """What is an object of NumPy's or Python's, under its name here."""
    running = importlib.import_module(module.path)
    if path.startswith("gpugrad.") or name not in getattr(running, "__all__", ()):
        return
    value, doc = getattr(running, name), f"The same object as `{path}`."
    if callable(value) and not isinstance(value, type):
        module.set_member(name, as_function(name, value, doc, module))
    elif module.path != "gpugrad":  # constants and dtypes: its page lists them
        attribute = griffe.Attribute(name, parent=module, lineno=1, endlineno=1)
        attribute.docstring = griffe.Docstring(doc, parent=attribute)
        module.set_member(name, attribute)


def add_bound_methods(tensor: griffe.Class, running: type) -> None:
    """The methods that are bound to Tensor when gpugrad is imported."""
    for name, value in sorted(vars(running).items()):
        if name.startswith("_") or name in tensor.members or not inspect.isfunction(value):
            continue
        tensor.set_member(name, as_function(name, value, value.__doc__, tensor))


def as_function(name: str, value: Any, doc: str | None, parent: Any) -> griffe.Function:
    """A function for the page, with the signature and docstring of the running object."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    function = griffe.Function(
        name,
        parameters=griffe.Parameters(
            *(
                griffe.Parameter(
                    p.name,
                    kind=_KINDS[p.kind],
                    default=None if p.default is p.empty else repr(p.default),
                )
                for p in parameters
            )
        ),
        parent=parent,
        lineno=1,
        endlineno=1,
    )
    if doc:
        function.docstring = griffe.Docstring(
            inspect.cleandoc(doc), parent=function, parser="numpy"
        )
        _plain_text(function)
    return function


def _plain_text(thing: Any) -> None:
    """What Markdown does not know: :func:`numpy.exp` -> `numpy.exp`; no code marks in a type."""
    if thing.is_alias:
        return
    if thing.docstring:
        text = _ROLE.sub(r"\1", thing.docstring.value)
        thing.docstring.value = _TYPE.sub(lambda line: line[0].replace("`", ""), text)
    if thing.is_class:
        for member in thing.members.values():
            _plain_text(member)
