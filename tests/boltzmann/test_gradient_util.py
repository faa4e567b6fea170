"""Functions over all entries of a gradient."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import gradient_util as gu

from .machines import host, small_machine


def gradient(xp, seed=0):
    model, _ = small_machine(xp)
    draw = np.random.default_rng(seed)
    return gu.grad_apply(lambda p: xp.asarray(draw.normal(size=p.shape)), model.params())


def flat(grad):
    return np.concatenate([host(a).ravel() for _, a in gu.named_arrays(grad)])


def test_structure_is_that_of_the_parameters(xp):
    model, _ = small_machine(xp)
    assert [n for n, _ in gu.named_arrays(gu.zero_grad(model))] == list(model.parameters())
    assert gu.null_grad(model) == gu.Gradient([[], []], [[]])
    zeros = gu.zero_grad(model)
    assert not flat(zeros).any()
    for (_, z), p in zip(gu.named_arrays(zeros), model.parameters().values(), strict=True):
        assert (z.shape, z.dtype, type(z)) == (p.shape, p.dtype, type(p))


def test_random_gradient_is_uniform(xp):
    model, _ = small_machine(xp)
    drawn = flat(gu.random_grad(model, rng=Generator(0)))
    assert drawn.size == 4 + 3 + 12 == np.unique(drawn).size
    assert 0 <= drawn.min() and drawn.max() < 1


def test_apply_and_mapzip_reach_every_entry(xp):
    g, f = gradient(xp, 1), gradient(xp, 2)
    np.testing.assert_array_equal(flat(gu.grad_apply(lambda a: 2 * a, g)), 2 * flat(g))
    np.testing.assert_array_equal(flat(gu.grad_mapzip(lambda a, b: a - b, g, f)), flat(g) - flat(f))


def test_functions_in_place_change_the_arrays_they_are_given(xp):
    g, f = gradient(xp, 1), gradient(xp, 2)
    before, arrays = flat(g), [a for _, a in gu.named_arrays(g)]

    def double_(a):
        a *= 2

    def add_(a, b):
        a += b

    assert gu.grad_apply_(double_, g) is None
    assert gu.grad_mapzip_(add_, g, f) is None
    np.testing.assert_array_equal(flat(g), 2 * before + flat(f))
    assert all(a is b for a, (_, b) in zip(arrays, gu.named_arrays(g), strict=True))


def test_sums_run_over_every_layer_and_every_weight(xp):
    g = gradient(xp)
    values = flat(g)
    np.testing.assert_array_equal(host(gu.grad_flatten(g)), values)
    assert float(gu.grad_accumulate(lambda a: a.sum(), g)) == pytest.approx(values.sum())
    assert float(gu.grad_norm(g)) == pytest.approx(np.linalg.norm(values))
    assert float(gu.grad_rms(g)) == pytest.approx(np.sqrt(np.mean(values**2)))
    assert gu.grad_magnitude is gu.grad_rms


def test_normalised_gradient_has_norm_one(xp):
    g = gradient(xp)
    direction = flat(g) / np.linalg.norm(flat(g))
    gu.grad_normalize_(g)
    np.testing.assert_allclose(flat(g), direction, atol=1e-15)


def test_normalising_zeros_leaves_zeros(xp):
    model, _ = small_machine(xp)
    zeros = gu.zero_grad(model)
    gu.grad_normalize_(zeros)
    assert not flat(zeros).any()


def test_mapzip_refuses_gradients_of_different_machines(xp):
    g = gradient(xp)
    with pytest.raises(ValueError):
        gu.grad_mapzip(lambda a, b: a, g, gu.Gradient(g.layers[:1], g.weights))
