"""Registers, shared memory and spills of the kernels, as the compiler's log gives them.

    python -m tests.cuda_on_host.resources          the table of kernels/README.md, as Markdown

No GPU is needed: NVRTC runs the assembler for each target, and its log says what each kernel takes.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gpugrad.backend import cuda
from tests.cuda_on_host.nvrtc import ARCHITECTURES, include_folders, reason_without_nvrtc, supported

#: File: instances that stand for the others. Tensor cores multiply bfloat16 and TF32 from sm_80 on:
#: those instances have no entry before.
REPRESENTATIVES: Mapping[str, Sequence[str]] = {
    "gibbs.cu": (
        "sample_units<float, float, float, 0>",
        "sample_units<float, __nv_bfloat16, float, 0>",
        "sample_units<double, double, double, 0>",
    ),
    "philox.cu": ("fill_words", "fill_uniform<float>", "fill_normal<float>", "fill_normal<double>"),
    "conv.cu": (
        *(f"conv_direct<float, 2, {kind}>" for kind in range(3)),
        "conv_direct<float, 3, 1>",
        "conv_direct<double, 2, 0>",
        "conv_direct<__half, 2, 0>",
    ),
    "conv_tiled.cu": (
        *(f"conv_tiled<float, 2, {kind}, 0, 128, 128>" for kind in range(3)),
        "conv_tiled<float, 2, 0, 0, 64, 64>",
        "conv_tiled<float, 2, 0, 0, 32, 128>",
        "conv_tiled<float, 3, 1, 0, 128, 128>",
        "conv_tiled<double, 2, 0, 0, 64, 64>",
        "conv_tiled<double, 2, 0, 0, 32, 128>",
        *(f"conv_tiled<__half, 2, {kind}, 1, 128, 128>" for kind in range(3)),
        "conv_tiled<__half, 2, 0, 1, 64, 64>",
        "conv_tiled<__half, 2, 0, 1, 32, 128>",
        "conv_tiled<__half, 3, 1, 1, 128, 128>",
        *(f"conv_tiled<__nv_bfloat16, 2, {kind}, 1, 128, 128>" for kind in range(3)),
        *(f"conv_tiled<float, 2, {kind}, 1, 128, 128>" for kind in range(3)),
        "conv_add_partials<float>",
    ),
    "pool.cu": (
        *(
            f"{kernel}<{element}, int, 4>"
            for kernel in ("max_pool", "scatter_windows", "mean_pool", "mean_pool_grad")
            for element in ("float", "double", "__half")
        ),
        "max_pool<float, i64, 4>",
        "gather<float, 4>",
        "add_runs<float>",
    ),
    "tap.cu": (
        *(f"tap_fields<float, {order}, 0, {rows}>" for order in (2, 3) for rows in (1, 4)),
        "tap_fields<float, 2, 1, 4>",
        "tap_fields<double, 2, 0, 4>",
        "tap_fields<__half, 2, 0, 4>",
        "tap_update<float, 0>",
    ),
}
_TENSOR_FROM_80 = re.compile(r"conv_tiled<(?:float|__nv_bfloat16), \d, \d, 1,")


class Resources(NamedTuple):
    """What a thread, or for shared memory a block, takes. Bytes but for the registers."""

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int

    def __str__(self) -> str:
        spills = self.spill_stores + self.spill_loads
        return f"{self.registers} / {self.shared}" + (f" / {spills}" if spills else "")


def resources(
    architecture: int, code: str, names: Sequence[str], options: Sequence[str] = ()
) -> dict[str, Resources]:
    """What each of the kernels `names` takes on sm_`architecture`.

    Parameters
    ----------
    architecture : int
        Ten times the compute capability.
    code : str
        CUDA C++ without includes of its own files: `gpugrad.backend.cuda.source`.
    names : sequence of str
        Instances of templates, and names of kernels.
    options : sequence of str
        Further options of NVRTC.
    """
    from cupy.cuda import nvrtc

    flags = [f"-arch=sm_{architecture}", "-std=c++17", "--ptxas-options=-v", *options]
    flags += [f"-I{folder}" for folder in include_folders()]
    program: Any = nvrtc.createProgram(code, "module.cu", (), ())
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        nvrtc.compileProgram(program, flags)
        log = nvrtc.getProgramLog(program)
        lowered = {nvrtc.getLoweredName(program, name): name for name in names}
    finally:
        nvrtc.destroyProgram(program)
    return {lowered[symbol]: found for symbol, found in parsed(log).items() if symbol in lowered}


def parsed(log: str) -> dict[str, Resources]:
    """Symbol: resources, from the log of the assembler."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        symbol = part.split("'")[0]
        spills = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        )
        registers = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        assert spills and registers, f"the log has another form:\n{part}"
        found[symbol] = Resources(
            int(registers[1]), int(shared[1]) if shared else 0, *(int(n) for n in spills.groups())
        )
    return found


def table() -> str:
    """The Markdown table: a row for each kernel, a column for each target."""
    targets = [a for a in ARCHITECTURES if a in supported()]
    lines = [
        "| kernel | " + " | ".join(f"sm_{a}" for a in targets) + " |",
        "|---|" + "---|" * len(targets),
    ]
    for file, names in REPRESENTATIVES.items():
        code = cuda.source(file)
        columns = []
        for a in targets:
            here = [n for n in names if a >= 80 or not _TENSOR_FROM_80.match(n)]
            columns.append(resources(a, code, here))
        for name in names:
            cells = [str(column[name]) if name in column else "" for column in columns]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    reason = reason_without_nvrtc()
    if reason:
        sys.exit(f"not run: {reason}")
    print(table())
