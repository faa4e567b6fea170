"""Parallel trajectory tempering: the machines met along training are the ladder.

    rung T       the machine being trained or sampled (live)
      |  exchange
    rung T-1     a copy of it as it was when the exchange with rung T-2 had become rare
      ...
    rung 1
      |  exchange          log r = F_s(x_s) + F_t(x_t) - F_s(x_t) - F_t(x_s)
    rung 0       independent units: every sweep is a fresh, exact sample

F_t(v) is the free energy of machine t, hidden units summed out. Where temperature would drive a
machine through a first-order transition, its own past leads along a path on which modes appear one
after another. Machines whose hidden units cannot be summed out exchange joint states by their
energies.

References
----------
Bereux, Decelle, Furtlehner and Seoane, "Fast training and sampling of restricted Boltzmann
machines", ICLR 2025 (arXiv:2405.15376).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.blas_threads import held_to_one, one_blas_thread
from gpugrad.backend.host_threads import TILE_ROWS, over_spans
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.communicator import cut
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.samplers import gibbs, multiplications
from gpugrad.boltzmann.state import State, check_data, check_rng, namespace_for, positive_int
from gpugrad.boltzmann.swaps import (
    SwapInfo,
    accept,
    check_state,
    count_swaps,
    exchange,
    hidden_units_sum_out,
    joint_energy,
    row_energy,
    row_log_partition,
    stored,
    stored_units,
    swap_pairs,
    with_hidden_means,
)
from gpugrad.errors import CheckpointError, ParameterError

__all__ = [
    "Trajectory",
    "TrajectoryTempering",
    "independent_machine",
    "parallel_trajectory_tempering",
]


PIECE_ROWS = 128
"""Rows of a product on the host that one thread makes; fewer than 100 take longer each."""

Job = tuple[int, slice]
"""A number, and the rows that it goes with."""


def independent_machine(model: BoltzmannMachine, data: Any = None) -> BoltzmannMachine:
    """A machine of the same layers without couplings, the bottom of a trajectory.

    Parameters
    ----------
    model : BoltzmannMachine
    data : array (num_samples, num_visible), optional
        Fit the visible layer to these (training) data; without them the layers keep their
        parameters.

    Returns
    -------
    BoltzmannMachine
        A copy; `model` is left alone.
    """
    check_boltzmann("independent_machine", model)
    base = model.copy()
    for name, array in base.parameters().items():
        if not name.startswith("layers."):
            array[...] = 0
    if data is not None:
        with on(base.device):
            visible: Any = base.layers[0]
            visible.sample_size = 0
            visible.online_param_update(check_data(base, data, function="independent_machine"))
    return base


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A ladder of machines and the chains at each of its rungs.

    Attributes
    ----------
    machines : tuple of BoltzmannMachine
        The frozen ones, that of independent units first. The top rung is the model that is passed
        to the step, so that there is one rung more.
    units : State
        Chain c of rung r is row r * n_chains + c.
    replica : array of int (rungs, n_chains)
        Which replica of ladder c has come to rung r by exchanges.
    sweeps : int
        Sweeps made so far; they say when the next exchange is due and between which pairs.
    accepted : array ()
        Acceptance of the top pair, summed since the ladder was last looked at.
    tried : int
        Rounds in which the top pair was tried since then.
    """

    machines: tuple[BoltzmannMachine, ...]
    units: State
    replica: Any
    sweeps: int
    accepted: Any
    tried: int

    @property
    def cold(self) -> State:
        """The chains of the model itself, (n_chains, ...), views."""
        return self.at(len(self.machines))

    def at(self, rung: int) -> State:
        """The chains of a rung, (n_chains, ...), views."""
        chains = self.replica.shape[1]
        return State(tuple(x[rung * chains : (rung + 1) * chains] for x in self.units))

    def arrays(self) -> dict[str, Any]:
        """Everything in it as named arrays, for a checkpoint."""
        return {
            **{f"units.{i}": x for i, x in enumerate(self.units)},
            "replica": self.replica,
            "sweeps": np.asarray(self.sweeps),
            "accepted": self.accepted,
            "tried": np.asarray(self.tried),
            **{
                f"machines.{i}.{name}": array
                for i, machine in enumerate(self.machines)
                for name, array in machine.parameters().items()
            },
        }

    def with_arrays(self, arrays: Mapping[str, Any]) -> "Trajectory":
        """A trajectory that holds the arrays that `arrays` returned, whatever its length.

        Raises
        ------
        CheckpointError
            An array is missing, or does not fit the machines.
        """
        replica = stored(arrays, "replica", self.replica)
        machines = []
        for i in range(replica.shape[0] - 1):
            machine = self.machines[0].copy()
            own = machine.parameters()
            found = {name: stored(arrays, f"machines.{i}.{name}", p) for name, p in own.items()}
            try:
                machine.set_parameters(found)
            except ParameterError as error:
                raise CheckpointError(f"with_arrays: machine {i} does not fit ({error})") from error
            machines.append(machine)
        return Trajectory(
            tuple(machines),
            stored_units(arrays, self.units),
            replica,
            int(stored(arrays, "sweeps", np.asarray(self.sweeps))),
            stored(arrays, "accepted", self.accepted),
            int(stored(arrays, "tried", np.asarray(self.tried))),
        )


def _check_machines(function: str, model: BoltzmannMachine, machines: Sequence[Any]) -> None:
    """Raise unless the machines have the layers and shapes of the model."""
    check_boltzmann(function, model)
    expected = _signature(model)
    for i, machine in enumerate(machines):
        if not isinstance(machine, BoltzmannMachine):
            raise ParameterError(
                f"{function}: machine {i} is {type(machine).__name__}, expected BoltzmannMachine"
            )
        if _signature(machine) != expected:
            raise ParameterError(
                f"{function}: machine {i} is {machine!r}, expected one like {model!r}"
            )


def _signature(model: BoltzmannMachine) -> Any:
    shapes = {name: tuple(p.shape) for name, p in model.parameters().items()}
    return [type(layer) for layer in model.layers], shapes, str(model.dtype), str(model.device)


@dataclass(frozen=True)
class TrajectoryTempering:
    """The step that `parallel_trajectory_tempering` returns; its settings are attributes."""

    k: int
    swap_every: int
    threshold: float | None
    window: int
    max_machines: int | None
    machines: tuple[BoltzmannMachine, ...]
    base_data: Any
    donate: bool

    def get_config(self) -> dict[str, Any]:
        """What a run that goes on from a checkpoint must have in common with the first one.

        The ladder itself is in the checkpoint's arrays.
        """
        return {
            "name": "parallel_trajectory_tempering",
            "k": self.k,
            "swap_every": self.swap_every,
            "threshold": self.threshold,
            "window": self.window,
            "max_machines": self.max_machines,
        }

    def start(self, rng: Generator, model: BoltzmannMachine, n_chains: int) -> Trajectory:
        """A trajectory of the base machine and the given ones, and chains on every rung.

        Parameters
        ----------
        rng : Generator
        model : BoltzmannMachine
        n_chains : int
            Chains of each rung.
        """
        chains = positive_int("parallel_trajectory_tempering", "n_chains", n_chains)
        _check_machines("parallel_trajectory_tempering", model, self.machines)
        with on(model.device):
            lowest = self.machines[0] if self.machines else model
            base = independent_machine(lowest, self.base_data)
            machines = (base, *(machine.copy() for machine in self.machines))
            rungs = len(machines) + 1
            start = [machine.random_state(chains, rng=rng) for machine in (*machines, model)]
            xp = namespace_for(start[0][0])
            units = State(tuple(xp.concatenate(layer) for layer in zip(*start, strict=True)))
            replica = to_device(np.repeat(np.arange(rungs)[:, None], chains, 1), model.device)
            return Trajectory(machines, units, replica, 0, xp.zeros((), dtype="float64"), 0)

    def __call__(
        self, rng: Generator, model: BoltzmannMachine, state: Trajectory
    ) -> tuple[Trajectory, SwapInfo]:
        """k sweeps of all rungs, with exchanges; `state, info = step(rng, model, state)`."""
        function = "parallel_trajectory_tempering"
        check_state(function, state, Trajectory)
        check_rng(function, rng)
        _check_machines(function, model, state.machines[:1])
        with on(model.device):
            kind = _Summed if hidden_units_sum_out(model) else _Joint
            rungs: _Rungs = kind(rng, model, state, self.donate)
            tried = 0
            with one_blas_thread(multiplications(model, state.units.num_samples, self.k)):
                for sweep in range(state.sweeps + 1, state.sweeps + self.k + 1):
                    first = pairs = 0
                    if sweep % self.swap_every == 0:
                        first, pairs = swap_pairs(rungs.number, sweep // self.swap_every)
                        tried += pairs > 0 and first + 2 * pairs == rungs.number
                    rungs.sweep(first, pairs, last=sweep == state.sweeps + self.k)
            new = Trajectory(
                state.machines,
                State(tuple(rungs.units)),
                rungs.replica,
                state.sweeps + self.k,
                state.accepted + rungs.accepted[-1],
                state.tried + tried,
            )
            info = SwapInfo(rungs.expected(), rungs.accepted, rungs.tried, rungs.replica)
            return self._grown(model, new), info

    def _grown(self, model: BoltzmannMachine, state: Trajectory) -> Trajectory:
        """The trajectory, with the model frozen into it if exchanges with it have become rare."""
        if self.threshold is None or state.tried < self.window:
            return state
        chains = state.replica.shape[1]
        xp = namespace_for(state.replica)
        rare = float(state.accepted) / (state.tried * chains) < self.threshold
        machines, units, replica = state.machines, state.units, state.replica
        if rare and (self.max_machines is None or len(machines) < self.max_machines):
            # The chains of the copy go on from where the model's are: they have its distribution.
            machines = (*machines, model.copy())
            top = state.cold
            units = State(tuple(xp.concatenate([x, y]) for x, y in zip(units, top, strict=True)))
            newest = xp.full((1, chains), replica.shape[0], dtype=replica.dtype)
            replica = xp.concatenate([replica, newest])
        return Trajectory(machines, units, replica, state.sweeps, xp.zeros((), dtype="float64"), 0)


class _Rungs:
    """The chains of all rungs while a step moves them: arrays (rungs * n_chains, units)."""

    def __init__(
        self, rng: Generator, model: BoltzmannMachine, state: Trajectory, donate: bool
    ) -> None:
        self.rng, self.machines = rng, (*state.machines, model)
        self.model, self.number = model, len(self.machines)
        self.units: list[Any] = list(state.units)
        self.replica = state.replica
        self.chains = state.replica.shape[1]
        self.xp = namespace_for(state.replica)
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


class _Summed(_Rungs):
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
        products = _halves([job for job in jobs if job[0] % self.number])
        base = _halves([job for job in jobs if job[0] % self.number == 0])
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


class _Joint(_Rungs):
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


def parallel_trajectory_tempering(
    *,
    k: int = 1,
    swap_every: int = 1,
    threshold: float | None = 0.25,
    window: int = 20,
    max_machines: int | None = None,
    machines: Sequence[BoltzmannMachine] = (),
    base_data: Any = None,
    donate: bool = False,
) -> TrajectoryTempering:
    """Gibbs sampling of a machine and of its own past at once, with exchanges between neighbours.

    In training the ladder grows by itself: when the acceptance of exchanges between the model and
    the last frozen machine falls below `threshold`, a copy of the model is frozen. To sample a
    trained model, give the machines saved along its training.

    Parameters
    ----------
    k : int
        Sweeps a step makes.
    swap_every : int
        Sweeps from one round of exchanges to the next, across steps.
    threshold : float, optional
        In (0, 1). None: nothing is frozen.
    window : int
        Rounds of exchanges of the top pair over which its acceptance is averaged. Once in so many
        the step waits for the device, to look at it.
    max_machines : int, optional
        Frozen machines at most.
    machines : sequence of BoltzmannMachine
        A ladder to start with, the least trained first; copied.
    base_data : array (num_samples, num_visible), optional
        The visible units of the base machine are fitted to these; otherwise they have the
        parameters of the first machine, or of the model at the start if there is none.
    donate : bool
        Write the new samples over the arrays of the state that is passed in.

    Returns
    -------
    step : TrajectoryTempering
        `state = step.start(rng, model, n_chains)`, then `state, info = step(rng, model, state)`
        with a `Trajectory` and a `SwapInfo`.

    Raises
    ------
    ParameterError
        A setting out of range; machines of other layers or shapes than the model.

    Examples
    --------
    >>> from gpugrad.backend.rng import Generator
    >>> from gpugrad.boltzmann import RBM, parallel_trajectory_tempering
    >>> rng, machine = Generator(0), RBM(6, 3, rng=Generator(0), device="cpu")
    >>> step = parallel_trajectory_tempering(k=5)
    >>> state = step.start(rng, machine, n_chains=50)
    >>> state, info = step(rng, machine, state)
    >>> len(state.machines), state.cold.visible.shape, info.tried.tolist()
    (1, (50, 6), [250])
    """
    function = "parallel_trajectory_tempering"
    if threshold is not None and not 0 < threshold < 1:
        raise ParameterError(f"{function}: threshold is {threshold!r}, expected one in (0, 1)")
    if max_machines is not None:
        positive_int(function, "max_machines", max_machines)
    if not isinstance(machines, Sequence):
        raise ParameterError(
            f"{function}: machines is {type(machines).__name__}, expected a sequence of machines"
        )
    ladder = tuple(machines)
    if ladder:
        _check_machines(function, ladder[0], ladder)
    return TrajectoryTempering(
        positive_int(function, "k", k),
        positive_int(function, "swap_every", swap_every),
        None if threshold is None else float(threshold),
        positive_int(function, "window", window),
        max_machines,
        ladder,
        base_data,
        bool(donate),
    )
