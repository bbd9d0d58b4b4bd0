"""Elementwise rows: limits, the larger, the smaller, choice by a condition."""

from __future__ import annotations

from typing import Any

from nanotorch.ops.row import Array, Mask, Number, attach, composite, op
from nanotorch.ops.sample import booleans, integers, real, sample


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
