"""Convolution and its two adjoints: bilinear operations, each the derivative of the others."""

from __future__ import annotations

from typing import Any

import gpugrad.primitives.conv_cuda  # noqa: F401  (gives convolution its kernels)
from gpugrad.apply import apply
from gpugrad.backend.vocabulary import shared
from gpugrad.graph.op import operation
from gpugrad.ops.namespace import add_words
from gpugrad.primitives import conv as primitives
from gpugrad.tensor import Tensor

__all__: list[str] = []

# With c the cotangent of an operation's result, and <a, b> the sum of products of all elements:
#
#     conv(x, w)              <conv(x, w), c> = <x, conv_input_grad(c, w)>
#                                             = <w, conv_weight_grad(c, x)>
#     conv_input_grad(g, w)   <conv_input_grad(g, w), c> = <conv(c, w), g>
#                                                        = <w, conv_weight_grad(g, c)>
#     conv_weight_grad(g, x)  <conv_weight_grad(g, x), c> = <conv(x, c), g>
#                                                         = <x, conv_input_grad(g, c)>


@shared
def conv(xp: Any, x: Any, w: Any, **layout: Any) -> Any:
    """See `gpugrad.primitives.conv.conv`."""
    return primitives.conv(x, w, **layout)


@shared
def conv_input_grad(xp: Any, g: Any, w: Any, **layout: Any) -> Any:
    """See `gpugrad.primitives.conv.conv_input_grad`."""
    return primitives.conv_input_grad(g, w, **layout)


@shared
def conv_weight_grad(xp: Any, g: Any, x: Any, **layout: Any) -> Any:
    """See `gpugrad.primitives.conv.conv_weight_grad`."""
    return primitives.conv_weight_grad(g, x, **layout)


CONV = operation(
    "conv",
    lambda xp, c, y, x, w, **layout: xp.conv_input_grad(c, w, shape=x.shape[2:], **layout),
    lambda xp, c, y, x, w, **layout: xp.conv_weight_grad(c, x, window=w.shape[2:], **layout),
)(conv)

CONV_INPUT_GRAD = operation(
    "conv_input_grad",
    lambda xp, c, y, g, w, *, shape, **layout: xp.conv(c, w, **layout),
    lambda xp, c, y, g, w, *, shape, **layout: xp.conv_weight_grad(
        g, c, window=w.shape[2:], **layout
    ),
)(conv_input_grad)

CONV_WEIGHT_GRAD = operation(
    "conv_weight_grad",
    lambda xp, c, y, g, x, *, window, **layout: xp.conv(x, c, **layout),
    lambda xp, c, y, g, x, *, window, **layout: xp.conv_input_grad(
        g, c, shape=x.shape[2:], **layout
    ),
)(conv_weight_grad)


def conv_of(x: Any, w: Any, *, constant: bool | None = None, **layout: Any) -> Tensor:
    """The filters of `w` slid over `x`."""
    return apply(CONV, (x, w), layout, constant=constant)


def conv_input_grad_of(g: Any, w: Any, *, constant: bool | None = None, **layout: Any) -> Tensor:
    """The adjoint of `conv` in its first operand."""
    return apply(CONV_INPUT_GRAD, (g, w), layout, constant=constant)


def conv_weight_grad_of(g: Any, x: Any, **layout: Any) -> Tensor:
    """The adjoint of `conv` in its second operand."""
    return apply(CONV_WEIGHT_GRAD, (g, x), layout)


# what the words of the rules mean for tensors
add_words(
    {
        "conv": conv_of,
        "conv_input_grad": conv_input_grad_of,
        "conv_weight_grad": conv_weight_grad_of,
    }
)
