"""`import gpugrad` costs NumPy and fastrlock and nothing else that a person would notice."""

from __future__ import annotations

import json

from tests.fresh_python import output_of

HEAVY = (
    "cupy",
    "cupyx",
    "graphviz",
    "h5py",
    "hypothesis",
    "importlib.metadata",
    "matplotlib",
    "mpi4py",
    "multiprocessing",
    "pandas",
    "PIL",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "tables",
    "torch",
    "typer",
)
ALLOWED_PACKAGES = {"numpy", "fastrlock", "gpugrad"}

# Everything outside the standard library that `import gpugrad` loads, and the heavy parts inside it
# that `import numpy` alone would not have loaded.
PROBE = """
import sys
before = set(sys.modules)
import numpy
with_numpy = set(sys.modules)
import gpugrad
import json
# Extension modules register helpers without a spec, such as cython_runtime: nobody imported them.
added = {name for name in set(sys.modules) - before if getattr(sys.modules[name], "__spec__", None)}
third_party = {name.split(".")[0] for name in added} - set(sys.stdlib_module_names)
print(json.dumps([sorted(third_party), sorted(set(sys.modules) - with_numpy)]))
"""


def imported_by_gpugrad() -> tuple[set[str], set[str]]:
    third_party, added = json.loads(output_of(PROBE))
    # Modules of the editable install's finder and of site customisations are not gpugrad's doing.
    return {name for name in third_party if not name.startswith("_")}, set(added)


def test_import_loads_numpy_and_fastrlock_only():
    third_party, _ = imported_by_gpugrad()
    assert third_party <= ALLOWED_PACKAGES


def test_import_loads_nothing_heavy():
    _, added = imported_by_gpugrad()
    assert added.isdisjoint(HEAVY)
    assert not any(name.startswith("gpugrad.cli") for name in added)
