"""Composites that are hot in training, as rows with their own formulas: linear, softmax, losses, norms."""

from __future__ import annotations

from typing import Any

from nanotorch.autograd.errors import ShapeError
from nanotorch.autograd.tensor import Tensor
from nanotorch.ops.elementwise import sigmoid_of, softplus_of
from nanotorch.ops.row import Array, Index, composite, op
from nanotorch.ops.sample import constant, integers, real, sample

# ------------------------------------------------------------------------------------------------- linear, softmax


def _rows(xp: Any, x: Any) -> Any:
    """Return a tensor of features as a matrix: everything but the last dimension is one."""
    return x if x.ndim == 2 else xp.reshape(x, (-1, x.shape[-1]))


@op(
    self=lambda xp, grad, weight: xp.matmul(grad, weight),
    weight=lambda xp, grad, self: xp.matmul(_rows(xp, grad).T, _rows(xp, self)),
    bias=lambda xp, grad: xp.column_sums(_rows(xp, grad)),
    where="functional", node="AddmmBackward0",
    samples=[
        sample(real(5, 3), real(2, 3), real(2)), sample(real(5, 3), real(2, 3)), sample(real(2, 5, 3), real(2, 3), real(2)),
        sample(real(3), real(2, 3), real(2)),
    ],
)  # fmt: skip
def linear(xp: Any, self: Array, weight: Array, bias: Array | None = None) -> Array:
    """``input @ weight.T + bias`` for weight (out_features, in_features) and input (..., in_features)."""
    try:
        out = xp.matmul(self, weight.T)
    except ValueError:
        raise ShapeError(
            f"linear: expected last dimension {weight.shape[1]}, got input {tuple(self.shape)} (weight {tuple(weight.shape)})"
        ) from None
    if bias is not None:
        out += bias
    return out


@op(
    self=lambda xp, grad, dim, result: result * (grad - xp.sum(grad * result, axis=dim, keepdims=True)),
    cast="float", samples=[sample(real(3, 4), 1), sample(real(3, 4), dim=0), sample(real(2, 3, 2), -2)],
)  # fmt: skip
def softmax(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """``exp(input) / sum(exp(input))`` along ``dim``, without overflow."""
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    e = xp.exp(self - xp.amax(self, axis=dim, keepdims=True))
    return e / xp.sum(e, axis=dim, keepdims=True)


def log_softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """Return the logarithm of the softmax along an axis."""
    shifted = x - xp.amax(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@op(
    self=lambda xp, grad, dim, result: grad - xp.exp(result) * xp.sum(grad, axis=dim, keepdims=True),
    cast="float", samples=[sample(real(3, 4), 1), sample(real(3, 4), dim=0), sample(real(2, 3, 2), -2)],
)  # fmt: skip
def log_softmax(xp: Any, self: Array, dim: int, *, dtype: Any = None) -> Array:
    """The logarithm of `softmax` along ``dim``."""
    if dtype is not None:
        self = xp.astype(self, dtype.numpy)
    return log_softmax_of(xp, self, dim)


# ------------------------------------------------------------------------------------------------- classification

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    """Raise for an unknown reduction."""
    if reduction not in allowed:
        raise ValueError(f"{name}: {reduction!r} is not a valid value for reduction; choose one of {', '.join(allowed)}")


def _reduced(xp: Any, loss: Any, reduction: str) -> Any:
    if reduction == "none":
        return loss
    total = xp.sum(loss)
    return total / loss.size if reduction == "mean" else total


def _share(grad: Any, shape: tuple[int, ...], reduction: str) -> Any:
    """Return the gradient of the unreduced loss, up to broadcasting."""
    if reduction != "mean":
        return grad
    count = 1
    for length in shape:
        count *= length
    return grad / count


def _class_weights(xp: Any, target: Any, weight: Any, classes: int, ignore_index: int, dtype: Any) -> tuple[Any, Any]:
    """Return the targets with ignored ones replaced by 0, and the weight of every sample (None: all one)."""
    inside = xp.all_in_range(target, classes)
    if inside and not 0 <= ignore_index < classes:
        return target, None if weight is None else weight[target]
    kept = target != ignore_index
    if inside is False:
        wrong = kept & ((target < 0) | (target >= classes))
        if bool(xp.any(wrong)):
            value = int(target[wrong][0])
            raise IndexError(f"Target {value} is out of bounds: classes are numbered 0 to {classes - 1}")
    safe, kept_weight = xp.where(kept, target, 0), xp.astype(kept, dtype)
    if inside is None:
        # A GPU is not waited for: its indexing wraps wrong targets around, so they get the weight NaN instead.
        kept_weight = xp.where(kept & ((target < 0) | (target >= classes)), float("nan"), kept_weight)
    return safe, kept_weight if weight is None else kept_weight * weight[safe]


def _target_rows(xp: Any, target: Any, weight: Any, classes: int, ignore_index: int, label_smoothing: float, dtype: Any) -> tuple[Any, Any, Any]:
    """Return (targets, sample weights, the matrix whose product with -log p, summed over classes, is the loss)."""
    safe, sample_weight = _class_weights(xp, target, weight, classes, ignore_index, dtype)
    hot = xp.one_hot(safe, classes, dtype)
    if label_smoothing:
        hot = hot * (1 - label_smoothing) if weight is None else hot * ((1 - label_smoothing) * weight)
        hot = hot + (label_smoothing / classes) * (1.0 if weight is None else weight)
        if sample_weight is not None:
            hot = hot * xp.astype(target != ignore_index, dtype)[:, None]
    elif sample_weight is not None:
        hot = hot * sample_weight[:, None]
    return safe, sample_weight, hot


def _cross_entropy_self(xp: Any, grad: Any, reduction: str, _slope: Any, _total_weight: Any) -> Any:
    if reduction == "none":
        return _slope * grad[:, None]
    return _slope * (grad / _total_weight if reduction == "mean" else grad)


@op(
    self=_cross_entropy_self, outputs="loss _slope _total_weight", where="internal", node="NllLossBackward0",
)  # fmt: skip
def _cross_entropy(
    xp: Any, self: Array, target: Index, weight: Array | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Array:
    """Cross entropy of logits (N, C) against class numbers (N); its slope, softmax minus target, is a by-product."""
    n, classes = self.shape
    shifted = self - xp.amax(self, axis=1, keepdims=True)
    exponentials = xp.exp(shifted)
    totals = xp.row_sums(exponentials)
    safe, sample_weight, hot = _target_rows(xp, target, weight, classes, ignore_index, label_smoothing, self.dtype)
    if label_smoothing:
        loss = xp.sum(hot * (xp.log(totals) - shifted), axis=1)
    else:
        loss = xp.log(totals)[:, 0] - xp.pick(shifted, safe)
        if sample_weight is not None:
            loss = loss * sample_weight
    probabilities = exponentials / totals
    if sample_weight is not None or weight is not None:
        probabilities = probabilities * xp.row_sums(hot)
    total_weight = n if sample_weight is None else xp.sum(sample_weight)
    if reduction != "none":
        loss = xp.column_sums(loss)
    if reduction == "mean":
        loss = loss / total_weight
    return loss, probabilities - hot, total_weight


def _nll_self(xp: Any, grad: Any, self_shape: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    n, classes = self_shape
    _, sample_weight, hot = _target_rows(xp, target, weight, classes, ignore_index, 0.0, grad.dtype)
    if reduction == "mean":
        grad = grad / (n if sample_weight is None else xp.sum(sample_weight))
    elif reduction == "none":
        grad = grad[:, None]
    return -hot * grad


@op(self=_nll_self, where="internal", node="NllLossBackward0")
def _nll_loss(xp: Any, self: Array, target: Index, weight: Array | None, ignore_index: int, reduction: str) -> Array:
    """Negative log likelihood of log-probabilities (N, C) against class numbers (N)."""
    n, classes = self.shape
    safe, sample_weight = _class_weights(xp, target, weight, classes, ignore_index, self.dtype)
    loss = -xp.pick(self, safe)
    if sample_weight is not None:
        loss = loss * sample_weight
    if reduction != "none":
        loss = xp.sum(loss)
    if reduction == "mean":
        loss = loss / (n if sample_weight is None else xp.sum(sample_weight))
    return loss


def _as_rows(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Bring (C), (N, C) or (N, C, d...) against class numbers of the remaining shape to (M, C) against (M)."""
    if not isinstance(input, Tensor) or not isinstance(target, Tensor):
        raise TypeError(f"{name}(): input and target must be Tensors, not {type(input).__name__} and {type(target).__name__}")
    expected = () if input.ndim == 1 else (*input.shape[:1], *input.shape[2:])
    if input.ndim == 0 or tuple(target.shape) != expected:
        hint = ""
        if input.ndim == 2 and tuple(target.shape) == (input.shape[0], 1):
            hint = " (target has a trailing dimension of 1: use target.squeeze(1))"
        raise ShapeError(
            f"{name}: input {tuple(input.shape)} needs a target of class numbers of shape {expected}, got {tuple(target.shape)}{hint}"
        )
    if input.ndim == 1:
        return input.unsqueeze(0), target.reshape(1)
    if input.ndim > 2:
        order = (0, *range(2, input.ndim), 1)
        return input.permute(order).reshape(-1, input.shape[1]), target.reshape(-1)
    return input, target


classes = [
    sample(real(5, 3), integers(5)), sample(real(5, 3), integers(5), reduction="sum"), sample(real(5, 3), integers(5), reduction="none"),
    sample(real(5, 3), integers(5), constant(3)), sample(real(5, 3), integers(5), ignore_index=1),
    sample(real(2, 3, 4), integers(2, 4)), sample(real(3), integers()),
]  # fmt: skip


@composite(
    where="functional",
    samples=[
        *classes, sample(real(5, 3), integers(5), label_smoothing=0.1), sample(real(5, 3), real(5, 3, low=0.0, high=1.0)),
        sample(real(5, 3), integers(5), constant(3), label_smoothing=0.1, ignore_index=2),
        sample(real(5, 3), real(5, 3, low=0.0, high=1.0), constant(3), label_smoothing=0.2, reduction="none"),
    ],
)  # fmt: skip
def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """``-log softmax(input)[target]``, reduced.

    Args:
        input: logits (N, C), (C) or (N, C, d...).
        target: class numbers (N), () or (N, d...), int64; or class probabilities in the shape of ``input``.
        weight: one weight per class (C); "mean" then divides by the sum of the weights of the targets.
        ignore_index: targets of this number contribute nothing.
        reduction: "none", "mean" or "sum".
        label_smoothing: the share of probability spread evenly over all classes, in [0, 1].
    """
    if reduction != "mean":
        check_reduction("cross_entropy", reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if isinstance(target, Tensor) and target._array.dtype.kind == "f":
        return _cross_entropy_probabilities(input, target, weight, reduction, label_smoothing)
    if not (isinstance(target, Tensor) and target._array.ndim == 1 and isinstance(input, Tensor) and input._array.ndim == 2):
        rows, numbers = _as_rows("cross_entropy", input, target)
        loss = _cross_entropy(rows, numbers, weight, ignore_index, reduction, label_smoothing)
        return loss.reshape(tuple(target.shape)) if reduction == "none" else loss
    if input._array.shape[0] != target._array.shape[0]:
        _as_rows("cross_entropy", input, target)
    return _cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _cross_entropy_probabilities(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float) -> Tensor:
    if input.shape != target.shape:
        raise ShapeError(
            f"cross_entropy: a floating point target holds class probabilities and needs the shape of the input "
            f"{tuple(input.shape)}, got {tuple(target.shape)}; class numbers must be int64 (.long())"
        )
    dim = 0 if input.ndim == 1 else 1
    count = input.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / count
    scores = log_softmax(input, dim) * target
    if weight is not None:
        scores = scores * weight.reshape([count if d == dim else 1 for d in range(input.ndim)])
    loss = -scores.sum(dim)
    if reduction == "mean":
        return loss.sum() / (input.numel() // count)
    return loss.sum() if reduction == "sum" else loss


@composite(where="functional", samples=classes)
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """``-input[target]`` for log-probabilities ``input``, reduced; shapes as in `cross_entropy`."""
    check_reduction("nll_loss", reduction)
    rows, numbers = _as_rows("nll_loss", input, target)
    loss = _nll_loss(rows, numbers, weight, ignore_index, reduction)
    return loss.reshape(tuple(target.shape)) if reduction == "none" else loss


def check_pair(name: str, self: Any, target: Any) -> None:
    """Raise unless prediction and target have one shape: broadcasting (N) against (N, 1) is a silent disaster."""
    if self.shape != target.shape:
        fix = ""
        a, b = tuple(self.shape), tuple(target.shape)
        if a == (*b, 1):
            fix = f": use target.unsqueeze({len(b)}) or input.squeeze({len(b)})"
        elif b == (*a, 1):
            fix = f": use target.squeeze({len(a)}) or input.unsqueeze({len(a)})"
        raise ShapeError(
            f"{name}: input {a} and target {b} must have the same shape{fix}. Broadcasting would compare every prediction "
            "with every target."
        )


def _bce_logits_self(xp: Any, grad: Any, self: Any, target: Any, weight: Any, pos_weight: Any, reduction: str) -> Any:
    g = _share(grad, self.shape, reduction)
    if weight is not None:
        g = g * weight
    p = sigmoid_of(xp, self)
    if pos_weight is None:
        return (p - target) * g
    return ((pos_weight * target + 1 - target) * p - pos_weight * target) * g


def _bce_logits_target(xp: Any, grad: Any, self: Any, weight: Any, pos_weight: Any, reduction: str) -> Any:
    g = _share(grad, self.shape, reduction)
    if weight is not None:
        g = g * weight
    if pos_weight is None:
        return -self * g
    return (softplus_of(xp, -self) * pos_weight - softplus_of(xp, self)) * g


@op(
    self=_bce_logits_self, target=_bce_logits_target, where="functional", node="BinaryCrossEntropyWithLogitsBackward0",
    samples=[
        sample(real(5), real(5, low=0.0, high=1.0)), sample(real(5, 2), real(5, 2, low=0.0, high=1.0), reduction="none"),
        sample(real(5, 2), real(5, 2, low=0.0, high=1.0), reduction="sum", pos_weight=constant(2)),
        sample(real(5, 2), real(5, 2, low=0.0, high=1.0), constant(5, 2)),
    ],
)  # fmt: skip
def binary_cross_entropy_with_logits(
    xp: Any, self: Array, target: Array, weight: Array | None = None, reduction: str = "mean", pos_weight: Array | None = None
) -> Array:
    """``-(target * log s + (1 - target) * log(1 - s))`` with ``s = sigmoid(input)``, without overflow."""
    check_reduction("binary_cross_entropy_with_logits", reduction)
    check_pair("binary_cross_entropy_with_logits", self, target)
    if pos_weight is None:
        loss = softplus_of(xp, self) - self * target
    else:
        loss = softplus_of(xp, -self) * (pos_weight * target) + softplus_of(xp, self) * (1 - target)
    if weight is not None:
        loss = loss * weight
    return _reduced(xp, loss, reduction)


def _bce_self(xp: Any, grad: Any, self: Any, target: Any, weight: Any, reduction: str) -> Any:
    g = _share(grad, self.shape, reduction)
    if weight is not None:
        g = g * weight
    return (self - target) / xp.maximum(self * (1 - self), 1e-12) * g


@op(
    self=_bce_self,
    target=lambda xp, grad, self, weight, reduction: _share(grad, self.shape, reduction) * (1.0 if weight is None else weight)
    * (xp.maximum(xp.log(1 - self), -100.0) - xp.maximum(xp.log(self), -100.0)),
    where="functional",
    samples=[
        sample(real(5, low=0.1, high=0.9), real(5, low=0.0, high=1.0)),
        sample(real(5, 2, low=0.1, high=0.9), real(5, 2, low=0.0, high=1.0), constant(5, 2), reduction="sum"),
    ],
)  # fmt: skip
def binary_cross_entropy(xp: Any, self: Array, target: Array, weight: Array | None = None, reduction: str = "mean") -> Array:
    """``-(target * log p + (1 - target) * log(1 - p))`` for probabilities ``input``; logarithms are cut at -100."""
    check_reduction("binary_cross_entropy", reduction)
    check_pair("binary_cross_entropy", self, target)
    if self.size and bool(xp.any((self < 0) | (self > 1))):
        raise RuntimeError("binary_cross_entropy: all elements of input should be between 0 and 1; for logits use binary_cross_entropy_with_logits")
    loss = -(target * xp.maximum(xp.log(self), -100.0) + (1 - target) * xp.maximum(xp.log(1 - self), -100.0))
    if weight is not None:
        loss = loss * weight
    return _reduced(xp, loss, reduction)


# ------------------------------------------------------------------------------------------------- regression

pairs = [sample(real(5), real(5)), sample(real(5, 2), real(5, 2), reduction="sum"), sample(real(5), real(5), reduction="none")]


@op(
    self=lambda grad, self, target, reduction: (self - target) * (2 * _share(grad, self.shape, reduction)),
    target=lambda grad, self, target, reduction: (self - target) * (-2 * _share(grad, self.shape, reduction)),
    where="functional", samples=pairs,
)  # fmt: skip
def mse_loss(xp: Any, self: Array, target: Array, reduction: str = "mean") -> Array:
    """``(input - target) ** 2``, reduced; the shapes must be equal."""
    check_reduction("mse_loss", reduction)
    check_pair("mse_loss", self, target)
    difference = self - target
    return _reduced(xp, difference * difference, reduction)


@op(
    self=lambda xp, grad, self, target, reduction: xp.sign(self - target) * _share(grad, self.shape, reduction),
    target=lambda xp, grad, self, target, reduction: -xp.sign(self - target) * _share(grad, self.shape, reduction),
    where="functional", samples=pairs, node="MeanBackward0",
)  # fmt: skip
def l1_loss(xp: Any, self: Array, target: Array, reduction: str = "mean") -> Array:
    """``|input - target|``, reduced; the shapes must be equal."""
    check_reduction("l1_loss", reduction)
    check_pair("l1_loss", self, target)
    return _reduced(xp, xp.absolute(self - target), reduction)


def _smooth_slope(xp: Any, difference: Any, beta: float) -> Any:
    if beta == 0:
        return xp.sign(difference)
    return xp.where(xp.absolute(difference) < beta, difference / beta, xp.sign(difference))


@op(
    self=lambda xp, grad, self, target, reduction, beta: _smooth_slope(xp, self - target, beta) * _share(grad, self.shape, reduction),
    target=lambda xp, grad, self, target, reduction, beta: -_smooth_slope(xp, self - target, beta) * _share(grad, self.shape, reduction),
    where="functional", samples=[*pairs, sample(real(5), real(5), beta=0.5)],
)  # fmt: skip
def smooth_l1_loss(xp: Any, self: Array, target: Array, reduction: str = "mean", beta: float = 1.0) -> Array:
    """Quadratic (over ``2 * beta``) where ``|input - target| < beta``, linear elsewhere."""
    check_reduction("smooth_l1_loss", reduction)
    check_pair("smooth_l1_loss", self, target)
    distance = xp.absolute(self - target)
    if beta == 0:
        return _reduced(xp, distance, reduction)
    return _reduced(xp, xp.where(distance < beta, distance * distance * (0.5 / beta), distance - 0.5 * beta), reduction)


def _huber_slope(xp: Any, difference: Any, delta: float) -> Any:
    return xp.minimum(xp.maximum(difference, -delta), delta)


@op(
    self=lambda xp, grad, self, target, reduction, delta: _huber_slope(xp, self - target, delta) * _share(grad, self.shape, reduction),
    target=lambda xp, grad, self, target, reduction, delta: -_huber_slope(xp, self - target, delta) * _share(grad, self.shape, reduction),
    where="functional", samples=[*pairs, sample(real(5), real(5), delta=0.5)],
)  # fmt: skip
def huber_loss(xp: Any, self: Array, target: Array, reduction: str = "mean", delta: float = 1.0) -> Array:
    """``(input - target) ** 2 / 2`` where ``|input - target| <= delta``, linear elsewhere (Huber 1964)."""
    check_reduction("huber_loss", reduction)
    check_pair("huber_loss", self, target)
    distance = xp.absolute(self - target)
    return _reduced(xp, xp.where(distance <= delta, 0.5 * distance * distance, delta * (distance - 0.5 * delta)), reduction)


def _kl_mean(grad: Any, shape: tuple[int, ...], reduction: str) -> Any:
    return grad / shape[0] if reduction == "batchmean" else _share(grad, shape, reduction)


@op(
    self=lambda xp, grad, target, reduction, log_target: -(xp.exp(target) if log_target else target) * _kl_mean(grad, target.shape, reduction),
    target=lambda xp, grad, self, target, reduction, log_target: _kl_mean(grad, target.shape, reduction)
    * (xp.exp(target) * (target - self + 1) if log_target else xp.log(target) - self + 1),
    where="functional",
    samples=[
        sample(real(4, 3), real(4, 3, low=0.1, high=0.9), reduction="none"), sample(real(4, 3), real(4, 3, low=0.1, high=0.9), reduction="batchmean"),
        sample(real(4, 3), real(4, 3), reduction="sum", log_target=True),
    ],
)  # fmt: skip
def kl_div(xp: Any, self: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> Array:
    """``target * (log target - input)`` for log-probabilities ``input``; "batchmean" divides by the batch size only."""
    check_reduction("kl_div", reduction, (*REDUCTIONS, "batchmean"))
    check_pair("kl_div", self, target)
    if log_target:
        loss = xp.exp(target) * (target - self)
    else:
        some = target > 0
        loss = xp.where(some, target * xp.log(xp.where(some, target, 1.0)), 0.0) - target * self
    if reduction == "batchmean":
        return xp.sum(loss) / self.shape[0]
    return _reduced(xp, loss, reduction)


# ------------------------------------------------------------------------------------------------- normalisation


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


# ------------------------------------------------------------------------------------------------- embedding


def _embedding_weight(xp: Any, grad: Any, self: Any, weight_shape: Any, padding_idx: int | None) -> Any:
    if padding_idx is not None:
        grad = grad * xp.astype(self != padding_idx % weight_shape[0], grad.dtype)[..., None]
    return xp.scatter_to_zeros(grad, weight_shape, self)


@op(
    weight=lambda xp, grad, self, weight_shape, padding_idx: _embedding_weight(xp, grad, self, weight_shape, padding_idx),
    where="functional", samples=[sample(integers(4), real(3, 2)), sample(integers(2, 3), real(3, 2), padding_idx=1)],
)  # fmt: skip
def embedding(xp: Any, self: Index, weight: Array, padding_idx: int | None = None) -> Array:
    """The rows of ``weight`` that the indices name; the row ``padding_idx`` gets no gradient."""
    if xp.all_in_range(xp.astype(self, "int64"), weight.shape[0]) is False:
        raise IndexError(f"embedding: index out of range: indices must be in [0, {weight.shape[0] - 1}], weight is {tuple(weight.shape)}")
    return xp.take(weight, self, axis=0)


