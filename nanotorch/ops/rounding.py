"""Elementwise rows: rounding and signs."""

from __future__ import annotations

from typing import Any

from nanotorch.ops.row import Array, op
from nanotorch.ops.sample import real, sample, unary


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
