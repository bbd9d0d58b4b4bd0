"""The NumPy column of the table of primitives, the `xp` of a CPU tensor (Note [Array primitives]).

A primitive is the function of its name in this file, or else NumPy's.
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.lib.stride_tricks import as_strided

from nanotorch.backend import formulas, philox
from nanotorch.backend.primitives import Column, Namespace
from nanotorch.backend.strided import contiguous_stride, extent, may_overlap, positions

# Overflow, log(0) and 0/0 give inf and NaN silently, as in PyTorch. Only warnings raised in our own frames are
# silenced.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"nanotorch\.")

# The C library of Linux gives free memory at the end of the heap back to the system, page by page, when it is more than
# twice the largest array freed so far; a step that makes middle-sized arrays then waits for the same pages in every
# turn. This array, whose memory is never touched, makes "much" mean 64 MiB.
np.empty(2**25 - 2**16, np.uint8)


# ------------------------------------------------------------------------------------------------------- elementwise


def astype(array: Any, dtype: np.dtype[Any]) -> Any:
    """Return a copy of `array` with another dtype."""
    return array.astype(dtype)


def erf(array: Any) -> Any:
    """Return the error function of every element (SciPy's)."""
    from scipy.special import erf as scipy_erf

    return scipy_erf(array).astype(array.dtype, copy=False)


def _special(name: str, array: Any, *arguments: Any) -> Any:
    """Return one of SciPy's special functions of every element, in the dtype of the array."""
    import scipy.special

    return getattr(scipy.special, name)(*arguments, array).astype(array.dtype, copy=False)


def erfc(array: Any) -> Any:
    """Return `1 - erf` of every element."""
    return _special("erfc", array)


def erfinv(array: Any) -> Any:
    """Return the inverse error function of every element."""
    return _special("erfinv", array)


ODDS = [
    np.array(coefficient, np.float32)  # an array of no dimensions is taken in sooner than a number
    for coefficient in (
        1.5957699,
        0.07266617,
        -6.518996e-05,
        -1.1061238e-04,
        7.929489e-06,
        -2.6452665e-07,
        3.5123406e-09,
    )
]


def ndtr(array: Any) -> Any:
    """Return how much of the standard normal distribution lies below every element.

    In float32 the logarithm of the odds, `log(p / (1 - p))`, is the element times a polynomial of its square, as in
    E. Page, "Approximations to the cumulative normal function and its inverse for use on a pocket calculator", Applied
    Statistics 26 (1977), where the polynomial has degree 1. This one has degree 6 and is ours, with the least largest
    error of p over [-5.5, 5.5] that reweighted least squares found. p is wrong by less than 2e-7 (1.3e-7 was measured):
    beyond that range the polynomial grows, so that p goes to 0 and 1. Other dtypes, and few elements, are SciPy's,
    whose import takes a tenth of a second: so a network of usual widths and batches does without.
    """
    if array.dtype != np.float32 or array.size < 512:
        return _special("ndtr", array)
    result = np.empty_like(array)
    if array.flags.c_contiguous:  # the block of 32 KiB on which all is done lies in the cache
        parts, places = array.reshape(-1), result.reshape(-1)
        for start in range(0, array.size, 8192):
            _ndtr(parts[start : start + 8192], places[start : start + 8192])
    else:
        _ndtr(array, result)
    return result


def _ndtr(array: Any, out: Any) -> None:
    square = np.multiply(array, array)
    np.multiply(square, -ODDS[-1], out)
    for coefficient in ODDS[-2:0:-1]:
        np.subtract(out, coefficient, out)
        np.multiply(out, square, out)
    np.subtract(out, ODDS[0], out)
    np.multiply(out, array, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.divide(1, out, out)


def gelu_slope(array: Any, result: Any) -> Any:
    """Return the derivative of GELU (Note [GELU])."""
    return formulas.gelu_slope(np, array, result)


def lgamma(array: Any) -> Any:
    """Return the logarithm of the absolute value of the gamma function of every element."""
    return formulas.lgamma(np, _special, array)


def polygamma(n: int, array: Any) -> Any:
    """Return the n-th derivative of the digamma function, for n > 0 by the Hurwitz zeta function."""
    return formulas.polygamma(np, _special, n, array)


def _check_divisor(name: str, self: Any, other: Any) -> None:
    """Raise where integers are divided by 0, which NumPy answers by 0 and a warning."""
    kind = other.dtype.kind if isinstance(other, np.ndarray) else "b" if isinstance(other, bool) else "i"
    if kind in "iu" and not np.all(other):
        raise RuntimeError(f"{name}: ZeroDivisionError: integer division by zero")
    if self.dtype.kind == "b" and kind == "b":
        raise RuntimeError(f"{name}: not implemented for torch.bool; convert the tensors with .long()")


def floor_divide(array: Any, other: Any) -> Any:
    """Return the quotient rounded down."""
    if array.dtype.kind != "f":
        _check_divisor("floor_divide", array, other)
    return np.floor_divide(array, other)


def remainder(array: Any, other: Any) -> Any:
    """Return the remainder with the sign of the divisor."""
    if array.dtype.kind != "f":
        _check_divisor("remainder", array, other)
    return np.remainder(array, other)


def fmod(array: Any, other: Any) -> Any:
    """Return the remainder with the sign of the dividend."""
    if array.dtype.kind != "f":
        _check_divisor("fmod", array, other)
    return np.fmod(array, other)


def trunc_divide(array: Any, other: Any) -> Any:
    """Return the quotient rounded towards zero."""
    if array.dtype.kind == "f":
        return np.trunc(array / other)
    quotient = floor_divide(array, other)
    return quotient + ((quotient < 0) & (quotient * other != array))


def sigmoid(array: Any) -> Any:
    """Return `1 / (1 + exp(-array))` without overflow for either sign."""
    return formulas.sigmoid(np, array)


def softplus(array: Any) -> Any:
    """Return `log(1 + exp(array))` without overflow."""
    return formulas.softplus(np, array)


def sign(array: Any) -> Any:
    """Return -1, 0 or 1; NaN counts as 0, as in PyTorch."""
    signs = np.sign(array)
    return signs if array.dtype.kind != "f" else np.where(np.isnan(signs), signs.dtype.type(0), signs)


def zero_where(array: Any, mask: Any) -> Any:
    """Return a copy of an array with zeros where the mask holds.

    The bits, seen as integers, are multiplied by 0 or 1: a third of the time of `where`, which mispredicts a branch
    for every second element of a random mask, and unlike `array * mask` exact for infinities and NaN.
    """
    if array.size < 1024:
        return np.where(mask, array.dtype.type(0), array)
    bits = np.asarray(array).view(_INTEGERS[array.dtype.itemsize])
    return np.asarray(bits * ~mask).view(array.dtype)


iadd = operator.iadd
_INTEGERS = {2: np.int16, 4: np.int32, 8: np.int64}


# ------------------------------------------------------------------------------------------------------------ reduce


add_over: Any = np.add.reduce
multiply_over: Any = np.multiply.reduce
maximum_over: Any = np.maximum.reduce
minimum_over: Any = np.minimum.reduce
_ones: dict[tuple[int, np.dtype[Any]], Any] = {}


def column_sums(matrix: Any) -> Any:
    """Return the sums over the rows of a matrix, of a few by a product with ones:
    BLAS beats the reduction three times.
    """
    if matrix.shape[0] > 512:
        return sum(matrix, 0)
    key = matrix.shape[0], matrix.dtype
    ones = _ones.get(key)
    if ones is None:
        if len(_ones) > 64:
            _ones.clear()
        ones = _ones[key] = np.ones(key[0], matrix.dtype)
    return ones.dot(matrix)


def row_sums(matrix: Any) -> Any:
    """Return the sums over the columns of a matrix, as a column."""
    return column_sums(matrix.T)[:, None]


def sum(array: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Sum over axes, to a few units in the last place however many elements there are (Note [Long sums]).

    Calling the reduction itself saves a third of `np.sum`'s time on small arrays.
    """
    if array.size < 1024 or dtype is not None or array.dtype.kind != "f":
        return add_over(array, axis, dtype, None, keepdims)
    if type(axis) is int and -array.ndim <= axis < array.ndim:
        if array.shape[axis] <= 64:
            return add_over(array, axis, None, None, keepdims)
        if array.flags.c_contiguous:
            axis %= array.ndim
            if axis != array.ndim - 1:
                while array.shape[axis] > 32:
                    array = _fold(array, axis)
            return add_over(array, axis, None, None, keepdims)
    elif axis is None:
        if array.flags.forc:
            return add_over(array, None, None, None, keepdims)
        axis = tuple(range(array.ndim))
    return _long_sum(array, set(normalize_axis_tuple(axis, array.ndim)), keepdims)


def _long_sum(array: Any, axes: set[int], keepdims: bool) -> Any:
    """Sum over axes one after the other, those of the smallest steps first.

    Note [Long sums]
    ~~~~~~~~~~~~~~~~
    NumPy adds neighbours in memory in pairs, pairs of pairs and so on, with an error that grows like the logarithm of
    their number. Everything else it adds to a running total, one by one: a million rows of 0.1 in float32 are 1 % off.
    Such an axis is cut into up to 16 parts which are added to each other, and so on until few elements are left: the
    error is as small, and as the inner loops get long, so is the time.
    """
    order = sorted(range(array.ndim), key=lambda d: -builtins.abs(array.strides[d]))
    lengths: list[int] = []
    steps: list[int] = []
    summed: list[bool] = []
    for d in order:
        length, step = array.shape[d], array.strides[d]
        if length == 1:
            continue
        if summed and summed[-1] is (d in axes) and steps[-1] == length * step:
            lengths[-1] *= length
            steps[-1] = step
        else:
            lengths.append(length)
            steps.append(step)
            summed.append(d in axes)
    total = array.transpose(order).reshape(lengths)
    for position in reversed(range(len(lengths))):
        if summed[position]:
            if position != total.ndim - 1:
                while total.shape[position] > 32:
                    total = _fold(total, position)
            total = add_over(total, position)
    kept = [d for d in order if d not in axes]
    total = np.reshape(total, [array.shape[d] for d in kept]).transpose(sorted(range(len(kept)), key=kept.__getitem__))
    return np.expand_dims(total, sorted(axes)) if keepdims else total[()]


def _fold(array: Any, axis: int) -> Any:
    """Add up to 16 equal parts of an axis to each other, and what does not fit to the first elements."""
    before, length, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    lead = (slice(None),) * axis
    count = builtins.min(16, length // 16)
    part = length // count
    out = add_over(array[(*lead, slice(count * part))].reshape(*before, count, part, *after), axis)
    if length % count:
        out[(*lead, slice(length % count))] += array[(*lead, slice(count * part, None))]
    return out


def amax(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the maximum over axes."""
    if array.ndim == 2 and axis == 1 and array.shape[1] <= 32:
        # Of short rows: reducing the columns of the transposed copy takes a half to a sixth of the time.
        result = maximum_over(array.T.copy(), 0)
        return result[:, None] if keepdims else result
    return maximum_over(array, axis, None, None, keepdims)


def amin(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the minimum over axes."""
    return minimum_over(array, axis, None, None, keepdims)


def prod(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product over axes; a long one of float32 is kept in float64."""
    if array.dtype.char == "f" and array.size >= 1024:
        return multiply_over(array, axis, np.float64, None, keepdims).astype(np.float32)
    return multiply_over(array, axis, None, None, keepdims)


# -------------------------------------------------------------------------------------------------------------- scan


def cumsum(array: Any, axis: int) -> Any:
    """Return the running sum along an axis; that of float32 is kept in float64, as in PyTorch."""
    return _accumulated(np.add, array, axis)


def cumprod(array: Any, axis: int) -> Any:
    """Return the running product along an axis; that of float32 is kept in float64, as in PyTorch."""
    return _accumulated(np.multiply, array, axis)


def running_max(array: Any, axis: int) -> Any:
    """Return the running maximum along an axis."""
    return np.maximum.accumulate(array, axis)


def running_min(array: Any, axis: int) -> Any:
    """Return the running minimum along an axis."""
    return np.minimum.accumulate(array, axis)


def logcumsumexp(array: Any, axis: int) -> Any:
    """Return the logarithm of the running sum of exponentials along an axis."""
    return _accumulated(np.logaddexp, array, axis)


def _accumulated(ufunc: Any, array: Any, axis: int) -> Any:
    if array.dtype.char != "f":
        return ufunc.accumulate(array, axis)
    return ufunc.accumulate(array, axis, np.float64).astype(np.float32)


def scaled_cumsum(weights: Any, inner: Any, outer: Any, axis: int) -> Any:
    """Return `cumsum(weights * exp(inner)) * exp(outer)` along an axis, without overflow of the factors."""
    return formulas.scaled_cumsum(np, logcumsumexp, weights, inner, outer, axis)


# ------------------------------------------------------------------------------------------------------------- shape


# NumPy's functions of these names look for other kinds of arrays first, which takes three times as long, or more.


def reshape(array: Any, shape: Any) -> Any:
    """Return the same elements in another shape."""
    return array.reshape(shape)


def transpose(array: Any, axes: Any = None) -> Any:
    """Return a view with the axes in another order, by default reversed."""
    return array.transpose(axes)


def swapaxes(array: Any, axis1: int, axis2: int) -> Any:
    """Return a view with two axes exchanged."""
    return array.swapaxes(axis1, axis2)


def squeeze(array: Any, axis: Any) -> Any:
    """Return a view without axes of length 1."""
    return array.squeeze(axis)


def moveaxis(array: Any, source: int, destination: int) -> Any:
    """Return a view with one axis moved."""
    order = list(range(array.ndim))
    order.insert(destination % array.ndim, order.pop(source))
    return array.transpose(order)


def expand_dims(array: Any, axis: Any) -> Any:
    """Return a view with axes of length 1 inserted."""
    if type(axis) is not int:
        return np.expand_dims(array, axis)
    place = axis if axis >= 0 else axis + array.ndim + 1
    return array.reshape((*array.shape[:place], 1, *array.shape[place:]))


def expand(array: Any, shape: tuple[int, ...]) -> Any:
    """Return a broadcast view that can be written to if the array can, as slices of it may be."""
    view = np.broadcast_to(array, shape)
    view.flags.writeable = array.flags.writeable
    return view


def diagonal(array: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Return a diagonal as a view that can be written to if the array can."""
    view = np.diagonal(array, offset, axis1, axis2)
    view.flags.writeable = array.flags.writeable
    return view


def pieces(array: Any, sizes: Sequence[int], axis: int) -> list[Any]:
    """Return views of consecutive pieces of these lengths along an axis."""
    parts, start, lead = [], 0, (slice(None),) * (axis % array.ndim)
    for size in sizes:
        parts.append(array[(*lead, slice(start, start + size))])
        start += size
    return parts


def framed(array: Any, shape: tuple[int, ...], index: Any, value: Any) -> Any:
    """Return one number in a shape, with the array at an index of slices."""
    return formulas.framed(np, array, shape, index, value)


def sliding(array: Any, axis: int, size: int, step: int) -> Any:
    """Return windows along an axis as the last axis, as a view."""
    return formulas.sliding(view_strided, array, storage_offset(array), axis, size, step)


def pad_to(array: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of `shape` with the array in the corner of the first elements."""
    if array.shape == shape:
        return array
    out = np.zeros(shape, array.dtype)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


def windows(array: Any, first: int, kernel: Any, stride: Any, dilation: Any) -> Any:
    """Return all windows of an array as a view (Note [Windows])."""
    shape, strides = window_layout(array.shape, array.strides, first, kernel, stride, dilation)
    if not array.flags.c_contiguous or not array.size:
        return as_strided(array, shape, strides, writeable=False)
    view: Any = np.ndarray(shape, array.dtype, array, 0, strides)  # in a tenth of the time of as_strided
    view.flags.writeable = False
    return view


@functools.lru_cache(maxsize=256)
def window_layout(shape: Any, strides: Any, first: int, kernel: Any, stride: Any, dilation: Any) -> Any:
    """Return the shape and the strides, in bytes, of the view of all windows of an array."""
    last = first + len(kernel)
    spatial = list(zip(shape[first:last], kernel, stride, dilation, strict=True))
    places = tuple([(length - d * (k - 1) - 1) // s + 1 for length, k, s, d in spatial])
    within = tuple([step * d for step, d in zip(strides[first:last], dilation, strict=True)])
    between = tuple([step * s for step, s in zip(strides[first:last], stride, strict=True)])
    return ((*shape[:first], *kernel, *places, *shape[last:]), (*strides[:first], *within, *between, *strides[last:]))


def from_windows(values: Any, shape: tuple[int, ...], first: int, kernel: Any, stride: Any, dilation: Any) -> Any:
    """Return zeros of `shape` with the elements of all windows added at their places: the adjoint of `windows`."""
    out = np.zeros(shape, values.dtype)
    add_windows(out, values, first, kernel, stride, dilation)
    return out


def add_windows(out: Any, values: Any, first: int, kernel: Any, stride: Any, dilation: Any) -> None:
    """Add the elements of all windows at their places in an array."""
    lead = (slice(None),) * first
    places = values.shape[first + len(kernel) : first + 2 * len(kernel)]
    for inside in np.ndindex(*kernel):
        target = [
            slice(i * d, i * d + s * (n - 1) + 1, s) if n else slice(0)
            for i, d, s, n in zip(inside, dilation, stride, places, strict=True)
        ]
        out[(*lead, *target)] += values[lead + inside]


def batch_last(array: Any) -> Any:
    """Return the array with its first dimension moved to the end, in row-major order."""
    length, rest = array.shape[0], array.shape[1:]
    return _transposed(array.reshape(length, math.prod(rest))).reshape(*rest, length)


def batch_first(array: Any) -> Any:
    """Return the array with its last dimension moved to the front, in row-major order."""
    rest, length = array.shape[:-1], array.shape[-1]
    return _transposed(array.reshape(math.prod(rest), length)).reshape(length, *rest)


def _transposed(matrix: Any) -> Any:
    """Return the transpose of a matrix in row-major order.

    Where rows begin at multiples of 2 KiB, the elements of a column compete for few cache lines: blocks of eight rows
    take a third of the time there.
    """
    if matrix.strides[0] % 2048 or matrix.shape[0] <= 8:
        return np.ascontiguousarray(matrix.T)
    out = np.empty(matrix.shape[::-1], matrix.dtype)
    for start in range(0, matrix.shape[0], 8):
        out[:, start : start + 8] = matrix[start : start + 8].T
    return out


def view_as(array: Any, shape: tuple[int, ...]) -> Any:
    """Reshape without copying; raise ValueError where the strides do not allow it."""
    return np.reshape(array, shape, copy=False)


# ------------------------------------------------------------------------------------------------------------- index


def take(array: Any, indices: Any, axis: int) -> Any:
    """Return slices along an axis."""
    return array.take(indices, axis)


def scatter_add(array: Any, index: Any, values: Any) -> None:
    """Add `values` at `index` in place; repeated indices add up.

    Where more is added than there are places, totals of float32 are kept in float64 (Note [Long sums]).
    """
    if array.dtype.char != "f" or np.size(values) <= builtins.max(1024, array.size):
        np.add.at(array, index, values)
        return
    wide = array.astype(np.float64)
    np.add.at(wide, index, values.astype(np.float64))
    array[...] = wide


def scatter_to_zeros(values: Any, shape: tuple[int, ...], index: Any) -> Any:
    """Return zeros of `shape` with `values` added at `index`: the adjoint of `array[index]`."""
    out = np.zeros(shape, values.dtype)
    if not has_array(index):
        out[index] = values
    elif isinstance(index, np.ndarray) and index.dtype.kind in "iu" and len(shape) > 1 and values.size > 128:
        # Rows, element by element: additions to a vector take a tenth of the time of additions of rows.
        width = math.prod(shape[1:])
        places = index.astype(np.int64).reshape(-1, 1) * width + np.arange(width)
        rows = np.broadcast_to(values, (*index.shape, *shape[1:]))
        scatter_add(out.reshape(-1), (places.reshape(-1),), rows.reshape(-1))
    else:
        scatter_add(out, index, values)
    return out


def neutral(reduce: str, dtype: Any) -> Any:
    """Return the number that a reduction starts from."""
    if reduce in ("amax", "amin"):
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        bound = np.inf if dtype.kind == "f" else limits.max
        return bound if reduce == "amin" else -np.inf if dtype.kind == "f" else limits.min
    return 1 if reduce == "prod" else 0


def scatter_reduce(array: Any, dim: int, index: Any, values: Any, reduce: str, include_self: bool) -> Any:
    """Return a copy of an array in which the values
    that go to one place along a dimension are combined with what is there.

    `reduce` is "sum", "prod", "mean", "amax" or "amin". Without `include_self` only the values count.
    """
    out = np.array(array, order="C").reshape(array.shape or (1,))
    index = index.reshape(index.shape or (1,))
    values = values.reshape(values.shape or (1,))[tuple([slice(n) for n in index.shape])]
    where = index_along_axis(index, dim % out.ndim)
    if not include_self:
        out[where] = neutral(reduce, array.dtype)
    if reduce in ("sum", "mean"):
        scatter_add(out, where, values)
    else:
        {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[reduce].at(out, where, values)
    if reduce == "mean":
        counts = np.full(out.shape, int(include_self))
        scatter_add(counts, where, np.ones(index.shape, counts.dtype))
        counts = np.maximum(counts, 1)
        out = out // counts if array.dtype.kind in "iu" else out / counts.astype(array.dtype)
    return out.reshape(array.shape).astype(array.dtype, copy=False)


def scatter_along_axis(values: Any, shape: tuple[int, ...], indices: Any, axis: int, accumulate: bool = False) -> Any:
    """Return zeros of `shape` with `values` at `indices` along an axis: the adjoint of `take_along_axis`.

    `accumulate` adds the values of repeated indices; without it every index must occur once per line.
    """
    out = np.zeros(shape, values.dtype)
    if accumulate:
        scatter_add(out, index_along_axis(indices, axis), values)
    else:
        np.put_along_axis(out, indices, values, axis)
    return out


def add_at(array: Any, index: Any, values: Any) -> Any:
    """Return a copy of an array with `values` added at `index`, repeated ones too."""
    out = np.array(array)
    scatter_add(out, index, values)
    return out


def index_along_axis(indices: Any, axis: int) -> tuple[Any, ...]:
    """Return the advanced index that means `take_along_axis(array, indices, axis)`."""
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    return tuple(grid)


def diagonal_to_zeros(values: Any, shape: tuple[int, ...], offset: int, axis1: int, axis2: int) -> Any:
    """Return zeros of `shape` with `values` on a diagonal: the adjoint of `diagonal`."""
    out = np.zeros(shape, values.dtype)
    diagonal(out, offset, axis1, axis2)[...] = values
    return out


def has_array(index: Any) -> bool:
    """Return whether an index is an advanced one, which may name an element more than once."""
    parts = index if isinstance(index, tuple) else (index,)
    return builtins.any(isinstance(part, np.ndarray) for part in parts)


def put(array: Any, index: Any, values: Any) -> Any:
    """Return a copy of an array with `copy[index] = values`."""
    out = array[...].copy()  # a gradient of no dimension may be a NumPy scalar
    out[index] = values
    return out


def put_along(array: Any, indices: Any, values: Any, axis: int) -> Any:
    """Return a copy of an array with `values` at `indices` along an axis."""
    out = array[...].copy()  # a gradient of no dimension may be a NumPy scalar
    out[index_along_axis(indices, axis % array.ndim)] = values
    return out


def put_diagonal(array: Any, values: Any, offset: int, axis1: int, axis2: int) -> Any:
    """Return a copy of an array with values on a diagonal."""
    out = np.array(array)
    diagonal(out, offset, axis1, axis2)[...] = values
    return out


def pick(matrix: Any, columns: Any) -> Any:
    """Return one element of every row of a matrix, in the columns that the indices name."""
    return matrix.take(_row_starts(*matrix.shape) + columns)


@functools.lru_cache(maxsize=32)
def _row_starts(rows: int, columns: int) -> Any:
    return np.arange(rows) * columns


def one_hot(index: Any, classes: int, dtype: Any) -> Any:
    """Return a row of zeros with a one at each index, all of which are in [0, classes)."""
    if classes <= 256:
        return _identity(classes, dtype).take(index, 0)
    out = np.zeros((index.size, classes), dtype)
    out[np.arange(index.size), index] = 1
    return out


@functools.lru_cache(maxsize=32)
def _identity(size: int, dtype: Any) -> Any:
    return np.eye(size, dtype=dtype)


# ------------------------------------------------------------------------------------------------------------ linalg


def einsum(equation: str, *operands: Any) -> Any:
    """Return sums of products named by subscripts; large ones by matrix products, those of float32 kept in float64."""
    if builtins.max([operand.size for operand in operands]) < 1024:
        return np.einsum(equation, *operands)
    if operands[0].dtype.char != "f":
        return np.einsum(equation, *operands, optimize=True)
    wide = [operand.astype(np.float64) for operand in operands]
    return np.asarray(np.einsum(equation, *wide, optimize=True)).astype(np.float32)


def matmul(a: Any, b: Any) -> Any:
    """Return the matrix product.

    `dot` takes half the time of `np.matmul` on small matrices. A column times a row is an elementwise product, for
    which BLAS takes ten times as long.
    """
    if len(b) >= 8192 and a.dtype.char == "f" and a.ndim <= 2 and b.ndim <= 2:
        return _long_product(a, b)
    if a.ndim == 2 and b.ndim == 2:
        return a.dot(b)
    if a.ndim > 2 and b.ndim > 2 and a.shape[-1] == 1 and b.shape[-2] == 1:
        return np.multiply(a, b, order="C")
    return np.matmul(a, b)


def _long_product(a: Any, b: Any) -> Any:
    """Return the product of matrices or vectors over many rows, in parts that are added in pairs (Note [Long sums])."""
    part = 256  # BLAS may add up all products of a part in one running total
    count, rest = divmod(len(b), part)
    left = a[..., : count * part].reshape(*(a.shape[:-1] or (1,)), count, part)
    right = b[: count * part].reshape(count, part, *(b.shape[1:] or (1,)))
    total = sum(np.matmul(np.moveaxis(left, 1, 0), right), 0).reshape(a.shape[:-1] + b.shape[1:])
    return total + np.matmul(a[..., -rest:], b[-rest:]) if rest else total


def inv(array: Any) -> Any:
    """Return the inverses of square matrices; raise LinAlgError for singular ones."""
    return np.linalg.inv(array)


def solve(matrix: Any, right: Any) -> Any:
    """Return X with `matrix @ X = right` for matrices on the right too; batches broadcast."""
    return np.linalg.solve(matrix, right)


def det(array: Any) -> Any:
    """Return the determinants of square matrices."""
    with np.errstate(invalid="ignore"):  # of a matrix that holds NaN
        return np.linalg.det(array)


def slogdet(array: Any) -> Any:
    """Return the signs of the determinants and the logarithms of their magnitudes."""
    with np.errstate(invalid="ignore"):
        return np.linalg.slogdet(array)


def cholesky(array: Any) -> Any:
    """Return the lower triangular factors; raise LinAlgError for matrices that are not positive definite."""
    return np.linalg.cholesky(array)


def eigh(array: Any) -> Any:
    """Return the eigenvalues and eigenvectors of symmetric matrices, of which the lower triangle is read."""
    return np.linalg.eigh(array)


def qr(array: Any, mode: Any) -> Any:
    """Return Q and R, thin ones with the mode "reduced"."""
    return np.linalg.qr(array, mode)


def svd(array: Any, full_matrices: bool) -> Any:
    """Return U, S and Vh."""
    return np.linalg.svd(array, full_matrices=full_matrices)


# --------------------------------------------------------------------------------------------------------- questions


def all_in_range(index: Any, length: int) -> bool | None:
    """Return whether all of an int64 array is in [0, length); None where asking would wait for a device."""
    if index.itemsize != 8:
        index = index.astype(np.int64)
    return index.size == 0 or int(maximum_over(index.view(np.uint64), None)) < length


def holds(mask: Any) -> bool | None:
    """Return whether a condition holds throughout; None where asking is put off."""
    return bool(np.all(mask))


def indexable(shape: tuple[int, ...], index: Any) -> bool | None:
    """Return whether an array of a shape has all elements that an index names."""
    try:
        np.broadcast_to(np.False_, shape)[index]
    except IndexError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ memory


def owner(array: Any) -> Any:
    """Return the array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def storage_offset(array: Any) -> int:
    """Return how many elements lie before the first one of an array in the memory that it sees."""
    memory = owner(array)
    if memory is array:
        return 0
    return (array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]) // array.itemsize


def storage_size(array: Any) -> int:
    """Return how many elements of an array's type its memory has room for."""
    return owner(array).nbytes // array.itemsize


def view_strided(array: Any, shape: Sequence[int], stride: Sequence[int], offset: int) -> Any:
    """Return a view of the memory of an array; stride and offset, which is counted from its start, are in elements."""
    memory, width = owner(array), array.itemsize
    if 0 in shape:
        return array.reshape(-1)[:0].reshape(shape)
    if not memory.flags.forc:  # its elements lie without gaps, in another order of the axes
        memory = memory.transpose(sorted(range(memory.ndim), key=lambda axis: -memory.strides[axis]))
    return np.ndarray(shape, array.dtype, memory, offset * width, tuple([step * width for step in stride]))


def empty_strided(shape: Sequence[int], stride: Sequence[int], dtype: Any) -> Any:
    """Return an uninitialised array of a stride, in elements, that has a memory of its own."""
    if tuple(stride) == contiguous_stride(shape):
        return np.empty(shape, dtype)
    low, high = extent(shape, stride)
    return view_strided(np.empty(high - low, dtype), shape, stride, -low)


def gather_strided(memory: Any, shape: Sequence[int], stride: Sequence[int], offset: int) -> Any:
    """Return the elements of a vector where `view_strided` sees them in a memory: the adjoint of `scatter_strided`."""
    return view_strided(np.array(memory), shape, stride, offset)


def scatter_strided(values: Any, size: int, stride: Sequence[int], offset: int) -> Any:
    """Return a vector of zeros with values added where they lie as `view_strided` sees it: the adjoint of that."""
    out = np.zeros(size, values.dtype)
    if may_overlap(values.shape, stride):
        scatter_add(out, (positions(np, values.shape, stride, offset),), values)
    else:
        view_strided(out, values.shape, stride, offset)[...] = values
    return out


def receive(array: Any, device: Any) -> Any:
    """Copy an array of any backend to the host."""
    return array.copy() if isinstance(array, np.ndarray) else array.get()


def synchronize() -> None:
    """Wait until all work is done; the CPU is never behind."""


def to_numpy(array: Any) -> np.ndarray[Any, Any]:
    """Return the array itself: it is on the host already."""
    return array


def write(array: Any, values: Any) -> None:
    """Write values into an array: half the time of `copyto` where it is small."""
    array[...] = values


def maximum_into(array: Any, values: Any) -> None:
    """Write the larger ones of an array and of values into it."""
    np.maximum(array, values, out=array)


def minimum_into(array: Any, values: Any) -> None:
    """Write the smaller ones of an array and of values into it."""
    np.minimum(array, values, out=array)


add_into, multiply_into = operator.iadd, operator.imul

draw, keep_mask, random_bits, seed_of = philox.draw, philox.keep_mask, philox.random_bits, philox.seed_of


# -------------------------------------------------------------------------------------------------------- the column

NUMPY = Column()
NUMPY.fill(globals(), np)
xp = Namespace(NUMPY)
