"""Philox4x64-10: published answers, NumPy's generator, the array body and the kernels agree."""

import numpy as np
import pytest

from gpugrad.backend import cuda
from gpugrad.backend.array_module import asnumpy, module_for, to_device
from gpugrad.backend.philox import Draw, philox4x64, random_words, uniform_values
from gpugrad.backend.twin import use_kernels
from gpugrad.primitives.philox import bernoulli_, normal_, uniform_, words_
from tests.cuda_on_host import HostModule, nvrtc
from tests.cuda_on_host.compiled import assert_compiles
from tests.cuda_on_host.kernels import host_kernel

ONES = 2**64 - 1
DRAW = Draw(key=(0x0123456789ABCDEF, 0xFEDCBA9876543210), counter=2**64 - 7)
SIZES = (0, 1, 3, 4, 5, 7, 8, 9, 31, 255, 257, 1000)
FILLS = {"uniform": uniform_, "normal": normal_}
TYPES = {"float32": "float", "float64": "double"}
INSTANCES = (
    *(f"fill_{fill}<{t}>" for fill in FILLS for t in TYPES.values()),
    "fill_bernoulli<float, float>",
    "fill_bernoulli<double, double>",
    "fill_bernoulli<__half, __half>",
    "fill_bernoulli<float, double>",
    "fill_bernoulli<__nv_bfloat16, __nv_bfloat16>",
)

# Random123, tests/kat_vectors, "philox4x64 10": counter, key, result.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (ONES, ONES, ONES, ONES),
        (ONES, ONES),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]  # the third: the first digits of pi

PHILOX_OF_COUNTERS = r"""
#include "philox.cuh"
extern "C" __global__ void philox_of(const u64* counters, const u64* keys, u64* out, i64 n) {
    for (i64 i = first_index(); i < n; i += index_stride()) {
        const Words words =
            philox4x64(keys[2 * i], keys[2 * i + 1], counters[4 * i], counters[4 * i + 1],
                       counters[4 * i + 2], counters[4 * i + 3]);
        for (int k = 0; k < 4; ++k) out[4 * i + k] = words.word[k];
    }
}
"""


def kernel(name, sanitize=False):
    return host_kernel("philox.cu", name, INSTANCES, sanitize=sanitize)


def as_integer(words):
    return sum(word << 64 * i for i, word in enumerate(words))


def test_numpy_gives_the_known_answers():
    for counter, key, answer in KNOWN_ANSWERS:
        before = (as_integer(counter) - 1) % 2**256
        generator = np.random.Philox(key=as_integer(key), counter=before)
        assert tuple(int(word) for word in generator.random_raw(4)) == answer


def test_body_gives_the_known_answers(vocabulary, as_device, host):
    for counter, key, answer in KNOWN_ANSWERS:
        words = philox4x64(vocabulary, key, tuple(as_device([c], np.uint64) for c in counter))
        assert tuple(int(host(word)[0]) for word in words) == answer


def test_kernel_header_gives_the_known_answers():
    from gpugrad.backend.cuda import source

    code = PHILOX_OF_COUNTERS.replace('#include "philox.cuh"', source("philox.cuh"))
    counters, keys, answers = (
        np.array([known[i] for known in KNOWN_ANSWERS], np.uint64) for i in range(3)
    )
    out = np.zeros_like(answers)
    run = HostModule(code).get_function("philox_of")
    run((1,), (2,), (counters, keys, out, np.int64(len(KNOWN_ANSWERS))))
    assert np.array_equal(out, answers)


@pytest.mark.parametrize("bits", [0, 63, 64, 127, 128, 191, 192, 255, 256])
def test_body_carries_the_counter_as_numpy_does(bits):
    counter = (2**bits - 5) % 2**256
    generator = np.random.Philox(key=as_integer(DRAW.key), counter=counter)
    words = random_words(np, Draw(DRAW.key, counter), 12)
    assert np.array_equal(words.ravel(), generator.random_raw(48))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_words_equal_numpys_on_every_library(size, kernels, as_device, host):
    generator = np.random.Philox(key=as_integer(DRAW.key), counter=DRAW.counter)
    with use_kernels(kernels):
        out = words_(as_device(np.zeros(size, np.uint64)), draw=DRAW)
    assert np.array_equal(host(out), generator.random_raw(size))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
def test_uniforms_equal_numpys_on_every_library(dtype, kernels, as_device, host):
    for size in SIZES:
        generator = np.random.Generator(
            np.random.Philox(key=as_integer(DRAW.key), counter=DRAW.counter)
        )
        with use_kernels(kernels):
            out = uniform_(as_device(np.zeros(size, dtype)), draw=DRAW)
        assert np.array_equal(host(out), generator.random(size, dtype=dtype))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
def test_fills_scale_and_shift_with_the_same_bits_everywhere(dtype, kernels, as_device, host):
    expected = uniform_(np.empty((5, 9), dtype), draw=DRAW, low=-0.3, high=1.1)
    with use_kernels(kernels):
        out = uniform_(as_device(np.zeros((5, 9), dtype)), draw=DRAW, low=-0.3, high=1.1)
    assert np.array_equal(host(out), expected)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
def test_normals_are_the_box_muller_map_of_the_uniforms(dtype, kernels, as_device, host):
    for size in SIZES:
        u = uniform_values(np, DRAW, size + size % 2, dtype).astype(np.float64).reshape(-1, 2)
        radius, angle = np.sqrt(-2 * np.log1p(-u[:, 0])), 2 * np.pi * u[:, 1]
        exact = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:size]
        with use_kernels(kernels):
            out = host(normal_(as_device(np.zeros(size, dtype)), draw=DRAW, mean=-1.0, std=2.0))
        # The angle is rounded at up to 2 pi, and the radius is at most 8.6.
        assert np.abs(out - (2 * exact - 1)).max(initial=0) <= 100 * np.finfo(dtype).eps


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("spin", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_bernoulli_is_u_below_p_on_every_library(dtype, spin, kernels, as_device, host):
    p = np.random.default_rng(1).random((7, 11)).astype(dtype)
    wide = np.float64 if dtype == "float64" else np.float32
    below = uniform_values(np, DRAW, p.size, wide).reshape(p.shape) < p.astype(wide)
    with use_kernels(kernels):
        out = bernoulli_(as_device(np.zeros(p.shape, dtype)), as_device(p), draw=DRAW, spin=spin)
        flags = bernoulli_(
            as_device(np.zeros(p.shape, np.int8)), as_device(p), draw=DRAW, spin=spin
        )
    expected = np.where(below, 1, -1 if spin else 0)
    assert np.array_equal(host(out), expected) and np.array_equal(host(flags), expected)


@pytest.mark.parametrize("kernels", [True, False])
def test_strided_arrays_are_filled_in_their_logical_order(kernels, as_device, host):
    with use_kernels(kernels):
        out = as_device(np.zeros((9, 14), np.float32)).T[::2]
        uniform_(out, draw=DRAW)
        expected = uniform_(np.empty((7, 9), np.float32), draw=DRAW)
    assert np.array_equal(host(out), expected)


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_kernels_compile_without_a_gpu(architecture):
    assert_compiles(architecture, "philox.cu", (*INSTANCES, "fill_words"))


@pytest.mark.parametrize(("grid", "block"), [(1, 1), (3, 32), (2, 100)])
@pytest.mark.parametrize("size", SIZES)
def test_kernels_on_the_cpu_equal_the_bodies_at_every_launch_shape(size, grid, block):
    end = cuda.draw_arguments(DRAW)
    words = np.zeros(size, np.uint64)
    kernel("fill_words")((grid,), (block,), (words, np.int64(size), *end))
    assert np.array_equal(words, random_words(np, DRAW, -(-size // 4)).ravel()[:size])
    for dtype, name in TYPES.items():
        out, one = np.zeros(size, dtype), np.dtype(dtype).type(1)
        args = (out, np.int64(size), one * 0, one, *end)
        kernel(f"fill_uniform<{name}>")((grid,), (block,), args)
        assert np.array_equal(out, uniform_values(np, DRAW, size, dtype))


@pytest.mark.parametrize("size", [1, 9, 31])
def test_kernels_stay_inside_their_arrays(size):
    end = cuda.draw_arguments(DRAW)
    zero, one = np.float32(0), np.float32(1)
    out, words = np.zeros(size, np.float32), np.zeros(size, np.uint64)
    kernel("fill_words", True)((1,), (32,), (words, np.int64(size), *end))
    for name in ("fill_uniform<float>", "fill_normal<float>"):
        kernel(name, True)((1,), (32,), (out, np.int64(size), zero, one, *end))
    p = np.full(size, 0.5, np.float32)
    bernoulli = kernel("fill_bernoulli<float, float>", True)
    bernoulli((1,), (32,), (p, out, np.int64(size), np.int32(0), *end))
    assert np.array_equal(out, uniform_values(np, DRAW, size, np.float32) < 0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES)
def test_kernels_on_the_gpu_equal_both_bodies(size):
    cp = module_for("cuda")
    p = to_device(np.linspace(0, 1, size, dtype=np.float32), "cuda")
    for fill, dtype, arrays in (
        (words_, np.uint64, ()),
        (uniform_, np.float32, ()),
        (uniform_, np.float64, ()),
        (bernoulli_, np.float32, (p,)),
    ):
        kernel_result = asnumpy(fill(cp.empty(size, dtype), *arrays, draw=DRAW))
        with use_kernels(False):
            body_result = asnumpy(fill(cp.empty(size, dtype), *arrays, draw=DRAW))
        host_result = fill(np.empty(size, dtype), *map(asnumpy, arrays), draw=DRAW)
        assert np.array_equal(kernel_result, body_result)
        assert np.array_equal(kernel_result, host_result)
    for dtype in TYPES:
        kernel_result = asnumpy(normal_(cp.empty(size, dtype), draw=DRAW))
        host_result = normal_(np.empty(size, dtype), draw=DRAW)
        assert np.abs(kernel_result - host_result).max(initial=0) <= 50 * np.finfo(dtype).eps
