"""Initial weights by name: each entry fills the weight of one linear layer,
whose gain follows from the activation after it.
"""

from __future__ import annotations

from collections.abc import Iterable

from nanotorch import Tensor, nn
from nanotorch.nn import init
from nanotorch.registry import INITIALIZATIONS

# He et al. (2015) derive sqrt(2) for the rectifier; its smooth and leaky relatives are near enough to take the same.
GAINS = {
    "Sigmoid": 1.0,
    "Tanh": 5.0 / 3,
    "SELU": 3.0 / 4,
    "Softsign": 1.0,
    "Hardsigmoid": 1.0,
    "Hardtanh": 5.0 / 3,
    "LogSigmoid": 1.0,
}


def gain_after(activation: str) -> float:
    """By how much weights are scaled so that signals keep their size through the activation that follows them.

    >>> gain_after("Tanh"), round(gain_after("ReLU"), 4)
    (1.6666666666666667, 1.4142)
    """
    return GAINS.get(activation, 2.0**0.5)


def initialize(layers: Iterable[nn.Linear], name: str, activation: str) -> None:
    """Draw the weights of linear layers anew, the last one's for no activation; their biases become 0."""
    fill = INITIALIZATIONS.get(name)
    every = list(layers)
    for layer in every:
        fill(layer.weight, 1.0 if layer is every[-1] else gain_after(activation))
        if layer.bias is not None:
            init.zeros_(layer.bias)


@INITIALIZATIONS.register
def kaiming_normal(weight: Tensor, gain: float) -> Tensor:
    """Normal, of variance gain^2 / inputs: keeps the size of signals (He et al., 2015)."""
    return init.normal_(weight, 0.0, gain / weight.shape[1] ** 0.5)


@INITIALIZATIONS.register
def kaiming_uniform(weight: Tensor, gain: float) -> Tensor:
    """Uniform, of variance gain^2 / inputs: keeps the size of signals (He et al., 2015)."""
    bound = gain * (3.0 / weight.shape[1]) ** 0.5
    return init.uniform_(weight, -bound, bound)


@INITIALIZATIONS.register
def xavier_normal(weight: Tensor, gain: float) -> Tensor:
    """Normal, of variance 2 gain^2 / (inputs + outputs): between signals and gradients (Glorot and Bengio, 2010)."""
    return init.xavier_normal_(weight, gain)


@INITIALIZATIONS.register
def xavier_uniform(weight: Tensor, gain: float) -> Tensor:
    """Uniform, of variance 2 gain^2 / (inputs + outputs): between signals and gradients (Glorot and Bengio, 2010)."""
    return init.xavier_uniform_(weight, gain)


@INITIALIZATIONS.register
def orthogonal(weight: Tensor, gain: float) -> Tensor:
    """A random orthogonal matrix times the gain (Saxe et al., 2013)."""
    return init.orthogonal_(weight, gain)


@INITIALIZATIONS.register
def trunc_normal(weight: Tensor, gain: float) -> Tensor:
    """Normal with deviation 0.02 whatever the width, cut off at two deviations."""
    return init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


@INITIALIZATIONS.register
def zeros(weight: Tensor, gain: float) -> Tensor:
    """All zero: a hidden layer then learns nothing, a linear model learns well."""
    return init.zeros_(weight)
