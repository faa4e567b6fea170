"""Every pairing of unit types that has a partition function, against sums and integrals."""

import math

import numpy as np
import pytest

import gpugrad
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.gradient_util import named_arrays
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.partition import exact_log_partition
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.errors import NoPartitionFunctionError, ParameterError
from tests.chance import normal_limit

from .any_machines import (
    OWN_PAIRINGS,
    PAIRINGS,
    any_machine,
    integrated,
    layer_of,
    some_rows,
)
from .machines import host
from .slopes import slopes, slopes_of_model

pairings = pytest.mark.parametrize("pairing", PAIRINGS + OWN_PAIRINGS, ids="-".join)
betas = pytest.mark.parametrize("beta", [None, 0.6])


@pairings
def test_joint_energy(xp, pairing):
    model, exact = any_machine(xp, pairing)
    rows, columns = some_rows(exact.v, 20), some_rows(exact.h, 20)
    n = min(len(rows), len(columns))
    state = State((xp.asarray(exact.v.states[rows[:n]]), xp.asarray(exact.h.states[columns[:n]])))
    np.testing.assert_allclose(
        host(model.energy(state)), exact.E[rows[:n], columns[:n]], rtol=1e-12, atol=1e-12
    )


@pairings
@betas
def test_marginal_free_energy_integrates_the_hidden_units(xp, pairing, beta):
    model, exact = any_machine(xp, pairing)
    rows = np.flatnonzero(np.abs(exact.v.states).max(axis=1) < 2.5)[::7][:60]
    b = 1.0 if beta is None else beta
    got = model.marginal_free_energy(xp.asarray(exact.v.states[rows]), beta)
    np.testing.assert_allclose(host(got), exact.free_energy(rows, b), rtol=1e-9, atol=1e-9)


@pairings
@betas
def test_conditional_means_are_those_of_the_joint_distribution(xp, pairing, beta):
    model, exact = any_machine(xp, pairing)
    b = 1.0 if beta is None else beta
    rows = np.flatnonzero(np.abs(exact.v.states).max(axis=1) < 2.5)[::7][:60]
    columns = np.flatnonzero(np.abs(exact.h.states).max(axis=1) < 2.5)
    up = model.conditional_mean(1, State((xp.asarray(exact.v.states[rows]), None)), beta)
    down = model.conditional_mean(0, State((None, xp.asarray(exact.h.states[columns]))), beta)
    np.testing.assert_allclose(host(up), exact.hidden_mean(rows, b), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(host(down), exact.visible_mean(columns, b), rtol=1e-8, atol=1e-9)


@pairings
def test_modes_have_the_lowest_energy(xp, pairing):
    """No state of the list has less energy than the mode, given the other layer."""
    model, exact = any_machine(xp, pairing)
    columns = some_rows(exact.h, 5)
    h = xp.asarray(exact.h.states[columns])
    mode = model.conditional_mode(0, State((None, h)))
    at_mode = host(model.energy(State((mode, h))))
    assert np.all(at_mode <= exact.E[:, columns].min(axis=0) + 1e-12)


@pairings
def test_exact_log_partition_where_one_side_has_finitely_many_states(pairing):
    """Or where both sides are Gaussian, one normal distribution."""
    model, exact = any_machine(np, pairing)
    finite = any(layer.support for layer in model.layers)
    if not finite and pairing != ("gaussian", "gaussian"):
        with pytest.raises(ParameterError, match="expected units of finitely many states"):
            exact_log_partition(model)
        return
    assert exact_log_partition(model) == pytest.approx(exact.log_z(), abs=1e-9)
    assert exact_log_partition(model, beta=0.7) == pytest.approx(exact.log_z(0.7), abs=1e-8)


@pairings
def test_derivatives_are_the_gradient_of_the_mean_energy(xp, pairing):
    """By autodiff, and by central differences of an energy that is smooth in the parameters."""
    model, exact = any_machine(xp, pairing)
    rows = some_rows(exact.v, 12)
    columns = np.resize(some_rows(exact.h, 12), len(rows))
    state = State((xp.asarray(exact.v.states[rows]), xp.asarray(exact.h.states[columns])))
    got = dict(named_arrays(model.derivatives(state)))
    for name, slope in slopes_of_model(model, lambda: model.energy(state).mean()).items():
        assert host(got[name]) == pytest.approx(slope, rel=1e-6, abs=1e-7), name
    tensors = {name: gpugrad.tensor(p.copy()) for name, p in model.parameters().items()}
    for group, parts in (("layers", model.layers), ("weights", model.weights)):
        for i, part in enumerate(parts):
            fields = part.params._fields
            part.params = part.Params(*(tensors[f"{group}.{i}.{f}"] for f in fields))
    model.energy(state).mean().backward()
    for name, x in tensors.items():
        np.testing.assert_allclose(host(x.grad), host(got[name]), rtol=1e-11, atol=1e-12)


@pairings
def test_gradient_equals_autodiff_of_the_free_energy_difference(xp, pairing):
    model, exact = any_machine(xp, pairing)
    near = np.flatnonzero(np.abs(exact.v.states).max(axis=1) < 2.5)
    draw = np.random.default_rng(2)
    data, chains = (xp.asarray(exact.v.states[draw.choice(near, 3)]) for _ in range(2))
    weight = xp.asarray([0.5, 0.2, 0.3])
    parameters = {n: gpugrad.tensor(p) for n, p in model.parameters().items()}
    model.free_energy_difference(parameters, data, chains, weight).backward()
    by_hand = model.gradient(model.data_state(data), model.data_state(chains), sample_weight=weight)
    for name, array in named_arrays(by_hand):
        np.testing.assert_allclose(
            host(parameters[name].grad), host(array), rtol=1e-9, atol=1e-11, err_msg=name
        )


@pairings
def test_exact_phases_give_the_slope_of_the_log_likelihood(pairing):
    """d(-log p(v))/d theta by differences of the integrated machine."""
    model, exact = any_machine(np, pairing)
    rows = np.flatnonzero(np.abs(exact.v.states).max(axis=1) < 2.5)[1::9][:3]
    p = exact.joint().sum(axis=1)
    data, all_states = (model.data_state(v) for v in (exact.v.states[rows], exact.v.states))
    descent = model.gradient(all_states, data, sample_weight=p)

    def minus_log_likelihood(parameters):
        twin = integrated(pairing, parameters)
        return np.mean(twin.free_energy(rows)) + twin.log_z()

    slope = slopes(minus_log_likelihood, model.parameters())
    assert slope.keys() == dict(named_arrays(descent)).keys()
    for name, minus in named_arrays(descent):
        assert -minus == pytest.approx(slope[name], rel=1e-5, abs=1e-7), name


@pairings
def test_gibbs_sampling_has_the_moments_of_the_machine(pairing):
    """False alarm below 1e-6 over all pairings: at most 900 deviates, 1e-9 each."""
    model, exact = any_machine(np, pairing)
    n = 1500 if "two_wells" in pairing else 8000
    rng = Generator(3)
    state, _ = gibbs(15)(rng, model, model.random_state(n, rng=rng))
    v, h = state
    joint = exact.joint()
    pv, ph = joint.sum(axis=1), joint.sum(axis=0)
    found = [v, h, v * v, h * h, (v[:, :, None] * h[:, None, :]).reshape(n, -1)]
    V, H = exact.v.states, exact.h.states
    expected = [pv @ V, ph @ H, pv @ V**2, ph @ H**2, (V.T @ joint @ H).ravel()]
    squares = [
        pv @ V**2,
        ph @ H**2,
        pv @ V**4,
        ph @ H**4,
        ((V**2).T @ joint @ H**2).ravel(),
    ]
    limit = normal_limit(1, 1e-9)
    for values, mean, square in zip(found, expected, squares, strict=True):
        spread = np.sqrt(np.maximum(square - mean**2, 1e-12) / n)
        # where every state has one value the difference is rounding
        assert np.all(np.abs(values.mean(axis=0) - mean) <= limit * spread + 1e-9)


@pytest.mark.parametrize(
    ("lower", "upper", "good", "bad"),
    [
        # variances 4 and 9, couplings of x / var: W^2 below their product
        (("gaussian", 4.0), ("gaussian", 9.0), 5.9, 6.1),
        (("gaussian", 4.0), ("relu", None), 1.9, 2.1),
        # a field that pushes both towards 0 is never too strong
        (("relu", None), ("relu", None), -9.0, 1.1),
    ],
)
def test_quadratic_units_are_refused_where_their_joint_weight_has_no_integral(
    lower, upper, good, bad
):
    layers = []
    for kind, var in (lower, upper):
        layer = layer_of(np, kind, 1)
        if var is not None:
            layer.set_params({"log_var": np.log([var])})
        layers.append(layer)
    model = BoltzmannMachine(layers, dtype="float64", device="cpu")
    model.set_parameters({"weights.0.matrix": np.array([[good]])})
    with pytest.raises(NoPartitionFunctionError, match="joint precision is not positive"):
        model.set_parameters({"weights.0.matrix": np.array([[bad]])})


@pytest.mark.parametrize(
    ("kind", "units", "good", "bad"),
    [
        ("bernoulli", 3, [0.5, 0.4, -2.0], [0.5, 0.6, -2.0]),
        ("ising", 3, [0.3, 0.3, -0.3], [0.3, 0.3, -0.5]),
        ("truncated_exponential", 2, [0.5, 0.4], [0.5, 0.6]),
        # one state of each site: the largest field is a sum over sites of the largest entry
        ("potts", 2, [0.4, -3, -3, -3, -3, 0.5], [0.4, -3, -3, -3, -3, 0.7]),
    ],
)
def test_rates_have_to_be_positive_in_every_state_of_the_neighbours(kind, units, good, bad):
    model = BoltzmannMachine(
        [layer_of(np, kind, units), layer_of(np, "exponential", 1)], dtype="float64", device="cpu"
    )
    model.set_parameters({"weights.0.matrix": np.array(good)[:, None]})
    with pytest.raises(NoPartitionFunctionError, match=r"rate of unit 0 of layers\[1\]"):
        model.set_parameters({"weights.0.matrix": np.array(bad)[:, None]})


def test_even_layers_of_the_negative_phase_are_samples():
    """Their energy is taken as it is: no mean stands for them, whatever it is of a parameter."""
    layers = [layer_of(np, kind, 2) for kind in ("bernoulli", "ising", "blume_capel")]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu")
    draw = np.random.default_rng(3)
    model.set_parameters({n: draw.normal(size=p.shape) for n, p in model.parameters().items()})
    data, first, second = (
        State(
            (draw.random((n, 2)), draw.random((n, 2)), draw.integers(-1, 2, (n, 2)).astype(float))
        )
        for n in (5, 7, 6)
    )
    got = [model.gradient(data, free).layers[2].crystal for free in (first, second)]
    # the energy has + crystal x^2
    expected = [(free[2] ** 2).mean(axis=0) for free in (first, second)]
    np.testing.assert_allclose(got[1] - got[0], expected[0] - expected[1], atol=1e-13)


def test_log_z_of_a_gaussian_pair_is_that_of_the_joint_normal_distribution():
    model, exact = any_machine(np, ("gaussian", "gaussian"))
    (a, la), (b, lb) = (layer.params for layer in model.layers)
    precision = np.diag(np.exp(-np.concatenate([la, lb])))
    precision[:2, 2:] = -np.exp(-la)[:, None] * model.weights[0].W() * np.exp(-lb)
    precision[2:, :2] = precision[:2, 2:].T
    linear = np.concatenate([a * np.exp(-la), b * np.exp(-lb)])
    constant = (a**2 * np.exp(-la)).sum() / 2 + (b**2 * np.exp(-lb)).sum() / 2
    log_z = (
        1.5 * math.log(2 * math.pi)
        - np.linalg.slogdet(precision)[1] / 2
        + linear @ np.linalg.solve(precision, linear) / 2
        - constant
    )
    assert exact.log_z() == pytest.approx(log_z, abs=1e-10)
