"""Derivatives of functions, of any order.

Here the sweep runs in the namespace of Tensors, so that the gradient is a graph in its turn:

>>> import gpugrad as gg
>>> f = lambda x: x**3
>>> gg.grad(gg.grad(f))(2.0)
Tensor(12.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from gpugrad.backend.array_module import check_same_device, get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import InvalidBackprop
from gpugrad.graph.op import OPS
from gpugrad.graph.sweep import sweep
from gpugrad.graph.vertex import NO_PARAMS, Vertex
from gpugrad.ops.joining import stack
from gpugrad.ops.namespace import tensor_namespace
from gpugrad.ops.reductions import sum as tensor_sum
from gpugrad.ops.shaping import reshape
from gpugrad.state import Switch
from gpugrad.tensor import Tensor, hold_operands, vertex_of, wrap

__all__ = ["grad", "hessian", "hvp", "jacobian", "value_and_grad", "vjp"]

_recording = Switch("recording", "Record a graph, whatever the caller's setting.", tracking=True)


def _as_variable(function: str, x: Any) -> Tensor:
    """A new handle for an argument that is differentiated by, connected to it if it is a tensor."""
    if isinstance(x, Tensor):
        source = vertex_of(x)
        if source.data.dtype.kind != "f":
            raise TypeError(f"{function}: got an argument of dtype {x.dtype}, expected floats")
        if source.constant:
            return Tensor(source.data, constant=False, copy=False)
        # a vertex of its own: f is differentiated by it alone, whatever larger graph it is in
        op = OPS["positive"]
        inputs = (source,)
        return wrap(Vertex(source.data, op, inputs, NO_PARAMS, False, hold_operands(inputs)))
    if isinstance(x, int | float):
        x = float(x)
    out = Tensor(x, copy=False)
    if out.constant:
        raise TypeError(f"{function}: got an argument of dtype {out.dtype}, expected floats")
    return out


def _places(argnums: int | Sequence[int]) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def _lift() -> Callable[[Vertex], Tensor]:
    handles: dict[Vertex, Tensor] = {}

    def lift(vertex: Vertex) -> Tensor:
        handle = handles.get(vertex)
        if handle is None:
            handle = handles[vertex] = wrap(vertex)
        return handle

    return lift


def _gradients(y: Tensor, xs: Sequence[Vertex], seed: Any) -> list[Tensor]:
    """Cotangents of `xs` as tensors of a graph."""
    root = vertex_of(y)
    found: dict[Vertex, Any] = {}
    if not root.constant:
        inner, found, _ = sweep(root, seed, tensor_namespace, _lift())
        found.update(inner)
    gradients = []
    for vertex in xs:
        g = found.get(vertex)
        if g is None:
            g = Tensor(
                namespace_of(get_array_module(vertex.data)).zeros_like(vertex.data),
                constant=True,
                copy=False,
            )
        gradients.append(g if isinstance(g, Tensor) else Tensor(g, copy=False))
    return gradients


def _seed_of(y: Any) -> Any:
    return Tensor(
        namespace_of(get_array_module(y.data)).ones_like(y.data), constant=True, copy=False
    )


def _call(
    function: str, f: Callable, args: tuple, kwargs: dict, places: tuple[int, ...]
) -> tuple[Any, list[Vertex]]:
    """``f(*args)``, and the vertices that the arguments stood for before `f` wrote into them."""
    for i in places:
        if not -len(args) <= i < len(args):
            raise ValueError(f"{function}: argnums {i}, but got {len(args)} arguments")
    xs = {i % len(args): _as_variable(function, args[i % len(args)]) for i in places}
    start = [xs[i % len(args)]._vertex for i in places]
    return f(*(xs.get(i, a) for i, a in enumerate(args)), **kwargs), start


def _shape_back(argnums: int | Sequence[int], gradients: list[Tensor]) -> Any:
    return gradients[0] if isinstance(argnums, int) else tuple(gradients)


def _check_scalar(function: str, y: Any) -> None:
    if not isinstance(y, Tensor):
        raise TypeError(f"{function}: f returned {type(y).__name__}, expected a Tensor")
    if y.size != 1:
        raise InvalidBackprop(
            f"{function}: f returned shape {y.shape}, expected one number; see jacobian and vjp"
        )


def value_and_grad(
    f: Callable, argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable:
    """A function that returns ``(f(*args), gradient)``.

    Parameters
    ----------
    f : callable
        Returns a tensor with one element; with `has_aux`, a pair of that and anything else.
    argnums : int or sequence of int, optional
        By which arguments to differentiate. An int gives one gradient, a sequence a tuple.
    has_aux : bool, optional
        Return ``((f, aux), gradient)``.

    Returns
    -------
    callable

    Raises
    ------
    InvalidBackprop
        `f` returned more than one number.
    TypeError
        An argument is not of floats, or `f` did not return a tensor.
    """

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _recording:
            y, xs = _call("grad", f, args, kwargs, _places(argnums))
            y, aux = y if has_aux else (y, None)
            _check_scalar("grad", y)
            gradients = _gradients(y, xs, _seed_of(y))
        return ((y, aux) if has_aux else y), _shape_back(argnums, gradients)

    return wrapper


def grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The gradient of a function with one number as its value; parameters as `value_and_grad`.

    The result is a tensor of a graph, so that it can be differentiated again.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.grad(lambda x: (x**2).sum())(gg.tensor([1.0, 2.0]))
    Tensor([2., 4.])
    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return wrapper


def vjp(f: Callable, *args: Any) -> tuple[Tensor, Callable]:
    """``f(*args)`` and the map from a cotangent of it to the cotangents of all arguments.

    Returns
    -------
    y : Tensor
    pullback : callable
        ``pullback(g)`` with `g` of the shape of `y` returns a tuple, one entry an argument; it may
        be called more than once.

    Raises
    ------
    ValueError
        `g` has another shape than `y`.
    """
    with _recording:
        y, xs = _call("vjp", f, args, {}, tuple(range(len(args))))
    if not isinstance(y, Tensor):
        raise TypeError(f"vjp: f returned {type(y).__name__}, expected a Tensor")

    def pullback(g: Any) -> tuple[Tensor, ...]:
        with _recording:
            g = g if isinstance(g, Tensor) else Tensor(g, constant=None, copy=False)
            check_same_device("vjp", y.data, g.data)
            if g.shape != y.shape:
                raise ValueError(f"vjp: the cotangent has shape {g.shape}, expected {y.shape}")
            return tuple(_gradients(y, xs, g))

    return y, pullback


def jacobian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the derivatives of every element of `f` by every element of `x`.

    Returns
    -------
    callable
        Its value has shape ``f(x).shape + x.shape``; one sweep is run for each element of ``f(x)``.
    """

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _recording:
            y, xs = _call("jacobian", f, args, kwargs, _places(argnums))
            if not isinstance(y, Tensor):
                raise TypeError(f"jacobian: f returned {type(y).__name__}, expected a Tensor")
            raw = namespace_of(get_array_module(y.data))
            rows: list[list[Tensor]] = []
            for i in range(y.size):
                seed = raw.zeros(y.size, dtype=y.dtype)
                seed[i] = 1
                seed = Tensor(seed.reshape(y.shape), constant=True, copy=False)
                rows.append(_gradients(y, xs, seed))
            blocks = []
            for j, x in enumerate(xs):
                shape = y.shape + x.data.shape
                if rows:
                    blocks.append(reshape(stack([row[j] for row in rows]), shape))
                else:
                    empty = raw.zeros(shape, dtype=x.data.dtype)
                    blocks.append(Tensor(empty, constant=True, copy=False))
        return _shape_back(argnums, blocks)

    return wrapper


def hessian(f: Callable, argnums: int = 0) -> Callable:
    """A function that returns second derivatives of a scalar function, ``x.shape + x.shape``."""
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable, x: Any, v: Any) -> Tensor:
    """The product of the Hessian of a scalar function at `x` with `v`, without forming the matrix.

    Parameters
    ----------
    f : callable
        Of one argument.
    x, v : array_like, of one shape

    Returns
    -------
    Tensor, of the shape of `x`
    """
    v = v if isinstance(v, Tensor) else Tensor(v, constant=True, copy=False)
    gradient = grad(f)

    def along(x: Tensor) -> Tensor:
        g = gradient(x)
        if g.shape != v.shape:
            raise ValueError(f"hvp: v has shape {v.shape}, x has shape {g.shape}")
        return tensor_sum(g * v)

    return grad(along)(x)
