"""Tensors joined into one: along a dimension, along a new one, on a diagonal, as a grid."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import Array, NewDim, composite, op
from nanotorch.ops.rows.sample import real, sample
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.ops.shape.views import atleast_1d, atleast_2d, atleast_3d, expand, reshape


def _cut(xp: Any, grad: Any, shapes: Sequence[tuple[int, ...]], dim: int) -> list[Any]:
    parts, start = [], 0
    lead = (slice(None),) * (dim % grad.ndim)
    for shape in shapes:
        if tuple(shape) == (0,) and grad.ndim > 1:
            parts.append(xp.zeros((0,), dtype=grad.dtype))
            continue
        parts.append(grad[(*lead, slice(start, start + shape[dim]))])
        start += shape[dim]
    return parts


def _joined(xp: Any, tensors: Sequence[Any], dim: int) -> Any:
    """Join arrays; only where that fails are vectors of no elements looked for, and what is wrong."""
    try:
        return xp.concatenate(tensors, axis=dim)
    except ValueError:
        kept = [tensor for tensor in tensors if tensor.shape != (0,)]
        for position, tensor in enumerate(tensors):
            if not tensor.ndim:
                raise ShapeError(
                    f"cat: zero-dimensional tensor (at position {position}) cannot be concatenated; stack joins numbers"
                ) from None
        if len(kept) < len(tensors):
            return _joined(xp, kept, dim)
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ShapeError(f"cat: sizes of tensors must match except in dimension {dim}: got shapes {shapes}") from None


@op(
    tensors=lambda xp, grad, tensors_shape, dim: _cut(xp, grad, tensors_shape, dim),
    cast="promote",
    where="function",
    samples=[
        sample([real(3, 2), real(1, 2)]),
        sample([real(2, 3), real(2, 1)], dim=1),
        sample([real(2, 1), real(2, 2)], -1),
        sample([real(0), real(2, 3)], 1),
        sample([real(2, 3), real(0), real(2, 1)], -1),
    ],
)
def cat(xp: Any, tensors: Sequence[Array], dim: int = 0) -> Array:
    """The tensors joined along an existing dimension; vectors of no elements are left out, as in PyTorch.

    >>> torch.cat([torch.zeros(1, 2), torch.ones(1, 2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    return _joined(xp, tensors, dim)


@TENSOR.define("concatenate")
def _concatenate(parts: Sequence[Tensor], axis: int) -> Tensor:
    return cat(parts, axis)


def _unstack(xp: Any, grad: Any, dim: int) -> list[Any]:
    moved = xp.moveaxis(grad, dim, 0)
    return [moved[k, ...] for k in range(moved.shape[0])]


@op(
    tensors=lambda xp, grad, dim: _unstack(xp, grad, dim),
    cast="promote",
    where="function",
    samples=[sample([real(3, 2), real(3, 2)]), sample([real(3), real(3)], dim=1), sample([real(), real()])],
)
def stack(xp: Any, tensors: Sequence[Array], dim: NewDim = 0) -> Array:
    """The tensors joined along a new dimension."""
    return xp.stack(tensors, axis=dim)


@TENSOR.define("stack")
def _stack(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    return stack(parts, axis)


@composite(where="function", samples=[sample([real(3, 2), real(1, 2)]), sample([real(2, 3), real(2, 1)], dim=1)])
def concat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Another name for `cat`."""
    return cat(tensors, dim)


@composite(where="function", samples=[sample([real(3, 2), real(1, 2)]), sample([real(2, 3), real(2, 1)], dim=1)])
def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """NumPy's name for `cat`."""
    return cat(tensors, dim)


@composite(
    where="function", samples=[sample([real(3), real(2)]), sample([real(3, 2), real(3, 1)]), sample([real(), real()])]
)
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors joined along the columns: dimension 1, or 0 of vectors."""
    parts = [atleast_1d(tensor) for tensor in tensors]
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


@composite(
    where="function", samples=[sample([real(3), real(3)]), sample([real(3, 2), real(1, 2)]), sample([real(), real()])]
)
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors joined along the rows; a vector is one row."""
    return cat([atleast_2d(tensor) for tensor in tensors], 0)


@composite(where="function", samples=[sample([real(3), real(3)]), sample([real(3, 2), real(1, 2)])])
def row_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Another name for `vstack`."""
    return vstack(tensors)


@composite(
    where="function",
    samples=[sample([real(3), real(3)]), sample([real(3, 2), real(3, 2)]), sample([real(2, 1, 1), real(2, 1, 2)])],
)
def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors joined along the depth, dimension 2."""
    return cat([atleast_3d(tensor) for tensor in tensors], 2)


@composite(
    where="function", samples=[sample([real(3), real(3)]), sample([real(3, 2), real(3)]), sample([real(), real()])]
)
def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors as columns side by side; a vector is one column."""
    return hstack([reshape(x, (x.numel(), 1)) if x.ndim < 2 else x for x in tensors])


@composite(
    where="function",
    samples=[
        sample(real(3), real(2), indexing="ij"),
        sample(real(3), real(2), indexing="xy"),
        sample([real(2), real(), real(3)], indexing="xy"),
        sample(real(2), indexing="xy"),
    ],
)
def meshgrid(*tensors: Tensor | Sequence[Tensor], indexing: str | None = None) -> tuple[Tensor, ...]:
    """Coordinate grids from vectors: output `k` repeats vector `k` along all other dimensions, as a view.

    Args:
        tensors: vectors or numbers.
        indexing: "ij", the default, puts vector 0 along dimension 0; "xy" swaps the first two dimensions, as plots
            want.
    """
    vectors: Any = tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    if indexing is None:
        warnings.warn(
            "torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument",
            UserWarning,
            stacklevel=2,
        )
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    if not vectors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if any(v.ndim > 1 for v in vectors):
        raise ShapeError(
            "torch.meshgrid: expected scalar or 1D tensors, but got shapes"
            f" {', '.join(str(tuple(v.shape)) for v in vectors)}"
        )
    swap = indexing == "xy" and len(vectors) > 1
    if swap:
        vectors = (vectors[1], vectors[0], *vectors[2:])
    sizes = tuple([v.numel() for v in vectors])
    grids = [expand(reshape(v, (1,) * k + (-1,) + (1,) * (len(sizes) - 1 - k)), sizes) for k, v in enumerate(vectors)]
    if swap:
        grids = [grids[1], grids[0], *grids[2:]]
    return tuple(grids)


@composite(where="function", samples=[sample(real(2), real(3)), sample(real(2)), sample(real(2), real(1), real(2))])
def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element of each vector, one row each (a single vector stays one)."""
    for tensor in tensors:
        if tensor.ndim != 1:
            raise ShapeError(f"cartesian_prod: Expect a 1D vector, but got shape {tuple(tensor.shape)}")
    if len(tensors) == 1:
        return tensors[0]
    grids = meshgrid(*tensors, indexing="ij")
    return stack([reshape(grid, (-1,)) for grid in grids], 1)


@composite(
    where="function", samples=[sample(real(2, 3), real(1, 2)), sample(real(3), real()), sample(real(2, 0), real(1, 2))]
)
def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the given matrices along its diagonal (vectors count as rows) and zeros elsewhere."""
    blocks = [atleast_2d(tensor) for tensor in tensors]
    width = sum([block.shape[1] for block in blocks])
    rows, start = [], 0
    for block in blocks:
        height, columns = block.shape
        zeros = [block.new_zeros((height, size)) for size in (start, width - start - columns)]
        rows.append(cat([zeros[0], block, zeros[1]], 1))
        start += columns
    return cat(rows, 0)
