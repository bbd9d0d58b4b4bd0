"""Indexing, gathering, scattering, sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.errors import ShapeError
from nanotorch.autograd.tensor import Tensor, from_array
from nanotorch.ops.inplace import apply_inplace, check_writable
from nanotorch.ops.row import ROWS, Array, Index, Mask, Number, composite, op
from nanotorch.ops.sample import booleans, distinct, integers, real, sample
from nanotorch.ops.shape import select, unsqueeze

# ------------------------------------------------------------------------------------------------- x[index]


@op(
    self=lambda xp, grad, self_shape, index: xp.scatter_to_zeros(grad, self_shape, index), view=True, where="internal",
    node="SliceBackward0",
)  # fmt: skip
def _slice(xp: Any, self: Array, index: Any) -> Array:
    """Basic indexing, a view."""
    return self[index]


@op(
    self=lambda xp, grad, self_shape, index: xp.scatter_to_zeros(grad, self_shape, index), where="internal",
    node="IndexBackward0",
)  # fmt: skip
def _index(xp: Any, self: Array, index: Any) -> Array:
    """Indexing by integer or boolean tensors, a copy."""
    return self[index]


@op(
    self=lambda xp, grad, values_shape, index: xp.put(grad, index, xp.zeros(values_shape, dtype=grad.dtype)),
    values=lambda grad, index, values_shape: grad[index],
    where="internal", node="IndexPutBackward0",
)  # fmt: skip
def _index_put(xp: Any, self: Array, values: Array, index: Any) -> Array:
    """A copy with ``self[index] = values``."""
    return xp.put(self, index, values)


def _check_bounds(index: Any, length: int, dim: int) -> None:
    """Raise if an index array leaves a dimension: CuPy would wrap it around silently."""
    if index.size and (int(index.max()) >= length or int(index.min()) < -length):
        bad = int(index.max()) if int(index.max()) >= length else int(index.min())
        raise IndexError(f"index {bad} is out of bounds for dimension {dim} with size {length}")


def check_position(input: Tensor, index: int, dim: int) -> int:
    """Return the index, or raise if it leaves the dimension."""
    shape = input._array.shape
    if not shape:
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim tensor to a number")
    if not -shape[dim] <= index < shape[dim]:
        raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {shape[dim]}")
    return index


EVERYTHING = (slice(None), Ellipsis)


def _basic(input: Tensor, parts: tuple[Any, ...]) -> Tensor:
    """Take a basic index: by `select` or `unsqueeze` where it is that, or else as a slice."""
    special = [(place, part) for place, part in enumerate(parts) if not (part is Ellipsis or (type(part) is slice and part == slice(None)))]
    if len(special) == 1 and (type(special[0][1]) is int or special[0][1] is None):
        place, part = special[0]
        ndim = input._array.ndim
        dim = place
        if Ellipsis in parts[:place]:
            dim = ndim - (len(parts) - place) + (part is None)
        if part is None:
            if len(parts) - 2 <= ndim:
                return unsqueeze(input, dim)
        elif len(parts) - 1 <= ndim:
            return select(input, dim, check_position(input, part, dim))
    return _slice(input, parts)


def parse_index(input: Tensor, index: Any) -> tuple[Any, str]:
    """Turn an index into one of raw arrays, and say whether it is basic ("slice") or advanced ("index")."""
    parts = index if isinstance(index, tuple) else (index,)
    parsed: list[Any] = []
    on_host: dict[int, Any] = {}  # indices that can be checked without waiting for a GPU
    kind = "slice"
    for part in parts:
        if isinstance(part, Tensor):
            if part._array.dtype.kind not in "iub":
                raise IndexError(f"tensors used as indices must be long, int, byte or bool tensors, not {part.dtype}")
            if part.device is not input.device:
                if part.device.type == "cpu":
                    on_host[len(parsed)] = part._array
                part = part.to(input.device)
            if part._array.ndim == 0 and part._array.dtype.kind in "iu":
                part = int(part._array.item())
            else:
                part, kind = part._array, "index"
        elif isinstance(part, np.ndarray | list):
            part, kind = np.asarray(part), "index"
            if part.size == 0 and part.dtype.kind == "f":
                part = part.astype(np.int64)
            on_host[len(parsed)] = part
            part = input.device.xp.receive(part, input.device)
        elif hasattr(part, "__array_priority__") or hasattr(part, "get"):
            kind = "index"  # an array of the tensor's own device
        elif isinstance(part, bool):
            kind = "index"
        elif isinstance(part, slice):
            part = slice(*[None if v is None else v.__index__() for v in (part.start, part.stop, part.step)])
            if part.step is not None and part.step <= 0:
                raise ValueError("step must be greater than zero; use .flip() to reverse")
        elif part is not None and part is not Ellipsis:
            part = part.__index__()
        parsed.append(part)
    if kind == "slice" and Ellipsis not in parsed:
        parsed.append(Ellipsis)  # or NumPy would give a number instead of a view where no dimension is left
    if kind == "index" and input.device.type != "cpu":
        dim = 0
        for number, part in enumerate(parsed):
            if part is Ellipsis:
                break
            if hasattr(part, "dtype") and part.dtype.kind in "iu":
                _check_bounds(on_host.get(number, part), input._array.shape[dim], dim)
            dim += 0 if part is None else part.ndim if hasattr(part, "dtype") and part.dtype.kind == "b" else 1
    return tuple(parsed), kind


@composite(where="method", operators="__getitem__")
def getitem(input: Tensor, index: Any) -> Tensor:
    """``input[index]``: a view for integers and slices, a copy for tensors of indices or masks."""
    if type(index) is int:
        return select(input, 0, check_position(input, index, 0))
    parsed, kind = parse_index(input, index)
    return _basic(input, parsed) if kind == "slice" else _index(input, parsed)


@composite(where="method", operators="__setitem__")
def setitem(input: Tensor, index: Any, value: Any) -> None:
    """``input[index] = value``: a differentiable write."""
    parsed, kind = ((index,), "slice") if type(index) is int else parse_index(input, index)
    if not isinstance(value, Tensor):
        value = from_array(input.device.xp.asarray(np.asarray(value, input._array.dtype)), input.device)
    if kind != "index":
        check_writable("setitem", input)
        part = select(input, 0, check_position(input, index, 0)) if type(index) is int else _basic(input, parsed)
        surplus = value._array.ndim - part._array.ndim
        if surplus > 0 and value._array.shape[:surplus] == (1,) * surplus:
            value = value.reshape(value._array.shape[surplus:])
        part.copy_(value)
        return
    if value.dtype is not input.dtype or value.device is not input.device:
        value = value.to(input.device, input.dtype)
    apply_inplace(ROWS["_index_put"], input, (value, parsed), {})


@op(
    self=lambda xp, grad: xp.zeros_like(grad), other=lambda grad: grad, where="internal", cast=None,
    node="CopyBackwards",
)  # fmt: skip
def _copy(xp: Any, self: Array, other: Array) -> Array:
    """The values of ``other`` in the shape of ``self``."""
    return xp.array(xp.broadcast_to(other, self.shape))


@composite(where="method")
def copy_(input: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write the values of ``src``, broadcast, converted and moved as needed, into the tensor."""
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_(): argument 'src' must be Tensor, not {type(src).__name__}")
    return apply_inplace(ROWS["_copy"], input, (src.to(input.device, input.dtype),), {})


@op(
    self=lambda xp, grad: xp.zeros_like(grad), value=lambda xp, grad: xp.sum(grad), inplace=True, where="method",
    cast=None, node="FillBackward0", samples=[sample(real(3, 2), 1.5)],
)  # fmt: skip
def fill(xp: Any, self: Array, value: Array | Number) -> Array:
    """The shape of ``input`` filled with one value."""
    return xp.full_like(self, value)


@op(self=lambda xp, grad: xp.zeros_like(grad), inplace=True, where="method", node="ZeroBackward0")
def zero(xp: Any, self: Array) -> Array:
    """Zeros in the shape of ``input``."""
    return xp.zeros_like(self)


# ------------------------------------------------------------------------------------------------- gather and scatter


def _check_index(name: str, xp: Any, index: Any, length: int, dim: int) -> None:
    if index.size and bool(xp.any((index < 0) | (index >= length))):
        raise IndexError(f"{name}: index out of range: every index must be in [0, {length - 1}] for dimension {dim} of length {length}")


@op(
    self=lambda xp, grad, self_shape, dim, index: xp.scatter_along_axis(grad, self_shape, index, dim, True)
    if self_shape else grad,
    samples=[sample(real(3, 4), 1, integers(3, 2, high=4)), sample(real(3, 4), 0, integers(2, 4)), sample(real(4), 0, integers(5, high=4))],
)  # fmt: skip
def gather(xp: Any, self: Array, dim: int, index: Index) -> Array:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim=0``, and so on: one chosen element along ``dim`` per place."""
    if self.ndim != index.ndim:
        raise ShapeError(f"gather: input {tuple(self.shape)} and index {tuple(index.shape)} must have the same number of dimensions")
    if not self.ndim:
        return xp.array(self)
    _check_index("gather", xp, index, self.shape[dim], dim)
    dim = dim % self.ndim
    cut = tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))
    return xp.take_along_axis(self[cut], index, dim)


@op(
    self=lambda xp, grad, self_shape, dim, indices: xp.scatter_along_axis(grad, self_shape, indices, dim, True),
    where="internal", node="GatherBackward0",
)  # fmt: skip
def _take_along_dim(xp: Any, self: Array, indices: Index, dim: int) -> Array:
    """Elements chosen along ``dim``."""
    _check_index("take_along_dim", xp, indices, self.shape[dim], dim)
    return xp.take_along_axis(self, indices, dim)


@composite(samples=[sample(real(3, 4), integers(3, 2, high=4), 1), sample(real(3, 4), integers(2, 4), 0), sample(real(3, 4), integers(5, high=12))])
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Elements chosen along ``dim`` (of the flattened tensor without it) by indices of matching shape."""
    if dim is None:
        return _take_along_dim(input.reshape(-1), indices.reshape(-1), 0)
    dim = dim % input.ndim
    shapes = [[1 if d == dim else n for d, n in enumerate(x._array.shape)] for x in (input, indices)]
    common = list(np.broadcast_shapes(*map(tuple, shapes)))
    wide = [x.expand((*common[:dim], x._array.shape[dim], *common[dim + 1 :])) for x in (input, indices)]
    return _take_along_dim(*wide, dim)


@op(
    self=lambda xp, grad, dim, index: xp.put_along(grad, index, 0.0, dim),
    src=lambda xp, grad, dim, index: xp.take_along_axis(grad[_leading(index, dim)], index, dim),
    inplace=True,
    samples=[sample(real(3, 4), 1, integers(3, 1, high=4), real(3, 1)), sample(real(3, 4), 0, integers(1, 4), real(1, 4)),
             sample(real(3, 4), 1, integers(3, 1, high=4), 0.5)],
)  # fmt: skip
def scatter(xp: Any, self: Array, dim: int, index: Index, src: Array | Number) -> Array:
    """A copy of ``input`` with ``src`` written at ``index`` along ``dim``; repeated indices keep one of the values."""
    _check_index("scatter", xp, index, self.shape[dim], dim)
    if hasattr(src, "shape"):
        src = src[tuple(slice(n) for n in index.shape)]
    return xp.put_along(self, index, src, dim)


def _leading(index: Any, dim: int) -> tuple[slice, ...]:
    dim = dim % index.ndim
    return tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))


@op(
    self=lambda grad: grad,
    src=lambda xp, grad, dim, index, src_shape: xp.pad_to(xp.take_along_axis(grad[_leading(index, dim)], index, dim), src_shape),
    inplace=True,
    samples=[sample(real(3, 4), 1, integers(3, 5, high=4), real(3, 5)), sample(real(3, 4), 0, integers(2, 4), real(2, 4))],
)  # fmt: skip
def scatter_add(xp: Any, self: Array, dim: int, index: Index, src: Array) -> Array:
    """A copy of ``input`` with ``src`` added at ``index`` along ``dim``; repeated indices add up."""
    _check_index("scatter_add", xp, index, self.shape[dim], dim)
    out = xp.array(self)
    xp.scatter_add(out, xp.index_along_axis(index, dim % self.ndim), src[tuple(slice(n) for n in index.shape)])
    return out


@op(
    self=lambda xp, grad, self_shape, dim, index: xp.scatter_to_zeros(grad, self_shape, _at(dim, index, len(self_shape))),
    samples=[sample(real(3, 4), 1, integers(5, high=4)), sample(real(3, 4), 0, integers(2))],
)  # fmt: skip
def index_select(xp: Any, self: Array, dim: int, index: Index) -> Array:
    """The slices of ``input`` along ``dim`` that a vector of indices names."""
    if index.ndim > 1:
        raise IndexError(f"index_select: index is supposed to be a vector, got shape {tuple(index.shape)}")
    _check_index("index_select", xp, index, self.shape[dim], dim)
    return xp.take(self, xp.reshape(index, (-1,)), axis=dim)


def _at(dim: int, index: Any, ndim: int) -> tuple[Any, ...]:
    return (*(slice(None),) * (dim % ndim), index)


@composite(samples=[sample(real(3, 4), booleans(3, 4)), sample(real(3, 4), booleans(4))])
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, in one dimension."""
    shape = np.broadcast_shapes(input._array.shape, mask._array.shape)
    return input.expand(shape)[mask.expand(shape)]


@op(
    self=lambda xp, grad, mask: xp.where(mask, 0.0, grad),
    value=lambda xp, grad, mask: xp.sum(xp.where(mask, grad, 0.0)),
    inplace=True, samples=[sample(real(3, 4), booleans(3, 4), 0.5), sample(real(3, 4), booleans(4), -1), sample(real(3), booleans(3), real())],
)  # fmt: skip
def masked_fill(xp: Any, self: Array, mask: Mask, value: Array | Number) -> Array:
    """A copy with ``value`` where the mask holds."""
    return xp.where(mask, xp.asarray(value, dtype=self.dtype), self)


@composite(samples=[sample(integers(3, 2))])
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the non-zero elements, one row each, or with ``as_tuple`` one tensor per dimension."""
    xp = input.device.xp
    found = tuple(from_array(index, input.device) for index in xp.nonzero(input._array))
    if as_tuple:
        return found
    return from_array(xp.stack([f._array for f in found], axis=1), input.device)


# ------------------------------------------------------------------------------------------------- sorting


def _unsort(xp: Any, grad: Any, self_shape: Any, dim: int, indices: Any) -> Any:
    return xp.scatter_along_axis(grad, self_shape, indices, dim) if self_shape else grad


def _ordered(xp: Any, x: Any, dim: int, descending: bool) -> Any:
    """Return the stable order of elements along ``dim``; NaN counts as the largest."""
    if not descending:
        return xp.argsort(x, axis=dim, kind="stable")
    # Sorting the reversed sequence and reversing the result keeps equal elements in their order.
    order = xp.flip(xp.argsort(xp.flip(x, dim), axis=dim, kind="stable"), dim)
    return x.shape[dim] - 1 - order


@op(
    self=lambda xp, grad, self_shape, dim, indices: _unsort(xp, grad, self_shape, dim, indices), outputs="values indices",
    samples=[sample(distinct(3, 4)), sample(distinct(3, 4), 0, descending=True), sample(integers(6, high=3), stable=True)],
)  # fmt: skip
def sort(xp: Any, self: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Array:
    """The values along ``dim`` in order, and where they were; equal elements keep their order."""
    if not self.ndim:
        return xp.array(self), xp.zeros((), dtype=dtypes.int64.numpy)
    order = _ordered(xp, self, dim, descending)
    return xp.take_along_axis(self, order, dim), order


@op(samples=[sample(distinct(3, 4)), sample(distinct(3, 4), 0, descending=True)])
def argsort(xp: Any, self: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Array:
    """The indices that sort along ``dim``; equal elements keep their order."""
    return _ordered(xp, self, dim, descending) if self.ndim else xp.zeros((), dtype=dtypes.int64.numpy)


@op(
    self=lambda xp, grad, self_shape, dim, indices: _unsort(xp, grad, self_shape, dim, indices), outputs="values indices",
    samples=[sample(distinct(3, 4), 2), sample(distinct(3, 4), 1, 0, largest=False), sample(distinct(5), 5)],
)  # fmt: skip
def topk(xp: Any, self: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Array:
    """The ``k`` largest (or smallest) values along ``dim``, in order, and where they were."""
    if not self.ndim:
        return xp.array(self), xp.zeros((), dtype=dtypes.int64.numpy)
    if not 0 <= k <= self.shape[dim]:
        raise RuntimeError(f"topk: selected index k out of range: k={k}, dimension {dim} has length {self.shape[dim]}")
    order = xp.take(_ordered(xp, self, dim, largest), xp.arange(k), axis=dim)
    return xp.take_along_axis(self, order, dim), order


@composite(samples=[sample(integers(4, high=5)), sample(integers(2, 3, high=3), 6)], where="functional")
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A row of ``num_classes`` zeros with a one at the class, for every element of an integer tensor.

    >>> torch.nn.functional.one_hot(torch.tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    array, xp = tensor._array, tensor.device.xp
    if array.dtype != dtypes.int64.numpy:
        raise RuntimeError(f"one_hot is only applicable to index tensor of type int64, not {tensor.dtype}; convert with .long()")
    largest = int(array.max()) if array.size else -1
    if array.size and int(array.min()) < 0:
        raise RuntimeError(f"one_hot: class values must be non-negative, got {int(array.min())}")
    if num_classes == -1:
        num_classes = largest + 1
    if largest >= num_classes:
        raise RuntimeError(f"one_hot: class values must be smaller than num_classes={num_classes}, got {largest}")
    classes = xp.arange(num_classes)
    return from_array(xp.astype(xp.expand_dims(array, -1) == classes, dtypes.int64.numpy), tensor.device)
