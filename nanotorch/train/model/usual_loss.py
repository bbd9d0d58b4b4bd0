"""The loss of a config that names none."""

from __future__ import annotations

from typing import Literal

from nanotorch import Tensor, nn
from nanotorch.registry import LOSSES

USUAL = {"multiclass": "CrossEntropyLoss", "binary": "BCEWithLogitsLoss", "regression": "MSELoss"}


@LOSSES.register("auto", tasks=tuple(USUAL))
def usual_loss(
    task: Literal["multiclass", "binary", "regression"] = "regression", reduction: str = "mean", **weights: Tensor
) -> nn.Module:
    """The usual loss of the task: CrossEntropyLoss, BCEWithLogitsLoss for two classes, MSELoss for numbers."""
    made: nn.Module = LOSSES.get(USUAL[task])(**weights, reduction=reduction)
    return made
