"""What CuPy offers, read from the recorded table."""

import inspect
import json
from functools import cache
from typing import Any

from tests.fake_cupy.record import TABLE

REQUIRED, OPTIONAL = inspect.Parameter.empty, None


@cache
def table() -> dict[str, Any]:
    """Return the recorded table (see `tests.fake_cupy.record`)."""
    return json.loads(TABLE.read_text())


def signature(parameters: list[list[Any]] | None) -> inspect.Signature | None:
    """Return the signature that a function's row describes; None where CuPy does not tell it."""
    if parameters is None:
        return None
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect._ParameterKind(kind),
                default=OPTIONAL if has_default else REQUIRED,
            )
            for name, kind, has_default in parameters
        ]
    )
