"""What `import gpugrad` adds to `import numpy`: fresh interpreters in turn, the least of many.

python -m tests.bench.import_time
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.bench import harness

BUDGET = 1.3

# Timed inside the new interpreter: the interpreter's own start is the same for both.
PROGRAM = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def seconds_to_import(module: str) -> float:
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(runs: int = 15) -> dict[str, harness.Timing]:
    """The time of each import over `runs` interpreters in turn, after one to warm the disk."""
    modules = ("numpy", "gpugrad")
    for module in modules:
        seconds_to_import(module)
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(runs):
        for module in modules:
            seconds[module].append(seconds_to_import(module))
    return {
        f"import {module}": harness.Timing(min(s), sorted(s)[runs // 2], runs)
        for module, s in seconds.items()
    }


def report(arguments: Sequence[str] = ()) -> str:
    timings = measure()
    return harness.table("Import time", timings, against="import numpy") + harness.verdict(
        timings, "import gpugrad", "import numpy", BUDGET
    )


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
