"""Inverses, determinants and decompositions of matrices, each of any leading shape (..., n, n).

A decomposition has several results, an operation has one. It is therefore one array in which the
results lie below each other, and each result is a view of it:

    eigh   (..., n + 1, n)    svd   (..., m + 1 + n, k)    qr   (..., m + n, k)
           [ w ]                    [ U   ]                     [ Q   ]
           [ V ]                    [ s   ]                     [ R.T ]
                                    [ V   ]

So it is computed once, its rule finds every factor in its result, and is exact at every order.

Singular vectors, eigenvectors and Q are unique up to a sign (or a rotation, where values are
equal). Their derivatives are those of functions that do not depend on this choice. Values that
differ by no more than rounding count as equal: between their vectors the derivative is set to 0.
At first order that is right for functions of the values, and of the spaces that the vectors of
equal values span. Of V f(w) V.T it leaves out f'(w) times the cotangent between those vectors,
and at second order it leaves out more: what only the function knows.

References
----------
M. B. Giles, Collected matrix derivative results for forward and reverse mode algorithmic
differentiation (2008). J. Townsend, Differentiating the singular value decomposition (2016).
S. F. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions (2018).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import composite
from gpugrad.graph.op import operation
from gpugrad.ops.comparison import raw_of
from gpugrad.ops.indexing import getitem
from gpugrad.ops.matrices import as_matrices, as_square, rounding, transposed
from gpugrad.ops.shaping import swapaxes
from gpugrad.tensor import Tensor

__all__ = ["cholesky", "eigh", "eigvalsh", "qr", "svd", "svdvals"]


class EighResult(NamedTuple):
    """Eigenvalues (..., n), ascending, and eigenvectors (..., n, n), in columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVDResult(NamedTuple):
    """Left singular vectors, singular values, descending, and transposed right vectors."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class QRResult(NamedTuple):
    """A matrix with orthonormal columns, and an upper triangular one."""

    Q: Tensor
    R: Tensor


# ------------------------------------------------------------------------------------------ tools


def _rows(xp: Any, x: Any, start: int, stop: int) -> Any:
    return xp.getitem(x, (..., slice(start, stop), slice(None)))


def _row(xp: Any, x: Any, i: int) -> Any:
    return xp.getitem(x, (..., i, slice(None)))


def _stacked(xp: Any, *blocks: Any) -> Any:
    """Blocks of rows below each other; vectors are rows."""
    ndim = max(x.ndim for x in blocks)
    return xp.concatenate([xp.expand_dims(x, -2) if x.ndim < ndim else x for x in blocks], axis=-2)


def _on_diagonal(x: Any) -> Any:
    """A mask of the main diagonal of the last two axes of `x`, where `x` lies."""
    return namespace_of(get_array_module(x)).eye(x.shape[-2], x.shape[-1], dtype=np.bool_)


def _from_lower(xp: Any, x: Any) -> Any:
    """The symmetric matrices with the lower triangles of `x`."""
    raw = namespace_of(get_array_module(x))
    n = x.shape[-1]
    places = raw.arange(n)
    lower = raw.expand_dims(places, 1) >= places
    return xp.where(lower, x, transposed(xp, x))


def _symmetric(xp: Any, x: Any) -> Any:
    return (x + transposed(xp, x)) / 2


def _differences(xp: Any, values: Any) -> tuple[Any, Any]:
    """values[j] - values[i], and the mask of those that are rounding."""
    difference = xp.expand_dims(values, -2) - xp.expand_dims(values, -1)
    raw = raw_of(difference)
    tolerance = rounding(values)
    equal = (raw <= tolerance[..., None]) & (raw >= -tolerance[..., None])
    return difference, equal


def _reciprocal(xp: Any, x: Any, zero: Any) -> Any:
    """1 / x, and 0 where the mask says that x is 0."""
    return xp.where(zero, 0, 1 / xp.where(zero, 1, x))


# --------------------------------------------------------------------------------- decompositions


def _cholesky_rule(xp: Any, g: Any, y: Any, x: Any) -> Any:
    y_t = transposed(xp, y)
    half = xp.solve(y_t, _from_lower(xp, xp.matmul(y_t, g)))
    return _symmetric(xp, xp.solve(y_t, transposed(xp, half))) / 2


@operation("cholesky", _cholesky_rule)
def CHOLESKY(xp: Any, x: Any) -> Any:
    return xp.cholesky(x)


def cholesky(a: Any, *, upper: bool = False, constant: bool | None = None) -> Tensor:
    """The lower triangular L with ``L @ L.T = a``.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Symmetric and positive definite; only its lower triangle is read. The derivative is
        symmetric: that among symmetric matrices.
    upper : bool, optional
        The upper triangular R with ``R.T @ R = a`` instead, from the upper triangle.
    constant : bool, optional

    Returns
    -------
    Tensor, shape (..., n, n)

    Raises
    ------
    numpy.linalg.LinAlgError
        Not square, or not positive definite (on a GPU the result is not finite instead).

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.linalg.cholesky([[4.0, 2.0], [2.0, 5.0]])
    Tensor([[2., 0.],
            [1., 2.]])
    """
    a = as_square("cholesky", a)
    if not upper:
        return apply(CHOLESKY, (a,), constant=constant)
    lower = apply(CHOLESKY, (swapaxes(a, -1, -2),), constant=constant)
    return swapaxes(lower, -1, -2)


def _eigh_rule(xp: Any, g: Any, y: Any, x: Any, *, UPLO: str) -> Any:
    n = x.shape[-1]
    w, v = _row(xp, y, 0), _rows(xp, y, 1, n + 1)
    v_t = transposed(xp, v)
    turning = xp.matmul(v_t, _rows(xp, g, 1, n + 1)) * _reciprocal(xp, *_differences(xp, w))
    inner = xp.where(_on_diagonal(x), xp.expand_dims(_row(xp, g, 0), -2), turning)
    return _symmetric(xp, xp.matmul(v, xp.matmul(inner, v_t)))


@operation("eigh", _eigh_rule)
def EIGH(xp: Any, x: Any, *, UPLO: str) -> Any:
    return _stacked(xp, *xp.eigh(x, UPLO=UPLO))


def eigh(a: Any, UPLO: str = "L", *, constant: bool | None = None) -> EighResult:
    """Eigenvalues and eigenvectors of symmetric matrices.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Symmetric. The derivative is symmetric: that among symmetric matrices.
    UPLO : "L" or "U", optional
        Which triangle is read.
    constant : bool, optional

    Returns
    -------
    EighResult
        ``(eigenvalues, eigenvectors)``: (..., n), ascending, and (..., n, n), in columns. Where
        eigenvalues are equal, derivatives are finite, and right at first order for functions of the
        eigenvalues and of the space that their vectors span (a projector onto it); not for
        ``(v * exp(w)) @ v.T``, of which the part between those vectors is left out.

    Raises
    ------
    numpy.linalg.LinAlgError
        Not square, or no convergence.
    ValueError
        `UPLO` is something else.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.linalg.eigh([[2.0, 1.0], [1.0, 2.0]]).eigenvalues
    Tensor([1., 3.])
    """
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise ValueError(f"eigh: got UPLO={UPLO!r}, expected 'L' or 'U'")
    both = apply(EIGH, (as_square("eigh", a),), {"UPLO": UPLO.upper()}, constant=constant)
    return EighResult(
        getitem(both, (..., 0, slice(None))), getitem(both, (..., slice(1, None), slice(None)))
    )


@composite
def eigvalsh(a: Any, UPLO: str = "L", *, constant: bool | None = None) -> Tensor:
    """The eigenvalues of symmetric matrices, ascending; see `eigh`."""
    return eigh(a, UPLO, constant=constant).eigenvalues


def _svd_rule(xp: Any, g: Any, y: Any, x: Any) -> Any:
    m, n = x.shape[-2:]
    u, s, v = _rows(xp, y, 0, m), _row(xp, y, m), _rows(xp, y, m + 1, m + n + 1)
    gu, gs, gv = _rows(xp, g, 0, m), _row(xp, g, m), _rows(xp, g, m + 1, m + n + 1)
    u_t, v_t = transposed(xp, u), transposed(xp, v)
    difference, equal = _differences(xp, s)
    total = xp.expand_dims(s, -2) + xp.expand_dims(s, -1)
    turning = _reciprocal(xp, difference * total, equal)  # 1 / (s_j**2 - s_i**2)
    ugu, vgv = xp.matmul(u_t, gu), xp.matmul(v_t, gv)
    columns, rows = xp.expand_dims(s, -2), xp.expand_dims(s, -1)
    inner = (ugu - transposed(xp, ugu)) * turning * columns
    inner = inner + rows * (vgv - transposed(xp, vgv)) * turning
    inner = xp.where(_on_diagonal(inner), xp.expand_dims(gs, -2), inner)
    found = xp.matmul(u, xp.matmul(inner, v_t))
    inverse = xp.expand_dims(_reciprocal(xp, s, raw_of(s) <= rounding(s)), -2)
    if m > n:  # vectors may also turn out of the space that they span
        out = (gu - xp.matmul(u, ugu)) * inverse
        found = found + xp.matmul(out, v_t)
    elif n > m:
        out = (gv - xp.matmul(v, vgv)) * inverse
        found = found + xp.matmul(u, transposed(xp, out))
    return found


@operation("svd", _svd_rule)
def SVD(xp: Any, x: Any) -> Any:
    u, s, vh = xp.svd(x, full_matrices=False)
    return _stacked(xp, u, s, xp.swapaxes(vh, -1, -2))


def _svd(a: Tensor, constant: bool | None) -> SVDResult:
    m = a.shape[-2]
    packed = apply(SVD, (a,), constant=constant)
    v = getitem(packed, (..., slice(m + 1, None), slice(None)))
    return SVDResult(
        getitem(packed, (..., slice(None, m), slice(None))),
        getitem(packed, (..., m, slice(None))),
        swapaxes(v, -1, -2),
    )


def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, *, constant: bool | None = None
) -> Any:
    """The singular value decomposition ``a = U @ diag(S) @ Vh``.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    full_matrices : bool, optional
        Square U and Vh. Only of square matrices and constants: the vectors added for the others
        are any that are orthogonal to the rest, and have no derivative.
    compute_uv : bool, optional
        False: return S alone.
    constant : bool, optional

    Returns
    -------
    SVDResult or Tensor
        ``(U, S, Vh)``: (..., m, k), (..., k), descending, and (..., k, n), with k the smaller of m
        and n. Where singular values are equal or 0, derivatives are finite, and right at first
        order for functions of the values and of the spaces that their vectors span (the best
        approximation by rank 2 of a matrix of rank 2); not for ``(U * S) @ Vh``, of which the part
        between those vectors is left out.

    Raises
    ------
    numpy.linalg.LinAlgError
        Fewer than two dimensions, or no convergence.
    NotImplementedError
        `full_matrices` of a variable that is not square.

    Examples
    --------
    >>> import gpugrad as gg
    >>> gg.linalg.svd([[0.0, 3.0], [2.0, 0.0]], compute_uv=False)
    Tensor([3., 2.])
    """
    a = as_matrices("svd", a)
    if not compute_uv:
        return _svd(a, constant).S
    if full_matrices and a.shape[-1] != a.shape[-2]:
        if not (a.constant or constant):
            raise NotImplementedError(
                f"svd: got full_matrices=True and shape {a.shape}, expected square matrices or "
                "full_matrices=False: the other vectors have no derivative"
            )
        parts = namespace_of(get_array_module(a.data)).svd(a.data)
        return SVDResult(*(Tensor(x, constant=True, copy=False) for x in parts))
    return _svd(a, constant)


def svdvals(x: Any, /, *, constant: bool | None = None) -> Tensor:
    """The singular values of matrices, descending; see `svd`."""
    return _svd(as_matrices("svdvals", x), constant).S


def _qr_tall(xp: Any, q: Any, r: Any, gq: Any, gr: Any) -> Any:
    m = xp.matmul(r, transposed(xp, gr)) - xp.matmul(transposed(xp, gq), q)
    b = gq + xp.matmul(q, _from_lower(xp, m))
    return transposed(xp, xp.solve(r, transposed(xp, b)))


def _qr_rule(xp: Any, g: Any, y: Any, x: Any) -> Any:
    m, n = x.shape[-2:]
    q, r = _rows(xp, y, 0, m), transposed(xp, _rows(xp, y, m, m + n))
    gq, gr = _rows(xp, g, 0, m), transposed(xp, _rows(xp, g, m, m + n))
    if m >= n:
        return _qr_tall(xp, q, r, gq, gr)
    # x = [X Y], R = [R1 Q.T Y]: Q and R1 are those of X
    first, second = (..., slice(None, m)), (..., slice(m, None))
    gr2 = xp.getitem(gr, second)
    gq = gq + xp.matmul(xp.getitem(x, second), transposed(xp, gr2))
    gx = _qr_tall(xp, q, xp.getitem(r, first), gq, xp.getitem(gr, first))
    return xp.concatenate([gx, xp.matmul(q, gr2)], axis=-1)


@operation("qr", _qr_rule)
def QR(xp: Any, x: Any) -> Any:
    q, r = xp.qr(x)
    return _stacked(xp, q, xp.swapaxes(r, -1, -2))


def qr(a: Any, mode: str = "reduced", *, constant: bool | None = None) -> Any:
    """The decomposition ``a = Q @ R`` with orthonormal columns and an upper triangle.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
        Its first k columns, k the smaller of m and n, are independent.
    mode : {"reduced", "complete", "r"}, optional
        "reduced": Q is (..., m, k), R is (..., k, n). "complete": Q is (..., m, m); the same for
        m <= n, refused for a variable with m > n, where the added columns have no derivative.
        "r": R alone.
    constant : bool, optional

    Returns
    -------
    QRResult or Tensor

    Raises
    ------
    numpy.linalg.LinAlgError
        Fewer than two dimensions; in the derivative: dependent columns.
    NotImplementedError
        "complete" of a variable with more rows than columns.
    ValueError
        Another mode.
    """
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr: got mode {mode!r}, expected 'reduced', 'complete' or 'r'")
    a = as_matrices("qr", a)
    m, n = a.shape[-2:]
    if mode == "complete" and m > n:
        if not (a.constant or constant):
            raise NotImplementedError(
                f"qr: got mode 'complete' and shape {a.shape}, expected no more rows than columns "
                "or mode 'reduced': the other columns have no derivative"
            )
        parts = namespace_of(get_array_module(a.data)).qr(a.data, mode)
        return QRResult(*(Tensor(x, constant=True, copy=False) for x in parts))
    packed = apply(QR, (a,), constant=constant)
    r = swapaxes(getitem(packed, (..., slice(m, None), slice(None))), -1, -2)
    if mode == "r":
        return r
    return QRResult(getitem(packed, (..., slice(None, m), slice(None))), r)
