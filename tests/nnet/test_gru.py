"""The gated recurrent unit against mygrad, whose gru is compiled, and against small operations."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import LayerParameterError
from gpugrad.graph.vertex import Vertex
from gpugrad.nnet.layers.gru import gru
from gpugrad.testing import check_grads
from gpugrad.views import vertex_of

NAMES = ("X", "Uz", "Wz", "bz", "Ur", "Wr", "br", "Uh", "Wh", "bh")
T, N, C, D = 5, 3, 2, 4


def shapes(steps: int = T, n: int = N, c: int = C, d: int = D) -> list[tuple[int, ...]]:
    return [(steps, n, c), *[(c, d), (d, d), (d,)] * 3]


def arrays(seed: int = 0, dtype: Any = np.float64, **lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) / 2 for shape in shapes(**lengths)]


def step(s: Any, x: Any, uz: Any, wz: Any, bz: Any, ur: Any, wr: Any, br: Any, *h: Any) -> Any:
    """One step, in operations of the graph."""
    z = gg.sigmoid(x @ uz + s @ wz + bz)
    r = gg.sigmoid(x @ ur + s @ wr + br)
    uh, wh, bh = h
    return (1 - z) * gg.tanh(x @ uh + (r * s) @ wh + bh) + z * s


def compare(found: list[Any], expected: list[Any], tolerance: float = 1e-12) -> None:
    for name, a, b in zip(NAMES, found, expected, strict=True):
        a, b = (gg.asnumpy(x.grad) for x in (a, b))
        np.testing.assert_allclose(a, b, tolerance, tolerance, err_msg=name)


# --------------------------------------------------------------------------------- against mygrad


@pytest.fixture(scope="module")
def theirs() -> Iterator[Any]:
    """mygrad's gru, interpreted: to compile it takes half a minute for each dtype."""
    pytest.importorskip("numba", reason="mygrad's gru needs numba, which is not installed")
    pytest.importorskip("mygrad", reason="mygrad is not installed")
    module = importlib.import_module("mygrad.nnet.layers.gru")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                patch.setattr(module, name, value.py_func)
        yield module.gru


FIRST = np.random.default_rng(9).normal(size=(N, D))
CALLS = {
    "all": {},
    "no step back": {"bp_lim": 0},
    "two steps back": {"bp_lim": 2},
    "all steps back but one": {"bp_lim": T - 2},
    "all steps back": {"bp_lim": T - 1},
    "first state": {"s0": FIRST},
    "first state, broadcast": {"s0": FIRST[0]},
    "dropout": {"dropout": 0.4},
    "dropout of what is truncated": {"dropout": 0.4, "bp_lim": 1, "s0": FIRST},
}


@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_states_and_gradients_are_mygrads(options: dict, dtype: Any, theirs: Any):
    import mygrad

    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    cotangent = np.random.default_rng(1).normal(size=(T + 1, N, D)).astype(dtype)
    tensors, states = [], []
    for library, layer in ((gg, gru), (mygrad, theirs)):
        xs = [library.tensor(a) for a in arrays(dtype=dtype)]
        np.random.seed(5)
        y = layer(*xs, **options)
        y.backward(cotangent.copy())
        tensors.append(xs)
        states.append(y.data)
    assert states[0].dtype == states[1].dtype == dtype
    np.testing.assert_allclose(*states, tolerance, tolerance)
    compare(*tensors, tolerance)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {"s0": "tensor"},
        lambda a: {"s0": [[0.0] * D] * N},
        lambda a: {"s0": np.zeros((N, D + 1))},
        lambda a: {"bp_lim": -1},
        lambda a: {"bp_lim": T},
        lambda a: {"bp_lim": 1.0},
        lambda a: {"dropout": 1.0},
        lambda a: {"dropout": -0.1},
        lambda a: a.__setitem__(0, a[0][0]),
        lambda a: a.__setitem__(0, a[0][..., :-1]),
        lambda a: a.__setitem__(3, a[2]),
        lambda a: a.__setitem__(7, a[7][:, :-1]),
        lambda a: a.__setitem__(9, a[9][:-1]),
    ],
)
def test_wrong_arguments_raise_what_mygrad_raises(change: Any, theirs: Any):
    import mygrad

    def call(library: Any, layer: Any) -> None:
        given = arrays()
        options = change(given) or {}
        if isinstance(options.get("s0"), str):
            options["s0"] = library.tensor(FIRST)
        layer(*(library.tensor(a) for a in given), **options)

    with pytest.raises(Exception) as expected:
        call(mygrad, theirs)
    with pytest.raises(expected.type, match=r"^gru: .*, expected "):
        call(gg, gru)


# -------------------------------------------------------------------- against small operations


def test_gradients_are_those_of_single_steps(device: str):
    xs, ys = ([gg.tensor(a, device=device) for a in arrays(2)] for _ in range(2))
    first = gg.tensor(FIRST, constant=True, device=device)
    found = gru(*xs, first)
    states = [first]
    for t in range(T):
        states.append(step(states[-1], ys[0][t], *ys[1:]))
    cotangent = gg.tensor(np.random.default_rng(3).normal(size=found.shape), device=device).data
    np.testing.assert_allclose(gg.asnumpy(found), gg.asnumpy(gg.stack(states)), 1e-13, 1e-13)
    found.backward(cotangent)
    gg.stack(states).backward(cotangent)
    compare(xs, ys)


def test_without_a_step_back_the_gradient_takes_the_states_before_as_constants(device: str):
    xs, ys = ([gg.tensor(a, device=device) for a in arrays(4)] for _ in range(2))
    found = gru(*xs, bp_lim=0)
    total = 0.0
    for t in range(T):
        before = gg.tensor(found.data[t], constant=True)
        total = total + (step(before, ys[0][t], *ys[1:]) ** 2).sum()
    (found**2).sum().backward()
    total.backward()
    compare(xs, ys)


def test_gradients_of_three_orders():
    def f(*xs: gg.Tensor) -> gg.Tensor:
        return (gru(*xs, FIRST[:2, :2]) ** 2).sum()

    check_grads(f, tuple(arrays(6, steps=3, n=2, c=1, d=2)), order=3, rng=0)


def test_second_order_with_dropout():
    def f(*xs: gg.Tensor) -> gg.Tensor:
        np.random.seed(8)
        return (gru(*xs, dropout=0.3) ** 2).sum()

    check_grads(f, tuple(arrays(7, steps=3, n=2, c=2, d=3)), order=2, rng=0)


# ------------------------------------------------------------------------------------- promises


def test_a_long_sequence_is_one_operation_of_the_graph():
    xs = [gg.tensor(a) for a in arrays(steps=1000)]
    states = gru(*xs)
    assert [p for p in vertex_of(states).inputs if isinstance(p, Vertex)] == [
        vertex_of(x) for x in xs
    ]


def test_dropout_draws_the_same_masks_on_every_device(device: str):
    found = []
    for where in ("cpu", device):
        np.random.seed(2)
        found.append(gg.asnumpy(gru(*(gg.tensor(a, device=where) for a in arrays()), dropout=0.5)))
    np.testing.assert_allclose(*found, 1e-13, 1e-13)


def test_dropout_keeps_what_is_read_in_the_mean():
    """With weights that only read, the masks act on X Uh alone: its mean stays."""
    n, d, p = 400, 50, 0.25
    x, zero = np.full((1, n, 1), 0.5), np.zeros((d, d))
    none, one, off = np.zeros((1, d)), np.ones((1, d)), np.full(d, -1000.0)
    np.random.seed(0)
    states = gru(x, none, zero, off, none, zero, np.zeros(d), one, zero, np.zeros(d), dropout=p)
    read = np.arctanh(states.data[1])
    deviation = 0.5 * np.sqrt(p / (1 - p) / read.size)
    assert abs(read.mean() - 0.5) < 5 * deviation  # 5 standard deviations: one in a million
    assert set(read.round(12).ravel()) == {0.0, round(0.5 / (1 - p), 12)}


def test_constant_weights_get_no_gradient_and_the_others_theirs():
    xs, ys = ([gg.tensor(a) for a in arrays()] for _ in range(2))
    for i in (0, 2, 7):
        ys[i] = gg.tensor(ys[i].data, constant=True)
    gru(*xs).sum().backward()
    gru(*ys).sum().backward()
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if i in (0, 2, 7):
            assert y.grad is None
        else:
            np.testing.assert_array_equal(x.grad, y.grad)


def test_constant_result_and_a_first_state_that_would_take_a_gradient():
    states = gru(*arrays(), gg.tensor(FIRST), constant=True)
    assert states.constant
    assert states._vertex.params["saved"] == {}  # of no use without a gradient
    np.testing.assert_array_equal(states.data[0], FIRST)


def test_large_arguments_saturate_without_a_warning():
    xs = [gg.tensor(1e6 * a) for a in arrays()]
    states = gru(*xs)
    states.sum().backward()
    assert np.abs(states.data).max() <= 1
    assert all(np.isfinite(x.grad).all() for x in xs)


def test_half_precision_is_rounded_once():
    halves = [a.astype(np.float16) for a in arrays()]
    states = gru(*halves)
    assert states.dtype == np.float16
    singles = gru(*(a.astype(np.float32) for a in halves))
    np.testing.assert_array_equal(states.data, singles.data.astype(np.float16))


def test_nothing_but_integers_gives_constants_of_float64():
    given = [np.round(a).astype(int) for a in arrays()]
    states = gru(*map(gg.tensor, given))
    assert (states.dtype, states.constant) == (np.float64, True)
    np.testing.assert_array_equal(states.data, gru(*(a.astype(float) for a in given)).data)


def test_integers_are_read_as_floats():
    given = arrays()
    x = np.arange(T * N * C).reshape(T, N, C) % 3
    y = gru(x, *given[1:])
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y.data, gru(x.astype(float), *given[1:]).data)


@pytest.mark.parametrize("lengths", ({"steps": 0}, {"n": 0}, {"c": 0}, {"d": 0}))
def test_lengths_of_zero(lengths: dict, device: str):
    xs = [gg.tensor(a, device=device) for a in arrays(**lengths)]
    y = gru(*xs)
    assert y.shape == (1 + xs[0].shape[0], xs[0].shape[1], xs[3].shape[0])
    y.sum().backward()
    assert all(x.grad.shape == x.shape for x in xs)


def test_host_and_device_do_not_mix(cupy_standin: Any):
    xs = [gg.tensor(a, device="cuda") for a in arrays()]
    with pytest.raises(gg.DeviceMismatchError, match="gru"):
        gru(*xs, FIRST)
    xs[4] = gg.tensor(arrays()[4])
    with pytest.raises(gg.DeviceMismatchError, match="gru"):
        gru(*xs)


def test_settings_out_of_range_name_the_range():
    with pytest.raises(LayerParameterError, match="bp_lim is 5, expected an integer from 0 to 4"):
        gru(*arrays(), bp_lim=5)
    with pytest.raises(LayerParameterError, match=r"dropout is 1.0, expected a number in \[0, 1\)"):
        gru(*arrays(), dropout=1.0)
