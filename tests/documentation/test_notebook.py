"""The notebook as it is stored: executed in order, with pictures, and with one address."""

import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CELLS = json.loads((ROOT / "examples" / "colab.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def text_of(cell):
    return "".join(cell["source"])


def outputs():
    return [output for cell in CODE for output in cell["outputs"]]


def test_cells_were_executed_once_from_top_to_bottom():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


def test_outputs_are_stored_without_errors_and_with_pictures():
    kinds = [output["output_type"] for output in outputs()]
    assert "error" not in kinds
    assert not [o for o in outputs() if o.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs()) >= 2


@pytest.mark.parametrize(
    "said", ["computing on", "by AIS", "by RAISE", "different minima", "nats lost"]
)
def test_every_subject_has_its_result(said):
    printed = "".join("".join(o["text"]) for o in outputs() if o["output_type"] == "stream")
    assert said in printed


def test_the_first_cell_installs_the_package_from_one_variable_and_never_cupy():
    first = text_of(CODE[0])
    assert "PACKAGE = " in first
    installs = [line for cell in CODE for line in text_of(cell).splitlines() if "install" in line]
    assert installs == ['%pip install -qq --disable-pip-version-check "{PACKAGE}[train]"']


def test_badges_lead_to_the_repository_that_pyproject_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    where = project["urls"]["Repository"].removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{where}/blob/main/examples/colab.ipynb"
    assert address in text_of(CELLS[0])
    assert address in (ROOT / "README.md").read_text(encoding="utf-8")
