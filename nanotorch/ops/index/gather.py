"""Reading at positions that tensors of indices or masks name."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import DtypeError, OutOfRangeError, ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.elementwise.extrema import where
from nanotorch.ops.rows.dims import wrap_dim
from nanotorch.ops.rows.row import Array, Index, composite, op
from nanotorch.ops.rows.sample import booleans, integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR, namespace
from nanotorch.ops.shape.views import common_shape

# ------------------------------------------------------------------------------------------------- common


def check_index(name: str, xp: Any, index: Any, length: int, dim: int, negative: bool = False) -> None:
    """Raise if an index leaves [0, length), or with `negative` [-length, length):
    CuPy would wrap it around silently.
    """
    low = -length if negative else 0
    inside = (index >= low) & (index < length)
    if xp.holds(inside) is False:
        bad = int(index[~inside][0])
        raise OutOfRangeError(f"{name}: index {bad} is out of bounds for dimension {dim} with size {length}")


def lifted(xp: Any, x: Any) -> Any:
    """Return a number as a vector of one element, anything else as it is."""
    return x if x.ndim else xp.reshape(x, (1,))


def at(dim: int, index: Any, ndim: int) -> tuple[Any, ...]:
    """Return the index that means `index` along one dimension."""
    return (*(slice(None),) * (dim % ndim), index)


def leading(index: Any, dim: int) -> tuple[slice, ...]:
    """Return the slices of a tensor's corner that an index reaches, all along `dim`."""
    dim = dim % index.ndim
    return tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))


def gathered(xp: Any, x: Any, dim: int, index: Any) -> Any:
    """Return the elements of `x` that `gather` takes, in the shape of the index."""
    wide, places = lifted(xp, x), lifted(xp, index)
    return xp.reshape(xp.take_along_axis(wide[leading(places, dim)], places, dim % wide.ndim), tuple(index.shape))


def check_sizes(name: str, self: Any, dim: int, index: Any, src: Any = None) -> int:
    """Return `dim` from the front; raise where the index does not fit the input or the source."""
    dim = wrap_dim(name, dim, self.ndim)
    ndim = max(self.ndim, 1)
    for what, other in (("self", self), ("src", src)):
        if other is None:
            continue
        if max(other.ndim, 1) != max(index.ndim, 1) and index.size:
            raise ShapeError(
                f"{name}: input {tuple(self.shape)} and index {tuple(index.shape)} must have the same number of"
                " dimensions"
                if what == "self"
                else (
                    f"{name}: index {tuple(index.shape)} and src {tuple(other.shape)} must have the same number of"
                    " dimensions"
                )
            )
        for d in range(ndim if index.size else 0):
            if (d != dim or what == "src") and (index.shape or (1,))[d] > (other.shape or (1,))[d]:
                apart = f" apart from dimension {dim}" if what == "self" else ""
                raise ShapeError(
                    f"{name}: size does not match at dimension {d}: expected index {list(index.shape)} to be no larger"
                    f" than {what} {list(other.shape)}{apart}"
                )
    return dim


# ------------------------------------------------------------------------------------------------- gather


@op(
    self=lambda xp, grad, self_shape, dim, index: xp.reshape(
        xp.scatter_along_axis(
            lifted(xp, grad), self_shape or (1,), lifted(xp, index), dim % (len(self_shape) or 1), True
        ),
        self_shape,
    ),
    samples=[
        sample(real(3, 4), 1, integers(3, 2, high=4)),
        sample(real(3, 4), 0, integers(2, 4)),
        sample(real(4), 0, integers(5, high=4)),
        sample(real(3, 4), -1, integers(2, 3, high=4)),
        sample(real(), 0, integers(high=1)),
        sample(real(), 0, integers(2, high=1)),
        sample(real(0, 3), 1, integers(0, 2)),
    ],
)
def gather(xp: Any, self: Array, dim: int, index: Index) -> Array:
    """`out[i][j] = input[index[i][j]][j]` for `dim=0`, and so on: one chosen element along `dim` per place."""
    dim = check_sizes("gather", self, dim, index)
    check_index("gather", xp, index, (self.shape or (1,))[dim], dim)
    return xp.array(gathered(xp, self, dim, index))


@TENSOR.define("pick")
def _pick(x: Tensor, columns: Tensor) -> Tensor:
    return gather(x, 1, columns[:, None])[:, 0]


@TENSOR.define("take_along_axis")
@op(
    self=lambda xp, grad, self_shape, dim, indices: xp.scatter_along_axis(grad, self_shape, indices, dim, True),
    where="internal",
    node="GatherBackward0",
)
def _take_along_dim(xp: Any, self: Array, indices: Index, dim: int) -> Array:
    """Elements chosen along `dim`."""
    return xp.take_along_axis(self, indices, dim)


@composite(
    samples=[
        sample(real(3, 4), integers(3, 2, low=-4, high=4), 1),
        sample(real(3, 4), integers(2, 4), 0),
        sample(real(3, 4), integers(5, high=12)),
        sample(real(1, 4), integers(3, 1, high=4), -1),
        sample(real(), integers(2, high=1)),
    ]
)
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Elements chosen along `dim` by indices of matching shape, which may count from the end;
    of the flattened tensor without `dim`.
    """
    if not isinstance(indices, Tensor):
        raise TypeError(f"take_along_dim(): argument 'indices' must be Tensor, not {type(indices).__name__}")
    if indices.dtype.kind not in "iu":
        raise DtypeError(
            f"take_along_dim(): argument 'indices' must be a tensor of integers (int64), not {indices.dtype}"
        )
    tensors = namespace(input.device)
    if dim is None:
        check_index("take_along_dim", tensors, indices, input.numel(), 0)
        return _take_along_dim(input.reshape(-1), indices.reshape(-1), 0)
    if input.ndim != indices.ndim:
        raise ShapeError(
            f"take_along_dim: input {tuple(input.shape)} and indices {tuple(indices.shape)} should have the same number"
            " of dimensions"
        )
    dim = wrap_dim("take_along_dim", dim, input.ndim)
    if not input.ndim:
        raise IndexError(f"take_along_dim: Dimension specified as {dim} but tensor has no dimensions")
    length = input.shape[dim]
    shapes = [(*x.shape[:dim], 1, *x.shape[dim + 1 :]) for x in (input, indices)]
    if any(m != n and 1 not in (m, n) for m, n in zip(*shapes, strict=True)):
        raise ShapeError(
            f"take_along_dim: input {tuple(input.shape)} and indices {tuple(indices.shape)} must match or be 1 but for"
            f" dim {dim}"
        )
    common = np.broadcast_shapes(*shapes)
    input, indices = (x.expand((*common[:dim], x.shape[dim], *common[dim + 1 :])) for x in (input, indices))
    check_index("take_along_dim", tensors, indices, length, dim, True)
    return _take_along_dim(input, where(indices < 0, indices + length, indices), dim)


@op(
    self=lambda xp, grad, self_shape, dim, index: xp.reshape(
        xp.scatter_to_zeros(
            xp.reshape(grad, (-1,)) if not self_shape else grad,
            self_shape or (1,),
            at(dim, xp.reshape(index, (-1,)), len(self_shape) or 1),
        ),
        self_shape,
    ),
    samples=[
        sample(real(3, 4), 1, integers(5, high=4)),
        sample(real(3, 4), 0, integers(2)),
        sample(real(3, 4), -1, integers(high=4)),
        sample(real(), 0, integers(high=1)),
        sample(real(3, 0), 0, integers(2)),
        sample(real(3), 0, integers(0)),
    ],
)
def index_select(xp: Any, self: Array, dim: int, index: Index) -> Array:
    """The slices of `input` along `dim` that a vector of indices names."""
    if index.ndim > 1:
        raise IndexError(f"index_select: index is supposed to be a vector, got shape {tuple(index.shape)}")
    dim = wrap_dim("index_select", dim, self.ndim)
    wide = lifted(xp, self)
    check_index("index_select", xp, index, wide.shape[dim], dim)
    out = xp.take(wide, xp.reshape(index, (-1,)), axis=dim)
    return out if self.ndim else xp.reshape(out, ())


@TENSOR.define("take")
def _take(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    return index_select(x, axis, indices)


@composite(
    samples=[
        sample(real(3, 4), booleans(3, 4)),
        sample(real(3, 4), booleans(4)),
        sample(real(4), booleans(3, 1)),
        sample(real(), booleans()),
    ]
)
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, in one dimension."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"masked_select(): argument 'mask' must be Tensor, not {type(mask).__name__}")
    if mask.dtype.kind != "b":
        raise DtypeError(
            f"masked_select(): argument 'mask' must be a tensor of booleans (torch.bool), not {mask.dtype}"
        )
    shape = common_shape("masked_select", input, mask)
    return input.expand(shape)[mask.expand(shape)]


@op(
    self=lambda xp, grad, self_shape, index: xp.reshape(
        xp.scatter_to_zeros(grad, (count_of(self_shape),), (index,)), self_shape
    ),
    samples=[
        sample(real(3, 4), integers(2, 3, low=-12, high=12)),
        sample(real(3), integers(5)),
        sample(real(2, 2), integers()),
        sample(real(3), integers(0)),
    ],
)
def take(xp: Any, self: Array, index: Index) -> Array:
    """The elements that indices into the flattened tensor name, in the shape of the indices."""
    flat = xp.reshape(self, (-1,))
    check_index("take", xp, index, flat.size, 0, True)
    return xp.asarray(flat[index])


def count_of(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    count = 1
    for length in shape:
        count *= length
    return count
