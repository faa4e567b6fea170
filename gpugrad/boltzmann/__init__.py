"""Boltzmann machines: layers, training, sampling, and how likely they find data.

>>> from gpugrad.backend.rng import Generator
>>> from gpugrad.boltzmann import RBM, exact_log_partition
>>> machine = RBM(6, 3, rng=Generator(0))
>>> round(exact_log_partition(machine) / 9, 1)  # nearly 9 fair coins: log 2 each
0.7
"""

from gpugrad.boltzmann import datasets, interchange, layers, observables, plots
from gpugrad.boltzmann.callbacks import EarlyStopping
from gpugrad.boltzmann.centering import Centering
from gpugrad.boltzmann.checkpoint import load_model as load
from gpugrad.boltzmann.diagnostics import (
    effective_sample_size,
    integrated_autocorrelation_time,
    r_hat,
    round_trips,
    swap_acceptance,
)
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.fit import Trainer, fit
from gpugrad.boltzmann.initialize import initialize
from gpugrad.boltzmann.labels import (
    class_log_probabilities,
    classification_rbm,
    fit_labels,
    predict,
)
from gpugrad.boltzmann.lateral import Lateral
from gpugrad.boltzmann.logs import SingularValues, TensorBoard
from gpugrad.boltzmann.metrics import pseudo_likelihood, reconstruction_error
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.optimizers import SGD, Adam, Nesterov, RMSProp
from gpugrad.boltzmann.partition import (
    Estimate,
    ais,
    exact_log_partition,
    likelihood_bounds,
    log_likelihood,
    log_likelihoods,
    raise_,
    reverse_ais,
)
from gpugrad.boltzmann.penalties import L1Penalty, L2Penalty, LogPenalty
from gpugrad.boltzmann.pretrain import pretrain
from gpugrad.boltzmann.pseudo import log_pseudo_likelihood, pseudo_likelihood_gradient
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.streaming import Stream, open_stream
from gpugrad.boltzmann.tap import (
    TapResult,
    tap_free_energy,
    tap_log_likelihood,
    tap_log_partition,
    tap_magnetizations,
)
from gpugrad.boltzmann.tempering import driven_gibbs, parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering
from gpugrad.primitives.gibbs_chain import GibbsChain

__all__ = [
    "RBM",
    "SGD",
    "Adam",
    "BoltzmannMachine",
    "Centering",
    "EarlyStopping",
    "EnergyMachine",
    "Estimate",
    "GibbsChain",
    "L1Penalty",
    "L2Penalty",
    "Lateral",
    "LogPenalty",
    "Nesterov",
    "RMSProp",
    "SingularValues",
    "SparsityTarget",
    "State",
    "Stream",
    "TapResult",
    "TensorBoard",
    "Trainer",
    "ais",
    "class_log_probabilities",
    "classification_rbm",
    "datasets",
    "driven_gibbs",
    "effective_sample_size",
    "exact_log_partition",
    "fit",
    "fit_labels",
    "gibbs",
    "initialize",
    "integrated_autocorrelation_time",
    "interchange",
    "layers",
    "likelihood_bounds",
    "load",
    "log_likelihood",
    "log_likelihoods",
    "log_pseudo_likelihood",
    "observables",
    "open_stream",
    "parallel_tempering",
    "parallel_trajectory_tempering",
    "plots",
    "predict",
    "pretrain",
    "pseudo_likelihood",
    "pseudo_likelihood_gradient",
    "r_hat",
    "raise_",
    "reconstruction_error",
    "reverse_ais",
    "round_trips",
    "swap_acceptance",
    "tap_free_energy",
    "tap_log_likelihood",
    "tap_log_partition",
    "tap_magnetizations",
]
