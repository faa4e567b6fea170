"""Layers of a Boltzmann machine: one file a unit type, and the weights between them."""

from gpugrad.boltzmann.layers.bernoulli import BernoulliLayer, ParamsBernoulli
from gpugrad.boltzmann.layers.energy_layer import EnergyLayer
from gpugrad.boltzmann.layers.exponential import ExponentialLayer, ParamsExponential
from gpugrad.boltzmann.layers.gaussian import GaussianLayer, ParamsGaussian
from gpugrad.boltzmann.layers.ising import IsingLayer, ParamsIsing
from gpugrad.boltzmann.layers.layer import Layer, ParamsLayer, get
from gpugrad.boltzmann.layers.magnetization import (
    GradientMagnetizationBernoulli,
    GradientMagnetizationIsing,
    MagnetizationBernoulli,
    MagnetizationIsing,
)
from gpugrad.boltzmann.layers.potts import ParamsPotts, PottsLayer
from gpugrad.boltzmann.layers.relu import ParamsReLU, ReLULayer
from gpugrad.boltzmann.layers.truncated_exponential import (
    ParamsTruncatedExponential,
    TruncatedExponentialLayer,
)
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.layers.weights import ParamsWeights, Weights

__all__ = [
    "BernoulliLayer",
    "EnergyLayer",
    "ExponentialLayer",
    "GaussianLayer",
    "GradientMagnetizationBernoulli",
    "GradientMagnetizationIsing",
    "IsingLayer",
    "Layer",
    "MagnetizationBernoulli",
    "MagnetizationIsing",
    "ParamsBernoulli",
    "ParamsExponential",
    "ParamsGaussian",
    "ParamsIsing",
    "ParamsLayer",
    "ParamsPotts",
    "ParamsReLU",
    "ParamsTruncatedExponential",
    "ParamsWeights",
    "PottsLayer",
    "ReLULayer",
    "TruncatedExponentialLayer",
    "UnitLayer",
    "Weights",
    "get",
]
