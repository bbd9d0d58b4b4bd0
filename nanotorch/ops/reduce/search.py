"""Order and search: sorting, ranks in sorted sequences, distinct elements, counts, places of non-zeros."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.create.creation import linspace
from nanotorch.ops.elementwise.arithmetic import not_implemented
from nanotorch.ops.rows.dims import whole, wrap_dim
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.runtime import widened
from nanotorch.ops.rows.sample import constant, distinct, edge, integers, real, sample

# ------------------------------------------------------------------------------------------------- order


def _unsort(xp: Any, grad: Any, self_shape: Any, dim: int, indices: Any) -> Any:
    return xp.scatter_along_axis(grad, self_shape, indices, dim) if self_shape else grad


def _ordered(xp: Any, x: Any, dim: int, descending: bool) -> Any:
    """Return the stable order of elements along `dim`; NaN counts as the largest."""
    if not descending:
        return xp.argsort(x, axis=dim, kind="stable")
    # Sorting the reversed sequence and reversing the result keeps equal elements in their order.
    order = xp.flip(xp.argsort(xp.flip(x, dim), axis=dim, kind="stable"), dim)
    return x.shape[dim] - 1 - order


@op(
    self=lambda xp, grad, self_shape, dim, indices: _unsort(xp, grad, self_shape, dim, indices),
    outputs="values indices",
    samples=[
        sample(distinct(3, 4)),
        sample(distinct(3, 4), 0, descending=True),
        sample(integers(6, high=3), stable=True),
    ],
)
def sort(xp: Any, self: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Array:
    """The values along `dim` in order, and where they were; equal elements keep their order."""
    if not self.ndim:
        return xp.array(self), xp.zeros((), dtype=dtypes.int64.numpy)
    order = _ordered(xp, self, dim, descending)
    return xp.take_along_axis(self, order, dim), order


@op(samples=[sample(distinct(3, 4)), sample(distinct(3, 4), 0, descending=True)])
def argsort(xp: Any, self: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Array:
    """The indices that sort along `dim`; equal elements keep their order."""
    return _ordered(xp, self, dim, descending) if self.ndim else xp.zeros((), dtype=dtypes.int64.numpy)


@op(
    self=lambda xp, grad, self_shape, dim, indices: _unsort(xp, grad, self_shape, dim, indices),
    outputs="values indices",
    samples=[sample(distinct(3, 4), 2), sample(distinct(3, 4), 1, 0, largest=False), sample(distinct(5), 5)],
)
def topk(xp: Any, self: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Array:
    """The `k` largest (or smallest) values along `dim`, in order, and where they were."""
    length = self.shape[dim] if self.ndim else 1
    if not 0 <= whole("topk", "k", k) <= length:
        raise RuntimeError(f"topk: selected index k out of range: k={k}, dimension {dim} has length {length}")
    if not self.ndim:
        return xp.array(self), xp.zeros((), dtype=dtypes.int64.numpy)
    order = xp.take(_ordered(xp, self, dim, largest), xp.arange(k), axis=dim)
    return xp.take_along_axis(self, order, dim), order


def _counted_classes(numbers: Any, num_classes: int) -> int:
    """Return how many classes an array of the host counts for -1; raise where there are not so many."""
    if not numbers.size:
        raise RuntimeError(
            f"one_hot: cannot infer the number of classes from an empty tensor, and num_classes is {num_classes}"
        )
    smallest, largest = int(numbers.min()), int(numbers.max())
    if smallest < 0:
        raise RuntimeError(f"one_hot: class values must be non-negative, got {smallest}")
    if num_classes != -1 and largest >= num_classes:
        raise RuntimeError(f"one_hot: class values must be smaller than num_classes={num_classes}, got {largest}")
    return largest + 1


@composite(samples=[sample(integers(4, high=5)), sample(integers(2, 3, high=3), 6)], where="functional")
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A row of `num_classes` zeros with a one at the class, for every element of an integer tensor.

    >>> torch.nn.functional.one_hot(torch.tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    num_classes = whole("one_hot", "num_classes", num_classes)
    array, xp = tensor._array, tensor.device.xp
    if array.dtype != dtypes.int64.numpy:
        raise RuntimeError(
            f"one_hot is only applicable to index tensor of type int64, not {tensor.dtype}; convert with .long()"
        )
    if num_classes <= 0 or xp.holds((array >= 0) & (array < num_classes)) is False:
        num_classes = _counted_classes(xp.to_numpy(array), num_classes)
    classes = xp.arange(num_classes)
    return from_array(xp.astype(xp.expand_dims(array, -1) == classes, dtypes.int64.numpy), tensor.device)


@composite(samples=[sample(distinct(3, 4)), sample(distinct(4)), sample(real())])
def msort(input: Tensor) -> Tensor:
    """The values along dimension 0 in order."""
    return sort(input, 0, stable=True)[0]


# ------------------------------------------------------------------------------------------------- sorted sequences


def _ranks(name: str, sequence: Tensor, values: Any, out_int32: bool, right: bool) -> Tensor:
    """Return where values belong in sorted sequences: one for all, or one for every leading index of the values."""
    xp, device = sequence.device.xp, sequence.device
    if isinstance(values, Tensor):
        if values.device is not device:
            raise RuntimeError(
                f"{name}(): boundaries and input value tensors should have same device type, but got {device} and"
                f" {values.device}"
            )
        wanted = values._array
    else:
        wanted = xp.asarray(
            xp.full(
                (),
                values,
                sequence.dtype.numpy if not isinstance(values, float) or sequence.is_floating_point() else np.float64,
            )
        )
    order, side = sequence._array, "right" if right else "left"
    if order.ndim == 1:
        found = xp.searchsorted(order, wanted, side)
    else:
        lines = [
            xp.searchsorted(a, b, side)
            for a, b in zip(*(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) for x in (order, wanted)), strict=True)
        ]
        found = xp.stack(lines).reshape(wanted.shape) if lines else xp.zeros(wanted.shape, np.int64)
    return from_array(xp.asarray(found).astype(np.int32 if out_int32 else np.int64), device)


@composite(
    where="function",
    samples=[
        sample(edge([1.0, 2.0, 3.0]), edge([[2.0, 5.0], [0.0, np.nan]])),
        sample(edge([1.0, 2.0, 2.0]), 2.0, right=True),
        sample(edge([[1.0, 2.0], [4.0, 5.0]]), edge([[2.0], [5.0]]), side="right"),
        sample(edge([1.0, 2.0]), edge([1.5, 2.0]), out_int32=True),
        sample(integers(1, high=1), integers(3)),
        sample(constant(0), constant(2)),
        sample(constant(1), constant(0)),
    ],
)
def searchsorted(
    sorted_sequence: Tensor,
    input: Tensor | float,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """The indices in an ascending sequence before which the values of `input` belong:
    before equal elements, or behind with `right`.

    Args:
        sorted_sequence: a vector, or one sequence along the last dimension for every leading index of `input`.
        input: a tensor or a number.
        out_int32: return int32 instead of int64.
        right: the same as `side="right"`.
        side: "left" or "right".
        sorter: indices that sort `sorted_sequence`, where it is not sorted.
    """
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(
            "torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True"
        )
    shape, wanted = tuple(sorted_sequence.shape), tuple(input.shape) if isinstance(input, Tensor) else ()
    if len(shape) != 1 and (not wanted or shape[:-1] != wanted[:-1]):
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries"
            f" tensor and input value tensor must match, but we got boundaries tensor {list(shape)} and input value"
            f" tensor {list(wanted)}"
        )
    if sorter is not None:
        if tuple(sorter.shape) != shape:
            raise RuntimeError(
                f"torch.searchsorted(): boundary and sorter must have the same size, but got {list(shape)} and"
                f" {list(sorter.shape)}"
            )
        sorted_sequence = sorted_sequence.detach().take_along_dim(sorter, -1)
    return _ranks("searchsorted", sorted_sequence, input, out_int32, right or side == "right")


@composite(
    where="function",
    samples=[
        sample(edge([[1.0, 2.5], [2.0, 9.0]]), edge([1.0, 2.0, 3.0])),
        sample(edge([1.0, 2.0]), edge([1.0, 2.0]), right=True),
        sample(integers(3), edge([1.0, 1.5]), out_int32=True),
        sample(2, edge([1.0, 2.0, 3.0])),
    ],
)
def bucketize(input: Tensor | float, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the bucket between ascending boundaries for every element: a boundary belongs to the bucket before
    it, or after with `right`.
    """
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize: boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return _ranks("bucketize", boundaries, input, out_int32, right)


# ------------------------------------------------------------------------------------------------- distinct elements


@overload
def unique(input: Tensor, sorted: bool = True, *, dim: int | None = None) -> Tensor: ...
@overload
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any: ...
@composite(
    samples=[
        sample(integers(7)),
        sample(integers(3, 4), return_inverse=True, return_counts=True),
        sample(integers(5, 2, high=2), return_inverse=True, return_counts=True, dim=0),
        sample(integers(2, 5, high=2), dim=-1),
        sample(constant(4), return_inverse=True, return_counts=True),
        sample(integers(0), return_inverse=True),
        sample(integers(), return_inverse=True, return_counts=True),
    ]
)
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements (slices along `dim`) in ascending order, with the place of every element among them, and
    how often each occurs.

    NaN differs from itself. The order is ascending without `sorted` too.
    """
    array, xp = input._array, input.device.xp
    axis = None if dim is None else wrap_dim("unique", dim, array.ndim)
    if axis is not None and not array.ndim:
        raise IndexError(f"unique: Dimension specified as {dim} but tensor has no dimensions")
    values, inverse, counts = xp.unique(array, False, True, True, axis, equal_nan=False)
    return _with_options(
        input, values, inverse.reshape(array.shape if axis is None else (-1,)), counts, return_inverse, return_counts
    )


def _no_formula(grad: Any) -> Any:
    raise NotImplementedError(
        "the derivative for 'unique' is not implemented. Gather the elements with an index instead."
    )


@op(self=_no_formula, where="internal", node="NotImplemented")
def _distinct(xp: Any, self: Array, values: Any) -> Array:
    """The values found in `self`: what needs their derivative raises, as in PyTorch,
    in place of getting none in silence.
    """
    return values


def _with_options(
    input: Tensor, values: Any, inverse: Any, counts: Any, return_inverse: bool, return_counts: bool
) -> Any:
    device = input.device
    results = [_distinct(input, values)]
    results += [from_array(inverse.astype(np.int64), device)] if return_inverse else []
    results += [from_array(counts.astype(np.int64), device)] if return_counts else []
    return results[0] if len(results) == 1 else tuple(results)


@overload
def unique_consecutive(input: Tensor, *, dim: int | None = None) -> Tensor: ...
@overload
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any: ...
@composite(
    samples=[
        sample(integers(9, high=2)),
        sample(integers(3, 4, high=2), return_inverse=True, return_counts=True),
        sample(integers(6, 1, high=2), return_inverse=True, return_counts=True, dim=0),
        sample(integers(0), return_inverse=True, return_counts=True),
    ]
)
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements (slices along `dim`) that differ from the one before,
    with the run of every element, and how long each run is.
    """
    array, xp = input._array, input.device.xp
    axis = 0 if dim is None else wrap_dim("unique_consecutive", dim, array.ndim)
    if dim is not None and not array.ndim:
        raise IndexError(f"unique_consecutive: Dimension specified as {dim} but tensor has no dimensions")
    line = array.reshape(-1) if dim is None else xp.moveaxis(array, axis, 0)
    count = line.shape[0]
    new = xp.ones(count, dtype=bool)
    if count > 1:
        new[1:] = (line[1:] != line[:-1]).reshape(count - 1, -1).any(axis=1)
    starts = xp.nonzero(new)[0]
    counts = xp.concatenate([starts[1:], xp.full((min(count, 1),), count, starts.dtype)]) - starts
    inverse = xp.cumsum(new, 0) - 1
    values = line[starts] if dim is None else xp.moveaxis(line[starts], 0, axis)
    return _with_options(
        input, values, inverse.reshape(array.shape) if dim is None else inverse, counts, return_inverse, return_counts
    )


@composite(
    where="function",
    samples=[
        sample(integers(4, high=5), integers(3, high=5)),
        sample(integers(2, 3), integers(2), invert=True),
        sample(edge([1.0, 2.0]), 2),
        sample(1, integers(3)),
        sample(integers(3), integers(0)),
    ],
)
def isin(
    elements: Tensor | float, test_elements: Tensor | float, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is one of the test elements."""
    device = next(x.device for x in (elements, test_elements) if isinstance(x, Tensor))
    a, b = (
        x._array if isinstance(x, Tensor) else device.xp.asarray(device.xp.full((), x))
        for x in (elements, test_elements)
    )
    if not b.size:
        return from_array(device.xp.full(a.shape, invert), device)
    order = device.xp.sort(b.reshape(-1))
    found = order[device.xp.minimum(device.xp.searchsorted(order, a, "left"), order.size - 1)] == a
    return from_array(device.xp.asarray(found != invert), device)


# ------------------------------------------------------------------------------------------------- counts and places


@overload
def nonzero(input: Tensor, *, as_tuple: Literal[False] = False) -> Tensor: ...
@overload
def nonzero(input: Tensor, *, as_tuple: Literal[True]) -> tuple[Tensor, ...]: ...
@composite(
    samples=[
        sample(integers(3, 2)),
        sample(integers(3)),
        sample(integers()),
        sample(integers(0, 2)),
        sample(real(2, 2)),
    ]
)
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the non-zero elements, one row each, or with `as_tuple` one tensor per dimension."""
    xp, array = input.device.xp, input._array
    found = [from_array(index, input.device) for index in xp.nonzero(array if array.ndim else array.reshape(1))]
    if as_tuple:
        return tuple(found)
    if not array.ndim:
        return from_array(xp.zeros((found[0].numel(), 0), dtype=np.int64), input.device)
    return from_array(xp.stack([f._array for f in found], axis=1), input.device)


@composite(samples=[sample(integers(3, 2)), sample(integers())])
def argwhere(input: Tensor) -> Tensor:
    """The indices of the non-zero elements, one row each."""
    return nonzero(input)


_no_derivative = not_implemented("bincount", "torch.zeros(n).index_add(0, input, weights)")


@op(self=_no_derivative, where="internal", node="NotImplemented")
def _weighted_count(xp: Any, self: Array, sums: Any) -> Array:
    """The sums of the weights `self`, which have no derivative."""
    return sums


@composite(
    samples=[
        sample(integers(6)),
        sample(integers(0)),
        sample(integers(4), minlength=7),
        sample(integers(4), constant(4)),
        sample(integers(3), integers(3)),
        sample(integers(0), minlength=2),
    ]
)
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of the numbers 0, 1, 2, ... occurs in a vector of non-negative integers,
    or the sum of the weights where it does.
    """
    array, xp = input._array, input.device.xp
    if array.dtype.kind not in "iu":
        raise NotImplementedError(f"bincount: input must be a vector of integers, not of {input.dtype}")
    if array.ndim != 1 or (array.size and int(array.min()) < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    minlength = whole("bincount", "minlength", minlength)
    if minlength < 0:
        raise RuntimeError("bincount: minlength should be >= 0")
    if weights is not None and weights.shape != array.shape:
        raise RuntimeError("bincount: weights should be 1-d and have the same length as input")
    length = max(minlength, int(array.max()) + 1 if array.size else 0)
    kind = (
        np.dtype(np.int64)
        if weights is None
        else weights.dtype.numpy
        if weights.dtype.numpy == np.float32
        else np.dtype(np.float64)
    )
    values = xp.ones(array.shape, dtype=kind) if weights is None else xp.astype(weights._array, kind)
    out = xp.scatter_to_zeros(values, (length,), array) if array.size else xp.zeros(length, dtype=kind)
    return from_array(out, input.device) if weights is None else _weighted_count(weights, out)


@composite(
    samples=[
        sample(edge([1.0, 2.0, 1.0, 4.0]), bins=4, min=0, max=3),
        sample(edge([1.0, 2.0, 1.0]), 4),
        sample(edge([1.0, 1.0]), 3),
        sample(real(20), 5),
    ]
)
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` intervals of equal width from `min` to `max` (the last includes
    it), or of the data's range if both are 0.
    """
    xp = input.device.xp
    array = xp.reshape(widened(input._array, xp), (-1,))
    if array.dtype.kind != "f":
        raise NotImplementedError(
            f"histc: not implemented for {input.dtype}, which could not hold the counts; convert with .float()"
        )
    bins = whole("histc", "bins", bins)
    if bins <= 0:
        raise RuntimeError("histc: bins must be > 0")
    low, high = float(min), float(max)
    if low == high and array.size:
        low, high = float(array.min()), float(array.max())
    if low == high:
        low, high = low - 1, high + 1
    if not low < high or not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"histc: max must be larger than min, and both finite, got [{low}, {high}]")
    inside = array[(array >= low) & (array <= high)]
    place = xp.minimum(((inside - low) * (bins / (high - low))).astype(np.int64), bins - 1)
    out = xp.scatter_to_zeros(xp.ones(place.shape, dtype=np.int64), (bins,), place)
    return from_array(out.astype(input.dtype.numpy), input.device)


class Histogram(NamedTuple):
    """What `histogram` returns: a count or a density for every bin, and where the bins begin and end."""

    hist: Tensor
    bin_edges: Tensor


_no_derivative_of_counts = not_implemented("histogram", "histogram(input.detach(), ...)")


@op(self=_no_derivative_of_counts, where="internal", node="NotImplemented")
def _in_intervals(xp: Any, self: Array, found: Any) -> Array:
    """The counts or the ends of a `histogram`, which have no derivative."""
    return found


@composite(
    samples=[
        sample(edge([1.0, 2.0, 1.0, 4.0]), bins=4, range=(0.0, 3.0)),
        sample(edge([1.0, 2.0, 1.0]), 4),
        sample(edge([1.0, 2.0, 1.0, 9.0]), edge([0.0, 1.5, 4.0])),
        sample(edge([1.0, 2.0, 1.0]), 4, weight=edge([0.5, 2.0, 1.0])),
        sample(edge([1.0, 2.0, 1.5]), 4, density=True),
        sample(edge([1.0, 1.0]), 3),
    ]
)
def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: tuple[float, float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """How many elements, or what weight, lies in each interval, the last of which includes its end;
    and the ends of the intervals.

    Args:
        input: the values.
        bins: a number of intervals of equal width, or a vector of their ends.
        range: the first and the last end, those of the data by default.
        weight: what each element counts.
        density: divide by the width and by all that was counted.
    """
    xp, device = input.device.xp, input.device
    array = xp.reshape(input._array, (-1,))
    if array.dtype.kind != "f":
        raise NotImplementedError(
            f"histogram: expected a floating point tensor, got {input.dtype}; bincount counts integers"
        )
    if weight is not None and weight.shape != input.shape:
        raise ShapeError(
            f"histogram: weight needs the shape of the input, {tuple(input.shape)}, got {tuple(weight.shape)}"
        )
    if isinstance(bins, Tensor) and bins.ndim:
        if bins.ndim != 1 or len(bins) < 2:
            raise ShapeError(
                f"histogram: bins is a number or a vector of at least two ends, got shape {tuple(bins.shape)}"
            )
        ends = bins._array
    else:
        bins = whole("histogram", "bins", bins)
        if bins <= 0:
            raise RuntimeError(f"histogram: bins must be > 0, got {bins}")
        low, high = (
            range if range is not None else (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
        )
        if not low <= high or not (np.isfinite(low) and np.isfinite(high)):
            raise RuntimeError(f"histogram: min should not exceed max, and both be finite, got [{low}, {high}]")
        ends = linspace(
            *((low - 0.5, high + 0.5) if low == high else (low, high)), bins + 1, dtype=input.dtype, device=device
        )._array
    counted = xp.ones(array.shape, np.float64) if weight is None else weight._array.reshape(-1).astype(np.float64)
    inside = (array >= ends[0]) & (array <= ends[-1])
    place = xp.minimum(xp.searchsorted(ends, array[inside], side="right") - 1, len(ends) - 2)
    out = xp.scatter_to_zeros(counted[inside], (len(ends) - 1,), place)
    if density:
        out = out / (ends[1:] - ends[:-1]) / out.sum()
    source = next((t for t in (input, weight, bins) if isinstance(t, Tensor) and t.requires_grad), input)
    return Histogram(_in_intervals(source, out.astype(array.dtype)), _in_intervals(source, xp.array(ends)))
