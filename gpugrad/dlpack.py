"""Memory shared with other array libraries by DLPack, in both directions, without a copy.

    torch.from_dlpack(x), jax.numpy.from_dlpack(x)     export: x is a constant, or `tensor.data`
    gpugrad.from_dlpack(y)                             import

PyTorch and CuPy share memory either way. What comes from JAX is shared and read-only, as its
arrays are. What goes to JAX is shared where the memory begins at a multiple of 64 bytes, and copied
elsewhere: a write here may then show in an array that JAX takes for constant. Where the tensor is
to be written to, ``jax.numpy.array(x.data)`` copies (``from_dlpack(x, copy=True)`` of JAX 0.10
does not).

A gradient does not cross the border. So a tensor that takes gradients is not exported, as in
PyTorch: export `tensor.data`, which says that the gradient is left behind. `Tensor` has no
``__cuda_array_interface__``: with it CuPy would take its array unseen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.array_module import cupy, device_of, on, parse_device, to_device
from gpugrad.graph.guard import is_guarded
from gpugrad.graph.vertex import leaf
from gpugrad.state import TRACKING
from gpugrad.tensor import Tensor, resolve_constant, wrap

__all__ = ["from_dlpack"]

# DLDeviceType of dlpack.h: memory that the CPU, and memory that CUDA devices can read
_CPU = (1, 3)  # kDLCPU, kDLCUDAHost
_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


def capsule(self: Tensor, **options: Any) -> Any:
    """The array as a DLPack capsule; parameters as `numpy.ndarray.__dlpack__` has them.

    Raises
    ------
    BufferError
        The tensor takes gradients (and a graph is recorded), or the array is read-only, by its
        owner's wish or because a graph depends on it, and the consumer's DLPack cannot say so.
    """
    if not self.constant and TRACKING.get():
        raise BufferError(
            f"Tensor.__dlpack__: got a tensor of shape {self.shape} that takes gradients, which "
            "another library would not record; expected a constant, or tensor.data"
        )
    data = self.data
    try:
        return data.__dlpack__(**{k: v for k, v in options.items() if v is not None})
    except BufferError as error:
        if not is_guarded(data):
            raise BufferError(f"Tensor.__dlpack__: {error}") from None
        raise BufferError(
            "Tensor.__dlpack__: the array is read-only while a graph depends on it; backward() or "
            "clear_graph() releases it, tensor.data.copy() can be exported now"
        ) from None


def from_dlpack(
    x: Any,
    /,
    *,
    device: Any = None,
    copy: bool | None = None,
    constant: bool | None = None,
) -> Tensor:
    """A tensor that shares the memory of another library's array.

    Parameters
    ----------
    x : object with ``__dlpack__`` and ``__dlpack_device__``
        A tensor of PyTorch, an array of JAX, NumPy, CuPy..., on the CPU or a CUDA device.
    device : str or Device, optional
        Where the tensor is to be; by default where `x` is.
    copy : bool, optional
        True: never share. False: never copy. None: copy only to another device.
    constant : bool, optional
        True: gradients stop here.

    Returns
    -------
    Tensor

    Raises
    ------
    AttributeError
        `x` does not speak DLPack, or has no values: a tracer inside `jax.jit` or `jax.grad`.
    BufferError
        `x` cannot be exported (a PyTorch tensor that requires a gradient has to be detached, by
        which the gradient is left behind), lies where neither NumPy nor CuPy can read, or has a
        dtype that NumPy lacks, such as PyTorch's bfloat16.
    ValueError
        ``copy=False``, and `device` is another one.
    TypeError
        `x` is complex.

    See Also
    --------
    https://data-apis.org/array-api/latest/API_specification/generated/array_api.from_dlpack.html

    Notes
    -----
    The memory guard makes the tensor's own array read-only while a graph depends on it. It cannot
    keep the other library from writing.

    Examples
    --------
    >>> import numpy as np
    >>> import gpugrad as gg
    >>> a = np.arange(3.0)
    >>> x = gg.from_dlpack(a)
    >>> np.shares_memory(a, x)
    True
    """
    if not (hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")):
        raise AttributeError(
            f"from_dlpack: got {type(x).__name__}, expected an array with __dlpack__ and "
            "__dlpack_device__"
        )
    kind, index = (int(k) for k in x.__dlpack_device__())
    try:
        if kind in _CPU:
            # a view: of an array over foreign memory NumPy could not undo the guard's lock
            data = _on_host(x).view()
        elif kind in _CUDA:
            library = cupy()
            with on(f"cuda:{index}"):
                data = library.from_dlpack(x)
        else:
            raise BufferError(f"got an array on DLPack's device type {kind}, expected CPU or CUDA")
    except BufferError as error:
        raise BufferError(f"from_dlpack: {error}") from None
    constant = resolve_constant("from_dlpack", data.dtype, constant)
    shared = True
    if device is not None and parse_device(device) != device_of(data):
        if copy is False:
            raise ValueError(
                f"from_dlpack: got copy=False for an array on {device_of(data)}, expected a copy "
                f"to {parse_device(device)} to be allowed"
            )
        data, shared = to_device(data, device), False
    elif copy:
        data, shared = data.copy(), False
    return wrap(leaf(data, constant, exposed=shared))


def _on_host(x: Any) -> np.ndarray:
    try:
        return np.from_dlpack(x)
    except RuntimeError as error:  # so NumPy refuses a dtype
        raise BufferError(
            f"got {type(x).__name__} of dtype {getattr(x, 'dtype', 'unknown')}, expected a dtype "
            f"that NumPy has ({error})"
        ) from None
