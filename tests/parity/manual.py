"""Programs that assert what MyGrad's manual says: ``f(m)`` with the library as `m`.

The manual of version 2.2 is behind 2.5.0 in places; there a program says what 2.5.0 does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

PROGRAMS: dict[str, Callable[[Any], None]] = {}


def program(f: Callable[[Any], None]) -> Callable[[Any], None]:
    """Add a program to PROGRAMS."""
    assert f.__name__ not in PROGRAMS
    PROGRAMS[f.__name__] = f
    return f


def holds(x: Any, expected: Any, dtype: Any = None) -> None:
    """`x` has these values and this shape, to rounding, and the dtype if one is given."""
    data = x if isinstance(x, np.ndarray) else x.data
    assert data.shape == np.shape(expected), (data, expected)
    np.testing.assert_allclose(data, expected, rtol=1e-6, atol=1e-12)
    assert dtype is None or data.dtype == dtype, data.dtype


def tensor_of(m: Any, x: Any, expected: Any, dtype: Any = None) -> None:
    """`x` is a tensor of these values."""
    assert type(x) is m.Tensor
    holds(x, expected, dtype)
