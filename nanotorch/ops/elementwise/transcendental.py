"""Elementwise rows: exponentials, logarithms, trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from math import inf, nan
from typing import Any

from nanotorch.ops.rows.row import Array, alias, op
from nanotorch.ops.rows.sample import above_zero, edge, integers, real, sample, unary
from nanotorch.ops.rows.tensors import TENSOR

# ------------------------------------------------------------------------------------------------- exponentials


@TENSOR.define("exp")
@op(self=lambda grad, result: grad * result, cast="float", inplace=True, samples=unary)
def exp(xp: Any, self: Array) -> Array:
    """`e ** input`."""
    return xp.exp(self)


@TENSOR.define("exp2")
@op(self=lambda grad, result: grad * (result * math.log(2.0)), cast="float", inplace=True, samples=unary)
def exp2(xp: Any, self: Array) -> Array:
    """`2 ** input`."""
    return xp.exp2(self)


@TENSOR.define("expm1")
@op(self=lambda grad, result: grad * (result + 1), cast="float", inplace=True, samples=unary)
def expm1(xp: Any, self: Array) -> Array:
    """`exp(input) - 1`, accurate near 0."""
    return xp.expm1(self)


@TENSOR.define("log")
@op(self=lambda grad, self: grad / self, cast="float", inplace=True, samples=above_zero)
def log(xp: Any, self: Array) -> Array:
    """Natural logarithm."""
    return xp.log(self)


@TENSOR.define("log2")
@op(self=lambda grad, self: grad / (self * math.log(2.0)), cast="float", inplace=True, samples=above_zero)
def log2(xp: Any, self: Array) -> Array:
    """Logarithm to base 2."""
    return xp.log2(self)


@TENSOR.define("log10")
@op(self=lambda grad, self: grad / (self * math.log(10.0)), cast="float", inplace=True, samples=above_zero)
def log10(xp: Any, self: Array) -> Array:
    """Logarithm to base 10."""
    return xp.log10(self)


@TENSOR.define("log1p")
@op(self=lambda grad, self: grad / (self + 1), cast="float", inplace=True, samples=above_zero)
def log1p(xp: Any, self: Array) -> Array:
    """`log(1 + input)`, accurate near 0."""
    return xp.log1p(self)


_infinities = sample(edge([inf, inf, -inf, -inf, 1.0, 0.0, nan]), edge([inf, -inf, -inf, 1.0, inf, 0.0, 1.0]))


@op(
    self=lambda xp, grad, self, other: grad / (1 + xp.exp(other - self)),
    other=lambda xp, grad, self, other: grad / (1 + xp.exp(self - other)),
    cast="float",
    samples=[sample(real(3, 2), real(2)), sample(real(), real(2)), _infinities],
)
def logaddexp(xp: Any, self: Array, other: Array) -> Array:
    """`log(exp(input) + exp(other))` without overflow."""
    return xp.logaddexp(self, other)


@op(
    self=lambda xp, grad, self, other: grad / (1 + xp.exp2(other - self)),
    other=lambda xp, grad, self, other: grad / (1 + xp.exp2(self - other)),
    cast="float",
    samples=[sample(real(3, 2), real(2)), sample(real(), real(2)), _infinities],
)
def logaddexp2(xp: Any, self: Array, other: Array) -> Array:
    """`log2(2 ** input + 2 ** other)` without overflow."""
    return xp.logaddexp2(self, other)


# ------------------------------------------------------------------------------------------------- trigonometry


DEGREE = math.pi / 180


@op(
    self=lambda grad: grad * DEGREE,
    cast="float",
    inplace=True,
    node="Deg2RadBackward0",
    samples=[*unary, sample(integers(3, high=360))],
)
def deg2rad(xp: Any, self: Array) -> Array:
    """Degrees to radians.

    >>> torch.deg2rad(torch.tensor([180.0, 90.0]))
    tensor([3.1416, 1.5708])
    """
    return self * DEGREE


@op(
    self=lambda grad: grad * (1 / DEGREE),
    cast="float",
    inplace=True,
    node="Rad2DegBackward0",
    samples=[*unary, sample(integers(3))],
)
def rad2deg(xp: Any, self: Array) -> Array:
    """Radians to degrees."""
    return self * (1 / DEGREE)


@TENSOR.define("sin")
@op(self=lambda xp, grad, self: grad * xp.cos(self), cast="float", inplace=True, samples=unary)
def sin(xp: Any, self: Array) -> Array:
    """Sine of an angle in radians."""
    return xp.sin(self)


@TENSOR.define("cos")
@op(self=lambda xp, grad, self: grad * -xp.sin(self), cast="float", inplace=True, samples=unary)
def cos(xp: Any, self: Array) -> Array:
    """Cosine of an angle in radians."""
    return xp.cos(self)


@TENSOR.define("tan")
@op(
    self=lambda grad, result: grad * (1 + result * result),
    cast="float",
    inplace=True,
    samples=[sample(real(3, 2, low=-1, high=1))],
)
def tan(xp: Any, self: Array) -> Array:
    """Tangent of an angle in radians."""
    return xp.tan(self)


inside = [sample(real(3, 2, low=-0.9, high=0.9)), sample(real(low=-0.9, high=0.9))]


@TENSOR.define("arcsin")
@op(self=lambda xp, grad, self: grad / xp.sqrt(1 - self * self), cast="float", inplace=True, samples=inside)
def asin(xp: Any, self: Array) -> Array:
    """Arcsine, in radians."""
    return xp.arcsin(self)


@TENSOR.define("arccos")
@op(self=lambda xp, grad, self: -grad / xp.sqrt(1 - self * self), cast="float", inplace=True, samples=inside)
def acos(xp: Any, self: Array) -> Array:
    """Arccosine, in radians."""
    return xp.arccos(self)


@TENSOR.define("arctan")
@op(self=lambda grad, self: grad / (self * self + 1), cast="float", inplace=True, samples=unary)
def atan(xp: Any, self: Array) -> Array:
    """Arctangent, in radians."""
    return xp.arctan(self)


def _square_distance(xp: Any, y: Any, x: Any) -> Any:
    square = y * y + x * x
    return xp.where(square == 0, 1.0, square)


@TENSOR.define("arctan2")
@op(
    self=lambda xp, grad, self, other: grad * (other / _square_distance(xp, self, other)),
    other=lambda xp, grad, self, other: grad * (-self / _square_distance(xp, self, other)),
    cast="float",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2, low=0.5)),
        sample(edge([0.0, -0.0, 1.0, 0.0, inf]), edge([0.0, -1.0, 0.0, 2.0, -inf])),
    ],
)
def atan2(xp: Any, self: Array, other: Array) -> Array:
    """The angle of the point (other, input), in radians; its derivatives at the origin are 0."""
    return xp.arctan2(self, other)


@TENSOR.define("sinh")
@op(self=lambda xp, grad, self: grad * xp.cosh(self), cast="float", inplace=True, samples=unary)
def sinh(xp: Any, self: Array) -> Array:
    """Hyperbolic sine."""
    return xp.sinh(self)


@TENSOR.define("cosh")
@op(self=lambda xp, grad, self: grad * xp.sinh(self), cast="float", inplace=True, samples=unary)
def cosh(xp: Any, self: Array) -> Array:
    """Hyperbolic cosine."""
    return xp.cosh(self)


@TENSOR.define("tanh")
@op(self=lambda grad, result: grad * (1 - result * result), cast="float", inplace=True, samples=unary)
def tanh(xp: Any, self: Array) -> Array:
    """Hyperbolic tangent."""
    return xp.tanh(self)


@op(self=lambda xp, grad, self: grad / xp.sqrt(self * self + 1), cast="float", inplace=True, samples=unary)
def asinh(xp: Any, self: Array) -> Array:
    """Inverse hyperbolic sine."""
    return xp.arcsinh(self)


@op(
    self=lambda xp, grad, self: grad / xp.sqrt(self * self - 1),
    cast="float",
    inplace=True,
    samples=[sample(real(3, 2, low=1.2))],
)
def acosh(xp: Any, self: Array) -> Array:
    """Inverse hyperbolic cosine."""
    return xp.arccosh(self)


@op(self=lambda grad, self: grad / (1 - self * self), cast="float", inplace=True, samples=inside)
def atanh(xp: Any, self: Array) -> Array:
    """Inverse hyperbolic tangent."""
    return xp.arctanh(self)


arccos = alias("arccos", "acos")
arccosh = alias("arccosh", "acosh")
arcsin = alias("arcsin", "asin")
arcsinh = alias("arcsinh", "asinh")
arctan = alias("arctan", "atan")
arctan2 = alias("arctan2", "atan2")
arctanh = alias("arctanh", "atanh")
