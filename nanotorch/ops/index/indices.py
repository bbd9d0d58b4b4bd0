"""Indices and tables of constants: triangles, combinations, places in a shape, powers, windows of signal processing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Size, Tensor, from_array
from nanotorch.backend.device import CPU, Device
from nanotorch.dtypes import DType
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.sample import constant, integers, real, sample
from nanotorch.ops.shape.join import cat


def _on(array: Any, device: Any) -> Tensor:
    """Return a tensor of a NumPy array, on a device."""
    target = CPU if device is None else Device(device)
    return from_array(array if target is CPU else target.xp.receive(array, target), target)


def _triangle(name: str, row: int, col: int, dtype: DType, device: Any, keep: Callable[[Any, Any], Any]) -> Tensor:
    for what, length in (("row", row), ("col", col)):
        if not isinstance(length, int | np.integer) or isinstance(length, bool):
            raise TypeError(f"{name}(): argument '{what}' must be int, not {type(length).__name__}")
        if length < 0:
            raise RuntimeError(f"{name}: {what} must be non-negative, got {length}")
    kind = dtypes.need_dtype(name, dtype)
    if kind not in (dtypes.int32, dtypes.int64):
        raise NotImplementedError(f"{name}: not implemented for {kind}; indices are int64 or int32")
    return _on(np.stack(np.nonzero(keep(*np.ogrid[:row, :col]))).astype(kind.numpy), device)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: DType = dtypes.int64, device: Any = None) -> Tensor:
    """Return the row and column indices, a (2, n) tensor, of the lower triangle of a `row` x `col` matrix, row by
    row.

    Args:
        row: number of rows.
        col: number of columns.
        offset: the diagonal up to which elements count: 0 is the main one, positive ones lie above.
        dtype: int64 or int32.
        device: where the tensor shall live.

    >>> torch.tril_indices(2, 3)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return _triangle("tril_indices", row, col, dtype, device, lambda i, j: j - i <= offset)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: DType = dtypes.int64, device: Any = None) -> Tensor:
    """Return the row and column indices, a (2, n) tensor, of the upper triangle of a `row` x `col` matrix, row by
    row.

    The arguments are those of `tril_indices`; `offset` is the diagonal from which on elements count.
    """
    return _triangle("triu_indices", row, col, dtype, device, lambda i, j: j - i >= offset)


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
    samples=[
        sample(integers(4, high=9)),
        sample(real(3), 3),
        sample(real(2), r=2, with_replacement=True),
        sample(real(3), 0),
        sample(real(1), 2),
    ],
    where="function",
)
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of `r` elements of a vector, one row each, in the order of their places."""
    if input.ndim != 1:
        raise RuntimeError(f"combinations: Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"combinations: Expect a non-negative number, but got {r}")
    if r == 0:
        return input.new_empty(0)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return input[_on(chosen, input.device)]


@composite(
    samples=[
        sample(constant(3)),
        sample(constant(3), 4),
        sample(constant(2), N=3, increasing=True),
        sample(integers(3), 3),
        sample(constant(2), 0),
        sample(constant(2), 1),
    ],
    where="function",
)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of the elements of a vector, one row each, of descending exponents `N - 1` to 0 unless
    `increasing`.
    """
    if x.ndim != 1:
        raise RuntimeError(f"vander: x must be a one-dimensional tensor, got shape {list(x.shape)}")
    powers = _powers(x, x.shape[0] if N is None else N)
    return powers if increasing else powers.flip(1)


@composite(
    widens=True,
    samples=[sample(real(3)), sample(real(2, 3)), sample(real(2, 3), N=2), sample(integers(3), N=3)],
    where="linalg",
)
def linalg_vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Powers of elements along a new last dimension, of exponents 0 to `N - 1`."""
    x = x if x.ndim else x.reshape(1)
    N = x.shape[-1] if N is None else N
    if N < 2:
        raise RuntimeError(f"linalg.vander: N must be greater than 1, got {N}")
    return _powers(x, N)


def _powers(x: Tensor, count: int) -> Tensor:
    if count < 0:
        raise RuntimeError(f"vander: N must be non-negative, got {count}")
    dtype = x.dtype if x.is_floating_point() else dtypes.int64
    ones = x.new_ones((*x.shape, 1), dtype=dtype)
    if count < 2:
        return ones[..., :count]
    factors = x.to(dtype).unsqueeze(-1).expand(*x.shape, count - 1)
    return cat([ones, factors.cumprod(-1)], -1)


@composite(samples=[sample(integers(4, high=12), (3, 4)), sample(integers(2, 2, high=6), (6,))], where="function")
def unravel_index(indices: Tensor, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """The coordinates, one tensor for each dimension, of places in a flattened tensor of a shape."""
    if indices.dtype.kind not in "iu":
        raise ValueError(f"unravel_index: expected 'indices' to be integer dtype, but got {indices.dtype}")
    indices = indices.long()
    sizes = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    if any(n < 0 for n in sizes):
        raise ValueError(f"unravel_index: 'shape' cannot have negative values, but got {sizes}")
    if 0 in sizes and indices.numel():
        raise RuntimeError(f"unravel_index: a tensor of shape {sizes} has no elements to name")
    found = []
    for axis, length in enumerate(sizes):
        found.append(indices.div(math.prod(sizes[axis + 1 :]) or 1, rounding_mode="floor") % max(length, 1))
    return tuple(found)


def _window(
    name: str, length: int, periodic: bool, formula: Callable[[Any], Any], dtype: Any, device: Any, requires_grad: bool
) -> Tensor:
    kind = dtypes.need_dtype(name, dtype or dtypes.get_default_dtype())
    if not kind.is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {kind}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    steps = max(length - (not periodic), 1)
    values = np.ones(length) if length < 2 else formula(np.arange(length) / steps)
    return _on(values.astype(kind.numpy), device).requires_grad_(requires_grad)


def hann_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a raised cosine, `sin(pi * n / N) ** 2`; N is the length, or one less for a symmetric window."""
    return _window(
        "hann_window", window_length, periodic, lambda t: np.sin(math.pi * t) ** 2, dtype, device, requires_grad
    )


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `alpha - beta * cos(2 * pi * n / N)`; N is the length, or one less for a symmetric window."""
    return _window(
        "hamming_window",
        window_length,
        periodic,
        lambda t: alpha - beta * np.cos(2 * math.pi * t),
        dtype,
        device,
        requires_grad,
    )


def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return Blackman's sum of two cosines; N is the length, or one less for a symmetric window."""
    return _window(
        "blackman_window",
        window_length,
        periodic,
        lambda t: 0.42 - 0.5 * np.cos(2 * math.pi * t) + 0.08 * np.cos(4 * math.pi * t),
        dtype,
        device,
        requires_grad,
    )


def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a triangle that begins at 0; N is the length, or one less for a symmetric window."""
    return _window(
        "bartlett_window", window_length, periodic, lambda t: 1 - np.abs(2 * t - 1), dtype, device, requires_grad
    )


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return Kaiser's window of a Bessel function; N is the length, or one less for a symmetric window."""
    return _window(
        "kaiser_window",
        window_length,
        periodic,
        lambda t: np.i0(beta * np.sqrt(np.maximum(1 - (2 * t - 1) ** 2, 0))) / np.i0(beta),
        dtype,
        device,
        requires_grad,
    )
