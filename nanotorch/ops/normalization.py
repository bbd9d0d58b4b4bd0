"""Normalisation to mean 0 and variance 1, over features or over the batch."""

from __future__ import annotations

from typing import Any

from nanotorch.autograd.errors import ShapeError
from nanotorch.autograd.tensor import Tensor
from nanotorch.ops.row import Array, composite, op
from nanotorch.ops.sample import real, sample


def _mean(xp: Any, x: Any, axes: tuple[int, ...]) -> Any:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return xp.sum(x, axis=axes, keepdims=True) / count


def _last(normalized_shape: Any) -> tuple[int, ...]:
    return tuple(range(-len(normalized_shape), 0))


def _layer_norm_self(xp: Any, grad: Any, normalized_shape: Any, weight: Any, _normalized: Any, _rstd: Any) -> Any:
    axes = _last(normalized_shape)
    if weight is not None:
        grad = grad * weight
    return _rstd * (grad - _mean(xp, grad, axes) - _normalized * _mean(xp, grad * _normalized, axes))


def _sum_leading(xp: Any, value: Any, ndim: int) -> Any:
    return xp.sum(value, axis=tuple(range(value.ndim - ndim)))


@op(
    self=_layer_norm_self,
    weight=lambda xp, grad, normalized_shape, _normalized: _sum_leading(xp, grad * _normalized, len(normalized_shape)),
    bias=lambda xp, grad, normalized_shape: _sum_leading(xp, grad, len(normalized_shape)),
    outputs="output _normalized _rstd", where="functional", node="NativeLayerNormBackward0",
    samples=[
        sample(real(5, 3), (3,)), sample(real(5, 3), (3,), real(3), real(3)), sample(real(2, 4, 3), (4, 3), real(4, 3), real(4, 3)),
        sample(real(5, 3), (3,), real(3), eps=1e-3),
    ],
)  # fmt: skip
def layer_norm(
    xp: Any, self: Array, normalized_shape: tuple[int, ...], weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalise the last dimensions to mean 0 and variance 1, then scale and shift (Ba et al. 2016)."""
    if tuple(self.shape[self.ndim - len(normalized_shape) :]) != tuple(normalized_shape):
        raise ShapeError(
            f"layer_norm: expected the last dimensions to be {tuple(normalized_shape)}, got input {tuple(self.shape)}"
        )
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
    out = rstd * (g - xp.sum(g, axis=axes, keepdims=True)[0] / n - normalized * (xp.sum(g * normalized, axis=axes, keepdims=True)[0] / n))
    return out + (_channels(xp, grad_mean, ndim) + centred * (2 * _channels(xp, grad_var, ndim))) / n


@op(
    self=_batch_norm_self,
    weight=lambda xp, grads, self, eps, mean, var: xp.sum(
        grads[0] * ((self - _channels(xp, mean, self.ndim)) / xp.sqrt(_channels(xp, var, self.ndim) + eps)), axis=_batch_axes(self.ndim)
    ),
    bias=lambda xp, grads, self_shape: xp.sum(grads[0], axis=_batch_axes(len(self_shape))),
    outputs="output mean var", where="internal", node="NativeBatchNormBackward0",
)  # fmt: skip
def _batch_norm(xp: Any, self: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """Normalise every channel by the statistics of the batch; also give mean and (biased) variance."""
    ndim, axes = self.ndim, _batch_axes(self.ndim)
    n = self.size // self.shape[1]
    mean = xp.sum(self, axis=axes) / n
    centred = self - _channels(xp, mean, ndim)
    var = xp.sum(centred * centred, axis=axes) / n
    output = centred / xp.sqrt(_channels(xp, var, ndim) + eps)
    if weight is not None:
        output = output * _channels(xp, weight, ndim)
    return output if bias is None else output + _channels(xp, bias, ndim), mean, var


@composite(where="functional", samples=[sample(real(5, 3), None, None, real(3), real(3), True), sample(real(5, 3, 2), None, None, training=True)])
def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalise every channel (dimension 1) by batch or running statistics, then scale and shift (Ioffe, Szegedy 2015).

    In training the running statistics move by ``momentum`` towards the batch's, in place; the variance that is
    remembered is the unbiased one.
    """
    if input.ndim < 2:
        raise ShapeError(f"batch_norm: expected input (N, C) or (N, C, ...), got {tuple(input.shape)}")
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: running_mean and running_var are needed when training=False")
        shape = [1, -1] + [1] * (input.ndim - 2)
        scale = (running_var + eps).rsqrt()
        if weight is not None:
            scale = scale * weight
        output = (input - running_mean.reshape(shape)) * scale.reshape(shape)
        return output if bias is None else output + bias.reshape(shape)
    count = input.numel() // max(input.shape[1], 1)
    if count <= 1:
        raise ShapeError(
            f"batch_norm: expected more than 1 value per channel when training, got input size {tuple(input.shape)}; use a "
            "larger batch, drop_last=True, or eval()"
        )
    output, mean, var = _batch_norm(input, weight, bias, eps)
    for running, value in ((running_mean, mean._array), (running_var, var._array * (count / (count - 1)))):
        if running is not None:
            running._array[...] = (1 - momentum) * running._array + momentum * value
            running._bump_version("batch_norm")
    return output
