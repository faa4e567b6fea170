"""Sampling units: the body, the host's launcher and the kernel agree, and the law is right."""

import numpy as np
import pytest

from gpugrad.backend.array_module import asnumpy, to_device
from gpugrad.backend.philox import Draw
from gpugrad.backend.rng import Generator
from gpugrad.backend.twin import use_kernels
from gpugrad.errors import ParameterError
from gpugrad.primitives.gibbs import UNITS, field_bits, sample_units, unit_uniforms
from tests.chance import assert_means
from tests.cuda_on_host import nvrtc
from tests.cuda_on_host.compiled import assert_compiles
from tests.primitives import gibbs_cases as cases
from tests.primitives.gibbs_cases import CHAINS, DRAW, TYPES, WIDTHS, make_case

# ---- the host's launcher and the body -----------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("beta", ["none", "one", "chain"])
@pytest.mark.parametrize("units", WIDTHS)
def test_host_launcher_equals_the_body(unit, dtype, beta, units):
    for chains in CHAINS:
        case = make_case(dtype, chains, units, beta)
        arguments = {"unit": unit, "draw": DRAW, "beta": case.beta, "mean": True}
        sample, mean = sample_units(case.stored, case.bias, **arguments)
        with use_kernels(False):
            body_sample, body_mean = sample_units(case.stored, case.bias, **arguments)
        assert sample.dtype == mean.dtype == body_sample.dtype == body_mean.dtype == dtype
        off = 0 if dtype == "float16" else 4 * np.spacing(np.abs(body_mean))
        assert (np.abs(mean - body_mean) <= off).all()
        differ = sample != body_sample
        assert not (differ & ~cases.near_a_tie(case, unit)).any()
        assert differ.sum() <= 1


@pytest.mark.parametrize("unit", UNITS)
def test_result_does_not_depend_on_the_number_of_threads_or_blocks(unit, monkeypatch):
    case = make_case("float32", 300, 257)
    results = []
    for threads, block in ((1, 1 << 20), (2, 1 << 20), (2, 5000), (1, 16)):
        monkeypatch.setattr("gpugrad.primitives.gibbs._threads", lambda threads=threads: threads)
        monkeypatch.setattr("gpugrad.primitives.gibbs.BLOCK_VALUES", block)
        results.append(np.stack(cases.body(case, unit)))
    for other in results[1:]:
        assert np.array_equal(results[0], other)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("offset", [1, -1])
def test_lower_bits_of_the_uniform_decide_where_the_upper_ones_cannot(kernels, offset):
    u = unit_uniforms(np, DRAW, 3 * 50).reshape(3, 50)
    p = u + offset * 2.0**-40
    with use_kernels(kernels):
        sample, _ = sample_units(np.log(p) - np.log1p(-p), draw=DRAW)
    assert (sample == (offset > 0)).all()


def test_uniforms_of_units_are_uniform_and_fill_48_bits():
    u = unit_uniforms(np, DRAW, 1 << 16)
    as_integers = (u * 2.0**48).astype(np.uint64)
    assert np.array_equal(as_integers * 2.0**-48, u)
    bits = (as_integers[:, None] >> np.arange(48, dtype=np.uint64)) & np.uint64(1)
    assert_means(bits.sum(axis=0), u.size, np.full(48, 0.5))


def test_lower_bits_of_successive_draws_come_from_different_blocks():
    rng = Generator(3)
    drawn = [unit_uniforms(np, rng.reserve(64, 16), 64) * 2.0**48 for _ in range(3)]
    lower = np.concatenate(drawn).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    assert np.unique(lower).size == lower.size


def test_beta_does_not_change_the_type_that_is_computed_in():
    field, beta = np.linspace(-9, 9, 30, dtype=np.float32).reshape(10, 3), np.full((10, 1), 0.3)
    with use_kernels(False):
        means = [
            sample_units(field, sample=False, mean=True, dtype=np.float64, beta=b)[1]
            for b in (beta, beta[:1, 0], np.float64(0.3), beta.astype(np.float32))
        ]
    assert all(np.array_equal(m, means[-1]) for m in means)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_frequency_of_samples_is_the_mean(unit, dtype):
    """False-alarm rate 1e-6 each (chi-square over 41 fields)."""
    # Both kinds of units are 1 with probabilities from 0.0025 to 0.9975.
    logits = np.linspace(-6, 6, 41).astype(dtype) / (1 if unit == "bernoulli" else 2)
    field = np.tile(logits, (40000, 1))
    rng = Generator(5)
    draw = rng.reserve(field.size, field_bits(dtype))
    sample, mean = sample_units(field, unit=unit, draw=draw, mean=True)
    p = mean[0] if unit == "bernoulli" else (1 + np.tanh(field[0].astype(float))) / 2
    assert_means((sample > 0).sum(axis=0), field.shape[0], p)
    assert set(np.unique(sample)) == ({0.0, 1.0} if unit == "bernoulli" else {-1.0, 1.0})


def test_neighbouring_units_and_successive_draws_are_independent():
    """False-alarm rate 1e-6 each (chi-square over 99 and 100 pairs)."""
    rng, n = Generator(6), 20000
    field = np.zeros((n, 100), np.float32)
    first, second = (sample_units(field, draw=rng.reserve(field.size, 16))[0] for _ in range(2))
    assert_means((first[:, 1:] == first[:, :-1]).sum(axis=0), n, np.full(99, 0.5))
    assert_means((first == second).sum(axis=0), n, np.full(100, 0.5))


@pytest.mark.parametrize("kernels", [True, False])
def test_certain_units_are_certain(kernels):
    field = np.array([[200.0, -200.0, np.inf, -np.inf]] * 20000, np.float32)
    with use_kernels(kernels):
        sample, mean = sample_units(field, draw=DRAW, mean=True)
        spins, _ = sample_units(field, draw=DRAW, unit="ising")
    assert (sample == [1, 0, 1, 0]).all() and (mean[:, [0, 2]] == 1).all()
    assert (spins == [1, -1, 1, -1]).all()


def test_out_may_be_the_field_and_may_be_strided():
    case = make_case("float32", 9, 33)
    sample, mean = cases.body(case, "bernoulli")
    field = case.stored.copy()
    assert sample_units(field, case.bias, draw=DRAW, out=field)[0] is field
    assert np.array_equal(field, sample)
    wide, small = np.empty((33, 18), np.float32).T[::2], np.empty((9, 33), np.int8)
    sample_units(case.stored, case.bias, draw=DRAW, mean=True, out=(small, wide))
    assert np.array_equal(small, sample) and np.array_equal(wide, mean)


def test_means_alone_need_no_draw():
    case = make_case("float32", 3, 5)
    sample, mean = sample_units(case.stored, case.bias, sample=False, mean=True)
    assert sample is None
    assert np.array_equal(mean, cases.body(case, "bernoulli")[1])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("kernels", [True, False])
def test_empty_batch(shape, kernels):
    with use_kernels(kernels):
        sample, mean = sample_units(np.empty(shape, np.float32), draw=DRAW, mean=True)
    assert sample.shape == mean.shape == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": "potts"}, "unit 'potts'"),
        ({"field": np.zeros(3)}, r"field \(3,\)"),
        ({"field": np.zeros((2, 3), int)}, "int64, expected floating point"),
        ({"bias": np.zeros(2)}, r"bias \(2,\), expected \(3,\)"),
        ({"beta": np.zeros(3)}, r"beta \(3,\), expected a number or \(2, 1\)"),
        ({"out": np.zeros((3, 2))}, r"out \(3, 2\), expected \(2, 3\)"),
        ({"out": (None,)}, "out of 1 arrays"),
        ({"draw": None}, "draw is None"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    given = {"field": np.zeros((2, 3)), "draw": DRAW, **arguments}
    with pytest.raises(ParameterError, match=f"sample_units: .*{message}"):
        sample_units(given.pop("field"), **given)


# ---- the kernel, compiled and on the CPU --------------------------------------------------------


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_kernel_compiles_without_a_gpu(architecture):
    assert_compiles(architecture, "gibbs.cu", cases.INSTANCES)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("units", WIDTHS)
def test_kernel_on_the_cpu_equals_the_body(unit, dtype, units):
    excepted = 0
    for chains, beta in zip(CHAINS, ("none", "one", "chain", "none", "chain"), strict=True):
        case = make_case(dtype, chains, units, beta)
        got_sample, got_mean = np.empty_like(case.stored), np.empty_like(case.stored)
        cases.run_kernel(case, unit, sample=got_sample, mean=got_mean)
        sample, mean = cases.body(case, unit)
        if dtype == "bfloat16":
            got_sample = cases.from_bfloat16(got_sample)
            assert np.abs(got_mean.astype(int) - cases.to_bfloat16(mean)).max() <= 1
        elif dtype == "float16":
            rounded = mean.astype(np.float16)
            assert (np.abs(got_mean - rounded) <= np.spacing(np.abs(rounded))).all()
        else:
            for reference in (mean, cases.exact_mean(case, unit)):
                ulp = np.spacing(np.maximum(np.abs(reference.astype(dtype)), np.finfo(dtype).tiny))
                # The reciprocal of an overflow is 0: nothing below the normal numbers is reached.
                assert (np.abs(got_mean - reference) <= 4 * ulp + np.finfo(dtype).tiny).all()
        differ = got_sample.astype(float) != sample
        tie = cases.near_a_tie(case, unit)
        assert not (differ & ~tie).any()
        excepted += int(tie.sum())
    # A unit is near a tie with probability below 1e-6: at most 96,000 units, false alarm 1e-4.
    assert excepted <= 2


@pytest.mark.parametrize("reversed_order", [False, True])
@pytest.mark.parametrize(("grid", "block"), [(1, 1), (1, 32), (5, 96), (64, 256)])
def test_kernel_does_not_depend_on_the_launch_shape_or_order(grid, block, reversed_order):
    case = make_case("float32", 16, 33)
    results = []
    for shape in ((2, 64), (grid, block)):
        sample, mean = np.empty_like(case.stored), np.empty_like(case.stored)
        cases.run_kernel(
            case, "ising", sample=sample, mean=mean, grid=shape[0], block=shape[1],
            reversed_order=reversed_order,
        )  # fmt: skip
        results.append(np.stack([sample, mean]))
    assert np.array_equal(*results)


@pytest.mark.parametrize("offset", [1, -1])
def test_kernel_draws_the_lower_bits_too(offset):
    u = unit_uniforms(np, DRAW, 3 * 51).reshape(3, 51)
    p = u + offset * 2.0**-40
    field = np.log(p) - np.log1p(-p)
    case = cases.Case(field, np.zeros(51), None, field)
    sample = np.empty_like(field)
    cases.run_kernel(case, "bernoulli", sample=sample)
    assert (sample == (offset > 0)).all()


@pytest.mark.parametrize(("chains", "units"), [(1, 1), (7, 31), (3, 33), (2, 1000), (5, 16)])
@pytest.mark.parametrize("dtype", TYPES)
def test_kernel_stays_inside_its_arrays(dtype, chains, units):
    case = make_case(dtype, chains, units, "chain")
    sample, mean = np.empty_like(case.stored), np.empty_like(case.stored)
    cases.run_kernel(case, "bernoulli", sample=sample, mean=mean, sanitize=True)
    expected = np.empty_like(sample)
    cases.run_kernel(case, "bernoulli", sample=expected)
    assert np.array_equal(sample, expected)


def test_sanitizer_sees_a_row_too_many():
    case = make_case("float32", 3, 33)
    short = case._replace(bias=case.bias[:-1].copy())
    with pytest.raises(RuntimeError, match="heap-buffer-overflow"):
        cases.run_kernel(short, "bernoulli", sample=np.empty_like(case.stored), sanitize=True)


@pytest.mark.parametrize("units", [12, 31, 40])
def test_sample_is_replicated_along_the_row_and_padding_is_left_alone(units):
    case, length = make_case("float32", 7, units), -(-units // 8) * 8
    stacked = np.full((7, 3 * length), 7, np.uint16)
    cases.run_kernel(
        case, "ising", sample=stacked, copies=3, copy_stride=length, sample_type="__nv_bfloat16"
    )
    sample, _ = cases.body(case, "ising")
    for copy in range(3):
        part = stacked[:, copy * length : (copy + 1) * length]
        assert np.array_equal(cases.from_bfloat16(part[:, :units]), sample)
        assert (part[:, units:] == 7).all()


@pytest.mark.parametrize("grid", [1, 6])
def test_counter_in_device_memory_goes_on_where_the_last_launch_stopped(grid):
    case = make_case("float32", 7, 33)
    start = 2**64 - 20
    words = [*DRAW.key, start, 2**64 - 1, 2**64 - 1, 5, 0, 0]
    state = np.array(words, np.uint64)
    counter = start + (2**64 - 1 << 64) + (2**64 - 1 << 128) + (5 << 192)
    for step in range(3):
        sample, expected = np.empty_like(case.stored), np.empty_like(case.stored)
        cases.run_kernel(case, "bernoulli", draw=None, state=state, sample=sample, grid=grid)
        cases.run_kernel(case, "bernoulli", draw=Draw(DRAW.key, counter), sample=expected)
        assert np.array_equal(sample, expected)
        counter += -(-7 * 33 // 16)
        mask = 2**64 - 1
        assert state.tolist() == [
            *DRAW.key,
            *(counter >> 64 * i & mask for i in range(4)),
            step + 1,
            0,
        ]


def test_beta_of_the_step_is_read_from_a_table_in_device_memory():
    case = make_case("float32", 4, 12)
    table = np.array([0.1, 0.5, 2.0], np.float32)
    state = np.array([*DRAW.key, 9, 0, 0, 0, 0, 0], np.uint64)
    for beta in table:
        draw = Draw(DRAW.key, int(state[2]))
        got = np.empty_like(case.stored)
        cases.run_kernel(
            case._replace(beta=table), "ising", draw=None, state=state, mean=got,
            sample=np.empty_like(got), beta_step_stride=1,
        )  # fmt: skip
        _, mean = cases.body(case._replace(beta=np.array([beta])), "ising", draw)
        assert (np.abs(got - mean) <= 4 * np.spacing(np.abs(mean))).all()


# ---- the launcher, end to end -------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("beta", ["none", "one", "chain"])
def test_primitive_on_every_library(unit, kernels, beta, as_device, host):
    case = make_case("float32", 7, 33, beta)
    sample, mean = cases.body(case, unit)
    field, bias = as_device(case.stored), as_device(case.bias)
    given = None if case.beta is None else as_device(case.beta)
    with use_kernels(kernels):
        got = sample_units(field, bias, unit=unit, draw=DRAW, beta=given, mean=True)
        alone = sample_units(field, bias, unit=unit, beta=given, sample=False, mean=True)
    assert (np.abs(host(got[1]) - mean) <= 8 * np.spacing(np.abs(mean))).all()
    assert np.array_equal(host(alone[1]), host(got[1])) and alone[0] is None
    differ = host(got[0]) != sample
    assert not (differ & ~cases.near_a_tie(case, unit)).any()


def test_launcher_takes_strided_fields_and_outputs(as_device, host):
    case = make_case("float32", 8, 20)
    sample, _ = cases.body(case, "bernoulli")
    field = as_device(np.repeat(case.stored, 2, axis=0))[::2]
    out = as_device(np.zeros((20, 8), np.float32)).T
    flags = as_device(np.zeros((8, 20), np.int8))
    got, _ = sample_units(field, as_device(case.bias), draw=DRAW, out=out)
    assert got is out
    assert np.array_equal(host(out), sample)
    sample_units(field, as_device(case.bias), draw=DRAW, out=flags)
    assert np.array_equal(host(flags), sample)


def test_launcher_launches_nothing_for_an_empty_batch(as_device):
    sample, mean = sample_units(as_device(np.zeros((0, 5), np.float32)), draw=DRAW, mean=True)
    assert sample.shape == mean.shape == (0, 5)


@pytest.mark.gpu
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("units", WIDTHS)
def test_kernel_on_the_gpu_equals_both_bodies(unit, dtype, units):
    excepted = 0
    for chains in CHAINS:
        case = make_case(dtype, chains, units, "chain")
        field, bias, beta = (to_device(x, "cuda") for x in (case.stored, case.bias, case.beta))
        wide = {"unit": unit, "draw": DRAW, "mean": True, "dtype": case.bias.dtype}
        kernel = [asnumpy(x) for x in sample_units(field, bias, beta=beta, **wide)]
        with use_kernels(False):
            cupy_body = [asnumpy(x) for x in sample_units(field, bias, beta=beta, **wide)]
        host_body = cases.body(case, unit)
        tie = cases.near_a_tie(case, unit)
        excepted += int(tie.sum())
        tiny = np.finfo(case.bias.dtype).tiny
        for sample, mean in (cupy_body, host_body):
            ulp = np.spacing(np.maximum(np.abs(mean), tiny))
            assert (np.abs(kernel[1] - mean) <= 4 * ulp + tiny).all()
            assert not ((kernel[0] != sample) & ~tie).any()
    assert excepted <= 2
