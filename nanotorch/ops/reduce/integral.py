"""Running integrals of polygons, and slopes between their points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.dims import wrap_dim, wrap_dims
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.runtime import roomy
from nanotorch.ops.rows.sample import edge, integers, real, sample
from nanotorch.ops.shape.join import cat


@composite(
    widens=True,
    where="function",
    samples=[
        sample(real(4)),
        sample(real(3, 4), dx=0.5),
        sample(real(3, 4), dx=2.0, dim=0),
        sample(real(3, 4), real(4)),
        sample(real(3, 4), real(3, 4), dim=0),
        sample(real(2, 3, 4), real(3, 4)),
        sample(real(2, 3, 4), real(3), dim=1),
        sample(real(2, 3), real(1, 3)),
        sample(real(1)),
        sample(real(0)),
        sample(integers(4)),
    ],
)
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """The running integral along `dim` of the polygon through the points `y`, which are `dx` apart or at `x`.

    >>> torch.cumulative_trapezoid(torch.tensor([1.0, 3.0, 5.0]))
    tensor([2., 6.])
    """
    if not y.ndim:
        raise IndexError("cumulative_trapezoid: y cannot be a 0-dim tensor")
    if y.dtype.kind == "b" or (x is not None and x.dtype.kind == "b"):
        raise RuntimeError("cumulative_trapezoid: received a bool input for `y` or `x`, but bool is not supported")
    dim = wrap_dim("cumulative_trapezoid", dim, y.ndim)
    later, earlier = _ends(roomy(y), dim)
    if x is None:
        return (dx / 2 * (later + earlier)).cumsum(dim)
    if x.ndim == 1:
        if x.shape[0] != y.shape[dim]:
            raise RuntimeError(
                f"cumulative_trapezoid: There must be one `x` value for each sample point, got {x.shape[0]} for"
                f" {y.shape[dim]}"
            )
        x = x.reshape([-1 if d == dim else 1 for d in range(y.ndim)])
    elif x.ndim < y.ndim:
        x = x.reshape((1,) * (y.ndim - x.ndim) + tuple(x.shape))
    width_later, width_earlier = _ends(x, dim)
    return ((width_later - width_earlier) * (later + earlier)).cumsum(dim) / 2


def _ends(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return all slices along a dimension but the first, and all but the last."""
    before = (slice(None),) * dim
    return x[(*before, slice(1, None))], x[(*before, slice(None, -1))]


@composite(
    widens=True,
    where="function",
    samples=[
        sample(real(5)),
        sample(real(3, 4)),
        sample(real(3, 4), spacing=2.0),
        sample(real(3, 4), spacing=(0.5, 2.0), dim=(1, 0)),
        sample(real(3, 4), dim=1, edge_order=2),
        sample(real(2, 4), spacing=[edge([0.0, 1.0, 3.0, 3.5])], dim=-1),
        sample(real(2, 4), spacing=[edge([0.0, 1.0, 3.0, 3.5])], dim=1, edge_order=2),
    ],
)
def gradient(
    input: Tensor,
    *,
    spacing: float | Tensor | Sequence[float | Tensor] = 1,
    dim: int | Sequence[int] | None = None,
    edge_order: int = 1,
) -> tuple[Tensor, ...]:
    """Estimates of the partial derivatives of a function whose values on a grid are `input`,
    one tensor for each of `dim`.

    Args:
        input: the values.
        spacing: the distance of neighbours, one for each of `dim`, or vectors of coordinates.
        dim: one dimension or several; all by default.
        edge_order: 1 or 2: whether differences at the edges are of two or of three neighbours.
    """
    dims = wrap_dims("gradient", tuple(range(input.ndim)) if dim is None else dim, input.ndim)
    steps = list(spacing) if isinstance(spacing, tuple | list) else [spacing] * len(dims)
    if len(steps) != len(dims):
        raise RuntimeError(f"gradient: expected one spacing or one for each of {len(dims)} dims, got {len(steps)}")
    if edge_order not in (1, 2):
        raise RuntimeError(f"gradient: edge_order is 1 or 2, got {edge_order}")
    input = roomy(input)
    return tuple([_slope(input, d, step, edge_order) for d, step in zip(dims, steps, strict=True)])


def _slope(x: Tensor, dim: int, step: Any, edge_order: int) -> Tensor:
    """Return the derivative along one dimension: of the parabola through three neighbours,
    or at an edge of the line through two.
    """
    length = x.shape[dim] if x.ndim else 0
    if length <= edge_order:
        raise RuntimeError(
            f"gradient: expected each dimension size to be at least {edge_order + 1}, got input shape {tuple(x.shape)}"
        )
    if isinstance(step, Tensor) and step.ndim:
        if tuple(step.shape) != (length,):
            raise RuntimeError(
                f"gradient: expected one coordinate for each of the {length} points along dim {dim}, got shape"
                f" {tuple(step.shape)}"
            )
        widths = (step[1:] - step[:-1]).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    else:
        widths = None

    def width(start: int, count: int) -> Any:
        return step if widths is None else widths.narrow(dim, start, count)

    def slope(start: int, count: int) -> Tensor:
        return (x.narrow(dim, start + 1, count) - x.narrow(dim, start, count)) / width(start, count)

    first, last = slope(0, 1), slope(length - 2, 1)
    if length == 2:
        return cat([first, last], dim)
    before, after = slope(0, length - 2), slope(1, length - 2)
    left, right = width(0, length - 2), width(1, length - 2)
    inner = (before * right + after * left) / (left + right)
    if edge_order == 2:
        h, k = width(0, 1), width(1, 1)
        first = first - (slope(1, 1) - first) * h / (h + k)
        h, k = width(length - 2, 1), width(length - 3, 1)
        last = last + (last - slope(length - 3, 1)) * h / (h + k)
    return cat([first, inner, last], dim)
