"""The launchers of kernels/philox.cu: random numbers made on the GPU.

The primitives themselves, with their bodies and the host's launchers, are in
`gpugrad.backend.philox`, where the generator can reach them. Importing this module attaches the
kernels to them.
"""

from typing import Any

import numpy as np

from gpugrad.backend import cuda
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.philox import Draw, bernoulli_, normal_, uniform_, words_

__all__ = ["bernoulli_", "normal_", "uniform_", "words_"]

FILE = "philox.cu"


def _contiguous(out: Any) -> Any:
    """`out`, or where its strides forbid it contiguous memory of its shape on its device."""
    if out.flags.c_contiguous:
        return out
    return get_array_module(out).empty(out.shape, out.dtype)


def _written(out: Any, target: Any) -> Any:
    if target is not out:
        out[...] = target
    return out


def _words_on_cuda(out: Any, *, draw: Draw) -> Any:
    target = _contiguous(out)
    args = (target, np.int64(out.size), *cuda.draw_arguments(draw))
    cuda.launch(FILE, "fill_words", target, -(-out.size // 4), args)
    return _written(out, target)


def _fill(kernel: str, out: Any, draw: Draw, first: float, second: float) -> Any:
    target, kind = _contiguous(out), out.dtype.type
    name = f"{kernel}<{cuda.type_name(kernel, out.dtype)}>"
    args = (target, np.int64(out.size), kind(first), kind(second), *cuda.draw_arguments(draw))
    cuda.launch(FILE, name, target, -(-out.nbytes // 32), args)
    return _written(out, target)


def _uniform_on_cuda(out: Any, *, draw: Draw, low: float = 0.0, high: float = 1.0) -> Any:
    return _fill("fill_uniform", out, draw, low, high - low)


def _normal_on_cuda(out: Any, *, draw: Draw, mean: float = 0.0, std: float = 1.0) -> Any:
    return _fill("fill_normal", out, draw, mean, std)


def _bernoulli_on_cuda(out: Any, p: Any, *, draw: Draw, spin: bool = False) -> Any:
    cp = get_array_module(out)
    p = cp.ascontiguousarray(p)
    direct = out.flags.c_contiguous and np.dtype(out.dtype).kind == "f"
    target = out if direct else cp.empty(out.shape, p.dtype)
    p_type, out_type = (cuda.type_name("bernoulli", a.dtype) for a in (p, target))
    args = (p, target, np.int64(out.size), np.int32(spin), *cuda.draw_arguments(draw))
    per_block = 4 if p.dtype.itemsize == 8 else 8
    name = f"fill_bernoulli<{p_type}, {out_type}>"
    cuda.launch(FILE, name, target, -(-out.size // per_block), args)
    return _written(out, target)


words_.attach(_words_on_cuda)
uniform_.attach(_uniform_on_cuda)
normal_.attach(_normal_on_cuda)
bernoulli_.attach(_bernoulli_on_cuda)
