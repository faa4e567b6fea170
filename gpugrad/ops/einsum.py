"""Sums of products over named axes. The derivative of such a sum is another one.

    y = einsum("ij,jk->ik", a, b)        a.grad = einsum("ik,jk->ij", g, b)

What the derivative by one operand needs: the subscripts of the result and of the other operands
become inputs, its own become the output. Three kinds of its axes are not in that sum and are
completed after it:

    ij->j     i occurs nowhere else        the same value along i
    iij->ij   i occurs twice in it         the value on the diagonal, 0 beside it
    i,i->i    i has length 1 here only     summed, an axis of length 1
"""

from __future__ import annotations

import operator
from collections import Counter
from functools import lru_cache
from math import prod
from string import ascii_letters, ascii_lowercase, ascii_uppercase
from typing import Any, NamedTuple

import numpy as np

from gpugrad.apply import apply
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.graph.op import operation
from gpugrad.tensor import Tensor
from gpugrad.ufunc import call

__all__ = ["einsum", "einsum_view"]

_LETTERS = ascii_uppercase + ascii_lowercase  # NumPy's order of integer subscripts
_SMALL = 4096  # products; below it finding an order of contraction costs more than it saves


# ----------------------------------------------------------------------------- reading subscripts


def _letters(sublist: Any) -> str:
    """The subscripts that a list of integers and Ellipsis stands for."""
    if not isinstance(sublist, list | tuple):
        raise TypeError(f"einsum: got {type(sublist).__name__}, expected a list of subscripts")
    found = []
    for entry in sublist:
        if entry is Ellipsis:
            found.append("...")
            continue
        try:
            i = operator.index(entry)
        except TypeError:
            raise TypeError(
                f"einsum: got the subscript {entry!r} in a list, expected an int or Ellipsis"
            ) from None
        if not 0 <= i < len(_LETTERS):
            raise ValueError(f"einsum: got the subscript {i}, expected 0 to {len(_LETTERS) - 1}")
        found.append(_LETTERS[i])
    return "".join(found)


def _read(operands: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Subscripts as one string, and the arrays."""
    if not operands:
        raise ValueError("einsum: got nothing, expected subscripts and operands")
    if isinstance(operands[0], bytes):
        operands = (operands[0].decode(), *operands[1:])
    if isinstance(operands[0], str):
        if len(operands) == 1:
            raise ValueError("einsum: got subscripts alone, expected an operand for each term")
        return operands[0].replace(" ", ""), operands[1:]
    if len(operands) == 1:
        raise ValueError("einsum: got one operand, expected a list of subscripts after it")
    pairs = len(operands) // 2
    subscripts = ",".join(_letters(operands[2 * k + 1]) for k in range(pairs))
    if len(operands) % 2:
        subscripts += "->" + _letters(operands[-1])
    return subscripts, operands[: 2 * pairs : 2]


def _term(term: str, ndim: int | None, spare: str) -> str:
    """A term with its ellipsis written out in the last of the spare letters."""
    before, dots, after = term.partition("...")
    named = before + after
    for letter in named:
        if letter not in ascii_letters:
            raise ValueError(f"einsum: got {letter!r} in the subscripts {term!r}, expected letters")
    if ndim is None:
        return before + (spare if dots else "") + after
    hidden = ndim - len(named)
    if hidden < 0 or (hidden and not dots):
        raise ValueError(
            f"einsum: the subscripts {term!r} name {len(named)} axes, the operand has {ndim}"
        )
    return before + (spare[len(spare) - hidden :] if hidden else "") + after


@lru_cache(maxsize=1024)
def _explicit(subscripts: str, ndims: tuple[int, ...]) -> str:
    """The subscripts without ellipsis and with a result: "...j,jk" becomes "Aj,jk->Ak"."""
    inputs, arrow, result = subscripts.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise ValueError(
            f"einsum: the subscripts {subscripts!r} have {len(terms)} terms, "
            f"expected one for each of {len(ndims)} operands"
        )
    hidden = [
        ndim - len(term.replace("...", "")) for term, ndim in zip(terms, ndims) if "..." in term
    ]
    unused = [letter for letter in _LETTERS if letter not in subscripts]
    longest = max(hidden, default=0)
    if longest > len(unused):
        raise ValueError(f"einsum: {subscripts!r} needs more than {len(_LETTERS)} subscripts")
    spare = "".join(unused[:longest]) if longest > 0 else ""
    written = [_term(term, ndim, spare) for term, ndim in zip(terms, ndims)]
    if arrow:
        result = _term(result, None, spare)
        for letter in result:
            if result.count(letter) > 1:
                raise ValueError(f"einsum: the result of {subscripts!r} has {letter!r} twice")
            if not any(letter in term for term in written):
                raise ValueError(
                    f"einsum: the result of {subscripts!r} has {letter!r}, which no operand has"
                )
    else:
        counts = Counter("".join(written))
        once = sorted(k for k, n in counts.items() if n == 1 and k not in spare)
        result = spare + "".join(once)
    return f"{','.join(written)}->{result}"


# ------------------------------------------------------------------------------------ derivative


class _Plan(NamedTuple):
    """How the cotangent of one operand is summed and completed.

    Attributes
    ----------
    subscripts : str
        Of the cotangent of the result and the other operands, to the axes they determine.
    optimize : bool
        Whether an order of contraction is worth looking for.
    shape : tuple of int
        In which that sum is laid out: one axis for each of the operand's, of length 1 where it is
        to be repeated, or where a diagonal is to be filled in.
    diagonals : tuple of (int, int)
        Pairs of axes off whose diagonal the cotangent is 0.
    """

    subscripts: str
    optimize: bool
    shape: tuple[int, ...]
    diagonals: tuple[tuple[int, int], ...]


@lru_cache(maxsize=1024)
def _plan(subscripts: str, i: int, shapes: tuple[tuple[int, ...], ...]) -> _Plan:
    inputs, _, result = subscripts.partition("->")
    terms = inputs.split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes):
        for letter, n in zip(term, shape):
            if n != 1 or letter not in sizes:
                sizes[letter] = n
    others = [term for k, term in enumerate(terms) if k != i]
    known = {letter: sizes[letter] for letter in result}
    for k, term in enumerate(terms):
        for letter, n in zip(term, shapes[k]):
            if k != i and (n != 1 or letter not in known):
                known[letter] = n
    own = ""
    first: dict[str, int] = {}
    laid_out, diagonals = [], []
    for axis, (letter, n) in enumerate(zip(terms[i], shapes[i])):
        if letter in first:
            laid_out.append(1)
            diagonals.append((first[letter], axis))
            continue
        first[letter] = axis
        if letter in known and (n != 1 or sizes[letter] == 1):
            own += letter
            laid_out.append(known[letter])
        else:
            laid_out.append(1)
    return _Plan(
        f"{','.join([result, *others])}->{own}",
        len(terms) > 2 or prod(sizes.values()) > _SMALL,
        tuple(laid_out),
        tuple(diagonals),
    )


def _on_diagonals(xp: Any, g: Any, x: Any, diagonals: tuple[tuple[int, int], ...]) -> Any:
    """`g` where the indices of each pair of axes of `x` are equal, 0 elsewhere."""
    raw = namespace_of(get_array_module(x))
    mask = None
    for first, second in diagonals:
        n, ndim = x.shape[first], x.ndim
        shape = tuple(n if axis in (first, second) else 1 for axis in range(ndim))
        pair = raw.reshape(raw.eye(n, dtype=np.bool_), shape)
        mask = pair if mask is None else mask & pair
    return xp.where(mask, g, 0)


def _rule(i: int) -> Any:
    def rule(xp: Any, g: Any, y: Any, *xs: Any, subscripts: str, optimize: Any = False) -> Any:
        plan = _plan(subscripts, i, tuple(np.shape(x) for x in xs))
        factors = (g, *xs[:i], *xs[i + 1 :])
        g = xp.einsum(plan.subscripts, *factors, optimize=plan.optimize)
        g = xp.reshape(g, plan.shape)
        return _on_diagonals(xp, g, xs[i], plan.diagonals) if plan.diagonals else g

    return rule


def _size(x: Any) -> int:
    return prod(np.shape(x))


@operation("einsum", variadic=_rule)
def EINSUM(xp: Any, *xs: Any, subscripts: str, optimize: Any) -> Any:
    if optimize is False and len(xs) == 2 and _size(xs[0]) * _size(xs[1]) > _SMALL**2:
        optimize = True  # of two operands there is one order: this lets NumPy use BLAS
    return xp.einsum(subscripts, *xs, optimize=optimize)


@operation("einsum_view", _rule(0), may_view=True)
def EINSUM_VIEW(xp: Any, x: Any, *, subscripts: str) -> Any:
    return xp.einsum(subscripts, x)


def einsum_view(x: Any, *, subscripts: str, constant: bool | None = None) -> Tensor:
    """`x` with its axes rearranged and diagonals taken, by explicit subscripts: a view."""
    return apply(EINSUM_VIEW, (x,), {"subscripts": subscripts}, constant=constant)


def einsum(
    *operands: Any, optimize: Any = False, out: Any = None, constant: bool | None = None
) -> Tensor:
    """Sum products of elements over named axes, by Einstein's convention.

    Parameters
    ----------
    *operands : str and array_like, or array_like and list in turn
        ``einsum("ij,jk->ik", a, b)`` or ``einsum(a, [0, 1], b, [1, 2], [0, 2])``; see
        :func:`numpy.einsum`. Without ``->`` the result has the subscripts that occur once, in
        alphabetic order. An ellipsis stands for the axes not named. Axes of length 1 broadcast.
    optimize : bool, "greedy", "optimal" or list, optional
        The order of contraction of the value; the derivatives look for a good one themselves.
    out : Tensor or array, optional
    constant : bool, optional

    Returns
    -------
    Tensor
        Of one operand whose axes are only rearranged, or reduced to diagonals: a view of it.

    Raises
    ------
    ValueError
        Subscripts that do not fit the operands, or lengths that differ.
    TypeError
        A subscript in a list is neither an int nor Ellipsis.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> trace = gg.einsum("ii", x)
    >>> trace.backward()
    >>> x.grad
    array([[1., 0.],
           [0., 1.]])
    """
    subscripts, xs = _read(operands)
    ndims = tuple(x.ndim if hasattr(x, "ndim") else np.ndim(x) for x in xs)
    subscripts = _explicit(subscripts, ndims)
    term, _, result = subscripts.partition("->")
    params = {"subscripts": subscripts, "optimize": optimize}
    try:
        if len(xs) == 1 and out is None and set(term) == set(result):
            return einsum_view(xs[0], subscripts=subscripts, constant=constant)
        return call(EINSUM, xs, params, out=out, constant=constant)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        shapes = ", ".join(str(np.shape(x)) for x in xs)
        raise ValueError(f"einsum: {subscripts!r} of shapes {shapes}: {error}") from None
