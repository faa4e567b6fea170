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

INK, QUIET, SECOND, THIRD = "#1f4e79", "#8a8a8a", "#b5482a", "#3a7d44"
LIKELIHOODS = {
    "pseudo_likelihood": "pseudo-likelihood (training)",
    "log_likelihood": "log-likelihood (held out)",
}
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
    """The weights of each unit of the first hidden layer: red excites a pixel, blue inhibits it.

    Of more than 256 units, those with the largest weights are shown. Of a machine without hidden
    units, the couplings of each visible unit with the others are shown. Potts units are drawn with
    a row for each state and a column for each site.

    Parameters
    ----------
    model : BoltzmannMachine
    path : str or path
        A PNG file.
    shape : tuple of int, optional
        Rows and columns of the visible units.
    """
    drawn, what = _couplings(model)
    W: Any = asnumpy(drawn).astype("float64")
    states = getattr(model.layers[0], "num_states", 1)
    if states > 1:
        # columns run over the states of a site first
        W = W.reshape(-1, states, W.shape[1]).swapaxes(0, 1).reshape(W.shape)
        shape = (states, W.shape[0] // states)
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
    axes.set_title(what.format(f"{shown}{of}"), fontsize=11)
    axes.set_axis_off()
    axes.add_artist(axes.patch)
    axes.patch.set_zorder(-1)
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.015, extend="both")
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    _save(figure, path)


def _couplings(model: BoltzmannMachine) -> tuple[Any, str]:
    """What is drawn of a machine, a column a picture, and how it is called."""
    if model.weights:
        return model.weights[0].W(), "weights of {} hidden units"
    if 0 in model.lateral:
        return model.lateral[0].J(), "couplings of {} visible units"
    # units without neighbours: all that there is
    return model.layers[0].params[0].reshape(-1, 1), "parameters of the visible units"


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
        The values drawn white and black; for infinite ones the quantiles 1/200 and 199/200 stand.
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
    ends = np.quantile(values, (0.005, 0.995)).tolist()
    low, high = (x if math.isfinite(x) else end for x, end in zip(limits, ends, strict=True))
    axes.imshow(
        canvas, cmap="gray_r", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest"
    )
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
    """The figures of training and the learning rate over the epochs: those that there are.

    Parameters
    ----------
    history : sequence of dict
        `Trainer.history`. Of "pseudo_likelihood", "log_likelihood" (early stopping) and
        "reconstruction_error" each record may have any.
    path : str or path
        A PNG file.
    title : str
    likelihood : float, optional
        The log-likelihood at the end, to be marked.
    likelihood_label : str
        Of which data it is.
    """
    if likelihood is not None and not math.isfinite(likelihood):
        likelihood = None
    known = set().union(*history) if history else set()
    nats = [name for name in LIKELIHOODS if name in known]
    upper_too = bool(nats) or likelihood is not None
    figure = _figure(7.5, 6.0 if upper_too else 3.5)
    ratios = (3, 2) if upper_too else (1,)
    panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)
    lower = panels[-1, 0]
    dots = {"marker": "o", "markersize": 3} if len(history) < 80 else {}
    if upper_too:
        upper = panels[0, 0]
        for name, color in zip(nats, (INK, THIRD), strict=False):
            _line(upper, history, name, LIKELIHOODS[name], color, dots)
        if likelihood is not None:
            _mark(upper, likelihood, likelihood_label)
        upper.set_ylabel("nats a sample")
        if nats:
            place = "lower right" if likelihood is None else "best"
            upper.legend(frameon=False, fontsize=9, loc=place)
    panels[0, 0].set_title(title or "training", fontsize=11)
    if "reconstruction_error" in known:
        _line(lower, history, "reconstruction_error", "reconstruction error", INK, dots)
        lower.set_ylabel("mean square a unit")
        errors = [
            record["reconstruction_error"] for record in history if "reconstruction_error" in record
        ]
        largest = max(filter(math.isfinite, errors), default=0.0)
        # room for the legend, and for the line to be seen where it is highest
        lower.set_ylim(0, 1.25 * largest or 1.0)
        lower.legend(frameon=False, fontsize=9, loc="upper right")
    else:
        lower.set_yticks([])
    lower.set_xlabel("epoch")
    rate = lower.twinx()
    epochs = [record["epoch"] for record in history]
    rate.plot(epochs, [record["rate"] for record in history], color=QUIET, linewidth=1.2)
    rate.set_ylabel("learning rate", color=QUIET)
    rate.tick_params(colors=QUIET)
    rate.set_ylim(bottom=0)
    for axes in (*panels[:, 0], rate):
        axes.spines["top"].set_visible(False)
    for axes in panels[:, 0]:
        axes.spines["right"].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    # whole epochs only
    lower.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def _line(axes: Any, history: Any, name: str, label: str, color: str, dots: Any) -> None:
    points = [(record["epoch"], record[name]) for record in history if name in record]
    axes.plot(*zip(*points, strict=True), color=color, label=label, **dots)


def _mark(axes: Any, likelihood: float, label: str) -> None:
    """A dashed line at the log-likelihood of the end."""
    axes.axhline(likelihood, color=SECOND, linestyle="--", linewidth=1.2)
    axes.annotate(
        f"{label} at the end {likelihood:.1f}",
        (1.0, likelihood),
        xycoords=("axes fraction", "data"),
        xytext=(-6, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        color=SECOND,
        fontsize=9,
    )
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, likelihood - 0.12 * (high - low)), high)
