"""Annealing whose chains are shared among ranks: the same estimate, and a right one."""

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import partition
from gpugrad.boltzmann.communicator import Serial
from gpugrad.boltzmann.partition import ais, exact_log_partition, raise_, reverse_ais
from gpugrad.errors import DistributedError, ParameterError
from tests.boltzmann.machines import small_machine

from .thread_ranks import on_ranks, results

MODEL, EXACT = small_machine(n=6, m=4)
SAMPLES = np.array(MODEL.random_state(50, rng=Generator(3)).visible)
ESTIMATORS = {
    "ais": lambda **how: ais(MODEL, Generator(1), n_chains=50, n_temperatures=40, **how),
    "raise_": lambda **how: raise_(MODEL, SAMPLES, Generator(1), n_temperatures=40, **how),
    "reverse_ais": lambda **how: reverse_ais(
        MODEL, SAMPLES, Generator(1), n_temperatures=40, **how
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_any_number_of_ranks_makes_the_same_estimate(name):
    expected = ESTIMATORS[name](communicator=Serial())
    assert expected.n_chains == 50
    for size in (2, 3, 8):
        for found in results(size, lambda link: ESTIMATORS[name](communicator=link)):
            np.testing.assert_array_equal(found.log_weights, expected.log_weights)
            assert (found.log_z, found.error) == (expected.log_z, expected.error)


def test_shards_alone_make_the_estimate_of_ranks():
    found, expected = ESTIMATORS["ais"](shards=8), ESTIMATORS["ais"](communicator=Serial())
    np.testing.assert_array_equal(found.log_weights, expected.log_weights)
    plain = ESTIMATORS["ais"]()
    assert (plain.log_weights != expected.log_weights).any()


def test_large_shards_are_cut_into_groups_of_bounded_memory(monkeypatch):
    monkeypatch.setitem(partition.GROUP, "cpu", 4)
    expected = ESTIMATORS["ais"](communicator=Serial())
    for found in results(2, lambda link: ESTIMATORS["ais"](communicator=link)):
        np.testing.assert_array_equal(found.log_weights, expected.log_weights)


def test_fewer_chains_than_shards_leave_ranks_idle():
    estimates = results(
        8, lambda link: ais(MODEL, Generator(1), n_chains=3, n_temperatures=20, communicator=link)
    )
    assert {x.log_z for x in estimates} == {estimates[0].log_z}
    assert estimates[0].n_chains == 3


def test_the_shared_estimate_is_that_of_log_z():
    found = ais(MODEL, Generator(4), n_chains=400, n_temperatures=200, shards=8)
    # five standard errors: false alarms at a rate of 6e-7, were the seed not fixed
    assert abs(found.log_z - exact_log_partition(MODEL)) < 5 * found.error < 0.1


@pytest.mark.parametrize("what", ["rng", "parameters", "chains"])
def test_ranks_that_would_anneal_differently_are_refused(what):
    def run(link):
        model = MODEL.copy()
        if link.rank and what == "parameters":
            model.weights[0].W()[0, 0] += 1e-9
        seed = link.rank if what == "rng" else 1
        n = 50 + (link.rank if what == "chains" else 0)
        return ais(model, Generator(seed), n_chains=n, n_temperatures=5, communicator=link)

    for found in on_ranks(2, run):
        assert isinstance(found, DistributedError) and f"ais: rank 1 has {what}" in str(found)


@pytest.mark.parametrize("estimate", [raise_, reverse_ais])
@pytest.mark.parametrize("what", ["data", "samples"])
def test_ranks_with_other_data_are_refused(estimate, what):
    units = MODEL.layers[0].num_units
    base, samples = np.zeros((2, 20, units)), np.zeros((2, 6, units))
    (base if what == "data" else samples)[1, 3] = 1

    def run(link):
        how = {"data": base[link.rank], "n_temperatures": 5, "communicator": link}
        return estimate(MODEL, samples[link.rank], Generator(1), **how)

    for found in on_ranks(2, run):
        assert isinstance(found, DistributedError) and f"rank 1 has {what}" in str(found)


def test_fewer_shards_than_ranks_are_refused():
    for found in on_ranks(3, lambda link: ESTIMATORS["ais"](communicator=link, shards=2)):
        assert isinstance(found, ParameterError) and "ais: shards is 2 on 3 ranks" in str(found)
