"""Indices: of triangles of a matrix, of combinations, of places in a shape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.dtypes import DType
from nanotorch.ops.create.creation import placed
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.sample import integers, real, sample


def _triangle(name: str, row: int, col: int, dtype: DType, device: Any, keep: Callable[[Any, Any], Any]) -> Tensor:
    for what, length in (("row", row), ("col", col)):
        if not isinstance(length, int | np.integer) or isinstance(length, bool):
            raise TypeError(f"{name}(): argument '{what}' must be int, not {type(length).__name__}")
        if length < 0:
            raise RuntimeError(f"{name}: {what} must be non-negative, got {length}")
    kind = dtypes.need_dtype(name, dtype)
    if kind not in (dtypes.int32, dtypes.int64):
        raise NotImplementedError(f"{name}: not implemented for {kind}; indices are int64 or int32")
    return placed(np.stack(np.nonzero(keep(*np.ogrid[:row, :col]))).astype(kind.numpy), device)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: DType = dtypes.int64, device: Any = None) -> Tensor:
    """Return the row and column indices, a (2, n) tensor,
    of the lower triangle of a `row` x `col` matrix, row by row.

    Args:
        row: number of rows.
        col: number of columns.
        offset: the diagonal up to which elements count: 0 is the main one, positive ones lie above.
        dtype: int64 or int32.
        device: where the tensor shall live.

    >>> torch.tril_indices(2, 3)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return _triangle("tril_indices", row, col, dtype, device, lambda i, j: j - i <= offset)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: DType = dtypes.int64, device: Any = None) -> Tensor:
    """Return the row and column indices, a (2, n) tensor,
    of the upper triangle of a `row` x `col` matrix, row by row.

    The arguments are those of `tril_indices`; `offset` is the diagonal from which on elements count.
    """
    return _triangle("triu_indices", row, col, dtype, device, lambda i, j: j - i >= offset)


@composite(
    samples=[
        sample(integers(4, high=9)),
        sample(real(3), 3),
        sample(real(2), r=2, with_replacement=True),
        sample(real(3), 0),
        sample(real(1), 2),
    ],
    where="function",
)
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of `r` elements of a vector, one row each, in the order of their places."""
    if input.ndim != 1:
        raise RuntimeError(f"combinations: Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"combinations: Expect a non-negative number, but got {r}")
    if r == 0:
        return input.new_empty(0)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return input[placed(chosen, input.device)]


@composite(samples=[sample(integers(4, high=12), (3, 4)), sample(integers(2, 2, high=6), (6,))], where="function")
def unravel_index(indices: Tensor, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """The coordinates, one tensor for each dimension, of places in a flattened tensor of a shape."""
    if indices.dtype.kind not in "iu":
        raise ValueError(f"unravel_index: expected 'indices' to be integer dtype, but got {indices.dtype}")
    indices = indices.long()
    sizes = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    if any(n < 0 for n in sizes):
        raise ValueError(f"unravel_index: 'shape' cannot have negative values, but got {sizes}")
    if 0 in sizes and indices.numel():
        raise RuntimeError(f"unravel_index: a tensor of shape {sizes} has no elements to name")
    found = []
    for axis, length in enumerate(sizes):
        found.append(indices.div(math.prod(sizes[axis + 1 :]) or 1, rounding_mode="floor") % max(length, 1))
    return tuple(found)
