"""Loss functions of classification and ranking: operations with their checks, for gpugrad.nnet.

Labels are integers and carry no gradient. As in any index, and as in MyGrad, those from -C to -1
count from the last of the C classes: -1 does not mean that there is none.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend.array_module import check_same_device, get_array_module
from gpugrad.backend.vocabulary import namespace_of, shared
from gpugrad.graph.op import operation
from gpugrad.ops.activations import logsoftmax, number, softmax
from gpugrad.ops.arithmetic import multiply, negative
from gpugrad.ops.comparison import raw_of
from gpugrad.ops.indexing import getitem, raw_places
from gpugrad.ops.namespace import add_words
from gpugrad.ops.reductions import mean
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor
from gpugrad.typing import ArrayLike

__all__ = [
    "check_loss_inputs",
    "focal_loss",
    "margin_ranking_loss",
    "multiclass_hinge",
    "negative_log_likelihood",
    "softmax_crossentropy",
    "softmax_focal_loss",
]

# ---------------------------------------------------------------------------------------- labels


def _checked(function: str, scores: ArrayLike, y_true: ArrayLike) -> tuple[Tensor, Any]:
    """The scores, and the labels as integers beside them."""
    x = as_tensor(function, scores)
    data = x.data
    labels = raw_places(y_true, data)
    if data.ndim != 2:
        raise ValueError(f"{function}: x has shape {data.shape}, expected (N, C)")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{function}: the labels have dtype {labels.dtype}, expected integers")
    if labels.shape != data.shape[:1]:
        raise ValueError(
            f"{function}: the labels have shape {labels.shape}, expected {data.shape[:1]}, one for "
            f"each row of x ({data.shape})"
        )
    check_same_device(function, data, labels)
    return x, labels.copy()  # the derivative needs what they are now


def check_loss_inputs(x: ArrayLike, y_true: ArrayLike) -> None:
    """Refuse scores and labels that a loss cannot be computed from.

    Parameters
    ----------
    x : array_like, shape (N, C)
    y_true : array_like of int, shape (N,)

    Raises
    ------
    ValueError
        A shape is another.
    TypeError
        The labels are no integers.
    DeviceMismatchError
        They lie on different devices.
    """
    _checked("check_loss_inputs", x, y_true)


def _places(xp: Any, labels: Any) -> tuple[Any, Any]:
    """The index of each row's label."""
    return xp.arange(labels.shape[0]), labels


# ----------------------------------------------------------------------------- softmax_crossentropy


def _terms(xp: Any, x: Any) -> Any:
    """Scores minus the largest of their row, in the precision to compute in."""
    if x.dtype.kind != "f" or x.dtype.itemsize < 4:
        x = x.astype(np.float32 if x.dtype.kind == "f" else np.float64)
    return x - x.max(axis=1, keepdims=True)


@shared
def crossentropy_slope(xp: Any, g: Any, x: Any, labels: Any, saved: dict[str, Any]) -> Any:
    """Return g (softmax(x) - one_hot(labels)) / N."""
    # the first sweep takes what the loss has saved, and writes into it
    found = saved.pop("terms", None)
    if found is None:
        terms = _terms(xp, x)
        xp.exp(terms, out=terms)
        found = terms, terms.sum(axis=1)
    slope, total = found
    g = g / x.shape[0]
    xp.multiply(slope, (g / total).reshape(-1, 1), out=slope)
    slope[_places(xp, labels)] -= g
    return slope


def tensor_slope(g: Tensor, x: Tensor, labels: Any, saved: dict[str, Any]) -> Tensor:
    """The word `crossentropy_slope` for tensors."""
    words = namespace_of(get_array_module(labels))
    certain = words.put(words.zeros_like(x.data), _places(words, labels), 1)
    return (softmax(x) - certain) * (g / labels.shape[0])


@operation(
    "softmax_crossentropy",
    lambda xp, g, y, x, *, labels, saved: xp.crossentropy_slope(g, x, labels, saved),
)
def CROSSENTROPY(xp: Any, x: Any, *, labels: Any, saved: dict[str, Any]) -> Any:
    terms = _terms(xp, x)
    certain = xp.getitem(terms, _places(xp, labels))  # raises where a label is out of range
    xp.exp(terms, out=terms)
    total = terms.sum(axis=1)
    saved["terms"] = terms, total
    loss = (xp.log(total) - certain).sum() / x.shape[0]
    return loss.astype(x.dtype) if x.dtype.kind == "f" else loss


def softmax_crossentropy(
    x: ArrayLike, y_true: ArrayLike, *, constant: bool | None = None
) -> Tensor:
    """The mean over the rows of -log softmax(x)[label], computed without overflow.

    Parameters
    ----------
    x : array_like, shape (N, C)
        A score for each of C classes, of each of N samples.
    y_true : array_like of int, shape (N,)
        The index of each sample's class, on the device of `x`; -1 is the last class.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Of no dimension; range [0, inf).

    Raises
    ------
    ValueError
        A shape is another, or there are no classes.
    TypeError
        The labels are no integers.
    IndexError
        A label is below -C or not below C.
    DeviceMismatchError
        Scores and labels lie on different devices.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([[0.0, 1000.0], [3.0, 3.0]])
    >>> loss = gg.nnet.softmax_crossentropy(x, [1, 0])
    >>> loss.backward()
    >>> x.grad
    array([[ 0.  ,  0.  ],
           [-0.25,  0.25]])
    """
    x, labels = _checked("softmax_crossentropy", x, y_true)
    if not x.shape[1]:
        raise ValueError(
            f"softmax_crossentropy: x has shape {x.shape}, expected at least one class"
        )
    saved: dict[str, Any] = {}
    loss = apply(CROSSENTROPY, (x,), {"labels": labels, "saved": saved}, constant=constant)
    if loss.constant:
        saved.clear()
    return loss


# -------------------------------------------------------------------------- negative log-likelihood


def negative_log_likelihood(
    x: ArrayLike,
    y_true: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    constant: bool | None = None,
) -> Tensor:
    """The mean over the rows of ``-weights[label] * x[label]``.

    Parameters
    ----------
    x : array_like, shape (N, C)
        Logarithms of probabilities, as `logsoftmax` gives them.
    y_true : array_like of int, shape (N,)
        The index of each sample's class, on the device of `x`; -1 is the last class.
    weights : array_like, shape (C,), optional
        What the samples of each class count; 1 by default. No gradient goes through them, and the
        mean is over N, whatever they add up to.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Of no dimension.

    Raises
    ------
    ValueError
        A shape is another.
    TypeError
        The labels are no integers.
    IndexError
        A label is below -C or not below C.
    DeviceMismatchError
        The arrays lie on different devices.
    """
    x, labels = _checked("negative_log_likelihood", x, y_true)
    words = namespace_of(get_array_module(x.data))
    likely = getitem(x, _places(words, labels))
    if weights is not None:
        counts: Any = raw_of(weights)
        if not hasattr(counts, "dtype"):
            counts = words.asarray(counts)
        if counts.shape != x.shape[1:]:
            raise ValueError(
                f"negative_log_likelihood: weights have shape {counts.shape}, expected "
                f"{x.shape[1:]}, one for each class of x ({x.shape})"
            )
        check_same_device("negative_log_likelihood", x.data, counts)
        likely = multiply(likely, words.getitem(counts, labels))
    return negative(mean(likely, constant=constant), constant=constant)


# --------------------------------------------------------------------------------------- focal loss


def _focal_slope(xp: Any, p: Any, alpha: Any, gamma: float) -> Any:
    """The derivative of -alpha (1 - p)^gamma log(p) by p."""
    if gamma == 0:
        return -alpha / p
    q = _complement(xp, p)
    if gamma == 1:
        return alpha * (xp.log(p) - q / p)
    # certain: the powers of 0 are infinite for some gamma, the limit of the sum is 0 for all
    certain = xp.equal(q, 0)
    q = xp.where(certain, 1, q)
    slope = gamma * xp.power(q, gamma - 1) * xp.log(p) - xp.power(q, gamma) / p
    return xp.where(certain, 0, alpha * slope)


def _complement(xp: Any, p: Any) -> Any:
    """1 - p; rounding may have brought p above 1."""
    return xp.where(xp.less_equal(p, 1), 1 - p, 0)


def _focal_rule(xp: Any, g: Any, y: Any, x: Any, *, labels: Any, alpha: Any, gamma: float) -> Any:
    index = _places(xp, labels)
    slope = _focal_slope(xp, xp.getitem(x, index), alpha, gamma)
    return xp.add_at(x.shape, x.dtype, index, g * slope)


@operation("focal_loss", _focal_rule)
def FOCAL(xp: Any, x: Any, *, labels: Any, alpha: Any, gamma: float) -> Any:
    p = xp.getitem(x, _places(xp, labels))
    return -(alpha * xp.power(_complement(xp, p), gamma) * xp.log(p))


def _log_focal_rule(xp: Any, g: Any, y: Any, x: Any, *, alpha: Any, gamma: float) -> Any:
    if gamma == 0:
        return -(alpha * g)
    q, p = -xp.expm1(x), xp.exp(x)
    x = xp.where(xp.equal(p, 0), 0, x)  # impossible: x may be infinite, the limit of p x is 0
    if gamma == 1:
        return g * alpha * (p * x - q)
    certain = xp.equal(q, 0)
    q = xp.where(certain, 1, q)
    slope = gamma * xp.power(q, gamma - 1) * p * x - xp.power(q, gamma)
    return xp.where(certain, 0, g * alpha * slope)


@operation("log_focal_loss", _log_focal_rule)
def LOG_FOCAL(xp: Any, x: Any, *, alpha: Any, gamma: float) -> Any:
    return -(alpha * xp.power(-xp.expm1(x), gamma) * x)


def log_focal_loss(x: ArrayLike, *, alpha: Any, gamma: float, constant: bool | None = None) -> Any:
    """-alpha (1 - p)^gamma log(p) of x = log(p), finite where p underflows to 0."""
    return apply(LOG_FOCAL, (x,), {"alpha": alpha, "gamma": gamma}, constant=constant)


def _focal_parameters(function: str, alpha: Any, gamma: Any) -> dict[str, Any]:
    if not isinstance(gamma, Real) or not float(gamma) >= 0:
        raise ValueError(f"{function}: gamma is {gamma!r}, expected a number of at least 0")
    alpha = raw_of(alpha)
    return {"alpha": float(alpha) if isinstance(alpha, Real) else alpha, "gamma": float(gamma)}


def focal_loss(
    class_probs: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: float = 1,
    gamma: float = 0,
    constant: bool | None = None,
) -> Tensor:
    """-alpha (1 - p)^gamma log(p), where p is the probability of each sample's class.

    Parameters
    ----------
    class_probs : array_like, shape (N, C)
        Probabilities, in [0, 1]. Nothing makes sure that they add up to 1.
    targets : array_like of int, shape (N,)
        The index of each sample's class, on the device of `class_probs`; -1 is the last class.
    alpha : float
        A factor.
    gamma : float
        At least 0. The larger, the less do samples count that are classified well already; 0 gives
        the cross-entropy.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor, shape (N,)
        One loss for each sample, not their mean.

    Raises
    ------
    ValueError
        `gamma` is negative or no number, or a shape is another.
    TypeError
        The targets are no integers.
    IndexError
        A target is below -C or not below C.
    DeviceMismatchError
        Probabilities and targets lie on different devices.

    References
    ----------
    T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár, Focal loss for dense object detection,
    arXiv:1708.02002, equation 5.
    """
    params = _focal_parameters("focal_loss", alpha, gamma)
    x, labels = _checked("focal_loss", class_probs, targets)
    return apply(FOCAL, (x,), {"labels": labels, **params}, constant=constant)


def softmax_focal_loss(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: float = 1,
    gamma: float = 0,
    constant: bool | None = None,
) -> Tensor:
    """The focal loss of ``softmax(scores)``; parameters as `focal_loss`.

    It is finite for all finite scores: the softmax is never formed, only its logarithm.

    Parameters
    ----------
    scores : array_like, shape (N, C)
    targets : array_like of int, shape (N,)
    alpha, gamma : float
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor, shape (N,)
        One loss for each sample, not their mean.
    """
    params = _focal_parameters("softmax_focal_loss", alpha, gamma)
    x, labels = _checked("softmax_focal_loss", scores, targets)
    likely = logsoftmax(x)
    words = namespace_of(get_array_module(likely.data))
    return log_focal_loss(getitem(likely, _places(words, labels)), **params, constant=constant)


# ------------------------------------------------------------------------------------------ margins


def _hinge(xp: Any, x: Any, labels: Any, hinge: float) -> tuple[Any, Any]:
    """By how much each wrong class misses the margin, negative where it does not."""
    index = _places(xp, labels)
    missed = x - xp.expand_dims(xp.getitem(x, index), 1) + hinge
    missed[index] = -1
    return missed, index


def _hinge_rule(xp: Any, g: Any, y: Any, x: Any, *, labels: Any, hinge: float) -> Any:
    words = namespace_of(get_array_module(labels))
    missed, index = _hinge(words, raw_of(x), labels, hinge)
    signs = words.where(missed > 0, 1, 0).astype(x.dtype)
    signs[index] = -words.sum(signs, axis=1)
    return (g / labels.shape[0]) * signs


@operation("multiclass_hinge", _hinge_rule)
def HINGE(xp: Any, x: Any, *, labels: Any, hinge: float) -> Any:
    missed, _ = _hinge(xp, x, labels, hinge)
    return xp.sum(xp.maximum(missed, 0)) / x.shape[0]


def multiclass_hinge(
    x: ArrayLike, y_true: ArrayLike, hinge: float = 1.0, *, constant: bool | None = None
) -> Tensor:
    """The mean over the rows of the sum over the wrong classes of max(0, x - x[label] + hinge).

    Where a wrong class misses the margin by exactly 0, it takes no gradient.

    Parameters
    ----------
    x : array_like, shape (N, C)
        A score for each of C classes, of each of N samples.
    y_true : array_like of int, shape (N,)
        The index of each sample's class, on the device of `x`; -1 is the last class.
    hinge : float
        By how much the score of the right class is to exceed the others.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Of no dimension; range [0, inf).

    Raises
    ------
    ValueError
        A shape is another.
    TypeError
        The labels are no integers, or `hinge` is no number.
    IndexError
        A label is below -C or not below C.
    DeviceMismatchError
        Scores and labels lie on different devices.
    """
    x, labels = _checked("multiclass_hinge", x, y_true)
    params = {"labels": labels, "hinge": float(number("multiclass_hinge", "hinge", hinge))}
    return apply(HINGE, (x,), params, constant=constant)


def _missed(x1: Any, x2: Any, sign: Any, margin: float) -> Any:
    return margin - sign * (x1 - x2)


def _ranking_rule(direction: int) -> Any:
    def rule(xp: Any, g: Any, y: Any, x1: Any, x2: Any, *, sign: Any, margin: float) -> Any:
        counts = xp.greater(_missed(raw_of(x1), raw_of(x2), sign, margin), 0)
        return xp.where(counts, g * (sign * (direction / max(x1.size, 1))), 0)

    return rule


@operation("margin_ranking_loss", _ranking_rule(-1), _ranking_rule(1))
def RANKING(xp: Any, x1: Any, x2: Any, *, sign: Any, margin: float) -> Any:
    return xp.mean(xp.maximum(_missed(x1, x2, sign, margin), 0))


def margin_ranking_loss(
    x1: ArrayLike, x2: ArrayLike, y: ArrayLike, margin: float, *, constant: bool | None = None
) -> Tensor:
    """The mean of max(0, margin - y (x1 - x2)).

    Where the margin is missed by exactly 0, there is no gradient.

    Parameters
    ----------
    x1, x2 : array_like of float, shape (N,) or (N, D)
        Scores that are compared, one by one.
    y : 1, -1 or array_like, shape (N,)
        1 where x1 is to be the larger, -1 where x2 is.
    margin : float
        By how much it is to be larger; at least 0.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor
        Of no dimension and of the dtype of the scores; range [0, inf).

    Raises
    ------
    ValueError
        A shape is another, or `margin` is negative or no number.
    TypeError
        The scores are no floats.
    DeviceMismatchError
        The arrays lie on different devices.
    """
    x1, x2 = as_tensor("margin_ranking_loss", x1), as_tensor("margin_ranking_loss", x2)
    if x1.ndim not in (1, 2):
        raise ValueError(f"margin_ranking_loss: x1 has shape {x1.shape}, expected (N,) or (N, D)")
    if x1.shape != x2.shape:
        raise ValueError(
            f"margin_ranking_loss: x1 has shape {x1.shape} and x2 {x2.shape}, expected the same"
        )
    for name, x in (("x1", x1), ("x2", x2)):
        if x.dtype.kind != "f":
            raise TypeError(f"margin_ranking_loss: {name} has dtype {x.dtype}, expected floats")
    if not isinstance(margin, Real) or not margin >= 0:
        raise ValueError(
            f"margin_ranking_loss: margin is {margin!r}, expected a number of at least 0"
        )
    sign = raw_of(y)
    if not hasattr(sign, "dtype"):
        sign = get_array_module(x1.data).asarray(sign)
    if sign.size == 1:
        sign = sign.reshape(())
    elif sign.shape != x1.shape[:1]:
        raise ValueError(
            f"margin_ranking_loss: y has shape {sign.shape}, expected one number or "
            f"{x1.shape[:1]}, one for each row of x1 ({x1.shape})"
        )
    elif x1.ndim == 2:
        sign = sign.reshape(-1, 1)
    check_same_device("margin_ranking_loss", x1.data, x2.data, sign)
    # integers would make float64 of float32
    sign = sign.astype(np.result_type(x1.dtype, x2.dtype))
    params = {"sign": sign, "margin": float(margin)}
    return apply(RANKING, (x1, x2), params, constant=constant)


# what the words of the rules mean for tensors
add_words(
    {
        "crossentropy_slope": tensor_slope,
        "focal_loss": focal_loss,
        "log_focal_loss": log_focal_loss,
        "margin_ranking_loss": margin_ranking_loss,
        "multiclass_hinge": multiclass_hinge,
        "softmax_crossentropy": softmax_crossentropy,
    }
)
