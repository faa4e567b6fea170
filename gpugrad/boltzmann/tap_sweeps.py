"""Sweeps of the magnetisations towards a minimum of the TAP free energy Gamma.

With x = a + (fields of the neighbours), dGamma/dm = theta - x, where theta is the field in which a
unit alone has mean m: logit(m) for Bernoulli, artanh(m) for Ising units. Layers of even and of odd
number take turns, each given the other:

    fixed point    m <- damping m + (1 - damping) mean(x)
    descent        theta <- theta + r (x - theta), unit by unit

With the neighbours given, Gamma is a sum over the units of a layer, at second order convex in each;
the descent makes Newton's step, r = 1 / (1 - c dx/dm), and halves r while Gamma of that unit would
rise. So Gamma never rises, at the price of the same products as a fixed-point step.

References
----------
Gabrie, Tramel and Krzakala, "Training restricted Boltzmann machines via the
Thouless-Anderson-Palmer free energy", NIPS 2015.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.state import namespace_for
from gpugrad.errors import ParameterError
from gpugrad.primitives.gibbs import wide_type
from gpugrad.primitives.tap import cumulants, effective_field, tap_fields, tap_update

__all__ = ["FACTORS", "TapSweeps", "check_machine", "clamped_units", "own_field"]

FACTORS = (1.0, 1 / 2, 1 / 6)
"""What the powers of the weights are multiplied with in Gamma."""
HALVINGS = 10
"""Times that the descent halves a step before it leaves the unit where it is."""


def check_machine(function: str, model: BoltzmannMachine, order: int = 2) -> None:
    """Raise a ParameterError unless the machine has a TAP free energy of this order."""
    check_boltzmann(function, model)
    if model.lateral:
        raise ParameterError(
            f"{function}: {model!r} has couplings inside a layer, expected none: they close "
            "triangles, which the expansion leaves out"
        )
    for i, layer in enumerate(model.layers):
        if not isinstance(layer, SpinLayer):
            raise ParameterError(
                f"{function}: layer {i} has {layer.layer_type} units, expected Bernoulli or Ising"
            )
    if order not in (2, 3):
        raise ParameterError(f"{function}: order is {order!r}, expected 2 or 3")


def own_field(xp: Any, unit: str, m: Any) -> Any:
    """The field in which a unit alone has mean m."""
    return xp.arctanh(m) if unit == "ising" else xp.log(m) - xp.log1p(-m)


def clamped_units(model: BoltzmannMachine, visible: Any) -> list[Any]:
    """The visible states and the hidden units' neutral values, where a clamped iteration starts.

    Parameters
    ----------
    model : BoltzmannMachine
    visible : array (rows, num_visible)
    """
    wide = wide_type(model.dtype)
    layers: list[Any] = model.layers[1:]
    xp = namespace_for(visible)
    hidden = [xp.full((len(visible), x.num_units), x.neutral, dtype=wide) for x in layers]
    return [visible.astype(wide, copy=False), *hidden]


class TapSweeps:
    """Magnetisations of all layers that move towards a minimum of Gamma; changed in place.

    Nothing here waits for the device but `descend`.

    Parameters
    ----------
    model : BoltzmannMachine
        Its parameters may change between sweeps, unless units are clamped.
    units : sequence of array (rows, num_units)
        One a layer; kept, and written to. Of the type of computation: float64 for a machine of
        float64, else float32.
    order : {2, 3}
    clamped : bool
        The visible units are states that stay.
    """

    def __init__(
        self,
        model: BoltzmannMachine,
        units: Sequence[Any],
        *,
        order: int = 2,
        clamped: bool = False,
    ) -> None:
        self.model, self.units = model, list(units)
        self.order, self.clamped = order, clamped
        self._held: Any = None

    def _moments(self, i: int) -> tuple[Any, ...]:
        return cumulants(self.model.layers[i].layer_type, self.units[i], self.order)

    def _from_clamped(self) -> list[Any]:
        """What the clamped visible units send: a field that stays, and no fluctuations."""
        v = self.units[0]
        xp = namespace_for(v)
        if self._held is None:
            self._held = xp.matmul(v, self.model.weights[0].W().astype(v.dtype, copy=False))
        nothing = [xp.zeros_like(self._held) for _ in range(self.order - 1)]
        return [self._held.copy(), *nothing]

    def fields(self, i: int) -> list[Any]:
        """What the neighbours of layer i send: F, V and at third order T, (rows, num_units)."""
        model = self.model
        total: list[Any] = []
        if i == 1 and self.clamped:
            total = self._from_clamped()
        elif i > 0:
            total = list(tap_fields(model.weights[i - 1].W(), *self._moments(i - 1)))
        if i < model.num_layers - 1:
            W, moments = model.weights[i].W(), self._moments(i + 1)
            sent = tap_fields(W, *moments, transposed=True)
            if not total:
                return list(sent)
            for field, more in zip(total, sent, strict=True):
                field += more
        return total

    def moving(self) -> list[int]:
        """The layers that are updated: those of even number, then those of odd."""
        layers = range(self.model.num_layers)
        return [i for i in (*layers[::2], *layers[1::2]) if i or not self.clamped]

    def step(self, damping: float = 0.5) -> None:
        """One sweep of damped fixed-point updates."""
        for i in self.moving():
            layer, m = self.model.layers[i], self.units[i]
            tap_update(
                m,
                layer.params[0],
                *self.fields(i),
                unit=layer.layer_type,
                damping=damping,
                out=m,
            )

    def descend(self, own: list[Any]) -> None:
        """One sweep of Newton steps, halved unit by unit until Gamma does not rise.

        Parameters
        ----------
        own : list of array (rows, num_units)
            The fields in which the units alone have their means, which are what moves.
        """
        for i in self.moving():
            layer: Any = self.model.layers[i]
            m, fields = self.units[i], self.fields(i)
            own[i] = _descend(layer, own[i], m, fields)
            m[...] = layer.unit_mean(namespace_for(m), layer.Params(0), own[i])

    def residual(self) -> Any:
        """Largest |mean(x) - m| over the units, one value a row."""
        worst: Any = None
        for i in self.moving():
            layer, m = self.model.layers[i], self.units[i]
            xp = namespace_for(m)
            fresh = tap_update(m, layer.params[0], *self.fields(i), unit=layer.layer_type)
            fresh -= m
            here = xp.max(xp.absolute(fresh, out=fresh), axis=1)
            worst = here if worst is None else xp.maximum(worst, here)
        return worst


def _descend(layer: Any, own: Any, m: Any, fields: Sequence[Any]) -> Any:
    """The fields of a layer's units after one Newton step on Gamma, halved where it would rise."""
    xp, unit = namespace_for(m), layer.layer_type
    nothing = layer.Params(0)
    bias = layer.params.loc.astype(m.dtype, copy=False)
    linear = fields[0] + bias
    factors = FACTORS[1:]

    def value(theta: Any, mean: Any) -> Any:
        """A unit's part of Gamma, with the entropy of the mean in the field theta."""
        gamma = theta * mean - layer.unit_log_partition(xp, nothing, theta)
        gamma -= linear * mean
        for field, factor, cumulant in zip(
            fields[1:], factors, cumulants(unit, mean, len(fields))[1:], strict=False
        ):
            gamma -= factor * field * cumulant
        return gamma

    start, slope = value(own, m), own - effective_field(unit, m, bias, fields)
    # d(slope)/d(theta) = 1 - c dx/dm, which is above 1 wherever Gamma is convex enough
    bend = fields[1] if len(fields) == 2 else fields[1] - 2 * (m - layer.neutral) * fields[2]
    step = -slope / xp.maximum(1 + cumulants(unit, m)[1] * bend, 1)
    # a slope that kept its sign tells a fall that the rounding of Gamma hides
    slack = 64 * float(np.finfo(m.dtype).eps) * (1 + xp.absolute(start))
    moved = own + step
    for _ in range(HALVINGS):
        mean = layer.unit_mean(xp, nothing, moved)
        now = moved - effective_field(unit, mean, bias, fields)
        allowed = start + xp.where(now * slope >= 0, slack, 0)
        rises = ~(value(moved, mean) <= allowed)
        if not bool(xp.any(rises)):
            return moved
        step *= 0.5
        moved = xp.where(rises, own + step, moved)
    return xp.where(rises, own, moved)
