"""How many threads NumPy's products have, and how to hold them to one for a while.

OpenBLAS, which NumPy multiplies with, has threads of its own. After a product they go on looking
for the next one for some 20 ms, on the CPUs that the array work between two products could use; and
where the machine has other work, each product waits for whichever thread was put off. On two CPUs
whoever multiplies and draws in turn does better on two threads that do both (`host_threads`):

    threads of BLAS        | product |          | product |              one CPU draws,
                           | product | (looks)  | product | (looks)      the other looks on
    within one_blas_thread | product | draw | product | draw |
                           | product | draw | product | draw |

With more CPUs, or another BLAS, nothing changes.
"""

import ctypes
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np

__all__ = ["blas_threads", "held_to_one", "one_blas_thread"]


MANY_MULTIPLICATIONS = 2 * 10**9
"""They take two threads about 15 ms, hardly longer than BLAS' threads look for work."""


class _OpenBLAS(NamedTuple):
    get_threads: Callable[[], int]
    set_threads: Callable[[int], None]


@cache
def _openblas() -> _OpenBLAS | None:
    """The OpenBLAS that NumPy is linked with, if it can be asked and has threads of its own."""
    try:
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        return None
    # NumPy's wheels rename the symbols; distributions do not
    for before, after in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
        try:
            kind, get, put = (
                getattr(library, f"{before}openblas_{name}{after}")
                for name in ("get_parallel", "get_num_threads", "set_num_threads")
            )
        except AttributeError:
            continue
        # 1: its own threads. OpenMP's are counted for each calling thread
        return _OpenBLAS(get, put) if kind() == 1 else None
    return None


class _Holders:
    """How many hold BLAS to one thread, and how many threads it had before."""

    def __init__(self) -> None:
        self.lock, self.count, self.threads = threading.Lock(), 0, 1

    def enter(self) -> bool:
        blas = _openblas()
        with self.lock:
            if self.count == 0:
                self.threads = 1 if blas is None else blas.get_threads()
                if blas is None or self.threads != 2:
                    return False
                blas.set_threads(1)
            self.count += 1
        return True

    def leave(self) -> None:
        blas = _openblas()
        with self.lock:
            if self.count == 0:  # entered before a fork, which has given the threads back
                return
            self.count -= 1
            # whoever has set another number meanwhile keeps it
            if self.count == 0 and blas is not None and blas.get_threads() == 1:
                blas.set_threads(self.threads)


_holders = _Holders()


def _after_fork() -> None:
    # Those who would have left did not survive the fork.
    global _holders
    held, _holders = _holders, _Holders()
    blas = _openblas() if held.count else None
    if blas is not None:
        blas.set_threads(held.threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def held_to_one() -> bool:
    """Whether someone is within `one_blas_thread`, and it has changed something."""
    return _holders.count > 0


def blas_threads() -> int | None:
    """Threads that a product may use, as its user has set it; None where that is not known.

    With OpenBLAS its own answer, which follows OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and
    threadpoolctl; else the value of OMP_NUM_THREADS.
    """
    if held_to_one():
        return _holders.threads
    blas = _openblas()
    if blas is not None:
        return blas.get_threads()
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) > 0 else None


@contextmanager
def one_blas_thread(multiplications: float = math.inf) -> Iterator[None]:
    """Within, a product of NumPy's uses the thread that calls for it alone.

    It does so where OpenBLAS has two threads, and does nothing otherwise. The whole process is
    affected while it lasts: other threads' products are slower, and no less right.

    Parameters
    ----------
    multiplications : float
        Made by all products within. Few are left to BLAS' threads, which may be looking for work
        already.
    """
    if multiplications < MANY_MULTIPLICATIONS or not _holders.enter():
        yield
        return
    try:
        yield
    finally:
        _holders.leave()
