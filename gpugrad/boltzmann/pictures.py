"""Pictures of a machine and of its training in PNG files, drawn by matplotlib without a screen.

What is drawn into the axes is that of `gpugrad.boltzmann.plots`; here it gets figure and file.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gpugrad.atomic_file import write_atomically
from gpugrad.boltzmann import plots
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.mosaic import image_shape, mosaic
from gpugrad.boltzmann.plots import COLORS, NATS, QUIET, SECOND
from gpugrad.errors import MissingExtraError

__all__ = ["draw_curve", "draw_filters", "draw_samples", "image_shape", "mosaic"]


def _figure(width: float, height: float) -> Any:
    # not pyplot's: a figure of its own needs no screen and is forgotten with its file
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            'pictures: need the package matplotlib: pip install "gpugrad[train]"'
        ) from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Any, path: Any) -> None:
    write_atomically(path, lambda file: figure.savefig(file, format="png"))


def _fit(axes: Any, width: float, beside: float, above: float) -> Any:
    """The axes' figure, as high as its picture asks for; `beside` and `above` are for the rest."""
    rows, columns = axes.images[0].get_array().shape
    axes.figure.set_size_inches(width + beside, width * rows / columns + above)
    return axes.figure


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
    axes = plots.filters(model, shape=shape, ax=_figure(8.9, 8.5).add_subplot())
    _save(_fit(axes, 8.0, 0.9, 0.5), path)


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
    axes = _figure(7.0, 7.0).add_subplot()
    plots.samples(visible, shape=shape, limits=limits, title=title, ax=axes)
    _save(_fit(axes, 7.0, 0.0, 0.4 if title else 0.0), path)


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
    nats = [name for name in NATS if name in known]
    upper_too = bool(nats) or likelihood is not None
    figure = _figure(7.5, 6.0 if upper_too else 3.5)
    ratios = (3, 2) if upper_too else (1,)
    panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)
    lower = panels[-1, 0]
    if upper_too:
        upper = panels[0, 0]
        for name, color in zip(nats, COLORS, strict=False):
            plots.draw_line(upper, history, name, color)
        if likelihood is not None:
            _mark(upper, likelihood, likelihood_label)
        upper.set_ylabel("nats a sample")
        if nats:
            place = "lower right" if likelihood is None else "best"
            upper.legend(frameon=False, fontsize=9, loc=place)
    panels[0, 0].set_title(title or "training", fontsize=11)
    if "reconstruction_error" in known:
        plots.draw_line(lower, history, "reconstruction_error", COLORS[0])
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
