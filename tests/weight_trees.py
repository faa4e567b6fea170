"""What the tests of gradients and of updates share: structures of weights, in all their forms."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple

import gpugrad as gg
from gpugrad.tree import leaves

Pair = namedtuple("Pair", "left right")
STRUCTURES = {
    "one": lambda a, b: a,
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {"a": a, "b": b},
    "nested": lambda a, b: {"layers": [(a,), {"b": b}], "none": []},
    "namedtuple": lambda a, b: Pair(a, [b]),
    "ordered": lambda a, b: OrderedDict(b=b, a=a),
    "default": lambda a, b: defaultdict(list, a=a, b=b),
    "empty": lambda a, b: {},
}
FORMS = ["array", "variable", "constant"]


def in_form(array, form):
    """A raw array as it is, or as a tensor of a copy of it."""
    return array if form == "array" else gg.tensor(array, constant=form == "constant")


def raw(x):
    return gg.asnumpy(x)


def same_structure(a, b) -> bool:
    if type(a) is not type(b):
        return not isinstance(a, dict | list | tuple) and not isinstance(b, dict | list | tuple)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_structure(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_structure, a, b))
    return True


def cubes(xs):
    """The sum of the cubes of all elements of all leaves."""
    terms = [(x**3).sum() for x in leaves(xs)]
    return sum(terms[1:], terms[0]) if terms else gg.tensor(0.0)
