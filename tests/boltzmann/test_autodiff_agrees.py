"""The gradient by hand against the one that the package's own calculus gives."""

import numpy as np
import pytest

import gpugrad
from gpugrad.boltzmann.gradient_util import named_arrays
from gpugrad.boltzmann.state import State

from .machines import PAIRINGS, host, small_machine, states_of

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)


@pairings
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_equals_autodiff_of_the_free_energy_difference(xp, pairing, weighted):
    model, exact = small_machine(xp, pairing)
    v_data, v_model = (xp.asarray(exact.v[rows]) for rows in ([0, 5, 9], [2, 7]))
    weight = xp.asarray([0.5, 0.2, 0.3]) if weighted else None
    parameters = {n: gpugrad.tensor(p) for n, p in model.parameters().items()}
    model.free_energy_difference(parameters, v_data, v_model, weight).backward()
    by_hand = model.gradient(
        model.data_state(v_data), model.data_state(v_model), sample_weight=weight
    )
    for name, array in named_arrays(by_hand):
        np.testing.assert_allclose(host(parameters[name].grad), host(array), atol=1e-14)


@pairings
@pytest.mark.parametrize("beta", [None, 0.4, "per sample"])
def test_slope_of_the_free_energy_in_v_is_the_mean_field(xp, pairing, beta):
    """dF_beta/dv = -beta (a + W <h>): the field that the hidden means send, and loc."""
    model, exact = small_machine(xp, pairing)
    if beta == "per sample":
        beta = xp.asarray(np.linspace(0.1, 2, len(exact.v))[:, None])
    v = gpugrad.tensor(xp.asarray(exact.v))
    model.marginal_free_energy(v, beta).sum().backward()
    mean = model.data_state(xp.asarray(exact.v), beta).hidden
    sent = exact.a + host(model.field(0, State((None, mean))))
    scale = 1 if beta is None else host(beta)
    np.testing.assert_allclose(host(v.grad), -scale * sent, atol=1e-13)


@pairings
def test_energy_of_tensors_is_the_energy_of_their_arrays(xp, pairing):
    """And its slope in the hidden units is minus the field on them."""
    model, exact = small_machine(xp, pairing)
    v, h = states_of(xp, exact)
    hidden = gpugrad.tensor(h)
    energy = model.energy(State((gpugrad.tensor(v), hidden)))
    np.testing.assert_allclose(host(energy.data), exact.E.ravel(), atol=1e-13)
    energy.sum().backward()
    np.testing.assert_allclose(host(hidden.grad), -(host(v) @ exact.W + exact.b), atol=1e-13)


@pairings
def test_derivative_of_the_log_partition_function_is_the_mean(xp, pairing):
    model, exact = small_machine(xp, pairing)
    phi = gpugrad.tensor(xp.asarray(exact.v @ exact.W))
    model.layers[1].log_partition_function(phi).sum().backward()
    mean = exact.hidden_given(exact.v) @ exact.h
    np.testing.assert_allclose(host(phi.grad), mean, atol=1e-13)
