"""Lean updates of Bernoulli machines: their gradient, their chains, their noise."""

from itertools import pairwise

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import bernoulli_updates
from gpugrad.boltzmann.bernoulli_updates import BernoulliUpdates
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood
from tests.chance import assert_distribution, assert_frequencies

from .enumeration import Enumerated
from .machines import host, small_machine

N, M = 4, 3


def updates_of(xp, *, chains=5, seed=0, n=N, m=M, centred=False, dtype="float64", **settings):
    """Updates of a small machine, that machine, and the same enumerated."""
    model, exact = small_machine(xp, n=n, m=m, seed=seed, dtype=dtype)
    draw = np.random.default_rng(seed + 1)
    hidden = xp.asarray((draw.random((chains, m)) < 0.5).astype(dtype))
    mu = xp.asarray(draw.random(n)) if centred else None
    found = BernoulliUpdates(
        model.weights[0].W(),
        model.layers[0].params.loc,
        model.layers[1].params.loc,
        hidden=hidden,
        rng=Generator(seed),
        mu=mu,
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


def machine_gradient(xp, model, rows, n, mu):
    """The machine's own gradient, of the chains and the n samples that the last update saw."""
    d = model.layers[0].num_units
    rows = rows[:, :d] if mu is None else rows[:, :d] + mu
    offsets = None if mu is None else [mu, xp.full(model.layers[1].num_units, 0.5)]
    phases = model.data_state(rows[-n:]), model.data_state(rows[:-n])
    return [host(g) for g in named(model.gradient(*phases, offsets=offsets))]


@pytest.mark.parametrize("centred", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize("method, k", [("pcd", 1), ("pcd", 3), ("cd", 2)])
@pytest.mark.parametrize("n, m", [(4, 3), (3, 4)])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_each_update_is_a_step_down_the_gradient_of_the_machine(
    xp, as_device, monkeypatch, n, m, method, k, centred, momentum
):
    """Of batches of 3 samples and a last one of 2, at rates of their own; the second epoch is
    longer, the third shorter than a batch. Chains are more than samples, visible units more or
    fewer than hidden ones."""
    updates, model, _ = updates_of(
        xp, n=n, m=m, centred=centred, method=method, k=k, momentum=momentum, batch_size=3
    )
    machines, seen, moved = [], [], updates._sample

    def sample(V, *given):
        machines.append([host(p) for p in updates.parameters()])
        set_to(model, updates)
        moved(V, *given)
        size = 3 if len(V) == len(updates.h) + 3 else 2
        seen.append(machine_gradient(xp, model, V, size, updates.mu))

    monkeypatch.setattr(updates, "_sample", sample)
    rates = [0.3, 0.3, 0.1, 0.2]
    for samples in (3, 11, 2):
        data = as_device(np.random.default_rng(samples).random((samples, n)))
        updates.epoch(lambda first, stop, x=data: x[first:stop], samples, rates.__getitem__)
    machines.append([host(p) for p in updates.parameters()])
    used, last = [0.3, *rates, 0.3], [0.0, 0.0, 0.0]
    assert len(seen) == len(used)
    for rate, (before, after), g in zip(used, pairwise(machines), seen, strict=True):
        last = [momentum * x - rate * y for x, y in zip(last, g, strict=True)]
        for old, new, step in zip(before, after, last, strict=True):
            np.testing.assert_allclose(new, old + step, rtol=0, atol=1e-14)


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


@pytest.mark.parametrize("centred", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize(
    "dtype, n, k",
    [("float32", 4, 1), ("float64", 4, 1), *(("float64", 3, k) for k in (1, 2, 3))],
)
def test_chains_have_the_distribution_of_the_machine(dtype, n, k, centred):
    """Three visible units are as many as hidden ones: noise that both used would show; with more
    sweeps, noise that two of them used."""
    updates, _, exact = updates_of(
        np, chains=20000, n=n, k=k, centred=centred, dtype=dtype, batch_size=1
    )
    data = np.ones((30, n), dtype)
    updates.epoch(lambda first, stop: data[first:stop], 30, lambda i: 0.0)
    codes = updates.hidden() @ np.array([4, 2, 1])  # the order of exact.h
    counts = np.bincount(codes.astype(int), minlength=8)
    assert_frequencies(counts, 20000 * exact.joint().sum(axis=0))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_contrastive_divergence_is_k_sweeps_from_the_data(k):
    """Against the product of their exact transition probabilities; the couplings are strong, so
    that noise that two sweeps used would show."""
    updates, _, _ = updates_of(np, seed=2, method="cd", k=k, batch_size=20000)
    updates.U *= 2
    W, a, b = updates.parameters()
    exact = Enumerated(W, a, b, "bernoulli", "bernoulli")
    joint = exact.joint()
    hidden, visible = joint / joint.sum(axis=1, keepdims=True), joint / joint.sum(axis=0)
    expected = np.linalg.matrix_power(hidden @ visible.T, k)[9]
    updates.epoch(lambda first, stop: np.tile(exact.v[9], (20000, 1)), 20000, lambda i: 0.0)
    codes = updates._V[0, :20000, :N] @ np.array([8, 4, 2, 1])  # the order of exact.v
    assert_frequencies(np.bincount(codes.astype(int), minlength=16), 20000 * expected)


@pytest.mark.parametrize("centred", [False, True], ids=["plain", "centred"])
def test_the_machine_and_its_chains_come_back_as_they_were(xp, centred):
    updates, model, _ = updates_of(xp, centred=centred, batch_size=2)
    mine = model.weights[0].W(), model.layers[0].params.loc, model.layers[1].params.loc
    for a, b in zip(updates.parameters(), mine, strict=True):
        np.testing.assert_allclose(host(a), host(b), rtol=0, atol=1e-15)
    states = (np.random.default_rng(1).random((5, M)) < 0.5).astype("float64")
    np.testing.assert_array_equal(host(updates.hidden()), states)


def test_noise_is_uniform():
    updates = noise_of(20)
    noise = np.concatenate([updates._noise(0, 8, 50).ravel().copy() for _ in range(25)])
    assert_distribution(noise, lambda x: np.clip((1 + x) / 2, 0, 1))
    # finer than the 2^16 values that its own bits have
    assert len(np.unique(noise * 2**15 % 1)) > 20 * 25 // 2


def test_noise_is_the_same_on_all_devices_and_in_blocks_of_any_size(xp, monkeypatch):
    for values in (2**15, 100, 1):
        monkeypatch.setattr(bernoulli_updates, "BLOCK_VALUES", values)
        noise = [updates_of(library, n=5, batch_size=2)[0]._noise(0, 9, 7) for library in (np, xp)]
        np.testing.assert_array_equal(noise[0], host(noise[1]))


def test_noise_of_different_units_is_independent():
    """The place within an interval of 2^-16 is all that draws of one unit share."""
    updates = noise_of(32)
    u = (1 + updates._noise(0, 40, 100).reshape(-1, 2, 16)) / 2
    first, second = u[:, 0].ravel(), u[:, 1].ravel()
    cells = np.floor(8 * first) * 8 + np.floor(8 * second)
    assert_frequencies(np.bincount(cells.astype(int), minlength=64), np.full(64, cells.size / 64))
    again = u[1:].ravel()
    cells = np.floor(8 * again) * 8 + np.floor(8 * u[:-1].ravel())
    assert_frequencies(np.bincount(cells.astype(int), minlength=64), np.full(64, cells.size / 64))


@pytest.mark.parametrize("centred", [False, True], ids=["plain", "centred"])
def test_learning_finds_the_distribution_of_the_data(centred):
    """Two patterns with flipped bits; no model is likelier than the frequencies themselves."""
    draw = np.random.default_rng(0)
    patterns = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])[draw.integers(0, 2, 400)]
    data = np.abs(patterns - (draw.random((400, N)) < 0.15))
    updates, model, _ = updates_of(np, chains=400, centred=centred, k=3, batch_size=400)
    for _ in range(2000):
        updates.epoch(lambda first, stop: data[first:stop], 400, lambda i: 0.2)
    set_to(model, updates)
    frequencies = np.bincount((data @ [8, 4, 2, 1]).astype(int), minlength=16) / 400
    best = sum(p * np.log(p) for p in frequencies if p)
    assert log_likelihood(model, data, exact_log_partition(model)) > best - 0.05


def test_same_seed_gives_the_same_machine_on_all_devices(xp, as_device):
    data = np.random.default_rng(5).random((60, N))
    found = []
    for library, samples in ((np, data), (xp, as_device(data))):
        updates, _, _ = updates_of(library, centred=True, batch_size=7)
        updates.epoch(lambda first, stop, s=samples: s[first:stop], 60, lambda i: 0.1)
        found.append(host(updates.parameters()[0]))
    np.testing.assert_allclose(*found, rtol=0, atol=1e-12)
