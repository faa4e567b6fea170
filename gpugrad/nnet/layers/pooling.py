"""Maxima and means over windows that slide over a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from gpugrad.errors import LayerParameterError
from gpugrad.nnet.layers.windows import for_each_axis, output_length
from gpugrad.ops.pooling import max_pool_of, mean_pool_of
from gpugrad.ops.shaping import as_tensor, moveaxis
from gpugrad.tensor import Tensor

__all__ = ["max_pool", "mean_pool"]


def _window(function: str, pool: Any) -> tuple[int, ...]:
    expected = f"{function}: pool is {pool!r}, expected a tuple of positive integers"
    if not isinstance(pool, tuple | list | np.ndarray):
        raise LayerParameterError(expected)
    if not len(pool) or not all(isinstance(k, int | np.integer) and k > 0 for k in pool):
        raise LayerParameterError(expected)
    return tuple(int(k) for k in pool)


def _pooled(
    function: str,
    op: Callable[..., Tensor],
    x: Any,
    pool: Any,
    stride: Any,
    axis: tuple[int, ...] | None,
    constant: bool | None,
) -> Tensor:
    x = as_tensor(function, x)
    window = _window(function, pool)
    n = len(window)
    if n > x.ndim:
        raise LayerParameterError(
            f"{function}: pool {window} has {n} lengths, x of shape {x.shape} has {x.ndim} axes"
        )
    strides = for_each_axis(function, "stride", stride, n, least=1)
    last = tuple(range(x.ndim - n, x.ndim))
    axes = last if axis is None else normalize_axis_tuple(axis, x.ndim, "axis")
    if len(axes) != n:
        raise LayerParameterError(f"{function}: axis is {axis!r}, expected {n} axes, as pool has")
    lengths = [x.shape[a] for a in axes]
    output_length(function, lengths, window, strides, x=x.shape, pool=window, stride=strides)
    if axes == last:
        return op(x, window=window, stride=strides, constant=constant)
    y = op(moveaxis(x, axes, last), window=window, stride=strides, constant=constant)
    return moveaxis(y, last, axes)


def max_pool(
    x: Any,
    pool: tuple[int, ...],
    stride: int | tuple[int, ...],
    *,
    constant: bool | None = None,
    axis: tuple[int, ...] | None = None,
) -> Tensor:
    """The largest element of each window that slides over the last axes of a tensor.

    Only places where the window lies inside `x` count, and the last place must end where `x` does.

    Parameters
    ----------
    x : array_like, shape (..., X0, ...)
    pool : tuple of int
        The window's length along each of the axes that it slides over.
    stride : int or tuple of int
        The distance of neighbouring places, along all those axes or along each. Windows overlap
        where it is shorter than the window.
    constant : bool, optional
        Whether the result takes no gradient.
    axis : tuple of int, optional
        The axes that the window slides over; the last ones by default.

    Returns
    -------
    Tensor, shape (..., G0, ...)
        ``G = (X - pool) / stride + 1`` along each of those axes. A window with a nan gives nan. Of
        equal elements the first, in C order of the window, takes the gradient.

    Raises
    ------
    ValueError
        A window longer than `x`, or a stride that leaves a rest.
    LayerParameterError
        `pool` is no tuple of positive integers, or has more than `x` has axes; a stride below 1, or
        not one for each axis; not as many axes as lengths.
    TypeError
        A stride that is no integer.

    Examples
    --------
    >>> import gpugrad as gg
    >>> from gpugrad.nnet.layers import max_pool
    >>> x = gg.tensor([[0.0, 10.0, 8.0], [2.0, 7.0, 3.0], [5.0, 7.0, 20.0]])
    >>> y = max_pool(x, (2, 2), 1)
    >>> y
    Tensor([[10., 10.],
            [ 7., 20.]])
    >>> y.sum().backward()
    >>> x.grad
    array([[0., 2., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    return _pooled("max_pool", max_pool_of, x, pool, stride, axis, constant)


def mean_pool(
    x: Any,
    pool: tuple[int, ...],
    stride: int | tuple[int, ...],
    *,
    constant: bool | None = None,
    axis: tuple[int, ...] | None = None,
) -> Tensor:
    """The mean of each window that slides over the last axes of a tensor.

    Only places where the window lies inside `x` count, and the last place must end where `x` does.

    Parameters
    ----------
    x : array_like, shape (..., X0, ...)
    pool : tuple of int
        The window's length along each of the axes that it slides over.
    stride : int or tuple of int
        The distance of neighbouring places, along all those axes or along each.
    constant : bool, optional
        Whether the result takes no gradient.
    axis : tuple of int, optional
        The axes that the window slides over; the last ones by default.

    Returns
    -------
    Tensor, shape (..., G0, ...)
        ``G = (X - pool) / stride + 1`` along each of those axes. Of the dtype of `x`, float64 for
        integers; float16 is added up in float32.

    Raises
    ------
    ValueError, LayerParameterError, TypeError
        As `max_pool`.

    Examples
    --------
    >>> from gpugrad.nnet.layers import mean_pool
    >>> mean_pool([[1.0, 3.0], [5.0, 7.0]], (2,), 1, axis=(0,))
    Tensor([[3., 5.]])
    """
    return _pooled("mean_pool", mean_pool_of, x, pool, stride, axis, constant)


def __getattr__(name: str) -> Any:
    if name == "MaxPoolND":  # the operation as a class, as MyGrad has it
        from gpugrad.creators import operation_class

        return operation_class("nnet.layers.pooling", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
