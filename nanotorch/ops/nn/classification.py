"""Losses of class numbers: cross entropy and negative log likelihood."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.autograd.graph.errors import OutOfRangeError, ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.nn.loss import check_reduction
from nanotorch.ops.nn.softmax_family import log_softmax
from nanotorch.ops.rows.row import Array, Index, composite, op
from nanotorch.ops.rows.runtime import floating
from nanotorch.ops.rows.sample import constant, edge, integers, real, sample

inf = math.inf


def _class_weights(xp: Any, target: Any, weight: Any, classes: int, ignore_index: int, dtype: Any) -> tuple[Any, Any]:
    """Return the targets with ignored ones replaced by 0, and the weight of every sample (None: all one)."""
    inside = xp.all_in_range(target, classes)
    if inside and not 0 <= ignore_index < classes:
        return target, None if weight is None else weight[target]
    kept = target != ignore_index
    if inside is False:
        wrong = kept & ((target < 0) | (target >= classes))
        if xp.holds(~wrong) is False:
            value = int(target[wrong][0])
            raise OutOfRangeError(f"Target {value} is out of bounds: classes are numbered 0 to {classes - 1}")
    safe, kept_weight = xp.where(kept, target, 0), xp.astype(kept, dtype)
    if inside is None:
        # A GPU is not waited for: its indexing wraps wrong targets around, so they get the weight NaN instead.
        kept_weight = xp.where(kept & ((target < 0) | (target >= classes)), float("nan"), kept_weight)
    return safe, kept_weight if weight is None else kept_weight * weight[safe]


def _target_rows(
    xp: Any, target: Any, weight: Any, classes: int, ignore_index: int, label_smoothing: float, dtype: Any
) -> tuple[Any, Any, Any]:
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


def _divisor(xp: Any, total_weight: Any) -> Any:
    """Return what gradients of a mean are divided by:
    where no target counts, they are zeros, though the mean is NaN.
    """
    return xp.where(total_weight == 0, 1.0, total_weight)


def _cross_entropy_self(xp: Any, grad: Any, reduction: str, _slope: Any, _total_weight: Any) -> Any:
    if reduction == "none":
        return _slope * grad[:, None]
    return _slope * (grad / _total_weight if reduction == "mean" else grad)


@op(self=_cross_entropy_self, outputs="loss _slope _total_weight", where="internal", node="NllLossBackward0")
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
    if sample_weight is not None:  # a row that is ignored may hold anything
        loss = xp.where(target == ignore_index, 0.0, loss)
    probabilities = exponentials / totals
    if sample_weight is not None or weight is not None:
        probabilities = probabilities * xp.row_sums(hot)
    total_weight = n if sample_weight is None else xp.sum(sample_weight)
    if reduction != "none":
        loss = xp.column_sums(loss)
    if reduction == "mean":
        loss = loss / total_weight
    return loss, probabilities - hot, total_weight if sample_weight is None else _divisor(xp, total_weight)


def _nll_self(xp: Any, grad: Any, self_shape: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    n, classes = self_shape
    _, sample_weight, hot = _target_rows(xp, target, weight, classes, ignore_index, 0.0, grad.dtype)
    if reduction == "mean":
        grad = grad / (n if sample_weight is None else _divisor(xp, xp.sum(sample_weight)))
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
        loss = xp.where(target == ignore_index, 0.0, loss * sample_weight)
    if reduction != "none":
        loss = xp.sum(loss)
    if reduction == "mean":
        loss = loss / (n if sample_weight is None else xp.sum(sample_weight))
    return loss


def _as_rows(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Bring (C), (N, C) or (N, C, d...) against class numbers of the remaining shape to (M, C) against (M)."""
    if not isinstance(input, Tensor) or not isinstance(target, Tensor):
        raise TypeError(
            f"{name}(): input and target must be Tensors, not {type(input).__name__} and {type(target).__name__}"
        )
    expected = () if input.ndim == 1 else (*input.shape[:1], *input.shape[2:])
    if input.ndim == 0 or tuple(target.shape) != expected:
        hint = ""
        if input.ndim == 2 and tuple(target.shape) == (input.shape[0], 1):
            hint = " (target has a trailing dimension of 1: use target.squeeze(1))"
        raise ShapeError(
            f"{name}: input {tuple(input.shape)} needs a target of class numbers of shape {expected}, got"
            f" {tuple(target.shape)}{hint}"
        )
    if input.ndim == 1:
        return input.unsqueeze(0), target.reshape(1)
    if input.ndim > 2:
        order = (0, *range(2, input.ndim), 1)
        return input.permute(order).reshape(-1, input.shape[1]), target.reshape(-1)
    return input, target


def check_class_weight(name: str, input: Tensor, weight: Tensor) -> None:
    """Raise unless there is one weight for every class."""
    count = input.shape[min(input.ndim, 2) - 1]
    if tuple(weight.shape) != (count,):
        raise ShapeError(
            f"{name}: weight tensor should be defined either for all {count} classes or no classes but got weight"
            f" tensor of shape: {list(weight.shape)}"
        )


classes = [
    sample(real(5, 3), integers(5)),
    sample(real(5, 3), integers(5), reduction="sum"),
    sample(real(5, 3), integers(5), reduction="none"),
    sample(real(5, 3), integers(5), constant(3)),
    sample(real(5, 3), integers(5), ignore_index=1),
    sample(real(2, 3, 4), integers(2, 4)),
    sample(real(3), integers()),
    sample(real(2, 3, 4, 2), integers(2, 4, 2), constant(3), ignore_index=1, reduction="none"),
    sample(real(2, 3, 4), integers(2, 4), constant(3), reduction="sum"),
    sample(real(3), integers(), constant(3), reduction="none"),
    sample(real(0, 3), integers(0), reduction="sum"),
    sample(edge([[1.0, -inf, 2.0], [1000.0, -1000.0, 0.0]]), integers(2, low=0, high=1)),
]


@composite(
    widens=True,
    where="functional",
    samples=[
        *classes,
        sample(real(5, 3), integers(5), label_smoothing=0.1),
        sample(real(5, 3), real(5, 3, low=0.0, high=1.0)),
        sample(real(5, 3), integers(5), constant(3), label_smoothing=0.1, ignore_index=2),
        sample(real(5, 3), real(5, 3, low=0.0, high=1.0), constant(3), label_smoothing=0.2, reduction="none"),
        sample(real(2, 3, 4), integers(2, 4), constant(3), ignore_index=1, reduction="none", label_smoothing=0.3),
        sample(real(2, 3, 4), integers(2, 4), constant(3), ignore_index=1, label_smoothing=0.3),
        sample(real(2, 3, 4), integers(2, 4), label_smoothing=1.0, reduction="sum"),
        sample(real(3), integers(), label_smoothing=0.5),
        sample(real(2, 3, 4), real(2, 3, 4, low=0.0, high=1.0), constant(3), label_smoothing=0.2),
        sample(real(3), real(3, low=0.0, high=1.0)),
        sample(real(2, 3, 2, 2), real(2, 3, 2, 2, low=0.0, high=1.0), reduction="sum"),
    ],
)
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """`-log softmax(input)[target]`, reduced.

    Args:
        input: logits (N, C), (C) or (N, C, d...).
        target: class numbers (N), () or (N, d...), int64; or class probabilities in the shape of `input`.
        weight: one weight per class (C); "mean" then divides by the sum of the weights of the targets.
        ignore_index: targets of this number contribute nothing.
        reduction: "none", "mean" or "sum".
        label_smoothing: the share of probability spread evenly over all classes, in [0, 1].
    """
    if reduction != "mean":
        check_reduction("cross_entropy", reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if isinstance(input, Tensor):
        input = floating(input)
    if weight is not None:
        check_class_weight("cross_entropy", input, weight)
    if isinstance(target, Tensor) and target._array.dtype.kind == "f":
        if ignore_index >= 0:
            raise RuntimeError(
                "cross_entropy: ignore_index is not supported for a floating point target of class probabilities"
            )
        return _cross_entropy_probabilities(input, target, weight, reduction, label_smoothing)
    if not (
        isinstance(target, Tensor) and target._array.ndim == 1 and isinstance(input, Tensor) and input._array.ndim == 2
    ):
        rows, numbers = _as_rows("cross_entropy", input, target)
        loss = _cross_entropy(rows, numbers, weight, ignore_index, reduction, label_smoothing)
        return loss.reshape(tuple(target.shape)) if reduction == "none" else loss
    if input._array.shape[0] != target._array.shape[0]:
        _as_rows("cross_entropy", input, target)
    return _cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _cross_entropy_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    if input.shape != target.shape:
        raise ShapeError(
            "cross_entropy: a floating point target holds class probabilities and needs the shape of the input "
            f"{tuple(input.shape)}, got {tuple(target.shape)}; class numbers must be int64 (.long())"
        )
    dim = 0 if input.ndim == 1 else 1
    count = input.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / max(count, 1)
    scores = log_softmax(input, dim) * target
    if weight is not None:
        scores = scores * weight.reshape([count if d == dim else 1 for d in range(input.ndim)])
    loss = -scores.sum(dim)
    if reduction == "mean":
        return loss.sum() / (loss.numel() if count else math.nan)  # of no classes there is no mean
    return loss.sum() if reduction == "sum" else loss


@composite(where="functional", samples=classes)
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """`-input[target]` for log-probabilities `input`, reduced; shapes as in `cross_entropy`."""
    check_reduction("nll_loss", reduction)
    if weight is not None:
        check_class_weight("nll_loss", input, weight)
    rows, numbers = _as_rows("nll_loss", input, target)
    loss = _nll_loss(rows, numbers, weight, ignore_index, reduction)
    return loss.reshape(tuple(target.shape)) if reduction == "none" else loss
