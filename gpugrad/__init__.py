"""Automatic differentiation for NumPy and CuPy arrays, and Boltzmann machines trained with it.

>>> import gpugrad as gg
>>> x = gg.tensor([1.0, 2.0, 3.0])
>>> (x**2).sum().backward()
>>> x.grad
array([2., 4., 6.])
"""

from gpugrad import operators as _operators
from gpugrad import protocols as _protocols
from gpugrad.autodiff import grad, hessian, hvp, jacobian, value_and_grad, vjp
from gpugrad.backend.array_module import current_device, get_array_module, use_device
from gpugrad.backend.twin import use_kernels
from gpugrad.errors import (
    DeviceMismatchError,
    DeviceNotAvailableError,
    DisconnectedView,
    InvalidBackprop,
    InvalidGradient,
    KernelError,
)
from gpugrad.ops.arithmetic import (
    absolute,
    add,
    cbrt,
    clip,
    divide,
    maximum,
    minimum,
    multiply,
    negative,
    positive,
    power,
    reciprocal,
    sqrt,
    square,
    subtract,
    true_divide,
)
from gpugrad.ops.comparison import (
    all,
    any,
    argmax,
    argmin,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    signbit,
)
from gpugrad.ops.creation import (
    arange,
    asarray,
    asnumpy,
    astensor,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    identity,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from gpugrad.ops.explog import (
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    log_sigmoid,
    logaddexp,
    logaddexp2,
    sigmoid,
    softplus,
)
from gpugrad.ops.hyperbolic import tanh
from gpugrad.ops.indexing import where
from gpugrad.ops.joining import concatenate, stack
from gpugrad.ops.linalg import matmul
from gpugrad.ops.reductions import amax, amin, max, mean, min, sum
from gpugrad.ops.shaping import (
    broadcast_to,
    expand_dims,
    moveaxis,
    ravel,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from gpugrad.primitives import philox as _philox
from gpugrad.state import (
    mem_guard_active,
    mem_guard_off,
    mem_guard_on,
    no_autodiff,
    turn_memory_guarding_off,
    turn_memory_guarding_on,
)
from gpugrad.tensor import Tensor
from gpugrad.ufunc import ufunc

abs = absolute
__version__ = "0.1.0"
del _operators, _philox, _protocols


def __getattr__(name: str) -> object:
    # machines and their training are imported when they are first asked for
    if name == "boltzmann":
        from importlib import import_module

        return import_module("gpugrad.boltzmann")
    raise AttributeError(f"module 'gpugrad' has no attribute {name!r}")
