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
    kind = "a positive integer" if least else "an integer of at least 0"
    expected = f"{function}: {name} is {value!r}, expected {kind} or {n} of them"
    numbers = [value] * n if np.ndim(value) == 0 else list(value)
    if not all(isinstance(k, int | np.integer) for k in numbers):
        raise TypeError(expected)
    if len(numbers) != n or any(k < least for k in numbers):
        raise LayerParameterError(expected)
    return tuple(int(k) for k in numbers)


def output_length(
    function: str, shape: Sequence[int], spans: Sequence[int], steps: Sequence[int], **given: Any
) -> None:
    """Refuse windows that do not fit, or whose places leave a rest at the end of an axis.

    Parameters
    ----------
    shape : sequence of int
        The lengths of the image, with its border.
    spans : sequence of int
        What the window spans along each axis.
    steps : sequence of int
        The distances of neighbouring places.
    **given
        Shapes and arguments, for the message.

    Raises
    ------
    ValueError
    """
    for axis, (n, span, s) in enumerate(zip(shape, spans, steps, strict=True)):
        if span <= n and (n - span) % s == 0:
            continue
        shown = ", ".join(f"{name} {value}" for name, value in given.items())
        if span > n:
            raise ValueError(
                f"{function}: a window spans {span} elements of axis {axis}, which has {n} "
                f"({shown})"
            )
        raise ValueError(
            f"{function}: windows of {span} elements placed every {s} do not end where axis "
            f"{axis} of {n} elements does ({shown})"
        )
