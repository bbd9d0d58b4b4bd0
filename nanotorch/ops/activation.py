"""Elementwise rows: activations."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.ops.row import Array, op
from nanotorch.ops.sample import real, sample, unary


@op(self=lambda xp, grad, result: xp.zero_where(grad, result <= 0), inplace=True, samples=unary)
def relu(xp: Any, self: Array) -> Array:
    """``max(input, 0)``; the derivative at 0 is 0."""
    return xp.maximum(self, 0)


def sigmoid_of(xp: Any, x: Any) -> Any:
    """Return ``1 / (1 + exp(-x))`` without overflow for either sign."""
    small = xp.exp(-xp.absolute(x))
    return xp.where(x >= 0, 1.0, small) / (1 + small)


@op(self=lambda grad, result: grad * (result * (1 - result)), cast="float", inplace=True, samples=unary)
def sigmoid(xp: Any, self: Array) -> Array:
    """``1 / (1 + exp(-input))``."""
    return sigmoid_of(xp, self)


def softplus_of(xp: Any, x: Any) -> Any:
    """Return ``log(1 + exp(x))`` without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.absolute(x)))


@op(self=lambda xp, grad, self: grad * sigmoid_of(xp, -self), cast="float", node="LogSigmoidBackward0", where="functional", samples=unary)
def logsigmoid(xp: Any, self: Array) -> Array:
    """``log(sigmoid(input))`` without overflow."""
    return xp.minimum(self, 0) - xp.log1p(xp.exp(-xp.absolute(self)))


@op(
    self=lambda xp, grad, self, negative_slope: xp.where(self > 0, grad, grad * negative_slope),
    where="functional", inplace=True, samples=[*unary, sample(real(3), 0.2)],
)  # fmt: skip
def leaky_relu(xp: Any, self: Array, negative_slope: float = 0.01) -> Array:
    """``input`` where positive, ``negative_slope * input`` elsewhere."""
    return xp.where(self > 0, self, self * negative_slope)


@op(
    self=lambda xp, grad, self, alpha: xp.where(self <= 0, grad * (alpha * xp.exp(xp.minimum(self, 0))), grad),
    where="functional", inplace=True, samples=[*unary, sample(real(3), 0.7)],
)  # fmt: skip
def elu(xp: Any, self: Array, alpha: float = 1.0) -> Array:
    """``input`` where positive, ``alpha * (exp(input) - 1)`` elsewhere (Clevert et al. 2015)."""
    return xp.where(self > 0, self, alpha * xp.expm1(xp.minimum(self, 0)))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@op(
    self=lambda xp, grad, self: grad * (SELU_SCALE * xp.where(self <= 0, SELU_ALPHA * xp.exp(xp.minimum(self, 0)), 1.0)),
    inplace=True, node="EluBackward0", samples=unary,
)  # fmt: skip
def selu(xp: Any, self: Array) -> Array:
    """Scaled ELU, which keeps activations normalised (Klambauer et al. 2017)."""
    return SELU_SCALE * xp.where(self > 0, self, SELU_ALPHA * xp.expm1(xp.minimum(self, 0)))


GELU_TANH = math.sqrt(2.0 / math.pi)


def _gelu_derivative(xp: Any, grad: Any, self: Any, approximate: str) -> Any:
    if approximate == "none":
        return grad * (0.5 * (1 + xp.erf(self * math.sqrt(0.5))) + self * xp.exp(-0.5 * (self * self)) * (1 / math.sqrt(2 * math.pi)))
    t = xp.tanh(GELU_TANH * (self + 0.044715 * self * self * self))
    return grad * (0.5 * (1 + t) + 0.5 * self * (1 - t * t) * (GELU_TANH * (1 + 3 * 0.044715 * self * self)))


@op(
    self=lambda xp, grad, self, approximate: _gelu_derivative(xp, grad, self, approximate),
    where="functional", samples=[*unary, sample(real(3, 2), approximate="tanh")],
)  # fmt: skip
def gelu(xp: Any, self: Array, *, approximate: str = "none") -> Array:
    """``input * Phi(input)`` with the normal distribution function, or its tanh approximation (Hendrycks, Gimpel 2016)."""
    if approximate == "none":
        return self * (0.5 * (1 + xp.erf(self * math.sqrt(0.5))))
    if approximate != "tanh":
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return 0.5 * self * (1 + xp.tanh(GELU_TANH * (self + 0.044715 * self * self * self)))


def _silu_derivative(xp: Any, grad: Any, self: Any) -> Any:
    s = sigmoid_of(xp, self)
    return grad * (s * (1 + self * (1 - s)))


@op(self=_silu_derivative, where="functional", inplace=True, samples=unary)
def silu(xp: Any, self: Array) -> Array:
    """``input * sigmoid(input)``, also called swish."""
    return self * sigmoid_of(xp, self)


def _mish_derivative(xp: Any, grad: Any, self: Any) -> Any:
    t = xp.tanh(softplus_of(xp, self))
    return grad * (t + self * (1 - t * t) * sigmoid_of(xp, self))


@op(self=_mish_derivative, where="functional", inplace=True, samples=unary)
def mish(xp: Any, self: Array) -> Array:
    """``input * tanh(softplus(input))`` (Misra 2019)."""
    return self * xp.tanh(softplus_of(xp, self))


def _softplus_derivative(xp: Any, grad: Any, self: Any, beta: float, threshold: float) -> Any:
    return grad * xp.where(self * beta > threshold, 1.0, sigmoid_of(xp, self * beta))


@op(self=_softplus_derivative, where="functional", samples=[*unary, sample(real(3), 2.0, 1.0)])
def softplus(xp: Any, self: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta * input)) / beta``; the identity above ``threshold / beta``."""
    return xp.where(self * beta > threshold, self, softplus_of(xp, self * beta) / beta)


@op(
    self=lambda xp, grad, self, min_val, max_val: xp.where((self > min_val) & (self < max_val), grad, 0.0),
    where="functional", inplace=True, samples=[*unary, sample(real(3), -0.5, 0.7)],
)  # fmt: skip
def hardtanh(xp: Any, self: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """``input`` limited to [min_val, max_val]."""
    return xp.minimum(xp.maximum(self, min_val), max_val)
