"""Views of one tensor under another shape: reshapes, permutations,
inserted and removed dimensions, slices, diagonals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Size, Tensor
from nanotorch.ops.rows.dims import need_tuple, sizes_of, wrap_dim, wrap_dims
from nanotorch.ops.rows.row import ROWS, Array, Dims, NewDim, composite, op
from nanotorch.ops.rows.runtime import sum_to
from nanotorch.ops.rows.sample import integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR


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


@op(
    self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape),
    view=True,
    where="internal",
    node="ViewBackward0",
    samples=[sample(real(3, 2), (2, 3)), sample(real(6), (2, -1)), sample(real(), (1, 1)), sample(real(0, 3), (3, 0))],
)
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


@op(self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape), where="internal", node="UnsafeViewBackward0")
def _unsafe_view(xp: Any, self: Array, shape: tuple[int, ...]) -> Array:
    """Another shape for a copy that nobody else sees: the result counts as no view."""
    return xp.view_as(self, shape)


@composite(where="method", samples=[sample(real(3, 2), 2, 3), sample(real(6), (2, -1))])
def view(input: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """The same memory under another shape; raises where that needs a copy."""
    if len(shape) == 1 and isinstance(shape[0], dtypes.DType):
        raise TypeError("view: viewing memory as another dtype is not supported; convert with .to(dtype)")
    return _view(input, sizes_of("view", shape))


@TENSOR.define("reshape")
@composite(
    samples=[sample(real(3, 2), (2, 3)), sample(real(6), (2, -1)), sample(real(), (1, 1)), sample(real(0, 3), (3, 0))]
)
def reshape(input: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """The same elements under another shape: a view where the strides allow it, a copy elsewhere.

    >>> torch.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    sizes = _fill_in("reshape", sizes_of("reshape", shape, "shape"), input._array.size, input._array.shape)
    if not input._array.flags.c_contiguous:
        try:
            input.device.xp.view_as(input._array, sizes)
        except ValueError:
            return _unsafe_view(_contiguous(input), sizes)
    return _view(input, sizes)


@composite(where="method", samples=[sample(real(3, 2), real(2, 3))])
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """`view` with the shape of another tensor."""
    return _view(input, tuple(other.shape))


@composite(where="method", samples=[sample(real(3, 2), real(2, 3))])
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """`reshape` with the shape of another tensor."""
    return reshape(input, tuple(other.shape))


@composite(samples=[sample(real(2, 3, 2)), sample(real(2, 3, 2), 1), sample(real(2, 3, 2), 0, 1), sample(real())])
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the dimensions from `start_dim` to `end_dim` into one."""
    shape = input.shape
    start, end = (
        wrap_dim("flatten", start_dim, len(shape), "start_dim"),
        wrap_dim("flatten", end_dim, len(shape), "end_dim"),
    )
    if not shape:
        return reshape(input, (1,))
    if start == end:
        return input
    if start > end:
        raise RuntimeError(f"flatten() has invalid args: start_dim {start_dim} cannot come after end_dim {end_dim}")
    joined = 1
    for length in shape[start : end + 1]:
        joined *= length
    return reshape(input, (*shape[:start], joined, *shape[end + 1 :]))


@composite(samples=[sample(real(3, 2))])
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, (-1,))


@composite(samples=[sample(real(6, 2), 0, (2, 3))])
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Split one dimension into several."""
    shape = input.shape
    dim = wrap_dim("unflatten", dim, len(shape))
    need_tuple("unflatten", "sizes", sizes)
    if not shape or not sizes:
        raise RuntimeError(
            f"unflatten: input must have a dimension and sizes must be non-empty, got shape {tuple(shape)} and sizes"
            f" {list(sizes)}"
        )
    return reshape(
        input,
        (
            *shape[:dim],
            *_fill_in("unflatten", sizes_of("unflatten", (sizes,), "sizes"), shape[dim], shape),
            *shape[dim + 1 :],
        ),
    )


@TENSOR.define("swapaxes")
@op(
    self=lambda xp, grad, dim0, dim1: xp.swapaxes(grad, dim0, dim1) if grad.ndim else grad,
    view=True,
    samples=[sample(real(3, 2), 0, 1), sample(real(2, 3, 4), -1, 0)],
)
def transpose(xp: Any, self: Array, dim0: int, dim1: int) -> Array:
    """A view with two dimensions swapped."""
    return xp.swapaxes(self, dim0, dim1) if self.ndim else self[...]


@op(
    self=lambda xp, grad: xp.transpose(grad),
    view=True,
    node="TBackward0",
    samples=[sample(real(3, 2)), sample(real(3)), sample(real())],
)
def t(xp: Any, self: Array) -> Array:
    """The transpose of a matrix (a vector or a number stays as it is), as a view."""
    if self.ndim > 2:
        raise ShapeError(
            f"t: expects a tensor with <= 2 dimensions, but self is {self.ndim}D; use .permute or .transpose"
        )
    return xp.transpose(self)


def _inverse(dims: Sequence[int]) -> tuple[int, ...]:
    positive = wrap_dims("permute", dims, len(dims))
    return tuple(positive.index(d) for d in range(len(positive)))


@op(
    self=lambda xp, grad, dims: xp.transpose(grad, _inverse(dims)),
    view=True,
    samples=[sample(real(2, 3, 4), (2, 0, 1)), sample(real(3, 2), (-1, 0))],
)
def permute(xp: Any, self: Array, dims: Dims) -> Array:
    """A view with the dimensions in another order.

    >>> torch.zeros(2, 3, 5).permute(2, 0, 1).shape
    torch.Size([5, 2, 3])
    """
    if len(dims) != self.ndim:
        raise ShapeError(
            f"permute: got {len(dims)} dims {tuple(dims)} for an input of {self.ndim} dimensions {tuple(self.shape)}"
        )
    return xp.transpose(self, wrap_dims("permute", dims, self.ndim, "dims"))


@TENSOR.define("transpose")
def _in_order(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return permute(x, tuple(range(x.ndim))[::-1] if axes is None else tuple(axes))


def _squeezed(xp: Any, array: Any, dims: Sequence[int]) -> Any:
    return xp.squeeze(array, tuple({d for d in dims if array.shape[d] == 1}) if array.ndim else ())


@op(
    self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape), view=True, where="internal", node="SqueezeBackward0"
)
def _squeeze(xp: Any, self: Array) -> Array:
    """A view without any dimension of length 1."""
    return _squeezed(xp, self, range(self.ndim))


@op(
    self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape), view=True, where="internal", node="SqueezeBackward1"
)
def _squeeze_dim(xp: Any, self: Array, dim: int) -> Array:
    """A view without one dimension, if its length is 1."""
    return _squeezed(xp, self, (dim % (self.ndim or 1),))


@op(
    self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape), view=True, where="internal", node="SqueezeBackward2"
)
def _squeeze_dims(xp: Any, self: Array, dim: tuple[int, ...]) -> Array:
    """A view without those of some dimensions whose length is 1."""
    return _squeezed(xp, self, wrap_dims("squeeze", dim, self.ndim))


@TENSOR.define("squeeze")
@composite(
    samples=[
        sample(real(3, 1, 2, 1)),
        sample(real(3, 1, 2), 1),
        sample(real(3, 2), 0),
        sample(real(1, 3, 1), (0, 2)),
        sample(real(1, 3, 1), (-1, 1)),
        sample(real(), 0),
        sample(real(1, 0), 0),
    ]
)
def squeeze(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """A view without the dimensions of length 1, all or those of `dim`."""
    if dim is None:
        return _squeeze(input)
    return _squeeze_dims(input, tuple(dim)) if isinstance(dim, tuple | list) else _squeeze_dim(input, dim)


@op(
    self=lambda xp, grad, self_shape: xp.reshape(grad, self_shape),
    view=True,
    samples=[sample(real(3, 2), 0), sample(real(3), -1), sample(real(), 0)],
)
def unsqueeze(xp: Any, self: Array, dim: NewDim) -> Array:
    """A view with a dimension of length 1 inserted at `dim`."""
    return xp.expand_dims(self, wrap_dim("unsqueeze", dim, self.ndim + 1))


@TENSOR.define("expand_dims")
def _expand_dims(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = x.ndim + len(axes)
    for position in sorted(a % ndim for a in axes):
        x = unsqueeze(x, position)
    return x


@op(
    self=lambda xp, grad, self_shape: sum_to(xp, grad, self_shape),
    view=True,
    where="method",
    samples=[sample(real(3, 1), (3, 4)), sample(real(2), (3, 2)), sample(real(), (2, 2)), sample(real(3, 1), (-1, 4))],
)
def expand(xp: Any, self: Array, size: Dims) -> Array:
    """A view in which dimensions of length 1 are repeated without a copy; -1 keeps a length."""
    lead = len(size) - self.ndim
    if lead < 0:
        raise ShapeError(
            f"expand: the number of sizes provided ({len(size)}) must be greater or equal to the number of dimensions"
            f" in the tensor ({self.ndim})"
        )
    shape = tuple(self.shape[d - lead] if n == -1 and d >= lead else n for d, n in enumerate(size))
    for d, n in enumerate(shape):
        if n < 0 or (d >= lead and self.shape[d - lead] not in (1, n)):
            raise ShapeError(
                f"expand: the expanded size {n} must match the existing size {self.shape[d - lead] if d >= lead else 1}"
                f" at dimension {d}: target sizes {list(size)}, tensor sizes {list(self.shape)}"
            )
    count = 1
    for n in shape:
        count *= n
    return xp.reshape(self, shape) if count == self.size and count else xp.expand(self, shape)


@TENSOR.define("broadcast_to")
@composite(samples=[sample(real(3, 1), (3, 4)), sample(real(2), (3, 2))])
def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """A view of the input with the broadcast shape `size`."""
    return input.expand(tuple(size))


@composite(where="method", samples=[sample(real(3, 1), real(3, 4))])
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of another tensor."""
    return input.expand(tuple(other.shape))


def common_shape(name: str, *tensors: Any) -> tuple[int, ...]:
    """Return the shape that tensors have after broadcasting, or raise with all of theirs."""
    try:
        return np.broadcast_shapes(*[tensor.shape for tensor in tensors])
    except ValueError:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ShapeError(
            f"{name}: shapes {shapes} cannot be broadcast together: aligned at the right, lengths must be equal or 1"
        ) from None


def broadcast_shapes(*shapes: Any) -> Size:
    """Return the shape to which tensors of these shapes broadcast.

    >>> torch.broadcast_shapes((2, 1), (3,))
    torch.Size([2, 3])
    """
    sizes = [(shape,) if isinstance(shape, int) else tuple(shape) for shape in shapes]
    try:
        return Size(np.broadcast_shapes(*sizes))
    except ValueError:
        raise RuntimeError(
            f"broadcast_shapes: shapes {', '.join(map(str, sizes))} cannot be broadcast together"
        ) from None


@composite(
    where="function",
    samples=[sample(real(3, 1), real(4)), sample(real(), real(2, 0)), sample(real(2), real(1), real(3, 1))],
)
def broadcast_tensors(*tensors: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Views of the tensors with their common broadcast shape."""
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    size = common_shape("broadcast_tensors", *tensors)
    return tuple([expand(tensor, size) for tensor in tensors])


@composite(where="method", samples=[sample(real(3, 4), (3, 1))])
def sum_to_size(input: Tensor, *size: int | Sequence[int]) -> Tensor:
    """Sum over dimensions until the shape is `size`: the reverse of broadcasting."""
    shape = sizes_of("sum_to_size", size)
    lead = input.ndim - len(shape)
    if lead < 0 or [n for d, n in enumerate(shape) if n not in (1, input.shape[lead + d])]:
        raise ShapeError(f"sum_to_size: size {list(shape)} is not expandable to size {list(input.shape)}")
    axes = tuple(range(lead)) + tuple(lead + d for d, n in enumerate(shape) if n == 1 and input.shape[lead + d] != 1)
    return reshape(input.sum(axes), shape) if axes else input


@TENSOR.define("diagonal")
@op(
    self=lambda xp, grad, self_shape, dim1, dim2, offset: xp.diagonal_to_zeros(grad, self_shape, offset, dim1, dim2),
    view=True,
    samples=[sample(real(3, 4)), sample(real(3, 4), 1), sample(real(3, 4), -1), sample(real(2, 3, 3), 0, 1, 2)],
)
def diagonal(xp: Any, self: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """A view of a diagonal, as the last dimension."""
    return xp.diagonal(self, offset, dim1, dim2)


@op(
    self=lambda xp, grad, offset, axis1, axis2: xp.diagonal(grad, offset, axis1, axis2),
    where="internal",
    node="DiagonalBackward0",
)
def _diagonal_to_zeros(xp: Any, self: Array, size: Any, offset: int, axis1: int, axis2: int) -> Any:
    """Zeros with values on a diagonal."""
    return xp.diagonal_to_zeros(self, size, offset, axis1, axis2)


@TENSOR.define("diagonal_to_zeros")
def _on_diagonal(x: Tensor, shape: Sequence[int], offset: int, axis1: int, axis2: int) -> Tensor:
    return _diagonal_to_zeros(x, tuple(shape), offset, axis1, axis2)


# ------------------------------------------------------------------------------------------------- copies


@op(self=lambda grad: grad, samples=[sample(real(3, 2)), sample(integers(3))])
def clone(xp: Any, self: Array) -> Array:
    """A copy with its own memory; differentiable."""
    return xp.array(self)


@composite(where="method", samples=[sample(real(3, 2))])
def contiguous(input: Tensor) -> Tensor:
    """The tensor itself if its memory is contiguous, else a copy that is."""
    return input if input._array.flags.c_contiguous else _contiguous(input)


@op(self=lambda grad: grad, where="internal", node="CloneBackward0", samples=[sample(real(3, 2))])
def _contiguous(xp: Any, self: Array) -> Array:
    """A copy in row-major order."""
    return xp.array(self, order="C")


# ------------------------------------------------------------------------------------------------- permutations by
# other names


@TENSOR.define("moveaxis")
@composite(
    samples=[
        sample(real(2, 3, 4), 0, 2),
        sample(real(2, 3, 4), -1, 0),
        sample(real(2, 3, 4), (0, 1), (-1, 0)),
        sample(real(2, 0), 0, 1),
        sample(real(), 0, 0),
        sample(real(2, 3), (), ()),
    ]
)
def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """A view with the dimensions `source` at the places `destination`; the others keep their order."""
    ndim = input.ndim
    if isinstance(source, tuple | list) != isinstance(destination, tuple | list):
        raise TypeError(
            f"movedim(): source and destination must both be int, or both tuples of ints, got {source} and"
            f" {destination}"
        )
    before, after = wrap_dims("movedim", source, ndim, "source"), wrap_dims("movedim", destination, ndim, "destination")
    if len(before) != len(after):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({source} dims) should contain the same number of"
            f" dims as destination ({destination} dims)"
        )
    if not ndim:
        return permute(input, ())
    order = [d for d in range(ndim) if d not in before]
    for place, dim in sorted(zip(after, before, strict=True)):
        order.insert(place, dim)
    return permute(input, order)


@TENSOR.define("batch_last")
def _batch_last(x: Tensor) -> Tensor:
    return movedim(x, 0, -1)


@TENSOR.define("batch_first")
def _batch_first(x: Tensor) -> Tensor:
    return movedim(x, -1, 0)


@composite(samples=[sample(real(2, 3, 4), 0, 2), sample(real(2, 3, 4), (0, 1), (-1, 0))])
def moveaxis(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """NumPy's name for `movedim`."""
    return movedim(input, source, destination)


@composite(samples=[sample(real(2, 3, 4), 0, -1)])
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """NumPy's name for `transpose`."""
    return transpose(input, axis0, axis1)


@composite(samples=[sample(real(2, 3, 4), 0, -1)])
def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Another name for `transpose`."""
    return transpose(input, dim0, dim1)


@composite(samples=[sample(real(2, 3, 4)), sample(real(2, 3))])
def adjoint(input: Tensor) -> Tensor:
    """A view with the last two dimensions swapped (and, were there complex numbers, conjugated)."""
    if not input.ndim:
        return input.view(())
    if input.ndim < 2:
        raise RuntimeError(f"adjoint: tensor must have at least 2 dimensions, but got {input.ndim}")
    return transpose(input, -2, -1)


# ------------------------------------------------------------------------------------------------- slices


def _at(dim: int, part: Any) -> tuple[Any, ...]:
    return (*(slice(None),) * dim, part)


@op(
    self=lambda xp, grad, self_shape, dim, index: xp.scatter_to_zeros(
        grad, self_shape, _at(dim % len(self_shape), index)
    ),
    view=True,
    samples=[sample(real(3, 2), 0, 1), sample(real(3, 2), -1, -2), sample(real(2, 3, 0), 1, 2), sample(real(3), 0, -1)],
)
def select(xp: Any, self: Array, dim: int, index: int) -> Array:
    """A view of one slice along `dim`, without that dimension."""
    if not self.ndim:
        raise IndexError("select: cannot be applied to a 0-dim tensor.")
    dim %= self.ndim
    length = self.shape[dim]
    if not -length <= index < length:
        raise IndexError(f"select: index {index} out of range for tensor of size {list(self.shape)} at dimension {dim}")
    return self[(*(slice(None),) * dim, index, ...)]


@composite(samples=[sample(real(5, 2), 0, 1, 3), sample(real(2, 5), -1, -2, 2), sample(real(3), 0, 3, 0)])
def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """A view of `length` slices along `dim` from `start` on."""
    shape = input.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    dim, start = wrap_dim("narrow", dim, len(shape)), int(start)
    size = shape[dim]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -size <= start <= size:
        raise IndexError(f"narrow: start out of range (expected to be in range of [{-size}, {size}], but got {start})")
    start = start + size if start < 0 else start
    if start + length > size:
        raise RuntimeError(
            f"narrow: start ({start}) + length ({length}) exceeds dimension size ({size}); input shape {tuple(shape)}"
        )
    return ROWS["_slice"].function(input, (*(slice(None),) * dim, slice(start, start + length)))


# ------------------------------------------------------------------------------------------------- more dimensions


def _each(function: Any, tensors: tuple[Any, ...]) -> Any:
    if len(tensors) == 1 and not isinstance(tensors[0], list | tuple):
        return function(tensors[0])
    return tuple([function(tensor) for tensor in (tensors[0] if len(tensors) == 1 else tensors)])


@overload
def atleast_1d(tensor: Tensor, /) -> Tensor: ...
@overload
def atleast_1d(tensor: Tensor, other: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
@overload
def atleast_1d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@composite(where="function", samples=[sample(real()), sample(real(2)), sample(real(), real(2, 3))])
def atleast_1d(*tensors: Any) -> Any:
    """The tensor, or for a number a view of one dimension; of several tensors a tuple."""
    return _each(lambda x: x if x.ndim else reshape(x, (1,)), tensors)


@overload
def atleast_2d(tensor: Tensor, /) -> Tensor: ...
@overload
def atleast_2d(tensor: Tensor, other: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
@overload
def atleast_2d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@composite(where="function", samples=[sample(real()), sample(real(2)), sample(real(2, 3)), sample(real(), real(2, 3))])
def atleast_2d(*tensors: Any) -> Any:
    """The tensor as a view of at least two dimensions, new ones in front; of several tensors a tuple."""

    def widened(x: Any) -> Any:
        return x if x.ndim > 1 else unsqueeze(x, 0) if x.ndim else reshape(x, (1, 1))

    return _each(widened, tensors)


@overload
def atleast_3d(tensor: Tensor, /) -> Tensor: ...
@overload
def atleast_3d(tensor: Tensor, other: Tensor, /, *tensors: Tensor) -> tuple[Tensor, ...]: ...
@overload
def atleast_3d(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]: ...
@composite(
    where="function",
    samples=[sample(real()), sample(real(2)), sample(real(2, 3)), sample(real(2, 1, 3)), sample(real(), real(2, 3))],
)
def atleast_3d(*tensors: Any) -> Any:
    """The tensor as a view of at least three dimensions, as NumPy's; of several tensors a tuple."""

    def widened(x: Any) -> Any:
        ndim = x.ndim
        if ndim == 1:
            return unsqueeze(unsqueeze(x, 0), -1)
        return reshape(x, (1, 1, 1)) if not ndim else unsqueeze(x, -1) if ndim == 2 else x

    return _each(widened, tensors)
