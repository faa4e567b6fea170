"""`gpugrad info`: a model's summary, or what there is to compute on and why not more."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from gpugrad.backend import cuda
from gpugrad.backend.array_module import asnumpy, current_device, describe_devices
from gpugrad.boltzmann.checkpoint import load_model, model_info
from gpugrad.cli.app import command, out, version
from gpugrad.cli.data import split_of, test_of
from gpugrad.cli.evaluate import model_path, tell
from gpugrad.cli.machine import import_units
from gpugrad.cli.progress import figures
from gpugrad.cli.settings import DEFAULTS, MODULE_HELP
from gpugrad.errors import DeviceNotAvailableError, KernelError, ParameterError

__all__ = ["info"]


@command("info")
def info(
    model: Annotated[
        Path | None, typer.Argument(help="A model file or the folder of a training run.")
    ] = None,
    module: Annotated[str | None, typer.Option(help=MODULE_HELP)] = None,
) -> None:
    """Describe a model; without one, the devices, CuPy and kernels that are found, or why not."""
    import_units("info", module)
    if model is None:
        _machine()
    else:
        _model(model_path(model))


def _machine() -> None:
    console = out()
    console.print(f"gpugrad {version()}, numpy {np.__version__}")
    report = describe_devices()
    console.print(f"CuPy    {report.cupy_version or 'not found'}")
    for found in report.devices:
        console.print(
            f"{found.device!s:7} {found.name}, compute capability {found.compute_capability}, "
            f"{found.memory / 2**30:.0f} GiB"
        )
    if report.reason is not None:
        console.print(f"GPU     none: {report.reason}")
    try:
        console.print(f"default device: {current_device()}")
    except (DeviceNotAvailableError, ParameterError) as error:
        console.print(f"default device: none: {error}")
    state = "compiled at first use" if report.devices else "idle without a GPU"
    try:
        for name in cuda.sources():
            lines = cuda.source(name).count("\n")
            console.print(f"kernel  {name}: {lines} lines, {state}")
    except KernelError as error:
        console.print(f"kernels not found: {error}")


def _told(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not the default ones, and those that everybody asks for."""
    usual = json.loads(DEFAULTS.to_json())
    always = ("data", "method", "epochs", "learning_rate", "schedule", "seed")
    return {
        name: value
        for name, value in settings.items()
        if name in always or value != usual.get(name)
    }


def _model(path: Path) -> None:
    console = out()
    machine = load_model(path, device="cpu")
    metadata: dict[str, Any] = model_info(path).get("metadata", {})
    console.print(f"{path}: {machine!r}")
    for name, array in machine.parameters().items():
        host = asnumpy(array).astype("float64")
        console.print(
            f"  {name:<18} {'x'.join(map(str, host.shape)):>9}  mean {host.mean():+.4g}, "
            f"std {host.std():.4g}, in [{host.min():.4g}, {host.max():.4g}]"
        )
    settings = metadata.get("settings")
    if settings:
        console.print(f"trained with {json.dumps(_told(settings))}")
    history = metadata.get("history") or []
    if history:
        last = history[-1]
        console.print(f"after epoch {last['epoch']}: {figures(last, more=1)}".removesuffix(": "))
    found = metadata.get("evaluation")
    if found:
        if "split" not in found and settings:
            name, _ = test_of(settings["data"], settings.get("test"))
            found = found | {"split": split_of(name, settings)}
        tell(console, found)
