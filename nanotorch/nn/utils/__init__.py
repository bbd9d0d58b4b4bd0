"""Tools beside the layers: gradients and parameters of a model, parametrizations, and sequences of several lengths."""

from nanotorch.nn.utils import parametrizations, parametrize, rnn
from nanotorch.nn.utils.flat import FlatParameters, flatten_parameters
from nanotorch.nn.utils.gradients import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)
from nanotorch.nn.utils.recomputed import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

__all__ = [
    "FlatParameters",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "flatten_parameters",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]
