"""What is public in mygrad 2.5.0 is found in gpugrad at the same path, but for what is listed."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import gpugrad
from gpugrad.aliases import MODULES
from gpugrad.creators import TABLE
from gpugrad.operation_base import Operation
from tests.fresh_python import output_of

mygrad = pytest.importorskip("mygrad", reason="mygrad is not installed")

# module -> why its names are not here
_MACHINERY = "mygrad's own machinery, which nothing documented reaches"
ABSENT_MODULES = {
    "_numpy_version": _MACHINERY,
    "_utils.duplicating_graph": _MACHINERY,
    "_version": "holds nothing but the version number, which is gpugrad.__version__",
}
# name -> why it is not here
ABSENT = {
    "T": "a type variable",
    "d_sig": "a part of mygrad's gru",
    "d_tanh": "a part of mygrad's gru",
    "dot": "a part of mygrad's gru",
    "sig": "a part of mygrad's gru",
    "ContextTracker": _MACHINERY,
    "MemStateContext": _MACHINERY,
    "WeakRef": _MACHINERY,
    "WeakRefIterable": _MACHINERY,
    "array_is_tracked": _MACHINERY,
    "collect_all_operations_and_clear_grads": _MACHINERY,
    "collect_all_tensors_and_clear_grads": _MACHINERY,
    "force_lock_tensor_and_creators": _MACHINERY,
    "lock_arr_writeability": _MACHINERY,
    "lock_arrs_of_tensors": _MACHINERY,
    "release_locks_when_collected": _MACHINERY,
    "release_writeability_lock_on_op": _MACHINERY,
    "unlock_view_with_base": _MACHINERY,
    "Final": "a metaclass of mygrad's ufuncs",
    "FinalABC": "a metaclass of mygrad's ufuncs",
    "MyGradBinaryUfuncNoMask": "a class of mygrad's ufuncs without where=; here all have it",
    "MaxMin": "a base class that mygrad's Max and Min share",
}


# module -> what it needs and is not installed
UNIMPORTABLE = {} if find_spec("numba") else {"nnet.layers.gru": "numba"}
THEIRS = sorted(m.name.partition(".")[2] for m in pkgutil.walk_packages(mygrad.__path__, "mygrad."))


def public_names(module: ModuleType) -> list[str]:
    """What a module defines or exports under names without an underscore."""
    listed = set(getattr(module, "__all__", ()))
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            listed.add(name)
    return sorted(listed - set(ABSENT))


@pytest.mark.parametrize("path", [path for path in THEIRS if path not in ABSENT_MODULES])
def test_module_has_mygrads_public_names(path):
    if path in UNIMPORTABLE:
        pytest.skip(f"mygrad.{path} needs {UNIMPORTABLE[path]}, which is not installed")
    ours = importlib.import_module(f"gpugrad.{path}")
    theirs = importlib.import_module(f"mygrad.{path}")
    assert [name for name in public_names(theirs) if not hasattr(ours, name)] == []


def test_top_level_has_every_public_name_of_mygrads():
    names = [name for name in dir(mygrad) if not name.startswith("_")]
    assert [name for name in names if not hasattr(gpugrad, name)] == []


def test_public_names_are_those_of_mygrad_and_no_internals():
    assert sorted(gpugrad.__all__) == gpugrad.__all__ and set(gpugrad.__all__) <= set(dir(gpugrad))
    assert [name for name in gpugrad.__all__ if not hasattr(gpugrad, name)] == []
    mygrads = {n for n in dir(mygrad) if n[0] != "_"} - {"TYPE_CHECKING"}
    assert mygrads <= set(dir(gpugrad))
    internal = {
        path.stem
        for path in Path(gpugrad.__path__[0]).iterdir()
        if path.stem not in {"backend", "boltzmann", "gradients", "testing"} | mygrads
    }
    assert {"aliases", "apply", "mutation", "ops", "protocols"} <= internal
    assert internal.isdisjoint(dir(gpugrad)) and "TYPE_CHECKING" not in dir(gpugrad)


def test_star_import_gives_the_names_that_are_imported_later_too():
    names: dict[str, object] = {}
    exec("from gpugrad import *", names)
    assert set(gpugrad.__all__) == set(names) - {"__builtins__"}
    assert names["grad"] is gpugrad.grad and names["nnet"] is gpugrad.nnet


def test_constants_and_dtypes_are_mygrads():
    names = [n for n in dir(mygrad) if isinstance(getattr(mygrad, n), float | type | None)]
    values = {n: getattr(mygrad, n) for n in names if not n.startswith("_")}
    numpys = {n: x for n, x in values.items() if getattr(x, "__module__", "numpy") == "numpy"}
    assert {"e", "euler_gamma", "inf", "nan", "newaxis", "pi", "half", "intp"} <= set(numpys)
    np.testing.assert_equal({n: getattr(gpugrad, n) for n in numpys}, numpys)
    assert gpugrad.tensor_base.CONSTANT_ONLY_DTYPES == mygrad.tensor_base.CONSTANT_ONLY_DTYPES


def test_tensor_has_every_attribute_of_mygrads():
    machinery = {"_backward", "_init_from_array", "_replay_op", "_wrap_op_data"}
    missing = set(dir(mygrad.Tensor)) - set(dir(gpugrad.Tensor))
    # copyreg leaves __slotnames__ on a class that it has pickled once
    assert missing - {"__slotnames__"} == machinery


def test_exceptions_are_still_needed():
    assert set(ABSENT_MODULES) <= set(THEIRS)
    assert not [path for path in ABSENT_MODULES if f"gpugrad.{path}" in sys.modules]
    present = [n for path in MODULES for n in ABSENT if hasattr(module_of(path), n)]
    assert present == []


def module_of(path: str) -> ModuleType:
    return importlib.import_module(f"gpugrad.{path}")


@pytest.mark.parametrize("path", MODULES)
def test_every_name_of_the_table_leads_somewhere(path):
    module = module_of(path)
    assert module.__all__ == [name for name in module.__all__ if hasattr(module, name)]
    assert set(module.__all__) <= set(dir(module))
    assert path in THEIRS


def test_aliases_are_the_public_objects_themselves():
    from gpugrad.math.misc.funcs import matmul, multi_matmul
    from gpugrad.tensor_base import Tensor
    from gpugrad.tensor_creation.funcs import zeros

    assert matmul is gpugrad.matmul and multi_matmul is gpugrad.multi_matmul
    assert Tensor is gpugrad.Tensor and zeros is gpugrad.zeros


@pytest.mark.parametrize(
    "statement",
    [
        "import gpugrad.math.misc.funcs; gpugrad.math.misc.funcs.matmul",
        "import gpugrad.math.misc.funcs as funcs; funcs.matmul",
        "from gpugrad.math import trigonometric; trigonometric.funcs.sin",
        "from gpugrad.math.arithmetic.ops import Add",
        "from gpugrad.math.sequential.funcs import *; cumsum",
        "import gpugrad.random.funcs; gpugrad.random.funcs.rand",
        "from gpugrad.random.funcs import randn",
        "from gpugrad.linalg.funcs import einsum, norm",
        "from gpugrad.linalg.ops import EinSum",
        "from gpugrad.typing._dtype_like import DTypeLikeReals",
        "import gpugrad.computational_graph; gpugrad.computational_graph.build_graph",
        "import gpugrad; gpugrad.nnet.activations.relu([1.0])",
        "import gpugrad.nnet.activations.relu; gpugrad.nnet.activations.relu([1.0])",
        "from gpugrad.nnet.activations.relu import ReLu, relu; relu([1.0])",
        "from gpugrad.nnet.layers.batchnorm import BatchNorm, batchnorm; batchnorm([[1.0]], eps=1)",
        "from gpugrad.nnet.losses.focal_loss import softmax_focal_loss",
        "from gpugrad.nnet.initializers import glorot_uniform, identity",
        "from gpugrad.nnet import conv_nd, relu, he_normal, softmax_crossentropy, layers",
        "from gpugrad.nnet.layers.conv import ConvND, conv_nd",
        "import gpugrad as mg; mg.math.exp_log.ops.Exp; mg.operation_base.Operation",
        "import gpugrad, importlib.util as u; assert u.find_spec('gpugrad.math.arithmetic').name",
        "import pickle; pickle.loads(b'cgpugrad.math.arithmetic.ops\\nAdd\\n.')",
    ],
)
def test_import_statement_works_in_a_fresh_interpreter(statement):
    output_of(statement)


def test_unknown_name_is_an_error_as_in_any_module():
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from gpugrad.math.arithmetic.ops import Nonsense  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gpugrad.math.nonsense")


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, classes in TABLE.items() for name in classes]
)
def test_operation_class_is_pickled_by_its_path(path, name):
    cls = getattr(module_of(path), name)
    assert issubclass(cls, Operation)
    assert cls.__module__ == f"gpugrad.{path}" and cls.__name__ == name
    assert pickle.loads(pickle.dumps(cls)) is cls


def test_operations_cost_nothing_until_somebody_asks_for_one():
    program = (
        "import gpugrad, sys\n"
        "x = gpugrad.tensor([1.0]); y = x * x; y.backward()\n"
        "assert y.creator is None and not hasattr(gpugrad.math.arithmetic.ops, '__file__')\n"
        "assert 'gpugrad.creators' not in sys.modules\n"
        "assert type((x * x).creator) is gpugrad.math.arithmetic.ops.Multiply"
    )
    output_of(program)


def test_errors_have_mygrads_common_base():
    for name in ("InvalidGradient", "InvalidBackprop", "DisconnectedView"):
        assert issubclass(getattr(gpugrad.errors, name), gpugrad.errors.MyGradException)
