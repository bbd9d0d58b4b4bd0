"""Embedding."""

from __future__ import annotations

from typing import Any, Self

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import init
from nanotorch.nn.module import Module
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create.creation import empty
from nanotorch.ops.nn.dense import embedding


class Embedding(Module):
    """A table of `num_embeddings` vectors, looked up by integers: (*) to (*, embedding_dim).

    The vectors start normal with deviation 1; the one at `padding_idx` starts at zero and gets no gradient.
    With `max_norm`, vectors that are looked up and longer than this, by the norm of `norm_type`, are shortened in the
    table. `scale_grad_by_freq` divides the gradient of a vector by how often the input names it. An index outside the
    table is an IndexError.

    >>> torch.nn.Embedding(10, 3)(torch.tensor([[1, 2], [4, 5]])).shape
    torch.Size([2, 2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx {padding_idx} is outside the table of {num_embeddings} vectors")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx if padding_idx is None or padding_idx >= 0 else padding_idx + num_embeddings
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.weight: Parameter = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
    ) -> Self:
        """An embedding with these vectors, (num_embeddings, embedding_dim),
        which are not trained unless `freeze` is off.
        """
        count, size = embeddings.shape
        layer = cls(count, size, padding_idx, max_norm, norm_type, scale_grad_by_freq)
        layer.weight = Parameter(embeddings, requires_grad=not freeze)
        return layer

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, input: Tensor) -> Tensor:
        """The vectors at the indices `input`."""
        return embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)

    def extra_repr(self) -> str:
        """The sizes and the options that differ from their defaults."""
        usual = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}
        options = [f", {name}={getattr(self, name)}" for name in usual if getattr(self, name) != usual[name]]
        return f"{self.num_embeddings}, {self.embedding_dim}{''.join(options)}"
