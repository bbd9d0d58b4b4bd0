"""Elementwise rows: comparisons, logic, bits, and whether tensors are close or equal."""

from __future__ import annotations

from typing import Any

from nanotorch.ops.row import Array, Number, composite, op
from nanotorch.ops.sample import booleans, integers, real, sample, unary

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
