"""Comparisons and questions give arrays, not tensors; indices may be tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.op_table import INDICES
from tests.op_table.checks import assert_close, on, tensors

QUESTIONS = (
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
)


@pytest.mark.parametrize("name", QUESTIONS)
def test_comparisons_give_raw_arrays(name: str, device: str):
    a, b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    x, y = tensors((a, b), device)
    found = getattr(gg, name)(x, y)
    assert type(found) is type(x.data)
    assert found.dtype == np.bool_
    assert_close(found, getattr(np, name)(a, b))


@pytest.mark.parametrize(
    "name", ("isnan", "isinf", "isfinite", "logical_not", "signbit", "argmax", "argmin", "any")
)
def test_questions_give_raw_arrays(name: str, device: str):
    a = np.array([-1.0, np.nan, np.inf, 0.0])
    found = getattr(gg, name)(gg.tensor(a, device=device))
    assert not isinstance(found, gg.Tensor)
    np.testing.assert_array_equal(gg.asnumpy(found), getattr(np, name)(a))


def test_comparison_operators_give_raw_arrays(device: str):
    a = np.array([1.0, 2.0, 3.0])
    x = gg.tensor(a, device=device)
    for found, expected in (
        (x == 2, a == 2),
        (x != 2, a != 2),
        (x < 2, a < 2),
        (2 <= x, 2 <= a),
        (x > x[::-1], a > a[::-1]),
        (x >= x[::-1], a >= a[::-1]),
    ):
        assert type(found) is type(x.data)
        assert_close(found, expected)


@pytest.mark.parametrize("name, shape, index", INDICES, ids=[name for name, _, _ in INDICES])
def test_index_may_be_made_of_tensors_or_device_arrays(
    name: str, shape: Any, index: Any, device: str
):
    def moved(make: Any) -> Any:
        entries = index if isinstance(index, tuple) else (index,)
        out = tuple(make(k) if isinstance(k, np.ndarray) else k for k in entries)
        return out if isinstance(index, tuple) else out[0]

    a = np.arange(float(np.prod(shape))).reshape(shape)
    for make in (lambda k: gg.tensor(k, device=device), lambda k: on(device, k)):
        x = gg.tensor(a, device=device)
        y = x[moved(make)]
        assert_close(y, a[index])
        x[moved(make)] = -1.0
        expected = a.copy()
        expected[index] = -1
        assert_close(x, expected)
