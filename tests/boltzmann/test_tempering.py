"""Parallel tempering and driven Gibbs sampling against exact distributions of small machines."""

import numpy as np
import pytest

from gpugrad.backend.array_module import to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import tempering
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.layers import BernoulliLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.swaps import (
    joint_energy,
    row_log_partition,
    swap_pairs,
    with_hidden_means,
)
from gpugrad.boltzmann.tempering import TemperedState, driven_gibbs, parallel_tempering
from gpugrad.errors import CheckpointError, ParameterError
from tests.chance import deviates, normal_limit

from .any_machines import PAIRINGS as ANY_PAIRINGS
from .any_machines import any_machine
from .ladders import RATE, Listed, chi_square, deep_machine, joint_states, two_modes, up
from .machines import PAIRINGS, device_like, host, small_machine

BETAS = (0.3, 0.5, 0.75, 1.0)

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


def exact_start(xp, step, model, exact, chains, seed=0):
    """A state whose replicas have the exact distribution of their temperature."""
    draw = np.random.default_rng(seed)
    parts = [joint_states(exact, beta, chains, draw) for beta in step.betas]
    units = State(tuple(xp.asarray(np.concatenate(layer)) for layer in zip(*parts, strict=True)))
    start = step.start(Generator(seed), model, chains)
    return TemperedState(units, start.replica, start.betas)


def worst_chi_square(step, model, exact, chains, steps, seed=1):
    """Of all temperatures, after `steps` steps from an exact start; 1 is the limit."""
    state, rng = exact_start(np, step, model, exact, chains), Generator(seed)
    for _ in range(steps):
        state, _ = step(rng, model, state)
    return max(
        chi_square(state.at(r).visible, exact, exact.marginal(beta))
        for r, beta in enumerate(step.betas)
    )


# ---- the distribution


@pairings
def test_every_temperature_keeps_its_exact_distribution(pairing):
    """From exact states, 20 rounds of exchanges later; ladders are independent, so that counts of
    visible states are multinomial. Four chi-square tests, false alarm 1e-8 each."""
    model, exact = small_machine(np, pairing, scale=1.2)
    assert worst_chi_square(parallel_tempering(BETAS, k=20), model, exact, 40_000, 1) < 1


def beta_times_marginal_energy(layer, params, phi, betas):
    (at_one,) = row_log_partition(layer, params, phi)
    return [beta[:, 0] * at_one for beta in betas]


def hidden_loc_left_out(layer, params, phi, betas):
    zero = type(params)(np.zeros_like(params.loc))
    return row_log_partition(layer, zero, phi, betas)


def visible_loc_left_out(layer, units):
    return np.zeros(len(units))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("row_log_partition", beta_times_marginal_energy),
        ("row_log_partition", hidden_loc_left_out),
        ("row_energy", visible_loc_left_out),
    ],
)
def test_a_wrong_ratio_would_be_seen(monkeypatch, name, wrong):
    """The test above fails by far with exchanges by beta F_1, or by the couplings alone."""
    model, exact = small_machine(np, ("ising", "ising"), scale=1.2)
    monkeypatch.setattr(tempering, name, wrong)
    assert worst_chi_square(parallel_tempering(BETAS, k=20), model, exact, 40_000, 1) > 3


@pytest.mark.parametrize("pairing", ANY_PAIRINGS, ids="-".join)
def test_the_ratio_is_that_of_the_tempered_free_energies(xp, pairing, monkeypatch):
    """F_own - F_partner of every row against numerical integrals, for every pairing of units."""
    model, exact = any_machine(xp, pairing)
    near = np.flatnonzero(np.abs(exact.v.states).max(axis=1) < 2.5)
    rows = np.random.default_rng(0).choice(near, size=15)
    gains = []
    monkeypatch.setattr(tempering._Ladder, "swap", lambda self, gain: gains.append(host(gain)))
    visible = xp.asarray(exact.v.states[rows])
    for kind in {type(layer) for layer in model.layers}:
        original = kind.draw
        monkeypatch.setattr(
            kind,
            "draw",
            lambda layer, field, *args, _original=original, **options: (
                (visible.copy(), None)
                if layer is model.layers[0]
                else _original(layer, field, *args, **options)
            ),
        )
    betas = (0.4, 0.7, 1.0)
    step = parallel_tempering(betas, k=2)
    step(Generator(0), model, step.start(Generator(0), model, 5))
    own = np.repeat(betas, 5)
    for gain, partner in zip(gains, ((0.4, 1.0, 0.7), (0.7, 0.4, 1.0)), strict=True):
        other = np.repeat(partner, 5)
        expected = [
            exact.free_energy([row], a)[0] - exact.free_energy([row], b)[0]
            for row, a, b in zip(rows, own, other, strict=True)
        ]
        np.testing.assert_allclose(gain, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "pairing", [("gaussian", "bernoulli"), ("potts", "relu"), ("bernoulli", "gaussian")]
)
def test_moments_at_every_temperature_for_other_units(pairing):
    """Means of visible units and of their squares over 3,000 ladders, each averaged over 20
    sweeps; false alarm 1e-8 a case."""
    model, exact = any_machine(np, pairing)
    step, rng = parallel_tempering((0.5, 0.7, 1.0)), Generator(3)
    state = step.start(rng, model, 3000)
    state, _ = parallel_tempering(step.betas, k=30)(rng, model, state)
    first, second = [0.0] * 3, [0.0] * 3
    for _ in range(20):
        state, _ = step(rng, model, state)
        for r in range(3):
            v = state.at(r).visible
            first[r], second[r] = first[r] + v / 20, second[r] + v * v / 20
    z = []
    for r, beta in enumerate(step.betas):
        p = exact.joint(beta).sum(axis=1)
        for found, values in ((first[r], exact.v.states), (second[r], exact.v.states**2)):
            z.append(deviates(found, p @ values))
    assert np.max(z) < normal_limit(np.size(z), 1e-8)


def test_deep_machines_exchange_joint_states():
    """Chi-square tests of all 64 joint states at three temperatures; false alarm 1e-8 each."""
    model, grid, energy = deep_machine()
    step = parallel_tempering((0.3, 0.6, 1.0), k=15)
    draw = np.random.default_rng(0)
    probability = [np.exp(-b * energy) / np.exp(-b * energy).sum() for b in step.betas]
    rows = np.concatenate([grid[draw.choice(64, size=20_000, p=p)] for p in probability])
    start = step.start(Generator(0), model, 20_000)
    units = State(tuple(np.ascontiguousarray(rows[:, i : i + 2]) for i in (0, 2, 4)))
    state, info = step(Generator(1), model, TemperedState(units, start.replica, start.betas))
    assert (info.acceptance < 1).all()
    for r, p in enumerate(probability):
        found = np.concatenate(list(state.at(r)), axis=1)
        assert chi_square(found, Listed(grid), p) < 1
    mean = model.conditional_mean(1, state.cold)
    np.testing.assert_allclose(info.expected[1], mean, atol=1e-13)
    np.testing.assert_array_equal(info.expected[2], state.cold[2])


def test_a_machine_of_two_modes_that_gibbs_cannot_cross_gets_exact_mode_weights():
    """All chains start in the lighter mode. Gibbs chains stay there; the cold chains of parallel
    tempering end with the exact weights, false alarm 1e-8."""
    model, _, weight = two_modes()
    assert 0.6 < weight < 0.8
    n, down = 4000, -np.ones((1, 8))
    h = -np.ones((n, 4))
    state, _ = gibbs(200)(Generator(0), model, State((np.repeat(down, n, axis=0), h)))
    assert up(state.visible).max() == 0
    step = parallel_tempering((0.1, 0.2, 0.35, 0.6, 1.0), k=200)
    start = step.start(Generator(0), model, n)
    stuck = State((np.repeat(down, 5 * n, axis=0), np.repeat(h, 5, axis=0)))
    state, info = step(Generator(1), model, TemperedState(stuck, start.replica, start.betas))
    z = abs(up(state.cold.visible).mean() - weight) / np.sqrt(weight * (1 - weight) / n)
    assert z < normal_limit(1, RATE)
    assert info.acceptance.min() > 0.1


@pairings
def test_the_acceptance_is_the_exact_mean_of_min_1_r(pairing):
    """From exact states; one round, so that the ladders are independent; false alarm 1e-8."""
    model, exact = small_machine(np, pairing)
    n, betas = 20_000, (0.4, 1.0)
    step = parallel_tempering(betas)
    _, info = step(Generator(2), model, exact_start(np, step, model, exact, n))
    low, high = (exact.free_energy(exact.v, beta) for beta in betas)
    r = np.exp((low - high)[:, None] + (high - low)[None, :])
    p, q = (exact.marginal(beta) for beta in betas)
    mean = p @ np.minimum(r, 1) @ q
    spread = np.sqrt(p @ np.minimum(r, 1) ** 2 @ q - mean**2)
    z = abs(info.acceptance[0] - mean) / (spread / np.sqrt(n))
    assert z < normal_limit(1, RATE)
    assert info.tried.tolist() == [n]


# ---- the step


def test_one_temperature_is_gibbs_sampling(xp):
    model, _ = small_machine(xp)
    step = parallel_tempering([1.0], k=3)
    start = step.start(Generator(0), model, 20)
    state, info = step(Generator(1), model, start)
    plain, found = gibbs(3)(Generator(1), model, start.units)
    for x, y in zip(state.units, plain, strict=True):
        np.testing.assert_array_equal(host(x), host(y))
    np.testing.assert_allclose(host(info.expected[1]), host(found.expected[1]), atol=1e-14)


def test_expected_holds_the_cold_states_with_hidden_means_at_beta_1(xp):
    model, exact = small_machine(xp)
    step = parallel_tempering(BETAS, k=5)
    state, info = step(Generator(1), model, step.start(Generator(0), model, 30))
    cold = state.cold
    np.testing.assert_array_equal(host(info.expected.visible), host(cold.visible))
    mean = exact.hidden_given(host(cold.visible)) @ exact.h
    np.testing.assert_allclose(host(info.expected.hidden), mean, atol=1e-13)
    top = host(state.replica)[-1]
    assert len(set(top.tolist())) > 1  # exchanges have happened
    rows = top * 30 + np.arange(30)
    np.testing.assert_array_equal(host(cold.hidden), host(state.units.hidden)[rows])


@pytest.mark.parametrize("swap_every", [1, 2, 3])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("k", [1, 2])
def test_six_sweeps_at_once_are_those_of_shorter_steps(xp, swap_every, deep, k):
    """Exchanges fall due by the count of sweeps, wherever a step ends."""
    model, _ = small_machine(xp)
    if deep:
        layers = [BernoulliLayer(2, dtype="float64", device=device_like(xp)) for _ in range(3)]
        model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp))
    start = parallel_tempering(BETAS).start(Generator(0), model, 20)
    at_once, info = parallel_tempering(BETAS, k=6, swap_every=swap_every)(
        Generator(2), model, start
    )
    rng, state, tried = Generator(2), start, 0
    for _ in range(6 // k):
        state, part = parallel_tempering(BETAS, k=k, swap_every=swap_every)(rng, model, state)
        tried = tried + part.tried
    for (name, x), y in zip(at_once.arrays().items(), state.arrays().values(), strict=True):
        np.testing.assert_array_equal(host(x), host(y), err_msg=name)
    np.testing.assert_array_equal(info.tried, tried)


def test_a_step_leaves_the_old_state_alone_unless_it_is_donated(xp):
    model, _ = small_machine(xp)
    start = parallel_tempering(BETAS).start(Generator(0), model, 20)
    before = {name: host(x).copy() for name, x in start.arrays().items()}
    kept, _ = parallel_tempering(BETAS, k=4)(Generator(1), model, start)
    for name, x in start.arrays().items():
        np.testing.assert_array_equal(host(x), before[name])
    given, _ = parallel_tempering(BETAS, k=4, donate=True)(Generator(1), model, start)
    for x, y, z in zip(given.units, start.units, kept.units, strict=True):
        assert x is y
        np.testing.assert_array_equal(host(x), host(z))


def test_every_ladder_holds_each_replica_once(xp):
    model, _ = small_machine(xp)
    step = parallel_tempering(BETAS, k=7)
    _, info = step(Generator(1), model, step.start(Generator(0), model, 50))
    replica = host(info.replica)
    np.testing.assert_array_equal(np.sort(replica, axis=0), np.repeat([[0], [1], [2], [3]], 50, 1))
    assert (replica != np.arange(4)[:, None]).any()


@pytest.mark.parametrize("rungs", [1, 2, 3, 4, 5, 6])
def test_each_pair_of_neighbours_is_tried_in_turn(rungs):
    pairs = [set(), set()]
    for number in (0, 1):
        first, count = swap_pairs(rungs, number)
        pairs[number] = {(first + 2 * i, first + 2 * i + 1) for i in range(count)}
    assert pairs[0] | pairs[1] == {(i, i + 1) for i in range(rungs - 1)}
    assert rungs == 2 or not pairs[0] & pairs[1]


def test_a_step_never_waits_for_the_device(cupy_standin, no_waiting):
    """Whatever would bring a value to the host raises during steps of both samplers."""
    model, _ = small_machine(cupy_standin)
    rng, step, driven = Generator(0), parallel_tempering(BETAS, k=4), driven_gibbs(2)
    state, other = step.start(rng, model, 10), driven.start(rng, model, 10)
    with no_waiting():
        state, info = step(rng, model, state)
        driven(rng, model, other)
    assert (info.acceptance > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_single_and_half_precision_find_the_same_acceptance(dtype):
    """The log-ratio is summed in float64 whatever the machine's dtype is."""
    model = RBM(40, 30, dtype=dtype, device="cpu")
    draw = np.random.default_rng(1)
    model.set_parameters(
        {n: (0.2 * draw.normal(size=p.shape)).astype(dtype) for n, p in model.parameters().items()}
    )
    exact_model = model.copy(dtype="float64")
    step = parallel_tempering((0.8, 1.0), k=1)
    found = []
    for machine in (model, exact_model):
        state = step.start(Generator(0), machine, 4000)
        found.append(step(Generator(1), machine, state)[1].acceptance[0])
    assert found[0] == pytest.approx(found[1], abs=0.01)


@pytest.mark.parametrize("lateral", [False, True])
def test_joint_energies_in_half_precision_are_those_of_its_parameters(xp, lateral):
    """Summed in float16 they would be off by 0.3 here, ten times what exchanges may notice."""
    sizes, draw = (400, 300, 200), np.random.default_rng(2)
    inside = {0: np.ones((400, 400)) - np.eye(400)} if lateral else None
    model = BoltzmannMachine(
        [BernoulliLayer(n) for n in sizes], lateral=inside, dtype="float16", device=device_like(xp)
    )
    for name, p in model.parameters().items():
        values = 0.1 * draw.normal(size=p.shape)
        if name.startswith("lateral"):
            values = np.triu(values, 1) + np.triu(values, 1).T
        model.set_parameters({name: xp.asarray(values)})
    state = model.random_state(20, rng=Generator(3))
    exact = model.copy(dtype="float64").energy(State(tuple(x.astype("float64") for x in state)))
    found = joint_energy(model, state)
    assert found.dtype == "float64"
    assert np.allclose(host(found), host(exact), rtol=0, atol=2e-3)
    assert model.dtype == "float16" and all(
        p.dtype == "float16" for p in model.parameters().values()
    )


def test_joint_energies_of_a_function_in_half_precision_are_those_of_its_parameters(xp):
    def coupled(xp, params, v, h):
        return -xp.sum(xp.matmul(v, params.W) * h, axis=1)

    W = (0.1 * np.random.default_rng(2).normal(size=(400, 300))).astype("float16")
    model, exact_model = (
        EnergyMachine(
            [BernoulliLayer(n) for n in W.shape],
            coupled,
            {"W": W},
            dtype=dtype,
            device=device_like(xp),
        )
        for dtype in ("float16", "float64")
    )
    state = model.random_state(20, rng=Generator(3))
    exact = exact_model.energy(State(tuple(x.astype("float64") for x in state)))
    assert np.allclose(host(joint_energy(model, state)), host(exact), rtol=0, atol=2e-3)


# ---- checkpoints


@pytest.mark.parametrize(
    "make", [lambda: parallel_tempering(BETAS, k=3, swap_every=2), driven_gibbs]
)
def test_a_state_goes_on_bit_for_bit_from_its_arrays(xp, make):
    model, _ = small_machine(xp)
    step, rng = make(), Generator(5)
    state, _ = step(rng, model, step.start(rng, model, 12))
    saved = {name: host(x).copy() for name, x in state.arrays().items()}
    position = rng.state
    after, _ = step(rng, model, state)
    other = step.start(Generator(9), model, 12).with_arrays(
        {name: to_device(x, model.device) for name, x in saved.items()}
    )
    again, _ = step(Generator.from_state(position), model, other)
    for (name, x), y in zip(after.arrays().items(), again.arrays().values(), strict=True):
        np.testing.assert_array_equal(host(x), host(y), err_msg=name)


def test_arrays_that_are_missing_or_of_another_kind_are_refused():
    model, _ = small_machine()
    state = parallel_tempering(BETAS).start(Generator(0), model, 3)
    arrays = state.arrays()
    del arrays["replica"]
    with pytest.raises(CheckpointError, match="with_arrays: no array 'replica'"):
        state.with_arrays(arrays)
    with pytest.raises(CheckpointError, match="with_arrays: betas has shape"):
        state.with_arrays({**state.arrays(), "betas": np.ones((2, 2))})


# ---- driven Gibbs sampling


def test_driven_chains_have_the_distribution_of_their_averaged_transition():
    """With no memory, each sweep is a Gibbs sweep at a fresh beta: the stationary distribution of
    the mean sweep matrix, by quadrature over log beta. False alarm 1e-8."""
    std = 0.5
    model, exact = small_machine(np, scale=1.2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    s2 = np.log1p(std**2)
    betas = np.exp(np.sqrt(s2) * nodes - s2 / 2)
    # a sweep is v given the old h, then h given the new v, both at one beta
    matrix = sum(
        w * np.einsum("gv,vh->gh", exact.visible_given(exact.h, b), exact.hidden_given(exact.v, b))
        for w, b in zip(weights / weights.sum(), betas, strict=True)
    )
    values, vectors = np.linalg.eig(matrix.T)
    p_h = np.real(vectors[:, np.argmax(np.real(values))])
    p_h /= p_h.sum()
    p_v = sum(
        w * (p_h @ exact.visible_given(exact.h, b))
        for w, b in zip(weights / weights.sum(), betas, strict=True)
    )
    assert np.abs(p_v - exact.marginal()).max() > 0.005  # the bias that the docstring tells of
    step = driven_gibbs(60, std=std, momentum=0.0)
    state, _ = step(Generator(1), model, step.start(Generator(0), model, 40_000))
    assert chi_square(state.cold.visible, exact, p_v) < 1


def test_the_drive_is_a_stationary_autoregression_of_mean_1():
    """Mean and standard deviation of beta, and the correlation of log beta from sweep to sweep;
    three normal deviates, false alarm 1e-8 in all."""
    model, _ = small_machine()
    std, momentum, n = 0.3, 0.8, 200_000
    step = driven_gibbs(1, std=std, momentum=momentum)
    first = step.start(Generator(0), model, n)
    second, _ = step(Generator(1), model, first)
    limit = normal_limit(3, 1e-8)
    beta = step.beta(second.drive)[:, 0]
    assert abs(beta.mean() - 1) < limit * std / np.sqrt(n)
    fourth = ((beta - 1) ** 4).mean()
    assert abs(beta.var() - std**2) < limit * np.sqrt((fourth - std**4) / n)
    product = (first.drive * second.drive)[:, 0]
    assert abs(product.mean() - momentum) < limit * product.std() / np.sqrt(n)
    assert beta.min() > 0


def test_a_drive_of_no_width_is_gibbs_sampling(xp):
    model, exact = small_machine(xp)
    step, rng = driven_gibbs(1, std=0.0), Generator(4)
    start = step.start(Generator(0), model, 30)
    state, info = step(rng, model, start)
    after_drive = Generator(4)
    after_drive.normal((30, 1), "float64", device="cpu")
    plain, _ = gibbs(1)(after_drive, model, start.units)
    for x, y in zip(state.cold, plain, strict=True):
        np.testing.assert_array_equal(host(x), host(y))
    mean = exact.hidden_given(host(state.cold.visible)) @ exact.h
    np.testing.assert_allclose(host(info.expected.hidden), mean, atol=1e-13)


# ---- bad input


@pytest.mark.parametrize(
    "betas",
    [[], [[0.5, 1.0]], 1.0, [1.0, 0.5], [0.5, 0.5, 1.0], [0.5, 0.9], [-0.1, 1.0], ["a", "b"]]
    + [[np.nan, 1.0], [0.5, 1.0, 2.0]],
)
def test_betas_that_are_no_ladder_are_refused(betas):
    with pytest.raises(ParameterError, match="parallel_tempering: betas are"):
        parallel_tempering(betas)


def test_beta_0_is_for_bounded_units(xp):
    model, _ = small_machine(xp)
    step = parallel_tempering((0.0, 1.0))
    step(Generator(0), model, step.start(Generator(0), model, 4))
    model = RBM(3, 2, visible="gaussian", dtype="float64", device=device_like(xp))
    with pytest.raises(ParameterError, match="betas start at 0, where .* cannot be normalised"):
        step(Generator(0), model, step.start(Generator(0), model, 4))


def test_other_bad_settings_and_states_are_refused():
    model, _ = small_machine()
    for options in ({"k": 0}, {"swap_every": 0}, {"k": 1.5}):
        with pytest.raises(ParameterError, match="parallel_tempering: "):
            parallel_tempering(BETAS, **options)
    for options in ({"k": 0}, {"std": -1.0}, {"momentum": 1.0}, {"std": np.inf}):
        with pytest.raises(ParameterError, match="driven_gibbs: "):
            driven_gibbs(**options)
    state = model.random_state(4, rng=Generator(0))
    with pytest.raises(ParameterError, match="parallel_tempering: state is State, expected the T"):
        parallel_tempering(BETAS)(Generator(0), model, state)
    with pytest.raises(ParameterError, match="driven_gibbs: state is State, expected the Driven"):
        driven_gibbs()(Generator(0), model, state)
    with pytest.raises(ParameterError, match=r"has 4 rungs of 3 chains .* expected 2 rungs"):
        parallel_tempering((0.5, 1.0))(
            Generator(0), model, parallel_tempering(BETAS).start(Generator(0), model, 3)
        )
    with pytest.raises(ParameterError, match="n_chains is 0"):
        parallel_tempering(BETAS).start(Generator(0), model, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_units_without_a_field_do_not_overflow(dtype):
    layer = BernoulliLayer(3000, dtype=dtype, device="cpu")
    (found,) = row_log_partition(layer, layer.params, np.zeros((2, 3000), dtype))
    np.testing.assert_allclose(found, 3000 * np.log(2), rtol=1e-6)


def test_every_odd_layer_gets_its_own_mean():
    layers = [BernoulliLayer(2, dtype="float64", device="cpu") for _ in range(4)]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu", rng=Generator(3))
    for weights in model.weights:
        weights.set_params({"matrix": 100 * weights.W()})
    state = model.random_state(5, rng=Generator(4))
    found = with_hidden_means(model, state)
    W = [weights.W() for weights in model.weights]
    fields = {1: state[0] @ W[0] + state[2] @ W[1].T, 3: state[2] @ W[2]}
    for i, phi in fields.items():
        np.testing.assert_allclose(found[i], 1 / (1 + np.exp(-phi)), atol=1e-14)
    for i in (0, 2):
        np.testing.assert_array_equal(found[i], state[i])
