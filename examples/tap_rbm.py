"""A restricted Boltzmann machine trained without samples: the negative phase is deterministic.

    python examples/tap_rbm.py

784 visible and 256 hidden units on the thresholded MNIST images that come with the package. In
place of Markov chains, magnetisations follow the minima of the TAP free energy: half of them
persist from update to update, half start anew at random, so that no minimum is forgotten. Printed
after each epoch: the pseudo-likelihood of test images, which were never seen, in nats per image.
Fourteen epochs take 2:36 of one core and reach -68.5 on 1000 test images.

Gabrie, Tramel and Krzakala, "Training restricted Boltzmann machines via the
Thouless-Anderson-Palmer free energy", NIPS 2015.
"""

from functools import partial

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import RBM, fit, initialize, pseudo_likelihood
from gpugrad.boltzmann.datasets import mnist
from gpugrad.boltzmann.schedules import Linear
from gpugrad.boltzmann.tap import tap_log_likelihood, tap_magnetizations
from gpugrad.boltzmann.tap_phases import TapPhases


def main(images=60_000, tests=1000, hidden=256, epochs=14, order=2, rate=0.05, seed=0):
    train = mnist("train")[:images].reshape(-1, 784)
    test = mnist("test")[:tests].reshape(-1, 784)
    rng = Generator(seed)
    machine = RBM(784, hidden, rng=rng)
    initialize(machine, train, rng=rng)

    def told(trainer, record):
        found = pseudo_likelihood(machine, test[:200], method="exact")
        seconds = record["seconds"]
        print(f"epoch {record['epoch']}: {found:.1f} on 200 images, {seconds:.0f} s", flush=True)

    fit(
        machine,
        train,
        method=partial(TapPhases, order=order, n_random=50, burn_in=10),
        k=3,
        n_chains=50,
        schedule=Linear(rate),
        epochs=epochs,
        rng=rng,
        callbacks=[told],
    )
    minima = tap_magnetizations(machine, n_random=100, order=order, method="descent", rng=rng)
    distinct = minima.distinct()
    found = tap_log_likelihood(machine, test, distinct, order=order, method="descent")
    share, number = float(minima.converged.mean()), len(distinct.free_energy)
    print(f"{share:.0%} of 100 random seeds reach {number} minima; TAP log-likelihood {found:.1f}")
    result = pseudo_likelihood(machine, test, method="exact")
    print(f"pseudo-likelihood of the test images: {result:.2f}")
    return result


if __name__ == "__main__":
    main()
