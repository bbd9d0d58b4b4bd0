"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.dtypes import int64
from nanotorch.nn.module import Module
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create.creation import ones, zeros
from nanotorch.ops.nn.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)


class _ChannelNorm(Module):
    """A scale and a shift per channel, and running statistics."""

    shapes: ClassVar[dict[int, str]]
    """The numbers of dimensions that batches may have, and what follows the channels in each."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        options = {"device": device, "dtype": dtype}
        self.weight: Parameter | None
        self.bias: Parameter | None
        self.register_parameter("weight", Parameter(ones(num_features, **options)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_features, **options)) if affine and bias else None)
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.num_batches_tracked: Tensor | None
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, **options) if tracked else None)
        self.register_buffer("running_var", ones(num_features, **options) if tracked else None)
        count = zeros((), device=device, dtype=int64) if tracked else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.fill_(value)

    def reset_parameters(self) -> None:
        """Set the scale to 1 and the shift to 0, and forget the running statistics."""
        self.reset_running_stats()
        _reset(self)

    def extra_repr(self) -> str:
        """The size and the options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, of the same shape."""
        if input.ndim not in self.shapes or input.shape[1] != self.num_features:
            expected = " or ".join(f"(N, {self.num_features}{rest})" for rest in self.shapes.values())
            raise ShapeError(f"expected {expected}, got input {tuple(input.shape)}")
        momentum = self.momentum
        moves = self.training and self.track_running_stats
        if moves and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / self.num_batches_tracked.item()
        use_batch = self.training or self.running_mean is None
        return batch_norm(
            input,
            self.running_mean if moves or not self.training else None,
            self.running_var if moves or not self.training else None,
            self.weight,
            self.bias,
            use_batch,
            momentum or 0.0,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Normalises each feature over the batch, (N, C) or (N, C, L), then scales and shifts it.

    In training it uses the mean and variance of the batch, and keeps running ones for evaluation: new = (1 -
    momentum) * old + momentum * batch, or their plain average with `momentum=None`. With
    `track_running_stats=False` there are none and batches are used in evaluation too.

    Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training (2015).
    """

    shapes: ClassVar = {2: "", 3: ", L"}


class BatchNorm2d(_BatchNorm):
    """Normalises each channel of images over the batch, (N, C, H, W), then scales and shifts it; see `BatchNorm1d`."""

    shapes: ClassVar = {4: ", H, W"}


class BatchNorm3d(_BatchNorm):
    """Normalises each channel of volumes over the batch, (N, C, D, H, W); see `BatchNorm1d`."""

    shapes: ClassVar = {5: ", D, H, W"}


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, of the same shape; the batch may be missing."""
        batched = input.ndim in self.shapes
        if (not batched and input.ndim + 1 not in self.shapes) or input.shape[int(batched)] != self.num_features:
            (rest,) = self.shapes.values()
            sizes = f"{self.num_features}{rest}"
            raise ShapeError(f"expected (N, {sizes}) or ({sizes}), got input {tuple(input.shape)}")
        own = self.training or not self.track_running_stats or self.running_mean is None
        output = instance_norm(
            input if batched else input.unsqueeze(0),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            own,
            self.momentum or 0.0,
            self.eps,
        )
        return output if batched else output.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each sequence, (N, C, L) or (C, L), by itself; scales and shifts it with `affine`.

    With `track_running_stats` it keeps running statistics as `BatchNorm1d` does, and uses them in evaluation.
    Ulyanov et al., Instance Normalization: The Missing Ingredient for Fast Stylization (2016).
    """

    shapes: ClassVar = {3: ", L"}


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each image, (N, C, H, W) or (C, H, W), by itself; see `InstanceNorm1d`."""

    shapes: ClassVar = {4: ", H, W"}


class InstanceNorm3d(_InstanceNorm):
    """Normalises each channel of each volume, (N, C, D, H, W) or (C, D, H, W), by itself; see `InstanceNorm1d`."""

    shapes: ClassVar = {5: ", D, H, W"}


class LocalResponseNorm(Module):
    """Divides by `(k + alpha * mean(x ** 2)) ** beta` over `size` neighbouring channels of (N, C, ...).

    Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (2012).
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, of the same shape."""
        return local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """The options."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class GroupNorm(Module):
    """Normalises groups of channels of each sample, (N, C, ...), then scales and shifts each channel.

    One group normalises over the whole sample, `num_channels` groups over each channel; the batch plays no part.
    Wu and He, Group Normalization (2018).
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels must be divisible by num_groups, got {num_channels} and {num_groups}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        options = {"device": device, "dtype": dtype}
        self.weight: Parameter | None
        self.bias: Parameter | None
        self.register_parameter("weight", Parameter(ones(num_channels, **options)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_channels, **options)) if affine and bias else None)

    def reset_parameters(self) -> None:
        """Set the scale to 1 and the shift to 0."""
        _reset(self)

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, of the same shape."""
        if input.ndim < 2 or input.shape[1] != self.num_channels:
            raise ShapeError(f"expected (N, {self.num_channels}, ...), got input {tuple(input.shape)}")
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The sizes and the options."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divides each sample by the root of the mean square over its last dimensions, `normalized_shape`, then scales it.

    The mean is not subtracted, and there is no shift. `eps` is added to the mean square; None stands for the
    machine epsilon of the input's dtype. Zhang and Sennrich, Root Mean Square Layer Normalization (2019).
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight: Parameter | None
        scale = Parameter(ones(shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", scale)

    def reset_parameters(self) -> None:
        """Set the scale to 1."""
        _reset(self)

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, of the same shape."""
        return rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """The shape and the options."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LayerNorm(Module):
    """Normalises each sample over its last dimensions, which are `normalized_shape`, then scales and shifts it.

    Ba et al., Layer Normalization (2016).
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight: Parameter | None
        self.bias: Parameter | None
        scale = Parameter(ones(shape, device=device, dtype=dtype)) if elementwise_affine else None
        shift = Parameter(zeros(shape, device=device, dtype=dtype)) if elementwise_affine and bias else None
        self.register_parameter("weight", scale)
        self.register_parameter("bias", shift)

    def reset_parameters(self) -> None:
        """Set the scale to 1 and the shift to 0."""
        _reset(self)

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, of the same shape."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The shape and the options."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


def _reset(norm: Module) -> None:
    """Set the scale of a norm to 1 and its shift, if it has one, to 0."""
    for name, value in (("weight", 1.0), ("bias", 0.0)):
        parameter = norm._parameters.get(name)
        if parameter is not None:
            parameter.detach().fill_(value)
