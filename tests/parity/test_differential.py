"""Random programs do the same, line by line, under mygrad 2.5.0 and gpugrad.

After each line (in a third of the programs: after the last) everything that a user can see of every
variable is compared: values, dtypes, gradients, flags, bases, which arrays share memory, which are
read-only, and the class of the error if there was one. `pytest` runs a slice of 200 programs, and
as many more as it takes to meet everything once; `pytest --long` all 5,000. What differs on purpose
is in one table, `DIFFERENCES`.
"""

from __future__ import annotations

import gc
import inspect
from collections import Counter
from collections.abc import Iterator

import pytest

pytest.importorskip("mygrad", reason="mygrad is not installed")

import mygrad as mg
import numpy as np

import gpugrad as gg
from tests.parity.differential import calls
from tests.parity.differential.differences import DIFFERENCES, MET_BY_RANDOM_PROGRAMS
from tests.parity.differential.mistakes import MISTAKES
from tests.parity.differential.runner import run_seed, shrink

CHUNK = 100
PROGRAMS = 5_000


@pytest.fixture(autouse=True)
def _cheap_collections() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # the programs collect cycles often: theirs, not those of the modules
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _sinc_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """mygrad calls NumPy's sinc, which until 2.1 is nan at a zero of float16."""
    with np.errstate(invalid="ignore"):
        if np.isnan(np.sinc(np.float16(0))):
            theirs = np.sinc
            half = np.float16

            def sinc(x: np.ndarray) -> np.ndarray:
                return theirs(np.float32(x)).astype(half) if x.dtype == half else theirs(x)

            monkeypatch.setattr(np, "sinc", sinc)


def run_programs(seeds: range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        failure = run_seed(seed, counts)
        if failure is not None:
            pytest.fail(f"seed {seed}: {shrink(failure, watched=seed % 3 > 0)}")
        counts["programs"] += 1
    return counts


@pytest.mark.long(keep=2)
@pytest.mark.parametrize("chunk", range(PROGRAMS // CHUNK))
def test_random_programs_do_what_they_do_under_mygrad(chunk: int):
    seeds = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    assert run_programs(seeds)["programs"] == CHUNK


EXPECTED = [
    *(f"op: {name}" for name in (*calls.UFUNCS, *calls.CALLS, *calls.CREATION, *calls.ANSWERS)),
    *(f"mistake: {name}" for name in MISTAKES),
    *(f"difference: {name}" for name in MET_BY_RANDOM_PROGRAMS),
    *"op: tensor|op: astensor|op: flatten|flag: where=|flag: dtype=|flag: out=tensor".split("|"),
    *"flag: out=array|flag: constant=True|flag: constant=False|flag: constant=None".split("|"),
    *"spelled: function|spelled: numpy|spelled: method|tensor: copy=False".split("|"),
    *"tensor: dtype=|tensor: ndmin=|array: view|array: read-only by its owner".split("|"),
    *"array: a tensor's|array: np.asarray|array: written by the user|index: basic".split("|"),
    *"index: advanced|view: T|view: reshape|view: index|setitem: basic".split("|"),
    *"setitem: advanced|setitem: a tensor|setitem: no tensor|attribute: data".split("|"),
    *"attribute: shape|graph: backward|graph: backward with a gradient".split("|"),
    *"graph: null_grad|graph: clear_graph|graph: gc|graph: del|copy: deepcopy".split("|"),
    *"copy: pickle|copy: copy.copy|copy: method|copy: astype|block: no_autodiff".split("|"),
    *"block: mem_guard_off|block: mem_guard_on|operator: power of a number".split("|"),
    *(f"operator: {sign}" for sign in "+ - * / ** @ += -= *= /= **= < <= > >= == != //".split()),
    *(f"operator: reflected {sign}" for sign in "+ - * / **".split()),
    *(f"operator: unary {sign}" for sign in "+-"),
    *"answer: float({})|answer: int({})|answer: {}.item()|answer: len({})".split("|"),
    *"answer: repr({})|answer: list({})|error: ValueError|error: TypeError".split("|"),
    *"error: IndexError|error: InvalidBackprop|error: AxisError".split("|"),
    *"error: AttributeError|error: UFuncTypeError".split("|"),
]


def test_everything_occurs_in_random_programs(capsys: pytest.CaptureFixture[str]):
    counts = run_programs(range(PROGRAMS, PROGRAMS + 200))
    seed = PROGRAMS + 200
    while counts["programs"] < 1_000 and any(not counts[what] for what in EXPECTED):
        counts += run_programs(range(seed, seed + 50))
        seed += 50
    print(f"{counts.pop('programs')} programs; how often each thing occurred:")
    for what, n in sorted(counts.items()):
        print(f"{n:7d}  {what}")
    missing = [what for what in EXPECTED if not counts[what]]
    assert not missing, missing
    met = {what.removeprefix("difference: ") for what in counts if what.startswith("difference")}
    assert met <= set(DIFFERENCES)


def test_every_common_function_is_called_by_random_programs():
    called = {*calls.UFUNCS, *calls.CALLS, *calls.CREATION, *calls.ANSWERS, *calls.NOT_CALLED}
    functions = {
        name
        for name, f in vars(mg).items()
        if callable(f)
        and not name.startswith("_")
        and hasattr(gg, name)
        and not (inspect.isclass(f) and not isinstance(f, type(mg.add)))
        and not (inspect.isclass(f) and issubclass(f, np.generic))
    }
    assert functions - {"Tensor", "ufunc"} <= called, functions - called


def test_differences_met_by_random_programs_are_in_the_table():
    assert set(MET_BY_RANDOM_PROGRAMS) <= set(DIFFERENCES)
