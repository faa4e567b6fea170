"""`gpugrad train`: from data to a trained machine, its pictures and its likelihood."""

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from gpugrad.atomic_file import remove_leftovers, write_atomically
from gpugrad.backend.array_module import on
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import datasets, schedules
from gpugrad.boltzmann.agreement import check_agreement, checksum
from gpugrad.boltzmann.callbacks import CheckpointWriter, JsonLines, StopOnSignal
from gpugrad.boltzmann.checkpoint import checkpoint_info, load_checkpoint, save_model
from gpugrad.boltzmann.communicator import Communicator, Serial, check_ranks, shards_of
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.logs import TensorBoard
from gpugrad.boltzmann.pictures import draw_curve, draw_filters, image_shape
from gpugrad.boltzmann.pretrain import pretrain
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import check_data
from gpugrad.boltzmann.streaming import Stream
from gpugrad.cli.app import command, out
from gpugrad.cli.data import (
    likelihood_label,
    own_data,
    read,
    some_rows,
    split_of,
    stream_of,
    test_of,
)
from gpugrad.cli.drawing import draw_states, last_chains, pixels, sample_sweeps, visible_means
from gpugrad.cli.evaluate import check_annealing, measure, tell
from gpugrad.cli.machine import (
    build_machine,
    check_units,
    import_units,
    sparsity_of,
    start_machine,
)
from gpugrad.cli.messages import SOURCES, for_options
from gpugrad.cli.progress import TrainingProgress, clock
from gpugrad.cli.ranks import one_voice
from gpugrad.cli.settings import (
    TrainSettings,
    from_folder,
    from_recipe,
    parse_shape,
    updated,
    with_settings,
)
from gpugrad.cli.trainers import (
    annealed_by,
    check_relevance,
    early_stopping,
    method_of,
    optimizer_of,
    sweeps,
)
from gpugrad.distributed import agreed, connect, rank_device
from gpugrad.errors import CheckpointError, DataError, DivergenceError, ParameterError

__all__ = ["build", "run_training", "train"]

PRETRAINING = "pretrain.safetensors"
WRITTEN = (
    "settings.json",
    "checkpoint.safetensors",
    PRETRAINING,
    "model.safetensors",
    "model.json",
    "log.jsonl",
    "filters.png",
    "samples.png",
    "curve.png",
)
BOARD = "tensorboard"
SAMPLE_SWEEPS = 1000
NOT_SETTINGS = {"recipe", "resume", "overwrite"}


@command("train")
@with_settings
def train(
    context: typer.Context,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of settings; options given here go before it.",
            rich_help_panel="Run",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in the folder.", rich_help_panel="Run"),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the files of an earlier run.", rich_help_panel="Run"
        ),
    ] = False,
    **options: Any,
) -> None:
    """Train a Boltzmann machine; watch its likelihood, filters and samples."""
    given = {
        name: value
        for name, value in options.items()
        # by name: some releases of typer bring a click of their own
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    settings, sources = TrainSettings(), context.meta.setdefault(SOURCES, {})
    if recipe is not None:
        found = from_recipe(recipe)
        settings = updated(settings, found, f"recipe {recipe}")
        sources |= dict.fromkeys(found, f"recipe {recipe}")
    folder = Path(given.get("output", settings.output))
    if resume:
        found = from_folder(folder / "settings.json")
        settings = updated(settings, found, f"{folder}/settings.json")
        sources |= dict.fromkeys(found, f"{folder}/settings.json")
    settings = updated(settings, given, "train")
    for name in given:
        sources.pop(name, None)
    link = connect(settings.communicator, device=settings.device, timeout=settings.rank_timeout)
    with one_voice(link, f"; `gpugrad train --resume --output {folder}` goes on"):
        how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "link": link}
        status = run_training(settings, out(link), **how)
        if link is not None:
            link.leave()
    if status:
        raise typer.Exit(status)


def build(settings: TrainSettings, link: Any = None) -> tuple[Trainer, Any]:
    """A trainer by the settings, and the data of the final likelihood; nothing is written.

    Parameters
    ----------
    settings : TrainSettings
    link : MPICommunicator, optional
        To the other processes of the job; nothing is said to them yet.

    Raises
    ------
    DataError, ParameterError, DeviceNotAvailableError
        Whatever is wrong with the settings or the data.
    """
    place = rank_device(settings.device, link)
    if settings.dtype not in ("float16", "float32", "float64"):
        raise ParameterError(
            f"train: dtype is {settings.dtype!r}, expected float16, float32 or float64"
        )
    if settings.seed < 0:
        raise ParameterError(f"train: seed is {settings.seed}, expected at least 0")
    check_relevance(settings)
    rate = schedules.get(settings.schedule, settings.learning_rate, final=settings.final_rate)
    optimizer = optimizer_of(settings)
    import_units("train", settings.module)
    check_units(settings)
    data, weight, validation = _training_data(settings)
    rng = Generator(settings.seed)
    model = build_machine(settings, data.shape[1], place, rng)
    _check_pretraining(settings, model)
    image_shape(pixels(model), parse_shape(settings.image_shape), function="train")
    with on(place), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)  # told below, in one line
        start_machine(model, data, rng, settings)
        trainer = Trainer(
            model,
            data,
            **method_of(settings, model),
            optimizer=optimizer,
            schedule=rate,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            centered=settings.centered,
            centering_rate=settings.centering_rate,
            gradient=settings.gradient,
            shuffle=settings.shuffle,
            average_epochs=settings.average_epochs,
            sample_weight=weight,
            missing=settings.missing,
            draw_states=settings.draw_states,
            sparsity=sparsity_of(settings),
            mean_field_steps=settings.mean_field_steps,
            rng=rng,
            shards=settings.shards,
            communicator=link,
        )
    for warning in told if link is None or link.rank == 0 else ():
        typer.echo(f"gpugrad: warning: {for_options('train', str(warning.message))}", err=True)
    stopping = early_stopping(settings, model, validation, _base_of(trainer), annealed_by(trainer))
    trainer.callbacks = [] if stopping is None else [stopping]
    held_out = _held_out(settings, trainer) if settings.evaluate else None
    chains = ("annealed_chains", settings.annealed_chains)
    check_annealing("train", model, held_out, settings.temperatures, chains)
    return trainer, held_out


def _training_data(settings: TrainSettings) -> tuple[Any, Any, Any]:
    """Samples (or a stream of them), their weights, and samples for early stopping."""
    how: dict[str, Any] = {"unit": settings.visible_units, "threshold": settings.threshold}
    validation = None
    if settings.validation is not None:
        if settings.holdout is not None:
            raise ParameterError("train: got both --validation and --holdout, expected one of them")
        validation = read(settings.validation, **how)
    if settings.stream:
        how |= {"block": settings.stream_block, "blocks": settings.stream_blocks}
        data: Any = stream_of(settings.data, key=settings.data_key, **how)
    else:
        data = read(settings.data, key=settings.data_key, **how)
    weight = None
    if settings.sample_weight is not None:
        weight = np.asarray(datasets.load(settings.sample_weight), "float64").reshape(-1)
    if settings.holdout is None:
        return data, weight, validation
    n = settings.holdout
    if settings.stream or not 0 < n < data.shape[0]:
        what = "a stream" if settings.stream else f"{data.shape[0]} samples"
        raise ParameterError(
            f"train: holdout is {n} of {what}, expected at least 1, fewer than the samples in "
            "memory"
        )
    return data[:-n], weight if weight is None else weight[:-n], data[-n:]


def _check_pretraining(settings: TrainSettings, model: Any) -> None:
    """Raise now what `pretrain` would raise after the folder is written."""
    if settings.pretrain < 0:
        raise ParameterError(f"train: pretrain is {settings.pretrain}, expected at least 0")
    if not settings.pretrain:
        return
    if not settings.pretrain_rate > 0:
        raise ParameterError(
            f"train: pretrain_rate is {settings.pretrain_rate}, expected a number above 0"
        )
    if model.num_layers < 2 or model.lateral:
        raise ParameterError(
            f"train: pretrain is {settings.pretrain} for {model!r}, expected two or more layers "
            "without couplings inside"
        )
    if settings.stream or settings.missing != "error":
        raise ParameterError(
            f"train: pretrain is {settings.pretrain}, expected 0 with --stream or --missing: it "
            "takes complete data in memory"
        )


def _base_of(trainer: Trainer) -> Any:
    """Training data in memory, for the base machine of an annealing."""
    return trainer.watched if isinstance(trainer.data, Stream) else trainer.data


def _held_out(settings: TrainSettings, trainer: Trainer) -> Any:
    """Data of the final likelihood; None where those to train on are grey, which have none."""
    model = trainer.model
    if settings.test is not None:
        # found now, not after an hour of training
        try:
            found = own_data(asdict(settings), settings.visible_units)[2]
            check_data(model, found, function="train", support=True)
        except DataError as error:
            what = str(error).partition(": ")[2]
            if settings.test in what:
                raise
            test = f"--test {settings.test}"
            what = f"{test}: {what}".replace(f"{test}: data ", f"{test} ")
            raise DataError(f"train: {what}") from error
        return found
    if isinstance(trainer.data, Stream):
        found = some_rows(trainer.data)
    else:
        quiet = trainer.communicator.rank > 0
        found = own_data(asdict(settings), settings.visible_units, quiet=quiet)[2]
    if not len(found):
        raise DataError(
            "train: no sample is complete, expected --test or --no-evaluate: the likelihood "
            "is that of complete samples"
        )
    try:
        check_data(model, found, function="train", support=True)
    except DataError:
        check_data(model, found, function="train")  # means pass here, anything else is refused
        return None
    return found


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


def _check_pretraining_left(trainer: Trainer, settings: TrainSettings, folder: Path) -> None:
    """Refuse to go on with pre-training that a run with other settings or data has begun."""
    left = checkpoint_info(folder / PRETRAINING)
    mine = {
        "model": trainer.model.config(),
        "data": checksum(check_data(trainer.model, trainer.data, function="pretrain")),
        "epochs": settings.pretrain,
        "batch_size": settings.batch_size,
        "learning_rate": settings.pretrain_rate,
    }
    check_agreement("pretrain", left.get("settings", {}), mine)
    try:
        key = Generator.from_state(left.get("rng", {})).key
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"train: {folder / PRETRAINING} is damaged ({error})") from error
    _check_seed(key, settings, folder)


def _check_seed(key: tuple[int, int], settings: TrainSettings, folder: Path) -> None:
    """Refuse to go on with another seed: the checkpoint's would go on deciding."""
    if key != Generator(settings.seed).key:
        was = from_folder(folder / "settings.json").get("seed", "another one")
        raise CheckpointError(
            f"train: the checkpoint was made with seed {was}, expected {settings.seed}"
        )


def run_training(
    settings: TrainSettings,
    console: Console,
    *,
    resume: bool = False,
    overwrite: bool = False,
    link: Any = None,
) -> int:
    """Train by the settings and write everything; returns the exit status.

    Of several ranks, linked by `link`, the first one writes.
    """
    folder = Path(settings.output)
    # kept in the folder: whatever goes on from there, a single process too, takes as many
    settings = replace(settings, shards=shards_of("train", settings.shards, link))
    communicator: Communicator = Serial() if link is None else link
    first = communicator.rank == 0
    check_ranks(communicator, "train", {**asdict(settings), "device": None})
    checkpoint = folder / "checkpoint.safetensors"
    with agreed(communicator):
        _prepare(folder, resume=resume, overwrite=overwrite)
        trainer, held_out = build(settings, link)
        going_on = resume and checkpoint.exists()
        if going_on:
            trainer.load_state_dict(*load_checkpoint(checkpoint))
            _check_seed(trainer.rng.key, settings, folder)
        elif resume and (folder / PRETRAINING).exists():
            _check_pretraining_left(trainer, settings, folder)
        # checked before anything is written
        writer = CheckpointWriter(checkpoint, settings.checkpoint_seconds)
        board = _tensorboard(settings, folder)
        stopper = StopOnSignal()
    trainer.check_ranks()
    with agreed(communicator):
        if first:
            _clear(settings, folder, overwrite=overwrite)
    ranks = f" on {communicator.size} ranks" if communicator.size > 1 else ""
    console.print(
        f"{trainer.model!r} on {trainer.n_samples:,} samples of {settings.data}: "
        f"{_method(settings)}, {_counted(trainer.epochs, 'epoch')} of "
        f"{_counted(trainer.n_batches, 'update')}{ranks}"
        + (f"; going on at step {trainer.step:,}" if going_on else "")
    )
    if settings.pretrain and not going_on:
        _pretrain(trainer, settings, console)
    # what adds to the record of an epoch comes before those that write it
    trainer.callbacks = [
        stopper,
        writer,
        *trainer.callbacks,
        JsonLines(folder / "log.jsonl"),
        *board,
        TrainingProgress(console),
    ]
    try:
        trainer.run()
    except DivergenceError as error:
        raise DivergenceError(
            f"{error}; the last good state is in {checkpoint}; --overwrite starts anew"
        ) from error
    if first:
        (folder / PRETRAINING).unlink(missing_ok=True)  # the checkpoint holds all of it by now
    if stopper.signal is not None and not trainer.finished:
        console.print(
            f"stopped at step {trainer.step:,}; `gpugrad train --resume --output {folder}` goes on"
        )
        return 128 + stopper.signal  # as shells tell of a signal
    if not trainer.finished:
        console.print(f"no gain any more: stopped early, after epoch {trainer.epoch}")
    _finish(trainer, held_out, settings, folder, console)
    return 0


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _clear(settings: TrainSettings, folder: Path, *, overwrite: bool) -> None:
    """Make the folder, remove what an earlier run left, and leave the settings in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        for name in WRITTEN:
            (folder / name).unlink(missing_ok=True)
        for events in (folder / BOARD).glob("events.out.tfevents.*"):
            events.unlink()
    remove_leftovers(folder / "settings.json")
    write_atomically(folder / "settings.json", settings.to_json())


def _tensorboard(settings: TrainSettings, folder: Path) -> list[TensorBoard]:
    """The callback, with filters and histograms twenty times in the run; none if not asked for."""
    if not settings.tensorboard:
        return []
    shape, every = parse_shape(settings.image_shape), max(1, settings.epochs // 20)
    return [TensorBoard(folder / BOARD, details_every=every, shape=shape)]


def _pretrain(trainer: Trainer, settings: TrainSettings, console: Console) -> None:
    def told(module: int, epoch: int, error: float) -> None:
        console.print(
            f"pre-training layers {module} and {module + 1}, epoch {epoch + 1}/{settings.pretrain}"
            f"  reconstruction {error:.4f}"
        )

    pretrain(
        trainer.model,
        trainer.data,
        rng=trainer.rng,
        epochs=settings.pretrain,
        batch_size=settings.batch_size,
        learning_rate=settings.pretrain_rate,
        start=False,
        progress=told,
        checkpoint=Path(settings.output) / PRETRAINING,
        communicator=trainer.communicator,
    )


def _method(settings: TrainSettings) -> str:
    centered = "centred " if settings.centered else ""
    rate = f"rate {settings.learning_rate:g} {settings.schedule}"
    rule = "" if settings.optimizer == "sgd" else f"{settings.optimizer}, "
    return f"{centered}{settings.method.upper()}-{sweeps(settings)}, {rule}{rate}"


def _save(trainer: Trainer, settings: TrainSettings, folder: Path, evaluation: Any) -> None:
    if trainer.communicator.rank:
        return
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
    _save(trainer, settings, folder, None)  # whatever stops the evaluation, the model is there
    try:
        _evaluate_and_draw(trainer, held_out, settings, folder, console)
    except KeyboardInterrupt:
        console.print(
            f"stopped after training; the model is in {folder}/, and "
            f"`gpugrad train --resume --output {folder}` finishes likelihood and pictures"
        )
        raise


def _evaluate_and_draw(
    trainer: Trainer, held_out: Any, settings: TrainSettings, folder: Path, console: Console
) -> None:
    model, rng = trainer.model, trainer.rng.split("after training")
    found = None
    name, _ = test_of(settings.data, settings.test)
    split = split_of(name, asdict(settings))
    if settings.evaluate and held_out is None:
        known = " and ".join(f"{s:g}" for s in model.layers[0].support)
        console.print(
            f"no log-likelihood: it is defined for the states {known} only, and the data have "
            "other values; --threshold makes states of grey ones, --test names a file of states"
        )
    elif settings.evaluate:
        found = measure(
            model,
            held_out,
            _base_of(trainer),
            rng.split("evaluation"),
            temperatures=settings.temperatures,
            chains=settings.annealed_chains,
            console=console,
            name=name,
            split=split,
            **annealed_by(trainer),
        )
        _save(trainer, settings, folder, found)
    _draw(trainer, settings, folder, rng.split("samples"), found, likelihood_label(split))
    console.print(f"trained in {clock(trainer.seconds)}; model, log and pictures are in {folder}/")
    if found is not None:
        tell(console, found)


def _draw(
    trainer: Trainer,
    settings: TrainSettings,
    folder: Path,
    rng: Generator,
    found: dict[str, Any] | None,
    label: str,
) -> None:
    model, shape = trainer.model, parse_shape(settings.image_shape)
    number = sample_sweeps(model, SAMPLE_SWEEPS)
    with on(model.device):
        chains = last_chains(trainer, 100, rng)
        if trainer.communicator.rank:
            return
        state, _ = gibbs(number)(rng, model, chains)
        visible = visible_means(model, state)
    title = f"{visible.shape[0]} chains, {number:,} Gibbs sweeps after training"
    if visible is not state.visible:
        title += ", P(v | h)"
    draw_filters(model, folder / "filters.png", shape=shape)
    draw_states(model, visible, folder / "samples.png", shape=shape, title=title)
    likelihood = None
    if found is not None:
        likelihood = found.get("optimistic", found)["log_likelihood"]
    sizes = "x".join(str(layer.num_units) for layer in model.layers)
    draw_curve(
        trainer.history,
        folder / "curve.png",
        title=f"{sizes}, {_method(settings)}, seed {settings.seed}",
        likelihood=likelihood,
        likelihood_label=label,
    )
