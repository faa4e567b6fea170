"""How several processes behave as one command: one of them speaks, all of them end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from gpugrad.distributed import ends_together

__all__ = ["one_voice"]


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
