"""Each function that NumPy's protocols pass is supported, answered or refused by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import overrides

import gpugrad as gg
from gpugrad.numpy_functions import ANSWERED, NO_GRADIENT, of_numbers, path_of
from gpugrad.ops.namespace import tensor_namespace
from gpugrad.protocols import ADAPTED, supported
from tests.op_table import ROWS, Row

# of no array: NumPy asks a tensor about them only as `like=`; and those with tests of their own
NO_ROW = frozenset("arange empty eye full identity ones zeros linspace copyto".split())
NO_ROW |= frozenset("empty_like full_like ones_like zeros_like geomspace logspace".split())
NO_ROW |= frozenset("amax amin matrix_transpose linalg.diagonal linalg.matmul".split())
NO_ROW |= frozenset("linalg.matrix_transpose linalg.tensordot linalg.trace".split())
NO_ROW |= frozenset("linalg.cross linalg.multi_dot linalg.outer".split())
# their functions are listed once they are imported
for _module in ("char", "fft", "lib.recfunctions", "polynomial", "strings"):
    importlib.import_module(f"numpy.{_module}")
X = np.array([[0.5, 1.0, 2.0], [3.0, 0.25, 1.5]])
UFUNCS = {path_of(f): f for f in overrides.get_overridable_numpy_ufuncs() if of_numbers(f)}
FUNCTIONS = {
    path_of(f): f for f in overrides.get_overridable_numpy_array_functions() if of_numbers(f)
}
ALL = dict(sorted({**UFUNCS, **FUNCTIONS}.items()))


@pytest.mark.parametrize("name", ALL)
def test_every_function_of_numpys_is_classified_once(name: str):
    kinds = (supported(name) is not None, name in ANSWERED, name in NO_GRADIENT)
    assert sum(kinds) == 1, (
        f"{name}: (supported, ANSWERED, NO_GRADIENT) is {kinds}, expected one of them; a function "
        "that gpugrad has got meanwhile leaves gpugrad/numpy_functions.py"
    )


# functions that not every supported NumPy has, or passes to its protocols
NOT_IN_EVERY_NUMPY = frozenset(
    """
    _ones_like cumulative_prod cumulative_sum fix fromstring matvec unstack vecdot vecmat
    polynomial.polynomial.polygrid2d polynomial.polynomial.polyval2d
    polynomial.polynomial.polyvalnd
    array asanyarray asarray ascontiguousarray asfortranarray frombuffer fromfile fromiter in1d
    """.split()
)


def test_table_has_no_row_that_numpy_does_not_have():
    assert sorted((ANSWERED | NO_GRADIENT | set(ADAPTED)) - set(ALL) - NOT_IN_EVERY_NUMPY) == []


# functions written in C, of which old NumPys do not tell the required parameters
IN_C = {np.busday_count: 2, np.busday_offset: 2, np.is_busday: 1, np.putmask: 3}
IN_C |= {np.bincount: 1, np.datetime_as_string: 1}


# What stands in for each required parameter, by its name in NumPy's signature. The refused ones
# must refuse before they look at what else they were given.
def _refused_call(f: Callable) -> tuple[tuple, dict]:
    x = gg.tensor(X)
    if isinstance(f, np.ufunc):
        return (x,) * f.nin, {}
    if f in IN_C:
        return (x,) * IN_C[f], {}
    parameters = inspect.signature(f).parameters.values()
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return (x,) * max(len(required), 1), {}


# NumPy asks only about arguments that are arrays: these have none, or take their array elsewhere
ONLY_BY_LIKE = frozenset(
    """
    array asanyarray asarray ascontiguousarray asfortranarray frombuffer fromfile fromfunction
    fromiter fromstring genfromtxt loadtxt require tri
    """.split()
)


@pytest.mark.parametrize("name", sorted((NO_GRADIENT & set(ALL)) - ONLY_BY_LIKE))
def test_functions_without_a_rule_refuse_variables_by_name(name: str):
    f = ALL[name]
    args, kwargs = _refused_call(f)
    # TypeError, or for piecewise constant functions MyGrad's ValueError
    with pytest.raises((TypeError, ValueError), match="takes gradients") as caught:
        f(*args, **kwargs)
    assert name.rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize("name", sorted(NO_GRADIENT & set(UFUNCS)))
def test_ufuncs_without_a_rule_answer_for_constants(name: str):
    f = UFUNCS[name]
    if not any("d" in loop.partition("->")[0] for loop in f.types):
        pytest.skip(f"{name} takes no floats alone")
    if f.nin > 1 and not all(kind == "d" for kind in f.types[-1].partition("->")[0]):
        args: tuple = (X, X)
    else:
        args = (X,) * f.nin
    if name == "ldexp":
        args = (X, np.ones((2, 3), int))
    if name in ("matvec", "vecmat"):
        args = (X, np.ones(3)) if name == "matvec" else (np.ones(2), X)
    with np.errstate(all="ignore"):
        found = f(*(gg.tensor(a, constant=True) for a in args))
        expected = f(*args)
    for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (found, expected))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(ANSWERED & set(UFUNCS)))
def test_answered_ufuncs_give_arrays(name: str):
    f = UFUNCS[name]
    floats = any(set(loop.partition("->")[0]) == {"d"} for loop in f.types)
    x = X if floats else X.astype(int)
    found = f(*(gg.tensor(x),) * f.nin)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, f(*(x,) * f.nin))


ANSWERS: dict[str, Callable[[Any, Any], Any]] = {
    "argmax": lambda m, x: m.argmax(x, axis=1, keepdims=True),
    "argsort": lambda m, x: m.argsort(x, axis=0, kind="stable"),
    "argpartition": lambda m, x: m.argpartition(x, 1),
    "argwhere": lambda m, x: m.argwhere(x > 1),
    "nonzero": lambda m, x: m.nonzero(x),
    "flatnonzero": lambda m, x: m.flatnonzero(x),
    "count_nonzero": lambda m, x: m.count_nonzero(x, axis=0),
    "searchsorted": lambda m, x: m.searchsorted([1.0, 2.0], x),
    "digitize": lambda m, x: m.digitize(x, [1.0, 2.0]),
    "isclose": lambda m, x: m.isclose(x, 1.0),
    "allclose": lambda m, x: m.allclose(x, x),
    "array_equal": lambda m, x: m.array_equal(x, x),
    "array_equiv": lambda m, x: m.array_equiv(x, x),
    "isin": lambda m, x: m.isin(x, [1.0]),
    "isreal": lambda m, x: m.isreal(x),
    "iscomplexobj": lambda m, x: m.iscomplexobj(x),
    "isposinf": lambda m, x: m.isposinf(x),
    "lexsort": lambda m, x: m.lexsort((x[0], x[1])),
    "shape": lambda m, x: m.shape(x),
    "size": lambda m, x: m.size(x),
    "ndim": lambda m, x: m.ndim(x),
    "result_type": lambda m, x: m.result_type(x, np.float32),
    "min_scalar_type": lambda m, x: m.min_scalar_type(x[0, 0]),
    "linalg.matrix_rank": lambda m, x: m.linalg.matrix_rank(x),
    "any": lambda m, x: m.any(x > 1, axis=1, where=[True, False, True]),
    "all": lambda m, x: m.all(x, keepdims=True),
    "array_str": lambda m, x: m.array_str(x),
    "einsum_path": lambda m, x: m.einsum_path("ij,ij", x, x)[0],
    "nanargmax": lambda m, x: m.nanargmax(x, axis=1),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_about_tensors_are_numpys_about_arrays(name: str):
    assert name in ANSWERED
    found, expected = ANSWERS[name](np, gg.tensor(X)), ANSWERS[name](np, X)
    assert type(found) is type(expected)
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.nanmedian(x, axis=0),
        lambda x: np.heaviside(x, 0.5),
        lambda x: np.nanpercentile(x, [20, 80]),
        lambda x: np.unique(x),
        lambda x: np.histogram(x, bins=3)[0],
        lambda x: np.fft.fft(x).real,
        lambda x: np.frexp(x)[0],
        lambda x: np.multiply.outer(np.arange(2), np.spacing(x)),
    ],
)
def test_functions_without_a_rule_answer_for_constants_and_without_a_graph(call: Any):
    expected = call(X)
    found = call(gg.tensor(X, constant=True))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)
    with gg.no_autodiff:
        np.testing.assert_array_equal(call(gg.tensor(X)), expected)


def test_variable_among_many_arguments_is_found():
    x, c = gg.tensor(X), gg.tensor(X, constant=True)
    for call in (
        lambda: np.nanmedian(c, axis=0, out=x[0]),
        lambda: np.block([[c, x]]),
        lambda: np.select([X > 1], [x], c),
        lambda: np.bincount([0, 1], weights=x[0, :2]),
        lambda: np.copyto(X.copy(), x),
        lambda: np.put(c, [0], x[0, 0]),
        lambda: np.heaviside(c, x),
        lambda: np.heaviside.outer(c, x),
    ):
        with pytest.raises(TypeError, match="that takes gradients"):
            call()


# ------------------------------------------------------- NumPy's function of a tensor is gpugrad's


class _ThroughNumPy:
    """NumPy's functions where its protocols reach gpugrad's, and gpugrad's words otherwise."""

    def __init__(self) -> None:
        self.reached: set[str] = set()

    def __getattr__(self, word: str) -> Any:
        for path in (word, f"linalg.{word}"):
            if path in ALL and supported(path) is not None:
                self.reached.add(path)
                return ALL[path]
        return getattr(tensor_namespace, word)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_function_of_numpys_gives_value_and_gradient_of_gpugrads(row: Row, device: str):
    found = []
    for m in (_ThroughNumPy(), tensor_namespace):
        xs = [gg.tensor(x, device=device) for x in row.draw()]
        y = row.call(m, *xs)
        assert type(y) is gg.Tensor
        assert not y.constant
        y.backward()
        found.append([gg.asnumpy(y)] + [gg.asnumpy(x.grad) for x in xs])
    for through_numpy, directly in zip(*found):
        np.testing.assert_array_equal(through_numpy, directly)


def test_rows_of_the_table_reach_every_function_that_has_a_gradient():
    m = _ThroughNumPy()
    for row in ROWS:
        row.call(m, *(gg.tensor(x) for x in row.draw()))
    expected = {name for name in ALL if supported(name) is not None}
    assert sorted(expected - m.reached - NO_ROW) == []


# ------------------------------------------------------------------ NumPy's order of the arguments

BY_POSITION: dict[str, Callable[[Any], Any]] = {
    "sum: axis, dtype": lambda x: np.sum(x, 0, np.float32),
    "sum: axis, dtype, out, keepdims": lambda x: np.sum(x, 1, None, None, True),
    "mean: axis, dtype, out, keepdims": lambda x: np.mean(x, 1, np.float32, None, True),
    "max: axis, out, keepdims": lambda x: np.max(x, 0, None, True),
    "amin by keyword": lambda x: np.amin(a=x, axis=0),
    "reshape by NumPy's keyword": lambda x: np.reshape(x, shape=(3, 2)),
    "reshape in C order": lambda x: np.reshape(x, (3, 2), "C"),
    "ravel in C order": lambda x: np.ravel(x, "C"),
    "transpose by keyword": lambda x: np.transpose(x, axes=(1, 0)),
    "transpose": lambda x: np.transpose(x),
    "matrix_transpose": lambda x: np.matrix_transpose(x),
    "linalg.matrix_transpose": lambda x: np.linalg.matrix_transpose(x),
    "linalg.diagonal": lambda x: np.linalg.diagonal(x[None], offset=1),
    "linalg.trace": lambda x: np.linalg.trace(x[None], offset=1),
    "linalg.matmul": lambda x: np.linalg.matmul(x, x[0]),
    "linalg.outer": lambda x: np.linalg.outer(x[0], x[1]),
    "linalg.cross": lambda x: np.linalg.cross(x, x[::-1]),
    "linalg.multi_dot": lambda x: np.linalg.multi_dot([x, x[0][:, None], x[:1]]),
    "linalg.tensordot": lambda x: np.linalg.tensordot(x, x, axes=([1], [1])),
    "linalg.norm": lambda x: np.linalg.norm(x, 2.0, 1, True),
    "linalg.svd, NumPy's defaults": lambda x: np.linalg.svd(x, compute_uv=False),
    "trace": lambda x: np.trace(x, 1, 0, 1, np.float32),
    "std: axis, dtype, out, ddof": lambda x: np.std(x, 1, None, None, 1),
    "var: keepdims": lambda x: np.var(x, axis=1, keepdims=True),
    "cumsum: axis, dtype": lambda x: np.cumsum(x, 1, np.float32),
    "repeat": lambda x: np.repeat(a=x, repeats=2, axis=1),
    "einsum": lambda x: np.einsum("ij,ij->i", x, x),
    "pad": lambda x: np.pad(x, 1, "constant", constant_values=2.0),
    "sort": lambda x: np.sort(x, -1, "stable"),
    "take": lambda x: np.take(x, [0, 0, 1], 1),
    "clip, lower bound alone": lambda x: np.clip(x, 1.0, None),
    "clip, upper bound by NumPy's name": lambda x: np.clip(x, a_max=1.0, a_min=None),
    "broadcast_to by keyword": lambda x: np.broadcast_to(array=x, shape=(2, 2, 3)),
    "concatenate, all arguments": lambda x: np.concatenate((x, x), axis=1, casting="same_kind"),
    "stack, axis by position": lambda x: np.stack([x, x], 1),
    "swapaxes by keyword": lambda x: np.swapaxes(a=x, axis1=0, axis2=1),
    "squeeze": lambda x: np.squeeze(x[:1], 0),
    "where": lambda x: np.where(x > 1, x, 0.0),
    "add with defaults": lambda x: np.add(x, 1.0, casting="same_kind", order="K", subok=True),
    "add, out by position": lambda x: np.add(x, 1.0, np.empty((2, 3))),
}


@pytest.mark.parametrize("name", BY_POSITION)
def test_arguments_mean_what_they_mean_to_numpy(name: str):
    if name == "reshape by NumPy's keyword" and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("NumPy's keyword was newshape")
    call = BY_POSITION[name]
    x = gg.tensor(X)
    y, expected = call(x), call(X)
    assert type(y) is gg.Tensor
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)
    y.sum().backward()
    assert x.grad is not None


def test_numpys_defaults_hold_where_gpugrads_differ():
    x = gg.tensor(X)
    assert np.zeros(2, like=x).dtype == np.float64
    assert type(np.ones(2, like=x)) is gg.Tensor


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: np.reshape(x, (3, 2), order="F"), "reshape: got order='F'"),
        (lambda x: np.concatenate([x, x], casting="unsafe"), "concatenate: got casting='unsafe'"),
        (lambda x: np.add(x, 1.0, casting="unsafe"), "add: got casting='unsafe'"),
        (lambda x: np.add(x, 1.0, order="F"), "add: got order='F'"),
        (lambda x: np.copyto(x, X, casting="unsafe"), "copyto: got casting='unsafe'"),
    ],
)
def test_arguments_that_gpugrad_does_not_have_are_named(call: Any, words: str):
    with pytest.raises(TypeError, match=words):
        call(gg.tensor(X))


def test_copyto_a_tensor_is_a_write_within_its_graph():
    x, y = gg.tensor(X), gg.tensor(X * 0)
    np.copyto(y, x * x, where=X > 1)
    np.testing.assert_array_equal(y, np.where(X > 1, X * X, 0))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.where(X > 1, 2 * X, 0))


# --------------------------------------------------------------------------- methods of the ufuncs


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.add.reduce(x),
        lambda x: np.add.accumulate(x),
        lambda x: np.add.reduceat(x, [0, 1]),
        lambda x: np.multiply.outer(x, x),
        lambda x: np.add.at(x, 0, 1.0),
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_methods_of_differentiable_ufuncs_are_refused(call: Any, constant: bool):
    with pytest.raises(NotImplementedError, match="carry no gradient"):
        call(gg.tensor(X, constant=constant))


def test_methods_of_questions_answer():
    assert np.logical_and.reduce(gg.tensor(X), axis=None)
    np.testing.assert_array_equal(np.less.outer(gg.tensor(X), 1.0), X < 1.0)


# ------------------------------------------------------------------------------------------- SciPy


def test_special_functions_of_scipys_are_gpugrads():
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    x = gg.tensor(X)
    y = special.expit(x)
    assert type(y) is gg.Tensor
    y.backward()
    np.testing.assert_allclose(x.grad, special.expit(X) * special.expit(-X), rtol=1e-14)


def test_ufunc_of_a_users_is_not_taken_for_numpys_by_its_name():
    def add(a: float, b: float) -> float:
        return a - b

    strange = np.frompyfunc(add, 2, 1)
    with pytest.raises(TypeError, match="that takes gradients"):
        strange(gg.tensor(X), 1.0)
    np.testing.assert_array_equal(strange(gg.tensor(X, constant=True), 1.0).astype(float), X - 1)
