"""`gpugrad sample`: draw visible states of a machine, with pixels held fixed if asked."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from gpugrad.atomic_file import write_atomically
from gpugrad.backend.array_module import asnumpy, on, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import datasets
from gpugrad.boltzmann.checkpoint import load_model, model_info
from gpugrad.boltzmann.layers import PottsLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.pictures import image_shape
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State, check_data, positive_int
from gpugrad.cli.app import command, out
from gpugrad.cli.data import own_data, read, test_of
from gpugrad.cli.drawing import draw_states, joint_states, pixels, visible_means
from gpugrad.cli.evaluate import model_path
from gpugrad.cli.machine import import_units, unit_of
from gpugrad.cli.settings import MODULE_HELP, THRESHOLD_HELP, parse_shape
from gpugrad.errors import DataError, ParameterError

__all__ = ["clamp_mask_of", "draw", "sample"]

HALVES = ("top", "bottom", "left", "right")


def clamp_mask_of(text: str, n_visible: int, shape: tuple[int, int] | None) -> np.ndarray:
    """Which pixels are held: "top half" (bottom, left, right), or a file of n_visible numbers.

    Of Potts units the pixels are the sites.

    Returns
    -------
    numpy.ndarray (n_visible,) of bool
    """
    words = text.lower().replace("-", " ").split()
    if words and words[0] in HALVES and words[1:] in ([], ["half"]):
        rows, columns = image_shape(n_visible, shape, function="sample")
        grid = np.zeros((rows, columns), dtype=bool)
        if words[0] in ("top", "bottom"):
            grid[: rows // 2] = True
        else:
            grid[:, : columns // 2] = True
        if words[0] in ("bottom", "right"):
            grid = ~grid
        return grid.reshape(-1)[:n_visible]
    if not Path(text).exists():
        raise ParameterError(
            f"sample: clamp {text!r}: no such file, expected 'top half' (bottom, left, right) or "
            "the file of a mask"
        )
    mask = datasets.load(text).reshape(-1)
    if mask.size != n_visible:
        raise DataError(f"sample: the mask in {text} has {mask.size} values, expected {n_visible}")
    return mask != 0


def draw(
    model: BoltzmannMachine,
    rng: Generator,
    n: int,
    sweeps: int,
    *,
    start: Any = None,
    mask: Any = None,
) -> tuple[State, Any]:
    """n chains after so many Gibbs sweeps, and the means of their visible units.

    Parameters
    ----------
    model : BoltzmannMachine
        Of any number of layers.
    rng : Generator
    n, sweeps : int
    start : array (n, num_visible), optional
        Visible states to start from; random ones if None.
    mask : array (num_visible,) of bool, optional
        Units that keep the value they start with.

    Returns
    -------
    state : State
    mean : array (n, num_visible)
        Given the hidden units; held units have their value. States where there is no such mean
        (see `visible_means`).
    """
    with on(model.device):
        state = model.random_state(n, rng=rng)
        if start is not None:
            v = start if mask is None else _where(mask, start, state.visible)
            state = joint_states(model, v, rng)
        state, _ = gibbs(sweeps, clamp=mask)(rng, model, state)
        mean = visible_means(model, state)
        if mask is not None:
            mean = _where(mask, state.visible, mean)
    return state, mean


def _where(mask: Any, yes: Any, no: Any) -> Any:
    chosen = no.copy()
    chosen[:, mask] = yes[:, mask]
    return chosen


@command("sample")
def sample(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder of a training run.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .png, or .npy/.npz for the states (Potts units: their numbers); "
            "samples-SEED.png beside the model if left out.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="How many.")] = 100,
    sweeps: Annotated[int, typer.Option(help="Gibbs sweeps of each chain.")] = 1000,
    clamp: Annotated[
        str | None,
        typer.Option(
            help="Pixels held at those of the first N rows of data: 'top half', ..., or a file "
            "with a mask."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Where held pixels, or else the starting states (rows at random), come from "
            "(mnist: test). For held ones the run's test set, or its own data, if left out."
        ),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help=f"For --data. {THRESHOLD_HELP}")] = None,
    means: Annotated[
        bool, typer.Option(help="Draw P(v | h) instead of the states (pictures only).")
    ] = True,
    image: Annotated[
        str | None, typer.Option("--image-shape", help="ROWSxCOLUMNS of the visible units.")
    ] = None,
    module: Annotated[str | None, typer.Option(help=MODULE_HELP)] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Draw samples by block Gibbs sampling, from random states or with pixels held.

    Sample i has the pixels of row i, from the first row again where there are too few.
    """
    n, sweeps = positive_int("sample", "n", n), positive_int("sample", "sweeps", sweeps)
    import_units("sample", module)
    path = model_path(model)
    if output is None:
        # samples.png in that folder is the training's
        output = path.parent / f"samples-{seed}.png"
    if output.suffix not in (".png", ".npy", ".npz"):
        raise ParameterError(f"sample: output {output}, expected a .png, .npy or .npz file")
    if output.exists() and not overwrite:
        raise ParameterError(
            f"sample: {output} exists, expected a new file with --output, or --overwrite"
        )
    if not output.parent.is_dir():
        raise ParameterError(
            f"sample: output {output}: no folder {output.parent}, expected one that exists"
        )
    machine = load_model(path, device=device)
    layer, shape, rng = machine.layers[0], parse_shape(image), Generator(seed)
    sites = pixels(machine)
    shape = image_shape(sites, shape, function="sample")
    mask = None
    if clamp is not None:
        held = clamp_mask_of(clamp, sites, shape)
        # all columns of a Potts site are held, or none
        mask = to_device(np.repeat(held, layer.num_units // sites), machine.device)
    start, held_at = None, ""
    if data is not None or clamp is not None:
        origin, rows = _rows(machine, path, data, threshold)
        picked = np.arange(len(rows)) if clamp else rng.split("start").permutation(len(rows))
        # chains beyond the number of rows start at rows that were used before
        start = check_data(machine, rows[np.resize(picked, n)], function="sample", support=True)
        first = f"{'all' if n >= len(rows) else 'the first'} {min(n, len(rows))} rows of {origin}"
        held_at = f", {clamp} held at {first}" if clamp else ""
    state, mean = draw(machine, rng, n, sweeps, start=start, mask=mask)
    if output.suffix == ".png":
        title = f"{n} chains after {sweeps:,} Gibbs sweeps" + (f", {clamp} held" if clamp else "")
        draw_states(machine, mean if means else state.visible, output, shape=shape, title=title)
    else:
        visible = state.visible
        states = asnumpy(layer.labels(visible) if isinstance(layer, PottsLayer) else visible)
        if output.suffix == ".npy":
            write_atomically(output, lambda file: np.save(file, states))
        else:
            write_atomically(output, lambda file: np.savez_compressed(file, data=states))
    out().print(f"{n} samples in {output}{held_at}")


def _rows(
    model: BoltzmannMachine, path: Path, name: str | None, threshold: float | None
) -> tuple[str, Any]:
    """A data set as states of the visible units, and what it is called: the run's own if None."""
    unit = unit_of(model.layers[0])
    if name is not None:
        split = test_of(name, None)[1]
        rows = read(name, split=split, unit=unit, threshold=threshold)
    else:
        trained = model_info(path).get("metadata", {}).get("settings", {})
        if not trained:
            raise ParameterError(f"sample: {path} does not name its data, expected --data")
        name, split, rows = own_data(trained, unit, threshold)
    return f"{name} ({split})" if name == "mnist" else name, rows
