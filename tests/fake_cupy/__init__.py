"""A strict stand-in for CuPy, built over NumPy: the second array library where there is no GPU.

`install()` places it in `sys.modules` as "cupy", so that gpugrad runs on it unchanged. It computes
what CuPy computes, offers the names that CuPy 14 offers (`cupy_surface.json`, recorded from the
true one), and refuses what CuPy refuses:

    host arrays mixed in, implicit conversion to NumPy, `where=` and unknown keywords of ufuncs,
    `initial=` and `where=` of reductions, missing functions, `ufunc.at` outside a few dtypes

What CuPy leaves undefined or does silently, it does in the way most likely to show: of duplicate
indices in an assignment the *first* wins, indices out of range wrap, results of full reductions are
0-d arrays, `flags.writeable = False` protects nothing. It is stricter than CuPy where CuPy would
quietly return a host array for a host array.

Its refusals are rows of `refusals.TABLE`, which runs against the true CuPy as well.

    array.py      ndarray: a NumPy array held by composition, so that NumPy cannot use it unseen
    ufuncs.py     elementwise functions with CuPy's loops, and matmul
    functions.py  everything else in the module, by CuPy's signatures
    special.py    cupyx.scipy.special
    cuda.py       devices, streams, events, raw kernels (run on the CPU by tests.cuda_on_host)
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

from gpugrad.backend import array_module, vocabulary

__all__ = ["install", "module"]

_MISSING = object()
_module: ModuleType | None = None


def module() -> ModuleType:
    """Return the stand-in module, the same one at every call."""
    global _module
    if _module is None:
        from tests.fake_cupy.functions import build

        _module = build()
    return _module


@cache
def _cupyx() -> dict[str, ModuleType]:
    """The modules of CuPy's second package that gpugrad imports."""
    from tests.fake_cupy.special import build

    special = build()
    packages = {name: ModuleType(name) for name in ("cupyx", "cupyx.scipy")}
    packages["cupyx"].scipy = packages["cupyx.scipy"]  # type: ignore[attr-defined]
    packages["cupyx.scipy"].special = special  # type: ignore[attr-defined]
    return {**packages, "cupyx.scipy.special": special}


@contextmanager
def install() -> Iterator[ModuleType]:
    """Let `import cupy` give the stand-in within a `with` block."""
    fake = module()
    names = {"cupy": fake} | {
        f"cupy.{name}": getattr(fake, name) for name in ("cuda", "linalg", "random", "fft")
    }
    names |= _cupyx()
    before = {name: sys.modules.get(name, _MISSING) for name in names}
    sys.modules.update(names)
    array_module._forget()
    try:
        yield fake
    finally:
        for name, value in before.items():
            if value is _MISSING:
                del sys.modules[name]
            else:
                sys.modules[name] = value  # type: ignore[assignment]
        array_module._forget()
        vocabulary._namespaces.pop(fake, None)
