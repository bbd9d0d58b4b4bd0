"""`pixel_shuffle` and its like: blocks of channels laid out as pixels, and back."""

from __future__ import annotations

from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import integers, real, sample


def _shuffled(xp: Any, x: Any, r: int) -> Any:
    """(..., C * r * r, H, W) as (..., C, H * r, W * r)."""
    *batch, channels, height, width = x.shape
    n = len(batch)
    parts = xp.reshape(x, (*batch, channels // (r * r), r, r, height, width))
    ordered = xp.transpose(parts, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return xp.reshape(ordered, (*batch, channels // (r * r), height * r, width * r))


def _unshuffled(xp: Any, x: Any, r: int) -> Any:
    """(..., C, H * r, W * r) as (..., C * r * r, H, W)."""
    *batch, channels, height, width = x.shape
    n = len(batch)
    parts = xp.reshape(x, (*batch, channels, height // r, r, width // r, r))
    ordered = xp.transpose(parts, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return xp.reshape(ordered, (*batch, channels * r * r, height // r, width // r))


def _check(name: str, what: str, x: Any, factor: int) -> None:
    if x.ndim < 3:
        raise ShapeError(
            f"{name}: expects input to have at least 3 dimensions, but got input with {x.ndim} dimension(s):"
            f" {tuple(x.shape)}"
        )
    if factor < 1:
        raise RuntimeError(f"{name}: expects a positive {what}, but got {factor}")


@op(
    self=lambda xp, grad, upscale_factor: _unshuffled(xp, grad, upscale_factor),
    samples=[
        sample(real(1, 8, 2, 3), 2),
        sample(real(9, 1, 2), 3),
        sample(real(2, 3, 4, 1, 2), upscale_factor=2),
        sample(integers(4, 2, 2), 1),
    ],
)
def pixel_shuffle(xp: Any, self: Array, upscale_factor: int) -> Array:
    """Images (..., C * r * r, H, W) as (..., C, H * r, W * r): every r * r channels become a block of pixels."""
    _check("pixel_shuffle", "upscale_factor", self, upscale_factor)
    if self.shape[-3] % upscale_factor**2:
        raise ShapeError(
            "pixel_shuffle: expects its input's 'channel' dimension to be divisible by the square of upscale_factor,"
            f" but input.size(-3)={self.shape[-3]} is not divisible by {upscale_factor**2}"
        )
    return xp.array(_shuffled(xp, self, upscale_factor))


@op(
    self=lambda xp, grad, downscale_factor: _shuffled(xp, grad, downscale_factor),
    samples=[
        sample(real(1, 2, 4, 6), 2),
        sample(real(1, 3, 6), 3),
        sample(real(2, 3, 1, 2, 4), downscale_factor=2),
        sample(integers(4, 2, 2), 1),
    ],
)
def pixel_unshuffle(xp: Any, self: Array, downscale_factor: int) -> Array:
    """Images (..., C, H * r, W * r) as (..., C * r * r, H, W): every block of pixels becomes r * r channels."""
    _check("pixel_unshuffle", "downscale_factor", self, downscale_factor)
    for axis, side in ((-2, "height"), (-1, "width")):
        if self.shape[axis] % downscale_factor:
            raise ShapeError(
                f"pixel_unshuffle: expects {side} to be divisible by downscale_factor, but"
                f" input.size({axis})={self.shape[axis]} is not divisible by {downscale_factor}"
            )
    return xp.array(_unshuffled(xp, self, downscale_factor))


@composite(
    where="function", samples=[sample(real(1, 6, 2, 2), 2), sample(real(2, 6, 3), 3), sample(integers(1, 4, 2), 1)]
)
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels (N, C, ...) in the order that takes one from each of `groups` groups in turn."""
    if input.ndim < 3:
        raise ShapeError(f"channel_shuffle: expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    n, channels, *rest = input.shape
    if groups < 1 or channels % groups:
        raise ShapeError(
            f"channel_shuffle: number of channels must be divisible by groups > 0, got {channels} channels and {groups}"
            " groups"
        )
    return input.reshape(n, groups, channels // groups, *rest).transpose(1, 2).reshape(n, channels, *rest)
