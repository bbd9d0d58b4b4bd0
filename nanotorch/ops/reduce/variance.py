"""Variance and standard deviation, alone or together with the mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.reduce.reductions import NAN, Dim, axes, count, keep_reduced, mean
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import edge, real, sample

spread = [
    sample(real(3, 2)),
    sample(real(3, 2), 0),
    sample(real(3, 4), dim=-1, keepdim=True),
    sample(real(4), correction=0),
    sample(real(2, 3, 2), (0, 2)),
    sample(real(4), unbiased=False),
    sample(real(3, 4), (0, -1), True, True),
    sample(real(3, 4), 1, False),
    sample(real(3, 4), False),
    sample(real(3, 4), dim=1, correction=0.5),
    sample(edge([[1.5, 1.5], [1.0, 2.0]]), 1),
    sample(edge([[1.0, float("inf")], [float("nan"), 0.0]]), 1),
]


def options(dim: Any, unbiased: Any, correction: float | None) -> tuple[Any, float]:
    """Return the dimensions and the correction: `unbiased` may stand in the place of `dim`, as in PyTorch."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is not None and unbiased is not None:
        raise TypeError("give either correction or unbiased: unbiased=True means correction=1, False means 0")
    return dim, correction if correction is not None else 0 if unbiased is False else 1


def _var(xp: Any, x: Any, dim: Any, unbiased: Any, correction: float | None, keepdim: bool) -> Any:
    """Return the variance in float64, as PyTorch keeps it: squares of large and of small float32 numbers are none."""
    if x.dtype.kind != "f":
        raise RuntimeError(f"std and var only support floating point dtypes, got {x.dtype}; convert with .float()")
    dim, correction = options(dim, unbiased, correction)
    axis, n = axes(dim, x.ndim), count(x.shape, dim)
    x = x if x.dtype.itemsize == 8 else xp.astype(x, np.float64)
    centred = x - xp.sum(x, axis=axis, keepdims=True) / (n or NAN)
    total = xp.sum(centred * centred, axis=axis, keepdims=keepdim)
    free = n - correction
    return total / free if free > 0 else total / xp.zeros_like(total)


def _var_self(xp: Any, grad: Any, self: Any, dim: Any, unbiased: Any, correction: float | None, keepdim: bool) -> Any:
    dim, correction = options(dim, unbiased, correction)
    n = count(self.shape, dim)
    centred = self - xp.sum(self, axis=axes(dim, self.ndim), keepdims=True) / (n or NAN)
    free = n - correction
    return keep_reduced(xp, grad, dim, keepdim, self.ndim) * (centred * (2.0 / free if free else float("inf")))


@op(self=_var_self, samples=spread)
def var(
    xp: Any,
    self: Array,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Array:
    """Variance of all elements or over `dim`, dividing by `n - correction` (1 by default: Bessel's correction).

    >>> torch.tensor([1.0, 2.0, 3.0, 4.0]).var(correction=0)
    tensor(1.2500)
    """
    return xp.astype(_var(xp, self, dim, unbiased, correction, keepdim), self.dtype)


def _std_self(
    xp: Any, grad: Any, self: Any, dim: Any, unbiased: Any, correction: float | None, keepdim: bool, result: Any
) -> Any:
    """Return the root has no derivative at 0; PyTorch takes 0 there."""
    slope = xp.where(result == 0, 0.0, 0.5 / xp.where(result == 0, 1.0, result))
    return _var_self(xp, grad * slope, self, dim, unbiased, correction, keepdim)


@op(self=_std_self, samples=spread)
def std(
    xp: Any,
    self: Array,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Array:
    """Standard deviation of all elements or over `dim`: the square root of `var`; its derivative at 0 is 0."""
    return xp.astype(xp.sqrt(_var(xp, self, dim, unbiased, correction, keepdim)), self.dtype)


@composite(widens=True, samples=spread, where="function")
def var_mean(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The pair of variance and mean."""
    return var(input, dim, unbiased, keepdim, correction=correction), mean(
        input, options(dim, unbiased, correction)[0], keepdim
    )


@composite(widens=True, samples=spread, where="function")
def std_mean(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The pair of standard deviation and mean."""
    return std(input, dim, unbiased, keepdim, correction=correction), mean(
        input, options(dim, unbiased, correction)[0], keepdim
    )
