"""How notebooks show a machine: a table of its layers and parameters, and a few of its filters.

Shapes and dtypes alone are looked at, so that nothing waits for a GPU; the filters are those of a
machine on the CPU.
"""

import base64
import math
from html import escape
from typing import Any

import numpy as np

from gpugrad.boltzmann.mosaic import filters_of, mosaic, png, signed_colors

__all__ = ["machine_html"]

FILTERS, PIXELS = 16, 4096
"""At most so many filters, of at most so many pixels, are drawn."""
WEIGHTS = 2**23
"""Of more weights nothing is drawn: a cell's answer must not take seconds, nor memory."""
COLUMNS = 8


def machine_html(model: Any) -> str:
    """HTML of a `BoltzmannMachine` or an `EnergyMachine`; all names are escaped.

    Parameters
    ----------
    model : BoltzmannMachine or EnergyMachine
    """
    parameters = model.parameters()
    units = {f"layers.{i}": _units(layer) for i, layer in enumerate(model.layers)}
    # a layer without parameters of its own has a line too
    rows = [_row(part, told, "", None) for part, told in units.items() if not _of(part, parameters)]
    for name, array in parameters.items():
        part, _, field = name.rpartition(".")
        rows.append(_row(part, units.pop(part, ""), field, array))
    number = sum(math.prod(array.shape) for array in parameters.values())
    head = "".join(
        f'<th style="text-align:left">{text}</th>'
        for text in ("part", "units", "parameter", "shape", "dtype")
    )
    return (
        f"<div><strong>{escape(type(model).__name__)}</strong> of {len(model.layers)} layers, "
        f"{number:,} parameters, {escape(str(model.device))}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"{_picture(model)}</div>"
    )


def _units(layer: Any) -> str:
    if hasattr(layer, "num_sites"):
        return f"{layer.num_sites} {layer.layer_type} of {layer.num_states} states"
    return f"{layer.num_units} {layer.layer_type}"


def _of(part: str, parameters: dict[str, Any]) -> bool:
    return any(name.startswith(f"{part}.") for name in parameters)


def _row(part: str, units: str, field: str, array: Any) -> str:
    shape = "" if array is None else " × ".join(map(str, array.shape)) or "1"
    cells = (part, units, field, shape, "" if array is None else str(array.dtype))
    return (
        "<tr>"
        + "".join(f'<td style="text-align:left">{escape(text)}</td>' for text in cells)
        + "</tr>"
    )


def _picture(model: Any) -> str:
    weights = getattr(model, "weights", [])
    if not weights or str(model.device) != "cpu":
        return ""
    W = weights[0].W()
    if W.shape[0] > PIXELS or W.size > WEIGHTS:
        return ""
    images, shape, _ = filters_of("_repr_html_", model)
    total, images = len(images), images[:FILTERS]
    canvas = mosaic(np.nan_to_num(images), shape, min(COLUMNS, len(images)))
    colors = signed_colors(canvas)
    source = base64.b64encode(png(colors)).decode()
    shown = f"the first {len(images)} of {total}" if len(images) < total else f"{total}"
    return (
        f'<img src="data:image/png;base64,{source}" alt="weights of {shown} hidden units" '
        f'style="image-rendering:pixelated; width:{min(2 * colors.shape[1], 480)}px">'
    )
