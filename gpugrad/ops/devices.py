"""Tensors from one device to another, within their graph: the gradient comes back the same way."""

from __future__ import annotations

from typing import Any

from gpugrad.backend import array_module
from gpugrad.backend.array_module import device_of, parse_device
from gpugrad.backend.vocabulary import shared
from gpugrad.graph.op import operation
from gpugrad.graph.sweep import expect_several_devices
from gpugrad.graph.vertex import leaf
from gpugrad.state import TRACKING
from gpugrad.tensor import Tensor, wrap
from gpugrad.views import extend, vertex_of

__all__ = ["to_device"]


def _back(xp: Any, g: Any, y: Any, x: Any, *, device: Any, source: Any) -> Any:
    return xp.to_device(g, source)


@operation("to_device", _back)
def TO_DEVICE(xp: Any, x: Any, *, device: Any, source: Any) -> Any:
    return array_module.to_device(x, device)


def _word(xp: Any, x: Any, device: Any) -> Any:
    return array_module.to_device(x, device)


_word.__name__ = "to_device"
shared(_word)


def to_device(x: Tensor, device: Any) -> Tensor:
    """The tensor on a device: itself if it is there, else a copy there, connected to its graph.

    Parameters
    ----------
    x : Tensor
    device : str or Device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    Returns
    -------
    Tensor
        The gradient that reaches it goes back to where `x` lies. A constant's copy is a leaf.

    Raises
    ------
    DeviceNotAvailableError
        This machine does not have the device.

    Examples
    --------
    >>> import gpugrad as gg
    >>> x = gg.tensor([1.0, 2.0])
    >>> x.to_device("cpu") is x
    True
    """
    target = parse_device(device)
    vertex = vertex_of(x)
    source = device_of(vertex.data)
    if target == source:
        return x
    if vertex.constant or not TRACKING.get():
        data = array_module.to_device(vertex.data, target)
        return wrap(leaf(data, vertex.constant, exposed=False))
    new = extend(TO_DEVICE, vertex, {"device": target, "source": source})
    expect_several_devices()
    vertex.grad = None
    return wrap(new)
