"""Reductions: rows that collapse dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.inplace import write_out
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import booleans, distinct, edge, integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR

if TYPE_CHECKING:
    from nanotorch import return_types

Dim = int | Sequence[int] | None
NAN, INF = float("nan"), float("inf")

reduced = [
    sample(real(3, 2)),
    sample(real(3, 2), 0),
    sample(real(3, 2), dim=-1, keepdim=True),
    sample(real(2, 3, 2), (0, 2)),
    sample(real()),
]
edges = [
    sample(real(), 0),
    sample(real(), -1, True),
    sample(real(2, 3, 2), (-1, -3), keepdim=True),
    sample(real(3, 2), ()),
    sample(real(2, 3, 2), [0, 1]),
    sample(real(3, 0), 0),
    sample(real(1, 3), 0),
]
nothing = [sample(real(0)), sample(real(0, 3), 0), sample(real(2, 0), (0, 1), keepdim=True)]
special = [
    sample(edge([1.0, 3.0, 3.0, 2.0])),
    sample(edge([NAN, 1.0, NAN, 2.0])),
    sample(edge([[INF, -INF], [INF, 1.0], [-INF, -INF]]), 1),
    sample(edge([[2.0, 2.0], [NAN, 1.0]]), 0),
]
one_dim = [
    sample(distinct(3, 4), 0),
    sample(distinct(3, 4), -1, keepdim=True),
    sample(distinct(5), 0),
    sample(real(), 0),
    sample(real(), -1, True),
    sample(real(0, 3), 1),
    sample(edge([[3.0, 1.0, 1.0, 3.0], [NAN, 1.0, NAN, 2.0]]), 1),
    sample(edge([[INF, -INF, INF], [-INF, -INF, INF]]), 0),
]


def axes(dim: Any, ndim: int) -> Any:
    """Return what NumPy calls `axis`: None for all dimensions, which `()` means too;
    a 0-d tensor has dimension 0.
    """
    if dim is None:
        return None
    if ndim == 0:
        for d in (dim,) if isinstance(dim, int) else dim:
            if d not in (0, -1):
                raise np.exceptions.AxisError(d, 0)
        return None
    return dim if isinstance(dim, int) else tuple(dim) or None


def expand_reduced(xp: Any, grad: Any, shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    """Give every element of a reduced dimension the gradient of its sum."""
    return xp.broadcast_to(keep_reduced(xp, grad, dim, keepdim, len(shape)), shape)


def keep_reduced(xp: Any, value: Any, dim: Any, keepdim: bool, ndim: int) -> Any:
    """Give a reduced value its dimensions of length one back, so that it broadcasts against the input."""
    if keepdim or ndim == 0 or dim is None or dim == () or dim == []:
        return value
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return xp.expand_dims(value, tuple(d % ndim for d in dims))


def count(shape: tuple[int, ...], dim: Any) -> int:
    """Return how many elements a reduction over `dim` combines."""
    total = 1
    for d in range(len(shape)) if dim is None or dim == () or dim == [] else (dim,) if isinstance(dim, int) else dim:
        total *= shape[d] if shape else 1
    return total


def need_elements(name: str, shape: tuple[int, ...], dim: Any) -> None:
    """Refuse to choose among no elements; a reduction of other dimensions to an empty result is fine."""
    if dim is None or dim == ():
        raise RuntimeError(
            f"{name}: Expected reduction dim to be specified for input.numel() == 0 (input shape {shape}). "
            "Specify the reduction dim with the 'dim' argument."
        )
    for d in (dim,) if isinstance(dim, int) else dim:
        if -len(shape) <= d < len(shape) and shape[d] == 0:
            raise IndexError(f"{name}: Expected reduction dim {d} to have non-zero size")


def widened(xp: Any, self: Any, dtype: Any) -> Any:
    """Return integers and booleans as int64, in which they are summed and multiplied unless `dtype` was given."""
    return self if dtype is not None or self.dtype.kind == "f" else xp.astype(self, dtypes.int64.numpy)


@op(
    self=lambda xp, grad, self_shape, dim, keepdim: expand_reduced(xp, grad, self_shape, dim, keepdim),
    samples=[*reduced, *edges, *nothing, sample(integers(3, 2)), sample(booleans(4)), sample(edge([NAN, INF, -INF]))],
    overload="dim",
)
def sum(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    """Sum of all elements or over `dim`; integers and booleans are summed as int64 unless `dtype` says otherwise.

    >>> torch.sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([4., 6.])
    """
    if self.dtype.kind != "f":
        self = widened(xp, self, dtype)
        return xp.sum(self, axis=axes(dim, self.ndim), dtype=self.dtype, keepdims=keepdim)
    return xp.sum(self, axis=axes(dim, self.ndim), keepdims=keepdim)


@TENSOR.define("sum")
def _sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return x if axis == () else sum(x, axis, keepdims)


@TENSOR.define("column_sums")
def _column_sums(x: Tensor) -> Tensor:
    return sum(x, 0)


@TENSOR.define("row_sums")
def _row_sums(x: Tensor) -> Tensor:
    return sum(x, 1, True)


@op(
    self=lambda xp, grad, self, dim, keepdim: (
        keep_reduced(xp, grad, dim, keepdim, self.ndim) * xp.where(self == self, xp.ones_like(self), 0.0)
    ),
    samples=[*reduced, *edges, *nothing, *special, sample(integers(3, 2), 1)],
)
def nansum(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    """Sum that counts NaN as 0."""
    if self.dtype.kind != "f":
        self = widened(xp, self, dtype)
        return xp.sum(self, axis=axes(dim, self.ndim), dtype=self.dtype, keepdims=keepdim)
    self = xp.where(self == self, self, self.dtype.type(0))
    return xp.sum(self, axis=axes(dim, self.ndim), keepdims=keepdim)


def _mean_self(xp: Any, grad: Any, self_shape: Any, dim: Any, keepdim: bool) -> Any:
    grad = expand_reduced(xp, grad, self_shape, dim, keepdim)
    return grad / count(self_shape, dim) if 0 not in self_shape else grad


@op(self=_mean_self, samples=[*reduced, *edges, *nothing, sample(edge([NAN, INF, -INF]))], overload="dim")
def mean(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    """Mean of all elements or over `dim`; of no elements it is NaN.

    >>> torch.tensor([1.0, 2.0, 6.0]).mean()
    tensor(3.)
    """
    if self.dtype.kind != "f":
        raise RuntimeError(
            f"mean: could not infer output dtype. Input dtype must be floating point; got {self.dtype}: use .float()"
        )
    return xp.sum(self, axis=axes(dim, self.ndim), keepdims=keepdim) / (count(self.shape, dim) or NAN)


@composite(widens=True, samples=[*reduced, *edges, *nothing, *special])
def nanmean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: dtypes.DType | None = None) -> Tensor:
    """Mean of the elements that are not NaN."""
    if not (input.dtype if dtype is None else dtype).is_floating_point:
        raise RuntimeError("nanmean: expected input to have floating point dtype; convert with .float()")
    total = nansum(input, dim, keepdim, dtype=dtype)
    return total / sum(input == input, dim, keepdim)


def products_of_others(xp: Any, x: Any) -> Any:
    """For every element the product of all others along the last dimension:
    of those before and those after, so zeros are exact.
    """
    ones = xp.ones_like(x[..., :1])
    before = xp.concatenate([ones, xp.cumprod(x[..., :-1], axis=-1)], axis=-1)
    after = xp.flip(xp.concatenate([ones, xp.cumprod(xp.flip(x[..., 1:], -1), axis=-1)], axis=-1), -1)
    return before * after


def _prod_self(xp: Any, grad: Any, self: Any, dim: Any, keepdim: bool) -> Any:
    """Return the derivative of a product is the product of the other factors."""
    whole = dim is None or self.ndim == 0
    others = products_of_others(xp, xp.reshape(self, (-1,)) if whole else xp.moveaxis(self, dim, -1))
    others = xp.reshape(others, self.shape) if whole else xp.moveaxis(others, -1, dim)
    return keep_reduced(xp, grad, dim, keepdim, self.ndim) * others


@op(
    self=_prod_self,
    overload="dim",
    samples=[
        sample(real(4)),
        sample(real(3, 2), 0),
        sample(real(3, 2), 1, keepdim=True),
        sample(integers(3)),
        sample(booleans(3)),
        sample(real()),
        sample(real(), 0),
        sample(real(0, 3), 0),
        sample(real(0)),
        sample(real(2, 3), -2, True),
        sample(real(1)),
        sample(edge([0.0, 2.0, 3.0])),
        sample(edge([0.0, 2.0, 0.0])),
        sample(edge([[0.0, 2.0], [0.0, 0.0], [3.0, 1.0]]), 0),
    ],
)
def prod(xp: Any, self: Array, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    """Product of all elements or over `dim`; the derivative is exact where elements are zero.

    >>> x = torch.tensor([0.0, 2.0, 3.0], requires_grad=True)
    >>> x.prod().backward()
    >>> x.grad
    tensor([6., 0., 0.])
    """
    self = widened(xp, self, dtype)
    return xp.astype(xp.prod(self, axis=axes(dim, self.ndim), keepdims=keepdim), self.dtype)


@TENSOR.define("prod")
def _product(x: Tensor, axis: int) -> Tensor:
    return prod(x, axis)


def extremum_self(xp: Any, grad: Any, self: Any, dim: Any, keepdim: bool, result: Any) -> Any:
    """Share the gradient equally among the elements that attain the extremum; a NaN is equal to none: 0/0."""
    hits = self == keep_reduced(xp, result, dim, keepdim, self.ndim)
    hits = xp.where(hits, xp.ones_like(self), 0.0)
    return (
        hits / xp.sum(hits, axis=axes(dim, self.ndim), keepdims=True) * keep_reduced(xp, grad, dim, keepdim, self.ndim)
    )


def share(xp: Any, grad: Any, self: Any, result: Any) -> Any:
    """Share the gradient of one chosen element equally among all that equal it, or among the NaNs if it is one."""
    hits = xp.where((self == result) | ((self != self) & (result != result)), xp.ones_like(self), 0.0)
    return hits / xp.sum(hits) * grad


@op(self=extremum_self, samples=[*reduced, *edges, *special, sample(real(0, 3), 1), sample(integers(3, 2), 1)])
def amax(xp: Any, self: Array, dim: Dim = (), keepdim: bool = False) -> Array:
    """Maximum over `dim`; equal maxima share the gradient."""
    if not self.size:
        need_elements("amax", self.shape, dim)
    return xp.amax(self, axis=axes(dim, self.ndim), keepdims=keepdim)


@TENSOR.define("amax")
def _amax(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return amax(x, () if axis is None else axis, keepdims)


@op(self=extremum_self, samples=[*reduced, *edges, *special, sample(real(0, 3), 1), sample(integers(3, 2), 1)])
def amin(xp: Any, self: Array, dim: Dim = (), keepdim: bool = False) -> Array:
    """Minimum over `dim`; equal minima share the gradient."""
    if not self.size:
        need_elements("amin", self.shape, dim)
    return xp.amin(self, axis=axes(dim, self.ndim), keepdims=keepdim)


def _put_at(xp: Any, grad: Any, shape: tuple[int, ...], dim: int, keepdim: bool, indices: Any) -> Any:
    """Put a gradient where the chosen elements were."""
    if not shape:
        return grad
    if not keepdim:
        grad, indices = xp.expand_dims(grad, dim), xp.expand_dims(indices, dim)
    return xp.scatter_along_axis(grad, shape, indices, dim)


def _pick_self(xp: Any, grad: Any, self_shape: Any, dim: int, keepdim: bool, indices: Any) -> Any:
    return _put_at(xp, grad, self_shape, dim, keepdim, indices)


@op(self=_pick_self, outputs="values indices", where="internal", node="MaxBackward0")
def _max_dim(xp: Any, self: Array, dim: int, keepdim: bool = False) -> Array:
    """Maximum along `dim` and where it is."""
    if not self.size:
        need_elements("max", self.shape, dim)
    axis = axes(dim, self.ndim)
    return xp.amax(self, axis=axis, keepdims=keepdim), xp.argmax(self, axis=axis, keepdims=keepdim)


@op(self=_pick_self, outputs="values indices", where="internal", node="MinBackward0")
def _min_dim(xp: Any, self: Array, dim: int, keepdim: bool = False) -> Array:
    """Minimum along `dim` and where it is."""
    if not self.size:
        need_elements("min", self.shape, dim)
    axis = axes(dim, self.ndim)
    return xp.amin(self, axis=axis, keepdims=keepdim), xp.argmin(self, axis=axis, keepdims=keepdim)


@op(self=share, where="internal", node="MaxBackward1")
def _max_all(xp: Any, self: Array) -> Array:
    """Maximum of all elements."""
    if not self.size:
        need_elements("max", self.shape, None)
    return xp.amax(self)


@op(self=share, where="internal", node="MinBackward1")
def _min_all(xp: Any, self: Array) -> Array:
    """Minimum of all elements."""
    if not self.size:
        need_elements("min", self.shape, None)
    return xp.amin(self)


@overload
def max(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@overload
def max(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@overload
def max(
    input: Tensor, dim: int, keepdim: bool = False, *, out: tuple[Tensor, Tensor] | None = None
) -> return_types.max: ...
@composite(samples=[sample(distinct(3, 4)), sample(distinct(3, 2), distinct(2, low=-1.9, high=1.7)), *one_dim])
def max(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None, out: Any = None) -> Any:
    """Maximum: of all elements, with `dim` the pair (values, indices), with another tensor elementwise.

    >>> torch.tensor([[1.0, 5.0], [7.0, 2.0]]).max(dim=1).indices
    tensor([1, 0])
    """
    if out is not None:
        return write_out("max", max, out, {"input": input, "dim": dim, "keepdim": keepdim, "other": other})
    other = dim if hasattr(dim, "_array") else other
    if other is not None:
        return input.maximum(other)
    return _max_all(input) if dim is None else _max_dim(input, dim, keepdim)


@overload
def min(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@overload
def min(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@overload
def min(
    input: Tensor, dim: int, keepdim: bool = False, *, out: tuple[Tensor, Tensor] | None = None
) -> return_types.min: ...
@composite(samples=[sample(distinct(3, 4)), sample(distinct(3, 2), distinct(2, low=-1.9, high=1.7)), *one_dim])
def min(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None, out: Any = None) -> Any:
    """Minimum: of all elements, with `dim` the pair (values, indices), with another tensor elementwise."""
    if out is not None:
        return write_out("min", min, out, {"input": input, "dim": dim, "keepdim": keepdim, "other": other})
    other = dim if hasattr(dim, "_array") else other
    if other is not None:
        return input.minimum(other)
    return _min_all(input) if dim is None else _min_dim(input, dim, keepdim)


@op(samples=[sample(distinct(3, 4)), sample(real()), sample(edge([2.0, 2.0, 1.0])), *one_dim])
def argmax(xp: Any, self: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index of the maximum, of the flattened tensor or along `dim`."""
    if not self.size:
        need_elements("argmax", self.shape, dim)
    return xp.argmax(self, axis=axes(dim, self.ndim), keepdims=keepdim)


@op(samples=[sample(distinct(3, 4)), sample(real()), sample(edge([2.0, 2.0, 1.0])), *one_dim])
def argmin(xp: Any, self: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index of the minimum, of the flattened tensor or along `dim`."""
    if not self.size:
        need_elements("argmin", self.shape, dim)
    return xp.argmin(self, axis=axes(dim, self.ndim), keepdims=keepdim)


def truth(xp: Any, self: Any, dim: Any, keepdim: bool, reduction: Any) -> Any:
    """Reduce truth values; bytes stay bytes, and an empty `dim` reduces nothing, as in PyTorch."""
    kind = self.dtype if self.dtype == dtypes.uint8.numpy else dtypes.bool_.numpy
    if dim == () or dim == []:
        return xp.astype(self != 0, kind)
    return xp.astype(reduction(self, axis=axes(dim, self.ndim), keepdims=keepdim), kind)


truths = [
    sample(booleans(3, 2)),
    sample(booleans(3, 2), 0),
    sample(integers(3, 2), 1, keepdim=True),
    sample(integers(2, 3, 2), (0, -1)),
    sample(booleans(), 0),
    sample(booleans(0, 3), 0),
    sample(booleans(0)),
    sample(edge([NAN, 0.0])),
    sample(edge([[0.0, 1.0]]), ()),
]


@TENSOR.define("any")
@op(samples=truths)
def any(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether any element is non-zero; of none, False."""
    return truth(xp, self, dim, keepdim, xp.any)


@op(samples=truths)
def all(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether all elements are non-zero; of none, True."""
    return truth(xp, self, dim, keepdim, xp.all)


@op(
    samples=[
        sample(integers(3, 2)),
        sample(integers(3, 2), 0),
        sample(integers(2, 3, 2), (0, -1)),
        sample(edge([NAN, 0.0, -0.0])),
        sample(real(0, 2), 0),
        sample(integers(), 0),
    ]
)
def count_nonzero(xp: Any, self: Array, dim: Dim = None) -> Array:
    """The number of non-zero elements of all or over `dim`; NaN is not zero."""
    return xp.sum(xp.astype(self != 0, dtypes.int64.numpy), axis=axes(dim, self.ndim))


def _aminmax_self(xp: Any, grads: Any, self: Any, dim: Any, keepdim: bool, min: Any, max: Any) -> Any:
    low = extremum_self(xp, grads[0], self, dim, keepdim, min)
    return low + extremum_self(xp, grads[1], self, dim, keepdim, max)


@op(
    self=_aminmax_self,
    outputs="min max",
    samples=[
        sample(distinct(3, 4)),
        sample(distinct(3, 4), dim=0),
        sample(distinct(3, 4), dim=-1, keepdim=True),
        sample(real()),
        sample(edge([1.0, 3.0, 3.0, 1.0])),
        sample(edge([[NAN, 1.0], [2.0, 1.0]]), dim=1),
        sample(real(), dim=0),
    ],
)
def aminmax(xp: Any, self: Array, *, dim: int | None = None, keepdim: bool = False) -> Array:
    """The pair of minimum and maximum; equal elements share the gradient."""
    if not self.size:
        need_elements("aminmax", self.shape, dim)
    axis = axes(dim, self.ndim)
    return xp.amin(self, axis=axis, keepdims=keepdim), xp.amax(self, axis=axis, keepdims=keepdim)


def logsumexp_of(xp: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Return `log(sum(exp(x)))` without overflow; of no elements it is -inf."""
    if 0 in x.shape:
        return xp.log(xp.sum(x, axis=axis, keepdims=keepdims))
    top = xp.amax(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)
    total = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else xp.reshape(total, ()) if axis is None else xp.squeeze(total, axis)


@op(
    self=lambda xp, grad, self, dim, keepdim, result: (
        keep_reduced(xp, grad, dim, keepdim, self.ndim)
        * xp.exp(self - keep_reduced(xp, result, dim, keepdim, self.ndim))
    ),
    cast="float",
    samples=[
        sample(real(3, 2), 1),
        sample(real(3, 2), (0, 1)),
        sample(real(3, 2), 0, keepdim=True),
        sample(real(), 0),
        sample(real(2, 3, 2), (-1, 0)),
        sample(real(0, 3), 0),
        sample(real(0, 3), 1),
        sample(edge([-INF, -INF]), 0),
        sample(edge([[INF, 1.0, -INF], [NAN, 1.0, 2.0]]), 1),
    ],
)
def logsumexp(xp: Any, self: Array, dim: int | tuple[int, ...], keepdim: bool = False) -> Array:
    """`log(sum(exp(input)))` over `dim`, without overflow."""
    return logsumexp_of(xp, self, axes(dim, self.ndim), keepdim)
