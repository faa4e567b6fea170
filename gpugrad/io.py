"""Tensors in files: NumPy's .npz archives, with the members ``data`` and ``grad``.

The files are those of ``mygrad.save``, either way. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from gpugrad.atomic_file import write_atomically
from gpugrad.backend.array_module import Device, asnumpy, parse_device, to_device
from gpugrad.errors import TensorFileError
from gpugrad.tensor import Tensor

__all__ = ["load", "save"]

FileLike = str | os.PathLike | IO[bytes]


def save(file: FileLike, tensor: Tensor) -> None:
    """Write a tensor, and its gradient if it has one, to a .npz file.

    Parameters
    ----------
    file : str, path or binary file
        The name gets the ending .npz if it has none, as `numpy.savez` does it. A file of that name
        is replaced as a whole, so that a half-written one is never found there.
    tensor : Tensor
        On any device. How it was computed is not kept, nor whether it is constant.

    Raises
    ------
    TypeError
        `tensor` is not a Tensor, or `file` is neither a name nor a file.
    OSError
        The file cannot be written: a folder that does not exist, for one.

    Examples
    --------
    >>> import gpugrad as gg
    >>> from io import BytesIO
    >>> x = gg.tensor([1.0, 2.0])
    >>> (x * x).backward()
    >>> file = BytesIO()
    >>> gg.save(file, x)
    >>> _ = file.seek(0)
    >>> gg.load(file).grad
    array([2., 4.])
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"save: got {type(tensor).__name__}, expected a Tensor")
    arrays: dict[str, Any] = {"data": asnumpy(tensor.data)}
    if tensor.grad is not None:
        arrays["grad"] = asnumpy(tensor.grad)
    if hasattr(file, "write"):
        np.savez(file, **arrays)
        return
    name = _name("save", file)
    if not name.endswith(".npz"):
        name += ".npz"
    with _named("save"):
        write_atomically(name, lambda opened: np.savez(opened, **arrays))


def load(file: FileLike, *, device: str | Device | None = None) -> Tensor:
    """The tensor in a file that `save` wrote, with its gradient: a leaf.

    Parameters
    ----------
    file : str, path or binary file
        A file is read from where it stands.
    device : str or Device, optional
        Where to put the tensor; the current device if None.

    Raises
    ------
    FileNotFoundError
        There is no file of that name; the ending .npz is not added.
    TensorFileError
        The file is damaged or holds something else.
    """
    where = parse_device(device)
    if hasattr(file, "read"):
        data, grad = _read(file)
    else:
        name = _name("load", file)
        try:
            with _named("load"), open(name, "rb") as opened:
                data, grad = _read(opened)
        except FileNotFoundError as error:
            if os.path.exists(f"{name}.npz"):
                error.add_note(f"There is a file {name}.npz.")
            raise
    tensor = Tensor(to_device(data, where), copy=False)._as_private()
    if grad is not None and not tensor.constant:
        tensor._vertex.grad, tensor._vertex.grad_shared = to_device(grad, where), False
    return tensor


@contextmanager
def _named(function: str) -> Iterator[None]:
    """The function's name in what the system says."""
    try:
        yield
    except OSError as error:
        if error.strerror is not None:
            error.strerror = f"{function}: {error.strerror}"
        raise


def _name(function: str, file: Any) -> str:
    try:
        return os.fsdecode(os.fspath(file))
    except TypeError:
        raise TypeError(
            f"{function}: file is a {type(file).__name__}, expected a name or a binary file"
        ) from None


def _read(file: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """``data`` and ``grad`` of an archive."""
    from zipfile import ZipFile

    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "the file"
    try:
        with ZipFile(file) as archive:
            members = {info.filename for info in archive.infolist()}
            if "data.npy" not in members:
                raise ValueError(f"its members are {sorted(members)}, expected data.npy")
            data = _array(archive, "data.npy")
            grad = _array(archive, "grad.npy") if "grad.npy" in members else None
        if data.dtype.kind not in "fiub":
            raise ValueError(f"its data have dtype {data.dtype}, expected real numbers")
        if grad is not None:
            if grad.dtype.kind != "f" or grad.shape != data.shape:
                raise ValueError(
                    f"its gradient is {grad.dtype} of shape {grad.shape}, expected floats of the "
                    f"data's shape {data.shape}"
                )
            grad = grad.astype(data.dtype, copy=False)
    except OSError:
        raise
    except Exception as error:  # damage shows as whatever zipfile, zlib and NumPy stumble over
        raise TensorFileError(
            f"load: {name} was not written by save, or is damaged ({error})"
        ) from error
    return data, grad


def _array(archive: Any, member: str) -> np.ndarray:
    """A member, read to its end: only there is its checksum compared."""
    with archive.open(member) as opened:
        array = np.lib.format.read_array(opened, allow_pickle=False)
        if opened.read(1):
            raise ValueError(f"{member} goes on after its array")
    return array
