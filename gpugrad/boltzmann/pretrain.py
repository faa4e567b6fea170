"""Greedy pre-training of deep machines: one restricted machine after another, from the bottom up.

In a deep machine a hidden layer hears from both sides; in a restricted machine that is trained
alone, from one. The missing half is made up for by a second copy of the lone neighbour with the
same weights, so that the layer hears it twice:

    bottom             middle              top

    h1                 h2    h2            h2    h2
    | \\                | \\  / |             \\  / |
    W   W              W  \\/  W              W   W        (lines from a unit to a copy: W)
    |    \\             |  /\\  |               \\  |
    v    v             h1    h1               h1

    up:   2 v.W + b    2 h1.W + b            h1.W + b     field on the layer above
    down:   h1.W^T + a   2 h2.W^T + a      2 h2.W^T + a   field on the layer below

Put together, h1 gets the mean of what its two modules send, which halves what was doubled:

    ((2 v.W1 + b1) + (2 h2.W2^T + a2)) / 2 = v.W1 + h2.W2^T + (b1 + a2) / 2

so that the weights are taken over as they are and the two biases averaged. A middle module, which
hears 2 W both ways, can also be trained as a plain restricted machine with weights 2 W; with copies
nothing has to be halved in the end.

References
----------
Salakhutdinov and Hinton, "Deep Boltzmann machines", AISTATS 2009, section 3.2.
Salakhutdinov and Hinton, "An efficient learning procedure for deep Boltzmann machines", Neural
Computation 24 (2012).
"""

import math
from collections.abc import Callable
from typing import Any

from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.agreement import checksum
from gpugrad.boltzmann.communicator import Communicator
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.optimizers import SGD, Optimizer
from gpugrad.boltzmann.progress_file import ProgressFile
from gpugrad.boltzmann.state import (
    check_data,
    check_finite,
    check_rng,
    namespace_for,
    positive_int,
)
from gpugrad.boltzmann.streaming import is_streamed
from gpugrad.errors import ParameterError

__all__ = ["Module", "compose", "modules", "pretrain"]

Progress = Callable[[int, int, float], None]


class Module:
    """A restricted machine of two layers of which each may stand there in several tied copies.

    Parameters
    ----------
    lower, upper : UnitLayer
        Parameters are those of one copy.
    W : array (lower units, upper units)
        Between every copy below and every copy above.
    copies : tuple of int
        (of the lower layer, of the upper layer).
    """

    def __init__(self, lower: UnitLayer, upper: UnitLayer, W: Any, copies: tuple[int, int]) -> None:
        self.layers, self.W, self.copies = (lower, upper), W, copies

    def parameters(self) -> dict[str, Any]:
        """The parameters by name, live: "lower.loc", ..., "upper.loc", ..., "W"."""
        found = {
            f"{side}.{name}": array
            for side, layer in zip(("lower", "upper"), self.layers, strict=True)
            for name, array in layer.params._asdict().items()
        }
        return found | {"W": self.W}

    def scaled(self, side: int, units: list[Any]) -> Any:
        """Sum over the copies of a side of what couplings see."""
        layer = self.layers[side]
        total = layer.rescale(units[0])
        for copy in units[1:]:
            total = total + layer.rescale(copy)
        return total

    def field(self, side: int, other: list[Any]) -> Any:
        """The field on each copy of a side from all copies of the other."""
        xp = namespace_for(self.W)
        return xp.matmul(self.scaled(1 - side, other), self.W if side else self.W.T)

    def draw(self, side: int, other: list[Any], rng: Generator) -> list[Any]:
        """States of all copies of a side, drawn independently given the other side."""
        phi = self.field(side, other)
        return [self.layers[side].draw(phi, rng=rng)[0] for _ in range(self.copies[side])]

    def mean(self, side: int, other: list[Any]) -> list[Any]:
        """Means of all copies of a side, which are equal, given the other side."""
        phi = self.field(side, other)
        return [self.layers[side].draw(phi, sample=False, mean=True)[1]] * self.copies[side]

    def data(self, v: Any) -> list[Any]:
        """The lower side with every copy clamped to data."""
        return [v] * self.copies[0]

    def derivatives(self, lower: list[Any], upper: list[Any]) -> dict[str, Any]:
        """Derivatives of the energy averaged over the batch, and over the copies.

        That of W is divided by the number of pairs of copies, those of a layer by its copies, so
        that a rate of learning means the same as without copies.
        """
        xp = namespace_for(self.W)
        found: dict[str, Any] = {}
        sides = (lower, upper)
        for side, name in enumerate(("lower", "upper")):
            couplings = self.W if side else self.W.T
            other = self.scaled(1 - side, sides[1 - side])
            each = [self.layers[side].derivatives(x, [other], [couplings]) for x in sides[side]]
            for field in self.layers[side].params._fields:
                found[f"{name}.{field}"] = sum(getattr(d, field) for d in each) / len(each)
        pairs = self.copies[0] * self.copies[1]
        below, above = self.scaled(0, lower), self.scaled(1, upper)
        found["W"] = xp.matmul(below.T, above) * (-1.0 / (pairs * below.shape[0]))
        return found

    def gradient(self, v: Any, rng: Generator, k: int) -> dict[str, Any]:
        """Contrastive divergence: the gradient for data v by k sweeps that start from it."""
        positive = self.data(v)
        means = self.mean(1, positive)
        upper = self.draw(1, positive, rng)
        for sweep in range(k):
            lower = self.draw(0, upper, rng)
            if sweep < k - 1:
                upper = self.draw(1, lower, rng)
        first = self.derivatives(positive, means)
        second = self.derivatives(lower, self.mean(1, lower))
        return {name: first[name] - second[name] for name in first}

    def reconstruction_error(self, v: Any) -> float:
        """Mean squared difference between data and the mean below given the means above."""
        mean = self.mean(0, self.mean(1, self.data(v)))[0]
        return float(namespace_for(v).mean((v - mean) ** 2, dtype="float64"))


def modules(model: BoltzmannMachine) -> list[Module]:
    """The modules of a deep machine, which share no memory with it, bottom first."""
    top = model.num_layers - 2
    found = []
    for i, weights in enumerate(model.weights):
        lower, upper = (_copy(model.layers[j]) for j in (i, i + 1))
        found.append(
            Module(lower, upper, weights.W().copy(), (2 if i < top else 1, 2 if i > 0 else 1))
        )
    return found


def compose(model: BoltzmannMachine, parts: list[Module]) -> None:
    """Put trained modules together: their weights as they are, two biases of a layer averaged."""
    new: dict[str, Any] = {}
    for i, part in enumerate(parts):
        new[f"weights.{i}.matrix"] = part.W
        for j, layer in zip((i, i + 1), part.layers, strict=True):
            for name, array in layer.params._asdict().items():
                key = f"layers.{j}.{name}"
                new[key] = 0.5 * (new[key] + array) if key in new else array
    model.set_parameters(new)
    model.enforce_constraints(function="pretrain")


def _copy(layer: UnitLayer) -> UnitLayer:
    twin: Any = UnitLayer.from_config(layer.get_config())
    twin.convert(device=layer.device)
    twin.set_params(layer.params._asdict())
    return twin


def pretrain(
    model: BoltzmannMachine,
    data: Any,
    *,
    rng: Generator | None = None,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 0.05,
    k: int = 1,
    optimizer: Optimizer | None = None,
    start: bool = True,
    progress: Progress | None = None,
    checkpoint: Any = None,
    communicator: Communicator | None = None,
) -> list[list[float]]:
    """Train the modules of a deep machine one after another, and put them together.

    Each module learns by contrastive divergence from the means that the one below sends up. The
    result is where the joint training (`fit`) starts.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two or more layers without lateral couplings; changed in place. With two layers this is
        plain contrastive divergence.
    data : array (num_samples, num_visible)
    rng : Generator, optional
    epochs, batch_size, k : int
        Of each module; `k` Gibbs sweeps an update.
    learning_rate : float
    optimizer : Optimizer, optional
        SGD with momentum 0.5 if None; its memory is its own in each module.
    start : bool
        Initialise the machine from the data first.
    progress : callable, optional
        Called as `progress(module, epoch, error)` after each epoch.
    checkpoint : str or path, optional
        A file that is written after each epoch. Where it exists already, the run that wrote it goes
        on, bit for bit; it stays when all is done.
    communicator : Communicator, optional
        The link to other processes, which all compute the same: the first one writes the
        checkpoint, from which all of them go on.

    Returns
    -------
    list of list of float
        Of each module the reconstruction error after each epoch.

    Raises
    ------
    DataError
        Data that the units cannot take.
    ParameterError
        A machine of one layer or with lateral couplings, a setting out of range, data that are
        read piece by piece.
    DivergenceError
        A parameter is no longer finite.
    CheckpointError
        A checkpoint that is damaged, or of a run with other data or settings.
    """
    check_boltzmann("pretrain", model)
    if is_streamed(data):
        raise ParameterError(
            f"pretrain: data is {type(data).__name__}, expected an array in memory: each module "
            "learns from what the one below makes of all samples"
        )
    if model.num_layers < 2 or model.lateral:
        raise ParameterError(
            f"pretrain: {model!r}, expected two or more layers without lateral couplings"
        )
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("k", k)):
        positive_int("pretrain", name, value)
    if not isinstance(learning_rate, int | float) or not 0 < learning_rate < math.inf:
        raise ParameterError(
            f"pretrain: learning_rate is {learning_rate!r}, expected a finite number above 0"
        )
    generator = default_generator() if rng is None else check_rng("pretrain", rng)
    v = check_data(model, data, function="pretrain")
    if start:
        initialize(model, v, generator)
    rule = SGD(momentum=0.5) if optimizer is None else optimizer
    file = ProgressFile(
        "pretrain",
        checkpoint,
        {
            "model": model.config(),
            "data": checksum(v) if checkpoint is not None else None,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "k": k,
            "optimizer": rule.get_config(),
        },
    )
    if communicator is not None:
        communicator.any(False)  # all have read the file before the first one replaces it
    parts, history = modules(model), file.history or [[]]
    with on(model.device):
        memory = rule.init(parts[len(history) - 1].parameters())
        file.take_over(_arrays(parts, memory), generator)
        for number, part in enumerate(parts):
            if number == len(history):
                history.append([])
                memory = rule.init(part.parameters())
            errors = history[number]
            for epoch in range(len(errors), epochs):
                order = to_device(generator.permutation(v.shape[0]), model.device)
                for first in range(0, v.shape[0], batch_size):
                    rows = v[order[first : first + batch_size]]
                    gradient = part.gradient(rows, generator, k)
                    rule.update_(part.parameters(), gradient, memory, learning_rate)
                errors.append(part.reconstruction_error(v))
                where = f"of module {number} after epoch {epoch + 1}"
                check_finite("pretrain", part.parameters(), where)
                if communicator is None or communicator.rank == 0:
                    file.save(_arrays(parts, memory), history, generator)
                if progress is not None:
                    progress(number, epoch, errors[-1])
            v = part.mean(1, part.data(v))[0]
    compose(model, parts)
    return history


def _arrays(parts: list[Module], memory: dict[str, Any]) -> dict[str, Any]:
    """Parameters of all modules and the memory of the optimiser of one, by name; live."""
    found = {
        f"{i}.{n}": array for i, part in enumerate(parts) for n, array in part.parameters().items()
    }
    return found | {f"optimizer.{name}": array for name, array in memory.items()}
