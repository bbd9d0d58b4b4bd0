"""Attention with several heads."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.dtypes import bool_
from nanotorch.nn import functional as F
from nanotorch.nn import init
from nanotorch.nn.module import Module
from nanotorch.nn.modules.linear import Linear
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create.creation import empty, ones, zeros
from nanotorch.ops.shape.join import cat


class MultiheadAttention(Module):
    """Every query becomes a mean of the values, weighted by how well it fits the keys, in `num_heads` ways at once.

    Queries, keys and values are projected, and every head attends in its own `embed_dim // num_heads` dimensions:
    `softmax(q @ k.T / sqrt(head_dim)) @ v`. The heads' results are joined and projected again. Inputs are (L, N, E),
    (N, L, E) with `batch_first`, or (L, E) without a batch; keys and values may have other lengths S and sizes `kdim`
    and `vdim`. The projections start Xavier-uniform, their biases at zero; `dropout` drops attention weights in
    training.

    Vaswani et al., Attention Is All You Need (2017).

    >>> attention = torch.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    >>> x = torch.zeros(3, 5, 8)
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 5, 5]))
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}"
            )
        self.embed_dim = embed_dim
        self.kdim: int = embed_dim if kdim is None else kdim
        self.vdim: int = embed_dim if vdim is None else vdim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim: int = embed_dim // num_heads
        self.add_zero_attn = add_zero_attn

        def parameter(*shape: int) -> Parameter:
            return Parameter(empty(*shape, device=device, dtype=dtype))

        together = self.kdim == self.vdim == embed_dim
        separate = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
        self.register_parameter("in_proj_weight", parameter(3 * embed_dim, embed_dim) if together else None)
        for name, size in separate.items():
            self.register_parameter(name, None if together else parameter(embed_dim, size))
        self.register_parameter("in_proj_bias", parameter(3 * embed_dim) if bias else None)
        self.out_proj: Linear = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, parameter(1, 1, embed_dim) if add_bias_kv else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.out_proj.reset_parameters()
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            if name.endswith("weight"):
                init.xavier_uniform_(parameter)
            elif name == "in_proj_bias":
                init.zeros_(parameter)
            else:
                init.xavier_normal_(parameter)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Any]:
        """The output, shaped like `query`, and the attention weights, None unless `need_weights`.

        Args:
            query: (L, N, E), or (N, L, E) with `batch_first`, or (L, E).
            key: (S, N, kdim), or (N, S, kdim) with `batch_first`, or (S, kdim).
            value: (S, N, vdim), or (N, S, vdim) with `batch_first`, or (S, vdim).
            key_padding_mask: (N, S) or (S,), true where a key is not attended to; numbers are added to the scores.
            need_weights: whether to return the weights; without them `scaled_dot_product_attention` is used.
            attn_mask: (L, S) or (N * num_heads, L, S), true where a query does not attend; or numbers to add.
            average_attn_weights: whether the weights are (N, L, S), a mean over heads, or (N, num_heads, L, S).
            is_causal: says that `attn_mask` is the causal one; without an `attn_mask` the causal one is used.
        """
        self._check(query, key, value)
        batched = query.ndim == 3
        if not batched:
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        q, k, v = self._project(query, key, value, batched)
        mask = self._mask(attn_mask, key_padding_mask, q.shape[0], q.shape[1], k.shape[1])
        if mask is None and is_causal and (need_weights or self.bias_k is not None or self.add_zero_attn):
            mask = ones(q.shape[1], k.shape[1], device=q.device, dtype=bool_).triu(1)
        k, v, mask = self._extend(k, v, mask)
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2) for x in (q, k, v))
        dropped = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * (1 / math.sqrt(self.head_dim))) @ k.transpose(-2, -1)
            if mask is not None:
                scores = scores.masked_fill(mask, -math.inf) if mask.dtype is bool_ else scores + mask
            weights = F.dropout(F.softmax(scores, -1), dropped)
            result = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            allowed = mask if mask is None or mask.is_floating_point() else mask.logical_not()
            result = F.scaled_dot_product_attention(q, k, v, allowed, dropped, is_causal and mask is None)
        output = self.out_proj(result.transpose(1, 2).reshape(*q.shape[:1], q.shape[2], self.embed_dim))
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Raise unless the three fit the layer and each other."""
        sizes = {"query": (query, self.embed_dim), "key": (key, self.kdim), "value": (value, self.vdim)}
        for name, (tensor, size) in sizes.items():
            if tensor.ndim not in (2, 3) or tensor.ndim != query.ndim:
                raise ShapeError(
                    "expected query, key and value of 3 dimensions, or of 2 without a batch, got "
                    + ", ".join(f"{word} {tuple(t.shape)}" for word, (t, _) in sizes.items())
                )
            if tensor.shape[-1] != size:
                raise ShapeError(f"expected last dimension {size}, got {name} {tuple(tensor.shape)}")
        batch = 0 if self.batch_first else 1
        if key.shape[:-1] != value.shape[:-1] or (query.ndim == 3 and query.shape[batch] != key.shape[batch]):
            raise ShapeError(
                "key and value need the same length, and all three the same batch, got "
                + ", ".join(f"{word} {tuple(t.shape)}" for word, (t, _) in sizes.items())
            )

    def _project(self, query: Any, key: Any, value: Any, batched: bool) -> Any:
        """The projections of the three, (N, L or S, E); of one tensor three times in one product."""
        sources = [query] if query is key is value else [query, key, value]
        if not batched:
            sources = [x.unsqueeze(0) for x in sources]
        elif not self.batch_first:
            sources = [x.transpose(0, 1) for x in sources]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if len(sources) == 1 and weight is not None:
            return F.linear(sources[0], weight, bias).chunk(3, -1)
        if weight is None:
            weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        else:
            weights = weight.chunk(3)
        biases = (None, None, None) if bias is None else bias.chunk(3)
        sources = sources * 3 if len(sources) == 1 else sources
        return [F.linear(x, w, b) for x, w, b in zip(sources, weights, biases, strict=True)]

    def _mask(self, attn_mask: Any, padding: Any, batch: int, length: int, keys: int) -> Any:
        """Both masks as one that broadcasts to (N, H, L, S): true where not to attend, or numbers to add."""
        masks = []
        if attn_mask is not None:
            if tuple(attn_mask.shape) not in ((length, keys), (batch * self.num_heads, length, keys)):
                raise ShapeError(
                    f"expected attn_mask ({length}, {keys}) or ({batch * self.num_heads}, {length}, {keys}), which is "
                    f"(L, S) or (N * num_heads, L, S), got {tuple(attn_mask.shape)}"
                )
            masks.append(attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(batch, self.num_heads, length, keys))
        if padding is not None:
            if tuple(padding.shape) != (batch, keys):
                raise ShapeError(
                    f"expected key_padding_mask ({batch}, {keys}), which is (N, S), got {tuple(padding.shape)}"
                )
            masks.append(padding.reshape(batch, 1, 1, keys))
        for mask in masks:
            if mask.dtype is not bool_ and not mask.is_floating_point():
                raise TypeError(f"masks are bool or floating point tensors, got {mask.dtype}")
        if any(mask.is_floating_point() for mask in masks):
            masks = [m if m.is_floating_point() else _as_numbers(m, masks) for m in masks]
            return masks[0] if len(masks) == 1 else masks[0] + masks[1]
        return None if not masks else masks[0] if len(masks) == 1 else masks[0].logical_or(masks[1])

    def _extend(self, k: Any, v: Any, mask: Any) -> Any:
        """Keys and values with the learned one, and the one of zeros, at the end; all queries attend to them."""
        added: list[Any] = [] if self.bias_k is None else [(self.bias_k, self.bias_v)]
        if self.add_zero_attn:
            zero = zeros(1, 1, self.embed_dim, device=k.device, dtype=k.dtype)
            added.append((zero, zero))
        for extra_k, extra_v in added:
            k = cat([k, extra_k.expand(k.shape[0], 1, self.embed_dim)], 1)
            v = cat([v, extra_v.expand(v.shape[0], 1, self.embed_dim)], 1)
            if mask is not None:
                mask = cat([mask, zeros(*mask.shape[:-1], 1, device=mask.device, dtype=mask.dtype)], -1)
        return k, v, mask


def _as_numbers(mask: Any, masks: list[Any]) -> Any:
    """A mask of bools as one of numbers, of the dtype of the other: minus infinity where it is true."""
    dtype = next(other.dtype for other in masks if other.is_floating_point())
    return zeros(*mask.shape, device=mask.device, dtype=dtype).masked_fill(mask, -math.inf)
