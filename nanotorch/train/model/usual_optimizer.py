"""The optimizer of a config that names none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nanotorch.optim import AdamW
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat


@OPTIMIZERS.register("auto")
def usual_optimizer(params: Iterable[Any], lr: NonNegativeFloat = 3e-3, weight_decay: NonNegativeFloat = 1e-2) -> AdamW:
    """AdamW with a rate at which a network learns a table in as many steps as `train.epochs: auto` takes."""
    return AdamW(params, lr=lr, weight_decay=weight_decay)
