"""Products, sums over named axes, norms and decompositions of matrices.

Matrices are made well conditioned within the call, so that the operands may be any. What is unique
up to a sign only (eigenvectors, singular vectors, Q) enters through squares and products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.op_table.row import Operand, Row, formula, method

__all__ = ["ROWS"]

for _name in ("cholesky", "det", "eigh", "eigvalsh", "inv", "matrix_power", "norm", "pinv", "qr"):
    formula(getattr(np.linalg, _name))
for _name in ("slogdet", "solve", "svd", "svdvals"):
    formula(getattr(np.linalg, _name))


@formula
def einsum_view(x: Any, *, subscripts: str) -> Any:
    return np.einsum(subscripts, x)


# --------------------------------------------------------------------------------------- products


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
    return [_products("matmul", a, b) for a, b in shapes]


def _products(name: str, *shapes: tuple[int, ...], op: str = "matmul", **options: Any) -> Row:
    given = "".join(f",{k}={v}" for k, v in options.items())
    label = f"{name}{''.join(map(str, shapes))}{given}".replace(" ", "")
    return Row(label, op, method(name, **options), tuple(map(Operand, shapes)))


def _other_products() -> list[Row]:
    return [
        _products("dot", (3,), (3,)),
        _products("dot", (), (2, 3), op="multiply"),
        _products("dot", (2, 3), (2, 3, 2)),
        _products("inner", (2, 3), (4, 3)),
        _products("inner", (3,), (3,)),
        _products("inner", (2,), (), op="multiply"),
        _products("vdot", (2, 3), (3, 2))._replace(analytic=False),  # it conjugates
        _products("outer", (2, 2), (3,), op="multiply"),
        _products("outer", (), (0,), op="multiply"),
        _products("tensordot", (2, 3, 4), (3, 4, 2)),
        _products("tensordot", (2, 3), (4,), axes=0),
        _products("tensordot", (2, 3, 2), (3, 2, 4), axes=((1, -1), (0, 1))),
        _products("tensordot", (2, 0), (0, 3), axes=1),
        _products("kron", (2, 3), (3, 2), op="multiply"),
        _products("kron", (2,), (2, 1, 2), op="multiply"),
        _products("kron", (), (2,), op="multiply"),
        _products("cross", (2, 3), (3,), op="multiply"),
        _products("cross", (3, 2), (2, 3), op="multiply", axisa=0, axisc=0),
        _products("cross", (3, 2), (3, 2), op="multiply", axis=0),
        _products("trace", (3, 3), op="trace"),
        _products("trace", (2, 3, 4), op="trace", offset=1, axis1=1, axis2=-1),
        _products("trace", (3, 2, 2), op="trace", offset=-2, axis1=0, axis2=2),
        _products("trace", (0, 0), op="trace"),
    ]


# ------------------------------------------------------------------------- sums over named axes

_SUMS: tuple[tuple[str, tuple[tuple[int, ...], ...]], ...] = (
    ("ij,jk->ik", ((2, 3), (3, 2))),
    ("ij,kj", ((2, 3), (2, 3))),
    ("i,i", ((3,), (3,))),
    ("i,j->ji", ((2,), (3,))),
    (",i->i", ((), (3,))),
    ("ij->j", ((2, 3),)),
    ("ij->", ((2, 3),)),
    ("ii", ((3, 3),)),
    ("iji->j", ((2, 3, 2),)),
    ("iii->", ((2, 2, 2),)),
    ("ii,i->i", ((3, 3), (3,))),
    ("iij,jj->ij", ((2, 2, 3), (3, 3))),
    ("ij,k->i", ((2, 3), (2,))),
    ("i,i->i", ((1,), (3,))),
    ("ij,jk", ((2, 1), (3, 2))),
    ("ii,i", ((1, 1), (3,))),
    ("...i,...i->...", ((2, 1, 3), (4, 3))),
    ("i...,...i", ((2, 3), (3, 2))),
    ("...,...", ((2, 1), (3,))),
    ("...ij->...", ((2, 2, 3),)),
    ("...ij,jk", ((2, 1, 3), (3, 2))),
    ("i...->i", ((2, 3),)),
    ("ij,jk,kl->il", ((2, 3), (3, 2), (2, 2))),
    ("i,ij,j,->", ((2,), (2, 3), (3,), ())),
    ("i,i,i->", ((3,), (1,), (3,))),
    ("ij,jk->ik", ((0, 3), (3, 2))),
    ("ij,jk->ik", ((2, 0), (0, 2))),
)
_VIEWS = (("ij->ji", (2, 3)), ("ii->i", (3, 3)), ("iji->ij", (2, 3, 2)), ("i...->...i", (2, 1, 3)))


def _einsum() -> list[Row]:
    def sums(subscripts: str, **options: Any) -> Callable[..., Any]:
        return lambda m, *xs: m.einsum(subscripts, *xs, **options)

    rows = [
        Row(
            f"einsum-{subscripts}{shapes}".replace(" ", ""),
            "einsum",
            sums(subscripts, optimize=len(shapes) > 2),
            tuple(map(Operand, shapes)),
        )
        for subscripts, shapes in _SUMS
        if subscripts != "i...->i"  # which NumPy takes with optimize= only
    ]
    rows += [
        Row(f"einsum-{subscripts}-view", "einsum_view", sums(subscripts), (Operand(shape),))
        for subscripts, shape in _VIEWS
    ]
    square = Operand((3, 3))
    rows += [
        Row("einsum_view", "einsum_view", method("einsum_view", subscripts="ii->i"), (square,)),
        Row("einsum-twice", "einsum", lambda m, x: m.einsum("ij,jk,ki->i", x, x, x), (square,)),
        Row(
            "einsum-lists",
            "einsum",
            lambda m, x, y: m.einsum(x, [0, 1, ...], y, [1, ...], [..., 0]),
            (Operand((2, 3, 2)), Operand((3, 1))),
        ),
    ]
    for optimize in (True, "greedy", "optimal", ["einsum_path", (1, 2), (0, 1)]):
        call = sums("ij,jk,kl->li", optimize=optimize)
        three = (Operand((2, 3)), Operand((3, 4)), Operand((4, 2)))
        rows.append(Row(f"einsum-optimize={optimize}".replace(" ", ""), "einsum", call, three))
    return rows


# ------------------------------------------------------------------------------------------ norms


def _norms() -> list[Row]:
    rows = []
    for ord in (None, 2, 3, 0.5, -1, -2.5, 1, np.inf, -np.inf):
        op = {1: "sum", np.inf: "max", -np.inf: "min"}.get(ord, "norm")
        domain = (0.3, 2.0) if ord in (0.5, -1, -2.5) else (-2.0, 2.0)
        for shape, axis, keepdims in (
            ((4,), None, False),
            ((3, 2), 0, True),
            ((2, 3, 2), -2, False),
        ):
            call = method("norm", ord, axis, keepdims)
            name = f"norm-{ord}{shape},{axis},{keepdims}".replace(" ", "")
            rows.append(Row(name, op, call, (Operand(shape, domain),), analytic=False))
    for ord in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        op = {1: "max", np.inf: "max", -1: "min", -np.inf: "min", None: "norm", "fro": "norm"}
        half = ord not in ("nuc", 2, -2)
        for shape, axis, keepdims in (((2, 3), (0, 1), False), ((3, 2, 2), (-1, 0), True)):
            call = method("norm", ord, axis, keepdims)
            name = f"norm-{ord}{shape},{axis},{keepdims}".replace(" ", "")
            operands = (Operand(shape),)
            rows.append(Row(name, op.get(ord, "svd"), call, operands, analytic=False, half=half))
    flat = method("norm", keepdims=True)
    rows.append(Row("norm-of-all", "norm", flat, (Operand((2, 3, 2)),), analytic=False))
    rows.append(Row("norm-of-nothing", "norm", method("norm"), (Operand((0,)),), analytic=False))
    return rows


# --------------------------------------------------------------------------------- decompositions


def _with_diagonal(m: Any, x: Any, *values: float) -> Any:
    """`x` plus these values on its main diagonal, made where `x` lies."""
    diagonal = m.zeros_like(x)
    for i, value in enumerate(values):
        diagonal[..., i, i] = value
    return x + diagonal


def _positive(m: Any, x: Any) -> Any:
    """x @ x.T + n: symmetric, and far from singular."""
    n = x.shape[-1]
    return _with_diagonal(m, m.matmul(x, m.swapaxes(x, -1, -2)), *[n] * n)


def _regular(m: Any, x: Any) -> Any:
    """x + 4 n: diagonally dominant."""
    n = x.shape[-1]
    return _with_diagonal(m, x, *[4 * n] * n)


def _eigenvectors(m: Any, x: Any) -> Any:
    w, v = m.eigh(_spread(m, x))
    return v * v * m.expand_dims(w, -1)


def _spread(m: Any, x: Any) -> Any:
    """Symmetric, with eigenvalues far from each other."""
    return _with_diagonal(m, (x + m.swapaxes(x, -1, -2)) / 4, *range(0, 5 * x.shape[-1], 5))


def _singular_vectors(m: Any, x: Any) -> Any:
    n = min(x.shape[-2:])
    x = _with_diagonal(m, x / 4, *range(5, 5 * n + 1, 5))
    u, s, vh = m.svd(x, full_matrices=False)
    squares = m.concatenate([u * u, m.swapaxes(vh * vh, -1, -2)], axis=-2)
    mixed = u[..., :n, :] * m.swapaxes(vh[..., :n], -1, -2)
    return m.concatenate([squares, mixed, m.expand_dims(s, -2)], axis=-2)


def _orthogonal(m: Any, x: Any) -> Any:
    x = _with_diagonal(m, x, *[4] * min(x.shape[-2:]))
    q, r = m.qr(x)
    return m.concatenate([m.swapaxes(q * q, -1, -2), r * r], axis=-1)


def _decompositions() -> list[Row]:
    # name, operation, call, whether it takes complex matrices as an analytic function of them
    of_square: tuple[tuple[str, str, Callable[..., Any], bool], ...] = (
        ("inv", "inv", lambda m, x: m.inv(_regular(m, x)), True),
        ("det", "det", lambda m, x: m.det(x), True),
        ("slogdet", "slogdet", lambda m, x: m.slogdet(_regular(m, x))[1], False),
        ("cholesky", "cholesky", lambda m, x: m.cholesky(_positive(m, x)), False),
        ("eigh", "eigh", _eigenvectors, False),
        ("eigvalsh", "eigh", lambda m, x: m.eigvalsh(_spread(m, x), "U"), False),
        ("svd", "svd", _singular_vectors, False),
        ("qr", "qr", _orthogonal, False),
        ("matrix_power", "matmul", lambda m, x: m.matrix_power(x / 2, 3), True),
        ("matrix_power-2", "inv", lambda m, x: m.matrix_power(_regular(m, x), -2), True),
    )
    rows = []
    for name, op, call, analytic in of_square:
        half = name == "matrix_power"
        for shape in ((3, 3), (2, 1, 2, 2), (0, 2, 2), (1, 1)):
            label = f"{name}{shape}".replace(" ", "")
            rows.append(Row(label, op, call, (Operand(shape),), analytic, half))
    for shape in ((4, 2), (2, 4), (2, 3, 2)):
        x = (Operand(shape),)
        label = str(shape).replace(" ", "")
        rows += [
            Row(f"svd{label}", "svd", _singular_vectors, x, False, False),
            Row(f"svdvals{label}", "svd", method("svdvals"), x, False, False),
            Row(f"qr{label}", "qr", _orthogonal, x, False, False),
            Row(f"pinv{label}", "pinv", method("pinv"), x, False, False),
        ]
    for a, b in (((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 2), (3, 2, 1))):
        operands = (Operand(a), Operand(b))
        label = f"solve{a}{b}".replace(" ", "")
        rows.append(Row(label, "solve", lambda m, x, y: m.solve(_regular(m, x), y), operands))
    return [row._replace(half=False) if row.op == "solve" else row for row in rows]


ROWS = tuple(_matmul() + _other_products() + _einsum() + _norms() + _decompositions())
