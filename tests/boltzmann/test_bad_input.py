"""Every public call refuses what it cannot work with, and says by name what came and what fits."""

import warnings

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import (
    RBM,
    BoltzmannMachine,
    Trainer,
    ais,
    classification_rbm,
    driven_gibbs,
    fit,
    gibbs,
    log_likelihood,
    parallel_tempering,
    parallel_trajectory_tempering,
    pretrain,
)
from gpugrad.boltzmann.centering import Centering
from gpugrad.boltzmann.labels import class_log_probabilities, fit_labels, labelled_state
from gpugrad.boltzmann.layers import BernoulliLayer, ExponentialLayer, GaussianLayer, IsingLayer
from gpugrad.boltzmann.observables import magnetisation
from gpugrad.boltzmann.pseudo import log_pseudo_likelihood
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.streaming import Stream
from gpugrad.boltzmann.tap import tap_derivatives
from gpugrad.errors import DataError, DivergenceError, NoPartitionFunctionError, ParameterError

N = 5
PAIRS = np.ones((4, 4)) - np.eye(4)


def machine():
    return RBM(4, 3, rng=Generator(0), device="cpu")


def deep():
    layers = [BernoulliLayer(n, device="cpu") for n in (4, 3, 2)]
    return BoltzmannMachine(layers, rng=Generator(0), device="cpu")


def ising():
    return BoltzmannMachine([IsingLayer(4)], lateral={0: PAIRS}, device="cpu")


def labels():
    return classification_rbm(4, 3, 2, rng=Generator(0), device="cpu")


def exponential():
    layers = [ExponentialLayer(4, device="cpu"), BernoulliLayer(3, device="cpu")]
    return BoltzmannMachine(layers, rng=Generator(0), device="cpu")


def twice(layer):
    return BoltzmannMachine([layer, layer], device="cpu")


V = np.zeros((N, 4), "float32")
NARROW = V[:, :2]
STATE = machine().random_state(N, rng=Generator(1))
DEEP = deep().random_state(N, rng=Generator(1))
BETAS = np.ones(N)
RNG = Generator(2)
CLASSES = np.zeros(N, int)

CALLS = {
    # construction
    "dtype": (lambda: RBM(2, 3, dtype="int32"), "RBM: dtype is 'int32', expected float16"),
    "no dtype": (lambda: RBM(2, 3, dtype="f00"), "RBM: dtype is 'f00', expected float16"),
    "layer's dtype": (lambda: BernoulliLayer(3, dtype=complex), "BernoulliLayer: dtype is"),
    "no units": (
        lambda: classification_rbm(4, 3, 2, hidden="weights"),
        "classification_rbm: Weights is not a layer of units",
    ),
    "one layer in two places": (lambda: twice(BernoulliLayer(3)), "expected different objects"),
    "lateral list": (
        lambda: BoltzmannMachine([IsingLayer(4)], lateral=[PAIRS], device="cpu"),
        "lateral is list, expected a dict",
    ),
    "parameters as lists": (
        lambda: machine().set_parameters({"layers.0.loc": [0.0] * 4}),
        r"set_parameters: layers.0.loc has shape \(\), expected \(4,\)",
    ),
    "constraint": (
        lambda: BernoulliLayer(3).add_constraint({"loc": 3}),
        "the constraint on loc is 3, expected a function",
    ),
    "penalty": (
        lambda: BernoulliLayer(3).add_penalty({"loc": 3}),
        "the penalty on loc is 3, expected a Penalty",
    ),
    # states
    "energy of another machine": (
        lambda: machine().energy(DEEP),
        r"energy: the layers of the state are \[\(5, 4\), \(5, 3\), \(5, 2\)\], expected "
        r"\[\(5, 4\), \(5, 3\)\]",
    ),
    "energy, layers exchanged": (
        lambda: machine().energy(State((STATE[1], STATE[0]))),
        r"energy: .* \[\(5, 3\), \(5, 4\)\], expected",
    ),
    "energy of an array": (lambda: machine().energy(V), "energy: state is ndarray"),
    "derivatives": (lambda: machine().derivatives(DEEP), "derivatives: the layers of the state"),
    "gradient": (lambda: machine().gradient(STATE, DEEP), "gradient: the layers of the state"),
    "weights of the gradient": (
        lambda: machine().gradient(STATE, STATE, sample_weight=np.ones(3)),
        r"gradient: sample_weight has shape \(3,\), expected \(5,\)",
    ),
    "weights of derivatives": (
        lambda: machine().derivatives(STATE, sample_weight=np.ones((5, 1))),
        r"derivatives: sample_weight has shape \(5, 1\)",
    ),
    "weights of TAP": (
        lambda: tap_derivatives(machine(), STATE, sample_weight=np.ones(3)),
        r"tap_derivatives: sample_weight has shape \(3,\)",
    ),
    "offsets": (
        lambda: machine().gradient(STATE, STATE, offsets=[np.zeros(4)]),
        r"gradient: offsets have shapes \[\(4,\)\], expected \[\(4,\), \(3,\)\]",
    ),
    "no such layer": (
        lambda: machine().conditional_mean(-1, STATE),
        "conditional_mean: layer is -1, expected one of 0 ... 1",
    ),
    "missing neighbour": (
        lambda: machine().conditional_mode(1, State((None, STATE[1]))),
        r"conditional_mode: the layers of the state are \[None, ",
    ),
    "neighbour of another width": (
        lambda: machine().conditional_sample(1, State((NARROW, None))),
        r"conditional_sample: .* \[\(5, 2\), None\], expected \[\(5, 4\), \(5, 3\)\]",
    ),
    "beta of the units' shape": (
        lambda: machine().conditional_mean(1, STATE, BETAS),
        r"beta has shape \(5,\), expected a number or \(5, 1\)",
    ),
    "negative beta": (
        lambda: gibbs(beta=-1.0)(RNG, machine(), STATE),
        "gibbs: beta is -1.0, expected a finite number >= 0",
    ),
    "beta of a word": (lambda: gibbs(beta="hot")(RNG, machine(), STATE), "gibbs: beta is 'hot'"),
    "beta that is no number": (
        lambda: machine().marginal_free_energy(V, float("nan")),
        "free_energy: beta is nan",
    ),
    "number of samples": (lambda: machine().random_state(0), "random_state: num_samples is 0"),
    "start of mean field": (
        lambda: deep().mean_field(V, start=STATE),
        "mean_field: the layers of the state",
    ),
    "bound": (lambda: deep().variational_bound(STATE), "variational_bound: the layers"),
    "clamped of the bound": (
        lambda: deep().variational_bound(DEEP, clamped=(3,)),
        "variational_bound: clamped names layer 3, expected one of 0 ... 2",
    ),
    "magnetisation": (lambda: magnetisation(2)(machine(), STATE), "magnetisation: layer is 2"),
    # samplers
    "gibbs on another machine": (lambda: gibbs()(RNG, machine(), DEEP), "gibbs: the layers of"),
    "gibbs without hidden units": (
        lambda: gibbs()(RNG, machine(), State((STATE[0],))),
        "gibbs: the layers of",
    ),
    "gibbs, all of None": (
        lambda: gibbs()(RNG, machine(), State((None, None))),
        "gibbs: layer 1 of the state is None",
    ),
    "gibbs, layers of unequal batches": (
        lambda: gibbs()(RNG, deep(), State((DEEP[0], DEEP[1], DEEP[2][:2]))),
        "gibbs: the layers of",
    ),
    "gibbs of an array": (lambda: gibbs()(RNG, machine(), V), "gibbs: state is ndarray"),
    "gibbs by a seed": (lambda: gibbs()(3, machine(), STATE), "gibbs: rng is 3, expected"),
    "mask of other samples": (
        lambda: gibbs(clamp=np.ones((3, 4), bool))(RNG, machine(), STATE),
        "gibbs: the mask of layer 0 is for 3 samples, expected 5",
    ),
    "clamped layer": (
        lambda: gibbs(clamp={-1: True})(RNG, machine(), STATE),
        "gibbs: clamp names layer -1",
    ),
    "beta of 0 and unbounded units": (
        lambda: gibbs(beta=0.0)(RNG, exponential(), exponential().random_state(2)),
        r"gibbs: beta is 0, where layers\[0\] \(exponential\) has no distribution",
    ),
    "tempering by a seed": (
        lambda: (lambda step: step(3, machine(), step.start(RNG, machine(), 2)))(
            parallel_tempering([0.5, 1])
        ),
        "parallel_tempering: rng is 3",
    ),
    "tempering of another machine": (
        lambda: (lambda step: step(RNG, deep(), step.start(RNG, machine(), 2)))(
            parallel_tempering([0.5, 1])
        ),
        "parallel_tempering: the layers of the state",
    ),
    "driven, another machine": (
        lambda: (lambda step: step(RNG, deep(), step.start(RNG, machine(), 2)))(driven_gibbs()),
        "the layers of the state",
    ),
    "a ladder of one number": (
        lambda: parallel_trajectory_tempering(machines=3),
        "machines is int, expected a sequence",
    ),
    "a ladder of two shapes": (
        lambda: parallel_trajectory_tempering(machines=[machine(), RBM(5, 3, device="cpu")]),
        "parallel_trajectory_tempering: machine 1 is .* expected one like",
    ),
    # data and likelihood
    "free energy": (
        lambda: machine().marginal_free_energy(NARROW),
        r"free_energy: data has shape \(5, 2\), expected \(samples, 4\)",
    ),
    "free energy of one sample": (
        lambda: machine().marginal_free_energy(V[0]),
        r"free_energy: data has shape \(4,\)",
    ),
    "data_state": (lambda: machine().data_state(NARROW), "data_state: data has shape"),
    "pseudo-likelihood": (
        lambda: log_pseudo_likelihood(ising(), NARROW),
        "log_pseudo_likelihood: data has shape",
    ),
    "centering": (
        lambda: Centering.for_model(machine(), NARROW),
        "Centering.for_model: data has shape",
    ),
    "log Z": (lambda: log_likelihood(machine(), V, None), "log_z is None, expected a number"),
    "log Z of nan": (
        lambda: log_likelihood(machine(), V, float("nan")),
        "log_z is nan, expected a finite number",
    ),
    "betas of two axes": (
        lambda: ais(machine(), betas=np.ones((2, 2))),
        r"ais: betas are float64 of shape \(2, 2\)",
    ),
    "base data": (
        lambda: ais(machine(), data=NARROW, n_temperatures=2),
        "ais: data has shape",
    ),
    "ais by a seed": (lambda: ais(machine(), 3, n_temperatures=2), "ais: rng is 3"),
    # labels and pre-training
    "data of labels": (
        lambda: class_log_probabilities(labels(), NARROW),
        "class_log_probabilities: data has shape",
    ),
    "number of labels": (
        lambda: labelled_state(labels(), V, CLASSES[:3]),
        r"labelled_state: labels have shape \(3,\), expected \(5,\)",
    ),
    "rate of labels": (
        lambda: fit_labels(labels(), V, CLASSES, learning_rate=-1.0),
        "fit_labels: learning_rate is -1.0",
    ),
    "chains of labels": (
        lambda: fit_labels(labels(), V, CLASSES, n_chains=0),
        "fit_labels: n_chains is 0",
    ),
    "labels by a seed": (lambda: fit_labels(labels(), V, CLASSES, rng=3), "fit_labels: rng is 3"),
    "rate of pre-training": (
        lambda: pretrain(deep(), V, learning_rate=float("inf")),
        "pretrain: learning_rate is inf",
    ),
    "pre-training on a stream": (
        lambda: pretrain(deep(), Stream(V)),
        "pretrain: data is Stream, expected an array in memory",
    ),
    "pre-training by a seed": (lambda: pretrain(deep(), V, rng=3), "pretrain: rng is 3"),
    # training
    "tempering as a method": (
        lambda: fit(machine(), V, method="pt"),
        r"fit: method is 'pt', .*; parallel tempering is method='pcd' with "
        r"sampler=parallel_tempering\(betas\)",
    ),
    "potts units of an RBM": (
        lambda: RBM(6, 3, visible="potts:3"),
        r"RBM: units are 'potts:3', expected .* BoltzmannMachine\(\[PottsLayer\(sites, states\)",
    ),
    "bits as integers for spins": (
        lambda: fit(ising(), np.array([[0, 1, 1, 0]])),
        r"no states of ising units, expected -1 and 1, .*; of 0 and 1 they are 2\*x - 1",
    ),
    "likelihood of bits of spins": (
        lambda: log_likelihood(ising(), np.array([[0.0, 1, 1, 0]]), 0.0),
        r"defined for the states -1 and 1 only; of 0 and 1 they are 2\*x - 1",
    ),
    "optimizer": (lambda: Trainer(machine(), V, optimizer=3), "optimizer is 3, expected Optimizer"),
    "sparsity": (lambda: Trainer(machine(), V, sparsity=3), "sparsity is 3, expected"),
    "largest": (lambda: Trainer(machine(), V, largest="a"), "largest is 'a', expected a number"),
    "callbacks": (lambda: Trainer(machine(), V, callbacks=3), "callbacks is 3, expected Iterable"),
}


@pytest.mark.parametrize("case", CALLS)
def test_bad_input_is_refused_by_name(case):
    call, message = CALLS[case]
    with pytest.raises((ParameterError, DataError), match=message):
        call()


def test_a_learning_rate_is_called_schedule():
    with pytest.raises(TypeError, match="fit: got learning_rate=0.1, expected schedule=: a rate"):
        fit(machine(), V, learning_rate=0.1)


@pytest.mark.parametrize("streamed", [False, True])
def test_bits_for_ising_units_are_warned_of_once(streamed):
    bits = np.random.default_rng(0).integers(0, 2, (20, 4)).astype("float32")
    settings = {"epochs": 2, "batch_size": 5, "rng": Generator(0)}

    def warned(data):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            fit(ising(), Stream(data) if streamed else data, **settings)
        return [str(w.message) for w in found if w.category is UserWarning]

    (message,) = warned(bits)
    assert message.startswith("fit: all data are 0 or 1") and "2*x - 1" in message
    # states, means that are not all bits, and the one state that both have
    for data in (2 * bits - 1, np.where(bits == 0, 0.25, bits), np.ones_like(bits)):
        assert not warned(data.astype("float32"))


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_starting_parameters_that_cannot_be_trained_are_blamed(value):
    model = machine()
    model.weights[0].params.matrix[0, 0] = value
    with pytest.raises(
        DivergenceError, match="at step 0: the machine's starting parameters are not fit or too"
    ):
        fit(model, V)


def test_a_rate_that_becomes_negative_is_refused_and_changes_nothing():
    model = exponential()
    before = model.parameters()["layers.0.loc"].copy()
    with pytest.raises(
        NoPartitionFunctionError, match=r"the rate of unit \d of layers\[0\] .* falls"
    ):
        model.set_parameters({"layers.0.loc": np.full(4, -1.0)})
    assert np.array_equal(model.parameters()["layers.0.loc"], before)


def test_a_shrinkage_that_would_make_variances_negative_is_refused():
    layer = GaussianLayer(3, device="cpu")
    with pytest.raises(ParameterError, match="shrinkage is 1.5"):
        layer.shrink_parameters(1.5)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_training_of_labels_that_diverges_is_named():
    data = np.eye(4, dtype="float32")
    model = classification_rbm(4, 3, 2, dtype="float16", rng=Generator(0), device="cpu")
    with pytest.raises(DivergenceError, match="fit_labels: .* is not finite, expected"):
        fit_labels(model, data, np.array([0, 1, 0, 1]), learning_rate=1e6, rng=Generator(0))
