"""Layers of neural networks: functions of tensors, differentiable to any order."""

from gpugrad.nnet.layers import utils
from gpugrad.nnet.layers.conv import conv_nd, conv_transpose_nd
from gpugrad.nnet.layers.gru import gru
from gpugrad.nnet.layers.pooling import max_pool, mean_pool
from gpugrad.ops.normalization import batchnorm

__all__ = ["batchnorm", "conv_nd", "conv_transpose_nd", "gru", "max_pool", "mean_pool", "utils"]
