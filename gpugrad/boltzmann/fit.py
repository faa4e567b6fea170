"""The training loop: batches, the two phases, steps, and everything that a checkpoint must hold."""

import math
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from gpugrad.backend.array_module import asnumpy, get_array_module, on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.callbacks import as_callback
from gpugrad.boltzmann.metrics import pseudo_likelihood, reconstruction_error
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.optimizers import SGD, Optimizer
from gpugrad.boltzmann.phases import Phases
from gpugrad.boltzmann.samplers import Step
from gpugrad.boltzmann.schedules import Linear, Schedule, as_schedule
from gpugrad.boltzmann.state import check_data, namespace_for, positive_int
from gpugrad.errors import CheckpointError, DataError, DivergenceError, ParameterError

__all__ = ["Trainer", "fit"]

DEFAULT_SCHEDULE = Linear(0.05)
WATCHED_SAMPLES = 1000
"""Training samples on which the figures of the log are computed."""


class Trainer:
    """Training of a machine that can be stopped, saved and continued after any update.

    Parameters
    ----------
    model : BoltzmannMachine
        Two layers of Bernoulli or Ising units; changed in place.
    data : array (num_samples, num_visible)
        States of the visible units, or values between them, which are taken as means. Arrays of
        integers or booleans are kept as they are and converted batch by batch: bits as uint8 take a
        quarter of the memory. A host array is sent to the model's device.
    method : {"pcd", "cd"}
        Persistent contrastive divergence, or contrastive divergence that starts at the data.
    k : int
        Gibbs sweeps an update.
    sampler : Step, optional
        Moves the persistent chains in place of k sweeps of block Gibbs.
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
    rng : Generator, optional
        Source of all randomness; equal seeds give equal parameters, bit for bit.
    callbacks : iterable of Callback or callable
    check_every : int
        Updates between two looks at the parameters for values that are not finite. A look waits
        for the device.
    largest : float
        Parameters beyond it count as diverged: with two-valued units the gradient is bounded, so
        that a rate far too large shows as growth, not as nan. (A field of 20 fixes a unit in
        float32.) So does a pseudo-likelihood, after an epoch, of less than log(1/4) a unit, twice
        as far from 0 as that of a fair coin for each.

    Attributes
    ----------
    history : list of dict
        One record an epoch: epoch, step, rate, pseudo_likelihood, reconstruction_error, seconds.
    epoch, batch, step : int
        Epochs completed, batches completed in this epoch, updates in all.

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
        method: str = "pcd",
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
        rng: Generator | None = None,
        callbacks: Iterable[Any] = (),
        check_every: int = 100,
        largest: float = 1e3,
    ) -> None:
        self.model = model
        self.epochs = positive_int("fit", "epochs", epochs)
        self.check_every = positive_int("fit", "check_every", check_every)
        self.schedule = as_schedule(schedule)
        self.optimizer = SGD() if optimizer is None else optimizer
        self.shuffle, self.gradient, self.largest = bool(shuffle), gradient, largest
        k = positive_int("fit", "k", k)
        if method not in ("pcd", "cd"):
            raise ParameterError(f"fit: method is {method!r}, expected 'pcd' or 'cd'")
        if method == "cd" and sampler is not None:
            raise ParameterError(
                "fit: method is 'cd', a sampler needs the persistent chains of 'pcd'"
            )
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
        self.data = _training_data(model, data)
        self.n_samples = self.data.shape[0]
        self.batch_size = min(positive_int("fit", "batch_size", batch_size), self.n_samples)
        self.n_batches = math.ceil(self.n_samples / self.batch_size)
        self.sample_weight = _weights(sample_weight, self.n_samples, model)
        if rng is not None and not isinstance(rng, Generator):
            raise ParameterError(f"fit: rng is {rng!r}, expected a Generator or None")
        self.rng = default_generator() if rng is None else rng
        chains = self.batch_size if n_chains is None else positive_int("fit", "n_chains", n_chains)
        with on(model.device):
            offsets = self._first_offsets() if centered else None
            self.phases = Phases(
                model,
                self.rng,
                method=method,
                k=k,
                n_chains=chains,
                max_batch=self.batch_size,
                sampler=sampler,
                autodiff=gradient == "autodiff",
                offsets=offsets,
                centering_rate=centering_rate,
            )
            self.optimizer_state = self.optimizer.init(model.parameters())
            self.average_epochs = float(average_epochs)
            self.average = {
                name: namespace_for(p).zeros_like(p)
                for name, p in (model.parameters() if average_epochs else {}).items()
            }
            stride = max(1, self.n_samples // WATCHED_SAMPLES)
            self.watched = self.data[::stride][:WATCHED_SAMPLES].astype(model.dtype)
        self.callbacks = [as_callback(c) for c in callbacks]
        self.history: list[dict[str, Any]] = []
        self.epoch = self.batch = self.step = 0
        self.seconds = 0.0
        self._clock: float | None = None
        self.order: Any = None
        self._last_good = 0
        self._stop_requested = False
        self._fingerprint: dict[str, Any] | None = None
        self._gathered: Any = None

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
            A parameter is no longer finite, or beyond `largest`.
        """
        self._stop_requested = False
        # what overflows is found by check_finite, and named there
        with on(self.model.device), np.errstate(over="ignore", invalid="ignore"):
            self._clock = time.monotonic() - self.seconds
            self._notify("start")
            try:
                self.check_finite()
                while not self.finished and not self._stop_requested:
                    self.update()
                self.check_finite()
            except BaseException as error:
                self._notify("stop", error)
                raise
            self._notify("stop", None)
            self._tell_time()
            self._clock = None
        return self.history

    def _notify(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    def update(self) -> None:
        """One batch: draw the phases, step, and at its end close the epoch."""
        phases, model = self.phases, self.model
        if self.batch == 0 or self.order is None:
            self.order = self._order_of_epoch()
        first = self.batch * self.batch_size
        rows = slice(first, min(first + self.batch_size, self.n_samples))
        n = rows.stop - first
        picked = rows if self.order is None else self.order[rows]
        self._gather(picked, phases.data_rows(n))
        weight = None
        if self.sample_weight is not None:
            weight = self.sample_weight[picked]
            weight = weight / weight.sum()
        gradient = phases(n, weight)
        self.optimizer.update_(model.parameters(), gradient, self.optimizer_state, self.rate)
        model.enforce_constraints()
        self.step += 1
        self.batch += 1
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
            self.model.enforce_constraints()

    def _order_of_epoch(self) -> Any:
        """The samples' order, a function of the seed and the epoch alone."""
        if not self.shuffle:
            return None
        order = self.rng.split(f"epoch {self.epoch}").permutation(self.n_samples)
        return to_device(order, self.model.device)

    def _gather(self, picked: Any, out: Any) -> None:
        """Write the picked samples into `out`, converted to its dtype."""
        if isinstance(picked, slice):
            out[...] = self.data[picked]
            return
        xp = namespace_for(out)
        if self.data.dtype == out.dtype:
            # "clip" writes into out directly; the indices are in range
            xp.take(self.data, picked, axis=0, out=out, mode="clip")
            return
        if self._gathered is None:
            self._gathered = xp.empty((self.batch_size, out.shape[1]), self.data.dtype)
        raw = self._gathered[: out.shape[0]]
        xp.take(self.data, picked, axis=0, out=raw, mode="clip")
        out[...] = raw

    def _close_epoch(self) -> None:
        self.check_finite()
        # the same random flips each time: what changes in the figures is the machine
        figures = {
            "pseudo_likelihood": pseudo_likelihood(
                self.model, self.watched, self.rng.split("pseudo-likelihood")
            ),
            "reconstruction_error": reconstruction_error(
                self.model, self.watched, self.rng.split("reconstruction")
            ),
        }
        if not figures["pseudo_likelihood"] >= 2 * self.data.shape[1] * math.log(0.5):
            name, peak = max(self._peaks().items(), key=lambda item: item[1])
            self._diverged(
                f"the pseudo-likelihood is {figures['pseudo_likelihood']:.4g} nats, worse than "
                f"that of a fair coin for each unit, and parameter {name} has reached {peak:.3g}"
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
        for name, peak in self._peaks().items():
            if not peak <= self.largest:
                what = f"is {peak}"
                if math.isfinite(peak):
                    what = f"has reached {peak:.3g} (limit: |parameter| > {self.largest:g})"
                self._diverged(f"parameter {name} {what}")
        self._last_good = self.step

    def _peaks(self) -> dict[str, float]:
        """Largest absolute value of each parameter; waits for the device, once."""
        parameters = self.model.parameters()
        with on(self.model.device):
            xp = get_array_module(next(iter(parameters.values())))
            peaks = [xp.max(xp.abs(p)).astype("float64") for p in parameters.values()]
            return dict(zip(parameters, asnumpy(xp.stack(peaks)).tolist(), strict=True))

    def _diverged(self, what: str) -> NoReturn:
        # a schedule may have lowered the rate since; what a caller sets is the first one
        start = float(self.schedule(0.0, float(self.epochs)))
        advice = "of about 0.05" if start > 0.05 else f"below {start:g}"
        raise DivergenceError(
            f"fit: {what} at step {self.step} (all was well at step {self._last_good}; "
            f"{self.model.dtype}), expected finite values: take a learning rate {advice}"
        )

    # ---- what a checkpoint holds

    def _first_offsets(self) -> list[Any]:
        """mu at the data's mean, lam at the mean of a hidden unit in zero field."""
        xp = get_array_module(self.data)
        dtype = self.model.dtype
        if self.sample_weight is None:
            mu = xp.mean(self.data, axis=0, dtype="float64").astype(dtype)
        else:
            weight = self.sample_weight / self.sample_weight.sum()
            mu = xp.matmul(weight, self.data.astype(dtype))
        hidden = self.model.layers[1]
        return [mu, xp.full_like(hidden.params[0], hidden.neutral)]

    def settings(self) -> dict[str, Any]:
        """What must agree between a checkpoint and the trainer that goes on from it."""
        described = getattr(self.schedule, "get_config", None)
        return {
            "model": self.model.config(),
            "method": self.phases.method,
            "k": self.phases.k,
            "n_chains": self.phases.n_chains,
            "optimizer": self.optimizer.get_config(),
            "schedule": described() if described else "function",
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "centered": self.phases.offsets is not None,
            "centering_rate": self.phases.centering_rate,
            "gradient": self.gradient,
            "shuffle": self.shuffle,
            "average_epochs": self.average_epochs,
            "sample_weight": None
            if self.sample_weight is None
            else zlib.crc32(asnumpy(self.sample_weight).tobytes()),
            "data": self._data_fingerprint(),
        }

    def _data_fingerprint(self) -> dict[str, Any]:
        if self._fingerprint is None:
            check = 0
            for start in range(0, self.n_samples, 4096):
                block = asnumpy(self.data[start : start + 4096])
                check = zlib.crc32(block.tobytes(), check)
            self._fingerprint = {
                "shape": list(self.data.shape),
                "dtype": str(self.data.dtype),
                "crc32": check,
            }
        return self._fingerprint

    def _arrays(self) -> dict[str, Any]:
        """Every array that the next update depends on, by name; live, not copied."""
        arrays = {f"model.{name}": p for name, p in self.model.parameters().items()}
        arrays |= {f"optimizer.{name}": a for name, a in self.optimizer_state.items()}
        arrays |= {f"average.{name}": a for name, a in self.average.items()}
        arrays |= {f"offsets.{i}": a for i, a in enumerate(self.phases.offsets or ())}
        if self.phases.method == "pcd":
            arrays["chains.1"] = self.phases.hidden
        return arrays

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays and JSON-able metadata from which `load_state_dict` goes on bit for bit."""
        self._tell_time()
        return self._arrays(), {
            "settings": self.settings(),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "rng": self.rng.state,
            "seconds": self.seconds,
            "history": self.history,
        }

    def load_state_dict(self, arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Take over a state that `state_dict` gave, perhaps in another process.

        Raises
        ------
        CheckpointError
            The state belongs to other data, another machine or other settings; nothing is changed.
        """
        mine = self.settings()
        theirs = metadata.get("settings", {})
        different = [name for name in mine if mine[name] != theirs.get(name)]
        if different:
            name = different[0]
            was, now = _told(theirs.get(name), mine[name]), _told(mine[name], theirs.get(name))
            raise CheckpointError(f"fit: the checkpoint was made with {name} {was}, expected {now}")
        own = self._arrays()
        for name, array in own.items():
            if name not in arrays or tuple(arrays[name].shape) != tuple(array.shape):
                raise CheckpointError(f"fit: the checkpoint lacks {name} of shape {array.shape}")
        try:
            position = {
                name: int(metadata["position"][name]) for name in ("epoch", "batch", "step")
            }
            seconds, history = float(metadata["seconds"]), list(metadata["history"])
            self.rng.set_state(metadata["rng"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"fit: the checkpoint's metadata are damaged ({error})"
            ) from error
        for name, array in own.items():
            array[...] = to_device(arrays[name], self.model.device)
        self.epoch, self.batch, self.step = position.values()
        self.seconds, self.history = seconds, history
        self.order = None if self.batch == 0 else self._order_of_epoch()
        self._last_good = self.step


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The plain values in nested dictionaries and lists, by their path."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _leaves(inner, f"{path}.{name}" if path else str(name))
    return found


def _told(value: Any, other: Any) -> str:
    """A setting as a person reads it, without the parts that it shares with another one."""
    leaves, others = _leaves(value), _leaves(other)
    different = [f"{n} {v!r}".strip() for n, v in leaves.items() if others.get(n, others) != v]
    return ", ".join(different) or "nothing of it"


def _training_data(model: BoltzmannMachine, data: Any) -> Any:
    """Data on the model's device; integers and booleans keep their dtype."""
    if not hasattr(data, "shape"):
        data = np.asarray(data)
    low, high = model.layers[0].data_range
    compact = data.dtype.kind in "biu" and data.ndim == 2 and data.size
    if compact and data.shape[1] == model.layers[0].num_units:
        if bool(((data == low) | (data == high)).all()):
            return to_device(data, model.device)
    return check_data(model, data, function="fit")


def _weights(sample_weight: Any, n: int, model: BoltzmannMachine) -> Any:
    if sample_weight is None:
        return None
    if not hasattr(sample_weight, "shape"):
        sample_weight = np.asarray(sample_weight)
    if tuple(sample_weight.shape) != (n,):
        raise DataError(
            f"fit: sample_weight has shape {tuple(sample_weight.shape)}, expected ({n},)"
        )
    if not (float(sample_weight.min()) > 0 and math.isfinite(float(sample_weight.sum()))):
        raise DataError("fit: sample_weight has values that are not finite and above 0")
    return to_device(sample_weight.astype(model.dtype), model.device)


def fit(model: BoltzmannMachine, data: Any, **settings: Any) -> list[dict[str, Any]]:
    """Train a machine; returns the history, one record an epoch.

    Parameters
    ----------
    model : BoltzmannMachine
        Changed in place.
    data : array (num_samples, num_visible)
    **settings
        What `Trainer` takes: method, k, sampler, optimizer, schedule, epochs, batch_size, n_chains,
        centered, centering_rate, gradient, shuffle, average_epochs, sample_weight, rng, callbacks.

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
    return Trainer(model, data, **settings).run()
