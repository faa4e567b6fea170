"""Convolution's bodies and its launcher for the host, against SciPy, torch and each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.signal

from gpugrad.backend.twin import use_kernels
from gpugrad.primitives import conv as module
from gpugrad.primitives.conv import conv, conv_input_grad, conv_weight_grad, output_lengths

Lengths = tuple[int, ...]


class Case(NamedTuple):
    """A convolution of N images."""

    N: int
    C: int
    F: int
    shape: Lengths
    window: Lengths
    stride: Lengths
    padding: Lengths
    dilation: Lengths
    groups: int = 1

    @property
    def layout(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups")
        return {name: getattr(self, name) for name in names}

    @property
    def out(self) -> Lengths:
        return output_lengths(self.shape, self.window, self.stride, self.padding, self.dilation)

    def arrays(self, dtype: Any = np.float64, integers: bool = False) -> list[np.ndarray]:
        """x, w and g."""
        rng = np.random.default_rng(sum(self.shape) + self.C + self.F)
        shapes = (
            (self.N, self.C, *self.shape),
            (self.F, self.C // self.groups, *self.window),
            (self.N, self.F, *self.out),
        )
        draw = (lambda s: rng.integers(-3, 4, s)) if integers else (lambda s: rng.normal(size=s))
        return [np.asarray(draw(shape)).astype(dtype) for shape in shapes]

    def run(self, x: Any, w: Any, g: Any) -> tuple[Any, Any, Any]:
        """All three primitives."""
        return (
            conv(x, w, **self.layout),
            conv_input_grad(g, w, shape=self.shape, **self.layout),
            conv_weight_grad(g, x, window=self.window, **self.layout),
        )


CASES = {
    "one of everything": Case(1, 1, 1, (1,), (1,), (1,), (0,), (1,)),
    "no images": Case(0, 3, 2, (5, 4), (2, 2), (1, 1), (0, 0), (1, 1)),
    "no channels": Case(2, 0, 2, (3,), (2,), (1,), (0,), (1,)),
    "no filters": Case(2, 2, 0, (3,), (2,), (1,), (0,), (1,)),
    "1-wide images": Case(2, 3, 4, (6, 1), (3, 1), (1, 1), (0, 0), (1, 1)),
    "window as large as the image": Case(3, 17, 2, (3, 4), (3, 4), (1, 1), (0, 0), (1, 1)),
    "one place along an axis": Case(2, 3, 4, (5, 4), (5, 2), (3, 1), (0, 0), (1, 1)),
    "window of 1": Case(2, 17, 3, (4, 3), (1, 1), (1, 1), (0, 0), (1, 1)),
    "window of 1, strided": Case(2, 3, 3, (5, 5), (1, 1), (2, 2), (0, 0), (1, 1)),
    "stride over the window": Case(2, 3, 4, (11,), (2,), (4,), (0,), (1,)),
    "stride leaves a rest": Case(2, 3, 4, (10, 9), (3, 2), (4, 3), (0, 1), (1, 1)),
    "dilation over the image": Case(1, 2, 3, (3, 3), (2, 2), (1, 1), (2, 3), (5, 4)),
    "padding over the window": Case(1, 2, 3, (2, 3), (2, 1), (1, 2), (3, 2), (1, 1)),
    "all of it": Case(3, 4, 6, (9, 8), (3, 2), (2, 1), (1, 2), (1, 2), groups=2),
    "a filter for each channel": Case(2, 5, 5, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1), groups=5),
    "1-d": Case(2, 3, 5, (17,), (4,), (1,), (2,), (2,)),
    "3-d": Case(2, 3, 2, (5, 4, 6), (2, 3, 2), (1, 2, 1), (0, 1, 1), (2, 1, 1)),
    "4-d": Case(1, 2, 2, (3, 4, 3, 3), (2, 1, 2, 3), (1, 2, 1, 1), (0, 0, 1, 1), (1, 1, 1, 1)),
}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def written_out(case: Case, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The definition, place by place: of every place the window there, times every filter."""
    borders = ((0, 0), (0, 0), *((p, p) for p in case.padding))
    x = np.pad(x, borders)
    y = np.zeros((case.N, case.F, *case.out), np.result_type(x, w))
    channels, filters = w.shape[1], max(case.F // case.groups, 1)
    for f in range(case.F):
        first = f // filters * channels
        for o in np.ndindex(*case.out):
            spans = zip(o, case.window, case.stride, case.dilation, strict=True)
            where = tuple(slice(i * s, i * s + (k - 1) * d + 1, d) for i, k, s, d in spans)
            window = x[(slice(None), slice(first, first + channels), *where)]
            y[(slice(None), f, *o)] = (window * w[f]).reshape(case.N, w[f].size).sum(1)
    return y


@pytest.fixture(params=["launchers", "small blocks", "bodies"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How the primitives are computed; blocks so small that most cases have several."""
    if request.param == "small blocks":
        monkeypatch.setattr(module, "BLOCK_VALUES", 60)
    if request.param == "bodies":
        with use_kernels(False):
            yield request.param
    else:
        yield request.param


@each_case
def test_conv_is_its_definition(case: Case, way: str, as_device: Any, host: Any):
    x, w, _ = case.arrays(integers=True)
    y = conv(as_device(x), as_device(w), **case.layout)
    np.testing.assert_array_equal(host(y), written_out(case, x, w))


@each_case
def test_the_other_two_are_its_adjoints(case: Case, way: str, as_device: Any, host: Any):
    """<conv(x, w), g> = <x, conv_input_grad(g, w)> = <w, conv_weight_grad(g, x)>, exactly."""
    arrays = case.arrays(integers=True)
    x, w, g = arrays
    y, xg, wg = (host(a) for a in case.run(*map(as_device, arrays)))
    assert (xg.shape, wg.shape) == (x.shape, w.shape)
    assert np.sum(y * g) == np.sum(x * xg) == np.sum(w * wg)


@each_case
def test_adjoints_element_by_element(case: Case, way: str):
    """They are linear in g: of each unit vector the conv of the others' unit vectors is read."""
    x, w, g = case.arrays(integers=True)
    _, xg, wg = case.run(x, w, g)
    rng = np.random.default_rng(0)
    for a, grad, probe in (
        (x, xg, lambda unit: conv(unit, w, **case.layout)),
        (w, wg, lambda unit: conv(x, unit, **case.layout)),
    ):
        for i in rng.permutation(a.size)[:12]:
            unit = np.zeros(a.size)
            unit[i] = 1
            assert np.sum(probe(unit.reshape(a.shape)) * g) == grad.ravel()[i]


@pytest.mark.parametrize(
    "shape, window", [((9,), (4,)), ((7, 5), (3, 2)), ((4, 5, 6), (2, 3, 1)), ((6, 1), (2, 1))]
)
def test_conv_equals_scipys_correlate(shape: Lengths, window: Lengths, way: str):
    ones, zeros = (1,) * len(shape), (0,) * len(shape)
    case = Case(2, 3, 4, shape, window, ones, zeros, ones)
    x, w, _ = case.arrays()
    y = conv(x, w, **case.layout)
    for n, f in itertools.product(range(case.N), range(case.F)):
        expected = scipy.signal.correlate(x[n], w[f], mode="valid", method="direct")[0]
        np.testing.assert_allclose(y[n, f], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", (1, 2, 3))
def test_all_three_equal_torchs(n: int, way: str):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(n)
    for _ in range(25):
        groups = int(rng.choice([1, 1, 2, 3]))
        window, stride, dilation, padding = (
            tuple(int(i) for i in rng.integers(low, high, n))
            for low, high in ((1, 5), (1, 4), (1, 3), (0, 3))
        )
        least = [
            max(1, (k - 1) * d + 1 - 2 * p)
            for k, d, p in zip(window, dilation, padding, strict=True)
        ]
        shape = tuple(m + int(rng.integers(0, 6)) for m in least)
        channels, filters = int(rng.choice([1, 3, 5])) * groups, int(rng.integers(1, 4)) * groups
        batch = int(rng.integers(1, 4))
        case = Case(batch, channels, filters, shape, window, stride, padding, dilation, groups)
        x, w, g = case.arrays()
        tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
        ty = getattr(torch.nn.functional, f"conv{n}d")(tx, tw, **case.layout)
        ty.backward(torch.tensor(g))
        for found, expected in zip(case.run(x, w, g), (ty.detach(), tx.grad, tw.grad), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-12)


@each_case
@pytest.mark.parametrize("dtype", (np.float16, np.float32, np.float64))
def test_dtype_is_kept_and_sums_are_rounded_once(
    case: Case, dtype: Any, way: str, as_device: Any, host: Any
):
    arrays = [(a / 4).astype(dtype) for a in case.arrays(integers=True)]
    exact = case.run(*(a.astype(np.float64) for a in arrays))
    for found, expected in zip(case.run(*map(as_device, arrays)), exact, strict=True):
        assert found.dtype == dtype
        # multiples of 1/16 below 2^15: every sum is exact in float32, not so in float16
        np.testing.assert_array_equal(host(found), expected.astype(dtype))


def test_float16_is_added_up_in_float32(way: str, as_device: Any, host: Any):
    # between 2048 and 4096 float16 has the even numbers alone: 2048 + 1 + 1 would stay 2048
    numbers, ones = (as_device(np.array(a, np.float16)) for a in ([2048, 1, 1], [1, 1, 1]))
    layout = {"stride": (1,), "padding": (0,), "dilation": (1,)}
    x = conv_input_grad(ones.reshape(1, 1, 3), numbers.reshape(1, 1, 3), shape=(5,), **layout)
    assert host(x)[0, 0, 2] == 2050
    w = conv_weight_grad(ones.reshape(3, 1, 1), numbers.reshape(3, 1, 1), window=(1,), **layout)
    assert host(w) == 2050


@pytest.mark.parametrize(
    "dtypes", ((np.float32, np.float64), (np.float16, np.float32), (int, float))
)
def test_dtypes_are_promoted_as_numpy_does(dtypes: Any, way: str, as_device: Any, host: Any):
    case = CASES["all of it"]
    for order in (dtypes, dtypes[::-1]):
        x, w, g = case.arrays(integers=True)
        mixed = as_device(x, order[0]), as_device(w, order[1]), as_device(g, order[0])
        y, xg, wg = case.run(*mixed)
        assert y.dtype == xg.dtype == np.result_type(*order)
        assert wg.dtype == order[0]
        np.testing.assert_array_equal(host(y), written_out(case, x, w))


@pytest.mark.parametrize("name", ("all of it", "window of 1", "3-d", "1-wide images"))
def test_memory_may_be_laid_out_anyhow(name: str, way: str, as_device: Any, host: Any):
    case = CASES[name]
    arrays = case.arrays(integers=True)
    expected = case.run(*arrays)

    def backwards(a: np.ndarray) -> Any:
        wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan)
        wide[..., ::-2] = a
        return as_device(wide)[..., ::-2]

    def transposed(a: np.ndarray) -> Any:
        return as_device(a.T.copy()).T

    for lay in (backwards, transposed):
        for found, wanted in zip(case.run(*map(lay, arrays)), expected, strict=True):
            np.testing.assert_array_equal(host(found), wanted)


def test_operands_are_not_written_to_and_results_are_contiguous(way: str):
    for case in CASES.values():
        arrays = case.arrays()
        for a in arrays:
            a.flags.writeable = False
        for result in case.run(*arrays):
            assert result.flags.c_contiguous
            assert not any(np.shares_memory(result, a) for a in arrays)


def test_nan_and_infinity_reach_the_places_that_see_them_only(way: str):
    case = Case(1, 1, 1, (7,), (2,), (1,), (0,), (1,))
    x, w, g = case.arrays()
    x[0, 0, 3] = np.nan
    g[0, 0, 5] = np.inf
    y, xg, _ = case.run(x, w, g)
    assert np.flatnonzero(np.isnan(y)).tolist() == [2, 3]
    assert np.flatnonzero(np.isinf(xg)).tolist() == [5, 6]


def test_every_call_gives_the_same_bits():
    case = Case(5, 3, 4, (13, 11), (3, 3), (1, 1), (1, 1), (1, 1))
    arrays = case.arrays(np.float32)
    first = case.run(*arrays)
    for _ in range(3):
        for again, before in zip(case.run(*arrays), first, strict=True):
            assert again.tobytes() == before.tobytes()


def test_large_images_are_cut_into_blocks():
    """The columns of one image alone would take 32 times the size of a block."""
    case = Case(2, 8, 3, (150, 150), (5, 5), (1, 1), (2, 2), (1, 1))
    arrays = case.arrays()
    blocks = list(module._blocks(case.N, case.C * 25, case.out))
    assert len(blocks) > 2 * 32
    with use_kernels(False):
        expected = case.run(*arrays)
    for found, wanted in zip(case.run(*arrays), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-10)
