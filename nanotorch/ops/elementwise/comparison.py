"""Elementwise rows: comparisons, logic, bits, and whether tensors are close or equal."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import ROWS, Array, Number, alias, attach, composite, op
from nanotorch.ops.rows.sample import booleans, edge, integers, real, sample, unary
from nanotorch.ops.rows.tensors import TENSOR

comparable = [
    sample(real(3, 2), real(2)),
    sample(integers(3, 2), integers(2)),
    sample(integers(3), 1),
    sample(real(3), 0),
    sample(edge([0.0, nan, inf, -inf, nan]), edge([-0.0, nan, inf, inf, 1.0])),
]


@op(cast="promote", operators="__eq__", widens=False, samples=comparable)
def eq(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are equal."""
    return self == other


@op(cast="promote", operators="__ne__", widens=False, samples=comparable)
def ne(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements differ."""
    return self != other


@op(cast="promote", operators="__lt__", widens=False, samples=comparable)
def lt(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are less."""
    return self < other


@op(cast="promote", operators="__le__", widens=False, samples=comparable)
def le(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are less or equal."""
    return self <= other


@op(cast="promote", operators="__gt__", widens=False, samples=comparable)
def gt(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are greater."""
    return self > other


@op(cast="promote", operators="__ge__", widens=False, samples=comparable)
def ge(xp: Any, self: Array, other: Array | Number) -> Array:
    """Whether elements are greater or equal."""
    return self >= other


@op(samples=[sample(booleans(3)), sample(integers(3)), sample(edge([0.0, nan, 1.0]))])
def logical_not(xp: Any, self: Array) -> Array:
    """Whether elements are zero."""
    return xp.logical_not(self)


logic = [sample(booleans(3, 2), booleans(2)), sample(integers(3, 2), integers(2))]
logic_of_numbers = [*logic, sample(edge([0.0, -0.0, nan, 0.0]), edge([0.0, 2.0, 0.0, nan]))]


@op(cast="promote", samples=logic_of_numbers)
def logical_and(xp: Any, self: Array, other: Array) -> Array:
    """Whether both elements are non-zero."""
    return xp.logical_and(self, other)


@op(cast="promote", samples=logic_of_numbers)
def logical_or(xp: Any, self: Array, other: Array) -> Array:
    """Whether either element is non-zero."""
    return xp.logical_or(self, other)


@op(cast="promote", samples=logic_of_numbers)
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


shifts = [
    sample(integers(3, 2, high=9), integers(2, high=4)),
    sample(integers(4, low=-9, high=9), 2),
    sample(integers(3), 70),
]


def _need_shiftable(name: str, self: Any, other: Any) -> None:
    if self.dtype.kind == "f" or not (type(other) is int or getattr(other, "dtype", self.dtype).kind in "iu"):
        raise NotImplementedError(f"{name}: expects tensors of integers")


@op(cast="promote", inplace=True, operators="__lshift__", samples=shifts)
def bitwise_left_shift(xp: Any, self: Array | Number, other: Array | Number) -> Array:
    """Integers times `2 ** other`, without the bits that fall out.

    >>> torch.tensor([1, 5]) << 2
    tensor([ 4, 20])
    """
    _need_shiftable("bitwise_left_shift", self, other)
    return xp.left_shift(self, other)


@op(cast="promote", inplace=True, operators="__rshift__", samples=shifts)
def bitwise_right_shift(xp: Any, self: Array | Number, other: Array | Number) -> Array:
    """Integers divided by `2 ** other`, rounded down."""
    _need_shiftable("bitwise_right_shift", self, other)
    return xp.right_shift(self, other)


@composite(where="internal", operators="__rlshift__", samples=[sample(integers(3), 3)])
def _rlshift(input: Any, other: Any) -> Any:
    """`other << input` for a number `other`."""
    return bitwise_left_shift(other, input)


@composite(where="internal", operators="__rrshift__", samples=[sample(integers(3), 12)])
def _rrshift(input: Any, other: Any) -> Any:
    """`other >> input` for a number `other`."""
    return bitwise_right_shift(other, input)


special = [*unary, sample(integers(3)), sample(edge([nan, inf, -inf, 0.0]))]


@op(samples=special)
def isnan(xp: Any, self: Array) -> Array:
    """Whether elements are NaN."""
    return xp.isnan(self)


@op(samples=special)
def isinf(xp: Any, self: Array) -> Array:
    """Whether elements are infinite."""
    return xp.isinf(self)


@TENSOR.define("isfinite")
@op(samples=special)
def isfinite(xp: Any, self: Array) -> Array:
    """Whether elements are neither infinite nor NaN."""
    return xp.isfinite(self)


@op(samples=special)
def isposinf(xp: Any, self: Array) -> Array:
    """Whether elements are positive infinity."""
    return self == inf


@op(samples=special)
def isneginf(xp: Any, self: Array) -> Array:
    """Whether elements are negative infinity."""
    return self == -inf


@op(samples=special)
def isreal(xp: Any, self: Array) -> Array:
    """Whether elements are real, which all are: there are no complex dtypes."""
    return xp.ones(self.shape, bool)


@op(
    cast="promote",
    samples=[
        sample(real(3), real(3)),
        sample(real(3, 2), real(3, 2), 0.1, 0.2),
        sample(integers(5), integers(5), 0.0, 1.0),
        sample(booleans(4), booleans(4)),
        sample(edge([nan, inf, -inf, inf, 1.0]), edge([nan, inf, inf, 1.0, inf]), equal_nan=True),
        sample(edge([nan, inf, -inf, inf, 1.0]), edge([nan, inf, inf, 1.0, inf])),
    ],
)
def isclose(
    xp: Any, self: Array, other: Array, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Array:
    """Whether `|input - other| <= atol + rtol * |other|`, element by element."""
    if not (rtol >= 0 and atol >= 0):
        raise RuntimeError(f"isclose: rtol and atol must be greater than or equal to zero, got {rtol} and {atol}")
    if self.dtype.kind == "b":
        return self == other
    if self.dtype.kind != "f":  # differences of unsigned integers would wrap around
        self, other = xp.astype(self, float), xp.astype(other, float)
    close = xp.absolute(self - other) <= atol + rtol * xp.absolute(other)
    close = (close & xp.isfinite(self) & xp.isfinite(other)) | (self == other)
    return close | (xp.isnan(self) & xp.isnan(other)) if equal_nan else close


@composite()
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all().item())


@composite()
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements, as a Python bool."""
    return bool(input.shape == other.shape and (input == other).all().item())


def _overwriting(name: str) -> Callable[..., Any]:
    """Return the in-place variant of a comparison: the tensor keeps its dtype and gets ones and zeros."""

    def variant(input: Any, *other: Any) -> Any:
        return input.copy_(ROWS[name].function(input, *other))

    variant.__name__ = variant.__qualname__ = name + "_"
    variant.__doc__ = f"In-place version of `{name}`: writes ones where it holds, zeros elsewhere."
    return variant


for _name in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not"):
    attach(_name + "_", _overwriting(_name), "method", ())

greater = alias("greater", "gt")
greater_equal = alias("greater_equal", "ge")
less = alias("less", "lt")
less_equal = alias("less_equal", "le")
not_equal = alias("not_equal", "ne")
