"""The memory guard: arrays that a live graph depends on are read-only.

A :class:`Hold` stands for "the graph depends on this array", and releases it when it dies. A vertex
with an operation owns one; for a leaf a record is made when it gets its first consumer, shared by
all of them, and goes with the last: reference counting is the bookkeeping, so no path, an
exception's included, can forget a release.

An array that nobody outside the graph can reach (an intermediate result, a copy that
``gpugrad.tensor`` made) is not touched until `Tensor.data` hands it out.

Only host arrays are guarded: CuPy has no read-only arrays (it ignores ``flags.writeable``).
"""

from __future__ import annotations

import weakref
from sys import getrefcount
from typing import Any

import numpy as np
from fastrlock.rlock import FastRLock

from gpugrad.graph.vertex import CLEARED, UNGUARDED, Vertex

__all__ = [
    "Hold",
    "Use",
    "adopt",
    "expose",
    "is_guarded",
    "is_writeable",
    "use_of_leaf",
    "wait_for_base",
]

_lock = FastRLock()
ndarray = np.ndarray
# id of a guarded array -> how many holds it has (they keep it alive); only of writeable arrays
_guarded: dict[int, int] = {}
# id of a guarded base -> id -> those of its views that become writeable with it
_waiting: dict[int, dict[int, weakref.ref]] = {}


def _protect(array: np.ndarray) -> bool:
    """Take one lock on `array`; False if it was read-only by its owner's wish, or would stay so."""
    base = array.base
    if base is not None and not isinstance(base, ndarray) and not _is_restorable(base):
        return False
    key = id(array)
    # No call stands between the look and the write: it could start the garbage collector, and with
    # it the release of this very array.
    if key in _guarded:
        _guarded[key] += 1
        return True
    if array.flags.writeable:
        array.setflags(False)  # type: ignore[call-arg]  # by keyword it takes twice the time
    elif _waits(array):  # released while its base was still guarded: it is ours again
        del _waiting[id(array.base)][key]
    else:
        return False
    _guarded[key] = 1
    return True


def _is_restorable(base: Any) -> bool:
    """Whether NumPy would let an array over the memory of `base` become writeable again.

    It would not for memory imported by DLPack, whose base is a capsule.
    """
    try:
        return not memoryview(base).readonly
    except TypeError:
        return False


def _waits(view: np.ndarray) -> bool:
    ref = _waiting.get(id(view.base), {}).get(id(view))
    return ref is not None and ref() is view


def adopt(view: np.ndarray, source: np.ndarray) -> None:
    """Let `view`, made of `source` and read-only for that alone, become writeable with its base."""
    with _lock:
        base = id(view.base)
        if base in _guarded:
            if id(source) in _guarded or _waits(source):
                _waiting.setdefault(base, {})[id(view)] = weakref.ref(view)
        elif source.flags.writeable and id(view) not in _guarded:
            # another thread released the base since the view was made
            view.setflags(write=True)


def _release(array: np.ndarray) -> None:
    key = id(array)
    left = _guarded[key] - 1
    if left:
        _guarded[key] = left
        return
    del _guarded[key]
    base = array.base
    if base is not None and isinstance(base, ndarray) and not base.flags.writeable:
        # NumPy lets a view be writeable only if its base is
        if id(base) in _guarded:
            _waiting.setdefault(id(base), {})[key] = weakref.ref(array)
        return
    array.setflags(True)  # type: ignore[call-arg]
    if key in _waiting:
        for ref in _waiting.pop(key).values():
            view = ref()
            if view is not None and id(view) not in _guarded:
                view.setflags(write=True)


class Hold:
    """Keeps an array, and the array it is a view of, read-only while it lives."""

    __slots__ = ("__weakref__", "array", "base")

    def __init__(self, array: Any) -> None:
        self.array = self.base = None
        if not isinstance(array, ndarray):
            return
        base = array.base
        with _lock:
            if base is not None and isinstance(base, ndarray) and _protect(base):
                # the base first: it must be released before its view can be
                self.base = base
            if _protect(array):
                self.array = array

    def __del__(self) -> None:
        with _lock:
            if self.base is not None:
                _release(self.base)
            if self.array is not None:
                _release(self.array)


class Use:
    """Referred to by every consumer of a leaf whose array is private. It has a Hold if it was
    exposed while they lived."""

    __slots__ = ("__weakref__", "hold")
    hold: Hold


def use_of_leaf(vertex: Vertex) -> Use | Hold:
    """The record that all consumers of a leaf share, or of a result recorded without the guard.

    While its array is private the leaf keeps its Use for good, and nothing is made for a graph;
    once it is exposed, the record must die with the last consumer, and the leaf only refers to it.
    """
    own = vertex.own
    if not vertex.exposed:
        if own is None:
            with _lock:
                if vertex.exposed:  # by another thread, since it was looked at
                    return use_of_leaf(vertex)
                own = vertex.own
                if own is None:
                    own = vertex.own = Use()
        return own
    if type(own) is weakref.ref:
        record = own()
        if record is not None:
            return record
    hold = Hold(vertex.data)
    vertex.own = weakref.ref(hold)
    return hold


def _references(vertex: Vertex) -> int:
    return getrefcount(vertex.own)


def _alone() -> int:
    """What `_references` says of a leaf without consumers: it differs between interpreters."""
    vertex = Vertex(None, None, (), {}, False)
    vertex.own = Use()
    return _references(vertex)


_ALONE = _alone()


def expose(vertex: Vertex) -> None:
    """`vertex.data` is about to leave the graph: protect it if a guarded graph depends on it."""
    with _lock:
        if vertex.exposed:
            return
        vertex.exposed = True
        if vertex.op is None or type(vertex.own) is Use:
            use = vertex.own if _references(vertex) > _ALONE else None
            if use is not None:
                use.hold = Hold(vertex.data)
            else:
                wait_for_base(vertex.data)
            vertex.own = use if use is None else weakref.ref(use)
        elif vertex.op is not CLEARED and vertex.holds is not UNGUARDED:
            vertex.own = Hold(vertex.data)
        else:
            wait_for_base(vertex.data)


def wait_for_base(view: Any) -> None:
    """Protect a view that no graph depends on for as long as one depends on its base.

    NumPy does so for views of read-only arrays; this one was made before its base was protected.
    """
    if not isinstance(view, ndarray) or not view.flags.writeable:
        return
    with _lock:
        base = id(view.base)
        if base in _guarded:
            view.setflags(write=False)
            _waiting.setdefault(base, {})[id(view)] = weakref.ref(view)


def is_guarded(array: Any) -> bool:
    """Whether `array` is read-only because of a graph."""
    return id(array) in _guarded


def is_writeable(array: Any) -> bool:
    """Whether `array` may be written to once no graph depends on it."""
    if not isinstance(array, np.ndarray) or array.flags.writeable or id(array) in _guarded:
        return True
    return isinstance(array.base, np.ndarray) and id(array.base) in _guarded and _waits(array)


def guarded_count() -> int:
    """How many arrays are read-only now because of a graph."""
    return len(_guarded)
