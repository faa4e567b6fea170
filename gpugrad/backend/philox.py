"""Philox4x64-10: random numbers as a function of a key and a counter.

A block of four 64-bit words is computed from a 128-bit key and a 256-bit counter, without state.
NumPy's ``numpy.random.Philox`` is the same function at the speed of C and serves as the host's
launcher; the bodies here are written in array functions and are the reference for both it and the
CUDA kernels (kernels/philox.cuh). What a value is, on every device:

- block ``i`` of a draw with counter ``c`` is Philox of counter ``c + 1 + i`` (NumPy increments
  before it generates; the same convention makes the draws equal to NumPy's);
- 64-bit uniform ``i``: word ``i % 4`` of block ``i // 4``, its upper 53 bits times 2^-53;
- 32-bit uniform ``i``: half ``i % 2`` (low half first) of word ``(i % 8) // 2`` of block
  ``i // 8``, its upper 24 bits times 2^-24.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011.
"""

from __future__ import annotations  # numpy.random is imported when it is first needed

import math
import threading
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.host_threads import BLOCK_VALUES, over_spans
from gpugrad.backend.twin import Primitive, primitive
from gpugrad.errors import ParameterError

__all__ = [
    "Draw",
    "HostStream",
    "bernoulli_",
    "normal_",
    "philox4x64",
    "random_words",
    "uniform_",
    "uniform_values",
    "values_per_block",
    "words_",
]

WORD = (1 << 64) - 1
COUNTER_PERIOD = 1 << 256
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
TWO_PI = 2.0 * math.pi


class Draw(NamedTuple):
    """A range of Philox blocks: enough to produce the same numbers again, on any device."""

    key: tuple[int, int]
    counter: int


def values_per_block(bits: int) -> int:
    """Values of `bits` (16, 32 or 64) bits in one Philox block of 256 bits."""
    if bits not in (16, 32, 64):
        raise ParameterError(f"values_per_block: got {bits} bits, expected 16, 32 or 64")
    return 256 // bits


def counter_words(counter: int) -> tuple[int, int, int, int]:
    """The four 64-bit words of a counter, lowest first."""
    c = counter % COUNTER_PERIOD
    return c & WORD, c >> 64 & WORD, c >> 128 & WORD, c >> 192


def _product_words(xp: Any, a: int, b: Any) -> tuple[Any, Any]:
    """High and low word of the 128-bit product of a constant and an array of uint64."""
    half, mask = xp.uint64(32), xp.uint64(0xFFFFFFFF)
    a_low, a_high = xp.uint64(a & 0xFFFFFFFF), xp.uint64(a >> 32)
    b_low, b_high = b & mask, b >> half
    low = b_low * a_low
    middle = b_high * a_low + (low >> half)
    cross = b_low * a_high + (middle & mask)
    return b_high * a_high + (middle >> half) + (cross >> half), b * xp.uint64(a)


def philox4x64(xp: Any, key: tuple[int, int], counter: tuple[Any, Any, Any, Any]) -> Any:
    """Philox4x64-10 of counters given word by word.

    Parameters
    ----------
    xp : namespace
        The array namespace to work in.
    key : tuple of two int
        The key's words.
    counter : tuple of four arrays of uint64, one shape
        The counters' words, lowest first.

    Returns
    -------
    tuple of four arrays of uint64
        The four words of each block.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _product_words(xp, MULTIPLIERS[0], c0)
        high1, low1 = _product_words(xp, MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ xp.uint64(k0), low1, high0 ^ c3 ^ xp.uint64(k1), low0
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return c0, c1, c2, c3


def random_words(xp: Any, draw: Draw, n_blocks: int) -> Any:
    """The words of the first `n_blocks` blocks of a draw, uint64 of shape (n_blocks, 4)."""
    first = counter_words(draw.counter + 1)
    low = xp.arange(n_blocks, dtype=xp.uint64) + xp.uint64(first[0])
    carry = low < xp.uint64(first[0])
    words = [low]
    for word in first[1:]:
        words.append(xp.full(low.shape, word, dtype=xp.uint64) + carry.astype(xp.uint64))
        carry = carry & (words[-1] == xp.uint64(0))
    return xp.stack(philox4x64(xp, draw.key, tuple(words)), axis=1)  # type: ignore[arg-type]


def uniform_values(xp: Any, draw: Draw, n_values: int, dtype: Any) -> Any:
    """The first `n_values` uniforms in [0, 1) of a draw, float32 or float64, in array functions."""
    bits = np.dtype(dtype).itemsize * 8
    words = random_words(xp, draw, -(-n_values // values_per_block(bits)))
    if bits == 64:
        return (words.ravel()[:n_values] >> xp.uint64(11)).astype(np.float64) * 2.0**-53
    halves = xp.stack((words & xp.uint64(0xFFFFFFFF), words >> xp.uint64(32)), axis=2)
    values = (halves.ravel()[:n_values] >> xp.uint64(8)).astype(np.float32)
    return values * np.float32(2.0**-24)


class HostStream(threading.local):
    """NumPy's Philox, one to a thread, set to any place of any draw in under a microsecond."""

    def __getattr__(self, name: str) -> Any:
        # made at first use in a thread: importing numpy.random is half the time of `import gpugrad`
        if name not in ("bits", "generator", "state"):
            raise AttributeError(name)
        self.bits = np.random.Philox(key=0, counter=0)
        self.generator = np.random.Generator(self.bits)
        self.state = self.bits.state
        return self.__dict__[name]

    def at(self, draw: Draw, start: int, bits: int) -> np.random.Generator:
        """A NumPy generator whose next value of `bits` bits is value `start` of the draw.

        For 16 bits, which NumPy has no name for, `start` must begin a block.
        """
        block, rest = divmod(start, values_per_block(bits))
        inner = self.state["state"]
        inner["key"] = np.array(draw.key, dtype=np.uint64)
        inner["counter"] = np.array(counter_words(draw.counter + block), dtype=np.uint64)
        self.bits.state = self.state
        if rest:
            self.generator.random(rest, dtype=np.float32 if bits == 32 else np.float64)
        return self.generator


host_stream = HostStream()


def _float_bits(function: str, dtype: Any) -> int:
    bits = np.dtype(dtype).itemsize * 8
    if np.dtype(dtype).kind != "f" or bits not in (32, 64):
        raise ParameterError(f"{function}: dtype {np.dtype(dtype)}, expected float32 or float64")
    return bits


@primitive("philox_words")
def words_(xp: Any, out: Any, *, draw: Draw) -> Any:
    """Fill `out`, uint64 of any shape, with the words of a draw in their order; return it."""
    words = random_words(xp, draw, -(-out.size // 4))
    out[...] = words.ravel()[: out.size].reshape(out.shape)
    return out


@primitive("philox_uniform")
def uniform_(xp: Any, out: Any, *, draw: Draw, low: float = 0.0, high: float = 1.0) -> Any:
    """Fill `out`, float32 or float64, with uniforms in [low, high); return it.

    The value is ``low + (high - low) * u``, which rounding may bring to `high` itself unless
    low = 0 and high = 1.
    """
    _float_bits("uniform_", out.dtype)
    u = uniform_values(xp, draw, out.size, out.dtype).reshape(out.shape)
    if low != 0.0 or high != 1.0:
        u = u * out.dtype.type(high - low) + out.dtype.type(low)
    out[...] = u
    return out


@primitive("philox_normal")
def normal_(xp: Any, out: Any, *, draw: Draw, mean: float = 0.0, std: float = 1.0) -> Any:
    """Fill `out`, float32 or float64, with normal values; return it.

    Values 2i and 2i + 1 come from uniforms 2i and 2i + 1 of the draw by the Box-Muller map
    ``sqrt(-2 log(1 - u)) (cos, sin)(2 pi w)``. With float32 uniforms of 24 bits no value lies
    farther out than 5.77 standard deviations (probability 8e-9), with float64 8.57.

    References
    ----------
    G. E. P. Box, M. E. Muller, "A note on the generation of random normal deviates", 1958.
    """
    _float_bits("normal_", out.dtype)
    n_pairs = -(-out.size // 2)
    u = uniform_values(xp, draw, 2 * n_pairs, out.dtype).reshape(n_pairs, 2)
    radius = xp.sqrt(xp.log(1 - u[:, 0]) * -2)
    angle = u[:, 1] * out.dtype.type(TWO_PI)
    pairs = xp.stack((radius * xp.cos(angle), radius * xp.sin(angle)), axis=1)
    values = pairs.ravel()[: out.size].reshape(out.shape)
    if mean != 0.0 or std != 1.0:
        values = values * out.dtype.type(std) + out.dtype.type(mean)
    out[...] = values
    return out


@primitive("philox_bernoulli")
def bernoulli_(xp: Any, out: Any, p: Any, *, draw: Draw, spin: bool = False) -> Any:
    """Fill `out` with 1 where ``u < p`` and 0 (for spins -1) elsewhere; return it.

    `p` has the shape of `out`; uniforms are float64 for float64 `p`, float32 otherwise.
    """
    wide = np.dtype(np.float64 if p.dtype.itemsize == 8 else np.float32)
    u = uniform_values(xp, draw, out.size, wide).reshape(out.shape)
    sample = (u < p.astype(wide)).astype(out.dtype)
    out[...] = sample * out.dtype.type(2) - out.dtype.type(1) if spin else sample
    return out


def _flat(out: np.ndarray) -> np.ndarray:
    """`out` as one contiguous run; a copy, to be written back, where its strides forbid a view."""
    return out.reshape(-1) if out.flags.c_contiguous else np.empty(out.size, out.dtype)


def _finish(out: np.ndarray, flat: np.ndarray) -> np.ndarray:
    if not out.flags.c_contiguous:
        out[...] = flat.reshape(out.shape)
    return out


def _in_blocks(fill: Any, draw: Draw, size: int, bits: int) -> None:
    """Call ``fill(generator, start, stop)`` on cache-sized blocks of a draw, on two threads."""

    def span(start: int, stop: int) -> None:
        generator = host_stream.at(draw, start, bits)
        for begin in range(start, stop, BLOCK_VALUES):
            fill(generator, begin, min(begin + BLOCK_VALUES, stop))

    over_spans(span, size, multiple_of=values_per_block(bits))


def _words_on_host(out: np.ndarray, *, draw: Draw) -> np.ndarray:
    flat = _flat(out)

    def fill(generator: np.random.Generator, start: int, stop: int) -> None:
        flat[start:stop] = generator.bit_generator.random_raw(stop - start)

    _in_blocks(fill, draw, flat.size, 64)
    return _finish(out, flat)


def _uniform_on_host(
    out: np.ndarray, *, draw: Draw, low: float = 0.0, high: float = 1.0
) -> np.ndarray:
    bits, flat = _float_bits("uniform_", out.dtype), _flat(out)
    scale, offset = out.dtype.type(high - low), out.dtype.type(low)
    plain = low == 0.0 and high == 1.0

    def fill(generator: np.random.Generator, start: int, stop: int) -> None:
        u = flat[start:stop]
        generator.random(out=u, dtype=u.dtype.type)
        if not plain:
            np.multiply(u, scale, out=u)
            np.add(u, offset, out=u)

    _in_blocks(fill, draw, flat.size, bits)
    return _finish(out, flat)


def _normal_on_host(
    out: np.ndarray, *, draw: Draw, mean: float = 0.0, std: float = 1.0
) -> np.ndarray:
    bits, flat = _float_bits("normal_", out.dtype), _flat(out)
    kind = out.dtype.type

    def fill(generator: np.random.Generator, start: int, stop: int) -> None:
        n_pairs = -(-(stop - start) // 2)
        u = generator.random((n_pairs, 2), dtype=kind)
        radius = np.subtract(1, u[:, 0])
        np.log(radius, out=radius)
        np.multiply(radius, -2, out=radius)
        np.sqrt(radius, out=radius)
        angle = np.multiply(u[:, 1], kind(TWO_PI))
        np.multiply(np.cos(angle), radius, out=u[:, 0])
        np.multiply(np.sin(angle), radius, out=u[:, 1])
        if mean != 0.0 or std != 1.0:
            np.multiply(u, kind(std), out=u)
            np.add(u, kind(mean), out=u)
        flat[start:stop] = u.reshape(-1)[: stop - start]

    _in_blocks(fill, draw, flat.size, bits)
    return _finish(out, flat)


def _bernoulli_on_host(
    out: np.ndarray, p: np.ndarray, *, draw: Draw, spin: bool = False
) -> np.ndarray:
    flat, chance = _flat(out), np.ascontiguousarray(p).reshape(-1)
    wide: Any = np.float64 if p.dtype.itemsize == 8 else np.float32

    def fill(generator: np.random.Generator, start: int, stop: int) -> None:
        u = generator.random(stop - start, dtype=wide)
        sample = flat[start:stop]
        sample[...] = np.less(u, chance[start:stop].astype(wide, copy=False))
        if spin:
            np.multiply(sample, 2, out=sample)
            np.subtract(sample, 1, out=sample)

    _in_blocks(fill, draw, flat.size, np.dtype(wide).itemsize * 8)
    return _finish(out, flat)


words_.attach(_words_on_host, device="cpu")
uniform_.attach(_uniform_on_host, device="cpu")
normal_.attach(_normal_on_host, device="cpu")
bernoulli_.attach(_bernoulli_on_host, device="cpu")

#: What the launchers of kernels/philox.cu attach themselves to.
PRIMITIVES: tuple[Primitive, ...] = (words_, uniform_, normal_, bernoulli_)
