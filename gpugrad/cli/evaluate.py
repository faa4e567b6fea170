"""`gpugrad evaluate`: log Z and the mean log-likelihood of test images, from both sides."""

import json
import math
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.checkpoint import checkpoint_info, load_model, model_info
from gpugrad.boltzmann.communicator import Serial, check_ranks
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.partition import (
    Estimate,
    ais,
    exact_log_partition,
    has_marginal,
    is_enumerable,
    likelihood_bounds,
    raise_,
)
from gpugrad.boltzmann.state import check_data, positive_int
from gpugrad.cli.app import command, out
from gpugrad.cli.data import likelihood_label, own_data, read, split_of, test_of
from gpugrad.cli.machine import import_units, unit_of
from gpugrad.cli.progress import stage
from gpugrad.cli.ranks import one_voice
from gpugrad.cli.settings import MODULE_HELP, THRESHOLD_HELP
from gpugrad.distributed import agreed, connect, rank_device
from gpugrad.errors import DataError, ModelFileError, ParameterError

__all__ = ["check_annealing", "evaluate", "measure", "model_path", "tell"]

FEW = 5
"""The effective sample size below which a standard error says nothing."""


def model_path(path: Path) -> Path:
    """A model file as it is; for a folder of a training run, the model in it.

    Raises
    ------
    ModelFileError
        A folder without a model; of an unfinished run, the message says how to go on.
    """
    if not path.is_dir():
        return path
    found, checkpoint = path / "model.safetensors", path / "checkpoint.safetensors"
    if found.exists():
        return found
    go_on = f"gpugrad train --resume -o {shlex.quote(str(path))}"
    if checkpoint.exists():
        metadata = checkpoint_info(checkpoint)
        try:
            step, settings = metadata["position"]["step"], metadata["settings"]
            updates = math.ceil(settings["data"]["shape"][0] / settings["batch_size"])
            total = settings["epochs"] * updates
        except (KeyError, TypeError) as error:
            raise ModelFileError(f"load: the metadata of {checkpoint} are damaged") from error
        raise ModelFileError(f"{path}: unfinished run at step {step} of {total}: {go_on}")
    if (path / "settings.json").exists():
        raise ModelFileError(f"{path}: unfinished run, no checkpoint yet: {go_on}")
    raise ModelFileError(f"load: {path} is a folder without a model.safetensors: no such file")


def check_annealing(
    command: str, model: BoltzmannMachine, test: Any, temperatures: int, chains: tuple[str, int]
) -> None:
    """Refuse what `measure` could not do with; also where nothing has to be annealed.

    Raises
    ------
    ParameterError
        No temperature, or a single chain; `chains` is the option's name and its value.
    DataError
        A single test sample for a machine that has to be annealed.
    """
    positive_int(command, "temperatures", temperatures)
    if chains[1] < 2:
        raise ParameterError(f"{command}: {chains[0]} is {chains[1]}, expected at least 2")
    if test is not None and test.shape[0] < 2 and not is_enumerable(model):
        raise DataError(
            f"{command}: one test sample, expected two or more, which annealing starts from"
        )


def measure(
    model: BoltzmannMachine,
    test: Any,
    base: Any,
    rng: Generator,
    *,
    temperatures: int,
    chains: int,
    console: Console,
    name: str,
    split: str,
    shards: int | None = None,
    communicator: Any = None,
) -> dict[str, Any]:
    """log Z and mean log-likelihood of data, in a dictionary that JSON can hold.

    log Z is exact where few enough states have to be listed (25 two-valued units); else by annealed
    importance sampling, with which the likelihood errs high, and by reverse annealing from test
    samples, with which it errs low. The likelihood of a deep machine is a lower bound by mean field
    ("bound" is true): with AIS it may err either way.

    Parameters
    ----------
    model : BoltzmannMachine
    test : array (num_samples, num_visible)
        States of the visible units, the data of the likelihood.
    base : array (num_samples, num_visible)
        Data whose means the base machine of the annealing takes.
    rng : Generator
    temperatures, chains : int
    console : Console
    name, split : str
        The data and what they were to the training, as `split_of` says; kept in the result.
    shards, communicator
        Of the annealing, as `ais` takes them.
    """
    start = time.monotonic()
    test = check_data(model, test, function="evaluate", support=True)
    found: dict[str, Any] = {"data": name, "split": split, "test_samples": int(test.shape[0])}
    found["bound"] = not has_marginal(model)
    if is_enumerable(model):
        log_z = exact_log_partition(model)
        found |= {"method": "exact", "log_z": log_z, **_likelihood(model, test, log_z)}
        found["seconds"] = round(time.monotonic() - start, 2)
        return found
    ranks: dict[str, Any] = {"shards": shards, "communicator": communicator}
    picked = np.sort(rng.split("test samples").permutation(test.shape[0])[:chains])
    with stage(console, "annealing up (AIS)") as progress:
        optimistic = ais(
            model,
            rng.split("ais"),
            n_temperatures=temperatures,
            n_chains=chains,
            data=base,
            progress=progress,
            **ranks,
        )
    with stage(console, "annealing down (RAISE)") as progress:
        conservative = raise_(
            model,
            test[picked],
            rng.split("raise"),
            n_temperatures=temperatures,
            data=base,
            progress=progress,
            **ranks,
        )
    found |= {"method": "annealing", "temperatures": temperatures, "chains": chains}
    for side, estimate in (("optimistic", optimistic), ("conservative", conservative)):
        found[side] = _side(model, test, estimate)
    found["seconds"] = round(time.monotonic() - start, 2)
    return found


def _likelihood(model: BoltzmannMachine, test: Any, log_z: Any) -> dict[str, float]:
    values = likelihood_bounds(model, test, log_z)  # exact where there is a marginal
    spread = float(np.std(values, ddof=1)) if values.size > 1 else math.nan
    return {
        "log_likelihood": float(np.mean(values)),
        "sampling_error": spread / math.sqrt(values.size),
    }


def _side(model: BoltzmannMachine, test: Any, estimate: Estimate) -> dict[str, Any]:
    return {
        "estimator": estimate.method,
        "log_z": estimate.log_z,
        "error": estimate.error if math.isfinite(estimate.error) else None,
        "ess": estimate.ess,
        **_likelihood(model, test, estimate.log_z),
    }


def tell(console: Console, found: dict[str, Any]) -> None:
    """Print what `measure` found."""
    n = found["test_samples"]
    # a model of an earlier version does not say
    label = f"{likelihood_label(found.get('split', 'other')):<19}"
    if found["method"] == "exact":
        console.print(f"log Z                {found['log_z']:.4f}  exact, all states summed")
        kind = "lower bound by mean field" if found.get("bound") else "exact"
        console.print(
            f"{label}  {found['log_likelihood']:.2f} nats, {kind} "
            f"(mean of {n:,} samples, their spread makes +-{found['sampling_error']:.2f})"
        )
        return
    high, low = found["optimistic"], found["conservative"]
    console.print(
        f"log Z                {high['log_z']:.2f}{_error(high)} by AIS, effective sample size "
        f"{high['ess']:.1f} of {found['chains']};  {low['log_z']:.2f}{_error(low)} by RAISE"
    )
    side = "lower bound by mean field" if found.get("bound") else "errs high"
    console.print(
        f"{label}  {high['log_likelihood']:.2f}{_error(high)} nats by AIS ({side}), "
        f"conservative {low['log_likelihood']:.2f}{_error(low)} by RAISE (errs low); "
        f"mean of {n:,} samples, {found['temperatures']:,} temperatures"
    )
    # of few chains any effective sample size is small
    if high["ess"] < min(FEW, found["chains"] / 2):
        console.print(
            f"an effective sample size below {FEW} makes the error of AIS mean nothing: its figure "
            "rests on a few chains; take more --temperatures"
        )
    gap = high["log_likelihood"] - low["log_likelihood"]
    # None: infinite, which explains any gap
    errors = [math.inf if side["error"] is None else side["error"] for side in (high, low)]
    if gap > 2:
        console.print(
            f"the two sides are {gap:.1f} nats apart: take more --temperatures for a closer bracket"
        )
    elif gap < -3 * math.hypot(*errors):
        # RAISE bounds the annealing process, which is not the machine yet
        console.print(
            f"the conservative side lies {-gap:.1f} nats above the other, so neither is near the "
            "truth: take more --temperatures"
        )


def _error(side: dict[str, Any]) -> str:
    return " +-inf" if side["error"] is None else f" +-{side['error']:.2f}"


@command("evaluate")
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder of a training run.")],
    data: Annotated[
        str | None,
        typer.Argument(help="mnist, or an IDX, NPY, NPZ or HDF5 file; as trained on if left out."),
    ] = None,
    data_key: Annotated[str | None, typer.Option(help="Array of an NPZ or HDF5 file.")] = None,
    threshold: Annotated[float | None, typer.Option(help=THRESHOLD_HELP)] = None,
    temperatures: Annotated[int, typer.Option(help="Annealing steps.")] = 10_000,
    chains: Annotated[int, typer.Option(help="Annealing chains, up and down.")] = 100,
    module: Annotated[str | None, typer.Option(help=MODULE_HELP)] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON instead.")
    ] = False,
) -> None:
    """Estimate log Z and the mean log-likelihood of data: the run's test set, or what is given.

    Processes that mpirun or srun has started share the chains.
    """
    link = connect(device=device)
    with one_voice(link):
        console = out(link)
        communicator = Serial() if link is None else link
        told = {"data": data, "data_key": data_key, "threshold": threshold, "seed": seed}
        check_ranks(
            communicator, "evaluate", {**told, "temperatures": temperatures, "chains": chains}
        )
        with agreed(communicator):
            import_units("evaluate", module)
            path = model_path(model)
            machine = load_model(path, device=rank_device(device, link))
            trained = model_info(path).get("metadata", {}).get("settings", {})
            if data is None and data_key is not None:
                raise ParameterError(
                    f"evaluate: --data-key is {data_key!r}, expected it with an argument DATA"
                )
            if data is None and not trained:
                raise ParameterError(
                    f"evaluate: {path} does not name its data, expected an argument DATA"
                )
            unit = unit_of(machine.layers[0])
            if data is None:
                name, _, test = own_data(trained, unit, threshold, quiet=console.quiet)
            else:
                name, split = test_of(data, None)
                test = read(name, split=split, unit=unit, key=data_key, threshold=threshold)
            check_annealing("evaluate", machine, test, temperatures, ("chains", chains))
            base = read(name, unit=unit) if name == "mnist" else test
        found = measure(
            machine,
            test,
            base,
            Generator(seed),
            temperatures=temperatures,
            chains=chains,
            console=console,
            name=name,
            split=split_of(name, trained),
            communicator=link,
        )
        if link is not None:
            link.leave()
    if json_output and not console.quiet:
        typer.echo(json.dumps(found))
    elif not json_output:
        console.print(f"{machine!r}, data {name}")
        tell(console, found)
