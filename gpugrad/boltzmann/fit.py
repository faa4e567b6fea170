"""The training loop: batches, the two phases, steps, and everything that a checkpoint must hold."""

import math
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of, on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.agreement import check_agreement, described, of_length
from gpugrad.boltzmann.callbacks import as_callback
from gpugrad.boltzmann.centering import first_offsets
from gpugrad.boltzmann.communicator import (
    Communicator,
    Serial,
    check_ranks,
    checksums,
    shards_of,
)
from gpugrad.boltzmann.divergence import divergence, largest_values, limit_of
from gpugrad.boltzmann.metrics import fair_pseudo_likelihood, training_figures
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.optimizers import SGD, Optimizer
from gpugrad.boltzmann.providers import make_phases, method_name
from gpugrad.boltzmann.samplers import Step
from gpugrad.boltzmann.schedules import Linear, Schedule, as_schedule
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.state import check_rng, namespace_for, positive_int
from gpugrad.boltzmann.streaming import StreamedSamples, is_streamed
from gpugrad.boltzmann.training_data import (
    Samples,
    check_drawing,
    check_weights,
    draw_states_,
    warn_of_bits,
    warn_of_states,
)
from gpugrad.errors import CheckpointError, NoPartitionFunctionError, ParameterError

__all__ = ["Trainer", "fit"]

DEFAULT_SCHEDULE = Linear(0.05)


class Trainer:
    """Training of a machine that can be stopped, saved and continued after any update.

    Parameters
    ----------
    model : BoltzmannMachine
        Any units, any number of layers; changed in place.
    data : array (num_samples, num_visible), or a `streaming.Stream`
        States of the visible units, or values between them, which are taken as means. Arrays of
        integers or booleans are kept as they are and converted batch by batch: bits as uint8 take a
        quarter of the memory. A host array is sent to the model's device. A stream, a numpy.memmap
        and a data set of an open HDF5 file are read piece by piece (see `streaming`).
    method : {"pcd", "cd", "tap"} or callable
        Persistent contrastive divergence, contrastive divergence that starts at the data, or the
        TAP free energy; or a function that makes a provider of gradients (see `providers`).
    k : int
        Gibbs sweeps an update.
    sampler : Step, optional
        Moves the persistent chains of "pcd" in place of k sweeps of block Gibbs.
    optimizer : Optimizer, optional
        `SGD()` if None.
    schedule : float, Schedule or callable
        The learning rate; a function is called with position and length in epochs.
    epochs, batch_size : int
    n_chains : int, optional
        Persistent chains; as many as samples in a batch if None.
    centered : bool
        Follow the centred gradient (see `centering`).
    centering_rate : float
        Part of the way, in [0, 1], that the offsets move at each update.
    gradient : {"analytic", "autodiff"}
        Derivatives of the free energies by formula or by back-propagation.
    shuffle : bool
        Draw the order of the samples anew in each epoch; else take them as they come.
    average_epochs : float
        At the end the machine takes the mean of its parameters over the updates of so many last
        epochs [1]_; 0: it keeps the last ones. It evens out the noise of a rate that stays high.
    sample_weight : array (num_samples,), optional
        Positive; normalised within each batch.
    missing : {"error", "impute"}
        What NaN in the data is: a fault, or a missing value, which is summed out by k sweeps of
        Gibbs sampling given the observed units (see `training_data`; arrays in memory only).
    draw_states : bool
        Take values between the two states as probabilities of the upper one and draw states anew
        for each batch (stochastic binarisation), in place of taking them as means.
    sparsity : SparsityTarget, optional
        A penalty on the mean activity of hidden units. Those on parameters belong to the layers.
    mean_field_steps : int
        Updates of the hidden means given the data, for machines of more than two layers.
    rng : Generator, optional
        Source of all randomness; equal seeds give equal parameters, bit for bit.
    callbacks : iterable of Callback or callable
    shards : int, optional
        Cut batch and chains into so many parts whose gradients are added up in a fixed order, so
        that any number of processes makes the same parameters, bit for bit (see `sharded`); 8 where
        a communicator is given, else none.
    communicator : Communicator, optional
        The link to other processes that train the same machine (see `gpugrad.distributed`).
    check_every : int
        Updates between two looks at the parameters for values that are not finite. A look waits
        for the device.
    largest : float
        Parameters beyond it count as diverged: with two-valued units the gradient is bounded, so
        that a rate far too large shows as growth, not as nan. (A field of 20 fixes a unit in
        float32.) So does a pseudo-likelihood, after an epoch, of less than 2 log(1/q) a unit of q
        states, twice as far from 0 as that of a fair die for each. `loc` of units with an unbounded
        range, which has the unit of the data, only has to be finite.

    Attributes
    ----------
    history : list of dict
        One record an epoch: epoch, step, rate, pseudo_likelihood (one or two layers, visible units
        of finitely many states), reconstruction_error (two layers or more), seconds.
    epoch, batch, step : int
        Epochs completed, batches completed in this epoch, updates in all.
    kept : dict of array
        Arrays that callbacks want to find again after a resume; a checkpoint holds them.

    Raises
    ------
    DataError, ParameterError
        Data or settings that cannot be trained with; nothing has been changed then.

    References
    ----------
    .. [1] Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J.
       Control Optim. 30 (1992).
    """

    def __init__(
        self,
        model: BoltzmannMachine,
        data: Any,
        *,
        method: str | Callable[..., Any] = "pcd",
        k: int = 1,
        sampler: Step | None = None,
        optimizer: Optimizer | None = None,
        schedule: float | Schedule | Callable[[float, float], float] = DEFAULT_SCHEDULE,
        epochs: int = 10,
        batch_size: int = 100,
        n_chains: int | None = None,
        centered: bool = True,
        centering_rate: float = 0.01,
        gradient: str = "analytic",
        shuffle: bool = True,
        average_epochs: float = 0.0,
        sample_weight: Any = None,
        missing: str = "error",
        draw_states: bool = False,
        sparsity: SparsityTarget | None = None,
        mean_field_steps: int = 10,
        rng: Generator | None = None,
        callbacks: Iterable[Any] = (),
        shards: int | None = None,
        communicator: Communicator | None = None,
        check_every: int = 100,
        largest: float = 1e3,
    ) -> None:
        self.model = model
        self.epochs = positive_int("fit", "epochs", epochs)
        self.check_every = positive_int("fit", "check_every", check_every)
        self.schedule = as_schedule(schedule)
        self.optimizer = SGD() if optimizer is None else optimizer
        self.gradient, self.largest = gradient, largest
        self.method, self.k, self.sampler = method, positive_int("fit", "k", k), sampler
        self.sparsity, self.centering_rate = sparsity, float(centering_rate)
        self.mean_field_steps = positive_int("fit", "mean_field_steps", mean_field_steps)
        if gradient not in ("analytic", "autodiff"):
            raise ParameterError(
                f"fit: gradient is {gradient!r}, expected 'analytic' or 'autodiff'"
            )
        if not 0 <= centering_rate <= 1:
            raise ParameterError(
                f"fit: centering_rate is {centering_rate!r}, expected a number in [0, 1]"
            )
        if not 0 <= average_epochs <= epochs:
            raise ParameterError(
                f"fit: average_epochs is {average_epochs!r}, expected a number in [0, {epochs}]"
            )
        if not isinstance(largest, int | float) or not largest > 0:
            raise ParameterError(f"fit: largest is {largest!r}, expected a number above 0")
        batch_size = positive_int("fit", "batch_size", batch_size)
        if n_chains is not None:
            n_chains = positive_int("fit", "n_chains", n_chains)
        if rng is not None:
            check_rng("fit", rng)
        for name, value, kind in (
            ("optimizer", self.optimizer, Optimizer),
            ("sparsity", sparsity, SparsityTarget | None),
            ("callbacks", callbacks, Iterable),
        ):
            if not isinstance(value, kind):
                expected = getattr(kind, "__name__", "SparsityTarget or None")
                raise ParameterError(f"fit: {name} is {value!r}, expected {expected}")
        if sparsity is not None:
            sparsity.check(model)
        self.rng = default_generator() if rng is None else rng
        self.shards = shards_of("fit", shards, communicator)
        self.communicator: Communicator = Serial() if communicator is None else communicator
        self.draw_states = check_drawing(model, draw_states, missing)
        with on(model.device):
            self._take_data(data, sample_weight, shuffle=bool(shuffle), missing=missing)
            warn_of_bits(model, self.watched)
            if self.draw_states:
                warn_of_states(model, self.watched)
            self.batch_size = min(batch_size, self.n_samples)
            self.n_batches = math.ceil(self.n_samples / self.batch_size)
            self.n_chains = self.batch_size if n_chains is None else n_chains
            self.phases = make_phases(
                model,
                self.rng,
                method=method,
                k=self.k,
                n_chains=self.n_chains,
                max_batch=self.batch_size,
                sampler=sampler,
                autodiff=gradient == "autodiff",
                offsets=first_offsets(model, self.samples.mean(self.sample_weight))
                if centered
                else None,
                centering_rate=centering_rate,
                sparsity=sparsity,
                mean_field_steps=self.mean_field_steps,
                shards=self.shards,
                communicator=self.communicator,
            )
            self.optimizer_state = self.optimizer.init(model.parameters())
            self.average_epochs = float(average_epochs)
            self.average = {
                name: namespace_for(p).zeros_like(p)
                for name, p in (model.parameters() if average_epochs else {}).items()
            }
        self.callbacks = [as_callback(c) for c in callbacks]
        self.history: list[dict[str, Any]] = []
        self.epoch = self.batch = self.step = 0
        self.seconds = 0.0
        self.kept: dict[str, Any] = {}
        self._clock: float | None = None
        self._last_good = 0
        self._stop_requested = False

    def _take_data(self, data: Any, sample_weight: Any, *, shuffle: bool, missing: str) -> None:
        model = self.model
        self.shuffle = shuffle
        if not is_streamed(data):
            how: Any = {"missing": missing, "k": self.k, "drawn": self.draw_states}
            self.samples: Any = Samples(model, data, self.rng, shuffle=shuffle, **how)
            self.n_samples = self.samples.n_samples
            self.sample_weight = check_weights(sample_weight, self.n_samples, model)
            return
        if missing != "error":
            raise ParameterError(
                f"fit: missing is {missing!r}, expected 'error': values drawn for missing units "
                "are kept, which needs data in memory"
            )
        self.sample_weight = check_weights(sample_weight, data.shape[0], model)
        weight = None if sample_weight is None else asnumpy(self.sample_weight).astype("float64")
        how = {"epochs": self.epochs, "sample_weight": weight, "drawn": self.draw_states}
        self.samples = StreamedSamples(model, data, self.rng, shuffle=shuffle, **how)
        self.n_samples = self.samples.n_samples

    @property
    def data(self) -> Any:
        """The samples: an array on the model's device, or the stream that they come from."""
        return self.samples.values

    @property
    def watched(self) -> Any:
        """Training samples on which the figures of the log are computed."""
        return self.samples.watched()

    def __repr__(self) -> str:
        return f"Trainer({self.model!r}, epoch {self.epoch} of {self.epochs}, step {self.step})"

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return float(self.schedule(self.step / self.n_batches, float(self.epochs)))

    @property
    def finished(self) -> bool:
        """Whether all epochs are completed."""
        return self.epoch >= self.epochs

    def request_stop(self) -> None:
        """Return from `run` after the update in progress; safe in a signal handler."""
        self._stop_requested = True

    # ---- the loop

    def run(self) -> list[dict[str, Any]]:
        """Train until all epochs are completed or a stop is requested; returns the history.

        Raises
        ------
        DivergenceError
            A parameter is no longer finite, or beyond `largest`, or unbounded units have lost their
            partition function. The machine is left as it is then, with parameters of no use: start
            from a new one, or from a copy or checkpoint of before.
        DistributedError
            The ranks of a job do not train the same machine, or one of them does not answer.
        """
        self._stop_requested = False
        # what overflows is found by check_finite, and named there
        with on(self.model.device), np.errstate(over="ignore", invalid="ignore"):
            self._clock = time.monotonic() - self.seconds
            try:
                self.check_ranks()
                self._notify("start")
                self.check_finite()
                # what one rank is asked to do, all do after the same update
                while not self.finished and not self.communicator.any(self._stop_requested):
                    self.update()
                self.check_finite()
            except BaseException as error:
                self._notify("stop", error)
                raise
            finally:
                self.samples.close()
                self._tell_time()
                self._clock = None  # what comes after this is no training, error or not
            self._notify("stop", None)
        return self.history

    def _notify(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    def update(self) -> None:
        """One batch: draw the phases, step, and at its end close the epoch."""
        phases, model = self.phases, self.model
        first = self.batch * self.batch_size
        n = min(self.batch_size, self.n_samples - first)
        rows = phases.data_rows(n)
        picked = self.samples.take(self.epoch, first, first + n, rows)
        if self.draw_states:
            draw_states_(model, rows, self.rng)
        weight = None
        if self.sample_weight is not None:
            weight = self.sample_weight[picked]
            weight = weight / weight.sum()
        gradient = phases(n, weight)
        self.optimizer.update_(model.parameters(), gradient, self.optimizer_state, self.rate)
        self.step += 1
        self.batch += 1
        self._constrain()
        if self.average:
            self._average()
        if self.step % self.check_every == 0:
            self.check_finite()
        if self.batch == self.n_batches:
            self._close_epoch()
        self._notify("update")

    def _average(self) -> None:
        """Take this step into the mean of the last parameters; at the last step, take them over."""
        last = self.epochs * self.n_batches
        first = last - max(1, round(self.average_epochs * self.n_batches))
        count = self.step - first
        if count <= 0:
            return
        for name, parameter in self.model.parameters().items():
            mean = self.average[name]
            mean += (parameter - mean) / count
            if self.step == last:
                parameter[...] = mean
        if self.step == last:
            self._constrain()

    def _constrain(self) -> None:
        try:
            self.model.enforce_constraints()
        except NoPartitionFunctionError as error:
            self.check_finite()  # parameters that are nan leave no partition function either
            self._last_good = self.step - 1
            name, peak = max(largest_values(self.model).items(), key=lambda item: item[1])
            what = str(error).partition(": ")[2].partition(", expected")[0]
            what = f"{what}, and parameter {name} has reached {peak:.3g}"
            self._diverged(what, unbounded=True)

    def check_ranks(self) -> None:
        """Raise a DistributedError unless all ranks are about to go on in the same way."""
        if self.communicator.size > 1:
            position = {"epoch": self.epoch, "batch": self.batch, "step": self.step}
            mine = {**self.settings(), "position": position, "rng": self.rng.state}
            mine["parameters"] = checksums(self.model.parameters())
            check_ranks(self.communicator, "fit", mine)

    def _close_epoch(self) -> None:
        self.check_finite()
        if self.communicator.size > 1:
            # one gradient for all of them: a difference is a fault of a machine, or unequal ones
            mine = {"step": self.step, "parameters": checksums(self.model.parameters())}
            check_ranks(self.communicator, "fit", mine)
        figures = training_figures(self.model, self.watched, self.rng)
        found = figures.get("pseudo_likelihood")
        if found is not None and not found >= 2 * fair_pseudo_likelihood(self.model):
            name, peak = max(largest_values(self.model).items(), key=lambda item: item[1])
            self._diverged(
                f"the pseudo-likelihood is {found:.4g} nats, worse than that of a fair coin for "
                f"each unit, and parameter {name} has reached {peak:.3g}"
            )
        rate = float(self.schedule((self.step - 1) / self.n_batches, float(self.epochs)))
        self.epoch += 1
        self.batch = 0
        self._tell_time()
        record = {
            "epoch": self.epoch,
            "step": self.step,
            "rate": rate,
            **figures,
            "seconds": round(self.seconds, 3),
        }
        self.history.append(record)
        self._notify("epoch", record)

    def _tell_time(self) -> None:
        # updates made outside of run() are not timed
        if self._clock is not None:
            self.seconds = time.monotonic() - self._clock

    def check_finite(self) -> None:
        """Raise a DivergenceError if a parameter is not finite or beyond `largest`."""
        for name, peak in largest_values(self.model).items():
            if not peak <= limit_of(self.model, name, self.largest) or peak == math.inf:
                what = f"is {peak}"
                if math.isfinite(peak):
                    what = f"has reached {peak:.3g} (limit: |parameter| > {self.largest:g})"
                self._diverged(f"parameter {name} {what}")
        self._last_good = self.step

    def _diverged(self, what: str, *, unbounded: bool = False) -> NoReturn:
        raise divergence(
            what,
            self.model,
            step=self.step,
            last_good=self._last_good,
            rate=float(self.schedule(0.0, float(self.epochs))),
            largest=self.largest,
            unbounded=unbounded,
        )

    # ---- what a checkpoint holds

    def settings(self) -> dict[str, Any]:
        """What must agree between a checkpoint and the trainer that goes on from it."""
        return {
            "model": self.model.config(),
            "method": method_name(self.method),
            "k": self.k,
            "n_chains": self.n_chains,
            "sampler": described(self.sampler),
            "optimizer": self.optimizer.get_config(),
            "schedule": described(self.schedule),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "centered": self.phases.offsets is not None,
            "centering_rate": self.centering_rate,
            "sparsity": described(self.sparsity),
            "mean_field_steps": self.mean_field_steps,
            "shards": self.shards,
            "gradient": self.gradient,
            "shuffle": self.shuffle,
            "draw_states": self.draw_states,
            "average_epochs": self.average_epochs,
            "sample_weight": None
            if self.sample_weight is None
            else zlib.crc32(asnumpy(self.sample_weight).tobytes()),
            **self.samples.settings(),
            "data": self.samples.fingerprint(),
        }

    def _arrays(self) -> dict[str, Any]:
        """Parameters, their mean and the optimiser's arrays, by name; live, not copied."""
        arrays = {f"model.{name}": p for name, p in self.model.parameters().items()}
        arrays |= {f"optimizer.{name}": a for name, a in self.optimizer_state.items()}
        arrays |= {f"average.{name}": a for name, a in self.average.items()}
        return arrays

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays and JSON-able metadata from which `load_state_dict` goes on bit for bit.

        The arrays are those in use: to be written, or copied, before the next update.
        """
        self._tell_time()
        arrays = self._arrays() | self.phases.arrays() | self.samples.arrays()
        arrays |= {f"kept.{name}": array for name, array in self.kept.items()}
        return arrays, {
            "settings": self.settings(),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "rng": self.rng.state,
            "seconds": self.seconds,
            "history": self.history,
        }

    def load_state_dict(self, arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Take over a state that `state_dict` gave, perhaps in another process.

        All settings have to agree, but for more `epochs` where these change none of the steps so
        far: with a constant or stepwise rate, and no `average_epochs`.

        Raises
        ------
        CheckpointError
            The state belongs to other data, another machine or other settings; nothing is changed.
        """
        mine = self.settings()
        theirs = of_length(metadata.get("settings", {}), mine, self.schedule)
        sizes = check_agreement("fit", theirs, mine)
        own = self._arrays()
        for name, array in own.items():
            if name not in arrays or tuple(arrays[name].shape) != tuple(array.shape):
                raise CheckpointError(f"fit: the checkpoint lacks {name} of shape {array.shape}")
        self.samples.check_arrays(arrays)
        try:
            position = {
                name: int(metadata["position"][name]) for name in ("epoch", "batch", "step")
            }
            seconds, history = float(metadata["seconds"]), list(metadata["history"])
            rng = Generator.from_state(metadata["rng"]).state
            sizes = [int(n) for n in sizes]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"fit: the checkpoint's metadata are damaged ({error})"
            ) from error
        with on(self.model.device):
            # the first to write, and the last that can fail
            self.phases.load_arrays(arrays)
            self.rng.set_state(rng)
            self.samples.load_arrays(arrays)
        for name, array in own.items():
            array[...] = to_device(arrays[name], device_of(array))
        self.kept = {
            name.removeprefix("kept."): array
            for name, array in arrays.items()
            if name.startswith("kept.")
        }
        self.epoch, self.batch, self.step = position.values()
        self.seconds, self.history = seconds, history
        self._last_good = self.step
        for layer, size in zip(self.model.layers, sizes, strict=True):
            if layer.sample_size != size:
                layer.sample_size, layer._moment = size, None


def fit(model: BoltzmannMachine, data: Any, **settings: Any) -> list[dict[str, Any]]:
    """Train a machine; returns the history, one record an epoch.

    Parameters
    ----------
    model : BoltzmannMachine
        Changed in place.
    data : array (num_samples, num_visible)
    **settings
        What `Trainer` takes: method, k, sampler, optimizer, schedule, epochs, batch_size, n_chains,
        centered, centering_rate, gradient, shuffle, average_epochs, sample_weight, missing,
        draw_states, sparsity, mean_field_steps, rng, callbacks, shards, communicator, check_every,
        largest.

    Raises
    ------
    DivergenceError
        See `Trainer.run`: the machine is of no use afterwards.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.backend.rng import Generator
    >>> from gpugrad.boltzmann.fit import fit
    >>> from gpugrad.boltzmann.model import RBM
    >>> stripes = np.repeat(np.eye(4, dtype="float32"), 25, axis=0)
    >>> rng = Generator(1)
    >>> machine = RBM(4, 3, rng=rng, device="cpu")
    >>> history = fit(machine, stripes, epochs=5, batch_size=20, rng=rng)
    >>> [record["step"] for record in history]
    [5, 10, 15, 20, 25]
    """
    if "learning_rate" in settings:
        raise TypeError(
            f"fit: got learning_rate={settings['learning_rate']!r}, expected schedule=: a rate, or "
            "a Schedule of rates"
        )
    return Trainer(model, data, **settings).run()
