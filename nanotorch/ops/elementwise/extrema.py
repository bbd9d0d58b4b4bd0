"""Elementwise rows: limits, the larger, the smaller, choice by a condition."""

from __future__ import annotations

from math import inf, nan
from typing import Any, overload

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.create.creation import full
from nanotorch.ops.rows.inplace import write_out
from nanotorch.ops.rows.row import Array, Fitting, Mask, Number, alias, attach, composite, op
from nanotorch.ops.rows.sample import booleans, edge, integers, real, sample, unary
from nanotorch.ops.rows.tensors import TENSOR


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
    self=_clamp_self,
    min=_clamp_min,
    max=_clamp_max,
    cast="promote",
    inplace=True,
    samples=[
        sample(real(3, 2), -0.5, 0.7),
        sample(real(3), min=0.1),
        sample(real(3), max=0.1),
        sample(integers(4), 1, 2),
        sample(real(3, 2), real(2, low=-1.5, high=-0.5), real(2, low=0.5, high=1.5)),
        sample(edge([-1.0, 0.0, 1.0, 2.0, nan, inf, -inf]), 0.0, 1.0),
        sample(edge([-1.0, 0.0, 1.0, 2.0, nan]), 1.0, 0.0),
        sample(
            edge([-1.0, 0.0, 1.0, 2.0, nan, 0.5]),
            edge([0.0, 0.0, 1.0, 3.0, 0.0, nan]),
            edge([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ),
        sample(real(3), min=real(3)),
        sample(real(3), max=real(3)),
        sample(edge([1.0, nan, 2.0]), min=edge([1.0, 1.0, nan])),
    ],
)
def clamp(xp: Any, self: Array, min: Array | Fitting | None = None, max: Array | Fitting | None = None) -> Array:
    """Limit values to [min, max]; the gradient passes where the value is inside, bounds included."""
    if min is None and max is None:
        raise RuntimeError("clamp: At least one of 'min' or 'max' must not be None")
    if min is not None:
        self = xp.maximum(self, min)
    return self if max is None else xp.minimum(self, max)


clip = alias("clip", "clamp")

limits = [
    sample(real(3, 2), 0.3),
    sample(real(3, 2), real(2)),
    sample(real(3), real(3, 1)),
    sample(integers(4), 1),
    sample(edge([1.0, 2.0, nan, 0.0, inf, -inf, 1.0]), edge([1.0, 1.0, 1.0, -0.0, inf, 1.0, nan])),
    sample(edge([1.0, 2.0, nan, 0.0, inf, -inf]), 1.0),
]


@op(
    self=lambda xp, grad, self, min: xp.where(self >= min, grad, 0.0),
    min=lambda xp, grad, self, min: xp.where(self < min, grad, 0.0),
    cast="promote",
    inplace=True,
    samples=limits,
)
def clamp_min(xp: Any, self: Array, min: Array | Fitting) -> Array:
    """`input` where it is at least `min`, `min` elsewhere; a tie is the input's."""
    return xp.maximum(self, min)


@op(
    self=lambda xp, grad, self, max: xp.where(self <= max, grad, 0.0),
    max=lambda xp, grad, self, max: xp.where(self > max, grad, 0.0),
    cast="promote",
    inplace=True,
    samples=limits,
)
def clamp_max(xp: Any, self: Array, max: Array | Fitting) -> Array:
    """`input` where it is at most `max`, `max` elsewhere; a tie is the input's."""
    return xp.minimum(self, max)


two = [
    sample(real(3, 2), real(2)),
    sample(real(), real(3)),
    sample(integers(3), integers(3)),
    sample(edge([1.0, 1.0, nan, 2.0, nan, inf, -inf, 0.0]), edge([1.0, 2.0, 1.0, nan, nan, inf, inf, -0.0])),
]


@op(
    self=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self < other, 0.0, grad)),
    other=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self > other, 0.0, grad)),
    cast="promote",
    samples=two,
)
def maximum(xp: Any, self: Array, other: Array) -> Array:
    """The larger of two elements, or NaN; where they are equal each gets half of the gradient."""
    return xp.maximum(self, other)


@TENSOR.define("maximum")
def _larger(x: Tensor, y: Any) -> Tensor:
    return maximum(x, y) if isinstance(y, Tensor) else clamp(x, min=y)


@op(
    self=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self > other, 0.0, grad)),
    other=lambda xp, grad, self, other: xp.where(self == other, grad / 2, xp.where(self < other, 0.0, grad)),
    cast="promote",
    samples=two,
)
def minimum(xp: Any, self: Array, other: Array) -> Array:
    """The smaller of two elements, or NaN; where they are equal each gets half of the gradient."""
    return xp.minimum(self, other)


@TENSOR.define("minimum")
def _smaller(x: Tensor, y: Any) -> Tensor:
    return minimum(x, y) if isinstance(y, Tensor) else clamp(x, max=y)


@op(
    self=lambda xp, grad, self, other: xp.where((self >= other) | (other != other), grad, 0.0),
    other=lambda xp, grad, self, other: xp.where((self >= other) | (other != other), 0.0, grad),
    cast="promote",
    samples=two,
)
def fmax(xp: Any, self: Array, other: Array) -> Array:
    """The larger of two elements, the other one where one is NaN; a tie is the first one's."""
    return xp.fmax(self, other)


@op(
    self=lambda xp, grad, self, other: xp.where((self <= other) | (other != other), grad, 0.0),
    other=lambda xp, grad, self, other: xp.where((self <= other) | (other != other), 0.0, grad),
    cast="promote",
    samples=two,
)
def fmin(xp: Any, self: Array, other: Array) -> Array:
    """The smaller of two elements, the other one where one is NaN; a tie is the first one's."""
    return xp.fmin(self, other)


@op(
    self=lambda xp, grad, self: grad * xp.isfinite(self),
    inplace=True,
    widens=False,
    samples=[
        *unary,
        sample(integers(3)),
        sample(edge([nan, inf, -inf, 1.0])),
        sample(edge([nan, inf, -inf, 1.0]), 2.0, 3.0, -3.0),
        sample(edge([nan, inf, -inf, 1.0]), nan=1.0, neginf=-5.0),
    ],
)
def nan_to_num(
    xp: Any, self: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Array:
    """Replace NaN by `nan` (0) and infinities by `posinf` and `neginf` (the largest and smallest finite numbers).

    >>> torch.nan_to_num(torch.tensor([float("nan"), 1.0]))
    tensor([0., 1.])
    """
    if self.dtype.kind != "f":
        return xp.array(self)
    largest = float(np.finfo(self.dtype).max)
    finite = xp.where(xp.isnan(self), 0.0 if nan is None else nan, self)
    finite = xp.where(self == inf, largest if posinf is None else posinf, finite)
    return xp.where(self == -inf, -largest if neginf is None else neginf, finite)


choices = [
    sample(booleans(3, 2), real(3, 2), real(2)),
    sample(booleans(3), real(3), 0.5),
    sample(booleans(3), 0.5, real(3)),
    sample(booleans(4), edge([1.0, nan, inf, 0.0]), edge([nan, 2.0, nan, inf])),
]


@op(
    self=lambda xp, grad, condition: xp.where(condition, grad, 0.0),
    other=lambda xp, grad, condition: xp.where(condition, 0.0, grad),
    cast="promote",
    where="internal",
    samples=choices,
)
def _where(xp: Any, condition: Mask, self: Array | Number, other: Array | Number) -> Array:
    """Elements of `input` where the condition holds, of `other` elsewhere."""
    return xp.where(condition, self, other)


@TENSOR.define("where")
def _either(condition: Any, x: Any, y: Any) -> Tensor:
    if not isinstance(condition, Tensor):
        reference = x if isinstance(x, Tensor) else y
        condition = from_array(reference.device.xp.asarray(condition), reference.device)
    return _where(condition, x, y)


@TENSOR.define("zero_where")
def _zero_where(x: Tensor, mask: Tensor) -> Tensor:
    return _where(mask, 0.0, x)


@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(condition: Tensor, input: Tensor | float, other: Tensor | float, *, out: Tensor | None = None) -> Tensor: ...
@composite(
    where="function",
    samples=[*choices, sample(booleans(3), 1.0, 0.0), sample(booleans(3), 1, 0), sample(booleans(3, 2))],
)
def where(condition: Any, input: Any = None, other: Any = None, *, out: Any = None) -> Any:
    """Elements of `input` where the condition holds, of `other` elsewhere;
    the indices where it holds, without these.

    NaN and infinities of the branch that is not taken reach neither the result nor the gradients.

    >>> torch.where(torch.tensor([True, False]), torch.tensor([1.0, 2.0]), 0.0)
    tensor([1., 0.])
    """
    if out is not None:
        return write_out("where", where, out, {"condition": condition, "input": input, "other": other})
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if isinstance(input, int | float) and isinstance(other, int | float):
        input = full((), input, device=condition.device)
    return _where(condition, _held(input, other), _held(other, input))


def _held(value: Any, other: Any) -> Any:
    """Return a number as one that the result's dtype holds; float16 rounds any to infinity."""
    if type(value) not in (int, float) or 0 <= value < 128 or not isinstance(other, Tensor):
        return value
    dtype = dtypes.result_dtype([value, other])
    return dtypes.wrapped("where", value, dtypes.float64 if dtype is dtypes.float16 else dtype)


def where_method(input: Tensor, condition: Tensor, other: Tensor | float) -> Tensor:
    """Elements of the tensor where the condition holds, of `other` elsewhere."""
    return _where(condition, _held(input, other), _held(other, input))


attach("where", where_method, "method", ())
