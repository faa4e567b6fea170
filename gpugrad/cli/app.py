"""The typer application, and how errors leave it: one line on stderr and a status that is not 0."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

import gpugrad
from gpugrad.cli.messages import SOURCES, for_options
from gpugrad.cli.ranks import is_another_s_to_tell, report
from gpugrad.errors import (
    ConvergenceError,
    DataError,
    DeviceMismatchError,
    DeviceNotAvailableError,
    DistributedError,
    DivergenceError,
    KernelError,
    ModelFileError,
    ParameterError,
)

__all__ = ["app", "command", "out", "run", "version"]

NAMED_ERRORS = (
    ConvergenceError,
    DataError,
    DeviceMismatchError,
    DeviceNotAvailableError,
    DistributedError,
    DivergenceError,
    KernelError,
    ModelFileError,
    ParameterError,
    ImportError,
    MemoryError,
    OSError,
)

app = typer.Typer(
    name="gpugrad",
    help="Train Boltzmann machines, sample from them, and measure their likelihood.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # plain usage messages: a line that a log or a test can read
    rich_markup_mode=None,
)


def out(link: Any = None) -> Console:
    """A console on what stdout is now: tests and pipes exchange it.

    What is printed is text, not markup: a path may hold [brackets] or :colons:.

    Parameters
    ----------
    link : Communicator, optional
        To the other processes of a job, of which the first one prints, and that in plain lines:
        what looks like a terminal to it is its launcher.
    """
    how: dict[str, Any] = {}
    if link is not None:
        how = {"quiet": link.rank > 0, "force_terminal": False}
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, **how)


def version() -> str:
    """The version of the package."""
    return str(getattr(gpugrad, "__version__", "(not installed)"))


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gpugrad {version()}")
        raise typer.Exit()


@app.callback()
def frame(
    told: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Train Boltzmann machines, sample from them, and measure their likelihood."""


class _Grouped(TyperCommand):
    """A command whose help lists its options under the headings that they were given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # of the usage: all ranks were started by the same line
            if not isinstance(error, typer.Exit) and is_another_s_to_tell():
                raise typer.Exit(getattr(error, "exit_code", 1)) from error
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                heading = getattr(parameter, "rich_help_panel", None) or kind
                groups.setdefault(heading, []).append(record)
        for heading in sorted(groups, key=lambda text: text == "Options"):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])


def command(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a subcommand whose named errors become one line and status 1."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except BrokenPipeError:
                # the reader has gone (`gpugrad info | head`); nothing is left to be told
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(141) from None
            except NAMED_ERRORS as error:
                message = " ".join(str(error).split()) or type(error).__name__
                if isinstance(error, OSError) and error.filename is not None and error.strerror:
                    message = f"{name}: {error.filename}: {error.strerror.lower()}"
                if isinstance(error, (DataError, ModelFileError, ParameterError)):
                    meta = getattr(kwargs.get("context"), "meta", {})
                    message = for_options(name, message, meta.get(SOURCES))
                report(message)
                raise typer.Exit(1) from error

        app.command(name, cls=_Grouped)(guarded)
        return function

    return register


def run() -> None:
    """Run the command with the process's arguments."""
    # imported here: each module registers its subcommand
    from gpugrad.cli import evaluate, exchange, info, sample, train  # noqa: F401

    app()
