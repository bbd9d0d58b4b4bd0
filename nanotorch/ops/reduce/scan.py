"""Scans: running sums, products and extrema along a dimension, and differences, which undo a running sum."""

from __future__ import annotations

from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.reduce.reductions import INF, NAN, axes, widened
from nanotorch.ops.rows.dims import wrap_dim
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.runtime import need_number, roomy
from nanotorch.ops.rows.sample import booleans, distinct, edge, integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR
from nanotorch.ops.shape.join import cat

lines = [
    sample(real(3, 2), 0),
    sample(real(3, 2), -1),
    sample(real(2, 3, 2), 1),
    sample(real(4), 0),
    sample(real(), 0),
    sample(real(), -1),
    sample(real(0), 0),
    sample(real(0, 3), 1),
    sample(real(3, 0), 0),
    sample(real(1, 3), 0),
]


def _backwards(xp: Any, scan: Any, dim: int, *parts: Any) -> Any:
    """Scan from the end."""
    return xp.flip(scan(*[xp.flip(part, dim) for part in parts], dim), dim)


@op(
    self=lambda xp, grad, dim: _backwards(xp, xp.cumsum, dim, grad) if grad.ndim else grad,
    inplace=True,
    samples=[*lines, sample(integers(4), 0), sample(booleans(4), 0), sample(edge([1.0, INF, -INF, NAN, 2.0]), 0)],
)
def cumsum(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """Running sum along `dim`; integers and booleans are summed as int64 unless `dtype` says otherwise.

    >>> torch.tensor([1.0, 2.0, 3.0]).cumsum(0)
    tensor([1., 3., 6.])
    """
    self = widened(xp, self, dtype)
    return xp.astype(xp.cumsum(self, axis=dim), self.dtype) if axes(dim, self.ndim) is not None else xp.array(self)


@TENSOR.define("cumsum")
def _running_sum(x: Tensor, axis: int) -> Tensor:
    return cumsum(x, axis)


def _cumprod_self(xp: Any, grad: Any, self: Any, dim: int, result: Any) -> Any:
    """Sum over the later products: each is the product divided by the element, or without it where it is zero."""
    if not self.ndim or self.shape[dim] <= 1:
        return grad
    if xp.holds(self != 0):
        return _backwards(xp, xp.cumsum, dim, grad * result) / self
    # d out[j] / d x[i] = (product before i) * (product of i+1 .. j): a triangle of running products, exact at zeros.
    x, grad = xp.moveaxis(self, dim, -1), xp.moveaxis(grad, dim, -1)
    n = x.shape[-1]
    before = xp.concatenate([xp.ones_like(x[..., :1]), xp.cumprod(x[..., :-1], axis=-1)], axis=-1)
    ones = xp.ones((n, n), dtype=x.dtype)
    after = xp.cumprod(xp.where(xp.triu(ones, 1) != 0, xp.expand_dims(x, -2), 1.0), axis=-1)
    later = xp.where(xp.triu(ones) != 0, xp.expand_dims(grad, -2) * after, 0.0)
    return xp.moveaxis(before * xp.sum(later, axis=-1), -1, dim)


@op(
    self=_cumprod_self,
    inplace=True,
    samples=[
        *lines,
        sample(integers(4), 0),
        sample(edge([0.0, 2.0, 3.0]), 0),
        sample(edge([2.0, 0.0, 3.0, 0.0, 1.0]), 0),
        sample(edge([[0.0, 2.0], [1.0, 3.0], [0.0, 0.0]]), 0),
        sample(edge([[0.0, 2.0, 4.0], [1.0, 3.0, 0.0]]), -1),
    ],
)
def cumprod(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """Running product along `dim`; the derivative is exact where elements are zero."""
    self = widened(xp, self, dtype)
    return xp.astype(xp.cumprod(self, axis=dim), self.dtype) if axes(dim, self.ndim) is not None else xp.array(self)


@TENSOR.define("cumprod")
def _running_product(x: Tensor, axis: int) -> Tensor:
    return cumprod(x, axis)


def _running_self(xp: Any, grad: Any, self_shape: Any, dim: int, indices: Any) -> Any:
    """Add each gradient to the element that was the extremum then."""
    return xp.scatter_along_axis(grad, self_shape, indices, dim, True) if self_shape else grad


def _running(xp: Any, self: Any, dim: int, running: Any) -> Any:
    """Return the running extremum and the last place of it so far; a NaN stays, and later ones take its place."""
    if axes(dim, self.ndim) is None:
        return xp.array(self), xp.zeros((), dtype=int)
    values = running(self, dim)
    steps = xp.reshape(xp.arange(self.shape[dim]), (-1,) + (1,) * (self.ndim - 1 - dim % self.ndim))
    return values, xp.running_max(xp.where((self == values) | (self != self), steps, 0), dim)


runs = [
    sample(distinct(3, 4), 0),
    sample(distinct(3, 4), -1),
    sample(distinct(2, 3, 2), 1),
    sample(real(), 0),
    sample(real(), -1),
    sample(integers(6), 0),
    sample(edge([1.0, 3.0, 3.0, 2.0, 3.0, 1.0]), 0),
    sample(edge([[2.0, NAN, 5.0, NAN, 1.0], [INF, -INF, INF, 0.0, -INF]]), 1),
]


@op(self=_running_self, outputs="values indices", samples=runs)
def cummax(xp: Any, self: Array, dim: int) -> Array:
    """Running maximum along `dim`, and where it was met last.

    >>> torch.tensor([1.0, 3.0, 2.0]).cummax(0).values
    tensor([1., 3., 3.])
    """
    return _running(xp, self, dim, xp.running_max)


@op(self=_running_self, outputs="values indices", samples=runs)
def cummin(xp: Any, self: Array, dim: int) -> Array:
    """Running minimum along `dim`, and where it was met last."""
    return _running(xp, self, dim, xp.running_min)


@TENSOR.define("scaled_cumsum")
@op(
    weights=lambda xp, grad, inner, outer, dim: _backwards(xp, xp.scaled_cumsum, dim, grad, outer, inner),
    inner=lambda xp, grad, weights, inner, outer, dim: (
        weights * _backwards(xp, xp.scaled_cumsum, dim, grad, outer, inner)
    ),
    outer=lambda grad, result: grad * result,
    where="internal",
)
def _scaled_cumsum(xp: Any, weights: Array, inner: Array, outer: Array, dim: int) -> Array:
    """`cumsum(weights * exp(inner)) * exp(outer)`: linear in `weights`, and its gradients are of the same form."""
    return xp.scaled_cumsum(weights, inner, outer, dim)


def _logcumsumexp_self(xp: Any, grad: Any, self: Any, dim: int, result: Any) -> Any:
    """Return the sum of `grad[j] * exp(x[i] - result[j])` over j >= i."""
    if not self.ndim or 0 in self.shape:
        return grad
    return _backwards(xp, xp.scaled_cumsum, dim, grad, -result, self)


@op(
    self=_logcumsumexp_self,
    samples=[
        *lines,
        sample(real(6, low=-80, high=80), 0),
        sample(edge([-INF, -INF, 1.0, INF, 2.0]), 0),
        sample(edge([1.0, NAN, 2.0]), 0),
    ],
)
def logcumsumexp(xp: Any, self: Array, dim: int) -> Array:
    """The logarithm of the running sum of exponentials along `dim`, without overflow."""
    if self.dtype.kind != "f":
        raise RuntimeError(f"logcumsumexp: not implemented for {self.dtype}; convert with .float()")
    return xp.logcumsumexp(self, dim) if axes(dim, self.ndim) is not None else xp.array(self)


@composite(
    widens=True,
    samples=[
        sample(real(3, 4)),
        sample(real(3, 4), 2, 0),
        sample(real(3, 4), dim=0, prepend=real(1, 4), append=real(2, 4)),
        sample(real(3), n=5),
        sample(real(3), n=0),
        sample(integers(4)),
        sample(booleans(4)),
        sample(real(0)),
        sample(real(2, 3), n=1, dim=-2),
    ],
)
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The `n`-th difference of neighbours along `dim`, of the tensor between `prepend` and `append`.

    >>> torch.tensor([1, 4, 9]).diff()
    tensor([3, 5])
    """

    if not input.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    dim = wrap_dim("diff", dim, input.ndim)
    parts = [part for part in (prepend, input, append) if part is not None]
    if len(parts) > 1:
        input = cat(parts, dim)
    boolean = input.dtype.category == 0
    for _ in range(min(n, input.shape[dim])):
        before, after = (slice(None),) * dim + (slice(None, -1),), (slice(None),) * dim + (slice(1, None),)
        input = input[after] != input[before] if boolean else input[after] - input[before]
    return input if n else input.clone()


@composite(
    widens=True,
    samples=[
        sample(real(4)),
        sample(real(3, 4), dx=0.5),
        sample(real(3, 4), dx=2.0, dim=0),
        sample(real(3, 4), real(4)),
        sample(real(3, 4), real(3, 4), dim=0),
    ],
    where="function",
)
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1.0, dim: int = -1) -> Tensor:
    """The integral along `dim` of the polygon through the points `y`, which are `dx` apart or at `x`."""
    dim = wrap_dim("trapezoid", dim, y.ndim)
    if not y.ndim:
        raise IndexError(f"trapezoid: Dimension specified as {dim} but tensor has no dimensions")
    if y.dtype.kind == "b":
        raise RuntimeError("trapezoid: received a bool input for `y`, but bool is not supported")
    y, points = roomy(y), y.shape[dim]
    if x is None:
        width = need_number("trapezoid", "dx", dx)
    else:
        if x.ndim == 1:
            if x.shape[0] != points:
                raise ShapeError(
                    f"trapezoid: there must be one x for each of the {points} points along dim {dim}, got {x.shape[0]}"
                )
            x = x.reshape((-1,) + (1,) * (y.ndim - 1 - dim))
        width = diff(x.reshape((1,) * (y.ndim - x.ndim) + tuple(x.shape)), dim=dim)
    before = (slice(None),) * dim
    return ((y[(*before, slice(1, None))] + y[(*before, slice(None, -1))]) * width).sum(dim) / 2


@composite(
    widens=True,
    where="function",
    samples=[sample(real(2, 3)), sample(real(3), real(3)), sample(real(2, 3), dx=2.0, dim=0)],
)
def trapz(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """The integral of a polygon: `trapezoid`."""
    return trapezoid(y, x, dx=dx, dim=dim)
