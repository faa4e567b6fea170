"""Derivatives of functions, of any order.

Here the sweep runs in the namespace of Tensors, so that the gradient is a graph in its turn:

>>> import gpugrad as gg
>>> f = lambda x: x**3
>>> gg.grad(gg.grad(f))(2.0)
Tensor(12.)

An argument is an array, a tensor, a number, or a dict, list or tuple of them; its gradient has its
structure. (A list of nothing but numbers is an array, as in NumPy.) Under ``no_autodiff`` the same
derivatives come as plain values: the last sweep then runs on raw arrays, which takes less time and
keeps no graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from gpugrad.backend.array_module import check_same_device, get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import InvalidBackprop
from gpugrad.graph.op import OPS
from gpugrad.graph.sweep import sweep_toward
from gpugrad.graph.vertex import NO_PARAMS, Vertex
from gpugrad.ops.joining import stack
from gpugrad.ops.namespace import tensor_namespace
from gpugrad.ops.shaping import reshape
from gpugrad.state import TRACKING, recording
from gpugrad.tensor import Tensor, as_operand, wrap
from gpugrad.tree import leaves, leaves_like, rebuild
from gpugrad.views import hold_operands, vertex_of

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]

Argnums = int | Sequence[int]


# ------------------------------------------------------------------------------ arguments, results


def as_variable(function: str, x: Any) -> Tensor:
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
    if isinstance(x, int | float) and not isinstance(x, bool):
        x = float(x)
    try:
        out = Tensor(x, copy=False)
    except (TypeError, ValueError) as error:
        why = str(error).removeprefix("Tensor: ")
        raise type(error)(
            f"{function}: got an argument of type {type(x).__name__}, expected floats ({why})"
        ) from None
    if out.constant:
        raise TypeError(f"{function}: got an argument of dtype {out.dtype}, expected floats")
    return out


def is_array(x: Any) -> bool:
    """Whether `x` is one array: nested lists are, if they hold nothing but numbers.

    A namedtuple is none: its parts are asked for by name.
    """
    if hasattr(x, "_fields"):
        return False
    if isinstance(x, list | tuple):
        return not any(isinstance(a, dict) or hasattr(a, "shape") or not is_array(a) for a in x)
    return not isinstance(x, dict)


def as_variables(function: str, x: Any) -> Any:
    """New handles for an argument, in its structure."""
    if is_array(x):
        return as_variable(function, x)
    return rebuild(x, [as_variable(function, leaf) for leaf in leaves(x)])


def _as_cotangent(function: str, what: str, like: Tensor, g: Any) -> Tensor:
    """`g` as a tensor of the shape and dtype of `like`."""
    if not isinstance(g, Tensor):
        g = Tensor(float(g) if isinstance(g, int | float) else as_operand(function, g), copy=False)
    check_same_device(function, like._vertex.data, g._vertex.data)
    if g.shape != like.shape:
        raise ValueError(f"{function}: {what} has shape {g.shape}, expected {like.shape}")
    return g if g.dtype == like.dtype else tensor_namespace.cast(g, like.dtype)


def check_function(function: str, f: Any) -> None:
    """Refuse what cannot be called, before it is called."""
    if not callable(f):
        raise TypeError(f"{function}: f is {f!r}, expected a function")


def _checked(function: str, f: Any, argnums: Any) -> int | tuple[int, ...]:
    """`argnums` as an int or a tuple of them; nothing is called before they and `f` are right."""
    check_function(function, f)
    try:
        if isinstance(argnums, Iterable):
            return tuple(map(operator.index, argnums))
        return operator.index(argnums)
    except TypeError:
        raise TypeError(
            f"{function}: argnums is {argnums!r}, expected an int or a sequence of ints"
        ) from None


class _Call:
    """``f(*args)``, recorded, and the vertices that the arguments stood for at its start.

    What `f` writes into an argument makes it another vertex: the derivatives are by the first.
    """

    def __init__(self, function: str, f: Callable, args: tuple, kwargs: dict, argnums: Argnums):
        self.function = function
        self.one = isinstance(argnums, int)
        places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        check_function(function, f)
        for i in places:
            if not -len(args) <= i < len(args):
                raise ValueError(f"{function}: argnums {i}, but got {len(args)} arguments")
        self.raw = not TRACKING.get()
        with recording:
            variables = {i % len(args): as_variables(function, args[i % len(args)]) for i in places}
            trees = [variables[i % len(args)] for i in places]
            self.arguments = [rebuild(x, [t._vertex for t in leaves(x)]) for x in trees]
            self.result = f(*(variables.get(i, a) for i, a in enumerate(args)), **kwargs)
        self.vertices = [v for tree in self.arguments for v in leaves(tree)]

    def tensor(self, y: Any) -> Tensor:
        """`y`, which `f` returned."""
        if not isinstance(y, Tensor):
            raise TypeError(f"{self.function}: f returned {type(y).__name__}, expected a Tensor")
        return y

    def number(self, y: Any) -> Tensor:
        if self.tensor(y).size != 1:
            raise InvalidBackprop(
                f"{self.function}: f returned shape {y.shape}, expected one number; "
                "see jacobian and vjp"
            )
        return y

    def structured(self, gradients: Sequence[Any]) -> Any:
        """Gradients, one for each vertex, in the structure of the arguments."""
        left = iter(gradients)
        trees = [rebuild(tree, left) for tree in self.arguments]
        return trees[0] if self.one else tuple(trees)

    def returned(self, y: Any) -> Any:
        """What `f` returned, as the caller gets it: without a graph if none was asked for."""
        return rebuild(y, [_without_graph(t) for t in leaves(y)]) if self.raw else y

    def gradients(self, y: Tensor, seed: Tensor, raw: bool | None = None) -> list[Tensor]:
        raw = self.raw if raw is None else raw
        return gradients(self.vertices, [y], [seed], raw)


def lifting() -> Callable[[Vertex], Tensor]:
    handles: dict[Vertex, Tensor] = {}

    def lift(vertex: Vertex) -> Tensor:
        handle = handles.get(vertex)
        if handle is None:
            handle = handles[vertex] = wrap(vertex)
        return handle

    return lift


def gradients(
    xs: Sequence[Vertex], ys: Sequence[Tensor], seeds: Sequence[Tensor], raw: bool = False
) -> list[Tensor]:
    """Cotangents of `xs` from those of `ys`: tensors of a graph, or of none if `raw`."""
    roots = [vertex_of(y, renewing=False) for y in ys]
    found: dict[Vertex, Any]
    if raw:
        xp = namespace_of(get_array_module(*(v.data for v in roots)))
        found = sweep_toward(xs, roots, [vertex_of(g).data for g in seeds], xp)
    else:
        with recording:
            found = sweep_toward(xs, roots, seeds, tensor_namespace, lifting())
            _separate(found, [v.data for v in (*xs, *map(vertex_of, seeds))])
    return [_gradient_of(x, found.get(x)) for x in xs]


def _separate(found: dict[Vertex, Tensor], others: Sequence[Any]) -> None:
    """Give each gradient memory of its own: who writes to one must not change another."""
    known = {id(array) for array in others}
    for x, g in found.items():
        data = g._vertex.data
        if data.base is not None or id(data) in known:
            found[x] = tensor_namespace.positive(g)
        else:
            known.add(id(data))


def _gradient_of(x: Vertex, g: Any) -> Tensor:
    if isinstance(g, Tensor):
        return g
    xp = namespace_of(get_array_module(x.data))
    if g is None:
        return Tensor(xp.zeros_like(x.data), constant=True, copy=False)
    return Tensor(xp.asarray(g), copy=False)


def _without_graph(y: Any) -> Any:
    if not isinstance(y, Tensor):
        return y
    return Tensor(y._vertex.data, constant=y.constant, copy=False)


def _ones(y: Tensor) -> Tensor:
    data = y._vertex.data
    ones = namespace_of(get_array_module(data)).ones_like(data)
    return Tensor(ones, constant=True, copy=False)


# ----------------------------------------------------------------------------- functions of numbers


def value_and_grad(f: Callable, argnums: Argnums = 0, *, has_aux: bool = False) -> Callable:
    """A function that returns ``(f(*args), gradient)``.

    Parameters
    ----------
    f : callable
        Returns a tensor with one element; with `has_aux`, a pair of that and anything else. It is
        called once.
    argnums : int or sequence of int, optional
        By which arguments to differentiate. An int gives one gradient, a sequence a tuple.
    has_aux : bool, optional
        Return ``((f, aux), gradient)``.

    Returns
    -------
    callable
        Keyword arguments go to `f` as they are. The gradient has the structure, shapes, dtypes and
        device of the argument; where `f` does not depend on it, it is 0.

    Raises
    ------
    InvalidBackprop
        `f` returned more than one number.
    TypeError
        `f` is no function, an argument is not of floats, `f` did not return a tensor, or `argnums`
        are no integers.
    ValueError
        `argnums` names an argument that did not come.

    Examples
    --------
    >>> import gpugrad as gg
    >>> loss = lambda w, x: ((x @ w["weight"] + w["bias"]) ** 2).sum()
    >>> w = {"weight": gg.tensor([1.0, 2.0]), "bias": 0.5}
    >>> gg.value_and_grad(loss)(w, gg.tensor([1.0, 1.0]))
    (Tensor(12.25), {'weight': Tensor([7., 7.]), 'bias': Tensor(7.)})
    """
    return _value_and_grad("value_and_grad", f, argnums, has_aux)


def _value_and_grad(function: str, f: Callable, argnums: Argnums, has_aux: bool) -> Callable:
    places = _checked(function, f, argnums)

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call(function, f, args, kwargs, places)
        y, aux = call.result if has_aux else (call.result, None)
        found = call.structured(call.gradients(call.number(y), _ones(y)))
        y = call.returned(y)
        return ((y, aux) if has_aux else y), found

    return wrapper


def grad(f: Callable, argnums: Argnums = 0, *, has_aux: bool = False) -> Callable:
    """The gradient of a function with one number as its value.

    The result is a tensor of a graph, so that it can be differentiated again.

    Parameters
    ----------
    f, argnums, has_aux
        As in `value_and_grad`; with `has_aux` the function returns ``(gradient, aux)``.

    Raises
    ------
    InvalidBackprop, TypeError, ValueError
        As in `value_and_grad`.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.grad(lambda x: (x**2).sum())(gg.tensor([1.0, 2.0]))
    Tensor([2., 4.])
    """
    both = _value_and_grad("grad", f, argnums, has_aux)

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        y, found = both(*args, **kwargs)
        return (found, y[1]) if has_aux else found

    return wrapper


# ------------------------------------------------------------------------------------- products


def vjp(f: Callable, *args: Any, has_aux: bool = False) -> tuple:
    """``f(*args)`` and the map from a cotangent of it to the cotangents of all arguments.

    Parameters
    ----------
    f : callable
        Returns a tensor, or a dict, list or tuple of tensors; with `has_aux`, a pair of that and
        anything else.
    *args
        All of floats: what `f` is not differentiated by, it closes over.
    has_aux : bool, optional
        Return ``(y, pullback, aux)``.

    Returns
    -------
    y : what `f` returned
    pullback : callable
        ``pullback(g)``, with `g` of the structure and shapes of `y`, returns a tuple, one entry an
        argument. It may be called more than once, and differentiated by `g` and by `args`.

    Raises
    ------
    TypeError
        `f` is no function, an argument is not of floats, or `f` did not return tensors.
    ValueError
        `g` has another shape than `y`.

    Examples
    --------
    >>> import gpugrad as gg
    >>> y, pullback = gg.vjp(lambda x, a: a * x, gg.tensor([1.0, 2.0]), 3.0)
    >>> y
    Tensor([3., 6.])
    >>> pullback([1.0, 0.0])
    (Tensor([3., 0.]), Tensor(1.))
    """
    call = _Call("vjp", f, args, {}, range(len(args)))
    y, aux = call.result if has_aux else (call.result, None)
    ys = [call.tensor(t) for t in leaves(y)]

    def pullback(g: Any) -> tuple[Any, ...]:
        one = isinstance(y, Tensor)
        gs = [g] if one else leaves_like("vjp", "the cotangent", g, "the result of f", y)
        seeds = [_as_cotangent("vjp", "the cotangent", t, s) for t, s in zip(ys, gs)]
        return call.structured(gradients(call.vertices, ys, seeds, not TRACKING.get()))

    shown = call.returned(y)
    return (shown, pullback, aux) if has_aux else (shown, pullback)


def _several(args: Any) -> tuple:
    return args if isinstance(args, tuple) else (args,)


def jvp(f: Callable, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """``f`` at `primals`, and its derivative there along `tangents`: forward mode.

    The pullback g -> J^T g is linear; its own pullback is t -> J t, so that the product is exact
    and costs two sweeps, whatever the sizes of `x` and `y`.

    Parameters
    ----------
    f : callable
        Returns a tensor, or a dict, list or tuple of tensors.
    primals, tangents : array_like, or a tuple of them
        A tuple holds the several arguments of `f`, and their tangents, of the same shapes.

    Returns
    -------
    y : what `f` returned
    dy : of its structure
        Differentiable by `primals` and by `tangents`.

    Raises
    ------
    TypeError
        `f` is no function, an argument is not of floats, or `f` did not return tensors.
    ValueError
        The tangents do not match the arguments in number or shape.

    References
    ----------
    B. Christianson, "Automatic Hessians by reverse accumulation", IMA J. Numer. Anal. 12 (1992).

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.jvp(lambda x: x**2, gg.tensor([1.0, 2.0]), gg.tensor([1.0, 10.0]))
    (Tensor([1., 4.]), Tensor([ 2., 40.]))
    >>> gg.jvp(lambda x, y: x * y, (3.0, 5.0), (1.0, 1.0))
    (Tensor(15.), Tensor(8.))
    """
    args = _several(primals)
    call = _Call("jvp", f, args, {}, range(len(args)))
    directions = _directions(call, "tangents", tangents)
    ys = [call.tensor(t) for t in leaves(call.result)]
    # any point will do, since the pullback is linear; at 1 it is a gradient, and warns as little
    seeds = [Tensor(_ones(y)._vertex.data, constant=y.constant, copy=False) for y in ys]
    pulled = gradients(call.vertices, ys, seeds)
    found = gradients([g._vertex for g in seeds], pulled, directions, call.raw)
    return call.returned(call.result), rebuild(call.result, found)


def _directions(call: _Call, what: str, tangents: Any) -> list[Tensor]:
    """`tangents` as tensors, one for each vertex of the call."""
    given = _several(tangents)
    if len(given) != len(call.arguments):
        raise ValueError(
            f"{call.function}: got {len(given)} {what} for {len(call.arguments)} arguments"
        )
    flat = []
    for i, (tree, tangent) in enumerate(zip(call.arguments, given)):
        entries = [tangent]
        if not isinstance(tree, Vertex):
            entries = leaves_like(call.function, f"{what}[{i}]", tangent, f"argument {i}", tree)
        for vertex, entry in zip(leaves(tree), entries):
            flat.append(_as_cotangent(call.function, f"{what}[{i}]", wrap(vertex), entry))
    return flat


# ------------------------------------------------------------------------------------- matrices


def jacobian(f: Callable, argnums: Argnums = 0) -> Callable:
    """A function that returns the derivatives of every element of `f` by every element of `x`.

    Parameters
    ----------
    f : callable
        Returns a tensor, or a dict, list or tuple of tensors.
    argnums : int or sequence of int, optional
        By which arguments to differentiate. An int gives one array, a sequence a tuple.

    Returns
    -------
    callable
        Its value has shape ``f(x).shape + x.shape``; with nested results and arguments, the
        structure of ``f(x)``, and in each place that of `x`. It calls `f` once and runs one sweep
        for each element of ``f(x)``; under ``no_autodiff`` none of them is recorded.

    Raises
    ------
    TypeError
        `f` is no function, an argument is not of floats, `f` did not return tensors, or `argnums`
        are no integers.
    ValueError
        `argnums` names an argument that did not come.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.jacobian(lambda x: x**2)(gg.tensor([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]])
    """
    return _jacobian("jacobian", f, argnums)


def _jacobian(function: str, f: Callable, argnums: Argnums) -> Callable:
    places = _checked(function, f, argnums)

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call(function, f, args, kwargs, places)
        ys = [call.tensor(t) for t in leaves(call.result)]
        return rebuild(call.result, [call.structured(_blocks(call, y)) for y in ys])

    return wrapper


def _blocks(call: _Call, y: Tensor) -> list[Tensor]:
    """The Jacobian of `y`, one block for each vertex of the arguments."""
    xs, raw = call.vertices, call.raw
    xp = namespace_of(get_array_module(y._vertex.data))
    rows: list[list[Tensor]] = []
    for i in range(y.size):
        seed = xp.zeros(y.size, dtype=y.dtype)
        seed[i] = 1
        rows.append(call.gradients(y, Tensor(seed.reshape(y.shape), constant=True, copy=False)))
    blocks = []
    for j, x in enumerate(xs):
        shape = y.shape + x.data.shape
        if not rows:
            blocks.append(Tensor(xp.zeros(shape, dtype=x.data.dtype), constant=True, copy=False))
        elif raw:
            data = xp.stack([row[j]._vertex.data for row in rows])
            blocks.append(Tensor(data.reshape(shape), copy=False))
        else:
            with recording:
                blocks.append(reshape(stack([row[j] for row in rows]), shape))
    return blocks


def hessian(f: Callable, argnums: Argnums = 0) -> Callable:
    """A function that returns the second derivatives of a function with one number as its value.

    Parameters
    ----------
    f : callable
        Returns a tensor with one element.
    argnums : int or sequence of int, optional
        By which arguments to differentiate. A sequence gives a tuple of tuples of blocks.

    Returns
    -------
    callable
        Its value has shape ``x.shape + x.shape``; for a nested argument, its structure, and in each
        place the same structure again. For each of `argnums` it calls `f` once, sweeps once for the
        gradient, and then once for each of the n elements of `x`: about 4 (n + 1) times the cost of
        `f`, and the memory of n graphs, unless under ``no_autodiff``. `hvp` needs one sweep for a
        product of that matrix with a vector.

    Raises
    ------
    InvalidBackprop, TypeError, ValueError
        As in `value_and_grad`.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.hessian(lambda x: x[0] ** 2 * x[1])(gg.tensor([1.0, 2.0]))
    Tensor([[4., 2.],
            [2., 0.]])
    """
    places = _checked("hessian", f, argnums)
    if isinstance(places, int):
        return _jacobian("hessian", _value_free("hessian", f, places), places)
    rows = [_jacobian("hessian", _value_free("hessian", f, i), places) for i in places]
    return wraps(f)(lambda *args, **kwargs: tuple(row(*args, **kwargs) for row in rows))


def _value_free(function: str, f: Callable, argnums: Argnums) -> Callable:
    both = _value_and_grad(function, f, argnums, False)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def hvp(f: Callable, x: Any, v: Any) -> Any:
    """The product of the Hessian of `f` at `x` with `v`, without forming the matrix.

    Parameters
    ----------
    f : callable
        Returns a tensor with one element. It is called once.
    x, v : array_like, or a tuple of them
        A tuple holds the several arguments of `f`, and their entries of the vector, of the same
        shapes.

    Returns
    -------
    Tensor, or a tuple of them
        Of the shapes of `x`.

    Raises
    ------
    InvalidBackprop
        `f` returned more than one number.
    TypeError
        `f` is no function, an argument is not of floats, or `f` did not return a tensor.
    ValueError
        The entries of `v` do not match those of `x` in number or shape.

    References
    ----------
    B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Comput. 6 (1994).

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.hvp(lambda x: (x**3).sum(), gg.tensor([1.0, 2.0]), gg.tensor([1.0, 10.0]))
    Tensor([  6., 120.])
    """
    args = _several(x)
    call = _Call("hvp", f, args, {}, range(len(args)))
    directions = _directions(call, "v", v)
    y = call.number(call.result)
    first = call.gradients(y, _ones(y), raw=False)
    second = call.structured(gradients(call.vertices, first, directions, call.raw))
    return second if isinstance(x, tuple) else second[0]
