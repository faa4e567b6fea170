"""The command `gpugrad`; it needs what `pip install gpugrad[train]` brings."""

from __future__ import annotations

import sys

_EXTRA = {"click", "h5py", "matplotlib", "rich", "safetensors", "typer"}


def main() -> None:
    """Run the command line; without the extra `train` say how to get it and exit with status 1."""
    try:
        from gpugrad.cli.app import app
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] not in _EXTRA:
            raise
        sys.exit(f"gpugrad: the command line needs {missing.name}: pip install gpugrad[train]")
    app()
