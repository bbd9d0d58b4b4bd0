"""Losses as modules; the functions are in `nn.functional`.

Registered for configs are those that take a model's raw outputs, each with the kinds of target it is for.
"""

from __future__ import annotations

from typing import Literal

from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.nn import functional as F
from nanotorch.nn.module import Module
from nanotorch.registry import LOSSES, NonNegativeFloat, PositiveFloat, Probability

Reduction = Literal["none", "mean", "sum"]


class _Loss(Module):
    """What losses share: how the losses of the elements become one."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"{type(self).__name__}: reduction is 'none', 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction


@LOSSES.register(tasks=("multiclass",))
class CrossEntropyLoss(_Loss):
    """Cross entropy between logits (N, C), or (N, C, ...), and classes: `nll_loss(log_softmax(input), target)`.

    The target holds class numbers (N, ...), or probabilities of the shape of the input. `weight` (C) weighs the
    classes, and the mean divides by the weights of the targets; targets equal to `ignore_index` do not count;
    `label_smoothing` takes that share of each target and spreads it over all classes.

    >>> loss = torch.nn.CrossEntropyLoss()
    >>> loss(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: Probability = 0.0,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: label_smoothing is between 0 and 1, got {label_smoothing}")
        self.weight: Tensor | None
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input`: logits; `target`: class numbers or probabilities."""
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """Minus the log-probability of the target class, from log-probabilities (N, C), or (N, C, ...).

    `weight` and `ignore_index` are as in CrossEntropyLoss.
    """

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.weight: Tensor | None
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input`: log-probabilities; `target`: class numbers."""
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(_Loss):
    """Binary cross entropy between probabilities and targets in [0, 1] of the same shape.

    `weight` broadcasts over the elements. From logits, BCEWithLogitsLoss is the accurate one.
    """

    def __init__(self, weight: Tensor | None = None, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input`: probabilities; `target`: probabilities of the same shape."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


@LOSSES.register(tasks=("binary", "multilabel"))
class BCEWithLogitsLoss(_Loss):
    """Binary cross entropy between logits and targets in [0, 1] of the same shape.

    `weight` broadcasts over the elements; `pos_weight` multiplies the part of the loss where the target is 1.
    """

    def __init__(
        self, weight: Tensor | None = None, reduction: Reduction = "mean", pos_weight: Tensor | None = None
    ) -> None:
        super().__init__(reduction)
        self.weight: Tensor | None
        self.pos_weight: Tensor | None
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input`: logits; `target`: probabilities of the same shape."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


@LOSSES.register(tasks=("regression",))
class MSELoss(_Loss):
    """Squared difference of input and target, which have the same shape.

    >>> torch.nn.MSELoss()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape: a difference in shape is an error, never a broadcast."""
        return F.mse_loss(input, target, reduction=self.reduction)


@LOSSES.register(tasks=("regression",))
class L1Loss(_Loss):
    """Absolute difference of input and target, which have the same shape."""

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape."""
        return F.l1_loss(input, target, reduction=self.reduction)


@LOSSES.register(tasks=("regression",))
class SmoothL1Loss(_Loss):
    """Squared difference over `2 * beta` where it is below `beta`, else absolute difference minus `beta / 2`."""

    def __init__(self, reduction: Reduction = "mean", beta: NonNegativeFloat = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape."""
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


@LOSSES.register(tasks=("regression",))
class HuberLoss(_Loss):
    """Half the squared difference where it is below `delta`, else `delta` times (difference minus `delta / 2`)."""

    def __init__(self, reduction: Reduction = "mean", delta: PositiveFloat = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape."""
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of target probabilities from log-probabilities, which have the same shape.

    With `log_target` the target holds log-probabilities too. "mean" divides by the number of elements;
    "batchmean", by the first dimension, is the mathematical divergence.
    """

    def __init__(
        self, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean", log_target: bool = False
    ) -> None:
        super().__init__("mean" if reduction == "batchmean" else reduction)
        self.reduction = reduction
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input`: log-probabilities; `target`: probabilities of the same shape."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class GaussianNLLLoss(_Loss):
    """`(log(var) + (input - target) ** 2 / var) / 2`: for networks that predict a mean and a variance.

    `full` adds the constant `log(2 * pi) / 2`; variances smaller than `eps` count as `eps`.
    """

    def __init__(self, *, full: bool = False, eps: PositiveFloat = 1e-6, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.full = full
        self.eps = eps

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        """`input`: means; `target`: of the same shape; `var`: variances, of that shape or one per row."""
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class PoissonNLLLoss(_Loss):
    """`exp(input) - target * input`: for networks that predict the logarithm of the mean of a count.

    With `log_input=False` they predict the mean, and the loss is `input - target * log(input + eps)`. `full` adds
    Stirling's approximation of `log(target!)`.
    """

    def __init__(
        self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input`: logarithms of means, or means; `target`: counts of the same shape."""
        return F.poisson_nll_loss(
            input, target, log_input=self.log_input, full=self.full, eps=self.eps, reduction=self.reduction
        )
