"""Learned vectors for categories, in front of a model."""

from __future__ import annotations

from collections.abc import Sequence

import nanotorch as torch
from nanotorch import Tensor, nn


def embedding_width(categories: int) -> int:
    """Return how many numbers stand for a category, by default: half as many as there are categories, and at most 50.

    >>> embedding_width(2), embedding_width(7), embedding_width(1000)
    (1, 4, 50)
    """
    return min(50, (categories + 1) // 2)


class EmbeddedColumns(nn.Module):
    """Replaces each of the last columns, which hold numbers of categories, by the learned vector of that category.

    Args:
        numeric: how many columns come before them and stay as they are.
        categories: for each of the last columns, how many categories it has.
        widths: the length of the vectors of each; by default `embedding_width`.

    Maps (rows, numeric + len(categories)) to (rows, out_features). After Guo and Berkhahn, "Entity Embeddings of
    Categorical Variables" (2016).

    >>> EmbeddedColumns(2, [3, 5])(torch.tensor([[0.5, -1.0, 2.0, 4.0]])).shape
    torch.Size([1, 7])
    """

    def __init__(self, numeric: int, categories: Sequence[int], widths: Sequence[int] | None = None) -> None:
        super().__init__()
        widths = [embedding_width(count) for count in categories] if widths is None else list(widths)
        self.numeric = numeric
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count, width in zip(categories, widths, strict=True))
        self.out_features = numeric + sum(widths)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the columns of numbers, then the vectors of the categories."""
        codes = rows[:, self.numeric :].long()
        vectors = [table(codes[:, column]) for column, table in enumerate(self.tables)]
        return torch.cat([rows[:, : self.numeric], *vectors], 1)

    def extra_repr(self) -> str:
        """Return what stays as it is."""
        return f"numeric={self.numeric}"
