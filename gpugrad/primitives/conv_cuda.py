"""The launchers of kernels/conv.cu and kernels/conv_tiled.cu: convolution on the GPU.

The primitives and their bodies are in `gpugrad.primitives.conv`; importing this module attaches the
launchers to them. `plan` is the one place that chooses a kernel:

    direct    one thread for an element of the result; small convolutions
    tiled     product of matrices, tile by tile, by multiply-add: float32, float64, and what follows
              where there are no tensor cores for it
    tensor    the same by tensor cores: float16 (compute capability 7.5), bfloat16 (8.0), float32
              rounded to TF32 (8.0) inside `use_tf32(True)`

Four or more spatial axes, dtypes that the kernels do not have, and lengths beyond 32-bit indices go
to the bodies.
"""

import math
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend import cuda
from gpugrad.backend.array_module import device_of, get_array_module, on
from gpugrad.backend.twin import ContextFlag, Primitive
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import KernelError, ParameterError
from gpugrad.primitives.conv import conv, conv_input_grad, conv_weight_grad, output_lengths

__all__ = ["Geometry", "Plan", "kernel_calls", "plan", "use_tf32"]

Lengths = tuple[int, ...]

FORWARD, INPUT_GRAD, WEIGHT_GRAD = range(3)
FMA, TENSOR = range(2)

#: Multiplications below which one thread for each element is as fast: the tiled kernel would have
#: little more than one block. From reasoning, not from a measurement.
SMALL_WORK = 1 << 18

#: Blocks of a launch that keep a large GPU busy. Fixed, and not the number of multiprocessors at
#: hand, so that sums are cut alike, and results equal, on GPUs of any size.
ENOUGH_BLOCKS = 256

#: Terms of a sum that a split has at least.
SPLIT_TERMS = 256

#: What 32-bit indices and the bounds of the tiled kernel leave room for.
LONGEST = 1 << 30
MOST_BLOCKS = 65535

_tf32: ContextVar[bool] = ContextVar("gpugrad_tf32", default=False)


class use_tf32(ContextFlag):
    """Let convolutions of float32 arrays on the GPU use tensor cores, from now on or in a `with`.

    Their numbers are then rounded to TF32, 10 bits of mantissa, before they are multiplied; sums
    stay float32. It is off by default, and has no effect before compute capability 8.0, on the
    host, or on other dtypes. The switch belongs to the calling context.

    Parameters
    ----------
    flag : bool

    Examples
    --------
    >>> from gpugrad.primitives.conv_cuda import use_tf32
    >>> with use_tf32(True):
    ...     pass
    """

    _variable = _tf32


class Geometry(NamedTuple):
    """The sizes of a convolution. `channels` and `filters` are those of all groups together."""

    images: int
    channels: int
    filters: int
    groups: int
    size: Lengths
    out: Lengths
    window: Lengths
    stride: Lengths
    padding: Lengths
    dilation: Lengths

    @property
    def shapes(self) -> tuple[Lengths, Lengths, Lengths]:
        """The shapes of x, w and y."""
        return (
            (self.images, self.channels, *self.size),
            (self.filters, self.channels // self.groups, *self.window),
            (self.images, self.filters, *self.out),
        )

    def arguments(self) -> tuple[np.int32, ...]:
        """As the kernels take them: three axes, of which those that are missing have length 1."""
        more = 3 - len(self.size)
        filled = [self.images, self.channels, self.filters, self.groups]
        for lengths, missing in zip(self[4:], (1, 1, 1, 1, 0, 1), strict=True):
            filled += [*lengths, *[missing] * more]
        return tuple(np.int32(n) for n in filled)

    def product(self, kind: int) -> tuple[int, int, int, int, int]:
        """M, N, K of the product of matrices of one group; how many such; size of the result.

        The input gradient is one product for each class of positions modulo the stride; N and K
        are those of the largest.
        """
        c, f = self.channels // self.groups, self.filters // self.groups
        places, taps = self.images * math.prod(self.out), math.prod(self.window)
        if kind == FORWARD:
            return f, places, c * taps, self.groups, math.prod(self.shapes[2])
        if kind == WEIGHT_GRAD:
            return f, c * taps, places, self.groups, math.prod(self.shapes[1])
        positions = self.images
        for n, s in zip(self.size, self.stride, strict=True):
            positions *= -(-n // s)
        met = f
        for n, s, d in zip(self.window, self.stride, self.dilation, strict=True):
            met *= -(-n // (s // math.gcd(s, d)))
        products = self.groups * math.prod(self.stride)
        return c, positions, met, products, math.prod(self.shapes[0])


class Plan(NamedTuple):
    """How a convolution is computed.

    `tile` is (BM, BN, BK) of kernels/conv_tiled.cu, None for the direct kernel; `tensor` whether
    tensor cores multiply; `splits` and `split_length` cut the sums.
    """

    tile: tuple[int, int, int] | None
    tensor: bool = False
    splits: int = 1
    split_length: int = 0


def plan(kind: int, of: Geometry, dtype: str, *, capability: int = 90, tf32: bool = False) -> Plan:
    """Choose the kernel for a convolution, from its sizes and the GPU's compute capability alone.

    Parameters
    ----------
    kind : {FORWARD, INPUT_GRAD, WEIGHT_GRAD}
    of : Geometry
    dtype : {"float16", "bfloat16", "float32", "float64"}
    capability : int
        Ten times the compute capability.
    tf32 : bool
        Whether float32 may be rounded to TF32.
    """
    m, n, k, products, _ = of.product(kind)
    fits = k < LONGEST and -(-m // 32) <= MOST_BLOCKS and products <= MOST_BLOCKS
    # A tile has 32 rows at least. With one or two, as when each channel is a group, it is all but
    # empty; the weight gradient's sums are so long that cutting them wins all the same.
    narrow = m < 3 and kind != WEIGHT_GRAD
    if not fits or narrow or m * n * k * products < SMALL_WORK:
        return Plan(None)
    tensor = {"float16": capability >= 75, "bfloat16": capability >= 80}.get(dtype, False)
    tensor = tensor or (dtype == "float32" and tf32 and capability >= 80)
    return tiled_plan(kind, of, dtype, tensor)


def tiled_plan(
    kind: int,
    of: Geometry,
    dtype: str,
    tensor: bool,
    tile: tuple[int, int] | None = None,
    splits: int | None = None,
) -> Plan:
    """The plan with the tiled kernel; `tile` and `splits` are chosen where they are not given."""
    m, n, k, products, _ = of.product(kind)

    def blocks(shape: tuple[int, int]) -> int:
        return -(-m // shape[0]) * -(-n // shape[1]) * products

    if tile is None:
        tile = (32, 128) if m <= 32 else (64, 64)
        if m > 64 and dtype != "float64" and blocks((128, 128)) >= ENOUGH_BLOCKS:
            tile = (128, 128)
    if tensor:
        depth = 16 if dtype == "float32" else 32
    else:
        depth = 8 if math.prod(tile) > 4096 else 16
    if splits is None:
        splits = min(ENOUGH_BLOCKS // max(blocks(tile), 1), k // SPLIT_TERMS)
    splits = max(1, min(splits, MOST_BLOCKS // products))
    length = -(-k // splits)
    length = max(depth, -(-length // depth) * depth)
    return Plan((*tile, depth), tensor, max(1, -(-k // length)), length)


class Call(NamedTuple):
    """A launch: kernel file, name of the instance, grid, block, arguments."""

    file: str
    name: str
    grid: Lengths
    block: Lengths
    arguments: tuple[Any, ...]


def kernel_calls(
    kind: int,
    of: Geometry,
    chosen: Plan,
    left: Any,
    right: Any,
    result: Any,
    partial: Any = None,
    *,
    type_name: str | None = None,
) -> list[Call]:
    """The launches for a plan.

    Parameters
    ----------
    kind, of, chosen
        As in `plan`.
    left, right : array, contiguous
        The operands in the order of the primitive.
    result : array, contiguous
    partial : array, shape (splits, result.size), optional
        Needed where the plan has more than one split.
    type_name : str, optional
        The CUDA type, where arrays of integers hold the bits of a type that NumPy lacks.
    """
    name = type_name or cuda.type_name("conv", left.dtype)
    m, n, _, products, size = of.product(kind)
    dims = len(of.size)
    sizes = of.arguments()
    if chosen.tile is None:
        blocks = min(-(-size // cuda.THREADS), cuda.MAX_BLOCKS)
        instance = f"conv_direct<{name}, {dims}, {kind}>"
        args = (left, right, result, *sizes)
        return [Call("conv.cu", instance, (blocks,), (cuda.THREADS,), args)]
    high, wide, _ = chosen.tile
    math_kind = TENSOR if chosen.tensor else FMA
    instance = f"conv_tiled<{name}, {dims}, {kind}, {math_kind}, {high}, {wide}>"
    # A is w for the forward pass and the input gradient, g for the weight gradient.
    a, gathered = (left, right) if kind == WEIGHT_GRAD else (right, left)
    several = chosen.splits > 1
    args = (
        a,
        gathered,
        result,
        partial if several else 0,
        np.int32(chosen.splits),
        np.int32(chosen.split_length),
        *sizes,
    )
    grid = (-(-n // wide), -(-m // high), chosen.splits * products)
    calls = [Call("conv_tiled.cu", instance, grid, (cuda.THREADS,), args)]
    if several:
        blocks = min(-(-size // cuda.THREADS), cuda.MAX_BLOCKS)
        args = (partial, result, np.int64(size), np.int32(chosen.splits))
        instance = f"conv_add_partials<{name}>"
        calls.append(Call("conv_tiled.cu", instance, (blocks,), (cuda.THREADS,), args))
    return calls


def _run(
    primitive: Primitive, kind: int, left: Any, right: Any, of: Geometry | None, **parameters: Any
) -> Any:
    """The primitive by kernels, or by its body where they do not reach."""
    cp = get_array_module(left, right)
    dtype = np.result_type(left.dtype, right.dtype)
    try:
        name = cuda.type_name(primitive.name, dtype)
    except KernelError:
        name = None
    if of is None or name is None:
        return primitive.body(namespace_of(cp), left, right, **parameters)
    shapes = of.shapes
    expected = {
        FORWARD: (shapes[0], shapes[1], shapes[2]),
        INPUT_GRAD: (shapes[2], shapes[1], shapes[0]),
        WEIGHT_GRAD: (shapes[2], shapes[0], shapes[1]),
    }[kind]
    if left.shape != expected[0] or right.shape != expected[1]:
        raise ParameterError(
            f"{primitive.name}: operands {left.shape} and {right.shape},"
            f" expected {expected[0]} and {expected[1]}"
        )
    with on(device_of(left)):
        if 0 in (left.size, right.size, math.prod(expected[2])):
            return cp.zeros(expected[2], dtype)
        left, right = (cp.ascontiguousarray(x.astype(dtype, copy=False)) for x in (left, right))
        result = cp.empty(expected[2], dtype)
        chosen = plan(
            kind,
            of,
            dtype.name,
            capability=int(cp.cuda.Device().compute_capability),
            tf32=_tf32.get(),
        )
        partial = None
        if chosen.splits > 1:
            wide = np.float64 if dtype == np.float64 else np.float32
            partial = cp.empty((chosen.splits, result.size), wide)
        for call in kernel_calls(kind, of, chosen, left, right, result, partial):
            cuda.kernel(call.file, call.name)(call.grid, call.block, call.arguments)
    return result


def _geometry(
    images: int,
    channels: int,
    filters: int,
    groups: int,
    size: Lengths,
    window: Lengths,
    how: tuple[Lengths, Lengths, Lengths],
) -> Geometry | None:
    """The sizes, or None where the kernels cannot have them."""
    stride, padding, dilation = (tuple(int(n) for n in lengths) for lengths in how)
    out = output_lengths(size, window, stride, padding, dilation)
    extents = [n + 2 * p for n, p in zip(size, padding, strict=True)]
    extents += [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    extents += [images, channels, filters, *stride]
    if not 1 <= len(size) <= 3 or max(extents) >= LONGEST:
        return None
    size, window = tuple(size), tuple(window)
    return Geometry(images, channels, filters, groups, size, out, window, stride, padding, dilation)


def _conv_on_cuda(
    x: Any, w: Any, *, stride: Lengths, padding: Lengths, dilation: Lengths, groups: int = 1
) -> Any:
    how = (stride, padding, dilation)
    of = _geometry(x.shape[0], x.shape[1], w.shape[0], groups, x.shape[2:], w.shape[2:], how)
    return _run(
        conv, FORWARD, x, w, of, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def _conv_input_grad_on_cuda(
    g: Any,
    w: Any,
    *,
    shape: Lengths,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> Any:
    how = (stride, padding, dilation)
    of = _geometry(g.shape[0], w.shape[1] * groups, w.shape[0], groups, shape, w.shape[2:], how)
    return _run(
        conv_input_grad,
        INPUT_GRAD,
        g,
        w,
        of,
        shape=shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _conv_weight_grad_on_cuda(
    g: Any,
    x: Any,
    *,
    window: Lengths,
    stride: Lengths,
    padding: Lengths,
    dilation: Lengths,
    groups: int = 1,
) -> Any:
    how = (stride, padding, dilation)
    of = _geometry(x.shape[0], x.shape[1], g.shape[1], groups, x.shape[2:], window, how)
    return _run(
        conv_weight_grad,
        WEIGHT_GRAD,
        g,
        x,
        of,
        window=window,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


conv.attach(_conv_on_cuda)
conv_input_grad.attach(_conv_input_grad_on_cuda)
conv_weight_grad.attach(_conv_weight_grad_on_cuda)
