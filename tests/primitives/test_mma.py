"""The tensor core's product: registers of 32 lanes, laid out as the tables of the PTX ISA say.

Each table gives row and column of element i of a lane's fragment, with groupID = lane >> 2 and
threadID_in_group = lane & 3. Here the tables are written down once more, as formulas in Python: a
matrix is cut into registers by them, the kernel multiplies the registers, and what it leaves is put
together by them again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from gpugrad.backend import cuda
from tests.cuda_on_host import HostModule, nvrtc
from tests.cuda_on_host.compiled import skip_unless_compilable
from tests.cuda_on_host.resources import resources
from tests.primitives.gibbs_cases import to_bfloat16

# A place (row, column) from element i of a fragment, group and thread in group.
Table = Callable[[int, int, int], tuple[int, int]]


class Layout(NamedTuple):
    """Fragments of one shape of mma.sync: k, elements of a lane and their places, A then B."""

    k: int
    elements_a: int
    place_a: Table
    elements_b: int
    place_b: Table


def place_d(i: int, group: int, thread: int) -> tuple[int, int]:
    """Accumulators of every m16n8 shape: c0 .. c3."""
    return (group if i < 2 else group + 8), thread * 2 + (i & 1)


LAYOUTS = {
    # mma.m16n8k16, .f16 and .bf16: a0 .. a7, b0 .. b3
    "m16n8k16": Layout(
        16,
        8,
        lambda i, group, thread: (
            group if i < 2 or 4 <= i < 6 else group + 8,
            thread * 2 + (i & 1) if i < 4 else thread * 2 + (i & 1) + 8,
        ),
        4,
        lambda i, group, thread: (
            thread * 2 + (i & 1) if i < 2 else thread * 2 + (i & 1) + 8,
            group,
        ),
    ),
    # mma.m16n8k8, .f16: a0 .. a3, b0 and b1
    "m16n8k8, half": Layout(
        8,
        4,
        lambda i, group, thread: (group if i < 2 else group + 8, thread * 2 + (i & 1)),
        2,
        lambda i, group, thread: (thread * 2 + i, group),
    ),
    # mma.m16n8k8, .tf32: a0 .. a3, b0 and b1
    "m16n8k8, tf32": Layout(
        8,
        4,
        lambda i, group, thread: (
            group if i in (0, 2) else group + 8,
            thread if i < 2 else thread + 4,
        ),
        2,
        lambda i, group, thread: (thread if i == 0 else thread + 4, group),
    ),
}

KERNELS = r"""
template <class T>
__global__ void multiply(const u32* a, const u32* b, float* d) {
    u32 x[4], y[2];
    float z[4];
    for (int r = 0; r < 4; ++r) x[r] = a[4 * threadIdx.x + r];
    for (int r = 0; r < 2; ++r) y[r] = b[2 * threadIdx.x + r];
    for (int r = 0; r < 4; ++r) z[r] = d[4 * threadIdx.x + r];
    multiply_add<T>(z, x, y);
    for (int r = 0; r < 4; ++r) d[4 * threadIdx.x + r] = z[r];
}

template <class T>
__global__ void multiply_k8(const u32* a, const u32* b, float* d) {
    float z[4];
    for (int r = 0; r < 4; ++r) z[r] = d[4 * threadIdx.x + r];
    mma_m16n8k8(z, a + 2 * threadIdx.x, b + threadIdx.x, T());
    for (int r = 0; r < 4; ++r) d[4 * threadIdx.x + r] = z[r];
}

extern "C" __global__ void rounded(const float* x, float* y, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = round_to_tf32(x[i]);
}
"""
# name: (kernel, layout, storage type)
PRODUCTS = {
    "float16": ("multiply<__half>", "m16n8k16", "float16"),
    "float16, k 8": ("multiply_k8<__half>", "m16n8k8, half", "float16"),
    "bfloat16": ("multiply<__nv_bfloat16>", "m16n8k16", "bfloat16"),
    "tf32": ("multiply<float>", "m16n8k8, tf32", "float32"),
}
NAMES = tuple(kernel for kernel, _, _ in PRODUCTS.values())
#: What sm_75 has: the product of float16, as two with k 8.
NAMES_75 = NAMES[:2]
WARPS = 3


def source() -> str:
    return cuda.source("mma.cuh") + KERNELS


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    """The bits of numbers as unsigned integers of their size."""
    if dtype == "bfloat16":
        return to_bfloat16(x)
    return x.astype(dtype).view(np.uint16 if dtype == "float16" else np.uint32)


def registers(matrix: np.ndarray, elements: int, place: Table, dtype: str) -> np.ndarray:
    """The registers of 32 lanes that hold `matrix`, shape (32, registers)."""
    cut = [[matrix[place(i, lane >> 2, lane & 3)] for i in range(elements)] for lane in range(32)]
    # The element with the lower index is in the lower half of a register.
    return stored(np.array(cut), dtype).view(np.uint32)


def put_together(d: np.ndarray) -> np.ndarray:
    """The 16 x 8 matrix of accumulators of shape (32, 4)."""
    result = np.full((16, 8), np.nan)
    for lane in range(32):
        for i in range(4):
            result[place_d(i, lane >> 2, lane & 3)] = d[lane, i]
    return result


def check_product(name: str, launch: Callable[..., None]) -> None:
    """Small integers, so that the product is exact; every warp of the block has its own."""
    kernel, layout_name, dtype = PRODUCTS[name]
    layout = LAYOUTS[layout_name]
    rng = np.random.default_rng(7)
    a = rng.integers(-15, 16, (WARPS, 16, layout.k)).astype(float)
    b = rng.integers(-15, 16, (WARPS, layout.k, 8)).astype(float)
    c = rng.integers(-99, 100, (WARPS, 16, 8)).astype(float)
    x = np.concatenate([registers(m, layout.elements_a, layout.place_a, dtype) for m in a])
    y = np.concatenate([registers(m, layout.elements_b, layout.place_b, dtype) for m in b])
    d = np.concatenate([registers(m, 4, place_d, "float32").view(np.float32) for m in c])
    d = launch(kernel, x, y, d)
    for warp in range(WARPS):
        got = put_together(d[32 * warp : 32 * warp + 32])
        assert np.array_equal(got, a[warp] @ b[warp] + c[warp])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables_place_every_element_of_a_matrix_once(layout):
    shape = LAYOUTS[layout]
    for elements, place, size in (
        (shape.elements_a, shape.place_a, (16, shape.k)),
        (shape.elements_b, shape.place_b, (shape.k, 8)),
        (4, place_d, (16, 8)),
    ):
        times = np.zeros(size, int)
        for lane in range(32):
            for i in range(elements):
                times[place(i, lane >> 2, lane & 3)] += 1
        assert (times == 1).all()


@pytest.mark.parametrize("sanitize", [False, True])
@pytest.mark.parametrize("reversed_order", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_lanes_multiply_as_the_tables_say(name, reversed_order, sanitize):
    def launch(kernel: str, x: np.ndarray, y: np.ndarray, d: np.ndarray) -> np.ndarray:
        module = HostModule(source(), (), NAMES, reversed_order=reversed_order, sanitize=sanitize)
        module.get_function(kernel)((1,), (32 * WARPS,), (x, y, d))
        return d

    check_product(name, launch)


def test_sm_75_multiplies_in_two_halves():
    def launch(kernel: str, x: np.ndarray, y: np.ndarray, d: np.ndarray) -> np.ndarray:
        module = HostModule(source(), ("-DGPUGRAD_MMA_ARCH=750",), NAMES_75)
        module.get_function(kernel)((1,), (32 * WARPS,), (x, y, d))
        return d

    check_product("float16", launch)


def test_lane_that_does_not_come_is_reported():
    lonely = KERNELS.replace(
        "multiply_add<T>(z, x, y);", "if (threadIdx.x) multiply_add<T>(z, x, y);"
    )
    kernel = HostModule(cuda.source("mma.cuh") + lonely, (), NAMES).get_function(NAMES[0])
    x, y, d = np.zeros((32, 4), np.uint32), np.zeros((32, 2), np.uint32), np.zeros((32, 4), "f4")
    with pytest.raises(RuntimeError, match="deadlock"):
        kernel((1,), (32,), (x, y, d))


def awkward_floats() -> np.ndarray:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**32, 4000, np.uint32)
    ties = (bits & np.uint32(0xFFFFE000)) | np.uint32(0x1000)
    near = [ties - np.uint32(1), ties + np.uint32(1)]
    x = np.concatenate([bits, ties, *near]).view(np.float32)
    return np.concatenate([x[np.isfinite(x)], np.array([0.0, -0.0, 1e-45, 3e38], np.float32)])


def nearest_tf32(x: np.ndarray) -> np.ndarray:
    """11 bits of significand, ties away from zero, by arithmetic in float64; exact."""
    wide = x.astype(np.float64)
    _, exponent = np.frexp(wide)
    unit = np.ldexp(1.0, np.maximum(exponent, -125) - 11)
    return np.sign(wide) * np.floor(np.abs(wide) / unit + 0.5) * unit


def check_rounding(launch: Callable[..., np.ndarray]) -> None:
    x = awkward_floats()
    got, expected = launch(x), nearest_tf32(x)
    inside = np.abs(expected) <= np.finfo(np.float32).max
    assert np.array_equal(got[inside], expected[inside])
    assert np.isinf(got[~inside]).all()


def test_rounding_to_tf32_is_to_nearest_ties_away():
    def launch(x: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        kernel = HostModule(source(), (), NAMES).get_function("rounded")
        kernel((1,), (64,), (x, y, np.int32(x.size)))
        return y

    check_rounding(launch)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_products_compile_without_a_gpu(architecture, plain):
    skip_unless_compilable(architecture)
    names = NAMES if architecture >= 80 else NAMES_75
    options = ("-DGPUGRAD_PLAIN_MMA",) if plain else ()
    nvrtc.compile_for(architecture, source(), names, options)
    # The plain product goes through shared memory, the instruction does not.
    taken = resources(architecture, source(), names, options)
    assert [found.shared > 0 for found in taken.values()] == [plain] * len(names)


@pytest.mark.gpu
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_instructions_of_the_gpu_multiply_as_the_tables_say(name, plain):
    import cupy

    recent = int(cupy.cuda.Device().compute_capability) >= 80
    if not recent and PRODUCTS[name][0] not in NAMES_75:
        pytest.skip("bfloat16 and TF32 tensor cores need compute capability 8.0")
    options = ("-std=c++17", *(["-DGPUGRAD_PLAIN_MMA"] if plain else []))
    names = list(NAMES if recent else NAMES_75)
    module = cupy.RawModule(code=source(), options=options, name_expressions=names)

    def launch(kernel: str, x: np.ndarray, y: np.ndarray, d: np.ndarray) -> np.ndarray:
        arrays: list[Any] = [cupy.asarray(z) for z in (x, y, d)]
        module.get_function(kernel)((1,), (32 * WARPS,), tuple(arrays))
        return arrays[2].get()

    check_product(name, launch)
    if recent:

        def rounded(x: np.ndarray) -> np.ndarray:
            arrays = [cupy.asarray(x), cupy.empty_like(cupy.asarray(x))]
            module.get_function("rounded")((1,), (64,), (*arrays, np.int32(x.size)))
            return arrays[1].get()

        check_rounding(rounded)
