"""Where training starts."""

import math

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.layers import Weights, get
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.streaming import Stream
from gpugrad.errors import DataError, NoPartitionFunctionError, ParameterError

from .machines import PAIRINGS, device_like, host


@pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)
def test_visible_units_alone_have_the_means_of_the_data(xp, pairing):
    data = (np.random.default_rng(0).random((50, 4)) < [0.1, 0.4, 0.6, 0.9]).astype("float64")
    data = data if pairing[0] == "bernoulli" else 2 * data - 1
    model = RBM(
        4, 3, visible=pairing[0], hidden=pairing[1], dtype="float64", device=device_like(xp)
    )
    model.layers[1].params.loc[...] = 7
    for start in (data[:7], data):  # a second call starts afresh
        initialize(model, xp.asarray(start), Generator(0))
    loc = host(model.layers[0].params.loc)
    mean = 1 / (1 + np.exp(-loc)) if pairing[0] == "bernoulli" else np.tanh(loc)
    np.testing.assert_allclose(mean, data.mean(axis=0), atol=1e-12)
    assert not host(model.layers[1].params.loc).any()


def test_constant_pixels_are_clipped_where_asked():
    data = np.tile([0.0, 1.0], (100, 1))
    model = RBM(2, 2, dtype="float64", device="cpu")
    initialize(model, data, Generator(0))
    np.testing.assert_allclose(model.layers[0].params.loc, [-math.log(199), math.log(199)])
    initialize(model, data, Generator(0), min_probability=0.1)
    np.testing.assert_allclose(model.layers[0].params.loc, [-math.log(9), math.log(9)])


def test_normal_weights_have_their_standard_deviation():
    """40,000 normal numbers: six standard deviations of the estimate, false alarm 2e-9."""
    model = RBM(200, 200, dtype="float64", device="cpu")
    for scale, expected in ((None, 0.01), (0.3, 0.3)):
        initialize(model, np.zeros((2, 200)), Generator(1), scale=scale)
        matrix = model.weights[0].W()
        assert abs(matrix.std() - expected) < 6 * expected / math.sqrt(2 * matrix.size)


def test_uniform_weights_fill_their_interval():
    """The largest of 40,000 lies above 0.999 of the bound but with probability e^-20."""
    model = RBM(200, 200, dtype="float64", device="cpu")
    for scale, bound in ((None, 4 * math.sqrt(6 / 400)), (0.5, 0.5)):
        initialize(model, np.zeros((2, 200)), Generator(2), scheme="uniform", scale=scale)
        matrix = model.weights[0].W()
        assert 0.999 * bound < matrix.max() <= bound
        assert -bound <= matrix.min() < -0.999 * bound


def test_one_seed_starts_one_machine_on_every_device(xp):
    data = np.zeros((2, 4))
    machines = [RBM(4, 3, device=d) for d in (device_like(xp), "cpu")]
    for model in machines:
        initialize(model, data, Generator(3))
    np.testing.assert_array_equal(*(host(m.weights[0].W()) for m in machines))


def test_constraints_hold_from_the_start():
    model = RBM(4, 3, device="cpu")
    model.weights[0].add_constraint({"matrix": non_negative})
    initialize(model, np.zeros((2, 4)), Generator(4))
    assert model.weights[0].W().min() == 0


def test_settings_and_data_out_of_range_are_refused():
    model = RBM(4, 3, device="cpu")
    with pytest.raises(ParameterError, match="scheme is 'cold'"):
        initialize(model, np.zeros((2, 4)), scheme="cold")
    with pytest.raises(ParameterError, match="min_probability is 0.7"):
        initialize(model, np.zeros((2, 4)), min_probability=0.7)
    with pytest.raises(DataError, match="initialize: data has shape"):
        initialize(model, np.zeros((2, 5)))


@pytest.mark.parametrize("minimum", [None, 0.2])
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_a_stream_gives_the_parameters_of_the_array(visible, minimum):
    data = np.random.default_rng(0).integers(0, 2, (50, 4)).astype("float64")
    data[:, 0] = 1
    settings = {"min_probability": minimum if visible == "bernoulli" else None}
    found = []
    for samples in (data, Stream(data, block=7), Stream(data, block=1000)):
        model = RBM(4, 3, visible=visible, dtype="float64", device="cpu")
        initialize(model, samples, Generator(0), **settings)
        assert model.layers[0].sample_size == 50
        found.append(model.parameters())
    for name, parameter in found[0].items():
        np.testing.assert_allclose(found[1][name], parameter, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(found[2][name], parameter)


def starting_machine(visible, hidden):
    layers = [
        get(kind)(n, dtype="float64", device="cpu") for kind, n in ((visible, 4), (hidden, 3))
    ]
    weights = [Weights((4, 3), scale=0, dtype="float64", device="cpu")]
    model = BoltzmannMachine(layers, weights=weights, dtype="float64", device="cpu")
    data = np.random.default_rng(0).integers(0, 2, (20, 4)).astype("float64")
    initialize(model, data, Generator(0), scale=1e-9)
    return model, data


@pytest.mark.parametrize(
    ("kinds", "settings", "error"),
    [
        (("gaussian", "bernoulli"), {"min_probability": 0.1}, ParameterError),
        (("bernoulli", "bernoulli"), {"missing": "impute", "stream": True}, ParameterError),
        (("gaussian", "gaussian"), {"scale": 100.0}, NoPartitionFunctionError),
    ],
    ids=["setting", "stream", "machine"],
)
def test_whatever_is_refused_changes_nothing(kinds, settings, error):
    model, data = starting_machine(*kinds)
    before = {name: p.copy() for name, p in model.parameters().items()}
    other = Stream(1 - data) if settings.pop("stream", False) else 1 - data[:7]
    with pytest.raises(error, match="^initialize: "):
        initialize(model, other, Generator(1), **settings)
    assert model.layers[0].sample_size == 20
    for name, p in model.parameters().items():
        np.testing.assert_array_equal(p, before[name], err_msg=name)
    # the moments too: the next samples are added to the 20 seen
    twin, _ = starting_machine(*kinds)
    for machine in (model, twin):
        machine.layers[0].online_param_update(data[:3])
    np.testing.assert_array_equal(model.layers[0].params.loc, twin.layers[0].params.loc)


def test_a_stream_with_a_fault_far_behind_changes_nothing():
    model = RBM(4, 3, device="cpu")
    before = {name: p.copy() for name, p in model.parameters().items()}
    data = np.ones((20, 4), "float32")
    data[15, 2] = np.nan
    with pytest.raises(DataError, match="initialize: data has NaN"):
        initialize(model, Stream(data, block=5), Generator(0))
    assert model.layers[0].sample_size == 0
    for name, p in model.parameters().items():
        np.testing.assert_array_equal(p, before[name])
    with pytest.raises(ParameterError, match="missing is 'impute', expected 'error' for data that"):
        initialize(model, Stream(data, block=5), Generator(0), missing="impute")
