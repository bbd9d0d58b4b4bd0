"""The loss of a config that names none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from nanotorch import Tensor, nn
from nanotorch.registry import LOSSES

USUAL: dict[str, Callable[..., nn.Module]] = {
    "multiclass": nn.CrossEntropyLoss,
    "binary": nn.BCEWithLogitsLoss,
    "regression": nn.MSELoss,
}


@LOSSES.register("auto", tasks=tuple(USUAL))
def usual_loss(
    task: Literal["multiclass", "binary", "regression"] = "regression", reduction: str = "mean", **weights: Tensor
) -> nn.Module:
    """The usual loss of the task: CrossEntropyLoss, BCEWithLogitsLoss for two classes, MSELoss for numbers."""
    arguments: dict[str, Any] = weights
    return USUAL[task](**arguments, reduction=reduction)
