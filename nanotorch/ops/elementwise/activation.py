"""Elementwise rows: activations."""

from __future__ import annotations

import math
from math import inf, nan
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.counters import unit_like
from nanotorch.ops.create.random import Generator, _floating
from nanotorch.ops.rows.inplace import apply_inplace
from nanotorch.ops.rows.row import ROWS, Array, composite, op
from nanotorch.ops.rows.sample import constant, edge, integers, real, sample, unary
from nanotorch.ops.rows.tensors import TENSOR

limits = sample(edge([-3.0, -1.0, -0.5, 0.0, -0.0, 0.5, 1.0, 3.0, 6.0, inf, -inf]))
limits_nan = sample(edge([-3.0, -1.0, -0.5, 0.0, -0.0, 0.5, 1.0, 3.0, 6.0, inf, -inf, nan]))


@op(
    self=lambda xp, grad, result: xp.zero_where(grad, result <= 0),
    inplace=True,
    samples=[*unary, sample(integers(3, low=-2)), limits_nan],
)
def relu(xp: Any, self: Array) -> Array:
    """`max(input, 0)`; the derivative at 0 is 0."""
    return xp.maximum(self, 0)


@TENSOR.define("sigmoid")
@op(self=lambda grad, result: grad * (result * (1 - result)), cast="float", inplace=True, samples=unary)
def sigmoid(xp: Any, self: Array) -> Array:
    """`1 / (1 + exp(-input))`."""
    return xp.sigmoid(self)


@op(
    self=lambda xp, grad, self: grad * xp.sigmoid(-self),
    cast="float",
    node="LogSigmoidBackward0",
    where="functional",
    samples=[*unary, limits_nan],
)
def logsigmoid(xp: Any, self: Array) -> Array:
    """`log(sigmoid(input))` without overflow."""
    return xp.minimum(self, 0) - xp.log1p(xp.exp(-xp.absolute(self)))


@op(
    self=lambda xp, grad, self, negative_slope: xp.where(self > 0, grad, grad * negative_slope),
    cast="float",
    where="functional",
    inplace=True,
    samples=[*unary, sample(real(3), 0.2), limits_nan],
)
def leaky_relu(xp: Any, self: Array, negative_slope: float = 0.01) -> Array:
    """`input` where positive, `negative_slope * input` elsewhere."""
    return xp.where(self > 0, self, self * negative_slope)


@op(
    self=lambda xp, grad, self, alpha: xp.where(
        self > 0, grad, grad * (alpha * xp.exp(xp.zero_where(self, self >= 0)))
    ),
    cast="float",
    where="functional",
    inplace=True,
    samples=[*unary, sample(real(3), 0.7), limits],
)
def elu(xp: Any, self: Array, alpha: float = 1.0) -> Array:
    """`input` where positive, `alpha * (exp(input) - 1)` elsewhere (Clevert et al. 2015)."""
    return xp.where(self > 0, self, alpha * xp.expm1(xp.minimum(self, 0)))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@op(
    self=lambda xp, grad, self: (
        grad * (SELU_SCALE * xp.where(self > 0, 1.0, SELU_ALPHA * xp.exp(xp.zero_where(self, self >= 0))))
    ),
    cast="float",
    inplace=True,
    node="EluBackward0",
    where="function",
    samples=[*unary, limits],
)
def selu(xp: Any, self: Array) -> Array:
    """Scaled ELU, which keeps activations normalised (Klambauer et al. 2017)."""
    return SELU_SCALE * xp.where(self > 0, self, SELU_ALPHA * xp.expm1(xp.minimum(self, 0)))


GELU_TANH = math.sqrt(2.0 / math.pi)


def _gelu_curvature(xp: Any, grad: Any, self: Any) -> Any:
    density = xp.exp(-0.5 * (self * self)) * (1 / math.sqrt(2 * math.pi))
    return grad * (2 * density - self * (self * density))


@op(
    self=_gelu_curvature,
    node="GeluBackwardBackward0",
    where="internal",
    samples=[sample(edge([-1.0, 0.0, 0.5]), constant(3))],
)
def _gelu_slope(xp: Any, self: Array, gelu: Array) -> Array:
    """The derivative of GELU where it is `gelu`.

    Note [GELU]
    ~~~~~~~~~~~
    The derivative of `x * p(x)`, with p the normal distribution, is `p(x)` plus x times the density; and `p(x)`, the
    dear part, is the result of the forward pass over x. Near 0, where the result may be too small to be divided, it is
    1/2. The derivative of that quotient would cancel near 0: so the slope is a primitive and an op, taken as a function
    of x alone, with a formula for its own derivative.
    """
    return xp.gelu_slope(self, gelu)


@TENSOR.define("gelu_slope")
def _recorded_slope(self: Any, result: Any) -> Any:
    return _gelu_slope(self, result.detach())


def _gelu_derivative(xp: Any, grad: Any, self: Any, result: Any, approximate: str) -> Any:
    if approximate == "none":
        return grad * xp.gelu_slope(self, result)
    t = xp.tanh(GELU_TANH * (self + 0.044715 * self * self * self))
    return grad * (0.5 * (1 + t) + 0.5 * self * (1 - t * t) * (GELU_TANH * (1 + 3 * 0.044715 * self * self)))


@op(
    self=lambda xp, grad, self, result, approximate: _gelu_derivative(xp, grad, self, result, approximate),
    cast="float",
    where="functional",
    samples=[*unary, sample(real(3, 2), approximate="tanh")],
)
def gelu(xp: Any, self: Array, *, approximate: str = "none") -> Array:
    """`input * Phi(input)` with the normal distribution function,
    or its tanh approximation (Hendrycks, Gimpel 2016).
    """
    if approximate == "none":
        return self * xp.ndtr(self)
    if approximate != "tanh":
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return 0.5 * self * (1 + xp.tanh(GELU_TANH * (self + 0.044715 * self * self * self)))


def _silu_derivative(xp: Any, grad: Any, self: Any) -> Any:
    s = xp.sigmoid(self)
    return grad * (s * (1 + self * (1 - s)))


@op(
    self=_silu_derivative,
    cast="float",
    where="functional",
    inplace=True,
    samples=[*unary, sample(edge([0.0, 20.0, -20.0]))],
)
def silu(xp: Any, self: Array) -> Array:
    """`input * sigmoid(input)`, also called swish."""
    return self * xp.sigmoid(self)


def _mish_derivative(xp: Any, grad: Any, self: Any) -> Any:
    t = xp.tanh(xp.softplus(self))
    return grad * (t + self * (1 - t * t) * xp.sigmoid(self))


@op(
    self=_mish_derivative,
    cast="float",
    where="functional",
    inplace=True,
    samples=[*unary, sample(edge([0.0, 20.0, -20.0]))],
)
def mish(xp: Any, self: Array) -> Array:
    """`input * tanh(softplus(input))` (Misra 2019)."""
    return self * xp.tanh(xp.softplus(self))


def _softplus_derivative(xp: Any, grad: Any, self: Any, beta: float, threshold: float) -> Any:
    return grad * xp.where(self * beta > threshold, 1.0, xp.sigmoid(self * beta))


@op(
    self=_softplus_derivative,
    cast="float",
    where="functional",
    samples=[
        *unary,
        sample(real(3), 2.0, 1.0),
        sample(edge([0.0, 19.9, 20.1, inf, -inf, nan])),
        sample(edge([0.4, 0.6]), 2.0, 1.0),
    ],
)
def softplus(xp: Any, self: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """`log(1 + exp(beta * input)) / beta`; the identity above `threshold / beta`."""
    return xp.where(self * beta > threshold, self, xp.softplus(self * beta) / beta)


@TENSOR.define("softplus")
def _softplus(x: Tensor) -> Tensor:
    return softplus(x, 1.0, math.inf)


@op(
    self=lambda xp, grad, self, min_val, max_val: xp.where((self <= min_val) | (self >= max_val), 0.0, grad),
    where="functional",
    inplace=True,
    samples=[*unary, sample(real(3), -0.5, 0.7), sample(integers(5, low=-3, high=4)), limits],
)
def hardtanh(xp: Any, self: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """`input` limited to [min_val, max_val]."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val cannot be greater than max_val, got {min_val} and {max_val}")
    if self.dtype.kind != "f":
        if self.dtype.kind == "b" or (self.dtype.kind == "u" and min_val < 0):
            raise RuntimeError("hardtanh: cannot limit booleans, nor unsigned integers to negative numbers")
        min_val, max_val = int(min_val), int(max_val)
    return xp.minimum(xp.maximum(self, min_val), max_val)


@composite(where="functional", samples=[*unary, sample(integers(5, low=-3, high=9)), limits])
def relu6(input: Tensor) -> Tensor:
    """`input` limited to [0, 6]."""
    return hardtanh(input, 0.0, 6.0)


@op(
    self=lambda xp, grad, self, threshold: xp.where(self <= threshold, 0.0, grad),
    inplace=True,
    where="function",
    samples=[
        sample(real(3, 2), 0.1, 2.0),
        sample(real(), -0.5, -1.0),
        sample(integers(5, low=-3), 1, 7),
        sample(limits.args[0], 0.5, 2.0),
    ],
)
def threshold(xp: Any, self: Array, threshold: float, value: float) -> Array:
    """`input` where it is above the threshold, `value` elsewhere."""
    if self.dtype.kind != "f":
        value = dtypes.wrapped("threshold", int(value), dtypes.from_numpy_dtype(self.dtype))
    return xp.where(self <= threshold, self.dtype.type(value), self)


@op(
    self=lambda xp, grad, self, alpha: xp.where(self > 0, grad, grad * xp.exp(xp.zero_where(self, self >= 0) / alpha)),
    cast="float",
    inplace=True,
    where="function",
    samples=[*unary, sample(real(3, 2), 0.7), sample(real(3), alpha=2.0), limits],
)
def celu(xp: Any, self: Array, alpha: float = 1.0) -> Array:
    """`input` where positive, `alpha * (exp(input / alpha) - 1)` elsewhere (Barron 2017)."""
    if alpha == 0:
        raise RuntimeError("celu: alpha cannot be 0, by which the input is divided")
    return xp.where(self > 0, self, alpha * xp.expm1(xp.minimum(self, 0) / alpha))


@op(
    self=lambda xp, grad, self: xp.where((self > -3) & (self < 3), grad * (1 / 6), 0.0),
    cast="float",
    where="functional",
    inplace=True,
    samples=[*unary, sample(real(6, low=-5, high=5)), limits_nan],
)
def hardsigmoid(xp: Any, self: Array) -> Array:
    """`input / 6 + 1 / 2` limited to [0, 1]."""
    return xp.minimum(xp.maximum(self + 3, 0), 6) / 6


@op(
    self=lambda xp, grad, self: grad * xp.where(self <= -3, 0.0, xp.where(self >= 3, 1.0, self / 3 + 0.5)),
    cast="float",
    where="functional",
    inplace=True,
    samples=[*unary, sample(real(6, low=-5, high=5)), sample(edge([-3.0, 3.0, 0.0, -inf, inf]))],
)
def hardswish(xp: Any, self: Array) -> Array:
    """`input * hardsigmoid(input)` (Howard et al. 2019)."""
    return self * xp.minimum(xp.maximum(self + 3, 0), 6) / 6


@op(
    self=lambda xp, grad, self, lambd: xp.where((self >= -lambd) & (self <= lambd), 0.0, grad),
    cast="float",
    samples=[*unary, sample(real(3, 2), 1.1), limits],
)
def hardshrink(xp: Any, self: Array, lambd: float = 0.5) -> Array:
    """`input` where its magnitude is above `lambd`, 0 elsewhere."""
    return xp.where((self >= -lambd) & (self <= lambd), self.dtype.type(0), self)


@op(
    self=lambda xp, grad, self, lambd: xp.where((self >= -lambd) & (self <= lambd), 0.0, grad),
    cast="float",
    where="functional",
    samples=[*unary, sample(real(3, 2), 1.1), limits],
)
def softshrink(xp: Any, self: Array, lambd: float = 0.5) -> Array:
    """`input` moved towards 0 by `lambd`, and 0 within that distance."""
    if not lambd >= 0:
        raise RuntimeError(f"softshrink: lambda must be greater or equal to 0, but found to be {lambd}")
    return self - xp.minimum(xp.maximum(self, -lambd), lambd)


@composite(widens=True, where="functional", samples=[*unary, limits_nan])
def tanhshrink(input: Tensor) -> Tensor:
    """`input - tanh(input)`."""
    return input - input.tanh()


@composite(widens=True, where="functional", samples=[*unary, limits_nan])
def softsign(input: Tensor) -> Tensor:
    """`input / (1 + abs(input))`."""
    return input / (input.abs() + 1)


def _halves(self: Any, dim: int) -> tuple[Any, Any]:
    dim = dim % self.ndim
    half = self.shape[dim] // 2
    before = (slice(None),) * dim
    return self[(*before, slice(half))], self[(*before, slice(half, None))]


def _glu_derivative(xp: Any, grad: Any, self: Any, dim: int) -> Any:
    value, gate = _halves(self, dim)
    gate = xp.sigmoid(gate)
    return xp.concatenate([grad * gate, grad * value * (gate * (1 - gate))], dim % self.ndim)


@op(
    self=_glu_derivative,
    cast="float",
    where="functional",
    samples=[sample(real(3, 4)), sample(real(4, 3), 0), sample(real(2, 6, 2), -2), sample(real(3, 0))],
)
def glu(xp: Any, self: Array, dim: int = -1) -> Array:
    """The first half of a dimension times the sigmoid of the second (Dauphin et al. 2017)."""
    if self.ndim == 0:
        raise RuntimeError("glu: does not support 0-dimensional tensors")
    if self.shape[dim] % 2:
        raise RuntimeError(f"glu: Halving dimension must be even, but dimension {dim} is size {self.shape[dim]}")
    value, gate = _halves(self, dim)
    return value * xp.sigmoid(gate)


@op(
    self=lambda xp, grad, self, weight: grad * xp.where(self > 0, 1.0, weight),
    weight=lambda xp, grad, self: grad * xp.where(self >= 0, 0.0, self),
    where="internal",
    samples=[sample(real(3, 2), real(2)), sample(real(3, 2), real(1))],
)
def _prelu_kernel(xp: Any, self: Array, weight: Array) -> Array:
    """`input` where positive, `weight * input` elsewhere, broadcasting."""
    return xp.where(self > 0, self, weight * self)


@composite(
    samples=[
        sample(real(3, 2), real(2)),
        sample(real(3, 2), real(1)),
        sample(real(2, 3, 2), real(3)),
        sample(real(3), real(1)),
        sample(real(), real(1)),
        sample(real(3), real()),
        sample(real(0, 2), real(2)),
        sample(edge([-3.0, 0.5, inf]), real(1)),
    ]
)
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """`input` where positive, `weight * input` elsewhere;
    one weight, or one per channel, dimension 1 (He et al. 2015).
    """
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if input.ndim == 0 or weight.numel() != channels:
            raise ShapeError(
                "prelu: Mismatch of parameter numbers and input channel size. Found parameter numbers ="
                f" {weight.numel()} and channel size = {channels}."
            )
        weight = weight.reshape(1, -1, *[1] * (input.ndim - 2))
    else:
        weight = weight.reshape(())
    return _prelu_kernel(input, weight)


def _rrelu_slopes(input: Any, lower: float, upper: float, training: bool, generator: Generator | None) -> Any:
    if not -math.inf < lower <= upper < math.inf:
        raise ValueError(f"rrelu: lower and upper must be finite, lower not above upper, got {lower} and {upper}")
    if not training:
        return (lower + upper) / 2
    _floating("rrelu", input.dtype)
    return unit_like(input, generator) * (upper - lower) + lower


@composite(where="function", samples=[*unary, sample(real(3, 2), 0.2, 0.3), limits_nan])
def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Leaky ReLU whose slopes are drawn from [lower, upper) in training, their mean otherwise (Xu et al. 2015)."""
    slopes = _rrelu_slopes(input, lower, upper, training, generator)
    return _prelu_kernel(input, slopes) if training else leaky_relu(input, slopes)


def rrelu_(
    input: Any,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    *,
    generator: Generator | None = None,
) -> Any:
    """In-place version of `rrelu`."""
    slopes = _rrelu_slopes(input, lower, upper, training, generator)
    return apply_inplace(ROWS["_prelu_kernel" if training else "leaky_relu"], input, (slopes,), {})
