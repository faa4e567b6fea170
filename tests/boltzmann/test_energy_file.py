"""Files of machines of a user's own energy: they come back bit for bit, or are refused by name."""

import json
import os

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import checkpoint
from gpugrad.boltzmann.checkpoint import load_checkpoint, load_model, model_info, save_model
from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.energy_file import (
    energy_machine_info,
    load_energy_machine,
    save_energy_machine,
)
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.fit import fit
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer, PottsLayer
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.errors import CheckpointError, ModelFileError, ParameterError

from .machines import device_like, host
from .own_energies import CASES, machine, pairwise, states_of, triples

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

cases = pytest.mark.parametrize("case", CASES)


@cases
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_saved_machine_comes_back_bit_for_bit(xp, case, dtype, tmp_path):
    model, energy = machine(xp, case, dtype), CASES[case][1]
    model.save(tmp_path / "m", data="spins")
    found = EnergyMachine.load(tmp_path / "m", energy, device=device_like(xp))
    assert found.config() == model.config() and found.by == model.by
    for name, parameter in model.parameters().items():
        twin = found.parameters()[name]
        assert isinstance(twin, xp.ndarray) and twin.dtype == dtype
        assert host(twin).tobytes() == host(parameter).tobytes()
    if dtype != "float16":
        assert found.log_partition() == model.log_partition()


def test_penalties_and_constraints_come_back(tmp_path):
    """Training goes on in the same bits."""
    model = machine(np, "bits by layers", "float32")
    model.terms.add_penalty({"W": L2Penalty(0.3)})
    model.terms.add_constraint({"W": non_negative})
    model.save(tmp_path / "m")
    found = EnergyMachine.load(tmp_path / "m", pairwise, device="cpu")
    assert found.terms.constraints == {"W": non_negative}
    assert found.terms.penalties["W"].get_config() == model.terms.penalties["W"].get_config()
    v = states_of(BernoulliLayer(3))
    for each in (model, found):
        fit(each, v, epochs=2, batch_size=4, rng=Generator(1))
    for name, parameter in model.parameters().items():
        np.testing.assert_array_equal(found.parameters()[name], parameter)


def test_the_file_is_plain_safetensors_with_metadata_in_json(tmp_path):
    model = machine(np, "bits by units")
    model.save(tmp_path / "m", steps=3)
    arrays = safetensors.load_file(tmp_path / "m")
    assert {name: x.shape for name, x in arrays.items()} == {"energy.a": (3,), "energy.W": (3, 2)}
    with safetensors.safe_open(tmp_path / "m", "numpy") as file:
        header = json.loads(file.metadata()["gpugrad"])
    assert header["metadata"] == {"steps": 3} and header["config"]["energy"] == "pairwise"
    with pytest.raises(ParameterError, match="save: metadata .* expected what JSON can hold"):
        model.save(tmp_path / "n", when=object())
    assert os.listdir(tmp_path) == ["m"]


def test_the_folder_of_a_run_stands_for_its_model(tmp_path):
    machine(np, "triple spins").save(tmp_path / "model.safetensors")
    assert EnergyMachine.load(tmp_path, triples, device="cpu").num_layers == 1


class Scaled:
    """An energy that is an object."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, xp, params, s):
        return self.factor * params.a * s[:, 0]


def test_an_energy_may_be_an_object_of_a_class(tmp_path):
    model = EnergyMachine([IsingLayer(2)], Scaled(2), {"a": np.array(0.5)}, device="cpu")
    model.save(tmp_path / "m")
    found = EnergyMachine.load(tmp_path / "m", Scaled(2), device="cpu")
    assert found.log_partition() == model.log_partition()
    assert found.config()["energy"] == "Scaled"


def test_layers_are_compared_where_they_are_given(tmp_path):
    machine(np, "potts by layers").save(tmp_path / "m")
    layers = [PottsLayer(2, 3, device="cpu"), IsingLayer(2, device="cpu")]
    layers[0].params.loc[...] = 1.0  # which an energy of one's own does not use
    found = EnergyMachine.load(tmp_path / "m", pairwise, layers=layers, device="cpu")
    assert found.layers[0] is not layers[0]
    for others in (
        layers[:1],
        [PottsLayer(3, 2, device="cpu"), layers[1]],
        [layers[0], BernoulliLayer(2, device="cpu")],
        [layers[0], IsingLayer(3, device="cpu")],
    ):
        with pytest.raises(ModelFileError, match="has the layers .* 'num_states': 3.* expected"):
            EnergyMachine.load(tmp_path / "m", pairwise, layers=others, device="cpu")


def rewritten(path, change):
    """The file at `path` with its JSON and arrays changed, and checksums that fit."""
    with safetensors.safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["gpugrad"])
    arrays = safetensors.load_file(path)
    change(header, arrays)
    path.write_bytes(safetensors.save(arrays, {"gpugrad": json.dumps(header)}))


def faults():
    def cut(n):
        return lambda path: path.write_bytes(path.read_bytes()[:n])

    def flipped(path):
        content = bytearray(path.read_bytes())
        content[-1] ^= 64
        path.write_bytes(content)

    def config(**changes):
        return lambda path: rewritten(path, lambda header, _: header["config"].update(changes))

    def lost(name):
        return lambda path: rewritten(path, lambda header, _: header["config"].pop(name))

    def arrays(change):
        return lambda path: rewritten(path, lambda _, found: change(found))

    def layer(change):
        return lambda path: rewritten(path, lambda header, _: change(header["config"]["layers"]))

    nan = np.array([np.nan, 0, 0])
    return {
        "missing": (lambda path: path.unlink(), "no such file"),
        "empty": (cut(0), "damaged"),
        "cut": (cut(-3), "damaged"),
        "a flipped bit": (flipped, r"tensor energy.\w is damaged, expected the checksum"),
        "another energy": (
            config(energy="other"),
            "energy 'other', 'pairwise' was given, expected",
        ),
        "no energy": (lost("energy"), "does not describe a machine"),
        "no config": (
            lambda path: rewritten(path, lambda header, _: header.pop("config")),
            "does not describe a machine",
        ),
        "no layers": (lost("layers"), "does not describe a machine"),
        "layers that are none": (config(layers=[3]), "does not describe a machine"),
        "parameters that are none": (config(parameters="ab"), "does not describe a machine"),
        "terms that are none": (
            config(terms={"penalties": [], "constraints": []}),
            "does not describe a machine",
        ),
        "no by": (lost("by"), "does not describe a machine"),
        "another by": (config(by="rows"), "by is 'rows', expected"),
        "lost array": (arrays(lambda x: x.pop("energy.W")), "has parameters .* expected"),
        "another shape": (
            arrays(lambda x: x.update({"energy.W": np.zeros((2, 3))})),
            r"has parameters .*\[2, 3\].* expected .*\[3, 2\]",
        ),
        "not finite": (
            arrays(lambda x: x.update({"energy.a": nan})),
            "parameter energy.a has NaN or infinite values",
        ),
        "a lost layer": (layer(lambda x: x.pop()), "that 'pairwise' can be the energy of"),
        "a wider layer": (
            layer(lambda x: x[0].update(num_units=4)),
            "that 'pairwise' can be the energy of",
        ),
        "an unknown layer": (
            layer(lambda x: x[0].update(layer_type="nobody's")),
            "does not describe a machine",
        ),
        "newer": (
            lambda path: rewritten(path, lambda header, _: header.update(version=2)),
            "version 2, expected version 1",
        ),
    }


@pytest.mark.parametrize("fault", faults())
def test_files_that_are_no_such_machine_are_refused_by_name(fault, tmp_path):
    path = tmp_path / "m.safetensors"
    machine(np, "bits by layers").save(path)
    spoil, message = faults()[fault]
    spoil(path)
    with pytest.raises(ModelFileError, match=message) as raised:
        EnergyMachine.load(path, pairwise, device="cpu")
    assert str(path) in str(raised.value)


def test_a_file_of_another_kind_of_machine_is_refused_on_both_sides(tmp_path):
    own, boltzmann = tmp_path / "own", tmp_path / "boltzmann"
    machine(np, "bits by layers").save(own)
    RBM(3, 2, device="cpu").save(boltzmann)
    with pytest.raises(ModelFileError, match="is a model, expected a model of an own energy$"):
        EnergyMachine.load(boltzmann, pairwise)
    with pytest.raises(ModelFileError, match="is a model of an own energy, expected a model$"):
        load_model(own)
    with pytest.raises(
        CheckpointError, match="is a model of an own energy, expected a checkpoint$"
    ):
        load_checkpoint(own)
    with pytest.raises(ParameterError, match="of type EnergyMachine, expected a BoltzmannMachine"):
        save_model(machine(np, "bits by layers"), own)
    with pytest.raises(ParameterError, match="save: the machine is of type BoltzmannMachine, expe"):
        save_energy_machine(RBM(3, 2, device="cpu"), own)
    assert load_energy_machine(own, pairwise, device="cpu").num_layers == 2


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    machine(np, "bits by layers").save(path)
    before = path.read_bytes()

    def fails(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space left"):
        machine(np, "bits by layers", seed=1).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m"]


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    def missing():
        raise ImportError('pip install "gpugrad[train]"')

    monkeypatch.setattr(checkpoint, "_library", missing)
    for call in (
        lambda: machine(np, "bits by layers").save(tmp_path / "m"),
        lambda: EnergyMachine.load(tmp_path / "m", pairwise),
    ):
        with pytest.raises(ImportError, match=r"gpugrad\[train\]"):
            call()


def test_a_lambda_is_no_name_to_be_known_by(tmp_path):
    energy = lambda xp, params, s: params.a * xp.sum(s, axis=1)
    model = EnergyMachine([BernoulliLayer(3)], energy, {"a": np.array(0.3)}, device="cpu")
    with pytest.warns(UserWarning, match="save: the energy is a lambda"):
        model.save(tmp_path / "model.safetensors")


def test_metadata_come_back_from_a_file_or_its_folder(tmp_path):
    file = tmp_path / "model.safetensors"
    machine(np, "triple spins").save(file, note="x")
    for path in (file, tmp_path):
        assert energy_machine_info(path)["metadata"] == {"note": "x"}
    RBM(3, 2, device="cpu").save(file, note="y")
    for path in (file, tmp_path):
        assert model_info(path)["metadata"] == {"note": "y"}
