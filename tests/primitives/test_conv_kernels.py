"""Convolution kernels: direct and tiled equal the bodies, compiled everywhere and run on the CPU.

With operands of -1, 0 and 1 every sum is exact in every type, so that kernel and body must agree
bit for bit whatever the order of summation: an index that is wrong anywhere shows. With normal
operands they must agree within the rounding of a sum of K terms, `cases.error_bound`.
"""

import numpy as np
import pytest

from gpugrad.backend import cuda
from gpugrad.backend.array_module import asnumpy, to_device
from gpugrad.backend.twin import use_kernels
from gpugrad.errors import ParameterError
from gpugrad.primitives import conv_cuda
from gpugrad.primitives.conv import conv, conv_input_grad, conv_weight_grad
from gpugrad.primitives.conv_cuda import Plan, plan, tiled_plan, use_tf32
from tests.cuda_on_host import LaunchError, nvrtc
from tests.cuda_on_host.compiled import assert_compiles, skip_unless_compilable
from tests.cuda_on_host.resources import REPRESENTATIVES, parsed, resources
from tests.primitives import conv_cases as cases
from tests.primitives.conv_cases import AWKWARD, BEYOND_A_TILE, FORMATS, KINDS, TILES, TYPES

DIRECT = Plan(None)
ALL = {**AWKWARD, **BEYOND_A_TILE}
REALISTIC = {
    "first layer": cases.geometry(8, 3, 16, (32, 32), (5, 5), padding=2),
    "body of a ResNet": cases.geometry(4, 64, 128, (28, 28), (3, 3), stride=2, padding=1),
    "pointwise": cases.geometry(2, 160, 96, (14, 14), (1, 1)),
}
# A tile of 128 x 128 float64 numbers would need more registers than a thread has.
SHAPES = [
    (name, tile) for name in FORMATS for tile in TILES if name != "float64" or tile != (128, 128)
]


def assert_equal(kind, of, name, chosen, **how):
    dtype, _ = FORMATS[name]
    case = cases.make_case(kind, of, dtype, integers=True)
    expected = cases.body(kind, of, case.left, case.right)
    got = cases.run_kernel(kind, of, case, dtype, chosen, **how)
    assert np.array_equal(cases.as_numbers(got), expected)


def assert_close(kind, of, name, chosen, **how):
    dtype, _ = FORMATS[name]
    case = cases.make_case(kind, of, dtype, integers=False)
    expected = cases.body(kind, of, case.left, case.right)
    got = cases.as_numbers(cases.run_kernel(kind, of, case, dtype, chosen, **how))
    bound = cases.error_bound(kind, of, case, dtype, tf32=name == "tf32")
    assert (np.abs(got - expected) <= bound).all()


def random_geometry(seed):
    """Up to three axes, lengths to 9, strides, padding and dilation to 4, groups to 3."""
    rng = np.random.default_rng(seed)
    dims = int(rng.integers(1, 4))
    while True:
        lengths = [
            tuple(int(n) for n in rng.integers(low, high, dims))
            for low, high in ((1, 10), (1, 5), (1, 5), (0, 5), (1, 5))
        ]
        groups, images, c, f = (int(n) for n in rng.integers(1, (4, 5, 6, 9)))
        size, window, *how = lengths
        of = cases.geometry(images, c * groups, f * groups, size, window, *how, groups)
        if min(of.out) > 0:
            return of


# ---- compiled, without a GPU --------------------------------------------------------------------


def instances_of(name, dims):
    """Every instance that the launcher can ask for in a format with so many axes."""
    dtype, tensor = FORMATS[name]
    tiles = [tile for n, tile in SHAPES if n == name]
    return [
        f"conv_tiled<{TYPES[dtype]}, {dims}, {kind}, {int(tensor)}, {high}, {wide}>"
        for kind in range(3)
        for high, wide in tiles
    ]


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_direct_kernel_compiles_without_a_gpu(architecture):
    assert_compiles(architecture, "conv.cu", cases.DIRECT)


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_one_tile_of_each_format_compiles_without_a_gpu(architecture):
    names = [f"conv_add_partials<{TYPES[FORMATS[name][0]]}>" for name in FORMATS]
    for name in FORMATS:
        if architecture >= 80 or name not in ("bfloat16", "tf32"):
            names.append(instances_of(name, 2)[0])
    assert_compiles(architecture, "conv_tiled.cu", names)


@pytest.mark.long(keep=1)
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_tile_compiles_to_at_most_half_of_the_registers(architecture, name, dims):
    skip_unless_compilable(architecture)
    if name in ("bfloat16", "tf32") and architecture < 80:
        pytest.skip(f"sm_{architecture} has no tensor cores for {name}")
    names = instances_of(name, dims)
    for found in resources(architecture, cuda.source("conv_tiled.cu"), names).values():
        assert found.registers <= 128 and found.shared <= 48 * 1024


def test_log_of_the_assembler_is_read():
    log = """ptxas info    : Compiling entry function '_Zone' for 'sm_90'
ptxas         .     8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 21504 bytes smem
ptxas info    : Compiling entry function '_Ztwo' for 'sm_90'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 7 registers
"""
    assert parsed(log) == {"_Zone": (40, 21504, 8, 12, 16), "_Ztwo": (7, 0, 0, 0, 0)}


def test_table_of_resources_names_kernels_that_exist():
    for file, names in REPRESENTATIVES.items():
        for name in names:
            assert f" {name.split('<')[0]}(" in cuda.source(file)


# ---- run on the CPU -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_direct_kernel_equals_the_body(dtype, kind):
    name = next(n for n, (d, _) in FORMATS.items() if d == dtype)
    for of in ALL.values():
        assert_equal(KINDS[kind], of, name, DIRECT, blocks=3)
        assert_close(KINDS[kind], of, name, DIRECT, blocks=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_tiled_kernel_equals_the_body(name, kind):
    dtype, tensor = FORMATS[name]
    for of in AWKWARD.values():
        chosen = tiled_plan(KINDS[kind], of, dtype, tensor, (64, 64), splits=1)
        assert_equal(KINDS[kind], of, name, chosen)
        assert_close(KINDS[kind], of, name, chosen)


@pytest.mark.long(keep=12)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "tile"), SHAPES)
@pytest.mark.parametrize("which", [*BEYOND_A_TILE, "stride and dilation share a divisor", "groups"])
def test_every_tile_equals_the_body(name, tile, kind, which):
    dtype, tensor = FORMATS[name]
    of = ALL[which]
    chosen = tiled_plan(KINDS[kind], of, dtype, tensor, tile)
    assert_equal(KINDS[kind], of, name, chosen)
    assert_close(KINDS[kind], of, name, chosen)


@pytest.mark.long(keep=12)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(100))
def test_any_convolution_equals_the_body(seed, kind):
    of = random_geometry(seed)
    for name, (dtype, tensor) in FORMATS.items():
        chosen = tiled_plan(KINDS[kind], of, dtype, tensor, (64, 64))
        assert_equal(KINDS[kind], of, name, chosen)
        if not tensor:
            assert_equal(KINDS[kind], of, name, DIRECT, blocks=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["float32", "float16", "tf32"])
@pytest.mark.parametrize("splits", [2, 3, 100])
def test_sums_may_be_cut(name, kind, splits):
    dtype, tensor = FORMATS[name]
    for of in (ALL["17 channels, 19 filters"], ALL["three axes, groups"], ALL["groups"]):
        chosen = tiled_plan(KINDS[kind], of, dtype, tensor, (64, 64), splits)
        assert_equal(KINDS[kind], of, name, chosen)
        assert_close(KINDS[kind], of, name, chosen)
    of = ALL["17 channels, 19 filters"]
    assert tiled_plan(KINDS[kind], of, dtype, tensor, (64, 64), splits).splits > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["float32", "float16"])
def test_bits_depend_neither_on_the_tile_nor_on_the_order_of_threads(name, kind):
    dtype, tensor = FORMATS[name]
    of = ALL["17 channels, 19 filters"]
    case = cases.make_case(KINDS[kind], of, dtype, integers=False)
    results = [
        cases.run_kernel(
            KINDS[kind],
            of,
            case,
            dtype,
            tiled_plan(KINDS[kind], of, dtype, tensor, tile, splits=1),
            reversed_order=reversed_order,
        )
        for tile, reversed_order in ((TILES[0], False), (TILES[1], False), (TILES[1], True))
    ]
    if name == "float32":  # the same sums in the same order
        results.append(cases.run_kernel(KINDS[kind], of, case, dtype, DIRECT, blocks=1))
        results.append(
            cases.run_kernel(KINDS[kind], of, case, dtype, DIRECT, blocks=5, reversed_order=True)
        )
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_path_of_sm_75_equals_the_body(kind):
    of = ALL["17 channels, 19 filters"]
    chosen = tiled_plan(KINDS[kind], of, "float16", True, (64, 64))
    how = {"options": ("-DGPUGRAD_MMA_ARCH=750",), "tiles": ((64, 64),)}
    assert_equal(KINDS[kind], of, "float16", chosen, **how)
    assert_close(KINDS[kind], of, "float16", chosen, **how)


@pytest.mark.long(keep=8)
@pytest.mark.parametrize("which", ALL)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["direct", "float32", "float16", "tf32"])
def test_kernel_stays_inside_its_arrays(name, kind, which):
    dtype, tensor = FORMATS.get(name, ("float32", False))
    of, chosen = ALL[which], DIRECT
    if name != "direct":
        chosen = tiled_plan(KINDS[kind], of, dtype, tensor, (64, 64))
    assert_equal(KINDS[kind], of, name if tensor else "float32", chosen, sanitize=True)


@pytest.mark.parametrize("chosen", [DIRECT, Plan((64, 64, 16), False, 1, 160)])
@pytest.mark.parametrize("operand", [0, 1, "result"])
def test_sanitizer_sees_an_element_too_few(chosen, operand):
    of = ALL["17 channels, 19 filters"]
    case = cases.make_case(conv_cuda.FORWARD, of, "float32", integers=True)
    stored, result = list(case.stored), None
    if operand == "result":
        result = np.empty(of.shapes[2], np.float32).reshape(-1)[:-1].copy()
    else:
        stored[operand] = stored[operand].reshape(-1)[:-1].copy()
    with pytest.raises(LaunchError, match="heap-buffer-overflow"):
        cases.run_kernel(
            conv_cuda.FORWARD,
            of,
            case._replace(stored=tuple(stored)),
            "float32",
            chosen,
            sanitize=True,
            result=result,
        )


# ---- which kernel -------------------------------------------------------------------------------


def test_small_convolutions_are_direct_and_large_ones_tiled():
    for which in ("one of everything", "image of width 1", "groups", "three axes"):
        assert all(plan(kind, AWKWARD[which], "float32") == DIRECT for kind in KINDS.values())
    for of in REALISTIC.values():
        assert all(plan(kind, of, "float32").tile is not None for kind in KINDS.values())


@pytest.mark.parametrize(
    ("dtype", "capability", "tf32", "tensor"),
    [
        ("float16", 75, False, True),
        ("bfloat16", 75, False, False),
        ("bfloat16", 80, False, True),
        ("float32", 90, False, False),
        ("float32", 90, True, True),
        ("float32", 75, True, False),
        ("float64", 90, True, False),
    ],
)
def test_tensor_cores_are_used_where_they_are_and_are_asked_for(dtype, capability, tf32, tensor):
    for of in REALISTIC.values():
        for kind in KINDS.values():
            chosen = plan(kind, of, dtype, capability=capability, tf32=tf32)
            assert chosen.tensor is tensor


@pytest.mark.parametrize("dtype", TYPES)
def test_plans_fit_the_launch_and_cover_the_sum(dtype):
    rng = np.random.default_rng(11)
    tiled = 0
    for _ in range(300):
        c, f, groups, size, k, s, images = (
            int(2**x) for x in rng.uniform(0, (9, 9, 5, 8, 4, 4, 10))
        )
        how = {"stride": s, "padding": k // 2, "groups": groups}
        of = cases.geometry(images, c * groups, f * groups, (size, size), (k, k), **how)
        for kind in KINDS.values():
            chosen = plan(kind, of, dtype)
            if chosen.tile is None:
                continue
            tiled += 1
            m, n, terms, products, _ = of.product(kind)
            high, wide, depth = chosen.tile
            assert (chosen.splits - 1) * chosen.split_length < terms
            assert chosen.splits * chosen.split_length >= terms
            assert chosen.split_length % depth == 0
            assert -(-m // high) <= 65535 and products * chosen.splits <= 65535
            assert -(-n // wide) < 2**31
    assert tiled > 100


def test_work_beyond_the_launch_limits_is_direct():
    # 400 x 400 classes of the input gradient, more than the blocks of an axis
    of = cases.geometry(1, 64, 64, (800, 800), (9, 9), stride=400)
    assert plan(conv_cuda.INPUT_GRAD, of, "float32") == DIRECT
    depthwise = cases.geometry(8, 64, 64, (56, 56), (3, 3), padding=1, groups=64)
    assert plan(conv_cuda.FORWARD, depthwise, "float32") == DIRECT


def test_tf32_is_a_switch_of_the_context():
    assert conv_cuda._tf32.get() is False
    with use_tf32():
        assert conv_cuda._tf32.get() is True
        with use_tf32(False):
            assert conv_cuda._tf32.get() is False
    assert conv_cuda._tf32.get() is False
    with pytest.raises(ParameterError, match=r"use_tf32: got 1, expected True or False"):
        use_tf32(1)


# ---- the launcher, end to end -------------------------------------------------------------------


def operands(of, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(-2, 3, shape).astype(dtype) for shape in of.shapes]


def layout(of):
    return {
        "stride": of.stride,
        "padding": of.padding,
        "dilation": of.dilation,
        "groups": of.groups,
    }


def all_three(of, x, w, g):
    how = layout(of)
    return (
        conv(x, w, **how),
        conv_input_grad(g, w, shape=of.size, **how),
        conv_weight_grad(g, x, window=of.window, **how),
    )


@pytest.mark.parametrize("tiled", [False, True])
def test_primitive_on_every_library(tiled, as_device, host, monkeypatch):
    if tiled:
        monkeypatch.setattr(conv_cuda, "SMALL_WORK", 0)
    of = ALL["17 channels, 19 filters"]
    x, w, g = operands(of)
    with use_kernels(False):
        expected = all_three(of, x, w, g)
    got = all_three(of, *(as_device(z) for z in (x, w, g)))
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and np.array_equal(host(a), b)


def test_launcher_cuts_long_sums(cupy_standin, monkeypatch):
    monkeypatch.setattr(conv_cuda, "SMALL_WORK", 0)
    of = cases.geometry(3, 2, 10, (15, 15), (2, 2))
    assert plan(conv_cuda.WEIGHT_GRAD, of, "float32").splits == 2
    x, _, g = operands(of)
    arrays = [to_device(z, "cuda") for z in (g, x)]
    got = conv_weight_grad(*arrays, window=of.window, **layout(of))
    expected = conv_weight_grad(g, x, window=of.window, **layout(of))
    assert np.array_equal(asnumpy(got), expected)


def test_launcher_takes_strided_operands_and_promotes_them(as_device, host):
    of = ALL["stride over the window"]
    x, w, _ = operands(of)
    strided = as_device(np.ascontiguousarray(np.moveaxis(x, 1, -1)))
    strided = strided.transpose(0, 3, 1, 2)
    got = conv(strided, as_device(w.astype(np.float64)), **layout(of))
    assert got.dtype == np.float64
    assert np.array_equal(host(got), conv(x.astype(np.float64), w, **layout(of)))


@pytest.mark.parametrize("dtype", ["int64", "complex128"])
def test_types_that_the_kernels_do_not_have_go_to_the_body(dtype, as_device, host):
    of = ALL["groups"]
    x, w, g = operands(of, dtype)
    for a, b in zip(all_three(of, *map(as_device, (x, w, g))), all_three(of, x, w, g), strict=True):
        assert a.dtype == dtype and np.array_equal(host(a), b)


def test_four_axes_go_to_the_body(as_device, host):
    of = cases.geometry(2, 2, 3, (3, 4, 2, 3), (2, 2, 1, 2), padding=1)
    x, w, g = operands(of)
    for a, b in zip(all_three(of, *map(as_device, (x, w, g))), all_three(of, x, w, g), strict=True):
        assert np.array_equal(host(a), b)


@pytest.mark.parametrize(
    "of",
    [
        cases.geometry(0, 3, 4, (5, 6), (2, 3)),
        cases.geometry(2, 0, 4, (5, 6), (2, 3)),
        cases.geometry(2, 3, 0, (5, 6), (2, 3)),
        cases.geometry(2, 3, 4, (1, 6), (2, 3)),
    ],
    ids=["no images", "no channels", "no filters", "no output"],
)
def test_empty_convolutions(of, as_device, host):
    x, w, g = operands(of)
    for a, shape in zip(
        all_three(of, *map(as_device, (x, w, g))), (g.shape, x.shape, w.shape), strict=True
    ):
        assert a.shape == shape and not host(a).any()


def test_operands_that_do_not_fit_are_named(cupy_standin):
    of = ALL["groups"]
    x, w, g = (to_device(z, "cuda") for z in operands(of))
    with pytest.raises(ParameterError, match=r"conv: operands \(2, 6, 6, 7\) and \(9, 1, 3, 2\)"):
        conv(x, w[:, :1], **layout(of))
    with pytest.raises(ParameterError, match=r"conv_input_grad: operands"):
        conv_input_grad(g[..., :-1], w, shape=of.size, **layout(of))
    with pytest.raises(ParameterError, match=r"conv_weight_grad: operands"):
        conv_weight_grad(g, x, window=(2, 2), **layout(of))


@pytest.mark.gpu
@pytest.mark.parametrize("which", [*ALL, *REALISTIC])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_kernels_on_the_gpu_equal_both_bodies(which, dtype, monkeypatch):
    of = {**ALL, **REALISTIC}[which]
    for small_work in (1 << 60, 0, conv_cuda.SMALL_WORK):
        monkeypatch.setattr(conv_cuda, "SMALL_WORK", small_work)
        for integers in (True, False):
            for kind in KINDS.values():
                case = cases.make_case(kind, of, dtype, integers=integers)
                how = {**layout(of)}
                how |= {1: {"shape": of.size}, 2: {"window": of.window}}.get(kind, {})
                primitive = (conv, conv_input_grad, conv_weight_grad)[kind]
                arrays = [to_device(z, "cuda") for z in case.stored]
                kernel = asnumpy(primitive(*arrays, **how)).astype(float)
                again = asnumpy(primitive(*arrays, **how)).astype(float)
                assert np.array_equal(kernel, again)
                with use_kernels(False):
                    cupy_body = asnumpy(primitive(*arrays, **how)).astype(float)
                exact = cases.body(kind, of, case.left, case.right)
                bound = cases.error_bound(kind, of, case, dtype)
                if integers and np.abs(exact).max(initial=0) <= 2048:
                    assert np.array_equal(kernel, exact)
                assert (np.abs(kernel - exact) <= bound).all()
                # CuPy's product may use TF32 where a variable of the environment says so.
                assert (np.abs(cupy_body - exact) <= bound).all()
        if dtype == "float32" and int(_capability()) >= 80:
            _check_tf32(of)


def _capability():
    import cupy

    return cupy.cuda.Device().compute_capability


def _check_tf32(of):
    for kind in KINDS.values():
        case = cases.make_case(kind, of, "float32", integers=False)
        how = layout(of) | {1: {"shape": of.size}, 2: {"window": of.window}}.get(kind, {})
        primitive = (conv, conv_input_grad, conv_weight_grad)[kind]
        with use_tf32():
            got = asnumpy(primitive(*(to_device(z, "cuda") for z in case.stored), **how))
        exact = cases.body(kind, of, case.left, case.right)
        assert (np.abs(got - exact) <= cases.error_bound(kind, of, case, "float32", True)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bfloat16", "bfloat16 by FMA"])
def test_bfloat16_kernels_on_the_gpu_equal_the_body(name, kind):
    import cupy

    dtype, tensor = FORMATS[name]
    if tensor and int(_capability()) < 80:
        pytest.skip("bfloat16 tensor cores need compute capability 8.0")
    for of in (*ALL.values(), *REALISTIC.values()):
        case = cases.make_case(KINDS[kind], of, dtype, integers=False)
        chosen = tiled_plan(KINDS[kind], of, dtype, tensor)
        left, right = (cupy.asarray(z) for z in case.stored)
        result = cupy.zeros(cases.operand_shapes(KINDS[kind], of)[2], np.uint16)
        partial = cupy.empty((chosen.splits, result.size), np.float32)
        for call in conv_cuda.kernel_calls(
            KINDS[kind], of, chosen, left, right, result, partial, type_name=TYPES[dtype]
        ):
            cuda.kernel(call.file, call.name)(call.grid, call.block, call.arguments)
        got = cases.as_numbers(result.get())
        exact = cases.body(KINDS[kind], of, case.left, case.right)
        assert (np.abs(got - exact) <= cases.error_bound(KINDS[kind], of, case, dtype)).all()
