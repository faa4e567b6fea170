"""Lean updates of Bernoulli machines: their gradient, their chains, their noise."""

import sys

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import bernoulli_updates
from gpugrad.boltzmann.bernoulli_updates import BernoulliUpdates
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood
from gpugrad.boltzmann.state import State
from tests.chance import assert_distribution, assert_frequencies

from .machines import host, small_machine

N, M = 4, 3


def updates_of(xp, *, chains=5, seed=0, n=N, m=M, offsets=False, dtype="float64", **settings):
    """Updates of a small machine, that machine, and the same enumerated."""
    model, exact = small_machine(xp, n=n, m=m, seed=seed, dtype=dtype)
    draw = np.random.default_rng(seed + 1)
    hidden = xp.asarray((draw.random((chains, m)) < 0.5).astype(dtype))
    centre = (xp.asarray(draw.random(n)), xp.asarray(draw.random(m))) if offsets else None
    found = BernoulliUpdates(
        model.weights[0].W(),
        model.layers[0].params.loc,
        model.layers[1].params.loc,
        hidden=hidden,
        rng=Generator(seed),
        offsets=centre,
        **settings,
    )
    return found, model, exact


def noise_of(n):
    """Updates of a machine of n visible units, for their noise."""
    W, a, b, h = np.zeros((n, M)), np.zeros(n), np.zeros(M), np.zeros((2, M))
    return BernoulliUpdates(W, a, b, hidden=h, rng=Generator(0), batch_size=2)


def set_to(model, updates):
    W, a, b = updates.parameters()
    model.set_parameters({"weights.0.matrix": W, "layers.0.loc": a, "layers.1.loc": b})


def named(gradient):
    return [gradient.weights[0].matrix, gradient.layers[0].loc, gradient.layers[1].loc]


def machine_gradient(model, updates, data, offsets):
    """The machine's own gradient, with the states that the chains had in the last update."""
    rows = updates._V[0]
    chains = rows[: len(rows) - len(data), :N]
    if updates.mu is not None:
        chains = chains + updates.mu
    return [
        host(g)
        for g in named(
            model.gradient(model.data_state(data), model.data_state(chains), offsets=offsets)
        )
    ]


@pytest.mark.parametrize("offsets", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize("method, k", [("pcd", 1), ("pcd", 3), ("cd", 2)])
def test_an_update_is_a_step_down_the_gradient_of_the_machine(xp, as_device, method, k, offsets):
    data = as_device(np.random.default_rng(5).random((6, N)))
    updates, model, _ = updates_of(xp, offsets=offsets, method=method, k=k, batch_size=6)
    centre = [updates.mu, updates.lam] if offsets else None
    before = [host(p) for p in updates.parameters()]
    updates.epoch(lambda first, stop: data[first:stop], 6, lambda i: 0.3)
    expected = machine_gradient(model, updates, data, centre)
    for old, new, g in zip(before, updates.parameters(), expected, strict=True):
        np.testing.assert_allclose(host(new), old - 0.3 * g, rtol=0, atol=1e-14)


def test_momentum_adds_the_last_step(xp, as_device):
    data = as_device(np.random.default_rng(5).random((6, N)))
    last = [np.zeros((N, M)), np.zeros(N), np.zeros(M)]
    updates, model, _ = updates_of(xp, momentum=0.6, batch_size=6)
    for _ in range(3):
        set_to(model, updates)
        before = [host(p) for p in updates.parameters()]
        updates.epoch(lambda first, stop: data[first:stop], 6, lambda i: 0.2)
        g = machine_gradient(model, updates, data, None)
        last = [0.6 * x - 0.2 * y for x, y in zip(last, g, strict=True)]
        for old, new, step in zip(before, updates.parameters(), last, strict=True):
            np.testing.assert_allclose(host(new), old + step, rtol=0, atol=1e-14)


def test_epoch_goes_through_all_batches_with_their_rates(as_device, xp):
    updates, _, _ = updates_of(xp, batch_size=3)
    data = as_device(np.zeros((1000, N)))
    rows, numbers = [], []

    def take(first, stop):
        rows.extend(range(first, stop))
        return data[first:stop]

    def rate(i):
        numbers.append(i)
        return 0.0

    updates.epoch(take, 1000, rate)
    assert rows == list(range(1000))
    assert numbers == list(range(334))


@pytest.mark.parametrize("offsets", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize("dtype, n", [("float32", 4), ("float64", 4), ("float64", 3)])
def test_chains_have_the_distribution_of_the_machine(dtype, n, offsets):
    """Three visible units are as many as hidden ones: noise that both used would show."""
    updates, _, exact = updates_of(
        np, chains=20000, n=n, offsets=offsets, dtype=dtype, batch_size=1
    )
    data = np.ones((30, n), dtype)
    updates.epoch(lambda first, stop: data[first:stop], 30, lambda i: 0.0)
    codes = updates.hidden() @ np.array([4, 2, 1])  # the order of exact.h
    counts = np.bincount(codes.astype(int), minlength=8)
    assert_frequencies(counts, 20000 * exact.joint().sum(axis=0))


def test_moving_offsets_leave_the_machine_alone(xp):
    updates, model, _ = updates_of(xp, offsets=True, batch_size=2)
    states = host(updates.hidden())
    lam = updates.lam
    updates._move_lam(lam * 0.3 + 0.1)
    found = updates.parameters()
    mine = model.weights[0].W(), model.layers[0].params.loc, model.layers[1].params.loc
    for a, b in zip(found, mine, strict=True):
        np.testing.assert_allclose(host(a), host(b), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(host(updates.hidden()), states)


def test_hidden_offsets_follow_the_means_given_the_data(xp, as_device):
    updates, model, _ = updates_of(xp, offsets=True, batch_size=6)
    data = as_device(np.random.default_rng(3).random((6, N)))
    mean = host(model.conditional_mean(1, State((data, None)))).mean(axis=0)
    start = host(updates.lam)
    for _ in range(50):
        updates.epoch(lambda first, stop: data[first:stop], 6, lambda i: 0.0)
    expected = mean + 0.99**50 * (start - mean)
    np.testing.assert_allclose(host(updates.lam), expected, rtol=0, atol=1e-12)


def test_noise_is_logistic():
    updates = noise_of(20)
    noise = 2 * np.concatenate([updates._noise(0, 8, 50).ravel().copy() for _ in range(25)])
    assert_distribution(noise, lambda x: 1 / (1 + np.exp(-x)))


def test_noise_of_different_units_is_independent():
    """The place within an interval of 2^-16 is all that draws of one unit share."""
    updates = noise_of(32)
    u = 1 / (1 + np.exp(-2 * updates._noise(0, 40, 100).reshape(-1, 2, 16)))
    first, second = u[:, 0].ravel(), u[:, 1].ravel()
    cells = np.floor(8 * first) * 8 + np.floor(8 * second)
    assert_frequencies(np.bincount(cells.astype(int), minlength=64), np.full(64, cells.size / 64))
    again = u[1:].ravel()
    cells = np.floor(8 * again) * 8 + np.floor(8 * u[:-1].ravel())
    assert_frequencies(np.bincount(cells.astype(int), minlength=64), np.full(64, cells.size / 64))


def test_learning_finds_the_distribution_of_the_data():
    """With as many hidden units as it needs the machine comes close to two patterns."""
    data = np.repeat(np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]), 50, axis=0)
    updates, model, _ = updates_of(np, chains=100, offsets=True, batch_size=100)
    for _ in range(3000):
        updates.epoch(lambda first, stop: data[first:stop], 100, lambda i: 0.1)
    set_to(model, updates)
    # log 1/2 for each pattern is the best there is
    assert log_likelihood(model, data, exact_log_partition(model)) > np.log(0.5) - 0.1


def test_same_seed_gives_the_same_machine_on_all_devices(xp, as_device):
    data = np.random.default_rng(5).random((60, N))
    found = []
    for library, samples in ((np, data), (xp, as_device(data))):
        updates, _, _ = updates_of(library, offsets=True, batch_size=7)
        updates.epoch(lambda first, stop, s=samples: s[first:stop], 60, lambda i: 0.1)
        found.append(host(updates.parameters()[0]))
    np.testing.assert_allclose(*found, rtol=0, atol=1e-12)


def test_product_without_scipy_is_the_same(monkeypatch):
    V, H = np.random.default_rng(0).random((7, 5)), np.random.default_rng(1).random((7, 3))
    found = []
    for hide in (False, True):
        if hide:
            monkeypatch.setitem(sys.modules, "scipy.linalg", None)
        out = np.ones((5, 3))
        bernoulli_updates._accumulate_on_host(np.dtype("float64"))(out, V, H, 0.3, 0.5)
        found.append(out)
    np.testing.assert_allclose(found[0], 0.5 + 0.3 * V.T @ H, rtol=1e-13)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-13)
