"""The pages of the documentation and the Python in them.

    python -m tests.documentation.pages PAGE [--gpu]

runs the ```python blocks of a page as one program, from top to bottom. After `# -> ` stands what a
statement prints, with `...` for what differs from machine to machine. A block under the line
`<!-- gpu -->` needs a CUDA device and is left out without --gpu; one under
`<!-- not run: reason -->` is never run.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import sys
import types
import warnings
from pathlib import Path
from typing import NamedTuple

from tests.architecture.repository import ROOT

__all__ = ["Block", "blocks_of", "pages", "run"]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>gpu|not run: [^>]+?) -->\n+)?```python\n(?P<source>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_SAYS = re.compile(r"#\s*->\s?(.*)$")


class Block(NamedTuple):
    """A block of Python on a page."""

    source: str
    line: int  # of the page, where the source starts
    gpu: bool
    runs: bool


def pages() -> list[Path]:
    """Every page that people read: the site's own ones and those it takes from elsewhere."""
    elsewhere = ("README.md", "CONTRIBUTING.md", "docker/README.md", "kernels/README.md")
    return [*(ROOT / name for name in elsewhere), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(text: str) -> list[Block]:
    """The Python blocks of a page."""
    found = []
    for match in _BLOCK.finditer(text):
        mark = match["mark"] or ""
        line = text.count("\n", 0, match.start("source")) + 1
        found.append(Block(match["source"], line, mark == "gpu", not mark.startswith("not run")))
    return found


def run(page: Path, *, gpu: bool = False) -> None:
    """Run the blocks of a page in one namespace.

    Raises
    ------
    AssertionError
        A statement printed something else than the page says.
    """
    module = types.ModuleType("__main__")  # pickles and dataclasses look for their module
    sys.modules["__main__"] = module
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.runs and (gpu or not block.gpu):
            _run_block(block, page, vars(module))


def _run_block(block: Block, page: Path, names: dict[str, object]) -> None:
    lines = block.source.splitlines()
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    tree = ast.parse(block.source)
    ast.increment_lineno(tree, block.line - 1)
    for statement in tree.body:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module([statement], []), str(page), "exec"), names)
        end = statement.end_lineno or statement.lineno
        says = _SAYS.search(lines[end - block.line])
        if says and not checker.check_output(says[1] + "\n", printed.getvalue(), flags):
            raise AssertionError(
                f"{page}:{end}: prints {printed.getvalue()!r}, the page says {says[1]!r}"
            )


if __name__ == "__main__":
    warnings.simplefilter("error")
    run(Path(sys.argv[1]).resolve(), gpu="--gpu" in sys.argv[2:])
