"""The link between ranks with one GPU each: arrays by NCCL, all else by MPI."""

from typing import Any

from gpugrad.backend.array_module import cupy, device_of
from gpugrad.boltzmann.communicator import Pending
from gpugrad.distributed.mpi import TIMEOUT, MPICommunicator
from gpugrad.errors import DistributedError

__all__ = ["NCCLCommunicator"]


class NCCLCommunicator(MPICommunicator):
    """All ranks of an MPI job, each with the GPU that is current when this is made.

    Arrays on that GPU are exchanged by `cupyx.distributed` on a stream of their own, beside what is
    computed; nothing waits on the host. Everything else goes by MPI.

    Parameters
    ----------
    timeout, started
        As `MPICommunicator` takes them.

    Raises
    ------
    DistributedError
        NCCL is not installed, or does not start; the message says why.
    """

    def __init__(self, *, timeout: float = TIMEOUT, started: Any = None) -> None:
        super().__init__(timeout=timeout, cuda_aware=False, started=started)
        try:
            from cupyx.distributed import init_process_group

            self._backend = init_process_group(self.size, self.rank, backend="nccl", use_mpi=True)
        except (ImportError, RuntimeError) as error:
            raise DistributedError(
                f"distributed: NCCL does not start on rank {self.rank} ({error}): expected "
                "nvidia-nccl and one GPU a rank, or the communicator 'mpi'"
            ) from error
        # not the stream that everything else is queued on, and not one that waits for it
        self._stream = cupy().cuda.Stream(non_blocking=True)

    def gather(self, array: Any) -> Pending:
        """Begin to give every rank the arrays of all ranks (see `communicator.Communicator`)."""
        if device_of(array).kind == "cpu":
            return super().gather(array)
        xp = cupy()
        received = xp.empty((self.size, *array.shape), array.dtype)
        made = xp.cuda.Event(disable_timing=True)
        made.record()
        self._stream.wait_event(made)
        self._backend.all_gather(array, received, array.size, stream=self._stream)
        there = xp.cuda.Event(disable_timing=True)
        there.record(self._stream)
        return _Queued(array, received, there)


class _Queued:
    """Arrays of all ranks that a stream is going to receive."""

    def __init__(self, sent: Any, received: Any, there: Any) -> None:
        self.sent, self.received, self.there = sent, received, there

    def poll(self) -> None:
        """Nothing: the GPU needs no help."""

    def wait(self) -> Any:
        """The arrays, (size, ...), for what is queued after this; the host does not wait."""
        cupy().cuda.get_current_stream().wait_event(self.there)
        return self.received
