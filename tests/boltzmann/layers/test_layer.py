"""What all layers share: parameters, penalties, constraints, configuration, files."""

import json
import sys

import numpy as np
import pytest

from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.lateral import Lateral
from gpugrad.boltzmann.layers import (
    BernoulliLayer,
    IsingLayer,
    Layer,
    ParamsBernoulli,
    Weights,
    get,
)
from gpugrad.boltzmann.penalties import L1Penalty, L2Penalty
from gpugrad.errors import MissingExtraError, ModelFileError, ParameterError

from ..machines import device_like, host


def layer_at(xp, loc):
    layer = BernoulliLayer(len(loc), dtype="float64", device=device_like(xp))
    layer.set_params({"loc": np.asarray(loc)})
    return layer


@pytest.mark.parametrize("kind", [dict, ParamsBernoulli])
def test_a_step_subtracts_in_place(xp, kind):
    layer = layer_at(xp, [1.0, 2.0])
    held = layer.params.loc
    layer.parameter_step(kind(loc=xp.asarray([0.5, -1.0])))
    assert layer.params.loc is held
    np.testing.assert_array_equal(host(held), [0.5, 3.0])


def test_set_params_copies_and_keeps_dtype(xp):
    layer = BernoulliLayer(2, dtype="float32", device=device_like(xp))
    values = np.array([1.0, 2.0], dtype="float32")
    layer.set_params({"loc": values})
    values[0] = 7
    np.testing.assert_array_equal(host(layer.params.loc), [1.0, 2.0])
    assert layer.params.loc.dtype == "float32"


def test_unknown_parameters_are_named(xp):
    layer = layer_at(xp, [0.0])
    for call in (
        lambda: layer.parameter_step({"width": xp.zeros(1)}),
        lambda: layer.set_params({"width": xp.zeros(1)}),
        lambda: layer.add_penalty({"width": L2Penalty(1.0)}),
        lambda: layer.add_constraint({"width": non_negative}),
    ):
        with pytest.raises(
            ParameterError, match=r"no parameter 'width', expected one of \['loc'\]"
        ):
            call()


def test_set_params_refuses_another_shape(xp):
    with pytest.raises(ParameterError, match=r"loc has shape \(3,\).*expected \(2,\)"):
        layer_at(xp, [0.0, 0.0]).set_params({"loc": np.zeros(3)})


def test_constraint_is_applied_to_its_parameter(xp):
    layer = layer_at(xp, [-1.0, 2.0])
    layer.add_constraint({"loc": non_negative})
    layer.enforce_constraints()
    np.testing.assert_array_equal(host(layer.params.loc), [0.0, 2.0])


@pytest.mark.parametrize("penalty", [L1Penalty(0.3), L2Penalty(0.7)])
def test_penalty_gradient_is_the_slope_of_its_value(xp, penalty):
    loc, step = np.array([0.5, -1.5, 2.0]), 1e-6
    layer = layer_at(xp, loc)
    layer.add_penalty({"loc": penalty})
    got = host(layer.get_penalty_grad(xp.zeros(3), "loc"))
    for i in range(3):
        values = []
        for sign in (1, -1):
            shifted = layer_at(xp, loc + sign * step * np.eye(3)[i])
            shifted.add_penalty({"loc": penalty})
            values.append(shifted.get_penalties()["loc"])
        assert got[i] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-8)


def test_penalty_values_are_the_published_ones(xp):
    layer = layer_at(xp, [1.0, -2.0])
    layer.add_penalty({"loc": L2Penalty(0.5)})
    assert layer.get_penalties() == {"loc": 0.5 * 0.5 * 5}
    layer.add_penalty({"loc": L1Penalty(0.5)})
    assert layer.get_penalties() == {"loc": 0.5 * 3}


def test_penalty_gradient_is_added_to_the_derivative(xp):
    layer = layer_at(xp, [1.0, -2.0])
    assert host(layer.get_penalty_grad(xp.ones(2), "loc")).tolist() == [1.0, 1.0]
    layer.add_penalty({"loc": L2Penalty(0.5)})
    assert host(layer.get_penalty_grad(xp.ones(2), "loc")).tolist() == [1.5, 0.0]


@pytest.mark.parametrize("strength", [-1, float("nan")])
def test_a_strength_below_zero_is_refused(strength):
    with pytest.raises(ParameterError, match="L2Penalty: strength"):
        L2Penalty(strength)


@pytest.mark.parametrize(
    "layer", [BernoulliLayer(3), IsingLayer(2, dtype="float64"), Weights((3, 2), dtype="float64")]
)
def test_configuration_survives_json_and_builds_an_equal_layer(layer):
    name = layer.params._fields[0]
    layer.add_penalty({name: L1Penalty(0.25)})
    layer.add_constraint({name: non_negative})
    config = json.loads(json.dumps(layer.get_config()))
    built = Layer.from_config(config)
    assert type(built) is type(layer)
    assert built.params[0].shape == layer.params[0].shape
    assert built.params[0].dtype == layer.params[0].dtype
    assert built.penalties[name].get_config() == {"name": "l1", "strength": 0.25}
    assert built.constraints == {name: non_negative}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"layer_type": "bernoulli"},
        {"layer_type": "nonsense"},
        None,
        {"layer_type": None},
        Lateral(np.zeros((3, 3)), pairs=~np.eye(3, dtype=bool)).get_config() | {"pairs": [[0, 3]]},
    ],
)
def test_a_configuration_of_no_layer_is_refused(config):
    with pytest.raises(ParameterError):
        Layer.from_config(config)


def test_a_constraint_that_no_file_could_name_is_refused_when_saving(xp):
    layer = layer_at(xp, [0.0])
    layer.add_constraint({"loc": lambda x: None})
    with pytest.raises(ParameterError, match="no constraint '<lambda>'"):
        layer.get_config()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("bernoulli", BernoulliLayer),
        ("BernoulliLayer", BernoulliLayer),
        ("ISING", IsingLayer),
        ("weights", Weights),
        (IsingLayer, IsingLayer),
    ],
)
def test_get_finds_a_class_by_its_names(key, expected):
    assert get(key) is expected


def test_get_names_the_known_types():
    with pytest.raises(
        ParameterError, match=r"no layer 'potatoes', known are .*'bernoulli'.*'ising'"
    ):
        get("potatoes")


class Store(dict):
    """The two methods of pandas.HDFStore that layers call."""

    def put(self, key, value, *, track_times):
        self[key] = value

    def get(self, key):
        return self[key]


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas", reason="pandas is not installed (extra hdf)")


def test_parameters_come_back_from_a_store(xp, pandas):
    store = Store()
    weights = Weights((3, 2), device=device_like(xp))
    weights.save_params(store, "model/weights0")
    layer = layer_at(xp, [1.0, 2.0])
    layer.save_params(store, "model/layer0")
    other, other_layer = Weights((3, 2), device=device_like(xp)), layer_at(xp, [0.0, 0.0])
    other.load_params(store, "model/weights0")
    other_layer.load_params(store, "model/layer0")
    np.testing.assert_array_equal(host(other.W()), host(weights.W()))
    np.testing.assert_array_equal(host(other_layer.params.loc), [1.0, 2.0])


def test_a_store_that_does_not_fit_is_refused(xp, pandas):
    store = Store()
    layer_at(xp, [1.0, 2.0]).save_params(store, "a")
    with pytest.raises(ModelFileError, match="no b/loc"):
        layer_at(xp, [0.0, 0.0]).load_params(store, "b")
    with pytest.raises(ModelFileError, match="has shape"):
        layer_at(xp, [0.0]).load_params(store, "a")


@pytest.fixture
def hdf_store(tmp_path, pandas):
    pytest.importorskip("tables", reason="tables is not installed (extra hdf)")
    with pandas.HDFStore(tmp_path / "params.h5") as store:
        yield store


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["bernoulli", "ising", "gaussian", "exponential", "relu", "potts"])
def test_parameters_come_back_from_an_hdf_store_bit_for_bit(xp, hdf_store, kind, dtype):
    sizes = (3, 4) if kind == "potts" else (3,)
    layers = [get(kind)(*sizes, dtype=dtype, device=device_like(xp)) for _ in range(2)]
    draw = np.random.default_rng(0)
    values = {n: draw.random(p.shape) for n, p in layers[0].params._asdict().items()}
    layers[0].set_params(values)
    layers[0].save_params(hdf_store, "model/layers/layers_0")
    layers[1].load_params(hdf_store, "model/layers/layers_0")
    for a, b in zip(*(layer.params for layer in layers), strict=True):
        assert type(a) is type(b) and a.dtype == b.dtype == dtype
        np.testing.assert_array_equal(host(a), host(b))


def test_weights_come_back_from_an_hdf_store(xp, hdf_store):
    here = Weights((3, 2), device=device_like(xp))
    there = Weights((3, 2), device=device_like(xp))
    here.save_params(hdf_store, "model/weights_0")
    there.load_params(hdf_store, "model/weights_0")
    np.testing.assert_array_equal(host(here.W()), host(there.W()))
    with pytest.raises(ModelFileError, match="no model/weights_1/matrix"):
        there.load_params(hdf_store, "model/weights_1")


def test_saving_without_pandas_names_the_extra(xp, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pandas and tables: pip install"):
        layer_at(xp, [0.0]).save_params(Store(), "a")
