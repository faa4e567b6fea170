"""Integrals of a Boltzmann weight over an interval, for all units and samples of a batch at once.

The weight exp(v(x)) of each unit in its field is a smooth function of one variable. Three steps:

1. `find_bulk`: the part of the interval outside of which the weight is negligible. A grid over the
   interval (over distances up to 10^6, where it is infinite) finds the highest point; the part that
   is not far below it is gridded again, until it shrinks no more.
2. `Panels`: the bulk is cut into equal panels, each with a Gauss-Legendre rule of 16 points. Where
   the last two Legendre coefficients of the weight add up, over all panels, to more than the
   tolerance of the integral, the number of panels is doubled.
3. The same coefficients give the distribution function, a polynomial in each panel, which is
   inverted for a random number.

The error that is bounded in this way is that of the distribution function. The integral itself has
an error of the order of its square: the rule is exact to twice the degree.

A weight with a kink, or with a peak far narrower than the distance to the next one, is not resolved
by a grid that does not know of it; a kink is given as a break, where a panel then ends.

References
----------
Trefethen, "Approximation theory and approximation practice" (2013), chapters 8 and 19.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.polynomial import legendre, polynomial

from gpugrad.backend.array_module import device_of, to_device
from gpugrad.errors import NoPartitionFunctionError, ParameterError

__all__ = ["Panels", "find_bulk", "highest_point", "rising_root"]

_NODES = 16
_MAX_PANELS = 512
_OUTER_POINTS = 97
_ZOOM_POINTS = 25
_MAX_ZOOMS = 20
_FARTHEST = 1e6
# Weights below e^-cut of the highest one are left out: 1e-15 and, in single precision, 4e-8.
_CUT = {8: 34.0, 4: 17.0}
# What the rounding of single precision leaves in the last coefficients.
_LEAST_TOLERANCE = {8: 1e-12, 4: 2e-5}

_X, _W = legendre.leggauss(_NODES)
# Legendre coefficients of a function from its values at the nodes ...
_TO_LEGENDRE = (np.arange(_NODES)[:, None] + 0.5) * _W * legendre.legvander(_X, _NODES - 1).T
# ... and the power series of its integral from -1.
_INTEGRATE = np.zeros((_NODES + 1, _NODES))
for _k in range(_NODES):
    _series = polynomial.polyint(legendre.leg2poly(np.eye(_NODES)[_k][: _k + 1]), lbnd=-1)
    _INTEGRATE[: _k + 2, _k] = _series

LogWeight = Callable[[Any], Any]


def _outer_grid(interval: tuple[float, float]) -> np.ndarray:
    low, high = interval
    far = math.asinh(_FARTHEST)
    if math.isinf(low) and math.isinf(high):
        return np.sinh(np.linspace(-far, far, _OUTER_POINTS))
    if math.isinf(high):
        return low + np.sinh(np.linspace(0, far, _OUTER_POINTS))
    if math.isinf(low):
        return high - np.sinh(np.linspace(far, 0, _OUTER_POINTS))
    return np.linspace(low, high, _ZOOM_POINTS)


def _finite(xp: Any, v: Any) -> Any:
    """An energy that is nan (a difference of infinities) counts as an infinite one."""
    return xp.where(xp.isnan(v), -math.inf, v)


def _ends(xp: Any, v: Any) -> tuple[Any, Any]:
    """Numbers of the first and the last grid point that are not negligible."""
    above = v > xp.max(v, axis=0, keepdims=True) - _CUT[v.dtype.itemsize]
    last = v.shape[0] - 1 - xp.argmax(xp.flip(above, 0), axis=0)
    return xp.argmax(above, axis=0), last


def find_bulk(
    xp: Any, log_weight: LogWeight, interval: tuple[float, float], like: Any, name: str
) -> tuple[Any, Any]:
    """Ends of the part of the interval that holds the weight of each unit.

    Parameters
    ----------
    xp : namespace
    log_weight : callable
        Values v (points, num_samples, num_units) at points that broadcast to that shape.
    interval : tuple of float
        Either end may be infinite.
    like : array (num_samples, num_units)
        Of the float dtype and on the device to work with.
    name : str
        What error messages start with.

    Returns
    -------
    low, high : array (num_samples, num_units)

    Raises
    ------
    NoPartitionFunctionError
        At the far end of an infinite interval the weight is not negligible.
    """
    grid = to_device(_outer_grid(interval).astype(like.dtype), device_of(like))
    points = grid.shape[0]
    v = _finite(xp, log_weight(grid[:, None, None]))
    first, last = _ends(xp, v)
    open_ends = []
    if math.isinf(interval[0]):
        open_ends.append(first == 0)
    if math.isinf(interval[1]):
        open_ends.append(last == points - 1)
    wrong = ~xp.isfinite(xp.max(v, axis=0))
    for is_open in open_ends:
        wrong = wrong | is_open
    if bool(xp.any(wrong)):
        unit = int(xp.nonzero(xp.any(wrong, axis=0))[0][0])
        raise NoPartitionFunctionError(
            f"{name}: the Boltzmann weight of unit {unit} in its field cannot be integrated over "
            f"{interval}, expected an energy that is finite somewhere and rises towards infinity"
        )
    low = xp.take(grid, xp.maximum(first - 1, 0))
    high = xp.take(grid, xp.minimum(last + 1, points - 1))
    fraction = to_device(np.linspace(0, 1, _ZOOM_POINTS).astype(like.dtype), device_of(like))
    for _ in range(_MAX_ZOOMS):
        width = high - low
        v = _finite(xp, log_weight(low + width * fraction[:, None, None]))
        first, last = _ends(xp, v)
        step = width / (_ZOOM_POINTS - 1)
        # from the nearer end: the ends of the interval itself are kept as they are
        new_low = low + step * xp.maximum(first - 1, 0).astype(like.dtype)
        high = high - step * xp.maximum(_ZOOM_POINTS - 2 - last, 0).astype(like.dtype)
        low = new_low
        if bool(xp.all(high - low > 0.7 * width)):
            break
    return low, high


class Panels:
    """Gauss-Legendre panels on the bulk of the weight of every unit.

    Parameters
    ----------
    xp : namespace
    log_weight : callable
        See `find_bulk`.
    low, high : array (num_samples, num_units)
        Ends of the bulk.
    breaks : sequence of float
        Where the weight is not smooth.
    tolerance : float
        Largest error of the distribution function; 2e-5 if that is more, in single precision.
    count : int
        Panels to begin with, in each piece between breaks.
    name : str
        What error messages start with.

    Attributes
    ----------
    count : int
        Panels at the end.
    nodes : array (num_nodes, num_samples, num_units)
    measure : array (num_nodes, num_samples, num_units)
        Weights of the rule: an integral is a sum over the nodes of measure times function.
    values : array (num_nodes, num_samples, num_units)
        exp(v - peak).
    peak : array (num_samples, num_units)
        Largest v among the nodes.
    error : float
        Estimate of the largest error of the distribution function.

    Raises
    ------
    ParameterError
        The tolerance is not reached with 512 panels.
    """

    def __init__(
        self,
        xp: Any,
        log_weight: LogWeight,
        low: Any,
        high: Any,
        *,
        breaks: Sequence[float] = (),
        tolerance: float = 1e-6,
        count: int = 2,
        name: str = "Panels",
    ) -> None:
        self.xp, self.low, self.high = xp, low, high
        self._edges = [low, *(xp.clip(xp.full_like(low, b), low, high) for b in breaks), high]
        limit = max(tolerance, _LEAST_TOLERANCE[low.dtype.itemsize])
        while True:
            self._lay(count, log_weight)
            self.error = self._estimate()
            self.count = count
            if self.error <= limit:
                return
            count *= 2
            if not count <= _MAX_PANELS:
                raise ParameterError(
                    f"{name}: the distribution function has an error of {self.error:.1e} after "
                    f"{_MAX_PANELS} panels, expected {limit:.1e}: where the energy is not smooth, "
                    "list the points in `breaks`"
                )

    def _constant(self, x: np.ndarray) -> Any:
        return to_device(x.astype(self.low.dtype), device_of(self.low))

    def _lay(self, count: int, log_weight: LogWeight) -> None:
        """Cut each piece between breaks into `count` panels and evaluate the weight there."""
        xp = self.xp
        odd = self._constant(2.0 * np.arange(count) + 1)[:, None, None]
        centres, halves = [], []
        for a, b in zip(self._edges, self._edges[1:], strict=False):
            half = (b - a) / (2 * count)
            centres.append(a + half * odd)
            halves.append(xp.broadcast_to(half, (count, *half.shape)))
        self.centre, self.half = xp.concatenate(centres, axis=0), xp.concatenate(halves, axis=0)
        shape = (_NODES * self.half.shape[0], *self.low.shape)
        nodes = self.centre[:, None] + self.half[:, None] * self._constant(_X)[:, None, None]
        self.nodes = xp.reshape(nodes, shape)
        weights = self.half[:, None] * self._constant(_W)[:, None, None]
        self.measure = xp.reshape(weights, shape)
        v = _finite(xp, log_weight(self.nodes))
        self.peak = xp.max(v, axis=0)
        self.values = xp.exp(v - self.peak)
        self.total = xp.sum(self.values * self.measure, axis=0)

    def _by_panel(self) -> Any:
        """The weight, (num_panels, 16, num_samples, num_units)."""
        return self.xp.reshape(self.values, (self.half.shape[0], _NODES, *self.low.shape))

    def _estimate(self) -> float:
        xp = self.xp
        if self.low.size == 0:
            return 0.0
        flat = xp.reshape(self.values, (self.half.shape[0], _NODES, -1))
        last = xp.absolute(xp.matmul(self._constant(_TO_LEGENDRE[-2:]), flat))
        tail = xp.reshape(xp.sum(last, axis=1), self.half.shape) * self.half
        return float(xp.max(xp.sum(tail, axis=0) / self.total))

    def log_integral(self) -> Any:
        """Logarithm of the integral of exp(v), (num_samples, num_units)."""
        return self.peak + self.xp.log(self.total)

    def mean(self) -> Any:
        """Mean of x under the weight, (num_samples, num_units)."""
        # relative to the lower end, so that a narrow peak far from 0 keeps its digits
        distance = (self.nodes - self.low) * self.measure
        return self.low + self.xp.sum(self.values * distance, axis=0) / self.total

    def quantile(self, u: Any) -> Any:
        """The x at which the distribution function is u, (num_samples, num_units).

        Parameters
        ----------
        u : array (num_samples, num_units)
            In [0, 1).
        """
        xp = self.xp
        by_panel = self._by_panel()
        mass = xp.sum(by_panel * self._constant(_W)[:, None, None], axis=1) * self.half
        cumulated = xp.cumsum(mass, axis=0)
        target = u * cumulated[-1]
        panel = xp.sum(target >= cumulated[:-1], axis=0)[None]
        rest = target - xp.take_along_axis(cumulated - mass, panel, axis=0)[0]
        half = xp.take_along_axis(self.half, panel, axis=0)[0]
        centre = xp.take_along_axis(self.centre, panel, axis=0)[0]
        chosen = xp.take_along_axis(by_panel, panel[None], axis=0)[0]
        # power series of the distribution function in this panel, as a function of t in [-1, 1]
        # in float64: its terms are large and cancel
        series = to_device(_INTEGRATE @ _TO_LEGENDRE, device_of(self.low))
        flat = xp.reshape(chosen, (_NODES, u.size)).astype("float64")
        c = xp.reshape(xp.matmul(series, flat), (_NODES + 1, *u.shape))
        rest = (rest / xp.where(half > 0, half, 1)).astype("float64")
        left, right = xp.full_like(rest, -1), xp.ones_like(rest)
        for step in range(18):
            middle = 0.5 * (left + right)
            value, slope = c[_NODES], xp.zeros_like(rest)
            for k in range(_NODES - 1, -1, -1):
                slope = slope * middle + value
                value = value * middle + c[k]
            below = value < rest
            left, right = xp.where(below, middle, left), xp.where(below, right, middle)
            if step < 12:
                continue
            # the bracket is short: Newton's method, kept inside
            root = middle - (value - rest) / xp.where(slope > 0, slope, math.inf)
            root = xp.clip(root, left, right)
        return xp.clip(centre + half * root.astype(half.dtype), self.low, self.high)


def highest_point(xp: Any, log_weight: LogWeight, panels: Panels) -> Any:
    """The x of the largest weight, the lower of two equal ones, (num_samples, num_units).

    From the highest node, and from the highest one that is not near it.
    """
    best = xp.argmax(panels.values, axis=0)[None]
    first = xp.take_along_axis(panels.nodes, best, axis=0)[0]
    reach = xp.take_along_axis(panels.half, best // _NODES, axis=0)[0]
    far = xp.absolute(panels.nodes - first) > 2 * reach
    other = xp.argmax(xp.where(far, panels.values, -1), axis=0)[None]
    second = xp.take_along_axis(panels.nodes, other, axis=0)[0]
    x, top = _climb(xp, log_weight, panels, first, reach)
    y, top_y = _climb(xp, log_weight, panels, second, reach)
    rounding = 8 * xp.finfo(x.dtype).eps * (1 + xp.absolute(top))
    better = (top_y > top + rounding) | ((top_y >= top - rounding) & (y < x))
    return xp.where(better, y, x)


def _climb(xp: Any, log_weight: LogWeight, panels: Panels, x: Any, reach: Any) -> tuple[Any, Any]:
    """The highest point within `reach` of x, and the logarithm of its weight."""
    eighths = to_device((np.arange(9) / 8).astype(x.dtype), device_of(x))[:, None, None]
    for _ in range(16):
        left = xp.maximum(x - reach, panels.low)
        right = xp.minimum(x + reach, panels.high)
        points = xp.concatenate([left + (right - left) * eighths[:-1], right[None]], axis=0)
        v = _finite(xp, log_weight(points))
        best = xp.argmax(v, axis=0)[None]
        x = xp.take_along_axis(points, best, axis=0)[0]
        reach = 0.25 * reach
    return x, xp.take_along_axis(v, best, axis=0)[0]


def rising_root(xp: Any, f: Any, left: Any, right: Any, f_left: Any, f_right: Any) -> Any:
    """Where a rising function is 0, between points of both signs: the Illinois method.

    Dowell and Jarratt, "A modified regula falsi method ...", BIT 11 (1971).
    """
    x, was_below = left, None
    for step in range(100):
        slope = f_right - f_left
        inside = xp.where(slope > 0, -f_left / xp.where(slope > 0, slope, 1), 0.5)
        # every fourth step halves: the method is slow where the function is flat on one side
        x = left + (0.5 if step % 4 == 3 else xp.clip(inside, 0, 1)) * (right - left)
        value = f(x)
        below = value < 0
        # a side that stays for a second time counts half
        again = (below == was_below) if step else False
        f_left = xp.where(below, value, xp.where(again, 0.5 * f_left, f_left))
        f_right = xp.where(below, xp.where(again, 0.5 * f_right, f_right), value)
        was_below = below
        left, right = xp.where(below, x, left), xp.where(below, right, x)
        near = (xp.absolute(value) < 1e-14) | (right - left < 1e-14 * (1 + xp.absolute(x)))
        if bool(xp.all(near)):
            break
    return x
