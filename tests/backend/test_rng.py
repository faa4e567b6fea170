"""The generator: replayable, equal to NumPy's Philox, and distributed as it says."""

import copy
import json
import math
import pickle
from statistics import NormalDist

import numpy as np
import pytest

from gpugrad.backend import rng as rng_module
from gpugrad.backend.philox import Draw, uniform_, uniform_values
from gpugrad.backend.rng import Generator, default_generator, seed
from gpugrad.errors import ParameterError
from tests.chance import assert_distribution, assert_frequencies, assert_means
from tests.threads import in_threads

METHODS = {
    "uniform": lambda rng: rng.uniform(1001),
    "uniform64": lambda rng: rng.uniform(1001, np.float64, -1, 1),
    "normal": lambda rng: rng.normal((7, 11)),
    "bernoulli": lambda rng: rng.bernoulli(np.full(1001, 0.5, np.float32)),
    "spins": lambda rng: rng.spins(1001),
    "integers": lambda rng: rng.integers(10**6, size=101),
    "permutation": lambda rng: rng.permutation(101),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0, 7, 2**70, [1, 2, 3]])
def test_uniform_equals_numpys_generator_of_the_same_seed(value, dtype):
    expected = np.random.Generator(np.random.Philox(value)).random(100_001, dtype=dtype)
    assert np.array_equal(Generator(value).uniform(100_001, dtype), expected)


@pytest.mark.parametrize("method", METHODS)
def test_state_replays_every_draw(method):
    rng = Generator(3)
    rng.uniform(5)
    state = rng.state
    first = METHODS[method](rng)
    after = rng.state
    assert np.array_equal(METHODS[method](Generator.from_state(state)), first)
    rng.set_state(state)
    assert np.array_equal(METHODS[method](rng), first)
    assert rng.state == after
    assert not np.array_equal(METHODS[method](rng), first)


def test_state_is_a_few_integers_that_survive_json():
    rng = Generator(5)
    rng.uniform(10**6)
    rng.set_state({"key": rng.state["key"], "counter": 2**256 - 3})
    state = json.loads(json.dumps(rng.state))
    assert state == rng.state
    assert np.array_equal(Generator.from_state(state).uniform(100), rng.uniform(100))
    assert rng.counter == 10  # 13 blocks later, past the end of the counter


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_copies_go_on_alike_and_apart(copied):
    rng = Generator(5)
    rng.uniform(3)
    twin = copied(rng)
    assert np.array_equal(twin.uniform(9), rng.uniform(9))
    rng.uniform(9)
    assert twin.state != rng.state


def test_a_draw_can_be_made_again_on_its_own():
    rng = Generator(1)
    rng.normal(100)
    draw = rng.reserve(1000, 32)
    again = uniform_(np.empty(1000, np.float32), draw=draw)
    assert np.array_equal(again, uniform_values(np, draw, 1000, np.float32))
    assert draw == Draw(rng.key, 13) and rng.counter == 13 + 125


@pytest.mark.parametrize(("n", "bits", "blocks"), [(0, 32, 0), (1, 32, 1), (8, 32, 1), (9, 32, 2),
                                                   (5, 64, 2), (17, 16, 2)])  # fmt: skip
def test_reserve_takes_whole_blocks(n, bits, blocks):
    rng = Generator(1)
    assert rng.reserve(n, bits).counter == 0
    assert rng.counter == blocks


def test_threads_never_get_the_same_blocks():
    rng, starts = Generator(2), []

    def take(k):
        for _ in range(2000):
            starts.append(rng.reserve(8).counter)

    in_threads(take, 4)
    assert sorted(starts) == list(range(8000))


def test_split_depends_on_the_name_alone():
    rng = Generator(4)
    before = rng.split("chains")
    rng.uniform(100)
    assert rng.split("chains").state == before.state
    keys = {rng.split(name).key for name in ("chains", "data", "", "chains ")} | {rng.key}
    assert len(keys) == 5


def test_spawned_generators_are_new_each_time():
    rng = Generator(4)
    first, second = rng.spawn(3), rng.spawn(3)
    assert len({child.key for child in [*first, *second, rng]}) == 7
    assert [child.key for child in Generator(4).spawn(3)] == [child.key for child in first]


def test_seeds_give_different_streams_and_no_seed_gives_entropy():
    assert len({Generator(s).key for s in range(100)}) == 100
    assert Generator().key != Generator().key


def test_default_generator_starts_anew_at_a_seed(monkeypatch):
    monkeypatch.setattr(rng_module, "_default", None)
    seed(9)
    first = default_generator().uniform(5)
    seed(9)
    assert np.array_equal(default_generator().uniform(5), first)
    assert np.array_equal(Generator(9).uniform(5), first)


def test_numpys_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    for method in METHODS.values():
        method(Generator(1))
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("method", METHODS)
def test_numbers_are_the_same_on_every_library(method, device, host):
    assert np.array_equal(
        host(METHODS[method](Generator(8))) if device == "cpu" else host(on_device(method, device)),
        METHODS[method](Generator(8)),
    ) or (
        method == "normal" and close(host(on_device(method, device)), METHODS[method](Generator(8)))
    )


def on_device(method, device):
    rng = Generator(8, device=device)
    if method == "bernoulli":
        from gpugrad.backend.array_module import to_device

        return rng.bernoulli(to_device(np.full(1001, 0.5, np.float32), device))
    return METHODS[method](rng)


def close(a, b):
    return np.abs(a - b).max() <= 5e-6


# ---- distributions: false-alarm rate 1e-6 each --------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_is_uniform(dtype):
    u = Generator(10).uniform(1_000_000, dtype)
    counts = np.bincount((u * 1000).astype(int), minlength=1000)
    assert_frequencies(counts, np.full(1000, u.size / 1000))
    assert u.min() >= 0 and u.max() < 1


def test_neighbouring_uniforms_are_independent():
    u = (Generator(11).uniform((500_000, 2)) * 32).astype(int)
    counts = np.bincount(u[:, 0] * 32 + u[:, 1], minlength=1024)
    assert_frequencies(counts, np.full(1024, len(u) / 1024))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_is_normal(dtype):
    z = Generator(12).normal(50_000, dtype, mean=3.0, std=2.0)
    assert_distribution(z, NormalDist(3.0, 2.0).cdf)


def test_pairs_of_normals_are_independent():
    z = Generator(13).normal((200_000, 2), np.float64)
    # r^2 / 2 is exponential and the angle uniform: quantile bins of both.
    radius = np.minimum((16 * (1 - np.exp(-(z**2).sum(axis=1) / 2))).astype(int), 15)
    angle = ((np.arctan2(z[:, 1], z[:, 0]) / (2 * math.pi)) % 1 * 16).astype(int) % 16
    counts = np.bincount(radius * 16 + angle, minlength=256)
    assert_frequencies(counts, np.full(256, len(z) / 256))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bernoulli_has_the_frequencies_it_was_given(dtype):
    p = np.linspace(0.01, 0.99, 50).astype(dtype)
    sample = Generator(14).bernoulli(np.tile(p, (10_000, 1)))
    assert sample.dtype == dtype and set(np.unique(sample)) == {0, 1}
    assert_means((sample == 1).sum(axis=0), 10_000, p.astype(float))


def test_certain_bernoulli_is_certain():
    p = np.array([0.0, 1.0], np.float32)
    assert (Generator(14).bernoulli(np.tile(p, (100_000, 1))) == p).all()


def test_spins_have_the_means_they_were_given():
    m = np.linspace(-0.9, 0.9, 37).astype(np.float32)
    spins = Generator(15).spins(np.tile(m, (10_000, 1)))
    assert set(np.unique(spins)) == {-1, 1}
    assert_means((spins == 1).sum(axis=0), 10_000, (1 + m.astype(float)) / 2)


def test_fair_spins_are_fair():
    spins = Generator(16).spins((10_000, 64), np.float64)
    assert spins.dtype == np.float64 and set(np.unique(spins)) == {-1, 1}
    assert_means((spins == 1).sum(axis=0), 10_000, np.full(64, 0.5))


@pytest.mark.parametrize(("low", "high"), [(0, 7), (-3, 4), (2**62, 2**62 + 5)])
def test_integers_are_uniform(low, high):
    x = Generator(17).integers(low, high, 70_000)
    counts = [(x == value).sum() for value in range(low, high)]
    assert sum(counts) == x.size
    assert_frequencies(counts, np.full(high - low, x.size / (high - low)))


def test_integers_of_the_widest_range_and_of_one_value():
    x = Generator(18).integers(-(2**63), 2**63, 20_000)
    assert_frequencies(np.bincount((x >> 60) + 8, minlength=16), np.full(16, x.size / 16))
    assert (Generator(18).integers(5, 6, (2, 3)) == 5).all()
    assert Generator(18).integers(10).shape == ()


def test_permutations_are_uniform():
    rng = Generator(19)
    counts = {}
    for _ in range(24_000):
        key = tuple(rng.permutation(4).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 24
    assert_frequencies(list(counts.values()), np.full(24, 1000))


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Generator(-1), "Generator: seed -1"),
        (lambda: Generator("x"), "Generator: seed 'x'"),
        (lambda: Generator(1).uniform(-1), "uniform: shape -1"),
        (lambda: Generator(1).uniform(1.5), r"uniform: shape 1\.5"),
        (lambda: Generator(1).uniform(1, np.float16), "uniform: dtype float16"),
        (lambda: Generator(1).uniform(1, low=2, high=1), "uniform: low 2, high 1"),
        (lambda: Generator(1).normal(1, std=-1), r"normal: mean 0\.0, std -1"),
        (lambda: Generator(1).normal(1, mean=math.nan), "normal: mean nan"),
        (lambda: Generator(1).bernoulli(np.ones(2, int)), "bernoulli: dtype int64"),
        (lambda: Generator(1).bernoulli(np.ones(2), out=np.ones(3)), r"out has shape \(3,\)"),
        (lambda: Generator(1).spins(3, np.int8), "spins: dtype int8"),
        (lambda: Generator(1).integers(0), "integers: low 0, high 0"),
        (lambda: Generator(1).reserve(-1), "-1 values"),
        (lambda: Generator(1).reserve(1, 8), "8 bits"),
        (lambda: Generator(1).set_state({"key": [1, 2]}), "Generator.set_state"),
        (lambda: Generator(1).set_state({"key": [1, 2**64], "counter": 0}), "below 2\\^64"),
        (lambda: Generator(1).set_state({"key": [1, 2], "counter": -1}), "counter"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
