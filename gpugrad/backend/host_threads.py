"""A second thread for array work on the host.

NumPy's ufuncs and its random fills release the interpreter lock, so a pass over an array that is
cut in two runs on two cores. Results never depend on the number of threads: a task is told which
elements are its own and computes each of them from nothing but its index. Who allows NumPy's
products one thread (OMP_NUM_THREADS=1, threadpoolctl) gets one here too.
"""

import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.backend.blas_threads import blas_threads, held_to_one

__all__ = [
    "BLOCK_VALUES",
    "allowed_threads",
    "available_cpus",
    "over_spans",
    "product",
    "scratch_array",
]

#: Elements in a block that a thread works on at a time: a float32 scratch array of this size stays
#: in a core's second-level cache, and a ufunc over it runs long enough without the interpreter
#: lock that two threads do not get in each other's way.
BLOCK_VALUES = 32768

#: Below this many elements per thread, handing work over costs more than it saves.
MIN_VALUES_PER_THREAD = 32768

#: Multiplications of a product that take as long as a pass over one element.
MULTIPLICATIONS_PER_VALUE = 32

#: A product is cut at a multiple of this, so that tiles of BLAS' inner loop stay whole.
TILE_ROWS = 16

Task = Callable[[int, int], None]


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}


_scratch = _Scratch()


class _Within(threading.local):
    span = False  # whether this thread is at work on a span


_within = _Within()


def scratch_array(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array of this thread's own, which its next request for `name` reuses.

    Fresh memory of this size costs a page fault every 4 kB; arrays above 8 blocks are not kept.
    """
    size = math.prod(shape)
    if size > 8 * BLOCK_VALUES:
        return np.empty(shape, dtype)
    kept = _scratch.arrays.get(name)
    if kept is None or kept.size < size or kept.dtype != dtype:
        kept = _scratch.arrays[name] = np.empty(size, dtype)
    return kept[:size].reshape(shape)


class _Worker:
    """One thread that runs one task at a time for whoever finds it free."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self._asked, self._done = threading.Lock(), threading.Lock()
        self._asked.acquire()
        self._done.acquire()
        self._job: tuple[Task, int, int] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="gpugrad", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            self._asked.acquire()
            job, self._job = self._job, None
            assert job is not None
            try:
                _call(*job)
            except BaseException as error:  # handed to the caller
                self._error = error
            del job
            self._done.release()

    def start(self, task: Task, start: int, stop: int) -> None:
        self._job = (task, start, stop)
        self._asked.release()

    def wait(self) -> BaseException | None:
        self._done.acquire()
        error, self._error = self._error, None
        return error


_worker: _Worker | None = None
_lock = threading.Lock()


def _forget_worker() -> None:
    # The thread does not survive a fork; a child that waited for it would hang.
    global _worker, _lock
    _worker, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_worker)


def _the_worker() -> _Worker:
    global _worker
    with _lock:
        if _worker is None:
            _worker = _Worker()
        return _worker


def available_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allowed_threads() -> int:
    """How many threads work is cut for, 1 or 2: no more than there are CPUs, and no more than
    NumPy's products may have."""
    return min(2, available_cpus(), blas_threads() or 2)


def over_spans(
    task: Task,
    length: int,
    *,
    values_each: int = 1,
    multiple_of: int = 1,
    threads: int | None = None,
) -> None:
    """Call ``task(start, stop)`` on one span or two that together cover ``range(length)``.

    Parameters
    ----------
    task : callable
        Works on the half-open span it is given. Two spans run at once, on two threads.
    length : int
        How many items there are. With 0 the task is not called.
    values_each : int
        Array elements per item; short work is done on the calling thread alone.
    multiple_of : int
        The second span starts at a multiple of this.
    threads : {1, 2}, optional
        How many threads to use at most; the default is `allowed_threads`.

    Raises
    ------
    BaseException
        What the task raises, after both spans have ended.
    """
    if length <= 0:
        return
    middle = _middle(length, multiple_of)
    if middle == 0 or length * values_each < 2 * MIN_VALUES_PER_THREAD:
        task(0, length)
        return
    if threads is None:
        threads = allowed_threads()
    worker = _the_worker() if threads > 1 else None
    # not free: another thread is using it, or this one is it
    if worker is None or not worker.free.acquire(blocking=False):
        _call(task, 0, length)
        return
    try:
        worker.start(task, middle, length)
        try:
            _call(task, 0, middle)
        finally:
            error = worker.wait()
    finally:
        worker.free.release()
    if error is not None:
        raise error


def _middle(length: int, multiple_of: int) -> int:
    """Where the second span starts."""
    return -(-length // multiple_of) // 2 * multiple_of


def _call(task: Task, start: int, stop: int) -> None:
    before, _within.span = _within.span, True
    try:
        task(start, stop)
    finally:
        _within.span = before


def product(a: Any, b: Any, out: Any = None) -> Any:
    """The product of two matrices of NumPy, cut by rows within `blas_threads.one_blas_thread`.

    Elsewhere it is ``numpy.matmul``, whose threads are BLAS' own. Where it is cut depends on the
    shapes, and not on whether the second thread is free: the last rows of a product are summed in
    another order by BLAS than rows further up.

    Parameters
    ----------
    a : array (n, m)
    b : array (m, p)
    out : array (n, p), optional
    """
    if not held_to_one() or _within.span:
        return np.matmul(a, b, out=out)
    n, each = a.shape[0], max(1, b.size // MULTIPLICATIONS_PER_VALUE)
    if n * each < 2 * MIN_VALUES_PER_THREAD:
        return np.matmul(a, b, out=out)
    if out is None:
        out = np.empty((n, b.shape[1]), np.result_type(a, b))
    middle = _middle(n, TILE_ROWS)

    def span(start: int, stop: int) -> None:
        for first, last in ((start, min(stop, middle)), (max(start, middle), stop)):
            if first < last:
                np.matmul(a[first:last], b, out=out[first:last])

    over_spans(span, n, values_each=each, multiple_of=TILE_ROWS)
    return out
