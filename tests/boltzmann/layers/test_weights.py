"""The couplings between two layers."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers import Weights
from gpugrad.errors import ParameterError

from ..machines import device_like, host


def weights_with(xp, matrix):
    weights = Weights(matrix.shape, scale=0, dtype="float64", device=device_like(xp))
    weights.set_params({"matrix": matrix})
    return weights


def test_energy_is_minus_the_sum_over_couplings(xp):
    draw = np.random.default_rng(0)
    matrix, v, h = draw.normal(size=(3, 2)), draw.normal(size=(4, 3)), draw.normal(size=(4, 2))
    expected = [
        -sum(v[k, i] * matrix[i, j] * h[k, j] for i in range(3) for j in range(2)) for k in range(4)
    ]
    got = weights_with(xp, matrix).energy(xp.asarray(v), xp.asarray(h))
    np.testing.assert_allclose(host(got), expected, atol=1e-14)


def test_derivatives_are_those_of_the_mean_energy(xp):
    draw = np.random.default_rng(1)
    v, h = draw.normal(size=(4, 3)), draw.normal(size=(4, 2))
    got = weights_with(xp, np.zeros((3, 2))).derivatives(xp.asarray(v), xp.asarray(h)).matrix
    for i in range(3):
        for j in range(2):
            unit = np.zeros((3, 2))
            unit[i, j] = 1  # the energy is linear in the matrix
            slope = host(weights_with(xp, unit).energy(xp.asarray(v), xp.asarray(h))).mean()
            assert host(got)[i, j] == pytest.approx(slope, abs=1e-14)


def test_weighted_derivatives_equal_those_of_repeated_samples(xp):
    draw = np.random.default_rng(2)
    v, h = draw.normal(size=(3, 2)), draw.normal(size=(3, 2))
    weights, twice = weights_with(xp, np.zeros((2, 2))), [0, 0, 1, 2]
    weighted = weights.derivatives(
        xp.asarray(v), xp.asarray(h), sample_weight=xp.asarray([0.5, 0.25, 0.25])
    )
    repeated = weights.derivatives(xp.asarray(v[twice]), xp.asarray(h[twice]))
    np.testing.assert_allclose(host(weighted.matrix), host(repeated.matrix), atol=1e-15)


def test_derivatives_are_written_into_out(xp):
    out = xp.empty((2, 2))
    weights = weights_with(xp, np.zeros((2, 2)))
    got = weights.derivatives(xp.ones((4, 2)), xp.ones((4, 2)), out=out)
    assert got.matrix is out
    np.testing.assert_array_equal(host(out), -np.ones((2, 2)))


def test_transpose_is_a_view_of_the_matrix(xp):
    weights = weights_with(xp, np.arange(6.0).reshape(2, 3))
    weights.W()[0, 2] = 9
    np.testing.assert_array_equal(host(weights.W_T()), [[0, 3], [1, 4], [9, 5]])


def test_one_seed_starts_the_same_weights_on_every_device(xp):
    here = Weights((4, 3), rng=Generator(3), device=device_like(xp))
    on_host = Weights((4, 3), rng=Generator(3), device="cpu")
    np.testing.assert_array_equal(host(here.W()), on_host.W())


def test_start_values_have_the_standard_deviation_asked_for():
    """40,000 normal numbers: the deviation from 0.5 is normal with sd 0.0018; six of them, 2e-9."""
    matrix = Weights((200, 200), scale=0.5, rng=Generator(4), dtype="float64", device="cpu").W()
    assert abs(matrix.std() - 0.5) < 6 * 0.5 / np.sqrt(2 * matrix.size)
    assert abs(matrix.mean()) < 6 * 0.5 / np.sqrt(matrix.size)


@pytest.mark.parametrize("shape", [(3,), (3, 0), (2, 3, 4), (2.0, 3)])
def test_a_shape_that_is_not_two_sizes_is_refused(shape):
    with pytest.raises(ParameterError, match="Weights: shape"):
        Weights(shape)
