"""Gradients and updates of weights as functions: nothing is kept in objects.

>>> import numpy as np
>>> from gpugrad.gradients import execute_with_gradients, gradient_descent_update
>>> w = {"slope": np.array([1.0, 2.0]), "offset": np.array(0.5)}
>>> cost, dcdw = execute_with_gradients(lambda w: (w["slope"] ** 2).sum() + w["offset"], w)
>>> dcdw["slope"]
array([2., 4.])
>>> gradient_descent_update(w, dcdw, lr=0.25)["slope"]
array([0.5, 1. ])

Weights, gradients and moments may be nested dicts, lists and tuples of NumPy arrays, CuPy arrays or
tensors (:mod:`gpugrad.tree`); a single one will do too. `f` of every function may name the library
that the arrays are of: ``"numpy"``, ``"cupy"``, ``"gpugrad"`` (which takes either) or the module;
None infers it.

References
----------
The functions are those of ivy (mid 2021). D. P. Kingma, J. Ba, "Adam: a method for stochastic
optimization", ICLR 2015, algorithm 1.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpugrad.autodiff import vjp
from gpugrad.backend.array_module import cupy_if_loaded, device_of, get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import DeviceMismatchError, InvalidBackprop, ParameterError
from gpugrad.graph.guard import is_guarded
from gpugrad.graph.sweep import sweep
from gpugrad.graph.vertex import Vertex
from gpugrad.ops.creation import tensor
from gpugrad.ops.namespace import tensor_namespace
from gpugrad.state import recording
from gpugrad.tensor import Tensor
from gpugrad.tree import leaves, leaves_like, places, rebuild
from gpugrad.views import vertex_of

__all__ = [
    "adam_update",
    "execute_with_gradients",
    "gradient_descent_update",
    "is_variable",
    "stop_gradient",
    "variable",
]


# ------------------------------------------------------------------------------------ the library


def _library(function: str, f: Any) -> str | None:
    """The name that `f` stands for: "numpy", "cupy", "gpugrad" or None."""
    if f is None or (isinstance(f, str) and f in ("numpy", "cupy", "gpugrad")):
        return f
    known = {"numpy": np, "cupy": cupy_if_loaded(), "gpugrad": sys.modules.get("gpugrad")}
    for name, module in known.items():
        if f is module:
            return name
    raise ParameterError(
        f'{function}: f is {f!r}, expected "numpy", "cupy", "gpugrad", one of these modules or None'
    )


def _check_library(function: str, f: Any, named: Sequence[tuple[str, Any]]) -> None:
    """`f` names a library, and every array of (name, array) is of it."""
    library = _library(function, f)
    if library is None or library == "gpugrad":
        return
    for name, x in named:
        if hasattr(x, "dtype") and np.ndim(x):
            found = "numpy" if device_of(x).kind == "cpu" else "cupy"
            if found != library:
                raise DeviceMismatchError(
                    f"{function}: f is {library!r}, but {name} is an array of {found} on "
                    f"{device_of(x)}"
                )


def _raw(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _check_float(function: str, name: str, x: Any) -> None:
    dtype = getattr(x, "dtype", None)
    if dtype is None and isinstance(x, int | float) and not isinstance(x, bool):
        return
    if dtype is None or np.dtype(dtype).kind != "f":
        found = type(x).__name__ if dtype is None else f"of dtype {dtype}"
        raise TypeError(f"{function}: {name} is {found}, expected an array of floats")


# -------------------------------------------------------------------------------------- variables


def variable(x: Any, f: Any = None) -> Tensor:
    """A tensor that gradients are computed for: a copy of `x`, without its history.

    Parameters
    ----------
    x : array_like of floats, or Tensor
        An array stays on its device; numbers and lists go where `f` says, or to the current
        device.
    f : str or module, optional
        See :mod:`gpugrad.gradients`.

    Raises
    ------
    TypeError
        `x` is not of floats.
    DeviceMismatchError
        `x` is an array of another library than `f`.

    Examples
    --------
    >>> from gpugrad.gradients import is_variable, variable
    >>> is_variable(variable([1.0, 2.0]))
    True
    """
    _check_library("variable", f, [("x", x)])
    device = None
    if not hasattr(x, "dtype"):
        device = {"numpy": "cpu", "cupy": "cuda"}.get(_library("variable", f) or "")
    made = tensor(_raw(x), device=device)
    _check_float("variable", "x", made)
    return made


def is_variable(x: Any, f: Any = None) -> bool:
    """Whether gradients are computed for `x`: it is a tensor, and not a constant.

    Raises
    ------
    DeviceMismatchError
        `x` is an array of another library than `f`.
    """
    _check_library("is_variable", f, [("x", x)])
    return isinstance(x, Tensor) and not x.constant


def stop_gradient(x: Any, f: Any = None) -> Any:
    """`x` without its history: for a tensor a constant that shares its memory.

    An array carries no gradient and is returned as it is.

    Raises
    ------
    DeviceMismatchError
        `x` is an array of another library than `f`.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([1.0, 2.0])
    >>> (gg.gradients.stop_gradient(x) * x).backward()
    >>> x.grad
    array([1., 2.])
    """
    _check_library("stop_gradient", f, [("x", x)])
    return Tensor(x.data, constant=True, copy=False) if isinstance(x, Tensor) else x


# -------------------------------------------------------------------------------------- gradients


def execute_with_gradients(
    func: Callable[[Any], Any], xs: Any, retain_grads: bool = False, f: Any = None
) -> tuple[Any, ...]:
    """``func(xs)``, and the derivatives of its first output by all of `xs`.

    Parameters
    ----------
    func : callable
        Takes `xs` as tensors, in the structure of `xs`; returns a tensor of one element, or a tuple
        that begins with one.
    xs : nested dict, list and tuple of float arrays or tensors
    retain_grads : bool, optional
        True: `y`, the gradients and the further outputs are tensors that stay in the graph, and can
        be differentiated by the tensors among `xs`. False: they are raw arrays, wherever they were
        tensors, and no graph is left.
    f : str or module, optional
        See :mod:`gpugrad.gradients`.

    Returns
    -------
    y : array or Tensor
        The first output.
    gradients : in the structure of `xs`
        Of the shape and dtype of `xs`. Where `y` does not depend on an x, its gradient is 0.
    *rest
        The further outputs of `func`.

    Raises
    ------
    InvalidBackprop
        `y` is more than one number.
    TypeError
        An x is not of floats, or `y` is not a tensor.
    DeviceMismatchError
        An x is an array of another library than `f`.

    Notes
    -----
    No tensor's `grad` is changed. What `func` is given are new tensors, so that writing into them
    does not change `xs`.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor(3.0)
    >>> y, g = gg.gradients.execute_with_gradients(lambda x: x**3, x, retain_grads=True)
    >>> g.backward()
    >>> float(g), float(x.grad)
    (27.0, 18.0)
    """
    function = "execute_with_gradients"
    given = leaves(xs)
    named = [(f"xs{place}", x) for place, x in zip(places(xs), given, strict=True)]
    for name, x in named:
        _check_float(function, name, x)
    _check_library(function, f, named)
    if retain_grads:
        return _retained(func, xs, given)
    with recording:
        variables = [_new_leaf(x) for x in given]
        vertices = [v._vertex for v in variables]  # func may write into the tensors
        y, rest = _outputs(func(rebuild(xs, variables)))
        found = _raw_gradients(vertex_of(y, renewing=False), vertices)
        value = get_array_module(y.data).array(y.data)  # y may be a view of an x
        return (value, rebuild(xs, found), *map(_without_graph, rest))


def _new_leaf(x: Any) -> Tensor:
    raw = _raw(x)
    return Tensor(raw if hasattr(raw, "dtype") else float(raw), constant=False, copy=False)


def _outputs(returned: Any) -> tuple[Tensor, tuple]:
    outputs = returned if isinstance(returned, tuple) else (returned,)
    y = outputs[0] if outputs else None
    if not isinstance(y, Tensor):
        raise TypeError(
            f"execute_with_gradients: func returned {type(y).__name__} first, expected a Tensor"
        )
    if y.size != 1:
        raise InvalidBackprop(
            f"execute_with_gradients: func returned shape {y.shape} first, expected one number"
        )
    return y, tuple(outputs[1:])


def _raw_gradients(root: Vertex, vertices: list[Vertex]) -> list[Any]:
    found: dict[Vertex, Any] = {}
    if not root.constant:
        xp = namespace_of(get_array_module(root.data))
        found = sweep(root, xp.ones_like(root.data), xp)[1]
    gradients = []
    for vertex in vertices:
        xp = namespace_of(get_array_module(vertex.data))
        g = found.get(vertex)
        # memory of its own: a gradient may be a view of another, or be broadcast
        gradients.append(xp.zeros_like(vertex.data) if g is None else xp.array(g))
    return gradients


def _without_graph(output: Any) -> Any:
    found = leaves(output)
    if not any(isinstance(leaf, Tensor) for leaf in found):
        return output
    return rebuild(output, map(_raw, found))


def _retained(func: Callable[[Any], Any], xs: Any, given: list[Any]) -> tuple[Any, ...]:
    rest: tuple = ()

    def first_output(*variables: Tensor) -> Tensor:
        nonlocal rest
        y, rest = _outputs(func(rebuild(xs, variables)))
        return y

    y, pullback = vjp(first_output, *given)
    seed = namespace_of(get_array_module(y.data)).ones_like(y.data)
    return (y, rebuild(xs, pullback(Tensor(seed, constant=None, copy=False))), *rest)


# ---------------------------------------------------------------------------------------- updates


def gradient_descent_update(
    ws: Any, dcdws: Any, lr: Any, inplace: bool = True, f: Any = None
) -> Any:
    """``w - lr dcdw`` for all weights.

    Parameters
    ----------
    ws : nested dict, list and tuple of float arrays or tensors
    dcdws : in the structure of `ws`
        Derivatives of the cost, of the shapes of the weights.
    lr : float, or array or Tensor of no dimension
        Learning rate.
    inplace : bool, optional
        True: write into the weights' memory, of tensors as well; no graph sees it. False: the new
        weights are computed from the old ones, and can be differentiated by all tensors among
        weights, derivatives and `lr`.
    f : str or module, optional
        See :mod:`gpugrad.gradients`.

    Returns
    -------
    ws_new : in the structure of `ws`
        `ws` itself if it was written into. Otherwise raw arrays, or tensors where a tensor took
        part.

    Raises
    ------
    ParameterError
        Structures or shapes differ, or `lr` is not one finite number.
    TypeError
        Weights or derivatives are not of floats, or a Python number is to be written into.
    DeviceMismatchError
        A weight and its derivative lie on two devices, or are not of the library `f`.
    ValueError
        A weight is read-only: by its owner's wish, or because a live graph depends on it.

    Whatever is raised, no weight was changed.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.gradients import gradient_descent_update
    >>> gradient_descent_update([np.ones(2)], [np.array([1.0, -2.0])], 0.5, inplace=False)
    [array([0.5, 2. ])]
    """
    function = "gradient_descent_update"
    weights = _Weights(function, ws, f, inplace, dcdws=dcdws)
    rate = _number(function, "lr", lr, inplace)
    new = [_descend(w, g, rate) for w, g in weights.operands]
    return weights.written(new) if inplace else rebuild(ws, new)


def _descend(w: Any, g: Any, lr: Any) -> Any:
    return _as_array(w - lr * g)


def _as_array(x: Any) -> Any:
    """`x`, for the scalars that NumPy makes of arrays of no dimension."""
    return np.asarray(x) if isinstance(x, np.generic) else x


def adam_update(
    ws: Any,
    dcdws: Any,
    lr: Any,
    mw: Any,
    vw: Any,
    step: Any,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    epsilon: Any = 1e-7,
    inplace: bool = True,
    f: Any = None,
) -> tuple[Any, Any, Any]:
    """One step of Adam for all weights.

    With g the derivative and t the step, for every element::

        m <- beta1 m + (1 - beta1) g            m' = m / (1 - beta1^t)
        v <- beta2 v + (1 - beta2) g^2          v' = v / (1 - beta2^t)
        w <- w - lr m' / (sqrt(v') + epsilon)

    Parameters
    ----------
    ws : nested dict, list and tuple of float arrays or tensors
    dcdws, mw, vw : in the structure of `ws`
        Derivatives of the cost, and the running means of them and of their squares (0 before the
        first step), all of the shapes of the weights.
    lr : float, or array or Tensor of no dimension
        Learning rate.
    step : int
        Number of this step, counted from 1.
    beta1, beta2 : float in [0, 1)
        How much of the running means is kept.
    epsilon : float
        Keeps the divisor from 0.
    inplace : bool, optional
        As in `gradient_descent_update`. `mw` and `vw` are never written into.
    f : str or module, optional
        See :mod:`gpugrad.gradients`.

    Returns
    -------
    ws_new, mw_new, vw_new : in the structure of `ws`
        For the next step.

    Raises
    ------
    ParameterError
        Structures or shapes differ; `step` is below 1 or no integer; a beta is outside [0, 1); `lr`
        or `epsilon` is not one finite number, or `epsilon` is negative.
    TypeError, DeviceMismatchError, ValueError
        As in `gradient_descent_update`. Whatever is raised, no weight was changed.

    References
    ----------
    Kingma and Ba (2015), algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.gradients import adam_update
    >>> w, g = np.array([1.0, 1.0]), np.array([0.3, -20.0])
    >>> w, m, v = adam_update(w, g, 0.1, np.zeros(2), np.zeros(2), step=1)
    >>> w.round(6)
    array([0.9, 1.1])
    """
    function = "adam_update"
    weights = _Weights(function, ws, f, inplace, dcdws=dcdws, mw=mw, vw=vw)
    lr = _number(function, "lr", lr, inplace)
    beta1 = _number(function, "beta1", beta1, inplace, low=0.0, below=1.0)
    beta2 = _number(function, "beta2", beta2, inplace, low=0.0, below=1.0)
    epsilon = _number(function, "epsilon", epsilon, inplace, low=0.0)
    t = _count(function, step)
    new = [_adam(w, g, lr, m, v, t, beta1, beta2, epsilon) for w, g, m, v in weights.operands]
    means, squares = ([row[i] for row in new] for i in (1, 2))
    if not inplace:
        return rebuild(ws, [row[0] for row in new]), rebuild(ws, means), rebuild(ws, squares)
    ws = weights.written([row[0] for row in new])
    return ws, rebuild(ws, weights.alike(2, means)), rebuild(ws, weights.alike(3, squares))


def _adam(
    w: Any, g: Any, lr: Any, m: Any, v: Any, t: int, beta1: Any, beta2: Any, epsilon: Any
) -> tuple[Any, Any, Any]:
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    mean, square = m / (1 - beta1**t), v / (1 - beta2**t)
    xp = tensor_namespace
    if not isinstance(square, Tensor):
        xp = namespace_of(get_array_module(square))
    # at g = 0 the step is g / (c|g| + epsilon): smooth, though the root by itself is not
    flat = xp.equal(square, 0)
    deviation = xp.where(flat, 0, xp.sqrt(xp.where(flat, 1, square)))
    w = w - lr * mean / (deviation + epsilon)
    return _as_array(w), _as_array(m), _as_array(v)


class _Weights:
    """Weights with what belongs to each of them, checked before anything is computed."""

    def __init__(self, function: str, ws: Any, f: Any, inplace: bool, **others: Any) -> None:
        self.tree = ws
        self.places = [f"ws{place}" for place in places(ws)]
        self.columns = [leaves(ws)]
        _check_library(function, f, list(zip(self.places, self.columns[0], strict=True)))
        for place, w in zip(self.places, self.columns[0], strict=True):
            _check_float(function, place, w)
        for name, tree in others.items():
            column = leaves_like(function, name, tree, "ws", ws)
            named = [(name + place[2:], x) for place, x in zip(self.places, column, strict=True)]
            _check_library(function, f, named)
            for (place, x), (ours, w) in zip(named, zip(self.places, self.columns[0]), strict=True):
                _check_belongs(function, place, x, ours, w)
            self.columns.append(column)
        if inplace:
            for place, w in zip(self.places, self.columns[0], strict=True):
                _check_writeable(function, place, w)
        raw = _raw if inplace else (lambda x: x)
        self.operands = [tuple(map(raw, row)) for row in zip(*self.columns, strict=True)]

    def written(self, values: list[Any]) -> Any:
        """The tree of weights, with the values written into their memory."""
        memory = [_raw(w) for w in self.columns[0]]
        # what can still fail, an overflow that the caller made an error, comes before the writes
        cast = [value.astype(w.dtype, copy=False) for w, value in zip(memory, values, strict=True)]
        for w, value in zip(memory, cast, strict=True):
            w[...] = value
        return self.tree

    def alike(self, i: int, values: list[Any]) -> list[Any]:
        """Raw values as tensors where the i-th operand was one."""
        return [
            Tensor(new, constant=old.constant, copy=False) if isinstance(old, Tensor) else new
            for old, new in zip(self.columns[i], values, strict=True)
        ]


def _check_belongs(function: str, name: str, x: Any, w_name: str, w: Any) -> None:
    _check_float(function, name, x)
    if np.shape(_raw(x)) != np.shape(_raw(w)):
        raise ParameterError(
            f"{function}: {name} has shape {np.shape(_raw(x))}, {w_name} has shape "
            f"{np.shape(_raw(w))}, expected the same"
        )
    if hasattr(x, "dtype") and hasattr(w, "dtype") and device_of(x) != device_of(w):
        raise DeviceMismatchError(
            f"{function}: {name} is on {device_of(x)}, {w_name} is on {device_of(w)}, expected one "
            "device"
        )


def _check_writeable(function: str, name: str, w: Any) -> None:
    raw = _raw(w)
    if not hasattr(raw, "flags") or np.isscalar(raw):
        raise TypeError(
            f"{function}: {name} is a {type(w).__name__}, which cannot be written into; expected "
            "an array, or inplace=False"
        )
    if is_guarded(raw) or is_guarded(raw.base):
        raise ValueError(
            f"{function}: {name} is read-only while a graph depends on it; backward() or "
            "clear_graph() releases it"
        )
    if isinstance(raw, np.ndarray) and not raw.flags.writeable:
        raise ValueError(f"{function}: {name} is read-only by its owner's wish")


def _number(
    function: str,
    name: str,
    x: Any,
    inplace: bool,
    *,
    low: float = -math.inf,
    below: float = math.inf,
) -> Any:
    """A setting as a Python float, so that it does not change a dtype, or a tensor as it is."""
    if np.size(_raw(x)) != 1 or np.ndim(_raw(x)):
        raise ParameterError(f"{function}: {name} has shape {np.shape(_raw(x))}, expected a number")
    if isinstance(x, Tensor) and not inplace:
        return x
    try:
        value = float(_raw(x))
    except (TypeError, ValueError):
        raise ParameterError(f"{function}: {name} is {x!r}, expected a number") from None
    if not (math.isfinite(value) and low <= value < below):
        limits = "a finite number" if low == -math.inf else f"{low} <= {name} < {below}"
        raise ParameterError(f"{function}: {name} is {value}, expected {limits}")
    return value


def _count(function: str, step: Any) -> int:
    raw = _raw(step)
    if hasattr(raw, "item") and np.size(raw) == 1:
        raw = raw.item()
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    try:
        t = operator.index(raw)
    except TypeError:
        t = 0
    if t < 1 or isinstance(raw, bool):
        raise ParameterError(f"{function}: step is {step!r}, expected an integer from 1 on")
    return t
