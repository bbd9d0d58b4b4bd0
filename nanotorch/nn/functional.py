"""The functions behind the layers, losses and activations of `nanotorch.nn`, by PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotorch.autograd.tensor import Tensor
from nanotorch.ops import activation
from nanotorch.ops.activation import gelu, logsigmoid, sigmoid, softplus
from nanotorch.ops.attention import scaled_dot_product_attention
from nanotorch.ops.classification import cross_entropy, nll_loss
from nanotorch.ops.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from nanotorch.ops.dense import bilinear, embedding, linear
from nanotorch.ops.dropout_variants import (
    alpha_dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
)
from nanotorch.ops.index import one_hot
from nanotorch.ops.likelihood_loss import gaussian_nll_loss, poisson_nll_loss
from nanotorch.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from nanotorch.ops.margin_loss import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from nanotorch.ops.norm import cosine_similarity, normalize, pairwise_distance
from nanotorch.ops.normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from nanotorch.ops.padding import pad
from nanotorch.ops.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    lp_pool1d,
    lp_pool2d,
    max_pool1d,
    max_pool2d,
)
from nanotorch.ops.random import dropout
from nanotorch.ops.row import ROWS
from nanotorch.ops.softmax_family import gumbel_softmax, log_softmax, softmax, softmin
from nanotorch.ops.transcendental import tanh
from nanotorch.ops.windows import fold, unfold

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "batch_norm", "bilinear", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_embedding_loss",
    "cosine_similarity", "cross_entropy", "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "embedding",
    "feature_alpha_dropout", "fold", "gaussian_nll_loss", "gelu", "group_norm", "gumbel_softmax", "hardtanh",
    "hinge_embedding_loss", "huber_loss", "instance_norm", "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear",
    "log_softmax", "logsigmoid", "lp_pool1d", "lp_pool2d", "margin_ranking_loss", "max_pool1d", "max_pool2d", "mish",
    "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "normalize",
    "one_hot", "pad", "pairwise_distance", "poisson_nll_loss", "relu", "rms_norm", "scaled_dot_product_attention", "selu",
    "sigmoid", "silu", "smooth_l1_loss", "soft_margin_loss", "softmax", "softmin", "softplus", "tanh",
    "triplet_margin_loss", "triplet_margin_with_distance_loss", "unfold",
]  # fmt: skip


def _either(name: str, inplace: bool) -> Callable[..., Any]:
    """Return an op or its in-place variant."""
    row = ROWS[name]
    return row.variant if inplace and row.variant is not None else row.function


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(input, 0)``."""
    return input.relu_() if inplace else activation.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``input`` where positive, ``negative_slope * input`` elsewhere."""
    return _either("leaky_relu", inplace)(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` where positive, ``alpha * (exp(input) - 1)`` elsewhere."""
    return _either("elu", inplace)(input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Scaled ELU, which keeps activations normalised."""
    return _either("selu", inplace)(input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * sigmoid(input)``."""
    return _either("silu", inplace)(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * tanh(softplus(input))``."""
    return _either("mish", inplace)(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` limited to [min_val, max_val]."""
    return _either("hardtanh", inplace)(input, min_val, max_val)
