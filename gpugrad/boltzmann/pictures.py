"""Pictures of a machine and of its training, drawn by matplotlib without a screen."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.errors import ParameterError

__all__ = ["draw_curve", "draw_filters", "draw_samples", "image_shape", "mosaic"]

INK, QUIET, SECOND = "#1f4e79", "#8a8a8a", "#b5482a"
MOST_FILTERS = 256


def image_shape(n_units: int, shape: tuple[int, int] | None = None) -> tuple[int, int]:
    """Rows and columns in which units are drawn: as given, a square, or the nearest rectangle.

    Raises
    ------
    ParameterError
        A given shape that does not hold n_units.
    """
    if shape is not None:
        if shape[0] * shape[1] != n_units:
            raise ParameterError(
                f"image_shape: {shape[0]}x{shape[1]} for {n_units} units, expected {n_units} pixels"
            )
        return shape
    rows = next(r for r in range(math.isqrt(n_units), 0, -1) if n_units % r == 0)
    # a prime number of units would be a line: rather leave the last row open
    if rows * 8 < n_units // rows:
        rows = math.isqrt(n_units)
        return rows, -(-n_units // rows)
    return rows, n_units // rows


def mosaic(images: np.ndarray, shape: tuple[int, int], columns: int, gap: int = 1) -> np.ndarray:
    """Images side by side, separated by `gap` pixels of nan.

    Parameters
    ----------
    images : array (n, pixels)
        With fewer pixels than `shape` holds, the rest is left open.
    shape : tuple of int
        Rows and columns of one image.
    columns : int
        Images in a row.
    """
    height, width = shape
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), np.nan)
    for i, image in enumerate(images):
        top = gap + i // columns * (height + gap)
        left = gap + i % columns * (width + gap)
        full = np.full(height * width, np.nan)
        full[: image.size] = image
        canvas[top : top + height, left : left + width] = full.reshape(shape)
    return canvas


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "gpugrad[train]"') from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Any, path: Any) -> None:
    # written aside and renamed: a reader never meets half a picture
    path = Path(path)
    aside = path.with_name(f".{path.name}.tmp")
    figure.savefig(aside, format="png")
    aside.replace(path)


def draw_filters(
    model: BoltzmannMachine, path: Any, *, shape: tuple[int, int] | None = None
) -> None:
    """The weights of each hidden unit as an image: red excites a pixel, blue inhibits it.

    Of more than 256 units, those with the largest weights are shown.

    Parameters
    ----------
    model : BoltzmannMachine
    path : str or path
        A PNG file.
    shape : tuple of int, optional
        Rows and columns of the visible units.
    """
    W = asnumpy(model.weights[0].W()).astype("float64")
    shape = image_shape(W.shape[0], shape)
    order = np.argsort(-np.linalg.norm(W, axis=0), kind="stable")[:MOST_FILTERS]
    filters = W.T[np.sort(order)]
    columns = math.ceil(math.sqrt(len(filters)))
    canvas = mosaic(filters, shape, columns)
    # a few extreme weights must not bleach the rest
    scale = float(np.quantile(np.abs(filters), 0.995)) or 1.0
    size = 8.0
    figure = _figure(size + 0.9, size * canvas.shape[0] / canvas.shape[1] + 0.5)
    axes = figure.add_subplot()
    axes.set_facecolor("#555555")
    image = axes.imshow(canvas, cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
    shown = len(filters)
    of = "" if shown == W.shape[1] else f" of {W.shape[1]}"
    axes.set_title(f"weights of {shown}{of} hidden units", fontsize=11)
    axes.set_axis_off()
    axes.add_artist(axes.patch)
    axes.patch.set_zorder(-1)
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.015, extend="both")
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    _save(figure, path)


def draw_samples(
    visible: Any,
    path: Any,
    *,
    shape: tuple[int, int] | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    title: str = "",
) -> None:
    """Visible units as images, in as many columns as rows.

    Parameters
    ----------
    visible : array (n, num_visible)
        States, or their means, which look smoother.
    path : str or path
        A PNG file.
    shape : tuple of int, optional
        Rows and columns of the visible units.
    limits : tuple of float
        The values drawn white and black.
    title : str
    """
    values = asnumpy(visible).astype("float64")
    shape = image_shape(values.shape[1], shape)
    columns = math.ceil(math.sqrt(len(values)))
    canvas = mosaic(values, shape, columns)
    size = 7.0
    figure = _figure(size, size * canvas.shape[0] / canvas.shape[1] + (0.4 if title else 0.0))
    axes = figure.add_subplot()
    axes.set_facecolor("#d8d8d8")
    axes.imshow(canvas, cmap="gray_r", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    # a dollar sign in a title is one, no formula
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.set_axis_off()
    axes.add_artist(axes.patch)
    axes.patch.set_zorder(-1)
    _save(figure, path)


def draw_curve(
    history: Sequence[Mapping[str, Any]],
    path: Any,
    *,
    title: str = "",
    likelihood: float | None = None,
    likelihood_label: str = "test log-likelihood",
) -> None:
    """Pseudo-likelihood, reconstruction error and learning rate over the epochs.

    Parameters
    ----------
    history : sequence of dict
        `Trainer.history`.
    path : str or path
        A PNG file.
    title : str
    likelihood : float, optional
        The log-likelihood at the end, to be marked.
    likelihood_label : str
        Of which data it is.
    """
    epochs = [record["epoch"] for record in history]
    figure = _figure(7.5, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    dots = {"marker": "o", "markersize": 3} if len(epochs) < 80 else {}
    pseudo = [record["pseudo_likelihood"] for record in history]
    upper.plot(epochs, pseudo, color=INK, label="pseudo-likelihood (training)", **dots)
    if likelihood is not None and math.isfinite(likelihood):
        upper.axhline(likelihood, color=SECOND, linestyle="--", linewidth=1.2)
        upper.annotate(
            f"{likelihood_label} at the end {likelihood:.1f}",
            (1.0, likelihood),
            xycoords=("axes fraction", "data"),
            xytext=(-6, -5),
            textcoords="offset points",
            ha="right",
            va="top",
            color=SECOND,
            fontsize=9,
        )
        low, high = upper.get_ylim()
        upper.set_ylim(min(low, likelihood - 0.12 * (high - low)), high)
    upper.set_ylabel("nats a sample")
    upper.set_title(title or "training", fontsize=11)
    upper.legend(frameon=False, fontsize=9, loc="lower right" if likelihood is None else "best")
    errors = [record["reconstruction_error"] for record in history]
    lower.plot(epochs, errors, color=INK, label="reconstruction error", **dots)
    lower.set_ylabel("mean square a unit")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("epoch")
    rate = lower.twinx()
    rate.plot(epochs, [record["rate"] for record in history], color=QUIET, linewidth=1.2)
    rate.set_ylabel("learning rate", color=QUIET)
    rate.tick_params(colors=QUIET)
    rate.set_ylim(bottom=0)
    lower.legend(frameon=False, fontsize=9, loc="upper right")
    for axes in (upper, lower, rate):
        axes.spines["top"].set_visible(False)
    for axes in (upper, lower):
        axes.spines["right"].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    # whole epochs only
    lower.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)
