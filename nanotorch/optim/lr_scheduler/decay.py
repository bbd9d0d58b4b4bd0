"""Schedules that take the rate from where it begins to where it ends, once."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Annotated, Any

from nanotorch.optim.lr_scheduler.scheduler import LRScheduler
from nanotorch.optim.optimizer import Optimizer
from nanotorch.registry import SCHEDULERS, Between, NonNegativeFloat, NonNegativeInt, PositiveInt

UnitInterval = Annotated[float, Between(0, 1)]
StartFactor = Annotated[float, Between(0, 1, low_open=True)]


@SCHEDULERS.register
class StepLR(LRScheduler):
    """Multiplies the rate by `gamma` every `step_size` epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: PositiveInt, gamma: NonNegativeFloat = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates, times `gamma` at a multiple of `step_size`."""
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._current()
        return self._scaled(self.gamma)

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * self.gamma ** (self.last_epoch // self.step_size) for base_lr in self.base_lrs]


@SCHEDULERS.register
class MultiStepLR(LRScheduler):
    """Multiplies the rate by `gamma` at each epoch in `milestones` (twice where an epoch is listed twice)."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: list[NonNegativeInt],
        gamma: NonNegativeFloat = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates, times `gamma` at a milestone."""
        return self._scaled(self.gamma ** self.milestones.count(self.last_epoch))

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * self.gamma ** bisect_right(self.milestones, self.last_epoch) for base_lr in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict()` returned; milestones may be counted in a mapping, as PyTorch saves them."""
        super().load_state_dict(state_dict)
        if isinstance(self.milestones, Mapping):
            self.milestones = sorted(epoch for epoch, times in self.milestones.items() for _ in range(times))


@SCHEDULERS.register
class ConstantLR(LRScheduler):
    """Holds the rate at `factor` times its base until epoch `total_iters`, then returns to the base."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: UnitInterval = 1.0 / 3,
        total_iters: NonNegativeInt = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: factor must be between 0 and 1, got {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates, times `factor` at epoch 0 and divided by it at `total_iters`."""
        if self.last_epoch == 0:
            return self._scaled(self.factor)
        if self.last_epoch == self.total_iters:
            return self._scaled(1.0 / self.factor)
        return self._current()

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * (self.factor if self.last_epoch < self.total_iters else 1.0) for base_lr in self.base_lrs]


@SCHEDULERS.register
class LinearLR(LRScheduler):
    """Moves the rate linearly from `start_factor` to `end_factor` times its base in `total_iters` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: StartFactor = 1.0 / 3,
        end_factor: UnitInterval = 1.0,
        total_iters: PositiveInt = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must be above 0 and at most 1, got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must be between 0 and 1, got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates, times the ratio of this epoch's factor to the last epoch's."""
        if self.last_epoch == 0:
            return self._scaled(self.start_factor)
        if self._starting() or self.last_epoch > self.total_iters:
            return self._current()
        slope = self.end_factor - self.start_factor
        return self._scaled(1.0 + slope / (self.total_iters * self.start_factor + (self.last_epoch - 1) * slope))

    def _get_closed_form_lr(self) -> list[float]:
        share = min(self.total_iters, self.last_epoch) / self.total_iters
        return [
            base_lr * (self.start_factor + (self.end_factor - self.start_factor) * share) for base_lr in self.base_lrs
        ]


@SCHEDULERS.register
class ExponentialLR(LRScheduler):
    """Multiplies the rate by `gamma` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: NonNegativeFloat, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates times `gamma`."""
        return self._current() if self._starting() else self._scaled(self.gamma)

    def _get_closed_form_lr(self) -> list[float]:
        return [base_lr * self.gamma**self.last_epoch for base_lr in self.base_lrs]


@SCHEDULERS.register(length="T_max")
class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the base rate down to `eta_min` in `T_max` epochs, and back up after.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017), without the restarts.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: PositiveInt, eta_min: NonNegativeFloat = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates, moved by the ratio of this epoch's cosine to the last epoch's."""
        if self._starting():
            return self._current()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The last epoch was at the minimum, where the ratio is 0 / 0.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                rate + (base_lr - self.eta_min) * rise
                for rate, base_lr in zip(self._current(), self.base_lrs, strict=True)
            ]
        now, before = (1 + math.cos(math.pi * epoch / self.T_max) for epoch in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (rate - self.eta_min) + self.eta_min for rate in self._current()]

    def _get_closed_form_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base_lr - self.eta_min) * height for base_lr in self.base_lrs]


@SCHEDULERS.register
class PolynomialLR(LRScheduler):
    """Takes the rate to 0 in `total_iters` epochs, as `(1 - epoch / total_iters) ** power`."""

    def __init__(
        self, optimizer: Optimizer, total_iters: PositiveInt = 5, power: NonNegativeFloat = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the present rates, times the ratio of this epoch's share to the last epoch's."""
        if self._starting() or self.last_epoch > self.total_iters:
            return self._current()
        left, before = (1.0 - epoch / self.total_iters for epoch in (self.last_epoch, self.last_epoch - 1))
        return self._scaled((left / before) ** self.power)

    def _get_closed_form_lr(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base_lr * left**self.power for base_lr in self.base_lrs]
