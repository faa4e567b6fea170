"""A unit type of one's own: spin 1 with a crystal field, written as its energy and nothing else.

    python examples/user_unit.py

The data are states of a ring of Blume-Capel spins, E = -J sum s_i s_(i+1) + D sum s_i^2 with s_i in
{-1, 0, 1}, drawn exactly. A machine with such spins as visible units and with double wells (phi^4),
another type that the package does not have, as hidden ones learns them by `fit`. No derivative is
written anywhere. With 6 spins everything can be summed over the 729 states, so that the likelihood
is exact; the best possible one is minus the entropy of the ring.

A few seconds on one core.
"""

import math
from itertools import product

import numpy as np

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import RBM, exact_log_partition, fit, initialize
from gpugrad.boltzmann.layers import EnergyLayer

SPINS = 6
COUPLING, CRYSTAL = 0.8, 0.5


class BlumeCapel(EnergyLayer):
    """E(s) = D s^2 - loc s for s in {-1, 0, 1}: sums over the support are exact."""

    support = (-1, 0, 1)
    parameters = {"D": 0.0}

    @staticmethod
    def potential(xp, params, s):
        return params.D * s * s


class DoubleWell(EnergyLayer):
    """E(x) = a (x^2 - 1)^2 - loc x on the real line: integrals are done numerically."""

    interval = (-math.inf, math.inf)
    parameters = {"log_a": 0.0}

    @staticmethod
    def potential(xp, params, x):
        return xp.exp(params.log_a) * (x * x - 1) ** 2


def ring():
    """All states of the ring (729, 6), and the probability of each."""
    s = np.array(list(product((-1.0, 0.0, 1.0), repeat=SPINS)))
    energy = -COUPLING * (s * np.roll(s, 1, axis=1)).sum(axis=1) + CRYSTAL * (s * s).sum(axis=1)
    p = np.exp(-energy)
    return s, p / p.sum()


def main(epochs=15, hidden=4, samples=5000, device="cpu", seed=0):
    """Train and return how many nats the mean log-likelihood stays below the best possible one."""
    states, p = ring()
    draw = np.random.default_rng(seed)
    data = states[draw.choice(len(p), samples, p=p)]
    rng = Generator(seed)
    model = RBM(SPINS, hidden, visible="blume_capel", hidden="double_well", device=device, rng=rng)
    initialize(model, data, rng, scale=0.1)

    def lost():
        """Kullback-Leibler divergence of the machine from the ring, exact."""
        v = states.astype(model.dtype)
        log_q = -model.marginal_free_energy(v) - exact_log_partition(model)
        return float(p @ (np.log(p) - log_q))

    print(f"entropy of the ring {-p @ np.log(p):.3f} nats; lost at the start {lost():.3f}")
    fit(
        model,
        data,
        epochs=epochs,
        batch_size=100,
        schedule=lambda position, length: 0.1 * (1 - position / length),
        rng=rng,
        callbacks=[lambda trainer, record: print(f"epoch {record['epoch']}: lost {lost():.4f}")],
    )
    print("learned crystal fields D:", np.round(model.layers[0].params.D, 2))
    return lost()


if __name__ == "__main__":
    main()
