"""Imports run downward only: the floors of the house, read from the source and held.

A module may import from its own floor and from those below it. `gpugrad` itself, the list of public
names, stands above the library: nothing in it imports from there, only the command line does.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.architecture.repository import Import, imports_of, package_modules

# Lowest first. A name stands for the module or package and everything in it.
PUBLIC = "gpugrad"  # the module of the public names alone, not all that it contains
FLOORS = (
    (
        "gpugrad.errors",
        "gpugrad.typing",
        "gpugrad.state",
        "gpugrad.atomic_file",
        "gpugrad.tree",
        "gpugrad.kernels",
    ),
    ("gpugrad.backend",),
    ("gpugrad.primitives",),
    ("gpugrad.graph",),
    ("gpugrad.views", "gpugrad.tensor", "gpugrad.apply", "gpugrad.mutation", "gpugrad.ufunc"),
    ("gpugrad.ops",),
    (
        "gpugrad.linalg",
        "gpugrad.operators",
        "gpugrad.dlpack",
        "gpugrad.numpy_functions",
        "gpugrad.protocols",
        "gpugrad.autodiff",
        "gpugrad.custom",
        "gpugrad.recompute",
        "gpugrad.gradients",
        "gpugrad.operation_base",
        "gpugrad.execution",
        "gpugrad.creators",
        "gpugrad.user_ufuncs",
        "gpugrad.tensor_attributes",
    ),
    (
        "gpugrad.nnet",
        "gpugrad.random",
        "gpugrad.io",
        "gpugrad.computational_graph",
        "gpugrad.testing",
    ),
    ("gpugrad.boltzmann",),
    ("gpugrad.distributed",),
    (PUBLIC, "gpugrad.aliases"),
    ("gpugrad.cli",),
)

# (importer, target): the reason why this one import may run upward.
ALLOWED: dict[tuple[str, str], str] = {}


def floor_of(module: str) -> int | None:
    """The floor of a module; None for a new module that nobody gave a floor."""
    for floor, names in enumerate(FLOORS):
        for name in names:
            if module == name or (name != PUBLIC and module.startswith(name + ".")):
                return floor
    return None


@cache
def all_imports() -> list[Import]:
    files = package_modules()
    return [
        found
        for module, path in files.items()
        for found in imports_of(
            module, path.read_text(encoding="utf-8"), set(files), path.name == "__init__.py"
        )
    ]


def runs_upward(found: Import) -> bool:
    importer, target = floor_of(found.importer), floor_of(found.target)
    return importer is not None and target is not None and importer < target


def test_every_module_has_a_floor():
    homeless = [module for module in package_modules() if floor_of(module) is None]
    assert homeless == [], "give these modules a place in FLOORS"


def test_imports_run_downward_only():
    upward = [
        f"{found.importer}:{found.line} imports {found.target}"
        for found in all_imports()
        if runs_upward(found) and (found.importer, found.target) not in ALLOWED
    ]
    assert upward == []


def test_allowed_exceptions_are_still_needed():
    used = {(found.importer, found.target) for found in all_imports() if runs_upward(found)}
    assert set(ALLOWED) <= used


def test_no_circle_of_imports():
    """Within one floor too: what a module needs to be imported never needs the module itself."""
    graph: dict[str, set[str]] = {}
    for found in all_imports():
        if not found.when_called and found.importer != found.target:
            # `import a.b.c` runs a and a.b first, but those packages may be half-way themselves.
            graph.setdefault(found.importer, set()).add(found.target)

    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in finished:
            return
        for target in sorted(graph.get(module, ())):
            visit(target, (*path, module))
        finished.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize(
    ("module", "is_package", "source", "expected"),
    [
        ("gpugrad.graph.sweep", False, "import gpugrad.ops.arithmetic", "gpugrad.ops.arithmetic"),
        ("gpugrad.graph.sweep", False, "from ..ops import arithmetic", "gpugrad.ops.arithmetic"),
        ("gpugrad.graph", True, "from ..ops.arithmetic import add", "gpugrad.ops.arithmetic"),
        ("gpugrad.graph", True, "from . import sweep", None),
        ("gpugrad.graph.sweep", False, "def f():\n    from gpugrad import ops", "gpugrad.ops"),
        ("gpugrad.graph.sweep", False, "try:\n    import gpugrad\nexcept E:\n    pass", "gpugrad"),
        ("gpugrad.graph.sweep", False, "from gpugrad.backend import rng", None),
        ("gpugrad.graph.sweep", False, "if TYPE_CHECKING:\n    from gpugrad import ops", None),
    ],
)
def test_upward_import_is_seen_however_it_is_written(module, is_package, source, expected):
    modules = {"gpugrad", "gpugrad.ops", "gpugrad.ops.arithmetic", "gpugrad.graph.sweep"}
    upward = [i.target for i in imports_of(module, source, modules, is_package) if runs_upward(i)]
    assert upward == ([expected] if expected else [])
