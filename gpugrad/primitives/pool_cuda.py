"""The launchers of kernels/pool.cu: pooling, gather and scatter on the GPU.

The primitives and their bodies are in `gpugrad.primitives.pool`; importing this module attaches the
launchers to them. Windows over four or more axes and dtypes that the kernels do not have go to the
bodies.

    scatter -- window given? --- each element looks through the windows that hold it, one pass
                       no:  --- a stable sort of the indices, then the equal ones added up

Both add in the C order of `g`, so that their results are the body's, bit for bit.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend import cuda
from gpugrad.backend.array_module import device_of, get_array_module, on
from gpugrad.backend.twin import Primitive
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import KernelError, ParameterError
from gpugrad.primitives.pool import (
    flat_keys,
    gather,
    max_pool,
    max_pool_indices,
    max_pool_values,
    mean_pool,
    mean_pool_grad,
    output_lengths,
    scatter,
)

__all__ = ["Call", "Windows", "gather_call", "windows_call"]

Lengths = tuple[int, ...]

#: Lines that a thread works on together, LINES of kernels/pool.cu, where there are so many: else 1.
LINES_AT_ONCE = 4

#: Elements of a line from which on its indices take 64 bits.
LONG_LINE = 1 << 30

#: The kernels in which a thread stands for an element of x; in the others it stands for one of y.
OVER_ELEMENTS = ("mean_pool_grad", "scatter_windows")


class Windows(NamedTuple):
    """How windows lie on `lines` lines of shape `size`."""

    lines: int
    size: Lengths
    out: Lengths
    window: Lengths
    stride: Lengths


class Call(NamedTuple):
    """A launch: name of the instance, threads that have something to do, arguments."""

    name: str
    threads: int
    arguments: tuple[Any, ...]


def _at_once(lines: int) -> int:
    return LINES_AT_ONCE if lines >= LINES_AT_ONCE else 1


def windows_call(
    kernel: str,
    arrays: tuple[Any, ...],
    of: Windows,
    *,
    type_name: str | None = None,
    index: str | None = None,
) -> Call:
    """The launch of a kernel that goes by windows.

    Parameters
    ----------
    kernel : {"max_pool", "scatter_windows", "mean_pool", "mean_pool_grad"}
    arrays : tuple of arrays, contiguous
        In the order of the kernel.
    of : Windows
        Of one to three axes.
    type_name : str, optional
        The CUDA type, where arrays of integers hold the bits of a type that NumPy lacks.
    index : {"int", "i64"}, optional
        The type of indices into a line; the default is as narrow as its length allows.
    """
    length = math.prod(of.size)
    index = index or ("int" if length < LONG_LINE else "i64")
    number = np.int32 if index == "int" else np.int64
    # beyond the line's end a stride makes no difference, and 32 bits might not hold it
    stride = tuple(min(s, max(n, 1)) for s, n in zip(of.stride, of.size, strict=True))
    filled = [
        number(n)
        for lengths in (of.size, of.out, of.window, stride)
        for n in ((1,) * (3 - len(lengths)) + tuple(lengths))
    ]
    over = length if kernel in OVER_ELEMENTS else math.prod(of.out)
    name, at_once = type_name or cuda.type_name(kernel, arrays[0].dtype), _at_once(of.lines)
    return Call(
        f"{kernel}<{name}, {index}, {at_once}>",
        over * -(-of.lines // at_once),
        (*arrays, np.int64(of.lines), *filled),
    )


def gather_call(x: Any, indices: Any, y: Any, lines: int, *, type_name: str | None = None) -> Call:
    """The launch of `gather` for contiguous arrays of `lines` lines, of which there are some."""
    length, places, at_once = x.size // lines, indices.size // lines, _at_once(lines)
    return Call(
        f"gather<{type_name or cuda.type_name('gather', x.dtype)}, {at_once}>",
        places * -(-lines // at_once),
        (x, indices, y, np.int64(lines), np.int64(length), np.int64(places)),
    )


def _launch(array: Any, call: Call) -> None:
    cuda.launch("pool.cu", call.name, array, call.threads, call.arguments)


def _has_kernel(primitive: Primitive, x: Any, axes: int | None = None) -> bool:
    """Whether there are kernels for arrays like `x`, and for windows over so many axes."""
    try:
        cuda.type_name(primitive.name, x.dtype)
    except KernelError:
        return False
    return axes is None or 1 <= axes <= 3


def _windows(
    primitive: Primitive, lead: Lengths, size: Lengths, out: Lengths | None, *how: Lengths
) -> Windows:
    """The windows on lines of shape `size`; if there is an array of their places, it must fit."""
    window, stride = (tuple(int(n) for n in lengths) for lengths in how)
    places = output_lengths(size, window, stride)
    if out is not None and tuple(out) != places:
        raise ParameterError(
            f"{primitive.name}: {tuple(out)} places, expected {places}"
            f" (shape {tuple(size)}, window {window}, stride {stride})"
        )
    return Windows(math.prod(lead), tuple(size), places, window, stride)


def _max_pool(primitive: Primitive, *given: Any, window: Lengths, stride: Lengths) -> Any:
    """Values, indices or both, as the primitive has it."""
    cp, n, x = get_array_module(*given), len(window), given[0]
    if not _has_kernel(primitive, x, n):
        return primitive.body(namespace_of(cp), *given, window=window, stride=stride)
    lead = x.shape[: x.ndim - n]
    of = _windows(primitive, lead, x.shape[x.ndim - n :], None, window, stride)
    y: Any = 0
    indices: Any = 0
    with on(device_of(x)):
        x = cp.ascontiguousarray(x)
        if primitive is not max_pool_indices:
            y = cp.empty((*lead, *of.out), x.dtype)
        if primitive is not max_pool_values:
            indices = cp.empty((*lead, *of.out), np.int64)
        _launch(x, windows_call("max_pool", (x, y, indices), of))
    if primitive is max_pool:
        return y, indices
    return y if primitive is max_pool_values else indices


def _gather_on_cuda(x: Any, indices: Any, *, n: int) -> Any:
    cp = get_array_module(x, indices)
    lead = x.shape[: x.ndim - n]
    if indices.shape[: len(lead)] != lead:
        raise ParameterError(
            f"gather: indices {indices.shape}, expected {lead} before their places"
        )
    if not _has_kernel(gather, x):
        return gather.body(namespace_of(cp), x, indices, n=n)
    with on(device_of(x)):
        y = cp.empty(indices.shape, x.dtype)
        if y.size:
            indices = cp.ascontiguousarray(indices.astype(np.int64, copy=False))
            _launch(x, gather_call(cp.ascontiguousarray(x), indices, y, math.prod(lead)))
    return y


def _scatter_on_cuda(
    g: Any,
    indices: Any,
    *,
    shape: Lengths,
    window: Lengths | None = None,
    stride: Lengths | None = None,
) -> Any:
    cp, n = get_array_module(g, indices), len(shape)
    if indices.shape != g.shape:
        raise ParameterError(f"scatter: indices {indices.shape}, expected {g.shape}")
    if not _has_kernel(scatter, g):
        return scatter.body(namespace_of(cp), g, indices, shape=shape)
    lead = g.shape[: g.ndim - n]
    with on(device_of(g)):
        g = cp.ascontiguousarray(g)
        indices = cp.ascontiguousarray(indices.astype(np.int64, copy=False))
        if window is not None and stride is not None and 1 <= n <= 3:
            of = _windows(scatter, lead, shape, g.shape[g.ndim - n :], window, stride)
            x = cp.empty((*lead, *shape), g.dtype)
            _launch(g, windows_call("scatter_windows", (g, indices, x), of))
            return x
        x = cp.zeros((*lead, *shape), g.dtype)
        keys = flat_keys(cp, indices, n, math.prod(shape))
        order = cp.argsort(keys, kind="stable")
        name = f"add_runs<{cuda.type_name('scatter', g.dtype)}>"
        arguments = (keys[order], order, g, x, np.int64(keys.size))
        _launch(g, Call(name, keys.size, arguments))
    return x


def _mean_pool_on_cuda(x: Any, *, window: Lengths, stride: Lengths) -> Any:
    cp, n = get_array_module(x), len(window)
    if not _has_kernel(mean_pool, x, n):
        return mean_pool.body(namespace_of(cp), x, window=window, stride=stride)
    lead = x.shape[: x.ndim - n]
    of = _windows(mean_pool, lead, x.shape[x.ndim - n :], None, window, stride)
    with on(device_of(x)):
        x = cp.ascontiguousarray(x)
        y = cp.empty((*lead, *of.out), x.dtype)
        _launch(x, windows_call("mean_pool", (x, y), of))
    return y


def _mean_pool_grad_on_cuda(g: Any, *, shape: Lengths, window: Lengths, stride: Lengths) -> Any:
    cp, n = get_array_module(g), len(shape)
    if not _has_kernel(mean_pool_grad, g, n):
        return mean_pool_grad.body(namespace_of(cp), g, shape=shape, window=window, stride=stride)
    lead = g.shape[: g.ndim - n]
    of = _windows(mean_pool_grad, lead, shape, g.shape[g.ndim - n :], window, stride)
    with on(device_of(g)):
        g = cp.ascontiguousarray(g)
        x = cp.empty((*lead, *shape), g.dtype)
        _launch(g, windows_call("mean_pool_grad", (g, x), of))
    return x


for variant in (max_pool, max_pool_values, max_pool_indices):
    variant.attach(partial(_max_pool, variant))
gather.attach(_gather_on_cuda)
scatter.attach(_scatter_on_cuda)
mean_pool.attach(_mean_pool_on_cuda)
mean_pool_grad.attach(_mean_pool_grad_on_cuda)
