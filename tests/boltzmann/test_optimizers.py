"""Optimisers against their recurrences written out."""

import numpy as np
import pytest

from gpugrad.boltzmann import optimizers
from gpugrad.boltzmann.optimizers import SGD, Adam, Nesterov, RMSProp
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


def test_a_variant_without_a_name_of_its_own_takes_no_one_s_place():
    class Louder(Adam):
        pass

    assert type(optimizers.from_config(Adam().get_config())) is Adam


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


# ---- the others, by their recurrences


def expected_steps(optimizer, rate, n=5):
    """Parameters after the gradients above, one entry at a time in Python floats."""
    found = {"a": np.array([1.0, -2.0]), "W": np.ones((2, 3))}
    for name, start in found.items():
        for i in np.ndindex(*start.shape):
            theta, v, s = float(start[i]), 0.0, 0.0
            for t, gradient in enumerate(gradients(n), start=1):
                g = float(gradient[name][i])
                if isinstance(optimizer, Nesterov):
                    v = optimizer.momentum * v + rate * g
                    theta -= optimizer.momentum * v + rate * g
                elif isinstance(optimizer, RMSProp):
                    s = optimizer.decay * s + (1 - optimizer.decay) * g * g
                    theta -= rate * g / (s**0.5 + optimizer.eps)
                else:
                    v = optimizer.beta1 * v + (1 - optimizer.beta1) * g
                    s = optimizer.beta2 * s + (1 - optimizer.beta2) * g * g
                    m, w = v / (1 - optimizer.beta1**t), s / (1 - optimizer.beta2**t)
                    theta -= rate * m / (w**0.5 + optimizer.eps)
            start[i] = theta
    return found


OTHERS = [Nesterov(0.8), Nesterov(0.0), RMSProp(0.7, 1e-3), Adam(), Adam(0.5, 0.9, 1e-2)]


@pytest.mark.parametrize("optimizer", OTHERS, ids=repr)
def test_recurrences_are_those_of_the_papers(xp, host, optimizer):
    found = run(xp, host, optimizer, gradients(), 0.1)
    for name, p in expected_steps(optimizer, 0.1).items():
        assert np.allclose(found[name], p, rtol=1e-12)


def test_the_first_step_of_adam_is_the_rate(xp, host):
    """Freed of its bias to 0, the first step is the sign of the gradient, whatever its size."""
    g = {"a": np.array([1e-4, -30.0]), "W": np.full((2, 3), 7.0)}
    found = run(xp, host, Adam(), [g], 0.1)
    assert np.allclose(found["a"], [0.9, -1.9], atol=2e-5)


@pytest.mark.parametrize("optimizer", OTHERS, ids=repr)
def test_all_of_them_find_the_bottom_of_a_valley(xp, host, optimizer):
    parameters = {"a": xp.array([1.0, -2.0])}
    state = optimizer.init(parameters)
    for step in range(2000):
        gradient = {"a": parameters["a"] * xp.array([1.0, 10.0])}
        optimizer.update_(parameters, gradient, state, 0.02 * (1 - step / 2000))
    assert np.abs(host(parameters["a"])).max() < 1e-2


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("optimizer", OTHERS, ids=repr)
def test_zero_gradients_move_nothing_in_any_dtype(xp, host, optimizer, dtype):
    parameters = {"a": xp.ones(3, dtype=dtype)}
    state = optimizer.init(parameters)
    for _ in range(3):
        optimizer.update_(parameters, {"a": xp.zeros(3, dtype=dtype)}, state, 0.1)
    assert str(parameters["a"].dtype) == dtype and host(parameters["a"]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("optimizer", OTHERS, ids=repr)
def test_they_come_back_from_their_configuration(optimizer):
    made = optimizers.from_config(optimizer.get_config())
    assert type(made) is type(optimizer) and made.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (Nesterov, {"momentum": 1}, r"Nesterov: momentum is 1, expected a number in \[0, 1\)"),
        (RMSProp, {"decay": -0.1}, "RMSProp: decay is -0.1"),
        (RMSProp, {"eps": 0}, "RMSProp: eps is 0, expected a finite number above 0"),
        (Adam, {"beta1": 1.0}, "Adam: beta1 is 1.0"),
        (Adam, {"beta2": float("nan")}, "Adam: beta2 is nan"),
        (Adam, {"eps": "small"}, "Adam: eps is 'small'"),
    ],
)
def test_their_settings_out_of_range_are_refused(kind, settings, message):
    with pytest.raises(ParameterError, match=message):
        kind(**settings)
