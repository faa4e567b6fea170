"""Drawings of computational graphs, with Graphviz.

Needs the package ``graphviz`` (extra ``viz``), and the program ``dot`` to turn a drawing into a
picture: `Digraph.source`, the text of the drawing, is there without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.errors import MissingExtraError
from gpugrad.graph.vertex import CLEARED, Vertex
from gpugrad.tensor import Tensor, wrap
from gpugrad.views import vertex_of

if TYPE_CHECKING:
    from graphviz import Digraph

__all__ = ["build_graph"]


def build_graph(
    fin: Tensor,
    names: Mapping[str, Any] | None = None,
    *,
    render: bool = True,
    save: bool = False,
    dims: bool = False,
    dtypes: bool = False,
    sum_stats: bool = False,
) -> Digraph | None:
    """Draw everything that a tensor was computed from.

    Parameters
    ----------
    fin : Tensor
        After `backward` or `clear_graph` it is a single node.
    names : mapping of str to Tensor or array, optional
        ``locals()`` will do: what is no tensor and no array is passed over. A node is labelled with
        the name of its very tensor, or with that of the array that was an operand. A node without a
        name shows its value if it is a number; otherwise it is an *intermediary tensor* or a
        *constant*. Without `names` every node shows its whole value.
    render : bool, optional
        Return the drawing; notebooks show it.
    save : bool, optional
        Write ``computational_graph.pdf`` to the working directory.
    dims, dtypes : bool, optional
        Add shapes (of what is not a single number) and dtypes to the labels.
    sum_stats : bool, optional
        Add minimum, median, mean and maximum of what is not a single number.

    Returns
    -------
    graphviz.Digraph or None
        Tensors are ellipses, operations filled ones. An operand that is a Python number or a
        nameless array has a node for each of its uses.

    Raises
    ------
    TypeError
        An argument is of another type.
    MissingExtraError
        The package ``graphviz`` is not installed.
    graphviz.ExecutableNotFound
        `save` without the program ``dot``.

    Examples
    --------
    >>> import gpugrad as gg
    >>> from gpugrad.computational_graph import build_graph
    >>> x = gg.tensor([1.0, 2.0])
    >>> loss = (x * x).sum()
    >>> drawing = build_graph(loss, names={"x": x, "loss": loss})
    >>> "label=x" in drawing.source
    True
    """
    if not isinstance(fin, Tensor):
        raise TypeError(f"build_graph: fin is a {type(fin).__name__}, expected a Tensor")
    if names is not None and not isinstance(names, Mapping):
        raise TypeError(f"build_graph: names is a {type(names).__name__}, expected a dict")
    flags = {"render": render, "save": save, "dims": dims, "dtypes": dtypes, "sum_stats": sum_stats}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"build_graph: {name} is {flag!r}, expected True or False")
    graph = _new_drawing()
    _Drawing(graph, names, dims, dtypes, sum_stats).draw(vertex_of(fin, renewing=False))
    if save:
        graph.render(filename="computational_graph", cleanup=True)
    return graph if render else None


def _new_drawing() -> Any:
    try:
        from graphviz import Digraph
    except ImportError as error:
        raise MissingExtraError(
            'build_graph: needs the package graphviz: pip install "gpugrad[viz]"'
        ) from error
    return Digraph(strict=True, node_attr={"fontsize": "12"})


class _Drawing:
    """Adds the nodes and edges of a graph to a Digraph."""

    def __init__(
        self,
        graph: Any,
        names: Mapping[str, Any] | None,
        dims: bool,
        dtypes: bool,
        sum_stats: bool,
    ) -> None:
        self.graph = graph
        self.dims, self.dtypes, self.sum_stats = dims, dtypes, sum_stats
        self.name_of: dict[int, str] | None = None
        self._named: list[Any] = []  # keeps what is known by its id alive
        if names is not None:
            self.name_of = {}
            for name, x in names.items():
                if isinstance(x, Tensor):
                    self._note(vertex_of(x, renewing=False), str(name))
                elif hasattr(x, "dtype") and hasattr(x, "ndim"):
                    self._note(x, str(name))
        self.ids: dict[int, str] = {}  # of every operand that is drawn, its last node
        self._numbers = count()

    def _note(self, x: Any, name: str) -> None:
        assert self.name_of is not None
        self._named.append(x)
        self.name_of.setdefault(id(x), name)

    def draw(self, root: Vertex) -> None:
        """`root` and all that it was computed from."""
        stack = [root]
        self._node(root)
        while stack:
            vertex = stack.pop()
            if vertex.op is None or vertex.op is CLEARED:
                continue
            op_id = f"{self.ids[id(vertex)]}_op"
            self.graph.node(op_id, _op_label(vertex), style="filled", fillcolor="red")
            self.graph.edge(op_id, self.ids[id(vertex)])
            for operand in vertex.inputs:
                if id(operand) not in self.ids or not self._is_one_node(operand):
                    self._node(operand)
                    if type(operand) is Vertex:
                        stack.append(operand)
                self.graph.edge(self.ids[id(operand)], op_id)

    def _is_one_node(self, operand: Any) -> bool:
        """Whether all uses of an operand are drawn from one node."""
        return type(operand) is Vertex or (self.name_of is not None and id(operand) in self.name_of)

    def _node(self, operand: Any) -> None:
        self.ids[id(operand)] = node_id = f"n{next(self._numbers)}"
        # text as it is: Graphviz takes <...> for markup and a backslash for an escape
        from graphviz import escape

        self.graph.node(node_id, escape(self._label(operand)))

    def _label(self, operand: Any) -> str:
        vertex = operand if type(operand) is Vertex else None
        data = asnumpy(vertex.data if vertex is not None else operand)
        lines = [self._title(operand, vertex, data)]
        if data.ndim and self.dims:
            lines.append(f"Dims: {data.shape}")
        if self.dtypes:
            lines.append(f"Dtype: {data.dtype}")
        if data.ndim and self.sum_stats and data.size:
            statistics: dict[str, Any] = {
                "Min": np.min,
                "Median": np.median,
                "Mean": np.mean,
                "Max": np.max,
            }
            numbers = data.astype(np.uint8) if data.dtype.kind == "b" else data
            lines += [f"{name}: {f(numbers)}" for name, f in statistics.items()]
        return "\n".join(lines)

    def _title(self, operand: Any, vertex: Vertex | None, data: np.ndarray) -> str:
        if self.name_of is None:
            return repr(wrap(vertex)) if vertex is not None else repr(Tensor(data, copy=False))
        constant = vertex is None or vertex.constant
        if id(operand) in self.name_of:
            return self.name_of[id(operand)] + ("\n*Constant*" if vertex is None else "")
        if constant and vertex is not None and id(vertex.data) in self.name_of:
            return self.name_of[id(vertex.data)] + "\n*Constant*"
        if not data.ndim:
            return str(data)
        return "*Constant*" if constant else "Intermediary Tensor"


def _op_label(vertex: Vertex) -> str:
    return type(wrap(vertex).creator).__name__
