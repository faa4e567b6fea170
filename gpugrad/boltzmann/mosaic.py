"""Units as pixels: the shape of their grid, many grids side by side, their colours, a PNG of them.

Arrays and bytes only: nothing here needs a library that draws.
"""

import math
import struct
import zlib
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.errors import DataError, ParameterError

__all__ = ["filters_of", "image_shape", "mosaic", "png", "rows_of", "signed_colors"]

RED, BLUE, GAP = (178, 24, 43), (33, 102, 172), (85, 85, 85)


def image_shape(
    n_units: int, shape: tuple[int, int] | None = None, *, function: str = "image_shape"
) -> tuple[int, int]:
    """Rows and columns in which units are drawn: as given, a square, or the nearest rectangle.

    Parameters
    ----------
    n_units : int
    shape : tuple of int, optional
    function : str
        The name that messages carry.

    Raises
    ------
    ParameterError
        A given shape that does not hold n_units.
    """
    if shape is not None:
        try:
            rows, columns = (int(n) for n in shape)
        except (TypeError, ValueError):
            raise ParameterError(
                f"{function}: shape is {shape!r}, expected (rows, columns)"
            ) from None
        if rows < 1 or rows * columns != n_units:
            raise ParameterError(
                f"{function}: shape {rows}x{columns} for {n_units} units, expected {n_units} pixels"
            )
        return rows, columns
    rows = next(r for r in range(math.isqrt(n_units), 0, -1) if n_units % r == 0)
    # a prime number of units would be a line: rather leave the last row open
    if rows * 8 < n_units // rows:
        rows = math.isqrt(n_units)
        return rows, -(-n_units // rows)
    return rows, n_units // rows


def mosaic(images: np.ndarray, shape: tuple[int, int], columns: int, gap: int = 1) -> np.ndarray:
    """Images side by side, separated by `gap` pixels of nan.

    Images of fewer than 16 rows or columns are enlarged, each pixel to a square of them, so that
    the gap stays thinner than what it separates.

    Parameters
    ----------
    images : array (n, pixels)
        With fewer pixels than `shape` holds, the rest is left open.
    shape : tuple of int
        Rows and columns of one image.
    columns : int
        Images in a row.
    """
    zoom = -(-16 // min(shape))
    height, width = zoom * shape[0], zoom * shape[1]
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), np.nan)
    for i, image in enumerate(images):
        top = gap + i // columns * (height + gap)
        left = gap + i % columns * (width + gap)
        full = np.full(shape, np.nan)
        full.flat[: image.size] = image
        enlarged = full.repeat(zoom, axis=0).repeat(zoom, axis=1)
        canvas[top : top + height, left : left + width] = enlarged
    return canvas


def rows_of(function: str, name: str, values: Any) -> np.ndarray:
    """Values as float64 of shape (rows, units) on the host: one copy, if they are on a device.

    Raises
    ------
    DataError
        Another number of axes, none of either, or no real numbers.
    """
    host = np.asarray(asnumpy(values) if hasattr(values, "shape") else values)
    if host.dtype.kind not in "biuf" or host.ndim != 2 or host.size == 0:
        raise DataError(
            f"{function}: {name} is {host.dtype} of shape {host.shape}, expected real numbers "
            "(rows, units)"
        )
    return host.astype("float64")


def filters_of(
    function: str, source: Any, layer: int = 1, shape: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int], str]:
    """What couples each unit of a layer to the visible ones, a row a unit.

    Parameters
    ----------
    function : str
        The name that messages carry.
    source : BoltzmannMachine, or array (num_visible, num_units)
    layer : int
        A hidden layer of a machine. Beyond the first, the product of the matrices that lead to it:
        the couplings as they would be if the layers between were linear.
    shape : tuple of int, optional
        Rows and columns of the visible units.

    Returns
    -------
    filters : numpy.ndarray (num_units, num_visible)
    shape : tuple of int
    title : str
        With a place {} for how many they are.
    """
    if not isinstance(source, BoltzmannMachine):
        given = rows_of(function, "weights", source)
        return given.T, image_shape(given.shape[0], shape, function=function), "weights of {} units"
    if source.weights and layer not in range(1, source.num_layers):
        raise ParameterError(
            f"{function}: layer is {layer!r}, expected a hidden layer, 1 ... "
            f"{source.num_layers - 1}"
        )
    drawn, title = _couplings(source, layer)
    W: Any = asnumpy(drawn).astype("float64")
    states = getattr(source.layers[0], "num_states", 1)
    if states > 1:
        # columns run over the states of a site first
        W = W.reshape(-1, states, W.shape[1]).swapaxes(0, 1).reshape(W.shape)
        shape = (states, W.shape[0] // states)
    return W.T, image_shape(W.shape[0], shape, function=function), title


def _couplings(model: BoltzmannMachine, layer: int) -> tuple[Any, str]:
    """What is drawn of a machine, a column a picture, and how it is called."""
    if model.weights:
        W = model.weights[0].W()
        for weights in model.weights[1:layer]:
            W = W @ weights.W()
        return W, "weights of {} hidden units" + (f", layer {layer}" if layer > 1 else "")
    if 0 in model.lateral:
        return model.lateral[0].J(), "couplings of {} visible units"
    # units without neighbours: all that there is
    return model.layers[0].params[0].reshape(-1, 1), "parameters of the visible units"


def signed_colors(canvas: np.ndarray) -> np.ndarray:
    """Colours of signed values: red above 0, blue below, white at 0, grey where there are none.

    Parameters
    ----------
    canvas : array (height, width)
        nan where there is no value. A few extreme values are cut off.

    Returns
    -------
    numpy.ndarray of uint8 (height, width, 3)
    """
    present = np.abs(canvas[~np.isnan(canvas)])
    scale = float(np.quantile(present, 0.995)) if present.size else 1.0
    part = np.clip(canvas / (scale or 1.0), -1, 1)[:, :, None]
    ends = np.where(part >= 0, np.array(RED), np.array(BLUE))
    colors = np.where(np.isnan(part), np.array(GAP), 255 + np.abs(part) * (ends - 255))
    return np.rint(colors).astype(np.uint8)


def png(colors: np.ndarray) -> bytes:
    """A picture as a PNG file.

    Parameters
    ----------
    colors : array of uint8 (height, width, 3)
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, _ = colors.shape
    # each line begins with the number of its filter: 0, the bytes as they are
    lines = np.zeros((height, 1 + 3 * width), np.uint8)
    lines[:, 1:] = colors.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(lines.tobytes())),
            chunk(b"IEND", b""),
        )
    )
