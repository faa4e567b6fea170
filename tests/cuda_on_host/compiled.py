"""What tests ask of the compiled kernels; they are skipped where nothing can be compiled."""

from collections.abc import Sequence

import pytest

from gpugrad.backend import cuda
from tests.cuda_on_host import nvrtc
from tests.cuda_on_host.resources import REPRESENTATIVES, Resources, resources


def skip_unless_compilable(architecture: int | None = None) -> None:
    reason = nvrtc.reason_without_nvrtc()
    if not reason and architecture is not None and architecture not in nvrtc.supported():
        reason = f"this NVRTC does not know sm_{architecture}"
    if reason:
        pytest.skip(reason)


def assert_compiles(architecture: int, file: str, names: Sequence[str]) -> None:
    """The file compiles without a warning, and the machine code holds these kernels."""
    skip_unless_compilable(architecture)
    lowered, code = nvrtc.compile_for(architecture, cuda.source(file), names)
    assert set(lowered) == set(names)
    assert all(name.encode() in code for name in lowered.values())


def taken_by_representatives(file: str) -> dict[str, Resources]:
    """What the file's representative kernels take, on the oldest target that NVRTC knows."""
    skip_unless_compilable()
    names = REPRESENTATIVES[file]
    found = resources(min(nvrtc.supported()), cuda.source(file), names)
    assert set(found) == set(names)
    return found
