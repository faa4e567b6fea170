"""Drawing operands: names of variables that fit, numbers, arrays, shapes, axes and indices.

A program is text. What is drawn are pieces of it, chosen by looking at the variables as they are
at that line under mygrad, so that most lines do something and a few are wrong on purpose.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

__all__ = ["DTYPES", "SHAPES", "Draw", "fits", "is_broadcast"]

SHAPES = [(), (3,), (2, 3), (2, 3), (1, 3), (2, 1), (3, 3), (0,), (0, 3), (2, 3, 2), (3, 2), (1,)]
DTYPES = ["f8", "f8", "f8", "f8", "f4", "f4", "f2", "i8", "i4", "?"]
WRONG = 0.04  # how often an operand is drawn without asking whether it fits


def is_broadcast(a: np.ndarray) -> bool:
    return any(step == 0 and n > 1 for step, n in zip(a.strides, a.shape))


def fits(*shapes: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


class Draw:
    """Random choices among the variables of `env`, whose tensors are of class `Tensor`."""

    def __init__(self, rng: random.Random, env: dict[str, Any], tensor: type) -> None:
        self.rng, self.env = rng, env
        self.tensors = sorted(k for k, v in env.items() if isinstance(v, tensor))
        self.arrays = sorted(k for k, v in env.items() if isinstance(v, np.ndarray))

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def shape(self, name: str) -> tuple[int, ...]:
        return self.env[name].shape if name in self.env else ()

    def new(self, prefix: str) -> str:
        return next(n for i in range(100) if (n := f"{prefix}{i}") not in self.env)

    # ------------------------------------------------------------------------------ literals

    def number(self) -> float:
        return self.pick(0.5, 1.5, 2.0, -1.0, 0.25, 3.0, -0.5, 1.0, 2, 1, 3, 0.0)

    def literal(self, shape: tuple[int, ...], dtype: str = "f8") -> str:
        n = int(np.prod(shape))
        if dtype[0] == "f":
            low = self.pick(0.2, 0.2, 0.2, -2.0)
            flat = [round(self.rng.uniform(low, 2.0), 2) for _ in range(n)]
            if n and self.chance(0.1):
                flat[self.rng.randrange(n)] = self.pick(0.0, 1.0, flat[0])
        else:
            flat = [self.rng.randrange(0, 2 if dtype == "?" else 5) for _ in range(n)]
        if not n and len(shape) > 1:
            return f"np.zeros({shape}, '{dtype}')"
        return f"np.array({np.array(flat).reshape(shape).tolist()}, '{dtype}')"

    def plain(self, shape: tuple[int, ...]) -> str:
        """A list, or a number."""
        return self.literal(shape)[len("np.array(") : -len(", 'f8')")] if 0 not in shape else "[]"

    def mask(self, shape: tuple[int, ...]) -> str:
        return self.literal(shape, "?")

    # ----------------------------------------------------------------------------- variables

    def tensor(self, accept: Any = None) -> str:
        """A tensor whose array is accepted; seldom any tensor."""
        names = self.tensors
        if accept is not None and not self.chance(WRONG):
            names = [n for n in names if accept(self.env[n])]
        return self.rng.choice(names or self.tensors)

    def float_tensor(self, accept: Any = None) -> str:
        def both(t: Any) -> bool:
            return t.dtype.kind == "f" and (accept is None or accept(t))

        return self.tensor(both)

    def operand(self, x: str, same: bool = False) -> str:
        """Something to compute with `x`: it broadcasts, or has the same shape."""
        shape = self.shape(x)
        kind = self.rng.random()
        if kind < 0.5 or (same and kind < 0.8):
            names = self.tensors + self.arrays
            if not self.chance(WRONG):
                names = [
                    n
                    for n in names
                    if (self.shape(n) == shape if same else fits(self.shape(n), shape))
                ]
            if names:
                return self.rng.choice(names)
        if kind < 0.8 and not same:
            return f"scalar({self.number()}, {x})"
        if not same and shape and self.chance(0.5):
            shape = shape[1:]
        if shape and self.chance(0.2):
            return self.plain(shape)
        return self.literal(shape, self.rng.choice(DTYPES))

    # ------------------------------------------------------------------------ axes and indices

    def axis(self, x: str) -> int:
        n = len(self.shape(x))
        if not n or self.chance(WRONG):
            return self.rng.randrange(-4, 4)
        return self.rng.randrange(-n, n)

    def axes(self, x: str) -> Any:
        """None, an axis, or a tuple of them."""
        n = len(self.shape(x))
        kind = self.rng.random()
        if kind < 0.3 or not n:
            return None
        if kind < 0.7 or n < 2:
            return self.axis(x)
        return tuple(self.rng.sample(range(n), self.rng.randrange(0, n + 1)))

    def new_shape(self, x: str) -> Any:
        n = int(np.prod(self.shape(x)))
        found: list[Any] = [
            s for s in [(6,), (3, 2), (2, 3), (1, 6), (9,), (3, 1)] if np.prod(s) == n
        ]
        found += [(-1,), (n,), (1, n, 1)] if n else [(0, 2), (0,), (0, 3)]
        return (4, 2) if self.chance(WRONG) else self.rng.choice(found)

    def basic_index(self, x: str, keep: bool = False) -> str:
        """Integers, slices, None and an ellipsis; with `keep`, never an element alone."""
        entries = []
        for n in self.shape(x):
            kind = self.rng.random()
            if kind < 0.25 and n and not keep:
                entries.append(str(self.rng.randrange(-n, n)))
            else:
                entries.append(self.pick(":", "1:", ":2", "::-1", "::2", ":1"))
            if kind > 0.93:
                entries.append("None")
        if entries and self.chance(0.2):
            return ", ".join([*entries[: self.rng.randrange(len(entries))], "..."])
        if self.chance(WRONG):
            return self.pick("7", "0, 0, 0, 0", "'a'", "1.5")
        return ", ".join(entries) if entries else self.pick("...", "()", "None")

    def advanced_index(self, x: str) -> str:
        shape = self.shape(x)
        if not shape:
            return self.pick("...", "True", "None")
        n = shape[0]
        kind = self.rng.randrange(4)
        if kind == 0:
            return self.mask(shape)
        if kind == 1 or len(shape) == 1 or not n:
            return f"np.array({[self.rng.randrange(-n, n) for _ in range(3 if n else 0)]}, int)"
        rows = [self.rng.randrange(-n, n) for _ in range(2)]
        if kind == 2 and shape[1]:
            return f"{rows}, {[self.rng.randrange(shape[1]) for _ in range(2)]}"
        return f"{rows}, {self.pick(':', '1:', '::-1')}"

    def index(self, x: str) -> str:
        return self.basic_index(x) if self.chance(0.7) else self.advanced_index(x)
