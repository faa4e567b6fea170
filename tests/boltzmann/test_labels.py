"""The classification RBM against the sum over all states of visible, hidden and label."""

import numpy as np
import pytest

import gpugrad
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.constraints import non_negative
from gpugrad.boltzmann.gradient_util import named_arrays
from gpugrad.boltzmann.labels import (
    class_log_probabilities,
    classification_rbm,
    fit_labels,
    labelled_free_energy,
    labelled_state,
    predict,
)
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.optimizers import SGD
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.errors import DataError, ParameterError
from tests.chance import deviates, normal_limit

from .joint import joint_machine
from .machines import host
from .slopes import slopes

MACHINES = [
    (("bernoulli", "bernoulli", "potts"), (4, 3, 1), ()),
    (("ising", "potts", "potts"), (3, 2, 1), ()),
    (("bernoulli", "ising", "potts"), (4, 2, 1), (0,)),
]
machines = pytest.mark.parametrize(
    "machine", MACHINES, ids=lambda m: "-".join(m[0]) + "-J" + "".join(map(str, m[2]))
)
CLASSES = 3


def joint_of_v_and_y(exact):
    """The visible states, and log sum over h of exp(-E) for each of them and each class."""
    v = np.unique(exact.units[0], axis=0)
    hot = np.eye(CLASSES)
    return v, np.array([[exact.log_sum(layer_0=r, layer_2=y) for y in hot] for r in v])


@machines
def test_posterior_of_the_class_is_the_enumerated_one(xp, machine):
    model, exact = joint_machine(xp, *machine)
    v, log_p = joint_of_v_and_y(exact)
    expected = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    got = host(class_log_probabilities(model, xp.asarray(v)))
    np.testing.assert_allclose(got, expected, atol=1e-12)
    np.testing.assert_array_equal(host(predict(model, xp.asarray(v))), expected.argmax(axis=1))


@machines
def test_free_energy_of_visible_units_and_label(xp, machine):
    model, exact = joint_machine(xp, *machine)
    v, log_p = joint_of_v_and_y(exact)
    for y in range(CLASSES):
        labels = xp.full(len(v), y)
        got = host(labelled_free_energy(model, xp.asarray(v), labels))
        np.testing.assert_allclose(got, -log_p[:, y], atol=1e-12)


@machines
def test_positive_phase_and_exact_negative_phase_give_the_slope_of_the_likelihood(machine):
    """derivatives(v, y clamped) - derivatives(all states) against enumerated expectations."""
    model, exact = joint_machine(np, *machine)
    rows, labels = [0, 3, 5], np.array([2, 0, 1])
    v = np.unique(exact.units[0], axis=0)[rows]
    got = dict(named_arrays(model.derivatives(labelled_state(model, v, labels))))
    for name, g in got.items():
        expected = np.mean(
            [
                exact.moments(name, exact.rows(0, r) & exact.rows(2, np.eye(CLASSES)[y]))
                for r, y in zip(v, labels, strict=True)
            ],
            axis=0,
        )
        np.testing.assert_allclose(g, expected, atol=1e-12, err_msg=name)


@machines
def test_gradient_of_the_free_energy_is_that_of_the_positive_phase(xp, machine):
    model, exact = joint_machine(xp, *machine)
    v, labels = xp.asarray(exact.units[0][[0, 30, 60]]), xp.asarray([2, 0, 1])
    tensors = {name: gpugrad.tensor(p) for name, p in model.parameters().items()}
    labelled_free_energy(model, v, labels, tensors).mean().backward()
    for name, g in named_arrays(model.derivatives(labelled_state(model, v, labels))):
        grad = tensors[name].grad
        if name.startswith("lateral"):
            grad = model.lateral[0].of_pairs(grad)
        np.testing.assert_allclose(host(grad), host(g), atol=1e-12, err_msg=name)


@machines
def test_posterior_is_differentiated_exactly(machine):
    """Autodiff of log p(y | v) against central differences in every parameter."""
    model, exact = joint_machine(np, *machine)
    v, labels = exact.units[0][[0, 30, 60]], np.array([2, 0, 1])
    own = {name: p.copy() for name, p in model.parameters().items()}

    def objective(parameters):
        return class_log_probabilities(model, v, parameters)[np.arange(3), labels].sum()

    tensors = {name: gpugrad.tensor(p) for name, p in own.items()}
    objective(tensors).backward()
    for name, slope in slopes(objective, own).items():
        grad = tensors[name].grad
        grad = np.zeros(slope.shape) if grad is None else grad
        assert grad == pytest.approx(slope, abs=1e-8), name


def test_unknown_labels_are_drawn_from_their_posterior():
    """Frequencies of 30,000 drawn labels of one sample, false alarm 1e-7."""
    model, exact = joint_machine(np, *MACHINES[0])
    v, log_p = joint_of_v_and_y(exact)
    p = np.exp(log_p[5]) / np.exp(log_p[5]).sum()
    n = 30_000
    state = labelled_state(model, np.tile(v[5], (n, 1)), np.full(n, -1), rng=Generator(0))
    z = deviates(state[2], p)
    assert z.max() < normal_limit(CLASSES, 1e-7)
    known = labelled_state(model, v[:2], np.array([1, -1]), rng=Generator(0))
    np.testing.assert_array_equal(known[2][0], [0, 1, 0])


def test_chains_with_a_clamped_label_sample_the_class(xp):
    """Means of visible units given the class, and of labels given v; false alarm 1e-7 each."""
    model, exact = joint_machine(xp, *MACHINES[0])
    n, rng = 5000, Generator(1)
    start = model.random_state(n, rng=rng)
    y = np.tile([0.0, 1.0, 0.0], (n, 1))
    state, info = gibbs(40, clamp={2: True})(rng, model, start.replace(2, xp.asarray(y)))
    np.testing.assert_array_equal(host(state[2]), y)
    keep = exact.rows(2, y[0])
    z = deviates(host(state[0]), exact.mean(0, keep))
    assert z.max() < normal_limit(4, 1e-7)
    given = exact.units[0][70]
    start = start.replace(0, xp.asarray(np.tile(given, (n, 1))))
    for clamp in ({0: True}, {0: xp.ones(4, dtype=bool)}):
        state, info = gibbs(40, clamp=clamp)(rng, model, start)
        z = deviates(host(state[2]), exact.mean(2, exact.rows(0, given)))
        assert z.max() < normal_limit(3, 1e-7)
        np.testing.assert_array_equal(host(info.expected[0]), np.tile(given, (n, 1)))


def test_clamped_hidden_units_keep_their_values_in_the_expected_state(xp):
    model, _ = joint_machine(xp, *MACHINES[0])
    start = model.random_state(30, rng=Generator(2))
    mask = np.array([True, False, True])
    state, info = gibbs(2, clamp={1: xp.asarray(mask)})(Generator(3), model, start)
    for units in (state[1], info.expected[1]):
        np.testing.assert_array_equal(host(units)[:, mask], host(start[1])[:, mask])
    mean = host(model.conditional_mean(1, state))
    np.testing.assert_allclose(host(info.expected[1])[:, ~mask], mean[:, ~mask], atol=1e-13)


def test_sites_of_potts_units_are_clamped_whole(xp):
    model, _ = joint_machine(xp, *MACHINES[1])
    start = model.random_state(50, rng=Generator(2))
    for mask in (np.array([False, True]), np.array([False, True, True, True, True, True])):
        state, _ = gibbs(3, clamp={1: xp.asarray(mask)})(Generator(3), model, start)
        new, old = host(state[1]).reshape(50, 2, 3), host(start[1]).reshape(50, 2, 3)
        np.testing.assert_array_equal(new[:, 1], old[:, 1])
        assert (new[:, 0] != old[:, 0]).any()
        np.testing.assert_array_equal(new.sum(axis=2), 1)


@pytest.mark.parametrize("discriminative", [0.0, 0.5, 1.0])
def test_a_trained_machine_knows_the_majority(discriminative):
    """The class of 5 bits is their majority: 32 patterns, learned without a mistake."""
    v = np.array([[i >> k & 1 for k in range(5)] for i in range(32)], dtype="float64")
    labels = (v.sum(axis=1) > 2).astype(int)
    model = classification_rbm(5, 6, 2, dtype="float64", device="cpu", rng=Generator(0))
    history = fit_labels(
        model,
        v,
        labels,
        rng=Generator(1),
        epochs=800,
        batch_size=32,
        n_chains=500,
        learning_rate=0.1,
        discriminative=discriminative,
    )
    np.testing.assert_array_equal(predict(model, v), labels)
    found = class_log_probabilities(model, v)[np.arange(32), labels]
    assert history[-1] == pytest.approx(-found.mean())
    assert history[-1] < np.log(2)


def test_one_discriminative_update_is_a_gradient_step_with_each_penalty_once():
    model, exact = joint_machine(np, *MACHINES[0])
    v, labels = exact.units[0][[0, 30, 60, 90]], np.array([2, 0, -1, 1])
    model.weights[1].add_penalty({"matrix": L2Penalty(0.3)})
    before = {name: p.copy() for name, p in model.parameters().items()}
    fit_labels(model, v, labels, rng=Generator(0), epochs=1, learning_rate=0.1, discriminative=1.0)

    def objective(parameters):
        log_p = class_log_probabilities(model, v, parameters)
        penalty = 0.15 * (parameters["weights.1.matrix"] ** 2).sum()
        return penalty - (log_p[0, 2] + log_p[1, 0] + log_p[3, 1]) / 3

    for name, slope in slopes(objective, before).items():
        expected = before[name] - 0.1 * slope
        assert model.parameters()[name] == pytest.approx(expected, abs=1e-8), name


def test_a_hybrid_update_is_the_mean_of_both_with_its_share():
    """Plain SGD of one batch; the chains of both draw the same."""
    steps = {}
    for share in (0.0, 0.3, 1.0):
        model, exact = joint_machine(np, *MACHINES[0])
        model.weights[1].add_penalty({"matrix": L2Penalty(0.3)})
        before = {name: p.copy() for name, p in model.parameters().items()}
        v, labels = exact.units[0][[0, 30, 60, 90]], np.array([2, 0, 1, 1])
        how = {"rng": Generator(0), "epochs": 1, "optimizer": SGD(), "discriminative": share}
        fit_labels(model, v, labels, **how)
        steps[share] = {name: p - before[name] for name, p in model.parameters().items()}
    for name, step in steps[0.3].items():
        expected = 0.7 * steps[0.0][name] + 0.3 * steps[1.0][name]
        np.testing.assert_allclose(step, expected, atol=1e-14)
        assert np.abs(steps[0.0][name] - steps[1.0][name]).max() > 1e-4


def test_constraints_hold_after_an_update_with_labels():
    model, exact = joint_machine(np, *MACHINES[0])
    model.weights[0].add_constraint({"matrix": non_negative})
    fit_labels(model, exact.units[0][:20], np.arange(20) % 3, rng=Generator(0), epochs=1)
    assert model.weights[0].W().min() == 0.0


def test_what_is_no_labelled_machine_is_refused():
    v = np.zeros((2, 4))
    for call in (class_log_probabilities, predict):
        with pytest.raises(ParameterError, match="expected visible units, hidden units without"):
            call(RBM(4, 3, device="cpu"), v)
    model, _ = joint_machine(np, *MACHINES[0])
    state = State((v, None, None))
    with pytest.raises(DataError, match=r"labels lie in \[0, 3\], expected \[0, 2\]"):
        labelled_state(model, state.visible, np.array([0, 3]))
    with pytest.raises(DataError, match=r"labels are int64 of shape \(3,\), expected integers"):
        fit_labels(model, v, np.array([0, 1, 2]))
    with pytest.raises(DataError, match="none of 2 samples has a label"):
        fit_labels(model, v, np.array([-1, -1]))
    with pytest.raises(ParameterError, match="discriminative is 2"):
        fit_labels(model, v, np.array([0, 1]), discriminative=2)
    with pytest.raises(ParameterError, match="clamp names layer 7, expected one of 0 ... 2"):
        gibbs(1, clamp={7: True})(Generator(0), model, model.random_state(2))
