"""Machines of a user's own energy against sums over all of their states."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import energy_phases, energy_sums
from gpugrad.boltzmann.checkpoint import save_model
from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.energy_phases import EnergyPhases
from gpugrad.boltzmann.fit import Trainer, fit
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.layers import BernoulliLayer, GaussianLayer, IsingLayer, PottsLayer
from gpugrad.boltzmann.metrics import pseudo_likelihood, reconstruction_error
from gpugrad.boltzmann.optimizers import SGD, Adam
from gpugrad.boltzmann.partition import (
    exact_log_partition,
    is_enumerable,
    likelihood_bounds,
)
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.pretrain import pretrain
from gpugrad.boltzmann.providers import make_phases
from gpugrad.boltzmann.pseudo import log_pseudo_likelihood
from gpugrad.boltzmann.samplers import GibbsInfo, gibbs
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.swaps import joint_energy
from gpugrad.boltzmann.tap import tap_magnetizations
from gpugrad.boltzmann.tempering import parallel_tempering
from gpugrad.boltzmann.trajectory import independent_machine, parallel_trajectory_tempering
from gpugrad.errors import DataError, ParameterError
from tests.chance import assert_frequencies

from .machines import device_like, host
from .own_energies import listed, log_sum, states_of
from .own_units import BlumeCapel
from .slopes import slopes_of_model
from .trainers import assert_goes_on_alike


def pairwise(xp, params, v, h):
    """Affine in each unit, and no two units of one layer meet."""
    return -xp.matmul(v, params.a) - xp.sum(xp.matmul(v, params.W) * h, axis=1)


def three_body(xp, params, v, h):
    """Three visible units at once, and a square: neither pairwise nor affine."""
    product = v[:, 0] * v[:, 1] * v[:, 2]
    return params.K * product + xp.sum(xp.matmul(v, params.W) * h, axis=1) ** 2


def alone(xp, params, s):
    return -params.K * s[:, 0] * s[:, 1] * s[:, 2] - xp.matmul(s, params.a)


CASES = {
    "by layers": (lambda: [BernoulliLayer(3), IsingLayer(2)], pairwise, "layers"),
    "by units": (lambda: [BernoulliLayer(3), IsingLayer(2)], pairwise, "units"),
    "potts by layers": (lambda: [PottsLayer(1, 3), IsingLayer(2)], pairwise, "layers"),
    "three body": (lambda: [IsingLayer(3), BernoulliLayer(2)], three_body, "units"),
    "three values": (lambda: [BlumeCapel(3), PottsLayer(1, 2)], three_body, "units"),
}


def machine(xp, case, dtype="float64", seed=0):
    layers, energy, by = CASES[case]
    made, draw = layers(), np.random.default_rng(seed)
    sizes = [x.num_units for x in made]
    values = {"W": 0.6 * draw.normal(size=sizes)}
    values |= {"a": draw.normal(size=sizes[0])} if energy is pairwise else {"K": np.array(0.8)}
    return EnergyMachine(made, energy, values, by=by, dtype=dtype, device=device_like(xp))


cases = pytest.mark.parametrize("case", CASES)


@cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_likelihoods_are_sums_over_all_states(xp, case, dtype):
    """In float64, whatever the dtype of the machine."""
    model = machine(xp, case, dtype)
    units, e = listed(model)
    assert model.log_partition() == pytest.approx(log_sum(-e), abs=1e-12)
    assert np.allclose(host(model.energy(State(tuple(map(xp.asarray, units))))), e)
    v = states_of(model.layers[0])
    p = np.array([log_sum(-e[(units[0] == row).all(axis=1)]) for row in v])
    got = model.log_likelihoods(xp.asarray(v))
    np.testing.assert_allclose(got, p - log_sum(-e), rtol=0, atol=1e-12)
    assert np.exp(got).sum() == pytest.approx(1)
    hidden, of_all = model.hidden_energies("likelihood", xp.asarray(v))
    np.testing.assert_array_equal(host(hidden[0]), states_of(model.layers[1]))
    np.testing.assert_allclose(host(of_all).ravel(), e, atol=1e-5)


@cases
@pytest.mark.parametrize("beta", [None, 0.6, "array"])
def test_gibbs_keeps_the_exact_distribution(case, beta):
    """From exact samples, chi-square after three sweeps; false alarm 1e-6 a case."""
    model = machine(np, case)
    units, e = listed(model)
    n, b = 20_000, 1.0 if beta is None else 0.6
    p = np.exp(-b * e - log_sum(-b * e))
    pick = np.random.default_rng(1).choice(len(p), size=n, p=p)
    given = np.full((n, 1), 0.6) if beta == "array" else beta
    start = State(tuple(x[pick] for x in units))
    state, _ = gibbs(3, beta=given)(Generator(2), model, start)
    rows, all_rows = (np.concatenate(list(x), axis=1) for x in (state, units))
    found = (rows[:, None] == all_rows[None]).all(axis=2).argmax(axis=1)
    counts = np.bincount(found, minlength=len(p))
    rare = n * p < 10
    cells = [np.append(x[~rare], x[rare].sum()) for x in (counts, n * p)]
    some = cells[1] >= 10
    assert_frequencies(cells[0][some], cells[1][some])
    assert (rows != np.concatenate(list(start), axis=1)).any(axis=1).mean() > 0.2


@cases
def test_clamped_units_stay_and_the_others_follow_their_conditional(case):
    """5.2 standard errors of the exact conditional means, a dozen of them: false alarm 1e-6."""
    model = machine(np, case)
    units, e = listed(model)
    n = 20_000
    v = states_of(model.layers[0])[1]
    start = model.random_state(n, rng=Generator(3)).replace(0, np.tile(v, (n, 1)))
    state, info = gibbs(8, clamp={0: True})(Generator(4), model, start)
    same = (units[0] == v).all(axis=1)
    p = np.exp(-e[same] - log_sum(-e[same]))
    mean = p @ units[1][same]
    spread = np.sqrt(p @ units[1][same] ** 2 - mean**2)
    assert (state[0] == v).all() and (info.expected[0] == v).all()
    assert (abs(state[1].mean(axis=0) - mean) < 5.2 * spread / np.sqrt(n)).all()
    assert (abs(info.expected[1].mean(axis=0) - mean) < 5.2 * spread / np.sqrt(n)).all()


def chain(xp, params, v, h, g):
    couplings = (
        xp.sum(xp.matmul(v, params.W) * h, axis=1),
        xp.sum(xp.matmul(h, params.U) * g, axis=1),
    )
    return -couplings[0] - couplings[1]


def chain_machine():
    """Three layers, drawn at once, whose own parameters say something else than the energy."""
    draw = np.random.default_rng(5)
    layers = [IsingLayer(n) for n in (3, 2, 2)]
    for layer in layers:
        layer.params.loc[...] = 7.0
    values = {"W": draw.normal(size=(3, 2)), "U": draw.normal(size=(2, 2))}
    return EnergyMachine(layers, chain, values, by="layers", dtype="float64", device="cpu"), values


def test_a_machine_keeps_the_parameters_that_it_was_given():
    """It is probed at others."""
    model, values = chain_machine()
    for name, value in values.items():
        np.testing.assert_array_equal(model.parameters()[f"energy.{name}"], value)


def test_odd_layers_are_expected_at_their_means_and_the_others_as_they_are():
    model, values = chain_machine()
    state = model.random_state(20, rng=Generator(1))
    mean = np.tanh(state[0] @ values["W"] + state[2] @ values["U"].T)
    found = model.expected(state)
    np.testing.assert_allclose(found[1], mean, atol=1e-12)
    for i in (0, 2):
        np.testing.assert_array_equal(found[i], state[i])
    held = model.expected(state, held={1: True})
    np.testing.assert_array_equal(held[1], state[1])


def test_a_sweep_draws_layers_of_even_number_first_and_goes_back_the_same_way(monkeypatch):
    model, _ = chain_machine()
    drawn, draw = [], EnergyMachine._draw_layer
    monkeypatch.setattr(
        EnergyMachine,
        "_draw_layer",
        lambda self, i, *given: drawn.append(i) or draw(self, i, *given),
    )
    state = model.random_state(2, rng=Generator(1))
    for backwards in (False, True):
        model.gibbs_sweep(Generator(2), state, masks={}, backwards=backwards)
    assert drawn == [0, 2, 1, 1, 2, 0]


def test_random_states_have_each_state_of_a_unit_with_equal_probability():
    """5.2 standard errors of seven means: false alarm 1e-6."""
    model, _ = chain_machine()
    rows = np.concatenate(list(model.random_state(10_000, rng=Generator(1))), axis=1)
    assert (abs(rows.mean(axis=0)) < 5.2 / np.sqrt(10_000)).all()


@cases
def test_some_units_of_a_layer_can_be_held(case):
    model = machine(np, case)
    held = np.arange(model.layers[0].num_units) >= 1
    if isinstance(model.layers[0], PottsLayer):
        held[:] = True
    start = model.random_state(200, rng=Generator(3))
    state, _ = gibbs(5, clamp={0: held})(Generator(4), model, start)
    moved = (state[0] != start[0]).any(axis=0)
    np.testing.assert_array_equal(moved, ~held)


def test_blocks_of_states_make_the_whole_sum(monkeypatch):
    """And no more rows at a time than a block has."""
    model = machine(np, "three values")
    _, e = listed(model)
    v = states_of(model.layers[0])
    expected = model.log_likelihoods(v)
    rows, energy = [], model._energy
    model._energy = lambda *given: (rows.append(len(given[2])), energy(*given))[1]
    monkeypatch.setattr(energy_sums, "BLOCK_ROWS", 7)
    assert model.log_partition() == pytest.approx(log_sum(-e), abs=1e-12)
    np.testing.assert_allclose(model.log_likelihoods(v), expected, atol=1e-12)
    assert max(rows) <= 7


def test_energies_of_thousands_do_not_overflow_in_a_draw():
    def wells(xp, params, s):
        return params.K * (s[:, 0] - s[:, 1])

    values = {"K": np.array(5000.0)}
    model = EnergyMachine([IsingLayer(2)], wells, values, dtype="float64", device="cpu")
    start = State((np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]),))
    state, _ = gibbs(1)(Generator(1), model, start)
    np.testing.assert_array_equal(state[0], [[-1.0, 1.0]] * 3)


def test_joint_energies_of_half_precision_are_those_of_single():
    def energy(xp, params, s):
        return xp.matmul(s, params.a**2) + xp.sum(s / 3, axis=1)

    values = {"a": np.linspace(0.1, 1, 5)}
    model = EnergyMachine([IsingLayer(5)], energy, values, dtype="float16", device="cpu")
    state = model.random_state(20, rng=Generator(0))
    single = State((state.visible.astype("float32"),))
    expected = model.copy(dtype="float32").energy(single)
    found = joint_energy(model, state)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == "float64"


def test_rare_states_are_drawn_in_half_precision():
    """exp(-8), which added to 1 in float16 is nothing; chi-square at 1e-6."""

    def rare(xp, params, s):
        return params.K * s[:, 0]

    values = {"K": np.array(8.0)}
    model = EnergyMachine([BernoulliLayer(1)], rare, values, dtype="float16", device="cpu")
    state, _ = gibbs(1)(Generator(1), model, State((np.zeros((100_000, 1), "float16"),)))
    p = 1 / (1 + np.exp(8.0))
    counts = np.bincount(state[0][:, 0].astype(int), minlength=2)
    assert_frequencies(counts, [100_000 * (1 - p), 100_000 * p])


def test_as_many_as_2_20_hidden_states_are_listed():
    layers = [BernoulliLayer(1), BernoulliLayer(20)]
    model = EnergyMachine(layers, lambda xp, p, v, h: p.a * v[:, 0], ZERO, device="cpu")
    assert model.check_hidden_states("listed") == 2**20


def test_another_energy_of_the_same_parameters_is_another_configuration():
    def other(xp, params, s):
        return params.a * s[:, 1]

    first, second = (made([IsingLayer(2)], e, {"a": np.array(0.0)}) for e in (minus, other))
    assert first.config() == made([IsingLayer(2)], minus, ZERO).config() != second.config()


def minus(xp, params, s):
    return -params.a * s[:, 0]


# ---- gradients


class Still:
    """A sampler whose states never move."""

    def __init__(self, *units):
        self.state = State(units)

    def start(self, rng, model, n_chains):
        return self.state

    def __call__(self, rng, model, state):
        return state, GibbsInfo(state)


def mean_log_weight(model, v, weight):
    """sum_r w_r log sum over h of exp(-E(v_r, h)), by plain NumPy."""
    units, e = listed(model)
    return sum(
        w * log_sum(-e[(units[0] == row).all(axis=1)]) for row, w in zip(v, weight, strict=True)
    )


@cases
@pytest.mark.parametrize("most", [1024, 0])
def test_the_gradient_is_the_slope_of_the_likelihood(xp, monkeypatch, case, most):
    """The negative phase is the exact distribution, state by state with its weight.

    With `most` 0 hidden units are not listed: then only those at their means are exact.
    """
    model = machine(xp, case)
    if most == 0 and model.by != "layers":
        pytest.skip("hidden units that are neither listed nor at their means are drawn")
    monkeypatch.setattr(energy_phases, "LISTED", most)
    states = states_of(model.layers[0])
    data, chains = states[[0, 1, 2, 2]], states[[2, 1]]
    weight = np.array([0.1, 0.4, 0.3, 0.2])
    hidden = xp.asarray(states_of(model.layers[1])[:2])
    still = Still(xp.asarray(chains), hidden)
    if most == 0:
        still = Still(*model.expected(State((xp.asarray(chains), hidden))))
    phases = make_phases(model, Generator(0), sampler=still, n_chains=2, max_batch=4)
    assert isinstance(phases, EnergyPhases)
    phases.data_rows(4)[...] = xp.asarray(data)
    got = {n: host(g).copy() for n, g in phases(4, xp.asarray(weight)).items()}

    def value():
        of_chains = mean_log_weight(model, chains, [0.5, 0.5])
        return of_chains - mean_log_weight(model, data, weight)

    for name, slope in slopes_of_model(model, value).items():
        assert got[name] == pytest.approx(slope, abs=1e-8), name


def test_a_penalty_enters_once_and_a_constraint_holds():
    model = machine(np, "by units")
    chains = states_of(model.layers[0])[:2]
    hidden = states_of(model.layers[1])[:2]

    def gradient():
        phases = make_phases(
            model, Generator(0), sampler=Still(chains, hidden), n_chains=2, max_batch=2
        )
        phases.data_rows(2)[...] = chains
        return phases(2)["energy.W"].copy()

    plain = gradient()
    model.terms.add_penalty({"W": L2Penalty(0.3)})
    assert np.allclose(gradient() - plain, 0.3 * model.parameters()["energy.W"])
    model.terms.add_constraint({"W": non_negative})
    fit(model, states_of(model.layers[0]), epochs=2, rng=Generator(0))
    assert (model.parameters()["energy.W"] >= 0).all()


# ---- training


def test_a_coupling_of_three_spins_is_found():
    """The data are the exact distribution of K = 0.5, a = (0.3, 0, -0.2), 2,000 copies.

    500 updates by persistent chains; over seeds 0 ... 9 the largest error was 0.013.
    """
    true = {"K": np.array(0.5), "a": np.array([0.3, 0.0, -0.2])}
    model = EnergyMachine([IsingLayer(3)], alone, true, dtype="float64", device="cpu")
    (s,), e = listed(model)
    data = np.repeat(s, np.round(2000 * np.exp(-e - log_sum(-e))).astype(int), axis=0)
    learner = EnergyMachine(
        [IsingLayer(3)], alone, {"K": np.array(0.0), "a": np.zeros(3)}, device="cpu"
    )
    settings = {"optimizer": SGD(), "schedule": 0.2, "n_chains": 500, "average_epochs": 10}
    fit(learner, data, epochs=25, batch_size=100, rng=Generator(0), **settings)
    for name, p in learner.parameters().items():
        assert np.allclose(p, true[name.removeprefix("energy.")], atol=0.05), name


@pytest.mark.parametrize("method", ["pcd", "cd"])
@pytest.mark.parametrize("case", ["by layers", "three values"])
def test_training_raises_the_exact_likelihood(xp, case, method):
    model = machine(xp, case, dtype="float32")
    v = states_of(model.layers[0])
    data = np.repeat(v[:2], [30, 10], axis=0).astype("float32")
    before = model.log_likelihoods(xp.asarray(data)).mean()
    settings = {"optimizer": Adam(), "schedule": 0.05, "method": method, "k": 2}
    fit(model, data, epochs=30, batch_size=20, rng=Generator(1), **settings)
    # the entropy of the data bounds it
    assert before + 0.3 < model.log_likelihoods(xp.asarray(data)).mean() <= -0.56


def test_parallel_tempering_crosses_between_two_modes():
    """Three spins, all alike but for exp(-16): up and down have weight 1/2.

    All 2,000 ladders start up; 5 standard errors of the mean of a spin, false alarm 6e-7.
    """

    def pairs(xp, params, s):
        return -params.K * (s[:, 0] * s[:, 1] + s[:, 1] * s[:, 2] + s[:, 0] * s[:, 2])

    model = EnergyMachine([IsingLayer(3)], pairs, {"K": np.array(4.0)}, device="cpu")
    step = parallel_tempering((0.05, 0.2, 0.5, 1.0), k=5)
    rng = Generator(0)
    state = step.start(rng, model, 2000)
    state.units[0][...] = 1
    plain, _ = gibbs(100)(rng, model, State((np.ones((2000, 3), "float32"),)))
    for _ in range(20):
        state, info = step(rng, model, state)
    assert abs(info.expected[0][:, 0].mean()) < 5 / np.sqrt(2000)
    assert plain[0][:, 0].mean() > 0.9


def test_resumed_training_ends_in_the_same_bits(xp, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    data = states_of(BernoulliLayer(3)).astype("float32")

    def trainer(seed, callbacks):
        model = machine(xp, "by layers", dtype="float32")
        how = {"epochs": 4, "batch_size": 3, "optimizer": Adam(), "callbacks": callbacks}
        return Trainer(model, data, rng=Generator(seed), **how)

    assert_goes_on_alike(trainer, tmp_path / "c")


# ---- bad input


def coupled(xp, params, v, h):
    return params.a * v[:, 0] * v[:, 1] + xp.sum(h, axis=1)


def squared(xp, params, v, h):
    return params.a * xp.sum(v, axis=1) * xp.sum(h, axis=1) ** 2


def two_layers():
    return [BernoulliLayer(3, device="cpu"), IsingLayer(2, device="cpu")]


def made(layers, energy, values, **settings):
    return EnergyMachine(layers, energy, values, device="cpu", **settings)


ZERO = {"a": np.array(0.0)}

BAD = {
    "interval": (lambda: made([GaussianLayer(3)], alone, ZERO), "with finitely many states"),
    "no layers": (lambda: made([], alone, ZERO), r"layers are \[\], expected"),
    "no function": (lambda: made(two_layers(), 3, ZERO), "energy is 3, expected a function"),
    "no parameters": (lambda: made(two_layers(), coupled, {}), "no parameters, expected"),
    "by": (lambda: made(two_layers(), coupled, ZERO, by="rows"), "by is 'rows', expected"),
    "own units by layers": (
        lambda: made([BlumeCapel(3)], alone, ZERO, by="layers"),
        "by is 'layers', expected 'units', or 'layers' with Bernoulli",
    ),
    "shape": (
        lambda: made(two_layers(), lambda xp, p, v, h: v, ZERO),
        r"the energy of 8 samples has shape \(8, 3\), expected \(8,\)",
    ),
    # at a = 0 neither could be seen
    "coupled in a layer": (
        lambda: made(two_layers(), coupled, ZERO, by="layers"),
        "not affine in unit 0 of layer 0, or couples units of that layer",
    ),
    "not affine": (
        lambda: made(two_layers(), squared, ZERO, by="layers"),
        "not affine in unit 0 of layer 1",
    ),
    "dtype": (lambda: made(two_layers(), coupled, ZERO, dtype="int8"), "dtype is 'int8'"),
    "state": (
        lambda: made(two_layers(), coupled, ZERO).energy(State((np.zeros((2, 3)),))),
        "energy: the layers of the state",
    ),
    "parameter": (
        lambda: made(two_layers(), coupled, ZERO).set_parameters({"energy.b": np.zeros(2)}),
        "no parameter 'b'",
    ),
    "too many states": (
        lambda: made([BernoulliLayer(21)], lambda xp, p, s: p.a * s[:, 0], ZERO).log_partition(),
        "log_partition: .* states to list, expected at most",
    ),
    "missing values": (
        lambda: fit(made(two_layers(), coupled, ZERO), np.full((4, 3), np.nan)),
        "fit: data has NaN, first in sample 0, unit 0",
    ),
    "method": (
        lambda: fit(made(two_layers(), coupled, ZERO), np.zeros((4, 3)), method="tap"),
        "method is 'tap' and sparsity None",
    ),
    "nan": (
        lambda: made(two_layers(), coupled, {"a": np.array(np.nan)}),
        "EnergyMachine: the energy of a sample is nan, expected numbers, or inf",
    ),
    "minus infinity": (
        lambda: made([IsingLayer(2)], lambda xp, p, s: p.a + s[:, 0] * -xp.inf, ZERO),
        "EnergyMachine: the energy of a sample is -inf, expected numbers, or inf",
    ),
    "parameter of nan": (
        lambda: made(two_layers(), coupled, ZERO).set_parameters({"energy.a": np.array(np.nan)}),
        "set_parameters: .*energy.a",
    ),
    "width of a likelihood": (
        lambda: made(two_layers(), coupled, ZERO).log_likelihoods(np.zeros((2, 2))),
        r"log_likelihoods: data has shape \(2, 2\), expected \(samples, 3\)",
    ),
    "grey values": (
        lambda: made(two_layers(), coupled, ZERO).log_likelihoods(np.full((2, 3), 0.5)),
        "log_likelihoods: .* defined for the states 0 and 1 only",
    ),
    "width": (
        lambda: made(two_layers(), coupled, ZERO).free_energy(np.zeros((2, 2))),
        "free_energy: data has shape",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    call, message = BAD[case]
    with pytest.raises((ParameterError, DataError), match=message):
        call()


def test_an_infinite_energy_forbids_states_and_is_allowed():
    def no_pair(xp, params, s):
        return xp.where(s[:, 0] * s[:, 1] > 0, xp.inf, params.a)

    model = made([BernoulliLayer(2)], no_pair, ZERO)
    assert abs(model.log_partition() - np.log(3)) < 1e-6


BINARY = np.zeros((4, 3), "float32")

# what is written for the layers, weights and couplings of a BoltzmannMachine
FOR_BOLTZMANN = {
    "exact_log_partition": lambda m, path: exact_log_partition(m),
    "is_enumerable": lambda m, path: is_enumerable(m),
    "likelihood_bounds": lambda m, path: likelihood_bounds(m, BINARY, 0.0),
    "pseudo_likelihood": lambda m, path: pseudo_likelihood(m, BINARY),
    "log_pseudo_likelihood": lambda m, path: log_pseudo_likelihood(m, BINARY),
    "reconstruction_error": lambda m, path: reconstruction_error(m, BINARY),
    "initialize": lambda m, path: initialize(m, BINARY),
    "pretrain": lambda m, path: pretrain(m, BINARY),
    "tap_magnetizations": lambda m, path: tap_magnetizations(m),
    "save": lambda m, path: save_model(m, path),
    "parallel_trajectory_tempering": lambda m, path: parallel_trajectory_tempering().start(
        Generator(0), m, 2
    ),
    "independent_machine": lambda m, path: independent_machine(m),
}


@pytest.mark.parametrize("function", FOR_BOLTZMANN)
def test_functions_of_boltzmann_machines_refuse_it_by_name(function, tmp_path):
    message = (
        f"^{function}: the machine is of type EnergyMachine, expected a BoltzmannMachine; an "
        "EnergyMachine has log_partition and log_likelihoods as methods$"
    )
    with pytest.raises(ParameterError, match=message):
        FOR_BOLTZMANN[function](made(two_layers(), coupled, ZERO), tmp_path / "m")
    assert not any(tmp_path.iterdir())
    with pytest.raises(ParameterError, match=f"^{function}: the machine is of type int, expected"):
        FOR_BOLTZMANN[function](3, tmp_path / "m")


def test_training_by_units_takes_states_and_no_means():
    """Of -q s^4 the gradient by q vanishes on states of an Ising unit, and not between them."""

    def quartic(xp, params, s):
        return -params.q * xp.sum(s**4, axis=1)

    def made_new():
        return EnergyMachine([IsingLayer(4)], quartic, {"q": np.array(0.0)}, device="cpu")

    states = made_new().random_state(50, rng=Generator(0)).visible
    with pytest.raises(DataError, match="fit: data has values that are no states of ising units"):
        fit(made_new(), states * 0.5, epochs=1, rng=Generator(1))
    for data, how in ((states, {}), (states * 0.5, {"draw_states": True})):
        model = made_new()
        fit(model, data, epochs=2, rng=Generator(1), **how)
        assert float(model.parameters()["energy.q"]) == 0


def test_an_error_in_the_energy_tells_what_it_was_called_with():
    def other(xp, params, s):
        return params.J * xp.sum(s, axis=1)

    with pytest.raises(AttributeError) as caught:
        EnergyMachine(IsingLayer(4), other, {"K": np.array(0.0)}, device="cpu")
    assert "with 8 samples ((8, 4)) and parameters ['K']" in caught.value.__notes__[0]
