"""Parallel trajectory tempering against the exact distributions of the machines on the ladder."""

from itertools import pairwise

import numpy as np
import pytest

from gpugrad.backend.array_module import to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers import IsingLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.rungs import SummedRungs
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.trajectory import (
    Trajectory,
    independent_machine,
    parallel_trajectory_tempering,
)
from gpugrad.errors import CheckpointError, DataError, ParameterError
from tests.chance import normal_limit

from .any_machines import PAIRINGS as ANY_PAIRINGS
from .any_machines import any_machine
from .enumeration import Enumerated
from .ladders import RATE, Listed, chi_square, deep_machine, joint_states, two_modes, up
from .machines import PAIRINGS, device_like, host, small_machine

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


def ladder(xp=np, pairing=("ising", "ising"), rungs=4, scale=1.2):
    """Machines with couplings and biases of their own, rung by rung, and their enumerations.

    The first has no couplings. They are no multiples of each other.
    """
    draw = np.random.default_rng(7)
    machines, exact = [], []
    W, a, b = (scale * draw.normal(size=shape) for shape in ((4, 3), 4, 3))
    for r in range(rungs):
        part = r / (rungs - 1)
        values = [part * W] + [x + 0.3 * draw.normal(size=len(x)) for x in (part * a, part * b)]
        machine = RBM(4, 3, visible=pairing[0], hidden=pairing[1], dtype="float64",
                      device=device_like(xp))  # fmt: skip
        names = ("weights.0.matrix", "layers.0.loc", "layers.1.loc")
        machine.set_parameters(dict(zip(names, values, strict=True)))
        machines.append(machine)
        exact.append(Enumerated(*values, *pairing))
    return machines, exact


def exact_start(xp, machines, exact, chains, seed=0):
    """A trajectory whose chains have the exact distribution of their rung's machine."""
    draw = np.random.default_rng(seed)
    parts = [joint_states(e, 1.0, chains, draw) for e in exact]
    units = State(tuple(xp.asarray(np.concatenate(layer)) for layer in zip(*parts, strict=True)))
    replica = xp.asarray(np.repeat(np.arange(len(exact))[:, None], chains, 1))
    return Trajectory(tuple(machines[:-1]), units, replica, 0, xp.zeros(()), 0)


def worst_chi_square(machines, exact, chains=40_000, k=20):
    """Of all rungs, k sweeps after an exact start; 1 is the limit."""
    step = parallel_trajectory_tempering(k=k, threshold=None)
    state = exact_start(np, machines, exact, chains)
    state, _ = step(Generator(1), machines[-1], state)
    return max(chi_square(state.at(r).visible, e, e.marginal()) for r, e in enumerate(exact))


# ---- the distribution


@pairings
def test_every_rung_keeps_the_distribution_of_its_machine(pairing):
    """From exact states, 20 rounds of exchanges later; four chi-square tests of independent
    ladders, false alarm 1e-8 each."""
    assert worst_chi_square(*ladder(pairing=pairing)) < 1


@pytest.mark.parametrize("part", ["row_energy", "row_log_partition"])
def test_a_ratio_without_one_layer_would_be_seen(monkeypatch, part):
    """The test above fails by far where the free energy leaves the visible biases, or the sum over
    hidden units, out."""

    def nothing(layer, *args):
        rows = args[-1].shape[0]
        return np.zeros(rows) if part == "row_energy" else [np.zeros(rows)]

    monkeypatch.setattr(f"gpugrad.boltzmann.rungs.{part}", nothing)
    assert worst_chi_square(*ladder()) > 3


@pytest.mark.parametrize("pairing", ANY_PAIRINGS, ids="-".join)
def test_the_ratio_is_that_of_the_free_energies_of_both_machines(xp, pairing, monkeypatch):
    """F_own - F_partner of every chain, and after an exchange that is always accepted the fields
    are those of the new machine, for every pairing of units."""
    machines, exact = zip(*(any_machine(xp, pairing, seed=s) for s in (0, 1, 2)), strict=True)
    chains, gains, fields = 4, [], []

    def always(rng, gain):
        gains.append(host(gain))
        yes = xp.asarray(np.ones((gain.shape[0] // 2, chains), dtype=bool))
        return yes, xp.asarray(np.ones((gain.shape[0] // 2, chains)))

    monkeypatch.setattr("gpugrad.boltzmann.rungs.accept", always)
    drawn = SummedRungs.draw

    def draw(self, layer, field):
        if layer == 0:
            field[...] = visible
            return None
        fields.append(field.copy())
        return drawn(self, layer, field)

    monkeypatch.setattr(SummedRungs, "draw", draw)
    near = np.flatnonzero(np.abs(exact[0].v.states).max(axis=1) < 2.0)
    rows = np.random.default_rng(0).choice(near, size=3 * chains)
    visible = xp.asarray(exact[0].v.states[rows])
    base = independent_machine(machines[0])
    start = parallel_trajectory_tempering(machines=machines[:1]).start(
        Generator(0), machines[1], chains
    )
    state = Trajectory((base, *machines[:1]), start.units, start.replica, 0, xp.zeros(()), 0)
    rungs = (base, machines[0], machines[1])
    new, _ = parallel_trajectory_tempering(k=2, threshold=None)(Generator(0), machines[1], state)
    v, blocks = host(visible), [slice(chains * r, chains * (r + 1)) for r in range(3)]
    for gain, order in zip(gains, ((1, 2), (0, 1)), strict=True):
        for k, (own, partner) in enumerate((order, order[::-1])):
            x = xp.asarray(v[blocks[own]])
            expected = host(rungs[own].marginal_free_energy(x)) - host(
                rungs[partner].marginal_free_energy(x)
            )
            np.testing.assert_allclose(gain[k], expected, rtol=1e-9, atol=1e-9)
    # the second round exchanged rungs 0 and 1: their states, and the fields of those states
    np.testing.assert_array_equal(
        host(new.units.visible), np.concatenate([v[blocks[1]], v[blocks[0]], v[blocks[2]]])
    )
    found = host(fields[-1])
    for r, machine in enumerate(rungs):
        field = host(machine.field(1, State((new.at(r).visible, None))))
        if pairing[1] in ("bernoulli", "ising"):
            field = field + host(machine.layers[1].params.loc)
        np.testing.assert_allclose(found[blocks[r]], field, rtol=1e-12, atol=1e-12)


def test_deep_machines_exchange_joint_states():
    """Chi-square tests of all joint states of three layers on three rungs; false alarm 1e-8
    each."""
    model, grid, energy = deep_machine()
    machines, energies = [], []
    for part in (0.0, 0.5, 1.0):
        machine = model.copy()
        machine.set_parameters({n: part * p for n, p in model.parameters().items()})
        machines.append(machine)
        energies.append(part * energy)
    n, draw = 20_000, np.random.default_rng(0)
    probability = [np.exp(-e) / np.exp(-e).sum() for e in energies]
    rows = np.concatenate([grid[draw.choice(64, size=n, p=p)] for p in probability])
    units = State(tuple(np.ascontiguousarray(rows[:, i : i + 2]) for i in (0, 2, 4)))
    replica = np.repeat(np.arange(3)[:, None], n, 1)
    start = Trajectory(tuple(machines[:2]), units, replica, 0, np.zeros(()), 0)
    step = parallel_trajectory_tempering(k=15, threshold=None)
    state, info = step(Generator(1), model, start)
    assert (info.acceptance < 1).all()
    for r, p in enumerate(probability):
        found = np.concatenate(list(state.at(r)), axis=1)
        assert chi_square(found, Listed(grid), p) < 1
    mean = model.conditional_mean(1, state.cold)
    np.testing.assert_allclose(info.expected[1], mean, atol=1e-13)


def test_a_machine_of_two_modes_gets_exact_mode_weights_from_its_past():
    """All chains start in the lighter mode, which Gibbs chains do not leave (see the tests of
    parallel tempering); false alarm 1e-8."""
    model, _, weight = two_modes()
    past = []
    for part in (0.1, 0.2, 0.35, 0.6):
        machine = model.copy()
        machine.set_parameters({n: part * p for n, p in model.parameters().items()})
        past.append(machine)
    n = 4000
    step = parallel_trajectory_tempering(k=150, threshold=None, machines=past)
    start = step.start(Generator(0), model, n)
    stuck = State(tuple(-np.ones_like(x) for x in start.units))
    start = Trajectory(start.machines, stuck, start.replica, 0, start.accepted, 0)
    state, info = step(Generator(1), model, start)
    z = abs(up(state.cold.visible).mean() - weight) / np.sqrt(weight * (1 - weight) / n)
    assert z < normal_limit(1, RATE)
    assert info.acceptance.min() > 0.1


def test_chains_of_the_base_are_independent_from_sweep_to_sweep():
    """Correlation of each unit over one sweep; four normal deviates, false alarm 1e-8."""
    model, _ = small_machine()
    n, step = 40_000, parallel_trajectory_tempering(k=1, swap_every=100)
    state, _ = step(Generator(1), model, step.start(Generator(0), model, n))
    before = state.at(0).visible.copy()
    state, _ = step(Generator(2), model, state)
    x, y = (v - v.mean(axis=0) for v in (before, state.at(0).visible))
    z = np.abs((x * y).mean(axis=0)) / (x.std(axis=0) * y.std(axis=0)) * np.sqrt(n)
    assert z.max() < normal_limit(4, 1e-8)


# ---- the ladder


def test_a_machine_that_moves_away_is_frozen_when_exchanges_become_rare():
    """Couplings grow; after each step the acceptance with the last frozen machine is either known
    to be above the threshold or the machine joins the ladder, equal to the model of that moment."""
    model = RBM(12, 8, visible="ising", hidden="ising", dtype="float64", device="cpu")
    model.set_parameters({n: 0 * p for n, p in model.parameters().items()})
    W = np.random.default_rng(0).normal(size=(12, 8))
    step = parallel_trajectory_tempering(k=1, threshold=0.5, window=5, donate=True)
    rng, state = Generator(1), None
    state = step.start(rng, model, 200)
    sizes = []
    for i in range(150):
        model.set_parameters({"weights.0.matrix": W * i / 150})
        before = len(state.machines)
        state, info = step(rng, model, state)
        if len(state.machines) > before:
            newest = state.machines[-1].weights[0].W()
            np.testing.assert_array_equal(newest, W * i / 150)
            np.testing.assert_array_equal(state.at(before).visible, state.cold.visible)
            assert info.acceptance.shape == (before,)
            assert (np.sort(state.replica, axis=0) == np.arange(before + 2)[:, None]).all()
        sizes.append(len(state.machines))
    assert 3 <= sizes[-1] <= 20
    couplings = [np.abs(m.weights[0].W()).max() for m in state.machines]
    assert couplings[0] == 0
    assert all(low < high for low, high in pairwise(couplings))
    # exchanges between neighbours on the ladder are not rare: it was dense enough
    fixed = parallel_trajectory_tempering(k=200, threshold=None)
    _, info = fixed(rng, model, state)
    assert info.acceptance.min() > 0.3


def test_a_machine_that_stays_is_not_frozen():
    model, _ = small_machine()
    step = parallel_trajectory_tempering(k=100, threshold=0.05, window=10)
    state, _ = step(Generator(1), model, step.start(Generator(0), model, 50))
    assert len(state.machines) == 1


def test_the_ladder_ends_at_max_machines():
    """Couplings grow; without a limit there would be more machines than with one."""
    W, sizes = np.random.default_rng(0).normal(size=(12, 8)), []
    for most in (None, 2, 1):
        model = RBM(12, 8, visible="ising", hidden="ising", dtype="float64", device="cpu")
        step = parallel_trajectory_tempering(threshold=0.9, window=1, max_machines=most)
        rng = Generator(1)
        state = step.start(rng, model, 50)
        for i in range(20):
            model.set_parameters({"weights.0.matrix": W * i / 20})
            state, _ = step(rng, model, state)
        sizes.append(len(state.machines))
    assert sizes[0] > 3 and sizes[1:] == [2, 1]


def test_the_acceptance_that_is_looked_at_is_that_of_the_top_pair():
    machines, _ = ladder()
    step = parallel_trajectory_tempering(k=6, machines=machines[1:3], window=100)
    state, info = step(Generator(1), machines[3], step.start(Generator(0), machines[3], 20))
    assert state.tried == info.tried[-1] / 20 == 3  # every second round
    assert state.accepted == info.accepted[-1] != info.accepted[0]


def test_the_ladder_is_looked_at_when_the_window_is_full():
    model, _ = small_machine()
    step = parallel_trajectory_tempering(k=1, window=3)
    state, tried = step.start(Generator(0), model, 20), []
    for _ in range(4):
        state, _ = step(Generator(1), model, state)
        tried.append(state.tried)
    assert tried == [1, 2, 0, 1]
    assert 0 < state.accepted <= 20  # of the last round alone


def test_the_base_has_no_couplings_and_can_be_fitted_to_data(xp):
    model, exact = small_machine(xp)
    base = independent_machine(model)
    assert (host(base.weights[0].W()) == 0).all()
    assert (host(model.weights[0].W()) != 0).all()
    np.testing.assert_array_equal(host(base.layers[0].params.loc), exact.a)
    data = xp.asarray(np.array([[1.0, 0, 1, 0], [1.0, 0, 0, 0], [0.0, 1, 0, 0], [0.0, 1, 0, 1]]))
    fitted = independent_machine(model, data)
    mean = 1 / (1 + np.exp(-host(fitted.layers[0].params.loc)))
    np.testing.assert_allclose(mean, [0.5, 0.5, 0.25, 0.25], rtol=1e-12)
    with pytest.raises(DataError, match="independent_machine: data has shape"):
        independent_machine(model, data[:, :2])


def test_couplings_inside_a_layer_are_not_in_the_base():
    ring = np.roll(np.eye(4), 1, axis=0)
    model = BoltzmannMachine([IsingLayer(4)], lateral={0: ring + ring.T}, device="cpu")
    assert not independent_machine(model).lateral[0].J().any() and model.lateral[0].J().any()


def test_machines_that_are_given_are_copied():
    machines, _ = ladder()
    past = machines[1].copy()
    step = parallel_trajectory_tempering(machines=[past])
    state = step.start(Generator(0), machines[3], 4)
    past.weights[0].W()[...] = 0
    W = state.machines[1].weights[0].W()
    np.testing.assert_array_equal(W, machines[1].weights[0].W())


# ---- the step


@pytest.mark.parametrize("swap_every", [1, 2, 3])
def test_all_pairs_take_turns_whatever_the_sweeps_between_exchanges(swap_every):
    machines, _ = ladder()
    options = {"k": 4 * swap_every, "swap_every": swap_every, "machines": machines[1:3]}
    step = parallel_trajectory_tempering(**options)
    _, info = step(Generator(1), machines[3], step.start(Generator(0), machines[3], 5))
    assert info.tried.tolist() == [10, 10, 10]


def test_expected_holds_the_models_own_chains(xp):
    machines, exact = ladder(xp)
    step = parallel_trajectory_tempering(k=4, machines=machines[1:3], threshold=None)
    state, info = step(Generator(1), machines[3], step.start(Generator(0), machines[3], 20))
    assert len(state.machines) == 3
    np.testing.assert_array_equal(host(info.expected.visible), host(state.cold.visible))
    mean = exact[3].hidden_given(host(state.cold.visible)) @ exact[3].h
    np.testing.assert_allclose(host(info.expected.hidden), mean, atol=1e-13)
    replica = host(info.replica)
    assert (np.sort(replica, axis=0) == np.arange(4)[:, None]).all()
    assert (replica != np.arange(4)[:, None]).any()


@pytest.mark.parametrize("swap_every", [1, 3])
def test_k_sweeps_are_k_times_one_sweep(xp, swap_every):
    machines, _ = ladder(xp)
    options = {"swap_every": swap_every, "threshold": None, "machines": machines[1:3]}
    start = parallel_trajectory_tempering(**options).start(Generator(0), machines[3], 10)
    at_once, info = parallel_trajectory_tempering(k=6, **options)(Generator(2), machines[3], start)
    rng, state, tried = Generator(2), start, 0
    for _ in range(6):
        state, part = parallel_trajectory_tempering(k=1, **options)(rng, machines[3], state)
        tried = tried + part.tried
    for (name, x), y in zip(at_once.arrays().items(), state.arrays().values(), strict=True):
        np.testing.assert_allclose(host(x), host(y), rtol=1e-13, err_msg=name)
    np.testing.assert_array_equal(info.tried, tried)


def test_a_step_leaves_the_old_state_alone_unless_it_is_donated(xp):
    machines, _ = ladder(xp)
    options = {"k": 3, "threshold": None, "machines": machines[1:3]}
    start = parallel_trajectory_tempering(**options).start(Generator(0), machines[3], 20)
    before = {name: host(x).copy() for name, x in start.arrays().items()}
    kept, _ = parallel_trajectory_tempering(**options)(Generator(1), machines[3], start)
    for name, x in start.arrays().items():
        np.testing.assert_array_equal(host(x), before[name])
    given, _ = parallel_trajectory_tempering(**options, donate=True)(
        Generator(1), machines[3], start
    )
    for x, y in zip(given.units, kept.units, strict=True):
        np.testing.assert_array_equal(host(x), host(y))


def test_a_step_waits_for_the_device_only_when_the_window_is_full(
    cupy_standin, no_waiting, monkeypatch
):
    model, _ = small_machine(cupy_standin)
    rng, step = Generator(0), parallel_trajectory_tempering(k=4, window=6)
    state = step.start(rng, model, 10)
    waits = []

    def counted(self):
        waits.append(1)
        return float(self.get())

    with no_waiting():
        state, info = step(rng, model, state)
    assert state.tried == 4
    monkeypatch.setattr(type(state.replica), "__float__", counted)
    state, _ = step(rng, model, state)
    assert len(waits) == 1 and state.tried == 0
    assert (info.acceptance > 0).all()


# ---- checkpoints


@pytest.mark.parametrize("window", [2, 3])
def test_a_trajectory_goes_on_bit_for_bit_from_its_arrays(xp, window):
    """Into the state of a fresh start, whose ladder is shorter."""
    machines, _ = ladder(xp)
    step = parallel_trajectory_tempering(k=3, machines=machines[1:3], window=window)
    rng = Generator(5)
    state, _ = step(rng, machines[3], step.start(rng, machines[3], 12))
    saved = {name: host(x).copy() for name, x in state.arrays().items()}
    position = rng.state
    after, _ = step(rng, machines[3], state)
    fresh = parallel_trajectory_tempering(k=3).start(Generator(9), machines[3], 12)
    other = fresh.with_arrays({n: to_device(x, machines[3].device) for n, x in saved.items()})
    assert len(other.machines) == len(state.machines) > len(fresh.machines)
    again, _ = step(Generator.from_state(position), machines[3], other)
    for (name, x), y in zip(after.arrays().items(), again.arrays().values(), strict=True):
        np.testing.assert_array_equal(host(x), host(y), err_msg=name)


def test_arrays_that_do_not_fit_are_refused():
    model, _ = small_machine()
    state = parallel_trajectory_tempering().start(Generator(0), model, 3)
    arrays = state.arrays()
    wrong = {**arrays, "machines.0.weights.0.matrix": np.zeros((2, 2))}
    with pytest.raises(CheckpointError, match="with_arrays: machine 0 does not fit"):
        state.with_arrays(wrong)
    del arrays["machines.0.layers.0.loc"]
    with pytest.raises(CheckpointError, match=r"no array 'machines.0.layers.0.loc'"):
        state.with_arrays(arrays)


# ---- bad input


def test_ladders_of_other_shapes_or_units_are_refused():
    model, _ = small_machine()
    other, _ = small_machine(n=5)
    ising, _ = small_machine(pairing=("ising", "ising"))
    message = "parallel_trajectory_tempering: machine 1 is .*, expected one like"
    for wrong in (other, ising, model.copy(dtype="float32")):
        with pytest.raises(ParameterError, match=message):
            parallel_trajectory_tempering(machines=[model, wrong])
        step = parallel_trajectory_tempering(machines=[wrong])
        with pytest.raises(ParameterError, match="machine 0 is .*, expected one like"):
            step.start(Generator(0), model, 4)
        state = parallel_trajectory_tempering().start(Generator(0), model, 4)
        with pytest.raises(ParameterError, match="machine 0 is .*, expected one like"):
            parallel_trajectory_tempering()(Generator(0), wrong, state)
    with pytest.raises(ParameterError, match="machine 1 is str, expected BoltzmannMachine"):
        parallel_trajectory_tempering(machines=[model, "rbm"])


def test_other_bad_settings_and_states_are_refused():
    for options in (
        {"k": 0},
        {"swap_every": 0},
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"window": 0},
        {"max_machines": 0},
    ):
        with pytest.raises(ParameterError, match="parallel_trajectory_tempering: "):
            parallel_trajectory_tempering(**options)
    model, _ = small_machine()
    step = parallel_trajectory_tempering()
    with pytest.raises(ParameterError, match="n_chains is 0"):
        step.start(Generator(0), model, 0)
    with pytest.raises(ParameterError, match="state is State, expected the Trajectory that start"):
        step(Generator(0), model, model.random_state(4, rng=Generator(0)))


def test_without_exchanges_the_top_rung_is_the_models_gibbs_chain():
    """Hidden layer in, visible and hidden layer out: the sweep is h -> v -> h, like that of
    `gibbs`, whose one-sweep distribution the top rung has; chi-square, false alarm 1e-8."""
    model, exact = small_machine(scale=1.2)
    n, h = 40_000, exact.h[2]
    step = parallel_trajectory_tempering(k=1, swap_every=2)
    start = step.start(Generator(0), model, n)
    units = State((start.units.visible, np.tile(h, (2 * n, 1))))
    start = Trajectory(start.machines, units, start.replica, 0, start.accepted, 0)
    state, _ = step(Generator(1), model, start)
    assert chi_square(state.cold.visible, exact, exact.visible_given([h])[0]) < 1
    plain, _ = gibbs(1)(Generator(1), model, State((None, np.tile(h, (n, 1)))))
    assert chi_square(plain.visible, exact, exact.visible_given([h])[0]) < 1
