"""How each function of both libraries is called: a table from its name to the drawing of a call.

`CALLS` has a row for every function that mygrad's top level and its `linalg` have and that makes
tensors; ufuncs and functions whose answer is constant are found by asking mygrad.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import mygrad as mg
import numpy as np
from mygrad.tensor_base import _REGISTERED_DIFFERENTIABLE_NUMPY_FUNCS as _HANDED_OVER
from mygrad.tensor_base import _REGISTERED_UFUNC

import gpugrad as gg
from tests.parity.differential.draw import Draw

__all__ = ["ANSWERS", "CALLS", "CREATION", "METHODS", "NOT_CALLED", "NUMPY", "UFUNCS", "function"]

Call = Callable[[Draw], str]


def function(m: Any, name: str) -> Any:
    """The function of that dotted name, or None."""
    for part in name.split("."):
        m = getattr(m, part, None)
    return m


def _is_ufunc(f: Any) -> bool:
    return inspect.isclass(f) and issubclass(f, mg.ufunc) and f is not mg.ufunc


UFUNCS = {
    name: f.nin
    for name, f in inspect.getmembers(mg, _is_ufunc)
    if name != "matmul" and hasattr(gg, name)
}

# ------------------------------------------------------------------------------------ arguments


def _reduction(d: Draw) -> str:
    x = d.tensor()
    return f"{x}, axis={d.axes(x)}" + d.pick("", ", keepdims=True", ", keepdims=False")


def _extreme(d: Draw) -> str:
    call = _reduction(d)
    # difference "empty"
    return call if np.prod(d.shape(call.split(",")[0])) else d.literal((2, 3))


def _spread(d: Draw) -> str:
    call = _reduction(d)
    x = call.split(",")[0]
    if not np.prod(d.shape(x)):
        return d.literal((2, 3))
    many = "axis=None" in call and np.prod(d.shape(x)) > 1  # difference "division by zero"
    return call + d.pick("", ", ddof=1" if many else "", ", ddof=0")


def _scan(d: Draw) -> str:
    x = d.float_tensor()
    return f"{x}, axis={d.pick(None, d.axis(x), d.axis(x))}"


def _one(d: Draw) -> str:
    return d.tensor()


def _float(d: Draw) -> str:
    x = d.float_tensor()
    return x if d.env[x].dtype.kind == "f" else d.literal((3,))


def _axis(d: Draw) -> str:
    x = d.tensor()
    return f"{x}, axis={d.axis(x)}"


def _two_axes(d: Draw) -> str:
    x = d.tensor(lambda t: t.ndim)
    return f"{x}, {d.axis(x)}, {d.axis(x)}"


def _reshape(d: Draw) -> str:
    x = d.tensor()
    return f"{x}, {d.new_shape(x)}"


def _transpose(d: Draw) -> str:
    x = d.tensor()
    axes = list(range(len(d.shape(x))))
    d.rng.shuffle(axes)
    return f"{x}, {tuple(axes)}" if d.chance(0.5) else x


def _squeeze(d: Draw) -> str:
    x = d.tensor(lambda t: 1 in t.shape)
    if 1 not in d.shape(x):
        return f"{x}[None]"  # difference "nothing to do"
    ones = [i for i, n in enumerate(d.shape(x)) if n == 1]
    return f"{x}, axis={d.rng.choice(ones)}" if ones and d.chance(0.5) else x


def _broadcast_to(d: Draw) -> str:
    x = d.tensor(lambda t: t.ndim < 3)
    shape = d.shape(x)
    target = tuple(3 if n == 1 else n for n in shape) if 1 in shape else (2, *shape)
    return f"{x}, {target}"


def _roll(d: Draw) -> str:
    x = d.tensor(lambda t: t.ndim)
    return f"{x}, {d.pick(1, -1, 4)}, axis={d.pick(None, d.axis(x))}"


def _repeat(d: Draw) -> str:
    x = d.tensor(lambda t: t.size)
    if not np.prod(d.shape(x)):
        x = d.literal((2, 3))  # difference "empty"
    return f"{x}, {d.pick(2, 1)}, axis={d.pick(None, d.axis(x))}"


def _sequence(d: Draw) -> str:
    x = d.tensor(lambda t: t.ndim)
    others = [d.operand(x, same=True) for _ in range(d.pick(1, 2))]
    return f"[{', '.join([x, *others])}], axis={d.axis(x)}"


def _operands(d: Draw) -> str:
    x = _float(d)
    return ", ".join([x, *(d.operand(x) for _ in range(d.pick(1, 2)))])


def _where(d: Draw) -> str:
    x = d.tensor()
    return f"{d.mask(d.shape(x))}, {x}, {d.operand(x)}"


def _clip(d: Draw) -> str:
    x = d.float_tensor()
    low, high = d.pick(("0.3", "1.2"), ("None", "1.0"), ("0.5", "None"))
    pair = [v if v == "None" else f"scalar({v}, {x})" for v in (low, high)]
    return f"{x}, {pair[0]}, {pair[1]}"


def _matmul(d: Draw) -> str:
    x = d.float_tensor(lambda t: t.ndim)
    shape = d.shape(x)
    n = shape[-1] if shape else 3
    ys = [y for y in d.tensors if d.shape(y) and d.shape(y)[-2:][0] == n]
    y = d.rng.choice(ys) if ys and d.chance(0.7) else d.literal(d.pick((n,), (n, 2)))
    return f"{x}, {y}"


def _multi_matmul(d: Draw) -> str:
    x = d.float_tensor(lambda t: t.ndim == 2)
    if len(d.shape(x)) != 2:
        x = d.literal((2, 3))
    n = (d.shape(x) or (3,))[-1]
    return f"[{x}, {d.literal((n, 3))}, {d.literal((3, 2))}]"


def _einsum(d: Draw) -> str:
    x = d.float_tensor(lambda t: t.ndim == 2)
    n, k = d.shape(x) if len(d.shape(x)) == 2 else (2, 3)
    y = d.literal((k, 2))
    return d.pick(
        f"'ij->ji', {x}",
        f"'ij->i', {x}",
        f"'ij->', {x}",
        f"'ij', {x}",
        f"'...j->...', {x}",
        f"'ij,jk->ik', {x}, {y}",
        f"'ij,jk', {x}, {y}",
        f"'ij,ij->j', {x}, {x}",
        f"'ij,ij', {x}, {d.literal((n, k))}",
        f"'i...,...->...', {x}, {d.literal((k,))}",
        f"{x}, [0, 1], [1, 0]",
        f"'ij,kj->ik', {x}, {x}, optimize=True",
        f"'i{'i' if n == k else 'j'}->i', {x}",
        f"'ij,k->', {x}",
    )


def _norm(d: Draw) -> str:
    x = d.float_tensor(lambda t: 0 < t.ndim < 3 and t.size)
    if d.env[x].dtype.kind != "f":
        x = d.literal((2, 3))
    if len(d.shape(x)) == 2 and d.chance(0.3):
        return x
    order = d.pick("None", "2", "1", "3", "0.5")
    return f"{x}, ord={order}, axis={d.axis(x)}" + d.pick("", ", keepdims=True")


def _window(d: Draw) -> str:
    x = d.tensor(lambda t: t.ndim and t.size)
    return f"{x}.data, window_shape=(1,), step={d.pick(1, 2)}"


_TABLE: dict[str, Call] = {
    **dict.fromkeys(("sum", "mean", "prod"), _reduction),
    **dict.fromkeys(("max", "min", "amax", "amin"), _extreme),
    **dict.fromkeys(("var", "std"), _spread),
    **dict.fromkeys(("cumsum", "cumprod"), _scan),
    **dict.fromkeys(("ravel", "atleast_1d", "atleast_2d", "atleast_3d"), _one),
    **dict.fromkeys(
        ("sinc", "cot", "csc", "sec", "coth", "csch", "sech", "arccot", "arccoth"), _float
    ),
    **dict.fromkeys(("arccsc", "arccsch", "arcsec"), _float),
    **dict.fromkeys(("swapaxes", "moveaxis"), _two_axes),
    **dict.fromkeys(("concatenate", "stack"), _sequence),
    **dict.fromkeys(("add_sequence", "multiply_sequence"), _operands),
    "expand_dims": _axis,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "broadcast_to": _broadcast_to,
    "roll": _roll,
    "repeat": _repeat,
    "where": _where,
    "clip": _clip,
    "matmul": _matmul,
    "multi_matmul": _multi_matmul,
    "einsum": _einsum,
    "linalg.norm": _norm,
}
CALLS = {name: call for name, call in _TABLE.items() if function(gg, name) is not None}

# functions with out=, besides the ufuncs
TAKES_OUT = {"concatenate", "stack"} & set(CALLS)

# functions that NumPy hands over
NUMPY = {n for n in {*CALLS, *UFUNCS} if function(np, n) in {*_REGISTERED_UFUNC, *_HANDED_OVER}}

# methods of tensors
METHODS = {
    n for n in [*CALLS, "flatten"] if hasattr(mg.Tensor, n) and hasattr(gg.Tensor, n)
}  # not of tensors: m.flatten

# -------------------------------------------------------------------------------------- creation


def _size(d: Draw) -> Any:
    return d.pick((2, 3), (3,), 2, (), (0,), (2, 1))


def _filled(d: Draw) -> str:
    return f"{_size(d)}" + d.pick("", ", dtype='f8'", ", dtype=int", ", dtype='f4'")


def _like(d: Draw) -> str:
    return f"{d.tensor()}" + d.pick("", ", dtype='f8'", ", dtype=int", ", shape=(3,)")


CREATION: dict[str, Call] = {
    **dict.fromkeys(("zeros", "ones"), _filled),
    **dict.fromkeys(("zeros_like", "ones_like"), _like),
    "full": lambda d: f"{_size(d)}, {d.number()}" + d.pick("", ", dtype='f4'"),
    "full_like": lambda d: f"{d.tensor()}, {d.number()}" + d.pick("", ", dtype='f8'"),
    "arange": lambda d: d.pick("3", "3.0", "1, 4", "0.5, 3.5", "1, 7, 3"),
    "linspace": lambda d: d.pick("0, 1, 3", "0.5, 2, 3, endpoint=False", "1, 2, num=3"),
    "logspace": lambda d: d.pick("0, 1, 3", "0, 0.5, 3, base=2"),
    "geomspace": lambda d: d.pick("1, 8, 3", "1, 2, num=3, endpoint=False"),
    "eye": lambda d: d.pick("3", "2, 3", "3, 3, 1", "2, dtype='f4'"),
    "identity": lambda d: d.pick("3", "2, dtype='f4'"),
    "empty": lambda d: "(2, 3), dtype='f8'",
    "empty_like": lambda d: d.tensor(),
}
CREATION = {n: c for n, c in CREATION.items() if hasattr(gg, n) and hasattr(mg, n)}
LEFT_TO_CHANCE = ("empty", "empty_like")  # their values are not compared but overwritten

# --------------------------------------------------------------- questions with constant answers


def _pair(d: Draw) -> str:
    x = d.tensor()
    return f"{x}, {d.operand(x)}"


_CONSTANT_ONLY = ("ceil", "floor", "rint", "sign", "trunc")
_CONSTANT_ONLY_2 = ("floor_divide", "remainder", "mod", "fmod", "divmod")
ANSWERS: dict[str, Call] = {
    **dict.fromkeys(("isnan", "isfinite", "isinf", "signbit", "logical_not"), _one),
    **dict.fromkeys(_CONSTANT_ONLY, _one),
    **dict.fromkeys(_CONSTANT_ONLY_2, _pair),
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater"), _pair),
    **dict.fromkeys(("greater_equal", "logical_and", "logical_or", "logical_xor"), _pair),
    **dict.fromkeys(("allclose", "isclose", "result_type", "can_cast"), _pair),
    **dict.fromkeys(("shares_memory", "may_share_memory"), _pair),
    "any": _reduction,
    "argmax": _axis,
    "argmin": _axis,
    "min_scalar_type": _one,
    "shape": _one,
    "bincount": lambda d: f"m.tensor({d.literal((3,), 'i8')})",
    "isnat": _one,
    "copyto": lambda d: f"np.zeros((2, 3)), m.astensor({d.tensor()}.data, constant=True)",
    "asarray": _one,
    "sliding_window_view": _window,
}
ANSWERS = {n: c for n, c in ANSWERS.items() if hasattr(gg, n) and hasattr(mg, n)}

# public functions of mygrad that no random line calls by this table, and where they are instead
NOT_CALLED = {
    "tensor": "a line of its own: creation",
    "astensor": "a line of its own: creation",
    "no_autodiff": "lines are put under it",
    "mem_guard_off": "lines are put under it",
    "mem_guard_on": "lines are put under it",
    "mem_guard_active": "a switch; directed tests",
    "turn_memory_guarding_off": "a switch; directed tests",
    "turn_memory_guarding_on": "a switch; directed tests",
    "execute_op": "runs users' operations; directed tests",
    "save": "writes files; directed tests",
    "load": "reads files; directed tests",
}
