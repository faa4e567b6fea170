"""Pictures of machines, chains and training in matplotlib axes, for notebooks and papers.

    axes = plots.filters(model)                         a figure of its own
    plots.samples(state.visible, ax=figure_axes[1])     into axes that are there

Each function draws into `ax`, or into a new figure of pyplot, and returns the axes. Arrays may lie
on a GPU: what is drawn is copied to the host once. The command line writes the same pictures to
files (`gpugrad.boltzmann.pictures`). Needs matplotlib (extra ``train``), loaded on first use.

References
----------
Marchenko and Pastur, "Distribution of eigenvalues for some sets of random matrices", Math. USSR
Sbornik 1 (1967). Decelle, Fissore and Furtlehner, "Spectral dynamics of learning in restricted
Boltzmann machines", EPL 119 (2017), for the spectrum of W along training.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, on
from gpugrad.boltzmann import diagnostics
from gpugrad.boltzmann.logs import read_log, spectrum_of
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.mosaic import filters_of, image_shape, mosaic, rows_of
from gpugrad.boltzmann.state import State, check_data, namespace_for, positive_int
from gpugrad.boltzmann.tap import TapResult
from gpugrad.errors import DataError, MissingExtraError, ParameterError

__all__ = [
    "autocorrelation",
    "filters",
    "magnetizations",
    "receptive_fields",
    "samples",
    "spectrum",
    "spectrum_along",
    "training_curves",
]

INK, QUIET, SECOND, THIRD = "#1f4e79", "#8a8a8a", "#b5482a", "#3a7d44"
COLORS = (INK, THIRD, SECOND, "#7b5aa6", "#b8860b", "#2f8f9d")
MOST_FILTERS = 256
LABELS = {
    "pseudo_likelihood": "pseudo-likelihood (training)",
    "log_likelihood": "log-likelihood (held out)",
    "reconstruction_error": "reconstruction error",
    "rate": "learning rate",
}
NATS = ("pseudo_likelihood", "log_likelihood")


# ---- axes


def _axes(function: str, ax: Any, width: float = 6.4, height: float = 4.8) -> Any:
    """`ax`, or the axes of a new figure."""
    if ax is not None:
        if not hasattr(ax, "imshow"):
            raise ParameterError(
                f"{function}: ax is {type(ax).__name__}, expected the axes of matplotlib"
            )
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError(
            f'{function}: needs the package matplotlib: pip install "gpugrad[train]"'
        ) from error
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def _show_mosaic(
    function: str, ax: Any, canvas: np.ndarray, *, background: str, title: str, **how: Any
) -> Any:
    """The canvas in axes without ticks; gaps in the colour of the background."""
    rows, columns = canvas.shape
    axes = _axes(function, ax, 6.4, min(max(6.0 * rows / columns, 1.5), 12.0) + 0.4)
    axes.set_facecolor(background)
    image = axes.imshow(canvas, interpolation="nearest", **how)
    # a dollar sign in a title is one, no formula
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.set_axis_off()
    axes.add_artist(axes.patch)
    axes.patch.set_zorder(-1)
    return image


def _with_error(value: float, error: float) -> str:
    """63.21, 15.4 -> '63 ± 15': two digits of the error."""
    if not 0 < error < math.inf:
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _columns(n: int) -> int:
    return math.ceil(math.sqrt(n))


def _plain(axes: Any) -> None:
    """A quiet frame: two spines, a faint grid."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def _legend(axes: Any, **how: Any) -> None:
    legend = axes.legend(frameon=False, fontsize=9, **how)
    for text in legend.get_texts():
        text.set_parse_math(False)


# ---- images


def _signed(
    function: str, ax: Any, images: np.ndarray, shape: tuple[int, int], title: str, most: int
) -> Any:
    """Signed images: red above 0, blue below; of many, those with the largest norms."""
    most = positive_int(function, "most", most)
    order = np.argsort(-np.linalg.norm(images, axis=1), kind="stable")[:most]
    shown = images[np.sort(order)]
    canvas = mosaic(shown, shape, _columns(len(shown)))
    # a few extreme weights must not bleach the rest
    scale = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    of = "" if len(shown) == len(images) else f" of {len(images)}"
    how: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -scale, "vmax": scale}
    title = title.format(f"{len(shown)}{of}")
    image = _show_mosaic(function, ax, canvas, background="#555555", title=title, **how)
    bar = image.axes.figure.colorbar(image, ax=image.axes, fraction=0.035, pad=0.015, extend="both")
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return image.axes


def filters(
    model: Any,
    layer: int = 1,
    *,
    shape: tuple[int, int] | None = None,
    most: int = MOST_FILTERS,
    ax: Any = None,
) -> Any:
    """The weights of each unit of a hidden layer: red excites a pixel, blue inhibits it.

    Parameters
    ----------
    model : BoltzmannMachine, or array (num_visible, num_hidden)
        Of a machine without hidden units the couplings of each visible unit with the others are
        drawn. Potts units have a row for each state and a column for each site.
    layer : int
        A hidden layer; beyond the first, the product of the matrices that lead to it.
    shape : tuple of int, optional
        Rows and columns of the visible units; the nearest to a square if None.
    most : int
        Of more units, those with the largest weights are drawn.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        A layer that is not there, or a shape that does not fit.
    DataError
        An array of another shape.

    Examples
    --------
    >>> from gpugrad.boltzmann import RBM, plots
    >>> axes = plots.filters(RBM(16, 9, device="cpu"), shape=(4, 4))
    >>> axes.get_title()
    'weights of 9 hidden units'
    """
    images, shape, title = filters_of("filters", model, layer, shape)
    return _signed("filters", ax, images, shape, title, most)


def receptive_fields(
    model: BoltzmannMachine,
    data: Any,
    layer: int = 1,
    *,
    shape: tuple[int, int] | None = None,
    most: int = MOST_FILTERS,
    ax: Any = None,
) -> Any:
    """What the data look like when a hidden unit is active: its covariance with each pixel.

    Drawn is <(v - <v>) (h_j - <h_j>)> / std(h_j), with h_j the mean of the unit given each sample:
    the change of the mean image for a change of h_j by its standard deviation. Unlike `filters` it
    depends on the data, and has a meaning in every layer.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two or more layers; of deeper ones the means are those of `mean_field`.
    data : array (num_samples, num_visible)
        Two samples or more.
    layer : int
        A hidden layer.
    shape : tuple of int, optional
        Rows and columns of the visible units.
    most : int
        Of more units, those with the largest fields are drawn.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        A machine without such a layer, or a shape that does not fit.
    DataError
        Data that the machine does not take, or a single sample.
    """
    check_boltzmann("receptive_fields", model)
    if layer not in range(1, model.num_layers):
        raise ParameterError(
            f"receptive_fields: layer is {layer!r}, expected a hidden layer, 1 ... "
            f"{model.num_layers - 1}"
        )
    v = check_data(model, data, function="receptive_fields")
    if v.shape[0] < 2:
        raise DataError("receptive_fields: data is one sample, expected two or more")
    shape = image_shape(model.layers[0].num_units, shape, function="receptive_fields")
    with on(model.device):
        exact = model.num_layers == 2 and 1 not in model.lateral
        h = (model.data_state(v) if exact else model.mean_field(v))[layer]
        xp = namespace_for(v)
        v, h = (x.astype("float64") for x in (v, h))
        v, h = v - xp.mean(v, axis=0), h - xp.mean(h, axis=0)
        width = xp.sqrt(xp.mean(h * h, axis=0))
        fields = xp.matmul(h.T, v) / v.shape[0]
    width = asnumpy(width)
    fields = asnumpy(fields) / np.where(width > 0, width, 1.0)[:, None]
    title = "receptive fields of {} units" + (f", layer {layer}" if layer > 1 else "")
    return _signed("receptive_fields", ax, fields, shape, title, most)


def samples(
    visible: Any,
    *,
    shape: tuple[int, int] | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    title: str = "",
    ax: Any = None,
) -> Any:
    """Visible units as images, in as many columns as rows.

    Parameters
    ----------
    visible : array (n, num_visible)
        States, or their means, which look smoother.
    shape : tuple of int, optional
        Rows and columns of the visible units.
    limits : tuple of float
        The values drawn white and black; for infinite ones the quantiles 1/200 and 199/200 stand.
    title : str
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        Values that are no array (n, num_visible) of numbers.
    ParameterError
        A shape that does not fit, or limits that are not two.
    """
    values = rows_of("samples", "visible", visible)
    if len(limits) != 2:
        raise ParameterError(f"samples: limits is {limits!r}, expected the two values (low, high)")
    shape = image_shape(values.shape[1], shape, function="samples")
    canvas = mosaic(values, shape, _columns(len(values)))
    ends = np.quantile(values, (0.005, 0.995)).tolist()
    low, high = (x if math.isfinite(x) else end for x, end in zip(limits, ends, strict=True))
    how: dict[str, Any] = {"cmap": "gray_r", "vmin": low, "vmax": max(high, low + 1e-12)}
    return _show_mosaic("samples", ax, canvas, background="#d8d8d8", title=title, **how).axes


def magnetizations(
    result: TapResult | State | Sequence[Any],
    layer: int = 0,
    *,
    shape: tuple[int, int] | None = None,
    ax: Any = None,
) -> Any:
    """TAP magnetisations of a layer, an image a row, the lowest free energy first.

    Parameters
    ----------
    result : TapResult, State, or sequence of array (rows, num_units)
        What `tap_magnetizations` returned, or its `distinct()`; one array a layer.
    layer : int
    shape : tuple of int, optional
        Rows and columns of the layer's units.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        A layer that is not there, or a shape that does not fit.
    DataError
        No rows.
    """
    arrays: Any = getattr(result, "magnetizations", result)
    units = list(arrays)
    if layer not in range(len(units)):
        raise ParameterError(
            f"magnetizations: layer is {layer!r}, expected one of 0 ... {len(units) - 1}"
        )
    values = rows_of("magnetizations", f"layer {layer}", units[layer])
    title = f"{len(values)} TAP magnetisations" if len(values) > 1 else "TAP magnetisation"
    title += f", layer {layer}" if layer else ""
    if isinstance(result, TapResult):
        energy = asnumpy(result.free_energy)
        values = values[np.argsort(energy, kind="stable")]
        title += f"\nfree energy {energy.min():.2f}"
        title += f" to {energy.max():.2f}" if len(values) > 1 else ""
    low = -1.0 if values.min() < 0 else 0.0
    shape = image_shape(values.shape[1], shape, function="magnetizations")
    canvas = mosaic(values, shape, _columns(len(values)))
    how: dict[str, Any] = {"cmap": "gray_r", "vmin": low, "vmax": 1.0}
    return _show_mosaic("magnetizations", ax, canvas, background="#d8d8d8", title=title, **how).axes


# ---- the spectrum of W


def spectrum(model: Any, *, edge: bool = True, ax: Any = None) -> Any:
    """Singular values of each weight matrix, the largest first.

    The dashed line is where those of a random matrix end (Marchenko and Pastur): with independent
    entries of mean square s^2 in n rows and m columns the largest is s (sqrt(n) + sqrt(m)) in the
    limit of large n and m. What has been learned stands above it.

    Parameters
    ----------
    model : BoltzmannMachine, or array (rows, columns)
    edge : bool
        Draw the dashed line.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        A machine of one layer, which has no weight matrix.
    DataError
        An array that is no matrix of finite numbers.
    """
    found = spectrum_of("spectrum", model)
    axes = _axes("spectrum", ax)
    for i, ((values, limit), color) in enumerate(zip(found, _cycle(len(found)), strict=True)):
        name = "W" if len(found) == 1 else f"weights[{i}]"
        rank = np.arange(1, values.size + 1)
        axes.plot(rank, values, color=color, marker="o", markersize=3, linewidth=1, label=name)
        if edge:
            label = "edge of a random matrix" + (f", weights[{i}]" if len(found) > 1 else "")
            axes.axhline(limit, color=color, linestyle="--", linewidth=1, label=label)
    axes.set_xlabel("rank")
    axes.set_ylabel("singular value")
    axes.set_ylim(bottom=0)
    _plain(axes)
    _legend(axes)
    return axes


def spectrum_along(log: Any, layer: int = 0, *, edge: bool = True, ax: Any = None) -> Any:
    """Singular values of a weight matrix over the epochs, recorded by `SingularValues`.

    Parameters
    ----------
    log : sequence of dict, Trainer or path
        A history, whatever has one, a JSONL file, or the folder of a training run.
    layer : int
        The number of the weight matrix.
    edge : bool
        Draw where the values of a random matrix of the same mean square end, as `spectrum` does.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        A log without singular values.
    """
    history = read_log(log)
    name = f"spectrum.{layer}"
    records = [record for record in history if name in record]
    if not records:
        raise DataError(
            f"spectrum_along: the log has no {name!r}, expected that of a training with the "
            "callback SingularValues"
        )
    epochs = [record["epoch"] for record in records]
    values = np.array([record[name]["values"] for record in records])
    axes = _axes("spectrum_along", ax)
    for i, line in enumerate(values.T):
        axes.plot(epochs, line, color=INK, alpha=0.75, linewidth=1, label="W" if i == 0 else None)
    if edge:
        limits = [record[name]["edge"] for record in records]
        axes.plot(epochs, limits, color=SECOND, linestyle="--", label="edge of a random matrix")
    _over_epochs(axes)
    axes.set_ylabel("singular value")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return axes


# ---- chains


def autocorrelation(
    series: Any, *, lags: int | None = None, window: float = 5.0, ax: Any = None
) -> Any:
    """Autocorrelation of observables of chains, with their integrated times.

    Parameters
    ----------
    series : array (steps,) or (steps, n_chains), or dict of them by name
        What was looked at after each step, as `gpugrad.boltzmann.diagnostics` takes it.
    lags : int, optional
        How far to draw; if None to twice the lag where the integrated time is cut.
    window : float
        Of `diagnostics.integrated_autocorrelation_time`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Each label has the integrated time tau and its standard error; a series that never changes
        has none, and no line.

    Raises
    ------
    DataError
        A series of another shape, of fewer than 4 steps, or not finite.
    ParameterError
        A window that is not positive, or lags below 1.
    """
    named = dict(series) if isinstance(series, Mapping) else {"": series}
    if not named:
        raise DataError("autocorrelation: no series, expected one or more")
    if lags is not None:
        positive_int("autocorrelation", "lags", lags)
    curves = []
    for name, values in named.items():
        rho = diagnostics.autocorrelation(values)
        found = diagnostics.mean_with_error(values, window=window)
        told = f"tau = {_with_error(found.tau, found.tau_error)} steps"
        if math.isnan(found.tau):
            told = "never changes"
        curves.append((rho, found.tau, f"{name}: {told}" if name else told))
    reach = max((window * tau for _, tau, _ in curves if not math.isnan(tau)), default=1.0)
    longest = max(len(rho) for rho, _, _ in curves) - 1
    last = min(longest, max(10, math.ceil(2 * reach)) if lags is None else lags)
    axes = _axes("autocorrelation", ax)
    for (rho, _, label), color in zip(curves, _cycle(len(curves)), strict=True):
        shown = rho[: last + 1]
        axes.plot(np.arange(shown.size), shown, color=color, label=label)
    axes.axhline(0.0, color=QUIET, linewidth=0.8)
    axes.set_xlim(0, last)
    axes.set_xlabel("lag (steps)")
    axes.set_ylabel("autocorrelation")
    _plain(axes)
    _legend(axes)
    return axes


# ---- training


def training_curves(log: Any, names: Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """Figures of a training over its epochs.

    Parameters
    ----------
    log : sequence of dict, Trainer or path
        A history, whatever has one, a JSONL file, or the folder of a training run.
    names : sequence of str, optional
        Entries of the records. If None "pseudo_likelihood" and "log_likelihood", those that there
        are; without them "reconstruction_error".
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        A log that cannot be read, without records, or without an entry that is asked for.

    Examples
    --------
    >>> from gpugrad.boltzmann import plots
    >>> history = [{"epoch": 1, "pseudo_likelihood": -9.0}, {"epoch": 2, "pseudo_likelihood": -8.0}]
    >>> plots.training_curves(history).get_ylabel()
    'nats a sample'
    """
    history = read_log(log)
    known: set[str] = set().union(*history)
    if names is None:
        names = [name for name in NATS if name in known] or ["reconstruction_error"]
    elif isinstance(names, str):
        names = [names]
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(f"training_curves: the log has no {missing}, it has {sorted(known)}")
    axes = _axes("training_curves", ax)
    for name, color in zip(names, _cycle(len(names)), strict=True):
        draw_line(axes, history, name, color)
    _over_epochs(axes)
    if set(names) <= set(NATS):
        axes.set_ylabel("nats a sample")
    elif len(names) == 1:
        axes.set_ylabel(LABELS.get(names[0], names[0]))
    _legend(axes)
    return axes


def draw_line(axes: Any, history: Sequence[Mapping[str, Any]], name: str, color: str) -> None:
    """An entry of the records over the epochs, with dots where they are few."""
    points = [(record["epoch"], record[name]) for record in history if name in record]
    dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) < 80 else {}
    axes.plot(*zip(*points, strict=True), color=color, label=LABELS.get(name, name), **dots)


def _over_epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # whole epochs only
    _plain(axes)


def _cycle(n: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(n)]
