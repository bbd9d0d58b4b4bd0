"""Elementwise rows: rounding and signs."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from nanotorch.ops.elementwise.arithmetic import not_implemented
from nanotorch.ops.rows.row import Array, Number, alias, op
from nanotorch.ops.rows.sample import booleans, edge, integers, real, sample, unary
from nanotorch.ops.rows.tensors import TENSOR


def _zero(xp: Any, grad: Any) -> Any:
    return xp.zeros_like(grad)


halves = [*unary, sample(integers(3, low=-3)), sample(edge([0.5, -0.5, 1.5, 2.5, -2.5, -0.0, inf, -inf, nan, 1e30]))]


@TENSOR.define("floor")
@op(self=_zero, inplace=True, samples=halves)
def floor(xp: Any, self: Array) -> Array:
    """The largest integer not above; its derivative is zero."""
    return xp.floor(self) if self.dtype.kind == "f" else xp.array(self)


@op(self=_zero, inplace=True, samples=halves)
def ceil(xp: Any, self: Array) -> Array:
    """The smallest integer not below; its derivative is zero."""
    return xp.ceil(self) if self.dtype.kind == "f" else xp.array(self)


@op(self=_zero, inplace=True, samples=halves)
def trunc(xp: Any, self: Array) -> Array:
    """The integer part; its derivative is zero."""
    return xp.trunc(self) if self.dtype.kind == "f" else xp.array(self)


@op(self=lambda grad: grad, inplace=True, samples=[*unary, sample(edge([-1.5, 2.0, -0.0, nan, 1e30]))])
def frac(xp: Any, self: Array) -> Array:
    """What `trunc` cuts off, with the sign of `input`; its derivative is 1."""
    if self.dtype.kind != "f":
        raise RuntimeError("frac: expects a floating point tensor; convert it with .float()")
    return self - xp.trunc(self)


@op(
    self=_zero,
    inplace=True,
    samples=[*halves, sample(real(3), decimals=2), sample(real(3, low=-500, high=500), decimals=-2)],
)
def round(xp: Any, self: Array, *, decimals: int = 0) -> Array:
    """The nearest integer (halves to even), or multiple of `10 ** -decimals`; its derivative is zero.

    >>> torch.round(torch.tensor([0.5, 1.5, 2.5]))
    tensor([0., 2., 2.])
    """
    if self.dtype.kind != "f":
        if decimals:
            raise RuntimeError(
                f"round: decimals={decimals} is not implemented for whole numbers; convert them with .float()"
            )
        return xp.array(self)
    if decimals == 0:
        return xp.rint(self)
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    return xp.rint(self * scale) / scale if decimals > 0 else xp.rint(self / scale) * scale


@TENSOR.define("sign")
@op(self=_zero, inplace=True, samples=[*halves, sample(booleans(3))])
def sign(xp: Any, self: Array) -> Array:
    """-1, 0 or 1; its derivative is zero."""
    return xp.sign(self) if self.dtype.kind != "b" else xp.array(self)


@op(samples=[*halves, sample(booleans(3))])
def signbit(xp: Any, self: Array) -> Array:
    """Whether the sign is minus: negative numbers and -0."""
    return xp.signbit(self) if self.dtype.kind == "f" else self < 0


@op(
    self=lambda xp, grad, self, result: grad * xp.where(self == 0, 0.0, result / xp.where(self == 0, 1.0, self)),
    other=_zero,
    cast="float",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2)),
        sample(real(3), -1.5),
        sample(integers(3), integers(3, low=-3)),
        sample(edge([0.0, -0.0, 1.0, -1.0, 2.0]), edge([-1.0, 1.0, -0.0, 0.0, -inf])),
    ],
)
def copysign(xp: Any, self: Array, other: Array | Number) -> Array:
    """The magnitude of `input` with the sign of `other`; the derivative at 0 is 0."""
    return xp.copysign(self, other)


_no_derivative = not_implemented("heaviside", "torch.where(input > 0, 1.0, 0.0)")


@op(
    self=_no_derivative,
    values=_no_derivative,
    node="NotImplemented",
    inplace=True,
    samples=[
        sample(real(3, 2), real(2)),
        sample(integers(5, low=-2), integers(5)),
        sample(edge([0.0, -0.0, nan, inf]), edge([0.3, 0.4, 0.5, 0.6])),
    ],
)
def heaviside(xp: Any, self: Array, values: Array) -> Array:
    """0 where `input` is negative or NaN, `values` where it is 0, 1 where it is positive."""
    return xp.where(self == 0, values, xp.astype(self > 0, self.dtype))


fix = alias("fix", "trunc")
sgn = alias("sgn", "sign")
