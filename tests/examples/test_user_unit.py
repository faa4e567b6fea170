"""The example of a user's own unit runs as it stands and learns, on less data."""

from __future__ import annotations

from tests.architecture.repository import ROOT
from tests.fresh_python import output_of

EXAMPLES = ROOT / "examples"


def test_example_learns_with_units_that_the_package_does_not_have():
    """Five seeds left 0.26 to 0.29 of 0.67 nats after four short epochs."""
    program = "import user_unit; print(user_unit.main(epochs=4, samples=2000))"
    assert 0 < float(output_of(program, EXAMPLES).split()[-1]) < 0.36


def test_example_is_short():
    assert len((EXAMPLES / "user_unit.py").read_text(encoding="utf-8").splitlines()) < 100
