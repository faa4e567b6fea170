"""Runs CUDA kernels on the CPU: `HostModule` stands in for `cupy.RawModule`."""

from tests.cuda_on_host.module import HostKernel, HostModule, LaunchError

__all__ = ["HostKernel", "HostModule", "LaunchError"]
