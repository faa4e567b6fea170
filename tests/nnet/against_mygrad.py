"""One call in gpugrad and in mygrad: values, gradients, constants, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import mygrad
import mygrad.nnet
import numpy as np

import gpugrad as gg

__all__ = ["OURS", "THEIRS", "assert_same_calculus", "assert_same_error", "calculus", "names_of"]


def names_of(library: Any) -> Any:
    """The names of nnet, of all its parts, in one library."""
    parts = ("activations", "initializers", "layers", "losses")
    found: dict[str, Any] = {"tensor": library.tensor}
    for part in parts:
        found |= vars(getattr(library.nnet, part))
    return SimpleNamespace(**found)


OURS, THEIRS = names_of(gg), names_of(mygrad)


def calculus(m: Any, call: Callable[..., Any], arrays: Sequence[Any]) -> list[np.ndarray]:
    """The value of ``call(m, *tensors)``, and the gradients from a cotangent drawn at random."""
    xs = [m.tensor(np.array(x)) for x in arrays]
    y = call(m, *xs)
    y.backward(np.random.default_rng(7).uniform(0.5, 1.5, y.shape))
    return [np.asarray(y.data), *(x.grad for x in xs)]


def assert_same_calculus(
    call: Callable[..., Any], *arrays: Any, rtol: float = 1e-12, atol: float = 1e-13
) -> None:
    """Value, gradients, and whether the result is a constant, are mygrad's."""
    for a, b in zip(calculus(OURS, call, arrays), calculus(THEIRS, call, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    for constant in (True, False):
        flags = []
        for m in (OURS, THEIRS):
            xs = [m.tensor(np.array(x), constant=constant) for x in arrays]
            flags.append(call(m, *xs).constant)
        assert flags[0] == flags[1] == constant


def assert_same_error(call: Callable[..., Any], function: str) -> None:
    """mygrad raises, and gpugrad an error of that class that names the function."""
    raised: list[BaseException] = []
    for m in (OURS, THEIRS):
        try:
            call(m)
        except Exception as error:
            raised.append(error)
        else:
            raise AssertionError(f"no error in {'gpugrad' if m is OURS else 'mygrad'}")
    ours, theirs = raised
    assert isinstance(ours, type(theirs)), (ours, theirs)
    assert str(ours).startswith(f"{function}:"), ours
