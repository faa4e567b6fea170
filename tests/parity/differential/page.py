"""The page "From MyGrad to gpugrad", written from the table that the tests use.

Run ``python -m tests.parity.differential.page docs/from_mygrad.md`` after a change of
`tests.parity.differential.differences.DIFFERENCES`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.parity.differential.differences import DIFFERENCES

__all__ = ["page"]

_HEAD = """\
# From MyGrad to gpugrad

A program for MyGrad 2.x runs after

    import gpugrad as mg

All public names, import paths and signatures of MyGrad 2.5.0 are there. The tests run random
programs under both packages, with views, in-place writes, `out=` and `where=`, and compare values,
gradients, flags, shared memory and the classes of errors. What differs is on purpose, and listed
here; whatever is not listed is the same.

<!-- Written by `python -m tests.parity.differential.page docs/from_mygrad.md` from the table that
the tests use (`DIFFERENCES` in tests/parity/differential/differences.py). Change the table, not
this page. -->

## All differences

| about | what is different |
|-|-|
"""


def page() -> str:
    """The page in Markdown: one row for each difference."""
    return _HEAD + "".join(f"| {name} | {text} |\n" for name, text in DIFFERENCES.items())


def _main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise SystemExit("usage: python -m tests.parity.differential.page docs/from_mygrad.md")
    Path(arguments[0]).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1:])
