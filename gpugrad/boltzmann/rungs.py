"""The rungs of a ladder of machines while a step of trajectory tempering moves them.

Chains of all rungs lie in one array a layer, (rungs * chains, units), the base machine's first.
Where hidden units can be summed out, visible states are exchanged and hidden ones drawn afterwards;
other machines exchange joint states.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpugrad.backend.blas_threads import held_to_one
from gpugrad.backend.host_threads import TILE_ROWS, over_spans
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.communicator import cut
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State, namespace_for
from gpugrad.boltzmann.swaps import (
    accept,
    count_swaps,
    exchange,
    joint_energy,
    row_energy,
    row_log_partition,
    with_hidden_means,
)

__all__ = ["JointRungs", "Rungs", "SummedRungs"]

PIECE_ROWS = 128
"""Rows of a product on the host that one thread makes; fewer than 100 take longer each."""

Job = tuple[int, slice]
"""A number, and the rows that it goes with."""


class Rungs:
    """The chains of all rungs while a step moves them: arrays (rungs * n_chains, units)."""

    def __init__(
        self,
        rng: Generator,
        machines: Sequence[BoltzmannMachine],
        units: State,
        replica: Any,
        donate: bool,
    ) -> None:
        self.rng, self.machines, self.model = rng, tuple(machines), machines[-1]
        self.number = len(self.machines)
        self.units: list[Any] = list(units)
        self.replica = replica
        self.chains = replica.shape[1]
        self.xp = namespace_for(replica)
        self.accepted = self.xp.zeros(self.number - 1, dtype="float64")
        self.tried = np.zeros(self.number - 1, np.int64)
        if not donate:
            self.units = [x.copy() for x in self.units]

    def rows(self, rung: int) -> slice:
        """The rows of a rung."""
        return slice(rung * self.chains, (rung + 1) * self.chains)

    def swap(self, gain: Any, first: int) -> Any:
        """Exchange places, given the gains of the rungs that take part, (2 * pairs, n_chains).

        Returns the row that each row's new state comes from, (rows,).
        """
        accepted, probability = accept(self.rng, gain)
        self.replica = exchange(self.replica, accepted, first)
        count_swaps(self.accepted, self.tried, probability, first)
        own = self.xp.arange(self.number * self.chains).reshape(self.number, self.chains)
        return exchange(own, accepted, first).reshape(-1)

    def sweep(self, first: int, pairs: int, *, last: bool) -> None:
        """One sweep of every rung, with an exchange between these pairs."""
        raise NotImplementedError

    def expected(self) -> State:
        """The model's own chains with hidden units at their conditional means."""
        raise NotImplementedError


def _halves(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Jobs in two parts of equal numbers of rows, in pieces of at most PIECE_ROWS."""
    left = sum(here.stop - here.start for _, here in jobs) // 2 // TILE_ROWS * TILE_ROWS
    halves: tuple[list[Job], list[Job]] = [], []
    for number, here in jobs:
        middle = min(here.start + left, here.stop)
        left -= middle - here.start
        halves[0].extend((number, piece) for piece in _pieces(here.start, middle))
        halves[1].extend((number, piece) for piece in _pieces(middle, here.stop))
    return halves


def _pieces(start: int, stop: int) -> list[slice]:
    """Rows in pieces of at most PIECE_ROWS, as equal as they can be."""
    n = stop - start
    parts = cut(n, -(-n // PIECE_ROWS)) if n else []
    return [slice(start + part.start, start + part.stop) for part in parts]


class SummedRungs(Rungs):
    """Two layers: visible states are exchanged, then hidden ones are drawn.

    The fields of x_s under machine t, which the exchange needs, are what h is drawn from once x_s
    has moved there: an exchange costs one product a pair and chain and no more.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Fields of two-valued units hold the biases too, so that one call draws all rungs.
        self.spins = [isinstance(layer, SpinLayer) for layer in self.model.layers]
        self.zero = [
            type(layer.params)(*(self.xp.zeros_like(p) for p in layer.params)) if spin else None
            for layer, spin in zip(self.model.layers, self.spins, strict=True)
        ]
        self.mean: Any = None
        self.spare: Any = None
        self.free: Any = None

    def field(self, layer: int, machine: int, units: Any, out: Any) -> None:
        """The field of rows of the other layer's units under a machine, into `out`."""
        m = self.machines[machine]
        if machine == 0:
            out[...] = m.layers[layer].params.loc if self.spins[layer] else 0
            return
        W = m.weights[0].W() if layer == 1 else m.weights[0].W_T()
        self.xp.matmul(m.layers[1 - layer].rescale(units), W, out=out)
        if self.spins[layer]:
            out += m.layers[layer].params.loc

    def fields(self, layer: int, units: Any, out: Any) -> None:
        """Those of every rung under its own machine."""

        def task(rung: int, here: slice) -> None:
            self.field(layer, rung, units[here], out[here])

        self.on_rows(task, [(r, self.rows(r)) for r in range(self.number)])

    def on_rows(self, task: Callable[[int, slice], None], jobs: Sequence[Job]) -> None:
        """Call `task` on the slices of rows of these jobs, with the number that goes with each.

        On the host slices are cut into pieces, the same whatever the number of threads, which two
        threads share where products have none of their own. Those of the base machine, which
        takes no products, are shared out on their own.
        """
        if not isinstance(self.units[0], np.ndarray):
            for number, here in jobs:
                task(number, here)
            return
        # number 0 is the base machine
        products = _halves([job for job in jobs if job[0]])
        base = _halves([job for job in jobs if not job[0]])
        parts = [products[0] + base[0], products[1] + base[1]]

        def span(start: int, stop: int) -> None:
            for part in parts[start:stop]:
                for number, piece in part:
                    task(number, piece)

        each = self.number * self.chains * self.model.layers[0].num_units
        threads = None if held_to_one() else 1
        over_spans(span, 2, values_each=each, threads=threads)

    def draw(self, layer: int, field: Any) -> None:
        """Samples of a layer on all rungs, over the fields on it."""
        if self.spins[layer]:
            self.model.layers[layer].draw(field, rng=self.rng, out=field, params=self.zero[layer])
            return
        for r, machine in enumerate(self.machines):
            here = field[self.rows(r)]
            machine.layers[layer].draw(here, rng=self.rng, out=here)

    def log_partition(self, machine: int, phi: Any) -> Any:
        """Log-sum over hidden states for each row of the fields under a machine."""
        layer = self.machines[machine].layers[1]
        params = self.zero[1] if self.spins[1] else layer.params
        # without couplings all rows are equal
        return row_log_partition(layer, params, phi[:1] if machine == 0 else phi)[0]

    def sweep(self, first: int, pairs: int, *, last: bool) -> None:
        v, h = self.units
        self.fields(0, h, v)
        self.draw(0, v)
        if pairs:
            source = self.swapped(first, pairs)
            if last:  # else they are drawn anew before anybody looks
                self.units[0] = v[source]
            h = self.units[1]
        else:
            self.fields(1, v, h)
        if last:
            top = self.rows(self.number - 1)
            layer, params = self.model.layers[1], self.zero[1]
            self.mean = layer.draw(h[top], sample=False, mean=True, params=params)[1]
        self.draw(1, h)

    def swapped(self, first: int, pairs: int) -> Any:
        """Decide on exchanges, and put the fields after them in place of the hidden units.

        Returns the row that each row's visible state comes from.
        """
        v, h = self.units
        xp, n, last = self.xp, v.shape[0], first + 2 * pairs
        if self.spare is None:
            self.spare = xp.empty((2 * n, h.shape[1]), dtype=v.dtype)
            self.free = xp.zeros(2 * n, dtype="float64")
        # under the lower and, from row n on, under the upper machine of the row's pair
        spare, free = self.spare, self.free

        def task(job: int, here: slice) -> None:
            upper, machine = divmod(job, self.number)
            there = slice(here.start + upper * n, here.stop + upper * n)
            self.field(1, machine, v[here], spare[there])
            if first <= machine < last:
                energy = row_energy(self.machines[machine].layers[0], v[here])
                free[there] = energy - self.log_partition(machine, spare[there])

        jobs = [(r, self.rows(r)) for r in (*range(first), *range(last, self.number))]
        for rung in range(first, last, 2):
            # the rows of both rungs at once: one product of twice the height
            both = slice(rung * self.chains, (rung + 2) * self.chains)
            jobs += [(rung, both), (self.number + rung + 1, both)]
        self.on_rows(task, jobs)
        gain = (free[:n] - free[n:]).reshape(self.number, self.chains)[first:last]
        gain[1::2] *= -1
        source = self.swap(gain, first)
        under = xp.zeros((self.number, 1), dtype=source.dtype)
        under[first + 1 : last : 2] = n
        index = (source.reshape(self.number, self.chains) + under).reshape(-1)
        if not isinstance(h, np.ndarray):
            self.units[1] = spare[index]
            return source

        def gather(start: int, stop: int) -> None:
            # "raise" would make a copy
            np.take(spare, index[start:stop], axis=0, out=h[start:stop], mode="clip")

        over_spans(gather, n, values_each=h.shape[1])
        return source

    def expected(self) -> State:
        return State((self.units[0][self.rows(self.number - 1)], self.mean))


class JointRungs(Rungs):
    """Machines whose hidden units cannot be summed out: joint states are exchanged."""

    def sweep(self, first: int, pairs: int, *, last: bool) -> None:
        for r, machine in enumerate(self.machines):
            here = self.rows(r)
            old = State(tuple(x[here] for x in self.units))
            new, _ = gibbs(1)(self.rng, machine, old)
            for x, y in zip(self.units, new, strict=True):
                x[here] = y
        if not pairs:
            return
        gains = []
        for k in range(2 * pairs):
            rung = first + k
            state = State(tuple(x[self.rows(rung)] for x in self.units))
            own, other = self.machines[rung], self.machines[rung + 1 - 2 * (k % 2)]
            gains.append(joint_energy(own, state) - joint_energy(other, state))
        source = self.swap(self.xp.stack(gains), first)
        self.units = [x[source] for x in self.units]

    def expected(self) -> State:
        top = self.rows(self.number - 1)
        return with_hidden_means(self.model, State(tuple(x[top] for x in self.units)))
