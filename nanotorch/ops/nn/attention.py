"""Attention: means of values, weighted by how well their keys match a query."""

from __future__ import annotations

import math

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.ops.elementwise.extrema import where
from nanotorch.ops.linalg.products import matmul
from nanotorch.ops.nn.dropout import dropout
from nanotorch.ops.nn.softmax_family import _safe_softmax, softmax
from nanotorch.ops.rows.row import composite
from nanotorch.ops.rows.runtime import need_number
from nanotorch.ops.rows.sample import booleans, edge, real, sample

inf = math.inf


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(2, 3, 4), real(2, 5, 4), real(2, 5, 3)),
        sample(real(3, 4), real(5, 4), real(5, 4)),
        sample(real(2, 2, 3, 4), real(2, 2, 5, 4), real(2, 2, 5, 3), scale=0.3),
        sample(real(2, 5, 4), real(2, 5, 4), real(2, 5, 4), is_causal=True),
        sample(real(2, 3, 4), real(2, 5, 4), real(2, 5, 4), is_causal=True),
        sample(real(2, 3, 4), real(2, 5, 4), real(2, 5, 4), real(3, 5)),
        sample(real(2, 2, 3, 4), real(2, 2, 5, 4), real(2, 2, 5, 4), real(2, 1, 1, 5)),
        sample(real(2, 3, 4), real(2, 5, 4), real(2, 5, 4), booleans(2, 3, 5)),
        sample(real(2, 4, 3, 2), real(2, 2, 5, 2), real(2, 2, 5, 3), enable_gqa=True),
        sample(real(2, 4), real(3, 4), real(3, 4), edge([[0.0, -inf, 1.0], [-inf, -inf, -inf]])),
    ],
)
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`softmax(query @ key.T * scale + mask) @ value` (Vaswani et al., Attention Is All You Need, 2017).

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, V).
        attn_mask: broadcast to (..., L, S): True where a query may see a key, or numbers to add to the scores. A query
            that sees nothing gets zeros.
        dropout_p: the probability with which weights are dropped, whatever the mode of a module is.
        is_causal: query i sees the keys 0 to i only; not together with a mask.
        scale: what the scores are multiplied by, `1 / sqrt(E)` by default.
        enable_gqa: query may have a multiple of the heads, the third dimension from the end, of key and value;
            consecutive heads then share theirs (Ainslie et al. 2023).

    >>> x = torch.eye(2)
    >>> torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    tensor([[1.0000, 0.0000],
            [0.3302, 0.6698]])
    """
    name = "scaled_dot_product_attention"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ShapeError(
            f"{name}: Expected query, key, and value to all be at least 2 dimensional, but got query.dim: {query.ndim}"
            f" key.dim: {key.ndim} and value.dim: {value.ndim} instead."
        )
    if not query.dtype is key.dtype is value.dtype:
        raise RuntimeError(
            f"{name}: Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype}"
            f" key.dtype: {key.dtype} and value.dtype: {value.dtype} instead."
        )
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"{name}: query (..., L, E), key (..., S, E) and value (..., S, V) do not fit: {tuple(query.shape)},"
            f" {tuple(key.shape)} and {tuple(value.shape)}"
        )
    if attn_mask is not None and is_causal:
        raise RuntimeError(f"{name}: Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa:
        key, value = _shared(name, query, key), _shared(name, query, value)
    factor = 1.0 / math.sqrt(max(1, query.shape[-1])) if scale is None else need_number(name, "scale", scale)
    scores = matmul(query * factor, key.transpose(-2, -1))
    if attn_mask is not None:
        shape, room = tuple(attn_mask.shape), tuple(scores.shape)
        if len(shape) > len(room) or any(n not in (1, most) for n, most in zip(shape[::-1], room[::-1], strict=False)):
            raise ShapeError(f"{name}: attn_mask of shape {shape} cannot be broadcast to the scores of shape {room}")
    if is_causal:
        xp = query.device.xp
        seen = from_array(xp.tril(xp.ones(scores.shape[-2:], dtype=bool)), query.device)
        weights = softmax(where(seen, scores, -inf), -1)
    elif attn_mask is None:
        weights = softmax(scores, -1)
    elif attn_mask.dtype.kind == "b":
        weights = _safe_softmax(where(attn_mask, scores, -inf), -1)
    elif attn_mask.dtype is query.dtype:
        weights = _safe_softmax(scores + attn_mask, -1)
    else:
        raise RuntimeError(
            f"{name}: Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype:"
            f" {attn_mask.dtype} and query.dtype: {query.dtype} instead."
        )
    return matmul(dropout(weights, dropout_p) if dropout_p else weights, value)


def _shared(name: str, query: Tensor, heads: Tensor) -> Tensor:
    """Repeat heads (..., H, S, E) so that there are as many as queries."""
    if min(query.ndim, heads.ndim) < 3 or query.shape[-3] % heads.shape[-3]:
        raise ShapeError(
            f"{name}: enable_gqa needs a number of query heads, the third dimension from the end, that is a multiple of"
            f" those of key and value, got {tuple(query.shape)} and {tuple(heads.shape)}"
        )
    times = query.shape[-3] // heads.shape[-3]
    wide = heads.unsqueeze(-3).expand([*heads.shape[:-2], times, *heads.shape[-2:]])
    return wide.reshape([*heads.shape[:-3], query.shape[-3], *heads.shape[-2:]])
