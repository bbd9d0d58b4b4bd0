"""Elementwise rows: special functions."""

from __future__ import annotations

import math
from math import inf, nan
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import tensor
from nanotorch.ops.rows.row import Array, Number, composite, op
from nanotorch.ops.rows.sample import edge, integers, real, sample, unary
from nanotorch.ops.rows.tensors import TENSOR

TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


@TENSOR.define("erf")
@op(
    self=lambda xp, grad, self: grad * (TWO_OVER_SQRT_PI * xp.exp(-(self * self))),
    cast="float",
    inplace=True,
    samples=unary,
)
def erf(xp: Any, self: Array) -> Array:
    """The error function, `2 / sqrt(pi)` times the integral of `exp(-t*t)` from 0 to `input`."""
    return xp.erf(self)


@op(
    self=lambda xp, grad, self: grad * (-TWO_OVER_SQRT_PI * xp.exp(-(self * self))),
    cast="float",
    inplace=True,
    samples=unary,
)
def erfc(xp: Any, self: Array) -> Array:
    """`1 - erf(input)`, accurate where that is small."""
    return xp.erfc(self)


@op(
    self=lambda xp, grad, result: grad * (xp.exp(result * result) * (1 / TWO_OVER_SQRT_PI)),
    cast="float",
    inplace=True,
    samples=[sample(real(3, 2, low=-0.9, high=0.9)), sample(edge([1.0, -1.0, 0.0, 1.5, nan]))],
)
def erfinv(xp: Any, self: Array) -> Array:
    """The inverse of `erf`, defined in [-1, 1]."""
    return xp.erfinv(self)


positive = [
    sample(real(3, 2, low=0.3, high=6)),
    sample(real(3, low=-2.9, high=-2.1)),
    sample(integers(3, low=1, high=9)),
]


@op(
    self=lambda xp, grad, self: grad * xp.polygamma(0, self),
    cast="float",
    inplace=True,
    samples=[*positive, sample(edge([1.0, 2.0, inf, 171.0]))],
)
def lgamma(xp: Any, self: Array) -> Array:
    """The logarithm of the absolute value of the gamma function: of `(n - 1)!` at an integer n.

    >>> torch.lgamma(torch.tensor([1.0, 5.0])).exp()
    tensor([ 1., 24.])
    """
    return xp.lgamma(self)


@op(
    self=lambda xp, grad, self: grad * xp.polygamma(1, self),
    cast="float",
    inplace=True,
    samples=[*positive, sample(edge([1.0, 0.5, 1e4]))],
)
def digamma(xp: Any, self: Array) -> Array:
    """The derivative of `lgamma`."""
    return xp.polygamma(0, self)


@TENSOR.define("polygamma")
@op(
    self=lambda xp, grad, n, self: grad * xp.polygamma(n + 1, self),
    cast="float",
    samples=[
        sample(0, real(3, low=0.3)),
        sample(1, real(3, 2, low=0.3, high=4)),
        sample(2, real(3, low=0.5)),
        sample(3, integers(3, low=1)),
    ],
)
def polygamma(xp: Any, n: int, self: Array) -> Array:
    """The n-th derivative of `digamma`."""
    if n < 0:
        raise RuntimeError(f"polygamma: does not support negative n, got {n}")
    return xp.polygamma(n, self)


# Around 0, where its derivative divides two small numbers, the series of sin(y) / y is exact to double precision.
_NEAR_ZERO = 0.063


def _sinc_derivative(xp: Any, grad: Any, self: Any) -> Any:
    y = self * math.pi
    near = xp.absolute(y) < _NEAR_ZERO
    square = y * y
    series = y * (square * (square * (square / 45360 - 1 / 840) + 1 / 30) - 1 / 3)
    far = xp.where(near, 1.0, y)
    return grad * (math.pi * xp.where(near, series, (far * xp.cos(far) - xp.sin(far)) / (far * far)))


@op(self=_sinc_derivative, cast="float", inplace=True, samples=[*unary, sample(edge([0.0, 1.0, -2.0, 0.5]))])
def sinc(xp: Any, self: Array) -> Array:
    """`sin(pi * input) / (pi * input)`, which is 1 at 0; smooth there in all derivatives that are taken."""
    y = self * math.pi
    return xp.where(self == 0, 1.0, xp.sin(y) / xp.where(self == 0, 1.0, y))


def _xlogy(xp: Any, x: Any, y: Any) -> Any:
    zero = (x == 0) & (y == y)
    if isinstance(y, int | float):
        return xp.where(zero, 0.0, x * (math.log(y) if y > 0 else -inf if y == 0 else nan))
    return xp.where(zero, 0.0, x * xp.log(xp.where(zero, 1.0, y)))


def _xlogy_self(xp: Any, grad: Any, self: Any, other: Any) -> Any:
    """`grad * log(other)`, and 0 where only its factor is infinite; linear in `grad` everywhere else."""
    zero, infinite = (self == 0) & (other <= 0), (other <= 0) | (other == inf)
    if isinstance(other, int | float):
        log = xp.zeros_like(grad) + (math.log(other) if other > 0 else -inf if other == 0 else nan)
    else:
        log = xp.log(xp.where(zero, 1.0, other))
    return xp.where((grad == 0) & infinite, 0.0, grad * xp.where(zero, 0.0, log))


@op(
    self=_xlogy_self,
    other=lambda grad, self, other: grad * (self / other),
    cast="float",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2, low=0.3)),
        sample(real(), real(2, low=0.3)),
        sample(real(3), 1.7),
        sample(1.3, real(3, low=0.3)),
        sample(integers(3), integers(3, low=1)),
        sample(edge([0.0, 0.0, 0.0, 1.0, 2.0, nan]), edge([0.0, -1.0, nan, 0.0, inf, 1.0])),
    ],
)
def xlogy(xp: Any, self: Array | Number, other: Array | Number) -> Array:
    """`input * log(other)`, which is 0 where `input` is 0, whatever `other` is, except NaN.

    >>> torch.xlogy(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0]))
    tensor([0., 0.])
    """
    return _xlogy(xp, self, other)


def _xlog1py_self(xp: Any, grad: Any, self: Any, other: Any) -> Any:
    """`grad * log1p(other)`, with the exceptions of `xlogy`."""
    edge = (other <= -1) | (other == inf)
    log = xp.log1p(xp.where((self == 0) & (other <= -1), 0.0, other))
    return xp.where((grad == 0) & edge, 0.0, grad * log)


@op(
    self=_xlog1py_self,
    other=lambda xp, grad, self, other: grad * (self / (other + 1)),
    cast="float",
    where="internal",
    node="SpecialXlog1PyBackward0",
)
def _xlog1py(xp: Any, self: Array, other: Array) -> Array:
    """`input * log1p(other)`, which is 0 where `input` is 0, whatever `other` is, except NaN."""
    zero = (self == 0) & (other == other)
    return xp.where(zero, 0.0, self * xp.log1p(xp.where(zero, 0.0, other)))


@composite(
    widens=True,
    where="special",
    samples=[
        sample(real(3, 2), real(2, low=-0.7)),
        sample(real(), real(2, low=-0.7)),
        sample(integers(3), integers(3)),
        sample(real(3), 0.7),
        sample(1.5, real(3, low=-0.7)),
        sample(edge([0.0, 0.0, 0.0, 1.0, 2.0, nan]), edge([-1.0, -2.0, nan, -1.0, inf, 1.0])),
        sample(edge([0.0, 1.0]), edge([1e-20, 1e-20])),
    ],
)
def special_xlog1py(input: Tensor | float, other: Tensor | float) -> Tensor:
    """`input * log1p(other)`, which is 0 where `input` is 0, whatever `other` is, except NaN.

    >>> torch.special.xlog1py(torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 1.0]))
    tensor([0.0000, 0.6931])
    """
    first: Any = input
    second: Any = other
    if not isinstance(input, Tensor):
        first = tensor(input, dtype=second.dtype if second.is_floating_point() else None, device=second.device)
    if not isinstance(other, Tensor):
        second = tensor(other, dtype=first.dtype if first.is_floating_point() else None, device=first.device)
    return _xlog1py(first, second)


def _logit_derivative(xp: Any, grad: Any, self: Any, eps: float | None) -> Any:
    low, high, factor = (0.0, 1.0, nan) if eps is None else (eps, 1 - eps, 0.0)
    outside = (self < low) | (self > high)
    inside = xp.where(outside, 0.5, self)
    return grad * xp.where(outside, factor, 1 / (inside * (1 - inside)))


@op(
    self=_logit_derivative,
    cast="float",
    inplace=True,
    samples=[
        sample(real(3, 2, low=0.05, high=0.95)),
        sample(real(3, low=0.05, high=0.95), 0.2),
        sample(edge([0.0, 1.0, -0.5, 1.5, 0.5])),
        sample(edge([0.0, 1.0, -0.5, 1.5, 0.5, 0.1, 0.9]), eps=0.1),
    ],
)
def logit(xp: Any, self: Array, eps: float | None = None) -> Array:
    """`log(input / (1 - input))`, the inverse of `sigmoid`; `eps` limits `input` to [eps, 1 - eps] first."""
    if eps is not None:
        self = xp.minimum(xp.maximum(self, eps), 1 - eps)
    return xp.log(self / (1 - self))


def entr(input: Any) -> Any:
    """`-x * log(x)`, 0 at 0 and minus infinity below."""
    return (-xlogy(input, input)).masked_fill(input < 0, float("-inf"))


def ndtr(input: Any) -> Any:
    """Return the area under the standard normal density to the left of each element."""
    return erfc(input * -(0.5**0.5)) * 0.5
