"""Gradients of a machine, and functions over all of their entries.

A `Gradient` has the structure of a machine's parameters: one namedtuple a layer, one a coupling of
neighbours and, in machines that have them, one a layer for its lateral couplings.
Functions with a trailing underscore work in place.
"""

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.rng import default_generator
from gpugrad.boltzmann.state import namespace_for

__all__ = [
    "Gradient",
    "from_named_arrays",
    "grad_accumulate",
    "grad_apply",
    "grad_apply_",
    "grad_flatten",
    "grad_magnitude",
    "grad_mapzip",
    "grad_mapzip_",
    "grad_norm",
    "grad_normalize_",
    "grad_rms",
    "named_arrays",
    "null_grad",
    "partial",
    "random_grad",
    "zero_grad",
]

Gradient = namedtuple("Gradient", ["layers", "weights", "lateral"], defaults=[()])
Gradient.__doc__ = """Arrays in the structure of a machine's parameters.

Attributes
----------
layers : list of namedtuple
    One a layer of units, visible layer first.
weights : list of namedtuple
    One a pair of neighbouring layers.
lateral : list of namedtuple
    One a layer, without entries where it has no lateral couplings; empty if no layer has any.
"""


def named_arrays(grad: Any) -> Iterator[tuple[str, Any]]:
    """Pairs of name and array, in the order and with the names of `BoltzmannMachine.parameters`."""
    for group in grad._fields:
        for index, params in enumerate(getattr(grad, group)):
            for name, array in params._asdict().items():
                yield f"{group}.{index}.{name}", array


def from_named_arrays(model: Any, arrays: Mapping[str, Any]) -> Any:
    """A gradient from arrays by name, as `named_arrays` gives them.

    Parameters
    ----------
    model : BoltzmannMachine
        Whose structure it has.
    arrays : dict of array
    """
    names = (name for name, _ in named_arrays(model.params()))
    return grad_apply(lambda _: arrays[next(names)], model.params())


def _arrays(grad: Any) -> Iterator[Any]:
    return (array for _, array in named_arrays(grad))


def grad_apply(func: Callable[[Any], Any], grad: Any) -> Any:
    """A gradient whose arrays are `func` of the arrays of `grad`."""
    return Gradient(*([type(p)(*map(func, p)) for p in group] for group in grad))


def grad_apply_(func_: Callable[[Any], Any], grad: Any) -> None:
    """Call `func_`, which works in place, on each array."""
    for array in _arrays(grad):
        func_(array)


def grad_mapzip(func: Callable[[Any, Any], Any], grad1: Any, grad2: Any) -> Any:
    """A gradient whose arrays are `func` of the matching arrays of both."""
    return Gradient(
        *(
            [type(p)(*map(func, p, q)) for p, q in zip(first, second, strict=True)]
            for first, second in zip(grad1, grad2, strict=True)
        )
    )


def grad_mapzip_(func_: Callable[[Any, Any], Any], grad1: Any, grad2: Any) -> None:
    """Call `func_`, which changes its first argument in place, on the matching arrays of both."""
    for first, second in zip(_arrays(grad1), _arrays(grad2), strict=True):
        func_(first, second)


def grad_accumulate(func: Callable[[Any], Any], grad: Any) -> Any:
    """Sum of `func` over all arrays: `func` takes an array and gives a number."""
    return sum(func(array) for array in _arrays(grad))


def grad_flatten(grad: Any) -> Any:
    """All entries as one vector."""
    arrays = list(_arrays(grad))
    return namespace_for(*arrays).concatenate([array.reshape(-1) for array in arrays])


def grad_norm(grad: Any) -> Any:
    """Euclidean norm over all entries of all layers and weights."""
    return grad_accumulate(_sum_of_squares, grad) ** 0.5


def grad_rms(grad: Any) -> Any:
    """Root of the mean square over all entries of all layers and weights."""
    return grad_norm(grad) / sum(array.size for array in _arrays(grad)) ** 0.5


grad_magnitude = grad_rms


def grad_normalize_(grad: Any) -> None:
    """Divide by the norm, in place; a gradient of zeros stays as it is."""
    norm = grad_norm(grad)
    # a select, not a branch: the norm may live on a device
    divisor = norm + (norm == 0)
    for array in _arrays(grad):
        array /= divisor


def _sum_of_squares(array: Any) -> Any:
    # float64: a sum over a million float32 squares would lose digits
    return get_array_module(array).sum(array * array, dtype="float64")


def null_grad(model: Any) -> Any:
    """A gradient with an empty list a layer and a coupling."""
    return Gradient(
        [[] for _ in model.layers],
        [[] for _ in model.weights],
        [[] for _ in model.layers] if model.lateral else (),
    )


def zero_grad(model: Any) -> Any:
    """A gradient of zeros in the shapes and on the device of the model's parameters."""
    return grad_apply(lambda array: get_array_module(array).zeros_like(array), model.params())


def random_grad(model: Any, *, rng: Any = None) -> Any:
    """A gradient of uniform random numbers in [0, 1)."""
    generator = default_generator() if rng is None else rng
    return grad_apply(
        lambda array: generator.uniform(array.shape, array.dtype, device=model.device),
        model.params(),
    )
