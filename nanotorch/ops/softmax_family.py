"""Softmax and its relatives, as rows with their own formulas."""

from __future__ import annotations

from typing import Any

from nanotorch.ops.row import Array, op
from nanotorch.ops.sample import real, sample


@op(
    self=lambda xp, grad, dim, result: result * (grad - xp.sum(grad * result, axis=dim, keepdims=True)),
    cast="float", samples=[sample(real(3, 4), 1), sample(real(3, 4), dim=0), sample(real(2, 3, 2), -2)],
)  # fmt: skip
def softmax(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """``exp(input) / sum(exp(input))`` along ``dim``, without overflow."""
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    e = xp.exp(self - xp.amax(self, axis=dim, keepdims=True))
    return e / xp.sum(e, axis=dim, keepdims=True)


def log_softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """Return the logarithm of the softmax along an axis."""
    shifted = x - xp.amax(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@op(
    self=lambda xp, grad, dim, result: grad - xp.exp(result) * xp.sum(grad, axis=dim, keepdims=True),
    cast="float", samples=[sample(real(3, 4), 1), sample(real(3, 4), dim=0), sample(real(2, 3, 2), -2)],
)  # fmt: skip
def log_softmax(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """The logarithm of `softmax` along ``dim``."""
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    return log_softmax_of(xp, self, dim)
