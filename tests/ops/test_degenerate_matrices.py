"""Derivatives at singular matrices, and where eigenvalues or singular values are equal."""

from __future__ import annotations

from itertools import permutations
from math import factorial
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.differences import differences
from tests.ops.matrices import assert_close, gradient, matrices, on, positive

la = gg.linalg


def rank(r: int, n: int) -> np.ndarray:
    return matrices(n, r, seed=r) @ matrices(r, n, seed=n)


def cofactors(x: np.ndarray) -> np.ndarray:
    """From all permutations: an oracle without division."""
    n = len(x)
    found = np.zeros((n, n))
    for p in permutations(range(n)):
        sign = np.linalg.det(np.eye(n)[list(p)])
        for i in range(n):
            found[i, p[i]] += sign * np.prod([x[k, p[k]] for k in range(n) if k != i])
    return found


@pytest.mark.parametrize("n", (1, 2, 3, 4, 5))
@pytest.mark.parametrize("r", (0, 1, 2, 3, 4, 5))
def test_gradient_of_the_determinant_is_the_matrix_of_cofactors(r: int, n: int, device: str):
    x = rank(min(r, n), n)
    assert_close(gradient(la.det, x, device), cofactors(x))


@pytest.mark.parametrize("n", (2, 3, 4, 5))
@pytest.mark.parametrize("lacking", (0, 1, 2, 4))
def test_second_derivatives_of_the_determinant_at_any_rank(lacking: int, n: int):
    x = rank(max(n - lacking, 0), n)
    found = gg.hessian(la.det)(gg.tensor(x))
    assert_close(found, differences(lambda t: gg.tensor(cofactors(t.data)), x), 1e-7, 1e-7)


def test_third_derivative_of_the_determinant_is_the_permutation_symbol():
    x = gg.tensor(np.zeros((3, 3)))
    third = gg.jacobian(gg.hessian(la.det))(x)
    symbol = np.zeros((3, 3, 3))
    for p in permutations(range(3)):
        symbol[p] = np.linalg.det(np.eye(3)[list(p)])
    # d3 det / dx[i, j] dx[k, l] dx[m, n] = symbol[i, k, m] symbol[j, l, n]
    assert_close(third, np.einsum("ikm,jln->ijklmn", symbol, symbol))


def test_one_singular_matrix_in_a_stack(device: str):
    x = np.stack([rank(2, 3), positive(3)])
    found = gradient(lambda t: la.det(t).sum(), x, device)
    assert_close(found, np.stack([cofactors(a) for a in x]))


@pytest.mark.parametrize("wrong", (np.nan, np.inf))
def test_gradient_of_the_determinant_of_a_matrix_that_is_not_finite_is_nan(wrong: float):
    x = np.diag([wrong, 1.0, 1.0, 1.0])
    t = gg.tensor(x)
    with np.errstate(all="ignore"):
        la.det(t).backward()
    assert_close(t.grad, np.full((4, 4), np.nan))


@pytest.mark.parametrize("rank_of_x", (0, 1, 2, 3, 4))
def test_all_derivatives_of_the_determinant_along_a_line_at_any_rank(rank_of_x: int):
    x, direction = rank(rank_of_x, 4), matrices(4, 4, seed=7)
    # det(x + t direction) is a polynomial of degree 4 in t
    places = np.arange(-2.0, 3.0)
    values = [np.linalg.det(x + t * direction) for t in places]
    coefficients = np.linalg.solve(np.vander(places, increasing=True), values)
    f = lambda t: la.det(gg.add(x, t * direction))
    for order, coefficient in enumerate(coefficients[1:], 1):
        f = gg.grad(f)
        np.testing.assert_allclose(
            f(gg.tensor(0.0)).data, factorial(order) * coefficient, rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("sign", (1, -1))
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_trace_of_a_function_has_its_gradient_where_eigenvalues_are_equal(
    sign: int, dtype: Any, device: str
):
    q, _ = np.linalg.qr(matrices(8, 8))
    values = sign * np.array([1.0] * 7 + [2.0])
    x = (q @ np.diag(values) @ q.T).astype(dtype)
    tolerance = 1e-8 if dtype == np.float64 else 2e-5

    def f(t: gg.Tensor) -> gg.Tensor:
        return gg.exp(la.eigvalsh(t)).sum()

    def through_vectors(t: gg.Tensor) -> gg.Tensor:
        w, v = la.eigh(t)
        return gg.trace((v * gg.exp(w)) @ v.T @ on(device, x))

    exponential = q @ np.diag(np.exp(values)) @ q.T
    assert_close(gradient(f, x, device), exponential, tolerance, tolerance)
    # d tr(exp(x) x') at x' = x: x commutes with exp(x)
    assert_close(gradient(through_vectors, x, device), exponential @ x, tolerance, tolerance)
    assert np.isfinite(gg.hessian(f)(gg.tensor(x)).data).all()


def test_space_of_equal_eigenvalues_has_its_gradient(device: str):
    q, _ = np.linalg.qr(matrices(4, 4))
    x, weights = q @ np.diag([1.0, 1.0, 1.0, 2.0]) @ q.T, matrices(4, 4, seed=1)

    def projector(t: gg.Tensor) -> gg.Tensor:
        v = la.eigh(t).eigenvectors[:, :3]
        return (v @ v.T * on(str(t.device), weights)).sum()

    def of_symmetric(t: gg.Tensor) -> gg.Tensor:
        return projector((t + t.T) / 2)

    assert_close(gradient(projector, x, device), differences(of_symmetric, x), 1e-6, 1e-8)


@pytest.mark.parametrize("shape", ((4, 3), (3, 4), (4, 4)))
def test_best_approximation_of_the_rank_of_the_matrix_has_its_gradient(shape: Any, device: str):
    x = matrices(shape[0], 2) @ matrices(2, shape[1], seed=1)
    weights = matrices(*shape, seed=2)

    def approximation(t: gg.Tensor) -> gg.Tensor:
        u, s, vh = la.svd(t, full_matrices=False)
        return ((u[:, :2] * s[:2]) @ vh[:2] * on(str(t.device), weights)).sum()

    assert_close(gradient(approximation, x, device), differences(approximation, x), 1e-6, 1e-8)


def test_matrices_of_a_stack_are_differentiated_each_in_its_own_scale(device: str):
    small, large = positive(3), 1e20 * positive(3, seed=1)

    def first_vector(t: gg.Tensor) -> gg.Tensor:
        return (la.eigh(t).eigenvectors[..., 0] ** 2 * on(device, [0.0, 1.0, 2.0])).sum()

    def first_left_vector(t: gg.Tensor) -> gg.Tensor:
        return (la.svd(t).U[..., 0] ** 2 * on(device, [0.0, 1.0, 2.0])).sum()

    for f in (first_vector, first_left_vector):
        found = gradient(lambda t, f=f: f(t).sum(), np.stack([small, large]), device)
        assert_close(found[0], gradient(f, small, device))
        assert_close(found[1] * 1e20, gradient(f, large, device) * 1e20)


def test_sum_of_singular_values_has_a_gradient_where_they_are_equal_or_zero(device: str):
    for x in (2 * np.eye(3), rank(1, 3), np.zeros((2, 3))):
        found = gradient(lambda t: (la.svdvals(t) ** 2).sum(), x, device)
        assert_close(found, 2 * x)
        assert np.isfinite(gradient(lambda t: la.norm(t, "nuc"), x, device)).all()
        assert np.isfinite(gg.hessian(lambda t: la.norm(t, "nuc"))(gg.tensor(x)).data).all()
