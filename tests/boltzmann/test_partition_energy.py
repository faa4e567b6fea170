"""Annealing of machines of a user's own energy against sums over all of their states.

A mean over independent chains may differ by 5.6 standard errors from its exact value: 2e-8 for a
normal deviate, below 1e-7 with the skew of these weights; 60 of them here make 6e-6.
"""

import math
import threading

import numpy as np
import pytest

import gpugrad.boltzmann.partition as partition
from gpugrad.backend import host_threads
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import partition_energy
from gpugrad.boltzmann.communicator import Serial
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer, PottsLayer
from gpugrad.boltzmann.layers.energy_layer import EnergyLayer
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.partition import ais, log_likelihood, log_likelihoods, raise_, reverse_ais
from gpugrad.boltzmann.partition_energy import EnergyPath, hidden_given
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.errors import DataError, DivergenceError, ParameterError
from tests.chance import assert_frequencies, mean_weight_is
from tests.distributed.thread_ranks import results

from .machines import device_like, host
from .own_energies import (
    CASES,
    exact_states,
    listed,
    log_sum,
    machine,
    row_numbers,
    states_of,
    triples,
)

cases = pytest.mark.parametrize("case", CASES)


def samples_for(model, state):
    """What `reverse_ais` takes: visible units where there are no others."""
    return state.visible if model.num_layers == 1 else state


# ---- laws


@cases
@pytest.mark.parametrize("fitted", [False, True])
def test_weights_average_to_the_partition_function(case, fitted):
    """Upwards exp(D) to Z, downwards from exact states exp(-D) to 1/Z, with few temperatures."""
    model = machine(np, case)
    log_z = log_sum(-listed(model)[1])
    data = exact_states(model, 200, 0).visible if fitted else None
    up = ais(model, Generator(1), n_temperatures=8, n_chains=1500, data=data)
    assert mean_weight_is(up.log_weights, log_z)
    samples = samples_for(model, exact_states(model, 1500, 1))
    down = reverse_ais(model, samples, Generator(2), n_temperatures=8, data=data)
    assert mean_weight_is(-down.log_weights, -log_z)
    assert min(up.ess, down.ess) > 400  # the standard errors mean something
    assert (up.method, down.method) == ("ais", "reverse_ais") and up.n_temperatures == 8


def transition(model, energy, units):
    """Probabilities, (states, states), of one sweep at this energy: site after site, layers of
    even number first. Written from the listed states alone."""
    whole = np.concatenate(units, axis=1)
    weight = np.exp(-(energy - energy.min()))
    columns, first = {}, 0
    for i, layer in enumerate(model.layers):
        width = layer.num_states if isinstance(layer, PottsLayer) else 1
        last = first + layer.num_units
        columns[i] = [slice(c, c + width) for c in range(first, last, width)]
        first = last
    sweep = np.eye(len(whole))
    for i in sorted(columns, key=lambda i: (i % 2, i)):
        for site in columns[i]:
            others = np.delete(whole, site, axis=1)
            same = (others[:, None] == others[None]).all(axis=2)
            joint = same * weight
            sweep = sweep @ (joint / joint.sum(axis=1, keepdims=True))
    return sweep


@pytest.mark.parametrize(
    "case", ["triple spins", "bits by layers", "potts by units", "three layers"]
)
def test_raise_has_the_probability_of_the_annealing_process_as_mean(case):
    """exp(-F(v) - D) averages to the probability with which `ais` ends at v, for visible states
    that it often comes to."""
    model, copies, betas = machine(np, case), 1500, [0.0, 0.4, 1.0]
    units, e = listed(model)
    data = exact_states(model, 50, 0).visible
    base = base_energy(model, data, units)
    process = np.exp(-base - log_sum(-base))
    for beta in betas[1:]:
        process = process @ transition(model, beta * e + (1 - beta) * base, units)
    v = states_of(model.layers[0])
    of_v = row_numbers(units[0], v)
    free = np.array([-log_sum(-e[of_v == i]) for i in range(len(v))])
    ends = np.array([process[of_v == i].sum() for i in range(len(v))])
    often = np.argsort(-ends)[:4]
    rows = np.repeat(often, copies)
    found = raise_(model, v[rows], Generator(9), betas=betas, data=data)
    for i, d in zip(often, found.log_weights.reshape(4, copies), strict=True):
        assert mean_weight_is(-free[i] - d, math.log(ends[i])), i


def base_energy(model, data, units):
    """-sum_i a_i v_i with the a_i at which free units have the data's means, by hand."""
    layer, mean, edge = model.layers[0], data.mean(axis=0), 0.5 / len(data)
    if isinstance(layer, IsingLayer):
        p = np.clip((1 + mean) / 2, edge, 1 - edge)
        loc = 0.5 * np.log(p / (1 - p))
    elif isinstance(layer, BernoulliLayer):
        p = np.clip(mean, edge, 1 - edge)
        loc = np.log(p / (1 - p))
    else:
        loc = np.log(mean)  # no state of a site is missing in these data
    return -units[0] @ loc


@cases
def test_raise_bounds_the_likelihood_from_below(case):
    """With eighty temperatures closely: within 0.1 nats, and five standard errors."""
    model = machine(np, case)
    state = exact_states(model, 600, 5)
    truth = model.log_likelihoods(state.visible).mean()
    found = raise_(model, state.visible, Generator(8), n_temperatures=80, data=state.visible)
    low = log_likelihood(model, state.visible, found)
    assert truth - 0.1 - 5.6 * found.error < low < truth + 5.6 * found.error
    assert found.method == "raise" and found.n_chains == 600


@pytest.mark.parametrize("case", ["bits by layers", "own units", "three layers"])
def test_hidden_units_are_drawn_exactly_given_the_visible_ones(xp, case, monkeypatch):
    """Chi-square of the states of all hidden layers; false alarm 1e-6. A block is too small for
    two samples, so that each is drawn in one of its own."""
    model = machine(xp, case)
    units, e = listed(model)
    v = states_of(model.layers[0])[3]
    same = (units[0] == v).all(axis=1)
    hidden = np.concatenate(units[1:], axis=1)[same]
    p = np.exp(-e[same] - log_sum(-e[same]))
    n = 4000 if xp is np else 400
    drawn = hidden_given("raise_", model, xp.asarray(np.tile(v, (n, 1))), Generator(3))
    assert len(drawn) == model.num_layers and all(x.dtype == model.dtype for x in drawn)
    np.testing.assert_array_equal(host(drawn[0]), np.tile(v, (n, 1)))
    found = np.concatenate([host(x) for x in drawn[1:]], axis=1)
    counts = np.bincount(row_numbers(found, hidden), minlength=len(p))
    rare = n * p < 10
    cells = [np.append(x[~rare], x[rare].sum()) for x in (counts, n * p)]
    some = cells[1] >= 10
    assert_frequencies(cells[0][some], cells[1][some])
    few = xp.asarray(np.tile(v, (50, 1)))
    together = hidden_given("raise_", model, few, Generator(3))
    monkeypatch.setattr(partition_energy, "BLOCK_ROWS", 1)
    for x, y in zip(together, hidden_given("raise_", model, few, Generator(3)), strict=True):
        np.testing.assert_array_equal(host(x), host(y))


# ---- the base


def test_annealing_goes_down_in_the_opposite_order(monkeypatch):
    """What RAISE bounds is the process that `ais` runs."""
    model, seen, sweep = machine(np, "bits by units"), [], EnergyMachine.gibbs_sweep

    def watched(self, *given, backwards=False, **how):
        seen.append(backwards)
        return sweep(self, *given, backwards=backwards, **how)

    monkeypatch.setattr(EnergyMachine, "gibbs_sweep", watched)
    state = exact_states(model, 4, 0)
    ais(model, Generator(0), n_temperatures=2, n_chains=4)
    raise_(model, state.visible, Generator(0), n_temperatures=2)
    reverse_ais(model, state, Generator(0), n_temperatures=2)
    assert seen == [False] * 2 + [True] * 4


def test_hidden_units_are_drawn_given_energies_in_float64():
    """Of millions, whose weights and whose differences single precision cannot hold."""

    def high(xp, params, v, h):
        return params.a + 1.5 * h[:, 0] + 0 * v[:, 0]

    layers, values = [BernoulliLayer(1), BernoulliLayer(1)], {"a": np.array(2.0**24)}
    model = EnergyMachine(layers, high, values, device="cpu")
    drawn = hidden_given("raise_", model, np.zeros((4000, 1), "float32"), Generator(1))[1]
    p = 1 / (1 + math.exp(1.5))
    counts = np.bincount(drawn[:, 0].astype(int), minlength=2)
    assert_frequencies(counts, [4000 * (1 - p), 4000 * p])
    assert drawn.dtype == "float32"


def test_the_base_of_many_units_is_summed_in_float64():
    values = {"a": np.array(0.5)}
    layers = [BernoulliLayer(3000)]
    model = EnergyMachine(layers, lambda xp, p, s: p.a * s[:, 0], values, device="cpu")
    data = np.random.default_rng(0).random((10, 3000)).astype("float32")
    path = EnergyPath(model, data)
    exact = np.logaddexp(0, path.base.loc.astype("float64")).sum()
    assert path.log_z == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("case", ["triple spins", "bits by layers", "potts by layers"])
def test_the_base_has_the_data_s_means_and_is_normalised(case):
    model = machine(np, case)
    data = exact_states(model, 500, 3).visible
    model.layers[0].params.loc[...] = 7.0  # the layers' own parameters have no say
    path = EnergyPath(model, data)
    units, _ = listed(model)
    base = path._base_energy(np, units[0])
    assert path.log_z == pytest.approx(log_sum(-base), abs=1e-12)
    # of Potts units a constant of each site is free
    np.testing.assert_allclose(np.ptp(base - base_energy(model, data, units)), 0, atol=1e-12)
    start = path.start(20_000, Generator(1))
    for i, found in enumerate(start):
        mean = data.mean(axis=0) if i == 0 else states_of(model.layers[i]).mean(axis=0)
        spread = np.sqrt(np.maximum(found.var(axis=0), 1e-4) / len(found))
        assert (abs(found.mean(axis=0) - mean) < 5.2 * spread).all()
    assert (model.layers[0].params.loc == 7.0).all() and model.layers[0].sample_size == 0


def test_units_of_a_user_start_in_each_state_alike_whatever_their_own_energy():
    """A potential without parameters stays when those are 0. Chi-square, false alarm 1e-6."""

    class Deep(EnergyLayer):
        support = (0, 1, 2)

        @staticmethod
        def potential(xp, params, x):
            return 3.0 * x

    def energy(xp, params, s):
        return params.K * s[:, 0] * s[:, 1]

    values = {"K": np.array(0.7)}
    model = EnergyMachine([Deep(2)], energy, values, dtype="float64", device="cpu")
    drawn = model.random_state(9000, rng=Generator(4)).visible
    assert_frequencies(np.bincount(row_numbers(drawn, states_of(model.layers[0]))), [1000] * 9)
    up = ais(model, Generator(5), n_temperatures=4, n_chains=2000, data=drawn[:50])
    assert mean_weight_is(up.log_weights, log_sum(-listed(model)[1]))


# ---- energies that forbid states


def no_neighbours(xp, params, s):
    """A gas in which two neighbours are never both there."""
    clash = s[:, 0] * s[:, 1] + s[:, 1] * s[:, 2] + s[:, 2] * s[:, 3]
    return xp.where(clash > 0, math.inf, -params.mu * xp.sum(s, axis=1))


def gas(dtype="float64"):
    values = {"mu": np.array(0.4)}
    return EnergyMachine([BernoulliLayer(4)], no_neighbours, values, dtype=dtype, device="cpu")


def test_chains_that_start_in_forbidden_states_have_weight_zero():
    """8 of 16 states are forbidden: so many of 2,000 chains, chi-square at 1e-6."""
    model = gas()
    log_z = log_sum(-listed(model)[1])
    found = ais(model, Generator(1), n_temperatures=5, n_chains=2000)
    zero = np.sum(found.log_weights == -math.inf)
    assert_frequencies([zero, 2000 - zero], [1000, 1000])
    assert mean_weight_is(found.log_weights, log_z)
    assert abs(found.log_z - log_z) < 5.6 * found.error and found.ess < 1001


def test_annealing_downwards_from_forbidden_states_is_refused():
    """It never meets them, so that its weights miss their part of the base."""
    model, v = gas(), np.array([[0.0, 0, 0, 1]] * 4)
    for function in (raise_, reverse_ais):
        name = function.__name__
        with pytest.raises(
            ParameterError, match=rf"^{name}: the energy of \d+ of 1000 .* is inf, .* ais takes"
        ):
            function(model, v, Generator(1), n_temperatures=3)


def test_annealing_downwards_is_refused_where_few_states_are_forbidden():
    """One of 256, which the look at 1,000 misses once in fifty."""

    def but_one(xp, params, s):
        return xp.where(xp.sum(s, axis=1) > 7.5, math.inf, params.a * s[:, 0])

    values = {"a": np.array(0.5)}
    model = EnergyMachine([BernoulliLayer(8)], but_one, values, device="cpu")
    with pytest.raises(ParameterError, match=r"^raise_: the energy of \d of 1000 states"):
        raise_(model, np.zeros((4, 8)), Generator(1), n_temperatures=3)


@pytest.mark.parametrize(
    "own, up, weight", [(True, False, -math.inf), (False, True, -math.inf), (True, True, math.inf)]
)
def test_only_chains_of_an_own_energy_upwards_may_have_weight_zero(own, up, weight):
    model = gas() if own else RBM(4, 2, device="cpu")
    with pytest.raises(DivergenceError, match="^ais: 1 of 3 chains have weights that are not fin"):
        partition._check_weights("ais", model, np.array([0.0, weight, 1.0]), up=up)
    partition._check_weights("ais", gas(), np.array([0.0, -math.inf, 1.0]), up=True)


def test_where_all_chains_have_weight_zero_nothing_is_claimed():
    def only_up(xp, params, s):
        return xp.where(xp.sum(s, axis=1) < 40, math.inf, params.a)

    values = {"a": np.array(0.0)}
    layer = BernoulliLayer(40, device="cpu")
    layer_state = np.ones((200, 40))
    model = EnergyMachine([layer], only_up, values, dtype="float64", device="cpu")
    with pytest.raises(DivergenceError, match="^ais: all 5 chains .* forbids, expected more"):
        ais(model, Generator(0), n_temperatures=2, n_chains=5)
    found = ais(model, Generator(0), n_temperatures=2, n_chains=50, data=layer_state)
    assert np.isfinite(found.log_z)


def test_a_unit_all_of_whose_states_are_forbidden_is_drawn_as_a_fair_die():
    """So that a chain that starts among them comes out; without a warning of nan."""
    model = gas()
    stuck = State((np.tile([1.0, 1.0, 1.0, 1.0], (4000, 1)),))
    drawn = model._draw_units(0, stuck, None, Generator(2), None)
    assert_frequencies(np.bincount(drawn[:, 0].astype(int)), [2000, 2000])
    state, _ = gibbs(60)(Generator(3), model, stuck)
    assert np.isfinite(model.energy(state)).all()


def test_by_layers_an_energy_that_forbids_states_is_refused():
    with pytest.raises(ParameterError, match="by is 'layers', but the energy .* is infinite"):
        EnergyMachine(
            [BernoulliLayer(4)], no_neighbours, {"mu": np.array(0.4)}, by="layers", device="cpu"
        )


def test_samples_that_cannot_occur_are_refused():
    """One state of 1,024, which the look at the base may not meet."""

    def but_one(xp, params, v, h):
        return xp.where(xp.sum(v, axis=1) > 9.5, math.inf, params.a * xp.sum(h, axis=1))

    model = EnergyMachine(
        [BernoulliLayer(10), BernoulliLayer(1)], but_one, {"a": np.array(0.1)}, device="cpu"
    )
    v = np.zeros((3, 10))
    settings = {"n_temperatures": 2, "data": v}
    assert np.isfinite(raise_(model, v, Generator(0), **settings).log_z)
    v[1] = 1
    with pytest.raises(DataError, match="^raise_: the energy of 1 of 3 samples is inf"):
        raise_(model, v, Generator(0), **settings)
    with pytest.raises(DataError, match="^reverse_ais: the energy of 1 of 3 samples is inf"):
        reverse_ais(model, State((v, np.zeros((3, 1)))), Generator(0), **settings)

    def alone(xp, params, v):
        return but_one(xp, params, v, v)

    model = EnergyMachine([BernoulliLayer(10)], alone, {"a": np.array(0.1)}, device="cpu")
    with pytest.raises(DataError, match="^raise_: the energy of 1 of 3 samples is inf"):
        raise_(model, v, Generator(0), **settings)


# ---- arrays, dtypes, shards


@cases
def test_one_seed_gives_the_same_weights_on_both_array_libraries(xp, case):
    weights = []
    for module in (np, xp):
        model = machine(module, case)
        state = exact_states(model, 12, 4, module)
        how = {"n_temperatures": 2, "data": state.visible}
        found = [
            ais(model, Generator(11), n_chains=6, **how),
            reverse_ais(model, samples_for(model, state), Generator(12), **how),
            raise_(model, state.visible, Generator(13), **how),
        ]
        weights.append(np.concatenate([x.log_weights for x in found]))
    np.testing.assert_allclose(*weights, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_machines_in_low_precision_are_weighed_in_float64(dtype):
    """400 steps: half precision alone would have lost a nat. The machine itself stays as it is."""
    model = machine(np, "bits by layers", dtype=dtype)
    model.log_partition()
    found = ais(model, Generator(2), n_temperatures=400, n_chains=200)
    assert found.log_weights.dtype == "float64"
    assert abs(found.log_z - model.log_partition()) < 5.6 * found.error + 1e-4
    assert model.dtype == dtype and model.layers[0].dtype == dtype


@pytest.mark.parametrize("dtype", [bool, "uint8", "float16"])
def test_samples_may_be_states_of_any_dtype(dtype):
    """The energy is called with numbers of the machine's own: booleans cannot be subtracted, and
    0 - 1 of unsigned ones is 255, which this energy would forbid."""

    def energy(xp, params, v, h):
        return xp.where(xp.sum(v - h, axis=1) > 5, math.inf, params.a * xp.sum(v - h, axis=1))

    layers, values = [BernoulliLayer(3), BernoulliLayer(3)], {"a": np.array(0.3)}
    model = EnergyMachine(layers, energy, values, device="cpu")
    v, h = np.zeros((4, 3), dtype), np.ones((4, 3), dtype)
    settings = {"n_temperatures": 3}
    states = (State((v, h)), State((v.astype("float32"), h.astype("float32"))))
    found = [reverse_ais(model, x, Generator(0), **settings).log_weights for x in states]
    np.testing.assert_array_equal(*found)
    found = [raise_(model, x.visible, Generator(0), **settings).log_weights for x in states]
    np.testing.assert_array_equal(*found)


def test_samples_whose_energy_half_precision_cannot_hold_can_occur():
    """80,000, at which float16 is inf."""

    def high(xp, params, s):
        return 2000 * params.a * xp.sum(s, axis=1)

    layers, values = [BernoulliLayer(40)], {"a": np.array(1.0)}
    model = EnergyMachine(layers, high, values, dtype="float16", device="cpu")
    found = reverse_ais(model, np.ones((4, 40)), Generator(0), n_temperatures=2)
    assert np.isfinite(found.log_z)


def test_a_copy_shares_nothing_but_the_energy(xp):
    model = machine(xp, "potts by units")
    twin = model.copy(dtype="float32", device="cpu")
    assert twin.dtype == "float32" and twin.device.kind == "cpu"
    assert all(layer.dtype == "float32" and layer.device.kind == "cpu" for layer in twin.layers)
    same = model.copy()
    assert same.config() == model.config() and same.device == model.device
    before = {name: host(p).copy() for name, p in model.parameters().items()}
    for p in same.parameters().values():
        p[...] = 0
    same.layers[0].params.loc[...] = 3
    for name, p in model.parameters().items():
        np.testing.assert_array_equal(host(p), before[name])
        np.testing.assert_array_equal(twin.parameters()[name], before[name].astype("float32"))
    assert not host(model.layers[0].params.loc).any() and same._energy is model._energy


def test_shards_and_groups_of_chains_make_estimates_of_their_own(monkeypatch):
    model = machine(np, "bits by layers")
    how = {"n_temperatures": 3, "n_chains": 60}
    one, eight = (ais(model, Generator(1), shards=n, **how) for n in (None, 8))
    assert not np.array_equal(one.log_weights, eight.log_weights)
    linked = ais(model, Generator(1), communicator=Serial(), **how)
    np.testing.assert_array_equal(linked.log_weights, eight.log_weights)
    monkeypatch.setitem(partition.GROUP, "cpu", 20)
    seen = []
    found = ais(model, Generator(1), progress=lambda *x: seen.append(x), **how)
    assert seen == [(i, 9) for i in range(1, 10)]
    seen.clear()
    ais(model, Generator(1), n_temperatures=300, n_chains=2, progress=lambda *x: seen.append(x))
    assert seen == [(i, 300) for i in range(3, 301, 3)]
    assert len(np.unique(found.log_weights)) > 20


def test_any_number_of_ranks_makes_the_same_estimate():
    model = machine(np, "bits by layers")
    state = exact_states(model, 30, 0)
    estimators = [
        lambda link: ais(model, Generator(1), n_temperatures=3, n_chains=30, communicator=link),
        lambda link: reverse_ais(model, state, Generator(1), n_temperatures=3, communicator=link),
        lambda link: raise_(
            model, state.visible, Generator(1), n_temperatures=3, communicator=link
        ),
    ]
    for estimate in estimators:
        expected = estimate(Serial()).log_weights
        for found in results(3, estimate):
            np.testing.assert_array_equal(found.log_weights, expected)


def test_an_energy_is_called_from_one_thread_however_many_groups_there_are(monkeypatch):
    """A user's function need not be made for two."""
    monkeypatch.setattr(host_threads, "MIN_VALUES_PER_THREAD", 1)
    monkeypatch.setattr(host_threads, "allowed_threads", lambda: 2)
    monkeypatch.setitem(partition.GROUP, "cpu", 5)
    seen = set()

    def energy(xp, params, s):
        seen.add(threading.get_ident())
        return params.a * s[:, 0]

    model = EnergyMachine([IsingLayer(2)], energy, {"a": np.array(0.5)}, device="cpu")
    ais(model, Generator(1), n_temperatures=3, n_chains=100)
    assert seen == {threading.get_ident()}


# ---- likelihoods with an estimate


@cases
def test_likelihoods_take_an_estimate_of_log_z(xp, case):
    model = machine(xp, case)
    v = states_of(model.layers[0])
    data = xp.asarray(v)
    found = ais(model, Generator(1), n_temperatures=4, n_chains=20)
    exact = model.log_likelihoods(data)
    expected = exact + model.log_partition() - found.log_z
    np.testing.assert_allclose(model.log_likelihoods(data, found), expected, atol=1e-12)
    np.testing.assert_allclose(model.log_likelihoods(data, found.log_z), expected, atol=1e-12)
    np.testing.assert_allclose(log_likelihoods(model, data, found), expected, atol=1e-12)
    assert log_likelihood(model, data, found) == pytest.approx(expected.mean(), abs=1e-12)


def test_a_machine_too_large_to_list_has_likelihoods_by_estimates():
    """30 free spins but for one product of three: log Z is known."""
    values = {"K": np.array(0.8), "a": np.linspace(-1, 1, 30)}
    values["a"][:3] = 0
    model = EnergyMachine([IsingLayer(30)], triples, values, dtype="float64", device="cpu")
    log_z = (
        2 * math.log(2) + math.log(2 * math.cosh(0.8)) + np.log(2 * np.cosh(values["a"][3:])).sum()
    )
    v = model.random_state(40, rng=Generator(0)).visible
    up = ais(model, Generator(1), n_temperatures=50, n_chains=200)
    down = raise_(model, v, Generator(2), n_temperatures=50)
    assert abs(up.log_z - log_z) < 5.6 * up.error and up.error < 0.1
    assert down.log_z > log_z - 5.6 * down.error
    with pytest.raises(ParameterError, match="states to list"):
        model.log_likelihoods(v)
    expected = -host(model.energy(State((v,)))).mean() - up.log_z
    assert log_likelihood(model, v, up) == pytest.approx(expected)


# ---- bad input


def hidden_bits():
    def energy(xp, params, v, h):
        return params.a * xp.sum(v, axis=1) * xp.sum(h, axis=1)

    layers = [BernoulliLayer(3), BernoulliLayer(21)]
    return EnergyMachine(layers, energy, {"a": np.array(0.1)}, device="cpu")


V = np.zeros((4, 3), "float32")
BAD = {
    "one chain": (lambda m: ais(m, n_chains=1), "^ais: 1 chain, expected at least 2"),
    "betas": (lambda m: ais(m, betas=[0, 0.5]), "^ais: betas do not rise from 0 to 1"),
    "data": (lambda m: ais(m, data=np.zeros((2, 5))), "^ais: data has shape"),
    "rng": (lambda m: ais(m, 3), "^ais: rng is 3"),
    "width": (lambda m: raise_(m, V[:, :2]), "^raise_: data has shape"),
    "grey": (lambda m: raise_(m, V + 0.5), "^raise_: data has values between 0 and 1"),
    "visible units only": (lambda m: reverse_ais(m, V), "^reverse_ais: samples of the visible"),
    "shapes": (lambda m: reverse_ais(m, State((V, V))), "^reverse_ais: samples have shapes"),
    "means": (
        lambda m: reverse_ais(m, State((V, np.full((4, 2), 0.5)))),
        "^reverse_ais: layer 1 of the samples .* no states of bernoulli units, expected 0 and 1",
    ),
    "too many hidden states": (
        lambda m: raise_(hidden_bits(), V),
        "^raise_: .* has 2\\^21 states to list, expected at most 2\\^20",
    ),
    "too many for likelihoods": (
        lambda m: hidden_bits().log_likelihoods(V, 0.0),
        "^log_likelihoods: .* has 2\\^21 states to list",
    ),
    "log_z": (lambda m: m.log_likelihoods(V, "0"), "log_likelihoods: log_z is '0', expected a"),
    "nan": (lambda m: m.log_likelihoods(V, math.nan), "log_likelihoods: log_z is nan, expected"),
    "log_z of the function": (
        lambda m: log_likelihood(m, V, math.inf),
        "^log_likelihood: log_z is inf, expected a finite number",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    call, message = BAD[case]
    with pytest.raises((ParameterError, DataError), match=message):
        call(machine(np, "bits by layers"))


def test_weights_that_are_nan_are_reported():
    model = machine(np, "bits by layers")
    model.parameters()["energy.a"][0] = np.nan
    with pytest.raises(DivergenceError, match="^ais: 4 of 4 chains have weights that"):
        ais(model, Generator(0), n_temperatures=2, n_chains=4)


def test_the_path_is_on_the_machine_s_device(xp):
    model = machine(xp, "potts by layers")
    start = EnergyPath(model).start(3, Generator(1))
    assert all(isinstance(units, xp.ndarray) for units in start)
    assert model.device == device_like(xp)


@pytest.mark.parametrize("function", [ais, raise_, reverse_ais, log_likelihood])
def test_what_is_no_machine_is_refused_by_name(function):
    given = {ais: (), raise_: (V,), reverse_ais: (V,), log_likelihood: (V, 0.0)}[function]
    with pytest.raises(ParameterError, match="the machine is of type int, expected a Boltzmann"):
        function(3, *given)
