"""Compiling kernels with NVRTC for GPUs that are not there.

CuPy's RawModule needs a driver; NVRTC itself does not. Headers come from a CUDA toolkit or from
the wheels nvidia-cuda-runtime, -crt and -cccl.
"""

import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

#: Colab's T4; A100; H100 and H200; B200.
ARCHITECTURES = (75, 80, 90, 100)


def _candidate_folders() -> list[Path]:
    folders = [
        Path(os.environ[v]) / "include" for v in ("CUDA_PATH", "CUDA_HOME") if v in os.environ
    ]
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        folders += sorted(Path(root).glob("cu*/include")) + sorted(Path(root).glob("*/include"))
    return [*folders, Path("/usr/local/cuda/include")]


def include_folders() -> list[Path]:
    """The folders that hold CUDA's headers, of one toolkit."""
    folders = list(dict.fromkeys(f for f in _candidate_folders() if f.is_dir()))
    first = next((f for f in folders if (f / "cuda_fp16.h").exists()), None)
    if first is None:
        return []
    more = folders if first.parent.name.startswith("cuda_") else [first]
    return [*dict.fromkeys([first, *more]), *(f / "cccl" for f in [first] if (f / "cccl").is_dir())]


@cache
def reason_without_nvrtc() -> str | None:
    """Why nothing can be compiled here, or None."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as reason:  # a broken install raises more than ImportError
        return f"NVRTC cannot be used ({reason})"
    if not include_folders():
        return "no cuda_fp16.h (wheels nvidia-cuda-runtime, -crt and -cccl)"
    return None


@cache
def supported() -> frozenset[int]:
    """The architectures that this NVRTC knows."""
    from cupy.cuda import nvrtc

    return frozenset(nvrtc.getSupportedArchs())


def compile_for(
    architecture: int, code: str, names: Sequence[str] = (), options: Sequence[str] = ()
) -> tuple[dict[str, str], bytes]:
    """The mangled names of the instances, and the machine code.

    Raises
    ------
    AssertionError
        With the compiler's log, if the source does not compile or only with warnings.
    """
    from cupy.cuda import nvrtc

    flags = [f"-arch=sm_{architecture}", "-std=c++17", *options]
    flags += [f"-I{folder}" for folder in include_folders()]
    program: Any = nvrtc.createProgram(code, "module.cu", (), ())
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        try:
            nvrtc.compileProgram(program, flags)
        except nvrtc.NVRTCError as error:
            raise AssertionError(f"{error}\n{nvrtc.getProgramLog(program)}") from None
        log = nvrtc.getProgramLog(program).strip("\0\n ")
        assert not log, log
        lowered = {name: nvrtc.getLoweredName(program, name) for name in names}
        return lowered, nvrtc.getCUBIN(program)
    finally:
        nvrtc.destroyProgram(program)
