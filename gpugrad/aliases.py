"""MyGrad's import paths: ``from gpugrad.math.arithmetic.ops import Add`` and all the others.

MyGrad keeps its functions in some forty small modules; here they live elsewhere. The modules of its
names are made from the one table below when gpugrad is imported, and put where Python looks first,
in ``sys.modules``. So one page says what is where, forty files that say nothing more need not be
kept and shipped, and a class pickled by such a path is found again. What a module contains is
looked up when it is asked for: making them takes some 0.1 ms, and no class of an operation is made
before.

Modules that gpugrad has under MyGrad's own name (errors, typing, operation_base, random, linalg,
computational_graph) are files; some have submodules here.
"""

from __future__ import annotations

import sys
from functools import cached_property
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MODULES", "install"]

_GUARD = "mem_guard_active mem_guard_off mem_guard_on"
_GUARD += " turn_memory_guarding_off turn_memory_guarding_on"
_HYPERBOLIC = "arccosh arccoth arccsch arcsinh arctanh cosh coth csch sech sinh tanh"
_RANDOM = "rand randint randn random random_sample ranf sample seed"
_SEQUENTIAL = "amax amin cumprod cumsum max mean min prod std sum var"
_TRIGONOMETRIC = "arccos arccot arccsc arcsec arcsin arctan arctan2 cos cot csc sec sin sinc tan"
_UFUNCS = "MyGradBinaryUfunc=ufunc.BinaryUfunc MyGradUnaryUfunc=ufunc.UnaryUfunc"
_UFUNCS += " ufunc_creator=user_ufuncs.ufunc_creator"

# module -> its names, of what gpugrad has under the same name or, after "=", under another. Names
# of one module of gpugrad's follow its name and a colon.
MODULES: dict[str, str] = {
    "_dtype_mirrors": (
        "bool_ double float16 float32 float64 half int16 int32 int64 int8 intp longdouble single "
        "uint16 uint32 uint64 uint8 uintp"
    ),
    "_io": "load save",
    "_tensor_core_ops": "",
    "_tensor_core_ops.indexing": "",
    "_utils": "operation_base: SkipGradient reduce_broadcast",
    "_utils.graph_tracking": "no_autodiff",
    "_utils.lock_management": _GUARD,
    "indexing_routines": "",
    "indexing_routines.funcs": "where",
    "indexing_routines.ops": "",
    "linalg.ops": "",
    "math": "",
    "math._special": "logsumexp",
    "math.arithmetic": "",
    "math.arithmetic.funcs": (
        "add add_sequence divide multiply multiply_sequence negative positive power reciprocal "
        "square subtract true_divide"
    ),
    "math.arithmetic.ops": "",
    "math.consts": "e euler_gamma inf nan newaxis pi",
    "math.exp_log": "",
    "math.exp_log.funcs": "exp exp2 expm1 log log10 log1p log2 logaddexp logaddexp2",
    "math.exp_log.ops": "",
    "math.hyperbolic_trig": "",
    "math.hyperbolic_trig.funcs": _HYPERBOLIC,
    "math.hyperbolic_trig.ops": "",
    "math.misc": "",
    "math.misc.funcs": "abs absolute cbrt clip matmul maximum minimum multi_matmul sqrt",
    "math.misc.ops": "",
    "math.nondifferentiable": "any argmax argmin",
    "math.sequential": "",
    "math.sequential.funcs": _SEQUENTIAL,
    "math.sequential.ops": "",
    "math.trigonometric": "",
    "math.trigonometric.funcs": _TRIGONOMETRIC,
    "math.trigonometric.ops": "",
    "nnet.activations.elu": "nnet.activations: elu",
    "nnet.activations.glu": "nnet.activations: glu",
    "nnet.activations.hard_tanh": "nnet.activations: hard_tanh",
    "nnet.activations.leaky_relu": "nnet.activations: leaky_relu",
    "nnet.activations.relu": "nnet.activations: relu",
    "nnet.activations.selu": "nnet.activations: selu",
    "nnet.activations.sigmoid": "nnet.activations: sigmoid",
    "nnet.activations.soft_sign": "nnet.activations: soft_sign",
    "nnet.activations.softmax": "nnet.activations: logsoftmax softmax",
    "nnet.initializers.constant": "nnet.initializers: constant",
    "nnet.initializers.dirac": "nnet.initializers: dirac",
    "nnet.initializers.glorot_normal": "nnet.initializers: glorot_normal",
    "nnet.initializers.glorot_uniform": "nnet.initializers: glorot_uniform",
    "nnet.initializers.he_normal": "nnet.initializers: he_normal",
    "nnet.initializers.he_uniform": "nnet.initializers: he_uniform",
    "nnet.initializers.normal": "nnet.initializers: normal",
    "nnet.initializers.uniform": "nnet.initializers: uniform",
    "nnet.layers.batchnorm": "nnet.layers: batchnorm",
    "nnet.losses._utils": "nnet.losses: check_loss_inputs",
    "nnet.losses.focal_loss": "nnet.losses: focal_loss softmax_focal_loss",
    "nnet.losses.margin_ranking_loss": "nnet.losses: margin_ranking_loss",
    "nnet.losses.multiclass_hinge": "nnet.losses: multiclass_hinge",
    "nnet.losses.negative_log_likelihood": "nnet.losses: negative_log_likelihood",
    "nnet.losses.softmax_crossentropy": "nnet.losses: softmax_crossentropy",
    "no_grad_funcs": (
        "allclose bincount can_cast ceil copyto divmod equal floor floor_divide fmod greater "
        "greater_equal isclose isfinite isinf isnan isnat less less_equal logical_and logical_not "
        "logical_or logical_xor may_share_memory min_scalar_type mod not_equal remainder "
        "result_type rint shape shares_memory sign signbit trunc"
    ),
    "random.funcs": f"random: {_RANDOM}",
    "tensor_base": (
        "CONSTANT_ONLY_DTYPES=tensor.CONSTANT_ONLY_DTYPES Tensor asarray astensor "
        "implements_numpy_override=protocols.implements_numpy_override tensor"
    ),
    "tensor_creation": "",
    "tensor_creation.funcs": (
        "arange empty empty_like eye full full_like geomspace identity linspace logspace ones "
        "ones_like zeros zeros_like"
    ),
    "tensor_manip": "",
    "tensor_manip.array_shape": "",
    "tensor_manip.array_shape.funcs": (
        "atleast_1d atleast_2d atleast_3d broadcast_to expand_dims ravel reshape squeeze"
    ),
    "tensor_manip.array_shape.ops": "",
    "tensor_manip.tensor_joining": "",
    "tensor_manip.tensor_joining.funcs": "concatenate stack",
    "tensor_manip.tensor_joining.ops": "",
    "tensor_manip.tiling": "",
    "tensor_manip.tiling.funcs": "repeat",
    "tensor_manip.tiling.ops": "",
    "tensor_manip.transpose_like": "",
    "tensor_manip.transpose_like.funcs": "moveaxis roll swapaxes transpose",
    "tensor_manip.transpose_like.ops": "",
    "typing._array_like": "typing: ArrayLike ImplementsArray Mask",
    "typing._dtype_like": "typing: DTypeLike DTypeLikeReals",
    "typing._shape": "typing: Shape",
    "ufuncs": _UFUNCS,
    "ufuncs._ufunc_creators": f"{_UFUNCS} MyGradUfunc=ufunc ufunc",
}


class _Module(ModuleType):
    """A module of other modules' names."""

    def __init__(self, path: str, row: str, is_package: bool) -> None:
        super().__init__(f"gpugrad.{path}", f"MyGrad's module ``{path}``: names of gpugrad's.")
        self._path, self._row = path, row
        self.__spec__ = ModuleSpec(self.__name__, None, is_package=is_package)
        self.__package__ = self.__name__ if is_package else self.__name__.rpartition(".")[0]
        if is_package:
            self.__path__: list[str] = []

    @cached_property
    def _origins(self) -> dict[str, tuple[str, str]]:
        """For each name the module that has it, and its name there."""
        source, _, words = self._row.rpartition(":")
        origins = {}
        for name, _, origin in (word.partition("=") for word in words.split()):
            module, _, original = origin.rpartition(".")
            origins[name] = (f"gpugrad.{module or source}".rstrip("."), original or name)
        return origins

    def __getattr__(self, name: str) -> Any:
        if name in self._origins:
            module, original = self._origins[name]
            found: Any = getattr(import_module(module), original)
        elif name == "__all__":
            found = [*self._origins, *self._operations()]
        elif not name.startswith("__") and name in self._operations():
            from gpugrad.creators import operation_class

            found = operation_class(self._path, name)
        else:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        setattr(self, name, found)
        return found

    def _operations(self) -> tuple[str, ...]:
        """The classes of operations that are found here."""
        from gpugrad.creators import TABLE

        return tuple(TABLE.get(self._path, ()))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__all__})


def install() -> None:
    """Make the modules, each an attribute of the one above it.

    Not so those of nnet, where the attribute is the function of the name, as in MyGrad.
    """
    packages = {path.rpartition(".")[0] for path in MODULES}
    for path, row in MODULES.items():
        module = _Module(path, row, path in packages)
        parent, _, name = module.__name__.rpartition(".")
        sys.modules[module.__name__] = module
        if path.startswith("nnet."):
            continue
        setattr(import_module(parent), name, module)
