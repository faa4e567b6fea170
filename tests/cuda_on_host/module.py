"""Compiling a .cu file with g++ and launching its kernels.

The source is compiled as it stands: `include/cuda_host.h` supplies the language. Built libraries
are kept in a cache by the hash of everything that went into them.
"""

import ctypes
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

INCLUDE = Path(__file__).parent / "include"
FLAGS = ("-std=c++20", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-pthread")
SANITISERS = ("-g", "-fsanitize=address,bounds", "-fno-sanitize-recover=all")
DYNAMIC_SHARED_BYTES = 227 * 1024


class LaunchError(RuntimeError):
    """A launch that a GPU would not survive: what the kernel did, or how it was called."""


def cache_folder() -> Path:
    """Where built libraries are kept; GPUGRAD_HOST_CUDA_CACHE names another place."""
    named = os.environ.get("GPUGRAD_HOST_CUDA_CACHE")
    folder = Path(named or Path(tempfile.gettempdir()) / f"gpugrad-cuda-on-host-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@cache
def compiler() -> str:
    """The C++ compiler; LaunchError where there is none."""
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        raise LaunchError("HostModule: no C++ compiler found, expected g++ on the PATH")
    return found


@cache
def _headers_text() -> str:
    return "".join(path.read_text() for path in sorted(INCLUDE.iterdir()))


@cache
def _compiler_version() -> str:
    return subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout


def _host_options(options: Sequence[str]) -> list[str]:
    """What g++ understands of NVRTC's options: definitions and include folders."""
    return [option for option in options if option.startswith(("-D", "-I", "-U"))]


def _program(code: str, names: Sequence[str], executable: bool) -> str:
    cases = "".join(f"        case {i}: return CALL({name});\n" for i, name in enumerate(names))
    lines = [
        '#include "cuda_host.h"',
        '#line 1 "module.cu"',
        code,
        '#line 1 "launch.cpp"',
        "#define CALL(...) host::launch(__VA_ARGS__, l)",
        'extern "C" const char* host_launch(long long kernel, const unsigned* d, void** arguments,'
        " bool reversed) {",
        "    const host::Launch l = {dim3(d[0], d[1], d[2]), dim3(d[3], d[4], d[5]), arguments,"
        " reversed};",
        "    switch (kernel) {",
        cases,
        '        default: return "no such kernel";',
        "    }",
        "}",
        "#undef CALL",
        "#define CALL(...) host::signature(__VA_ARGS__)",
        'extern "C" const char* host_signature(long long kernel) {',
        "    switch (kernel) {",
        cases,
        "        default: return nullptr;",
        "    }",
        "}",
    ]
    if executable:
        lines.append('#include "program.h"')
    return "\n".join(lines) + "\n"


def _shared_definitions(code: str) -> str:
    """Storage for the arrays that kernels declare `extern __shared__`."""
    names = set(re.findall(r"extern\s+__shared__[^;]*?(\w+)\s*\[\s*\]", code))
    return "".join(
        f"alignas(128) thread_local unsigned char {name}[{DYNAMIC_SHARED_BYTES}];\n"
        for name in sorted(names)
    )


def build(code: str, options: Sequence[str], names: Sequence[str], *, sanitize: bool) -> Path:
    """The shared library (or, for the sanitisers, the program) of a source; from the cache."""
    program, shared = _program(code, names, sanitize), _shared_definitions(code)
    flags = [*FLAGS, *(SANITISERS if sanitize else ("-shared", "-fPIC"))]
    flags += [f"-I{INCLUDE}", *_host_options(options)]
    everything = "\0".join((program, shared, _headers_text(), _compiler_version(), *flags))
    target = cache_folder() / hashlib.sha256(everything.encode()).hexdigest()[:32]
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        sources = [Path(folder) / "module.cpp"]
        sources[0].write_text(program)
        if shared:
            sources.append(Path(folder) / "shared.cpp")
            sources[1].write_text(shared)
        built = Path(folder) / "built"
        command = [compiler(), *flags, *map(str, sources), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise LaunchError(f"HostModule: the source does not compile\n{done.stderr}")
        os.replace(built, target)  # two processes may build the same: the last one wins
    return target


class HostModule:
    """A source compiled for the CPU.

    Parameters
    ----------
    code : str
        CUDA C++, as `cupy.RawModule` takes it.
    options : sequence of str
        NVRTC options; definitions and include folders are heeded, the rest is ignored.
    name_expressions : sequence of str
        The kernels that will be asked for: template instances, and plain names too where a kernel
        is not ``extern "C"``.
    sanitize : bool
        Build for AddressSanitizer and bounds checks. Every launch is then a process of its own
        with copies of the arrays, and is slow.
    reversed_order : bool
        Run the threads of a block, and the blocks, from last to first. A result that depends on
        the order shows a missing barrier.
    """

    def __init__(
        self,
        code: str,
        options: Sequence[str] = (),
        name_expressions: Sequence[str] = (),
        *,
        sanitize: bool = False,
        reversed_order: bool = False,
    ) -> None:
        self.code, self.options = code, tuple(options)
        self.sanitize, self.reversed_order = sanitize, reversed_order
        plain = re.findall(
            r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\(.*?\)\s*)?(\w+)', code
        )
        self.names = list(dict.fromkeys([*name_expressions, *plain]))

    def get_function(self, name: str) -> "HostKernel":
        """The kernel of that name."""
        if name not in self.names:
            raise LaunchError(f"HostModule: no kernel {name!r}, expected one of {self.names}")
        built = build(self.code, self.options, self.names, sanitize=self.sanitize)
        library = build(self.code, self.options, self.names, sanitize=False)
        return HostKernel(self, self.names.index(name), library, built)


class HostKernel:
    """A kernel that is called like a `cupy.RawKernel`, with NumPy arrays for device arrays."""

    def __init__(self, module: HostModule, index: int, library: Path, program: Path) -> None:
        self._module, self._index, self._program = module, index, program
        self._library = ctypes.CDLL(str(library))
        self._library.host_signature.restype = ctypes.c_char_p
        self._library.host_launch.restype = ctypes.c_char_p
        self.name = module.names[index]
        self.signature = self._library.host_signature(ctypes.c_longlong(index)).decode().split()

    def __call__(self, grid: Any, block: Any, args: Sequence[Any], *, shared_mem: int = 0) -> None:
        sizes = [*_three(grid), *_three(block)]
        self._check_launch(sizes, shared_mem)
        if len(args) != len(self.signature):
            raise LaunchError(
                f"{self.name}: {len(args)} arguments, expected {len(self.signature)}"
                f" ({' '.join(self.signature)})"
            )
        packed = [
            _pack(self.name, position, kind, arg)
            for position, (kind, arg) in enumerate(zip(self.signature, args, strict=True))
        ]
        if self._module.sanitize:
            self._run_program(sizes, packed)
        else:
            self._run_library(sizes, packed)

    def _check_launch(self, sizes: list[int], shared_mem: int) -> None:
        threads = sizes[3] * sizes[4] * sizes[5]
        limits = (2**31 - 1, 65535, 65535, 1024, 1024, 64)
        for size, limit in zip(sizes, limits, strict=True):
            if not 1 <= size <= limit:
                raise LaunchError(f"{self.name}: launch {sizes}, expected 1 to {list(limits)}")
        if threads > 1024:
            raise LaunchError(f"{self.name}: {threads} threads in a block, expected at most 1024")
        if not 0 <= shared_mem <= DYNAMIC_SHARED_BYTES:
            raise LaunchError(f"{self.name}: {shared_mem} bytes of shared memory")

    def _run_library(self, sizes: list[int], packed: list[Any]) -> None:
        storage = []
        for kind, value in packed:
            if kind == "buffer":
                storage.append(ctypes.c_void_p(value.ctypes.data))
            else:
                storage.append(ctypes.create_string_buffer(value, max(8, len(value))))
        pointers = (ctypes.c_void_p * len(storage))(*[ctypes.addressof(item) for item in storage])
        failure = self._library.host_launch(
            ctypes.c_longlong(self._index),
            (ctypes.c_uint * 6)(*sizes),
            pointers,
            ctypes.c_bool(self._module.reversed_order),
        )
        if failure:
            raise LaunchError(f"{self.name}: {failure.decode()}")

    def _run_program(self, sizes: list[int], packed: list[Any]) -> None:
        order = int(self._module.reversed_order)
        parts = [struct.pack("9q", self._index, *sizes, order, len(packed))]
        for kind, value in packed:
            data = value.tobytes() if kind == "buffer" else value
            parts.append(struct.pack("2q", 1 if kind == "buffer" else 0, len(data)) + data)
        with tempfile.TemporaryDirectory() as folder:
            launch, result = Path(folder) / "launch", Path(folder) / "result"
            launch.write_bytes(b"".join(parts))
            environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0"}
            done = subprocess.run(
                [str(self._program), str(launch), str(result)],
                capture_output=True,
                text=True,
                env=environment,
            )
            if done.returncode != 0:
                raise LaunchError(f"{self.name}: {done.stderr.strip()[:4000]}")
            data, start = result.read_bytes(), 0
        for kind, value in packed:
            if kind == "buffer" and value.nbytes:
                stop = start + value.nbytes
                if value.flags.writeable:
                    fresh = np.frombuffer(data[start:stop], value.dtype).reshape(value.shape)
                    value[...] = fresh
                start = stop


def _three(sizes: Any) -> list[int]:
    given = [int(size) for size in sizes] if isinstance(sizes, Sequence) else [int(sizes)]
    return [*given, 1, 1][:3]


def _pack(name: str, position: int, kind: str, arg: Any) -> tuple[str, Any]:
    """An argument as ("buffer", array) or ("value", bytes), as strictly as a launch takes it.

    CuPy passes the bytes of a scalar as they are: a Python int as 8 bytes, a float as a double, a
    NumPy scalar as its own type. A kernel that expects another type would read something else.
    """
    where = f"{name}, argument {position}"
    host = getattr(arg, "_host", arg)
    if isinstance(host, np.ndarray):
        if kind != "p":
            raise LaunchError(f"{where}: an array, expected a value of type {kind}")
        if not host.flags.c_contiguous:
            raise LaunchError(f"{where}: an array with strides {host.strides}, expected contiguous")
        return "buffer", host
    if kind == "p":
        if host is None or (isinstance(host, int) and host == 0):
            return "value", bytes(8)
        raise LaunchError(f"{where}: {arg!r}, expected an array or 0 for a null pointer")
    if isinstance(host, bool | np.bool_):
        value: Any = np.bool_(host)
    elif isinstance(host, int):
        value = np.int64(host)
    elif isinstance(host, float) and not isinstance(host, np.floating):
        value = np.float64(host)
    else:
        value = host
    sort = getattr(value, "dtype", np.dtype(object)).str[1:]
    if sort != kind:
        raise LaunchError(f"{where}: {arg!r} of type {sort}, expected {kind}")
    return "value", value.tobytes()
