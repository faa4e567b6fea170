"""From how a process was started to its link with the others."""

import platform
import sys
from typing import Any

import numpy as np

from gpugrad.backend.array_module import (
    Device,
    cupy,
    cupy_if_loaded,
    current_device,
    on,
    parse_device,
)
from gpugrad.boltzmann.communicator import check_ranks
from gpugrad.distributed.jobs import ends_together
from gpugrad.distributed.launcher import launcher
from gpugrad.distributed.mpi import TIMEOUT, MPICommunicator
from gpugrad.distributed.nccl import NCCLCommunicator
from gpugrad.errors import ParameterError

__all__ = ["KINDS", "connect", "rank_device"]

KINDS = ("auto", "none", "mpi", "nccl")


def connect(
    kind: str = "auto", *, device: Any = None, timeout: float = TIMEOUT
) -> MPICommunicator | None:
    """The link to the other processes of this job; None where there are none.

    Parameters
    ----------
    kind : {"auto", "none", "mpi", "nccl"}
        "auto" finds out from the environment whether mpirun or srun started this process, and takes
        NCCL where it computes on a GPU.
    device : str or Device, optional
        Where this process computes; the current device if None. "cuda" stands for one GPU a rank:
        `rank_device` says which.
    timeout : float
        Seconds that a rank waits for the others before it takes them for lost.

    Returns
    -------
    MPICommunicator, or None

    Raises
    ------
    ParameterError
        An unknown kind.
    MissingExtraError
        A launcher has started several processes, or a link is asked for, but mpi4py is missing.
    DistributedError
        The launcher belongs to another MPI, or the ranks have different versions of gpugrad, NumPy
        or Python.
    """
    if kind not in KINDS:
        raise ParameterError(f"connect: kind is {kind!r}, expected one of {list(KINDS)}")
    started = launcher()
    if kind == "none" or (kind == "auto" and started is None):
        return None
    place = current_device() if device is None else parse_device(device)
    if kind == "auto":
        kind = "nccl" if place.kind == "cuda" else "mpi"
    link = MPICommunicator(timeout=timeout, started=started)
    check_ranks(link, "connect", versions())
    if kind == "mpi":
        return link
    with ends_together(link), on(rank_device(device, link)):
        return NCCLCommunicator(timeout=timeout, started=started)


def rank_device(device: Any, link: MPICommunicator | None) -> Device:
    """The device of this rank: of the GPUs that it sees, the one with its number on the node.

    Parameters
    ----------
    device : str or Device, optional
        The current device if None. One with a number ("cuda:1") is taken as it is.
    link : MPICommunicator, optional
    """
    place = current_device() if device is None else parse_device(device)
    numbered = isinstance(device, Device) or ":" in str(device or "")
    if link is None or place.kind == "cpu" or numbered:
        return place
    return parse_device(f"cuda:{link.local_rank % cupy().cuda.runtime.getDeviceCount()}")


def versions() -> dict[str, str]:
    """What must be the same on all ranks for equal numbers: the versions of what computes them."""
    found = {"gpugrad": sys.modules["gpugrad"], "NumPy": np, "CuPy": cupy_if_loaded()}
    told = {name: str(getattr(module, "__version__", None)) for name, module in found.items()}
    return {**told, "Python": platform.python_version()}
