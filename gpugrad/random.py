"""Tensors of random numbers.

On the host they come from NumPy's legacy generator: after ``seed(n)`` they are the numbers that
``numpy.random`` gives after ``numpy.random.seed(n)``, in the same order. On a GPU they come from
the project's own Philox generator (`gpugrad.backend.rng.default_generator`), whose numbers are the
same on every GPU, but are not NumPy's. `seed` starts both anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend import rng
from gpugrad.backend.array_module import Device, parse_device
from gpugrad.errors import ParameterError, composite
from gpugrad.tensor import Tensor
from gpugrad.typing import Shape

__all__ = ["rand", "randint", "randn", "random", "random_sample", "ranf", "sample", "seed"]


def _tensor(data: Any, constant: bool | None = None) -> Tensor:
    array = data if hasattr(data, "shape") else np.asarray(data)
    return Tensor(array, constant=constant, copy=False)._as_private()


def _uniform(shape: Any, constant: bool | None, device: Any) -> Tensor:
    place = parse_device(device)
    if place.kind == "cpu":
        return _tensor(np.random.random_sample(shape), constant)
    dims = () if shape is None else shape
    drawn = rng.default_generator().uniform(dims, np.float64, device=place)
    return _tensor(drawn, constant)


@composite
def rand(*shape: int, constant: bool | None = None, device: str | Device | None = None) -> Tensor:
    """Independent numbers, uniform in [0, 1), float64.

    Parameters
    ----------
    *shape : int
        The lengths of the axes; none for a tensor of no dimension.
    constant : bool, optional
        True: the tensor takes no gradient.
    device : str or Device, optional
        Where to draw; the current device if None.

    Raises
    ------
    ValueError
        A length is negative.

    See Also
    --------
    numpy.random.rand

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.random.seed(3)
    >>> x = gg.random.rand(2, 3)
    >>> x.shape, bool((x >= 0).all() and (x < 1).all())
    ((2, 3), True)
    """
    return _uniform(shape, constant, device)


@composite
def randn(*shape: int, constant: bool | None = None, device: str | Device | None = None) -> Tensor:
    """Independent numbers of the standard normal distribution, float64; parameters as `rand`.

    See Also
    --------
    numpy.random.randn
    """
    place = parse_device(device)
    if place.kind == "cpu":
        return _tensor(np.random.randn(*shape), constant)
    drawn = rng.default_generator().normal(shape, np.float64, device=place)
    return _tensor(drawn, constant)


@composite
def random(
    shape: Shape | int | None = None,
    *,
    constant: bool | None = None,
    device: str | Device | None = None,
) -> Tensor:
    """Independent numbers, uniform in [0, 1), float64.

    Parameters
    ----------
    shape : int or tuple of int, optional
        None for a tensor of no dimension.
    constant, device
        As in `rand`.

    See Also
    --------
    numpy.random.random_sample
    """
    return _uniform(shape, constant, device)


random_sample = ranf = sample = random


@composite
def randint(
    low: Any,
    high: Any = None,
    shape: Shape | int | None = None,
    dtype: Any = int,
    *,
    device: str | Device | None = None,
) -> Tensor:
    """Independent integers, uniform in [low, high), or in [0, low) without `high`: a constant.

    Parameters
    ----------
    low, high : int or array_like of int
        Broadcast with each other; on a GPU single numbers only.
    shape : int or tuple of int, optional
        None: that of `low` and `high`.
    dtype : dtype, optional
        An integer type, or bool.
    device : str or Device, optional
        Where to draw; the current device if None.

    Raises
    ------
    ValueError
        ``low >= high``, or a bound is out of the range of `dtype`.

    See Also
    --------
    numpy.random.randint
    """
    place = parse_device(device)
    if place.kind == "cpu":
        return _tensor(np.random.randint(low, high, shape, dtype))
    if np.ndim(low) or np.ndim(high):
        raise ParameterError(
            f"randint: low {low!r}, high {high!r} on {place}, expected single numbers there"
        )
    low, high = (0, int(low)) if high is None else (int(low), int(high))
    kind = np.dtype(dtype)
    if kind.kind not in "iub":
        raise TypeError(f"randint: dtype {kind}, expected integers or bool")
    least, most = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    if not (least <= low < high <= most + 1):
        raise ParameterError(
            f"randint: low {low}, high {high}, expected {least} <= low < high <= {most + 1} "
            f"for {kind}"
        )
    dims = () if shape is None else shape
    # the generator's integers are int64: those of uint64 are drawn 2^63 lower
    shift = 2**63 if high > 2**63 else 0
    drawn = rng.default_generator().integers(low - shift, high - shift, dims, device=place)
    if shift:
        drawn = drawn.astype(np.uint64) + np.uint64(shift)
    return _tensor(drawn.astype(kind))


@composite
def seed(seed_number: Any) -> None:
    """Start the random numbers anew, on the host and on GPUs.

    The same as ``numpy.random.seed(seed_number)`` and ``gpugrad.backend.rng.seed(seed_number)``.

    Parameters
    ----------
    seed_number : int, sequence of int, or None
        From 0 to 2^32 - 1; None takes the operating system's entropy.

    Raises
    ------
    ValueError, TypeError
        Those of `numpy.random.seed`.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.random.seed(0)
    >>> first = gg.random.random(4)
    >>> gg.random.seed(0)
    >>> bool((gg.random.random(4) == first).all())
    True
    """
    np.random.seed(seed_number)
    if seed_number is not None:
        numbers = np.ravel(seed_number)
        seed_number = [int(n) for n in numbers] if np.ndim(seed_number) else int(seed_number)
    rng.seed(seed_number)
