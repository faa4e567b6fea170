"""`gpugrad export` and `gpugrad import`: machines for other packages, and from them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gpugrad.boltzmann.checkpoint import load_model, save_model
from gpugrad.boltzmann.interchange import FORMATS, format_of
from gpugrad.cli.app import command, out
from gpugrad.cli.evaluate import MODULE_HELP, model_path
from gpugrad.cli.machine import import_units
from gpugrad.errors import ParameterError

__all__ = ["export", "import_"]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
Module = Annotated[str | None, typer.Option(help=MODULE_HELP)]


def _check_format(command: str, form: str) -> str:
    if form not in FORMATS:
        raise ParameterError(f"{command}: --format is {form!r}, expected one of {list(FORMATS)}")
    return form


def _check_target(command: str, path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise ParameterError(f"{command}: {path} is a folder, expected a file")
    if path.exists() and not overwrite:
        raise ParameterError(f"{command}: {path} exists, expected a new file, or --overwrite")


@command("export")
def export(
    model: Annotated[Path, typer.Argument(help="A model file or the folder of a training run.")],
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    form: Annotated[
        str | None,
        typer.Option("--format", help="npz, paysage or rbms; npz if left out for a *.npz file."),
    ] = None,
    overwrite: Overwrite = False,
    module: Module = None,
) -> None:
    """Write a machine's parameters for another package: NumPy, paysage or rbms."""
    import_units("export", module)
    if form is None and file.suffix != ".npz":
        raise ParameterError(
            f"export: {file} tells no format, expected a name that ends in .npz, or --format "
            f"{' or '.join(FORMATS)}"
        )
    form = _check_format("export", form or "npz")
    _check_target("export", file, overwrite)
    machine = load_model(model_path(model), device="cpu")
    FORMATS[form][1](machine, file)
    out().print(f"{machine!r}: written to {file} ({form})")


@command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file of NumPy (NPZ), paysage or rbms.")],
    model: Annotated[Path, typer.Argument(help="The model file to write, *.safetensors.")],
    form: Annotated[
        str | None,
        typer.Option("--format", help="npz, paysage or rbms; found in the file if left out."),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(
            help="Unit types, visible first, where the file does not tell: bernoulli,gaussian."
        ),
    ] = None,
    update: Annotated[
        int | None, typer.Option(help="rbms: number of updates; the last machine if left out.")
    ] = None,
    overwrite: Overwrite = False,
    module: Module = None,
) -> None:
    """Make a model file of a machine from another package: NumPy, paysage or rbms."""
    import_units("import", module)
    form = format_of(file) if form is None else _check_format("import", form)
    _check_target("import", model, overwrite)
    options: dict[str, Any] = {}
    for name, value, known in (
        ("units", units, form != "rbms"),
        ("update", update, form == "rbms"),
    ):
        if value is not None and not known:
            raise ParameterError(f"import: --{name} is {value}, expected none for {form} files")
    if units is not None:
        options["units"] = [unit.strip() for unit in units.split(",")]
    if update is not None:
        options["update"] = update
    machine = FORMATS[form][0](file, device="cpu", **options)
    save_model(machine, model)
    out().print(f"{machine!r}: written to {model}")
