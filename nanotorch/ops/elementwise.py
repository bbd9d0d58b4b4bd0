"""Elementwise rows: arithmetic, powers, exponentials, trigonometry, comparisons, logic, activations."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.ops.row import Array, Mask, Number, attach, composite, op
from nanotorch.ops.sample import booleans, integers, real, sample

TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)

unary = [sample(real(3, 2)), sample(real())]
above_zero = [sample(real(3, 2, low=0.3)), sample(real(low=0.3))]
binary = [sample(real(3, 2), real(2)), sample(real(2, 1), real(1, 3)), sample(real(), real(2)), sample(real(3), 2.5)]
integral = [sample(integers(3, 2, high=5), integers(2, low=1, high=5)), sample(integers(3, high=5), 2)]


# ------------------------------------------------------------------------------------------------- arithmetic


@op(
    self=lambda grad: grad,
    other=lambda grad, alpha: grad if alpha == 1 else grad * alpha,
    cast="promote", inplace=True, operators="__add__ __radd__",
    samples=[*binary, *integral, sample(real(3), real(3), alpha=2)],
)  # fmt: skip
def add(xp: Any, self: Array, other: Array | Number, *, alpha: float = 1) -> Array:
    """``input + alpha * other``, broadcasting."""
    return self + other if alpha == 1 else self + other * alpha


@op(
    self=lambda grad: grad,
    other=lambda grad, alpha: -grad if alpha == 1 else grad * -alpha,
    cast="promote", inplace=True, operators="__sub__",
    samples=[*binary, *integral, sample(real(3), real(3), alpha=2)],
)  # fmt: skip
def sub(xp: Any, self: Array, other: Array | Number, *, alpha: float = 1) -> Array:
    """``input - alpha * other``, broadcasting."""
    return self - other if alpha == 1 else self - other * alpha


@op(
    self=lambda grad: -grad, other=lambda grad: grad, cast="promote", operators="__rsub__", samples=binary,
    where="function", node="RsubBackward1",
)  # fmt: skip
def rsub(xp: Any, self: Array, other: Array | Number) -> Array:
    """``other - input``, broadcasting."""
    return other - self


@op(
    self=lambda grad, other: grad * other,
    other=lambda grad, self: grad * self,
    cast="promote", inplace=True, operators="__mul__ __rmul__", samples=[*binary, *integral],
)  # fmt: skip
def mul(xp: Any, self: Array, other: Array | Number) -> Array:
    """Elementwise product, broadcasting.

    >>> torch.mul(torch.tensor([1.0, 2.0]), 3)
    tensor([3., 6.])
    """
    return self * other


@op(
    self=lambda grad, other: grad / other,
    other=lambda grad, self, other: -grad * (self / (other * other)),
    cast="float", inplace=True, operators="__truediv__", node="DivBackward0",
    samples=[sample(real(3, 2), real(2, low=0.5)), sample(real(), real(2, low=0.5)), sample(real(3), 2.0), *integral],
)  # fmt: skip
def true_divide(xp: Any, self: Array, other: Array | Number) -> Array:
    """Elementwise quotient, floating point even for integers.

    >>> torch.tensor([1, 2]) / 2
    tensor([0.5000, 1.0000])
    """
    return self / other


@composite(samples=[sample(real(3, 2), real(2, low=0.5)), sample(real(3), 0.7, rounding_mode="floor")])
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """Elementwise quotient; ``rounding_mode`` is None, "floor" or "trunc"."""
    if rounding_mode is None:
        return true_divide(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        quotient = trunc(true_divide(input, other))
        return quotient if input.is_floating_point() else quotient.to(input.dtype)
    raise RuntimeError(f"div: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}")


@composite(where="method")
def div_(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """In-place version of `div`."""
    if rounding_mode is None:
        return input.true_divide_(other)
    return input.floor_divide_(other) if rounding_mode == "floor" else input.true_divide_(other).trunc_()


@op(self=lambda grad, result: -grad * (result * result), cast="float", inplace=True, samples=above_zero)
def reciprocal(xp: Any, self: Array) -> Array:
    """``1 / input``."""
    return 1 / self


@op(self=lambda xp, grad: xp.zeros_like(grad), cast="promote", inplace=True, operators="__floordiv__",
    samples=[sample(real(3, 2), real(2, low=0.5)), sample(real(3), 0.7), *integral])  # fmt: skip
def floor_divide(xp: Any, self: Array | Number, other: Array | Number) -> Array:
    """The quotient rounded down; its derivative is zero."""
    return xp.floor_divide(self, other)


@op(
    self=lambda grad: grad,
    other=lambda xp, grad, self, other: -grad * xp.floor(self / other),
    cast="promote", inplace=True, operators="__mod__",
    samples=[sample(real(3, 2), real(2, low=0.6)), sample(real(3), 0.7), *integral],
)  # fmt: skip
def remainder(xp: Any, self: Array | Number, other: Array | Number) -> Array:
    """Python's modulus: ``input - floor(input / other) * other``, with the sign of ``other``."""
    return xp.remainder(self, other)


@op(self=lambda grad: -grad, inplace=True, operators="__neg__", samples=[*unary, sample(integers(3))])
def neg(xp: Any, self: Array) -> Array:
    """``-input``."""
    return -self


@composite(operators="__pos__", samples=unary)
def positive(input: Any) -> Any:
    """``+input``: the tensor itself."""
    return input


@op(self=lambda xp, grad, self: grad * xp.sign(self), inplace=True, operators="__abs__", samples=[*unary, sample(integers(3, low=-3))])
def abs(xp: Any, self: Array) -> Array:
    """Absolute value; the derivative at 0 is 0."""
    return xp.absolute(self)


@op(self=lambda grad, self: grad * (2 * self), inplace=True, samples=unary, node="PowBackward0")
def square(xp: Any, self: Array) -> Array:
    """``input * input``."""
    return self * self


def _pow_self(xp: Any, grad: Any, self: Any, exponent: Any) -> Any:
    if isinstance(exponent, int | float):
        return xp.zeros_like(grad) if exponent == 0 else grad * (exponent * self ** (exponent - 1))
    return xp.where(exponent == 0, 0.0, grad * (exponent * self ** (exponent - 1)))


def _pow_exponent(xp: Any, grad: Any, self: Any, exponent: Any, result: Any) -> Any:
    undefined = (self == 0) & (exponent >= 0)
    return grad * xp.where(undefined, 0.0, result * xp.log(xp.where(undefined, 1.0, self)))


@op(
    self=lambda xp, grad, self, exponent: _pow_self(xp, grad, self, exponent),
    exponent=lambda xp, grad, self, exponent, result: _pow_exponent(xp, grad, self, exponent, result),
    cast="promote", inplace=True, operators="__pow__",
    samples=[
        sample(real(3, 2), 2), sample(real(3), 3), sample(real(3, low=0.5), -0.5), sample(real(3), 0), sample(real(), 2.0),
        sample(real(3, 2, low=0.5), real(2)), sample(1.7, real(3)), sample(integers(3), 2),
    ],
)  # fmt: skip
def pow(xp: Any, self: Array | Number, exponent: Array | Number) -> Array:
    """``input ** exponent``; the derivative with exponent 0 is 0 everywhere."""
    return self**exponent


@composite(where="method", operators="__rpow__")
def rpow(input: Any, other: Any) -> Any:
    """``other ** input`` for a number ``other``."""
    return pow(other, input)


@composite(where="method", operators="__rtruediv__")
def rdiv(input: Any, other: Any) -> Any:
    """``other / input`` for a number ``other``."""
    return mul(reciprocal(input), other)


@composite(where="method", operators="__rfloordiv__")
def rfloordiv(input: Any, other: Any) -> Any:
    """``other // input`` for a number ``other``."""
    return floor_divide(other, input)


@composite(where="method", operators="__rmod__")
def rmod(input: Any, other: Any) -> Any:
    """``other % input`` for a number ``other``."""
    return remainder(other, input)


@op(self=lambda grad, result: grad / (2 * result), cast="float", inplace=True, samples=above_zero)
def sqrt(xp: Any, self: Array) -> Array:
    """Square root."""
    return xp.sqrt(self)


@op(self=lambda grad, result: grad * (-0.5 * result * result * result), cast="float", inplace=True, samples=above_zero)
def rsqrt(xp: Any, self: Array) -> Array:
    """``1 / sqrt(input)``."""
    return 1 / xp.sqrt(self)


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


@op(self=lambda xp, grad, self: grad * (TWO_OVER_SQRT_PI * xp.exp(-(self * self))), cast="float", inplace=True, samples=unary)
def erf(xp: Any, self: Array) -> Array:
    """The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t*t)`` from 0 to ``input``."""
    return xp.erf(self)


# ------------------------------------------------------------------------------------------------- rounding, signs


def _zero(xp: Any, grad: Any) -> Any:
    return xp.zeros_like(grad)


@op(self=_zero, inplace=True, samples=unary)
def floor(xp: Any, self: Array) -> Array:
    """The largest integer not above; its derivative is zero."""
    return xp.floor(self)


@op(self=_zero, inplace=True, samples=unary)
def ceil(xp: Any, self: Array) -> Array:
    """The smallest integer not below; its derivative is zero."""
    return xp.ceil(self)


@op(self=_zero, inplace=True, samples=unary)
def trunc(xp: Any, self: Array) -> Array:
    """The integer part; its derivative is zero."""
    return xp.trunc(self)


@op(self=_zero, inplace=True, samples=[*unary, sample(real(3), decimals=2)])
def round(xp: Any, self: Array, *, decimals: int = 0) -> Array:
    """The nearest integer (halves to even), or multiple of ``10 ** -decimals``; its derivative is zero."""
    return xp.rint(self) if decimals == 0 else xp.rint(self * 10.0**decimals) / 10.0**decimals


@op(self=_zero, inplace=True, samples=unary)
def sign(xp: Any, self: Array) -> Array:
    """-1, 0 or 1; its derivative is zero."""
    return xp.sign(self)


# ------------------------------------------------------------------------------------------------- extrema, choice


def _clamp_self(xp: Any, grad: Any, self: Any, min: Any, max: Any) -> Any:
    inside: Any = True
    if min is not None:
        inside = self >= min
    if max is not None:
        inside = inside & (self <= max) if min is not None else self <= max
    return xp.where(inside, grad, 0.0)


def _clamp_min(xp: Any, grad: Any, self: Any, min: Any, max: Any) -> Any:
    outside = self < min if max is None else (self < min) & (min < max)
    return xp.where(outside, grad, 0.0)


def _clamp_max(xp: Any, grad: Any, self: Any, min: Any, max: Any) -> Any:
    outside = self > max if min is None else (self > max) | (max < min)
    return xp.where(outside, grad, 0.0)


@op(
    self=_clamp_self, min=_clamp_min, max=_clamp_max, cast="promote", inplace=True,
    samples=[
        sample(real(3, 2), -0.5, 0.7), sample(real(3), min=0.1), sample(real(3), max=0.1), sample(integers(4), 1, 2),
        sample(real(3, 2), real(2, low=-1.5, high=-0.5), real(2, low=0.5, high=1.5)),
    ],
)  # fmt: skip
def clamp(xp: Any, self: Array, min: Array | Number | None = None, max: Array | Number | None = None) -> Array:
    """Limit values to [min, max]; the gradient passes where the value is inside, bounds included."""
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of 'min' or 'max' must not be None")
    if min is not None:
        self = xp.maximum(self, min)
    return self if max is None else xp.minimum(self, max)


@composite(samples=[sample(real(3), -0.5, 0.7)])
def clip(input: Any, min: Any = None, max: Any = None) -> Any:
    """Alias of `clamp`."""
    return clamp(input, min, max)


@composite(where="method")
def clip_(input: Any, min: Any = None, max: Any = None) -> Any:
    """Alias of `clamp_`."""
    return input.clamp_(min, max)


@op(
    self=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self > other, grad, 0.0)),
    other=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self < other, grad, 0.0)),
    cast="promote", samples=[sample(real(3, 2), real(2)), sample(real(), real(3)), sample(integers(3), integers(3))],
)  # fmt: skip
def maximum(xp: Any, self: Array, other: Array) -> Array:
    """The larger of two elements; where they are equal each gets half of the gradient."""
    return xp.maximum(self, other)


@op(
    self=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self < other, grad, 0.0)),
    other=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self > other, grad, 0.0)),
    cast="promote", samples=[sample(real(3, 2), real(2)), sample(real(), real(3)), sample(integers(3), integers(3))],
)  # fmt: skip
def minimum(xp: Any, self: Array, other: Array) -> Array:
    """The smaller of two elements; where they are equal each gets half of the gradient."""
    return xp.minimum(self, other)


@op(
    self=lambda xp, grad, condition: xp.where(condition, grad, 0.0),
    other=lambda xp, grad, condition: xp.where(condition, 0.0, grad),
    cast="promote", where="function",
    samples=[sample(booleans(3, 2), real(3, 2), real(2)), sample(booleans(3), real(3), 0.5), sample(booleans(3), 0.5, real(3))],
)  # fmt: skip
def where(xp: Any, condition: Mask, self: Array | Number, other: Array | Number) -> Array:
    """Elements of ``input`` where the condition holds, of ``other`` elsewhere."""
    return xp.where(condition, self, other)


def where_method(input: Any, condition: Any, other: Any) -> Any:
    """Elements of the tensor where the condition holds, of ``other`` elsewhere."""
    return where(condition, input, other)


attach("where", where_method, "method", ())


# ------------------------------------------------------------------------------------------------- comparisons, logic

comparable = [sample(real(3, 2), real(2)), sample(integers(3, 2), integers(2)), sample(integers(3), 1), sample(real(3), 0)]


@op(cast="promote", operators="__eq__", samples=comparable)
def eq(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are equal."""
    return self == other


@op(cast="promote", operators="__ne__", samples=comparable)
def ne(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements differ."""
    return self != other


@op(cast="promote", operators="__lt__", samples=comparable)
def lt(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are less."""
    return self < other


@op(cast="promote", operators="__le__", samples=comparable)
def le(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are less or equal."""
    return self <= other


@op(cast="promote", operators="__gt__", samples=comparable)
def gt(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are greater."""
    return self > other


@op(cast="promote", operators="__ge__", samples=comparable)
def ge(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are greater or equal."""
    return self >= other


@op(samples=[sample(booleans(3)), sample(integers(3))])
def logical_not(xp: Any, self: Array) -> Array:
    """Whether elements are zero."""
    return xp.logical_not(self)


logic = [sample(booleans(3, 2), booleans(2)), sample(integers(3, 2), integers(2))]


@op(cast="promote", samples=logic)
def logical_and(xp: Any, self: Array, other: Array) -> Array:
    """Whether both elements are non-zero."""
    return xp.logical_and(self, other)


@op(cast="promote", samples=logic)
def logical_or(xp: Any, self: Array, other: Array) -> Array:
    """Whether either element is non-zero."""
    return xp.logical_or(self, other)


@op(cast="promote", samples=logic)
def logical_xor(xp: Any, self: Array, other: Array) -> Array:
    """Whether exactly one element is non-zero."""
    return xp.logical_xor(self, other)


@op(operators="__invert__", inplace=True, samples=[sample(booleans(3)), sample(integers(3))])
def bitwise_not(xp: Any, self: Array) -> Array:
    """Flip the bits of integers, negate booleans."""
    return ~self


@op(cast="promote", inplace=True, operators="__and__ __rand__", samples=logic)
def bitwise_and(xp: Any, self: Array, other: Array | Number) -> Array:
    """Bitwise and of integers or booleans."""
    return self & other


@op(cast="promote", inplace=True, operators="__or__ __ror__", samples=logic)
def bitwise_or(xp: Any, self: Array, other: Array | Number) -> Array:
    """Bitwise or of integers or booleans."""
    return self | other


@op(cast="promote", inplace=True, operators="__xor__ __rxor__", samples=logic)
def bitwise_xor(xp: Any, self: Array, other: Array | Number) -> Array:
    """Bitwise exclusive or of integers or booleans."""
    return self ^ other


@op(samples=unary)
def isnan(xp: Any, self: Array) -> Array:
    """Whether elements are NaN."""
    return xp.isnan(self)


@op(samples=unary)
def isinf(xp: Any, self: Array) -> Array:
    """Whether elements are infinite."""
    return xp.isinf(self)


@op(samples=unary)
def isfinite(xp: Any, self: Array) -> Array:
    """Whether elements are neither infinite nor NaN."""
    return xp.isfinite(self)


# ------------------------------------------------------------------------------------------------- activations


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




# ------------------------------------------------------------------------------------------------- whole tensors


@op(cast="promote", samples=[sample(real(3), real(3)), sample(real(3, 2), real(3, 2), 0.1, 0.2)])
def isclose(
    xp: Any, self: Array, other: Array, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Array:
    """Whether ``|input - other| <= atol + rtol * |other|``, element by element."""
    close = xp.absolute(self - other) <= atol + rtol * xp.absolute(other)
    close = (close & xp.isfinite(self) & xp.isfinite(other)) | (self == other)
    return close | (xp.isnan(self) & xp.isnan(other)) if equal_nan else close


@composite()
def allclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all().item())


@composite()
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and elements, as a Python bool."""
    return bool(input.shape == other.shape and (input == other).all().item())
