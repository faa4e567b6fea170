"""The straight path in energy from a base machine without couplings to the machine itself.

    E_beta = (1 - beta) E_base + beta E

Chains live on the states of every second layer (the kept ones, the visible layer among them, and
layers with lateral couplings); the others are summed out exactly, so that a transition draws them
and then the kept layers anew. Kept units that are coupled to each other are drawn one block after
the other, there and back, so that the transition is reversible.

A layer at a point of the path is again a layer of its type, with other parameters:

    energy linear in parameters   `bridge`, at inverse temperature beta in the field phi
    Gaussian                      precision and precision x mean are mixed, 1/v = (1-beta)/v0 +
                                  beta/var; the field is beta phi v / var
    ReLU                          loc is mixed; the field is beta phi
    any other                     its base is itself, without couplings: the field is beta phi

The base of the visible layer is fitted to data. Hidden units of bounded support are free at the
base (loc is 0); unbounded ones are fitted to states drawn given the data.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.array_module import asnumpy, get_array_module
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers.gaussian import GaussianLayer
from gpugrad.boltzmann.layers.relu import ReLULayer
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.partition_exact import float64_params
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.spin_sums import spin_growth
from gpugrad.boltzmann.state import State, namespace_for, product_of

__all__ = ["AnnealingPath", "Progress", "fitted_params", "kept_layers"]

Progress = Callable[[int, int], None]

_NEAR = 0.025
"""Steps of beta up to which the growth of log-partition functions is taken from the means."""

_FITTED_TO = 1000
"""Data rows that the hidden units of the base machine are fitted to."""


def kept_layers(model: BoltzmannMachine) -> list[int]:
    """The layers whose states the chains hold, given which the units of the others are independent.

    The visible layer; then each layer that has lateral couplings, or whose lower neighbour is not
    kept.

    Parameters
    ----------
    model : BoltzmannMachine
    """
    kept = [0]
    for i in range(1, model.num_layers):
        if i in model.lateral or kept[-1] != i - 1:
            kept.append(i)
    return kept


class _Point(NamedTuple):
    """A layer at a point of the path: parameters, inverse temperature, and what to do to fields."""

    params: Any
    beta: float | None
    scale: Any
    """Factor of the field that the neighbours send; None for 1."""
    constant: Any
    """Energy that these parameters leave out, summed over the units."""


def _bridged(layer: UnitLayer) -> bool:
    return type(layer).bridge is not UnitLayer.bridge


def _with_params(layer: Any, params: Any) -> Any:
    """A layer of the same type with other parameters."""
    twin = copy.copy(layer)
    twin.params = params
    return twin


def fitted_params(layer: Any, states: Any) -> Any:
    """Parameters of such a layer without neighbours, fitted to these states; it stays as it is."""
    twin = _with_params(layer, type(layer.params)(*(p.copy() for p in layer.params)))
    twin.sample_size, twin._moment = 0, None
    twin.online_param_update(states)
    return twin.params


def _part(params: Any, block: Any) -> Any:
    """The parameters of a block of units."""
    return type(params)(*(p[block.units] for p in params))


def _point(layer: Any, base: Any, beta: float) -> _Point:
    """The layer at 0 < beta <= 1."""
    own = layer.params
    if _bridged(layer):
        return _Point(layer.bridge(base, beta), beta, None, 0.0)
    if isinstance(layer, GaussianLayer):
        xp, dtype = namespace_for(own.loc), own.loc.dtype
        loc0, log_var0 = float64_params(base)
        loc1, log_var1 = float64_params(own)
        first, second = (1 - beta) * xp.exp(-log_var0), beta * xp.exp(-log_var1)
        precision = first + second
        loc = (first * loc0 + second * loc1) / precision
        # completing the square leaves the energy at the mixed mean
        left = 0.5 * xp.sum(first * loc0**2 + second * loc1**2 - precision * loc**2)
        mixed = type(own)(loc.astype(dtype), (-xp.log(precision)).astype(dtype))
        return _Point(mixed, None, (second / precision).astype(dtype), left)
    if isinstance(layer, ReLULayer):
        return _Point(own._replace(loc=(1 - beta) * base.loc + beta * own.loc), None, beta, 0.0)
    return _Point(own, None, beta, 0.0)


class AnnealingPath:
    """The machines between a base machine without couplings and the model.

    Parameters
    ----------
    model : BoltzmannMachine
    data : array (num_samples, num_visible), optional
        What the base is fitted to; the machine's own short chains if None.
    rng : Generator

    Attributes
    ----------
    log_z : float
        log Z of the base machine.
    """

    def __init__(self, model: BoltzmannMachine, data: Any, rng: Generator) -> None:
        self.model = model
        self.kept = kept_layers(model)
        self.summed = [i for i in range(model.num_layers) if i not in self.kept]
        self.W = [w.W() for w in model.weights]
        self.W_T = [w.W_T() for w in model.weights]
        self.ns = namespace_for(model.layers[0].params[0])
        self.product = product_of(model.layers[0].params[0])
        coupled = any(i in model.lateral or i + 1 in self.kept for i in self.kept)
        self.blocks = self._blocks() if coupled else None
        states = self._states_near(data, rng)
        self.base = [self._base(i, states[i]) for i in range(model.num_layers)]
        self.base_log_z = [self._free_log_z(i) for i in range(model.num_layers)]
        self.log_z = sum(self.base_log_z)

    def _blocks(self) -> list[tuple[int, Any]]:
        """Blocks of independent units of the kept layers, (layer, block), there and back."""
        there: list[tuple[int, Any]] = []
        for i in self.kept:
            found = self.model.lateral.get(i)
            there += [(i, block) for block in ([None] if found is None else found.blocks())]
        return there + there[-2::-1]

    # ---- the base machine

    def _states_near(self, data: Any, rng: Generator) -> Any:
        """States of all layers that the base is fitted to; hidden ones only where needed."""
        model = self.model
        if data is None:
            # no data given: the base takes the means of the machine's own short chains
            state, _ = gibbs(100)(rng, model, model.random_state(200, rng=rng))
            return state
        hidden = [None] * (model.num_layers - 1)
        if all(layer.growth == "bounded" for layer in model.layers[1:]):
            return State((data, *hidden))
        rows = data[:: -(-data.shape[0] // _FITTED_TO)]
        sweeps = 1 if model.num_layers == 2 else 20
        start = model.random_state(rows.shape[0], rng=rng).replace(0, rows)
        held = get_array_module(rows).ones(rows.shape[1], dtype=bool)
        state, _ = gibbs(sweeps, clamp=held)(rng, model, start)
        return State((data, *state.units[1:]))

    def _base(self, i: int, states: Any) -> Any:
        layer: Any = self.model.layers[i]
        if not _bridged(layer) and not isinstance(layer, GaussianLayer | ReLULayer):
            return layer.params
        if i > 0 and layer.growth == "bounded":
            return layer.params._replace(loc=self.ns.zeros_like(layer.params.loc))
        return fitted_params(layer, states)

    def _free_log_z(self, i: int) -> float:
        params = float64_params(self.base[i])
        layer = self.model.layers[i]
        zero = self.ns.zeros((1, layer.num_units), dtype="float64")
        return float(self.ns.sum(layer.unit_log_partition(self.ns, params, zero)))

    def start(self, n: int, rng: Generator) -> list[Any]:
        """n states of the kept layers of the base machine."""
        found = []
        for i in self.kept:
            layer = self.model.layers[i]
            zero = self.ns.zeros((n, layer.num_units), dtype=self.model.dtype)
            found.append(layer.draw(zero, rng=rng, out=zero, params=self.base[i])[0])
        return found

    # ---- at a point of the path

    def field(self, i: int, units: dict[int, Any], out: Any) -> Any:
        """What the neighbours of layer i that have units send to it, into `out`."""
        layers, first = self.model.layers, True
        for j in (i - 1, i + 1):
            if j not in units:
                continue
            W = self.W[j] if j < i else self.W_T[i]
            scaled = layers[j].rescale(units[j])
            if first:
                self.product(scaled, W, out=out)
            else:
                out += self.product(scaled, W)
            first = False
        if first:
            out[...] = 0
        return out

    def _log_partition(self, i: int, phi: Any, beta: float) -> Any:
        """log of the sum over the states of layer i at a point of the path, (n,), in float64."""
        if beta == 0:
            return self.base_log_z[i]
        layer = self.model.layers[i]
        point = _point(layer, self.base[i], beta)
        field = phi if point.scale is None else phi * point.scale
        log_z = layer.unit_log_partition(self.ns, point.params, field, point.beta)
        return self.ns.sum(log_z, axis=1, dtype="float64") - point.constant

    def _slope(self, kept: Any) -> Any:
        """Fall of the kept layers' energy along the path, E_base - E, couplings included, (n,)."""
        total: Any = 0.0
        for i, units in zip(self.kept, kept, strict=True):
            layer = self.model.layers[i]
            base = layer.unit_energy(self.ns, self.base[i], units)
            total = total + (base - layer.unit_energy(self.ns, layer.params, units))
        if self.blocks is not None:
            total = total - self._inner_energy(kept)
        return total.astype("float64")

    def _growth_of(self, i: int, phi: Any, before: float, after: float) -> Any:
        return self._log_partition(i, phi, after) - self._log_partition(i, phi, before)

    def _growth(self, fields: Any, before: float, after: float) -> Any:
        """By how much log-partition functions grow between two points, layers added up, (n,)."""
        total: Any = 0.0
        for i, phi in zip(self.summed, fields, strict=True):
            total = total + self._growth_of(i, phi, before, after)
        return total

    def _inner_energy(self, kept: Any) -> Any:
        """Energy of the couplings of kept units to each other, (n,)."""
        model, total = self.model, 0.0
        scaled = {i: model.layers[i].rescale(s) for i, s in zip(self.kept, kept, strict=True)}
        for i, units in scaled.items():
            if i in model.lateral:
                total = total + model.lateral[i].energy(units)
            if i + 1 in scaled:
                total = total + model.weights[i].energy(units, scaled[i + 1])
        return total

    def _draw(self, i: int, field: Any, beta: float, rng: Generator, *, block: Any = None) -> Any:
        """States of layer i (of one block of it) at a point of the path, written over the field."""
        layer, base = self.model.layers[i], self.base[i]
        if block is not None:
            layer = _with_params(layer, _part(layer.params, block))
            base = _part(base, block)
        point = _point(layer, base, beta)
        if point.scale is not None:
            field *= point.scale
        return layer.draw(field, point.beta, rng=rng, out=field, params=point.params)[0]

    def _draw_summed(self, work: "_Workspace", beta: float, other: float, rng: Generator) -> Any:
        """Draw the layers that are summed out; returns `_growth` from beta to `other`."""
        total: Any = 0.0
        for place, i in enumerate(self.summed):
            layer, phi = self.model.layers[i], work.fields[place]
            if other in (beta, 0) or abs(other - beta) > _NEAR or not isinstance(layer, SpinLayer):
                if other != beta:
                    total = total + self._growth_of(i, phi, beta, other)
                work.units[i] = self._draw(i, phi, beta, rng)
                continue
            # the means, which drawing computes anyway, are the weights of the two states
            own, base = layer.params.loc, self.base[i].loc
            out = _, mean = work.arrays(i, phi)
            params = layer.bridge(self.base[i], beta)
            work.units[i] = layer.draw(phi, beta, rng=rng, mean=True, out=out, params=params)[0]
            step = other - beta
            found = spin_growth(phi, mean, step, step * (own - base), layer.support)
            if isinstance(phi, np.ndarray) and not np.all(np.isfinite(found)):
                found = self._growth_of(i, phi, beta, other)
            total = total + found
        return total

    def move(self, work: "_Workspace", beta: float, other: float, rng: Generator) -> Any:
        """A Gibbs transition at beta, written over the kept states.

        Returns
        -------
        array (n,) or 0.0
            `_growth` from beta to `other` in the fields that the transition started from.
        """
        growth = self._draw_summed(work, beta, other, rng)
        if self.blocks is None:
            for i, out in zip(self.kept, work.kept, strict=True):
                self._draw(i, self.field(i, work.units, out), beta, rng)
        else:
            self._move_by_blocks(work, beta, rng)
        self.all_fields(work)
        return growth

    def _move_by_blocks(self, work: "_Workspace", beta: float, rng: Generator) -> None:
        units = work.units | dict(zip(self.kept, work.kept, strict=True))
        for i, block in self.blocks or ():
            if block is None:
                self._draw(i, self.field(i, units, units[i]), beta, rng)
                continue
            phi = self.model.lateral[i].block_field(block, self.model.layers[i].rescale(units[i]))
            sent = self.field(i, units, self.ns.empty_like(units[i]))
            phi = phi + sent[:, block.columns]
            units[i][:, block.columns] = self._draw(i, phi, beta, rng, block=block)

    def all_fields(self, work: "_Workspace") -> None:
        """The fields of the kept states on the layers summed out."""
        units = dict(zip(self.kept, work.kept, strict=True))
        for i, out in zip(self.summed, work.fields, strict=True):
            self.field(i, units, out)

    def anneal(
        self,
        kept: list[Any],
        betas: Sequence[float],
        rng: Generator,
        *,
        up: bool,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """D of every chain (see `partition`).

        Parameters
        ----------
        kept : list of array (n, num_units)
            States of the kept layers; overwritten.
        betas : sequence of float
            From 0 to 1.
        rng : Generator
        up : bool
            From the base to the machine, or back.
        progress : callable, optional
            progress(done, total), about a hundred times.

        Returns
        -------
        numpy.ndarray (n,)
            float64.
        """
        steps = list(pairwise(betas))
        work = _Workspace(self, kept)
        total = self.ns.full(kept[0].shape[0], self.log_z, dtype="float64")
        report = max(1, len(steps) // 100)
        met = betas[-1]  # where the present state was weighed last, on the way down
        for i, (before, after) in enumerate(steps if up else reversed(steps)):
            if up:
                total += (after - before) * self._slope(work.kept)
                total -= self.move(work, after, before, rng)
            else:
                total += self.move(work, after, met, rng)
                total += (after - before) * self._slope(work.kept)
                met = after
            if progress is not None and (i + 1) % report == 0:
                progress(i + 1, len(steps))
        if not up:
            total += self._growth(work.fields, betas[0], met)
        return asnumpy(total)


class _Workspace:
    """Arrays of a group of chains: kept states, fields on the other layers, their units."""

    def __init__(self, path: AnnealingPath, kept: list[Any]) -> None:
        n, dtype, layers = kept[0].shape[0], kept[0].dtype, path.model.layers
        self.kept = kept
        self.fields = [path.ns.empty((n, layers[i].num_units), dtype=dtype) for i in path.summed]
        self.units: dict[int, Any] = {}
        self._arrays: dict[int, tuple[Any, Any]] = {}
        path.all_fields(self)

    def arrays(self, i: int, like: Any) -> tuple[Any, Any]:
        """Arrays for the units of layer i and for their means."""
        if i not in self._arrays:
            xp = namespace_for(like)
            self._arrays[i] = xp.empty_like(like), xp.empty_like(like)
        return self._arrays[i]
