"""Loss functions."""

from gpugrad.ops.losses import (
    check_loss_inputs as check_loss_inputs,  # MyGrad has it in a module below this one
)
from gpugrad.ops.losses import (
    focal_loss,
    margin_ranking_loss,
    multiclass_hinge,
    negative_log_likelihood,
    softmax_crossentropy,
    softmax_focal_loss,
)

__all__ = [
    "focal_loss",
    "margin_ranking_loss",
    "multiclass_hinge",
    "negative_log_likelihood",
    "softmax_crossentropy",
    "softmax_focal_loss",
]
