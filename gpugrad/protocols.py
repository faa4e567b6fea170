"""NumPy's and CuPy's protocols: ``np.f(tensor)`` reaches gpugrad's `f`, and its gradient is kept.

NumPy's arguments are matched by NumPy's own signature, for its order is not always MyGrad's:
``np.sum(x, 0, np.float32)`` gives the dtype, ``gpugrad.sum(x, 0, True)`` keeps the axes. What
becomes of the functions that gpugrad does not have is said in `gpugrad.numpy_functions`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from gpugrad import linalg
from gpugrad.backend.array_module import check_same_device
from gpugrad.numpy_functions import ANSWERED, path_of
from gpugrad.ops import comparison
from gpugrad.ops.namespace import PUBLIC
from gpugrad.state import TRACKING
from gpugrad.tensor import Tensor
from gpugrad.ufunc import UFuncMethodError

__all__ = ["ADAPTED", "implements_numpy_override", "supported"]

_MISSING: Any = inspect.Parameter.empty
_NOT_GIVEN: Any = np._NoValue


# ------------------------------------------------------------------------- tensors among arguments


def _raw(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.data
    if isinstance(x, list | tuple):
        return type(x)(map(_raw, x)) if type(x) in (list, tuple) else x
    return x


def _tensors(xs: Any) -> Iterator[Tensor]:
    for x in xs:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _tensors(x)


def _on_arrays(theirs: Callable, args: Any, options: dict[str, Any]) -> Any:
    """NumPy's own answer about the arrays; the tensor, if it was written to one."""
    out = options.get("out")
    try:
        result = theirs(*map(_raw, args), **{k: _raw(v) for k, v in options.items()})
    except TypeError:
        check_same_device(theirs.__name__, *args)  # raises if this is the reason
        raise
    for target in out if isinstance(out, tuple) else (out,):
        if isinstance(target, Tensor) and result is target.data:
            return target
    return result


def _on_constants(name: str, theirs: Callable, args: Any, options: dict[str, Any]) -> Any:
    """The same of constants; a tensor that takes gradients is refused."""
    if TRACKING.get():
        for x in _tensors((*args, *options.values())):
            if not x.constant:
                raise TypeError(
                    f"{name}: got a tensor of shape {x.shape} that takes gradients, and gpugrad "
                    f"has no derivative of {name}; expected constants, or tensor.data"
                )
    return _on_arrays(theirs, args, options)


# ------------------------------------------------------------------- functions with other arguments


def _clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
) -> Any:
    return PUBLIC["clip"](a, a_min if min is None else min, a_max if max is None else max, out=out)


def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not isinstance(dst, Tensor):
        _on_constants("copyto", np.copyto, (dst, src), {"casting": casting, "where": where})
        return
    _same("copyto", {"casting": "same_kind"}, {"casting": casting})
    PUBLIC["positive"](src, out=dst, where=where)


def _transpose(a: Any, axes: Any = None) -> Any:
    return PUBLIC["transpose"](a) if axes is None else PUBLIC["transpose"](a, tuple(axes))


def _pad(array: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    return PUBLIC["pad"](array, pad_width, mode, **options)


def _matrix_transpose(x: Any, /) -> Any:
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: got {x.ndim} dimension(s), expected at least 2")
    return PUBLIC["swapaxes"](x, -1, -2)


def _linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    return PUBLIC["diagonal"](x, offset, -2, -1)


# Functions that take NumPy's arguments as they come. Of all others the arguments are matched.
ADAPTED: dict[str, Callable] = {
    "clip": _clip,
    "copyto": _copyto,
    "pad": _pad,
    "transpose": _transpose,
    "matrix_transpose": _matrix_transpose,
    "linalg.diagonal": _linalg_diagonal,
    "linalg.matrix_transpose": _matrix_transpose,
}
# words of derivative rules that mean something else than NumPy's function of the name
_OTHER_MEANING = frozenset(("asarray", "astype", "put", "sign"))
# signatures of functions written in C, which old NumPys do not tell
_IN_C: dict[str, Callable] = {
    "arange": (
        lambda start_or_stop, /, stop=None, step=1, *, dtype=None, device=None, like=None: None
    ),
    "concatenate": lambda arrays, axis=0, out=None, *, dtype=None, casting="same_kind": None,
    "copyto": lambda dst, src, casting="same_kind", where=True: None,
    "dot": lambda a, b, out=None: None,
    "empty": lambda shape, dtype=None, order="C", *, device=None, like=None: None,
    "empty_like": lambda prototype, dtype=None, order="K", subok=True, shape=None, *, device=None: (
        None
    ),
    "inner": lambda a, b, /: None,
    "vdot": lambda a, b, /: None,
    "where": lambda condition, x=None, y=None, /: None,
    "zeros": lambda shape, dtype=None, order="C", *, device=None, like=None: None,
}


def supported(path: str) -> Callable | None:
    """The function of gpugrad's that one of NumPy's becomes, or None."""
    if path in ADAPTED:
        return ADAPTED[path]
    if path in ANSWERED or path in _OTHER_MEANING:
        return None
    module, _, name = path.rpartition(".")
    if module == "linalg":
        return getattr(linalg, name, None) if name in linalg.__all__ else None
    return None if module else PUBLIC.get(name)


# ----------------------------------------------------------------------- NumPy's arguments to ours


class _Parameter(NamedTuple):
    """One of NumPy's parameters: its name in gpugrad's function (None: it has no such)."""

    ours: str | None
    default: Any
    needed: bool  # gpugrad's default is another: NumPy's is passed


def _equal(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, str | int | float | bool) and a == b)


def _same(name: str, defaults: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse options of NumPy's that gpugrad's function lacks, unless they change nothing."""
    for option, value in given.items():
        if not (option in defaults and _equal(value, defaults[option])) and value is not None:
            raise TypeError(
                f"{name}: got {option}={_shown(value)}, which gpugrad's {name} does not take for a "
                "tensor; expected it to be left out"
            )


def _shown(value: Any) -> str:
    return f"a tensor of shape {value.shape}" if isinstance(value, Tensor) else repr(value)


@cache
def _matched(path: str, theirs: Callable) -> Callable[[Any, dict[str, Any]], Any]:
    """``f(args, kwargs)``: gpugrad's function called by NumPy's signature."""
    name = path.rpartition(".")[2]
    ours: Any = supported(path)
    try:
        signature = inspect.signature(_IN_C.get(name, theirs))
    except (TypeError, ValueError):
        return lambda args, kwargs: ours(*args, **kwargs)
    mine = inspect.signature(ours).parameters
    by_place = [p for p in mine.values() if p.kind is not p.KEYWORD_ONLY]
    if any(p.kind is p.VAR_POSITIONAL for p in (*signature.parameters.values(), *by_place)):
        return lambda args, kwargs: ours(*args, **kwargs)
    keywords = next((w for w, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD), "")
    table: dict[str, _Parameter] = {}
    for i, (word, p) in enumerate(signature.parameters.items()):
        target = word if word in mine else None
        if target is None and i < len(by_place) and by_place[i].name not in signature.parameters:
            target = by_place[i].name if p.kind is not p.KEYWORD_ONLY else None
        given = p.default not in (_MISSING, _NOT_GIVEN) if _hashable(p.default) else True
        needed = bool(target) and given and not _equal(mine[target].default, p.default)  # type: ignore[index]
        table[word] = _Parameter(target, p.default, needed)
    defaults = {word: p.default for word, p in table.items()}

    def call(args: Any, kwargs: dict[str, Any]) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        given.update(given.pop(keywords, {}))
        options, left = {}, {}
        for word, value in given.items():
            target = table[word].ours if word in table else word if word in mine else None
            if value is _NOT_GIVEN:
                continue
            if target is None:
                left[word] = value
            else:
                options[target] = value
        _same(name, defaults, left)
        for word, p in table.items():
            if p.needed and word not in given:
                options[p.ours] = p.default  # type: ignore[index]
        # by position as far as they go: a parameter of MyGrad's may be positional-only
        front = []
        for mine_too in by_place:
            if mine_too.name not in options:
                break
            front.append(options.pop(mine_too.name))
        return ours(*front, **options)

    return call


def _hashable(x: Any) -> bool:
    return getattr(type(x), "__hash__", None) is not None


# --------------------------------------------------------------------------------- the protocols

# NumPy's defaults of what gpugrad's elementwise functions do not have
_UFUNC_DEFAULTS = {"casting": "same_kind", "order": "K", "subok": True}
_OURS = ("out", "where", "dtype", "constant")
# scipy.special's and cupyx.scipy.special's names of functions that are called otherwise here
_SPECIAL = {"expit": "sigmoid", "log_expit": "log_sigmoid", "psi": "digamma"}


@cache
def _word(theirs: np.ufunc) -> str | None:
    """The name of a ufunc in gpugrad; None if it is neither NumPy's nor SciPy's."""
    name = theirs.__name__
    for module, names in (
        (np, {}),
        (sys.modules.get("numpy._core.umath"), {}),
        (sys.modules.get("scipy.special"), _SPECIAL),
    ):
        if getattr(module, name, None) is theirs:
            return names.get(name, name)
    return None


# NumPy's function -> the user's, which tensors are given to instead
_OVERRIDES: dict[Callable, Callable] = {}


class implements_numpy_override:
    """Decorator: NumPy's function, given a tensor, calls the decorated one.

    Parameters
    ----------
    numpy_func : callable, optional
        By default NumPy's function of the decorated one's name.

    Raises
    ------
    AttributeError
        NumPy has no function of that name.
    """

    def __init__(self, numpy_func: Callable | None = None) -> None:
        self.numpy_func = numpy_func

    def __call__(self, wrapped_func: Callable) -> Callable:
        theirs = self.numpy_func
        if theirs is None:
            name = wrapped_func.__name__
            theirs = getattr(np, name, None)
            if theirs is None:
                raise AttributeError(
                    f"implements_numpy_override: got {name!r}, expected a name of NumPy's, or "
                    "numpy_func"
                )
        _OVERRIDES[theirs] = wrapped_func
        return wrapped_func


def __array_ufunc__(self: Tensor, theirs: np.ufunc, method: str, *x: Any, **options: Any) -> Any:
    word = _word(theirs)
    if isinstance(options.get("out"), tuple) and len(options["out"]) == 1:
        (options["out"],) = options["out"]
    if theirs in _OVERRIDES and method == "__call__":
        return _OVERRIDES[theirs](*x, **options)
    if (word in comparison.CONSTANT_ONLY or word == "sign") and method == "__call__":
        return comparison.constant_answer(word, *x, **options)
    apply_theirs = theirs if method == "__call__" else getattr(theirs, method)
    if word in ANSWERED:
        return _on_arrays(apply_theirs, x, options)
    ours = supported(word) if word is not None else None
    if ours is None:
        name = theirs.__name__ if method == "__call__" else f"{theirs.__name__}.{method}"
        return _on_constants(name, apply_theirs, x, options)
    if method != "__call__":
        raise UFuncMethodError(f"{word}.{method}: ufunc methods carry no gradient")
    _same(str(word), _UFUNC_DEFAULTS, {k: v for k, v in options.items() if k not in _OURS})
    return ours(*x, **{k: options[k] for k in _OURS if k in options})


def __array_function__(self: Tensor, theirs: Callable, types: Any, args: Any, kwargs: Any) -> Any:
    if theirs in _OVERRIDES:
        return _OVERRIDES[theirs](*args, **kwargs)
    path = path_of(theirs)
    if path in ANSWERED:
        return _on_arrays(theirs, args, kwargs)
    if path in ADAPTED:
        return ADAPTED[path](*args, **kwargs)
    if supported(path) is not None:
        return _matched(path, theirs)(args, kwargs)
    return _on_constants(path, theirs, args, kwargs)


def __cupy_override_elementwise_kernel__(self: Tensor, kernel: Any, *x: Any, **options: Any) -> Any:
    """CuPy's elementwise functions, and its arrays' operators, hand themselves over here."""
    word = kernel.name.removeprefix("cupyx_scipy_special_").removeprefix("cupy_")
    if len(x) > kernel.nin:
        x, options["out"] = x[: kernel.nin], x[kernel.nin]
    theirs = getattr(np, word, None)
    if isinstance(theirs, np.ufunc):
        return __array_ufunc__(self, theirs, "__call__", *x, **options)
    ours = supported(_SPECIAL.get(word, word))
    if ours is not None:
        return ours(*x, **options)
    return _on_constants(kernel.name, kernel, x, options)


Tensor.__array_ufunc__ = __array_ufunc__  # type: ignore[attr-defined]
Tensor.__cupy_override_elementwise_kernel__ = (  # type: ignore[attr-defined]
    __cupy_override_elementwise_kernel__
)
Tensor.__array_function__ = __array_function__  # type: ignore[attr-defined]
