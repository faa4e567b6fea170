"""Neural networks: layers, losses, activations and initial weights."""

from gpugrad.nnet import activations, initializers, layers, losses
from gpugrad.nnet.activations import *  # noqa: F403
from gpugrad.nnet.initializers import *  # noqa: F403
from gpugrad.nnet.layers import *  # noqa: F403
from gpugrad.nnet.losses import *  # noqa: F403

__all__ = [
    *activations.__all__,
    *initializers.__all__,
    *layers.__all__,
    *losses.__all__,
    "activations",
    "initializers",
    "layers",
    "losses",
]
