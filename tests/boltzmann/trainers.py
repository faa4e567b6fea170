"""Small trainers of every kind of machine, method and sampler, and how to stop one."""

import numpy as np

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.callbacks import Callback, CheckpointWriter
from gpugrad.boltzmann.checkpoint import load_checkpoint
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.layers import BernoulliLayer, GaussianLayer, IsingLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.optimizers import Adam, Nesterov, RMSProp
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.schedules import Constant, Linear
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.streaming import Stream
from gpugrad.boltzmann.tempering import driven_gibbs, parallel_tempering
from gpugrad.boltzmann.trajectory import parallel_trajectory_tempering

from .coins import coin_data
from .machines import device_like, host


def spins(model_layers, xp, lateral=None):
    return BoltzmannMachine(
        model_layers,
        dtype="float32",
        device=device_like(xp),
        rng=Generator(3),
        lateral=lateral,
    )


def holes(data):
    return np.where(np.random.default_rng(0).random(data.shape) < 0.2, np.nan, data)


def ring():
    J = 0.1 * np.roll(np.eye(4), 1, axis=0)
    return {0: J + J.T}


SHORT = coin_data(40)
VARIANTS = {
    "gaussian": (lambda xp: spins([GaussianLayer(4), BernoulliLayer(3)], xp), {}),
    "gaussian cd": (lambda xp: spins([GaussianLayer(4), BernoulliLayer(3)], xp), {"method": "cd"}),
    "gaussian autodiff": (
        lambda xp: spins([GaussianLayer(4), IsingLayer(3)], xp),
        {"gradient": "autodiff", "optimizer": Adam(), "schedule": Constant(0.01)},
    ),
    "deep": (lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3), IsingLayer(2)], xp), {}),
    "deep cd": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3), IsingLayer(2)], xp),
        {"method": "cd", "optimizer": RMSProp(), "schedule": Constant(0.01)},
    ),
    "deep sampler": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3), IsingLayer(2)], xp),
        {"sampler": gibbs(2), "n_chains": 5, "optimizer": Nesterov(0.5)},
    ),
    "lateral": (lambda xp: spins([BernoulliLayer(4)], xp, ring()), {}),
    "tap": (lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3)], xp), {"method": "tap"}),
    "tempering": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3)], xp),
        {"sampler": parallel_tempering((0.0, 0.5, 1.0)), "n_chains": 6},
    ),
    "trajectory": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3)], xp),
        {"sampler": parallel_trajectory_tempering(), "n_chains": 6, "schedule": Constant(0.5)},
    ),
    "tempering deep": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3), IsingLayer(2)], xp),
        {"sampler": parallel_tempering((0.5, 1.0), k=2), "n_chains": 6},
    ),
    "driven": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3)], xp),
        {"sampler": driven_gibbs(), "n_chains": 6},
    ),
    "sparse": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3)], xp),
        {"sparsity": SparsityTarget(0.2, 1.0), "optimizer": Adam(), "schedule": Constant(0.01)},
    ),
    "missing": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3)], xp),
        {"missing": "impute", "data": holes(SHORT)},
    ),
    "missing deep": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3), IsingLayer(2)], xp),
        {"missing": "impute", "data": holes(SHORT), "shuffle": False},
    ),
    "stream": (
        lambda xp: spins([BernoulliLayer(4), BernoulliLayer(3)], xp),
        {"data": Stream(SHORT, block=8, blocks=2)},
    ),
}


class StopAt(Callback):
    """Ask for a stop after this step."""

    def __init__(self, step):
        self.step = step

    def update(self, trainer):
        if trainer.step == self.step:
            trainer.request_stop()


def assert_goes_on_alike(trainer, path, stop=5):
    """A run that ends after `stop` steps and one of another seed that goes on from its checkpoint
    make what a whole run makes, bit for bit; `trainer(seed, callbacks)` makes them. The whole."""
    whole = trainer(1, [])
    whole.run()
    trainer(1, [StopAt(stop), CheckpointWriter(path, 1e9)]).run()
    second = trainer(9, [])
    second.load_state_dict(*load_checkpoint(path))
    assert second.step == stop
    second.run()
    for name, p in whole.model.parameters().items():
        assert np.array_equal(host(p), host(second.model.parameters()[name]))
    return whole


def trainer_of(xp, variant, seed=1, callbacks=()):
    make, settings = VARIANTS[variant]
    given = {
        "data": SHORT,
        "epochs": 3,
        "batch_size": 12,
        "schedule": Linear(0.1),
        "rng": Generator(seed),
        "callbacks": callbacks,
    } | settings
    return Trainer(make(xp), given.pop("data"), **given)


def arrays_of(trainer):
    return {name: host(a).copy() for name, a in trainer.state_dict()[0].items()}
