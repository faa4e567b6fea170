"""Samples to train on, in memory: their order in each epoch, batches, and missing values.

Missing values
--------------
The likelihood of a sample with missing visible units is that of the observed ones, with the others
summed out. Its gradient is the difference of

    <dE/dtheta> under p(v_missing, h | v_observed)    and    <dE/dtheta> under p(v, h)

so that the positive phase needs the missing units drawn given the observed ones. Each sample keeps
what was drawn for it, from epoch to epoch, and moves on by k sweeps of Gibbs sampling with the
observed units clamped before it enters a gradient: the positive phase has persistent chains as the
negative one has. That is exact in the limit of a small rate, as persistent contrastive divergence
is; leaving missing units out of the machine, or setting them to their mean, is not. A machine of
two layers needs nothing but the drawn values; a deeper one, or one of a user's own energy, keeps
its hidden units too.

References
----------
Younes, "Parametric inference for imperfectly observed Gibbsian fields", Probab. Theory Relat.
Fields 82 (1989).
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, get_array_module, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.agreement import checksum
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State, check_data, is_state, namespace_for
from gpugrad.errors import CheckpointError, DataError, ParameterError

__all__ = [
    "Samples",
    "check_block",
    "check_drawing",
    "check_weights",
    "draw_states_",
    "warn_of_bits",
    "warn_of_states",
    "watched_rows",
]

WATCHED_SAMPLES = 1000
"""Training samples on which the figures of the log are computed."""
MISSING = ("error", "impute")


class Samples:
    """Samples in memory.

    Parameters
    ----------
    model : BoltzmannMachine or EnergyMachine
    data : array (num_samples, num_visible)
        NaN is a missing value where `missing` is "impute". A host array is sent to the device.
    rng : Generator
        Its key decides the order of the samples, and from it missing units are drawn.
    shuffle : bool
    missing : {"error", "impute"}
    k : int
        Gibbs sweeps that missing units take before each gradient.
    drawn : bool
        States are drawn from the data before they enter a gradient.

    Attributes
    ----------
    values : array (num_samples, num_visible)
        On the device; missing values as they were drawn last.
    mask : array of bool (num_samples, num_visible), or None
        True where a value is missing; None if none is.

    Raises
    ------
    DataError, ParameterError
    """

    def __init__(
        self,
        model: BoltzmannMachine | EnergyMachine,
        data: Any,
        rng: Generator,
        *,
        shuffle: bool = True,
        missing: str = "error",
        k: int = 1,
        drawn: bool = False,
    ) -> None:
        if missing not in MISSING:
            raise ParameterError(f"fit: missing is {missing!r}, expected one of {list(MISSING)}")
        if not hasattr(data, "shape"):
            data = np.asarray(data)
        self.model: Any = model
        self.rng, self.shuffle = rng, bool(shuffle)
        self.k = k
        self.mask: Any = None
        self.hidden: list[Any] = []
        self._fingerprint: dict[str, Any] | None = None
        if missing == "impute" and data.dtype.kind == "f" and data.ndim == 2 and data.size:
            data = self._impute(data)
        self.values = check_block(self.model, data, drawn=drawn)
        self.n_samples = self.values.shape[0]
        if self.mask is not None:
            self.mask = to_device(self.mask, model.device)
            if model.num_layers != 2 or model.lateral or isinstance(model, EnergyMachine):
                self.hidden = list(model.random_state(self.n_samples, rng=rng))[1:]
        self._epoch: int | None = None
        self._order: Any = None
        self._gathered: Any = None
        self._stride = max(1, self.n_samples // WATCHED_SAMPLES)
        self._watched = None
        if self.mask is None:
            self._watched = watched_rows(self.values, self._stride).astype(model.dtype)

    # ---- batches

    def take(self, epoch: int, first: int, stop: int, out: Any) -> Any:
        """Write the samples `first` to `stop` of an epoch's order into `out`, (n, num_visible).

        Returns
        -------
        slice or array of int (n,)
            Which samples these are.
        """
        if self._epoch != epoch:
            self._epoch, self._order = epoch, self._order_of(epoch)
        picked = slice(first, stop) if self._order is None else self._order[first:stop]
        self._gather(picked, out)
        if self.mask is not None:
            self._refresh(picked, out)
        return picked

    def _order_of(self, epoch: int) -> Any:
        """The samples' order, a function of the seed and the epoch alone."""
        if not self.shuffle:
            return None
        order = self.rng.split(f"epoch {epoch}").permutation(self.n_samples)
        return to_device(order, self.model.device)

    def _gather(self, picked: Any, out: Any) -> None:
        """Write the picked samples into `out`, converted to its dtype."""
        if isinstance(picked, slice):
            out[...] = self.values[picked]
            return
        xp = namespace_for(out)
        if self.values.dtype == out.dtype:
            # "clip" writes into out directly; the indices are in range
            xp.take(self.values, picked, axis=0, out=out, mode="clip")
            return
        if self._gathered is None or len(self._gathered) < len(out):
            self._gathered = xp.empty(out.shape, self.values.dtype)
        raw = self._gathered[: out.shape[0]]
        xp.take(self.values, picked, axis=0, out=raw, mode="clip")
        out[...] = raw

    def watched(self) -> Any:
        """Samples for the figures of the log, in the model's dtype; about 1,000 of them."""
        if self._watched is not None:
            return self._watched
        return watched_rows(self.values, self._stride)

    def mean(self, sample_weight: Any = None) -> Any:
        """Mean of the visible units, (num_visible,), in the model's dtype."""
        xp, values = get_array_module(self.values), self.values
        if sample_weight is None:
            return xp.mean(values, axis=0, dtype="float64").astype(self.model.dtype)
        weight, total = sample_weight.astype("float64"), 0.0
        for rows in (slice(i, i + 4096) for i in range(0, self.n_samples, 4096)):
            total = total + xp.matmul(weight[rows], values[rows].astype("float64"))
        return (total / weight.sum()).astype(self.model.dtype)

    # ---- missing values

    def _impute(self, data: Any) -> Any:
        """The data with missing values drawn from units without neighbours; sets `mask`."""
        model = self.model
        mask = get_array_module(data).isnan(data)
        if data.shape[1] != model.layers[0].num_units or not bool(mask.any()):
            return data
        self._fingerprint = checksum(data)
        visible: Any = model.layers[0]
        sites = asnumpy(mask).reshape(data.shape[0], *_sites(visible))
        partly = sites.any(axis=2) & ~sites.all(axis=2)
        if partly.any():
            row, site = (int(i[0]) for i in np.nonzero(partly))
            raise DataError(
                f"fit: data has NaN in some columns of site {site} in sample {row}, expected all "
                f"{sites.shape[2]} of them or none"
            )
        self.mask = mask
        if isinstance(model, EnergyMachine):  # which does not use the layer's own parameters
            drawn = model.random_state(data.shape[0], rng=self.rng).visible
        else:
            drawn = visible.random(tuple(data.shape), rng=self.rng)
        xp = get_array_module(data)
        there = asnumpy(drawn) if xp is np else drawn
        return xp.where(mask, there, data)

    def _refresh(self, picked: Any, rows: Any) -> None:
        """Move the missing units of these samples on, given the observed ones."""
        model, rng = self.model, self.rng
        if not self.hidden and model.num_layers == 2:
            hidden = [model.conditional_sample(1, State((rows, None)), rng=rng)]
        else:
            hidden = [units[picked] for units in self.hidden]
        step = gibbs(self.k, clamp=~self.mask[picked])
        state, _ = step(rng, model, State((rows, *hidden)))
        rows[...] = state.visible
        self.values[picked] = rows
        for own, units in zip(self.hidden, state.units[1:] if self.hidden else (), strict=True):
            own[picked] = units

    # ---- what a checkpoint holds

    def fingerprint(self) -> dict[str, Any]:
        """Shape, dtype and checksum of the data; reads all of them once."""
        if self._fingerprint is None:
            self._fingerprint = checksum(self.values)
        return self._fingerprint

    def settings(self) -> dict[str, Any]:
        """What else must agree between a checkpoint and the run that goes on from it."""
        return {"missing": None if self.mask is None else "impute", "stream": None}

    def arrays(self) -> dict[str, Any]:
        """What was drawn for missing values, and hidden units that go with it."""
        if self.mask is None:
            return {}
        found = {f"missing.{i + 1}": units for i, units in enumerate(self.hidden)}
        return {"missing.0": self.values[self.mask], **found}

    def check_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Raise a CheckpointError where `load_arrays` would find an array missing or unfitting."""
        for name, own in self.arrays().items():
            if name not in arrays or tuple(arrays[name].shape) != tuple(own.shape):
                raise CheckpointError(f"fit: the checkpoint lacks {name} of shape {own.shape}")

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Take over what `arrays` gave; the order of the samples is made anew."""
        self._epoch = None
        if self.mask is None:
            return
        device = self.model.device
        self.values[self.mask] = to_device(arrays["missing.0"], device)
        for i, units in enumerate(self.hidden):
            units[...] = to_device(arrays[f"missing.{i + 1}"], device)

    def close(self) -> None:
        """Nothing is held open."""


def _sites(layer: Any) -> tuple[int, int]:
    """(sites, columns of each): columns of a Potts unit are missing together or not at all."""
    states = getattr(layer, "num_states", 1)
    return layer.num_units // states, states


def watched_rows(rows: Any, stride: int) -> Any:
    """Every stride-th row, WATCHED_SAMPLES of them at most."""
    return rows[::stride][:WATCHED_SAMPLES]


def check_block(model: BoltzmannMachine | EnergyMachine, data: Any, *, drawn: bool = False) -> Any:
    """Data on the model's device; integers and booleans that are states keep their dtype.

    An energy that is not affine in each unit says nothing of means: it takes states alone, unless
    they are drawn from the data (`drawn`).
    """
    layer = model.layers[0]
    low, high = layer.data_range
    compact = data.dtype.kind in "biu" and data.ndim == 2 and data.size and layer.support
    if compact and data.shape[1] == layer.num_units:
        if bool(((data == low) | (data == high)).all()):
            layer.check_rows(data, "fit")
            return to_device(data, model.device)
    data = check_data(model, data, function="fit")
    if not drawn and isinstance(model, EnergyMachine) and model.by == "units":
        if not bool(is_state(get_array_module(data), data, layer.support).all()):
            known = " and ".join(f"{s:g}" for s in layer.support)
            raise DataError(
                f"fit: data has values that are no states of {layer.layer_type} units, expected "
                f"{known}: an energy that is drawn by units takes no means; draw_states=True draws "
                "states from them"
            )
    return data


def check_drawing(model: BoltzmannMachine, draw_states: bool, missing: str) -> bool:
    """Whether states are to be drawn, where they can be.

    Raises
    ------
    ParameterError
        Visible units that are not two-valued; missing values, which keep what was drawn for them.
    """
    if draw_states and len(getattr(model.layers[0], "support", None) or ()) != 2:
        raise ParameterError(
            f"fit: draw_states is True for {model.layers[0]!r}, expected two-valued visible units"
        )
    if draw_states and missing != "error":
        raise ParameterError(
            f"fit: draw_states is True with missing {missing!r}, expected missing 'error'"
        )
    return bool(draw_states)


def draw_states_(model: BoltzmannMachine, rows: Any, rng: Generator) -> None:
    """Replace values between the two states by states of which they are the means, in place."""
    low, high = model.layers[0].support
    upper = rng.bernoulli((rows - low) / (high - low))
    rows[...] = low + (high - low) * upper


def warn_of_states(model: BoltzmannMachine, rows: Any) -> None:
    """Warn where states are to be drawn from data that are states throughout."""
    low, high = model.layers[0].support
    if bool(((rows == low) | (rows == high)).all()):
        warnings.warn(
            "fit: draw_states is True for data that are states already, expected grey values: "
            "nothing changes by drawing",
            UserWarning,
            stacklevel=4,
        )


def warn_of_bits(model: BoltzmannMachine, rows: Any) -> None:
    """Warn where data of Ising units are 0 and 1 throughout, which as floats are means."""
    if model.layers[0].support != (-1.0, 1.0) or rows.dtype.kind != "f":
        return
    zero = rows == 0
    if bool(zero.any()) and bool((zero | (rows == 1)).all()):
        warnings.warn(
            "fit: all data are 0 or 1, which Ising units take as means, 0 as that of a fair coin; "
            "expected -1 and 1: states are 2*x - 1",
            UserWarning,
            stacklevel=4,
        )


def check_weights(sample_weight: Any, n: int, model: BoltzmannMachine) -> Any:
    """Sample weights on the model's device, or None.

    Raises
    ------
    DataError
        Another shape than (n,), or weights that are not finite and positive.
    """
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
