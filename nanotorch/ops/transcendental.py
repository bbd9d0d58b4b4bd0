"""Elementwise rows: exponentials, logarithms, trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.ops.row import Array, op
from nanotorch.ops.sample import above_zero, real, sample, unary

# ------------------------------------------------------------------------------------------------- exponentials


@op(self=lambda grad, result: grad * result, cast="float", inplace=True, samples=unary)
def exp(xp: Any, self: Array) -> Array:
    """``e ** input``."""
    return xp.exp(self)


@op(self=lambda grad, result: grad * (result * math.log(2.0)), cast="float", inplace=True, samples=unary)
def exp2(xp: Any, self: Array) -> Array:
    """``2 ** input``."""
    return xp.exp2(self)


@op(self=lambda grad, result: grad * (result + 1), cast="float", inplace=True, samples=unary)
def expm1(xp: Any, self: Array) -> Array:
    """``exp(input) - 1``, accurate near 0."""
    return xp.expm1(self)


@op(self=lambda grad, self: grad / self, cast="float", inplace=True, samples=above_zero)
def log(xp: Any, self: Array) -> Array:
    """Natural logarithm."""
    return xp.log(self)


@op(self=lambda grad, self: grad / (self * math.log(2.0)), cast="float", inplace=True, samples=above_zero)
def log2(xp: Any, self: Array) -> Array:
    """Logarithm to base 2."""
    return xp.log2(self)


@op(self=lambda grad, self: grad / (self * math.log(10.0)), cast="float", inplace=True, samples=above_zero)
def log10(xp: Any, self: Array) -> Array:
    """Logarithm to base 10."""
    return xp.log10(self)


@op(self=lambda grad, self: grad / (self + 1), cast="float", inplace=True, samples=above_zero)
def log1p(xp: Any, self: Array) -> Array:
    """``log(1 + input)``, accurate near 0."""
    return xp.log1p(self)


# ------------------------------------------------------------------------------------------------- trigonometry


@op(self=lambda xp, grad, self: grad * xp.cos(self), cast="float", inplace=True, samples=unary)
def sin(xp: Any, self: Array) -> Array:
    """Sine of an angle in radians."""
    return xp.sin(self)


@op(self=lambda xp, grad, self: grad * -xp.sin(self), cast="float", inplace=True, samples=unary)
def cos(xp: Any, self: Array) -> Array:
    """Cosine of an angle in radians."""
    return xp.cos(self)


@op(self=lambda grad, result: grad * (1 + result * result), cast="float", inplace=True, samples=[sample(real(3, 2, low=-1, high=1))])
def tan(xp: Any, self: Array) -> Array:
    """Tangent of an angle in radians."""
    return xp.tan(self)


inside = [sample(real(3, 2, low=-0.9, high=0.9)), sample(real(low=-0.9, high=0.9))]


@op(self=lambda xp, grad, self: grad / xp.sqrt(1 - self * self), cast="float", inplace=True, samples=inside)
def asin(xp: Any, self: Array) -> Array:
    """Arcsine, in radians."""
    return xp.arcsin(self)


@op(self=lambda xp, grad, self: -grad / xp.sqrt(1 - self * self), cast="float", inplace=True, samples=inside)
def acos(xp: Any, self: Array) -> Array:
    """Arccosine, in radians."""
    return xp.arccos(self)


@op(self=lambda grad, self: grad / (self * self + 1), cast="float", inplace=True, samples=unary)
def atan(xp: Any, self: Array) -> Array:
    """Arctangent, in radians."""
    return xp.arctan(self)


@op(
    self=lambda grad, self, other: grad * other / (self * self + other * other),
    other=lambda grad, self, other: grad * -self / (self * self + other * other),
    cast="float", inplace=True, samples=[sample(real(3, 2), real(2, low=0.5))],
)  # fmt: skip
def atan2(xp: Any, self: Array, other: Array) -> Array:
    """The angle of the point (other, input), in radians."""
    return xp.arctan2(self, other)


@op(self=lambda xp, grad, self: grad * xp.cosh(self), cast="float", inplace=True, samples=unary)
def sinh(xp: Any, self: Array) -> Array:
    """Hyperbolic sine."""
    return xp.sinh(self)


@op(self=lambda xp, grad, self: grad * xp.sinh(self), cast="float", inplace=True, samples=unary)
def cosh(xp: Any, self: Array) -> Array:
    """Hyperbolic cosine."""
    return xp.cosh(self)


@op(self=lambda grad, result: grad * (1 - result * result), cast="float", inplace=True, samples=unary)
def tanh(xp: Any, self: Array) -> Array:
    """Hyperbolic tangent."""
    return xp.tanh(self)


@op(self=lambda xp, grad, self: grad / xp.sqrt(self * self + 1), cast="float", inplace=True, samples=unary)
def asinh(xp: Any, self: Array) -> Array:
    """Inverse hyperbolic sine."""
    return xp.arcsinh(self)


@op(self=lambda xp, grad, self: grad / xp.sqrt(self * self - 1), cast="float", inplace=True, samples=[sample(real(3, 2, low=1.2))])
def acosh(xp: Any, self: Array) -> Array:
    """Inverse hyperbolic cosine."""
    return xp.arccosh(self)


@op(self=lambda grad, self: grad / (1 - self * self), cast="float", inplace=True, samples=inside)
def atanh(xp: Any, self: Array) -> Array:
    """Inverse hyperbolic tangent."""
    return xp.arctanh(self)
