"""The pseudo-likelihood of fully visible machines against enumeration."""

import numpy as np
import pytest

from gpugrad.boltzmann.layers import GaussianLayer, IsingLayer
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.optimizers import Adam
from gpugrad.boltzmann.pseudo import log_pseudo_likelihood, pseudo_likelihood_gradient
from gpugrad.errors import ParameterError

from .joint import joint_machine
from .machines import host

kinds = pytest.mark.parametrize(("kind", "size"), [("ising", 5), ("bernoulli", 4), ("potts", 3)])


def conditionals(exact, size):
    """Sum over units of log p(unit | others) of each joint state, from sums of joint states."""
    s, w = exact.units[0], np.exp(-exact.E)
    width = s.shape[1] // size
    total = np.zeros(len(s))
    for unit in range(size):
        others = np.delete(s, slice(unit * width, (unit + 1) * width), axis=1)
        for row in range(len(s)):
            same = (others == others[row]).all(axis=1)
            total[row] += np.log(w[row] / w[same].sum())
    return total


@kinds
def test_each_conditional_is_that_of_the_joint_distribution(xp, kind, size):
    model, exact = joint_machine(xp, (kind,), (size,), (0,))
    got = host(log_pseudo_likelihood(model, xp.asarray(exact.units[0])))
    np.testing.assert_allclose(got, conditionals(exact, size), atol=1e-12)


@kinds
def test_gradient_is_the_slope_in_each_pair(xp, kind, size):
    model, exact = joint_machine(xp, (kind,), (size,), (0,))
    v = xp.asarray(exact.units[0][[0, 3, 4, 7, 11]])
    weight = xp.asarray([0.1, 0.2, 0.3, 0.2, 0.2])
    got = pseudo_likelihood_gradient(model, v, sample_weight=weight)
    for name, p in model.parameters().items():
        value = host(p).copy()
        for index in np.ndindex(value.shape):
            if name.startswith("lateral") and not exact.allowed(name)[index]:
                assert host(got[name])[index] == 0
                continue
            found = []
            for sign in (1e-5, -1e-5):
                shifted = value.copy()
                shifted[index] += sign
                if name.startswith("lateral"):
                    shifted[index[::-1]] += sign
                model.set_parameters({name: shifted})
                found.append(float((log_pseudo_likelihood(model, v) * weight).sum()))
            model.set_parameters({name: value})
            slope = -(found[0] - found[1]) / 2e-5
            assert host(got[name])[index] == pytest.approx(slope, abs=1e-8), name


def test_the_true_couplings_are_where_the_expected_gradient_vanishes(xp):
    model, exact = joint_machine(xp, ("ising",), (5,), (0,))
    v, p = xp.asarray(exact.units[0]), xp.asarray(exact.p())
    for g in pseudo_likelihood_gradient(model, v, sample_weight=p).values():
        np.testing.assert_allclose(host(g), 0, atol=1e-13)


def test_descent_recovers_the_couplings_from_exact_frequencies():
    model, exact = joint_machine(np, ("ising",), (5,), (0,), scale=0.4)
    v, p = exact.units[0], exact.p()
    blank = BoltzmannMachine(
        [IsingLayer(5)], dtype="float64", device="cpu", lateral={0: np.zeros((5, 5))}
    )
    rule = Adam()
    memory = rule.init(blank.parameters())
    for rate in (0.03,) * 300 + (0.003,) * 300 + (0.0003,) * 300:
        gradient = pseudo_likelihood_gradient(blank, v, sample_weight=p)
        rule.update_(blank.parameters(), gradient, memory, rate)
    for name, value in model.parameters().items():
        np.testing.assert_allclose(blank.parameters()[name], value, atol=1e-3)


def test_units_without_couplings_have_the_likelihood_itself(xp):
    model = BoltzmannMachine([IsingLayer(3, dtype="float64")], dtype="float64", device=None)
    model.to_device("cpu" if xp is np else "cuda")
    model.layers[0].params.loc[...] = xp.asarray([0.3, -1.0, 2.0])
    v = xp.asarray([[1.0, -1, 1], [-1, -1, -1]])
    log_z = np.log(2 * np.cosh([0.3, -1.0, 2.0])).sum()
    expected = -host(model.energy(model.data_state(v))) - log_z
    np.testing.assert_allclose(host(log_pseudo_likelihood(model, v)), expected, atol=1e-13)


def test_hidden_layers_are_refused():
    with pytest.raises(ParameterError, match="log_pseudo_likelihood: the machine has 2 layers"):
        log_pseudo_likelihood(RBM(3, 2, device="cpu"), np.zeros((1, 3)))


def test_gaussian_units_given_the_others_are_normal():
    layer = GaussianLayer(3, dtype="float64", device="cpu")
    loc, var = np.array([0.5, -1.0, 0.2]), np.array([0.5, 2.0, 3.0])
    layer.set_params({"loc": loc, "log_var": np.log(var)})
    J = np.array([[0, 0.6, -0.3], [0.6, 0, 0.7], [-0.3, 0.7, 0]])
    model = BoltzmannMachine([layer], dtype="float64", lateral={0: J}, device="cpu")
    x = np.random.default_rng(0).normal(size=(4, 3))
    mean = loc + (x / var) @ J
    expected = -0.5 * (np.log(2 * np.pi * var) + (x - mean) ** 2 / var).sum(axis=1)
    np.testing.assert_allclose(log_pseudo_likelihood(model, x), expected, atol=1e-13)
