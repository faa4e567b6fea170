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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.blas_threads import one_blas_thread
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.rungs import JointRungs, Rungs, SummedRungs
from gpugrad.boltzmann.samplers import multiplications
from gpugrad.boltzmann.state import State, check_data, check_rng, namespace_for, positive_int
from gpugrad.boltzmann.swaps import (
    SwapInfo,
    check_state,
    hidden_units_sum_out,
    stored,
    stored_units,
    swap_pairs,
)
from gpugrad.errors import CheckpointError, ParameterError

__all__ = [
    "Trajectory",
    "TrajectoryTempering",
    "independent_machine",
    "parallel_trajectory_tempering",
]


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
            kind = SummedRungs if hidden_units_sum_out(model) else JointRungs
            machines = (*state.machines, model)
            rungs: Rungs = kind(rng, machines, state.units, state.replica, self.donate)
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
