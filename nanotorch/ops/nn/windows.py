"""Sliding windows over arrays, which convolutions and pools are made of.

Note [Windows]
~~~~~~~~~~~~~~
`xp.windows(x, first, kernel, stride, dilation)` looks at the dimensions of `x` from `first` on through a window
of `kernel` elements, `dilation` apart, that moves by `stride`. Each of these dimensions becomes two: where in the
window, and where the window is. `x` of shape (a, L, b) gives (a, K, P, b) with
`P = (L - dilation * (K - 1) - 1) // stride + 1` and `windows[:, k, p] = x[:, p * stride + k * dilation]`; two
dimensions give (a, K1, K2, P1, P2, b). Nothing is computed and nothing copied: only the strides differ, so elements of
several windows lie in memory once.

Its adjoint, `xp.from_windows`, adds the elements of all windows to zeros at the places they came from. Each is the
derivative of the other, so whatever is written with the two can be differentiated any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.dims import sizes_of
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import real, sample
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.ops.shape.padding import pad


@TENSOR.define("windows")
@op(
    self=lambda xp, grad, self_shape, first, kernel, stride, dilation: xp.from_windows(
        grad, self_shape, first, kernel, stride, dilation
    ),
    where="internal",
    node="UnfoldBackward0",
)
def _windows(xp: Any, self: Array, first: int, kernel: Any, stride: Any, dilation: Any) -> Array:
    """All windows of an array, a copy."""
    return xp.array(xp.windows(self, first, kernel, stride, dilation))


@op(
    self=lambda xp, grad, first, kernel, stride, dilation: xp.windows(grad, first, kernel, stride, dilation),
    where="internal",
    node="Col2ImBackward0",
)
def _from_windows(xp: Any, self: Array, size: Any, first: int, kernel: Any, stride: Any, dilation: Any) -> Array:
    """Zeros with the elements of all windows added at their places."""
    return xp.from_windows(self, size, first, kernel, stride, dilation)


@TENSOR.define("from_windows")
def from_windows(x: Tensor, shape: Any, first: int, kernel: Any, stride: Any, dilation: Any) -> Tensor:
    """Zeros of a shape with the elements of all windows added at their places (Note [Windows])."""
    return _from_windows(x, tuple(shape), first, kernel, stride, dilation)


def places(length: int, kernel: int, stride: int, dilation: int) -> int:
    """Return how many places a window finds in so many elements."""
    return (length - dilation * (kernel - 1) - 1) // stride + 1


def per_dimension(name: str, argument: str, value: Any, count: int) -> tuple[int, ...]:
    """Return an argument that is one int for all dimensions, or one int per dimension, as the latter."""
    values = sizes_of(name, (value,), argument)
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise RuntimeError(f"{name}: {argument} must be an int or {count} ints, got {value!r}")
    if argument in ("kernel_size", "stride", "dilation") and min(values) < 1:
        raise RuntimeError(
            f"{name}: non-positive {argument} is not supported: {argument} should be greater than zero, but got {value}"
        )
    if argument == "padding" and min(values) < 0:
        raise RuntimeError(
            f"{name}: negative padding is not supported: padding should be non-negative, but got {value}"
        )
    return values


@composite(
    where="functional",
    samples=[
        sample(real(2, 3, 5, 4), 2),
        sample(real(2, 1, 5, 4), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(2, 1)),
        sample(real(2, 4, 4), 2, stride=2),
        sample(real(0, 3, 5, 4), 2),
    ],
)
def unfold(
    input: Tensor,
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    stride: int | Sequence[int] = 1,
) -> Tensor:
    """All windows of images (N, C, H, W), zero-padded, as columns (N, C * K1 * K2, places)."""
    if input.ndim not in (3, 4):
        raise ShapeError(f"unfold: expected 3D or 4D (batch mode) input, got input {tuple(input.shape)}")
    if input.ndim == 3:
        return unfold(input.unsqueeze(0), kernel_size, dilation, padding, stride).squeeze(0)
    kernel, dilation, padding, stride = (
        per_dimension("unfold", argument, value, 2)
        for argument, value in (
            ("kernel_size", kernel_size),
            ("dilation", dilation),
            ("padding", padding),
            ("stride", stride),
        )
    )
    padded = padded_with_zeros(input, padding)
    sizes = [places(*each) for each in zip(padded.shape[2:], kernel, stride, dilation, strict=True)]
    if min(sizes) < 1:
        raise ShapeError(
            f"unfold: windows of kernel_size={kernel}, dilation={dilation} find no place in input {tuple(input.shape)}"
            f" with padding={padding}"
        )
    columns = _windows(padded, 2, kernel, stride, dilation)
    return columns.reshape(input.shape[0], input.shape[1] * kernel[0] * kernel[1], sizes[0] * sizes[1])


@composite(
    where="functional",
    samples=[
        sample(real(2, 12, 12), (5, 4), 2),
        sample(real(2, 6, 12), (5, 4), (2, 3), dilation=(2, 1), padding=(1, 1), stride=(2, 1)),
        sample(real(8, 4), (4, 4), 2, stride=2),
    ],
)
def fold(
    input: Tensor,
    output_size: int | Sequence[int],
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    stride: int | Sequence[int] = 1,
) -> Tensor:
    """Images (N, C, H, W) in which the windows, given as columns (N, C * K1 * K2, places), are added up."""
    if input.ndim not in (2, 3):
        raise ShapeError(f"fold: expected 2D or 3D (batch mode) input, got input {tuple(input.shape)}")
    if input.ndim == 2:
        return fold(input.unsqueeze(0), output_size, kernel_size, dilation, padding, stride).squeeze(0)
    size, kernel, dilation, padding, stride = (
        per_dimension("fold", argument, value, 2)
        for argument, value in (
            ("output_size", output_size),
            ("kernel_size", kernel_size),
            ("dilation", dilation),
            ("padding", padding),
            ("stride", stride),
        )
    )
    whole = [length + 2 * p for length, p in zip(size, padding, strict=True)]
    sizes = [places(*each) for each in zip(whole, kernel, stride, dilation, strict=True)]
    count, area = kernel[0] * kernel[1], sizes[0] * sizes[1]
    if input.shape[1] % count or input.shape[2] != area:
        raise ShapeError(
            f"fold: expected columns (N, a multiple of {count}, {area}) for output_size={size}, kernel_size={kernel}, "
            f"dilation={dilation}, padding={padding}, stride={stride}, got input {tuple(input.shape)}"
        )
    n, channels = input.shape[0], input.shape[1] // count
    image = _from_windows(
        input.reshape(n, channels, *kernel, *sizes), (n, channels, *whole), 2, kernel, stride, dilation
    )
    return image[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]].contiguous()


def padded_with_zeros(input: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Surround the last dimensions of a tensor with zeros."""
    return pad(input, [p for p in padding[::-1] for _ in range(2)]) if any(padding) else input
