"""Maps of features: `linear`, `bilinear`, and `embedding`, the linear map of one-hot vectors without their zeros."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.elementwise.extrema import where
from nanotorch.ops.index.gather import check_index
from nanotorch.ops.linalg.norm import linalg_vector_norm
from nanotorch.ops.rows.row import Array, Index, composite, op
from nanotorch.ops.rows.runtime import need_number
from nanotorch.ops.rows.sample import integers, real, sample


def _rows(xp: Any, x: Any) -> Any:
    """Return a tensor of features as a matrix: everything but the last dimension is one."""
    return x if x.ndim == 2 else xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


@op(
    self=lambda xp, grad, weight: xp.matmul(grad, weight),
    weight=lambda xp, grad, self: xp.matmul(_rows(xp, grad).T, _rows(xp, self)),
    bias=lambda xp, grad: xp.column_sums(_rows(xp, grad)),
    where="functional",
    node="AddmmBackward0",
    flops=lambda self, weight: 2 * math.prod(self) * weight[0],
    samples=[
        sample(real(5, 3), real(2, 3), real(2)),
        sample(real(5, 3), real(2, 3)),
        sample(real(2, 5, 3), real(2, 3), real(2)),
        sample(real(3), real(2, 3), real(2)),
    ],
)
def linear(xp: Any, self: Array, weight: Array, bias: Array | None = None) -> Array:
    """`input @ weight.T + bias` for weight (out_features, in_features) and input (..., in_features)."""
    try:
        out = xp.matmul(self, weight.T)
    except ValueError:
        raise ShapeError(
            f"linear: expected last dimension {weight.shape[1]}, got input {tuple(self.shape)} (weight"
            f" {tuple(weight.shape)})"
        ) from None
    return out if bias is None else xp.iadd(out, bias)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(5, 3), real(5, 2), real(4, 3, 2), real(4)),
        sample(real(2, 5, 3), real(2, 5, 2), real(4, 3, 2)),
        sample(real(3), real(2), real(1, 3, 2), real(1)),
    ],
)
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input1 @ weight[o] @ input2 + bias[o]` for every output o: (..., I), (..., J) and (O, I, J) give (..., O)."""
    if weight.ndim != 3:
        raise ShapeError(f"bilinear: weight must have three dimensions (O, I, J), got shape {tuple(weight.shape)}")
    outputs, first, second = weight.shape
    if input1.shape[:-1] != input2.shape[:-1] or (*input1.shape[-1:], *input2.shape[-1:]) != (first, second):
        raise ShapeError(
            f"bilinear: expected inputs (..., {first}) and (..., {second}) that agree in all but the last dimension,"
            f" got {tuple(input1.shape)} and {tuple(input2.shape)} (weight {tuple(weight.shape)})"
        )
    lead = list(input1.shape[:-1])
    halfway = (input1 @ weight.permute(1, 0, 2).reshape(first, outputs * second)).reshape([*lead, outputs, second])
    out = (halfway * input2.unsqueeze(-2)).sum(-1)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"bilinear: bias must have the shape {tuple(weight.shape[:1])} of the outputs, got {tuple(bias.shape)}"
        )
    return out if bias is None else out + bias


def _embedding_weight(
    xp: Any, grad: Any, self: Any, weight_shape: Any, padding_idx: int | None, scale_grad_by_freq: bool
) -> Any:
    if scale_grad_by_freq:
        ones = xp.astype(self >= 0, grad.dtype)
        grad = grad / xp.scatter_to_zeros(ones, (weight_shape[0],), self)[self][..., None]
    if padding_idx is not None:
        grad = xp.where((self != padding_idx % weight_shape[0])[..., None], grad, 0.0)
    return xp.scatter_to_zeros(grad, weight_shape, self)


@op(weight=_embedding_weight, where="internal", node="EmbeddingBackward0")
def _embedding(xp: Any, self: Index, weight: Array, padding_idx: int | None, scale_grad_by_freq: bool) -> Array:
    """The rows of `weight` that the indices name."""
    if xp.all_in_range(xp.astype(self, "int64"), weight.shape[0]) is False:
        check_index("embedding", xp, self, weight.shape[0], 0)
    return xp.take(weight, self, axis=0)


@composite(
    where="functional",
    samples=[
        sample(integers(4), real(3, 2)),
        sample(integers(2, 3), real(3, 2), padding_idx=1),
        sample(integers(2, 3), real(3, 2), padding_idx=-1),
        sample(integers(), real(3, 2)),
        sample(integers(30, low=0, high=20), real(20, 7)),
    ],
)
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
) -> Tensor:
    """The rows of `weight` that the indices name: (*) gives (*, D).

    Args:
        input: indices, integers in [0, N).
        weight: a table (N, D).
        padding_idx: a row that gets no gradient.
        max_norm: rows that are looked up and longer than this are first shortened to it, in place.
        norm_type: the p of the norm that measures them.
        scale_grad_by_freq: divide the gradient of a row by how often the input names it.
    """
    if weight.ndim != 2:
        raise ShapeError(f"embedding: 'weight' must be a table, 2-D, got shape {tuple(weight.shape)}")
    if padding_idx is not None and not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise ValueError(
            f"embedding: Padding_idx must be within num_embeddings, got {padding_idx} for weight {tuple(weight.shape)}"
        )
    if max_norm is not None:
        norm_type = need_number("embedding", "norm_type", norm_type)
        with no_grad():
            used = input.reshape(-1)
            rows = weight[used]
            norms = linalg_vector_norm(rows, norm_type, 1, True)
            weight[used] = where(norms > max_norm, rows * (max_norm / (norms + 1e-7)), rows)
    return _embedding(input, weight, padding_idx, scale_grad_by_freq)
