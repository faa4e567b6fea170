"""The stand-in's `cupyx.scipy.special`: CuPy's loops, SciPy's arithmetic."""

from types import ModuleType
from typing import Any

import scipy.special

from tests.fake_cupy.surface import table
from tests.fake_cupy.ufuncs import ufunc

__all__ = ["build"]


class _Special(ufunc):
    """A ufunc that NumPy lacks."""

    def __init__(self, word: str, *details: Any) -> None:
        super().__init__("add", *details)  # whose place SciPy's function takes
        self._numpy = getattr(scipy.special, word)


def build() -> ModuleType:
    """Return a new module with the ufuncs that CuPy and SciPy both have."""
    module = ModuleType("cupyx.scipy.special")
    for word, (kind, *details) in table()["cupyx.scipy.special"].items():
        if kind == "ufunc" and hasattr(scipy.special, word):
            setattr(module, word, _Special(word, *details))
    return module
