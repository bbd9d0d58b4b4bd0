"""Writing at positions that tensors of indices or masks name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import DtypeError, ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.index.gather import at, check_index, check_sizes, count_of, gathered, lifted
from nanotorch.ops.index.index import one_value
from nanotorch.ops.rows.dims import wrap_dim
from nanotorch.ops.rows.inplace import apply_inplace
from nanotorch.ops.rows.row import ROWS, Array, Fitting, Index, Mask, composite, op
from nanotorch.ops.rows.runtime import need_number
from nanotorch.ops.rows.sample import booleans, edge, integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.ops.shape.views import common_shape

# ------------------------------------------------------------------------------------------------- scatter along a
# dimension


def _cleared(xp: Any, grad: Any, dim: int, index: Any) -> Any:
    """Return a gradient with zeros where a scatter wrote."""
    if 0 in tuple(index.shape):
        return grad
    wide = lifted(xp, grad)
    return xp.reshape(xp.put_along(wide, lifted(xp, index), 0.0, dim % wide.ndim), tuple(grad.shape))


def _of_source(xp: Any, grad: Any, dim: int, index: Any, src_shape: tuple[int, ...]) -> Any:
    """Return the gradient at the places written, padded with zeros to the source, of which the index may use a part."""
    if 0 in tuple(index.shape):
        return xp.zeros(tuple(src_shape), dtype=grad.dtype)
    found = gathered(xp, grad, dim, index)
    return xp.pad_to(lifted(xp, found), tuple(src_shape)) if src_shape else xp.reshape(found, ())


@op(
    self=lambda xp, grad, dim, index: _cleared(xp, grad, dim, index),
    src=lambda xp, grad, dim, index, src_shape: _of_source(xp, grad, dim, index, src_shape),
    where="internal",
    node="ScatterBackward0",
)
def _scatter(xp: Any, self: Array, dim: int, index: Index, src: Array) -> Array:
    """A copy with values written along a dimension."""
    return _scattered(xp, self, dim, index, src)


@op(self=lambda xp, grad, dim, index: _cleared(xp, grad, dim, index), where="internal", node="ScatterBackward1")
def _scatter_value(xp: Any, self: Array, dim: int, index: Index, value: Any) -> Array:
    """A copy with one value written along a dimension."""
    return _scattered(xp, self, dim, index, value)


def _scattered(xp: Any, self: Any, dim: int, index: Any, src: Any) -> Any:
    many = hasattr(src, "shape")
    dim = check_sizes("scatter", self, dim, index, src if many else None)
    if not index.size:
        return xp.array(self)
    wide, places = lifted(xp, self), lifted(xp, index)
    check_index("scatter", xp, places, wide.shape[dim], dim)
    values = lifted(xp, src)[tuple(slice(n) for n in places.shape)] if many else src
    return xp.reshape(xp.put_along(wide, places, values, dim), self.shape)


def _scatter_call(
    input: Tensor, dim: int, index: Tensor, src: Any, value: Any, reduce: str | None
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the row that a call of scatter means, and its arguments."""
    if src is None and value is not None:
        src = need_number("scatter", "value", value)
    if src is None:
        raise TypeError("scatter(): missing the values to write: src, or a number as value")
    if not isinstance(src, Tensor):
        src = need_number("scatter", "src", src)
        src = dtypes.wrapped("scatter", src, input.dtype)
    if reduce is None:
        return ROWS["_scatter" if isinstance(src, Tensor) else "_scatter_value"], (dim, index, src), {}
    if reduce not in ("add", "multiply"):
        raise RuntimeError(
            f"scatter: reduce argument must be either add or multiply, got {reduce!r}; see scatter_reduce for more"
        )
    if not isinstance(src, Tensor):
        src = from_array(input.device.xp.full(index.shape, src, input.dtype.numpy), input.device)
    return ROWS["scatter_reduce"], (dim, index, src, "sum" if reduce == "add" else "prod"), {}


@composite(
    samples=[
        sample(real(3, 4), 1, integers(3, 1, high=4), real(3, 1)),
        sample(real(3, 4), 0, integers(1, 4), real(1, 4)),
        sample(real(3, 4), 1, integers(3, 1, high=4), 0.5),
        sample(real(), 0, integers(high=1), real()),
        sample(real(3, 4), 1, integers(0, 2), 1.0),
        sample(real(3, 4), -1, integers(2, 1, high=4), value=2.0),
    ]
)
def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """A copy of `input` with `src` written at `index` along `dim`; repeated indices keep one of the values.

    Args:
        input: the tensor to copy.
        dim: the dimension along which the indices count.
        index: positions, at most as many as `src` has elements in every dimension.
        src: the values, or a number.
        value: a number, in place of `src`.
        reduce: "add" or "multiply" combines the values with those there instead of replacing them.
    """
    row, args, kwargs = _scatter_call(input, dim, index, src, value, reduce)
    return row.function(input, *args, **kwargs)


@TENSOR.define("put_along")
def _put_along(x: Tensor, indices: Tensor, values: Any, axis: int) -> Tensor:
    return scatter(x, axis, indices, values)


@op(
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


@TENSOR.define("scatter_along_axis")
def _along_axis(x: Tensor, shape: Sequence[int], indices: Tensor, axis: int, accumulate: bool = False) -> Tensor:
    return _scatter_along_axis(x, tuple(shape), indices, axis, accumulate)


@composite(where="method")
def scatter_(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """In-place version of `scatter`."""
    row, args, kwargs = _scatter_call(input, dim, index, src, value, reduce)
    return apply_inplace(row, input, args, kwargs, "scatter_")


@op(
    self=lambda grad: grad,
    src=lambda xp, grad, dim, index, src_shape: _of_source(xp, grad, dim, index, src_shape),
    inplace=True,
    samples=[
        sample(real(3, 4), 1, integers(3, 5, high=4), real(3, 5)),
        sample(real(3, 4), 0, integers(2, 4), real(2, 4)),
        sample(real(), 0, integers(high=1), real()),
        sample(real(2, 3), 1, integers(0, 3), real(0, 3)),
    ],
)
def scatter_add(xp: Any, self: Array, dim: int, index: Index, src: Array) -> Array:
    """A copy of `input` with `src` added at `index` along `dim`; repeated indices add up."""
    dim = check_sizes("scatter_add", self, dim, index, src)
    if not index.size:
        return xp.array(self)
    check_index("scatter_add", xp, index, (self.shape or (1,))[dim], dim)
    return xp.scatter_reduce(self, dim, index, src, "sum", True)


# ------------------------------------------------------------------------------------------------- scatter_reduce


def _shares(xp: Any, reduce: str, dim: int, self: Any, index: Any, src: Any, include_self: bool, result: Any) -> Any:
    """Return by how many elements each gradient is shared: all that were averaged, or all that are the extremum."""
    axis, shape, places = dim % (self.ndim or 1), tuple(self.shape) or (1,), lifted(xp, index)
    if reduce == "mean":
        ours = xp.ones_like(self) if include_self else xp.zeros_like(self)
        theirs = xp.ones(tuple(places.shape), dtype=self.dtype)
    else:
        ours = xp.astype(self == result, self.dtype)
        theirs = xp.astype(_matching(xp, src, index) == lifted(xp, gathered(xp, result, dim, index)), self.dtype)
    counts = ours + xp.reshape(xp.scatter_along_axis(theirs, shape, places, axis, True), tuple(self.shape))
    return xp.where(counts == 0, 1.0, counts)


def _matching(xp: Any, src: Any, index: Any) -> Any:
    """Return the part of a source that the index uses."""
    return lifted(xp, src)[tuple(slice(n) for n in index.shape or (1,))]


def _reduced_self(
    xp: Any, grad: Any, self: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool, result: Any
) -> Any:
    if not index.size:
        return grad
    if reduce == "sum":
        found = grad
    elif reduce == "prod":
        masked = xp.where(self == 0, 1.0, self)
        found = grad * xp.scatter_reduce(masked, dim, index, src, reduce, include_self) / masked
    else:
        found = grad / _shares(xp, reduce, dim, self, index, src, include_self, result)
        if reduce != "mean":
            found = xp.where(self == result, found, 0.0)
    return found if include_self else _cleared(xp, found, dim, index)


def _reduced_src(
    xp: Any, grad: Any, self: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool, result: Any
) -> Any:
    if not index.size:
        return xp.zeros_like(src)
    used, size = xp.reshape(_matching(xp, src, index), tuple(index.shape)), tuple(src.shape)
    if reduce == "sum":
        found = gathered(xp, grad, dim, index)
    elif reduce == "prod":
        # One zero among the factors of an element: its gradient is the product of the others. Two: all gradients are
        # zero.
        zero = used == 0
        axis, shape, places = dim % (self.ndim or 1), tuple(self.shape) or (1,), lifted(xp, index)
        zeros = xp.scatter_along_axis(lifted(xp, xp.astype(zero, used.dtype)), shape, places, axis, True)
        single = zero & (gathered(xp, xp.reshape(zeros, tuple(self.shape)), dim, index) == 1)
        others = xp.scatter_reduce(self, dim, index, xp.where(single, 1.0, used), reduce, include_self)
        quotient = gathered(xp, grad * result, dim, index) / xp.where(zero, 1.0, used)
        found = xp.where(single, gathered(xp, grad * others, dim, index), quotient)
    else:
        found = gathered(xp, grad / _shares(xp, reduce, dim, self, index, src, include_self, result), dim, index)
        if reduce != "mean":
            found = xp.where(used == gathered(xp, result, dim, index), found, 0.0)
    return xp.pad_to(lifted(xp, found), size) if size else xp.reshape(found, ())


REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


@op(
    self=lambda xp, grad, self, dim, index, src, reduce, include_self, result: _reduced_self(
        xp, grad, self, dim, index, src, reduce, include_self, result
    ),
    src=lambda xp, grad, self, dim, index, src, reduce, include_self, result: _reduced_src(
        xp, grad, self, dim, index, src, reduce, include_self, result
    ),
    inplace=True,
    samples=[
        *[
            sample(real(3, 4), 1, integers(3, 5, high=4), real(3, 5), kind, include_self=included)
            for kind in REDUCTIONS
            for included in (True, False)
        ],
        sample(real(4, 3), 0, integers(2, 3), real(2, 3), "mean"),
        sample(real(), 0, integers(high=1), real(), "prod"),
        *[
            sample(
                edge([1.0, 0.0, 2.0, 0.0]),
                0,
                integers(7, high=4),
                edge([0.0, 3.0, 1.0, 2.0, 0.0, 0.0, 2.0]),
                kind,
                include_self=included,
            )
            for kind in ("prod", "amax", "amin")
            for included in (True, False)
        ],
        sample(real(2, 3), 1, integers(0, 3), real(0, 3), "sum"),
    ],
)
def scatter_reduce(
    xp: Any, self: Array, dim: int, index: Index, src: Array, reduce: str, *, include_self: bool = True
) -> Array:
    """A copy of `input` in which the values of `src` that go to one place along `dim` are combined.

    Args:
        xp: the array functions.
        self: the tensor to copy.
        dim: the dimension along which the indices count.
        index: where the values go; may be smaller than `src`.
        src: the values.
        reduce: "sum", "prod", "mean", "amax" or "amin".
        include_self: whether the element that is there takes part; without it, places that no index names keep theirs.
    """
    if reduce not in REDUCTIONS:
        raise RuntimeError(
            f"scatter_reduce: reduce argument must be either sum, prod, mean, amax or amin, got {reduce}"
        )
    dim = check_sizes("scatter_reduce", self, dim, index, src)
    if not index.size:
        return xp.array(self)
    check_index("scatter_reduce", xp, index, (self.shape or (1,))[dim], dim)
    return xp.scatter_reduce(self, dim, index, src, reduce, include_self)


@TENSOR.define("scatter_reduce")
def _combined(x: Tensor, axis: int, indices: Tensor, values: Tensor, reduce: str, include_self: bool) -> Tensor:
    return scatter_reduce(x, axis, indices, values, reduce, include_self=include_self)


# ------------------------------------------------------------------------------------------------- slices along a
# dimension


def _slices(xp: Any, grad: Any, dim: int, index: Any, source_shape: tuple[int, ...]) -> Any:
    """Return the slices of a gradient that were written, in the shape of the source."""
    return xp.reshape(xp.take(lifted(xp, grad), xp.reshape(index, (-1,)), axis=dim), tuple(source_shape))


def _check_source(name: str, xp: Any, self: Any, dim: int, index: Any, source: Any) -> int:
    """Return `dim` from the front; raise where index and source do not fit."""
    if index.ndim > 1:
        raise IndexError(f"{name}: index is supposed to be a vector, got shape {tuple(index.shape)}")
    dim = wrap_dim(name, dim, self.ndim)
    wanted = list(self.shape)
    if wanted:
        wanted[dim] = index.size
    if list(source.shape or (1,)) != (wanted or [index.size]) and not (source.ndim == 0 and wanted == [1]):
        raise ShapeError(
            f"{name}: source tensor shape must match self tensor shape, excluding the specified dimension, where it"
            f" must have the number of indices: input {list(self.shape)}, dim {dim}, {index.size} indices, source"
            f" {list(source.shape)}"
        )
    check_index(name, xp, index, (self.shape or (1,))[dim], dim)
    return dim


@op(
    self=lambda grad: grad,
    source=lambda xp, grad, dim, index, source_shape, alpha: _slices(xp, grad, dim, index, source_shape) * alpha,
    inplace=True,
    samples=[
        sample(real(3, 4), 1, integers(5, high=4), real(3, 5)),
        sample(real(3, 4), 0, integers(2), real(2, 4), alpha=0.5),
        sample(real(3), -1, integers(4), real(4), alpha=2),
        sample(real(), 0, integers(high=1), real()),
        sample(real(3, 0), 0, integers(2), real(2, 0)),
    ],
)
def index_add(xp: Any, self: Array, dim: int, index: Index, source: Array, *, alpha: float = 1) -> Array:
    """A copy of `input` with `alpha` times the slices of `source` added
    to those along `dim` that a vector names.
    """
    dim = _check_source("index_add", xp, self, dim, index, source)
    wide, places = lifted(xp, self), xp.reshape(index, (-1,))
    added = lifted(xp, source) * xp.asarray(alpha, dtype=self.dtype)
    return xp.reshape(xp.add_at(wide, at(dim, places, wide.ndim), added), self.shape)


@op(
    self=lambda xp, grad, dim, index: _filled(xp, grad, dim, index, 0.0),
    source=lambda xp, grad, dim, index, source_shape: _slices(xp, grad, dim, index, source_shape),
    inplace=True,
    samples=[
        sample(real(3, 4), 1, integers(1, high=4), real(3, 1)),
        sample(real(3), 0, integers(1), real(1)),
        sample(real(), 0, integers(high=1), real()),
        sample(real(2, 3), 0, integers(0), real(0, 3)),
    ],
)
def index_copy(xp: Any, self: Array, dim: int, index: Index, source: Array) -> Array:
    """A copy of `input` with the slices along `dim` that a vector names replaced;
    repeated indices keep one of the slices.
    """
    dim = _check_source("index_copy", xp, self, dim, index, source)
    wide = lifted(xp, self)
    return xp.reshape(xp.put(wide, at(dim, xp.reshape(index, (-1,)), wide.ndim), lifted(xp, source)), self.shape)


def _filled(xp: Any, x: Any, dim: int, index: Any, value: float) -> Any:
    """Return a copy with a number in the slices that the index names."""
    wide = lifted(xp, x)
    number = xp.ones((), dtype=x.dtype) * value
    return xp.reshape(xp.put(wide, at(dim, xp.reshape(index, (-1,)), wide.ndim), number), tuple(x.shape))


@op(
    self=lambda xp, grad, dim, index: _filled(xp, grad, dim, index, 0.0),
    value=lambda xp, grad, dim, index: xp.sum(
        xp.where(_filled(xp, xp.zeros_like(grad), dim, index, 1.0) == 1, grad, 0.0)
    ),
    inplace=True,
    samples=[
        sample(real(3, 4), 1, integers(3, low=-4, high=4), 0.5),
        sample(real(3, 4), 0, integers(2), real()),
        sample(real(3), 0, integers(), -1),
        sample(real(), 0, integers(high=1), 2.0),
        sample(real(3, 4), 0, integers(0), 1.0),
    ],
)
def index_fill(xp: Any, self: Array, dim: int, index: Index, value: Array | Fitting) -> Array:
    """A copy of `input` with one value in the slices along `dim` that a vector names."""
    if index.ndim > 1:
        raise IndexError(f"index_fill: index is supposed to be a vector, got shape {tuple(index.shape)}")
    value = one_value("index_fill", value)
    dim = wrap_dim("index_fill", dim, self.ndim)
    wide = lifted(xp, self)
    check_index("index_fill", xp, index, wide.shape[dim], dim, True)
    number = xp.asarray(value, dtype=self.dtype)
    return xp.reshape(xp.put(wide, at(dim, xp.reshape(index, (-1,)), wide.ndim), number), self.shape)


def _reduce_slices(name: str, input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str) -> tuple[Any, ...]:
    """Check the arguments of index_reduce, and return those of `scatter_reduce` that mean the same."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"{name}: reduce argument must be either prod, mean, amax or amin, got {reduce}")
    for argument, value in (("index", index), ("source", source)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}(): argument '{argument}' must be Tensor, not {type(value).__name__}")
    if index.dtype.kind not in "iu":
        raise DtypeError(f"{name}(): argument 'index' must be a tensor of integers (int64), not {index.dtype}")
    dim = _check_source(name, input.device.xp, input._array, dim, index._array, source._array)
    places = (
        index.reshape([-1 if d == dim else 1 for d in range(max(source.ndim, 1))]) if source.ndim else index.reshape(())
    )
    return dim, places.expand(source.shape), source, reduce


@composite(
    samples=[
        *[
            sample(real(3, 4), 1, integers(5, high=4), real(3, 5), kind, include_self=included)
            for kind in ("prod", "mean", "amax", "amin")
            for included in (True, False)
        ],
        sample(real(3, 4), 0, integers(2), real(2, 4), "mean"),
        sample(real(3), -1, integers(4), real(4), "prod"),
        sample(real(3, 0), 0, integers(2), real(2, 0), "amax"),
        sample(edge([1.0, 0.0, 2.0]), 0, integers(5), edge([0.0, 3.0, 1.0, 0.0, 2.0]), "prod"),
    ]
)
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """A copy of `input` in which the slices of `source` that go to one place along `dim` are combined.

    Args:
        input: the tensor to copy.
        dim: the dimension along which the indices count.
        index: a vector that says where each slice goes.
        source: the slices.
        reduce: "prod", "mean", "amax" or "amin".
        include_self: whether the slice that is there takes part.
    """
    return scatter_reduce(
        input, *_reduce_slices("index_reduce", input, dim, index, source, reduce), include_self=include_self
    )


@composite(where="method")
def index_reduce_(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """In-place version of `index_reduce`."""
    arguments = _reduce_slices("index_reduce_", input, dim, index, source, reduce)
    return apply_inplace(ROWS["scatter_reduce"], input, arguments, {"include_self": include_self}, "index_reduce_")


# ------------------------------------------------------------------------------------------------- flat positions and
# masks


@op(
    self=lambda xp, grad, index, accumulate: (
        grad
        if accumulate
        else xp.reshape(
            xp.put(xp.reshape(grad, (-1,)), (index,), xp.zeros(tuple(index.shape), dtype=grad.dtype)), tuple(grad.shape)
        )
    ),
    source=lambda xp, grad, index, source_shape: xp.reshape(xp.reshape(grad, (-1,))[index], tuple(source_shape)),
    inplace=True,
    samples=[
        sample(real(3, 4), integers(1, low=-12, high=12), real(1)),
        sample(real(3), integers(5), real(5), True),
        sample(real(2, 2), integers(2, 2, high=4), real(4), True),
    ],
)
def put(xp: Any, self: Array, index: Index, source: Array, accumulate: bool = False) -> Array:
    """A copy of `input` with the elements of `source` at indices into the flattened tensor,
    added up with `accumulate`.
    """
    if index.size != source.size:
        raise ShapeError(
            f"put: expected source and index to have the same number of elements, but got {source.size} and"
            f" {index.size}"
        )
    check_index("put", xp, index, self.size, 0, True)
    flat, values = xp.reshape(self, (-1,)), xp.reshape(source, index.shape)
    flat = xp.add_at(flat, (index,), values) if accumulate else xp.put(flat, index, values)
    return xp.reshape(flat, self.shape)


@op(
    self=lambda xp, grad, mask: xp.where(mask, 0.0, grad),
    value=lambda xp, grad, mask: xp.sum(xp.where(mask, grad, 0.0)),
    inplace=True,
    widens=False,
    samples=[
        sample(real(3, 4), booleans(3, 4), 0.5),
        sample(real(3, 4), booleans(4), -1),
        sample(real(3), booleans(3), real()),
    ],
)
def masked_fill(xp: Any, self: Array, mask: Mask, value: Array | Fitting) -> Array:
    """A copy with `value` where the mask holds."""
    value = one_value("masked_fill", value)
    return xp.where(mask, xp.asarray(value, dtype=self.dtype), self)


def _order(xp: Any, mask: Any) -> Any:
    """Return which of the elements where the mask holds each one is, as a vector; 0 for the others."""
    flat = xp.reshape(mask, (-1,))
    return xp.where(flat, xp.cumsum(xp.astype(flat, np.int64), 0) - 1, 0)


def _to_source(xp: Any, values: Any, count: int, order: Any) -> Any:
    """Return the sums of the values that go to each element of a source, of which there may be none."""
    return xp.scatter_to_zeros(values, (max(count, 1),), order)[:count]


@op(
    self=lambda xp, grad, mask: xp.where(mask, 0.0, grad),
    source=lambda xp, grad, mask, source_shape: xp.reshape(
        _to_source(xp, xp.reshape(xp.where(mask, grad, 0.0), (-1,)), count_of(source_shape), _order(xp, mask)),
        tuple(source_shape),
    ),
    where="internal",
    node="MaskedScatterBackward0",
)
def _masked_scatter(xp: Any, self: Array, mask: Mask, source: Array) -> Array:
    """A copy with values from another tensor, in order, where the mask holds."""
    order = _order(xp, mask)
    if xp.holds((order < source.size) | ~xp.reshape(mask, (-1,))) is False:
        raise RuntimeError(
            "masked_scatter: Number of elements of source < number of ones in mask:"
            f" {source.size} < {int(xp.count_nonzero(mask))}"
        )
    if not source.size:
        return xp.array(self)
    return xp.where(mask, xp.reshape(xp.take(xp.reshape(source, (-1,)), order, axis=0), self.shape), self)


@composite(
    samples=[
        sample(real(3, 4), booleans(3, 4), real(12)),
        sample(real(3, 4), booleans(4), real(3, 5)),
        sample(real(4), booleans(2, 4), real(8)),
        sample(real(), booleans(), real(1)),
    ]
)
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of `input` (broadcast with the mask) with the elements of `source`,
    in their order, where the mask holds.
    """
    shape = common_shape("masked_scatter", input, mask)
    return _masked_scatter(input.expand(shape), mask.expand(shape), source)


@composite(where="method")
def masked_scatter_(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """In-place version of `masked_scatter`."""
    return apply_inplace(ROWS["_masked_scatter"], input, (mask.expand(input.shape), source), {})
