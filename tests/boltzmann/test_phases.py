"""The two phases and their gradient, against the model's own and against enumeration."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.centering import Centering
from gpugrad.boltzmann.gradient_util import named_arrays
from gpugrad.boltzmann.layers.bernoulli import BernoulliLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.phases import Phases
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.errors import ParameterError

from .machines import PAIRINGS, host, small_machine

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)
ROWS = [3, 14, 9, 6]


def offsets_of(xp):
    return [xp.asarray([0.1, -0.3, 0.6, 0.5]), xp.asarray([0.4, 0.2, -0.1])]


def gradient_of(xp, model, exact, n=4, weight=None, **settings):
    """The gradient of one call, and the visible states of its two phases."""
    phases = Phases(model, Generator(3), max_batch=5, n_chains=3, **settings)
    v = xp.asarray(exact.v[ROWS[:n]])
    phases.data_rows(n)[...] = v
    found = {name: host(g) for name, g in phases(n, weight).items()}
    chains = n if settings.get("method") == "cd" else 3
    last = phases.n_chains
    return found, v, phases.V[last - chains : last].copy()


@pairings
@pytest.mark.parametrize("method", ["pcd", "cd"])
@pytest.mark.parametrize("n", [4, 2])
@pytest.mark.parametrize("gradient", ["analytic", "autodiff"])
def test_gradient_is_the_models_own_for_these_states(xp, pairing, method, n, gradient):
    model, exact = small_machine(xp, pairing)
    found, v, chains = gradient_of(
        xp, model, exact, n, method=method, autodiff=gradient == "autodiff"
    )
    expected = model.gradient(model.data_state(v), model.data_state(chains))
    for name, array in named_arrays(expected):
        np.testing.assert_allclose(found[name], host(array), atol=1e-14, err_msg=name)


@pairings
@pytest.mark.parametrize("gradient", ["analytic", "autodiff"])
@pytest.mark.parametrize("weighted", [False, True])
def test_centred_gradient_follows_the_offsets_that_moved_first(xp, pairing, gradient, weighted):
    model, exact = small_machine(xp, pairing)
    weight = xp.asarray([0.4, 0.1, 0.3, 0.2]) if weighted else None
    found, v, chains = gradient_of(
        xp,
        model,
        exact,
        weight=weight,
        autodiff=gradient == "autodiff",
        offsets=offsets_of(xp),
        centering_rate=0.2,
    )
    centering = Centering(*offsets_of(xp), rate=0.2)
    data = model.data_state(v)
    centering.update(data, sample_weight=weight)
    expected = centering.gradient(model, data, model.data_state(chains), sample_weight=weight)
    for name, array in named_arrays(expected):
        np.testing.assert_allclose(found[name], host(array), atol=1e-14, err_msg=name)


def test_a_second_call_does_not_see_what_the_first_one_left(xp):
    model, exact = small_machine(xp)
    phases = Phases(model, Generator(3), max_batch=5, n_chains=3, offsets=offsets_of(xp))
    for n in (5, 2, 4):
        v = xp.asarray(exact.v[:n])
        phases.data_rows(n)[...] = v
        found = {name: host(g).copy() for name, g in phases(n).items()}
        expected = model.gradient(
            model.data_state(v), model.data_state(phases.V[:3].copy()), offsets=phases.offsets
        )
        for name, array in named_arrays(expected):
            np.testing.assert_allclose(found[name], host(array), atol=1e-14, err_msg=name)


def test_a_penalty_enters_once(xp):
    model, exact = small_machine(xp)
    plain, _, _ = gradient_of(xp, model, exact)
    model.weights[0].add_penalty({"matrix": L2Penalty(0.3)})
    found, _, _ = gradient_of(xp, model, exact)
    difference = found["weights.0.matrix"] - plain["weights.0.matrix"]
    np.testing.assert_allclose(difference, 0.3 * exact.W, atol=1e-14)
    assert np.array_equal(found["layers.0.loc"], plain["layers.0.loc"])


@pairings
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("sampler", [None, "gibbs"])
def test_persistent_chains_settle_in_the_machines_distribution(pairing, k, sampler):
    """The frequency of each visible state over 20,000 independent chains after 40 sweeps or more,
    as a chi-square statistic of 15 degrees of freedom: beyond 70 once in 2e8 runs."""
    model, exact = small_machine(np, pairing, scale=0.5)
    n = 20_000
    step = gibbs(k) if sampler else None
    phases = Phases(model, Generator(8), k=k, n_chains=n, max_batch=1, sampler=step)
    phases.data_rows(1)[...] = exact.v[:1]
    for _ in range(40):
        phases(1)
    low, high = model.layers[0].support
    digits = (phases.V[:n] - low) / (high - low)
    count = np.bincount((digits @ [8, 4, 2, 1]).astype(int), minlength=16)
    expected = n * exact.marginal()
    assert ((count - expected) ** 2 / expected).sum() < 70


def test_k_sweeps_move_as_k_calls_of_one(xp):
    model, exact = small_machine(xp)
    visible = []
    for k, calls in ((6, 1), (1, 6), (3, 2)):
        phases = Phases(model, Generator(5), k=k, n_chains=7, max_batch=2)
        phases.data_rows(2)[...] = xp.asarray(exact.v[:2])
        for _ in range(calls):
            phases(2)
        visible.append(host(phases.V[:7]))
    assert np.array_equal(visible[0], visible[1]) and np.array_equal(visible[0], visible[2])


def test_memory_does_not_grow_with_k():
    import tracemalloc

    model, exact = small_machine(np, n=4, m=3)
    peaks = []
    for k in (1, 200):
        phases = Phases(model, Generator(5), k=k, n_chains=2000, max_batch=2)
        phases.data_rows(2)[...] = exact.v[:2]
        phases(2)
        tracemalloc.start()
        phases(2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # a kept sweep would add 2000 x 7 float64 = 112 kB each
    assert peaks[1] < peaks[0] + 50_000


def test_machines_that_these_formulas_do_not_cover_are_refused():
    deep = BoltzmannMachine([BernoulliLayer(n) for n in (3, 2, 2)], device="cpu")
    with pytest.raises(ParameterError, match="expected two layers of Bernoulli or Ising units"):
        Phases(deep, Generator(0))


def test_contrastive_divergence_starts_at_the_data():
    # weights so strong that a sweep returns to where it started
    model = RBM(6, 6, device="cpu", dtype="float64")
    model.set_parameters(
        {
            "weights.0.matrix": 60 * np.eye(6),
            "layers.0.loc": np.full(6, -30.0),
            "layers.1.loc": np.full(6, -30.0),
        }
    )
    v = np.random.default_rng(0).integers(0, 2, (4, 6)).astype(float)
    phases = Phases(model, Generator(1), method="cd", k=3, max_batch=4)
    phases.data_rows(4)[...] = v
    phases(4)
    assert np.array_equal(phases.V[:4], v)
