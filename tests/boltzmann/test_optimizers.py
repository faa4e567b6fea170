"""Optimisers against their recurrences written out."""

import numpy as np
import pytest

from gpugrad.boltzmann import optimizers
from gpugrad.boltzmann.optimizers import SGD
from gpugrad.errors import ParameterError


def run(xp, host, optimizer, gradients, rate):
    parameters = {"a": xp.array([1.0, -2.0]), "W": xp.ones((2, 3))}
    state = optimizer.init(parameters)
    for gradient in gradients:
        current = {name: xp.array(g) for name, g in gradient.items()}
        optimizer.update_(parameters, current, state, rate)
    return {name: host(p) for name, p in parameters.items()}


def gradients(n=5):
    draw = np.random.default_rng(1)
    return [{"a": draw.normal(size=2), "W": draw.normal(size=(2, 3))} for _ in range(n)]


def test_plain_descent_subtracts_the_rate_times_the_sum_of_gradients(xp, host):
    found = run(xp, host, SGD(), gradients(), 0.1)
    for name, start in (("a", np.array([1.0, -2.0])), ("W", np.ones((2, 3)))):
        total = sum(g[name] for g in gradients())
        assert np.allclose(found[name], start - 0.1 * total, rtol=1e-12)


def test_momentum_sums_a_geometric_series(xp, host):
    # after n equal gradients g the velocity is rate g (1 - m^n) / (1 - m)
    g = {"a": np.array([1.0, 2.0]), "W": np.zeros((2, 3))}
    n, m, rate = 6, 0.8, 0.05
    found = run(xp, host, SGD(momentum=m), [g] * n, rate)
    moved = sum(rate * (1 - m**i) / (1 - m) for i in range(1, n + 1))
    assert np.allclose(found["a"], np.array([1.0, -2.0]) - moved * g["a"], rtol=1e-12)
    assert np.array_equal(found["W"], np.ones((2, 3)))


def test_only_momentum_needs_a_state_in_the_dtype_of_the_parameters(xp):
    parameters = {"a": xp.ones(3, dtype="float32")}
    assert SGD().init(parameters) == {}
    state = SGD(momentum=0.9).init(parameters)
    assert [(name, str(x.dtype), x.shape) for name, x in state.items()] == [
        ("velocity.a", "float32", (3,))
    ]


def test_an_optimizer_comes_back_from_its_configuration():
    made = optimizers.from_config(SGD(momentum=0.5).get_config())
    assert isinstance(made, SGD) and made.momentum == 0.5


@pytest.mark.parametrize("momentum", [-0.1, 1, 1.5, float("nan"), "heavy"])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ParameterError, match=r"SGD: momentum is .*, expected a number in \[0, 1\)"):
        SGD(momentum)


def test_unknown_optimizers_and_settings_are_refused():
    with pytest.raises(ParameterError, match="no optimiser 'lion', known are"):
        optimizers.from_config({"name": "lion"})
    with pytest.raises(ParameterError, match="sgd does not take"):
        optimizers.from_config({"name": "sgd", "beta": 1})
