"""A fault raises the class that NumPy raises for it, and the message names the function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.exceptions import AxisError
from numpy.linalg import LinAlgError

import gpugrad as gg
from gpugrad.errors import DeviceMismatchError, explain
from tests.locks import leaves_no_lock

X = np.arange(6.0).reshape(2, 3) + 1


class Fault(NamedTuple):
    """A wrong call.

    Attributes
    ----------
    name : str
    call : callable
        ``call(m, x, on)`` with the library (NumPy, or gpugrad), X as its array, and a function that
        puts a host array where x lies.
    raises : type
        NumPy's class for it.
    words : str
        Parts of the message, between "..." in their order.
    """

    name: str
    call: Callable[[Any, Any, Any], Any]
    raises: type[Exception]
    words: str


FAULTS = (
    # operands whose shapes do not broadcast
    Fault("add", lambda m, x, on: m.add(x, on(np.ones(4))), ValueError, "add: ...(2,3) (4,)"),
    Fault("add, raw on the left", lambda m, x, on: on(np.ones(4)) + x, ValueError, "add: ...(4,)"),
    Fault("operator", lambda m, x, on: x * x[0, :2], ValueError, "multiply: ...(2,3) (2,)"),
    Fault("in-place", lambda m, x, on: x.__iadd__(on(np.ones(4))), ValueError, "add: ...(2,3)"),
    Fault("where", lambda m, x, on: m.where(on(np.ones(4, bool)), x, x), ValueError, "where: ..."),
    Fault(
        "where, branches",
        lambda m, x, on: m.where(x > 1, x, on(np.ones(4))),
        ValueError,
        "where: ...(2,3)...(4,)",
    ),
    Fault(
        "clip", lambda m, x, on: m.clip(x, on(np.zeros(4)), 1.0), ValueError, "clip: ...(2,3) (4,)"
    ),
    Fault("matmul", lambda m, x, on: x @ x, ValueError, "matmul: ..."),
    Fault("matmul by a number", lambda m, x, on: m.matmul(x, 2.0), ValueError, "matmul: ..."),
    Fault("broadcast_to", lambda m, x, on: m.broadcast_to(x, (4, 4)), ValueError, "broadcast_to: "),
    Fault("stack", lambda m, x, on: m.stack([x, x[0]]), ValueError, "stack: ...(2, 3)...(3,)"),
    Fault("concatenate", lambda m, x, on: m.concatenate([x, x[0]]), ValueError, "concatenate: ..."),
    Fault(
        "join a number", lambda m, x, on: m.concatenate(3), TypeError, "concatenate: got int, ..."
    ),
    Fault("stack a number", lambda m, x, on: m.stack(3), TypeError, "stack: got int, ..."),
    Fault("vstack a number", lambda m, x, on: m.vstack(3), TypeError, "vstack: got int, ..."),
    Fault("item", lambda m, x, on: x.item(), ValueError, "item: ...(2, 3), expected one element"),
    Fault("full_like", lambda m, x, on: m.full_like(x, "a"), ValueError, "full_like: ...'a'..."),
    Fault("nothing to join", lambda m, x, on: m.concatenate([]), ValueError, "concatenate: ..."),
    Fault("einsum", lambda m, x, on: m.einsum("ij,jk", x, x), ValueError, "einsum: ...(2, 3)"),
    Fault("tensordot", lambda m, x, on: m.tensordot(x, x, 1), ValueError, "tensordot: ...(2, 3)"),
    Fault("setitem", lambda m, x, on: x.__setitem__(0, on(np.ones(4))), ValueError, "setitem: "),
    Fault("reshape", lambda m, x, on: m.reshape(x, (4,)), ValueError, "reshape: ...(4,)"),
    Fault("squeeze", lambda m, x, on: m.squeeze(x, 0), ValueError, "squeeze: ...(2, 3)"),
    Fault("split", lambda m, x, on: m.split(x, 4), ValueError, "split: axis 0 has length 2..."),
    Fault("repeat", lambda m, x, on: m.repeat(x, [1, 2], axis=1), ValueError, "repeat: ..."),
    Fault("dot", lambda m, x, on: m.dot(x, x), ValueError, "dot: ..."),
    Fault("inner", lambda m, x, on: m.inner(x, x[:, :2]), ValueError, "inner: ...(2, 3)...(2, 2)"),
    Fault("vdot", lambda m, x, on: m.vdot(x, x[0]), ValueError, "vdot: ..."),
    Fault("hstack", lambda m, x, on: m.hstack([x, x[:1]]), ValueError, "hstack: ..."),
    Fault("vstack", lambda m, x, on: m.vstack([x, x[:, :1]]), ValueError, "vstack: ..."),
    Fault("dstack", lambda m, x, on: m.dstack([x, x[:1]]), ValueError, "dstack: ..."),
    Fault("columns", lambda m, x, on: m.column_stack([x, x[:1]]), ValueError, "column_stack: ..."),
    Fault("ptp", lambda m, x, on: m.ptp(x[:0]), ValueError, "ptp: ...(0, 3)"),
    Fault("empty maximum", lambda m, x, on: m.max(x[:0]), ValueError, "max: ...(0, 3)"),
    # axes
    Fault("sum", lambda m, x, on: m.sum(x, axis=2), AxisError, "sum: axis 2 ...dimension 2"),
    Fault("mean", lambda m, x, on: m.mean(x, axis=-3), AxisError, "mean: axis -3 ..."),
    Fault("var", lambda m, x, on: m.var(x, axis=5), AxisError, "var: axis 5 ..."),
    Fault("prod", lambda m, x, on: m.prod(x, axis=5), AxisError, "prod: axis 5 ..."),
    Fault("cumsum", lambda m, x, on: m.cumsum(x, axis=3), AxisError, "cumsum: axis 3 ..."),
    Fault("twice", lambda m, x, on: m.sum(x, axis=(0, 0)), ValueError, "sum: duplicate ..."),
    Fault("swapaxes", lambda m, x, on: m.swapaxes(x, 0, 5), AxisError, "swapaxes: ...axis 5 ..."),
    Fault("moveaxis", lambda m, x, on: m.moveaxis(x, 0, 7), AxisError, "moveaxis: ...axis 7 ..."),
    Fault(
        "expand_dims", lambda m, x, on: m.expand_dims(x, 9), AxisError, "expand_dims: axis 9 ..."
    ),
    Fault("transpose", lambda m, x, on: m.transpose(x, (0, 0)), ValueError, "transpose: ..."),
    Fault("sort", lambda m, x, on: m.sort(x, axis=4), AxisError, "sort: axis 4 ..."),
    Fault("roll", lambda m, x, on: m.roll(x, 1, axis=4), AxisError, "roll: axis 4 ..."),
    Fault("partition", lambda m, x, on: m.partition(x, 1, axis=4), AxisError, "partition: axis 4"),
    Fault("take, axis", lambda m, x, on: m.take(x, [0], axis=4), AxisError, "take: axis 4 ..."),
    Fault("flip", lambda m, x, on: m.flip(x, 4), AxisError, "flip: axis 4 ..."),
    Fault("tensordot, axis", lambda m, x, on: m.tensordot(x, x, 3), IndexError, "tensordot: ..."),
    Fault("cut", lambda m, x, on: m.array_split(x, [1.5]), TypeError, "array_split: ..."),
    Fault("kth", lambda m, x, on: m.partition(x, 1.5), TypeError, "partition: ..."),
    Fault("diff", lambda m, x, on: m.diff(x, axis=4), AxisError, "diff: axis 4 ..."),
    Fault("median", lambda m, x, on: m.median(x, axis=4), AxisError, "median: ...axis 4 ..."),
    Fault("argmax", lambda m, x, on: m.argmax(x, axis=4), AxisError, "argmax: axis 4 ..."),
    Fault("ptp, axis", lambda m, x, on: m.ptp(x, axis=4), AxisError, "ptp: ...axis 4 ..."),
    Fault(
        "cross, axis", lambda m, x, on: m.cross(x, x, axisa=4), AxisError, "cross: ...axis 4 ..."
    ),
    Fault("comparison", lambda m, x, on: x < on(np.ones(4)), ValueError, "less: ...(2,3) (4,)"),
    Fault(
        "diagonal, axis",
        lambda m, x, on: m.diagonal(x, 0, 0, 4),
        AxisError,
        "diagonal: ...axis 4 ...",
    ),
    Fault("norm", lambda m, x, on: m.linalg.norm(x, axis=4), AxisError, "norm: axis 4 ..."),
    Fault(
        "concatenate, axis",
        lambda m, x, on: m.concatenate([x, x], axis=3),
        AxisError,
        "concatenate: axis 3 ...",
    ),
    # indices
    Fault("index", lambda m, x, on: x[5], IndexError, "getitem: ...5..."),
    Fault("too many", lambda m, x, on: x[0, 0, 0], IndexError, "getitem: ..."),
    Fault("float index", lambda m, x, on: x[0.5], IndexError, "getitem: ..."),
    Fault("index in a list", lambda m, x, on: x[[0, 7]], IndexError, "getitem: ...size 2"),
    Fault("mask", lambda m, x, on: x[np.ones(3, bool)], IndexError, "getitem: ..."),
    Fault("write", lambda m, x, on: x.__setitem__(5, 1.0), IndexError, "setitem: ...5..."),
    Fault(
        "take", lambda m, x, on: m.take(x, [9], axis=0), IndexError, "take: ...axis 0 with size 2"
    ),
    # dtypes and masks
    Fault("text", lambda m, x, on: m.add(x, "a"), TypeError, "add: ...expected real numbers"),
    Fault(
        "float mask",
        lambda m, x, on: m.exp(x, out=on(np.zeros((2, 3))), where=on(np.ones((2, 3)))),
        TypeError,
        "exp: where has dtype float64, expected bool",
    ),
    Fault(
        "mask of another shape",
        lambda m, x, on: m.exp(x, out=on(np.zeros((2, 3))), where=on(np.ones(4, bool))),
        ValueError,
        "exp: ...",
    ),
    Fault(
        "out of another shape",
        lambda m, x, on: m.add(x, 1.0, out=on(np.zeros(3))),
        ValueError,
        "add: ...",
    ),
    Fault(
        "concatenate, out of integers",
        lambda m, x, on: m.concatenate([x, x], out=on(np.zeros((4, 3), int))),
        TypeError,
        "concatenate: ...float64...int64...same_kind",
    ),
    Fault(
        "out of integers",
        lambda m, x, on: m.add(x, 1.0, out=on(np.zeros((2, 3), int))),
        TypeError,
        "...add...float64...int64",
    ),
    Fault("axis of text", lambda m, x, on: m.sum(x, axis="a"), TypeError, "sum: ..."),
    Fault("shape of floats", lambda m, x, on: m.zeros(2.5), TypeError, "zeros: ..."),
    Fault("ends", lambda m, x, on: m.geomspace(0, 1), ValueError, "geomspace: ..."),
    # linear algebra
    Fault("inv", lambda m, x, on: m.linalg.inv(x), LinAlgError, "inv: got shape (2, 3), ..."),
    Fault("det", lambda m, x, on: m.linalg.det(x[0]), LinAlgError, "det: ...(3,)...(..., n, n)"),
    Fault("solve", lambda m, x, on: m.linalg.solve(x[:, :2], "b"), TypeError, "solve: ...<U1"),
    Fault("dot of text", lambda m, x, on: m.dot(x, "b"), TypeError, "dot: ..."),
    Fault("eigvalsh", lambda m, x, on: m.linalg.eigvalsh(x), LinAlgError, "eigvalsh: ...(2, 3)"),
    Fault("multi_dot", lambda m, x, on: m.linalg.multi_dot([x]), ValueError, "multi_dot: ..."),
    Fault("trace", lambda m, x, on: m.trace(x[0]), ValueError, "trace: ..."),
    Fault("diagonal", lambda m, x, on: m.diagonal(x[0]), ValueError, "diagonal: ..."),
)
by_name = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


def occur_in_order(words: str, text: str) -> bool:
    place = 0
    for part in words.split("..."):
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


@by_name
def test_numpy_raises_the_class_of_the_table(fault: Fault):
    with pytest.raises(fault.raises):
        fault.call(np, X.copy(), lambda a: a)


@by_name
def test_fault_raises_numpys_class_and_names_the_function(fault: Fault, as_device: Any):
    x = gg.tensor(as_device(X))
    with pytest.raises(fault.raises) as caught:
        fault.call(gg, x, as_device)
    assert occur_in_order(fault.words, str(caught.value)), str(caught.value)


@by_name
def test_a_fault_leaves_nothing_read_only_and_no_gradient_behind(fault: Fault):
    a = X.copy()
    x = gg.tensor(a, copy=False)
    with pytest.raises(fault.raises):
        fault.call(gg, x, lambda a: a)
    assert a.flags.writeable
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * X)


# ------------------------------------------------------------------------------------ two devices


@pytest.mark.parametrize(
    ("call", "function"),
    [
        (lambda x: x + X, "add"),
        (lambda x: gg.matmul(x, X.T), "matmul"),
        (lambda x: gg.concatenate([x, X]), "concatenate"),
        (lambda x: gg.where(x > 1, X, x), "where"),
        (lambda x: x.__setitem__(0, X[0]), "setitem"),
        (lambda x: x.__iadd__(X), "add"),
        (lambda x: gg.exp(x, where=X > 1), "exp"),
        (lambda x: gg.exp(x, out=X.copy()), "exp"),
        (lambda x: x.backward(X), "backward"),
        (lambda x: x + gg.tensor(X), "add"),
    ],
)
def test_arrays_of_two_devices_are_named(call: Any, function: str, cupy_standin: Any):
    x = gg.tensor(cupy_standin.asarray(X))
    with pytest.raises(DeviceMismatchError, match=rf"^{function}: .*cuda:0.*cpu|.*cpu.*cuda:0"):
        call(x)


# ---------------------------------------------------------------------------------------- complex

Z = np.array([1.0 + 1j])
COMPLEX: dict[str, Callable[[Any], Any]] = {
    "tensor": lambda on: gg.tensor(on(Z)),
    "astensor": lambda on: gg.astensor(on(Z)),
    "Tensor": lambda on: gg.Tensor(on(Z)),
    "a list": lambda on: gg.tensor([1j]),
    "dtype": lambda on: gg.tensor(on(Z.real), dtype=complex),
    "zeros": lambda on: gg.zeros(3, dtype=complex),
    "full": lambda on: gg.full(2, 1j),
    "eye": lambda on: gg.eye(2, dtype=np.complex64),
    "arange": lambda on: gg.arange(3, dtype=complex),
    "linspace": lambda on: gg.linspace(0, 1j, 3),
    "astype": lambda on: gg.tensor(on(Z.real)).astype(complex),
    "data": lambda on: setattr(gg.tensor(on(Z.real)), "data", on(Z)),
    "add": lambda on: gg.tensor(on(Z.real)) + 1j,
    "radd": lambda on: 1j + gg.tensor(on(Z.real)),
    "array on the left": lambda on: on(Z) * gg.tensor(on(Z.real)),
    "a NumPy scalar": lambda on: gg.tensor(on(Z.real)) * np.complex64(1j),
    "power": lambda on: gg.tensor(on(Z.real)) ** 1j,
    "ufunc, dtype": lambda on: gg.add(gg.tensor(on(Z.real)), 1.0, dtype=complex),
    "ufunc, out": lambda on: gg.add(gg.tensor(on(Z.real)), 1.0, out=on(Z.copy())),
    "sum, dtype": lambda on: gg.sum(gg.tensor(on(Z.real)), dtype=complex),
    "where": lambda on: gg.where(on(Z.real) > 0, gg.tensor(on(Z.real)), 1j),
    "stack": lambda on: gg.stack([on(Z)]),
    "einsum": lambda on: gg.einsum("i->", on(Z)),
    "setitem": lambda on: gg.tensor(on(Z.real)).__setitem__(0, 1j),
    "iadd": lambda on: gg.tensor(on(Z.real)).__iadd__(1j),
    "exp": lambda on: gg.exp(on(Z)),
    "svd": lambda on: gg.linalg.svd(on(Z[:, None])),
}


@pytest.mark.parametrize(
    "call, function",
    [
        (lambda: gg.ones(2, dtype=complex), "ones"),
        (lambda: gg.zeros_like(X, dtype=complex), "zeros_like"),
        (lambda: gg.geomspace(1, 1j, 3), "geomspace"),
        (lambda: gg.linalg.eigh([[1j]]), "eigh"),
        (lambda: gg.linalg.solve([[1j]], [1.0]), "solve"),
        (lambda: gg.linalg.matrix_power([[1j]], 2), "matrix_power"),
        (lambda: gg.linalg.norm([1j]), "norm"),
        (lambda: gg.tensordot([[1j]], [[1.0]]), "tensordot"),
    ],
)
def test_message_about_complex_numbers_names_the_function_that_was_called(
    call: Callable[[], Any], function: str
):
    with pytest.raises(TypeError, match=f"^{function}: got .*complex128, expected real numbers"):
        call()


def test_constant_that_is_no_bool_is_named_with_the_function():
    for function, call in (
        ("zeros", lambda: gg.zeros(2, constant=1)),
        ("ones_like", lambda: gg.ones_like(X, constant="yes")),
    ):
        with pytest.raises(TypeError, match=f"^{function}: constant is .*, expected True, False"):
            call()


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_are_refused_wherever_they_enter(name: str, as_device: Any):
    with pytest.raises(TypeError, match=r"^\w+(\.\w+)?: got .*expected (real numbers|floats)"):
        COMPLEX[name](as_device)


def test_complex_cotangent_is_refused():
    with pytest.raises(gg.InvalidGradient, match="backward: grad is 1j"):
        gg.tensor([1.0]).backward(1j)


# ------------------------------------------------------------------------- how a message is mended


def test_error_keeps_its_class_object_and_traceback():
    x = gg.tensor(X)
    with pytest.raises(ValueError) as caught:
        gg.add(x, np.ones(4))
    assert type(caught.value) is ValueError
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ is False


def test_named_message_is_left_as_it_is():
    error = ValueError("exp: got nothing")
    explain(error, "exp", (1.0,))
    assert str(error) == "exp: got nothing"


def test_message_without_shapes_is_told_what_came():
    error = TypeError("wrong")
    explain(error, "f", (np.zeros((2, 3), np.float32), 1.5))
    assert str(error) == "f: wrong; got float32 of shape (2, 3), 1.5"


def test_errors_of_other_classes_are_left_alone():
    class Mine(ValueError):
        pass

    for error in (Mine("mine"), KeyError("k"), KeyboardInterrupt("stop")):
        before = str(error)
        explain(error, "f", (1.0,))
        assert str(error) == before


# ------------------------------------------------------------ of operators, on a tensor in a graph


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda x: x + gg.ones((4,)), ValueError),
        (lambda x: gg.add(x, x, out=np.zeros(4)), ValueError),
        (lambda x: gg.add(x, x, out=gg.zeros((4,))), ValueError),
        (lambda x: gg.add(x, x, out=np.zeros(3, int)), TypeError),
        (lambda x: gg.add(x, x, out=gg.zeros((3,), dtype=int)), TypeError),
        (lambda x: gg.sigmoid(x, out=gg.zeros((4,))), ValueError),
        (lambda x: gg.sigmoid(x, out=np.zeros(4)), ValueError),
        (lambda x: gg.sigmoid(x, out=np.zeros(3, int)), TypeError),
        (lambda x: gg.sigmoid(x, out=np.zeros(3, int), where=[True, False, True]), TypeError),
        (lambda x: gg.sigmoid(x, dtype=int), TypeError),
        (lambda x: gg.add(x), TypeError),
        (lambda x: gg.exp(x, x, x), TypeError),
        (lambda x: gg.add(x, 1j), TypeError),
        (lambda x: x * np.array([1j]), TypeError),
        (lambda x: x + "a", TypeError),
        (lambda x: x @ gg.ones((4,)), ValueError),
        (lambda x: x @ 2.0, ValueError),
        (lambda x: gg.sum(x, axis=1), ValueError),
        (lambda x: gg.sum(x, axis=(0, 0)), ValueError),
        (lambda x: gg.max(x[:0]), ValueError),
        (lambda x: gg.reshape(x, (2, 2)), ValueError),
        (lambda x: gg.transpose(x, (0, 1)), ValueError),
        (lambda x: gg.squeeze(x, axis=0), ValueError),
        (lambda x: gg.expand_dims(x, 3), ValueError),
        (lambda x: gg.broadcast_to(x, (2,)), ValueError),
        (lambda x: gg.concatenate([]), ValueError),
        (lambda x: gg.concatenate([x, gg.ones((1, 3))]), ValueError),
        (lambda x: gg.stack([]), ValueError),
        (lambda x: gg.stack([x, x[:2]]), ValueError),
        (lambda x: gg.where(x > 1, x), ValueError),
        (lambda x: x[3], IndexError),
        (lambda x: x[[0, 3]], IndexError),
        (lambda x: x[0, 0], IndexError),
        (lambda x: x[1.0], IndexError),
        (lambda x: x[np.array([True, False])], IndexError),
        (lambda x: gg.add.reduce(x), TypeError),
        (lambda x: x // 2, ValueError),
        (lambda x: x % 2, ValueError),
        (lambda x: x + [gg.tensor(1.0)], TypeError),
    ],
)
def test_wrong_operands_raise_what_numpy_raises_and_leave_no_lock(call: Any, error: type):
    x = gg.tensor(np.ones(3), copy=False)
    with leaves_no_lock(), pytest.raises(error):
        call(x)
    assert x.data.flags.writeable


@pytest.mark.parametrize(
    "call",
    [
        lambda x, other: x + other,
        lambda x, other: other + x,
        lambda x, other: gg.sigmoid(x, out=other),
        lambda x, other: gg.where([True, False], x, other),
        lambda x, other: gg.concatenate([x, other]),
        lambda x, other: x @ other,
        lambda x, other: x.__setitem__(slice(None), other),
        lambda x, other: x.__iadd__(other),
    ],
)
@pytest.mark.parametrize("make", (np.array, gg.tensor))
def test_host_and_device_do_not_mix(call: Any, make: Any, cupy_standin: Any):
    x = gg.tensor([1.0, 2.0], device="cuda")
    with pytest.raises(gg.DeviceMismatchError, match="cpu|cuda|host|GPU"):
        call(x, make([1.0, 2.0]))
    np.testing.assert_array_equal(gg.asnumpy(x), [1.0, 2.0])
