"""Machines with labels: the classification RBM, with the exact posterior of the class.

The class y is one Potts unit beside the visible units. Both send fields to the hidden layer, and
neither sends one to the other, so that the machine is one of three layers with the hidden one in
the middle:

    visible v --W-- hidden h --U-- label y            E = ... - v.W.h - h.U.y

    -log sum over h of exp(-E) = F(v, y) = E(v) - b_y - sum_j log Z_j((v.W)_j + U_jy)
    p(y | v) = exp(-F(v, y)) / sum over y' of exp(-F(v, y'))

Block Gibbs sampling draws v and y given h in one half-step. With `gibbs(clamp={2: True})` it draws
v given the class, with `gibbs(clamp={0: True})` classes given v.

References
----------
Larochelle and Bengio, "Classification using discriminative restricted Boltzmann machines", ICML
2008.
"""

import math
from collections.abc import Mapping
from typing import Any

from gpugrad.backend.array_module import on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.agreement import checksum
from gpugrad.boltzmann.chains import save as arrays_of
from gpugrad.boltzmann.gradient_util import named_arrays
from gpugrad.boltzmann.layers.potts import PottsLayer
from gpugrad.boltzmann.model import BoltzmannMachine, layers_of
from gpugrad.boltzmann.optimizers import SGD, Optimizer
from gpugrad.boltzmann.phases import add_penalties_
from gpugrad.boltzmann.progress_file import ProgressFile
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import (
    State,
    check_data,
    check_finite,
    check_rng,
    check_visible,
    namespace_for,
    positive_int,
)
from gpugrad.errors import DataError, ParameterError
from gpugrad.ops.creation import tensor

__all__ = [
    "class_log_probabilities",
    "classification_rbm",
    "fit_labels",
    "labelled_free_energy",
    "labelled_state",
    "predict",
]


def classification_rbm(
    n_visible: int,
    n_hidden: int,
    n_classes: int,
    *,
    visible: str = "bernoulli",
    hidden: str = "bernoulli",
    dtype: Any = "float32",
    device: Any = None,
    rng: Generator | None = None,
) -> BoltzmannMachine:
    """A machine of visible units, hidden units and one label of n_classes states.

    Parameters
    ----------
    n_visible, n_hidden, n_classes : int
    visible, hidden : str
        Unit types, as `layers.get` knows them.
    dtype : dtype, optional
    device : str or Device, optional
    rng : Generator, optional

    Returns
    -------
    BoltzmannMachine
        Of three layers: visible, hidden, label (one Potts unit).

    Examples
    --------
    >>> from gpugrad.boltzmann.labels import classification_rbm
    >>> classification_rbm(784, 500, 10, device="cpu")
    BoltzmannMachine(784 bernoulli - 500 bernoulli - 10 potts, float32, cpu)
    """
    kinds = [(visible, n_visible), (hidden, n_hidden)]
    layers = layers_of("classification_rbm", kinds, dtype=dtype, device=device)
    label = PottsLayer(1, n_classes, dtype=dtype, device=device)
    return BoltzmannMachine([*layers, label], dtype=dtype, device=device, rng=rng)


def _label_layer(function: str, model: BoltzmannMachine) -> PottsLayer:
    label: Any = model.layers[-1]
    if (
        model.num_layers != 3
        or not isinstance(label, PottsLayer)
        or label.num_sites != 1
        or 1 in model.lateral
    ):
        raise ParameterError(
            f"{function}: {model!r}, expected visible units, hidden units without couplings among "
            "them, and one Potts unit for the label"
        )
    return label


def _scores(model: BoltzmannMachine, parameters: Mapping[str, Any], v: Any) -> Any:
    """b_y + sum_j log Z_j of every class, (num_samples, n_classes)."""
    xp = namespace_for(v, *parameters.values())
    lower, middle, upper = (model.layer_params(i, parameters) for i in range(3))
    visible, hidden, label = model.layers
    scaled = visible.unit_rescale(xp, lower, v)
    phi = xp.matmul(scaled, parameters["weights.0.matrix"])
    U, bias = parameters["weights.1.matrix"], upper.loc.reshape(-1)
    columns = [
        xp.sum(hidden.unit_log_partition(xp, middle, phi + U[:, y]), axis=1) + bias[y]
        for y in range(label.num_units)
    ]
    return xp.stack(columns, axis=1)


def class_log_probabilities(
    model: BoltzmannMachine, v: Any, parameters: Mapping[str, Any] | None = None
) -> Any:
    """log p(y | v) of every class, exactly.

    Parameters
    ----------
    model : BoltzmannMachine
        Of visible units, hidden units and a label.
    v : array or Tensor (num_samples, num_visible)
    parameters : dict of array or Tensor, optional
        In place of the model's own, named alike: as Tensors they make the result differentiable,
        for discriminative training.

    Returns
    -------
    array or Tensor (num_samples, n_classes)

    Raises
    ------
    ParameterError
        For a machine of another shape.
    """
    _label_layer("class_log_probabilities", model)
    check_visible("class_log_probabilities", model, v)
    scores = _scores(model, model.parameters() if parameters is None else parameters, v)
    xp = namespace_for(scores)
    return scores - xp.logsumexp(scores, axis=1, keepdims=True)


def predict(model: BoltzmannMachine, v: Any) -> Any:
    """The most probable class of each sample, int (num_samples,).

    Parameters
    ----------
    model : BoltzmannMachine
        Of visible units, hidden units and a label.
    v : array (num_samples, num_visible)
    """
    v = check_data(model, v, function="predict")
    found = class_log_probabilities(model, v)
    return namespace_for(found).argmax(found, axis=1)


def labelled_free_energy(
    model: BoltzmannMachine, v: Any, labels: Any, parameters: Mapping[str, Any] | None = None
) -> Any:
    """F(v, y) = -log sum over h of exp(-E(v, h, y)), one value a sample.

    Parameters
    ----------
    model : BoltzmannMachine
        Of visible units, hidden units and a label.
    v : array or Tensor (num_samples, num_visible)
    labels : array of int (num_samples,)
    parameters : dict of array or Tensor, optional
        In place of the model's own.
    """
    label = _label_layer("labelled_free_energy", model)
    check_visible("labelled_free_energy", model, v)
    own = model.parameters() if parameters is None else parameters
    xp = namespace_for(v, *own.values())
    visible, lower = model.layers[0], model.layer_params(0, own)
    hot = _one_hot("labelled_free_energy", label, labels, v.shape[0])
    energy = visible.unit_energy(xp, lower, v) - xp.sum(_scores(model, own, v) * hot, axis=1)
    if 0 in model.lateral:
        scaled = visible.unit_rescale(xp, lower, v)
        energy = energy + model.lateral[0].energy_of(xp, own["lateral.0.matrix"], scaled)
    return energy


def _one_hot(function: str, label: PottsLayer, labels: Any, num_samples: int) -> Any:
    shape = tuple(getattr(labels, "shape", ()))
    if shape != (num_samples,):
        raise DataError(f"{function}: labels have shape {shape}, expected ({num_samples},)")
    return label.one_hot(labels[:, None]).astype(label.dtype)


def labelled_state(
    model: BoltzmannMachine, v: Any, labels: Any, *, rng: Generator | None = None
) -> State:
    """The positive phase: visible units and labels clamped, hidden units at their exact means.

    Parameters
    ----------
    model : BoltzmannMachine
        Of visible units, hidden units and a label.
    v : array (num_samples, num_visible)
    labels : array of int (num_samples,)
        -1 where the class is not known: it is then drawn from its exact posterior given v.
    rng : Generator, optional
        For unknown classes.

    Returns
    -------
    State

    Raises
    ------
    DataError
        Labels that are no classes.
    """
    label = _label_layer("labelled_state", model)
    check_visible("labelled_state", model, v)
    xp = namespace_for(v)
    labels = to_device(labels, model.device)
    unknown = labels == -1
    y = _one_hot("labelled_state", label, xp.where(unknown, 0, labels), v.shape[0])
    if bool(xp.any(unknown)):
        log_p = class_log_probabilities(model, v)
        drawn = label.draw(log_p, rng=rng, params=label.Params(xp.zeros_like(label.params.loc)))[0]
        y = xp.where(unknown[:, None], drawn, y)
    return State((v, model.conditional_mean(1, State((v, None, y))), y))


def fit_labels(
    model: BoltzmannMachine,
    data: Any,
    labels: Any,
    *,
    rng: Generator | None = None,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 0.05,
    discriminative: float = 0.0,
    n_chains: int = 100,
    k: int = 1,
    optimizer: Optimizer | None = None,
    checkpoint: Any = None,
) -> list[float]:
    """Train a classification RBM: by persistent contrastive divergence on p(v, y), or on p(y | v).

    The objective is (1 - d) times the mean of -log p(v, y) plus d times the mean of -log p(y | v),
    d = `discriminative`. The second part is differentiated exactly, over all classes.

    Parameters
    ----------
    model : BoltzmannMachine
        Changed in place.
    data : array (num_samples, num_visible)
    labels : array of int (num_samples,)
        -1 where the class is not known; such samples have no part in p(y | v).
    rng : Generator, optional
    epochs, batch_size, n_chains, k : int
        `k` Gibbs sweeps of `n_chains` persistent chains an update.
    learning_rate : float
    discriminative : float
        d, in [0, 1].
    optimizer : Optimizer, optional
        SGD with momentum 0.5 if None.
    checkpoint : str or path, optional
        A file that is written after each epoch. Where it exists already, the run that wrote it goes
        on, bit for bit; it stays when all is done.

    Returns
    -------
    list of float
        Mean of -log p(y | v) over the samples with labels, after each epoch.

    Raises
    ------
    DataError
        Data that the units cannot take, labels that are no classes.
    ParameterError
        A setting out of range.
    DivergenceError
        A parameter is no longer finite.
    CheckpointError
        A checkpoint that is damaged, or of a run with other data or settings.
    """
    label = _label_layer("fit_labels", model)
    counts = {"epochs": epochs, "batch_size": batch_size, "k": k, "n_chains": n_chains}
    for name, value in counts.items():
        positive_int("fit_labels", name, value)
    if not isinstance(learning_rate, int | float) or not 0 < learning_rate < math.inf:
        raise ParameterError(
            f"fit_labels: learning_rate is {learning_rate!r}, expected a finite number above 0"
        )
    if not 0 <= discriminative <= 1:
        raise ParameterError(
            f"fit_labels: discriminative is {discriminative!r}, expected a number in [0, 1]"
        )
    generator = default_generator() if rng is None else check_rng("fit_labels", rng)
    v = check_data(model, data, function="fit_labels")
    y = to_device(labels, model.device)
    xp = namespace_for(v)
    if y.shape != (v.shape[0],) or y.dtype.kind not in "iu":
        raise DataError(
            f"fit_labels: labels are {y.dtype} of shape {tuple(y.shape)}, expected integers "
            f"({v.shape[0]},)"
        )
    # named errors before anything has changed
    _one_hot("fit_labels", label, xp.where(y == -1, 0, y), v.shape[0])
    rule = SGD(momentum=0.5) if optimizer is None else optimizer
    memory = rule.init(model.parameters())
    with on(model.device):
        known = xp.nonzero(y >= 0)[0]
        if not len(known):
            raise DataError(f"fit_labels: none of {len(y)} samples has a label, all are -1")
        told: dict[str, Any] = {**counts, "learning_rate": learning_rate}
        told |= {"discriminative": discriminative}
        told |= {"model": model.config(), "optimizer": rule.get_config()}
        if checkpoint is not None:
            told |= {"data": checksum(v), "labels": checksum(y)}
        file = ProgressFile("fit_labels", checkpoint, told)
        history: list[float] = file.history
        step = gibbs(k, donate=True)
        chains = model.random_state(n_chains, rng=generator)
        own = {f"model.{name}": array for name, array in model.parameters().items()}
        own |= {f"optimizer.{name}": array for name, array in memory.items()}
        file.take_over(own | arrays_of(chains), generator)
        for _ in range(len(history), epochs):
            order = to_device(generator.permutation(v.shape[0]), model.device)
            for start in range(0, v.shape[0], batch_size):
                rows = order[start : start + batch_size]
                gradient: dict[str, Any] = {}
                if discriminative < 1:
                    positive = labelled_state(model, v[rows], y[rows], rng=generator)
                    chains, info = step(generator, model, chains)
                    _add(gradient, model.gradient(positive, info.expected), 1 - discriminative)
                if discriminative > 0:
                    _add(gradient, _posterior_gradient(model, v[rows], y[rows]), discriminative)
                rule.update_(model.parameters(), gradient, memory, learning_rate)
                model.enforce_constraints(function="fit_labels")
            log_p = class_log_probabilities(model, v[known])
            history.append(-float(xp.mean(log_p[xp.arange(len(known)), y[known]])))
            check_finite("fit_labels", model.parameters(), f"after epoch {len(history)}")
            file.save(own | arrays_of(chains), history, generator)
    return history


def _add(total: dict[str, Any], gradient: Any, factor: float) -> None:
    pairs = gradient.items() if isinstance(gradient, dict) else named_arrays(gradient)
    for name, array in pairs:
        array = factor * array
        total[name] = total[name] + array if name in total else array


def _posterior_gradient(model: BoltzmannMachine, v: Any, y: Any) -> dict[str, Any]:
    """Gradient of the mean of -log p(y | v) over the samples whose class is known."""
    xp = namespace_for(v)
    own = model.parameters()
    known = (y >= 0).astype(v.dtype)
    label: Any = model.layers[-1]
    hot = _one_hot("fit_labels", label, xp.where(y < 0, 0, y), v.shape[0]) * known[:, None]
    hot = hot * (-1 / xp.maximum(xp.sum(known), 1))
    tensors = {name: tensor(p, copy=False) for name, p in own.items()}
    log_p = class_log_probabilities(model, v, tensors)
    (log_p * hot).sum().backward()
    # the visible biases and a J among visible units have no part in p(y | v)
    found = {n: xp.zeros_like(own[n]) if t.grad is None else t.grad for n, t in tensors.items()}
    add_penalties_(model, found)
    return found
