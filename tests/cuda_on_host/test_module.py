"""What the CPU's stand-in for a GPU promises, and the faults that it catches."""

import numpy as np
import pytest

from tests.cuda_on_host import HostModule, LaunchError

FAULTY = r"""
extern "C" __global__ void divergent(float* x) {
    if (threadIdx.x < 3) { __syncthreads(); x[threadIdx.x] = 1; }
}
extern "C" __global__ void two_barriers(float* x) {
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void missing_lanes(int* x) {
    if (threadIdx.x < 7) x[threadIdx.x] = __shfl_sync(0xFFFFFFFFu, x[threadIdx.x], 0);
    __syncthreads();
}
extern "C" __global__ void foreign_mask(int* x) {
    x[threadIdx.x] = __shfl_sync(0x1u, x[threadIdx.x], 0);
}
extern "C" __global__ void beyond(const float* x, float* y, long long n) {
    const long long i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[0] += x[i];
}
extern "C" __global__ void beyond_shared(float* x, int n) {
    __shared__ float tile[8];
    tile[n] = x[0];
    __syncthreads();
    x[0] = tile[0];
}
extern "C" __global__ void neighbour(const int* x, int* y, int with_barrier) {
    __shared__ int tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    if (with_barrier) __syncthreads();
    y[threadIdx.x] = tile[(threadIdx.x + 1) % blockDim.x];
}
"""

SOUND = r"""
extern "C" __global__ void block_sum(const double* x, double* total, long long n) {
    extern __shared__ double partial[];
    double mine = 0;
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        mine += x[i];
    partial[threadIdx.x] = mine;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) atomicAdd(total, partial[0]);
}
extern "C" __global__ void warp_operations(const int* x, int* sum, int* shifted, unsigned* odd) {
    const int i = threadIdx.x;
    int total = x[i];
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xFFFFFFFFu, total, step);
    sum[i] = total;
    shifted[i] = __shfl_down_sync(0xFFFFFFFFu, x[i], 3);
    odd[i] = __ballot_sync(0xFFFFFFFFu, x[i] % 2);
}
extern "C" __global__ void half_warps(const int* x, int* y) {
    const int i = threadIdx.x;
    const unsigned mask = i < 16 ? 0x0000FFFFu : 0xFFFF0000u;
    int value = x[i];
    for (int round = 0; round < (i < 16 ? 1 : 3); ++round)
        value = __shfl_sync(mask, value, i < 16 ? 5 : 20);
    y[i] = value;
}
extern "C" __global__ void where(int* x, int* y, int* z) {
    const int at = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    x[at] = threadIdx.x; y[at] = threadIdx.y; z[at] = threadIdx.z;
}
extern "C" __global__ void count(const int* x, int* y) {
    y[threadIdx.x] = __syncthreads_count(x[threadIdx.x]);
}
template <class T> __global__ void widened(const T* x, float* y, long long n);
#include <cuda_fp16.h>
#include <cuda_bf16.h>
template <> __global__ void widened<__half>(const __half* x, float* y, long long n) {
    for (long long i = threadIdx.x; i < n; i += blockDim.x) y[i] = __half2float(x[i]);
}
extern "C" __global__ void to_half(const float* x, __half* y, long long n) {
    for (long long i = threadIdx.x; i < n; i += blockDim.x) y[i] = __float2half(x[i]);
}
extern "C" __global__ void to_bfloat16(const float* x, __nv_bfloat16* y, long long n) {
    for (long long i = threadIdx.x; i < n; i += blockDim.x) y[i] = __float2bfloat16(x[i]);
}
"""


def faulty(name, **how):
    return HostModule(FAULTY, **how).get_function(name)


def sound(name, names=("widened<__half>",), **how):
    return HostModule(SOUND, (), names, **how).get_function(name)


def test_barrier_that_some_threads_never_reach_is_reported():
    with pytest.raises(LaunchError, match=r"divergent barrier.*has returned"):
        faulty("divergent")((1,), (5,), (np.zeros(5, np.float32),))


def test_threads_waiting_at_two_barriers_are_reported():
    with pytest.raises(LaunchError, match=r"divergent barrier.*line 9.*line 7"):
        faulty("two_barriers")((1,), (4,), (np.zeros(4, np.float32),))


def test_warp_operation_whose_lanes_never_come_is_a_deadlock():
    with pytest.raises(LaunchError, match="deadlock"):
        faulty("missing_lanes")((1,), (32,), (np.zeros(32, np.int32),))


def test_lane_outside_its_own_mask_is_reported():
    with pytest.raises(LaunchError, match="not in its own mask"):
        faulty("foreign_mask")((1,), (32,), (np.zeros(32, np.int32),))


def test_read_beyond_an_array_is_reported():
    kernel = faulty("beyond", sanitize=True)
    x, y = np.ones(33, np.float32), np.zeros(1, np.float32)
    kernel((2,), (32,), (x, y, np.int64(32)))
    assert y[0] == 33
    with pytest.raises(LaunchError, match="heap-buffer-overflow"):
        kernel((2,), (32,), (x, y, np.int64(33)))


def test_index_beyond_a_shared_array_is_reported():
    kernel = faulty("beyond_shared", sanitize=True)
    kernel((1,), (1,), (np.zeros(1, np.float32), np.int32(7)))
    with pytest.raises(LaunchError, match="out of bounds"):
        kernel((1,), (1,), (np.zeros(1, np.float32), np.int32(8)))


@pytest.mark.parametrize("with_barrier", [True, False])
def test_missing_barrier_shows_in_one_of_two_orders(with_barrier):
    results = []
    for reversed_order in (False, True):
        # Shared memory keeps what the last launch left in it, as on a GPU: fresh numbers each time.
        x = np.random.default_rng([reversed_order, with_barrier]).integers(1, 2**31, 64, np.int32)
        y = np.zeros(64, np.int32)
        kernel = faulty("neighbour", reversed_order=reversed_order)
        kernel((1,), (64,), (x, y, np.int32(with_barrier)))
        results.append(np.array_equal(y, np.roll(x, -1)))
    assert all(results) is with_barrier


@pytest.mark.parametrize("reversed_order", [False, True])
def test_reduction_through_dynamic_shared_memory_and_atomics(reversed_order):
    x, total = np.arange(1000.0), np.zeros(1)
    kernel = sound("block_sum", reversed_order=reversed_order)
    kernel((3,), (128,), (x, total, np.int64(1000)), shared_mem=128 * 8)
    assert total[0] == 499500


def test_shuffles_and_ballots():
    x = np.arange(32, dtype=np.int32) ** 2
    total, shifted, odd = np.zeros(32, np.int32), np.zeros(32, np.int32), np.zeros(32, np.uint32)
    sound("warp_operations")((1,), (32,), (x, total, shifted, odd))
    assert (total == x.sum()).all()
    assert np.array_equal(shifted, np.concatenate([x[3:], x[-3:]]))
    assert (odd == sum(1 << i for i in range(32) if x[i] % 2)).all()


def test_halves_of_a_warp_go_their_own_ways():
    x, y = np.arange(32, dtype=np.int32), np.zeros(32, np.int32)
    sound("half_warps")((1,), (32,), (x, y))
    assert (y[:16] == 5).all() and (y[16:] == 20).all()


def test_thread_indices_of_a_block_of_three_dimensions():
    x, y, z = (np.zeros((2, 3, 4), np.int32) for _ in range(3))
    sound("where")((1,), (4, 3, 2), (x, y, z))
    for got, expected in zip((z, y, x), np.indices((2, 3, 4)), strict=True):
        assert np.array_equal(got, expected)


def test_barrier_that_counts():
    x, y = np.array([1, 0, 1, 1, 0], np.int32), np.zeros(5, np.int32)
    sound("count")((1,), (5,), (x, y))
    assert (y == 3).all()


def test_half_to_float_is_exact_for_every_bit_pattern():
    x = np.arange(65536, dtype=np.uint16)
    y = np.zeros(x.size, np.float32)
    sound("widened<__half>")((1,), (64,), (x, y, np.int64(x.size)))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(y, x.view(np.float16).astype(np.float32), equal_nan=True)


def awkward_floats():
    """Floats at, between and next to the half types' numbers, tiny and huge ones."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[1:] + halves[:-1]) / 2
    near = [np.nextafter(middles, np.float32(side)) for side in (0, np.inf)]
    bits = np.random.default_rng(0).integers(0, 0x7F800000, 50000).astype(np.uint32)
    x = np.concatenate(
        [halves, middles, *near, bits.view(np.float32), [65519, 65520, 1e38, np.inf]]
    )
    return np.concatenate([x, -x]).astype(np.float32)


def test_float_to_half_rounds_to_nearest_even():
    x = awkward_floats()
    y = np.zeros(x.size, np.float16)
    sound("to_half")((1,), (64,), (x, y, np.int64(x.size)))
    with np.errstate(over="ignore"):
        assert np.array_equal(y, x.astype(np.float16))


def test_float_to_bfloat16_rounds_to_nearest_even():
    x = awkward_floats()
    x = x[np.abs(x) < 3e38]
    y = np.zeros(x.size, np.uint16)
    sound("to_bfloat16")((1,), (64,), (x, y, np.int64(x.size)))
    down = x.view(np.uint32) & np.uint32(0xFFFF0000)
    up = down + np.uint32(0x10000)
    exact = x.astype(np.float64)
    below, above = (np.abs(b.view(np.float32).astype(np.float64) - exact) for b in (down, up))
    odd = (down >> np.uint32(16)) & np.uint32(1)
    nearest = np.where((above < below) | ((above == below) & (odd == 1)), up, down)
    assert np.array_equal(y, (nearest >> np.uint32(16)).astype(np.uint16))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros(2), np.zeros(1)), "2 arguments, expected 3"),
        ((np.zeros(2), np.zeros(1), np.int32(2)), "type i4, expected i8"),
        ((np.zeros(2), np.zeros(1), 2.0), "type f8, expected i8"),
        ((np.zeros(2), 1.5, 2), "expected an array or 0"),
        ((np.zeros((2, 2)).T[:1], np.zeros(1), 2), "expected contiguous"),
        ((np.zeros(2), np.zeros(1), np.zeros(1)), "expected a value of type i8"),
    ],
)
def test_arguments_that_a_launch_would_misread_are_refused(args, message):
    with pytest.raises(LaunchError, match=message):
        sound("block_sum")((1,), (2,), args)


@pytest.mark.parametrize(("grid", "block"), [((0,), (1,)), ((1,), (1025,)), ((1,), (32, 32, 2))])
def test_launches_that_no_gpu_takes_are_refused(grid, block):
    with pytest.raises(LaunchError, match="expected"):
        sound("block_sum")(grid, block, (np.zeros(2), np.zeros(1), np.int64(2)))


def test_unknown_kernel_is_named():
    with pytest.raises(LaunchError, match="no kernel 'missing'"):
        sound("missing")


def test_compiler_error_points_into_the_file():
    code = '#line 41 "kernels/broken.cu"\nextern "C" __global__ void broken() { undeclared; }\n'
    with pytest.raises(LaunchError, match=r"kernels/broken.cu:41"):
        HostModule(code).get_function("broken")
