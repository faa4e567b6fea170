"""What a user can see of the variables of a program, and the first thing in which two differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np

__all__ = ["difference", "observe", "same_answer"]


def close(theirs: np.ndarray, ours: np.ndarray, tolerance: float) -> bool:
    if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return False
    if theirs.dtype.kind != "f":
        return bool(np.array_equal(theirs, ours))
    if theirs.tobytes() == ours.tobytes():
        return True
    finite = np.abs(theirs[np.isfinite(theirs)], dtype=float)
    scale = max(1.0, finite.max()) if finite.size else 1.0
    return bool(np.allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def close_gradient(
    theirs: np.ndarray, ours: np.ndarray, tolerance: float, nan: bool = False
) -> bool:
    """Equal where mygrad's is finite (difference "finite gradient").

    And where ours is, if some tensors are not finite (difference "nan").
    """
    if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return False
    finite = np.isfinite(theirs) & ~(np.isnan(ours) & nan)
    return close(np.where(finite, theirs, 0), np.where(finite, ours, 0), tolerance)


def observe(env: dict[str, Any], tensor: type, grad_of: Callable[[Any], Any]) -> dict[str, Any]:
    """Everything that a user can see, by the name of the variable and of the property."""
    tensors = {k: v for k, v in env.items() if isinstance(v, tensor)}
    arrays = {k: v for k, v in env.items() if isinstance(v, np.ndarray) and k != "answer"}
    for t in tensors.values():
        _ = t.shape  # difference "lazy views"
    seen: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    names: dict[int, str] = {}
    for name, t in tensors.items():
        names.setdefault(id(t), name)
    for name, t in tensors.items():
        base = t.base
        g = grad_of(t)
        seen[f"{name} is"] = names[id(t)]
        seen[f"{name}.data"] = memory[name] = t.data
        seen[f"{name}.grad"] = g
        seen[f"{name}.constant"] = t.constant
        seen[f"{name}.creator is None"] = t.creator is None
        seen[f"{name}.base"] = None if base is None else names.get(id(base), "hidden")
        seen[f"{name}.data.flags.writeable"] = t.data.flags.writeable
        if g is not None and base is not None:
            base_grad = base.grad
            seen[f"{name}.grad shares memory"] = np.shares_memory(g, base_grad)
    for name, a in arrays.items():
        seen[name] = memory[name] = a
        seen[f"{name}.flags.writeable"] = a.flags.writeable
    for (j, a), (k, b) in combinations(memory.items(), 2):
        seen[f"shares_memory({j}, {k})"] = np.shares_memory(a, b)
    return seen


def difference(
    theirs: dict[str, Any], ours: dict[str, Any], tolerance: float
) -> Iterator[tuple[str, Any, Any]]:
    """(what, mygrad's, gpugrad's) of everything that differs."""
    nan = any(not np.isfinite(a).all() for k, a in theirs.items() if k.endswith(".data"))
    for key in {**theirs, **ours}:
        if key not in theirs or key not in ours:
            yield key, theirs.get(key, "nothing"), ours.get(key, "nothing")
            continue
        a, b = theirs[key], ours[key]
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            if key.endswith(".grad"):
                same = close_gradient(a, b, tolerance, nan)
            else:
                same = close(a, b, tolerance)
        else:
            same = type(a) is type(b) and a == b
        if not same:
            yield key, a, b


def same_answer(theirs: Any, ours: Any, tolerance: float) -> bool:
    """Whether two results that are neither tensors nor variables are the same."""
    if isinstance(theirs, tuple | list):
        return (
            type(theirs) is type(ours)
            and len(theirs) == len(ours)
            and all(same_answer(a, b, tolerance) for a, b in zip(theirs, ours))
        )
    if hasattr(theirs, "constant"):
        return hasattr(ours, "constant") and close(theirs.data, ours.data, tolerance)
    if isinstance(theirs, np.ndarray | np.generic):
        return type(theirs) is type(ours) and close(np.asarray(theirs), np.asarray(ours), tolerance)
    return type(theirs) is type(ours) and bool(theirs == ours or theirs != theirs)
