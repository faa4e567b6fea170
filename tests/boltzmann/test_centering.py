"""The centred gradient against the chain rule, and its offsets against the distribution."""

import numpy as np
import pytest

from gpugrad.boltzmann.centering import Centering
from gpugrad.boltzmann.gradient_util import named_arrays
from gpugrad.boltzmann.layers import BernoulliLayer, GaussianLayer, get
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State
from gpugrad.errors import ParameterError

from .enumeration import Enumerated
from .machines import PAIRINGS, device_like, host, small_machine

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


def centred_energies(exact, biases, mu, lam):
    """-(v.a' + h.b' + (v - mu).W.(h - lam)) of every joint state."""
    a, b = biases
    return np.array(
        [[-v @ a - h @ b - (v - mu) @ exact.W @ (h - lam) for h in exact.h] for v in exact.v]
    )


@pairings
def test_moving_the_offsets_leaves_the_distribution_unchanged(xp, pairing):
    """Centred energies, before and after, differ from the ordinary ones by a constant."""
    model, exact = small_machine(xp, pairing)
    centering = Centering.for_model(model, xp.asarray(exact.v[:5]), rate=0.3)
    before = [host(o).copy() for o in centering.offsets]
    for _ in range(3):
        biases = [host(x) for x in centering.centred_biases(model)]
        shift = centred_energies(exact, biases, *map(host, centering.offsets)) - exact.E
        np.testing.assert_allclose(shift, shift[0, 0], atol=1e-13)
        centering.update(model.data_state(xp.asarray(exact.v[7:])))
    assert all(
        np.abs(host(o) - p).max() > 0.01 for o, p in zip(centering.offsets, before, strict=True)
    )


@pairings
def test_centred_step_is_a_step_along_the_gradient_in_centred_parameters(xp, pairing):
    """Step in (a', b', W), go back to ordinary parameters, compare the distributions."""
    model, exact = small_machine(xp, pairing)
    data, other = (model.data_state(xp.asarray(exact.v[rows])) for rows in ([0, 5, 9], [2, 7]))
    draw = np.random.default_rng(0)
    mu, lam = draw.normal(size=4), draw.normal(size=3)
    centering = Centering(xp.asarray(mu), xp.asarray(lam))
    rate = 0.1
    a, b = (host(x) for x in centering.centred_biases(model))
    phases = [[host(units) for units in state] for state in (data, other)]
    dW, da, db = (
        f(*phases[0]) - f(*phases[1])
        for f in (
            lambda v, h: (v - mu).T @ (h - lam) / len(v),
            lambda v, h: v.mean(axis=0),
            lambda v, h: h.mean(axis=0),
        )
    )
    W, a, b = exact.W + rate * dW, a + rate * da, b + rate * db
    expected = Enumerated(W, a - W @ lam, b - mu @ W, *pairing)

    gradient = centering.gradient(model, data, other)
    stepped = {n: host(model.parameters()[n]) - rate * host(g) for n, g in named_arrays(gradient)}
    got = Enumerated(
        stepped["weights.0.matrix"], stepped["layers.0.loc"], stepped["layers.1.loc"], *pairing
    )
    np.testing.assert_allclose(got.joint(), expected.joint(), atol=1e-13)


def test_offsets_start_at_the_mean_of_what_couplings_see(xp):
    """Of Gaussian units that is x / var: the positive phase, centred, has mean 0."""
    model = BoltzmannMachine(
        [GaussianLayer(3), BernoulliLayer(2)], dtype="float64", device=device_like(xp)
    )
    model.set_parameters({"layers.0.log_var": np.array([-1.0, 0.0, 2.0])})
    data = xp.asarray(np.random.default_rng(0).normal(1.0, 2.0, (9, 3)))
    centering = Centering.for_model(model, data)
    seen = model.layers[0].rescale(data)
    np.testing.assert_allclose(host(centering.mu), host(seen).mean(axis=0), atol=1e-14)
    np.testing.assert_array_equal(host(centering.lam), [0.5, 0.5])


def test_offsets_of_zero_give_the_ordinary_gradient(xp):
    model, exact = small_machine(xp)
    data, other = (model.data_state(xp.asarray(exact.v[rows])) for rows in ([0, 5, 9], [2, 7]))
    centred = Centering(xp.zeros(4), xp.zeros(3)).gradient(model, data, other)
    ordinary = model.gradient(data, other)
    for (_, g), (_, f) in zip(named_arrays(centred), named_arrays(ordinary), strict=True):
        np.testing.assert_allclose(host(g), host(f), atol=1e-15)


def test_which_state_is_called_zero_does_not_matter(xp):
    """Flipping all visible units (v -> 1 - v, mu -> 1 - mu) flips the centred gradient of W."""
    model, exact = small_machine(xp)
    flipped, _ = small_machine(xp)
    flipped.set_parameters(
        {
            "weights.0.matrix": -exact.W,
            "layers.0.loc": -exact.a,
            "layers.1.loc": exact.b + exact.W.sum(axis=0),
        }
    )
    rows = [exact.v[[0, 5, 9]], exact.v[[2, 7]]]
    mu, lam = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0.3, 0.5, 0.8])
    gradients = []
    for machine, flip in ((model, False), (flipped, True)):
        states = [machine.data_state(xp.asarray(1 - v if flip else v)) for v in rows]
        centering = Centering(xp.asarray(1 - mu if flip else mu), xp.asarray(lam))
        gradients.append(host(centering.gradient(machine, *states).weights[0].matrix))
    np.testing.assert_allclose(gradients[0], -gradients[1], atol=1e-14)


@pairings
def test_offsets_start_at_data_mean_and_zero_field_mean(xp, pairing):
    model, exact = small_machine(xp, pairing)
    centering = Centering.for_model(model, xp.asarray(exact.v[:5]))
    np.testing.assert_allclose(host(centering.mu), exact.v[:5].mean(axis=0), atol=1e-15)
    assert host(centering.lam).tolist() == [0.5 if pairing[1] == "bernoulli" else 0.0] * 3


def test_an_update_moves_by_rate_towards_the_batch(xp):
    model, exact = small_machine(xp)
    centering = Centering(xp.zeros(4), xp.ones(3), rate=0.25)
    state = model.data_state(xp.asarray(exact.v[:5]))
    centering.update(state)
    np.testing.assert_allclose(host(centering.mu), 0.25 * exact.v[:5].mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(
        host(centering.lam), 0.75 + 0.25 * host(state.hidden).mean(axis=0), atol=1e-15
    )


def test_an_update_with_weights_is_that_with_repeated_samples():
    draw = np.random.default_rng(0)
    v, h = draw.random((3, 4)), draw.random((3, 2))
    weighted, repeated = (Centering(np.zeros(4), np.ones(2), rate=0.3) for _ in range(2))
    weighted.update(State((v, h)), sample_weight=np.array([1, 3, 2]) / 6)
    rows = [0, 1, 1, 1, 2, 2]
    repeated.update(State((v[rows], h[rows])))
    for a, b in zip(weighted.offsets, repeated.offsets, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-15)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_outside_zero_and_one_is_refused(rate):
    with pytest.raises(ParameterError, match="Centering: rate"):
        Centering(np.zeros(2), np.zeros(2), rate=rate)


@pytest.mark.parametrize("kinds", [("ising", "bernoulli", "exponential"), ("bernoulli",) * 4])
def test_centred_gradient_of_a_deep_machine_is_that_in_centred_parameters(kinds):
    """With b' fixed, loc changes with W: of a field, what W o of each neighbour takes from it."""
    layers = [get(kind)(3, dtype="float64", device="cpu") for kind in kinds]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu")
    draw = np.random.default_rng(4)
    data, free = (State(tuple(draw.random((n, 3)) for _ in kinds)) for n in (5, 4))
    offsets = [draw.random(3) for _ in kinds]
    got = Centering(*offsets).gradient(model, data, free)
    plain = [host(x.loc).copy() for x in model.gradient(data, free).layers]
    for i in range(len(kinds) - 1):
        W = np.zeros((3, 3))
        for state, sign in ((data, -1), (free, 1)):
            for lower, upper in zip(state[i], state[i + 1], strict=True):
                row = np.outer(lower - offsets[i], upper - offsets[i + 1])
                W += sign * row / len(state[i])
        np.testing.assert_allclose(got.weights[i].matrix, W, atol=1e-14)
        # the energy has -loc s, but +loc s for exponential units
        for j, step in ((i, W @ offsets[i + 1]), (i + 1, offsets[i] @ W)):
            plain[j] -= -step if kinds[j] == "exponential" else step
    for found, expected in zip(got.layers, plain, strict=True):
        np.testing.assert_allclose(found.loc, expected, atol=1e-13)
