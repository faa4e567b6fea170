"""A machine of few units by brute force: every joint state, its energy, and sums over them.

Plain NumPy in float64 and nothing of gpugrad, with energies written as loops over units and
couplings, so that it cannot share a mistake with the code it judges.
"""

from itertools import product

import numpy as np

STATES = {"bernoulli": (0.0, 1.0), "ising": (-1.0, 1.0)}


class Enumerated:
    """All joint states of a two-layer machine of two-valued units.

    Parameters
    ----------
    W : array (num_visible, num_hidden)
    a, b : array (num_visible,), (num_hidden,)
    visible, hidden : "bernoulli" or "ising"
    """

    def __init__(self, W, a, b, visible, hidden):
        self.W, self.a, self.b = (np.asarray(x, dtype=np.float64) for x in (W, a, b))
        self.v = np.array(list(product(STATES[visible], repeat=len(self.a))))
        self.h = np.array(list(product(STATES[hidden], repeat=len(self.b))))
        self.E = np.array([[self.energy(v, h) for h in self.h] for v in self.v])

    def energy(self, v, h):
        total = 0.0
        for i, vi in enumerate(v):
            total -= self.a[i] * vi
        for j, hj in enumerate(h):
            total -= self.b[j] * hj
        for i, vi in enumerate(v):
            for j, hj in enumerate(h):
                total -= vi * self.W[i, j] * hj
        return total

    def log_z(self, beta=1.0):
        return np.log(np.exp(-beta * self.E).sum())

    def joint(self, beta=1.0):
        """p(v, h), (visible states, hidden states)."""
        p = np.exp(-beta * self.E)
        return p / p.sum()

    def marginal(self, beta=1.0):
        """p(v), one value a visible state."""
        return self.joint(beta).sum(axis=1)

    def free_energy(self, v, beta=1.0):
        """-log sum over h of exp(-beta E(v, h)) for rows of v."""
        return np.array(
            [-np.log(sum(np.exp(-beta * self.energy(row, h)) for h in self.h)) for row in v]
        )

    def hidden_given(self, v, beta=1.0):
        """p(h | v) over all hidden states, for rows of v."""
        p = np.array([[np.exp(-beta * self.energy(row, h)) for h in self.h] for row in v])
        return p / p.sum(axis=1, keepdims=True)

    def visible_given(self, h, beta=1.0):
        """p(v | h) over all visible states, for rows of h."""
        p = np.array([[np.exp(-beta * self.energy(v, row)) for v in self.v] for row in h])
        return p / p.sum(axis=1, keepdims=True)

    def moments(self, p):
        """<v>, <h> and <v h^T> under a joint distribution p."""
        first = sum(p[i].sum() * v for i, v in enumerate(self.v))
        second = sum(p[:, j].sum() * h for j, h in enumerate(self.h))
        mixed = sum(
            p[i, j] * np.outer(v, h) for i, v in enumerate(self.v) for j, h in enumerate(self.h)
        )
        return first, second, mixed

    def negative_log_likelihood(self, data):
        """Mean over rows of data of -log p(v)."""
        return np.mean(self.free_energy(data)) + self.log_z()

    def sweep_matrix(self, beta=1.0):
        """p(v' | v) of one Gibbs sweep v -> h -> v', (visible states, visible states)."""
        return self.hidden_given(self.v, beta) @ self.visible_given(self.h, beta)
