"""`gpugrad.boltzmann.estimator.BernoulliRBM` against scikit-learn's: time of a fit, and likelihood.

Equal data, dtype, batch size, learning rate and number of passes; all else is each one's default.
The time is that of a fit of three passes; beside it stands that of its products alone, which both
have in common. On a machine with other work the ratios of one thread say
most: idle BLAS threads of two contestants disturb each other.

The likelihoods are exact, of 16 hidden units for the digits and 12 for MNIST, each the mean over
four seeds.

    python -m tests.bench.estimator
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.boltzmann.datasets import mnist
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood
from tests.bench import harness

BUDGET = 0.5
PASSES = 3
BATCHES, DTYPES = (10, 100), ("float32", "float64")
SEEDS = range(4)
LIKELIHOODS = (("digits", 16, 10, 10), ("digits", 16, 100, 30), ("MNIST", 12, 10, 3))
"""Data, hidden units, batch size, passes."""


def digits() -> np.ndarray:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)[0] / 16


def estimators() -> dict[str, Any]:
    """The two classes by name."""
    from sklearn.neural_network import BernoulliRBM as Sklearn

    from gpugrad.boltzmann.estimator import BernoulliRBM

    return {"gpugrad": BernoulliRBM, "scikit-learn": Sklearn}


def a_fit(kind: Any, data: np.ndarray, batch: int) -> Callable[[], object]:
    machine = kind(n_components=256, batch_size=batch, n_iter=PASSES, random_state=1)
    return lambda: machine.fit(data)


def products_of_a_fit(data: np.ndarray, batch: int) -> Callable[[], object]:
    """The products of matrices that no update can do without, and nothing else."""
    visible, hidden = (np.zeros((2 * batch, n), data.dtype) for n in (data.shape[1], 256))
    W = np.zeros((data.shape[1], 256), data.dtype)
    updates = PASSES * (len(data) // batch)

    def run() -> None:
        for _ in range(updates):
            np.matmul(hidden[:batch], W.T, out=visible[:batch])
            np.matmul(visible, W, out=hidden)
            np.matmul(visible.T, hidden, out=W)

    return run


def likelihood(machine: Any, data: np.ndarray) -> float:
    """Mean log-likelihood of the data in nats, by the exact partition function."""
    hidden, visible = machine.components_.shape
    model = RBM(visible, hidden, dtype="float64", device="cpu")
    model.set_parameters(
        {
            "weights.0.matrix": machine.components_.T,
            "layers.0.loc": machine.intercept_visible_,
            "layers.1.loc": machine.intercept_hidden_,
        }
    )
    return log_likelihood(model, data, exact_log_partition(model))


def times(title: str, data: np.ndarray, rounds: int) -> str:
    lines = []
    for batch in BATCHES:
        for dtype in DTYPES:
            samples = data.astype(dtype)
            contestants = {n: a_fit(kind, samples, batch) for n, kind in estimators().items()}
            contestants["products alone"] = products_of_a_fit(samples, batch)
            timings = harness.race(contestants, rounds=rounds, seconds_per_round=0.1)
            lines.append(
                harness.table(f"{title}, batches of {batch}, {dtype}", timings, against="gpugrad")
            )
            lines.append(harness.verdict(timings, "gpugrad", "scikit-learn", BUDGET))
    return "".join(lines)


def likelihoods() -> str:
    data = {"digits": (digits() > 0.5).astype("float64"), "MNIST": mnist()[:6000]}
    lines = [
        "### Log-likelihood of the training data, nats a sample",
        "",
        "| data, units, batch, passes | gpugrad | scikit-learn | |",
        "|---|---|---|---|",
    ]
    for name, units, batch, passes in LIKELIHOODS:
        mean = {
            who: np.mean(
                [
                    likelihood(
                        kind(
                            n_components=units,
                            batch_size=batch,
                            n_iter=passes,
                            random_state=seed,
                        ).fit(data[name]),
                        data[name],
                    )
                    for seed in SEEDS
                ]
            )
            for who, kind in estimators().items()
        }
        ours, theirs = mean["gpugrad"], mean["scikit-learn"]
        met = "met" if ours >= theirs else "MISSED"
        lines.append(
            f"| {name}, {units}, {batch}, {passes} | {ours:.2f} | {theirs:.2f} | no worse: {met} |"
        )
    return "\n".join([*lines, ""])


def report(rounds: int = 7) -> str:
    reason = harness.missing("sklearn", "threadpoolctl")
    if reason is not None:
        return harness.not_run("BernoulliRBM", reason)
    parts = []
    sizes = (("digits, 64x256", digits()), ("2,000 of MNIST, 784x256", mnist()[:2000]))
    for title, data in sizes:
        with harness.one_thread():
            parts.append(times(f"{title}, one thread", data, rounds))
        parts.append(times(f"{title}, all threads", data, 3))
    return "".join([*parts, likelihoods()])


if __name__ == "__main__":
    print(report())
