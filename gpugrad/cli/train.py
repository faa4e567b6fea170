"""`gpugrad train`: from data to a trained machine, its pictures and its likelihood."""

import json
import math
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gpugrad.backend.array_module import current_device, on, parse_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import optimizers, schedules
from gpugrad.boltzmann.callbacks import CheckpointWriter, JsonLines, StopOnSignal
from gpugrad.boltzmann.checkpoint import (
    load_checkpoint,
    remove_leftovers,
    save_model,
    write_atomically,
)
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.pictures import draw_curve, draw_filters, draw_samples, image_shape
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State, check_data, positive_int
from gpugrad.cli.app import command, out
from gpugrad.cli.data import THRESHOLD_HELP, likelihood_label, read, split_of, test_of
from gpugrad.cli.evaluate import check_annealing, measure, tell
from gpugrad.cli.progress import TrainingProgress, clock
from gpugrad.cli.settings import TrainSettings, from_folder, from_recipe, parse_shape, updated
from gpugrad.errors import DivergenceError, ParameterError

__all__ = ["build", "run_training", "train"]

WRITTEN = (
    "settings.json",
    "checkpoint.safetensors",
    "model.safetensors",
    "model.json",
    "log.jsonl",
    "filters.png",
    "samples.png",
    "curve.png",
)
SAMPLE_SWEEPS = 1000
UNITS = ("bernoulli", "ising")
NOT_SETTINGS = {"recipe", "resume", "overwrite"}

Text = str | None


@command("train")
def train(
    context: typer.Context,
    data: Annotated[
        str, typer.Argument(help="mnist (embedded), or an IDX, NPY, NPZ or HDF5 file.")
    ] = TrainSettings.data,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The folder of this run.")
    ] = TrainSettings.output,
    recipe: Annotated[
        Path | None, typer.Option(help="A TOML file of settings; options given here go before it.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier run.")
    ] = False,
    hidden: Annotated[int, typer.Option(help="Hidden units.")] = TrainSettings.hidden,
    visible_units: Annotated[
        str, typer.Option(help="bernoulli (0, 1) or ising (-1, 1).")
    ] = TrainSettings.visible_units,
    hidden_units: Annotated[str, typer.Option()] = TrainSettings.hidden_units,
    method: Annotated[
        str, typer.Option(help="pcd: persistent chains; cd: chains from the data.")
    ] = TrainSettings.method,
    k: Annotated[int, typer.Option("--k", help="Gibbs sweeps an update.")] = TrainSettings.k,
    chains: Annotated[
        int | None, typer.Option(help="Persistent chains; the batch size if left out.")
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate at the start.")
    ] = TrainSettings.learning_rate,
    schedule: Annotated[
        str, typer.Option(help="constant, linear, exponential or step.")
    ] = TrainSettings.schedule,
    final_rate: Annotated[
        float | None, typer.Option(help="Rate at the end; linear: 0, exponential: 1/100.")
    ] = None,
    momentum: Annotated[float, typer.Option()] = TrainSettings.momentum,
    epochs: Annotated[int, typer.Option()] = TrainSettings.epochs,
    batch_size: Annotated[int, typer.Option()] = TrainSettings.batch_size,
    shuffle: Annotated[bool, typer.Option(help="A new order each epoch.")] = TrainSettings.shuffle,
    average_epochs: Annotated[
        float, typer.Option(help="Last epochs over which the final parameters are averaged.")
    ] = TrainSettings.average_epochs,
    seed: Annotated[int, typer.Option()] = TrainSettings.seed,
    device: Annotated[Text, typer.Option(help="cpu, cuda, cuda:1.")] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, float64 or float16, of all parameters.")
    ] = TrainSettings.dtype,
    gradient: Annotated[str, typer.Option(help="analytic or autodiff.")] = TrainSettings.gradient,
    centered: Annotated[bool, typer.Option(help="Centred gradient.")] = TrainSettings.centered,
    centering_rate: Annotated[float, typer.Option()] = TrainSettings.centering_rate,
    init: Annotated[str, typer.Option(help="Weights: normal or uniform.")] = TrainSettings.init,
    init_scale: Annotated[
        float | None, typer.Option(help="Standard deviation, or bound, of the first weights.")
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(help="Clip of the data's means for the first visible bias.")
    ] = None,
    data_key: Annotated[Text, typer.Option(help="Array of an NPZ or HDF5 file.")] = None,
    test: Annotated[Text, typer.Option(help="File of test samples; mnist brings its own.")] = None,
    threshold: Annotated[float | None, typer.Option(help=THRESHOLD_HELP)] = None,
    image_shape: Annotated[Text, typer.Option(help="ROWSxCOLUMNS of the visible units.")] = None,
    checkpoint_seconds: Annotated[
        float, typer.Option(help="Between two checkpoints.")
    ] = TrainSettings.checkpoint_seconds,
    evaluate: Annotated[
        bool, typer.Option(help="Measure the log-likelihood at the end: of --test if given.")
    ] = TrainSettings.evaluate,
    temperatures: Annotated[
        int, typer.Option(help="Annealing steps of that.")
    ] = TrainSettings.temperatures,
    annealed_chains: Annotated[
        int, typer.Option(help="Annealing chains of that.")
    ] = TrainSettings.annealed_chains,
) -> None:
    """Train a restricted Boltzmann machine; watch its likelihood, filters and samples."""
    given = {
        name: value
        for name, value in context.params.items()
        if name not in NOT_SETTINGS
        # by name: some releases of typer bring a click of their own
        and getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    settings = TrainSettings()
    if recipe is not None:
        settings = updated(settings, from_recipe(recipe), f"recipe {recipe}")
    folder = Path(given.get("output", settings.output))
    if resume:
        before = from_folder(folder / "settings.json")
        settings = updated(settings, before, f"{folder}/settings.json")
    settings = updated(settings, given, "train")
    status = run_training(settings, out(), resume=resume, overwrite=overwrite)
    if status:
        raise typer.Exit(status)


def build(settings: TrainSettings) -> tuple[Trainer, Any]:
    """A trainer by the settings, and the test data; nothing is written.

    Raises
    ------
    DataError, ParameterError, DeviceNotAvailableError
        Whatever is wrong with the settings or the data.
    """
    place = current_device() if settings.device is None else parse_device(settings.device)
    if settings.dtype not in ("float16", "float32", "float64"):
        raise ParameterError(
            f"train: dtype is {settings.dtype!r}, expected float16, float32 or float64"
        )
    if settings.seed < 0:
        raise ParameterError(f"train: seed is {settings.seed}, expected at least 0")
    rate = schedules.get(settings.schedule, settings.learning_rate, final=settings.final_rate)
    optimizer = optimizers.SGD(settings.momentum)
    positive_int("train", "hidden", settings.hidden)
    for option in ("visible_units", "hidden_units"):
        if getattr(settings, option).lower() not in UNITS:
            raise ParameterError(
                f"train: --{option.replace('_', '-')} is {getattr(settings, option)!r}, expected "
                f"{' or '.join(UNITS)}"
            )
    scale = settings.init_scale
    if scale is not None and not 0 <= scale < math.inf:
        raise ParameterError(
            f"train: init_scale is {scale}, expected a finite number of at least 0"
        )
    unit, threshold = settings.visible_units, settings.threshold
    data = read(settings.data, key=settings.data_key, unit=unit, threshold=threshold)
    rng = Generator(settings.seed)
    with on(place):
        model = RBM(
            data.shape[1],
            settings.hidden,
            visible=settings.visible_units,
            hidden=settings.hidden_units,
            dtype=settings.dtype,
            device=place,
            rng=rng,
        )
        image_shape(data.shape[1], parse_shape(settings.image_shape))
        trainer = Trainer(
            model,
            data,
            method=settings.method,
            k=settings.k,
            n_chains=settings.chains,
            optimizer=optimizer,
            schedule=rate,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            centered=settings.centered,
            centering_rate=settings.centering_rate,
            gradient=settings.gradient,
            shuffle=settings.shuffle,
            average_epochs=settings.average_epochs,
            rng=rng,
        )
        initialize(
            model,
            trainer.data,
            rng,
            scheme=settings.init,
            scale=settings.init_scale,
            min_probability=settings.min_probability,
        )
    held_out = None
    if settings.evaluate:
        name, split = test_of(settings.data, settings.test)
        key = settings.data_key if settings.test is None else None
        held_out = read(name, split=split, key=key, unit=unit, threshold=threshold)
        # found now, not after an hour of training
        check_data(model, held_out, function="train", support=True)
    chains = ("annealed_chains", settings.annealed_chains)
    check_annealing("train", model, held_out, settings.temperatures, chains)
    return trainer, held_out


def _prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder with something in it unless told otherwise."""
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"train: output {folder} is a file, expected a folder")
    if resume and overwrite:
        raise ParameterError("train: got both --resume and --overwrite, expected one of them")
    # a run leaves its settings before anything else, and may be killed before its first checkpoint
    if resume and not any((folder / name).exists() for name in WRITTEN[:2]):
        raise ParameterError(
            f"train: nothing to resume in {folder}, expected a folder with settings.json or "
            "checkpoint.safetensors of an earlier run"
        )
    # killed while it wrote them, it has left no more than their temporary file
    occupied = folder.is_dir() and any(
        not path.name.startswith(".settings.json.") for path in folder.iterdir()
    )
    if occupied and not resume and not overwrite:
        raise ParameterError(
            f"train: output folder {folder} exists, expected a new one, --resume or --overwrite"
        )


def run_training(
    settings: TrainSettings, console: Console, *, resume: bool = False, overwrite: bool = False
) -> int:
    """Train by the settings and write everything; returns the exit status."""
    folder = Path(settings.output)
    _prepare(folder, resume=resume, overwrite=overwrite)
    trainer, held_out = build(settings)
    checkpoint = folder / "checkpoint.safetensors"
    going_on = resume and checkpoint.exists()
    if going_on:
        trainer.load_state_dict(*load_checkpoint(checkpoint))
    # checked before anything is written
    writer = CheckpointWriter(checkpoint, settings.checkpoint_seconds)
    stopper = StopOnSignal()
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        for name in WRITTEN:
            (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder / "settings.json")
    write_atomically(folder / "settings.json", settings.to_json())
    console.print(
        f"{trainer.model!r} on {trainer.n_samples:,} samples of {settings.data}: "
        f"{_method(settings)}, {trainer.epochs} epochs of {trainer.n_batches} updates"
        + (f"; going on at step {trainer.step:,}" if going_on else "")
    )
    trainer.callbacks = [
        stopper,
        writer,
        JsonLines(folder / "log.jsonl"),
        TrainingProgress(console),
    ]
    try:
        trainer.run()
    except DivergenceError as error:
        raise DivergenceError(
            f"{error}; the last good state is in {checkpoint}; --overwrite starts anew"
        ) from error
    if not trainer.finished:
        console.print(
            f"stopped at step {trainer.step:,}; `gpugrad train --resume --output {folder}` goes on"
        )
        return 128 + (stopper.signal or signal.SIGINT)
    _finish(trainer, held_out, settings, folder, console)
    return 0


def _method(settings: TrainSettings) -> str:
    centered = "centred " if settings.centered else ""
    rate = f"rate {settings.learning_rate:g} {settings.schedule}"
    return f"{centered}{settings.method.upper()}-{settings.k}, {rate}"


def _save(trainer: Trainer, settings: TrainSettings, folder: Path, evaluation: Any) -> None:
    metadata = {
        "settings": asdict(settings),
        "history": trainer.history,
        "evaluation": evaluation,
    }
    save_model(trainer.model, folder / "model.safetensors", **metadata)
    described = json.dumps({"config": trainer.model.config(), **metadata}, indent=1)
    write_atomically(folder / "model.json", described.encode() + b"\n")


def _finish(
    trainer: Trainer, held_out: Any, settings: TrainSettings, folder: Path, console: Console
) -> None:
    """Likelihood, model, pictures: each can be made again from the final checkpoint."""
    model, rng = trainer.model, trainer.rng.split("after training")
    found = None
    name, _ = test_of(settings.data, settings.test)
    split = split_of(name, asdict(settings))
    _save(trainer, settings, folder, found)  # whatever stops the evaluation, the model is there
    if settings.evaluate:
        found = measure(
            model,
            held_out,
            trainer.data,
            rng.split("evaluation"),
            temperatures=settings.temperatures,
            chains=settings.annealed_chains,
            console=console,
            name=name,
            split=split,
        )
        _save(trainer, settings, folder, found)
    shape = parse_shape(settings.image_shape)
    draw_filters(model, folder / "filters.png", shape=shape)
    with on(model.device):
        draws = rng.split("samples")
        if settings.method == "pcd":
            hidden = trainer.phases.hidden[:100]
        else:
            hidden = model.conditional_sample(1, State((trainer.watched[:100], None)), rng=draws)
        state, _ = gibbs(SAMPLE_SWEEPS)(draws, model, State((None, hidden)))
        means = model.conditional_mean(0, state)
    draw_samples(
        means,
        folder / "samples.png",
        shape=shape,
        limits=model.layers[0].data_range,
        title=f"{means.shape[0]} chains, {SAMPLE_SWEEPS:,} Gibbs sweeps after training, P(v | h)",
    )
    likelihood = None
    if found is not None:
        likelihood = found.get("optimistic", found)["log_likelihood"]
    sizes = "x".join(str(layer.num_units) for layer in model.layers)
    draw_curve(
        trainer.history,
        folder / "curve.png",
        title=f"{sizes}, {_method(settings)}, seed {settings.seed}",
        likelihood=likelihood,
        likelihood_label=likelihood_label(split),
    )
    console.print(f"trained in {clock(trainer.seconds)}; model, log and pictures are in {folder}/")
    if found is not None:
        tell(console, found)
