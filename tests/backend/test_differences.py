"""The page "Differences on the GPU" is what the table says, and the table names what is helped."""

from __future__ import annotations

from typing import Any

from gpugrad.backend import cupy_functions
from gpugrad.backend.differences import CONCERNED, page
from gpugrad.backend.vocabulary import DIFFERENCES, ELEMENTWISE, numpy_namespace
from tests.architecture.repository import ROOT


def test_committed_page_is_the_one_that_the_table_gives():
    committed = (ROOT / "docs" / "gpu_differences.md").read_text(encoding="utf-8")
    assert committed == page(), "run: python -m gpugrad.backend.differences docs/gpu_differences.md"


def test_every_difference_says_which_functions_it_concerns():
    assert sorted(CONCERNED) == sorted(row.name for row in DIFFERENCES)
    words = {word for words in CONCERNED.values() for word in words if " " not in word}
    assert sorted(words - set(vars(numpy_namespace))) == []


def test_every_function_in_which_cupy_is_helped_has_a_row(cupy_standin: Any):
    helped = set(cupy_functions.helped(cupy_standin, ELEMENTWISE)) - set(ELEMENTWISE)
    named = {word for words in CONCERNED.values() for word in words}
    assert sorted(helped - named) == []


def test_page_shows_every_row_and_every_function():
    text = page()
    for i, row in enumerate(DIFFERENCES, 1):
        assert f"| {i} | {row.name} | {row.numpy} |" in text
    number = [row.name for row in DIFFERENCES].index("einsum out=") + 1
    assert f"| `einsum` | {number} |" in text
