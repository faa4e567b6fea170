"""Nested containers come apart and together again, and a misfit is named by its place."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple

import pytest

from gpugrad.errors import TreeMismatchError
from gpugrad.tree import leaves, leaves_like, places, rebuild

Point = namedtuple("Point", "x y")
TREES = [
    5,
    [],
    {"a": [1, (2, 3)], "b": {}},
    Point(1, {"z": [2]}),
    OrderedDict([("b", 1), ("a", 2)]),
    defaultdict(list, {"a": [1]}),
    [None, "text", [[1]]],
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_rebuilding_with_its_own_leaves_gives_the_tree(tree):
    again = rebuild(tree, leaves(tree))
    assert again == tree and type(again) is type(tree)


def test_containers_are_new_and_the_old_ones_unchanged():
    tree = {"a": [1, 2], "b": Point(3, 4)}
    new = rebuild(tree, [10, 20, 30, 40])
    assert new == {"a": [10, 20], "b": Point(30, 40)}
    assert tree == {"a": [1, 2], "b": Point(3, 4)}


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_a_place_is_written_as_in_python(tree):
    for place, leaf in zip(places(tree), leaves(tree), strict=True):
        assert eval(f"tree{place}", {"tree": tree}) == leaf


def test_leaves_come_in_the_order_of_the_other_tree():
    like = {"a": 0, "b": (0, 0)}
    assert leaves_like("f", "x", {"b": [2, 3], "a": 1}, "y", like) == [1, 2, 3]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": 1}, r"f: x is a dict with the keys \['a'\], y is a dict with the keys \['a', 'b'\]"),
        ({"a": 1, "c": 2}, r"f: x is a dict with the keys \['a', 'c'\], y is a dict"),
        ({"a": 1, "b": [1]}, r"f: x\['b'\] is a list of length 1, y\['b'\] is a tuple of length 2"),
        ({"a": [], "b": (1, 2)}, r"f: x\['a'\] is a list of length 0, y\['a'\] is a leaf \(int\)"),
        ({"a": 1, "b": 2}, r"f: x\['b'\] is a leaf \(int\), y\['b'\] is a tuple of length 2"),
        ({"a": 1, "b": {0: 1, 1: 2}}, r"f: x\['b'\] is a dict with the keys \[0, 1\]"),
    ],
)
def test_a_misfit_is_named_by_its_place(tree, message):
    with pytest.raises(TreeMismatchError, match=message):
        leaves_like("f", "x", tree, "y", {"a": 0, "b": (0, 0)})
