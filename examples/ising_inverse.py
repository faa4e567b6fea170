"""The inverse Ising problem: couplings from samples, by four methods.

    python examples/ising_inverse.py

Spins +-1 with known couplings J_ij ~ N(0, strength^2 / spins) between all pairs (Sherrington and
Kirkpatrick) and fields N(0, 0.3^2), few enough for exact samples, of means m and covariance C:

    naive mean field     J_ij = -(C^-1)_ij
    TAP                  J_ij + 2 m_i m_j J_ij^2 = -(C^-1)_ij
    pseudo-likelihood    maximum of sum_i log p(s_i | all others)
    Boltzmann learning   maximum of the likelihood, by Gibbs chains

The first two expand in the couplings and fail where these are strong, whatever the number of
samples; the other two are consistent and stay at the Cramer-Rao bound, the RMS error that no
unbiased method beats on average. The figure is ising_inverse.png; 15 seconds on one core.

Roudi, Aurell and Hertz, "Statistical physics of pairwise probability models", Frontiers in
Computational Neuroscience 3:22 (2009).
"""

from itertools import product

import numpy as np
from matplotlib.figure import Figure

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import BoltzmannMachine, fit
from gpugrad.boltzmann.layers import IsingLayer
from gpugrad.boltzmann.optimizers import Adam
from gpugrad.boltzmann.pseudo import pseudo_likelihood_gradient


def known_model(spins, strength, rng):
    """Couplings, all states and their probabilities, Cramer-Rao bound of J_ij for one sample."""
    J = np.triu(rng.normal(0, strength / np.sqrt(spins), (spins, spins)), 1)
    J, h = J + J.T, rng.normal(0, 0.3, spins)
    s = np.array(list(product((-1.0, 1.0), repeat=spins)))
    p = np.exp(0.5 * ((s @ J) * s).sum(axis=1) + s @ h)
    i, j = np.triu_indices(spins, 1)
    fisher = np.cov(np.hstack([s[:, i] * s[:, j], s]).T, aweights=p, ddof=0)
    return J, s, p / p.sum(), np.sqrt(np.diag(np.linalg.inv(fisher))[: len(i)].mean())


def by_mean_field(s):
    m, inverse = s.mean(axis=0), np.linalg.inv(np.cov(s.T))
    square = 1 - 8 * np.outer(m, m) * inverse
    # the root that tends to mean field as m -> 0, or mean field itself where there is no root
    tap = -2 * inverse / (1 + np.sqrt(np.maximum(square, 0)))
    return {"naive mean field": -inverse, "TAP": np.where(square < 0, -inverse, tap)}


def by_pseudo_likelihood(s, updates=300, rate=0.05):
    machine = BoltzmannMachine([IsingLayer(s.shape[1])], lateral={0: np.zeros((s.shape[1],) * 2)})
    rule, parameters, data = Adam(), machine.parameters(), s.astype(machine.dtype)
    memory = rule.init(parameters)
    for u in range(updates):
        gradient = pseudo_likelihood_gradient(machine, data)
        rule.update_(parameters, gradient, memory, rate * (1 - u / updates))
    return machine.lateral[0].J()


def by_boltzmann_learning(s, epochs, rng):
    machine = BoltzmannMachine([IsingLayer(s.shape[1])], lateral={0: np.zeros((s.shape[1],) * 2)})
    rates = {"schedule": 0.2, "average_epochs": epochs / 2}  # constant; the mean of the last half
    fit(machine, s, epochs=epochs, batch_size=1000, n_chains=1000, rng=rng, **rates)
    return machine.lateral[0].J()


def main(strengths=(0.1, 0.2, 0.4, 0.7, 1, 1.4), spins=10, samples=20_000, epochs=100, seed=1):
    """Print and draw the RMS errors of the couplings; returns them by method."""
    pairs, found = np.triu_indices(spins, 1), {}
    for strength in strengths:
        rng = np.random.default_rng(seed)
        J, states, p, bound = known_model(spins, strength, rng)
        s = states[rng.choice(len(p), samples, p=p)]
        guesses = {**by_mean_field(s), "pseudo-likelihood": by_pseudo_likelihood(s)}
        guesses["Boltzmann learning"] = by_boltzmann_learning(s, epochs, Generator(seed))
        errors = {name: np.sqrt(np.mean((g - J)[pairs] ** 2)) for name, g in guesses.items()}
        errors["Cramer-Rao bound"] = bound / np.sqrt(samples)
        print(f"strength {strength}:", *(f"{name} {x:.4f}" for name, x in errors.items()), sep="  ")
        found = {name: [*found.get(name, []), x] for name, x in errors.items()}
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, errors in found.items():
        left.loglog(strengths, errors, "k--" if "bound" in name else "o-", label=name)
    left.set(xlabel="strength of the couplings", ylabel="RMS error of the couplings")
    left.legend()
    right.plot(J[pairs], np.transpose([g[pairs] for g in guesses.values()]), "o", alpha=0.6)
    right.axline((0, 0), slope=1, color="k")
    right.set(xlabel="true coupling", ylabel="inferred", title=f"strength {strengths[-1]}")
    figure.savefig("ising_inverse.png", dpi=120)
    return found


if __name__ == "__main__":
    main()
