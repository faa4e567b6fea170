"""Penalties and constraints, against differences of their values and against what they promise."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import constraints, penalties
from gpugrad.boltzmann.general_phases import GeneralPhases
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer, Layer, Weights
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.penalties import L1Penalty, L2Penalty, LogPenalty
from gpugrad.boltzmann.phases import Phases
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.errors import ParameterError

from .any_machines import any_machine
from .machines import device_like, host, small_machine
from .slopes import slopes, slopes_of_model

# ---- penalties on parameters


def values(positive=False):
    x = np.random.default_rng(0).normal(size=(4, 3))
    return np.abs(x) + 0.1 if positive else x


FORMULAS = {
    L1Penalty: lambda x: 0.7 * np.abs(x).sum(),
    L2Penalty: lambda x: 0.35 * (x**2).sum(),
    LogPenalty: lambda x: -0.7 * np.log(x).sum(),
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_gradients_are_the_slopes_of_the_values(xp, kind):
    x, penalty = values(kind is LogPenalty), kind(0.7)
    assert float(penalty.value(xp.asarray(x))) == pytest.approx(FORMULAS[kind](x), rel=1e-12)
    slope = slopes(lambda at: FORMULAS[kind](at["x"]), {"x": x}, 1e-6)["x"]
    np.testing.assert_allclose(host(penalty.grad(xp.asarray(x))), slope, atol=1e-8)


def test_the_logarithm_of_what_is_not_positive_is_an_infinite_penalty(xp):
    for entry in (0.0, -1.0):
        assert float(LogPenalty(2.0).value(xp.asarray([1.0, entry]))) == float("inf")


@pytest.mark.parametrize("kind", FORMULAS)
def test_penalties_come_back_from_their_configuration(kind):
    made = penalties.from_config(kind(0.3).get_config())
    assert type(made) is kind and made.strength == 0.3


@pytest.mark.parametrize("strength", [-1, float("nan"), float("inf"), "strong"])
def test_strengths_out_of_range_are_refused(strength):
    with pytest.raises(ParameterError, match="LogPenalty: strength is"):
        LogPenalty(strength)


# ---- constraints


def test_unit_norm_scales_columns_and_leaves_zeros(xp):
    x = values()
    x[:, 1] = 0
    found = xp.array(x)
    constraints.unit_norm(found)
    expected = x.copy()
    expected[:, [0, 2]] /= np.linalg.norm(x[:, [0, 2]], axis=0)
    np.testing.assert_allclose(host(found), expected, atol=1e-15)
    vector = xp.asarray([3.0, 4.0])
    constraints.unit_norm(vector)
    np.testing.assert_allclose(host(vector), [0.6, 0.8], atol=1e-15)


def test_centring_takes_the_mean_of_columns_or_rows(xp):
    x = values()
    columns, rows = xp.array(x), xp.array(x)
    constraints.centre(columns)
    constraints.centre_rows(rows)
    np.testing.assert_allclose(host(columns), x - x.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(host(rows), x - x.mean(axis=1, keepdims=True), atol=1e-15)


def test_signs_are_projected(xp):
    x = values()
    for constraint, expected in (
        (constraints.non_negative, np.maximum(x, 0)),
        (constraints.non_positive, np.minimum(x, 0)),
    ):
        found = xp.array(x)
        constraint(found)
        assert np.array_equal(host(found), expected)


@pytest.mark.parametrize(
    "name", ["non_negative", "non_positive", "unit_norm", "centre", "centre_rows"]
)
def test_constraints_survive_a_layers_configuration_and_keep_the_dtype(name):
    weights = Weights((3, 2), device="cpu")
    weights.add_constraint({"matrix": constraints.get(name)})
    weights.enforce_constraints()
    assert weights.params.matrix.dtype == "float32"
    again = Layer.from_config(weights.get_config())
    assert again.constraints["matrix"] is constraints.get(name)


def test_the_zero_sum_gauge_does_not_change_a_machine_of_potts_units():
    model, _ = any_machine(np, ("potts", "bernoulli"))
    layer = model.layers[0]
    v = np.concatenate([layer.random((6, layer.num_units), rng=Generator(1))])
    before = model.marginal_free_energy(v)
    constraints.centre_rows(layer.params.loc)
    change = model.marginal_free_energy(v) - before
    np.testing.assert_allclose(change, change[0], atol=1e-13)


# ---- sparsity

MACHINES = [
    ("bernoulli", "bernoulli"),
    ("gaussian", "bernoulli"),
    ("bernoulli", "ising"),
    ("potts", "relu"),
    ("relu", "potts"),
]
TARGETS = {"bernoulli": 0.1, "ising": -0.6, "relu": 0.3, "potts": 0.2}


@pytest.mark.parametrize("pairing", MACHINES, ids="-".join)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_the_sparsity_gradient_is_the_slope_of_its_value(xp, pairing, weighted):
    """The value by the definition, from the machine's own hidden means."""
    model, _ = any_machine(xp, pairing, n=2, m=2)
    v = model.layers[0].random((5, model.layers[0].num_units), rng=Generator(3))
    weight = np.array([0.1, 0.3, 0.2, 0.15, 0.25]) if weighted else np.full(5, 0.2)
    target = TARGETS[pairing[1]]
    sparsity = SparsityTarget(target, 1.7)
    sparsity.check(model)
    gradient = {name: xp.ones_like(p) for name, p in model.parameters().items()}
    given = xp.asarray(weight) if weighted else None
    sparsity.add_gradient_(model, gradient, model.data_state(v), given)

    def value():
        q = weight @ host(model.data_state(v).hidden)
        return 0.85 * ((q - target) ** 2).sum()

    assert float(
        sparsity.value(model, model.parameters(), model.data_state(v), given)
    ) == pytest.approx(value(), rel=1e-12)
    for name, slope in slopes_of_model(model, value, 1e-6).items():
        assert host(gradient[name]) - 1 == pytest.approx(slope, abs=1e-8), name


@pytest.mark.parametrize("kind", [Phases, GeneralPhases])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("method", ["pcd", "cd"])
def test_sparsity_enters_the_gradient_once(kind, centred, method):
    found = []
    for sparsity in (None, SparsityTarget(0.1, 2.0)):
        model, exact = small_machine()
        offsets = [np.full(4, 0.3), np.full(3, 0.4)] if centred else None
        phases = kind(
            model,
            Generator(1),
            method=method,
            n_chains=3,
            max_batch=5,
            offsets=offsets,
            sparsity=sparsity,
        )
        v = phases.data_rows(4)
        v[...] = exact.v[[3, 14, 9, 6]]
        positive = model.data_state(exact.v[[3, 14, 9, 6]])
        found.append({name: g.copy() for name, g in phases(4).items()})
    extra = {name: np.zeros_like(p) for name, p in model.parameters().items()}
    sparsity.add_gradient_(model, extra, positive)
    for name, g in extra.items():
        np.testing.assert_allclose(found[1][name] - found[0][name], g, atol=1e-14)


def test_deep_layers_are_held_given_their_neighbours(xp):
    """The slope with the means of the neighbouring layers fixed."""
    layers = [BernoulliLayer(3), IsingLayer(2), BernoulliLayer(2)]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp))
    draw = np.random.default_rng(1)
    model.set_parameters({n: draw.normal(size=p.shape) for n, p in model.parameters().items()})
    v = xp.asarray(np.array([[0, 1, 1], [1, 0, 1.0]]))
    means = model.mean_field(v, tolerance=1e-12)
    sparsity = SparsityTarget(-0.5, 3.0)
    gradient = {name: xp.zeros_like(p) for name, p in model.parameters().items()}
    sparsity.add_gradient_(model, gradient, means)

    def value():
        q = host(model.conditional_mean(1, means)).mean(axis=0)
        return 1.5 * ((q + 0.5) ** 2).sum()

    for name, slope in slopes_of_model(model, value, 1e-6).items():
        assert host(gradient[name]) == pytest.approx(slope, abs=1e-8), name


def test_settings_of_sparsity_are_checked():
    model, _ = small_machine()
    for settings, message in (
        ((float("nan"), 1.0), "target is nan"),
        ((0.1, -1.0), "strength is -1.0"),
    ):
        with pytest.raises(ParameterError, match=message):
            SparsityTarget(*settings)
    for sparsity, message in (
        (SparsityTarget(1.5, 1.0), r"means of bernoulli units lie in \(0, 1\)"),
        (SparsityTarget(0.5, 1.0, layer=2), "has the hidden layers 1 to 1"),
        (SparsityTarget(0.5, 1.0, layer=0), "layer is 0"),
    ):
        with pytest.raises(ParameterError, match=message):
            sparsity.check(model)
    coupled = BoltzmannMachine(
        [BernoulliLayer(3), BernoulliLayer(2)],
        lateral={1: np.array([[0, 0.1], [0.1, 0]])},
        device="cpu",
    )
    with pytest.raises(ParameterError, match="layer 1 has lateral couplings"):
        SparsityTarget(0.5, 1.0).check(coupled)
