"""Samples and estimates are the same bits on one thread and on two."""

import numpy as np
import pytest

from gpugrad.backend import blas_threads, host_threads
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import rungs
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.partition import ais, raise_
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.tempering import parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering
from gpugrad.primitives.gibbs_chain import GibbsChain

VISIBLE, HIDDEN, CHAINS = 40, 24, 37


def machine(scale=1.0, units="bernoulli"):
    """Couplings are multiples of 1/8: every order of a product's sums gives the same bits."""
    model = RBM(VISIBLE, HIDDEN, visible=units, hidden=units, device="cpu")
    draw = np.random.default_rng(0)
    for array in model.parameters().values():
        array[...] = scale * draw.integers(-8, 9, array.shape) / 8
    return model


def gibbs_chains(units):
    model, rng = machine(units=units), Generator(1)
    state, info = gibbs(5)(rng, model, model.random_state(CHAINS, rng=rng))
    return [*state, *info.expected]


def fused_chains(units):
    params = machine(units=units).parameters()
    W, a, b = (params[name] for name in ("weights.0.matrix", "layers.0.loc", "layers.1.loc"))
    chain = GibbsChain(W, a, b, visible=units, hidden=units, n_chains=CHAINS, rng=Generator(1))
    chain.run(5)
    return [chain.v, chain.h]


def tempered(units):
    model, rng = machine(units=units), Generator(1)
    step = parallel_tempering([0.25, 0.5, 0.75, 1], k=6, swap_every=2)
    state, info = step(rng, model, step.start(rng, model, CHAINS))
    return [*state.units, *info.expected, state.replica, info.accepted]


def along_a_trajectory(units):
    model, rng = machine(units=units), Generator(1)
    past = [machine(0.25, units), machine(0.5, units)]
    step = parallel_trajectory_tempering(k=6, swap_every=2, threshold=None, machines=past)
    state, info = step(rng, model, step.start(rng, model, CHAINS))
    return [*state.units, *info.expected, state.replica, info.accepted]


def annealed(units):
    model, data = machine(units=units), machine(units=units).random_state(CHAINS, rng=Generator(2))
    # many temperatures: weights come from the means; few: from whole log-partition functions
    return [
        ais(model, Generator(1), n_temperatures=n, n_chains=300, data=data[0]).log_weights
        for n in (60, 10)
    ] + [raise_(model, data[0], Generator(1), n_temperatures=60, data=data[0]).log_weights]


@pytest.mark.parametrize("units", ["bernoulli", "ising"])
@pytest.mark.parametrize(
    "run", [gibbs_chains, fused_chains, tempered, along_a_trajectory, annealed]
)
def test_results_do_not_depend_on_the_number_of_threads(run, units, monkeypatch):
    blas = blas_threads._openblas()
    if blas is None:
        pytest.skip("NumPy has no OpenBLAS with threads of its own")
    monkeypatch.setattr(host_threads, "available_cpus", lambda: 2)
    monkeypatch.setattr(host_threads, "MIN_VALUES_PER_THREAD", 8)
    monkeypatch.setattr(blas_threads, "MANY_MULTIPLICATIONS", 0)
    monkeypatch.setattr(rungs, "PIECE_ROWS", 16)
    handed_over = []
    start = host_threads._Worker.start
    monkeypatch.setattr(
        host_threads._Worker, "start", lambda self, *job: handed_over.append(1) or start(self, *job)
    )
    before, results = blas.get_threads(), []
    try:
        for threads in (1, 2, 3):  # with three, products keep BLAS' own
            blas.set_threads(threads)
            handed_over.clear()
            results.append(run(units))
            assert (len(handed_over) > 0) == (threads > 1)
    finally:
        blas.set_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert np.array_equal(one, two)


@pytest.mark.parametrize("chains", [1, 7, 100, 300])
def test_rows_are_shared_out_equally(chains):
    """Each row of each job once, in pieces that are not too high, as many on either side."""
    jobs = [(rung, slice(rung * chains, (rung + 1) * chains)) for rung in (1, 3, 4, 9)]
    halves = rungs._halves(jobs)
    found = [(number, row) for half in halves for number, rows in half for row in range(3000)[rows]]
    assert found == [(number, row) for number, rows in jobs for row in range(3000)[rows]]
    sizes = [sum(rows.stop - rows.start for _, rows in half) for half in halves]
    assert 0 <= sizes[1] - sizes[0] <= 2 * host_threads.TILE_ROWS
    pieces = [rows.stop - rows.start for half in halves for _, rows in half]
    assert 0 < min(pieces) and max(pieces) <= rungs.PIECE_ROWS
