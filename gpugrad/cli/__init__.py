"""The command `gpugrad`: train, sample, evaluate, info. It parses and draws; the library works.

It needs what `pip install "gpugrad[train]"` brings.
"""

import sys

__all__ = ["main"]

EXTRA = {"click", "h5py", "matplotlib", "rich", "safetensors", "typer"}


def main() -> None:
    """Entry point of the command."""
    try:
        from gpugrad.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        message = f'the command needs {error.name}: pip install "gpugrad[train]"'
        print(f"gpugrad: error: {message}", file=sys.stderr)
        raise SystemExit(1) from error
    run()
