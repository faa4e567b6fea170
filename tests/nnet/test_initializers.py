"""Initial weights: mygrad's numbers after mygrad's seed, devices, generators, errors."""

from __future__ import annotations

from typing import Any

import mygrad as mg
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.backend.rng import Generator
from gpugrad.nnet import initializers
from tests.nnet.against_mygrad import THEIRS, assert_same_error

CALLS: dict[str, Any] = {
    "uniform": lambda m, **o: m.uniform(3, 4, **o),
    "uniform, one length": lambda m, **o: m.uniform(5, **o),
    "uniform, tuple": lambda m, **o: m.uniform((2, 3), lower_bound=-2, upper_bound=0.5, **o),
    "uniform, bounds are arrays": lambda m, **o: m.uniform(3, lower_bound=np.array(-1.0), **o),
    "normal": lambda m, **o: m.normal(3, 4, **o),
    "normal, parameters": lambda m, **o: m.normal((3,), mean=2, std=0.1, **o),
    "normal, std 0": lambda m, **o: m.normal(3, 4, mean=1, std=0, **o),
    "normal, float16": lambda m, **o: m.normal(3, dtype="float16", **o),
    "glorot_uniform": lambda m, **o: m.glorot_uniform(3, 4, **o),
    "glorot_uniform, images": lambda m, **o: m.glorot_uniform(2, 3, 4, 5, gain=1.5, **o),
    "glorot_normal": lambda m, **o: m.glorot_normal((3, 4), gain=2, **o),
    "glorot_normal, images": lambda m, **o: m.glorot_normal(2, 3, 4, 5, dtype=float, **o),
    "he_normal": lambda m, **o: m.he_normal(3, 4, **o),
    "he_normal, images": lambda m, **o: m.he_normal((2, 3, 4, 5), gain=0.5, **o),
    "he_uniform": lambda m, **o: m.he_uniform(3, 4, **o),
    "he_uniform, images": lambda m, **o: m.he_uniform(2, 3, 4, 5, gain=3, dtype=float, **o),
    "dirac": lambda m, **o: m.dirac(3, 4, **o),
    "dirac, images": lambda m, **o: m.dirac((3, 2, 3, 4), **o),
    "constant": lambda m, **o: m.constant(2, 3, **o),
    "constant, value": lambda m, **o: m.constant((2, 3), value=7.5, dtype=np.float32, **o),
    "identity": lambda m, **o: m.identity(3, **o),
}
RANDOM = [n for n in CALLS if not n.startswith(("dirac", "constant", "identity"))]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("constant", [None, True, False])
def test_after_the_same_seed_the_numbers_are_mygrads(name: str, constant: bool | None):
    mg.random.seed(5)
    expected = [CALLS[name](THEIRS, constant=constant) for _ in range(2)]
    gg.random.seed(5)
    found = [CALLS[name](initializers, constant=constant) for _ in range(2)]
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype and a.constant == b.constant
        np.testing.assert_array_equal(a.data, b.data)


def test_gain_may_be_a_tensor():
    gg.random.seed(0)
    x = initializers.glorot_normal(3, 4, gain=gg.tensor(2.0))
    gg.random.seed(0)
    np.testing.assert_array_equal(x.data, initializers.glorot_normal(3, 4, gain=2).data)


@pytest.mark.parametrize("name", CALLS)
def test_tensors_are_made_where_they_are_wanted(name: str, device: str):
    x = CALLS[name](initializers, device=device)
    assert x.device.kind == device
    assert x.shape == CALLS[name](initializers, device="cpu").shape
    with gg.use_device(device):
        assert CALLS[name](initializers).device.kind == device


def test_distributions_are_those_of_the_formulas(device: str):
    # n numbers: the mean of a normal sample is off by more than 5 / sqrt(n) once in 1.7 million
    n, shape = 120_000, (100, 50, 4, 6)
    scales = {
        "uniform": (1 / 2, 1 / np.sqrt(12)),
        "normal": (0, 1),
        "glorot_uniform": (0, np.sqrt(2 / (150 * 24))),
        "glorot_normal": (0, np.sqrt(2 / (150 * 6))),
        "he_normal": (0, 1 / np.sqrt(50 * 24)),
        "he_uniform": (0, np.sqrt(50 / 3 / 24) / np.sqrt(3)),
    }
    gg.random.seed(1)
    for name, (mean, std) in scales.items():
        x = gg.asnumpy(getattr(initializers, name)(*shape, dtype=float, device=device))
        standard = (x - mean) / std
        assert abs(standard.mean()) < 5 / np.sqrt(n), name
        assert abs((standard**2).mean() - 1) < 5 * np.sqrt(2 / n), name
        if "uniform" in name:
            assert np.abs(standard).max() <= np.sqrt(3) * (1 + 1e-12), name


@pytest.mark.parametrize("name", RANDOM)
def test_generator_takes_the_place_of_the_global_ones(name: str):
    for make in (np.random.default_rng, np.random.RandomState, Generator):
        before = np.random.get_state()[2]
        a, b = (CALLS[name](initializers, rng=make(3)) for _ in range(2))
        np.testing.assert_array_equal(a.data, b.data)
        assert np.random.get_state()[2] == before


def test_our_generator_gives_the_same_numbers_on_all_devices(cupy_standin: Any):
    for name in RANDOM:
        a, b = (CALLS[name](initializers, rng=Generator(3), device=d) for d in ("cpu", "cuda"))
        np.testing.assert_array_equal(a.data, gg.asnumpy(b))


def test_numpys_generator_cannot_draw_on_a_gpu(cupy_standin: Any):
    with pytest.raises(ValueError, match=r"uniform: rng is Generator, expected a gpugrad"):
        initializers.uniform(3, device="cuda", rng=np.random.default_rng(0))


def test_weights_are_leaves_that_may_be_trained():
    w = initializers.he_normal(2, 3)
    (w * w).sum().backward()
    np.testing.assert_allclose(w.grad, 2 * w.data)
    w.data -= 0.1 * w.grad
    assert w.data.flags.writeable and w.data.base is None


def test_dirac_filters_give_back_their_channels():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
    w = initializers.dirac(4, 3, 3, 3, dtype=float)
    y = gg.nnet.conv_nd(gg.tensor(x), w, stride=1, padding=1)
    np.testing.assert_array_equal(y.data[:, :3], x)
    np.testing.assert_array_equal(y.data[:, 3], 0)


@pytest.mark.parametrize(
    "name", [*dict.fromkeys(n.split(",")[0] for n in RANDOM), "dirac", "constant"]
)
def test_lengths_are_integers_of_at_least_zero(name: str):
    make = getattr(initializers, name)
    with pytest.raises(
        ValueError, match=rf"^{name}: shape \(-3, 2\), expected lengths of at least"
    ):
        make(-3, 2)
    with pytest.raises(TypeError, match=rf"^{name}: shape \('a', 3\), expected integers"):
        make("a", 3)
    with pytest.raises(TypeError, match=rf"^{name}: shape \(2.5, 3\), expected integers"):
        make((2.5, 3))


FLOATS_ONLY = ("uniform", "normal", "glorot_uniform", "glorot_normal", "he_normal", "he_uniform")


@pytest.mark.parametrize("name", FLOATS_ONLY)
@pytest.mark.parametrize("dtype", [int, bool, "int8", np.uint64, complex])
def test_only_floats_are_drawn(name: str, dtype: Any):
    def call(m: Any) -> Any:
        return getattr(m, name)(2, 3, dtype=dtype)

    assert_same_error(lambda m: call(initializers if m is not THEIRS else m), name)


@pytest.mark.parametrize("name", ["dirac", *FLOATS_ONLY[2:]])
@pytest.mark.parametrize("shape", [(), ((3,),)])
def test_weights_have_two_axes_at_least(name: str, shape: tuple[Any, ...]):
    def call(m: Any) -> Any:
        return getattr(initializers if m is not THEIRS else m, name)(*shape)

    assert_same_error(call, name)


@pytest.mark.parametrize(
    "function, call",
    [
        ("uniform", lambda m: m.uniform(2, lower_bound=1, upper_bound=1)),
        ("uniform", lambda m: m.uniform(2, lower_bound=2, upper_bound=1)),
        ("normal", lambda m: m.normal(2, std=-1)),
    ],
)
def test_parameters_out_of_range_raise_what_mygrad_raises(function: str, call: Any):
    assert_same_error(lambda m: call(initializers if m is not THEIRS else m), function)


def test_a_deviation_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="std is nan"):
        gg.nnet.initializers.normal(2, std=float("nan"))
