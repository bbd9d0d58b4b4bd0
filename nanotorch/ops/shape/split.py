"""Several views of one tensor: pieces along a dimension."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.dims import whole, wrap_dim
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import real, sample
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.ops.shape.views import narrow


@op(
    self=lambda xp, grads, dim: xp.stack(grads, axis=dim),
    view=True,
    outputs="list",
    samples=[sample(real(3, 2)), sample(real(3, 2), 1)],
)
def unbind(xp: Any, self: Array, dim: int = 0) -> Array:
    """The slices along `dim`, as views without that dimension."""
    if not self.ndim:
        raise IndexError("unbind: Dimension specified as 0 but tensor has no dimensions")
    moved = xp.moveaxis(self, dim, 0)
    return [moved[k, ...] for k in range(moved.shape[0])]


def _length(name: str, shape: Sequence[int], dim: int) -> int:
    if not shape:
        raise RuntimeError(f"{name}: expects at least a 1-dimensional tensor")
    return shape[wrap_dim(name, dim, len(shape))]


@op(
    self=lambda xp, grads, dim: xp.concatenate(grads, axis=dim),
    view=True,
    outputs="list",
    samples=[sample(real(5, 2), [1, 4]), sample(real(5, 2), [0, 2], 1), sample(real(0, 2), [0, 0])],
)
def split_with_sizes(xp: Any, self: Array, split_sizes: Sequence[int], dim: int = 0) -> Array:
    """Pieces of the given sizes along `dim`, as views."""
    length = _length("split_with_sizes", self.shape, dim)
    if sum(split_sizes) != length or any(size < 0 for size in split_sizes):
        raise RuntimeError(
            f"split_with_sizes: expects split_sizes to sum exactly to {length} (input tensor's size at dimension {dim})"
            f" and to be non-negative, but got split_sizes={list(split_sizes)}"
        )
    return xp.pieces(self, split_sizes, dim)


@TENSOR.define("pieces")
def _pieces(x: Tensor, sizes: Sequence[int], axis: int) -> Any:
    return split_with_sizes(x, tuple(sizes), axis)


@op(
    self=lambda xp, grads, dim: xp.concatenate(grads, axis=dim),
    view=True,
    outputs="list",
    where="internal",
    node="SplitBackward0",
)
def _split(xp: Any, self: Array, split_size: int, dim: int) -> Array:
    """Pieces of one size along `dim`, the last may be smaller, as views."""
    length = self.shape[dim]
    return xp.pieces(self, [min(split_size, length - start) for start in range(0, length, split_size)] or [0], dim)


@composite(samples=[sample(real(5, 2), 2), sample(real(5, 2), [1, 4]), sample(real(2, 4), 2, dim=1)])
def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces of one size (the last may be smaller), or of the given sizes, along `dim`."""
    length = _length("split", tensor.shape, dim)
    size = split_size_or_sections
    if not isinstance(size, int):
        if getattr(size, "ndim", True):
            return split_with_sizes(tensor, tuple(size), dim)
        size = whole("split", "split_size", size)
    if size < 0 or (size == 0 and length):
        raise RuntimeError(f"split: expects split_size be positive, but got split_size={size}")
    return _split(tensor, size or 1, dim)


@composite(samples=[sample(real(5, 2), 2), sample(real(2, 7), 3, 1)])
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size along `dim` (the last may be smaller)."""
    chunks = whole("chunk", "chunks", chunks)
    if chunks <= 0:
        raise RuntimeError(f"chunk: expects `chunks` to be greater than 0, got: {chunks}")
    length = _length("chunk", input.shape, dim)
    return split(input, -(-length // chunks) if length else [0] * chunks, dim)


@composite(
    samples=[
        sample(real(7, 2), 3),
        sample(real(2, 7), [1, 4], 1),
        sample(real(5), (3, 1, -1, 9)),
        sample(real(2, 3), 5),
        sample(real(0, 2), 2),
    ]
)
def tensor_split(input: Tensor, indices_or_sections: int | Sequence[int] | Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of `n` pieces of nearly equal size (the first are larger),
    or of those between the given indices, along `dim`.

    Unlike those of `split`, the pieces are separate views, which can be written to.
    """
    length = _length("tensor_split", input.shape, dim)
    given = indices_or_sections
    if isinstance(given, Tensor):
        if given.ndim > 1:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional tensor,"
                f" but got a tensor with {given.ndim} dims"
            )
        given = given.tolist()
    if isinstance(given, int):
        if given <= 0:
            raise RuntimeError(f"tensor_split: number of sections must be larger than 0, got {given}")
        small, larger = divmod(length, given)
        sizes = [small + 1] * larger + [small] * (given - larger)
        starts = [0, *itertools.accumulate(sizes)]
        return tuple([narrow(input, dim, start, size) for start, size in zip(starts, sizes, strict=False)])
    bounds = [slice(index).indices(length)[1] for index in given]
    return tuple(
        [
            narrow(input, dim, start, max(0, stop - start))
            for start, stop in zip([0, *bounds], [*bounds, length], strict=True)
        ]
    )


def _split_along(name: str, input: Any, given: Any, dim: int, least: int) -> Any:
    shape = input.shape
    if len(shape) < least:
        raise RuntimeError(
            f"torch.{name} requires a tensor with at least {least} dimension{'s' * (least > 1)}, but got a tensor with"
            f" {len(shape)} dimensions!"
        )
    if isinstance(given, int) and (given <= 0 or shape[dim] % given):
        raise RuntimeError(
            f"torch.{name} attempted to split along dimension {dim}, but the size of the dimension {shape[dim]} is not"
            f" divisible by the split_size {given}!"
        )
    return tensor_split(input, given, dim)


@composite(samples=[sample(real(4), 2), sample(real(2, 4), 2), sample(real(2, 5, 2), [1, 3])])
def hsplit(input: Tensor, indices_or_sections: int | Sequence[int] | Tensor) -> tuple[Tensor, ...]:
    """`tensor_split` along the columns: dimension 1, or 0 of a vector."""
    return _split_along("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1, 1)


@composite(samples=[sample(real(4, 2), 2), sample(real(5, 2), [1, 3])])
def vsplit(input: Tensor, indices_or_sections: int | Sequence[int] | Tensor) -> tuple[Tensor, ...]:
    """`tensor_split` along the rows, dimension 0."""
    return _split_along("vsplit", input, indices_or_sections, 0, 2)


@composite(samples=[sample(real(2, 1, 4), 2), sample(real(2, 1, 5), [1, 3])])
def dsplit(input: Tensor, indices_or_sections: int | Sequence[int] | Tensor) -> tuple[Tensor, ...]:
    """`tensor_split` along the depth, dimension 2."""
    return _split_along("dsplit", input, indices_or_sections, 2, 3)
