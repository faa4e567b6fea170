"""Pooling, gather and scatter: kernels/pool.cu equals the bodies bit for bit, wherever it runs."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from gpugrad.backend.array_module import asnumpy, to_device
from gpugrad.backend.twin import use_kernels
from gpugrad.backend.vocabulary import numpy_namespace
from gpugrad.errors import ParameterError
from gpugrad.ops.pooling import max_pool_of
from gpugrad.primitives import pool, pool_cuda
from gpugrad.primitives.pool_cuda import Windows, gather_call, windows_call
from gpugrad.tensor import Tensor
from tests.cuda_on_host import nvrtc
from tests.cuda_on_host.compiled import assert_compiles, taken_by_representatives
from tests.cuda_on_host.kernels import host_kernel
from tests.primitives.gibbs_cases import TYPES, from_bfloat16, to_bfloat16

BY_WINDOWS = ("max_pool", "scatter_windows", "mean_pool", "mean_pool_grad")
INSTANCES = (
    *(f"{k}<{t}, int, {lines}>" for k in BY_WINDOWS for t in TYPES.values() for lines in (1, 4)),
    *(f"{k}<float, i64, {lines}>" for k in BY_WINDOWS for lines in (1, 4)),
    *(f"gather<{t}, {lines}>" for t in TYPES.values() for lines in (1, 4)),
    *(f"add_runs<{t}>" for t in TYPES.values()),
)
FILLINGS = ("numbers", "ties", "all equal", "nan first", "nan last", "all nan", "-inf", "zeros")


class Case(NamedTuple):
    lead: tuple[int, ...]
    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def out(self):
        return pool.output_lengths(self.size, self.window, self.stride)

    @property
    def windows(self):
        return Windows(math.prod(self.lead), self.size, self.out, self.window, self.stride)

    @property
    def how(self):
        return {"window": self.window, "stride": self.stride}


CASES = {
    "side by side": Case((2, 3), (6, 8), (2, 2), (2, 2)),
    "overlapping": Case((2, 2), (8, 9), (3, 3), (1, 2)),
    "image one wide": Case((5,), (7, 1), (3, 1), (2, 1)),
    "image one high": Case((3, 2), (1, 13), (1, 4), (1, 3)),
    "window is the image": Case((9,), (4, 5), (4, 5), (1, 1)),
    "window of one": Case((3,), (5, 5), (1, 1), (1, 1)),
    "stride over window": Case((5,), (11, 9), (2, 1), (3, 4)),
    "stride over image": Case((3,), (5, 4), (5, 2), (2**40, 3)),
    "a rest at the end": Case((4,), (10, 11), (3, 4), (3, 4)),
    "one axis": Case((6,), (37,), (5,), (2,)),
    "one long line": Case((), (300,), (4,), (1,)),
    "one element": Case((1,), (1,), (1,), (1,)),
    "three axes": Case((2, 1), (4, 5, 6), (2, 3, 2), (2, 1, 3)),
    "three axes, overlapping": Case((3,), (3, 4, 5), (2, 2, 3), (1, 1, 1)),
    "more lines than threads": Case((130,), (2, 2), (2, 2), (2, 2)),
}
by_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def values(shape: tuple[int, ...], filling: str = "numbers", seed: int = 0) -> np.ndarray:
    """Numbers that are exact in every type: with ties, nan, infinities and signed zeros, if asked.

    "first" and "last" are those of each line.
    """
    rng = np.random.default_rng([seed, *shape])
    x = rng.permutation(math.prod(shape)).astype(np.float64).reshape(shape) % 251 - 125
    if filling == "ties":
        x %= 3
    elif filling == "all equal":
        x[...] = -7
    elif filling == "-inf":
        x = np.where(rng.random(shape) < 0.7, -np.inf, x)
    elif filling == "all nan":
        x[...] = np.nan
    elif filling == "zeros":
        x = np.where(rng.random(shape) < 0.5, 0.0, -0.0)
    elif filling.startswith("nan") and x.size:
        x[..., 0 if filling == "nan first" else -1] = np.nan
    return x


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    """`x` in the type, which for bfloat16 is the bits of its numbers."""
    return to_bfloat16(x) if dtype == "bfloat16" else x.astype(dtype)


def by_body(primitive: Any, dtype: str, x: np.ndarray, *rest: Any, **how: Any) -> Any:
    """The body's result for `x` rounded to the type; for bfloat16 computed in float32."""
    exact = from_bfloat16(to_bfloat16(x)) if dtype == "bfloat16" else x.astype(dtype)
    return primitive.body(numpy_namespace, exact, *rest, **how)


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bit for bit, signs of zeros included; one nan is as good as another."""
    if got.dtype == np.uint16:
        got = from_bfloat16(got)
        expected = np.where(np.isnan(expected), expected, from_bfloat16(to_bfloat16(expected)))
    assert got.dtype == expected.dtype and got.shape == expected.shape
    number = ~np.isnan(expected)
    bits = f"u{got.itemsize}"
    alike = np.ascontiguousarray(got).view(bits) == np.ascontiguousarray(expected).view(bits)
    return bool((np.isnan(got) == ~number).all() and alike[number].all())


def run(
    call: pool_cuda.Call,
    *,
    grid: int = 2,
    block: int = 64,
    sanitize: bool = False,
    reversed_order: bool = False,
) -> None:
    """Launch a kernel on the CPU."""
    how = {"sanitize": sanitize, "reversed_order": reversed_order}
    kernel = host_kernel("pool.cu", call.name, INSTANCES, **how)
    kernel((grid,), (block,), call.arguments)


class Kernels:
    """The kernels on the CPU behind the signatures of the primitives, for one type and case."""

    def __init__(self, case: Case, dtype: str, index: str = "int", **launch: Any) -> None:
        self.case, self.launch, self.index = case, launch, index
        self.type_name = TYPES[dtype]

    def by_windows(self, kernel: str, *arrays: Any) -> None:
        how = {"type_name": self.type_name, "index": self.index}
        run(windows_call(kernel, arrays, self.case.windows, **how), **self.launch)

    def empty(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        # 77: what is not written shows
        return np.full((*self.case.lead, *shape), 77, x.dtype)

    def max_pool(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = self.empty(x, self.case.out)
        indices = np.full(y.shape, -1, np.int64)
        self.by_windows("max_pool", x, y, indices)
        return y, indices

    def max_pool_values(self, x: np.ndarray) -> np.ndarray:
        y = self.empty(x, self.case.out)
        self.by_windows("max_pool", x, y, 0)
        return y

    def max_pool_indices(self, x: np.ndarray) -> np.ndarray:
        indices = np.full((*self.case.lead, *self.case.out), -1, np.int64)
        self.by_windows("max_pool", x, 0, indices)
        return indices

    def gather(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        y = np.full(indices.shape, 77, x.dtype)
        lines = math.prod(self.case.lead)
        run(gather_call(x, indices, y, lines, type_name=self.type_name), **self.launch)
        return y

    def scatter_windows(self, g: np.ndarray, indices: np.ndarray) -> np.ndarray:
        x = self.empty(g, self.case.size)
        self.by_windows("scatter_windows", g, indices, x)
        return x

    def add_runs(self, g: np.ndarray, indices: np.ndarray) -> np.ndarray:
        lines, length = math.prod(self.case.lead), math.prod(self.case.size)
        keys = (indices.reshape(lines, -1) + np.arange(lines)[:, None] * length).ravel()
        order = np.argsort(keys, kind="stable")
        x = np.zeros((*self.case.lead, *self.case.size), g.dtype)
        arguments = (keys[order], order, g, x, np.int64(keys.size))
        run(pool_cuda.Call(f"add_runs<{self.type_name}>", keys.size, arguments), **self.launch)
        return x

    def mean_pool(self, x: np.ndarray) -> np.ndarray:
        y = self.empty(x, self.case.out)
        self.by_windows("mean_pool", x, y)
        return y

    def mean_pool_grad(self, g: np.ndarray) -> np.ndarray:
        x = self.empty(g, self.case.size)
        self.by_windows("mean_pool_grad", g, x)
        return x


def assert_kernels_equal_the_bodies(case: Case, dtype: str, filling: str, **how: Any) -> None:
    kernels = Kernels(case, dtype, **how)
    x = values((*case.lead, *case.size), filling)
    # thirds: what a sum of them is depends on the order
    g = values((*case.lead, *case.out), filling, seed=1) / 3
    y, indices = kernels.max_pool(stored(x, dtype))
    expected, expected_indices = by_body(pool.max_pool, dtype, x, **case.how)
    assert same(y, expected)
    assert np.array_equal(indices, expected_indices)
    assert same(kernels.max_pool_values(stored(x, dtype)), expected)
    assert np.array_equal(kernels.max_pool_indices(stored(x, dtype)), expected_indices)
    assert same(kernels.gather(stored(x, dtype), indices), expected)
    added = by_body(pool.scatter, dtype, g, indices, shape=case.size)
    assert same(kernels.scatter_windows(stored(g, dtype), indices), added)
    assert same(kernels.add_runs(stored(g, dtype), indices), added)
    means = by_body(pool.mean_pool, dtype, x, **case.how)
    assert same(kernels.mean_pool(stored(x, dtype)), means)
    shares = by_body(pool.mean_pool_grad, dtype, g, shape=case.size, **case.how)
    assert same(kernels.mean_pool_grad(stored(g, dtype)), shares)


# ---- the kernels, compiled and on the CPU -------------------------------------------------------


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_kernels_compile_without_a_gpu(architecture):
    assert_compiles(architecture, "pool.cu", INSTANCES)


def test_kernels_keep_everything_in_registers_and_leave_room_for_512_threads():
    """A multiprocessor has 65536 registers."""
    found = taken_by_representatives("pool.cu")
    assert all(taken.stack == taken.spill_stores == 0 for taken in found.values())
    assert max(taken.registers for taken in found.values()) <= 128


@by_case
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("filling", ["numbers", "ties"])
def test_kernels_on_the_cpu_equal_the_bodies(case, dtype, filling):
    assert_kernels_equal_the_bodies(case, dtype, filling)


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["overlapping", "a rest at the end", "three axes"])
def test_nan_infinities_and_zeros_are_chosen_as_the_bodies_choose(name, dtype, filling):
    assert_kernels_equal_the_bodies(CASES[name], dtype, filling)


@by_case
def test_wide_indices_give_the_same(case):
    assert_kernels_equal_the_bodies(case, "float32", "ties", index="i64")


@pytest.mark.parametrize("reversed_order", [False, True])
@pytest.mark.parametrize(("grid", "block"), [(1, 1), (1, 32), (5, 96), (40, 64)])
@pytest.mark.parametrize("name", ["overlapping", "one long line", "more lines than threads"])
def test_kernels_do_not_depend_on_the_launch_shape_or_order(name, grid, block, reversed_order):
    launch = {"grid": grid, "block": block, "reversed_order": reversed_order}
    assert_kernels_equal_the_bodies(CASES[name], "float32", "ties", **launch)


def test_sums_are_added_up_in_the_stated_order():
    """One element meets 1, 2^24 and 1, of which only the order tells what remains."""
    case = Case((1,), (5,), (3,), (1,))
    g = np.array([[1, 2**24, 1]], np.float32)
    middle = np.full((1, 3), 2)
    kernels = Kernels(case, "float32")
    for x in (kernels.scatter_windows(g, middle), kernels.add_runs(g, middle)):
        assert x[0, 2] == np.float32(np.float32(1 + 2.0**24) + np.float32(1))
        assert x[0, 2] != np.float32(2 + 2.0**24)
    g = np.array([[3, 3 * 2**24, 3 * 2**24 * -1]], np.float32)
    # from the last place to the first: the small one is added to nothing
    assert kernels.mean_pool_grad(g)[0, 2] == 1
    assert kernels.mean_pool_grad(g[:, ::-1].copy())[0, 2] == 0


@by_case
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_kernels_stay_inside_their_arrays(case, dtype):
    assert_kernels_equal_the_bodies(case, dtype, "ties", sanitize=True)


@pytest.mark.parametrize("kernel", ["max_pool", "scatter_windows", "mean_pool", "mean_pool_grad"])
def test_sanitizer_sees_a_line_too_many(kernel):
    case = CASES["overlapping"]
    kernels = Kernels(case, "float32", sanitize=True)
    kernels.case = case._replace(lead=(5,))  # the arrays have four
    given, result = case.size, case.out
    if kernel in pool_cuda.OVER_ELEMENTS:
        given, result = result, given
    x = np.zeros((4, *given), np.float32)
    arrays = [x, np.zeros((5, *result), np.float32)]
    if kernel == "max_pool":
        arrays.append(0)
    elif kernel == "scatter_windows":
        arrays.insert(1, np.zeros((5, *given), np.int64))
    with pytest.raises(RuntimeError, match="heap-buffer-overflow"):
        kernels.by_windows(kernel, *arrays)


def test_lines_that_32_bits_cannot_index_get_wide_indices():
    def name(length: int) -> str:
        of = Windows(1, (length,), (length // 2,), (2,), (2,))
        return windows_call("mean_pool", (np.zeros(1), np.zeros(1)), of).name

    assert name(2**30 - 1) == "mean_pool<double, int, 1>"
    assert name(2**30) == "mean_pool<double, i64, 1>"


# ---- the launchers, end to end ------------------------------------------------------------------


def assert_primitives_equal_the_bodies(case, dtype, filling, as_device, host):
    x = values((*case.lead, *case.size), filling).astype(dtype)
    g = (values((*case.lead, *case.out), filling, seed=1) / 3).astype(dtype)
    xd, gd = as_device(x), as_device(g)
    y, indices = pool.max_pool(xd, **case.how)
    expected, expected_indices = by_body(pool.max_pool, dtype, x, **case.how)
    assert same(host(y), expected)
    assert np.array_equal(host(indices), expected_indices) and indices.dtype == np.int64
    assert np.array_equal(host(pool.max_pool_indices(xd, y, **case.how)), expected_indices)
    values_alone = host(pool.max_pool_values(xd, **case.how))
    # without indices it is not said which of 0 and -0 is taken
    assert np.array_equal(values_alone, expected, equal_nan=True)
    assert same(host(pool.gather(xd, indices, n=len(case.size))), expected)
    added = by_body(pool.scatter, dtype, g, expected_indices, shape=case.size)
    assert same(host(pool.scatter(gd, indices, shape=case.size)), added)
    assert same(host(pool.scatter(gd, indices, shape=case.size, **case.how)), added)
    means = by_body(pool.mean_pool, dtype, x, **case.how)
    assert same(host(pool.mean_pool(xd, **case.how)), means)
    shares = by_body(pool.mean_pool_grad, dtype, g, shape=case.size, **case.how)
    assert same(host(pool.mean_pool_grad(gd, shape=case.size, **case.how)), shares)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", ["side by side", "overlapping", "one axis", "three axes"])
def test_primitives_on_every_library(name, kernels, as_device, host):
    with use_kernels(kernels):
        assert_primitives_equal_the_bodies(CASES[name], "float32", "ties", as_device, host)


@pytest.mark.parametrize(
    "case",
    [
        Case((0, 3), (6, 8), (2, 2), (2, 2)),
        Case((2, 0), (5,), (3,), (1,)),
        Case((2,), (3, 2, 3, 2), (2, 1, 2, 2), (1, 1, 1, 1)),
        Case((3,), (), (), ()),
    ],
    ids=["batch of none", "no channels", "four axes", "no axes"],
)
def test_primitives_on_every_library_beyond_what_the_kernels_do(case, as_device, host):
    assert_primitives_equal_the_bodies(case, "float32", "numbers", as_device, host)


def test_integers_go_to_the_bodies(as_device, host):
    case = CASES["side by side"]
    assert_primitives_equal_the_bodies(case, "int64", "ties", as_device, host)


def test_launchers_take_strided_arrays_and_narrow_indices(as_device, host):
    case = CASES["overlapping"]
    x = values((*case.size, *case.lead)).astype(np.float32)
    turned = as_device(x).transpose(2, 3, 0, 1)
    x = np.ascontiguousarray(x.transpose(2, 3, 0, 1))
    y, indices = pool.max_pool(turned, **case.how)
    expected, expected_indices = by_body(pool.max_pool, "float32", x, **case.how)
    assert np.array_equal(host(y), expected)
    assert np.array_equal(host(indices), expected_indices)
    narrow = as_device(expected_indices.astype(np.int32).transpose(3, 2, 1, 0)).transpose(
        3, 2, 1, 0
    )
    assert np.array_equal(host(pool.gather(turned, narrow, n=2)), expected)
    g = as_device(expected.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    added = by_body(pool.scatter, "float32", expected, expected_indices, shape=case.size)
    assert np.array_equal(host(pool.scatter(g, narrow, shape=case.size)), added)
    assert np.array_equal(host(pool.scatter(g, narrow, shape=case.size, **case.how)), added)


def test_any_indices_are_added_up_in_order(as_device, host):
    rng = np.random.default_rng(4)
    g = (values((3, 200)) / 3).astype(np.float32)
    indices = rng.integers(0, 7, g.shape)
    expected = np.zeros((3, 2, 4), np.float32)
    for line, at, one in zip(expected.reshape(3, 8), indices, g, strict=True):
        for i, number in zip(at, one, strict=True):
            line[i] += number
    got = pool.scatter(
        as_device(g.reshape(3, 20, 10)), as_device(indices.reshape(3, 20, 10)), shape=(2, 4)
    )
    assert np.array_equal(host(got), expected)


def test_derivatives_of_max_pool_tell_the_kernel_where_to_look(cupy_standin, monkeypatch):
    monkeypatch.setattr(cupy_standin, "argsort", None)  # what scatter does where it is not told
    x = Tensor(cupy_standin.asarray(values((2, 3, 6, 8)).astype(np.float32)))
    y = max_pool_of(x, window=(3, 3), stride=(1, 2))
    (y * y).sum().backward()
    indices = pool.max_pool(x.data, window=(3, 3), stride=(1, 2))[1]
    expected = pool.scatter.body(
        numpy_namespace, 2 * asnumpy(y.data), asnumpy(indices), shape=(6, 8)
    )
    assert np.array_equal(asnumpy(x.grad), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, i: pool.scatter(a, i[:1], shape=(6, 8)), r"scatter: indices \(1, 3, 4\)"),
        (
            lambda a, i: pool.scatter(a, i, shape=(6, 8), window=(2, 2), stride=(1, 2)),
            r"scatter: \(3, 4\) places, expected \(5, 4\)",
        ),
        (lambda a, i: pool.gather(a, i[:1], n=2), r"gather: indices \(1, 3, 4\), expected \(2,\)"),
        (
            lambda a, i: pool.mean_pool_grad(a, shape=(6, 8), window=(2, 2), stride=(1, 2)),
            r"mean_pool_grad: \(3, 4\) places, expected \(5, 4\)",
        ),
    ],
)
def test_arrays_that_a_kernel_would_misread_are_refused(call, message, cupy_standin):
    a, indices = cupy_standin.zeros((2, 3, 4)), cupy_standin.zeros((2, 3, 4), np.int64)
    with pytest.raises(ParameterError, match=message):
        call(a, indices)


@pytest.mark.gpu
@by_case
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("kernels", [True, False])
def test_kernels_on_the_gpu_equal_both_bodies(case, dtype, kernels):
    with use_kernels(kernels):
        for filling in FILLINGS:
            assert_primitives_equal_the_bodies(case, dtype, filling, on_gpu, asnumpy)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "case", [Case((3000, 3), (56, 57), (3, 3), (2, 2)), Case((5,), (1100, 1100), (3, 2), (1, 1))]
)
def test_gpu_has_more_to_do_than_a_launch_has_threads(case):
    assert_primitives_equal_the_bodies(case, "float32", "ties", on_gpu, asnumpy)


def on_gpu(x: np.ndarray) -> Any:
    return to_device(x, "cuda")
