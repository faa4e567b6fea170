"""Ufuncs as objects: what can be asked of mygrad's and NumPy's can be asked of these."""

from __future__ import annotations

import inspect
import pickle
import typing
from copy import copy, deepcopy
from typing import Any

import mygrad as mg
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import MissingExtraError
from gpugrad.ops import comparison, nondifferentiable
from gpugrad.ops.namespace import PUBLIC
from gpugrad.typing import ArrayLike, DTypeLikeReals, Mask
from gpugrad.ufunc import BinaryUfunc, PlainUfunc, UnaryUfunc, ufunc
from tests.fresh_python import output_of

THEIRS = sorted(
    name
    for name, value in vars(mg).items()
    if isinstance(value, type) and issubclass(value, mg.ufunc) and value is not mg.ufunc
)
OURS = sorted(name for name, value in vars(gg).items() if isinstance(value, ufunc))
PLAIN = sorted(name for name in OURS if isinstance(getattr(gg, name), PlainUfunc))
METHODS = {
    "at": ([1.0], [0], 2.0),
    "reduce": ([1.0],),
    "accumulate": ([1.0],),
    "reduceat": ([1.0], [0]),
    "outer": ([1.0], [1.0]),
}


def same_parameters(mine: Any, theirs: Any) -> None:
    """Theirs come first, of the same names, kinds and defaults; what is left goes by keyword."""
    found = list(inspect.signature(mine).parameters.values())
    expected = list(inspect.signature(theirs).parameters.values())
    described = [(p.name, p.kind, p.default) for p in found]
    assert described[: len(expected)] == [(p.name, p.kind, p.default) for p in expected]
    assert all(p.kind is p.KEYWORD_ONLY for p in found[len(expected) :])


def test_mygrads_ufuncs_are_ufuncs_here():
    assert set(THEIRS) <= set(OURS)


@pytest.mark.parametrize("name", THEIRS)
def test_signature_and_attributes_are_mygrads(name: str):
    mine, theirs = getattr(gg, name), getattr(mg, name)
    same_parameters(mine, theirs)
    for attribute in ("nin", "nout", "nargs", "ntypes", "types", "identity", "signature"):
        assert getattr(mine, attribute) == getattr(theirs, attribute), attribute
    assert mine.__name__ == theirs.__name__
    assert repr(mine) == repr(theirs).replace("mygrad", "gpugrad")
    assert mine.resolve_dtypes == getattr(np, name).resolve_dtypes


@pytest.mark.parametrize("name", PLAIN)
def test_functions_that_are_no_ufuncs_in_mygrad_have_its_parameters_first(name: str):
    same_parameters(getattr(gg, name), getattr(mg, name))
    point = [1.5]
    np.testing.assert_array_equal(getattr(gg, name)(a=point, constant=True).data.shape, (1,))


@pytest.mark.parametrize("name", OURS)
def test_ufunc_is_one_to_isinstance_and_issubclass(name: str):
    f = getattr(gg, name)
    assert issubclass(f, gg.ufunc)
    assert isinstance(f, gg.ufunc)
    if f is not gg.matmul:  # a generalised ufunc, in mygrad of a third type
        assert issubclass(f, BinaryUfunc if f.nin == 2 else (UnaryUfunc, PlainUfunc))
    assert not issubclass(f, UnaryUfunc if f.nin == 2 else BinaryUfunc)


def test_other_things_are_no_ufuncs():
    for other in (int, gg.Tensor, np.add, "add", gg.sum):
        assert not isinstance(other, gg.ufunc)
        assert not issubclass(other, gg.ufunc)
    assert issubclass(gg.ufunc, gg.ufunc)


@pytest.mark.parametrize("base", (gg.ufunc, UnaryUfunc, BinaryUfunc), ids=lambda c: c.__name__)
def test_ufunc_cannot_be_subclassed(base: Any):
    with pytest.raises(TypeError, match=r"cannot be subclassed: got class 'Mine'"):
        type("Mine", (base,), {})
    with pytest.raises(TypeError):
        type("Mine", (gg.add,), {})


def test_ufunc_needs_an_operation():
    with pytest.raises(TypeError):
        gg.ufunc()


@pytest.mark.parametrize("name", OURS)
def test_ufunc_survives_pickle_and_copy(name: str):
    f = getattr(gg, name)
    assert pickle.loads(pickle.dumps(f)) is f
    assert copy(f) is f
    assert deepcopy(f) is f
    assert f.__module__ == "gpugrad"


@pytest.mark.parametrize("name", OURS)
def test_docstring_says_what_the_function_takes(name: str):
    f = getattr(gg, name)
    first, *rest = f.__doc__.splitlines()
    assert len(first) <= 100
    assert "Parameters" in [line.strip() for line in rest]
    for parameter in inspect.signature(f).parameters:
        assert parameter in f.__doc__


def test_type_hints_can_be_read():
    hints = typing.get_type_hints(gg.add)
    assert list(hints) == ["x1", "x2", "out", "where", "dtype", "constant", "return"]
    assert hints["return"] is gg.Tensor
    assert hints["out"] == gg.Tensor | np.ndarray | None
    assert hints["constant"] == bool | None
    assert (hints["where"], hints["dtype"]) == (Mask, DTypeLikeReals)
    assert typing.get_args(hints["x1"])[:1] == typing.get_args(ArrayLike)[:1]
    assert list(typing.get_type_hints(gg.exp)) == [
        "x1",
        "out",
        "where",
        "dtype",
        "constant",
        "return",
    ]
    assert typing.get_type_hints(gg.abs)["nan_to_num"] is bool


@pytest.mark.parametrize("name", ("add", "exp", "sinc", "sigmoid"))
@pytest.mark.parametrize("method", METHODS)
def test_methods_are_refused_as_in_mygrad(name: str, method: str):
    f = getattr(gg, name)
    with pytest.raises(NotImplementedError, match=rf"{name}\.{method}: ufunc methods carry no"):
        getattr(f, method)(*METHODS[method])
    with pytest.raises(TypeError):
        getattr(f, method)()


@pytest.mark.parametrize("method", METHODS)
def test_parameters_of_the_methods_are_mygrads(method: str):
    mine = list(inspect.signature(getattr(gg.add, method)).parameters)
    assert mine == list(inspect.signature(getattr(mg.add, method)).parameters)


@pytest.mark.parametrize("name", ("sigmoid", "erf", "xlogy", "cot"))
def test_ufuncs_that_numpy_lacks_take_each_float(name: str):
    f = getattr(gg, name)
    x = "x" * f.nin
    assert f.types == [c * len(x) + "->" + c for c in "efd"]
    assert (f.ntypes, f.identity, f.signature) == (3, None, None)
    assert not hasattr(f, "resolve_dtypes")


@pytest.mark.parametrize("call", (lambda f: f(), lambda f: f(1.0, 2.0, 3.0, 4.0), lambda f: f(y=1)))
@pytest.mark.parametrize("name", ("add", "exp", "cot"))
def test_wrong_number_of_operands_raises(name: str, call: Any):
    with pytest.raises(TypeError):
        call(getattr(gg, name))


def test_out_goes_by_position_and_in_a_tuple_too():
    for give in (lambda out: gg.exp([0.0], out), lambda out: gg.exp([0.0], out=(out,))):
        out = np.zeros(1)
        assert give(out).data is out
        assert out[0] == 1.0


# ------------------------------------------------------------------- functions without a derivative


@pytest.mark.parametrize("name", nondifferentiable.__all__)
def test_function_without_a_derivative_is_mygrads_own_object(name: str):
    assert getattr(gg, name) is getattr(mg, name)


PIECEWISE = {name: 2 if getattr(np, name).nin == 2 else 1 for name in comparison.CONSTANT_ONLY}


@pytest.mark.parametrize("name, nin", PIECEWISE.items())
@pytest.mark.parametrize("library", (gg, np), ids=("gpugrad", "numpy"))
def test_piecewise_constant_function_refuses_what_takes_gradients(
    name: str, nin: int, library: Any
):
    f = getattr(library, name)
    variable, constant = gg.tensor([1.5, -2.5]), gg.tensor([2.0, 2.0], constant=True)
    with pytest.raises(ValueError, match=f"{name}: got a tensor that takes gradients"):
        f(*(variable, constant)[:nin])
    if name != "divmod":
        with pytest.raises(ValueError, match=f"{name}: got a tensor that takes gradients"):
            f(*(constant, constant)[:nin], out=variable)
    found = f(*(constant,) * nin)
    expected = getattr(np, name)(*(constant.data,) * nin)
    for a, b in zip(np.atleast_2d(found), np.atleast_2d(expected), strict=True):
        assert type(a) is np.ndarray
        np.testing.assert_array_equal(a, b)


def test_questions_of_device_arrays_and_tensors_stay_on_the_device(device: str):
    x = gg.tensor([1.0, np.nan], device=device)
    for found in (gg.isnan(x), gg.isnan(x.data), gg.equal(x, x), gg.isclose(x, x.data)):
        assert type(found) is type(x.data)
    np.testing.assert_array_equal(gg.asnumpy(gg.isnan(x)), [False, True])


# ---------------------------------------------------------------------------- SciPy is not required

WITHOUT_SCIPY = """
import sys
sys.modules["scipy"] = None
import gpugrad as gg
assert gg.xlogy(2.0, 1.0).item() == 0
assert gg.logsumexp([0.0]).item() == 0
from gpugrad.errors import MissingExtraError
try:
    gg.erf(gg.tensor([1.0]))
except MissingExtraError as error:
    print(error)
"""


def test_special_function_without_scipy_says_what_to_install():
    found = output_of(WITHOUT_SCIPY)
    assert found.startswith("erf: the function is scipy.special's, and scipy cannot be imported")
    assert "pip install scipy" in found
    assert issubclass(MissingExtraError, ImportError)


def test_import_of_gpugrad_does_not_import_scipy():
    found = output_of("import sys, gpugrad; print('scipy' in sys.modules)")
    assert found.strip() == "False"


def test_every_ufunc_of_the_vocabulary_is_known_by_its_name():
    for name, f in PUBLIC.items():
        if isinstance(f, ufunc):
            assert f.__name__ in (name, "true_divide"), name


@pytest.mark.parametrize("dtype", ("i1", "u1", "f2", "f8"))
@pytest.mark.parametrize("exponent", (1, 2, 3, 1.0, 2.0, 0.5))
def test_power_operator_has_numpys_dtype(dtype: str, exponent: float):
    host = np.array([0, 1, 2], dtype)
    x = gg.tensor(host)
    y = x**exponent
    assert (y.dtype, y.data.tolist()) == ((host**exponent).dtype, (host**exponent).tolist())


def test_clip_without_bounds_writes_to_out():
    x, out = gg.tensor([1.0, 2.0]), gg.zeros(2, np.float64)
    assert gg.clip(x, None, None, out=out) is out
    (3 * out).sum().backward()
    assert (out.data.tolist(), x.grad.tolist()) == ([1, 2], [3, 3])
