"""Views of a tensor's memory under another geometry: any strides, and sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.strided import extent, may_overlap
from nanotorch.ops.rows.dims import sizes_of, wrap_dim
from nanotorch.ops.rows.row import Array, attach, composite, op
from nanotorch.ops.rows.sample import real, sample
from nanotorch.ops.rows.tensors import TENSOR


def _restrided(
    xp: Any,
    grad: Any,
    self_shape: tuple[int, ...],
    geometry: tuple[tuple[int, ...], int],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
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
    self=lambda xp, grad, self_shape, geometry, size, stride, offset: _restrided(
        xp, grad, self_shape, geometry, size, stride, offset
    ),
    view=True,
    where="internal",
    node="AsStridedBackward0",
)
def _as_strided(
    xp: Any,
    self: Array,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
    geometry: tuple[tuple[int, ...], int],
) -> Array:
    """The memory under another geometry; the input's own is given for its gradient."""
    return xp.view_strided(self, size, stride, offset)


@composite(
    samples=[
        sample(real(3, 4), (2, 2), (1, 2)),
        sample(real(3, 4), (2, 3, 2), (2, 1, 1), 1),
        sample(real(4), (3, 2), (1, 0)),
        sample(real(3), (0, 2), (1, 1)),
        sample(real(3), (), (), 2),
        sample(real(6), (3,), (2,)),
    ]
)
def as_strided(input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """A view of the tensor's memory with any size and stride, from element `storage_offset` of the memory on.

    Elements may overlap: what flows back to one place of the memory adds up. NumPy arrays that nanotorch did not make
    count as one memory with the array that they are views of.

    >>> torch.arange(5).as_strided((3, 3), (1, 1))  # all windows of length 3
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    array, xp = input._array, input.device.xp
    size, stride = sizes_of("as_strided", (size,)), sizes_of("as_strided", (stride,), "stride")
    own = xp.storage_offset(array)
    offset = own if storage_offset is None else storage_offset
    if len(size) != len(stride):
        raise RuntimeError(
            f"as_strided: mismatch in length of strides and shape: size {list(size)} and stride {list(stride)}"
        )
    first, last = extent(size, stride)
    if any(n < 0 for n in size) or (storage_offset is None and any(step < 0 for step in stride)):
        raise RuntimeError(
            f"as_strided: sizes and strides must not be negative, got size {list(size)} and stride {list(stride)}"
        )
    if offset + first < 0 or offset + last > xp.storage_size(array):
        raise RuntimeError(
            f"as_strided: sizes {list(size)}, strides {list(stride)} and storage offset {offset} require a storage of "
            f"{offset + last} elements: out of bounds for storage of {xp.storage_size(array)} elements"
        )
    width = array.itemsize
    return _as_strided(input, size, stride, offset, (tuple([step // width for step in array.strides]), own))


@op(
    self=lambda xp, grad, self_shape, stride, offset: xp.scatter_strided(grad, self_shape[0], stride, offset),
    where="internal",
    node="AsStridedBackward0",
)
def _gather_strided(xp: Any, self: Array, size: Any, stride: tuple[int, ...], offset: int) -> Any:
    """The elements of a vector where a geometry sees them in a memory."""
    return xp.array(xp.gather_strided(self, size, stride, offset))


@TENSOR.define("gather_strided")
def _seen(x: Tensor, shape: Sequence[int], stride: tuple[int, ...], offset: int) -> Tensor:
    return _gather_strided(x, tuple(shape), stride, offset)


@TENSOR.define("scatter_strided")
@op(
    self=lambda xp, grad, self_shape, stride, offset: xp.gather_strided(grad, self_shape, stride, offset),
    where="internal",
    node="AsStridedScatterBackward0",
)
def _scatter_strided(xp: Any, self: Array, length: int, stride: tuple[int, ...], offset: int) -> Any:
    """A vector of zeros with values added where a geometry puts them."""
    return xp.scatter_strided(self, length, stride, offset)


def _fold(xp: Any, grad: Any, shape: tuple[int, ...], dimension: int, size: int, step: int) -> Any:
    """Return the gradient of `unfold`: every element gets the sum over the windows that show it."""
    if not shape:
        return xp.reshape(grad, ()) if size else xp.zeros((), dtype=grad.dtype)
    dim = dimension % len(shape)
    places = xp.arange(grad.shape[dim])[:, None] * step + xp.arange(size)
    moved = (*shape[:dim], *shape[dim + 1 :], shape[dim])
    return xp.moveaxis(xp.scatter_to_zeros(xp.moveaxis(grad, dim, -2), moved, (..., places)), -1, dim)


@op(
    self=lambda xp, grad, self_shape, dimension, size, step: _fold(xp, grad, self_shape, dimension, size, step),
    view=True,
    where="internal",
    node="UnfoldBackward0",
    samples=[
        sample(real(5), 0, 2, 1),
        sample(real(2, 7), 1, 3, 2),
        sample(real(4, 3), -2, 2, 3),
        sample(real(), 0, 1, 1),
        sample(real(3, 0), 0, 2, 1),
    ],
)
def _unfold(xp: Any, self: Array, dimension: int, size: int, step: int) -> Array:
    """A view of all windows of `size` slices along `dimension`, `step` apart; the window is the last dimension.

    >>> torch.arange(5).unfold(0, 3, 1)
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    dim = wrap_dim("unfold", dimension, self.ndim)
    length = self.shape[dim] if self.ndim else 1
    if size < 0 or size > length:
        raise RuntimeError(f"unfold: maximum size for tensor at dimension {dim} is {length} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"unfold: step is {step} but must be > 0")
    return xp.sliding(self, dim, size, step)


attach("unfold", _unfold, "method", [])  # nn.functional.unfold is another function
