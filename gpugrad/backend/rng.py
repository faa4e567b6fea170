"""Random numbers whose whole state is a few integers.

A `Generator` owns a Philox key and a counter. Each method reserves the blocks that it needs and
draws from nothing else, so that any draw can be made again from its `Draw`, a checkpoint holds
three integers, and the same seed gives the same numbers on the host and on a GPU. Drawing on a GPU
never waits for it.
"""

import operator
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad.backend.array_module import current_device, device_of, module_for, on, parse_device
from gpugrad.backend.philox import (
    COUNTER_PERIOD,
    WORD,
    Draw,
    bernoulli_,
    normal_,
    uniform_,
    values_per_block,
    words_,
)
from gpugrad.errors import ParameterError

__all__ = ["Draw", "Generator", "default_generator", "seed"]

Shape = int | Sequence[int]


def _shape(function: str, shape: Shape) -> tuple[int, ...]:
    dims = shape if isinstance(shape, Sequence) else (shape,)
    try:
        result = tuple(operator.index(n) for n in dims)
    except TypeError:
        raise ParameterError(f"{function}: shape {shape!r}, expected integers") from None
    if any(n < 0 for n in result):
        raise ParameterError(f"{function}: shape {shape!r}, expected no negative length")
    return result


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _float_type(function: str, dtype: Any) -> np.dtype:
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise ParameterError(f"{function}: dtype {kind}, expected float32 or float64")
    return kind


class Generator:
    """Draws from Philox4x64-10, replayable and equal on all devices.

    Parameters
    ----------
    seed : int or sequence of int, optional
        Non-negative. Without one the operating system's entropy is used.
    device : str or Device, optional
        Where arrays are made when a method is not told; the default is the current device.

    Notes
    -----
    ``Generator(seed).uniform(n)`` equals
    ``numpy.random.Generator(numpy.random.Philox(seed)).random(n, dtype="float32")``.

    Examples
    --------
    >>> from gpugrad.backend.rng import Generator
    >>> rng = Generator(7)
    >>> state = rng.state
    >>> first = rng.uniform(3)
    >>> bool((Generator.from_state(state).uniform(3) == first).all())
    True
    """

    def __init__(self, seed: int | Sequence[int] | None = None, *, device: Any = None) -> None:
        try:
            words = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        except (TypeError, ValueError) as error:
            raise ParameterError(
                f"Generator: seed {seed!r}, expected non-negative integers ({error})"
            ) from None
        self._key = (int(words[0]), int(words[1]))
        self._counter = 0
        self._lock = threading.Lock()
        self.device = None if device is None else parse_device(device)

    @property
    def key(self) -> tuple[int, int]:
        """The two 64-bit words of the Philox key."""
        return self._key

    @property
    def counter(self) -> int:
        """Blocks handed out so far, as an integer below 2^256."""
        return self._counter

    @property
    def state(self) -> dict[str, Any]:
        """Everything needed to go on from here: ``{"key": [int, int], "counter": int}``."""
        return {"key": list(self._key), "counter": self._counter}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.set_state(state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back, or forward, to a state that `state` returned."""
        try:
            low, high = (operator.index(word) for word in state["key"])
            counter = operator.index(state["counter"])
        except (TypeError, KeyError, ValueError):
            raise ParameterError(
                f"Generator.set_state: got {state!r}, expected"
                " {'key': [int, int], 'counter': int}"
            ) from None
        if not (0 <= low <= WORD and 0 <= high <= WORD and 0 <= counter < COUNTER_PERIOD):
            raise ParameterError(
                f"Generator.set_state: got {state!r}, expected key words below 2^64 and a counter"
                " below 2^256"
            )
        with self._lock:
            self._key, self._counter = (low, high), counter

    @classmethod
    def from_state(cls, state: dict[str, Any], *, device: Any = None) -> "Generator":
        """A generator that goes on from `state`."""
        rng = cls(0, device=device)
        rng.set_state(state)
        return rng

    def __reduce__(self) -> tuple[Any, ...]:
        device = None if self.device is None else str(self.device)
        return _restore, (self.state, device)

    def __repr__(self) -> str:
        key = "".join(f"{word:016x}" for word in self._key)
        return f"Generator(key=0x{key}, counter={self._counter})"

    def reserve(self, n_values: int, bits: int = 32) -> Draw:
        """Take the blocks for `n_values` values of `bits` (16, 32 or 64) bits out of the stream.

        Returns
        -------
        Draw
            Where those values lie; a whole number of blocks, so that the next draw starts afresh.
        """
        if n_values < 0:
            raise ParameterError(f"Generator.reserve: {n_values} values, expected at least 0")
        n_blocks = -(-n_values // values_per_block(bits))
        with self._lock:
            draw = Draw(self._key, self._counter)
            self._counter = (self._counter + n_blocks) % COUNTER_PERIOD
        return draw

    def split(self, name: str) -> "Generator":
        """An independent generator that depends on this one's key and on `name` alone.

        The same name gives the same generator however much has been drawn, so that parts of a
        program do not disturb each other's numbers.
        """
        import hashlib  # which loads OpenSSL: not for those who never split

        digest = hashlib.sha256(name.encode()).digest()
        words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
        source = np.random.SeedSequence(list(self._key), spawn_key=tuple(words))
        key = [int(word) for word in source.generate_state(2, np.uint64)]
        return Generator.from_state({"key": key, "counter": 0}, device=self.device)

    def spawn(self, n: int) -> list["Generator"]:
        """`n` independent generators, their keys drawn from this one."""
        draw = self.reserve(4 * n, 64)
        keys = words_(np.empty((n, 4), np.uint64), draw=draw)[:, :2].tolist()
        return [Generator.from_state({"key": k, "counter": 0}, device=self.device) for k in keys]

    def _empty(self, shape: tuple[int, ...], dtype: Any, device: Any) -> Any:
        place = self.device if device is None else parse_device(device)
        if place is None:
            place = current_device()
        if place.kind == "cpu":
            return np.empty(shape, dtype)
        with on(place):
            return module_for(place).empty(shape, dtype)

    def uniform(
        self,
        shape: Shape = (),
        dtype: Any = np.float32,
        low: float = 0.0,
        high: float = 1.0,
        *,
        device: Any = None,
    ) -> Any:
        """Independent values, uniform in [low, high).

        Parameters
        ----------
        shape : int or tuple of int
            Shape of the result.
        dtype : {float32, float64}
            With float32 the values are multiples of 2^-24 (of ``high - low``), with float64 2^-53.
        low, high : float
            Ends of the interval, ``low <= high``, finite.
        device : str or Device, optional
            Where to make the array.
        """
        dims, kind = _shape("uniform", shape), _float_type("uniform", dtype)
        if not (np.isfinite(high - low) and low <= high):
            raise ParameterError(f"uniform: low {low}, high {high}, expected finite low <= high")
        out = self._empty(dims, kind, device)
        draw = self.reserve(_size(dims), kind.itemsize * 8)
        return uniform_(out, draw=draw, low=low, high=high)

    def normal(
        self,
        shape: Shape = (),
        dtype: Any = np.float32,
        mean: float = 0.0,
        std: float = 1.0,
        *,
        device: Any = None,
    ) -> Any:
        """Independent normal values of the given mean and standard deviation (``std >= 0``).

        By the Box-Muller map: see `gpugrad.backend.philox.normal_` for the extreme values.
        """
        dims, kind = _shape("normal", shape), _float_type("normal", dtype)
        if not (np.isfinite(mean) and 0 <= std < np.inf):
            raise ParameterError(f"normal: mean {mean}, std {std}, expected finite, std >= 0")
        out = self._empty(dims, kind, device)
        n = _size(dims)
        draw = self.reserve(n + n % 2, kind.itemsize * 8)
        return normal_(out, draw=draw, mean=mean, std=std)

    def bernoulli(self, p: Any, *, out: Any = None) -> Any:
        """1 with probability `p`, else 0, independently.

        Parameters
        ----------
        p : array of float16, float32 or float64
            Probabilities; the result has its shape, dtype and device.
        out : array, optional
            Where to write the result; any real dtype.
        """
        return self._two_valued("bernoulli", p, out, spin=False)

    def spins(
        self, shape: Any, dtype: Any = np.float32, *, out: Any = None, device: Any = None
    ) -> Any:
        """+1 or -1, independently.

        Parameters
        ----------
        shape : int, tuple of int, or float array
            A shape, for fair spins of type `dtype`; or an array of means in [-1, 1], whose shape,
            dtype and device the result has.
        """
        if hasattr(shape, "dtype") and np.dtype(shape.dtype).kind == "f":
            return self._two_valued("spins", (shape + 1) * 0.5, out, spin=True)
        dims = _shape("spins", shape)
        half = self._empty(dims, _float_type("spins", dtype), device)
        half[...] = 0.5
        return self._two_valued("spins", half, out, spin=True)

    def _two_valued(self, function: str, p: Any, out: Any, *, spin: bool) -> Any:
        if not hasattr(p, "dtype"):
            p = np.asarray(p, dtype=np.float64)
        if np.dtype(p.dtype).kind != "f":
            raise ParameterError(f"{function}: dtype {p.dtype}, expected floating point")
        if out is None:
            out = self._empty(p.shape, p.dtype, device_of(p))
        elif out.shape != p.shape:
            raise ParameterError(f"{function}: out has shape {out.shape}, expected {p.shape}")
        draw = self.reserve(p.size, 64 if p.dtype.itemsize == 8 else 32)
        return bernoulli_(out, p, draw=draw, spin=spin)

    def integers(
        self, low: int, high: int | None = None, size: Shape = (), *, device: Any = None
    ) -> Any:
        """Integers in [low, high), or in [0, low) when `high` is not given; int64.

        The 64-bit word w gives ``low + floor(w n / 2^64)`` with n = high - low: probabilities
        differ from 1/n by less than 2^-64.
        """
        low, high = (0, low) if high is None else (low, high)
        if not (-(2**63) <= low < high <= 2**63):
            raise ParameterError(f"integers: low {low}, high {high}, expected low < high in int64")
        dims = _shape("integers", size)
        n = _size(dims)
        words = words_(self._empty((n,), np.uint64, device), draw=self.reserve(n, 64))
        values = _scaled(words, high - low) + np.uint64(low % 2**64)
        return values.astype(np.int64).reshape(dims)

    def permutation(self, n: int) -> np.ndarray:
        """The integers below `n` in random order, int64 on the host.

        By sorting random words: any two equal ones (probability n^2 / 2^65) keep their order.
        """
        keys = words_(np.empty(n, np.uint64), draw=self.reserve(n, 64))
        return np.argsort(keys, kind="stable")


def _scaled(words: Any, n: int) -> Any:
    """``floor(words * n / 2^64)`` for uint64 words and an integer n <= 2^64."""
    if n > WORD:
        return words
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    n_low, n_high = np.uint64(n & 0xFFFFFFFF), np.uint64(n >> 32)
    low, high = words & mask, words >> half
    middle = high * n_low + (low * n_low >> half)
    cross = low * n_high + (middle & mask)
    return high * n_high + (middle >> half) + (cross >> half)


def _restore(state: dict[str, Any], device: str | None) -> Generator:
    return Generator.from_state(state, device=device)


_default: Generator | None = None
_default_lock = threading.Lock()


def default_generator() -> Generator:
    """The generator that functions use when they are given none; from entropy until `seed`."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Generator()
        return _default


def seed(value: int | Sequence[int] | None = None) -> None:
    """Start the default generator anew from `value`."""
    global _default
    fresh = Generator(value)
    with _default_lock:
        _default = fresh
