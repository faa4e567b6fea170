"""Layers of a Boltzmann machine: one file a unit type, and the weights between them."""

from gpugrad.boltzmann.layers.bernoulli import BernoulliLayer, ParamsBernoulli
from gpugrad.boltzmann.layers.ising import IsingLayer, ParamsIsing
from gpugrad.boltzmann.layers.layer import Layer, ParamsLayer, get
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.layers.weights import ParamsWeights, Weights

__all__ = [
    "BernoulliLayer",
    "IsingLayer",
    "Layer",
    "ParamsBernoulli",
    "ParamsIsing",
    "ParamsLayer",
    "ParamsWeights",
    "UnitLayer",
    "Weights",
    "get",
]
