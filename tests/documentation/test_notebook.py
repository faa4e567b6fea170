"""The notebook as it is stored: executed in order, with pictures, and with one address."""

import json
import sys
from types import SimpleNamespace

import pytest

from gpugrad.backend.array_module import Device
from gpugrad.boltzmann import datasets
from gpugrad.boltzmann.layers import layer
from tests.architecture.repository import ROOT, project

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
    where = project()["urls"]["Repository"].removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{where}/blob/main/examples/colab.ipynb"
    assert address in text_of(CELLS[0])
    assert address in (ROOT / "README.md").read_text(encoding="utf-8")


def test_on_a_machine_with_a_gpu_every_cell_runs_and_computes_there(cupy_standin, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    screen = SimpleNamespace(update=lambda figure: None)
    shown = SimpleNamespace(display=lambda *args, **options: screen)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    monkeypatch.setenv("GPUGRAD_DEVICE", "")  # what the first cell sets is undone
    monkeypatch.setattr(layer, "_LAYERS", dict(layer._LAYERS))  # nor is its unit kept
    layer._LAYERS.pop("blume_capel", None)
    mnist = datasets.mnist
    monkeypatch.setattr(datasets, "mnist", lambda split: mnist(split)[:300])
    smaller = {
        "epochs=15": "epochs=1",
        "epochs=60": "epochs=1",
        "gibbs(100)": "gibbs(1)",
        "n_temperatures=2000": "n_temperatures=10",
        "n_chains=100": "n_chains=4",
        "[:100]": "[:4]",
        "[:49]": "[:2]",
    }
    names = {"__name__": "__main__"}
    try:
        for cell in CODE:
            lines = text_of(cell).splitlines()
            program = "\n".join(line for line in lines if not line.startswith("%"))
            for full, reduced in smaller.items():
                program = program.replace(full, reduced)
            exec(compile(program, "colab.ipynb", "exec"), names)
    finally:
        pyplot.close("all")
        matplotlib.use(backend)
    assert {names[name].device for name in ("machine", "chain")} == {Device("cuda", 0)}
