"""Bars and stripes: how close a small machine comes to the best one there is.

    python examples/bars_and_stripes.py

The data are the 14 images of 3x3 pixels that consist of whole rows or of whole columns. With 9
visible and 4 hidden units everything can be summed, so that the likelihood itself can be climbed:
its gradient comes from back-propagation through the sum over the 16 hidden states, for 150 random
starts at once. Training by chains has to find its way without that sum; the exact likelihood only
says how far it came. One sweep of Gibbs sampling an update (PCD-1) loses to parallel tempering
(PT) and to parallel trajectory tempering (PTT), which exchange states with machines that mix fast.
Printed is log p summed over the 14 images, which cannot exceed -14 log 14 = -36.95; 4 hidden units
do not reach it, 8 come close. The runs are drawn in bars_and_stripes.png.

Four minutes on one core.
"""

import math
from itertools import product

import numpy as np
from matplotlib.figure import Figure

import gpugrad as gp
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import RBM, exact_log_partition, fit, initialize, log_likelihood
from gpugrad.boltzmann.optimizers import Adam
from gpugrad.boltzmann.schedules import Linear
from gpugrad.boltzmann.tempering import parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering

ROWS = np.array(list(product((0.0, 1.0), repeat=3)))
IMAGES = np.unique(np.concatenate([np.repeat(ROWS, 3, axis=1), np.tile(ROWS, (1, 3))]), axis=0)
SAMPLERS = {
    "PCD-1": None,
    "PT": parallel_tempering(np.linspace(0, 1, 6).tolist()),
    "PTT": parallel_trajectory_tempering(),
}
BOUND = -len(IMAGES) * math.log(len(IMAGES))


def total(W, a, b):
    """log p summed over the images, exactly, for machines W (S, 9, H), a (S, 1, 9), b (S, 1, H)."""
    h = np.array(list(product((0.0, 1.0), repeat=W.shape[2])))
    data = gp.sum(IMAGES * a, axis=(1, 2)) + gp.sum(gp.softplus(IMAGES @ W + b), axis=(1, 2))
    log_weight = gp.sum(h * b, axis=2) + gp.sum(gp.softplus(h @ gp.swapaxes(W, 1, 2) + a), axis=2)
    return data - len(IMAGES) * gp.logsumexp(log_weight, axis=1)


def by_exact_gradient(hidden, starts, updates, rate=0.05, seed=0):
    """The totals that gradient ascent on the likelihood itself reaches, one a start."""
    normal = np.random.default_rng(seed).standard_normal((starts, 9, hidden))
    parameters = {"W": normal, "a": np.zeros((starts, 1, 9)), "b": np.zeros((starts, 1, hidden))}
    rule = Adam()
    memory = rule.init(parameters)
    for update in range(updates):
        tensors = {name: gp.tensor(p) for name, p in parameters.items()}
        (-gp.sum(total(**tensors))).backward()
        gradient = {name: t.grad for name, t in tensors.items()}
        rule.update_(parameters, gradient, memory, rate * (1 - update / updates))
    return total(**parameters).data


def by_chains(hidden, sampler, seed, updates, rate=0.5):
    """The total that training with 100 chains reaches; each update sees all images."""
    rng, images = Generator(seed), IMAGES.astype("float32")
    machine = RBM(9, hidden, rng=rng)
    initialize(machine, images, rng)
    # epochs of 500 updates, after each of which the log takes as long as a few updates
    data = np.tile(images, (500, 1))
    settings = {"schedule": Linear(rate), "sampler": SAMPLERS[sampler], "epochs": updates // 500}
    fit(machine, data, batch_size=len(images), n_chains=100, shuffle=False, rng=rng, **settings)
    return len(images) * log_likelihood(machine, images, exact_log_partition(machine))


def main(starts=150, seeds=10, updates=20_000, ascents=5000):
    """Print the table and return the totals of each row."""
    found = {}
    for hidden, tries in ((4, starts), (8, min(starts, 10))):
        found[f"9x{hidden} exact gradient"] = by_exact_gradient(hidden, tries, ascents)
    for hidden, sampler in ((4, "PCD-1"), (4, "PT"), (4, "PTT"), (8, "PTT")):
        runs = [by_chains(hidden, sampler, seed, updates) for seed in range(seeds)]
        found[f"9x{hidden} {sampler}"] = np.array(runs)
    print(f"{'sum of log p over 14 images':32}{'runs':>6}{'best':>9}{'median':>9}{'worst':>9}")
    figure = Figure(figsize=(7.5, 3.5), layout="constrained")
    axes = figure.subplots()
    for row, (name, x) in enumerate(found.items()):
        print(f"{name:32}{len(x):6}{x.max():9.2f}{np.median(x):9.2f}{x.min():9.2f}")
        axes.plot(x, np.full(len(x), -row), "o", alpha=0.4, markersize=5)
    axes.axvline(BOUND, color="k", linestyle="--", label="bound -14 log 14")
    axes.set_yticks(-np.arange(len(found)), found)
    axes.set_xlabel("log-likelihood summed over the 14 images")
    axes.legend(frameon=False)
    figure.savefig("bars_and_stripes.png", dpi=120)
    return found


if __name__ == "__main__":
    main()
