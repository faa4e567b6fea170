"""Data to train on: the embedded MNIST bits, and arrays from files.

Files are read without pickle. Whatever is wrong with one is a `DataError` that names the file and
the fault.
"""

import gzip
import math
import zipfile
import zlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.backend.array_module import to_device
from gpugrad.backend.host_threads import over_spans
from gpugrad.errors import DataError, MissingExtraError, ParameterError

__all__ = ["as_units", "load", "mnist"]

SPLITS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}

# images whose bits fit a core's second-level cache
ROWS_AT_A_TIME = 512
# third byte of an IDX file: the type of its entries, which are stored high byte first
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC, NPY_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"\x93NUMPY", b"PK"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# names under which the samples of a file with several arrays are looked for
USUAL_NAMES = ("data", "images", "train_images", "x", "X", "x_train", "train")


@cache
def _packed_mnist() -> dict[str, np.ndarray]:
    source = resources.files("gpugrad.boltzmann") / "data" / "mnist.npz"
    with resources.as_file(source) as path, np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _unpack(packed: np.ndarray, dtype: Any) -> np.ndarray:
    """Bits, eight a byte, as numbers: (n, bytes) uint8 -> (n, 8 bytes)."""
    out = np.empty((len(packed), 8 * packed.shape[1]), dtype)

    def unpack(start: int, stop: int) -> None:
        for row in range(start, stop, ROWS_AT_A_TIME):
            rows = slice(row, min(row + ROWS_AT_A_TIME, stop))
            out[rows] = np.unpackbits(packed[rows], axis=1)

    over_spans(unpack, len(packed), values_each=out.shape[1])
    return out


def mnist(
    split: str = "train", *, dtype: Any = "float32", labels: bool = False, device: Any = None
) -> Any:
    """The MNIST digits, thresholded at half of the grey range, in their original order.

    Parameters
    ----------
    split : {"train", "test", "all"}
        60,000 training images, 10,000 test images, or both in this order.
    dtype : dtype, optional
        Of the images.
    labels : bool
        Return the digits too.
    device : str or Device, optional
        Where the arrays are made; the host if None.

    Returns
    -------
    images : array (n, 784)
        0 and 1, row by row of the 28 x 28 pixels.
    digits : array (n,) of uint8
        Only if `labels`.

    References
    ----------
    Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits". The data is
    under CC BY-SA 3.0; see gpugrad/boltzmann/data/SOURCE.md.
    """
    if split not in SPLITS:
        raise ParameterError(f"mnist: split is {split!r}, expected one of {sorted(SPLITS)}")
    arrays = _packed_mnist()
    packed = [arrays[f"{part}_images"] for part in SPLITS[split]]
    images: Any = _unpack(packed[0] if len(packed) == 1 else np.concatenate(packed), dtype)
    digits: Any = np.concatenate([arrays[f"{part}_labels"] for part in SPLITS[split]])
    if device is not None:
        images, digits = to_device(images, device), to_device(digits, device)
    return (images, digits) if labels else images


def load(path: Any, *, key: str | None = None) -> np.ndarray:
    """The array in a file: IDX (plain or gzipped), NPY, NPZ or HDF5, told apart by its first bytes.

    Parameters
    ----------
    path : str or path
    key : str, optional
        Which array of an NPZ or HDF5 file. Without one the file's only array is taken, or the one
        called data, images, train_images, x, X, x_train or train.

    Returns
    -------
    numpy.ndarray
        As it is stored; `as_units` brings it to (samples, units).

    Raises
    ------
    DataError
        No such file, an empty, truncated or foreign one, an array that is not there or not numeric.
    MissingExtraError
        An HDF5 file, and h5py is not installed.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"load: {path}: {reason}") from error
    if not head:
        raise DataError(f"load: {path} is empty")
    if key is not None and not head.startswith(ZIP_MAGIC) and head != HDF5_MAGIC:
        raise DataError(
            f"load: {path} with key {key!r}, expected an NPZ or HDF5 file, which has arrays by name"
        )
    try:
        if head.startswith(NPY_MAGIC):
            with open(path, "rb") as file:
                array = np.load(file, allow_pickle=False)
        elif head.startswith(ZIP_MAGIC):
            array = _load_npz(path, key)
        elif head == HDF5_MAGIC:
            array = _load_hdf5(path, key)
        elif head.startswith(GZIP_MAGIC):
            array = _parse_idx(path, gzip.decompress(path.read_bytes()))
        else:
            array = _parse_idx(path, path.read_bytes())
    except DataError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        refuse_objects("load", path, error)
        raise DataError(f"load: {path} is truncated or damaged ({error})") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"load: {path} holds {array.dtype}, expected real numbers")
    if array.size == 0:
        raise DataError(f"load: {path} holds no samples (shape {array.shape})")
    return array


def refuse_objects(function: str, path: Path, error: Exception) -> None:
    """Raise a DataError if NumPy has refused a file because its array is a pickle."""
    if "allow_pickle" in str(error) or "Python objects" in str(error):
        raise DataError(
            f"{function}: {path} holds an array of Python objects, a pickle, which is not read "
            "(allow_pickle is off), expected an array of numbers: array.astype(float) makes one "
            "where its entries are numbers"
        ) from error


def h5py_for(function: str) -> Any:
    """The package h5py, which only HDF5 files need.

    Raises
    ------
    MissingExtraError
        It is not installed; the message begins with the function's name.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f'{function}: needs the package h5py: pip install "gpugrad[train]"'
        ) from error
    return h5py


def _choose(path: Path, names: list[str], key: str | None) -> str:
    """Which of the arrays of a file is meant."""
    if key is not None:
        if key in names:
            return key
        raise DataError(f"load: {path} has no array {key!r}, it has {names}")
    if len(names) == 1:
        return names[0]
    for usual in USUAL_NAMES:
        if usual in names:
            return usual
    raise DataError(f"load: {path} has the arrays {names}, expected one or a key that names it")


def _load_npz(path: Path, key: str | None) -> np.ndarray:
    # opened here: where np.load fails on a damaged archive it leaves its own file open
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        return archive[_choose(path, archive.files, key)]


def _load_hdf5(path: Path, key: str | None) -> np.ndarray:
    h5py = h5py_for(f"load: {path}")
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
        dataset = file[_choose(path, names, key.strip("/") if key else None)]
        if dataset.dtype.kind not in "biuf":
            raise DataError(f"load: {path} holds {dataset.dtype}, expected real numbers")
        return dataset[()]


def _parse_idx(path: Path, content: bytes) -> np.ndarray:
    """IDX: two zero bytes, a type, the number of axes, their lengths (big endian), the entries."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES or not content[3]:
        raise DataError(f"load: {path} is none of IDX, NPY, NPZ and HDF5")
    dtype, axes = np.dtype(IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    expected = start + math.prod(shape) * dtype.itemsize
    if len(shape) < axes or len(content) != expected:
        raise DataError(
            f"load: {path} is truncated or damaged: {len(content)} bytes, "
            f"its header says {expected}"
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def as_units(
    array: Any, unit: str = "bernoulli", *, threshold: float | None = None, dtype: Any = "float32"
) -> Any:
    """Samples as rows of values that units of one type take.

    Integers above 1 in an unsigned 8-bit array are grey values and are divided by 255. For Ising
    units, arrays of bits or grey values are mapped from [0, 1] to [-1, 1]; floating-point values
    (means) and signed integers (which have to be -1 and 1) are left as they are.

    Parameters
    ----------
    array : array (samples, ...)
    unit : str
        "bernoulli" or "ising"; values of other units are not mapped.
    threshold : float, optional
        In (0, 1): grey values above it become 1, others 0. Without it they stay, as probabilities.
    dtype : dtype, optional

    Returns
    -------
    array (samples, units)

    Raises
    ------
    DataError
        No sample axis, a threshold for values outside [0, 1], or signed integers that are no spins.
    ParameterError
        A threshold outside (0, 1).
    """
    if threshold is not None and not 0 < threshold < 1:
        raise ParameterError(f"as_units: threshold is {threshold!r}, expected one in (0, 1)")
    if array.ndim < 2:
        raise DataError(f"as_units: data has shape {array.shape}, expected (samples, units)")
    rows = array.reshape(array.shape[0], -1)
    kind = rows.dtype.kind
    unsigned = kind in "bu"
    if unit == "ising" and kind == "i" and threshold is None and not (abs(rows) == 1).all():
        # as floats, bits would pass for means 0 and 1
        raise DataError(
            f"as_units: data of {rows.dtype} in [{rows.min()}, {rows.max()}], ising units expect "
            "-1 and 1 (of 0 and 1: 2*x - 1), bits of an unsigned type, or means as floats"
        )
    if rows.dtype == np.uint8 and rows.size and int(rows.max()) > 1:
        values = rows.astype(dtype)
        values /= 255
    else:
        values = rows.astype(dtype, copy=False)
    if threshold is not None:
        if values.size and not (float(values.min()) >= 0 and float(values.max()) <= 1):
            raise DataError(
                f"as_units: data lies in [{float(values.min()):g}, {float(values.max()):g}], "
                "a threshold expects grey values in [0, 1]"
            )
        values = (values > threshold).astype(dtype)
        unsigned = True
    if unit == "ising" and unsigned:
        values = 2 * values - 1
    return values
