"""Sums over named axes: any subscripts have NumPy's value, its errors and the right gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpugrad as gg
from tests.op_table import REFERENCE, Operand, Row, numerical_vjp
from tests.ops.matrices import assert_close, matrices, on


@st.composite
def sums(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts and shapes: letters twice in a term, lengths 1 that broadcast, ellipses, any
    letters in the result."""
    lengths = {letter: draw(st.integers(0, 3)) for letter in "abcd"}
    terms, shapes = [], []
    hidden: tuple[int, ...] = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    dots = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        letters = draw(st.text("abcd", max_size=3))
        # a letter has one length within a term
        stretched = {k: 1 if draw(st.integers(0, 4)) == 0 else lengths[k] for k in set(letters)}
        shape = [stretched[k] for k in letters]
        if dots and draw(st.booleans()):
            place = draw(st.integers(0, len(letters)))
            seen = hidden[draw(st.integers(0, len(hidden))) :]
            seen = tuple(1 if draw(st.integers(0, 4)) == 0 else n for n in seen)
            letters = f"{letters[:place]}...{letters[place:]}"
            shape[place:place] = seen
        terms.append(letters)
        shapes.append(tuple(shape))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        present = sorted(set(subscripts) & set(lengths))
        result = draw(st.lists(st.sampled_from(present), unique=True)) if present else []
        if "..." in subscripts:
            result.insert(draw(st.integers(0, len(result))), "...")
        subscripts += "->" + "".join(result)
    return subscripts, shapes


@given(case=sums(), seed=st.integers(0, 3), optimize=st.booleans())
def test_any_sum_has_numpys_value_and_the_right_gradient(case: Any, seed: int, optimize: bool):
    subscripts, shapes = case
    row = Row(
        subscripts,
        "einsum",
        lambda m, *xs: m.einsum(subscripts, *xs, optimize=optimize),
        tuple(map(Operand, shapes)),
    )
    host = row.draw(seed)
    expected = row.call(REFERENCE, *host)
    xs = [gg.tensor(x) for x in host]
    y = row.call(gg, *xs)
    assert_close(y, expected)
    g = np.random.default_rng(seed).uniform(0.5, 1.5, np.shape(expected))
    y.backward(g)
    for x, dx in zip(xs, numerical_vjp(row, host, g)):
        assert_close(x.grad, dx)


@given(case=sums())
def test_any_sum_has_second_derivatives(case: Any):
    subscripts, shapes = case
    xs = [gg.tensor(matrices(*shape, seed=i)) for i, shape in enumerate(shapes)]
    us = [matrices(*shape, seed=9 + i) for i, shape in enumerate(shapes)]
    places = range(len(xs))

    def f(*xs: gg.Tensor) -> gg.Tensor:
        return (gg.einsum(subscripts, *xs) ** 2).sum()

    def along(*xs: gg.Tensor) -> gg.Tensor:
        return sum((g * u).sum() for g, u in zip(gg.grad(f, places)(*xs), us))

    found = sum((g * u).sum() for g, u in zip(gg.grad(along, places)(*xs), us))
    # f(x + s u) is a polynomial in s of degree at most 6: its second derivative from 7 points
    steps = np.arange(-3.0, 4.0)
    values = [f(*(x + s * u for x, u in zip(xs, us))).item() for s in steps]
    curvature = 2 * np.polynomial.polynomial.polyfit(steps, values, 6)[2]
    scale = 1 + np.max(np.abs(values))
    assert_close(found, curvature, 1e-9 * scale, 1e-9 * scale)


def test_rearranged_axes_and_diagonals_are_views(device: str):
    x = on(device, matrices(3, 3))
    diagonal = gg.einsum("ii->i", x)
    assert diagonal.base is x
    diagonal[:] = 0.0
    assert_close(gg.trace(x), 0.0)
    (x * x).sum().backward()
    assert_close(diagonal.grad, np.zeros(3))
    assert gg.einsum("ij->j", x).base is None


def test_sum_over_named_axes_writes_into_out(device: str):
    a, b = matrices(2, 3), matrices(3, 2)
    x, y = on(device, a), on(device, b)
    out = on(device, np.zeros((2, 2))).data
    assert gg.einsum("ij,jk", x, y, out=out).data is out
    assert_close(out, a @ b)
    target = +on(device, np.zeros((2, 2)))
    assert gg.einsum("ij,jk", x, y, out=target) is target
    target.backward()
    assert_close(x.grad, np.ones((2, 2)) @ b.T)
    # what is a view without out is written there too
    turned = on(device, np.zeros((3, 2))).data
    assert gg.einsum("ij->ji", x, out=turned).data is turned
    assert_close(turned, a.T)


WRONG_SUMS = (
    (),
    (1,),
    ("ij",),
    ("i", np.ones((2, 2))),
    ("ij", 1.0),
    ("ij,jk", np.ones((2, 2))),
    ("i,", np.ones(2)),
    ("i-j", np.ones((2, 2))),
    ("i$", np.ones(2)),
    ("..i", np.ones(2)),
    ("...i...", np.ones((2, 2))),
    ("ij->ijj", np.ones((2, 2))),
    ("ij->k", np.ones((2, 2))),
    ("ij->i->j", np.ones((2, 2))),
    ("i,i", np.ones(2), np.ones(3)),
    ("ii->i", np.ones((2, 3))),
    ("ii", np.ones((1, 3))),
    (np.ones(2),),
    (np.ones(2), [0, 1]),
    (np.ones(2), [99]),
    (np.ones(2), ["a"]),
    (np.ones(2), [0], [1]),
    ([0], np.ones(2)),
)


@pytest.mark.parametrize("operands", WRONG_SUMS, ids=str)
def test_wrong_subscripts_raise_what_numpy_raises(operands: Any):
    with pytest.raises((ValueError, TypeError)) as theirs:
        np.einsum(*operands)
    with pytest.raises(theirs.type, match="einsum"):
        gg.einsum(*operands)
