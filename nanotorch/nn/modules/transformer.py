"""The encoder of the transformer."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import functional as F
from nanotorch.nn.module import Module
from nanotorch.nn.modules.attention import MultiheadAttention
from nanotorch.nn.modules.containers import ModuleList
from nanotorch.nn.modules.dropout import Dropout
from nanotorch.nn.modules.linear import Linear
from nanotorch.nn.modules.normalization import LayerNorm


class TransformerEncoderLayer(Module):
    """Self-attention, then a perceptron on every position, each added to its input and normalised.

    Shapes are those of `MultiheadAttention`: (L, N, d_model), (N, L, d_model) with `batch_first`, or (L, d_model). The
    perceptron has `dim_feedforward` hidden units and the `activation` "relu", "gelu" or any function. With `norm_first`
    what goes into attention and perceptron is normalised instead of the sums, which trains more easily without a
    warm-up (Xiong et al., On Layer Normalization in the Transformer Architecture, 2020).

    Vaswani et al., Attention Is All You Need (2017).

    >>> layer = torch.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> layer(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **options)
        self.linear1: Linear = Linear(d_model, dim_feedforward, **options)
        self.dropout: Dropout = Dropout(dropout)
        self.linear2: Linear = Linear(dim_feedforward, d_model, **options)
        self.norm_first = norm_first
        self.norm1: LayerNorm = LayerNorm(d_model, layer_norm_eps, **options)
        self.norm2: LayerNorm = LayerNorm(d_model, layer_norm_eps, **options)
        self.dropout1: Dropout = Dropout(dropout)
        self.dropout2: Dropout = Dropout(dropout)
        if isinstance(activation, str):
            if activation not in ("relu", "gelu"):
                raise ValueError(
                    f"TransformerEncoderLayer: activation is 'relu', 'gelu' or a function, got {activation!r}"
                )
            activation = F.relu if activation == "relu" else F.gelu
        self.activation = activation

    def forward(
        self, src: Tensor, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """`src` encoded; the masks and `is_causal` are those of `MultiheadAttention.forward`."""
        x = src
        if self.norm_first:
            x = x + self._attend(self.norm1(x), src_mask, src_key_padding_mask, is_causal)
            return x + self._feed(self.norm2(x))
        x = self.norm1(x + self._attend(x, src_mask, src_key_padding_mask, is_causal))
        return self.norm2(x + self._feed(x))

    def _attend(self, x: Any, mask: Any, padding: Any, is_causal: bool) -> Any:
        output, _ = self.self_attn(
            x, x, x, key_padding_mask=padding, need_weights=False, attn_mask=mask, is_causal=is_causal
        )
        return self.dropout1(output)

    def _feed(self, x: Any) -> Any:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """`num_layers` copies of a layer one after another, then `norm` if it is given.

    `enable_nested_tensor` and `mask_check` choose between implementations in PyTorch; here they make no difference.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers: ModuleList = ModuleList([deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self, src: Tensor, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        """`src` encoded; every layer gets the same masks."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return src if self.norm is None else self.norm(src)
