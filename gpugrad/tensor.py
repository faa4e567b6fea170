"""The Tensor: a handle on a vertex of the graph. It contains no mathematics.

A Tensor points at its current vertex. An in-place write makes a new vertex and moves the handle
(:mod:`gpugrad.mutation`); what was computed before keeps the old one. Which vertex a view points at
is said in :mod:`gpugrad.views`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gpugrad.backend.array_module import (
    Device,
    asnumpy,
    check_same_device,
    device_of,
    get_array_module,
    to_device,
)
from gpugrad.backend.vocabulary import namespace_of, numpy_namespace
from gpugrad.errors import InvalidGradient
from gpugrad.graph.guard import Hold, expose
from gpugrad.graph.sweep import LARGE, clear_graph, sweep
from gpugrad.graph.vertex import CLEARED, NO_PARAMS, Vertex, leaf
from gpugrad.state import TRACKING
from gpugrad.views import View, vertex_of

__all__ = ["CONSTANT_ONLY_DTYPES", "SCALARS", "Tensor", "as_operand", "wrap"]

CONSTANT_ONLY_DTYPES = (np.integer, np.bool_)
SCALARS = frozenset((int, float, bool, np.float64, np.float32, np.float16, np.int64, np.bool_))


class Tensor:
    """An array that remembers how it was computed, so that derivatives can be.

    Parameters
    ----------
    x : array_like
        Numbers, sequences, NumPy or CuPy arrays, or a tensor. A CuPy array stays on its GPU.
    dtype : dtype, optional
    constant : bool, optional
        A constant takes no gradient. Integers and bools are always constant.
    copy : bool, optional
        False: share the memory of `x` where that is possible.
    ndmin : int, optional
        Prepend axes of length 1 until the tensor has at least so many dimensions.
    device : str or Device, optional
        Where the data go; by default they stay where they are.

    Raises
    ------
    TypeError
        `x` is complex or not numeric.
    ValueError
        ``constant=False`` for integers.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([1.0, 2.0])
    >>> y = (x**2).sum()
    >>> y.backward()
    >>> x.grad
    array([2., 4.])
    """

    __slots__ = ("__dict__", "__weakref__", "_layout", "_vertex", "_view")
    __array_priority__ = 1000.0

    _vertex: Vertex
    _view: View | None
    _layout: tuple[int, ...]

    def __init__(
        self,
        x: Any,
        *,
        dtype: Any = None,
        constant: bool | None = None,
        copy: bool = True,
        ndmin: int = 0,
        _creator: None = None,
        _base: None = None,
        device: str | Device | None = None,
    ) -> None:
        if _creator is not None or _base is not None:
            raise TypeError("Tensor: got _creator or _base, which only the graph itself can give")
        if constant is not None and not isinstance(constant, bool):
            raise TypeError(f"Tensor: constant is {constant!r}, expected True, False or None")
        source = x.data if isinstance(x, Tensor) else x
        data = to_device(source, device) if device is not None else source
        xp = get_array_module(data)
        private = copy or not isinstance(data, xp.ndarray)
        try:
            data = xp.array(data, dtype=dtype) if copy else xp.asarray(data, dtype=dtype)
        except ValueError as error:
            raise type(error)(f"Tensor: {error}") from None
        private = private or data is not source
        if ndmin > data.ndim:
            data = data.reshape((1,) * (ndmin - data.ndim) + data.shape)
        self._vertex = leaf(data, resolve_constant("Tensor", data.dtype, constant), not private)
        self._view = None

    def _as_private(self) -> Tensor:
        """This tensor, whose array was just made and is known to nobody else."""
        self._vertex.exposed = False
        return self

    # ------------------------------------------------------------------------------- the array

    @property
    def data(self) -> Any:
        """The array: NumPy's or CuPy's. It is read-only while a graph depends on it."""
        vertex = vertex_of(self, renewing=False)
        if not vertex.exposed:
            if self._view is not None:
                expose(self._view.base._vertex)
            expose(vertex)
        return vertex.data

    @data.setter
    def data(self, value: Any) -> None:
        array = value.data if isinstance(value, Tensor) else as_operand("Tensor.data", value)
        if not hasattr(array, "shape") or np.isscalar(array):
            array = np.asarray(array)
        old = vertex_of(self, renewing=False)
        if array is old.data:  # ``x.data -= step`` has written to it already
            return
        constant = old.constant or array.dtype.kind != "f"
        new = leaf(array, constant, exposed=True)
        if old.op is not None:
            check_same_device("Tensor.data", old.data, array)
        if array.shape == old.data.shape and not constant:
            # as in MyGrad: other numbers, of the same history
            new.op, new.inputs, new.params, new.where = old.op, old.inputs, old.params, old.where
            new.holds, new.grad = old.holds, old.grad
            if new.grad is not None:
                new.grad_shared = old.grad_shared
            if new.holds != ():
                new.own = Hold(array)
        self._vertex = new
        self._view = None

    _gpugrad_data_ = data  # by this name the backend, which knows no tensors, finds the array

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes. Setting it reshapes the tensor, within its graph."""
        return vertex_of(self, renewing=False).data.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self._vertex.data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return vertex_of(self, renewing=False).data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._vertex.data.size

    @property
    def device(self) -> Device:
        """Where the array lies: ``cpu`` or ``cuda:0``."""
        return device_of(self._vertex.data)

    @property
    def constant(self) -> bool:
        """Whether gradients stop here."""
        return self._vertex.constant

    @property
    def base(self) -> Tensor | None:
        """The tensor whose memory this one shows, or None if it owns its memory."""
        return self._view.base if self._view is not None else None

    # --------------------------------------------------------------------------------- gradients

    @property
    def grad(self) -> Any:
        """The derivative that the last `backward` found for this tensor; None before.

        The gradient of a view is the same view of its base's gradient, and shares its memory.
        """
        view = self._view
        if view is not None:
            g = view.base.grad
            if g is None:
                return None
            if hasattr(view.base, "_layout"):
                g = g.reshape(view.base._layout)
            xp = namespace_of(get_array_module(g))
            for op, params in view.recipe:
                g = op.forward(xp, g, **params)
            return g
        vertex = self._vertex
        if vertex.grad is not None and (vertex.grad_shared or not vertex.grad.flags.c_contiguous):
            # in C order: views of it share its memory
            vertex.grad = get_array_module(vertex.data).array(vertex.grad, order="C")
            vertex.grad_shared = False
        return vertex.grad

    def backward(self, grad: Any = None) -> None:
        """Compute the derivatives of this tensor by all it depends on, then clear the graph.

        Parameters
        ----------
        grad : array_like, optional
            Cotangent of this tensor, broadcast to its shape; 1 by default (so that an array is
            summed over).

        Raises
        ------
        InvalidBackprop
            The graph, or a part of it, was cleared before.
        InvalidGradient
            `grad` is not numeric.
        ValueError
            `grad` does not broadcast to the shape of this tensor.
        """
        if not TRACKING.get():
            return
        vertex = vertex_of(self, renewing=False)
        if vertex.constant:
            clear_graph(vertex)
            return
        data = vertex.data
        xp = numpy_namespace if type(data) is np.ndarray else namespace_of(get_array_module(data))
        if grad is None:
            # copying a small array takes a third of the time of ones_like, a large one longer
            seed = data.copy() if data.size < LARGE else xp.empty(data.shape, dtype=data.dtype)
            seed.fill(1)
        else:
            seed = _as_cotangent(xp, grad, data)
        inner, leaves, shared, constants = sweep(vertex, seed, xp)
        for v, g in inner:
            v.grad = g
            v.grad_shared = True
            v.op = CLEARED
            v.inputs = v.holds = ()
            v.params = NO_PARAMS  # an operation may keep arrays there
            v.own = None
        for v, g in leaves.items():
            if g.base is not None:
                g = g.copy()
            v.grad = np.asarray(g) if isinstance(g, np.generic) else g
            v.grad_shared = v in shared
        if constants:
            clear_graph(*constants)

    def null_grad(self, *, _clear_view_info: bool = False) -> Tensor:
        """Forget the gradient; returns this tensor."""
        vertex_of(self, renewing=False).grad = None
        if _clear_view_info and self._view is not None and self._vertex.op is CLEARED:
            self._view = None
        return self

    def clear_graph(self) -> None:
        """Forget how this tensor, and all that it depends on, was computed.

        Arrays that the graph kept read-only become writeable again.
        """
        clear_graph(vertex_of(self, renewing=False))

    # -------------------------------------------------------------------------------- conversion

    def astype(
        self,
        dtype: Any,
        casting: str = "unsafe",
        copy: bool = True,
        *,
        constant: bool | None = None,
    ) -> Tensor:
        """A tensor of another dtype. It is a leaf of a new graph, as an array would be."""
        if not np.can_cast(self.dtype, dtype, casting):  # type: ignore[arg-type]
            raise TypeError(
                f"astype: got dtype {np.dtype(dtype)} for a tensor of {self.dtype}, expected one "
                f"that casting={casting!r} allows"
            )
        data = self.data.astype(dtype, copy=copy)  # CuPy's has no `casting`
        if data is self._vertex.data and (constant is None or constant == self.constant):
            return self
        # a float stays what it was; an integer was constant only because it had to be
        inherits = constant is None and self.dtype.kind == data.dtype.kind == "f"
        resolved = self.constant if inherits else constant
        return wrap(leaf(data, resolve_constant("astype", data.dtype, resolved), not copy))

    def copy(self, *, constant: bool | None = None) -> Tensor:
        """A copy: a leaf of a new graph, with a copy of the gradient."""
        data = vertex_of(self, renewing=False).data
        resolved = self.constant if constant is None else constant
        out = wrap(leaf(data.copy("K"), resolve_constant("copy", data.dtype, resolved), False))
        g = self.grad
        if g is not None:
            out._vertex.grad, out._vertex.grad_shared = g.copy(), False
        return out

    __copy__ = copy

    def item(self) -> int | float:
        """The one element, as a Python number."""
        return self._only("item", ValueError)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        data = self.data
        if not isinstance(data, np.ndarray):
            raise TypeError(
                f"np.asarray: the tensor lies on {device_of(data)}; "
                "gpugrad.asnumpy(tensor) copies it to the host"
            )
        if copy:
            return np.array(data, dtype=dtype)
        array = np.asarray(data, dtype=dtype)
        if copy is False and array is not data:
            raise ValueError(f"Tensor.__array__: got copy=False, but {dtype} needs a copy")
        return array

    def _only(self, function: str, error: type[Exception] = TypeError) -> int | float:
        """The one element, for conversions to Python's numbers."""
        data = vertex_of(self, renewing=False).data
        if data.size != 1:
            error = error if data.size else ValueError  # as in MyGrad
            raise error(f"{function}: got a tensor of shape {data.shape}, expected one element")
        return data.item()

    def __float__(self) -> float:
        return float(self._only("float"))

    def __int__(self) -> int:
        return int(self._only("int"))

    def __index__(self) -> int:
        data = vertex_of(self, renewing=False).data
        if data.ndim or data.dtype.kind not in "iu":
            raise TypeError(
                f"Tensor: {data.dtype} of shape {data.shape} is not an index, expected one integer"
            )
        return data.item()

    def __bool__(self) -> bool:
        return bool(vertex_of(self, renewing=False).data)

    def __len__(self) -> int:
        return len(vertex_of(self, renewing=False).data)

    def __contains__(self, item: Any) -> bool:
        data = vertex_of(self, renewing=False).data  # CuPy's array has no `in`
        return bool((data == (item.data if isinstance(item, Tensor) else item)).any())

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("Tensor: iteration over a 0-d tensor")
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        text = repr(asnumpy(vertex_of(self, renewing=False).data))
        return text.replace("array", "Tensor", 1).replace("\n", "\n ")

    __hash__ = None  # type: ignore[assignment]  # == compares elements, as NumPy's does

    def __getitem__(self, index: Any) -> Tensor:
        raise NotImplementedError  # bound by gpugrad.operators, as are all operators and methods

    if TYPE_CHECKING:  # operators and methods are bound from above
        _grad: Any
        _constant: bool

        def __getattr__(self, name: str) -> Any: ...


def _as_cotangent(xp: Any, grad: Any, data: Any) -> Any:
    if isinstance(grad, Tensor):
        grad = grad.data
    check_same_device("backward", data, grad)
    try:
        g = xp.asarray(grad, dtype=data.dtype)
    except (TypeError, ValueError) as error:
        raise InvalidGradient(f"backward: grad is {grad!r}, expected numbers ({error})") from None
    try:
        seed = xp.empty(data.shape, dtype=data.dtype)  # in C order: views of it share its memory
        seed[...] = g if g.shape == data.shape else xp.broadcast_to(g, data.shape)
        return seed
    except ValueError:
        raise ValueError(
            f"backward: grad has shape {g.shape}, which does not broadcast to the tensor's shape "
            f"{data.shape}"
        ) from None


def resolve_constant(function: str, dtype: np.dtype, constant: bool | None) -> bool:
    if dtype.kind == "f":
        return bool(constant)
    if dtype.kind not in "iub":
        expected = "real numbers" + (": complex is not supported" if dtype.kind == "c" else "")
        raise TypeError(f"{function}: got dtype {dtype}, expected {expected}")
    if constant is False:
        raise ValueError(
            f"{function}: constant=False for dtype {dtype}; only floats take gradients"
        )
    return True


def wrap(vertex: Vertex) -> Tensor:
    """A handle on `vertex`."""
    out = _new(Tensor)
    out._vertex = vertex
    out._view = None
    return out


_new = object.__new__


def as_operand(function: str, x: Any) -> Any:
    """`x` as a raw real array or scalar that an operation accepts."""
    if type(x) is not np.ndarray:
        if isinstance(x, int | float):
            return x
        if isinstance(x, list | tuple) and _contains_variable(x):
            raise TypeError(
                f"{function}: got a sequence of tensors that take gradients, expected one tensor; "
                "gpugrad.stack(...) joins them without losing a gradient"
            )
        if not isinstance(x, np.generic) and get_array_module(x) is np:
            x = np.asarray(x)  # np.matrix and other libraries' arrays too: they would take over
    if x.dtype.kind not in "fiub":
        expected = "real numbers" + (": complex is not supported" if x.dtype.kind == "c" else "")
        raise TypeError(f"{function}: got an operand of dtype {x.dtype}, expected {expected}")
    return x


def _contains_variable(x: Any) -> bool:
    return any(
        not a.constant
        if isinstance(a, Tensor)
        else isinstance(a, list | tuple) and _contains_variable(a)
        for a in x
    )
