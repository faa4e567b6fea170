"""Nested dicts, lists and tuples: their leaves in a fixed order, and the way back.

A leaf is whatever is not a dict, a list or a tuple. A place is written as one would write it in
Python: the leaf ``5`` of ``{"a": [3, 5]}`` is at ``['a'][1]``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from gpugrad.errors import TreeMismatchError

__all__ = ["leaves", "leaves_like", "places", "rebuild"]


def leaves(tree: Any) -> list[Any]:
    """The leaves in order: of dicts in the order of their keys' insertion."""
    return [leaf for _, leaf in _walk(tree, "")]


def places(tree: Any) -> list[str]:
    """Where each of `leaves` stands."""
    return [place for place, _ in _walk(tree, "")]


def _walk(tree: Any, place: str) -> Iterator[tuple[str, Any]]:
    branches = _branches(tree)
    if branches is None:
        yield place, tree
        return
    for key, branch in branches.items():
        yield from _walk(branch, f"{place}[{key!r}]")


def rebuild(tree: Any, new_leaves: Iterable[Any]) -> Any:
    """A tree of the structure and container types of `tree`, with other leaves.

    Parameters
    ----------
    tree : nested dict, list and tuple
        Subclasses are kept: an OrderedDict, a defaultdict, a namedtuple.
    new_leaves : iterable
        In the order of ``leaves(tree)``.
    """
    return _rebuilt(tree, iter(new_leaves))


def _rebuilt(tree: Any, new: Iterator[Any]) -> Any:
    if isinstance(tree, dict):
        result = copy.copy(tree)
        for key, branch in tree.items():
            result[key] = _rebuilt(branch, new)
        return result
    if isinstance(tree, list | tuple):
        branches = [_rebuilt(branch, new) for branch in tree]
        return tree._make(branches) if hasattr(tree, "_make") else type(tree)(branches)
    return next(new)


def leaves_like(function: str, name: str, tree: Any, like_name: str, like: Any) -> list[Any]:
    """The leaves of `tree` in the order of ``leaves(like)``.

    Dicts match by their keys, in any order; a list matches a tuple of its length.

    Raises
    ------
    TreeMismatchError
        The structures differ. The message has `function`, both names and the place.
    """
    found: list[Any] = []

    def match(branch: Any, pattern: Any, place: str) -> None:
        ours, theirs = _branches(branch), _branches(pattern)
        same_kind = isinstance(branch, dict) == isinstance(pattern, dict)
        if not same_kind or (ours is None) != (theirs is None):
            same = False
        else:
            same = ours is None or theirs is None or ours.keys() == theirs.keys()
        if not same:
            raise TreeMismatchError(
                f"{function}: {name}{place} is {_described(branch)}, "
                f"{like_name}{place} is {_described(pattern)}"
            )
        if ours is None or theirs is None:
            found.append(branch)
            return
        for key, inner in theirs.items():
            match(ours[key], inner, f"{place}[{key!r}]")

    match(tree, like, "")
    return found


def _branches(tree: Any) -> dict | None:
    if isinstance(tree, dict):
        return tree
    return dict(enumerate(tree)) if isinstance(tree, list | tuple) else None


def _described(tree: Any) -> str:
    kind = type(tree).__name__
    if isinstance(tree, dict):
        return f"a {kind} with the keys {list(tree)}"
    if isinstance(tree, list | tuple):
        return f"a {kind} of length {len(tree)}"
    return f"a leaf ({kind})"
