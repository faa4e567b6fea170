"""Linear algebra: decompositions that give back the matrix, products, norms and errors.

What holds of every operation (value, gradient, second order, layouts, dtypes) is in the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.ops.matrices import assert_close, gradient, matrices, on, positive

la = gg.linalg


# ------------------------------------------------------------------------------------- identities


def test_matrix_times_its_inverse_is_one_and_has_no_derivative(device: str):
    x = matrices(2, 3, 3)
    t = on(device, x)
    y = t @ la.inv(t)
    assert_close(y, np.broadcast_to(np.eye(3), (2, 3, 3)))
    y.backward(on(device, matrices(2, 3, 3, seed=1)).data)
    assert_close(t.grad, np.zeros((2, 3, 3)))


def test_gradient_of_the_log_determinant_is_the_inverse_transposed(device: str):
    x = matrices(3, 4, 4)
    found = gradient(lambda t: la.slogdet(t).logabsdet.sum(), x, device)
    assert_close(found, np.swapaxes(np.linalg.inv(x), -1, -2))


def test_hessian_of_the_log_determinant_is_the_product_of_two_inverses():
    x = positive(3)
    inverse = np.linalg.inv(x)
    hessian = gg.hessian(lambda t: la.slogdet(t).logabsdet)(gg.tensor(x))
    assert_close(hessian, -np.einsum("jk,li->ijkl", inverse, inverse))


def test_sign_of_the_determinant_is_constant():
    x = gg.tensor([[0.0, 1.0], [1.0, 0.0]])
    sign, logabsdet = la.slogdet(x)
    assert sign.constant and not logabsdet.constant
    assert sign.item() == -1.0


@pytest.mark.parametrize("rows", ((3,), (3, 2)))
def test_solve_is_the_inverse_times_the_right_side(rows: tuple[int, ...], device: str):
    a, b, weights = positive(3), matrices(*rows), matrices(*rows, seed=1)
    pairs = []
    for solution in (lambda s, t: la.solve(s, t), lambda s, t: la.inv(s) @ t):
        s, t = on(device, a), on(device, b)
        y = solution(s, t)
        y.backward(on(device, weights).data)
        pairs.append((y, s.grad, t.grad))
    for found, expected in zip(*pairs):
        assert_close(found, expected)


def test_cholesky_factors_give_back_the_matrix_and_its_derivative(device: str):
    x, weights = positive(4, 2), matrices(2, 4, 4, seed=1)
    for upper in (False, True):
        t = on(device, x)
        factor = la.cholesky(t, upper=upper)
        transposed = gg.swapaxes(factor, -1, -2)
        y = transposed @ factor if upper else factor @ transposed
        assert_close(y, x)
        y.backward(on(device, weights).data)
        # that of the identity on symmetric matrices
        assert_close(t.grad, (weights + np.swapaxes(weights, -1, -2)) / 2)


def test_only_one_triangle_is_read(device: str):
    x, other = positive(3), matrices(3, 3)
    lower, upper = np.linalg.cholesky(x), np.linalg.cholesky(x).T
    assert_close(la.cholesky(on(device, np.tril(x) + np.triu(other, 1))), lower)
    assert_close(la.cholesky(on(device, np.triu(x) + np.tril(other, -1)), upper=True), upper)
    values = np.linalg.eigvalsh(x)
    assert_close(la.eigvalsh(on(device, np.tril(x) + np.triu(other, 1))), values)
    assert_close(la.eigvalsh(on(device, np.triu(x) + np.tril(other, -1)), "u"), values)


@pytest.mark.parametrize("uplo", "LU")
def test_eigenvalues_and_vectors_give_back_the_matrix_and_its_derivative(uplo: str, device: str):
    x, weights = positive(4, 2), matrices(2, 4, 4, seed=1)
    t = on(device, x)
    w, v = la.eigh(t, uplo)
    y = (v * gg.expand_dims(w, -2)) @ gg.swapaxes(v, -1, -2)
    assert_close(y, x)
    y.backward(on(device, weights).data)
    assert_close(t.grad, (weights + np.swapaxes(weights, -1, -2)) / 2, 1e-8, 1e-8)


@pytest.mark.parametrize("shape", ((4, 3), (3, 3), (2, 3, 5)))
def test_singular_values_and_vectors_give_back_the_matrix_and_its_derivative(
    shape: tuple[int, ...], device: str
):
    x, weights = matrices(*shape), matrices(*shape, seed=1)
    t = on(device, x)
    u, s, vh = la.svd(t, full_matrices=False)
    y = (u * gg.expand_dims(s, -2)) @ vh
    assert_close(y, x)
    y.backward(on(device, weights).data)
    assert_close(t.grad, weights, 1e-7, 1e-7)


@pytest.mark.parametrize("shape", ((4, 3), (3, 3), (2, 3, 5)))
def test_orthogonal_and_triangular_factors_give_back_the_matrix_and_its_derivative(
    shape: tuple[int, ...], device: str
):
    x, weights = matrices(*shape), matrices(*shape, seed=1)
    t = on(device, x)
    q, r = la.qr(t)
    y = q @ r
    assert_close(y, x)
    y.backward(on(device, weights).data)
    assert_close(t.grad, weights, 1e-8, 1e-8)


def test_the_decomposition_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    from gpugrad.backend.vocabulary import numpy_namespace

    calls = []

    def counted(x: Any, **options: Any) -> Any:
        calls.append(x.shape)
        return np.linalg.eigh(x, **options)

    monkeypatch.setattr(numpy_namespace, "eigh", counted)
    w, v = la.eigh(gg.tensor(positive(3)))
    (w.sum() + (v * v * w).sum()).backward()
    assert calls == [(3, 3)]


def test_pseudoinverse_satisfies_penrose(device: str):
    a = on(device, matrices(2, 4, 3))
    p = la.pinv(a)
    assert_close(a @ p @ a, a)
    assert_close(p @ a @ p, p)
    assert_close(gg.swapaxes(a @ p, -1, -2), a @ p)


def test_pseudoinverse_takes_small_singular_values_for_zero(device: str):
    x = np.diag([4.0, 1.0, 0.1])
    for rcond, inverses in ((1e-3, [0.25, 1, 10]), (0.1, [0.25, 1, 0]), (0.5, [0.25, 0, 0])):
        assert_close(la.pinv(on(device, x), rcond), np.diag(inverses))


def test_powers_of_a_matrix(device: str):
    x = positive(3) / 5
    t = on(device, x)
    for n in range(-3, 6):
        assert_close(la.matrix_power(t, n), np.linalg.matrix_power(x, n))
        assert la.matrix_power(t.astype(np.float32), n).dtype == np.float32
    found = gradient(lambda t: gg.trace(la.matrix_power(t, 5)), x, device)
    assert_close(found, 5 * np.linalg.matrix_power(x, 4).T)


def test_results_have_the_names_of_numpys():
    x = gg.tensor(positive(2))
    for ours, theirs in (
        (la.eigh(x), np.linalg.eigh(x.data)),
        (la.svd(x), np.linalg.svd(x.data)),
        (la.qr(x), np.linalg.qr(x.data)),
        (la.slogdet(x), np.linalg.slogdet(x.data)),
    ):
        assert ours._fields == theirs._fields
        for found, expected in zip(ours, theirs):
            assert isinstance(found, gg.Tensor)
            assert_close(found, expected)


def test_products_in_the_cheapest_order():
    from gpugrad.ops.linalg import _cheapest_splits

    # the example of Cormen et al., section 15.2: ((A1 (A2 A3)) ((A4 A5) A6))
    split = _cheapest_splits((30, 35, 15, 5, 10, 20, 25))
    assert (split[0, 5], split[0, 2], split[3, 5]) == (2, 0, 4)


def test_products_with_vectors_at_the_ends_are_made_from_there(monkeypatch: pytest.MonkeyPatch):
    made = []

    def noted(a: Any, b: Any, **options: Any) -> Any:
        made.append((a.shape, b.shape))
        return gg.matmul(a, b, **options)

    monkeypatch.setattr("gpugrad.ops.linalg.matmul", noted)
    wide, narrow = np.ones((6, 5)), np.ones((5, 4))
    gg.multi_matmul([np.ones(6), wide, narrow])
    gg.multi_matmul([narrow.T, wide.T, np.ones(6)])
    assert made == [((6,), (6, 5)), ((5,), (5, 4)), ((5, 6), (6,)), ((4, 5), (5,))]


@pytest.mark.parametrize("shapes", (((3,), ()), ((2, 3), (3, 2)), ((2, 3), (4, 3, 2))))
def test_dot_writes_into_out(shapes: Any, device: str):
    a, b = (matrices(*shape, seed=i) for i, shape in enumerate(shapes))
    expected = np.dot(a, b)
    out = on(device, np.zeros(expected.shape))
    x = on(device, a)
    assert gg.dot(x, on(device, b), out=out) is out
    assert_close(out, expected)
    out.backward()
    assert_close(x.grad, gradient(lambda t: gg.dot(t, on(device, b)).sum(), a, device))


def test_trace_in_another_dtype(device: str):
    x = on(device, np.eye(3, dtype=np.float32))
    y = gg.trace(x, dtype=np.float64)
    assert y.dtype == np.float64
    y.backward()
    assert x.grad.dtype == np.float32
    assert_close(x.grad, np.eye(3))


def test_several_products_with_vectors_at_the_ends(device: str):
    factors = [matrices(*shape, seed=i) for i, shape in enumerate(((3,), (3, 4), (4, 2), (2,)))]
    xs = [on(device, x) for x in factors]
    y = gg.multi_matmul(xs)
    assert_close(y, np.linalg.multi_dot(factors))
    y.backward()
    a, b, c, d = factors
    for x, expected in zip(xs, (b @ c @ d, np.outer(a, c @ d), np.outer(a @ b, d), a @ b @ c)):
        assert_close(x.grad, expected)


# ------------------------------------------------------------------------------------------ norms

ORDERS = (None, 1, 2, 3, 1.5, 0.5, 0, -1, -2.5, np.inf, -np.inf)
MATRIX_ORDERS = (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)


@pytest.mark.parametrize("ord", ORDERS)
@pytest.mark.parametrize("keepdims", (False, True))
def test_norms_of_vectors_are_numpys(ord: Any, keepdims: bool, device: str):
    x = matrices(2, 3, 4)
    for axis in (0, 1, -1, (2,)):
        found = la.norm(on(device, x), ord, axis, keepdims)
        assert_close(found, np.linalg.norm(x, ord, axis, keepdims))
    line = x[0, 0]
    assert_close(la.norm(on(device, line), ord), np.linalg.norm(line, ord))
    kept = la.norm(on(device, line), ord, 0, keepdims)
    assert_close(kept, np.linalg.norm(line, ord, 0, keepdims))


@pytest.mark.parametrize("ord", MATRIX_ORDERS)
@pytest.mark.parametrize("keepdims", (False, True))
def test_norms_of_matrices_are_numpys(ord: Any, keepdims: bool, device: str):
    x = matrices(2, 3, 4)
    for axis in ((0, 1), (2, 0), (-1, 1)):
        found = la.norm(on(device, x), ord, axis, keepdims)
        assert_close(found, np.linalg.norm(x, ord, axis, keepdims))
    assert_close(la.norm(on(device, x[0]), ord), np.linalg.norm(x[0], ord))


@pytest.mark.parametrize("ord", [ord for ord in ORDERS if ord != 0])
def test_norm_at_zero_has_the_gradient_zero_at_two_orders(ord: Any, device: str):
    def f(t: gg.Tensor) -> gg.Tensor:
        return la.norm(t, ord, axis=1).sum()

    with np.errstate(all="raise"):
        x = np.zeros((2, 3))
        assert_close(gradient(f, x, device), x)
        assert_close(gg.hessian(f)(on(device, x)), np.zeros((2, 3, 2, 3)))


def test_norm_of_a_vector_with_a_zero_among_others(device: str):
    x = np.array([3.0, 0.0, -4.0])
    assert_close(gradient(la.norm, x, device), x / 5)
    unit = x / 5
    hessian = gg.hessian(la.norm)(on(device, x))
    assert_close(hessian, (np.eye(3) - np.outer(unit, unit)) / 5)
    for ord in (0.5, 1, 1.5, 3):
        found = gradient(lambda t, ord=ord: la.norm(t, ord), x, device)
        without = gradient(lambda t, ord=ord: la.norm(t, ord), x[[0, 2]], device)
        assert_close(found, [without[0], 0, without[1]])
    # of a negative order it is 0, whatever the others are
    assert_close(gradient(lambda t: la.norm(t, -1), x, device), np.zeros(3))


@pytest.mark.parametrize("ord", (None, 2, 3))
def test_nan_is_kept_on_demand(ord: Any):
    x = gg.tensor([3.0, 0.0, 4.0])
    la.norm(x, ord, nan_to_num=False).backward()
    assert_close(np.isnan(x.grad), [False, True, False])


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_order_zero_counts_and_is_constant(dtype: Any):
    y = la.norm(gg.tensor([0.0, 2.0, -1.0], dtype=dtype), 0)
    assert y.constant
    assert y.dtype == dtype
    assert y.item() == 2.0


@pytest.mark.parametrize("ord", ORDERS)
def test_norm_of_integers_is_that_of_floats(ord: Any, device: str):
    x = np.array([3, 1, -4])
    found = la.norm(on(device, x), ord)
    assert found.dtype == np.float64
    assert_close(found, np.linalg.norm(x.astype(float), ord))


@pytest.mark.parametrize("ord", (None, 1, 2, np.inf))
@pytest.mark.parametrize("shape", ((0,), (0, 3), (3, 0)))
def test_norm_of_nothing_is_zero(ord: Any, shape: tuple[int, ...], device: str):
    assert_close(la.norm(on(device, np.zeros(shape)), ord), 0.0)


# ------------------------------------------------------------------------------------------ errors

FLAT, WIDE, SINGULAR = np.ones(3), np.ones((2, 3)), np.ones((2, 2))
WRONG: tuple[tuple[str, tuple[Any, ...]], ...] = (
    *((name, (FLAT,)) for name in ("inv", "det", "slogdet", "cholesky", "eigh", "svd", "qr")),
    *((name, (WIDE,)) for name in ("inv", "det", "slogdet", "cholesky", "eigh", "eigvalsh")),
    ("pinv", (FLAT,)),
    ("solve", (WIDE, FLAT)),
    ("solve", (np.eye(3), np.ones(2))),
    ("solve", (np.eye(3), np.ones((2, 3)))),
    ("inv", (SINGULAR,)),
    ("solve", (SINGULAR, np.ones(2))),
    ("cholesky", (-np.eye(2),)),
    ("eigh", (np.eye(2), "X")),
    ("qr", (np.eye(2), "thin")),
    ("matrix_power", (np.eye(2), 0.5)),
    ("matrix_power", (WIDE, 2)),
    ("norm", (WIDE, "nuc", 0)),
    ("norm", (WIDE, 3)),
    ("norm", (WIDE, "spectral")),
    ("norm", (WIDE, None, (0, 0))),
    ("norm", (WIDE, None, (0, -2))),
    ("norm", (WIDE, None, 2)),
    ("norm", (WIDE, None, "a")),
    ("norm", (np.ones((2, 2, 2)), 2)),
    ("norm", (np.ones((2, 2, 2)), "fro")),
    ("tensordot", (WIDE, WIDE.T)),
    ("outer", (WIDE, FLAT)),
    ("cross", (np.ones(4), np.ones(4))),
    ("inv", (np.eye(2, dtype=np.float16),)),
    ("trace", (FLAT,)),
)


@pytest.mark.parametrize("name, operands", WRONG, ids=[f"{n}{i}" for i, (n, _) in enumerate(WRONG)])
def test_wrong_operands_raise_what_numpy_raises(name: str, operands: Any):
    with pytest.raises(Exception) as theirs:
        getattr(np.linalg, name)(*operands)
    with pytest.raises(theirs.type):
        getattr(la, name)(gg.tensor(operands[0]), *operands[1:])


@pytest.mark.parametrize("axes", ((1,), (-1, 2), (-1, -1, 3)))
def test_vector_product_along_axes_that_do_not_exist_is_refused(axes: tuple[int, ...]):
    for m in (np, gg):
        with pytest.raises(np.exceptions.AxisError):
            m.cross(FLAT, FLAT, *axes)


@pytest.mark.parametrize("shapes", (((3,),), ((2, 3), (3,), (3, 2)), ((), (2,)), ((2,), ())))
def test_several_products_of_what_is_no_chain_of_matrices_are_refused(shapes: Any):
    with pytest.raises(ValueError, match="multi_matmul: got"):
        gg.multi_matmul([np.ones(shape) for shape in shapes])


def test_vectors_that_have_no_derivative_are_refused_to_variables_only():
    tall = matrices(3, 2)
    for call in (lambda x: la.svd(x), lambda x: la.qr(x, "complete")):
        with pytest.raises(NotImplementedError, match="derivative"):
            call(gg.tensor(tall))
        full = call(gg.tensor(tall, constant=True))
        assert full[0].shape == (3, 3)
        assert all(x.constant for x in full)
    for call in (lambda x: la.svd(x, constant=True), lambda x: la.qr(x, "complete", constant=True)):
        full = call(gg.tensor(tall))
        assert full[0].shape == (3, 3)
        assert all(x.constant for x in full)


def test_numpys_functions_reach_these():
    x = gg.tensor(positive(3))
    np.linalg.slogdet(np.linalg.inv(x)).logabsdet.backward()
    assert_close(x.grad, -np.linalg.inv(x.data).T)
    y = np.einsum("ij,jk", x, x) + np.linalg.norm(x) + np.kron(x, 1.0) + np.dot(x, x)
    assert not y.constant


def test_matmul_is_a_ufunc_with_core_dimensions_and_takes_no_mask():
    assert isinstance(gg.matmul, gg.ufunc)
    assert gg.matmul.signature == np.matmul.signature
    assert set(gg.matmul.types) < set(np.matmul.types)
    x = gg.tensor(matrices(2, 2))
    with pytest.raises(TypeError, match="where"):
        gg.matmul(x, x, where=True)
    assert np.matmul(x, x, dtype=np.float32).dtype == np.float32


def test_matmul_writes_into_out(device: str):
    a, b = matrices(2, 3), matrices(3, 2)
    x, target = on(device, a), +on(device, np.zeros((2, 2)))
    assert gg.matmul(x, on(device, b), target) is target
    target.backward()
    assert_close(target, a @ b)
    assert_close(x.grad, np.ones((2, 2)) @ b.T)
    out = on(device, np.zeros((2, 2))).data
    assert gg.matmul(x, on(device, b), out=out).data is out
    assert_close(out, a @ b)
