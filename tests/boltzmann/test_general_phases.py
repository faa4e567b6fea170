"""The general provider of gradients, against differences of sums over all states.

The negative phase is a sampler that always gives the same states, so that the objective

    <F(v)>_data - <F(v)>_model

is a function of the parameters alone, which brute force knows.
"""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.general_phases import GeneralPhases
from gpugrad.boltzmann.layers import BernoulliLayer, GaussianLayer, IsingLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.phases import Phases
from gpugrad.boltzmann.providers import make_phases, method_name
from gpugrad.boltzmann.samplers import GibbsInfo, gibbs
from gpugrad.boltzmann.state import State
from gpugrad.errors import CheckpointError, ParameterError

from .any_machines import PAIRINGS, any_machine, integrated
from .machines import host, small_machine
from .slopes import slopes, slopes_of_model

pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids="-".join)
DATA, CHAINS = 4, 3


class Still:
    """A sampler whose states never move: visible ones as given, hidden ones at their means."""

    def __init__(self, v):
        self.v = v

    def start(self, rng, model, n_chains):
        return model.data_state(self.v)

    def __call__(self, rng, model, state):
        return state, GibbsInfo(model.data_state(self.v))


def rows_of(exact, pairing):
    """Numbers of a few visible states of moderate size: 4 of the data, 3 of the chains."""
    moderate = np.flatnonzero(np.abs(exact.v.states).max(axis=1) < 2.5)
    picked = np.random.default_rng(5).choice(moderate, DATA + CHAINS)
    return picked[:DATA], picked[DATA:]


def objective(pairing, parameters, exact, rows, weight):
    machine = integrated(pairing, parameters)
    data, chains = rows
    return weight @ machine.free_energy(data) - machine.free_energy(chains).mean()


def differences(pairing, model, exact, rows, weight):
    """The gradient of the objective by central differences, by name."""
    start = {name: host(p).astype("float64") for name, p in model.parameters().items()}
    return slopes(lambda p: objective(pairing, p, exact, rows, weight), start)


def gradient_of(xp, model, exact, rows, weight=None, **settings):
    data, chains = (xp.asarray(exact.v.states[r]) for r in rows)
    phases = GeneralPhases(
        model,
        Generator(0),
        sampler=Still(chains),
        n_chains=CHAINS,
        max_batch=DATA + 1,
        **settings,
    )
    phases.data_rows(DATA)[...] = data
    given = None if weight is None else xp.asarray(weight)
    return {name: host(g) for name, g in phases(DATA, given).items()}, phases


@pairings
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_gradient_is_that_of_the_free_energies(pairing, weighted):
    model, exact = any_machine(np, pairing, n=1, m=1)
    rows = rows_of(exact, pairing)
    weight = np.array([0.4, 0.3, 0.2, 0.1]) if weighted else np.full(DATA, 1 / DATA)
    expected = differences(pairing, model, exact, rows, weight)
    for autodiff in (False, True):
        found, _ = gradient_of(
            np, model, exact, rows, weight if weighted else None, autodiff=autodiff
        )
        assert list(found) == list(expected)
        for name, g in expected.items():
            np.testing.assert_allclose(found[name], g, atol=2e-7, err_msg=name)


def centred(model, plain, offsets):
    """J J^T g, with J the derivative of the ordinary parameters by the centred ones.

    loc of a layer is the centred one less (plus, for a rate) what the offsets of its neighbour send
    through W, so that a step along the centred gradient is this one in ordinary parameters.
    """
    names = ["layers.0.loc", "layers.1.loc", "weights.0.matrix"]
    sizes = [plain[name].size for name in names]
    n_v, n_h, _ = sizes
    J = np.eye(sum(sizes))
    mu, lam = offsets
    for i in range(n_v):
        for j in range(n_h):
            column = n_v + n_h + i * n_h + j
            J[i, column] = -model.layers[0].loc_sign * lam[j]
            J[n_v + j, column] = -model.layers[1].loc_sign * mu[i]
    flat = np.concatenate([plain[name].ravel() for name in names])
    parts = np.split(J @ (J.T @ flat), np.cumsum(sizes)[:-1])
    return plain | {
        name: part.reshape(plain[name].shape) for name, part in zip(names, parts, strict=True)
    }


@pairings
@pytest.mark.parametrize("autodiff", [False, True], ids=["analytic", "autodiff"])
def test_centred_gradient_is_the_plain_one_in_other_coordinates(xp, pairing, autodiff):
    model, exact = any_machine(xp, pairing, n=1, m=1)
    rows = rows_of(exact, pairing)
    draw = np.random.default_rng(2)
    start = [draw.random(layer.num_units) for layer in model.layers]
    plain, _ = gradient_of(xp, model, exact, rows, autodiff=autodiff)
    found, phases = gradient_of(
        xp,
        model,
        exact,
        rows,
        autodiff=autodiff,
        offsets=[xp.asarray(o.copy()) for o in start],
        centering_rate=0.25,
    )
    positive = model.data_state(xp.asarray(exact.v.states[rows[0]]))
    moved = [
        0.75 * o + 0.25 * host(layer.rescale(units)).mean(axis=0)
        for o, layer, units in zip(start, model.layers, positive, strict=True)
    ]
    for own, offset in zip(phases.offsets, moved, strict=True):
        np.testing.assert_allclose(host(own), offset, atol=1e-13)
    for name, g in centred(model, plain, moved).items():
        np.testing.assert_allclose(found[name], g, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("autodiff", [False, True], ids=["analytic", "autodiff"])
def test_offsets_move_to_the_weighted_means(xp, autodiff):
    """Gaussian visible units: the offsets are those of the rescaled ones."""
    pairing = ("gaussian", "bernoulli")
    model, exact = any_machine(xp, pairing, n=2, m=1)
    rows = rows_of(exact, pairing)
    weight = np.array([0.7, 0.1, 0.2, 0.0])
    start = [np.full(layer.num_units, 0.3) for layer in model.layers]
    offsets = [xp.asarray(o.copy()) for o in start]
    how = {"autodiff": autodiff, "offsets": offsets, "centering_rate": 0.25}
    gradient_of(xp, model, exact, rows, weight, **how)
    positive = model.data_state(xp.asarray(exact.v.states[rows[0]]))
    for own, o, layer, units in zip(offsets, start, model.layers, positive, strict=True):
        expected = 0.75 * o + 0.25 * weight @ host(layer.rescale(units))
        np.testing.assert_allclose(host(own), expected, atol=1e-13)


@pytest.mark.parametrize("method", ["pcd", "cd"])
def test_both_providers_agree_where_both_apply(xp, method):
    """The same chains in both: the gradients are equal up to rounding."""
    model, exact = small_machine(xp)
    v = xp.asarray(exact.v[[3, 14, 9, 6]])
    found = []
    for kind in (Phases, GeneralPhases):
        settings = {"method": method, "max_batch": 4, "n_chains": 3}
        if method == "pcd":
            settings["sampler"] = Still(xp.asarray(exact.v[[1, 2, 12]]))
        else:
            # couplings beyond the reach of noise: chains come back to the data
            model.set_parameters(
                {
                    "weights.0.matrix": 60 * np.eye(4, 3),
                    "layers.0.loc": np.array([-30.0, -30, -30, 40]),
                    "layers.1.loc": np.full(3, -30.0),
                }
            )
            v = xp.asarray(np.array([[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1.0]]))
        phases = kind(model, Generator(4), **settings)
        phases.data_rows(4)[...] = v
        found.append({name: host(g).copy() for name, g in phases(4).items()})
    for name, g in found[0].items():
        np.testing.assert_allclose(found[1][name], g, atol=1e-12, err_msg=name)


def test_a_penalty_enters_once(xp):
    for autodiff in (False, True):
        model, exact = any_machine(xp, ("gaussian", "bernoulli"), n=2, m=1)
        rows = rows_of(exact, ("gaussian", "bernoulli"))
        plain, _ = gradient_of(xp, model, exact, rows, autodiff=autodiff)
        model.weights[0].add_penalty({"matrix": L2Penalty(0.3)})
        found, _ = gradient_of(xp, model, exact, rows, autodiff=autodiff)
        W = host(model.weights[0].W())
        np.testing.assert_allclose(
            found["weights.0.matrix"] - plain["weights.0.matrix"], 0.3 * W, atol=1e-14
        )
        assert np.array_equal(found["layers.0.loc"], plain["layers.0.loc"])


def deep_machine(xp=np, sizes=(3, 2, 2), seed=0, scale=0.7):
    draw = np.random.default_rng(seed)
    device = "cpu" if xp is np else "cuda"
    layers = [BernoulliLayer(sizes[0]), IsingLayer(sizes[1]), BernoulliLayer(sizes[2])]
    model = BoltzmannMachine(layers, dtype="float64", device=device)
    model.set_parameters(
        {name: scale * draw.normal(size=p.shape) for name, p in model.parameters().items()}
    )
    return model


def test_deep_gradient_is_that_of_the_variational_bound(xp):
    """d/dtheta of <bound(v)> at the converged means, which it needs no derivative of, against
    central differences of the bound, whose means are found anew for each value."""
    model = deep_machine(xp)
    v = xp.asarray(np.array([[0, 1, 1], [1, 0, 1.0]]))
    negative = model.random_state(5, rng=Generator(2))

    def same(rng, machine, state):
        return state, GibbsInfo(negative)

    phases = GeneralPhases(
        model, Generator(1), sampler=same, n_chains=5, max_batch=2, mean_field_steps=200
    )
    phases.data_rows(2)[...] = v
    found = {name: host(g) for name, g in phases(2).items()}

    def value():
        bound = model.variational_bound(model.mean_field(v, tolerance=1e-13))
        return float(-bound.mean() - model.energy(negative).mean())

    for name, slope in slopes_of_model(model, value).items():
        assert found[name] == pytest.approx(slope, abs=1e-7), name


def test_gaussian_units_of_even_layers_are_drawn_in_the_positive_phase(xp):
    """Half of their mean square's part that is no mean, var, is what means would lack: 1/2 in the
    gradient of log_var. Against the exact average over q(s | v) at the converged means, over 4,000
    draws of three units: the variance of (s - loc)^2 / (2 var) - s f / var is 1/2 and less than
    1.5 in all with the means' part, so that 0.12 is six standard deviations."""
    device = "cpu" if xp is np else "cuda"
    layers = [BernoulliLayer(3), BernoulliLayer(2), GaussianLayer(3)]
    model = BoltzmannMachine(layers, dtype="float64", device=device)
    draw = np.random.default_rng(3)
    model.set_parameters(
        {name: 0.5 * draw.normal(size=p.shape) for name, p in model.parameters().items()}
    )
    negative = model.random_state(5, rng=Generator(2))

    def same(rng, machine, state):
        return state, GibbsInfo(negative)

    n = 4000
    how = {"sampler": same, "n_chains": 5, "max_batch": n, "mean_field_steps": 200}
    phases = GeneralPhases(model, Generator(1), **how)
    phases.data_rows(n)[...] = xp.asarray([1.0, 0.0, 1.0])
    found = host(phases(n)["layers.2.log_var"])

    means = model.mean_field(xp.asarray([[1.0, 0.0, 1.0]]), tolerance=1e-13)
    h, s = host(means[1])[0], host(means[2])[0]
    loc, log_var = (host(p) for p in model.layers[2].params)
    field = h @ host(model.weights[1].W())
    var = np.exp(log_var)
    expected = (-0.5 * ((s - loc) ** 2 + var) + s * field) / var
    x = host(negative[2])
    chains = (-0.5 * (x - loc) ** 2 + x * (host(negative[1]) @ host(model.weights[1].W()))) / var
    np.testing.assert_allclose(found, expected - chains.mean(axis=0), atol=0.12)


def all_bits(n):
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)


@pytest.mark.parametrize("sampler", [None, gibbs(2)], ids=["k", "sampler"])
def test_persistent_chains_of_a_deep_machine_settle_in_its_distribution(sampler):
    """The frequency of each visible state over 20,000 chains after 60 sweeps, as a chi-square
    statistic of 7 degrees of freedom: beyond 55 once in 7e8 runs."""
    model = deep_machine(scale=0.5)
    n = 20_000
    phases = GeneralPhases(model, Generator(9), n_chains=n, max_batch=1, k=2, sampler=sampler)
    phases.data_rows(1)[...] = 0
    for _ in range(30):
        phases(1)
    v = phases.state.visible
    count = np.bincount((v @ [1, 2, 4]).astype(int), minlength=8)
    grids = [all_bits(3), 2 * all_bits(2) - 1, all_bits(2)]
    p = np.zeros(8)
    for i, row in enumerate(grids[0]):
        for h in grids[1]:
            for g in grids[2]:
                p[i] += np.exp(-model.energy(State((row[None], h[None], g[None])))[0])
    expected = n * p / p.sum()
    assert ((count - expected) ** 2 / expected).sum() < 55


# ---- the choice, and what is refused


def test_two_layers_of_two_valued_units_get_the_fast_provider():
    fast, _ = small_machine()
    general = any_machine(np, ("potts", "bernoulli"))[0]
    ring = np.roll(np.eye(4), 1, axis=0)
    coupled = BoltzmannMachine([IsingLayer(4)], lateral={0: 0.2 * (ring + ring.T)}, device="cpu")
    for model, kind in (
        (fast, Phases),
        (general, GeneralPhases),
        (deep_machine(), GeneralPhases),
        (coupled, GeneralPhases),
    ):
        assert type(make_phases(model, Generator(0), max_batch=2)) is kind


def test_a_function_may_make_the_provider():
    from functools import partial

    model, _ = small_machine()
    made = make_phases(model, Generator(0), method=partial(GeneralPhases, k=3), max_batch=2)
    assert isinstance(made, GeneralPhases) and made.k == 3
    assert method_name(partial(GeneralPhases, k=3)) == "GeneralPhases(k=3)"


def test_samplers_of_another_shape_are_named():
    model = deep_machine()

    def narrow(rng, machine, state):
        return state, GibbsInfo(State(tuple(units[:, :1] for units in state)))

    def nothing(rng, machine, state):
        return state

    class Short:
        def start(self, rng, machine, n_chains):
            return machine.random_state(n_chains - 1, rng=rng)

    for step, message in (
        (narrow, r"the sampler gave info.expected of shape \[\(4, 1\), .*expected \[\(4, 3\)"),
        (nothing, "expected state, info with info.expected"),
    ):
        phases = GeneralPhases(model, Generator(0), sampler=step, n_chains=4, max_batch=2)
        with pytest.raises(ParameterError, match=message):
            phases(2)
    with pytest.raises(ParameterError, match=r"a start of shape \[\(3, 3\)"):
        GeneralPhases(model, Generator(0), sampler=Short(), n_chains=4, max_batch=2)
    with pytest.raises(ParameterError, match="sampler is 3, expected a function"):
        make_phases(model, Generator(0), sampler=3)


def test_chains_of_another_dtype_are_refused():
    phases = GeneralPhases(deep_machine(), Generator(0), n_chains=4, max_batch=2)
    arrays = {name: np.array(a) for name, a in phases.arrays().items()}
    phases.load_arrays(arrays)
    arrays["chains.1"] = arrays["chains.1"].astype("float16")
    with pytest.raises(CheckpointError, match=r"lacks chains.1, float64 of shape \(4, "):
        phases.load_arrays(arrays)


def test_chains_that_a_sampler_takes_back_in_another_number_are_refused():
    class Own:
        """The state of a sampler that looks at nothing."""

        def __init__(self, cold):
            self.cold = cold

        def arrays(self):
            return {"v": self.cold[0], "h": self.cold[1], "g": self.cold[2]}

        def with_arrays(self, arrays):
            return Own(State((arrays["v"], arrays["h"], arrays["g"])))

    class Sampler:
        def start(self, rng, model, n_chains):
            return Own(model.random_state(n_chains, rng=rng))

        def __call__(self, rng, model, state):
            return state, GibbsInfo(state.cold)

    phases = GeneralPhases(deep_machine(), Generator(0), sampler=Sampler(), n_chains=4, max_batch=2)
    arrays = {name: np.array(a) for name, a in phases.arrays().items()}
    phases.load_arrays(arrays)
    with pytest.raises(CheckpointError, match=r"do not fit the sampler .*a state of shape \[\(3, "):
        phases.load_arrays({name: a[:3] for name, a in arrays.items()})


def test_back_propagation_needs_hidden_units_that_sum_out():
    with pytest.raises(ParameterError, match="gradient is 'autodiff' for BoltzmannMachine"):
        GeneralPhases(deep_machine(), Generator(0), autodiff=True)
