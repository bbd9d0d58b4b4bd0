"""Copies in which one part is replaced: a slice, a range, a diagonal, or what a stride reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.dims import wrap_dim
from nanotorch.ops.rows.row import ROWS, Array, composite, op
from nanotorch.ops.rows.sample import integers, real, sample


def _without(xp: Any, grad: Any, position: Any) -> Any:
    return xp.put(grad, position, xp.zeros_like(grad[position]))


def _placed(xp: Any, self: Any, src: Any, position: Any) -> Any:
    return xp.put(self, position, src)


@op(self=_without, src=lambda grad, position: grad[position], where="internal", node="SelectScatterBackward0")
def _select_scatter(xp: Any, self: Array, src: Array, position: Any) -> Array:
    """A copy with `copy[position] = src`."""
    return _placed(xp, self, src, position)


@op(self=_without, src=lambda grad, position: grad[position], where="internal", node="SliceScatterBackward0")
def _slice_scatter(xp: Any, self: Array, src: Array, position: Any) -> Array:
    """A copy with `copy[position] = src`."""
    return _placed(xp, self, src, position)


def _off_diagonal(xp: Any, grad: Any, src_shape: Any, offset: int, dim1: int, dim2: int) -> Any:
    places = xp.diagonal_to_zeros(xp.ones(tuple(src_shape), dtype=grad.dtype), tuple(grad.shape), offset, dim1, dim2)
    return xp.zero_where(grad, places != 0)


@op(
    self=_off_diagonal,
    src=lambda xp, grad, offset, dim1, dim2: xp.diagonal(grad, offset, dim1, dim2),
    where="internal",
    node="DiagonalScatterBackward0",
)
def _diagonal_scatter(xp: Any, self: Array, src: Array, offset: int, dim1: int, dim2: int) -> Array:
    """A copy with `src` on a diagonal."""
    return xp.put_diagonal(self, src, offset, dim1, dim2)


def _scatter(row: str, input: Tensor, src: Tensor, shape: Sequence[int], *where: Any) -> Tensor:
    """Run a row after the check that the source has the shape of the part."""
    if not isinstance(src, Tensor):
        raise TypeError(f"{row[1:]}(): argument 'src' must be Tensor, not {type(src).__name__}")
    if tuple(src.shape) != tuple(shape):
        raise ShapeError(
            f"{row[1:]}: expected src to have a size equal to the slice of self. src size = {list(src.shape)}, slice"
            f" size = {list(shape)}"
        )
    return ROWS[row].function(input, src.to(input.dtype), *where)


@composite(
    samples=[
        sample(real(2, 3), real(3), 0, 1),
        sample(real(2, 3), real(2), -1, -2),
        sample(real(3), real(), 0, 2),
        sample(integers(2, 3), integers(3), dim=0, index=0),
        sample(real(0, 3), real(0), 1, 1),
    ]
)
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of `input` with `src` in the slice that `input.select(dim, index)` is.

    >>> torch.select_scatter(torch.zeros(2, 2), torch.ones(2), 0, 1)
    tensor([[0., 0.],
            [1., 1.]])
    """
    shape = input.shape
    if not shape:
        raise IndexError("select_scatter: select() cannot be applied to a 0-dim tensor.")
    dim, index = wrap_dim("select_scatter", dim, len(shape)), int(index)
    if not -shape[dim] <= index < shape[dim]:
        raise IndexError(
            f"select_scatter: index {index} out of range for tensor of size {list(shape)} at dimension {dim}"
        )
    return _scatter("_select_scatter", input, src, shape[:dim] + shape[dim + 1 :], (*(slice(None),) * dim, index))


@composite(
    samples=[
        sample(real(2, 3), real(2, 2), 1, 1, 3),
        sample(real(5), real(2), 0, 1, 5, 2),
        sample(real(4, 2), real(2, 2), 0, -3, -1),
        sample(real(2, 3), real(2, 3)),
        sample(real(2, 3), real(0, 3), start=5),
        sample(real(2, 3), real(2, 3), dim=-1, end=9),
        sample(integers(3), integers(1), start=2),
    ]
)
def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy of `input` with `src` in the range `start:end:step` of a dimension.

    >>> torch.slice_scatter(torch.zeros(4), torch.ones(2), start=1, end=3)
    tensor([0., 1., 1., 0.])
    """
    shape = input.shape
    if not shape:
        raise IndexError("slice_scatter: slice() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim("slice_scatter", dim, len(shape))
    if step < 1:
        raise RuntimeError(f"slice_scatter: slice step must be positive, got {step}")
    first, last = (None if bound is None else int(bound) for bound in (start, end))
    part = slice(first, last, int(step))
    length = len(range(*part.indices(shape[dim])))
    return _scatter(
        "_slice_scatter", input, src, (*shape[:dim], length, *shape[dim + 1 :]), (*(slice(None),) * dim, part)
    )


@composite(
    samples=[
        sample(real(3, 3), real(3)),
        sample(real(2, 3), real(2), 1),
        sample(real(2, 4, 3), real(4, 2), -1, 2, 0),
        sample(real(2, 3), real(0), 5),
        sample(integers(3, 2), integers(1), offset=-2, dim1=-2, dim2=-1),
    ]
)
def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of `input` with `src` on the diagonal that `input.diagonal(offset, dim1, dim2)` is.

    >>> torch.diagonal_scatter(torch.zeros(2, 2), torch.ones(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    ndim = input.ndim
    dim1, dim2 = wrap_dim("diagonal_scatter", dim1, ndim), wrap_dim("diagonal_scatter", dim2, ndim)
    if dim1 == dim2:
        raise RuntimeError(f"diagonal_scatter: diagonal dimensions cannot be identical {dim1}, {dim2}")
    shape = input.detach().diagonal(offset, dim1, dim2).shape
    return _scatter("_diagonal_scatter", input, src, shape, offset, dim1, dim2)


@composite(
    samples=[sample(integers(3, 3), integers(2, 2), (2, 2), (1, 2)), sample(integers(6), integers(2), (2,), (3,), 1)]
)
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A copy of `input` with `src` where `input.as_strided(size, stride, storage_offset)` sees its memory."""
    out = input.clone()
    part = out.as_strided(size, stride, storage_offset)
    if src.shape != part.shape:
        raise ShapeError(
            f"as_strided_scatter: expected src of the shape of the part {tuple(part.shape)}, got {tuple(src.shape)}"
        )
    part.copy_(src)
    return out
