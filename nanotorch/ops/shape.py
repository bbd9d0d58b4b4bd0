"""Rows that rearrange elements: views first, then copies, joins and splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.errors import ShapeError
from nanotorch.backend.strided import extent, may_overlap
from nanotorch.ops.row import Array, Dims, composite, op
from nanotorch.ops.runtime import sum_to
from nanotorch.ops.sample import integers, real, sample


def _fill_in(name: str, shape: Sequence[int], total: int, old: Sequence[int]) -> tuple[int, ...]:
    """Replace the -1 of a shape by what is left, checking that the sizes agree."""
    known, unknown = 1, None
    for position, length in enumerate(shape):
        if length == -1 and unknown is None:
            unknown = position
        elif length < 0:
            raise ShapeError(f"{name}: invalid shape dimension {length} in {list(shape)}; only one -1 can be inferred")
        else:
            known *= length
    if unknown is None:
        if known != total:
            raise ShapeError(f"{name}: shape '{list(shape)}' is invalid for input of size {total} (shape {tuple(old)})")
        return tuple(shape)
    if known == 0 or total % known:
        raise ShapeError(f"{name}: shape '{list(shape)}' is invalid for input of size {total} (shape {tuple(old)})")
    return (*shape[:unknown], total // known, *shape[unknown + 1 :])


# ------------------------------------------------------------------------------------------------- views


@op(
    self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape), view=True, where="internal", node="ViewBackward0",
    samples=[sample(real(3, 2), (2, 3)), sample(real(6), (2, -1)), sample(real(), (1, 1)), sample(real(0, 3), (3, 0))],
)  # fmt: skip
def _view(xp: Any, self: Array, shape: tuple[int, ...]) -> Array:
    """The same memory under another shape; -1 stands for what is left."""
    shape = _fill_in("view", shape, self.size, self.shape)
    try:
        return xp.view_as(self, shape)
    except ValueError:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). Use .reshape(...) instead."
        ) from None


def _sizes(name: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    if len(shape) == 1 and not isinstance(shape[0], int):
        shape = tuple(shape[0])
    return tuple([length if type(length) is int else length.__index__() for length in shape])


@composite(where="method", samples=[sample(real(3, 2), 2, 3), sample(real(6), (2, -1))])
def view(input: Any, *shape: Any) -> Any:
    """The same memory under another shape; raises where that needs a copy."""
    if len(shape) == 1 and isinstance(shape[0], dtypes.DType):
        raise TypeError("view: viewing memory as another dtype is not supported; convert with .to(dtype)")
    return _view(input, _sizes("view", shape))


@composite(samples=[sample(real(3, 2), (2, 3)), sample(real(6), (2, -1)), sample(real(), (1, 1)), sample(real(0, 3), (3, 0))])
def reshape(input: Any, *shape: Any) -> Any:
    """The same elements under another shape: a view where the strides allow it, a copy elsewhere.

    >>> torch.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    sizes = _fill_in("reshape", _sizes("reshape", shape), input._array.size, input._array.shape)
    if not input._array.flags.c_contiguous:
        try:
            input.device.xp.view_as(input._array, sizes)
        except ValueError:
            input = _contiguous(input)
    return _view(input, sizes)


@composite(where="method", samples=[sample(real(3, 2), real(2, 3))])
def view_as(input: Any, other: Any) -> Any:
    """`view` with the shape of another tensor."""
    return _view(input, tuple(other.shape))


@composite(where="method", samples=[sample(real(3, 2), real(2, 3))])
def reshape_as(input: Any, other: Any) -> Any:
    """`reshape` with the shape of another tensor."""
    return reshape(input, tuple(other.shape))


@composite(samples=[sample(real(2, 3, 2)), sample(real(2, 3, 2), 1), sample(real(2, 3, 2), 0, 1), sample(real())])
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Join the dimensions from ``start_dim`` to ``end_dim`` into one."""
    shape = input._array.shape
    if not shape:
        return reshape(input, (1,))
    start, end = start_dim % len(shape), end_dim % len(shape)
    if start == end:
        return input
    joined = 1
    for length in shape[start : end + 1]:
        joined *= length
    return reshape(input, (*shape[:start], joined, *shape[end + 1 :]))


@composite(samples=[sample(real(3, 2))])
def ravel(input: Any) -> Any:
    """All elements in one dimension."""
    return reshape(input, (-1,))


@composite(samples=[sample(real(6, 2), 0, (2, 3))])
def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """Split one dimension into several."""
    shape = input._array.shape
    dim = dim % len(shape)
    return reshape(input, (*shape[:dim], *_fill_in("unflatten", tuple(sizes), shape[dim], shape), *shape[dim + 1 :]))


def _swapped(ndim: int, dim0: int, dim1: int) -> list[int]:
    order = list(range(ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return order


@op(
    self=lambda xp, grad, dim0, dim1: xp.swapaxes(grad, dim0, dim1) if grad.ndim else grad,
    view=True, samples=[sample(real(3, 2), 0, 1), sample(real(2, 3, 4), -1, 0)],
)  # fmt: skip
def transpose(xp: Any, self: Array, dim0: int, dim1: int) -> Array:
    """A view with two dimensions swapped."""
    return xp.swapaxes(self, dim0, dim1) if self.ndim else self[...]


@op(self=lambda xp, grad: xp.transpose(grad), view=True, node="TBackward0", samples=[sample(real(3, 2)), sample(real(3)), sample(real())])
def t(xp: Any, self: Array) -> Array:
    """The transpose of a matrix (a vector or a number stays as it is), as a view."""
    if self.ndim > 2:
        raise ShapeError(f"t: expects a tensor with <= 2 dimensions, but self is {self.ndim}D; use .permute or .transpose")
    return xp.transpose(self)


def _inverse(dims: Sequence[int]) -> tuple[int, ...]:
    positive = [d % len(dims) for d in dims]
    return tuple(positive.index(d) for d in range(len(positive)))


@op(
    self=lambda xp, grad, dims: xp.transpose(grad, _inverse(dims)), view=True,
    samples=[sample(real(2, 3, 4), (2, 0, 1)), sample(real(3, 2), (-1, 0))],
)  # fmt: skip
def permute(xp: Any, self: Array, dims: Dims) -> Array:
    """A view with the dimensions in another order.

    >>> torch.zeros(2, 3, 5).permute(2, 0, 1).shape
    torch.Size([5, 2, 3])
    """
    if len(dims) != self.ndim:
        raise ShapeError(f"permute: got {len(dims)} dims {tuple(dims)} for an input of {self.ndim} dimensions {tuple(self.shape)}")
    return xp.transpose(self, dims)


@op(
    self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape), view=True,
    samples=[sample(real(3, 1, 2, 1)), sample(real(3, 1, 2), 1), sample(real(3, 2), 0), sample(real(1, 3, 1), (0, 2))],
)  # fmt: skip
def squeeze(xp: Any, self: Array, dim: int | tuple[int, ...] | None = None) -> Array:
    """A view without the dimensions of length 1, all or those of ``dim``."""
    ndim = self.ndim
    dims = range(ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    for d in dims:
        if not -max(ndim, 1) <= d < max(ndim, 1):
            raise IndexError(f"Dimension out of range (expected to be in range of [{-max(ndim, 1)}, {max(ndim, 1) - 1}], but got {d})")
    return xp.squeeze(self, tuple({d % ndim for d in dims if self.shape[d] == 1})) if ndim else xp.squeeze(self, ())


@op(self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape), view=True, samples=[sample(real(3, 2), 0), sample(real(3), -1), sample(real(), 0)])
def unsqueeze(xp: Any, self: Array, dim: int) -> Array:
    """A view with a dimension of length 1 inserted at ``dim``."""
    return xp.expand_dims(self, dim)


@op(
    self=lambda xp, grad, self_shape: sum_to(xp, grad, self_shape), view=True, where="method",
    samples=[sample(real(3, 1), (3, 4)), sample(real(2), (3, 2)), sample(real(), (2, 2)), sample(real(3, 1), (-1, 4))],
)  # fmt: skip
def expand(xp: Any, self: Array, size: Dims) -> Array:
    """A view in which dimensions of length 1 are repeated without a copy; -1 keeps a length."""
    lead = len(size) - self.ndim
    if lead < 0:
        raise ShapeError(f"expand: the number of sizes provided ({len(size)}) must be greater or equal to the number of dimensions in the tensor ({self.ndim})")
    shape = tuple(self.shape[d - lead] if n == -1 and d >= lead else n for d, n in enumerate(size))
    for d, n in enumerate(shape):
        if n < 0 or (d >= lead and self.shape[d - lead] not in (1, n)):
            raise ShapeError(
                f"expand: the expanded size {n} must match the existing size "
                f"{self.shape[d - lead] if d >= lead else 1} at dimension {d}: target sizes {list(size)}, tensor sizes {list(self.shape)}"
            )
    count = 1
    for n in shape:
        count *= n
    # Without repetition the view can be written to, which broadcast_to does not allow.
    return xp.reshape(self, shape) if count == self.size else xp.broadcast_to(self, shape)


@composite(samples=[sample(real(3, 1), (3, 4)), sample(real(2), (3, 2))])
def broadcast_to(input: Any, size: Sequence[int]) -> Any:
    """A view of the input with the broadcast shape ``size``."""
    return input.expand(tuple(size))


@composite(where="method", samples=[sample(real(3, 1), real(3, 4))])
def expand_as(input: Any, other: Any) -> Any:
    """`expand` to the shape of another tensor."""
    return input.expand(tuple(other.shape))


@composite(where="method", samples=[sample(real(3, 4), (3, 1))])
def sum_to_size(input: Any, *size: Any) -> Any:
    """Sum over dimensions until the shape is ``size``: the reverse of broadcasting."""
    shape = _sizes("sum_to_size", size)
    lead = input.ndim - len(shape)
    if lead < 0 or [n for d, n in enumerate(shape) if n not in (1, input.shape[lead + d])]:
        raise ShapeError(f"sum_to_size: size {list(shape)} is not expandable to size {list(input.shape)}")
    axes = tuple(range(lead)) + tuple(lead + d for d, n in enumerate(shape) if n == 1 and input.shape[lead + d] != 1)
    return reshape(input.sum(axes), shape) if axes else input


@op(
    self=lambda xp, grad, self_shape, dim1, dim2, offset: xp.diagonal_to_zeros(grad, self_shape, offset, dim1, dim2),
    view=True, samples=[sample(real(3, 4)), sample(real(3, 4), 1), sample(real(3, 4), -1), sample(real(2, 3, 3), 0, 1, 2)],
)  # fmt: skip
def diagonal(xp: Any, self: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """A view of a diagonal, as the last dimension."""
    return xp.diagonal(self, offset, dim1, dim2)


def _restrided(
    xp: Any, grad: Any, self_shape: tuple[int, ...], geometry: tuple[tuple[int, ...], int], size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> Any:
    """Return the gradient of `as_strided`: add up in a picture of the memory, and read it as the input does.

    Elements of the input that share a place share its gradient equally.
    """
    self_stride, self_offset = geometry
    low, high = extent(self_shape, self_stride)
    first, last = extent(size, stride)
    start = min(self_offset + low, offset + first)
    length = max(self_offset + high, offset + last) - start
    memory = xp.scatter_strided(grad, length, stride, offset - start)
    result = xp.gather_strided(memory, self_shape, self_stride, self_offset - start)
    if may_overlap(self_shape, self_stride):
        ones = xp.scatter_strided(xp.ones(self_shape, dtype=grad.dtype), length, self_stride, self_offset - start)
        result = result / xp.gather_strided(ones, self_shape, self_stride, self_offset - start)
    return result


@op(
    self=lambda xp, grad, self_shape, geometry, size, stride, offset: _restrided(xp, grad, self_shape, geometry, size, stride, offset),
    view=True, where="internal", node="AsStridedBackward0",
)  # fmt: skip
def _as_strided(
    xp: Any, self: Array, size: tuple[int, ...], stride: tuple[int, ...], offset: int, geometry: tuple[tuple[int, ...], int]
) -> Array:
    """The memory under another geometry; the input's own is given for its gradient."""
    return xp.view_strided(self, size, stride, offset)


@composite(samples=[
    sample(real(3, 4), (2, 2), (1, 2)), sample(real(3, 4), (2, 3, 2), (2, 1, 1), 1), sample(real(4), (3, 2), (1, 0)), sample(real(3), (0, 2), (1, 1)),
    sample(real(3), (), (), 2), sample(real(6), (3,), (2,)),
])  # fmt: skip
def as_strided(input: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Any:
    """A view of the tensor's memory with any size and stride, from element ``storage_offset`` of the memory on.

    Elements may overlap: what flows back to one place of the memory adds up. NumPy arrays that nanotorch did not make
    count as one memory with the array that they are views of.

    >>> torch.arange(5).as_strided((3, 3), (1, 1))  # all windows of length 3
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    array, xp = input._array, input.device.xp
    size, stride = _sizes("as_strided", (size,)), _sizes("as_strided", (stride,))
    own = xp.storage_offset(array)
    offset = own if storage_offset is None else storage_offset
    if len(size) != len(stride):
        raise RuntimeError(f"as_strided: mismatch in length of strides and shape: size {list(size)} and stride {list(stride)}")
    first, last = extent(size, stride)
    if any(n < 0 for n in size) or (storage_offset is None and any(step < 0 for step in stride)):
        raise RuntimeError(f"as_strided: sizes and strides must not be negative, got size {list(size)} and stride {list(stride)}")
    if offset + first < 0 or offset + last > xp.storage_size(array):
        raise RuntimeError(
            f"as_strided: sizes {list(size)}, strides {list(stride)} and storage offset {offset} require a storage of "
            f"{offset + last} elements: out of bounds for storage of {xp.storage_size(array)} elements"
        )
    width = array.itemsize
    return _as_strided(input, size, stride, offset, (tuple([step // width for step in array.strides]), own))


# ------------------------------------------------------------------------------------------------- several views


@op(
    self=lambda xp, grads, dim: xp.stack(grads, axis=dim), view=True, outputs="list",
    samples=[sample(real(3, 2)), sample(real(3, 2), 1)],
)  # fmt: skip
def unbind(xp: Any, self: Array, dim: int = 0) -> Array:
    """The slices along ``dim``, as views without that dimension."""
    moved = xp.moveaxis(self, dim, 0)
    return [moved[k, ...] for k in range(moved.shape[0])]


def _pieces(array: Any, sizes: Sequence[int], dim: int) -> list[Any]:
    parts, start, lead = [], 0, (slice(None),) * (dim % array.ndim)
    for size in sizes:
        parts.append(array[(*lead, slice(start, start + size))])
        start += size
    return parts


def _length(name: str, shape: Sequence[int], dim: int) -> int:
    if not shape:
        raise RuntimeError(f"{name}: expects at least a 1-dimensional tensor")
    if not -len(shape) <= dim < len(shape):
        raise IndexError(
            f"{name}: Dimension out of range (expected to be in range of [{-len(shape)}, {len(shape) - 1}], but got {dim}); "
            f"input shape {tuple(shape)}"
        )
    return shape[dim]


@op(
    self=lambda xp, grads, dim: xp.concatenate(grads, axis=dim), view=True, outputs="list",
    samples=[sample(real(5, 2), [1, 4]), sample(real(5, 2), [0, 2], 1), sample(real(0, 2), [0, 0])],
)  # fmt: skip
def split_with_sizes(xp: Any, self: Array, split_sizes: Sequence[int], dim: int = 0) -> Array:
    """Pieces of the given sizes along ``dim``, as views."""
    length = _length("split_with_sizes", self.shape, dim)
    if sum(split_sizes) != length or any(size < 0 for size in split_sizes):
        raise RuntimeError(
            f"split_with_sizes: expects split_sizes to sum exactly to {length} (input tensor's size at dimension {dim}) and to "
            f"be non-negative, but got split_sizes={list(split_sizes)}"
        )
    return _pieces(self, split_sizes, dim)


@op(self=lambda xp, grads, dim: xp.concatenate(grads, axis=dim), view=True, outputs="list", where="internal", node="SplitBackward0")
def _split(xp: Any, self: Array, split_size: int, dim: int) -> Array:
    """Pieces of one size along ``dim``, the last may be smaller, as views."""
    length = self.shape[dim]
    return _pieces(self, [min(split_size, length - start) for start in range(0, length, split_size)] or [0], dim)


@composite(samples=[sample(real(5, 2), 2), sample(real(5, 2), [1, 4]), sample(real(2, 4), 2, dim=1)])
def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> Any:
    """Views of pieces of one size (the last may be smaller), or of the given sizes, along ``dim``."""
    length = _length("split", tensor._array.shape, dim)
    if not isinstance(split_size_or_sections, int):
        return split_with_sizes(tensor, tuple(split_size_or_sections), dim)
    if split_size_or_sections < 0 or (split_size_or_sections == 0 and length):
        raise RuntimeError(f"split: expects split_size be positive, but got split_size={split_size_or_sections}")
    return _split(tensor, split_size_or_sections or 1, dim)


@composite(samples=[sample(real(5, 2), 2), sample(real(2, 7), 3, 1)])
def chunk(input: Any, chunks: int, dim: int = 0) -> Any:
    """At most ``chunks`` views of equal size along ``dim`` (the last may be smaller)."""
    if chunks <= 0:
        raise RuntimeError(f"chunk: expects `chunks` to be greater than 0, got: {chunks}")
    return split(input, max(1, -(-_length("chunk", input._array.shape, dim) // chunks)), dim)


# ------------------------------------------------------------------------------------------------- copies


@op(self=lambda grad: grad, samples=[sample(real(3, 2)), sample(integers(3))])
def clone(xp: Any, self: Array) -> Array:
    """A copy with its own memory; differentiable."""
    return xp.array(self)


@composite(where="method", samples=[sample(real(3, 2))])
def contiguous(input: Any) -> Any:
    """The tensor itself if its memory is contiguous, else a copy that is."""
    return input if input._array.flags.c_contiguous else _contiguous(input)


@op(self=lambda grad: grad, where="internal", node="CloneBackward0", samples=[sample(real(3, 2))])
def _contiguous(xp: Any, self: Array) -> Array:
    """A copy in row-major order."""
    return xp.array(self, order="C")


@op(
    self=lambda xp, grad, repeats, self_shape: _unrepeat(xp, grad, repeats, self_shape), where="method",
    samples=[sample(real(3), (2,)), sample(real(3, 2), (2, 1, 3)), sample(real(), (2,))],
)  # fmt: skip
def repeat(xp: Any, self: Array, repeats: Dims) -> Array:
    """Copies of the tensor side by side, ``repeats[d]`` times along each dimension."""
    if len(repeats) < self.ndim:
        raise ShapeError(f"repeat: number of repeats {len(repeats)} can not be smaller than number of dimensions of tensor {self.ndim}")
    return xp.tile(self, repeats)


def _unrepeat(xp: Any, grad: Any, repeats: Sequence[int], shape: tuple[int, ...]) -> Any:
    padded = (1,) * (len(repeats) - len(shape)) + tuple(shape)
    pairs = [n for pair in zip(repeats, padded, strict=True) for n in pair]
    return xp.reshape(xp.sum(xp.reshape(grad, pairs), axis=tuple(range(0, len(pairs), 2))), shape)


@op(self=lambda xp, grad, dims: xp.flip(grad, dims), samples=[sample(real(3, 2), (0,)), sample(real(3, 2), (0, -1))])
def flip(xp: Any, self: Array, dims: Dims) -> Array:
    """A copy with the order reversed along ``dims``."""
    return xp.array(xp.flip(self, dims))


def _negated(shifts: Any) -> Any:
    return -shifts if isinstance(shifts, int) else tuple(-s for s in shifts)


@op(
    self=lambda xp, grad, shifts, dims: xp.roll(grad, _negated(shifts), dims),
    samples=[sample(real(3, 2), 1), sample(real(3, 2), 1, 0), sample(real(3, 2), (1, -1), (0, 1))],
)  # fmt: skip
def roll(xp: Any, self: Array, shifts: int | tuple[int, ...], dims: int | tuple[int, ...] | None = None) -> Array:
    """A copy with elements shifted along ``dims``; those pushed out re-enter on the other side."""
    return xp.roll(self, shifts, dims)


@op(self=lambda xp, grad, diagonal: xp.tril(grad, diagonal), inplace=True, samples=[sample(real(3, 3)), sample(real(3, 4), 1), sample(real(2, 3, 3), -1)])
def tril(xp: Any, self: Array, diagonal: int = 0) -> Array:
    """The lower triangle; the rest is zero."""
    return xp.tril(self, diagonal)


@op(self=lambda xp, grad, diagonal: xp.triu(grad, diagonal), inplace=True, samples=[sample(real(3, 3)), sample(real(3, 4), 1), sample(real(2, 3, 3), -1)])
def triu(xp: Any, self: Array, diagonal: int = 0) -> Array:
    """The upper triangle; the rest is zero."""
    return xp.triu(self, diagonal)


@op(
    self=lambda xp, grad, diagonal: xp.diagonal(grad, diagonal, 0, 1), where="internal",
    samples=[sample(real(3), 0), sample(real(3), 1)], node="DiagEmbedBackward0",
)  # fmt: skip
def _diag_embed(xp: Any, self: Array, diagonal: int) -> Array:
    """A matrix with the vector on a diagonal."""
    n = self.shape[0] + (diagonal if diagonal > 0 else -diagonal)
    return xp.diagonal_to_zeros(self, (n, n), diagonal, 0, 1)


@composite(samples=[sample(real(3)), sample(real(3, 3)), sample(real(3), 1), sample(real(3, 4), -1)])
def diag(input: Any, diagonal: int = 0) -> Any:
    """A matrix with the vector on its diagonal, or a copy of the diagonal of a matrix."""
    if input.ndim not in (1, 2):
        raise ShapeError(f"diag: input must be a vector or a matrix, got shape {tuple(input.shape)}")
    return _diag_embed(input, diagonal) if input.ndim == 1 else input.diagonal(diagonal).clone()


@composite(samples=[sample(real(3, 3)), sample(real(2, 3))])
def trace(input: Any) -> Any:
    """The sum of the diagonal of a matrix."""
    if input.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, but got a tensor of shape {tuple(input.shape)}")
    return input.diagonal().sum()


# ------------------------------------------------------------------------------------------------- joins


def _cut(xp: Any, grad: Any, shapes: Sequence[tuple[int, ...]], dim: int) -> list[Any]:
    parts, start = [], 0
    lead = (slice(None),) * (dim % grad.ndim)
    for shape in shapes:
        parts.append(grad[(*lead, slice(start, start + shape[dim]))])
        start += shape[dim]
    return parts


@op(
    tensors=lambda xp, grad, tensors_shape, dim: _cut(xp, grad, tensors_shape, dim), cast="promote", where="function",
    samples=[sample([real(3, 2), real(1, 2)]), sample([real(2, 3), real(2, 1)], dim=1), sample([real(2, 1), real(2, 2)], -1)],
)  # fmt: skip
def cat(xp: Any, tensors: Sequence[Array], dim: int = 0) -> Array:
    """The tensors joined along an existing dimension.

    >>> torch.cat([torch.zeros(1, 2), torch.ones(1, 2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    return xp.concatenate(tensors, axis=dim)


def _unstack(xp: Any, grad: Any, dim: int) -> list[Any]:
    moved = xp.moveaxis(grad, dim, 0)
    return [moved[k, ...] for k in range(moved.shape[0])]


@op(
    tensors=lambda xp, grad, dim: _unstack(xp, grad, dim), cast="promote", where="function",
    samples=[sample([real(3, 2), real(3, 2)]), sample([real(3), real(3)], dim=1), sample([real(), real()])],
)  # fmt: skip
def stack(xp: Any, tensors: Sequence[Array], dim: int = 0) -> Array:
    """The tensors joined along a new dimension."""
    return xp.stack(tensors, axis=dim)


concat = cat
