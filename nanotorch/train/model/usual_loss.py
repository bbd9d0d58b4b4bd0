"""The loss of a config that names none."""

from __future__ import annotations

from collections.abc import Sequence

import nanotorch as torch
import nanotorch.nn.functional as F
from nanotorch import Tensor, nn
from nanotorch.registry import LOSSES
from nanotorch.train.data.table import Task

USUAL = {
    "multiclass": "CrossEntropyLoss",
    "binary": "BCEWithLogitsLoss",
    "regression": "MSELoss",
    "multilabel": "BCEWithLogitsLoss",
    "multioutput": "auto",
}


@LOSSES.register("auto", tasks=tuple(USUAL))
def usual_loss(
    task: Task = "regression", reduction: str = "mean", sizes: Sequence[int] = (), **weights: Tensor
) -> nn.Module:
    """The usual loss of the task: CrossEntropyLoss, BCEWithLogitsLoss for two classes, MSELoss for numbers; the mean of
    the first two for several targets of classes, which have so many outputs each.
    """
    if task == "multioutput":
        return LossOfTargets(sizes, reduction)
    made: nn.Module = LOSSES.get(USUAL[task])(**weights, reduction=reduction)
    return made


class LossOfTargets(nn.Module):
    """The mean over several targets of classes of the loss of each (Note [Several targets of classes] in
    class_targets.py): binary cross entropy of one logit, cross entropy of more, (rows, outputs) to a number, or with
    the reduction "none" to (rows, targets).

    >>> loss = LossOfTargets([1, 3])
    >>> loss(torch.zeros(2, 4), torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]]))
    tensor(0.8959)
    """

    def __init__(self, sizes: Sequence[int], reduction: str = "mean") -> None:
        super().__init__()
        self.sizes, self.reduction = list(sizes), reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input`: logits; `target`: the truth in 0 and 1, of the same shape."""
        pieces = zip(self.sizes, input.split(self.sizes, -1), target.split(self.sizes, -1), strict=True)
        each = torch.cat(
            [
                F.binary_cross_entropy_with_logits(said, truth, reduction="none")
                if size == 1
                else F.cross_entropy(said, truth, reduction="none").unsqueeze(-1)
                for size, said, truth in pieces
            ],
            -1,
        )
        return each if self.reduction == "none" else each.sum() if self.reduction == "sum" else each.mean()

    def extra_repr(self) -> str:
        """How many outputs each target has."""
        return f"{self.sizes}"
