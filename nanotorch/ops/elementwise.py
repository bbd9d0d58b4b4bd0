"""Elementwise rows: sums, products, quotients, remainders, powers."""

from __future__ import annotations

from typing import Any

from nanotorch.ops.rounding import trunc
from nanotorch.ops.row import Array, Number, composite, op
from nanotorch.ops.sample import above_zero, binary, integers, integral, real, sample, unary


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
