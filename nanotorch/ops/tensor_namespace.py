"""The ``xp`` of recorded backwards: the array functions that formulas use, over Tensors.

Rows are written with NumPy's names (``xp.sum(x, axis=..., keepdims=...)``). This module gives those names to op rows,
so the same formula that maps arrays to arrays maps Tensors to Tensors, and what it does is recorded in its turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import Device
from nanotorch.ops.create import convert
from nanotorch.ops.elementwise import activation, extrema, transcendental
from nanotorch.ops.elementwise import arithmetic as elementwise
from nanotorch.ops.elementwise.activation import sigmoid
from nanotorch.ops.elementwise.arithmetic import sqrt, square
from nanotorch.ops.elementwise.comparison import isfinite
from nanotorch.ops.elementwise.rounding import floor, sign
from nanotorch.ops.elementwise.special import erf, polygamma
from nanotorch.ops.elementwise.transcendental import (
    cos,
    cosh,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    sin,
    sinh,
    tan,
    tanh,
)
from nanotorch.ops.index import gather, index, scatter
from nanotorch.ops.index.gather import _take_along_dim
from nanotorch.ops.linalg.determinant import linalg_det as det
from nanotorch.ops.linalg.einsum import einsum
from nanotorch.ops.linalg.products import matmul
from nanotorch.ops.linalg.solve import _solve as solve
from nanotorch.ops.linalg.solve import linalg_inv as inv
from nanotorch.ops.nn.windows import from_windows, windows
from nanotorch.ops.reduce import reductions as reduce
from nanotorch.ops.reduce import scan
from nanotorch.ops.rows import row, runtime
from nanotorch.ops.rows.row import Array, Index
from nanotorch.ops.shape import join, split
from nanotorch.ops.shape import views as shape
from nanotorch.ops.shape.rearrange import flip, roll, tril, triu

__all__ = [
    "absolute",
    "all_in_range",
    "amax",
    "any",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "astype",
    "batch_first",
    "batch_last",
    "broadcast_to",
    "column_sums",
    "concatenate",
    "cos",
    "cosh",
    "cumprod",
    "cumsum",
    "det",
    "diagonal",
    "diagonal_to_zeros",
    "einsum",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "flip",
    "floor",
    "floor_divide",
    "from_windows",
    "gather_strided",
    "inv",
    "isfinite",
    "log",
    "log1p",
    "log2",
    "log10",
    "matmul",
    "maximum",
    "minimum",
    "moveaxis",
    "one_hot",
    "ones_like",
    "pad_to",
    "pick",
    "pieces",
    "polygamma",
    "prod",
    "put",
    "put_along",
    "reshape",
    "roll",
    "row_sums",
    "scaled_cumsum",
    "scatter_along_axis",
    "scatter_reduce",
    "scatter_strided",
    "scatter_to_zeros",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "softplus",
    "solve",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "sum",
    "swapaxes",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "transpose",
    "tril",
    "triu",
    "trunc_divide",
    "where",
    "windows",
    "zero_where",
    "zeros_like",
]

absolute = elementwise.abs
arccos, arcsin, arctan, arctan2 = transcendental.acos, transcendental.asin, transcendental.atan, transcendental.atan2


def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over axes."""
    return x if axis == () else reduce.sum(x, axis, keepdims)


def amax(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Maximum over axes."""
    return reduce.amax(x, () if axis is None else axis, keepdims)


def any(x: Tensor) -> Tensor:
    """Whether any element is non-zero."""
    return reduce.any(x)


def prod(x: Tensor, axis: int) -> Tensor:
    """Product along an axis."""
    return reduce.prod(x, axis)


def cumsum(x: Tensor, axis: int) -> Tensor:
    """Running sum along an axis."""
    return scan.cumsum(x, axis)


def cumprod(x: Tensor, axis: int) -> Tensor:
    """Running product along an axis."""
    return scan.cumprod(x, axis)


def scaled_cumsum(weights: Tensor, inner: Tensor, outer: Tensor, axis: int) -> Tensor:
    """``cumsum(weights * exp(inner)) * exp(outer)`` along an axis."""
    return scan._scaled_cumsum(weights, inner, outer, axis)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """Elements of x where the condition holds, of y elsewhere."""
    if not isinstance(condition, Tensor):
        reference = x if isinstance(x, Tensor) else y
        condition = from_array(reference.device.xp.asarray(condition), reference.device)
    return extrema._where(condition, x, y)


def floor_divide(x: Tensor, y: Any) -> Tensor:
    """The quotient rounded down, with zero derivatives."""
    return elementwise._div_rounded(x, y, "floor")


def trunc_divide(x: Tensor, y: Any) -> Tensor:
    """The quotient rounded towards zero, with zero derivatives."""
    return elementwise._div_rounded(x, y, "trunc")


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return activation.softplus(x, 1.0, math.inf)


def zero_where(x: Tensor, mask: Tensor) -> Tensor:
    """A copy with zeros where the mask holds."""
    return extrema._where(mask, 0.0, x)


def column_sums(x: Tensor) -> Tensor:
    """Sums over the rows of a matrix."""
    return reduce.sum(x, 0)


def row_sums(x: Tensor) -> Tensor:
    """Sums over the columns of a matrix, as a column."""
    return reduce.sum(x, 1, True)


def maximum(x: Tensor, y: Any) -> Tensor:
    """The larger of two elements."""
    return extrema.maximum(x, y) if isinstance(y, Tensor) else extrema.clamp(x, min=y)


def minimum(x: Tensor, y: Any) -> Tensor:
    """The smaller of two elements."""
    return extrema.minimum(x, y) if isinstance(y, Tensor) else extrema.clamp(x, max=y)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape."""
    return x.reshape(shape)


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Dimensions in another order, reversed by default."""
    return shape.permute(x, tuple(range(x.ndim))[::-1] if axes is None else tuple(axes))


def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """Two dimensions swapped."""
    return shape.transpose(x, axis1, axis2)


def moveaxis(x: Tensor, source: int, destination: int) -> Tensor:
    """One dimension moved to another place."""
    order = [d for d in range(x.ndim) if d != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return shape.permute(x, order)


def batch_last(x: Tensor) -> Tensor:
    """The first dimension moved to the end."""
    return moveaxis(x, 0, -1)


def batch_first(x: Tensor) -> Tensor:
    """The last dimension moved to the front."""
    return moveaxis(x, -1, 0)


def expand_dims(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    """Dimensions of length 1 inserted."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = x.ndim + len(axes)
    for position in sorted(a % ndim for a in axes):
        x = shape.unsqueeze(x, position)
    return x


def squeeze(x: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """Dimensions of length 1 removed."""
    return shape.squeeze(x, axis)


def broadcast_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The tensor repeated to a larger shape."""
    return shape.expand(x, tuple(size))


def diagonal(x: Tensor, offset: int, axis1: int, axis2: int) -> Tensor:
    """A diagonal as the last dimension."""
    return shape.diagonal(x, offset, axis1, axis2)


def concatenate(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors joined along an existing dimension."""
    return join.cat(parts, axis)


def stack(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors joined along a new dimension."""
    return join.stack(parts, axis)


def astype(x: Tensor, dtype: Any) -> Tensor:
    """The tensor with another dtype."""
    return convert.to_dtype(x, dtype if isinstance(dtype, dtypes.DType) else dtypes.from_numpy_dtype(dtype))


def zeros_like(x: Tensor) -> Tensor:
    """Zeros in the shape of a tensor."""
    return from_array(x.device.xp.zeros_like(x._array), x.device)


def ones_like(x: Tensor) -> Tensor:
    """Ones in the shape of a tensor."""
    return from_array(x.device.xp.ones_like(x._array), x.device)


def take(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """The slices that a vector of indices names."""
    return gather.index_select(x, axis, indices)


def take_along_axis(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """One chosen element along an axis per place."""
    return _take_along_dim(x, indices, axis)


def all_in_range(x: Tensor, length: int) -> bool | None:
    """Whether all indices are in [0, length)."""
    return x.device.xp.all_in_range(x._array, length)


def pick(x: Tensor, columns: Tensor) -> Tensor:
    """One element of every row, in the columns that the indices name."""
    return gather.gather(x, 1, columns[:, None])[:, 0]


def pieces(x: Tensor, sizes: Sequence[int], axis: int) -> Any:
    """Consecutive pieces of these lengths along an axis."""
    return split.split_with_sizes(x, tuple(sizes), axis)


def one_hot(x: Tensor, classes: int, dtype: Any) -> Tensor:
    """Rows with a one at each index."""
    return from_array(x.device.xp.one_hot(x._array, classes, _numpy_dtype(dtype)), x.device)


def _raw(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_raw(part) for part in value)
    return value._array if isinstance(value, Tensor) else value


@row.op(
    self=lambda xp, grad, self_shape, stride, offset: xp.scatter_strided(grad, self_shape[0], stride, offset),
    where="internal",
    node="AsStridedBackward0",
)
def _gather_strided(xp: Any, self: Array, size: Any, stride: tuple[int, ...], offset: int) -> Any:
    """The elements of a vector where a geometry sees them in a memory."""
    return xp.array(xp.gather_strided(self, size, stride, offset))


def gather_strided(x: Tensor, size: Sequence[int], stride: tuple[int, ...], offset: int) -> Tensor:
    """The elements of a vector where a geometry sees them in a memory."""
    return _gather_strided(x, tuple(size), stride, offset)


@row.op(
    self=lambda xp, grad, self_shape, stride, offset: xp.gather_strided(grad, self_shape, stride, offset),
    where="internal",
    node="AsStridedScatterBackward0",
)
def _scatter_strided(xp: Any, self: Array, length: int, stride: tuple[int, ...], offset: int) -> Any:
    """A vector of zeros with values added where a geometry puts them."""
    return xp.scatter_strided(self, length, stride, offset)


def scatter_strided(x: Tensor, length: int, stride: tuple[int, ...], offset: int) -> Tensor:
    """A vector of zeros with values added where a geometry puts them."""
    return _scatter_strided(x, length, stride, offset)


@row.op(self=lambda grad, position: grad[position], where="internal", node="IndexBackward0")
def _scatter_to_zeros(xp: Any, self: Array, size: Any, position: Any) -> Any:
    """Zeros with values added at an index."""
    return xp.scatter_to_zeros(self, size, position)


def scatter_to_zeros(values: Tensor, size: Sequence[int], position: Any) -> Tensor:
    """Zeros of a shape with values added at an index."""
    return _scatter_to_zeros(values, tuple(size), _raw(position))


@row.op(
    self=lambda xp, grad, position, axis: xp.take_along_axis(grad[_corner(position, axis)], position, axis),
    where="internal",
    node="ScatterBackward0",
)
def _scatter_along_axis(xp: Any, self: Array, size: Any, position: Index, axis: int, accumulate: bool) -> Any:
    """Zeros with values at indices along an axis."""
    return xp.scatter_along_axis(self, size, position, axis, accumulate)


def _corner(position: Any, axis: int) -> tuple[slice, ...]:
    axis = axis % position.ndim
    return tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(position.shape))


def scatter_along_axis(
    values: Tensor, size: Sequence[int], indices: Tensor, axis: int, accumulate: bool = False
) -> Tensor:
    """Zeros of a shape with values at indices along an axis."""
    return _scatter_along_axis(values, tuple(size), indices, axis, accumulate)


@row.op(
    self=lambda xp, grad, offset, axis1, axis2: xp.diagonal(grad, offset, axis1, axis2),
    where="internal",
    node="DiagonalBackward0",
)
def _diagonal_to_zeros(xp: Any, self: Array, size: Any, offset: int, axis1: int, axis2: int) -> Any:
    """Zeros with values on a diagonal."""
    return xp.diagonal_to_zeros(self, size, offset, axis1, axis2)


def diagonal_to_zeros(values: Tensor, size: Sequence[int], offset: int, axis1: int, axis2: int) -> Tensor:
    """Zeros of a shape with values on a diagonal."""
    return _diagonal_to_zeros(values, tuple(size), offset, axis1, axis2)


def scatter_reduce(x: Tensor, dim: int, indices: Tensor, values: Tensor, reduce: str, include_self: bool) -> Tensor:
    """A copy in which the values that go to one place are combined."""
    return scatter.scatter_reduce(x, dim, indices, values, reduce, include_self=include_self)


def put(x: Tensor, position: Any, values: Tensor) -> Tensor:
    """A copy with ``copy[position] = values``."""
    return index._index_put(x, values.to(x.device, x.dtype), _raw(position))


def put_along(x: Tensor, indices: Tensor, values: Any, axis: int) -> Tensor:
    """A copy with values at indices along an axis."""
    return scatter.scatter(x, axis, indices, values)


@row.op(self=lambda grad, self_shape: grad[tuple(slice(n) for n in self_shape)], where="internal", node="PadBackward0")
def _pad_to(xp: Any, self: Array, size: Any) -> Any:
    """Zeros with the tensor in the first corner."""
    return xp.pad_to(self, size)


def pad_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Zeros of a shape with the tensor in the corner of the first elements."""
    return _pad_to(x, tuple(size))


class TensorNamespace:
    """The functions of this module, with those that make tensors bound to a device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        for name in __all__:
            setattr(self, name, globals()[name])

    def _make(self, array: Any) -> Tensor:
        return from_array(array, self.device)

    def zeros(self, size: Sequence[int], dtype: Any) -> Tensor:
        """Zeros of a shape."""
        return self._make(self.device.xp.zeros(size, dtype=_numpy_dtype(dtype)))

    def ones(self, size: Sequence[int], dtype: Any) -> Tensor:
        """Ones of a shape."""
        return self._make(self.device.xp.ones(size, dtype=_numpy_dtype(dtype)))

    def eye(self, n: int, dtype: Any) -> Tensor:
        """The identity matrix."""
        return self._make(self.device.xp.eye(n, dtype=_numpy_dtype(dtype)))

    def arange(self, n: int) -> Tensor:
        """The numbers 0 to n - 1."""
        return self._make(self.device.xp.arange(n))


def _numpy_dtype(dtype: Any) -> Any:
    return dtype.numpy if isinstance(dtype, dtypes.DType) else dtype


_namespaces: dict[Device, TensorNamespace] = {}


def namespace(device: Device) -> TensorNamespace:
    """Return the op namespace of a device."""
    if device not in _namespaces:
        _namespaces[device] = TensorNamespace(device)
    return _namespaces[device]


runtime.TENSORS.append(namespace)
