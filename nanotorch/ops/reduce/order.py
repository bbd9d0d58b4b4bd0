"""Order statistics: medians, k-th values and quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import as_tensor
from nanotorch.ops.elementwise.extrema import where
from nanotorch.ops.index.gather import gather
from nanotorch.ops.reduce.reductions import INF, NAN, axes, need_elements, share
from nanotorch.ops.reduce.search import sort
from nanotorch.ops.rows.dims import wrap_dim
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import constant, distinct, edge, integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR

if TYPE_CHECKING:
    from nanotorch import return_types


def _picked(xp: Any, grad: Any, self_shape: Any, dim: int, keepdim: bool, indices: Any) -> Any:
    """Put a gradient where the chosen elements were."""
    if not self_shape:
        return grad
    if not keepdim:
        grad, indices = xp.expand_dims(grad, dim), xp.expand_dims(indices, dim)
    return xp.scatter_along_axis(grad, self_shape, indices, dim)


def _chosen(xp: Any, self: Any, index: Any, dim: int, keepdim: bool) -> Any:
    """Return the elements at an index with a dimension of length one, and the index, as outputs."""
    values = xp.take_along_axis(self, index, dim)
    return (values, index) if keepdim else (xp.squeeze(values, dim), xp.squeeze(index, dim))


def _middle(xp: Any, self: Any, dim: int, ignore_nan: bool) -> Any:
    """Return the index of the lower median; NaN is the median where there is one, unless it is ignored."""
    order, missing = xp.argsort(self, axis=dim, kind="stable"), self != self
    n = self.shape[dim]
    if not ignore_nan:
        middle = xp.take(order, xp.asarray([(n - 1) // 2]), axis=dim)
        return xp.where(xp.any(missing, axis=dim, keepdims=True), xp.argmax(missing, axis=dim, keepdims=True), middle)
    present = n - xp.sum(missing, axis=dim, dtype=int, keepdims=True)
    return xp.take_along_axis(order, xp.maximum(present - 1, 0) // 2, dim)


def _median_along(xp: Any, self: Any, dim: int, keepdim: bool, ignore_nan: bool) -> Any:
    if not self.size:
        need_elements("median", self.shape, dim)
    if axes(dim, self.ndim) is None:
        return xp.array(self), xp.zeros((), dtype=int)
    return _chosen(xp, self, _middle(xp, self, dim, ignore_nan), dim, keepdim)


def _median_of_all(xp: Any, self: Any, ignore_nan: bool) -> Any:
    if not self.size:
        return xp.full((), NAN if self.dtype.kind == "f" else 0, dtype=self.dtype)
    flat = xp.reshape(self, (-1,))
    return xp.take(flat, _middle(xp, flat, 0, ignore_nan), axis=0)[0]


@op(self=_picked, outputs="values indices", where="internal", node="MedianBackward1")
def _median_dim(xp: Any, self: Array, dim: int, keepdim: bool = False) -> Array:
    """Median along a dimension, and where it is."""
    return _median_along(xp, self, dim, keepdim, False)


@op(self=_picked, outputs="values indices", where="internal", node="NanmedianBackward1")
def _nanmedian_dim(xp: Any, self: Array, dim: int, keepdim: bool = False) -> Array:
    """Median of what is not NaN along a dimension, and where it is."""
    return _median_along(xp, self, dim, keepdim, True)


@op(self=share, where="internal", node="MedianBackward0")
def _median_all(xp: Any, self: Array) -> Array:
    """Median of all elements."""
    return _median_of_all(xp, self, False)


@op(self=share, where="internal", node="NanmedianBackward0")
def _nanmedian_all(xp: Any, self: Array) -> Array:
    """Median of all elements that are not NaN."""
    return _median_of_all(xp, self, True)


medians = [
    sample(distinct(3, 4)),
    sample(distinct(3, 4), 0),
    sample(distinct(3, 4), -1, keepdim=True),
    sample(distinct(5), 0),
    sample(distinct(2, 3, 3), 1, True),
    sample(real()),
    sample(real(), 0),
    sample(real(0, 3), 1),
    sample(integers(5)),
    sample(edge([3.0, 1.0, 1.0, 3.0])),
    sample(edge([NAN, 1.0, NAN, 2.0])),
    sample(edge([[NAN, 1.0, NAN, 2.0], [INF, 1.0, -INF, 2.0]]), 1),
    sample(edge([[NAN, NAN], [NAN, 1.0]]), 1),
]


@overload
def median(input: Tensor) -> Tensor: ...
@overload
def median(input: Tensor, dim: int, keepdim: bool = False) -> return_types.median: ...
@composite(samples=medians)
def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Median: of all elements, with `dim` the pair (values, indices); of an even number, the lower one.

    >>> torch.tensor([3.0, 1.0, 2.0, 7.0]).median()
    tensor(2.)
    """
    return _median_all(input) if dim is None else _median_dim(input, dim, keepdim)


@overload
def nanmedian(input: Tensor) -> Tensor: ...
@overload
def nanmedian(input: Tensor, dim: int, keepdim: bool = False) -> return_types.nanmedian: ...
@composite(samples=medians)
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Median of the elements that are not NaN; otherwise as `median`."""
    return _nanmedian_all(input) if dim is None else _nanmedian_dim(input, dim, keepdim)


@op(
    self=_picked,
    outputs="values indices",
    samples=[
        sample(distinct(3, 4), 2),
        sample(distinct(3, 4), 3, 0),
        sample(distinct(3, 4), 1, -1, keepdim=True),
        sample(distinct(5), 5, 0),
        sample(real(), 1),
        sample(real(0, 3), 1),
        sample(integers(1, 4, high=1), 1, 0),
        sample(edge([[NAN, 1.0, INF, -INF]]), 3, 1),
    ],
)
def kthvalue(xp: Any, self: Array, k: int, dim: int = -1, keepdim: bool = False) -> Array:
    """The `k`-th smallest value along `dim`, counted from 1, and where it is; NaN is larger than every number."""
    if not self.size:
        need_elements("kthvalue", self.shape, dim)
    if not 1 <= k <= (self.shape[dim] if self.ndim else 1):
        raise RuntimeError(f"kthvalue: selected number k={k} out of range for dimension {dim} of shape {self.shape}")
    if axes(dim, self.ndim) is None:
        return xp.array(self), xp.zeros((), dtype=int)
    order = xp.argsort(self, axis=dim, kind="stable")
    return _chosen(xp, self, xp.take(order, xp.asarray([k - 1]), axis=dim), dim, keepdim)


def _between(low: Any, high: Any, weight: Any) -> Any:
    """Interpolate from the nearer end, so that an infinity at the other one does not spoil the value."""
    from_low, from_high = low + weight * (high - low), high - (high - low) * (1 - weight)
    return where(weight < 0.5, from_low, from_high)


def _quantile(
    name: str, input: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore_nan: bool
) -> Any:
    if input.dtype.name not in ("float32", "float64"):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype, got {input.dtype}")
    if not input.numel():
        raise RuntimeError(f"{name}() input tensor must be non-empty, got shape {tuple(input.shape)}")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(
            f"{name}() interpolation must be linear, lower, higher, midpoint or nearest, got {interpolation!r}"
        )
    if not hasattr(q, "_array"):
        q = as_tensor(q, dtype=input.dtype, device=input.device)
    if q.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor, got shape {tuple(q.shape)}")
    if q.dtype is not input.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor, got {q.dtype} and {input.dtype}")
    if TENSOR["holds"]((q >= 0) & (q <= 1)) is False:
        raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q.tolist()}")
    place = None if dim is None else wrap_dim(name, dim, input.ndim)
    kept = [1] * input.ndim if place is None else [1 if d == place else n for d, n in enumerate(input.shape)]
    if place is None or not input.ndim:
        lines = input.reshape(-1)
    else:
        lines = input.permute([*[d for d in range(input.ndim) if d != place], place])
    lines = sort(lines, -1).values
    missing, last = lines != lines, lines.shape[-1] - 1
    if ignore_nan:
        ranks = q.reshape(-1) * (last - missing.sum(-1, True)).clamp(min=0)
    else:
        ranks = where(missing.any(-1, True), float(last), q.reshape(-1) * last)
    if interpolation in ("lower", "higher", "nearest"):
        rounded = {"lower": ranks.floor, "higher": ranks.ceil, "nearest": ranks.round}[interpolation]()
        values = gather(lines, -1, rounded.long())
    else:
        low = ranks.detach().floor()
        weight = ranks - low if interpolation == "linear" else (ranks * 0 + 0.5).detach()
        values = _between(gather(lines, -1, low.long()), gather(lines, -1, ranks.ceil().long()), weight)
    values = values.permute([values.ndim - 1, *range(values.ndim - 1)])  # the quantiles come first
    shape = kept if keepdim else values.shape[1:]
    return values.reshape([*q.shape, *shape])


quantiles = [
    sample(distinct(7), 0.3),
    sample(distinct(3, 4), 0.5),
    sample(distinct(3, 4), 0.25, 0),
    sample(distinct(3, 4), 0.9, -1, keepdim=True),
    sample(distinct(2, 5), constant(3, low=0.1, high=0.9), 1),
    sample(distinct(2, 5), constant(3, low=0.1, high=0.9), 0, keepdim=True),
    sample(distinct(5), constant(2, low=0.1, high=0.9)),
    sample(distinct(5), constant(low=0.1, high=0.9)),
    sample(real(), 0.5, 0),
    *[sample(distinct(2, 5), 0.6, 1, interpolation=how) for how in ("lower", "higher", "nearest", "midpoint")],
    sample(distinct(3, 4), 0.5, keepdim=True),
    sample(distinct(5), 0.0),
    sample(distinct(5), 1.0),
    sample(distinct(5), 0.125),
    sample(edge([3.0, 1.0, 1.0, 3.0]), 0.6),
    sample(edge([[NAN, 1.0, 2.0, NAN], [INF, -INF, INF, 1.0], [NAN, NAN, NAN, NAN]]), 0.3, 1),
]


@composite(samples=quantiles)
def quantile(
    input: Tensor, q: float | Tensor, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The value below which the fraction `q` of the elements lies;
    for a vector `q`, a quantile each, in dimension 0.

    >>> torch.tensor([0.0, 1.0, 2.0, 3.0]).quantile(0.5)
    tensor(1.5000)
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@composite(samples=quantiles)
def nanquantile(
    input: Tensor, q: float | Tensor, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Quantile of the elements that are not NaN; otherwise as `quantile`."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)
