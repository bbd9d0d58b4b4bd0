"""Normalisation to mean 0 and variance 1, over features or over the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import Array, composite, op
from nanotorch.ops.rows.runtime import need_number, refuse_gradients, rounded, widened
from nanotorch.ops.rows.sample import constant, edge, real, sample


def _mean(xp: Any, x: Any, axes: tuple[int, ...]) -> Any:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return xp.sum(x, axis=axes, keepdims=True) / count


def _last(normalized_shape: Any) -> tuple[int, ...]:
    return tuple(range(-len(normalized_shape), 0))


def _check_features(name: str, x: Any, normalized_shape: Any, weight: Any, bias: Any = None) -> None:
    """Raise unless the last dimensions of the input, the weight and the bias have the shape to normalise over."""
    shape = tuple(normalized_shape)
    if not shape:
        raise ShapeError(
            f"{name}: Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element,"
            " but got ()"
        )
    if tuple(x.shape[max(x.ndim - len(shape), 0) :]) != shape:
        raise ShapeError(
            f"{name}: Given normalized_shape={list(shape)}, expected the last dimensions to be {shape}, got input"
            f" {tuple(x.shape)}"
        )
    for argument, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value.shape) != shape:
            raise ShapeError(
                f"{name}: Expected {argument} to be of same shape as normalized_shape, but got {argument} of shape "
                f"{list(value.shape)} and normalized_shape = {list(shape)}"
            )


def _layer_norm_self(xp: Any, grad: Any, normalized_shape: Any, weight: Any, _normalized: Any, _rstd: Any) -> Any:
    axes = _last(normalized_shape)
    scaled = grad if weight is None else grad * weight
    return _rstd * (scaled - _mean(xp, scaled, axes) - _normalized * _mean(xp, scaled * _normalized, axes))


def _sum_leading(xp: Any, value: Any, ndim: int) -> Any:
    return xp.sum(value, axis=tuple(range(value.ndim - ndim)))


@op(
    self=_layer_norm_self,
    weight=lambda xp, grad, normalized_shape, _normalized: _sum_leading(xp, grad * _normalized, len(normalized_shape)),
    bias=lambda xp, grad, normalized_shape: _sum_leading(xp, grad, len(normalized_shape)),
    outputs="output _normalized _rstd",
    where="functional",
    node="NativeLayerNormBackward0",
    samples=[
        sample(real(5, 3), (3,)),
        sample(real(5, 3), (3,), real(3), real(3)),
        sample(real(2, 4, 3), (4, 3), real(4, 3), real(4, 3)),
        sample(real(5, 3), (3,), real(3), eps=1e-3),
        sample(real(0, 3), (3,), real(3)),
        sample(edge([[1.0, 1.0], [0.0, 0.0], [1e30, -1e30], [float("inf"), 1.0]]), (2,)),
    ],
)
def layer_norm(
    xp: Any,
    self: Array,
    normalized_shape: tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise the last dimensions to mean 0 and variance 1, then scale and shift (Ba et al. 2016)."""
    _check_features("layer_norm", self, normalized_shape, weight, bias)
    axes = _last(normalized_shape)
    centred = self - _mean(xp, self, axes)
    rstd = 1 / xp.sqrt(_mean(xp, centred * centred, axes) + eps)
    normalized = centred * rstd
    output = normalized
    if weight is not None:
        output = output * weight
    if bias is not None:
        output = output + bias
    return output if output is not normalized else output + 0, normalized, rstd


def _rms_norm_self(xp: Any, grad: Any, normalized_shape: Any, weight: Any, _normalized: Any, _rstd: Any) -> Any:
    scaled = grad if weight is None else grad * weight
    return _rstd * (scaled - _normalized * _mean(xp, scaled * _normalized, _last(normalized_shape)))


@op(
    self=_rms_norm_self,
    weight=lambda xp, grad, normalized_shape, _normalized: _sum_leading(xp, grad * _normalized, len(normalized_shape)),
    outputs="output _normalized _rstd",
    where="function",
    node="FusedRmsNormBackward0",
    samples=[
        sample(real(5, 3), (3,)),
        sample(real(5, 3), (3,), real(3)),
        sample(real(2, 4, 3), (4, 3), real(4, 3), eps=1e-3),
        sample(real(3), (3,), real(3)),
        sample(real(0, 3), (3,), real(3)),
        sample(edge([[0.0, 0.0], [3.0, 3.0], [float("inf"), 1.0]]), (2,)),
    ],
)
def rms_norm(
    xp: Any, self: Array, normalized_shape: tuple[int, ...], weight: Array | None = None, eps: float | None = None
) -> Array:
    """Divide the last dimensions by the root of their mean square, then scale (Zhang, Sennrich 2019).

    `eps` is added to the mean square; by default it is the machine epsilon of the dtype (of float32 for float16).

    >>> torch.rms_norm(torch.tensor([3.0, 4.0]), (2,))
    tensor([0.8485, 1.1314])
    """
    _check_features("rms_norm", self, normalized_shape, weight)
    if getattr(self.dtype, "numpy", self.dtype).kind != "f":
        self = self * 1.0  # the squares of whole numbers would wrap around
    smallest = float(np.finfo(getattr(self.dtype, "numpy", self.dtype)).eps) if eps is None else eps
    rstd = 1 / xp.sqrt(_mean(xp, self * self, _last(normalized_shape)) + smallest)
    normalized = self * rstd
    return normalized * (1 if weight is None else weight), normalized, rstd


def _channels(xp: Any, value: Any, ndim: int) -> Any:
    """Shape a vector of one value per channel so that it broadcasts along dimension 1."""
    return value if value is None or ndim == 2 else xp.reshape(value, (-1,) + (1,) * (ndim - 2))


def _batch_axes(ndim: int) -> tuple[int, ...]:
    return (0, *range(2, ndim))


def _batch_norm_self(xp: Any, grads: Any, self: Any, weight: Any, eps: float, mean: Any, var: Any) -> Any:
    grad, grad_mean, grad_var = grads
    ndim, axes = self.ndim, _batch_axes(self.ndim)
    n = self.shape[0]
    for axis in axes[1:]:
        n *= self.shape[axis]
    centred = self - _channels(xp, mean, ndim)
    rstd = 1 / xp.sqrt(_channels(xp, var, ndim) + eps)
    normalized = centred * rstd
    g = grad if weight is None else grad * _channels(xp, weight, ndim)
    out = rstd * (
        g
        - xp.sum(g, axis=axes, keepdims=True)[0] / n
        - normalized * (xp.sum(g * normalized, axis=axes, keepdims=True)[0] / n)
    )
    return out + (_channels(xp, grad_mean, ndim) + centred * (2 * _channels(xp, grad_var, ndim))) / n


@op(
    self=_batch_norm_self,
    weight=lambda xp, grads, self, eps, mean, var: xp.sum(
        grads[0] * ((self - _channels(xp, mean, self.ndim)) / xp.sqrt(_channels(xp, var, self.ndim) + eps)),
        axis=_batch_axes(self.ndim),
    ),
    bias=lambda xp, grads, self_shape: xp.sum(grads[0], axis=_batch_axes(len(self_shape))),
    outputs="output mean var",
    where="internal",
    node="NativeBatchNormBackward0",
)
def _batch_norm(xp: Any, self: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """Normalise every channel by the statistics of the batch; also give mean and (biased) variance."""
    ndim, axes = self.ndim, _batch_axes(self.ndim)
    n = self.size // max(self.shape[1], 1)
    mean = xp.sum(self, axis=axes) / n
    centred = self - _channels(xp, mean, ndim)
    var = xp.sum(centred * centred, axis=axes) / n
    output = centred / xp.sqrt(_channels(xp, var, ndim) + eps)
    if weight is not None:
        output = output * _channels(xp, weight, ndim)
    return output if bias is None else output + _channels(xp, bias, ndim), mean, var


@composite(
    where="functional",
    samples=[
        sample(real(5, 3), None, None, real(3), real(3), True),
        sample(real(5, 3, 2), None, None, training=True),
        sample(real(1, 3, 2, 2), None, None, real(3), real(3), True, 0.5, 1e-3),
        sample(real(5, 3), constant(3), constant(3), real(3), real(3)),
        sample(real(2, 3, 4), constant(3), constant(3)),
        sample(edge([[1.0, 2.0], [1.0, 3.0], [1.0, float("nan")]]), None, None, training=True),
    ],
)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every channel (dimension 1) by batch or running statistics, then scale and shift (Ioffe, Szegedy 2015).

    In training the running statistics move by `momentum` towards the batch's, in place; the variance that is
    remembered is the unbiased one.
    """
    if input.ndim < 2:
        raise ShapeError(f"batch_norm: expected input (N, C) or (N, C, ...), got {tuple(input.shape)}")
    channels = input.shape[1]
    for name, value in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if value is not None and value._array.shape != (channels,):
            raise ShapeError(
                f"batch_norm: {name} should contain {channels} elements not {value.numel()}, one per channel of input"
                f" {tuple(input.shape)}"
            )
    refuse_gradients("batch_norm", running_mean=running_mean, running_var=running_var)
    x, weight, bias = widened(input), widened(weight), widened(bias)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: running_mean and running_var are needed when training=False")
        shape = [1, -1] + [1] * (input.ndim - 2)
        scale = (widened(running_var) + eps).rsqrt()
        if weight is not None:
            scale = scale * weight
        output = (x - widened(running_mean).reshape(shape)) * scale.reshape(shape)
        output = output if bias is None else output + bias.reshape(shape)
        return output if x is input else rounded(output)
    if not eps > 0:
        raise ValueError(f"batch_norm: eps must be positive during training, but got {eps}")
    count = input.numel() // max(input.shape[1], 1)
    if count == 1:
        raise ShapeError(
            f"batch_norm: expected more than 1 value per channel when training, got input size {tuple(input.shape)};"
            " use a larger batch, drop_last=True, or eval()"
        )
    output, mean, var = _batch_norm(x, weight, bias, eps)
    if count:  # no rows say nothing
        _move("batch_norm", running_mean, momentum, mean._array)
        _move("batch_norm", running_var, momentum, var._array * (count / (count - 1)))
    return output if x is input else rounded(output)


def _move(name: str, running: Tensor | None, momentum: float, value: Any) -> None:
    """Move a running statistic towards a value."""
    if running is not None:
        momentum = need_number(name, "momentum", momentum)
        xp = running.device.xp
        copy = xp.array(running._array)  # a primitive: the formula begins where recorders see it
        before = widened(copy, xp)
        xp.copyto(running._array, (1 - momentum) * before + momentum * value)
        running._bump_version(name)


def _affine(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift every channel (dimension 1)."""
    shape = [-1] + [1] * (input.ndim - 2)
    if weight is not None:
        input = input * weight.reshape(shape)
    return input if bias is None else input + bias.reshape(shape)


@composite(
    widens=True,
    where="function",
    samples=[
        sample(real(2, 4, 3), 2),
        sample(real(2, 4, 3), 2, real(4), real(4)),
        sample(real(2, 6, 2), 3, real(6)),
        sample(real(2, 4, 2, 3), 4, real(4), bias=real(4), eps=1e-3),
        sample(real(2, 3, 2), 1),
        sample(real(0, 4, 3), 2, real(4), real(4)),
        sample(edge([[[1.0, 1.0], [1.0, 1.0]]]), 1),
    ],
)
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise groups of channels of every sample to mean 0 and variance 1,
    then scale and shift channels (Wu, He 2018).

    Args:
        input: (N, C) or (N, C, ...).
        num_groups: a divisor of C; 1 normalises whole samples, C single channels.
        weight: one factor per channel (C).
        bias: one summand per channel (C).
        eps: what is added to the variance.
    """
    if input.ndim < 2:
        raise ShapeError(f"group_norm: Expected at least 2 dimensions for input tensor but received {input.ndim}")
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ShapeError(
            "group_norm: Expected number of channels in input to be divisible by num_groups, but got input of shape"
            f" {list(input.shape)} and num_groups={num_groups}"
        )
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value.shape) != (channels,):
            raise ShapeError(
                f"group_norm: Expected {name} to be a vector of size equal to the number of channels in input, but got"
                f" {name} of shape {list(value.shape)} and input of shape {list(input.shape)}"
            )
    size = channels // num_groups * math.prod(input.shape[2:])
    if input.shape[0] * size == 1:
        raise ShapeError(
            f"group_norm: Expected more than 1 value per channel when training, got input size {list(input.shape)}"
        )
    normalized = layer_norm(input.reshape(input.shape[0] * num_groups, size), (size,), None, None, eps)
    return _affine(normalized.reshape(input.shape), weight, bias)


@composite(
    where="functional",
    samples=[
        sample(real(2, 3, 4)),
        sample(real(2, 3, 4), None, None, real(3), real(3)),
        sample(real(2, 3, 2, 2), weight=real(3), eps=1e-3),
        sample(real(2, 3, 4), constant(3), constant(3), real(3), use_input_stats=False),
        sample(edge([[[1.0, 1.0], [2.0, 2.0]]])),
    ],
)
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every channel of every sample (N, C, ...) by itself, then scale and shift (Ulyanov et al. 2016).

    With `use_input_stats` the running statistics, if given, move by `momentum` towards the means over the samples
    of the mean and of the unbiased variance; without it they are what normalises.
    """
    refuse_gradients("instance_norm", running_mean=running_mean, running_var=running_var)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(input.shape[2:])
    if count == 1:
        raise ShapeError(
            f"instance_norm: Expected more than 1 spatial element when training, got input size {tuple(input.shape)}"
        )
    if input.numel() and (running_mean is not None or running_var is not None):  # no elements say nothing
        xp, samples = input.device.xp, input.shape[0]
        values = xp.reshape(widened(input._array, xp), (*input.shape[:2], count))
        means = xp.sum(values, axis=2, keepdims=True) / count
        variances = xp.sum((values - means) ** 2, axis=2) / (count - 1)
        _move("instance_norm", running_mean, momentum, xp.sum(means, axis=(0, 2)) / samples)
        _move("instance_norm", running_var, momentum, xp.sum(variances, axis=0) / samples)
    return group_norm(input, input.shape[1], weight, bias, eps)


@composite(
    widens=True,
    where="functional",
    samples=[sample(real(2, 5, 3), 3), sample(real(1, 4, 2, 2), 2, 0.1, 0.5, 2.0), sample(real(1, 3, 2), size=5)],
)
def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Channels (N, C, ...) divided by a power of `k` plus `alpha` times the mean square
    of `size` channels around each.
    """
    if input.ndim < 3:
        raise ShapeError(
            f"local_response_norm: expected 3D or higher dimensionality input, got shape {tuple(input.shape)}"
        )
    if not input.is_floating_point():
        raise RuntimeError(f"local_response_norm: expected a floating-point input, got {input.dtype}")
    if size < 1:
        raise RuntimeError(f"local_response_norm: size must be at least 1, got {size}")
    channels, square = input.shape[1], input * input
    total = square.new_zeros(square.shape)
    for step in range(-(size // 2), (size - 1) // 2 + 1):
        first, last = max(0, -step), channels - max(0, step)
        if first < last:
            part = square.new_zeros(square.shape).slice_scatter(square[:, first + step : last + step], 1, first, last)
            total = total + part
    return input / (total * (alpha / size) + k) ** beta
