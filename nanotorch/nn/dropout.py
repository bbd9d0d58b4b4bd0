"""Dropout."""

from __future__ import annotations

from typing import Any

from nanotorch.nn.module import Module
from nanotorch.ops.random import dropout
from nanotorch.registry import Probability

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, sets each element to 0 with probability `p` and divides the others by `1 - p`.

    Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting (2014).
    """

    def __init__(self, p: Probability = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p is a probability between 0 and 1, got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """The input with elements dropped; the input itself in evaluation."""
        return dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}, inplace={self.inplace}"
