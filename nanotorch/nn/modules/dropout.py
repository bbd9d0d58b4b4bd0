"""Dropout: of elements, of whole channels, and for self-normalising networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import functional as F
from nanotorch.nn.module import Module
from nanotorch.registry import Probability


class _Dropout(Module):
    function: ClassVar[Callable[..., Any]]

    def __init__(self, p: Probability = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p is a probability between 0 and 1, got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """The input with elements dropped; the input itself in evaluation."""
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, sets each element to 0 with probability `p` and divides the others by `1 - p`.

    Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting (2014).
    """

    function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Dropout of whole channels of (N, C, L) or (C, L): neighbours in a sequence tell too much about each other."""

    function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Dropout of whole channels of (N, C, H, W) or (C, H, W).

    Tompson et al., Efficient Object Localization Using Convolutional Networks (2015).
    """

    function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that goes with SELU: what is dropped takes its lowest value, and mean and variance are kept.

    Klambauer et al., Self-Normalizing Neural Networks (2017).
    """

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels of (N, C, ...)."""

    function = staticmethod(F.feature_alpha_dropout)
