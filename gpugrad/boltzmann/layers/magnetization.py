"""Magnetisations: the expectations of a layer's units, the variables of the TAP free energy.

The Gibbs free energy of layers of two-valued units, expanded in the couplings, is

    Gamma(m) = sum over layers [ sum_i S(m_i) - a.m ]
               - sum over weights [ m_lo.W.m_up + 1/2 c_lo.(W*W).c_up + 1/6 k_lo.(W*W*W).k_up ]

with minus the entropy S, the variance c and the third cumulant k of a unit of mean m:

    Bernoulli   S = m ln m + (1-m) ln(1-m)             c = m - m^2     k = c (1 - 2m)
    Ising       S = sum over +- of (1+-m)/2 ln((1+-m)/2)   c = 1 - m^2     k = -2m c

The term of W*W*W is the third order and may be left out. Each weight that a layer touches has one
term in dGamma/dm; each is subtracted by a method of its own.

References
----------
Gabrie, Tramel and Krzakala, "Training restricted Boltzmann machines via the Thouless-Anderson-
Palmer free energy", NIPS 2015.
"""

from typing import Any, ClassVar

from gpugrad.boltzmann.state import namespace_for
from gpugrad.primitives.tap import cumulants, effective_field

__all__ = [
    "GradientMagnetizationBernoulli",
    "GradientMagnetizationIsing",
    "MagnetizationBernoulli",
    "MagnetizationIsing",
]


class _Magnetization:
    """Expectations of the units of a layer, kept and not copied, and what follows from them."""

    unit: ClassVar[str]

    def __init__(self, exp: Any) -> None:
        self.expect = exp

    def __repr__(self) -> str:
        return f"{type(self).__name__}({tuple(self.expect.shape)})"

    def expectation(self) -> Any:
        """The expectations m of the units, in the shape that was given."""
        return self.expect

    def variance(self) -> Any:
        """Their variances."""
        return cumulants(self.unit, self.expect)[1]

    def third_cumulant(self) -> Any:
        """Their third cumulants, <(s - m)^3>."""
        return cumulants(self.unit, self.expect, 3)[2]


class MagnetizationBernoulli(_Magnetization):
    """Expectations of the units of a Bernoulli layer.

    Parameters
    ----------
    exp : array (num_units,) or (num_samples, num_units)
        In [0, 1]; kept, not copied.

    Attributes
    ----------
    expect : array
        The expectations.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.boltzmann.layers.magnetization import MagnetizationBernoulli
    >>> mag = MagnetizationBernoulli(np.array([0.5, 0.25]))
    >>> mag.variance().tolist(), mag.third_cumulant().tolist()
    ([0.25, 0.1875], [0.0, 0.09375])
    """

    unit = "bernoulli"


class MagnetizationIsing(_Magnetization):
    """Expectations of the units of an Ising layer.

    Parameters
    ----------
    exp : array (num_units,) or (num_samples, num_units)
        In [-1, 1]; kept, not copied.

    Attributes
    ----------
    expect : array
        The expectations.
    """

    unit = "ising"


class _GradientMagnetization:
    """What the gradients of both unit types share: the terms of the weights."""

    unit: ClassVar[str]
    expect: Any

    def grad_GFE_update_down(
        self, mag_lower: Any, mag: Any, w: Any, ww: Any, www: Any = None
    ) -> None:
        """Subtract m_lo.W + c'/2 c_lo.(W*W) + k'/6 k_lo.(W*W*W), the part of the weights below.

        c' and k' are the derivatives with respect to m: c'/2 = 1/2 - m and k' = 1 - 6c for
        Bernoulli units, c'/2 = -m and k' = 4 - 6c for Ising units.

        Parameters
        ----------
        mag_lower, mag : magnetisation
            Of the layer below and of this one.
        w : array (lower units, units)
        ww : array (lower units, units)
            w * w.
        www : array (lower units, units), optional
            w * w * w; without it the gradient is that of the second order.
        """
        self._subtract(mag, mag_lower, w, ww, www)

    def grad_GFE_update_up(
        self, mag: Any, mag_upper: Any, w: Any, ww: Any, www: Any = None
    ) -> None:
        """Subtract W.m_up + c'/2 (W*W).c_up + k'/6 (W*W*W).k_up, the part of the weights above.

        Parameters
        ----------
        mag, mag_upper : magnetisation
            Of this layer and of the one above.
        w : array (units, upper units)
        ww : array (units, upper units)
            w * w.
        www : array (units, upper units), optional
            w * w * w; without it the gradient is that of the second order.
        """
        self._subtract(mag, mag_upper, w.T, ww.T, None if www is None else www.T)

    def _subtract(self, mag: Any, sender: Any, *powers: Any) -> None:
        xp = namespace_for(powers[0])
        moments = (sender.expectation(), sender.variance())
        fields = [xp.matmul(x, power) for x, power in zip(moments, powers, strict=False)]
        if powers[2] is not None:
            fields.append(xp.matmul(sender.third_cumulant(), powers[2]))
        self.expect -= effective_field(self.unit, mag.expectation(), 0, fields)


class GradientMagnetizationBernoulli(_GradientMagnetization, MagnetizationBernoulli):
    """A Bernoulli layer's part of the gradient of the Gibbs free energy, dGamma / dm.

    Holds an array of the shape of a magnetisation. It starts as the layer's own part,
    ln(m / (1 - m)) - a; the two methods subtract the parts of the weights below and above, in
    place.

    Parameters
    ----------
    exp : array (num_units,) or (num_samples, num_units)
        Kept, not copied.
    """


class GradientMagnetizationIsing(_GradientMagnetization, MagnetizationIsing):
    """An Ising layer's part of the gradient of the Gibbs free energy, dGamma / dm.

    It starts as the layer's own part, artanh(m) - a; the two methods subtract the parts of the
    weights below and above, in place.

    Parameters
    ----------
    exp : array (num_units,) or (num_samples, num_units)
        Kept, not copied.
    """
