"""Annealing for every unit type, depth and lateral coupling, against sums and integrals.

A mean over independent chains may differ by 5.6 standard errors from its exact value: 2e-8 for a
normal deviate, below 1e-7 with the skew of these weights; 100 of them a run make 1e-5.
"""

import math
import tracemalloc

import numpy as np
import pytest

import gpugrad.boltzmann.partition as partition
import gpugrad.boltzmann.partition_path as partition_path
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.partition import (
    ais,
    exact_log_partition,
    likelihood_bounds,
    raise_,
    reverse_ais,
)
from gpugrad.boltzmann.partition_path import AnnealingPath, kept_layers
from gpugrad.boltzmann.spin_sums import spin_growth, spin_log_partitions
from gpugrad.boltzmann.state import State
from gpugrad.errors import DataError, DivergenceError
from tests.chance import chi_square_limit, mean_weight_is

from .any_machines import PAIRINGS, any_machine
from .grid_machines import grid_machine
from .machines import host
from .own_units import BlumeCapel

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)
# ReLU units call thousands of functions a draw, which the stand-in of CuPy makes slow
DEVICE_PAIRINGS = [p for p in PAIRINGS if "relu" not in p] + [("bernoulli", "relu")]
MACHINES = [
    (("bernoulli", "ising", "potts"), (3, 2, 2), ()),
    (("ising", "bernoulli", "bernoulli", "ising"), (3, 2, 3, 2), ()),
    (("potts", "bernoulli", "gaussian"), (2, 2, 1), ()),
    (("gaussian", "bernoulli", "relu"), (1, 3, 1), ()),
    (("gaussian", "gaussian", "ising"), (1, 1, 2), ()),
    (("ising",), (5,), (0,)),
    (("potts",), (3,), (0,)),
    (("bernoulli", "bernoulli"), (3, 3), (0,)),
    (("potts", "gaussian"), (2, 1), (0,)),
    (("bernoulli", "ising"), (3, 3), (0, 1)),
    (("bernoulli", "ising", "bernoulli"), (2, 3, 2), (1,)),
]
machines = pytest.mark.parametrize(
    ("kinds", "sizes", "lateral"), MACHINES, ids=lambda x: "-".join(map(str, x)) or "none"
)


def data_of(exact, n, seed):
    """Visible states of the machine itself."""
    p = exact.joint().sum(axis=1)
    return exact.v.states[np.random.default_rng(seed).choice(len(p), size=n, p=p)]


# ---- laws


@pairings
def test_weights_of_every_pairing_average_to_the_partition_function(pairing):
    """Upwards exp(D) to Z, downwards from exact samples exp(-D) to 1/Z, with few temperatures."""
    model, exact = any_machine(np, pairing)
    base = data_of(exact, 200, 0)
    up = ais(model, Generator(1), n_temperatures=25, n_chains=1000, data=base)
    assert mean_weight_is(up.log_weights, exact.log_z())
    down = reverse_ais(model, data_of(exact, 1000, 1), Generator(2), n_temperatures=25, data=base)
    assert mean_weight_is(-down.log_weights, -exact.log_z())
    assert min(up.ess, down.ess) > 300  # the standard errors mean something


@machines
def test_weights_of_deep_machines_average_to_the_partition_function(kinds, sizes, lateral):
    model, exact = grid_machine(np, kinds, sizes, lateral=lateral)
    base = exact.draw(np, 200, 0).visible
    up = ais(model, Generator(3), n_temperatures=8, n_chains=3000, data=base)
    assert mean_weight_is(up.log_weights, exact.log_z())
    samples = exact.draw(np, 3000, 1)
    down = reverse_ais(model, samples, Generator(4), n_temperatures=8, data=base)
    assert mean_weight_is(-down.log_weights, -exact.log_z())
    assert min(up.ess, down.ess) > 800
    assert up.log_weights.std() > 0.005


def test_a_transition_there_and_back_is_as_likely_as_its_reverse():
    """Coupled units are drawn in turn. A chi-square test of the 28 pairs of states of three spins,
    from exact states; false alarm 1e-6. In one direction only it would be thousands."""
    model, exact = grid_machine(np, ("ising",), (3,), lateral=(0,), scale=2.0)
    before = exact.draw(np, 50_000, 3).visible
    path = AnnealingPath(model, before[:100], Generator(0))
    work = partition_path._Workspace(path, [before.copy()])
    path.move(work, 1.0, 1.0, Generator(1))
    bits = [((v > 0) @ [1, 2, 4]).astype(int) for v in (before, work.kept[0])]
    moves = np.bincount(8 * bits[0] + bits[1], minlength=64).reshape(8, 8)
    i, j = np.triu_indices(8, 1)
    there, back = moves[i, j], moves[j, i]
    assert ((there - back) ** 2 / (there + back)).sum() < chi_square_limit(28)


@pytest.mark.parametrize("n_temperatures", [20, 200])
def test_long_and_short_steps_are_weighed_alike(n_temperatures):
    """Short ones take the growth of log-partition functions from the means; law as above."""
    model, exact = grid_machine(np, ("ising", "bernoulli", "ising"), (3, 3, 2), scale=2.0)
    base = exact.draw(np, 200, 0).visible
    up = ais(model, Generator(5), n_temperatures=n_temperatures, n_chains=2000, data=base)
    assert mean_weight_is(up.log_weights, exact.log_z())
    samples = exact.draw(np, 2000, 2)
    down = reverse_ais(model, samples, Generator(6), n_temperatures=n_temperatures, data=base)
    assert mean_weight_is(-down.log_weights, -exact.log_z())


@machines
def test_raise_bounds_the_likelihood_of_deep_machines_from_below(kinds, sizes, lateral):
    """With four temperatures; with eighty it comes close: the bound within 0.35 nats."""
    model, exact = grid_machine(np, kinds, sizes, lateral=lateral)
    p = exact.marginal()
    rows = np.random.default_rng(7).choice(len(p), size=1000, p=p)
    v, base = exact.sides[0].states[rows], exact.draw(np, 200, 0).visible
    truth = exact.log_density()[rows].mean()
    for n_temperatures, gap in ((4, 2.0), (80, 0.35)):
        found = raise_(model, v, Generator(8), n_temperatures=n_temperatures, data=base)
        low = likelihood_bounds(model, v, found)
        error = found.log_weights.std() / math.sqrt(1000)
        assert truth - gap - 5.6 * error < low.mean() < truth + 5.6 * error


def test_raise_of_a_deep_machine_has_the_probability_of_the_annealing_process_as_mean():
    """exp(-F(v, h) - log q(h | v) - D) averages to p_ann(v), for each of 8 visible states."""
    model, exact = grid_machine(np, ("bernoulli", "ising", "bernoulli"), (3, 2, 2), scale=2.0)
    betas, base = [0.0, 0.5, 1.0], exact.draw(np, 50, 0).visible
    copies = 4000
    path = AnnealingPath(model, base, Generator(0))
    v, s1, h = (side.states for side in exact.sides)
    # the process by hand, on joint states (v, h): from the base, one transition at each beta
    energies = [-(v @ path.base[0].loc), np.zeros(len(s1)), np.zeros(len(h))]
    base_energy = energies[0][:, None, None] + np.zeros_like(exact.E)
    process = np.exp(-base_energy).sum(axis=1)
    process /= process.sum()
    for beta in betas[1:]:
        weight = np.exp(-(1 - beta) * base_energy - beta * exact.E)
        to_middle = weight / weight.sum(axis=1, keepdims=True)  # p(s1 | v, h)
        back = weight / weight.sum(axis=(0, 2), keepdims=True)  # p(v, h | s1)
        process = np.einsum("ac,abc,dbe->de", process, to_middle, back)
    rows = np.repeat(np.arange(len(v)), copies)
    found = raise_(model, v[rows], Generator(9), betas=betas, data=base)
    means = State(model.mean_field(v, tolerance=0, max_steps=50).units)
    field = model.local_field(2, means)
    free = -np.log(np.exp(-exact.E).sum(axis=1))  # F(v, h)
    drawn = hidden_states_of_raise(model, v[rows], Generator(9), base)
    place = (drawn @ [2, 1]).astype(int)
    assert np.array_equal(h[place], drawn)
    loc = model.layers[2].params.loc
    x = (field + loc)[rows]
    log_q = (drawn * x - np.logaddexp(0, x)).sum(axis=1)
    log_weights = -free[rows, place] - log_q - found.log_weights
    for i in range(len(v)):
        mine = log_weights[i * copies : (i + 1) * copies]
        assert mean_weight_is(mine, math.log(process[i].sum())), i


def hidden_states_of_raise(model, v, rng, base):
    """The states of the top layer that `raise_` starts from: its streams, drawn again."""
    AnnealingPath(model, base, rng)
    size = partition.GROUP["cpu"]
    groups = range(0, len(v), size)
    return np.concatenate(
        [
            partition._given_data(model, v[i : i + size], stream)[1]
            for i, stream in zip(groups, rng.spawn(len(groups)), strict=True)
        ]
    )


@pytest.mark.parametrize("support", [(0.0, 1.0), (-1.0, 1.0), (-0.5, 2.0), (1.0, 2.0)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_log_partition_functions_of_two_states_are_summed_at_several_temperatures(support, dtype):
    """In float64 from the fields on: thousands of units in single precision lose nothing more."""
    draw, (low, high) = np.random.default_rng(0), support
    phi = (30 + 3 * draw.normal(size=(5, 3000))).astype(dtype)
    loc = draw.normal(size=3000).astype(dtype)
    beta = np.linspace(0.1, 0.9, 5, dtype=dtype)[:, None]
    found = spin_log_partitions(phi, loc, [None, beta], support)
    x = (phi + loc).astype("float64")
    for got, b in zip(found, (1.0, beta.astype("float64")), strict=True):
        expected = np.logaddexp(b * x * low, b * x * high).sum(axis=1)
        np.testing.assert_allclose(got, expected, rtol=1e-13 if dtype == "float64" else 2e-8)


@pytest.mark.parametrize("support", [(0.0, 1.0), (-1.0, 1.0), (-0.5, 2.0)])
@pytest.mark.parametrize(("units", "dtype"), [(3, "float64"), (333, "float32"), (500, "float32")])
def test_growth_of_log_partition_functions_from_the_means(xp, support, units, dtype):
    draw = np.random.default_rng(0)
    low, high = support
    phi = 3 * draw.normal(size=(70, units))
    loc, base = draw.normal(size=(2, units))

    def log_sum(beta):
        x = beta * (phi + loc) + (1 - beta) * base
        upper = 1 / (1 + np.exp(-x * (high - low)))
        return np.logaddexp(low * x, high * x).sum(axis=1), low + (high - low) * upper

    before, mean = log_sum(0.6)
    after, _ = log_sum(0.59)
    arrays = [xp.asarray(a.astype(dtype)) for a in (phi, mean, -0.01 * (loc - base))]
    got = spin_growth(arrays[0], arrays[1], -0.01, arrays[2], support)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(host(got), after - before, atol=tolerance)


def test_fields_too_large_for_the_products_are_weighed_all_the_same(monkeypatch):
    """Couplings of 1e4 in single precision: a step of beta changes exponents by thousands."""
    model = RBM(64, 64, device="cpu")
    model.set_parameters({"weights.0.matrix": np.full((64, 64), 1e4, dtype="float32")})
    settings = {"n_temperatures": 50, "n_chains": 4, "data": np.ones((2, 64), "float32")}
    found = ais(model, Generator(10), **settings).log_weights
    monkeypatch.setattr(partition_path, "_NEAR", 0)  # two whole log-partition functions each time
    np.testing.assert_allclose(found, ais(model, Generator(10), **settings).log_weights, rtol=1e-6)


# ---- the base machine


@pytest.mark.parametrize("pairing", DEVICE_PAIRINGS, ids="-".join)
def test_one_seed_gives_the_same_weights_on_both_array_libraries(xp, pairing):
    weights = []
    for module in (np, xp):
        model, exact = any_machine(module, pairing)
        base = module.asarray(data_of(exact, 30, 0))
        up = ais(model, Generator(11), n_temperatures=3, n_chains=8, data=base)
        down = raise_(model, base, Generator(12), n_temperatures=3, data=base)
        weights.append(np.concatenate([up.log_weights, down.log_weights]))
    np.testing.assert_allclose(*weights, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("kinds", "sizes", "lateral"),
    [machine for machine in MACHINES if "relu" not in machine[0]],
    ids=lambda x: "-".join(map(str, x)) or "none",
)
def test_deep_machines_anneal_on_both_array_libraries(xp, kinds, sizes, lateral):
    weights = []
    for module in (np, xp):
        model, exact = grid_machine(module, kinds, sizes, lateral=lateral)
        samples = exact.draw(module, 20, 0)
        base = samples.visible
        up = ais(model, Generator(13), n_temperatures=3, n_chains=8, data=base)
        down = reverse_ais(model, samples, Generator(14), n_temperatures=3, data=base)
        data = raise_(model, base, Generator(15), n_temperatures=3, data=base)
        weights.append(np.concatenate([e.log_weights for e in (up, down, data)]))
    np.testing.assert_allclose(*weights, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["bernoulli", "potts", "gaussian", "exponential", "relu"])
def test_the_base_of_the_visible_layer_has_the_data_s_means(kind):
    model, exact = any_machine(np, (kind, "bernoulli"))
    data, layer = data_of(exact, 500, 3), model.layers[0]
    layer.online_param_update(data_of(exact, 500, 4))  # other data, of which nothing stays
    path = AnnealingPath(model, data, Generator(16))
    zero = np.zeros((1, layer.num_units))
    mean = layer.draw(zero, sample=False, mean=True, params=path.base[0])[1]
    np.testing.assert_allclose(mean[0], data.mean(axis=0), atol=2e-3)


def test_units_in_single_precision_are_added_up_in_double():
    model = RBM(3, 4000, dtype="float32", device="cpu")
    path = AnnealingPath(model, np.eye(3, dtype="float32"), Generator(16))
    phi = Generator(17).normal((2, 4000), "float32", device="cpu")
    found = path._log_partition(1, phi, 0.5)
    terms = np.log1p(np.exp(0.5 * phi.astype("float64")))
    single = model.layers[1].unit_log_partition(path.ns, path.base[1], phi, 0.5)
    np.testing.assert_allclose(single, terms, rtol=1e-5)
    exact = [math.fsum(row) for row in single.tolist()]
    np.testing.assert_allclose(found, exact, rtol=1e-14)


def test_units_without_a_path_of_their_own_are_their_own_base(monkeypatch):
    """A unit type of a user: the couplings alone are annealed."""
    model, exact = any_machine(np, ("bernoulli", "truncated_exponential"))
    for layer in model.layers:
        monkeypatch.setattr(type(layer), "bridge", UnitLayer.bridge)
    monkeypatch.setattr(SpinLayer, "bridge", UnitLayer.bridge)
    up = ais(model, Generator(17), n_temperatures=10, n_chains=2000)
    assert mean_weight_is(up.log_weights, exact.log_z())


@pytest.mark.parametrize("lateral", [{}, {1: np.array([[0, 0.8], [0.8, 0]])}])
def test_units_of_a_user_are_listed_and_annealed(lateral):
    layers = [BlumeCapel(3, device="cpu"), BlumeCapel(2, device="cpu")]
    model = BoltzmannMachine(layers, lateral=lateral, dtype="float64", device="cpu")
    draw = np.random.default_rng(25)
    for name, p in model.parameters().items():
        if not name.startswith("lateral"):
            p[...] = 0.6 * draw.normal(size=p.shape)
    states = np.stack(np.meshgrid(*[(-1.0, 0.0, 1.0)] * 5), axis=-1).reshape(-1, 5)
    v, h = states[:, :3], states[:, 3:]
    energy = -((v @ model.weights[0].W()) * h).sum(axis=1)
    for units, layer in ((v, layers[0]), (h, layers[1])):
        energy += (units**2) @ layer.params.crystal - units @ layer.params.loc
    if lateral:
        energy -= 0.8 * h[:, 0] * h[:, 1]
    log_z = math.log(np.exp(-energy).sum())
    assert exact_log_partition(model) == pytest.approx(log_z, abs=1e-12)
    up = ais(model, Generator(26), n_temperatures=10, n_chains=1000, data=v[::9])
    assert mean_weight_is(up.log_weights, log_z)


def test_layers_that_chains_hold():
    def kept(n, lateral):
        kinds = ("ising",) * n
        return kept_layers(grid_machine(np, kinds, (2,) * n, lateral=lateral)[0])

    assert kept(2, ()) == [0] and kept(5, ()) == [0, 2, 4]
    assert kept(3, (1,)) == [0, 1] and kept(4, (1,)) == [0, 1, 3] and kept(1, (0,)) == [0]


# ---- many chains


def test_memory_does_not_grow_with_the_chains():
    """20 groups take hardly more than two, which may run at once: only their weights are kept."""
    model = RBM(600, 400, rng=Generator(18), device="cpu")
    data = np.eye(2, 600, dtype="float32")

    def peak(groups):
        tracemalloc.start()
        ais(model, Generator(19), n_temperatures=2, n_chains=256 * groups, data=data)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)  # imports, and scratch arrays that both threads keep
    assert peak(20) < 1.3 * 2 * peak(1)


def test_groups_of_chains_have_streams_of_their_own_whatever_the_threads(monkeypatch):
    model, exact = grid_machine(np, ("bernoulli", "ising"), (4, 3))
    base = exact.sides[0].states[:5]
    settings = {"n_temperatures": 3, "n_chains": 700, "data": base}
    together = ais(model, Generator(20), **settings).log_weights
    monkeypatch.setattr(
        partition, "over_spans", lambda task, n, **_: [task(i, i + 1) for i in range(n)]
    )
    assert np.array_equal(ais(model, Generator(20), **settings).log_weights, together)
    assert len(np.unique(together)) > 200  # groups do not repeat each other


def test_groups_of_chains_start_from_states_of_their_own(monkeypatch):
    """Drawn anew from the base, or given the data; samples are taken each once."""
    model, exact = grid_machine(np, ("bernoulli", "ising", "bernoulli"), (3, 2, 4))
    starts, anneal = [], AnnealingPath.anneal

    def watched(path, kept, *rest, **how):
        starts.append([units.copy() for units in kept])
        return anneal(path, kept, *rest, **how)

    monkeypatch.setattr(AnnealingPath, "anneal", watched)
    monkeypatch.setattr(partition, "over_spans", lambda task, n, **_: task(0, n))
    monkeypatch.setitem(partition.GROUP, "cpu", 20)
    samples = exact.draw(np, 60, 0)
    settings = {"n_temperatures": 2, "data": samples.visible}
    ais(model, Generator(25), n_chains=60, **settings)
    raise_(model, samples.visible[[0] * 60], Generator(26), **settings)
    reverse_ais(model, samples, Generator(27), **settings)
    up, given, down = starts[:3], starts[3:6], starts[6:]
    for layer, groups in ((0, up), (1, up), (1, given)):
        assert len({units[layer].tobytes() for units in groups}) == 3
    for layer, i in enumerate((0, 2)):
        found = np.concatenate([units[layer] for units in down])
        np.testing.assert_array_equal(found, samples[i])


def test_raise_draws_upper_layers_from_the_mean_field_that_bounds_the_likelihood(monkeypatch):
    """4,000 chains from one sample: 5.2 standard errors of the means that 50 updates find, from
    which those of one update lie far."""
    model, exact = grid_machine(np, ("bernoulli", "ising", "bernoulli"), (3, 2, 4), scale=4.0)
    v, starts = exact.sides[0].states[[4] * 4000], []

    def stop(path, kept, *rest, **how):
        starts.append(kept[1].copy())
        return np.zeros(len(kept[1]))

    monkeypatch.setattr(AnnealingPath, "anneal", stop)
    monkeypatch.setattr(partition, "over_spans", lambda task, n, **_: task(0, n))
    raise_(model, v, Generator(28), n_temperatures=2, data=v[:5])
    found = np.concatenate(starts).mean(axis=0)
    limits = []
    for steps in (50, 1):
        means = model.mean_field(v[:1], tolerance=0, max_steps=steps)
        p = model.conditional_mean(2, State(means.units))[0]
        limits.append((abs(found - p) / np.sqrt(p * (1 - p) / 4000)).max())
    assert limits[0] < 5.2 and limits[1] > 20


def test_where_a_group_fails_the_others_end_too():
    watch = partition._Watch(None, 2)
    report = watch.of_group()
    report(1, 10)
    with pytest.raises(ValueError, match="of one group"), watch:
        raise ValueError("of one group")
    with pytest.raises(DivergenceError, match="another group of chains has failed"):
        report(2, 10)


def test_progress_of_several_groups_adds_up():
    model, exact = grid_machine(np, ("bernoulli", "ising"), (4, 3))
    seen = []
    settings = {"n_temperatures": 100, "n_chains": 600, "data": exact.sides[0].states}
    ais(model, Generator(21), progress=lambda *x: seen.append(x), **settings)
    assert [done for done, _ in seen] == list(range(1, 301))
    assert {total for _, total in seen} == {300}


def test_what_progress_raises_ends_all_groups():
    model, _ = grid_machine(np, ("bernoulli", "ising"), (4, 3))
    calls = []

    def stop(done, total):
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ais(model, Generator(22), n_temperatures=200, n_chains=2000, progress=stop)
    assert len(calls) <= 2


# ---- bad input


def test_samples_of_a_deep_machine_are_states_of_all_layers():
    model, exact = grid_machine(np, ("bernoulli", "ising", "bernoulli"), (3, 2, 2))
    state = exact.draw(np, 10, 0)
    with pytest.raises(DataError, match="reverse_ais: samples of the visible units"):
        reverse_ais(model, state.visible)
    with pytest.raises(DataError, match="reverse_ais: samples have shapes"):
        reverse_ais(model, State((state[0], state[1], state[2][:, :1])))
    with pytest.raises(DataError, match="reverse_ais: data has values between"):
        reverse_ais(model, State((0.5 * state[0], state[1], state[2])))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_nan_in_an_upper_layer_is_reported():
    model, exact = grid_machine(np, ("bernoulli", "ising", "bernoulli"), (3, 2, 2))
    model.layers[2].params.loc[...] = np.nan
    with pytest.raises(DivergenceError, match="ais: 4 of 4 chains"):
        ais(model, Generator(23), n_temperatures=3, n_chains=4, data=exact.sides[0].states)


def test_a_machine_of_784x16_agrees_with_enumeration():
    """Single precision, 2,000 temperatures: 5.6 standard errors and 1e-3 of rounding."""
    rng = Generator(24)
    model = RBM(784, 16, rng=rng, device="cpu")
    model.set_parameters(
        {
            "weights.0.matrix": rng.normal((784, 16), std=0.15, device="cpu"),
            "layers.0.loc": rng.normal(784, std=1.0, device="cpu"),
        }
    )
    data = (rng.uniform((200, 784), device="cpu") < 0.3).astype("float32")
    found = ais(model, rng, n_temperatures=1000, n_chains=60, data=data)
    expected = exact_log_partition(model)
    assert found.error < 0.3
    assert found.log_z == pytest.approx(expected, abs=5.6 * found.error + 1e-3)
