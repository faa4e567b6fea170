"""Several processes that train one machine together: what training asks of the link between them.

Each process is a rank. All of them run the same program on the same data and hold the same
parameters; they differ in which shards of the batch and of the chains they work on (see `sharded`).
Every method is called by all ranks, in the same order. Links by MPI and NCCL are in
`gpugrad.distributed`; here is the one of a process that is alone.
"""

import zlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Protocol

from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.agreement import difference
from gpugrad.boltzmann.state import positive_int
from gpugrad.errors import DistributedError, ParameterError

__all__ = [
    "SHARDS",
    "Communicator",
    "Pending",
    "Serial",
    "check_ranks",
    "checksums",
    "cut",
    "own_shards",
    "shards_of",
]

SHARDS = 8
"""Shards of a job that is not told their number."""


class Pending(Protocol):
    """A transfer that is under way."""

    def poll(self) -> None:
        """Help it along without waiting."""

    def wait(self) -> Any:
        """Its result, once it is there; on a GPU, once what is queued after this may use it."""


class Communicator(Protocol):
    """The link between the ranks of a job.

    Attributes
    ----------
    rank, size : int
        Which rank this is, and how many there are.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def gather(self, array: Any) -> Pending:
        """Begin to give every rank the arrays of all ranks, (size, ...), in the order of ranks.

        The array, of equal shape and dtype on all ranks and contiguous, is left alone until
        `wait` has returned.
        """

    def exchange(self, value: Any) -> list[Any]:
        """What all ranks give, in their order: anything that can be pickled; waits."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank; waits."""


class _Done:
    def __init__(self, result: Any) -> None:
        self.result = result

    def poll(self) -> None:
        pass

    def wait(self) -> Any:
        return self.result


class Serial:
    """The communicator of a process that is alone."""

    rank, size = 0, 1

    def gather(self, array: Any) -> Pending:
        """The array itself, as the only one."""
        return _Done(array[None])

    def exchange(self, value: Any) -> list[Any]:
        """The value, as the only one."""
        return [value]

    def any(self, flag: bool) -> bool:
        """The flag."""
        return bool(flag)


def shards_of(function: str, shards: int | None, communicator: Communicator | None) -> int | None:
    """The number of shards: as given, 8 where only a communicator is, None without either.

    Raises
    ------
    ParameterError
        Fewer shards than ranks.
    """
    if shards is None and communicator is None:
        return None
    n = SHARDS if shards is None else positive_int(function, "shards", shards)
    if communicator is not None and n < communicator.size:
        raise ParameterError(
            f"{function}: shards is {n} on {communicator.size} ranks, expected at least one a rank"
        )
    return n


def cut(n: int, parts: int) -> list[slice]:
    """n rows cut into consecutive parts whose sizes differ by one at most.

    >>> [part.stop - part.start for part in cut(10, 4)]
    [2, 3, 2, 3]
    """
    ends = [n * i // parts for i in range(parts + 1)]
    return [slice(first, stop) for first, stop in pairwise(ends)]


def own_shards(shards: int, rank: int, size: int) -> range:
    """The shards of a rank: consecutive ones."""
    part = cut(shards, size)[rank]
    return range(part.start, part.stop)


def checksums(arrays: Mapping[str, Any]) -> dict[str, int]:
    """A checksum of each array's values; waits for the device."""
    return {name: zlib.crc32(asnumpy(array).tobytes()) for name, array in arrays.items()}


def check_ranks(communicator: Communicator, function: str, mine: Mapping[str, Any]) -> None:
    """Refuse to go on where what the ranks hold differs; all ranks raise the same error.

    Parameters
    ----------
    communicator : Communicator
    function : str
        For the message.
    mine : mapping
        Of the same names on all ranks, in the same order.

    Raises
    ------
    DistributedError
        It names the first rank that differs from rank 0, and in what.
    """
    found = communicator.exchange(dict(mine))
    for rank, theirs in enumerate(found):
        for name, expected in found[0].items():
            # as text: a nan, which somebody else refuses, is not equal to itself
            if repr(theirs.get(name)) != repr(expected):
                there, here = difference(theirs.get(name), expected)
                raise DistributedError(
                    f"{function}: rank {rank} has {name} {there}, rank 0 has {here}: expected the "
                    "same on all ranks"
                )
