"""The schedule that looks at a metric."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal, SupportsFloat

from nanotorch.optim.lr_scheduler.scheduler import LRScheduler, copied_rates, per_group, warn_of_epoch, write_option
from nanotorch.optim.optimizer import Optimizer, number_of
from nanotorch.registry import SCHEDULERS, Between, NonNegativeFloat, NonNegativeInt


@SCHEDULERS.register
class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by `factor` when a metric has not improved for more than `patience` epochs.

    Give the metric to `step(metrics)`. An improvement has to exceed `threshold`, as a share of the best value
    (`threshold_mode="rel"`) or as such ("abs"); `cooldown` epochs after a reduction are not judged; no rate goes
    below `min_lr`, and a change smaller than `eps` is not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: Annotated[float, Between(0, 1, high_open=True)] = 0.1,
        patience: NonNegativeInt = 10,
        threshold: NonNegativeFloat = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: NonNegativeInt = 0,
        min_lr: NonNegativeFloat | list[NonNegativeFloat] = 0.0,
        eps: NonNegativeFloat = 1e-8,
    ) -> None:
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = per_group(optimizer, "min_lr", min_lr)
        self.default_min_lr = None if isinstance(min_lr, Iterable) else min_lr
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch: int = 0
        self._last_lr = copied_rates(optimizer)

    @property
    def in_cooldown(self) -> bool:
        """Whether the rates were reduced so lately that epochs are not judged."""
        return self.cooldown_counter > 0

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        """Judge the epoch by `metrics` (a number or a one-element tensor) and reduce the rates if it is time."""
        value = float(metrics)
        if epoch is not None:
            warn_of_epoch(epoch)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._improves(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = copied_rates(self.optimizer)

    def _improves(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bar = self.best * (1 + sign * self.threshold)
        else:
            bar = self.best + sign * self.threshold
        return sign * value > sign * bar

    def _reduce(self) -> None:
        if len(self.min_lrs) != len(self.optimizer.param_groups):  # groups were added
            self.min_lrs = per_group(
                self.optimizer, "min_lr", self.min_lrs if self.default_min_lr is None else self.default_min_lr
            )
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            present = number_of(group["lr"])
            reduced = max(present * self.factor, lowest)
            if present - reduced > self.eps:
                write_option(group, "lr", reduced)
