"""The path under which mygrad has its windows."""

from gpugrad.ops.padding import sliding_window_view

__all__ = ["sliding_window_view"]
