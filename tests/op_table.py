"""One row for each differentiable operation: what generic tests need to know about it.

A row's `call(m, *operands)` is written once and evaluated in two namespaces: `m` is gpugrad's or
the reference's, NumPy with a formula for what NumPy lacks. The rows of functions that are analytic
are differentiated by a complex step, which has no truncation error; the others by differences.

    value       call(gpugrad, ...) against call(REFERENCE, ...)
    gradient    against the derivative of call(REFERENCE, ...)

A new operation is one row here (`test_every_operation_has_a_row` fails until it is).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ELEMENTWISE", "REFERENCE", "ROWS", "Elementwise", "Operand", "Row", "numerical_vjp"]

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
    """

    name: str
    op: str
    call: Callable[..., Any]
    operands: tuple[Operand, ...]
    analytic: bool = True

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
        return getattr(m, self.name)(*operands, **options)

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


# --------------------------------------------------------------------------------- the operations

ELEMENTWISE = (
    Elementwise("add", (REAL, REAL)),
    Elementwise("subtract", (REAL, REAL)),
    Elementwise("multiply", (REAL, REAL)),
    Elementwise("divide", (REAL, POSITIVE)),
    Elementwise("power", (POSITIVE, REAL)),
    Elementwise("negative", (REAL,)),
    Elementwise("positive", (REAL,)),
    Elementwise("absolute", (REAL,), analytic=False),
    Elementwise("reciprocal", (POSITIVE,)),
    Elementwise("square", (REAL,)),
    Elementwise("sqrt", (POSITIVE,)),
    Elementwise("cbrt", (POSITIVE,), analytic=False),
    Elementwise("maximum", (REAL, REAL), analytic=False),
    Elementwise("minimum", (REAL, REAL), analytic=False),
    Elementwise("exp", (REAL,)),
    Elementwise("expm1", (REAL,)),
    Elementwise("exp2", (REAL,)),
    Elementwise("log", (POSITIVE,)),
    Elementwise("log1p", (POSITIVE,)),
    Elementwise("log2", (POSITIVE,)),
    Elementwise("log10", (POSITIVE,)),
    Elementwise("logaddexp", (REAL, REAL)),
    Elementwise("logaddexp2", (REAL, REAL)),
    Elementwise("sigmoid", (REAL,)),
    Elementwise("softplus", (REAL,)),
    Elementwise("log_sigmoid", (REAL,)),
    Elementwise("tanh", (REAL,)),
)
# 0-d, empty, one axis, and for two operands every way of broadcasting
_UNARY_SHAPES = ((), (0, 3), (2, 3))
_BINARY_SHAPES = (
    ((2, 3), (2, 3)),
    ((), ()),
    ((2, 3), ()),
    ((3, 1), (4,)),
    ((1, 3), (2, 1, 1)),
    ((0, 3), (3,)),
)


def _elementwise_rows() -> list[Row]:
    rows = []
    for f in ELEMENTWISE:
        if len(f.domains) == 1:
            rows += [f.row(shape) for shape in _UNARY_SHAPES]
        else:
            rows += [f.row(*shapes) for shapes in _BINARY_SHAPES]
    return rows


def _method(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    """A call of the function `name` with further arguments."""
    return lambda m, *xs: getattr(m, name)(*xs, *args, **options)


def _reductions() -> list[Row]:
    rows = []
    for name in ("sum", "mean", "max", "min"):
        analytic = name in ("sum", "mean")
        for shape, axis in (
            ((2, 3, 2), None),
            ((2, 3, 2), 1),
            ((2, 3, 2), -1),
            ((2, 3, 2), (0, 2)),
            ((2, 3, 2), (-1, 0)),
            ((), None),
            ((4,), 0),
            ((3, 0, 2), 0),
        ):
            for keepdims in (False, True):
                rows.append(
                    Row(
                        f"{name}{shape}axis={axis},keepdims={keepdims}".replace(" ", ""),
                        name,
                        _method(name, axis=axis, keepdims=keepdims),
                        (Operand(shape),),
                        analytic,
                    )
                )
    rows.append(Row("sum()of-nothing", "sum", _method("sum"), (Operand((0,)),)))
    rows.append(Row("sum-()-axes", "sum", _method("sum", axis=()), (Operand((2, 3)),)))
    return rows


def _shaping() -> list[Row]:
    x, line = Operand((2, 3, 4)), Operand((6,))
    flat = Operand((1, 3, 1))
    return [
        Row("reshape", "reshape", _method("reshape", (4, 6)), (x,)),
        Row("reshape-1", "reshape", _method("reshape", (3, -1)), (x,)),
        Row("reshape-int", "reshape", _method("reshape", 24), (x,)),
        Row("reshape-to-0d", "reshape", _method("reshape", ()), (Operand((1, 1)),)),
        Row("reshape-empty", "reshape", _method("reshape", (3, 0)), (Operand((0, 2)),)),
        Row("ravel", "reshape", _method("ravel"), (x,)),
        Row("transpose", "transpose", _method("transpose"), (x,)),
        Row("transpose-axes", "transpose", _method("transpose", (1, 2, 0)), (x,)),
        Row("transpose-negative", "transpose", _method("transpose", (-1, 0, -2)), (x,)),
        Row("transpose-0d", "transpose", _method("transpose"), (Operand(()),)),
        Row("swapaxes", "swapaxes", _method("swapaxes", 0, -1), (x,)),
        Row("moveaxis", "moveaxis", _method("moveaxis", 0, 2), (x,)),
        Row("moveaxis-two", "moveaxis", _method("moveaxis", (0, 1), (-1, 0)), (x,)),
        Row("expand_dims", "expand_dims", _method("expand_dims", 1), (x,)),
        Row("expand_dims-last", "expand_dims", _method("expand_dims", -1), (Operand(()),)),
        Row("expand_dims-two", "expand_dims", _method("expand_dims", (0, -1)), (line,)),
        Row("squeeze", "squeeze", _method("squeeze"), (flat,)),
        Row("squeeze-axis", "squeeze", _method("squeeze", axis=0), (flat,)),
        Row("squeeze-axes", "squeeze", _method("squeeze", axis=(0, -1)), (flat,)),
        Row("broadcast_to", "broadcast_to", _method("broadcast_to", (4, 2, 3)), (Operand((2, 1)),)),
        Row("broadcast_to-0d", "broadcast_to", _method("broadcast_to", (2, 2)), (Operand(()),)),
        Row("broadcast_to-0", "broadcast_to", _method("broadcast_to", (0, 3)), (Operand((1, 3)),)),
    ]


def _joining() -> list[Row]:
    two = (Operand((2, 3)), Operand((1, 3)))
    wide = (Operand((2, 3)), Operand((2, 0)), Operand((2, 1)))
    same = (Operand((2, 3)), Operand((2, 3)))

    def join(word: str, axis: int | None) -> Callable[..., Any]:
        return lambda m, *xs: getattr(m, word)(xs, axis=axis)

    return [
        Row("concatenate", "concatenate", join("concatenate", 0), two),
        Row("concatenate-last", "concatenate", join("concatenate", -1), wide),
        Row("concatenate-flat", "concatenate", join("concatenate", None), two),
        Row("concatenate-itself", "concatenate", lambda m, x: m.concatenate([x, x]), two[:1]),
        Row("stack", "concatenate", join("stack", 0), same),
        Row("stack-last", "concatenate", join("stack", -1), same),
        Row("stack-0d", "concatenate", join("stack", 0), (Operand(()), Operand(()))),
    ]


_DUPLICATES = np.array([0, 2, 0, -1])
_MASK = np.array([[True, False, True], [False, False, True]])
INDICES: tuple[tuple[str, tuple[int, ...], Any], ...] = (
    ("int", (3,), 1),
    ("negative-int", (3, 2), -1),
    ("ints", (2, 3), (1, 2)),
    ("numpy-int", (3,), np.int64(2)),
    ("slice", (5,), slice(1, 4)),
    ("steps", (6, 3), (slice(None, None, 2), slice(2, 0, -1))),
    ("backwards", (4,), slice(None, None, -1)),
    ("empty-slice", (4, 2), slice(3, 1)),
    ("newaxis", (2, 3), (slice(None), None, 1)),
    ("ellipsis", (2, 3, 2), (..., 1)),
    ("ellipsis-middle", (2, 3, 2), (1, ..., 0)),
    ("everything", (2, 2), ...),
    ("nothing", (2, 2), ()),
    ("0d", (), ()),
    ("0d-newaxis", (), None),
    ("duplicates", (3, 2), _DUPLICATES),
    ("list", (4,), [3, 3, 1]),
    ("empty-list", (4,), []),
    ("2d-duplicates", (3,), np.array([[0, 1], [1, 1]])),
    ("pairs", (3, 3), (np.array([0, 2, 0]), np.array([1, 1, 1]))),
    ("outer", (3, 3), (np.array([[0], [2]]), np.array([[1, 1, 0]]))),
    ("mask", (2, 3), _MASK),
    ("mask-of-rows", (2, 3), (np.array([True, False]),)),
    ("mask-and-int", (2, 3), (np.array([True, True]), 1)),
    ("mask-of-none", (2, 3), np.zeros((2, 3), bool)),
    ("mixed", (3, 2, 3), (np.array([0, 0, 2]), slice(None), 1)),
    ("mixed-apart", (3, 2, 3), (np.array([0, 0]), slice(None, None, -1), np.array([1, 1]))),
    ("mixed-newaxis", (3, 2), (_DUPLICATES, None, slice(1))),
    ("mixed-ellipsis", (2, 2, 3), (..., _DUPLICATES)),
)


def _reading(index: Any) -> Callable[..., Any]:
    return lambda m, x: x[index]


def _writing(index: Any) -> Callable[..., Any]:
    def call(m: Any, x: Any, value: Any) -> Any:
        y = m.positive(x)
        y[index] = value
        return y

    return call


def _writing_through_views(m: Any, x: Any, value: Any) -> Any:
    y = m.positive(x)
    y.T[1:][::-1, 0] = value
    return y


def _indexing() -> list[Row]:
    rows = []
    for name, shape, index in INDICES:
        rows.append(Row(f"getitem-{name}", "getitem", _reading(index), (Operand(shape),)))
        written = np.zeros(shape)[index].shape
        both = (Operand(shape), Operand(written))
        rows.append(Row(f"setitem-{name}", "put_view", _writing(index), both))
        rows.append(
            Row(
                f"add_at-{name}",
                "add_at",
                lambda m, g, shape=shape, index=index: m.add_at(shape, g.dtype, index, g),
                (Operand(written),),
            )
        )
    both = (Operand((2, 3)), Operand(()))
    rows.append(Row("setitem-broadcast", "put_view", _writing((slice(None), [0, 2])), both))
    view = (Operand((2, 3)), Operand((2,)))
    rows.append(Row("setitem-view", "put_view", _writing_through_views, view))
    return rows


def _choosing() -> list[Row]:
    def where(condition: Any) -> Callable[..., Any]:
        return lambda m, x, y: m.where(x < y if condition is None else condition, x, y)

    xs = (Operand((2, 3)), Operand((2, 3)))
    broadcast = (Operand((3,)), Operand((2, 1)))
    mixed = (Operand(()), Operand((2, 3)))

    def clip(m: Any, x: Any, low: Any, high: Any) -> Any:
        return m.clip(x, low, high)

    bounds = (Operand((2, 3)), Operand((3,), (-1.5, -0.5)), Operand((), (0.5, 1.0)))
    return [
        Row("where", "where", where(None), xs, analytic=False),
        Row("where-broadcast", "where", where(None), broadcast, analytic=False),
        Row("where-scalar", "where", where(None), mixed, analytic=False),
        Row("clip", "minimum", clip, bounds, analytic=False),
        Row("clip-low", "maximum", lambda m, x: m.clip(x, 0.1, None), xs[:1], analytic=False),
        Row("clip-high", "minimum", lambda m, x: m.clip(x, None, 0.1), xs[:1], analytic=False),
    ]


def _matmul() -> list[Row]:
    shapes = (
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((2, 2, 3), (3,)),
        ((3,), (2, 3, 2)),
        ((2, 2, 3), (3, 2)),
        ((2, 3), (2, 3, 2)),
        ((2, 1, 2, 3), (3, 3, 2)),
        ((0, 3), (3, 2)),
        ((2, 0), (0, 2)),
    )
    return [
        Row(f"matmul{a}{b}".replace(" ", ""), "matmul", _method("matmul"), (Operand(a), Operand(b)))
        for a, b in shapes
    ]


def _cast() -> list[Row]:
    def call(m: Any, x: Any) -> Any:
        return m.sum(x, axis=0, dtype=np.float64)

    return [Row("sum-in-float64", "cast", call, (Operand((3, 2)),), analytic=False)]


def _operators() -> list[Row]:
    """The operators with Python scalars, which take the dtype of the array."""
    calls: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "x+1": ("add", lambda x: x + 1),
        "2-x": ("subtract", lambda x: 2 - x),
        "x*2.5": ("multiply", lambda x: x * 2.5),
        "1/x": ("divide", lambda x: 1 / x),
        "x/2": ("divide", lambda x: x / 2),
        "x**2": ("square", lambda x: x**2),
        "x**3": ("power", lambda x: x**3),
        "x**-1.5": ("power", lambda x: x**-1.5),
        "x**1": ("positive", lambda x: x**1),
        "2**x": ("power", lambda x: 2**x),
        "-x": ("negative", lambda x: -x),
        "x@x": ("matmul", lambda x: x @ x),
    }
    return [
        Row(name, op, lambda m, x, f=f: f(x), (Operand((3,), POSITIVE),))
        for name, (op, f) in calls.items()
    ]


ROWS: tuple[Row, ...] = (
    *_elementwise_rows(),
    *_operators(),
    *_matmul(),
    *_reductions(),
    *_shaping(),
    *_joining(),
    *_indexing(),
    *_choosing(),
    *_cast(),
)
