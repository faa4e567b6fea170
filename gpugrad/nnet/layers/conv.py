"""Convolution of batches of images with banks of filters."""

from __future__ import annotations

from typing import Any

from gpugrad.backend.array_module import check_same_device
from gpugrad.errors import LayerParameterError
from gpugrad.nnet.layers.windows import for_each_axis, output_length
from gpugrad.ops.convolution import conv_input_grad_of, conv_of
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor

__all__ = ["conv_nd", "conv_transpose_nd"]


def _operands(function: str, x: Any, filter_bank: Any) -> tuple[Tensor, Tensor, str]:
    """Both as tensors, and their shapes for messages."""
    x, w = as_tensor(function, x), as_tensor(function, filter_bank)
    check_same_device(function, x.data, w.data)
    shapes = f"(x {x.shape}, filter_bank {w.shape})"
    if x.ndim < 3:
        raise ValueError(f"{function}: x has {x.ndim} axes, expected three or more {shapes}")
    if x.ndim != w.ndim:
        raise ValueError(
            f"{function}: filter_bank has {w.ndim} axes, expected as many as x {shapes}"
        )
    if 0 in w.shape[2:]:
        raise ValueError(f"{function}: the filters have no elements {shapes}")
    return x, w, shapes


def _groups(function: str, groups: Any, filters: int, shapes: str) -> int:
    (groups,) = for_each_axis(function, "groups", groups, 1, least=1)
    if filters % groups:
        raise LayerParameterError(
            f"{function}: groups is {groups}, which does not divide the {filters} filters {shapes}"
        )
    return groups


def conv_nd(
    x: Any,
    filter_bank: Any,
    *,
    stride: int | tuple[int, ...],
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    constant: bool | None = None,
    groups: int = 1,
) -> Tensor:
    """Slide each filter over each image of a batch; the sums of products at each place.

    It is what the literature of neural networks calls a convolution: the filters are not flipped.
    Only places where the filter lies inside the image with its border count, and the last place
    must end where the image does.

    Parameters
    ----------
    x : array_like, shape (N, C, X0, ...)
        N images of C channels, over any number of spatial axes.
    filter_bank : array_like, shape (F, C / groups, W0, ...)
        F filters.
    stride : int or tuple of int
        The distance of neighbouring places, along all spatial axes or along each.
    padding : int or tuple of int, optional
        How many zeros are laid around the images, on both sides of an axis.
    dilation : int or tuple of int, optional
        The distance of neighbouring elements of a filter, as it lies on the image.
    constant : bool, optional
        Whether the result takes no gradient.
    groups : int, optional
        Into how many blocks of neighbouring channels, and of filters, the two are cut; a block of
        filters sees its own block of channels only. Must divide C and F.

    Returns
    -------
    Tensor, shape (N, F, G0, ...)
        ``G = (X + 2 padding - dilation (W - 1) - 1) / stride + 1`` along each spatial axis. Of the
        common dtype; products of float16 are added up in float32.

    Raises
    ------
    ValueError
        Fewer than three axes, different numbers of axes or of channels, a filter that does not fit,
        a stride that leaves a rest.
    LayerParameterError
        A stride, dilation or number of groups below 1, a padding below 0, or not one for each
        spatial axis; groups that do not divide F.
    TypeError
        One of these that is no integer.
    DeviceMismatchError
        Images and filters on different devices.

    See Also
    --------
    conv_transpose_nd : its adjoint in `x`.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    How long a square wave has lasted within the last three places:

    >>> import gpugrad as gg
    >>> from gpugrad.nnet.layers import conv_nd
    >>> x = gg.tensor([[[0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]]])
    >>> conv_nd(x, gg.ones((1, 1, 3), dtype=float), stride=1)
    Tensor([[[1., 2., 3., 3., 2., 1.]]])
    """
    function = "conv_nd"
    x, w, shapes = _operands(function, x, filter_bank)
    n = x.ndim - 2
    groups = _groups(function, groups, w.shape[0], shapes)
    if w.shape[1] * groups != x.shape[1]:
        each = f" in each of {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"{function}: filter_bank has {w.shape[1]} channels{each}, x has {x.shape[1]} {shapes}"
        )
    strides = for_each_axis(function, "stride", stride, n, least=1)
    paddings = for_each_axis(function, "padding", padding, n, least=0)
    dilations = for_each_axis(function, "dilation", dilation, n, least=1)
    output_length(
        function,
        [length + 2 * p for length, p in zip(x.shape[2:], paddings, strict=True)],
        [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)],
        strides,
        x=x.shape,
        filter_bank=w.shape,
        stride=strides,
        padding=paddings,
        dilation=dilations,
    )
    return conv_of(
        x,
        w,
        stride=strides,
        padding=paddings,
        dilation=dilations,
        groups=groups,
        constant=constant,
    )


def conv_transpose_nd(
    x: Any,
    filter_bank: Any,
    *,
    stride: int | tuple[int, ...],
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    constant: bool | None = None,
) -> Tensor:
    """Lay every filter, times its element of `x`, at each place, and add up what overlaps.

    It is the adjoint of `conv_nd` in its first operand, the transpose of its matrix: with the same
    filters and settings ``sum(conv_nd(y, w) * x) == sum(y * conv_transpose_nd(x, w))``.

    Parameters
    ----------
    x : array_like, shape (N, F, G0, ...)
        N images of F channels, over any number of spatial axes.
    filter_bank : array_like, shape (F, C / groups, W0, ...)
        One filter for each channel of `x`.
    stride : int or tuple of int
        The distance at which neighbouring elements of `x` lay their filters.
    padding : int or tuple of int, optional
        How much is cut off on both sides of the result.
    dilation : int or tuple of int, optional
        The distance of neighbouring elements of a filter, as it is laid down.
    output_padding : int or tuple of int, optional
        How much longer the result is than the filters reach, at its end; less than `stride`. Images
        of several lengths have the same convolution; this chooses among them.
    groups : int, optional
        Into how many blocks of neighbouring channels, and of filters, the two are cut.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (N, C, X0, ...)
        ``X = (G - 1) stride + dilation (W - 1) + 1 - 2 padding + output_padding``.

    Raises
    ------
    ValueError
        Fewer than three axes, different numbers of axes or of channels, a padding that leaves
        nothing, an `output_padding` not below the stride.
    LayerParameterError
        A stride, dilation or number of groups below 1, a padding below 0, or not one for each
        spatial axis; groups that do not divide F.
    TypeError
        One of these that is no integer.
    DeviceMismatchError
        Images and filters on different devices.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285,
    section 4.

    Examples
    --------
    >>> import gpugrad as gg
    >>> from gpugrad.nnet.layers import conv_transpose_nd
    >>> conv_transpose_nd([[[1.0, 10.0]]], [[[1.0, 2.0, 3.0]]], stride=2)
    Tensor([[[ 1.,  2., 13., 20., 30.]]])
    """
    function = "conv_transpose_nd"
    x, w, shapes = _operands(function, x, filter_bank)
    n = x.ndim - 2
    if w.shape[0] != x.shape[1]:
        raise ValueError(
            f"{function}: filter_bank has {w.shape[0]} filters, x has {x.shape[1]} channels "
            f"{shapes}"
        )
    groups = _groups(function, groups, w.shape[0], shapes)
    if 0 in x.shape[2:]:
        raise ValueError(f"{function}: the images have no elements {shapes}")
    strides = for_each_axis(function, "stride", stride, n, least=1)
    paddings = for_each_axis(function, "padding", padding, n, least=0)
    dilations = for_each_axis(function, "dilation", dilation, n, least=1)
    extra = for_each_axis(function, "output_padding", output_padding, n, least=0)
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        raise ValueError(
            f"{function}: output_padding is {output_padding!r}, expected less than the stride "
            f"{strides}"
        )
    shape = tuple(
        (g - 1) * s + (k - 1) * d + 1 - 2 * p + e
        for g, k, s, p, d, e in zip(
            x.shape[2:], w.shape[2:], strides, paddings, dilations, extra, strict=True
        )
    )
    if any(length < 1 for length in shape):
        raise ValueError(
            f"{function}: padding {paddings} leaves a result of shape {shape}, expected positive "
            f"lengths {shapes}"
        )
    return conv_input_grad_of(
        x,
        w,
        shape=shape,
        stride=strides,
        padding=paddings,
        dilation=dilations,
        groups=groups,
        constant=constant,
    )


def __getattr__(name: str) -> Any:
    if name == "ConvND":  # the operation as a class, as MyGrad has it
        from gpugrad.creators import operation_class

        return operation_class("nnet.layers.conv", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
