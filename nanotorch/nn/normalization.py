"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nanotorch.autograd.errors import ShapeError
from nanotorch.autograd.tensor import Tensor
from nanotorch.dtypes import int64
from nanotorch.nn.module import Module
from nanotorch.nn.parameter import Parameter
from nanotorch.ops.create import ones, zeros
from nanotorch.ops.normalization import batch_norm, layer_norm

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm"]


class _BatchNorm(Module):
    shapes: ClassVar[dict[int, str]]
    """The numbers of dimensions that inputs may have, and what follows the channels in each."""

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
        self.register_parameter(
            "bias", Parameter(zeros(num_features, **options)) if affine and bias else None
        )
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
        for parameter, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if parameter is not None:
                parameter.detach().fill_(value)

    def forward(self, input: Any) -> Any:
        """The normalised input, of the same shape."""
        if input.ndim not in self.shapes or input.shape[1] != self.num_features:
            expected = " or ".join(f"(N, {self.num_features}{rest})" for rest in self.shapes.values())
            raise ShapeError(f"expected {expected}, got input {tuple(input.shape)}")
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / self.num_batches_tracked.item()
        use_batch = self.training or self.running_mean is None
        return batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_batch,
            momentum or 0.0,
            self.eps,
        )

    def extra_repr(self) -> str:
        """The size and the options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
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
        for parameter, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if parameter is not None:
                parameter.detach().fill_(value)

    def forward(self, input: Any) -> Any:
        """The normalised input, of the same shape."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The shape and the options."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )
