"""Whether a part of a test leaves arrays guarded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from gpugrad.graph import guard
from gpugrad.graph.guard import guarded_count


def guarded() -> tuple[int, int]:
    """The numbers of arrays that are guarded, and that wait to be released with another."""
    return guarded_count(), len(guard._waiting)


@contextmanager
def leaves_no_lock() -> Iterator[None]:
    """As many arrays are guarded after the block as before it.

    No garbage is collected meanwhile: that of earlier tests may hold graphs, and what the block
    leaves may not wait for it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        before = guarded()
        yield
        assert guarded() == before
    finally:
        if collects:
            gc.enable()
