"""Where the repository lies, what belongs to it, and which module imports which."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gpugrad"


@cache
def project() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@cache
def repository_files() -> tuple[Path, ...]:
    """The files that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive has no .git
        return tuple(sorted(p for p in map(_relative, ROOT.rglob("*")) if _belongs(p)))
    names = (Path(name) for name in listed.decode().split("\0") if name)
    return tuple(sorted({p for p in names if (ROOT / p).is_file()}))


def _relative(path: Path) -> Path:
    return path.relative_to(ROOT)


def _belongs(path: Path) -> bool:
    """Whether a file is one of ours, where no git can tell."""
    made = {"__pycache__", "build", "dist", "runs"}
    return (
        (ROOT / path).is_file()
        and not made & set(path.parts)
        and not path.parts[0].startswith(".")
        and not path.parts[0].endswith(".egg-info")
    )


@cache
def package_modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package in the checkout."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        modules[".".join(parts)] = path
    return modules


class Import(NamedTuple):
    importer: str
    target: str
    line: int
    when_called: bool  # inside a function: not executed when the module is imported


def imports_of(module: str, source: str, modules: set[str], is_package: bool) -> list[Import]:
    """The imports of gpugrad's modules in `source`, those for type checking only left out."""
    found = []
    for node, when_called in _imports(ast.parse(source), when_called=False):
        for target in _targets(node, module, is_package, modules):
            if target.split(".")[0] == "gpugrad":
                found.append(Import(module, target, node.lineno, when_called))
    return found


def _imports(
    node: ast.AST, when_called: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, when_called
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from _imports(statement, when_called)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, when_called or is_function)


def _targets(
    node: ast.Import | ast.ImportFrom, module: str, is_package: bool, modules: set[str]
) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
        return
    if node.level:
        parts = module.split(".")
        package = parts[: len(parts) - node.level + is_package]
        origin = ".".join(package + ([node.module] if node.module else []))
    else:
        origin = node.module or ""
    for alias in node.names:
        submodule = f"{origin}.{alias.name}"
        yield submodule if submodule in modules else origin
