"""The link between ranks by MPI."""

import math
import os
import pickle
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of, get_array_module, to_device
from gpugrad.boltzmann.communicator import Pending, Serial
from gpugrad.distributed.launcher import Launcher
from gpugrad.errors import DistributedError, MissingExtraError, ParameterError

__all__ = ["TIMEOUT", "MPICommunicator"]

TIMEOUT = 600.0
"""Seconds that a rank waits for the others before it takes them for lost."""

INSTALL = 'pip install "gpugrad[mpi]", or mpi4py for the MPI of this machine'
SPINS = 2000
"""Times that a transfer is looked at before a wait begins to sleep between two looks."""


def _mpi(started: Launcher | None) -> Any:
    by = "a link by MPI is asked for, "
    if started is not None:
        by = f"{started.name} started {started.size} processes, "
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MissingExtraError(
            f"distributed: {by}which needs mpi4py; it cannot be imported ({error}): {INSTALL}"
        ) from error
    except RuntimeError as error:  # mpi4py is there, the library is not
        raise MissingExtraError(f"distributed: {by}mpi4py finds no MPI ({error}): {INSTALL}") from (
            error
        )
    return MPI


class MPICommunicator:
    """All ranks of an MPI job.

    Every wait but `leave` looks at the clock: a rank that is gone, or hangs, without its launcher's
    notice ends in an error, not in silence.

    Parameters
    ----------
    timeout : float
        Seconds to wait for other ranks.
    cuda_aware : bool, optional
        Whether MPI may be given arrays on a GPU; they go by way of the host if not. If None, the
        environment variable GPUGRAD_CUDA_AWARE_MPI decides (1 or 0; 0 if it is not set).
    started : Launcher, optional
        Who started the processes; their number must be MPI's.

    Raises
    ------
    MissingExtraError
        mpi4py, or an MPI for it, is not installed.
    DistributedError
        MPI sees other processes than the launcher started.
    """

    def __init__(
        self,
        *,
        timeout: float = TIMEOUT,
        cuda_aware: bool | None = None,
        started: Launcher | None = None,
    ) -> None:
        if not timeout > 0:
            raise ParameterError(f"distributed: timeout is {timeout!r}, expected seconds above 0")
        self._MPI = MPI = _mpi(started)
        world = MPI.COMM_WORLD
        if started is not None and world.size != started.size:
            library = MPI.Get_library_version().split(",")[0].strip()
            hint = " (srun --mpi=pmix, or as `srun --mpi=list` says)" * (started.name == "srun")
            raise DistributedError(
                f"distributed: {started.name} started {started.size} processes, but MPI "
                f"({library}) sees {world.size}: expected the launcher of the MPI that mpi4py "
                f"uses{hint}"
            )
        # failures have a channel of their own, on which nothing else can be under way
        self._comm, self._failures = world.Dup(), world.Dup()
        self.timeout = float(timeout)
        if cuda_aware is None:
            cuda_aware = os.environ.get("GPUGRAD_CUDA_AWARE_MPI", "0") == "1"
        self.cuda_aware = cuda_aware
        shared = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank = int(shared.rank)
        shared.Free()

    @property
    def rank(self) -> int:
        """Which rank this is."""
        return int(self._comm.rank)

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self._comm.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank {self.rank} of {self.size})"

    def gather(self, array: Any) -> Pending:
        """Begin to give every rank the arrays of all ranks (see `communicator.Communicator`)."""
        if self.size == 1:
            return Serial().gather(array)
        device = device_of(array)
        if device.kind == "cpu":
            return self._gather(array, None)
        if not self.cuda_aware:
            return self._gather(asnumpy(array), device)
        # MPI does not know of streams: what makes the array must be over
        get_array_module(array).cuda.get_current_stream().synchronize()
        return self._gather(array, None)

    def _gather(self, sent: Any, device: Any) -> "_Transfer":
        sent = sent if sent.flags.c_contiguous else sent.copy()
        received = get_array_module(sent).empty((self.size, *sent.shape), sent.dtype)
        request = self._comm.Iallgather(self._bytes(sent), self._bytes(received))
        return _Transfer(self, request, sent, received, device)

    def _bytes(self, array: Any) -> list[Any]:
        # as bytes: MPI has no type for half precision
        return [array.reshape(-1).view("uint8"), self._MPI.BYTE]

    def exchange(self, value: Any) -> list[Any]:
        """What all ranks give, in their order; waits."""
        message = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = self.gather(np.array([message.size], np.int64)).wait().reshape(-1).tolist()
        received = np.empty(sum(sizes), np.uint8)
        starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        to = [received, sizes, starts[:-1], self._MPI.BYTE]
        self.finish(self._comm.Iallgatherv([message, self._MPI.BYTE], to))
        # from processes of this job, which run the same program
        return [pickle.loads(received[a:b].tobytes()) for a, b in pairwise(starts)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank; waits."""
        return bool(self.gather(np.array([flag], np.uint8)).wait().any())

    def finish(self, request: Any) -> None:
        """Wait for a transfer.

        Raises
        ------
        DistributedError
            The other ranks have not answered in time.
        """
        looks, deadline = 0, time.monotonic() + self.timeout
        while not request.Test():
            looks += 1
            if looks < SPINS:
                # with more ranks than cores the others need this one
                os.sched_yield() if hasattr(os, "sched_yield") else time.sleep(0)
                continue
            time.sleep(min(1e-5 * (looks - SPINS + 5), 0.01))
            if time.monotonic() > deadline:
                raise DistributedError(
                    f"distributed: rank {self.rank} has waited {self.timeout:g} s for the other "
                    f"{self.size - 1} ranks: one of them is lost, or hangs"
                )

    def all_failed(self, patience: float) -> bool:
        """Whether all ranks fail, or leave, within so many seconds: none is left waiting then."""
        request, deadline = self._failures.Ibarrier(), time.monotonic() + patience
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def leave(self) -> None:
        """Wait, asleep and however long, until all ranks have come here."""
        self.all_failed(math.inf)

    def abort(self) -> None:
        """End the processes of all ranks at once, with status 1."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._MPI.COMM_WORLD.Abort(1)


class _Transfer:
    """Arrays of all ranks, on their way."""

    def __init__(
        self, of: MPICommunicator, request: Any, sent: Any, received: Any, device: Any
    ) -> None:
        self.of, self.request, self.device = of, request, device
        # MPI reads and writes them until it is over
        self.sent, self.received = sent, received

    def poll(self) -> None:
        """Let MPI go on with it: without a thread of its own it does so only when called."""
        self.request.Test()

    def wait(self) -> Any:
        """The arrays, (size, ...)."""
        self.of.finish(self.request)
        return self.received if self.device is None else to_device(self.received, self.device)
