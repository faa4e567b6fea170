"""How several processes behave as one command: one of them speaks, all of them end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from gpugrad.distributed import ends_together, launcher

__all__ = ["is_another_s_to_tell", "one_voice", "report"]

PATIENCE = 5.0
"""Seconds that the first rank has to meet an error, before another one tells of it."""


def is_another_s_to_tell() -> bool:
    """Whether what all ranks do alike is told by the first of them, and this is another one."""
    started = launcher()
    return started is not None and started.rank > 0


def report(message: str) -> None:
    """Print an error that this process has met before it was linked with others.

    The first rank prints it at once. Its launcher then ends the others, which wait for that: what
    only they have met would be lost otherwise.
    """
    started = launcher()
    if started is not None and started.rank > 0:
        time.sleep(PATIENCE)
        message = f"rank {started.rank}: {message}"
    typer.echo(f"gpugrad: error: {message}", err=True)


@contextmanager
def one_voice(link: Any, advice: str = "") -> Iterator[None]:
    """Let the first rank report an error that all ranks meet; end all where only some meet it.

    Parameters
    ----------
    link : MPICommunicator or None
    advice : str
        The end of the message of a rank that ends the others.
    """
    try:
        with ends_together(link, advice):
            yield
    except Exception as error:
        if link is not None and link.rank:
            raise typer.Exit(1) from error
        raise
