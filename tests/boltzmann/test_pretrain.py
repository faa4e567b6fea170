"""Greedy pre-training against machines with explicit copies, enumerated."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.communicator import Serial
from gpugrad.boltzmann.constraints import non_positive
from gpugrad.boltzmann.layers import BernoulliLayer, IsingLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.pretrain import compose, modules, pretrain
from gpugrad.boltzmann.progress_file import ProgressFile
from gpugrad.boltzmann.state import State
from gpugrad.errors import DataError, DivergenceError, ParameterError
from tests.chance import deviates, normal_limit

from .enumeration import Enumerated
from .joint import joint_machine
from .machines import device_like, host


def deep_machine(xp, seed=0, sizes=(3, 2, 2, 2)):
    kinds = [BernoulliLayer, IsingLayer, BernoulliLayer, IsingLayer][: len(sizes)]
    layers = [
        kind(n, dtype="float64", device=device_like(xp))
        for kind, n in zip(kinds, sizes, strict=True)
    ]
    model = BoltzmannMachine(layers, dtype="float64", device=device_like(xp))
    draw = np.random.default_rng(seed)
    model.set_parameters(
        {k: 0.6 * draw.normal(size=p.shape) for k, p in model.parameters().items()}
    )
    return model


def with_copies(part):
    """The machine of a module, every copy a unit of its own, enumerated."""
    below, above = part.copies
    W = np.tile(host(part.W), (below, above))
    a, b = (np.tile(host(x.params.loc), n) for x, n in zip(part.layers, part.copies, strict=True))
    return Enumerated(W, a, b, *(x.layer_type for x in part.layers))


def test_bottom_top_and_middle_have_the_copies_of_the_paper():
    assert [part.copies for part in modules(deep_machine(np))] == [(2, 1), (2, 2), (1, 2)]
    assert [p.copies for p in modules(deep_machine(np, sizes=(3, 2, 2)))] == [(2, 1), (1, 2)]
    assert [p.copies for p in modules(deep_machine(np, sizes=(3, 2)))] == [(1, 1)]


def test_a_module_is_the_machine_with_tied_copies(xp):
    """Conditional means of both sides of each module."""
    for part in modules(deep_machine(xp)):
        exact = with_copies(part)
        below, above = part.copies
        v = [xp.asarray(x) for x in np.split(exact.v, below, axis=1)]
        h = [xp.asarray(x) for x in np.split(exact.h, above, axis=1)]
        up = np.concatenate([host(x) for x in part.mean(1, v)], axis=1)
        down = np.concatenate([host(x) for x in part.mean(0, h)], axis=1)
        np.testing.assert_allclose(up, exact.hidden_given(exact.v) @ exact.h, atol=1e-13)
        np.testing.assert_allclose(down, exact.visible_given(exact.h) @ exact.v, atol=1e-13)


def test_derivatives_are_slopes_of_the_copied_machine(xp):
    """Of the mean energy in a parameter that all copies share, per copy (W: per pair)."""
    for part in modules(deep_machine(xp)):
        exact = with_copies(part)
        below, above = part.copies
        rows = np.random.default_rng(0).integers(0, [[len(exact.v)], [len(exact.h)]], (2, 6))
        v, h = exact.v[rows[0]], exact.h[rows[1]]
        got = part.derivatives(
            [xp.asarray(x) for x in np.split(v, below, axis=1)],
            [xp.asarray(x) for x in np.split(h, above, axis=1)],
        )
        counts = {"lower.loc": below, "upper.loc": above, "W": below * above}
        parameters = part.parameters()
        assert set(got) == set(parameters) == set(counts)
        for name, p in parameters.items():
            for index in np.ndindex(p.shape):
                energies = []
                for shift in (0.5, -1.0):
                    p[index] += shift
                    twin = with_copies(part)
                    energies.append(np.mean([twin.energy(x, y) for x, y in zip(v, h, strict=True)]))
                p[index] += 0.5
                slope = (energies[0] - energies[1]) / counts[name]
                assert host(got[name])[index] == pytest.approx(slope, abs=1e-12), name


def test_contrastive_divergence_has_the_expected_gradient():
    """Means over 20,000 chains of CD-1 of W's gradient against enumeration; false alarm 1e-7."""
    for part in modules(deep_machine(np)):
        exact = with_copies(part)
        below, above = part.copies
        one = exact.v[-1, : exact.v.shape[1] // below]
        clamped = np.tile(one, below)
        start = (exact.v == clamped).all(axis=1)
        after = exact.sweep_matrix()[start][0]
        up = exact.hidden_given(exact.v) @ exact.h

        def product(v, h, below=below, above=above):
            v, h = (sum(np.split(x, n)) for x, n in ((v, below), (h, above)))
            return np.outer(v, h) / (below * above)

        positive = product(clamped, up[start][0])
        negative = sum(p * product(v, h) for p, v, h in zip(after, exact.v, up, strict=True))
        rng = Generator(4)
        found = np.array(
            [part.gradient(np.tile(one, (20, 1)), rng, 1)["W"].ravel() for _ in range(1000)]
        )
        expected = (negative - positive).ravel()
        varying = found.std(axis=0) > 0
        z = deviates(found[:, varying], expected[varying])
        assert z.max() < normal_limit(z.size, 1e-7 / 3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_k_sweeps_draw_both_sides_in_turn(k, monkeypatch):
    part = modules(deep_machine(np))[1]
    sides, draw = [], part.draw
    monkeypatch.setattr(part, "draw", lambda side, *rest: sides.append(side) or draw(side, *rest))
    part.gradient(np.zeros((4, part.layers[0].num_units)), Generator(0), k)
    assert sides == [1, 0] * k


def test_a_module_is_trained_on_the_means_of_the_one_below():
    """At a rate at which nothing moves: means up, from both copies, and a reconstruction of them.

    The copies of the bottom and of the top layer, two each, send two times their field.
    """
    model = deep_machine(np, sizes=(3, 2, 2))
    v = np.random.default_rng(0).integers(0, 2, (6, 3)).astype(float)
    below, above = modules(model)
    first = below.mean(1, [v, v])[0]
    again = above.mean(0, above.mean(1, [first]))[0]
    expected = ((first - again) ** 2).mean()
    history = pretrain(model, v, rng=Generator(0), epochs=1, learning_rate=1e-12, start=False)
    assert history[1][0] == pytest.approx(expected, rel=1e-9)


def test_a_composed_layer_hears_the_mean_of_its_modules(xp):
    model = deep_machine(xp)
    parts = modules(model)
    draw = np.random.default_rng(3)
    for part in parts:
        for p in part.parameters().values():
            p[...] = xp.asarray(draw.normal(size=p.shape))
    compose(model, parts)
    state = [draw.random((4, x.num_units)) for x in model.layers]
    there = State(tuple(xp.asarray(x) for x in state))
    for i in (1, 2):
        below = 2 * state[i - 1] @ host(parts[i - 1].W) + host(parts[i - 1].layers[1].params.loc)
        above = 2 * state[i + 1] @ host(parts[i].W).T + host(parts[i].layers[0].params.loc)
        got = host(model.layers[i].params.loc + model.field(i, there))
        np.testing.assert_allclose(got, (below + above) / 2, atol=1e-13)
    for i, part, side in ((0, parts[0], 0), (3, parts[2], 1)):
        got = host(model.layers[i].params.loc + model.field(i, there))
        neighbour = there[1] if side == 0 else there[2]
        expected = part.layers[side].params.loc + part.field(side, [neighbour])
        np.testing.assert_allclose(got, host(expected), atol=1e-13)


def bars(n):
    """Four patterns of six bits, and noise: every bit flipped with probability 0.02."""
    draw = np.random.default_rng(1)
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0], [1] * 6])
    v = patterns[draw.integers(0, 4, n)]
    return np.where(draw.random(v.shape) < 0.02, 1 - v, v).astype("float64")


def test_a_pretrained_machine_beats_independent_units_on_its_exact_likelihood():
    """log p(v) of the deep machine, all joint states summed, against the entropy of the pixels."""
    v = bars(400)
    model, _ = joint_machine(np, ("bernoulli",) * 3, (6, 4, 3))
    errors = pretrain(model, v, rng=Generator(0), epochs=40, batch_size=20, learning_rate=0.2, k=1)
    assert [len(e) for e in errors] == [40, 40]
    _, exact = joint_machine(np, ("bernoulli",) * 3, (6, 4, 3))
    twin = type(exact)(exact.kinds, exact.sizes, model.parameters())
    rows, counts = np.unique(v, axis=0, return_counts=True)
    log_p = np.array([twin.log_sum(layer_0=row) for row in rows]) - twin.log_z()
    p = np.clip(v.mean(axis=0), 1e-9, 1 - 1e-9)
    independent = (p * np.log(p) + (1 - p) * np.log1p(-p)).sum()
    assert counts @ log_p / counts.sum() > independent + 0.5


def test_two_layers_are_trained_by_plain_contrastive_divergence():
    model = BoltzmannMachine([BernoulliLayer(6), BernoulliLayer(4)], device="cpu")
    (errors,) = pretrain(
        model, bars(200), rng=Generator(0), epochs=40, batch_size=10, learning_rate=0.2
    )
    # of all linear maps of the bits to one number and back, none leaves less (principal axis)
    centred = bars(200) - bars(200).mean(axis=0)
    rest = np.linalg.svd(centred, compute_uv=False)[1:] ** 2
    assert errors[-1] < errors[0] / 2
    assert errors[-1] < rest.sum() / centred.size


def test_the_same_seed_gives_the_same_machine(xp):
    found = []
    for _ in range(2):
        model = deep_machine(xp, sizes=(6, 2, 2))
        pretrain(model, xp.asarray(bars(30)), rng=Generator(5), epochs=2, batch_size=7)
        found.append({k: host(p).copy() for k, p in model.parameters().items()})
    for name, p in found[0].items():
        np.testing.assert_array_equal(p, found[1][name])


def test_constraints_hold_after_pretraining():
    model = deep_machine(np, sizes=(6, 2, 2))
    model.weights[0].add_constraint({"matrix": non_positive})
    pretrain(model, bars(30), rng=Generator(5), epochs=2, batch_size=7)
    assert (model.weights[0].W() <= 0).all() and (model.weights[1].W() > 0).any()


def test_no_rank_writes_the_file_before_all_have_read_it(tmp_path, monkeypatch):
    events = []

    class Link(Serial):
        def any(self, flag):
            events.append("all are here")
            return super().any(flag)

    read, save = ProgressFile.__init__, ProgressFile.save
    monkeypatch.setattr(
        ProgressFile, "__init__", lambda self, *x: events.append("read") or read(self, *x)
    )
    monkeypatch.setattr(
        ProgressFile, "save", lambda self, *x: events.append("write") or save(self, *x)
    )
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    model = deep_machine(np, sizes=(6, 2, 2))
    how = {"checkpoint": tmp_path / "c", "communicator": Link()}
    pretrain(model, bars(30), rng=Generator(5), epochs=2, batch_size=7, **how)
    assert events == ["read", "all are here"] + ["write"] * 4


def test_bad_input_is_named():
    flat, _ = joint_machine(np, ("ising",), (3,), (0,))
    with pytest.raises(ParameterError, match="expected two or more layers without lateral"):
        pretrain(flat, np.ones((2, 3)))
    model = deep_machine(np)
    with pytest.raises(DataError, match=r"pretrain: data has shape \(2, 5\)"):
        pretrain(model, np.ones((2, 5)))
    with pytest.raises(ParameterError, match="pretrain: epochs is 0"):
        pretrain(model, np.ones((2, 3)), epochs=0)
    with pytest.raises(ParameterError, match="learning_rate is -1"):
        pretrain(model, np.ones((2, 3)), learning_rate=-1)
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergenceError, match=r"of module 0 after epoch \d is not finite"),
    ):
        pretrain(model, np.eye(3), rng=Generator(0), learning_rate=1e308, epochs=5)
