"""Who started this process as one of several: read from the environment, nothing is imported."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launcher", "launcher"]

# Open MPI first: inside a Slurm job its daemons are started by srun, whose variables they inherit.
_MPI = (
    ("mpirun (Open MPI)", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun (MVAPICH)", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("mpirun (PMI)", "PMI_SIZE", "PMI_RANK"),
)
_SLURM = ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")


@dataclass(frozen=True)
class Launcher:
    """What started the process.

    Attributes
    ----------
    name : str
    size, rank : int
        Processes that it started, and the number of this one.
    """

    name: str
    size: int
    rank: int


def launcher(environment: Mapping[str, str] | None = None) -> Launcher | None:
    """The launcher that started this process as one of several, or None.

    A step of srun with a single task is none: people run single programs by srun. (Nor is a batch
    script, which has the variables of its job but is no step.) `mpirun -n 1` is one.

    Parameters
    ----------
    environment : mapping of str, optional
        `os.environ` if None.

    Examples
    --------
    >>> from gpugrad.distributed.launcher import launcher
    >>> launcher({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"})
    Launcher(name='mpirun (Open MPI)', size=4, rank=2)
    >>> launcher({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a batch script
    True
    """
    given = os.environ if environment is None else environment
    by_slurm = _read(given, *_SLURM)
    for name, size, rank in _MPI:
        found = _read(given, name, size, rank)
        # srun offers PMI to its tasks as well
        if found is not None and "PMI" in name and by_slurm is not None:
            break
        if found is not None:
            return found
    return by_slurm if by_slurm is not None and by_slurm.size > 1 else None


def _read(given: Mapping[str, str], name: str, size: str, rank: str) -> Launcher | None:
    count, number = given.get(size, ""), given.get(rank, "0")
    if not count.isdecimal() or not number.isdecimal() or int(count) < 1:
        return None
    return Launcher(name, int(count), int(number))
