"""All benchmarks, as one Markdown report on the screen and, with --output, in a file.

    python -m tests.bench [--output FILE] [NAME ...]

Each benchmark is a module here with `report() -> str`, which also runs alone:
`python -m tests.bench.NAME`. One that cannot run on this machine says why.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import traceback
from pathlib import Path

from tests import bench
from tests.bench import harness

HELPERS = {"__main__", "harness"}


def names() -> list[str]:
    """The benchmarks there are, in alphabetical order."""
    found = (module.name for module in pkgutil.iter_modules(bench.__path__))
    return sorted(
        name
        for name in found
        if name not in HELPERS
        and hasattr(importlib.import_module(f"{bench.__name__}.{name}"), "report")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench")
    parser.add_argument("--output", type=Path, help="a file that gets the report too")
    parser.add_argument("names", nargs="*", help="which benchmarks (all)")
    arguments = parser.parse_args()
    parts = [f"# Benchmarks\n\n{harness.conditions()}"]
    print(parts[0], flush=True)
    failed = []
    for name in arguments.names or names():
        try:
            text = importlib.import_module(f"{bench.__name__}.{name}").report()
        except Exception:
            failed.append(name)
            text = harness.not_run(name, f"it failed\n\n```\n{traceback.format_exc()}```")
        parts.append(f"## {name}\n\n{text}")
        print(parts[-1], flush=True)
        if arguments.output:  # after each one: a run that is cut short leaves what it had
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text("\n".join(parts), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
