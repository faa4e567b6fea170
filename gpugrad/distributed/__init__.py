"""Training and annealing by several processes: started by mpirun or srun, linked by MPI and NCCL.

    from gpugrad.distributed import connect

    fit(model, images, communicator=connect(), rng=Generator(1))

A process that nobody started as one of many gets None and trains as ever. What is guaranteed, and
what happens when a process dies, is in docs/cluster.md.
"""

from gpugrad.distributed.connect import KINDS, connect, rank_device
from gpugrad.distributed.jobs import agreed, ends_together
from gpugrad.distributed.launcher import Launcher, launcher
from gpugrad.distributed.mpi import MPICommunicator
from gpugrad.distributed.nccl import NCCLCommunicator

__all__ = [
    "KINDS",
    "Launcher",
    "MPICommunicator",
    "NCCLCommunicator",
    "agreed",
    "connect",
    "ends_together",
    "launcher",
    "rank_device",
]
