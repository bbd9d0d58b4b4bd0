"""Activations as modules; the functions are in `nn.functional`."""

from __future__ import annotations

from typing import Any, Literal

from nanotorch.nn import functional as F
from nanotorch.nn.module import Module
from nanotorch.registry import ACTIVATIONS, PositiveFloat

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


@ACTIVATIONS.register
class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.relu(input, self.inplace)

    def extra_repr(self) -> str:
        """Whether it works in place."""
        return "inplace=True" if self.inplace else ""


@ACTIVATIONS.register
class LeakyReLU(Module):
    """x above 0, `negative_slope * x` below."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope}{_inplace(self.inplace)}"


@ACTIVATIONS.register
class ELU(Module):
    """x above 0, `alpha * (exp(x) - 1)` below. Clevert et al. (2016)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.elu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        """The scale of the negative part."""
        return f"alpha={self.alpha}{_inplace(self.inplace)}"


@ACTIVATIONS.register
class SELU(Module):
    """ELU, scaled so that activations keep mean 0 and variance 1. Klambauer et al. (2017)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.selu(input, self.inplace)

    def extra_repr(self) -> str:
        """Whether it works in place."""
        return "inplace=True" if self.inplace else ""


@ACTIVATIONS.register
class GELU(Module):
    """x times the normal distribution function of x, or its tanh approximation. Hendrycks and Gimpel (2016)."""

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        """The form."""
        return f"approximate={self.approximate!r}"


@ACTIVATIONS.register
class SiLU(Module):
    """x * sigmoid(x), also known as swish."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.silu(input, self.inplace)

    def extra_repr(self) -> str:
        """Whether it works in place."""
        return "inplace=True" if self.inplace else ""


@ACTIVATIONS.register
class Mish(Module):
    """x * tanh(softplus(x)). Misra (2019)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.mish(input, self.inplace)

    def extra_repr(self) -> str:
        """Whether it works in place."""
        return "inplace=True" if self.inplace else ""


@ACTIVATIONS.register
class Softplus(Module):
    """log(1 + exp(beta * x)) / beta, and x itself where `beta * x` is above `threshold`."""

    def __init__(self, beta: PositiveFloat = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """The options."""
        return f"beta={self.beta}, threshold={self.threshold}"


@ACTIVATIONS.register
class Hardtanh(Module):
    """x limited to between `min_val` and `max_val`."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if min_val >= max_val:
            raise ValueError(f"Hardtanh: min_val must be below max_val, got {min_val} and {max_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        """The limits."""
        return f"min_val={self.min_val}, max_val={self.max_val}{_inplace(self.inplace)}"


@ACTIVATIONS.register
class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.sigmoid(input)


@ACTIVATIONS.register
class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.tanh(input)


@ACTIVATIONS.register
class LogSigmoid(Module):
    """log(sigmoid(x)), without underflow."""

    def forward(self, input: Any) -> Any:
        """Elementwise."""
        return F.logsigmoid(input)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Of the same shape; sums to 1 along `dim`."""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """The dimension."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along `dim`, without underflow."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Of the same shape."""
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        """The dimension."""
        return f"dim={self.dim}"


def _inplace(inplace: bool) -> str:
    return ", inplace=True" if inplace else ""
