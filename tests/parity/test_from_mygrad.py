"""The page "From MyGrad to gpugrad" is what the table of differences says."""

from __future__ import annotations

import numpy as np
import pytest

import gpugrad as gg
from tests.architecture.repository import ROOT
from tests.parity.differential.differences import DIFFERENCES
from tests.parity.differential.page import page

COMMAND = "python -m tests.parity.differential.page docs/from_mygrad.md"


def test_committed_page_is_the_one_that_the_table_gives():
    committed = (ROOT / "docs" / "from_mygrad.md").read_text(encoding="utf-8")
    assert committed == page(), f"run: {COMMAND}"


def test_page_shows_every_difference_in_a_row_of_its_own():
    rows = [line for line in page().splitlines() if line.startswith("| ")]
    assert len(rows) == len(DIFFERENCES) + 1
    for name, text in DIFFERENCES.items():
        assert f"| {name} | {text} |" in rows
        assert "|" not in name + text and "\n" not in text


def test_readme_leads_to_the_page():
    assert "(docs/from_mygrad.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_backward_twice_raises_as_the_page_says():
    x = gg.tensor([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(gg.InvalidBackprop):
        y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])
