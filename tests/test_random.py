"""Random tensors: NumPy's legacy stream on the host, the project's own on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

import gpugrad as gg
from gpugrad import random
from gpugrad.backend import rng
from gpugrad.errors import ParameterError
from tests.chance import assert_frequencies
from tests.fresh_python import output_of

# name, arguments -> what numpy.random is asked for
DRAWS = {
    "rand": (random.rand, (2, 3), lambda: np.random.rand(2, 3)),
    "rand of no dimension": (random.rand, (), lambda: np.random.rand()),
    "randn": (random.randn, (4,), lambda: np.random.randn(4)),
    "randn of no dimension": (random.randn, (), lambda: np.random.randn()),
    "random": (random.random, ((2, 2),), lambda: np.random.random((2, 2))),
    "random_sample": (random.random_sample, (3,), lambda: np.random.random_sample(3)),
    "ranf": (random.ranf, ((1, 3),), lambda: np.random.random_sample((1, 3))),
    "sample": (random.sample, (), lambda: np.random.random_sample()),
    "randint": (random.randint, (3, 9, (2, 5)), lambda: np.random.randint(3, 9, (2, 5))),
    "randint below": (random.randint, (7,), lambda: np.random.randint(7)),
    "randint of arrays": (
        random.randint,
        ([1, 5], [[9], [8]]),
        lambda: np.random.randint([1, 5], [[9], [8]]),
    ),
    "randint as int8": (
        random.randint,
        (-5, 5, 4, np.int8),
        lambda: np.random.randint(-5, 5, 4, np.int8),
    ),
}


@pytest.fixture(autouse=True)
def _numpys_state_is_restored():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_numpys_for_the_same_seed(name):
    f, args, numpys = DRAWS[name]
    for seed in (0, 2**32 - 1, [3, 1, 4]):
        random.seed(seed)
        first, second = f(*args), f(*args)
        np.random.seed(seed)
        for ours in (first, second):
            expected = np.asarray(numpys())
            assert isinstance(ours, gg.Tensor)
            assert ours.dtype == expected.dtype and ours.shape == expected.shape
            assert np.array_equal(ours.data, expected)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_mygrads_for_the_same_seed(name):
    mygrad_random = pytest.importorskip("mygrad").random
    f, args, _ = DRAWS[name]
    random.seed(11)
    ours = f(*args)
    mygrad_random.seed(11)
    theirs = getattr(mygrad_random, f.__name__)(*args)
    assert np.array_equal(ours.data, theirs.data)
    assert (ours.dtype, ours.constant) == (theirs.dtype, theirs.constant)


def test_floats_take_gradients_unless_constant():
    assert not random.rand(2).constant and not random.randn(2).constant
    assert random.rand(2, constant=True).constant and random.random(2, constant=True).constant
    assert random.randint(5).constant
    x = random.rand(3)
    (x * x).backward()
    assert np.array_equal(x.grad, 2 * x.data)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda m: m.rand(-1), ValueError),
        (lambda m: m.rand(1.5), TypeError),
        (lambda m: m.random((2, -1)), ValueError),
        (lambda m: m.randint(5, 5), ValueError),
        (lambda m: m.randint(0, 300, 2, np.int8), ValueError),
        (lambda m: m.seed(-1), ValueError),
        (lambda m: m.seed("a"), TypeError),
    ],
)
def test_faults_are_those_of_numpy(call, kind):
    mygrad_random = pytest.importorskip("mygrad").random
    for module in (mygrad_random, random):
        with pytest.raises(kind):
            call(module)


def test_seed_of_none_is_not_reproducible():
    random.seed(None)
    first = random.random(4)
    random.seed(None)
    assert not np.array_equal(first.data, random.random(4).data)


def test_seed_starts_the_generator_of_gpus_too():
    random.seed(5)
    key = rng.default_generator().key
    assert key == rng.Generator(5).key
    random.seed(np.array([5, 6]))
    assert rng.default_generator().key == rng.Generator([5, 6]).key


class TestOnADevice:
    def test_shape_dtype_and_place(self, xp, device):
        random.seed(1)
        for x in (random.rand(2, 3, device=device), random.random((2, 3), device=device)):
            assert isinstance(x.data, xp.ndarray) and x.shape == (2, 3) and x.dtype == np.float64
        assert random.randn(device=device).shape == ()
        assert random.randint(3, device=device).dtype == np.int64
        assert random.randint(2, shape=2, dtype=bool, device=device).dtype == bool

    def test_seed_replays(self, device):
        random.seed(1)
        first = [random.rand(7, device=device), random.randint(9, shape=7, device=device)]
        random.seed(1)
        again = [random.rand(7, device=device), random.randint(9, shape=7, device=device)]
        for a, b in zip(first, again, strict=True):
            assert np.array_equal(gg.asnumpy(a), gg.asnumpy(b))

    def test_one_bound_is_the_upper_one(self, device):
        x = gg.asnumpy(random.randint(3, shape=200, device=device))
        assert set(x.tolist()) == {0, 1, 2}

    def test_bounds_beyond_the_dtype_are_refused(self, device):
        for high, dtype in ((3, bool), (257, np.uint8)):
            with pytest.raises(ValueError):
                random.randint(0, high, 5, dtype, device=device)

    def test_integers_fill_their_range(self, device):
        random.seed(2)
        for low, high, dtype in [
            (-128, 128, np.int8),
            (0, 2, bool),
            (2**64 - 3, 2**64, np.uint64),
            (-(2**63), -(2**63) + 4, np.int64),
        ]:
            x = gg.asnumpy(random.randint(low, high, 6000, dtype, device=device))
            n = high - low
            assert x.dtype == dtype
            counts = [int((x == np.array(low + i).astype(dtype)).sum()) for i in range(n)]
            assert sum(counts) == 6000
            assert_frequencies(np.array(counts), np.full(n, 6000 / n))

    def test_bounds_outside_the_dtype_are_refused(self, device):
        for low, high, dtype in [(0, 300, np.int8), (-1, 5, np.uint8), (4, 4, int)]:
            with pytest.raises(ValueError):
                random.randint(low, high, 2, dtype, device=device)
        with pytest.raises(TypeError):
            random.randint(0, 3, 2, float, device=device)


def test_bounds_that_are_arrays_are_refused_on_a_gpu(cupy_standin):
    with pytest.raises(ParameterError, match="single numbers"):
        random.randint([1, 2], 5, device="cuda")


def test_numbers_of_a_gpu_are_those_of_the_projects_generator(cupy_standin):
    random.seed(3)
    x = random.rand(5, device="cuda")
    y = random.randn(2, 2, device="cuda")
    with gg.use_device("cuda"):
        z = random.random(3)
    same = rng.Generator(3)
    assert np.array_equal(gg.asnumpy(x), same.uniform(5, np.float64, device="cpu"))
    assert np.array_equal(gg.asnumpy(y), same.normal((2, 2), np.float64, device="cpu"))
    assert np.array_equal(gg.asnumpy(z), same.uniform(3, np.float64, device="cpu"))


def test_numpy_random_is_loaded_by_the_first_draw():
    program = (
        "import sys, numpy; loaded = 'numpy.random' in sys.modules\n"
        "import gpugrad\n"
        "assert loaded or 'numpy.random' not in sys.modules, 'by import gpugrad'\n"
        "gpugrad.random\n"
        "assert loaded or 'numpy.random' not in sys.modules, 'by gpugrad.random'\n"
        "gpugrad.random.rand(1); assert 'numpy.random' in sys.modules\n"
    )
    output_of(program)
