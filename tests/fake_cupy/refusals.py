"""What CuPy refuses and what it does otherwise than NumPy: one table for the true and the fake one.

A row is a call on the library `cp` and what comes of it: an exception class (an instance of it is
raised) or a value (equal in value, dtype and in being a device array or not). The same rows run on
the stand-in everywhere and on the true CuPy where there is a GPU; where they disagree, the stand-in
is wrong and its users' tests are worth nothing.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Refusal(NamedTuple):
    """A call that must raise."""

    name: str
    call: Callable[[Any], Any]
    raises: type[Exception]


class Behaviour(NamedTuple):
    """A call that must give a value: an np.ndarray stands for a device array of that content."""

    name: str
    call: Callable[[Any], Any]
    gives: Any


HOST = np.ones(3)


def x(cp: Any, dtype: Any = np.float64) -> Any:
    """Return the device array [0, 1, 2]."""
    return cp.arange(3).astype(dtype)


def _set(target: Any, index: Any, value: Any) -> Any:
    target[index] = value
    return target


def _after(target: Any, *_: Any) -> Any:
    """Return the first argument: the others were evaluated for their effect."""
    return target


class TakesOver:
    """An operand that answers CuPy's elementwise functions itself."""

    def __cupy_override_elementwise_kernel__(self, kernel: Any, *args: Any, **kwargs: Any) -> Any:
        return kernel.name, len(args), sorted(kwargs)


class Defers:
    """An operand that tells arrays to leave operators to it."""

    __array_ufunc__ = None

    def __radd__(self, other: Any) -> str:
        return "reflected"


def _write_protected_write(cp: Any) -> Any:
    a = x(cp)
    a.flags.writeable = False
    a[0] = 9
    return a


def _accumulated(cp: Any, word: str, dtype: Any) -> Any:
    a = cp.zeros(3, dtype)
    getattr(cp, word).at(a, cp.asarray([0, 2, 0]), cp.asarray([1, 2, 4], dtype))
    return a


REFUSALS = (
    # -- nothing crosses the bus unseen
    Refusal("host array in a ufunc", lambda cp: cp.add(x(cp), HOST), TypeError),
    Refusal("host 0-d array in a ufunc", lambda cp: cp.add(x(cp), np.array(1.0)), TypeError),
    Refusal("host array on the left of +", lambda cp: HOST + x(cp), TypeError),
    Refusal("host array on the right of +", lambda cp: x(cp) + HOST, TypeError),
    Refusal("host array on the right of @", lambda cp: x(cp) @ HOST, TypeError),
    Refusal("host array compared", lambda cp: x(cp) < HOST, TypeError),
    Refusal("host array on the right of +=", lambda cp: operator.iadd(x(cp), HOST), TypeError),
    Refusal(
        "device array on the right of host +=",
        lambda cp: operator.iadd(HOST.copy(), x(cp)),
        TypeError,
    ),
    Refusal("host array as out", lambda cp: cp.add(x(cp), 1, out=HOST.copy()), TypeError),
    Refusal("host array in a NumPy ufunc", lambda cp: np.add(x(cp), HOST), TypeError),
    Refusal(
        "host array assigned to a slice", lambda cp: _set(x(cp), slice(None), HOST), ValueError
    ),
    Refusal("host array in copyto", lambda cp: cp.copyto(x(cp), HOST), ValueError),
    Refusal("host array in concatenate", lambda cp: cp.concatenate([x(cp), HOST]), TypeError),
    Refusal("list in a ufunc", lambda cp: cp.add(x(cp), [1, 2, 3]), TypeError),
    Refusal("np.asarray of a device array", lambda cp: np.asarray(x(cp)), TypeError),
    Refusal("np.array of a device array", lambda cp: np.array(x(cp)), TypeError),
    Refusal(
        "device array assigned to a host slice",
        lambda cp: _set(HOST.copy(), slice(None), x(cp)),
        TypeError,
    ),
    Refusal("device array as a Python index", lambda cp: [1, 2, 3][cp.asarray(1)], TypeError),
    # -- keywords that NumPy has and CuPy has not
    Refusal("where= of a ufunc", lambda cp: cp.add(x(cp), 1, where=x(cp) > 0), TypeError),
    Refusal("order= of a ufunc", lambda cp: cp.add(x(cp), 1, order="C"), TypeError),
    Refusal("initial= of sum", lambda cp: cp.sum(x(cp), initial=1), TypeError),
    Refusal("where= of sum", lambda cp: cp.sum(x(cp), where=x(cp) > 0), TypeError),
    Refusal("initial= of prod", lambda cp: cp.prod(x(cp), initial=1), TypeError),
    Refusal("initial= of max", lambda cp: cp.max(x(cp), initial=1), TypeError),
    Refusal("where= of any", lambda cp: cp.any(x(cp), where=x(cp) > 0), TypeError),
    Refusal("where= of mean", lambda cp: cp.mean(x(cp), where=x(cp) > 0), TypeError),
    Refusal("initial= through NumPy", lambda cp: np.sum(x(cp), initial=1), TypeError),
    Refusal("out= of einsum", lambda cp: cp.einsum("i->", x(cp), out=cp.zeros(())), TypeError),
    Refusal(
        "solve with leading axes that broadcast",
        lambda cp: cp.linalg.solve(cp.eye(3), cp.ones((2, 3, 1))),
        ValueError,
    ),
    Refusal("mode= of take", lambda cp: cp.take(x(cp), cp.asarray([1]), mode="clip"), TypeError),
    Refusal("clip without bounds", lambda cp: cp.clip(x(cp)), TypeError),
    Refusal("shape= of reshape", lambda cp: cp.reshape(x(cp), shape=(3, 1)), TypeError),
    # -- functions, methods and attributes that are missing
    Refusal("spacing", lambda cp: cp.spacing(x(cp)), AttributeError),
    Refusal("insert", lambda cp: cp.insert(x(cp), 0, 1), AttributeError),
    Refusal("errstate", lambda cp: cp.errstate(), AttributeError),
    Refusal("geomspace", lambda cp: cp.geomspace(1, 10, 3), AttributeError),
    Refusal("ndarray.setflags", lambda cp: x(cp).setflags(write=False), AttributeError),
    Refusal("flags.writeable read", lambda cp: x(cp).flags.writeable, AttributeError),
    Refusal("ndarray.__array_interface__", lambda cp: x(cp).__array_interface__, AttributeError),
    Refusal("sum of a Python scalar", lambda cp: cp.sum(1.0), AttributeError),
    Refusal("sum of a list", lambda cp: cp.sum([1.0]), AttributeError),
    Refusal("where of a Python bool", lambda cp: cp.where(True, x(cp), 0), AttributeError),
    # -- ufunc methods
    Refusal(
        "multiply.at", lambda cp: _accumulated(cp, "multiply", np.float32), NotImplementedError
    ),
    Refusal("add.at of int16", lambda cp: _accumulated(cp, "add", np.int16), TypeError),
    Refusal("add.at of bool", lambda cp: _accumulated(cp, "add", np.bool_), TypeError),
    Refusal("add.at of complex64", lambda cp: _accumulated(cp, "add", np.complex64), TypeError),
    Refusal("maximum.at of float16", lambda cp: _accumulated(cp, "maximum", np.float16), TypeError),
    Refusal("maximum.reduce", lambda cp: cp.maximum.reduce(x(cp)), NotImplementedError),
    Refusal(
        "multiply.reduceat",
        lambda cp: cp.multiply.reduceat(x(cp), cp.asarray([0])),
        NotImplementedError,
    ),
    # -- shapes, dtypes and indices, as in NumPy
    Refusal("out of another shape", lambda cp: cp.add(x(cp), 1, out=cp.zeros(4)), ValueError),
    Refusal("out of a narrower kind", lambda cp: cp.add(x(cp), 1, out=cp.zeros(3, int)), TypeError),
    Refusal("shapes that do not broadcast", lambda cp: x(cp) + cp.zeros(4), ValueError),
    Refusal("a ufunc without a loop", lambda cp: cp.bitwise_and(x(cp), 1), TypeError),
    Refusal("minus of bool", lambda cp: cp.negative(x(cp) > 5), TypeError),
    Refusal("a scalar beyond the dtype", lambda cp: x(cp, np.int8) + 300, OverflowError),
    Refusal("dtype longdouble", lambda cp: cp.zeros(3, np.longdouble), ValueError),
    Refusal("dtype object", lambda cp: cp.zeros(3, object), ValueError),
    Refusal("an integer index out of range", lambda cp: x(cp)[3], IndexError),
    Refusal("a float index array", lambda cp: x(cp)[cp.zeros(2)], IndexError),
    Refusal("a mask of another shape", lambda cp: x(cp)[cp.ones(4, bool)], IndexError),
    Refusal("len of 0-d", lambda cp: len(cp.zeros(())), TypeError),
    Refusal("iteration over 0-d", lambda cp: iter(cp.zeros(())), TypeError),
    Refusal("truth of many elements", lambda cp: bool(x(cp)), ValueError),
    Refusal("max of nothing", lambda cp: cp.max(cp.zeros(0)), ValueError),
    Refusal("0-d arrays in concatenate", lambda cp: cp.concatenate([cp.zeros(())]), TypeError),
    Refusal("matmul of scalars", lambda cp: cp.matmul(cp.zeros(()), cp.zeros(())), ValueError),
)

BEHAVIOURS = (
    Behaviour(
        "inverse of a singular matrix",
        lambda cp: _after(1, cp.linalg.inv(cp.ones((2, 2)))),
        1,
    ),
    Behaviour("fancy indices wrap", lambda cp: x(cp)[[1, 3]], np.array([1.0, 0.0])),
    Behaviour("take wraps", lambda cp: cp.take(x(cp), cp.asarray([4])), np.array([1.0])),
    Behaviour("assignment wraps", lambda cp: _set(x(cp), [4], 7), np.array([0.0, 7.0, 2.0])),
    Behaviour("a full reduction is a 0-d array", lambda cp: cp.sum(x(cp)), np.array(3.0)),
    Behaviour("so is a scalar's index", lambda cp: x(cp)[1], np.array(1.0)),
    Behaviour("array_equal is one too", lambda cp: cp.array_equal(x(cp), x(cp)), np.array(True)),
    Behaviour("flags.writeable protects nothing", _write_protected_write, np.array([9.0, 1, 2])),
    Behaviour(
        "broadcast_to is writable",
        lambda cp: _set(cp.broadcast_to(x(cp), (1, 3)), (0, 0), 5),
        np.array([[5.0, 1, 2]]),
    ),
    Behaviour("a slice's base", lambda cp: (lambda a: a[1:].base is a)(x(cp)), True),
    Behaviour("a slice of a slice's base", lambda cp: (lambda a: a[1:][1:].base is a)(x(cp)), True),
    Behaviour("a copy's base", lambda cp: x(cp)[1:].copy().base is None, True),
    Behaviour(
        "as_strided has no base",
        lambda cp: cp.lib.stride_tricks.as_strided(x(cp), (2,), (8,)).base is None,
        True,
    ),
    Behaviour(
        "NumPy's ufunc gives a device array",
        lambda cp: np.negative(x(cp)),
        np.array([-0.0, -1, -2]),
    ),
    Behaviour("NumPy's function gives one too", lambda cp: np.sum(x(cp)), np.array(3.0)),
    Behaviour(
        "an operand takes over a ufunc", lambda cp: cp.add(x(cp), TakesOver()), ("cupy_add", 2, [])
    ),
    Behaviour(
        "with its keywords",
        lambda cp: cp.exp(TakesOver(), dtype=np.float32),
        ("cupy_exp", 1, ["dtype"]),
    ),
    Behaviour("an operand without ufuncs is asked", lambda cp: x(cp) + Defers(), "reflected"),
    Behaviour(
        "a Python scalar keeps float32",
        lambda cp: x(cp, np.float32) * 2.0,
        np.array([0, 2, 4], np.float32),
    ),
    Behaviour(
        "a NumPy scalar does not",
        lambda cp: x(cp, np.float32) * np.float64(2),
        np.array([0, 2, 4], np.float64),
    ),
    Behaviour(
        "int32 / int32", lambda cp: x(cp, np.int32) / x(cp, np.int32)[2:], np.array([0, 0.5, 1])
    ),
    Behaviour("sqrt of int8", lambda cp: cp.sqrt(x(cp, np.int8)[:2]), np.array([0, 1], np.float16)),
    Behaviour("sum of int32", lambda cp: cp.sum(x(cp, np.int32)), np.array(3, np.int64)),
    Behaviour("mean of float16", lambda cp: cp.mean(x(cp, np.float16)), np.array(1, np.float16)),
    Behaviour("argmax", lambda cp: cp.argmax(x(cp)), np.array(2, np.int64)),
    Behaviour(
        "a mask assigned an array",
        lambda cp: _set(x(cp), x(cp) > 0, cp.asarray([7.0, 8.0])),
        np.array([0.0, 7, 8]),
    ),
    Behaviour(
        "add.at adds up duplicates",
        lambda cp: _accumulated(cp, "add", np.float32),
        np.array([5, 0, 2], np.float32),
    ),
    Behaviour(
        "maximum.at",
        lambda cp: _accumulated(cp, "maximum", np.uint32),
        np.array([4, 0, 2], np.uint32),
    ),
    Behaviour(
        "division by zero is silent", lambda cp: x(cp) / 0, np.array([np.nan, np.inf, np.inf])
    ),
    Behaviour(
        "comparison with a host 0-d array",
        lambda cp: x(cp) > np.array(0.5),
        np.array([False, True, True]),
    ),
    Behaviour(
        "where with scalars",
        lambda cp: cp.where(x(cp) > 0, x(cp, np.float32), 5.0),
        np.array([5, 1, 2], np.float32),
    ),
    Behaviour("clip with one bound", lambda cp: cp.clip(x(cp), None, 1), np.array([0.0, 1, 1])),
    Behaviour("get", lambda cp: type(x(cp).get()), np.ndarray),
    Behaviour("item", lambda cp: type(cp.sum(x(cp)).item()), float),
    Behaviour("float of one element", lambda cp: float(x(cp)[1:2][0]), 1.0),
    Behaviour(
        "asarray of a device array is itself",
        lambda cp: (lambda a: cp.asarray(a) is a)(x(cp)),
        True,
    ),
    Behaviour("asarray of a host array is a copy", lambda cp: cp.asarray(HOST), HOST),
    Behaviour("reshape is a view", lambda cp: (lambda a: a.reshape(3, 1).base is a)(x(cp)), True),
    Behaviour(
        "a ufunc's name", lambda cp: (cp.add.name, cp.add.nin, cp.add.nout), ("cupy_add", 2, 1)
    ),
    Behaviour("equality with None", lambda cp: x(cp) == None, np.zeros(3, bool)),  # noqa: E711
    Behaviour("out is returned", lambda cp: (lambda a: cp.add(a, 1, out=a) is a)(x(cp)), True),
    Behaviour("repeat by a list", lambda cp: cp.repeat(x(cp), [1, 0, 2]), np.array([0.0, 2, 2])),
    Behaviour("a stack of 0-d arrays", lambda cp: cp.stack([cp.sum(x(cp))]), np.array([3.0])),
    Behaviour("sort is a copy", lambda cp: _after(cp.sort(-x(cp))), np.array([-2.0, -1, 0])),
)

TABLE: tuple[Refusal | Behaviour, ...] = REFUSALS + BEHAVIOURS
