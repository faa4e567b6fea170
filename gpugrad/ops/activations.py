"""Activation functions of neural networks: operations with their checks, as gpugrad.nnet has them.

Where a function has a kink its derivative there is the one that MyGrad takes: of relu, leaky_relu
and hard_tanh 0, of elu and selu that of the right side.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from gpugrad.apply import apply
from gpugrad.backend.vocabulary import in_single, shared
from gpugrad.graph.op import operation
from gpugrad.ops.arithmetic import multiply
from gpugrad.ops.explog import sigmoid
from gpugrad.ops.indexing import getitem
from gpugrad.ops.namespace import add_words
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor
from gpugrad.typing import ArrayLike

__all__ = [
    "elu",
    "glu",
    "hard_tanh",
    "leaky_relu",
    "logsoftmax",
    "relu",
    "selu",
    "soft_sign",
    "softmax",
]

Axis = int | tuple[int, ...] | None

# of Klambauer et al. 2017, equation 14
_ALPHA = 1.6732632423543772
_SCALE = 1.0507009873554805


def number(function: str, name: str, value: Any) -> Any:
    """A real number, from a number or from an array or tensor of one element."""
    if hasattr(value, "item"):
        if value.size != 1:
            raise ValueError(f"{function}: {name} has shape {value.shape}, expected one number")
        value = value.item()
    if not isinstance(value, Real):
        raise TypeError(
            f"{function}: {name} is {value!r} ({type(value).__name__}), expected a real number"
        )
    return value


# ------------------------------------------------------------------------------------ elementwise


@operation("relu", lambda xp, g, y, x: xp.where_or_zero(xp.greater(x, 0), g))
def RELU(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0)


def _leaky_slope(xp: Any, g: Any, y: Any, x: Any, *, slope: float) -> Any:
    return xp.where(xp.greater(x, 0), g, xp.where(xp.less(x, 0), g * slope, 0))


@operation("leaky_relu", _leaky_slope)
def LEAKY_RELU(xp: Any, x: Any, *, slope: float) -> Any:
    return xp.where(xp.greater(x, 0), x, slope * xp.minimum(x, 0))


def _inside(xp: Any, g: Any, y: Any, x: Any, *, lower: float, upper: float) -> Any:
    return xp.where(xp.logical_and(xp.greater(x, lower), xp.less(x, upper)), g, 0)


@operation("hard_tanh", _inside)
def HARD_TANH(xp: Any, x: Any, *, lower: float, upper: float) -> Any:
    return xp.maximum(lower, xp.minimum(x, upper))


def _soft_sign_slope(xp: Any, g: Any, y: Any, x: Any) -> Any:
    return g / xp.square(1 + xp.absolute(x))


@operation("soft_sign", _soft_sign_slope)
def SOFT_SIGN(xp: Any, x: Any) -> Any:
    return x / (1 + xp.absolute(x))


def _bent(xp: Any, x: Any, alpha: float) -> Any:
    # what is not chosen is computed too: for large x it would overflow
    return xp.where(xp.less(x, 0), alpha * xp.expm1(xp.minimum(x, 0)), x)


def _bent_slope(xp: Any, g: Any, x: Any, alpha: float) -> Any:
    below = xp.less(x, 0)
    return xp.where(below, g * (alpha * xp.exp(xp.where(below, x, 0))), g)


@operation("elu", lambda xp, g, y, x, *, alpha: _bent_slope(xp, g, x, alpha))
def ELU(xp: Any, x: Any, *, alpha: float) -> Any:
    return _bent(xp, x, alpha)


@operation("selu", lambda xp, g, y, x: _SCALE * _bent_slope(xp, g, x, _ALPHA))
def SELU(xp: Any, x: Any) -> Any:
    return _SCALE * _bent(xp, x, _ALPHA)


def relu(x: ArrayLike, *, constant: bool | None = None) -> Tensor:
    """max(x, 0); where x is 0 the derivative is 0.

    Parameters
    ----------
    x : array_like
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Of the shape and dtype of `x`.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([-2.0, 0.0, 3.0])
    >>> y = gg.nnet.relu(x)
    >>> y.backward()
    >>> y, x.grad
    (Tensor([0., 0., 3.]), array([0., 0., 1.]))
    """
    return apply(RELU, (x,), constant=constant)


def leaky_relu(x: ArrayLike, slope: float, *, constant: bool | None = None) -> Tensor:
    """x where it is positive, ``slope * x`` where it is negative; at 0 the derivative is 0.

    Parameters
    ----------
    x : array_like
    slope : float
        A number, or an array or tensor of one element.
    constant : bool, optional
        True: the result takes no gradient.

    Raises
    ------
    TypeError
        `slope` is not a real number.
    ValueError
        `slope` is an array of several elements.
    """
    slope = number("leaky_relu", "slope", slope)
    return apply(LEAKY_RELU, (x,), {"slope": slope}, constant=constant)


def hard_tanh(
    x: ArrayLike,
    *,
    lower_bound: float = -1,
    upper_bound: float = 1,
    constant: bool | None = None,
) -> Tensor:
    """x between the bounds, and the bound beyond them; the derivative at a bound is 0.

    Parameters
    ----------
    x : array_like
    lower_bound, upper_bound : float
        Numbers, or arrays or tensors of one element. If the lower one is the larger, the result is
        everywhere `lower_bound`.
    constant : bool, optional
        True: the result takes no gradient.

    Raises
    ------
    TypeError
        A bound is not a real number.
    ValueError
        A bound is an array of several elements.
    """
    lower = number("hard_tanh", "lower_bound", lower_bound)
    upper = number("hard_tanh", "upper_bound", upper_bound)
    return apply(HARD_TANH, (x,), {"lower": lower, "upper": upper}, constant=constant)


def soft_sign(x: ArrayLike, *, constant: bool | None = None) -> Tensor:
    """x / (1 + |x|); range (-1, 1).

    Parameters
    ----------
    x : array_like
    constant : bool, optional
        True: the result takes no gradient.
    """
    return apply(SOFT_SIGN, (x,), constant=constant)


def elu(x: ArrayLike, alpha: float, *, constant: bool | None = None) -> Tensor:
    """The exponential linear unit: x where it is not negative, elsewhere ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : array_like
    alpha : float
        A number, or an array or tensor of one element: minus the limit at minus infinity.
    constant : bool, optional
        True: the result takes no gradient.

    Raises
    ------
    TypeError
        `alpha` is not a real number.
    ValueError
        `alpha` is an array of several elements.

    References
    ----------
    D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by
    exponential linear units, arXiv:1511.07289.
    """
    return apply(ELU, (x,), {"alpha": number("elu", "alpha", alpha)}, constant=constant)


def selu(x: ArrayLike, *, constant: bool | None = None) -> Tensor:
    """The scaled exponential linear unit: ``1.0507 * elu(x, 1.67326)``.

    With these constants, standardised inputs of a wide layer stay standardised.

    Parameters
    ----------
    x : array_like
    constant : bool, optional
        True: the result takes no gradient.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-normalizing neural networks,
    arXiv:1706.02515, equations 2 and 14.
    """
    return apply(SELU, (x,), constant=constant)


def glu(x: ArrayLike, axis: int = -1, *, constant: bool | None = None) -> Tensor:
    """The gated linear unit: the first half of `x` times the sigmoid of the second half.

    Parameters
    ----------
    x : array_like
    axis : int
        Which is cut in halves; its length must be even.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Half as long along `axis`.

    Raises
    ------
    TypeError
        `axis` is not an integer.
    ValueError
        The length of the axis is odd.
    numpy.exceptions.AxisError
        The axis does not exist.

    References
    ----------
    Y. Dauphin, A. Fan, M. Auli, D. Grangier, Language modeling with gated convolutional networks,
    arXiv:1612.08083.
    """
    place: Any = axis.item() if isinstance(axis, Tensor | np.ndarray) else axis
    if not isinstance(place, Integral):
        raise TypeError(f"glu: axis is {place!r} ({type(place).__name__}), expected an integer")
    x = as_tensor("glu", x)
    axis = normalize_axis_index(int(place), x.ndim, "glu")
    length = x.shape[axis]
    if length % 2:
        raise ValueError(
            f"glu: axis {axis} has length {length} (x {x.shape}), expected an even one"
        )
    before = (slice(None),) * axis
    first = getitem(x, (*before, slice(length // 2)))
    second = getitem(x, (*before, slice(length // 2, None)))
    return multiply(first, sigmoid(second), constant=constant)


# ---------------------------------------------------------------------------------------- softmax


def _over(x: Any, axis: Axis) -> Axis:
    """`axis`, but none of what has none: MyGrad takes any axis of a single number."""
    return axis if x.ndim else None


def _shifted(xp: Any, x: Any, axis: Axis) -> Any:
    """x minus its largest element over `axis`: nothing in exp overflows."""
    return xp.subtract(x, xp.max(x, axis=axis, keepdims=True, initial=-np.inf))


def _softmax(xp: Any, x: Any, axis: Axis) -> Any:
    y = _shifted(xp, x, axis)
    if not getattr(y, "ndim", 0):
        return xp.ones_like(y)
    xp.exp(y, out=y)
    return xp.divide(y, xp.sum(y, axis=axis, keepdims=True), out=y)


def _logsoftmax(xp: Any, x: Any, axis: Axis) -> Any:
    y = _shifted(xp, x, axis)
    if not getattr(y, "ndim", 0):
        return xp.zeros_like(y)
    if not y.size:
        return y
    return xp.subtract(y, xp.log(xp.sum(xp.exp(y), axis=axis, keepdims=True)), out=y)


def _softmax_word(xp: Any, x: Any, axis: Axis) -> Any:
    """Return exp(x) / sum(exp(x)) over `axis`; range [0, 1], no overflow."""
    return in_single(xp, lambda xp, x: _softmax(xp, x, _over(x, axis)), x)


_softmax_word.__name__ = "softmax"
shared(_softmax_word)


def _softmax_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis) -> Any:
    shares = g * y
    return shares - y * xp.sum(shares, axis=_over(x, axis), keepdims=True)


def _logsoftmax_rule(xp: Any, g: Any, y: Any, x: Any, *, axis: Axis) -> Any:
    return g - xp.exp(y) * xp.sum(g, axis=_over(x, axis), keepdims=True)


@operation("softmax", _softmax_rule)
def SOFTMAX(xp: Any, x: Any, *, axis: Axis) -> Any:
    return xp.softmax(x, axis)


@operation("logsoftmax", _logsoftmax_rule)
def LOGSOFTMAX(xp: Any, x: Any, *, axis: Axis) -> Any:
    return in_single(xp, lambda xp, x: _logsoftmax(xp, x, _over(x, axis)), x)


def softmax(x: ArrayLike, axis: Axis = -1, *, constant: bool | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) over `axis`, without overflow.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        What the sum runs over; everything for None.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Of the shape of `x`, with elements in [0, 1] that add up to 1 over `axis`.

    Raises
    ------
    numpy.exceptions.AxisError
        The axis does not exist.

    See Also
    --------
    logsoftmax : its logarithm, finite where the softmax underflows to 0.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.nnet.softmax([[2.0, 2.0], [1e50, 0.0]])
    Tensor([[0.5, 0.5],
            [1. , 0. ]])
    """
    axis = tuple(axis) if isinstance(axis, list) else axis
    return apply(SOFTMAX, (x,), {"axis": axis}, constant=constant)


def logsoftmax(x: ArrayLike, axis: Axis = -1, *, constant: bool | None = None) -> Tensor:
    """The logarithm of the softmax, x - log(sum(exp(x))) over `axis`.

    It is finite wherever `x` is, also where the softmax itself underflows to 0.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        What the sum runs over; everything for None.
    constant : bool, optional
        True: the result takes no gradient.
    """
    axis = tuple(axis) if isinstance(axis, list) else axis
    return apply(LOGSOFTMAX, (x,), {"axis": axis}, constant=constant)


# what the words of the rules mean for tensors
add_words(
    {
        "elu": elu,
        "hard_tanh": hard_tanh,
        "leaky_relu": leaky_relu,
        "logsoftmax": logsoftmax,
        "relu": relu,
        "selu": selu,
        "soft_sign": soft_sign,
        "softmax": softmax,
    }
)
