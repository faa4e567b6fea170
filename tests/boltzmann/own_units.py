"""Unit types as a user writes them: an energy, and no derivative."""

import math

from gpugrad.boltzmann.layers import EnergyLayer


class BlumeCapel(EnergyLayer):
    """Spin 1 with a crystal field."""

    support = (-1, 0, 1)
    parameters = {"crystal": 0.0}

    @staticmethod
    def potential(xp, params, x):
        return params.crystal * x * x


class TwoWells(EnergyLayer):
    """The phi^4 unit of lattice field theory."""

    interval = (-math.inf, math.inf)
    parameters = {"depth": 1.0}

    @staticmethod
    def potential(xp, params, x):
        return params.depth * (x * x - 1) ** 2


class Laplace(EnergyLayer):
    """A unit with a kink, whose energy grows linearly."""

    interval = (-math.inf, math.inf)
    breaks = (0.0,)
    parameters = {"log_rate": 1.0}

    @staticmethod
    def potential(xp, params, x):
        return xp.exp(params.log_rate) * xp.absolute(x)


class Bent(EnergyLayer):
    """A unit on a bounded interval."""

    interval = (-0.5, 2.0)
    parameters = {"bend": 0.5}

    @staticmethod
    def potential(xp, params, x):
        return params.bend * x**3 + xp.cos(x)


class HalfQuartic(EnergyLayer):
    """A unit on half a line, with nothing but loc to fit."""

    interval = (0.0, math.inf)

    @staticmethod
    def potential(xp, params, x):
        return 0.25 * x**4


class ByLogPartition(EnergyLayer):
    """A unit by the logarithm of its partition function, and no energy."""

    data_range = (0.0, 1.0)
    parameters = {"bias": 0.25}

    @classmethod
    def unit_log_partition(cls, xp, params, phi, beta=None):
        x = params.loc + params.bias + phi
        return xp.softplus(x if beta is None else beta * x)

    @classmethod
    def unit_sample(cls, xp, params, phi, noise, beta=None):
        return (noise < cls.unit_mean(xp, params, phi, beta)).astype(phi.dtype)


# ---- the package's own units, written by their energy


class OwnBernoulli(EnergyLayer):
    support = (0, 1)


class OwnIsing(EnergyLayer):
    support = (-1, 1)


class OwnGaussian(EnergyLayer):
    interval = (-math.inf, math.inf)

    @staticmethod
    def potential(xp, params, x):
        return 0.5 * x * x


class OwnTruncatedExponential(EnergyLayer):
    interval = (0, 1)


class OwnReLU(EnergyLayer):
    interval = (0, math.inf)

    @staticmethod
    def potential(xp, params, x):
        return 0.5 * x * x


class OwnExponential(EnergyLayer):
    interval = (0, math.inf)

    @staticmethod
    def potential(xp, params, x):
        return 3 * x
