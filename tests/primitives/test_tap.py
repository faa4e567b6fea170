"""TAP half-updates: body and kernel equal the sums written out, wherever they run."""

from typing import Any

import numpy as np
import pytest

from gpugrad.backend.array_module import asnumpy, to_device
from gpugrad.backend.twin import use_kernels
from gpugrad.errors import ParameterError
from gpugrad.primitives import tap
from gpugrad.primitives.tap import (
    UNITS,
    cumulants,
    effective_field,
    fields_call,
    tap_fields,
    tap_update,
    update_call,
)
from tests.cuda_on_host import HostKernel, nvrtc
from tests.cuda_on_host.compiled import assert_compiles, taken_by_representatives
from tests.cuda_on_host.kernels import host_kernel
from tests.primitives.gibbs_cases import TYPES, from_bfloat16, to_bfloat16

ORDERS = (2, 3)
#: Rows, lower and upper units: one of each, around the tiles (16 or 64 rows, 64 units, 16 or 32
#: deep), several parts.
SHAPES = (
    (1, 1, 1), (2, 1, 65), (3, 65, 1), (16, 33, 64), (17, 31, 63), (64, 16, 130), (65, 15, 70),
    (5, 300, 10), (5, 10, 300), (130, 40, 20),
)  # fmt: skip
INSTANCES = (
    *(
        f"tap_fields<{t}, {order}, {transposed}, {rows}>"
        for t in TYPES.values()
        for order in ORDERS
        for transposed in (0, 1)
        for rows in (1, 4)
    ),
    *(f"add_parts<{t}>" for t in ("float", "double")),
    *(f"tap_update<{t}, {kind}>" for t in ("float", "double") for kind in range(len(UNITS))),
)
both_ways = pytest.mark.parametrize("transposed", [False, True], ids=["up", "down"])


def wide_of(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


def make_weights(dtype: str, lower: int, upper: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights as they are stored (bfloat16 as bits), and as float64."""
    W = np.random.default_rng([lower, upper]).normal(0, 0.7, (lower, upper))
    if dtype == "bfloat16":
        return to_bfloat16(W), from_bfloat16(to_bfloat16(W)).astype(np.float64)
    return W.astype(dtype), W.astype(dtype).astype(np.float64)


def make_moments(dtype: str, rows: int, depth: int, order: int) -> tuple[np.ndarray, ...]:
    m = np.random.default_rng([rows, depth, order]).uniform(0, 1, (rows, depth))
    return cumulants("bernoulli", m.astype(wide_of(dtype)), order)


def exact(W: np.ndarray, moments: Any, transposed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The fields, and the sums of the sizes of what is added up, in float64."""
    W = W.T if transposed else W
    wide = [x.astype(np.float64) for x in moments]
    fields = np.stack([x @ W ** (p + 1) for p, x in enumerate(wide)])
    return fields, np.stack([np.abs(x) @ np.abs(W) ** (p + 1) for p, x in enumerate(wide)])


def assert_close(got: Any, W: np.ndarray, moments: Any, transposed: bool) -> None:
    """Each term is rounded a few times and each addition once, all by half an ulp of the sum."""
    fields, sizes = exact(W, moments, transposed)
    for field, expected, size in zip(got, fields, sizes, strict=True):
        assert field.dtype == moments[0].dtype and field.shape == expected.shape
        allowed = (moments[0].shape[1] + 8) * np.finfo(field.dtype).eps * size
        assert (np.abs(field - expected) <= allowed).all()


# ---- the body -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@both_ways
@pytest.mark.parametrize("block", [1, 100, 1 << 18])
def test_fields_are_the_products_with_the_powers_of_the_weights(
    dtype, order, transposed, block, monkeypatch
):
    monkeypatch.setattr(tap, "BLOCK_VALUES", block)
    for rows, lower, upper in SHAPES:
        stored, W = make_weights(dtype, lower, upper)
        moments = make_moments(dtype, rows, upper if transposed else lower, order)
        before = stored.copy()
        assert_close(tap_fields(stored, *moments, transposed=transposed), W, moments, transposed)
        assert np.array_equal(stored, before)


@pytest.mark.parametrize("unit", UNITS)
def test_cumulants_are_the_derivatives_of_the_log_partition_function(unit):
    """By a complex step of the mean: c = dm/dx, and by differences of c for k."""
    x = np.linspace(-3, 3, 13)
    mean = (lambda x: 1 / (1 + np.exp(-x))) if unit == "bernoulli" else np.tanh
    m, c, k = cumulants(unit, mean(x), 3)
    step = 1e-4
    assert c == pytest.approx(mean(x + 1e-30j).imag / 1e-30, abs=1e-14)
    later, sooner = (cumulants(unit, mean(x + s))[1] for s in (step, -step))
    assert k == pytest.approx((later - sooner) / (2 * step), abs=1e-7)
    assert np.array_equal(m, mean(x))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("order", ORDERS)
def test_effective_field_holds_the_derivatives_of_the_cumulants(unit, order):
    rng = np.random.default_rng(3)
    m = rng.uniform(0.1, 0.9, (2, 5))
    bias, fields = rng.normal(size=5), rng.normal(size=(order, 2, 5))
    step = 1e-5
    slopes = [
        (a - b) / (2 * step)
        for a, b in zip(cumulants(unit, m + step, 3), cumulants(unit, m - step, 3), strict=True)
    ]
    expected = bias + fields[0] + slopes[1] / 2 * fields[1]
    if order == 3:
        expected = expected + slopes[2] / 6 * fields[2]
    assert effective_field(unit, m, bias, fields) == pytest.approx(expected, abs=1e-9)


def update_case(
    dtype: str, order: int, rows: int = 5, units: int = 37
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([rows, units, order])
    m = rng.uniform(0, 1, (rows, units))
    fields = rng.normal(0, 2, (order, rows, units))
    fields[:, rng.random((rows, units)) < 0.1] *= 20
    return m.astype(dtype), rng.normal(size=units).astype(dtype), fields.astype(dtype)


def exact_update(
    m: np.ndarray, bias: np.ndarray, fields: np.ndarray, unit: str, damping: float
) -> np.ndarray:
    m, bias, fields = (x.astype(np.float64) for x in (m, bias, fields))
    x = effective_field(unit, m, bias, fields)
    with np.errstate(over="ignore"):
        fresh = np.tanh(x) if unit == "ising" else 1 / (1 + np.exp(-x))
    return damping * m + (1 - damping) * fresh


def update_error(m: np.ndarray, bias: np.ndarray, fields: np.ndarray) -> float:
    """What rounding can do: a few ulp of the largest field on an argument, whose slope is <= 1."""
    largest = np.abs(fields).max() * len(fields) + np.abs(bias).max() + 1
    return 8 * float(np.finfo(m.dtype).eps * largest)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("kernels", [True, False])
def test_update_on_every_library(unit, order, dtype, damping, kernels, as_device, host):
    m, bias, fields = update_case(dtype, order)
    expected = exact_update(m, bias, fields, unit, damping)
    there = [as_device(x) for x in (m, bias, *fields)]
    out = as_device(np.zeros(m.shape[::-1], dtype)).T
    with use_kernels(kernels):
        fresh = tap_update(*there, unit=unit, damping=damping)
        assert tap_update(*there, unit=unit, damping=damping, out=out) is out
        assert np.array_equal(host(there[0]), m)
        assert tap_update(*there, unit=unit, damping=damping, out=there[0]) is there[0]
    assert fresh.dtype == dtype
    for got in (fresh, out, there[0]):
        assert np.abs(host(got) - expected).max() <= update_error(m, bias, fields)


def test_certain_units_stay_certain_without_a_warning():
    m, bias = np.array([[1.0, 0.0]]), np.array([2000.0, -2000.0])
    zero = np.zeros((1, 2))
    assert np.array_equal(tap_update(m, bias, zero, zero), m)


W23, M2, M3 = np.ones((2, 3)), np.ones((4, 2)), np.ones((4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tap_fields(np.ones(3), M2, M2), r"tap_fields: W \(3,\)"),
        (lambda: tap_fields(np.ones((0, 3)), M2, M2), r"tap_fields: W \(0, 3\)"),
        (lambda: tap_fields(W23.astype(int), M2, M2), "W of int64, expected floating point"),
        (lambda: tap_fields(W23, M2), "1 moments, expected mean, variance"),
        (lambda: tap_fields(W23, M3, M3), r"\(4, 3\), \(4, 3\), expected \(rows, 2\) each"),
        (lambda: tap_fields(W23, M2, M2, transposed=True), r"expected \(rows, 3\) each"),
        (lambda: tap_fields(W23, M2, M2[:3]), r"\(4, 2\), \(3, 2\), expected"),
        (lambda: tap_update(M2, M2[0], M2, M2, unit="potts"), "tap_update: unit 'potts'"),
        (lambda: tap_update(M2[0], M2[0], M2, M2), r"m \(2,\) of float64"),
        (lambda: tap_update(M2.astype(int), M2[0], M2, M2), r"m \(4, 2\) of int64"),
        (lambda: tap_update(M2, M3[0], M2, M2), r"bias \(3,\), expected \(2,\)"),
        (lambda: tap_update(M2, M2[0], M2), r"fields \(4, 2\), expected two or three"),
        (lambda: tap_update(M2, M2[0], M2, M3), r"fields \(4, 2\), \(4, 3\), expected"),
        (lambda: tap_update(M2, M2[0], M2, M2, damping=1), r"damping is 1, expected"),
        (lambda: tap_update(M2, M2[0], M2, M2, damping=-0.1), r"damping is -0.1, expected"),
        (lambda: tap_update(M2, M2[0], M2, M2, out=M3.copy()), r"out \(4, 3\) of float64"),
    ],
)
def test_arguments_that_do_not_fit_are_named(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


# ---- the kernels, compiled and on the CPU -------------------------------------------------------


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_kernels_compile_without_a_gpu(architecture):
    assert_compiles(architecture, "tap.cu", INSTANCES)


def test_kernels_keep_their_sums_in_registers_and_two_blocks_of_floats_fit_a_multiprocessor():
    """65536 registers, blocks of 256 threads; 48 kB of shared memory are there without asking."""
    found = taken_by_representatives("tap.cu")
    assert all(taken.spill_stores == taken.spill_loads == 0 for taken in found.values())
    for name, taken in found.items():
        assert taken.registers <= (255 if "double" in name else 128)
    assert max(taken.shared for taken in found.values()) <= 48 * 1024


def kernel(name: str, sanitize: bool = False, reversed_order: bool = False) -> HostKernel:
    how = {"sanitize": sanitize, "reversed_order": reversed_order}
    return host_kernel("tap.cu", name, INSTANCES, **how)


def run_fields(
    dtype: str,
    stored: np.ndarray,
    moments: Any,
    transposed: bool,
    *,
    grid: int = 3,
    sanitize: bool = False,
    reversed_order: bool = False,
    **how: Any,
) -> np.ndarray:
    """The fields by the kernels on the CPU: (order, rows, units)."""
    name, parts, _, args = fields_call(
        stored, moments, transposed=transposed, type_name=TYPES[dtype], **how
    )
    units = stored.shape[0 if transposed else 1]
    shape = (len(moments), len(moments[0]), units)
    partial = np.full((parts, *shape), np.nan, moments[0].dtype)
    args = tuple(partial if x is None else x for x in args)
    kernel(name, sanitize, reversed_order)((grid,), (256,), args)
    if parts == 1:
        return partial[0]
    fields = np.full(shape, np.nan, partial.dtype)
    name = f"add_parts<{TYPES[wide_of(dtype)]}>"
    kernel(name, sanitize, reversed_order)(
        (2,), (32,), (partial, fields, np.int64(fields.size), np.int64(parts))
    )
    return fields


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", TYPES)
@both_ways
def test_kernel_on_the_cpu_gives_the_fields(dtype, order, transposed):
    for rows, lower, upper in SHAPES:
        stored, W = make_weights(dtype, lower, upper)
        moments = make_moments(dtype, rows, upper if transposed else lower, order)
        assert_close(run_fields(dtype, stored, moments, transposed), W, moments, transposed)


@both_ways
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("span", [32, 96, 320])
def test_parts_add_up_to_the_whole(transposed, at_once, span):
    stored, W = make_weights("float32", 300, 290)
    moments = make_moments("float32", 20, 290 if transposed else 300, 3)
    got = run_fields("float32", stored, moments, transposed, at_once=at_once, span=span)
    assert_close(got, W, moments, transposed)


@both_ways
def test_fields_do_not_depend_on_the_number_of_blocks_or_their_order(transposed):
    """A missing barrier would show too: the threads of a block run in both orders."""
    stored, _ = make_weights("float32", 150, 140)
    moments = make_moments("float32", 70, 140 if transposed else 150, 2)
    first = run_fields("float32", stored, moments, transposed)
    for grid, reversed_order in ((1, False), (40, True)):
        how = {"grid": grid, "reversed_order": reversed_order}
        assert np.array_equal(run_fields("float32", stored, moments, transposed, **how), first)


@pytest.mark.parametrize("dtype", TYPES)
@both_ways
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 33, 65), (3, 140, 31)])
def test_kernels_stay_inside_their_arrays(dtype, transposed, shape):
    rows, lower, upper = shape
    stored, _ = make_weights(dtype, lower, upper)
    moments = make_moments(dtype, rows, upper if transposed else lower, 3)
    span = 128 // moments[0].dtype.itemsize
    got = run_fields(dtype, stored, moments, transposed, sanitize=True, span=span)
    assert np.array_equal(got, run_fields(dtype, stored, moments, transposed, span=span))


def test_sanitizer_sees_a_row_of_weights_too_few():
    stored, _ = make_weights("float32", 33, 20)
    moments = make_moments("float32", 4, 33, 2)
    name, _, _, args = fields_call(stored, moments, transposed=False, span=64)
    fields = np.zeros((1, 2, 4, 20), np.float32)
    args = tuple(fields if x is None else x for x in (stored[:-1].copy(), *args[1:]))
    with pytest.raises(RuntimeError, match="heap-buffer-overflow"):
        kernel(name, sanitize=True)((1,), (256,), args)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("grid", "block"), [(1, 1), (3, 32)])
def test_update_kernel_on_the_cpu(unit, order, dtype, grid, block):
    m, bias, fields = update_case(dtype, order)
    fields = [np.ascontiguousarray(f) for f in fields]
    got = m.copy()
    name, args = update_call(got, bias, fields, got, unit=unit, damping=0.3)
    kernel(name, sanitize=block == 1)((grid,), (block,), args)
    expected = exact_update(m, bias, np.stack(fields), unit, 0.3)
    assert np.abs(got - expected).max() <= update_error(m, bias, np.stack(fields))


# ---- the launchers, end to end ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernels", [True, False])
@both_ways
def test_fields_on_every_library(dtype, order, kernels, transposed, as_device, host):
    """300 units deep: in several parts. Strided weights and moments besides."""
    for rows, lower, upper in ((17, 33, 65), (4, 300, 30), (4, 30, 300), (0, 3, 4)):
        stored, W = make_weights(dtype, lower, upper)
        moments = make_moments(dtype, rows, upper if transposed else lower, order)
        there = as_device(np.repeat(stored, 2, axis=0))[::2]
        sent = [as_device(x.T.copy()).T for x in moments]
        with use_kernels(kernels):
            got = tap_fields(there, *sent, transposed=transposed)
        assert_close([host(x) for x in got], W, moments, transposed)


def test_part_of_a_launch_depends_on_the_shapes_alone():
    """Many tiles: one part. Few: parts of at least four steps of 32 units through the tile, here
    25 = 5 x 5 (with 4 to a part a seventh one would have a single step)."""
    moments = [np.zeros((500, 784), np.float32)] * 2
    assert fields_call(np.zeros((784, 5000), np.float32), moments, transposed=False)[1] == 1
    few = [np.zeros((10, 784), np.float32)] * 2
    assert fields_call(np.zeros((784, 500), np.float32), few, transposed=False)[1] == 5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("order", ORDERS)
@both_ways
def test_kernels_on_the_gpu_equal_the_bodies(dtype, order, transposed):
    for rows, lower, upper in (*SHAPES, (100, 784, 500), (10, 784, 500)):
        stored, W = make_weights(dtype, lower, upper)
        moments = make_moments(dtype, rows, upper if transposed else lower, order)
        there, sent = to_device(stored, "cuda"), [to_device(x, "cuda") for x in moments]
        by_kernel = tap_fields(there, *sent, transposed=transposed)
        again = tap_fields(there, *sent, transposed=transposed)
        with use_kernels(False):
            by_body = tap_fields(there, *sent, transposed=transposed)
        for got in (by_kernel, by_body):
            assert_close([asnumpy(x) for x in got], W, moments, transposed)
        for a, b in zip(by_kernel, again, strict=True):
            assert np.array_equal(asnumpy(a), asnumpy(b))
    for unit in UNITS:
        m, bias, fields = update_case(wide_of(dtype), order)
        there = [to_device(x, "cuda") for x in (m, bias, *fields)]
        got = asnumpy(tap_update(*there, unit=unit, damping=0.3))
        expected = exact_update(m, bias, fields, unit, 0.3)
        assert np.abs(got - expected).max() <= update_error(m, bias, fields)
