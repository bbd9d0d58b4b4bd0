"""Pools: the maximum, the mean or the norm of windows (Note [Windows] in `windows.py`)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.elementwise.extrema import where
from nanotorch.ops.nn.windows import per_dimension
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.runtime import floating
from nanotorch.ops.rows.sample import distinct, edge, real, sample


def _batch_last(xp: Any, x: Any, dimensions: int) -> Any:
    """Return (..., H, W) as (H, W, N): elements that are treated alike then lie next to each other."""
    shape = x.shape[x.ndim - dimensions :]
    return xp.batch_last(xp.reshape(x, (math.prod(x.shape[: x.ndim - dimensions]), *shape)))


def _batch_first(xp: Any, x: Any, lead: Any) -> Any:
    return xp.reshape(xp.batch_first(x), (*lead, *x.shape[:-1]))


def _surrounded(xp: Any, moved: Any, shape: tuple[int, ...], padding: Any, value: Any) -> Any:
    """Return an array (H, W, N) inside a larger one of a constant."""
    if tuple(moved.shape[:-1]) == shape:
        return moved
    position = tuple(slice(p, p + n) for p, n in zip(padding, moved.shape[:-1], strict=True))
    return xp.framed(moved, (*shape, moved.shape[-1]), position, value)


def _whole(lengths: Any, sizes: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """Return the lengths of the padded input: with ceil_mode the last window may reach beyond the padding."""
    return tuple(
        max(n + 2 * p, (o - 1) * s + d * (k - 1) + 1)
        for n, o, k, s, p, d in zip(lengths, sizes, kernel, stride, padding, dilation, strict=True)
    )


def _steps(lengths: Any) -> list[int]:
    """Return by how much the number of an element grows along each dimension."""
    return [math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]


def _along(xp: Any, vector: Any, axis: int, ndim: int) -> Any:
    return xp.reshape(vector, (1,) * axis + (-1,) + (1,) * (ndim - axis - 1))


def _max_pool_self(xp: Any, grad: Any, self_shape: Any, sizes: Any, indices: Any) -> Any:
    area = math.prod(self_shape[len(self_shape) - len(sizes) :])
    count = math.prod(self_shape[: len(self_shape) - len(sizes)])
    rows = xp.reshape(indices, (count, math.prod(sizes))) + xp.reshape(xp.arange(count) * area, (count, 1))
    flat = xp.scatter_to_zeros(xp.reshape(grad, (-1,)), (count * area,), xp.reshape(rows, (-1,)))
    return xp.reshape(flat, self_shape)


@op(
    self=lambda xp, grads, self_shape, sizes, indices: _max_pool_self(xp, grads[0], self_shape, sizes, indices),
    outputs="output indices",
    where="internal",
    node="MaxPool2DWithIndicesBackward0",
)
def _max_pool(xp: Any, self: Array, sizes: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    """The maxima of windows, and the number that each has among the elements of its channel."""
    dimensions, lengths = len(sizes), self.shape[self.ndim - len(sizes) :]
    smallest = -math.inf if self.dtype.kind == "f" else np.iinfo(self.dtype).min
    moved = _batch_last(xp, self, dimensions)
    inside, first, numbers, places = _numbers(tuple(lengths), sizes, kernel, stride, padding, dilation)
    seen = xp.windows(
        _surrounded(xp, moved, _whole(lengths, sizes, kernel, stride, padding, dilation), padding, smallest),
        0,
        kernel,
        stride,
        dilation,
    )
    seen = seen[(slice(None),) * dimensions + tuple(slice(n) for n in sizes)]
    best = seen[inside[0]]
    which = xp.zeros(best.shape, dtype=first.dtype)
    if any(padding):  # where all of a window is -inf, its first element in the input counts as the maximum
        which = which + xp.asarray(first)
    for number, position in enumerate(inside[1:], 1):
        value = seen[position]
        better = (value > best) | (value != value)
        which = xp.maximum(which, xp.astype(better, which.dtype) * number)
        best = xp.maximum(best, value)
    sent = xp.asarray(numbers)  # both in one transfer to a GPU
    indices = xp.take(sent[: len(inside)], which, axis=0) + xp.reshape(sent[len(inside) :], places)
    lead = self.shape[: self.ndim - dimensions]
    return _batch_first(xp, best if len(inside) > 1 else xp.array(best), lead), _batch_first(xp, indices, lead)


@functools.lru_cache(maxsize=64)
def _numbers(
    lengths: Any, sizes: Any, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[Any, Any, Any, Any]:
    """Return what `_max_pool` knows from shapes alone, as arrays of the host that nobody writes to.

    Returns:
        the positions inside a window; for every window the number of its first one that is no padding; by how much the
        number of an element grows from the first of its window, followed by the number of the first element of every
        window; the shape of the latter.
    """
    inside = list(itertools.product(*map(range, kernel)))
    steps = _steps(lengths)
    offsets = np.array(
        [sum(i * d * step for i, d, step in zip(position, dilation, steps, strict=True)) for position in inside]
    )
    first: Any = np.zeros((1,) * (len(sizes) + 1), np.int64)
    starts = first
    for axis, (size, s, p, d, inner, step) in enumerate(
        zip(sizes, stride, padding, dilation, _steps(kernel), steps, strict=True)
    ):
        start = np.arange(size) * s - p
        first = first + _along(np, np.maximum(d - 1 - start, 0) // d * inner, axis, len(sizes) + 1)
        starts = starts + _along(np, start * step, axis, len(sizes) + 1)
    smallest = np.int8 if len(inside) < 2**7 else np.int16 if len(inside) < 2**15 else np.int32
    return inside, first.astype(smallest), np.concatenate([offsets, starts.reshape(-1)]), starts.shape


def _divided(
    xp: Any,
    moved: Any,
    lengths: Any,
    sizes: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:
    """Divide the sums of windows (H, W, N) by how many elements each window has."""
    if divisor is not None:
        return moved / divisor
    for axis, (n, size, k, s, p) in enumerate(zip(lengths, sizes, kernel, stride, padding, strict=True)):
        if (size - 1) * s + k <= n + 2 * p and (count_include_pad or not p):
            moved = moved / k
            continue
        start = xp.arange(size) * s - p
        stop = xp.minimum(start + k, n + p)
        if not count_include_pad:
            start, stop = xp.maximum(start, 0), xp.minimum(stop, n)
        moved = moved / _along(xp, xp.astype(stop - start, moved.dtype), axis, moved.ndim)
    return moved


def _avg_pool_self(
    xp: Any,
    grad: Any,
    self_shape: Any,
    sizes: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:
    dimensions = len(sizes)
    lead, lengths = self_shape[: len(self_shape) - dimensions], self_shape[len(self_shape) - dimensions :]
    moved = _divided(
        xp, _batch_last(xp, grad, dimensions), lengths, sizes, kernel, stride, padding, count_include_pad, divisor
    )
    ones = (1,) * dimensions
    shape = (*_whole(lengths, sizes, kernel, stride, padding, ones), moved.shape[-1])
    whole = xp.from_windows(xp.broadcast_to(moved, (*kernel, *moved.shape)), shape, 0, kernel, stride, ones)
    return _batch_first(xp, whole[tuple(slice(p, p + n) for p, n in zip(padding, lengths, strict=True))], lead)


@op(self=_avg_pool_self, where="internal", node="AvgPool2DBackward0")
def _avg_pool(
    xp: Any,
    self: Array,
    sizes: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    count_include_pad: bool,
    divisor: int | None,
) -> Array:
    """The means of windows."""
    dimensions, lengths = len(sizes), self.shape[self.ndim - len(sizes) :]
    ones = (1,) * dimensions
    moved = _surrounded(
        xp, _batch_last(xp, self, dimensions), _whole(lengths, sizes, kernel, stride, padding, ones), padding, 0
    )
    seen = xp.windows(moved, 0, kernel, stride, ones)[(slice(None),) * dimensions + tuple(slice(n) for n in sizes)]
    total = xp.sum(seen, axis=tuple(range(dimensions)))
    return _batch_first(
        xp,
        _divided(xp, total, lengths, sizes, kernel, stride, padding, count_include_pad, divisor),
        self.shape[: self.ndim - dimensions],
    )


def _prepare(
    name: str, input: Any, dimensions: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[tuple[int, ...], ...]:
    """Return the output's sizes and kernel, stride, padding, dilation per dimension."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(input).__name__}")
    arguments = [
        tuple(value) if isinstance(value, list) else value for value in (kernel_size, stride, padding, dilation)
    ]
    return _geometry(name, input._array.shape, dimensions, *arguments, ceil_mode)


@functools.lru_cache(maxsize=256)
def _geometry(
    name: str, shape: Any, dimensions: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[tuple[int, ...], ...]:
    """Return the same for a shape of the input, checked with PyTorch's words once."""
    if len(shape) not in (dimensions + 1, dimensions + 2):
        raise ShapeError(
            f"{name}: Expected {dimensions + 1}D or {dimensions + 2}D (batch mode) tensor, got input {shape}"
        )
    kernel = per_dimension(name, "kernel_size", kernel_size, dimensions)
    empty = stride is None or (isinstance(stride, tuple) and not stride)
    stride = kernel if empty else per_dimension(name, "stride", stride, dimensions)
    padding = per_dimension(name, "padding", padding, dimensions)
    dilation = per_dimension(name, "dilation", dilation, dimensions)
    if any(p > k // 2 for p, k in zip(padding, kernel, strict=True)):
        raise RuntimeError(
            f"{name}: pad should be smaller than or equal to half of kernel size, but got padding={padding},"
            f" kernel_size={kernel}"
        )
    sizes = []
    for n, k, s, p, d in zip(shape[-dimensions:], kernel, stride, padding, dilation, strict=True):
        size = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        sizes.append(size - 1 if ceil_mode and (size - 1) * s >= n + p else size)  # the last window begins inside
    if min(sizes) < 1:
        raise ShapeError(
            f"{name}: Given input size: {shape[-dimensions - 1 :]}. Calculated output size: "
            f"{(shape[-dimensions - 1], *sizes)}. Output size is too small"
        )
    for n, size, s, p, d in zip(shape[-dimensions:], sizes, stride, padding, dilation, strict=True):
        if p and n < d and any((start if start >= 0 else start % d) >= n for start in range(-p, size * s - p, s)):
            raise ShapeError(
                f"{name}: with padding={padding} and dilation={dilation} some windows of input {shape} hold nothing but"
                " padding"
            )
    return tuple(sizes), kernel, stride, padding, dilation


def _max(
    name: str,
    input: Tensor,
    dimensions: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    output, indices = _max_pool(
        input, *_prepare(name, input, dimensions, kernel_size, stride, padding, dilation, ceil_mode)
    )
    return (output, indices) if return_indices else output


def _avg(
    name: str,
    input: Tensor,
    dimensions: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    sizes, kernel, stride, padding, _ = _prepare(name, input, dimensions, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise RuntimeError(f"{name}: divisor must be not zero")
    return _avg_pool(input, sizes, kernel, stride, padding, count_include_pad, divisor_override)


nan, inf = math.nan, math.inf


@overload
def max_pool1d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...
@overload
def max_pool1d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@composite(
    where="functional",
    samples=[
        sample(distinct(2, 3, 7), 2),
        sample(distinct(2, 3, 7), 3, stride=2, padding=1),
        sample(distinct(3, 8), 3, 2, ceil_mode=True),
        sample(distinct(2, 3, 9), 3, stride=1, dilation=2, padding=1, return_indices=True),
        sample(real(0, 3, 4), 2),
        sample(edge([[1.0, 1.0, nan, 0.0, -inf, -inf, 2.0, 2.0]]), 2, return_indices=True),
        sample(edge([[-inf, -inf, -inf, nan, 3.0]]), 3, stride=1, padding=1, return_indices=True),
    ],
)
def max_pool1d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maxima of windows of (N, C, L) or (C, L); the arguments are those of `max_pool2d`."""
    return _max("max_pool1d", input, 1, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...
@overload
def max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@composite(
    where="functional",
    samples=[
        sample(distinct(2, 3, 6, 4), 2),
        sample(distinct(2, 3, 7, 5), (3, 2), stride=(2, 1), padding=(1, 0)),
        sample(distinct(3, 6, 6), 3, 2, ceil_mode=True, return_indices=True),
        sample(distinct(1, 2, 7, 7), 3, stride=1, dilation=(2, 1), padding=1, return_indices=True),
        sample(edge([[[1.0, 1.0, nan], [1.0, nan, 0.0], [5.0, 5.0, 5.0]]]), 2, stride=1, return_indices=True),
        sample(real(0, 3, 4, 4), 2),
    ],
)
def max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maxima of windows of images (N, C, H, W) or (C, H, W); among equal ones the first gets the gradient.

    Args:
        input: images.
        kernel_size: the height and the width of windows, or one int for both, as in all arguments.
        stride: by how much windows move, by default `kernel_size`.
        padding: how many elements, which never are maxima, stand around the images.
        dilation: the distance between the elements of a window.
        ceil_mode: windows may reach beyond the end, if they begin before it.
        return_indices: also return where in its image (H * W) each maximum is.

    >>> torch.nn.functional.max_pool2d(torch.arange(16.0).reshape(1, 4, 4), 2)
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """
    return _max("max_pool2d", input, 2, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@composite(
    where="functional",
    samples=[
        sample(real(2, 3, 7), 2),
        sample(real(2, 3, 7), 3, stride=2, padding=1),
        sample(real(3, 8), 3, 2, ceil_mode=True),
        sample(real(2, 3, 8), 3, 2, 1, ceil_mode=True, count_include_pad=False),
        sample(real(2, 3, 8), 3, 2, 1, True),
    ],
)
def avg_pool1d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The means of windows of (N, C, L) or (C, L); the arguments are those of `avg_pool2d`."""
    return _avg("avg_pool1d", input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@composite(
    where="functional",
    samples=[
        sample(real(2, 3, 6, 4), 2),
        sample(real(2, 3, 7, 5), (3, 2), stride=(2, 1), padding=(1, 0)),
        sample(real(3, 6, 6), 3, 2, ceil_mode=True),
        sample(real(1, 2, 6, 6), 3, 2, 1, ceil_mode=True, count_include_pad=False),
        sample(real(1, 2, 6, 6), 3, 2, 1, True),
        sample(real(1, 2, 6, 6), (2, 3), divisor_override=5),
        sample(real(0, 3, 4, 4), 2),
        sample(edge([[[1.0, inf], [nan, 0.0], [inf, -inf]]]), 1, 1),
    ],
)
def avg_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The means of windows of images (N, C, H, W) or (C, H, W).

    `padding` adds zeros, which `count_include_pad` counts; `divisor_override` divides every sum by the same
    number. The other arguments are those of `max_pool2d`.
    """
    return _avg("avg_pool2d", input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _bounds(length: int, size: int) -> tuple[list[int], list[int]]:
    """Return where the windows of an adaptive pool start and stop."""
    return [i * length // size for i in range(size)], [-(-(i + 1) * length // size) for i in range(size)]


def _adaptive_sizes(name: str, input: Any, output_size: Any, dimensions: int) -> tuple[int, ...]:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(input).__name__}")
    if input.ndim not in (dimensions + 1, dimensions + 2) or 0 in input.shape[-dimensions:]:
        raise ShapeError(
            f"{name}: Expected {dimensions + 1}D or {dimensions + 2}D (batch mode) tensor with elements in every image,"
            f" got input {tuple(input.shape)}"
        )
    given = output_size if isinstance(output_size, tuple | list) else (output_size,)
    if any(size is not None and size < 0 for size in given):
        raise RuntimeError(f"{name}: elements of output_size must be greater than or equal to 0, got {output_size}")
    if output_size is None or len(given) != (dimensions if isinstance(output_size, tuple | list) else 1):
        raise RuntimeError(f"{name}: output_size must be an int or {dimensions} of them, got {output_size}")
    sizes = per_dimension(name, "output_size", [-1 if size is None else size for size in given], dimensions)
    return tuple(n if size == -1 else size for n, size in zip(input.shape[-dimensions:], sizes, strict=True))


def _adaptive_avg(name: str, input: Tensor, output_size: Any, dimensions: int) -> Tensor:
    sizes = _adaptive_sizes(name, input, output_size, dimensions)
    if not input.is_floating_point():
        raise RuntimeError(f"{name}: expected a floating-point input, got {input.dtype}: convert with .float()")
    for axis, size in enumerate(sizes, input.ndim - dimensions):
        length = input.shape[axis]
        if size == length:
            continue
        if size and length % size == 0:
            input = input.reshape(*input.shape[:axis], size, length // size, *input.shape[axis + 1 :]).mean(axis + 1)
            continue
        starts, stops = np.array(_bounds(length, size), np.int64).reshape(2, size)
        within = starts[:, None] + np.arange(int((stops - starts).max(initial=1)))  # a few elements for each mean
        shape = (*within.shape, *[1] * (input.ndim - axis - 1))
        index, inside, counts = (
            from_array(input.device.xp.asarray(a), input.device)
            for a in (
                np.minimum(within, length - 1).reshape(-1),
                (within < stops[:, None]).reshape(shape),
                (stops - starts).reshape(-1, *shape[2:]).astype(input._array.dtype),
            )
        )
        taken = input.index_select(axis, index).unflatten(axis, within.shape)
        input = where(inside, taken, 0.0).sum(axis + 1) / counts
    return input.contiguous()


@composite(
    widens=True,
    where="functional",
    samples=[sample(real(2, 3, 7), 3), sample(real(3, 6), 2), sample(real(2, 3, 5), 1), sample(real(2, 2, 3), 5)],
)
def adaptive_avg_pool1d(input: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """The means of `output_size` windows that share (N, C, L) or (C, L) as evenly as possible."""
    return _adaptive_avg("adaptive_avg_pool1d", input, output_size, 1)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(2, 3, 7, 5), (3, 2)),
        sample(real(3, 6, 4), 2),
        sample(real(2, 3, 5, 4), 1),
        sample(real(2, 2, 3, 4), (5, None)),
        sample(real(2, 2, 3, 4), (None, 3)),
    ],
)
def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """The means of windows that share images as evenly as possible: (N, C, H, W) gives (N, C, *output_size).

    None in `output_size` keeps a length. Windows overlap by one element where a length is not divisible.
    """
    return _adaptive_avg("adaptive_avg_pool2d", input, output_size, 2)


def _adaptive_max(name: str, input: Tensor, output_size: Any, dimensions: int, return_indices: bool) -> Any:
    sizes = _adaptive_sizes(name, input, output_size, dimensions)
    lengths = input.shape[-dimensions:]
    numbers = np.zeros((1,) * 2 * dimensions, np.int64)
    for axis, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        starts, stops = np.array(_bounds(length, size), np.int64).reshape(2, size)
        longest = int((stops - starts).max(initial=1))
        within = np.minimum(starts[:, None] + np.arange(longest), stops[:, None] - 1)  # the last one again
        shape = [1] * 2 * dimensions
        shape[axis], shape[dimensions + axis] = size, longest
        numbers = numbers + within.reshape(shape) * math.prod(lengths[axis + 1 :])
    count = math.prod(numbers.shape[dimensions:])
    table = from_array(input.device.xp.asarray(numbers.reshape(*sizes, count)), input.device)
    lead = input.shape[:-dimensions]
    values, which = input.reshape(*lead, math.prod(lengths))[..., table].max(-1)
    if not return_indices:
        return values
    return values, table.expand(*lead, *table.shape).gather(-1, which.unsqueeze(-1)).squeeze(-1)


@overload
def adaptive_max_pool1d(
    input: Tensor, output_size: int | Sequence[int], return_indices: Literal[False] = False
) -> Tensor: ...
@overload
def adaptive_max_pool1d(
    input: Tensor, output_size: int | Sequence[int], return_indices: Literal[True]
) -> tuple[Tensor, Tensor]: ...
@composite(
    where="functional",
    samples=[
        sample(distinct(2, 3, 7), 3, return_indices=True),
        sample(distinct(3, 6), 2),
        sample(distinct(2, 2, 3), 5),
    ],
)
def adaptive_max_pool1d(input: Tensor, output_size: int | Sequence[int], return_indices: bool = False) -> Any:
    """The maxima of `output_size` windows that share (N, C, L) or (C, L) as evenly as possible."""
    return _adaptive_max("adaptive_max_pool1d", input, output_size, 1, return_indices)


@overload
def adaptive_max_pool2d(
    input: Tensor, output_size: int | Sequence[int], return_indices: Literal[False] = False
) -> Tensor: ...
@overload
def adaptive_max_pool2d(
    input: Tensor, output_size: int | Sequence[int], return_indices: Literal[True]
) -> tuple[Tensor, Tensor]: ...
@composite(
    where="functional",
    samples=[
        sample(distinct(2, 3, 7, 5), (3, 2), return_indices=True),
        sample(distinct(3, 6, 4), 2),
        sample(distinct(2, 2, 3, 4), (5, None)),
    ],
)
def adaptive_max_pool2d(input: Tensor, output_size: int | Sequence[int], return_indices: bool = False) -> Any:
    """The maxima of windows that share images as evenly as possible: (N, C, H, W) gives (N, C, *output_size)."""
    return _adaptive_max("adaptive_max_pool2d", input, output_size, 2, return_indices)


def _extreme(pool: Any, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    """Return the largest or the smallest absolute value of windows: the norms of order infinity and minus infinity."""
    sign = 1.0 if norm_type > 0 else -1.0
    pooled: Tensor = pool(input.abs() * sign, kernel_size, stride, ceil_mode=ceil_mode)
    return pooled * sign


def _norm_of(means: Tensor, norm_type: float, count: int) -> Tensor:
    if norm_type == 0:
        raise ZeroDivisionError("lp_pool: the norm of order 0 has no root; choose another norm_type")
    return (means.sign() * means.abs().relu() * count).pow(1.0 / norm_type)


@composite(
    widens=True,
    where="functional",
    samples=[sample(real(2, 3, 7, low=0.1), 2.0, 3, stride=2), sample(real(2, 3, 7, low=0.1), 3.0, 2)],
)
def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: int,
    stride: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`sum(x ** p) ** (1 / p)` of windows of (N, C, L) or (C, L)."""
    if norm_type in (math.inf, -math.inf):
        return _extreme(max_pool1d, input, norm_type, kernel_size, stride, ceil_mode)
    means = _avg("lp_pool1d", floating(input).pow(norm_type), 1, kernel_size, stride, 0, ceil_mode, True, None)
    return _norm_of(means, norm_type, kernel_size)


@composite(
    widens=True,
    where="functional",
    samples=[sample(real(2, 3, 6, 5, low=0.1), 2.0, (3, 2), stride=2), sample(real(3, 6, 6, low=0.1), 3.0, 2)],
)
def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`sum(x ** p) ** (1 / p)` of windows of images (N, C, H, W) or (C, H, W)."""
    if norm_type in (math.inf, -math.inf):
        return _extreme(max_pool2d, input, norm_type, kernel_size, stride, ceil_mode)
    means = _avg("lp_pool2d", floating(input).pow(norm_type), 2, kernel_size, stride, 0, ceil_mode, True, None)
    return _norm_of(means, norm_type, math.prod(per_dimension("lp_pool2d", "kernel_size", kernel_size, 2)))
