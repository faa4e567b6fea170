"""Mean field and its bound against the sum over all joint states."""

from itertools import pairwise
from math import comb

import numpy as np
import pytest
from scipy.optimize import minimize

from gpugrad.boltzmann.layers import GaussianLayer, IsingLayer, Weights
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State
from gpugrad.errors import ConvergenceError, ParameterError

from .joint import joint_machine
from .machines import PAIRINGS, device_like, host, small_machine

#: kinds, sizes, layers with J
DEEP = [
    (("bernoulli", "ising", "bernoulli"), (3, 3, 2), ()),
    (("ising", "bernoulli", "potts", "ising"), (2, 2, 2, 2), ()),
    (("bernoulli", "bernoulli"), (3, 4), (1,)),
    (("bernoulli", "potts", "ising"), (3, 2, 2), (1, 2)),
]
deep = pytest.mark.parametrize(
    "machine", DEEP, ids=lambda m: "-".join(m[0]) + "-J" + "".join(map(str, m[2]))
)


def log_sums(exact, v):
    """log sum over hidden states of exp(-E), one value a row of v."""
    return np.array([exact.log_sum(layer_0=row) for row in v])


@pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)
def test_two_layers_are_exact_after_one_step(xp, pairing):
    model, exact = small_machine(xp, pairing)
    v = xp.asarray(exact.v)
    found = model.mean_field(v)
    assert (found.steps, found.change) == (1, 0.0)
    expected = exact.hidden_given(exact.v) @ exact.h
    np.testing.assert_allclose(host(found.hidden), expected, atol=1e-13)
    bound = host(model.variational_bound(found))
    np.testing.assert_allclose(bound, -exact.free_energy(exact.v), atol=1e-12)


def test_gaussian_units_between_others_are_exact_with_two_layers(xp):
    """log sum over h of exp(-E(v, h)) = -F(v), which quadrature confirms elsewhere."""
    layers = [IsingLayer(3, dtype="float64"), GaussianLayer(2, dtype="float64")]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp))
    draw = np.random.default_rng(0)
    model.set_parameters({k: draw.normal(size=p.shape) for k, p in model.parameters().items()})
    v = xp.asarray(2.0 * draw.integers(0, 2, (5, 3)) - 1)
    bound = host(model.variational_bound(model.mean_field(v)))
    np.testing.assert_allclose(bound, -host(model.marginal_free_energy(v)), rtol=1e-12)


@deep
def test_at_convergence_each_unit_has_the_mean_of_its_field(xp, machine):
    model, exact = joint_machine(xp, *machine)
    v = np.unique(exact.units[0], axis=0)
    found = model.mean_field(xp.asarray(v), tolerance=1e-12)
    assert found.change <= 1e-12
    assert found.steps > 1
    for i in range(1, model.num_layers):
        phi = model.local_field(i, found)
        mean = model.layers[i].draw(phi, sample=False, mean=True)[1]
        np.testing.assert_allclose(host(found[i]), host(mean), atol=1e-11)


def test_damping_keeps_that_part_of_the_old_means():
    model, exact = joint_machine(np, *DEEP[0])
    v = exact.units[0][[3, 40]]
    draw = np.random.default_rng(2)
    start = State((v, draw.uniform(-1, 1, (2, 3)), draw.random((2, 2))))
    plain, damped = (
        model.mean_field(v, tolerance=0, max_steps=1, start=start, damping=d) for d in (0, 0.8)
    )
    np.testing.assert_allclose(damped[1], 0.2 * plain[1] + 0.8 * start[1], atol=1e-14)
    # where one update is exact nothing is kept
    two, _ = small_machine(np)
    v = draw.integers(0, 2, (2, 4)).astype(float)
    start = State((v, draw.random((2, 3))))
    found = two.mean_field(v, start=start, damping=0.8)
    np.testing.assert_allclose(found[1], two.data_state(v).hidden, atol=1e-14)


@deep
def test_the_bound_is_below_the_likelihood_and_steps_raise_it(machine):
    model, exact = joint_machine(np, *machine)
    v = np.unique(exact.units[0], axis=0)
    truth = log_sums(exact, v)
    draw = np.random.default_rng(1)
    # exact means of the hidden layers are a start that is not a fixed point
    means = [np.array([exact.mean(i, exact.rows(0, r)) for r in v]) for i in range(len(machine[0]))]
    state = State(tuple(means)).replace(0, v)
    bounds = []
    for _ in range(12):
        state = model.mean_field(v, tolerance=0, max_steps=1, start=state)
        bounds.append(bound_of_means(model, state))
    assert all(np.all(a <= b + 1e-12) for a, b in pairwise(bounds))
    assert np.all(bounds[-1] <= truth + 1e-12)
    assert np.mean(truth - bounds[-1]) < 0.3
    converged = model.mean_field(v, tolerance=1e-12, start=state)
    np.testing.assert_allclose(
        model.variational_bound(converged), bound_of_means(model, converged), atol=1e-10
    )
    anywhere = State((v, *(draw.random(m.shape) for m in means[1:])))
    assert np.all(model.variational_bound(anywhere) <= truth + 1e-12)


def bound_of_means(model, state):
    """<-E> + entropy of independent units with these means, written out for finite units."""
    total = -model.energy(state)
    for i, kind in enumerate(x.layer_type for x in model.layers):
        if i == 0:
            continue
        m = state[i]
        p = m if kind != "ising" else (1 + m) / 2
        total -= np.sum(p * np.log(p), axis=1)
        if kind != "potts":
            total -= np.sum((1 - p) * np.log1p(-p), axis=1)
    return total


def test_the_bound_is_the_best_of_all_independent_units():
    """Against a general optimiser from twenty starts, on a machine with one maximum."""
    model, exact = joint_machine(np, *DEEP[0], scale=0.4)
    v = exact.units[0][[40]]
    hidden = [layer.num_units for layer in model.layers[1:]]

    def loss(x):
        p = 1 / (1 + np.exp(-x))
        h, u = np.split(p[None, :], [hidden[0]], axis=1)
        return -float(bound_of_means(model, State((v, 2 * h - 1, u)))[0])

    draw = np.random.default_rng(0)
    best = min(minimize(loss, draw.normal(size=sum(hidden))).fun for _ in range(20))
    found = model.mean_field(v, tolerance=1e-12)
    assert model.variational_bound(found)[0] == pytest.approx(-best, abs=1e-8)


def test_naive_mean_field_of_a_curie_weiss_magnet(xp):
    """m = tanh(beta J m + h) for N spins that all feel each other; its root by bisection."""
    n, J, h = 12, 1.4, 0.1
    coupling = J / (n - 1) * (np.ones((n, n)) - np.eye(n))
    layer = IsingLayer(n, dtype="float64", device=device_like(xp))
    layer.set_params({"loc": np.full(n, h)})
    model = BoltzmannMachine(
        [layer], dtype="float64", device=device_like(xp), lateral={0: coupling}
    )
    low, high = 0.1, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.tanh(J * middle + h) > middle else (low, middle)
    for damping in (0.0, 0.5):
        found = model.mean_field(tolerance=1e-13, damping=damping)
        np.testing.assert_allclose(host(found.visible), np.full((1, n), low), atol=1e-11)
    bound = host(model.variational_bound(found, clamped=()))[0]
    up, down = (1 + low) / 2, (1 - low) / 2
    entropy = -up * np.log(up) - down * np.log(down)
    assert bound == pytest.approx(n * (entropy + h * low + J * low**2 / 2), abs=1e-11)
    assert bound <= np.log(sum_over_spins(n, J, h)) <= bound + 0.25


def sum_over_spins(n, J, h):
    """Z of the magnet by the number of spins that point up."""
    total = 0.0
    for up in range(n + 1):
        m = 2 * up - n
        total += comb(n, up) * np.exp(J / (n - 1) * (m * m - n) / 2 + h * m)
    return total


def test_labels_can_be_clamped_as_well(xp):
    """With v and y held the hidden units are independent: exact in one step."""
    model, exact = joint_machine(xp, ("bernoulli", "ising", "potts"), (3, 3, 1))
    rows = [0, 50, 100, 150]
    v, y = (xp.asarray(exact.units[i][rows]) for i in (0, 2))
    found = model.mean_field(v, clamped={2: y})
    assert found.steps == 1
    for k, row in enumerate(rows):
        keep = exact.rows(0, exact.units[0][row]) & exact.rows(2, exact.units[2][row])
        np.testing.assert_allclose(host(found[1])[k], exact.mean(1, keep), atol=1e-12)
    bound = host(model.variational_bound(found, clamped=(0, 2)))
    expected = [exact.log_sum(layer_0=exact.units[0][r], layer_2=exact.units[2][r]) for r in rows]
    np.testing.assert_allclose(bound, expected, atol=1e-12)


def test_no_tolerance_means_a_fixed_number_of_steps_without_waiting(cupy_standin, no_waiting):
    model, exact = joint_machine(cupy_standin, *DEEP[0])
    v = cupy_standin.asarray(exact.units[0][:4])
    with no_waiting():
        found = model.mean_field(v, tolerance=0, max_steps=7, damping=0.2)
    assert (found.steps, found.change) == (7, None)


def test_a_nan_in_any_layer_does_not_pass_for_convergence():
    """The first layer that is updated stands still from the start; the second one is all nan."""
    layers = [IsingLayer(2), IsingLayer(2), IsingLayer(2)]
    weights = [Weights((2, 2), scale=0, dtype="float64") for _ in range(2)]
    model = BoltzmannMachine(layers, weights=weights, dtype="float64", device="cpu")
    model.layers[2].params.loc[...] = np.nan
    v = np.ones((1, 2))
    with pytest.raises(ConvergenceError, match="still change by nan after 1 steps"):
        model.mean_field(v, start=State((v, 0 * v, 0 * v)), max_steps=1)


def test_an_iteration_that_does_not_converge_says_so():
    model, exact = joint_machine(np, *DEEP[0])
    with pytest.raises(ConvergenceError, match=r"change by 0\.\d+ after 2 steps, expected at most"):
        model.mean_field(exact.units[0], max_steps=2)
    model.weights[0].W()[0, 0] = np.nan
    with pytest.raises(ConvergenceError, match="change by nan"):
        model.mean_field(exact.units[0], max_steps=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 1.0}, r"damping is 1.0, expected a number in \[0, 1\)"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"clamped": {5: np.zeros((4, 2))}}, "clamped names layer 5, expected one of 0 ... 2"),
        ({"clamped": {2: np.zeros((4, 9))}}, r"layer 2 have shape \(4, 9\), expected \(samples, 2"),
        ({"clamped": {2: np.zeros((3, 2))}}, r"clamped to \[3, 4\] samples"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    model, exact = joint_machine(np, *DEEP[0])
    with pytest.raises(ParameterError, match=f"mean_field: .*{message}"):
        model.mean_field(exact.units[0][:4], **options)
