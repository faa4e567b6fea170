"""Machines of paysage: the same energies and conditionals on both sides, whatever its release."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpugrad.boltzmann import layers
from gpugrad.boltzmann.interchange import (
    format_of,
    read_paysage,
    write_paysage,
)
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State
from gpugrad.errors import ModelFileError, ParameterError

from .exchanged import (
    RNG,
    assert_equal_parameters,
    paysage_file,
    random,
    rbm,
)


@pytest.fixture
def paysage(monkeypatch: pytest.MonkeyPatch) -> Any:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("tables", reason="PyTables is not installed")
    # paysage is of 2018: pandas has renamed the method since
    monkeypatch.setattr(pandas.DataFrame, "as_matrix", pandas.DataFrame.to_numpy, raising=False)
    return pytest.importorskip("paysage.models", reason="paysage 0.2.1 is not installed")


UNITS = {"bernoulli": "BernoulliLayer", "gaussian": "GaussianLayer", "potts": "OneHotLayer"}


def paysage_machine(paysage: Any, units: tuple[str, ...]) -> Any:
    import paysage.layers as theirs

    sizes = (6, 4, 3)
    parts = [getattr(theirs, UNITS[u])(n) for u, n in zip(units, sizes, strict=False)]
    machine = paysage.BoltzmannMachine(parts)
    for part in (*parts, *(c.weights for c in machine.connections)):
        for array in part.params:
            array[...] = RNG.normal(size=array.shape, scale=0.4)
    return machine


def their_states(units: tuple[str, ...]) -> list[np.ndarray]:
    values = {
        "bernoulli": lambda n: RNG.integers(0, 2, (8, n)),
        "gaussian": lambda n: RNG.normal(size=(8, n)),
        "potts": lambda n: np.eye(n)[RNG.integers(0, n, 8)],
    }
    return [values[u](n).astype("float32") for u, n in zip(units, (6, 4, 3), strict=False)]


def assert_agrees_with_paysage(model: BoltzmannMachine, theirs: Any, units: tuple[str, ...]):
    import paysage.models as models

    values = their_states(units)
    state, other = State(values), models.State(values)
    for i, layer in enumerate(theirs.layers):
        scaled = theirs._connected_rescaled_units(i, other)
        weights = theirs._connected_weights(i)
        np.testing.assert_allclose(
            model.conditional_mean(i, state),
            layer.conditional_mean(scaled, weights),
            rtol=2e-4,
            atol=1e-5,
        )
    if "gaussian" not in units:  # of which paysage averages the energies
        np.testing.assert_allclose(model.energy(state), theirs.joint_energy(other), rtol=2e-4)


COMBINATIONS = [
    ("bernoulli", "bernoulli"),
    ("gaussian", "bernoulli"),
    ("bernoulli", "gaussian"),
    ("potts", "bernoulli"),
    ("bernoulli", "bernoulli", "bernoulli"),
]


@pytest.mark.filterwarnings("ignore")  # of paysage's own, which is from 2018
@pytest.mark.parametrize("units", COMBINATIONS)
def test_machine_that_paysage_saved_is_the_same_here(
    paysage: Any, units: tuple[str, ...], tmp_path: Path
):
    import pandas

    theirs = paysage_machine(paysage, units)
    l2_penalty = pytest.importorskip("paysage.penalties").l2_penalty
    theirs.connections[0].weights.add_penalty({"matrix": l2_penalty(1e-3)})
    with pandas.HDFStore(tmp_path / "m.h5", "w") as store:
        theirs.save(store)
    assert format_of(tmp_path / "m.h5") == "paysage"
    assert_agrees_with_paysage(read_paysage(tmp_path / "m.h5", device="cpu"), theirs, units)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("units", COMBINATIONS)
def test_machine_that_paysage_loads_is_the_same_there(
    paysage: Any, units: tuple[str, ...], tmp_path: Path
):
    import pandas

    theirs = paysage_machine(paysage, units)
    with pandas.HDFStore(tmp_path / "m.h5", "w") as store:
        theirs.save(store)
    model = read_paysage(tmp_path / "m.h5", device="cpu")
    write_paysage(model, tmp_path / "back.h5")
    with pandas.HDFStore(tmp_path / "back.h5", "r") as store:
        back = paysage.BoltzmannMachine.from_saved(store)
    assert back.get_config() == theirs.get_config()
    assert_agrees_with_paysage(model, back, units)


@pytest.mark.filterwarnings("ignore")
def test_centred_layers_of_paysage_are_refused(paysage: Any, tmp_path: Path):
    import pandas
    import paysage.layers as theirs

    machine = paysage.BoltzmannMachine(
        [theirs.BernoulliLayer(3, center=True), theirs.BernoulliLayer(2)]
    )
    with pandas.HDFStore(tmp_path / "m.h5", "w") as store:
        machine.save(store)
    with pytest.raises(ModelFileError, match="layer 0 is centred"):
        read_paysage(tmp_path / "m.h5")


@pytest.mark.parametrize(
    "weights, field", [("connections/weights_", "params"), ("weights/w_", "key")]
)
def test_layouts_of_paysages_releases_are_read(weights: str, field: str, tmp_path: Path):
    units = ["bernoulli", "gaussian", "bernoulli"]
    parts = [layers.get(u)(n, dtype="float64") for u, n in zip(units, (3, 12, 2), strict=True)]
    model = random(BoltzmannMachine(parts, dtype="float64", device="cpu"))
    paysage_file(tmp_path / "m.h5", model, weights, field)
    assert_equal_parameters(model, read_paysage(tmp_path / "m.h5", units=units, device="cpu"))
    with pytest.raises(ParameterError, match="does not tell the unit types.* for 3 layers"):
        read_paysage(tmp_path / "m.h5")
    told = {"layers": [{"layer_type": UNITS[u]} for u in units]}
    paysage_file(tmp_path / "m.h5", model, weights, field, told)
    assert_equal_parameters(model, read_paysage(tmp_path / "m.h5", device="cpu"))


def test_what_paysages_configuration_may_not_say(tmp_path: Path):
    model, file = rbm(), tmp_path / "m.h5"
    two = [{"layer_type": "BernoulliLayer"}] * 2
    turned, skips = ({"target_index": a, "domain_index": b} for a, b in ((1, 0), (0, 2)))
    for config, message in {
        "cousin": ({"layers": [{"layer_type": "CosineLayer"}]}, "layer 0 is a CosineLayer"),
        "centred": ({"layers": [two[0], two[0] | {"center": True}]}, "layer 1 is centred"),
        "turned": ({"layers": two, "connections": [turned]}, "joins the layers 1 and 0"),
        "skips": ({"layers": two, "connections": [skips]}, "joins the layers 0 and 2"),
        "object": ({"layers": [{"layer_type": Path("x")}] * 2}, "layer 0 is a .*_Unread"),
        "text": ("BoltzmannMachine", "is not a machine of paysage"),
    }.values():
        paysage_file(file, model, "connections/weights_", "params", config)
        with pytest.raises(ModelFileError, match=message):
            read_paysage(file, units=["bernoulli"] * 2)


class Runs:
    """Pickled, a call of a function with this text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        return exec, (self.text,)


def test_a_configuration_is_read_without_running_or_importing_what_it_names(tmp_path: Path):
    model, file, trace = rbm(), tmp_path / "m.h5", tmp_path / "trace"
    told = {
        "layers": [{"layer_type": "BernoulliLayer", "num_units": np.int64(4)}] * 2,
        # as paysage's penalties have them
        "penalties": {"matrix": {"penalty": 0.001, "slice": (slice(None),)}},
        "run": Runs(f"from pathlib import Path; Path({str(trace)!r}).touch()"),
    }
    paysage_file(file, model, "connections/weights_", "params", told)
    assert_equal_parameters(model, read_paysage(file, device="cpu"))
    assert not trace.exists()
    pickle.loads(pickle.dumps(told, 0))  # what a plain reader would have done
    assert trace.exists()
