"""The library's own operations as classes, and ``Tensor.creator``.

An operation is declared by its rules (`gpugrad.graph.op`). MyGrad's programs know it as a class, a
subclass of `gpugrad.operation_base.Operation`: they ask a tensor for its creator, look at the
creator's type and variables, call its methods. Such a class is made from the public function of the
same word when somebody asks for it; no work is done for it before.

>>> import gpugrad as gg
>>> from gpugrad.math.arithmetic.ops import Multiply
>>> x, y = gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0])
>>> op = Multiply()
>>> op(x, y, where=[True, False], out=gg.zeros(2).data)
array([3., 0.], dtype=float32)
>>> op.backward_var([1.0, 1.0], 0)
array([3., 0.])
>>> isinstance((x * y).creator, Multiply)
True

TABLE is MyGrad's list: where the class of each operation is found.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.execution import creator_of_call, handle_of
from gpugrad.graph.op import OPS
from gpugrad.graph.sweep import sweep_toward
from gpugrad.graph.vertex import CLEARED, Vertex, leaf
from gpugrad.operation_base import (
    BinaryUfunc,
    Operation,
    Sequential,
    UnaryUfunc,
    _NoValue,
)
from gpugrad.ops.namespace import PUBLIC, tensor_namespace
from gpugrad.state import Switch
from gpugrad.tensor import Tensor, wrap
from gpugrad.views import vertex_of

__all__ = ["TABLE", "creator_of", "operation_class"]

_apart = Switch("apart", "Record a graph that protects nothing.", tracking=True, guard=False)


class Declared(Operation):
    """An operation of the library's own, as a class.

    Attributes
    ----------
    word : str
        The public function, or the op, that it stands for.
    """

    word: str
    _options: dict[str, Any] | None = None
    _root: Vertex
    _ends: tuple[Vertex, ...]
    _result: Tensor

    def _apply(self, function: Callable[..., Tensor], inputs: tuple, **options: Any) -> Any:
        """The value of ``function(*inputs)``, and what it takes to find derivatives of it."""
        if self._options is not None:  # through execute_op: into the caller's graph
            self._result = function(*inputs, **options | self._options)
            return self._result
        self.variables = tuple(
            x if isinstance(x, Tensor) else Tensor(x, constant=True, copy=False) for x in inputs
        )
        ends = tuple(_end(vertex_of(v, renewing=False).data) for v in self.variables)
        with _apart:
            result = function(*map(wrap, ends), **options)
            root = vertex_of(result)
        self._root, self._ends = root, ends
        return root.data

    def backward_var(self, grad: Any, index: int, **kwargs: Any) -> Any:
        """The cotangent of ``self.variables[index]``, of its shape and dtype."""
        root, end = self._root, self._ends[index]
        xp = namespace_of(get_array_module(root.data))
        seed = xp.array(xp.broadcast_to(xp.asarray(grad, dtype=root.data.dtype), root.data.shape))
        found = sweep_toward([end], [root], [seed], xp)
        return found[end] if end in found else xp.zeros_like(end.data)

    @classmethod
    def _execute(
        cls, inputs: tuple, args: tuple, kwargs: dict, constant: bool | None, out: Any
    ) -> Tensor:
        op = cls()
        op._options = {} if constant is None else {"constant": constant}
        if out is not None:
            kwargs = {**kwargs, "out": out}
        op(*inputs, *args, **kwargs)
        return op._result

    @classmethod
    def _of(cls, vertex: Vertex) -> Declared:
        """The operation that made `vertex`."""
        op = cls()
        op.variables = tuple(
            handle_of(p) if isinstance(p, Vertex) else Tensor(p, constant=True, copy=False)
            for p in vertex.inputs
        )
        # a vertex like it without a history: its derivatives end at its operands
        op._ends = tuple(_end(v._vertex.data) for v in op.variables)
        op._root = Vertex(vertex.data, vertex.op, op._ends, vertex.params, False, (), vertex.where)
        if vertex.where is not None:
            op.where = vertex.where
        for name, value in vertex.params.items():
            setattr(op, name, value)
        return op


def _end(data: Any) -> Vertex:
    return leaf(data, data.dtype.kind != "f", exposed=True)


def _word(name: str) -> Callable[..., Any]:
    if name == "norm":
        from gpugrad.linalg import norm

        return norm
    return PUBLIC[name] if name in PUBLIC else getattr(tensor_namespace, name)


# ------------------------------------------------------------------ how the classes are called
# The signatures are those of MyGrad's classes; each calls the public function of its word.


def _given(**options: Any) -> dict[str, Any]:
    return {k: v for k, v in options.items() if v is not None and v is not _NoValue}


def _unary(self: Any, x1: Any, out: Any = None, *, where: Any = True, dtype: Any = None) -> Any:
    """The value, under NumPy's ``out=``, ``where=`` and ``dtype=``."""
    return _elementwise(self, (x1,), out, where, dtype)


def _binary(
    self: Any, x1: Any, x2: Any, out: Any = None, *, where: Any = True, dtype: Any = None
) -> Any:
    """The value, under NumPy's ``out=``, ``where=`` and ``dtype=``."""
    return _elementwise(self, (x1, x2), out, where, dtype)


def _elementwise(op: Any, inputs: tuple, out: Any, where: Any, dtype: Any, **more: Any) -> Any:
    options = _given(out=out, dtype=dtype, **more)
    if where is not True and where is not _NoValue:
        op.where = options["where"] = np.asarray(where) if isinstance(where, list) else where
    return op._apply(_word(op.word), inputs, **options)


def _abs(
    self: Any,
    x1: Any,
    out: Any = None,
    *,
    where: Any = True,
    dtype: Any = None,
    nan_to_num: bool = True,
) -> Any:
    """The value, under NumPy's ``out=``, ``where=`` and ``dtype=``."""
    more = {} if nan_to_num else {"nan_to_num": False}
    return _elementwise(self, (x1,), out, where, dtype, **more)


def _one(self: Any, a: Any) -> Any:
    """The value."""
    return self._apply(_word(self.word), (a,))


def _several(self: Any, *input_vars: Any) -> Any:
    """The value."""
    return self._apply(_word(self.word), input_vars)


def _sequential(
    self: Any,
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = _NoValue,
    initial: Any = _NoValue,
    *,
    where: Any = _NoValue,
    ddof: Any = _NoValue,
) -> Any:
    """The value; the parameters are those of NumPy's reductions."""
    options = self._note(axis, keepdims, initial, where, ddof)
    value = self._apply(
        _word(self.word), (a,), axis=axis, **options, **_given(dtype=dtype, out=out)
    )
    self.out_shape = np.shape(value)
    return value


def _transposed(self: Any, a: Any, axes: Any = None) -> Any:
    """The value."""
    order = () if axes is None else (axes,)
    return self._apply(lambda a, **o: _word("transpose")(a, *order, **o), (a,))


def _flattened(self: Any, a: Any) -> Any:
    """The value, a copy."""
    return self._apply(lambda a, **o: a.flatten(**o), (a,))


def _reshaped(self: Any, a: Any, newshape: Any) -> Any:
    """The value."""
    return self._apply(lambda a, **o: _word("reshape")(a, newshape, **o), (a,))


def _along(self: Any, a: Any, axis: Any) -> Any:
    """The value."""
    return self._apply(lambda a, **o: _word(self.word)(a, axis, **o), (a,))


def _broadcast(self: Any, a: Any, shape: Any) -> Any:
    """The value."""
    return self._apply(lambda a, **o: _word("broadcast_to")(a, shape, **o), (a,))


def _moved(self: Any, a: Any, source: Any, destination: Any) -> Any:
    """The value."""
    return self._apply(lambda a, **o: _word("moveaxis")(a, source, destination, **o), (a,))


def _swapped(self: Any, a: Any, axis1: int, axis2: int) -> Any:
    """The value."""
    return self._apply(lambda a, **o: _word("swapaxes")(a, axis1, axis2, **o), (a,))


def _rolled(self: Any, a: Any, shift: Any, axis: Any) -> Any:
    """The value."""
    return self._apply(lambda a, **o: _word("roll")(a, shift, axis, **o), (a,))


def _repeated(self: Any, a: Any, repeats: Any, axis: int | None = None) -> Any:
    """The value."""
    return self._apply(lambda a, **o: _word("repeat")(a, repeats, axis, **o), (a,))


def _concatenated(
    self: Any, *input_vars: Any, axis: int | None = 0, out: Any = None, dtype: Any = None
) -> Any:
    """The value."""
    options = {"axis": axis, **_given(out=out, dtype=dtype)}
    return self._apply(lambda *xs, **o: _word("concatenate")(xs, **o), input_vars, **options)


def _stacked(self: Any, *input_vars: Any, axis: int = 0, out: Any = None) -> Any:
    """The value."""
    options = {"axis": axis, **_given(out=out)}
    return self._apply(lambda *xs, **o: _word("stack")(xs, **o), input_vars, **options)


def _chosen(self: Any, a: Any, b: Any, *, condition: Any) -> Any:
    """The value: `a` where the condition holds, else `b`."""
    return self._apply(lambda a, b, **o: _word("where")(condition, a, b, **o), (a, b))


def _contracted(
    self: Any,
    *variables: Any,
    in_lbls: Any,
    out_lbls: str,
    out: Any = None,
    optimize: Any = False,
) -> Any:
    """The value; ``in_lbls="ij,jk"`` and ``out_lbls="ik"`` are the two halves of the subscripts."""
    lbls = in_lbls if isinstance(in_lbls, str) else ",".join(in_lbls)
    return self._apply(
        lambda *xs, **o: _word("einsum")(f"{lbls}->{out_lbls}", *xs, optimize=optimize, **o),
        variables,
        **_given(out=out),
    )


def _normed(
    self: Any,
    tensor: Any,
    ord: Any = None,
    axis: Any = None,
    keepdims: bool = False,
    *,
    nan_to_num: bool = True,
) -> Any:
    """The value."""
    options = {"ord": ord, "axis": axis, "keepdims": keepdims, "nan_to_num": nan_to_num}
    return self._apply(_word("norm"), (tensor,), **options)


def _picked(self: Any, a: Any, index: Any) -> Any:
    """The value ``a[index]``."""
    self.index = index
    return self._apply(lambda a: _word("getitem")(a, index), (a,))


def _written(self: Any, a: Any, b: Any, index: Any, *, out: Any = None) -> Any:
    """The value: `a` with `b` at `index`, in `out` if given."""
    self.index = index
    value = self._apply(lambda a, b: _word("put")(a, index, b), (a, b))
    if out is None:
        return value
    out[...] = value
    return out


def _bent(self: Any, x: Any, alpha: Any) -> Any:
    """The value."""
    return self._apply(lambda x, **o: _word(self.word)(x, alpha, **o), (x,))


def _rescaled(self: Any, x: Any) -> Any:
    """The value."""
    return self._apply(_word(self.word), (x,))


def _shares(self: Any, a: Any, axis: Any = -1) -> Any:
    """The value."""
    return self._apply(_word(self.word), (a,), axis=axis)


def _focal(self: Any, class_probs: Any, targets: Any, alpha: Any, gamma: Any) -> Any:
    """The losses, one for each sample."""
    return self._apply(
        lambda x, **o: _word(self.word)(x, targets, alpha=alpha, gamma=gamma, **o), (class_probs,)
    )


def _ranked(self: Any, x1: Any, x2: Any, y: Any, margin: Any) -> Any:
    """The loss."""
    return self._apply(lambda x1, x2, **o: _word(self.word)(x1, x2, y, margin, **o), (x1, x2))


def _hinged(self: Any, a: Any, y: Any, hinge: float = 1.0) -> Any:
    """The loss."""
    return self._apply(lambda x, **o: _word(self.word)(x, y, hinge, **o), (a,))


def _classified(self: Any, x: Any, y_true: Any) -> Any:
    """The loss."""
    return self._apply(lambda x, **o: _word(self.word)(x, y_true, **o), (x,))


def _normalized(self: Any, x: Any, gamma: Any, beta: Any, *, eps: Any) -> Any:
    """The value; a `gamma` or `beta` without elements counts as not given."""

    def call(x: Any, *given: Any, **options: Any) -> Tensor:
        gamma, beta = (p if p.size else None for p in given)
        return _word(self.word)(x, gamma=gamma, beta=beta, eps=eps, **options)

    return self._apply(call, (x, gamma, beta))


def _layer(name: str) -> Callable[..., Any]:
    return getattr(import_module("gpugrad.nnet"), name)  # which is imported when it is asked for


def _convolved(
    self: Any, x: Any, w: Any, *, stride: Any, padding: Any = 0, dilation: Any = 1
) -> Any:
    """The value."""
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return self._apply(_layer("conv_nd"), (x, w), **options)


def _pooled(self: Any, x: Any, pool: Any, stride: Any) -> Any:
    """The value."""
    return self._apply(lambda x, **o: _layer("max_pool")(x, pool, stride, **o), (x,))


def _recurrent(
    self: Any,
    X: Any,
    Uz: Any,
    Wz: Any,
    bz: Any,
    Ur: Any,
    Wr: Any,
    br: Any,
    Uh: Any,
    Wh: Any,
    bh: Any,
    s0: Any = None,
    bp_lim: Any = None,
    dropout: float = 0.0,
) -> Any:
    """The states."""
    return self._apply(
        lambda *xs, **o: _layer("gru")(*xs, s0, bp_lim, dropout, **o),
        (X, Uz, Wz, bz, Ur, Wr, br, Uh, Wh, bh),
    )


class _WithMoments(Operation):
    """An operation that keeps the mean and the variance of each channel.

    Attributes
    ----------
    mean, var : array, shape (C,)
    """

    @property
    def mean(self) -> Any:
        return self._root.params["saved"]["mean"]  # type: ignore[attr-defined]

    @property
    def var(self) -> Any:
        return self._root.params["saved"]["var"]  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------- the table

# path -> class -> (word, base, how it is called)
TABLE: dict[str, dict[str, tuple[str, Any, Callable[..., Any]]]] = {}


def _rows(path: str, names: str, base: Any, call: Callable[..., Any]) -> None:
    """Classes named ``Class`` for the word "class", or "Class=word"."""
    for name, _, word in (entry.partition("=") for entry in names.split()):
        TABLE.setdefault(path, {})[name] = (word or name.lower(), base, call)


_rows("math.arithmetic.ops", "Reciprocal Square Positive Negative", UnaryUfunc, _unary)
_rows("math.arithmetic.ops", "Add Subtract Multiply Divide Power", BinaryUfunc, _binary)
_rows(
    "math.arithmetic.ops",
    "AddSequence=add_sequence MultiplySequence=multiply_sequence",
    Operation,
    _several,
)
_rows("math.exp_log.ops", "Exp Exp2 Expm1 Log Log2 Log10 Log1p", UnaryUfunc, _unary)
_rows("math.exp_log.ops", "Logaddexp Logaddexp2", BinaryUfunc, _binary)
_rows("math.hyperbolic_trig.ops", "Sinh Cosh Tanh Arcsinh Arccosh Arctanh", UnaryUfunc, _unary)
_rows("math.hyperbolic_trig.ops", "Csch Sech Coth Arccsch Arccoth", Operation, _one)
_rows("math.trigonometric.ops", "Sin Cos Tan Arcsin Arccos Arctan", UnaryUfunc, _unary)
_rows("math.trigonometric.ops", "Arctan2", BinaryUfunc, _binary)
_rows("math.trigonometric.ops", "Sinc Csc Sec Cot Arccsc Arcsec Arccot", Operation, _one)
_rows("math.misc.ops", "Abs=absolute", UnaryUfunc, _abs)
_rows("math.misc.ops", "Sqrt Cbrt", UnaryUfunc, _unary)
_rows("math.misc.ops", "Maximum Minimum MatMul", BinaryUfunc, _binary)
_rows(
    "math.sequential.ops",
    "Max Min Sum Mean Prod CumProd CumSum Variance=var StdDev=std",
    Sequential,
    _sequential,
)
_rows("tensor_manip.array_shape.ops", "Reshape", Operation, _reshaped)
_rows("tensor_manip.array_shape.ops", "Squeeze ExpandDims=expand_dims", Operation, _along)
_rows("tensor_manip.array_shape.ops", "Flatten", Operation, _flattened)
_rows("tensor_manip.array_shape.ops", "BroadcastTo=broadcast_to", Operation, _broadcast)
_rows(
    "tensor_manip.array_shape.ops",
    "Ravel AtLeast1D=atleast_1d AtLeast2D=atleast_2d AtLeast3D=atleast_3d",
    Operation,
    _one,
)
_rows("tensor_manip.tensor_joining.ops", "Concatenate", Operation, _concatenated)
_rows("tensor_manip.tensor_joining.ops", "Stack", Operation, _stacked)
_rows("tensor_manip.tiling.ops", "Repeat", Operation, _repeated)
_rows("tensor_manip.transpose_like.ops", "Transpose", Operation, _transposed)
_rows("tensor_manip.transpose_like.ops", "MoveAxis", Operation, _moved)
_rows("tensor_manip.transpose_like.ops", "SwapAxes", Operation, _swapped)
_rows("tensor_manip.transpose_like.ops", "Roll", Operation, _rolled)
_rows("tensor_manip.transpose_like.ops", "Tensor_Transpose_Property=transpose", Operation, _one)
_rows("indexing_routines.ops", "Where", Operation, _chosen)
_rows("linalg.ops", "EinSum", Operation, _contracted)
_rows("linalg.ops", "Norm", Operation, _normed)
_rows("_tensor_core_ops.indexing", "GetItem=getitem", Operation, _picked)
_rows("_tensor_core_ops.indexing", "SetItem=put_view", Operation, _written)
_rows("nnet.activations.elu", "ELU", Operation, _bent)
_rows("nnet.activations.selu", "SELU", Operation, _rescaled)
_rows("nnet.activations.relu", "ReLu", Operation, _one)
_rows("nnet.activations.sigmoid", "Sigmoid", Operation, _one)
_rows("nnet.activations.softmax", "Softmax LogSoftmax", Operation, _shares)
_rows("nnet.losses.focal_loss", "FocalLoss=focal_loss", Operation, _focal)
_rows("nnet.losses.margin_ranking_loss", "MarginRanking=margin_ranking_loss", Operation, _ranked)
_rows("nnet.losses.multiclass_hinge", "MulticlassHinge=multiclass_hinge", Operation, _hinged)
_rows(
    "nnet.losses.softmax_crossentropy",
    "SoftmaxCrossEntropy=softmax_crossentropy",
    Operation,
    _classified,
)
_rows("nnet.layers.batchnorm", "BatchNorm", _WithMoments, _normalized)
_rows("nnet.layers.conv", "ConvND=conv", Operation, _convolved)
_rows("nnet.layers.pooling", "MaxPoolND=max_pool", Operation, _pooled)
_rows("nnet.layers.gru", "GRUnit=gru", Operation, _recurrent)

# word -> (path, class); of two classes of one word the first is the creators' type
_BY_WORD: dict[str, tuple[str, str]] = {}
for _path, _classes in TABLE.items():
    for _name, (_its_word, _, _) in _classes.items():
        _BY_WORD.setdefault(_its_word, (_path, _name))

_made: dict[tuple[str, str], type[Declared]] = {}


def operation_class(path: str, name: str) -> type[Declared]:
    """The class `name` of the module `path` (without the leading "gpugrad.").

    Raises
    ------
    KeyError
        There is none.
    """
    found = _made.get((path, name))
    if found is None:
        word, base, call = TABLE[path][name]
        function: Any = getattr(np, word, None)
        contents: dict[str, Any] = {
            "__module__": f"gpugrad.{path}",
            "__doc__": f"The operation of ``gpugrad.{word}``.",
            "__call__": call,
            "word": word,
            "can_return_view": word in OPS and OPS[word].may_view,
        }
        if base is Sequential:
            contents["numpy_func"] = staticmethod(function)
            contents["_integer_axis_only"] = word in ("cumprod", "cumsum")
        elif base in (UnaryUfunc, BinaryUfunc):
            contents["numpy_ufunc"] = function
        elif function is not None:
            contents["numpy_func"] = staticmethod(function)
        found = _made[path, name] = type(name, (Declared, base), contents)
    return found


def _class_name(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))


def _class_of(word: str) -> type[Declared]:
    """The class of an op; one that MyGrad does not have lies in this module."""
    if word in _BY_WORD:
        return operation_class(*_BY_WORD[word])
    name = _class_name(word)
    found = _made.get((__name__, name))
    if found is None:
        contents = {
            "__module__": __name__,
            "__doc__": f"The operation of ``gpugrad.{word}``.",
            "__call__": _several,
            "word": word,
        }
        found = _made[__name__, name] = type(name, (Declared,), contents)
    return found


def __getattr__(name: str) -> Any:
    for word in OPS:
        if name == _class_name(word):
            return _class_of(word)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_creators: WeakKeyDictionary[Vertex, Operation] = WeakKeyDictionary()


def creator_of(t: Tensor) -> Operation | None:
    """The operation that made this tensor; None for a leaf or after the graph is cleared."""
    vertex = vertex_of(t, renewing=False)
    op = vertex.op
    if op is None or op is CLEARED:
        return None
    creator = creator_of_call(vertex)
    if creator is None:
        creator = _creators.get(vertex)
    if creator is None:
        creator = _creators[vertex] = _class_of(op.name)._of(vertex)
    return creator
