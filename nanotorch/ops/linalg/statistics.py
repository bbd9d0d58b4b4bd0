"""Statistics of samples: the most frequent value, covariances, correlations,
distances of all pairs, rows of bounded norm.
"""

from __future__ import annotations

import warnings
from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.create.convert import result_type
from nanotorch.ops.index.indices import triu_indices
from nanotorch.ops.linalg.norm import distances, linalg_vector_norm
from nanotorch.ops.reduce.reductions import _pick_self, need_elements
from nanotorch.ops.rows.dims import wrap_dim
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.sample import booleans, constant, distinct, edge, integers, real, sample


@op(
    self=_pick_self,
    outputs="values indices",
    samples=[
        sample(edge([[1.0, 2.0, 2.0, 3.0], [4.0, 4.0, 1.0, 1.0]])),
        sample(integers(4, 5), 0),
        sample(integers(3, 7), -1, keepdim=True),
        sample(real()),
        sample(booleans(5)),
        sample(real(2, 0), 0),
        sample(distinct(2, 3, 2), 1),
    ],
)
def mode(xp: Any, self: Array, dim: int = -1, keepdim: bool = False) -> Array:
    """The most frequent value along `dim`, the smallest of several, and the last place where it is.

    >>> torch.tensor([3, 1, 3, 2]).mode().values
    tensor(3)
    """
    dim = wrap_dim("mode", dim, self.ndim)
    if not self.ndim:
        return xp.array(self), xp.zeros((), dtype=dtypes.int64.numpy)
    if not self.shape[dim]:
        need_elements("mode", self.shape, dim)
    x = xp.moveaxis(self, dim, -1)
    order = xp.argsort(x, axis=-1, kind="stable")
    ordered = xp.take_along_axis(x, order, -1)
    places = xp.broadcast_to(xp.arange(x.shape[-1]), x.shape)
    begins = xp.concatenate([xp.ones((*x.shape[:-1], 1), dtype=bool), ordered[..., 1:] != ordered[..., :-1]], axis=-1)
    run = places - (xp.running_max(xp.where(begins, places, 0), -1) if x.size else places)
    last = xp.expand_dims(xp.argmax(run, axis=-1) if x.size else xp.zeros(x.shape[:-1], dtype=dtypes.int64.numpy), -1)
    values, indices = (xp.moveaxis(xp.take_along_axis(part, last, -1), -1, dim) for part in (ordered, order))
    return (values, indices) if keepdim else (xp.squeeze(values, dim), xp.squeeze(indices, dim))


spreads = [sample(real(3, 5)), sample(real(4)), sample(integers(2, 4, high=9))]


@composite(
    widens=True,
    samples=[
        *spreads,
        sample(real(2, 4), correction=0),
        sample(real(2, 4), fweights=integers(4, low=1, high=4)),
        sample(real(2, 4), aweights=constant(4)),
        sample(real(2, 4), correction=2, fweights=integers(4, low=1, high=4), aweights=constant(4)),
        sample(real(1, 4)),
    ],
)
def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariance matrix of variables, one a row, of which each column is an observation.

    Args:
        input: (variables, observations), or one variable.
        correction: what is taken from the number of observations before dividing by it.
        fweights: how often each observation counts, integers.
        aweights: how much each observation counts, numbers.
    """
    if input.ndim > 2:
        raise ShapeError(f"cov: expected input to have two or fewer dimensions but got shape {tuple(input.shape)}")
    x = input.reshape(1, -1) if input.ndim < 2 else input
    x = x if x.is_floating_point() else x.to(dtypes.get_default_dtype())
    count = x.shape[1]
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        if given.ndim > 1 or given.numel() != count:
            raise ShapeError(
                f"cov: expected {name} to have one number for each of {count} observations, got shape"
                f" {tuple(given.shape)}"
            )
        if given.is_floating_point() != (name == "aweights"):
            raise RuntimeError(
                f"cov: expected {name} to have {'floating point' if name == 'aweights' else 'integral'} dtype but got"
                f" {given.dtype}"
            )
        if bool((given < 0).any()):
            raise RuntimeError(f"cov: {name} cannot be negative")
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weights is None:
        total: Any = count
        mean = x.sum(1, keepdim=True) / (count or float("nan"))
    else:
        dtype = result_type(x, weights)
        x, weights = x.to(dtype), weights.to(dtype)
        total = weights.sum()
        mean = (x * weights).sum(1, keepdim=True) / total
    divisor = (
        total - correction
        if aweights is None or weights is None or not correction
        else total - correction * (weights * aweights).sum() / total
    )
    if float(divisor) <= 0:
        warnings.warn(
            "cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of observations.",
            UserWarning,
            stacklevel=2,
        )
        divisor = x.new_zeros(())
    centred = x - mean
    return ((centred if weights is None else centred * weights) @ centred.T / divisor).squeeze()


@composite(
    widens=True,
    samples=[
        sample(real(3, 5)),
        sample(edge([1.0, 2.0, 4.0])),
        sample(integers(2, 6, high=9)),
        sample(edge([[1.0, 1.0, 1.0], [1.0, 2.0, 4.0]])),
    ],
)
def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlation coefficients of variables, one a row, of which each column is an observation."""
    matrix = cov(input)
    if not matrix.ndim:
        return matrix / matrix
    spread = matrix.diagonal().sqrt()
    return (matrix / spread.unsqueeze(1) / spread).clamp(-1, 1)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(4, 3)),
        sample(real(3, 2), 1.0),
        sample(constant(3, 2), float("inf")),
        sample(real(1, 3)),
        sample(constant(0, 3)),
        sample(real(3, 2), p=3.0),
    ],
)
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The distances of all pairs of rows of a matrix, in the order of the upper triangle of `cdist`."""
    if input.ndim != 2:
        raise ShapeError(f"pdist: expected a matrix of points, one a row, got shape {tuple(input.shape)}")
    first, second = triu_indices(input.shape[0], input.shape[0], 1, device=input.device).unbind(0)
    return distances("pdist", input[first] - input[second], p)


@composite(
    widens=True,
    samples=[
        sample(real(2, 4), 2, 0, 1.5),
        sample(real(2, 4), 1, -1, 1.0),
        sample(real(2, 3, 2), 2.5, 1, 0.5),
        sample(real(2, 2), p=2, dim=0, maxnorm=100.0),
    ],
)
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """A copy whose slices along `dim` are scaled down to a p-norm of `maxnorm` where theirs is larger."""
    return input * _shrinking(input, p, dim, maxnorm)


@composite(where="method")
def renorm_(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """In-place version of `renorm`."""
    return input.mul_(_shrinking(input.clone(), p, dim, maxnorm))


def _shrinking(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Return the factors of `renorm`."""
    if input.ndim < 2:
        raise ShapeError(f"renorm: input needs at least 2 dimensions, got shape {tuple(input.shape)}")
    if not p > 0:
        raise RuntimeError(f"renorm: non-positive-norm not supported, got p={p}")
    if not maxnorm >= 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    dim = wrap_dim("renorm", dim, input.ndim)
    norms = linalg_vector_norm(input, p, tuple(d for d in range(input.ndim) if d != dim), True)
    return (maxnorm / (norms + 1e-7)).where(
        norms > maxnorm,
        from_array(input.device.xp.asarray(input.device.xp.ones((), dtype=input.dtype.numpy)), input.device),
    )
