"""Ranks that are threads of one process: any number of them in the time of a function call."""

import threading
from contextvars import copy_context

import numpy as np

from gpugrad.backend.array_module import get_array_module

SECONDS = 60  # a rank that waits longer for the others has been left alone


class Lost(Exception):
    """Another rank has raised."""


class Board:
    """Where the ranks put what they give, one entry a call, in the order of calls."""

    def __init__(self, size):
        self.size, self.entries, self.failed = size, {}, False
        self.changed = threading.Condition()

    def put(self, number, rank, value):
        with self.changed:
            self.entries.setdefault(number, {})[rank] = value
            self.changed.notify_all()

    def get(self, number):
        with self.changed:

            def complete():
                return len(self.entries.get(number, ())) == self.size

            self.changed.wait_for(lambda: self.failed or complete(), SECONDS)
            if not complete():
                raise Lost
            return [self.entries[number][rank] for rank in range(self.size)]


class ThreadRank:
    """A communicator."""

    def __init__(self, board, rank):
        self.board, self.rank, self.size, self.calls = board, rank, board.size, 0

    def _give(self, value):
        self.calls += 1
        self.board.put(self.calls, self.rank, value)
        return self.calls

    def gather(self, array):
        return _Transfer(self.board, self._give(array.copy()))

    def exchange(self, value):
        return self.board.get(self._give(value))

    def any(self, flag):
        return any(self.exchange(bool(flag)))


class _Transfer:
    def __init__(self, board, number):
        self.board, self.number = board, number

    def poll(self):
        pass

    def wait(self):
        found = self.board.get(self.number)
        return get_array_module(found[0]).stack(found)


def on_ranks(size, function):
    """function(communicator) on so many ranks: its results, or the exceptions it raised."""
    board = Board(size)
    found = [None] * size

    def run(rank):
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                found[rank] = function(ThreadRank(board, rank))
        except Exception as error:
            found[rank] = error
            with board.changed:
                board.failed = board.failed or not isinstance(error, Lost)
                board.changed.notify_all()

    threads = [
        threading.Thread(target=copy_context().run, args=(run, rank)) for rank in range(size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def results(size, function):
    """The same where no rank may raise."""
    found = on_ranks(size, function)
    errors = [x for x in found if isinstance(x, Exception)]
    for error in sorted(errors, key=lambda x: isinstance(x, Lost)):
        raise error
    return found
