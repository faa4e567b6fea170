"""Kernels: from a source file to something that can be launched.

The .cu files are read from the package `gpugrad.kernels`, or, in a checkout that is not installed,
from the folder `kernels` beside the package. A module is compiled by NVRTC at first use, once per
device, file, option set and list of instances; CuPy keeps the result on disk.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from fastrlock.rlock import FastRLock

from gpugrad.backend.array_module import cupy, device_of, on
from gpugrad.errors import KernelError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = [
    "MAX_BLOCKS",
    "THREADS",
    "draw_arguments",
    "kernel",
    "launch",
    "load",
    "pointer",
    "source",
    "sources",
    "type_name",
]

#: Threads in a block of the kernels that loop over a grid of any size.
THREADS = 256

#: Blocks of such a launch at most: enough to fill any device several times over.
MAX_BLOCKS = 4096

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"[^\n]*$', re.MULTILINE)

_modules: dict[tuple[Any, ...], Any] = {}
_functions: dict[tuple[Any, ...], Any] = {}
_lock = FastRLock()


@cache
def _folder() -> "Traversable":
    # imported here: it would be a tenth of the time of `import gpugrad`
    from importlib import resources
    from pathlib import Path

    try:
        return resources.files("gpugrad.kernels")
    except ModuleNotFoundError:
        beside = Path(__file__).resolve().parents[2] / "kernels"
        if beside.is_dir():
            return beside
    raise KernelError("kernels: no package gpugrad.kernels and no folder kernels, expected one")


def _text(name: str) -> str:
    try:
        return _folder().joinpath(name).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        have = sorted(f.name for f in _folder().iterdir() if f.name.endswith((".cu", ".cuh")))
        raise KernelError(f"kernels: no file {name!r}, expected one of {have}") from None


def sources() -> list[str]:
    """The names of the kernel files, without those that they include.

    Raises
    ------
    KernelError
        There is no folder of kernels.
    """
    return sorted(f.name for f in _folder().iterdir() if f.name.endswith(".cu"))


@cache
def source(name: str) -> str:
    """The text of a kernel file, the files that it includes by ``"name"`` set in.

    CuPy's cache on disk goes by the text that it is given, not by what that text includes: a
    changed header would not be noticed. ``#line`` makes compiler errors point into the files.

    Raises
    ------
    KernelError
        If there is no such file.
    """
    return _expanded(name, set())


def _expanded(name: str, done: set[str]) -> str:
    done.add(name)
    text = _text(name)
    parts, position = [f'#line 1 "kernels/{name}"\n'], 0
    for include in _INCLUDE.finditer(text):
        parts.append(text[position : include.start()])
        if include[1] not in done:
            parts.append(_expanded(include[1], done))
        line = text.count("\n", 0, include.end()) + 2
        parts.append(f'\n#line {line} "kernels/{name}"')
        position = include.end()
    return "".join([*parts, text[position:]])


def load(file: str, *, options: Sequence[str] = (), names: Sequence[str] = ()) -> Any:
    """The compiled module of a kernel file for CuPy's current device.

    Parameters
    ----------
    file : str
        Name of the file in kernels/, as ``"gibbs.cu"``.
    options : sequence of str
        Given to NVRTC after ``-std=c++17``: definitions (``-D...``), ``-fmad=false``.
    names : sequence of str
        Name expressions of the template instances to compile.

    Returns
    -------
    cupy.RawModule
        The same one for the same arguments on the same device.

    Raises
    ------
    KernelError
        If the file is missing or does not compile; the compiler's message is part of it.
    DeviceNotAvailableError
        If there is no GPU to compile for.
    """
    cp = cupy()
    key = (cp, int(cp.cuda.Device()), file, tuple(options), tuple(names))
    module = _modules.get(key)
    if module is not None:
        return module
    with _lock:
        module = _modules.get(key)
        if module is None:
            # Other threads wait here: compiling twice would cost more than waiting.
            module = _modules[key] = _compiled(cp, file, tuple(options), tuple(names))
    return module


def _compiled(cp: Any, file: str, options: tuple[str, ...], names: tuple[str, ...]) -> Any:
    try:
        module = cp.RawModule(
            code=source(file),
            options=("-std=c++17", *options),
            name_expressions=list(names) or None,
        )
        module.compile()
    except KernelError:
        raise
    except Exception as error:
        raise KernelError(f"kernels: {file} with {names or 'no instances'}: {error}") from error
    return module


def kernel(file: str, name: str, options: Sequence[str] = ()) -> Any:
    """One kernel of a file for CuPy's current device, compiled alone.

    Parameters
    ----------
    file : str
        Name of the file in kernels/.
    name : str
        A name, or the name expression of a template instance: ``"fill_uniform<float>"``.
    options : sequence of str
        As in `load`.
    """
    cp = cupy()
    key = (cp, int(cp.cuda.Device()), file, name, tuple(options))
    function = _functions.get(key)
    if function is None:
        module = load(file, options=options, names=(name,) if "<" in name else ())
        try:
            function = _functions[key] = module.get_function(name)
        except Exception as error:
            raise KernelError(f"kernels: {file} has no {name}: {error}") from error
    return function


def launch(
    file: str, name: str, array: Any, n_threads: int, args: tuple[Any, ...], *, options: Any = ()
) -> None:
    """Launch a kernel that loops over a grid, on the device of `array` and the current stream.

    Parameters
    ----------
    file, name, options
        As in `kernel`.
    array : array
        The launch takes place on its device.
    n_threads : int
        How many threads have something to do; with 0 nothing is launched.
    args : tuple
        Arrays, contiguous; NumPy scalars of the exact parameter types; 0 for a null pointer.
    """
    if n_threads <= 0:
        return
    blocks = min(-(-n_threads // THREADS), MAX_BLOCKS)
    with on(device_of(array)):
        kernel(file, name, options)((blocks,), (THREADS,), args)


def draw_arguments(draw: Any) -> tuple[np.uint64, ...]:
    """The key and counter of a draw as kernels take them: six words, the counter's lowest first."""
    mask = (1 << 64) - 1
    words = [*draw.key, *(draw.counter >> 64 * i & mask for i in range(4))]
    return tuple(np.uint64(word) for word in words)


_TYPE_NAMES = {
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
    "float32": "float",
    "float64": "double",
}


def type_name(function: str, dtype: Any) -> str:
    """The CUDA type of a floating point dtype.

    Raises
    ------
    KernelError
        If kernels have no such type; the message begins with `function`.
    """
    name = np.dtype(dtype).name
    if name not in _TYPE_NAMES:
        raise KernelError(f"{function}: dtype {name}, expected one of {', '.join(_TYPE_NAMES)}")
    return _TYPE_NAMES[name]


def pointer(array: Any) -> int:
    """The address of an array's first element, on whatever device it is."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
