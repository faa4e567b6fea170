"""Sums over shards: the same bits on any number of ranks, and the right ones."""

import math

import numpy as np
import pytest

from gpugrad.boltzmann.communicator import Serial, cut, own_shards
from gpugrad.boltzmann.shard_sum import ShardSum
from gpugrad.errors import ParameterError

from .thread_ranks import results


def terms_of(shards, width=50):
    """Terms of very different sizes, whose float32 sum depends on the order."""
    draw, shape = np.random.default_rng(shards), (shards, width)
    return (draw.normal(size=shape) * 10.0 ** draw.integers(-3, 4, shape)).astype("float32")


def summed(communicator, terms):
    made = ShardSum(len(terms), communicator)
    seen = []

    def fill(shard, out):
        seen.append(shard)
        out[...] = terms[shard]

    found = made.start("terms", terms, terms.shape[1], fill).wait().copy()
    assert seen == list(made.own)
    return found


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 6, 8, 12])
def test_any_number_of_ranks_adds_up_to_the_same_bits(shards):
    terms = terms_of(shards)
    expected = summed(Serial(), terms)
    for size in range(2, shards + 1):
        for found in results(size, lambda link: summed(link, terms)):
            np.testing.assert_array_equal(found, expected)
    exact = [math.fsum(column) for column in terms.T.tolist()]
    largest = np.abs(terms).sum(axis=0)
    assert (np.abs(expected - exact) <= shards * np.finfo("float32").eps * largest).all()


def test_the_order_of_addition_matters_to_these_terms():
    """Else the test above would hold of any order."""
    terms = terms_of(8)
    in_turn = terms[0].copy()
    for term in terms[1:]:
        in_turn += term
    assert (in_turn != summed(Serial(), terms)).any()


def test_two_sums_may_be_under_way_at_once():
    terms = terms_of(8)

    def both(link):
        made = ShardSum(8, link)
        first = made.start("first", terms, 50, lambda s, out: np.copyto(out, terms[s]))
        second = made.start("second", terms, 50, lambda s, out: np.copyto(out, -terms[s]))
        return first.wait() + second.wait()

    for found in (*results(2, both), both(Serial())):
        np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_ranks_of_a_power_of_two_exchange_one_array_each(size):
    made = [ShardSum(8, link) for link in results(size, lambda link: link)]
    assert all(len(nodes) == 1 for nodes in made[0].nodes)


@pytest.mark.parametrize("n, parts", [(10, 4), (3, 8), (0, 2), (100, 7)])
def test_parts_cover_all_rows_and_are_of_one_size_but_for_one(n, parts):
    found = cut(n, parts)
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(n))
    sizes = {part.stop - part.start for part in found}
    assert max(sizes) - min(sizes) <= 1


def test_every_rank_has_a_shard():
    for size in range(1, 9):
        assert all(len(own_shards(8, rank, size)) for rank in range(size))


def test_more_ranks_than_shards_are_refused():
    from gpugrad.boltzmann.communicator import shards_of

    def ask(link):
        with pytest.raises(ParameterError, match="fit: shards is 2 on 3 ranks, expected at least"):
            shards_of("fit", 2, link)
        return shards_of("fit", None, link)

    assert results(3, ask) == [8, 8, 8]
    assert shards_of("fit", None, None) is None
