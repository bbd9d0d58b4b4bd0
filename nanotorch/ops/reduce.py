"""Reductions: rows that collapse dimensions, and scans along one."""

from __future__ import annotations

from typing import Any

from nanotorch import dtypes
from nanotorch.ops.row import Array, composite, op
from nanotorch.ops.sample import booleans, distinct, edge, integers, real, sample

Dim = int | tuple[int, ...] | None

reduced = [
    sample(real(3, 2)), sample(real(3, 2), 0), sample(real(3, 2), dim=-1, keepdim=True), sample(real(2, 3, 2), (0, 2)),
    sample(real()),
]  # fmt: skip
one_dim = [sample(distinct(3, 4), 0), sample(distinct(3, 4), -1, keepdim=True), sample(distinct(5), 0)]


def expand_reduced(xp: Any, grad: Any, shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    """Give every element of a reduced dimension the gradient of its sum."""
    return xp.broadcast_to(keep_reduced(xp, grad, dim, keepdim, len(shape)), shape)


def keep_reduced(xp: Any, value: Any, dim: Any, keepdim: bool, ndim: int) -> Any:
    """Give a reduced value its dimensions of length one back, so that it broadcasts against the input."""
    if keepdim or ndim == 0 or dim is None or dim == ():
        return value
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return xp.expand_dims(value, tuple(d % ndim for d in dims))


def count(shape: tuple[int, ...], dim: Any) -> int:
    """Return how many elements a reduction over ``dim`` combines."""
    dims = range(len(shape)) if dim is None or dim == () else (dim,) if isinstance(dim, int) else dim
    total = 1
    for d in dims:
        total *= shape[d]
    return total


def _all_if_empty(dim: Any) -> Any:
    return None if dim == () else tuple(dim) if isinstance(dim, list) else dim


@op(
    self=lambda xp, grad, self_shape, dim, keepdim: expand_reduced(xp, grad, self_shape, dim, keepdim),
    samples=[*reduced, sample(integers(3, 2)), sample(booleans(4))],
    overload="dim",
)
def sum(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    """Sum of all elements or over ``dim``; integers and booleans are summed as int64.

    >>> torch.sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([4., 6.])
    """
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    elif self.dtype.kind != "f":
        self = xp.astype(self, dtypes.int64.numpy)
    return xp.sum(self, axis=_all_if_empty(dim), keepdims=keepdim)


@op(
    self=lambda xp, grad, self_shape, dim, keepdim: expand_reduced(xp, grad, self_shape, dim, keepdim)
    / count(self_shape, dim),
    samples=reduced,
    overload="dim",
)
def mean(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    """Mean of all elements or over ``dim``.

    >>> torch.tensor([1.0, 2.0, 6.0]).mean()
    tensor(3.)
    """
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    if self.dtype.kind != "f":
        raise RuntimeError(f"mean: could not infer output dtype. Input dtype must be floating point; got {self.dtype}: use .float()")
    return xp.sum(self, axis=_all_if_empty(dim), keepdims=keepdim) / count(self.shape, dim)


def _var(xp: Any, x: Any, dim: Any, correction: float, keepdim: bool) -> Any:
    dim = _all_if_empty(dim)
    n = count(x.shape, dim)
    centred = x - xp.sum(x, axis=dim, keepdims=True) / n
    free = n - correction
    total = xp.sum(centred * centred, axis=dim, keepdims=keepdim)
    return total / free if free > 0 else total * float("nan" if free == 0 and n == 1 else "inf" if n else "nan")


def _var_self(xp: Any, grad: Any, self: Any, dim: Any, correction: Any, unbiased: bool, keepdim: bool) -> Any:
    n = count(self.shape, dim)
    centred = self - xp.sum(self, axis=_all_if_empty(dim), keepdims=True) / n
    free = max_of(n - _correction(correction, unbiased), 0)
    scale = 2.0 / free if free else float("inf")
    return keep_reduced(xp, grad, dim, keepdim, self.ndim) * (centred * scale)


def _correction(correction: Any, unbiased: bool) -> float:
    return correction if correction is not None else 1 if unbiased else 0


def max_of(a: float, b: float) -> float:
    """Return the larger of two numbers (this module's ``max`` is the op)."""
    return a if a > b else b


spread = [
    sample(real(3, 2)), sample(real(3, 2), 0), sample(real(3, 4), dim=-1, keepdim=True), sample(real(4), correction=0),
    sample(real(2, 3, 2), (0, 2)), sample(real(4), unbiased=False),
]  # fmt: skip


@op(self=_var_self, samples=spread)
def var(
    xp: Any, self: Array, dim: Dim = None, *, correction: float | None = None, unbiased: bool = True, keepdim: bool = False
) -> Array:
    """Variance of all elements or over ``dim``, dividing by ``n - correction`` (1 by default: Bessel's correction)."""
    return _var(xp, self, dim, _correction(correction, unbiased), keepdim)


def _std_self(xp: Any, grad: Any, self: Any, dim: Any, correction: Any, unbiased: bool, keepdim: bool, result: Any) -> Any:
    """The root has no derivative at 0; PyTorch takes 0 there."""
    grad = xp.where(result == 0, 0.0, grad / (2 * result))
    return _var_self(xp, grad, self, dim, correction, unbiased, keepdim)


@op(self=_std_self, samples=[*spread, sample(edge([[1.5, 1.5], [1.0, 2.0]]), 1)])
def std(
    xp: Any, self: Array, dim: Dim = None, *, correction: float | None = None, unbiased: bool = True, keepdim: bool = False
) -> Array:
    """Standard deviation of all elements or over ``dim``: the square root of `var`."""
    return xp.sqrt(_var(xp, self, dim, _correction(correction, unbiased), keepdim))


def _prod_self(xp: Any, grad: Any, self: Any, dim: Any, keepdim: bool) -> Any:
    # The derivative of a product is the product of the others: of those before and of those after, so zeros are exact.
    x = xp.reshape(self, (-1,)) if dim is None else xp.moveaxis(self, dim, -1)
    ones = xp.ones_like(x[..., :1])
    before = xp.concatenate([ones, xp.cumprod(x[..., :-1], axis=-1)], axis=-1)
    after = xp.flip(xp.concatenate([ones, xp.cumprod(xp.flip(x[..., 1:], -1), axis=-1)], axis=-1), -1)
    others = before * after
    others = xp.reshape(others, self.shape) if dim is None else xp.moveaxis(others, -1, dim)
    return keep_reduced(xp, grad, dim, keepdim, self.ndim) * others


@op(self=_prod_self, overload="dim", samples=[sample(real(4)), sample(real(3, 2), 0), sample(real(3, 2), 1, keepdim=True), sample(integers(3))])
def prod(xp: Any, self: Array, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    """Product of all elements or over ``dim``; the derivative is exact where elements are zero."""
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    elif self.dtype.kind != "f":
        self = xp.astype(self, dtypes.int64.numpy)
    return xp.prod(self, axis=dim, keepdims=keepdim)


def _extremum_self(xp: Any, grad: Any, self: Any, dim: Any, keepdim: bool, result: Any) -> Any:
    """Share the gradient equally among the elements that attain the extremum."""
    hits = self == keep_reduced(xp, result, dim, keepdim, self.ndim)
    hits = xp.where(hits, xp.ones_like(self), 0.0)
    return hits / xp.sum(hits, axis=_all_if_empty(dim), keepdims=True) * keep_reduced(xp, grad, dim, keepdim, self.ndim)


@op(self=_extremum_self, samples=[*reduced, sample(integers(3, 2), 1)])
def amax(xp: Any, self: Array, dim: Dim = (), keepdim: bool = False) -> Array:
    """Maximum over ``dim``; equal maxima share the gradient."""
    return xp.amax(self, axis=_all_if_empty(dim), keepdims=keepdim)


@op(self=_extremum_self, samples=[*reduced, sample(integers(3, 2), 1)])
def amin(xp: Any, self: Array, dim: Dim = (), keepdim: bool = False) -> Array:
    """Minimum over ``dim``; equal minima share the gradient."""
    return xp.amin(self, axis=_all_if_empty(dim), keepdims=keepdim)


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
    """Maximum along ``dim`` and where it is."""
    indices = xp.argmax(self, axis=dim)
    values = xp.amax(self, axis=dim, keepdims=keepdim)
    return values, xp.expand_dims(indices, dim) if keepdim and self.ndim else indices


@op(self=_pick_self, outputs="values indices", where="internal", node="MinBackward0")
def _min_dim(xp: Any, self: Array, dim: int, keepdim: bool = False) -> Array:
    """Minimum along ``dim`` and where it is."""
    indices = xp.argmin(self, axis=dim)
    values = xp.amin(self, axis=dim, keepdims=keepdim)
    return values, xp.expand_dims(indices, dim) if keepdim and self.ndim else indices


@op(self=lambda xp, grad, self, result: _extremum_self(xp, grad, self, None, False, result), where="internal", node="MaxBackward1")
def _max_all(xp: Any, self: Array) -> Array:
    """Maximum of all elements."""
    return xp.amax(self)


@op(self=lambda xp, grad, self, result: _extremum_self(xp, grad, self, None, False, result), where="internal", node="MinBackward1")
def _min_all(xp: Any, self: Array) -> Array:
    """Minimum of all elements."""
    return xp.amin(self)


@composite(samples=[sample(distinct(3, 4)), sample(distinct(3, 2), distinct(2, low=-1.9, high=1.7)), *one_dim])
def max(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Maximum: of all elements, with ``dim`` the pair (values, indices), with another tensor elementwise.

    >>> torch.tensor([[1.0, 5.0], [7.0, 2.0]]).max(dim=1).indices
    tensor([1, 0])
    """
    other = dim if hasattr(dim, "_array") else other
    if other is not None:
        return input.maximum(other)
    return _max_all(input) if dim is None else _max_dim(input, dim, keepdim)


@composite(samples=[sample(distinct(3, 4)), sample(distinct(3, 2), distinct(2, low=-1.9, high=1.7)), *one_dim])
def min(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Minimum: of all elements, with ``dim`` the pair (values, indices), with another tensor elementwise."""
    other = dim if hasattr(dim, "_array") else other
    if other is not None:
        return input.minimum(other)
    return _min_all(input) if dim is None else _min_dim(input, dim, keepdim)


@op(samples=[sample(distinct(3, 4)), *one_dim])
def argmax(xp: Any, self: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index of the maximum, of the flattened tensor or along ``dim``."""
    return xp.argmax(self, axis=dim, keepdims=keepdim)


@op(samples=[sample(distinct(3, 4)), *one_dim])
def argmin(xp: Any, self: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index of the minimum, of the flattened tensor or along ``dim``."""
    return xp.argmin(self, axis=dim, keepdims=keepdim)


@op(samples=[sample(booleans(3, 2)), sample(booleans(3, 2), 0), sample(integers(3, 2), 1, keepdim=True)])
def any(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether any element is non-zero."""
    return xp.any(self, axis=_all_if_empty(dim), keepdims=keepdim)


@op(samples=[sample(booleans(3, 2)), sample(booleans(3, 2), 0), sample(integers(3, 2), 1, keepdim=True)])
def all(xp: Any, self: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether all elements are non-zero."""
    return xp.all(self, axis=_all_if_empty(dim), keepdims=keepdim)


@op(samples=[sample(integers(3, 2)), sample(integers(3, 2), 0)])
def count_nonzero(xp: Any, self: Array, dim: Dim = None) -> Array:
    """The number of non-zero elements."""
    return xp.sum(xp.astype(self != 0, dtypes.int64.numpy), axis=_all_if_empty(dim))


def _norm_self(xp: Any, grad: Any, self: Any, p: Any, dim: Any, keepdim: bool, result: Any) -> Any:
    grad = keep_reduced(xp, grad, dim, keepdim, self.ndim)
    result = keep_reduced(xp, result, dim, keepdim, self.ndim)
    if p in ("fro", 2, 2.0):  # at 0 the subgradient 0, as in PyTorch
        return xp.where(result == 0, 0.0, self * (grad / xp.where(result == 0, 1.0, result)))
    if p == 1:
        return grad * xp.sign(self)
    if p == 0:
        return xp.zeros_like(self)
    if p in (float("inf"), float("-inf")):
        hits = xp.where(xp.absolute(self) == result, xp.ones_like(self), 0.0)
        return xp.sign(self) * (hits / xp.sum(hits, axis=_all_if_empty(dim), keepdims=True)) * grad
    magnitude = xp.absolute(self)
    return grad * xp.where(
        (magnitude == 0) | (result == 0),
        0.0,
        xp.sign(self) * (xp.where(magnitude == 0, 1.0, magnitude) / xp.where(result == 0, 1.0, result)) ** (p - 1),
    )


@op(
    self=_norm_self,
    samples=[
        sample(real(3, 2)), sample(real(3, 2), 1), sample(real(3, 2), 3, 0), sample(real(3, 2), 2, 1, keepdim=True),
        sample(distinct(3, 2, low=0.5), float("inf"), 1), sample(real(3, 2), 0.5, 1),
    ],
)  # fmt: skip
def norm(xp: Any, self: Array, p: float | str = "fro", dim: Dim = None, keepdim: bool = False) -> Array:
    """The p-norm ``sum(|x|**p) ** (1/p)`` of all elements or over ``dim``."""
    axis = _all_if_empty(dim)
    if p in ("fro", 2, 2.0):
        return xp.sqrt(xp.sum(self * self, axis=axis, keepdims=keepdim))
    if isinstance(p, str):
        raise RuntimeError(f"norm: p must be a number or 'fro', got {p!r}")
    magnitude = xp.absolute(self)
    if p == float("inf"):
        return xp.amax(magnitude, axis=axis, keepdims=keepdim)
    if p == float("-inf"):
        return xp.amin(magnitude, axis=axis, keepdims=keepdim)
    if p == 0:
        return xp.sum(xp.astype(self != 0, self.dtype), axis=axis, keepdims=keepdim)
    return xp.sum(magnitude**p, axis=axis, keepdims=keepdim) ** (1.0 / p)


def logsumexp_of(xp: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Return ``log(sum(exp(x)))`` without overflow."""
    top = xp.amax(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)
    total = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else xp.squeeze(total, axis)


@op(
    self=lambda xp, grad, self, dim, keepdim, result: keep_reduced(xp, grad, dim, keepdim, self.ndim)
    * xp.exp(self - keep_reduced(xp, result, dim, keepdim, self.ndim)),
    cast="float",
    samples=[sample(real(3, 2), 1), sample(real(3, 2), (0, 1)), sample(real(3, 2), 0, keepdim=True)],
)
def logsumexp(xp: Any, self: Array, dim: int | tuple[int, ...], keepdim: bool = False) -> Array:
    """``log(sum(exp(input)))`` over ``dim``, without overflow."""
    return logsumexp_of(xp, self, _all_if_empty(dim), keepdim)


@op(
    self=lambda xp, grad, dim: xp.flip(xp.cumsum(xp.flip(grad, dim), axis=dim), dim) if grad.ndim else grad,
    inplace=True,
    samples=[sample(real(3, 2), 0), sample(real(3, 2), -1), sample(integers(4), 0)],
)
def cumsum(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """Running sum along ``dim``."""
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    elif self.dtype.kind != "f":
        self = xp.astype(self, dtypes.int64.numpy)
    return xp.cumsum(self, axis=dim) if self.ndim else self + 0


def _cumprod_self(xp: Any, grad: Any, self: Any, dim: int) -> Any:
    # d out[j] / d x[i] is the product of x[0..j] without x[i]: a lower triangle of products, exact where x is zero.
    x = xp.moveaxis(self, dim, -1)
    n = x.shape[-1]
    eye = xp.eye(n, dtype=bool)
    below = xp.tril(xp.ones((n, n), dtype=bool))
    factors = xp.where(below[:, None, :] & ~eye[None, :, :], xp.expand_dims(xp.expand_dims(x, -2), -2), 1.0)
    products = xp.where(below, xp.prod(factors, axis=-1), 0.0)
    return xp.moveaxis(xp.sum(xp.expand_dims(xp.moveaxis(grad, dim, -1), -1) * products, axis=-2), -1, dim)


@op(self=_cumprod_self, samples=[sample(real(3, 2), 0), sample(real(4), -1)])
def cumprod(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """Running product along ``dim``; the derivative is exact where elements are zero."""
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    elif self.dtype.kind != "f":
        self = xp.astype(self, dtypes.int64.numpy)
    return xp.cumprod(self, axis=dim)
