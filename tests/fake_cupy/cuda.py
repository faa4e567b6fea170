"""The stand-in's `cupy.cuda`: two devices, streams that do everything at once, raw kernels.

Raw kernels are run on the CPU by `tests.cuda_on_host`.
"""

from types import ModuleType
from typing import Any

import numpy as np

from tests.fake_cupy.array import FUNCTIONS, ndarray
from tests.fake_cupy.device import DEVICES, current_device_id, set_device


class CUDARuntimeError(RuntimeError):
    """See `cupy.cuda.runtime.CUDARuntimeError`."""


class Device:
    """See `cupy.cuda.Device`: a context manager that makes a GPU current in this thread."""

    def __init__(self, device: Any = None) -> None:
        self.id = current_device_id() if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> "Device":
        self._before.append(current_device_id())
        self.use()
        return self

    def __exit__(self, *error: Any) -> None:
        set_device(self._before.pop())

    def use(self) -> None:
        if not 0 <= self.id < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        set_device(self.id)

    def synchronize(self) -> None:
        pass

    compute_capability = "90"
    mem_info = (60 << 30, 80 << 30)
    attributes = {"MultiProcessorCount": 2, "WarpSize": 32}


class Stream:
    """See `cupy.cuda.Stream`. Work is done when it is issued, so there is nothing to wait for."""

    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self._before: list[Stream] = []

    def __enter__(self) -> "Stream":
        global _stream
        self._before.append(_stream)
        _stream = self
        return self

    def __exit__(self, *error: Any) -> None:
        global _stream
        _stream = self._before.pop()

    def use(self) -> "Stream":
        global _stream
        _stream = self
        return self

    def synchronize(self) -> None:
        pass

    def is_capturing(self) -> bool:
        return False

    def begin_capture(self, mode: Any = None) -> None:
        raise NotImplementedError("the stand-in for CuPy captures no graphs")

    def record(self, event: Any = None) -> Any:
        return event or Event()

    def wait_event(self, event: Any) -> None:
        pass


Stream.null = Stream()  # type: ignore[attr-defined]
_stream: Stream = Stream.null  # type: ignore[attr-defined]


class Event:
    """See `cupy.cuda.Event`: already over when it is recorded."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ):
        self.done = True

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


class RawModule:
    """See `cupy.RawModule`: here the CPU runs the source, unmodified."""

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: bool = False,
    ) -> None:
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        from tests.cuda_on_host import HostModule

        self._module = HostModule(code, options=options, name_expressions=name_expressions or ())

    def compile(self, log_stream: Any = None) -> None:
        pass

    def get_function(self, name: str) -> "RawKernel":
        return RawKernel._of(self._module.get_function(name))


class RawKernel:
    """See `cupy.RawKernel`: called with grid, block and arguments."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), **more: Any) -> None:
        self._kernel = RawModule(code=code, options=options).get_function(name)._kernel

    @classmethod
    def _of(cls, kernel: Any) -> "RawKernel":
        self = object.__new__(cls)
        self._kernel = kernel
        return self

    max_dynamic_shared_size_bytes = 48 << 10
    attributes: dict[str, int] = {}

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        hosts = []
        for x in args:
            if isinstance(x, ndarray):
                hosts.append(x._host)
            elif isinstance(x, np.ndarray):
                raise TypeError(f"Unsupported type {type(x)}")
            else:
                hosts.append(x)
        self._kernel(grid, block, tuple(hosts), shared_mem=shared_mem)


class _MemoryPool:
    """See `cupy.get_default_memory_pool()`: holds nothing."""

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    def free_all_blocks(self, stream: Any = None) -> None:
        pass


_pool = _MemoryPool()


def get_default_memory_pool() -> _MemoryPool:
    return _pool


def is_available() -> bool:
    return True


def get_current_stream() -> Stream:
    return _stream


def get_elapsed_time(start: Event, end: Event) -> float:
    return 0.0


def _set_device(index: int) -> None:
    Device(index).use()


def _properties(index: int) -> dict[str, Any]:
    if not 0 <= index < DEVICES:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    return {
        "name": b"NumPy behind CuPy's interface",
        "major": 9,
        "minor": 0,
        "totalGlobalMem": 80 << 30,
        "multiProcessorCount": 2,
        "warpSize": 32,
    }


runtime = ModuleType("cupy.cuda.runtime")
vars(runtime).update(
    CUDARuntimeError=CUDARuntimeError,
    deviceSynchronize=lambda: None,
    driverGetVersion=lambda: 13000,
    getDevice=current_device_id,
    getDeviceCount=lambda: DEVICES,
    getDeviceProperties=_properties,
    is_hip=False,
    runtimeGetVersion=lambda: 13000,
    setDevice=_set_device,
)


class CompileException(Exception):
    """See `cupy.cuda.compiler.CompileException`."""

    def __init__(self, msg: str, source: str, name: str, options: Any, backend: str = "nvrtc"):
        super().__init__(msg)
        self._msg, self.source, self.name, self.options = msg, source, name, options

    def get_message(self) -> str:
        return self._msg


compiler = ModuleType("cupy.cuda.compiler")
vars(compiler).update(CompileException=CompileException)
FUNCTIONS["Device"] = Device
OFFERED: dict[str, Any] = {
    "Device": Device,
    "Event": Event,
    "Stream": Stream,
    "compiler": compiler,
    "get_current_stream": get_current_stream,
    "get_device_id": current_device_id,
    "get_elapsed_time": get_elapsed_time,
    "is_available": is_available,
    "runtime": runtime,
}
