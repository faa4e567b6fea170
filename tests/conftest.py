"""What every test shares: the options for long tests, the GPU's absence explained, no leaked state.

`pytest` runs everything but the long tests, of which it runs the seeded slices that they allow.
`pytest --long` runs those in full. Tests marked `gpu` are skipped, with the reason, where no CUDA
device answers.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

FIXTURES_OF_PARTS = ("tests.fake_cupy.fixtures",)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


pytest_plugins = [module for module in FIXTURES_OF_PARTS if _exists(module)]

# A slow or busy machine must not fail an example for its time, and a failure must come back when
# the test is run again: hence no deadline and derandomised examples, except when exploring.
_profile = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("slice", derandomize=True, max_examples=40, **_profile)
settings.register_profile("long", derandomize=True, max_examples=500, **_profile)
settings.register_profile("explore", max_examples=2000, **_profile)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpugrad")
    group.addoption("--long", action="store_true", help="run the long tests in full")
    group.addoption(
        "--slice-seed", type=int, default=0, help="which cases of the long tests run without --long"
    )


def _runs_all(config: pytest.Config) -> bool:
    return config.getoption("--long") or "long" in config.option.markexpr.split()


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile(
        config.getoption("--hypothesis-profile") or ("long" if _runs_all(config) else "slice")
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    long_tests = (
        "in full" if _runs_all(config) else f"slices of seed {config.getoption('--slice-seed')}"
    )
    return [
        f"numpy {np.__version__}; long tests: {long_tests}; GPU: {reason_without_gpu() or 'yes'}"
    ]


# Asks CuPy itself, so that a fault in gpugrad's own search for devices cannot skip the tests that
# would show it. In a process of its own: most tests are to run as if CuPy were not there.
GPU_PROBE = """
try:
    import cupy
    cupy.cuda.runtime.getDeviceCount() or exit("no CUDA device: the driver lists none")
    cupy.arange(3).sum().get()
except ImportError as reason:
    print(f"CuPy cannot be imported: {reason}")
except Exception as reason:
    print(f"no CUDA device answers: {reason}")
"""
GPU_ANSWER = "PYTEST_REASON_WITHOUT_GPU"  # carries the controller's answer to the workers of xdist


def reason_without_gpu() -> str:
    """Why no CUDA device can be used here; empty where one can."""
    if GPU_ANSWER not in os.environ:
        probe = subprocess.run([sys.executable, "-c", GPU_PROBE], capture_output=True, text=True)
        lines = (probe.stdout if probe.returncode == 0 else probe.stdout + probe.stderr).split("\n")
        os.environ[GPU_ANSWER] = " ".join(line for line in lines if line)
    return os.environ[GPU_ANSWER]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _skip_without_gpu(items)
    if not _runs_all(config):
        _keep_slices_of_long_tests(config, items)


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = reason_without_gpu() if marked else ""
    if reason:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {reason}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason to skip, with the number of tests: hundreds can share one."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("skipped")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"SKIPPED [{count}] {reason}")


def _keep_slices_of_long_tests(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave of each test marked long(keep=n) n cases, and none of one marked long alone."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("long"):
            cases[item.nodeid.split("[")[0]].append(item)
    dropped: set[pytest.Item] = set()
    for name, group in cases.items():
        marker = group[0].get_closest_marker("long")
        assert marker is not None
        keep = min(marker.kwargs.get("keep", 0), len(group))
        drawn = random.Random(f"{config.getoption('--slice-seed')} {name}").sample(group, keep)
        dropped.update(set(group) - set(drawn))
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


# Functions that tell how a switch of gpugrad stands.
SWITCHES = (
    ("gpugrad.state", "snapshot"),
    ("gpugrad.backend.twin", "kernels_enabled"),
    ("gpugrad.backend.array_module", "current_device"),
)


@cache
def _switches() -> dict[str, Callable[[], object]]:
    found = {}
    for module, name in SWITCHES:
        try:
            found[f"{module}.{name}()"] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):  # the tests of that module say so; the others go on
            continue
    return found


def _process_state() -> dict[str, object]:
    """The state of the process that gpugrad or a test can change, as comparable values."""
    return {
        "numpy.geterr()": np.geterr(),
        "GPUGRAD_ variables": {k: v for k, v in os.environ.items() if k.startswith("GPUGRAD_")},
        "working directory": os.getcwd(),
        **{name: switch() for name, switch in _switches().items()},
    }


@pytest.fixture(autouse=True)
def _no_test_leaks_state(monkeypatch: pytest.MonkeyPatch):
    """Fail a test that leaves a switch of gpugrad, NumPy's error state or the environment changed.

    A test's own patches are undone first: one still in place is no leak.
    """
    before = _process_state()
    yield
    monkeypatch.undo()
    after = _process_state()
    leaked = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert not leaked, f"the test left state changed (before, after): {leaked}"
