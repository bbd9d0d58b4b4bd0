"""Dropout: of elements, of whole channels, and with mean and variance kept. See Note [Counters of dropout]."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.counters import keep_mask
from nanotorch.ops.create.random import Generator
from nanotorch.ops.rows.row import composite


def _active(p: float, training: bool) -> bool:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return training and p != 0.0


@composite(where="functional")
def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero elements with probability `p` and scale the rest by `1 / (1 - p)`; the identity when not training."""
    if not _active(p, training):
        return input
    mask = keep_mask(input, input._array.shape, p, generator)
    return input.mul_(mask) if inplace else input * mask


def _channels(
    name: str, dimensions: int, input: Tensor, p: float, training: bool, inplace: bool, generator: Generator | None
) -> Tensor:
    if input.ndim not in (dimensions + 1, dimensions + 2):
        raise ShapeError(
            f"{name}: expected input of {dimensions + 1} dimensions (C, ...) or {dimensions + 2} (N, C, ...), got"
            f" {tuple(input.shape)}"
        )
    if not _active(p, training):
        return input
    mask = keep_mask(input, (*input.shape[: input.ndim - dimensions], *(1,) * dimensions), p, generator)
    return input.mul_(mask) if inplace else input * mask


@composite(where="functional")
def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero whole channels of (N, C, L) or (C, L) with probability `p`, scaling the rest by `1 / (1 - p)`."""
    return _channels("dropout1d", 1, input, p, training, inplace, generator)


@composite(where="functional")
def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero whole channels of (N, C, H, W) or (C, H, W) with probability `p` (Tompson et al. 2015)."""
    return _channels("dropout2d", 2, input, p, training, inplace, generator)


@composite(where="functional")
def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero whole channels of (N, C, D, H, W) or (C, D, H, W) with probability `p`."""
    return _channels("dropout3d", 3, input, p, training, inplace, generator)


SATURATION = -1.7580993408473766  # what SELU tends to for large negative inputs: minus its scale times its alpha


def _alpha(input: Tensor, shape: Any, p: float, training: bool, inplace: bool, generator: Generator | None) -> Tensor:
    if not _active(p, training):
        return input
    if p == 1.0:
        return input.mul_(0.0) if inplace else input * 0.0
    kept = keep_mask(input, shape, p, generator) * (1.0 - p)
    scale = 1.0 / math.sqrt((1.0 - p) * (1.0 + p * SATURATION**2))
    shift = (1.0 - kept) * (SATURATION * scale) - SATURATION * scale * p
    return input.mul_(kept * scale).add_(shift) if inplace else input * (kept * scale) + shift


@composite(where="functional")
def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Set elements to SELU's lower limit with probability `p`,
    then restore mean and variance (Klambauer et al. 2017).
    """
    return _alpha(input, input.shape, p, training, inplace, generator)


@composite(where="functional")
def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C, ...)."""
    return _alpha(input, (*input.shape[:2], *(1,) * (input.ndim - 2)), p, training, inplace, generator)
