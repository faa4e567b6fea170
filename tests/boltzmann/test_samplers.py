"""Gibbs chains against the exact distribution of a small machine."""

import tracemalloc

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.centering import Centering
from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.samplers import gibbs, start_from_data
from gpugrad.boltzmann.state import State
from gpugrad.errors import ParameterError
from tests.chance import deviates, normal_limit

from .joint import joint_machine
from .machines import (
    PAIRINGS,
    assert_donation_is_all_the_difference,
    device_like,
    host,
    small_machine,
)

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


@pairings
@pytest.mark.parametrize("beta", [None, 0.5])
def test_statistics_of_long_chains_are_the_exact_ones(pairing, beta):
    """First and mixed moments over time; false alarm 1e-7 a case.

    2000 independent chains of 100 kept sweeps each: time averages of different chains are
    independent, so that no autocorrelation has to be estimated.
    """
    model, exact = small_machine(np, pairing)
    rng, step = Generator(11), gibbs(1, beta=beta)
    state = model.random_state(2000, rng=rng)
    state, _ = gibbs(30, beta=beta)(rng, model, state)
    v, h, vh, sweeps = 0.0, 0.0, 0.0, 100
    for _ in range(sweeps):
        state, _ = step(rng, model, state)
        v, h = v + state.visible / sweeps, h + state.hidden / sweeps
        vh = vh + state.visible[:, :, None] * state.hidden[:, None, :] / sweeps
    first, second, mixed = exact.moments(exact.joint(1.0 if beta is None else beta))
    z = np.concatenate([deviates(v, first), deviates(h, second), deviates(vh, mixed).ravel()])
    assert z.max() < normal_limit(z.size, 1e-7)


@pairings
def test_one_sweep_has_the_exact_transition_probabilities(xp, pairing):
    """Visible states after one sweep from each hidden state; false alarm 1e-7 a case."""
    model, exact = small_machine(xp, pairing)
    copies = 3000
    h = np.repeat(exact.h, copies, axis=0)
    state, info = gibbs(1)(Generator(12), model, State((None, xp.asarray(h))))
    v = host(state.visible).reshape(len(exact.h), copies, -1)
    probability = exact.visible_given(exact.h)
    index = {tuple(row): i for i, row in enumerate(exact.v)}
    largest = 0.0
    for k in range(len(exact.h)):
        places = [index[tuple(row)] for row in v[k]]
        counts = np.bincount(places, minlength=len(exact.v))
        p = probability[k]
        usual = p * copies > 25  # where the binomial is close to normal
        z = np.abs(counts - p * copies)[usual] / np.sqrt(p * (1 - p) * copies)[usual]
        largest = max(largest, z.max())
    # binomial tails are heavier than normal ones: the limit is that of a thousandth of the rate
    assert largest < normal_limit(probability.size, 1e-10)
    expected = exact.hidden_given(host(state.visible)[:200]) @ exact.h
    np.testing.assert_allclose(host(info.expected.hidden)[:200], expected, atol=1e-13)


@pairings
def test_info_holds_the_mean_that_belongs_to_the_new_visible_units(xp, pairing):
    model, _ = small_machine(xp, pairing)
    state, info = gibbs(3)(Generator(1), model, model.random_state(5, rng=Generator(0)))
    np.testing.assert_array_equal(host(info.expected.visible), host(state.visible))
    mean = model.conditional_mean(1, State((state.visible, None)))
    np.testing.assert_allclose(host(info.expected.hidden), host(mean), atol=1e-13)


@pairings
def test_k_sweeps_are_k_times_one_sweep(xp, pairing):
    model, _ = small_machine(xp, pairing)
    start = model.random_state(6, rng=Generator(0))
    at_once, _ = gibbs(3)(Generator(2), model, start)
    rng, state = Generator(2), start
    for _ in range(3):
        state, _ = gibbs(1)(rng, model, state)
    for x, y in zip(at_once, state, strict=True):
        np.testing.assert_array_equal(host(x), host(y))


def test_a_step_leaves_the_old_state_alone_unless_it_is_donated(xp):
    model, _ = small_machine(xp)
    assert_donation_is_all_the_difference(model, 50)


@pytest.mark.parametrize("per_sample", [False, True])
def test_clamped_units_keep_their_values(xp, per_sample):
    model, _ = small_machine(xp)
    start = model.random_state(40, rng=Generator(0))
    mask = np.array([True, False, True, False])
    if per_sample:
        mask = np.random.default_rng(0).random((40, 4)) < 0.5
    state, _ = gibbs(2, clamp=xp.asarray(mask))(Generator(4), model, start)
    old, new, held = host(start.visible), host(state.visible), np.broadcast_to(mask, (40, 4))
    np.testing.assert_array_equal(new[held], old[held])
    assert (new[~held] != old[~held]).any()


def test_clamped_chains_sample_the_conditional_distribution():
    """Means of free units given the clamped ones; two deviates, false alarm 1e-7."""
    model, exact = small_machine(np, ("bernoulli", "ising"))
    n, values = 40_000, np.array([1.0, 0.0])
    state = model.random_state(n, rng=Generator(0))
    state.visible[:, :2] = values
    mask = np.array([True, True, False, False])
    state, _ = gibbs(40, clamp=mask, donate=True)(Generator(5), model, state)
    p = exact.marginal() * (exact.v[:, :2] == values).all(axis=1)
    z = deviates(state.visible[:, 2:], (p / p.sum()) @ exact.v[:, 2:])
    assert z.max() < normal_limit(2, 1e-7)


def test_a_temperature_of_its_own_for_each_chain(xp):
    """At beta 0 the units are fair coins, at large beta they sit at their modes."""
    model, exact = small_machine(xp, ("ising", "ising"))
    n = 20_000
    beta = xp.asarray(np.repeat([[0.0], [200.0]], n, axis=0))
    h = np.tile(exact.h[3], (2 * n, 1))
    state, _ = gibbs(1, beta=beta)(Generator(6), model, State((None, xp.asarray(h))))
    v = host(state.visible)
    assert np.abs(v[:n].mean(axis=0) * np.sqrt(n)).max() < normal_limit(4, 1e-8)
    mode = exact.v[exact.visible_given([exact.h[3]])[0].argmax()]
    np.testing.assert_array_equal(v[n:], np.tile(mode, (n, 1)))


def test_even_and_odd_layers_of_a_deep_machine_alternate(xp):
    """Three layers; moments of the middle and top layer against enumeration, false alarm 1e-7."""
    layers = [BernoulliLayer(2), IsingLayer(2), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp))
    draw = np.random.default_rng(3)
    model.set_parameters(
        {k: 0.7 * draw.normal(size=p.shape) for k, p in model.parameters().items()}
    )
    grid = np.array(np.meshgrid(*[[0.0, 1.0]] * 6)).reshape(6, -1).T
    grid[:, 2:4] = 2 * grid[:, 2:4] - 1
    energies = host(model.energy(State(tuple(xp.asarray(grid[:, i : i + 2]) for i in (0, 2, 4)))))
    p = np.exp(-energies) / np.exp(-energies).sum()
    rng = Generator(7)
    state, info = gibbs(30)(rng, model, model.random_state(5000, rng=rng))
    z = deviates(np.concatenate([host(x) for x in state], axis=1), p @ grid)
    assert z.max() < normal_limit(6, 1e-7)
    np.testing.assert_array_equal(host(info.expected[2]), host(state[2]))
    mean = model.conditional_mean(1, state)
    np.testing.assert_allclose(host(info.expected[1]), host(mean), atol=1e-13)


DEEP = (("ising", "bernoulli", "potts", "ising"), (2, 2, 2, 2))


def test_four_layers_of_any_units_have_the_exact_moments(xp):
    """Means of all units and products of neighbours against enumeration; false alarm 1e-7."""
    model, exact = joint_machine(xp, *DEEP)
    rng = Generator(17)
    state, info = gibbs(30)(rng, model, model.random_state(6000, rng=rng))
    found = [host(x) for x in state]
    z = [deviates(x, exact.mean(i)) for i, x in enumerate(found)]
    for i in range(3):
        products = found[i][:, :, None] * found[i + 1][:, None, :]
        z.append(deviates(products, -exact.moments(f"weights.{i}.matrix")).ravel())
    z = np.concatenate(z)
    assert z.max() < normal_limit(z.size, 1e-7)
    for i in (1, 3):
        mean = host(model.conditional_mean(i, state))
        np.testing.assert_allclose(host(info.expected[i]), mean, atol=1e-13)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_any_layer_of_a_deep_machine_can_be_held(layer):
    """Means of all other layers given a state of this one; false alarm 1e-7 a layer."""
    model, exact = joint_machine(np, *DEEP)
    n, rng = 6000, Generator(18)
    held = exact.units[layer][100]
    start = model.random_state(n, rng=rng).replace(layer, np.tile(held, (n, 1)))
    state, info = gibbs(30, clamp={layer: True})(rng, model, start)
    for units in (state[layer], info.expected[layer]):
        np.testing.assert_array_equal(units, start[layer])
    keep = exact.rows(layer, held)
    z = [deviates(x, exact.mean(i, keep)) for i, x in enumerate(state) if i != layer]
    z = np.concatenate(z)
    assert z.max() < normal_limit(z.size, 1e-7)


def test_a_layer_that_has_to_be_given_is_named():
    model, _ = joint_machine(np, *DEEP)
    state = model.random_state(3, rng=Generator(0))
    for layer, clamp, why in ((1, None, "an odd number"), (2, {2: True}, "clamped units")):
        with pytest.raises(ParameterError, match=f"layer {layer} of the state is None.*{why}"):
            gibbs(1, clamp=clamp)(Generator(0), model, state.replace(layer, None))
    model, _ = joint_machine(np, ("ising", "ising"), (3, 2), (0,))
    with pytest.raises(ParameterError, match="layer 0 of the state is None.*lateral couplings"):
        gibbs()(Generator(0), model, State((None, np.ones((2, 2)))))


@pairings
def test_start_from_data_gives_positive_phase_and_sample_at_once(xp, pairing):
    model, exact = small_machine(xp, pairing)
    v = xp.asarray(exact.v)
    state, expected = start_from_data(Generator(8), model, v)
    assert state.visible is v
    mean = exact.hidden_given(exact.v) @ exact.h
    np.testing.assert_allclose(host(expected.hidden), mean, atol=1e-13)
    again = model.conditional_sample(1, State((v, None)), rng=Generator(8))
    np.testing.assert_array_equal(host(state.hidden), host(again))


def test_memory_of_a_step_does_not_grow_with_k():
    model = RBM(300, 200, rng=Generator(0), device="cpu")
    state = model.random_state(100, rng=Generator(1))

    def peak(k):
        step = gibbs(k)
        step(Generator(2), model, state)
        tracemalloc.start()
        step(Generator(2), model, state)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(20) < 1.05 * peak(1)


@pytest.mark.parametrize("k", [0, -1, 1.0])
def test_k_below_one_is_refused(k):
    with pytest.raises(ParameterError, match="gibbs: k is"):
        gibbs(k)


def test_a_clamp_that_does_not_fit_is_refused(xp):
    model, _ = small_machine(xp)
    state = model.random_state(2, rng=Generator(0))
    for clamp in (xp.zeros(3, dtype=bool), xp.zeros(4), xp.zeros((1, 1, 4), dtype=bool)):
        with pytest.raises(ParameterError, match=r"gibbs: clamp is .* expected bool \(4,\)"):
            gibbs(1, clamp=clamp)(Generator(0), model, state)


def test_an_update_never_waits_for_the_device(cupy_standin, no_waiting):
    """Whatever would bring a value to the host raises during a whole centred PCD update."""
    model, exact = small_machine(cupy_standin)
    model.weights[0].add_penalty({"matrix": L2Penalty(0.1)})
    model.weights[0].add_constraint({"matrix": non_negative})
    data = cupy_standin.asarray(exact.v)
    rng, beta = Generator(0), cupy_standin.ones((16, 1))
    centering = Centering.for_model(model, data)
    state, mask = model.random_state(16, rng=rng), cupy_standin.zeros(4, dtype=bool)
    with no_waiting():
        state, info = gibbs(2, beta=beta, clamp=mask)(rng, model, state)
        _, positive = start_from_data(rng, model, data)
        centering.update(positive)
        model.parameter_step(centering.gradient(model, positive, info.expected))
        model.marginal_free_energy(data, beta)
    assert np.isfinite(host(model.weights[0].W())).all()
