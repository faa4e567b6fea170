"""The TAP free energy, its derivatives and minima, against loops, differences, enumeration."""

import numpy as np
import pytest

import gpugrad
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.gradient_util import named_arrays
from gpugrad.boltzmann.layers import (
    GradientMagnetizationBernoulli,
    GradientMagnetizationIsing,
    get,
)
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.tap import (
    TapResult,
    tap_derivatives,
    tap_free_energy,
    tap_gradient,
    tap_log_likelihood,
    tap_log_partition,
    tap_magnetizations,
)
from gpugrad.boltzmann.tap_sweeps import TapSweeps
from gpugrad.errors import ConvergenceError, DataError, ParameterError

from .enumeration import STATES
from .machines import device_like, host
from .slopes import slopes
from .tap_machines import (
    DEEP,
    TWO,
    energies,
    exact_free_energy,
    exact_log_z,
    gamma_by_loops,
    joint_states,
    means,
    tap_machine,
)

every_kind = pytest.mark.parametrize("kinds", TWO + DEEP, ids="-".join)
all_kinds = pytest.mark.parametrize("kinds", [TWO[0], TWO[2], DEEP[0]], ids="-".join)
orders = pytest.mark.parametrize("order", [2, 3])
methods = pytest.mark.parametrize("method", ["fixed_point", "descent"])


# ---- the free energy


@all_kinds
@orders
def test_free_energy_is_the_expansion_written_out(xp, kinds, order):
    model, own = tap_machine(xp, kinds)
    units = means(xp, kinds)
    got = host(tap_free_energy(model, units, order=order))
    rows = zip(*(host(m) for m in units), strict=True)
    expected = [gamma_by_loops(own, kinds, row, order) for row in rows]
    np.testing.assert_allclose(got, expected, atol=1e-12)


@all_kinds
@orders
@pytest.mark.parametrize("clamped", [False, True])
def test_free_energy_of_a_state_is_its_energy(xp, kinds, order, clamped):
    """Units that are certain have no entropy, 0 ln 0 = 0, and no cumulants."""
    model, own = tap_machine(xp, kinds)
    states = [s[::37] for s in joint_states(kinds)]
    state = State(tuple(xp.asarray(s) for s in states))
    got = tap_free_energy(model, state, order=order, clamped=clamped)
    np.testing.assert_allclose(host(got), energies(own, states), atol=1e-13)


@all_kinds
@orders
@pytest.mark.parametrize("clamped", [False, True])
def test_derivatives_with_respect_to_the_parameters(xp, kinds, order, clamped):
    """`GFE_derivatives` of layers and weights: by differences, and by back-propagation."""
    model, own = tap_machine(xp, kinds)
    units = means(xp, kinds)
    weight = np.array([0.5, 0.2, 0.3])
    how = {"order": order, "clamped": clamped}
    for w in (None, weight):
        sent = None if w is None else xp.asarray(w)
        found = dict(named_arrays(tap_derivatives(model, units, sample_weight=sent, **how)))

        def objective(parameters, w=w):
            there = {name: xp.asarray(x) for name, x in parameters.items()}
            values = host(tap_free_energy(model, units, there, **how))
            return values.mean() if w is None else w @ values

        for name, slope in slopes(objective, own, 1e-4).items():
            np.testing.assert_allclose(host(found[name]), slope, atol=1e-7, err_msg=name)
    tensors = {name: gpugrad.tensor(p) for name, p in model.parameters().items()}
    (tap_free_energy(model, units, tensors, **how) * xp.asarray(weight)).sum().backward()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(host(tensor.grad), host(found[name]), atol=1e-14, err_msg=name)


def by_update_functions(xp, model, units, order):
    """dGamma/dm from the gradient objects, term by term."""
    kinds = {"bernoulli": GradientMagnetizationBernoulli, "ising": GradientMagnetizationIsing}
    mags = [x.Magnetization(m) for x, m in zip(model.layers, units, strict=True)]
    found = []
    for i, (layer, m) in enumerate(zip(model.layers, units, strict=True)):
        ising = layer.layer_type == "ising"
        own = xp.arctanh(m) if ising else xp.log(m / (1 - m))
        gradient = kinds[layer.layer_type](own - layer.params.loc)
        for j in (i - 1, i):
            if 0 <= j < len(model.weights):
                W = model.weights[j].W()
                powers = [W, W * W, W * W * W][:order]
                if j == i - 1:
                    gradient.grad_GFE_update_down(mags[j], mags[i], *powers)
                else:
                    gradient.grad_GFE_update_up(mags[i], mags[i + 1], *powers)
        found.append(host(gradient.expectation()))
    return found


@all_kinds
@orders
def test_derivatives_with_respect_to_the_magnetizations(xp, kinds, order):
    """The update functions and `tap_gradient`: by differences, and by back-propagation."""
    model, _ = tap_machine(xp, kinds)
    units = means(xp, kinds)
    tensors = [gpugrad.tensor(m) for m in units]
    tap_free_energy(model, tensors, order=order).sum().backward()
    gradient = tap_gradient(model, units, order=order)
    by_terms = by_update_functions(xp, model, units, order)
    for i, m in enumerate(units):
        slope = np.empty(m.shape)
        for unit in range(m.shape[1]):
            ends = []
            for step in (1e-5, -1e-5):
                moved = host(m).copy()
                moved[:, unit] += step
                there = [*units[:i], xp.asarray(moved), *units[i + 1 :]]
                ends.append(host(tap_free_energy(model, there, order=order)))
            slope[:, unit] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(host(gradient[i]), slope, atol=1e-7)
        np.testing.assert_allclose(by_terms[i], slope, atol=1e-7)
        np.testing.assert_allclose(host(tensors[i].grad), host(gradient[i]), atol=1e-13)


# ---- minima


@all_kinds
@orders
@methods
def test_minima_are_stationary(xp, kinds, order, method):
    model, _ = tap_machine(xp, kinds)
    found = tap_magnetizations(model, order=order, method=method, tolerance=1e-12, rng=Generator(1))
    assert host(found.converged).all() and found.steps < 1000
    assert host(found.residual).max() < 1e-12
    for slope in tap_gradient(model, found, order=order):
        assert np.abs(host(slope)).max() < 1e-10
    expected = host(tap_free_energy(model, found, order=order))
    np.testing.assert_array_equal(host(found.free_energy), expected)


@every_kind
@methods
def test_error_against_the_exact_log_z_has_the_slope_of_the_order_left_out(kinds, method):
    """Third at second order, fourth at third, in the scale of the couplings; fields and couplings
    of one sign, so that the terms of the first order left out do not cancel. What the order after
    it adds makes the measured slope differ by up to 0.3; the scales go up to 0.1."""
    for order, scales in ((2, (0.01, 0.02)), (3, (0.01, 0.02))):
        errors = []
        for scale in (*scales, 0.1):
            model, own = tap_machine(np, kinds, field=(0.3, 1.0))
            for name in own:
                if name.startswith("weights"):
                    own[name] = scale * (0.5 + np.abs(own[name]))
            model.set_parameters(own)
            found = tap_log_partition(
                model, order=order, method=method, tolerance=1e-11, rng=Generator(1)
            )
            errors.append(abs(found - exact_log_z(own, kinds)))
        first = np.log2(errors[1] / errors[0])
        whole = np.log(errors[2] / errors[0]) / np.log(0.1 / scales[0])
        assert abs(first - order - 1) < 0.3, (order, first)
        assert abs(whole - order - 1) < 0.6, (order, whole)


def ferromagnet(xp, coupling, dtype="float64"):
    """Ising layers of 12 and 10 units, every pair coupled alike, without fields."""
    model = RBM(12, 10, visible="ising", hidden="ising", dtype=dtype, device=device_like(xp))
    model.set_parameters({"weights.0.matrix": np.full((12, 10), coupling)})
    return model


@methods
def test_minima_of_a_ferromagnet_are_two(xp, method):
    """Mirror images of one free energy, where m = tanh(J n m' - J^2 n c' m), by bisection in m."""
    J = 0.2
    model = ferromagnet(xp, J)
    found = tap_magnetizations(model, n_random=40, method=method, tolerance=1e-10, rng=Generator(2))
    minima = found.distinct()
    up, down = (host(m) for m in minima.magnetizations)
    assert len(up) == 2 and found.log_partition() == -float(host(minima.free_energy)[0])
    np.testing.assert_allclose(up[0], -up[1], atol=1e-8)
    np.testing.assert_allclose(*host(minima.free_energy), atol=1e-10)
    v, h = up[0, 0], down[0, 0]
    assert abs(v) > 0.5 and np.ptp(up[0]) < 1e-8 and np.ptp(down[0]) < 1e-8
    assert v == pytest.approx(np.tanh(J * 10 * h - v * J**2 * 10 * (1 - h**2)), abs=1e-9)
    assert h == pytest.approx(np.tanh(J * 12 * v - h * J**2 * 12 * (1 - v**2)), abs=1e-9)


def strong_machine(xp, kinds, dtype="float64"):
    model, own = tap_machine(xp, kinds, scale=6.0, seed=3, dtype=dtype)
    return model, own


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_kind
@orders
def test_descent_never_raises_the_free_energy(kinds, order, dtype):
    """With couplings of 6, far outside the expansion's range."""
    model, _ = strong_machine(np, kinds, dtype)
    units = means(np, kinds, rows=10, dtype=dtype)
    sweeps = TapSweeps(model, units, order=order)
    own = [
        np.arctanh(m) if kind == "ising" else np.log(m) - np.log1p(-m)
        for kind, m in zip(kinds, units, strict=True)
    ]
    before = host(tap_free_energy(model, units, order=order))
    first = before
    for _ in range(20):
        sweeps.descend(own)
        after = host(tap_free_energy(model, units, order=order))
        assert (after <= before + 200 * np.finfo(dtype).eps * (1 + np.abs(before))).all()
        before = after
    assert (before < first).all()


def test_descent_converges_where_undamped_updates_do_not(xp):
    model, _ = strong_machine(xp, ("bernoulli", "bernoulli"))
    how = {"n_random": 20, "max_steps": 100, "rng": Generator(4)}
    cycling = tap_magnetizations(model, damping=0.0, **how)
    assert not host(cycling.converged).all() and cycling.steps == 100
    assert host(tap_magnetizations(model, method="descent", **how).converged).all()


# ---- seeds


@methods
def test_persistent_seeds_come_first_and_stay_where_they_were(xp, method):
    model = ferromagnet(xp, 0.2)
    how = {"method": method, "tolerance": 1e-10}
    found = tap_magnetizations(model, n_random=6, rng=Generator(2), **how)
    copies = [host(m).copy() for m in found.magnetizations]
    again = tap_magnetizations(model, found, n_random=3, rng=Generator(9), **how)
    assert again.free_energy.shape == (9,) and host(again.converged).all()
    for m, new, before in zip(found.magnetizations, again.magnetizations, copies, strict=True):
        np.testing.assert_array_equal(host(m), before)
        np.testing.assert_allclose(host(new)[:6], before, atol=1e-8)


def test_more_random_seeds_leave_the_persistent_ones_alone(xp):
    model, _ = tap_machine(xp, TWO[0])
    seeds = means(xp, TWO[0])
    few = tap_magnetizations(model, seeds, max_steps=3)
    many = tap_magnetizations(model, seeds, n_random=7, max_steps=3, rng=Generator(1))
    assert few.steps == many.steps == 3
    for a, b in zip(few.magnetizations, many.magnetizations, strict=True):
        np.testing.assert_allclose(host(b)[:3], host(a), atol=1e-15)


@methods
@all_kinds
def test_seeds_at_the_edge_move_to_the_same_minimum(xp, kinds, method):
    """States themselves, and the zero magnetisation: they are clipped before the first step."""
    model, _ = tap_machine(xp, kinds)
    seeds = [xp.asarray(s[[0, -1]]) for s in joint_states(kinds)]
    found = tap_magnetizations(model, seeds, method=method)
    zero = [x.get_zero_magnetization().expectation()[None] for x in model.layers]
    at_zero = tap_magnetizations(model, zero, method=method)
    assert host(found.converged).all() and host(at_zero.converged).all()
    for a, b in zip(found.magnetizations, at_zero.magnetizations, strict=True):
        np.testing.assert_allclose(host(a), np.repeat(host(b), 2, axis=0), atol=1e-4)


@pytest.mark.parametrize("kind", STATES)
def test_random_magnetizations_are_uniform_between_the_states(xp, kind):
    """Mean and mean square of 20,000 uniform numbers: five standard deviations each."""
    layer = get(kind)(200, dtype="float64", device=device_like(xp))
    m = host(layer.get_random_magnetization(rng=Generator(3), num_samples=100).expectation())
    low, high = STATES[kind]
    p = (m - low) / (high - low)
    assert p.min() > 0 and p.max() < 1
    assert abs(p.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / p.size)
    assert abs((p**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / p.size)
    kept = layer.get_random_magnetization(rng=Generator(3), eps=0.4).expectation()
    assert kept.shape == (200,)
    width = high - low
    assert (host(kept) >= low + 0.4 * width).all() and (host(kept) <= high - 0.4 * width).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@methods
def test_lower_precision_finds_the_minimum_of_float64(xp, dtype, method):
    """Half precision is computed in single: what differs is the rounding of the parameters."""
    model, _ = tap_machine(xp, TWO[0], dtype=dtype)
    wide = model.copy(dtype="float64")
    how = {"n_random": 3, "method": method}
    got = tap_magnetizations(model, rng=Generator(1), **how)
    expected = tap_magnetizations(wide, rng=Generator(1), tolerance=1e-9, **how)
    assert host(got.converged).all()
    for a, b in zip(got.magnetizations, expected.magnetizations, strict=True):
        assert a.dtype == "float32"
        np.testing.assert_allclose(host(a), host(b), atol=1e-4)
    np.testing.assert_allclose(host(got.free_energy), host(expected.free_energy), atol=1e-5)


# ---- clamped units, and likelihoods


@pytest.mark.parametrize("kinds", TWO, ids="-".join)
@orders
@methods
def test_clamped_free_energy_of_two_layers_is_the_exact_one(xp, kinds, order, method):
    model, own = tap_machine(xp, kinds)
    v = joint_states(kinds)[0][:: 2**4 * 3]
    found = tap_magnetizations(
        model, visible=xp.asarray(v), order=order, method=method, tolerance=1e-12
    )
    assert np.array_equal(host(found.magnetizations[0]), v)
    np.testing.assert_allclose(
        host(found.free_energy), exact_free_energy(own, kinds, v), atol=1e-12
    )


@pytest.mark.parametrize("kinds", DEEP, ids="-".join)
def test_clamped_free_energy_of_more_layers_errs_by_the_order_left_out(kinds):
    v = joint_states(kinds)[0][:: 2**8 * 2]
    for order in (2, 3):
        errors = []
        for scale in (0.02, 0.04):
            model, own = tap_machine(np, kinds, field=(0.3, 1.0))
            own = {n: scale * (0.5 + abs(x)) if n[0] == "w" else x for n, x in own.items()}
            model.set_parameters(own)
            found = tap_magnetizations(model, visible=v, order=order, tolerance=1e-11)
            errors.append(np.abs(host(found.free_energy) - exact_free_energy(own, kinds, v)).mean())
        assert abs(np.log2(errors[1] / errors[0]) - order - 1) < 0.4


@all_kinds
@orders
def test_log_likelihood_errs_as_its_two_free_energies(xp, kinds, order):
    model, own = tap_machine(xp, kinds, scale=0.1)
    v = np.tile(joint_states(kinds)[0][:: 2**6], (2, 1))
    how = {"order": order, "tolerance": 1e-9, "rng": Generator(1)}
    got = tap_log_likelihood(model, xp.asarray(v), **how)
    exact = -exact_free_energy(own, kinds, v).mean() - exact_log_z(own, kinds)
    assert got == pytest.approx(exact, abs=2e-3 if order == 2 else 2e-4)
    log_z = tap_log_partition(model, **how)
    if len(kinds) == 2:
        expected = -exact_free_energy(own, kinds, v).mean() - log_z
        assert got == pytest.approx(expected, abs=1e-12)


def test_log_likelihood_sums_out_the_hidden_units_block_by_block(monkeypatch):
    model, _ = tap_machine(np, DEEP[0])
    v = joint_states(DEEP[0])[0][::300]
    how = {"n_random": 1, "tolerance": 1e-10}
    whole = tap_log_likelihood(model, v, rng=Generator(1), **how)
    monkeypatch.setattr("gpugrad.boltzmann.tap.ROWS_AT_ONCE", 3)
    assert tap_log_likelihood(model, v, rng=Generator(1), **how) == pytest.approx(whole, abs=1e-9)


# ---- what is refused


def test_no_converged_row_is_an_error_that_says_what_to_do():
    model, _ = strong_machine(np, TWO[0])
    message = "none of 5 rows converged in 2 sweeps .* method='descent'"
    with pytest.raises(ConvergenceError, match=message):
        tap_log_partition(model, n_random=5, max_steps=2, rng=Generator(1))
    deep, _ = strong_machine(np, DEEP[1])
    seeds = tap_magnetizations(
        deep, n_random=3, method="descent", tolerance=1e-10, rng=Generator(1)
    )
    with pytest.raises(ConvergenceError, match="3 of 3 samples did not converge in 1 sweeps"):
        tap_log_likelihood(deep, np.eye(3), seeds, method="descent", max_steps=1, tolerance=1e-6)


def test_a_machine_that_is_not_finite_has_no_converged_row():
    model, _ = tap_machine(np, TWO[0])
    model.layers[0].params.loc[0] = np.nan
    found = tap_magnetizations(model, max_steps=20)
    assert not found.converged.any() and found.steps == 10  # more sweeps would not help
    minima = found.distinct()
    assert not len(minima.free_energy)
    for result, rows in ((found, 10), (minima, 0)):
        with pytest.raises(ConvergenceError, match=f"log_partition: none of {rows} rows converged"):
            result.log_partition()


def test_seeds_that_are_not_finite_are_refused():
    units = [m.copy() for m in UNITS]
    units[1][0, 0] = np.nan
    with pytest.raises(ParameterError, match="seed of layer 1 has NaN or infinite values"):
        tap_magnetizations(MODEL, units)


MODEL = tap_machine(np, TWO[0])[0]
UNITS = means(np, TWO[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: tap_magnetizations(RBM(3, 2, visible="gaussian", device="cpu")),
            "tap_magnetizations: layer 0 has gaussian units, expected Bernoulli or Ising",
        ),
        (lambda: tap_free_energy(MODEL, UNITS, order=4), "tap_free_energy: order is 4, expected"),
        (lambda: tap_free_energy(MODEL, UNITS[:1]), r"are \[\(3, 5\)\], expected \[\(3, 5\), \("),
        (lambda: tap_gradient(MODEL, UNITS[::-1]), r"tap_gradient: magnetizations are \[\(3, 4\)"),
        (lambda: tap_derivatives(MODEL, [UNITS[0], UNITS[1][:2]]), r"\(2, 4\)\], expected"),
        (lambda: tap_derivatives(MODEL, [UNITS[0][0], UNITS[1]]), r"\(5,\), \(3, 4\)\], expected"),
        (lambda: tap_magnetizations(MODEL, UNITS[:1]), r"magnetizations are \[\(3, 5\)\]"),
        (lambda: tap_magnetizations(MODEL, method="newton"), "method is 'newton', expected one of"),
        (lambda: tap_magnetizations(MODEL, damping=1.0), r"damping is 1.0, expected .* \[0, 1\)"),
        (lambda: tap_magnetizations(MODEL, tolerance=0), "tolerance is 0, expected a number above"),
        (lambda: tap_magnetizations(MODEL, eps=0.5), r"eps is 0.5, expected a number in \(0, 0.5"),
        (lambda: tap_magnetizations(MODEL, max_steps=0), "max_steps is 0, expected an integer"),
        (lambda: tap_magnetizations(MODEL, check_every=0.5), "check_every is 0.5, expected"),
        (lambda: tap_magnetizations(MODEL, n_random=0), "n_random is 0, expected an integer"),
        (lambda: tap_magnetizations(MODEL, UNITS, n_random=-1), "n_random is -1, expected"),
        (lambda: tap_magnetizations(MODEL, rng=3), "rng is 3, expected a Generator"),
        (lambda: tap_magnetizations(MODEL, UNITS, visible=np.eye(5)), "visible is given, expected"),
        (lambda: tap_magnetizations(MODEL, max_steps=1).distinct(0), "distinct: tolerance is 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def test_couplings_inside_a_layer_are_refused():
    layers = [get("ising")(3, device="cpu"), get("ising")(2, device="cpu")]
    machine = BoltzmannMachine(layers, lateral={0: 1 - np.eye(3)}, device="cpu")
    for call in (tap_magnetizations, lambda m: tap_log_likelihood(m, np.ones((1, 3)))):
        with pytest.raises(ParameterError, match="couplings inside a layer, expected none"):
            call(machine)


def test_data_that_are_no_states_are_named():
    with pytest.raises(DataError, match=r"tap_magnetizations: data lies in \[0, 2\]"):
        tap_magnetizations(MODEL, visible=2 * np.eye(5))
    with pytest.raises(DataError, match="tap_log_likelihood: data has values between 0 and 1"):
        tap_log_likelihood(MODEL, np.eye(5) / 2)


def test_rows_that_did_not_converge_have_no_part_in_log_z():
    free_energy, residual = np.array([-9.0, -3.0, -4.0]), np.array([1.0, 0.0, 0.0])
    found = TapResult((np.zeros((3, 2)),) * 2, free_energy, residual, residual < 0.5, 7)
    assert found.log_partition() == 4.0


def test_the_residual_is_the_largest_change_of_any_layer():
    model = RBM(3, 2, dtype="float64", device="cpu", rng=Generator(0))
    draw = np.random.default_rng(1)
    units = [draw.uniform(0.2, 0.8, (30, n)) for n in (3, 2)]
    changes = []
    for m, slope in zip(units, tap_gradient(model, units), strict=True):
        # the slope is the unit's own field less the one that the others send
        fresh = 1 / (1 + np.exp(slope - np.log(m / (1 - m))))
        changes.append(np.abs(fresh - m).max(axis=1))
    np.testing.assert_allclose(TapSweeps(model, units).residual(), np.maximum(*changes), atol=1e-12)
    assert 0 < (changes[0] > changes[1]).sum() < 30
