"""Write down what the true CuPy offers, so that its stand-in can offer neither more nor less.

Run `python -m tests.fake_cupy.record` where CuPy is installed; no GPU is needed. The table is
`cupy_surface.json`: for each public name what it is, for functions their parameters, for ufuncs
their loops.
"""

import inspect
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

TABLE = Path(__file__).with_name("cupy_surface.json")
SUBMODULES = ("linalg", "random", "fft", "cuda", "cuda.runtime", "lib.stride_tricks", "exceptions")


def described(name: str, value: Any, ufunc: type) -> list[Any]:
    """Return [kind, ...]: the one line of the table about a name."""
    if value is vars(np).get(name) and not isinstance(value, ModuleType):
        return ["numpy"]
    if isinstance(value, ufunc):
        return ["ufunc", value.name, value.nin, value.nout, value.types]
    if type(value).__name__ == "_GUFunc":
        return ["gufunc"]
    if isinstance(value, ModuleType):
        return ["module"]
    if inspect.isclass(value):
        return ["class"]
    if callable(value):
        try:
            parameters = inspect.signature(value).parameters.values()
        except (TypeError, ValueError):
            return ["function", None]
        return [
            "function",
            [[p.name, int(p.kind), p.default is not p.empty] for p in parameters],
        ]
    return ["value"]


def surface(cupy: Any) -> dict[str, Any]:
    """Return the whole table for a CuPy module."""

    def of(module: Any) -> dict[str, Any]:
        return {
            name: described(name, getattr(module, name), cupy.ufunc)
            for name in sorted(dir(module))
            if not name.startswith("_")
        }

    table: dict[str, Any] = {"version": cupy.__version__, "cupy": of(cupy)}
    for path in SUBMODULES:
        module = cupy
        for part in path.split("."):
            module = getattr(module, part)
        table[path] = of(module)
    table["cupyx.scipy.special"] = of(import_module("cupyx.scipy.special"))
    table["ndarray"] = sorted(name for name in dir(cupy.ndarray) if name not in dir(object))
    return table


def as_text(table: dict[str, Any]) -> str:
    """Return the table as JSON with one name a line."""
    parts = []
    for section, content in table.items():
        if isinstance(content, dict):
            lines = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in content.items())
            parts.append(f"{json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n}")
        else:
            parts.append(f"{json.dumps(section)}: {json.dumps(content)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    import cupy

    TABLE.write_text(as_text(surface(cupy)))
    print(f"wrote {TABLE} for CuPy {cupy.__version__}")
