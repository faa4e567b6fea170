"""The examples in the pages run as they stand, and print what stands beside them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.architecture.repository import ROOT
from tests.documentation.pages import blocks_of, pages, run

PAGES = {page.relative_to(ROOT).as_posix(): page for page in pages()}
BLOCKS = {name: blocks_of(page.read_text(encoding="utf-8")) for name, page in PAGES.items()}
NEEDS = {  # beside what the package needs itself; the command's extra is always there in the tests
    "docs/from_sklearn.md": "sklearn",
    "docs/looking.md": "matplotlib",
    "docs/interchange.md": "safetensors",
}


def run_page(name: str, folder, *options: str) -> None:
    command = [sys.executable, "-m", "tests.documentation.pages", str(PAGES[name]), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [n for n, blocks in BLOCKS.items() if any(b.runs for b in blocks)])
def test_examples_of_a_page_run_and_print_what_it_says(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    run_page(name, tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [n for n, blocks in BLOCKS.items() if any(b.gpu for b in blocks)])
def test_examples_for_a_gpu_run_and_print_what_the_page_says(name, tmp_path):
    run_page(name, tmp_path, "--gpu")


@pytest.mark.parametrize("name", ["README.md", "docs/first_steps.md", "docs/training.md"])
def test_pages_that_people_read_first_have_examples(name):
    assert any(block.runs and not block.gpu for block in BLOCKS[name])


def test_a_block_that_prints_something_else_is_reported(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nx = 2\nprint(x)  # -> 2\nprint(x + 1)  # -> 4\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:6: prints '3\\n', the page says '4'"):
        run(page)


def test_marked_blocks_are_left_out(tmp_path):
    page = tmp_path / "page.md"
    fails = "```python\nraise RuntimeError\n```\n"
    page.write_text(f"<!-- gpu -->\n{fails}\n<!-- not run: no device -->\n{fails}")
    run(page)
    with pytest.raises(RuntimeError):
        run(page, gpu=True)
