"""What a row is, and the reference that it is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import gpugrad.nnet  # noqa: F401  (its operations are declared when it is asked for)
from gpugrad.ops.namespace import tensor_namespace

__all__ = [
    "POSITIVE",
    "REAL",
    "REFERENCE",
    "Elementwise",
    "Operand",
    "Row",
    "draw",
    "formula",
    "method",
    "numerical_vjp",
]

Domain = tuple[float, float]
REAL: Domain = (-2.0, 2.0)
POSITIVE: Domain = (0.3, 3.0)


class Operand(NamedTuple):
    """An array argument: its shape, and the open interval its elements lie in."""

    shape: tuple[int, ...]
    domain: Domain = REAL


class Row(NamedTuple):
    """A call of a differentiable operation.

    Attributes
    ----------
    name : str
        For the test's id.
    op : str
        The name in `gpugrad.graph.op.OPS` of the operation that the call records.
    call : callable
        ``call(m, *operands)``
    operands : tuple of Operand
    analytic : bool
        The reference takes complex numbers and is an analytic function of them.
    half : bool
        It takes float16; if not, NumPy and gpugrad raise TypeError.
    """

    name: str
    op: str
    call: Callable[..., Any]
    operands: tuple[Operand, ...]
    analytic: bool = True
    half: bool = True

    def draw(self, seed: int = 0, dtype: Any = np.float64) -> list[np.ndarray]:
        """Operands inside their domains: all elements different, none near a tie or a kink."""
        rng = np.random.default_rng(seed)
        return [draw(rng, x.shape, x.domain).astype(dtype) for x in self.operands]


def draw(rng: np.random.Generator, shape: tuple[int, ...], domain: Domain) -> np.ndarray:
    """Distinct numbers spread over an interval, in random order."""
    n = int(np.prod(shape))
    places = (rng.permutation(n) + rng.uniform(0.1, 0.9, n)) / max(n, 1)
    return (domain[0] + (domain[1] - domain[0]) * places).reshape(shape)


class Elementwise(NamedTuple):
    """A function with the call signature of NumPy's ufuncs."""

    name: str
    domains: tuple[Domain, ...]
    analytic: bool = True

    def call(self, m: Any, *operands: Any, **options: Any) -> Any:
        # a word of rules that is no public function is found among the words
        function = getattr(m, self.name, None) or getattr(tensor_namespace, self.name)
        return function(*operands, **options)

    def row(self, *shapes: tuple[int, ...]) -> Row:
        operands = tuple(map(Operand, shapes, self.domains))
        name = f"{self.name}{''.join(map(str, shapes))}".replace(" ", "")
        return Row(name, self.name, self.call, operands, self.analytic)


# --------------------------------------------------------------------------------- the reference


def _add_at(shape: Any, dtype: Any, index: Any, g: Any) -> Any:
    y = np.zeros(shape, np.result_type(g))
    np.add.at(y, index, g)
    return y


class _Reference:
    """NumPy, and formulas (of real or complex numbers) for the functions that it lacks."""

    sigmoid = staticmethod(lambda x: 1 / (1 + np.exp(-x)))
    softplus = staticmethod(lambda x: np.log(1 + np.exp(x)))
    log_sigmoid = staticmethod(lambda x: -np.log(1 + np.exp(-x)))
    add_at = staticmethod(_add_at)
    positive = staticmethod(np.array)  # NumPy's own makes a scalar, which cannot be written to

    @staticmethod
    def logaddexp(x1: Any, x2: Any) -> Any:
        return np.log(np.exp(x1) + np.exp(x2))

    @staticmethod
    def logaddexp2(x1: Any, x2: Any) -> Any:
        return np.log2(np.exp2(x1) + np.exp2(x2))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


REFERENCE: Any = _Reference()


def formula(f: Callable[..., Any]) -> Callable[..., Any]:
    """Give the reference what NumPy lacks, by the name of `f`."""
    setattr(REFERENCE, f.__name__, f)
    return f


def numerical_vjp(row: Row, xs: list[np.ndarray], g: Any) -> list[np.ndarray]:
    """The derivatives of sum(g * call(*xs)) by every element of every operand."""
    found = []
    for k, x in enumerate(xs):
        dx = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            dx[i] = _partial(row, xs, g, k, i)
        found.append(dx)
    return found


def _partial(row: Row, xs: list[np.ndarray], g: Any, k: int, i: tuple[int, ...]) -> float:
    def at(step: complex) -> Any:
        moved = [np.array(x, dtype=type(step)) for x in xs]
        moved[k][i] += step
        return np.sum(g * row.call(REFERENCE, *moved))

    if row.analytic:
        return at(1e-30j).imag / 1e-30
    return (at(1e-6) - at(-1e-6)) / 2e-6


def method(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    """A call of the function `name` with further arguments."""
    return lambda m, *xs: getattr(m, name)(*xs, *args, **options)
