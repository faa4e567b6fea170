"""A program gives the same under mygrad 2.5.0 and gpugrad, but for the differences listed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.parity.programs import PROGRAMS

mg = pytest.importorskip("mygrad", reason="mygrad is not installed")

# program -> why gpugrad differs on purpose
_UNUSED_VIEW = "an array of a cleared graph is free again, although a view of it is still there"
DIFFERENCES = {
    "second_backward": "mygrad ignores it and leaves stale gradients; gpugrad raises",
    "view_of_a_result": _UNUSED_VIEW,
    "augmented": _UNUSED_VIEW,
    "shape_setter_with_views": _UNUSED_VIEW,
    "view_used_again": "in mygrad it is cut off from its base, whose gradient is lost unseen",
    "view_written_after_backward": "in mygrad it no longer shares memory with its base",
    "constant_keeps_its_will": "mygrad's astype makes a constant variable, against its manual",
    "python_scalar_promotion": "mygrad makes float64 arrays of Python scalars; here NEP 50 holds",
}


def observed(x: Any) -> Any:
    """What is compared of a result: of a tensor, all that a user can see."""
    if isinstance(x, mg.Tensor | gg.Tensor):
        return {
            "data": np.array(x.data),
            "dtype": x.dtype.name,
            "shape": x.shape,
            "constant": x.constant,
            "writeable": x.data.flags.writeable,
            "grad": None if x.grad is None else np.array(x.grad),
            "grad's dtype": None if x.grad is None else x.grad.dtype.name,
        }
    return x


def outcome(f: Any, m: Any) -> dict[str, Any] | Exception:
    try:
        return {name: observed(x) for name, x in f(m).items()}
    except Exception as error:
        return error.with_traceback(None)


def disagreement(theirs: Any, ours: Any, where: str = "") -> str | None:
    """The first thing in which two outcomes differ, or None."""
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        expected = {"InvalidBackprop": gg.InvalidBackprop, "InvalidGradient": gg.InvalidGradient}
        kind = expected.get(type(theirs).__name__, type(theirs))
        same = isinstance(theirs, Exception) and isinstance(ours, kind)
        return None if same else f"mygrad: {theirs!r}, gpugrad: {ours!r}"
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            found = disagreement(value, ours[key], f"{where}.{key}")
            if found:
                return found
        return None
    if isinstance(theirs, np.ndarray) and isinstance(ours, np.ndarray):
        same = theirs.shape == ours.shape and np.allclose(theirs, ours, rtol=1e-12, atol=1e-14)
    else:
        same = type(theirs) is type(ours) and theirs == ours
    return None if same else f"{where}: mygrad {theirs}, gpugrad {ours}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_does_what_it_does_under_mygrad(name: str):
    f = PROGRAMS[name]
    found = disagreement(outcome(f, mg), outcome(f, gg))
    if name in DIFFERENCES:
        assert found, f"no difference any more, so not a row of DIFFERENCES: {DIFFERENCES[name]}"
    else:
        assert not found, found


def test_differences_are_of_programs_that_exist():
    assert set(DIFFERENCES) <= set(PROGRAMS)
