"""What `import gpugrad` adds to `import numpy`: fresh interpreters in turn, the least of many.

python -m tests.bench.import_time
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tests.bench import harness

BUDGET = 1.3

# Timed inside the new interpreter: the interpreter's own start is the same for both.
PROGRAM = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def seconds_to_import(module: str, bytecode: str) -> float:
    """Seconds in a new interpreter that finds bytecode, kept in the folder `bytecode`, as that of
    an installed package does, whatever the environment says about writing it."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(run.stdout)


def measure(runs: int = 15) -> dict[str, harness.Timing]:
    """The time of each import over `runs` interpreters in turn, after one that compiles."""
    modules = ("numpy", "gpugrad")
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    with tempfile.TemporaryDirectory() as bytecode:
        for module in modules:
            seconds_to_import(module, bytecode)
        for _ in range(runs):
            for module in modules:
                seconds[module].append(seconds_to_import(module, bytecode))
    return {
        f"import {module}": harness.Timing(min(s), sorted(s)[runs // 2], runs)
        for module, s in seconds.items()
    }


def report() -> str:
    timings = measure()
    return harness.table("Import time", timings, against="import numpy") + harness.verdict(
        timings, "import gpugrad", "import numpy", BUDGET
    )


if __name__ == "__main__":
    print(harness.conditions())
    print(report())
