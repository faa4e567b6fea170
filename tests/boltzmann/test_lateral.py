"""Couplings inside layers against the sum over all joint states."""

import json

import numpy as np
import pytest

import gpugrad
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.centering import Centering
from gpugrad.boltzmann.constraints import centre, non_negative
from gpugrad.boltzmann.gradient_util import Gradient, named_arrays, null_grad, zero_grad
from gpugrad.boltzmann.lateral import Lateral, colouring
from gpugrad.boltzmann.layers import ExponentialLayer, GaussianLayer, IsingLayer, ReLULayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.errors import NoPartitionFunctionError, ParameterError
from tests.chance import deviates, normal_limit

from .joint import joint_machine
from .machines import assert_donation_is_all_the_difference, device_like, host

#: kinds, sizes, layers with J
MACHINES = [
    (("ising",), (5,), (0,)),
    (("bernoulli",), (4,), (0,)),
    (("potts",), (3,), (0,)),
    (("bernoulli", "ising"), (4, 2), (0,)),
    (("ising", "bernoulli"), (3, 3), (0, 1)),
    (("bernoulli", "potts", "ising"), (2, 2, 2), (1, 2)),
]
machines = pytest.mark.parametrize(
    "machine", MACHINES, ids=lambda m: "-".join(m[0]) + "-J" + "".join(map(str, m[2]))
)
summable = pytest.mark.parametrize("machine", MACHINES[:4], ids=lambda m: "-".join(m[0]))
RING = np.roll(np.eye(6, dtype=bool), 1, axis=0) | np.roll(np.eye(6, dtype=bool), -1, axis=0)


def state_of(xp, exact, rows=slice(None)):
    return State(tuple(xp.asarray(u[rows]) for u in exact.units))


@machines
def test_energy_of_every_joint_state(xp, machine):
    model, exact = joint_machine(xp, *machine)
    np.testing.assert_allclose(host(model.energy(state_of(xp, exact))), exact.E, atol=1e-12)


@summable
@pytest.mark.parametrize("beta", [None, 0.6])
def test_free_energy_sums_out_hidden_units_without_couplings(xp, machine, beta):
    model, exact = joint_machine(xp, *machine)
    v = np.unique(exact.units[0], axis=0)
    b = 1.0 if beta is None else beta
    expected = [-np.log(np.exp(-b * exact.E[exact.rows(0, row)]).sum()) for row in v]
    got = host(model.marginal_free_energy(xp.asarray(v), beta))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_coupled_hidden_units_have_no_free_energy():
    model, exact = joint_machine(np, *MACHINES[4])
    for call in (model.marginal_free_energy, model.data_state):
        with pytest.raises(ParameterError, match="hidden units have lateral couplings"):
            call(exact.units[0])
    for call in (model.conditional_mean, model.conditional_mode, model.conditional_sample):
        with pytest.raises(ParameterError, match=r"layers\[1\] has lateral couplings"):
            call(1, State((exact.units[0], None)))


@machines
def test_local_field_gives_the_conditional_of_one_unit(xp, machine):
    """p(s_i = high | all others) from pairs of joint states that differ in unit i alone."""
    model, exact = joint_machine(xp, *machine)
    for i, kind in enumerate(machine[0]):
        phi = host(model.local_field(i, state_of(xp, exact)))
        mean = host(model.layers[i].draw(xp.asarray(phi), sample=False, mean=True)[1])
        width = exact.units[i].shape[1] // machine[1][i]
        for unit in range(machine[1][i]):
            columns = slice(unit * width, (unit + 1) * width)
            for row in range(0, len(exact.E), max(1, len(exact.E) // 20)):
                same = np.ones(len(exact.E), dtype=bool)
                for j, units in enumerate(exact.units):
                    equal = units == units[row]
                    if j == i:
                        equal[:, columns] = True
                    same &= equal.all(axis=1)
                expected = exact.mean(i, same)[columns]
                np.testing.assert_allclose(mean[row, columns], expected, atol=1e-12, err_msg=kind)


@machines
def test_derivatives_are_slopes_of_the_mean_energy_in_each_pair(xp, machine):
    """J_ij and J_ji move together; the energy is linear, so that differences are exact."""
    model, exact = joint_machine(xp, *machine)
    state = state_of(xp, exact, slice(None, None, 3))
    got = {k: host(g) for k, g in named_arrays(model.derivatives(state))}
    assert list(got) == list(model.parameters())
    values = {k: host(p).copy() for k, p in model.parameters().items()}
    for name, value in values.items():
        inside = name.startswith("lateral")
        for index in np.ndindex(value.shape):
            if inside and not exact.allowed(name)[index]:
                assert got[name][index] == 0
                continue
            means = []
            for sign in (0.5, -0.5):
                shifted = value.copy()
                shifted[index] += sign
                if inside:
                    shifted[index[::-1]] += sign
                model.set_parameters({name: shifted})
                means.append(host(model.energy(state)).mean())
            model.set_parameters({name: value})
            assert got[name][index] == pytest.approx(means[0] - means[1], abs=1e-12), name
        if inside:
            np.testing.assert_array_equal(got[name], got[name].T)


@summable
def test_gradient_is_the_slope_of_the_log_likelihood(machine):
    model, exact = joint_machine(np, *machine)
    v = np.unique(exact.units[0], axis=0)
    data = v[[0, 1, 1, 3, 6]]
    p = np.array([exact.p()[exact.rows(0, row)].sum() for row in v])
    negative = dict(named_arrays(model.derivatives(model.data_state(v), sample_weight=p)))
    positive = dict(named_arrays(model.derivatives(model.data_state(data))))
    for name in positive:
        np.testing.assert_allclose(negative[name], exact.moments(name), atol=1e-12)
        expected = np.mean(
            [exact.moments(name, exact.rows(0, row)) for row in data], axis=0
        ) - exact.moments(name)
        np.testing.assert_allclose(positive[name] - negative[name], expected, atol=1e-12)


@summable
def test_gradient_equals_autodiff_of_the_free_energy_difference(xp, machine):
    model, exact = joint_machine(xp, *machine)
    data, free = (xp.asarray(exact.units[0][rows]) for rows in ([0, 5, 9], [2, 7]))
    tensors = {name: gpugrad.tensor(p) for name, p in model.parameters().items()}
    model.free_energy_difference(tensors, data, free).backward()
    got = named_arrays(model.gradient(model.data_state(data), model.data_state(free)))
    for name, array in got:
        grad = tensors[name].grad
        if name.startswith("lateral"):
            grad = model.lateral[0].of_pairs(grad)
        np.testing.assert_allclose(host(grad), host(array), atol=1e-12, err_msg=name)


@machines
@pytest.mark.parametrize("beta", [None, 0.5])
def test_gibbs_chains_have_the_exact_distribution(xp, machine, beta):
    """Means of all units and of all products inside layers; false alarm 1e-7 a case."""
    model, exact = joint_machine(xp, *machine, scale=0.5)
    n, rng = 4000, Generator(3)
    state, info = gibbs(40, beta=beta)(rng, model, model.random_state(n, rng=rng))
    p = exact.p(1.0 if beta is None else beta)
    z = []
    for units, states in zip(state, exact.units, strict=True):
        units = host(units)
        upper = np.triu_indices(units.shape[1], 1)
        found = np.concatenate([units, units[:, upper[0]] * units[:, upper[1]]], axis=1)
        listed = np.concatenate([states, states[:, upper[0]] * states[:, upper[1]]], axis=1)
        varying = found.std(axis=0) > 0
        np.testing.assert_allclose((p @ listed)[~varying], found[0, ~varying], atol=1e-12)
        z.append(deviates(found[:, varying], (p @ listed)[varying]))
    z = np.concatenate(z)
    assert z.max() < normal_limit(z.size, 1e-7)
    for i in model.lateral:
        np.testing.assert_array_equal(host(info.expected[i]), host(state[i]))


def test_coloured_and_sequential_sweeps_have_the_same_distribution():
    """A sparse ring by two colours and by six; both against the sum over states, 1e-7 each."""
    _, exact = joint_machine(np, ("ising",), (6,), (0,), pairs=RING)
    J = exact.parameters["lateral.0.matrix"]
    for pairs, colours in ((RING, 2), ("all", 6)):
        layer = IsingLayer(6, dtype="float64", device="cpu")
        layer.set_params({"loc": exact.parameters["layers.0.loc"]})
        lateral = Lateral(J, pairs=pairs, device="cpu")
        assert lateral.num_colours == colours
        model = BoltzmannMachine([layer], dtype="float64", device="cpu", lateral={0: lateral})
        rng = Generator(1)
        (units,), _ = gibbs(30)(rng, model, model.random_state(20_000, rng=rng))
        index = ((units > 0) @ 2 ** np.arange(5, -1, -1)).astype(int)
        z = np.abs(np.bincount(index, minlength=64) - len(units) * exact.p())
        z /= np.sqrt(len(units) * exact.p() * (1 - exact.p()))
        often = len(units) * exact.p() > 25
        # binomial tails are heavier than normal ones: the limit is that of a thousandth of the rate
        assert z[often].max() < normal_limit(64, 1e-10)


def test_fields_by_neighbours_are_those_by_products(xp):
    """A 6 x 6 torus: few enough couplings a unit that they are summed one by one."""
    side = 6
    site = np.arange(side * side).reshape(side, side)
    pairs = np.zeros((side * side,) * 2, dtype=bool)
    for axis in (0, 1):
        pairs[site.ravel(), np.roll(site, 1, axis).ravel()] = True
    pairs |= pairs.T
    draw = np.random.default_rng(0)
    J = np.where(pairs, draw.normal(size=pairs.shape), 0)
    J = J + J.T
    lateral = Lateral(np.kron(np.eye(2), J), device=device_like(xp))
    assert lateral.num_colours == 2
    units = xp.asarray(draw.normal(size=(5, 72)))
    whole = host(lateral.field(units))
    np.testing.assert_allclose(whole, host(units) @ np.kron(np.eye(2), J), atol=1e-12)
    for block in lateral.blocks():
        assert block.neighbours is not None
        got = host(lateral.block_field(block, units))
        np.testing.assert_allclose(got, whole[:, host(block.columns)], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_coupled_units_never_share_a_colour(seed):
    draw = np.random.default_rng(seed)
    coupled = np.triu(draw.random((30, 30)) < 0.2, 1)
    coupled |= coupled.T
    colours = colouring(coupled)
    assert not (coupled & (colours[:, None] == colours)).any()
    assert colours.max() <= coupled.sum(axis=1).max()


def test_two_colours_are_enough_where_they_can_be():
    """A random tree, whose units come in random order, and the six-cube."""
    draw = np.random.default_rng(0)
    name = draw.permutation(50)
    tree = np.zeros((50, 50), dtype=bool)
    for i in range(1, 50):
        tree[name[i], name[draw.integers(i)]] = True
    corner = np.arange(64)
    cube = np.array([[bin(i ^ j).count("1") == 1 for j in corner] for i in corner])
    assert colouring(tree | tree.T).max() == 1
    assert colouring(cube).max() == 1
    assert list(colouring(np.zeros((3, 3), dtype=bool))) == [0, 0, 0]


def test_clamped_units_hold_while_their_neighbours_move():
    """Conditional means of free spins, false alarm 1e-7; one mask a sample works alike."""
    model, exact = joint_machine(np, ("ising", "bernoulli"), (4, 2), (0,))
    n, mask = 20_000, np.array([True, False, False, True])
    state = model.random_state(n, rng=Generator(0))
    state.visible[:, mask] = [1.0, -1.0]
    for clamp in (mask, {0: np.tile(mask, (n, 1))}):
        found, _ = gibbs(30, clamp=clamp)(Generator(1), model, state)
        np.testing.assert_array_equal(found.visible[:, mask], state.visible[:, mask])
        keep = (exact.units[0][:, mask] == [1.0, -1.0]).all(axis=1)
        z = deviates(found.visible[:, ~mask], exact.mean(0, keep)[~mask])
        assert z.max() < normal_limit(2, 0.5e-7)


@machines
def test_a_step_donated_or_not_draws_the_same(xp, machine):
    model, _ = joint_machine(xp, *machine)
    assert_donation_is_all_the_difference(model, 20)


@machines
def test_centred_gradient_is_that_in_centred_parameters(xp, machine):
    """The plain gradient at centred states is that of (a', W, J); a' carries over to a."""
    model, exact = joint_machine(xp, *machine)
    draw = np.random.default_rng(5)
    offsets = [draw.random(units.shape[1]) for units in exact.units]
    phases = [state_of(xp, exact, draw.integers(0, len(exact.E), 4)) for _ in range(2)]
    got = {
        name: host(g)
        for name, g in named_arrays(
            model.gradient(*phases, offsets=[xp.asarray(o) for o in offsets])
        )
    }
    expected = {name: np.zeros(g.shape) for name, g in got.items()}
    for sign, phase in zip((1, -1), phases, strict=True):
        units = [host(u) for u in phase]
        centred = [u - o for u, o in zip(units, offsets, strict=True)]
        for name in expected:
            group, i, _ = name.split(".")
            i = int(i)
            if group == "layers":
                expected[name] -= sign * units[i].mean(axis=0).reshape(expected[name].shape)
            else:
                other = centred[i + 1] if group == "weights" else centred[i]
                expected[name] -= sign * centred[i].T @ other / len(other)
                if group == "lateral":
                    expected[name] *= exact.allowed(name)
    for name in expected:
        group, i, _ = name.split(".")
        if group == "weights":
            low, high = f"layers.{i}.loc", f"layers.{int(i) + 1}.loc"
            expected[low] -= (expected[name] @ offsets[int(i) + 1]).reshape(got[low].shape)
            expected[high] -= (offsets[int(i)] @ expected[name]).reshape(got[high].shape)
        if group == "lateral":
            low = f"layers.{i}.loc"
            expected[low] -= (expected[name] @ offsets[int(i)]).reshape(got[low].shape)
    for name, g in got.items():
        np.testing.assert_allclose(g, expected[name], atol=1e-13, err_msg=name)


def test_centred_biases_give_the_same_fields(xp):
    """b' + (v - mu) W + (h - lam) J = b + v W + h J."""
    model, exact = joint_machine(xp, ("bernoulli", "ising"), (4, 2), (0, 1))
    draw = np.random.default_rng(5)
    offsets = [draw.random(4), draw.random(2)]
    centering = Centering(*(xp.asarray(o) for o in offsets))
    state = state_of(xp, exact, slice(None, None, 7))
    centred = State(tuple(u - xp.asarray(o) for u, o in zip(state, offsets, strict=True)))
    for i, bias in enumerate(centering.centred_biases(model)):
        np.testing.assert_allclose(
            host(bias + model.local_field(i, centred)),
            host(model.layers[i].params.loc + model.local_field(i, state)),
            atol=1e-13,
        )


def test_a_step_keeps_J_symmetric_without_diagonal(xp):
    model, _ = joint_machine(xp, ("ising",), (6,), (0,), pairs=RING)
    before = host(model.lateral[0].J()).copy()
    live = model.parameters()["lateral.0.matrix"]
    delta = zero_grad(model)
    noise = np.random.default_rng(0).normal(size=(6, 6))
    delta.lateral[0].matrix[...] = xp.asarray(noise)
    model.parameter_step(delta)
    expected = before - np.where(RING, (noise + noise.T) / 2, 0)
    np.testing.assert_allclose(host(live), expected, atol=1e-15)
    np.testing.assert_array_equal(host(live), host(live).T)
    short = Gradient(delta.layers, delta.weights)
    with pytest.raises(ParameterError, match="deltas have 0 entries in `lateral`, expected one"):
        model.parameter_step(short)


def test_penalties_count_each_pair_once(xp):
    model, exact = joint_machine(xp, ("ising",), (4,), (0,))
    J = exact.parameters["lateral.0.matrix"]
    model.lateral[0].add_penalty({"matrix": L2Penalty(0.3)})
    model.lateral[0].add_constraint({"matrix": non_negative})
    pairs = np.triu_indices(4, 1)
    assert model.get_penalties() == {
        "lateral.0.matrix": pytest.approx(0.15 * (J[pairs] ** 2).sum())
    }
    state = state_of(xp, exact)
    got = dict(named_arrays(model.gradient(state, state)))
    np.testing.assert_allclose(host(got["lateral.0.matrix"]), 0.3 * J, atol=1e-14)
    model.enforce_constraints()
    np.testing.assert_allclose(host(model.lateral[0].J()), np.maximum(J, 0), atol=1e-15)


@machines
def test_files_and_copies_hold_the_couplings(xp, machine, tmp_path):
    model, _ = joint_machine(xp, *machine)
    next(iter(model.lateral.values())).add_penalty({"matrix": L2Penalty(0.5)})
    model.save(tmp_path / "machine")
    loaded = BoltzmannMachine.load(tmp_path / "machine", device=device_like(xp))
    rebuilt = BoltzmannMachine.from_config(json.loads(json.dumps(model.config())), device="cpu")
    rebuilt.set_parameters({k: host(p) for k, p in model.parameters().items()})
    for other in (loaded, rebuilt, model.copy()):
        assert other.config() == model.config()
        for name, p in model.parameters().items():
            np.testing.assert_array_equal(host(other.parameters()[name]), host(p))
    assert model.copy(dtype="float32").lateral[min(model.lateral)].dtype == "float32"


def test_pairs_survive_a_file(tmp_path):
    model, _ = joint_machine(np, ("ising",), (6,), (0,), pairs=RING)
    model.save(tmp_path / "ring")
    other = BoltzmannMachine.load(tmp_path / "ring", device="cpu")
    np.testing.assert_array_equal(other.lateral[0].pairs, RING)
    assert null_grad(other).lateral == [[]]


def test_what_is_symmetric_to_rounding_is_made_symmetric():
    J = np.array([[0, 0.5, 0.3], [0.5001, 0, -0.2], [0.3, -0.2, 0]])
    found = Lateral(J, device="cpu").J()
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, (J + J.T) / 2, rtol=1e-15)


def test_a_constraint_leaves_J_symmetric_without_diagonal():
    inside = Lateral(0.5 * RING, pairs="all", dtype="float64", device="cpu")
    inside.add_constraint({"matrix": centre})  # takes the means of columns from all entries
    inside.enforce_constraints()
    J = inside.J()
    np.testing.assert_array_equal(J, J.T)
    np.testing.assert_array_equal(np.diag(J), 0)
    assert J[0, 3] != 0


def test_zeros_of_an_array_stay_zero_unless_it_has_nothing_else():
    assert Lateral(0.5 * RING, device="cpu").pairs is not None
    assert Lateral(np.zeros((6, 6)), device="cpu").pairs is None
    assert Lateral(0.5 * RING, pairs="all", device="cpu").pairs is None


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (np.zeros((2, 3)), {}, r"matrix is float64 of shape \(2, 3\), expected real"),
        (np.array([[0, np.nan], [np.nan, 0]]), {}, "Lateral: matrix has NaN or infinite values"),
        (np.array([[0, 1.0], [0.5, 0]]), {}, r"has 1 at \(0, 1\) and 0.5 at \(1, 0\)"),
        (np.array([[0, 1.0], [0.99, 0]]), {}, "expected a symmetric matrix"),
        (np.eye(2), {}, r"has 1 at \(0, 0\), 0 on the diagonal"),
        (
            np.ones((3, 3)) - np.eye(3),
            {"pairs": np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)},
            r"has 1 at \(0, 2\), 0 between units that `pairs` does not couple",
        ),
        (np.zeros((3, 3)), {"pairs": np.ones((2, 2), bool)}, r"pairs are bool of shape \(2, 2\)"),
        (np.zeros((3, 3)), {"unit_size": 2}, "3 columns are no multiple of unit_size 2"),
        (np.fliplr(np.eye(4)), {"unit_size": 4}, r"has 1 at \(0, 3\), 0 on the diagonal \(Potts"),
    ],
)
def test_a_matrix_that_is_no_coupling_is_refused(matrix, options, message):
    with pytest.raises(ParameterError, match=message):
        Lateral(matrix, device="cpu", **options)


def test_couplings_that_fit_no_layer_are_refused():
    with pytest.raises(ParameterError, match="lateral names layer 1, expected one of 0 ... 0"):
        BoltzmannMachine([IsingLayer(2)], lateral={1: np.zeros((2, 2))})
    with pytest.raises(ParameterError, match=r"of layer 0 are \(3, 3\) with unit_size 1, expected"):
        BoltzmannMachine([IsingLayer(2)], lateral={0: np.zeros((3, 3))})


def test_a_set_that_fails_changes_nothing():
    model, exact = joint_machine(np, ("ising",), (4,), (0,))
    with pytest.raises(ParameterError, match="0 on the diagonal"):
        model.set_parameters({"layers.0.loc": np.ones(4), "lateral.0.matrix": np.eye(4)})
    np.testing.assert_array_equal(model.layers[0].params.loc, exact.parameters["layers.0.loc"])


def test_machines_without_a_partition_function_are_refused():
    """Gaussian units: 1/var on the diagonal less J has to be positive definite, and is sampled."""
    J = np.array([[0, 0.9], [0.9, 0]])
    model = BoltzmannMachine([GaussianLayer(2, device="cpu")], lateral={0: J}, device="cpu")
    rng = Generator(0)
    (x,), _ = gibbs(200)(rng, model, model.random_state(20_000, rng=rng))
    covariance = np.linalg.inv(np.eye(2) - J)
    z = deviates(np.stack([x[:, 0] ** 2, x[:, 0] * x[:, 1]], axis=1), covariance[0])
    assert z.max() < normal_limit(2, 1e-7)
    for layer, message in (
        (GaussianLayer(2, device="cpu"), "precision is not positive"),
        (ReLULayer(2, device="cpu"), "precision is not positive"),
        (ExponentialLayer(2, device="cpu"), "if a lateral coupling is positive; the largest is 1"),
    ):
        with pytest.raises(NoPartitionFunctionError, match=message):
            BoltzmannMachine([layer], lateral={0: J / 0.9}, device="cpu")
    with pytest.raises(NoPartitionFunctionError, match="set_parameters: layers"):
        model.set_parameters({"lateral.0.matrix": J * 2})


def test_couplings_inside_a_layer_see_units_divided_by_their_variance():
    """The energy by loops; its slope in a unit; and chains, from which an update has to see it too.

    False alarm below 1e-7: six deviates.
    """
    draw = np.random.default_rng(6)
    layer = GaussianLayer(3, dtype="float64", device="cpu")
    loc, var = draw.normal(size=3), np.array([0.5, 2.0, 3.0])
    layer.set_params({"loc": loc, "log_var": np.log(var)})
    J = np.array([[0, 0.6, -0.3], [0.6, 0, 0.7], [-0.3, 0.7, 0]])
    model = BoltzmannMachine([layer], dtype="float64", lateral={0: J}, device="cpu")

    def energy(x):
        pairs = [(0, 1), (0, 2), (1, 2)]
        inside = sum(J[i, j] * x[i] / var[i] * x[j] / var[j] for i, j in pairs)
        return ((x - loc) ** 2 / (2 * var)).sum() - inside

    rows = draw.normal(size=(5, 3))
    state = State((rows,))
    np.testing.assert_allclose(model.energy(state), [energy(x) for x in rows], atol=1e-13)
    slope = (rows - loc - model.local_field(0, state)) / var
    for i in range(3):
        step = 1e-5 * np.eye(3)[i]
        found = [(energy(x + step) - energy(x - step)) / 2e-5 for x in rows]
        np.testing.assert_allclose(slope[:, i], found, atol=1e-8)
    rng = Generator(1)
    (x,), _ = gibbs(100)(rng, model, model.random_state(20_000, rng=rng))
    precision = np.diag(1 / var) - J / np.outer(var, var)
    covariance = np.linalg.inv(precision)
    x = x - covariance @ (loc / var)
    pairs = np.triu_indices(3)
    z = deviates(x[:, pairs[0]] * x[:, pairs[1]], covariance[pairs])
    assert z.max() < normal_limit(6, 1e-7)


def test_a_sweep_never_waits_for_the_device(cupy_standin, no_waiting):
    model, exact = joint_machine(cupy_standin, ("ising", "bernoulli"), (4, 2), (0,))
    rng = Generator(0)
    state = model.random_state(8, rng=rng)
    gibbs(1)(rng, model, state)  # the blocks are found once
    data = cupy_standin.asarray(exact.units[0][:8])
    with no_waiting():
        _, info = gibbs(2, clamp=cupy_standin.zeros(4, dtype=bool))(rng, model, state)
        model.parameter_step(model.gradient(model.data_state(data), info.expected))
    assert np.isfinite(host(model.lateral[0].J())).all()
