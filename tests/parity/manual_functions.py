"""What MyGrad's manual says of its functions: creation, shapes, linear algebra, mathematics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.parity.manual import holds, program, tensor_of

nan, inf = math.nan, math.inf
SIX = [[1, 2, 3], [4, 5, 6]]

# name -> (call, what it returns)
VALUES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    # creation
    "ones": (lambda m: m.ones(3), [1.0, 1.0, 1.0]),
    "ones of integers": (lambda m: m.ones((2,), dtype=int), [1, 1]),
    "zeros of a shape": (lambda m: m.zeros((2, 1)), [[0.0], [0.0]]),
    "ones_like": (lambda m: m.ones_like(m.tensor(SIX)), np.ones((2, 3))),
    "zeros_like of another dtype": (
        lambda m: m.zeros_like(m.tensor([1, 2]), dtype=float),
        [0.0, 0.0],
    ),
    "eye with a diagonal": (lambda m: m.eye(3, k=-1), np.eye(3, k=-1)),
    "eye that is not square": (lambda m: m.eye(2, 3, dtype=int), np.eye(2, 3)),
    "identity": (lambda m: m.identity(2), [[1.0, 0.0], [0.0, 1.0]]),
    "full": (lambda m: m.full((2, 2), 7), [[7, 7], [7, 7]]),
    "full_like rounds to integers": (lambda m: m.full_like(m.arange(3), 0.7), [0, 0, 0]),
    "full_like of a dtype": (
        lambda m: m.full_like(m.arange(3), nan, dtype=np.double),
        [nan, nan, nan],
    ),
    "arange": (lambda m: m.arange(3), [0, 1, 2]),
    "arange of floats": (lambda m: m.arange(3.0), [0.0, 1.0, 2.0]),
    "arange in steps": (lambda m: m.arange(3, 9, 2), [3, 5, 7]),
    "linspace": (lambda m: m.linspace(1.0, 2.0, num=5), [1.0, 1.25, 1.5, 1.75, 2.0]),
    "linspace without its end": (
        lambda m: m.linspace(1.0, 2.0, num=4, endpoint=False),
        [1.0, 1.25, 1.5, 1.75],
    ),
    "logspace": (lambda m: m.logspace(0, 2, num=3), [1.0, 10.0, 100.0]),
    "logspace of a base": (lambda m: m.logspace(1, 3, num=3, base=2.0), [2.0, 4.0, 8.0]),
    "geomspace": (lambda m: m.geomspace(1, 27, num=4), [1.0, 3.0, 9.0, 27.0]),
    # shapes
    "reshape": (lambda m: m.reshape(m.tensor(SIX), (3, -1)), [[1, 2], [3, 4], [5, 6]]),
    "reshape as a method": (lambda m: m.tensor(SIX).reshape(3, 2), [[1, 2], [3, 4], [5, 6]]),
    "ravel": (lambda m: m.ravel(m.tensor(SIX)), [1, 2, 3, 4, 5, 6]),
    "flatten": (lambda m: m.tensor(SIX).flatten(), [1, 2, 3, 4, 5, 6]),
    "moveaxis": (lambda m: m.moveaxis(m.tensor([SIX]), 0, -1), np.moveaxis([SIX], 0, -1)),
    "roll": (lambda m: m.roll(m.arange(5), 2), [3, 4, 0, 1, 2]),
    "roll along an axis": (lambda m: m.roll(m.tensor(SIX), 1, axis=1), [[3, 1, 2], [6, 4, 5]]),
    "swapaxes": (lambda m: m.swapaxes(m.tensor([SIX]), 0, 2), np.swapaxes([SIX], 0, 2)),
    "transpose": (lambda m: m.tensor(SIX).transpose(), [[1, 4], [2, 5], [3, 6]]),
    "transpose of axes": (lambda m: m.tensor(SIX).transpose(1, 0), [[1, 4], [2, 5], [3, 6]]),
    "transpose of a tuple": (lambda m: m.transpose(m.tensor(SIX), (1, 0)), np.transpose(SIX)),
    "broadcast_to": (lambda m: m.broadcast_to(m.tensor([1, 2]), (2, 2)), [[1, 2], [1, 2]]),
    "expand_dims": (lambda m: m.expand_dims(m.tensor([1, 2]), 1), [[1], [2]]),
    "squeeze": (lambda m: m.squeeze(m.tensor([[[0], [1]]])), [0, 1]),
    "squeeze of an axis": (lambda m: m.squeeze(m.tensor([[[0], [1]]]), axis=0), [[0], [1]]),
    "concatenate": (
        lambda m: m.concatenate((m.tensor([[1, 2]]), m.tensor([[3, 4]])), axis=0),
        [[1, 2], [3, 4]],
    ),
    "concatenate flat": (
        lambda m: m.concatenate((m.tensor([[1, 2]]), m.tensor([[3]])), axis=None),
        [1, 2, 3],
    ),
    "stack": (lambda m: m.stack((m.tensor([1, 2]), m.tensor([3, 4]))), [[1, 2], [3, 4]]),
    "stack last": (
        lambda m: m.stack((m.tensor([1, 2]), m.tensor([3, 4])), axis=-1),
        [[1, 3], [2, 4]],
    ),
    "repeat a number": (lambda m: m.repeat(5, 3), [5, 5, 5]),
    "repeat flat": (lambda m: m.repeat(m.tensor([[1], [2]]), 2), [1, 1, 2, 2]),
    "repeat rows": (
        lambda m: m.repeat(m.tensor([[1, 2], [3, 4]]), [2, 1], axis=0),
        [[1, 2], [1, 2], [3, 4]],
    ),
    "atleast_1d": (lambda m: m.atleast_1d(4.0), [4.0]),
    "atleast_2d": (lambda m: m.atleast_2d(m.arange(2.0)), [[0.0, 1.0]]),
    "atleast_3d": (lambda m: m.atleast_3d(4.0), [[[4.0]]]),
    # linear algebra
    "matmul": (lambda m: m.matmul([[0, 1], [1, 0]], [[4, 1], [2, 2]]), [[2, 2], [4, 1]]),
    "matmul of a vector": (lambda m: m.matmul([[1, 1], [0, 2]], [3, 4]), [7, 8]),
    "matmul of stacks": (lambda m: m.matmul(m.ones((2, 3, 4)), m.ones((4, 1))), [[[4]] * 3] * 2),
    "multi_matmul": (
        lambda m: m.multi_matmul([m.ones((2, 3)), m.eye(3), m.ones((3, 1))]),
        [[3.0], [3.0]],
    ),
    "einsum trace": (lambda m: m.einsum("ii", m.arange(9).reshape(3, 3)), 12),
    "einsum by numbers": (lambda m: m.einsum(m.arange(9).reshape(3, 3), [0, 0]), 12),
    "einsum diagonal": (lambda m: m.einsum("ii->i", m.arange(9).reshape(3, 3)), [0, 4, 8]),
    "einsum product": (lambda m: m.einsum("ij,j", m.tensor(SIX), [1, 0, 2]), [7, 16]),
    "einsum with an ellipsis": (lambda m: m.einsum("...j,j", m.tensor(SIX), [1, 0, 2]), [7, 16]),
    "einsum transposed": (lambda m: m.einsum("ji", m.tensor(SIX)), np.transpose(SIX)),
    "einsum by numbers transposed": (lambda m: m.einsum(m.tensor(SIX), [1, 0]), np.transpose(SIX)),
    "einsum with a number": (lambda m: m.einsum(",ij", 2, m.tensor(SIX)), 2 * np.array(SIX)),
    "einsum of ellipses": (lambda m: m.einsum("..., ...", 2, m.tensor(SIX)), 2 * np.array(SIX)),
    "einsum of numbered ellipses": (
        lambda m: m.einsum(2, [Ellipsis], m.tensor(SIX), [Ellipsis]),
        2 * np.array(SIX),
    ),
    "einsum inner": (lambda m: m.einsum("i,i", m.tensor([1, 2]), m.tensor([3, 4])), 11),
    "einsum outer": (lambda m: m.einsum("i,j", m.tensor([1, 2]), [3, 4]), [[3, 4], [6, 8]]),
    "einsum sum": (lambda m: m.einsum("i...->...", m.tensor(SIX)), [5, 7, 9]),
    "einsum as tensordot": (
        lambda m: m.einsum(
            "ijk,jil->kl", m.arange(24.0).reshape(2, 3, 4), m.arange(12.0).reshape(3, 2, 2)
        ),
        np.tensordot(
            np.arange(24.0).reshape(2, 3, 4),
            np.arange(12.0).reshape(3, 2, 2),
            axes=([0, 1], [1, 0]),
        ),
    ),
    "einsum k...,jk": (
        lambda m: m.einsum("k...,jk", m.arange(6).reshape(3, 2), m.tensor(SIX)),
        (np.array(SIX) @ np.arange(6).reshape(3, 2)).T,
    ),
    "norm of rows": (lambda m: m.linalg.norm(m.tensor([[3.0, 4.0]]), axis=1, ord=2), [5.0]),
    "norm of order 1": (
        lambda m: m.linalg.norm(m.tensor([[3.0, -4.0], [1.0, 1.0]]), axis=0, ord=1),
        [4.0, 5.0],
    ),
    # trigonometric and hyperbolic functions
    "sin": (lambda m: m.sin(m.pi / 6), 0.5),
    "sin of degrees": (lambda m: m.sin(m.tensor((0.0, 30.0, 90.0)) * m.pi / 180), [0, 0.5, 1]),
    "cos": (lambda m: m.cos([0, m.pi / 3, m.pi]), [1, 0.5, -1]),
    "tan": (lambda m: m.tan([0, m.pi / 4]), [0, 1]),
    "arcsin": (lambda m: m.arcsin(0.5), math.pi / 6),
    "arccos": (lambda m: m.arccos([1, -1]), [0, math.pi]),
    "arctan": (lambda m: m.arctan([0, -1]), [0, -math.pi / 4]),
    "arctan2 of quadrants": (
        lambda m: m.arctan2(m.tensor([2.0, -2.0]), m.tensor([-2.0, 2.0])) * 180 / m.pi,
        [135.0, -45.0],
    ),
    "arctan2 at its ends": (
        lambda m: m.arctan2([0.0, 0.0, m.inf], [0.0, -0.0, m.inf]),
        [0.0, math.pi, math.pi / 4],
    ),
    "sinh": (lambda m: m.sinh([0, 0.2]), [0, math.sinh(0.2)]),
    "cosh": (lambda m: m.cosh([0, 0.2]), [1, math.cosh(0.2)]),
    "tanh": (lambda m: m.tanh([0, 0.2]), [0, math.tanh(0.2)]),
    "arcsinh": (lambda m: m.arcsinh([m.e, 2.0]), [math.asinh(math.e), math.asinh(2)]),
    "arccosh": (lambda m: m.arccosh([1.0, 2.0]), [0.0, math.acosh(2)]),
    "arctanh": (lambda m: m.arctanh([0, -0.5]), [0, math.atanh(-0.5)]),
    "sinc": (lambda m: m.sinc([0.0, 0.5, 1.0]), [1.0, 2 / math.pi, 0.0]),
    # sums, products, extremes
    "prod of nothing": (lambda m: m.prod([]), 1.0),
    "prod": (lambda m: m.prod([[1.0, 2.0], [3.0, 4.0]], axis=0), [3.0, 8.0]),
    "sum of nothing": (lambda m: m.sum([]), 0.0),
    "sum": (lambda m: m.sum([0.25, 1.5]), 1.75),
    "sum along an axis": (lambda m: m.sum(SIX, axis=1), [6, 15]),
    "cumsum": (lambda m: m.cumsum(m.tensor(SIX)), [1, 3, 6, 10, 15, 21]),
    "cumsum along an axis": (lambda m: m.cumsum(m.tensor(SIX), axis=0), [[1, 2, 3], [5, 7, 9]]),
    "cumprod": (lambda m: m.cumprod(m.tensor(SIX)), [1, 2, 6, 24, 120, 720]),
    "cumprod along an axis": (
        lambda m: m.cumprod(m.tensor(SIX), axis=1),
        [[1, 2, 6], [4, 20, 120]],
    ),
    "mean": (lambda m: m.mean(m.tensor(SIX)), 3.5),
    "mean along an axis": (lambda m: m.mean(m.tensor(SIX), axis=0), [2.5, 3.5, 4.5]),
    "var": (lambda m: m.var(m.tensor(SIX)), 35 / 12),
    "var along an axis": (lambda m: m.var(m.tensor(SIX), axis=0), [2.25, 2.25, 2.25]),
    "var with ddof": (lambda m: m.var(m.tensor([1.0, 3.0]), ddof=1), 2.0),
    "std": (lambda m: m.std(m.tensor(SIX), axis=0), [1.5, 1.5, 1.5]),
    "amax": (lambda m: m.amax(m.tensor(SIX)), 6),
    "max along an axis": (lambda m: m.max(m.tensor(SIX), axis=1), [3, 6]),
    "amin along an axis": (lambda m: m.amin(m.tensor(SIX), axis=0), [1, 2, 3]),
    "min": (lambda m: m.min(m.tensor(SIX)), 1),
    "max with a nan": (lambda m: m.amax(m.tensor([1.0, nan])), nan),
    "min with a nan": (lambda m: m.amin(m.tensor([1.0, nan])), nan),
    # exponentials and logarithms
    "exp": (lambda m: m.exp(m.tensor(2.0)), math.exp(2)),
    "expm1 of a small number": (lambda m: m.expm1(1e-10) * 1e10, 1.00000000005),
    "exp2": (lambda m: m.exp2([3.0, -1.0]), [8.0, 0.5]),
    "log": (lambda m: m.log([1, m.e, m.e**3]), [0.0, 1.0, 3.0]),
    "log10": (lambda m: m.log10([1e-15, 1e2]), [-15.0, 2.0]),
    "log2": (lambda m: m.log2(m.tensor([1, 8])), [0.0, 3.0]),
    "log1p of a small number": (lambda m: m.log1p(1e-99) * 1e99, 1.0),
    "logaddexp": (lambda m: m.exp(m.logaddexp(m.log(2e-50), m.log(3e-50))) * 1e50, 5.0),
    "logaddexp2": (lambda m: 2 ** m.logaddexp2(m.log2(2e-50), m.log2(3e-50)) * 1e50, 5.0),
    # arithmetic
    "add": (lambda m: m.add(1.5, 4.0), 5.5),
    "add with broadcasting": (
        lambda m: m.add(m.tensor(SIX), m.tensor([1, 0, -1])),
        [[2, 2, 2], [5, 5, 5]],
    ),
    "subtract": (lambda m: m.subtract(m.tensor(SIX), [1, 2, 3]), [[0, 0, 0], [3, 3, 3]]),
    "multiply": (lambda m: m.multiply(m.tensor(SIX), [0, 1, 2]), [[0, 2, 6], [0, 5, 12]]),
    "divide": (lambda m: m.divide(m.tensor([1, 2]), 4), [0.25, 0.5]),
    "reciprocal": (lambda m: m.reciprocal([2.0, -4.0]), [0.5, -0.25]),
    "positive and negative": (lambda m: m.positive(m.negative([1.0, -2.0])), [-1.0, 2.0]),
    "power of a range": (lambda m: m.power(range(4), 3), [0, 1, 8, 27]),
    "power": (lambda m: m.power([1.0, 2.0, 9.0], [2.0, 3.0, 0.5]), [1.0, 8.0, 3.0]),
    "sqrt": (lambda m: m.sqrt([4, 9, m.inf]), [2.0, 3.0, inf]),
    "cbrt": (lambda m: m.cbrt([8, -27]), [2.0, -3.0]),
    "square": (lambda m: m.square([3.0, -0.5]), [9.0, 0.25]),
    "absolute": (lambda m: m.absolute([-1.5, 2.0]), [1.5, 2.0]),
    "clip": (lambda m: m.clip(m.arange(5), 1, 3), [1, 1, 2, 3, 3]),
    "clip to arrays": (lambda m: m.clip(m.arange(4), [2, 0, 0, 0], [3, 3, 1, 1]), [2, 1, 1, 1]),
    "clip from below": (lambda m: m.clip([-1.0, 2.0], 0.0, None), [0.0, 2.0]),
    "maximum": (lambda m: m.maximum([2, 3], [1, 5]), [2, 5]),
    "maximum with broadcasting": (lambda m: m.maximum(m.eye(2), [0.5, 2]), [[1, 2], [0.5, 2]]),
    "maximum with nans": (lambda m: m.maximum([nan, 0], [0, nan]), [nan, nan]),
    "minimum": (lambda m: m.minimum([2, 3], [1, 5]), [1, 3]),
    "minimum of an infinity": (lambda m: m.minimum(-m.inf, 1), -inf),
    # selection
    "where": (lambda m: m.where(m.arange(4) < 2, m.arange(4), -1), [0, 1, -1, -1]),
    "where of lists": (lambda m: m.where([[True], [False]], [[1, 2]], [[8, 9]]), [[1, 2], [8, 9]]),
}


# ---------------------------------------------------------------------------- creation and shapes


@program
def arrays_are_not_copied_where_they_need_not_be(m):
    a = np.array([1.0, 2.0], dtype=np.float32)
    assert m.asarray(a) is a and m.asarray(a, dtype=np.float32) is a
    assert m.asarray(a, dtype=np.float64) is not a
    assert type(m.asarray([1, 2])) is np.ndarray
    assert m.astensor(a).data is a
    t = +m.tensor(a)
    assert m.astensor(t) is t and m.astensor(t).creator is t.creator
    assert m.astensor(t, dtype=np.float64) is not t
    other = m.astensor(t, constant=True)
    assert other is not t and other.constant and np.shares_memory(other.data, t.data)


@program
def creation_is_of_float32_or_float64(m):
    for x in (m.ones(2), m.zeros(2), m.empty(2)):
        assert x.dtype == np.float32 and not x.constant
    for x in (m.eye(2), m.identity(2), m.linspace(0, 1, 3), m.arange(2.0)):
        assert x.dtype == np.float64 and not x.constant
    assert m.arange(2).constant and m.full((2,), 3).constant
    assert m.zeros(2, constant=True).constant and m.empty_like(m.ones((2, 3))).shape == (2, 3)


@program
def shapes_that_do_not_fit(m):
    with pytest.raises(ValueError):
        m.broadcast_to(m.tensor([1, 2, 3]), (4, 4))
    with pytest.raises(ValueError):
        m.squeeze(m.tensor([[0], [1]]), axis=0)
    with pytest.raises(ValueError):
        m.matmul(m.ones((2, 2)), 3)
    with pytest.raises(ValueError):
        m.concatenate((m.ones((1, 2)), m.ones((1, 3))))


@program
def axes_in_front(m):
    x = m.arange(3.0)
    assert m.atleast_1d(x) is x
    assert m.atleast_2d(x).base is x and m.atleast_3d(x).shape == (1, 3, 1)
    assert [t.shape for t in m.atleast_2d(1.0, [1.0, 2.0])] == [(1, 1), (1, 2)]
    y = m.tensor(2.0)
    for f in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
        z = f(y)
        assert type(z) is m.Tensor
        (z * 3).backward()
        holds(y.grad, 3.0)


@program
def views_of_another_shape_share_memory(m):
    x = m.arange(6.0)
    for view in (
        x.reshape(2, 3),
        m.ravel(x),
        m.expand_dims(x, 0),
        x.reshape(2, 3).T,
        m.swapaxes(x.reshape(2, 3), 0, 1),
        m.moveaxis(x.reshape(2, 3), 0, 1),
        m.squeeze(x.reshape(1, 6)),
    ):
        assert view.base is x and np.shares_memory(view, x)
    assert x.flatten().base is None and m.repeat(x, 1).base is None


@program
def shapes_carry_gradients(m):
    x, y = m.tensor([[1.0, 2.0], [3.0, 4.0]]), m.tensor([5.0, 6.0])
    joined = m.concatenate([x, m.expand_dims(y, 0)])
    rolled = m.roll(m.ravel(m.transpose(joined)), 1)
    holds(rolled, [6.0, 1.0, 3.0, 5.0, 2.0, 4.0])
    (rolled * np.arange(6.0)).sum().backward()
    holds(x.grad, [[1.0, 4.0], [2.0, 5.0]])
    holds(y.grad, [3.0, 0.0])


@program
def repeats_add_their_gradients(m):
    x = m.tensor([1.0, 2.0])
    (m.repeat(x, [2, 1]) * np.array([1.0, 10.0, 100.0])).sum().backward()
    holds(x.grad, [11.0, 100.0])


# --------------------------------------------------------------------------------- linear algebra


@program
def products_carry_gradients(m):
    a, b = m.tensor([[1.0, 0.0], [0.0, -1.0]]), m.tensor([[0.0, 1.0], [3.0, -1.0]])
    (a @ b).backward()
    holds(a.grad, [[1.0, 2.0], [1.0, 2.0]])
    holds(b.grad, [[1.0, 1.0], [-1.0, -1.0]])


@program
def a_product_of_many_is_that_of_two_and_two(m):
    chain = [m.tensor(np.arange(1.0, n + 1).reshape(s)) for n, s in ((6, (2, 3)), (12, (3, 4)))]
    chain.append(m.tensor(np.arange(1.0, 5.0).reshape(4, 1)))
    a, b, c = chain
    at_once = m.multi_matmul(chain)
    holds(at_once, (a @ b @ c).data)
    at_once.backward()
    grads = [t.grad.copy() for t in chain]
    (a @ b @ c).backward()
    for t, g in zip(chain, grads, strict=True):
        holds(t.grad, g)


@program
def einsum_carries_gradients(m):
    x, y = m.tensor([[1.0, 2.0], [3.0, 4.0]]), m.tensor([5.0, 6.0])
    m.einsum("ij,j->i", x, y).backward()
    holds(x.grad, [[5.0, 6.0], [5.0, 6.0]])
    holds(y.grad, [4.0, 6.0])
    m.einsum("ij,ij,j", x, x, y, optimize=True).backward()
    holds(x.grad, [[10.0, 24.0], [30.0, 48.0]])


@program
def the_diagonal_can_be_written_through_einsum(m):
    a = m.zeros((3, 3))
    m.einsum("ii->i", a).data[:] = 1
    holds(a, np.eye(3))


@program
def norms_carry_gradients(m):
    x = m.tensor([[3.0, 4.0], [0.0, 2.0]])
    m.linalg.norm(x, axis=1, ord=2).backward()
    holds(x.grad, [[0.6, 0.8], [0.0, 1.0]])
    m.linalg.norm(x, axis=0, ord=1).backward()
    holds(x.grad, [[1.0, 1.0], [0.0, 1.0]])


@program
def a_norm_of_zero_has_a_gradient_if_asked_for(m):
    x = m.tensor([[0.0, 0.0], [3.0, 4.0]])
    with np.errstate(invalid="ignore"):
        m.linalg.norm(x, axis=1, ord=2, nan_to_num=True).backward()
    holds(x.grad, [[0.0, 0.0], [0.6, 0.8]])


# ----------------------------------------------------------------------------------- mathematics


@program
def elementary_functions_carry_gradients(m):
    x = m.linspace(0.1, 0.9, 5)
    slopes = {
        "sin": np.cos,
        "cos": lambda a: -np.sin(a),
        "tan": lambda a: 1 / np.cos(a) ** 2,
        "arcsin": lambda a: 1 / np.sqrt(1 - a**2),
        "arccos": lambda a: -1 / np.sqrt(1 - a**2),
        "arctan": lambda a: 1 / (1 + a**2),
        "sinh": np.cosh,
        "cosh": np.sinh,
        "tanh": lambda a: 1 / np.cosh(a) ** 2,
        "arcsinh": lambda a: 1 / np.sqrt(1 + a**2),
        "arctanh": lambda a: 1 / (1 - a**2),
        "exp": np.exp,
        "exp2": lambda a: np.log(2) * 2**a,
        "expm1": np.exp,
        "log": lambda a: 1 / a,
        "log2": lambda a: 1 / (a * np.log(2)),
        "log10": lambda a: 1 / (a * np.log(10)),
        "log1p": lambda a: 1 / (1 + a),
        "sqrt": lambda a: 0.5 / np.sqrt(a),
        "cbrt": lambda a: 1 / (3 * np.cbrt(a) ** 2),
        "square": lambda a: 2 * a,
        "reciprocal": lambda a: -1 / a**2,
        "negative": lambda a: -np.ones_like(a),
        "positive": np.ones_like,
    }
    for name, slope in slopes.items():
        getattr(m, name)(x).backward()
        holds(x.grad, slope(x.data))


@program
def an_output_tensor(m):
    out = m.tensor([0.0], dtype="d")
    y = m.sinh([0.2], out=out)
    assert y is out
    holds(y, [math.sinh(0.2)])


@program
def values_outside_a_domain_are_nan(m):
    with np.errstate(invalid="ignore", divide="ignore"):
        assert np.isnan(m.sqrt(-1.0).data) and np.isnan(m.log10(-3.0).data)
        assert m.log(0.0).data == -inf and m.log2(0).data == -inf


@program
def constants_of_mathematics(m):
    assert (m.pi, m.e, m.inf) == (math.pi, math.e, inf)


@program
def sums_of_many(m):
    x, y, z = m.tensor([1.0, 2.0]), m.tensor([-1.0]), m.tensor([[1.0]])
    total = m.add_sequence(x, y, z)
    tensor_of(m, total, [[1.0, 2.0]])
    total.backward()
    for t, g in ((x, [1.0, 1.0]), (y, [2.0]), (z, [[2.0]])):
        holds(t.grad, g)


@program
def products_of_many(m):
    x, y, z = m.tensor([3.0, 2.0]), m.tensor([-1.0]), m.tensor([[2.0]])
    total = m.multiply_sequence(x, y, z)
    tensor_of(m, total, [[-6.0, -4.0]])
    total.backward()
    for t, g in ((x, [-2.0, -2.0]), (y, [10.0]), (z, [[-5.0]])):
        holds(t.grad, g)


@program
def reductions_carry_gradients(m):
    x = m.tensor([[1.0, 2.0, 5.0], [4.0, 0.5, 3.0]])
    a = x.data
    m.sum(x, axis=0).backward()
    holds(x.grad, np.ones((2, 3)))
    m.mean(x).backward()
    holds(x.grad, np.full((2, 3), 1 / 6))
    m.var(x).backward()
    holds(x.grad, 2 * (a - a.mean()) / 6)
    m.std(x).backward()
    holds(x.grad, (a - a.mean()) / (6 * a.std()))
    m.prod(x, axis=1).backward()
    holds(x.grad, a.prod(axis=1, keepdims=True) / a)
    m.max(x, axis=1).backward()
    holds(x.grad, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    m.min(x, axis=0).backward()
    holds(x.grad, [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    m.cumsum(x, axis=1).backward()
    holds(x.grad, [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    m.cumprod(x, axis=0).backward()
    holds(x.grad, np.stack([1 + a[1], a[0]]))


@program
def the_slope_of_the_absolute_value_at_zero_is_zero(m):
    x = m.tensor([-2.0, 0.0, 3.0])
    m.absolute(x).backward()
    holds(x.grad, [-1.0, 0.0, 1.0])


@program
def extremes_of_pairs_carry_gradients(m):
    x, y = m.tensor([1.0, 4.0]), m.tensor([2.0, 3.0])
    m.maximum(x, y).backward()
    holds(x.grad, [0.0, 1.0])
    holds(y.grad, [1.0, 0.0])
    m.minimum(x, 2.0).backward()
    holds(x.grad, [1.0, 0.0])
    m.clip(x, 0.0, 3.0).backward()
    holds(x.grad, [1.0, 0.0])


@program
def selection_carries_gradients(m):
    x, y = m.tensor([1.0, 2.0, 3.0]), m.tensor([10.0, 20.0, 30.0])
    m.where([True, False, True], x, 2 * y).backward()
    holds(x.grad, [1.0, 0.0, 1.0])
    holds(y.grad, [0.0, 2.0, 0.0])


@program
def operators_are_their_functions(m):
    x, y = m.tensor([1.0, 2.0]), m.tensor([3.0, 5.0])
    for ours, theirs in (
        (x + y, m.add(x, y)),
        (x - y, m.subtract(x, y)),
        (x * y, m.multiply(x, y)),
        (x / y, m.divide(x, y)),
        (x**y, m.power(x, y)),
        (x @ y, m.matmul(x, y)),
        (-x, m.negative(x)),
        (+x, m.positive(x)),
    ):
        holds(ours, theirs.data)
    assert type(x < y) is np.ndarray and (x < y).all() and not (x == y).any()
