"""Small machines with their brute-force twins, on either array library."""

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State

from .enumeration import STATES, Enumerated

PAIRINGS = [(v, h) for v in STATES for h in STATES]


def small_machine(
    xp=np, pairing=("bernoulli", "bernoulli"), n=4, m=3, seed=0, scale=0.7, dtype="float64"
):
    """A machine with random parameters, and the same machine enumerated."""
    draw = np.random.default_rng(seed)
    W, a, b = (scale * draw.normal(size=shape) for shape in ((n, m), n, m))
    device = device_like(xp)
    model = RBM(n, m, visible=pairing[0], hidden=pairing[1], dtype=dtype, device=device)
    model.set_parameters({"weights.0.matrix": W, "layers.0.loc": a, "layers.1.loc": b})
    return model, Enumerated(W, a, b, *pairing)


def states_of(xp, exact):
    """All joint states, visible state running slowest, as a State of device arrays."""
    v = np.repeat(exact.v, len(exact.h), axis=0)
    h = np.tile(exact.h, (len(exact.v), 1))
    return State((xp.asarray(v), xp.asarray(h)))


def device_like(xp):
    """The device on which this array library makes its arrays."""
    return device_of(xp.zeros(1))


def host(x):
    """A host array of whatever array this is."""
    return asnumpy(x)


def assert_donation_is_all_the_difference(model, samples):
    """A Gibbs step leaves the old state alone, or draws the same into it if it is donated."""
    start = model.random_state(samples, rng=Generator(0))
    before = start.copy()
    kept, _ = gibbs(2)(Generator(3), model, start)
    for x, y in zip(start, before, strict=True):
        np.testing.assert_array_equal(host(x), host(y))
    given, _ = gibbs(2, donate=True)(Generator(3), model, start)
    for x, y, z in zip(given, start, kept, strict=True):
        assert x is y
        np.testing.assert_array_equal(host(x), host(z))
