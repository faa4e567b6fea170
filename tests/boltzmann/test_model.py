"""The machine against the sum over all its joint states, for every pairing of unit types."""

import json

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.gradient_util import Gradient, named_arrays
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer, Weights
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.state import State
from gpugrad.errors import ParameterError

from .enumeration import STATES
from .machines import PAIRINGS, device_like, host, small_machine, states_of
from .slopes import slopes, slopes_of_model

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


@pairings
@pytest.mark.parametrize(("n", "m"), [(4, 3), (1, 1), (2, 3)])
def test_energy_of_every_joint_state(xp, pairing, n, m):
    model, exact = small_machine(xp, pairing, n, m)
    got = host(model.energy(states_of(xp, exact)))
    np.testing.assert_allclose(got, exact.E.ravel(), atol=1e-13)


@pairings
@pytest.mark.parametrize("beta", [None, 0.3, "per sample"])
def test_marginal_free_energy_sums_out_the_hidden_units(xp, pairing, beta):
    model, exact = small_machine(xp, pairing)
    betas = np.linspace(0, 2, len(exact.v)) if beta == "per sample" else beta
    given = xp.asarray(betas[:, None]) if beta == "per sample" else beta
    got = host(model.marginal_free_energy(xp.asarray(exact.v), given))
    values = np.broadcast_to(1.0 if beta is None else betas, len(exact.v))
    expected = [exact.free_energy([v], b)[0] for v, b in zip(exact.v, values, strict=True)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pairings
def test_free_energy_at_beta_is_not_beta_times_that_at_one(pairing):
    model, exact = small_machine(np, pairing)
    half = model.marginal_free_energy(exact.v, 0.5)
    assert np.abs(half - 0.5 * model.marginal_free_energy(exact.v)).max() > 0.1


@pairings
@pytest.mark.parametrize("beta", [None, 0.4])
def test_conditionals_are_those_of_the_joint_distribution(xp, pairing, beta):
    model, exact = small_machine(xp, pairing)
    b = 1.0 if beta is None else beta
    v, h = xp.asarray(exact.v), xp.asarray(exact.h)
    up, down = exact.hidden_given(exact.v, b), exact.visible_given(exact.h, b)
    hidden, visible = State((v, None)), State((None, h))
    np.testing.assert_allclose(
        host(model.conditional_mean(1, hidden, beta)), up @ exact.h, atol=1e-13
    )
    np.testing.assert_allclose(
        host(model.conditional_mean(0, visible, beta)), down @ exact.v, atol=1e-13
    )
    np.testing.assert_array_equal(
        host(model.conditional_mode(1, hidden, beta)), exact.h[up.argmax(axis=1)]
    )
    np.testing.assert_array_equal(
        host(model.conditional_mode(0, visible, beta)), exact.v[down.argmax(axis=1)]
    )


@pairings
def test_derivatives_are_slopes_of_the_mean_energy(xp, pairing):
    """The energy is linear in each parameter, so that differences are exact but for rounding."""
    model, exact = small_machine(xp, pairing)
    state = states_of(xp, exact)
    got = dict(named_arrays(model.derivatives(state)))
    for name, slope in slopes_of_model(model, lambda: model.energy(state).mean(), 0.5).items():
        assert host(got[name]) == pytest.approx(slope, abs=1e-12), name


@pairings
def test_gradient_of_exact_phases_is_that_of_the_negative_log_likelihood(xp, pairing):
    """The model phase is the enumerated p(v) as sample weights; slopes by central differences."""
    model, exact = small_machine(xp, pairing)
    data = exact.v[[1, 3, 3, 6, 10]]
    positive = model.data_state(xp.asarray(data))
    # expectations under the model, from the derivative of each visible state's energy
    p = exact.marginal()
    negative = model.derivatives(model.data_state(xp.asarray(exact.v)), sample_weight=xp.asarray(p))
    derivative = model.derivatives(positive)
    own = {"weights.0.matrix": exact.W, "layers.0.loc": exact.a, "layers.1.loc": exact.b}

    def likelihood(parameters):
        return type(exact)(*parameters.values(), *pairing).negative_log_likelihood(data)

    slope = slopes(likelihood, own)
    for (name, first), (_, second) in zip(
        named_arrays(derivative), named_arrays(negative), strict=True
    ):
        assert host(first) - host(second) == pytest.approx(slope[name], abs=1e-8), name


@pairings
def test_gradient_is_the_difference_of_both_phases(xp, pairing):
    model, exact = small_machine(xp, pairing)
    data, other = (model.data_state(xp.asarray(exact.v[rows])) for rows in ([0, 5, 9], [2, 7]))
    got = model.gradient(data, other)
    expected = [
        host(p) - host(q)
        for (_, p), (_, q) in zip(
            named_arrays(model.derivatives(data)),
            named_arrays(model.derivatives(other)),
            strict=True,
        )
    ]
    for (_, array), want in zip(named_arrays(got), expected, strict=True):
        np.testing.assert_allclose(host(array), want, atol=1e-14)


@pairings
def test_gradient_is_the_slope_of_the_free_energy_difference(xp, pairing):
    model, exact = small_machine(xp, pairing)
    v_data, v_model = (xp.asarray(exact.v[rows]) for rows in ([0, 5, 9], [2, 7]))
    weight = xp.asarray([0.5, 0.2, 0.3])
    got = model.gradient(model.data_state(v_data), model.data_state(v_model), sample_weight=weight)

    def difference(parameters):
        there = {name: xp.asarray(p) for name, p in parameters.items()}
        return model.free_energy_difference(there, v_data, v_model, weight)

    slope = slopes(difference, {name: host(p) for name, p in model.parameters().items()}, 1e-6)
    assert slope.keys() == dict(named_arrays(got)).keys()
    for name, array in named_arrays(got):
        assert host(array) == pytest.approx(slope[name], abs=1e-8), name


def test_a_penalty_enters_the_gradient_exactly_once(xp):
    model, exact = small_machine(xp)
    state = model.data_state(xp.asarray(exact.v))
    model.weights[0].add_penalty({"matrix": L2Penalty(0.3)})
    model.layers[1].add_penalty({"loc": L2Penalty(0.2)})
    gradient = dict(named_arrays(model.gradient(state, state)))
    np.testing.assert_allclose(host(gradient["weights.0.matrix"]), 0.3 * exact.W, atol=1e-14)
    np.testing.assert_allclose(host(gradient["layers.1.loc"]), 0.2 * exact.b, atol=1e-14)
    np.testing.assert_allclose(host(gradient["layers.0.loc"]), 0, atol=1e-14)
    assert model.get_penalties() == {
        "layers.1.loc": pytest.approx(0.1 * (exact.b**2).sum()),
        "weights.0.matrix": pytest.approx(0.15 * (exact.W**2).sum()),
    }


def test_a_step_subtracts_then_constrains_in_place(xp):
    model, exact = small_machine(xp)
    model.weights[0].add_constraint({"matrix": non_negative})
    held = model.parameters()
    model.parameter_step(
        Gradient(
            [type(x.params)(xp.ones(x.num_units)) for x in model.layers],
            [type(w.params)(xp.full(w.shape, 0.25)) for w in model.weights],
        )
    )
    np.testing.assert_allclose(host(held["layers.0.loc"]), exact.a - 1)
    np.testing.assert_allclose(host(held["weights.0.matrix"]), np.maximum(exact.W - 0.25, 0))


def test_energy_of_a_deep_machine_counts_each_layer_once(xp):
    draw = np.random.default_rng(0)
    layers = [BernoulliLayer(3), IsingLayer(2), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp))
    values = {name: draw.normal(size=p.shape) for name, p in model.parameters().items()}
    model.set_parameters(values)
    state = [draw.integers(0, 2, size=(5, 3)), draw.integers(0, 2, size=(5, 2)) * 2 - 1]
    state = [x.astype("float64") for x in (*state, draw.integers(0, 2, size=(5, 2)))]
    expected = [
        -sum(values[f"layers.{i}.loc"] @ x for i, x in enumerate((v, h, u)))
        - v @ values["weights.0.matrix"] @ h
        - h @ values["weights.1.matrix"] @ u
        for v, h, u in zip(*state, strict=True)
    ]
    got = model.energy(State(tuple(xp.asarray(x) for x in state)))
    np.testing.assert_allclose(host(got), expected, atol=1e-13)


def test_an_inner_layer_feels_both_neighbours(xp):
    layers = [BernoulliLayer(3), IsingLayer(2), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp), rng=Generator(0))
    draw = np.random.default_rng(1)
    v, u = draw.random((4, 3)), draw.random((4, 2))
    state = State((xp.asarray(v), None, xp.asarray(u)))
    W, U = (host(w.W()) for w in model.weights)
    np.testing.assert_allclose(host(model.field(1, state)), v @ W + u @ U.T, atol=1e-15)
    np.testing.assert_allclose(
        host(model.conditional_mean(1, state)), np.tanh(v @ W + u @ U.T), atol=1e-15
    )


@pytest.mark.parametrize("call", ["marginal_free_energy", "data_state"])
def test_a_deep_machine_has_no_closed_marginal(call):
    model = BoltzmannMachine([BernoulliLayer(2), BernoulliLayer(2), BernoulliLayer(2)])
    with pytest.raises(ParameterError, match="3 layers, expected 2"):
        getattr(model, call)(np.zeros((1, 2)))


@pairings
def test_configuration_and_parameters_rebuild_the_machine(xp, pairing):
    model, _ = small_machine(xp, pairing)
    config = json.loads(json.dumps(model.config()))
    other = BoltzmannMachine.from_config(config, device=device_like(xp))
    other.set_parameters(model.parameters())
    assert [type(x) for x in other.layers] == [type(x) for x in model.layers]
    for name, p in model.parameters().items():
        np.testing.assert_array_equal(host(other.parameters()[name]), host(p))
    assert other.dtype == model.dtype
    assert other.device == model.device


def test_parameters_are_named_and_ordered():
    assert list(RBM(3, 2).parameters()) == ["layers.0.loc", "layers.1.loc", "weights.0.matrix"]


def test_copies_share_no_memory(xp):
    model, exact = small_machine(xp)
    other = model.copy(dtype="float32")
    assert other.dtype == "float32"
    other.layers[0].params.loc[...] = 9
    np.testing.assert_array_equal(host(model.layers[0].params.loc), exact.a)


def test_set_parameters_replaces_all_or_nothing(xp):
    model, exact = small_machine(xp)
    with pytest.raises(ParameterError, match=r"layers.1.loc has shape \(9,\), expected \(3,\)"):
        model.set_parameters({"layers.0.loc": np.zeros(4), "layers.1.loc": np.zeros(9)})
    np.testing.assert_array_equal(host(model.layers[0].params.loc), exact.a)
    with pytest.raises(ParameterError, match="no parameter 'layers.7.loc'"):
        model.set_parameters({"layers.7.loc": np.zeros(4)})
    for wrong in (np.nan, np.inf):
        with pytest.raises(ParameterError, match="layers.1.loc has NaN or infinite values"):
            model.set_parameters({"layers.0.loc": np.zeros(4), "layers.1.loc": np.full(3, wrong)})
    np.testing.assert_array_equal(host(model.layers[0].params.loc), exact.a)


def test_layers_that_do_not_make_a_machine_are_refused():
    for layers in ([], [BernoulliLayer(2), Weights((2, 2))]):
        with pytest.raises(ParameterError, match="expected one or more unit layers"):
            BoltzmannMachine(layers)
    with pytest.raises(
        ParameterError, match=r"weights have shapes \[\(3, 2\)\], expected \[\(2, 2\)\]"
    ):
        BoltzmannMachine([BernoulliLayer(2), BernoulliLayer(2)], weights=[Weights((3, 2))])


def test_a_unit_type_that_does_not_exist_is_refused():
    with pytest.raises(ParameterError, match="no layer 'spam'"):
        RBM(2, 2, hidden="spam")
    with pytest.raises(ParameterError, match="Weights is not a layer of units"):
        RBM(2, 2, visible="weights")


@pytest.mark.parametrize("config", [{}, None, {"layers": [], "weights": [], "dtype": "float32"}])
def test_a_configuration_of_no_machine_is_refused(config):
    with pytest.raises(ParameterError):
        BoltzmannMachine.from_config(config)


def test_beta_must_be_a_number_or_a_column():
    model, exact = small_machine()
    with pytest.raises(ParameterError, match=r"beta has shape \(16,\), expected"):
        model.marginal_free_energy(exact.v, np.ones(16))


def test_random_state_holds_states_of_every_layer(xp):
    model, _ = small_machine(xp, ("bernoulli", "ising"))
    state = model.random_state(200, rng=Generator(0))
    for units, kind in zip(state, ("bernoulli", "ising"), strict=True):
        assert set(np.unique(host(units))) == set(STATES[kind])
