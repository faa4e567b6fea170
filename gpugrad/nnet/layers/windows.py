"""How windows are laid over images: the arguments that convolution and pooling share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad.errors import LayerParameterError

__all__ = ["for_each_axis", "output_length"]


def for_each_axis(function: str, name: str, value: Any, n: int, least: int) -> tuple[int, ...]:
    """An integer of at least `least` for each of `n` axes, from one for all or from n of them.

    Raises
    ------
    TypeError
        `value` is no integer and no sequence of integers.
    LayerParameterError
        An integer is too small, or there are not n of them.
    """
    kind = "positive integer" if least else "integer of at least 0"
    expected = f"{function}: {name} is {value!r}, expected a {kind} or {n} of them"
    if not least:
        expected = expected.replace("a integer", "an integer")
    numbers = [value] * n if np.ndim(value) == 0 else list(value)
    if not all(isinstance(k, int | np.integer) for k in numbers):
        raise TypeError(expected)
    if len(numbers) != n or any(k < least for k in numbers):
        raise LayerParameterError(expected)
    return tuple(int(k) for k in numbers)


def output_length(
    function: str, shape: Sequence[int], spans: Sequence[int], stride: Sequence[int], given: str
) -> None:
    """Refuse windows that do not fit, or whose places leave a rest at the end of an axis.

    Parameters
    ----------
    shape : sequence of int
        The lengths of the image, with its border.
    spans : sequence of int
        What the window spans along each axis.
    stride : sequence of int
    given : str
        The arguments, for the message.

    Raises
    ------
    ValueError
    """
    for axis, (n, span, s) in enumerate(zip(shape, spans, stride, strict=True)):
        if span > n:
            raise ValueError(
                f"{function}: a window spans {span} elements of axis {axis}, which has {n} "
                f"({given})"
            )
        if (n - span) % s:
            raise ValueError(
                f"{function}: windows of {span} elements placed every {s} do not end where axis "
                f"{axis} of {n} elements does ({given})"
            )
