"""Work that several threads do at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable

THREADS = 8


def in_threads(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Run ``work(k)`` in threads that start together; raise what they raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(threads)

    def run(k: int) -> None:
        try:
            barrier.wait()
            work(k)
        except BaseException as error:
            error.__traceback__ = None  # it would keep the graphs of its frames
            errors.append(error)

    started = [threading.Thread(target=run, args=(k,)) for k in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert not errors, errors
