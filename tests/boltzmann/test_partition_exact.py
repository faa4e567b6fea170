"""log Z by enumeration and the likelihood that follows, for every machine that can be summed."""

import math

import numpy as np
import pytest

from gpugrad.boltzmann.layers import (
    BernoulliLayer,
    GaussianLayer,
    IsingLayer,
    PottsLayer,
    ReLULayer,
)
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.partition import (
    exact_log_partition,
    has_marginal,
    is_enumerable,
    likelihood_bounds,
    log_likelihoods,
)
from gpugrad.errors import DataError, ParameterError

from .any_machines import PAIRINGS, any_machine
from .grid_machines import grid_machine

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)
FINITE = {"bernoulli", "ising", "potts"}

DEEP = [
    (("bernoulli", "ising", "potts"), (3, 2, 2)),
    (("bernoulli", "bernoulli", "bernoulli", "ising"), (3, 2, 3, 2)),
    (("potts", "bernoulli", "gaussian"), (2, 2, 1)),
    (("gaussian", "bernoulli", "relu"), (1, 3, 1)),
    (("ising", "truncated_exponential", "ising", "exponential"), (2, 1, 2, 1)),
    (("bernoulli", "gaussian", "gaussian"), (3, 1, 1)),
    (("gaussian", "gaussian", "ising"), (1, 1, 2)),
]
LATERAL = [
    (("ising",), (5,), (0,)),
    (("potts",), (3,), (0,)),
    (("bernoulli", "bernoulli"), (3, 3), (0,)),
    (("bernoulli", "ising"), (3, 3), (0, 1)),
    (("potts", "gaussian"), (2, 1), (0,)),
    (("bernoulli", "ising", "bernoulli"), (2, 3, 2), (1,)),
    (("bernoulli", "ising", "bernoulli"), (2, 3, 2), (0, 1)),
]
deep = pytest.mark.parametrize(("kinds", "sizes"), DEEP, ids=lambda x: "-".join(map(str, x)))
with_lateral = pytest.mark.parametrize(
    ("kinds", "sizes", "lateral"), LATERAL, ids=lambda x: "-".join(map(str, x))
)


@pairings
@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_every_pairing_with_a_finite_side_or_two_gaussian_ones_is_summed(xp, pairing, beta):
    model, exact = any_machine(xp, pairing)
    if not FINITE & set(pairing) and set(pairing) != {"gaussian"}:
        assert not is_enumerable(model)
        with pytest.raises(ParameterError, match=f"2 {pairing[0]} - 1 {pairing[1]}, expected unit"):
            exact_log_partition(model)
        return
    assert is_enumerable(model)
    assert exact_log_partition(model, beta=beta) == pytest.approx(exact.log_z(beta), abs=1e-8)


@deep
@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_deep_machines_are_summed_over_every_second_layer(xp, kinds, sizes, beta):
    model, exact = grid_machine(xp, kinds, sizes)
    assert exact_log_partition(model, beta=beta) == pytest.approx(exact.log_z(beta), abs=1e-8)


@with_lateral
@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_lateral_couplings_are_summed(xp, kinds, sizes, lateral, beta):
    model, exact = grid_machine(xp, kinds, sizes, lateral=lateral)
    assert exact_log_partition(model, beta=beta) == pytest.approx(exact.log_z(beta), abs=1e-8)


def test_a_gaussian_machine_of_any_size_takes_a_determinant():
    """A chain of coupled Gaussian units: det of a tridiagonal matrix by its recurrence."""
    n, w = 400, 0.45
    J = w * (np.eye(n, k=1) + np.eye(n, k=-1))
    model = BoltzmannMachine(
        [GaussianLayer(n, device="cpu")], lateral={0: J}, dtype="float64", device="cpu"
    )
    before, now = 1.0, 1.0  # determinants of the first k - 1 and k rows
    for _ in range(n - 1):
        before, now = now, now - w * w * before
    expected = n / 2 * math.log(2 * math.pi) - math.log(now) / 2
    assert exact_log_partition(model) == pytest.approx(expected, rel=1e-12)


def test_lateral_states_of_several_blocks():
    """20 coupled Ising units on a ring: log Z is that of the transfer matrix.

    A block has 17 of them: of the three others, whose states number the blocks, two pairs are
    coupled.
    """
    n, j, h = 20, 0.4, 0.3
    J = j * (np.roll(np.eye(n), 1, axis=0) + np.roll(np.eye(n), -1, axis=0))
    model = BoltzmannMachine(
        [IsingLayer(n, device="cpu")], lateral={0: J}, dtype="float64", device="cpu"
    )
    model.set_parameters({"layers.0.loc": np.full(n, h)})
    s = np.array([-1.0, 1.0])
    T = np.exp(j * np.outer(s, s) + h * (s[:, None] + s) / 2)
    expected = math.log((np.linalg.eigvalsh(T) ** n).sum())
    assert exact_log_partition(model) == pytest.approx(expected, abs=1e-11)


def test_the_cheaper_set_of_layers_is_listed():
    """900 - 6 - 900 - 6 units: 2^12 states of the small layers, not 2^1800 of the wide ones."""
    sizes = (900, 6, 900, 6)
    layers = [BernoulliLayer(n, device="cpu") for n in sizes]
    model = BoltzmannMachine(layers, dtype="float64", device="cpu")
    for weights in model.weights:
        weights.params.matrix[...] = 0
    assert exact_log_partition(model) == pytest.approx(sum(sizes) * math.log(2), rel=1e-13)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([BernoulliLayer(26), BernoulliLayer(30)], r"26 bernoulli - 30 bernoulli, of which 2\^26"),
        (
            [PottsLayer(20, 4), PottsLayer(20, 3)],
            r"80 potts - 60 potts, of which 2\^31\.7 .* at most 2\^25",
        ),
        ([ReLULayer(2), ReLULayer(2)], "2 relu - 2 relu, expected units of finitely many"),
    ],
)
def test_machines_too_large_to_list_are_refused(layers, message):
    model = BoltzmannMachine(layers)
    for weights in model.weights:
        weights.params.matrix[...] = 0
    with pytest.raises(ParameterError, match=f"exact_log_partition: layers are {message}"):
        exact_log_partition(model)


@pytest.mark.parametrize("beta", [0, -1.0, math.nan, math.inf, "1", None])
def test_a_temperature_out_of_range_is_refused(beta):
    with pytest.raises(ParameterError, match="exact_log_partition: beta is"):
        exact_log_partition(RBM(3, 2), beta=beta)


# ---- likelihood


@pairings
def test_likelihoods_of_every_pairing_are_the_integrated_densities(xp, pairing):
    model, exact = any_machine(xp, pairing)
    near = np.flatnonzero(np.abs(exact.v.states).max(axis=1) < 2.5)[::5][:50]
    got = log_likelihoods(model, xp.asarray(exact.v.states[near]), exact.log_z())
    np.testing.assert_allclose(got, -exact.free_energy(near) - exact.log_z(), atol=1e-8)
    bound = likelihood_bounds(model, xp.asarray(exact.v.states[near]), exact.log_z())
    np.testing.assert_array_equal(bound, got)


@with_lateral
def test_likelihoods_with_lateral_couplings(kinds, sizes, lateral):
    model, exact = grid_machine(np, kinds, sizes, lateral=lateral)
    v = exact.sides[0].states
    if not has_marginal(model):
        with pytest.raises(ParameterError, match="likelihood_bounds gives lower bounds"):
            log_likelihoods(model, v, 0.0)
        return
    np.testing.assert_allclose(
        log_likelihoods(model, v, exact.log_z()), exact.log_density(), atol=1e-8
    )


@deep
def test_bounds_lie_below_the_likelihood_and_close_to_it(xp, kinds, sizes):
    """Weak couplings: mean field loses the square of a correlation, a few hundredths of a nat."""
    model, exact = grid_machine(xp, kinds, sizes)
    near = np.flatnonzero(np.abs(exact.sides[0].states).max(axis=1) < 2.5)[:40]
    v = xp.asarray(exact.sides[0].states[near])
    loss = exact.log_density()[near] - likelihood_bounds(model, v, exact.log_z())
    assert loss.min() > -1e-9
    assert loss.max() < 0.3
    # one update is a bound as well, a worse one
    worse = exact.log_density()[near] - likelihood_bounds(model, v, exact.log_z(), max_steps=1)
    assert worse.min() > -1e-9 and worse.mean() >= loss.mean() - 1e-12


def test_bounds_of_uncoupled_upper_layers_are_exact():
    model, exact = grid_machine(np, ("bernoulli", "ising", "potts"), (3, 2, 2))
    model.weights[1].params.matrix[...] = 0
    small, _ = grid_machine(np, ("bernoulli", "ising"), (3, 2))
    for name in ("layers.0.loc", "layers.1.loc", "weights.0.matrix"):
        small.set_parameters({name: model.parameters()[name]})
    v = exact.sides[0].states
    got = likelihood_bounds(model, v, exact_log_partition(model))
    np.testing.assert_allclose(got, log_likelihoods(small, v, exact_log_partition(small)))


def test_a_deep_machine_has_no_likelihood_in_closed_form():
    model, exact = grid_machine(np, ("bernoulli", "ising", "potts"), (3, 2, 2))
    with pytest.raises(ParameterError, match="log_likelihood: the machine has 3 layers"):
        log_likelihoods(model, exact.sides[0].states, 0.0)
    with pytest.raises(DataError, match="likelihood_bounds: data has shape"):
        likelihood_bounds(model, np.zeros((3, 5)), 0.0)
    with pytest.raises(ParameterError, match="max_steps is 0"):
        likelihood_bounds(model, exact.sides[0].states, 0.0, max_steps=0)
