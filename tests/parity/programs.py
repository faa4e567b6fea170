"""Small programs that run unchanged under mygrad and gpugrad: ``f(m)`` with the library as `m`.

A program returns what is compared: a dictionary of tensors, arrays, or answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

PROGRAMS: dict[str, Callable[[Any], dict[str, Any]]] = {}
A = np.array([[0.5, 1.0, 2.0], [3.0, 0.25, 1.5]])


def program(f: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    PROGRAMS[f.__name__] = f
    return f


# --------------------------------------------------------------------------- creation, dtype, flags


@program
def leaf(m):
    return {"x": m.tensor(A), "i": m.tensor([1, 2]), "b": m.tensor(True), "s": m.tensor(2.0)}


@program
def dtypes(m):
    x = m.tensor(A, dtype=np.float32)
    return {"a": x * x, "b": x.sum(), "c": x * A, "d": m.exp(x), "e": x @ x.T, "f": x / x}


@program
def integer_arithmetic(m):
    i = m.tensor([1, 2, 3])
    return {"a": i + 1, "b": i * i, "c": i / 2, "d": m.sum(i), "e": i * 1.5, "f": m.mean(i)}


@program
def integers_and_variables(m):
    i, x = m.tensor([1, 2]), m.tensor([0.5, 1.5])
    y = i * x
    y.backward()
    return {"i": i, "x": x, "y": y}


@program
def integer_that_claims_to_be_variable(m):
    return {"x": m.tensor([1, 2], constant=False)}


@program
def complex_numbers(m):
    return {"x": m.tensor([1j])}


@program
def strings(m):
    return {"x": m.tensor("a")}


@program
def ragged(m):
    return {"x": m.tensor([[1.0], [1.0, 2.0]])}


@program
def astensor_shares(m):
    array = A.copy()
    x = m.astensor(array)
    return {"same": m.astensor(x) is x, "shares": np.shares_memory(x.data, array), "x": x}


@program
def ndmin_and_like(m):
    x = m.tensor([1.0, 2.0], ndmin=3)
    return {"x": x, "z": m.zeros_like(x), "o": m.ones_like(x, dtype=np.float32), "r": m.arange(3.0)}


@program
def creation_defaults(m):
    return {
        "z": m.zeros((2,)),
        "o": m.ones((2, 1)),
        "e": m.eye(2),
        "l": m.linspace(0, 1, 3),
        "f": m.full((2,), 1.5),
        "a": m.arange(4),
    }


@program
def astype(m):
    x = m.tensor([1.5, 2.5])
    y = (x * 2).astype(np.float32)
    return {"x": x, "y": y, "i": x.astype(int), "leaf": y.creator is None}


@program
def constant_keeps_its_will(m):
    return {"x": m.tensor([1.0], constant=True).astype(np.float32)}


@program
def python_scalar_promotion(m):
    x = m.tensor([1.0, 2.0], dtype=np.float32)
    return {"a": x * 2.0, "b": 2.0 / x, "c": x**2, "d": x * m.tensor(2.0), "e": x + np.float64(1)}


@program
def copies(m):
    x = m.tensor([1.0, 2.0])
    (x * x).backward()
    y = x.copy()
    return {"x": x, "y": y, "shares": np.shares_memory(x.data, y.data)}


# --------------------------------------------------------------------------------------- backward


@program
def scalar(m):
    x, y = m.tensor(2.0), m.tensor(3.0)
    z = x * y + y**2 - x / y
    z.backward()
    return {"x": x, "y": y, "z": z}


@program
def array_is_summed_over(m):
    x = m.tensor(A)
    y = m.log(x) * x
    y.backward()
    return {"x": x, "y": y}


@program
def seed(m):
    x = m.tensor(A)
    y = x * x
    y.backward(A)
    return {"x": x, "y": y}


@program
def seed_is_broadcast(m):
    x = m.tensor(A)
    y = x * x
    y.backward([1.0, 2.0, 3.0])
    return {"x": x, "y": y}


@program
def seed_of_another_shape(m):
    x = m.tensor(A)
    (x * x).backward(np.ones((4,)))
    return {"x": x}


@program
def intermediate_gradients(m):
    x = m.tensor(A)
    y = m.exp(x)
    z = y.sum(axis=0)
    w = (z * z).sum()
    w.backward()
    return {"x": x, "y": y, "z": z, "w": w}


@program
def broadcasting(m):
    x, y, s = m.tensor(A), m.tensor([1.0, 2.0, 3.0]), m.tensor(2.0)
    z = (x * y - y / s) * s
    z.backward()
    return {"x": x, "y": y, "s": s, "z": z}


@program
def float32_gradient(m):
    x, y = m.tensor([1.0, 2.0], dtype=np.float32), m.tensor([3.0, 4.0])
    z = x * y
    z.backward()
    return {"x": x, "y": y, "z": z}


@program
def diamond(m):
    x = m.tensor(2.0)
    a = x * x
    y = a * x + a * a
    y.backward()
    return {"x": x, "a": a, "y": y}


@program
def second_backward_of_a_new_graph_replaces_the_gradient(m):
    x = m.tensor([1.0, 2.0])
    (x * 3).backward()
    (x * 5).backward()
    return {"x": x}


@program
def gradient_is_forgotten_when_a_new_graph_is_built(m):
    x = m.tensor([1.0, 2.0])
    (x * 3).backward()
    y = x + 1
    return {"x": x, "y": y}


@program
def second_backward(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    y.backward()
    y.backward()
    return {"x": x, "y": y}


@program
def backward_through_a_cleared_part(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    z = y * 3
    y.sum().backward()
    z.backward()
    return {"x": x, "y": y, "z": z}


@program
def clear_graph(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    z = y * 3
    z.clear_graph()
    return {"x": x, "y": y, "z": z, "creator": y.creator is None, "z_creator": z.creator is None}


@program
def null_grad(m):
    x = m.tensor([1.0, 2.0])
    (x * x).backward()
    return {"same": x.null_grad() is x, "x": x}


@program
def constants(m):
    x, c = m.tensor([1.0, 2.0]), m.tensor([3.0, 4.0], constant=True)
    y = c * c
    z = x * y
    z.backward()
    return {"x": x, "c": c, "y": y, "z": z}


@program
def constant_result(m):
    x = m.tensor([1.0, 2.0])
    y = m.multiply(x, x, constant=True)
    z = y * x
    z.backward()
    return {"x": x, "y": y, "z": z}


@program
def constant_backward(m):
    c = m.tensor([1.0, 2.0], constant=True)
    d = c * 2
    d.backward()
    return {"c": c, "d": d}


@program
def no_autodiff(m):
    x = m.tensor([1.0, 2.0])
    with m.no_autodiff:
        y = x * x
        y.backward()
    return {"x": x, "y": y, "creator": y.creator is None}


@program
def failed_operation_changes_nothing(m):
    x = m.tensor([1.0, 2.0])
    y = x * x
    try:
        y + np.ones(3)
    except ValueError:
        pass
    y.backward()
    return {"x": x, "y": y}


# ------------------------------------------------------------------------------------------ ops


@program
def reductions(m):
    x = m.tensor(A)
    y = m.sum(x, axis=0) * m.mean(x, axis=0) + m.max(x, axis=1, keepdims=True) * m.min(x)
    y.backward()
    return {"x": x, "y": y}


@program
def extremes_with_ties(m):
    x = m.tensor([[1.0, 1.0], [0.0, 1.0]])
    y = m.max(x)
    y.backward()
    return {"x": x, "y": y}


@program
def maximum_at_a_tie(m):
    x, y = m.tensor([1.0, 2.0, 0.0]), m.tensor([1.0, 1.0, 1.0])
    z = m.maximum(x, y) + m.minimum(x, 2 * y)
    z.backward()
    return {"x": x, "y": y, "z": z}


@program
def absolute_at_zero(m):
    x = m.tensor([-1.0, 0.0, 2.0])
    y = m.absolute(x)
    y.backward()
    return {"x": x, "y": y}


@program
def clip(m):
    x = m.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])
    y = m.clip(x, 0.0, 1.0)
    y.backward()
    return {"x": x, "y": y}


@program
def power_at_zero(m):
    x = m.tensor([0.0, 2.0])
    y = x**2 + x**1 + x**3
    y.backward()
    return {"x": x, "y": y}


@program
def matmul(m):
    x, v = m.tensor(A), m.tensor([1.0, 2.0, 3.0])
    y = (x @ v) @ x
    y.backward()
    return {"x": x, "v": v, "y": y}


@program
def explog(m):
    x = m.tensor(A)
    y = m.exp(x) + m.expm1(x) * m.log1p(x) + m.log2(x) / m.log10(x + 3) + m.exp2(x)
    z = m.logaddexp(x, y) + m.logaddexp2(x, x[0]) + m.sqrt(x) * m.tanh(x) + m.cbrt(x)
    z.backward()
    return {"x": x, "z": z}


@program
def masked_ufunc(m):
    x, out = m.tensor([1.0, 2.0, 3.0]), m.tensor([7.0, 8.0, 9.0])
    y = m.multiply(x, x, where=np.array([True, False, True]), out=out)
    z = y * 1.0
    z.backward()
    return {"x": x, "out": out, "same": y is out}


@program
def out_tensor(m):
    x, out = m.tensor([1.0, 2.0]), m.tensor([0.0, 0.0])
    before = out * 1.0
    y = m.exp(x, out=out)
    (y * y + before).sum().backward()
    return {"x": x, "out": out, "before": before, "same": y is out}


@program
def dtype_keyword(m):
    x = m.tensor([1.0, 2.0], dtype=np.float32)
    y = m.add(x, x, dtype=np.float64)
    y.backward()
    return {"x": x, "y": y}


@program
def numpy_functions(m):
    x = m.tensor(A)
    y = np.sum(np.exp(x) * A, axis=1)
    np.log(y).backward()
    return {"x": x, "y": y}


@program
def comparisons(m):
    x = m.tensor(A)
    return {"lt": x < 1, "eq": x == x, "kind": type(x < 1) is np.ndarray, "argmax": x.argmax()}


@program
def floor_division_of_a_variable(m):
    return {"y": m.tensor(A) // 2}


@program
def where(m):
    x, y = m.tensor(A), m.tensor(2.0)
    z = m.where(A > 1, x, y)
    z.backward()
    return {"x": x, "y": y, "z": z}


@program
def joining(m):
    x, y = m.tensor(A), m.tensor(A[:1])
    z = m.concatenate([x, y, x]) * m.stack([y[0], y[0], x[0], x[1], y[0]])
    z.backward()
    return {"x": x, "y": y, "z": z}


@program
def shaping(m):
    x = m.tensor(A)
    y = m.expand_dims(x.T.reshape(2, 3), 0)
    z = m.moveaxis(y, 0, 2) * m.swapaxes(y, 0, 2)[..., 0:1]
    w = m.squeeze(m.broadcast_to(z[:1, :1], (1, 2, 1))) * m.ravel(x)[:2]
    w.backward()
    return {"x": x, "w": w}


@program
def indexing(m):
    x = m.tensor(A)
    y = x[1] * x[0, ::-1] + x[[0, 0], 1].sum() + x[x.data > 1].sum() + x[..., None][0, :, 0]
    y.backward()
    return {"x": x, "y": y}


@program
def index_out_of_range(m):
    return {"x": m.tensor(A)[5]}


@program
def shapes_that_do_not_broadcast(m):
    return {"x": m.tensor(A) + m.tensor([1.0, 2.0])}


@program
def transposed_operands_of_reductions(m):
    x = m.tensor(A)
    y = x.T[::-1].sum(axis=0) * x.mean(1)
    y.backward()
    return {"x": x, "y": y}
