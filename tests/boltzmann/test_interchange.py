"""Machines of other packages: the same energies, free energies and conditionals on both sides.

The other package itself computes what ours is compared with, on parameters that it has written or
that it has read; where it is not installed the test is skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import interchange, layers
from gpugrad.boltzmann.interchange import (
    FORMATS,
    format_of,
    from_sklearn,
    read_npz,
    read_rbms,
    to_sklearn,
    write_npz,
    write_paysage,
    write_rbms,
)
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State
from gpugrad.errors import DataError, MissingExtraError, ModelFileError, ParameterError

from .exchanged import (
    NAMES,
    RNG,
    H,
    V,
    assert_equal_parameters,
    paysage_file,
    potts,
    random,
    rbm,
)

# --------------------------------------------------------------------------------------------- npz


def every_machine() -> dict[str, BoltzmannMachine]:
    deep = [layers.IsingLayer(3), layers.BernoulliLayer(4), layers.GaussianLayer(2)]
    ring = np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0)
    return {
        "rbm": rbm(),
        "half": rbm("float16"),
        "potts": potts("float32"),
        "deep": BoltzmannMachine(deep, device="cpu", rng=Generator(0)),
        "ring": BoltzmannMachine([layers.IsingLayer(6)], lateral={0: ring}, device="cpu"),
    }


@pytest.mark.parametrize("name", every_machine())
def test_npz_gives_back_any_machine_bit_for_bit(name: str, tmp_path: Path):
    model = every_machine()[name]
    write_npz(model, tmp_path / "m.npz")
    assert format_of(tmp_path / "m.npz") == "npz"
    back = read_npz(tmp_path / "m.npz", device="cpu")
    assert_equal_parameters(model, back)
    assert model.config() == back.config()


def test_arrays_of_an_archive_from_elsewhere_are_taken_by_their_names(tmp_path: Path):
    model = rbm()
    W, b, c = (model.parameters()[n] for n in NAMES)
    np.savez(tmp_path / "m.npz", W=W, b=b, c=c, loss=np.zeros(7))
    names = dict(zip(NAMES, "Wbc", strict=True))
    found = read_npz(
        tmp_path / "m.npz", units=["bernoulli", "bernoulli"], names=names, device="cpu"
    )
    assert_equal_parameters(model, found)
    with pytest.raises(ParameterError, match=r"does not tell the unit types.*'W', 'b', 'c'"):
        read_npz(tmp_path / "m.npz")
    with pytest.raises(ModelFileError, match=r"has no \['X'\], it has \['W', 'b', 'c', 'loss'\]"):
        read_npz(tmp_path / "m.npz", units=["bernoulli"] * 2, names=names | {NAMES[0]: "X"})
    with pytest.raises(ModelFileError, match=r"has no layers\.2\.loc"):
        read_npz(tmp_path / "m.npz", units=["bernoulli"] * 3, names=names)
    with pytest.raises(ModelFileError, match=r"not expected: \['loss'\]"):
        read_npz(tmp_path / "m.npz", units=["ising"] * 2, names=names | {"loss": "loss"})


def test_potts_sites_and_dtype_follow_the_arrays_unless_told(tmp_path: Path):
    model = potts("float32")
    np.savez(tmp_path / "m.npz", **model.parameters())
    found = read_npz(tmp_path / "m.npz", units=["potts:4", "bernoulli"], device="cpu")
    assert_equal_parameters(model, found)
    found = read_npz(
        tmp_path / "m.npz", units=["potts:4", "bernoulli"], dtype="float64", device="cpu"
    )
    assert found.dtype == "float64"
    with pytest.raises(ModelFileError, match="12 parameters, expected a multiple of 5"):
        read_npz(tmp_path / "m.npz", units=["potts:5", "bernoulli"])
    with pytest.raises(ParameterError, match="the number of states with it: 'potts:4'"):
        read_npz(tmp_path / "m.npz", units=["potts", "bernoulli"])


def test_nothing_in_an_archive_is_unpickled(tmp_path: Path):
    np.savez(tmp_path / "m.npz", **{"layers.0.loc": np.array([{}], dtype=object)})
    with pytest.raises(ModelFileError, match=r"read_npz: .*m\.npz is not an NPZ archive"):
        read_npz(tmp_path / "m.npz", units=["bernoulli"])


# ------------------------------------------------------------------------------------------- rbms


@pytest.fixture
def rbms() -> Any:
    return pytest.importorskip("rbms.io", reason="rbms 0.5 is not installed")


def their_machine(kind: str) -> tuple[Any, Any, Any]:
    """A machine of rbms with random parameters, states of it, and these one-hot where need be."""
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.potts_bernoulli.classes import PBRBM

    draw = lambda *shape: torch.from_numpy(RNG.normal(size=shape))
    if kind == "BBRBM":
        return BBRBM(draw(6, 4), draw(6), draw(4)), torch.from_numpy(V), V
    labels = RNG.integers(0, 3, (9, 5))
    one_hot = np.eye(3)[labels].reshape(9, 15)
    return PBRBM(draw(5, 3, 4), draw(5, 3), draw(4)), torch.from_numpy(labels * 1.0), one_hot


def our_machine(kind: str) -> BoltzmannMachine:
    """A machine with random parameters that fits those states."""
    if kind == "BBRBM":
        return rbm()
    parts = [layers.PottsLayer(5, 3, dtype="float64"), layers.BernoulliLayer(4, dtype="float64")]
    return random(BoltzmannMachine(parts, dtype="float64", device="cpu"))


def assert_agrees_with_rbms(model: BoltzmannMachine, theirs: Any, v: Any, units: np.ndarray):
    import torch

    h = torch.from_numpy(H)
    state = State((units, H))
    np.testing.assert_allclose(model.energy(state), theirs.compute_energy(v, h), rtol=1e-12)
    np.testing.assert_allclose(
        model.marginal_free_energy(units), theirs.compute_energy_visibles(v), rtol=1e-12
    )
    chains = {"visible": v, "hidden": h}
    hidden = theirs.sample_hiddens(dict(chains))["hidden_mag"]
    visible = theirs.sample_visibles(dict(chains))["visible_mag"]
    np.testing.assert_allclose(model.conditional_mean(1, state), hidden, rtol=1e-12)
    np.testing.assert_allclose(
        model.conditional_mean(0, state), visible.reshape(units.shape), rtol=1e-12
    )


@pytest.mark.parametrize("kind", ["BBRBM", "PBRBM"])
def test_machine_that_rbms_saved_is_the_same_here(rbms: Any, kind: str, tmp_path: Path):
    theirs, v, units = their_machine(kind)
    file = tmp_path / "m.h5"
    rbms.save_model(str(file), theirs * 0.5, theirs.init_chains(2), num_updates=9, time=0.0)
    rbms.save_model(str(file), theirs, theirs.init_chains(2), num_updates=10, time=0.0)
    assert format_of(file) == "rbms"
    assert_agrees_with_rbms(read_rbms(file, device="cpu"), theirs, v, units)
    assert_agrees_with_rbms(read_rbms(file, update=9, device="cpu"), theirs * 0.5, v, units)
    with pytest.raises(ModelFileError, match=r"no update 11, expected one of \[9, 10\]"):
        read_rbms(file, update=11)


@pytest.mark.parametrize("kind", ["BBRBM", "PBRBM"])
def test_machine_that_rbms_loads_is_the_same_there(rbms: Any, kind: str, tmp_path: Path):
    import torch

    _, v, units = their_machine(kind)
    model = our_machine(kind)
    file = tmp_path / "m.h5"
    write_rbms(model, file, update=7)
    loaded = rbms.load_params(str(file), 7, torch.device("cpu"), torch.float64)
    assert loaded.name == kind
    assert_agrees_with_rbms(model, loaded, v, units)
    assert_equal_parameters(model, read_rbms(file, device="cpu"))


@pytest.mark.parametrize("kind", ["BBRBM", "PBRBM"])
def test_rbms_goes_on_from_the_chains_that_it_is_given(rbms: Any, kind: str, tmp_path: Path):
    import torch

    _, v, units = their_machine(kind)
    model = our_machine(kind)
    file = tmp_path / "m.h5"
    write_rbms(model, file, chains=units, settings={"batch_size": 50})
    _, chains, _, told = rbms.load_model(str(file), 1, torch.device("cpu"), torch.float64)
    np.testing.assert_array_equal(chains["visible"], v)
    assert (told["batch_size"], told["gibbs_steps"]) == (50, 100)
    with pytest.raises(DataError, match="write_rbms"):
        write_rbms(model, tmp_path / "other.h5", chains=units[:, 1:])
    with pytest.raises(DataError, match="write_rbms: .* states"):
        write_rbms(model, tmp_path / "other.h5", chains=0.5 * units)
    for value in ({"a": 1}, None, object()):
        with pytest.raises(ParameterError, match="write_rbms: settings has L1 .* HDF5 holds"):
            write_rbms(model, tmp_path / "other.h5", chains=units, settings={"L1": value})
    assert not (tmp_path / "other.h5").exists()


# ----------------------------------------------------------------------------------- scikit-learn


@pytest.fixture
def sklearn() -> Any:
    return pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")


def assert_agrees_with_sklearn(model: BoltzmannMachine, theirs: Any):
    np.testing.assert_allclose(
        model.conditional_mean(1, State((V, None))), theirs.transform(V), rtol=1e-12
    )
    np.testing.assert_allclose(model.marginal_free_energy(V), theirs._free_energy(V), rtol=1e-12)


def test_fitted_estimator_is_the_same_machine_here(sklearn: Any):
    theirs = sklearn.BernoulliRBM(4, random_state=0, n_iter=3, learning_rate=0.5).fit(V)
    model = from_sklearn(theirs, device="cpu")
    assert str(model.dtype) == "float64"
    assert_agrees_with_sklearn(model, theirs)
    before = model.parameters()["layers.0.loc"].copy()
    theirs.intercept_visible_ += 1
    np.testing.assert_array_equal(model.parameters()["layers.0.loc"], before)


def test_machine_is_the_same_estimator_there_and_goes_on_learning(sklearn: Any):
    model = rbm()
    theirs = to_sklearn(model, batch_size=3, random_state=0)
    assert_agrees_with_sklearn(model, theirs)
    assert_equal_parameters(model, from_sklearn(theirs, device="cpu"))
    assert list(theirs.get_feature_names_out()) == [f"bernoullirbm{i}" for i in range(4)]
    assert theirs.gibbs(V).shape == V.shape and theirs.score_samples(V).shape == (9,)
    theirs.partial_fit(V[:3])
    assert not np.array_equal(theirs.components_.T, model.weights[0].W())


def test_own_estimator_takes_a_machine_and_gives_it_back(sklearn: Any):
    from gpugrad.boltzmann.estimator import BernoulliRBM

    model = rbm("float32")
    ours = BernoulliRBM.from_machine(model, batch_size=3, random_state=0)
    assert_equal_parameters(model, from_sklearn(ours, device="cpu"))
    assert_equal_parameters(model, ours.machine())
    np.testing.assert_allclose(
        ours.transform(V), model.conditional_mean(1, State((V.astype("f4"), None))), rtol=1e-6
    )
    ours.partial_fit(V[:3])
    assert not np.array_equal(ours.components_.T, model.weights[0].W())
    with pytest.raises(ParameterError, match="from_machine: layers.0. has ising units"):
        BernoulliRBM.from_machine(rbm(visible="ising"))


def test_estimator_that_is_not_fitted_is_named(sklearn: Any):
    with pytest.raises(ParameterError, match="BernoulliRBM has no components_.* expected a fitted"):
        from_sklearn(sklearn.BernoulliRBM())
    broken = to_sklearn(rbm())
    broken.intercept_hidden_ = np.zeros(5)
    with pytest.raises(ParameterError, match=r"layers\.1\.loc has shape \(5,\)"):
        from_sklearn(broken)
    with pytest.raises(ParameterError, match="n_components is 5, the machine has 4"):
        to_sklearn(rbm(), n_components=5)


# ---------------------------------------------------------------------- what does not fit, or fails


WRITERS = {"rbms": write_rbms, "paysage": write_paysage, "npz": write_npz}


def refused() -> dict[str, tuple[Any, Any, str]]:
    deep = BoltzmannMachine([layers.BernoulliLayer(3) for _ in range(3)], device="cpu")
    ring = BoltzmannMachine([layers.IsingLayer(3)], lateral={0: np.eye(3)[::-1] * 0}, device="cpu")
    inside = BoltzmannMachine(
        [layers.BernoulliLayer(2), layers.BernoulliLayer(2)],
        lateral={1: np.array([[0.0, 1.0], [1.0, 0.0]])},
        device="cpu",
    )
    return {
        "rbms, Gaussian": (write_rbms, rbm(visible="gaussian"), "layers.0. has gaussian units"),
        "rbms, hidden Ising": (write_rbms, rbm(hidden="ising"), "layers.1. has ising units"),
        "rbms, deep": (write_rbms, deep, "3 layers, expected 2"),
        "rbms, lateral": (write_rbms, inside, "layers.1. has lateral couplings"),
        "paysage, lateral": (write_paysage, ring, "layers.0. has lateral couplings"),
        "paysage, ReLU": (write_paysage, rbm(hidden="relu"), "layers.1. has relu units"),
        "paysage, sites": (write_paysage, potts(), "layers.0. has 3 Potts sites"),
        "npz": (write_npz, object(), "the machine is of type object"),
        "rbms": (write_rbms, object(), "the machine is of type object"),
    }


@pytest.mark.parametrize("name", refused())
def test_what_a_format_cannot_hold_is_refused_by_layer_and_nothing_is_written(
    name: str, tmp_path: Path
):
    write, model, message = refused()[name]
    file = tmp_path / "m"
    file.write_bytes(b"what was there")
    with pytest.raises(ParameterError, match=rf"^{write.__name__}: .*{message}"):
        write(model, file)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"what was there"]
    if write is write_rbms and isinstance(model, BoltzmannMachine):
        with pytest.raises(ParameterError, match=rf"^to_sklearn: .*{message}"):
            to_sklearn(model)


def whole_file(name: str, folder: Path) -> Path:
    path = folder / f"m.{name}"
    if name == "npz":
        write_npz(rbm(), path)
    elif name == "rbms":
        pytest.importorskip("h5py", reason="h5py is not installed")
        write_rbms(rbm(), path)
    else:
        two = {"layers": [{"layer_type": "BernoulliLayer"}] * 2}
        paysage_file(path, rbm(), "connections/weights_", "params", two)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_file_is_refused_or_gives_a_machine_but_nothing_else(name: str, tmp_path: Path):
    whole = whole_file(name, tmp_path).read_bytes()
    read, broken = FORMATS[name][0], tmp_path / "broken"
    rng = np.random.default_rng(0)
    said = []
    for case in range(120):
        content = bytearray(whole)
        if case % 2:
            content = content[: rng.integers(len(whole))]
        else:
            content[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        broken.write_bytes(content)
        try:
            read(broken, device="cpu")
        except (ModelFileError, ParameterError) as error:  # of the call: its configuration is gone
            said.append(str(error))
    assert len(said) > 50
    assert all(m.startswith(f"read_{name}: {broken}") for m in said), said


@pytest.mark.parametrize("name", FORMATS)
def test_wrong_or_missing_file_is_named(name: str, tmp_path: Path):
    read = FORMATS[name][0]
    if name != "npz":
        pytest.importorskip("h5py", reason="h5py is not installed")
    (tmp_path / "text").write_text("a, b\n1, 2\n")
    (tmp_path / "empty").touch()
    np.save(tmp_path / "array.npy", V)
    for file in ("text", "empty", "array.npy"):
        with pytest.raises(ModelFileError, match=rf"^read_{name}: .*{file} is not "):
            read(tmp_path / file)
        with pytest.raises(ModelFileError, match=rf"^format_of: .*{file} is not "):
            format_of(tmp_path / file)
    with pytest.raises(ModelFileError, match=r"nothing: no such file"):
        read(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match=r"is a folder"):
        read(tmp_path)
    for other in FORMATS:
        if other != name:
            with pytest.raises(ModelFileError, match=rf"^read_{name}: "):
                read(whole_file(other, tmp_path))


def test_parameters_that_are_not_finite_are_refused(tmp_path: Path):
    arrays = dict(rbm().parameters())
    arrays["layers.1.loc"] = np.full(4, np.nan)
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ModelFileError, match=r"layers\.1\.loc has NaN"):
        read_npz(tmp_path / "m.npz", units=["bernoulli"] * 2)


@pytest.mark.parametrize("name", FORMATS)
def test_machines_on_a_device_travel_as_those_on_the_host(name: str, device: str, tmp_path: Path):
    if name != "npz":
        pytest.importorskip("h5py", reason="h5py is not installed")
    if name == "paysage":
        pytest.importorskip("pandas", reason="pandas is not installed")
        pytest.importorskip("tables", reason="PyTables is not installed")
    model = rbm("float32").to_device(device)
    WRITERS[name](model, tmp_path / "m")
    back = FORMATS[name][0](tmp_path / "m", device=device)
    assert back.device == model.device
    assert_equal_parameters(model.to_device("cpu"), back.to_device("cpu"))


@pytest.mark.parametrize("name", ["rbms", "paysage"])
def test_without_h5py_the_error_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "m").touch()
    with pytest.raises(MissingExtraError, match=rf"read_{name}: needs the package h5py.*train"):
        FORMATS[name][0](tmp_path / "m")


def test_unwritable_place_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_npz(rbm(), tmp_path / "nowhere" / "m.npz")
    assert set(interchange.FORMATS) == {"npz", "rbms", "paysage"}
