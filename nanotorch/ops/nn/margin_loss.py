"""Losses that ask for a margin: between classes, between pairs, between triplets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph.errors import DtypeError, OutOfRangeError, ShapeError
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.elementwise.activation import logsigmoid
from nanotorch.ops.elementwise.extrema import minimum, where
from nanotorch.ops.linalg.norm import pairwise_distance
from nanotorch.ops.nn.loss import (
    EPSILON,
    check_float_pair,
    check_pair,
    check_reduction,
    check_weight,
    reduced,
    reduced_tensor,
    share,
)
from nanotorch.ops.rows.row import Array, Cast, composite, op
from nanotorch.ops.rows.runtime import need_number, refuse_gradients
from nanotorch.ops.rows.sample import constant, edge, integers, real, sample
from nanotorch.ops.rows.tensors import TENSOR, namespace

signs = edge([1.0, -1.0, 1.0, -1.0])


# ------------------------------------------------------------------------------------------------- of classes


def _soft_margin_slope(xp: Any, grad: Any, self: Any, target: Any, reduction: str) -> Any:
    return xp.sigmoid(-target * self) * share(grad, self.shape, reduction)


@op(
    self=lambda xp, grad, self, target, reduction: -target * _soft_margin_slope(xp, grad, self, target, reduction),
    where="functional",
    samples=[
        sample(real(5), constant(5, low=-1.0)),
        sample(real(4, 3), constant(4, 3, low=-1.0), reduction="sum"),
        sample(real(5), constant(5, low=-1.0), reduction="none"),
        sample(real(0), constant(0), reduction="sum"),
        sample(edge([0.0, 30.0, -30.0]), constant(3)),
    ],
)
def soft_margin_loss(xp: Any, self: Array, target: Array | Cast, reduction: str = "mean") -> Array:
    """`log(1 + exp(-target * input))` for targets 1 and -1, without overflow."""
    check_reduction("soft_margin_loss", reduction)
    check_float_pair("soft_margin_loss", self, target)
    return reduced(xp, xp.softplus(-target * self), reduction)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(4, 3), real(4, 3, low=0.0, high=1.0)),
        sample(real(4, 3), real(4, 3, low=0.0, high=1.0), constant(3), reduction="none"),
        sample(real(2, 4, 3), real(2, 4, 3, low=0.0, high=1.0), reduction="sum"),
        sample(real(3), real(3, low=0.0, high=1.0)),
    ],
)
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Binary cross entropy of logits (..., C) and targets in [0, 1], its mean over the classes; then reduced.

    `weight` broadcasts over the elements.
    """
    check_reduction("multilabel_soft_margin_loss", reduction)
    check_pair("multilabel_soft_margin_loss", input, target)
    check_weight("multilabel_soft_margin_loss", "weight", weight, tuple(input.shape))
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    return reduced_tensor(loss.sum(-1) / input.shape[-1], reduction)


def _rows_of_classes(name: str, input: Tensor, target: Tensor, target_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Bring logits (C) to (1, C), and the target with them."""
    if input.ndim not in (1, 2) or not input.shape[-1] or tuple(target.shape) != target_shape:
        raise ShapeError(
            f"{name}: input {tuple(input.shape)} needs a target of shape {target_shape}, got {tuple(target.shape)}"
        )
    if target.dtype.kind not in "iu":
        raise DtypeError(f"{name}: target must be a tensor of class numbers (int64), not {target.dtype}")
    return (input, target) if input.ndim == 2 else (input.unsqueeze(0), target.unsqueeze(0))


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(5, 3), integers(5)),
        sample(real(5, 3), integers(5), p=2, margin=0.5, reduction="sum"),
        sample(real(5, 3), integers(5), weight=constant(3), reduction="none"),
        sample(real(3), integers()),
        sample(edge([[1.0, 2.0, 2.0]]), integers(1), reduction="none"),
    ],
)
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The sum of `max(0, margin - input[target] + input[j]) ** p / C` over all other classes j
    (Crammer, Singer 2001).

    Args:
        input: scores (N, C) or (C).
        target: class numbers (N) or ().
        p: 1 or 2.
        margin: by how much the score of the target has to exceed the others.
        weight: one weight per class (C), by which the sample of a target is multiplied.
        reduction: "none", "mean" (over samples, weighted or not) or "sum".
    """
    name = "multi_margin_loss"
    check_reduction(name, reduction)
    refuse_gradients(name, weight=weight)
    if p not in (1, 2):
        raise ValueError(f"{name}: only p == 1 and p == 2 supported, got {p}")
    single = input.ndim == 1
    rows, numbers = _rows_of_classes(name, input, target, () if single else tuple(input.shape[:1]))
    classes = rows.shape[1]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ShapeError(
            f"{name}: weight needs one number for each of the {classes} classes, got {tuple(weight.shape)}"
        )
    if TENSOR["all_in_range"](numbers, classes) is False:
        raise OutOfRangeError(f"{name}: target out of range: classes are numbered 0 to {classes - 1}")
    index = numbers.long().unsqueeze(1)
    short = margin - rows.gather(1, index) + rows
    others = namespace(rows.device).arange(classes) != index
    loss = where(others & (short > 0), short, 0.0)
    if p == 2:
        loss = loss * loss
    if weight is not None:
        loss = loss * weight[index]
    loss = loss.sum(1) / classes
    return reduced_tensor(loss.squeeze(0) if single else loss, reduction)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(2, 4), integers(2, 4, low=0, high=4)),
        sample(real(2, 4), integers(2, 4, low=-1, high=4), reduction="none"),
        sample(real(4), integers(4, low=-1, high=4), reduction="sum"),
    ],
)
def multilabel_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The sum of `max(0, 1 - input[y] + input[j]) / C` over all target classes y and all other classes j.

    Args:
        input: scores (N, C) or (C).
        target: class numbers in the same shape; those after the first -1 do not count.
        reduction: "none", "mean" or "sum".
    """
    name = "multilabel_margin_loss"
    check_reduction(name, reduction)
    single = input.ndim == 1
    rows, numbers = _rows_of_classes(name, input, target, tuple(input.shape))
    classes = rows.shape[1]
    counted = (numbers >= 0).long().cumprod(1).bool()
    index = where(counted, numbers.long(), 0)
    if TENSOR["all_in_range"](numbers + 1, classes + 1) is False:
        raise OutOfRangeError(f"{name}: target out of range: classes are numbered 0 to {classes - 1}, -1 ends a list")
    hit = (index.unsqueeze(2) == namespace(rows.device).arange(classes)) & counted.unsqueeze(2)
    short = 1 - rows.gather(1, index).unsqueeze(2) + rows.unsqueeze(1)
    wanted = counted.unsqueeze(2) & ~hit.any(1).unsqueeze(1) & (short > 0)
    loss = where(wanted, short, 0.0).sum((1, 2)) / classes
    return reduced_tensor(loss.squeeze(0) if single else loss, reduction)


# ------------------------------------------------------------------------------------------------- of pairs


@composite(
    where="functional",
    samples=[
        sample(real(4), signs),
        sample(real(4), signs, 0.5, reduction="sum"),
        sample(real(4), signs, margin=2.0, reduction="none"),
        sample(edge([1.0, 1.0, 0.0, 2.0]), signs),
        sample(edge([1.0, 1.0]), edge([0.0, 2.0])),
    ],
)
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """The distance `input` where the target is 1 (alike), `max(0, margin - input)` where it is -1 (different)."""
    check_reduction("hinge_embedding_loss", reduction)
    margin = need_number("hinge_embedding_loss", "margin", margin)
    check_pair("hinge_embedding_loss", input, target)
    far = where(target != 1, (margin - input).clamp(min=0), 0.0)
    return reduced_tensor(far + where(target != -1, input, 0.0), reduction)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(4, 3), real(4, 3), signs),
        sample(real(4, 3), real(4, 3), signs, 0.3, reduction="sum"),
        sample(real(3), real(3), edge(-1.0), reduction="none"),
        sample(real(4, 3), real(4, 3), signs, margin=-0.5, reduction="none"),
    ],
)
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """`1 - cos(input1, input2)` where the target is 1 (alike), `max(0, cos - margin)` where it is -1 (different).

    Args:
        input1: vectors (N, D) or (D).
        input2: vectors of the same shape.
        target: 1 or -1, (N) or ().
        margin: different vectors may have a cosine up to this, in [-1, 1].
        reduction: "none", "mean" or "sum".
    """
    check_reduction("cosine_embedding_loss", reduction)
    margin = need_number("cosine_embedding_loss", "margin", margin)
    if (
        target.ndim > 1
        or input1.ndim != target.ndim + 1
        or input1.shape != input2.shape
        or input1.shape[:-1] != target.shape
    ):
        raise ShapeError(
            f"cosine_embedding_loss: {target.ndim}D target tensor expects {target.ndim + 1}D input tensors (N, D) for a"
            f" target (N), or (D) for (), but found inputs with sizes {list(input1.shape)} and {list(input2.shape)} and"
            f" target {list(target.shape)}"
        )
    squares = ((input1 * input1).sum(-1) + EPSILON) * ((input2 * input2).sum(-1) + EPSILON)
    cosine = (input1 * input2).sum(-1) / squares.sqrt()
    loss = where(target == 1, 1 - cosine, 0.0) + where(target == -1, (cosine - margin).clamp(min=0), 0.0)
    return reduced_tensor(loss, reduction)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(4), real(4), signs),
        sample(real(4), real(4), signs, 0.5, reduction="sum"),
        sample(real(4), real(4), signs, margin=0.5, reduction="none"),
        sample(edge([1.0, 1.0, 2.0, 3.0]), edge([1.0, 1.0, 1.0, 3.0]), signs),
    ],
)
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """`max(0, -target * (input1 - input2) + margin)`: target 1 says that input1 ranks higher, -1 that input2 does."""
    check_reduction("margin_ranking_loss", reduction)
    margin = need_number("margin_ranking_loss", "margin", margin)
    check_pair("margin_ranking_loss", input1, target)
    check_pair("margin_ranking_loss", input2, target)
    return reduced_tensor((-target * (input1 - input2) + margin).clamp(min=0), reduction)


# ------------------------------------------------------------------------------------------------- of triplets


@composite(widens=True, where="functional")
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with any distance of two tensors; by default `pairwise_distance`."""
    return _triplet(
        "triplet_margin_with_distance_loss",
        anchor,
        positive,
        negative,
        distance_function or pairwise_distance,
        margin,
        swap,
        reduction,
    )


def _triplet(
    name: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    check_reduction(name, reduction)
    margin = need_number(name, "margin", margin)
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ShapeError(
            f"{name}: The anchor, positive, and negative tensors are expected to have the same number of dimensions,"
            f" but got: anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    if margin <= 0:
        raise ValueError(f"{name}: margin must be greater than 0, got {margin}")
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced_tensor((margin + near - far).clamp(min=0), reduction)


@composite(
    widens=True,
    where="functional",
    samples=[
        sample(real(5, 4), real(5, 4), real(5, 4)),
        sample(real(5, 4), real(5, 4), real(5, 4), margin=3.0, swap=True, reduction="sum"),
        sample(real(5, 4), real(5, 4), real(5, 4), p=1, margin=2.0, reduction="none"),
        sample(real(5, 4), real(5, 4), real(5, 4), p=3.0, eps=0.1, margin=2.0),
        sample(real(4), real(4), real(4), margin=5.0),
        sample(edge([[0.0, 0.0]]), edge([[0.0, 0.0]]), edge([[0.0, 0.0]])),
    ],
)
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`max(0, d(anchor, positive) - d(anchor, negative) + margin)` (Balntas et al. 2016).

    Args:
        anchor: vectors (N, D) or (D).
        positive: vectors that should be closer to the anchor.
        negative: vectors that should be farther from it.
        margin: by how much farther, positive.
        p: the norm of the distance, `pairwise_distance`.
        eps: what is added to differences, so that the distance of equal vectors has a gradient.
        swap: take the distance of positive and negative where it is smaller than that of anchor and negative.
        reduction: "none", "mean" or "sum".
    """

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)
