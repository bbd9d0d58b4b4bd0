"""The CuPy column of the table of primitives, the `xp` of a tensor on a GPU (Note [Array primitives]).

A primitive is the function of its name in this file, or else CuPy's. This is the only file that imports CuPy, and it is
imported only when a GPU is asked for.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import cupy
import cupyx
import numpy
from cupy.lib.stride_tricks import as_strided

from nanotorch.backend import formulas, numpy_backend, philox
from nanotorch.backend.numpy_backend import add_windows, neutral, window_layout
from nanotorch.backend.primitives import Column, Namespace
from nanotorch.backend.strided import extent, may_overlap, positions


def device_count() -> int:
    """Return the number of GPUs; raise CuPy's CUDARuntimeError where there is no driver."""
    return int(cupy.cuda.runtime.getDeviceCount())


def make_current(index: int) -> None:
    """Let CuPy compute on this GPU from now on."""
    if cupy.cuda.runtime.getDevice() != index:
        cupy.cuda.runtime.setDevice(index)


# ------------------------------------------------------------------------------------------------------- elementwise


def astype(array: Any, dtype: Any) -> Any:
    """Return a copy of `array` with another dtype."""
    return array.astype(dtype)


def zero_where(array: Any, mask: Any) -> Any:
    """Return a copy of an array with zeros where the mask holds."""
    return cupy.where(mask, array.dtype.type(0), array)


def sign(array: Any) -> Any:
    """Return -1, 0 or 1; NaN counts as 0, as in PyTorch."""
    signs = cupy.sign(array)
    return signs if array.dtype.kind != "f" else cupy.where(cupy.isnan(array), array.dtype.type(0), signs)


def erf(array: Any) -> Any:
    """Return the error function of every element; CuPy's widens float16 to float64."""
    from cupyx.scipy.special import erf as cupy_erf

    return cupy_erf(array).astype(array.dtype, copy=False)


def _special(name: str, array: Any, *arguments: Any) -> Any:
    """Return one of CuPy's special functions of every element, in the dtype of the array."""
    from cupyx.scipy import special

    return getattr(special, name)(*arguments, array).astype(array.dtype, copy=False)


def erfc(array: Any) -> Any:
    """Return `1 - erf` of every element."""
    return _special("erfc", array)


def erfinv(array: Any) -> Any:
    """Return the inverse error function of every element."""
    return _special("erfinv", array)


def ndtr(array: Any) -> Any:
    """Return how much of the standard normal distribution lies below every element."""
    return _special("ndtr", array)


def gelu_slope(array: Any, result: Any) -> Any:
    """Return the derivative of GELU (Note [GELU])."""
    return formulas.gelu_slope(cupy, array, result)


def lgamma(array: Any) -> Any:
    """Return the logarithm of the absolute value of the gamma function of every element."""
    return formulas.lgamma(cupy, _special, array)


def polygamma(n: int, array: Any) -> Any:
    """Return the n-th derivative of the digamma function, for n > 0 by the Hurwitz zeta function."""
    return formulas.polygamma(cupy, _special, n, array)


def trunc_divide(array: Any, other: Any) -> Any:
    """Return the quotient rounded towards zero."""
    if array.dtype.kind == "f":
        return cupy.trunc(array / other)
    quotient = cupy.floor_divide(array, other)
    return quotient + ((quotient < 0) & (quotient * other != array))


def sigmoid(array: Any) -> Any:
    """Return `1 / (1 + exp(-array))` without overflow for either sign."""
    return formulas.sigmoid(cupy, array)


def softplus(array: Any) -> Any:
    """Return `log(1 + exp(array))` without overflow."""
    return formulas.softplus(cupy, array)


# ------------------------------------------------------------------------------------------------------------ reduce


# Note [Long sums] needs nothing here: CuPy's reductions share the elements out to 512 threads or more and join their
# totals in a tree, its scans work in blocks, so a total takes a 512th of the elements one by one: as good as PyTorch's
# on a GPU.


def column_sums(matrix: Any) -> Any:
    """Return the sums over the rows of a matrix."""
    return matrix.sum(axis=0)


def row_sums(matrix: Any) -> Any:
    """Return the sums over the columns of a matrix, as a column."""
    return matrix.sum(axis=1, keepdims=True)


# -------------------------------------------------------------------------------------------------------------- scan


def _scan(combine: Any, array: Any, axis: int) -> Any:
    """Combine every element with all before it in log2(n) steps (Hillis and Steele 1986):
    CuPy's ufuncs cannot accumulate.
    """
    out, before = array, (slice(None),) * (axis % array.ndim)
    step = 1
    while step < array.shape[axis]:
        later = combine(out[(*before, slice(step, None))], out[(*before, slice(None, -step))])
        out = cupy.concatenate([out[(*before, slice(None, step))], later], axis=axis)
        step *= 2
    return out.copy() if out is array else out


def running_max(array: Any, axis: int) -> Any:
    """Return the running maximum along an axis."""
    return _scan(cupy.maximum, array, axis)


def running_min(array: Any, axis: int) -> Any:
    """Return the running minimum along an axis."""
    return _scan(cupy.minimum, array, axis)


def logcumsumexp(array: Any, axis: int) -> Any:
    """Return the logarithm of the running sum of exponentials along an axis."""
    return _scan(_logaddexp, array, axis)


def scaled_cumsum(weights: Any, inner: Any, outer: Any, axis: int) -> Any:
    """Return `cumsum(weights * exp(inner)) * exp(outer)` along an axis, without overflow of the factors."""
    return formulas.scaled_cumsum(cupy, logcumsumexp, weights, inner, outer, axis)


def _logaddexp(x: Any, y: Any) -> Any:
    # CuPy subtracts equal infinities; their sum is twice the element.
    return cupy.where(x == y, x + x.dtype.type(0.6931471805599453), cupy.logaddexp(x, y))


# ------------------------------------------------------------------------------------------------------------- shape


def expand(array: Any, shape: tuple[int, ...]) -> Any:
    """Return a broadcast view; CuPy's can be written to."""
    return cupy.broadcast_to(array, shape)


def framed(array: Any, shape: tuple[int, ...], index: Any, value: Any) -> Any:
    """Return one number in a shape, with the array at an index of slices."""
    return formulas.framed(cupy, array, shape, index, value)


def sliding(array: Any, axis: int, size: int, step: int) -> Any:
    """Return windows along an axis as the last axis, as a view."""
    return formulas.sliding(view_strided, array, storage_offset(array), axis, size, step)


def pad_to(array: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of `shape` with the array in the corner of the first elements."""
    if array.shape == shape:
        return array
    out = cupy.zeros(shape, array.dtype)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


def windows(array: Any, first: int, kernel: Any, stride: Any, dilation: Any) -> Any:
    """Return all windows of an array as a view (Note [Windows])."""
    return as_strided(array, *window_layout(array.shape, array.strides, first, kernel, stride, dilation))


def from_windows(values: Any, shape: tuple[int, ...], first: int, kernel: Any, stride: Any, dilation: Any) -> Any:
    """Return zeros of `shape` with the elements of all windows added at their places: the adjoint of `windows`."""
    out = cupy.zeros(shape, values.dtype)
    add_windows(out, values, first, kernel, stride, dilation)
    return out


def batch_last(array: Any) -> Any:
    """Return the array with its first dimension moved to the end, in row-major order."""
    return cupy.ascontiguousarray(cupy.moveaxis(array, 0, -1))


def batch_first(array: Any) -> Any:
    """Return the array with its last dimension moved to the front, in row-major order."""
    return cupy.ascontiguousarray(cupy.moveaxis(array, -1, 0))


def view_as(array: Any, shape: tuple[int, ...]) -> Any:
    """Reshape without copying; raise ValueError where the strides do not allow it."""
    return cupy.reshape(array, shape, copy=False)


# ------------------------------------------------------------------------------------------------------------- index


def random_bits(seed: Any, step: int, layer: int, apart: int, first: int, count: int) -> Any:
    """Return 16 random bits for each of `count` numbers, drawn on the host."""
    return cupy.asarray(philox.random_bits(seed, step, layer, apart, first, count))


def draw(generator: Any, method: str, arguments: tuple[Any, ...], dtype: Any) -> Any:
    """Return the next numbers of a generator, which every device takes from the host."""
    return cupy.asarray(philox.draw(generator, method, arguments, dtype))


keep_mask, seed_of = philox.keep_mask, philox.seed_of
iadd, pieces, put = numpy_backend.iadd, numpy_backend.pieces, numpy_backend.put  # written with operators alone
write, add_into, multiply_into = numpy_backend.write, numpy_backend.add_into, numpy_backend.multiply_into


def maximum_into(array: Any, values: Any) -> None:
    """Write the larger ones of an array and of values into it."""
    cupy.maximum(array, values, out=array)


def minimum_into(array: Any, values: Any) -> None:
    """Write the smaller ones of an array and of values into it."""
    cupy.minimum(array, values, out=array)


def scatter_add(array: Any, index: Any, values: Any) -> None:
    """Add `values` at `index` in place; repeated indices add up, in an order that varies between runs."""
    kind, width = array.dtype.kind, array.dtype.itemsize
    if kind == "f" or (width >= 4 and (kind, width) != ("i", 8)):
        cupyx.scatter_add(array, index, values)
    elif width == 8:  # CUDA has no atomic addition for int64, but the sums of uint64 have the same bits
        cupyx.scatter_add(array.view(cupy.uint64), index, _as_uint64(values))
    else:
        total = array.astype(cupy.int32)
        cupyx.scatter_add(total, index, values)
        array[...] = total


def _as_uint64(values: Any) -> Any:
    return values.astype(cupy.int64).view(cupy.uint64) if hasattr(values, "astype") else values


def scatter_to_zeros(values: Any, shape: tuple[int, ...], index: Any) -> Any:
    """Return zeros of `shape` with `values` added at `index`: the adjoint of `array[index]`."""
    out = cupy.zeros(shape, values.dtype)
    if has_array(index):
        scatter_add(out, index, values)
    else:
        out[index] = values
    return out


def _combine(array: Any, where: tuple[Any, ...], values: Any, operation: Any) -> None:
    """Let `array[where] = operation(array[where], values)` count repeated indices:
    CuPy has atomic maxima for some types only.

    The values for one place are taken in turns, as many as the most frequent index occurs.
    """
    flat = where[0]
    for axis in range(1, array.ndim):
        flat = flat * array.shape[axis] + where[axis]
    flat, values, out = flat.reshape(-1), values.reshape(-1), array.reshape(-1)
    order = cupy.argsort(flat, kind="stable")
    flat, values = flat[order], values[order]
    turn = cupy.arange(flat.size) - cupy.searchsorted(flat, flat)
    for number in range(int(turn.max()) + 1):
        now = turn == number
        out[flat[now]] = operation(out[flat[now]], values[now])


def scatter_reduce(array: Any, dim: int, index: Any, values: Any, reduce: str, include_self: bool) -> Any:
    """Return a copy of an array in which the values
    that go to one place along a dimension are combined with what is there.

    `reduce` is "sum", "prod", "mean", "amax" or "amin". Without `include_self` only the values count.
    """
    out = cupy.array(array, order="C").reshape(array.shape or (1,))
    index = index.reshape(index.shape or (1,))
    values = values.reshape(values.shape or (1,))[tuple([slice(n) for n in index.shape])]
    where = index_along_axis(index, dim % out.ndim)
    if not include_self:
        out[where] = neutral(reduce, array.dtype)
    if reduce in ("sum", "mean"):
        scatter_add(out, where, values)
    else:
        _combine(out, where, values, {"prod": cupy.multiply, "amax": cupy.maximum, "amin": cupy.minimum}[reduce])
    if reduce == "mean":
        counts = cupy.full(out.shape, int(include_self))
        scatter_add(counts, where, cupy.ones(index.shape, counts.dtype))
        counts = cupy.maximum(counts, 1)
        out = out // counts if array.dtype.kind in "iu" else out / counts.astype(array.dtype)
    return out.reshape(array.shape).astype(array.dtype, copy=False)


def scatter_along_axis(values: Any, shape: tuple[int, ...], indices: Any, axis: int, accumulate: bool = False) -> Any:
    """Return zeros of `shape` with `values` at `indices` along an axis: the adjoint of `take_along_axis`."""
    out = cupy.zeros(shape, values.dtype)
    index = index_along_axis(indices, axis % len(shape))
    if accumulate:
        scatter_add(out, index, values)
    else:
        out[index] = values
    return out


def add_at(array: Any, index: Any, values: Any) -> Any:
    """Return a copy of an array with `values` added at `index`, repeated ones too."""
    out = cupy.array(array)
    scatter_add(out, index, values)
    return out


def index_along_axis(indices: Any, axis: int) -> tuple[Any, ...]:
    """Return the advanced index that means `take_along_axis(array, indices, axis)`."""
    ndim = indices.ndim
    grid = [cupy.arange(n).reshape((-1,) + (1,) * (ndim - 1 - d)) for d, n in enumerate(indices.shape)]
    grid[axis] = indices
    return tuple(grid)


def diagonal_to_zeros(values: Any, shape: tuple[int, ...], offset: int, axis1: int, axis2: int) -> Any:
    """Return zeros of `shape` with `values` on a diagonal: the adjoint of `diagonal`."""
    out = cupy.zeros(shape, values.dtype)
    cupy.diagonal(out, offset, axis1, axis2)[...] = values
    return out


def has_array(index: Any) -> bool:
    """Return whether an index is an advanced one, which may name an element more than once."""
    parts = index if isinstance(index, tuple) else (index,)
    return builtins.any(isinstance(part, cupy.ndarray) for part in parts)


def put_along(array: Any, indices: Any, values: Any, axis: int) -> Any:
    """Return a copy of an array with `values` at `indices` along an axis."""
    return put(array, index_along_axis(indices, axis % array.ndim), values)


def put_diagonal(array: Any, values: Any, offset: int, axis1: int, axis2: int) -> Any:
    """Return a copy of an array with values on a diagonal."""
    out = cupy.array(array)
    cupy.diagonal(out, offset, axis1, axis2)[...] = values
    return out


def pick(matrix: Any, columns: Any) -> Any:
    """Return one element of every row of a matrix, in the columns that the indices name."""
    return matrix[cupy.arange(len(matrix)), columns]


def one_hot(index: Any, classes: int, dtype: Any) -> Any:
    """Return a row of zeros with a one at each index."""
    return (index[:, None] == cupy.arange(classes)).astype(dtype)


# ------------------------------------------------------------------------------------------------------------ linalg


def inv(array: Any) -> Any:
    """Return the inverses of square matrices; raise LinAlgError for singular ones, which waits for the GPU."""
    with cupyx.errstate(linalg="raise"):
        return cupy.linalg.inv(array)


def solve(matrix: Any, right: Any) -> Any:
    """Return X with `matrix @ X = right` for matrices on the right too;
    batches broadcast, which CuPy's solve does not do.
    """
    batch = numpy.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    matrix = cupy.ascontiguousarray(cupy.broadcast_to(matrix, (*batch, *matrix.shape[-2:])))
    right = cupy.ascontiguousarray(cupy.broadcast_to(right, (*batch, *right.shape[-2:])))
    if right.size == 0:
        return right
    with cupyx.errstate(linalg="raise"):
        return cupy.linalg.solve(matrix, right)


def det(array: Any) -> Any:
    """Return the determinants of square matrices."""
    return cupy.linalg.det(array)


def slogdet(array: Any) -> Any:
    """Return the signs of the determinants and the logarithms of their magnitudes."""
    return cupy.linalg.slogdet(array)


def cholesky(array: Any) -> Any:
    """Return the lower triangular factors; raise LinAlgError for matrices that are not positive definite."""
    if array.size == 0:
        return array.copy()
    with cupyx.errstate(linalg="raise"):
        return cupy.linalg.cholesky(array)


def eigh(array: Any) -> Any:
    """Return the eigenvalues and eigenvectors of symmetric matrices, of which the lower triangle is read."""
    return cupy.linalg.eigh(array)


def qr(array: Any, mode: Any) -> Any:
    """Return Q and R, thin ones with the mode "reduced"."""
    return cupy.linalg.qr(array, mode)


def svd(array: Any, full_matrices: bool) -> Any:
    """Return U, S and Vh."""
    return cupy.linalg.svd(array, full_matrices=full_matrices)


# --------------------------------------------------------------------------------------------------------- questions


def all_in_range(index: Any, length: int) -> bool | None:
    """Return None: the answer would have to be waited for."""
    return None


def indexable(shape: tuple[int, ...], index: Any) -> bool | None:
    """Return None: the answer would have to be waited for."""
    return None


def holds(mask: Any) -> bool | None:
    """Return whether a condition holds throughout, which waits for the GPU."""
    return bool(cupy.all(mask))


# ------------------------------------------------------------------------------------------------------------ memory


def storage_offset(array: Any) -> int:
    """Return how many elements lie before the first one of an array in the memory that it sees."""
    return (array.data.ptr - array.data.mem.ptr) // array.itemsize


def storage_size(array: Any) -> int:
    """Return how many elements of an array's type its memory has room for."""
    return array.data.mem.size // array.itemsize


def view_strided(array: Any, shape: Sequence[int], stride: Sequence[int], offset: int) -> Any:
    """Return a view of the memory of an array; stride and offset, which is counted from its start, are in elements."""
    width = array.itemsize
    start = cupy.cuda.MemoryPointer(array.data.mem, offset * width)
    return cupy.ndarray(tuple(shape), array.dtype, start, tuple([step * width for step in stride]))


def empty_strided(shape: Sequence[int], stride: Sequence[int], dtype: Any) -> Any:
    """Return an uninitialised array of a stride, in elements, that has a memory of its own."""
    low, high = extent(shape, stride)
    return view_strided(cupy.empty(high - low, dtype), shape, stride, -low)


def gather_strided(memory: Any, shape: Sequence[int], stride: Sequence[int], offset: int) -> Any:
    """Return the elements of a vector where `view_strided` sees them in a memory: the adjoint of `scatter_strided`."""
    return view_strided(cupy.array(memory), shape, stride, offset)


def scatter_strided(values: Any, size: int, stride: Sequence[int], offset: int) -> Any:
    """Return a vector of zeros with values added where they lie as `view_strided` sees it: the adjoint of that."""
    out = cupy.zeros(size, values.dtype)
    if may_overlap(values.shape, stride):
        scatter_add(out, positions(cupy, values.shape, stride, offset), values)
    else:
        view_strided(out, values.shape, stride, offset)[...] = values
    return out


def receive(array: Any, device: Any) -> Any:
    """Copy an array of any backend to the current GPU, which asking for `device.xp` made `device`."""
    return cupy.array(array)


def synchronize() -> None:
    """Wait until the current GPU has done all work given to it."""
    cupy.cuda.Device().synchronize()


def to_numpy(array: Any) -> Any:
    """Copy an array to the host."""
    return array.get()


# -------------------------------------------------------------------------------------------------------- the column

CUPY = Column()
CUPY.fill(globals(), cupy)
xp = Namespace(CUPY)
