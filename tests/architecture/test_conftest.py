"""The rules that tests/conftest.py lays on every test: slices, reasons for skips, no leaks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.architecture.repository import ROOT

CASES = """
import os
import numpy as np
import pytest

@pytest.mark.long(keep=3)
@pytest.mark.parametrize("case", range(20))
def test_sliced(case):
    print("case", case)

@pytest.mark.long
def test_only_in_full():
    pass

@pytest.mark.gpu
def test_on_a_gpu():
    pass

def test_plain():
    pass
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest, with this project's conftest and settings, on the source of one test file."""
    shutil.copyfile(ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")

    def run(source: str, *options: str, reason_without_gpu: str = "none here") -> str:
        (tmp_path / "test_sample.py").write_text(source)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment["PYTEST_REASON_WITHOUT_GPU"] = reason_without_gpu
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_sample.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        ).stdout

    return run


def counts(output: str) -> dict[str, int]:
    closing = output.strip().splitlines()[-1]
    return {
        word: int(n)
        for n, word in re.findall(r"(\d+) (passed|failed|skipped|deselected|error)", closing)
    }


def test_long_tests_run_in_seeded_slices(run):
    first, again = (run(CASES, "-rP", "-s") for _ in range(2))
    other = run(CASES, "-s", "--slice-seed", "1")
    assert counts(first) == {"passed": 4, "skipped": 1, "deselected": 18}
    cases = [re.findall(r"case (\d+)", output) for output in (first, again, other)]
    assert cases[0] == cases[1]
    assert cases[0] != cases[2]


@pytest.mark.parametrize("option", [("--long",), ("-m", "long or not long")])
def test_long_tests_run_in_full_when_asked_for(run, option):
    assert counts(run(CASES, *option)) == {"passed": 22, "skipped": 1}


def test_skipped_gpu_test_prints_its_reason(run):
    assert "SKIPPED [1] no GPU: none here" in run(CASES)


def test_gpu_test_runs_where_there_is_a_gpu(run):
    assert counts(run(CASES, reason_without_gpu="")) == {"passed": 5, "deselected": 18}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("np.seterr(over='raise')", "numpy.geterr()"),
        ("os.environ['GPUGRAD_DEVICE'] = 'cpu'", "GPUGRAD_ variables"),
        ("os.chdir('..')", "working directory"),
    ],
)
def test_a_test_that_leaks_state_fails(run, line, what):
    output = run(f"import os\nimport numpy as np\n\ndef test_it():\n    {line}\n")
    assert counts(output)["error"] == 1
    assert what in output


def test_a_patch_is_no_leak(run):
    output = run("def test_it(monkeypatch):\n    monkeypatch.setenv('GPUGRAD_DEVICE', 'cpu')\n")
    assert counts(output) == {"passed": 1}


def test_warnings_are_errors(run):
    output = run(
        "import warnings\n\ndef test_it():\n    warnings.warn('something', stacklevel=1)\n"
    )
    assert counts(output) == {"failed": 1}
