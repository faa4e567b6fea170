"""Automatic differentiation for NumPy and CuPy arrays, and Boltzmann machines trained with it.

>>> import gpugrad as gg
>>> x = gg.tensor([1.0, 2.0, 3.0])
>>> (x**2).sum().backward()
>>> x.grad
array([2., 4., 6.])
"""

from typing import TYPE_CHECKING

# constants and dtypes are NumPy's own
from numpy import (
    bool_,
    double,
    e,
    euler_gamma,
    float16,
    float32,
    float64,
    half,
    inf,
    int8,
    int16,
    int32,
    int64,
    intp,
    longdouble,
    nan,
    newaxis,
    pi,
    single,
    uint8,
    uint16,
    uint32,
    uint64,
    uintp,
)

from gpugrad import linalg, typing
from gpugrad import operators as _operators
from gpugrad import protocols as _protocols
from gpugrad import tensor_attributes as _tensor_attributes
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
    copysign,
    divide,
    fabs,
    fmax,
    fmin,
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
from gpugrad.ops.comparison import all, any, argmax, argmin
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
    geomspace,
    identity,
    linspace,
    logspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from gpugrad.ops.einsum import einsum
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
from gpugrad.ops.hyperbolic import (
    arccosh,
    arccoth,
    arccsch,
    arcsinh,
    arctanh,
    cosh,
    coth,
    csch,
    sech,
    sinh,
    tanh,
)
from gpugrad.ops.indexing import (
    diag,
    diagflat,
    diagonal,
    flip,
    fliplr,
    flipud,
    rot90,
    take,
    take_along_axis,
    tril,
    triu,
    where,
)
from gpugrad.ops.interpolation import interp
from gpugrad.ops.joining import (
    array_split,
    column_stack,
    concatenate,
    dstack,
    hstack,
    split,
    stack,
    vstack,
)
from gpugrad.ops.linalg import (
    cross,
    dot,
    inner,
    kron,
    matmul,
    multi_matmul,
    outer,
    tensordot,
    trace,
    vdot,
)
from gpugrad.ops.nondifferentiable import (
    allclose,
    bincount,
    can_cast,
    ceil,
    copyto,
    divmod,
    equal,
    floor,
    floor_divide,
    fmod,
    greater,
    greater_equal,
    isclose,
    isfinite,
    isinf,
    isnan,
    isnat,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    may_share_memory,
    min_scalar_type,
    mod,
    not_equal,
    remainder,
    result_type,
    rint,
    shape,
    shares_memory,
    sign,
    signbit,
    trunc,
)
from gpugrad.ops.padding import pad, sliding_window_view
from gpugrad.ops.reductions import amax, amin, max, mean, min, prod, ptp, std, sum, var
from gpugrad.ops.scans import cummax, cummin, cumprod, cumsum, diff
from gpugrad.ops.sequences import add_sequence, multiply_sequence
from gpugrad.ops.shaping import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_to,
    expand_dims,
    moveaxis,
    ravel,
    repeat,
    reshape,
    roll,
    squeeze,
    swapaxes,
    tile,
    transpose,
)
from gpugrad.ops.sorting import argsort, median, partition, sort
from gpugrad.ops.special import (
    digamma,
    erf,
    erfc,
    erfinv,
    gammaln,
    logsumexp,
    polygamma,
    xlog1py,
    xlogy,
)
from gpugrad.ops.trigonometric import (
    arccos,
    arccot,
    arccsc,
    arcsec,
    arcsin,
    arctan,
    arctan2,
    cos,
    cot,
    csc,
    deg2rad,
    degrees,
    hypot,
    rad2deg,
    radians,
    sec,
    sin,
    sinc,
    tan,
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
del _operators, _philox, _protocols, _tensor_attributes


# what most programs do without is imported when it is first asked for
_MODULES_LATER = (
    "boltzmann", "computational_graph", "gradients", "nnet", "operation_base", "random", "testing",
)  # fmt: skip
_NAMES_LATER = {
    "checkpoint": "recompute",
    "execute_op": "execution",
    "from_dlpack": "dlpack",
    "grad": "autodiff",
    "hessian": "autodiff",
    "hvp": "autodiff",
    "jacobian": "autodiff",
    "jvp": "autodiff",
    "load": "io",
    "primitive": "custom",
    "save": "io",
    "value_and_grad": "autodiff",
    "vjp": "autodiff",
}

# the names that stand above, and those that come later; of the modules only the public ones
__all__ = sorted(
    {
        name
        for name, value in globals().items()
        if name[0] != "_" and type(value) is not type(typing)
    }
    - {"TYPE_CHECKING"}
    | {"backend", "errors", "linalg", "typing", *_MODULES_LATER, *_NAMES_LATER}
)
if TYPE_CHECKING:
    from gpugrad import (
        boltzmann,
        computational_graph,
        gradients,
        nnet,
        operation_base,
        random,
        testing,
    )
    from gpugrad.autodiff import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
    from gpugrad.custom import primitive
    from gpugrad.dlpack import from_dlpack
    from gpugrad.execution import execute_op
    from gpugrad.io import load, save
    from gpugrad.recompute import checkpoint


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES_LATER:
        return import_module(f"gpugrad.{name}")
    if name in _NAMES_LATER:
        found = getattr(import_module(f"gpugrad.{_NAMES_LATER[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'gpugrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    from gpugrad.aliases import MODULES

    own = {name for name in globals() if name.startswith("__")}
    mygrads = {path for path in MODULES if "." not in path and path[0] != "_"}
    return sorted({*__all__, *own, *mygrads})


from gpugrad import aliases as _aliases  # noqa: E402  # it looks for names in what stands above

_aliases.install()
del _aliases
