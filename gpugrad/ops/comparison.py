"""Questions about tensors: the answers are raw arrays, through which no gradient flows."""

from __future__ import annotations

from typing import Any

from gpugrad.backend.array_module import check_same_device
from gpugrad.backend.vocabulary import namespace_of
from gpugrad.errors import explain
from gpugrad.tensor import Tensor

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "sign",
    "signbit",
]

# NumPy's functions whose value says nothing that could be differentiated
QUESTIONS = (
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "signbit",
)
# piecewise constant functions of reals: asked of a variable they would drop its gradient unseen
CONSTANT_ONLY = (
    "ceil",
    "divmod",
    "floor",
    "floor_divide",
    "fmod",
    "remainder",
    "rint",
    "sign",
    "trunc",
)


def raw_of(x: Any) -> Any:
    """The array of a tensor; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def array_answer(name: str, *xs: Any, **options: Any) -> Any:
    """NumPy's or CuPy's function `name` of the tensors' arrays."""
    values = [raw_of(x) for x in xs]
    options = {k: raw_of(v) for k, v in options.items() if v is not None}
    function = getattr(namespace_of(check_same_device(name, *values)), name)
    try:
        return function(*values, **options)
    except Exception as error:
        explain(error, name, values)
        raise


def constant_answer(name: str, *xs: Any, **options: Any) -> Any:
    """The same for a piecewise constant function, which refuses variable tensors.

    Raises
    ------
    ValueError
        An operand takes gradients.
    """
    for x in (*xs, *options.values()):
        if isinstance(x, Tensor) and not x.constant:
            raise ValueError(
                f"{name}: got a tensor that takes gradients, expected constants; the function is "
                "piecewise constant, apply it to tensor.data"
            )
    return array_answer(name, *xs, **options)


def _question(name: str) -> Any:
    def function(*xs: Any, **options: Any) -> Any:
        return array_answer(name, *xs, **options)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"NumPy's ``{name}`` of the arrays: an array, without gradient."
    return function


equal = _question("equal")
greater = _question("greater")
greater_equal = _question("greater_equal")
isfinite = _question("isfinite")
isinf = _question("isinf")
isnan = _question("isnan")
less = _question("less")
less_equal = _question("less_equal")
logical_and = _question("logical_and")
logical_not = _question("logical_not")
logical_or = _question("logical_or")
logical_xor = _question("logical_xor")
not_equal = _question("not_equal")
sign = _question("sign")
signbit = _question("signbit")


def argmax(a: Any, axis: int | None = None, out: Any = None) -> Any:
    """Index of the first largest element over `axis` (of all elements in C order by default)."""
    return array_answer("argmax", a, axis=axis, out=out)


def argmin(a: Any, axis: int | None = None, out: Any = None) -> Any:
    """Index of the first smallest element over `axis` (of all elements in C order by default)."""
    return array_answer("argmin", a, axis=axis, out=out)


def any(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    """Whether any element over `axis` is not zero."""
    return array_answer("any", a, axis=axis, out=out, keepdims=keepdims)


def all(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    """Whether every element over `axis` is not zero."""
    return array_answer("all", a, axis=axis, out=out, keepdims=keepdims)
