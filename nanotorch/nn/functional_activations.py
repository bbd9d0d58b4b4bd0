"""The activations of `nn.functional` that can work in place, by PyTorch's names and signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.random import Generator
from nanotorch.ops.elementwise import activation
from nanotorch.ops.rows.row import ROWS

__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "mish",
    "relu",
    "relu6",
    "relu_",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "silu",
    "threshold",
    "threshold_",
]


def _variant(name: str) -> Callable[..., Tensor]:
    """Return the in-place variant of an op."""
    variant = ROWS[name].variant
    assert variant is not None
    return variant


celu_, elu_, hardtanh_, leaky_relu_, relu_, selu_, threshold_ = map(
    _variant, ("celu", "elu", "hardtanh", "leaky_relu", "relu", "selu", "threshold")
)
_hardsigmoid_, _hardswish_, _mish_, _silu_ = map(_variant, ("hardsigmoid", "hardswish", "mish", "silu"))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`max(input, 0)`."""
    return relu_(input) if inplace else activation.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`input` where positive, `negative_slope * input` elsewhere."""
    return (leaky_relu_ if inplace else activation.leaky_relu)(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` where positive, `alpha * (exp(input) - 1)` elsewhere."""
    return (elu_ if inplace else activation.elu)(input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Scaled ELU, which keeps activations normalised."""
    return (selu_ if inplace else activation.selu)(input)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` where positive, `alpha * (exp(input / alpha) - 1)` elsewhere."""
    return (celu_ if inplace else activation.celu)(input, alpha)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`input * sigmoid(input)`."""
    return (_silu_ if inplace else activation.silu)(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`input * tanh(softplus(input))`."""
    return (_mish_ if inplace else activation.mish)(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` limited to [min_val, max_val]."""
    return (hardtanh_ if inplace else activation.hardtanh)(input, min_val, max_val)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`input` limited to [0, 6]."""
    return hardtanh_(input, 0.0, 6.0) if inplace else activation.relu6(input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`input / 6 + 1 / 2` limited to [0, 1]."""
    return (_hardsigmoid_ if inplace else activation.hardsigmoid)(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`input * hardsigmoid(input)`."""
    return (_hardswish_ if inplace else activation.hardswish)(input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """`input` where it is above the threshold, `value` elsewhere."""
    return (threshold_ if inplace else activation.threshold)(input, threshold, value)


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Leaky ReLU whose slopes are drawn from [lower, upper) in training, their mean otherwise."""
    function = activation.rrelu_ if inplace else activation.rrelu
    return function(input, lower, upper, training, generator=generator)


rrelu_: Callable[..., Any] = activation.rrelu_
