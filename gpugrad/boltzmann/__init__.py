"""Boltzmann machines: layers, training, sampling, and how likely they find data.

>>> from gpugrad.backend.rng import Generator
>>> from gpugrad.boltzmann import RBM, exact_log_partition
>>> machine = RBM(6, 3, rng=Generator(0))
>>> round(exact_log_partition(machine) / 9, 1)  # nearly 9 fair coins: log 2 each
0.7
"""

from gpugrad.boltzmann import datasets, layers
from gpugrad.boltzmann.centering import Centering
from gpugrad.boltzmann.checkpoint import load_model as load
from gpugrad.boltzmann.fit import Trainer, fit
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.metrics import pseudo_likelihood, reconstruction_error
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.optimizers import SGD
from gpugrad.boltzmann.partition import (
    Estimate,
    ais,
    exact_log_partition,
    log_likelihood,
    log_likelihoods,
    raise_,
    reverse_ais,
)
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.primitives.gibbs_chain import GibbsChain

__all__ = [
    "RBM",
    "SGD",
    "BoltzmannMachine",
    "Centering",
    "Estimate",
    "GibbsChain",
    "State",
    "Trainer",
    "ais",
    "datasets",
    "exact_log_partition",
    "fit",
    "gibbs",
    "initialize",
    "layers",
    "load",
    "log_likelihood",
    "log_likelihoods",
    "pseudo_likelihood",
    "raise_",
    "reconstruction_error",
    "reverse_ais",
]
