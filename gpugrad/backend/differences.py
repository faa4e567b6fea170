"""The page "Differences on the GPU", written from the table that the tests use.

Run ``python -m gpugrad.backend.differences docs/gpu_differences.md`` after a change of
`gpugrad.backend.vocabulary.DIFFERENCES`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gpugrad.backend.vocabulary import DIFFERENCES

__all__ = ["CONCERNED", "page"]

_EVERYTHING = "every function"
_UFUNCS = "elementwise functions"
_REDUCTIONS = "all any argmax argmin max mean min prod sum"

# Which functions a row of the table is about: words of the vocabulary, or one of the two above.
CONCERNED: dict[str, tuple[str, ...]] = {
    "ufunc where=": (_UFUNCS,),
    "reductions' initial= and where=": tuple(_REDUCTIONS.split()),
    "host arrays of no dimension": (_EVERYTHING,),
    "ufunc.at": ("add_at",),
    "ufunc.accumulate": ("cummax", "cummin"),
    "out-of-range fancy indices": ("add_at", "getitem", "put", "take", "take_along_axis"),
    "duplicate indices in an assignment": ("put",),
    "floor, ceil and trunc of integers": ("ceil", "floor", "trunc"),
    "inv, solve, cholesky of singular or not positive definite matrices": (
        "cholesky",
        "inv",
        "solve",
    ),
    "signs of singular vectors, eigenvectors and the rows of R": ("eigh", "qr", "svd"),
    "solve with leading axes that broadcast": ("solve",),
    "einsum out=": ("einsum",),
    "full reductions": tuple(_REDUCTIONS.split()),
    "where, clip and reductions of scalars": ("clip", "where", *_REDUCTIONS.split()),
    "clip without bounds, argmax out=, sort order": (
        "argmax",
        "argmin",
        "argsort",
        "clip",
        "repeat",
        "reshape",
        "sort",
    ),
    "a host array given to asarray, array or ascontiguousarray": (
        "array",
        "asarray",
        "ascontiguousarray",
        "matmul",
    ),
    "flags.writeable": (_EVERYTHING,),
    "broadcast_to": ("broadcast_to",),
    "views made by as_strided": (_EVERYTHING,),
    "floating-point warnings (errstate)": (_UFUNCS, "errstate"),
    "random Generator": (_EVERYTHING,),
    "functions of the library called with a tensor": (_EVERYTHING,),
    "a tensor assigned into a raw array, array[k] = x": (_EVERYTHING,),
}

_HEAD = """\
# Differences on the GPU

The same program runs on NumPy and on CuPy arrays; the arrays decide the device. Where the two
libraries differ, this page says what each does and what gpugrad makes of it. Whatever is not listed
here is the same on both.

<!-- Written by `python -m gpugrad.backend.differences docs/gpu_differences.md` from the table that
the tests use (`DIFFERENCES` in gpugrad/backend/vocabulary.py). Change the table, not this page. -->
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The page in Markdown: every difference, then for each function those that concern it."""
    numbers = {row.name: i for i, row in enumerate(DIFFERENCES, 1)}
    lines = [_HEAD, "## All differences", "", "| | | NumPy | CuPy | gpugrad |", "|-|-|-|-|-|"]
    for row in DIFFERENCES:
        lines.append(f"| {numbers[row.name]} | " + " | ".join(map(_cell, row)) + " |")
    by_word: dict[str, list[int]] = {}
    for row in DIFFERENCES:
        for word in CONCERNED.get(row.name, (_EVERYTHING,)):
            by_word.setdefault(word, []).append(numbers[row.name])
    lines += ["", "## By function", "", "| function | differences |", "|-|-|"]
    general = [word for word in (_EVERYTHING, _UFUNCS) if word in by_word]
    for word in general + sorted(set(by_word) - set(general)):
        shown = word if word in general else f"`{word}`"
        lines.append(f"| {shown} | {', '.join(map(str, by_word[word]))} |")
    return "\n".join(lines) + "\n"


def _main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise SystemExit("usage: python -m gpugrad.backend.differences docs/gpu_differences.md")
    Path(arguments[0]).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1:])
