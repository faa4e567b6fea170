"""The drawing has a node for every tensor and every operation, and the names it was given."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.computational_graph import build_graph
from gpugrad.errors import MissingExtraError

graphviz = pytest.importorskip("graphviz", reason="graphviz is not installed")

SVG = "{http://www.w3.org/2000/svg}"
NODE = re.compile(r'^\t(\w+) \[label=(".*?"|\S+?)( fillcolor=red style=filled)?\]$', re.S | re.M)
EDGE = re.compile(r"^\t(\w+) -> (\w+)$", re.M)


def drawn(graph) -> tuple[Counter, Counter]:
    """The labels of nodes and of the ends of edges, each with how often it occurs.

    Labels of operations are compared without regard to case: there the libraries may differ.
    """
    nodes = {
        name: (label.strip('"').lower() if op else label.strip('"'), bool(op))
        for name, label, op in NODE.findall(graph.source)
    }
    edges = {(nodes[a], nodes[b], a, b) for a, b in EDGE.findall(graph.source)}
    return Counter(nodes.values()), Counter((a, b) for a, b, *_ in edges)


def chain(m):
    x, y = m.tensor(2.0), m.tensor([3.0, 4.0])
    A = np.array([1.0, 2.0])
    f = x * y
    g = f + A - x * 2
    return g, {"x": x, "y": y, "A": A, "g": g}


def shared(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    z = (y + y) * x
    return z, {"x": x, "z": z}


def constants(m):
    x, c = m.tensor([1.0, 2.0]), m.tensor([3.0, 4.0], constant=True)
    z = (x * c) * (c + 1)
    return z, {"x": x}


def array_used_twice(m):
    x, A = m.tensor([1.0, 2.0]), np.array([5.0, 6.0])
    z = x * A + A
    return z, {"A": A}


def lists(m):
    x = m.tensor([1.0, 2.0])
    z = (x * [1.0, 2.0]) + [1.0, 2.0]
    return z, {"x": x}


def leaf(m):
    x = m.tensor([1.0, 2.0])
    return x, {"x": x}


def cleared(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    y.backward()
    return y, {"y": y, "x": x}


def integers(m):
    x = m.tensor([[1, 2], [3, 4]])
    return x + 1, {"x": x}


PROGRAMS = [chain, shared, constants, array_used_twice, lists, leaf, cleared, integers]
OPTIONS = [{}, {"dims": True}, {"dtypes": True}, {"sum_stats": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(o) or "plain")
@pytest.mark.parametrize("named", [True, False], ids=["named", "nameless"])
@pytest.mark.parametrize("f", PROGRAMS)
def test_drawing_is_that_of_mygrad(f, named, options):
    mg = pytest.importorskip("mygrad")
    from mygrad.computational_graph import build_graph as mygrads

    drawings = []
    for m, build in ((mg, mygrads), (gg, build_graph)):
        z, names = f(m)
        drawings.append(drawn(build(z, names if named else None, **options)))
    assert drawings[0] == drawings[1]


def test_every_tensor_and_operation_is_drawn():
    x = gg.tensor([1.0, 2.0])
    y = gg.exp(x)
    nodes, edges = drawn(build_graph(y, {"x": x, "y": y}))
    assert nodes == {("x", False): 1, ("y", False): 1, ("exp", True): 1}
    assert edges == {(("x", False), ("exp", True)): 1, (("exp", True), ("y", False)): 1}


def test_the_first_of_two_names_counts_and_what_is_no_array_is_passed_over():
    x = gg.tensor([1.0])
    nodes, _ = drawn(build_graph(x, {"gg": gg, "n": 3, "x": x, "also_x": x, "f": drawn}))
    assert nodes == {("x", False): 1}


def test_what_a_tensor_was_before_a_write_is_drawn_without_its_name():
    x = gg.tensor([1.0, 2.0])
    y = x * 2
    y += x
    nodes, _ = drawn(build_graph(y, {"x": x, "y": y}))
    labels = Counter(label for (label, op), n in nodes.items() for _ in range(n) if not op)
    assert labels == {"x": 1, "y": 1, "Intermediary Tensor": 1, "2": 1}


def test_a_view_is_drawn_with_its_base():
    x = gg.tensor([1.0, 2.0, 3.0])
    tail = x[1:]
    y = tail * 3
    _, edges = drawn(build_graph(y, {"x": x, "tail": tail, "y": y}))
    assert edges[(("x", False), ("getitem", True))] == 1
    assert edges[(("getitem", True), ("tail", False))] == 1


def test_statistics_of_an_empty_and_of_a_bool_tensor():
    x = gg.zeros((0, 2))
    assert "Min" not in build_graph(x * 2, sum_stats=True).source
    mask = gg.tensor([True, False])
    assert "Mean: 0.5" in build_graph(mask, sum_stats=True).source


def test_a_chain_of_ten_thousand_operations_is_drawn():
    y = gg.tensor(1.0)
    for _ in range(10_000):
        y = y + 1
    nodes, _ = drawn(build_graph(y))
    assert sum(n for (_, op), n in nodes.items() if op) == 10_000
    y.clear_graph()


def test_the_same_graph_is_the_same_text():
    first, second = (build_graph(f[0], f[1]).source for f in (chain(gg), chain(gg)))
    assert first == second


def test_a_device_tensor_is_drawn(as_device):
    x = gg.tensor(as_device([1.0, 3.0]))
    y = x * as_device([2.0, 2.0])
    source = build_graph(y, {"x": x}, sum_stats=True).source
    assert "Mean: 2.0" in source and "*Constant*" in source


def test_nothing_of_the_graph_is_changed():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    build_graph(y, {"x": x, "y": y}, dims=True, dtypes=True, sum_stats=True)
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0] and x.data.flags.writeable


def test_without_render_nothing_is_returned():
    assert build_graph(gg.tensor(1.0), render=False) is None


def test_save_renders_to_the_working_directory(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(graphviz.Digraph, "render", lambda self, **how: calls.append(how))
    build_graph(gg.tensor(1.0), save=True, render=False)
    assert calls == [{"filename": "computational_graph", "cleanup": True}]


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's program dot is not installed")
def test_notebooks_show_a_picture_in_which_every_name_stands():
    x = gg.tensor([1.0, 2.0])
    loss = np.exp(x @ x)
    drawing = build_graph(loss, {r"x\n": x, "<b>loss</b>": loss})
    [(kind, picture)] = drawing._repr_mimebundle_().items()
    assert kind == "image/svg+xml"
    shown = [node.text for node in ElementTree.fromstring(picture).iter(SVG + "text")]
    assert sorted(shown) == ["5.0", "<b>loss</b>", "Exp", "MatMul", r"x\n"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"fin": np.ones(2)},
        {"names": ["x"]},
        {"render": 1},
        {"save": None},
        {"dims": "yes"},
        {"dtypes": 0},
        {"sum_stats": np.True_},
    ],
)
def test_an_argument_of_another_type_is_named(arguments):
    (name,) = arguments
    with pytest.raises(TypeError, match=f"build_graph: {name} is"):
        build_graph(**{"fin": gg.tensor(1.0), **arguments})


def test_without_graphviz_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(MissingExtraError, match=r'pip install "gpugrad\[viz\]"'):
        build_graph(gg.tensor(1.0))
    assert issubclass(MissingExtraError, ImportError)
