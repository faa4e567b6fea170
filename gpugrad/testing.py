"""Is a derivative right? Checks for operations of one's own.

>>> import numpy as np
>>> import gpugrad as gg
>>> from gpugrad.testing import check_grads
>>> check_grads(lambda x, y: gg.exp(x) * y, (np.ones((2, 3)), np.ones(3)))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpugrad.autodiff import grad, is_array, jvp
from gpugrad.backend.array_module import asnumpy, device_of, to_device
from gpugrad.ops.reductions import sum as tensor_sum
from gpugrad.state import no_autodiff, recording
from gpugrad.tensor import Tensor
from gpugrad.tree import leaves, places, rebuild

__all__ = ["check_grads"]

# Of central differences: the step at which truncation (step^2) and rounding (eps / step) are equal,
# and about a hundred times the error that is left.
_STEP = {2: 0.1, 4: 5e-3, 8: 6e-6}
_TOLERANCE = {2: 0.2, 4: 5e-3, 8: 1e-6}


ListFunction = Callable[..., list[Tensor]]


class _Argument(NamedTuple):
    """An array that is differentiated by, and what messages call it."""

    label: str
    array: Any


def check_grads(
    f: Callable[..., Any],
    args: Any,
    order: int = 2,
    modes: Sequence[str] = ("rev", "fwd"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    *,
    rng: np.random.Generator | int | None = None,
) -> None:
    """Check the derivatives of `f` at `args` against finite differences, to any order.

    For each argument two numbers are compared: in a random direction v, and with random weights w
    on the result, w . (f(x + eps v) - f(x - eps v)) / (2 eps), which knows nothing of derivatives,
    and w . J v, which is found from the rules. The check then turns to the function
    (x, w) -> J^T w, until `order` is reached.

    Parameters
    ----------
    f : callable
        Returns a tensor, or a dict, list or tuple of tensors. At `args` it must be smooth: a kink
        nearer than `eps` is reported as an error.
    args : tuple, or one argument
        Arrays, tensors, numbers, or dicts, lists and tuples of them. Integers and bools are passed
        on and not differentiated by; neither is what holds no numbers.
    order : int, optional
        How often to differentiate, >= 1. Of order 2 fail the rules that are right as numbers but
        were computed in a way that gpugrad does not see.
    modes : sequence of {"rev", "fwd"}, optional
        What is checked: gradients (``backward()`` and `gpugrad.grad`), products by `gpugrad.jvp`.
    atol, rtol : float, optional
        Allowed difference, the second in units of sum |w_i (J v)_i|. By default 1e-6 for float64,
        5e-3 for float32, 0.2 for float16, the coarsest of the arguments' dtypes.
    eps : float, optional
        The step, in units of the argument; by default 6e-6 for float64, 5e-3 for float32, 0.1 for
        float16.
    rng : numpy Generator or int, optional
        Where the directions come from; by default they are always the same.

    Raises
    ------
    AssertionError
        A derivative is wrong. The message names the order, the argument and the difference.
    ValueError
        `order` or `modes` is out of range, or no argument is of floats.
    TypeError
        `f` did not return tensors.

    Examples
    --------
    A rule that computes the right number by means that cannot be differentiated:

    >>> import numpy as np
    >>> import gpugrad as gg
    >>> from gpugrad.testing import check_grads
    >>> @gg.primitive
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda g, y, x: g * gg.tensor(3 * gg.asnumpy(x) ** 2))
    >>> check_grads(cube, np.array([1.0, 2.0]), order=1)
    >>> check_grads(cube, np.array([1.0, 2.0]), order=2)
    Traceback (most recent call last):
        ...
    AssertionError: check_grads: order 2, gradient by argument 0 (shape (2,)): ...
    """
    if order < 1:
        raise ValueError(f"check_grads: order is {order}, expected 1 or more")
    if not modes or not set(modes) <= {"rev", "fwd"}:
        raise ValueError(f'check_grads: modes is {modes!r}, expected "rev", "fwd" or both')
    args = args if isinstance(args, tuple) else (args,)
    arguments, function = _flattened(f, args)
    if not arguments:
        raise ValueError("check_grads: none of the arguments is of floats")
    coarsest = min(x.array.dtype.itemsize for x in arguments)
    tolerance = _TOLERANCE.get(coarsest, 1e-6)
    check = _Check(
        tuple(modes),
        tolerance if atol is None else atol,
        tolerance if rtol is None else rtol,
        _STEP.get(coarsest, 6e-6) if eps is None else eps,
        np.random.default_rng(0 if rng is None else rng),
    )
    with recording:
        for level in range(1, order + 1):
            weights = check.derivatives(level, function, arguments)
            if level < order:
                function = _pullback_of(function, len(arguments))
                arguments = [
                    *arguments,
                    *(
                        _Argument(f"cotangent {j} of order {level}", w)
                        for j, w in enumerate(weights)
                    ),
                ]


def _flattened(f: Callable, args: tuple) -> tuple[list[_Argument], ListFunction]:
    """The arrays of floats among `args`, and `f` as a function of them alone."""
    found: list[_Argument] = []
    given: list[list[Any]] = []
    for i, arg in enumerate(args):
        one = is_array(arg)
        given.append([arg] if one else leaves(arg))
        for k, place in enumerate([""] if one else places(arg)):
            array = _as_floats(given[i][k])
            if array is not None:
                given[i][k] = _MISSING
                found.append(_Argument(f"argument {i}{place}", array))

    def function(*arrays: Any) -> list[Tensor]:
        left = iter(
            a if isinstance(a, Tensor) else Tensor(a, constant=True, copy=False) for a in arrays
        )
        filled = [[next(left) if a is _MISSING else a for a in entries] for entries in given]
        ys = leaves(
            f(
                *(
                    entries[0] if is_array(arg) else rebuild(arg, entries)
                    for arg, entries in zip(args, filled)
                )
            )
        )
        for y in ys:
            if not isinstance(y, Tensor):
                raise TypeError(f"check_grads: f returned {type(y).__name__}, expected tensors")
        return [y for y in ys if y.dtype.kind == "f"]

    return found, function


_MISSING = object()


def _as_floats(x: Any) -> Any:
    """The array of a leaf, or None if it is not of floats."""
    array = x.data if isinstance(x, Tensor) else x if hasattr(x, "dtype") else np.asarray(x)
    return array if array.dtype.kind == "f" else None


def _weighted(ys: Sequence[Tensor], weights: Sequence[Any]) -> Tensor:
    return sum((tensor_sum(y * w) for y, w in zip(ys, weights)), start=Tensor(0.0, constant=True))


def _pullback_of(function: ListFunction, n: int) -> ListFunction:
    """The gradients by the first n arrays, weighted with the others, as a function of all."""

    def pullback(*arrays: Any) -> list[Tensor]:
        weights = arrays[n:]
        return list(grad(lambda *xs: _weighted(function(*xs), weights), range(n))(*arrays[:n]))

    return pullback


class _Check(NamedTuple):
    modes: tuple[str, ...]
    atol: float
    rtol: float
    eps: float
    rng: np.random.Generator

    def like(self, array: Any) -> Any:
        """Random numbers of either sign, none near 0, of the shape, dtype and device of `array`."""
        size = self.rng.uniform(0.5, 1.5, array.shape)
        signed = np.asarray(np.where(self.rng.random(array.shape) < 0.5, -size, size))
        return to_device(signed.astype(array.dtype), device_of(array))

    def derivatives(
        self, level: int, function: ListFunction, arguments: Sequence[_Argument]
    ) -> list[Any]:
        """Check `function`; the weights on its results that were used."""
        arrays = [x.array for x in arguments]
        weights = [self.like(y.data) for y in _values(function, arrays)]
        scalar = lambda *xs: _weighted(function(*xs), weights)
        pulled: dict[str, Sequence[Any]] = {}
        if "rev" in self.modes:
            if level == 1:
                pulled["backward()"] = _backward(scalar, arrays)
            pulled["gradient"] = grad(scalar, range(len(arrays)))(*arrays)
        for i, (label, array) in enumerate(arguments):
            v = self.like(array)
            dys = self.differences(function, arrays, i, v)
            expected, size = _inner(weights, dys), _inner(weights, dys, np.abs)
            found = {name: _inner([gs[i]], [v]) for name, gs in pulled.items()}
            if "fwd" in self.modes:
                along = lambda x: function(*arrays[:i], x, *arrays[i + 1 :])  # noqa: B023
                found["jvp"] = _inner(weights, jvp(along, array, v)[1])
            for name, value in found.items():
                allowed = self.atol + self.rtol * size
                if not abs(value - expected) <= allowed:
                    raise AssertionError(
                        f"check_grads: order {level}, {name} by {label} (shape {array.shape}): "
                        f"{value:.10g} in a random direction, finite differences give "
                        f"{expected:.10g}; they differ by {abs(value - expected):.3g}, "
                        f"allowed is {allowed:.3g}"
                    )
        return weights

    def differences(
        self, function: ListFunction, arrays: Sequence[Any], i: int, v: Any
    ) -> list[Any]:
        """The derivatives of the results by argument i in the direction `v`."""

        def at(step: float) -> list[Any]:
            moved = [*arrays[:i], arrays[i] + (step * v).astype(v.dtype), *arrays[i + 1 :]]
            return [y.data for y in _values(function, moved)]

        ahead, behind = at(self.eps), at(-self.eps)
        return [(_in_double(a) - _in_double(b)) / (2 * self.eps) for a, b in zip(ahead, behind)]


def _values(function: ListFunction, arrays: Sequence[Any]) -> list[Tensor]:
    with no_autodiff:
        return function(*(Tensor(x) for x in arrays))


def _backward(scalar: Callable[..., Tensor], arrays: Sequence[Any]) -> list[Any]:
    xs = [Tensor(x, constant=False) for x in arrays]
    scalar(*xs).backward()
    return [np.zeros(x.shape) if x.grad is None else x.grad for x in xs]


def _in_double(x: Any) -> np.ndarray:
    return np.asarray(asnumpy(x), dtype=np.float64)


def _inner(a: Sequence[Any], b: Sequence[Any], each: Callable[[Any], Any] = np.asarray) -> float:
    return float(sum(np.sum(each(_in_double(x) * _in_double(y))) for x, y in zip(a, b)))
