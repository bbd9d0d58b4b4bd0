"""Convolutional layers of one to three dimensions, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import functional as F
from nanotorch.nn import init
from nanotorch.nn.module import Module
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create.creation import empty

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class _Convolution(Module):
    """What all convolutions share: a weight of one kernel per output channel, and its options."""

    dimensions: ClassVar[int]
    function: ClassVar[Callable[..., Any]]
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: int | Sequence[int] | str,
        dilation: int | Sequence[int],
        groups: int,
        bias: bool,
        padding_mode: PaddingMode,
        transposed: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if groups < 1:
            raise ValueError(f"{name}: groups must be a positive integer, got {groups}")
        for word, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name}: {word} must be divisible by groups, got {channels} and {groups}")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                f"{name}: padding_mode is 'zeros', 'reflect', 'replicate' or 'circular', got {padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = self._each("kernel_size", kernel_size)
        self.stride = self._each("stride", stride)
        self.padding = padding if isinstance(padding, str) else self._each("padding", padding)
        self.dilation = self._each("dilation", dilation)
        self.groups = groups
        self.padding_mode = padding_mode
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(f"{name}: padding is 'same', 'valid' or numbers, got {self.padding!r}")
            if self.padding == "same" and max(self.stride) > 1:
                raise ValueError(f"{name}: padding='same' is not supported for strided convolutions")
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(empty(first, second // groups, *self.kernel_size, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both parameters anew, uniform between plus and minus `1 / sqrt(fan_in)`."""
        fan_in = math.prod(self.weight.shape[1:])
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def _each(self, word: str, value: int | Sequence[int]) -> tuple[int, ...]:
        """The value for every dimension."""
        values = (value,) * self.dimensions if isinstance(value, int) else tuple(value)
        if len(values) != self.dimensions:
            raise ValueError(
                f"{type(self).__name__}: {word} is one number or one for each of {self.dimensions} dimensions, got"
                f" {value}"
            )
        return values

    def _paddings(self) -> list[int]:
        """How much to add before and after every dimension, from the last one on, as `pad` takes it."""
        amounts: list[int] = []
        for number in reversed(range(self.dimensions)):
            if isinstance(self.padding, str):
                total = self.dilation[number] * (self.kernel_size[number] - 1) * (self.padding == "same")
                amounts += [total // 2, total - total // 2]
            else:
                amounts += [self.padding[number]] * 2
        return amounts

    def forward(self, input: Tensor) -> Tensor:
        """`input` of shape (N, in_channels, ...) or (in_channels, ...)."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._paddings(), mode=self.padding_mode), 0
        return type(self).function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """The sizes, and the options that are not the default."""
        ones, zeros = (1,) * self.dimensions, (0,) * self.dimensions
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, default in (("padding", zeros), ("dilation", ones), ("output_padding", zeros), ("groups", 1)):
            value = getattr(self, name, default)
            if value != default:
                text += f", {name}={value}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class _Convolve(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | Literal["same", "valid"] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            transposed=False,
            device=device,
            dtype=dtype,
        )


class Conv1d(_Convolve):
    """Slides kernels of `kernel_size` elements along sequences: (N, in_channels, L) to (N, out_channels, L').

    `padding` is a number of zeros at both ends, "valid" (none) or "same" (as many as keep the length); with
    `padding_mode` the input is continued in another way. Each of the `groups` has its own inputs and outputs. Both
    parameters start uniform between plus and minus `1 / sqrt(fan_in)`, fan_in being the inputs of one output.

    >>> torch.nn.Conv1d(2, 4, kernel_size=3, padding="same")(torch.zeros(5, 2, 10)).shape
    torch.Size([5, 4, 10])
    """

    dimensions = 1
    function = staticmethod(F.conv1d)


class Conv2d(_Convolve):
    """Slides kernels over images: (N, in_channels, H, W) to (N, out_channels, H', W'); the options are `Conv1d`'s.

    Every option is one number or one per dimension.

    >>> layer = torch.nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    >>> layer(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 8, 16, 16])
    """

    dimensions = 2
    function = staticmethod(F.conv2d)


class Conv3d(_Convolve):
    """Slides kernels through volumes: (N, in_channels, D, H, W); the options are `Conv1d`'s."""

    dimensions = 3
    function = staticmethod(F.conv3d)


class _Transpose(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ValueError(f"{name}: only padding_mode='zeros' is supported, got {padding_mode!r}")
        if isinstance(padding, str):
            raise TypeError(f"{name}: padding is a number or one per dimension, got {padding!r}")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            transposed=True,
            device=device,
            dtype=dtype,
        )
        self.output_padding = self._each("output_padding", output_padding)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """`input` of shape (N, in_channels, ...); of the lengths that fit, `output_size` chooses one."""
        extra = self.output_padding if output_size is None else self._missing(input, output_size)
        return type(self).function(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _missing(self, input: Any, output_size: Sequence[int]) -> tuple[int, ...]:
        """The `output_padding` that gives the lengths asked for."""
        wanted = tuple(output_size)[-self.dimensions :]
        padding: Any = self.padding
        lengths = input.shape[-self.dimensions :]
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(lengths, self.stride, padding, self.dilation, self.kernel_size, strict=True)
        ]
        extra = tuple(n - m for n, m in zip(wanted, least, strict=True))
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = [m + s - 1 for m, s in zip(least, self.stride, strict=True)]
            raise ValueError(
                f"requested an output size of {list(wanted)}, but valid sizes range from {least} to {most} "
                f"(for an input of {tuple(lengths)})"
            )
        return extra


class ConvTranspose1d(_Transpose):
    """The transpose of `Conv1d`, which spreads every element over a kernel:
    (N, in_channels, L) to (N, out_channels, L').

    A convolution of the same options maps L' back to L. With a stride several lengths map to the same one:
    `output_padding` is added to the shortest. Zeiler et al., Deconvolutional Networks (2010).
    """

    dimensions = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_Transpose):
    """The transpose of `Conv2d`: (N, in_channels, H, W) to (N, out_channels, H', W'); see `ConvTranspose1d`.

    >>> torch.nn.ConvTranspose2d(3, 8, kernel_size=2, stride=2)(torch.zeros(5, 3, 16, 16)).shape
    torch.Size([5, 8, 32, 32])
    """

    dimensions = 2
    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_Transpose):
    """The transpose of `Conv3d`: (N, in_channels, D, H, W); see `ConvTranspose1d`."""

    dimensions = 3
    function = staticmethod(F.conv_transpose3d)
