"""Vandermonde matrices: the powers of some numbers side by side."""

from __future__ import annotations

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.sample import constant, integers, real, sample
from nanotorch.ops.shape.join import cat


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
    """Powers of the elements of a vector, one row each,
    of descending exponents `N - 1` to 0 unless `increasing`.
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
