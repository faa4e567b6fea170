"""How a job of several ranks begins and ends: all of them, or none."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpugrad import errors
from gpugrad.boltzmann.communicator import Communicator
from gpugrad.errors import DistributedError

__all__ = ["agreed", "ends_together"]

PATIENCE = 5.0
"""Seconds in which the other ranks may fail too, before one that has failed ends all."""


@contextmanager
def agreed(communicator: Communicator) -> Iterator[None]:
    """Where the body fails on one rank, it fails on all; no communication takes place inside.

    For what a rank does for itself: read its data, check its settings, open its device. A rank
    that fails raises its own error as it is; those that do not raise a DistributedError that names
    the first rank that failed, and its error.
    """
    caught: Exception | None = None
    try:
        yield
    except Exception as error:
        caught = error
    told = None if caught is None else f"{type(caught).__name__}: {caught}"
    failed = [(r, text) for r, text in enumerate(communicator.exchange(told)) if text is not None]
    if caught is not None:
        raise caught
    if failed:
        rank, text = failed[0]
        raise DistributedError(f"rank {rank}: {text}")


def _told_by_its_message(error: BaseException) -> bool:
    """Whether nobody needs a traceback: errors of the library, of the system, and requests."""
    named = type(error).__module__ == errors.__name__ or isinstance(error, OSError | MemoryError)
    return named or not isinstance(error, Exception)


@contextmanager
def ends_together(communicator: Communicator | None, advice: str = "") -> Iterator[None]:
    """Where one rank fails in the body and others wait for it, end all of them.

    An error that all ranks meet, such as a divergence, is raised on all. One that others do not
    meet within a few seconds is printed with the number of its rank, and the job is aborted with
    status 1.

    Parameters
    ----------
    communicator : Communicator, optional
        Nothing is done without one.
    advice : str
        What to do then; the end of the message.
    """
    try:
        yield
    except BaseException as error:
        link: Any = communicator
        if communicator is None or communicator.size == 1 or not hasattr(link, "abort"):
            raise
        if not link.all_failed(PATIENCE):
            if not _told_by_its_message(error):
                traceback.print_exc()
            print(
                f"gpugrad: error: rank {communicator.rank}: {type(error).__name__}: {error}; this "
                f"ends all {communicator.size} ranks{advice}",
                file=sys.stderr,
                flush=True,
            )
            link.abort()
        raise
