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
from gpugrad.errors import DeviceNotAvailableError, KernelError, ParameterError

__all__ = ["info"]


@command("info")
def info(
    model: Annotated[
        Path | None, typer.Argument(help="A model file or the folder of a training run.")
    ] = None,
) -> None:
    """Describe a model; without one, the devices, CuPy and kernels that are found, or why not."""
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
    for name in ("philox.cu", "gibbs.cu"):
        try:
            lines = cuda.source(name).count("\n")
        except KernelError as error:
            console.print(f"kernel  {name}: not found ({error})")
            continue
        state = "compiled at first use" if report.devices else "idle without a GPU"
        console.print(f"kernel  {name}: {lines} lines, {state}")


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
        told = {name: value for name, value in settings.items() if value is not None}
        console.print(f"trained with {json.dumps(told)}")
    history = metadata.get("history") or []
    if history:
        last = history[-1]
        console.print(
            f"after epoch {last['epoch']}: pseudo-likelihood {last['pseudo_likelihood']:.2f}, "
            f"reconstruction error {last['reconstruction_error']:.4f}"
        )
    found = metadata.get("evaluation")
    if found:
        if "split" not in found and settings:
            name, _ = test_of(settings["data"], settings.get("test"))
            found = found | {"split": split_of(name, settings)}
        tell(console, found)
