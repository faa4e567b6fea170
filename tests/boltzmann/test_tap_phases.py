"""Gradients of training by TAP, against differences of the estimate that they ascend."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.tap import tap_magnetizations
from gpugrad.boltzmann.tap_phases import TapPhases
from gpugrad.boltzmann.tap_sweeps import TapSweeps, clamped_units
from gpugrad.errors import CheckpointError, ParameterError

from .machines import host
from .slopes import slopes
from .tap_machines import DEEP, TWO, joint_states, tap_machine

kinds_of_each_sort = pytest.mark.parametrize("kinds", [TWO[0], TWO[2], DEEP[0]], ids="-".join)
orders = pytest.mark.parametrize("order", [2, 3])
SETTLED = {"k": 60, "mean_field_steps": 60, "burn_in": 60}


def batch(kinds):
    states = joint_states(kinds)[0]
    return states[np.linspace(0, len(states) - 1, 4).astype(int)]


def gradient_of(xp, model, v, weight=None, **settings):
    settings = {**SETTLED, "n_chains": 2, "max_batch": 5, **settings}
    phases = TapPhases(model, Generator(3), **settings)
    phases.data_rows(len(v))[...] = xp.asarray(v)
    sent = None if weight is None else xp.asarray(weight)
    return {name: host(g).copy() for name, g in phases(len(v), sent).items()}, phases


def estimate(model, own, v, order, weight=None):
    """<F(v)> - Gamma(m*) of the machine with these parameters."""
    model.set_parameters(own)
    how = {"order": order, "tolerance": 1e-12, "damping": 0.1, "check_every": 4}
    log_z = tap_magnetizations(model, n_random=1, rng=Generator(1), **how).log_partition()
    free_energy = host(tap_magnetizations(model, visible=v, **how).free_energy)
    return (free_energy.mean() if weight is None else weight @ free_energy) + log_z


@pytest.mark.parametrize("weight", [None, np.array([0.4, 0.1, 0.3, 0.2])], ids=["", "weighted"])
@kinds_of_each_sort
@orders
def test_gradient_is_that_of_the_tap_likelihood(kinds, order, weight):
    """The minima move with the parameters, which makes no difference: Gamma is stationary there."""
    model, own = tap_machine(np, kinds, scale=0.3)
    v = batch(kinds)
    found, _ = gradient_of(np, model, v, weight, order=order)
    expected = slopes(lambda p: estimate(model, p, v, order, weight), own, 1e-4)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-7, err_msg=name)


@kinds_of_each_sort
def test_centred_gradient_is_that_in_centred_parameters(kinds):
    """a' = a + W mu_up + mu_lo W is what a step of the couplings leaves alone."""
    model, own = tap_machine(np, kinds, scale=0.3)
    v, sizes = batch(kinds), [x.num_units for x in model.layers]
    draw = np.random.default_rng(8)
    offsets = [draw.uniform(0.2, 0.8, n) for n in sizes]
    sent = [o.copy() for o in offsets]
    found, phases = gradient_of(np, model, v, offsets=sent, centering_rate=0.25)
    positive = [m[phases.n_seeds : phases.n_seeds + len(v)] for m in phases.units]
    for offset, moved, m in zip(offsets, sent, positive, strict=True):
        np.testing.assert_allclose(moved, 0.75 * offset + 0.25 * m.mean(axis=0), atol=1e-14)

    def ordinary(centred):
        """Linear in the centred parameters, as is the way back."""
        back = dict(centred)
        for i in range(len(sizes) - 1):
            W = centred[f"weights.{i}.matrix"]
            back[f"layers.{i}.loc"] = back[f"layers.{i}.loc"] - W @ sent[i + 1]
            back[f"layers.{i + 1}.loc"] = back[f"layers.{i + 1}.loc"] - sent[i] @ W
        return back

    zero = {name: np.zeros_like(array) for name, array in own.items()}
    expected = slopes(
        lambda p: estimate(model, {n: own[n] + d for n, d in ordinary(p).items()}, v, 2), zero, 1e-4
    )
    for name, array in ordinary(expected).items():
        np.testing.assert_allclose(found[name], array, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("kinds", [TWO[2], DEEP[0]], ids="-".join)
@pytest.mark.parametrize(("order", "centred"), [(2, False), (3, True)])
def test_back_propagation_gives_the_analytic_gradient(xp, kinds, order, centred):
    """Away from the minima too, after a single sweep."""
    found = []
    for autodiff in (False, True):
        model, _ = tap_machine(xp, kinds)
        model.weights[0].add_penalty({"matrix": L2Penalty(0.3)})
        offsets = [xp.full(x.num_units, 0.3) for x in model.layers] if centred else None
        how = {"order": order, "k": 1, "mean_field_steps": 2, "n_random": 2, "burn_in": 1}
        found.append(
            gradient_of(xp, model, batch(kinds), autodiff=autodiff, offsets=offsets, **how)[0]
        )
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], atol=1e-13, err_msg=name)


def test_a_penalty_enters_once():
    model, own = tap_machine(np, TWO[0])
    plain, _ = gradient_of(np, model, batch(TWO[0]))
    model.weights[0].add_penalty({"matrix": L2Penalty(0.3)})
    found, _ = gradient_of(np, model, batch(TWO[0]))
    name = "weights.0.matrix"
    np.testing.assert_allclose(found[name] - plain[name], 0.3 * own[name], atol=1e-14)


def test_a_second_call_does_not_see_what_the_first_one_left(xp):
    """Persistent seeds alone go on: from the same ones, one call after another of other sizes."""
    model, _ = tap_machine(xp, TWO[2])
    v = joint_states(TWO[2])[0][:: 2**6]
    long, short = (TapPhases(model, Generator(3), n_chains=2, max_batch=8, k=1) for _ in range(2))
    for n in (8, 3, 5):
        long.data_rows(n)[...] = xp.asarray(v[:n])
        found = {name: host(g).copy() for name, g in long(n).items()}
    for _ in range(2):
        short.data_rows(1)[...] = xp.asarray(v[:1])
        short(1)
    short.data_rows(5)[...] = xp.asarray(v[:5])
    for name, array in short(5).items():
        np.testing.assert_allclose(host(array), found[name], atol=1e-14)


def test_seeds_persist_and_random_ones_are_drawn_anew(xp):
    model, _ = tap_machine(xp, TWO[0], scale=0.01)
    phases = TapPhases(
        model, Generator(3), n_chains=2, n_random=3, k=1, burn_in=1, damping=0.9, max_batch=1
    )
    phases.data_rows(1)[...] = 0
    seen = []
    for _ in range(40):
        phases(1)
        seen.append(host(phases.units[0][:5]).copy())
    # each sweep goes a tenth of the way: what persists has arrived, what is new has not
    settled = 1 / (1 + np.exp(-host(model.layers[0].params.loc)))
    assert np.abs(seen[-1][:2] - settled).max() < 0.05
    assert np.abs(seen[-1][2:] - settled).max() > 0.2
    assert np.abs(seen[-1][2:] - seen[-2][2:]).max() > 0.2


@pytest.mark.parametrize("k", [1, 4])
def test_a_gradient_moves_the_seeds_by_k_sweeps_and_new_ones_by_burn_in_more(k):
    """Counted on the same sweeps made one by one, from the seeds that the same draws give."""
    model, _ = tap_machine(np, DEEP[0])
    how = {"n_random": 3, "max_batch": 2, "mean_field_steps": 3}
    phases, twin = (TapPhases(model, Generator(3), n_chains=2, k=k, **how) for _ in range(2))
    fresh = slice(2, 5)
    for p in (phases, twin):
        p.burn_in = 6
        p.data_rows(2)[...] = batch(DEEP[0])[:2]
    phases(2)
    twin._scatter(fresh)
    moved = TapSweeps(model, [m[fresh] for m in twin.units])
    clamped = TapSweeps(model, clamped_units(model, twin.data_rows(2)), clamped=True)
    for sweeps, times in ((moved, 6), (twin.seeds, k), (clamped, 3)):
        for _ in range(times):
            sweeps.step(0.5)
    for found, seeds, data in zip(phases.units, twin.units, clamped.units, strict=True):
        np.testing.assert_allclose(found[:5], seeds[:5], atol=1e-14)
        np.testing.assert_allclose(found[5:], data, atol=1e-14)


def test_arrays_carry_on_bit_for_bit(xp):
    def trained(phases, steps):
        for step in range(steps):
            phases.data_rows(2)[...] = xp.asarray(batch(DEEP[0])[step % 2 : step % 2 + 2])
            found = {name: host(g).copy() for name, g in phases(2).items()}
        return found

    def fresh(seed):
        offsets = [xp.full(x.num_units, 0.5) for x in model.layers]
        return TapPhases(
            model, Generator(seed), n_chains=3, n_random=2, max_batch=2, k=1, offsets=offsets
        )

    model, _ = tap_machine(xp, DEEP[0])
    whole, other = fresh(1), fresh(2)
    trained(whole, 2)
    kept = {name: host(a).copy() for name, a in whole.arrays().items()}
    assert set(kept) == {f"{what}.{i}" for what in ("offsets", "seeds") for i in range(3)}
    other.load_arrays(kept)
    other.rng.set_state(whole.rng.state)
    expected = trained(whole, 2)
    for name, array in trained(other, 2).items():
        assert np.array_equal(array, expected[name]), name
    for name in kept:
        with pytest.raises(CheckpointError, match=f"lacks {name} of shape"):
            other.load_arrays({n: a for n, a in kept.items() if n != name})
        with pytest.raises(CheckpointError, match=f"lacks {name} of shape"):
            other.load_arrays({**kept, name: kept[name][:1, ..., None]})


PENALTY = 0.03
ALL_V = np.array(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij")).reshape(4, -1).T


def penalised_log_likelihood(model, data):
    log_z = np.logaddexp.reduce(-model.marginal_free_energy(ALL_V))
    penalty = PENALTY / 2 * (model.weights[0].W() ** 2).sum()
    return -model.marginal_free_energy(data).mean() - log_z - penalty


def exact_gradient(model, data):
    """Of minus that, summed over all visible states."""
    p = np.exp(-model.marginal_free_energy(ALL_V))
    p /= p.sum()
    h, h_data = (model.data_state(x).hidden for x in (ALL_V, data))
    decay = PENALTY * model.weights[0].W()
    return {
        "layers.0.loc": p @ ALL_V - data.mean(axis=0),
        "layers.1.loc": p @ h - h_data.mean(axis=0),
        "weights.0.matrix": (ALL_V * p[:, None]).T @ h - data.T @ h_data / len(data) + decay,
    }


@orders
def test_training_comes_near_the_best_machine(order):
    """Random seeds find both minima; persistent ones alone gather in one and drive it out. Two
    patterns of four units: what 400 exact steps reach, less what the estimate's error at
    couplings of this size costs: about 0.12 of the 1.2 gained since fair coins, -2.77."""
    data = np.kron(np.eye(2), np.ones(2))[[0, 0, 1]]
    reached = []
    for exact in (False, True):
        model = RBM(4, 4, dtype="float64", device="cpu")
        W = 0.3 * np.random.default_rng(2).uniform(-1, 1, (4, 4))
        model.set_parameters({"weights.0.matrix": W})
        model.weights[0].add_penalty({"matrix": L2Penalty(PENALTY)})
        how = {"order": order, "n_chains": 20, "n_random": 20, "max_batch": 3}
        phases = TapPhases(model, Generator(1), **how)
        phases.data_rows(3)[...] = data
        for _ in range(400):
            gradient = exact_gradient(model, data) if exact else phases(3)
            for name, parameter in model.parameters().items():
                parameter -= 0.2 * gradient[name]
        reached.append(penalised_log_likelihood(model, data))
    assert reached[1] - 0.25 < reached[0] < reached[1] + 1e-6


MODEL = tap_machine(np, TWO[0])[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 4}, "TapPhases: order is 4, expected 2 or 3"),
        ({"k": 0}, "TapPhases: k is 0, expected an integer"),
        ({"n_chains": 0}, "n_chains is 0, expected"),
        ({"n_chains": -1, "n_random": 2}, "n_chains is -1, expected"),
        ({"n_random": 1.5}, "n_random is 1.5, expected"),
        ({"max_batch": 0}, "max_batch is 0, expected"),
        ({"burn_in": 0}, "burn_in is 0, expected"),
        ({"mean_field_steps": 0}, "mean_field_steps is 0, expected"),
        ({"damping": 1}, r"damping is 1, expected a number in \[0, 1\)"),
        ({"sampler": print}, "sampler is <built-in function print>, expected None"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, message):
    with pytest.raises(ParameterError, match=message):
        TapPhases(MODEL, Generator(1), **settings)


def test_units_and_precisions_that_do_not_fit_are_named():
    with pytest.raises(ParameterError, match="layer 1 has gaussian units, expected Bernoulli or"):
        TapPhases(RBM(3, 2, hidden="gaussian", device="cpu"), Generator(1))
    with pytest.raises(ParameterError, match="float16, cpu.*, expected float32 or float64"):
        TapPhases(RBM(3, 2, dtype="float16", device="cpu"), Generator(1))
