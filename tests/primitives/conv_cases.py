"""Convolutions of awkward sizes and their kernels on the CPU, for the tests of the kernels."""

from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.vocabulary import namespace_of
from gpugrad.primitives import conv_cuda
from gpugrad.primitives.conv import conv, conv_input_grad, conv_weight_grad, output_lengths
from gpugrad.primitives.conv_cuda import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Geometry, Plan
from tests.cuda_on_host.kernels import host_kernel
from tests.primitives.gibbs_cases import from_bfloat16, to_bfloat16

KINDS = {"forward": FORWARD, "input_grad": INPUT_GRAD, "weight_grad": WEIGHT_GRAD}
TYPES = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
TILES = ((32, 128), (64, 64), (128, 128))
#: What the tiled kernel multiplies: dtype, and whether by tensor cores.
FORMATS = {
    "float32": ("float32", False),
    "float64": ("float64", False),
    "float16": ("float16", True),
    "bfloat16": ("bfloat16", True),
    "tf32": ("float32", True),
    "bfloat16 by FMA": ("bfloat16", False),
}
#: The relative rounding of numbers before they are multiplied, of sums, and of the result.
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def geometry(
    images: int,
    channels: int,
    filters: int,
    size: tuple[int, ...],
    window: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Geometry:
    """The sizes of a convolution; one number stands for all axes."""
    lengths = [n if isinstance(n, tuple) else (n,) * len(size) for n in (stride, padding, dilation)]
    out = output_lengths(size, window, *lengths)
    return Geometry(images, channels, filters, groups, size, out, window, *lengths)


#: name: sizes. Each has something that breaks kernels.
AWKWARD = {
    "one of everything": geometry(1, 1, 1, (1,), (1,)),
    "image of width 1": geometry(2, 3, 5, (9, 1), (3, 1), padding=(1, 0)),
    "window as large as the image": geometry(3, 2, 17, (4, 5), (4, 5)),
    "stride over the window": geometry(2, 3, 4, (11, 13), (2, 3), stride=(5, 4)),
    "stride over the image": geometry(2, 3, 4, (5, 6), (2, 2), stride=7),
    "dilation that reaches over the image": geometry(
        1, 3, 4, (5, 6), (3, 2), padding=4, dilation=6
    ),
    "padding over the window": geometry(1, 2, 3, (3, 4), (2, 2), padding=5),
    "stride and dilation share a divisor": geometry(
        2, 3, 5, (13, 17), (3, 4), stride=(4, 6), padding=(3, 2), dilation=(2, 4)
    ),
    "stride and dilation without one": geometry(
        2, 3, 5, (13, 17), (3, 4), stride=(3, 2), padding=(2, 5), dilation=(2, 3)
    ),
    "rows that no window reaches": geometry(2, 1, 2, (10,), (2,), stride=4),
    "17 channels, 19 filters": geometry(2, 17, 19, (7, 9), (3, 3), padding=1),
    "groups": geometry(2, 6, 9, (6, 7), (3, 2), stride=(2, 1), padding=1, groups=3),
    "a group for each channel": geometry(2, 5, 10, (6, 5), (3, 3), padding=1, groups=5),
    "one axis": geometry(3, 4, 6, (37,), (5,), stride=2, padding=3, dilation=2),
    "three axes": geometry(
        2, 3, 4, (5, 4, 6), (2, 3, 2), stride=(1, 2, 3), padding=(1, 0, 2), dilation=(2, 1, 1)
    ),
    "three axes, groups": geometry(1, 4, 6, (3, 5, 4), (2, 2, 3), padding=1, groups=2),
}
#: Sums and sizes beyond a tile of each shape, none a multiple of one.
BEYOND_A_TILE = {
    "more filters than a tile": geometry(2, 5, 131, (9, 8), (3, 3), padding=1),
    "more channels than a tile": geometry(1, 130, 7, (6, 7), (3, 2), stride=(2, 1)),
    "more images than a tile": geometry(37, 3, 33, (5, 5), (2, 3), padding=(1, 1), groups=1),
}


class Case(NamedTuple):
    """Operands of a primitive: as numbers, and as they are stored (bfloat16: its bits)."""

    left: np.ndarray
    right: np.ndarray
    stored: tuple[np.ndarray, np.ndarray]


def operand_shapes(kind: int, of: Geometry) -> tuple[Any, Any, Any]:
    """Shapes of the two operands and of the result."""
    x, w, y = of.shapes
    return {FORWARD: (x, w, y), INPUT_GRAD: (y, w, x), WEIGHT_GRAD: (y, x, w)}[kind]


def make_case(kind: int, of: Geometry, dtype: str, *, integers: bool, seed: int = 0) -> Case:
    """Operands of -1, 0 and 1, or normally distributed ones.

    The sums of products of the former are exact, and below 256 for the sizes here: even bfloat16
    holds them.
    """
    rng = np.random.default_rng([seed, kind, *of.size, *of.window, of.channels, of.filters])
    numbers, stored = [], []
    for shape in operand_shapes(kind, of)[:2]:
        if integers:
            x = rng.integers(-1, 2, shape).astype(np.float64)
        else:
            x = rng.normal(0, 1, shape)
        bits = to_bfloat16(x) if dtype == "bfloat16" else x.astype(dtype)
        stored.append(bits)
        numbers.append((from_bfloat16(bits) if dtype == "bfloat16" else bits).astype(np.float64))
    return Case(numbers[0], numbers[1], (stored[0], stored[1]))


def body(kind: int, of: Geometry, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The primitive's body on NumPy."""
    how = {"stride": of.stride, "padding": of.padding, "dilation": of.dilation}
    primitive, more = {
        FORWARD: (conv, {}),
        INPUT_GRAD: (conv_input_grad, {"shape": of.size}),
        WEIGHT_GRAD: (conv_weight_grad, {"window": of.window}),
    }[kind]
    return primitive.body(namespace_of(np), left, right, **how, **more, groups=of.groups)


def error_bound(kind: int, of: Geometry, case: Case, dtype: str, tf32: bool = False) -> np.ndarray:
    """How far a sum of K products may be from the exact one, in any order of summation.

    (K + 2) u sum |a b| with u the rounding of the sums, K the terms; 2^-10 sum |a b| more where
    both factors are rounded to TF32; the rounding of the result on top.
    """
    sums = 2.0**-53 if dtype == "float64" else 2.0**-24
    terms = {
        FORWARD: of.channels // of.groups * np.prod(of.window),
        INPUT_GRAD: of.filters // of.groups * np.prod(of.window),
        WEIGHT_GRAD: of.images * np.prod(of.out),
    }[kind]
    # The reference is computed in float64 and has an error of its own.
    magnitude = body(kind, of, np.abs(case.left), np.abs(case.right))
    exact = np.abs(body(kind, of, case.left, case.right))
    bound = (terms + 2) * (sums + 2.0**-53) * magnitude + (2.0**-10 * 1.001 * magnitude) * tf32
    return bound + 2 * UNIT[dtype] * (exact + bound) + (2.0**-24 if dtype == "float16" else 0)


DIRECT = tuple(
    f"conv_direct<{t}, {dims}, {kind}>"
    for t in TYPES.values()
    for dims in (1, 2, 3)
    for kind in range(3)
)


def tiled_instances(dtype: str, tensor: bool, tiles: Any = TILES) -> tuple[str, ...]:
    """All tiles with two axes, one tile with one and with three."""
    name = TYPES[dtype]
    tiles = tiles[:2] if dtype == "float64" else tiles
    shapes = [(2, tile) for tile in tiles] + [(1, (64, 64)), (3, (64, 64))]
    return (
        *(
            f"conv_tiled<{name}, {dims}, {kind}, {int(tensor)}, {high}, {wide}>"
            for dims, (high, wide) in shapes
            for kind in range(3)
        ),
        f"conv_add_partials<{name}>",
    )


def run_kernel(
    kind: int,
    of: Geometry,
    case: Case,
    dtype: str,
    chosen: Plan,
    *,
    sanitize: bool = False,
    reversed_order: bool = False,
    options: tuple[str, ...] = (),
    blocks: int | None = None,
    tiles: Any = TILES,
    result: np.ndarray | None = None,
) -> np.ndarray:
    """The result of the kernels on the CPU, as stored; every element is poisoned before."""
    left, right = case.stored
    if result is None:
        result = np.full(operand_shapes(kind, of)[2], 77, left.dtype)
    wide = np.float64 if dtype == "float64" else np.float32
    partial = np.full((chosen.splits, result.size), np.nan, wide) if chosen.splits > 1 else None
    calls = conv_cuda.kernel_calls(
        kind, of, chosen, left, right, result, partial, type_name=TYPES[dtype]
    )
    names = DIRECT if chosen.tile is None else tiled_instances(dtype, chosen.tensor, tiles)
    how = {"sanitize": sanitize, "reversed_order": reversed_order, "options": options}
    for call in calls:
        grid = (blocks,) if blocks and call.name.startswith("conv_direct") else call.grid
        kernel = host_kernel(call.file, call.name, names, **how)
        kernel(grid, call.block, call.arguments)
    return result


def as_numbers(stored: np.ndarray) -> np.ndarray:
    """Stored numbers as float64."""
    return (from_bfloat16(stored) if stored.dtype == np.uint16 else stored).astype(np.float64)
