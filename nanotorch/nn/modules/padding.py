"""Layers that add elements around sequences and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn.functional import pad
from nanotorch.nn.module import Module


class _Pad(Module):
    """`padding` is one number, or (before, after) of the last dimension, then of the one before it."""

    dimensions: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        amounts = (padding,) * (2 * self.dimensions) if isinstance(padding, int) else tuple(padding)
        if len(amounts) != 2 * self.dimensions:
            raise ValueError(
                f"{type(self).__name__}: padding is one number or {2 * self.dimensions}, before and after each of the "
                f"last dimensions from the last one on, got {padding}"
            )
        self.padding = amounts

    def forward(self, input: Tensor) -> Tensor:
        """`input` with the last dimensions padded."""
        return pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        """The amounts."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """`input` with the last dimensions padded."""
        return pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        """The amounts and the number."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Adds `value` around the last dimension; `padding` is a number or (before, after)."""

    dimensions = 1


class ConstantPad2d(_ConstantPad):
    """Adds `value` around the last two dimensions; `padding` is a number or (left, right, top, bottom)."""

    dimensions = 2


class ConstantPad3d(_ConstantPad):
    """Adds `value` around the last three dimensions;
    `padding` is a number or before and after each, from the last on.
    """

    dimensions = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        """The amounts."""
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad):
    """Adds zeros around the last dimension; `padding` is a number or (before, after)."""

    dimensions = 1


class ZeroPad2d(_ZeroPad):
    """Adds zeros around the last two dimensions; `padding` is a number or (left, right, top, bottom).

    >>> torch.nn.ZeroPad2d((1, 0, 0, 1))(torch.ones(1, 1, 2))
    tensor([[[0., 1., 1.],
             [0., 0., 0.]]])
    """

    dimensions = 2


class ZeroPad3d(_ZeroPad):
    """Adds zeros around the last three dimensions; `padding` is a number or before and after each, from the last on."""

    dimensions = 3


class ReflectionPad1d(_Pad):
    """Continues (N, C, L) or (C, L) as mirrored at its first and last elements."""

    dimensions, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Continues (N, C, H, W) or (C, H, W) as mirrored at its edges."""

    dimensions, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Continues (N, C, D, H, W) or (C, D, H, W) as mirrored at its faces."""

    dimensions, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Continues (N, C, L) or (C, L) with its first and last elements."""

    dimensions, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Continues (N, C, H, W) or (C, H, W) with the elements at its edges."""

    dimensions, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Continues (N, C, D, H, W) or (C, D, H, W) with the elements at its faces."""

    dimensions, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Continues (N, C, L) or (C, L) from its other end."""

    dimensions, mode = 1, "circular"


class CircularPad2d(_Pad):
    """Continues (N, C, H, W) or (C, H, W) from its other sides."""

    dimensions, mode = 2, "circular"


class CircularPad3d(_Pad):
    """Continues (N, C, D, H, W) or (C, D, H, W) from its other sides."""

    dimensions, mode = 3, "circular"
