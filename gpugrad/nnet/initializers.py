"""Initial weights: tensors drawn from the distributions that keep signals from growing or fading.

On the host the numbers come from NumPy's legacy generator, as MyGrad's do: after
``gpugrad.random.seed(n)`` they are MyGrad's after its own ``seed(n)``. On a GPU they come from the
project's own generator. `rng` takes the place of both.
"""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import numpy as np

from gpugrad.backend import rng as _rng
from gpugrad.backend.array_module import Device, on, parse_device
from gpugrad.errors import ParameterError
from gpugrad.ops.activations import number
from gpugrad.ops.creation import full, identity
from gpugrad.tensor import Tensor

__all__ = [
    "constant",
    "dirac",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "normal",
    "uniform",
]

Shape = tuple[int, ...]


def _shape(function: str, shape: tuple[Any, ...]) -> Shape:
    """The lengths, given one by one, as one tuple, or as one number."""
    given: Any = shape[0] if len(shape) == 1 else shape
    try:
        lengths = tuple(map(operator.index, given if np.ndim(given) else (given,)))
    except TypeError:
        raise TypeError(f"{function}: shape {given!r}, expected integers") from None
    if any(n < 0 for n in lengths):
        raise ValueError(f"{function}: shape {lengths}, expected lengths of at least 0")
    return lengths


def _weights(function: str, shape: tuple[Any, ...]) -> Shape:
    lengths = _shape(function, shape)
    if len(lengths) < 2:
        raise ValueError(f"{function}: shape {lengths}, expected at least two axes, (out, in, ...)")
    return lengths


def _floats(function: str, dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise ValueError(f"{function}: dtype {dtype}, expected floats")
    return dtype


def _drawn(
    distribution: str,
    a: float,
    b: float,
    shape: Shape,
    dtype: np.dtype,
    constant: bool | None,
    device: Any,
    rng: Any,
) -> Tensor:
    """`distribution` is a method of NumPy's generators, and `a` and `b` its parameters."""
    place = parse_device(device)
    if place.kind == "cpu" and not isinstance(rng, _rng.Generator):
        generator = np.random if rng is None else rng
        drawn = getattr(generator, distribution)(a, b, shape)
    else:
        if rng is None:
            rng = _rng.default_generator()
        elif not isinstance(rng, _rng.Generator):
            raise ParameterError(
                f"{distribution}: rng is {type(rng).__name__}, expected a "
                f"gpugrad.backend.rng.Generator to draw on {place}"
            )
        drawn = getattr(rng, distribution)(shape, np.float64, device=place)
        with on(place):
            drawn = a + b * drawn if distribution == "normal" else a + (b - a) * drawn
    array = drawn if hasattr(drawn, "shape") else np.asarray(drawn)
    with on(place):
        array = array.astype(dtype)
    return Tensor(array, constant=constant, copy=False)._as_private()


# ---------------------------------------------------------------------------------- distributions


def uniform(
    *shape: int,
    lower_bound: float = 0,
    upper_bound: float = 1,
    dtype: Any = np.float32,
    constant: bool | None = None,
    device: str | Device | None = None,
    rng: Any = None,
) -> Tensor:
    """Independent numbers, uniform in [lower_bound, upper_bound).

    Parameters
    ----------
    *shape : int
        The lengths of the axes, one by one or as one tuple.
    lower_bound, upper_bound : float
        The ends of the interval; the second must be the larger.
    dtype : dtype
        Of floats.
    constant : bool, optional
        True: the tensor takes no gradient.
    device : str or Device, optional
        Where to draw; the current device if None.
    rng : numpy.random.Generator, numpy.random.RandomState or gpugrad.backend.rng.Generator
        What to draw from, on a GPU the last of them only. None: on the host `numpy.random`, on a
        GPU the default generator.

    Raises
    ------
    ValueError
        The bounds are equal or in the wrong order, or `dtype` is not of floats.

    Examples
    --------
    >>> import gpugrad as gg
    >>> w = gg.nnet.initializers.uniform(2, 3, lower_bound=-1)
    >>> w.shape, w.dtype, bool((abs(w.data) <= 1).all())
    ((2, 3), dtype('float32'), True)
    """
    low = number("uniform", "lower_bound", lower_bound)
    high = number("uniform", "upper_bound", upper_bound)
    if not low < high:
        raise ValueError(
            f"uniform: lower_bound {low} and upper_bound {high}, expected the second to be larger"
        )
    kind = _floats("uniform", dtype)
    return _drawn("uniform", low, high, _shape("uniform", shape), kind, constant, device, rng)


def normal(
    *shape: int,
    mean: float = 0,
    std: float = 1,
    dtype: Any = np.float32,
    constant: bool | None = None,
    device: str | Device | None = None,
    rng: Any = None,
) -> Tensor:
    """Independent numbers of the normal distribution.

    Parameters
    ----------
    *shape : int
        The lengths of the axes, one by one or as one tuple.
    mean, std : float
        The mean, and the standard deviation, which is not negative.
    dtype, constant, device, rng
        As in `uniform`.

    Raises
    ------
    ValueError
        `std` is negative, or `dtype` is not of floats.
    """
    kind = _floats("normal", dtype)
    mean, std = number("normal", "mean", mean), number("normal", "std", std)
    if not std >= 0:
        raise ValueError(f"normal: std is {std}, expected a number of at least 0")
    return _drawn("normal", mean, std, _shape("normal", shape), kind, constant, device, rng)


# ------------------------------------------------------------------ scaled by the number of inputs


def glorot_uniform(
    *shape: int,
    gain: float = 1,
    dtype: Any = np.float32,
    constant: bool | None = None,
    device: str | Device | None = None,
    rng: Any = None,
) -> Tensor:
    """Uniform in [-b, b), ``b = gain * sqrt(6 / (fan_in + fan_out))``.

    A shape (F, C, *K) has ``fan_in = C * prod(K)`` and ``fan_out = F * prod(K)``.

    Parameters
    ----------
    *shape : int
        The lengths of two or more axes, one by one or as one tuple.
    gain : float
        A factor.
    dtype, constant, device, rng
        As in `uniform`.

    Raises
    ------
    ValueError
        There are fewer than two axes, or `dtype` is not of floats.

    References
    ----------
    X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks,
    AISTATS 2010, equation 16.
    """
    lengths = _weights("glorot_uniform", shape)
    fans = (lengths[0] + lengths[1]) * prod(lengths[2:])
    b = number("glorot_uniform", "gain", gain) * np.sqrt(6 / fans)
    kind = _floats("glorot_uniform", dtype)
    return _drawn("uniform", -b, b, lengths, kind, constant, device, rng)


def glorot_normal(
    *shape: int,
    gain: float = 1,
    dtype: Any = np.float32,
    constant: bool | None = None,
    device: str | Device | None = None,
    rng: Any = None,
) -> Tensor:
    """Normal, of mean 0 and ``std = gain * sqrt(2 / (fan_in + fan_out))``; otherwise as
    `glorot_uniform`.

    Notes
    -----
    As in MyGrad, of more than one spatial axis only the last counts: a shape (F, C, *K) has
    ``fan_in = C * K[-1]``. For the fans of `glorot_uniform` divide `gain` by
    ``sqrt(prod(K[:-1]))``.

    References
    ----------
    X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks,
    AISTATS 2010, equation 12.
    """
    kind = _floats("glorot_normal", dtype)
    lengths = _weights("glorot_normal", shape)
    fans = (lengths[0] + lengths[1]) * (lengths[-1] if len(lengths) > 2 else 1)
    std = number("glorot_normal", "gain", gain) * np.sqrt(2 / fans)
    return _drawn("normal", 0, std, lengths, kind, constant, device, rng)


def he_normal(
    *shape: int,
    gain: float = 1,
    dtype: Any = np.float32,
    constant: bool | None = None,
    device: str | Device | None = None,
    rng: Any = None,
) -> Tensor:
    """Normal, of mean 0 and ``std = gain / sqrt(fan_in)``, with ``fan_in = C * prod(K)`` for a
    shape (F, C, *K); the other parameters as in `glorot_uniform`.

    Notes
    -----
    Before rectifiers of negative slope a, ``gain = sqrt(2 / (1 + a**2))`` keeps the variance of
    signals as it is.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, arXiv:1502.01852, equation 10.
    """
    lengths = _weights("he_normal", shape)
    kind = _floats("he_normal", dtype)
    std = number("he_normal", "gain", gain) / np.sqrt(prod(lengths[1:]))
    return _drawn("normal", 0, std, lengths, kind, constant, device, rng)


def he_uniform(
    *shape: int,
    gain: float = 1,
    dtype: Any = np.float32,
    constant: bool | None = None,
    device: str | Device | None = None,
    rng: Any = None,
) -> Tensor:
    """Uniform in [-b, b), ``b = gain * sqrt(C / (3 * prod(K)))`` for a shape (F, C, *K); the other
    parameters as in `glorot_uniform`.

    Notes
    -----
    The bound is MyGrad's, so that its programs get its numbers. The one that He et al. derive,
    ``gain * sqrt(3 / (C * prod(K)))``, comes with ``3 / C`` times the gain, or from
    ``uniform(*shape, lower_bound=-b, upper_bound=b)``.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, arXiv:1502.01852.
    """
    lengths = _weights("he_uniform", shape)
    kind = _floats("he_uniform", dtype)
    b = number("he_uniform", "gain", gain) / np.sqrt(3 / lengths[1] * prod(lengths[2:]))
    return _drawn("uniform", -b, b, lengths, kind, constant, device, rng)


# ------------------------------------------------------------------------------- without randomness


def dirac(
    *shape: int,
    dtype: Any = np.float32,
    constant: bool | None = None,
    device: str | Device | None = None,
) -> Tensor:
    """Filters whose convolution gives back the channels it was given.

    Filter i is 1 at the centre of channel i, and 0 elsewhere; filters without a channel are 0.

    Parameters
    ----------
    *shape : int
        (F, C, *K), one by one or as one tuple.
    dtype : dtype
    constant : bool, optional
        True: the tensor takes no gradient.
    device : str or Device, optional
        Where to make it; the current device if None.

    Raises
    ------
    ValueError
        There are fewer than two axes.

    References
    ----------
    S. Zagoruyko, N. Komodakis, DiracNets: training very deep neural networks without
    skip-connections, arXiv:1706.00388.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.nnet.initializers.dirac(2, 2, 3)
    Tensor([[[0., 1., 0.],
             [0., 0., 0.]],
    <BLANKLINE>
            [[0., 0., 0.],
             [0., 1., 0.]]], dtype=float32)
    """
    lengths = _weights("dirac", shape)
    filters = full(lengths, 0, dtype, constant=constant, device=device)
    centre = tuple(n // 2 for n in lengths[2:])
    with on(parse_device(device)):
        for i in range(min(lengths[:2])):
            filters.data[(i, i, *centre)] = 1
    return filters


# the last of the definitions: its name is a parameter of the others
def constant(
    *shape: int,
    value: float = 0.0,
    dtype: Any = None,
    constant: bool | None = None,
    device: str | Device | None = None,
) -> Tensor:
    """A tensor whose elements all are `value`.

    Parameters
    ----------
    *shape : int
        The lengths of the axes, one by one or as one tuple.
    value : float
    dtype : dtype, optional
        That of `value` by default.
    constant : bool, optional
        True: the tensor takes no gradient.
    device : str or Device, optional
        Where to make it; the current device if None.
    """
    return full(_shape("constant", shape), value, dtype, constant=constant, device=device)
