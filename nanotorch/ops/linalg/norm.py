"""Norms of vectors, and what is made of them: distances, normalisation, cosine similarity."""

from __future__ import annotations

from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.convert import result_type
from nanotorch.ops.linalg.decomposition import linalg_svdvals
from nanotorch.ops.reduce.reductions import INF, NAN, Dim, axes, keep_reduced
from nanotorch.ops.rows.dims import wrap_dim, wrap_dims
from nanotorch.ops.rows.inplace import write_out
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.runtime import need_number
from nanotorch.ops.rows.sample import distinct, edge, real, sample
from nanotorch.ops.shape.views import broadcast_tensors

EUCLIDEAN = (2, "fro", None)

COMPUTE_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")


def _norm_self(xp: Any, grad: Any, self: Any, p: Any, dim: Any, keepdim: bool, result: Any) -> Any:
    """Return the subgradient 0 where there is no derivative: at 0, and where `p` is 0."""
    grad = keep_reduced(xp, grad, dim, keepdim, self.ndim)
    result = keep_reduced(xp, result, dim, keepdim, self.ndim)
    if p in EUCLIDEAN:
        return xp.where(result == 0, 0.0, self * (grad / xp.where(result == 0, 1.0, result)))
    if p == 1:
        return grad * xp.sign(self)
    if p == 0:
        return xp.zeros_like(self)
    if p in (INF, -INF):
        hits = xp.where((xp.absolute(self) == result) | (self != self), xp.ones_like(self), 0.0)
        return xp.sign(self) * (hits / xp.sum(hits, axis=axes(dim, self.ndim), keepdims=True)) * grad
    magnitude = xp.absolute(self)
    # a norm that is NaN has no gradient anywhere
    nothing = 0.0 * result if p < 1 else xp.where(result == result, 0.0, result)
    return grad * xp.where(
        (magnitude == 0) | (result == 0),
        nothing,
        xp.sign(self) * (xp.where(magnitude == 0, 1.0, magnitude) / xp.where(result == 0, 1.0, result)) ** (p - 1),
    )


@op(self=_norm_self, node="LinalgVectorNormBackward0", where="internal")
def _norm(
    xp: Any, self: Array, p: float | str | None = "fro", dim: Dim = None, keepdim: bool = False, *, dtype: Any = None
) -> Array:
    """The norm of all elements or over dimensions."""
    if self.dtype.kind != "f":
        raise RuntimeError(
            f"norm: linalg.vector_norm: Expected a floating point tensor as input. Got {self.dtype}: use .float()"
        )
    axis = axes(dim, self.ndim)
    if p in EUCLIDEAN:
        return xp.sqrt(xp.sum(self * self, axis=axis, keepdims=keepdim))
    if isinstance(p, str):
        raise RuntimeError(f"norm: p must be a number, 'fro' or 'nuc', got {p!r}")
    magnitude = xp.absolute(self)
    if p < 0 or p == INF:
        lengths = self.shape if axis is None else [self.shape[d] for d in ((axis,) if isinstance(axis, int) else axis)]
        if 0 in lengths:
            raise RuntimeError(
                f"norm: linalg.vector_norm cannot compute the {p} norm on an empty tensor because the operation does"
                f" not have an identity (input shape {self.shape})"
            )
    if p in (INF, -INF):
        return (xp.amax if p > 0 else xp.amin)(magnitude, axis=axis, keepdims=keepdim)
    if p == 1:
        return xp.sum(magnitude, axis=axis, keepdims=keepdim)
    if p == 0:
        return xp.sum(xp.astype(self != 0, self.dtype), axis=axis, keepdims=keepdim)
    return xp.sum(magnitude**p, axis=axis, keepdims=keepdim) ** (1.0 / p)


def nuclear_norm(name: str, x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Return the sums of the singular values of the matrices that lie in two dimensions."""
    if len(dims) != 2:
        raise RuntimeError(
            f"{name}: the nuclear norm is one of matrices, over two dimensions, got dim={list(dims)} and input shape"
            f" {tuple(x.shape)}"
        )
    rest = [d for d in range(x.ndim) if d not in dims]
    total = linalg_svdvals(x.permute([*rest, *dims])).sum(-1)
    return total.reshape([1 if d in dims else n for d, n in enumerate(x.shape)]) if keepdim else total


@composite(
    widens=True,
    samples=[
        sample(real(3, 2)),
        sample(real(3, 2), 1),
        sample(real(3, 2), 3, 0),
        sample(real(3, 2), 2, 1, keepdim=True),
        sample(distinct(3, 2, low=0.5), INF, 1),
        sample(distinct(3, 2, low=0.5), -INF, 0, True),
        sample(real(3, 2), 0.5, 1),
        sample(real(2, 3, 2), 2, (0, -1)),
        sample(real(2, 3, 2), 1.5, (0, 2), True),
        sample(real(3, 2), 0),
        sample(real(3, 2), 0, 1),
        sample(real(3, 2), -1),
        sample(real(3), -2.5),
        sample(real(3, 2), "fro", (0, 1)),
        sample(real(3, 2), "fro"),
        sample(real()),
        sample(real(), 3, 0),
        sample(real(0)),
        sample(real(0, 3), 2, 0),
        sample(real(0, 3), 1, 0),
        sample(real(0, 3), INF, 1),
        sample(real(3), p=2.0, dim=-1),
        sample(edge([0.0, 1.0, -2.0]), 1),
        sample(edge([0.0, 1.0, -2.0])),
        sample(edge([[1.0, -3.0, 3.0], [0.0, 0.0, 0.0]]), INF, 1),
        sample(edge([[1.0, 3.0, -1.0], [0.0, 2.0, 0.0]]), -INF, 1),
        sample(real(3, 2), "nuc"),
        sample(real(2, 3, 2), "nuc", (2, 0), True),
        sample(real(2, 3, 2), "nuc", dim=(0, 1)),
    ],
)
def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: Dim = None,
    keepdim: bool = False,
    *,
    out: Tensor | None = None,
    dtype: dtypes.DType | None = None,
) -> Tensor:
    """The p-norm `sum(|x|**p) ** (1/p)` of all elements or over `dim`; its gradient at 0 is 0.

    `p=0` counts the elements that are not zero, infinities give the largest and smallest magnitude, "fro" means 2,
    "nuc" the sum of the singular values of matrices.

    >>> torch.tensor([3.0, 4.0]).norm()
    tensor(5.)
    """
    if out is not None:
        return write_out("norm", norm, out, {"input": input, "p": p, "dim": dim, "keepdim": keepdim, "dtype": dtype})
    if p is not None and not isinstance(p, str):
        p = need_number("norm", "p", p)
    if p != "nuc":
        return _norm(input, p, dim, keepdim, dtype=dtype)
    dims = wrap_dims("norm", tuple(range(input.ndim)) if dim is None else dim, input.ndim)
    return nuclear_norm("norm", input if dtype is None else input.to(dtype), dims, keepdim)


@composite(
    samples=[
        sample(real(3, 2)),
        sample(real(3, 2), 1, 0),
        sample(real(2, 3, 2), 3.0, (0, -1), True),
        sample(distinct(3, 2, low=0.5), INF),
        sample(real(3, 2), 0, 1),
        sample(real(), 2),
        sample(real(0, 3), 2, 0),
        sample(edge([0.0, 3.0, -4.0])),
    ],
    where="linalg",
)
def linalg_vector_norm(
    x: Tensor, ord: float = 2, dim: Dim = None, keepdim: bool = False, *, dtype: dtypes.DType | None = None
) -> Tensor:
    """The norm `sum(|x|**ord) ** (1/ord)` of all elements or over `dim`, whatever the shape."""
    ord = need_number("linalg.vector_norm", "ord", ord)
    return _norm(x, ord, dim, keepdim, dtype=dtype)


@composite(
    widens=True, samples=[sample(real(3, 2), real(3, 2)), sample(real(3), real(2, 1), 1), sample(real(3), real(3), INF)]
)
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of `input - other`, which broadcast."""
    p = need_number("dist", "p", p)
    return _norm(input - other, p)


def distances(name: str, differences: Any, p: float) -> Any:
    """Return the norms of differences along the last dimension."""
    p = need_number(name, "p", p)
    if not p >= 0:
        raise RuntimeError(f"{name}: only supports non-negative p values, got {p}")
    return _norm(differences, p if differences.shape[-1] else 1.0, -1)


@composite(
    widens=True,
    samples=[
        sample(real(3, 2), real(4, 2)),
        sample(real(3, 2), real(4, 2), 1.0),
        sample(distinct(3, 2), distinct(4, 2, low=-1.9, high=1.7), INF),
        sample(real(2, 3, 2), real(2, 1, 2), p=3.0),
        sample(real(2, 1, 3, 2), real(4, 5, 2)),
        sample(real(3, 2), real(4, 2), 0.5),
        sample(real(0, 2), real(4, 2)),
        sample(real(3, 0), real(4, 0)),
        sample(edge([[1.0, 2.0], [0.0, 1.0]]), edge([[1.0, 2.0], [3.0, 1.0]])),
        sample(edge([[1.0, 2.0], [0.0, 1.0]]), edge([[1.0, 2.0], [3.0, 1.0]]), 1.0),
        sample(real(3, 2), real(4, 2), 0.0),
    ],
    where="function",
)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """The p-norm distances of every row of `x1` (..., m, d) to every row of `x2` (..., n, d): (..., m, n).

    Differences are always taken, so equal rows have the distance 0 exactly, and there the gradient 0; `compute_mode`
    is accepted for PyTorch's sake, whose other way (a matrix product) loses digits.

    >>> torch.cdist(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
    tensor([[5., 1.]])
    """
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(
            f"cdist: expected (..., m, d) and (..., n, d), got shapes {tuple(x1.shape)} and {tuple(x2.shape)}"
        )
    if compute_mode not in COMPUTE_MODES:
        raise ValueError(
            f"cdist: {compute_mode} is not a valid value for compute_mode: choose one of {', '.join(COMPUTE_MODES)}"
        )
    return distances("cdist", x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


@composite(
    widens=True,
    samples=[
        sample(real(3, 2)),
        sample(real(3, 2), 1.0, 0),
        sample(real(2, 3, 2), 2, -1),
        sample(real(2, 3), INF, 1),
        sample(real(4), dim=0),
        sample(real(3, 2), dim=(0, 1)),
        sample(real(0, 3)),
        sample(real(3, 2), eps=10.0),
        sample(edge([[1e-13, 0.0]])),
        sample(edge([[NAN, 1.0], [INF, 1.0]])),
    ],
    where="functional",
)
def normalize(input: Tensor, p: float = 2.0, dim: Dim = 1, eps: float = 1e-12) -> Tensor:
    """The tensor divided by its p-norm over `dim`, or by `eps` where the norm is smaller.

    >>> torch.nn.functional.normalize(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return input / (norm if p == "nuc" else _norm)(input, p, dim, keepdim=True).clamp(min=eps)


@composite(
    widens=True,
    samples=[
        sample(real(3, 4), real(3, 4)),
        sample(real(3, 4), real(3, 4), 0),
        sample(real(2, 3, 4), real(3, 4), -1),
        sample(real(4), real(4), dim=0),
        sample(edge([[0.3, 1.0]]), edge([[0.7, -0.1]]), eps=10.0),
        sample(real(0, 3), real(0, 3)),
    ],
    where="functional",
)
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between two tensors along `dim`; norms below `eps` count as `eps`.

    >>> torch.nn.functional.cosine_similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([0.7071])
    """
    if not eps >= 0:
        raise RuntimeError(f"cosine_similarity: eps must be non-negative, got {eps}")
    dtype = result_type(x1, x2)
    x1, x2 = broadcast_tensors(x1.to(dtype), x2.to(dtype))
    dim = wrap_dim("cosine_similarity", dim, x1.ndim)

    def length(x: Any) -> Any:
        size = _norm(x, 2, dim, keepdim=True) * 1
        with no_grad():
            size.clamp_(min=eps)  # its gradient passes the bound, as in PyTorch
        return size

    return ((x1 / length(x1)) * (x2 / length(x2))).sum(dim)


@composite(
    widens=True,
    samples=[
        sample(real(3, 4), real(3, 4)),
        sample(real(3, 4), real(4), 1.0),
        sample(real(4), real(4), keepdim=True),
        sample(real(2, 3), real(2, 3), INF),
        sample(real(2, 3, 4), real(2, 3, 4), 3, 1e-3),
        sample(edge([[1.0, 2.0]]), edge([[1.0, 2.0]])),
        sample(real(0, 3), real(0, 3)),
    ],
    where="functional",
)
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of `x1 - x2 + eps` over the last dimension."""
    p = need_number("pairwise_distance", "p", p)
    return _norm(x1 - x2 + eps, p, -1, keepdim)
