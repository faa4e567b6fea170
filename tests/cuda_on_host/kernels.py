"""The package's kernels, compiled for the CPU."""

from functools import cache

from gpugrad.backend import cuda
from tests.cuda_on_host.module import HostKernel, HostModule


@cache
def host_kernel(
    file: str,
    name: str,
    names: tuple[str, ...],
    *,
    sanitize: bool = False,
    reversed_order: bool = False,
    options: tuple[str, ...] = (),
) -> HostKernel:
    """A kernel of a file that is compiled with the instances `names`; the rest as `HostModule`."""
    return HostModule(
        cuda.source(file),
        options=options,
        name_expressions=names,
        sanitize=sanitize,
        reversed_order=reversed_order,
    ).get_function(name)
