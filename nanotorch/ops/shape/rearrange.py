"""Copies with the elements in other places: repeated, reversed, rolled, rotated, cut to triangles, put on diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.rows.dims import need_tuple, sizes_of, whole, wrap_dim, wrap_dims
from nanotorch.ops.rows.row import Array, Dims, NewDim, composite, op
from nanotorch.ops.rows.sample import integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.ops.shape.views import clone, reshape, transpose, unsqueeze


@op(
    self=lambda xp, grad, repeats, self_shape: _unrepeat(xp, grad, repeats, self_shape),
    where="method",
    samples=[sample(real(3), (2,)), sample(real(3, 2), (2, 1, 3)), sample(real(), (2,))],
)
def repeat(xp: Any, self: Array, repeats: Dims) -> Array:
    """Copies of the tensor side by side, `repeats[d]` times along each dimension."""
    if len(repeats) < self.ndim:
        raise ShapeError(
            f"repeat: number of repeats {len(repeats)} can not be smaller than number of dimensions of tensor"
            f" {self.ndim}"
        )
    return xp.tile(self, repeats)


def _unrepeat(xp: Any, grad: Any, repeats: Sequence[int], shape: tuple[int, ...]) -> Any:
    padded = (1,) * (len(repeats) - len(shape)) + tuple(shape)
    pairs = [n for pair in zip(repeats, padded, strict=True) for n in pair]
    return xp.reshape(xp.sum(xp.reshape(grad, pairs), axis=tuple(range(0, len(pairs), 2))), shape)


@composite(
    samples=[
        sample(real(2), (3,)),
        sample(real(2, 3), (2,)),
        sample(real(2), (2, 2)),
        sample(real(), (2,)),
        sample(real(2, 3), (0, 1)),
        sample(real(2, 3), ()),
    ]
)
def tile(input: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """Copies of the tensor side by side: `repeat` with as many dimensions of 1 in front as are missing."""
    repeats = sizes_of("tile", dims, "dims")
    return repeat(input, (1,) * (input.ndim - len(repeats)) + repeats)


@composite(
    samples=[
        sample(real(3), 2),
        sample(real(2, 3), 2, 1),
        sample(real(2, 3), 2),
        sample(real(3, 2), integers(3), 0),
        sample(real(2, 3), integers(3), dim=-1),
        sample(real(2, 3), integers(1), dim=0),
        sample(real(6), integers(6)),
        sample(real(0, 2), 3, 0),
        sample(real(2), 0),
        sample(integers(4)),
    ]
)
def repeat_interleave(
    input: Tensor, repeats: Tensor | int | None = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Every slice along `dim` (of the flattened tensor without it) repeated `repeats` times,
    a number or one for each.

    With a single argument, the tensor tells how often each index is to be repeated.

    >>> torch.tensor([7, 8]).repeat_interleave(torch.tensor([1, 3]))
    tensor([7, 8, 8, 8])
    """
    if repeats is None:
        input, repeats = from_array(input.device.xp.arange(input.numel()), input.device), input
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    shape = input.shape
    dim = wrap_dim("repeat_interleave", dim, len(shape))
    if not isinstance(repeats, Tensor):
        repeats = whole("repeat_interleave", "repeats", repeats)
        if repeats < 0:
            raise RuntimeError(f"repeat_interleave: repeats can not be negative, got {repeats}")
        repeated = (shape[dim] if shape else 1) * repeats
        if output_size not in (None, repeated):
            raise RuntimeError(
                f"repeat_interleave: output_size {output_size} is not the sum of the repeats, {repeated}"
            )
        wide = unsqueeze(input, dim + 1).expand((*shape[: dim + 1], repeats, *shape[dim + 1 :]))
        return reshape(wide.clone(), (*shape[:dim], repeated, *shape[dim + 1 :]))
    if repeats.dtype.kind not in "iu":
        raise RuntimeError(f"repeat_interleave: repeats has to be Long or Int tensor, not {repeats.dtype}")
    counts = repeats.device.xp.to_numpy(repeats._array)
    if counts.ndim > 1 or counts.size not in (1, shape[dim]):
        raise RuntimeError(
            "repeat_interleave: repeats must have the same size as input along dim, but got repeats of shape"
            f" {tuple(counts.shape)} and input of shape {tuple(shape)}, dim {dim}"
        )
    if counts.size and int(counts.min()) < 0:
        raise RuntimeError("repeat_interleave: repeats can not be negative")
    chosen = np.repeat(np.arange(shape[dim]), np.broadcast_to(counts.reshape(-1), (shape[dim],)))
    if output_size is not None and output_size != len(chosen):
        raise RuntimeError(f"repeat_interleave: output_size {output_size} is not the sum of the repeats, {len(chosen)}")
    return input.index_select(dim, from_array(input.device.xp.receive(chosen, input.device), input.device))


@composite(
    samples=[
        sample(real(2, 3)),
        sample(real(2, 3), 2),
        sample(real(2, 3), -1),
        sample(real(2, 3, 2), 5, (2, 0)),
        sample(real(2, 3), 0),
        sample(real(0, 2)),
    ]
)
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """A copy rotated `k` times by 90 degrees, from the first of `dims` towards the second."""
    ndim = input.ndim
    need_tuple("rot90", "dims", dims)
    if len(dims) != 2 or ndim < 2:
        raise RuntimeError(
            f"rot90: expected total rotation dims == 2 and total dims >= 2, but got dims = {list(dims)} and total dims"
            f" = {ndim}"
        )
    first, second = (wrap_dim("rot90", d, ndim) for d in dims)
    if first == second:
        raise RuntimeError(
            f"rot90: expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}"
        )
    k = whole("rot90", "k", k) % 4
    if k == 0:
        return clone(input)
    if k == 2:
        return flip(input, (first, second))
    return transpose(flip(input, (second if k == 1 else first,)), first, second)


@composite(samples=[sample(real(2, 3)), sample(real(2, 3, 2))])
def fliplr(input: Tensor) -> Tensor:
    """A copy with the columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError("fliplr: Input must be >= 2-d.")
    return flip(input, (1,))


@composite(samples=[sample(real(2, 3)), sample(real(3))])
def flipud(input: Tensor) -> Tensor:
    """A copy with the rows in reverse order."""
    if not input.ndim:
        raise RuntimeError("flipud: Input must be >= 1-d.")
    return flip(input, (0,))


@TENSOR.define("flip")
@op(
    self=lambda xp, grad, dims: xp.flip(grad, dims) if grad.ndim else grad,
    samples=[sample(real(3, 2), (0,)), sample(real(3, 2), (0, -1))],
)
def flip(xp: Any, self: Array, dims: Dims) -> Array:
    """A copy with the order reversed along `dims`."""
    dims = wrap_dims("flip", dims, self.ndim, "dims")
    return xp.array(xp.flip(self, dims) if self.ndim else self)


@composite(where="internal", operators="__reversed__", samples=[sample(real(3, 2)), sample(real())])
def _reversed(input: Tensor) -> Tensor:
    """What Python's `reversed` gives: a copy with the first dimension in reverse order; itself without dimensions."""
    return flip(input, (0,)) if input.ndim else input


def _negated(shifts: Any) -> Any:
    return tuple(-s for s in shifts) if isinstance(shifts, tuple | list) else -shifts


def _rolled(xp: Any, x: Any, shifts: Any, dims: Any) -> Any:
    """Roll along every one of `dims`, the same one twice if it is there twice; the flattened array without any."""
    steps = [whole("roll", "shifts", s) for s in (shifts if isinstance(shifts, tuple | list) else [shifts])]
    if not steps:
        raise RuntimeError("roll: `shifts` required: how far shall the elements go?")
    places = [
        wrap_dim("roll", d, x.ndim, "dims")
        for d in ([] if dims is None else dims if isinstance(dims, tuple | list) else [dims])
    ]
    if len(steps) != (len(places) or 1):
        raise RuntimeError(f"roll: shifts and dimensions must align. shifts: {len(steps)}, dims: {len(places)}")
    if places and not x.ndim:
        raise IndexError(f"roll: Dimension specified as {dims} but tensor has no dimensions")
    return xp.roll(x, tuple(steps), tuple(places)) if places else xp.roll(x, steps[0])


@TENSOR.define("roll")
@op(
    self=lambda xp, grad, shifts, dims: _rolled(xp, grad, _negated(shifts), dims),
    samples=[sample(real(3, 2), 1), sample(real(3, 2), 1, 0), sample(real(3, 2), (1, -1), (0, 1))],
)
def roll(xp: Any, self: Array, shifts: int | tuple[int, ...], dims: int | tuple[int, ...] | None = None) -> Array:
    """A copy with elements shifted along `dims`; those pushed out re-enter on the other side."""
    return _rolled(xp, self, shifts, dims)


def need_matrix(name: str, self: Any) -> None:
    """Raise for tensors without rows and columns."""
    if self.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions, got shape {tuple(self.shape)}")


@TENSOR.define("tril")
@op(
    self=lambda xp, grad, diagonal: xp.tril(grad, diagonal),
    inplace=True,
    samples=[sample(real(3, 3)), sample(real(3, 4), 1), sample(real(2, 3, 3), -1)],
)
def tril(xp: Any, self: Array, diagonal: int = 0) -> Array:
    """The lower triangle; the rest is zero."""
    need_matrix("tril", self)
    return xp.tril(self, diagonal)


@TENSOR.define("triu")
@op(
    self=lambda xp, grad, diagonal: xp.triu(grad, diagonal),
    inplace=True,
    samples=[sample(real(3, 3)), sample(real(3, 4), 1), sample(real(2, 3, 3), -1)],
)
def triu(xp: Any, self: Array, diagonal: int = 0) -> Array:
    """The upper triangle; the rest is zero."""
    need_matrix("triu", self)
    return xp.triu(self, diagonal)


@op(
    self=lambda xp, grad, offset, dim1, dim2: xp.diagonal(grad, offset, dim1, dim2),
    samples=[
        sample(real(3)),
        sample(real(3), 1),
        sample(real(2, 3), -1),
        sample(real(2, 3), 1, 0, 2),
        sample(real(2, 3, 2), 0, -1, 1),
        sample(real(2, 0)),
    ],
)
def diag_embed(xp: Any, self: Array, offset: int = 0, dim1: NewDim = -2, dim2: NewDim = -1) -> Array:
    """Zeros with the last dimension of the input on a diagonal of the dimensions `dim1` and `dim2`."""
    if not self.ndim:
        raise IndexError(
            "diag_embed: Dimension out of range: the input needs at least one dimension, which goes to the diagonal"
        )
    ndim = self.ndim + 1
    first, second = wrap_dim("diag_embed", dim1, ndim), wrap_dim("diag_embed", dim2, ndim)
    if first == second:
        raise RuntimeError(f"diag_embed: diagonal dimensions cannot be identical {dim1}, {dim2}")
    shape = list(self.shape[:-1])
    for dim in sorted((first, second)):
        shape.insert(dim, self.shape[-1] + abs(offset))
    return xp.diagonal_to_zeros(self, tuple(shape), offset, first, second)


@composite(samples=[sample(real(3)), sample(real(3, 3)), sample(real(3), 1), sample(real(3, 4), -1)])
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A matrix with the vector on its diagonal, or a copy of the diagonal of a matrix."""
    if input.ndim not in (1, 2):
        raise ShapeError(f"diag: input must be a vector or a matrix, got shape {tuple(input.shape)}")
    return diag_embed(input, diagonal) if input.ndim == 1 else input.diagonal(diagonal).clone()


@composite(samples=[sample(real(3, 3)), sample(real(2, 3))])
def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix."""
    if input.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, but got a tensor of shape {tuple(input.shape)}")
    return input.diagonal().sum()


@composite(samples=[sample(real(2, 3), 1, 0, 2), sample(real(4), 0, -3, 2)])
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A copy of `length` slices along a dimension, from `start` on."""
    return input.narrow(dim, start, length).clone()


@composite(samples=[sample(real(3)), sample(real(2, 3), 1), sample(real(2, 2), offset=-2), sample(real())])
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all elements on a diagonal, zeros elsewhere."""
    return diag_embed(input.reshape(-1), offset)
