"""Files that are there entirely or not at all.

The new content goes to a temporary file beside the old one, is forced to the disk and takes its
name. Whenever the process is killed, the name leads to a complete file: the new one or the old one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["remove_leftovers", "write_atomically"]


def write_atomically(path: Any, content: bytes | Callable[[Any], None]) -> None:
    """Put `content` under the name `path`: entirely, or not at all.

    Parameters
    ----------
    path : str or path
        In a folder that exists. A file of that name is replaced.
    content : bytes or callable
        A callable is handed the binary file, open for writing.

    Raises
    ------
    OSError
        What the system refuses, with `path` as its file name.
    """
    path = Path(path)
    try:
        _write_aside(path, content)
    except OSError as error:
        if error.errno is None:  # of the callable's own
            raise
        # it may name the temporary file, which nobody has asked for
        raise type(error)(error.errno, error.strerror, str(path)) from None


def _write_aside(path: Path, content: bytes | Callable[[Any], None]) -> None:
    import tempfile

    # a leading dot and no pattern that a reader of *.safetensors would pick up
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner reads
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    # the only way to read it is to set it
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def remove_leftovers(path: Any) -> None:
    """Delete temporary files that a killed `write_atomically` of this path left behind."""
    from glob import escape

    path = Path(path)
    for leftover in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)
