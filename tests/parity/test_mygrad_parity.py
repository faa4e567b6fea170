"""A program gives the same under mygrad 2.5.0 and gpugrad, but for the differences listed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from tests.parity.differential.differences import DIFFERENCES as REASONS
from tests.parity.memory_programs import PROGRAMS

mg = pytest.importorskip("mygrad", reason="mygrad is not installed")

# program -> which of the deliberate differences it shows
DIFFERENCES = {
    "second_backward": "cleared graph",
    "view_of_a_result": "free again",
    "augmented": "free again",
    "shape_setter_with_views": "free again",
    "view_used_again": "views stay",
    "view_written_after_backward": "views stay",
    "constant_keeps_its_will": "astype",
    "python_scalar_promotion": "numbers",
    "operators_that_mygrad_lacks": "operators",
    "two_graphs_with_one_leaf": "shared leaves",
    "write_to_a_tensor_with_gradient_and_views": "gradients of views",
    "pickle_within_a_graph": "pickle",
    "copy_of_a_view": "copied views",
    "broadcast_view_after_backward": "broadcast",
    "squeeze_of_nothing": "nothing to do",
    "derivative_at_nan": "nan",
    "array_that_is_operand_and_out": "out is an operand",
    "view_without_a_graph": "views without a graph",
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
    if name == "clip_without_bounds" and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("NumPy's clip, which mygrad calls, wants a bound")
    f = PROGRAMS[name]
    found = disagreement(outcome(f, mg), outcome(f, gg))
    if name in DIFFERENCES:
        assert found, f"no difference any more: {REASONS[DIFFERENCES[name]]}"
    else:
        assert not found, found


def test_differences_are_of_programs_that_exist():
    assert set(DIFFERENCES) <= set(PROGRAMS)
    assert set(DIFFERENCES.values()) <= set(REASONS)
