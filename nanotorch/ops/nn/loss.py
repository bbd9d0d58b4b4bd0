"""Losses of one prediction and one target of the same shape, and how losses are reduced."""

from __future__ import annotations

import math
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError
from nanotorch.ops.rows.row import Array, Cast, op
from nanotorch.ops.rows.sample import constant, edge, real, sample

inf, nan = math.inf, math.nan

EPSILON = 9.999999960041972e-13
"""1e-12 as a float32, which is what PyTorch adds or divides by at least."""

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    """Raise for an unknown reduction."""
    if reduction not in allowed:
        raise ValueError(
            f"{name}: {reduction!r} is not a valid value for reduction; choose one of {', '.join(allowed)}"
        )


def reduced(xp: Any, loss: Any, reduction: str) -> Any:
    """Return the losses of the elements, their mean or their sum."""
    if reduction == "none":
        return loss
    total = xp.sum(loss)
    return total / loss.size if reduction == "mean" else total


def reduced_tensor(loss: Any, reduction: str) -> Any:
    """Return what `reduced` does, for tensors: its parts are recorded."""
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def share(grad: Any, shape: tuple[int, ...], reduction: str) -> Any:
    """Return the gradient of the unreduced loss, up to broadcasting."""
    if reduction != "mean":
        return grad
    count = 1
    for length in shape:
        count *= length
    return grad / count


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
            f"{name}: input {a} and target {b} must have the same shape{fix}. Broadcasting would compare every"
            " prediction with every target."
        )


def check_weight(name: str, argument: str, weight: Any, shape: tuple[int, ...]) -> None:
    """Raise where a weight would broadcast the losses to more than there are: their mean would be of another number."""
    if weight is None:
        return
    lead = len(shape) - weight.ndim
    if lead < 0 or any(n not in (1, length) for n, length in zip(weight.shape, shape[lead:], strict=True)):
        raise ShapeError(
            f"{name}: {argument} {tuple(weight.shape)} does not broadcast to the shape of the losses {tuple(shape)}"
        )


def check_float_pair(name: str, self: Any, target: Any) -> None:
    """Raise unless prediction and target have one shape, and the one dtype that they were brought to is floating."""
    check_pair(name, self, target)
    if self.dtype.kind != "f":
        raise NotImplementedError(f"{name}: not implemented for {self.dtype}; convert input or target with .float()")


def check_probabilities(xp: Any, name: str, argument: str, values: Any, hint: str = "") -> None:
    """Raise unless all elements lie between 0 and 1; NaN does not."""
    if xp.holds((values >= 0) & (values <= 1)) is False:
        raise RuntimeError(f"{name}: all elements of {argument} should be between 0 and 1{hint}")


def _bce_logits_self(xp: Any, grad: Any, self: Any, target: Any, weight: Any, pos_weight: Any, reduction: str) -> Any:
    g = share(grad, self.shape, reduction)
    if weight is not None:
        g = g * weight
    p = xp.sigmoid(self)
    if pos_weight is None:
        return (p - target) * g
    return ((pos_weight * target + 1 - target) * p - pos_weight * target) * g


def _bce_logits_target(xp: Any, grad: Any, self: Any, weight: Any, pos_weight: Any, reduction: str) -> Any:
    g = share(grad, self.shape, reduction)
    if weight is not None:
        g = g * weight
    if pos_weight is None:
        return -self * g
    return (xp.softplus(-self) * pos_weight - xp.softplus(self)) * g


@op(
    self=_bce_logits_self,
    target=_bce_logits_target,
    where="functional",
    node="BinaryCrossEntropyWithLogitsBackward0",
    samples=[
        sample(real(5), real(5, low=0.0, high=1.0)),
        sample(real(5, 2), real(5, 2, low=0.0, high=1.0), reduction="none"),
        sample(real(5, 2), real(5, 2, low=0.0, high=1.0), reduction="sum", pos_weight=constant(2)),
        sample(real(5, 2), real(5, 2, low=0.0, high=1.0), constant(5, 2)),
        sample(real(5, 2), real(5, 2, low=0.0, high=1.0), constant(2), pos_weight=constant(5, 2)),
        sample(edge([0.0, 100.0, -100.0, inf, -inf]), edge([0.0, 1.0, 1.0, 0.0, 1.0])),
        sample(real(0, 2), real(0, 2), reduction="sum"),
    ],
)
def binary_cross_entropy_with_logits(
    xp: Any,
    self: Array,
    target: Array | Cast,
    weight: Array | Cast | None = None,
    reduction: str = "mean",
    pos_weight: Array | Cast | None = None,
) -> Array:
    """`-(target * log s + (1 - target) * log(1 - s))` with `s = sigmoid(input)`, without overflow."""
    check_reduction("binary_cross_entropy_with_logits", reduction)
    check_float_pair("binary_cross_entropy_with_logits", self, target)
    check_weight("binary_cross_entropy_with_logits", "weight", weight, self.shape)
    check_weight("binary_cross_entropy_with_logits", "pos_weight", pos_weight, self.shape)
    if pos_weight is None:
        loss = xp.softplus(self) - self * target
    else:
        loss = xp.softplus(-self) * (pos_weight * target) + xp.softplus(self) * (1 - target)
    if weight is not None:
        loss = loss * weight
    return reduced(xp, loss, reduction)


def _bce_self(xp: Any, grad: Any, self: Any, target: Any, weight: Any, reduction: str) -> Any:
    g = share(grad, self.shape, reduction)
    if weight is not None:
        g = g * weight
    return (self - target) / xp.maximum(self * (1 - self), EPSILON) * g


@op(
    self=_bce_self,
    target=lambda xp, grad, self, weight, reduction: (
        share(grad, self.shape, reduction)
        * (1.0 if weight is None else weight)
        * (xp.maximum(xp.log(1 - self), -100.0) - xp.maximum(xp.log(self), -100.0))
    ),
    where="functional",
    samples=[
        sample(real(5, low=0.1, high=0.9), real(5, low=0.0, high=1.0)),
        sample(real(5, 2, low=0.1, high=0.9), real(5, 2, low=0.0, high=1.0), constant(5, 2), reduction="sum"),
        sample(real(5, 2, low=0.1, high=0.9), real(5, 2, low=0.0, high=1.0), constant(2), reduction="none"),
        sample(real(0, 2), real(0, 2), reduction="sum"),
    ],
)
def binary_cross_entropy(
    xp: Any, self: Array, target: Array, weight: Array | Cast | None = None, reduction: str = "mean"
) -> Array:
    """`-(target * log p + (1 - target) * log(1 - p))` for probabilities `input`; logarithms are cut at -100."""
    check_reduction("binary_cross_entropy", reduction)
    check_float_pair("binary_cross_entropy", self, target)
    check_weight("binary_cross_entropy", "weight", weight, self.shape)
    check_probabilities(xp, "binary_cross_entropy", "input", self, "; for logits use binary_cross_entropy_with_logits")
    check_probabilities(xp, "binary_cross_entropy", "target", target)
    loss = -(target * xp.maximum(xp.log(self), -100.0) + (1 - target) * xp.maximum(xp.log(1 - self), -100.0))
    if weight is not None:
        loss = loss * weight
    return reduced(xp, loss, reduction)


pairs = [
    sample(real(5), real(5)),
    sample(real(5, 2), real(5, 2), reduction="sum"),
    sample(real(5), real(5), reduction="none"),
    sample(real(0, 2), real(0, 2), reduction="sum"),
    sample(edge([1.0, -1.0, inf, nan, 2.0]), edge([1.0, 0.0, inf, 0.0, 1.0]), reduction="none"),
]


@op(
    self=lambda grad, self, target, reduction: (self - target) * (2 * share(grad, self.shape, reduction)),
    target=lambda grad, self, target, reduction: (self - target) * (-2 * share(grad, self.shape, reduction)),
    where="functional",
    samples=pairs,
    cast="promote",
)
def mse_loss(xp: Any, self: Array, target: Array, reduction: str = "mean") -> Array:
    """`(input - target) ** 2`, reduced; the shapes must be equal."""
    check_reduction("mse_loss", reduction)
    check_float_pair("mse_loss", self, target)
    difference = self - target
    return reduced(xp, difference * difference, reduction)


@op(
    self=lambda xp, grad, self, target, reduction: xp.sign(self - target) * share(grad, self.shape, reduction),
    target=lambda xp, grad, self, target, reduction: -xp.sign(self - target) * share(grad, self.shape, reduction),
    where="functional",
    samples=pairs,
    node="MeanBackward0",
    cast="promote",
)
def l1_loss(xp: Any, self: Array, target: Array, reduction: str = "mean") -> Array:
    """`|input - target|`, reduced; the shapes must be equal."""
    check_reduction("l1_loss", reduction)
    check_pair("l1_loss", self, target)
    if reduction == "mean" and self.dtype.kind != "f":
        raise RuntimeError(f"l1_loss: the mean of {self.dtype} is no integer; convert input or target with .float()")
    return reduced(xp, xp.absolute(self - target), reduction)


def _smooth_slope(xp: Any, difference: Any, beta: float) -> Any:
    if beta == 0:
        return xp.sign(difference)
    return xp.where(xp.absolute(difference) >= beta, xp.sign(difference), difference / beta)


@op(
    self=lambda xp, grad, self, target, reduction, beta: (
        _smooth_slope(xp, self - target, beta) * share(grad, self.shape, reduction)
    ),
    target=lambda xp, grad, self, target, reduction, beta: (
        -_smooth_slope(xp, self - target, beta) * share(grad, self.shape, reduction)
    ),
    where="functional",
    cast="promote",
    samples=[*pairs, sample(real(5), real(5), beta=0.5), sample(real(5), real(5), beta=0.0)],
)
def smooth_l1_loss(xp: Any, self: Array, target: Array, reduction: str = "mean", beta: float = 1.0) -> Array:
    """Quadratic (over `2 * beta`) where `|input - target| < beta`, linear elsewhere."""
    check_reduction("smooth_l1_loss", reduction)
    check_float_pair("smooth_l1_loss", self, target)
    if not beta >= 0:
        raise RuntimeError(f"smooth_l1_loss: beta must be at least 0, got {beta}")
    distance = xp.absolute(self - target)
    if beta == 0:
        return reduced(xp, distance, reduction)
    return reduced(xp, xp.where(distance < beta, distance * distance * (0.5 / beta), distance - 0.5 * beta), reduction)


def _huber_slope(xp: Any, difference: Any, delta: float) -> Any:
    return xp.minimum(xp.maximum(difference, -delta), delta)


@op(
    self=lambda xp, grad, self, target, reduction, delta: (
        _huber_slope(xp, self - target, delta) * share(grad, self.shape, reduction)
    ),
    target=lambda xp, grad, self, target, reduction, delta: (
        -_huber_slope(xp, self - target, delta) * share(grad, self.shape, reduction)
    ),
    where="functional",
    samples=[*pairs, sample(real(5), real(5), delta=0.5)],
)
def huber_loss(xp: Any, self: Array, target: Array | Cast, reduction: str = "mean", delta: float = 1.0) -> Array:
    """`(input - target) ** 2 / 2` where `|input - target| <= delta`, linear elsewhere (Huber 1964)."""
    check_reduction("huber_loss", reduction)
    check_float_pair("huber_loss", self, target)
    if not delta > 0:
        raise RuntimeError(f"huber_loss: delta must be greater than 0, got {delta}")
    distance = xp.absolute(self - target)
    return reduced(
        xp, xp.where(distance <= delta, 0.5 * distance * distance, delta * (distance - 0.5 * delta)), reduction
    )


def _kl_mean(grad: Any, shape: tuple[int, ...], reduction: str) -> Any:
    return grad / (shape or (1,))[0] if reduction == "batchmean" else share(grad, shape, reduction)


@op(
    self=lambda xp, grad, target, reduction, log_target: (
        -(xp.exp(target) if log_target else target) * _kl_mean(grad, target.shape, reduction)
    ),
    target=lambda xp, grad, self, target, reduction, log_target: (
        _kl_mean(grad, target.shape, reduction)
        * (xp.exp(target) * (target - self + 1) if log_target else xp.log(target) - self + 1)
    ),
    where="functional",
    cast="promote",
    samples=[
        sample(real(4, 3), real(4, 3, low=0.1, high=0.9), reduction="none"),
        sample(real(4, 3), real(4, 3, low=0.1, high=0.9), reduction="batchmean"),
        sample(real(4, 3), real(4, 3), reduction="sum", log_target=True),
        sample(real(4, 3), real(4, 3, low=0.1, high=0.9)),
        sample(real(4, 3), real(4, 3), reduction="batchmean", log_target=True),
        sample(real(), real(low=0.1), reduction="batchmean"),
    ],
)
def kl_div(xp: Any, self: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> Array:
    """`target * (log target - input)` for log-probabilities `input`; "batchmean" divides by the batch size only."""
    check_reduction("kl_div", reduction, (*REDUCTIONS, "batchmean"))
    check_float_pair("kl_div", self, target)
    if log_target:
        loss = xp.exp(target) * (target - self)
    else:
        some = target != 0
        loss = xp.where(some, target * xp.log(xp.where(some, target, 1.0)), 0.0) - target * self
    if reduction == "batchmean":
        return xp.sum(loss) / (self.shape or (1,))[0]
    return reduced(xp, loss, reduction)
