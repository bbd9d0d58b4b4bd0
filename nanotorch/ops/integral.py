"""Running integrals of polygons."""

from __future__ import annotations

from typing import Any

from nanotorch.autograd.tensor import Tensor
from nanotorch.ops.dims import wrap_dim
from nanotorch.ops.row import composite
from nanotorch.ops.sample import integers, real, sample


@composite(
    widens=True,
    where="function",
    samples=[
        sample(real(4)), sample(real(3, 4), dx=0.5), sample(real(3, 4), dx=2.0, dim=0), sample(real(3, 4), real(4)), sample(real(3, 4), real(3, 4), dim=0),
        sample(real(2, 3, 4), real(3, 4)), sample(real(2, 3, 4), real(3), dim=1), sample(real(2, 3), real(1, 3)), sample(real(1)), sample(real(0)),
        sample(integers(4)),
    ],
)  # fmt: skip
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The running integral along ``dim`` of the polygon through the points ``y``, which are ``dx`` apart or at ``x``.

    >>> torch.cumulative_trapezoid(torch.tensor([1.0, 3.0, 5.0]))
    tensor([2., 6.])
    """
    if not y.ndim:
        raise IndexError("cumulative_trapezoid: y cannot be a 0-dim tensor")
    if y._array.dtype.kind == "b" or (x is not None and x._array.dtype.kind == "b"):
        raise RuntimeError("cumulative_trapezoid: received a bool input for `y` or `x`, but bool is not supported")
    dim = wrap_dim("cumulative_trapezoid", dim, y.ndim)
    later, earlier = _ends(y, dim)
    if x is None:
        return (dx / 2 * (later + earlier)).cumsum(dim)
    if x.ndim == 1:
        if x.shape[0] != y.shape[dim]:
            raise RuntimeError(f"cumulative_trapezoid: There must be one `x` value for each sample point, got {x.shape[0]} for {y.shape[dim]}")
        x = x.reshape([-1 if d == dim else 1 for d in range(y.ndim)])
    elif x.ndim < y.ndim:
        x = x.reshape((1,) * (y.ndim - x.ndim) + tuple(x.shape))
    width_later, width_earlier = _ends(x, dim)
    return ((width_later - width_earlier) * (later + earlier)).cumsum(dim) / 2


def _ends(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """All slices along a dimension but the first, and all but the last."""
    before = (slice(None),) * dim
    return x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
