"""The words that derivative rules and the bodies of primitives are written in.

A rule or body is handed a namespace `xp` and never asks which one it got: `xp.exp`, `xp.sum`,
`xp.put`... mean the same, with the same arguments, whether the arrays are NumPy's or CuPy's.

    numpy_namespace     its functions ARE NumPy's: no wrapper, no cost
    the CuPy namespace  CuPy's functions, helped where they differ (see `DIFFERENCES`)

Three kinds of names, and how one is added:

* NumPy's functions: append the name to one of the tuples below. If CuPy's function differs, write
  the helper in `gpugrad.backend.cupy_functions` and say so in `DIFFERENCES`.
* What NumPy has no function for (`put`, `add_at`, `getitem`): a function here for
  NumPy, one of the same signature in `gpugrad.backend.cupy_functions`.
* What can be written once in the vocabulary itself (`sigmoid`, `softplus`): a function of
  `(xp, ...)` under the decorator `shared`.

Arrays, shapes and indices are passed by position, options (`axis`, `keepdims`, `dtype`, `out`,
`where`, `initial`) by keyword: that is what both libraries' signatures have in common.
"""

import operator
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "CONSTANTS",
    "CREATION",
    "DECOMPOSITIONS",
    "DIFFERENCES",
    "ELEMENTWISE",
    "INDEXING",
    "LINEAR",
    "Namespace",
    "QUESTIONS",
    "REDUCTIONS",
    "SCANS",
    "SHAPING",
    "in_single",
    "namespace_of",
    "numpy_namespace",
    "shared",
]

# NumPy's ufuncs, all but isnat and spacing, which CuPy lacks.
ELEMENTWISE = tuple(
    """
    absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and bitwise_or
    bitwise_xor cbrt ceil conjugate copysign cos cosh deg2rad degrees divide divmod equal exp exp2
    expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater greater_equal
    heaviside hypot invert isfinite isinf isnan lcm ldexp left_shift less less_equal log log10 log1p
    log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor maximum minimum modf
    multiply negative nextafter not_equal positive power rad2deg radians reciprocal remainder
    right_shift rint sign signbit sin sinh sqrt square subtract tan tanh true_divide trunc
    """.split()
)
REDUCTIONS = tuple("all any argmax argmin count_nonzero max mean min prod std sum var".split())
SCANS = tuple("cumprod cumsum diff".split())
SHAPING = tuple(
    """
    atleast_1d atleast_2d broadcast_to concatenate expand_dims flip moveaxis pad ravel repeat
    reshape roll rot90 split squeeze stack swapaxes tile transpose
    """.split()
)
INDEXING = tuple(
    """
    argsort clip copyto diag diagonal nan_to_num nonzero round searchsorted sort take
    take_along_axis tril triu where
    """.split()
)
LINEAR = tuple("dot einsum inner linalg matmul outer tensordot trace vdot".split())
# Of the submodule linalg in both libraries; `norm` is written in the vocabulary, by its rule.
DECOMPOSITIONS = tuple("cholesky det eigh inv pinv qr slogdet solve svd".split())
CREATION = tuple(
    """
    arange array asarray ascontiguousarray copy empty empty_like eye full full_like linspace ones
    ones_like zeros zeros_like
    """.split()
)
# Answers about types and shapes: they touch no array's data and are NumPy's in both namespaces.
QUESTIONS = tuple(
    "broadcast_shapes can_cast dtype finfo iinfo issubdtype ndim promote_types shape size".split()
)
CONSTANTS = tuple(
    """
    bool_ complex128 complex64 complexfloating e float16 float32 float64 floating inf inexact int16
    int32 int64 int8 integer intp nan newaxis number pi signedinteger uint16 uint32 uint64 uint8
    """.split()
)
_FROM_MODULE = (
    ELEMENTWISE + REDUCTIONS + SCANS + SHAPING + INDEXING + LINEAR + CREATION + ("result_type",)
)
_NUMPYS_IN_BOTH = QUESTIONS + CONSTANTS


class Namespace:
    """A flat set of functions on the arrays of one library.

    Attributes
    ----------
    name : str
        "numpy" or "cupy".
    module : module
        The library itself, for what is not in the vocabulary. A rule does not use it.
    """

    def __init__(self, name: str, module: Any, functions: dict[str, Any]) -> None:
        self.name = name
        self.module = module
        self.__dict__.update(functions)

    def __getattr__(self, word: str) -> Any:
        # Reached for missing words only. Its return type also tells mypy that words are callable.
        raise AttributeError(f"the vocabulary has no {word!r} (namespace {self.name!r})")

    def __repr__(self) -> str:
        return f"<gpugrad vocabulary on {self.name}>"


# ------------------------------------------------------- NumPy's side of what NumPy has no word for


def _only_basic_or_mask(index: Any) -> bool:
    """Whether no element can be met twice: slices, integers and boolean masks alone."""
    for entry in index if isinstance(index, tuple) else (index,):
        if isinstance(entry, list | tuple | np.ndarray) and np.asarray(entry).dtype.kind != "b":
            return False
    return True


def _put(x: Any, index: Any, value: Any) -> np.ndarray:
    """Return a copy of `x` in which `x[index]` is `value`; of duplicates the last one wins.

    Parameters
    ----------
    x : array
    index : anything that `x[index]` takes
    value : array or scalar
        Broadcast to the shape of `x[index]` and cast to the dtype of `x`.

    Raises
    ------
    IndexError
        An index out of range.
    """
    result = np.array(x)
    result[index] = value
    return result


def _add_at(shape: Any, dtype: Any, index: Any, g: Any) -> np.ndarray:
    """Return zeros to which `g` is added at `index`, duplicates accumulating.

    It is the adjoint of `getitem`: sum(x[index] * g) = sum(x * add_at(x.shape, x.dtype, index, g)).
    """
    result = np.zeros(shape, dtype)
    if _only_basic_or_mask(index):
        result[index] = g
    else:
        np.add.at(result, index, g)
    return result


def _cummax(x: Any, axis: int) -> np.ndarray:
    """Return the largest of the elements up to each along `axis`; from a nan on, nan."""
    return np.maximum.accumulate(x, axis=axis)


def _cummin(x: Any, axis: int) -> np.ndarray:
    """Return the smallest of the elements up to each along `axis`; from a nan on, nan."""
    return np.minimum.accumulate(x, axis=axis)


_NUMPY_EXTRAS: dict[str, Any] = {
    "add_at": _add_at,
    "cummax": _cummax,
    "cummin": _cummin,
    "errstate": np.errstate,
    "getitem": operator.getitem,
    "put": _put,
}

numpy_namespace = Namespace(
    "numpy",
    np,
    {word: getattr(np, word) for word in _FROM_MODULE + _NUMPYS_IN_BOTH}
    | {word: getattr(np.linalg, word) for word in DECOMPOSITIONS}
    | _NUMPY_EXTRAS,
)
_namespaces: dict[Any, Namespace] = {np: numpy_namespace}
_shared: dict[str, Callable[..., Any]] = {}


def namespace_of(module: ModuleType | Any) -> Namespace:
    """Return the vocabulary on the arrays of a library, `numpy` or `cupy`."""
    namespace = _namespaces.get(module)
    if namespace is None:
        from gpugrad.backend import cupy_functions  # only where there is a GPU

        functions = {word: getattr(module, word) for word in _FROM_MODULE}
        functions |= {word: getattr(np, word) for word in _NUMPYS_IN_BOTH}
        functions |= {word: getattr(module.linalg, word) for word in DECOMPOSITIONS}
        functions |= cupy_functions.helped(module, ELEMENTWISE)
        namespace = Namespace("cupy", module, functions)
        for word, body in _shared.items():
            setattr(namespace, word, partial(body, namespace))
        namespace = _namespaces.setdefault(module, namespace)
    return namespace


def shared(body: Callable[..., Any]) -> Callable[..., Any]:
    """Put `body(xp, ...)` into every namespace as the word `body.__name__`, called without `xp`."""
    word = body.__name__
    _shared[word] = body
    for namespace in list(_namespaces.values()):
        setattr(namespace, word, partial(body, namespace))
    return body


# ---------------------------------------------------- words written once, in the vocabulary itself


def in_single(xp: Any, body: Callable[[Any, Any], Any], x: Any) -> Any:
    """Return `body(xp, x)`, worked out in float32 for float16 and in float64 for integers."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or (dtype.kind in "fc" and dtype.itemsize > 2):
        return body(xp, x)
    if dtype.kind == "f":
        return body(xp, x.astype(np.float32)).astype(dtype)
    return body(xp, x.astype(np.float64))


def _sigmoid(xp: Any, x: Any) -> Any:
    # exp(-x) overflows for very negative x, to an infinity whose reciprocal is the right limit 0.
    with xp.errstate(over="ignore"):
        if not getattr(x, "ndim", 0):
            return 1 / (1 + xp.exp(-x))
        # One array written four times. A fresh megabyte for each step costs 6 times as much.
        t = xp.negative(x)
        xp.exp(t, out=t)
        xp.add(t, 1, out=t)
        return xp.reciprocal(t, out=t)


def _softplus(xp: Any, x: Any) -> Any:
    if not getattr(x, "ndim", 0):
        return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.absolute(x)))
    t = xp.absolute(x)
    xp.negative(t, out=t)
    xp.exp(t, out=t)
    xp.log1p(t, out=t)
    return xp.add(xp.maximum(x, 0), t, out=t)


@shared
def cast(xp: Any, x: Any, dtype: Any) -> Any:
    """Return `x` in another dtype."""
    return x.astype(dtype)


_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


@shared
def where_or_zero(xp: Any, mask: Any, x: Any) -> Any:
    """Return `x` where `mask` is true and 0 elsewhere, whatever `x` is there."""
    if type(x) is np.ndarray and x.dtype.kind == "f" and x.itemsize in _BITS:
        # NumPy's where branches at every element, at 15 times the cost if the mask is random.
        # Selection all the same: the bits of a nan, too, are 0 when multiplied by 0.
        return np.multiply(x.view(_BITS[x.itemsize]), np.asarray(mask, bool)).view(x.dtype)
    return xp.where(mask, x, 0)


@shared
def sigmoid(xp: Any, x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), without warning or nan for any x; range [0, 1]."""
    return in_single(xp, _sigmoid, x)


@shared
def softplus(xp: Any, x: Any) -> Any:
    """Return log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), which never overflows."""
    return in_single(xp, _softplus, x)


@shared
def log_sigmoid(xp: Any, x: Any) -> Any:
    """Return log(sigmoid(x)) = -softplus(-x), finite where sigmoid(x) underflows to 0."""
    return in_single(xp, lambda xp, x: -_softplus(xp, -x), x)


# ------------------------------------------------------------------------ differences on the GPU


class Difference(NamedTuple):
    """One difference between NumPy and CuPy, and what gpugrad makes of it."""

    name: str
    numpy: str
    cupy: str
    gpugrad: str


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "ufunc where=",
        "computes selected elements only",
        "refuses the keyword",
        "computes all elements, then writes the selected ones into out",
    ),
    Difference(
        "reductions' initial= and where=",
        "accepted",
        "refused",
        "the masked elements are replaced by the neutral one, initial is joined afterwards",
    ),
    Difference(
        "host arrays of no dimension",
        "mix with arrays",
        "refused like every NumPy array",
        "taken as the scalars they are; host arrays with a dimension raise DeviceMismatchError",
    ),
    Difference(
        "ufunc.at",
        "every ufunc and dtype",
        "add, subtract, maximum, minimum and bitwise ufuncs, for some dtypes",
        "add_at accumulates every dtype; floating sums may differ in the last bit from run to run",
    ),
    Difference(
        "ufunc.accumulate",
        "every ufunc",
        "add and multiply only",
        "cummax and cummin run in log2(n) passes",
    ),
    Difference(
        "out-of-range fancy indices",
        "IndexError",
        "wrap around silently",
        "IndexError in getitem, put, add_at, take, take_along_axis; for indices on the GPU the "
        'check waits for it once (take with mode="wrap" or "clip" does not)',
    ),
    Difference(
        "duplicate indices in an assignment",
        "the last value wins",
        "the winner is undefined",
        "put: the last value wins",
    ),
    Difference(
        "floor, ceil and trunc of integers",
        "floats before NumPy 2.1, integers since",
        "integers",
        "left as they are",
    ),
    Difference(
        "inv, solve, cholesky of singular or not positive definite matrices",
        "LinAlgError",
        "not a number, infinities or what was left there",
        "left as they are: looking would wait for the GPU; "
        'cupyx.errstate(linalg="raise") makes CuPy look',
    ),
    Difference(
        "signs of singular vectors, eigenvectors and the rows of R",
        "those of LAPACK",
        "those of cuSOLVER",
        "left as they are: only what does not depend on them is the same on both",
    ),
    Difference(
        "solve with leading axes that broadcast",
        "accepted",
        "refused",
        "both operands are broadcast first",
    ),
    Difference("einsum out=", "accepted", "refused", "computed, then copied into out"),
    Difference(
        "full reductions",
        "scalars",
        "0-d arrays on the GPU",
        "left as they are; .item() waits for the value and brings it over",
    ),
    Difference(
        "where, clip and reductions of scalars",
        "accepted",
        "need an array",
        "scalars are put on the device first",
    ),
    Difference(
        "clip without bounds, argmax out=, sort order",
        "optional, positional after axis",
        "required or placed differently",
        "NumPy's signatures",
    ),
    Difference(
        "a host array given to asarray, array or ascontiguousarray",
        "itself or a copy",
        "copied to the GPU without a word",
        "DeviceMismatchError; to_device() is the explicit copy",
    ),
    Difference(
        "flags.writeable",
        "makes an array read-only",
        "setting it does nothing",
        "the memory guard protects host arrays only",
    ),
    Difference(
        "broadcast_to",
        "a read-only view",
        "a writable view",
        "left as it is: never write into one",
    ),
    Difference(
        "views made by as_strided",
        "have a base",
        "have none",
        "not in the vocabulary",
    ),
    Difference(
        "floating-point warnings (errstate)",
        "RuntimeWarning for overflow, division by zero, invalid values",
        "never any",
        "errstate does nothing on the GPU",
    ),
    Difference(
        "random Generator",
        "all of NumPy's methods",
        "few of them, other streams",
        "gpugrad.random's own generator, the same bits on both",
    ),
    Difference(
        "functions of the library called with a tensor",
        "every function that NumPy's protocols pass reaches gpugrad's",
        "elementwise functions ask their operands, others call its methods or refuse it",
        "cupy.exp(x) and cupy_array * x are gpugrad's; for cupy.sum(x) write numpy.sum(x) or "
        "gpugrad.sum(x), which stay on the GPU",
    ),
    Difference(
        "a tensor assigned into a raw array, array[k] = x",
        "copies the values; no protocol lets gpugrad see it",
        "asks for a NumPy array",
        "on the GPU TypeError; assign x.data",
    ),
)
